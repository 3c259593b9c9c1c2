"""Functions and classes that programs import but that are not there: using one raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn


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
        path: its name in torch, such as ``torch.nn.parallel.DistributedDataParallel``.
    """

    def refuse(cls: type, *args: Any, **options: Any) -> NoReturn:
        raise NotImplementedError(f"{path} is not in flambeau yet")

    return type(path.rpartition(".")[2], (), {"__new__": refuse, "__doc__": f"Not there: {path}."})
