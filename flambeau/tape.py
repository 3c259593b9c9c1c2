"""The autograd tape: what each recorded operation keeps for its derivative.

A `GradFn` is one entry. It refers to the entries of its inputs (edges), never to its outputs, so
that a graph dies with the last tensor that came out of it. Running the tape backwards is
`autograd/backward.py`; this file is what recording needs.
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flambeau import overriding
from flambeau.ir.graph import Op

_sequence = itertools.count().__next__
_weak = weakref.ref


class _Modes(threading.local):
    """Per-thread switches: whether recording makes tape entries, inference, anomaly; and autocast,
    where it is on: device type -> the dtype that its products take (None: off everywhere)."""

    grad = True
    inference = False
    anomaly = False
    check_nan = True
    #: where tensors that need gradients are noted when they are used, or None
    seen: list[Any] | None = None
    autocast: dict[str, Any] | None = None
    #: who gives types along a mesh to what is recorded (`distributed.spmd`), or None
    types: Any = None


modes = _Modes()


class without_autocast:
    """While inside, no row converts its arguments for autocast."""

    def __enter__(self) -> None:
        self._was, modes.autocast = modes.autocast, None

    def __exit__(self, *exc: object) -> None:
        modes.autocast = self._was


class Spec:
    """What is known of a tensor whose value was not saved: shape, dtype, device."""

    __slots__ = ("shape", "dtype", "device", "requires_grad", "geometry")

    def __init__(
        self, shape: tuple[int, ...], dtype: Any, device: Any, requires_grad: bool
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.requires_grad = requires_grad

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def dim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        """Number of elements."""
        n = 1
        for s in self.shape:
            n *= s
        return n


_specs: dict[Any, Spec] = {}

#: Rows whose tape entries torch calls by another name.
_TORCH_ROWS = {
    "assign": "copy_slices",
    "assign_region": "copy_slices",
    "expand_to": "expand",
    "view_as_shape": "view",
    "slice_dim": "slice",
    "select_dim": "select",
    "diagonal_of": "diagonal",
    "unfold_dim": "unfold",
    "flip_dims": "flip",
    "split_sections": "split_with_sizes",
    "join": "cat",
    "to_dtype": "to_copy",
    "cast": "to_copy",
    "copy": "clone",
    "plus": "add",
    "minus": "sub",
    "true_div": "div",
    "floor_divide": "div",
    "trunc_divide": "div",
    "select_where": "where",
    "sum_axes": "sum",
    "prod_axes": "prod",
    "max_axes": "amax",
    "min_axes": "amin",
    "polygamma_host": "polygamma",
    "index_leading": "index",
    "put_leading": "index_put",
    "scan_sum": "cumsum",
    "scan_product": "cumprod",
    "scan_logsumexp": "logcumsumexp",
    "linear": "addmm",
    "matmul_biased": "addmm",
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "square": "pow",
    "_sloped": "leaky_relu",
    "exponential_unit": "elu",
    "_embedding": "embedding",
    "logsigmoid": "log_sigmoid",
    "_attention": "scaled_dot_product_attention",
    "_cross_entropy": "nll_loss",
    "_native_layer_norm": "native_layer_norm",
    "_native_batch_norm": "native_batch_norm",
    "_native_group_norm": "native_group_norm",
}


def spec_of(shape: tuple[int, ...], dtype: Any, device: Any, requires_grad: bool) -> Spec:
    """A shared Spec; what is equal is one object."""
    key = (shape, dtype, device.type, requires_grad)
    found = _specs.get(key)
    if found is None:
        if len(_specs) > 8192:
            _specs.clear()
        found = _specs[key] = Spec(shape, dtype, device, requires_grad)
    return found


class Saved:
    """A tensor kept for the derivative, with the version it must still have when read.

    `tensor` is the input itself, or for an output a detached alias (no reference cycle), which is
    given its `grad_fn` back when read. So is what hooks unpack.
    """

    __slots__ = ("tensor", "version", "is_output", "packed", "unpack", "edge", "spec")

    def __init__(self, tensor: Any, is_output: bool) -> None:
        if tensor._inference:
            raise RuntimeError(
                "Inference tensors cannot be saved for backward. Please do not use Tensors created "
                "in inference mode in computation tracked by autograd. To work around this, you "
                "can make a clone to get a normal tensor and use it in autograd, or use "
                "`torch.no_grad()` instead of `torch.inference_mode()`."
            )
        self.is_output = is_output
        self.version = tensor._cell.version
        self.unpack = None
        self.tensor = tensor.detach() if is_output else tensor
        hooks = saved_hooks()
        if hooks:
            pack, self.unpack = hooks[-1]
            self.packed = pack(self.tensor.detach() if not is_output else self.tensor)
            self.spec = spec_of(tensor._shape, tensor.dtype, tensor._cell.device, tensor._rg)
            self.edge = edge_of(tensor) if not is_output and tensor.requires_grad else None
            self.tensor = None

    def read(self, owner: GradFn, nr: int = 0) -> Any:
        """The tensor; RuntimeError when it was modified in place since."""
        if self.unpack is not None:
            return _attached(self.unpack(self.packed), (owner, nr) if self.is_output else self.edge)
        t = self.tensor
        if t._cell.version != self.version:
            made_by = (owner.name() if self.is_output else _origin(t)).partition("Backward")[0]
            hint = (
                "the backtrace further above shows the operation that failed to compute its "
                "gradient. The variable in question was changed in there or anywhere later. "
                "Good luck!"
                if owner.trace
                else "enable anomaly detection to find the operation that failed to compute its "
                "gradient, with torch.autograd.set_detect_anomaly(True, check_nan=False)."
            )
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an "
                f"inplace operation: [{t.type()} {list(t.shape)}]"
                f"{f', which is output {nr} of {made_by},' if made_by else ''} is at version "
                f"{t._cell.version}; expected version {self.version} instead. Hint: {hint}"
            )
        if self.is_output:
            alias = t.detach()
            alias._grad_fn, alias._output_nr, alias._rg = owner, nr, True
            return alias
        return t


def _attached(tensor: Any, edge: tuple[GradFn, int] | None) -> Any:
    """A value that was saved apart from the tape, with its place there."""
    if edge is None:
        return tensor
    alias = tensor.detach()
    alias._rg = True
    if isinstance(edge[0], AccumulateGrad):
        alias._accumulator = weakref.ref(edge[0])
    else:
        alias._grad_fn, alias._output_nr = edge
    return alias


def _origin(tensor: Any) -> str:
    fn = tensor._grad_fn
    return fn.name() if fn is not None else ""


_hooks = threading.local()


def saved_hooks() -> list[Any]:
    """The stack of (pack, unpack) hooks of `autograd.graph.saved_tensors_hooks`."""
    stack: list[Any] = _hooks.__dict__.setdefault("stack", [])
    return stack


class GradFn:
    """One tape entry: how to turn the outputs' cotangents into the inputs'.

    Attributes:
        op: the row; its `vjp` is called.
        edges: per argument, (entry, output number) or None when it needs no gradient.
        args: per argument a Saved, a Spec or a plain value.
        kwargs: static keyword arguments of the row.
        out: Saved, Spec or None per output.
        metas: (shape, dtype, device) of each output.
    """

    # what few entries have is kept in the class until it is set: making entries is a hot path
    kwargs: Mapping[str, Any] = MappingProxyType({})
    out: tuple[Any, ...] = ()
    hooks: dict[int, Any] | None = None
    prehooks: dict[int, Any] | None = None
    retained: dict[int, Any] | None = None
    trace: str | None = None
    released = False
    metadata: dict[Any, Any] | None = None
    named = False  # whether its class has torch's name for it
    title: str | None = None  # torch's name of the composite that it ends

    def __init__(
        self,
        op: Op,
        edges: tuple[Any, ...],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        metas: tuple[Any, ...],
    ) -> None:
        self.op = op
        self.edges = edges
        self.args = args
        self.kwargs = kwargs
        self.metas = metas
        self.order = _sequence()

    def name(self) -> str:
        """torch's spelling, e.g. `MulBackward0`."""
        if self.title is not None:
            return self.title + "Backward0"
        row = self.op.name
        if row == "minus" and type(self.args[0]) not in (Saved, Spec):
            return "RsubBackward1"
        if row == "permute_dims":
            dims = self.args[1] if self.args else ()
            moved = sum(d != k for k, d in enumerate(dims))
            row = ("t" if len(dims) == 2 else "transpose") if moved == 2 else "permute"
        elif row == "matmul_batched":
            row = "mm" if len(self.metas[0].shape) == 2 else "bmm"
        elif row == "sum_axes" and self.metas[0].shape:
            return "SumBackward1"
        row = _TORCH_ROWS.get(row, row)
        return "".join(w.capitalize() for w in row.split("_")) + "Backward0"

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"

    @property
    def next_functions(self) -> tuple[Any, ...]:
        """(entry, output number) per input, as torch shows it."""
        return tuple((shown(e[0]), e[1]) if e is not None else (None, 0) for e in self.edges)

    def apply(self, grads: list[Any]) -> tuple[Any, ...]:
        """Cotangents of the arguments from those of the outputs (None: zero)."""
        if self.released:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved "
                "tensors after they have already been freed). Saved intermediate values of the "
                "graph are freed when you call .backward() or autograd.grad(). Specify "
                "retain_graph=True if you need to backward through the graph a second time or if "
                "you need to access saved tensors after calling backward."
            )
        if overriding.on and overriding.state.all:  # a rule is nobody's call to override
            with overriding.DisableTorchFunction():
                return self.apply(grads)
        if modes.autocast is not None:  # a rule computes in the dtypes that its forward had
            with without_autocast():
                return self.apply(grads)
        read = [a.read(self, _number(a)) if type(a) is Saved else a for a in self.args]
        out = [o.read(self, k) if type(o) is Saved else o for k, o in enumerate(self.out)]
        assert self.op.vjp is not None
        if len(self.metas) == 1:
            return tuple(self.op.vjp(grads[0], out[0] if out else None, *read, **self.kwargs))
        return tuple(self.op.vjp(tuple(grads), tuple(out), *read, **self.kwargs))

    def push(self, tangents: list[Any]) -> tuple[Any, ...] | None:
        """The outputs' tangents from the arguments' by a rule of the entry's own; None: it has
        none, and they follow from the row."""
        return None

    def cells(self) -> list[Any]:
        """The cells whose values the rule reads."""
        kept = [a for a in (*self.args, *self.out) if type(a) is Saved]
        return [a.tensor._cell for a in kept if a.tensor is not None]

    def release(self) -> None:
        """Drop what was saved; going backwards a second time raises."""
        for a in (*self.args, *self.out):
            if type(a) is Saved:
                self.released = True
                self.args = ()
                self.out = ()
                break

    def register_hook(self, hook: Any) -> Any:
        """Call `hook(grad_inputs, grad_outputs)` after this entry ran."""
        self.hooks = {} if self.hooks is None else self.hooks
        return Handle(self.hooks, hook)

    def register_prehook(self, hook: Any) -> Any:
        """Call `hook(grad_outputs)` before this entry runs."""
        self.prehooks = {} if self.prehooks is None else self.prehooks
        return Handle(self.prehooks, hook)


