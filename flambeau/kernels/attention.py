"""Attention on the CPU: which calls have a kernel, its module, and the words it is given."""

from __future__ import annotations

import hashlib
import math
import struct
from functools import cache
from typing import Any

from flambeau.codegen import vecmath
from flambeau.ir.graph import Node
from flambeau.kernels import attention_backward, attention_forward, attention_tiles
from flambeau.kernels.attention_problem import AXES, KEYS, RESULTS, Problem
from flambeau.kernels.attention_tiles import Machine, machine_of
from flambeau.passes.fuse import base_of
from flambeau.size import contiguous_strides

_DTYPES = {"float32": "f32"}
#: parallel units that a backward pass is cut into where heads are few
_UNITS = 16
_MOST_SHARES = 8


def problem_of(node: Node) -> Problem | None:
    """The kernel that computes a node, or None where its body must."""
    backward = node.op.name == "_attention_backward"
    how = node.attrs[node.op.parameters.index("how")]
    named = operands(node)
    dtype = named["q"].dtype.name
    if dtype not in _DTYPES or not math.isfinite(how.scale):
        return None
    if any(0 in s.shape for s in named.values()):
        return None
    if how.score or how.mask or how.keep or how.blocks or how.top:
        return None
    cover = "causal" if how.causal else "all"
    return Problem("backward" if backward else "forward", _DTYPES[dtype], cover)


def operands(node: Node) -> dict[str, Node]:
    """A node's tensors by name."""
    if node.op.name == "_attention":
        return dict(zip("qkv", node.src[:3], strict=True))
    some = () if node.attrs[1] is None else ("dlse",)
    names = ("g", *some, "o", "lse", "q", "k", "v")
    return dict(zip(names, node.src[: len(names)], strict=True))


@cache
def symbol(problem: Problem) -> str:
    """The name of a problem's kernel."""
    digest = hashlib.sha256(repr(problem).encode()).hexdigest()[:16]
    return f"fl_attention_{problem.direction}_{digest}"


def module_text(problem: Problem, machine: Machine) -> str:
    """LLVM IR of the module that defines a problem's kernel, called with a table of words."""
    math_: set[tuple[str, str, int]] = {("log", "f32", machine.lanes)}
    declared = attention_tiles.declarations(machine) | {
        "declare void @fl_parallel_for(ptr, ptr, i64, i64)",
        "declare ptr @malloc(i64)",
        "declare void @free(ptr)",
    }
    parts = [attention_forward.pack_panel(machine)]
    if problem.direction == "forward":
        parts += attention_forward.functions(machine, problem)
        parts.append(attention_forward.entry(machine, problem, symbol(problem)))
    else:
        parts += attention_backward.functions(machine, problem)
        parts.append(attention_backward.entry(machine, problem, symbol(problem)))
    declared |= vecmath.declarations(math_)
    return "\n".join([*sorted(declared), vecmath.definitions(math_), *parts])


def words(program: Any, node: Node, problem: Problem) -> list[Any]:
    """The entries of a node's table."""
    named = operands(node)
    q, k, v = (named[x].shape for x in "qkv")
    how = node.attrs[node.op.parameters.index("how")]
    known: dict[str, Any] = dict.fromkeys(problem.fields, 0)
    known.update(zip(("B", "Hq", "L", "E"), q, strict=True))
    known.update({"Hk": k[1], "S": k[2], "V": v[3], "chunks": 1})
    known["scale"] = struct.unpack("<q", struct.pack("<d", how.scale))[0]
    if problem.direction == "backward":
        heads = k[0] * k[1]
        shares = min(-(-_UNITS // heads), -(-k[2] // KEYS), _MOST_SHARES)
        known.update(chunks=shares, units=heads * shares)
    for which, name in enumerate(RESULTS[problem.direction]):
        known[name] = (program.result(node, which), 0)
    for name, s in named.items():
        base = base_of(s)
        strides, offset = s.attrs if s is not base else (contiguous_strides(s.shape), 0)
        known[name] = (program.storage(base), offset * s.dtype.itemsize)
        for axis, stride in zip(AXES.get(name, ""), strides, strict=False):
            known[f"{name}_{axis}"] = stride
    return [known[name] for name in problem.fields]


__all__ = ["Problem", "machine_of", "module_text", "problem_of", "symbol", "words"]
