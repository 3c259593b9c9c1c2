"""Training the same small model by one process and by several ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import flambeau
from flambeau import Tensor, optim
from flambeau.commands.gpt import GPT, GPTConfig
from flambeau.distributed.groups import spawn_local

STEPS, BATCH, LENGTH, WORDS = 8, 8, 8, 13


def model() -> GPT:
    """A tiny GPT in float64, the same every time."""
    flambeau.manual_seed(3)
    return GPT(GPTConfig(WORDS, LENGTH, 2, 2, 8)).double()


def batches() -> list[Tensor]:
    """(BATCH, LENGTH + 1) tokens for each step."""
    rng = np.random.default_rng(5)
    return [flambeau.tensor(rng.integers(0, WORDS, (BATCH, LENGTH + 1))) for _ in range(STEPS)]


def optimizer_of(parameters: Any) -> optim.Optimizer:
    """AdamW, as everybody uses it."""
    return optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)


def alone() -> tuple[list[float], dict[str, Any]]:
    """-> losses and final parameters of one process."""
    net = model()
    optimizer = optimizer_of(net.parameters())
    losses = []
    for tokens in batches():
        loss = net.loss(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: p.detach().numpy() for name, p in net.named_parameters()}


_known: list[tuple[list[float], dict[str, Any]]] = []


def expected() -> tuple[list[float], dict[str, Any]]:
    """What `alone` gives, computed once."""
    if not _known:
        _known.append(alone())
    return _known[0]


def part(tokens: Tensor, rank: int, ranks: int) -> Tensor:
    """A rank's share of a batch."""
    n = BATCH // ranks
    return tokens[rank * n : (rank + 1) * n]


def check(ranks: int, train: Callable[[int], tuple[list[float], dict[str, Any]]]) -> None:
    """Ranks that each return losses and parameters agree with one process to 1e-5."""
    found = spawn_local(ranks, train, timeout=120)
    losses, parameters = expected()
    mean = np.mean([f[0] for f in found], axis=0)
    np.testing.assert_allclose(mean, losses, rtol=0, atol=1e-5)
    for _, given in found:
        assert set(given) == set(parameters)
        for name, value in parameters.items():
            np.testing.assert_allclose(given[name], value, rtol=0, atol=1e-5, err_msg=name)
