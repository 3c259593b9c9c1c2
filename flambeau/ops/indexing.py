"""Indexing: gathers and scatters by integer tensors, and Python's brackets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from flambeau import dtypes, overriding
from flambeau.ir.fault import PLAIN, Fault
from flambeau.ir.symbol import at_hand
from flambeau.ops.conversion import to_dtype
from flambeau.ops.elementwise import select_where
from flambeau.ops.entries import called
from flambeau.ops.movement import (
    expand_to,
    permute_dims,
    select_dim,
    slice_bounds,
    slice_dim,
    unsqueeze,
    view_as_shape,
)
from flambeau.ops.rows import NAMES
from flambeau.ops.rules import derived
from flambeau.ops.table import composite, emit, primitive
from flambeau.ops.writing import check_writable, store
from flambeau.overriding import UNCLAIMED, ask
from flambeau.size import broadcast_shapes, wrap_dim
from flambeau.tensor import Tensor


@primitive("index", jvp="linear", linear=((0,),))
def index_leading(row: Any, input: Tensor, *indices: Tensor, fault: Fault = PLAIN) -> Tensor:
    """input at integer tensors of one shape over its first len(indices) dimensions.

    Indices must be in [0, size); others raise what `fault` says at the flush.
    """
    k = len(indices)
    shape = indices[0]._shape + input._shape[k:]
    return emit(row, (input, *indices), (fault,), shape, input.dtype)


def _index_reference(x: Any, *indices: Any) -> Any:
    return x[indices]


index_leading.reference(_index_reference)


def _index_vjp(g: Any, out: Any, x: Any, *indices: Any, fault: Fault = PLAIN) -> tuple[Any, ...]:
    zeros = NAMES["zeros"](tuple(x.shape), dtype=g.dtype, device=g.device)
    return (put_leading(zeros, g, "add", *indices), *(None for _ in indices))


index_leading.vjp(_index_vjp, saves="indices")


def _sums_what_is_put(node: Any) -> tuple[tuple[int, ...], ...]:
    """Writes and additions are linear in both operands, the other modes in none."""
    return ((0, 1),) if node.attrs[0] in ("set", "add") else ()


@primitive("index_put", linear=_sums_what_is_put)
def put_leading(
    row: Any, input: Tensor, value: Tensor, mode: str, *indices: Tensor, fault: Fault = PLAIN
) -> Tensor:
    """A copy of input with value put at integer tensors over its first dimensions.

    Args:
        mode: "set" (the last write wins), "add", "mul", "max" or "min", applied in index order.

    Raises:
        IndexError: a dimension that is written to is empty, and there are indices into it.
    """
    for dim, index in enumerate(indices):
        if at_hand(input._shape[dim]) == 0 != at_hand(index.numel()):
            dim = fault.dims[dim] if fault.dims else dim
            message = f"index is out of bounds for dimension {dim} with size 0"
            raise fault.error(message)
    return emit(row, (input, value, *indices), (mode, fault), input._shape, input.dtype)


def _put_reference(x: Any, value: Any, *indices: Any, mode: str) -> Any:
    out = x.copy()
    if mode == "set":
        out[indices] = value
    else:
        ufunc = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[mode]
        ufunc.at(out, indices, value)
    return out


put_leading.reference(_put_reference)


def _put_vjp(
    g: Any, out: Any, x: Any, value: Any, mode: str, *indices: Any, fault: Fault = PLAIN
) -> tuple[Any, ...]:
    rest = (None, *(None for _ in indices))
    if mode == "add":
        return (g, index_leading(g, *indices), *rest)
    if mode == "set":
        gone = NAMES["zeros"](tuple(value.shape), dtype=g.dtype, device=g.device)
        return (put_leading(g, gone, "set", *indices), index_leading(g, *indices), *rest)
    raise RuntimeError(f"the derivative of mode '{mode}' is that of combine_leading")


put_leading.vjp(_put_vjp, saves="indices")


@derived
@composite(keep=True, method=False, public=False)
def _index(input: Tensor, fault: Fault, *indices: Tensor) -> Tensor:
    """`index_leading` with negative indices, which count from the end."""
    found: Tensor = index_leading(input, *_from_start(indices, input), fault=fault)
    return found


def _from_start(indices: Iterable[Tensor], input: Tensor) -> list[Tensor]:
    """Indices over a tensor's first dimensions, negative ones counted from the start."""
    return [_wrap_negative(k, n) for k, n in zip(indices, input._shape, strict=False)]


