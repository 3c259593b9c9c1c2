"""The processor's own limit for multiply-adds: what a loop that touches nothing but registers
reaches.

Speeds of kernels are printed as shares of it, measured in the same run, so that they mean something
on any machine.
"""

from __future__ import annotations

import ctypes
import time

from flambeau.kernels.emit import Function
from flambeau.kernels.gemm_micro import Form, declarations, multiply_add
from flambeau.kernels.matmul import form_of
from flambeau.runtime import cpuinfo, jit

CHAINS = 12
"""Independent accumulators: more than latency times throughput of any processor here, fewer than
its registers.
"""


def module_text(dtype: str, features: frozenset[str]) -> str:
    """LLVM IR of `fl_fma_loop(i64 n, ptr out)`: n rounds of `CHAINS` vector multiply-adds in
    registers.

    Args:
        dtype: f32, f64, bf16 or f16: what `kernels.matmul` multiplies with for it.
        features: LLVM's names of the CPU's features.
    """
    form = form_of(dtype, features)
    f = Function("fl_fma_loop", [("i64", "n"), ("ptr", "out")], linkage="")
    kind = f"<{2 * form.vl} x bfloat>" if form.pairs else form.vec
    a, b = (f.load(kind, f.gep("i8", "%out", offset), 4) for offset in (0, 64))
    start = f.load(form.vec, f.gep("i8", "%out", 128), 4)
    with f.loop("%n", carry=[(form.vec, start)] * CHAINS, nonempty=True) as loop:
        loop.carry(*(multiply_add(f, form, a, b, chain) for chain in loop.carried))
    for number, chain in enumerate(loop.carried):
        f.store(form.vec, chain, f.gep("i8", "%out", 256 + 64 * number), 4)
    f.ret()
    return declarations(form) + f.text()


def flops_per_round(form: Form) -> int:
    """Floating-point operations of one round of the loop."""
    return 2 * CHAINS * form.vl * (2 if form.pairs else 1)


def fma_limit(dtype: str, seconds: float = 0.05) -> float:
    """GFLOP/s of one core at multiply-adds in registers.

    Args:
        dtype: f32, f64, bf16 or f16.
        seconds: CPU time to spend, about.

    Returns: the best of several short runs, in CPU time of this thread.
    """
    features = cpuinfo.host_features()
    library = jit.load(module_text(dtype, features))
    loop = library.function("fl_fma_loop", None, ctypes.c_int64, ctypes.c_void_p)
    room = (ctypes.c_double * (40 + 8 * CHAINS))()  # zeros: no value grows out of range
    flops = flops_per_round(form_of(dtype, features))
    rounds, best, spent = 1 << 14, 0.0, 0.0
    while spent < seconds:
        start = time.thread_time()
        loop(rounds, room)
        took = time.thread_time() - start
        spent += took
        if took > 1e-4:
            best = max(best, rounds * flops / took / 1e9)
        if took < seconds / 20:
            rounds *= 2
    return best
