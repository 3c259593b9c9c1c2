"""torch's `utils`: data, checkpointing, DLPack."""

from flambeau.utils import data, dlpack

__all__ = ["data", "dlpack"]
