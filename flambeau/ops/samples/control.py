"""Samples of `ops/control.py`."""

from __future__ import annotations

from typing import Any

from flambeau.ir.body import body_of
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


SAMPLES: dict[str, Samples] = {"_scan": _scan}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
