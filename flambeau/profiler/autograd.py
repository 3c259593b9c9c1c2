"""The names of torch.autograd.profiler: the older form of a profile."""

from __future__ import annotations

import contextlib
from typing import Any

from flambeau.profiler.events import DeviceType, EventList, FunctionEvent, FunctionEventAvg
from flambeau.profiler.session import _KinetoProfile, kineto_available, record_function

__all__ = [
    "DeviceType",
    "EventList",
    "FunctionEvent",
    "FunctionEventAvg",
    "emit_itt",
    "emit_nvtx",
    "kineto_available",
    "profile",
    "record_function",
]


class profile:
    """Records what happens in its body; see `flambeau.profiler.profile`, which can do more.

    Args:
        enabled: whether it does anything.
        use_cuda, use_device, use_kineto, use_cpu, experimental_config, acc_events,
            custom_trace_id_callback: taken for torch's sake; they change nothing.
        record_shapes, with_flops, profile_memory, with_stack, with_modules: as there.
    """

    def __init__(
        self,
        enabled: bool = True,
        *,
        use_cuda: bool = False,
        use_device: str | None = None,
        record_shapes: bool = False,
        with_flops: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_modules: bool = False,
        use_kineto: bool = False,
        use_cpu: bool = True,
        experimental_config: Any = None,
        acc_events: bool = False,
        custom_trace_id_callback: Any = None,
    ) -> None:
        self.enabled = enabled
        self.entered = False
        self._inner = _KinetoProfile(
            record_shapes=record_shapes,
            profile_memory=profile_memory,
            with_stack=with_stack,
            with_flops=with_flops,
            with_modules=with_modules,
        )

    def __enter__(self) -> profile | None:
        if not self.enabled:
            return None
        if self.entered:
            raise RuntimeError("Profiler context manager is not reentrant")
        self.entered = True
        self._inner.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.enabled:
            self._inner.stop()

    def __repr__(self) -> str:
        return (
            repr(self.function_events) if self.entered else "<unfinished profiler_legacy.profile>"
        )

    def __str__(self) -> str:
        return str(self.function_events) if self.entered else repr(self)

    @property
    def function_events(self) -> EventList:
        """All events in order of their begin."""
        return self._inner.events()

    def table(self, *args: Any, **kwargs: Any) -> str:
        """The events as text; see `EventList.table`."""
        return self.function_events.table(*args, **kwargs)

    def key_averages(self, *args: Any, **kwargs: Any) -> EventList:
        """Events of equal names together; see `EventList.key_averages`."""
        return self.function_events.key_averages(*args, **kwargs)

    def total_average(self) -> FunctionEventAvg:
        """All events as one."""
        return self.function_events.total_average()

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds of all events."""
        return self.function_events.self_cpu_time_total

    def export_chrome_trace(self, path: Any) -> None:
        """Write the events for chrome://tracing; see `EventList.export_chrome_trace`."""
        self._inner.export_chrome_trace(path)

    def export_stacks(self, path: Any, metric: str = "self_cpu_time_total") -> None:
        """Write stacks for flame graphs; see `EventList.export_stacks`."""
        self._inner.export_stacks(path, metric)


class _Nothing(contextlib.ContextDecorator):
    """A mark for a tool that is not there."""

    def __init__(self, enabled: bool = True, record_shapes: bool = False) -> None:
        self.enabled = enabled

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing was marked."""


emit_nvtx = emit_itt = _Nothing
