"""``torch.nn.modules.utils``: a number repeated to as many as there are dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def _ntuple(n: int, name: str = "parse") -> Callable[[Any], tuple[Any, ...]]:
    """A function that repeats what is no iterable `n` times."""

    def parse(x: Any) -> tuple[Any, ...]:
        return tuple(x) if isinstance(x, Iterable) else (x,) * n

    parse.__name__ = name
    return parse


_single, _pair = _ntuple(1, "_single"), _ntuple(2, "_pair")
_triple, _quadruple = _ntuple(3, "_triple"), _ntuple(4, "_quadruple")


def _reverse_repeat_tuple(t: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    """The elements from the last to the first, each `n` times."""
    return tuple(x for x in reversed(t) for _ in range(n))


def consume_prefix_in_state_dict_if_present(state_dict: dict[str, Any], prefix: str) -> None:
    """Take a prefix off the keys of a state dict, in place.

    Args:
        state_dict: its metadata, if there is any, is changed as well.
        prefix: such as ``"module."``.
    """
    for found in (state_dict, getattr(state_dict, "_metadata", None)):
        for key in list(found or ()):
            if found is not None and key.startswith(prefix):
                found[key.removeprefix(prefix)] = found.pop(key)
    metadata = getattr(state_dict, "_metadata", None)
    if metadata is not None:
        name = prefix.rstrip(".")
        metadata.pop(name, None)
