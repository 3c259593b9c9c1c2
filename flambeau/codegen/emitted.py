"""Kernels of regions by the regions' structure, so that what is known is not written again.

The layers of a network are regions that differ in their nodes alone, and a program that starts
again has the regions it had the last time. So a region is described without its nodes: they are
numbered in the order they are met, and everything that the code generator may look at is written
down in terms of the numbers. Regions of one description have one kernel, which is given their own
nodes. Kernels are kept in this process, and in the cache on disk for the ones to come.

What a description leaves out must never decide what is generated. It holds whole nodes (operation,
attributes, shape, dtype, sources) of all that is computed in the region, and shape and dtype of
what is read from memory. The key has a digest of the generator's own source besides, so a kernel
that another version wrote is not found. With FLAMBEAU_VERIFY=1 what is found is generated all the
same, and must be equal.
"""

from __future__ import annotations

import functools
import marshal
import zlib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from flambeau.codegen.llvm import Kernel
from flambeau.codegen.loops import emit_region
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import Argument, Constant, Node, Op
from flambeau.ir.region import Map, Region
from flambeau.passes.pipeline import VERIFY
from flambeau.runtime import objects

#: Kernels that a process keeps before it begins anew.
MAX_KEPT = 512

_PLAIN = frozenset((int, float, str, bool, type(None), Constant))
_kept: dict[bytes, Any] = {}


class Opaque(Exception):
    """A value that cannot be written down, such as a symbolic size."""


class Structure:
    """A region without its nodes.

    Args:
        region: the region.
        free: nodes that are computed wherever they are read.

    Attributes:
        parts: the nodes and run-time numbers of the region, by number.
        lines: the description.
    """

    def __init__(self, region: Region, free: set[Node]) -> None:
        self.region = region
        self.free = free
        self.parts: list[Node | Argument] = []
        self.lines: list[str] = []
        self._numbers: dict[Node | Argument, int] = {}
        dims, reduced = region.dims, tuple(sorted(region.reduced))
        self.lines.append(f"{written(dims)} {reduced}")
        for nodes in (region.maps, region.stores):
            self.lines += [f"{self.number(n)} {_map_text(m)}" for n, m in nodes.items()]
        self.lines.append(written(tuple(self.number(n) for n in region.members)))

    def number(self, part: Node | Argument) -> int:
        """The number of a node or run-time number; what it is computed from comes before it."""
        known = self._numbers.get(part)
        if known is not None:
            return known
        if isinstance(part, Argument):
            line = f"argument {part.kind}"
        else:
            line = f"{part.dtype.name} {written(part.shape)}"
            free = part in self.free and part not in self.region.forced
            if part in self.region.maps or free or part.op.kind == "view":
                op = part.op
                sources = " ".join(self._source(s) for s in part.src)
                line += (
                    f" {op.name} {op.kind} {op.expensive} {sorted(op.fixed)} {free}"
                    f" {written(part.attrs)} of {sources}"
                )
        self._numbers[part] = found = len(self.parts)
        self.parts.append(part)
        self.lines.append(line)
        return found

    def _source(self, s: Any) -> str:
        if type(s) is Node or type(s) is Argument:
            return f"%{self.number(s)}"
        return written(s)

    def packed(self, kernel: Kernel) -> tuple[Any, ...]:
        """A kernel with numbers in place of nodes, of values that `marshal` can store."""

        def pack(x: Any) -> Any:
            if type(x) is tuple:
                return tuple(map(pack, x))
            return [self._numbers[x]] if isinstance(x, Node | Argument) else x

        def pack_map(m: Map | None) -> Any:
            return None if m is None else (m.offset, m.coefficients)

        return (
            kernel.name,
            kernel.text,
            pack(tuple(kernel.slots)),
            tuple(sorted(kernel.math)),
            tuple((pack(key), tuple(map(pack_map, maps))) for key, maps in kernel.reads.items()),
            kernel.dims,
            tuple(sorted(kernel.reduced)),
            kernel.lanes,
            kernel.tile,
            kernel.band,
            pack(tuple(kernel.last_read.items())),
            pack(tuple(kernel.writes.items())),
        )

    def unpacked(self, stored: tuple[Any, ...]) -> Kernel:
        """The kernel of this region from what `packed` made of one of the same structure."""

        def unpack(x: Any) -> Any:
            if type(x) is tuple:
                return tuple(map(unpack, x))
            return self.parts[x[0]] if type(x) is list else x

        def unpack_map(m: Any) -> Map | None:
            return None if m is None else Map(*m)

        name, text, slots, math, reads, dims, reduced, lanes, tile, band, last_read, writes = stored
        return Kernel(
            name,
            text,
            list(unpack(slots)),
            set(math),
            {unpack(key): set(map(unpack_map, maps)) for key, maps in reads},
            dims,
            frozenset(reduced),
            lanes,
            tile,
            band,
            dict(unpack(last_read)),
            dict(unpack(writes)),
        )


def written(x: Any) -> str:
    """A number, text, dtype, row, dataclass or tuple of such, so that different ones read
    differently.

    Raises:
        Opaque: it is something else.
    """
    kind = type(x)
    if kind in _PLAIN:
        return repr(x)
    if kind is DType:
        return str(x.name)
    if isinstance(x, tuple):
        if _PLAIN.issuperset(map(type, x)):
            return tuple.__repr__(x)
        return f"({', '.join(map(written, x))},)"
    if kind is Op and (not x.module or x.module.startswith("flambeau.ops.")):
        return f"{x.name} {x.module}"
    if is_dataclass(x) and not isinstance(x, type):
        parts = [written(getattr(x, f.name)) for f in fields(x) if f.compare]
        return f"{kind.__qualname__}({', '.join(parts)})"
    raise Opaque


def _map_text(m: Map) -> str:
    return f"{written(m.offset)} {written(m.coefficients)}"


@functools.cache
def version_of(folders: tuple[str, ...]) -> bytes | None:
    """A digest of the source in some folders of this package; None where it cannot be read."""
    package = Path(__file__).parents[1]
    try:
        files = [path for name in folders for path in sorted((package / name).rglob("*.py"))]
        return objects.digest(*(path.read_bytes() for path in files)) if files else None
    except OSError:
        return None


def kernel_of(
    region: Region, free: set[Node], vector_bytes: int, inner: int | None = None
) -> Kernel:
    """The kernel of a region: that of a region of the same structure, or a new one.

    Args:
        region: the region.
        free: nodes that are computed wherever they are read.
        vector_bytes: bytes of the machine's vectors.
        inner: elements of the trailing dimensions that stay apart from the leading ones.
    """
    version = version_of(("codegen", "ir"))
    try:
        structure = Structure(region, free)
        key = objects.digest(*structure.lines, f"{vector_bytes} {written(inner)}", version or b"")
    except Opaque:
        return emit_region(region, free, vector_bytes, inner)
    stored = _kept.get(key)
    if stored is None:
        found = objects.get(key) if version else None
        if found is not None:
            stored = marshal.loads(zlib.decompress(found))
        else:
            stored = structure.packed(emit_region(region, free, vector_bytes, inner))
            if version:
                # version 2 has no references, which follow from who else holds a value
                objects.put(key, zlib.compress(marshal.dumps(stored, 2), 1))
        if len(_kept) >= MAX_KEPT:
            _kept.clear()
        _kept[key] = stored
    kernel = structure.unpacked(stored)
    if VERIFY:
        assert vars(kernel) == vars(emit_region(region, free, vector_bytes, inner)), region
    return kernel


def forget() -> None:
    """Forget the kernels that this process keeps."""
    _kept.clear()
