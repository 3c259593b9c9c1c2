"""Generated matrix products by themselves, beside PyTorch: GFLOP/s and share of the FMA limit.

    python bench/kernels_gemm.py [--dtype bf16] [--threads 2] [--only gpt]

The limit is measured in the same run by a loop of multiply-adds in registers. Contenders are
interleaved; times are the thread's CPU time on one thread, wall time on several; the best of the
rounds counts. PyTorch, where installed, writes into an existing result as the kernels do.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import ml_dtypes
import numpy as np

from flambeau.kernels import matmul
from flambeau.kernels.limit import fma_limit
from flambeau.runtime import cpuinfo, jit, threads

try:
    import torch as peer

    torch: ModuleType | None = peer
except ImportError:
    torch = None

NUMPY = {"f32": np.float32, "f64": np.float64, "bf16": ml_dtypes.bfloat16, "f16": np.float16}
TORCH = {"f32": "float32", "f64": "float64", "bf16": "bfloat16", "f16": "float16"}

#: (M, N, K, A transposed, B transposed)
SQUARE = [(n, n, n, False, False) for n in (8, 32, 64, 128, 256, 512, 1024, 2048, 4096)]
FORWARD = [(2048, n, k, False, True) for n, k in
           ((1152, 384), (384, 384), (1536, 384), (384, 1536), (256, 384))]  # fmt: skip
GRADIENTS = [(m, k, n, False, False) for m, n, k, _, _ in FORWARD] + [
    (n, k, m, True, False) for m, n, k, _, _ in FORWARD
]
VECTORS = [(1, n, k, False, t) for n, k in ((384, 1536), (4096, 4096)) for t in (False, True)]
#: Batches of 8 x 6 heads, views of a (8, 256, 3 * 384) tensor.
HEADS = [(256, 256, 64, False, True), (256, 64, 256, False, False), (256, 64, 256, True, False)]
#: Batches of about 60 MFLOP of small square matrices.
BATCH = [(n, n, n, a, b) for n in (16, 32, 48, 64, 96, 128, 192, 256)
         for a, b in ((False, False), (False, True), (True, False))]  # fmt: skip
SKINNY = [(m, n, k, False, False) for m, n, k in
          ((2000, 3, 500), (3, 2000, 500), (2000, 16, 2000), (16, 2000, 2000), (2000, 2000, 8),
           (31, 31, 5000), (4000, 8, 64))]  # fmt: skip
GROUPS = {
    "batch": BATCH,
    "skinny": SKINNY,
    "square": SQUARE,
    "gpt": FORWARD + GRADIENTS,
    "heads": HEADS,
    "vectors": VECTORS,
}

#: Seconds after which the threads of a library that has nothing to do are asleep.
REST = 0.03


@dataclass
class Case:
    """Operands of one product, as arrays that share the memory PyTorch sees."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    work: int


