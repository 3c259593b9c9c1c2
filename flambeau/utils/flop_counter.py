"""Floating-point operations of what runs, by operator and by module (`torch.utils.flop_counter`).

What is counted are products (of matrices, convolutions, attention): 2 a multiply-add. It is what
the rows of the table say of themselves (`row.flops`), so forward, backward and higher derivatives
are counted alike. Nothing of it needs values: results that nobody reads are not computed.

Example:
    >>> import flambeau
    >>> from flambeau.utils.flop_counter import FlopCounterMode
    >>> with FlopCounterMode(display=False) as counter:
    ...     y = flambeau.ones(8, 16) @ flambeau.ones(16, 4)
    >>> counter.get_total_flops()
    1024
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Self

from flambeau.ir.graph import PICK, Node, below
from flambeau.nn.hooks import register_module_forward_hook, register_module_forward_pre_hook
from flambeau.nn.module import Module
from flambeau.ops.dispatching import OpOverload
from flambeau.ops.table import expand_composite
from flambeau.overriding import TorchDispatchMode
from flambeau.pytree import tree_leaves
from flambeau.tape import modes
from flambeau.tensor import Tensor


class FlopCounterMode:
    """Counts while it is entered, and prints a table by module when it is left.

    Args:
        mods: accepted; modules are found as they are called.
        depth: how deep modules are shown.
        display: whether to print.
        custom_mapping: operator -> function of its arguments, with shapes for tensors and
            `out_shape`, that gives its operations.
    """

    def __init__(
        self,
        mods: Any = None,
        depth: int | None = 2,
        display: bool = True,
        custom_mapping: dict[Any, Callable[..., int]] | None = None,
    ) -> None:
        """Start at zero."""
        self.flop_counts: dict[str, dict[Any, int]] = defaultdict(lambda: defaultdict(int))
        self.depth, self.display = depth, display
        self.custom = {_packet(key): rule for key, rule in (custom_mapping or {}).items()}
        self._within: list[str] = []
        self._names: dict[int, str] = {}
        self._handles: list[Any] = []
        self._mode = _Counting(self)

    def get_total_flops(self) -> int:
        """All operations that were counted."""
        return sum(self.flop_counts["Global"].values())

    def get_flop_counts(self) -> dict[str, dict[Any, int]]:
        """Module's name, or "Global" -> operator -> operations."""
        return {name: dict(found) for name, found in self.flop_counts.items()}

    def get_table(self, depth: int | None = None) -> str:
        """The counts by module as text.

        Args:
            depth: how deep modules are shown; None: as was said at first.
        """
        depth = self.depth if depth is None else depth
        total = self.get_total_flops()
        rows = [("Module", "FLOP", "% Total")]
        for name in sorted(self.flop_counts, key=lambda n: (n != "Global", n)):
            level = 0 if name == "Global" else name.count(".") + 1
            if depth is not None and level > depth:
                continue
            found = self.flop_counts[name]
            rows.append((" " * level + name, *_amounts(sum(found.values()), total)))
            rows += [
                (f"{' ' * level} - {op}", *_amounts(count, total)) for op, count in found.items()
            ]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
        return "\n".join((lines[0], "  ".join("-" * w for w in widths), *lines[1:]))

    def __enter__(self) -> Self:
        self.flop_counts.clear()
        self._handles = [
            register_module_forward_pre_hook(self._enter_module),
            register_module_forward_hook(self._leave_module, always_call=True),
        ]
        self._mode.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._mode.__exit__(*exc)
        for handle in self._handles:
            handle.remove()
        if self.display:
            print(self.get_table())

    def _name(self, module: Module) -> str:
        """A module's name below the first one that was called, which is named by its class."""
        if id(module) not in self._names:
            root = type(module).__name__
            for path, part in module.named_modules():
                self._names.setdefault(id(part), f"{root}.{path}" if path else root)
        return self._names[id(module)]

    def _enter_module(self, module: Module, args: Any) -> None:
        name = self._name(module)
        self._within.append(name)
        for t in tree_leaves(args):
            if isinstance(t, Tensor) and t.requires_grad and modes.grad:
                t.register_hook(lambda grad: self._left(name))

    def _leave_module(self, module: Module, args: Any, output: Any) -> None:
        name = self._name(module)
        self._left(name)
        for t in tree_leaves(output):
            if isinstance(t, Tensor) and t.requires_grad and modes.grad:
                t.register_hook(lambda grad: self._within.append(name))

    def _left(self, name: str) -> None:
        if name in self._within:
            self._within.remove(name)

    def count(self, func: OpOverload, args: Any, kwargs: Any, out: Any) -> None:
        """Add what a call took to the modules that it is part of."""
        packet = func.overloadpacket
        if packet in self.custom:
            shapes = [tuple(a.shape) if isinstance(a, Tensor) else a for a in args]
            flops = self.custom[packet](*shapes, **kwargs, out_shape=tuple(out.shape), out_val=out)
        else:
            # a view shows the node of its argument
            flops = sum(flops_of(node) for node in _nodes(out) - _nodes((args, kwargs)))
        if flops:
            for name in ("Global", *dict.fromkeys(self._within)):
                self.flop_counts[name][packet] += flops


class _Counting(TorchDispatchMode):
    """Shows a counter every call."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self.counter = counter

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.counter.count(func, args, kwargs or {}, out)
        return out


def flops_of(node: Node) -> int:
    """Operations of the products in a node; of a kept composite, in its body."""
    if node.op.flops is not None:
        return int(node.op.flops(node))
    if node.op.kind != "composite" or node.buffer is not None:
        return 0
    ends = {s for s in node.src if type(s) is Node}
    inner = {_whole(n) for n in below(expand_composite(node), ends) if n not in ends}
    return sum(flops_of(n) for n in inner)


def _nodes(values: Any) -> set[Node]:
    return {_whole(t._cell.node) for t in tree_leaves(values) if isinstance(t, Tensor)}


def _whole(node: Node) -> Node:
    """The node that has several results, of one that takes one of them."""
    return node.src[0] if node.op is PICK else node


def _packet(key: Any) -> Any:
    return key.overloadpacket if isinstance(key, OpOverload) else key


def _amounts(count: int, total: int) -> tuple[str, str]:
    """A count in thousands, millions ..., and its share."""
    index = max(0, min(4, (len(str(count)) - 2) // 3))
    share = f"{count / total:.2%}" if total else "0%"
    return f"{count / 1000**index:.3f}{('', 'K', 'M', 'B', 'T')[index]}", share


__all__ = ["FlopCounterMode"]
