"""Products of int8 matrices beside PyTorch: 10^9 operations a second and share of the limit.

    python -m bench.kernels_int8 [--threads 2]

The limit is four times that of f32 multiply-adds, measured in the same run: an instruction for dot
products takes four bytes where one for multiply-adds takes a float. Contenders are interleaved;
times are the thread's CPU time on one thread, wall time on several; the best of the rounds counts.
What is timed is a whole flush, some ten microseconds of it for finding and starting the program.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import flambeau
from flambeau import record
from flambeau.kernels.limit import fma_limit

try:
    import torch as peer

    torch: Any = peer
except ImportError:
    torch = None

SIZES = (64, 128, 256, 512, 1024, 2048)
ROUNDS = 15


def contenders(n: int, transposed: bool) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Name -> (what is done before the clock starts, what is timed)."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, (n, n), np.int8) for _ in range(2))
    x, y = flambeau.tensor(a), flambeau.tensor(b)
    y = y.t() if transposed else y
    kept: list[Any] = []

    def recorded() -> None:
        kept[:] = [flambeau._int_mm(x, y)]

    found: dict[str, Any] = {"flambeau": (recorded, record.flush)}
    if torch is not None:
        p, q = torch.tensor(a), torch.tensor(b)
        q = q.t() if transposed else q
        found["PyTorch"] = (lambda: None, lambda: torch._int_mm(p, q))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=1)
    count = parser.parse_args().threads
    flambeau.set_num_threads(count)
    if torch is not None:
        torch.set_num_threads(count)
    clock = time.thread_time if count == 1 else time.perf_counter
    limit = 4 * fma_limit("f32") * count
    print(f"limit {limit:.0f} GOP/s on {count} thread(s)")
    for n in SIZES:
        for transposed in (False, True):
            best: dict[str, float] = {}
            for _ in range(ROUNDS):
                for name, (before, timed) in contenders(n, transposed).items():
                    before()
                    start = clock()
                    timed()
                    best[name] = min(best.get(name, 1e9), clock() - start)
            speeds = {name: 2e-9 * n**3 / seconds for name, seconds in best.items()}
            shown = "  ".join(
                f"{name} {speed:6.1f} ({100 * speed / limit:4.1f} %)"
                for name, speed in speeds.items()
            )
            print(f"{n:5} N{'NT'[transposed]}  {shown}")


if __name__ == "__main__":
    main()
