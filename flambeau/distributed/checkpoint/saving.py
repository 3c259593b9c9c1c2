"""Saving and loading state dicts that are spread over ranks."""

from __future__ import annotations

import io
import json
import operator
import os
import secrets
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

import flambeau
from flambeau import record, serialization
from flambeau.checkpoint import make_tensor, torch_name
from flambeau.distributed import groups
from flambeau.distributed.checkpoint.format import (
    CheckpointException,
    Chunk,
    Files,
    Metadata,
    Stored,
    checksums,
    commit,
    decode,
    encode,
    read_index,
    write_arrays,
)
from flambeau.distributed.checkpoint.layout import (
    Box,
    Leaf,
    is_stateful,
    leaves,
    nested,
    part_of,
    put,
)
from flambeau.size import contiguous_strides
from flambeau.storage import UntypedStorage


class FileSystemWriter:
    """Saves to a folder, which all ranks see.

    Args:
        path: the folder; made where it is missing.
        single_file_per_rank: accepted; a rank writes one file.
        sync_files: wait until the data is on the disk, so that a crash of the machine loses none.
        overwrite: whether a checkpoint that is there may be replaced (by a whole one).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        single_file_per_rank: bool = True,
        sync_files: bool = True,
        thread_count: int = 1,
        overwrite: bool = True,
        **ignored: Any,
    ) -> None:
        self.path = Path(path)
        self.sync_files = sync_files
        self.overwrite = overwrite


class FileSystemReader:
    """Loads from a folder.

    Args:
        path: the folder.
        verify: whether to compare checksums of what is read.
    """

    def __init__(self, path: str | os.PathLike[str], verify: bool = True) -> None:
        self.path = Path(path)
        self.verify = verify

    def read_metadata(self) -> Metadata:
        """What is in the checkpoint."""
        return read_index(self.path)


@dataclass(frozen=True)
class DefaultSavePlanner:
    """Accepted by `save`; which rank writes what is decided by size."""


@dataclass(frozen=True)
class DefaultLoadPlanner:
    """How `load` treats names.

    Args:
        allow_partial_load: leave entries alone that the checkpoint does not have.
    """

    flatten_state_dict: bool = True
    flatten_sharded_tensors: bool = True
    allow_partial_load: bool = False


# -- talking to the other ranks -------------------------------------------------------------------


class _Line:
    """Ranks that talk about checkpoints, apart from the program's own collectives.

    Args:
        group: a process group, or None for a rank alone.
    """

    def __init__(self, group: Any) -> None:
        self.rank = 0 if group is None else group.rank()
        self.size = 1 if group is None else group.size()
        self.transport: Any = None
        if self.size > 1:
            self.transport = group.transport.split(range(self.size))
            self.transport.group = "checkpoints"

    def exchange(self, value: Any) -> list[Any]:
        """Every rank's value, of what `encode` writes."""
        if self.transport is None:
            return [value]
        everyone = self.transport.exchange(json.dumps(encode(value)).encode())
        return [decode(json.loads(data)) for data in everyone]

    def agree(self, what: str, error: BaseException | None) -> None:
        """Raise on every rank where one failed.

        Raises:
            CheckpointException: naming the ranks.
        """
        told = None if error is None else f"{type(error).__name__}: {error}"
        failures = {r: text for r, text in enumerate(self.exchange(told)) if text is not None}
        if failures:
            raise CheckpointException(what, failures) from error


class _Team:
    """The ranks that save together.

    Two saves may be under way: one is planned by the program's thread while another is written by
    a thread of its own. So each has a line of its own.

    Args:
        group: a process group, or None for a rank alone.
    """

    def __init__(self, group: Any) -> None:
        self.planning = _Line(group)
        self.writing = _Line(group)
        self._threaded = self.planning.size == 1 or group.transport.threaded
        self._thread = ThreadPoolExecutor(1, "flambeau-checkpoint")

    def submit(self, work: Callable[[], Metadata]) -> Future[Metadata]:
        """Do this after what was submitted before, beside the program where that is possible."""
        if self._threaded:
            return self._thread.submit(work)
        done: Future[Metadata] = Future()
        try:
            done.set_result(work())
        except Exception as error:
            done.set_exception(error)
        return done


