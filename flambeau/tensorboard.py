"""SummaryWriter: metrics in TensorBoard's event files, without TensorBoard or protobuf.

Note [Event files]
A file is a sequence of records: length (uint64), masked CRC-32C of the length, data, masked CRC-32C
of the data. Each record's data is an `Event` protocol buffer; the few fields used here are written
by hand. References: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto,
tensorflow/core/framework/summary.proto.
"""

from __future__ import annotations

import atexit
import itertools
import math
import os
import socket
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protocol buffers' wire types
_DT_STRING = 7
_STARTED = 1
_counter = itertools.count()


# -- records --------------------------------------------------------------------------------------


def _make_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC_TABLE = _make_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), as in RFC 3720, appendix B.4."""
    table, crc = _CRC_TABLE, 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """The checksum rotated and shifted, so that data that holds checksums stays checkable."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One record of an event file."""
    length = struct.pack("<Q", len(data))
    return (
        length
        + struct.pack("<I", masked_crc32c(length))
        + data
        + struct.pack("<I", masked_crc32c(data))
    )


# -- protocol buffers -----------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF  # negative int64s are written as their two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | _FIXED64) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    try:
        packed = struct.pack("<f", value)
    except OverflowError:  # beyond float32
        packed = struct.pack("<f", math.copysign(math.inf, value))
    return _varint(field << 3 | _FIXED32) + packed


def _text(field: int, value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | _BYTES) + _varint(len(data)) + data


def _doubles(field: int, values: Any) -> bytes:
    return _text(field, struct.pack(f"<{len(values)}d", *values))


def _event(step: int | None, wall_time: float | None, *fields: bytes) -> bytes:
    head = _double(1, time.time() if wall_time is None else wall_time)
    return head + (b"" if step is None else _int(2, int(step))) + b"".join(fields)


def _scalar(tag: str, value: float) -> bytes:
    return _text(1, tag) + _float(2, value)


def _string(tag: str, text: str) -> bytes:
    plugin = _text(9, _text(1, _text(1, "text")))
    shape = _text(2, _text(2, _int(1, 1)))
    tensor = _text(8, _int(1, _DT_STRING) + shape + _text(8, text))
    return _text(1, f"{tag}/text_summary") + plugin + tensor


def _image(tag: str, png: bytes) -> bytes:
    if png[:8] != b"\x89PNG\r\n\x1a\n" or len(png) < 26:
        raise ValueError(f"image {tag!r} is not a PNG file")
    width, height, _, colour = struct.unpack(">IIBB", png[16:26])
    channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(colour, 3)
    body = _int(1, height) + _int(2, width) + _int(3, channels) + _text(4, png)
    return _text(1, tag) + _text(4, body)


def _histogram(tag: str, values: np.ndarray, bins: Any) -> bytes:
    values = values.reshape(-1).astype(np.float64)
    if not values.size:
        raise ValueError("The input has no element.")
    counts, edges = np.histogram(values, _growing_bins() if bins == "tensorflow" else bins)
    full = np.flatnonzero(counts)
    if not full.size:
        raise ValueError("The histogram is empty: no value lies within its bins.")
    first, last = full[0], full[-1] + 1
    # readers take the first bucket to be empty and to end where the second one begins
    body = (
        _double(1, values.min())
        + _double(2, values.max())
        + _double(3, values.size)
        + _double(4, values.sum())
        + _double(5, values @ values)
        + _doubles(6, [edges[first], *edges[first + 1 : last + 1]])
        + _doubles(7, [0.0, *counts[first:last].astype(np.float64)])
    )
    return _text(1, tag) + _text(5, body)


