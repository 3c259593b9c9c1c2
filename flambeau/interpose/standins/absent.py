"""Functions and classes that programs import but that are not there: using one raises.

A library imports more of torch than one run of it needs: the parts for several processes, for
accelerators, for tools. What such modules are asked for stands in :data:`ABSENT`, so that the
imports succeed, ``isinstance`` and annotations work, and a use says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

ABSENT: dict[str, str] = {
    "torch": "Event PyTorchFileReader PyTorchFileWriter Stream",
    "torch._C": "Graph Value",
    "torch._dynamo._trace_wrapped_higher_order_op": "TransformGetItemToIndex",
    "torch._subclasses": "FakeTensor FakeTensorMode",
    "torch._subclasses.fake_tensor": "FakeTensor FakeTensorMode",
    "torch.ao.quantization": (
        "DeQuantStub QConfig QuantStub convert default_observer default_weight_observer "
        "default_per_channel_weight_observer fuse_modules fuse_modules_qat prepare prepare_qat"
    ),
    "torch.cuda": "Event ExternalStream Stream StreamContext CUDAGraph graph default_generators",
    "torch.distributed.checkpoint._consolidate_hf_safetensors": "consolidate_safetensors_files",
    "torch.distributed.checkpoint.hf_storage": "HuggingFaceStorageReader HuggingFaceStorageWriter",
    "torch.distributed.fsdp": (
        "CPUOffload FullyShardedDataParallel MixedPrecision ShardingStrategy StateDictType"
    ),
    "torch.distributed.fsdp.fully_sharded_data_parallel": (
        "CPUOffload FullyShardedDataParallel MixedPrecision ShardingStrategy StateDictType"
    ),
    "torch.distributed.tensor._utils": "compute_local_shape_and_global_offset",
    "torch.fx.graph_module": "_CodeOnlyModule",
    "torch.nn.quantized": "FloatFunctional",
    "torch.utils.data.graph_settings": "apply_random_seed",
}
"""Torch module -> names of its classes (with a capital) and functions that are refused on use."""


def absent(path: str) -> Any:
    """The class or function that refuses, if the table has one of this name; else None.

    Args:
        path: its name in torch, such as ``torch.distributed.barrier``.
    """
    module, _, name = path.rpartition(".")
    if name not in ABSENT.get(module, "").split():
        return None
    return absent_class(path) if name.lstrip("_")[0].isupper() else absent_function(path)


def absent_function(path: str) -> Callable[..., NoReturn]:
    """A function that raises NotImplementedError with its full name.

    Args:
        path: its name in torch, such as ``torch.distributed.barrier``.
    """

    def function(*args: Any, **options: Any) -> NoReturn:
        raise NotImplementedError(f"{path} is not in flambeau yet")

    function.__name__ = path.rpartition(".")[2]
    function.__qualname__ = function.__name__
    return function


def absent_class(path: str) -> type:
    """A class without instances: isinstance() and annotations work, making one raises.

    Args:
        path: its name in torch, such as ``torch.fx.GraphModule``.
    """

    def refuse(cls: type, *args: Any, **options: Any) -> NoReturn:
        raise NotImplementedError(f"{path} is not in flambeau yet")

    return type(path.rpartition(".")[2], (), {"__new__": refuse, "__doc__": f"Not there: {path}."})
