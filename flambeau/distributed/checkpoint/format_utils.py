"""Checkpoints to and from plain files of `torch.save`."""

from __future__ import annotations

import os
from typing import Any

from flambeau import serialization
from flambeau.distributed.checkpoint.saving import read, save

PathLike = str | os.PathLike[str]


def dcp_to_torch_save(dcp_checkpoint_dir: PathLike, torch_save_path: PathLike) -> None:
    """Write a checkpoint as one file that `torch.load` reads.

    Args:
        dcp_checkpoint_dir: the checkpoint's folder.
        torch_save_path: the file to write.
    """
    serialization.save(read(dcp_checkpoint_dir), torch_save_path)


def torch_save_to_dcp(torch_save_path: PathLike, dcp_checkpoint_dir: PathLike) -> None:
    """Write a file of `torch.save` as a checkpoint.

    Args:
        torch_save_path: a file with a state dict.
        dcp_checkpoint_dir: the folder to write to.
    """
    state_dict: Any = serialization.load(torch_save_path)
    save(state_dict, checkpoint_id=dcp_checkpoint_dir, no_dist=True)
