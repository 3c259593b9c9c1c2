"""Forms of attention as the two small functions that make them: a score_mod and a mask_mod.

Each variant is a function of its settings that gives `Mods`; what is registered here is tested
against dense float64 attention, forward and with all gradients, and drawn in docs/attention.md. The
functions use methods and operators of their arguments alone, so they work on single places, as in a
kernel, and on whole tensors of them.

    mods = VARIANTS["sliding_window"].make(window=4096)
    out = mods.attend(query, key, value)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flambeau
from flambeau.nn.attention.block_mask import MaskMod, and_masks, create_block_mask
from flambeau.nn.attention.flex_attention import ScoreMod, flex_attention
from flambeau.ops.mods import trace
from flambeau.tensor import Tensor


class Mods(NamedTuple):
    """What makes a form of attention.

    Attributes:
        score: (score, b, h, q_idx, kv_idx) -> score, or None.
        mask: (b, h, q_idx, kv_idx) -> bool, or None.
    """

    score: ScoreMod | None = None
    mask: MaskMod | None = None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Any:
        """`flex_attention` with these mods.

        The block mask is made anew at every call, though decided once; where that matters, make
        it with `create_block_mask`.

        Args:
            query: (B, Hq, L, E).
            key: (B, Hkv, S, E).
            value: (B, Hkv, S, Ev).
            options: further arguments of `flex_attention`.

        Returns:
            What `flex_attention` returns.
        """
        mask = None
        if self.mask is not None:
            reads = trace(self.mask, flambeau.float32, False)[0].slots
            batch = query.shape[0] if "b" in reads else None
            heads = query.shape[1] if "h" in reads else None
            mask = create_block_mask(self.mask, batch, heads, query.shape[2], key.shape[2])
        return flex_attention(query, key, value, self.score, mask, **options)


@dataclass(frozen=True)
class Variant:
    """A form of attention.

    Attributes:
        name: the name of `make`.
        make: the settings -> `Mods`.
        paper: where it comes from.
        sample: (draw, (B, H, L, S)) -> settings to test and to draw it with; `draw(*shape)` gives
            a tensor of small numbers, which may be learned.
    """

    name: str
    make: Callable[..., Mods]
    paper: str
    sample: Callable[[Callable[..., Tensor], tuple[int, int, int, int]], dict[str, Any]]

    @property
    def meaning(self) -> str:
        """The first paragraph of its description."""
        return " ".join((self.make.__doc__ or "").split("\n\n")[0].split())


#: The variants by name.
VARIANTS: dict[str, Variant] = {}


def variant(
    paper: str, sample: Callable[..., dict[str, Any]] = lambda draw, sizes: {}
) -> Callable[[Callable[..., Mods]], Callable[..., Mods]]:
    """Register a form of attention; see `Variant`."""

    def register(make: Callable[..., Mods]) -> Callable[..., Mods]:
        VARIANTS[make.__name__] = Variant(make.__name__, make, paper, sample)
        return make

    return register


def _below(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return q_idx >= kv_idx


@variant("Vaswani et al., Attention Is All You Need (arXiv:1706.03762)")
def causal() -> Mods:
    """A query sees the keys up to its own."""
    return Mods(mask=_below)


@variant(
    "Pope et al., Efficiently Scaling Transformer Inference (arXiv:2211.05102)",
    lambda draw, sizes: {"cached": flambeau.tensor(sizes[3] - sizes[2])},
)
def cached(cached: Tensor) -> Mods:
    """Causal, of queries that follow `cached` keys, as in decoding and in chunked prefill."""
    return Mods(mask=lambda b, h, q, k: k <= q + cached)


@variant(
    "Child et al., Generating Long Sequences with Sparse Transformers (arXiv:1904.10509); "
    "Jiang et al., Mistral 7B (arXiv:2310.06825)",
    lambda draw, sizes: {"window": 6},
)
def sliding_window(window: int) -> Mods:
    """A query sees its own key and the `window` keys before it."""
    return Mods(mask=lambda b, h, q, k: (k <= q) & (q - k <= window))


@variant(
    "Beltagy et al., Longformer (arXiv:2004.05150)",
    lambda draw, sizes: {"window": 4, "tokens": 3},
)
def global_window(window: int, tokens: int) -> Mods:
    """The first `tokens` see and are seen by all; the others see `window` keys on either side."""
    return Mods(mask=lambda b, h, q, k: (abs(q - k) <= window) | (k < tokens) | (q < tokens))


@variant(
    "Beltagy et al., Longformer (arXiv:2004.05150), dilated sliding window",
    lambda draw, sizes: {"window": 4, "step": 3},
)
def dilated(window: int, step: int) -> Mods:
    """A query sees every `step`-th key before its own, `window` of them."""
    return Mods(mask=lambda b, h, q, k: (k <= q) & (q - k <= window * step) & ((q - k) % step == 0))


@variant(
    "Child et al., Generating Long Sequences with Sparse Transformers (arXiv:1904.10509), "
    "fixed attention",
    lambda draw, sizes: {"step": 5},
)
def strided(step: int) -> Mods:
    """A query sees the keys of its own stretch of `step`, and the last one of each before."""
    return Mods(
        mask=lambda b, h, q, k: (k <= q) & ((q // step == k // step) | (k % step == step - 1))
    )


@variant(
    "Raffel et al., Exploring the Limits of Transfer Learning (arXiv:1910.10683), figure 4",
    lambda draw, sizes: {"prefix": 4 + 3 * flambeau.arange(sizes[0])},
)
def prefix_lm(prefix: Tensor) -> Mods:
    """All queries see the first `prefix[b]` keys; beyond these, causal."""
    return Mods(mask=lambda b, h, q, k: (k <= q) | (k < prefix[b]))


@variant(
    "Krell et al., Efficient Sequence Packing without Cross-contamination (arXiv:2107.02027)",
    lambda draw, sizes: {"document": flambeau.arange(max(sizes[2:])) * 3 // max(sizes[2:])},
)
def document(document: Tensor) -> Mods:
    """Causal within the document that a position belongs to, `document[position]`."""
    return Mods(mask=lambda b, h, q, k: (document[q] == document[k]) & (k <= q))


@variant(
    "Zhou et al., Transfusion (arXiv:2408.11039), figure 4",
    lambda draw, sizes: {
        "image": (flambeau.arange(max(sizes[2:])) % 11 > 6).long()
        * (1 + flambeau.arange(max(sizes[2:])) // 11)
    },
)
def transfusion(image: Tensor) -> Mods:
    """Causal, but the patches of one image see one another; `image[position]` is 0 for text."""
    return Mods(mask=lambda b, h, q, k: (k <= q) | ((image[q] == image[k]) & (image[q] > 0)))


@variant(
    "Hassani et al., Neighborhood Attention Transformer (arXiv:2204.07143)",
    lambda draw, sizes: {"width": 8, "radius": 1},
)
def neighbourhood(width: int, radius: int) -> Mods:
    """On an image whose rows are `width` wide: a pixel sees those at most `radius` away."""
    return Mods(
        mask=lambda b, h, q, k: (
            (abs(q // width - k // width) <= radius) & (abs(q % width - k % width) <= radius)
        )
    )


@variant(
    "Miao et al., SpecInfer (arXiv:2305.09781); Cai et al., Medusa (arXiv:2401.10774)",
    lambda draw, sizes: {
        "ancestors": flambeau.eye(sizes[2], dtype=flambeau.bool)
        | (((flambeau.arange(sizes[2]) + 1) // 4 - 1)[:, None] == flambeau.arange(sizes[2])),
        "cached": sizes[3] - sizes[2],
    },
)
def tree(ancestors: Tensor, cached: int) -> Mods:
    """A draft's tokens form a tree: each sees the `cached` keys, itself and its ancestors.

    Args:
        ancestors: (L, L) bool, [token, other]: whether the other is the token or above it.
        cached: the keys before the draft's.
    """
    return Mods(mask=lambda b, h, q, k: (k < cached) | ancestors[q, (k - cached).clamp(min=0)])


@variant(
    "Kwon et al., PagedAttention (arXiv:2309.06180)",
    lambda draw, sizes: {
        "page": (flambeau.arange(-(-sizes[3] // 4)) * 5 + 2 * flambeau.arange(sizes[0])[:, None])
        % -(-sizes[3] // 4),
        "size": 4,
        "length": sizes[3] - 2 - flambeau.arange(sizes[0]),
    },
)
def paged(page: Tensor, size: int, length: Tensor) -> Mods:
    """Keys lie in pages of `size`: those at page p are sequence b's stretch `page[b, p]`.

    Args:
        page: (B, pages) int, -1 where a page is not the sequence's.
        size: keys of a page.
        length: (B,), how many keys each sequence has.
    """

    def seen(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        stretch = page[b, k // size]
        return (stretch >= 0) & (stretch * size + k % size < length[b])

    return Mods(mask=seen)


@variant(
    "Liu et al., Ring Attention with Blockwise Transformers (arXiv:2310.01889)",
    lambda draw, sizes: {
        "first_query": flambeau.tensor(sizes[3]),
        "first_key": flambeau.tensor(sizes[3] - 3),
    },
)
def ring(first_query: Tensor, first_key: Tensor) -> Mods:
    """Causal between a stretch of queries and one of keys that lie elsewhere in the sequence; what
    the stretches of keys give is put together by `merged`."""
    return Mods(mask=lambda b, h, q, k: q + first_query >= k + first_key)


@variant(
    "Press et al., Train Short, Test Long (arXiv:2108.12409)",
    lambda draw, sizes: {"slopes": draw(sizes[1])},
)
def alibi(slopes: Tensor) -> Mods:
    """Causal; `slopes[h]` times the distance is taken off the score."""
    return Mods(lambda s, b, h, q, k: s - slopes[h] * (q - k), _below)


@variant(
    "Gemma Team, Gemma 2 (arXiv:2408.00118), section 2",
    lambda draw, sizes: {"cap": 1.5},
)
def soft_cap(cap: float) -> Mods:
    """Scores are kept between -cap and cap by a hyperbolic tangent."""
    return Mods(lambda s, b, h, q, k: (s * (1 / cap)).tanh() * cap)


@variant(
    "Raffel et al., Exploring the Limits of Transfer Learning (arXiv:1910.10683), section 2.1; "
    "Shaw et al. (arXiv:1803.02155)",
    lambda draw, sizes: {"bias": draw(sizes[1], 9)},
)
def relative_bias(bias: Tensor) -> Mods:
    """A learned number for each head and distance, (H, 2 n + 1), is added; beyond n, the last."""
    far = bias.shape[1] // 2
    return Mods(lambda s, b, h, q, k: s + bias[h, (k - q).clamp(-far, far) + far])


@variant(
    "Lin et al., Forgetting Transformer (arXiv:2503.02130); Dao and Gu, Transformers are SSMs "
    "(arXiv:2405.21060), equation 6, whose decay this is, before the softmax",
    lambda draw, sizes: {"gates": draw(sizes[0], sizes[1], max(sizes[2:])).cumsum(-1)},
)
def decay(gates: Tensor) -> Mods:
    """Causal; a key fades by the gates between it and the query: `gates`, (B, H, S), is the sum of
    log-gates up to each position, all of them learned."""
    return Mods(lambda s, b, h, q, k: s + gates[b, h, q] - gates[b, h, k], _below)


@variant(
    "Dong et al., Flex Attention (arXiv:2412.05496), section 3.3",
    lambda draw, sizes: {
        "mods": sliding_window(6),
        "sequence": flambeau.arange(max(sizes[2:])) // 20,
        "start": flambeau.arange(-(-max(sizes[2:]) // 20)) * 20,
    },
)
def nested(mods: Mods, sequence: Tensor, start: Tensor) -> Mods:
    """Sequences that lie one after another, each with `mods` in its own positions.

    Args:
        mods: written for one sequence.
        sequence: (T,) int, which sequence a position belongs to.
        start: (N,) int, where each begins.
    """

    def own(of: Any) -> Any:
        """A mod in the sequence's own positions; the batch entry is the sequence's number."""
        return lambda *x: of(
            *x[:-4], sequence[x[-2]], x[-3], x[-2] - start[sequence[x[-2]]],
            x[-1] - start[sequence[x[-1]]],
        )  # fmt: skip

    def same(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return sequence[q] == sequence[k]

    mask = same if mods.mask is None else and_masks(same, own(mods.mask))
    return Mods(None if mods.score is None else own(mods.score), mask)


def merged(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Attention to all keys from what each part of them gave.

    out = sum_i exp(lse_i - lse) out_i with lse = log sum_i exp(lse_i).

    Args:
        parts: (result (.., L, Ev), log-sum-exp (.., L)) of each part.

    Returns:
        The result and the log-sum-exp.

    Reference:
        Liu et al., Ring Attention with Blockwise Transformers (arXiv:2310.01889).
    """
    sums = flambeau.stack([lse for _, lse in parts])
    total = flambeau.logsumexp(sums, 0)
    safe = flambeau.where(total == float("-inf"), 0.0, total)
    shares = (sums - safe).exp().unsqueeze(-1)
    return sum((out * share for (out, _), share in zip(parts[1:], shares[1:], strict=True)),
               start=parts[0][0] * shares[0]), total  # fmt: skip


__all__ = ["VARIANTS", "Mods", "Variant", "merged", "variant"]
