"""An autoencoder that squeezes points of a curved surface through two numbers, written with
nn.Sequential, a random split, and a checkpoint that is saved and loaded again.

    flambeau run examples/autoencoder.py
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Autoencoder(nn.Module):
    def __init__(self, features: int, code: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(features, 32), nn.GELU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, code)
        )
        self.decoder = nn.Sequential(
            nn.Linear(code, 16), nn.SiLU(), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, features)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x))


def surface(count: int, features: int, seed: int) -> np.ndarray:
    """Points of a two-dimensional surface that is bent through ``features`` dimensions."""
    random = np.random.default_rng(seed)
    position = random.uniform(-1, 1, size=(count, 2))
    directions = np.random.default_rng(3).normal(size=(4, features))
    basis = np.concatenate([position, np.sin(2 * position)], axis=1)
    return (basis @ directions).astype(np.float32)


def set_weights(model: nn.Module, seed: int) -> None:
    """Weights from NumPy, so that every framework starts from the same ones."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if name.endswith("weight"):
                scale = parameter.shape[1] ** -0.5
                values = random.normal(scale=scale, size=tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(values.astype(np.float32)))
            else:
                parameter.fill_(0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--code", type=int, default=2)
    args = parser.parse_args()

    data = torch.from_numpy(surface(1280, args.features, seed=0))
    training, held_out = TensorDataset(data[:1024]), data[1024:]
    loader = DataLoader(training, batch_size=128, shuffle=False, drop_last=True)

    model = Autoencoder(args.features, args.code)
    set_weights(model, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    for epoch in range(args.epochs):
        total = 0.0
        for (batch,) in loader:
            loss = nn.functional.mse_loss(model(batch), batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        scheduler.step()
        print(f"epoch {epoch}  loss {total / len(loader):.6f}")

    model.eval()
    with torch.no_grad():
        error = nn.functional.mse_loss(model(held_out), held_out)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "autoencoder.pt"
        torch.save(model.state_dict(), path)
        copy = Autoencoder(args.features, args.code)
        copy.load_state_dict(torch.load(path, weights_only=True))
    with torch.no_grad():
        same = torch.equal(copy.eval()(held_out), model(held_out))
    print(f"held-out loss {error.item():.6f}, the same after saving and loading: {same}")


if __name__ == "__main__":
    main()
