"""Host memory as NumPy arrays and back: what the recorder needs of the CPU's memory."""

from __future__ import annotations

import ctypes
import math
import sys
from typing import Any

import numpy as np

from flambeau import tensor as tensors
from flambeau.device import cpu
from flambeau.device import device as Device
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import INPUT, Node
from flambeau.ops import creation
from flambeau.record import Cell
from flambeau.runtime.memory import Buffer


def array_of(ptr: int, shape: tuple[int, ...], dtype: DType) -> np.ndarray[Any, Any]:
    """A NumPy array over memory at an address; the caller keeps the memory alive."""
    count = math.prod(shape)
    if count == 0:
        return np.empty(shape, dtype.numpy)
    raw: Any = (ctypes.c_char * (count * dtype.itemsize)).from_address(ptr)
    return np.frombuffer(raw, dtype.numpy, count).reshape(shape)


def address_of(array: np.ndarray[Any, Any]) -> int:
    """Where an array's first element is."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    except (TypeError, ValueError):  # it is empty, read only, or has gaps
        return int(array.ctypes.data)


def copy_in(array: np.ndarray[Any, Any], dtype: DType, device: Device) -> tensors.Tensor:
    """A tensor over a new buffer with an array's values."""
    buffer = Buffer(array.nbytes)
    if array.flags.c_contiguous and array.flags.writeable:
        ctypes.memmove(buffer.ptr, address_of(array), array.nbytes)
    elif array.nbytes:
        array_of(buffer.ptr, array.shape, dtype)[...] = array
    return tensors.from_buffer(buffer, tuple(array.shape), dtype, device)


class _Holders:
    """Called as a weak reference is: None once nobody but our buffer holds an array's memory."""

    __slots__ = ("arrays",)

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.arrays = [array]
        while isinstance(array.base, np.ndarray):
            array = array.base
            self.arrays.append(array)

    @staticmethod
    def of(array: np.ndarray[Any, Any]) -> Any:
        """For an array and those it is a view of; True where the memory is not NumPy's."""
        found = _Holders(array)
        return [found] if found.arrays[-1].base is None else True

    def __call__(self) -> Any:
        refs = sys.getrefcount
        # the list, the loop variable and the argument; the buffer, or the array that is a view
        for array in self.arrays:
            if refs(array) > 4:
                return array
        return None


def wrap(array: np.ndarray[Any, Any], dtype: DType) -> tensors.Tensor:
    """A tensor over an array's own memory (strides are kept)."""
    item, shape = dtype.itemsize, array.shape
    if array.flags.c_contiguous:
        inside, how, span = shape, None, array.size
    else:
        strides = tuple(s // item for s in array.strides)
        span = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        inside, how = (span,), (strides, 0)
    buffer = Buffer.wrap(address_of(array), span * item, array)
    node = Node(INPUT, (), (), inside, dtype)
    node.buffer = buffer
    cell = Cell(node, cpu)
    cell.home = buffer
    cell.exposed = _Holders.of(array)
    return tensors.over(cell, shape, dtype, how)


creation.ALLOCATE[0] = copy_in
creation.WRAP[0] = wrap
