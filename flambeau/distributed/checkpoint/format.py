"""A checkpoint on disk: a folder with safetensors files and an index that says what is whole.

Note [Checkpoints]
Every rank writes what it was given into a safetensors file with a name nobody used before. When
all have said that theirs is on disk, rank 0 writes `index.json` beside it and renames it into
place: that one rename makes the checkpoint. Until then the folder holds the one before, whole; a
crash leaves at most files that no index mentions, which the next save removes. The index says of
each tensor its dtype, its shape, and for each part its file, its place, and checksums of every 16
MB, so that reading a part checks that part.

Everything else of a state dict stands in the index as JSON where that says it exactly, and as a
record of `flambeau.save` (which is read without running anything) where it does not.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from flambeau.distributed.checkpoint.layout import At, Box

INDEX = "index.json"
FORMAT = "flambeau checkpoint 1"
_BLOCK = 1 << 24  # bytes of a part that one checksum covers

Array = np.ndarray[Any, Any]


class CheckpointException(RuntimeError):
    """Saving or loading failed on some ranks.

    Args:
        message: what happened.
        failures: by rank.
    """

    def __init__(self, message: str, failures: Mapping[int, BaseException | str]) -> None:
        told = "; ".join(f"rank {rank}: {error}" for rank, error in sorted(failures.items()))
        super().__init__(f"{message}: {told}" if told else message)
        self.failures = dict(failures)


@dataclass
class Chunk:
    """A part of a tensor on disk.

    Attributes:
        box: which part.
        file: in which file of the folder.
        name: of the tensor in that file.
        crc32: of each 16 MB of its bytes.
    """

    box: Box
    file: str
    name: str
    crc32: list[int]


@dataclass
class Stored:
    """A tensor on disk: its dtype, the shape of the whole, and its parts."""

    dtype: str
    shape: tuple[int, ...]
    chunks: list[Chunk] = field(default_factory=list)


@dataclass
class Metadata:
    """What is in a checkpoint.

    Attributes:
        state_dict_metadata: tensors by name.
        values: everything else by name: as JSON, or the chunk with its `flambeau.save`.
        paths: the keys of each name.
    """

    state_dict_metadata: dict[str, Stored] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def files(self) -> set[str]:
        """The files it consists of."""
        found = {c.file for s in self.state_dict_metadata.values() for c in s.chunks}
        return found | {v.file for v in self.values.values() if isinstance(v, Chunk)}

    def text(self) -> str:
        """As `index.json` has it."""
        tensors = {
            name: {
                "dtype": stored.dtype,
                "shape": stored.shape,
                "chunks": [_chunk_text(chunk) for chunk in stored.chunks],
            }
            for name, stored in self.state_dict_metadata.items()
        }
        values = {
            name: {"object": _chunk_text(v)} if isinstance(v, Chunk) else {"json": v}
            for name, v in self.values.items()
        }
        paths = {name: [encode(key) for key in path] for name, path in self.paths.items()}
        return json.dumps({"format": FORMAT, "tensors": tensors, "values": values, "paths": paths})

    @classmethod
    def from_text(cls, text: str) -> Metadata:
        """Read `index.json`.

        Raises:
            ValueError: it is none.
        """
        found = json.loads(text)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"{INDEX} is not of {FORMAT!r}")
        made = cls()
        for name, entry in found["tensors"].items():
            chunks = [_chunk(c) for c in entry["chunks"]]
            made.state_dict_metadata[name] = Stored(entry["dtype"], tuple(entry["shape"]), chunks)
        for name, entry in found["values"].items():
            made.values[name] = _chunk(entry["object"]) if "object" in entry else entry["json"]
        for name, path in found["paths"].items():
            made.paths[name] = tuple(decode(key) for key in path)
        return made


def _chunk_text(chunk: Chunk) -> dict[str, Any]:
    return {
        "offset": chunk.box.offset,
        "shape": chunk.box.shape,
        "file": chunk.file,
        "name": chunk.name,
        "crc32": chunk.crc32,
    }


def _chunk(entry: Mapping[str, Any]) -> Chunk:
    file = entry["file"]
    if os.path.basename(file) != file:
        raise ValueError(f"{INDEX} names a file outside the checkpoint: {file!r}")
    box = Box(tuple(entry["offset"]), tuple(entry["shape"]))
    return Chunk(box, file, entry["name"], entry["crc32"])


# -- values ---------------------------------------------------------------------------------------


def encode(value: Any) -> Any:
    """A value as JSON that `decode` makes the same value of.

    Raises:
        TypeError: there is none.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [encode(v) for v in value]
    if type(value) is tuple:
        return {"tuple": [encode(v) for v in value]}
    if type(value) is dict:
        return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
    if type(value) is At:
        return {"at": [value.index, value.of]}
    raise TypeError(f"{type(value)} is not written as JSON")


