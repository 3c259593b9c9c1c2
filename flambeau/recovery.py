"""What of a failed program can still be computed.

Values of a flush need not depend on one another: an index out of range, or a kernel that cannot be
compiled, takes only those with it that are made from its result. Which operation that is comes out
by halving: programs are run of the first half of the operations, then of the first quarter or three
quarters, until one operation more makes the program fail. A failure so costs a few programs more,
whatever the number of values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from flambeau.ir.graph import PICK, Node, Op, below, dependents, reachable

#: A value whose computation raised; using it raises again.
FAILED = Op("failed", "effect")

Run = Callable[[list[Node]], list[Any]]


def is_effect(node: Node) -> bool:
    """Whether running a node does something that must not be done again."""
    return node.op.effects and node.op is not FAILED and node.buffer is None


def begun(wanted: Iterable[Node], error: BaseException) -> bool:
    """Whether the program of some values, which raised, may have started effects."""
    return any(map(is_effect, reachable(wanted))) and getattr(error, "effects", True)


def salvage(
    wanted: list[Node], error: Exception, run: Run
) -> tuple[list[Any], list[Exception | None]]:
    """Compute the values that do not depend on what fails.

    Args:
        wanted: values whose program raised before it started effects.
        error: what it raised.
        run: values -> their buffers, in new memory, or an exception. It is given values that
            depend on effects only once all else is known to work, and never after some started.

    Returns:
        for each value its buffer or None, and None or what its computation raised.
    """
    buffers: list[Any] = [None] * len(wanted)
    errors: list[Exception | None] = [None] * len(wanted)
    waiting = dependents(wanted, list(filter(is_effect, reachable(wanted))))
    left = list(range(len(wanted)))
    while left:
        nodes = [wanted[k] for k in left]
        gone = dependents(nodes, _causes(nodes, waiting, run))
        for k in left:
            errors[k] = error if wanted[k] in gone else None
        left = [k for k in left if errors[k] is None]
        nodes = [wanted[k] for k in left]
        try:
            for k, buffer in zip(left, run(nodes) if nodes else (), strict=True):
                buffers[k] = buffer
            break
        except Exception as found:
            error = found
        if begun(nodes, error):
            for k in left:
                errors[k] = error
            break
    return buffers, errors


def _causes(wanted: list[Node], waiting: set[Node], run: Run) -> Collection[Node]:
    """What makes the program of some values fail: values that failed before, else one operation;
    or all that is in `waiting`, if the program of all else does not fail."""
    nodes = [n for n in below(wanted, set()) if n.buffer is None and n.op.kind != "view"]
    known = [n for n in nodes if n.op is FAILED]
    if known:
        return known
    several = {n.src[0] for n in nodes if n.op is PICK}  # whose results are values, not they
    free = [n for n in nodes if n not in waiting]
    low, high = 0, len(free) - (len(free) == len(nodes))
    while low < high:  # the first `low` work, the first `high` + 1 do not, or some that wait
        middle = (low + high) // 2
        if _works(free[: middle + 1], several, run):
            low = middle + 1
        else:
            high = middle
    if low == len(free):
        return [n for n in nodes if n in waiting]
    return [free[low].src[0] if free[low].op is PICK else free[low]]


def _works(nodes: list[Node], several: set[Node], run: Run) -> bool:
    """Whether the program of some operations can be run."""
    unread = dict.fromkeys(n for n in nodes if n not in several)
    for node in nodes:
        for source in _sources(node):
            unread.pop(source, None)
    try:
        if unread:
            run(list(unread))
    except Exception:
        return False
    return True


def _sources(node: Node) -> Iterator[Node]:
    """The values that a node reads, through views."""
    for source in node.src:
        if type(source) is Node:
            while source.buffer is None and source.op.kind == "view":
                source = source.src[0]
            yield source
