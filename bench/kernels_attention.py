"""Causal attention kernels, forward and backward, beside PyTorch's: GFLOP/s and share of the limit.

    python -m bench.kernels_attention [--dtype f32] [--threads 2] [--decoding]

Contenders are interleaved; times are the thread's CPU time on one thread, wall time on several; the
best of the rounds counts. The work counts the keys that are seen; the backward pass is what the
gradients take beyond the forward pass. With --decoding it is one query of each of 8 heads that
share their keys, beside what reading the keys and values takes and what the multiplications take.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import flambeau
from bench.limits.decoding import reading
from flambeau import record
from flambeau.kernels.limit import fma_limit
from flambeau.nn import functional as F

#: batch, heads, queries and keys, features of a head
SHAPES = ((8, 6, 256, 64), (1, 8, 2048, 64), (1, 8, 2048, 128))
DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


def best(calls: list[Callable[[], Any]], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Seconds of the fastest of several runs of each, taken in turn."""
    found = [float("inf")] * len(calls)
    for call in calls:
        call()
    for _ in range(rounds):
        for k, call in enumerate(calls):
            start = clock()
            call()
            found[k] = min(found[k], clock() - start)
    return found


def contenders(shape: tuple[int, int, int, int], dtype: str) -> list[Callable[[], Any]]:
    """Flambeau's forward pass and training pass, and torch's; heads are views of one tensor."""
    b, h, n, e = shape
    drawn = np.random.default_rng(0).standard_normal((4, b, n, h, e)).astype(np.float32)
    theirs = [torch.from_numpy(x).to(getattr(torch, dtype)).transpose(1, 2) for x in drawn]
    ours = [flambeau.tensor(x).to(getattr(flambeau, dtype)).transpose(1, 2) for x in drawn]
    record.flush()
    found: list[Callable[[], Any]] = []
    for library, attend, (*leaves, g) in (
        (flambeau, F.scaled_dot_product_attention, ours),
        (torch, torch.nn.functional.scaled_dot_product_attention, theirs),
    ):
        leaves = [x.detach().requires_grad_() for x in leaves]

        def forward(library: Any = library, attend: Any = attend, leaves: Any = leaves) -> None:
            with library.no_grad():
                kept = attend(*leaves, is_causal=True)
            record.flush()
            del kept

        def train(
            library: Any = library, attend: Any = attend, leaves: Any = leaves, g: Any = g
        ) -> None:
            kept = library.autograd.grad(attend(*leaves, is_causal=True), leaves, g)
            record.flush()
            del kept

        found += [forward, train]
    return found


def decoding(dtype: str, rounds: int, clock: Callable[[], float], limit: float) -> None:
    """Print a line a number of keys."""
    rng = np.random.default_rng(0)
    for keys, e, batch in ((4096, 64, 1), (16384, 64, 1), (65536, 64, 1), (65536, 64, 2)):
        q, k, v = (
            flambeau.from_numpy(rng.standard_normal((batch, h, n, e), np.float32)).to(
                getattr(flambeau, DTYPES[dtype])
            )
            for h, n in ((8, 1), (1, keys), (1, keys))
        )
        record.flush()

        def attend(q: Any = q, k: Any = k, v: Any = v) -> None:
            with flambeau.no_grad():
                kept = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            record.flush()
            del kept

        size = 2 * batch * keys * e * (4 if dtype == "f32" else 2)
        ours, read = best([attend, reading(size)], 4 * rounds, clock)
        multiply = 4 * batch * 8 * keys * e / limit / 1e9
        bound = max(read, multiply)
        print(
            f"{batch} x {keys:6} keys of {e}: {ours * 1e6:6.0f} us; reading {read * 1e6:6.0f}, "
            f"multiplying {multiply * 1e6:6.0f}: {ours / bound:4.2f}x the longer", flush=True
        )  # fmt: skip


def main() -> None:
    """Print a line a shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--decoding", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    flambeau.set_num_threads(given.threads)
    clock = time.thread_time if given.threads == 1 else time.perf_counter
    limit = fma_limit("bf16" if given.dtype == "bf16" else "f32") * given.threads
    if given.decoding:
        decoding(given.dtype, given.rounds, clock, limit)
        return
    print(f"limit {limit:.0f} GFLOP/s; flambeau (share of it) / torch, GFLOP/s")
    for shape in SHAPES:
        b, h, n, e = shape
        work = 4 * b * h * e * n * (n + 1) / 2
        ours, both, theirs, all_ = best(contenders(shape, DTYPES[given.dtype]), given.rounds, clock)
        parts = []
        for name, share, a, c in (
            ("forward", 1.0, ours, theirs), ("backward", 2.5, both - ours, all_ - theirs)
        ):  # fmt: skip
            mine, peer = share * work / a / 1e9, share * work / c / 1e9
            parts.append(f"{name} {mine:6.1f} ({mine / limit:4.0%}) / {peer:6.1f}, {c / a:4.2f}x")
        print(f"{shape!s:20}", "   ".join(parts), flush=True)


if __name__ == "__main__":
    main()
