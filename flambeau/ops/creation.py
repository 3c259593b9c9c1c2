"""Creation: factory functions, `tensor` and its kin, and what fills a tensor that exists."""

from __future__ import annotations

import builtins
import functools
import math
from builtins import type as type_of  # `type` is a row below
from collections.abc import Sequence
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.device import device as Device
from flambeau.device import get_default_device, resolve
from flambeau.dtype import dtype as DType
from flambeau.dtype import get_default_dtype, scalar_dtype
from flambeau.ir.graph import Node
from flambeau.ir.symbol import as_float, symbolic
from flambeau.ops import table
from flambeau.ops.conversion import clone, to_dtype
from flambeau.ops.movement import broadcast_to
from flambeau.ops.rows import NAMES, ROWS, published
from flambeau.ops.table import composite, elementwise
from flambeau.ops.writing import check_writable, store, write_out
from flambeau.size import broadcast_shapes, contiguous_strides, no_negative, shape_of
from flambeau.tensor import FROM_ARRAY, LEGACY, Tensor, as_subclass, make

table._default_device[0] = get_default_device
NAMES["promote_types"] = dtypes.promote_types


# -- generators (primitives without tensor sources) -----------------------------------------------


@elementwise(
    public=False,
    method=False,
    inplace=False,
    differentiable=False,
    uniform=True,
    linear=((0,),),
)
def fill_value(value: Any) -> Tensor:
    """Every element is one number."""


@elementwise(public=False, method=False, inplace=False, differentiable=False)
def iota() -> Tensor:
    """The row-major index of each element, int64."""


ROWS["fill_value"].reference = lambda v: v
ROWS["iota"].reference = None


def filled(shape: tuple[int, ...], value: Any, dtype: DType, device: Device) -> Tensor:
    """A tensor whose elements are one number."""
    if dtype.is_complex and not isinstance(value, (float, int)):
        return broadcast_to(
            _copy_array(np.asarray(value, dtype.numpy), dtype, device), shape
        ).clone()
    if dtype.category >= 2:
        value = as_float(value)
    elif not symbolic(value):
        value = int(value if dtype.category else bool(value))
    return make(Node(ROWS["fill_value"], (value,), (), shape, dtype), device)


