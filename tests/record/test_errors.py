"""Errors are early; value errors name the operation, spoil only what depends on them, and under
FLAMBEAU_SYNC=1 name the line (rule 6)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flambeau
from flambeau import record
from flambeau.nn import functional as F
from flambeau.runtime import cpu

ROOT = Path(__file__).resolve().parents[2]

EARLY: dict[str, tuple[type[BaseException], str, Callable[[], Any]]] = {
    "shapes": (
        RuntimeError,
        r"size of tensor a \(3\) must match the size of tensor b \(4\)",
        lambda: flambeau.ones(3) + flambeau.ones(4),
    ),
    "matrix shapes": (
        RuntimeError,
        "mat1 and mat2 shapes cannot be multiplied",
        lambda: flambeau.ones(2, 3) @ flambeau.ones(2, 3),
    ),
    "view": (
        RuntimeError,
        "shape '\\[4\\]' is invalid for input of size 6",
        lambda: flambeau.ones(2, 3).view(4),
    ),
    "view of a transpose": (
        RuntimeError,
        "view size is not compatible",
        lambda: flambeau.ones(2, 3).t().view(6),
    ),
    "dimension": (IndexError, "Dimension out of range", lambda: flambeau.ones(2).sum(2)),
    "index": (IndexError, "out of bounds", lambda: flambeau.ones(2)[2]),
    "dtype of an in-place result": (
        RuntimeError,
        "result type Float can't be cast to the desired output type Long",
        lambda: flambeau.ones(2, dtype=flambeau.int64).add_(1.5),
    ),
    "shape of an in-place result": (
        RuntimeError,
        "output with shape \\[2\\] doesn't match the broadcast shape \\[3, 2\\]",
        lambda: flambeau.ones(2).add_(flambeau.ones(3, 2)),
    ),
    "integers that require grad": (
        RuntimeError,
        "floating point",
        lambda: flambeau.ones(2, dtype=flambeau.int64, requires_grad=True),
    ),
    "leaf in place": (
        RuntimeError,
        "a leaf Variable that requires grad is being used in an in-place operation",
        lambda: flambeau.ones(2, requires_grad=True).add_(1.0),
    ),
    "view of a leaf in place": (
        RuntimeError,
        "a view of a leaf Variable that requires grad is being used in an in-place operation",
        lambda: flambeau.ones(2, requires_grad=True)[0].add_(1.0),
    ),
    "backward of a vector": (
        RuntimeError,
        "grad can be implicitly created only for scalar outputs",
        lambda: (flambeau.ones(2, requires_grad=True) * 2).backward(),
    ),
    "device": (RuntimeError, "cuda", lambda: flambeau.ones(2, device="cuda")),
}


@pytest.mark.parametrize("name", EARLY)
def test_errors_raise_in_the_call_that_makes_them(name: str) -> None:
    kind, message, call = EARLY[name]
    record.flush()
    nodes = record.counters.nodes
    with pytest.raises(kind, match=message):
        call()
    assert record.counters.nodes == nodes


def bad() -> Any:
    """A value whose computation will fail."""
    return F.embedding(flambeau.tensor([0, 7]), flambeau.ones(3, 2))


class TestValueErrors:
    def test_they_raise_at_the_flush_and_name_the_operation(self) -> None:
        y = bad()
        with pytest.raises(IndexError, match="index out of range in self") as caught:
            y.sum().item()
        assert any("FLAMBEAU_SYNC" in note for note in caught.value.__notes__)

    def test_using_the_value_raises_again(self) -> None:
        y = bad()
        for _ in range(2):
            with pytest.raises(IndexError, match="index out of range"):
                y.tolist()
        with pytest.raises(IndexError, match="index out of range"):
            (y + 1).tolist()

    def test_other_results_are_computed(self) -> None:
        x = flambeau.arange(4.0)
        x.numpy()
        before, y, after = x * 2, bad(), x.sum()
        with pytest.raises(IndexError):
            y.tolist()
        assert before.tolist() == [0.0, 2.0, 4.0, 6.0]
        assert after.item() == 6.0

    def test_later_programs_do_not_raise_it_again(self) -> None:
        y = bad()
        with pytest.raises(IndexError):
            y.tolist()
        z = y * 2
        assert (flambeau.ones(3) + 1).tolist() == [2.0, 2.0, 2.0]
        with pytest.raises(IndexError):
            z.tolist()

    def test_a_write_that_failed_did_not_happen(self) -> None:
        t = flambeau.ones(2, 2)
        t.numpy()
        t.add_(bad())
        with pytest.raises(IndexError):
            record.flush()
        assert t.tolist() == [[1.0, 1.0], [1.0, 1.0]]
        assert t._version == 0

    @pytest.mark.parametrize("realised", [False, True])
    @pytest.mark.parametrize("whole", [False, True])
    def test_earlier_writes_stay(self, realised: bool, whole: bool) -> None:
        """Of several pending writes, the one that fails is taken back with those after it."""
        x = flambeau.zeros(4)
        beside = flambeau.zeros(4)
        if realised:
            record.flush()
        x.add_(1.0)
        x[1:3].mul_(3.0)
        beside.copy_(x)
        version = x._version
        wrong = flambeau.ones(2)[flambeau.tensor([0, 5, 0, 0])]
        if whole:
            x.copy_(wrong)
        else:
            x[:2] = wrong[:2]
        x.add_(5.0)
        last = x * 2
        with pytest.raises(IndexError, match="index 5"):
            record.flush()
        assert x._version == version
        assert x.tolist() == beside.tolist() == [1.0, 3.0, 3.0, 1.0]
        with pytest.raises(IndexError, match="index 5"):
            last.tolist()
        assert x.add_(1.0).tolist() == [2.0, 4.0, 4.0, 2.0]

    def test_earlier_writes_read_what_was_there_then(self) -> None:
        x, y = flambeau.zeros(2), flambeau.ones(2)
        record.flush()
        x.add_(y)
        x.mul_(2.0)
        x.add_(flambeau.ones(2)[flambeau.tensor([0, 5])])
        y.add_(10.0)
        with pytest.raises(IndexError, match="index 5"):
            record.flush()
        assert y.tolist() == [11.0, 11.0]
        assert x.tolist() == [2.0, 2.0]

    def test_an_interrupt_leaves_what_was_there_before_the_last_write(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flambeau.manual_seed(0)
        expected = flambeau.empty(3).uniform_().tolist()
        y = flambeau.ones(3) + 1
        record.flush()
        y.mul_(5.0)
        flambeau.manual_seed(0)
        x = flambeau.empty(3).uniform_()
        x.add_(1.0)

        def interrupted(*_: Any) -> Any:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(record, "_execute", interrupted)
            record.flush()
        assert x.tolist() == expected
        assert x.add_(1.0).tolist() == pytest.approx([v + 1 for v in expected])
        assert y.tolist() == [2.0, 2.0, 2.0]

    def test_independent_writes_happen_once(self) -> None:
        t, u = flambeau.ones(2), flambeau.ones(2)
        t.numpy()
        u.numpy()
        t.add_(1.0)
        y = bad()
        u.copy_(t * 10)
        t.mul_(3.0)
        with pytest.raises(IndexError):
            y.tolist()
        assert t.tolist() == [6.0, 6.0]
        assert u.tolist() == [20.0, 20.0]

    def test_a_failure_costs_a_few_programs(self) -> None:
        """However many values there are, each made in another way."""
        start = flambeau.ones(3)
        start.numpy()
        values, wrong = [], None
        for k in range(40):
            values.append(F.embedding(flambeau.tensor([k % 3]), start[:, None] * k + 1.5))
            if k == 17:
                wrong = bad()
        below = [wrong * k for k in range(5)]
        before = record.counters.flushes
        with pytest.raises(IndexError, match="index out of range"):
            record.flush()
        assert record.counters.flushes - before <= 12
        assert [v.item() for v in values] == [k + 1.5 for k in range(40)]
        for value in (wrong, *below):
            with pytest.raises(IndexError, match="index out of range"):
                value.tolist()

    def test_several_failures(self) -> None:
        first, second = bad(), flambeau.tensor([1, 2]) // flambeau.tensor([1, 0])
        both, good = first.sum() + second, flambeau.ones(2) * 3
        with pytest.raises((IndexError, RuntimeError)):
            record.flush()
        assert good.tolist() == [3.0, 3.0]
        with pytest.raises(IndexError, match="index out of range"):
            first.tolist()
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            second.tolist()
        with pytest.raises((IndexError, RuntimeError)):
            both.tolist()

    def test_what_cannot_be_compiled_takes_only_its_readers_with_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compile = cpu.compile

        def refusing(graph: Any, key: Any) -> Any:
            if any(n.op.name == "digamma" for n in graph.nodes):
                raise RuntimeError("no digamma here")
            return compile(graph, key)

        monkeypatch.setattr(cpu, "compile", refusing)
        x = flambeau.arange(6.0).reshape(2, 3) + 1
        values, places = (x * 2).max(1)
        gone = x.digamma()
        after = gone + values[:, None]
        x.add_(1.0)
        with pytest.raises(RuntimeError, match="no digamma here"):
            record.flush()
        assert x.tolist() == [[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]]
        assert values.tolist() == [6.0, 12.0]
        assert places.tolist() == [2, 2]
        for value in (gone, after):
            with pytest.raises(RuntimeError, match="no digamma here"):
                value.tolist()

    def test_nothing_of_a_training_step_happens(self) -> None:
        """The step's program updates weights that do not wait for the failing operation."""
        table = flambeau.ones(3, 2, requires_grad=True)
        weight = flambeau.ones(2, 2, requires_grad=True)
        optimizer = flambeau.optim.SGD([table, weight], lr=0.1)
        loss = (F.embedding(flambeau.tensor([0, 7]), table) @ weight).sum()
        loss.backward()
        with pytest.raises(IndexError):
            optimizer.step()
            record.flush()
        assert weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]
        assert table.tolist() == [[1.0, 1.0]] * 3

    def test_integer_division_by_zero(self) -> None:
        y = flambeau.tensor([1, 2]) // flambeau.tensor([1, 0])
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            y.tolist()


