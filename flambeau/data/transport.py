"""How batches travel between a loader and its worker processes.

Note [Transport]
Each worker has one socket pair. A message is a pickle; large byte buffers in it (the memory of
tensors and NumPy arrays) do not go through the pickle but are written once into an anonymous
shared memory file, whose descriptor goes along with the message. The receiver maps the file, closes
the descriptor and lets the new tensors alias the mapping, which goes away with the last of them.
The file never has a name, so nothing is left behind whoever is killed when; and a closed socket
tells either side at once that the other one is gone.
"""

from __future__ import annotations

import ctypes
import io
import mmap
import os
import pickle
import socket
import struct
import weakref
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

import flambeau
from flambeau.checkpoint import make_tensor, storage_bytes, torch_name
from flambeau.storage import UntypedStorage, shared_file

#: Buffers of fewer bytes stay inside the pickle: a mapping costs more than copying them.
SMALL = 4096
#: A pickle of more bytes goes through shared memory too, so that no message fills the socket.
INLINE = 1024
_ALIGN = 64
_HEAD = struct.Struct("<QQ")  # bytes of the pickle that follow inline, bytes of shared memory
_TABLE = struct.Struct("<QQQ")  # in shared memory: bytes of the pickle, of sizes, number of buffers
_SHARES = hasattr(socket, "send_fds") and hasattr(mmap, "MAP_SHARED")

_libc = ctypes.CDLL(None, use_errno=True) if _SHARES else None
if _libc is not None:
    _libc.mmap.restype = ctypes.c_void_p
    _libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    _libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Channel:
    """One end of a connection to another process of this program.

    Args:
        sock: a connected stream socket; on Unix it can pass file descriptors.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @staticmethod
    def pair() -> tuple[Channel, Channel]:
        """Two connected ends."""
        ours, theirs = socket.socketpair()
        return Channel(ours), Channel(theirs)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close this end; the other one sees the end of the stream at once."""
        try:
            # a forked process may hold a copy of the descriptor, so that closing ours says nothing
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()

    def forget(self) -> None:
        """Close a copy that came over a fork, leaving the connection itself alone."""
        self._sock.close()

    def send(self, message: Any) -> None:
        """Send any object; tensors and arrays in it go through shared memory.

        Raises:
            OSError: the other end is gone.
            Exception: the message cannot be pickled.
        """
        payload, buffers = dumps(message)
        if not _SHARES or (not buffers and len(payload) <= INLINE):
            self._sock.sendall(_HEAD.pack(len(payload), 0) + payload)
            return
        number = shared_file("flambeau batch")
        try:
            total = _write_shared(number, payload, buffers)
            head = _HEAD.pack(0, total)
            sent = socket.send_fds(self._sock, [head], [number])
            self._sock.sendall(head[sent:])
        finally:
            os.close(number)

    def receive(self) -> Any:
        """The next message.

        Raises:
            EOFError: the other end is gone.
        """
        head, numbers = b"", []
        while len(head) < _HEAD.size:
            if _SHARES:
                piece, found, flags, _ = socket.recv_fds(self._sock, _HEAD.size - len(head), 1)
                numbers += found
                if flags & socket.MSG_CTRUNC:
                    raise RuntimeError(
                        "Too many open files. Communication with the workers is no longer possible."
                        " Please increase the limit using `ulimit -n` in the shell"
                    )
            else:
                piece = self._sock.recv(_HEAD.size - len(head))
            if not piece:
                raise EOFError
            head += piece
        inline, shared = _HEAD.unpack(head)
        if not shared:
            return pickle.loads(self._exactly(inline))
        try:
            memory = _map(numbers[0], shared)
        finally:
            for number in numbers:
                os.close(number)
        return _read_shared(memory)

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            got = self._sock.recv_into(view[done:])
            if not got:
                raise EOFError
            done += got
        return data


# -- pickling -------------------------------------------------------------------------------------


class _Memory:
    """A storage on its way: pickled as its bytes, unpickled as one storage however often used."""

    __slots__ = ("data",)

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return UntypedStorage.from_numpy, (self.data,)


