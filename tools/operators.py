#!/usr/bin/env python3
"""Compare the operators of torch's own database with torch, all samples, and count what agrees.

python tools/operators.py                           float32: results and gradients
python tools/operators.py --dtype int64 bfloat16    other dtypes
python tools/operators.py --deep                    also in place, out=, second derivatives ...
python tools/operators.py --only linalg --limit 5   some operators, some samples of each
python tools/operators.py --ops add,linalg.svd      these operators
python tools/operators.py --json FILE               keep the table: operator, dtype -> outcome
python tools/operators.py --json FILE --page        write docs/parity.md from all that FILE keeps

Needs torch (the `parity` extra). An operator counts as public where torch gives it a name without
a leading underscore; entries of the database that only compilers see are left out. With
FLAMBEAU_TARGET=interpret what operators mean is compared without compiling them, in minutes.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import os
import pickle
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.testing._internal.common_methods_invocations import op_db

from flambeau import record
from tests.parity import test_module_db, test_optim_db, test_refusals
from tests.parity.opinfo.calls import STAGES, Outcome, full_name, outcome
from tests.parity.opinfo.reasons import reason

PAGE = Path(__file__).resolve().parent.parent / "docs" / "parity.md"

#: operator -> dtype -> {"absent", "compared", "failed", "reason"}
Table = dict[str, dict[str, dict[str, Any]]]


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", nargs="*", default=["float32"], help="names of dtypes")
    parser.add_argument("--only", default="", help="a pattern that names must contain")
    parser.add_argument("--ops", default="", help="names, with commas between")
    parser.add_argument("--limit", type=int, help="at most so many samples of each operator")
    parser.add_argument("--deep", action="store_true", help="all stages")
    parser.add_argument("--json", type=Path, help="where the table is kept")
    parser.add_argument("--page", action="store_true", help="write docs/parity.md from the table")
    return parser.parse_args()


def compared(dtype: str, chosen: argparse.Namespace) -> Table:
    """One dtype's column of the table, printing what does not agree."""
    stages = STAGES if chosen.deep else ("forward", "gradient")
    named = set(filter(None, chosen.ops.split(",")))
    table: Table = {}
    ops = [
        op
        for op in op_db
        if re.search(chosen.only, full_name(op)) and (not named or full_name(op) in named)
    ]
    for op, found in zip(
        ops, outcomes(ops, getattr(torch, dtype), chosen.limit, stages), strict=True
    ):
        name = full_name(op)
        entry = {"absent": found.absent, "compared": found.compared, "failed": found.failed}
        why = reason(name, dtype)
        for stage, problem in found.failed.items():
            why = reason(name, dtype) or reason(name, stage)
            if why is not None:
                entry["reason"] = why
            print(f"  {stage:9} {name}: {f'[{why}] ' if why else ''}{problem}", flush=True)
        if found.absent not in ("", "no dtype"):
            print(f"  {found.absent:9} {name}: {why or found.why}", flush=True)
        table[name] = {dtype: entry}
    return table


def outcomes(
    ops: list[Any], dtype: Any, limit: int | None, stages: tuple[str, ...]
) -> Iterator[Outcome]:
    """`outcome` of each, found in another process: some calls of torch with `out=` write where they
    must not, and end it. Then that operator is asked without them."""
    while ops:
        done = 0
        for found in _beside(ops, dtype, limit, stages):
            done += 1
            yield found
        if done < len(ops):
            last, less = ops[done], tuple(stage for stage in stages if stage != "out")
            if less != stages:
                yield from outcomes([last], dtype, limit, less)
            else:
                yield Outcome(failed={"forward": "0: the process ended"}, compared={"forward": 1})
            done += 1
        ops = ops[done:]


