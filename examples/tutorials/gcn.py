"""A graph convolutional network that finds the communities of a small graph."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class GraphConv(nn.Module):
    def __init__(self, input_dim, output_dim, use_bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(input_dim, output_dim))
        if use_bias:
            self.bias = nn.Parameter(torch.zeros(output_dim))
        else:
            self.register_parameter("bias", None)

    def forward(self, x, edges, norm):
        source, target = edges
        messages = torch.mm(x, self.weight)[source] * norm[:, None]
        found = torch.zeros(len(x), messages.size(1)).index_add_(0, target, messages)
        return found if self.bias is None else found + self.bias


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.gc1 = GraphConv(8, 16)
        self.gc2 = GraphConv(16, 3, use_bias=False)

    def forward(self, x, edges, norm):
        return F.log_softmax(self.gc2(F.relu(self.gc1(x, edges, norm)), edges, norm), dim=1)


def graph(nodes=60):
    random = np.random.default_rng(0)
    labels = np.arange(nodes) % 3
    near = random.random((nodes, nodes)) < np.where(labels[:, None] == labels, 0.2, 0.02)
    near = near | near.T | np.eye(nodes, dtype=bool)
    edges = torch.from_numpy(np.stack(near.nonzero()))
    degree = torch.bincount(edges[0], minlength=nodes).float()
    norm = degree[edges[0]].rsqrt() * degree[edges[1]].rsqrt()
    features = random.normal(0, 1, (nodes, 8)) + 0.4 * np.eye(8)[labels]
    return torch.from_numpy(features.astype("float32")), edges, norm, torch.from_numpy(labels)


def main():
    torch.manual_seed(0)
    x, edges, norm, labels = graph()
    seen = torch.zeros(len(x), dtype=torch.bool)
    seen[:15] = True
    model = GCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, weight_decay=5e-4)
    for epoch in range(12):
        model.train()
        loss = F.nll_loss(model(x, edges, norm)[seen], labels[seen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
        right = (model(x, edges, norm).argmax(1) == labels)[~seen].float().mean()
        print("loss", epoch, loss.item(), round(right.item(), 1))


if __name__ == "__main__":
    main()
