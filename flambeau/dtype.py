"""Data types: torch's names, what NumPy calls them, and torch's promotion lattice."""

from __future__ import annotations

import builtins as _b
import math
from typing import Any

import ml_dtypes
import numpy as np

#: What the names are prefixed with when printed; `flambeau run` sets it to "torch".
prefix = ["flambeau"]

BOOL, INTEGRAL, FLOATING, COMPLEX = 0, 1, 2, 3

# this module gives torch's meaning to the names int, float and bool
_Int, _Float, _Bool = _b.int, _b.float, _b.bool


class dtype:
    """A tensor's element type. Instances are unique, so `is` compares them.

    Attributes:
        name: torch's name without prefix, e.g. `"float32"`.
        itemsize: bytes of one element.
        numpy: the NumPy dtype with the same bits (ml_dtypes' for bfloat16).
        category: 0 bool, 1 integral, 2 floating, 3 complex; promotion never lowers it.
        word: what torch's messages call it, e.g. `"Float"`.
        hosted: NumPy computes with it; no kernels are generated.
        is_floating_point, is_complex, is_signed: as in torch.
    """

    __slots__ = (
        "name",
        "itemsize",
        "numpy",
        "category",
        "word",
        "hosted",
        "is_floating_point",
        "is_complex",
        "is_signed",
        "__weakref__",
    )

    def __init__(
        self, name: str, numpy: Any, category: _b.int, word: str, is_signed: _b.bool = True
    ) -> None:
        self.name = name
        self.word = word
        self.numpy = np.dtype(numpy)
        self.itemsize: _b.int = self.numpy.itemsize
        self.category = category
        self.is_floating_point = category == FLOATING
        self.is_complex = category == COMPLEX
        self.hosted = category == COMPLEX or (category == FLOATING and self.itemsize == 1)
        self.is_signed = is_signed

    def __repr__(self) -> str:
        return f"{prefix[0]}.{self.name}"

    def __reduce__(self) -> str:
        return self.name

    def to_complex(self) -> dtype:
        """The complex dtype whose parts have this precision; complex64 for narrower ones."""
        if self.category < FLOATING or self.itemsize == 1:
            raise RuntimeError(f"to_complex is not defined for {self}")
        return complex128 if self in (float64, complex128) else complex64

    def to_real(self) -> dtype:
        """The dtype of a complex dtype's parts; any other dtype itself."""
        if not self.is_complex:
            return self
        return float64 if self is complex128 else float32


float64 = dtype("float64", np.float64, FLOATING, "Double")
float32 = dtype("float32", np.float32, FLOATING, "Float")
float16 = dtype("float16", np.float16, FLOATING, "Half")
bfloat16 = dtype("bfloat16", ml_dtypes.bfloat16, FLOATING, "BFloat16")
int64 = dtype("int64", np.int64, INTEGRAL, "Long")
int32 = dtype("int32", np.int32, INTEGRAL, "Int")
int16 = dtype("int16", np.int16, INTEGRAL, "Short")
int8 = dtype("int8", np.int8, INTEGRAL, "Char")
uint8 = dtype("uint8", np.uint8, INTEGRAL, "Byte", is_signed=False)
uint16 = dtype("uint16", np.uint16, INTEGRAL, "UInt16", is_signed=False)
uint32 = dtype("uint32", np.uint32, INTEGRAL, "UInt32", is_signed=False)
uint64 = dtype("uint64", np.uint64, INTEGRAL, "UInt64", is_signed=False)
bool = dtype("bool", np.bool_, BOOL, "Bool", is_signed=False)
complex64 = dtype("complex64", np.complex64, COMPLEX, "ComplexFloat")
complex128 = dtype("complex128", np.complex128, COMPLEX, "ComplexDouble")
float8_e4m3fn = dtype("float8_e4m3fn", ml_dtypes.float8_e4m3fn, FLOATING, "Float8_e4m3fn")
float8_e5m2 = dtype("float8_e5m2", ml_dtypes.float8_e5m2, FLOATING, "Float8_e5m2")
float8_e4m3fnuz = dtype("float8_e4m3fnuz", ml_dtypes.float8_e4m3fnuz, FLOATING, "Float8_e4m3fnuz")
float8_e5m2fnuz = dtype("float8_e5m2fnuz", ml_dtypes.float8_e5m2fnuz, FLOATING, "Float8_e5m2fnuz")
float8_e8m0fnu = dtype(
    "float8_e8m0fnu", ml_dtypes.float8_e8m0fnu, FLOATING, "Float8_e8m0fnu", is_signed=False
)

