"""Products of int8 matrices: every form against NumPy's int32 product."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.ir.graph import Graph, Node
from flambeau.kernels import gemm_int8
from flambeau.record import pending_graph
from flambeau.runtime import cpuinfo, jit

SIZES = (1, 2, 3, 8, 17, 63, 64, 65, 100)
HOST = cpuinfo.host_features()
FORMS = {
    "host": HOST,
    "no dot product": HOST - {"avx512vnni", "avxvnni"},
    "avx2": frozenset({"avx2"}) & HOST,
    "generic": frozenset[str](),
}


class Memory:
    """Addresses in place of a program's storages."""

    def __init__(self, a: Any, b: Any, c: Any, room: Any) -> None:
        self.a, self.b, self.c, self.room = a, b, c, room

    def operand(self, s: Node, batch: tuple[int, ...]) -> tuple[int, int, list[int]]:
        array = self.a if s.attrs[0] == 0 else self.b
        return array.ctypes.data, 0, list(array.strides)

    def storage(self, node: Node) -> int:
        return int(self.c.ctypes.data)

    def workspace(self, node: Node) -> int:
        return -(-int(self.room.ctypes.data) // 64) * 64


def node_of(m: int, n: int, k: int) -> Node:
    """A product as the kernel is given it; its sources' attributes number them."""
    x, y = flambeau.zeros(m, k, dtype=flambeau.int8), flambeau.zeros(k, n, dtype=flambeau.int8)
    made = flambeau._int_mm(x, y)
    graph: Graph = pending_graph()
    del made
    (found,) = [g for g in graph.nodes if g.op.name == "_int_mm"]
    for number, s in enumerate(found.src):
        s.attrs = (number,)
    return found


def product(name: str, a: Any, b: Any) -> Any:
    """a @ b by one form of the kernel."""
    features = FORMS[name]
    form = gemm_int8.form_of(features)
    node = node_of(a.shape[0], b.shape[1], a.shape[1])
    c = np.full(node.shape, 77, np.int32)
    memory = Memory(a, b, c, np.full(gemm_int8.scratch(form, node) + 64, 99, np.uint8))
    words = [w if isinstance(w, int) else w[0] + w[1] for w in gemm_int8.words(form, memory, node)]
    library = jit.load(gemm_int8.module_text(features), "int8")
    call = library.function("fl_gemm_s8", None, ctypes.c_void_p)
    call((ctypes.c_int64 * len(words))(*words))
    return c


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_exact(name: str, rng: np.random.Generator) -> None:
    for _ in range(25):
        m, n, k = (int(rng.choice(SIZES)) for _ in range(3))
        a = rng.integers(-128, 128, (m, k), np.int8)
        b = rng.integers(-128, 128, (k, n), np.int8)
        if rng.random() < 0.5:
            a = np.asfortranarray(a)
        if rng.random() < 0.5:
            b = np.asfortranarray(b)
        if rng.random() < 0.3:
            a, b = a[::-1], b[:, ::-1]
        wanted = a.astype(np.int32) @ b.astype(np.int32)
        np.testing.assert_array_equal(product(name, a, b), wanted, f"{m}x{n}x{k}")


@pytest.mark.parametrize("name", FORMS)
def test_the_ends_of_the_range(name: str) -> None:
    for x in (-128, 127):
        for y in (-128, 127):
            a, b = np.full((9, 260), x, np.int8), np.full((260, 33), y, np.int8)
            assert (product(name, a, b) == x * y * 260).all()


def test_the_row(rng: np.random.Generator) -> None:
    a = rng.integers(-128, 128, (40, 24), np.int8)
    b = rng.integers(-128, 128, (50, 24), np.int8)
    x, y = flambeau.tensor(a), flambeau.tensor(b)
    wanted = a.astype(np.int32) @ b.T.astype(np.int32)
    found = flambeau._int_mm(x, y.t())
    assert found.dtype is flambeau.int32
    np.testing.assert_array_equal(found.numpy(), wanted)
    np.testing.assert_array_equal(
        flambeau._int_mm(x[::2, 3:9], y.t()[3:9, 7:]).numpy(),
        a[::2, 3:9].astype(np.int32) @ b.T[3:9, 7:].astype(np.int32),
    )
    out = flambeau.empty(40, 50, dtype=flambeau.int32)
    assert flambeau._int_mm(x, y.t(), out=out) is out
    np.testing.assert_array_equal(out.numpy(), wanted)
    assert flambeau._int_mm(x[:0], y.t()).shape == (0, 50)
    assert flambeau._int_mm(x[:, :0], y.t()[:0]).tolist() == [[0] * 50] * 40


def test_sums_wrap_as_int32() -> None:
    count = 140_000
    x = flambeau.full((1, count), -128, dtype=flambeau.int8)
    wanted = (128 * 128 * count + 2**31) % 2**32 - 2**31
    assert flambeau._int_mm(x, x.t()).item() == wanted


def test_threads_do_not_change_the_result(rng: np.random.Generator) -> None:
    x = flambeau.tensor(rng.integers(-128, 128, (300, 200), np.int8))
    before = flambeau.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            flambeau.set_num_threads(count)
            found.append(flambeau._int_mm(x, x.t()).numpy().copy())
    finally:
        flambeau.set_num_threads(before)
    assert all((f == found[0]).all() for f in found)


def test_wrong_calls() -> None:
    x = flambeau.zeros(3, 4, dtype=flambeau.int8)
    with pytest.raises(RuntimeError, match="Expected mat2 dtype to be of type int8 but got int"):
        flambeau._int_mm(x, x.t().int())
    with pytest.raises(RuntimeError, match="Expected self to be of dimension 2 but got 1"):
        flambeau._int_mm(x[0], x.t())
    with pytest.raises(RuntimeError, match=r"needs to match mat2.size\(0\) but got 4 and 3"):
        flambeau._int_mm(x, x)
