"""Operators and their named forms: `add`, `sub`, and what `+`, `==`, `+=` on tensors mean.

Every operator is the row of its name; numbers may stand on either side, and other types get their
own say by NotImplemented.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau import overriding
from flambeau.ops.elementwise import abs, bitwise_not, mul, neg
from flambeau.ops.precision import rounded_once
from flambeau.ops.rows import NAMES, ROWS, new_row
from flambeau.ops.table import REFUSALS, _finish, binary, record_elementwise
from flambeau.ops.writing import write_out
from flambeau.overriding import UNCLAIMED, ask, overridable
from flambeau.tensor import Tensor


@overridable
def add(input: Any, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
    """input + alpha * other."""
    if alpha != 1 and isinstance(input, Tensor) and isinstance(other, Tensor):
        found = rounded_once(lambda a, b: _plus(a, mul(b, alpha)), input, other)
    else:
        if alpha != 1:
            other = mul(other, alpha) if isinstance(other, Tensor) else other * alpha
        found = _plus(input, other)
    return found if out is None else write_out(out, found, (input, other))


@overridable
def sub(input: Any, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
    """input - alpha * other."""
    first = isinstance(input, Tensor) and input.dtype.category == 0
    second = other.dtype.category == 0 if isinstance(other, Tensor) else type(other) is bool
    if first or second:
        raise RuntimeError(
            REFUSALS["minus"]
            if first and second
            else "Subtraction, the `-` operator, with a bool tensor is not supported. If you are "
            "trying to invert a mask, use the `~` or `logical_not()` operator instead."
        )
    if alpha != 1 and isinstance(input, Tensor) and isinstance(other, Tensor):
        found = rounded_once(lambda a, b: _minus(a, mul(b, alpha)), input, other)
    else:
        if alpha != 1:
            other = mul(other, alpha) if isinstance(other, Tensor) else other * alpha
        found = _minus(input, other)
    return found if out is None else write_out(out, found, (input, other))


_plus, _minus = binary(ROWS["plus"]), binary(ROWS["minus"])
ROWS["plus"].shown, ROWS["minus"].shown = lambda *_: add, lambda *_: sub
_OPERANDS = (Tensor, float, int, complex, np.generic)


def _operand(other: Any) -> Any:
    """What an operator computes with: numbers, tensors, and arrays as tensors; else
    NotImplemented."""
    if isinstance(other, _OPERANDS):
        return other
    return NAMES["as_tensor"](other) if isinstance(other, np.ndarray) else NotImplemented


def _asked(name: str, left: Any, right: Any) -> Any:
    return ask(NAMES[name], (left, right), {})


def _recorded(row: Any) -> Any:
    """What records a row where the common case, which `binary` has written out, is not met."""
    return lambda a, b: record_elementwise(row, (a, b))


def _operator(fast: Any, name: str, reflected: bool = False) -> Any:
    """The method of an operator.

    Args:
        fast: what computes it.
        name: the public function that it is, for those who override it.
        reflected: whether the tensor stands on the right.
    """

    def call(self: Any, other: Any) -> Any:
        if overriding.on and (found := _asked(name, self, other)) is not UNCLAIMED:
            return found
        if not isinstance(other, _OPERANDS) and (other := _operand(other)) is NotImplemented:
            return NotImplemented
        return fast(self, other)

    def call_reflected(self: Any, other: Any) -> Any:
        if overriding.on and (found := _asked(name, other, self)) is not UNCLAIMED:
            return found
        if not isinstance(other, _OPERANDS) and (other := _operand(other)) is NotImplemented:
            return NotImplemented
        return fast(other, self)

    return call_reflected if reflected else call


for _symbol, _row_name in {
    "mul": "mul",
    "truediv": "true_div",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "pow",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
    "add": "plus",
}.items():
    _row = ROWS[_row_name]
    _general = _recorded(_row)
    _public = {"true_div": "div", "plus": "add"}.get(_row_name, _row_name)
    setattr(Tensor, f"__{_symbol}__", binary(_row, _operator(_general, _public)))
    setattr(Tensor, f"__r{_symbol}__", _operator(_general, _public, reflected=True))
for _symbol in ("add", "mul"):  # these commute, and cost less with the tensor first
    setattr(Tensor, f"__r{_symbol}__", vars(Tensor)[f"__{_symbol}__"])
for _symbol in ("eq", "ne", "lt", "le", "gt", "ge"):
    _row = ROWS[_symbol]
    setattr(Tensor, f"__{_symbol}__", binary(_row, _operator(_recorded(_row), _symbol)))


setattr(Tensor, "__sub__", _operator(sub, "sub"))
setattr(Tensor, "__rsub__", _operator(sub, "sub", reflected=True))
setattr(Tensor, "__neg__", lambda self: neg(self))
setattr(Tensor, "__pos__", lambda self: self)
setattr(Tensor, "__abs__", lambda self: abs(self))


def _invert(self: Tensor) -> Tensor:
    if self.dtype.category == 2:
        raise TypeError(
            "~ (operator.invert) is only implemented on integer and Boolean-type tensors"
        )
    return bitwise_not(self)


setattr(Tensor, "__invert__", _invert)


def _augmented(name: str) -> Any:
    def call(self: Any, other: Any) -> Any:
        return getattr(self, name)(other)

    return call


for _symbol, _method in {
    "add": "add_",
    "sub": "sub_",
    "mul": "mul_",
    "truediv": "true_div_",
    "floordiv": "floor_divide_",
    "mod": "remainder_",
    "pow": "pow_",
    "and": "bitwise_and_",
    "or": "bitwise_or_",
    "xor": "bitwise_xor_",
    "lshift": "bitwise_left_shift_",
    "rshift": "bitwise_right_shift_",
}.items():
    setattr(Tensor, f"__i{_symbol}__", _augmented(_method))


for _function, _names in ((add, ()), (sub, ("subtract",))):
    _row = new_row(_function.__name__, "composite", _function, jvp="inherit")
    _row.parameters = ("input", "other")
    _finish(_row, _function, _function, inplace=True, aliases=_names)
setattr(Tensor, "__rdiv__", vars(Tensor)["__rtruediv__"])
