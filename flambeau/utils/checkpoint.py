"""Activation checkpointing: what a part of a model computed is recomputed in the backward pass.

Reference: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from flambeau.autograd import Function, backward, enable_grad
from flambeau.autograd.graph import saved_tensors_hooks
from flambeau.ir.graph import AGAIN, Node
from flambeau.ops.autocast import restored
from flambeau.ops.generator import default_generator
from flambeau.record import Cell
from flambeau.size import contiguous_strides
from flambeau.tape import GradFn, Saved, modes
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


class CheckpointError(RuntimeError):
    """A function saved other tensors the second time than the first."""


class _Stop(Exception):
    """All that a backward pass needs of a function has been computed again."""


class _Place:
    """Stands on the tape for a tensor that is computed again.

    Attributes:
        what: shape, dtype and device that it has.
    """

    __slots__ = ("__weakref__", "what")

    def __init__(self, tensor: Tensor) -> None:
        self.what = (tuple(tensor.shape), tensor.dtype, tensor.device)


class _Recomputed:
    """A call of which the tape keeps the arguments and places of what its entries saved.

    The first place that a backward pass reads has the function run again, up to the last tensor
    that was saved; what it saves then fills the places. Its own tape is not used: hooks and
    gradients belong to the tape of the first run.

    Args:
        function: of the arguments.
        args: kept as the tape keeps tensors, so inside another such call they are places too.
        preserve: draw the same random numbers.
        context: entered around the second run.
        check: compare shapes, dtypes and devices of both runs.
    """

    def __init__(
        self, function: Any, args: tuple[Any, ...], preserve: bool, context: Any, check: bool
    ) -> None:
        self.function, self.preserve, self.context, self.check = function, preserve, context, check
        self.args = [Saved(a, False) if isinstance(a, Tensor) else a for a in args]
        self.wanting = [isinstance(a, Tensor) and a.requires_grad for a in args]
        self.autocast = modes.autocast
        self.state = default_generator.__getstate__() if preserve else None
        self.early = set_checkpoint_early_stop.wanted
        self.places: list[weakref.ref[_Place]] = []
        self.found: weakref.WeakKeyDictionary[_Place, Tensor] = weakref.WeakKeyDictionary()

    def pack(self, tensor: Tensor) -> _Place:
        """The place of a tensor that is saved in the first run."""
        place = _Place(tensor)
        self.places.append(weakref.ref(place))
        return place

    def unpack(self, place: _Place) -> Tensor:
        """The tensor of a place, computed again where it has to be."""
        if place not in self.found:
            self.run()
        found = self.found.pop(place, None)
        if found is None:
            raise CheckpointError(_FEWER.format(len(self.places), "fewer"))
        return found

    def run(self) -> None:
        """Run the function again, on arguments apart from those of the first run."""
        args: list[Any] = []
        for a, wants in zip(self.args, self.wanting, strict=True):
            args.append(_again(a.read(_OWNER)) if type(a) is Saved else a)
            if wants:
                args[-1].requires_grad_()
        count = 0

        def fill(tensor: Tensor) -> Tensor:
            nonlocal count
            if count == len(self.places):
                raise CheckpointError(_FEWER.format(count, "more"))
            place = self.places[count]()
            count += 1
            if place is not None:
                if self.check and place.what != _Place(tensor).what:
                    raise CheckpointError(
                        "torch.utils.checkpoint: Recomputed values for the following tensors have "
                        "different metadata than during the forward pass.\ntensor at position "
                        f"{count - 1}:\nsaved metadata: {place.what}\n"
                        f"recomputed metadata: {_Place(tensor).what}"
                    )
                self.found[place] = tensor.detach()
            if self.early and count == len(self.places):
                raise _Stop
            return tensor

        now = default_generator.__getstate__()
        if self.preserve:
            default_generator.__setstate__(self.state)
        try:
            with enable_grad(), restored(self.autocast), self.context:
                with saved_tensors_hooks(fill, lambda tensor: tensor):
                    self.function(*args)
        except _Stop:
            pass
        finally:
            if self.preserve:
                default_generator.__setstate__(now)


_FEWER = (
    "torch.utils.checkpoint: A different number of tensors was saved during the original forward "
    "and recomputation: {} in the forward pass, {} when it ran again."
)
_OWNER = GradFn.__new__(GradFn)  # whose arguments they are, for errors


class set_checkpoint_early_stop:
    """Inside, whether checkpointed calls stop their second run once all that is needed is there.

    Args:
        enable: by default they do.
    """

    wanted = True

    def __init__(self, enable: bool) -> None:
        self.enable = enable

    def __enter__(self) -> None:
        self.was = set_checkpoint_early_stop.wanted
        set_checkpoint_early_stop.wanted = self.enable

    def __exit__(self, *exc: object) -> None:
        set_checkpoint_early_stop.wanted = self.was


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
        use_reentrant: False: the tape is that of a plain call, but for what its entries saved. It
            is computed again when it is first read, as far as it is needed. Else the function is
            one entry of the tape, whose backward pass runs one of its own.
        context_fn: gives two context managers, for the first and the second run.
        determinism_check: "none" for not comparing what both runs save.
        debug: accepted as torch does.

    Returns:
        What the function returns. Parameters that it uses get their gradients too.

    Raises:
        CheckpointError: in the backward pass, if the function saves other tensors then.
        ValueError: contexts for a function that is one entry of the tape.
    """
    if use_reentrant is False:
        contexts = (nullcontext(), nullcontext()) if context_fn is None else context_fn()
        return _saving_places(
            function, args, kwargs, preserve_rng_state, contexts, determinism_check != "none"
        )
    if context_fn is not None:
        raise ValueError(
            "Passing `context_fn` or `debug` is only supported when use_reentrant=False."
        )

    def call(*values: Any) -> Any:
        return function(*values, **kwargs)

    wants = any(isinstance(a, Tensor) and a.requires_grad for a in args)
    if not wants:  # parameters inside the function may still want theirs
        marker = _marker()
        return _Checkpoint.apply(
            lambda _, *values: call(*values), preserve_rng_state, marker, *args
        )
    return _Checkpoint.apply(call, preserve_rng_state, *args)


def _saving_places(
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    preserve: bool,
    contexts: tuple[Any, Any],
    check: bool,
) -> Any:
    """Call a function whose tape saves places in place of tensors."""
    if not modes.grad:
        with contexts[0]:
            return function(*args, **kwargs)
    names = list(kwargs)

    def call(*values: Any) -> Any:
        return function(*values[: len(args)], **dict(zip(names, values[len(args) :], strict=True)))

    again = _Recomputed(call, (*args, *kwargs.values()), preserve, contexts[1], check)
    with contexts[0], saved_tensors_hooks(again.pack, again.unpack):
        return function(*args, **kwargs)


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


__all__ = [
    "CheckpointError",
    "checkpoint",
    "checkpoint_sequential",
    "set_checkpoint_early_stop",
]
