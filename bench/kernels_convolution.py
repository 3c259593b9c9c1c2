"""Convolutions of ResNet-18 on 32 images 3 x 64 x 64, layer by layer, beside PyTorch.

    python -m bench.kernels_convolution --threads 1 [--dtype bf16]

GFLOP/s of the multiply-adds that the definition of a convolution has, padding included; leaving
padding out, and minimal filtering, may take a kernel above the processor's limit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import flambeau
from flambeau import record
from flambeau.kernels.limit import fma_limit
from flambeau.ops.convolution import convolution_weight_gradient

BATCH = 32
DTYPES = {"f32": "float32", "bf16": "bfloat16"}

#: name, channels in and out, kernel, stride, padding, height and width of the images
LAYERS = (
    ("conv1", 3, 64, 7, 2, 3, 64),
    ("layer1", 64, 64, 3, 1, 1, 16),
    ("layer2.0", 64, 128, 3, 2, 1, 16),
    ("layer2", 128, 128, 3, 1, 1, 8),
    ("layer3.0", 128, 256, 3, 2, 1, 8),
    ("layer3", 256, 256, 3, 1, 1, 4),
    ("layer4.0", 256, 512, 3, 2, 1, 4),
    ("layer4", 512, 512, 3, 1, 1, 2),
    ("downsample", 256, 512, 1, 2, 0, 4),
)


def best(calls: list[Callable[[], Any]], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Seconds of the fastest of several runs of each, taken in turn."""
    found = [float("inf")] * len(calls)
    for _ in range(rounds):
        for k, call in enumerate(calls):
            start = clock()
            call()
            found[k] = min(found[k], clock() - start)
    return found


def pairs(layer: tuple[Any, ...], dtype: str) -> tuple[float, list[Callable[[], Any]]]:
    """The work of a layer's forward pass, and its three passes by torch and by flambeau."""
    _, c, m, k, s, p, size = layer
    rng = np.random.default_rng(0)

    def new(*shape: int) -> Any:
        drawn = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        return drawn.to(getattr(torch, dtype))

    x, w = new(BATCH, c, size, size), new(m, c, k, k)
    numbers: Any = ([s, s], [p, p], [1, 1])
    y = torch.convolution(x, w, None, *numbers, False, [0, 0], 1)
    g = new(*y.shape)
    back = torch.ops.aten.convolution_backward
    convolve: Any = flambeau.convolution
    kind = getattr(flambeau, dtype)
    a, b, d = (flambeau.tensor(t.float().numpy()).to(kind) for t in (x, w, g))
    record.flush()
    extra = [(size + 2 * p - k) % s] * 2

    def run(call: Callable[[], Any]) -> Callable[[], None]:
        def timed() -> None:
            kept = call()
            record.flush()
            del kept

        return timed

    return 2.0 * y.numel() * c * k * k, [
        lambda: torch.convolution(x, w, None, *numbers, False, [0, 0], 1),
        run(lambda: convolve(a, b, None, *numbers, False, [0, 0], 1)),
        lambda: back(g, x, w, None, *numbers, False, [0, 0], 1, [True, False, False]),
        run(lambda: convolve(d, b, None, *numbers, True, extra, 1)),
        lambda: back(g, x, w, None, *numbers, False, [0, 0], 1, [False, True, False]),
        run(lambda: convolution_weight_gradient(a, d, (k, k), *numbers, 1)),
    ]


def main() -> None:
    """Print a line a layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dtype", choices=list(DTYPES), default="f32")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    flambeau.set_num_threads(given.threads)
    clock = time.thread_time if given.threads == 1 else time.perf_counter
    print(f"limit of a core: {fma_limit(given.dtype):.0f} GFLOP/s; torch / flambeau, GFLOP/s")
    print(f"{'layer':12}{'forward':>16}{'image gradient':>18}{'weight gradient':>18}")
    with torch.no_grad():
        for layer in LAYERS:
            work, calls = pairs(layer, DTYPES[given.dtype])
            rates = [work / t / 1e9 for t in best(calls, given.rounds, clock)]
            shown = [f"{a:.0f} / {b:.0f}" for a, b in zip(rates[::2], rates[1::2], strict=True)]
            print(f"{layer[0]:12}{shown[0]:>16}{shown[1]:>18}{shown[2]:>18}", flush=True)


if __name__ == "__main__":
    main()
