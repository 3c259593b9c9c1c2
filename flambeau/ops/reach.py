"""Where a mod reads its tables outside of them.

Kernels move such places in, so that nothing else's memory is touched; that is no answer to give.
Bounds of the indices over all places settle most mods once for all. For the others a mod is made
that is True where an index is outside, to be asked of the places that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from flambeau import dtypes
from flambeau.ops.bounds import Bounds, bounds
from flambeau.ops.mods import GATHER, SLOTS, Mod, Ref, Step
from flambeau.ops.rows import ROWS


@cache
def strays(mod: Mod, sizes: tuple[int, int, int, int]) -> tuple[tuple[Ref, int], ...]:
    """The indices, each with the size of its dimension, that may be outside at (B, H, L, S) places
    as far as bounds say, whatever tables hold."""
    found = [
        (ref, mod.captured[step.src[0][1]][0][d])
        for step in mod.steps
        if step.op is GATHER
        for d, ref in enumerate(step.src[1:])
    ]
    found = list(dict.fromkeys(found))
    before = [_unwrapped(mod, ref, n) for ref, n in found]
    slots = {
        name: Bounds(np.asarray(0.0), np.asarray(n - 1.0))
        for name, n in zip(SLOTS[1:5], sizes, strict=True)
    }
    refs = tuple(x for (ref, _), own in zip(found, before, strict=True) for x in (ref, own))
    outputs, _ = bounds(replace(mod, outputs=refs), slots, [None] * len(mod.captured))
    return tuple(
        (ref, n)
        for (ref, n), own, x, plain in zip(found, before, outputs[::2], outputs[1::2], strict=True)
        if not (0 <= x.low and x.high < n)
        and not (own != ref and -n <= plain.low <= plain.high < n)
    )


def _unwrapped(mod: Mod, ref: Ref, n: int) -> Ref:
    """The index i of one that counts from the end where it is negative: i < 0 ? i + n : i."""
    if ref[0] != "step" or mod.steps[ref[1]].op.name != "select_where":
        return ref
    condition, other, own = mod.steps[ref[1]].src
    if condition[0] != "step" or other[0] != "step":
        return ref
    less, plus = mod.steps[condition[1]], mod.steps[other[1]]
    wraps = less.op.name == "lt" and less.src == (own, ("number", 0))
    wraps = wraps and plus.op.name == "plus" and plus.src == (own, ("number", n))
    return own if wraps else ref


@cache
def outside(
    mod: Mod, mask: Mod | None, sizes: tuple[int, int, int, int]
) -> tuple[Mod, tuple[int, ...]] | None:
    """A mask_mod that is True where `mod` reads a table outside of it and `mask` is True.

    Args:
        mod, mask: programs; the captured tensors are those of `mod`, then those of `mask`.
        sizes: (B, H, L, S), for which bounds do not settle it.

    Returns:
        The program and which of the captured tensors it reads, or None where indices are inside,
        or depend on the score.
    """
    found = strays(mod, sizes)
    if not found:
        return None
    steps = list(mod.steps)
    last: list[Ref] = []

    def add(name: str, *src: Ref) -> Ref:
        steps.append(Step(ROWS[name], src, (), dtypes.bool))
        return ("step", len(steps) - 1)

    for ref, n in found:
        low, high = add("lt", ref, ("number", 0)), add("ge", ref, ("number", n))
        either = add("logical_or", low, high)
        last = [add("logical_or", *last, either) if last else either]
    if mask is not None:
        first, tables = len(steps), len(mod.captured)
        steps += [
            replace(s, src=tuple(_moved(r, first, tables) for r in s.src)) for s in mask.steps
        ]
        last = [add("logical_and", *last, _moved(mask.outputs[0], first, tables))]
    captured = mod.captured + (mask.captured if mask is not None else ())
    pruned, kept = _needed(Mod(tuple(steps), tuple(last), captured, mod.score))
    return None if "score" in pruned.slots else (pruned, kept)


def _moved(ref: Ref, steps: int, tables: int) -> Ref:
    """A Ref where a program follows another one's steps and tables."""
    kind, k = ref
    return (kind, k + (steps if kind == "step" else tables if kind == "captured" else 0))


def _needed(mod: Mod) -> tuple[Mod, tuple[int, ...]]:
    """The program without what its outputs do not need, and the captured tensors that are left."""
    wanted = set(mod.outputs)
    for k in reversed(range(len(mod.steps))):
        if ("step", k) in wanted:
            wanted.update(mod.steps[k].src)
    at = [k for k in range(len(mod.steps)) if ("step", k) in wanted]
    kept = tuple(k for k in range(len(mod.captured)) if ("captured", k) in wanted)
    new: dict[Ref, Ref] = {("step", k): ("step", n) for n, k in enumerate(at)}
    new.update({("captured", k): ("captured", n) for n, k in enumerate(kept)})

    def renamed(refs: Sequence[Ref]) -> tuple[Ref, ...]:
        return tuple(ref if ref[0] == "number" else new.get(ref, ref) for ref in refs)

    steps = tuple(replace(mod.steps[k], src=renamed(mod.steps[k].src)) for k in at)
    captured = tuple(mod.captured[k] for k in kept)
    return Mod(steps, renamed(mod.outputs), captured, mod.score), kept
