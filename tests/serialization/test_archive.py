"""The record container: its layout, and what it refuses to read."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

from flambeau.archive import ALIGNMENT, ArchiveReader, ArchiveWriter


def archive(**records: bytes) -> bytes:
    sink = io.BytesIO()
    writer = ArchiveWriter(sink, "model")
    for name, data in records.items():
        writer.write_record(name, data)
    writer.close()
    return sink.getvalue()


def read_all(data: bytes) -> dict[str, bytes]:
    reader = ArchiveReader(io.BytesIO(data))
    return {name: reader.read(name).tobytes() for name in reader.names()}


RECORDS = {"data.pkl": b"x" * 1000, "empty": b"", "one": b"1", "two": bytes(range(256)) * 40}


def test_records_come_back() -> None:
    found = read_all(archive(**RECORDS))
    assert {name: found[name] for name in RECORDS} == RECORDS
    assert found["version"] == b"3\n"
    assert len(found[".data/serialization_id"]) == 40


def test_other_zip_readers_agree() -> None:
    """Python's own zipfile finds the same names, bytes and checksums."""
    with zipfile.ZipFile(io.BytesIO(archive(**RECORDS))) as found:
        assert found.testzip() is None
        for name, data in RECORDS.items():
            assert found.read(f"model/{name}") == data


def test_every_record_is_aligned() -> None:
    data = archive(**RECORDS)
    reader = ArchiveReader(io.BytesIO(data))
    for name in reader.names():
        assert reader.record(name).offset % ALIGNMENT == 0
        found = reader.read(name)
        assert found.size == 0 or found.ctypes.data % ALIGNMENT == 0


def test_a_sink_needs_write_only_and_may_take_little_at_a_time() -> None:
    class Slow:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: bytes) -> int:
            taken = bytes(data)[:100]
            self.data += taken
            return len(taken)

    sink = Slow()
    writer = ArchiveWriter(sink, "model")
    for name, data in RECORDS.items():
        writer.write_record(name, data)
    writer.close()
    assert sink.data == archive(**RECORDS)


def test_an_archive_may_begin_within_a_file() -> None:
    source = io.BytesIO(b"in front" + archive(**RECORDS))
    source.seek(8)
    assert ArchiveReader(source).read("one").tobytes() == b"1"


def test_a_name_is_written_once() -> None:
    writer = ArchiveWriter(io.BytesIO(), "model")
    writer.write_record("a", b"1")
    with pytest.raises(ValueError, match="Tried to serialize file twice: a"):
        writer.write_record("a", b"2")


def test_compressed_records_are_read() -> None:
    """Zip tools that rewrite a checkpoint compress it."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.mkdir("model")
        for name, data in RECORDS.items():
            packed.writestr(f"model/{name}", data)
    assert read_all(sink.getvalue()) == RECORDS


def test_sizes_beyond_32_bits_are_written_as_zip64() -> None:
    """The directory's fields for a record behind 4 GiB, without writing 4 GiB."""
    sink = io.BytesIO()
    writer = ArchiveWriter(sink, "m")
    writer._at = (1 << 32) + 64  # as if so much had been written before
    writer.write_record("a", b"12345678")
    data = sink.getvalue()
    length, extra = struct.unpack_from("<HH", data, 26)
    field = data[30 + length : 30 + length + 12]
    assert struct.unpack("<HHQ", field) == (1, 8, (1 << 32) + 64)
    assert (writer._at - 24 - 8) % ALIGNMENT == 0  # the data, behind it a descriptor of 24 bytes
    assert data[30 + length + extra :][:8] == b"12345678"
    assert data[-24:] == struct.pack("<IIQQ", 0x08074B50, zlib.crc32(b"12345678"), 8, 8)


