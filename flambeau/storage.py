"""Storages: the flat memory under tensors, as torch shows it and as files and processes carry it.

A storage is the memory of one cell. Where tensors of two element types show one storage, each type
has a cell of its own over the same buffer; such cells count as exposed, so that every operation on
one is executed at once and the other sees it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import weakref
from typing import Any

import numpy as np

from flambeau import dtypes, record
from flambeau.device import cpu
from flambeau.device import device as Device
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import INPUT, Node
from flambeau.runtime.memory import Buffer, ForeignBuffer
from flambeau.size import contiguous_strides
from flambeau.tensor import Tensor, over


class SharedFile:
    """A file in memory without a name, which processes map; closed when nothing refers to it.

    Args:
        number: its descriptor; a new empty file when None.
    """

    def __init__(self, number: int | None = None) -> None:
        """Take over the descriptor."""
        self.number = shared_file() if number is None else number

    def __del__(self) -> None:
        os.close(self.number)


def shared_file(label: str = "flambeau") -> int:
    """Descriptor of a new empty file in memory; the label is what lists of mappings show."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(label, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SharedBuffer(ForeignBuffer):
    """Memory that other processes see too."""

    __slots__ = ("file",)
    file: SharedFile
    shared = True


def shared_buffer(nbytes: int, file: SharedFile | None = None) -> SharedBuffer:
    """Memory that other processes see: that of a file, or of a new one, which is zeros."""
    size = max(nbytes, 1)
    if file is None:
        file = SharedFile()
        os.ftruncate(file.number, size)
    mapped = mmap.mmap(file.number, size)
    owner = (ctypes.c_ubyte * size).from_buffer(mapped)
    made = SharedBuffer(ctypes.addressof(owner), nbytes, (mapped, owner))
    made.file = file
    return made


