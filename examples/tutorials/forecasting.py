"""Forecasts of a noisy seasonal series by a GRU, with a schedule that waits for plateaus."""

import numpy as np
import torch
from torch import nn


class Forecaster(nn.Module):
    def __init__(self, hidden=16, horizon=4):
        super().__init__()
        self.gru = nn.GRU(1, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, horizon)

    def forward(self, x):
        output, _ = self.gru(x.unsqueeze(-1))
        return self.head(output[:, -1])


def main():
    torch.manual_seed(0)
    t = np.arange(220)
    series = np.sin(t / 4) + 0.5 * np.sin(t / 9) + np.random.default_rng(0).normal(0, 0.05, 220)
    windows = torch.from_numpy(series.astype("float32")).unfold(0, 24, 1)
    past, future = windows[:, :20], windows[:, 20:]
    model = Forecaster()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    for epoch in range(6):
        for first in range(0, 160, 40):
            batch = slice(first, first + 40)
            loss = nn.functional.huber_loss(model(past[batch]), future[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_value_(model.parameters(), 0.5)
            optimizer.step()
        with torch.no_grad():
            held_out = (model(past[160:]) - future[160:]).abs().mean()
        schedule.step(held_out)
        print("loss", epoch, loss.item(), held_out.item(), optimizer.param_groups[0]["lr"])


if __name__ == "__main__":
    main()
