"""The files of this repository, as the house tests see them."""

from __future__ import annotations

import ast
import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Written by tools/generate.py; they answer to test_generated.py alone.
GENERATED = {
    "docs/ops.md",
    "flambeau/__init__.pyi",
    "flambeau/fft.pyi",
    "flambeau/linalg.pyi",
    "flambeau/masked.pyi",
    "flambeau/nn/functional.pyi",
    "flambeau/signal/windows.pyi",
    "flambeau/special.pyi",
    "flambeau/tensor.pyi",
}


@functools.cache
def files() -> tuple[str, ...]:
    """Paths, relative to the root, of every file that belongs to the repository.

    Git's opinion (tracked, and untracked but not ignored) where there is a checkout; otherwise,
    in an unpacked source archive, everything but hidden folders and caches.
    """
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        found = [name for name in listing.stdout.split("\0") if name]
    else:
        found = [
            str(path.relative_to(ROOT))
            for path in ROOT.rglob("*")
            if not any(
                p.startswith(".") or p == "__pycache__" for p in path.relative_to(ROOT).parts
            )
        ]
    return tuple(sorted(name for name in set(found) if (ROOT / name).is_file()))


def text_of(name: str) -> str | None:
    """The text of a file, or None where it is binary (pictures, recorded data)."""
    data = (ROOT / name).read_bytes()
    if b"\0" in data[:8192] or name.endswith((".png", ".gz", ".zip", ".safetensors", ".pt")):
        return None
    return data.decode("utf-8")


def python_files(*tops: str) -> list[str]:
    """The Python sources below the given top folders (all of them when none is given)."""
    return [
        name
        for name in files()
        if name.endswith(".py") and (not tops or name.split("/")[0] in tops)
    ]


@functools.cache
def parse(name: str) -> ast.Module:
    """The syntax tree of a Python source."""
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), filename=name)


def module_name(name: str) -> str:
    """`flambeau/ops/__init__.py` -> `flambeau.ops`."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
