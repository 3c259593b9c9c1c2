"""Causal attention: scaled_dot_product_attention and compiled flex_attention with ALiBi."""

import numpy as np
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

#: form, queries, features of a head; 8 heads
VARIANTS = (
    "forward-512-64", "forward-2048-64", "forward-2048-128", "training-512-64",
    "training-2048-64", "training-2048-128", "alibi-2048-64", "alibi-2048-128",
)  # fmt: skip
QUICK = ("forward-2048-64", "training-2048-64")


def setup(variant, compile):
    """The step of one form and size; the work counts the keys that are seen."""
    form, length, features = variant.split("-")
    n, e, heads = int(length), int(features), 8
    random = np.random.default_rng(0)
    q, k, v, g = (
        torch.tensor(random.standard_normal((1, heads, n, e), dtype=np.float32)) for _ in range(4)
    )
    slopes = torch.tensor([2.0**-h for h in range(1, heads + 1)])
    work = 4 * heads * e * n * (n + 1) // 2
    if form == "alibi":
        mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, n, n, device="cpu")

        def attend(q, k, v):
            return flex_attention(
                q, k, v, lambda s, b, h, i, j: s + slopes[h] * (j - i), block_mask=mask
            )

        attend = compile(attend)
    else:
        attend = compile(
            lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=True
            )
        )
    if form != "training":

        def step():
            with torch.no_grad():
                return attend(q, k, v).numpy()[0, -1, -1, -1]

        return {"step": step, "work": work, "unit": "FLOP"}
    for x in (q, k, v):
        x.requires_grad_()

    def train():
        out = attend(q, k, v)
        grads = torch.autograd.grad(out, (q, k, v), g)
        return grads[0].numpy()[0, -1, -1, -1]

    return {"step": train, "work": work * 7 // 2, "unit": "FLOP"}
