"""How long a step must take on every thread: reading the cache of keys and values or doing the
arithmetic, whichever takes longer.
"""

import ctypes
import os
import time

from bench.cases.decoding import sizes
from bench.limits import gemm
from flambeau.kernels.limit import LINE, stream_text
from flambeau.runtime import jit
from flambeau.runtime.memory import Buffer
from flambeau.runtime.threads import set_num_threads

UNIT = 1 << 18  # bytes that a thread reads at a time


def reading(work):
    """A pass over as many bytes."""
    memory, room = Buffer(work), Buffer(LINE * 64)
    ctypes.memset(memory.ptr, 0, work)
    library = jit.load(stream_text(), "stream")
    read = library.function("fl_stream_read", None, ctypes.c_void_p)
    words = (ctypes.c_int64 * 7)(memory.ptr, UNIT // LINE, work // UNIT, 1, 1, UNIT, room.ptr)
    held = library, memory, room

    def step():
        assert held  # the code and the memory are valid as long as these live
        read(words)

    return step


def best(step):
    """Seconds of the fastest of some steps."""
    found = []
    for _ in range(20):
        start = time.perf_counter()
        step()
        found.append(time.perf_counter() - start)
    return min(found)


def setup(variant, compile):
    """Whichever binds at this size."""
    set_num_threads(len(os.sched_getaffinity(0)))
    keys, features, batch, dtype = sizes(variant)
    size = 4 if dtype == "f32" else 2
    read = reading(2 * batch * keys * features * size)
    multiply, count = gemm.multiplying(4 * batch * 8 * keys * features, dtype)
    binds = best(read) >= best(multiply) / count
    return {
        "step": read if binds else multiply,
        "count": 1 if binds else count,
        "work": 2 * batch * keys * features * size,
        "unit": "B",
    }
