"""Trees of containers: flattening them into leaves and back (torch's `utils._pytree`).

A tree is nested tuples, lists, dictionaries (plain, ordered, with default), deques, named tuples
and instances of classes that were registered; everything else is a leaf. Flattening keeps the
order of insertion.

Example:
    >>> from flambeau.pytree import tree_flatten, tree_unflatten
    >>> leaves, spec = tree_flatten({"a": 1, "b": (2, [3])})
    >>> leaves
    [1, 2, 3]
    >>> tree_unflatten([leaf * 10 for leaf in leaves], spec)
    {'a': 10, 'b': (20, [30])}
"""

from __future__ import annotations

import functools
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

PyTree = Any
Context = Any
KeyPath = tuple[Any, ...]
IsLeaf = Callable[[PyTree], bool]


@dataclass(frozen=True)
class SequenceKey:
    """The place of a child in a sequence."""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx!r}]"

    def get(self, sequence: Any) -> Any:
        """The child."""
        return sequence[self.idx]


@dataclass(frozen=True)
class MappingKey:
    """The key of a child in a mapping."""

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"

    def get(self, mapping: Any) -> Any:
        """The child."""
        return mapping[self.key]


@dataclass(frozen=True)
class GetAttrKey:
    """The attribute that a child is."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"

    def get(self, obj: Any) -> Any:
        """The child."""
        return getattr(obj, self.name)


class NodeDef(NamedTuple):
    """How instances of a class are taken apart and put together.

    Attributes:
        type: the class.
        flatten_fn: instance -> (children, context).
        unflatten_fn: (children, context) -> instance.
        flatten_with_keys_fn: instance -> ([(key, child), ...], context).
    """

    type: Any
    flatten_fn: Callable[[Any], tuple[Sequence[Any], Context]]
    unflatten_fn: Callable[[Iterable[Any], Context], Any]
    flatten_with_keys_fn: Callable[[Any], tuple[Sequence[tuple[Any, Any]], Context]] | None = None


SUPPORTED_NODES: dict[Any, NodeDef] = {}


def register_pytree_node(
    cls: Any,
    flatten_fn: Callable[[Any], tuple[Sequence[Any], Context]],
    unflatten_fn: Callable[[Iterable[Any], Context], Any],
    *,
    serialized_type_name: str | None = None,
    to_dumpable_context: Callable[[Context], Any] | None = None,
    from_dumpable_context: Callable[[Any], Context] | None = None,
    flatten_with_keys_fn: Any = None,
) -> None:
    """Make instances of a class containers.

    Args:
        cls: the class; of its subclasses, only those registered by themselves are containers.
        flatten_fn: instance -> (children, context).
        unflatten_fn: (children, context) -> instance.
        serialized_type_name: accepted; specs are not serialised.
        to_dumpable_context: accepted.
        from_dumpable_context: accepted.
        flatten_with_keys_fn: instance -> ([(key, child), ...], context), for paths.

    Raises:
        ValueError: the class is registered.
    """
    if cls in SUPPORTED_NODES:
        raise ValueError(f"{cls} is already registered as pytree node.")
    SUPPORTED_NODES[cls] = NodeDef(cls, flatten_fn, unflatten_fn, flatten_with_keys_fn)


def register_dataclass(
    cls: Any,
    *,
    field_names: list[str] | None = None,
    drop_field_names: list[str] | None = None,
    serialized_type_name: str | None = None,
) -> None:
    """Make instances of a dataclass containers of their fields.

    Args:
        cls: the dataclass.
        field_names: the fields that are children; all that `__init__` takes when None.
        drop_field_names: fields left out.
        serialized_type_name: accepted.
    """
    names = field_names or [f.name for f in fields(cls) if f.init]
    names = [name for name in names if name not in (drop_field_names or ())]

    def flatten(obj: Any) -> tuple[list[Any], Context]:
        present = [name for name in names if getattr(obj, name) is not None]
        absent = [name for name in names if getattr(obj, name) is None]
        return [getattr(obj, name) for name in present], [present, absent]

    def with_keys(obj: Any) -> tuple[list[tuple[Any, Any]], Context]:
        values, context = flatten(obj)
        return list(zip(map(GetAttrKey, context[0]), values, strict=True)), context

    def unflatten(values: Iterable[Any], context: Context) -> Any:
        present, absent = context
        return cls(**dict(zip(present, values, strict=True)), **dict.fromkeys(absent))

    register_pytree_node(cls, flatten, unflatten, flatten_with_keys_fn=with_keys)


def register_constant(cls: Any) -> None:
    """Make instances of a class part of the tree's structure; they must be hashable."""
    register_pytree_node(cls, lambda obj: ([], obj), lambda children, obj: obj)


