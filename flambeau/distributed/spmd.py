"""Types along the axes of a mesh while a program is recorded: `spmd(mesh)`.

Inside `spmd`, every value that is recorded has a type per axis (Note [Types along a mesh] in
`types.py`), inferred from its sources', and what has no meaning is refused in the line that
records it. Outside, nothing is paid: nodes are watched only while a block is open.

What nobody vouched for is Varying: parameters, buffers and data say what they are by `assert_type`.
The gradient of a value has the dual type. `backward` asks what the loss is: a gradient starts with
1 on every rank, which is right for a Partial or an Invariant loss and N times too much for a
Replicated one.

    with spmd(mesh):
        assert_type(model, {"dp": R, "tp": I})
        assert_type(batch, {"dp": S(0), "tp": I})
        loss = model(batch).mean()                       # Varying along dp, Invariant along tp
        loss = reinterpret(loss / mesh.size("dp"), "dp", src=V, dst=P)
        loss.backward()                                  # parameters' gradients: Partial along dp
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from flambeau import record
from flambeau.distributed import moves
from flambeau.distributed.groups import ProcessGroup, group_of
from flambeau.distributed.mesh import current_mesh
from flambeau.distributed.moves import (
    all_gather,
    all_reduce,
    all_to_all,
    convert,
    reduce_scatter,
    reinterpret,
)
from flambeau.distributed.types import (
    CONSTANT,
    ZERO,
    I,
    Invariant,
    P,
    Partial,
    R,
    Replicated,
    S,
    SpmdTypeError,
    Type,
    Types,
    V,
    Varying,
    fits,
    infer,
    refusal,
    result,
)
from flambeau.ir.graph import INPUT, Node, unwatch_nodes, watch_nodes
from flambeau.nn.module import Module
from flambeau.record import FAILED
from flambeau.tape import modes
from flambeau.tensor import Tensor

#: What `assert_type` said of tensors that exist: it holds for as long as their memory does.
_declared: weakref.WeakKeyDictionary[record.Cell, Types] = weakref.WeakKeyDictionary()


class spmd:
    """While inside, what is recorded is typed along the axes of a mesh.

    Args:
        mesh: a DeviceMesh with named axes, or the group of each axis by name; None takes that of
            the innermost `with mesh:`.
        infer: take what plain code most likely meant where it does not say it, and note it in
            `notes`: a Varying value that is reduced or differentiated is a term of a sum.
        same_draws: axes along which all ranks draw the same random numbers. Along the others what
            is drawn is Varying.

    Attributes:
        notes: where the meaning was not said, a sentence and the line each.
    """

    def __init__(
        self, mesh: Any = None, *, infer: bool = False, same_draws: Iterable[str] = ()
    ) -> None:
        self.groups = _axes(mesh)
        self.infer = infer
        self.same_draws = frozenset(same_draws)
        self.notes: list[str] = []
        wrong = self.same_draws - set(self.groups)
        if wrong:
            raise ValueError(f"there is no mesh axis {sorted(wrong)}, only {list(self.groups)}")

    def __enter__(self) -> Self:
        self._was, modes.types = modes.types, self
        watch_nodes(_see)
        for cell, types in _declared.items():
            cell.node.types = types
        return self

    def __exit__(self, kind: Any, *exc: object) -> None:
        unwatch_nodes(_see)
        modes.types = self._was
        if kind is None:
            for cell, types in list(_declared.items()):
                self._check(cell, types)

    def _check(self, cell: record.Cell, declared: Types) -> None:
        found = getattr(cell.node, "types", None) or {}
        for axis, t in found.items():
            if axis in declared and not fits(t, declared[axis]):
                raise SpmdTypeError(
                    f"a {cell.node.dtype.name}{list(cell.node.shape)} tensor that is "
                    f"{declared[axis]} along mesh axis '{axis}' was given a {t} value"
                )

    def see(self, node: Node) -> None:
        """Give a node its types.

        Raises:
            SpmdTypeError: it has no meaning.
        """
        if node.op is INPUT or node.op is FAILED:
            return
        for s in node.src:
            if type(s) is Node and not hasattr(s, "types"):
                s.types = self.leaf(s)
        if node.op.typed is not None:
            node.types = self._collective(node)
        else:
            node.types = self._drawn(node) or infer(node, tuple(self.groups))

    def leaf(self, node: Node) -> Types | None:
        """The types of a value that was not recorded here; None for a placeholder."""
        if node.op is FAILED or (node.op is INPUT and node.buffer is None):
            return None
        return dict.fromkeys(self.groups, Varying)

    def type_of(self, x: Tensor) -> Types:
        """The types of a tensor: axis -> type."""
        node = x._node()
        if not hasattr(node, "types"):
            node.types = self.leaf(node)
        return {axis: (node.types or {}).get(axis, Varying) for axis in self.groups}

    def _drawn(self, node: Node) -> Types | None:
        if node.op.batch != "draw":
            return None
        return {a: CONSTANT if a in self.same_draws else Varying for a in self.groups}

    def _collective(self, node: Node) -> Types | None:
        """The types of what a collective gives that was recorded without saying them.

        Its row's rule is that of the program of all ranks, whose loss is the sum of the ranks': a
        sum goes on as Replicated.
        """
        assert node.op.typed is not None
        wanted, made = (Type(word) for word in node.op.typed)
        own = self.axes_of(node.attrs[0])
        found: Types = {}
        source = node.src[0].types
        if source is None:
            return None
        for axis in self.groups:
            t = source.get(axis, Varying)
            if axis not in own:
                found[axis] = result(node, [t], axis) or Varying
                continue
            stands = fits(t, wanted) or (
                wanted.word == "Varying" and t.word in ("Replicated", "Constant")
            )
            if not stands and not (
                t.word == "Varying"
                and wanted == Partial
                and self.supposed(
                    f"{node.op.name} along mesh axis '{axis}' of a Varying value: it is taken for "
                    "the terms of a sum"
                )
            ):
                fix = moves.FIXES.get((t.word, wanted.word), f"a {wanted} value is wanted")
                raise refusal(node, [t], axis, f"{node.op.name} takes a {wanted} value", fix)
            found[axis] = made
        return found

    def axes_of(self, group: Any) -> tuple[str, ...]:
        """The axes that a group goes along: all ranks that differ in these alone; () for a group of
        others."""
        exact = [axis for axis, g in self.groups.items() if g is group]
        if exact:
            return (exact[0],)
        ranks = set(group.ranks)
        inside = [axis for axis, g in self.groups.items() if ranks.issuperset(g.ranks)]
        count = math.prod(self.groups[axis].size() for axis in inside)
        return tuple(inside) if count == len(ranks) else ()

    def supposed(self, what: str) -> bool:
        """Note what is taken to be meant; whether that is asked for."""
        if self.infer:
            self.notes.append(f"{what}\n  {record.calling_line()}")
        return self.infer

    # -- gradients ---------------------------------------------------------------------------------

    def starts(self, outputs: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
        """Check that cotangents are what a backward pass may start with.

        Raises:
            SpmdTypeError: a gradient would be wrong.
        """
        for t, g in zip(outputs, grads, strict=True):
            found, given = self.type_of(t), self.type_of(g)
            for axis in self.groups:
                self._starts(axis, found[axis], given[axis])

    def _starts(self, axis: str, loss: Type, given: Type) -> None:
        if loss == Replicated and given != Partial:
            raise SpmdTypeError(
                f"backward() of a Replicated loss along mesh axis '{axis}': every rank "
                "differentiates the same loss, and gradients are as many times too large as there "
                f"are ranks\n  {record.calling_line()}\n  Fix: all_reduce(terms, '{axis}', src=P, "
                "dst=I) makes a loss that the ranks share; or differentiate the Partial terms"
            )
        if loss.word == "Varying" and given.word != "Varying":
            what = f"backward() of a Varying loss along mesh axis '{axis}' differentiates the sum "
            if not self.supposed(f"{what}of the ranks' losses"):
                raise SpmdTypeError(
                    f"{what}of the ranks' losses, which nothing says is meant\n"
                    f"  {record.calling_line()}\n  Fix: reinterpret(loss, '{axis}', src=V, dst=P) "
                    "for their sum; of loss / n for their mean; all_reduce(.., dst=I) for a loss "
                    "that all ranks see"
                )
        elif loss == Partial and given.word in ("Varying", "Partial"):
            raise SpmdTypeError(
                f"the gradient of a Partial value is Replicated, but a {given} one is given along "
                f"mesh axis '{axis}'\n  {record.calling_line()}"
            )

    def arrived(self, leaf: Tensor) -> None:
        """A leaf's gradient was accumulated: it has the dual type."""
        if leaf._grad is not None:
            leaf._grad._cell.node.types = _duals(self.type_of(leaf))

    def of(self, t: Tensor, gradient: Tensor) -> Tensor:
        """A gradient of some tensor as a value of its own, which has the dual type."""
        made = gradient.clone()
        made._cell.node.types = _duals(self.type_of(t))
        return made


