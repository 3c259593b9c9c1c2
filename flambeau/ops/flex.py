"""Attention with mods: the rows that every form of attention is recorded as, and their meaning.

The bodies are dense: they make all (L, S) scores. Targets with a kernel compute the same block by
block, with the mods inlined.

Shape suffixes: B batch, H query heads, L queries, S keys, E features, V features of values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from flambeau import dtypes
from flambeau.ops.contraction import matmul_batched
from flambeau.ops.elementwise import exp, log, reciprocal, select_where
from flambeau.ops.indexing import put_leading
from flambeau.ops.mods import Mod, derivative, places
from flambeau.ops.movement import transpose
from flambeau.ops.precision import cast, widen
from flambeau.ops.reduction import max_axes, restore, sum_axes
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite
from flambeau.tensor import Tensor


@dataclass(frozen=True)
class How:
    """What is static about a call of attention. Captured tensors follow its other sources: the
    block mask's eight, then those of `score`, `mask` and `keep`.

    Attributes:
        scale: what products of queries and keys are multiplied with.
        causal: query i sees the keys 0..i.
        score: score_mod, applied after scaling.
        mask: mask_mod; where it is False there is no key.
        keep: mask_mod of dropout: where it is False, a probability counts as 0 but keeps its
            weight in the sum.
        keep_scale: what kept probabilities are multiplied with.
        blocks: queries and keys of a block of the block mask; None without one.
        top: whether the greatest score of each query is a third result.
    """

    scale: float
    causal: bool = False
    score: Mod | None = None
    mask: Mod | None = None
    keep: Mod | None = None
    keep_scale: float = 1.0
    blocks: tuple[int, int] | None = None
    top: bool = False

    def parts(self, captured: tuple[Any, ...]) -> tuple[Any, Any, Any, Any]:
        """The captured tensors of the block mask, of `score`, of `mask` and of `keep`."""
        found, at = [], 0
        for n in (
            0 if self.blocks is None else 8,
            *(0 if m is None else len(m.captured) for m in (self.score, self.mask, self.keep)),
        ):
            found.append(captured[at : at + n])
            at += n
        return tuple(found)  # type: ignore[return-value]

    def first_of_score(self) -> int:
        """The place of the first tensor that `score` captured."""
        return 0 if self.blocks is None else 8


def _last(x: Tensor, row: Any) -> Tensor:
    """A reduction over the last dimension, which is kept with size 1."""
    axes = (x.ndim - 1,)
    return restore(row(x, axes), x._shape, axes, True)


def _slots(score: Any, shape: tuple[int, ...], g: Any = None) -> list[Any]:
    """What a mod is given: the scores and, broadcasting, their places."""
    found = [score]
    for d, n in enumerate(shape):
        size = tuple(n if k == d else 1 for k in range(len(shape)))
        found.append(NAMES["arange"](n, dtype=dtypes.int32).reshape(size))
    return [*found, g]


def _covered(blocks: Any, sizes: tuple[int, int], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The places of a block mask's partial blocks and of its full ones, (B, H, L, S) bool."""
    found = []
    for number, indices in (blocks[:2], blocks[2:4]):
        count = -(-shape[3] // sizes[1])
        listed = NAMES["arange"](indices._shape[-1]) < number.unsqueeze(-1)
        same = indices.unsqueeze(-1) == NAMES["arange"](count)
        dense = (same & listed.unsqueeze(-1)).any(-2)
        b, h, rows, columns = dense._shape
        wide = dense.reshape(b, h, rows, 1, columns, 1).expand(
            b, h, rows, sizes[0], columns, sizes[1]
        )
        wide = wide.reshape(b, h, rows * sizes[0], columns * sizes[1])
        found.append(wide[:, :, : shape[2], : shape[3]])
    return found[0], found[1]


def _seen(how: How, captured: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    """Where there are keys, broadcasting to (B, H, L, S) bool, or None for everywhere."""
    blocks, _, of_mask, _ = how.parts(captured)
    slots = _slots(None, shape)
    seen = None if how.mask is None else how.mask.over(slots, of_mask)[0]
    if isinstance(seen, bool):
        seen = NAMES["full"]((1, 1, 1, 1), seen, dtype=dtypes.bool)
    if how.causal:
        below = slots[4] <= slots[3]
        seen = below if seen is None else seen & below
    if how.blocks is not None:
        partial, full = _covered(blocks, how.blocks, shape)
        seen = full | (partial if seen is None else partial & seen)
    return seen


def _products(a: Tensor, b: Tensor) -> Tensor:
    """a @ b where consecutive heads of `a` share a head of `b`."""
    groups = a._shape[1] // b._shape[1] if b._shape[1] else 1
    if groups == 1:
        return matmul_batched(a, b)
    x, h, m, n = a._shape
    found = matmul_batched(a.reshape(x, h // groups, groups, m, n), b.unsqueeze(2))
    return found.reshape(x, h, m, b._shape[-1])


def _shared(a: Tensor, b: Tensor, heads: int) -> Tensor:
    """a^T @ b summed over the heads that share a head."""
    found = matmul_batched(transpose(a, -2, -1), b)
    x, h, m, n = found._shape
    return found if h == heads else found.reshape(x, heads, h // heads, m, n).sum(2)


def _raw(query: Any, key: Any, how: How) -> Tensor:
    """scale * q @ k^T in float32 or wider."""
    return _products(widen(query), transpose(widen(key), -2, -1)) * how.scale


def _scores(raw: Tensor, how: How, captured: tuple[Any, ...], seen: Any) -> Tensor:
    """The scores that the exponential is taken of."""
    s_BHLS = raw
    if how.score is not None:
        of_score = how.parts(captured)[1]
        s_BHLS = how.score.over(_slots(raw, raw._shape), of_score)[0]
        if not isinstance(s_BHLS, Tensor):
            s_BHLS = NAMES["full"]((), s_BHLS, dtype=raw.dtype)
        if s_BHLS._shape != raw._shape:
            s_BHLS = s_BHLS.expand(raw._shape)
    return s_BHLS if seen is None else select_where(seen, s_BHLS, -math.inf)


def _kept(p: Tensor, how: How, captured: tuple[Any, ...]) -> Tensor:
    """Probabilities, or their cotangents, after dropout."""
    if how.keep is None:
        return p
    keep = how.keep.over(_slots(None, p._shape), how.parts(captured)[3])[0]
    return select_where(keep, p * how.keep_scale, 0.0)


@composite(keep=True, method=False, public=False)
def _attention(
    query: Tensor, key: Tensor, value: Tensor, how: How, *captured: Tensor
) -> tuple[Tensor, ...]:
    """softmax(score_mod(scale * q @ k^T)) @ v over the keys that are seen, and the log-sum-exp.

    Args:
        query: (B, H, L, E).
        key: (B, Hk, S, E); H is a multiple of Hk, consecutive query heads share a key head.
        value: (B, Hk, S, V).
        how: scale, mods, dropout and block sizes.
        captured: what `how` says: the block mask's tensors, the mods' tensors.

    Returns:
        (B, H, L, V) in the query's dtype; the natural log-sum-exp (B, H, L) in float32 or wider;
        with `how.top` the greatest score likewise. A query that sees no key gives 0 and -inf.
    """
    _check_sizes(query, key, value)
    raw = _raw(query, key, how)
    shape = raw._shape
    if not raw.numel():
        lowest = NAMES["full"](shape[:-1], -math.inf, dtype=raw.dtype)
        out = NAMES["zeros"](*shape[:-1], value._shape[-1], dtype=query.dtype)
        return (out, lowest, lowest.clone()) if how.top else (out, lowest)
    s_BHLS = _scores(raw, how, captured, _seen(how, captured, shape))
    greatest = _last(s_BHLS, max_axes)
    top = select_where(greatest == -math.inf, 0.0, greatest)  # a query that sees nothing
    p_BHLS = exp(s_BHLS - top)
    total = _last(p_BHLS, sum_axes)
    # scaled after the product: (L, V) numbers instead of (L, S)
    out = _products(_kept(p_BHLS, how, captured), widen(value))
    out = cast(out * select_where(total == 0.0, 0.0, reciprocal(total)), query.dtype)
    lse = (log(total) + top).reshape(shape[:-1])
    return (out, lse, greatest.reshape(shape[:-1])) if how.top else (out, lse)


@composite(keep=True, method=False, public=False)
def _attention_backward(
    g: Tensor,
    g_lse: Tensor | None,
    out: Tensor,
    lse: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    how: How,
    needs: tuple[int, ...],
    *captured: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of query, key, value and of the tensors `needs` that the score_mod captured.

    Probabilities are computed again from q, k and the log-sum-exp, never saved:
    P = exp(S - lse), dV = P^T dO, dP = dO V^T, dS = P * (dP - rowsum(O * dO) + dlse), and the
    gradient of the scores before score_mod is its vector-Jacobian product with dS;
    Dao et al., FlashAttention (arXiv:2205.14135), algorithm 4.

    Args:
        g: (B, H, L, V), cotangent of the result.
        g_lse: None or (B, H, L), cotangent of the log-sum-exp.
        out, lse: the results of `_attention`.
        needs: places among `captured`.

    Returns:
        The three gradients in their dtypes, then those of captured tensors in float32 or wider.
    """
    raw = _raw(query, key, how)
    shape = raw._shape
    s_BHLS = _scores(raw, how, captured, _seen(how, captured, shape))
    rows = lse.unsqueeze(-1)
    p_BHLS = exp(s_BHLS - select_where(rows == -math.inf, 0.0, rows))
    g_BHLV = widen(g)
    heads = key._shape[1]
    g_value = _shared(_kept(p_BHLS, how, captured), g_BHLV, heads)
    dp_BHLS = _kept(_products(g_BHLV, transpose(widen(value), -2, -1)), how, captured)
    delta = _last(widen(out) * g_BHLV, sum_axes)
    if g_lse is not None:
        delta = delta - g_lse.unsqueeze(-1)
    ds_BHLS = p_BHLS * (dp_BHLS - delta)
    found: list[Tensor] = []
    if how.score is not None:
        ds_BHLS, found = _through_mod(ds_BHLS, raw, how, needs, captured)
    ds_BHLS = ds_BHLS * how.scale
    g_query = _products(ds_BHLS, widen(key))
    g_key = _shared(ds_BHLS, widen(query), heads)
    return (
        cast(g_query, query.dtype), cast(g_key, key.dtype), cast(g_value, value.dtype), *found
    )  # fmt: skip


def _through_mod(
    ds_BHLS: Tensor, raw: Tensor, how: How, needs: tuple[int, ...], captured: tuple[Any, ...]
) -> tuple[Tensor, list[Tensor]]:
    """Cotangents of the scores before score_mod and of captured tensors, from those after it."""
    assert how.score is not None
    first, shape = how.first_of_score(), raw._shape
    known = derivative(how.score, frozenset(k - first for k in needs))
    of_score = how.parts(captured)[1]
    outs = known.mod.over(_slots(raw, shape, ds_BHLS), of_score)
    through = outs[0]
    if not isinstance(through, Tensor):
        through = NAMES["full"]((), through, dtype=raw.dtype)
    through = through if through._shape == shape else through.expand(shape)
    totals = {k: NAMES["zeros"](captured[k]._shape, dtype=widen(captured[k]).dtype) for k in needs}
    for table, which, indices in known.scatters:
        k = table + first
        value = cast(outs[which], totals[k].dtype)
        value = value if value._shape == shape else value.expand(shape)
        if not indices:
            totals[k] = totals[k] + value.sum()
            continue
        at = [i.expand(shape) for i in places(captured[k], [outs[i] for i in indices])]
        totals[k] = put_leading(totals[k], value, "add", *at)
    return through, [totals[k] for k in needs]


def _attention_vjp(
    gs: Any, outs: Any, query: Any, key: Any, value: Any, how: How, *captured: Any
) -> tuple[Any, ...]:
    g, g_lse = gs[0], gs[1]
    if g is None:
        g = NAMES["zeros"](*outs[0].shape, dtype=query.dtype)
    last = how.first_of_score() + (0 if how.score is None else len(how.score.captured))
    needs = tuple(
        k
        for k in range(how.first_of_score(), last)
        if captured[k].requires_grad and captured[k].dtype.category == 2
    )
    found = _attention_backward(
        g, g_lse, outs[0], outs[1], query, key, value, how, needs, *captured
    )
    rest: list[Any] = [None] * len(captured)
    for k, grad in zip(needs, found[3:], strict=True):
        rest[k] = cast(grad, captured[k].dtype)
    return (*found[:3], None, *rest)


_attention.vjp(_attention_vjp, saves="out0 out1 query key value captured")


def _flops(node: Any, first: int, of_query: int, of_value: int) -> int:
    """Floating-point operations of that many products over the query's features and over the
    value's, at each place of the (L, S) matrix that counts; source `first` is the query."""
    q, k, v = (s.shape for s in node.src[first : first + 3])
    places_ = math.prod(q[:-1]) * int(k[-2])
    work = 2 * places_ * (of_query * int(q[-1]) + of_value * int(v[-1]))
    return work // 2 if node.attrs[node.op.parameters.index("how")].causal else work


_attention.flops(lambda node: _flops(node, 0, 1, 1))
_attention_backward.flops(lambda node: _flops(node, 3 + (node.attrs[1] is not None), 3, 2))


def _check_sizes(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Refuse features and keys that do not pair up."""
    if query.dtype.category != 2:
        raise RuntimeError(f"attention is computed in floating-point dtypes, got {query.dtype}")
    if query._shape[-1] != key._shape[-1] or key._shape[-2] != value._shape[-2]:
        raise RuntimeError(
            f"Expected the features of query and key, and the keys of key and value,"
            f" to agree, but got query {list(query.shape)}, key {list(key.shape)} "
            f"and value {list(value.shape)}"
        )
