"""Copies and conversion: `clone`, `to` and its short forms, the bits of one dtype as another."""

from __future__ import annotations

from builtins import type as type_of  # `type` is a row below
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.device import device as Device
from flambeau.device import resolve
from flambeau.dtype import as_dtype
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import CAST, COPY
from flambeau.ops.movement import view_as_shape
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite, emit, primitive
from flambeau.overriding import overridable
from flambeau.size import contiguous_strides
from flambeau.tensor import BITS, Tensor, alias


@primitive("elementwise", method=True, public=True, jvp="linear")
def clone(row: Any, input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy with memory of its own, differentiable."""
    return emit(COPY, (input,), (), input._shape, input.dtype)


clone.vjp(lambda g, out, x, memory_format=None: (g,))


@primitive("elementwise", jvp="linear")
def to_dtype(row: Any, input: Tensor, dtype: DType) -> Tensor:
    """The values converted to another dtype (a new tensor, also for the same dtype)."""
    return emit(CAST, (input,), (), input._shape, dtype)


to_dtype.vjp(lambda g, out, x, dtype: (to_dtype(g, x.dtype) if g.dtype is not x.dtype else g, None))
NAMES["to_dtype"] = to_dtype


def _parts_of_numbers(node: Any) -> tuple[tuple[int, ...], ...]:
    """Complex numbers read as real and imaginary parts, or back, add up; other bits do not."""
    dtypes = (node.src[0].dtype, node.dtype)
    real = [d.to_real() for d in dtypes if d.category >= 2]
    return ((0,),) if len(real) == 2 and real[0] is real[1] else ()


@primitive("host", differentiable=False, linear=_parts_of_numbers)
def bits_as(row: Any, input: Tensor, dtype: DType) -> Tensor:
    """The bits of a row-major tensor read as a vector of another dtype."""
    count = input.numel() * input.dtype.itemsize // dtype.itemsize
    return emit(row, (input,), (dtype,), (count,), dtype)


bits_as.reference(lambda x, dtype: np.ascontiguousarray(x).reshape(-1).view(dtype.numpy))
BITS[0] = bits_as.row


@composite(public=False, method=False)
def view_dtype(input: Tensor, dtype: DType) -> Tensor:
    """A view of the bits of a tensor as another dtype; the last dimension changes with its size.

    Raises:
        RuntimeError: sizes, strides or an offset that hold no whole elements of `dtype`.
    """
    if dtype is input.dtype:
        return view_as_shape(input, input._shape)
    shape, strides, offset = list(input._shape), list(input._strides), input.storage_offset()
    old, new = input.dtype.itemsize, dtype.itemsize
    if old != new:
        if not shape:
            raise RuntimeError(
                f"self.dim() cannot be 0 to view {input.dtype.word} as {dtype.word} (different "
                "element sizes)"
            )
        if strides[-1] != 1 and shape[-1] != 1:
            raise RuntimeError(
                f"self.stride(-1) must be 1 to view {input.dtype.word} as {dtype.word} (different "
                f"element sizes), but got {strides[-1]}"
            )
        if old < new:
            ratio = new // old
            for what, given in (
                ("self.size(-1)", shape[-1]),
                ("self.storage_offset()", offset),
                *((f"self.stride({d})", s) for d, s in enumerate(strides[:-1]) if shape[d] > 1),
            ):
                if given % ratio:
                    raise RuntimeError(
                        f"{what} must be divisible by {ratio} to view {input.dtype.word} as "
                        f"{dtype.word} (different element sizes), but got {given}"
                    )
            shape[-1] //= ratio
            offset //= ratio
            strides = [s // ratio for s in strides[:-1]] + [1]
        else:
            ratio = old // new
            shape[-1] *= ratio
            offset *= ratio
            strides = [s * ratio for s in strides[:-1]] + [1]
    found = alias(input)
    found.dtype = dtype
    found._shape = tuple(shape)
    plain = dtype is input._cell.node.dtype and not offset
    natural = tuple(shape) == input._cell.node.shape
    whole = plain and natural and tuple(strides) == contiguous_strides(tuple(shape))
    found._map = None if whole else (tuple(strides), offset)
    found._base = input if input._base is None else input._base
    found._seen_generation = found._base._generation
    return found


NAMES["view_dtype"] = view_dtype


@composite(public=False)
def to(
    input: Tensor,
    *args: Any,
    device: Any = None,
    dtype: DType | None = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
    other: Tensor | None = None,
) -> Tensor:
    """The tensor with another dtype and/or device: `to(dtype)`, `to(device)`, `to(other)`.

    Returns:
        The tensor itself when nothing changes and `copy` is False.
    """
    for i, a in enumerate(args):
        if isinstance(a, DType | type_of):
            dtype = as_dtype(a)
        elif isinstance(a, Tensor):
            other = a
        elif isinstance(a, bool):
            if i >= 2 and args[i - 1] in (True, False) and isinstance(args[i - 1], bool):
                copy = a
        elif a is not None:
            device = a
    if other is not None:
        dtype, device = other.dtype, other.device
    found = input
    if device is not None and resolve(device) != input.device:
        found = _move(input, resolve(device))
    if dtype is not None and dtype is not found.dtype:
        return to_dtype(found, dtype)
    return clone(found) if copy and found is input else found


def _move(input: Tensor, where: Device) -> Tensor:
    if where.type == "meta":
        return NAMES["zeros"](input._shape, dtype=input.dtype, device=where)
    if input.is_meta:
        raise NotImplementedError(
            "Cannot copy out of meta tensor; no data! Please use "
            "torch.nn.Module.to_empty() instead of torch.nn.Module.to() "
            "when moving module from meta to a different device."
        )
    raise RuntimeError(f"no copy from {input.device} to {where}")


def _conversion(name: str, target: DType) -> None:
    def convert(input: Tensor, memory_format: Any = None) -> Tensor:
        return input if input.dtype is target else to_dtype(input, target)

    convert.__name__ = name
    convert.__doc__ = f"The tensor as {target.name}."
    setattr(Tensor, name, overridable(convert))


for _name, _target in (
    ("float", dtypes.float32),
    ("double", dtypes.float64),
    ("half", dtypes.float16),
    ("bfloat16", dtypes.bfloat16),
    ("long", dtypes.int64),
    ("int", dtypes.int32),
    ("short", dtypes.int16),
    ("char", dtypes.int8),
    ("byte", dtypes.uint8),
    ("bool", dtypes.bool),
    ("cfloat", dtypes.complex64),
    ("cdouble", dtypes.complex128),
):
    _conversion(_name, _target)

_LEGACY_TYPES = {
    "Float": dtypes.float32,
    "Double": dtypes.float64,
    "Half": dtypes.float16,
    "BFloat16": dtypes.bfloat16,
    "Long": dtypes.int64,
    "Int": dtypes.int32,
    "Short": dtypes.int16,
    "Char": dtypes.int8,
    "Byte": dtypes.uint8,
    "Bool": dtypes.bool,
    "ComplexFloat": dtypes.complex64,
    "ComplexDouble": dtypes.complex128,
}


@composite(public=False)
def type(input: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The type's name ("torch.FloatTensor"), or the tensor converted to a dtype or such a name."""
    if dtype is None:
        return "torch." + input.dtype.word + "Tensor"
    if isinstance(dtype, str):
        short = dtype.rsplit(".", 1)[-1].removesuffix("Tensor")
        if short not in _LEGACY_TYPES:
            raise ValueError(f"invalid type: '{dtype}'")
        dtype = _LEGACY_TYPES[short]
    return input.to(dtype)


@composite(public=False)
def type_as(input: Tensor, other: Tensor) -> Tensor:
    """The tensor with another's dtype."""
    return input.to(other.dtype)


@composite(public=False)
def cpu(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor on the CPU."""
    return input.to("cpu")
