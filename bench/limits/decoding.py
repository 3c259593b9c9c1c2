"""How long reading the cache of keys and values takes, on every thread, with nothing else done."""

import ctypes
import os

from flambeau.kernels.limit import LINE, stream_text
from flambeau.runtime import jit
from flambeau.runtime.memory import Buffer
from flambeau.runtime.threads import set_num_threads

UNIT = 1 << 18  # bytes that a thread reads at a time


def setup(variant, compile):
    """A pass over as much memory as this size's cache."""
    set_num_threads(len(os.sched_getaffinity(0)))
    keys, features, batch = (int(n) for n in variant.split("-"))
    work = 2 * batch * keys * features * 4
    memory, room = Buffer(work), Buffer(LINE * 64)
    ctypes.memset(memory.ptr, 0, work)
    library = jit.load(stream_text(), "stream")
    read = library.function("fl_stream_read", None, ctypes.c_void_p)
    words = (ctypes.c_int64 * 7)(memory.ptr, UNIT // LINE, work // UNIT, 1, 1, UNIT, room.ptr)

    held = library, memory, room

    def step():
        assert held  # the code and the memory are valid as long as these live
        read(words)

    return {"step": step, "work": work, "unit": "B"}
