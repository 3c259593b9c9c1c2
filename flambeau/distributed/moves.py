"""Collectives between types: what goes in and what comes out decides the backward pass.

Note [Moves]
A move takes a value of one type along a mesh axis to another (Note [Types along a mesh]). Its
derivative takes the dual of what came out to the dual of what went in, so it is a move as well, and
which one follows from the types alone:

    all_reduce      P -> R      all_reduce      P -> R
    all_reduce      P -> I      convert         I -> R      nothing is sent
    convert         I -> R      all_reduce      P -> I      nothing is sent forwards
    all_gather      V -> R      reduce_scatter  P -> V
    all_gather      V -> I      convert         I -> V      each rank takes its part
    convert         I -> V      all_gather      V -> I
    reduce_scatter  P -> V      all_gather      V -> R
    all_to_all      V -> V      all_to_all      V -> V
    convert         R -> V      convert         V -> P      a part, with zeros around it
    reinterpret     R -> V      reinterpret     V -> P      the same numbers
    convert         R -> P      convert         R -> P      zeros on all ranks but the first
    reinterpret     R -> P      reinterpret     R -> P

All of them are linear, so a tangent moves as its primal does, and a second derivative is a move
again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from flambeau import record
from flambeau.autograd.function import Function
from flambeau.distributed.groups import group_of
from flambeau.distributed.types import (
    Partial,
    SpmdTypeError,
    Type,
    Types,
    Varying,
    fits,
)
from flambeau.ops import collective
from flambeau.ops.rows import NAMES
from flambeau.tape import modes
from flambeau.tensor import Tensor

#: (verb, from, to) -> the verb of its derivative, which goes from the dual of the latter to the
#: dual of the former.
_DUALS = {
    ("all_reduce", "Partial", "Replicated"): "all_reduce",
    ("all_reduce", "Partial", "Invariant"): "convert",
    ("convert", "Invariant", "Replicated"): "all_reduce",
    ("all_gather", "Varying", "Replicated"): "reduce_scatter",
    ("all_gather", "Varying", "Invariant"): "convert",
    ("convert", "Invariant", "Varying"): "all_gather",
    ("reduce_scatter", "Partial", "Varying"): "all_gather",
    ("all_to_all", "Varying", "Varying"): "all_to_all",
    ("convert", "Replicated", "Varying"): "convert",
    ("convert", "Varying", "Partial"): "convert",
    ("convert", "Replicated", "Partial"): "convert",
    ("reinterpret", "Replicated", "Varying"): "reinterpret",
    ("reinterpret", "Varying", "Partial"): "reinterpret",
    ("reinterpret", "Replicated", "Partial"): "reinterpret",
}


def part_sizes(size: int, count: int) -> tuple[int, ...]:
    """The sizes of `count` parts of a dimension, as `chunk` makes them: the last may be smaller, or
    empty."""
    each = -(-size // count)
    return tuple(max(0, min(each, size - k * each)) for k in range(count))


@dataclass(frozen=True)
class Move:
    """One way from a type to another: Note [Moves].

    Attributes:
        verb: what it is called.
        group: the ranks along the axis.
        src, dst: the words of the types.
        dim: along which parts stand one after another; of `all_to_all`, of what comes out.
        split: of `all_to_all`, the dimension along which the input is cut.
        sizes: of all ranks' parts along `dim`.
    """

    verb: str
    group: Any
    src: str
    dst: str
    dim: int = 0
    split: int = 0
    sizes: tuple[int, ...] = ()

    @property
    def dual(self) -> Move:
        """The move of the gradients."""
        return replace(
            self,
            verb=_DUALS[self.verb, self.src, self.dst],
            src=Type(self.dst).dual.word,
            dst=Type(self.src).dual.word,
            dim=self.split if self.verb == "all_to_all" else self.dim,
            split=self.dim if self.verb == "all_to_all" else self.split,
        )

    @property
    def result(self) -> Type:
        """The type of what comes out, which is parts of a whole where it was cut or joined."""
        split = self.dst == "Varying" and self.verb != "reinterpret"
        return (
            Type(self.dst, self.split if self.verb == "all_to_all" else self.dim)
            if split
            else (Type(self.dst))
        )

    def apply(self, x: Tensor) -> Tensor:
        """Record the move, with its place on the tape."""
        found: Tensor = _moved(x, self.group, self)
        return found

    def run(self, x: Tensor) -> Tensor:
        """Record the move, without a tape entry."""
        found: Tensor = _RUN[self.verb](self, x)
        return found


def _all_reduce(move: Move, x: Tensor) -> Any:
    return collective.all_reduce(x, move.group)


def _all_gather(move: Move, x: Tensor) -> Any:
    joined = collective.all_gather(_first(x, move.dim), move.group, move.sizes)
    return NAMES["movedim"](joined, 0, move.dim)


def _reduce_scatter(move: Move, x: Tensor) -> Any:
    part = collective.reduce_scatter(_first(x, move.dim), move.group, move.sizes)
    return NAMES["movedim"](part, 0, move.dim)


def _first(x: Tensor, dim: int) -> Any:
    return NAMES["movedim"](x, dim, 0).contiguous()


def _all_to_all(move: Move, x: Tensor) -> Any:
    """Every rank gives each other rank a part along `split` and joins what it gets along `dim`."""
    count = move.group.size()
    cut = NAMES["stack"](NAMES["chunk"](x, count, move.split))
    ones = (1,) * count
    got = collective.all_to_all(cut, move.group, ones, ones)
    return NAMES["cat"](NAMES["unbind"](got, 0), move.dim)


def _convert(move: Move, x: Tensor) -> Any:
    rank = move.group.rank()
    start = sum(move.sizes[:rank])
    if move.dst == "Varying":
        return NAMES["narrow"](x, move.dim, start, move.sizes[rank]).clone()
    if move.src == "Varying":
        shape = [*x.shape]
        shape[move.dim] = sum(move.sizes)
        whole = NAMES["zeros"](shape, dtype=x.dtype, device=x.device)
        NAMES["narrow"](whole, move.dim, start, move.sizes[rank]).copy_(x)
        return whole
    if move.dst == "Partial" and rank:
        return NAMES["zeros_like"](x)
    return x.clone()


def _reinterpret(move: Move, x: Tensor) -> Any:
    return x.clone()


_RUN = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": _all_to_all,
    "convert": _convert,
    "reinterpret": _reinterpret,
}


class _Moved(Function):
    """A move with its place on the tape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, move: Move) -> Any:
        ctx.move = move
        typing, modes.types = modes.types, None  # the move says what comes out
        try:
            return move.run(x)
        finally:
            modes.types = typing

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return _Moved.apply(g, ctx.move.dual), None

    @staticmethod
    def jvp(ctx: Any, tangent: Any, move: Any) -> Any:
        return _Moved.apply(tangent, ctx.move)


