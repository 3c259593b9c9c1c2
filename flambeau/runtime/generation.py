"""What is generated for a plan: the kernels of its regions, and which products carry which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from operator import is_
from typing import Any

from flambeau.codegen.emitted import kernel_of
from flambeau.codegen.llvm import Kernel
from flambeau.ir.graph import Graph, Node, origin_of
from flambeau.ir.region import Region
from flambeau.ir.symbol import Expression, Sized, SymInt
from flambeau.kernels.epilogue import Attach, Carried
from flambeau.passes.fuse import Plan, Step, base_of
from flambeau.runtime import cpuinfo, kernels


@dataclass
class Generated:
    """A plan with its kernels: all of a program that does not depend on where its values lie.

    Attributes:
        plan: its regions and steps; `plan.before` takes the epilogues in.
        kernels: by region number.
        carriers: region number -> the product that carries it.
        carried: product number -> its epilogues.
    """

    plan: Plan
    kernels: dict[int, Kernel]
    carriers: dict[int, Step]
    carried: dict[int, Carried]


def generate(plan: Plan) -> Generated:
    """Emit the kernels of a plan's regions and attach those that products can carry."""
    vector_bytes = kernels.vector_bytes()
    emitted = {
        s.number: kernel_of(s, plan.free, vector_bytes)
        for s in plan.steps
        if isinstance(s, Region) and s.stores
    }

    def reads(step: Any) -> list[Node]:
        if isinstance(step, Region):
            return memory_read(emitted.get(step.number))
        return [base_of(s) for s in step.node.src if type(s) is Node]

    attached = Attach(plan, emitted, reads, vector_bytes, cpuinfo.host_features())
    return Generated(plan, emitted, attached.carriers, attached.carried)


def memory_read(kernel: Kernel | None) -> list[Node]:
    """Nodes whose memory a region's kernel reads; a region without results has none."""
    if kernel is None:
        return []
    return [s[1] for s in kernel.slots if s[0] == "address" and isinstance(s[1], Node)]


class Resized:
    """Copies what was generated for symbolic sizes, with numbers in their place.

    Args:
        unknowns: the numbers of the symbols and of what is made of them.
    """

    def __init__(self, unknowns: Sequence[int]) -> None:
        self._unknowns = unknowns
        self._made: dict[int, Any] = {}
        self._numbers: dict[Expression, int] = {}

    def __call__(self, x: Any) -> Any:
        """The copy of a value; what no size is in is shared."""
        kind = type(x)
        if kind is int or kind is str or x is None:
            return x
        if kind is SymInt:
            number = self._numbers.get(x.expression)
            if number is None:
                number = self._numbers[x.expression] = x.expression.value(self._unknowns)
            return number
        if isinstance(x, tuple):
            parts = tuple(map(self, x))
            if all(map(is_, parts, x)):
                return x
            return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
        if kind is Node or is_dataclass(x):
            made = self._made.get(id(x))
            return self._object(x) if made is None else made
        if isinstance(x, Sized):
            return x.filled(self._unknowns)
        if kind is dict:
            return {self(k): self(v) for k, v in x.items()}
        if kind in (list, set, frozenset):
            return kind(map(self, x))
        if kind is Graph:
            return Graph(self(x.nodes), self(x.inputs), self(x.outputs), x.arguments)
        return x

    def _object(self, x: Any) -> Any:
        if type(x) is Node:
            for n in _before(x, self._made):
                src = tuple(self._made[id(s)] if type(s) is Node else self(s) for s in n.src)
                self._made[id(n)] = made = n
                attrs, shape = self(n.attrs), self(n.shape)
                if attrs is not n.attrs or shape is not n.shape or not all(map(is_, src, n.src)):
                    self._made[id(n)] = made = Node(n.op, src, attrs, shape, n.dtype)
                    made.origin = origin_of(n)
            return self._made[id(x)]
        parts = {f.name: getattr(x, f.name) for f in fields(x)}
        copies = {name: self(part) for name, part in parts.items()}
        same = all(copies[name] is part for name, part in parts.items())
        found = self._made[id(x)] = x if same else type(x)(**copies)
        return found


def _before(node: Node, made: dict[int, Any]) -> list[Node]:
    """A node and what it is computed from, sources first, without what is made already."""
    order: list[Node] = []
    entered: set[Node] = set()
    stack = [node]
    while stack:
        n = stack[-1]
        waiting = [s for s in n.src if type(s) is Node and id(s) not in made and s not in entered]
        if n not in entered and waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        if n not in entered:
            entered.add(n)
            order.append(n)
    return order
