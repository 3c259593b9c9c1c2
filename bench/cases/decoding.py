"""Decoding: one query of each of 8 heads, which share keys and values, against a cache of them."""

import numpy as np
import torch

#: keys, features of a head, sequences, element
VARIANTS = (
    "4096-64-1-f32", "16384-64-1-f32", "16384-64-4-f32", "65536-64-1-f32", "65536-64-2-f32",
    "16384-128-2-f32", "16384-64-4-bf16", "65536-64-2-bf16",
)  # fmt: skip
QUICK = ("16384-64-4-f32", "16384-64-4-bf16")


def sizes(variant):
    """(keys, features, sequences, element)."""
    *numbers, dtype = variant.split("-")
    return *map(int, numbers), dtype


def setup(variant, compile):
    """The step of one size; the work is the bytes of the cache, which are read once."""
    keys, features, batch, dtype = sizes(variant)
    element = torch.float32 if dtype == "f32" else torch.bfloat16
    random = np.random.default_rng(0)
    q = torch.tensor(random.standard_normal((batch, 8, 1, features), dtype=np.float32)).to(element)
    k, v = (
        torch.tensor(random.standard_normal((batch, 1, keys, features), dtype=np.float32)).to(
            element
        )
        for _ in range(2)
    )
    attend = compile(
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    )

    def step():
        with torch.no_grad():
            return attend(q, k, v).float().abs().mean().item()

    size = 2 * batch * keys * features * (4 if dtype == "f32" else 2)
    return {"step": step, "work": size, "unit": "B"}
