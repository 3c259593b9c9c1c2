"""Datasets, samplers and loaders by the name torch's programs import them under."""

from flambeau.data import *  # noqa: F403
from flambeau.data import __all__ as __all__
