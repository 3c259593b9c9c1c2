"""Checkpoints of programs of several ranks: saved in parallel, atomically, and resharded on load.

Names are torch's (`torch.distributed.checkpoint`); the files are safetensors with an index, see
Note [Checkpoints] in `format`.
"""

from flambeau.distributed.checkpoint import format_utils, state_dict
from flambeau.distributed.checkpoint.format import CheckpointException, Metadata
from flambeau.distributed.checkpoint.saving import (
    DefaultLoadPlanner,
    DefaultSavePlanner,
    FileSystemReader,
    FileSystemWriter,
    async_save,
    load,
    read,
    save,
)

__all__ = [
    "CheckpointException",
    "DefaultLoadPlanner",
    "DefaultSavePlanner",
    "FileSystemReader",
    "FileSystemWriter",
    "Metadata",
    "async_save",
    "format_utils",
    "load",
    "read",
    "save",
    "state_dict",
]
