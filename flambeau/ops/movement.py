"""Movement: views, and the writes that their transposes are.

A view row computes (shape, strides, offset) over the storage; nothing is recorded until it is read.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from flambeau import overriding, record
from flambeau.ir.graph import ASSIGN, VIEW, Node
from flambeau.ir.symbol import symbolic
from flambeau.ops.entries import attach
from flambeau.ops.rows import NAMES, ROWS, new_row
from flambeau.ops.table import _finish, composite, emit, primitive, record_view, view
from flambeau.overriding import UNCLAIMED, ask, overridable
from flambeau.size import (
    Size,
    broadcast_shapes,
    contiguous_strides,
    no_negative,
    shape_of,
    view_strides,
    wrap_dim,
    wrap_dims,
)
from flambeau.tensor import REBUILD, Tensor, over

VIEW.reference = None
for _op in (VIEW, ASSIGN):
    ROWS[_op.name] = _op
VIEW.doc = "A value's row-major storage read by other strides."
ASSIGN.doc = "A value with a region of its row-major storage overwritten."
VIEW.jvp = ASSIGN.jvp = "linear"
ASSIGN.parameters = ("base", "value")


# -- storage-level derivative of views and writes --------------------------------------------------


def _storage_view(
    storage: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> Tensor:
    """Read a flat tensor by strides, differentiably."""
    return as_strided(storage, shape, strides, offset)


def _scatter_storage(g: Tensor, strides: tuple[int, ...], offset: int, numel: int) -> Tensor:
    """A flat tensor of `numel` zeros with g added at the places that strides name."""
    zeros = NAMES["zeros"]((numel,), dtype=g.dtype, device=g.device)
    if _overlaps(g._shape, strides):
        places = _places(g._shape, strides, offset, g.device)
        return NAMES["index_put"](zeros, (places.reshape(-1),), g.reshape(-1), accumulate=True)
    return write_region(zeros, g, g._shape, strides, offset)


def _places(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, device: Any) -> Tensor:
    places = NAMES["arange"](math.prod(shape), device=device)
    total = None
    rest = places
    for n, s in zip(reversed(shape), reversed(strides), strict=True):
        part = rest % n * s if n else rest
        rest = rest // n if n else rest
        total = part if total is None else total + part
    return (places * 0 if total is None else total) + offset


def _overlaps(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether two elements may share a place (sizes and strides do not nest)."""
    reach = 0
    for s, n in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if s <= reach:
            return True
        reach += s * (n - 1)
    return False


def _whole(g: Tensor) -> Tensor:
    """A cotangent that is all of its storage in row-major order, so that strides may read it."""
    plain = g._map is None or (g.storage_offset() == 0 and g.is_contiguous())
    return g if plain else NAMES["clone"](g)


@primitive("assign")
def assign_region(
    row: Any, base: Tensor, value: Tensor, shape: Any, strides: Any, offset: int
) -> Tensor:
    """base (row-major) with the elements at (shape, strides, offset) replaced by value."""
    return emit(ASSIGN, (base, value), (shape, strides, offset), base._shape, base.dtype)


assign_region.vjp(
    lambda g, out, base, value, shape, strides, offset: (
        assign_region(
            g.contiguous(),
            NAMES["zeros"](shape, dtype=g.dtype, device=g.device),
            shape,
            strides,
            offset,
        ),
        as_strided(_whole(g), shape, strides, offset),
        None,
        None,
        None,
    )
)


