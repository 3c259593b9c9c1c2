"""``flambeau bench``: the benchmarks of the source tree.

They stand beside the package, in ``bench/``, and compare with peers that few programs need, so
they are not installed with it. This command finds them and runs ``python -m bench`` there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import flambeau

_MISSING = 2


def folder() -> Path | None:
    """Where the source tree with the benchmarks is, if this package is run from one."""
    root = Path(flambeau.__file__).resolve().parent.parent
    return root if (root / "bench" / "__main__.py").is_file() else None


def parser() -> argparse.ArgumentParser:
    """The command's own options; all others are those of ``python -m bench``."""
    return argparse.ArgumentParser(
        prog="flambeau bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measure flambeau beside PyTorch and JAX, as far as they are installed.\n"
        "Options are handed on to `python -m bench` in the source tree (`-- --help` shows them).",
        epilog="examples:\n"
        "  flambeau bench --quick --case mlp\n"
        "  flambeau bench --case large_ops/softmax --contenders flambeau,torch",
    )


def main(argv: Sequence[str]) -> int:
    """Run the benchmarks.

    Args:
        argv: options of ``python -m bench``.

    Returns:
        Its exit code, or 2 where there is no source tree.
    """
    _, words = parser().parse_known_args(argv)
    root = folder()
    if root is None:
        print(
            "flambeau bench: the benchmarks are part of the source tree, not of the installed "
            "package.\nInstall from a checkout with `pip install -e '.[dev]'` and call it again.",
            file=sys.stderr,
        )
        return _MISSING
    words = words[1:] if words[:1] == ["--"] else words
    return subprocess.call([sys.executable, "-m", "bench", *words], cwd=root)
