"""Entries of the tape: made when a row is recorded on tensors that require grad."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from flambeau import record
from flambeau.ir.graph import Op
from flambeau.tape import GradFn, Saved, Spec, _sequence, edge_of, modes, spec_of
from flambeau.tensor import Tensor, _new


def called(title: str) -> Callable[[Any], Any]:
    """Give the last entry of a composite torch's name, where the body's last row has another.

    A body that records no entry (it returns its argument) names none.

    Args:
        title: torch's name, without "Backward0".
    """

    def declare(body: Any) -> Any:
        @functools.wraps(body)
        def run(*args: Any, **kwargs: Any) -> Any:
            before = _sequence()
            found = body(*args, **kwargs)
            entry = found._grad_fn
            if entry is not None and entry.order > before:
                entry.title = title
            return found

        return run

    return declare


def attach(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any], outs: tuple[Any, ...]) -> None:
    """Make the tape entry of a recorded call and hang the outputs on it."""
    first = outs[0]
    shape, dtype = first._shape, first.dtype
    device = first._cell.device
    spec = spec_of(shape, dtype, device, True)
    saves = op.saves
    view = op.kind == "view"
    edges: list[Any] = []
    kept: list[Any] = []
    names = op.parameters
    last = len(names) - 1
    if op.jvp == "multilinear":  # each factor is needed for the others' cotangents only
        left, right = args
        keep = (_needs(right), _needs(left))
        saves = frozenset(n for n, k in zip(names, keep, strict=True) if k and n in saves)
    for i, a in enumerate(args):
        if isinstance(a, Tensor):
            if a._base is not None:
                a._tracked()
            if a._rg:
                fn = a._grad_fn
                edges.append((fn, a._output_nr) if fn is not None else edge_of(a))
            else:
                edges.append(None)
            if saves and names[i if i < last else last] in saves:
                kept.append(Saved(a, False))
            elif view:  # what a view's rule needs to know is written on its own Spec
                kept.append(Spec(a._shape, a.dtype, a._cell.device, a._rg))
            elif a._shape is shape and a.dtype is dtype and a._rg:  # equal sizes may be two symbols
                kept.append(spec)
            else:
                kept.append(spec_of(a._shape, a.dtype, a._cell.device, a._rg))
        else:
            edges.append(None)
            kept.append(a)
    if len(outs) == 1:
        entry = GradFn(op, tuple(edges), tuple(kept), kwargs, (spec,))
        if dtype.category >= 2:
            first._grad_fn = entry
            first._rg = True
    else:
        metas = tuple(spec_of(o._shape, o.dtype, device, True) for o in outs)
        entry = GradFn(op, tuple(edges), tuple(kept), kwargs, metas)
        for k, o in enumerate(outs):
            if o.dtype.category >= 2:
                o._grad_fn = entry
                o._output_nr = k
                o._rg = True
    if "out" in saves:
        entry.out = tuple(Saved(o, True) for o in outs)
    elif len(outs) > 1:
        entry.out = tuple(
            Saved(o, True) if f"out{k}" in saves else None for k, o in enumerate(outs)
        )
    if modes.anomaly:
        entry.trace = record.calling_trace()
    if modes.seen is not None:
        modes.seen += [a for a in args if isinstance(a, Tensor) and a._rg]


#: The only Spec of the entry that `attach_two` made last: chains of one shape need no look-up.
_last = (Spec((), None, None, True),)


def attach_two(op: Op, a: Any, b: Any, out: Any, track_a: bool, track_b: bool) -> None:
    """As `attach` for two arguments, of which `b` may be a number: the hot path, written out."""
    global _last
    shape, dtype = out._shape, out.dtype
    device = out._cell.device
    metas = _last
    spec = metas[0]
    if spec.shape is not shape or spec.dtype is not dtype or spec.device is not device:
        spec = spec_of(shape, dtype, device, True)
        metas = _last = (spec,)
    edge_a = edge_b = None
    if track_a:
        fn = a._grad_fn
        if fn is not None:
            edge_a = (fn, a._output_nr)
        else:
            known = a._accumulator
            fn = known() if known is not None and a._base is None else None
            edge_a = (fn, 0) if fn is not None else edge_of(a)
    if track_b:
        fn = b._grad_fn
        if fn is not None:
            edge_b = (fn, b._output_nr)
        else:
            known = b._accumulator
            fn = known() if known is not None and b._base is None else None
            edge_b = (fn, 0) if fn is not None else edge_of(b)
    saves = op.saves
    kept_a: Any = spec
    kept_b: Any = spec if isinstance(b, Tensor) else b
    if saves:
        every = op.jvp != "multilinear"  # else a factor is needed for its partner's cotangent only
        first, second = op.parameters
        if first in saves and (every or track_b):
            kept_a = Saved(a, False)
        if second in saves and kept_b is spec and (every or track_a):
            kept_b = Saved(b, False)
    out._grad_fn = entry = _new(GradFn)
    entry.op = op
    entry.edges = (edge_a, edge_b)
    entry.args = (kept_a, kept_b)
    entry.metas = metas
    entry.order = _sequence()
    out._rg = True
    if "out" in saves:
        entry.out = (Saved(out, True),)
    if modes.anomaly:
        entry.trace = record.calling_trace()
    if modes.seen is not None:
        modes.seen += [t for t, track in ((a, track_a), (b, track_b)) if track]


def _needs(a: Any) -> bool:
    return isinstance(a, Tensor) and (a._rg or (a._base is not None and a._tracked()))


def tracks(args: Iterable[Any]) -> bool:
    """Whether a call with these arguments must make a tape entry."""
    return modes.grad and any(
        isinstance(a, Tensor) and (a._rg or (a._base is not None and a._tracked())) for a in args
    )
