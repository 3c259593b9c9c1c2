"""What the numbers of a generator's stream are, and how draws are made of them.

Two streams, of which a process uses one at a time (`set_stream`):

- `"threefry"`: 64 bits at each place by Threefry-2x32 with 20 rounds (Salmon et al., "Parallel
  random numbers: as easy as 1, 2, 3", SC 2011), made inside the fused program by all its threads.
- `"torch"`: 32 bits at each place by the Mersenne Twister (Matsumoto and Nishimura, ACM TOMACS 8,
  1998), and draws made of them as PyTorch makes them on a CPU, so that a program gets PyTorch's
  own numbers from the same seed: uniform and normal values, integers, permutations, dropout,
  multinomial draws. The words are made one after the other, by NumPy.

Uniform values, integers, permutations and masks of the second are PyTorch's bit for bit; normal,
exponential and other values are PyTorch's up to the rounding of their logarithms and cosines.
PyTorch draws Bernoulli and exponential values with Intel's library on Intel's processors, which is
not followed here.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import Node
from flambeau.ops.conversion import to_dtype
from flambeau.ops.generator import Generator
from flambeau.ops.ordering import ranked
from flambeau.ops.rows import NAMES, ROWS
from flambeau.ops.table import composite, elementwise, emit, primitive
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


# -- the Mersenne Twister --------------------------------------------------------------------------

_MOST_STATES = 512  # of streams that are kept, of 2.5 KB


class _Twister:
    """Words at any place of the stream of any seed: drawn on from the nearest place before it that
    was left in a state, which for programs that draw in order is the place itself, as it is for
    what is computed once more in the same order."""

    def __init__(self) -> None:
        self._states: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._source = np.random.RandomState(0)
        self._at: tuple[int, int] | None = None  # the seed and the place where `_source` is

    def words(self, seed: int, first: int, count: int) -> Any:
        """uint32 words at places first, first + 1, .. of the stream of a seed."""
        seed &= 0xFFFFFFFF  # all of a seed that it takes
        with self._lock:
            if self._at != (seed, first):
                self._at = None
                self._go_to(seed, first)
            found = self._next(count)
            self._keep(seed, first + count)
            self._at = seed, first + count
        return found

    def _go_to(self, seed: int, place: int) -> None:
        state = self._states.get((seed, place))
        if state is not None:
            self._states.move_to_end((seed, place))
            self._source.set_state(state)
            return
        before = max((p for s, p in self._states if s == seed and p < place), default=0)
        if before:
            self._source.set_state(self._states[seed, before])
        else:
            self._source.seed(seed)
        for at in range(before, place, 1 << 20):
            self._next(min(place - at, 1 << 20))

    def _keep(self, seed: int, place: int) -> None:
        self._states[seed, place] = self._source.get_state(legacy=False)
        if len(self._states) > _MOST_STATES:
            self._states.popitem(last=False)

    def _next(self, count: int) -> Any:
        return self._source.randint(0, 1 << 32, size=count, dtype=np.uint32)


_twister = _Twister()


@primitive("host", differentiable=False)
def twister_words(row: Any, shape: tuple[int, ...], seed: int, first: int, device: Any) -> Tensor:
    """32 random bits per element (uint32): the Mersenne Twister of a seed, in row-major order."""
    return emit(row, (), (), shape, dtypes.uint32, (seed, first), device)


def _words_reference(seed: int, first: int, shape: tuple[int, ...]) -> Any:
    return _twister.words(seed, first, math.prod(shape)).reshape(shape)


twister_words.reference(_words_reference)
twister_words.batch("draw")


@primitive("host", differentiable=False)
def twister_normals(row: Any, n: int, seed: int, first: int, back: int, device: Any) -> Tensor:
    """Standard normal values (float64) one pair after the other, each of two uniform values; the
    first one is the second of the pair `back` places before, if that is not 0."""
    return emit(row, (), (), (n,), dtypes.float64, (seed, first, back), device)


_PAIR = 4  # words: two uniform values of 53 bits


def _normals_reference(seed: int, first: int, back: int, shape: tuple[int, ...]) -> Any:
    n = shape[-1]
    rows, pairs = math.prod(shape[:-1]), (n - bool(back) + 1) // 2
    words = _twister.words(seed, first, rows * pairs * _PAIR)
    if back:
        words = np.concatenate([_twister.words(seed, first - back, _PAIR), words])
    wide = words.astype(np.uint64).reshape(rows, -1, 2, 2)
    bits_ = wide[..., 0] << np.uint64(32) | wide[..., 1]
    u = (bits_ & np.uint64((1 << 53) - 1)).astype(np.float64) * 2.0**-53
    angle, radius = 2.0 * np.pi * u[..., 0], np.sqrt(-2.0 * np.log1p(-u[..., 1]))
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(rows, -1)
    return values[:, bool(back) :][:, :n].reshape(shape)


twister_normals.reference(_normals_reference)
twister_normals.batch("draw")


@primitive("host", differentiable=False)
def twister_permutation(row: Any, n: int, seed: int, first: int, device: Any) -> Tensor:
    """0 .. n - 1 (int64) shuffled from the front (Fisher and Yates), a word for each exchange."""
    return emit(row, (), (), (n,), dtypes.int64, (seed, first), device)


def _permutation_reference(seed: int, first: int, shape: tuple[int, ...]) -> Any:
    n, rows = shape[-1], math.prod(shape[:-1])
    steps = max(n - 1, 0)
    words = _twister.words(seed, first, rows * steps).reshape(rows, steps)
    chosen = np.arange(steps) + words % np.arange(n, n - steps, -1)
    found = []
    for places in chosen.tolist():
        order = list(range(n))
        for k, at in enumerate(places):
            order[k], order[at] = order[at], order[k]
        found.append(order)
    return np.array(found, np.int64).reshape(shape)


twister_permutation.reference(_permutation_reference)
twister_permutation.batch("draw")


# -- draws -----------------------------------------------------------------------------------------


def _wide(dtype: DType) -> DType:
    """The dtype that values of a dtype are computed in."""
    return dtype if dtype.itemsize >= 4 and dtype.category == 2 else dtypes.float32


# -- values from random bits -----------------------------------------------------------------------
# Rows of their own, so that a draw is recorded as two or three nodes.


@composite(keep=True, method=False, public=False)
def uniform_of_bits(bits: Tensor, mantissa: int, middle: bool) -> Tensor:
    """Values in [0, 1) from 64 random bits each.

    Args:
        bits: int64, any shape.
        mantissa: the values are multiples of 2**-mantissa; float64 from 25 on, else float32.
        middle: half of that is added, so that they are in (0, 1).
    """
    wide = dtypes.float64 if mantissa > 24 else dtypes.float32
    found = to_dtype((bits >> (64 - mantissa)) & ((1 << mantissa) - 1), wide) * 2.0**-mantissa
    return found + 2.0 ** -(mantissa + 1) if middle else found


@composite(keep=True, method=False, public=False)
def normal_of_bits(bits: Tensor, more: Tensor | None) -> Tensor:
    """Standard normal values by Box and Muller.

    Args:
        bits: int64, any shape, 64 random bits for each value.
        more: as many again for values of float64; None for float32.
    """
    if more is not None:
        u = to_dtype((bits >> 11) & ((1 << 53) - 1), dtypes.float64) * 2.0**-53 + 2.0**-54
        v = to_dtype((more >> 11) & ((1 << 53) - 1), dtypes.float64) * 2.0**-53
        most = 1.0
    else:
        # u in (0, 1) with a fine grid near 0, so that the tail reaches 6.6 sigma
        u = to_dtype((bits >> 32) & 0xFFFFFFFF, dtypes.float32) * 2.0**-32 + 2.0**-33
        v = to_dtype(bits & 0xFFFFFF, dtypes.float32) * 2.0**-24
        most = 1.0 - 2.0**-24
    radius = NAMES["sqrt"](NAMES["log"](NAMES["clamp_max"](u, most)) * -2.0)
    return radius * NAMES["cos"](v * (2.0 * math.pi))


@composite(keep=True, method=False, public=False)
def uniform_of_words(words: Tensor) -> Tensor:
    """float32 values in [0, 1) from 24 bits of an int64 word each, any shape."""
    return to_dtype(words & 0xFFFFFF, dtypes.float32) * 2.0**-24


@composite(keep=True, method=False, public=False)
def uniform_of_pairs(words: Tensor) -> Tensor:
    """float64 values in [0, 1) from 53 bits of two int64 words each, (..., 2) -> (...)."""
    high, low = NAMES["unbind"](words, -1)
    upper = to_dtype(high & 0x1FFFFF, dtypes.float64) * 2.0**-21
    return upper + to_dtype(low, dtypes.float64) * 2.0**-53


@composite(keep=True, method=False, public=False)
def normal_of_uniform(u: Tensor, n: int, start: int) -> Tensor:
    """(n,) standard normal values from uniform ones in [0, 1) by blocks of 16, of which the first 8
    give radii and the others angles.

    Args:
        u: (n // 16 * 16,), and more where 16 does not divide n.
        n: at least 16.
        start: where the 16 values of the last block begin, if 16 does not divide n.
    """
    whole = n // 16 * 16
    found = _blocks(u[:whole])
    if n != whole:
        found = NAMES["cat"]([found[: n - 16], _blocks(u[start:])])
    return found


def _blocks(u: Tensor) -> Tensor:
    """Normal values from uniform ones in blocks of 16."""
    pairs = u.reshape(-1, 2, 8)
    radius = NAMES["sqrt"](NAMES["log"](1.0 - pairs[:, 0]) * -2.0)
    angle = pairs[:, 1] * (2.0 * math.pi)
    parts = [radius * NAMES["cos"](angle), radius * NAMES["sin"](angle)]
    return NAMES["stack"](parts, 1).reshape(u._shape)


class Threefry:
    """Draws from 64 bits at each place of the stream."""

    #: Whether a kernel can make the bits of any place where it needs them.
    anywhere = True

    def bits(self, shape: tuple[int, ...], generator: Generator, device: Any) -> Tensor:
        """64 random bits per element, int64."""
        key, first = generator.take(math.prod(shape))
        return make(Node(ROWS["random_bits"], (key, first), (), shape, dtypes.int64), device)

    def uniform(
        self, shape: tuple[int, ...], dtype: DType, generator: Generator, device: Any
    ) -> Tensor:
        """Values in [0, 1), in a dtype of at least 4 bytes: multiples of 2**-24 (2**-53 for
        float64, fewer for halves)."""
        mantissa = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
        return uniform_of_bits(self.bits(shape, generator, device), mantissa, False)

    def open(
        self, shape: tuple[int, ...], dtype: DType, generator: Generator, device: Any
    ) -> Tensor:
        """Values in (0, 1), in at least float32: the middles of equal cells."""
        mantissa = 52 if _wide(dtype) is dtypes.float64 else 23
        return uniform_of_bits(self.bits(shape, generator, device), mantissa, True)

    def normal(
        self,
        shape: tuple[int, ...],
        dtype: DType,
        generator: Generator,
        device: Any,
        pairs: bool = False,
    ) -> Tensor:
        """Standard normal values, in a dtype of at least 4 bytes, by Box and Muller from one
        64-bit draw each (two for float64)."""
        raw = self.bits(shape, generator, device)
        if _wide(dtype) is dtypes.float64:
            return normal_of_bits(raw, self.bits(shape, generator, device))
        return normal_of_bits(raw, None)

    def integers(
        self,
        shape: tuple[int, ...],
        high: int,
        wide: bool | None,
        generator: Generator,
        device: Any,
    ) -> Tensor:
        """int64 values in [0, high), from 63 bits each."""
        raw = (self.bits(shape, generator, device) >> 1) & ((1 << 63) - 1)
        return raw if high == 1 << 63 else raw % high

    def chance(self, shape: tuple[int, ...], p: float, generator: Generator, device: Any) -> Tensor:
        """True with probability p."""
        # the bits are a uniform int64
        threshold = min(int((1.0 - p) * 2.0**64) - (1 << 63), (1 << 63) - 1)
        return self.bits(shape, generator, device) >= threshold

    def permutation(self, n: int, generator: Generator, device: Any) -> Tensor:
        """0 .. n - 1 in random order, int64."""
        _, found = ranked(self.bits((n,), generator, device), 0, 0, n, False)
        return found


class Twister:
    """Draws from 32 bits at each place of the stream, as PyTorch makes them on a CPU."""

    anywhere = False

    def _words(self, shape: tuple[int, ...], generator: Generator, device: Any) -> Tensor:
        return twister_words(shape, *generator.take(math.prod(shape)), device)

    def uniform(
        self, shape: tuple[int, ...], dtype: DType, generator: Generator, device: Any
    ) -> Tensor:
        """Values in [0, 1), in a dtype of at least 4 bytes, from 24 bits of a word each, or 53
        of two."""
        if _wide(dtype) is dtypes.float64:
            return self._unit(shape, generator, device)
        return uniform_of_words(self._words(shape, generator, device))

    def _unit(self, shape: tuple[int, ...], generator: Generator, device: Any) -> Tensor:
        """float64 values in [0, 1)."""
        return uniform_of_pairs(self._words((*shape, 2), generator, device))

    def open(
        self, shape: tuple[int, ...], dtype: DType, generator: Generator, device: Any
    ) -> Tensor:
        """float64 values in (0, 1)."""
        return NAMES["clamp_min"](self._unit(shape, generator, device), 2.0**-54)

    def normal(
        self,
        shape: tuple[int, ...],
        dtype: DType,
        generator: Generator,
        device: Any,
        pairs: bool = False,
    ) -> Tensor:
        """Standard normal values by Box and Muller: in blocks of 16, of which the first 8 uniform
        values give radii and the others angles; the last 16 values are a block of their own where
        16 does not divide their number. Fewer than 16 are made in pairs, in float64, as all are
        that are asked for so."""
        n = math.prod(shape)
        if n < 16 or pairs:
            if n == 0:
                return NAMES["zeros"](shape, dtype=_wide(dtype), device=device)
            place = generator.take_pairs(n, _PAIR)
            return to_dtype(twister_normals(n, *place, device), _wide(dtype)).reshape(shape)
        whole = n // 16 * 16
        skipped = n - whole if dtype.itemsize >= 4 else 0
        u = self.uniform((whole + (skipped + 16 if n != whole else 0),), dtype, generator, device)
        return normal_of_uniform(u, n, whole + skipped).reshape(shape)

    def integers(
        self,
        shape: tuple[int, ...],
        high: int,
        wide: bool | None,
        generator: Generator,
        device: Any,
    ) -> Tensor:
        """int64 values in [0, high): the remainders of a word each, of two from 2**28 on,
        unless it is said."""
        if not (high >= 1 << 28 if wide is None else wide):
            return to_dtype(self._words(shape, generator, device), dtypes.int64) % high
        raw = self._words((*shape, 2), generator, device)
        upper, low = (to_dtype(part, dtypes.int64) for part in NAMES["unbind"](raw, -1))
        if high & (high - 1) == 0:
            return ((upper << 32) | low) & (high - 1)
        # the remainder of an unsigned number of 64 bits, by that of its half
        pairs = (upper << 32) | low
        left, last = ((pairs >> 1) & ((1 << 63) - 1)) % high, pairs & 1
        for more in (left, last):
            room = high - more  # adding it must not go beyond high, nor beyond 64 bits
            left = NAMES["where"](left >= room, left - room, left + more)
        return left

    def chance(self, shape: tuple[int, ...], p: float, generator: Generator, device: Any) -> Tensor:
        """True with probability p."""
        return self._unit(shape, generator, device) < p

    def permutation(self, n: int, generator: Generator, device: Any) -> Tensor:
        """0 .. n - 1 in random order, int64."""
        return twister_permutation(n, *generator.take(max(n - 1, 0)), device)


STREAMS: dict[str, Any] = {"threefry": Threefry(), "torch": Twister()}
#: The environment variable that chooses a stream.
RANDOM = "FLAMBEAU_RANDOM"
_chosen = ["threefry"]


def set_stream(name: str) -> None:
    """Choose what the random numbers of a seed are, in the whole process; every generator goes on
    from the place where it is.

    A process begins with what the environment variable FLAMBEAU_RANDOM says, or "threefry"; a
    program that `flambeau run` runs with what it says, or "torch".

    Args:
        name: "threefry", made inside fused programs by all threads, or "torch", PyTorch's own
            numbers on a CPU, whose words are made one after the other.

    Raises:
        ValueError: another name.
    """
    if name not in STREAMS:
        raise ValueError(f"expected a random stream among {', '.join(STREAMS)}, got {name!r}")
    _chosen[0] = name


set_stream(os.environ.get(RANDOM, "threefry"))


def get_stream() -> str:
    """The name of the stream that `set_stream` chose."""
    return _chosen[0]


def stream() -> Any:
    """The chosen stream."""
    return STREAMS[_chosen[0]]
