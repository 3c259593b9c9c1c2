"""Generated matrix multiplication against NumPy in float64: every form this machine can run."""

from __future__ import annotations

import ctypes
import functools
import itertools
import threading
from collections.abc import Callable

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import pytest

from flambeau.kernels import matmul

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()

HOST = frozenset(name for name, on in llvm.get_host_cpu_features().items() if on)
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
POOL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
NUMPY = {"f32": np.float32, "f64": np.float64, "bf16": ml_dtypes.bfloat16, "f16": np.float16}
EPS = {"f32": 2.0**-24, "f64": 2.0**-53, "bf16": 2.0**-8, "f16": 2.0**-11}

AVX2 = frozenset({"avx2", "fma", "f16c", "avx"})
FORMS: dict[str, tuple[frozenset[str], str]] = {"host": (HOST, "host")}
if AVX2 <= HOST:
    FORMS["avx2"] = (AVX2, "haswell")
if "sse4.2" in HOST and "f16c" in HOST:
    FORMS["sse"] = (frozenset(), "x86-64-v2")
if "sse4.2" in HOST and "f16c" in HOST:
    FORMS["neon_shape"] = (frozenset({"neon"}), "haswell")
if "avx512bf16" in HOST:
    FORMS["avx512_without_bf16"] = (HOST - {"avx512bf16"}, "skylake-avx512")

WORKERS = [1]
"""How many threads the stand-in pool uses; a list so that tests may change it."""

WATCHED: dict[str, list[int]] = {}
"""Where a test asks for it, in how many pieces each task came."""


def pool(task: int, argument: int, count: int, grain: int) -> None:
    """`fl_parallel_for` in Python: chunks handed out in turn to real threads."""
    call = TASK(task)
    WATCHED.get("counts", []).append(count)
    starts = iter(range(0, count, grain))
    lock = threading.Lock()

    def work(worker: int) -> None:
        while True:
            with lock:
                start = next(starts, None)
            if start is None:
                return
            call(argument, start, min(count, start + grain), worker)

    others = [threading.Thread(target=work, args=(n,)) for n in range(1, WORKERS[0])]
    for thread in others:
        thread.start()
    work(0)
    for thread in others:
        thread.join()


POOL_CALLBACK = POOL(pool)
llvm.add_symbol("fl_test_parallel_for", ctypes.cast(POOL_CALLBACK, ctypes.c_void_p).value)
ENGINES: list[object] = []


@functools.cache
def gemm(dtype: str, form: str) -> Callable[[int], None]:
    """The compiled function for a dtype and form."""
    features, cpu = FORMS[form]
    text = matmul.module_text(dtype, features).replace("@fl_parallel_for", "@fl_test_parallel_for")
    module = llvm.parse_assembly(text)
    module.verify()
    target = llvm.Target.from_default_triple()
    if cpu == "host":
        cpu, flags = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    else:
        flags = "+f16c" if cpu == "x86-64-v2" and dtype == "f16" else ""
    machine = target.create_target_machine(cpu=cpu, features=flags, opt=2)
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    ENGINES.append(engine)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    return kind(engine.get_function_address(f"fl_gemm_{dtype}"))


