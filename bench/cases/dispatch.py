"""What one operation on small tensors costs before any arithmetic.

`add` and `add_grad`: an addition whose result is dropped. For PyTorch that is its whole dispatch;
for flambeau it is the recording alone. `flush_N`: N chained additions and the result read, so for
flambeau the recording of N nodes and one flush of them, found in the program cache.
"""

import numpy as np
import torch

VARIANTS = ("add", "add_grad", "flush_1", "flush_10", "flush_100")
QUICK = VARIANTS
CONTENDERS = ("flambeau", "torch")

ADDITIONS = 100


def setup(variant, compile):
    """The step of one variant; its time is given per addition."""
    x = torch.tensor(np.linspace(0, 1, 16, dtype=np.float32))
    y = torch.tensor(np.linspace(1, 2, 16, dtype=np.float32))
    if variant.startswith("flush"):
        count = int(variant.split("_")[1])

        def step():
            z = x
            for _ in range(count):
                z = z + y
            return z.numpy()[-1]

        return {"step": step, "count": count}

    if variant == "add_grad":
        x.requires_grad_()

    def step():
        for _ in range(ADDITIONS):
            x + y  # dropped at once: its cost is what is measured

    return {"step": step, "count": ADDITIONS}
