"""Random numbers: a counter-based generator, so that a value depends only on (seed, place).

Each call takes the generator's seed and a block of its counter when it is recorded; the bits are
made inside the fused program (Threefry-2x32 with 20 rounds, Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011). Streams are deterministic; they are not torch's bit for bit.
"""

from __future__ import annotations

import math
import os
import threading
from typing import Any

import numpy as np

from flambeau import dtypes, record
from flambeau.device import resolve
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import Drawn, Node
from flambeau.ops.conversion import to_dtype
from flambeau.ops.ordering import ranked, some_largest
from flambeau.ops.rows import NAMES, ROWS, published
from flambeau.ops.table import composite, elementwise, emit, primitive
from flambeau.ops.writing import check_writable, store
from flambeau.size import broadcast_shapes, shape_of
from flambeau.tensor import Tensor, make

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(seed: int, counter: Any) -> Any:
    """Threefry-2x32-20 of 64-bit counters (uint64 array) under a 64-bit key -> uint64 array."""
    mask = np.uint64(0xFFFFFFFF)
    k0, k1 = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF)
    keys = (k0, k1, np.uint32(k0 ^ k1 ^ np.uint32(0x1BD11BDA)))
    counter = np.asarray(counter, np.uint64)
    with np.errstate(over="ignore"):
        x0 = (counter & mask).astype(np.uint32) + keys[0]
        x1 = (counter >> np.uint64(32)).astype(np.uint32) + keys[1]
        for block in range(5):
            for r in _ROTATIONS[block % 2]:
                x0 = x0 + x1
                x1 = (x1 << np.uint32(r)) | (x1 >> np.uint32(32 - r))
                x1 = x1 ^ x0
            x0 = x0 + keys[(block + 1) % 3]
            x1 = x1 + keys[(block + 2) % 3] + np.uint32(block + 1)
    return x1.astype(np.uint64) << np.uint64(32) | x0.astype(np.uint64)


@elementwise(public=False, method=False, inplace=False, differentiable=False, expensive=True)
def random_bits(seed: Any, offset: Any) -> Tensor:
    """64 random bits per element (int64): Threefry of (seed, offset + row-major index)."""


def _bits_reference(seed: int, offset: int, shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape, dtype=np.int64))
    index = np.arange(count, dtype=np.uint64) + np.uint64(offset)
    return threefry(seed & (1 << 64) - 1, index).view(np.int64).reshape(shape)


random_bits.reference(_bits_reference)
random_bits.batch("draw")


@elementwise(public=False, method=False, inplace=False, differentiable=False)
def random_at(place: Any, key: Any) -> Tensor:
    """64 random bits (int64) of a place in the stream of a key: Threefry of (key, place)."""


def _bits_at(place: Any, key: Any) -> Any:
    place, key = np.broadcast_arrays(np.asarray(place, np.int64), np.asarray(key, np.int64))
    found = np.empty(place.shape, np.int64)
    for k in np.unique(key):
        here = key == k
        bits_ = threefry(int(k) & (1 << 64) - 1, place[here].view(np.uint64))
        found[here] = bits_.view(np.int64)
    return found


random_at.reference(_bits_at)


