"""The recurrent kernels against the rows' bodies: odd sizes, strides, lengths, every form."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import record
from flambeau.ir.graph import Node
from flambeau.kernels import claims, recurrent
from flambeau.ops.recurrent import GATES, _recurrence, _recurrence_backward
from flambeau.runtime import cpuinfo, jit

HOST = cpuinfo.host_features()
FORMS = {
    "host": HOST,
    "avx2": frozenset({"avx2", "fma"}) & HOST,
    "generic": frozenset[str](),
}
SIZES = [(1, 1, 1), (2, 3, 2), (3, 2, 17), (2, 7, 63), (4, 33, 16), (1, 5, 65), (3, 1, 64)]


def given(mode: str, steps: int, batch: int, units: int, lengths: bool, dtype: Any) -> list[Any]:
    """Arguments of `_recurrence`, in the order of its parameters but for the last three."""
    gates = GATES[mode][0]

    def draw(*shape: int) -> Any:
        return flambeau.randn(*shape, dtype=dtype)

    found = [draw(steps, batch, gates * units), draw(batch, units)]
    found.append(draw(batch, units) if mode == "lstm" else None)
    found.append(draw(gates * units, units) / max(units, 1) ** 0.5)
    found.append(draw(units) if mode == "gru" else None)
    found.append(flambeau.randint(1, steps + 1, (batch,)) if lengths else None)
    return found


def compare(got: Any, want: Any) -> None:
    slack = {flambeau.float32: 2e-5, flambeau.float64: 1e-12}.get(got[0].dtype, 0.03)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        found, wanted = a.double().numpy(), b.double().numpy()
        np.testing.assert_allclose(found, wanted, rtol=slack, atol=slack)


def doubled(arguments: list[Any]) -> list[Any]:
    return [
        a.double() if isinstance(a, flambeau.Tensor) and a.is_floating_point() else a
        for a in arguments
    ]


def both(mode: str, sizes: tuple[int, int, int], lengths: bool, dtype: Any, way: bool) -> None:
    """Forward and backward by the kernel against the bodies in float64."""
    arguments = given(mode, *sizes, lengths, dtype)
    _gates, hidden, cell, weight, _, ends = arguments
    got = _recurrence(*arguments, mode, way, True)
    want = _recurrence.row.body(*doubled(arguments), mode, way, True)
    compare(got, [w.to(dtype) for w in want])
    small = _recurrence(*arguments, mode, way, False)
    compare(small, [w.to(dtype) for w in want[: len(small)]])
    out = got[0]
    cells, saved = (got[3], got[4]) if mode == "lstm" else (None, got[-1])
    saved = saved if GATES[mode][1] else None
    cotangents = [flambeau.randn_like(out), flambeau.randn_like(hidden), None]
    if mode == "lstm":
        cotangents[2] = flambeau.randn_like(hidden)
    for drop in ((), (0,), (1, 2)):
        gs = [None if k in drop else g for k, g in enumerate(cotangents)]
        rest = [out, cells, saved, hidden, cell, weight, ends]
        back = _recurrence_backward(*gs, *rest, mode, way)
        wanted = _recurrence_backward.row.body(*doubled([*gs, *rest]), mode, way)
        compare(back, [w.to(dtype) for w in wanted])


@pytest.mark.parametrize("mode", GATES)
@pytest.mark.parametrize("lengths", [False, True])
def test_odd_sizes(mode: str, lengths: bool) -> None:
    for k, sizes in enumerate(SIZES[3:6] if lengths else SIZES):
        both(mode, sizes, lengths, flambeau.float64 if k % 2 else flambeau.float32, k % 3 == 0)


@pytest.mark.parametrize("mode", GATES)
def test_strided_and_expanded_arguments(mode: str) -> None:
    gates, hidden, cell, weight, bias, _ = given(mode, 3, 4, 5, False, flambeau.float32)
    plain = _recurrence(gates, hidden, cell, weight, bias, None, mode, False, True)
    turned = [
        gates.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        hidden.t().contiguous().t(),
        None if cell is None else cell.t().contiguous().t(),
        weight.t().contiguous().t(),
    ]
    compare(_recurrence(*turned, bias, None, mode, False, True), plain)
    zero = flambeau.zeros(1, 1).expand(4, 5)
    first = None if cell is None else zero
    got = _recurrence(gates, zero, first, weight, bias, None, mode, False, False)
    made = None if cell is None else flambeau.zeros(4, 5)
    want = _recurrence(gates, flambeau.zeros(4, 5), made, weight, bias, None, mode, False, False)
    compare(got, want)
    ones = flambeau.ones(1).expand(3, 4, 5)
    kept = (plain[3], plain[4]) if mode == "lstm" else (None, plain[-1] if mode == "gru" else None)
    rest = [plain[0], *kept, hidden, cell, weight, None, mode, False]
    some = _recurrence_backward(ones, None, None, *rest)
    compare(some, _recurrence_backward(flambeau.ones(3, 4, 5), None, None, *rest))


def test_the_nodes_are_claimed() -> None:
    arguments = given("lstm", 3, 2, 4, False, flambeau.float32)
    assert claims.claims(_recurrence(*arguments, "lstm", False, True)[0]._node().src[0])
    empty = given("lstm", 3, 0, 4, False, flambeau.float32)
    found = _recurrence(*empty, "lstm", False, True)
    assert not claims.claims(found[0]._node().src[0])
    assert found[0].shape == (3, 0, 4)
    assert found[0].tolist() == [[], [], []]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("units", [20, 21])
def test_halves(dtype: str, units: int) -> None:
    layer = flambeau.nn.GRU(6, units).to(getattr(flambeau, dtype))
    x = flambeau.randn(5, 3, 6).to(layer.weight_ih_l0.dtype)
    out, _ = layer(x)
    want, _ = layer.double()(x.double())
    assert out.dtype is x.dtype
    np.testing.assert_allclose(out.double().detach().numpy(), want.detach().numpy(), atol=0.03)


@pytest.mark.skipif("avx512bf16" not in HOST, reason="no products of bfloat16 pairs")
@pytest.mark.parametrize("mode", GATES)
@pytest.mark.parametrize("lengths", [False, True])
def test_bfloat16(mode: str, lengths: bool) -> None:
    for k, sizes in enumerate([(1, 1, 2), (3, 7, 34), (6, 33, 16)]):
        arguments = given(mode, *sizes, lengths, flambeau.bfloat16)
        node = _recurrence(*arguments, mode, k == 1, True)[0]._node().src[0]
        assert claims.claims(node)
        both(mode, sizes, lengths, flambeau.bfloat16, k == 1)


def test_carried_states_of_bfloat16_are_float32() -> None:
    """A cell state that grows by less than half a unit in its last place a step still grows."""
    steps = 300
    gates = flambeau.zeros(steps, 1, 8, dtype=flambeau.bfloat16)
    gates[..., :4] = 30.0  # input and forget gates are open
    gates[..., 4:6] = 0.002
    zero = flambeau.zeros(1, 2, dtype=flambeau.bfloat16)
    weight = flambeau.zeros(8, 2, dtype=flambeau.bfloat16)
    first = zero + 1.0
    _, _, last = _recurrence(gates, zero, first, weight, None, None, "lstm", False, False)
    grown = 1.0 + steps * gates[0, 0, 4].item()
    np.testing.assert_allclose(last.float().numpy(), grown, rtol=4e-3)


def test_nan_stays_in_its_row_and_after_its_step() -> None:
    for mode in GATES:
        gates, hidden, cell, weight, bias, _ = given(mode, 4, 3, 9, False, flambeau.float32)
        gates[2, 1] = float("nan")
        out = _recurrence(gates, hidden, cell, weight, bias, None, mode, False, False)[0]
        gone = np.isnan(out.numpy())
        assert gone[2:, 1].all()
        assert not gone[:2].any()
        assert not gone[:, [0, 2]].any()


def test_the_same_bits_again() -> None:
    layer = flambeau.nn.LSTM(30, 70, 2)
    x = flambeau.randn(9, 25, 30)
    found = []
    for _ in range(3):
        layer.zero_grad()
        out, _ = layer(x)
        out.square().sum().backward()
        found.append((out.detach().numpy().copy(), layer.weight_hh_l0.grad.numpy().copy()))
    for out, grad in found[1:]:
        assert (out == found[0][0]).all()
        assert (grad == found[0][1]).all()


# -- every form ------------------------------------------------------------------------------------


class Memory:
    """Stands for a program: arrays where the node's tensors are."""

    def __init__(self, arrays: list[Any], results: list[Any], room: int) -> None:
        self.arrays, self.results = arrays, results
        self.room = np.full(room + 64, 0, np.uint8)

    def memory(self, s: Node) -> tuple[int, int, tuple[int, ...]]:
        array = self.arrays[s.attrs[0]]
        return array.ctypes.data, 0, tuple(n // array.itemsize for n in array.strides)

    def result(self, node: Node, which: int) -> int:
        return int(self.results[which].ctypes.data)

    def workspace(self, node: Node) -> int:
        return -(-int(self.room.ctypes.data) // 64) * 64


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", GATES)
def test_every_form(mode: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features = FORMS[form]
    monkeypatch.setattr(recurrent, "host_features", lambda: features)
    for sizes in ((3, 5, 18), (2, 26, 7)):
        record.flush()
        arguments = given(mode, *sizes, False, flambeau.float32)
        node = _recurrence(*arguments, mode, False, True)[0]._node().src[0]
        sources = [Node(s.op, (), (k,), s.shape, s.dtype) for k, s in enumerate(node.src)]
        twin = Node(node.op, tuple(sources), node.attrs, node.shape, node.dtype)
        want = _recurrence.row.body(*doubled(arguments), mode, False, True)
        arrays = [a.numpy() for a in arguments if a is not None]
        problem = recurrent.problem_of(twin)
        assert problem is not None
        results = [np.full(w.shape, 77, np.float32) for w in want]
        memory = Memory(arrays, results, recurrent.scratch(twin, problem))
        found = recurrent.words(memory, twin, problem)
        words = [w if isinstance(w, int) else w[0] + w[1] for w in found]
        text = recurrent.module_text(problem, features)
        text = text.replace(f"@{problem.symbol}(", f"@{problem.symbol}_{form}(")
        library = jit.load(text, "recurrent")
        call = library.function(f"{problem.symbol}_{form}", None, ctypes.c_void_p)
        call((ctypes.c_int64 * len(words))(*words))
        for a, b in zip(results, want, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=2e-5, atol=2e-5)
