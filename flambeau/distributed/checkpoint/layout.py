"""What a state dict consists of: named leaves, and which part of each tensor this rank holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flambeau
from flambeau.distributed.tensor.placement import order_of

Path = tuple[Any, ...]
"""Where a leaf is: dictionary keys, and `At` for places in lists and tuples."""


@dataclass(frozen=True)
class At:
    """A place in a sequence."""

    index: int
    of: str = "list"


@dataclass(frozen=True)
class Box:
    """A part of a tensor: where it begins, and its sizes."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]

    def overlap(self, other: Box) -> Box | None:
        """What both have in common, None where that is nothing."""
        begin = tuple(max(a, b) for a, b in zip(self.offset, other.offset))
        ends = [
            min(a + n, b + m)
            for a, n, b, m in zip(self.offset, self.shape, other.offset, other.shape)
        ]
        shape = tuple(end - start for end, start in zip(ends, begin))
        return None if any(n <= 0 for n in shape) else Box(begin, shape)

    def within(self, outer: Box) -> tuple[slice, ...]:
        """The index of this part in an array that holds `outer`."""
        starts = [a - b for a, b in zip(self.offset, outer.offset)]
        return tuple(slice(s, s + n) for s, n in zip(starts, self.shape))

    def numel(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Leaf:
    """One entry of a state dict.

    Attributes:
        name: of all keys on the way, with dots between.
        path: those keys.
        value: a tensor or anything else.
    """

    name: str
    path: Path
    value: Any


def leaves(state_dict: Mapping[str, Any]) -> dict[str, Leaf]:
    """The leaves of a state dict by name.

    Mappings are entered, and sequences with tensors in them; objects with a `state_dict` method,
    directly in the state dict, stand for what it returns.

    Raises:
        ValueError: two leaves have one name.
    """
    found: dict[str, Leaf] = {}
    for path, value in _walk((), state_dict):
        name = ".".join(str(k.index if isinstance(k, At) else k) for k in path)
        if name in found:
            raise ValueError(f"two entries of the state dict are called {name!r}")
        found[name] = Leaf(name, path, value)
    return found


def _walk(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if len(path) == 1 and is_stateful(value):
        value = value.state_dict()
    if isinstance(value, Mapping) and (value or not path):
        for key, child in value.items():
            yield from _walk((*path, key), child)
    elif type(value) in (list, tuple) and _has_tensor(value):
        for index, child in enumerate(value):
            yield from _walk((*path, At(index, type(value).__name__)), child)
    else:
        yield path, value


def is_stateful(value: Any) -> bool:
    """Whether an object saves and restores itself, as modules and optimizers do."""
    return hasattr(value, "state_dict") and hasattr(value, "load_state_dict")


def _has_tensor(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_tensor(v) for v in value.values())
    if type(value) in (list, tuple):
        return any(_has_tensor(v) for v in value)
    return isinstance(value, flambeau.Tensor)


def put(state_dict: Any, path: Path, value: Any) -> None:
    """Replace a leaf; a tuple on the way is replaced by another."""
    key, *rest = path
    place = key.index if isinstance(key, At) else key
    if not rest:
        new = value
    else:
        put_in = state_dict[place]
        if isinstance(put_in, tuple):
            changed = list(put_in)
            put(changed, tuple(rest), value)
            new = tuple(changed)
        else:
            put(put_in, tuple(rest), value)
            return
    state_dict[place] = new


def nested(values: Mapping[Path, Any]) -> dict[Any, Any]:
    """The state dict that has these leaves."""
    root: dict[Any, Any] = {}
    for path, value in values.items():
        at = root
        for key in path[:-1]:
            at = at.setdefault(key, {})
        at[path[-1]] = value
    found: dict[Any, Any] = _sequences(root)
    return found


def _sequences(value: Any) -> Any:
    """With lists and tuples where dictionaries have places as keys."""
    if type(value) is not dict:
        return value
    children = {key: _sequences(child) for key, child in value.items()}
    if not children or not all(isinstance(key, At) for key in children):
        return children
    items = [children[key] for key in sorted(children, key=lambda key: key.index)]
    return tuple(items) if next(iter(children)).of == "tuple" else items


# -- parts of tensors -----------------------------------------------------------------------------


def part_of(tensor: Any) -> tuple[tuple[int, ...], Box, Any]:
    """Which part of a whole this rank holds.

    Args:
        tensor: a tensor, which is whole, or a `DTensor`.

    Returns:
        The whole's shape, this rank's part, and the tensor that has it.

    Raises:
        ValueError: the values are sums that were not reduced yet.
    """
    whole = tuple(tensor.shape)
    placements = getattr(tensor, "placements", None)
    if placements is None:
        return whole, Box((0,) * len(whole), whole), tensor
    offset, shape = shard(whole, tensor.device_mesh, placements)
    return whole, Box(offset, shape), tensor.to_local()


def shard(
    whole: Sequence[int], mesh: Any, placements: Sequence[Any]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Offset and sizes of this rank's part: each mesh axis cuts what those that cut before left."""
    offset, shape = [0] * len(whole), list(whole)
    place = mesh.get_coordinate()
    for axis in order_of(placements, mesh) or range(len(placements)):
        placement = placements[axis]
        if placement.is_partial():
            raise ValueError("a Partial tensor cannot be saved or loaded; redistribute it first")
        if not placement.is_shard():
            continue
        dim, ranks = placement.dim % len(whole), mesh.size(axis)
        step = -(-shape[dim] // ranks)
        begin = min(place[axis] * step, shape[dim])
        offset[dim] += begin
        shape[dim] = min(step, shape[dim] - begin)
    return tuple(offset), tuple(shape)
