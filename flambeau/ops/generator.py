"""Generators of random numbers: a seed, and a place in its stream.

A draw takes the next places of a stream when it is recorded, and its values depend on nothing but
the seed and the places, so that a program can make them whenever it runs. What the numbers at the
places are is said in `ops/streams.py`.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from flambeau import record
from flambeau.device import resolve
from flambeau.ir.graph import Drawn
from flambeau.ops.rows import NAMES
from flambeau.tensor import Tensor

_NONE = (1 << 64) - 1  # of a state: no spare value


class Generator:
    """A stream of random numbers: a 64-bit seed and a counter.

    Args:
        device: where its tensors are made; only "cpu".
    """

    def __init__(self, device: Any = "cpu") -> None:
        self.device = resolve(device)
        self._seed = 67280421310721
        self._counter = 0
        self._spare: int | None = None  # the place of the pair whose second normal value is unused
        self._lock = threading.Lock()

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of `seed`; -> self."""
        seed = int(seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError("Overflow when unpacking long long")
        self.__setstate__((seed & (1 << 64) - 1, 0, None))
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

    def take_pairs(self, count: int, places: int) -> tuple[Drawn, Drawn, int]:
        """Reserve places for values that are made two at a time, of which a last one without a
        neighbour is kept for the next draw of this kind.

        Args:
            count: of values, at least 1.
            places: that a pair takes.

        Returns:
            seed, first place, and how many places before it the pair lies whose second value is
            to come first; 0 for none.
        """
        if record.thread.draw is not None:  # every part draws as many as it would alone
            return *self.take((count + 1) // 2 * places), 0
        watcher = record.thread.watcher
        if watcher is not None and (count % 2 or self._spare is not None):
            watcher.refuse(
                "it draws an odd number of normal values, one of which is kept for later"
            )
        spare = self._spare
        fresh = count - (spare is not None)
        seed, first = self.take((fresh + 1) // 2 * places)
        self._spare = first.number + fresh // 2 * places if fresh % 2 else None
        return seed, first, 0 if spare is None else first.number - spare

    def get_state(self) -> Tensor:
        """The state as a uint8 tensor of 24 bytes."""
        spare = _NONE if self._spare is None else self._spare
        state = np.array([self._seed, self._counter, spare], np.uint64).view(np.uint8)
        return NAMES["tensor"](state)

    def set_state(self, state: Tensor) -> Generator:
        """Continue from a state of `get_state`; -> self."""
        raw = np.ascontiguousarray(state._array())
        if raw.dtype != np.uint8 or raw.size != 24:
            raise RuntimeError(
                f"RNG state is wrong size: expected a uint8 tensor of 24 bytes, got "
                f"{raw.dtype} of {raw.size} elements"
            )
        seed, counter, spare = map(int, raw.view(np.uint64))
        self.__setstate__((seed, counter, None if spare == _NONE else spare))
        return self

    def clone_state(self) -> Generator:
        """Another generator in the same state."""
        made = Generator(self.device)
        made.__setstate__(self.__getstate__())
        return made

    def __getstate__(self) -> Any:
        return (self._seed, self._counter, self._spare)

    def __setstate__(self, state: Any) -> None:
        if not hasattr(self, "_lock"):  # unpickled
            self.__init__()  # type: ignore[misc]
        self._seed, self._counter, self._spare = state


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