def decode(value: Any) -> Any:
    """The value that `encode` was given."""
    if type(value) is list:
        return [decode(v) for v in value]
    if type(value) is not dict:
        return value
    ((kind, content),) = value.items()
    if kind == "tuple":
        return tuple(decode(v) for v in content)
    if kind == "at":
        return At(*content)
    return {decode(k): decode(v) for k, v in content}


# -- files ----------------------------------------------------------------------------------------


def dtype_named(name: str) -> Any:
    """NumPy's dtype of a torch name."""
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def checksums(data: Any) -> list[int]:
    """CRC-32 of each 16 MB of some bytes."""
    return [zlib.crc32(data[k : k + _BLOCK]) for k in range(0, max(data.size, 1), _BLOCK)]


def write_arrays(
    path: Path, arrays: Mapping[str, tuple[str, Sequence[int], Array]], sync: bool
) -> None:
    """Write a safetensors file that is on the disk when this returns.

    Args:
        path: a file that is not there yet.
        arrays: (dtype, shape, bytes) by name.
        sync: whether to wait for the disk.
    """
    specs = {
        name: safetensors.TensorSpec(
            dtype=dtype, shape=list(shape), data_ptr=data.ctypes.data, data_len=data.size
        )
        for name, (dtype, shape, data) in arrays.items()
    }
    safetensors.serialize_file(specs, str(path), metadata=None)
    if sync:
        sync_path(path)


def sync_path(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def commit(folder: Path, metadata: Metadata, sync: bool) -> None:
    """Make this the folder's checkpoint, and remove what belongs to none."""
    temporary = folder / f".{INDEX}.{secrets.token_hex(6)}.tmp"
    try:
        temporary.write_text(metadata.text(), encoding="utf-8")
        if sync:
            sync_path(temporary)
        os.replace(temporary, folder / INDEX)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_path(folder)
    kept = metadata.files()
    for path in [*folder.glob("part-*.safetensors"), *folder.glob(f".{INDEX}.*.tmp")]:
        if path.name not in kept:
            path.unlink(missing_ok=True)


def read_index(folder: Path) -> Metadata:
    """What is in a folder's checkpoint.

    Raises:
        CheckpointException: there is none, or it cannot be read.
    """
    try:
        return Metadata.from_text((folder / INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointException(f"there is no checkpoint in {folder}", {}) from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointException(f"{folder / INDEX} is damaged: {error}", {}) from error


class Files:
    """The data files of a checkpoint, mapped as they are asked for.

    Args:
        folder: the checkpoint's.
        verify: whether to compare checksums of what is read.
    """

    def __init__(self, folder: Path, verify: bool = True) -> None:
        self.folder = folder
        self.verify = verify
        self._mapped: dict[str, tuple[dict[str, Any], Array]] = {}

    def bytes_of(self, chunk: Chunk) -> Any:
        """The bytes of a part, not yet checked."""
        header, data = self._map(chunk.file)
        if chunk.name not in header:
            raise CheckpointException(f"{chunk.file} has no {chunk.name!r}", {})
        begin, end = header[chunk.name]["data_offsets"]
        return data[begin:end]

    def read(self, chunk: Chunk, dtype: str, box: Box) -> Array:
        """The values of `box`, which lies in the chunk.

        Raises:
            CheckpointException: they are not what was saved.
        """
        kind = dtype_named(dtype)
        data = self.bytes_of(chunk)
        if data.size != chunk.box.numel() * kind.itemsize:
            raise CheckpointException(f"{chunk.file}: {chunk.name!r} has another size", {})
        index = box.within(chunk.box)
        whole = data.view(kind).reshape(chunk.box.shape)
        if self.verify:
            first = sum(i.start * s for i, s in zip(index, whole.strides))
            last = sum((i.stop - 1) * s for i, s in zip(index, whole.strides)) + kind.itemsize
            self.check(chunk, data, first, last)
        return whole[index]

    def check(self, chunk: Chunk, data: Any, first: int, last: int) -> None:
        """Compare the checksums of the blocks with bytes from `first` up to `last`."""
        for block in range(first // _BLOCK, -(-last // _BLOCK)):
            found = zlib.crc32(data[block * _BLOCK : (block + 1) * _BLOCK])
            if found != chunk.crc32[block]:
                raise CheckpointException(
                    f"{self.folder / chunk.file}: {chunk.name!r} is damaged (checksum)", {}
                )

    def _map(self, file: str) -> tuple[dict[str, Any], Array]:
        found = self._mapped.get(file)
        if found is None:
            path = self.folder / file
            try:
                data = np.memmap(path, np.uint8, "r")
                (size,) = struct.unpack("<Q", data[:8].tobytes())
                header = json.loads(data[8 : 8 + size].tobytes())
            except (OSError, ValueError, struct.error) as error:
                raise CheckpointException(f"{path} cannot be read: {error}", {}) from error
            found = self._mapped[file] = (header, np.asarray(data[8 + size :]))
        return found
