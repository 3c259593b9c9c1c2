"""Random numbers: a counter-based generator, so that a value depends only on (seed, place).

Each call takes the generator's seed and a block of its counter when it is recorded; the bits are
made inside the fused program (Threefry-2x32 with 20 rounds, Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011). Streams are deterministic; they are not torch's bit for bit.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from flambeau import dtype as dtypes
from flambeau.device import resolve
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import Node
from flambeau.ops.table import NAMES, ROWS, composite, elementwise, store, check_writable
from flambeau.ops.creation import filled, to_dtype
from flambeau.size import shape_of
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


@elementwise(public=False, method=False, inplace=False, differentiable=False)
def random_bits(seed: Any, offset: Any) -> Tensor:
    """64 random bits per element (int64): Threefry of (seed, offset + row-major index)."""


def _bits_reference(seed: int, offset: int, shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape, dtype=np.int64))
    index = np.arange(count, dtype=np.uint64) + np.uint64(offset)
    return threefry(seed & (1 << 64) - 1, index).view(np.int64).reshape(shape)


random_bits.reference(_bits_reference)


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

    def take(self, count: int) -> tuple[int, int]:
        """Reserve `count` counters; -> (seed, first counter)."""
        with self._lock:
            first = self._counter
            self._counter += count
        return self.initial_seed(), first

    def get_state(self) -> Tensor:
        """The state as a uint8 tensor of 16 bytes."""
        state = np.array([self._seed, self._counter], np.uint64).view(np.uint8)
        return NAMES["tensor"](state)  # type: ignore[no-any-return]

    def set_state(self, state: Tensor) -> Generator:
        """Continue from a state of `get_state`; -> self."""
        raw = np.ascontiguousarray(state._array())
        if raw.dtype != np.uint8 or raw.size != 16:
            raise RuntimeError(f"RNG state is wrong size: expected a uint8 tensor of 16 bytes, got "
                               f"{raw.dtype} of {raw.size} elements")
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


def uniform01(shape: tuple[int, ...], dtype: DType, generator: Generator | None,
              device: Any = None) -> Tensor:
    """Uniform values in [0, 1): multiples of 2**-24 (2**-53 for float64, fewer for halves)."""
    mantissa = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
    raw = (bits(shape, generator, device) >> (64 - mantissa)) & ((1 << mantissa) - 1)
    wide = dtype if dtype.itemsize >= 4 else dtypes.float32
    return to_dtype(to_dtype(raw, wide) * 2.0 ** -mantissa, dtype)


def normal01(shape: tuple[int, ...], dtype: DType, generator: Generator | None,
             device: Any = None) -> Tensor:
    """Standard normal values by Box-Muller from one 64-bit draw each (two for float64)."""
    wide = dtype if dtype.itemsize >= 4 else dtypes.float32
    raw = bits(shape, generator, device)
    if wide is dtypes.float64:
        second = bits(shape, generator, device)
        u = to_dtype((raw >> 11) & ((1 << 53) - 1), wide) * 2.0 ** -53 + 2.0 ** -54
        v = to_dtype((second >> 11) & ((1 << 53) - 1), wide) * 2.0 ** -53
    else:
        # u in (0, 1) with a fine grid near 0, so that the tail reaches 6.6 sigma
        u = to_dtype((raw >> 32) & 0xFFFFFFFF, wide) * 2.0 ** -32 + 2.0 ** -33
        v = to_dtype(raw & 0xFFFFFF, wide) * 2.0 ** -24
    radius = NAMES["sqrt"](NAMES["log"](NAMES["minimum"](u, 1.0 - 2.0 ** -24 if wide is not
                                                        dtypes.float64 else 1.0)) * -2.0)
    return to_dtype(radius * NAMES["cos"](v * 6.283185307179586), dtype)


def _finish(t: Tensor, requires_grad: bool, out: Any) -> Tensor:
    if out is not None:
        store(out, t)
        return out  # type: ignore[no-any-return]
    if requires_grad:
        t.requires_grad = True
    return t


@composite(method=False)
def rand(*size: Any, generator: Generator | None = None, out: Any = None,
         dtype: DType | None = None, layout: Any = None, device: Any = None,
         requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Uniform values in [0, 1)."""
    return _finish(uniform01(shape_of(size), dtype or dtypes.get_default_dtype(), generator,
                             device), requires_grad, out)