double, float, half = float64, float32, float16
long, int, short = int64, int32, int16
cfloat, cdouble = complex64, complex128

FLOAT8 = (float8_e4m3fn, float8_e5m2, float8_e4m3fnuz, float8_e5m2fnuz, float8_e8m0fnu)
ALL = (
    *(float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool),
    *(uint16, uint32, uint64, complex64, complex128, *FLOAT8),
)
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
        found = _PROMOTED[a, b] = _promoted(a, b)
    return found


def _promoted(a: dtype, b: dtype) -> dtype:
    """`promote_types` of two dtypes that differ.

    Raises:
        RuntimeError: an 8-bit float, or a wide unsigned integer beside another whole number or a
            complex one.
    """
    if a in FLOAT8 or b in FLOAT8:
        raise RuntimeError(
            f"Promotion for Float8 Types is not supported, attempted to promote {a.word} and "
            f"{b.word}"
        )
    if (a in _WIDE and b.category != FLOATING) or (b in _WIDE and a.category != FLOATING):
        raise RuntimeError(
            "Promotion for uint16, uint32, uint64 types is not supported, attempted to promote "
            f"{a.word} and {b.word}"
        )
    if a.is_complex or b.is_complex:
        return complex128 if _DOUBLES.intersection((a, b)) else complex64
    ra, rb = _RANK.get(a, 1), _RANK.get(b, 1)
    return (a if ra > rb else b) if ra != rb else (float32 if ra == 5 else int16)


#: Unsigned integers that are promoted to nothing but floats; dtypes of double precision.
_WIDE = frozenset((uint16, uint32, uint64))
_DOUBLES = frozenset((float64, complex128))


def scalar_dtype(value: Any) -> dtype:
    """The dtype a Python number stands for: bool, int64, the default float or its complex."""
    if value is True or value is False or isinstance(value, np.bool_):
        return bool
    if isinstance(value, (_Int, np.integer)):
        return int64
    if isinstance(value, (complex, np.complexfloating)):
        return _default[0].to_complex()
    return _default[0]


def as_dtype(given: Any) -> dtype | None:
    """What a parameter `dtype` means: a dtype, None, or Python's bool, int, float or complex.

    Raises:
        TypeError: it is something else.
    """
    if given is None or isinstance(given, dtype):
        return given
    found = _OF_TYPES.get(given) if isinstance(given, type) else None
    if found is None:
        kind = type(given).__name__
        raise TypeError(f"argument 'dtype' must be {prefix[0]}.dtype, not {kind}")
    return found


_OF_TYPES = {_b.bool: bool, _b.int: int64, _b.float: float64, complex: complex128}


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
            # a Python float beside integers gives the default dtype; a 0-d tensor gives its own;
            # what is complex makes a float complex in its own precision
            floating = level.is_complex and result.category == FLOATING
            result = result.to_complex() if floating else level
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
        if d.category < FLOATING:
            raise TypeError(
                f"flambeau.finfo() requires a floating point input type. Use "
                f"flambeau.iinfo to handle '{d}'"
            )
        d = d.to_real()
        info = ml_dtypes.finfo(d.numpy)
        self.dtype = d.name
        self.bits = d.itemsize * 8
        self.eps = _Float(info.eps)
        self.max = _Float(info.max)
        self.min = _Float(info.min)
        self.tiny = self.smallest_normal = _Float(info.tiny)
        # as many decimal digits as any number of that many keeps
        self.resolution = 10.0 ** -_Int(-math.log2(self.eps) * math.log10(2))

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