def write_region(
    base: Tensor, value: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> Tensor:
    """As `assign_region`, for a base that may be a view (made contiguous first)."""
    return assign_region(base.contiguous(), value, shape, strides, offset)


def _assign_vjp(g: Any, out: Any, base: Any, value: Any, *, geometry: Any) -> tuple[Any, Any]:
    """Cotangents of an in-place write: zero where it was overwritten, the rest passes."""
    shape, strides, offset, base_strides, base_offset, numel = geometry
    plain = (
        base_offset == 0
        and base_strides == contiguous_strides(base.shape)
        and math.prod(base.shape) == numel
    )
    storage = _whole(g) if plain else _scatter_storage(g, base_strides, base_offset, numel)
    g_value = as_strided(storage, shape, strides, offset)
    zeros = NAMES["zeros"](shape, dtype=g.dtype, device=g.device)
    g_base = assign_region(storage, zeros, shape, strides, offset)
    if not plain:
        g_base = as_strided(g_base, base.shape, base_strides, base_offset)
    return g_base, g_value


ASSIGN.vjp = _assign_vjp


# -- views -----------------------------------------------------------------------------------------


def _strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
    """The storage of `input` read with the given size, strides and offset (in elements)."""
    size, stride = no_negative(tuple(size)), tuple(stride)
    offset = input.storage_offset() if storage_offset is None else storage_offset
    if len(size) != len(stride):
        raise RuntimeError(
            f"mismatch in length of strides and shape: got {len(stride)} strides "
            f"for {len(size)} sizes"
        )
    if any(s < 0 for s in stride):
        raise RuntimeError(
            f"as_strided: Negative strides are not supported at the moment, got "
            f"strides: {list(stride)}"
        )
    reach = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) + 1
    if offset < 0 or (0 not in size and reach > input._storage_numel):
        item = input.dtype.itemsize
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage "
            f"offset {offset}, and itemsize {item} requiring a storage size of "
            f"{reach * item} are out of bounds for storage of size "
            f"{input._cell.node.nbytes}"
        )
    return size, stride, offset


_AS_STRIDED = new_row("as_strided", "view", _strided, jvp="linear")


@overridable
def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """The storage of `input` read with the given size, strides and offset (in elements).

    Raises:
        RuntimeError: the result would reach outside the storage, or negative strides.
    """
    shape, strides, offset = _strided(input, size, stride, storage_offset)
    found = record_view(_AS_STRIDED, input, (shape, strides, offset), shape, strides, offset)
    if found._grad_fn is not None:
        found._grad_fn.args[0].geometry = (
            input._strides,
            input.storage_offset(),
            input._storage_numel,
        )
    return found


def _as_strided_vjp(
    g: Any, out: Any, input: Any, size: Any, stride: Any, offset: Any = None
) -> tuple[Any, ...]:
    base_strides, base_offset, numel = input.geometry
    storage = _scatter_storage(g, tuple(stride), base_offset if offset is None else offset, numel)
    return (as_strided(storage, input.shape, base_strides, base_offset), None, None, None)


_AS_STRIDED.vjp = _as_strided_vjp
_finish(_AS_STRIDED, as_strided, as_strided, inplace="view")


@view(public=False, method=False)
def permute_dims(input: Tensor, dims: tuple[int, ...]) -> Any:
    """The dimensions in another order."""
    strides = input._strides
    shape = input._shape
    return (tuple(shape[d] for d in dims), tuple(strides[d] for d in dims), input.storage_offset())


permute_dims.vjp(
    lambda g, out, x, dims: (
        permute_dims(g, tuple(sorted(range(len(dims)), key=dims.__getitem__))),
        None,
    )
)


@view(public=False, method=False)
def expand_to(input: Tensor, shape: tuple[int, ...]) -> Any:
    """Size-1 and new leading dimensions repeated without a copy."""
    strides = [0] * len(shape)
    lead = len(shape) - input.ndim
    old = input._strides
    for i, n in enumerate(input._shape):
        strides[lead + i] = old[i] if n == shape[lead + i] else 0
    return shape, tuple(strides), input.storage_offset()


expand_to.vjp(lambda g, out, x, shape: (sum_to(g, x.shape), None))


@view(public=False, method=False)
def view_as_shape(input: Tensor, shape: tuple[int, ...]) -> Any:
    """The same elements under another shape; strides must allow it."""
    strides = _strides_as(input, shape)
    if strides is None:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at "
            "least one dimension spans across two contiguous subspaces). Use "
            ".reshape(...) instead."
        )
    return shape, strides, input.storage_offset()


view_as_shape.vjp(lambda g, out, x, shape: (g.reshape(tuple(x.shape)), None))


