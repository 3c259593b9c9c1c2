"""``torch.backends.cudnn``: not there; its switches change nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

enabled = True
benchmark = False
deterministic = False
allow_tf32 = True
benchmark_limit = 10


def is_available() -> bool:
    """False."""
    return False


def version() -> None:
    """None, for there is no cuDNN."""
    return None


@contextlib.contextmanager
def flags(**switches: Any) -> Iterator[None]:
    """A block in which switches are set: nothing happens."""
    yield