@composite(method=False)
def randn(*size: Any, generator: Generator | None = None, out: Any = None,
          dtype: DType | None = None, layout: Any = None, device: Any = None,
          requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Standard normal values."""
    return _finish(normal01(shape_of(size), dtype or dtypes.get_default_dtype(), generator,
                            device), requires_grad, out)


@composite(method=False)
def rand_like(input: Tensor, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, memory_format: Any = None,
              generator: Generator | None = None) -> Tensor:
    """`rand` with the shape and dtype of a tensor."""
    return _finish(uniform01(input._shape, dtype or input.dtype, generator), requires_grad, None)


@composite(method=False)
def randn_like(input: Tensor, *, dtype: DType | None = None, layout: Any = None,
               device: Any = None, requires_grad: bool = False, memory_format: Any = None,
               generator: Generator | None = None) -> Tensor:
    """`randn` with the shape and dtype of a tensor."""
    return _finish(normal01(input._shape, dtype or input.dtype, generator), requires_grad, None)


def integers(shape: tuple[int, ...], low: int, high: int, dtype: DType,
             generator: Generator | None, device: Any = None) -> Tensor:
    """Uniform integers in [low, high) from 63 random bits each."""
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= "
                           f"to={high}")
    raw = (bits(shape, generator, device) >> 1) & ((1 << 63) - 1)
    return to_dtype(raw % (high - low) + low, dtype)


@composite(method=False)
def randint(low: int, high: Any = None, size: Any = None, *, generator: Generator | None = None,
            out: Any = None, dtype: DType | None = None, layout: Any = None, device: Any = None,
            requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Uniform integers in [low, high): `randint(high, size)` or `randint(low, high, size)`."""
    if size is None:
        low, high, size = 0, low, high
    found = integers(tuple(size), int(low), int(high), dtype or dtypes.int64, generator, device)
    return _finish(found, requires_grad, out)


@composite(method=False)
def randint_like(input: Tensor, low: int, high: Any = None, *, dtype: DType | None = None,
                 device: Any = None, layout: Any = None, requires_grad: bool = False) -> Tensor:
    """`randint` with the shape and dtype of a tensor."""
    low, high = (0, low) if high is None else (low, high)
    return integers(input._shape, low, high, dtype or input.dtype, None)


def _uniform_(self: Tensor, a: float = 0, b: float = 1, *, generator: Generator | None = None,
              **old: Any) -> Tensor:
    """Fill with uniform values in [a, b); -> self."""
    a, b = old.get("from", a), old.get("to", b)
    if a > b:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={a} > "
                           f"to={b}")
    check_writable(self)
    draw = uniform01(self._shape, self.dtype, generator)
    store(self, draw * float(b - a) + float(a))
    return self


def _normal_(self: Tensor, mean: float = 0, std: float = 1, *,
             generator: Generator | None = None) -> Tensor:
    """Fill with normal values of the given mean and standard deviation; -> self."""
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    check_writable(self)
    store(self, normal01(self._shape, self.dtype, generator) * float(std) + float(mean))
    return self


def _random_(self: Tensor, low: int = 0, high: int | None = None, *,
             generator: Generator | None = None) -> Tensor:
    """Fill with uniform integers in [low, high), by default all the dtype can hold; -> self."""
    if high is None:
        if low:
            low, high = 0, low
        else:
            high = 1 << {"float32": 24, "float64": 53, "float16": 11, "bfloat16": 8, "bool": 1,
                         "uint8": 8, "int8": 7, "int16": 15, "int32": 31,
                         "int64": 62}[self.dtype.name]
    check_writable(self)
    store(self, integers(self._shape, low, high, self.dtype, generator))
    return self


for _name, _function in (("uniform_", _uniform_), ("normal_", _normal_), ("random_", _random_)):
    setattr(Tensor, _name, _function)
    NAMES[_name] = _function


def keep_mask(shape: tuple[int, ...], p: float, generator: Generator | None = None) -> Tensor:
    """True with probability 1 - p."""
    # the bits are a uniform int64
    threshold = min(int(p * 2.0 ** 64) - (1 << 63), (1 << 63) - 1)
    return bits(shape, generator) >= threshold  # type: ignore[no-any-return]


__all__ = ["filled"]
