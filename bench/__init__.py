"""Benchmarks: flambeau beside PyTorch and JAX, interleaved in one run (`python -m bench`)."""