def shown(entry: GradFn) -> GradFn:
    """An entry as a user gets it: of a class with torch's name, which programs that draw a tape
    read (`type(t.grad_fn).__name__`). Entries that nobody looks at need none."""
    if not entry.named:
        kind: Any = type(entry)
        entry.__class__ = _named(kind, entry.name())
    return entry


@functools.cache
def _named(kind: Any, name: str) -> Any:
    return type(name, (kind,), {"__slots__": (), "named": True})


def _number(saved: Saved) -> int:
    return saved.tensor._output_nr if saved.tensor is not None else 0


_handle_ids = itertools.count().__next__


class Handle:
    """Removes one hook: `remove()`, or leaving it as a context manager."""

    def __init__(self, table: dict[int, Any], hook: Any) -> None:
        self.id = _handle_ids()
        self._hooks = table
        table[self.id] = hook

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def _accumulate(g: Any, out: Any, *args: Any) -> tuple[Any, ...]:
    return ()


ACCUMULATE = Op("accumulate_grad", "effect")
ACCUMULATE.vjp = _accumulate


PLACE = Op("place", "composite")
PLACE.vjp = _accumulate


def place(tensor: Any) -> Any:
    """Let a fresh tensor be where the tape ends, without being a leaf; -> it."""
    meta = spec_of(tensor._shape, tensor.dtype, tensor._cell.device, True)
    tensor._grad_fn, tensor._rg = GradFn(PLACE, (), (), {}, (meta,)), True
    return tensor


class AccumulateGrad(GradFn):
    """The end of the tape: adds the cotangent to a leaf's `.grad`."""

    op = ACCUMULATE
    edges = ()
    args = ()
    order = 1 << 62  # behind every other entry
    named = True

    def __init__(self, variable: Any) -> None:
        self.variable = variable

    @property
    def metas(self) -> tuple[Any, ...]:  # type: ignore[override]
        """The leaf's shape, dtype and device."""
        v = self.variable
        return (spec_of(v._shape, v.dtype, v._cell.device, True),)

    def name(self) -> str:
        """The entry's name, as torch prints it."""
        return "AccumulateGrad"


def edge_of(tensor: Any) -> tuple[GradFn, int]:
    """(entry, output number) that a cotangent of `tensor` goes to."""
    fn = tensor._grad_fn if tensor._base is None else tensor.grad_fn
    if fn is not None:
        return fn, tensor._output_nr
    acc = tensor._accumulator
    found = acc() if acc is not None else None
    if found is None:
        found = object.__new__(AccumulateGrad)  # a hot path where results are dropped at once
        found.variable = tensor
        tensor._accumulator = _weak(found)
    return found, 0
