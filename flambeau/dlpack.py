"""DLPack: memory handed to and taken from other array libraries without copies.

The structs of DLPack 0.8 and 1.0 and the PyCapsule protocol, through ctypes. A consumer that knows
version 1 gets its struct, which says that the memory may be written; others get the older one.

Reference: https://dmlc.github.io/dlpack/latest/c_api.html
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from flambeau import dtypes, record
from flambeau.device import cpu, resolve
from flambeau.dtype import dtype as DType
from flambeau.runtime.memory import Buffer
from flambeau.size import contiguous_strides
from flambeau.tensor import Tensor, over

_CPU = 1
_VERSION = (1, 0)
_READ_ONLY, _IS_COPIED = 1, 2  # flags of the versioned struct
#: dtype -> (type code, bits); codes: 0 int, 1 unsigned, 2 float, 4 bfloat, 5 complex, 6 bool, 10
#: and above 8-bit floats.
_CODES: dict[DType, tuple[int, int]] = {
    dtypes.float64: (2, 64),
    dtypes.float32: (2, 32),
    dtypes.float16: (2, 16),
    dtypes.bfloat16: (4, 16),
    dtypes.int64: (0, 64),
    dtypes.int32: (0, 32),
    dtypes.int16: (0, 16),
    dtypes.int8: (0, 8),
    dtypes.uint8: (1, 8),
    dtypes.uint16: (1, 16),
    dtypes.uint32: (1, 32),
    dtypes.uint64: (1, 64),
    dtypes.complex64: (5, 64),
    dtypes.complex128: (5, 128),
    dtypes.bool: (6, 8),
    dtypes.float8_e4m3fn: (10, 8),
    dtypes.float8_e4m3fnuz: (11, 8),
    dtypes.float8_e5m2: (12, 8),
    dtypes.float8_e5m2fnuz: (13, 8),
    dtypes.float8_e8m0fnu: (14, 8),
}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class _ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _DLTensor),
    ]


_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_DESTRUCTOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_python = ctypes.pythonapi
_new_capsule = _python.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = (
    ctypes.py_object,
    [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
)
# the first argument is an address: a destructor's capsule must not be referenced again
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _python)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _python)
)
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_SetName", _python)
)
#: Names of capsules that were not taken yet -> that of those that were, and the struct. A capsule
#: keeps the pointer to its name.
_FRESH: dict[bytes, tuple[bytes, Any]] = {
    b"dltensor": (b"used_dltensor", _Managed),
    b"dltensor_versioned": (b"used_dltensor_versioned", _ManagedVersioned),
}
_OLD, _VERSIONED = _FRESH

#: What has been handed out, by the address of its struct: kept until its deleter is called.
_lent: dict[int, Any] = {}


class _Loan:
    """Keeps what the other side reads: the struct, its arrays and the buffer."""

    __slots__ = ("__weakref__", "parts")

    def __init__(self, *parts: Any) -> None:
        self.parts = parts


def _give_back(address: int) -> None:
    _lent.pop(address, None)


def _drop_capsule(capsule: int) -> None:
    for name in _FRESH:
        if _is_valid(capsule, name):  # nobody took it
            _give_back(_pointer(capsule, name))


_deleter = _DELETER(_give_back)
_destructor = _DESTRUCTOR(_drop_capsule)


def _lend(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """The tensor's memory as a DLPack capsule; executes what is pending.

    Args:
        stream: None or -1, there being none.
        max_version: the newest version that the consumer knows; before 1.0 when None.
        dl_device: where it wants the memory; where it is when None.
        copy: whether it wants memory of its own.

    Raises:
        BufferError: the tensor requires grad, or lives where others cannot read it.
        AssertionError: a stream.
    """
    if self.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if stream is not None and type(stream) is not int:
        raise TypeError("stream must be ``int`` or ``none``")
    if stream not in (None, -1):
        raise AssertionError("stream should be None on cpu.")
    where = _where(self)
    if dl_device is not None and tuple(dl_device) != where:
        raise BufferError(f"cannot export a tensor of device {where} to device {tuple(dl_device)}")
    if copy:
        self = self.clone()
    buffer = record.realise(self._cell)
    ndim = len(self._shape)
    shape = (ctypes.c_int64 * max(ndim, 1))(*self._shape)
    strides = (ctypes.c_int64 * max(ndim, 1))(*self._strides)
    start = buffer.ptr + self.storage_offset() * self.dtype.itemsize
    pointers = (ctypes.cast(n, ctypes.POINTER(ctypes.c_int64)) for n in (shape, strides))
    view = _DLTensor(start, *where, ndim, *_CODES[self.dtype], 1, *pointers, 0)
    deleter = ctypes.cast(_deleter, ctypes.c_void_p)
    versioned = max_version is not None and max_version[0] >= 1
    managed = (
        _ManagedVersioned(*_VERSION, None, deleter, _IS_COPIED if copy else 0, view)
        if versioned
        else _Managed(view, None, deleter)
    )
    loan = _Loan(managed, shape, strides, buffer)
    address = ctypes.addressof(managed)
    record.expose(self._cell, loan)
    _lent[address] = loan
    name = _VERSIONED if versioned else _OLD
    return _new_capsule(address, name, ctypes.cast(_destructor, ctypes.c_void_p))


def _where(self: Tensor) -> tuple[int, int]:
    """DLPack's (device type, index)."""
    if self.device.type != "cpu":
        raise BufferError(f"cannot export a tensor on {self.device}")
    return _CPU, 0


