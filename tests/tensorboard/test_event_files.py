"""Event files, decoded by an independent reader of records and protocol buffers."""

from __future__ import annotations

import io
import math
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.tensorboard import SummaryWriter, crc32c, encode_png

# -- the reader -----------------------------------------------------------------------------------


def slow_crc32c(data: bytes) -> int:
    """Bit by bit from the polynomial x^32 + x^28 + x^27 + ... of RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            low = (crc ^ (byte >> bit)) & 1
            crc = (crc >> 1) ^ (0x82F63B78 if low else 0)
    return crc ^ 0xFFFFFFFF


def unmask(masked: int) -> int:
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def records(data: bytes) -> list[bytes]:
    found, source = [], io.BytesIO(data)
    while head := source.read(8):
        (length,), (check,) = struct.unpack("<Q", head), struct.unpack("<I", source.read(4))
        assert unmask(check) == slow_crc32c(head)
        record = source.read(length)
        assert len(record) == length
        assert unmask(struct.unpack("<I", source.read(4))[0]) == slow_crc32c(record)
        found.append(record)
    return found


def fields(data: bytes) -> dict[int, list[Any]]:
    """Field number -> values of one protocol buffer message."""
    found: dict[int, list[Any]] = {}
    source = io.BytesIO(data)

    def varint() -> int:
        value, shift = 0, 0
        while True:
            byte = source.read(1)[0]
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7

    while source.tell() < len(data):
        key = varint()
        kind = key & 7
        value: Any
        if kind == 0:
            value = varint()
        elif kind == 1:
            (value,) = struct.unpack("<d", source.read(8))
        elif kind == 5:
            (value,) = struct.unpack("<f", source.read(4))
        else:
            assert kind == 2
            value = source.read(varint())
        found.setdefault(key >> 3, []).append(value)
    return found


def events(path: Path) -> list[dict[int, list[Any]]]:
    (file,) = (p for p in path.iterdir() if p.is_file())
    assert file.name.startswith("events.out.tfevents.")
    return [fields(record) for record in records(file.read_bytes())]


def values(path: Path) -> list[tuple[int, dict[int, list[Any]]]]:
    """(step, value) of each summary."""
    return [(e.get(2, [0])[0], fields(fields(e[5][0])[1][0])) for e in events(path) if 5 in e]


# -- the tests ------------------------------------------------------------------------------------


def test_crc32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_scalars(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        assert writer.get_logdir() == writer.log_dir == str(tmp_path)
        writer.add_scalar("loss/train", 0.5, 1, walltime=12.25)
        writer.add_scalar("loss/train", flambeau.tensor(0.25), 300)
        writer.add_scalar("other", np.float64(1e300))
        writer.add_scalar("other", float("nan"), 5)
    first, *rest = events(tmp_path)
    assert first[3] == [b"brain.Event:2"]
    assert rest[0][1] == [12.25]
    found = [(step, v[1][0], v[2][0]) for step, v in values(tmp_path)]
    assert found[:3] == [
        (1, b"loss/train", 0.5),
        (300, b"loss/train", 0.25),
        (0, b"other", math.inf),
    ]
    assert math.isnan(found[3][2])


def test_negative_steps(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("a", 1.0, -1)
    assert values(tmp_path)[0][0] == 2**64 - 1  # an int64's two's complement


def test_texts(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        writer.add_text("note", "# é", 7)
    ((step, value),) = values(tmp_path)
    assert step == 7
    assert value[1] == [b"note/text_summary"]
    plugin = fields(fields(value[9][0])[1][0])
    assert plugin[1] == [b"text"]
    tensor = fields(value[8][0])
    assert tensor[1] == [7]
    assert fields(fields(tensor[2][0])[2][0])[1] == [1]
    assert tensor[8] == ["# é".encode()]


def read_png(png: bytes) -> np.ndarray[Any, Any]:
    """Pixels of an unfiltered 8-bit PNG; checks every chunk's checksum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        (check,) = struct.unpack(">I", png[at + 8 + length : at + 12 + length])
        assert check == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert depth == 8
    channels = {0: 1, 2: 3, 6: 4}[colour]
    raw = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not raw[:, 0].any()
    return raw[:, 1:].reshape(height, width, channels)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png(channels: int, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    assert np.array_equal(read_png(encode_png(pixels)), pixels)


def test_images(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (3, 4, 6), dtype=np.uint8)
    with SummaryWriter(tmp_path) as writer:
        writer.add_image("a", pixels, 1)
        writer.add_image("a", pixels.transpose(1, 2, 0), 2, dataformats="HWC")
        writer.add_image("a", flambeau.full((4, 6), 0.5), 3, dataformats="HW")
        writer.add_image_png("a", encode_png(pixels.transpose(1, 2, 0)), 4)
        with pytest.raises(ValueError, match="cannot be 'HW'"):
            writer.add_image("a", pixels, dataformats="HW")
        with pytest.raises(ValueError, match="is not a PNG file"):
            writer.add_image_png("a", b"GIF89a")
        with pytest.raises(ValueError, match=r"must be \(H, W, 1, 3 or 4\) uint8"):
            writer.add_image("a", np.zeros((2, 4, 4), np.uint8))
    found = values(tmp_path)
    assert [step for step, _ in found] == [1, 2, 3, 4]
    for step, value in found:
        image = fields(value[4][0])
        assert (image[1], image[2]) == ([4], [6])
        assert image[3] == [1 if step == 3 else 3]
        expected = np.full((4, 6, 1), 127) if step == 3 else pixels.transpose(1, 2, 0)
        assert np.array_equal(read_png(image[4][0]), expected)


def test_histograms(tmp_path: Path, rng: np.random.Generator) -> None:
    sample = rng.standard_normal((10, 100)).astype(np.float32)
    with SummaryWriter(tmp_path) as writer:
        writer.add_histogram("a", flambeau.from_numpy(sample), 1)
        writer.add_histogram("a", sample, 2, bins=[-10, 0, 10])
        with pytest.raises(ValueError, match="has no element"):
            writer.add_histogram("a", np.zeros(0))
        with pytest.raises(ValueError, match="no value lies within its bins"):
            writer.add_histogram("a", [5.0], bins=[0, 1])
    for step, value in values(tmp_path):
        histogram = fields(value[5][0])
        numbers = [histogram[i][0] for i in range(1, 6)]
        exact = sample.astype(np.float64)
        expected = [exact.min(), exact.max(), 1000, exact.sum(), (exact**2).sum()]
        assert np.allclose(numbers, expected, rtol=1e-12)
        limits = np.frombuffer(histogram[6][0], np.float64)
        counts = np.frombuffer(histogram[7][0], np.float64)
        assert limits.size == counts.size
        assert counts[0] == 0
        edges, heights = limits, np.histogram(exact, limits)[0]
        assert np.array_equal(counts[1:], heights)
        assert counts.sum() == 1000
        if step == 2:
            assert edges.tolist() == [-10, 0, 10]


def test_several_in_one_diagram(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalars("loss/all", {"train": 1.0, "a/b": 2.0}, 3)
    for name, number in (("loss_all_train", 1.0), ("loss_all_a_b", 2.0)):
        ((step, value),) = values(tmp_path / name)
        assert (step, value[1], value[2]) == (3, [b"loss/all"], [number])


def test_purged_steps(tmp_path: Path) -> None:
    """What a restarted run tells TensorBoard to forget."""
    with SummaryWriter(tmp_path, purge_step=40):
        pass
    start = events(tmp_path)[1]
    assert start[2] == [40]
    assert fields(start[7][0])[1] == [1]


def test_when_files_are_written(tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path, max_queue=3, flush_secs=1e9)
    writer.add_scalar("a", 1.0)
    assert not values_or_nothing(tmp_path)
    writer.flush()
    assert len(values(tmp_path)) == 1
    for _ in range(4):
        writer.add_scalar("a", 1.0)
    assert len(values(tmp_path)) == 5
    writer.close()
    writer.close()


def values_or_nothing(path: Path) -> list[Any]:
    return values(path) if any(p.stat().st_size for p in path.iterdir()) else []


def test_a_program_that_forgets_to_close(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from flambeau.tensorboard import SummaryWriter\n"
        "writer = SummaryWriter(sys.argv[1])\n"
        "writer.add_scalar('a', 1.0, 1)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert len(values(tmp_path)) == 1


def test_a_fork_writes_nothing_twice(tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path)
    writer.add_scalar("a", 1.0, 1)
    child = os.fork()
    if not child:
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    writer.close()
    assert len(values(tmp_path)) == 1


def test_the_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SummaryWriter(comment="_x", filename_suffix=".run") as writer:
        writer.add_scalar("a", 1.0)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("_x")
    assert len(values(folder)) == 1
    assert next(folder.iterdir()).name.endswith(".run")


def test_tensorboard_reads_it(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("loss", 0.5, 3)
        writer.add_text("note", "hello", 1)
        writer.add_image("image", np.zeros((3, 2, 2)), 1)
        writer.add_histogram("weights", np.arange(10.0), 1)
    found = accumulator.EventAccumulator(str(tmp_path))
    found.Reload()
    tags = found.Tags()
    assert tags["scalars"] == ["loss"]
    assert (tags["images"], tags["histograms"]) == (["image"], ["weights"])
    assert [(s.step, s.value) for s in found.Scalars("loss")] == [(3, 0.5)]
    assert found.Tensors("note/text_summary")[0].tensor_proto.string_val == [b"hello"]
