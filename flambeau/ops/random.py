"""Random numbers: what PyTorch's names draw, from the chosen stream (`ops/streams.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.device import resolve
from flambeau.dtype import dtype as DType
from flambeau.ir.fault import Fault
from flambeau.ops.conversion import to_dtype
from flambeau.ops.generator import Generator, default_generator
from flambeau.ops.indexing import held
from flambeau.ops.ordering import some_largest
from flambeau.ops.rows import NAMES, published
from flambeau.ops.streams import stream
from flambeau.ops.table import composite, emit, primitive
from flambeau.ops.writing import check_writable, store, write_out
from flambeau.size import broadcast_shapes, no_negative, shape_of
from flambeau.tensor import Tensor

_PROBABILITY = Fault("Expected p_in >= 0 && p_in <= 1 to be true, but got false.", RuntimeError)
_DEVIATION = Fault("normal expects all elements of std >= 0.0", RuntimeError)


def _wide_uniform(
    shape: tuple[int, ...], dtype: DType, generator: Generator | None, device: Any = None
) -> Tensor:
    return stream().uniform(shape, dtype, generator or default_generator, resolve(device))


def uniform01(
    shape: tuple[int, ...], dtype: DType, generator: Generator | None, device: Any = None
) -> Tensor:
    """Uniform values in [0, 1)."""
    found = to_dtype(_wide_uniform(shape, dtype, generator, device), dtype)
    return found if dtype.itemsize >= 4 else _below(found, 0.0, 1.0)


def _below(found: Tensor, low: float, high: float) -> Tensor:
    """Values in [low, high), of which those that were rounded up to the bound are the lower one."""
    return NAMES["where"](found < high, found, low)


def uniform_open(shape: tuple[int, ...], dtype: DType, generator: Generator | None) -> Tensor:
    """Uniform values in (0, 1), in at least float32."""
    return stream().open(shape, dtype, generator or default_generator, resolve(None))


def normal_values(
    shape: tuple[int, ...],
    dtype: DType,
    generator: Generator | None,
    device: Any = None,
    mean: Any = 0.0,
    std: Any = 1.0,
    pairs: bool = False,
) -> Tensor:
    """Normal values of a mean and a standard deviation (numbers or tensors), one pair after the
    other if need be."""
    if dtype.is_complex:  # both parts have half of the variance
        part = dtype.to_real()
        found = normal_values((*shape, 2), part, generator, device, 0.0, math.sqrt(0.5))
        found = NAMES["view_as_complex"](found)
        return found if mean == 0.0 and std == 1.0 else found * std + mean
    where = resolve(device)
    found = stream().normal(shape, dtype, generator or default_generator, where, pairs)
    if isinstance(std, Tensor) or std != 1.0:
        found = found * std
    if isinstance(mean, Tensor) or mean != 0.0:
        found = found + mean
    return to_dtype(found, dtype)


def _finish(t: Tensor, requires_grad: bool, out: Any) -> Tensor:
    if out is not None:
        return write_out(out, t)
    if requires_grad:
        t.requires_grad = True
    return t


@composite(method=False)
def rand(
    *size: Any,
    generator: Generator | None = None,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Uniform values in [0, 1)."""
    return _finish(
        uniform01(
            no_negative(shape_of(size)), dtype or dtypes.get_default_dtype(), generator, device
        ),
        requires_grad,
        out,
    )


