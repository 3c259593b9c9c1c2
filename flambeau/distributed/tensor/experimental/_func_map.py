"""Functions of plain tensors on the parts of distributed ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from flambeau.distributed.mesh import DeviceMesh
from flambeau.distributed.tensor.api import DTensor
from flambeau.distributed.tensor.placement import Placement
from flambeau.pytree import tree_flatten, tree_unflatten
from flambeau.tensor import Tensor

Placements = Sequence[Placement] | None


def local_map(
    func: Callable[..., Any] | None = None,
    out_placements: Placements | tuple[Placements, ...] = None,
    in_placements: tuple[Placements, ...] | None = None,
    in_grad_placements: tuple[Placements, ...] | None = None,
    device_mesh: DeviceMesh | None = None,
    *,
    redistribute_inputs: bool = False,
) -> Callable[..., Any]:
    """A function that calls another with this rank's parts, and makes its results distributed.

    Args:
        func: of plain tensors; without one, a decorator is returned.
        out_placements: how its result lies; a tuple, one for each, where it has several; None for
            what is no tensor.
        in_placements: how arguments must lie, None for what is no tensor.
        in_grad_placements: how the gradients of the parts lie, where not as the arguments.
        device_mesh: of the results; by default that of the first distributed argument.
        redistribute_inputs: bring arguments to `in_placements` instead of refusing others.

    Raises:
        ValueError: an argument lies otherwise than `in_placements` says.
        AssertionError: placements that are not one for each argument or result.
    """
    how = (out_placements, in_placements, in_grad_placements, device_mesh, redistribute_inputs)
    if func is None:
        return lambda f: functools.partial(_mapped, f, *how)
    return functools.partial(_mapped, func, *how)


def _mapped(
    func: Callable[..., Any],
    out_placements: Any,
    in_placements: Any,
    in_grad_placements: Any,
    mesh: DeviceMesh | None,
    redistribute: bool,
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    leaves, tree = tree_flatten(args)
    if in_placements is not None and len(in_placements) != len(leaves):
        raise AssertionError(
            f"in_placements length {len(in_placements)} does not match the number of input args "
            f"{len(leaves)}!"
        )
    wanted = in_placements or [None] * len(leaves)
    grads = in_grad_placements or [None] * len(leaves)
    distributed = [x for x in leaves if isinstance(x, DTensor)]
    parts = [
        _part(x, want, grad, in_placements is not None, redistribute)
        for x, want, grad in zip(leaves, wanted, grads, strict=True)
    ]
    found = func(*tree_unflatten(parts, tree), **kwargs)
    if not distributed:
        return found
    results, out = tree_flatten(found)
    each = out_placements if isinstance(out_placements, tuple) else (out_placements,)
    if each and all(isinstance(p, Placement) for p in each):
        each = (each,)  # a tuple of placements, of one result
    if len(each) != len(results):
        raise AssertionError(
            "local_map requires one PlacementType be provided for each output value, received "
            f"{len(each)} out_placements but {len(results)} is expected!"
        )
    mesh = distributed[0].device_mesh if mesh is None else mesh
    made = [_whole(x, p, mesh) for x, p in zip(results, each, strict=True)]
    return tree_unflatten(made, out)


def _part(x: Any, want: Any, grad: Any, checked: bool, redistribute: bool) -> Any:
    """An argument as the function gets it."""
    if not isinstance(x, DTensor):
        if want is not None and not isinstance(x, Tensor):
            raise AssertionError(
                f"Non-Tensor input {x} expects None placements but received {want}!"
            )
        return x
    if checked:
        if want is None:
            raise AssertionError(f"DTensor input {x} expects placements but received None!")
        if x.placements != tuple(want):
            if not redistribute:
                raise ValueError(
                    f"arg {x} in local_map has a mismatched placements: arg placements is "
                    f"{x.placements} but the input placements is {tuple(want)}! If "
                    "redistribute_inputs is wanted, set redistribute_inputs=True to local_map."
                )
            x = x.redistribute(placements=want)
    return x.to_local(grad_placements=grad)


def _whole(x: Any, placements: Any, mesh: DeviceMesh) -> Any:
    """A result as the caller gets it."""
    if not isinstance(x, Tensor):
        if placements is not None:
            raise AssertionError(f"Non-tensor output expects None placements, got {placements}")
        return x
    assert not isinstance(x, DTensor), f"local_map got a DTensor from the function: {x}"
    return x if placements is None else DTensor.from_local(x, mesh, placements)


__all__ = ["local_map"]