class TestRefused:
    def test_truncated_anywhere(self) -> None:
        data = archive(**RECORDS)
        for length in (*range(0, len(data), 997), len(data) - 1):
            with pytest.raises(RuntimeError, match="PytorchStreamReader failed"):
                read_all(data[:length])

    def test_any_flipped_bit_in_the_data(self) -> None:
        data = archive(**RECORDS)
        record = ArchiveReader(io.BytesIO(data)).record("two")
        for at in (0, 5000, record.size - 1):
            bad = bytearray(data)
            bad[record.offset + at] ^= 0x10
            with pytest.raises(RuntimeError, match="reading file two: CRC-32 check failed"):
                read_all(bytes(bad))

    def test_flipped_bits_in_the_structure_never_crash(self, rng: np.random.Generator) -> None:
        data = archive(**RECORDS)
        for at in rng.integers(0, len(data), 400):
            bad = bytearray(data)
            bad[at] ^= 1 << int(rng.integers(8))
            try:
                found = read_all(bytes(bad))
            except RuntimeError:
                continue
            # padding, time stamps and names' letters may change unnoticed; the values may not
            assert all(found.get(n, d) == d for n, d in RECORDS.items())

    @pytest.mark.parametrize(
        "name", ["model/../../etc/passwd", "/etc/passwd", "model/a\\..\\b", "model//a", "../a"]
    )
    def test_path_traversal(self, name: str) -> None:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as packed:
            packed.writestr("model/data.pkl", b"")
            info = zipfile.ZipInfo("x")
            info.filename = name
            packed.writestr(info, b"")
        with pytest.raises(RuntimeError, match=r"unsafe record name|outside the archive"):
            read_all(sink.getvalue())

    def test_a_record_that_is_there_twice(self) -> None:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as packed:
            packed.writestr("model/a", b"1")
            with pytest.warns(UserWarning, match="Duplicate"):
                packed.writestr("model/a", b"2")
        with pytest.raises(RuntimeError, match="'a' is there twice"):
            read_all(sink.getvalue())

    def test_no_subdirectory(self) -> None:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as packed:
            packed.writestr("a", b"1")
        with pytest.raises(RuntimeError, match="file in archive is not in a subdirectory: a"):
            read_all(sink.getvalue())

    def test_an_empty_archive(self) -> None:
        sink = io.BytesIO()
        zipfile.ZipFile(sink, "w").close()
        with pytest.raises(RuntimeError, match="does not contain any files"):
            read_all(sink.getvalue())

    @pytest.mark.parametrize("claim", [1 << 20, 0xFFFFFFFE])
    def test_sizes_beyond_the_file(self, claim: int) -> None:
        data = bytearray(archive(a=b"12345678"))
        at = data.rindex(b"model/a") - 46
        assert data[at : at + 4] == b"PK\1\2"
        struct.pack_into("<II", data, at + 20, claim, claim)
        with pytest.raises(RuntimeError, match="beyond the file"):
            read_all(bytes(data))

    def test_sizes_that_differ_though_nothing_is_compressed(self) -> None:
        data = bytearray(archive(a=b"12345678"))
        struct.pack_into("<I", data, data.rindex(b"model/a") - 46 + 24, 1 << 31)
        with pytest.raises(RuntimeError, match="claims 2147483648 bytes but holds 8"):
            read_all(bytes(data))

    def test_a_decompression_bomb(self) -> None:
        """A declared size that deflate cannot reach is refused before memory is taken."""
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("m/a", b"\0" * 100_000)
        data = bytearray(sink.getvalue())
        struct.pack_into("<I", data, data.rindex(b"m/a") - 46 + 24, 1 << 31)
        with pytest.raises(RuntimeError, match="claims 2147483648 bytes"):
            read_all(bytes(data))

    def test_records_that_overlap(self) -> None:
        """Two directory entries for the same bytes."""
        data = bytearray(archive(a=b"x" * 5000, b=b"y" * 5000))
        reader = ArchiveReader(io.BytesIO(bytes(data)))
        a, b = reader.record("a"), reader.record("b")
        header = bytes(data[data.rindex(b"PK\3\4", 0, b.offset) : b.offset])
        begin = a.offset + 100
        data[begin : begin + len(header)] = header  # a second header for b within a's data
        at = data.rindex(b"model/b") - 46
        struct.pack_into("<I", data, at + 42, begin)
        struct.pack_into("<II", data, at + 20, 100, 100)
        with pytest.raises(RuntimeError, match="overlaps"):
            read_all(bytes(data))

    def test_encryption(self) -> None:
        data = bytearray(archive(a=b"1"))
        struct.pack_into("<H", data, data.rindex(b"model/a") - 46 + 8, 1)
        with pytest.raises(RuntimeError, match="unsupported encryption"):
            read_all(bytes(data))

    def test_a_directory_that_claims_more_entries_than_it_has_room_for(self) -> None:
        data = bytearray(archive(a=b"1"))
        at = data.rindex(b"PK\6\6")
        struct.pack_into("<QQ", data, at + 24, 1 << 40, 1 << 40)
        with pytest.raises(RuntimeError, match="archive is corrupted"):
            read_all(bytes(data))

    def test_a_missing_record(self) -> None:
        with pytest.raises(RuntimeError, match="failed locating file b: file not found"):
            ArchiveReader(io.BytesIO(archive(a=b"1"))).read("b")