def _beside(
    ops: list[Any], dtype: Any, limit: int | None, stages: tuple[str, ...]
) -> Iterator[Outcome]:
    """The outcomes up to where the process that finds them ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            for op in ops:
                pickle.dump(outcome(op, dtype, limit, stages), pipe)
                pipe.flush()
                record.flush()
                record.clear_programs()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        while True:
            try:
                found: Outcome = pickle.load(pipe)
            except (EOFError, pickle.UnpicklingError):
                break
            yield found
    os.waitpid(child, 0)


def counts(table: Table, dtype: str) -> dict[str, tuple[int, int, int]]:
    """By stage: operators of which all calls agree, operators compared, calls compared."""
    entries = [found[dtype] for found in table.values() if dtype in found]
    shares = {}
    for stage in STAGES:
        having = [e for e in entries if stage in e["compared"]]
        agree = sum(stage not in e["failed"] for e in having)
        if stage == "forward":  # a name that is not here does not agree
            missing = sum(e["absent"] == "missing" for e in entries)
        shares[stage] = (
            agree,
            len(having) + (missing if stage == "forward" else 0),
            sum(e["compared"][stage] for e in having),
        )
    return shares


def share(agree: int, of: int) -> str:
    """ "agree of all (per cent)"."""
    return f"{agree} of {of} ({100 * agree / of:.1f} %)" if of else "-"


def page(table: Table) -> str:
    """The text of docs/parity.md."""
    dtypes = list(dict.fromkeys(dtype for found in table.values() for dtype in found))
    lines = [
        "# Agreement with PyTorch, operator by operator",
        "",
        "<!-- written by tools/operators.py; do not edit -->",
        "",
        f"PyTorch {torch.__version__.partition('+')[0]} tests its operators with a database of",
        "calls (`torch.testing._internal.common_methods_invocations.op_db`). Here these calls are",
        "made in both libraries. An operator counts where *all* its calls agree: shape, dtype, and",
        "values to what the dtype allows or to what PyTorch itself misses of the next wider dtype.",
        "*In place* includes the gradient of what was written; *out* is written to tensors of the",
        "right shape, to empty ones and to strided ones; *second* is the gradient of the gradient,",
        "*tangent* forward differentiation. Entries that are no public names are left out.",
        "",
        "```sh",
        "FLAMBEAU_TARGET=interpret python tools/operators.py --deep \\",
        f"    --dtype {' '.join(dtypes)} --json parity.json --page",
        "```",
        "",
        "All samples of float32 are compared, the first six of each operator in other dtypes",
        "(`--limit 6`).",
        "",
        "| dtype | " + " | ".join(STAGES) + " | calls |",
        "|---|" + "---|" * (len(STAGES) + 1),
    ]
    for dtype in dtypes:
        found = counts(table, dtype)
        calls = sum(n for _, _, n in found.values())
        cells = [share(agree, of) for agree, of, _ in found.values()]
        lines.append(f"| {dtype} | {' | '.join(cells)} | {calls} |")
    lines += [*others(), "", "## What does not agree", ""]
    lines += ["| operator | dtype | stage | what, or why |", "|---|---|---|---|"]
    for name, row in table.items():
        whys: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        for dtype, entry in row.items():
            failed = dict(entry["failed"])
            if entry["absent"] == "missing":
                failed["forward"] = "not there"
            for stage, problem in failed.items():
                known = reason(name, dtype) or reason(name, stage)
                whys[stage, known or _short(problem)].append(dtype)
        for (stage, why), given in whys.items():
            lines.append(f"| `{name}` | {', '.join(given)} | {stage} | {why} |")
    return "\n".join(lines) + "\n"


def others() -> list[str]:
    """Lines on PyTorch's databases of modules, of optimizers and of wrong calls."""
    checks: dict[str, dict[str, Callable[[], Any]]] = {
        "modules (`module_db`: values, gradients, state, representation)": {
            name: functools.partial(_none, test_module_db.problem, name)
            for name in test_module_db.INFOS
        },
        "optimizers (`optim_db`: 20 steps with each set of options, refusals)": {
            name: functools.partial(_optimizer, name) for name in test_optim_db.INFOS
        },
        "operators whose wrong calls (`error_inputs`) raise PyTorch's class": {
            given.id: functools.partial(
                test_refusals.test_wrong_calls_raise_torchs_class, given.values[0]
            )
            for given in test_refusals.wrong_calls()
        },
    }
    lines = ["", "## Modules, optimizers, refusals", "", "| what | agree |", "|---|---|"]
    failed = []
    for what, named in checks.items():
        agree = 0
        for name, check in named.items():
            try:
                check()
                agree += 1
            except Exception as error:
                failed.append(f"- `{name}`: {' '.join(str(error).split())[:120]}")
        lines.append(f"| {what} | {share(agree, len(named))} |")
    return [*lines, *(["", *failed] if failed else [])]


def _none(check: Callable[[str], Any], name: str) -> None:
    problem = check(name)
    assert problem is None, problem


def _optimizer(name: str) -> None:
    if name in test_optim_db.SPARSE:
        test_optim_db.test_sparse_gradients()
    else:
        test_optim_db.test_trajectories(name)
    test_optim_db.test_refusals(name)


def _short(problem: str) -> str:
    said = " ".join(problem.partition(": ")[2].split()).replace("|", "\\|")
    return said[:120]


def main() -> int:
    """Run the command; 1 where something does not agree and has no reason."""
    chosen = options()
    torch.set_num_threads(1)
    kept: Table = {}
    if chosen.json is not None and chosen.json.exists():
        kept = json.loads(chosen.json.read_text())
    unexplained = 0
    for dtype in chosen.dtype:
        start = time.perf_counter()
        table = compared(dtype, chosen)
        said = (f"{stage} {share(*n[:2])}" for stage, n in counts(table, dtype).items() if n[1])
        print(f"{dtype}: {', '.join(said)}; {time.perf_counter() - start:.0f} s", flush=True)
        entries = [entry for found in table.values() for entry in found.values()]
        unexplained += sum(
            bool(e["failed"] or e["absent"] == "missing") and "reason" not in e for e in entries
        )
        for name, found in table.items():
            kept.setdefault(name, {}).update(found)
        if chosen.json is not None:
            chosen.json.write_text(json.dumps(kept, indent=1) + "\n")
    if chosen.page:
        PAGE.write_text(page(kept))
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