def _duals(types: Types) -> Types:
    return {axis: t.dual for axis, t in types.items()}


def _see(node: Node) -> None:
    if modes.types is not None and not record.thread.compiling:
        modes.types.see(node)


def _axes(mesh: Any) -> dict[str, ProcessGroup]:
    mesh = current_mesh() if mesh is None else mesh
    if mesh is None:
        raise RuntimeError("spmd() without a mesh stands inside `with mesh:`")
    if isinstance(mesh, Mapping):
        return {axis: group_of(group) for axis, group in mesh.items()}
    if not mesh.mesh_dim_names:
        raise ValueError("the axes of the mesh have no names: give mesh_dim_names")
    return {axis: mesh.get_group(axis) for axis in mesh.mesh_dim_names}


def current() -> spmd:
    """The block that is open.

    Raises:
        RuntimeError: there is none.
    """
    found: spmd | None = modes.types
    if found is None:
        raise RuntimeError("there are no types outside `with spmd(mesh):`")
    return found


def type_of(x: Tensor) -> Types:
    """The types of a tensor: axis -> type. What nothing is known of is Varying.

    Raises:
        RuntimeError: no `spmd` block is open.
    """
    return current().type_of(x)


def assert_type(x: Any, types: Mapping[str, Type]) -> Any:
    """Say what a tensor is along some axes of the mesh.

    Of a value that was computed here it is checked, of one that was not it is believed, for as long
    as its memory lives.

    Args:
        x: a tensor, or a module, all of whose parameters and buffers are meant.
        types: axis -> type.

    Returns:
        x.

    Raises:
        SpmdTypeError: it is something else.
    """
    if isinstance(x, Module):
        for t in (*x.parameters(), *x.buffers()):
            assert_type(t, types)
        return x
    axes = current().groups
    unknown = [axis for axis in types if axis not in axes]
    if unknown:
        raise ValueError(f"there is no mesh axis {unknown[0]!r}, only {list(axes)}")
    node = x._node()
    if not hasattr(node, "types") or node.op is INPUT:
        said = {**dict.fromkeys(axes, Varying), **_declared.get(x._cell, {}), **types}
    else:
        said = found = type_of(x)
        for axis, wanted in types.items():
            believed = found[axis] == CONSTANT and wanted != Partial
            if not believed and not fits(found[axis], wanted):
                raise SpmdTypeError(
                    f"a {x.dtype.name}{list(x.shape)} tensor is {found[axis]} along mesh axis "
                    f"'{axis}', not {wanted}\n  {record.calling_line()}"
                )
            said = {**said, axis: wanted} if believed else said
        if said is found:
            return x
    node.types = said
    if x._map is None:
        _declared[x._cell] = said
    return x


