"""``torch.distributed``, not available: what single-process programs ask it."""

from __future__ import annotations


def is_available() -> bool:
    """False."""
    return False


def is_initialized() -> bool:
    """False."""
    return False


def is_torchelastic_launched() -> bool:
    """False."""
    return False


is_mpi_available = is_nccl_available = is_gloo_available = is_available
