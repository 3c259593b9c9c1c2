"""Train a byte-level language model on long contexts: sequences of 8,192 bytes are made of whole
documents, and a byte sees the 1,023 before it in its own document.

The text is Python's own reference, one document a topic, which comes with every Python. Each head
learns how fast what it looks at fades with distance.

    flambeau run examples/long_context.py --steps 100
"""

import argparse
import math
import random
import time
from pydoc_data.topics import topics

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention


class Block(nn.Module):
    """Attention and a perceptron, each added to what came before."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.fading = nn.Parameter(torch.tensor([2.0**-n for n in range(1, heads + 1)]))

    def forward(self, x, mask):
        """x: (1, T, width)."""

        def faded(score, b, h, q_idx, kv_idx):
            return score - self.fading[h] * (q_idx - kv_idx)

        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = flex_attention(q, k, v, faded, mask)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_2(x))


class Model(nn.Module):
    """Bytes to the logits of the bytes that follow."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256)

    def forward(self, x, mask):
        """x: (1, T) bytes."""
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))


def sequence(texts: list[bytes], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(length + 1 bytes of documents one after another, which document each belongs to)."""
    found, owners = bytearray(), []
    while len(found) <= length:
        text = random.choice(texts)
        owners += [len(owners)] * len(text)  # its first position is its name
        found += text
    cut = slice(0, length + 1)
    return torch.tensor(list(found[cut])), torch.tensor(owners[cut])


def visible(owner: torch.Tensor, length: int, window: int) -> BlockMask:
    """The mask: the bytes at most `window` before one, in its document."""

    def seen(b, h, q_idx, kv_idx):
        near = (q_idx >= kv_idx) & (q_idx - kv_idx <= window)
        return near & (owner[q_idx] == owner[kv_idx])

    return create_block_mask(seen, None, None, length, length, device="cpu")


def main() -> None:
    """Train, and say how it goes."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--steps", type=int, default=30)
    options.add_argument("--length", type=int, default=8192, help="bytes of a sequence")
    options.add_argument("--window", type=int, default=1023, help="bytes before it that one sees")
    options.add_argument("--width", type=int, default=96)
    options.add_argument("--layers", type=int, default=2)
    given = options.parse_args()
    torch.manual_seed(1)
    random.seed(1)
    texts = [text.strip().encode("ascii", "replace") + b"\n" for text in topics.values()]
    model = Model(given.width, 3, given.layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{len(texts)} documents, {sum(map(len, texts)):,} bytes; {parameters:,} parameters")
    started = time.perf_counter()
    for step in range(given.steps):
        x, owner = sequence(texts, given.length)

        mask = visible(owner, given.length, given.window)
        if step == 0:
            print(mask)
        logits = model(x[None, :-1], mask)
        # the first byte of a document is not to be told from the last one's end
        target = torch.where(owner[1:] == owner[:-1], x[1:], -100)
        loss = F.cross_entropy(logits[0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0 or step == given.steps - 1:
            value = loss.item()
            rate = (step + 1) * given.length / (time.perf_counter() - started)
            print(
                f"step {step:4}  loss {value:.4f}  {value / math.log(2):.2f} bits a byte  "
                f"{rate:,.0f} bytes a second"
            )
    fading = torch.cat([block.fading.detach() for block in model.blocks])
    print("fading", " ".join(f"{x:.3f}" for x in fading.tolist()))


if __name__ == "__main__":
    main()
