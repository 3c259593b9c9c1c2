"""Low-rank adapters (Hu et al., arXiv:2106.09685) put into a transformer and merged, and what it
learned distilled into a small network with 8-bit weights."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Adapter(nn.Module):
    """A linear layer that stays as it is, and a product of two thin matrices beside it."""

    def __init__(self, base, rank=4, alpha=8.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale, self.merged = alpha / rank, False
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x):
        if self.merged:
            return self.base(x)
        return self.base(x) + F.linear(F.linear(x, self.down), self.up) * self.scale

    @torch.no_grad()
    def merge(self):
        self.base.weight += self.scale * self.up @ self.down
        self.merged = True

    def extra_repr(self):
        return f"rank={len(self.down)}, merged={self.merged}"


def adapt(module, names):
    """Put an adapter around every linear layer with one of the names."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear) and name in names:
            setattr(module, name, Adapter(child))
        else:
            adapt(child, names)
    return module


class Classifier(nn.Module):
    def __init__(self, width=16, classes=4):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(width, classes)

    def forward(self, x, padding):
        h = self.encoder(x, src_key_padding_mask=padding).masked_fill(padding[..., None], 0)
        return self.head(h.sum(1) / (~padding).sum(1, keepdim=True))


class Rounded(torch.autograd.Function):
    """The nearest 8-bit value; the gradient passes as if nothing were rounded."""

    @staticmethod
    def forward(ctx, x, scale):
        return (x / scale).round().clamp(-128, 127) * scale

    @staticmethod
    def backward(ctx, g):
        return g, None


class RoundedLinear(nn.Linear):
    def forward(self, x):
        scale = self.weight.detach().abs().amax(1, keepdim=True) / 127
        return F.linear(x, Rounded.apply(self.weight, scale), self.bias)


def distil(student, teacher, x, target, temperature=2.0):
    """The loss towards another network's probabilities, and towards the classes."""
    soft = F.log_softmax(student(x) / temperature, -1)
    near = F.kl_div(soft, F.softmax(teacher / temperature, -1), reduction="batchmean")
    return 0.7 * temperature**2 * near + 0.3 * F.cross_entropy(student(x), target)


def main():
    torch.manual_seed(0)
    model = adapt(Classifier(), ("linear1", "linear2"))
    print(model.encoder.layers[0].linear1)
    for name, p in model.named_parameters():
        p.requires_grad = name.endswith((".up", ".down")) or name.startswith("head")
    trained = [p for p in model.parameters() if p.requires_grad]
    print("trained", sum(p.numel() for p in trained), sum(p.numel() for p in model.parameters()))
    x, target = torch.randn(16, 5, 16), torch.randint(0, 4, (16,))
    padding = torch.arange(5) >= torch.randint(2, 6, (16, 1))
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for step in range(5):
        loss = F.cross_entropy(model(x, padding), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("loss", step, loss.item())
    with torch.no_grad():
        before = model(x, padding)
        for module in model.modules():
            if isinstance(module, Adapter):
                module.merge()
        teacher = model(x, padding)
    print("merged", torch.allclose(teacher, before, atol=1e-5))
    student = nn.Sequential(RoundedLinear(16, 16), nn.Hardswish(), RoundedLinear(16, 4))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
    for step in range(5):
        loss = distil(student, teacher, x.mean(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("loss", step, loss.item())


if __name__ == "__main__":
    main()
