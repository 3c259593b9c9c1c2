"""The machine's own limits: multiply-adds of a loop that touches nothing but registers, and bytes
of a loop that does nothing but move them.

Speeds of kernels are printed as shares of them, measured in the same run, so that they mean
something on any machine.
"""

from __future__ import annotations

import ctypes
import functools
import time
from dataclasses import dataclass, field

from flambeau.kernels.emit import Function
from flambeau.kernels.gemm_micro import Form, declarations, multiply_add
from flambeau.kernels.matmul import form_of
from flambeau.runtime import cpuinfo, jit
from flambeau.runtime.memory import Buffer
from flambeau.runtime.threads import get_num_threads

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


LINE = 64
_MEMORY = 192 << 20  # more than the caches hold
_CACHE = 128 << 10  # less than a core's second cache holds
_UNROLL = 8


def stream_text() -> str:
    """LLVM IR of `fl_stream_read` and `fl_stream_update(ptr words)`: a pass over memory.

    Words: the start, lines of 64 bytes in a unit, units, units a chunk, passes over each unit,
    bytes from a unit to the next, where sums go.
    """
    text = ["declare void @fl_parallel_for(ptr, ptr, i64, i64)\n"]
    for name in ("read", "update"):
        f = Function(
            f"fl_stream_{name}_task",
            [("ptr", "w"), ("i64", "begin"), ("i64", "end"), ("i64", "worker")],
        )
        start = f.load("ptr", f.gep("i64", "%w", 0), 8)
        lines, passes, step = (f.load("i64", f.gep("i64", "%w", k), 8) for k in (1, 4, 5))
        room = f.load("ptr", f.gep("i64", "%w", 6), 8)
        kind = "<16 x float>"
        rounds = f.op(f"udiv i64 {lines}, {_UNROLL}")
        zero = [(kind, "zeroinitializer")] * _UNROLL
        with f.loop(f.sub("%end", "%begin"), carry=zero) as unit:
            at = f.gep("i8", start, f.mul(f.add(unit.index, "%begin"), step))
            with f.loop(passes, carry=[(kind, c) for c in unit.carried]) as again:
                with f.loop(rounds, carry=[(kind, c) for c in again.carried]) as loop:
                    first = f.mul(loop.index, LINE * _UNROLL)
                    sums = []
                    for k, chain in enumerate(loop.carried):
                        place = f.gep("i8", at, f.add(first, LINE * k))
                        value = f.load(kind, place, LINE)
                        if name == "update":
                            f.store(kind, f.op(f"fneg {kind} {value}"), place, LINE)
                        sums.append(
                            f.op(f"fadd {kind} {value}, {chain}") if name == "read" else chain
                        )
                    loop.carry(*sums)
                again.carry(*loop.carried)
            unit.carry(*again.carried)
        for k, chain in enumerate(unit.carried):  # so that nothing is thought unused
            f.store(kind, chain, f.gep("i8", room, LINE * k), LINE)
        f.ret()
        call = Function(f"fl_stream_{name}", [("ptr", "w")], linkage="")
        units, grain = (call.load("i64", call.gep("i64", "%w", k), 8) for k in (2, 3))
        call.do(
            f"call void @fl_parallel_for(ptr @fl_stream_{name}_task, ptr %w, i64 {units}, "
            f"i64 {grain})"
        )
        call.ret()
        text += [f.text(), call.text()]
    return "\n".join(text)


def _moved(name: str, memory: Buffer, unit: int, units: int, passes: int) -> float:
    """10^9 bytes a second of the best of several passes over `units` stretches of memory."""
    library = jit.load(stream_text(), "stream")
    run = library.function(f"fl_stream_{name}", None, ctypes.c_void_p)
    room = Buffer(LINE * _UNROLL)
    words = (ctypes.c_int64 * 7)(memory.ptr, unit // LINE, units, 1, passes, unit, room.ptr)
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        run(words)
        best = min(best, time.perf_counter() - start)
    return unit * units * passes * (2 if name == "update" else 1) / best / 1e9


def bandwidth_limit() -> float:
    """10^9 bytes a second between memory and all threads of the pool: the better of reading, and of
    reading and writing back."""
    memory = Buffer(_MEMORY)
    ctypes.memset(memory.ptr, 0, _MEMORY)
    unit = 1 << 20
    return max(_moved(name, memory, unit, _MEMORY // unit, 1) for name in ("read", "update"))


def cache_bandwidth_limit() -> float:
    """10^9 bytes a second that all threads of the pool read from their own second caches."""
    units = get_num_threads() * 4
    memory = Buffer(_CACHE * units)
    ctypes.memset(memory.ptr, 0, _CACHE * units)
    return _moved("read", memory, _CACHE, units, 64)


@dataclass
class Limits:
    """What all threads of the pool together can do at most.

    Attributes:
        threads: how many there are.
        bandwidth: 10^9 bytes a second from memory.
        cache_bandwidth: and from the cores' second caches.
    """

    threads: int
    bandwidth: float
    cache_bandwidth: float
    _flops: dict[str, float] = field(default_factory=dict)

    def flops(self, dtype: str = "f32") -> float:
        """10^9 floating-point operations a second in multiply-adds.

        Args:
            dtype: f32, f64, bf16 or f16; measured when first asked for.
        """
        if dtype not in self._flops:
            self._flops[dtype] = fma_limit(dtype) * self.threads
        return self._flops[dtype]


@functools.cache
def limits(threads: int) -> Limits:
    """The machine's limits, measured once (in about half a second).

    Args:
        threads: of the pool, as it is now.
    """
    return Limits(threads, bandwidth_limit(), cache_bandwidth_limit())
