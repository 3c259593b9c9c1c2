"""Ways to reduce buckets of gradients, for `DistributedDataParallel.register_comm_hook`.

They are `torch.distributed.algorithms.ddp_comm_hooks.default_hooks`, by the same names. A hook's
state is the group, None for the default one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flambeau
from flambeau import Tensor
from flambeau.distributed.ddp import GradBucket, settled
from flambeau.distributed.groups import group_of
from flambeau.ops import collective as rows

Hook = Callable[[Any, GradBucket], Any]


def allreduce_hook(process_group: Any, bucket: GradBucket) -> Tensor:
    """The mean over ranks: what is done without a hook."""
    group = group_of(process_group)
    return rows.all_reduce(bucket.buffer() / group.size(), group)


def _compressed(process_group: Any, bucket: GradBucket, dtype: Any) -> Tensor:
    """The mean over ranks, sent in another dtype; divided first, so that it does not overflow."""
    group, flat = group_of(process_group), bucket.buffer()
    return rows.all_reduce((flat / group.size()).to(dtype), group).to(flat.dtype)


def fp16_compress_hook(process_group: Any, bucket: GradBucket) -> Tensor:
    """The mean over ranks, sent in float16: half the bytes."""
    return _compressed(process_group, bucket, flambeau.float16)


def bf16_compress_hook(process_group: Any, bucket: GradBucket) -> Tensor:
    """The mean over ranks, sent in bfloat16: half the bytes, and the range of float32."""
    return _compressed(process_group, bucket, flambeau.bfloat16)


def _wrapped(hook: Hook, dtype: Any) -> Hook:
    def compressed(state: Any, bucket: GradBucket) -> Tensor:
        kept = bucket.buffer().dtype
        bucket.set_buffer(bucket.buffer().to(dtype))
        return settled(hook(state, bucket)).to(kept)

    return compressed


def fp16_compress_wrapper(hook: Hook) -> Hook:
    """Another hook, given buckets in float16."""
    return _wrapped(hook, flambeau.float16)


def bf16_compress_wrapper(hook: Hook) -> Hook:
    """Another hook, given buckets in bfloat16."""
    return _wrapped(hook, flambeau.bfloat16)


__all__ = [
    "allreduce_hook",
    "bf16_compress_hook",
    "bf16_compress_wrapper",
    "fp16_compress_hook",
    "fp16_compress_wrapper",
]
