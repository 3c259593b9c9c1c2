"""Products of square float32 matrices."""

import numpy as np
import torch

VARIANTS = ("64", "128", "256", "512", "1024", "2048", "4096")
QUICK = ("64", "512", "1024")


def setup(variant, compile):
    """The step of one size."""
    size = int(variant)
    random = np.random.default_rng(0)
    a = torch.tensor(random.standard_normal((size, size), dtype=np.float32))
    b = torch.tensor(random.standard_normal((size, size), dtype=np.float32))
    product = compile(lambda a, b: a @ b)

    def step():
        return product(a, b).numpy()[-1, -1]

    return {"step": step, "work": 2 * size**3, "unit": "FLOP"}
