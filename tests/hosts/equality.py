"""Every form of distributed training has the loss curve of one process.

    python -m tests.hosts.equality [--ranks 1,2,4] [--steps 50] [--forms WORDS] [--json FILE]

A GPT is trained by each form of `tests/distributed/forms.py` on processes that talk by MPI, and by
one process. What is compared is the largest relative difference between the curves of the loss:

* in float64, to the one process: at most 1e-5;
* in float32, to the one process in float64: at most the bound, which one process says. It trains
  in float32 as well, several times, with each batch's sequences in another order; that changes
  nothing but rounding, as giving them to several ranks does. The bound is twice the largest
  difference between these curves and that in float64.

Fewer and shorter runs are in `tests/distributed/test_equality.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from flambeau import distributed
from tests.cli.program import ROOT, environment
from tests.distributed.forms import FORMS, Form, Setting, curve

SETTING = Setting(words=61, length=16, blocks=3, heads=4, width=32, batch=16, steps=50)
DTYPES = ("float64", "float32")
LIMIT = 1e-5
#: How often one process trains in float32.
ORDERS = 8
#: Seconds that the ranks may take for one form.
SECONDS = 300


def difference(found: Any, wanted: Any) -> float:
    """The largest relative difference between two curves."""
    return float(np.max(np.abs(np.asarray(found) / np.asarray(wanted) - 1.0)))


def bound(form: Form, setting: Setting, wanted: Any, orders: int = ORDERS) -> float:
    """How far float32 may be from the curve in float64; a world of one rank asks.

    Args:
        form: of one process.
        wanted: its curve in float64.
        orders: how many float32 curves to look at.
    """
    single = replace(setting, dtype="float32")
    curves = [curve(form, replace(single, order=k)) for k in range(orders)]
    return 2 * max(difference(c, wanted) for c in curves)


def on_ranks(ranks: int, name: str, setting: Setting) -> dict[str, list[float]]:
    """The curves of a form, by dtype, on processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-m", "tests.hosts.equality", "--rank-of", folder, name]
        started = subprocess.run(
            [str(Path(sys.executable).parent / "mpiexec"), "-n", str(ranks), *program]
            + [json.dumps(asdict(setting))],
            cwd=ROOT,
            env=environment(FLAMBEAU_NUM_THREADS="1"),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        if started.returncode:
            raise RuntimeError(f"{name} on {ranks} ranks:\n{started.stdout}{started.stderr}")
        found: dict[str, list[float]] = json.loads(Path(folder, "curves").read_text())
        return found


def as_rank(folder: str, name: str, setting: Setting) -> None:
    """What a rank runs."""
    distributed.init_process_group("mpi")
    found = {}
    for dtype in DTYPES:
        everyone: list[Any] = [None] * distributed.get_world_size()
        mine = curve(FORMS[name][0], replace(setting, dtype=dtype))
        distributed.all_gather_object(everyone, mine)
        found[dtype] = np.sum(everyone, 0).tolist()
    if distributed.get_rank() == 0:
        Path(folder, "curves").write_text(json.dumps(found))
    distributed.destroy_process_group()


def main() -> int:
    """Run the script; -> its exit code, 1 where a curve is another."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--ranks", default="1,2,4", help="how many, with commas between")
    parser.add_argument("--steps", type=int, default=SETTING.steps)
    parser.add_argument("--forms", default="", help="those whose names have one of these words")
    parser.add_argument("--json", help="write the differences to this file")
    parser.add_argument("--rank-of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        folder, name, setting = options.rank_of
        as_rank(folder, name, Setting(**json.loads(setting)))
        return 0
    os.environ.setdefault("FLAMBEAU_NUM_THREADS", "1")
    setting = replace(SETTING, steps=options.steps)
    words = options.forms.split() or [""]
    chosen = [name for name in FORMS if any(word in name for word in words)]
    return compare(chosen, [int(n) for n in options.ranks.split(",")], setting, options.json)


def compare(names: list[str], counts: list[int], setting: Setting, file: str | None) -> int:
    """Train by every form, and print a table as it goes."""
    begun = time.monotonic()
    distributed.init_process_group()
    alone: dict[Form, tuple[list[float], float]] = {}
    for name in names:
        form = FORMS[name][1]
        if form not in alone:
            wanted = curve(form, setting)
            alone[form] = wanted, bound(form, setting, wanted)
            print(
                f"one process ({form.__name__}): loss {wanted[0]:.4f} -> {wanted[-1]:.4f} in "
                f"{setting.steps} steps; bound for float32 {alone[form][1]:.1e}  "
                f"[{time.monotonic() - begun:.0f} s]",
                flush=True,
            )
    print("| form | ranks | float64 | float32 | bound |\n|---|---|---|---|---|", flush=True)
    rows: list[dict[str, Any]] = []
    for name in names:
        wanted, limit = alone[FORMS[name][1]]
        for ranks in counts:
            curves = on_ranks(ranks, name, setting)
            found = {dtype: difference(curves[dtype], wanted) for dtype in DTYPES}
            right = found["float64"] <= LIMIT and found["float32"] <= limit
            rows.append({"form": name, "ranks": ranks, **found, "bound": limit, "right": right})
            print(
                f"| {name} | {ranks} | {found['float64']:.1e} | {found['float32']:.1e} | "
                f"{limit:.1e} |{'' if right else ' UNEQUAL'}",
                flush=True,
            )
            print(f"[{time.monotonic() - begun:.0f} s]", file=sys.stderr, flush=True)
    wrong = sum(not row["right"] for row in rows)
    print(f"{len(rows) - wrong} of {len(rows)} curves are those of one process")
    if file:
        Path(file).write_text(json.dumps(rows, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
