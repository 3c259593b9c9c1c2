"""Nodes of a traced graph: one call, attribute, input or output each."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from flambeau import overrides
from flambeau.dtype import prefix

BaseArgument = str | int | float | bool | complex | None
Argument = Any
Target = Callable[..., Any] | str
OPS = ("placeholder", "call_method", "call_module", "call_function", "get_attr", "output", "root")


def map_aggregate(a: Any, fn: Callable[[Any], Any]) -> Any:
    """A structure of tuples, lists, dicts and slices with fn applied to what is in it.

    Args:
        a: the structure.
        fn: value -> the value in its place.
    """
    if isinstance(a, tuple):
        found = tuple(map_aggregate(x, fn) for x in a)
        return found if not hasattr(a, "_fields") else type(a)(*found)
    if isinstance(a, list):
        return [map_aggregate(x, fn) for x in a]
    if isinstance(a, dict):
        return {k: map_aggregate(v, fn) for k, v in a.items()}
    if isinstance(a, slice):
        return slice(*(map_aggregate(x, fn) for x in (a.start, a.stop, a.step)))
    return fn(a)


def map_arg(a: Any, fn: Callable[[Node], Any]) -> Any:
    """`map_aggregate` of the nodes alone."""
    return map_aggregate(a, lambda x: fn(x) if isinstance(x, Node) else x)


def qualified_name(function: Callable[..., Any]) -> str:
    """The dotted name of a function, by which generated code calls it."""
    known = overrides.resolve_name(function)
    if known is not None:
        return prefix[0] + known.removeprefix("torch")
    name = getattr(function, "__name__", type(function).__name__)
    if getattr(builtins, name, None) is function:
        return name
    module = getattr(function, "__module__", "") or ""
    return f"{module.replace('_operator', 'operator')}.{name}"


#: Functions that are called for what they do, so that an unused call of one stays.
SIDE_EFFECTS: set[Any] = set()


def has_side_effect(fn: Any) -> Any:
    """Let calls of a function stay in graphs that do not use their results; -> the function."""
    SIDE_EFFECTS.add(fn)
    return fn


class Node:
    """One step of a `Graph`.

    Args:
        graph: that it is in.
        name: of its value; differs from all others'.
        op: "placeholder" (an input), "get_attr", "call_function", "call_method", "call_module" or
            "output".
        target: the function, or the name of the method, module, attribute or input.
        args: positional arguments, in which other nodes stand for their values.
        kwargs: keyword arguments, likewise.
        return_type: of the value, if it is known.
    """

    def __init__(
        self,
        graph: Any,
        name: str,
        op: str,
        target: Target,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        return_type: Any = None,
    ) -> None:
        assert op in OPS, op
        if op == "call_function" and not callable(target):
            raise ValueError(
                f"Node [graph = {graph}, name = '{name}'] target {target} has type {type(target)} "
                "but a Callable is expected"
            )
        self.graph = graph
        self.name = name
        self.op = op
        self.target = target
        self.type = return_type
        self.meta: dict[str, Any] = {}
        self.users: dict[Node, None] = {}
        self._input_nodes: dict[Node, None] = {}
        self._prev = self._next = self
        self._erased = False
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[str, Any] = {}
        self._set(args, kwargs)

    def _set(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for other in self._input_nodes:
            other.users.pop(self, None)
        self._input_nodes = {}
        self._args, self._kwargs = args, kwargs
        map_arg((args, kwargs), lambda n: self._input_nodes.setdefault(n))
        for other in self._input_nodes:
            other.users.setdefault(self)

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments; nodes stand for their values."""
        return self._args

    @args.setter
    def args(self, args: tuple[Any, ...]) -> None:
        self._set(tuple(args), self._kwargs)

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments; nodes stand for their values."""
        return self._kwargs

    @kwargs.setter
    def kwargs(self, kwargs: dict[str, Any]) -> None:
        self._set(self._args, dict(kwargs))

    @property
    def all_input_nodes(self) -> list[Node]:
        """The nodes among the arguments, each once."""
        return list(self._input_nodes)

    @property
    def next(self) -> Node:
        """The node behind it."""
        return self._next

    @property
    def prev(self) -> Node:
        """The node before it."""
        return self._prev

    @property
    def stack_trace(self) -> str | None:
        """The lines of Python that recorded it, if that was asked for."""
        found: str | None = self.meta.get("stack_trace")
        return found

    @stack_trace.setter
    def stack_trace(self, trace: str | None) -> None:
        self.meta["stack_trace"] = trace

    # -- place in the graph -----------------------------------------------------------------------

    def prepend(self, x: Node) -> None:
        """Put a node of the same graph before this one."""
        assert self.graph is x.graph, "Attempting to move a Node into a different Graph"
        if x is self:
            return
        x._remove()
        before = self._prev
        before._next, x._prev = x, before
        x._next, self._prev = self, x

    def append(self, x: Node) -> None:
        """Put a node of the same graph behind this one."""
        self._next.prepend(x)

    def _remove(self) -> None:
        self._prev._next, self._next._prev = self._next, self._prev

    # -- arguments --------------------------------------------------------------------------------

    def update_arg(self, idx: int, arg: Any) -> None:
        """Set one positional argument."""
        args = list(self._args)
        args[idx] = arg
        self.args = tuple(args)

    def insert_arg(self, idx: int, arg: Any) -> None:
        """Put a positional argument before another."""
        assert 0 <= idx <= len(self._args)
        self.args = (*self._args[:idx], arg, *self._args[idx:])

    def update_kwarg(self, key: str, arg: Any) -> None:
        """Set one keyword argument."""
        self.kwargs = {**self._kwargs, key: arg}

    def replace_input_with(self, old_input: Node, new_input: Node) -> None:
        """Use another node's value where one's was used."""
        args, kwargs = map_arg(
            (self._args, self._kwargs), lambda n: new_input if n is old_input else n
        )
        self._set(args, kwargs)

    def replace_all_uses_with(
        self,
        replace_with: Node,
        delete_user_cb: Callable[[Node], bool] = lambda user: True,
        *,
        propagate_meta: bool = False,
    ) -> list[Node]:
        """Let the users of this node use another.

        Args:
            replace_with: the other.
            delete_user_cb: user -> whether it shall.
            propagate_meta: give the other this node's `meta`.

        Returns:
            The users that did.
        """
        if propagate_meta:
            replace_with.meta.update(self.meta)
        users = [user for user in self.users if delete_user_cb(user)]
        for user in users:
            user.replace_input_with(self, replace_with)
        return users

    def is_impure(self, impure_random: bool = True) -> bool:
        """Whether it stays where nobody uses its value: inputs, the output, side effects."""
        if self.op in ("placeholder", "output"):
            return True
        if self.op == "call_function":
            name = getattr(self.target, "__name__", "")
            return self.target in SIDE_EFFECTS or (name.endswith("_") and name[0] != "_")
        if self.op == "call_method":
            return str(self.target).endswith("_") and not str(self.target).endswith("__")
        return False

    # -- text -------------------------------------------------------------------------------------

    def _target_text(self) -> str:
        if isinstance(self.target, str):
            return self.target
        name = qualified_name(self.target)
        return name if "." in name else f"builtins.{name}"

    def format_node(
        self,
        placeholder_names: list[str] | None = None,
        maybe_return_typename: list[str] | None = None,
        *,
        include_tensor_metadata: bool = False,
    ) -> str | None:
        """The node as `print(graph)` shows it.

        Args:
            placeholder_names: where an input's name is put instead; the text is None then.
            maybe_return_typename: where the output's type is put.
            include_tensor_metadata: accepted.
        """
        kind = "" if self.type is None else f"{type_text(self.type)} "
        if self.op == "placeholder":
            if placeholder_names is not None:
                text = "" if self.type is None else f": {type_text(self.type)}"
                placeholder_names.append(f"{self.target}{text}")
                return None
            default = "" if not self.args else f"(default={self.args[0]})"
            return (
                f"%{self.name} : {kind}[num_users={len(self.users)}] = "
                f"{self.op}[target={self.target}]{default}"
            )
        if self.op == "output":
            if self.type is not None and maybe_return_typename:
                maybe_return_typename[0] = f" -> {type_text(self.type)}"
            return f"return {self.args[0]}"
        head = f"%{self.name} : {kind}[num_users={len(self.users)}] = "
        if self.op == "get_attr":
            return f"{head}{self.op}[target={self.target}]"
        return (
            f"{head}{self.op}[target={self._target_text()}](args = {_shown(self.args)}, "
            f"kwargs = {_shown(self.kwargs)})"
        )

    def __repr__(self) -> str:
        return self.name


def _shown(a: Any) -> str:
    """Arguments as `print(graph)` shows them."""
    if isinstance(a, Node):
        return f"%{a.name}"
    if isinstance(a, list):
        return f"[{', '.join(map(_shown, a))}]"
    if isinstance(a, tuple):
        return f"({', '.join(map(_shown, a))}{',' if len(a) == 1 else ''})"
    if isinstance(a, dict):
        return f"{{{', '.join(f'{k}: {_shown(v)}' for k, v in a.items())}}}"
    return str(a)


def type_text(kind: Any) -> str:
    """A type as generated code names it."""
    if kind is None:
        return ""
    if kind is type(None):
        return "None"
    module = getattr(kind, "__module__", "")
    if isinstance(kind, type) and module != "builtins":
        place = prefix[0] if module.partition(".")[0] == "flambeau" else module
        return f"{place}.{kind.__qualname__}"
    return getattr(kind, "__name__", None) or str(kind)


__all__ = ["Argument", "Node", "Target", "has_side_effect", "map_aggregate", "map_arg"]
