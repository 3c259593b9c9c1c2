"""Random numbers (`torch.random`): the default generator's state, and forking it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from flambeau.ops.generator import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from flambeau.ops.streams import get_stream, set_stream

__all__ = [
    "Generator",
    "default_generator",
    "fork_rng",
    "get_rng_state",
    "get_stream",
    "initial_seed",
    "manual_seed",
    "seed",
    "set_rng_state",
    "set_stream",
]


@contextlib.contextmanager
def fork_rng(
    devices: Iterable[Any] | None = None, enabled: bool = True, device_type: str = "cuda"
) -> Iterator[None]:
    """What is drawn inside does not move the generator outside."""
    if not enabled:
        yield
        return
    state = default_generator.__getstate__()
    try:
        yield
    finally:
        default_generator.__setstate__(state)
