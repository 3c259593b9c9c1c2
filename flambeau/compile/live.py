"""Live methods: Python that a replayed call runs each time, as it stands.

An optimizer's step and a schedule's keep numbers that change at every call: counts, rates, whatever
a subclass adds. Such methods are marked with `live`. A compiled call that used one runs it again,
between the regions it replays; what it records joins the same program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau import record

#: Base classes whose instances are used through live methods alone.
CLASSES: list[type] = []


def live(method: Callable[..., Any], repeatable: bool = False) -> Callable[..., Any]:
    """A method that a compiled call runs each time.

    Args:
        method: takes the object first; what it returns is not looked at.
        repeatable: whether running it twice is the same as running it once.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer = record.thread.observer
        if observer is None:
            return method(self, *args, **kwargs)
        return observer.live(method, self, args, kwargs, repeatable)

    call.live = True  # type: ignore[attr-defined]
    return call
