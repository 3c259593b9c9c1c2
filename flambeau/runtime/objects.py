"""The cache on disk: compiled objects and whole programs, by key.

An entry is one file named by its key: a header, a checksum over key and payload, the payload. It
is written to a temporary file and renamed, so readers in any number of processes see a whole
entry or none; what is truncated, damaged or stored under another key's name fails the checksum,
is removed and counts as absent. The directory is bounded: when it grows past the limit the
entries used longest ago go.

A cache of code is only as safe as the right to write it: entries are read only from a directory
that belongs to the current user and that nobody else may write, and only when the file itself is
such. Whatever goes wrong with the disk, the program runs without the cache.

Environment: FLAMBEAU_CACHE=0 turns it off, FLAMBEAU_CACHE_DIR says where (default: the
platform's cache folder), FLAMBEAU_CACHE_SIZE how big ("512MB", "2GB", bytes; default 512 MB).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

# Part of every key: raise it when the meaning of stored bytes changes.
VERSION = 1

_MAGIC = b"FLAMBEAU"
_DIGEST = 32
_HEADER = len(_MAGIC) + 8 + _DIGEST
_DEFAULT_LIMIT = 512 << 20
_TOUCH_SECONDS = 60.0
_STALE_SECONDS = 3600.0


@dataclass(slots=True)
class Counts:
    """What the cache did in this process."""

    hits: int = 0
    misses: int = 0
    stored: int = 0
    corrupt: int = 0
    evicted: int = 0


def digest(*parts: str | bytes) -> bytes:
    """A key of 32 bytes from any parts (sha256; each part is preceded by its length)."""
    state = hashlib.sha256(b"flambeau %d" % VERSION)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.digest()


def _checksum(key: bytes, payload: bytes) -> bytes:
    state = hashlib.blake2b(key, digest_size=_DIGEST)
    state.update(payload)
    return state.digest()


def _private(status: os.stat_result) -> bool:
    """Whether what `status` describes belongs to this user and only this user may write it."""
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


class ObjectCache:
    """Bytes by key in one directory, bounded in size, shared by any number of processes.

    Args:
        directory: where the entries lie (made on the first `put`, for this user alone).
        limit: bytes after which the entries used longest ago are removed.
    """

    def __init__(self, directory: Path, limit: int = _DEFAULT_LIMIT) -> None:
        self.directory = directory
        self.limit = limit
        self.counts = Counts()
        self._lock = threading.Lock()
        self._usable: bool | None = None
        self._estimate: int | None = None  # bytes in the directory, as far as this process knows
        self._unscanned = 0  # bytes this process stored since it last looked

    def get(self, key: bytes) -> bytes | None:
        """The payload stored under `key`, or None (absent, damaged, not ours, unreadable)."""
        payload = None
        if self._check(create=False):
            with contextlib.suppress(OSError):
                payload = self._read(self._path(key), key)
        if payload is None:
            self.counts.misses += 1
        else:
            self.counts.hits += 1
        return payload

    def put(self, key: bytes, payload: bytes) -> bool:
        """Store `payload` under `key`; returns whether it was (a disk may be full or read-only)."""
        size = _HEADER + len(payload)
        if size > self.limit or not self._check(create=True):
            return False
        temporary = None
        try:
            temporary = os.path.join(self.directory, f".new-{os.getpid()}-{os.urandom(8).hex()}")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            descriptor = os.open(temporary, flags, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + len(payload).to_bytes(8, "little") + _checksum(key, payload))
                file.write(payload)
            os.replace(temporary, self._path(key))
        except OSError:
            self._usable = None  # should the directory be gone, the next one makes it anew
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            return False
        self.counts.stored += 1
        self._account(size)
        return True

    def remove(self, key: bytes) -> None:
        """Forget what is stored under `key`, if anything is."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(key))

    def clear(self) -> None:
        """Remove every entry."""
        for entry in self._entries():
            with contextlib.suppress(OSError):
                os.unlink(entry[2])
        self._estimate = None

    def items(self) -> dict[bytes, bytes]:
        """Every entry that is whole."""
        keys = [bytes.fromhex(os.path.basename(path)) for _, _, path in self._entries()]
        found = {key: self.get(key) for key in keys}
        return {key: payload for key, payload in found.items() if payload is not None}

    def usage(self) -> tuple[int, int]:
        """(number of entries, bytes) in the directory now."""
        entries = self._entries()
        return len(entries), sum(size for _, size, _ in entries)

    def _path(self, key: bytes) -> str:
        name = key.hex() if len(key) == 32 else digest(key).hex()
        return os.path.join(self.directory, name)

    def _check(self, create: bool) -> bool:
        """Whether the directory exists (making it if asked) and is safe to read code from."""
        if self._usable is None:
            try:
                if create:
                    self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._usable = _private(os.stat(self.directory))
            except FileNotFoundError:
                if create:
                    self._usable = False
                return False
            except OSError:
                self._usable = False
        return self._usable

    def _read(self, path: str, key: bytes) -> bytes | None:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not (stat.S_ISREG(status.st_mode) and _private(status)):
                return None
            data = file.read()
        payload = data[_HEADER:]
        whole = (
            data[: len(_MAGIC)] == _MAGIC
            and int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 8], "little") == len(payload)
            and data[_HEADER - _DIGEST : _HEADER] == _checksum(key, payload)
        )
        if not whole:
            self.counts.corrupt += 1
            os.unlink(path)
            return None
        if time.time() - status.st_mtime > _TOUCH_SECONDS:
            with contextlib.suppress(OSError):
                os.utime(path)  # the time of last use, by which eviction goes
        return payload

    def _entries(self) -> list[tuple[float, int, str]]:
        """(time of last use, bytes, path) of every entry, the one used longest ago first."""
        entries = []
        now = time.time()
        with contextlib.suppress(OSError), os.scandir(self.directory) as listing:
            for item in listing:
                with contextlib.suppress(OSError):
                    status = item.stat(follow_symlinks=False)
                    if not item.name.startswith(".new-"):
                        entries.append((status.st_mtime, status.st_size, item.path))
                    elif now - status.st_mtime > _STALE_SECONDS:
                        os.unlink(item.path)  # a writer that died
        return sorted(entries)

    def _account(self, size: int) -> None:
        """Count `size` stored bytes; now and then look at the directory, where others write too."""
        with self._lock:
            self._unscanned += size
            if self._estimate is not None and self._unscanned < self.limit // 16:
                self._estimate += size
                if self._estimate <= self.limit:
                    return
            self._unscanned = 0
            entries = self._entries()
            total = sum(entry[1] for entry in entries)
            if total > self.limit:
                for _, bytes_, path in entries:
                    if total <= self.limit * 4 // 5:
                        break
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                        self.counts.evicted += 1
                    total -= bytes_
            self._estimate = total