class Generator:
    """A stream of random numbers: a 64-bit seed and a counter.

    Args:
        device: where its tensors are made; only "cpu".
    """

    def __init__(self, device: Any = "cpu") -> None:
        self.device = resolve(device)
        self._seed = 67280421310721
        self._counter = 0
        self._lock = threading.Lock()

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of `seed`; -> self."""
        seed = int(seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError("Overflow when unpacking long long")
        self._seed = seed & (1 << 64) - 1
        self._counter = 0
        return self

    def seed(self) -> int:
        """Start a stream from the system's entropy; -> its seed."""
        fresh = int.from_bytes(os.urandom(8), "little") >> 1
        self.manual_seed(fresh)
        return fresh

    def initial_seed(self) -> int:
        """The seed the stream was started with."""
        return self._seed if self._seed < 1 << 63 else self._seed - (1 << 64)

    def take(self, count: int) -> tuple[Drawn, Drawn]:
        """Reserve `count` counters; -> (seed, first counter), which nodes take as they are."""
        if record.thread.draw is not None:
            count = record.thread.draw(count)
        with self._lock:
            first = self._counter
            self._counter += count
        if count and record.thread.watcher is not None:
            record.thread.watcher.drew(self is default_generator, first)
        return Drawn(self.initial_seed(), False), Drawn(first, True)

    def get_state(self) -> Tensor:
        """The state as a uint8 tensor of 16 bytes."""
        state = np.array([self._seed, self._counter], np.uint64).view(np.uint8)
        return NAMES["tensor"](state)

    def set_state(self, state: Tensor) -> Generator:
        """Continue from a state of `get_state`; -> self."""
        raw = np.ascontiguousarray(state._array())
        if raw.dtype != np.uint8 or raw.size != 16:
            raise RuntimeError(
                f"RNG state is wrong size: expected a uint8 tensor of 16 bytes, got "
                f"{raw.dtype} of {raw.size} elements"
            )
        seed, counter = raw.view(np.uint64)
        self._seed, self._counter = int(seed), int(counter)
        return self

    def clone_state(self) -> Generator:
        """Another generator in the same state."""
        made = Generator(self.device)
        made._seed, made._counter = self._seed, self._counter
        return made

    def __getstate__(self) -> Any:
        return (self._seed, self._counter)

    def __setstate__(self, state: Any) -> None:
        self.__init__()  # type: ignore[misc]
        self._seed, self._counter = state


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator; -> it."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the system's entropy; -> the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """Seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """State of the default generator."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Set the state of the default generator."""
    default_generator.set_state(new_state)


for _function in (manual_seed, seed, initial_seed, get_rng_state, set_rng_state):
    NAMES[_function.__name__] = _function


def bits(shape: tuple[int, ...], generator: Generator | None, device: Any = None) -> Tensor:
    """64 random bits per element, int64."""
    count = 1
    for n in shape:
        count *= n
    key, first = (generator or default_generator).take(count)
    return make(Node(ROWS["random_bits"], (key, first), (), shape, dtypes.int64), resolve(device))


def uniform01(
    shape: tuple[int, ...], dtype: DType, generator: Generator | None, device: Any = None
) -> Tensor:
    """Uniform values in [0, 1): multiples of 2**-24 (2**-53 for float64, fewer for halves)."""
    mantissa = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
    raw = (bits(shape, generator, device) >> (64 - mantissa)) & ((1 << mantissa) - 1)
    wide = dtype if dtype.itemsize >= 4 else dtypes.float32
    return to_dtype(to_dtype(raw, wide) * 2.0**-mantissa, dtype)


def normal01(
    shape: tuple[int, ...], dtype: DType, generator: Generator | None, device: Any = None
) -> Tensor:
    """Standard normal values by Box-Muller from one 64-bit draw each (two for float64)."""
    if dtype.is_complex:  # both parts have variance 1/2
        parts = [normal01(shape, dtype.to_real(), generator, device) for _ in range(2)]
        return NAMES["complex"](*parts) * math.sqrt(0.5)
    wide = dtype if dtype.itemsize >= 4 else dtypes.float32
    raw = bits(shape, generator, device)
    if wide is dtypes.float64:
        second = bits(shape, generator, device)
        u = to_dtype((raw >> 11) & ((1 << 53) - 1), wide) * 2.0**-53 + 2.0**-54
        v = to_dtype((second >> 11) & ((1 << 53) - 1), wide) * 2.0**-53
    else:
        # u in (0, 1) with a fine grid near 0, so that the tail reaches 6.6 sigma
        u = to_dtype((raw >> 32) & 0xFFFFFFFF, wide) * 2.0**-32 + 2.0**-33
        v = to_dtype(raw & 0xFFFFFF, wide) * 2.0**-24
    radius = NAMES["sqrt"](
        NAMES["log"](NAMES["clamp_max"](u, 1.0 - 2.0**-24 if wide is not dtypes.float64 else 1.0))
        * -2.0
    )
    return to_dtype(radius * NAMES["cos"](v * 6.283185307179586), dtype)


def _finish(t: Tensor, requires_grad: bool, out: Any) -> Tensor:
    if out is not None:
        store(out, t)
        return out
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
        uniform01(shape_of(size), dtype or dtypes.get_default_dtype(), generator, device),
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
        normal01(shape_of(size), dtype or dtypes.get_default_dtype(), generator, device),
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
    found = uniform01(input._shape, dtype or input.dtype, generator, where)
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
    found = normal01(input._shape, dtype or input.dtype, generator, where)
    return _finish(found, requires_grad, None)