class _Pickler(ForkingPickler):
    """Tensors are reduced to their storages' bytes; large buffers are left to the callback."""

    def __init__(self, file: io.BytesIO, leave: Callable[[pickle.PickleBuffer], bool]) -> None:
        super().__init__(file, 5, True, leave)
        self._storages: dict[int, _Memory] = {}
        self._alive: list[Any] = []

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is flambeau.Tensor or kind is flambeau.nn.Parameter:
            return self._reduce(obj, kind is flambeau.nn.Parameter)
        return NotImplemented

    def _reduce(self, tensor: Any, is_parameter: bool) -> Any:
        if tensor.device.type != "cpu":
            return NotImplemented
        requires_grad = tensor.requires_grad
        if requires_grad and not tensor.is_leaf:
            raise RuntimeError(
                "Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd"
                " does not support crossing process boundaries. If you just want to transfer the"
                " data, call detach() on the tensor before serializing (e.g., putting it on the"
                " queue)."
            )
        wanted = tensor.numel() * tensor.dtype.itemsize
        if tensor.untyped_storage().nbytes() > 2 * wanted + SMALL:
            # a small view of something large, e.g. one row of a whole dataset
            tensor = tensor.detach().clone()
        storage = tensor.untyped_storage()
        data = storage_bytes(storage)
        memory = _Memory(data)
        if data.size:
            memory = self._storages.setdefault(data.ctypes.data, memory)
        self._alive.append((tensor, storage))
        return _rebuild, (
            memory,
            torch_name(tensor.dtype),
            tensor.storage_offset(),
            tuple(tensor.size()),
            tuple(tensor.stride()),
            requires_grad,
            is_parameter,
        )


def _rebuild(
    storage: UntypedStorage,
    dtype: str,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    is_parameter: bool,
) -> Any:
    made = make_tensor(storage, getattr(flambeau, dtype), offset, size, stride)
    if is_parameter:
        return flambeau.nn.Parameter(made, requires_grad)
    return made.requires_grad_(True) if requires_grad else made


def dumps(message: Any) -> tuple[bytes, list[memoryview]]:
    """A message as a pickle and the large buffers it refers to, in order."""
    buffers: list[memoryview] = []

    def leave(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < SMALL or not _SHARES:
            return True  # keep it in the pickle
        buffers.append(raw)
        return False

    file = io.BytesIO()
    _Pickler(file, leave).dump(message)
    return file.getvalue(), buffers


# -- shared memory --------------------------------------------------------------------------------


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _write_shared(number: int, payload: bytes, buffers: list[memoryview]) -> int:
    """Write table, buffer sizes, pickle and buffers; -> bytes in all."""
    sizes = struct.pack(f"<{len(buffers)}Q", *(b.nbytes for b in buffers))
    head = _TABLE.pack(len(payload), len(sizes), len(buffers)) + sizes
    at = 0
    for view in (memoryview(head), memoryview(payload), *buffers):  # all of them plain bytes
        done = 0
        while done < view.nbytes:
            done += os.pwrite(number, view[done:], at + done)
        at += _aligned(view.nbytes)
    os.ftruncate(number, at)
    return at


def _read_shared(memory: memoryview) -> Any:
    payload, sizes_size, count = _TABLE.unpack_from(memory)
    sizes = struct.unpack_from(f"<{count}Q", memory, _TABLE.size)
    at = _aligned(_TABLE.size + sizes_size)
    pickled = memory[at : at + payload]
    at += _aligned(payload)
    buffers = []
    for size in sizes:
        buffers.append(memory[at : at + size])
        at += _aligned(size)
    return pickle.loads(pickled, buffers=buffers)


def _map(number: int, size: int) -> memoryview:
    """A file's memory, unmapped when the last view of it dies.

    Python's own `mmap` keeps a descriptor open for each mapping (before 3.13 always), so that
    holding a few hundred batches would exhaust them.
    """
    assert _libc is not None
    address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, number, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        code = ctypes.get_errno()
        raise OSError(code, f"cannot map a batch of {size} bytes: {os.strerror(code)}")
    owner = (ctypes.c_ubyte * size).from_address(address)
    finalizer = weakref.finalize(owner, _libc.munmap, address, size)
    finalizer.atexit = False  # at exit there may still be tensors that are read
    return memoryview(owner).cast("B")