def case(group: str, shape: tuple[int, int, int, bool, bool], dtype: str) -> Case:
    """The operands of one shape."""
    m, n, k, a_transposed, b_transposed = shape
    rng = np.random.default_rng(0)

    def new(*size: int) -> np.ndarray:
        return np.asarray(rng.standard_normal(size, np.float32)).astype(NUMPY[dtype])

    if group == "heads":
        qkv = new(8, 256, 3, 6, 64)
        query, key, value = (qkv[:, :, part].transpose(0, 2, 1, 3) for part in range(3))
        a, b = (query, key.swapaxes(-1, -2)) if n == m else (new(8, 6, m, k), value)
        a = a.swapaxes(-1, -2) if a_transposed else a
        return Case(a, b, np.empty((8, 6, m, n), NUMPY[dtype]), 2 * 48 * m * n * k)
    batch = (max(8, min(512, 30_000_000 // (m * n * k))),) if group == "batch" else ()
    a = new(*batch, k, m).swapaxes(-1, -2) if a_transposed else new(*batch, m, k)
    b = new(*batch, n, k).swapaxes(-1, -2) if b_transposed else new(*batch, k, n)
    return Case(a, b, np.empty((*batch, m, n), NUMPY[dtype]), 2 * math.prod(batch) * m * n * k)


def descriptor(made: Case) -> np.ndarray:
    """The kernel's descriptor of a case."""
    size, batch = made.c.itemsize, made.c.shape[:-2]
    strides = lambda array: [stride // size for stride in array.strides]
    fields = dict.fromkeys(matmul.DESCRIPTOR, 0)
    fields.update(a=made.a.ctypes.data, b=made.b.ctypes.data, c=made.c.ctypes.data)
    fields.update(m=made.c.shape[-2], n=made.c.shape[-1], k=made.a.shape[-1])
    fields.update(zip(("rsa", "csa"), strides(made.a)[-2:]))
    fields.update(zip(("rsb", "csb"), strides(made.b)[-2:]))
    fields.update(rsc=strides(made.c)[-2], batch_dims=len(batch))
    for dim, length in enumerate(batch):
        fields[f"size{dim}"] = length
        for name, array in (("a", made.a), ("b", made.b), ("c", made.c)):
            fields[f"{name}{dim}"] = strides(array)[dim]
    return np.array([fields[name] for name in matmul.DESCRIPTOR], np.int64)


def peer_call(made: Case, dtype: str) -> Callable[[], object] | None:
    """PyTorch's product of the same memory."""
    if torch is None:
        return None
    kind = getattr(torch, TORCH[dtype])

    def tensor(array: np.ndarray) -> object:
        assert torch is not None
        if dtype != "bf16":
            return torch.from_numpy(array)
        return torch.from_numpy(array.view(np.int16)).view(kind)

    a, b, c = tensor(made.a), tensor(made.b), tensor(made.c)
    call = torch.matmul
    return lambda: call(a, b, out=c)


def best_times(calls: list[Callable[[], object]], work: int, count: int) -> list[float]:
    """Seconds a call, the best of several interleaved rounds."""
    clock = time.thread_time if count == 1 else time.perf_counter
    repeats = max(1, int(2e8 * count / work))
    best = [float("inf")] * len(calls)
    for _ in range(10):
        for number, call in enumerate(calls):
            # Threads of the one before go on waiting for work a while, on the processors that this
            # one needs; its own have to wake up.
            time.sleep(REST if count > 1 else 0)
            call()
            start = clock()
            for _ in range(repeats):
                call()
            best[number] = min(best[number], (clock() - start) / repeats)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--dtype", choices=list(NUMPY), default="f32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=list(GROUPS))
    options = parser.parse_args()
    dtype, count = options.dtype, options.threads
    threads.set_num_threads(count)
    if torch is not None:
        torch.set_num_threads(count)
    start = time.perf_counter()
    text = matmul.module_text(dtype, cpuinfo.host_features())
    library = jit.load(text, f"gemm {dtype}")
    print(f"module ready in {time.perf_counter() - start:.2f} s")
    gemm = library.function(f"fl_gemm_{dtype}", None, ctypes.c_void_p)
    limit = fma_limit(dtype) * count
    print(f"FMA limit {limit:.0f} GFLOP/s on {count} thread(s), {dtype}\n")
    print(f"{'':8} {'M':>5} {'N':>5} {'K':>5}     GFLOP/s  limit   PyTorch")
    for group, shapes in GROUPS.items():
        for shape in shapes if options.only in (None, group) else ():
            made = case(group, shape, dtype)
            fields = descriptor(made)
            calls: list[Callable[[], object]] = [functools.partial(gemm, fields.ctypes.data)]
            other = peer_call(made, dtype)
            times = best_times(calls + ([other] if other else []), made.work, count)
            speeds = [made.work / seconds / 1e9 for seconds in times]
            m, n, k, a_transposed, b_transposed = shape
            form = "NT"[a_transposed] + "NT"[b_transposed]
            theirs = f"{speeds[1]:8.1f}" if len(speeds) > 1 else "  absent"
            share = f"{100 * speeds[0] / limit:5.1f} %"
            print(f"{group:8} {m:5} {n:5} {k:5} {form} {speeds[0]:8.1f} {share} {theirs}")


if __name__ == "__main__":
    main()