def _moved(x: Tensor, axis: Any, move: Move) -> Any:
    """Check, record and type a move.

    Raises:
        SpmdTypeError: the value is not what is said to be moved.
    """
    if (move.verb, move.src, move.dst) not in _DUALS:
        ways = ", ".join(f"{s} -> {d}" for v, s, d in _DUALS if v == move.verb)
        raise SpmdTypeError(f"{move.verb} goes {ways}; not {move.src} -> {move.dst}")
    typing = modes.types
    if typing is None:
        return _Moved.apply(x, move)
    name, *others = typing.axes_of(move.group) or (None,)
    if name is None or others:
        raise ValueError(f"{axis!r} is no axis of the mesh, whose axes are {list(typing.groups)}")
    found: Types = typing.type_of(x)
    if not _may_stand(typing, found[name], Type(move.src), move, name):
        raise SpmdTypeError(
            f"{move.verb}(x, '{name}', src={move.src}, dst={move.dst}) of a {found[name]} "
            f"{x.dtype.name}{list(x.shape)}\n  {record.calling_line()}\n  Fix: "
            + FIXES.get((found[name].word, move.src), f"say src={found[name].word}")
        )
    made = _Moved.apply(x, move)
    node = made._cell.node
    found[name] = move.result
    moved = move.verb in ("all_to_all", "all_gather", "reduce_scatter") or move.sizes
    for other, t in found.items():
        if other != name and t.dim is not None and moved and t.dim in (move.dim, move.split):
            found[other] = Varying
    node.types = found
    return made


def _may_stand(typing: Any, found: Type, wanted: Type, move: Move, axis: str) -> bool:
    if fits(found, wanted):
        return True
    if found.word == "Varying" and wanted == Partial:
        return bool(
            typing.supposed(
                f"{move.verb} along mesh axis '{axis}' of a Varying value: it is taken for the "
                "terms of a sum"
            )
        )
    return False


#: (what there is, what is wanted) -> what to write instead.
FIXES = {
    ("Varying", "Partial"): "if the ranks' values are terms of a sum, say so: "
    "reinterpret(x, axis, src=V, dst=P)",
    ("Replicated", "Partial"): "every rank has all of it already; its sum over the ranks would be "
    "that many times as much",
    ("Invariant", "Partial"): "every rank has all of it already",
    ("Partial", "Varying"): "reduce_scatter(x, axis) sums and cuts at once",
    ("Replicated", "Varying"): "convert(x, axis, src=R, dst=V) takes each rank's part",
    ("Invariant", "Varying"): "convert(x, axis, src=I, dst=V) takes each rank's part",
}


