"""Run by mpiexec: every call of the MPI transport against NumPy, then errors; prints "right"."""

from __future__ import annotations

import itertools
import sys
import time

import ml_dtypes
import numpy as np
import pytest

from flambeau.distributed.transport import mpi
from flambeau.distributed.transport.base import REDUCTIONS, DistError, DistTimeoutError

world = mpi.world(timeout=20)
rank, size = world.rank, world.size
TYPES = (
    *(np.float32, np.float64, np.int32, np.int64, np.uint8, np.int8, np.bool_, np.complex64),
    *(np.float16, ml_dtypes.bfloat16, np.uint32),
)


def values(of: int, count: int, dtype: type) -> np.ndarray:
    """What rank `of` has: small whole numbers, exact in every type."""
    random = np.random.default_rng([of, count])
    return random.integers(
        0 if dtype is np.bool_ else 1, 2 if dtype is np.bool_ else 4, count
    ).astype(dtype)


def reduced(parts: list[np.ndarray], op: str) -> np.ndarray:
    """The reduction in the widest type of its kind."""
    dtype = parts[0].dtype
    if dtype == np.bool_:
        op = {"sum": "bor", "product": "band", "min": "band", "max": "bor"}.get(op, op)
    wide = [p.astype(np.float64) if dtype.kind not in "biuc" else p for p in parts]
    found = wide[0]
    for part in wide[1:]:
        found = REDUCTIONS[op](found, part)
    return found.astype(dtype)


def ops_of(dtype: type) -> list[str]:
    """The reductions that mean something for a type."""
    kind = np.dtype(dtype).kind
    if kind == "c":
        return ["sum", "product"]
    return list(REDUCTIONS) if kind in "iub" else ["sum", "product", "min", "max"]


def check(found: np.ndarray, wanted: np.ndarray, what: str) -> None:
    """Compare bit for bit."""
    assert found.dtype == wanted.dtype, what
    assert found.tobytes() == wanted.tobytes(), f"{what}: {found} is not {wanted}"


for dtype, count in itertools.product(TYPES, (0, 1, 7, 3001)):
    own = values(rank, count, dtype)
    everyones = [values(r, count, dtype) for r in range(size)]
    for op in ops_of(dtype):
        wanted, what = reduced(everyones, op), f"{op} of {count} {np.dtype(dtype)}"
        target = np.empty_like(own)
        world.all_reduce(own, target, op).wait()
        check(target, wanted, f"all_reduce {what}")
        inplace = own.copy()
        world.all_reduce(inplace, inplace, op).wait()
        check(inplace, wanted, f"all_reduce in place {what}")
        target = np.empty_like(own)
        world.reduce(own, target if rank == size - 1 else None, op, root=size - 1).wait()
        if rank == size - 1:
            check(target, wanted, f"reduce {what}")
        lengths = [(count + 2 * r) // size for r in range(size)]
        chunks = [[values(r, n + 10, dtype)[:n] for n in lengths] for r in range(size)]
        target = np.empty(lengths[rank], dtype)
        world.reduce_scatter(chunks[rank], target, op).wait()
        check(target, reduced([c[rank] for c in chunks], op), f"reduce_scatter {what}")

for dtype, joined in itertools.product((np.float32, np.bool_, ml_dtypes.bfloat16), (False, True)):
    lengths = [3 * r + (r != 1) for r in range(size)]

    def places(lengths: list[int], dtype: type = dtype, joined: bool = joined) -> list[np.ndarray]:
        """Memory for arrays of these lengths, in one piece or in several."""
        if not joined or not lengths:
            return [np.empty(n, dtype) for n in lengths]
        return np.split(np.empty(sum(lengths), dtype), np.cumsum(lengths)[:-1])

    own = values(rank, lengths[rank], dtype)
    targets = places(lengths)
    world.all_gather(own, targets).wait()
    for r, found in enumerate(targets):
        check(found, values(r, lengths[r], dtype), "all_gather")
    targets = places(lengths if rank == 0 else [])
    world.gather(own, targets, 0).wait()
    for r, found in enumerate(targets):
        check(found, values(r, lengths[r], dtype), "gather")
    sources = places(lengths)
    for r, part in enumerate(sources):
        part[...] = values(r + 7, lengths[r], dtype)
    target = np.empty(lengths[rank], dtype)
    world.scatter(sources if rank == 1 else [], target, 1).wait()
    check(target, values(rank + 7, lengths[rank], dtype), "scatter")
    # rank r has r + 2 * to numbers for rank `to`
    sources = places([rank + 2 * to for to in range(size)])
    for to, part in enumerate(sources):
        part[...] = values(100 * rank + to, rank + 2 * to, dtype)
    targets = places([r + 2 * rank for r in range(size)])
    world.all_to_all(sources, targets).wait()
    for r, found in enumerate(targets):
        check(found, values(100 * r + rank, r + 2 * rank, dtype), "all_to_all")
    array = values(rank, 9, dtype)
    world.broadcast(array, size - 1).wait()
    check(array, values(size - 1, 9, dtype), "broadcast")

# point to point, in a ring, received in another order than sent
after, before = (rank + 1) % size, (rank - 1) % size
sends = [world.send(values(rank + tag, 5, np.float32), after, tag) for tag in (0, 1)]
for tag in (1, 0):
    target = np.empty(5, np.float32)
    world.recv(target, before, tag).wait()
    check(target, values(before + tag, 5, np.float32), f"recv with tag {tag}")
for work in sends:
    work.wait()
world.barrier().wait()
assert world.exchange(b"x" * rank) == [b"x" * r for r in range(size)]

# many calls under way at once, waited for backwards
many = [np.full(1000, rank + n, np.float64) for n in range(20)]
for n, work in reversed(list(enumerate([world.all_reduce(a, a) for a in many]))):
    work.wait()
    assert (many[n] == sum(r + n for r in range(size))).all()

# the background finishes a large call while nobody waits
large = np.ones(1 << 20, np.float32)
work = world.all_reduce(large, large)
limit = time.monotonic() + 20
while not work.done():
    assert time.monotonic() < limit
    time.sleep(0.01)
assert (large == size).all()

# subgroups: pairs, and one in another order
backwards = world.split(range(size - 1, -1, -1))
assert backwards is not None
assert backwards.rank == size - 1 - rank
low = world.split([0, 1])
assert (low is None) == (rank > 1)
if low is not None:
    array = np.array([rank + 1.0])
    low.all_reduce(array, array).wait()
    assert array[0] == 3
    if rank == 0:
        with pytest.raises(DistTimeoutError, match=r"rank 0 of 2: barrier \(call 1\) did not end"):
            low.barrier().wait(0.2)
    else:
        time.sleep(0.4)
        low.barrier().wait(5)

# ranks that call different things are told, when asked to look
world.checked = True
array = np.zeros(4 if rank == 0 else 5, np.float32)
with pytest.raises(DistError, match=r"rank 0: all_reduce sum float32\[4\].* float32\[5\]"):
    world.all_reduce(array, array).wait()
world.checked = False
world.barrier().wait()
backwards.close()
if rank == 0:
    print("right")
sys.exit(0)
