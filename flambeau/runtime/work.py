"""What a program's steps amount to: operations, bytes moved, and the rows they came from."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from flambeau.ir.graph import CAST, COPY, Node, origin_of
from flambeau.ir.region import Map, Region
from flambeau.passes.fuse import base_of

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Work:
    """One step of a program.

    Attributes:
        name: the rows it computes, as recorded, in order.
        kind: "region", "contraction", "composite", "index_put": see `ir.graph.KINDS`.
        kernel: the native function's name, or "" where that is the same for all of a kind.
        flops: floating-point operations: 2 a multiply-add, 1 for any other row of a float result
            and for each element reduced, whatever it costs. Conversions are none.
        bytes: what it must read from memory and write to it at least, each element once.
        dtype: of the result.
        shapes: of what it reads; of a matrix product, its operands'.
        origins: indices of the recorded nodes it computes.
        operations: names of the nodes it computes, as they are after the passes.
    """

    name: str
    kind: str
    kernel: str
    flops: int
    bytes: int
    dtype: str
    shapes: tuple[tuple[int, ...], ...]
    origins: tuple[int, ...]
    operations: tuple[str, ...]


def work_of(program: Any, step: Any) -> Work:
    """What one step of a program amounts to.

    Args:
        program: a `runtime.program.Program`.
        step: one of its steps.
    """
    if isinstance(step, Region):
        return _region(program, step)
    node = step.node
    reads = [s for s in node.src if type(s) is Node]
    flops = 0 if node.op.flops is None else node.op.flops(node)
    moved = sum(_viewed(s) for s in reads) + _result_bytes(node)
    nodes = [node]
    carried = program.carried.get(step.number)
    if carried is not None:  # what the product hands on is read from a near cache
        if carried.hidden:
            moved -= node.nbytes
        made = {node}
        for region in carried.regions:
            after = _region(program, region, made)
            flops += after.flops
            moved += after.bytes
            nodes += region.members
            made.update(region.stores)
    elif step.kind == "index_put":  # the base is written where it lies
        moved = 2 * reads[1].nbytes + sum(i.nbytes for i in reads[2:])
    name, origins = _named(program, nodes)
    shapes = tuple(s.shape for s in reads)
    return Work(
        name, step.kind, "", flops, moved, node.dtype.name, shapes, origins, _operations_of(nodes)
    )


def _region(program: Any, region: Region, near: Collection[Node] = ()) -> Work:
    """A region's work; values in `near` are read from a near cache."""
    kernel = program.kernels[region.number]
    moved = 0
    shapes: list[tuple[int, ...]] = []
    gathered = {base_of(n.src[0]): n.numel for n in region.members if n.op.kind == "index"}
    for key, maps in kernel.reads.items():
        node = key if isinstance(key, Node) else program.plan.writes.get(key[1], key[1])
        count = gathered.get(node) or _reach(maps, node, kernel.dims)
        if node not in near:
            moved += min(count, node.numel) * node.dtype.itemsize
        shapes.append(node.shape)
    moved += sum(n.nbytes for n in region.stores)
    flops = sum(operations(n) for n in region.members)
    name, origins = _named(program, region.members)
    dtype = next(iter(region.stores)).dtype.name
    made = _operations_of(region.members)
    return Work(name, "region", kernel.name, flops, moved, dtype, tuple(shapes), origins, made)


def _operations_of(nodes: list[Node]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(n.op.name for n in nodes))


def operations(node: Node) -> int:
    """Floating-point operations of a node, as `Work.flops` counts them."""
    if node.op.flops is not None:
        return node.op.flops(node)
    if node.dtype.category != 2:
        return 0
    if node.op.kind == "reduce":
        return int(node.src[0].numel)
    return node.numel if node.op.kind == "elementwise" and node.op not in (COPY, CAST) else 0


def _reach(maps: Iterable[Map | None], node: Node, dims: tuple[int, ...]) -> int:
    """How many elements of a value are read at some maps; all of them at places not known."""
    total = 0
    for m in maps:
        if m is None:
            return node.numel
        pairs = zip(dims, m.coefficients, strict=False)
        total += math.prod(n for n, c in pairs if c)
    return total


def _viewed(s: Node) -> int:
    """Bytes that reading a source touches: an expanded view's elements lie in its base."""
    return min(s.nbytes, base_of(s).nbytes)


def _result_bytes(node: Node) -> int:
    """Bytes of a node's result, or of all results of one that has several."""
    if node.op.kind == "composite" and node.attrs and isinstance(node.attrs[-1], tuple):
        specs = node.attrs[-1]
        if specs and all(isinstance(s, tuple) and len(s) == 2 for s in specs):
            return sum(math.prod(shape) * dtype.itemsize for shape, dtype in specs)
    return node.nbytes


def _named(program: Any, nodes: list[Node]) -> tuple[str, tuple[int, ...]]:
    """The rows that nodes go back to, and their places in the recorded program."""
    origins = sorted({origin_of(n) for n in nodes if n.op.kind != "input"} - {-1})
    rows = program.rows
    names = [rows[k] for k in origins if k < len(rows)]
    return shown(names, _operations_of(nodes)), tuple(origins)


def shown(names: Iterable[str], operations: Iterable[str]) -> str:
    """Names of rows as one text, each once, without those that say nothing beside others.

    Args:
        names: of the rows.
        operations: what to name in place of a program that `compile` has recorded.
    """
    some = list(names)
    if not some or _COMPILED in some:
        some = [*operations, *(n for n in some if n != _COMPILED)]
    distinct = list(dict.fromkeys(n.strip("_") for n in some))
    telling = [n for n in distinct if n not in _SILENT] or distinct
    more = len(telling) - _NAMES_SHOWN
    return ", ".join(telling[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


_COMPILED = "compiled"  # the row of a recorded program

#: Rows that only move or rename values, not worth a mention beside others.
_SILENT = frozenset(("view_of", "copy", "cast", "assign", "pick", "fill_value", "input"))
