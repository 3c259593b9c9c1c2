"""A sparse mixture of experts (Shazeer et al., arXiv:1701.06538): every token goes to two of four
networks, and a loss keeps them equally busy."""

import torch
from torch import nn
from torch.nn import functional as F


class Mixture(nn.Module):
    def __init__(self, width, experts, chosen):
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
            for _ in range(experts)
        )
        self.chosen = chosen

    def forward(self, x):
        tokens = x.flatten(0, -2)
        logits = self.gate(tokens)
        weights, index = logits.softmax(-1).topk(self.chosen)
        weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            rows, places = torch.where(index == number)
            if rows.numel() == 0:
                continue
            out.index_add_(0, rows, expert(tokens[rows]) * weights[rows, places, None])
        load = F.one_hot(index, len(self.experts)).sum(1).float().mean(0)
        balance = len(self.experts) * (load * logits.softmax(-1).mean(0)).sum()
        return out.view_as(x), balance, index.flatten().bincount(minlength=len(self.experts))


def grouped(mixture, x):
    """The same with the tokens sorted by expert, so that each expert is called once on a slice."""
    tokens = x.flatten(0, -2)
    weights, index = mixture.gate(tokens).softmax(-1).topk(mixture.chosen)
    weights = weights / weights.sum(-1, keepdim=True)
    order = index.flatten().argsort(stable=True)
    counts = index.flatten().bincount(minlength=len(mixture.experts)).tolist()
    parts = tokens[order // mixture.chosen].split(counts)
    found = torch.cat([f(part) for f, part in zip(mixture.experts, parts, strict=True)])
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    found = found[back].view(-1, mixture.chosen, tokens.shape[-1])
    return (found * weights.unsqueeze(-1)).sum(1).view_as(x)


def main():
    torch.manual_seed(0)
    mixture, head = Mixture(16, 4, 2), nn.Linear(16, 5)
    optimizer = torch.optim.Adam([*mixture.parameters(), *head.parameters()], lr=1e-2)
    x, y = torch.randn(4, 8, 16), torch.randint(0, 5, (4, 8))
    for step in range(8):
        found, balance, counts = mixture(x)
        loss = F.cross_entropy(head(x + found).movedim(-1, 1), y)
        optimizer.zero_grad()
        (loss + 0.01 * balance).backward()
        norm = nn.utils.clip_grad_norm_(mixture.parameters(), 1.0)
        optimizer.step()
        print(
            "loss", step, f"{balance.item():.4f} {norm.item():.4f}", *counts.tolist(), loss.item()
        )
    with torch.no_grad():
        print("same", torch.allclose(grouped(mixture, x), mixture(x)[0], atol=1e-5))


if __name__ == "__main__":
    main()
