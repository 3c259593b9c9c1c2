#!/usr/bin/env python3
"""Write the tables and pictures of docs/scale.md: predictions beside figures that were published.

python tools/scale.py            about a minute
python tools/scale.py --check    only say whether the predictions are within 25 %
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import flambeau  # noqa: E402
import flambeau.nn.functional as F  # noqa: E402
from flambeau import Tensor, nn  # noqa: E402
from flambeau.commands.gpt import GPT, CausalSelfAttention, GPTConfig  # noqa: E402
from flambeau.distributed.pictures import curves, timeline  # noqa: E402
from flambeau.distributed.plan import (  # noqa: E402
    A100_HOSTS,
    H100_HOSTS,
    Layout,
    Plan,
    calibrated,
)
from flambeau.distributed.workload import Workload, record_workload  # noqa: E402

PAGE = ROOT / "docs" / "scale.md"
FOLDER = ROOT / "docs" / "scale"

#: Narayanan et al. (arXiv:2104.04473), table 1: billions of parameters, heads, width, layers,
#: tensor and pipeline ranks, GPUs, sequences a step, TFLOP/s a GPU; then the sequences of a
#: micro-batch, which the table does not say.
MEGATRON = (
    (1.7, 24, 2304, 24, 1, 1, 32, 512, 137, 16),
    (3.6, 32, 3072, 30, 2, 1, 64, 512, 138, 16),
    (7.5, 32, 4096, 36, 4, 1, 128, 512, 142, 16),
    (18.4, 48, 6144, 40, 8, 1, 256, 1024, 135, 4),
    (39.1, 64, 8192, 48, 8, 2, 512, 1536, 138, 2),
    (76.1, 80, 10240, 60, 8, 4, 1024, 1792, 140, 2),
    (145.6, 96, 12288, 80, 8, 8, 1536, 2304, 148, 1),
    (310.1, 128, 16384, 96, 8, 16, 1920, 2160, 155, 1),
    (529.6, 128, 20480, 105, 8, 35, 2520, 2520, 163, 1),
    (1008.0, 160, 25600, 128, 8, 64, 3072, 3072, 163, 1),
)
_LENGTH, _WORDS = 2048, 51200
#: Grattafiori et al. (arXiv:2407.21783), table 4, 8,192 tokens a sequence: data-parallel ranks,
#: sequences a step of each, TFLOP/s a GPU; tensor 8, pipeline 16.
LLAMA = ((64, 32, 430), (128, 16, 400))


class WrittenAttention(CausalSelfAttention):
    """Attention as it was in 2021: the scores of all pairs in memory, softmax, dropout."""

    hidden: Tensor

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Args: x_BTC of shape (B, T, C). Returns: the same shape."""
        batch, length, width = x_BTC.shape
        heads = (batch, length, self.heads, width // self.heads)
        q, k, v = (t.view(heads).transpose(1, 2) for t in self.qkv(x_BTC).split(width, dim=2))
        scores = (q @ k.transpose(-2, -1)).masked_fill(self.hidden, -10000.0)
        weights = F.dropout((scores / math.sqrt(width // self.heads)).softmax(-1), 0.1)
        y_BTC = (weights @ v).transpose(1, 2).reshape(batch, length, width)
        return self.dropout(self.out(y_BTC))


def gpt(width: int, layers: int, heads: int, batch: int) -> Workload:
    """A micro-batch of the GPT of the Megatron paper."""
    with flambeau.device("meta"):
        model = GPT(GPTConfig(_WORDS, _LENGTH, layers, heads, width, 0.1)).bfloat16()
        hidden = flambeau.zeros(_LENGTH, _LENGTH, dtype=flambeau.bool)
        tokens = flambeau.zeros(batch, _LENGTH, dtype=flambeau.int64)
    for block in model.blocks:
        block.attention.__class__ = WrittenAttention
        block.attention.hidden = hidden
    return record_workload(model, lambda: model.loss(tokens, tokens))


class LlamaBlock(nn.Module):
    """Grouped-query attention and a gated perceptron."""

    def __init__(self, width: int, heads: int, key_heads: int, inner: int) -> None:
        super().__init__()
        self.heads, self.key_heads, self.size = heads, key_heads, width // heads
        self.norm_attention, self.norm_mlp = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q, self.out = nn.Linear(width, width, False), nn.Linear(width, width, False)
        narrow = key_heads * self.size
        self.k, self.v = nn.Linear(width, narrow, False), nn.Linear(width, narrow, False)
        self.gate, self.up = nn.Linear(width, inner, False), nn.Linear(width, inner, False)
        self.down = nn.Linear(inner, width, False)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x of shape (B, T, C). Returns: the same shape."""
        batch, length, width = x.shape
        y = self.norm_attention(x)
        counts = (self.heads, self.key_heads, self.key_heads)
        q, k, v = (
            layer(y).view(batch, length, n, self.size).transpose(1, 2)
            for layer, n in zip((self.q, self.k, self.v), counts, strict=True)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        y = self.norm_mlp(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Llama 3's network, without rotary embeddings, which cost next to nothing."""

    def __init__(self, words: int, width: int, layers: int, heads: int, inner: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(words, width)
        self.blocks = nn.ModuleList([LlamaBlock(width, heads, 8, inner) for _ in range(layers)])
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, words, False)

    def forward(self, tokens: Tensor) -> Tensor:
        """The loss of (B, T) tokens, as their own targets."""
        x = self.tokens(tokens)
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1).float(), tokens.flatten())


def llama() -> Workload:
    """A sequence of Llama 3 405B."""
    with flambeau.device("meta"):
        model = Llama(128256, 16384, 126, 128, 53248).bfloat16()
        tokens = flambeau.zeros(1, 8192, dtype=flambeau.int64)
    return record_workload(model, lambda: model(tokens))


def megatron_table() -> tuple[str, float]:
    """-> the table and the largest error."""
    lines = [
        "| parameters | GPUs | tensor x pipeline x data | published | predicted | error |"
        " waiting |",
        "|---|---|---|---|---|---|---|",
    ]
    cluster = A100_HOSTS
    worst = 0.0
    for number, row in enumerate(MEGATRON):
        billions, heads, width, layers, tensor, pipeline, ranks, sequences, published, batch = row
        data = ranks // tensor // pipeline
        work = gpt(width, layers, heads, batch)
        layout = Layout(
            data, tensor, pipeline, sequences // data // batch, recompute=True, gradient=2
        )
        # what the paper counts: recomputation too, and attention as if it were not causal
        shares = 1 + _LENGTH / (6 * width) + _WORDS / (16 * layers * width)
        counted = 96 * batch * _LENGTH * layers * width**2 * shares
        if not number:
            device = calibrated(Plan(work, cluster, layout), published * 1e12, counted)
            cluster = replace(cluster, device=device)
        found = Plan(work, cluster, layout).estimate()
        reached = counted * layout.micros * data / found.seconds / ranks / 1e12
        error = reached / published - 1
        worst = max(worst, abs(error))
        lines.append(
            f"| {billions} B | {ranks} | {tensor} x {pipeline} x {data} | {published} | "
            f"{reached:.0f} | {100 * error:+.0f} % | {100 * found.waiting:.0f} % |"
        )
    lines.append("")
    lines.append(
        f"The efficiency of products, {cluster.device.efficiency:.2f} of the data sheet's, makes "
        f"the first row come out; the largest error of the others is {100 * worst:.0f} %."
    )
    return "\n".join(lines), worst


def llama_layout(data: int, micros: int) -> Layout:
    """Of the 405B run: interleaved, gradients and states sharded over data-parallel ranks."""
    return Layout(data, 8, 16, micros, "interleaved", 4, "optimizer", sequence=True)


def llama_table(work: Workload) -> tuple[str, float]:
    """-> the table and the largest error."""
    lines = [
        "| GPUs | sequences a replica | published | predicted | error | waiting |",
        "|---|---|---|---|---|---|",
    ]
    cluster = H100_HOSTS
    worst = 0.0
    for number, (data, micros, published) in enumerate(LLAMA):
        layout = llama_layout(data, micros)
        if not number:
            device = calibrated(Plan(work, cluster, layout), published * 1e12)
            cluster = replace(cluster, device=device)
        found = Plan(work, cluster, layout).estimate()
        error = found.flops_per_rank / published / 1e12 - 1
        worst = max(worst, abs(error))
        lines.append(
            f"| {layout.ranks} | {micros} | {published} | {found.flops_per_rank / 1e12:.0f} | "
            f"{100 * error:+.0f} % | {100 * found.waiting:.0f} % |"
        )
    lines.append("")
    lines.append(f"Calibrated on the first row: efficiency {cluster.device.efficiency:.2f}.")
    return "\n".join(lines), worst


def many_ranks() -> str:
    """A picture: a billion parameters on 8 to 100,000 ranks, in three forms."""
    work = gpt(2304, 24, 24, 4)
    series = {}
    sizes = (8, 64, 512, 4096, 32768, 100_000)
    for name, layout, jitter in (
        ("replicas", Layout(), 0.0),
        ("fully sharded", Layout(shard="full"), 0.0),
        ("replicas, delays of 5 %", Layout(), 0.05),
    ):
        series[name] = [
            (
                float(ranks),
                Plan(work, A100_HOSTS, replace(layout, data=ranks))
                .simulate(jitter=jitter)
                .flops_per_rank
                / 1e12,
            )
            for ranks in sizes
        ]
    return curves(series, "1.7 B parameters, a micro-batch a rank", "ranks", "TFLOP/s a rank")


def schedules() -> dict[str, str]:
    """Pictures of the pipeline schedules: 4 stages, 8 micro-batches."""
    work = gpt(2304, 8, 24, 1)
    found = {}
    for name in ("gpipe", "1f1b", "interleaved", "zero-bubble"):
        layout = Layout(pipeline=4, micros=8, schedule=name, chunks=2 if name[0] == "i" else 1)
        estimate = Plan(work, A100_HOSTS, layout).estimate()
        title = f"{name}: {100 * estimate.waiting:.0f} % waiting"
        found[name] = timeline(estimate.trace, title)
    return found


def main() -> int:
    """Write the page, or check the errors."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--check", action="store_true")
    arguments = made.parse_args()
    megatron, first = megatron_table()
    print(megatron)
    table, second = llama_table(llama())
    print(table)
    if not arguments.check:
        FOLDER.mkdir(exist_ok=True)
        text = PAGE.read_text(encoding="utf-8")
        for name, content in (("megatron", megatron), ("llama", table)):
            text = re.sub(
                f"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\1{content}\n\2", text, flags=re.DOTALL
            )
        PAGE.write_text(text, encoding="utf-8")
        for name, picture in (*schedules().items(), ("ranks", many_ranks())):
            (FOLDER / f"{name}.svg").write_text(picture + "\n", encoding="utf-8")
    return int(max(first, second) > 0.25)


if __name__ == "__main__":
    sys.exit(main())
