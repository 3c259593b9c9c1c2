"""Tensors in safetensors files: a JSON header of names, dtypes and shapes, then the raw values.

A thin layer over the `safetensors` package, which checks the headers. Functions and errors are
those of its own `safetensors.torch`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors import SafetensorError

import flambeau
from flambeau.checkpoint import make_tensor, storage_bytes, torch_name
from flambeau.device import device as Device
from flambeau.dtype import dtype as DType
from flambeau.size import contiguous_strides
from flambeau.storage import UntypedStorage

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


def save(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file.

    Args:
        tensors: contiguous tensors by name, no two of which share memory.
        metadata: text to keep in the header.

    Raises:
        ValueError: a value is no tensor, or is not contiguous.
        RuntimeError: tensors share memory.
    """
    arrays = _arrays(tensors)
    return bytes(safetensors.serialize(_specs(tensors, arrays), metadata=_texts(metadata)))


def save_file(
    tensors: Mapping[str, Any],
    filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file; an earlier file is replaced only when the new one is complete.

    Args:
        tensors: contiguous tensors by name, no two of which share memory.
        filename: where to.
        metadata: text to keep in the header.

    Raises:
        ValueError: a value is no tensor, or is not contiguous.
        RuntimeError: tensors share memory.
        SafetensorError: the file cannot be written.
    """
    arrays = _arrays(tensors)
    path = Path(os.path.realpath(filename))
    temporary = path.parent / f".{path.name[:200]}.{secrets.token_hex(6)}.tmp"
    try:
        safetensors.serialize_file(
            _specs(tensors, arrays), str(temporary), metadata=_texts(metadata)
        )
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def load(data: bytes) -> dict[str, Any]:
    """The tensors in the bytes of a safetensors file.

    Raises:
        SafetensorError: the header is malformed or does not fit the data.
    """
    found = {}
    for name, entry in safetensors.deserialize(data):
        data = entry["data"]
        raw = np.frombuffer(data if isinstance(data, bytearray) else bytearray(data), np.uint8)
        found[name] = _tensor(raw, name, entry["dtype"], entry["shape"])
    return found


def load_file(filename: str | os.PathLike[str], device: Any = "cpu") -> dict[str, Any]:
    """The tensors in a safetensors file.

    Args:
        filename: the file.
        device: where the tensors go.

    Raises:
        FileNotFoundError: there is no such file.
        SafetensorError: the header is malformed or does not fit the file.
    """
    found = {}
    with safetensors.safe_open(os.fspath(filename), framework="np") as source:
        for name in source.keys():
            piece = source.get_slice(name)
            _check_dtype(name, piece.get_dtype())
            raw = _own_bytes(source.get_tensor(name))
            found[name] = _tensor(raw, name, piece.get_dtype(), piece.get_shape())
    where = Device(device)
    return found if where.type == "cpu" else {n: t.to(where) for n, t in found.items()}


def _own_bytes(array: np.ndarray) -> np.ndarray:
    if not array.flags.writeable or not array.flags.c_contiguous:
        array = array.copy()
    return array.reshape(-1).view(np.uint8)


def _check_dtype(name: str, dtype: str) -> Any:
    found = getattr(flambeau, _DTYPES.get(dtype, ""), None)
    if not isinstance(found, DType):
        raise SafetensorError(f"tensor {name!r} has dtype {dtype}, which is not supported")
    return found


def _tensor(raw: np.ndarray, name: str, dtype: str, shape: Any) -> Any:
    size = tuple(shape)
    return make_tensor(
        UntypedStorage.from_numpy(raw), _check_dtype(name, dtype), 0, size, contiguous_strides(size)
    )


def _arrays(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The bytes of each tensor, as uint8 arrays that alias CPU tensors."""
    if not isinstance(tensors, Mapping):
        raise ValueError(f"Expected a dict of [str, torch.Tensor] but received {type(tensors)}")
    arrays, spans = {}, []
    for name, tensor in tensors.items():
        if not isinstance(tensor, flambeau.Tensor):
            raise ValueError(
                f"Key `{name}` is invalid, expected torch.Tensor but received {type(tensor)}"
            )
        if not tensor.is_contiguous():
            raise ValueError(
                f"You are trying to save a non contiguous tensor: `{name}` which is not allowed. It"
                " either means you are trying to save tensors which are reference of each other in"
                " which case it's recommended to save only the full tensors, and reslice at load"
                " time, or simply call `.contiguous()` on your tensor to pack it before saving."
            )
        item = tensor.dtype.itemsize
        begin = tensor.storage_offset() * item
        data = storage_bytes(_storage_of(tensor))[begin : begin + tensor.numel() * item]
        arrays[name] = data
        if data.size:
            spans.append((data.ctypes.data, data.ctypes.data + data.size, name))
    spans.sort()
    for (_, end, first), (start, _, second) in itertools.pairwise(spans):
        if start < end:
            raise RuntimeError(
                "Some tensors share memory, this will lead to duplicate memory on disk and "
                f"potential differences when loading them again: [{{{first!r}, {second!r}}}]."
            )
    return arrays


def _storage_of(tensor: Any) -> UntypedStorage:
    found: UntypedStorage = tensor.untyped_storage()
    return found


def _specs(tensors: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What the package wants to know about each tensor; the arrays must outlive its use."""
    return {
        name: safetensors.TensorSpec(
            dtype=torch_name(tensors[name].dtype),
            shape=list(tensors[name].size()),
            data_ptr=data.ctypes.data,
            data_len=data.size,
        )
        for name, data in arrays.items()
    }


def _texts(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if metadata is None else dict(metadata)
