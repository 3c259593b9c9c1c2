"""The container of torch's checkpoints: a zip file of uncompressed, 64-byte aligned records.

Note [Record layout]
Every record is a zip member `ARCHIVE/name`: local header, an extra field `FB` that pads the data to
a multiple of 64 bytes, the data, and (unless the record is empty) a data descriptor with the CRC-32
and the sizes. The local header itself holds neither, so a record is written in one pass, without
seeking back. A zip64 end record is always there. These are the bytes that torch's own writer
produces, so that its reader may compute where a record lies without looking.

The reader trusts nothing: every offset and size is checked against the file before it is used.
Format: APPNOTE.TXT of PKWARE, sections 4.3 and 4.5.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

#: What the data of every record is aligned to, in bytes.
ALIGNMENT = 64

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_END64 = struct.Struct("<IQHHIIQQQQ")
_LOCATOR = struct.Struct("<IIQI")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _DESCRIPTOR_MAGIC = 0x04034B50, 0x02014B50, 0x08074B50
_END_MAGIC, _END64_MAGIC, _LOCATOR_MAGIC = 0x06054B50, 0x06064B50, 0x07064B50
_UTF8, _DESCRIPTOR, _ENCRYPTED = 0x800, 0x8, 0x1
_STORED, _DEFLATED = 0, 8
_MAX32, _MAX16 = 0xFFFFFFFF, 0xFFFF
_CHUNK = 1 << 20  # bytes written or checked at a time: bounds what a slow device holds back

_ADVICE = (
    " If you are seeing this error, there is a high likelihood that your checkpoint file is"
    " corrupted. This can happen if the checkpoint was not saved properly, was transferred"
    " incorrectly, or the file was modified after saving."
)


@dataclass(frozen=True, slots=True)
class Record:
    """Where one record lies: `size` bytes of data, held in `stored` bytes at `offset`."""

    name: str
    offset: int
    size: int
    stored: int
    crc32: int
    compressed: bool


class ArchiveWriter:
    """Writes records one after the other to anything with a `write` method.

    Args:
        sink: file object opened for writing bytes; it need not be seekable.
        archive: the directory that all records stand in, by custom the file's name.
    """

    def __init__(self, sink: Any, archive: str) -> None:
        self._write = sink.write
        self._archive = archive
        self._at = 0
        self._directory: list[bytes] = []
        self._names: set[str] = set()
        self._crc32 = 0
        self._name_hash = 0

    def write_record(self, name: str, data: Any) -> None:
        """Append one record.

        Args:
            name: its name in the archive.
            data: bytes, or a contiguous uint8 array of any size; it is not copied as a whole.

        Raises:
            ValueError: the archive has such a record already.
            OSError: the sink cannot take the bytes.
        """
        if name in self._names:
            raise ValueError(f"Tried to serialize file twice: {name}")
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        full = f"{self._archive}/{name}".encode()
        header_at, size = self._at, view.nbytes
        wide = _zip64_field(size, header_at)
        start = header_at + _LOCAL.size + len(full) + len(wide) + 4
        pad = -start % ALIGNMENT
        extra = wide + struct.pack("<2sH", b"FB", pad) + b"Z" * pad
        flags = _UTF8 | (_DESCRIPTOR if size else 0)
        self._put(
            _LOCAL.pack(_LOCAL_MAGIC, 0, flags, _STORED, 0, 0, 0, 0, 0, len(full), len(extra))
            + full
            + extra
        )
        crc32 = 0
        for begin in range(0, size, _CHUNK):
            chunk = view[begin : begin + _CHUNK]
            crc32 = zlib.crc32(chunk, crc32)
            self._put(chunk)
        if size:
            large = size >= _MAX32 or header_at >= _MAX32
            self._put(
                struct.pack("<IIQQ" if large else "<IIII", _DESCRIPTOR_MAGIC, crc32, size, size)
            )
        short, far = min(size, _MAX32), min(header_at, _MAX32)
        self._directory.append(
            _CENTRAL.pack(
                _CENTRAL_MAGIC,
                0,
                0,
                flags,
                _STORED,
                0,
                0,
                crc32,
                short,
                short,
                len(full),
                len(wide),
                0,
                0,
                0,
                0,
                far,
            )
            + full
            + wide
        )
        self._names.add(name)
        self._crc32 = zlib.crc32(struct.pack("<I", crc32), self._crc32)
        self._name_hash = zlib.crc32(name.encode(), self._name_hash)

    def close(self) -> None:
        """Write the version, the fingerprint of all records and the central directory."""
        self.write_record("version", b"3\n")
        fingerprint = f"{self._name_hash:020d}{self._crc32:020d}"
        self.write_record(".data/serialization_id", fingerprint.encode())
        start, count = self._at, len(self._directory)
        for entry in self._directory:
            self._put(entry)
        size, end = self._at - start, self._at
        self._put(
            _END64.pack(_END64_MAGIC, _END64.size - 12, 0x31E, 45, 0, 0, count, count, size, start)
        )
        self._put(_LOCATOR.pack(_LOCATOR_MAGIC, 0, end, 1))
        few = min(count, _MAX16)
        self._put(_END.pack(_END_MAGIC, 0, 0, few, few, min(size, _MAX32), min(start, _MAX32), 0))

    def _put(self, data: Any) -> None:
        wanted = len(data)
        while True:
            written = self._write(data)
            # an unbuffered file may take a part only; buffered ones and sockets' files take all
            if written is None or written >= len(data):
                break
            data = memoryview(data)[written:]
        self._at += wanted


def _zip64_field(size: int, header_at: int) -> bytes:
    """The extra field with the sizes and the offset that do not fit in 32 bits, if any."""
    values = ([size, size] if size >= _MAX32 else []) + ([header_at] if header_at >= _MAX32 else [])
    if not values:
        return b""
    return struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values)


class ArchiveReader:
    """Finds and reads the records of an archive.

    Args:
        source: file object opened for reading bytes, seekable. The archive begins where it stands.

    Raises:
        RuntimeError: this is no archive, it was cut off, or its directory contradicts the file.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._base = source.tell()
        self._length = source.seek(0, os.SEEK_END) - self._base
        self._records: dict[str, Record] = {}
        self.archive = ""
        for record in self._directory():
            self._add(record)
        if not self._records:
            raise RuntimeError(
                "PytorchStreamReader failed reading zip archive: archive does not"
                " contain any files." + _ADVICE
            )
        self._refuse_overlaps()

    def names(self) -> list[str]:
        """The records' names, in the order of the file's directory."""
        return list(self._records)

    def __contains__(self, name: str) -> bool:
        return name in self._records

    def record(self, name: str) -> Record:
        """Where a record lies; the offset counts from the archive's first byte.

        Raises:
            RuntimeError: there is none of that name.
        """
        found = self._records.get(name)
        if found is None:
            raise RuntimeError(
                f"PytorchStreamReader failed locating file {name}: file not found." + _ADVICE
            )
        return found

    def read(self, name: str, check: bool = True) -> np.ndarray:
        """A record's bytes, in an array of its own aligned to 64 bytes.

        Args:
            name: the record.
            check: compare the CRC-32.

        Raises:
            RuntimeError: no such record, or its bytes are not those that were written.
        """
        found = self.record(name)
        result = empty_bytes(found.size)
        if found.compressed:
            _inflate(found, self._take(found.offset, found.stored, name), result)
        crc32 = 0
        for begin in range(0, found.size, _CHUNK):  # checked while it is in the cache
            piece = result[begin : begin + _CHUNK]
            if not found.compressed:
                self._fill(found.offset + begin, piece, name)
            if check:
                crc32 = zlib.crc32(piece.data, crc32)
        if check and crc32 != found.crc32:
            raise RuntimeError(
                f"PytorchStreamReader failed reading file {name}: CRC-32 check failed." + _ADVICE
            )
        return result

    def _fill(self, at: int, into: np.ndarray, what: str) -> None:
        """Read exactly as many bytes as fit."""
        self._source.seek(self._base + at)
        view, done = into.data if into.size else memoryview(b""), 0
        while done < len(view):
            if hasattr(self._source, "readinto"):
                got = self._source.readinto(view[done : done + (1 << 30)])
            else:
                chunk = self._source.read(min(_CHUNK, len(view) - done))
                got = len(chunk)
                view[done : done + got] = chunk
            if not got:
                raise self._fail(f"the file ended within {what!r}")
            done += got

    def _take(self, at: int, size: int, what: str) -> bytes:
        if at < 0 or size < 0 or at + size > self._length:
            raise self._fail(f"{what} lies outside the file")
        room = np.empty(size, np.uint8)
        self._fill(at, room, what)
        return room.tobytes()

    def _fail(self, reason: str) -> RuntimeError:
        return RuntimeError(f"PytorchStreamReader failed reading zip archive: {reason}." + _ADVICE)

    def _unpack(self, layout: struct.Struct, at: int, what: str) -> tuple[Any, ...]:
        return layout.unpack(self._take(at, layout.size, what))

    def _end(self) -> tuple[int, int, int]:
        """Number of entries, size and offset of the central directory."""
        room = min(self._length, _END.size + _MAX16)
        tail = self._take(self._length - room, room, "end of central directory")
        at = tail.rfind(struct.pack("<I", _END_MAGIC))
        if at < 0 or len(tail) - at < _END.size:
            raise self._fail("failed finding central directory")
        _, disk, start_disk, here, count, size, start, _ = _END.unpack_from(tail, at)
        at += self._length - room
        if at >= _LOCATOR.size:
            locator = self._unpack(_LOCATOR, at - _LOCATOR.size, "zip64 locator")
            if locator[0] == _LOCATOR_MAGIC:
                fields = self._unpack(_END64, locator[2], "zip64 end of central directory")
                if fields[0] != _END64_MAGIC:
                    raise self._fail("invalid zip64 end of central directory")
                disk, start_disk, here, count, size, start = fields[4:10]
        if disk or start_disk or here != count:
            raise self._fail("unsupported multidisk archive")
        if start + size > at or count * _CENTRAL.size > size:
            raise self._fail("invalid header or archive is corrupted")
        return count, size, start

    def _directory(self) -> Iterator[Record]:
        count, size, start = self._end()
        table, at = memoryview(self._take(start, size, "central directory")), 0
        for _ in range(count):
            if at + _CENTRAL.size > size:
                raise self._fail("invalid header or archive is corrupted")
            fields = _CENTRAL.unpack_from(table, at)
            magic, flags, method, crc32 = fields[0], fields[3], fields[4], fields[7]
            stored, plain, name_size, extra_size, comment_size = fields[8:13]
            after = at + _CENTRAL.size + name_size
            following = after + extra_size + comment_size
            if magic != _CENTRAL_MAGIC or following > size:
                raise self._fail("invalid header or archive is corrupted")
            if flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
                raise self._fail("unsupported encryption or compression method")
            try:
                name = str(table[at + _CENTRAL.size : after], "utf-8")
            except UnicodeDecodeError:
                raise self._fail("a record's name is not UTF-8") from None
            plain, stored, header_at = self._widen(
                table[after : after + extra_size], plain, stored, fields[16]
            )
            yield self._locate(name, header_at, plain, stored, crc32, method == _DEFLATED)
            at = following

    def _widen(self, extra: memoryview, *values: int) -> tuple[int, ...]:
        """The values (size, stored, offset) with those that read 0xFFFFFFFF taken from zip64."""
        if _MAX32 not in values:
            return values
        at = 0
        while at + 4 <= len(extra):
            kind, length = struct.unpack_from("<HH", extra, at)
            if kind == 1 and at + 4 + length <= len(extra):
                wide = list(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
                if len(wide) >= values.count(_MAX32):
                    return tuple(wide.pop(0) if v == _MAX32 else v for v in values)
            at += 4 + length
        raise self._fail("a zip64 field is missing")

    def _locate(
        self, name: str, header_at: int, size: int, stored: int, crc32: int, compressed: bool
    ) -> Record:
        header = self._unpack(_LOCAL, header_at, f"local header of {name!r}")
        offset = header_at + _LOCAL.size + header[9] + header[10]
        if header[0] != _LOCAL_MAGIC:
            raise self._fail(f"invalid local header of {name!r}")
        if self._take(header_at + _LOCAL.size, header[9], "local header") != name.encode():
            raise self._fail(f"the local header of {name!r} names another record")
        if offset + stored > self._length:
            raise self._fail(
                f"{name!r} claims {stored} bytes at {offset}, beyond the file's {self._length}"
            )
        # deflate cannot shrink by more than 1032 to 1, so a greater claim is a lie
        if size > stored * 1032 + 64 if compressed else size != stored:
            raise self._fail(f"{name!r} claims {size} bytes but holds {stored}")
        return Record(name, offset, size, stored, crc32, compressed)

    def _add(self, record: Record) -> None:
        archive, slash, name = record.name.partition("/")
        if not slash:
            raise RuntimeError(f"file in archive is not in a subdirectory: {record.name}")
        parts = record.name.split("/")
        if "\\" in record.name or "\0" in record.name or ".." in parts or "" in parts[:-1]:
            raise self._fail(f"unsafe record name {record.name!r}")
        if not name or record.name.endswith("/"):
            return  # a directory entry, as general zip tools add them
        self.archive = self.archive or archive
        if archive != self.archive:
            raise self._fail(f"{record.name!r} is outside the archive's directory {self.archive!r}")
        if name in self._records:
            raise self._fail(f"record {name!r} is there twice")
        self._records[name] = Record(
            name, record.offset, record.size, record.stored, record.crc32, record.compressed
        )

    def _refuse_overlaps(self) -> None:
        """Records that share bytes multiply a small file into a large load."""
        end = 0
        for record in sorted(self._records.values(), key=lambda r: r.offset):
            if record.offset < end:
                raise self._fail(f"record {record.name!r} overlaps another one")
            end = max(end, record.offset + record.stored)


def empty_bytes(size: int) -> np.ndarray:
    """An uninitialised uint8 array `(size,)` whose first byte stands at a multiple of 64."""
    room = np.empty(size + ALIGNMENT, np.uint8)
    shift = -room.ctypes.data % ALIGNMENT
    return room[shift : shift + size]


def _inflate(record: Record, stored: bytes, result: np.ndarray) -> None:
    decoder = zlib.decompressobj(-15)
    at = 0
    try:
        while at < record.size:
            chunk = decoder.decompress(stored, min(_CHUNK, record.size - at))
            if not chunk:
                break
            result[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
            at += len(chunk)
            stored = decoder.unconsumed_tail
    except zlib.error as error:
        raise RuntimeError(
            f"PytorchStreamReader failed reading file {record.name}: {error}." + _ADVICE
        ) from error
    if at != record.size:
        raise RuntimeError(
            f"PytorchStreamReader failed reading file {record.name}: {at} bytes"
            f" where {record.size} were declared." + _ADVICE
        )
