"""The GPT that ``flambeau train`` trains."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flambeau
from flambeau.commands.gpt import GPT, GPTConfig

TINY = GPTConfig(vocabulary=17, context=12, layers=2, heads=2, width=16)


def tokens(rng: np.random.Generator, *shape: int) -> flambeau.Tensor:
    return flambeau.from_numpy(rng.integers(0, TINY.vocabulary, size=shape))


def numpy_gpt(model: GPT, x_BT: np.ndarray) -> np.ndarray:
    """The same model in NumPy, float64."""
    state = {k: np.asarray(v.numpy(), dtype=np.float64) for k, v in model.state_dict().items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def gelu(x: np.ndarray) -> np.ndarray:
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    B, T = x_BT.shape
    H, C = model.config.heads, model.config.width
    x = state["tokens.weight"][x_BT] + state["positions.weight"][:T]
    for i in range(model.config.layers):
        block = f"blocks.{i}"
        qkv = linear(norm(x, f"{block}.norm_attention"), f"{block}.attention.qkv")
        q, k, v = qkv.reshape(B, T, 3, H, C // H).transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(C // H)
        scores = np.where(np.tril(np.ones((T, T), dtype=bool)), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        y = (weights @ v).transpose(0, 2, 1, 3).reshape(B, T, C)
        x = x + linear(y, f"{block}.attention.out")
        inner = gelu(linear(norm(x, f"{block}.norm_mlp"), f"{block}.mlp.up"))
        x = x + linear(inner, f"{block}.mlp.down")
    return norm(x, "norm") @ state["tokens.weight"].T


def test_it_computes_what_numpy_computes(rng: np.random.Generator) -> None:
    model = GPT(TINY)
    with flambeau.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * flambeau.randn(parameter.shape))
    x_BT = tokens(rng, 3, 9)
    expected = numpy_gpt(model, x_BT.numpy())
    logits = model(x_BT).detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=2e-4, atol=2e-4)
    y_BT = tokens(rng, 3, 9)
    log_sum = np.log(np.exp(expected).sum(-1))
    chosen = np.take_along_axis(expected, y_BT.numpy()[..., None], -1)[..., 0]
    loss = model.loss(x_BT, y_BT).item()
    assert loss == pytest.approx((log_sum - chosen).mean(), abs=1e-4)


def test_a_token_does_not_see_later_ones(rng: np.random.Generator) -> None:
    model = GPT(TINY).double()
    before = tokens(rng, 1, 12)
    after = before.clone()
    after[0, 7:] = (after[0, 7:] + 1) % TINY.vocabulary
    a, b = model(before).detach().numpy(), model(after).detach().numpy()
    np.testing.assert_allclose(a[:, :7], b[:, :7], rtol=1e-12)
    assert np.abs(a[:, 7:] - b[:, 7:]).max() > 1e-6


def test_one_position_alone(rng: np.random.Generator) -> None:
    model = GPT(TINY).double()
    x_BT = tokens(rng, 2, 12)
    whole = model(x_BT).detach().numpy()
    alone = model(x_BT, at=flambeau.tensor([5])).detach().numpy()
    np.testing.assert_allclose(alone, whole[:, 5:6], rtol=1e-12)


def test_the_head_shares_the_token_table() -> None:
    model = GPT(TINY)
    assert model.head.weight is model.tokens.weight
    C, layers = TINY.width, TINY.layers
    block = (3 * C * C + 3 * C) + (C * C + C) + (8 * C * C + 5 * C) + 4 * C
    assert model.parameter_count() == (17 + 12) * C + layers * block + 2 * C


def test_weights_start_small_and_residual_layers_smaller() -> None:
    model = GPT(GPTConfig(layers=8, width=96))
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    assert state["blocks.0.mlp.up.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert state["blocks.0.mlp.down.weight"].std() == pytest.approx(0.005, rel=0.05)
    assert (state["blocks.3.norm_mlp.weight"] == 1).all()
    assert (state["blocks.3.attention.qkv.bias"] == 0).all()


def test_only_matrices_decay() -> None:
    model = GPT(TINY)
    decayed, kept = model.configure_optimizer(1e-3, 0.1).param_groups
    assert decayed["weight_decay"] == 0.1
    assert kept["weight_decay"] == 0.0
    assert all(p.dim() == 2 for p in decayed["params"])
    assert all(p.dim() == 1 for p in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_generation_is_repeatable_and_goes_past_the_context() -> None:
    model = GPT(GPTConfig(context=8, layers=1, heads=2, width=16))

    def sample(seed: int) -> bytes:
        generator = flambeau.Generator().manual_seed(seed)
        return model.generate(b"abc", 20, generator=generator)

    assert sample(0) == sample(0)
    assert sample(0)[:3] == b"abc"
    assert len(sample(0)) == 23
    assert sample(0) != sample(1)
    assert model.training
    greedy = model.generate(b"abc", 5, top_k=1)
    assert greedy == model.generate(b"abc", 5, top_k=1)
    assert len(model.generate(b"", 1)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 20, "heads": 3}, "width 20 and 3 heads"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_shapes_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPTConfig(**options)


def test_too_long_a_sequence_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="13 tokens is longer than the context of 12"):
        GPT(TINY)(tokens(rng, 1, 13))


def test_dropout_acts_in_training_alone(rng: np.random.Generator) -> None:
    model = GPT(GPTConfig(vocabulary=17, context=12, layers=1, heads=2, width=16, dropout=0.5))
    x_BT = tokens(rng, 1, 8)
    assert not np.array_equal(model(x_BT).detach().numpy(), model(x_BT).detach().numpy())
    model.eval()
    assert np.array_equal(model(x_BT).detach().numpy(), model(x_BT).detach().numpy())
