"""Stores: keys and values that several processes share while they meet (`torch.distributed.Store`).

Groups need none, since ranks meet by their launcher; programs that use one by themselves find it
here. A store says how one operation is applied to its dictionary alone (`_apply`); all that is
public is made of that.
"""

from __future__ import annotations

import abc
import contextlib
import fcntl
import json
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from flambeau.distributed.transport.base import DistError

Table = dict[str, str]
_POLL_SECONDS = 0.01


def _operate(table: Table, name: str, *words: Any) -> Any:
    """One operation on a table; values are texts of one character a byte."""
    key = words[0] if words else ""
    if name == "set":
        table[key] = words[1]
    elif name == "get":
        return table.get(key)
    elif name == "add":
        table[key] = str(int(table.get(key, "0")) + words[1])
        return int(table[key])
    elif name == "append":
        table[key] = table.get(key, "") + words[1]
    elif name == "compare_set":
        expected, desired = words[1:]
        if table.get(key, "" if not expected else None) == expected:
            table[key] = desired
        return table.get(key, expected)
    elif name == "delete":
        return table.pop(key, None) is not None
    elif name == "count":
        return len(table)
    return None


def _text(value: str | bytes) -> str:
    return value.encode().decode("latin-1") if isinstance(value, str) else value.decode("latin-1")


class Store(abc.ABC):
    """Keys and values that processes share.

    Args:
        timeout: how long `get` and `wait` wait for a key.
    """

    def __init__(self, timeout: timedelta = timedelta(seconds=300)) -> None:
        self.timeout = timeout

    @abc.abstractmethod
    def _apply(self, name: str, *words: Any) -> Any:
        """Do one operation, alone."""

    def set_timeout(self, timeout: timedelta) -> None:
        """How long `get` and `wait` wait from now on."""
        self.timeout = timeout

    def set(self, key: str, value: str | bytes) -> None:
        """Give a key a value."""
        self._apply("set", key, _text(value))

    def get(self, key: str) -> bytes:
        """The value of a key, once it has one.

        Raises:
            DistError: it has none within the timeout.
        """
        self.wait([key])
        found: str = self._apply("get", key)
        return found.encode("latin-1")

    def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
        """Return when all keys have values.

        Raises:
            DistError: they have not within the timeout.
        """
        end = time.monotonic() + (timeout or self.timeout).total_seconds()
        while not self.check(keys):
            if time.monotonic() > end:
                raise DistError(f"wait timeout after {timeout or self.timeout}, keys: {list(keys)}")
            time.sleep(_POLL_SECONDS)

    def check(self, keys: Sequence[str]) -> bool:
        """Whether all keys have values."""
        return all(self._apply("get", key) is not None for key in keys)

    def add(self, key: str, amount: int) -> int:
        """Count a key up; -> its number then."""
        return int(self._apply("add", key, int(amount)))

    def append(self, key: str, value: str | bytes) -> None:
        """Put a value behind that of a key."""
        self._apply("append", key, _text(value))

    def compare_set(self, key: str, expected_value: str, desired_value: str) -> bytes:
        """Give a key a value if it has the expected one ("": none); -> what it has then."""
        found: str = self._apply("compare_set", key, _text(expected_value), _text(desired_value))
        return found.encode("latin-1")

    def delete_key(self, key: str) -> bool:
        """Take a key away; -> whether it was there."""
        return bool(self._apply("delete", key))

    def num_keys(self) -> int:
        """How many keys there are."""
        return int(self._apply("count"))

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        """The values of keys."""
        return [self.get(key) for key in keys]

    def multi_set(self, keys: Sequence[str], values: Sequence[str | bytes]) -> None:
        """Give keys values."""
        for key, value in zip(keys, values, strict=True):
            self.set(key, value)


class HashStore(Store):
    """A store of the threads of this process."""

    def __init__(self, timeout: timedelta = timedelta(seconds=300)) -> None:
        super().__init__(timeout)
        self._table: Table = {}
        self._lock = threading.Lock()

    def _apply(self, name: str, *words: Any) -> Any:
        with self._lock:
            return _operate(self._table, name, *words)


class FileStore(Store):
    """A store of processes that see one file.

    Args:
        file_name: of the file, which is made if it is not there.
        world_size: of no consequence.
    """

    def __init__(self, file_name: str, world_size: int = -1) -> None:
        super().__init__()
        self._file = Path(file_name)

    @property
    def path(self) -> str:
        """Where the file is."""
        return str(self._file)

    def _apply(self, name: str, *words: Any) -> Any:
        with self._file.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            table: Table = json.loads(file.read() or "{}")
            found = _operate(table, name, *words)
            file.truncate(0)
            file.write(json.dumps(table))
        return found


class TCPStore(Store):
    """A store of processes that reach one host.

    Args:
        host_name, port: of the process that has the values; port 0 takes one that is free.
        world_size: of no consequence, as `wait_for_workers`, `multi_tenant` and `use_libuv`.
        is_master: whether that is this process.
        timeout: how long to wait for it to be there, and for keys.
    """

    def __init__(
        self,
        host_name: str,
        port: int,
        world_size: int | None = None,
        is_master: bool = False,
        timeout: timedelta = timedelta(seconds=300),
        wait_for_workers: bool = True,
        multi_tenant: bool = False,
        master_listen_fd: int | None = None,
        use_libuv: bool = True,
    ) -> None:
        super().__init__(timeout)
        self.host = host_name
        self.port = port
        self._lock = threading.Lock()
        if is_master:
            self._listener = Listener((host_name, port))
            self.port = int(self._listener.address[1])
            self._held = HashStore()
            threading.Thread(target=self._serve, name="store", daemon=True).start()
        self._connection = self._connected(timeout.total_seconds())

    def _connected(self, seconds: float) -> Connection:
        end = time.monotonic() + seconds
        while True:
            try:
                return Client((self.host, self.port))
            except OSError as error:
                if time.monotonic() > end:
                    raise DistError(
                        f"the store at {self.host}:{self.port} could not be reached: {error}"
                    ) from error
                time.sleep(_POLL_SECONDS)

    def _serve(self) -> None:
        """Answer whoever comes, each in a thread."""
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                name, *words = json.loads(connection.recv_bytes())
                connection.send_bytes(json.dumps(self._held._apply(name, *words)).encode())

    def _apply(self, name: str, *words: Any) -> Any:
        with self._lock:
            self._connection.send_bytes(json.dumps([name, *words]).encode())
            return json.loads(self._connection.recv_bytes())


class PrefixStore(Store):
    """A part of a store: its keys begin with a prefix."""

    def __init__(self, prefix: str, store: Store) -> None:
        super().__init__(store.timeout)
        self.prefix = prefix
        self.underlying_store = store

    def _apply(self, name: str, *words: Any) -> Any:
        if words:
            words = (f"{self.prefix}/{words[0]}", *words[1:])
        return self.underlying_store._apply(name, *words)
