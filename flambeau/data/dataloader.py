"""DataLoader: batches of a dataset, made here or by worker processes."""

from __future__ import annotations

import contextlib
import copy
import itertools
import multiprocessing
import os
import signal
import sys
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from multiprocessing import connection
from multiprocessing.context import BaseContext
from typing import Any, Generic, TypeVar

import flambeau
from flambeau.data.collate import default_collate, default_convert
from flambeau.data.dataset import Dataset, IterableDataset
from flambeau.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    draw_seed,
)
from flambeau.data.transport import Channel
from flambeau.data.worker import (
    CHECK_INTERVAL,
    ExceptionWrapper,
    Resume,
    StreamEnded,
    Task,
    open_channels,
    worker_main,
)
from flambeau.runtime import profile

T = TypeVar("T", covariant=True)

#: Requests that may wait in a worker's socket; more stay here, so that writing never blocks.
_MAX_REQUESTS = 64
_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


class _InfiniteConstantSampler(Sampler[None]):
    """None for ever: what an IterableDataset is asked with."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)


class DataLoader(Generic[T]):
    """Iterates over a dataset in batches.

    Args:
        dataset: map-style (`__getitem__`, `__len__`) or an IterableDataset.
        batch_size: samples in a batch; None takes samples one by one, without a batch dimension.
        shuffle: new random order at each iteration.
        sampler: which indices, in which order; excludes `shuffle`.
        batch_sampler: lists of indices; excludes batch_size, shuffle, sampler and drop_last.
        num_workers: processes that fetch; 0 fetches in this one.
        collate_fn: makes a batch of a list of samples.
        pin_memory: copy batches into pinned memory, where there is an accelerator.
        drop_last: leave out a last batch that is not full.
        timeout: seconds to wait for a batch from the workers; 0 waits for ever.
        worker_init_fn: called in each worker with its id, after seeding.
        multiprocessing_context: how workers start: "fork", "spawn", "forkserver" or a context. By
            default fork on Linux, else what Python takes on the platform.
        generator: random order and the workers' seeds come from it.
        prefetch_factor: batches that each worker makes ahead (2).
        persistent_workers: keep the workers for the next iteration.
        pin_memory_device: deprecated, without effect.
        in_order: deliver batches in the sampler's order; False delivers the first that is ready.

    Raises:
        ValueError: options that contradict each other.

    A worker's random generators (`random`, NumPy, flambeau) are seeded by `base_seed + worker_id`,
    where `base_seed` is drawn from `generator` when an iteration begins.
    """

    _initialized = False
    _multiprocessing_context: Any = None

    def __init__(
        self,
        dataset: Dataset[T],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        self.num_workers = num_workers
        self.prefetch_factor = _check_workers(
            num_workers, timeout, prefetch_factor, persistent_workers
        )
        self.dataset = dataset
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.in_order = in_order
        self._is_iterable = isinstance(dataset, IterableDataset)
        _check_sampling(self._is_iterable, batch_size, shuffle, sampler, batch_sampler, drop_last)
        if batch_sampler is not None:
            batch_size, drop_last = None, False
        if sampler is None:
            if self._is_iterable:
                sampler = _InfiniteConstantSampler()
            elif shuffle:
                sampler = RandomSampler(dataset, generator=generator)  # type: ignore[arg-type]
            else:
                sampler = SequentialSampler(dataset)  # type: ignore[arg-type]
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.generator = generator
        if collate_fn is None:
            collate_fn = default_collate if self._auto_collation else default_convert
        self.collate_fn = collate_fn
        self.persistent_workers = persistent_workers
        self._initialized = True
        self._length_told: int | None = None
        self._iterator: MultiProcessingIterator | None = None
        self.check_worker_number_rationality()

    @property
    def multiprocessing_context(self) -> Any:
        """How workers are started; None is the default."""
        return self._multiprocessing_context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: Any) -> None:
        if context is not None:
            if self.num_workers <= 0:
                raise ValueError(
                    "multiprocessing_context can only be used with multi-process "
                    f"loading (num_workers > 0), but got num_workers="
                    f"{self.num_workers}"
                )
            if isinstance(context, str):
                valid = multiprocessing.get_all_start_methods()
                if context not in valid:
                    raise ValueError(
                        "multiprocessing_context option should specify a valid start "
                        f"method in {valid!r}, but got multiprocessing_context="
                        f"{context!r}"
                    )
                context = multiprocessing.get_context(context)
            if not isinstance(context, BaseContext):
                raise TypeError(
                    "multiprocessing_context option should be a valid context object "
                    "or a string specifying the start method, but got "
                    f"multiprocessing_context={context}"
                )
        self._multiprocessing_context = context

    def __setattr__(self, name: str, value: Any) -> None:
        if self._initialized and name in _FIXED:
            raise ValueError(
                f"{name} attribute should not be set after {self.__class__.__name__} is initialized"
            )
        super().__setattr__(name, value)

    def __iter__(self) -> Any:
        if self.num_workers == 0:
            return SingleProcessIterator(self)
        if not self.persistent_workers:
            return MultiProcessingIterator(self)
        if self._iterator is None or self._iterator.closed:
            self._iterator = MultiProcessingIterator(self)
        else:
            self._iterator.reset(self)
        return self._iterator

    @property
    def _auto_collation(self) -> bool:
        return self.batch_sampler is not None

    @property
    def _index_sampler(self) -> Any:
        return self.batch_sampler if self._auto_collation else self.sampler

    def __len__(self) -> int:
        """Number of batches. For an IterableDataset, what its own length says."""
        if not self._is_iterable:
            return len(self._index_sampler)
        length = self._length_told = len(self.dataset)  # type: ignore[arg-type]
        if self.batch_size is None:
            return length
        return length // self.batch_size if self.drop_last else -(-length // self.batch_size)

    def check_worker_number_rationality(self) -> None:
        """Warn when there are more workers than CPUs that may be used."""
        if not self.num_workers:
            return
        checked = hasattr(os, "sched_getaffinity")
        available = len(os.sched_getaffinity(0)) if checked else os.cpu_count()
        if available is not None and self.num_workers <= available:
            return
        suggestion = (
            "DataLoader is not able to compute a suggested max number of worker in current system."
            if available is None
            else f"Our suggested max number of worker in current system is {available}"
            f"{'' if checked else ' (`cpuset` is not taken into account)'}, which is smaller than "
            "what this DataLoader is going to create."
        )
        warnings.warn(
            f"This DataLoader will create {self.num_workers} worker processes in total. "
            f"{suggestion} Please be aware that excessive worker creation might get DataLoader "
            "running slow or even freeze, lower the worker number to avoid potential "
            "slowness/freeze if necessary.",
            stacklevel=3,
        )


def _check_workers(
    num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool
) -> int | None:
    """Check the options about workers; -> the prefetch factor."""
    if num_workers < 0:
        raise ValueError(
            "num_workers option should be non-negative; use num_workers=0 to disable "
            "multiprocessing."
        )
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError(
            "prefetch_factor option could only be specified in multiprocessing."
            "let num_workers > 0 to enable multiprocessing, otherwise set "
            "prefetch_factor to None."
        )
    if num_workers > 0 and prefetch_factor is None:
        prefetch_factor = 2
    elif prefetch_factor is not None and prefetch_factor < 0:
        raise ValueError("prefetch_factor option should be non-negative")
    if persistent_workers and num_workers == 0:
        raise ValueError("persistent_workers option needs num_workers > 0")
    return prefetch_factor


def _check_sampling(
    is_iterable: bool,
    batch_size: int | None,
    shuffle: bool | None,
    sampler: Any,
    batch_sampler: Any,
    drop_last: bool,
) -> None:
    """Refuse options about the order of samples that contradict each other."""
    if is_iterable:
        head = "DataLoader with IterableDataset: expected unspecified"
        if shuffle not in (False, None):
            raise ValueError(f"{head} shuffle option, but got shuffle={shuffle}")
        if sampler is not None:
            raise ValueError(f"{head} sampler option, but got sampler={sampler}")
        if batch_sampler is not None:
            raise ValueError(f"{head} batch_sampler option, but got batch_sampler={batch_sampler}")
    if sampler is not None and shuffle:
        raise ValueError("sampler option is mutually exclusive with shuffle")
    if batch_sampler is not None:
        if batch_size != 1 or shuffle or sampler is not None or drop_last:
            raise ValueError(
                "batch_sampler option is mutually exclusive with batch_size, shuffle, "
                "sampler, and drop_last"
            )
    elif batch_size is None and drop_last:
        raise ValueError(
            "batch_size=None option disables auto-batching and is mutually exclusive with drop_last"
        )


class _Iterator:
    """What both kinds of iterators share: the order of indices and the count of batches."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._dataset = loader.dataset
        self._is_iterable = loader._is_iterable
        self._index_sampler = loader._index_sampler
        self._num_workers = loader.num_workers
        self._timeout = loader.timeout
        self._pins = loader.pin_memory and self._check_pinning(loader)
        self._sampler_iter = iter(self._index_sampler)
        base_seed = draw_seed(loader.generator)
        self._task = Task(
            loader.dataset,
            loader._is_iterable,
            loader._auto_collation,
            loader.collate_fn,
            loader.drop_last,
            base_seed,
            loader.worker_init_fn,
            loader.num_workers,
        )
        self._length_told = loader._length_told
        self._yielded = 0

    @staticmethod
    def _check_pinning(loader: DataLoader[Any]) -> bool:
        if loader.pin_memory_device:
            warnings.warn(
                "pin_memory_device is deprecated, the current accelerator will be used "
                "as the device,ignore pin_memory_device="
                f"'{loader.pin_memory_device}'.",
                stacklevel=5,
            )
        accelerator = getattr(flambeau, "accelerator", None)
        if accelerator is not None and accelerator.is_available():
            return True
        warnings.warn(
            "'pin_memory' argument is set as true but no accelerator is found, then "
            "device pinned memory won't be used.",
            stacklevel=5,
        )
        return False

    def __iter__(self) -> Any:
        return self

    def __len__(self) -> int:
        return len(self._index_sampler)

    def _next_data(self) -> Any:
        raise NotImplementedError

    def __next__(self) -> Any:
        with profile.span(f"enumerate(DataLoader)#{type(self).__name__}.__next__", "user"):
            data = self._next_data()
        self._yielded += 1
        if (
            self._is_iterable
            and self._length_told is not None
            and (self._yielded > self._length_told)
        ):
            message = (
                f"Length of IterableDataset {self._dataset} was reported to be "
                f"{self._length_told}(when accessing len(dataloader)), but "
                f"{self._yielded} samples have been fetched. "
            )
            if self._num_workers > 0:
                message += (
                    "For multiprocessing data-loading, this could be caused by not properly"
                    " configuring the IterableDataset replica at each worker. Please see "
                    "https://pytorch.org/docs/stable/data.html#torch.utils.data."
                    "IterableDataset for examples."
                )
            warnings.warn(message, stacklevel=2)
        return pin_memory(data) if self._pins else data

    def __getstate__(self) -> Any:
        raise NotImplementedError(f"{self.__class__.__name__} cannot be pickled")


