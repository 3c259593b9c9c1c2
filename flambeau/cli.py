"""The ``flambeau`` program: finds the command that was asked for and runs it.

Each command is a module of :mod:`flambeau.commands`, imported only when it is chosen, so that
``flambeau --help`` and ``flambeau --version`` answer at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from flambeau import __version__

_ERROR = 2


@dataclass(frozen=True)
class Command:
    """One command of the program.

    Args:
        module: where its ``main(argv) -> exit code`` is.
        summary: what it does, in a line.
        example: one way to call it.
    """

    module: str
    summary: str
    example: str


COMMANDS = {
    "train": Command(
        "flambeau.commands.train",
        "train a byte-level GPT on text and watch it learn",
        "flambeau train --data notes/ --seconds 120",
    ),
    "run": Command(
        "flambeau.commands.run",
        "run an unmodified PyTorch program on flambeau",
        "flambeau run script.py --epochs 3",
    ),
    "launch": Command(
        "flambeau.commands.launch",
        "run a program as several ranks on MPI, watch them, start them again",
        "flambeau launch -n 4 train.py",
    ),
    "doctor": Command(
        "flambeau.commands.doctor",
        "show devices, CPU, caches, versions, and time one matrix product",
        "flambeau doctor --json",
    ),
    "bench": Command(
        "flambeau.commands.bench",
        "measure flambeau beside PyTorch and JAX (in a source tree)",
        "flambeau bench --quick --case mlp",
    ),
}


def usage() -> str:
    """The text of ``flambeau --help``."""
    widest = max(len(command.example) for command in COMMANDS.values())
    commands = "\n".join(f"  {name:<8} {command.summary}" for name, command in COMMANDS.items())
    examples = "\n".join(
        f"  {command.example:<{widest}}   {command.summary}" for command in COMMANDS.values()
    )
    return (
        f"usage: flambeau [--version] [--help] COMMAND [OPTIONS]\n\n"
        f"PyTorch's API in Python alone: recorded lazily, executed fused and compiled.\n\n"
        f"commands:\n{commands}\n\n"
        f"examples:\n{examples}\n\n"
        f"`flambeau COMMAND --help` tells more about one of them. In a program of your own:\n"
        f"  import flambeau as torch\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        argv: what followed the program's name; the process's own when None.

    Returns:
        The exit code: that of the command, or 2 when there is no such command.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0 if words else _ERROR
    if words[0] in ("-V", "--version", "version"):
        print(f"flambeau {__version__}")
        return 0
    command = COMMANDS.get(words[0])
    if command is None:
        known = ", ".join(COMMANDS)
        print(f"flambeau: no command {words[0]!r}, choose from {known}", file=sys.stderr)
        return _ERROR
    try:
        return int(importlib.import_module(command.module).main(words[1:]))
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        sys.stderr.close()
        return 1