def _leaf(t: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        t.requires_grad = True
    return t


def _factory(
    shape: tuple[int, ...],
    value: Any,
    dtype: DType | None,
    device: Any,
    requires_grad: bool,
    out: Any = None,
) -> Tensor:
    no_negative(shape)
    if out is not None:
        return write_out(out, filled(shape, value, out.dtype, out.device))
    return _leaf(filled(shape, value, dtype or get_default_dtype(), resolve(device)), requires_grad)


@composite(method=False)
def zeros(
    *size: Any,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of the given size."""
    return _factory(shape_of(size), 0, dtype, device, requires_grad, out)


@composite(method=False)
def ones(
    *size: Any,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of the given size."""
    return _factory(shape_of(size), 1, dtype, device, requires_grad, out)


@composite(method=False)
def empty(
    *size: Any,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """A tensor whose values do not matter (zeros here: reading them is never undefined)."""
    return _factory(shape_of(size), 0, dtype, device, requires_grad, out)


@composite(method=False)
def full(
    size: Any,
    fill_value: Any,
    *,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor of one value; the dtype follows the value unless given."""
    if isinstance(fill_value, Tensor):
        found = broadcast_to(to_dtype(fill_value, dtype or fill_value.dtype), tuple(size))
        return clone(found)
    if dtype is not None and isinstance(fill_value, int):
        _check_fits(fill_value, dtype)
    return _factory(
        shape_of((size,) if isinstance(size, int) else size),
        fill_value,
        dtype or scalar_dtype(fill_value),
        device,
        requires_grad,
        out,
    )


def _like(name: str, value: Any) -> None:
    def like(
        input: Tensor,
        *,
        dtype: DType | None = None,
        layout: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        memory_format: Any = None,
        pin_memory: bool = False,
    ) -> Tensor:
        return _factory(
            input._shape,
            value,
            dtype or input.dtype,
            input.device if device is None else device,
            requires_grad,
        )

    like.__name__ = name + "_like"
    like.__doc__ = f"As `{name}`, with the shape, dtype and device of a tensor."
    row = composite(method=False)(like).row
    row.whole, row.differentiable = True, False

    def new(
        input: Tensor,
        *size: Any,
        dtype: DType | None = None,
        device: Any = None,
        requires_grad: bool = False,
        layout: Any = None,
        pin_memory: bool = False,
    ) -> Tensor:
        return _factory(
            shape_of(size),
            value,
            dtype or input.dtype,
            input.device if device is None else device,
            requires_grad,
        )

    new.__name__ = "new_" + name
    new.__doc__ = f"`{name}` with the dtype and device of this tensor."
    composite(public=False)(new)


for _name, _value in (("zeros", 0), ("ones", 1), ("empty", 0)):
    _like(_name, _value)


@composite(method=False)
def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """A tensor of one value with the shape, dtype and device of another."""
    return _factory(
        input._shape,
        fill_value,
        dtype or input.dtype,
        input.device if device is None else device,
        requires_grad,
    )


@composite(public=False)
def new_full(
    input: Tensor,
    size: Any,
    fill_value: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of one value with the dtype and device of this one."""
    return _factory(
        shape_of(size),
        fill_value,
        dtype or input.dtype,
        input.device if device is None else device,
        requires_grad,
    )


@composite(public=False)
def new_tensor(
    input: Tensor,
    data: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`tensor(data)` with the dtype and device of this tensor."""
    return tensor(
        data, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad
    )


@composite(method=False)
def arange(
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    *,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """start, start + step, ... below end.

    Raises:
        RuntimeError: step is 0, or the bounds do not fit its sign.
    """
    if end is None:
        start, end = 0, start
    start, end, step = (
        v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end, step)
    )
    if step == 0:
        raise RuntimeError("step must be nonzero")
    whole = all(isinstance(v, int) for v in (start, end, step))
    if not whole and not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start:g} -> {end:g}")
    if (end - start) * (1 if step > 0 else -1) < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if dtype is None:
        dtype = (
            get_default_dtype()
            if any(isinstance(v, float) for v in (start, end, step))
            else dtypes.int64
        )
    if dtype is dtypes.int64 and not whole:  # counted in integers
        start, end, step = (int(v) for v in (start, end, step))
        whole = True
        if not step:
            raise RuntimeError("step must be nonzero")
    count = max(0, -((start - end) // step) if whole else math.ceil((end - start) / step))
    index = make(Node(ROWS["iota"], (), (), (count,), dtypes.int64), resolve(device))
    if dtype.category == 2:
        found = to_dtype(to_dtype(index, dtypes.float64) * float(step) + float(start), dtype)
    else:
        found = index if step == 1 else index * step
        found = to_dtype(found if start == 0 else found + start, dtype)
    return _leaf(found, requires_grad) if out is None else write_out(out, found)


@composite(method=False)
def linspace(
    start: Any,
    end: Any,
    steps: int,
    *,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` values evenly spaced from start to end, both included."""
    if isinstance(steps, builtins.bool) or not isinstance(steps, (builtins.int, np.integer)):
        raise TypeError(
            f"linspace(): argument 'steps' (position 3) must be int, not {type(steps).__name__}"
        )
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    start, end = (v.item() if isinstance(v, Tensor) else v for v in (start, end))
    dtype = dtype or get_default_dtype()
    index = make(Node(ROWS["iota"], (), (), (steps,), dtypes.int64), resolve(device))
    step = (end - start) / (steps - 1) if steps > 1 else 0.0
    wide = to_dtype(index, dtypes.float64)
    # from both ends, so that the last value is `end` exactly
    low = wide * step + float(start)
    high = float(end) - (as_float(steps - 1) - wide) * step
    found = low if steps == 1 else NAMES["where"](index < steps // 2, low, high)
    found = to_dtype(found, dtype)
    return _leaf(found, requires_grad) if out is None else write_out(out, found)


@composite(method=False)
def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """base ** linspace(start, end, steps)."""
    if out is not None:
        return write_out(out, logspace(start, end, steps, base, dtype=dtype or out.dtype))
    exponents = linspace(start, end, steps, dtype=dtypes.float64, device=device)
    found = to_dtype(NAMES["pow"](float(base), exponents), dtype or get_default_dtype())
    return _leaf(found, requires_grad)


@composite(method=False)
def eye(
    n: int,
    m: int | None = None,
    *,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The identity matrix of size (n, m)."""
    m = n if m is None else m
    if min(n, m) < 0:
        name = "n" if n < 0 else "m"
        raise RuntimeError(f"{name} must be greater or equal to 0, got {min(n, m)}")
    index = make(Node(ROWS["iota"], (), (), (n, m), dtypes.int64), resolve(device))
    found = to_dtype((index % max(m, 1)) == (index // max(m, 1)), dtype or get_default_dtype())
    return _leaf(found, requires_grad) if out is None else write_out(out, found)


# -- from data -------------------------------------------------------------------------------------


def _copy_array(array: np.ndarray[Any, Any], dtype: DType, device: Device) -> Tensor:
    """A tensor with its own copy of an array of the same dtype."""
    from_memory = ALLOCATE[0]
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array).reshape(array.shape)
    return from_memory(array, dtype, device)


#: (array, dtype, device) -> tensor over a copy; set by the runtime's memory module.
ALLOCATE: list[Any] = [None]
#: (array, dtype) -> tensor over the array's own memory.
WRAP: list[Any] = [None]


@composite(method=False)
def tensor(
    data: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A new tensor with a copy of the data: numbers, nested sequences, NumPy arrays, tensors.

    Args:
        dtype: by default bool, int64 or the default float after the data; an array keeps its own.

    Raises:
        ValueError: ragged sequences.
        TypeError: data that is not numeric.
    """
    if isinstance(data, Tensor):
        found = clone(data.detach())
        return _leaf(found.to(device=device, dtype=dtype), requires_grad)
    return _leaf(_from_data(data, dtype, resolve(device)), requires_grad)


@functools.cache
def _bounds(dtype: DType) -> tuple[int, int]:
    """The least and the greatest number that an integer dtype is made from."""
    info = np.iinfo(dtype.numpy)
    return -info.max if info.min == 0 else int(info.min), int(info.max)


def _check_fits(value: Any, dtype: DType) -> None:
    """Raise where an integer dtype cannot hold a number; unsigned ones wrap negative numbers."""
    if dtype.category != 1 or symbolic(value):
        return
    low, high = _bounds(dtype)
    if not low <= value <= high:
        raise RuntimeError(f"value cannot be converted to type {dtype.name} without overflow")


def _from_data(data: Any, dtype: DType | None, where: Device) -> Tensor:
    if isinstance(data, (bool, int, float, complex)) and not isinstance(data, np.generic):
        natural = scalar_dtype(data)
        chosen = dtype or natural
        if chosen.category == 1 and isinstance(data, float):
            data = int(data)
        if symbolic(data):
            return filled((), data, chosen, where)
        _check_fits(data, chosen)
        return _copy_array(np.asarray(data).astype(chosen.numpy), chosen, where)
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
        if not array.dtype.isnative:
            raise ValueError(
                "given numpy array has byte order different from the native byte "
                "order. Conversion between byte orders is currently not supported."
            )
        chosen = dtype or dtypes.from_numpy(array.dtype)
    elif hasattr(data, "__array__") and not isinstance(data, (list, tuple)):
        return _from_data(np.asarray(data), dtype, where)
    else:
        if isinstance(data, (str, bytes, dict)):
            raise TypeError(f"new(): invalid data type '{type_of(data).__name__}'")
        if not isinstance(data, Sequence) and not hasattr(data, "__len__"):
            raise RuntimeError(f"Could not infer dtype of {type_of(data).__name__}")
        array = _nested(data)
        if dtype is None:
            category = array.dtype.kind
            natural = get_default_dtype()
            natural = natural.to_complex() if category == "c" else natural
            chosen = {"b": dtypes.bool, "i": dtypes.int64, "u": dtypes.int64}.get(category, natural)
            if array.size == 0:
                chosen = get_default_dtype()
            if category == "O":
                raise TypeError(f"can't convert {type_of(data).__name__} to a tensor")
            if isinstance(_first(data), np.ndarray | np.generic | Tensor) and array.size:
                chosen = dtypes.from_numpy(array.dtype)
        else:
            chosen = dtype
            if array.dtype.kind in "iu" and array.size and not hasattr(_first(data), "dtype"):
                _check_fits(int(array.min()), chosen)
                _check_fits(int(array.max()), chosen)
    if array.dtype.kind == "c" and not chosen.is_complex:
        raise TypeError(f"a complex number cannot be converted to {chosen}")
    if array.dtype == chosen.numpy:
        return _copy_array(array, chosen, where)
    with np.errstate(all="ignore"):
        return _copy_array(array.astype(chosen.numpy), chosen, where)


#: What nested sequences end in, mostly.
_NUMBERS = frozenset((bool, int, float, complex))


def _first(data: Any) -> Any:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return data


def _nested(data: Any) -> np.ndarray[Any, Any]:
    """Nested sequences of numbers, arrays and tensors as one array."""

    def plain(item: Any) -> Any:
        if isinstance(item, Tensor):
            array = item.detach()._array()
            return array if array.dtype.isbuiltin == 1 else array.astype(np.float32)
        if isinstance(item, (list, tuple)):
            return [plain(i) for i in item]
        if isinstance(item, (str, bytes, dict)):
            raise TypeError(f"new(): invalid data type '{type_of(item).__name__}'")
        if item is None:
            raise RuntimeError("Could not infer dtype of NoneType")
        return item

    items = data if isinstance(data, (list, tuple)) else list(data)
    if not _NUMBERS.issuperset(map(type_of, items)):
        items = plain(items)
    try:
        return np.array(items)
    except ValueError as error:
        if "inhomogeneous" in str(error):
            raise ValueError(f"expected sequence of equal length at every depth: {error}") from None
        raise


@composite(method=False)
def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """The data as a tensor, sharing memory where it can (tensors, NumPy arrays)."""
    if isinstance(data, Tensor):
        return data.to(device=device, dtype=dtype) if dtype or device else data
    if isinstance(data, np.ndarray) and (dtype is None or dtypes.from_numpy(data.dtype) is dtype):
        return from_numpy(data)
    return tensor(data, dtype=dtype, device=device)


@composite(method=False)
def asarray(
    obj: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    copy: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """An object as a tensor, over its own memory where it has some and nothing is to change.

    Args:
        obj: a tensor, an array, a storage, a number or nested sequences of them.
        copy: True for memory of its own in any case, False to refuse where that is needed.

    Raises:
        ValueError: `copy=False`, and a copy is needed.
    """
    if isinstance(obj, Tensor):
        shared: Tensor | None = obj
    elif hasattr(obj, "__array__") and not isinstance(obj, np.generic):
        shared = from_numpy(np.asarray(obj))
    else:
        shared = None
    if shared is None:
        found = tensor(obj, dtype=dtype, device=device)
    else:
        found = shared.to(device=device, dtype=dtype)
        found = clone(found) if copy and found is shared else found
    if copy is False and found is not shared:
        raise ValueError("can't alias arbitrary sequence into a tensor.")
    return found.requires_grad_() if requires_grad else found


@composite(method=False)
def from_numpy(ndarray: Any) -> Tensor:
    """A tensor over a NumPy array's own memory: each sees the other's writes.

    Raises:
        TypeError: not an array, or a dtype that tensors do not have.
        ValueError: negative strides.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type_of(ndarray).__name__})")
    if not ndarray.dtype.isnative:
        raise ValueError(
            "given numpy array has byte order different from the native byte order. "
            "Conversion between byte orders is currently not supported."
        )
    chosen = dtypes.from_numpy(ndarray.dtype)
    if ndarray.flags.c_contiguous:
        return WRAP[0](ndarray, chosen)
    if any(s < 0 for s in ndarray.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors "
            "with negative strides are not currently supported. (You can probably "
            "work around this by making a copy of your array with array.copy().)"
        )
    if any(s % chosen.itemsize for s in ndarray.strides):
        raise ValueError(
            "given numpy array strides not a multiple of the element byte size. Copy "
            "the numpy array to reallocate the memory."
        )
    return WRAP[0](ndarray, chosen)


@composite(method=False)
def frombuffer(
    buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A 1-d tensor over an object that exposes the buffer protocol."""
    array = np.frombuffer(buffer, dtype=dtype.numpy, count=count, offset=offset)
    return _leaf(WRAP[0](array, dtype), requires_grad)


@composite(method=False)
def scalar_tensor(
    s: Any,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """A 0-d tensor of the default float dtype."""
    return _factory((), s, dtype, device, requires_grad)


# -- in place ------------------------------------------------------------------------------------


def _copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Overwrite this tensor with `src`, broadcast and converted; -> self."""
    if not isinstance(src, Tensor):
        src = tensor(src)
    check_writable(self)
    if broadcast_shapes(src._shape, self._shape) != self._shape:
        raise RuntimeError(
            f"The size of tensor a ({list(self.shape)}) must match the size of "
            f"tensor b ({list(src.shape)})"
        )
    if src.is_meta and not self.is_meta:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    value = src if src._shape == self._shape else broadcast_to(src, self._shape)
    store(self, to_dtype(value, self.dtype) if value.dtype is not self.dtype else clone(value))
    return self


def _fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to one value; -> self."""
    check_writable(self)
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(
                "fill_ only supports 0-dimension value tensor but got tensor with "
                f"{value.ndim} dimensions."
            )
        return _copy_(self, value)
    store(self, filled(self._shape, value, self.dtype, self.device))
    return self


def _zero_(self: Tensor) -> Tensor:
    """Set every element to 0; -> self."""
    return _fill_(self, 0)


for _name, _function in (("copy_", _copy_), ("fill_", _fill_), ("zero_", _zero_)):
    setattr(Tensor, _name, published(_name, _function))


def _set_(self: Tensor, source: Any = None, *args: Any) -> Tensor:
    """Use another tensor's storage, size and strides; -> self."""
    if source is None:
        source = _factory((0,), 0, self.dtype, self.device, False)
    self.data = source
    return self


def _resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Change the shape in place; new elements have no defined values; -> self."""
    shape = shape_of(sizes)
    if min(shape, default=0) < 0:
        raise RuntimeError(f"resize_(): got a negative size in {list(shape)}")
    if self.requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    n = math.prod(shape)
    if n <= self._cell.node.numel and self._map is None:
        self._map = None if shape == self._cell.node.shape else (contiguous_strides(shape), 0)
        self._shape = shape
        return self
    fresh = filled((n,), 0, self.dtype, self.device)
    keep = min(n, self.numel())
    if keep:
        _copy_(NAMES["narrow"](fresh, 0, 0, keep), self.detach().reshape(-1)[:keep])
    self.data = fresh.view(shape)
    return self


setattr(Tensor, "set_", _set_)
setattr(Tensor, "resize_", _resize_)


@composite()
def resize_as_(input: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    """`resize_` to the shape of another tensor."""
    return _resize_(input, the_template._shape)


def _raw(array: Any, name: str) -> Tensor:
    chosen = dtypes.BY_NAME[name]
    return _copy_array(array.view(chosen.numpy), chosen, resolve("cpu"))


FROM_ARRAY[0] = _raw


def _wrapped(self: Tensor, array: Any, context: Any = None, return_scalar: bool = False) -> Tensor:
    """What a NumPy function of tensors returns: its array as a tensor."""
    return NAMES["from_numpy"](np.asarray(array))


setattr(Tensor, "__array_wrap__", _wrapped)


def _legacy(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """`Tensor()`, `Tensor(2, 3)`, `Tensor([1., 2.])`, `Tensor(other)`."""
    dtype = getattr(cls, "_legacy_dtype", None) or get_default_dtype()
    if len(args) == 1 and isinstance(args[0], Tensor):
        made = args[0].detach()
    elif len(args) == 1 and not isinstance(args[0], int):
        made = (
            zeros(*args[0], dtype=dtype)
            if hasattr(args[0], "numel") and callable(args[0].numel)
            else tensor(args[0], dtype=dtype)
        )
    else:
        made = zeros(*args, dtype=dtype) if args else zeros(0, dtype=dtype)
    return made if cls is Tensor or getattr(cls, "_legacy_dtype", None) else as_subclass(made, cls)


LEGACY[0] = _legacy


def _make_subclass(cls: Any, data: Tensor, require_grad: bool = False) -> Any:
    made = as_subclass(data.detach(), cls)
    made.requires_grad = require_grad
    return made


setattr(Tensor, "_make_subclass", staticmethod(_make_subclass))
setattr(Tensor, "as_subclass", lambda self, cls: as_subclass(self, cls))
