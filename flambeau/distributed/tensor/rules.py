"""Calls of operators for which a program has said how they are done on parts.

See `experimental.register_sharding`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.distributed.tensor.placement import Partial, Placement, Shard
from flambeau.pytree import tree_flatten, tree_unflatten

#: Operator's name -> what gives its acceptable placements.
RULES: dict[str, Callable[..., Any]] = {}


def name_of(op: Any) -> str:
    """What an operator is known by: a function, an overload, a packet of them or a custom one."""
    row = getattr(op, "row", None)
    found = getattr(op, "_opname", None) or getattr(op, "_qualname", None)
    return str(found or (op.__name__ if row is None else row.name))


def _cost(have: Placement, want: Placement, elements: int) -> float:
    """About how many elements are sent to go from one placement to another."""
    if have == want:
        return 0.0
    if have.is_replicate():
        return 1.0  # each rank takes its part
    return elements * (2.0 if have.is_partial() and want.is_replicate() else 1.0)


def chosen(
    pairs: Sequence[tuple[Sequence[Any], Sequence[Any]]], leaves: Sequence[Any], mesh: Any
) -> tuple[list[list[Placement]], dict[int, list[Placement]]]:
    """The placements that cost least, along each axis of the mesh.

    Args:
        pairs: acceptable ones of the results and of the arguments, along one axis.
        leaves: the arguments, of which those with `placements` are looked at.

    Returns:
        The placements of each result, and of each argument that is distributed.

    Raises:
        RuntimeError: none is acceptable.
    """
    tensors = {k: x for k, x in enumerate(leaves) if hasattr(x, "placements")}
    outs: list[list[Placement]] = [[] for _ in pairs[0][0]] if pairs else []
    ins: dict[int, list[Placement]] = {k: [] for k in tensors}
    for axis in range(mesh.ndim):
        best: tuple[float, int] | None = None
        for number, (_, wanted) in enumerate(pairs):
            if not all(_even(x, wanted[k], mesh) for k, x in tensors.items()):
                continue
            cost = sum(_cost(x.placements[axis], wanted[k], x.numel()) for k, x in tensors.items())
            best = min(best or (cost, number), (cost, number))
        if best is None:
            raise RuntimeError(
                "no placements that were registered are acceptable for arguments of shapes "
                f"{[list(x.shape) for x in tensors.values()]} on a mesh of {tuple(mesh.shape)}"
            )
        results, wanted = pairs[best[1]]
        for found, p in zip(outs, results, strict=True):
            found.append(p)
        for k, found in ins.items():
            found.append(wanted[k])
    return outs, ins


def _even(x: Any, want: Any, mesh: Any) -> bool:
    """Whether an argument can lie so along any axis."""
    if not isinstance(want, Shard):
        return isinstance(want, Placement)
    return -x.ndim <= want.dim < x.ndim and x.shape[want.dim] % mesh.size() == 0


def gradients(outs: list[list[Placement]], mine: list[Placement]) -> list[Placement]:
    """How the gradient of an argument's part lies: what is whole and used for parts has terms."""
    return [
        Partial() if p.is_replicate() and any(not o[axis].is_replicate() for o in outs) else p
        for axis, p in enumerate(mine)
    ]


def by_rule(rule: Callable[..., Any], func: Any, args: Any, kwargs: Any, made: Any) -> Any:
    """A call on the parts, as a rule says.

    Args:
        made: (part, mesh, placements) -> the distributed tensor.
    """
    leaves, tree = tree_flatten((args, kwargs))
    mesh = next(x.device_mesh for x in leaves if hasattr(x, "placements"))
    outs, ins = chosen(rule(*args, **kwargs), leaves, mesh)
    for k, placements in ins.items():
        lying = leaves[k].redistribute(placements=placements)
        leaves[k] = lying.to_local(grad_placements=gradients(outs, placements))
    args, kwargs = tree_unflatten(leaves, tree)
    results, out = tree_flatten(func(*args, **kwargs))
    found = [made(t, mesh, p) for t, p in zip(results, outs, strict=True)]
    return tree_unflatten(found, out)


__all__ = ["RULES", "by_rule", "name_of"]
