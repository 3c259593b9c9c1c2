"""Which blocks of scores a mask shows: by bounds of its program where these decide, by evaluation
of a block's places elsewhere. Memory is that of a state a block.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import flambeau
from flambeau.control import without_value
from flambeau.ops.bounds import Bounds, bounds
from flambeau.ops.mods import Mod
from flambeau.ops.reach import outside, strays
from flambeau.tensor import Tensor

EMPTY, SOME, WHOLE = 0, 1, 2
#: blocks whose bounds are computed at once
_CELLS = 1 << 15
#: places that are evaluated at once
_PLACES = 1 << 19
#: the blocks in which indices are looked at, and at how many places one by one
_BLOCK = (128, 128)
_MOST_PLACES = 1 << 25
#: the states of masks that were decided lately
_known: dict[Any, Any] = {}
_MOST_KNOWN = 16


def block_states(
    mod: Mod,
    captured: Sequence[Tensor],
    sizes: tuple[int, int, int, int],
    block: tuple[int, int],
    most: float = math.inf,
) -> Any:
    """The state of every block: `EMPTY`, `SOME` or `WHOLE`.

    Args:
        mod: a mask_mod's program.
        captured: its tensors.
        sizes: (B, H, queries, keys).
        block: queries and keys of a block. A block that the mask's end cuts is never whole.
        most: how many places may be evaluated.

    Returns:
        (B, H, rows, columns) int8, or None where more places would have to be evaluated. Of a mask
        that captures what has no value yet, such as an input of a program that is traced, every
        block may show something.
    """
    if any(map(without_value, captured)):
        rows, columns = (-(-n // size) for n, size in zip(sizes[2:], block, strict=True))
        return np.full((*sizes[:2], rows, columns), SOME, np.int8)
    tables = [t.detach().numpy() for t in captured]
    digest = hashlib.blake2b()
    for table in tables:
        digest.update(np.ascontiguousarray(table).view(np.uint8).data if table.size else b"")
    key = (mod, sizes, block, most, digest.digest())
    states = _known.pop(key, None)
    if states is None:  # not known, or too many places
        states = _decided(mod, captured, tables, sizes, block, most)
    _known[key] = states  # the last one; the first one is let go
    if len(_known) > _MOST_KNOWN:
        _known.pop(next(iter(_known)), None)
    return None if states is None else np.broadcast_to(states, (*sizes[:2], *states.shape[2:]))


def _decided(
    mod: Mod,
    captured: Sequence[Tensor],
    tables: list[Any],
    sizes: Any,
    block: tuple[int, int],
    most: float,
) -> Any:
    """The states, of size 1 along what the mask does not depend on."""
    rows, columns = -(-sizes[2] // block[0]), -(-sizes[3] // block[1])
    heads = tuple(n if name in mod.slots else 1 for name, n in zip("bh", sizes, strict=False))
    states = np.empty((*heads, rows, columns), np.int8)
    ranges = [Bounds(np.arange(float(n)), np.arange(float(n))) for n in heads]
    for n, size in zip(sizes[2:], block, strict=True):
        first = np.arange(0, n, size, dtype=np.float64)
        ranges.append(Bounds(first, np.minimum(first + size, n) - 1))
    step = max(1, _CELLS // max(1, columns * heads[0] * heads[1]))
    for row in range(0, rows, step):
        part = [*ranges[:2], Bounds(*(x[row : row + step] for x in ranges[2])), ranges[3]]
        slots = {
            name: Bounds(*(x.reshape([-1 if k == d else 1 for k in range(4)]) for x in one))
            for d, (name, one) in enumerate(zip("bhq", part[:3], strict=True))
        }
        slots["kv"] = Bounds(*(x.reshape(1, 1, 1, -1) for x in part[3]))
        (found,), _ = bounds(mod, slots, tables)
        low, high = (x.astype(np.int8) for x in found)
        states[:, :, row : row + step] = np.where(low == high, 2 * low, SOME)
    if not states.size:
        return states
    undecided = np.stack(np.nonzero(states == SOME), -1).astype(np.int32)
    area = min(block[0], sizes[2]) * min(block[1], sizes[3])
    many = max(1, _PLACES // area)
    if len(undecided) * area > most:
        return None
    for start in range(0, len(undecided), many):
        some = undecided[start : start + many]
        states[tuple(some.T)] = _evaluated(mod, captured, some, sizes, block)
    if sizes[2] % block[0]:
        states[:, :, -1] = np.minimum(states[:, :, -1], SOME)
    if sizes[3] % block[1]:
        states[..., -1] = np.minimum(states[..., -1], SOME)
    return states


def _evaluated(
    mod: Mod, captured: Sequence[Tensor], blocks: Any, sizes: Any, block: tuple[int, int]
) -> Any:
    """The states of blocks (n, 4), from all their places."""
    place = flambeau.from_numpy(blocks)
    slots: list[Any] = [None, *(place[:, d].reshape(-1, 1, 1) for d in range(2))]
    inside: Any = None
    area = 1
    for d, shape in ((2, (1, -1, 1)), (3, (1, 1, -1))):
        size = min(block[d - 2], sizes[d])
        area *= size
        own = flambeau.arange(size, dtype=flambeau.int32).reshape(shape)
        slots.append(place[:, d].reshape(-1, 1, 1) * block[d - 2] + own)
        if sizes[d] % size:
            within = slots[-1] < sizes[d]
            inside = within if inside is None else inside & within
    seen = mod.over([*slots, None], captured)[0]
    seen = seen if isinstance(seen, Tensor) else flambeau.full((), seen)
    if inside is not None:
        seen = seen & inside
    count = seen.expand(len(blocks), *(x.shape[d] for d, x in ((1, slots[3]), (2, slots[4]))))
    total = count.sum((1, 2), dtype=flambeau.int32).numpy()
    return np.where(total == area, WHOLE, np.where(total > 0, SOME, EMPTY))


def refuse_outside(
    mod: Mod,
    captured: Sequence[Tensor],
    sizes: tuple[int, int, int, int],
    mask: Mod | None = None,
    masked: Sequence[Tensor] = (),
) -> None:
    """Raise if a mod reads a captured tensor outside of it at a place that `mask` shows.

    Decided by bounds of the program, and by values only where these leave it open and the values
    that indices come from are in memory already.

    Args:
        mod, captured: the program and its tensors.
        sizes: (B, H, queries, keys).
        mask, masked: a mask_mod's program and its tensors; all places count without one.

    Raises:
        IndexError: it does.
    """
    found = outside(mod, mask, sizes)
    if found is None or flambeau.compiler.is_compiling():
        return
    program, kept = found
    tables = [t for k, t in enumerate((*captured, *masked)) if k in kept]
    if any(t._cell.node.buffer is None for t in tables):
        return
    states = block_states(program, tables, sizes, _BLOCK, _MOST_PLACES)
    if states is not None and states.any():
        wanted = ", ".join(sorted({str(n) for _, n in strays(mod, sizes)}))
        raise IndexError(
            "index is out of bounds: a mod reads a captured tensor outside of a dimension with "
            f"size {wanted} for (B, H, L, S) = {sizes}"
        )


def block_lists(marks: Any) -> tuple[Tensor, Tensor]:
    """(how many blocks each row has, their numbers first and then the others'), int32.

    Args:
        marks: (B, H, rows, columns) bool array.
    """
    order = np.empty(marks.shape, np.int32)
    for place in np.ndindex(marks.shape[:3]):  # a row at a time: argsort's numbers are wide
        order[place] = np.argsort(~marks[place], kind="stable")
    counts = marks.sum(-1, dtype=np.int32)
    return flambeau.from_numpy(counts), flambeau.from_numpy(order)
