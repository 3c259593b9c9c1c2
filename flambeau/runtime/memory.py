"""Host memory for tensors: aligned blocks from a caching allocator.

Note [Host memory]
A `Buffer` takes a block when it is made and gives it back when it dies, both by one list
operation, because every flush does so for each of its results.

* Sizes are rounded up to a class: steps of 64 bytes up to 4 KiB, then eight classes an octave
  (at most 12.5 % unused).
* Small blocks are cut from slabs that stay. Blocks up to 256 KiB come from the C library. Larger
  ones are mapped by themselves: huge pages are asked for (first use of fresh memory is five
  times faster so), and starts are staggered, since arrays that all begin at the same offset in a
  page contend for the same cache sets.
* Free blocks are kept for the next Buffer of their class. What is kept never makes the process
  larger than it was at its recent peak of memory in use, plus a fixed slack: before more is
  taken from the system, and when large blocks are freed, the longest unused go back. So a
  training step finds all its memory again, and a peak that is over is given up within seconds of
  further use.

Blocks are at least 64-byte aligned. Counters follow the classes' sizes, as torch's memory
statistics do.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

ALIGNMENT = 64

_SMALL_LIMIT = 4096
_LARGE_LIMIT = 256 << 10
_HUGE_PAGE = 2 << 20
_SLAB = 64 << 10
_SLACK = 64 << 20
_WINDOW_SECONDS = 5.0
_MADV_HUGEPAGE = 14
_STAGGER = 16  # distinct starts, each this many bytes after the last:
_STAGGER_STEP = 4096 + 256


class _State:
    """The allocator's counters, in bytes."""

    __slots__ = ("allocated", "peak", "peak_before", "recent", "reserved", "reserved_peak", "since")

    def __init__(self) -> None:
        self.allocated = 0  # in live Buffers
        self.reserved = 0  # taken from the system: in live Buffers, or kept for the next
        self.reserved_peak = 0
        self.peak = 0  # largest `allocated` of the current window of time
        self.recent = 0  # ... of the window before, for trimming
        self.peak_before = 0  # ... of all windows before, since the statistics were reset
        self.since = time.monotonic()


_state = _State()
_lock = threading.RLock()  # re-entrant: the collector may free a Buffer while it is held


