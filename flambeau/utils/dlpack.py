"""DLPack by the name torch's programs import it under."""

from flambeau.dlpack import from_dlpack, to_dlpack

__all__ = ["from_dlpack", "to_dlpack"]
