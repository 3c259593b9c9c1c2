"""Switches of recording: no_grad, enable_grad, set_grad_enabled, inference_mode."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from flambeau.tape import modes


class _Mode:
    """A context manager that is a decorator too, for functions and generators."""

    def _fresh(self) -> _Mode:
        return type(self)()

    def __enter__(self) -> Any:
        raise NotImplementedError

    def __exit__(self, *exc: object) -> None:
        raise NotImplementedError

    def __call__(self, f: Callable[..., Any]) -> Any:
        if inspect.isclass(f):
            raise TypeError(f"cannot decorate classes; decorate {f.__name__}.__init__ or methods")
        if inspect.isgeneratorfunction(f):

            @functools.wraps(f)
            def generate(*args: Any, **kwargs: Any) -> Any:
                with self._fresh():
                    generator = f(*args, **kwargs)
                sent, error = None, None
                while True:
                    with self._fresh():
                        try:
                            item = generator.throw(error) if error else generator.send(sent)
                        except StopIteration as stop:
                            return stop.value
                    error = None
                    try:
                        sent = yield item
                    except GeneratorExit:
                        generator.close()
                        raise
                    except BaseException as caught:
                        sent, error = None, caught

            return generate

        @functools.wraps(f)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return f(*args, **kwargs)

        return call


class no_grad(_Mode):
    """Nothing recorded inside makes tape entries: `with no_grad():` or `@no_grad()`."""

    def __new__(cls, f: Callable[..., Any] | None = None) -> Any:
        made = object.__new__(cls)
        return made if f is None else made(f)

    def __enter__(self) -> None:
        self._was, modes.grad = modes.grad, False

    def __exit__(self, *exc: object) -> None:
        modes.grad = self._was


class enable_grad(no_grad):
    """Tape entries are made inside, also within `no_grad`."""

    def __enter__(self) -> None:
        self._was, modes.grad = modes.grad, True


class set_grad_enabled(_Mode):
    """Switch tape entries on or off at once, and back at the end of a `with`."""

    def __init__(self, mode: bool) -> None:
        self.mode = bool(mode)
        self._was = modes.grad
        modes.grad = self.mode

    def _fresh(self) -> _Mode:
        return set_grad_enabled(self.mode)

    def __call__(self, f: Callable[..., Any]) -> Any:
        modes.grad = self._was
        return super().__call__(f)

    def __enter__(self) -> None:
        modes.grad = self.mode

    def __exit__(self, *exc: object) -> None:
        modes.grad = self._was


class inference_mode(_Mode):
    """As `no_grad`, and tensors made inside can never enter a tape."""

    mode: bool

    def __new__(cls, mode: Any = True) -> Any:
        made = object.__new__(cls)
        made.mode = True if callable(mode) else bool(mode)
        return made(mode) if callable(mode) else made

    def _fresh(self) -> _Mode:
        return inference_mode(self.mode)

    def __enter__(self) -> None:
        self._was = modes.grad, modes.inference
        if self.mode:
            modes.grad, modes.inference = False, True
        else:
            modes.inference = False

    def __exit__(self, *exc: object) -> None:
        modes.grad, modes.inference = self._was


def is_grad_enabled() -> bool:
    """Whether recording makes tape entries in this thread."""
    return modes.grad


def is_inference_mode_enabled() -> bool:
    """Whether inference mode is on in this thread."""
    return modes.inference