def descriptor(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, bias: np.ndarray | None, accumulate: bool
) -> np.ndarray:
    """The descriptor of c = a @ b with NumPy's broadcasting of batch dims."""
    fields = dict.fromkeys(matmul.DESCRIPTOR, 0)
    batch = c.shape[:-2]
    a, b = np.broadcast_to(a, batch + a.shape[-2:]), np.broadcast_to(b, batch + b.shape[-2:])
    fields.update(a=a.ctypes.data, b=b.ctypes.data, c=c.ctypes.data, m=c.shape[-2], n=c.shape[-1])
    fields.update(k=a.shape[-1], bias=0 if bias is None else bias.ctypes.data)
    size = c.itemsize
    fields.update(rsa=a.strides[-2] // size, csa=a.strides[-1] // size)
    fields.update(rsb=b.strides[-2] // size, csb=b.strides[-1] // size, rsc=c.strides[-2] // size)
    fields.update(batch_dims=len(batch), flags=int(accumulate))
    for dim, length in enumerate(batch):
        fields[f"size{dim}"] = length
        for name, array in (("a", a), ("b", b), ("c", c)):
            fields[f"{name}{dim}"] = array.strides[dim] // size
    return np.array([fields[name] for name in matmul.DESCRIPTOR], np.int64)


def check(
    dtype: str, form: str, a: np.ndarray, b: np.ndarray, bias: bool = False,
    accumulate: bool = False, rng: np.random.Generator | None = None,
) -> np.ndarray:  # fmt: skip
    """Run one product and compare with float64; returns C."""
    rng = rng or np.random.default_rng(1)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    m, n, k = a.shape[-2], b.shape[-1], a.shape[-1]
    # C lies in a wider array, whose other columns must stay as they are.
    room = rng.standard_normal((*batch, m + 1, n + 3)).astype(NUMPY[dtype])
    before = room.copy()
    c = room[..., :m, :n]
    added = rng.standard_normal(n).astype(NUMPY[dtype]) if bias else None
    fields = descriptor(a, b, c, added, accumulate)
    gemm(dtype, form)(fields.ctypes.data)
    wide = lambda x: x.astype(np.float64)
    want = wide(a) @ wide(b)
    scale = np.abs(wide(a)) @ np.abs(wide(b))
    for term in ([wide(added)] if bias else []) + (
        [wide(before[..., :m, :n])] if accumulate else []
    ):
        want, scale = want + term, scale + np.abs(term)
    unit = EPS["f64" if dtype == "f64" else "f32"]
    # Any order of additions stays below K * unit; 16-bit results round once more, subnormal ones by
    # 2^-25 at most.
    bound = unit * (4 + k) * scale
    if dtype in ("bf16", "f16"):
        bound += EPS[dtype] * np.abs(want) + 2.0**-25
    assert (np.abs(wide(c) - want) <= bound).all(), (
        a.shape, b.shape, a.strides, b.strides, np.abs(wide(c) - want).max())  # fmt: skip
    assert (room[..., m:, :] == before[..., m:, :]).all()
    assert (room[..., n:] == before[..., n:]).all()
    return c


def operand(rng: np.random.Generator, dtype: str, rows: int, cols: int, kind: int) -> np.ndarray:
    """A rows x cols operand of one of several memory layouts."""
    new = lambda *shape: rng.standard_normal(shape).astype(NUMPY[dtype])
    match kind % 8:
        case 0:
            return new(rows, cols)
        case 1:
            return new(cols, rows).T
        case 2:
            return new(rows, cols + 5)[:, 2 : 2 + cols]
        case 3:
            return new(2 * rows, 3 * cols)[::2, ::3]
        case 4:
            return new(rows, cols)[::-1, ::-1]
        case 5:
            return np.broadcast_to(new(1, cols), (rows, cols))
        case 6:
            return np.broadcast_to(new(rows, 1), (rows, cols))
        case _:
            return new(cols + 1, 2 * rows).T[::-2, :cols]


PAIRS = list(itertools.product(NUMPY, FORMS))


@pytest.mark.parametrize(("dtype", "form"), PAIRS)
def test_random_small_shapes_and_layouts(dtype: str, form: str) -> None:
    rng = np.random.default_rng(7)
    for turn in range(400):
        m, n, k = (int(x) for x in rng.integers(1, 71, 3))
        a = operand(rng, dtype, m, k, turn)
        b = operand(rng, dtype, k, n, turn // 8)
        check(dtype, form, a, b, bias=turn % 3 == 0, accumulate=turn % 5 == 0, rng=rng)


@pytest.mark.parametrize(("dtype", "form"), PAIRS)
@pytest.mark.parametrize("shape", [(203, 301, 97), (131, 70, 1601), (1, 1500, 700), (1100, 1, 65),
                                   (5, 1100, 833), (1030, 1050, 800), (3, 3, 5000)])  # fmt: skip
def test_larger_shapes(dtype: str, form: str, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    m, n, k = shape
    for kind in (0, 1):
        for other in (0, 1):
            a, b = operand(rng, dtype, m, k, kind), operand(rng, dtype, k, n, other)
            check(dtype, form, a, b, bias=kind == other, accumulate=other == 1, rng=rng)


@pytest.mark.parametrize(("dtype", "form"), PAIRS)
def test_vectors(dtype: str, form: str) -> None:
    rng = np.random.default_rng(11)
    for turn in range(160):
        k, n = int(rng.integers(1, 300)), int(rng.integers(1, 700))
        m, n = (1, n) if turn % 2 else (n, 1)
        a, b = operand(rng, dtype, m, k, turn), operand(rng, dtype, k, n, turn // 8)
        check(dtype, form, a, b, bias=turn % 3 == 0, accumulate=turn % 5 == 0, rng=rng)


@pytest.mark.parametrize("dtype", NUMPY)
def test_batches(dtype: str) -> None:
    rng = np.random.default_rng(5)
    new = lambda *shape: rng.standard_normal(shape).astype(NUMPY[dtype])
    check(dtype, "host", new(7, 20, 30), new(7, 30, 40))
    check(dtype, "host", new(7, 20, 30), new(30, 40), bias=True)
    check(dtype, "host", new(20, 30), new(3, 4, 30, 40), accumulate=True)
    check(dtype, "host", new(2, 1, 3, 1, 9, 8), new(1, 5, 1, 2, 8, 7))
    check(dtype, "host", new(1, 260, 300), new(1, 300, 280))
    check(dtype, "host", new(3, 400, 300), new(3, 300, 400))
    # Attention on a (B, T, 3 C) tensor: heads are strided views.
    qkv = new(4, 64, 3, 6, 32)
    q, k, v = (qkv[:, :, part].transpose(0, 2, 1, 3) for part in range(3))
    scores = check(dtype, "host", q, k.swapaxes(-1, -2))
    check(dtype, "host", scores, v)
    check(dtype, "host", scores.swapaxes(-1, -2), v)


@pytest.mark.parametrize("dtype", NUMPY)
def test_empty_dimensions(dtype: str) -> None:
    new = lambda *shape: np.ones(shape, NUMPY[dtype])
    for accumulate in (False, True):
        for bias in (False, True):
            for shape in ((0, 5, 3), (5, 0, 3), (5, 7, 0), (1, 7, 0), (5, 1, 0)):
                m, n, k = shape
                check(dtype, "host", new(m, k), new(k, n), bias, accumulate)
    check(dtype, "host", new(0, 4, 5), new(0, 5, 6))


@pytest.mark.parametrize("dtype", NUMPY)
def test_bitwise_the_same_on_any_number_of_threads(dtype: str) -> None:
    rng = np.random.default_rng(2)
    shapes = [(500, 400, 900), (70, 3000, 200), (1, 5000, 600), (5000, 1, 600), (1100, 300, 1000)]
    new = lambda *shape: rng.standard_normal(shape).astype(NUMPY[dtype])
    shapes += [(6, 3000, 700), (1, 40, 60000)]
    operands = [(new(m, k), new(k, n)) for m, n, k in shapes]
    operands += [(new(12, 90, 100), new(12, 100, 90)), (new(3, 500, 300), new(300, 500))]
    for a, b in operands:
        results = []
        for workers in (1, 2, 5):
            WORKERS[0] = workers
            try:
                results.append(check(dtype, "host", a, b))
            finally:
                WORKERS[0] = 1
        for other in results[1:]:
            assert results[0].tobytes() == other.tobytes()


@pytest.mark.parametrize("dtype", NUMPY)
def test_rows_are_shared_out_once_and_evenly(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of any number of bands cover every row, each once, and threads get as many."""
    counts: list[int] = []
    monkeypatch.setitem(WATCHED, "counts", counts)
    rng = np.random.default_rng(4)
    for rows in (9, 17, 63, 65, 127, 192, 197, 394, 577, 1553):
        a = rng.standard_normal((rows, 20)).astype(NUMPY[dtype])
        b = rng.standard_normal((20, 2**21 // (20 * rows) + 7)).astype(NUMPY[dtype])
        counts.clear()
        check(dtype, "host", a, b, accumulate=True, rng=rng)
        assert counts  # it was work enough for several threads
        if rows >= 16 * 8:
            assert counts[-1] % matmul.SHARES == 0


def test_calls_from_several_threads_at_once() -> None:
    rng = np.random.default_rng(9)
    failures: list[BaseException] = []
    gemm("f32", "host")
    pairs = [(operand(rng, "f32", 150, 170, 0), operand(rng, "f32", 170, 190, t)) for t in range(6)]

    def work(a: np.ndarray, b: np.ndarray) -> None:
        try:
            for _ in range(20):
                check("f32", "host", a, b)
        except BaseException as error:  # reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_error_is_not_above_numpy(dtype: str) -> None:
    rng = np.random.default_rng(4)
    exact = np.longdouble if dtype == "f64" else np.float64
    a, b = operand(rng, dtype, 96, 4000, 0), operand(rng, dtype, 4000, 80, 0)
    c = np.zeros((96, 80), NUMPY[dtype])
    gemm(dtype, "host")(descriptor(a, b, c, None, False).ctypes.data)
    want = a.astype(exact) @ b.astype(exact)
    ours, theirs = (np.sqrt(np.mean((x - want) ** 2)) for x in (c, a @ b))
    assert ours <= 1.25 * theirs


@pytest.mark.parametrize("dtype", NUMPY)
def test_not_a_number_and_infinity_pass_through(dtype: str) -> None:
    a, b = np.ones((20, 24), NUMPY[dtype]), np.ones((24, 40), NUMPY[dtype])
    a[3, 5], b[7, 11] = np.nan, np.inf
    c = np.zeros((20, 40), NUMPY[dtype])
    gemm(dtype, "host")(descriptor(a, b, c, None, False).ctypes.data)
    with np.errstate(invalid="ignore"):
        want = (a.astype(np.float64) @ b.astype(np.float64)).astype(NUMPY[dtype])
    np.testing.assert_array_equal(c.astype(np.float64), want.astype(np.float64))


def test_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="no GEMM for dtype 'i8'"):
        matmul.module_text("i8", HOST)
