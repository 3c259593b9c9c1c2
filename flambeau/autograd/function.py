"""User-written differentiable functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.ir.graph import Op
from flambeau.ops.entries import tracks
from flambeau.ops.movement import sum_to
from flambeau.ops.rows import NAMES
from flambeau.ops.writing import rebase
from flambeau.record import calling_trace
from flambeau.tape import GradFn, Saved, Spec, edge_of, modes
from flambeau.tensor import Tensor, alias


class FunctionCtx:
    """What `forward` leaves for `backward`."""

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self._dirty: tuple[Any, ...] = ()
        self._constant: tuple[Any, ...] = ()
        self._materialize = True
        self._entry: Any = None
        self._kept: tuple[Any, ...] = ()
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_forward(self, *tensors: Any) -> None:
        """Keep tensors for `jvp`, as `saved_tensors`."""
        if not self._saved:
            self.save_for_backward(*tensors)

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep inputs or outputs for `backward`, checked against in-place changes."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument is of "
                    f"type {type(t).__name__}"
                )
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What `save_for_backward` kept."""
        entry = self._entry
        if entry is None:
            return self._saved
        if entry.released:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly "
                "access saved tensors after they have already been freed). Saved "
                "intermediate values of the graph are freed when you call "
                ".backward() or autograd.grad(). Specify retain_graph=True if you "
                "need to backward through the graph a second time or if you need to "
                "access saved tensors after calling backward."
            )
        return tuple(s if s is None else s.read(entry, nr) for s, nr in self._kept)

    def mark_dirty(self, *tensors: Any) -> None:
        """Inputs that `forward` changed in place; they must be returned."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Outputs without gradient."""
        self._constant = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether a missing output gradient arrives as zeros (default) or None."""
        self._materialize = value


class _Entry(GradFn):
    """The tape entry of one call."""

    __slots__ = ("ctx", "cls")
    ctx: FunctionCtx
    cls: type[Function]

    def name(self) -> str:
        return f"{self.cls.__name__}Backward"

    def apply(self, grads: list[Any]) -> tuple[Any, ...]:
        ctx = self.ctx
        if self.released:
            ctx.saved_tensors  # noqa: B018  (raises)
        if ctx._materialize:
            grads = [
                NAMES["zeros"](m.shape, dtype=m.dtype, device=m.device) if g is None else g
                for g, m in zip(grads, self.metas, strict=True)
            ]
        rule = self.cls.backward
        found = (self.cls.vjp if rule is Function.backward else rule)(ctx, *grads)
        found = found if isinstance(found, tuple) else (found,)
        count = len(self.edges)
        if len(found) > count and all(g is None for g in found[count:]):
            found = found[:count]
        if len(found) != count:
            raise RuntimeError(
                f"function {self.name()} returned an incorrect number of gradients "
                f"(expected {count}, got {len(found)})"
            )
        return tuple(map(self._fitting, range(count), self.edges, found))

    def _fitting(self, k: int, edge: Any, g: Any) -> Any:
        """A gradient that a user's rule returned, summed to the shape and cast to the dtype of what
        it belongs to.

        Raises:
            RuntimeError: it is no tensor, or of another shape.
        """
        if edge is None or g is None:
            return None
        if not isinstance(g, Tensor):
            raise RuntimeError(f"expected Variable or None (got {type(g).__name__})")
        want = edge[0].metas[edge[1]]
        if g._shape != want.shape:
            fits = zip(reversed(want.shape), reversed(g._shape), strict=False)
            if len(want.shape) > g.ndim or any(a not in (1, b) for a, b in fits):
                raise RuntimeError(
                    f"Function {self.name()} returned an invalid gradient at index {k} - got "
                    f"{list(g.shape)} but expected shape compatible with {list(want.shape)}"
                )
            g = sum_to(g, want.shape)
        return g if g.dtype is want.dtype else NAMES["to_dtype"](g, want.dtype)

    def push(self, tangents: list[Any]) -> tuple[Any, ...] | None:
        """The outputs' tangents by the function's own `jvp`; None where it has none."""
        if self.cls.jvp is Function.jvp:
            return None
        found = self.cls.jvp(self.ctx, *tangents)
        return found if isinstance(found, tuple) else (found,)

    def cells(self) -> list[Any]:
        kept = [s.tensor for s, _ in self.ctx._kept if s is not None]
        kept += [v for v in vars(self.ctx).values() if isinstance(v, Tensor)]
        return [t._cell for t in kept if t is not None]

    def release(self) -> None:
        if self.ctx._kept:
            self.released = True
            self.ctx._kept = ()


class Function:
    """Subclass with static `forward(ctx, ...)` and `backward(ctx, *grads)`; call `apply`.

    With `setup_context(ctx, inputs, output)`, `forward` takes no ctx.

    Attributes:
        in_python: whether `backward` has effects besides its results, so that it must run as
            Python each time (`compile`).
    """

    in_python = False

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the outputs."""
        raise NotImplementedError(
            "You must implement the forward function for custom autograd.Function."
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Save for `backward`, when `forward` takes no ctx."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """One gradient (or None) per input of `forward`."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your "
            "custom autograd.Function to use it with backward mode AD."
        )

    @staticmethod
    def vjp(ctx: Any, *grad_outputs: Any) -> Any:
        """Another name for `backward`."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your "
            "custom autograd.Function to use it with backward mode AD."
        )

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """One tangent per output from those of the inputs (None: no tangent), for forward mode.

        Functions without it are differentiated forwards through their `backward`.
        """
        raise NotImplementedError(
            "You must implement the jvp function for custom autograd.Function to use it with "
            "forward mode AD."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. "
            "Please use new-style autograd function with static forward method."
        )

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run the function on tensors and other arguments."""
        ctx = FunctionCtx()
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        track = tracks(args)
        was, modes.grad = modes.grad, False
        try:
            if cls.setup_context is not Function.setup_context:
                found = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, found)
            else:
                found = cls.forward(ctx, *args, **kwargs)
        finally:
            modes.grad = was
        if not track:
            return found
        outs = found if isinstance(found, tuple) else (found,)
        made = _attach(cls, ctx, args, outs)
        return made if isinstance(found, tuple) else made[0]


