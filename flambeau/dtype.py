"""Data types: torch's names, what NumPy calls them, and torch's promotion lattice."""

from __future__ import annotations

import builtins as _b
from typing import Any

import ml_dtypes
import numpy as np

#: What the names are prefixed with when printed; `flambeau run` sets it to "torch".
prefix = ["flambeau"]

BOOL, INTEGRAL, FLOATING = 0, 1, 2

# this module gives torch's meaning to the names int, float and bool
_Int, _Float, _Bool = _b.int, _b.float, _b.bool


class dtype:
    """A tensor's element type. Instances are unique, so `is` compares them.

    Attributes:
        name: torch's name without prefix, e.g. `"float32"`.
        itemsize: bytes of one element.
        numpy: the NumPy dtype with the same bits (ml_dtypes' for bfloat16).
        category: 0 bool, 1 integral, 2 floating; promotion never lowers it.
        is_floating_point, is_complex, is_signed: as in torch.
    """

    __slots__ = (
        "name",
        "itemsize",
        "numpy",
        "category",
        "is_floating_point",
        "is_complex",
        "is_signed",
        "__weakref__",
    )

    def __init__(self, name: str, numpy: Any, category: _b.int, is_signed: _b.bool = True) -> None:
        self.name = name
        self.numpy = np.dtype(numpy)
        self.itemsize: _b.int = self.numpy.itemsize
        self.category = category
        self.is_floating_point = category == FLOATING
        self.is_complex = False
        self.is_signed = is_signed

    def __repr__(self) -> str:
        return f"{prefix[0]}.{self.name}"

    def __reduce__(self) -> str:
        return self.name

    def to_complex(self) -> dtype:
        """The complex dtype of this precision; there is none yet."""
        raise NotImplementedError("complex dtypes are not in flambeau yet")


float64 = dtype("float64", np.float64, FLOATING)
float32 = dtype("float32", np.float32, FLOATING)
float16 = dtype("float16", np.float16, FLOATING)
bfloat16 = dtype("bfloat16", ml_dtypes.bfloat16, FLOATING)
int64 = dtype("int64", np.int64, INTEGRAL)
int32 = dtype("int32", np.int32, INTEGRAL)
int16 = dtype("int16", np.int16, INTEGRAL)
int8 = dtype("int8", np.int8, INTEGRAL)
uint8 = dtype("uint8", np.uint8, INTEGRAL, is_signed=False)
bool = dtype("bool", np.bool_, BOOL, is_signed=False)

double, float, half = float64, float32, float16
long, int, short = int64, int32, int16

ALL = (float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool)
BY_NAME = {d.name: d for d in ALL}
_FROM_NUMPY = {d.numpy: d for d in ALL}
_default = [float32]


def from_numpy(numpy_dtype: Any) -> dtype:
    """The dtype with the same bits as a NumPy dtype; TypeError where there is none."""
    found = _FROM_NUMPY.get(np.dtype(numpy_dtype))
    if found is None:
        raise TypeError(
            f"can't convert np.ndarray of type {np.dtype(numpy_dtype)}. The only supported types "
            f"are: {', '.join(d.name for d in ALL)}."
        )
    return found


def get_default_dtype() -> dtype:
    """The dtype of tensors made from Python floats (float32 unless set)."""
    return _default[0]


def set_default_dtype(d: dtype) -> None:
    """Set the dtype of tensors made from Python floats; a floating-point dtype."""
    if not isinstance(d, dtype) or not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {d}")
    _default[0] = d
    _RESULT.clear()


_RANK = {
    bool: 0,
    uint8: 1,
    int8: 1,
    int16: 2,
    int32: 3,
    int64: 4,
    float16: 5,
    bfloat16: 5,
    float32: 6,
    float64: 7,
}
_PROMOTED: dict[tuple[dtype, dtype], dtype] = {}
_RESULT: dict[Any, dtype] = {}


def promote_types(a: dtype, b: dtype) -> dtype:
    """The smallest dtype that both fit in by torch's table (uint8 + int8 = int16, half types meet
    in float32, an integer takes the other's floating type)."""
    if a is b:
        return a
    found = _PROMOTED.get((a, b))
    if found is None:
        for position, given in enumerate((a, b), 1):
            if not isinstance(given, dtype):
                raise TypeError(
                    f"promote_types(): argument 'type{position}' (position {position}) must be "
                    f"flambeau.dtype, not {type(given).__name__}"
                )
        ra, rb = _RANK[a], _RANK[b]
        found = (a if ra > rb else b) if ra != rb else (float32 if ra == 5 else int16)
        _PROMOTED[a, b] = found
    return found


def scalar_dtype(value: Any) -> dtype:
    """The dtype a Python number stands for: bool, int64 or the default float."""
    if value is True or value is False or isinstance(value, np.bool_):
        return bool
    if isinstance(value, (_Int, np.integer)):
        return int64
    return _default[0]


def result_type(participants: tuple[tuple[dtype, _b.int], ...]) -> dtype:
    """torch's promotion over (dtype, priority) pairs.

    Priority 2 is a tensor with dimensions, 1 a 0-d tensor, 0 a Python number. A lower priority
    only counts when its category is higher than every higher priority's.
    """
    found = _RESULT.get(participants)
    if found is not None:
        return found
    result: dtype | None = None
    for priority in (2, 1, 0):
        level: dtype | None = None
        for d, p in participants:
            if p == priority:
                level = d if level is None else promote_types(level, d)
        if level is None:
            continue
        if result is None:
            result = level
        elif level.category > result.category:
            # a Python float beside integers gives the default dtype; a 0-d tensor gives its own
            result = level
    assert result is not None
    _RESULT[participants] = result
    return result


def can_cast(a: dtype, b: dtype) -> _b.bool:
    """Whether an in-place result of dtype `a` may be stored in `b`: never down a category."""
    return a.category <= b.category


class finfo:
    """Limits of a floating-point dtype: bits, eps, max, min, tiny, smallest_normal, resolution."""

    def __init__(self, type: dtype | None = None) -> None:
        d = type or _default[0]
        if not d.is_floating_point:
            raise TypeError(
                f"flambeau.finfo() requires a floating point input type. Use "
                f"flambeau.iinfo to handle '{d}'"
            )
        info = ml_dtypes.finfo(d.numpy)
        self.dtype = d.name
        self.bits = d.itemsize * 8
        self.eps = _Float(info.eps)
        self.max = _Float(info.max)
        self.min = _Float(info.min)
        self.tiny = self.smallest_normal = _Float(info.tiny)
        self.resolution = _Float(info.resolution)

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution}, min={self.min}, max={self.max}, "
            f"eps={self.eps}, smallest_normal={self.smallest_normal}, tiny={self.tiny}, "
            f"dtype={self.dtype})"
        )


class iinfo:
    """Limits of an integer dtype: bits, min, max."""

    def __init__(self, type: dtype) -> None:
        if type.category != INTEGRAL:
            raise TypeError(f"flambeau.iinfo() requires an integer input type, got '{type}'")
        info = np.iinfo(type.numpy)
        self.dtype = type.name
        self.bits = type.itemsize * 8
        self.min, self.max = info.min, info.max

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
