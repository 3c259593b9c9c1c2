"""torch's `torch.distributed.tensor.experimental`: sequences in parts, and functions of parts."""

from flambeau.distributed.tensor.api import implicit_replication
from flambeau.distributed.tensor.experimental._attention import context_parallel
from flambeau.distributed.tensor.experimental._func_map import local_map
from flambeau.distributed.tensor.experimental._register_sharding import register_sharding

__all__ = ["context_parallel", "implicit_replication", "local_map", "register_sharding"]
