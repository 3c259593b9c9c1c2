"""Shared memory that MPI leaves in /dev/shm when its processes end before they are done.

MPICH and UCX name their segments there and remove the names when a program ends in order. A name
that stays behind holds its memory until the machine restarts, so whoever ends a job removes them.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

_FOLDER = Path("/dev/shm")
_NAMES = ("mpich_shm_", "ucx_shm_posix_")
_MAPPED = re.compile(rf"{_FOLDER}/(?:{'|'.join(_NAMES)})\w+")


def _mapped(process: str | Path) -> set[str]:
    with contextlib.suppress(OSError):
        return set(_MAPPED.findall(Path(process, "maps").read_text()))
    return set()


def unlink_own() -> None:
    """Remove the names of this process's segments, which it can go on using."""
    for path in _mapped("/proc/self"):
        with contextlib.suppress(OSError):
            os.unlink(path)


def unlink_left(since: float) -> None:
    """Remove this user's segments that no process uses.

    Args:
        since: only those made after this, in seconds of `time.time`.
    """
    left = {}
    for path in _FOLDER.glob("*_shm_*"):
        with contextlib.suppress(OSError):
            about = path.stat()
            if path.name.startswith(_NAMES) and about.st_uid == os.getuid():
                if about.st_mtime >= since:
                    left[str(path)] = path
    for process in Path("/proc").glob("[0-9]*") if left else ():
        for used in _mapped(process):
            left.pop(used, None)
    for path in left.values():
        with contextlib.suppress(OSError):
            path.unlink()
