"""torch's `utils`: data, checkpointing, DLPack."""

from flambeau.utils import checkpoint, data, dlpack

__all__ = ["checkpoint", "data", "dlpack"]
