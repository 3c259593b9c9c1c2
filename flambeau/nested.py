"""Nested tensors: batches of tensors whose sizes differ in a dimension.

A nested tensor answers the calls that it is an argument of by itself (`__torch_function__`). What
works on elements or on trailing dimensions is called once, on all rows of all tensors packed one
behind the other; everything else is called for each tensor by itself, with dimensions counted
without the batch's, and its results are nested again.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

from flambeau import dtypes
from flambeau.device import device as Device
from flambeau.dtype import dtype as DType
from flambeau.layout import jagged, strided
from flambeau.layout import layout as Layout
from flambeau.ops.rows import FUNCTIONAL, NAMES
from flambeau.overriding import DisableTorchFunction, switch_on
from flambeau.size import Size
from flambeau.tensor import Tensor

#: Methods of batches take other arguments than those of tensors.
_Tensor: Any = Tensor
_numbers = itertools.count(1).__next__

#: What a result's last dimensions follow from, whatever stands before them.
_TRAILING = frozenset(
    (*(FUNCTIONAL[name] for name in "dropout embedding linear layer_norm rms_norm".split()),
     *(vars(Tensor)[name] for name in "clone to float double half bfloat16".split()))
)  # fmt: skip
#: What works along the dimension that it is given.
_ALONG_ONE = frozenset(
    space[name] for space in (NAMES, FUNCTIONAL) for name in ("softmax", "log_softmax")
)
#: What gives one value of all elements where it is given no dimension.
_WHOLE = frozenset(
    NAMES[name] for name in ("sum", "mean", "prod", "amax", "amin", "max", "min", "any", "all")
)
_DIMS = frozenset(("dim", "dim0", "dim1", "start_dim", "end_dim", "dims", "axis"))


class NestedInt:
    """A size that differs among the tensors of a batch: j1, j2, ..."""

    def __init__(self) -> None:
        self.number = _numbers()

    def __repr__(self) -> str:
        return f"j{self.number}"


class NestedTensor(_Tensor):
    """A batch of tensors of one rank and dtype.

    Args:
        parts: the tensors; None where they are rows of `packed`.
        packed: (N, *), their rows one behind the other.
        lengths: how many rows each has.
        layout: `jagged` or `strided`, which differ in what they show of their sizes.
        ragged: the size that differs.
    """

    is_nested = True

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """A tensor without memory of its own."""
        return object.__new__(cls)

    def __init__(
        self,
        parts: Any,
        packed: Tensor | None,
        lengths: tuple[int, ...],
        layout: Layout,
        ragged: NestedInt,
    ) -> None:
        self._parts = None if parts is None else tuple(parts)
        self._packed = packed
        self._sizes = lengths
        self._kind = layout
        self._ragged = ragged
        self._leaf = packed is not None and packed.is_leaf
        switch_on(type(self))

    # -- the tensors ------------------------------------------------------------------------------

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """The tensors of the batch.

        Raises:
            RuntimeError: another dimension than the first.
        """
        if dim != 0:
            raise RuntimeError("unbind(): only supported for dim=0 of nested tensors")
        if self._parts is None:
            assert self._packed is not None
            self._parts = tuple(NAMES["split"](self._packed, list(self._sizes)))
        return self._parts

    def values(self) -> Tensor:
        """(N, *) the rows of all tensors, one behind the other; flat for the strided layout."""
        rows = self._rows()
        return rows if self._kind is jagged else rows.reshape(-1)

    def _rows(self) -> Tensor:
        if self._packed is None:
            self._packed = NAMES["cat"](self._parts)
        return self._packed

    def offsets(self) -> Tensor:
        """(B + 1) where each tensor's rows start among `values`."""
        return NAMES["tensor"](list(itertools.accumulate(self._sizes, initial=0)))

    def lengths(self) -> None:
        """None: between the rows of two tensors is nothing."""

    @property
    def _max_seqlen(self) -> int:
        return max(self._sizes)

    @property
    def _min_seqlen(self) -> int:
        return min(self._sizes)

    def _example(self) -> Tensor:
        return self._packed if self._parts is None else self._parts[0]  # type: ignore[return-value]

    # -- shape and place --------------------------------------------------------------------------

    def _sizes_of(self) -> tuple[Any, ...]:
        if self._parts is None:
            assert self._packed is not None
            return (len(self._sizes), self._ragged, *self._packed._shape[1:])
        shapes = list(zip(*(p._shape for p in self._parts), strict=True))
        at = next((d for d, sizes in enumerate(shapes) if sizes == self._sizes), None)
        inner = [self._ragged if d == at else n[0] for d, n in enumerate(shapes)]
        return (len(self._parts), *inner)

    @property
    def shape(self) -> Any:
        """Sizes of the dimensions; one is a `NestedInt`.

        Raises:
            RuntimeError: the layout is strided.
        """
        if self._kind is strided:
            raise RuntimeError(
                "Internal error: NestedTensorImpl doesn't support sizes. Please file an issue."
            )
        return Size(self._sizes_of())

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension.

        Raises:
            RuntimeError: a size that differs, of the strided layout.
        """
        if dim is None:
            return self.shape
        found = self._sizes_of()[dim]
        if self._kind is strided and isinstance(found, NestedInt):
            raise RuntimeError(f"Given dimension {dim} is irregular and does not have a size.")
        return found

    def dim(self) -> int:
        """Number of dimensions, the batch's included."""
        return self._example().ndim + 1

    ndimension = dim

    @property
    def ndim(self) -> int:
        """Number of dimensions, the batch's included."""
        return self.dim()

    def numel(self) -> int:
        """Number of elements of all tensors."""
        if self._parts is None:
            assert self._packed is not None
            return self._packed.numel()
        return sum(p.numel() for p in self._parts)

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Any:
        return iter(self.unbind())

    @property
    def dtype(self) -> DType:
        """Of all tensors."""
        return self._example().dtype

    @property
    def layout(self) -> Layout:
        """`jagged` or `strided`."""
        return self._kind

    @property
    def device(self) -> Device:
        """Where the tensors live."""
        return self._example().device

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """Whether the rows of all tensors stand one behind the other."""
        return self._parts is None or all(
            p.is_contiguous() and p._shape[0] == n
            for p, n in zip(self._parts, self._sizes, strict=True)
        )

    def contiguous(self, memory_format: Any = None) -> NestedTensor:
        """The tensor itself."""
        return self

    # -- gradients --------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are computed for a tensor of the batch."""
        return any(p.requires_grad for p in self._parts or (self._packed,) if p is not None)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._packed = self._rows().requires_grad_(value)
        self._parts = None

    _rg = property(lambda self: self.requires_grad)

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made it."""
        return self._leaf

    @property
    def grad(self) -> Any:
        """The gradient, nested."""
        found = None if self._packed is None else self._packed.grad
        return None if found is None else self._with(found)

    def detach(self) -> NestedTensor:
        """The batch without history."""
        return self._with(self._rows().detach())

    def _with(self, packed: Tensor) -> NestedTensor:
        """Other rows of the same lengths."""
        return NestedTensor(None, packed, self._sizes, self._kind, self._ragged)

    # -- forms ------------------------------------------------------------------------------------

    def to_padded_tensor(self, padding: Any, output_size: Any = None) -> Tensor:
        """A dense tensor with `padding` behind what is shorter.

        Args:
            padding: a number.
            output_size: its sizes, by default as small as may be.

        Raises:
            RuntimeError: sizes that are too small.
        """
        parts = self.unbind()
        longest = [max(sizes) for sizes in zip(*(p._shape for p in parts), strict=True)]
        wanted = longest if output_size is None else list(output_size)[1:]
        if any(n < m for n, m in zip(wanted, longest, strict=True)):
            raise RuntimeError(
                "Value in output_size is less than NestedTensor padded size. Truncation is not "
                "supported."
            )
        padded = []
        for part in parts:
            after = [n - m for n, m in zip(wanted, part._shape, strict=True)]
            pads = [n for pair in zip([0] * len(after), reversed(after), strict=True) for n in pair]
            padded.append(FUNCTIONAL["pad"](part, pads, "constant", padding))
        return NAMES["stack"](padded)

    def view(self, *shape: Any) -> NestedTensor:
        """The same elements with other trailing dimensions: `view(B, -1, ...)`.

        Raises:
            RuntimeError: another size of the batch.
        """
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        if sizes[0] not in (-1, len(self._sizes)):
            raise RuntimeError(f"view: a batch of {len(self._sizes)} cannot be one of {sizes[0]}")
        return self._each(
            lambda part, n: part.reshape(*(n if _differs(s) else s for s in sizes[1:]))
        )

    reshape = view

    def _each(self, change: Callable[[Tensor, int], Any]) -> NestedTensor:
        parts = [change(p, n) for p, n in zip(self.unbind(), self._sizes, strict=True)]
        return NestedTensor(parts, None, self._sizes, self._kind, self._ragged)

    def permute(self, *dims: Any) -> NestedTensor:
        """Dimensions in another order, the batch's first."""
        order = dims[0] if len(dims) == 1 else dims
        order = [d % self.ndim for d in order]
        if order[0] != 0:
            raise RuntimeError("Permuting the batch dimension is not supported for nested tensors.")
        return self._each(lambda part, n: NAMES["permute"](part, [d - 1 for d in order[1:]]))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int):
            return self.unbind()[key]
        if isinstance(key, tuple) and isinstance(key[0], int):
            return self.unbind()[key[0]][key[1:]]
        if isinstance(key, tuple) and key[0] == slice(None):
            return _nested([part[key[1:]] for part in self.unbind()], self)
        raise RuntimeError(f"a nested tensor cannot be indexed by {key!r}")

    def __repr__(self) -> str:
        if self._kind is jagged:
            sizes = ", ".join(map(str, self._sizes_of()))
            return (
                f"NestedTensor(size=({sizes}), offsets={self.offsets()!r}, "
                f"contiguous={self.is_contiguous()})"
            )
        shown = ",\n".join("  " + repr(p).replace("\n", "\n  ") for p in self.unbind())
        return f"nested_tensor([\n{shown}\n])"

    __str__ = __repr__
    __hash__ = object.__hash__

    # -- calls ------------------------------------------------------------------------------------

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """What a function of tensors gives with a batch among its arguments.

        Raises:
            RuntimeError: batches that do not go together.
        """
        kwargs = kwargs or {}
        batches: list[NestedTensor] = []
        _find((*args, *kwargs.values()), batches)
        first = batches[0]
        if any(b._sizes != first._sizes for b in batches[1:]):
            raise RuntimeError("nested tensors of different sizes cannot be computed with together")
        if _on_rows(func, args, kwargs) and all(b._parts is None for b in batches):
            with DisableTorchFunction():
                found = func(*_map(args, NestedTensor._rows), **_map(kwargs, NestedTensor._rows))
            return first._with(found) if isinstance(found, Tensor) else found
        whole = not any(name in kwargs for name in _DIMS) and len(args) == 1
        if func in _WHOLE and whole:
            flat = NAMES["cat"]([p.reshape(-1) for p in first.unbind()])
            return func(flat)
        args, kwargs = _without_batch(func, args, kwargs, first.ndim)
        results = [
            func(
                *_map(args, lambda b: b.unbind()[k]),  # noqa: B023
                **_map(kwargs, lambda b: b.unbind()[k]),  # noqa: B023
            )
            for k in range(len(first))
        ]
        if isinstance(results[0], (tuple, list)):
            return tuple(_nested(parts, first) for parts in zip(*results, strict=True))
        return _nested(results, first)


