"""``torch.distributed``, not available: the names that single-process programs import."""

from __future__ import annotations

from flambeau.interpose.standins.absent import absent_class, absent_function


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

init_process_group = absent_function("torch.distributed.init_process_group")
destroy_process_group = absent_function("torch.distributed.destroy_process_group")
get_rank = absent_function("torch.distributed.get_rank")
get_world_size = absent_function("torch.distributed.get_world_size")
barrier = absent_function("torch.distributed.barrier")
all_reduce = absent_function("torch.distributed.all_reduce")
all_gather = absent_function("torch.distributed.all_gather")
all_gather_into_tensor = absent_function("torch.distributed.all_gather_into_tensor")
all_to_all_single = absent_function("torch.distributed.all_to_all_single")
broadcast = absent_function("torch.distributed.broadcast")
reduce_scatter_tensor = absent_function("torch.distributed.reduce_scatter_tensor")
new_group = absent_function("torch.distributed.new_group")
ProcessGroup = absent_class("torch.distributed.ProcessGroup")
