"""`profile`, `schedule` and `record_function`, as torch.profiler has them."""

from __future__ import annotations

import contextlib
import enum
import functools
import json
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from flambeau import record
from flambeau.profiler import roofline, trace
from flambeau.profiler.analysis import events_of
from flambeau.profiler.events import EventList
from flambeau.profiler.holdings import MemoryPeak
from flambeau.profiler.kernels import KernelList, summary_of
from flambeau.profiler.recorder import Recorder
from flambeau.runtime import profile as listening


class ProfilerActivity(enum.IntEnum):
    """What a profile may record; here all is the CPU's."""

    CPU = 0
    XPU = 1
    MTIA = 2
    CUDA = 3
    HPU = 4
    PrivateUse1 = 5


class ProfilerAction(enum.Enum):
    """What a profile does in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities() -> set[ProfilerActivity]:
    """What can be recorded here."""
    return {ProfilerActivity.CPU}


def kineto_available() -> bool:
    """Whether profiles can be recorded: they always can."""
    return True


def schedule(
    *,
    wait: int,
    warmup: int,
    active: int,
    repeat: int = 0,
    skip_first: int = 0,
    skip_first_wait: int = 0,
) -> Callable[[int], ProfilerAction]:
    """What to do in which step: skip, then again and again wait, warm up, record.

    Args:
        wait: steps in which nothing happens.
        warmup: steps that run as recorded ones do, whose events are dropped.
        active: steps that are recorded, at least one.
        repeat: how often, 0 for as long as the profile lasts.
        skip_first: steps before the first of these.
        skip_first_wait: if not 0, the first of them does without its wait.

    Returns:
        step number -> action, for `profile(schedule=...)`.

    Raises:
        AssertionError: a negative number, or no active step.
    """
    if min(wait, warmup, repeat, skip_first) < 0 or active <= 0:
        raise AssertionError(
            f"Invalid profiler schedule arguments. Got wait={wait} (need >= 0), warmup={warmup} "
            f"(need >= 0), active={active} (need > 0), repeat={repeat} (need >= 0), "
            f"skip_first={skip_first} (need >= 0)."
        )
    if warmup == 0:
        warnings.warn(
            "Profiler won't be using warmup, this can skew profiler results", stacklevel=2
        )
    length = wait + warmup + active

    def action(step: int) -> ProfilerAction:
        assert step >= 0, f"Step must be non-negative. Got {step}."
        if step < skip_first:
            return ProfilerAction.NONE
        step -= skip_first
        if skip_first_wait != 0:
            step += wait
        if repeat > 0 and step // length >= repeat:
            return ProfilerAction.NONE
        within = step % length
        if within < wait:
            return ProfilerAction.NONE
        if within < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if within < length - 1 else ProfilerAction.RECORD_AND_SAVE

    return action


def _always(step: int) -> ProfilerAction:
    return ProfilerAction.RECORD


def tensorboard_trace_handler(
    dir_name: str, worker_name: str | None = None, use_gzip: bool = False
) -> Callable[[profile], None]:
    """An `on_trace_ready` that writes each trace into a folder for TensorBoard's profiler plugin.

    Args:
        dir_name: the folder, made if it is not there.
        worker_name: part of the files' names; by default host and process.
        use_gzip: compress them.

    Raises:
        RuntimeError: (when called) the folder cannot be made.
    """

    def handler(prof: profile) -> None:
        try:
            os.makedirs(dir_name, exist_ok=True)
        except OSError as error:
            raise RuntimeError(f"Can't create directory: {dir_name}") from error
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        name = f"{worker}.{time.time_ns()}.pt.trace.json{'.gz' if use_gzip else ''}"
        prof.export_chrome_trace(os.path.join(dir_name, name))

    return handler


class _KinetoProfile:
    """A profile that is started and stopped by hand; see `profile` for the options."""

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        experimental_config: Any = None,
        execution_trace_observer: Any = None,
        acc_events: bool = False,
        custom_trace_id_callback: Any = None,
    ) -> None:
        self.activities = set(supported_activities() if activities is None else activities)
        if not self.activities:
            raise AssertionError("No valid profiler activities found")
        self.record_shapes = record_shapes
        self.profile_memory = profile_memory
        self.with_stack = with_stack
        self.with_flops = with_flops
        self.with_modules = with_modules
        self.experimental_config = experimental_config
        self.execution_trace_observer = execution_trace_observer
        self.acc_events = acc_events
        self.custom_trace_id_callback = custom_trace_id_callback
        self.profiler: Recorder | None = None
        self._modules: list[Any] = []
        self._metadata: dict[str, Any] = {}
        self._events: EventList | None = None
        self._warming = False

    # -- recording --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to record."""
        self.prepare_trace()
        self.start_trace()

    def stop(self) -> None:
        """End recording."""
        self.stop_trace()

    def prepare_trace(self) -> None:
        """Make ready to record; what is pending is executed first, as it belongs to no profile."""
        record.flush()
        self.profiler = None

    def start_trace(self) -> None:
        """Begin to record.

        Raises:
            RuntimeError: another profile records.
        """
        if listening.active is not None:
            raise RuntimeError(
                "Can't enable the profiler: it is already enabled on this thread or another"
            )
        self._events = None
        recorder = Recorder(
            with_rows=ProfilerActivity.CPU in self.activities,
            with_stack=self.with_stack,
            with_memory=self.profile_memory,
        )
        recorder.open()
        self.profiler = recorder
        if self.with_modules:
            self._watch_modules(recorder)

    def stop_trace(self) -> None:
        """End recording; what was recorded and is pending is executed first."""
        recorder = self.profiler
        if recorder is None or listening.active is not recorder:
            return
        try:
            record.flush()
        finally:
            recorder.close()
            for handle in self._modules:
                handle.remove()
            self._modules = []

    def _watch_modules(self, recorder: Recorder) -> None:
        """A span a call of a module."""
        hooks = sys.modules["flambeau.nn.hooks"]
        begun: list[int] = []

        def before(module: Any, args: Any) -> None:
            begun.append(recorder.mark())

        def after(module: Any, args: Any, found: Any) -> None:
            if begun:
                recorder.add(f"nn.Module: {type(module).__name__}", "module", begun.pop())

        self._modules = [
            hooks.register_module_forward_pre_hook(before),
            hooks.register_module_forward_hook(after, always_call=True),
        ]

    def toggle_collection_dynamic(
        self, enable: bool, activities: Iterable[ProfilerActivity]
    ) -> None:
        """Stop or resume recording in the middle of a profile.

        Args:
            enable: whether to record from now on.
            activities: which of them; only the CPU's can be.
        """
        recorder = self.profiler
        if recorder is None or ProfilerActivity.CPU not in set(activities):
            return
        if enable and listening.active is None:
            listening.active = recorder
        elif not enable and listening.active is recorder:
            record.flush()
            listening.active = None

    # -- results ----------------------------------------------------------------------------------

    def _recorded(self) -> Recorder:
        recorder = self.profiler
        if recorder is None:
            raise AssertionError("Profiler must be started before its results are asked for")
        return recorder

    def events(self) -> EventList:
        """All events in order of their begin.

        Raises:
            AssertionError: the profile has not been started.
        """
        recorder = self._recorded()
        if self._events is None or listening.active is recorder:
            self._events = events_of(
                recorder,
                shapes=self.record_shapes,
                stacks=self.with_stack,
                memory=self.profile_memory,
                flops=self.with_flops,
            )
        return self._events

    def key_averages(
        self,
        group_by_input_shape: bool = False,
        group_by_stack_n: int = 0,
        group_by_overload_name: bool = False,
    ) -> EventList:
        """Events of equal names together; see `EventList.key_averages`."""
        return self.events().key_averages(
            group_by_input_shape, group_by_stack_n, group_by_overload_name
        )

    def kernels(self) -> KernelList:
        """What the kernels did, those of one step of a program together, the longest first.

        Its `table()` compares each with the machine's limits.
        """
        return KernelList.of(self.events(), self._recorded().threads)

    def summary(self) -> str:
        """Where the time went: recording, compiling, kernels, calls of libraries, the rest."""
        return summary_of(self.events(), self._recorded())

    def export_chrome_trace(self, path: Any) -> None:
        """Write the events for chrome://tracing and https://ui.perfetto.dev.

        Args:
            path: of the file; compressed if it ends in .gz.
        """
        trace.write_chrome_trace(path, self.events(), self._recorded(), self._metadata)

    def export_stacks(self, path: Any, metric: str = "self_cpu_time_total") -> None:
        """Write stacks for flame graphs; needs `with_stack`. See `EventList.export_stacks`."""
        self.events().export_stacks(path, metric)

    def memory_peak(self) -> MemoryPeak:
        """What held memory when most was in use, by the operation whose result it was; needs
        `profile_memory`.

        Raises:
            ValueError: the profile was made without `profile_memory`.
        """
        if not self.profile_memory:
            raise ValueError("profile_memory=True required for memory profiling.")
        return MemoryPeak.of(self._recorded())

    def export_memory_timeline(self, path: Any, device: str | None = None) -> None:
        """Write memory over time; needs `profile_memory`.

        Args:
            path: .html for a picture with the table of `memory_peak`, .svg for the picture, else
                JSON of two lists: microseconds since the profile began, bytes allocated from then
                on.
            device: whose memory; "cpu" or None.

        Raises:
            ValueError: the profile was made without `profile_memory`, or another device.
        """
        if not self.profile_memory:
            raise ValueError("profile_memory=True required for memory profiling.")
        if device not in (None, "cpu"):
            raise ValueError(f"memory of {device!r} is not recorded, only of 'cpu'")
        trace.write_memory(path, self._recorded(), self.memory_peak().table())

    def export_roofline(self, path: Any) -> None:
        """Write a picture of all kernels below the machine's limits, FLOP/s over FLOP a byte.

        Args:
            path: .svg for the picture alone, else a page with it that needs nothing else.
        """
        roofline.write_roofline(path, self.kernels())

    def add_metadata(self, key: str, value: str) -> None:
        """A text that the trace shall contain."""
        self._metadata[key] = value

    def add_metadata_json(self, key: str, value: str) -> None:
        """JSON that the trace shall contain."""
        self._metadata[key] = json.loads(value)

    preset_metadata_json = add_metadata_json


