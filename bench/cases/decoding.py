"""Decoding: one query of each of 8 heads, which share keys and values, against a cache of them."""

import numpy as np
import torch

#: keys, features of a head, sequences
VARIANTS = ("4096-64-1", "16384-64-4", "65536-64-2", "16384-128-2")
QUICK = ("16384-64-4",)


def sizes(variant):
    """(keys, features, sequences)."""
    return tuple(int(n) for n in variant.split("-"))


def setup(variant, compile):
    """The step of one size; the work is the bytes of the cache, which are read once."""
    keys, features, batch = sizes(variant)
    random = np.random.default_rng(0)
    q = torch.tensor(random.standard_normal((batch, 8, 1, features), dtype=np.float32))
    k, v = (
        torch.tensor(random.standard_normal((batch, 1, keys, features), dtype=np.float32))
        for _ in range(2)
    )
    attend = compile(
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    )

    def step():
        with torch.no_grad():
            return attend(q, k, v).numpy()[0, 0, 0, 0]

    return {"step": step, "work": 2 * batch * keys * features * 4, "unit": "B"}