class _Borrowed:
    """Memory of another library; its deleter is called when the last tensor over it died."""

    __slots__ = ("address", "deleter")

    def __init__(self, address: int, deleter: Callable[[int], None] | None) -> None:
        self.address = address
        self.deleter = deleter

    def __del__(self) -> None:
        if self.deleter is not None:
            self.deleter(self.address)


def _capsule(ext_tensor: Any, copy: bool | None) -> Any:
    """What an object lends: as the newest version that both sides know."""
    if not hasattr(ext_tensor, "__dlpack__"):
        return ext_tensor
    wanted = {"max_version": _VERSION, **({} if copy is None else {"copy": copy})}
    while True:
        try:
            return ext_tensor.__dlpack__(**wanted)
        except TypeError:  # producers before version 1 take fewer arguments
            if not wanted:
                raise
            wanted.popitem()


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of another library's array: each sees the other's writes.

    Args:
        ext_tensor: an object with `__dlpack__`, or a DLPack capsule.
        device: where the tensor is wanted; only the CPU.
        copy: True takes a copy instead; False refuses where there must be one.

    Raises:
        RuntimeError: a capsule that was used before.
        BufferError: memory that is not the CPU's, or of an element type that tensors do not have;
            memory that must not be written, with copy=False (it is copied otherwise).
    """
    if device is not None and resolve(device) != cpu:
        raise BufferError(f"from_dlpack: no copy from the CPU to {device}")
    capsule = _capsule(ext_tensor, copy)
    is_capsule = type(capsule).__name__ == "PyCapsule"
    fresh = [name for name in _FRESH if is_capsule and _is_valid(id(capsule), name)]
    if not fresh:
        raise RuntimeError(
            "from_dlpack received an invalid capsule. Note that DLTensor capsules "
            "can be consumed only once, so you might have already constructed a "
            "tensor from it once."
        )
    address = _pointer(id(capsule), fresh[0])
    used, struct = _FRESH[fresh[0]]
    managed = struct.from_address(address)
    flags = getattr(managed, "flags", 0)
    if flags & _READ_ONLY:
        if copy is False:
            raise BufferError("from_dlpack: memory that must not be written needs a copy")
        copy = True
    view = managed.tensor
    dtype = _DTYPES.get((view.code, view.bits)) if view.lanes == 1 else None
    if view.device_type != _CPU:
        raise BufferError(f"from_dlpack: device type {view.device_type} cannot be used here")
    if dtype is None:
        raise BufferError(
            f"from_dlpack: no dtype has type code {view.code} of {view.bits} bits in "
            f"{view.lanes} lanes"
        )
    _rename(id(capsule), used)
    deleter = _DELETER(managed.deleter) if managed.deleter else None
    owner = _Borrowed(address, deleter)
    shape = tuple(view.shape[: view.ndim])
    strides = tuple(view.strides[: view.ndim]) if view.strides else contiguous_strides(shape)
    if any(s < 0 for s in strides):
        raise BufferError("from_dlpack: negative strides are not supported")
    span = 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    buffer = Buffer.wrap((view.data or 0) + view.byte_offset, span * dtype.itemsize, owner)
    plain = strides == contiguous_strides(shape)
    cell = record.realised_cell(buffer, shape if plain else (span,), dtype, cpu)
    cell.exposed = True
    found = over(cell, shape, dtype, None if plain else (strides, 0))
    return found.clone() if copy and not flags & _IS_COPIED else found


def to_dlpack(tensor: Tensor) -> Any:
    """The tensor's memory as a DLPack capsule."""
    return _lend(tensor)


for _name, _function in (("__dlpack__", _lend), ("__dlpack_device__", _where)):
    setattr(Tensor, _name, _function)