def _group(axis: Any) -> Any:
    typing = modes.types
    if isinstance(axis, str) and typing is not None and axis in typing.groups:
        return typing.groups[axis]
    return group_of(axis)


def _dim(x: Tensor, dim: int) -> int:
    return dim % max(x.dim(), 1)


def all_reduce(x: Tensor, axis: Any, *, src: Type = Partial, dst: Type) -> Tensor:
    """The sum over the ranks of a mesh axis.

    Args:
        x: this rank's term.
        axis: name of the axis, inside `spmd`, or a group.
        dst: Replicated, where each rank goes on with its own work on the sum: the gradients are
            summed as well. Invariant, where all ranks do the same work on it: every rank has the
            whole gradient already.

    Raises:
        SpmdTypeError: x is no term of a sum, inside `spmd`.
    """
    return _moved(x, axis, Move("all_reduce", _group(axis), src.word, dst.word))


def all_gather(
    x: Tensor,
    axis: Any,
    *,
    src: Type = Varying,
    dst: Type,
    dim: int = 0,
    sizes: tuple[int, ...] | None = None,
) -> Tensor:
    """The ranks' parts one after another along a dimension, on every rank.

    Args:
        dst: Replicated (gradients are summed and cut) or Invariant (each rank takes its part).
        sizes: of the parts; None where they are as large as this rank's.
    """
    group = _group(axis)
    dim = src.dim if src.dim is not None else _dim(x, dim)
    parts = sizes or (x.shape[dim],) * group.size()
    return _moved(x, axis, Move("all_gather", group, src.word, dst.word, dim, 0, tuple(parts)))


def reduce_scatter(
    x: Tensor,
    axis: Any,
    *,
    src: Type = Partial,
    dst: Type = Varying,
    dim: int = 0,
    sizes: tuple[int, ...] | None = None,
) -> Tensor:
    """This rank's part along a dimension of the sum over the ranks.

    Args:
        sizes: of the parts; None cuts as `chunk` does.
    """
    group = _group(axis)
    dim = dst.dim if dst.dim is not None else _dim(x, dim)
    parts = sizes or part_sizes(x.shape[dim], group.size())
    move = Move("reduce_scatter", group, src.word, dst.word, dim, 0, tuple(parts))
    return _moved(x, axis, move)


def all_to_all(x: Tensor, axis: Any, *, split_dim: int, concat_dim: int) -> Tensor:
    """Parts along `concat_dim` become parts along `split_dim`.

    Args:
        split_dim: cut into as many equal parts as there are ranks.
        concat_dim: along which what comes from the ranks is joined.

    Raises:
        ValueError: the number of ranks does not divide the size of `split_dim`.
    """
    group = _group(axis)
    split, dim = _dim(x, split_dim), _dim(x, concat_dim)
    if x.shape[split] % group.size():
        raise ValueError(
            f"all_to_all cuts dimension {split} of size {x.shape[split]} into {group.size()} "
            "equal parts"
        )
    return _moved(x, axis, Move("all_to_all", group, "Varying", "Varying", dim, split))


def convert(
    x: Tensor,
    axis: Any,
    *,
    src: Type,
    dst: Type,
    dim: int = 0,
    sizes: tuple[int, ...] | None = None,
) -> Tensor:
    """The same meaning as another type, without communication.

    I -> R: what follows differs from rank to rank. R -> V, I -> V: each rank takes its part along
    `dim`. V -> P: a part becomes a term, with zeros around it. R -> P: one rank keeps it.

    Args:
        sizes: of the parts; None cuts as `chunk` does (R, I -> V) or takes all for as large as
            this rank's (V -> P).
    """
    group = _group(axis)
    dim = next((t.dim for t in (src, dst) if t.dim is not None), _dim(x, dim))
    parts: tuple[int, ...] = ()
    if src.word == "Varying":
        parts = tuple(sizes or (x.shape[dim],) * group.size())
    elif dst.word == "Varying":
        parts = tuple(sizes or part_sizes(x.shape[dim], group.size()))
    return _moved(x, axis, Move("convert", group, src.word, dst.word, dim, 0, parts))


def reinterpret(x: Tensor, axis: Any, *, src: Type, dst: Type) -> Tensor:
    """The same numbers as another type, which is another meaning.

    V -> P: the ranks' values are terms of a sum from here on. R -> V: each rank's is its own.
    R -> P: the sum of the terms is as many times the value as there are ranks.
    """
    return _moved(x, axis, Move("reinterpret", _group(axis), src.word, dst.word))