# -- brackets --------------------------------------------------------------------------------------


def _expand_key(t: Tensor, key: Any) -> list[Any]:
    key = list(key) if isinstance(key, tuple) else [key]
    used = 0
    for k in key:
        if k is None or k is Ellipsis or isinstance(k, bool):
            continue
        used += k.ndim if isinstance(k, (Tensor, np.ndarray)) and _is_mask(k) else 1
    if used > t.ndim:
        raise IndexError(f"too many indices for tensor of dimension {t.ndim}")
    fill = [slice(None)] * (t.ndim - used)
    for i, k in enumerate(key):
        if k is Ellipsis:
            return key[:i] + fill + [k for k in key[i + 1 :] if k is not Ellipsis]
    return key + fill


def _is_mask(k: Any) -> bool:
    return k.dtype is dtypes.bool if isinstance(k, Tensor) else k.dtype == np.bool_


def _plain_index(k: Any) -> bool:
    return type(k) is int or (
        isinstance(k, (int, np.integer)) and not isinstance(k, (bool, np.bool_))
    )


_PLAIN = frozenset((int, type(None)))


def _bounds(k: slice, n: int) -> tuple[int, int, int]:
    plain = type(n) is int and {type(k.start), type(k.stop), type(k.step)} <= _PLAIN
    if plain and (k.step is None or k.step > 0):
        low, high, by = k.indices(n)
        return low, max(high, low), by
    start, stop, step = (
        v if v is None or isinstance(v, int) else v.__index__() for v in (k.start, k.stop, k.step)
    )
    if step is not None and step <= 0:
        raise ValueError("step must be greater than zero")
    start, stop, step = slice_bounds(start, stop, step, n)
    return start, max(stop, start), step


def _basic(t: Tensor, key: list[Any]) -> tuple[Tensor, list[Any]]:
    """Apply ints, slices and None as views; -> (view, per dimension None or an index tensor)."""
    advanced: list[Any] = []
    d = 0
    for k in key:
        if _plain_index(k):
            n = t._shape[d]
            if not -n <= k < n:
                raise IndexError(f"index {k} is out of bounds for dimension {d} with size {n}")
            t = select_dim(t, d, int(k) + n if k < 0 else int(k))
        elif isinstance(k, slice):
            n = t._shape[d]
            start, stop, step = _bounds(k, n)
            if (start, stop, step) != (0, n, 1):
                t = slice_dim(t, d, start, stop, step)
            advanced.append(None)
            d += 1
        elif k is None:
            t = unsqueeze(t, d)
            advanced.append(None)
            d += 1
        elif isinstance(k, bool):
            t = unsqueeze(t, d)
            advanced.append(NAMES["tensor"]([0] if k else [], dtype=dtypes.int64))
            d += 1
        else:
            k = _as_index(k)
            if k.dtype is dtypes.bool:
                for i, n in enumerate(k._shape):
                    if t._shape[d + i] != n:
                        raise IndexError(
                            f"The shape of the mask {list(k.shape)} at index {i} does not match "
                            f"the shape of the indexed tensor {list(t.shape)} at index {d + i}"
                        )
                if k.ndim == 0:
                    t = unsqueeze(t, d)
                    advanced.append(NAMES["nonzero"](k.reshape(1))[:, 0])
                    d += 1
                    continue
                for column in NAMES["nonzero"](k).unbind(1):
                    advanced.append(column)
                    d += 1
            else:
                advanced.append(k)
                d += 1
    return t, advanced


def _as_index(k: Any) -> Tensor:
    if isinstance(k, (list, tuple, range)):
        k = NAMES["tensor"](list(k))
        if k.numel() == 0:
            k = k.long()
    elif isinstance(k, np.ndarray):
        k = NAMES["from_numpy"](k)
    elif not isinstance(k, Tensor):
        raise (TypeError if isinstance(k, str) else IndexError)(
            f"only integers, slices (`:`), ellipsis (`...`), None and long or byte "
            f"Variables are valid indices (got {type(k).__name__})"
        )
    if k.dtype.category >= 2:
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if k.dtype is dtypes.uint8:
        k = k != 0
    return k


def _wrap_negative(index: Tensor, n: int) -> Tensor:
    index = index.long()
    return select_where(index < 0, index + n, index)


