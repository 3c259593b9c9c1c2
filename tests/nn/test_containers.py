"""Containers behave like the sequences and mappings they are named after."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import flambeau
from flambeau import nn


def layers(n: int) -> list[nn.Module]:
    return [nn.Linear(i + 1, i + 2) for i in range(n)]


def test_sequential_calls_in_order() -> None:
    net = nn.Sequential(OrderedDict(a=nn.Linear(1, 2), b=nn.Tanh()))
    x = flambeau.ones(3, 1)
    assert net(x).tolist() == flambeau.tanh(net.a(x)).tolist()
    assert list(net._modules) == ["a", "b"]


def test_sequential_as_a_list() -> None:
    made = layers(5)
    net = nn.Sequential(*made)
    assert len(net) == 5
    assert list(net) == made
    assert net[-1] is made[4]
    assert list(net[1:4:2]) == [made[1], made[3]]
    assert isinstance(net[1:], nn.Sequential)
    del net[1]
    assert list(net._modules) == ["0", "1", "2", "3"]
    del net[2:]
    assert list(net) == [made[0], made[2]]
    net[1] = made[3]
    assert net.pop(-1) is made[3]
    assert net.append(made[4]).insert(-1, made[1]) is net
    assert list(net) == [made[0], made[1], made[4]]
    assert list(net + nn.Sequential(made[2])) == [made[0], made[1], made[4], made[2]]
    assert list(net * 2) == [*net, *net] == list(2 * net)
    net += nn.Sequential(made[2])
    net *= 2
    assert len(net) == 8
    assert [n for n, _ in net.named_parameters()][:2] == ["0.weight", "0.bias"]
    with pytest.raises(IndexError, match="index 8 is out of range"):
        net[8]
    with pytest.raises(ValueError, match="Non-positive multiplication factor 0"):
        net * 0
    with pytest.raises(AssertionError, match="module should be of type"):
        net.insert(0, 3)


def test_module_list() -> None:
    made = layers(4)
    items = nn.ModuleList(made[:2])
    items.append(made[2]).extend([made[3]])
    assert list(items) == made
    assert list(items[1:3]) == made[1:3]
    items.insert(1, made[0])
    assert items[1] is made[0]
    assert items.pop(1) is made[0]
    del items[0], items[-1]
    assert list(items) == made[1:3]
    assert [n for n, _ in items.named_children()] == ["0", "1"]
    assert list(items + [made[0]]) == [made[1], made[2], made[0]]
    items[0] = made[3]
    assert items[0] is made[3]
    with pytest.raises(TypeError, match="is not a Module subclass"):
        items.append(3)
    with pytest.raises(NotImplementedError, match='missing the required "forward" function'):
        items(1)


def test_module_dict() -> None:
    a, b = layers(2)
    items = nn.ModuleDict({"a": a, "b": b})
    assert list(items) == ["a", "b"]
    assert "a" in items
    assert items["a"] is a
    assert list(items.items()) == [("a", a), ("b", b)]
    items.update([("c", a)])
    assert items.pop("c") is a
    del items["a"]
    assert list(items.values()) == [b]
    items.clear()
    assert len(items) == 0
    with pytest.raises(KeyError):
        items["a"]
    with pytest.raises(KeyError, match="attribute 'keys' already exists"):
        items["keys"] = a


def test_parameter_list() -> None:
    items = nn.ParameterList([flambeau.zeros(1), nn.Parameter(flambeau.ones(2)), "text"])
    assert isinstance(items[0], nn.Parameter)
    assert [n for n, _ in items.named_parameters()] == ["0", "1"]
    items += [flambeau.zeros(3)]
    assert len(items) == 4
    assert items[-1].shape == (3,)
    assert [type(v).__name__ for v in items[1:3]] == ["Parameter", "str"]
    items[2] = flambeau.ones(1)
    assert isinstance(items[2], nn.Parameter)
    assert sorted(items.state_dict()) == ["0", "1", "2", "3"]
    with pytest.raises(IndexError, match="index 4 is out of range"):
        items[4]


def test_parameter_dict() -> None:
    items = nn.ParameterDict({"b": flambeau.zeros(2), "a": flambeau.ones(1)})
    assert list(items) == ["a", "b"], "a plain mapping is taken in sorted order"
    items["c"] = 3
    assert isinstance(items["a"], nn.Parameter)
    assert list(reversed(items)) == ["c", "b", "a"]
    assert items.get("d", 4) == 4
    assert items.setdefault("e", flambeau.zeros(1)) is items["e"]
    assert items.popitem()[0] == "e"
    assert items.pop("c") == 3
    copied = items.copy()
    assert copied["a"] is items["a"]
    merged = items | nn.ParameterDict({"z": flambeau.zeros(1)})
    assert list(merged) == ["a", "b", "z"]
    items |= {"y": flambeau.zeros(1)}
    assert "y" in items
    assert [n for n, _ in items.named_parameters()] == ["a", "b", "y"]
    assert list(items.fromkeys(["p", "q"], 1).values()) == [1, 1]
    items.clear()
    assert len(items) == 0
    assert list(items.parameters()) == []


def test_state_of_containers_is_restored() -> None:
    source = nn.ModuleDict(
        {"l": nn.ModuleList(layers(2)), "p": nn.ParameterList([flambeau.ones(2)])}
    )
    target = nn.ModuleDict(
        {"l": nn.ModuleList(layers(2)), "p": nn.ParameterList([flambeau.zeros(2)])}
    )
    target.load_state_dict(source.state_dict())
    for (name, p), (_, q) in zip(source.named_parameters(), target.named_parameters(), strict=True):
        assert p.tolist() == q.tolist(), name
