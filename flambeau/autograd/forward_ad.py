"""Forward differentiation by dual numbers, as in torch.autograd.forward_ad.

A dual tensor is a primal whose tape starts anew, with a tangent beside it. Asking for the tangent
of a result pushes those of the duals along the tape to it (`autograd.forward`); nothing is computed
for what is not asked for. Operations on duals must be recorded with gradients on.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from flambeau.autograd.forward import pushforward
from flambeau.autograd.modes import _Mode, enable_grad, set_grad_enabled
from flambeau.ops.rows import NAMES
from flambeau.tape import place
from flambeau.tensor import Tensor


class UnpackedDualTensor(NamedTuple):
    """A primal, and its tangent or None."""

    primal: Tensor
    tangent: Tensor | None


class _Level:
    """An open level: the duals that were made in it, and their tangents."""

    def __init__(self) -> None:
        self.duals: list[Tensor] = []
        self.tangents: list[Tensor] = []


class _Thread(threading.local):
    """The one level there can be in a thread, or none."""

    def __init__(self) -> None:
        self.open: list[_Level] = []


_thread = _Thread()


def enter_dual_level() -> int:
    """Open a level, inside of which duals exist; -> its number, 0.

    Raises:
        RuntimeError: one is open.
    """
    if _thread.open:
        raise RuntimeError(
            "Nested forward mode AD is not supported at the moment. Please use torch.func.jvp"
        )
    _thread.open.append(_Level())
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """Close the level: its duals have no tangents any more.

    Raises:
        RuntimeError: none is open.
    """
    if not _thread.open:
        raise RuntimeError(
            "Trying to exit a forward AD level that was not the last one that was created"
        )
    _thread.open.pop()


class dual_level(_Mode):
    """Inside, duals exist: `with dual_level():`."""

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *exc: object) -> None:
        exit_dual_level()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """A tensor with the values of `tensor`, and `tangent` beside it.

    Args:
        tangent: of the shape and dtype of `tensor`.

    Raises:
        RuntimeError: no level is open, or the tangent does not fit.
    """
    if not _thread.open:
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists, make sure to "
            "enter_dual_level() first."
        )
    if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
        raise ValueError(
            f"Expected primal to be floating point or complex, but got: {tensor.dtype}"
        )
    if tangent._shape != tensor._shape:
        raise RuntimeError(
            f"Expected primal and tangent to have the same shape, got {list(tensor.shape)} and "
            f"{list(tangent.shape)}"
        )
    with enable_grad():
        tracked = tensor.requires_grad
        dual = NAMES["clone"](tensor) if tracked else place(NAMES["clone"](tensor.detach()))
    _thread.open[-1].duals.append(dual)
    _thread.open[-1].tangents.append(tangent)
    found: Tensor = dual
    return found


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """-> (primal, tangent): the tangent is None where no dual is involved, or no level open."""
    if not _thread.open or not tensor.requires_grad or not _thread.open[-1].duals:
        return UnpackedDualTensor(tensor, None)
    (tangent,) = pushforward((tensor,), _thread.open[-1].duals, _thread.open[-1].tangents)
    return UnpackedDualTensor(tensor, tangent)


class set_fwd_grad_enabled(set_grad_enabled):
    """Switch the recording of derivatives on or off: forward and reverse mode share the tape."""


__all__ = [
    "UnpackedDualTensor",
    "dual_level",
    "enter_dual_level",
    "exit_dual_level",
    "make_dual",
    "set_fwd_grad_enabled",
    "unpack_dual",
]
