"""What is alive is kept, what is dead is never computed; nothing grows without bound
(rules 3, 4 and 7)."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import record


def nodes_of(program: Any) -> int:
    """Nodes in the programs that were run meanwhile, inputs included."""
    record.flush()
    before = record.counters.nodes
    program()
    record.flush()
    return record.counters.nodes - before


@pytest.fixture
def x() -> Any:
    t = flambeau.arange(6.0)
    t.numpy()
    return t


class TestDeadCode:
    def test_a_dropped_result_is_never_computed(self, x: Any) -> None:
        assert nodes_of(lambda: (x * 2).exp()) == 0

    def test_an_intermediate_is_not_written_to_memory(self, x: Any) -> None:
        y = (x * 2).exp()
        assert len(record.pending_graph().outputs) == 1
        assert y.sum().item() == pytest.approx(np.exp(np.arange(6.0) * 2).sum(), rel=1e-5)

    def test_the_dropped_part_of_a_program(self, x: Any) -> None:
        kept = []

        def program() -> None:
            a = x + 1
            a.sin().cos().exp()
            kept.append(a * 2)

        assert nodes_of(program) == 3

    def test_an_index_error_in_dead_code_never_happens(self, x: Any) -> None:
        flambeau.nn.functional.embedding(flambeau.tensor([100]), x.view(6, 1))
        record.flush()

    def test_an_overwritten_value_is_not_computed(self, x: Any) -> None:
        t = x.exp()
        t.copy_(x)
        assert [n.op.name for n in record.pending_graph().nodes].count("exp") == 0
        assert t.tolist() == x.tolist()


class TestLiveness:
    def test_everything_that_is_held_is_realised_together(self, x: Any) -> None:
        a, b = x + 1, x * 3
        a.numpy()
        flushes = record.counters.flushes
        assert b.sum().item() == 45.0
        assert b._cell.home is not None
        assert record.counters.flushes <= flushes + 1

    def test_a_tensor_in_a_container_is_held(self, x: Any) -> None:
        held = {"a": [x + 1]}
        record.flush()
        assert held["a"][0]._cell.node.buffer is not None

    def test_a_view_holds_its_base(self, x: Any) -> None:
        row = (x + 1).view(2, 3)[1]
        gc.collect()
        record.flush()
        assert row.tolist() == [4.0, 5.0, 6.0]

    def test_the_tape_holds_what_it_saved(self, x: Any) -> None:
        w = x.clone().requires_grad_()
        y = (w.exp() * w).sum()
        record.flush()
        y.backward()
        np.testing.assert_allclose(
            w.grad.numpy(), np.exp(np.arange(6.0)) * (1 + np.arange(6.0)), rtol=1e-5
        )

    def test_memory_goes_back_when_tensors_die(self) -> None:
        t = flambeau.ones(10) + 1
        t.numpy()
        buffer = weakref.ref(t._cell.home)
        del t
        gc.collect()
        assert buffer() is None

    def test_a_graph_dies_with_its_last_tensor(self) -> None:
        w = flambeau.ones(3, requires_grad=True)
        y = (w * 2).exp()
        entry = weakref.ref(y.grad_fn)
        del y
        gc.collect()
        assert entry() is None

    def test_no_garbage_collection_is_needed(self) -> None:
        gc.collect()
        gc.disable()
        try:
            w = flambeau.ones(3, requires_grad=True)
            for _ in range(3):
                y = ((w * 2).exp() + w.sigmoid()).sum()
                y.backward()
                w.grad = None
                entry = weakref.ref(y.grad_fn)
                del y
                assert entry() is None
        finally:
            gc.enable()


class TestOrder:
    def test_random_numbers_follow_the_order_of_the_program(self) -> None:
        flambeau.manual_seed(3)
        a, b = flambeau.rand(4), flambeau.rand(4)
        flambeau.manual_seed(3)
        c = flambeau.rand(4)
        c.numpy()
        d = flambeau.rand(4)
        assert a.tolist() == c.tolist()
        assert b.tolist() == d.tolist()

    def test_a_dead_draw_moves_the_generator_as_well(self) -> None:
        flambeau.manual_seed(3)
        flambeau.rand(4)
        b = flambeau.rand(4)
        flambeau.manual_seed(3)
        _, d = flambeau.rand(4).tolist(), flambeau.rand(4)
        assert b.tolist() == d.tolist()

    def test_a_draw_is_the_same_however_often_it_is_read(self) -> None:
        a = flambeau.rand(100)
        total = a.sum()
        assert (a * 2).sum().item() == pytest.approx(2 * total.item(), rel=1e-6)

    def test_a_forked_generator_leaves_the_outer_one(self) -> None:
        flambeau.manual_seed(3)
        with flambeau.random.fork_rng():
            inside = flambeau.rand(3)
        outside = flambeau.rand(3)
        assert inside.tolist() == outside.tolist()


class TestBounds:
    def test_many_operations_flush_by_themselves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(record, "MAX_PENDING", 2048)
        t = flambeau.zeros(3)
        flushes = record.counters.flushes
        kept = [t + float(k) for k in range(5000)]
        assert record.counters.flushes > flushes
        assert len(record._pending) < 3000
        assert [k.sum().item() for k in kept[::999]] == [3.0 * k for k in range(0, 5000, 999)]

    def test_many_bytes_flush_by_themselves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(record, "MAX_PENDING_BYTES", 1 << 20)
        record.flush()
        flushes = record.counters.flushes
        kept = [flambeau.zeros(1000) + float(k) for k in range(1100)]
        assert record.counters.flushes > flushes
        assert kept[7].sum().item() == 7000.0

    def test_dead_results_do_not_count_as_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(record, "MAX_PENDING_BYTES", 1 << 20)
        record.flush()
        t = flambeau.zeros(1000)
        flushes = record.counters.flushes
        for k in range(1100):
            t + float(k)
        assert record.counters.flushes == flushes

    def test_programs_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(record, "MAX_PROGRAMS", 4)
        for n in range(10):
            (flambeau.zeros(n + 1) + 1.0).sum().item()
        assert len(record._programs) <= 4 or len(record._programs) < record.counters.compiled

    def test_long_chains_run(self) -> None:
        t = flambeau.ones(4)
        t.numpy()
        for _ in range(5000):
            t = t + 1.0
        assert t.tolist() == [5001.0] * 4
