"""Activation checkpointing: what a part of a model computed is recomputed in the backward pass.

Reference: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.autograd import Function, backward, enable_grad
from flambeau.ir.graph import AGAIN, Node
from flambeau.ops.autocast import restored
from flambeau.ops.generator import default_generator
from flambeau.record import Cell
from flambeau.size import contiguous_strides
from flambeau.tape import modes
from flambeau.tensor import Tensor, over


class _Checkpoint(Function):
    """Keeps the inputs; records the function again when its gradient is wanted."""

    in_python = True  # it adds to the gradients of parameters itself

    @staticmethod
    def forward(ctx: Any, function: Any, preserve: bool, *args: Any) -> Any:
        ctx.function, ctx.preserve, ctx.autocast = function, preserve, modes.autocast
        ctx.state = default_generator.__getstate__()
        ctx.places = [k for k, a in enumerate(args) if isinstance(a, Tensor)]
        ctx.others = [None if isinstance(a, Tensor) else a for a in args]
        ctx.save_for_backward(*(a for a in args if isinstance(a, Tensor)))
        return function(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        args = list(ctx.others)
        for k, t in zip(ctx.places, ctx.saved_tensors, strict=True):
            args[k] = _again(t).requires_grad_(t.requires_grad)
        now = default_generator.__getstate__()
        if ctx.preserve:
            default_generator.__setstate__(ctx.state)
        try:
            with enable_grad(), restored(ctx.autocast):
                found = ctx.function(*args)
        finally:
            if ctx.preserve:
                default_generator.__setstate__(now)
        outputs = found if isinstance(found, tuple) else (found,)
        pairs = [
            (o, g)
            for o, g in zip(outputs, grads, strict=True)
            if isinstance(o, Tensor) and o.requires_grad
        ]
        if not pairs:
            raise RuntimeError(
                "none of output has requires_grad=True, this checkpoint() is not necessary"
            )
        backward([o for o, _ in pairs], [g for _, g in pairs])
        return (None, None, *(a.grad if isinstance(a, Tensor) else None for a in args))


def _again(t: Tensor) -> Tensor:
    """The tensor, detached, such that what is computed from it is not what was computed before."""
    cell = t._cell
    shape = cell.node.shape
    node = Node(AGAIN, (cell.node,), (contiguous_strides(shape), 0), shape, t.dtype)
    return over(Cell(node, cell.device), t._shape, t.dtype, t._map)


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    context_fn: Any = None,
    determinism_check: str = "default",
    debug: bool = False,
    **kwargs: Any,
) -> Any:
    """Call a function without keeping what it computes; its backward pass computes it again.

    Args:
        function: of tensors and other values; deterministic but for the default generator.
            The second time it runs in the state of autocast that it was called in.
        preserve_rng_state: draw the same random numbers the second time.
        use_reentrant, context_fn, determinism_check, debug: accepted as torch does.

    Returns:
        What the function returns. Parameters that it uses get their gradients too.
    """

    def call(*values: Any) -> Any:
        return function(*values, **kwargs)

    wants = any(isinstance(a, Tensor) and a.requires_grad for a in args)
    if not wants:  # parameters inside the function may still want theirs
        marker = _marker()
        return _Checkpoint.apply(
            lambda _, *values: call(*values), preserve_rng_state, marker, *args
        )
    return _Checkpoint.apply(call, preserve_rng_state, *args)


def _marker() -> Tensor:
    """Makes the tape keep the call although no argument wants a gradient."""
    return Tensor(0).requires_grad_()


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool = True, **kwargs: Any
) -> Any:
    """Run modules one after another, checkpointed in `segments` parts (the last one is kept)."""
    children = list(functions)
    size = max(1, len(children) // segments)

    def run(first: int, last: int) -> Callable[[Any], Any]:
        def forward(value: Any) -> Any:
            for child in children[first:last]:
                value = child(value)
            return value

        return forward

    at = 0
    for _ in range(segments - 1):
        input = checkpoint(run(at, at + size), input, **kwargs)
        at += size
    return run(at, len(children))(input)


__all__ = ["checkpoint", "checkpoint_sequential"]