class UntypedStorage:
    """A storage as bytes: its size, its address, its values.

    Args:
        nbytes: size of a new storage of zeros; to show a tensor's, call its `untyped_storage()`.
    """

    __slots__ = ("__weakref__", "_cells", "device")

    def __init__(self, nbytes: int = 0, *, device: Any = None) -> None:
        made = UntypedStorage.from_numpy(np.zeros(nbytes, np.uint8))
        self._cells: dict[DType, record.Cell] = made._cells
        self.device = cpu if device is None else Device(device)

    @classmethod
    def from_numpy(cls, array: np.ndarray[Any, Any]) -> UntypedStorage:
        """A storage over an array's own memory, which is handed over with it.

        Args:
            array: contiguous; nobody writes to it from now on except through the storage.
        """
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        buffer = Buffer.wrap(flat.ctypes.data, flat.nbytes, flat)
        return cls._over(record.realised_cell(buffer, (flat.nbytes,), dtypes.uint8, cpu))

    @classmethod
    def from_file(cls, filename: Any, shared: bool = False, nbytes: int = 0) -> UntypedStorage:
        """A storage over a file's bytes, mapped into memory.

        Args:
            filename: path of the file.
            shared: writes reach the file; else they stay in this process.
            nbytes: size of the storage; with `shared` the file grows to it.

        Raises:
            RuntimeError: a file with fewer bytes.
        """
        if shared:
            with open(filename, "ab") as f:
                f.truncate(max(nbytes, f.tell()))
        mapped = np.memmap(filename, np.uint8, mode="r+" if shared else "c")
        if mapped.size < nbytes:
            raise RuntimeError(f"file {filename} has {mapped.size} bytes, {nbytes} are wanted")
        return cls.from_numpy(mapped[: nbytes or mapped.size])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        found = self.numpy()
        return found if dtype is None else found.astype(dtype, copy=False)

    def untyped(self) -> UntypedStorage:
        """The storage itself."""
        return self

    @classmethod
    def _over(cls, cell: record.Cell) -> UntypedStorage:
        made: UntypedStorage = object.__new__(cls)
        made._cells = {cell.node.dtype: cell}
        made.device = cell.device
        return made

    @property
    def _cell(self) -> record.Cell:
        return next(iter(self._cells.values()))

    @property
    def _cdata(self) -> int:
        return id(self._cell)

    def cell(self, dtype: DType) -> record.Cell:
        """The cell through which tensors of a dtype see this storage."""
        found = self._cells.get(dtype)
        if found is not None:
            return found
        first = self._cell
        buffer = record.realise(first)
        found = record.realised_cell(buffer, (buffer.nbytes // dtype.itemsize,), dtype, self.device)
        if len(self._cells) == 1 and first.node.dtype is dtypes.uint8 and first.exposed is None:
            # bytes fresh from a file or another process: the tensor's cell takes their place
            self._cells = {dtype: found}
        else:
            self._cells[dtype] = found
            for cell in self._cells.values():
                cell.exposed = True
        return found

    def numpy(self) -> np.ndarray[Any, Any]:
        """The bytes as a uint8 array over the same memory; executes what is pending."""
        buffer = record.realise(self._cell)
        if buffer.nbytes == 0:
            return np.empty(0, np.uint8)
        raw = (ctypes.c_ubyte * buffer.nbytes).from_address(buffer.ptr)
        weakref.finalize(raw, _released, buffer).atexit = False
        record.expose(self._cell, raw)
        return np.frombuffer(raw, np.uint8)

    def nbytes(self) -> int:
        """Size in bytes."""
        cell = self._cell
        return cell.home.nbytes if cell.home is not None else cell.node.nbytes

    size = __len__ = nbytes

    def element_size(self) -> int:
        """1: the elements are bytes."""
        return 1

    def data_ptr(self) -> int:
        """Address of the first byte; executes what is pending."""
        return int(record.realise(self._cell).ptr) if self.nbytes() else 0

    def tolist(self) -> list[int]:
        """The bytes as Python integers."""
        return self.numpy().tolist()

    def __getitem__(self, index: Any) -> Any:
        found = self.numpy()[index]
        return int(found) if found.ndim == 0 else UntypedStorage.from_numpy(found.copy())

    def __setitem__(self, index: Any, value: Any) -> None:
        self.numpy()[index] = value

    def clone(self) -> UntypedStorage:
        """A copy with memory of its own."""
        return UntypedStorage.from_numpy(self.numpy().copy())

    def copy_(self, source: UntypedStorage, non_blocking: bool = False) -> UntypedStorage:
        """Overwrite the bytes with another storage's; -> self."""
        self.numpy()[...] = source.numpy()
        return self

    def fill_(self, value: int) -> UntypedStorage:
        """Set every byte; -> self."""
        self.numpy()[...] = value
        return self

    def cpu(self) -> UntypedStorage:
        """This storage, which is on the CPU."""
        return self

    def is_shared(self) -> bool:
        """Whether other processes may see the same memory."""
        return getattr(self._cell.home, "shared", False) is True

    def share_memory_(self) -> UntypedStorage:
        """Move the bytes to memory that processes share; -> self."""
        share(self._cell)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and self._cell is other._cell

    def __hash__(self) -> int:
        return id(self._cell)

    def __reduce__(self) -> Any:
        return UntypedStorage.from_numpy, (self.numpy().copy(),)

    def __repr__(self) -> str:
        rows = "".join(f" {value}\n" for value in self.tolist())
        return f"{rows}[torch.storage.UntypedStorage(device={self.device}) of size {len(self)}]"


class TypedStorage:
    """A storage counted in elements of a dtype (torch's older form).

    Attributes:
        dtype: of the elements.
    """

    __slots__ = ("_untyped_storage", "dtype")

    def __init__(self, *, wrap_storage: UntypedStorage, dtype: DType) -> None:
        self._untyped_storage = wrap_storage
        self.dtype = dtype

    @property
    def device(self) -> Device:
        """Where the memory is."""
        return self._untyped_storage.device

    def _flat(self) -> np.ndarray[Any, Any]:
        return self._untyped_storage.numpy().view(self.dtype.numpy)

    def untyped(self) -> UntypedStorage:
        """The same storage as bytes."""
        return self._untyped_storage

    def size(self) -> int:
        """Number of elements."""
        return self._untyped_storage.nbytes() // self.dtype.itemsize

    __len__ = size

    def nbytes(self) -> int:
        """Size in bytes."""
        return self._untyped_storage.nbytes()

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    def data_ptr(self) -> int:
        """Address of the first element."""
        return self._untyped_storage.data_ptr()

    def tolist(self) -> list[Any]:
        """The elements as Python numbers."""
        return self._flat().tolist()

    def __getitem__(self, index: Any) -> Any:
        return self._flat()[index].tolist()

    def __setitem__(self, index: Any, value: Any) -> None:
        self._flat()[index] = value

    def is_shared(self) -> bool:
        """Whether other processes may see the same memory."""
        return self._untyped_storage.is_shared()

    def share_memory_(self) -> TypedStorage:
        """Move the memory to where processes share it; -> self."""
        self._untyped_storage.share_memory_()
        return self


def _released(buffer: Any) -> None:
    """Keeps a buffer alive until the last array over it died."""


def share(cell: record.Cell) -> None:
    """Move a cell's memory to where processes share it (nothing where it is there)."""
    old = record.realise(cell)
    if getattr(old, "shared", False):
        return
    fresh = shared_buffer(old.nbytes)
    if old.nbytes:
        ctypes.memmove(fresh.ptr, old.ptr, old.nbytes)
    node = Node(INPUT, (), (), cell.node.shape, cell.node.dtype)
    node.buffer = fresh
    cell.node, cell.home, cell.exposed = node, fresh, True


def tensor_from_storage(
    storage: UntypedStorage,
    dtype: DType,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
) -> Tensor:
    """A tensor that shows part of a storage.

    Args:
        offset: elements before the first one.
        size, stride: of the tensor, strides in elements.

    Raises:
        RuntimeError: the tensor would reach outside the storage.
    """
    size, stride = tuple(size), tuple(stride)
    cell = storage.cell(dtype)
    reach = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) + 1
    if offset < 0 or (0 not in size and reach > cell.node.numel):
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset"
            f" {offset}, and itemsize {dtype.itemsize} requiring a storage size of "
            f"{reach * dtype.itemsize} are out of bounds for storage of size "
            f"{storage.nbytes()}"
        )
    plain = offset == 0 and cell.node.shape == size and stride == contiguous_strides(size)
    return over(cell, size, dtype, None if plain else (stride, offset))


def _untyped_storage(self: Tensor) -> UntypedStorage:
    """The memory this tensor shows, as bytes; its views show the same."""
    return UntypedStorage._over(self._cell)


def _storage(self: Tensor) -> TypedStorage:
    """The memory this tensor shows, counted in elements."""
    return TypedStorage(wrap_storage=_untyped_storage(self), dtype=self.dtype)


def _share_memory_(self: Tensor) -> Tensor:
    """Move the memory to where processes share it; -> self."""
    share(self._cell)
    return self


for _name, _method in (
    ("untyped_storage", _untyped_storage),
    ("storage", _storage),
    ("_typed_storage", _storage),
    ("share_memory_", _share_memory_),
):
    setattr(Tensor, _name, _method)
