"""What of a failed program can still be computed.

Values of a flush need not depend on one another: an index out of range, or a kernel that cannot be
compiled, takes only those with it that are made from its result. Which operation that is comes out
by halving: programs are run of the first half of the operations, then of the first quarter or three
quarters, until one operation more makes the program fail. A failure so costs a few programs more,
whatever the number of values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from flambeau.ir.graph import COPY, INPUT, PICK, Node, Op, below, dependents, reachable

#: A value whose computation raised; using it raises again.
FAILED = Op("failed", "effect")

Run = Callable[[list[Node]], list[Any]]


def is_effect(node: Node) -> bool:
    """Whether running a node does something that must not be done again."""
    return node.op.effects and node.op is not FAILED and node.buffer is None


def begun(wanted: Iterable[Node], error: BaseException) -> bool:
    """Whether the program of some values, which raised, may have started effects."""
    return any(map(is_effect, reachable(wanted))) and getattr(error, "effects", True)


def as_pending(value: Node) -> Node:
    """A value as a program can compute it, though its memory exists."""
    if value.buffer is None:
        return value
    return Node(COPY, (value,), (), value.shape, value.dtype)


def fail(
    cell: Any, node: Node, error: BaseException | None, gone: Callable[[Node], bool] | None = None
) -> bool:
    """Mark a cell whose computation raised, or is not to be: writes are taken back, another result
    raises whenever it is used. Returns whether a write was lost.

    Args:
        node: the cell's value when it was to be computed.
        error: what it raised.
        gone: of the values that the cell had before, the newest that is not `gone` is pending
            again. If there is none, what stands in the cell's home is its value (programs write
            homes after every step that may raise).
    """
    past = cell.before or []
    writes = 1
    while past and (gone is None or gone(past[-1])):
        past.pop()
        writes += 1
    lost = bool(past) or cell.home is not None
    if past:
        fresh = past.pop()
    elif lost:
        fresh = Node(INPUT, (), (), node.shape, node.dtype)
        fresh.buffer = cell.home
    else:
        fresh = Node(FAILED, (), (str(error), type(error)), node.shape, node.dtype)
    cell.before = past or None
    if lost:
        cell.version -= writes
    if cell.node is node:
        cell.node = fresh
    return lost


def take_back(cells: Iterable[Any], start: int, error: BaseException) -> bool:
    """Take back what was written to cells from before a recording, of which nothing is executed.

    Args:
        cells: some that have values of the recording.
        start: the order of its first node.
        error: for results that only it has.

    Returns:
        Whether there was such a write.
    """
    wrong = [c for c in dict.fromkeys(cells) if _older(c, start)]
    for cell in wrong:
        fail(cell, cell.node, error, lambda value: value.order >= start)
    return bool(wrong)


def _older(cell: Any, start: int) -> bool:
    """Whether a cell was there before a recording started."""
    return cell.home is not None or (cell.before is not None and cell.before[0].order < start)


def again(node: Node) -> BaseException:
    """The error of a failed value, for another use of it."""
    message, kind = node.attrs
    found: BaseException = kind(message)
    found.inherited = True  # type: ignore[attr-defined]
    return found


class Saved(NamedTuple):
    """What is left of a value whose program raised.

    Attributes:
        value: the newest in its place that was computed, or None.
        buffer: its memory.
        writes: how many newer ones were not.
        error: what they raised.
    """

    value: Node | None
    buffer: Any
    writes: int
    error: Exception | None


def salvage(
    wanted: list[Node], earlier: list[list[Node]], error: Exception, run: Run
) -> list[Saved]:
    """Compute the values that do not depend on what fails.

    Args:
        wanted: values whose program raised before it started effects.
        earlier: for each value those that it replaced, oldest first. The newest that does not
            depend on what fails is computed where the value itself cannot be.
        error: what it raised.
        run: values -> their buffers, in new memory, or an exception. It is given values that
            depend on effects only once all else is known to work, and never after some started.
    """
    tried: list[list[Node]] = [[*past, node] for past, node in zip(earlier, wanted, strict=True)]
    buffers: list[Any] = [None] * len(wanted)
    errors: list[Exception | None] = [None] * len(wanted)
    every = [node for values in tried for node in values]
    waiting = dependents(every, list(filter(is_effect, reachable(every))))
    left = list(range(len(wanted)))
    while left:
        nodes = [tried[k][-1] for k in left]
        gone = dependents([n for k in left for n in tried[k]], _causes(nodes, waiting, run))
        for k in left:
            while tried[k] and tried[k][-1] in gone:
                tried[k].pop()
                errors[k] = error
        left = [k for k in left if tried[k]]
        nodes = [tried[k][-1] for k in left]
        try:
            for k, buffer in zip(left, run(nodes) if nodes else (), strict=True):
                buffers[k] = buffer
            break
        except Exception as found:
            error = found
        if begun(nodes, error):
            for k in left:
                tried[k], errors[k] = [], error
            break
    return [
        Saved(values[-1] if values else None, buffer, 1 + len(past) - len(values), failure)
        for values, past, buffer, failure in zip(tried, earlier, buffers, errors, strict=True)
    ]


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