def _sequence(kind: Any, context_of: Any = None, make: Any = None) -> NodeDef:
    def context(obj: Any) -> Context:
        return context_of(obj) if context_of is not None else None

    return NodeDef(
        kind,
        lambda obj: (list(obj), context(obj)),
        make or (lambda children, _: kind(children)),
        lambda obj: ([(SequenceKey(i), child) for i, child in enumerate(obj)], context(obj)),
    )


def _dict_flatten(d: dict[Any, Any]) -> tuple[list[Any], Context]:
    return list(d.values()), list(d.keys())


def _dict_flatten_with_keys(d: dict[Any, Any]) -> tuple[list[tuple[MappingKey, Any]], Context]:
    return [(MappingKey(key), value) for key, value in d.items()], list(d.keys())


def _dict_unflatten(values: Iterable[Any], context: Context) -> dict[Any, Any]:
    return dict(zip(context, values, strict=True))


def _ordered(values: Iterable[Any], context: Context) -> OrderedDict[Any, Any]:
    return OrderedDict(zip(context, values, strict=True))


def _defaulting(values: Iterable[Any], context: Context) -> defaultdict[Any, Any]:
    return defaultdict(context[0], _dict_unflatten(values, context[1]))


def _fields(obj: Any) -> tuple[list[tuple[GetAttrKey, Any]], Context]:
    return list(zip(map(GetAttrKey, obj._fields), obj, strict=True)), type(obj)


for _definition in (
    _sequence(tuple),
    _sequence(list),
    NodeDef(
        namedtuple,  # stands for all its classes
        lambda obj: (list(obj), type(obj)),
        lambda children, context: context(*children),
        _fields,
    ),
    _sequence(deque, lambda d: d.maxlen, lambda children, limit: deque(children, maxlen=limit)),
    NodeDef(dict, _dict_flatten, _dict_unflatten, _dict_flatten_with_keys),
    NodeDef(OrderedDict, _dict_flatten, _ordered, _dict_flatten_with_keys),
    NodeDef(
        defaultdict,
        lambda d: (list(d.values()), [d.default_factory, list(d.keys())]),
        _defaulting,
        lambda d: (_dict_flatten_with_keys(d)[0], [d.default_factory, list(d.keys())]),
    ),
):
    SUPPORTED_NODES[_definition.type] = _definition


def is_namedtuple_class(cls: Any) -> bool:
    """Whether this is a class made by `namedtuple`."""
    names = getattr(cls, "_fields", None) if isinstance(cls, type) else None
    return isinstance(names, tuple) and issubclass(cls, tuple) and hasattr(cls, "_make")


def is_namedtuple(obj: Any) -> bool:
    """Whether this is a named tuple, or a class of them."""
    return is_namedtuple_class(obj if isinstance(obj, type) else type(obj))


def is_namedtuple_instance(obj: Any) -> bool:
    """Whether this is a named tuple."""
    return is_namedtuple_class(type(obj))


def _definition_of(tree: PyTree) -> NodeDef | None:
    """How a container is taken apart; None for a leaf."""
    kind = type(tree)
    found = SUPPORTED_NODES.get(kind)
    if found is None and is_namedtuple_class(kind):
        return SUPPORTED_NODES[namedtuple]
    return found


