"""What the processor could do at most: the products' arithmetic as bare fused multiply-adds."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor

import llvmlite.binding as llvm

ACCUMULATORS = 24  # enough to hide the latency of two units, few enough for the registers
SMALLEST = 4e8  # floating-point operations a step and thread, so that starting threads is nothing


def lanes_of(features):
    """float32 lanes of the widest vector."""
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx") else 4


def source(lanes):
    """`float fma(i64 n)`: n rounds of independent multiply-adds on vectors held in registers."""
    vector = f"<{lanes} x float>"
    names = range(ACCUMULATORS)
    halves = ", ".join(["float 0.5"] * lanes)
    lines = [
        f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})",
        f"declare float @llvm.vector.reduce.fadd.v{lanes}f32(float, {vector})",
        "define float @fma(i64 %n) {",
        "entry:",
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [0, %entry], [%next, %loop]",
        *(f"  %a{k} = phi {vector} [zeroinitializer, %entry], [%b{k}, %loop]" for k in names),
        *(
            f"  %b{k} = call {vector} @llvm.fma.v{lanes}f32({vector} %a{k}, "
            f"{vector} <{halves}>, {vector} <{halves}>)"
            for k in names
        ),
        "  %next = add i64 %i, 1",
        "  %more = icmp slt i64 %next, %n",
        "  br i1 %more, label %loop, label %end",
        "end:",
        f"  %s0 = fadd {vector} %b0, zeroinitializer",
        *(f"  %s{k} = fadd {vector} %s{k - 1}, %b{k}" for k in names if k),
        f"  %r = call reassoc float @llvm.vector.reduce.fadd.v{lanes}f32(float 0.0, "
        f"{vector} %s{ACCUMULATORS - 1})",
        "  ret float %r",
        "}",
    ]
    return "\n".join(lines)


def compile_kernel():
    """The native function, its lanes, and the engine that keeps it alive."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    lanes = lanes_of(features)
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(source(lanes)), machine)
    engine.finalize_object()
    address = engine.get_function_address("fma")
    return ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(address), lanes, engine


def setup(variant, compile):
    """As much arithmetic as the product of this size takes, on every thread."""
    kernel, lanes, engine = compile_kernel()
    threads = len(os.sched_getaffinity(0))
    work = 2 * int(variant) ** 3
    count = max(1, round(SMALLEST * threads / work))
    rounds = round(work * count / threads / (2 * lanes * ACCUMULATORS))
    pool = ThreadPoolExecutor(threads)

    def step():
        assert engine is not None
        list(pool.map(kernel, [rounds] * threads))

    return {"step": step, "count": count, "work": work, "unit": "FLOP"}
