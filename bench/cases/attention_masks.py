"""Block masks: causal, with a sliding window of 2048, within documents; a new mask every time."""

import torch
from torch.nn.attention.flex_attention import create_block_mask

#: positions; torch evaluates the mask at all pairs of them, 2.7 GB at 16384
VARIANTS = ("2048", "8192", "16384")
QUICK = ("2048",)


def setup(variant, compile):
    """The step of one length."""
    n = int(variant)
    document = torch.arange(n) * 7 // n
    state = {"step": 0}

    def step():
        state["step"] += 1
        shift = torch.tensor(state["step"] % 64)

        def seen(b, h, q, k):
            return (k <= q) & (q - k <= 2048 + shift) & (document[q] == document[k])

        mask = create_block_mask(seen, None, None, n, n, device="cpu")
        blocks = mask.kv_num_blocks.sum() + mask.full_kv_num_blocks.sum()
        return float(blocks) / (n / 128) ** 2 if state["step"] == 1 else float(blocks)

    return {"step": step}
