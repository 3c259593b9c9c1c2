"""Random sequences of collectives, on random groups of 2 to 4 ranks, beside the same in NumPy.

Tensors are plain, views of others, seen by NumPy, or not contiguous; some ranks flush in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import flambeau
import flambeau.distributed as dist
from flambeau import record
from tests.distributed.mpi import mpiexec, needs_mpi

pytestmark = pytest.mark.timeout(120)

Array = np.ndarray[Any, Any]

KINDS = (
    *("all_reduce", "all_reduce", "broadcast", "reduce", "all_gather", "gather", "scatter"),
    *("reduce_scatter", "reduce_scatter_tensor", "all_to_all", "all_to_all_single", "messages"),
    *("all_gather_object", "barrier", "flush", "add"),
)
REDUCTIONS: dict[str, Any] = {
    "sum": np.add,
    "avg": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "product": np.multiply,
}
TYPES = (
    *(np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_),
    *(np.float16, ml_dtypes.bfloat16),
)


@dataclass
class Step:
    """One call, the same on all ranks.

    Attributes:
        ranks: of the group.
        group: its number.
        counts: what goes from each of its ranks to each.
        how: what the tensors are like.
    """

    kind: str
    ranks: list[int]
    group: int
    dtype: Any
    op: str
    shape: tuple[int, ...]
    root: int
    counts: list[list[int]]
    how: str
    seed: int

    def values(self, rank: int, shape: tuple[int, ...], part: int = 0) -> Array:
        """What a rank of the world has: small whole numbers, exact in every type."""
        random = np.random.default_rng([self.seed, rank, part])
        return random.integers(0, 2 if self.dtype is np.bool_ else 4, shape).astype(self.dtype)

    def tensor(self, x: Array, kept: list[Any]) -> Any:
        """A tensor of these values."""
        t = flambeau.tensor(x.astype(np.float32)).to(flambeau.bfloat16)
        if x.dtype != ml_dtypes.bfloat16:
            t = flambeau.from_numpy(x.copy())
            if self.how == "seen":
                kept.append(t.numpy())
        if self.how == "turned" and x.ndim == 2:
            return t.clone().t().contiguous().t()
        if self.how == "view":
            whole = flambeau.zeros((2, *x.shape), dtype=t.dtype)
            whole[1] = t
            return whole[1]
        return t.clone() if self.how == "plain" else t

    def reduced(self, xs: list[Array]) -> Array:
        """The reduction, in the widest type of its kind."""
        wide = np.int64 if xs[0].dtype.kind in "iub" else np.float64
        found: Array = xs[0].astype(wide)
        for x in xs[1:]:
            found = REDUCTIONS[self.op](found, x.astype(wide))
        if self.op == "avg":
            found = found // len(xs) if wide is np.int64 else found / len(xs)
        return (found != 0 if self.dtype is np.bool_ else found).astype(self.dtype)


def sequence(seed: int, size: int) -> tuple[list[list[int]], list[Step]]:
    """Groups and calls."""
    random = np.random.default_rng(seed)
    groups = [list(range(size))]
    for _ in range(random.integers(0, 3)):
        chosen = random.choice(size, random.integers(1, size + 1), replace=False)
        groups.append(sorted(chosen.tolist()))
    steps = []
    for _ in range(random.integers(4, 12)):
        at = int(random.integers(0, len(groups)))
        n = len(groups[at])
        dtype = TYPES[random.integers(0, len(TYPES))]
        op = str(random.choice(["sum", "min", "max", "product"] + ["avg"] * (dtype != np.bool_)))
        steps.append(
            Step(
                str(random.choice(KINDS)),
                groups[at],
                at,
                dtype,
                op,
                tuple(random.integers(0, 4, random.integers(0, 3)).tolist()),
                int(random.integers(0, n)),
                random.integers(0, 4, (n, n)).tolist(),
                str(random.choice(["plain", "seen", "turned", "view", "shared"])),
                int(random.integers(1 << 30)),
            )
        )
    return groups, steps


def call(s: Step, rank: int, group: Any, kept: list[Any]) -> list[tuple[Any, Array]]:
    """Call one; -> tensors that it writes, each with what it is to have."""
    me, n, root = s.ranks.index(rank), len(s.ranks), s.ranks[s.root]
    xs = [s.values(r, s.shape) for r in s.ranks]
    sizes = s.counts[0]
    match s.kind:
        case "all_reduce" | "reduce":
            t = s.tensor(xs[me], kept)
            args = () if s.kind == "all_reduce" else (root,)
            work = getattr(dist, s.kind)(t, *args, op=s.op, group=group, async_op=True)
            if rank % 2:
                work.wait()
            has = s.kind == "all_reduce" or rank == root
            return [(t, s.reduced(xs) if has else xs[me])]
        case "broadcast":
            t = s.tensor(xs[me], kept)
            dist.broadcast(t, root, group=group)
            return [(t, xs[s.root])]
        case "all_gather":
            wanted = [s.values(r, (sizes[k], *s.shape)) for k, r in enumerate(s.ranks)]
            outs = [s.tensor(np.zeros_like(x), kept) for x in wanted]
            dist.all_gather(outs, s.tensor(wanted[me], kept), group=group)
            return list(zip(outs, wanted, strict=True))
        case "gather":
            outs = [s.tensor(np.zeros_like(x), kept) for x in xs] if rank == root else []
            dist.gather(s.tensor(xs[me], kept), outs or None, root, group=group)
            return list(zip(outs, xs, strict=False))
        case "scatter":
            given = [s.values(root, s.shape, r) for r in range(n)]
            t = s.tensor(np.zeros_like(given[me]), kept)
            sent = [s.tensor(x, kept) for x in given] if rank == root else None
            dist.scatter(t, sent, root, group=group)
            return [(t, given[me])]
        case "reduce_scatter":
            rows = [[s.values(r, (sizes[b], *s.shape), b) for b in range(n)] for r in s.ranks]
            wanted_one = s.reduced([row[me] for row in rows])
            t = s.tensor(np.zeros_like(wanted_one), kept)
            dist.reduce_scatter(t, [s.tensor(x, kept) for x in rows[me]], op=s.op, group=group)
            return [(t, wanted_one)]
        case "reduce_scatter_tensor":
            whole = [s.values(r, (2 * n, *s.shape)) for r in s.ranks]
            wanted_one = s.reduced(whole)[2 * me : 2 * me + 2]
            t = s.tensor(np.zeros_like(wanted_one), kept)
            dist.reduce_scatter_tensor(t, s.tensor(whole[me], kept), op=s.op, group=group)
            return [(t, wanted_one)]
    return messages(s, rank, group, kept)


def messages(s: Step, rank: int, group: Any, kept: list[Any]) -> list[tuple[Any, Array]]:
    """The calls in which each rank sends something to each other one, or nothing."""
    me, n = s.ranks.index(rank), len(s.ranks)
    xs = [s.values(r, s.shape) for r in s.ranks]
    c = s.counts
    parts = [[s.values(r, (c[a][b], *s.shape), b) for b in range(n)] for a, r in enumerate(s.ranks)]
    match s.kind:
        case "all_to_all":
            wanted = [parts[a][me] for a in range(n)]
            outs = [s.tensor(np.zeros_like(x), kept) for x in wanted]
            dist.all_to_all(outs, [s.tensor(x, kept) for x in parts[me]], group=group)
            return list(zip(outs, wanted, strict=True))
        case "all_to_all_single":
            wanted_one = np.concatenate([parts[a][me] for a in range(n)])
            t = s.tensor(np.zeros_like(wanted_one), kept)
            given_one = s.tensor(np.concatenate(parts[me]), kept)
            received = [c[a][me] for a in range(n)]
            dist.all_to_all_single(t, given_one, received, c[me], group=group)
            return [(t, wanted_one)]
        case "messages" if n > 1:
            t = s.tensor(np.zeros_like(xs[me]), kept)
            after, before = s.ranks[(me + 1) % n], s.ranks[me - 1]
            ops = [
                dist.P2POp(dist.irecv, t, before, group=group),
                dist.P2POp(dist.isend, s.tensor(xs[me], kept), after, group=group),
            ]
            for work in dist.batch_isend_irecv(ops[:: 1 if rank % 2 else -1]):
                work.wait()
            return [(t, xs[me - 1])]
        case "all_gather_object":
            found: list[Any] = [None] * n
            dist.all_gather_object(found, (rank, s.seed), group=group)
            assert found == [(r, s.seed) for r in s.ranks]
        case "barrier":
            dist.barrier(group=group)
    return []


def run(rank: int, seed: int, size: int) -> int:
    """Run a sequence on one rank; -> how many results were compared."""
    lists, steps = sequence(seed, size)
    groups = [None, *(dist.new_group(ranks) for ranks in lists[1:])]
    random = np.random.default_rng([seed, rank])
    results: list[tuple[Any, Array]] = []
    kept: list[Any] = []
    for s in steps:
        if rank not in s.ranks:
            continue
        if s.kind == "flush" and random.integers(0, 2):
            record.flush()
        if s.kind == "add" and results:
            t, wanted = results.pop(random.integers(0, len(results)))
            if wanted.dtype.kind in "iuf" and wanted.dtype.itemsize > 2:
                t.add_(1)
                wanted = wanted + wanted.dtype.type(1)
            results.append((t, wanted))
        results += call(s, rank, groups[s.group], kept)
    for t, wanted in results:
        found = np.asarray(t.to(flambeau.float64).tolist()).reshape(t.shape)
        narrow = wanted.dtype.itemsize == 2
        np.testing.assert_allclose(
            found,
            wanted.astype(np.float64),
            rtol=2e-2 if narrow else 1e-6,
            atol=1e-2 if narrow else 0,
            err_msg=f"seed {seed}",
        )
    return len(results)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_sequences_are_numpys(size: int) -> None:
    compared = sum(sum(dist.spawn_local(size, run, seed, size)) for seed in range(8))
    assert compared > 50


@needs_mpi
def test_sequences_on_mpi() -> None:
    ended = mpiexec(3, "sequences.py")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "the same\n"