class profile(_KinetoProfile):
    """Records what happens in its body.

    Args:
        activities: of `ProfilerActivity`; without the CPU's, kernels alone are recorded.
        schedule: step number -> `ProfilerAction`; see the function `schedule`. Without one
            everything is recorded.
        on_trace_ready: called with the profile when there is something to look at: at the end, or
            after every last active step of a schedule.
        record_shapes: note the shapes of what is read.
        profile_memory: note what is allocated and given back.
        with_stack: note the lines of the program that recorded an operation.
        with_flops: show operations in tables (kernels always know them).
        with_modules: an event a call of a module.
        acc_events: keep the events of earlier cycles of a schedule.
        use_cuda, experimental_config, execution_trace_observer, custom_trace_id_callback: taken
            for torch's sake; they change nothing.

    Example:
        >>> import flambeau
        >>> from flambeau.profiler import profile
        >>> x = flambeau.rand(64, 32)
        >>> values = x.tolist()  # computed before the profile begins
        >>> with profile() as prof:
        ...     sums = x.exp().sum(-1).tolist()
        >>> [e.key for e in prof.events() if e.category == "kernel"]
        ['kernel::exp, sum']
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[..., Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        experimental_config: Any = None,
        execution_trace_observer: Any = None,
        acc_events: bool = False,
        use_cuda: bool | None = None,
        custom_trace_id_callback: Any = None,
    ) -> None:
        super().__init__(
            activities=activities,
            record_shapes=record_shapes,
            profile_memory=profile_memory,
            with_stack=with_stack,
            with_flops=with_flops,
            with_modules=with_modules,
            experimental_config=experimental_config,
            execution_trace_observer=execution_trace_observer,
            acc_events=acc_events,
            custom_trace_id_callback=custom_trace_id_callback,
        )
        self.schedule = schedule or _always
        self.record_steps = schedule is not None
        self.on_trace_ready = on_trace_ready
        self.step_num = 0
        self.current_action = self.schedule(0)
        self.step_rec_fn: record_function | None = None

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin with the first step."""
        self._become(ProfilerAction.NONE, self.current_action)
        self._open_step()

    def stop(self) -> None:
        """End, as after the last active step."""
        self._close_step()
        recording = self.current_action in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        self._end()
        if recording and self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def step(self) -> None:
        """Say that the next step begins."""
        self._close_step()
        before = self.current_action
        self.step_num += 1
        self.current_action = self.schedule(self.step_num)
        self._become(before, self.current_action)
        self._open_step()

    def _become(self, before: ProfilerAction, now: ProfilerAction) -> None:
        if before is ProfilerAction.RECORD_AND_SAVE:
            self._end()
            if self.on_trace_ready is not None:
                self.on_trace_ready(self)
            before = ProfilerAction.NONE
        recording = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        if now is ProfilerAction.NONE:
            self._end()
        elif now is ProfilerAction.WARMUP:
            if before is ProfilerAction.NONE:
                self._begin()
        elif before is ProfilerAction.WARMUP:  # what was heard while warming up does not count
            self._end()
            self._begin()
        elif now in recording and before is ProfilerAction.NONE:
            self._begin()

    def _begin(self) -> None:
        self.prepare_trace()
        self.start_trace()

    def _end(self) -> None:
        self.stop_trace()

    def _open_step(self) -> None:
        if self.record_steps and listening.active is self.profiler is not None:
            self.step_rec_fn = record_function(f"ProfilerStep#{self.step_num}")
            self.step_rec_fn.__enter__()

    def _close_step(self) -> None:
        if self.step_rec_fn is not None:
            self.step_rec_fn.__exit__(None, None, None)
            self.step_rec_fn = None

    def set_custom_trace_id_callback(self, callback: Any) -> None:
        """Taken for torch's sake."""
        self.custom_trace_id_callback = callback

    def get_trace_id(self) -> str | None:
        """What the callback says."""
        made = self.custom_trace_id_callback
        return None if made is None else str(made())


class record_function(contextlib.ContextDecorator):
    """An event of the program's own: the time of a body or of a function.

    Operations are recorded in it, and executed in it where a value is needed; work that is still
    pending at its end is executed later.

    Args:
        name: of the event.
        args: a text shown with it.

    Example:
        >>> with record_function("loading"):
        ...     pass
    """

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name = name
        self.args = args
        self._spans: list[Any] = []

    def __enter__(self) -> record_function:
        known = {} if self.args is None else {"args": self.args}
        span = listening.span(self.name, "user", **known)
        span.__enter__()
        self._spans.append(span)
        return self

    def __exit__(self, *exc: Any) -> None:
        self._spans.pop().__exit__(*exc)

    def __call__(self, function: Any) -> Any:
        """The function, an event a call."""

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name, self.args):
                return function(*args, **kwargs)

        return called
