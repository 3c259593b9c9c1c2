"""Types of values along the axes of a mesh, and how the type of a result follows from its sources'.

Note [Types along a mesh]
Along one axis of a mesh a value is, on the ranks that differ in that axis alone,

    Replicated   the same on all, and used by each for its own purpose: its gradient is Partial
    Invariant    the same on all, and used by all for the same purpose: its gradient is Invariant
    Varying      each rank's own; S(i): parts of a whole, one after another along dimension i.
                 Its gradient is Varying
    Partial      a term of a sum over the ranks, which is meant: its gradient is Replicated

Two more arise while types are inferred. A Constant is the same on all ranks because every rank
computes it from nothing (`ones`, a mask); it has no gradient, so it is Replicated or Invariant as
its neighbours are. A Zero is 0, which is a term of a sum as well as a value that all ranks share.

No row has a rule of its own. Sources of equal types give that type; Varying swallows Replicated;
Invariant mixes with nothing else. Where Partial goes in, the result is Partial if the row is linear
in the Partial sources together while the others stay, which its words say (`Op.linear`, `Op.jvp`);
everything else of a sum's terms is not a term of anything, and refused. Composites have the types
of their bodies.

The types are those of spmd_types (https://github.com/meta-pytorch/spmd_types).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from flambeau import record
from flambeau.distributed.carrying import carried, constant_along
from flambeau.ir.graph import EMPTY, PICK, Node
from flambeau.ir.recorded import Recorded
from flambeau.ops.table import expand_composite


@dataclass(frozen=True)
class Type:
    """What a value is along one axis of a mesh: Note [Types along a mesh].

    Attributes:
        word: "Replicated", "Invariant", "Varying", "Partial", "Constant" or "Zero".
        dim: of a Varying value, the dimension along which the ranks' values are parts of one.
    """

    word: str
    dim: int | None = None

    def __repr__(self) -> str:
        return self.word if self.dim is None else f"S({self.dim})"

    @property
    def dual(self) -> Type:
        """The type of this value's gradient."""
        return {"Replicated": Partial, "Partial": Replicated}.get(self.word, self)


R = Replicated = Type("Replicated")
I = Invariant = Type("Invariant")
V = Varying = Type("Varying")
P = Partial = Type("Partial")
CONSTANT = Type("Constant")
ZERO = Type("Zero")


@functools.cache
def S(dim: int) -> Type:
    """Varying, the ranks' values being parts of a whole, one after another along `dim`."""
    return Type("Varying", dim)


#: A value's types: axis -> type. An axis that is missing is one of which nothing is known.
Types = dict[str, Type]


class SpmdTypeError(TypeError):
    """An operation has no meaning for values of these types."""


def fits(found: Type, wanted: Type) -> bool:
    """Whether a value of one type may stand where another is asked for, without communication and
    without a change of its gradient's meaning."""
    if found == wanted or found == ZERO:
        return True
    if wanted.word == "Varying":
        return found.word == "Varying" and wanted.dim is None
    return found == CONSTANT and wanted in (Replicated, Invariant)


def of_sources(node: Node) -> list[Types | None]:
    """The types of a node's sources; a number is 0 or a constant, and None is not known."""
    found: list[Types | None] = []
    for s in node.src:
        if type(s) is Node:
            found.append(getattr(s, "types", None))
    return found


def result(node: Node, sources: Sequence[Type | None], axis: str) -> Type | None:
    """The type of a node's result along one axis; None where a source's is not known.

    Args:
        sources: of every source that is a node, in order; numbers are constants.

    Raises:
        SpmdTypeError: the operation makes nothing sensible of these types.
    """
    if node.op is EMPTY:
        return ZERO
    given = iter(sources)
    types: list[Type] = []
    for s in node.src:
        t = next(given) if type(s) is Node else CONSTANT if s else ZERO
        if t is None:
            return None
        types.append(t)
    words = {t.word for t in types}
    groups = linear_groups(node)
    zeros = {k for k, t in enumerate(types) if t == ZERO}
    if any(group and zeros.issuperset(group) for group in groups):
        return ZERO
    if "Partial" in words:
        return _of_sums(node, types, groups, axis)
    if "Invariant" in words:
        if words & {"Replicated", "Varying"}:
            raise _mixed(node, types, axis)
        return Invariant
    if "Varying" in words:
        return Type("Varying", _dim(node, types))
    return Replicated if "Replicated" in words else CONSTANT


def linear_groups(node: Node) -> tuple[tuple[int, ...], ...]:
    """The groups of sources in which a node is linear while the others stay: `Op.linear`."""
    op, count = node.op, len(node.src)
    if op.linear is not None:
        found: tuple[tuple[int, ...], ...] = op.linear(node) if callable(op.linear) else op.linear
        return found
    if op.jvp == "multilinear":
        return tuple((k,) for k in range(count))
    if op.jvp == "linear" or op.kind in ("view", "assign") or op is PICK:
        return (tuple(k for k in range(count) if k not in op.fixed),)
    return ()


def _of_sums(node: Node, types: list[Type], groups: tuple[tuple[int, ...], ...], axis: str) -> Type:
    """The type where sources are terms of sums."""
    partial = {k for k, t in enumerate(types) if t == Partial}
    rest = {t.word for t in types} - {"Partial", "Zero"}
    if not any(partial.issubset(group) for group in groups):
        raise _not_linear(node, types, partial, axis)
    if "Invariant" in rest:
        raise _mixed(node, types, axis)
    for group in groups:
        if partial.issubset(group):
            beside = [k for k in group if types[k] not in (Partial, ZERO)]
            if not beside and "Varying" not in rest:
                return Partial
    raise _added(node, types, axis)


