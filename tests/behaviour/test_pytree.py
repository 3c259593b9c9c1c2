"""``flambeau.pytree``: containers of every kind survive, other structures are refused."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest

from flambeau import pytree

Pair = namedtuple("Pair", "left right")
TREE: dict[str, Any] = {
    "tuple": (1, [2, Pair(3, OrderedDict(z=4))]),
    "default": defaultdict(list, {"q": 5}),
    "deque": deque([6, 7], maxlen=3),
    "empty": [(), {}],
}


@dataclass
class Box:
    content: Any
    label: Any = None


class Split:
    """A container of one's own."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts


pytree.register_dataclass(Box)
pytree.register_pytree_node(Split, lambda s: (s.parts, None), lambda parts, _: Split(list(parts)))


def test_a_tree_is_put_together_as_it_was() -> None:
    leaves, spec = pytree.tree_flatten(TREE)
    assert leaves == [1, 2, 3, 4, 5, 6, 7]
    again = spec.unflatten(leaves)
    assert again == TREE
    assert again["deque"].maxlen == 3
    assert again["default"].default_factory is list
    assert type(again["tuple"][1][1]) is Pair
    assert spec == pytree.tree_structure(again)
    assert hash(spec) == hash(pytree.tree_structure(again))
    assert spec.num_leaves == 7


def test_registered_classes_are_containers() -> None:
    doubled = pytree.tree_map(lambda leaf: leaf * 2, Split([1, Box((2, 3))]))
    assert doubled.parts[0] == 2
    assert doubled.parts[1] == Box((4, 6))
    with pytest.raises(ValueError, match="already registered"):
        pytree.register_dataclass(Box)
    with pytest.raises(ValueError, match="flatten_with_keys_fn"):
        pytree.tree_leaves_with_path(Split([1]))


def test_paths_lead_to_their_leaves() -> None:
    found = pytree.tree_leaves_with_path({**TREE, "box": Box([8])})
    assert [pytree.keystr(path) for path, _ in found][:3] == [
        *("['tuple'][0]", "['tuple'][1][0]", "['tuple'][1][1].left"),
    ]
    assert all(pytree.key_get({**TREE, "box": Box([8])}, path) == leaf for path, leaf in found)


def test_several_trees_are_walked_together() -> None:
    assert pytree.tree_map(lambda a, b: a + sum(b), (1, {"k": 2}), ([1, 1], {"k": [5]})) == (
        3,
        {"k": 7},
    )
    swapped = pytree.tree_map(lambda a, b: (a, b), {"a": 1, "b": 2}, {"b": 3, "a": 4})
    assert swapped == {"a": (1, 4), "b": (2, 3)}


@pytest.mark.parametrize(
    ("other", "words"),
    [([1, 2], "type mismatch"), ((1,), "arity mismatch"), (5, "type mismatch")],
)
def test_another_structure_is_refused(other: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pytree.tree_map(lambda a, b: a, (1, 2), other)


def test_leaves_are_counted() -> None:
    with pytest.raises(ValueError, match="length 1 but the spec"):
        pytree.tree_unflatten([1], pytree.tree_structure((1, 2)))


def test_a_prefix_is_repeated() -> None:
    spec = pytree.tree_structure(((1, 2), [3]))
    assert pytree._broadcast_to_and_flatten((0, 1), spec) == [0, 0, 1]
    assert pytree._broadcast_to_and_flatten((0, (1,)), spec) is None


def test_only_what_is_selected_changes() -> None:
    tree = [1, "a", 2.5]
    assert pytree.tree_map_only(int, lambda n: -n, tree) == [-1, "a", 2.5]
    assert pytree.tree_map_only((int, float), lambda n: -n, tree) == [-1, "a", -2.5]
    assert pytree.tree_map_only(lambda x: x == "a", str.upper, tree) == [1, "A", 2.5]
    assert pytree.tree_any_only(int, lambda n: n > 1, tree) is False
    assert pytree.tree_leaves(tree, is_leaf=lambda x: x is tree) == [tree]