def local_map(
    fn: Callable[..., Any],
    out_types: Any,
    in_types: Sequence[Mapping[str, Type] | None],
) -> Callable[..., Any]:
    """A function whose inside is not typed: what goes in is checked, what comes out is believed.

    Args:
        fn: tensors -> a tensor or a tuple of tensors.
        out_types: axis -> type of the result, or a tuple of these.
        in_types: of each argument; None for one that is not checked.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        for x, types in zip(args, in_types, strict=True):
            if types is not None:
                assert_type(x, types)
        types, modes.types = modes.types, None
        try:
            found = fn(*args, **kwargs)
        finally:
            modes.types = types
        if types is None:
            return found
        outs = found if isinstance(found, tuple) else (found,)
        said = out_types if isinstance(out_types, tuple) else (out_types,)
        made = tuple(_said(t, s) for t, s in zip(outs, said, strict=True))
        return made if isinstance(found, tuple) else made[0]

    return call


def _said(t: Tensor, types: Mapping[str, Type]) -> Tensor:
    """The same value with types that somebody vouches for."""
    made = t.clone()
    made._cell.node.types = {**dict.fromkeys(current().groups, Varying), **types}
    return made


__all__ = [
    "ZERO",
    "I",
    "Invariant",
    "P",
    "Partial",
    "R",
    "Replicated",
    "S",
    "SpmdTypeError",
    "V",
    "Varying",
    "all_gather",
    "all_reduce",
    "all_to_all",
    "assert_type",
    "convert",
    "current",
    "local_map",
    "reduce_scatter",
    "reinterpret",
    "spmd",
    "type_of",
]