def _strides_as(input: Tensor, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides that show the same elements under another shape, or None where there are none."""
    if input._map is None and math.prod(shape) == input.numel():  # which asks nothing of sizes
        return contiguous_strides(shape)
    return view_strides(input._shape, input._strides, shape)


def slice_bounds(start: Any, stop: Any, step: Any, n: int) -> tuple[int, int, int]:
    """What `slice(start, stop, step).indices(n)` is, for symbolic sizes too.

    Raises:
        ValueError: a step of 0.
        TypeError: a bound that is no integer.
    """
    if not any(map(symbolic, (start, stop, step, n))):
        return slice(start, stop, step).indices(n)
    step = 1 if step is None else step
    low, high = (0, n) if step > 0 else (-1, n - 1)

    def bound(k: Any, default: int) -> int:
        if k is None:
            return default
        k = k + n if k < 0 else k
        return low if k < low else high if k > high else k

    return bound(start, low if step > 0 else high), bound(stop, high if step > 0 else low), step


@view(public=False, method=False)
def slice_dim(input: Tensor, dim: int, start: int, stop: int, step: int) -> Any:
    """Elements start, start + step, .. below stop of one dimension (bounds already clipped)."""
    n = max(0, -(-(stop - start) // step))
    shape = list(input._shape)
    strides = list(input._strides)
    offset = input.storage_offset() + (start * strides[dim] if n else 0)
    shape[dim] = n
    strides[dim] *= step
    return tuple(shape), tuple(strides), offset


slice_dim.vjp(
    lambda g, out, x, dim, start, stop, step: (
        pad_slice(g, tuple(x.shape), dim, start, step),
        None,
        None,
        None,
        None,
    )
)


def pad_slice(g: Tensor, shape: tuple[int, ...], dim: int, start: int, step: int) -> Tensor:
    """Zeros of `shape` with g at the slice: the transpose of slicing."""
    strides = list(contiguous_strides(shape))
    offset = start * strides[dim]
    strides[dim] *= step
    zeros = NAMES["zeros"](shape, dtype=g.dtype, device=g.device)
    return assign_region(zeros, g, tuple(g.shape), tuple(strides), offset)


@view(public=False, method=False)
def select_dim(input: Tensor, dim: int, index: int) -> Any:
    """One index of one dimension, which disappears."""
    shape, strides = input._shape, input._strides
    return (
        shape[:dim] + shape[dim + 1 :],
        strides[:dim] + strides[dim + 1 :],
        input.storage_offset() + index * strides[dim],
    )


def _select_vjp(g: Any, out: Any, x: Any, dim: int, index: int) -> tuple[Any, ...]:
    return pad_slice(unsqueeze(g, dim), tuple(x.shape), dim, index, 1), None, None


select_dim.vjp(_select_vjp)


@view(public=False, method=False)
def diagonal_of(input: Tensor, offset: int, dim1: int, dim2: int) -> Any:
    """The diagonal of two dimensions as a new last dimension."""
    shape, strides = input._shape, input._strides
    n = min(shape[dim1] + min(offset, 0), shape[dim2] - max(offset, 0))
    n = max(n, 0)
    start = input.storage_offset()
    if n:
        start += strides[dim2] * offset if offset >= 0 else -offset * strides[dim1]
    rest = [d for d in range(len(shape)) if d not in (dim1, dim2)]
    return (
        tuple(shape[d] for d in rest) + (n,),
        tuple(strides[d] for d in rest) + (strides[dim1] + strides[dim2],),
        start,
    )


def _replayed(row: Any) -> None:
    body = row.row.body

    def rule(g: Any, out: Any, x: Any, *args: Any) -> tuple[Any, ...]:
        plain = over(
            record.Cell(Node(VIEW, (), (), tuple(x.shape), g.dtype), g.device),
            tuple(x.shape),
            g.dtype,
        )
        _, strides, offset = body(plain, *args)
        flat = _scatter_storage(g, strides, offset, math.prod(x.shape))
        return (flat.reshape(tuple(x.shape)), *(None for _ in args))

    row.vjp(rule)


_replayed(diagonal_of)


@view(public=False, method=False)
def unfold_dim(input: Tensor, dim: int, size: int, step: int) -> Any:
    """Windows of `size` every `step` along a dimension, as a new last dimension."""
    shape, strides = list(input._shape), list(input._strides)
    count = (shape[dim] - size) // step + 1
    step_stride = strides[dim]
    shape[dim] = count
    strides[dim] = step_stride * step
    return (*shape, size), (*strides, step_stride), input.storage_offset()


_replayed(unfold_dim)


@view(public=False, method=False)
def flip_dims(input: Tensor, dims: tuple[int, ...]) -> Any:
    """Dimensions read backwards (a view inside the recorder only; `flip` copies, as torch's)."""
    strides = list(input._strides)
    offset = input.storage_offset()
    for d in dims:
        offset += max(input._shape[d] - 1, 0) * strides[d]
        strides[d] = -strides[d]
    return input._shape, tuple(strides), offset


def _flip_vjp(g: Any, out: Any, x: Any, dims: tuple[int, ...]) -> tuple[Any, ...]:
    return flip(g, dims), None


flip_dims.vjp(_flip_vjp)


# -- public views ----------------------------------------------------------------------------------


@composite(aliases=("view_copy",))
def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in row-major order under another shape; a view where strides allow.

    Args:
        shape: sizes; one of them may be -1.
    """
    sizes = infer_size(shape_of(shape), input.numel())
    if _strides_as(input, sizes) is None:
        input = NAMES["clone"](input)
    return view_as_shape(input, sizes)


@lru_cache(maxsize=8192)
def infer_size(sizes: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """Sizes with -1 filled in; RuntimeError when they do not hold `numel` elements."""
    if -1 in sizes:
        known = math.prod(n for n in sizes if n != -1)
        if sizes.count(-1) > 1:
            raise RuntimeError("only one dimension can be inferred")
        if known == 0:
            raise RuntimeError(
                f"cannot reshape tensor of {numel} elements into shape "
                f"{list(sizes)} because the unspecified dimension size -1 can be "
                "any value and is ambiguous"
            )
        if numel % known:
            raise RuntimeError(f"shape '{list(sizes)}' is invalid for input of size {numel}")
        sizes = tuple(numel // known if n == -1 else n for n in sizes)
    elif any(n < 0 for n in sizes):
        raise RuntimeError(f"invalid shape dimension {min(sizes)}")
    if math.prod(sizes) != numel:
        raise RuntimeError(f"shape '{list(sizes)}' is invalid for input of size {numel}")
    return sizes


def _view_method(self: Tensor, *shape: Any, dtype: Any = None) -> Any:
    """The same memory under another shape (or, given a dtype, its bits as that dtype)."""
    given = shape if dtype is None else (*shape, dtype)
    if overriding.on and (found := ask(_view_method, (self, *given), {})) is not UNCLAIMED:
        return found
    target = dtype if dtype is not None else shape[0] if len(shape) == 1 else None
    if target is not None and not isinstance(target, (int, tuple, list, Tensor)):
        return NAMES["view_dtype"](self, target)
    return view_as_shape(self, infer_size(shape_of(shape), self.numel()))


_view_method.__name__ = "view"
setattr(Tensor, "view", _view_method)


@composite()
def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dimensions in the order given."""
    order = shape_of(dims)
    if len(order) != input.ndim:
        raise RuntimeError(
            f"permute(sparse_coo): number of dimensions in the tensor input does "
            f"not match the length of the desired ordering of dimensions i.e. "
            f"input.dim() = {input.ndim} is not equal to len(dims) = {len(order)}"
        )
    wrapped = tuple(wrap_dim(d, input.ndim) for d in order)
    if len(set(wrapped)) != len(wrapped):
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return permute_dims(input, wrapped)


permute_dims.row.shown = lambda *_: permute


@composite(inplace="view", aliases=("swapaxes", "swapdims"))
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    a, b = wrap_dim(dim0, input.ndim), wrap_dim(dim1, input.ndim)
    order = list(range(input.ndim))
    if input.ndim:
        order[a], order[b] = order[b], order[a]
    return permute_dims(input, tuple(order))


@composite(inplace="view")
def t(input: Tensor) -> Tensor:
    """Matrix transpose; 0-d and 1-d tensors as they are."""
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return permute_dims(input, tuple(reversed(range(input.ndim))))


setattr(Tensor, "T", property(lambda self: permute_dims(self, tuple(reversed(range(self.ndim))))))


def _matrices_transposed(self: Tensor) -> Tensor:
    """Transposes of the matrices in the last two dimensions; a 0-d tensor as it is."""
    if self.ndim == 1:
        raise RuntimeError(
            "tensor.mT is only supported on matrices or batches of matrices. Got 1-D tensor."
        )
    return transpose(self, -2, -1) if self.ndim else self


setattr(Tensor, "mT", property(_matrices_transposed))


@composite(aliases=("moveaxis",))
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dimensions moved to new positions, the others kept in order."""
    src = wrap_dims(source, input.ndim)
    dst = wrap_dims(destination, input.ndim)
    if len(src) != len(dst):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({list(src)} dims)"
            f" should contain the same number of dims as destination ({list(dst)} "
            "dims)"
        )
    order = [-1] * input.ndim
    for s, d in zip(src, dst, strict=True):
        order[d] = s
    rest = iter(d for d in range(input.ndim) if d not in src)
    return permute_dims(input, tuple(next(rest) if o < 0 else o for o in order))


@composite()
def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Size-1 dimensions repeated without a copy; -1 keeps a size."""
    wanted = shape_of(sizes)
    lead = len(wanted) - input.ndim
    if lead < 0:
        raise RuntimeError(
            f"expand({input.type()}{{{list(input.shape)}}}, size={list(wanted)}): "
            f"the number of sizes provided ({len(wanted)}) must be greater or equal "
            f"to the number of dimensions in the tensor ({input.ndim})"
        )
    shape = []
    for i, n in enumerate(wanted):
        old = input._shape[i - lead] if i >= lead else None
        if n == -1:
            if old is None:
                raise RuntimeError(
                    f"expand({input.type()}{{{list(input.shape)}}}, size="
                    f"{list(wanted)}): the expanded size of the tensor (-1) isn't "
                    f"allowed in a leading, non-existing dimension {i}"
                )
            n = old
        elif old is not None and old not in (1, n):
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing "
                f"size ({old}) at non-singleton dimension {i}.  Target sizes: "
                f"{list(wanted)}.  Tensor sizes: {list(input.shape)}"
            )
        shape.append(n)
    return expand_to(input, tuple(shape))


@composite(public=False)
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """`expand` to the shape of another tensor."""
    return expand(input, *other._shape)


@composite()
def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """`expand` to a shape."""
    return expand(input, *size)


@composite(method=False)
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All tensors expanded to their common shape."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    shape = broadcast_shapes(*(x._shape for x in tensors))
    return tuple(expand_to(x, shape) for x in tensors)


def _public_shapes(*shapes: Any) -> Size:
    """The shape that shapes (or sizes) broadcast to."""
    given = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    return Size(broadcast_shapes(*given))


NAMES["broadcast_shapes"] = _public_shapes


@composite(inplace="view")
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A dimension of size 1 inserted at `dim`."""
    d = wrap_dim(dim, input.ndim + 1)
    shape = input._shape[:d] + (1,) + input._shape[d:]
    return view_as_shape(input, shape)


@composite(inplace="view")
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Dimensions of size 1 removed: all of them, or those of `dim` (int or tuple)."""
    dims = wrap_dims(dim, input.ndim)
    shape = tuple(n for i, n in enumerate(input._shape) if not (n == 1 and i in dims))
    return view_as_shape(input, shape)


@composite()
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim..end_dim merged into one."""
    a, b = wrap_dim(start_dim, input.ndim), wrap_dim(end_dim, input.ndim)
    if a > b:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if input.ndim == 0:
        return reshape(input, 1)
    if a == b:
        return input
    merged = math.prod(input._shape[a : b + 1])
    return reshape(input, *input._shape[:a], merged, *input._shape[b + 1 :])


@composite()
def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """One dimension split into several; one size may be -1."""
    if input.ndim == 0:
        raise RuntimeError("unflatten expects at least a 1-dimensional tensor")
    d = wrap_dim(dim, input.ndim)
    split_sizes = infer_size(tuple(sizes), input._shape[d])
    return view_as_shape(input, input._shape[:d] + split_sizes + input._shape[d + 1 :])


@composite()
def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
    return reshape(input, -1)


@composite(public=False)
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """`view` with the shape of another tensor."""
    return view_as_shape(input, infer_size(other._shape, input.numel()))


@composite(public=False)
def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """`reshape` to the shape of another tensor."""
    return reshape(input, *other._shape)


@composite()
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """Elements start .. start + length of one dimension."""
    if input.ndim == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    if isinstance(start, Tensor) and (start.ndim or start.dtype.category != 1):
        raise RuntimeError("start must be an 0-dim integral Tensor.")
    d = wrap_dim(dim, input.ndim)
    n = input._shape[d]
    start = int(start)
    if not -n <= start <= n:
        raise IndexError(
            f"start out of range (expected to be in range of [{-n}, {n}], but got {start})"
        )
    start = start + n if start < 0 else start
    if length < 0 or start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return slice_dim(input, d, start, start + length, 1)


@composite()
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One index of one dimension, which disappears."""
    if input.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, input.ndim)
    n = input._shape[d]
    index = int(index)
    if not -n <= index < n:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size "
            f"{list(input.shape)} at dimension {d}"
        )
    return select_dim(input, d, index + n if index < 0 else index)


