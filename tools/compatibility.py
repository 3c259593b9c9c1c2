#!/usr/bin/env python3
"""Write docs/compatibility.md: every public name of torch, whether it is there, how it differs.

python tools/compatibility.py            write it, from the names in tools/torch_names.txt
python tools/compatibility.py --names    first take the names from the torch that is installed
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
LIST = ROOT / "tools" / "torch_names.txt"
PAGE = ROOT / "docs" / "compatibility.md"

#: The modules whose names are listed; `torch.Tensor` stands for its methods and attributes.
MODULES = (
    *("torch", "torch.Tensor", "torch.accelerator", "torch.amp", "torch.autograd"),
    *("torch.autograd.forward_ad", "torch.autograd.functional", "torch.autograd.graph"),
    *("torch.compiler", "torch.distributed", "torch.distributions", "torch.export", "torch.fft"),
    *("torch.func", "torch.futures", "torch.fx", "torch.hub", "torch.jit", "torch.library"),
    *("torch.linalg", "torch.masked", "torch.multiprocessing", "torch.nested", "torch.nn"),
    *("torch.nn.attention", "torch.nn.attention.flex_attention", "torch.nn.functional"),
    *("torch.nn.init", "torch.nn.parallel", "torch.nn.utils", "torch.nn.utils.parametrizations"),
    *("torch.nn.utils.parametrize", "torch.nn.utils.prune", "torch.nn.utils.rnn", "torch.onnx"),
    *("torch.optim", "torch.optim.lr_scheduler", "torch.optim.swa_utils", "torch.overrides"),
    *("torch.profiler", "torch.random", "torch.serialization", "torch.signal.windows"),
    *("torch.sparse", "torch.special", "torch.testing", "torch.utils.checkpoint"),
    *("torch.utils.data", "torch.utils.dlpack", "torch.utils.tensorboard"),
)

#: What differs, by name.
NOTES = {
    "torch.compile": "watches calls and replays what they recorded; see compile.md",
    "torch.empty": "zeros: memory that nobody wrote has no meaning in a recorded program",
    "torch.empty_like": "zeros",
    "torch.manual_seed": "PyTorch's own numbers on a CPU under `flambeau run`; see random.md",
    "torch.jit.script": "gives back what it is given",
    "torch.jit.trace": "gives back what it is given",
    "torch.set_float32_matmul_precision": "products of float32 are exact whatever is set",
    "torch.nn.DataParallel": "one device: a call is the module's own",
    "torch.nn.SyncBatchNorm": "one process: batch norm",
    "torch.nn.functional.grouped_mm": "float64 too",
    "torch.use_deterministic_algorithms": "results are always the same",
}


def public_names(module: str) -> list[str]:
    """The public names of a module of the torch that is installed."""
    path, _, last = module.rpartition(".")
    home: Any = importlib.import_module(path if last == "Tensor" else module)
    if last == "Tensor":
        home = home.Tensor
    named = getattr(home, "__all__", None)
    found = []
    for name in sorted(named or dir(home)):
        value = inspect.getattr_static(home, name, None)
        defined = getattr(value, "__module__", None) or "torch"
        # other libraries' names, and what the compiled part shows of itself
        foreign = not defined.startswith("torch") or defined == "torch._C"
        if not name.startswith("_") and not inspect.ismodule(value) and not foreign:
            found.append(name)
    return found


def presence(module: str, name: str) -> str:
    """ "yes", "refused on use" or "no"."""
    absent = importlib.import_module("flambeau.interpose.standins.absent")
    path, _, last = module.rpartition(".")
    try:
        home = importlib.import_module(path if last == "Tensor" else module)
        if last == "Tensor":
            home = home.Tensor
            return "yes" if name in dir(home) else "no"
        if name in absent.ABSENT.get(module, "").split() and absent.absent(f"{module}.{name}"):
            found = home.__dict__.get(name) or getattr(home, name)
            return "refused on use" if "Not there" in (found.__doc__ or "") or (
                getattr(found, "__module__", "") == absent.__name__) else "yes"  # fmt: skip
        return "yes" if hasattr(home, name) else "no"
    except ImportError:
        return "no"


def page(names: dict[str, list[str]]) -> str:
    """The text of docs/compatibility.md."""
    lines = [
        "# What of PyTorch is there",
        "",
        "<!-- written by tools/compatibility.py; do not edit -->",
        "",
        "The public names of PyTorch and which of them `flambeau run` answers for. A name that is",
        "not there raises an error that says so. *Refused on use*: it can be imported, for",
        "libraries that name more than they use, and says when it is used that it is not there.",
        "",
        "| module | there | of |",
        "|---|---|---|",
    ]
    found = {m: {name: presence(m, name) for name in listed} for m, listed in names.items()}
    for module, rows in found.items():
        there = sum(word == "yes" for word in rows.values())
        lines.append(
            f"| [`{module}`](#{module.replace('.', '').lower()}) | {there} | {len(rows)} |"
        )
    for module, rows in found.items():
        lines += ["", f"## {module}"]
        for word, title in (
            ("yes", "There"),
            ("refused on use", "Refused on use"),
            ("no", "Not there"),
        ):
            chosen = [f"`{name}`" for name, w in rows.items() if w == word]
            if chosen:
                lines += ["", f"{title}: {', '.join(chosen)}."]
        notes = [n for n in rows if f"{module}.{n}" in NOTES and rows[n] == "yes"]
        if notes:
            lines += ["", *(f"- `{n}`: {NOTES[f'{module}.{n}']}." for n in notes)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--names", action="store_true", help="take the names from torch")
    if options.parse_args().names:
        text = "".join(f"{m}: {' '.join(public_names(m))}\n" for m in MODULES)
        LIST.write_text(text)
        for name in [n for n in sys.modules if n.partition(".")[0] == "torch"]:
            del sys.modules[name]
    names = {}
    for line in LIST.read_text().splitlines():
        module, _, rest = line.partition(": ")
        names[module] = rest.split()
    importlib.import_module("flambeau.interpose").install()
    PAGE.write_text(page(names))


if __name__ == "__main__":
    main()
