"""Types along a mesh, for every row and sample: what is claimed of a result is true of the results
that simulated ranks compute, and what is linear by its values is so by its words."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import record
from flambeau.distributed import types
from flambeau.distributed.types import CONSTANT, Invariant, P, R, S, SpmdTypeError, Type, V
from flambeau.ir.graph import Node, reachable
from flambeau.ir.interpret import evaluate
from flambeau.ops.rows import ROWS
from flambeau.ops.table import expand_composite, specs_of
from flambeau.runtime.host import array_of
from tests.table import cases

RANKS = 3
#: Rows whose samples cannot tell: the branch that is not linear is not taken, or not seen.
NOT_TOLD = {
    "select_where": "the condition is such that nothing of the other operand is taken",
    "nextafter": "the next number is the number, to rounding",
    "matmul_biased": "the summed dimension is empty, so that the bias is all of it",
    "put_leading": "no element of the greater operand is put",
}


@dataclass
class Sample:
    """A recorded call: its results' nodes, its leaves' nodes, and every rank's values of these."""

    name: str
    roots: list[Node]
    nodes: list[Node]
    floats: list[int]
    values: list[list[np.ndarray]]

    def typed(self, pattern: list[Type]) -> list[Type]:
        """The results' types where the leaves have these."""
        for node in reachable(self.roots):
            if hasattr(node, "types"):
                del node.types
            if node.buffer is not None:
                node.types = {"x": CONSTANT}
        for node, t in zip(self.nodes, pattern, strict=True):
            node.types = {"x": t}
        found = [types.types_below(root, ("x",)) for root in self.roots]
        assert all(f is not None for f in found)
        return [f["x"] for f in found if f is not None]

    def attempt(self, pattern: list[Type]) -> list[Type] | SpmdTypeError:
        """The results' types, or the refusal."""
        try:
            return self.typed(pattern)
        except SpmdTypeError as error:
            return error

    def on(self, rank: int, pattern: list[Type]) -> list[np.ndarray]:
        """What a rank computes."""
        return self._at([
            self.values[rank if t.word in ("Varying", "Partial") else 0][k]
            for k, t in enumerate(pattern)
        ])  # fmt: skip

    def of_sums(self, pattern: list[Type]) -> list[np.ndarray]:
        """What is computed from the sums of the terms."""
        return self._at([
            sum(self.values[r][k] for r in range(RANKS)) if t == P else self.values[0][k]
            for k, t in enumerate(pattern)
        ])  # fmt: skip

    def _at(self, leaves: list[Any]) -> list[np.ndarray]:
        values: dict[Node, Any] = dict(zip(self.nodes, leaves, strict=True))
        with np.errstate(all="ignore"):
            return [_value(root, values) for root in self.roots]


def _value(root: Node, values: dict[Node, Any]) -> Any:
    """A node's value in NumPy, composites by their bodies."""
    stack = [root]
    while stack:
        node = stack[-1]
        below = [s for s in node.src if type(s) is Node and s not in values]
        if node in values:
            stack.pop()
        elif node.buffer is not None:
            values[node] = np.array(array_of(record.memory_of(node).ptr, node.shape, node.dtype))
        elif below:
            stack += below
        elif node.op.kind == "composite":
            parts = tuple(_value(part, values) for part in expand_composite(node))
            values[node] = parts if specs_of(node) is not None else parts[0]
        else:
            given = [values[s] if type(s) is Node else s for s in node.src]
            values[node] = evaluate(node, given)
    return values[root]


@functools.cache
def samples(name: str) -> list[Sample]:
    """The samples of a row that are recorded without looking at values."""
    draws = [cases.Draw(flambeau.float64, seed=7 + rank) for rank in range(RANKS)]
    try:
        calls = [cases.calls(name, draw) for draw in draws]
    except cases.REFUSALS:
        return []
    found = []
    for call in calls[0][:4]:
        given = cases.tensors([*call.args, *call.kwargs.values()])
        used = [
            k for k, leaf in enumerate(draws[0].leaves) if any(leaf._cell is t._cell for t in given)
        ]
        leaves = [draws[0].leaves[k] for k in used]
        flushes = record.counters.flushes
        flambeau.manual_seed(0)
        with flambeau.no_grad():
            try:
                outs = call()
            except cases.REFUSALS:
                continue
        nodes = [leaf._cell.node for leaf in leaves]
        if record.counters.flushes != flushes or any(n.buffer is None for n in nodes):
            continue
        floats = [k for k, leaf in enumerate(leaves) if leaf.dtype.is_floating_point]
        values = [[cases.cell_values(draw.leaves[k]) for k in used] for draw in draws]
        found.append(Sample(name, [t._node() for t in outs], nodes, floats, values))
    return [s for s in found if s.nodes and s.roots]


def patterns(sample: Sample) -> Iterator[list[Type]]:
    """Types of the leaves: all equal, one that differs, one and all float ones as terms."""
    count = len(sample.nodes)
    for t in (R, V, Invariant):
        yield [t] * count
    for k in range(count) if count > 1 else ():
        yield [V if j == k else R for j in range(count)]
    for k in sample.floats:
        yield [P if j == k else R for j in range(count)]
    if len(sample.floats) > 1:
        yield [P if j in sample.floats else R for j in range(count)]


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    near = 1e-9 if np.asarray(a).dtype.itemsize >= 8 else 1e-4
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=near, atol=near, equal_nan=True)


