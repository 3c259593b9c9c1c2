"""A tiny multilayer perceptron: training steps, and inference whose result is read at once."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

VARIANTS = ("train_sgd", "train_adam", "train_adam_item", "train_adam_whole", "infer_item")
QUICK = ("train_adam", "infer_item")

INPUTS, WIDTH, CLASSES, BATCH = 32, 64, 10, 32


def setup(variant, compile):
    """The step of one variant, with parameters and data that every contender shares."""
    random = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Linear(INPUTS, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, CLASSES),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            values = 0.1 * random.standard_normal(parameter.shape, dtype=np.float32)
            parameter.copy_(torch.from_numpy(values))
    x = torch.tensor(random.standard_normal((BATCH, INPUTS), dtype=np.float32))
    y = torch.tensor(random.integers(0, CLASSES, BATCH))
    one = x[:1]

    if variant == "infer_item":
        scores_of = compile(model)

        def step():
            with torch.no_grad():
                return scores_of(one).argmax().item()

        return {"step": step}

    @compile
    def loss_of(x, y):
        return F.cross_entropy(model(x), y)

    if variant == "train_sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss

    def step_item():
        return step().item()

    if variant.endswith("whole"):  # the optimizer's part is compiled too

        @compile
        def whole(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return {"step": lambda: whole(x, y)}
    return {"step": step_item if variant.endswith("item") else step}
