"""Composite rows that the CPU computes whole: the llvm target's dict of kernels."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flambeau.ir.graph import Node
from flambeau.kernels import attention


@dataclass(frozen=True)
class Claim:
    """How one row is computed.

    Attributes:
        symbol: the kernel, called with a table of words.
        text: makes the module that defines it.
        needs: matrix products it calls.
        fits: whether a node can be computed by it.
        words: (program, node) -> the table's entries.
    """

    symbol: str
    text: Callable[[], str]
    needs: tuple[str, ...]
    fits: Callable[[Node], bool]
    words: Callable[[Any, Node], list[Any]]


def _plain(node: Node) -> bool:
    """float32 of 2 to 6 dimensions without an empty one."""
    return all(
        s.dtype.name == "float32" and 2 <= len(s.shape) <= 6 and 0 not in s.shape for s in node.src
    )


def _forward_fits(node: Node) -> bool:
    return len(node.src) == 3 and _plain(node) and 0 not in node.attrs[-1][0][0]


def _backward_fits(node: Node) -> bool:
    g, _, _, q, k, v = node.src
    batch = q.shape[:-2]
    return _plain(node) and all(x.shape[:-2] == batch for x in (g, k, v))


def float_bits(x: float) -> int:
    """The bits of a float64 as the word of a table."""
    return struct.unpack("<q", struct.pack("<d", x))[0]


def _attention_words(program: Any, node: Node, direction: str) -> list[Any]:
    if direction == "forward":
        inputs = dict(zip("qkv", node.src, strict=True))
        batch = node.attrs[-1][0][0][:-2]
        scale, causal = node.attrs[7], node.attrs[6]
        results: tuple[str, ...] = ("out", "lse")
    else:
        inputs = dict(zip(("g", "o", "lse", "q", "k", "v"), node.src, strict=True))
        batch = inputs["q"].shape[:-2]
        scale, causal = node.attrs[7], node.attrs[6]
        results = ("dq", "dk", "dv")
    length, features = inputs["q"].shape[-2:]
    keys = inputs["k"].shape[-2]
    values = inputs["v"].shape[-1]
    blocks = -(-length // attention.BLOCK)
    count = 1
    for n in batch:
        count *= n
    units = count * blocks if direction == "forward" else count
    work = length * keys * (features + values) // (blocks if direction == "forward" else 1)
    known: dict[str, Any] = {
        "L": length,
        "S": keys,
        "E": features,
        "V": values,
        "scale": float_bits(float(scale)),
        "causal": int(causal),
        "units": units,
        "grain": max(1, (1 << 16) // max(work, 1)),
        "blocks": blocks,
    }
    for d, n in enumerate([*batch, *[1] * (attention.BATCH_DIMS - len(batch))]):
        known[f"n{d}"] = n
    for which, name in enumerate(results):
        known[name] = (program.result(node, which), 0)
    for name, s in inputs.items():
        store, offset, strides = program.operand(s, batch)
        known[name] = (store, offset)
        padded = [*strides[:-2], *[0] * (attention.BATCH_DIMS - len(batch)), *strides[-2:]]
        for d in range(attention.BATCH_DIMS):
            known[f"{name}_{d}"] = padded[d]
        known[f"{name}_r"], known[f"{name}_c"] = padded[-2:]
    return [known[name] for name in attention.fields(direction)]


#: Row -> the kernels that may compute it; the first that fits a node does.
CLAIMS: dict[str, tuple[Claim, ...]] = {
    "_attention": (
        Claim(
            "fl_attention_forward",
            attention.module_text,
            ("fl_gemm_f32",),
            _forward_fits,
            lambda program, node: _attention_words(program, node, "forward"),
        ),
    ),
    "_attention_backward": (
        Claim(
            "fl_attention_backward",
            attention.module_text,
            ("fl_gemm_f32",),
            _backward_fits,
            lambda program, node: _attention_words(program, node, "backward"),
        ),
    ),
}


def claim_of(node: Node) -> Claim | None:
    """The kernel that computes a composite node whole, or None."""
    for claim in CLAIMS.get(node.op.name, ()):
        if claim.fits(node):
            return claim
    return None


def claims(node: Node) -> bool:
    """Whether the CPU computes this composite node by a kernel of its own."""
    return claim_of(node) is not None
