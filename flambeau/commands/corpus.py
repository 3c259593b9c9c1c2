"""The text that ``flambeau train`` reads: bytes found on this machine, cut into sequences.

Every byte is a token, so any text in any encoding will do. The default text is the source of
Python's own standard library, which every machine that can run this program has.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

STANDARD_LIBRARY_LIMIT = 8 * 2**20
"""The default text stops after this many bytes."""
FOLDER_LIMIT = 2**30
"""A folder given by the user is read up to this many bytes."""
_HELD_OUT = 20
"""One part in this many, at the end of the text, is kept for validation."""
_SKIPPED_FOLDERS = frozenset(
    {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"}
)
_BINARY_PROBE = 8192

Bytes = npt.NDArray[np.uint8]
Tokens = npt.NDArray[np.int64]


class CorpusError(Exception):
    """The text cannot be used; the message says why and what would do."""


@dataclass
class Corpus:
    """A text split into a part to learn from and a part held out.

    Args:
        name: what the text is, for people.
        train: uint8 of shape (N,).
        validation: uint8 of shape (M,).
        files: number of files that the text came from.
        fingerprint: a digest of all bytes, which tells whether two runs read the same text.
        notices: one line for each thing that was left out.
    """

    name: str
    train: Bytes
    validation: Bytes
    files: int
    fingerprint: str
    notices: list[str] = field(default_factory=list)

    def batch(self, step: int, size: int, context: int, seed: int) -> tuple[Tokens, Tokens]:
        """The sequences of one training step, a function of its arguments alone.

        Because nothing is carried from step to step, a run that is resumed at step k reads
        exactly what it would have read without the interruption.

        Args:
            step: number of the training step, from 0.
            size: sequences B.
            context: tokens in a sequence T.
            seed: the run's seed.

        Returns:
            Tokens and the tokens that follow them, both int64 of shape (B, T).
        """
        draws = np.random.default_rng((seed, step))
        starts = draws.integers(0, len(self.train) - context, size=size)
        return _sequences(self.train, starts, context)

    def validation_batches(
        self, count: int, size: int, context: int
    ) -> Iterator[tuple[Tokens, Tokens]]:
        """``count`` batches spread evenly over the held-out part, the same ones each time."""
        starts = np.linspace(0, len(self.validation) - context - 1, count * size).astype(np.int64)
        for rows in starts.reshape(count, size):
            yield _sequences(self.validation, rows, context)


def _sequences(text: Bytes, starts: npt.NDArray[np.int64], context: int) -> tuple[Tokens, Tokens]:
    windows = text[starts[:, None] + np.arange(context + 1)].astype(np.int64)
    return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])


def load_corpus(path: str | None, context: int) -> Corpus:
    """Read the text at ``path``, or the standard library's source when ``path`` is None.

    Args:
        path: a file, or a folder that is searched for text files of any kind.
        context: tokens in a sequence; the text must be long enough for it.

    Returns:
        The text, its last twentieth held out.

    Raises:
        CorpusError: nothing there can be read, or it is too short.
    """
    notices: list[str] = []
    if path is None:
        root = Path(sysconfig.get_paths()["stdlib"])
        candidates = list(_standard_library_files(root))
        text, files = _read_files(candidates, STANDARD_LIBRARY_LIMIT, notices)
        notices = [line for line in notices if "stopped after" not in line]
        name = f"the source of Python's standard library ({root})"
    else:
        root = Path(path).expanduser()
        name = str(root)
        if not root.exists():
            raise CorpusError(f"there is no file or folder {path!r}; give one with --data")
        if root.is_dir():
            text, files = _read_files(_text_files(root), FOLDER_LIMIT, notices)
        else:
            text, files = _read_file(root), 1
    if files == 0:
        reasons = "".join(f"\n  {line}" for line in notices[:5])
        raise CorpusError(f"found no readable text in {name}{reasons}")
    held_out = max(len(text) // _HELD_OUT, context + 2)
    if len(text) < 2 * held_out:
        raise CorpusError(
            f"{name} has {len(text):,} bytes of text, too few for sequences of {context}: at least "
            f"{2 * (context + 2):,} are needed (a smaller --context needs fewer)"
        )
    digest = hashlib.blake2b(text.data, digest_size=16).hexdigest()
    split = len(text) - held_out
    return Corpus(name, text[:split], text[split:], files, digest, notices)


def _standard_library_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*.py")):
        if not _SKIPPED_FOLDERS.intersection(path.relative_to(root).parts):
            yield path


def _text_files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not hidden and (path.is_symlink() or not path.is_dir()):
            yield path


def _read_file(path: Path) -> Bytes:
    """A single file, mapped rather than read: it may be larger than memory."""
    try:
        if path.stat().st_size == 0:
            return np.zeros(0, dtype=np.uint8)
        return np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise CorpusError(f"cannot read {path}: {_reason(error)}") from error


def _read_files(
    candidates: Iterator[Path] | list[Path], limit: int, notices: list[str]
) -> tuple[Bytes, int]:
    """Concatenate files up to ``limit`` bytes, a zero byte between two of them."""
    parts: list[bytes] = []
    total = binary = 0
    for path in candidates:
        try:
            content = path.read_bytes()
        except OSError as error:
            notices.append(f"skipped {path}: {_reason(error)}")
            continue
        if b"\0" in content[:_BINARY_PROBE]:
            binary += 1
            continue
        if not content:
            continue
        parts.append(content[: limit - total])
        total += len(parts[-1])
        if total >= limit:
            notices.append(f"stopped after {limit // 2**20:,} MB of text")
            break
    if binary:
        what = "file that is" if binary == 1 else "files that are"
        notices.append(f"skipped {binary:,} {what} not text")
    return np.frombuffer(b"\0".join(parts), dtype=np.uint8), len(parts)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
