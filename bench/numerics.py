"""How close float32 results are to float64, for flambeau and for PyTorch.

    python -m bench.numerics                 every row of the table that PyTorch has under its name
    python -m bench.numerics --row exp --row softmax
    python -m bench.numerics --worse         only the rows where flambeau is further off

Each row is computed in float32 by both, on the row's own samples and, for elementwise rows, on many
more numbers of many magnitudes. The reference is PyTorch in float64. Errors are in units in the
last place: of each reference value for elementwise rows, of the largest one that any draw of the
sample gives otherwise (a sum that cancels has no meaningful last place of its own).

A row is further off where its largest error exceeds PyTorch's by more than `EQUAL_ULPS`. Where
results come from several roundings in an order of the library's choice (any row that is not
elementwise), the largest error of a few hundred values is a matter of luck, so there the mean error
has to exceed PyTorch's as well.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import flambeau
from flambeau.dtype import float32
from flambeau.ops.rows import NAMES, ROWS
from flambeau.tensor import Tensor

#: Differences of the largest errors below this are no reason to prefer either result: one in ten
#: results near the midpoint of two numbers is then rounded to the other side.
EQUAL_ULPS = 0.1
#: The same of mean errors.
EQUAL_MEAN_ULPS = 0.02
#: A correctly rounded result is this far off at most.
ROUNDED_ULPS = 0.5

#: How often each row's samples are drawn, and how many numbers of each magnitude are added.
DRAWS = 32
DENSE_COUNT = 20_000

Arguments = tuple[Any, ...]


@dataclass
class Accuracy:
    """Largest and mean error of a row, in units in the last place, of both libraries."""

    row: str
    values: int
    largest: float
    mean: float
    torch_largest: float
    torch_mean: float
    each: bool = True
    failure: str = ""

    def is_worse(self) -> bool:
        """Whether flambeau's error exceeds PyTorch's and plain rounding."""
        largest = self.largest > max(self.torch_largest, ROUNDED_ULPS) + EQUAL_ULPS
        mean = self.each or self.mean > self.torch_mean + EQUAL_MEAN_ULPS
        return bool(self.failure) or (largest and mean)


def torch_function(name: str) -> Callable[..., Any] | None:
    """PyTorch's function of a row's name."""
    places = (torch, torch.nn.functional, torch.special, torch.linalg, torch.Tensor)
    return next((f for place in places if callable(f := getattr(place, name, None))), None)


def own_function(name: str) -> Callable[..., Any] | None:
    """flambeau's function of a row's name."""
    place = getattr(getattr(flambeau, "nn", None), "functional", None)
    return NAMES.get(name) or getattr(place, name, None) or getattr(Tensor, name, None)


def convert(value: Any, leaf: Callable[[np.ndarray], Any]) -> Any:
    """Arguments with every flambeau tensor turned into an array and then into what `leaf` makes."""
    if isinstance(value, Tensor):
        return leaf(value.detach().numpy())
    if isinstance(value, type(float32)):
        return getattr(torch, value.name)
    if isinstance(value, list | tuple):
        return type(value)(convert(item, leaf) for item in value)
    if isinstance(value, dict):
        return {key: convert(item, leaf) for key, item in value.items()}
    return value


def as_torch(array: np.ndarray) -> torch.Tensor:
    """A copy for PyTorch, float32 as it is."""
    return torch.from_numpy(array.copy())


def as_double(array: np.ndarray) -> torch.Tensor:
    """A copy for the reference, floating-point numbers widened."""
    wide = array.astype(np.float64) if array.dtype.kind == "f" else array.copy()
    return torch.from_numpy(wide)


def arrays(result: Any) -> list[np.ndarray]:
    """The arrays of a result, which may be a tensor or a tuple of them."""
    if isinstance(result, list | tuple):
        return [array for item in result for array in arrays(item)]
    if isinstance(result, Tensor | torch.Tensor):
        return [result.detach().numpy()]
    return []


def dense(arity: int) -> Iterator[Arguments]:
    """Many numbers of many magnitudes, for elementwise rows."""
    random = np.random.default_rng(0)
    for draw in (
        lambda: random.standard_normal(DENSE_COUNT),
        lambda: random.uniform(0, 1, DENSE_COUNT),
        lambda: random.uniform(-20, 20, DENSE_COUNT),
        lambda: np.exp(random.uniform(-20, 20, DENSE_COUNT)),
    ):
        yield tuple(NAMES["tensor"](draw().astype(np.float32)) for _ in range(arity))


class Draw:
    """Makes the tensors of samples: `r(*shape, dtype=, low=, high=)`, uniform in [low, high)."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def __call__(
        self, *shape: int, dtype: Any = float32, low: float = -1.0, high: float = 1.0
    ) -> Any:
        if dtype.name == "bool":
            return NAMES["tensor"](self.random.integers(0, 2, shape).astype(bool))
        if not dtype.is_floating_point:
            return NAMES["tensor"](
                self.random.integers(int(low), int(high), shape).astype(dtype.numpy)
            )
        return NAMES["tensor"](self.random.uniform(low, high, shape).astype(dtype.numpy))


