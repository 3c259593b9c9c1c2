"""A torch package that has submodules and no names of its own."""
