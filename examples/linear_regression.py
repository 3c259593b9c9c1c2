"""Linear regression by gradient descent: the smallest complete training program.

flambeau run examples/linear_regression.py
python examples/linear_regression.py          (with PyTorch itself)
"""

import argparse

import numpy as np
import torch
from torch import nn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--lr", type=float, default=0.1)
    args = parser.parse_args()

    # y = X w + b + noise
    random = np.random.default_rng(0)
    true_weight = np.array([2.0, -3.4, 1.7])
    true_bias = 4.2
    inputs = random.normal(size=(256, 3)).astype(np.float32)
    targets = inputs @ true_weight + true_bias + 0.01 * random.normal(size=256)

    x = torch.from_numpy(inputs)
    y = torch.tensor(targets, dtype=torch.float32).unsqueeze(1)
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.5)
    loss_fn = nn.MSELoss()

    for step in range(args.steps):
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == args.steps - 1:
            print(f"step {step:4d}  loss {loss.item():.6f}")

    weight = [round(w, 2) for w in model.weight.squeeze(0).tolist()]
    print(f"weight {weight}, wanted {true_weight.tolist()}")
    print(f"bias {model.bias.item():.2f}, wanted {true_bias}")


if __name__ == "__main__":
    main()