def _growing_bins() -> np.ndarray:
    """Edges that grow by a tenth each, from 1e-12 to 1e20, on both sides of zero."""
    positive = 1e-12 * 1.1 ** np.arange(int(math.log(1e32, 1.1)) + 1)
    return np.concatenate([-positive[::-1], [0.0], positive])


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG file of an image.

    Args:
        pixels: (H, W, C) uint8, C = 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises:
        ValueError: another shape or dtype.
    """
    colour = {1: 0, 3: 2, 4: 6}.get(pixels.shape[2]) if pixels.ndim == 3 else None
    if colour is None or pixels.dtype != np.uint8:
        raise ValueError(
            f"an image must be (H, W, 1, 3 or 4) uint8, got {pixels.shape} {pixels.dtype}"
        )
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + width * pixels.shape[2]), np.uint8)  # filter type 0 in front
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6))
        + chunk(b"IEND", b"")
    )


# -- writing --------------------------------------------------------------------------------------


class _EventFile:
    """An event file that grows by whole records."""

    def __init__(self, directory: Path, suffix: str, max_queue: int, flush_secs: float) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        name = (
            f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}."
            f"{next(_counter)}{suffix}"
        )
        self.path = directory / name
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._max_queue = max_queue
        self._flush_secs = flush_secs
        self._flushed = time.monotonic()
        self._file = open(self.path, "xb", buffering=0)
        self.write(_event(None, None, _text(3, "brain.Event:2")))

    def write(self, event: bytes) -> None:
        record = frame(event)
        with self._lock:
            self._waiting.append(record)
            late = time.monotonic() - self._flushed > self._flush_secs
            if late or len(self._waiting) > self._max_queue:
                self._flush()

    def flush(self) -> None:
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        data = memoryview(b"".join(self._waiting))
        self._waiting.clear()
        while data.nbytes:
            data = data[self._file.write(data) :]
        self._flushed = time.monotonic()

    def close(self) -> None:
        with self._lock:
            if not self._file.closed:
                self._flush()
                self._file.close()


class SummaryWriter:
    """Writes scalars, texts, images and histograms for TensorBoard.

    Args:
        log_dir: directory of the event files; `runs/DATE_HOST` by default.
        comment: appended to the default `log_dir`.
        purge_step: after a crash and a restart, TensorBoard hides what was logged before from this
            step on.
        max_queue: events kept in memory before they are written.
        flush_secs: seconds after which they are written in any case (when the next one comes).
        filename_suffix: appended to the event files' names.

    Example:
        >>> with SummaryWriter("runs/test") as writer:
        ...     writer.add_scalar("loss", 0.5, 1)
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: float = 120,
        filename_suffix: str = "",
    ) -> None:
        if not log_dir:
            now = datetime.now().strftime("%b%d_%H-%M-%S")
            log_dir = os.path.join("runs", f"{now}_{socket.gethostname()}{comment}")
        self.log_dir = os.fspath(log_dir)
        self.purge_step = purge_step
        self._options = (filename_suffix, max_queue, flush_secs)
        self._files: dict[str, _EventFile] = {}
        self._pid = os.getpid()
        self._file("")
        _open.add(self)

    def get_logdir(self) -> str:
        """The directory of the event files."""
        return self.log_dir

    def _file(self, below: str) -> _EventFile:
        """The event file in a directory below `log_dir`, begun where there is none."""
        found = self._files.get(below)
        if found is None:
            found = self._files[below] = _EventFile(Path(self.log_dir, below), *self._options)
            if self.purge_step is not None:
                found.write(_event(self.purge_step, None, _text(7, _int(1, _STARTED))))
        return found

    def _add(self, value: bytes, step: Any, wall_time: float | None, below: str = "") -> None:
        number = None if step is None else int(step)
        self._file(below).write(_event(number, wall_time, _text(5, _text(1, value))))

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: Any = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """Log a number.

        Args:
            tag: its name; `/` groups.
            scalar_value: a number or a tensor of one element.
            global_step: its position on the horizontal axis.
            walltime: seconds since the epoch; now by default.
            new_style, double_precision: accepted for torch's sake; TensorBoard shows the same.
        """
        self._add(_scalar(tag, float(scalar_value)), global_step, walltime)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Log several numbers to one diagram, each in an event file of its own.

        Args:
            main_tag: the diagram's name.
            tag_scalar_dict: numbers by their names.
            global_step: their position on the horizontal axis.
            walltime: seconds since the epoch; now by default.
        """
        for tag, value in tag_scalar_dict.items():
            below = f"{main_tag.replace('/', '_')}_{tag.replace('/', '_')}"
            self._add(_scalar(main_tag, float(value)), global_step, walltime, below)

    def add_text(
        self, tag: str, text_string: str, global_step: Any = None, walltime: float | None = None
    ) -> None:
        """Log a text, shown as Markdown."""
        self._add(_string(tag, text_string), global_step, walltime)

    def add_image_png(
        self, tag: str, png: bytes, global_step: Any = None, walltime: float | None = None
    ) -> None:
        """Log an image that is a PNG file already.

        Raises:
            ValueError: it is none.
        """
        self._add(_image(tag, bytes(png)), global_step, walltime)

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Log an image.

        Args:
            tag: its name.
            img_tensor: uint8 in 0..255 or floating point in 0..1, an array or a tensor.
            global_step: its step.
            walltime: seconds since the epoch; now by default.
            dataformats: what its dimensions are: a permutation of "CHW", or "HW".
        """
        pixels = _numbers(img_tensor)
        if sorted(dataformats.upper()) not in (["C", "H", "W"], ["H", "W"]) or (
            len(dataformats) != pixels.ndim
        ):
            raise ValueError(f"an image of shape {pixels.shape} cannot be {dataformats!r}")
        letters = dataformats.upper()
        if letters.find("C") < 0:
            pixels, letters = pixels[..., None], letters + "C"
        pixels = pixels.transpose([letters.index(c) for c in "HWC"])
        if pixels.dtype != np.uint8:
            pixels = (np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)
        self._add(_image(tag, encode_png(pixels)), global_step, walltime)

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: Any = None,
        bins: Any = "tensorflow",
        walltime: float | None = None,
    ) -> None:
        """Log the distribution of values.

        Args:
            tag: its name.
            values: an array or a tensor of any shape.
            global_step: its step.
            bins: "tensorflow" (edges that grow by a tenth), or what `numpy.histogram` takes.
            walltime: seconds since the epoch; now by default.
        """
        self._add(_histogram(tag, _numbers(values), bins), global_step, walltime)

    def flush(self) -> None:
        """Write what was logged to the files."""
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Write what was logged and close the files; logging again begins new ones."""
        if os.getpid() == self._pid:  # a forked process must not write its parent's events
            for file in self._files.values():
                file.close()
        self._files.clear()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _numbers(values: Any) -> np.ndarray:
    """A tensor's or an array's values as an array of a type NumPy knows."""
    if hasattr(values, "detach"):
        values = values.detach()
        if str(values.dtype).endswith("bfloat16"):
            values = values.float()
        values = values.cpu().numpy()
    return np.asarray(values)


_open: weakref.WeakSet[SummaryWriter] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for writer in list(_open):
        writer.close()