SCRIPT = """
import flambeau
from flambeau.nn import functional as F
table = flambeau.ones(3, 2)
def look_up(index):
    return F.embedding(index, table)  # here
first = look_up(flambeau.tensor([0, 1]))
second = look_up(flambeau.tensor([0, 7]))
print("recorded")
second.sum().item()
"""


def run_script(tmp_path: Path, sync: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "program.py"
    path.write_text(SCRIPT)
    env = {**os.environ, "FLAMBEAU_SYNC": sync, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(path)], env=env, capture_output=True, text=True, timeout=120
    )


def test_sync_names_the_line(tmp_path: Path) -> None:
    ended = run_script(tmp_path, "1")
    assert ended.returncode == 1
    assert "recorded" not in ended.stdout
    assert 'program.py", line 6: return F.embedding(index, table)  # here' in ended.stderr
    assert "IndexError: index out of range in self" in ended.stderr


def test_without_sync_it_raises_where_the_value_is_needed(tmp_path: Path) -> None:
    ended = run_script(tmp_path, "0")
    assert ended.returncode == 1
    assert "recorded" in ended.stdout
    assert "second.sum().item()" in ended.stderr


def test_sync_executes_every_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    record.flush()
    monkeypatch.setattr(record, "sync", True)
    x = flambeau.arange(3.0)
    y = x * 2
    assert y._cell.node.buffer is not None
    y.add_(1.0)
    assert y._cell.node.buffer is not None
    w = flambeau.ones(3, requires_grad=True)
    (w.exp() * y).sum().backward()
    assert w.grad._cell.node.buffer is not None
    values, places = flambeau.ones(3, 2).max(1)
    assert values.tolist() == [1.0, 1.0, 1.0]
    assert places.tolist() == [0, 0, 0]
