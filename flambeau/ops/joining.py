"""Taking tensors apart along a dimension and joining them.

Sections are views. Joining is `assign`s into fresh memory, which the compiler turns into plain
copies; each is the other's derivative.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from flambeau.dtype import int64
from flambeau.ir.graph import ASSIGN, EMPTY, VIEW, Node
from flambeau.ops.entries import attach, tracks
from flambeau.ops.movement import select_dim, slice_dim, unsqueeze, view_as_shape
from flambeau.ops.rows import NAMES, ROWS
from flambeau.ops.table import composite
from flambeau.size import Size, contiguous_strides, no_negative, wrap_dim
from flambeau.size import broadcast_shapes as common_shape
from flambeau.tensor import Tensor, make, over

# -- several views of one tensor -------------------------------------------------------------------

_SPLIT = type(VIEW)("split_sections", "view")
_SPLIT.parameters = ("input", "sizes", "dim")
_SPLIT.jvp = "linear"
_SPLIT.doc = "Consecutive sections of one dimension, as views."
ROWS["split_sections"] = _SPLIT


def _split_vjp(gs: Any, outs: Any, x: Any, sizes: Any, dim: int) -> tuple[Any, ...]:
    if len(sizes) == 1:
        return gs, None, None
    like = next(g for g in gs if g is not None)
    parts = []
    for g, n in zip(gs, sizes, strict=True):
        if g is None:
            shape = (*x.shape[:dim], n, *x.shape[dim + 1 :])
            g = NAMES["zeros"](shape, dtype=like.dtype, device=like.device)
        parts.append(g)
    return cat(parts, dim), None, None


_SPLIT.vjp = _split_vjp


def _sections(
    input: Tensor, sizes: Sequence[int], dim: int, squeezed: bool = False
) -> tuple[Tensor, ...]:
    """Views of consecutive sections; one tape entry for all, whose vjp is one `cat`."""
    from_tape = tracks((input,))
    outs = []
    start = 0
    plain = over(input._cell, input._shape, input.dtype, input._map)
    for n in sizes:
        out = slice_dim(plain, dim, start, start + n, 1)
        out._base = input if input._base is None else input._base
        out._seen_generation = out._base._generation
        outs.append(out)
        start += n
    if from_tape and outs:
        attach(_SPLIT, (input, tuple(sizes), dim), {}, tuple(outs))
    for out in outs:
        out._multi_view = True
    return tuple(outs)


@composite(method=False)
def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of these shapes broadcast to; an int is a shape of one dimension.

    Raises:
        RuntimeError: shapes that do not fit.
    """
    given = [no_negative((s,) if isinstance(s, int) else tuple(s)) for s in shapes]
    return Size(common_shape(*given))


