"""Names of ``torch`` itself that flambeau has in another form."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import flambeau
from flambeau.interpose.standins.futures import Future as Future
from flambeau.interpose.standins.jit import ScriptModule as ScriptModule
from flambeau.interpose.standins.version import TorchVersion
from flambeau.interpose.standins.version import __version__ as _version
from flambeau.ir.symbol import SymFloat as SymFloat
from flambeau.ir.symbol import SymInt as SymInt
from flambeau.library import ops as ops

__version__ = TorchVersion(_version)


def compile(model: Any = None, **options: Any) -> Any:
    """``torch.compile``: what it is given, since every program is compiled as it runs."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    return decorate if model is None else model


def set_float32_matmul_precision(precision: str) -> None:
    """``"highest"``, ``"high"`` or ``"medium"``; products of float32 are always exact here."""
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(f"precision must be highest, high or medium, got {precision!r}")


def get_float32_matmul_precision() -> str:
    """Always ``"highest"``."""
    return "highest"


def _assert(condition: Any, message: str) -> None:
    """As the statement."""
    assert condition, message


def _check(cond: bool, message: Callable[[], str] | None = None) -> None:
    """Raise RuntimeError unless a condition holds."""
    _check_with(RuntimeError, cond, message)


def _check_index(cond: bool, message: Callable[[], str] | None = None) -> None:
    """Raise IndexError unless a condition holds."""
    _check_with(IndexError, cond, message)


def _check_type(cond: bool, message: Callable[[], str] | None = None) -> None:
    """Raise TypeError unless a condition holds."""
    _check_with(TypeError, cond, message)


def _check_value(cond: bool, message: Callable[[], str] | None = None) -> None:
    """Raise ValueError unless a condition holds."""
    _check_with(ValueError, cond, message)


def _check_with(
    error_type: type[Exception], cond: Any, message: Callable[[], str] | None = None
) -> None:
    """Raise an error unless a condition holds."""
    if not cond:
        raise error_type("Expected cond to be True" if message is None else message())


def _check_tensor_all(cond: Any, message: Callable[[], str] | None = None) -> None:
    """Raise RuntimeError unless all elements of a tensor of bools hold."""
    _check_with(RuntimeError, cond.all(), message)


def _check_tensor_all_with(
    error_type: type[Exception], cond: Any, message: Callable[[], str] | None = None
) -> None:
    """Raise an error unless all elements of a tensor of bools hold."""
    _check_with(error_type, cond.all(), message)


def _check_is_size(i: int, message: Callable[[], str] | None = None, *, max: Any = None) -> None:
    """Raise RuntimeError unless a number may be a size."""
    _check_with(RuntimeError, i >= 0 and (max is None or i <= max), message)


def get_device_module(device: Any = None) -> Any:
    """The module of a device type, such as ``torch.cpu``."""
    kind = flambeau.device("cpu" if device is None else device).type
    return importlib.import_module(f"torch.{kind}")


SymBool = bool
has_lapack = has_mkl = has_openmp = has_spectral = True
"""What a build of PyTorch may lack; linear algebra, threads and FFT are there."""


def get_device(input: flambeau.Tensor) -> int:
    """The number of a tensor's device; -1 for the CPU."""
    return input.get_device()


def embedding(
    weight: flambeau.Tensor,
    indices: flambeau.Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> flambeau.Tensor:
    """`nn.functional.embedding` with the table in front, and -1 for no padding."""
    found: flambeau.Tensor = flambeau.nn.functional.embedding(
        indices,
        weight,
        None if padding_idx < 0 else padding_idx,
        scale_grad_by_freq=scale_grad_by_freq,
        sparse=sparse,
    )
    return found


def instance_norm(
    input: flambeau.Tensor,
    weight: flambeau.Tensor | None,
    bias: flambeau.Tensor | None,
    running_mean: flambeau.Tensor | None,
    running_var: flambeau.Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> flambeau.Tensor:
    """`nn.functional.instance_norm` with its parameters in another order."""
    found: flambeau.Tensor = flambeau.nn.functional.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )
    return found


def smm(input: flambeau.Tensor, mat: flambeau.Tensor) -> flambeau.Tensor:
    """The product of a sparse and a dense matrix."""
    found: flambeau.Tensor = flambeau.sparse.mm(input, mat)
    return found


spmm = dsmm = smm


def sym_int(a: Any) -> Any:
    """A number without its fraction, as an int."""
    return math.trunc(a)


def sym_float(a: Any) -> Any:
    """A number as a float."""
    return a if isinstance(a, float) else float(a)


def sym_not(a: Any) -> bool:
    """The negation."""
    return not a


def sym_max(a: Any, b: Any) -> Any:
    """The larger of two sizes."""
    return max(a, b)


def sym_min(a: Any, b: Any) -> Any:
    """The smaller of two sizes."""
    return min(a, b)


def sym_sum(args: Any) -> Any:
    """The sum of sizes."""
    return sum(args)


def sym_ite(b: Any, t: Any, f: Any) -> Any:
    """One of two values, by a condition."""
    return t if b else f
