"""The CPU device: compiles a graph to a program and runs it."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from typing import Any

from flambeau import record
from flambeau.codegen import emitted
from flambeau.ir.graph import Graph
from flambeau.ir.interpret import interpret
from flambeau.ir.text import graph_text, plan_text
from flambeau.kernels import claims
from flambeau.passes.fuse import fuse
from flambeau.passes.pipeline import lower
from flambeau.runtime import family, profile, stored
from flambeau.runtime.generation import Generated, generate
from flambeau.runtime.host import array_of
from flambeau.runtime.kernels import module
from flambeau.runtime.memory import Buffer
from flambeau.runtime.program import Program
from flambeau.runtime.stepping import forget as forget_steps


class Interpreted:
    """A program run node by node in NumPy: the oracle, and `FLAMBEAU_TARGET=interpret`."""

    resized = False

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, inputs: list[Any], numbers: list[Any], homes: list[Any]) -> list[Any]:
        """Execute; -> one buffer per output (its home where it has one)."""
        arrays = [
            array_of(b.ptr, n.shape, n.dtype)
            for b, n in zip(inputs, self.graph.inputs, strict=True)
        ]
        values = interpret(self.graph, arrays, numbers)
        buffers = []
        for (node, _), value, home in zip(self.graph.outputs, values, homes, strict=True):
            buffer = home if home is not None else Buffer(node.nbytes)
            if node.nbytes:
                array_of(buffer.ptr, node.shape, node.dtype)[...] = value
            buffers.append(buffer)
        return buffers


def _wanted() -> frozenset[str]:
    return frozenset(os.environ.get("FLAMBEAU_PRINT", "").replace(" ", "").split(",")) - {""}


def overwrite(home: Buffer, buffer: Buffer) -> None:
    """Copy a result into the memory it belongs in."""
    ctypes.memmove(home.ptr, buffer.ptr, buffer.nbytes)


def forget() -> None:
    """Forget what was generated for graphs."""
    family.clear()
    emitted.forget()
    forget_steps()


def generated(graph: Graph) -> Generated:
    """The fused plan of a graph, with its kernels."""
    key = None if _wanted() else stored.key_of(graph)
    if key is not None:
        with profile.span("look for the plan", "compile", nodes=len(graph.nodes)):
            found = stored.load(key)
        if found is not None:
            return found
    with profile.span("rewrite", "compile", nodes=len(graph.nodes)):
        lowered = lower(graph, claims.claims)
    if "lower" in _wanted():
        print(graph_text(lowered, "lowered"), file=sys.stderr)
    with profile.span("fuse", "compile", nodes=len(lowered.nodes)):
        plan = fuse(lowered)
    with profile.span("generate", "compile", steps=len(plan.steps)):
        made = generate(plan)
    if key is not None:
        stored.store(key, made)
    return made


def compile(graph: Graph, key: Any) -> Any:
    """A program for a graph. `FLAMBEAU_PRINT` names stages to print: graph, lower, fuse, llvm,
    sizes."""
    show = _wanted()
    if "graph" in show:
        print(graph_text(graph, "recorded"), file=sys.stderr)
    if os.environ.get("FLAMBEAU_TARGET") == "interpret":
        lowered = lower(graph)
        if "lower" in show:
            print(graph_text(lowered, "lowered"), file=sys.stderr)
        return Interpreted(lowered)
    made, from_template = family.find(graph, generated)
    with profile.span("plan", "compile", steps=len(made.plan.steps)):
        program = Program(made, record.memory_budget)
    program.resized = from_template
    program.rows = tuple(n.op.name for n in graph.nodes)
    if program.budget is not None and program.peak_bytes > program.budget:
        warnings.warn(
            f"a program does not fit the memory budget of {program.budget} bytes: it uses "
            f"{program.peak_bytes} bytes at least, {program.fixed_bytes} of them for its inputs "
            f"and results ({program.unlimited_bytes} bytes without a budget)",
            stacklevel=2,
        )
    if "fuse" in show:
        print(plan_text(program.plan, program.order), file=sys.stderr)
    if "llvm" in show:
        for kernel in {k.name: k for k in program.kernels.values()}.values():
            print(module(kernel), file=sys.stderr)
    return program
