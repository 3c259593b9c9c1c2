"""What every variant of attention costs beside causal attention, for each block of scores computed.

    python -m bench.attention_variants [--features 64] [--rounds 12] [NAME ..]

One thread, 8 heads, 2048 queries and keys in float32; CPU time, causal attention and the variant in
turns, the best of the rounds. The block mask is made before. A line has the blocks of 128 x 128
that are computed, and the time for each of them as a multiple of causal attention's, of the forward
pass and of forward and backward together.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import flambeau
from flambeau import record
from flambeau.nn.attention.flex_attention import create_block_mask, flex_attention
from flambeau.nn.attention.variants import VARIANTS, Mods

HEADS, LENGTH, BLOCK = 8, 2048, 128


def settings(name: str) -> tuple[int, dict[str, Any]]:
    """(queries, a variant's settings) as models have them at this length."""
    place = flambeau.arange(LENGTH)
    draft = 256
    parents = (flambeau.arange(draft) + 1) // 4 - 1
    found: dict[str, dict[str, Any]] = {
        "cached": {"cached": flambeau.tensor(LENGTH - draft)},
        "sliding_window": {"window": 512},
        "global_window": {"window": 256, "tokens": 16},
        "dilated": {"window": 256, "step": 4},
        "strided": {"step": 128},
        "prefix_lm": {"prefix": flambeau.tensor([700])},
        "document": {"document": place * 5 // LENGTH},
        "transfusion": {"image": (place % 512 > 256).long() * (1 + place // 512)},
        "neighbourhood": {"width": 64, "radius": 6},
        "tree": {
            "ancestors": flambeau.eye(draft, dtype=flambeau.bool)
            | (parents[:, None] == flambeau.arange(draft)),
            "cached": LENGTH - draft,
        },
        "paged": {
            "page": (flambeau.arange(LENGTH // 16) * 5 % (LENGTH // 16))[None],
            "size": 16,
            "length": flambeau.tensor([LENGTH - 100]),
        },
        "ring": {"first_query": flambeau.tensor(LENGTH), "first_key": flambeau.tensor(LENGTH)},
        "alibi": {"slopes": 0.5 ** flambeau.arange(1.0, HEADS + 1)},
        "soft_cap": {"cap": 30.0},
        "relative_bias": {"bias": flambeau.randn(HEADS, 257)},
        "decay": {"gates": (-0.1 * flambeau.rand(1, HEADS, LENGTH)).cumsum(-1)},
        "nested": {
            "mods": VARIANTS["sliding_window"].make(window=256),
            "sequence": place // 512,
            "start": flambeau.arange(LENGTH // 512) * 512,
        },
    }
    return draft if name in ("cached", "tree") else LENGTH, found.get(name, {})


def calls(
    name: str, features: int, drawn: Any
) -> tuple[float, Callable[[], None], Callable[[], None]]:
    """(blocks that are computed, the forward pass, forward and backward)."""
    queries, given = settings(name)
    learned = [x.requires_grad_() for x in given.values() if _floating(x)]
    mods: Mods = VARIANTS[name].make(**given)
    mask = None
    blocks = queries / BLOCK * LENGTH / BLOCK
    if mods.mask is not None:
        mask = create_block_mask(mods.mask, None, None, queries, LENGTH)
        blocks = float(mask.to_dense().sum())
    q = flambeau.tensor(drawn[0][:, :, :queries], requires_grad=True)
    k, v = (flambeau.tensor(x, requires_grad=True) for x in drawn[1:3])
    g = flambeau.tensor(drawn[3][:, :, :queries])
    record.flush()

    def forward() -> None:
        with flambeau.no_grad():
            kept = flex_attention(q, k, v, mods.score, mask)
        record.flush()
        del kept

    def train() -> None:
        out = flex_attention(q, k, v, mods.score, mask)
        kept = flambeau.autograd.grad(out, [q, k, v, *learned], g)
        record.flush()
        del kept

    return blocks, forward, train


def _floating(x: Any) -> bool:
    return isinstance(x, flambeau.Tensor) and x.is_floating_point()


def best(first: Callable[[], None], second: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Seconds of CPU of the fastest of several runs of both, in turns."""
    found = [float("inf")] * 2
    for k in range(2 * rounds + 2):
        start = time.thread_time()
        (first, second)[k % 2]()
        if k > 1:
            found[k % 2] = min(found[k % 2], time.thread_time() - start)
    return found[0], found[1]


def main() -> None:
    """Print a line a variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=12)
    given = parser.parse_args()
    flambeau.set_num_threads(1)
    shape = (4, 1, HEADS, LENGTH, given.features)
    drawn = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    causal = calls("causal", given.features, drawn)
    print("variant          blocks   forward   forward and backward   (causal: 1)")
    for name in given.names:
        own = calls(name, given.features, drawn)
        ratios = []
        for which in (1, 2):
            peer, mine = best(causal[which], own[which], given.rounds)  # type: ignore[arg-type]
            ratios.append(mine / own[0] / (peer / causal[0]))
        print(f"{name:16} {own[0]:6.0f}    {ratios[0]:6.2f}    {ratios[1]:6.2f}", flush=True)


if __name__ == "__main__":
    main()