def _differs(size: Any) -> bool:
    return isinstance(size, NestedInt) or size == -1


def _find(values: Any, found: list[NestedTensor]) -> None:
    for v in values:
        if isinstance(v, NestedTensor):
            found.append(v)
        elif isinstance(v, (list, tuple)):
            _find(v, found)


def _map(value: Any, change: Callable[[NestedTensor], Any]) -> Any:
    """Arguments with batches changed."""
    if isinstance(value, NestedTensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_map(v, change) for v in value)
    if isinstance(value, dict):
        return {k: _map(v, change) for k, v in value.items()}
    return value


def _on_rows(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call may be made on all rows at once."""
    row = getattr(func, "row", None)
    if func in _TRAILING or (row is not None and row.kind == "elementwise"):
        return all(
            not isinstance(a, Tensor) or isinstance(a, NestedTensor) or a.ndim == 0
            or func in _TRAILING
            for a in args
        )  # fmt: skip
    if func in _ALONG_ONE:
        return bool(kwargs.get("dim", args[1] if len(args) > 1 else None) == -1)
    if func is NAMES["matmul"]:
        return isinstance(args[0], NestedTensor) and args[1].ndim == 2
    return func in _POINTWISE and not any(
        isinstance(a, Tensor) and not isinstance(a, NestedTensor) and a.ndim for a in args
    )


#: Composites that work on elements.
_POINTWISE = frozenset(
    function
    for space, names in (
        (NAMES, "add sub div relu clamp square silu gelu"),
        (FUNCTIONAL, "relu gelu silu elu selu leaky_relu mish softplus hardswish relu6 sigmoid"),
    )
    for name in names.split()
    if (function := space.get(name)) is not None
)


def _without_batch(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], rank: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a call for one tensor: dimensions are counted without the batch's."""

    def shifted(d: Any) -> Any:
        if isinstance(d, (list, tuple)):
            return type(d)(shifted(x) for x in d)
        if isinstance(d, bool) or not isinstance(d, int) or -rank < d < 0:
            return d
        if d in (0, -rank):
            raise RuntimeError(f"{getattr(func, '__name__', func)}(): the batch dimension of a "
                               "nested tensor cannot be worked on")  # fmt: skip
        return d - 1

    names = list(inspect.signature(func).parameters)
    moved = [shifted(a) if k < len(names) and names[k] in _DIMS else a for k, a in enumerate(args)]
    return tuple(moved), {k: shifted(v) if k in _DIMS else v for k, v in kwargs.items()}


def _nested(parts: Any, like: NestedTensor) -> Any:
    """Results of each tensor as a batch; dense, where nothing differs any more."""
    if not all(isinstance(p, Tensor) for p in parts):
        return list(parts)
    shapes = list(zip(*(p._shape for p in parts), strict=True))
    if like._sizes not in shapes:
        return NAMES["stack"](list(parts))
    return NestedTensor(parts, None, like._sizes, like._kind, like._ragged)


# -- torch.nested ---------------------------------------------------------------------------------


def _layout(layout: Layout | None) -> Layout:
    if layout not in (None, strided, jagged):
        raise RuntimeError(f"Specified layout is unsupported for nested tensors: {layout}")
    return strided if layout is None else layout


def nested_tensor(
    tensor_list: Any,
    *,
    dtype: DType | None = None,
    layout: Layout | None = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> NestedTensor:
    """A batch of copies of tensors, or of what they are made of.

    Args:
        tensor_list: tensors or nested sequences whose sizes differ in the first dimension alone.
        dtype: of all; by default the first's.
        layout: `strided` or `jagged`.
        device: of all.
        requires_grad: whether gradients are wanted for the batch.

    Raises:
        RuntimeError: another layout.
    """
    made = as_nested_tensor(
        [NAMES["tensor"](t, dtype=dtype, device=device).detach() for t in tensor_list],
        layout=layout,
    )
    if requires_grad:
        made.requires_grad = True
    return made


def as_nested_tensor(
    ts: Any, dtype: DType | None = None, device: Any = None, layout: Layout | None = None
) -> NestedTensor:
    """A batch of tensors, through which gradients reach them.

    Args:
        ts: the tensors; a nested tensor stays one.
        dtype, device: of all.
        layout: `strided` or `jagged`.

    Raises:
        RuntimeError: another layout, or sizes that differ in several dimensions of the jagged one.
    """
    kind = _layout(layout)
    if isinstance(ts, NestedTensor):
        return ts
    parts = [t if isinstance(t, Tensor) else NAMES["tensor"](t) for t in ts]
    parts = [t.to(device=device, dtype=dtype or parts[0].dtype) for t in parts]
    shapes = {p._shape[1:] for p in parts}
    if kind is jagged and (len(shapes) > 1 or not parts[0].ndim):
        raise RuntimeError(
            "When constructing a nested tensor, all tensors in list must have the same trailing "
            "sizes in the jagged layout"
        )
    lengths = tuple(p._shape[0] if p.ndim else 1 for p in parts)
    if len(shapes) > 1:
        return NestedTensor(parts, None, lengths, kind, NestedInt())
    return NestedTensor(None, NAMES["cat"](parts), lengths, kind, NestedInt())


def nested_tensor_from_jagged(
    values: Tensor,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    jagged_dim: int | None = None,
    min_seqlen: int | None = None,
    max_seqlen: int | None = None,
) -> NestedTensor:
    """A batch of the rows of a tensor.

    Args:
        values: (N, *), the rows of all tensors one behind the other.
        offsets: (B + 1), where each tensor's rows start.
        lengths: (B), how many rows each has; with offsets, rows may lie between.
        jagged_dim: 1, the dimension whose size differs.
        min_seqlen, max_seqlen: accepted.

    Raises:
        RuntimeError: neither offsets nor lengths.
    """
    if offsets is None and lengths is None:
        raise RuntimeError("nested_tensor_from_jagged(): At least one of offsets or lengths is "
                           "required.")  # fmt: skip
    if jagged_dim not in (None, 1):
        raise RuntimeError("nested_tensor_from_jagged(): jagged_dim must be 1")
    if offsets is None:
        assert lengths is not None
        sizes = tuple(lengths.tolist())
        return NestedTensor(None, values, sizes, jagged, NestedInt())
    starts = offsets.tolist()
    sizes = tuple(b - a for a, b in itertools.pairwise(starts))
    if lengths is None and starts[0] == 0 and starts[-1] == values._shape[0]:
        return NestedTensor(None, values, sizes, jagged, NestedInt())
    sizes = sizes if lengths is None else tuple(lengths.tolist())
    parts = [values[a : a + n] for a, n in zip(starts, sizes, strict=False)]
    return NestedTensor(None, NAMES["cat"](parts), sizes, jagged, NestedInt())


def to_padded_tensor(input: NestedTensor, padding: Any, output_size: Any = None) -> Tensor:
    """A dense tensor with `padding` behind what is shorter; see `NestedTensor.to_padded_tensor`."""
    return input.to_padded_tensor(padding, output_size)


def narrow(tensor: Tensor, dim: int, start: Any, length: Any, layout: Layout = strided) -> Any:
    """A batch of parts of a dense tensor's rows.

    Args:
        tensor: (B, N, *).
        dim: 1.
        start: (B) where each part starts, or one number.
        length: (B) how long it is, or one number.
        layout: `jagged`, or `strided` where both are numbers.
    """
    if layout is strided:
        return as_nested_tensor([NAMES["narrow"](t, dim - 1, start, length) for t in tensor])
    count = tensor._shape[0]
    starts, sizes = (v.tolist() if isinstance(v, Tensor) else [v] * count for v in (start, length))
    parts = [t[a : a + n] for t, a, n in zip(tensor, starts, sizes, strict=True)]
    return as_nested_tensor(parts, layout=jagged)


def masked_select(tensor: Tensor, mask: Tensor) -> NestedTensor:
    """A batch of each row's elements where the mask holds."""
    wide = NAMES["broadcast_to"](mask, tensor._shape)
    counts = NAMES["sum"](wide, -1).reshape(-1).to(dtypes.int64)
    return nested_tensor_from_jagged(NAMES["masked_select"](tensor, wide), lengths=counts)


__all__ = [
    *("as_nested_tensor", "masked_select", "narrow", "nested_tensor"),
    *("nested_tensor_from_jagged", "to_padded_tensor"),
]
