#!/usr/bin/env python3
"""Write what follows from tables: docs/ops.md, the type stubs, the variants of attention.

python tools/generate.py            write them
python tools/generate.py --check    exit with 1, naming them, where they are not as generated
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from flambeau.codegen import lowerings  # noqa: E402
from flambeau.export.onnx.cells import support  # noqa: E402
from flambeau.ir.graph import Op  # noqa: E402
from flambeau.kernels.claims import CLAIMS  # noqa: E402
from flambeau.ops.rows import FUNCTIONAL, NAMES, ROWS, SPACES  # noqa: E402
from flambeau.tensor import Tensor  # noqa: E402
from tools.stubs import STUBS  # noqa: E402
from tools.variants import VARIANT_FILES  # noqa: E402

# -- docs/ops.md -----------------------------------------------------------------------------------


def first_line(text: str | None) -> str:
    """The first line of a docstring, safe in a table."""
    line = (text or "").strip().split("\n\n")[0].replace("\n", " ")
    return " ".join(line.split()).replace("|", "\\|")


def gradient(row: Op) -> str:
    """How a row is differentiated, in a word."""
    if row.vjp is not None:
        return "own rule"
    if not row.differentiable:
        return "none"
    return "from its body" if row.kind == "composite" else "none"


def lowering(row: Op) -> str:
    """How a row is compiled for the CPU, in a word."""
    if row.name in lowerings.UNSUPPORTED:
        return f"no: {lowerings.UNSUPPORTED[row.name]}"
    if row.kind == "host" and row.name in CLAIMS:
        return "kernel"
    words = {
        "composite": "from its body",
        "elementwise": "loop",
        "reduce": "loop",
        "scan": "loop",
        "index": "loop",
        "index_put": "kernel",
        "contraction": "kernel",
        "view": "no code",
        "assign": "loop",
        "host": "library",
        "effect": "library",
    }
    return words[row.kind]


def spelling(name: str, row: Op) -> str:
    """Where users find a row."""
    places = []
    if NAMES.get(name) is row.call:
        places.append("function")
    if FUNCTIONAL.get(name) is not None and row.call is not None:
        places.append("`nn.functional`")
    for space, names in SPACES.items():
        places += [f"`{space}.{short}`" for short, call in names.items() if call is row.call]
    if callable(vars(Tensor).get(name)):
        places.append("method")
    if callable(vars(Tensor).get(name + "_")):
        places.append("in place")
    return ", ".join(places) or "internal"


def document() -> str:
    """docs/ops.md."""
    lines = [
        "# Operations",
        "",
        "<!-- written by tools/generate.py from the table in flambeau/ops; do not edit -->",
        "",
        f"The table holds {len(ROWS)} rows. Kinds are those of `flambeau/ir/graph.py`; a composite",
        "is made of other rows. *Gradient* says whether a row has a rule of its own; *CPU* how it",
        "is compiled: into a fused loop, as a kernel, as a library call inside the program, or",
        "through its body. *ONNX* says whether an exported model has operators for it.",
        "",
    ]
    modules: dict[str, list[str]] = {}
    for name, row in ROWS.items():
        modules.setdefault(row.module.rpartition(".")[2] or "the IR itself", []).append(name)
    for module in sorted(modules):
        lines += [f"## {module}", "", "| row | meaning | kind | as | gradient | CPU | ONNX |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
        for name in sorted(modules[module]):
            row = ROWS[name]
            cells = (f"`{name}`", first_line(row.doc), row.kind, spelling(name, row),
                     gradient(row), lowering(row), support(row))  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


#: Path of each generated file -> the function that gives its text.
FILES: dict[str, Callable[[], str]] = {"docs/ops.md": document, **STUBS, **VARIANT_FILES}


def main() -> int:
    """Run the command."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="write nothing")
    check = options.parse_args().check
    stale = []
    for name, made in FILES.items():
        path, text = ROOT / name, made()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    if stale:
        print(("not as generated: " if check else "written: ") + ", ".join(stale))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
