"""Groups, meshes, collectives that write, messages and objects, on ranks that are threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.distributed as dist
from flambeau.distributed.nn import functional as legacy

pytestmark = pytest.mark.timeout(60)


def numbers(rank: int, *shape: int) -> Any:
    return flambeau.arange(float(np.prod(shape))).reshape(shape) + 10 * rank


class TestGroups:
    def test_the_world_of_one(self) -> None:
        assert not dist.is_initialized()
        dist.init_process_group("gloo", rank=0, world_size=1)
        try:
            assert (dist.get_rank(), dist.get_world_size(), dist.get_backend()) == (0, 1, "gloo")
            x = flambeau.ones(3)
            dist.all_reduce(x)
            dist.broadcast(x, 0)
            dist.barrier()
            assert x.tolist() == [1, 1, 1]
            found: list[Any] = [None]
            dist.all_gather_object(found, "a")
            assert found == ["a"]
            with pytest.raises(ValueError, match="twice"):
                dist.init_process_group()
        finally:
            dist.destroy_process_group()
        assert not dist.is_initialized()
        with pytest.raises(ValueError, match="init_process_group"):
            dist.get_rank()

    def test_a_world_that_was_not_launched(self) -> None:
        with pytest.raises(ValueError, match="world_size=4 was given"):
            dist.init_process_group("gloo", rank=0, world_size=4)

    def test_subgroups(self) -> None:
        def program(rank: int) -> Any:
            some = dist.new_group([3, 1])
            x = numbers(rank, 2)
            dist.all_reduce(x, group=some)
            pair, every = dist.new_subgroups(2)
            y = numbers(rank, 1)
            dist.all_reduce(y, group=pair)
            assert len(every) == 2
            assert dist.get_process_group_ranks(pair) == ([0, 1] if rank < 2 else [2, 3])
            assert dist.get_global_rank(pair, 1) == (1 if rank < 2 else 3)
            assert dist.get_rank(pair) == rank % 2
            assert dist.get_rank(some) == (rank // 2 if rank % 2 else -1)
            return x.tolist(), y.item()

        found = dist.spawn_local(4, program)
        assert [x for x, _ in found] == [[0, 1], [40, 42], [20, 21], [40, 42]]
        assert [y for _, y in found] == [10, 10, 50, 50]

    def test_groups_of_a_group(self) -> None:
        def program(rank: int) -> Any:
            half = dist.split_group(split_ranks=[[0, 1, 2], [3, 4]])
            assert half is not None
            pair = dist.split_group(half, [[2, 0]] if rank < 3 else [[0], [1]])
            x = flambeau.tensor([float(rank)])
            got = [[flambeau.zeros(1) for _ in range(half.size())]]
            dist.all_gather_coalesced(got, [x], half)
            if pair is not None:
                dist.all_reduce(x, group=pair)
            dist.barrier(half)
            return [t.item() for t in got[0]], x.item(), dist.get_pg_count()

        found = dist.spawn_local(5, program)
        assert [got for got, _, _ in found] == [[0, 1, 2]] * 3 + [[3, 4]] * 2
        assert [x for _, x, _ in found] == [2, 1, 2, 3, 4]
        assert [count for _, _, count in found] == [3, 2, 3, 3, 3]

    def test_init_inside(self) -> None:
        def program(rank: int) -> Any:
            assert not dist.is_initialized()
            dist.init_process_group("gloo")
            assert dist.group.WORLD.size() == 2
            dist.destroy_process_group()
            return dist.is_initialized()

        assert dist.spawn_local(2, program, init=False) == [False, False]


class TestMeshes:
    def test_lines_and_submeshes(self) -> None:
        def program(rank: int) -> Any:
            mesh = dist.init_device_mesh("cpu", (2, 3), mesh_dim_names=("dp", "tp"))
            assert mesh.shape == (2, 3)
            assert mesh.size() == 6
            assert mesh.get_coordinate() == [rank // 3, rank % 3]
            assert mesh["tp"].mesh.tolist() == [rank // 3 * 3 + k for k in range(3)]
            assert mesh["dp"].get_local_rank() == rank // 3
            assert mesh["dp", "tp"] == mesh
            x = flambeau.tensor([float(rank)])
            dist.all_reduce(x, group=mesh["tp"].get_group())
            y = flambeau.tensor([float(rank)])
            dist.all_reduce(y, group=mesh.get_group("dp"))
            flat = mesh._flatten("all")
            z = flambeau.tensor([float(rank)])
            dist.all_reduce(z, group=flat.get_group())
            assert mesh["all"] is flat
            with mesh["dp"] as inner:
                assert dist.current_mesh() is inner
            assert dist.current_mesh() is None
            return x.item(), y.item(), z.item()

        for rank, found in enumerate(dist.spawn_local(6, program)):
            assert found == ((3.0, 12.0)[rank // 3], 3.0 + 2 * (rank % 3), 15.0)

    def test_what_is_refused(self) -> None:
        def program(rank: int) -> None:
            mesh = dist.init_device_mesh("cpu", (2, 1), mesh_dim_names=("a", "b"))
            with pytest.raises(KeyError, match="'c' does not exist"):
                mesh["c"]
            with pytest.raises(KeyError, match="order"):
                mesh["b", "a"]
            with pytest.raises(RuntimeError, match="mesh_dim"):
                mesh.get_group()
            with pytest.raises(RuntimeError, match="same length"):
                dist.init_device_mesh("cpu", (2,), mesh_dim_names=("a", "b"))
            with pytest.raises(RuntimeError, match="bigger"):
                dist.DeviceMesh("cpu", [0, 1, 2])

        dist.spawn_local(2, program)

    def test_a_mesh_of_some_ranks(self) -> None:
        def program(rank: int) -> Any:
            mesh = dist.DeviceMesh("cpu", [2, 0])
            if rank == 1:
                assert mesh.get_coordinate() is None
                return None
            whole = flambeau.zeros(2)
            dist.all_gather_into_tensor(whole, flambeau.tensor([float(rank)]), mesh.get_group())
            return mesh.get_local_rank(), whole.tolist()

        assert dist.spawn_local(3, program) == [(1, [2, 0]), None, (0, [2, 0])]


def lists(rank: int) -> list[Any]:
    return [numbers(rank, 2) + 100 * k for k in range(3)]


def write(rank: int, name: str) -> list[Any]:
    """Run a collective that writes; -> the tensors it wrote or left."""
    x = numbers(rank, 2)
    out = flambeau.zeros(6)
    parts = [flambeau.zeros(2) for _ in range(3)]
    if name == "all_reduce":
        dist.all_reduce(x, dist.ReduceOp.MAX)
        return [x]
    if name == "broadcast":
        dist.broadcast(x, src=2)
        return [x]
    if name == "reduce":
        dist.reduce(x, dst=1)
        return [x]
    if name == "all_gather":
        dist.all_gather(parts, x)
        return parts
    if name == "all_gather_into_tensor":
        dist.all_gather_into_tensor(out, x)
        return [out]
    if name == "gather":
        dist.gather(x, parts if rank == 1 else None, dst=1)
        return parts
    if name == "scatter":
        dist.scatter(x, lists(rank) if rank == 2 else None, src=2)
        return [x]
    if name == "reduce_scatter":
        dist.reduce_scatter(x, lists(rank))
        return [x]
    if name == "reduce_scatter_tensor":
        dist.reduce_scatter_tensor(x, flambeau.cat(lists(rank)), dist.ReduceOp.AVG)
        return [x]
    if name == "all_to_all":
        dist.all_to_all(parts, lists(rank))
        return parts
    assert name == "all_to_all_single"
    dist.all_to_all_single(out, flambeau.cat(lists(rank)))
    return [out]


def expected(rank: int, name: str) -> list[Any]:
    """What a rank has afterwards."""
    own = [np.arange(2.0) + 10 * r for r in range(3)]
    zeros = [np.zeros(2)] * 3
    given = [[own[r] + 100 * k for k in range(3)] for r in range(3)]
    return {
        "all_reduce": [own[2]],
        "broadcast": [own[2]],
        "reduce": [sum(own) if rank == 1 else own[rank]],
        "all_gather": own,
        "all_gather_into_tensor": [np.concatenate(own)],
        "gather": own if rank == 1 else zeros,
        "scatter": [given[2][rank]],
        "reduce_scatter": [sum(given[r][rank] for r in range(3))],
        "reduce_scatter_tensor": [sum(given[r][rank] for r in range(3)) / 3],
        "all_to_all": [given[r][rank] for r in range(3)],
        "all_to_all_single": [np.concatenate([given[r][rank] for r in range(3)])],
    }[name]


NAMES = (
    *("all_reduce", "broadcast", "reduce", "all_gather", "all_gather_into_tensor", "gather"),
    *("scatter", "reduce_scatter", "reduce_scatter_tensor", "all_to_all", "all_to_all_single"),
)


class TestWriting:
    @pytest.mark.parametrize("name", NAMES)
    def test_what_is_written(self, name: str) -> None:
        found = dist.spawn_local(3, lambda rank: [t.tolist() for t in write(rank, name)])
        for rank in range(3):
            for got, wanted in zip(found[rank], expected(rank, name), strict=True):
                np.testing.assert_allclose(got, wanted)

    def test_a_tensor_that_needs_a_gradient_is_refused(self) -> None:
        def program(rank: int) -> None:
            w = flambeau.ones(2, requires_grad=True)
            y = w * 2
            with pytest.raises(RuntimeError, match=r"all_reduce cannot be differentiated"):
                dist.all_reduce(y)
            with pytest.raises(RuntimeError, match="all_gather cannot"):
                dist.all_gather([flambeau.zeros(2) for _ in range(2)], y)
            dist.broadcast(w, 0)  # a leaf has nothing to lose
            with flambeau.no_grad():
                dist.all_reduce(y)
            assert y.tolist() == [4, 4]

        dist.spawn_local(2, program)

    def test_async_works(self) -> None:
        def program(rank: int) -> Any:
            x = numbers(rank, 2)
            work = dist.all_reduce(x, async_op=True)
            assert work is not None
            assert work.wait()
            later = work.get_future().then(lambda done: done.value()[0] / 2)
            assert work.is_completed()
            return x.tolist(), later.value().tolist()

        assert dist.spawn_local(2, program)[0] == ([10, 12], [5, 6])

    def test_messages_round_a_ring(self) -> None:
        def program(rank: int) -> Any:
            got = flambeau.zeros(2)
            ops = [
                dist.P2POp(dist.irecv, got, (rank - 1) % 3),
                dist.P2POp(dist.isend, numbers(rank, 2), (rank + 1) % 3),
            ]
            for work in dist.batch_isend_irecv(ops):
                work.wait()
            if rank == 0:
                dist.send(flambeau.ones(1), 2, tag=5)
            if rank == 2:
                assert dist.recv(flambeau.zeros(1), 0, tag=5) == 0
            return got.tolist()

        assert dist.spawn_local(3, program) == [[20, 21], [0, 1], [10, 11]]


class TestObjects:
    def test_objects(self) -> None:
        def program(rank: int) -> Any:
            every: list[Any] = [None] * 3
            dist.all_gather_object(every, {"rank": rank})
            gathered: list[Any] = [None] * 3
            dist.gather_object("abc"[rank], gathered if rank == 2 else None, dst=2)
            given = [1, "two"] if rank == 1 else [None, None]
            dist.broadcast_object_list(given, src=1)
            part = [None]
            dist.scatter_object_list(part, ["x", "y", "z"] if rank == 0 else None, src=0)
            if rank == 0:
                dist.send_object_list([{"a": 1}], 1)
            got: list[Any] = []
            if rank == 1:
                assert dist.recv_object_list(got, 0) == 0
            return every, gathered, given, part, got

        found = dist.spawn_local(3, program)
        for rank, (every, gathered, given, part, got) in enumerate(found):
            assert every == [{"rank": r} for r in range(3)]
            assert gathered == (["a", "b", "c"] if rank == 2 else [None] * 3)
            assert given == [1, "two"]
            assert part == ["xyz"[rank]]
            assert got == ([{"a": 1}] if rank == 1 else [])


def test_the_older_functional_module() -> None:
    def program(rank: int) -> Any:
        x = numbers(rank, 2).requires_grad_()
        total = legacy.all_reduce(x).sum()
        total = total + sum((k + 1) * t.sum() for k, t in enumerate(legacy.all_gather(x)))
        total = total + legacy.broadcast(x, 1).sum() * (rank + 1)
        total = total + legacy.reduce_scatter(x, [x, x * 2]).sum()
        total = total + sum(t.sum() for t in legacy.gather(x, 0))
        total.backward()
        return x.grad.tolist()

    found = dist.spawn_local(2, program)
    # all_reduce 2, all_gather 2 (r + 1), broadcast 3 on rank 1, reduce_scatter 1 + 2, gather 1
    assert found == [[2 + 2 + 0 + 3 + 1] * 2, [2 + 4 + 3 + 3 + 1] * 2]