@composite()
def split(input: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive sections: of one size (the last may be smaller), or of given sizes."""
    if input.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = wrap_dim(dim, input.ndim)
    n = input._shape[d]
    if isinstance(split_size_or_sections, (int, np.integer)):
        size = int(split_size_or_sections)
        if size < 0 or (size == 0 and n):
            raise RuntimeError(
                f"split expects split_size be non-negative, but got split_size={size}"
            )
        sizes = [size] * (n // size) + ([n % size] if n % size else []) if n else [0]
    else:
        sizes = [int(s) for s in split_size_or_sections]
        if sum(sizes) != n:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {n} "
                f"(input tensor's size at dimension {d}), but got split_sizes="
                f"{sizes}"
            )
    return _sections(input, sizes, d)


@composite()
def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive sections of the given sizes."""
    return split(input, list(split_sizes), dim)


@composite()
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of equal size (the last may be smaller)."""
    if input.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    d = wrap_dim(dim, input.ndim)
    return split(input, max(-(-input._shape[d] // chunks), 1), d)


@composite()
def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views split at indices, or into a number of nearly equal sections."""
    if input.ndim == 0:
        raise RuntimeError(
            "tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims"
        )
    d = wrap_dim(dim, input.ndim)
    n = input._shape[d]
    if isinstance(indices_or_sections, Tensor):
        if indices_or_sections.ndim > 1 or indices_or_sections.dtype is not int64:
            raise RuntimeError(
                "tensor_split expected tensor_indices_or_sections to be a zero-dimensional or "
                f"one-dimensional int64 tensor, but got {indices_or_sections.ndim} dims of "
                f"{indices_or_sections.dtype}"
            )
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        k = indices_or_sections
        if k <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {k}")
        return _sections(input, [n // k + (i < n % k) for i in range(k)], d)
    bounds = [0, *(min(max(i + n if i < 0 else i, 0), n) for i in indices_or_sections), n]
    return tuple(slice_dim(input, d, a, max(a, b), 1) for a, b in itertools.pairwise(bounds))


@composite()
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Every index of one dimension, as views."""
    if input.ndim == 0:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    d = wrap_dim(dim, input.ndim)
    found = tuple(
        view_as_shape(s, s._shape[:d] + s._shape[d + 1 :])
        for s in _sections(input, [1] * input._shape[d], d)
    )
    for f in found:
        f._multi_view = True
    return found


# -- joining ---------------------------------------------------------------------------------------


@composite(keep=True, method=False, public=False)
def join(dim: int, *tensors: Tensor) -> Tensor:
    """Tensors of one dtype laid one after another along a dimension, as writes into new memory."""
    shape, dtype = _joined(dim, *tensors)
    strides = contiguous_strides(shape)
    node = Node(EMPTY, (), (), shape, dtype)
    start = 0
    for x in tensors:
        if x.numel():
            region = (x._shape, strides, start * strides[dim])
            node = Node(ASSIGN, (node, x._node()), region, shape, dtype)
        start += x._shape[dim]
    return make(node, tensors[0]._cell.device)


def _joined(dim: int, *tensors: Tensor) -> list[Any]:
    """Shape and dtype of joined tensors."""
    shape = list(tensors[0]._shape)
    shape[dim] = sum([x._shape[dim] for x in tensors])
    return [tuple(shape), tensors[0].dtype]


def _join_vjp(g: Any, out: Any, dim: int, *tensors: Any) -> tuple[Any, ...]:
    sizes = [x.shape[dim] for x in tensors]
    starts = [0, *itertools.accumulate(sizes)]
    return (None, *(slice_dim(g, dim, a, a + n, 1) for a, n in zip(starts, sizes, strict=False)))


join.results(_joined)
join.vjp(_join_vjp)


@composite(keep=True, method=False, public=False)
def _stack(dim: int, *tensors: Tensor) -> Tensor:
    """Tensors of one shape and dtype joined along a new dimension."""
    found: Tensor = join(dim, *[unsqueeze(x, dim) for x in tensors])
    return found


def _stacked(dim: int, *tensors: Tensor) -> list[Any]:
    """Shape and dtype of stacked tensors."""
    shape = tensors[0]._shape
    return [(*shape[:dim], len(tensors), *shape[dim:]), tensors[0].dtype]


_stack.results(_stacked)
_stack.vjp(
    lambda g, out, dim, *tensors: (None, *(select_dim(g, dim, k) for k in range(len(tensors))))
)
EMPTY.doc = "Memory whose contents are written by what follows."
EMPTY.reference = lambda: 0
EMPTY.differentiable = False
ROWS["empty_memory"] = EMPTY


@composite(method=False, out=True, aliases=("concat", "concatenate"), autocast="promote")
def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors joined along an existing dimension; dtypes are promoted.

    Raises:
        RuntimeError: no tensors, or sizes that differ outside `dim`.
    """
    if isinstance(tensors, Tensor):
        raise TypeError(
            "cat(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor"
        )
    tensors = tuple(tensors)
    if not tensors:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    for i, x in enumerate(tensors):
        if not isinstance(x, Tensor):
            raise TypeError(
                f"expected Tensor as element {i} in argument 0, but got {type(x).__name__}"
            )
        if x.ndim == 0:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    # torch lets empty 1-d tensors pass beside tensors of any rank
    tensors = _promoted(tensors)
    kept = [x for x in tensors if x._shape != (0,)] or [tensors[0]]
    d = wrap_dim(dim, kept[0].ndim)
    first = kept[0]
    for i, x in enumerate(kept):
        if x.ndim != first.ndim:
            raise RuntimeError(
                f"Tensors must have same number of dimensions: got {first.ndim} and {x.ndim}"
            )
        for axis in range(x.ndim) if x._shape != first._shape else ():
            if axis != d and x._shape[axis] != first._shape[axis]:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {d}. Expected "
                    f"size {first._shape[axis]} but got size {x._shape[axis]} for "
                    f"tensor number {i} in the list."
                )
    found: Tensor = join(d, *kept)
    return found


@composite(method=False, out=True, autocast="promote")
def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    if isinstance(tensors, Tensor):
        raise TypeError(
            "cat(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor"
        )
    tensors = tuple(tensors)
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    first = tensors[0]
    for i, x in enumerate(tensors):
        if x._shape != first._shape:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got "
                f"{list(first.shape)} at entry 0 and {list(x.shape)} at entry {i}"
            )
    found: Tensor = _stack(wrap_dim(dim, first.ndim + 1), *_promoted(tensors))
    return found


def _promoted(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors in the dtype that theirs promote to."""
    dtype = tensors[0].dtype
    for x in tensors:
        if x.dtype is not dtype:
            dtype = NAMES["promote_types"](dtype, x.dtype)
    return [x if x.dtype is dtype else NAMES["to_dtype"](x, dtype) for x in tensors]
