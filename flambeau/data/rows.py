"""Batches made in memory at once: of samples that lie there already, nothing need be recorded."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import flambeau
from flambeau.runtime.host import array_of
from flambeau.runtime.memory import Buffer
from flambeau.size import contiguous_strides
from flambeau.tensor import Tensor, from_buffer


def _lies_in_memory(t: Any) -> bool:
    """Whether a tensor's values can be read as they are, without a gradient to follow."""
    if type(t) is not Tensor or t._rg or t.dtype.is_complex:
        return False
    cell = t._cell
    node = cell.node
    return node.buffer is not None and node.dtype is t.dtype and cell.device.type == "cpu"


def stacked(samples: Sequence[Any]) -> Tensor:
    """`stack(samples, 0)`, made at once where every sample lies in memory.

    Args:
        samples: tensors of one shape.
    """
    first = samples[0]
    if not _lies_in_memory(first):
        return flambeau.stack(list(samples), 0)
    cell, shape, dtype = first._cell, first._shape, first.dtype
    strides = contiguous_strides(shape)
    offsets = []
    for t in samples:
        if type(t) is not Tensor or t._cell is not cell or t._shape != shape or t._rg:
            break
        place = t._map
        if place is None or place[0] != strides or t.dtype is not dtype or 0 in shape:
            break
        offsets.append(place[1])
    else:  # equal parts of one tensor, as `data[i]` gives them
        size, total = first.numel(), cell.node.numel
        flat = array_of(cell.node.buffer.ptr, (total,), dtype)
        starts = (total - size + 1, size)
        every = np.lib.stride_tricks.as_strided(flat, starts, (flat.itemsize,) * 2)
        return _chosen(every, offsets, shape, first)
    if not all(_lies_in_memory(t) and t._shape == shape and t.dtype is dtype for t in samples):
        return flambeau.stack(list(samples), 0)
    made, target = _new((len(samples), *shape), first)
    if any(t._map is not None for t in samples):
        np.stack([t._array() for t in samples], out=target)
        return made
    place, size = made._cell.node.buffer.ptr, first.numel() * dtype.itemsize
    for t in samples:
        ctypes.memmove(place, t._cell.node.buffer.ptr, size)
        place += size
    return made


def _new(shape: tuple[int, ...], like: Any) -> tuple[Tensor, Any]:
    """A tensor of undefined contents and its memory as an array."""
    buffer = Buffer(math.prod(shape) * like.dtype.itemsize)
    made = from_buffer(buffer, shape, like.dtype, like.device)
    return made, array_of(buffer.ptr, shape, like.dtype)


def taken(tensor: Any, indices: Sequence[int]) -> Tensor:
    """`tensor[indices]`, made at once where the tensor lies in memory.

    Args:
        tensor: (N, ..).
        indices: -N <= i < N.

    Raises:
        IndexError: an index is out of range.
    """
    if not _lies_in_memory(tensor):
        found: Tensor = tensor[list(indices)]
        return found
    places = np.asarray(indices, np.int64)
    n = tensor._shape[0]
    if places.size and not (-n <= places.min() and places.max() < n):
        wrong = places.max() if places.max() >= n else places.min()
        raise IndexError(f"index {wrong} is out of bounds for dimension 0 with size {n}")
    return _chosen(tensor._array(), places % max(n, 1), tensor._shape[1:], tensor)


def _chosen(rows: Any, places: Any, shape: tuple[int, ...], like: Any) -> Tensor:
    """A tensor of the chosen rows of an array, each of `shape`."""
    made, target = _new((len(places), *shape), like)
    target.reshape(len(places), *rows.shape[1:])[...] = rows[places]
    return made
