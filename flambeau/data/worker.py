"""What a loader's worker process does: fetch batches it is asked for and send them back."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

import flambeau
from flambeau.data.fetch import IterableFetcher, MapFetcher
from flambeau.data.transport import Channel

#: Seconds between two looks at whether the loader's process is still there.
CHECK_INTERVAL = 5.0

#: The loaders' ends of all channels in this process: a forked worker must not keep copies.
open_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What `get_worker_info` tells inside a worker.

    Attributes:
        id: 0 to num_workers - 1.
        num_workers: how many there are.
        seed: what this worker's random generators were seeded with.
        dataset: this process's copy of the dataset.
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: list[WorkerInfo | None] = [None]


def get_worker_info() -> WorkerInfo | None:
    """Which worker of a DataLoader this process is; None outside of workers."""
    return _info[0]


@dataclass(frozen=True, slots=True)
class Task:
    """What all workers of a loader are told when they start."""

    dataset: Any
    is_iterable: bool
    auto_collation: bool
    collate_fn: Callable[[Any], Any]
    drop_last: bool
    base_seed: int
    init_fn: Callable[[int], None] | None
    num_workers: int

    def fetcher(self) -> MapFetcher | IterableFetcher:
        """What fetches batches, at the dataset's beginning."""
        kind = IterableFetcher if self.is_iterable else MapFetcher
        return kind(self.dataset, self.auto_collation, self.collate_fn, self.drop_last)


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """Sent in place of a batch when a worker's IterableDataset has ended."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Asks a persistent worker to begin a new epoch; it answers with the same."""


class KeyErrorMessage(str):
    """A message whose repr is itself: KeyError shows the repr of its argument."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class ExceptionWrapper:
    """An exception on its way from a worker to the loader, with its traceback as text.

    Args:
        where: completes "Caught ValueError ...".

    Made while the exception is being handled.
    """

    def __init__(self, where: str) -> None:
        kind, _, _ = sys.exc_info()
        self.exc_type: type[BaseException] = kind or RuntimeError
        self.exc_msg = traceback.format_exc()
        self.where = where
        self.name = self.exc_type.__name__
        try:
            pickle.loads(pickle.dumps(self.exc_type))
        except Exception:  # a class that the other process cannot look up by name
            self.exc_type = RuntimeError

    def reraise(self) -> NoReturn:
        """Raise an exception of the original type, or a RuntimeError where that is impossible."""
        message: Any = f"Caught {self.name} {self.where}.\nOriginal {self.exc_msg}"
        if self.exc_type is KeyError:
            message = KeyErrorMessage(message)
        elif getattr(self.exc_type, "message", None):
            raise self.exc_type(message=message)  # type: ignore[call-arg]
        try:
            exception = self.exc_type(message)
        except Exception:  # its constructor wants other arguments
            raise RuntimeError(message) from None
        raise exception


def seed_state(base_seed: int, worker_id: int) -> np.ndarray:
    """Four uint32 words to seed NumPy with: well mixed, and other words than `random`'s.

    Reference: O'Neill, "Developing a seed_seq Alternative", 2015 (as in NumPy's SeedSequence).
    """
    words = [worker_id, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    return np.random.SeedSequence(words).generate_state(4)


def worker_main(worker_id: int, task: Task, channel: Channel) -> None:
    """The main function of a worker process.

    Args:
        worker_id: 0 to num_workers - 1.
        task: what is to be done.
        channel: this worker's end of the connection to the loader.
    """
    _end_with(os.getppid())  # the loader, or the server that forks for it
    for other in list(open_channels):
        other.forget()
    # Ctrl-C reaches every process of the terminal: the loader's decides. A handler for SIGTERM
    # that the program installed is not meant for its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    flambeau.set_num_threads(1)
    seed = task.base_seed + worker_id
    random.seed(seed)
    flambeau.manual_seed(seed)
    # NumPy's old global generator, because that is what users' datasets draw from
    np.random.seed(seed_state(task.base_seed, worker_id))  # noqa: NPY002
    _info[0] = WorkerInfo(worker_id, task.num_workers, seed, task.dataset)
    try:
        _serve(worker_id, task, channel)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the loader is gone or does not want any more
    finally:
        channel.forget()


def _serve(worker_id: int, task: Task, channel: Channel) -> None:
    where = f"in DataLoader worker process {worker_id}"
    failure: ExceptionWrapper | None = None
    fetcher: Any = None
    try:
        if task.init_fn is not None:
            task.init_fn(worker_id)
        fetcher = task.fetcher()
    except Exception:
        failure = ExceptionWrapper(where)
    ended = False
    while True:
        message = channel.receive()
        if isinstance(message, Resume):
            channel.send((message, None))
            ended = False
            try:
                fetcher = task.fetcher()
            except Exception:
                failure = ExceptionWrapper(where)
            continue
        if ended:
            continue
        number, index = message
        data: Any
        if failure is not None:
            data = failure
            if fetcher is not None:
                failure = None
        else:
            try:
                data = fetcher.fetch(index)
            except Exception as error:
                ended = isinstance(error, StopIteration) and task.is_iterable
                data = StreamEnded(worker_id) if ended else ExceptionWrapper(where)
        try:
            channel.send((number, data))
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception:  # the batch cannot be pickled, or there is no shared memory for it
            channel.send((number, ExceptionWrapper(where)))
        del data, message, index  # the memory, while waiting for the next request


def _end_with(parent: int) -> None:
    """End this process soon after its parent, also where it is stuck in user code or a lock.

    The closed connection says so at once to a worker that looks at it.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(CHECK_INTERVAL)
        os._exit(1)

    threading.Thread(target=watch, name="flambeau parent watch", daemon=True).start()
