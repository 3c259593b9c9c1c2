"""DLPack: memory handed to and taken from other array libraries without copies.

The structs of DLPack 0.8 and the PyCapsule protocol, through ctypes.

Reference: https://dmlc.github.io/dlpack/latest/c_api.html
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from flambeau import dtypes, record
from flambeau.device import cpu
from flambeau.dtype import dtype as DType
from flambeau.runtime.memory import Buffer
from flambeau.size import contiguous_strides
from flambeau.tensor import Tensor, over

_CPU = 1
#: dtype -> (type code, bits); codes: 0 int, 1 unsigned, 2 float, 4 bfloat, 6 bool.
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
    dtypes.bool: (6, 8),
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
_FRESH, _USED = b"dltensor", b"used_dltensor"  # a capsule keeps the pointer to its name

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
    if _is_valid(capsule, _FRESH):  # nobody took it
        _give_back(_pointer(capsule, _FRESH))


_deleter = _DELETER(_give_back)
_destructor = _DESTRUCTOR(_drop_capsule)


def _lend(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: Any = None,
    dl_device: Any = None,
    copy: bool | None = None,
) -> Any:
    """The tensor's memory as a DLPack capsule; executes what is pending.

    Raises:
        BufferError: the tensor requires grad, or lives on a device that others cannot read.
    """
    if self.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if self.device.type != "cpu":
        raise BufferError(f"cannot export a tensor on {self.device}")
    if copy:
        self = self.clone()
    buffer = record.realise(self._cell)
    ndim = len(self._shape)
    shape = (ctypes.c_int64 * max(ndim, 1))(*self._shape)
    strides = (ctypes.c_int64 * max(ndim, 1))(*self._strides)
    code, bits = _CODES[self.dtype]
    start = buffer.ptr + self.storage_offset() * self.dtype.itemsize
    integers = ctypes.POINTER(ctypes.c_int64)
    managed = _Managed(
        _DLTensor(
            start,
            _CPU,
            0,
            ndim,
            code,
            bits,
            1,
            ctypes.cast(shape, integers),
            ctypes.cast(strides, integers),
            0,
        ),
        None,
        ctypes.cast(_deleter, ctypes.c_void_p),
    )
    loan = _Loan(managed, shape, strides, buffer)
    address = ctypes.addressof(managed)
    record.expose(self._cell, loan)
    _lent[address] = loan
    return _new_capsule(address, _FRESH, ctypes.cast(_destructor, ctypes.c_void_p))


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


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of another library's array: each sees the other's writes.

    Args:
        ext_tensor: an object with `__dlpack__`, or a DLPack capsule.
        copy: True takes a copy instead.

    Raises:
        RuntimeError: a capsule that was used before.
        BufferError: memory that is not the CPU's, or of an element type that tensors do not have.
    """
    capsule = ext_tensor.__dlpack__() if hasattr(ext_tensor, "__dlpack__") else ext_tensor
    if type(capsule).__name__ != "PyCapsule" or not _is_valid(id(capsule), _FRESH):
        raise RuntimeError(
            "from_dlpack received an invalid capsule. Note that DLTensor capsules "
            "can be consumed only once, so you might have already constructed a "
            "tensor from it once."
        )
    address = _pointer(id(capsule), _FRESH)
    managed = _Managed.from_address(address)
    view = managed.tensor
    dtype = _DTYPES.get((view.code, view.bits)) if view.lanes == 1 else None
    if view.device_type != _CPU:
        raise BufferError(f"from_dlpack: device type {view.device_type} cannot be used here")
    if dtype is None:
        raise BufferError(
            f"from_dlpack: no dtype has type code {view.code} of {view.bits} bits in "
            f"{view.lanes} lanes"
        )
    _rename(id(capsule), _USED)
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
    return found.clone() if copy else found


def to_dlpack(tensor: Tensor) -> Any:
    """The tensor's memory as a DLPack capsule."""
    return _lend(tensor)


for _name, _function in (("__dlpack__", _lend), ("__dlpack_device__", _where)):
    setattr(Tensor, _name, _function)
