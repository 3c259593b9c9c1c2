"""What was generated for graphs, on disk: a program that starts again rewrites and fuses nothing.

A lifted graph is written down without its nodes, as `codegen/emitted.py` does with regions, and the
digest of that text is the key: operations, attributes, shapes, dtypes, sources, outputs. With it go
a digest of the source of everything that decides what a graph becomes, what is known of the
machine, and the default dtype, so what another version or machine stored is not found. Graphs
that cannot be written down (symbolic sizes, library calls of users) are generated each time.

What is stored is a pickle in which nodes are numbers: they stand in a table of their own, sources
first, and operations and dtypes go by name. Only what this package defines is read back, from the
cache directory that nobody else may write (`objects.py`), where machine code lies as well.
"""

from __future__ import annotations

import builtins
import io
import pickle
import threading
import zlib
from dataclasses import fields, is_dataclass
from typing import Any

from flambeau import dtypes
from flambeau.codegen.emitted import Opaque, version_of, written
from flambeau.dtype import dtype as DType
from flambeau.dtype import get_default_dtype
from flambeau.ir import graph as ir
from flambeau.ir.graph import Argument, Graph, Node, Op, origin_of
from flambeau.ir.recorded import Recorded
from flambeau.ops.rows import ROWS
from flambeau.passes.pipeline import VERIFY
from flambeau.runtime import cpuinfo, kernels, objects
from flambeau.runtime.generation import Generated

#: Graphs of fewer nodes are generated in about the time it takes to read a file.
FEWEST = 64
_FOLDERS = ("codegen", "ir", "kernels", "ops", "passes", "runtime")
_BUILT_IN = {op.name: op for op in vars(ir).values() if isinstance(op, Op)}


def _op_named(name: str) -> Op | None:
    return _BUILT_IN.get(name) or ROWS.get(name)


def key_of(graph: Graph) -> bytes | None:
    """The key of what is generated for a graph; None where it is not to be stored."""
    version = version_of(_FOLDERS)
    if len(graph.nodes) < FEWEST or VERIFY or version is None:
        return None
    try:
        lines = _lines(graph.nodes, {})
        index = {n: k for k, n in enumerate(graph.nodes)}
        lines.append(written(tuple((index[n], home) for n, home in graph.outputs)))
        lines.append(written(tuple(index[n] for n in graph.inputs)))
    except Opaque:
        return None
    machine = (kernels.vector_bytes(), *sorted(cpuinfo.host_features()))
    lines.append(written((*machine, get_default_dtype(), graph.arguments)))
    return objects.digest("\n".join(lines), version)


def _lines(nodes: Any, recorded: dict[Recorded, int]) -> list[str]:
    """A line for each node; a recorded graph is written out where it is met first."""
    index = {n: k for k, n in enumerate(nodes)}
    lines: list[str] = []
    for node in nodes:
        op = node.op
        if isinstance(op, Recorded):
            if op not in recorded:
                recorded[op] = len(recorded)
                inside = _lines(op.nodes, recorded)
                at = {n: k for k, n in enumerate(op.nodes)}
                lines += ["(", *inside, f") {[at[n] for n in op.outputs]}"]
            name = f"recorded {recorded[op]}"
        else:
            name = written(op)
        sources = []
        for s in node.src:
            if type(s) is Node:
                sources.append(f"%{index[s]}")
            else:
                sources.append(f"{s.kind}{s.index}" if type(s) is Argument else written(s))
        lines.append(
            f"{name} {node.dtype.name} {written(node.shape)} {written(node.attrs)} "
            f"{' '.join(sources)} {origin_of(node)}"
        )
    return lines


class _Writer(pickle.Pickler):
    """Pickles what was generated; the nodes that it meets go to a table."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.index: dict[Node, int] = {}
        self.table: list[tuple[Any, ...]] = []

    def reducer_override(self, x: Any) -> Any:
        """How an object that is no plain value is made again."""
        kind = type(x)
        if kind is Node:
            if x not in self.index:
                for node in ir.reachable((x,)):
                    self.enter(node)
            return _node_at, (self.index[x],)
        if kind is DType:
            return _dtype_named, (x.name,)
        if isinstance(x, Op):
            if _op_named(x.name) is not x:
                raise Opaque
            return _op_named, (x.name,)
        if is_dataclass(kind) and kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            # made anew, for it may hold a hash, which is of one process
            return kind, tuple([getattr(x, f.name) for f in fields(x)])
        return NotImplemented

    def enter(self, node: Node) -> None:
        """Write a node, whose sources are there, into the table."""
        if node in self.index:
            return
        src = tuple([self.index[s]] if type(s) is Node else s for s in node.src)
        self.index[node] = len(self.table)
        self.table.append((node.op, src, node.attrs, node.shape, node.dtype, origin_of(node)))


class _Reading(threading.local):
    """The table of what this thread is reading."""

    nodes: list[Node]


_reading = _Reading()


def _node_at(index: int) -> Node:
    return _reading.nodes[index]


def _dtype_named(name: str) -> Any:
    return getattr(dtypes, name)


class _Reader(pickle.Unpickler):
    """Reads what a `_Writer` wrote."""

    def find_class(self, module: str, name: str) -> Any:
        """What this package defines, sets, and the errors that steps raise."""
        error = getattr(builtins, name, None) if module == "builtins" else None
        raised = isinstance(error, type) and issubclass(error, Exception)
        if raised or module.startswith("flambeau.") or (module, name) in _SETS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a plan")


_SETS = frozenset((("builtins", "set"), ("builtins", "frozenset")))


def load(key: bytes) -> Generated | None:
    """What is stored under a key, or None; what cannot be read counts as absent."""
    found = objects.get(key)
    if found is None:
        return None
    nodes = _reading.nodes = []
    try:
        length = int.from_bytes(found[:8], "little")
        table, rest = (
            zlib.decompress(part) for part in (found[8 : 8 + length], found[8 + length :])
        )
        for op, src, attrs, shape, dtype, origin in _Reader(io.BytesIO(table)).load():
            given = tuple([nodes[s[0]] if type(s) is list else s for s in src])
            node = Node(op, given, attrs, shape, dtype)
            node.origin = origin
            nodes.append(node)
        made = _Reader(io.BytesIO(rest)).load()
    except (pickle.UnpicklingError, zlib.error, EOFError, AttributeError, LookupError, TypeError,
            ValueError):  # fmt: skip
        return None
    finally:
        _reading.nodes = []
    return made if isinstance(made, Generated) else None


def store(key: bytes, made: Generated) -> None:
    """Store what was generated, where it can be written down."""
    rest = io.BytesIO()
    writer = _Writer(rest)
    try:
        for node in made.plan.graph.nodes:
            writer.enter(node)
        writer.dump(made)
        table = io.BytesIO()
        _Writer(table).dump(writer.table)
    except (Opaque, pickle.PicklingError, AttributeError, TypeError):
        return
    first, second = (zlib.compress(part.getvalue(), 1) for part in (table, rest))
    objects.put(key, len(first).to_bytes(8, "little") + first + second)
