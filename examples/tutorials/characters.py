"""A recurrent network that learns to write, character by character, and writes."""

import torch
from torch import nn
from torch.nn import functional as F

TEXT = "the quick brown fox jumps over the lazy dog; " * 20
CHARACTERS = sorted(set(TEXT))


class Writer(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS), 16)
        self.rnn = nn.GRU(16, hidden, num_layers=2, dropout=0.1, batch_first=True)
        self.out = nn.Linear(hidden, len(CHARACTERS))

    def forward(self, x, state=None):
        found, state = self.rnn(self.embedding(x), state)
        return self.out(found), state


@torch.no_grad()
def written(model, length):
    model.eval()
    state, last, found = None, torch.tensor([[CHARACTERS.index("t")]]), "t"
    for _ in range(length):
        scores, state = model(last, state)
        last = torch.multinomial(F.softmax(scores[:, -1] / 0.8, dim=-1), 1)
        found += CHARACTERS[last.item()]
    return found


def main():
    torch.manual_seed(0)
    data = torch.tensor([CHARACTERS.index(c) for c in TEXT])
    model = Writer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=40)
    for step in range(40):
        starts = torch.randint(len(data) - 33, (8,))
        x = torch.stack([data[i : i + 32] for i in starts])
        y = torch.stack([data[i + 1 : i + 33] for i in starts])
        scores, _ = model(x)
        loss = F.cross_entropy(scores.transpose(1, 2), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        if step % 5 == 4:
            print("loss", step, loss.item())
    print("written", written(model, 30))


if __name__ == "__main__":
    main()
