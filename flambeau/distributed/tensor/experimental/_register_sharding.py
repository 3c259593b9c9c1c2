"""Operators whose parts follow rules that a program gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.distributed.tensor import rules

Sharding = Callable[..., Sequence[tuple[Sequence[Any], Sequence[Any]]]]


def register_sharding(op: Any) -> Callable[[Sharding], Sharding]:
    """Say how an operator is done on parts; a decorator of a function that does.

    Along each axis of the mesh the acceptable placements are taken for which least has to be sent;
    those that would cut a dimension into parts of different sizes are not.

    Args:
        op: an operator (`library.ops.aten.softmax.default`, `flambeau.softmax`, a custom one), or
            a list of them.

    Returns:
        A decorator. Its function takes what the operator takes, and gives (placements of the
        results, placements of the arguments) pairs: each a list, of the arguments with None for
        what is no tensor, in the order of the call.

    Example:
        >>> from flambeau import Tensor, library
        >>> from flambeau.distributed.tensor import Replicate, Shard
        >>> @library.custom_op("example::halved", mutates_args=())
        ... def halved(x: Tensor) -> Tensor:
        ...     return x / 2
        >>> @register_sharding(halved)
        ... def of_halved(x):
        ...     return [([p], [p]) for p in (Replicate(), *map(Shard, range(x.ndim)))]
    """

    def register(function: Sharding) -> Sharding:
        for each in op if isinstance(op, (list, tuple)) else [op]:
            rules.RULES[rules.name_of(each)] = function
        return function

    return register


__all__ = ["register_sharding"]