def _get_node_type(tree: PyTree) -> Any:
    """The class under which a container is registered; a leaf's own class."""
    definition = _definition_of(tree)
    return type(tree) if definition is None else definition.type


def tree_is_leaf(tree: PyTree, is_leaf: IsLeaf | None = None) -> bool:
    """Whether this is a leaf: no container, or something that `is_leaf` says is one."""
    return (is_leaf is not None and is_leaf(tree)) or _definition_of(tree) is None


_is_leaf = tree_is_leaf


@dataclass(eq=True)
class TreeSpec:
    """The structure of a tree: what is left when the leaves are taken out.

    Attributes:
        type: the container's class (`namedtuple` itself for all of its classes); None for a leaf.
        children_specs: the structures of its children.
        num_leaves: leaves below.
        num_nodes: containers and leaves, this one included.
    """

    type: Any
    _context: Context
    _children: list[TreeSpec]
    num_nodes: int = field(init=False, compare=False)
    num_leaves: int = field(init=False, compare=False)
    num_children: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        leaf = self.type is None
        self.num_children = len(self._children)
        self.num_nodes = 1 + sum(child.num_nodes for child in self._children)
        self.num_leaves = int(leaf) + sum(child.num_leaves for child in self._children)

    @property
    def context(self) -> Context:
        """What the container is besides its children: keys, a length limit, a class."""
        return self._context

    @property
    def children_specs(self) -> list[TreeSpec]:
        """The structures of the children."""
        return self._children

    def children(self) -> list[TreeSpec]:
        """The structures of the children."""
        return list(self._children)

    def child(self, index: int) -> TreeSpec:
        """The structure of one child."""
        return self._children[index]

    def is_leaf(self) -> bool:
        """Whether the tree is a single leaf."""
        return self.type is None

    def __repr__(self, indent: int = 0) -> str:
        if self.type is None:
            return "*"
        pad = " " * (indent + 2)
        children = [child.__repr__(indent + 2) for child in self._children]
        inside = f",\n{pad}".join(children)
        return f"TreeSpec({self.type.__name__}, {self._context!r}, [{inside}])"

    def __hash__(self) -> int:
        context = self._context
        if isinstance(context, list):
            context = str(context)
        return hash((self.type, context, tuple(self._children)))

    def unflatten(self, leaves: Iterable[Any]) -> PyTree:
        """The tree of this structure with these leaves.

        Raises:
            ValueError: there are more or fewer leaves than places.
        """
        leaves = list(leaves)
        if len(leaves) != self.num_leaves:
            raise ValueError(
                f"treespec.unflatten(leaves): `leaves` has length {len(leaves)} but the spec "
                f"refers to a pytree that holds {self.num_leaves} items ({self})."
            )
        return self._build(iter(leaves))

    def _build(self, leaves: Iterator[Any]) -> PyTree:
        if self.type is None:
            return next(leaves)
        children = [child._build(leaves) for child in self._children]
        return SUPPORTED_NODES[self.type].unflatten_fn(children, self._context)

    def flatten_up_to(self, tree: PyTree) -> list[PyTree]:
        """The subtrees that stand where this structure has its leaves.

        Raises:
            ValueError: the tree has another structure above them.
        """
        if self.type is None:
            return [tree]
        definition = _definition_of(tree)
        if definition is None or definition.type is not self.type:
            raise ValueError(f"Node type mismatch; expected {self.type!r}, but got {type(tree)!r}.")
        if isinstance(tree, Mapping) and list(tree) != (keys := self._keys()):
            if set(tree) != set(keys):
                raise ValueError(f"Node keys mismatch; expected {keys}, but got {list(tree)}.")
            children: Sequence[Any] = [tree[key] for key in keys]
        else:
            children, context = definition.flatten_fn(tree)
            if len(children) != self.num_children:
                raise ValueError(
                    f"Node arity mismatch; expected {self.num_children}, but got {len(children)}."
                )
            if context != self._context:
                raise ValueError(f"Node context mismatch for {self.type!r}.")
        pairs = zip(self._children, children, strict=True)
        return [part for spec, child in pairs for part in spec.flatten_up_to(child)]

    def _keys(self) -> list[Any]:
        return list(self._context[1] if self.type is defaultdict else self._context)