@composite(method=False)
def randn(
    *size: Any,
    generator: Generator | None = None,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Standard normal values."""
    return _finish(
        normal_values(
            no_negative(shape_of(size)), dtype or dtypes.get_default_dtype(), generator, device
        ),
        requires_grad,
        out,
    )


@composite(method=False)
def rand_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """`rand` with the shape and dtype of a tensor."""
    where = input.device if device is None else device
    kind = dtype or input.dtype
    found = by_memory(input, lambda shape: uniform01(shape, kind, generator, where))
    return _finish(found, requires_grad, None)


@composite(method=False)
def randn_like(
    input: Tensor,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """`randn` with the shape and dtype of a tensor."""
    where = input.device if device is None else device
    kind, pairs = dtype or input.dtype, not input.is_contiguous()
    found = by_memory(
        input, lambda shape: normal_values(shape, kind, generator, where, pairs=pairs)
    )
    return _finish(found, requires_grad, None)


def integers(
    shape: tuple[int, ...],
    low: int,
    high: int,
    dtype: DType,
    generator: Generator | None,
    device: Any = None,
    wide: bool | None = None,
) -> Tensor:
    """Uniform integers in [low, high); `wide` says whether they take more than 32 bits each, which
    else follows from the bounds."""
    if low >= high:
        raise RuntimeError(
            f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"
        )
    where = resolve(device)
    found = stream().integers(shape, high - low, wide, generator or default_generator, where)
    return to_dtype(found + low if low else found, dtype)


@composite(method=False)
def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Uniform integers in [low, high): `randint(high, size)` or `randint(low, high, size)`."""
    if size is None:
        low, high, size = 0, low, high
    shape = no_negative(tuple(size))
    found = integers(shape, int(low), int(high), dtype or dtypes.int64, generator, device)
    return _finish(found, requires_grad, out)


@composite(method=False)
def randint_like(
    input: Tensor,
    low: int,
    high: Any = None,
    *,
    dtype: DType | None = None,
    device: Any = None,
    layout: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`randint` with the shape and dtype of a tensor."""
    low, high = (0, low) if high is None else (low, high)
    where = input.device if device is None else device
    return integers(input._shape, low, high, dtype or input.dtype, None, where)


def _uniform_(
    self: Tensor, a: float = 0, b: float = 1, *, generator: Generator | None = None, **old: Any
) -> Tensor:
    """Fill with uniform values in [a, b); -> self."""
    a, b = old.get("from", a), old.get("to", b)
    if a > b:
        raise RuntimeError(
            f"uniform_ expects to return a [from, to) range, but found from={a} > to={b}"
        )
    check_writable(self)
    if self.dtype.is_complex:
        _uniform_(NAMES["view_as_real"](self.detach()), a, b, generator=generator)
        return self

    def drawn(shape: tuple[int, ...]) -> Tensor:
        wide = _wide_uniform(shape, self.dtype, generator, self.device)
        return _below(to_dtype(wide * float(b - a) + float(a), self.dtype), float(a), float(b))

    return _filled(self, drawn)


def _normal_(
    self: Tensor, mean: float = 0, std: float = 1, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal values of the given mean and standard deviation; -> self."""
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    check_writable(self)

    def drawn(shape: tuple[int, ...]) -> Tensor:
        numbers, pairs = (float(mean), float(std)), not self.is_contiguous()
        return normal_values(shape, self.dtype, generator, self.device, *numbers, pairs)

    return _filled(self, drawn)


def _random_(
    self: Tensor, low: int = 0, high: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Fill with uniform integers in [low, high), by default all the dtype can hold; -> self."""
    wide = None
    if high is None and low:
        low, high = 0, low
    elif high is None:
        high, wide = _ALL[self.dtype.name], self.dtype.itemsize == 8
    check_writable(self)
    last = int(high)
    return _filled(
        self,
        lambda shape: integers(shape, low, last, self.dtype, generator, self.device, wide),
    )


def _filled(t: Tensor, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """Fill a tensor with what is drawn for a shape; -> it."""
    store(t, to_dtype(by_memory(t, draw), t.dtype))
    return t


def by_memory(t: Tensor, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """What is drawn for a tensor, one element after the other as they lie in its memory where the
    stream is one that has an order."""
    if t._map is None or stream().anywhere:
        return draw(t._shape)
    order = sorted(range(t.ndim), key=lambda d: -t.stride(d))
    found = draw(tuple(t._shape[d] for d in order))
    return NAMES["permute"](found, tuple(np.argsort(order).tolist()))


#: How many integers `random_` draws from: those that the dtype holds exactly, none below 0.
_ALL = {
    "bool": 2,
    "uint8": 1 << 8,
    "int8": 1 << 7,
    "int16": 1 << 15,
    "int32": 1 << 31,
    "int64": 1 << 63,
    "float16": (1 << 11) + 1,
    "bfloat16": (1 << 8) + 1,
    "float32": (1 << 24) + 1,
    "float64": (1 << 53) + 1,
}

_fills: dict[str, Any] = {"uniform_": _uniform_, "normal_": _normal_, "random_": _random_}
for _name, _function in _fills.items():
    setattr(Tensor, _name, published(_name, _function))


def keep_mask(
    shape: tuple[int, ...], p: float, generator: Generator | None = None, device: Any = None
) -> Tensor:
    """True with probability 1 - p."""
    where = resolve(device)
    return stream().chance(shape, 1.0 - p, generator or default_generator, where)


def keep_mask_of(t: Tensor, p: float) -> Tensor:
    """True with probability 1 - p, for each element of a tensor."""
    return by_memory(t, lambda shape: keep_mask(shape, p, None, t.device))


# -- distributions ---------------------------------------------------------------------------------


@composite(method=False)
def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A random permutation of 0 .. n - 1, int64 by default."""
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    where = resolve(device)
    found = stream().permutation(int(n), generator or default_generator, where)
    return _finish(to_dtype(found, dtype or dtypes.int64), requires_grad, out)


def _probability(p: Any, name: str) -> None:
    if not isinstance(p, Tensor) and not 0 <= p <= 1:
        raise RuntimeError(f"{name} expects p to be in [0, 1], but got p={p}")


@composite()
def bernoulli(
    input: Tensor, p: Any = None, *, generator: Generator | None = None, out: Any = None
) -> Tensor:
    """1 with the probability that each element of input gives (or with p), else 0."""
    if p is None and input.dtype.category != 2:
        raise NotImplementedError(
            f"\"bernoulli_tensor_cpu_p_\" not implemented for '{input.type()[6:-6]}'"
        )
    _probability(0 if p is None else p, "bernoulli_")
    found = _chosen(input._shape, input if p is None else p, generator, input.device)
    return _finish(to_dtype(found, input.dtype), False, out)


def _chosen(shape: tuple[int, ...], p: Any, generator: Generator | None, device: Any) -> Tensor:
    """True with probability p, a number or a tensor of floats."""
    if not isinstance(p, Tensor):
        return keep_mask(shape, 1.0 - p, generator, device)
    kind = dtypes.float64 if p.dtype is dtypes.float64 else dtypes.float32
    p = p.detach()
    p = held(p, (p >= 0.0).logical_and(p <= 1.0), _PROBABILITY)
    return _wide_uniform(shape, kind, generator, device) < p


def _bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability p (a number or a tensor of them), else 0; -> self."""
    _probability(p, "bernoulli_")
    check_writable(self)
    return _fill(self, _chosen(self._shape, p, generator, self.device))


@composite(method=False)
def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    out: Any = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Normal values; mean and std are tensors that broadcast, or numbers with a size."""
    given = [t for t in (mean, std) if isinstance(t, Tensor)]
    if not isinstance(std, Tensor) and std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    if size is not None:
        shape = no_negative(tuple(size))
    elif given:
        shape = broadcast_shapes(*(t._shape for t in given))
    else:
        raise TypeError("normal() of numbers needs a size")
    chosen = dtype or (given[0].dtype if given else dtypes.get_default_dtype())
    if isinstance(std, Tensor):
        std = held(std, std >= 0.0, _DEVIATION)
    found = normal_values(shape, chosen, generator, device, mean, std)
    return _finish(found.detach(), requires_grad, out)


@primitive("host", differentiable=False)
def poisson_draw(row: Any, rate: Tensor, seed: int, first: int) -> Tensor:
    """Poisson values of the given rates, by NumPy's generator at a place of the stream."""
    return emit(row, (rate,), (), rate._shape, rate.dtype, (seed, first))


def _poisson_reference(rate: Any, seed: int, first: int) -> Any:
    wide = rate.astype(np.float64)
    if wide.size and not wide.min() >= 0:
        raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")
    key = np.array([seed & (1 << 64) - 1, first], np.uint64)
    draw = np.random.Generator(np.random.Philox(key=key)).poisson(wide)
    return np.asarray(draw).astype(rate.dtype)


poisson_draw.reference(_poisson_reference)
poisson_draw.batch("draw")


@composite(method=False)
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson values whose rates are the elements of input."""
    return poisson_draw(
        input.detach(), *(generator or default_generator).take(max(input.numel(), 1))
    )


@primitive("host", differentiable=False)
def draw_places(row: Any, weights: Tensor, draws: Tensor, count: int, replacement: bool) -> Tensor:
    """Indices drawn in proportion to weights (last dimension), from uniform draws, or from
    exponential ones without replacement."""
    return emit(
        row, (weights, draws), (count, replacement), (*weights._shape[:-1], count), dtypes.int64
    )


def _draw_reference(weights: Any, draws: Any, count: int, replacement: bool) -> Any:
    weights = weights.astype(np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    total = weights.sum(-1, keepdims=True)
    if not (total > 0).all():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    if not replacement:
        if ((weights > 0).sum(-1) < count).any():
            raise RuntimeError(
                "invalid multinomial distribution (with replacement=False, not "
                "enough non-negative category to sample)"
            )
        # the largest of weight / exponential draws: Efraimidis and Spirakis (2006)
        return some_largest(weights / draws, count)
    sums = np.cumsum(weights, -1) / total
    found = np.empty((*weights.shape[:-1], count), np.int64)
    last = weights.shape[-1] - 1 - np.argmax(weights[..., ::-1] > 0, -1)
    for place in np.ndindex(*weights.shape[:-1]):
        at = np.searchsorted(sums[place], draws[place], "right")
        found[place] = np.minimum(at, last[place])
    return found


draw_places.reference(_draw_reference)


@composite(out=True)
def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Indices drawn in proportion to the weights in each row of input.

    Raises:
        RuntimeError: no floats, not 1 or 2 dimensions, more draws than categories without
            replacement; at the flush: weights that are negative or not finite, or sum to 0.
    """
    if input.dtype.category != 2:
        raise RuntimeError(
            f"multinomial only supports floating-point dtypes for input, got: {input.type()[6:-6]}"
        )
    if input.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > input._shape[-1]:
        raise RuntimeError(
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement"
        )
    again = bool(replacement) and num_samples > 1  # a single draw is one without replacement
    if again:
        draws = uniform_open((*input._shape[:-1], num_samples), dtypes.float64, generator)
    else:
        draws = to_dtype(exponentials(input._shape, input.dtype, generator), input.dtype)
    return draw_places(input.detach(), draws, int(num_samples), again)


def exponentials(shape: tuple[int, ...], dtype: DType, generator: Generator | None) -> Tensor:
    """Exponential values of rate 1, in the dtype or a wider one; none is 0."""
    return -NAMES["log1p"](-uniform_open(shape, dtype, generator))


def _exponential_(self: Tensor, lambd: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponential values of the given rate; -> self."""
    if not lambd > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    return _fill(self, exponentials(self._shape, self.dtype, generator) * (1.0 / lambd))


def _geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials to the first success of probability p; -> self."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    draw = NAMES["log"](uniform_open(self._shape, dtypes.float64, generator))
    return _fill(self, NAMES["ceil"](draw * (1.0 / math.log1p(-p))))


def _cauchy_(
    self: Tensor, median: float = 0, sigma: float = 1, *, generator: Generator | None = None
) -> Tensor:
    """Fill with Cauchy values of the given median and scale; -> self."""
    if not sigma > 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    draw = uniform_open(self._shape, self.dtype, generator)
    return _fill(
        self,
        NAMES["tan"]((draw - 0.5) * math.pi) * float(sigma) + float(median),
    )


def _log_normal_(
    self: Tensor, mean: float = 1, std: float = 2, *, generator: Generator | None = None
) -> Tensor:
    """Fill with values whose logarithms are normal; -> self."""
    if not std > 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std}")
    numbers = float(mean), float(std)
    draw = normal_values(self._shape, self.dtype, generator, self.device, *numbers, True)
    return _fill(self, NAMES["exp"](draw))


def _fill(t: Tensor, value: Tensor) -> Tensor:
    check_writable(t)
    store(t, to_dtype(value, t.dtype))
    return t


_fills = {
    "bernoulli_": _bernoulli_,
    "exponential_": _exponential_,
    "geometric_": _geometric_,
    "cauchy_": _cauchy_,
    "log_normal_": _log_normal_,
}
for _name, _function in _fills.items():
    setattr(Tensor, _name, published(_name, _function))
