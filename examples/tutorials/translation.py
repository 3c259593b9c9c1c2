"""A sequence-to-sequence transformer that learns to turn sentences round."""

import math

import torch
from torch import nn

WORDS, PAD, BEGIN = 20, 0, 1


class Positions(nn.Module):
    def __init__(self, d_model, dropout, length=64):
        super().__init__()
        place = torch.arange(length).unsqueeze(1)
        rate = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        table = torch.zeros(length, d_model)
        table[:, 0::2] = torch.sin(place * rate)
        table[:, 1::2] = torch.cos(place * rate)
        self.register_buffer("table", table.unsqueeze(0))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.dropout(x + self.table[:, : x.size(1)])


class Translator(nn.Module):
    def __init__(self, d_model=32, dropout=0.1):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, d_model, padding_idx=PAD)
        self.positions = Positions(d_model, dropout)
        self.transformer = nn.Transformer(
            d_model, 4, 1, 2, 64, dropout, batch_first=True, norm_first=True
        )
        self.out = nn.Linear(d_model, WORDS)

    def forward(self, source, target):
        x = self.transformer(
            self.positions(self.embedding(source)),
            self.positions(self.embedding(target)),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(target.size(1)),
            src_key_padding_mask=source == PAD,
            tgt_key_padding_mask=target == PAD,
            memory_key_padding_mask=source == PAD,
        )
        return self.out(x)


def sentences(count):
    source = torch.randint(3, WORDS, (count, 8))
    source[:, 6:] *= torch.rand(count, 2) > 0.5
    begin = torch.full((count, 1), BEGIN)
    return source, torch.cat([begin, source.flip(1)], 1)


@torch.no_grad()
def translate(model, source):
    model.eval()
    target = torch.full((len(source), 1), BEGIN)
    for _ in range(4):
        word = model(source, target)[:, -1].argmax(-1, keepdim=True)
        target = torch.cat([target, word], 1)
    return target


def main():
    torch.manual_seed(0)
    model = Translator()
    criterion = nn.CrossEntropyLoss(ignore_index=PAD, label_smoothing=0.05)
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    for step in range(15):
        source, target = sentences(16)
        found = model(source, target[:, :-1])
        loss = criterion(found.reshape(-1, WORDS), target[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("loss", step, loss.item())
    print("words", *translate(model, source[:2]).flatten().tolist())


if __name__ == "__main__":
    main()