def _attach(
    cls: Any, ctx: FunctionCtx, args: tuple[Any, ...], outs: tuple[Any, ...]
) -> tuple[Any, ...]:
    op = Op(cls.__name__, "composite")
    op.saves = frozenset(("out",))
    edges = tuple(edge_of(a) if isinstance(a, Tensor) and a.requires_grad else None for a in args)
    results = []
    for o in outs:
        dirty = any(o is d for d in ctx._dirty)
        passed = any(o is a for a in args) and not dirty
        results.append(alias(o) if passed and isinstance(o, Tensor) else o)
    tensors = [o for o in results if isinstance(o, Tensor)]
    metas = tuple(Spec(o._shape, o.dtype, o.device, True) for o in tensors)
    entry = _Entry(op, edges, tuple(None for _ in args), {}, metas)
    entry.ctx, entry.cls = ctx, cls
    if modes.anomaly:
        entry.trace = calling_trace()
    for nr, o in enumerate(tensors):
        if any(o is c for c in ctx._constant) or not o.dtype.is_floating_point:
            continue
        if any(o is d for d in ctx._dirty):
            _write(o, entry, nr)
            continue
        o._grad_fn, o._output_nr, o._rg = entry, nr, True
        if o._base is not None:
            o._base = None
        o._generation += 1
    kept = []
    for t in ctx._saved:
        found = next(
            (
                k
                for k, o in enumerate(tensors)
                if o is t or any(t is x and results[i] is o for i, x in enumerate(outs))
            ),
            None,
        )
        is_output = found is not None and not any(t is a for a in args)
        kept.append((None if t is None else Saved(t, is_output), found or 0))
    ctx._kept = tuple(kept)
    ctx._entry = entry
    ctx._saved = ()
    return tuple(results)


def _write(dirty: Tensor, entry: GradFn, nr: int) -> None:
    """Give a tensor that `forward` changed in place its new history, through its base if a view."""
    if dirty.requires_grad and dirty.is_leaf:
        raise RuntimeError(
            "a leaf Variable that requires grad has been used in an in-place operation."
        )
    value = alias(dirty)
    value._grad_fn, value._output_nr, value._rg = entry, nr, True
    rebase(dirty, value)
    dirty._cell.version += 1  # as torch counts the marking itself


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A `backward` that cannot be differentiated again: doing so raises."""

    @functools.wraps(backward)
    def run(ctx: Any, *grads: Any) -> Any:
        tracked = modes.grad and any(isinstance(g, Tensor) and g.requires_grad for g in grads)
        was, modes.grad = modes.grad, False
        try:
            found = backward(ctx, *grads)
        finally:
            modes.grad = was
        if not tracked and not (
            modes.grad
            and any(s and s.tensor is not None and s.tensor.requires_grad for s, _ in ctx._kept)
        ):
            return found
        return _Refuse.apply(len(grads), *grads, *(found if isinstance(found, tuple) else (found,)))

    return run


class _Refuse(Function):
    """Passes gradients on and refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, count: int, *values: Any) -> Any:
        found = tuple(v.clone() if isinstance(v, Tensor) else v for v in values[count:])
        return found if len(found) > 1 else found[0]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "trying to differentiate twice a function that was marked with @once_differentiable"
        )
