"""Automatic differentiation: backward, grad, modes, functions, checks."""

from flambeau.autograd.backward import backward, grad

__all__ = ["backward", "grad"]