def samples(name: str) -> Iterator[tuple[int, Arguments, dict[str, Any]]]:
    """The arguments to try a row on: its own samples, drawn several times, and dense ones.

    Before them comes a number, the same for every draw of one sample.
    """
    row = ROWS[name]
    if row.samples is not None:
        for seed in range(DRAWS):
            for index, sample in enumerate(row.samples(Draw(seed))):
                *arguments, last = sample
                if isinstance(last, dict):
                    yield index, tuple(arguments), last
                else:
                    yield index, tuple(sample), {}
    if row.kind == "elementwise":
        for arguments in dense(len(row.parameters)):
            yield -1, arguments, {}


def ordinary_sizes(want: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes, and where they are those of ordinary float32 numbers."""
    size = np.abs(want)
    tiny, huge = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    return size, np.isfinite(want) & (size >= tiny) & (size <= huge)


def errors(got: np.ndarray, want: np.ndarray, each: bool, largest: float = 0.0) -> np.ndarray:
    """Errors in units in the last place, where the reference is an ordinary float32 number.

    Unless `each` is set, in those of the largest reference value or of `largest`.
    """
    size, ordinary = ordinary_sizes(want)
    if not ordinary.any():
        return np.zeros(0)
    got, want, size = got[ordinary].astype(np.float64), want[ordinary], size[ordinary]
    scale = size if each else np.full_like(size, max(size.max(), largest))
    found = np.abs(got - want) / np.spacing(scale.astype(np.float32))
    return np.where(np.isnan(found), np.inf, found)


def compare(name: str) -> Accuracy | None:
    """The accuracy of one row, or None where there is nothing to compare."""
    own, other = own_function(name), torch_function(name)
    if own is None or other is None:
        return None
    each = ROWS[name].kind == "elementwise"
    results: list[tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray]] = []
    largest: dict[tuple[int, int], float] = {}
    for index, arguments, options in samples(name):
        call = (arguments, options)
        try:
            with torch.no_grad():
                positional, named = convert(call, as_double)
                wanted = arrays(other(*positional, **named))
                positional, named = convert(call, as_torch)
                theirs = arrays(other(*positional, **named))
        except (TypeError, RuntimeError, ValueError, IndexError):
            continue  # a form of the call that PyTorch does not have
        try:
            ours = arrays(own(*arguments, **options))
        except Exception as error:  # any failure is reported beside the row
            return Accuracy(name, 0, np.inf, np.inf, 0, 0, each, f"{type(error).__name__}: {error}")
        for place, (got, peer, want) in enumerate(zip(ours, theirs, wanted)):
            if got.dtype == np.float32 and want.dtype == np.float64 and got.shape == want.shape:
                size, ordinary = ordinary_sizes(want)
                key = index, place
                largest[key] = max(largest.get(key, 0.0), size.max(initial=0.0, where=ordinary))
                results.append((key, got, peer, want))
    parts = [
        (errors(got, want, each, largest[key]), errors(peer, want, each, largest[key]))
        for key, got, peer, want in results
    ]
    if not any(mine.size for mine, _ in parts):
        return None
    mine, their = (np.concatenate(part) for part in zip(*parts))
    return Accuracy(name, mine.size, mine.max(), mine.mean(), their.max(), their.mean(), each)


def table(results: list[Accuracy]) -> Table:
    """The report, furthest from PyTorch first."""
    made = Table(title="Error of float32 results against float64, in units in the last place")
    made.add_column("row")
    for title in ("values", "largest", "torch's", "mean", "torch's"):
        made.add_column(title, justify="right")
    for one in sorted(results, key=lambda one: one.torch_largest - one.largest):
        numbers = (one.largest, one.torch_largest, one.mean, one.torch_mean)
        style = "red" if one.is_worse() else None
        made.add_row(one.row, str(one.values), *(f"{n:.3g}" for n in numbers), style=style)
    return made


def main() -> int:
    """Run the command; the exit status is 1 where flambeau is further off in some row."""
    options = argparse.ArgumentParser(
        prog="python -m bench.numerics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--row", action="append", metavar="NAME", help="may be given again")
    options.add_argument("--worse", action="store_true", help="show these rows only")
    chosen = options.parse_args()
    importlib.import_module("flambeau.ops.samples")
    names = chosen.row or sorted(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        options.error(f"no row named {', '.join(unknown)}")
    results = [found for name in names if (found := compare(name)) is not None]
    worse = [one for one in results if one.is_worse()]
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table(worse if chosen.worse else results))
    for one in results:
        if one.failure:
            console.print(f"{one.row} failed: {one.failure}", style="red", markup=False)
    console.print(
        f"{len(results)} rows compared, {len(worse)} further from float64 than PyTorch; "
        f"{len(names) - len(results)} have no float32 form there"
    )
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