@pytest.mark.parametrize("name", cases.SAMPLED)
def test_types_are_true_of_what_ranks_compute(name: str) -> None:
    for sample in samples(name):
        for pattern in patterns(sample):
            found = sample.attempt(pattern)
            if isinstance(found, SpmdTypeError):
                assert P in pattern, f"{pattern}: {found}"
                assert "Fix: " in str(found)
                assert "along mesh axis 'x'" in str(found)
                continue
            if P not in pattern and V not in pattern:
                assert all(t in (pattern[0], CONSTANT, types.ZERO) for t in found), found
                continue
            if all(t.word == "Varying" for t in found):
                continue
            ranks = [sample.on(rank, pattern) for rank in range(RANKS)]
            whole = sample.of_sums(pattern)
            for k, t in enumerate(found):
                each = [r[k] for r in ranks]
                if t == P:
                    assert _equal(sum(each), whole[k]), f"{pattern} -> {t} of result {k}"
                elif t == types.ZERO:
                    assert not any(np.any(e) for e in each), f"{pattern} -> {t} of result {k}"
                elif t.word != "Varying":
                    assert all(_equal(each[0], e) for e in each), f"{pattern} -> {t} of result {k}"


@pytest.mark.parametrize("name", [n for n in cases.SAMPLED if ROWS[n].kind != "composite"])
def test_what_is_linear_by_its_values_is_so_by_its_words(name: str) -> None:
    for sample in samples(name):
        if any(root.numel < 2 or not root.dtype.is_floating_point for root in sample.roots):
            continue
        for pattern in patterns(sample):
            if P not in pattern:
                continue
            refused = sample.attempt(pattern)
            if isinstance(refused, SpmdTypeError):
                ranks = [sample.on(rank, pattern) for rank in range(RANKS)]
                linear = all(
                    _equal(sum(r[k] for r in ranks), whole)
                    for k, whole in enumerate(sample.of_sums(pattern))
                )
                assert not linear or name in NOT_TOLD, refused


def _split(sample: Sample, k: int, dim: int) -> list[Type]:
    return [S(dim) if j == k else R for j in range(len(sample.nodes))]


def test_parts_stay_parts() -> None:
    """S(i): the ranks' results one after another are the result of the whole."""
    checked = 0
    for name in cases.rows(lambda row: row.kind not in ("host", "composite")):
        for sample in samples(name):
            for k in sample.floats:
                for dim in range(len(sample.nodes[k].shape)):
                    found = sample.typed(_split(sample, k, dim))
                    if found[0].dim is not None and len(sample.roots) == 1:
                        checked += _parts(sample, k, dim, found[0].dim)
    assert checked > 100


def _parts(sample: Sample, k: int, dim: int, result: int) -> int:
    """Compare with the one operation on the whole; 1, or 0 where there are several operations."""
    root, leaf = sample.roots[0], sample.nodes[k]
    if leaf not in root.src or root.op.kind == "assign":
        return 0
    ranks = [sample.on(r, _split(sample, k, dim))[0] for r in range(RANKS)]
    want = np.concatenate(ranks, result)
    whole = np.concatenate([sample.values[r][k] for r in range(RANKS)], dim)
    attrs = root.attrs
    if root.op.kind == "view":
        attrs = _wider(root, leaf.shape, dim, result)
    made = {n: sample.values[0][j] for j, n in enumerate(sample.nodes)}
    made[leaf] = whole
    given = []
    for s in root.src:
        if type(s) is not Node:
            given.append(s)
        elif s in made:
            given.append(made[s])
        else:
            return 0
    node = Node(root.op, root.src, attrs, want.shape, root.dtype)
    got = evaluate(node, given)
    assert _equal(np.asarray(got), want), f"{sample.name}: S({dim}) of source {k} -> S({result})"
    return 1


def _wider(root: Node, shape: tuple[int, ...], dim: int, result: int) -> tuple[Any, ...]:
    """The strides of the same view of `RANKS` times as much in a dimension of its source."""
    strides, offset = root.attrs
    block = int(np.prod(shape[dim:]))
    wide = [s * RANKS if n > 1 and s % block == 0 else s
            for n, s in zip(root.shape, strides, strict=True)]  # fmt: skip
    return (tuple(wide), offset // block * block * RANKS + offset % block)


def test_types_of_several_axes_are_independent() -> None:
    x, y = flambeau.ones(2, 3), flambeau.ones(3)
    flambeau.stack([x.sum(), y.sum()]).tolist()
    x._node().types = {"dp": V, "tp": P}
    y._node().types = {"dp": R, "tp": R}
    assert types.types_below((x * y)._node(), ("dp", "tp")) == {"dp": V, "tp": P}
    with pytest.raises(SpmdTypeError, match=r"along mesh axis 'tp'.*\n.*\n.*all_reduce"):
        types.types_below(x.exp()._node(), ("dp", "tp"))


def test_errors_name_the_line_and_the_fix() -> None:
    x = flambeau.ones(2)
    x.tolist()
    x._node().types = {"x": P}
    with pytest.raises(SpmdTypeError, match="counted once for each rank") as error:
        types.types_below((x + 1)._node(), ("x",))
    assert "test_types.py" in str(error.value)
    assert "convert(x, 'x', src=R, dst=P)" in str(error.value)
    other = flambeau.ones(2)
    other.tolist()
    other._node().types = {"x": Invariant}
    with pytest.raises(SpmdTypeError, match="Invariant value"):
        types.types_below((x * other)._node(), ("x",))