def LeafSpec() -> TreeSpec:
    """The structure of a leaf."""
    return TreeSpec(None, None, [])


treespec_leaf = LeafSpec


def tree_flatten(tree: PyTree, is_leaf: IsLeaf | None = None) -> tuple[list[Any], TreeSpec]:
    """The leaves of a tree and its structure.

    Args:
        tree: any object.
        is_leaf: container -> whether to take it as a leaf.
    """
    leaves: list[Any] = []
    return leaves, _flattened(tree, is_leaf, leaves)


def _flattened(node: PyTree, is_leaf: IsLeaf | None, leaves: list[Any]) -> TreeSpec:
    """The structure of a tree, whose leaves are added to a list. (A closure that calls itself would
    be in a cycle with them, and tensors would outlive their use.)"""
    definition = _definition_of(node)
    if definition is None or (is_leaf is not None and is_leaf(node)):
        leaves.append(node)
        return LeafSpec()
    children, context = definition.flatten_fn(node)
    specs = [_flattened(child, is_leaf, leaves) for child in children]
    return TreeSpec(definition.type, context, specs)


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> PyTree:
    """The tree with this structure and these leaves.

    Raises:
        TypeError: the structure is none.
        ValueError: the number of leaves is wrong.
    """
    if not isinstance(treespec, TreeSpec):
        raise TypeError(
            "tree_unflatten(leaves, treespec): Expected `treespec` to be instance of TreeSpec "
            f"but got item of type {type(treespec)}."
        )
    return treespec.unflatten(leaves)


def tree_iter(tree: PyTree, is_leaf: IsLeaf | None = None) -> Iterator[Any]:
    """The leaves, one by one."""
    definition = _definition_of(tree)
    if definition is None or (is_leaf is not None and is_leaf(tree)):
        yield tree
        return
    for child in definition.flatten_fn(tree)[0]:
        yield from tree_iter(child, is_leaf)


def tree_leaves(tree: PyTree, is_leaf: IsLeaf | None = None) -> list[Any]:
    """The leaves."""
    return list(tree_iter(tree, is_leaf))


def arg_tree_leaves(*args: PyTree, **kwargs: PyTree) -> list[Any]:
    """The leaves of a call's arguments."""
    return tree_leaves((args, kwargs))


