"""`explain(fn, *args)`: the program that a call becomes, as text and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flambeau import record
from flambeau.drawing import Box, layered
from flambeau.ir.graph import Node
from flambeau.ir.region import Region
from flambeau.ir.text import graph_text, plan_text
from flambeau.kernels import claims
from flambeau.passes.fuse import fuse
from flambeau.passes.pipeline import lower
from flambeau.runtime.kernels import module
from flambeau.runtime.program import Program, build
from flambeau.runtime.work import work_of

_COLOURS = {
    "region": "#e8f1fb",
    "contraction": "#fdebd3",
    "composite": "#e6f5e6",
    "host": "#f3e6f5",
    "index_put": "#fbe9ec",
}


class Explanation:
    """What `explain` found. `str()` is the fused program; in a notebook it shows its picture.

    Attributes:
        recorded: the graph as recorded, as text.
        lowered: the graph after the passes before fusion.
        text: the fused program, step by step.
        kernels: LLVM IR of every generated kernel, by name.
        memory: bytes of the program's arena.
        peak: bytes of all memory it uses: inputs, results and arena.
        recomputed: what a memory budget makes it compute a second time, in order: (rows, FLOP,
            bytes of the results).
        saved: bytes by which that lowers the peak.
    """

    def __init__(self, recorded: str, lowered: str, program: Program) -> None:
        self.recorded = recorded
        self.lowered = lowered
        self.text = plan_text(program.plan, program.order)
        self.kernels = {k.name: module(k) for k in program.kernels.values()}
        self.memory = program.arena_bytes
        self.peak = program.peak_bytes
        self.saved = program.unlimited_bytes - program.peak_bytes
        self.recomputed = [
            (work.name, work.flops, sum(m.of.nbytes for m in task.writes))
            for task in program.repeated
            for work in (work_of(program, task.step),)
        ]
        self._program = program

    def __str__(self) -> str:
        kernels = len(self.kernels)
        return (
            f"{self.text}\n{len(self._program.order)} steps, {kernels} generated kernel"
            f"{'' if kernels == 1 else 's'}, {self.memory} bytes of temporary memory"
            f"{self._budget_text()}"
        )

    def _budget_text(self) -> str:
        """What the memory budget did, line by line; nothing where there is none."""
        budget = self._program.budget
        if budget is None:
            return ""
        flops = sum(f for _, f, _ in self.recomputed)
        verdict = "within" if self.peak <= budget else "over"
        lines = [
            f"\n{self.peak} bytes in all, {verdict} the budget of {budget}: {len(self.recomputed)} "
            f"steps run again, {self.saved} bytes saved for {flops} FLOP"
        ]
        lines += [f"  again: {name}, {b} bytes, {f} FLOP" for name, f, b in self.recomputed]
        return "\n".join(lines)

    __repr__ = __str__

    def svg(self, path: str | Path | None = None) -> str:
        """The picture of the steps and what flows between them; written to `path` if given."""
        text = _picture(self._program)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def _repr_svg_(self) -> str:
        return self.svg()


def explain(fn: Any, *args: Any, **kwargs: Any) -> Explanation:
    """Record `fn(*args, **kwargs)` and show the program it becomes, without running it.

    What is pending before is executed first; what `fn` executes by itself (reading a value) is not
    shown, only what is pending when it returns.

    Example:
        >>> import flambeau
        >>> x = flambeau.rand(8, 16)
        >>> print(explain(lambda x: (x * 2).exp().sum(-1), x))
        plan (1 steps)
        ...
    """
    record.flush()
    held = fn(*args, **kwargs)
    graph = record.pending_graph()
    recorded = graph_text(graph, "recorded")
    lowered = lower(graph, claims.claims)
    text = graph_text(lowered, "lowered")
    program = build(fuse(lowered), record.memory_budget)
    program.rows = tuple(n.op.name for n in graph.nodes)
    del held
    return Explanation(recorded, text, program)


def _title(step: Any) -> str:
    if isinstance(step, Region):
        dims = (
            " x ".join(f"({n})" if d in step.reduced else str(n) for d, n in enumerate(step.dims))
            or "1"
        )
        return f"kernel over {dims}"
    return f"{step.node.op.name} {list(step.node.shape)}"


def _lines(step: Any) -> list[str]:
    if not isinstance(step, Region):
        carried = [row for region in step.epilogues for row in _lines(region)]
        return [
            *[
                f"{'x'.join(map(str, s.shape))} {s.dtype.name}"
                for s in step.node.src
                if type(s) is Node
            ][:3],
            *carried,
        ]
    names = [n.op.name for n in step.members if n.op.name not in ("copy", "cast")]
    rows, line = [], ""
    for name in names:
        if len(line) + len(name) > 42:
            rows.append(line)
            line = ""
        line += name + " "
    rows.append(line)
    return rows[:6] + (["..."] if len(rows) > 6 else [])


def _picture(program: Program) -> str:
    """Steps in layers by dependence; an arrow for each value that goes through memory."""
    made: dict[int, int] = {}
    edges: list[tuple[int, int]] = []
    for k, task in enumerate(program.tasks):
        sources = {made[id(s)] for s in task.reads if id(s) in made}
        edges += [(s, k) for s in sorted(sources)]
        for s in task.writes:
            made[id(s)] = k
    boxes = []
    for k, step in enumerate(program.order):
        kind = "region" if isinstance(step, Region) else step.kind
        boxes.append(Box(f"{k}. {_title(step)}", _lines(step), _COLOURS.get(kind, "#eee")))
    return layered(boxes, edges)
