"""What the processor could do at most: the products' arithmetic as bare multiply-adds."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor

from flambeau.kernels.limit import CHAINS, flops_per_round, module_text
from flambeau.kernels.matmul import form_of
from flambeau.runtime import cpuinfo, jit

SMALLEST = 4e8  # floating-point operations a step and thread, so that starting threads is nothing


def multiplying(work, dtype):
    """(a step of `count` times as many floating-point operations on every thread, count)."""
    features = cpuinfo.host_features()
    library = jit.load(module_text(dtype, features))
    loop = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(library.address("fl_fma_loop"))
    threads = len(os.sched_getaffinity(0))
    count = max(1, round(SMALLEST * threads / work))
    rounds = round(work * count / threads / flops_per_round(form_of(dtype, features)))
    rooms = [(ctypes.c_double * (40 + 8 * CHAINS))() for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)

    def step():
        assert library is not None  # its code is valid as long as it lives
        list(pool.map(loop, [rounds] * threads, rooms))

    return step, count


def setup(variant, compile):
    """As much arithmetic as the product of this size takes, on every thread."""
    work = 2 * int(variant) ** 3
    step, count = multiplying(work, "f32")
    return {"step": step, "count": count, "work": work, "unit": "FLOP"}