def _advanced(t: Tensor, advanced: list[Any]) -> tuple[Tensor, list[Tensor], Fault, int]:
    """Index tensors broadcast together and their dimensions moved to the front.

    -> (permuted tensor, indices, what a wrong index raises, place of the index dimensions)
    """
    dims = [d for d, k in enumerate(advanced) if k is not None]
    try:
        shape = broadcast_shapes(*(advanced[d]._shape for d in dims))
    except RuntimeError:
        shapes = ", ".join(str(list(advanced[d].shape)) for d in dims)
        raise IndexError(
            f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}"
        ) from None
    indices = [
        expand_to(advanced[d], shape) if advanced[d]._shape != shape else advanced[d] for d in dims
    ]
    rest = [d for d in range(t.ndim) if d not in dims]
    moved = permute_dims(t, tuple(dims + rest)) if dims + rest != list(range(t.ndim)) else t
    adjacent = dims == list(range(dims[0], dims[-1] + 1))
    place = dims[0] if adjacent else 0
    return moved, indices, Fault(dims=tuple(dims), wraps=True), place


def getitem(t: Tensor, key: Any) -> Any:
    """`t[key]` with ints, slices, None, Ellipsis, bool masks and integer tensors, as in torch."""
    if overriding.on and (found := ask(getitem, (t, key), {})) is not UNCLAIMED:
        return found
    if _plain_index(key):
        if not t._shape:
            raise IndexError(
                "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or "
                "`tensor.item<T>()` in C++ to convert a 0-dim tensor to a number"
            )
        n = t._shape[0]
        if not -n <= key < n:
            raise IndexError(f"index {key} is out of bounds for dimension 0 with size {n}")
        return select_dim(t, 0, int(key) + n if key < 0 else int(key))
    if type(key) is slice and t._shape:
        n = t._shape[0]
        start, stop, step = _bounds(key, n)
        whole = (start, stop, step) == (0, n, 1)
        return view_as_shape(t, t._shape) if whole else slice_dim(t, 0, start, stop, step)
    view, advanced = _basic(t, _expand_key(t, key))
    if all(k is None for k in advanced):
        return view if view is not t else view_as_shape(t, t._shape)
    moved, indices, fault, place = _advanced(view, advanced)
    out = _index(moved, fault, *indices)
    k = indices[0].ndim
    if place:
        order = (*range(k, k + place), *range(k), *range(k + place, out.ndim))
        out = permute_dims(out, order)
    return out


def setitem(t: Tensor, key: Any, value: Any) -> None:
    """`t[key] = value`: writes through views; integer tensors scatter (the last write wins)."""
    if overriding.on and ask(setitem, (t, key, value), {}) is not UNCLAIMED:
        return
    if not isinstance(value, Tensor):
        value = (
            NAMES["tensor"](value, dtype=t.dtype)
            if not isinstance(value, (bool, int, float))
            else NAMES["full"]((), value, dtype=t.dtype, device=t.device)
        )
    if isinstance(key, Tensor) and key.dtype is dtypes.bool and value.numel() == 1:
        check_writable(t)
        if key._shape != t._shape[: key.ndim]:
            raise IndexError(
                f"The shape of the mask {list(key.shape)} at index 0 does not match "
                f"the shape of the indexed tensor {list(t.shape)} at index 0"
            )
        mask = key.reshape(*key._shape, *(1,) * (t.ndim - key.ndim))
        store(t, select_where(mask, value.reshape(()).to(t.dtype), t.clone()))
        return
    view, advanced = _basic(t, _expand_key(t, key))
    if all(k is None for k in advanced):
        target = view if view is not t else view_as_shape(t, t._shape)
        target.copy_(_trim(value, target._shape))
        return
    moved, indices, fault, place = _advanced(view, advanced)
    _put_into(moved, _from_start(indices, moved), value, "set", place, fault)