class SingleProcessIterator(_Iterator):
    """Fetches batches in this process when they are asked for."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        super().__init__(loader)
        self._fetcher = self._task.fetcher()

    def _next_data(self) -> Any:
        return self._fetcher.fetch(next(self._sampler_iter))


class _Worker:
    """A worker process and what the loader knows about it."""

    def __init__(self, number: int, process: Any, channel: Channel) -> None:
        self.number = number
        self.process = process
        self.channel = channel
        self.active = True  # has more to give in this epoch
        self.tasks = 0  # batches asked for and not yet delivered
        self.requests = 0  # of these, sent and not yet answered
        self.backlog: deque[tuple[int, Any]] = deque()

    def feed(self) -> None:
        """Send requests as far as they surely fit the socket."""
        while self.backlog and self.requests < _MAX_REQUESTS:
            self.requests += 1
            # a dead worker is noticed, and reported, when its answer is waited for
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.channel.send(self.backlog.popleft())


class MultiProcessingIterator(_Iterator):
    """Fetches batches in worker processes, a few ahead, and delivers them in order."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        super().__init__(loader)
        self._prefetch = loader.prefetch_factor or 0
        if self._prefetch <= 0:
            raise AssertionError(
                "prefetch_factor must be greater than 0 for MultiProcessingIterator"
            )
        self._in_order = loader.in_order
        self._persistent = loader.persistent_workers
        self._workers: list[_Worker] = []
        self._arrived: deque[tuple[_Worker, Any]] = deque()
        self._lost: str | None = None
        # from here on, workers that were started are also stopped
        self._finalizer = weakref.finalize(self, _shut_down, os.getpid(), self._workers)
        context = loader.multiprocessing_context or _default_context()
        try:
            for number in range(self._num_workers):
                self._workers.append(_start(context, number, self._task))
        except BaseException:
            self._finalizer()
            raise
        self._begin()

    @property
    def closed(self) -> bool:
        """Whether the workers have been stopped."""
        return not self._finalizer.alive

    def reset(self, loader: DataLoader[Any]) -> None:
        """Begin a new epoch with the workers there are."""
        self._sampler_iter = iter(self._index_sampler)
        self._yielded = 0
        self._length_told = loader._length_told
        for worker in self._workers:
            worker.backlog.clear()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                worker.channel.send(Resume())
        waiting = len(self._workers)
        while waiting:
            _, (number, _) = self._receive()
            waiting -= isinstance(number, Resume)
        self._begin()

    def _begin(self) -> None:
        self._send_number = 0
        self._next_number = 0
        # number of a batch -> (worker,) while it is being made, (worker, batch) when it is there
        self._batches: dict[int, tuple[Any, ...]] = {}
        for worker in self._workers:
            worker.active, worker.tasks, worker.requests = True, 0, 0
        self._turns = itertools.cycle(self._workers)
        for _ in range(self._prefetch * self._num_workers):
            self._request()

    def _request(self) -> None:
        """Ask the next worker for the next batch."""
        try:
            index = next(self._sampler_iter)
        except StopIteration:
            return
        active = sum(worker.active for worker in self._workers)
        capacity = self._prefetch * self._num_workers // max(active, 1)
        for worker in itertools.islice(self._turns, self._num_workers):
            if worker.active and (self._in_order or worker.tasks < capacity):
                break
        else:
            return
        self._batches[self._send_number] = (worker,)
        worker.tasks += 1
        worker.backlog.append((self._send_number, index))
        worker.feed()
        self._send_number += 1

    def _next_data(self) -> Any:
        while True:
            while self._next_number < self._send_number:
                entry = self._batches.get(self._next_number)
                if entry is not None:
                    if len(entry) == 2 or entry[0].active:
                        break
                    del self._batches[self._next_number]  # its worker's stream has ended
                self._next_number += 1
            else:
                if not self._persistent:
                    self._finalizer()
                raise StopIteration
            if len(self._batches[self._next_number]) == 2:
                worker, data = self._batches.pop(self._next_number)
                self._next_number += 1
                return self._deliver(worker, data)
            worker, (number, data) = self._receive()
            worker.requests -= 1
            worker.feed()
            if isinstance(data, StreamEnded):
                worker.active = False
                if not self._persistent:
                    worker.channel.close()
                self._request()
            elif number == self._next_number:
                del self._batches[number]
                self._next_number += 1
                return self._deliver(worker, data)
            elif not self._in_order:
                del self._batches[number]
                return self._deliver(worker, data)
            else:
                self._batches[number] = (worker, data)

    def _deliver(self, worker: _Worker, data: Any) -> Any:
        worker.tasks -= 1
        self._request()
        if isinstance(data, ExceptionWrapper):
            data.reraise()
        return data

    def _receive(self) -> tuple[_Worker, Any]:
        """The next message from any worker, and from which.

        Raises:
            RuntimeError: a worker died, or nothing came within the timeout.
        """
        deadline = time.monotonic() + self._timeout if self._timeout > 0 else None
        while not self._arrived:
            if self._lost is not None:
                self._finalizer()
                raise RuntimeError(self._lost)
            sources: dict[Any, _Worker] = {}
            for worker in self._workers:
                if worker.active or self._persistent:
                    sources[worker.channel] = worker
                    sources[worker.process.sentinel] = worker
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = connection.wait(list(sources), left)
            if not ready:
                raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds")
            self._collect({id(sources[r]): sources[r] for r in ready}.values())
        return self._arrived.popleft()

    def _collect(self, workers: Any) -> None:
        """Take one message from each worker that has one; note those that are gone."""
        dead = []
        for worker in workers:
            if connection.wait([worker.channel], 0):
                try:
                    self._arrived.append((worker, worker.channel.receive()))
                    continue
                except (EOFError, ConnectionResetError):
                    pass
            dead.append(worker)
        if dead:
            pids = ", ".join(str(worker.process.pid) for worker in dead)
            reasons = ", ".join(sorted({_how_it_ended(worker.process) for worker in dead}))
            self._lost = f"DataLoader worker (pid(s) {pids}) exited unexpectedly: {reasons}"