def integers(
    shape: tuple[int, ...],
    low: int,
    high: int,
    dtype: DType,
    generator: Generator | None,
    device: Any = None,
) -> Tensor:
    """Uniform integers in [low, high) from 63 random bits each."""
    if low >= high:
        raise RuntimeError(
            f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"
        )
    raw = (bits(shape, generator, device) >> 1) & ((1 << 63) - 1)
    return to_dtype(raw % (high - low) + low, dtype)


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
    found = integers(tuple(size), int(low), int(high), dtype or dtypes.int64, generator, device)
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
    draw = uniform01(self._shape, self.dtype, generator, self.device)
    store(self, draw * float(b - a) + float(a))
    return self


def _normal_(
    self: Tensor, mean: float = 0, std: float = 1, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal values of the given mean and standard deviation; -> self."""
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    check_writable(self)
    draw = normal01(self._shape, self.dtype, generator, self.device)
    store(self, draw * float(std) + float(mean))
    return self


def _random_(
    self: Tensor, low: int = 0, high: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Fill with uniform integers in [low, high), by default all the dtype can hold; -> self."""
    if high is None:
        if low:
            low, high = 0, low
        else:
            high = (
                1
                << {
                    "float32": 24,
                    "float64": 53,
                    "float16": 11,
                    "bfloat16": 8,
                    "bool": 1,
                    "uint8": 8,
                    "int8": 7,
                    "int16": 15,
                    "int32": 31,
                    "int64": 62,
                }[self.dtype.name]
            )
    check_writable(self)
    store(self, integers(self._shape, low, high, self.dtype, generator, self.device))
    return self


_fills: dict[str, Any] = {"uniform_": _uniform_, "normal_": _normal_, "random_": _random_}
for _name, _function in _fills.items():
    setattr(Tensor, _name, published(_name, _function))


def keep_mask(
    shape: tuple[int, ...], p: float, generator: Generator | None = None, device: Any = None
) -> Tensor:
    """True with probability 1 - p."""
    # the bits are a uniform int64
    threshold = min(int(p * 2.0**64) - (1 << 63), (1 << 63) - 1)
    return bits(shape, generator, device) >= threshold


# -- distributions ---------------------------------------------------------------------------------


def uniform_open(shape: tuple[int, ...], dtype: DType, generator: Generator | None) -> Tensor:
    """Uniform values in (0, 1), in at least float32."""
    wide = dtype if dtype.itemsize >= 4 and dtype.category == 2 else dtypes.float32
    mantissa = 52 if wide is dtypes.float64 else 23
    raw = (bits(shape, generator) >> (64 - mantissa)) & ((1 << mantissa) - 1)
    # the middle of each cell, so that neither 0 nor 1 is drawn
    return to_dtype(raw, wide) * 2.0**-mantissa + 2.0 ** -(mantissa + 1)


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
    _, found = ranked(bits((int(n),), generator, device), 0, 0, int(n), False)
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
    draw = uniform01(input._shape, dtypes.float64, generator, input.device)
    found = to_dtype(draw < (input.detach() if p is None else p), input.dtype)
    return _finish(found, False, out)


def _bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability p (a number or a tensor of them), else 0; -> self."""
    _probability(p, "bernoulli_")
    check_writable(self)
    draw = uniform01(self._shape, dtypes.float64, generator, self.device)
    store(self, to_dtype(draw < p, self.dtype))
    return self


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
        shape = tuple(size)
    elif given:
        shape = broadcast_shapes(*(t._shape for t in given))
    else:
        raise TypeError("normal() of numbers needs a size")
    chosen = dtype or (given[0].dtype if given else dtypes.get_default_dtype())
    found = normal01(shape, chosen, generator, device) * std + mean
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
    """Indices drawn in proportion to weights (last dimension), from uniform draws."""
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
        races = weights / -np.log(draws)
        return some_largest(races, count)
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
    wanted = (*input._shape[:-1], num_samples) if replacement else input._shape
    draws = uniform_open(wanted, dtypes.float64, generator)
    return draw_places(input.detach(), draws, int(num_samples), bool(replacement))


def _exponential_(self: Tensor, lambd: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponential values of the given rate; -> self."""
    if not lambd > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    return _fill(
        self, -NAMES["log"](uniform_open(self._shape, self.dtype, generator)) * (1.0 / lambd)
    )


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
    draw = normal01(self._shape, self.dtype, generator, self.device)
    return _fill(self, NAMES["exp"](draw * float(std) + float(mean)))


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
