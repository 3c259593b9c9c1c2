"""200 small operations, each on the result of the one before, and the result read at the end."""

import numpy as np
import torch

VARIANTS = ("forward", "forward_backward")
QUICK = VARIANTS

OPERATIONS, SHAPE = 200, (16, 16)


def setup(variant, compile):
    """The step of one variant; its time is given per operation."""
    random = np.random.default_rng(0)
    start, shift, scale = (
        torch.tensor(random.uniform(0.5, 1, SHAPE).astype(np.float32)) for _ in range(3)
    )

    @compile
    def chain(x):
        for _ in range(OPERATIONS // 4):
            x = x + shift
            x = x * scale
            x = x.tanh()
            x = x - shift
        return x

    if variant == "forward":

        def step():
            return chain(start).numpy().sum()

    else:
        start.requires_grad_()

        def step():
            start.grad = None
            chain(start).sum().backward()
            return start.grad.numpy().sum()

    return {"step": step, "count": OPERATIONS}
