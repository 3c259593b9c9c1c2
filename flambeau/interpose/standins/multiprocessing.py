"""``torch.multiprocessing``: Python's own module, plus ``spawn``; tensors travel as memory."""

from __future__ import annotations

import multiprocessing as _processes
from collections.abc import Callable
from typing import Any

import flambeau.sharing  # noqa: F401 (how tensors travel)


class ProcessExitedException(Exception):
    """A process that ``spawn`` started has failed."""


def __getattr__(name: str) -> Any:
    return getattr(_processes, name)


def __dir__() -> list[str]:
    return [*globals(), *dir(_processes)]


def get_all_sharing_strategies() -> set[str]:
    """The one way in which tensors travel to another process."""
    return {"file_descriptor"}


def get_sharing_strategy() -> str:
    """``"file_descriptor"``."""
    return "file_descriptor"


def set_sharing_strategy(new_strategy: str) -> None:
    """Nothing, for there is only one."""


def spawn(
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> list[Any] | None:
    """Run ``fn(i, *args)`` in ``nprocs`` processes, i from 0.

    Returns:
        None when joined, else the processes.

    Raises:
        ProcessExitedException: one of them failed; the others have been terminated.
    """
    context: Any = _processes.get_context(start_method)
    processes = [context.Process(target=fn, args=(i, *args), daemon=daemon) for i in range(nprocs)]
    for process in processes:
        process.start()
    if not join:
        return processes
    for index, process in enumerate(processes):
        process.join()
        if process.exitcode:
            for other in processes:
                other.terminate()
            raise ProcessExitedException(
                f"process {index} terminated with exit code {process.exitcode}"
            )
    return None
