"""Measure flambeau beside PyTorch and JAX, interleaved in one run, and print a table.

    python -m bench                         everything; allow half an hour
    python -m bench --quick                 fewer variants and rounds, warm-up measured once
    python -m bench --case gpt_step --case mlp
    python -m bench --case large_ops/softmax --contenders flambeau,torch

Each contender runs in a process of its own, bound to the same processors. Rounds are interleaved
(A B C A B C ...), so that a machine that slows down slows all of them down. Peers that are not
installed are shown as absent.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from bench import footprint
from bench.contenders import CONTENDERS
from bench.measure import Row, Settings, case_names, measure_case, variants_of
from bench.report import report

FOOTPRINT = "footprint"

#: The share of the processors that other programs may use before the figures are doubtful.
QUIET = 0.05


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [*case_names(), FOOTPRINT]
    made.add_argument(
        "--case",
        action="append",
        metavar="CASE[/VARIANT]",
        help=f"measure this one; may be given again ({', '.join(names)})",
    )
    made.add_argument(
        "--contenders",
        default=",".join(CONTENDERS),
        metavar="NAMES",
        help="with commas between them (default: %(default)s)",
    )
    made.add_argument("--rounds", type=int, help="default 9, with --quick 3")
    made.add_argument("--seconds", type=float, help="of one round; default 0.5, with --quick 0.1")
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    made.add_argument("--quick", action="store_true", help="a first impression")
    return made


def selection(cases: list[str] | None, quick: bool) -> dict[str, list[str]]:
    """The variants to measure, by case; an unknown name raises ValueError."""
    if not cases:
        chosen = {name: variants_of(name, quick) for name in case_names()}
        return {**chosen, FOOTPRINT: []}
    chosen = {}
    for item in cases:
        name, _, variant = item.partition("/")
        if name == FOOTPRINT:
            chosen[name] = []
            continue
        if name not in case_names():
            raise ValueError(f"no case named {name!r}; there are {', '.join(case_names())}")
        known = variants_of(name, quick=False)
        if variant and variant not in known:
            raise ValueError(f"{name} has no variant {variant!r}; it has {', '.join(known)}")
        added = [variant] if variant else variants_of(name, quick)
        chosen[name] = [*chosen.get(name, []), *added]
    return chosen


def busy_seconds() -> float:
    """Processor time that the whole machine has used; 0 where the system does not say."""
    try:
        fields = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, *interrupts = (int(field) for field in fields)
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Processor time that this program and the contenders that have ended used."""
    return sum(os.times()[:4])


def main() -> int:
    """Run the command; the exit status is 1 where a contender failed or results disagree."""
    options = parser().parse_args()
    names = options.contenders.split(",")
    try:
        if unknown := [name for name in names if name not in CONTENDERS]:
            raise ValueError(f"no contender named {', '.join(unknown)}")
        chosen = selection(options.case, options.quick)
    except ValueError as error:
        parser().error(str(error))
    settings = Settings(
        rounds=options.rounds or (3 if options.quick else 9),
        threads=options.threads,
        seconds=options.seconds or (0.1 if options.quick else 0.5),
        quick=options.quick,
        cold=not options.quick,
    )
    console = Console(width=None if sys.stdout.isatty() else 160)
    status = Console(stderr=True).status("starting")
    rows: list[Row] = []
    footprints = []
    started, busy, own = time.monotonic(), busy_seconds(), own_seconds()
    with status, tempfile.TemporaryDirectory(prefix="flambeau-bench-") as folder:
        if FOOTPRINT in chosen:
            rounds = min(settings.rounds, 5)
            footprints = footprint.measure(names, rounds, Path(folder), status.update)
        for case, variants in chosen.items():
            if case != FOOTPRINT:
                rows += measure_case(case, variants, names, settings, status.update)
    shown = [n for n in names if n != "limit" or any("limit" in row.figures for row in rows)]
    others = (busy_seconds() - busy) - (own_seconds() - own)
    share = max(0.0, others / (time.monotonic() - started) / (os.cpu_count() or 1))
    header = (
        f"{platform.processor() or platform.machine()}, {options.threads} threads, "
        f"{settings.rounds} rounds of {settings.seconds} s, Python {platform.python_version()}; "
        f"other programs used {share:.0%} of the machine"
    )
    if share > QUIET:
        header += (
            "\nToo much for figures to keep: torch's threads, waiting for each other, suffer most."
        )
    console.print(report(rows, shown, footprints, header))
    if options.json:
        document = {
            "threads": options.threads,
            "rounds": settings.rounds,
            "others": share,
            "rows": [row.as_json() for row in rows],
            "footprints": [one.as_json() for one in footprints],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    failed = any(f.error for row in rows for f in row.figures.values())
    return 1 if failed or any(row.disagreement() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
