"""A word-level language model: a Transformer encoder with a causal mask."""

import math

import torch
from torch import nn

TEXT = """the old lamp gives the old room a warm light and the warm light makes the room feel old
a small flame gives a small light and a large flame makes a large room feel warm"""


class Dictionary:
    def __init__(self):
        self.word2idx, self.idx2word = {}, []

    def add_word(self, word):
        if word not in self.word2idx:
            self.idx2word.append(word)
            self.word2idx[word] = len(self.idx2word) - 1
        return self.word2idx[word]


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=64):
        super().__init__()
        pe = torch.zeros(max_len, d_model)
        position = torch.arange(0, max_len, dtype=torch.float).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(1e4) / d_model))
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe.unsqueeze(0).transpose(0, 1))

    def forward(self, x):
        return x + self.pe[: x.size(0), :]


class TransformerModel(nn.Module):
    def __init__(self, ntoken, d_model=32):
        super().__init__()
        self.embed = nn.Embedding(ntoken, d_model)
        self.pos = PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(d_model, 4, 64, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.decoder = nn.Linear(d_model, ntoken)
        self.d_model = d_model

    def forward(self, src):
        mask = nn.Transformer.generate_square_subsequent_mask(len(src))
        src = self.pos(self.embed(src) * math.sqrt(self.d_model))
        return torch.log_softmax(self.decoder(self.encoder(src, mask=mask)), dim=-1)


def batchify(data, bsz):
    nbatch = data.size(0) // bsz
    return data.narrow(0, 0, nbatch * bsz).view(bsz, -1).t().contiguous()


def main():
    torch.manual_seed(0)
    words = Dictionary()
    ids = torch.tensor([words.add_word(w) for w in TEXT.split() * 6])
    model = TransformerModel(len(words.idx2word))
    data, criterion, lr = batchify(ids, 4), nn.NLLLoss(), 0.5
    for start in range(0, data.size(0) - 1, 8):
        seq_len = min(8, len(data) - 1 - start)
        inputs = data[start : start + seq_len]
        targets = data[start + 1 : start + 1 + seq_len].view(-1)
        model.zero_grad()
        loss = criterion(model(inputs).view(-1, len(words.idx2word)), targets)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-lr)
        print("loss", start, loss.item(), norm.item())
    model.eval()
    with torch.no_grad():
        line = ids[:2].unsqueeze(1)
        for _ in range(6):
            line = torch.cat([line, model(line)[-1].argmax(-1, keepdim=True)])
    print("words", *[words.idx2word[i] for i in line.flatten()])


if __name__ == "__main__":
    main()
