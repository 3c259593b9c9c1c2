"""Measuring a case: every contender warm in its own process, timed in turns."""

from __future__ import annotations

import ast
import contextlib
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.contenders import CONTENDERS, HERE, Contender, Failed, Process


@dataclass
class Figures:
    """What one contender did in one variant. Times are seconds of one unit of the case.

    Attributes:
        wall, cpu: medians over the rounds; best: the least wall time of a round.
        warm_up_cold, warm_up_warm: seconds until the steps run at their later speed, beyond what
            the steps themselves take, with empty caches on disk and with filled ones.
        peak: largest resident memory in bytes, the interpreter and the library included.
        rate: work (operations) a second, 0 where the case counts none.
        check: the first step's result, which all contenders share.
        error: why there are no figures.
    """

    wall: float = 0.0
    cpu: float = 0.0
    best: float = 0.0
    warm_up_cold: float | None = None
    warm_up_warm: float | None = None
    peak: int = 0
    rate: float = 0.0
    check: float | None = None
    error: str = ""


@dataclass
class Row:
    """One variant of one case, over all contenders."""

    case: str
    variant: str
    figures: dict[str, Figures] = field(default_factory=dict)

    def ratio(self) -> float | None:
        """How many times flambeau is faster than the faster of torch eager and torch.compile."""
        peers = [
            f.wall
            for name in ("torch", "compile")
            if (f := self.figures.get(name)) and not f.error and f.wall
        ]
        own = self.figures.get("flambeau")
        if not peers or own is None or own.error or not own.wall:
            return None
        return min(peers) / own.wall

    def disagreement(self) -> bool:
        """Whether the contenders' first results differ by more than float32 explains."""
        checks = [f.check for f in self.figures.values() if f.check is not None]
        if not checks:
            return False
        scale = max(1e-3, *(abs(check) for check in checks))
        return max(checks) - min(checks) > 2e-3 * scale

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {**asdict(self), "ratio": self.ratio()}


@dataclass(frozen=True)
class Settings:
    """How to measure: rounds of about `seconds` each, on so many threads."""

    rounds: int
    threads: int
    seconds: float
    quick: bool
    cold: bool = True


def constants(case: str) -> dict[str, Any]:
    """VARIANTS, QUICK and CONTENDERS of a case, without importing what it imports."""
    found: dict[str, Any] = {}
    tree = ast.parse((HERE / "cases" / f"{case}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with contextlib.suppress(ValueError):
                found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def case_names() -> list[str]:
    """Every case, in the order of the table."""
    order = ["gpt_step", "mlp", "chain", "dispatch", "large_ops", "gemm"]
    names = {path.stem for path in (HERE / "cases").glob("*.py")}
    return [n for n in order if n in names] + sorted(names.difference(order))


def variants_of(case: str, quick: bool) -> list[str]:
    """The variants of a case; the case's docstring says what they are."""
    known = constants(case)
    if quick and isinstance(known.get("QUICK"), tuple):
        return list(known["QUICK"])
    if isinstance(known.get("VARIANTS"), tuple):
        return list(known["VARIANTS"])
    raise ValueError(f"bench/cases/{case}.py must list its VARIANTS as literals")


def contenders_of(case: str, wanted: list[str]) -> list[Contender]:
    """The contenders that are wanted, installed and have a form of this case."""
    only = constants(case).get("CONTENDERS", tuple(CONTENDERS))
    return [
        contender
        for name in wanted
        if name in only and (contender := CONTENDERS[name]).has(case) and contender.is_installed()
    ]


def measure_case(
    case: str,
    variants: list[str],
    wanted: list[str],
    settings: Settings,
    say: Callable[[str], None],
) -> Iterator[Row]:
    """Measure the variants of a case one after the other."""
    contenders = contenders_of(case, wanted)
    rows = [Row(case, variant, {c.name: Figures() for c in contenders}) for variant in variants]
    with tempfile.TemporaryDirectory(prefix="flambeau-bench-") as folder:
        caches = Path(folder)
        if settings.cold:
            for contender in contenders:
                say(f"{case}: {contender.title} with empty caches")
                warm_up_cold(contender, rows, settings, caches)
        with contextlib.ExitStack() as stack:
            processes: dict[str, Process] = {}
            for contender in contenders:
                say(f"{case}: starting {contender.title}")
                process = Process(contender, case, settings.threads, caches)
                try:
                    processes[contender.name] = stack.enter_context(process)
                except Failed as failure:
                    for row in rows:
                        row.figures[contender.name].error = str(failure)
            for row in rows:
                measure_row(row, processes, settings, say)
                yield row


def warm_up_cold(contender: Contender, rows: list[Row], settings: Settings, caches: Path) -> None:
    """What warming up takes in a process that finds nothing on disk."""
    with (
        contextlib.suppress(Failed),  # the same failure is reported by the measured process
        Process(contender, rows[0].case, settings.threads, caches) as process,
    ):
        for row in rows:
            with contextlib.suppress(Failed):
                answer = process.ask("setup", variant=row.variant)
                row.figures[contender.name].warm_up_cold = answer["warm_up"]


def measure_row(
    row: Row, processes: dict[str, Process], settings: Settings, say: Callable[[str], None]
) -> None:
    """Set a variant up in every process, then time the processes in turns, round by round."""
    made: dict[str, dict[str, Any]] = {}
    for name, process in processes.items():
        say(f"{row.case} {row.variant}: warming {process.contender.title} up")
        try:
            made[name] = process.ask("setup", variant=row.variant)
        except Failed as failure:
            row.figures[name].error = str(failure)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in made}
    for number in range(settings.rounds):
        say(f"{row.case} {row.variant}: round {number + 1} of {settings.rounds}")
        for name in list(made):
            try:
                rounds[name].append(processes[name].ask("run", seconds=settings.seconds))
            except Failed as failure:
                row.figures[name].error = str(failure)
                del made[name]
    work = max((answer["work"] for answer in made.values()), default=0)
    for name, answer in made.items():
        figures, count = row.figures[name], answer["count"]
        figures.wall = statistics.median(r["wall"] for r in rounds[name]) / count
        figures.cpu = statistics.median(r["cpu"] for r in rounds[name]) / count
        figures.best = min(r["wall"] for r in rounds[name]) / count
        figures.warm_up_warm = answer["warm_up"] if settings.cold else None
        figures.warm_up_cold = figures.warm_up_cold if settings.cold else answer["warm_up"]
        figures.check = answer["check"]
        figures.rate = work / figures.wall
        figures.peak = processes[name].ask("memory")["peak"]