@composite()
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A view of the diagonal of two dimensions, as the last dimension."""
    a, b = wrap_dim(dim1, input.ndim), wrap_dim(dim2, input.ndim)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return diagonal_of(input, offset, a, b)


@composite(public=False)
def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` every `step` along a dimension, as a new last dimension (a view)."""
    if input.ndim == 0:
        if size > 1:
            raise RuntimeError(f"maximum size for tensor at dimension 0 is 1 but size is {size}")
        return (
            view_as_shape(input, (1,))
            if size == 1
            else slice_dim(view_as_shape(input, (1,)), 0, 0, 0, 1)
        )
    d = wrap_dim(dimension, input.ndim)
    if size > input._shape[d]:
        raise RuntimeError(
            f"maximum size for tensor at dimension {d} is {input._shape[d]} but size is {size}"
        )
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    return unfold_dim(input, d, size, step)


# -- copies, and the transposes of views -----------------------------------------------------------


@composite()
def flip(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    """A copy with dimensions in reverse order."""
    return NAMES["clone"](
        flip_dims(input, wrap_dims(shape_of(args if dims is None else (dims,)), input.ndim))
    )


@composite(aliases=("clone_contiguous",))
def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if it is row-major, else a copy that is."""
    return input if input._map is None or input.is_contiguous() else NAMES["clone"](input)


def sum_to(g: Tensor, shape: Any) -> Tensor:
    """g summed over the dimensions that broadcasting from `shape` added: its transpose."""
    shape = tuple(shape)
    if g._shape == shape:
        return g
    lead = g.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        lead + i for i, n in enumerate(shape) if n == 1 and g._shape[lead + i] != 1
    )
    if axes:
        g = NAMES["sum"](g, axes)
    return g if g._shape == shape else view_as_shape(g, shape)


@composite()
def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Summed over dimensions so that the result has `size`, from which input's shape broadcasts.

    Raises:
        RuntimeError: input's shape is none that `size` broadcasts to.
    """
    shape = shape_of(size)
    lead = input.ndim - len(shape)
    fits = zip(shape, input._shape[max(lead, 0) :], strict=False)
    if lead < 0 or any(a not in (1, b) for a, b in fits):
        raise RuntimeError(
            f"size {{{list(shape)}}} is not expandable to size {{{list(input._shape)}}}."
        )
    if shape and shape == input._shape:
        return NAMES["clone"](input)
    found = sum_to(input.long() if input.dtype.category < 2 else input, shape)
    return NAMES["clone"](found) if found is input else found


def _rebuild_history(v: Tensor) -> None:
    base = v._base
    spec_geometry = (base._strides, base.storage_offset(), v._storage_numel)
    plain = over(v._cell, v._shape, v.dtype, v._map)
    attach(_AS_STRIDED, (base, v._shape, v._strides, v.storage_offset()), {}, (plain,))
    entry = plain._grad_fn
    assert entry is not None
    entry.args[0].geometry = spec_geometry
    v._grad_fn, v._output_nr, v._rg = entry, 0, True


REBUILD[0] = _rebuild_history
