"""Saving and loading: torch's checkpoint format, read without ever running what a file says.

`save` writes what `torch.load` reads, and `load` reads what `torch.save` writes. The pickle inside
a checkpoint is read by a restricted machine (`flambeau.unpickle`) whatever the arguments: only
tensors, plain containers and the names in a fixed table are made. Classes of your own are admitted
one by one with `add_safe_globals` or `safe_globals`; `weights_only=False` admits those that are
filled with attributes and not called, as modules are: Note [Plain classes].
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pickle
import pickletools
import re
import secrets
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import flambeau
from flambeau import safetensors as safetensors_format
from flambeau.archive import ALIGNMENT, ArchiveReader, ArchiveWriter, empty_bytes
from flambeau.checkpoint import (
    CheckpointPickler,
    Names,
    StorageType,
    make_tensor,
    storage_bytes,
    swap_bytes,
)
from flambeau.device import device as Device
from flambeau.storage import TypedStorage, UntypedStorage
from flambeau.unpickle import Global, Unpickler, mapped_name

DEFAULT_PROTOCOL = 2
#: Modules no name of which can be admitted.
_BLOCKED = ("sys", "os", "posix", "nt")
_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STALE_SECONDS = 24 * 3600.0

_safe: list[Any] = []
_check_crc32 = [True]


# -- what may be loaded ---------------------------------------------------------------------------


def add_safe_globals(safe_globals: list[Any]) -> None:
    """Admit classes and functions in checkpoints: they may be called and given state while loading.

    Args:
        safe_globals: classes or functions, or pairs of one and the full name it has in files.
    """
    _safe.extend(entry for entry in safe_globals if entry not in _safe)


def get_safe_globals() -> list[Any]:
    """What `add_safe_globals` admitted."""
    return list(_safe)


def clear_safe_globals() -> None:
    """Withdraw everything that `add_safe_globals` admitted."""
    _safe.clear()


class safe_globals:
    """Admit classes and functions while a `with` block runs.

    Args:
        safe_globals: as for `add_safe_globals`.
    """

    def __init__(self, safe_globals: list[Any]) -> None:
        self.safe_globals = safe_globals
        self._added: list[Any] = []

    def __enter__(self) -> None:
        self._added = [entry for entry in self.safe_globals if entry not in _safe]
        add_safe_globals(self._added)

    def __exit__(self, *exc: object) -> None:
        for entry in self._added:
            if entry in _safe:
                _safe.remove(entry)


def _admitted() -> dict[str, Any]:
    found = {}
    for entry in _safe:
        if isinstance(entry, tuple):
            if len(entry) != 2:
                raise ValueError(
                    "Expected tuple of length 2 (global, str of callable full path), "
                    f"but got tuple of length: {len(entry)}"
                )
            value, name = entry
            if type(name) is not str:
                raise TypeError(
                    "Expected second item in tuple to be str of callable full path, "
                    f"but got: {type(name)}"
                )
        else:
            value, name = entry, f"{entry.__module__}.{entry.__qualname__}"
        found[name] = value
    return found


def _lookup(names: Names, plain: bool = False) -> Callable[[str, str], Global]:
    """What a checkpoint's globals stand for, with the classes admitted now.

    Args:
        names: those that every checkpoint may name.
        plain: admit plain classes as well.
    """
    admitted = _admitted()

    def find(module: str, name: str) -> Global:
        if module.partition(".")[0] in _BLOCKED:
            raise pickle.UnpicklingError(
                f"Unsupported global: GLOBAL {module}.{name} was not an allowed global by default. "
                f"Trying to load unsupported GLOBAL {module}.{name} whose module {module} is "
                "blocked: it cannot be admitted either."
            )
        found = names.get(module, name)
        if found is not None:
            return found
        full = f"{module}.{name}"
        if full in admitted:
            return Global(admitted[full], admitted[full], build=True)
        if plain and (found := _plain(module, name)) is not None:
            return found
        shown = full.removeprefix("builtins.")
        raise pickle.UnpicklingError(
            f"Unsupported global: GLOBAL {shown} was not an allowed global by default. Please use "
            f"`flambeau.serialization.add_safe_globals([{shown}])` or the "
            f"`flambeau.serialization.safe_globals([{shown}])` context manager to allowlist this "
            "global if you trust this class/function."
        )

    return find


def _plain(module: str, name: str) -> Global | None:
    """A plain class, to be filled, or an operation of ours, to be mentioned; None: it is neither.

    Note [Plain classes]
    ~~~~~~~~~~~~~~~~~~~~
    A whole model is saved as the names of its classes and the attributes of its objects. An object
    whose class has Python's own `__new__`, no `__setstate__` (or ours, of modules) and no
    `__del__` is made again without calling anything of that class, so `weights_only=False` admits
    such classes of modules that the program has imported itself: what a file says is still never
    run. Functions may only be mentioned, and only operations (an activation that is an attribute).
    """
    if module.startswith("torch.nn.modules."):  # of a model that PyTorch saved
        module = "flambeau.nn"
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        ours = module.startswith(("flambeau.ops.", "flambeau.nn.functional"))
        return Global(found) if ours and callable(found) else None
    restore = getattr(found, "__setstate__", None)
    mine = restore is None or restore.__module__.startswith("flambeau.nn.")
    make: Any = found.__new__
    if make is not object.__new__ or hasattr(found, "__del__") or not mine:
        return None
    return Global(found, functools.partial(object.__new__, found), build=True)


def get_unsafe_globals_in_checkpoint(f: Any) -> list[str]:
    """Names that a checkpoint mentions and `load` would refuse.

    Args:
        f: a path, or a file object opened for reading bytes.

    Returns:
        Full names such as `"posix.system"`, sorted. Nothing is built or called to find them.
    """
    find = _lookup(Names())
    with _opened(f) as source:
        data = ArchiveReader(source).read("data.pkl").tobytes()
    unsafe = set()
    for module, name in _mentioned(data):
        try:
            find(module, name)
        except pickle.UnpicklingError:
            unsafe.add(f"{module}.{name}")
    return sorted(unsafe)


def _mentioned(data: bytes) -> Iterator[tuple[str, str]]:
    """(module, name) of each global in a pickle."""
    texts: list[Any] = ["", ""]
    memo: dict[Any, Any] = {}
    for opcode, arg, _ in pickletools.genops(data):
        if opcode.name == "GLOBAL":
            module, _, name = str(arg).partition(" ")
            yield mapped_name(module, name)
        elif opcode.name == "STACK_GLOBAL":
            yield mapped_name(str(texts[-2]), str(texts[-1]))
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = texts[-1]
        elif opcode.name in ("BINPUT", "LONG_BINPUT"):
            memo[arg] = texts[-1]
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            texts.append(memo.get(arg))
        else:
            texts.append(arg)


def set_crc32_options(compute_crc32: bool) -> None:
    """Whether `load` compares the checksums of the records it reads (it does unless told not to).

    Args:
        compute_crc32: False saves about a second a gigabyte, and lets flipped bits pass.
    """
    _check_crc32[0] = bool(compute_crc32)


def get_crc32_options() -> bool:
    """Whether `load` compares checksums."""
    return _check_crc32[0]


# -- saving ---------------------------------------------------------------------------------------


def save(
    obj: object,
    f: Any,
    pickle_module: Any = pickle,
    pickle_protocol: int = DEFAULT_PROTOCOL,
    _use_new_zipfile_serialization: bool = True,
) -> None:
    """Save tensors and containers of them to a file that `load` and `torch.load` read.

    Every storage is written once, whole, however many tensors view it. A path is replaced only when
    the new file is complete: whatever happens before, the earlier file stays as it was.

    Args:
        obj: tensors, containers, numbers, strings; objects of other classes are pickled by name,
            and load only where their class is admitted.
        f: a path, or a file object with `write`.
        pickle_module: only Python's own `pickle`.
        pickle_protocol: 2 to 5. torch's safe loader reads 2.
        _use_new_zipfile_serialization: only True; the format before torch 1.6 can be read only.

    Raises:
        AttributeError: `f` is neither a path nor has `write`.
        RuntimeError: the directory does not exist, the disk is full, or tensors of different dtypes
            share a storage.

    Example:
        >>> flambeau.save({"weight": flambeau.zeros(2)}, "model.pt")
    """
    if not isinstance(f, (str, os.PathLike)) and not hasattr(f, "write"):
        raise AttributeError(
            "expected 'f' to be string, path, or a file-like object with a 'write' attribute"
        )
    if pickle_module is not pickle:
        raise RuntimeError("flambeau.save pickles with Python's own pickle module only")
    if not 2 <= pickle_protocol <= 5:
        raise ValueError(f"pickle protocol must be 2 to 5, got {pickle_protocol}")
    if not _use_new_zipfile_serialization:
        raise RuntimeError(
            "flambeau writes the zip format only; the format before torch 1.6 "
            "(_use_new_zipfile_serialization=False) can be read, not written"
        )
    if isinstance(f, (str, os.PathLike)):
        path = Path(os.path.realpath(f))
        with replacing(path) as sink:
            stem = path.name.rpartition(".")[0] or path.name
            plain = re.fullmatch(r"[\w.\- ]*\w[\w.\- ]*", stem, re.ASCII)
            _write(obj, sink, stem if plain else "archive", pickle_protocol)
    else:
        _write(obj, f, "archive", pickle_protocol)


def _write(obj: object, sink: Any, archive: str, protocol: int) -> None:
    buffer = io.BytesIO()
    pickler = CheckpointPickler(buffer, protocol)
    pickler.dump(obj)
    writer = ArchiveWriter(sink, archive)
    name = "data.pkl"
    try:
        writer.write_record(name, buffer.getbuffer())
        for name, value in (
            (".format_version", b"1"),
            (".storage_alignment", str(ALIGNMENT).encode()),
            ("byteorder", sys.byteorder.encode()),
        ):
            writer.write_record(name, value)
        for key, storage in pickler.storages.items():
            name = f"data/{key}"
            writer.write_record(name, storage_bytes(storage))
        name = "central directory"
        writer.close()
    except OSError as error:
        raise RuntimeError(
            f"PytorchStreamWriter failed writing file {name}: file write failed: {error}"
        ) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Any]:
    """A file that takes `path`'s place when the block ends well, and vanishes when it does not.

    What is no regular file (a device, a pipe) is written directly.
    """
    if not path.parent.is_dir():
        raise RuntimeError(f"Parent directory {path.parent} does not exist.")
    mode = None
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            with open(path, "wb", buffering=0) as direct:
                yield direct
            return
        mode = stat.S_IMODE(found.st_mode)
    _remove_stale(path)
    temporary = path.parent / f".{path.name[:200]}.{secrets.token_hex(6)}.tmp"
    try:
        with open(temporary, "xb", buffering=0) as sink:
            if mode is not None:
                os.fchmod(sink.fileno(), mode)
            yield sink
            os.fsync(sink.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _remove_stale(path: Path) -> None:
    """Remove what a killed process left of this file; one still writing is never a day old."""
    for left in path.parent.glob(f".{_escaped(path.name[:200])}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


# -- loading --------------------------------------------------------------------------------------


def load(
    f: Any,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = True,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """Load what `save` or `torch.save` wrote.

    Args:
        f: a path, or a file object opened for reading bytes (with `seek`). A path that ends in
            `.safetensors` is read as such.
        map_location: where storages go: a device or its name, a dict from saved locations to
            others, or a function (storage, location) -> storage or None. By default where they
            were.
        pickle_module: not supported; None.
        weights_only: False also makes objects of plain classes that the program has imported,
            such as whole models (Note [Plain classes]). Both values read with the same restricted
            unpickler: flambeau never runs what a file says. Admit other classes with
            `add_safe_globals`.
        mmap: let tensors alias the mapped file (private: writes stay in memory). Paths only.
        pickle_load_args: accepted for torch's sake, unused.

    Raises:
        pickle.UnpicklingError: the file names something that is not admitted, or is malformed.
        RuntimeError: the file is truncated or corrupt, or holds tensors for a device that is not
            there.

    Example:
        >>> flambeau.save({"weight": flambeau.zeros(2)}, "model.pt")
        >>> flambeau.load("model.pt")["weight"].tolist()
        [0.0, 0.0]
    """
    if pickle_module is not None and pickle_module is not pickle:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    is_path = isinstance(f, (str, os.PathLike))
    if mmap and not is_path:
        raise ValueError("f must be a file path in order to use the mmap argument")
    if is_path and os.fspath(f).endswith(".safetensors"):
        if not (map_location is None or isinstance(map_location, (str, Device))):
            raise RuntimeError(
                "Loading safetensors file with dict or callable map_location is not "
                "supported. Use a device string or torch.device instead."
            )
        return safetensors_format.load_file(f, device=map_location or "cpu")
    plain = weights_only is False
    with _opened(f) as source:
        try:
            if _is_zip(source):
                mapped = np.memmap(f, np.uint8, mode="c") if mmap else None
                return _Loading(map_location, plain).archive(ArchiveReader(source), mapped)
            if mmap:
                raise RuntimeError(
                    "mmap can only be used with files saved with "
                    "`torch.save(_use_new_zipfile_serialization=True)`, please "
                    "torch.save your checkpoint with this option in order to use "
                    "mmap."
                )
            return _Loading(map_location, plain).legacy(source)
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(_explained(str(error), weights_only)) from error


def _explained(message: str, weights_only: bool | None) -> str:
    head = "Weights only load failed. "
    if weights_only is False:
        head += (
            "flambeau reads every checkpoint with a restricted unpickler; weights_only=False "
            "admits classes that are filled and not called, as modules are, because unpickling "
            "freely runs code from the file. "
        )
    return f"{head}{message}"


@contextlib.contextmanager
def _opened(f: Any) -> Iterator[Any]:
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb", buffering=0) as source:
            yield source
        return
    try:
        f.seek(f.tell())
    except (io.UnsupportedOperation, AttributeError) as error:
        raise type(error)(
            f"{error}. You can only torch.load from a file that is seekable. Please "
            "pre-load the data into a buffer like io.BytesIO and try to load from it "
            "instead."
        ) from error
    yield f


def _is_zip(source: Any) -> bool:
    start = source.tell()
    magic = source.read(len(_ZIP_MAGIC))
    source.seek(start)
    if not magic:
        raise EOFError("Ran out of input: the file is empty")
    return bool(magic == _ZIP_MAGIC)


class _Loading:
    """One call of `load`: which storages were read, and where they go."""

    def __init__(self, map_location: Any, plain: bool) -> None:
        self._map_location = map_location
        # key in the file -> the storage as the pickle sees it, with its type and its size
        self._storages: dict[str, tuple[Any, Any, int]] = {}
        self._find = _lookup(Names(), plain)

    def archive(self, reader: ArchiveReader, mapped: np.ndarray | None) -> Any:
        """The object in a zip checkpoint."""
        if "constants.pkl" in reader:
            raise RuntimeError(
                "this is a TorchScript archive; flambeau loads what torch.save "
                "wrote, not what torch.jit.save wrote"
            )
        swapped = False
        if "byteorder" in reader:
            order = reader.read("byteorder").tobytes()
            if order not in (b"little", b"big"):
                raise ValueError(f"Unknown endianness type: {order!r}")
            swapped = order.decode() != sys.byteorder

        def read(key: str, nbytes: int, itemsize: int) -> np.ndarray:
            name = f"data/{key}"
            record = reader.record(name)
            if not nbytes <= record.size < nbytes + itemsize:
                raise pickle.UnpicklingError(
                    f"storage {key!r} should hold {nbytes} bytes, but the "
                    f"file has {record.size} for it"
                )
            if mapped is not None and not record.compressed and record.offset % ALIGNMENT == 0:
                data = np.asarray(mapped)[record.offset : record.offset + record.size]
            else:
                data = reader.read(name, _check_crc32[0])
            return swap_bytes(data, itemsize) if swapped else data

        def persistent_load(pid: tuple[Any, ...]) -> Any:
            if len(pid) != 5 or pid[0] != "storage":
                raise pickle.UnpicklingError(
                    f"Only persistent_load of storage is allowed, but got {pid[:1]!r}"
                )
            return self._storage(*pid[1:], read)

        data = reader.read("data.pkl", _check_crc32[0]).tobytes()
        return Unpickler(data, self._find, persistent_load).load()

    def _storage(
        self,
        kind: Any,
        key: Any,
        location: Any,
        numel: Any,
        read: Callable[[str, int, int], np.ndarray],
    ) -> UntypedStorage | TypedStorage:
        dtype = flambeau.uint8 if kind is UntypedStorage else getattr(kind, "dtype", None)
        if dtype is None:
            if isinstance(kind, StorageType):
                raise pickle.UnpicklingError(
                    f"tensors of dtype torch.{kind.name} are not supported"
                )
            raise pickle.UnpicklingError(f"{kind!r} is not a storage type")
        if type(key) is not str or type(location) is not str or type(numel) is not int or numel < 0:
            raise pickle.UnpicklingError(
                f"malformed storage: key {key!r}, location {location!r}, numel {numel!r}"
            )
        nbytes = numel * dtype.itemsize
        if key in self._storages:
            found, *use = self._storages[key]
            if use != [kind, nbytes]:
                raise pickle.UnpicklingError(f"storage {key!r} is used with two types or sizes")
            return found
        storage = self._restore(
            UntypedStorage.from_numpy(read(key, nbytes, dtype.itemsize)), location
        )
        found = (
            storage if kind is UntypedStorage else TypedStorage(wrap_storage=storage, dtype=dtype)
        )
        self._storages[key] = (found, kind, nbytes)
        return found

    def _restore(self, storage: UntypedStorage, location: str) -> UntypedStorage:
        """The storage on the device it belongs to."""
        where = self._map_location
        if isinstance(where, dict):
            target = where.get(location, location)
        elif isinstance(where, bytes):
            target = where.decode()
        elif where is None or isinstance(where, (str, Device)):
            target = where or location
        else:
            moved = where(storage, location)
            if moved is not None:
                return moved
            target = location
        device = Device(target)
        if device.type == "cpu":
            return storage
        flat = make_tensor(storage, flambeau.uint8, 0, (storage.nbytes(),), (1,))
        try:
            return flat.to(device).untyped_storage()
        except (RuntimeError, AssertionError) as error:
            raise RuntimeError(
                f"Attempting to deserialize object on {device} but it cannot be used here. Please "
                "use flambeau.load with map_location=flambeau.device('cpu') to map your storages "
                f"to the CPU. ({error})"
            ) from error

    # -- the format before torch 1.6 --------------------------------------------------------------

    def legacy(self, source: Any) -> Any:
        """The object in a file of five pickles followed by the storages' bytes."""
        data = source.read() if not isinstance(source, io.FileIO) else source.readall()
        if data[257:262] == b"ustar" or data[:5] == b"././@":
            raise RuntimeError(
                "this is a tar archive, the format before torch 0.1.10, which is "
                "not supported: load and save it again with a newer torch"
            )
        try:
            magic, at = self._one(data, 0)
        except pickle.UnpicklingError:
            magic, at = None, 0
        if magic != _LEGACY_MAGIC:
            raise pickle.UnpicklingError("Invalid magic number; corrupt file?")
        version, at = self._one(data, at)
        if version != _LEGACY_PROTOCOL:
            raise RuntimeError(f"Invalid protocol version: {version}")
        system, at = self._one(data, at)
        swapped = isinstance(system, dict) and (
            system.get("little_endian") is not (sys.byteorder == "little")
        )
        expected: dict[str, tuple[Any, int]] = {}
        arrays: dict[str, np.ndarray] = {}

        def persistent_load(pid: tuple[Any, ...]) -> Any:
            if len(pid) != 6 or pid[0] != "storage" or pid[5] is not None:
                raise pickle.UnpicklingError(
                    f"Only persistent_load of storage is allowed, but got {pid!r}"
                )

            def room(key: str, nbytes: int, itemsize: int) -> np.ndarray:
                # the bytes follow behind the pickle: made now, filled when they are reached
                if nbytes + sum(n for _, n in expected.values()) > len(data):
                    raise pickle.UnpicklingError(
                        f"storage {key!r} should hold {nbytes} bytes, more than the file has"
                    )
                expected[key] = (itemsize, nbytes)
                arrays[key] = empty_bytes(nbytes)
                return arrays[key]

            return self._storage(*pid[1:5], room)

        if self._map_location not in (None, "cpu", Device("cpu")):
            raise RuntimeError("files in the format before torch 1.6 can be loaded to the CPU only")
        found, at = self._one(data, at, persistent_load)
        keys, at = self._one(data, at)
        if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(expected):
            raise pickle.UnpicklingError("the list of storages does not match those used")
        for key in keys:
            itemsize, nbytes = expected[key]
            raw = data[at + 8 : at + 8 + nbytes]
            count = struct.unpack_from("<q", data, at)[0] if at + 8 <= len(data) else -1
            if count * itemsize != nbytes or len(raw) != nbytes:
                raise RuntimeError(f"storage has wrong byte size: expected {nbytes} got {len(raw)}")
            bytes_ = np.frombuffer(raw, np.uint8)
            arrays[key][:] = swap_bytes(bytes_, itemsize) if swapped else bytes_
            at += 8 + nbytes
        return found

    def _one(self, data: bytes, at: int, persistent_load: Any = None) -> tuple[Any, int]:
        unpickler = Unpickler(data, self._find, persistent_load, at)
        return unpickler.load(), unpickler.position
