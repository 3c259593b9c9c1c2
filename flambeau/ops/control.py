"""Control rows: operations that apply a graph again and again.

`_scan` is one node however many steps it takes. What records a step, and gradients, are in
`ops/steps.py`; the CPU runs the program of the step (`runtime/stepping.py`), other targets take it
apart into steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.ir.body import Body
from flambeau.ir.graph import Node
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite
from flambeau.tensor import Tensor, make


def applied(body: Body, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The results of a graph over tensors."""
    device = tensors[0]._cell.device
    return [make(n, device) for n in body.over([t._node() for t in tensors])]


@composite(keep=True, method=False, public=False)
def _scan(
    body: Body,
    steps: int,
    carries: int,
    slices: int,
    kept: tuple[int, ...],
    reverse: bool,
    *given: Tensor,
) -> tuple[Tensor, ...]:
    """A graph applied step after step: `carried, results = body(carried, slices, rest)`.

    Args:
        body: its inputs are the carried values, a slice of each sequence, and the rest of `given`;
            its results are the next carried values, then those of the step.
        steps: how many; at least 1.
        carries: how many values are carried.
        slices: how many sequences there are.
        kept: the carried values of which a result is what they were before each step.
        reverse: from the last slice to the first; results stand at their slices' places.
        given: the first carried values; the sequences (steps, *); what is the same for all steps.

    Returns:
        The last carried values; the steps' results, (steps, *) each; then those of `kept`.
    """
    carried, sequences = list(given[:carries]), given[carries : carries + slices]
    rest = given[carries + slices :]
    before: list[list[Tensor]] = [[] for _ in kept]
    found: list[list[Tensor]] = [[] for _ in body.outputs[carries:]]
    for t in reversed(range(steps)) if reverse else range(steps):
        for column, k in zip(before, kept, strict=True):
            column.append(carried[k])
        made = applied(body, [*carried, *(x[t] for x in sequences), *rest])
        carried = made[:carries]
        for column, value in zip(found, made[carries:], strict=True):
            column.append(value)
    columns = [column[::-1] if reverse else column for column in (*found, *before)]
    return (*(c.clone() for c in carried), *(NAMES["stack"](column) for column in columns))


def _scan_results(
    body: Body, steps: int, carries: int, slices: int, kept: Any, reverse: bool, *given: Tensor
) -> tuple[Any, ...]:
    """Shapes and dtypes, from the graph's; also checks that the arguments fit it.

    Raises:
        RuntimeError: they do not.
    """
    numbers = (steps, carries, slices, *kept)
    if not isinstance(body, Body) or any(not isinstance(n, int) or n < 0 for n in numbers):
        raise RuntimeError("a scan takes a graph, and numbers that are not negative")
    if steps < 1 or carries + slices > len(given) or len(given) != body.inputs:
        raise RuntimeError(f"a scan of {steps} steps over {len(given)} of {body.inputs} inputs")
    if carries > len(body.outputs) or any(k >= carries for k in kept):
        raise RuntimeError(f"a scan carries {carries} of {len(body.outputs)} results")
    for k, (t, n) in enumerate(zip(given, body.given, strict=True)):
        shape = (steps, *n.shape) if carries <= k < carries + slices else n.shape
        if t._shape != shape or t.dtype is not n.dtype:
            raise RuntimeError(f"a scan takes {n.dtype}{list(shape)} and is given {t.type()}")
    specs = body.specs
    if any(
        spec != (n.shape, n.dtype) for spec, n in zip(specs[:carries], body.given, strict=False)
    ):
        raise RuntimeError("a scan carries on values of another shape or dtype")
    columns = (*specs[carries:], *(specs[k] for k in kept))
    return (*specs[:carries], *(((steps, *shape), dtype) for shape, dtype in columns))


_scan.results(_scan_results)
_scan.row.calls = True


def _scan_flops(node: Node) -> int:
    """Of all steps; operations of a float result count once an element."""
    total = 0
    for n in node.attrs[0].nodes:
        if n.op.flops is not None:
            total += n.op.flops(n)
        elif n.op.kind == "elementwise" and n.dtype.category == 2:
            total += n.numel
    return int(total * node.attrs[1])


_scan.flops(_scan_flops)


__all__ = ["applied"]
