"""Samples of `ops/control.py`."""

from __future__ import annotations

from typing import Any

from flambeau.dtype import float32
from flambeau.ir.body import body_of
from flambeau.ops.creation import zeros
from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples


def _scan(r: Any) -> list[Any]:
    found = []
    for steps, shape, kept, reverse in ((3, (2, 4), (0,), False), (2, (), (), True)):
        first, xs, factor = r(*shape), r(steps, *shape), r(*shape)
        carried, part = r(*shape), r(*shape)  # stand for what the step is given
        new = (carried * factor + part).tanh()
        ends = [carried._node(), part._node()]
        body, _ = body_of([new._node(), (new * 2)._node()], [*ends, factor._node()], ends[0].order)
        found.append((body, steps, 1, 1, kept, reverse, first, xs, factor))
    return found


def _cond(r: Any) -> list[Any]:
    found = []
    for shape, at in (((2, 4), (0,)), ((), ()), ((0, 3), (0, 0))):
        x, y = r(*shape), r(*shape)
        ends = [x._node(), y._node()]
        yes, _ = body_of([(x * y)._node(), x._node()], ends, ends[0].order)
        no, _ = body_of([(x - 1)._node(), (y * 2)._node()], ends, ends[0].order)
        found.append((yes, no, r(3, 3, dtype=float32)[at].max() > 0, r(*shape), r(*shape)))
    return found


def _while(r: Any) -> list[Any]:
    found = []
    for shape, most in (((2, 4), 5.0), ((), 0.5), ((3,), -1.0)):
        x, y, steps = r(*shape), r(*shape), zeros(())
        ends = [x._node(), steps._node(), y._node()]
        new, more = x * 0.5 + y, steps + 1
        roots = [(more < most)._node(), new._node(), more._node()]
        body, _ = body_of(roots, ends, ends[0].order)
        found.append((body, steps < most, 2, r(*shape), steps, r(*shape)))
    return found


SAMPLES: dict[str, Samples] = {"_scan": _scan, "_cond": _cond, "_while": _while}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
