"""The training step of gpt_step.py under autocast: products in bfloat16, parameters in float32."""

import torch

from bench.cases import gpt_step

VARIANTS = ("bf16",)
QUICK = VARIANTS


def setup(variant, compile):
    """The step of one variant."""
    return gpt_step.setup(variant, compile, lambda: torch.autocast("cpu", torch.bfloat16))
