"""What the processor could do at most: the products' arithmetic as bare multiply-adds."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor

from flambeau.kernels.limit import CHAINS, flops_per_round, module_text
from flambeau.kernels.matmul import form_of
from flambeau.runtime import cpuinfo, jit

SMALLEST = 4e8  # floating-point operations a step and thread, so that starting threads is nothing


def setup(variant, compile):
    """As much arithmetic as the product of this size takes, on every thread."""
    features = cpuinfo.host_features()
    library = jit.load(module_text("f32", features))
    loop = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(library.address("fl_fma_loop"))
    threads = len(os.sched_getaffinity(0))
    work = 2 * int(variant) ** 3
    count = max(1, round(SMALLEST * threads / work))
    rounds = round(work * count / threads / flops_per_round(form_of("f32", features)))
    rooms = [(ctypes.c_double * (40 + 8 * CHAINS))() for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)

    def step():
        assert library is not None  # its code is valid as long as it lives
        list(pool.map(loop, [rounds] * threads, rooms))

    return {"step": step, "count": count, "work": work, "unit": "FLOP"}