def parse_size(text: str) -> int:
    """Bytes from "512MB", "2G", "1.5 GiB" or a plain number (units are powers of 1024).

    Raises:
        ValueError: when it is none of these.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMGT]?)(?:I?B)?\s*", text.upper())
    if match is None:
        raise ValueError(f"expected a size such as 512MB or 2GB, but got {text!r}")
    return int(float(match[1]) * (1 << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2]]))


@functools.cache
def default() -> ObjectCache | None:
    """The cache the environment asks for, or None when it is turned off."""
    if os.environ.get("FLAMBEAU_CACHE", "1").strip().lower() in ("0", "off", "no", "false"):
        return None
    setting = os.environ.get("FLAMBEAU_CACHE_SIZE", "")
    try:
        limit = parse_size(setting) if setting else _DEFAULT_LIMIT
    except ValueError as error:
        raise ValueError(f"FLAMBEAU_CACHE_SIZE: {error}") from None
    if limit == 0:
        return None
    root = os.environ.get("FLAMBEAU_CACHE_DIR") or platformdirs.user_cache_dir(
        "flambeau", appauthor=False
    )
    # One folder a format version: an older flambeau and this one never read each other's entries.
    folder = f"objects-{VERSION}-{sys.implementation.cache_tag}"
    return ObjectCache(Path(root).expanduser() / folder, limit)


_given: dict[bytes, bytes] = {}


def give(entries: Mapping[bytes, bytes]) -> None:
    """Entries for this process that do not come from the cache: what was compiled ahead of time."""
    _given.update(entries)


def get(key: bytes) -> bytes | None:
    """What was given under `key`, or is stored in the default cache, or None."""
    found = _given.get(key)
    if found is not None:
        return found
    cache = default()
    return None if cache is None else cache.get(key)


def put(key: bytes, payload: bytes) -> bool:
    """Store `payload` under `key` in the default cache; returns whether it was."""
    cache = default()
    return cache is not None and cache.put(key, payload)
