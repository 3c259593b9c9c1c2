"""Attention on the CPU: which calls have a kernel, its module, and the words it is given."""

from __future__ import annotations

import hashlib
import math
from functools import cache
from typing import Any

from flambeau.codegen import vecmath
from flambeau.ir.graph import Node
from flambeau.kernels import (
    attention_backward,
    attention_few,
    attention_forward,
    attention_rows,
    attention_tiles,
)
from flambeau.kernels.attention_mods import supported
from flambeau.kernels.attention_problem import AXES, BLOCKS, KEYS, RESULTS, Problem
from flambeau.kernels.attention_tiles import Machine, machine_of
from flambeau.kernels.emit import Module, float_bits
from flambeau.ops.flex import How
from flambeau.ops.mods import derivative
from flambeau.size import contiguous_strides

#: rows that kernels for few of them are made for
_ROWS_HELD = (1, 2, 4, 8, 16)
#: keys from which on they pay; tiles round scores as the backward pass does, which makes few keys'
#: derivatives closer
_HELD_KEYS = 64
#: queries of a head up to which heads that share keys are packed into tiles together
_FEW = 64
#: rows of a tile, units that a forward pass with few queries is cut into, and a unit's least keys
_ROWS = 128
_PARTS = 32
_LEAST_KEYS = 512
_DTYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
#: parallel units that a backward pass is cut into where heads are few, by shares of their keys,
#: each of which has a gradient of the queries: how many, and about how many bytes
_UNITS = 16
_LEAST_SHARES, _MOST_SHARES = 4, 8
_COPIES = 1 << 26
#: how many copies of captured tensors' gradients are summed side by side, and their bytes in all
_GROUPS = 16
_MOST_SUMS = 1 << 28


def problem_of(node: Node) -> Problem | None:
    """The kernel that computes a node, or None where its body must."""
    backward = node.op.name == "_attention_backward"
    how: How = node.attrs[node.op.parameters.index("how")]
    named = operands(node)
    dtype = named["q"].dtype.name
    if dtype not in _DTYPES or not math.isfinite(how.scale):
        return None
    if any(s.dtype.name != dtype for x, s in named.items() if "lse" not in x):
        return None
    if any(0 in s.shape for s in named.values()):
        return None
    mods = (how.score, how.mask, how.keep)
    if any(mod is not None and not supported(mod) for mod in mods):
        return None
    captured = how.parts(node.src[len(named) :])[1:]
    for mod, sources in zip(mods, captured, strict=True):
        if mod is not None and [s.dtype for s in sources] != [d for _, d in mod.captured]:
            return None
    cover = "causal" if how.causal else "all" if how.blocks is None else "blocks"
    if how.causal and how.blocks is not None:
        return None
    needs: tuple[int, ...] = ()
    if backward:
        needs = tuple(
            k - how.first_of_score() for k in node.attrs[node.op.parameters.index("needs")]
        )
        numbers = sum(math.prod(how.score.captured[k][0]) for k in needs) if how.score else 0
        if 4 * numbers * _GROUPS > _MOST_SUMS:
            return None
        if how.score is not None and not supported(derivative(how.score, frozenset(needs)).mod):
            return None
    return Problem(
        "backward" if backward else "forward", _DTYPES[dtype], cover, how.score, how.mask, how.keep,
        needs, how.top and not backward, 0 if backward else few(node),
    )  # fmt: skip


def few(node: Node) -> int:
    """The rows of a unit, at most, where a forward pass is split over keys, else 0; `_FEW` or more
    are all the same."""
    how: How = node.attrs[node.op.parameters.index("how")]
    (_, heads, length, _), (_, shared, _, _) = node.src[0].shape, node.src[1].shape
    if how.causal:
        return 0
    if how.blocks is not None:  # the rows of a unit must see the same blocks
        lists = node.src[3].shape
        if lists[1] > 1 or length > how.blocks[0]:
            return 0
    rows = heads // shared * length
    if rows <= _ROWS_HELD[-1] or (length <= _FEW and heads > shared) or shares(node) > 1:
        if node.src[1].shape[2] < _HELD_KEYS:
            return _FEW
        return next((n for n in _ROWS_HELD if rows <= n), _FEW)
    return 0


