"""``torch.futures``: results that are there later, over `concurrent.futures`."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any


class Future:
    """A result that somebody sets.

    Args:
        devices: accepted; there is the CPU.
    """

    def __init__(self, *, devices: Any = None) -> None:
        self._inner: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def done(self) -> bool:
        """Whether it has a result, or an error."""
        return self._inner.done()

    def wait(self) -> Any:
        """The result, when it is there; raises the error that was set."""
        return self._inner.result()

    def value(self) -> Any:
        """The result, which must be there."""
        return self._inner.result(timeout=0)

    def set_result(self, result: Any) -> None:
        """Complete it.

        Raises:
            RuntimeError: it has a result.
        """
        if self.done():
            raise RuntimeError("Future can only be set once")
        self._inner.set_result(result)

    def set_exception(self, result: BaseException) -> None:
        """Complete it with an error, which `wait` raises."""
        if not isinstance(result, BaseException):
            raise TypeError(f"{result} is of type {type(result)}, not an Exception.")
        self._inner.set_exception(result)

    def add_done_callback(self, callback: Callable[[Future], Any]) -> None:
        """Call a function with this future when it is complete."""
        self._inner.add_done_callback(lambda _: callback(self))

    def then(self, callback: Callable[[Future], Any]) -> Future:
        """A future of what a function gives for this one."""
        following = Future()

        def run(done: Future) -> None:
            try:
                following.set_result(callback(done))
            except Exception as error:
                following.set_exception(error)

        self.add_done_callback(run)
        return following


def collect_all(futures: list[Future]) -> Future:
    """A future of the futures, complete when they all are."""
    found = Future()
    waiting = [len(futures)]

    def count(_: Future) -> None:
        waiting[0] -= 1
        if not waiting[0]:
            found.set_result(list(futures))

    if not futures:
        found.set_result([])
    for future in futures:
        future.add_done_callback(count)
    return found


def wait_all(futures: list[Future]) -> list[Any]:
    """The results of all, when they are there."""
    return [future.wait() for future in futures]