def _how_it_ended(process: Any) -> str:
    process.join(CHECK_INTERVAL)
    code = process.exitcode
    if code is None:
        return "it closed its connection"
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = {"SIGKILL": " (out of memory?)", "SIGBUS": " (out of shared memory?)"}.get(name, "")
    return f"killed by {name}{hint}"


def _default_context() -> Any:
    """What the program chose; else fork where it is safe, as it shares the dataset's memory."""
    chosen = multiprocessing.get_start_method(allow_none=True)
    if chosen is None and sys.platform == "linux":
        return multiprocessing.get_context("fork")
    return multiprocessing.get_context(chosen)


def _start(context: Any, number: int, task: Task) -> _Worker:
    ours, theirs = Channel.pair()
    open_channels.add(ours)
    process = context.Process(target=worker_main, args=(number, task, theirs), daemon=True)
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns when a process with threads forks. Workers use none of them.
            warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
            process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.forget()
    return _Worker(number, process, ours)


def _shut_down(owner: int, workers: list[_Worker]) -> None:
    """Stop workers: ask, then insist. Does nothing in a process that inherited them."""
    if os.getpid() != owner:
        return
    for worker in workers:
        worker.channel.close()
    deadline = time.monotonic() + CHECK_INTERVAL
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
    for stop in ("terminate", "kill"):
        left = [worker.process for worker in workers if worker.process.is_alive()]
        for process in left:
            getattr(process, stop)()
        for process in left:
            process.join(CHECK_INTERVAL)


def pin_memory(data: Any) -> Any:
    """A batch with its tensors copied into pinned memory, in containers of the same types.

    Args:
        data: tensors, objects with a `pin_memory` method, and containers of them.
    """
    if hasattr(data, "pin_memory"):
        return data.pin_memory()
    if isinstance(data, (str, bytes)):
        return data
    if isinstance(data, Mapping):
        pinned = {key: pin_memory(value) for key, value in data.items()}
        if isinstance(data, MutableMapping):
            made = copy.copy(data)
            made.update(pinned)
            return made
        return pinned
    if isinstance(data, tuple):
        items = [pin_memory(value) for value in data]
        return type(data)(*items) if hasattr(data, "_fields") else type(data)(items)
    if isinstance(data, MutableSequence):
        clone = copy.copy(data)
        for i, item in enumerate(data):
            clone[i] = pin_memory(item)
        return clone
    return [pin_memory(item) for item in data] if isinstance(data, Sequence) else data
