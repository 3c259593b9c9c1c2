"""The commands of the ``flambeau`` program, one module each with a ``main(argv) -> exit code``."""