def tree_structure(tree: PyTree, is_leaf: IsLeaf | None = None) -> TreeSpec:
    """The structure alone."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(
    func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: IsLeaf | None = None
) -> PyTree:
    """The tree with each leaf replaced by `func(leaf, *leaves of the other trees at its place)`."""
    leaves, spec = tree_flatten(tree, is_leaf)
    others = [spec.flatten_up_to(rest) for rest in rests]
    return spec.unflatten(map(func, leaves, *others))


def tree_map_(
    func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: IsLeaf | None = None
) -> PyTree:
    """Call `func` for each leaf as `tree_map` does, and return the tree as it is."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def map_only(selected: Any, /) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """A decorator: the function for what is selected, and identity for the rest.

    Args:
        selected: a class, several, or a predicate.
    """
    by_type = isinstance(selected, type | tuple) or not callable(selected)

    def decorate(func: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(func)
        def wrapper(leaf: Any) -> Any:
            chosen = isinstance(leaf, selected) if by_type else selected(leaf)
            return func(leaf) if chosen else leaf

        return wrapper

    return decorate


def tree_map_only(
    selected: Any, /, func: Callable[[Any], Any], tree: PyTree, is_leaf: IsLeaf | None = None
) -> PyTree:
    """`tree_map` over the leaves of a class (or that a predicate chooses)."""
    return tree_map(map_only(selected)(func), tree, is_leaf=is_leaf)


def tree_map_only_(
    selected: Any, /, func: Callable[[Any], Any], tree: PyTree, is_leaf: IsLeaf | None = None
) -> PyTree:
    """`tree_map_` over the leaves of a class (or that a predicate chooses)."""
    return tree_map_(map_only(selected)(func), tree, is_leaf=is_leaf)


def tree_all(pred: Callable[[Any], bool], tree: PyTree, is_leaf: IsLeaf | None = None) -> bool:
    """Whether the predicate holds for every leaf."""
    return all(map(pred, tree_iter(tree, is_leaf)))


def tree_any(pred: Callable[[Any], bool], tree: PyTree, is_leaf: IsLeaf | None = None) -> bool:
    """Whether the predicate holds for some leaf."""
    return any(map(pred, tree_iter(tree, is_leaf)))


def tree_all_only(
    types: Any, /, pred: Callable[[Any], bool], tree: PyTree, is_leaf: IsLeaf | None = None
) -> bool:
    """Whether the predicate holds for every leaf of these classes."""
    return all(pred(leaf) for leaf in tree_iter(tree, is_leaf) if isinstance(leaf, types))


def tree_any_only(
    types: Any, /, pred: Callable[[Any], bool], tree: PyTree, is_leaf: IsLeaf | None = None
) -> bool:
    """Whether the predicate holds for some leaf of these classes."""
    return any(pred(leaf) for leaf in tree_iter(tree, is_leaf) if isinstance(leaf, types))


def _broadcast_to_and_flatten(
    tree: PyTree, treespec: TreeSpec, is_leaf: IsLeaf | None = None
) -> list[Any] | None:
    """The leaves of a tree repeated to a structure that it is a prefix of; None if it is not."""
    definition = _definition_of(tree)
    if definition is None or (is_leaf is not None and is_leaf(tree)):
        return [tree] * treespec.num_leaves
    if treespec.is_leaf() or treespec.type is not definition.type:
        return None
    children, context = definition.flatten_fn(tree)
    if len(children) != treespec.num_children or context != treespec.context:
        return None
    parts = [
        _broadcast_to_and_flatten(child, spec, is_leaf)
        for child, spec in zip(children, treespec.children_specs, strict=True)
    ]
    return None if None in parts else [leaf for part in parts for leaf in part or ()]


def _paths(path: KeyPath, tree: PyTree, is_leaf: IsLeaf | None) -> Iterator[tuple[KeyPath, Any]]:
    definition = _definition_of(tree)
    if definition is None or (is_leaf is not None and is_leaf(tree)):
        yield path, tree
        return
    if definition.flatten_with_keys_fn is None:
        raise ValueError(
            f"Did not find a flatten_with_keys_fn for type: {definition.type}. Please pass a "
            "flatten_with_keys_fn argument to register_pytree_node."
        )
    for key, child in definition.flatten_with_keys_fn(tree)[0]:
        yield from _paths((*path, key), child, is_leaf)


def tree_leaves_with_path(tree: PyTree, is_leaf: IsLeaf | None = None) -> list[tuple[KeyPath, Any]]:
    """The leaves, each with the keys that lead to it."""
    return list(_paths((), tree, is_leaf))


def tree_flatten_with_path(
    tree: PyTree, is_leaf: IsLeaf | None = None
) -> tuple[list[tuple[KeyPath, Any]], TreeSpec]:
    """The leaves, each with the keys that lead to it, and the structure."""
    return tree_leaves_with_path(tree, is_leaf), tree_structure(tree, is_leaf)


def tree_map_with_path(
    func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: IsLeaf | None = None
) -> PyTree:
    """`tree_map` with the keys that lead to a leaf as the function's first argument."""
    found, spec = tree_flatten_with_path(tree, is_leaf)
    others = [spec.flatten_up_to(rest) for rest in rests]
    paths, leaves = [path for path, _ in found], [leaf for _, leaf in found]
    return spec.unflatten(map(func, paths, leaves, *others))


def keystr(kp: KeyPath) -> str:
    """A path as Python would write it."""
    return "".join(str(key) for key in kp)


def key_get(obj: Any, kp: KeyPath) -> Any:
    """What stands at the end of a path."""
    for key in kp:
        obj = key.get(obj)
    return obj