def _c_library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    library.posix_memalign.argtypes = [ctypes.POINTER(pointer), size, size]
    library.free.argtypes = [pointer]
    library.free.restype = None
    library.mmap.argtypes = [pointer, size, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    library.mmap.restype = pointer
    library.munmap.argtypes = [pointer, size]
    library.madvise.argtypes = [pointer, size, ctypes.c_int]
    return library


_libc = _c_library()


def _out_of_memory(nbytes: int, code: int) -> RuntimeError:
    return RuntimeError(
        "[enforce fail at alloc_cpu.cpp] err == 0. DefaultCPUAllocator: can't allocate memory: "
        f"you tried to allocate {nbytes} bytes. Error code {code} ({os.strerror(code)})"
    )


def _from_c(size: int) -> int:
    """`size` bytes of the C library's, or 0."""
    pointer = ctypes.c_void_p()
    failed = _libc.posix_memalign(ctypes.byref(pointer), ALIGNMENT, size)
    return 0 if failed else pointer.value or 0


def _map(size: int) -> int:
    """`size` bytes of fresh pages, huge-page aligned if that can pay, or 0."""
    extra = _HUGE_PAGE if size >= _HUGE_PAGE else 0
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    start = _libc.mmap(None, size + extra, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    if start is None or start == ctypes.c_void_p(-1).value:
        return 0
    if extra:
        first = -start % _HUGE_PAGE
        if first:
            _libc.munmap(start, first)
        if extra - first:
            _libc.munmap(start + first + size, extra - first)
        start += first
        if sys.platform == "linux":
            _libc.madvise(
                start, size, _MADV_HUGEPAGE
            )  # refused by kernels without it: nothing lost
    return int(start)


class _Bin(list[int]):
    """Free blocks of one size class up to `_LARGE_LIMIT`; a Buffer pops and appends."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size

    def grow(self, nbytes: int) -> int:
        """A block from the system, as none is free."""
        count = max(1, _SLAB // self.size) if self.size <= _SMALL_LIMIT else 1
        start = _obtain(_from_c, self.size * count, nbytes)
        self.extend(range(start + (count - 1) * self.size, start, -self.size))
        return start

    def release(self) -> None:
        """Give the free blocks back to the system (those of slabs stay)."""
        while self and self.size > _SMALL_LIMIT:
            try:
                block = self.pop()
            except IndexError:  # another thread was faster
                return
            _libc.free(block)
            _state.reserved -= self.size


class _LargeBin:
    """Free blocks of one size class above `_LARGE_LIMIT`, each a mapping of its own."""

    __slots__ = ("free", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.free: list[int] = []

    def pop(self) -> int:
        with _lock:
            block = self.free.pop()
            del _kept[block]
            return block

    def append(self, block: int) -> None:
        if _lock is None:  # the interpreter is ending and this module is gone already
            return
        with _lock:
            self.free.append(block)
            _kept[block] = self
            _trim(0)

    def grow(self, nbytes: int) -> int:
        """A fresh mapping, as none is free."""
        offset = next(_stagger)
        start = _obtain(_map, self.size + _STAGGER * _STAGGER_STEP, nbytes, self.size)
        return start + offset


class _Foreign:
    """Where the memory of others goes when its Buffer dies: nowhere."""

    __slots__ = ()
    size = 0

    def append(self, block: int) -> None:
        pass


_stagger = itertools.cycle([index * 5 % _STAGGER * _STAGGER_STEP for index in range(_STAGGER)])
_foreign = _Foreign()
_small = [_Bin(max(1, steps) * 64) for steps in range(_SMALL_LIMIT // 64 + 1)]
_small[0] = _small[1]  # a Buffer of no bytes has an address as well
_bins: dict[int, Any] = {}
_kept: dict[int, _LargeBin] = {}  # free large blocks, the longest unused first


def size_class(nbytes: int) -> int:
    """The bytes a block for `nbytes` has."""
    if nbytes <= _SMALL_LIMIT:
        return max(1, nbytes + 63 >> 6) << 6
    shift = (nbytes - 1).bit_length() - 4
    return ((nbytes - 1 >> shift) + 1) << shift


def _new_bin(size: int) -> Any:
    """The bin of a size class above `_SMALL_LIMIT` that has none yet."""
    return _bins.setdefault(size, _Bin(size) if size <= _LARGE_LIMIT else _LargeBin(size))


def _obtain(source: Any, size: int, nbytes: int, counted: int = 0) -> int:
    """`size` bytes from `source`, once what is kept beyond the bound went back.

    `counted` of them are entered in the books (default: all).
    """
    counted = counted or size
    with _lock:
        _trim(counted)
        start: int = source(size)
        if not start:
            empty_cache()
            start = source(size)
        if not start:
            raise _out_of_memory(nbytes, errno.ENOMEM)
        _state.reserved += counted
        _state.reserved_peak = max(_state.reserved_peak, _state.reserved)
    return start


def _trim(wanted: int) -> None:
    """Give free blocks back until the bound holds with `wanted` bytes more; needs the lock."""
    state = _state
    now = time.monotonic()
    if now - state.since > _WINDOW_SECONDS:
        state.peak_before = max(state.peak_before, state.peak)
        state.recent, state.peak, state.since = state.peak, state.allocated, now
    limit = max(state.recent, state.peak, state.allocated + wanted) + _SLACK
    while _kept and state.reserved + wanted > limit:
        _unmap(next(iter(_kept)))
    if state.reserved + wanted > limit:
        for found in list(_bins.values()):
            if type(found) is _Bin:
                found.release()


def _unmap(block: int) -> None:
    """Return a free large block to the system; needs the lock."""
    found = _kept.pop(block)
    found.free.remove(block)
    # Mappings begin on a page, so the offset within the page tells which start was given.
    start = block - (block & 4095) // (_STAGGER_STEP & 4095) * _STAGGER_STEP
    _libc.munmap(start, found.size + _STAGGER * _STAGGER_STEP)
    _state.reserved -= found.size


class Buffer:
    """A block of host memory, 64-byte aligned, contents undefined; given back when it dies.

    Args:
        nbytes: bytes wanted, 0 or more.

    Attributes:
        ptr: address; valid (and distinct) even when nbytes is 0.
        nbytes: as asked for.

    Raises:
        RuntimeError: the system has no such memory.
    """

    __slots__ = ("__weakref__", "_bin", "nbytes", "ptr")
    _bin: Any
    nbytes: int
    ptr: int

    def __init__(self, nbytes: int, _state: _State = _state) -> None:
        self.nbytes = nbytes
        if nbytes <= _SMALL_LIMIT:
            found: Any = _small[nbytes + 63 >> 6]
        else:
            shift = (nbytes - 1).bit_length() - 4
            size = ((nbytes - 1 >> shift) + 1) << shift  # as in size_class
            found = _bins.get(size)
            if found is None:
                found = _new_bin(size)
        self._bin = found
        try:
            self.ptr = found.pop()
        except IndexError:
            self._bin, self.ptr = _foreign, 0  # should there be no memory
            self.ptr = found.grow(nbytes)
            self._bin = found
        _state.allocated += found.size
        if _state.allocated > _state.peak:
            _state.peak = _state.allocated

    def __del__(self, _state: _State = _state) -> None:
        found = self._bin
        _state.allocated -= found.size
        found.append(self.ptr)

    @staticmethod
    def wrap(ptr: int, nbytes: int, owner: object) -> Buffer:
        """A Buffer over memory of others (NumPy, DLPack, a mapped file), alive as long as it.

        Args:
            ptr: its address, aligned as it happens to be.
            nbytes: its size.
            owner: kept referenced while the Buffer lives.
        """
        return ForeignBuffer(ptr, nbytes, owner)

    @property
    def owner(self) -> object:
        """Whose memory it is: None for the allocator's own."""
        return None

    def view(self) -> memoryview:
        """The bytes as a writable memoryview (valid while the Buffer lives)."""
        array = (ctypes.c_ubyte * self.nbytes).from_address(self.ptr)
        return memoryview(array).cast("B")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.nbytes} bytes at {self.ptr:#x}>"


def observe(hook: Callable[[int, int, int], None] | None) -> None:
    """Have `hook(address, bytes, allocated)` called whenever a Buffer takes memory (bytes > 0) or
    gives it back (bytes < 0), with what is allocated then; None ends it.

    The class's methods are replaced for as long, so that nothing is paid without a hook.
    """

    def take(buffer: Buffer, nbytes: int) -> None:
        _take(buffer, nbytes)
        hook(buffer.ptr, buffer._bin.size, _state.allocated)  # type: ignore[misc]

    def give(buffer: Buffer) -> None:
        address, size = buffer.ptr, buffer._bin.size
        _give(buffer)
        if size:
            hook(address, -size, _state.allocated)  # type: ignore[misc]

    watched = hook is not None
    Buffer.__init__ = take if watched else _take  # type: ignore[assignment,method-assign]
    Buffer.__del__ = give if watched else _give  # type: ignore[assignment,method-assign]


_take, _give = Buffer.__init__, Buffer.__del__


class ForeignBuffer(Buffer):
    """A Buffer over memory it does not own; made by `Buffer.wrap`."""

    __slots__ = ("_owner",)

    def __init__(self, ptr: int, nbytes: int, owner: object) -> None:
        self.ptr = ptr
        self.nbytes = nbytes
        self._bin = _foreign  # whose append() does nothing
        self._owner = owner

    @property
    def owner(self) -> object:
        """Whose memory it is."""
        return self._owner


class _Scratch(threading.local):
    """Each thread's scratch arena."""

    nbytes = 0
    ptr = 0
    buffer: Buffer | None = None


_scratch = _Scratch()


def scratch(nbytes: int) -> int:
    """The address of at least `nbytes` bytes of this thread's own, for use until its next call.

    The arena only grows, so repeated calls cost no allocation; contents are undefined.
    """
    local = _scratch
    if nbytes > local.nbytes:
        local.buffer = None  # before the larger one is taken
        local.nbytes = 0
        local.buffer = Buffer(size_class(nbytes))
        local.ptr, local.nbytes = local.buffer.ptr, local.buffer.nbytes
    return local.ptr


def release_scratch() -> Buffer | None:
    """Give this thread's scratch arena back, or to the caller; the next program that needs one
    takes it anew."""
    found, _scratch.buffer = _scratch.buffer, None
    _scratch.ptr = _scratch.nbytes = 0
    return found


def empty_cache() -> None:
    """Give all free blocks back to the system, except the slabs that small ones are cut from."""
    with _lock:
        for block in list(_kept):
            if block in _kept:
                _unmap(block)
        for found in list(_bins.values()):
            if type(found) is _Bin:
                found.release()


def memory_allocated() -> int:
    """Bytes in live Buffers."""
    return _state.allocated


def max_memory_allocated() -> int:
    """The largest `memory_allocated` since the start or the last `reset_peak_memory_stats`."""
    return max(_state.peak_before, _state.peak)


def memory_reserved() -> int:
    """Bytes taken from the system: in live Buffers, or kept for the next ones."""
    return _state.reserved


def max_memory_reserved() -> int:
    """The largest `memory_reserved` since the start or the last `reset_peak_memory_stats`."""
    return _state.reserved_peak


def reset_peak_memory_stats() -> None:
    """Let the maxima start again from what is in use now."""
    with _lock:
        _state.peak_before = 0
        _state.peak = _state.allocated
        _state.reserved_peak = _state.reserved


if hasattr(os, "register_at_fork"):
    # Children start with the books in order, whatever other threads were doing.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
