"""Checks of gradients against finite differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau import dtype as dtypes
from flambeau.autograd.backward import grad
from flambeau.autograd.modes import enable_grad, no_grad
from flambeau.ops.rows import NAMES
from flambeau.tensor import Tensor

Array = np.ndarray[Any, Any]


class GradcheckError(RuntimeError):
    """Raised by `gradcheck` and `gradgradcheck`: says which Jacobian is wrong and by how much."""


def _outputs(func: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    found = func(*inputs)
    found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
    return tuple(t for t in found if isinstance(t, Tensor) and t.dtype.is_floating_point)


def _fresh(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leaves of their own at the same values, so that in-place functions may be checked."""
    return tuple(
        t.detach().clone().requires_grad_(t.requires_grad) if isinstance(t, Tensor) else t
        for t in inputs
    )


def _call(func: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Outputs at the inputs' values; clones are handed over, since leaves refuse in-place writes"""
    return _outputs(func, tuple(NAMES["clone"](t) if isinstance(t, Tensor) else t for t in inputs))


def _numerical(
    func: Callable[..., Any], inputs: tuple[Any, ...], place: int, eps: float
) -> list[Array]:
    """Central differences: one (input elements, output elements) matrix per output."""
    values = inputs[place].detach().numpy().copy()
    columns: list[list[Array]] = []
    for k in range(values.size):
        sides = []
        for step in (eps, -eps):
            moved = values.copy()
            moved.reshape(-1)[k] += step
            with no_grad():
                given = list(inputs)
                given[place] = NAMES["tensor"](moved)
                sides.append(
                    [
                        o.detach().numpy().astype(np.float64).reshape(-1)
                        for o in _call(func, tuple(given))
                    ]
                )
        columns.append([(up - down) / (2 * eps) for up, down in zip(*sides, strict=True)])
    if not columns:
        return []
    return [np.stack(rows) for rows in zip(*columns, strict=True)]


def _analytical(outputs: tuple[Tensor, ...], x: Tensor) -> list[Array]:
    """The same matrices by backward passes."""
    found = []
    for output in outputs:
        matrix = np.zeros((x.numel(), output.numel()))
        for k in range(output.numel() if output.requires_grad else 0):
            pick = np.zeros(output.numel())
            pick[k] = 1.0
            cotangent = NAMES["tensor"](pick).to(output.dtype).reshape(output._shape)
            (g,) = grad((output,), (x,), (cotangent,), retain_graph=True, allow_unused=True)
            if g is not None:
                matrix[:, k] = g.detach().numpy().astype(np.float64).reshape(-1)
        found.append(matrix)
    return found


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Compare the gradients of a function with central differences.

    Args:
        func: of tensors, returning a tensor or several.
        inputs: a tensor or a tuple; those of them that require grad are checked, and should be
            float64.
        eps: step of the differences.
        atol, rtol: as of `allclose`.
        raise_exception: otherwise a failed check returns False.
        nondet_tol: how far two backward passes may differ.

    Returns:
        True when all are close.

    Raises:
        GradcheckError: they are not.
        ValueError: no input requires grad.
    """
    given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    checked = [k for k, t in enumerate(given) if isinstance(t, Tensor) and t.requires_grad]
    try:
        if not checked:
            raise ValueError(
                "gradcheck expects at least one input tensor to require gradient, but "
                "none of them have requires_grad=True."
            )
        for k in checked:
            if given[k].dtype not in (dtypes.float64, dtypes.complex128):
                warnings.warn(
                    f"Input #{k} requires gradient and is not a double precision floating"
                    " point. This check will likely fail if all the inputs are not of "
                    "double precision floating point."
                )
        _check(func, given, checked, eps, atol, rtol, nondet_tol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _check(
    func: Callable[..., Any],
    given: tuple[Any, ...],
    checked: list[int],
    eps: float,
    atol: float,
    rtol: float,
    nondet_tol: float,
) -> None:
    leaves = _fresh(given)
    with enable_grad():
        outputs = _call(func, leaves)
    for k in checked:
        numerical = _numerical(func, leaves, k, eps)
        analytical = _analytical(outputs, leaves[k])
        again = _analytical(outputs, leaves[k])
        for j, (n, a, b) in enumerate(zip(numerical, analytical, again, strict=False)):
            if not np.allclose(a, b, rtol=0.0, atol=nondet_tol, equal_nan=True):
                raise GradcheckError(
                    "Backward is not reentrant, i.e., running backward with same "
                    "input and grad_output multiple times gives different values, "
                    f"although analytical gradient matches numerical gradient. The"
                    f" tolerance for nondeterminism was {nondet_tol}."
                )
            if not np.allclose(a, n, rtol=rtol, atol=atol, equal_nan=True):
                raise GradcheckError(
                    f"Jacobian mismatch for output {j} with respect to input {k},"
                    f"\nnumerical:{n}\nanalytical:{a}\n"
                )


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Compare the gradients of a function's gradients with central differences.

    Args:
        grad_outputs: the cotangents at which to check; random by default.

    Raises:
        GradcheckError: they are not close.
    """
    given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    if grad_outputs is None:
        cotangents = tuple(
            NAMES["randn"](*o._shape, dtype=o.dtype).requires_grad_()
            for o in _call(func, _fresh(given))
        )
    else:
        cotangents = (
            tuple(grad_outputs) if isinstance(grad_outputs, (tuple, list)) else (grad_outputs,)
        )
    count = len(given)
    wanted = [k for k, t in enumerate(given) if isinstance(t, Tensor) and t.requires_grad]

    def slopes(*args: Any) -> Any:
        with enable_grad():
            places = tuple(
                t
                if not isinstance(t, Tensor) or t.requires_grad or k not in wanted
                else t.requires_grad_()
                for k, t in enumerate(args[:count])
            )
            outputs = [
                (o, g)
                for o, g in zip(_outputs(func, places), args[count:], strict=True)
                if o.requires_grad
            ]
            found = grad(
                [o for o, _ in outputs],
                [places[k] for k in wanted],
                [g for _, g in outputs],
                create_graph=True,
                allow_unused=True,
            )
        return tuple(g for g in found if g is not None)

    return gradcheck(
        slopes,
        (*given, *cotangents),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
    )


__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]