def shares(node: Node) -> int:
    """How many shares the keys of a head are cut into where there are few queries."""
    (batch, heads, length, _), (_, shared, keys, _) = node.src[0].shape, node.src[1].shape
    units = batch * shared * -(-heads // shared * length // _ROWS)
    return max(1, min(-(-_PARTS // units), keys // _LEAST_KEYS))


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
    digest = hashlib.sha256(problem.text().encode()).hexdigest()[:16]
    return f"fl_attention_{problem.direction}_{digest}"


def module_text(problem: Problem, machine: Machine) -> str:
    """LLVM IR of the module that defines a problem's kernel, called with a table of words."""
    machine = machine.of(problem.dtype)
    if problem.few:
        machine = machine.fitting(problem.few, problem.keep is None)
    module = Module()
    module.math.add(("log", "f32", machine.lanes))
    declared = attention_tiles.declarations(machine) | {
        "declare void @fl_parallel_for(ptr, ptr, i64, i64)",
        "declare ptr @malloc(i64)",
        "declare void @free(ptr)",
    }
    parts: list[str] = []
    if problem.direction == "forward":
        form = attention_few if problem.few else attention_forward
        parts += attention_forward.shared(machine, problem, module)
        if machine.fold:
            parts += attention_rows.functions(machine, problem)
        else:
            parts += attention_forward.functions(machine, problem, module)
        parts += [form.task(machine, problem), form.entry(machine, problem, symbol(problem))]
        if problem.few:
            parts.append(attention_few.combine(machine, problem))
    else:
        parts += attention_backward.functions(machine, problem, module)
        parts.append(attention_backward.entry(machine, problem, symbol(problem)))
    declared |= module.declared | set(vecmath.declarations(module.math))
    return "\n".join([*sorted(declared), vecmath.definitions(module.math), *parts])


def words(program: Any, node: Node, problem: Problem) -> list[Any]:
    """The entries of a node's table."""
    named = operands(node)
    q, k, v = (named[x].shape for x in "qkv")
    how: How = node.attrs[node.op.parameters.index("how")]
    known: dict[str, Any] = dict.fromkeys(problem.fields, 0)
    known.update(zip(("B", "Hq", "L", "E"), q, strict=True))
    known.update({"Hk": k[1], "S": k[2], "V": v[3], "chunks": 1, "groups": 1})
    known["BQ"], known["BK"] = how.blocks or (q[2], k[2])
    for name, x in (("scale", how.scale), ("keep_scale", how.keep_scale)):
        known[name] = float_bits(x)
    if problem.few:
        known["chunks"] = shares(node)
    if problem.direction == "backward":
        heads = k[0] * k[1]
        copies = max(_COPIES // (4 * math.prod(q)), _LEAST_SHARES)
        parts = min(-(-_UNITS // heads), -(-k[2] // KEYS), _MOST_SHARES, copies)
        known.update(chunks=parts, units=heads * parts, groups=heads * parts)
        if problem.needs:
            known["groups"] = min(heads * parts, _GROUPS)
    results = [n for n in RESULTS[problem.direction] if n != "top" or problem.top]
    for which, name in enumerate(results):
        known[name] = (program.result(node, which), 0)
    for name, s in named.items():
        known[name], strides = _memory(program, s)
        for axis, stride in zip(AXES[name], strides, strict=True):
            known[f"{name}_{axis}"] = stride
    captured = node.src[len(named) :]
    if problem.cover == "blocks":
        for name, s in zip(BLOCKS, captured[:8], strict=True):
            known[name], strides = _memory(program, s)
            for axis, n, stride in zip("bhr", s.shape, strides, strict=False):
                known[f"{name}_{axis}"] = stride if n > 1 or axis == "r" else 0
    for name, sources in zip(("score", "mask", "keep"), how.parts(captured)[1:], strict=True):
        for number, s in enumerate(sources):
            known[f"{name}{number}"], strides = _memory(program, s)
            for d, (n, stride) in enumerate(zip(s.shape, strides, strict=True)):
                known[f"{name}{number}_n{d}"], known[f"{name}{number}_s{d}"] = n, stride
    for which, k_ in enumerate(problem.needs):
        shape = captured[k_ + how.first_of_score()].shape
        known[f"grad{k_}"] = (program.result(node, len(results) + which), 0)
        known[f"size{k_}"] = math.prod(shape)
        for d, stride in enumerate(contiguous_strides(shape)):
            known[f"score{k_}_d{d}"] = stride
    return [known[name] for name in problem.fields]


def _memory(program: Any, s: Node) -> tuple[tuple[Any, int], tuple[int, ...]]:
    """A source's memory and strides."""
    store, offset, strides = program.memory(s)
    return (store, offset), strides


__all__ = ["Problem", "machine_of", "module_text", "problem_of", "symbol", "words"]
