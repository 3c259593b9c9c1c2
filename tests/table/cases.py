"""The samples of the table's rows as calls: drawn, evaluated, interpreted, differentiated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import flambeau
import flambeau.ops.samples
from flambeau import record
from flambeau.ir.graph import Op
from flambeau.ir.interpret import interpret
from flambeau.ops.rows import FUNCTIONAL, NAMES, ROWS, SPACES
from flambeau.passes.pipeline import lower
from flambeau.runtime.host import array_of
from flambeau.tensor import Tensor

FLOATS = (flambeau.float32, flambeau.float64, flambeau.float16, flambeau.bfloat16)
INTEGERS = (flambeau.int64, flambeau.int32, flambeau.int16, flambeau.int8, flambeau.uint8)
ALL = (*FLOATS, *INTEGERS, flambeau.bool)

#: Classes of the errors with which a row refuses a dtype when it is called.
REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError)

#: How far results may differ that round differently, relative to the largest of them.
TOLERANCE = {
    "complex64": 2e-5,
    "complex128": 1e-11,
    "float64": 1e-11,
    "float32": 2e-5,
    "float16": 6e-3,
    "bfloat16": 5e-2,
}

#: Rows that can be called with samples.
SAMPLED = sorted(name for name, row in ROWS.items() if row.samples is not None)


#: Rows whose results are defined up to signs, which the database of calls compares without them.
UP_TO_SIGNS = {"svd", "linalg_svd", "linalg_eig", "linalg_eigh"}


class Draw:
    """Makes the tensors of samples: `r(*shape, dtype=, low=, high=)`, uniform in [low, high).

    Args:
        dtype: of tensors whose dtype the sample leaves open.
        step: how far along their `directions` the leaves in `moved` stand from their place.
    """

    def __init__(self, dtype: Any, *, seed: int = 7, grad: bool = False, step: float = 0.0,
                 moved: frozenset[int] = frozenset()) -> None:  # fmt: skip
        self.dtype = dtype
        self.seed = seed
        self.grad = grad
        self.step = step
        self.moved = moved
        self.leaves: list[Tensor] = []

    def direction(self, number: int) -> np.ndarray:
        """Where leaf `number` is moved."""
        shape = tuple(self.leaves[number].shape)
        return np.random.default_rng((self.seed, number, 1)).uniform(-1.0, 1.0, shape)

    def __call__(self, *shape: int, dtype: Any = None, low: float = -2.0, high: float = 2.0) -> Any:
        chosen = dtype or self.dtype
        number = len(self.leaves)
        random = np.random.default_rng((self.seed, number))
        if chosen.is_floating_point:
            values = random.uniform(low, high, shape)
            if number in self.moved:
                step = np.random.default_rng((self.seed, number, 1)).uniform(-1.0, 1.0, shape)
                values = values + self.step * step
            found = flambeau.tensor(values.astype(chosen.numpy))
            found.requires_grad = self.grad
        elif chosen is flambeau.bool:
            values = random.integers(int(low > 0), 2, shape)
            found = flambeau.tensor(values.astype(bool))
        else:
            bottom, top = math.ceil(low), math.ceil(high)
            if not chosen.is_signed:
                bottom, top = (1 - top, 1 - bottom) if top <= 0 else (max(bottom, 0), top)
            values = random.integers(bottom, max(top, bottom + 1), shape)
            found = flambeau.tensor(values.astype(chosen.numpy))
        self.leaves.append(found)
        return found


@dataclass
class Call:
    """One sample: the arguments of a call of a row."""

    row: Op
    number: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self) -> list[Tensor]:
        assert self.row.call is not None
        return tensors(self.row.call(*self.args, **self.kwargs))

    def __repr__(self) -> str:
        return f"{self.row.name}[{self.number}]"


def calls(name: str, draw: Draw) -> list[Call]:
    """The samples of a row."""
    row = ROWS[name]
    assert row.samples is not None
    found = []
    for number, sample in enumerate(row.samples(draw)):
        named = bool(sample) and isinstance(sample[-1], dict)
        args, kwargs = (sample[:-1], sample[-1]) if named else (sample, {})
        if any(i < len(args) and not isinstance(args[i], Tensor) for i in row.tensors):
            continue  # numbers that other rows' bodies give, and users may not
        found.append(Call(row, number, tuple(args), kwargs))
    return found


def tensors(value: Any) -> list[Tensor]:
    """The tensors of a result."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in tensors(item)]
    return []


def mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Arguments with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(mapped(item, change) for item in value)
    if isinstance(value, dict):
        return {key: mapped(item, change) for key, item in value.items()}
    return value


def array(t: Tensor) -> np.ndarray:
    """The values, half types as float32."""
    values = np.array(t.detach()._array())
    return values.astype(np.float32) if t.dtype.name in ("float16", "bfloat16") else values


def public(name: str) -> Callable[..., Any] | None:
    """What users call by a row's name, or None where the row is internal."""
    call = ROWS[name].call
    if name.startswith("_"):
        return None
    if any(call in names.values() for names in SPACES.values()):
        return call
    for place in (NAMES, FUNCTIONAL, vars(Tensor)):
        if place.get(name) is not None and place[name] is call:
            return call
    return None


def difference(got: np.ndarray, want: np.ndarray, dtype: str, slack: float = 1.0) -> str | None:
    """How two arrays differ beyond rounding in `dtype`, or None."""
    if got.shape != want.shape:
        return f"shape {got.shape}, wanted {want.shape}"
    if got.dtype.kind in "iub":
        return None if np.array_equal(got, want) else f"{got.tolist()}, wanted {want.tolist()}"
    wide = np.complex128 if got.dtype.kind == "c" else np.float64
    want, got = want.astype(wide), got.astype(wide)
    tolerance = TOLERANCE[dtype] * slack
    finite = np.abs(want[np.isfinite(want)])
    scale = float(finite.max()) if finite.size else 0.0
    if np.allclose(got, want, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
        return None
    return f"{got.tolist()}, wanted {want.tolist()}"


def interpreted(found: list[Tensor]) -> dict[int, np.ndarray]:
    """What NumPy makes of the pending program of some tensors: id of a cell -> its values."""
    cells = list({id(t._cell): t._cell for t in found if t._cell.node.buffer is None}.values())
    if not cells:
        return {}
    key, nodes, inputs, numbers = record.canonical(cells)
    graph = record.lift(key, nodes, inputs)
    arrays = [
        array_of(record.memory_of(n).ptr, g.shape, g.dtype)
        for n, g in zip(inputs, graph.inputs, strict=True)
    ]
    graph = lower(graph)
    values = interpret(graph, arrays, numbers)
    return {id(cell): np.array(value) for cell, value in zip(cells, values, strict=True)}


def cell_values(t: Tensor) -> np.ndarray:
    """The values of a tensor's whole storage."""
    buffer = record.realise(t._cell)
    node = t._cell.node  # whose dtype may be another than the tensor's, a view of it
    return np.array(array_of(buffer.ptr, node.shape, node.dtype))


def pairs(t: Tensor) -> Tensor:
    """A tensor of real numbers: complex ones as pairs."""
    return flambeau.view_as_real(t) if t.dtype.is_complex else t


def weighted(found: list[Tensor]) -> Tensor | None:
    """A scalar that depends differently on every element of the differentiable results."""
    total = None
    for k, t in enumerate(found):
        if not t.requires_grad:
            continue
        t = pairs(t)
        weights = np.cos(np.arange(t.numel()) * 1.3 + k).reshape(tuple(t.shape))
        part = (t * flambeau.tensor(weights.astype(t.dtype.numpy))).sum()
        total = part if total is None else total + part.to(total.dtype)
    return total


def rows(choose: Callable[[Op], bool]) -> Iterator[str]:
    """Names of the sampled rows that satisfy a predicate."""
    return (name for name in SAMPLED if choose(ROWS[name]))
