"""Composite rows and library calls that kernels compute: the llvm target's dict of kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from flambeau.ir.graph import Node
from flambeau.kernels import attention, convolution, gemm_int8, order, recurrent, window_tables
from flambeau.runtime.cpuinfo import host_features


@dataclass(frozen=True)
class Claim:
    """How one node is computed.

    Attributes:
        symbol: the kernel, called with a table of words.
        text: makes the module that defines it, given LLVM's names of the CPU's features.
        needs: matrix products it calls.
        words: (program, node) -> the table's entries.
        scratch: node -> bytes of memory that the kernel needs for itself, `program.workspace`.
    """

    symbol: str
    text: Callable[[frozenset[str]], str]
    needs: tuple[str, ...]
    words: Callable[[Any, Node], list[Any]]
    scratch: Callable[[Node], int] = lambda node: 0


@cache
def _attention_claim(problem: attention.Problem) -> Claim:
    return Claim(
        attention.symbol(problem),
        lambda features: attention.module_text(problem, attention.machine_of(features)),
        (),
        lambda program, node: attention.words(program, node, problem),
    )


def _attention(node: Node) -> Claim | None:
    problem = attention.problem_of(node)
    return None if problem is None else _attention_claim(problem)


@cache
def _convolution_claim(dtype: str, pairs: bool) -> Claim:
    return Claim(
        convolution.symbol(dtype, pairs),
        lambda features: convolution.module_text(dtype, features, pairs),
        (),
        lambda program, node: convolution.plan(node).words(program),
        lambda node: convolution.plan(node).scratch(),
    )


def _convolution(node: Node) -> Claim | None:
    dtype = convolution.DTYPES.get(node.dtype.name)
    if dtype is None or not convolution.fits(node):
        return None
    return _convolution_claim(dtype, convolution.in_pairs(node))


@cache
def _window_claim(row: str, dtype: str) -> Claim:
    symbol, _, words, text = window_tables.KERNELS[row]
    return Claim(f"{symbol}_{dtype}", lambda features: text(dtype), (), words)


def _window(node: Node) -> Claim | None:
    _, fits, _, _ = window_tables.KERNELS[node.op.name]
    return _window_claim(node.op.name, node.dtype.name) if fits(node) else None


@cache
def _recurrent_claim(problem: recurrent.Problem) -> Claim:
    return Claim(
        problem.symbol,
        lambda features: recurrent.module_text(problem, features),
        (),
        lambda program, node: recurrent.words(program, node, problem),
        lambda node: recurrent.scratch(node, problem),
    )


def _recurrent(node: Node) -> Claim | None:
    problem = recurrent.problem_of(node)
    return None if problem is None else _recurrent_claim(problem)


@cache
def _rank_claim(dtype: str) -> Claim:
    return Claim(
        order.symbol(dtype),
        lambda features: order.module_text(dtype),
        (),
        order.words,
        order.scratch,
    )


def _rank(node: Node) -> Claim | None:
    return _rank_claim(node.src[0].dtype.name) if order.fits(node) else None


@cache
def _int8_claim() -> Claim:
    form = gemm_int8.form_of(host_features())
    return Claim(
        "fl_gemm_s8",
        gemm_int8.module_text,
        (),
        lambda program, node: gemm_int8.words(form, program, node),
        lambda node: gemm_int8.scratch(form, node),
    )


#: Row -> the kernels that may compute it: node -> its claim or None; the first one does.
CLAIMS: dict[str, tuple[Callable[[Node], Claim | None], ...]] = {
    "ranked": (_rank,),
    "middle_along": (_rank,),
    "_int_mm": (lambda node: _int8_claim(),),
    "_attention": (_attention,),
    "_attention_backward": (_attention,),
    "convolution": (_convolution,),
    "convolution_weight_gradient": (_convolution,),
    "_recurrence": (_recurrent,),
    "_recurrence_backward": (_recurrent,),
    **dict.fromkeys(window_tables.KERNELS, (_window,)),
}


def claim_of(node: Node) -> Claim | None:
    """The kernel that computes a composite node whole, or None."""
    for find in CLAIMS.get(node.op.name, ()):
        claim = find(node)
        if claim is not None:
            return claim
    return None


def claims(node: Node) -> bool:
    """Whether the CPU computes this composite node whole: by a kernel, or by running programs."""
    return node.op.calls or claim_of(node) is not None
