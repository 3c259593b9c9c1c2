"""Long sequences: the memory of attention and of block masks, and how long masks take to make.

    python -m bench.attention_long [--length 65536] [--mask 131072]

The first line is the largest resident memory of a process that does causal attention forward and
backward, one head of 64 features in float32, the interpreter and the library included. The second
is a block mask, causal with a sliding window within documents, made three times, each time another
one: the least processor time, and the largest memory that Python and NumPy had for it.
"""

from __future__ import annotations

import argparse
import resource
import time
import tracemalloc
from typing import Any

import numpy as np

import flambeau
from flambeau.nn import functional as F
from flambeau.nn.attention.flex_attention import create_block_mask


def attention(length: int) -> float:
    """Do it; -> bytes."""
    rng = np.random.default_rng(0)
    q, k, v = (
        flambeau.from_numpy(rng.standard_normal((1, 1, length, 64), np.float32)).requires_grad_()
        for _ in range(3)
    )
    F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
    assert q.grad is not None
    q.grad.numpy()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _windowed(document: Any, window: int) -> Any:
    """Causal, within a window and a document."""
    return lambda b, h, q, k: (k <= q) & (q - k <= window) & (document[q] == document[k])


def mask(length: int) -> tuple[float, int]:
    """-> (seconds of processor time, bytes) of a block mask."""
    document = flambeau.arange(length) * 9 // length
    took = []
    most = 0
    for window in (4000, 4001, 4002):
        start = time.process_time()
        if window == 4002:
            tracemalloc.start()
        create_block_mask(_windowed(document, window), None, None, length, length)
        if window == 4002:
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        else:
            took.append(time.process_time() - start)
    return min(took), most


def main() -> None:
    """Print both lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=65536)
    parser.add_argument("--mask", type=int, default=131072)
    given = parser.parse_args()
    print(f"attention, {given.length} positions: {attention(given.length) / 1e6:.0f} MB")
    seconds, size = mask(given.mask)
    print(f"block mask, {given.mask} positions: {seconds:.2f} s, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