def _trim(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Leading size-1 dimensions beyond the target's rank do not count, as in torch."""
    while value.ndim > len(shape) and value._shape[0] == 1:
        value = select_dim(value, 0, 0)
    return value


def _put_into(
    moved: Tensor, indices: list[Tensor], value: Tensor, mode: str, place: int, fault: Fault
) -> None:
    check_writable(moved)
    k = indices[0].ndim
    shape = indices[0]._shape + moved._shape[len(indices) :]
    if place:  # value's dimensions stand as in the result of getting
        full = (
            *moved._shape[len(indices) : len(indices) + place],
            *indices[0]._shape,
            *moved._shape[len(indices) + place :],
        )
        value = _broadcast_value(value, full)
        order = (*range(place, place + k), *range(place), *range(place + k, len(full)))
        value = permute_dims(value, order)
    value = _broadcast_value(value, shape)
    if value.dtype is not moved.dtype:
        value = NAMES["to_dtype"](value, moved.dtype)
    store(moved, put_leading(moved, value, mode, *indices, fault=fault))


def _broadcast_value(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    value = _trim(value, shape)
    if value._shape == shape:
        return value
    try:
        fits = broadcast_shapes(value._shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(value.shape)} cannot be "
            f"broadcast to indexing result of shape {list(shape)}"
        )
    return expand_to(value, shape)


getitem.__name__, setitem.__name__ = "__getitem__", "__setitem__"
setattr(Tensor, "__getitem__", getitem)
setattr(Tensor, "__setitem__", setitem)


# -- named gathers and scatters --------------------------------------------------------------------

#: What torch raises is told apart by the operation, and for some by the tensor's rank.
ALONG = Fault(error=RuntimeError)
LOOKUP = Fault("index out of range in self: " + PLAIN.message)
_INNER = Fault("INDICES element is out of DATA bounds, id={index} axis_dim={size}", RuntimeError)
_COPIED = Fault("index_copy_(): " + PLAIN.message)
_FLAT = Fault(
    "out of range: tried to access index {index} on a tensor of {size} elements.", wraps=True
)


def held(x: Tensor, right: Tensor, fault: Fault) -> Tensor:
    """The tensor itself, where all of its values are right.

    Args:
        right: a bool for each element.
        fault: the error when it runs and one is False, as the element is then looked up where
            there is nothing.
    """
    wrong = to_dtype(right.logical_not(), dtypes.int64)
    return x + index_leading(NAMES["arange"](1, device=x.device), wrong, fault=fault)


def _check_index(index: Any, name: str) -> None:
    if index.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(f"{name}(): Expected dtype int64 for index")


def _grid(shape: tuple[int, ...], dim: int, index: Tensor) -> list[Tensor]:
    """Index tensors that walk `shape`, with `index` along `dim`."""
    grid = []
    for d, n in enumerate(shape):
        if d == dim:
            grid.append(index.long())
        else:
            walk = NAMES["arange"](n, device=index.device)
            grid.append(expand_to(view_as_shape(walk, (n,) + (1,) * (len(shape) - d - 1)), shape))
    return grid


@composite(out="exact apart")
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on; the shape of `index`.

    Raises:
        RuntimeError: index of another rank or dtype, or larger than input outside `dim`.
    """
    if index.numel() == 0:
        return expand_to(NAMES["sum"](input).to(input.dtype), index._shape).clone()
    _check_index(index, "gather")
    if input.ndim == 0 or index.ndim == 0:
        flat = gather(input.reshape(-1), 0, index.reshape(-1))
        return flat.reshape(index._shape)
    _check_rank(input, index, "input")
    d = wrap_dim(dim, input.ndim)
    for i, (a, b) in enumerate(zip(index._shape, input._shape, strict=True)):
        if i != d and a > b:
            raise RuntimeError(
                f"Size does not match at dimension {i} expected index "
                f"{list(index.shape)} to be no larger than self "
                f"{list(input.shape)} apart from dimension {d}"
            )
    return index_leading(input, *_grid(index._shape, d, index), fault=ALONG)


def _check_rank(input: Tensor, index: Tensor, what: str) -> None:
    if index.ndim != input.ndim:
        raise RuntimeError(f"Index tensor must have the same number of dimensions as {what} tensor")


@composite(out="exact")
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` whose input and indices broadcast against each other outside `dim`."""
    if dim is None:
        return gather(input.reshape(-1), 0, indices.reshape(-1))
    if indices.dtype.category != 1:
        raise RuntimeError(
            "torch.take_along_dim(): dtype of indices should be Long but got "
            f"{indices.type()[6:-6]}"
        )
    d = wrap_dim(dim, input.ndim)
    if input.ndim != indices.ndim:
        raise RuntimeError(
            "torch.take_along_dim(): input and indices should have the same number of "
            f"dimensions, but got {input.ndim} dimensions for input, and {indices.ndim} "
            "dimensions for indices"
        )
    indices = _wrap_negative(indices, input._shape[d])
    a, b = list(input._shape), list(indices._shape)
    a[d] = b[d] = 1
    shape = list(broadcast_shapes(tuple(a), tuple(b)))
    x_shape, i_shape = shape[:], shape[:]
    x_shape[d], i_shape[d] = input._shape[d], indices._shape[d]
    return gather(expand_to(input, tuple(x_shape)), d, expand_to(indices, tuple(i_shape)))


@composite(out="exact")
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """Entries of one dimension chosen by a 1-d integer tensor."""
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    _check_index(index, "index_select")
    if input.ndim == 0:
        flat = index.reshape(-1).long()
        return index_leading(input.reshape(1), flat, fault=LOOKUP).reshape(())
    d = wrap_dim(dim, input.ndim)
    flat = index.reshape(-1).long()
    if d == 0:
        return index_leading(input, flat, fault=LOOKUP)
    order = (d, *(i for i in range(input.ndim) if i != d))
    out = index_leading(permute_dims(input, order), flat, fault=_INNER)
    return permute_dims(out, (*range(1, d + 1), 0, *range(d + 1, input.ndim)))


@composite(out="exact apart")
def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened input at integer positions; the shape of `index`."""
    flat = input.reshape(-1)
    return index_leading(flat, _wrap_negative(index, flat._shape[0]), fault=_FLAT)


def _scatter(name: str, input: Tensor, dim: int, index: Tensor, src: Any, mode: str) -> Tensor:
    _check_index(index, name)
    if not isinstance(src, Tensor):
        src = NAMES["full"](index._shape, src, dtype=input.dtype, device=input.device)
    elif src.dtype is not input.dtype:
        raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
    if input.ndim == 0:
        return _scatter(
            name, input.reshape(1), 0, index.reshape(-1), src.reshape(-1), mode
        ).reshape(())
    if index.numel() == 0:
        return NAMES["clone"](input)
    _check_rank(input, index, "self")
    d = wrap_dim(dim, input.ndim)
    for i in range(input.ndim):
        if index._shape[i] > src._shape[i] or (i != d and index._shape[i] > input._shape[i]):
            raise RuntimeError(
                f"Expected index {list(index.shape)} to be no larger than self "
                f"{list(input.shape)} apart from dimension {d} and to be no larger "
                f"size than src {list(src.shape)}"
            )
    for i, n in enumerate(index._shape):
        if src._shape[i] != n:
            src = slice_dim(src, i, 0, n, 1)
    return put_leading(input, src, mode, *_grid(index._shape, d, index), fault=ALONG)


@composite(inplace=True, out="exact")
def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
) -> Tensor:
    """input with src written at out[index[i][j]][j] (dim 0), and so on."""
    given = src if src is not None else value
    if reduce is not None and reduce not in ("add", "multiply"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    mode = {None: "set", "add": "add", "multiply": "mul"}[reduce]
    return _scatter("scatter", input, dim, index, given, mode)


@composite(inplace=True, out="exact")
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """input with src added at out[index[i][j]][j] (dim 0), and so on; deterministic."""
    return _scatter("scatter_add", input, dim, index, src, "add")


@composite(inplace=True, out="exact")
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """input with alpha * source added at the entries of one dimension that index names."""
    fault = ALONG if input.ndim > 1 else LOOKUP
    return _index_op(input, dim, index, source * alpha if alpha != 1 else source, "add", fault)


@composite(inplace=True, out="exact", autocast="promote")
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """input with source written at the entries of one dimension that index names."""
    return _index_op(input, dim, index, source, "set", _COPIED)


@composite(inplace=True)
def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """input with one value at the entries of one dimension that index names."""
    d = wrap_dim(dim, input.ndim)
    given = (
        value.reshape(())
        if isinstance(value, Tensor)
        else NAMES["full"]((), value, dtype=input.dtype, device=input.device)
    )
    if given.dtype is not input.dtype:
        raise RuntimeError(
            f"self ({input.dtype}) and source ({given.dtype}) must have the same scalar type"
        )
    _check_index(index, "index_fill")
    places = index.reshape(-1).long()
    fault = PLAIN._replace(dims=(d,))
    nowhere = NAMES["zeros"](input._shape[d] if input.ndim else 1, dtype=dtypes.bool)
    hit = put_leading(nowhere, NAMES["ones_like"](places, dtype=dtypes.bool), "set", places,
                      fault=fault)  # fmt: skip
    hit = hit.reshape(-1, *(1,) * (input.ndim - 1 - d)) if input.ndim else hit.reshape(())
    return select_where(hit, given, input)


def _index_op(
    input: Tensor, dim: int, index: Tensor, source: Tensor, mode: str, fault: Fault
) -> Tensor:
    d = wrap_dim(dim, input.ndim)
    fault = fault._replace(dims=(d,))
    _check_index(index, "index_" + mode)
    if source.dtype is not input.dtype:
        raise RuntimeError(
            f"self ({input.dtype}) and source ({source.dtype}) must have the same scalar type"
        )
    flat = index.reshape(-1).long()
    if input.ndim == 0:
        found = put_leading(input.reshape(1), source.reshape(1), mode, flat, fault=fault)
        return found.reshape(())
    wanted = (*input._shape[:d], flat._shape[0], *input._shape[d + 1 :])
    if source._shape != wanted:
        raise RuntimeError(
            f"source tensor shape must match self tensor shape, excluding the "
            f"specified dimension. Got self.shape = {list(input.shape)} "
            f"source.shape = {list(source.shape)}"
        )
    if d == 0:
        return put_leading(input, source, mode, flat, fault=fault)
    order = (d, *(i for i in range(input.ndim) if i != d))
    inverse = tuple(sorted(range(input.ndim), key=order.__getitem__))
    base = permute_dims(input, order).contiguous()
    out = put_leading(base, permute_dims(source, order), mode, flat, fault=fault)
    return permute_dims(out, inverse).contiguous()


@composite(inplace=True)
def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """input with values put (or added) at a tuple of index tensors; None keeps a dimension."""
    key = [slice(None) if k is None else k for k in indices]
    view, advanced = _basic(input, _expand_key(input, tuple(key)))
    moved, tensors, fault, place = _advanced(view, advanced)
    tensors = _from_start(tensors, moved)
    if place or moved is not input:
        out = NAMES["clone"](input)
        view, advanced = _basic(out, _expand_key(out, tuple(key)))
        moved, _, fault, place = _advanced(view, advanced)
        _put_into(moved, tensors, values, "add" if accumulate else "set", place, fault)
        return out
    shape = tensors[0]._shape + input._shape[len(tensors) :]
    if values.dtype is not input.dtype:
        raise RuntimeError(
            f"Index put requires the source and destination dtypes match, got "
            f"{input.dtype} for the destination and {values.dtype} for the source."
        )
    mode = "add" if accumulate else "set"
    return put_leading(input, _broadcast_value(values, shape), mode, *tensors, fault=fault)


@composite(inplace=True)
@called("MaskedFill")
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """input with one value where the mask holds."""
    if mask.dtype is not dtypes.bool:
        raise RuntimeError(
            f"masked_fill only supports boolean masks, but got mask with dtype {mask.dtype}"
        )
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(
                "masked_fill only supports a 0-dimensional value tensor, but got "
                f"tensor with {value.ndim} dimension(s)."
            )
        value = value.to(input.dtype)
    elif isinstance(value, complex) and not input.dtype.is_complex:
        word = input.dtype.word.lower()
        raise RuntimeError(f"value cannot be converted to type {word} without overflow")
    elif input.dtype.category < 2:
        value = int(value) if input.dtype.category else bool(value)
    return select_where(mask, value, input)


@composite(method=False, public=False)
def combine_leading(input: Tensor, value: Tensor, mode: str, *indices: Tensor) -> Tensor:
    """`put_leading` by "mul", "max" or "min", whose derivatives read the values."""
    return put_leading(input, value, mode, *indices, fault=ALONG)


def _combine_vjp(g: Any, out: Any, x: Any, value: Any, mode: str, *indices: Any) -> tuple[Any, ...]:
    """Equal extremes share the cotangent; beside a single factor 0 only that has a derivative."""
    rest = (None, *(None for _ in indices))
    if mode != "mul":
        own, hit = x == out, value == index_leading(out, *indices)
        count = put_leading(own.to(g.dtype), hit.to(g.dtype), "add", *indices)
        share = g / select_where(count == 0, 1.0, count)
        return (select_where(own, share, 0.0),
                select_where(hit, index_leading(share, *indices), 0.0), *rest)  # fmt: skip
    one = select_where(x == 0, 1.0, x)
    g_x = g * combine_leading(one, value, "mul", *indices) / one
    zero = value == 0
    zeros = put_leading(NAMES["zeros_like"](x), zero.to(x.dtype), "add", *indices)
    alone = zero & (index_leading(zeros, *indices) == 1)
    others = combine_leading(x, select_where(alone, 1.0, value), "mul", *indices)
    whole = index_leading(g * out, *indices) / select_where(zero, 1.0, value)
    return g_x, select_where(alone, index_leading(g * others, *indices), whole), *rest


combine_leading.vjp(_combine_vjp, saves="input value out indices")


def element_count(shape: tuple[int, ...]) -> int:
    """Number of elements of a shape."""
    return math.prod(shape)
