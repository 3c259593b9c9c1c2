"""Gradient accumulation, clipping, OneCycleLR, and a run resumed from a checkpoint."""

import os
import tempfile

import numpy as np
import torch
from torch import nn


def build():
    model = nn.Sequential(
        nn.Linear(6, 24),
        nn.Tanh(),
        nn.Linear(24, 24),
        nn.GELU(approximate="tanh"),
        nn.Linear(24, 2),
    )
    rng = np.random.default_rng(0)
    state = {
        k: torch.from_numpy(rng.normal(0, 0.4, v.shape)).to(v.dtype)
        for k, v in model.state_dict().items()
    }
    model.load_state_dict(state)
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [p for n, p in model.named_parameters() if n.endswith("weight")],
                "weight_decay": 0.05,
            },
            {
                "params": [p for n, p in model.named_parameters() if n.endswith("bias")],
                "weight_decay": 0.0,
                "lr": 2e-2,
            },
        ],
        lr=1e-2,
        amsgrad=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[2e-2, 4e-2], total_steps=20, pct_start=0.3
    )
    return model, optimizer, schedule


rng = np.random.default_rng(1)
x = torch.as_tensor(rng.standard_normal((320, 6)), dtype=torch.float32)
y = torch.stack([x[:, 0] * x[:, 1], x[:, 2:].abs().amax(dim=1)], dim=-1)


def train(model, optimizer, schedule, first, last):
    for step in range(first, last):
        optimizer.zero_grad()
        total = 0.0
        for part in range(4):
            at = slice((step * 4 + part) * 4, (step * 4 + part + 1) * 4)
            loss = nn.functional.smooth_l1_loss(model(x[at]), y[at], beta=0.5) / 4
            loss.backward()
            total += loss.detach()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5, error_if_nonfinite=True)
        optimizer.step()
        schedule.step()
        print(
            "loss",
            float(total),
            norm.item(),
            *schedule.get_last_lr(),
            optimizer.param_groups[0]["betas"][0],
        )


model, optimizer, schedule = build()
train(model, optimizer, schedule, 0, 10)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "last.pt")
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "step": 10,
            "rng": torch.get_rng_state(),
        },
        path,
    )
    train(model, optimizer, schedule, 10, 14)
    kept = [p.detach().clone() for p in model.parameters()]
    model, optimizer, schedule = build()
    found = torch.load(path, map_location="cpu", weights_only=False)
    model.load_state_dict(found["model"])
    optimizer.load_state_dict(found["optimizer"])
    schedule.load_state_dict(found["schedule"])
    torch.set_rng_state(found["rng"])
train(model, optimizer, schedule, found["step"], 14)
print("same", all(torch.equal(a, b) for a, b in zip(kept, model.parameters())))
train(model, optimizer, schedule, 14, 20)