def _dim(node: Node, types: list[Type]) -> int | None:
    """The dimension along which the result is parts of a whole, or None."""
    found: set[int | None] = set()
    for k, t in enumerate(types):
        if t.word == "Varying":
            found.add(None if t.dim is None else carried(node, k, t.dim))
    if len(found) != 1 or None in found:
        return None
    dim = found.pop()
    assert dim is not None
    for k, t in enumerate(types):
        if t.word in ("Replicated", "Constant") and type(node.src[k]) is Node:
            if not constant_along(node, k, dim):
                return None
    return dim


# -- errors ----------------------------------------------------------------------------------------


def _shown(node: Node, types: list[Type]) -> str:
    operands = ", ".join(
        f"{t} {s.dtype.name}{list(s.shape)}" if type(s) is Node else repr(s)
        for s, t in zip(node.src, types, strict=True)
    )
    return f"{node.op.name}({operands})"


def refusal(node: Node, types: list[Type], axis: str, why: str, fix: str) -> SpmdTypeError:
    """The error that says what was recorded where, why it is wrong, and what would be right."""
    return SpmdTypeError(
        f"{_shown(node, types)} along mesh axis '{axis}': {why}\n  {record.calling_line()}\n"
        f"  Fix: {fix}"
    )


def _not_linear(node: Node, types: list[Type], partial: set[int], axis: str) -> SpmdTypeError:
    if len(partial) > 1 and linear_groups(node):
        why = "the product of two sums is not the sum of the terms' products"
    else:
        why = f"{node.op.name} of a sum is not the sum of its terms' {node.op.name}"
    return refusal(
        node,
        types,
        axis,
        why,
        f"sum the terms first: all_reduce(x, '{axis}', src=P, dst=R), or reduce_scatter",
    )


def _added(node: Node, types: list[Type], axis: str) -> SpmdTypeError:
    other = next(t for t in types if t.word in ("Replicated", "Constant", "Varying"))
    if other.word == "Varying":
        return refusal(
            node,
            types,
            axis,
            "a value of each rank's own meets the terms of a sum",
            f"if the ranks' values are terms of a sum: reinterpret(x, '{axis}', src=V, dst=P); "
            f"otherwise all_reduce(x, '{axis}', src=P, dst=R) the terms",
        )
    return refusal(
        node,
        types,
        axis,
        "what every rank adds to its term is counted once for each rank",
        f"convert(x, '{axis}', src=R, dst=P) lets one rank add it; or all_reduce the terms first",
    )


def _mixed(node: Node, types: list[Type], axis: str) -> SpmdTypeError:
    other = next(t for t in types if t.word in ("Replicated", "Varying", "Partial"))
    fix = {
        "Replicated": f"convert(x, '{axis}', src=I, dst=R), whose backward is an all_reduce",
        "Varying": f"convert(x, '{axis}', src=I, dst=R), or all_gather(.., dst=I) what is Varying",
        "Partial": f"all_reduce(x, '{axis}', src=P, dst=I) the terms",
    }[other.word]
    return refusal(
        node,
        types,
        axis,
        f"an Invariant value, whose gradient all ranks share, meets a {other.word} one, whose "
        "gradient they do not",
        fix,
    )


# -- whole nodes -----------------------------------------------------------------------------------


def infer(node: Node, axes: Sequence[str]) -> Types | None:
    """The types of a node from its sources', which have theirs; None where nothing is known.

    Raises:
        SpmdTypeError: the operation makes nothing sensible of its sources' types.
    """
    if node.op is PICK:
        return _picked(node, axes)
    sources = of_sources(node)
    if any(s is None for s in sources):
        return None
    if node.op.kind == "composite":
        return _expanded(node, axes)[0]
    found: Types = {}
    for axis in axes:
        t = result(node, [None if s is None else s.get(axis) for s in sources], axis)
        if t is not None:
            found[axis] = t
    return found or None


def _picked(node: Node, axes: Sequence[str]) -> Types | None:
    source = node.src[0]
    if source.op.kind == "composite" and source.buffer is None:
        return _expanded(source, axes)[node.attrs[0]]
    types = getattr(source, "types", None)
    if types is None:
        return None
    # parts of a library call's results stand in no known dimension
    return {a: Varying if t.word == "Varying" else t for a, t in types.items()}


def _expanded(node: Node, axes: Sequence[str]) -> list[Types | None]:
    """The types of a composite's results: those of its body over its sources."""
    parts = node.op.expand(node) if isinstance(node.op, Recorded) else expand_composite(node)
    return [types_below(part, axes) for part in parts]


def types_below(root: Node, axes: Sequence[str]) -> Types | None:
    """The types of a node, those of what it is made of being inferred first."""
    stack = [root]
    while stack:
        node = stack[-1]
        if hasattr(node, "types"):
            stack.pop()
            continue
        below = [s for s in node.src if type(s) is Node and not hasattr(s, "types")]
        if below and node.buffer is None:
            stack += below
            continue
        stack.pop()
        found = infer(node, axes) if node.src or node.op.kind == "elementwise" else None
        node.types = found
    return root.types


__all__ = [
    "Invariant",
    "P",
    "Partial",
    "R",
    "Replicated",
    "S",
    "SpmdTypeError",
    "Type",
    "V",
    "Varying",
]