_teams: weakref.WeakKeyDictionary[Any, _Team] = weakref.WeakKeyDictionary()
_alone: list[_Team] = []


def _team(process_group: Any, no_dist: bool) -> _Team:
    """Who saves or loads together, once all collectives that were recorded before have run."""
    record.flush()
    if no_dist or not groups.is_initialized():
        if not _alone:
            _alone.append(_Team(None))
        return _alone[0]
    group = groups.group_of(process_group)
    found = _teams.get(group)
    if found is None:
        found = _teams[group] = _Team(group)
    return found


# -- saving ---------------------------------------------------------------------------------------


@dataclass
class _Part:
    """A part of a tensor, or the record of a value, that this rank could write."""

    name: str
    box: Box
    dtype: str
    whole: tuple[int, ...]
    tensor: Any
    path: tuple[Any, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What is the same for the same part on other ranks."""
        return (self.name, self.box.offset, self.box.shape)

    def nbytes(self) -> int:
        """Its size."""
        return self.box.numel() * self.tensor.dtype.itemsize


@dataclass
class _Plan:
    """What this rank writes, copied, and what everybody knows of it.

    Attributes:
        token: of this save, in its files' names.
        arrays: (dtype, shape, bytes) by name in the file.
        chunks: (name, box) by name in the file.
    """

    token: str
    metadata: Metadata
    arrays: dict[str, tuple[str, tuple[int, ...], Any]] = field(default_factory=dict)
    boxes: dict[str, tuple[str, Box]] = field(default_factory=dict)


def save(
    state_dict: Mapping[str, Any],
    *,
    checkpoint_id: str | os.PathLike[str] | None = None,
    storage_writer: FileSystemWriter | None = None,
    planner: DefaultSavePlanner | None = None,
    process_group: Any = None,
    no_dist: bool = False,
    use_collectives: bool = True,
) -> Metadata:
    """Save a state dict that is spread over ranks; every rank of the group calls it.

    Tensors that several ranks hold are written by one of them; a `DTensor` is written in parts. The
    folder's checkpoint is replaced when the new one is whole: Note [Checkpoints].

    Args:
        state_dict: tensors, containers and other values; objects with a `state_dict` method stand
            for what it returns. The ranks need not have the same names.
        checkpoint_id: the folder, which all ranks see.
        storage_writer: in its place, a folder with settings.
        planner: accepted.
        process_group: the ranks that save together; the default group if None.
        no_dist: save what this rank has, without asking others.

    Returns:
        What was written.

    Raises:
        CheckpointException: on every rank, where one failed; the checkpoint before is still there.

    Example:
        >>> import tempfile, flambeau as torch
        >>> from flambeau.distributed import checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = checkpoint.save({"w": torch.ones(2), "step": 3}, checkpoint_id=folder)
        ...     state = {"w": torch.zeros(2), "step": 0}
        ...     checkpoint.load(state, checkpoint_id=folder)
        >>> state
        {'w': tensor([1., 1.]), 'step': 3}
    """
    return _begin(state_dict, checkpoint_id, storage_writer, process_group, no_dist, False).result()


def async_save(
    state_dict: Mapping[str, Any],
    *,
    checkpoint_id: str | os.PathLike[str] | None = None,
    storage_writer: FileSystemWriter | None = None,
    planner: DefaultSavePlanner | None = None,
    process_group: Any = None,
    async_checkpointer_type: Any = None,
    async_stager: Any = None,
    no_dist: bool = False,
    use_collectives: bool = True,
) -> Future[Metadata]:
    """Save as `save` does, and go on while the files are written.

    What this rank writes is copied before this returns, so the state may be changed at once.
    Saves of one group are written one after the other.

    Returns:
        A future; its `result()` waits, and raises what failed.
    """
    return _begin(state_dict, checkpoint_id, storage_writer, process_group, no_dist, True)


def _begin(
    state_dict: Mapping[str, Any],
    checkpoint_id: Any,
    storage_writer: FileSystemWriter | None,
    process_group: Any,
    no_dist: bool,
    copied: bool,
) -> Future[Metadata]:
    """Decide who writes what, take the values, and hand them to the thread that writes."""
    writer = storage_writer or FileSystemWriter(_folder(checkpoint_id))
    team = _team(process_group, no_dist)
    line = team.planning
    error: BaseException | None = None
    parts: list[_Part] = []
    metadata = Metadata()
    try:
        if (writer.path / "index.json").exists() and not writer.overwrite:
            raise FileExistsError(f"there is a checkpoint in {writer.path}")
        parts = _parts(state_dict, metadata)
        writer.path.mkdir(parents=True, exist_ok=True)
    except Exception as caught:
        error = caught
    line.agree("the state dict cannot be saved", error)
    plan = _planned(parts, metadata, line, copied)
    return team.submit(lambda: _written(plan, writer, team.writing))


def _folder(checkpoint_id: Any) -> Any:
    if checkpoint_id is None:
        raise RuntimeError("The checkpoint_id must be specified if there is no storage_writer")
    return checkpoint_id


def _parts(state_dict: Mapping[str, Any], metadata: Metadata) -> list[_Part]:
    """The tensors of a state dict; everything else goes to the metadata, or becomes a record."""
    found = []
    for leaf in leaves(state_dict).values():
        if isinstance(leaf.value, flambeau.Tensor):
            whole, box, tensor = part_of(leaf.value)
            dtype = torch_name(tensor.dtype)
            found.append(_Part(leaf.name, box, dtype, whole, tensor, leaf.path))
            continue
        metadata.paths[leaf.name] = leaf.path
        try:
            metadata.values[leaf.name] = encode(leaf.value)
        except TypeError:
            stream = io.BytesIO()
            serialization.save(leaf.value, stream)
            raw = np.frombuffer(stream.getvalue(), np.uint8).copy()
            tensor = flambeau.from_numpy(raw)
            shape = (raw.size,)
            found.append(_Part(leaf.name, Box((0,), shape), "object", shape, tensor, leaf.path))
    return found


def _planned(parts: list[_Part], metadata: Metadata, line: _Line, copied: bool) -> _Plan:
    """Give every part to one rank that has it, so that all write about as much."""
    told = [
        (p.key, p.nbytes(), p.dtype, p.whole, p.path)
        for p in parts
        if p.box.numel() or not line.rank
    ]
    values = [(name, metadata.paths[name], value) for name, value in metadata.values.items()]
    everyone = line.exchange((secrets.token_hex(4), told, values))
    made = _Plan(everyone[0][0], Metadata())
    owners: dict[tuple[Any, ...], list[int]] = {}
    sizes: dict[tuple[Any, ...], int] = {}
    for rank, (_, told, values) in enumerate(everyone):
        for key, nbytes, dtype, whole, path in told:
            owners.setdefault(key, []).append(rank)
            sizes[key] = nbytes
            made.metadata.paths.setdefault(key[0], path)
            if dtype != "object":
                stored = Stored(dtype, whole)
                first = made.metadata.state_dict_metadata.setdefault(key[0], stored)
                if (first.dtype, first.shape) != (dtype, whole):
                    raise CheckpointException(
                        f"{key[0]!r} is {first.dtype}{list(first.shape)} on some ranks and"
                        f" {dtype}{list(whole)} on rank {rank}",
                        {},
                    )
        for name, path, value in values:
            made.metadata.values.setdefault(name, value)
            made.metadata.paths.setdefault(name, path)
    load = [0] * line.size
    mine: dict[tuple[Any, ...], int] = {}
    for key in sorted(owners, key=lambda key: (-sizes[key], key)):
        writer = min(owners[key], key=lambda rank: (load[rank], rank))
        load[writer] += sizes[key]
        if writer == line.rank:
            mine[key] = len(mine)
    own = [part for part in parts if part.key in mine]
    for part, data in zip(own, _bytes_of([part.tensor for part in own], copied)):
        name = part.name if part.box.shape == part.whole else f"{part.name}@{mine[part.key]}"
        dtype = "uint8" if part.dtype == "object" else part.dtype
        made.arrays[name] = (dtype, part.box.shape, data)
        made.boxes[name] = (part.name, part.box)
    return made


def _bytes_of(tensors: Sequence[Any], copied: bool) -> list[Any]:
    """Tensors' values as contiguous bytes, over their own memory unless `copied`."""
    taken = []
    with flambeau.no_grad():
        for tensor in tensors:
            source = tensor.detach()
            own = source.cpu().contiguous()
            taken.append(own.clone() if copied and own._cell is source._cell else own)
    found = []
    for own in taken:  # executes all of them together
        begin, size = own.storage_offset() * own.dtype.itemsize, own.numel() * own.dtype.itemsize
        found.append(own.untyped_storage().numpy()[begin : begin + size])
    return found


def _written(plan: _Plan, writer: FileSystemWriter, line: _Line) -> Metadata:
    """Write this rank's file, and where every rank has, make the checkpoint the folder's."""
    file = f"part-{plan.token}-{line.rank}.safetensors"
    error: BaseException | None = None
    chunks: list[tuple[Any, ...]] = []
    try:
        if plan.arrays:
            write_arrays(writer.path / file, plan.arrays, writer.sync_files)
        for inside, (_, _, data) in plan.arrays.items():
            name, box = plan.boxes[inside]
            chunks.append((name, box.offset, box.shape, file, inside, checksums(data)))
    except Exception as caught:
        error = caught
    line.agree(f"saving to {writer.path} failed", error)
    metadata = plan.metadata
    for rank_chunks in line.exchange(chunks):
        for name, offset, shape, where, inside, crc32 in rank_chunks:
            chunk = Chunk(Box(offset, shape), where, inside, crc32)
            stored = metadata.state_dict_metadata.get(name)
            if stored is None:
                metadata.values[name] = chunk
            else:
                stored.chunks.append(chunk)
    try:
        if line.rank == 0:
            commit(writer.path, metadata, writer.sync_files)
    except Exception as caught:
        error = caught
    line.agree(f"saving to {writer.path} failed", error)
    return metadata


# -- loading --------------------------------------------------------------------------------------


def load(
    state_dict: dict[str, Any],
    *,
    checkpoint_id: str | os.PathLike[str] | None = None,
    storage_reader: FileSystemReader | None = None,
    planner: DefaultLoadPlanner | None = None,
    process_group: Any = None,
    no_dist: bool = False,
) -> None:
    """Load a checkpoint into a state dict; tensors are filled, other values replaced.

    Each rank reads the parts that it holds, however many ranks saved them and however the tensors
    were cut then.

    Args:
        state_dict: says what is wanted, and in which parts; objects with `load_state_dict` are
            given what was read. An empty dictionary takes all that the checkpoint has there.
        checkpoint_id: the folder.
        storage_reader: in its place, a folder with settings.
        planner: `DefaultLoadPlanner(allow_partial_load=True)` lets names be missing.
        process_group: the ranks that load together; the default group if None.
        no_dist: load without asking whether others could.

    Raises:
        CheckpointException: on every rank, where one failed: there is no checkpoint, it lacks a
            name, sizes differ, or the data is damaged.
    """
    reader = storage_reader or FileSystemReader(_folder(checkpoint_id))
    line = _team(process_group, no_dist).planning
    partial = planner is not None and planner.allow_partial_load
    error: BaseException | None = None
    try:
        _load(state_dict, reader, partial)
    except Exception as caught:
        error = caught
    line.agree(f"loading from {reader.path} failed", error)


def _load(state_dict: dict[str, Any], reader: FileSystemReader, partial: bool) -> None:
    metadata = reader.read_metadata()
    files = Files(reader.path, reader.verify)
    stateful = {key: value for key, value in state_dict.items() if is_stateful(value)}
    target = {
        key: value.state_dict() if key in stateful else value for key, value in state_dict.items()
    }
    for name, leaf in leaves(target).items():
        stored = metadata.state_dict_metadata.get(name)
        if stored is not None and isinstance(leaf.value, flambeau.Tensor):
            _fill(name, leaf.value, stored, files)
        elif name in metadata.paths:
            put(target, leaf.path, _whole(name, metadata, files))
        elif below := _below(leaf, metadata):
            found = {metadata.paths[n]: _whole(n, metadata, files) for n in below}
            put(target, leaf.path, reduce(operator.getitem, leaf.path, nested(found)))
        elif not partial:
            raise RuntimeError(f"Missing key in checkpoint state_dict: {name}.")
    for key, value in target.items():
        if key in stateful:
            stateful[key].load_state_dict(value)
        else:
            state_dict[key] = value


def _below(leaf: Leaf, metadata: Metadata) -> list[str]:
    """Names inside an empty dictionary, which takes whatever there is: the state of an optimizer
    that has not stepped."""
    if not isinstance(leaf.value, Mapping):
        return []
    depth = len(leaf.path)
    return [name for name, path in metadata.paths.items() if path[:depth] == leaf.path]


def _fill(name: str, tensor: Any, stored: Stored, files: Files) -> None:
    """Load this rank's part of a tensor into it."""
    whole, box, local = part_of(tensor)
    if whole != stored.shape:
        raise ValueError(
            f"Size mismatch between saved {list(stored.shape)} and current: {list(whole)}"
            f" for {name}"
        )
    if box.numel():
        with flambeau.no_grad():
            local.copy_(_tensor(stored, box, files))


def _whole(name: str, metadata: Metadata, files: Files) -> Any:
    """An entry of the checkpoint."""
    stored = metadata.state_dict_metadata.get(name)
    if stored is None:
        return _value(metadata.values[name], files)
    return _tensor(stored, Box((0,) * len(stored.shape), stored.shape), files)


def _value(value: Any, files: Files) -> Any:
    if not isinstance(value, Chunk):
        return decode(value)
    raw = files.read(value, "uint8", value.box)
    return serialization.load(io.BytesIO(raw.tobytes()))


def _tensor(stored: Stored, box: Box, files: Files) -> Any:
    """The values of a part of a tensor, put together from what overlaps it."""
    dtype = getattr(flambeau, stored.dtype)
    found = np.empty(box.shape, dtype.numpy)
    filled = 0
    for chunk in stored.chunks:
        common = box.overlap(chunk.box)
        if common is not None:
            found[common.within(box)] = files.read(chunk, stored.dtype, common)
            filled += common.numel()
    if filled < box.numel():
        raise CheckpointException(
            f"the checkpoint has parts of a tensor {list(box.shape)} only", {}
        )
    storage = UntypedStorage.from_numpy(found.reshape(-1).view(np.uint8))
    return make_tensor(storage, dtype, 0, box.shape, contiguous_strides(box.shape))


def read(
    checkpoint_id: str | os.PathLike[str],
    keys: set[str] | None = None,
    verify: bool = True,
) -> dict[str, Any]:
    """A checkpoint as a plain state dict of whole tensors, on this rank alone.

    Args:
        checkpoint_id: the folder.
        keys: full names, or the beginnings of some; everything if None.
        verify: whether to compare checksums.

    Raises:
        CheckpointException: there is none, or it is damaged.
    """
    reader = FileSystemReader(checkpoint_id, verify)
    metadata = reader.read_metadata()
    files = Files(reader.path, verify)
    found: dict[tuple[Any, ...], Any] = {}
    for name, path in metadata.paths.items():
        if keys is not None and not any(name == k or name.startswith(f"{k}.") for k in keys):
            continue
        found[path] = _whole(name, metadata, files)
    return nested(found)
