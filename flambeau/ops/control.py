"""Control rows: operations that apply graphs: again and again, or one of two.

`_scan` is one node however many steps it takes. What records a step, and gradients, are in
`ops/steps.py`; the CPU runs the program of the step (`runtime/stepping.py`), other targets take it
apart into steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.device import cpu
from flambeau.dtype import bool as bool_
from flambeau.ir.body import Body
from flambeau.ir.graph import Node, below
from flambeau.ir.interpret import evaluate
from flambeau.ops.rows import NAMES
from flambeau.ops.table import HOLE, composite, emit_many, expand_composite, primitive, specs_of
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
_scan.batch("steps")


def _once(node: Node, body: Body) -> int:
    """Operations of a graph; those of a float result count once an element."""
    total = 0
    for n in body.nodes:
        if n.op.flops is not None:
            total += n.op.flops(n)
        elif n.op.kind == "elementwise" and n.dtype.category == 2:
            total += n.numel
    return int(total)


_scan.flops(lambda node: _once(node, node.attrs[0]) * node.attrs[1])


@composite(keep=True, method=False, public=False)
def _cond(yes: Body, no: Body, pred: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
    """One of two graphs applied: `yes(given)` where `pred` is true, else `no(given)`.

    Args:
        yes, no: graphs over `given` with results alike.
        pred: bool, one element.
        given: what either reads.

    Returns:
        The results. Taken apart, both are computed.
    """
    choice = pred.reshape(())
    both = ([*body.over([t._node() for t in given])] for body in (yes, no))
    device = pred._cell.device
    return tuple(
        NAMES["where"](choice, make(a, device), make(b, device)) for a, b in zip(*both, strict=True)
    )


def _cond_results(yes: Body, no: Body, pred: Tensor, *given: Tensor) -> tuple[Any, ...]:
    """Shapes and dtypes, from the graphs'; also checks that the arguments fit them.

    Raises:
        RuntimeError: they do not.
    """
    for body in (yes, no):
        if not isinstance(body, Body):
            raise RuntimeError("a branch is a graph")
        _fits("a branch", body, given, [t._shape for t in given])
    if pred.dtype is not bool_ or pred.numel() != 1:
        raise RuntimeError(f"branches are chosen by one bool, not by {pred.type()}")
    if yes.specs != no.specs or not yes.specs:
        raise RuntimeError(f"branches give {yes.specs} and {no.specs}")
    return yes.specs


_cond.results(_cond_results)
_cond.row.calls = True
_cond.flops(lambda node: max(_once(node, body) for body in node.attrs[:2]))


@primitive("host", differentiable=False)
def _while(row: Any, body: Body, pred: Tensor, carries: int, *given: Tensor) -> tuple[Tensor, ...]:
    """A graph applied as long as it says: `while pred: pred, carried = body(carried, rest)`.

    Args:
        body: its inputs are the carried values and the rest of `given`; its results are whether
            there is another step, and the next carried values.
        pred: bool, one element: whether there is a first step.
        carries: how many values are carried.
        given: the first carried values; what is the same for all steps.

    Returns:
        The last carried values.
    """
    specs = _while_results(body, pred, carries, *given)
    attrs = (body, HOLE, carries, *(HOLE for _ in given))
    return emit_many(row, (pred, *given), attrs, specs)


def _while_results(body: Body, pred: Tensor, carries: int, *given: Tensor) -> tuple[Any, ...]:
    """Shapes and dtypes of the carried values; also checks that the arguments fit the graph.

    Raises:
        RuntimeError: they do not.
    """
    if not isinstance(body, Body) or type(carries) is not int or not 0 < carries <= len(given):
        raise RuntimeError("a loop takes a graph, and carries some of what it is given")
    _fits("a loop", body, given, [t._shape for t in given])
    carried = tuple((n.shape, n.dtype) for n in body.given[:carries])
    questions: list[Any] = [pred, *body.outputs[:1]]
    for t in questions:
        if t.dtype is not bool_ or math.prod(t.shape) != 1:
            raise RuntimeError("a loop goes on as one bool says")
    if body.specs[1:] != carried:
        raise RuntimeError(f"a loop carries {carried}, but its step gives {body.specs[1:]}")
    return carried


def _fits(what: str, body: Body, given: Sequence[Tensor], shapes: Sequence[Any]) -> None:
    """Refuse tensors of other shapes or dtypes than a graph's inputs.

    Raises:
        RuntimeError: they are.
    """
    if len(given) != body.inputs:
        raise RuntimeError(f"{what} takes {body.inputs} values and is given {len(given)}")
    for t, shape, n in zip(given, shapes, body.given, strict=True):
        if t._shape != shape or shape != n.shape or t.dtype is not n.dtype:
            raise RuntimeError(f"{what} takes {n.dtype}{list(n.shape)} and is given {t.type()}")


def _while_reference(*given: Any) -> tuple[Any, ...]:
    """The loop in NumPy: of arrays, then the row's attributes."""
    start = next(k for k, a in enumerate(given) if isinstance(a, Body))
    body, _, carries = given[start : start + 3]
    pred, *arrays = given[:start]
    carried, rest = arrays[:carries], arrays[carries:]
    while pred.all():
        known = dict(zip(body.given, [*carried, *rest], strict=True))
        pred, *carried = _evaluated(body.outputs, known)
    return tuple(carried)


def _evaluated(outputs: Sequence[Node], known: dict[Node, Any]) -> list[Any]:
    """Values in NumPy, of named rows by their bodies.

    Args:
        outputs: whose.
        known: values that are there, to which others are added.
    """
    for n in below(outputs, set(known)):
        if n in known:
            continue
        if n.buffer is not None:
            known[n] = make(n, cpu)._array()
        elif n.op.kind == "composite" and n.op.reference is None:
            found = _evaluated(expand_composite(n), dict(known))
            known[n] = found[0] if specs_of(n) is None else found
        else:
            known[n] = evaluate(n, [known[s] if type(s) is Node else s for s in n.src])
    return [known[n] for n in outputs]


_while.results(_while_results)
_while.reference(_while_reference)
_while.row.calls = True


__all__ = ["applied"]
