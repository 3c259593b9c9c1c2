"""Recording, planning and running effects, and ranks that are threads of one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.distributed as dist
from flambeau import record
from flambeau.distributed import functional as f
from flambeau.distributed.transport.base import Call
from flambeau.distributed.transport.local import Local
from flambeau.passes.rematerialise import rematerialise
from flambeau.passes.schedule import Task

pytestmark = pytest.mark.timeout(60)


def names_of(program: Any) -> list[str]:
    """What a program does, in order: starts, waits, and others."""
    return [
        f"{step.kind} {step.node.op.name}"
        if getattr(step, "kind", "") in ("start", "wait")
        else "work"
        for step in program.order
    ]


class TestRecording:
    def test_a_result_that_nobody_reads_is_computed_all_the_same(self) -> None:
        def program(rank: int) -> int:
            f.all_reduce(flambeau.ones(2), "sum")  # dies at once
            if rank:
                return int(f.all_reduce(flambeau.ones(3), "sum").sum().item())
            f.all_reduce(flambeau.ones(3), "sum")
            record.flush()
            return -1

        assert dist.spawn_local(3, program) == [-1, 9, 9]

    def test_a_result_that_is_overwritten_is_computed_all_the_same(self) -> None:
        def program(rank: int) -> float:
            x = flambeau.full((2,), float(rank))
            y = f.all_reduce(x, "sum")
            if rank == 0:
                y.zero_()
            return y.sum().item()

        assert dist.spawn_local(3, program) == [0, 6, 6]

    def test_ranks_flush_at_different_moments(self) -> None:
        def program(rank: int) -> list[float]:
            x = flambeau.full((2,), rank + 1.0)
            found = []
            for k in range(6):
                x = f.all_reduce(x * 0.5, "sum")
                if k % 3 == rank:
                    record.flush()
                if k % 2 == rank % 2:
                    found.append(x[0].item())
            return [*found, x.sum().item()]

        first, second, third = dist.spawn_local(3, program)
        assert first[-1] == second[-1] == third[-1] == 2 * 3 * 1.5**5
        assert first[:3] == third[:3] == [3.0, 3.0 * 1.5**2, 3.0 * 1.5**4]

    def test_the_same_program_runs_again(self) -> None:
        def program(rank: int) -> tuple[list[float], int]:
            found = []
            for k in range(4):
                x = flambeau.full((3,), rank + k + 0.25)  # 0, 1 and 2 are compiled in
                x.tolist()
                found.append(f.all_reduce(x * x, "sum").sum().item())
                if k == 1:
                    compiled = record.counters.compiled
                    dist.barrier()
            dist.barrier()
            return found, record.counters.compiled - compiled

        for found, compiled in dist.spawn_local(2, program):
            assert found == [3 * ((k + 0.25) ** 2 + (k + 1.25) ** 2) for k in range(4)]
            assert compiled == 0

    def test_an_inner_vmap_leaves_nothing_pinned(self) -> None:
        def program(rank: int) -> float:
            flambeau.func.vmap(lambda x: (f.all_reduce(x, "sum"), x)[1])(flambeau.ones(2, 3))
            return f.all_reduce(flambeau.ones(1), "sum").item()

        assert dist.spawn_local(2, program) == [2, 2]

    def test_checkpointed_blocks_communicate_again(self) -> None:
        def program(rank: int) -> list[float]:
            x = flambeau.full((2,), rank + 1.0, requires_grad=True)
            y = flambeau.utils.checkpoint.checkpoint(
                lambda x: f.all_reduce(x, "sum") ** 2, x, use_reentrant=False
            )
            y.sum().backward()
            return x.grad.tolist()

        assert dist.spawn_local(2, program) == [[12, 12], [12, 12]]


class TestPlanning:
    def test_what_is_recorded_between_start_and_use_overlaps(self) -> None:
        def program(rank: int) -> list[str]:
            x, a = flambeau.ones(64, 64), flambeau.ones(64, 64)
            record.flush()
            y = f.all_reduce(x, "sum")
            z = f.all_gather_tensor(x, 0)
            b = (a @ a) @ a
            c = y @ b
            d = z @ b
            record.flush()
            del c, d
            return names_of(list(record._programs.values())[-1])

        for steps in dist.spawn_local(2, program):
            assert steps[:2] == ["start all_reduce", "start all_gather"]
            assert steps[2:4] == ["work", "work"]
            assert steps.index("wait all_reduce") >= 4
            assert steps.index("wait all_gather") > steps.index("wait all_reduce")

    def test_an_input_is_written_when_it_has_been_sent(self) -> None:
        def program(rank: int) -> list[float]:
            x = flambeau.full((4,), float(rank))
            x.tolist()
            total = f.all_reduce(x, "sum")
            x.mul_(10).add_(1)
            return [*x.tolist(), *total.tolist()]

        for rank, found in enumerate(dist.spawn_local(3, program)):
            assert found == [rank * 10.0 + 1] * 4 + [3.0] * 4

    def test_a_tensor_is_reduced_where_it_lies(self) -> None:
        def program(rank: int) -> Any:
            x = flambeau.full((3,), float(rank))
            x.tolist()
            place = x.data_ptr()
            twice = x * 2  # reads the old value
            dist.all_reduce(x)
            after = x + 1
            found = x.tolist(), twice.tolist(), after.tolist()
            (program,) = [p for p in record._programs.values() if "all_reduce" in p.rows]
            return found, x.data_ptr() == place, program.copies

        for rank, (found, same, copies) in enumerate(dist.spawn_local(3, program)):
            assert found == ([3.0] * 3, [2.0 * rank] * 3, [4.0] * 3)
            assert same
            assert not copies

    @pytest.mark.parametrize("seen", ["numpy", "from_numpy", "dlpack", "parts"])
    def test_memory_that_others_see_is_reduced_where_it_lies(
        self, seen: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        aliased = []
        issue = Local.issue

        def watched(self: Local, call: Call) -> Any:
            if call.name == "all_reduce":
                aliased.append(call.sources[0].ctypes.data == call.targets[0].ctypes.data)
            return issue(self, call)

        monkeypatch.setattr(Local, "issue", watched)

        def program(rank: int) -> Any:
            if seen == "from_numpy":
                other = np.full(6, rank + 1.0, np.float32)
                x = flambeau.from_numpy(other)
            else:
                x = flambeau.full((6,), float(rank)) + 1
                other = np.from_dlpack(x) if seen == "dlpack" else x.numpy()
            twice = x * 2  # reads the old value
            place = x.data_ptr()
            dist.all_reduce(x[1:3] if seen == "parts" else x)
            assert other.ctypes.data == place == x.data_ptr()
            return other.tolist(), x.tolist(), twice.tolist()

        for rank, (other, own, twice) in enumerate(dist.spawn_local(2, program)):
            wanted = [3.0] * 6
            if seen == "parts":
                wanted = [3.0 if k in (1, 2) else rank + 1.0 for k in range(6)]
            assert other == own == wanted
            assert twice == [2.0 * (rank + 1)] * 6
        assert aliased == [seen != "parts"] * 2

    def test_messages_in_memory_that_others_see_wait_for_each_other(self) -> None:
        def program(rank: int) -> list[float]:
            got, own = np.zeros(2, np.float32), np.full(2, rank + 1.0, np.float32)
            receiving = dist.irecv(flambeau.from_numpy(got), 1 - rank)
            sending = dist.isend(flambeau.from_numpy(own), 1 - rank)
            assert sending.wait()
            assert receiving.wait()
            return got.tolist()

        assert dist.spawn_local(2, program) == [[2.0, 2.0], [1.0, 1.0]]

    def test_what_is_under_way_is_not_dropped_for_memory(self) -> None:
        def program(rank: int) -> Any:
            x = flambeau.ones(1 << 12) * (rank + 1)
            x.tolist()
            total = f.all_reduce(flambeau.exp(x), "sum")
            record.flush()
            (program,) = [p for p in record._programs.values() if "all_reduce" in p.rows]
            first, start, wait = program.tasks
            assert (start.step.kind, wait.step.kind) == ("start", "wait")
            late = Task(first.step, wait.reads, ())
            wide = object()
            between = [Task(first.step, (), (wide,)), Task(first.step, (wide,), ())]
            sizes = {s: s.nbytes for t in program.tasks for s in t.writes} | {wide: 1 << 20}
            order = [first, start, *between, wait, late]
            assert first.again
            assert not rematerialise(order, sizes, (), 1).repeated
            plain = [first, *between, Task(first.step, first.writes, ())]
            assert rematerialise(plain, sizes, (), 1).repeated
            return total[0].item()

        assert dist.spawn_local(2, program)[0] == pytest.approx(np.e + np.e**2, rel=1e-6)

    def test_parts_of_tensors_are_sent_as_they_are(self) -> None:
        def program(rank: int) -> Any:
            x = flambeau.arange(24.0).reshape(4, 6) + rank
            x.tolist()
            return (
                f.all_reduce(x[1:3], "sum").tolist(),
                f.all_reduce(x.t()[2], "sum").tolist(),
                f.all_reduce(x[0, 0], "sum").tolist(),
                f.all_reduce(x[:, :0], "sum").shape,
                f.all_reduce(flambeau.ones(1).expand(3), "sum").tolist(),
            )

        rows, column, scalar, empty, ones = dist.spawn_local(2, program)[1]
        assert rows == [[2 * k + 1.0 for k in range(6 * r, 6 * r + 6)] for r in (1, 2)]
        assert column == [5, 17, 29, 41]
        assert scalar == 1
        assert empty == (4, 0)
        assert ones == [2, 2, 2]

    def test_the_interpreter_agrees(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")

        def program(rank: int) -> list[float]:
            x = flambeau.full((3,), rank + 1.0, requires_grad=True)
            (f.all_gather_tensor(x, 0) ** 2).sum().backward()
            return x.grad.tolist()

        assert dist.spawn_local(2, program) == [[4, 4, 4], [8, 8, 8]]


class TestThreads:
    def test_ranks_have_random_numbers_of_their_own(self) -> None:
        def program(rank: int) -> Any:
            flambeau.manual_seed(3)
            first = flambeau.rand(2)
            dist.barrier()
            return first.tolist(), flambeau.rand(2).tolist()

        before = flambeau.random.get_rng_state().tolist()
        found = dist.spawn_local(3, program)
        assert found[0] == found[1] == found[2]
        assert flambeau.random.get_rng_state().tolist() == before

    def test_what_is_pending_outside_stays(self) -> None:
        x = flambeau.ones(2) + 1
        assert dist.spawn_local(2, lambda rank: flambeau.ones(1).item()) == [1, 1]
        assert x.tolist() == [2, 2]

    def test_the_first_error_is_raised_and_every_rank_ends(self) -> None:
        ended = []

        def program(rank: int) -> None:
            try:
                if rank == 1:
                    raise KeyError("of rank 1")
                dist.barrier()
            finally:
                ended.append(rank)

        with pytest.raises(KeyError, match="of rank 1") as caught:
            dist.spawn_local(3, program)
        assert "raised by rank 1 of 3" in caught.value.__notes__
        assert sorted(ended) == [0, 1, 2]

    def test_an_error_in_a_program_under_way(self) -> None:
        def program(rank: int) -> Any:
            x = flambeau.ones(3)
            total = f.all_reduce(x, "sum")
            index = flambeau.tensor([5 if rank == 1 else 0])
            return x[index].sum().item() + total.sum().item()

        with pytest.raises(IndexError):
            dist.spawn_local(3, program)

    @pytest.mark.parametrize("inplace", [False, True])
    def test_collectives_recorded_before_an_error_that_is_caught(self, inplace: bool) -> None:
        def program(rank: int) -> list[float]:
            x = flambeau.full((3,), rank + 1.0)
            y = flambeau.ones(3)
            flambeau.stack([x, y]).tolist()
            if inplace:
                dist.all_reduce(x)
                total = x
            else:
                total = f.all_reduce(x, "sum")
            both = f.all_reduce(y, "sum")
            if rank == 1:
                with pytest.raises(IndexError):
                    y[flambeau.tensor([5])].tolist()
            found = f.all_reduce(flambeau.ones(1), "max").tolist()
            if rank == 1 and not inplace:  # started before it failed
                with pytest.raises(IndexError):
                    total.tolist()
                return found
            return [*total.tolist(), *both.tolist(), *found]

        first, second = dist.spawn_local(2, program)
        assert first == [3.0] * 3 + [2.0] * 3 + [1.0]
        assert second == (first if inplace else [1.0])

    def test_ranks_that_call_different_things_are_named(self) -> None:
        def program(rank: int) -> None:
            x = flambeau.ones(2)
            dist.broadcast(x, 0) if rank == 1 else dist.all_reduce(x)
            record.flush()

        with pytest.raises(dist.DistError, match=r"rank 1: broadcast root 0 float32\[2\]"):
            dist.spawn_local(3, program)

    def test_shapes_that_differ_are_named(self) -> None:
        def program(rank: int) -> None:
            f.all_reduce(flambeau.ones(2 + rank), "sum")

        with pytest.raises(dist.DistError, match=r"rank 1: all_reduce sum float32\[3\]"):
            dist.spawn_local(2, program)

    def test_a_rank_that_nobody_answers_is_told_so(self) -> None:
        def program(rank: int) -> None:
            if rank:
                dist.barrier()

        with pytest.raises(dist.DistError, match="rank 0 has ended; rank 1 waits for barrier"):
            dist.spawn_local(2, program)

    def test_messages_keep_their_order_whichever_is_read_first(self) -> None:
        def program(rank: int) -> Any:
            if rank == 0:
                for k in range(3):
                    dist.isend(flambeau.full((2,), float(k)), 1)
                return None
            got = [flambeau.zeros(2) for _ in range(3)]
            for t in got:
                dist.irecv(t, 0)
            return [t.tolist() for t in (got[2], got[0], got[1])]

        assert dist.spawn_local(2, program)[1] == [[2, 2], [0, 0], [1, 1]]

    def test_worlds_in_worlds(self) -> None:
        def inner(rank: int) -> int:
            return int(f.all_reduce(flambeau.ones(1), "sum").item())

        def outer(rank: int) -> Any:
            found = dist.spawn_local(3, inner)
            return found, f.all_reduce(flambeau.ones(1), "sum").item()

        assert dist.spawn_local(2, outer) == [([3, 3, 3], 2), ([3, 3, 3], 2)]


def test_signatures_tell_what_must_agree() -> None:
    x = np.zeros((2, 3), np.float32)
    assert Call("all_reduce", (x,), (x,), "max").signature() == "all_reduce max float32[2, 3]"
    assert Call("all_gather", (x,), (x, x)).signature() == "all_gather"
