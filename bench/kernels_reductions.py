"""Reductions over any axes, mixed orders and chains, 16 MB of float32, beside PyTorch.

    python -m bench.kernels_reductions --threads 1

GB/s of what must be read and written, every element once, and the part of the memory's speed that
this is; what stays in a cache from one run to the next can exceed it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

import flambeau
from bench.kernels_convolution import best
from flambeau import record
from flambeau.kernels.limit import bandwidth_limit

SHAPE = (64, 64, 32, 32)

#: name, what is done to (x, y) by either library, tensors of SHAPE that it reads and writes
CASES: tuple[tuple[str, Callable[[Any, Any], Any], int], ...] = (
    *(
        (f"sum {axes}", lambda x, y, axes=axes: x.sum(axes), 1)
        for axes in (
            (0,), (1,), (2,), (3,), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (0, 1, 2),
            (0, 1, 3), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3),
        )
    ),
    ("rows", lambda x, y: x.reshape(4096, 1024).sum(1), 1),
    ("columns", lambda x, y: x.reshape(4096, 1024).sum(0), 1),
    ("largest of rows", lambda x, y: x.reshape(4096, 1024).amax(1), 1),
    ("variance of columns", lambda x, y: x.reshape(4096, 1024).var(0), 1),
    ("variance of channels", lambda x, y: x.var((0, 2, 3)), 1),
    ("channels put last", lambda x, y: x.permute(0, 2, 3, 1).sum(-1), 1),
    ("product, columns, root", lambda x, y: (x * y).reshape(4096, 1024).sum(0).sqrt(), 2),
    ("less its column means", lambda x, y: x - x.mean(0), 2),
    ("softmax of rows", lambda x, y: x.reshape(4096, 1024).softmax(1), 2),
    ("softmax of columns", lambda x, y: x.reshape(4096, 1024).softmax(0), 2),
    ("place of largest", lambda x, y: x.reshape(4096, 1024).argmax(1), 1),
)  # fmt: skip


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    flambeau.set_num_threads(given.threads)
    clock = time.thread_time if given.threads == 1 else time.perf_counter
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(SHAPE, dtype=np.float32) for _ in range(2)]
    limit = bandwidth_limit()
    print(f"memory: {limit:.0f} GB/s with {given.threads} threads; torch / flambeau, GB/s")
    theirs, ours = ([library.tensor(a) for a in arrays] for library in (torch, flambeau))
    for name, of, moved in CASES:

        def mine(of: Any = of) -> None:
            kept = of(*ours)
            record.flush()
            del kept

        times = best([partial(of, *theirs), mine], given.rounds, clock)
        a, b = (moved * arrays[0].nbytes / t / 1e9 for t in times)
        print(f"{name:24}{f'{a:.1f} / {b:.1f}':>14}{b / limit:>8.0%}", flush=True)


if __name__ == "__main__":
    main()
