"""torch's older forms: `FloatTensor` and its like, `Tensor.new`, and what tensors always answer."""

from __future__ import annotations

from typing import Any

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.dtype import get_default_dtype, set_default_dtype
from flambeau.ops.rows import NAMES
from flambeau.tensor import Tensor, legacy_constructor


class _TypedMeta(type(Tensor)):  # type: ignore[misc]
    """`isinstance(t, FloatTensor)` asks for the dtype."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls._legacy_dtype


def _typed(name: str, dtype: DType) -> Any:
    doc = f"A tensor of {dtype.name}: `{name}(2, 3)`, `{name}([1, 2])`."
    return _TypedMeta(
        name,
        (Tensor,),
        {"_legacy_dtype": dtype, "__doc__": doc, "__module__": "flambeau", "dtype": dtype},
    )


FloatTensor = _typed("FloatTensor", dtypes.float32)
DoubleTensor = _typed("DoubleTensor", dtypes.float64)
HalfTensor = _typed("HalfTensor", dtypes.float16)
BFloat16Tensor = _typed("BFloat16Tensor", dtypes.bfloat16)
LongTensor = _typed("LongTensor", dtypes.int64)
IntTensor = _typed("IntTensor", dtypes.int32)
ShortTensor = _typed("ShortTensor", dtypes.int16)
CharTensor = _typed("CharTensor", dtypes.int8)
ByteTensor = _typed("ByteTensor", dtypes.uint8)
BoolTensor = _typed("BoolTensor", dtypes.bool)

TYPES = (
    FloatTensor,
    DoubleTensor,
    HalfTensor,
    BFloat16Tensor,
    LongTensor,
    IntTensor,
    ShortTensor,
    CharTensor,
    ByteTensor,
    BoolTensor,
)


def set_default_tensor_type(t: Any) -> None:
    """Set the default dtype by a typed class or its name ("torch.DoubleTensor").

    Raises:
        TypeError: not a floating-point type.
    """
    if isinstance(t, str):
        name = t.rpartition(".")[2]
        t = next((kind for kind in TYPES if kind.__name__ == name), None)
    dtype = getattr(t, "_legacy_dtype", None) or (get_default_dtype() if t is Tensor else None)
    if dtype is None:
        raise TypeError(
            "invalid type object: only floating-point types are supported as the default type"
        )
    set_default_dtype(dtype)


def _new(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor(...)` with this tensor's dtype."""
    kind = next(kind for kind in TYPES if kind._legacy_dtype is self.dtype)
    return legacy_constructor(kind, *args, **kwargs)


def _itself(self: Tensor, *args: Any) -> Tensor:
    """The tensor itself: nothing is conjugated, negated or pinned lazily."""
    return self


def _never(self: Tensor, *args: Any) -> bool:
    """False."""
    return False


def _cuda(
    self: Tensor, device: Any = None, non_blocking: bool = False, memory_format: Any = None
) -> Tensor:
    """The tensor on an NVIDIA GPU."""
    return self.to("cuda" if device is None else device)


def _reversed(self: Tensor) -> Tensor:
    """The tensor with its first dimension (all of a 0-d one) backwards."""
    return NAMES["flip"](self, (0,)) if self.ndim else self


def _detach(input: Tensor) -> Tensor:
    """The same memory, cut off from the tape."""
    return input.detach()


def _detach_(input: Tensor) -> Tensor:
    """Cut a tensor off from the tape in place."""
    return input.detach_()


def _is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether both show the same memory with the same shape and strides."""
    return (
        self._cell is tensor._cell
        and self._shape == tensor._shape
        and self._strides == tensor._strides
        and self.storage_offset() == tensor.storage_offset()
    )


for _names, _method in (
    (("new",), _new),
    (("cuda",), _cuda),
    (("__reversed__",), _reversed),
    (("pin_memory", "resolve_conj", "resolve_neg"), _itself),
    (("is_pinned", "is_conj", "is_neg", "_is_zerotensor", "is_distributed"), _never),
    (("is_set_to",), _is_set_to),
):
    for _name in _names:
        setattr(Tensor, _name, _method)
for _name in ("is_xla", "is_ipu", "is_mtia", "is_sparse_csr"):
    setattr(Tensor, _name, False)

NAMES.update(detach=_detach, detach_=_detach_)
for _name, _function in (
    ("resolve_conj", _itself),
    ("resolve_neg", _itself),
    ("is_conj", _never),
    ("is_neg", _never),
):
    NAMES.setdefault(_name, _function)
