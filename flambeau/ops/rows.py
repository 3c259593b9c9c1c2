"""The rows by name, and what is written on a row once it is declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from flambeau.ir.graph import Op
from flambeau.overriding import overridable

#: Every row by name, every public name -> function, and every name of `nn.functional`.
ROWS: dict[str, Op] = {}
NAMES: dict[str, Any] = {}
FUNCTIONAL: dict[str, Callable[..., Any]] = {}
#: What the table publishes in the modules of families: module -> name there -> function.
SPACES: dict[str, dict[str, Callable[..., Any]]] = {
    space: {} for space in ("fft", "linalg", "masked", "signal.windows", "special")
}


def new_row(name: str, kind: str, body: Callable[..., Any], **fields: Any) -> Op:
    """A row of that name, entered in the table.

    Raises:
        ValueError: the name is taken.
    """
    if name in ROWS:
        raise ValueError(f"row {name!r} is declared twice")
    op = Op(name, kind, body)
    op.signature = inspect.signature(body)
    op.parameters = tuple(op.signature.parameters)
    for field, value in fields.items():
        setattr(op, field, value)
    ROWS[name] = op
    return op


def set_vjp(op: Op, rule: Callable[..., Any], saves: str = "") -> None:
    """Give a row its vector-Jacobian product.

    `saves` names what it reads: parameters, "out", or single results as "out0", "out1", ...
    """
    op.vjp = rule
    op.saves = frozenset(saves.replace(",", " ").split())


def set_samples(op: Op, samples: Callable[..., Any], gradcheck: bool = True) -> None:
    """Give a row samples(rand) -> argument tuples; `gradcheck`: also for finite differences."""
    op.samples = samples
    op.gradcheck = gradcheck


def published(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Publish a plain function, which is also a method."""
    function.__name__ = function.__qualname__ = name
    NAMES[name] = overridable(function)
    found: Callable[..., Any] = NAMES[name]
    return found


def functional(name: str) -> Callable[[Any], Any]:
    """Publish a plain function under `nn.functional`, where its form differs from the row's."""

    def declare(body: Callable[..., Any]) -> Any:
        body.__name__ = body.__qualname__ = name
        FUNCTIONAL[name] = overridable(body)
        return FUNCTIONAL[name]

    return declare
