"""Layers compute what their formulas say, written out in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn

Array = np.ndarray[Any, Any]


def array(t: Any) -> Array:
    return np.asarray(t.detach().numpy(), dtype=np.float64)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture
def x(rng: np.random.Generator) -> Any:
    return flambeau.tensor(rng.standard_normal((4, 6)).astype("float32"))


def test_linear(x: Any) -> None:
    m = nn.Linear(6, 3)
    want = array(x) @ array(m.weight).T + array(m.bias)
    np.testing.assert_allclose(array(m(x)), want, rtol=1e-5, atol=1e-6)
    assert abs(array(m.weight)).max() <= 1 / math.sqrt(6)
    assert array(m.weight).std() > 0.1
    with pytest.raises(RuntimeError):
        m(flambeau.zeros(2, 5))


def test_bilinear(x: Any) -> None:
    m = nn.Bilinear(6, 6, 2, bias=False)
    want = np.einsum("bi,kij,bj->bk", array(x), array(m.weight), array(x))
    np.testing.assert_allclose(array(m(x, x)), want, rtol=1e-4, atol=1e-5)


def test_flatten_and_unflatten(x: Any) -> None:
    m = nn.Sequential(nn.Unflatten(1, (2, -1)), nn.Flatten(0, 1))
    np.testing.assert_array_equal(array(m(x)), array(x).reshape(8, 3))


def test_embedding() -> None:
    m = nn.Embedding(5, 3, padding_idx=-1)
    assert m.padding_idx == 4
    assert m.weight[4].tolist() == [0.0, 0.0, 0.0]
    ids = flambeau.tensor([[0, 4], [2, 0]])
    np.testing.assert_array_equal(array(m(ids)), array(m.weight)[np.array(ids.tolist())])
    m(ids).sum().backward()
    assert array(m.weight.grad)[:, 0].tolist() == [2, 0, 1, 0, 0]
    with pytest.raises(IndexError):
        m(flambeau.tensor([5])).tolist()


def test_embedding_of_a_given_table(rng: np.random.Generator) -> None:
    table = flambeau.tensor(rng.standard_normal((3, 2)))
    m = nn.Embedding.from_pretrained(table)
    assert not m.weight.requires_grad
    assert m.weight.data_ptr() == table.data_ptr()
    short = nn.Embedding.from_pretrained(table, freeze=False, max_norm=0.1)
    short(flambeau.tensor([1]))
    norms = np.linalg.norm(array(short.weight), axis=1)
    assert norms[1] == pytest.approx(0.1, rel=1e-4)
    assert norms[0] > 0.1
    with pytest.raises(AssertionError, match="expected to be 2-dimensional"):
        nn.Embedding.from_pretrained(flambeau.zeros(2))


def test_layer_norm_and_rms_norm(x: Any) -> None:
    a = array(x)
    m = nn.LayerNorm(6, eps=1e-3)
    with flambeau.no_grad():
        m.weight.mul_(2)
        m.bias.add_(1)
    normal = (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(array(m(x)), normal * 2 + 1, rtol=1e-5, atol=1e-5)
    rms = a / np.sqrt((a * a).mean(1, keepdims=True) + 1e-2)
    np.testing.assert_allclose(array(nn.RMSNorm(6, eps=1e-2)(x)), rms, rtol=1e-5, atol=1e-6)


def test_group_norm(rng: np.random.Generator) -> None:
    a = rng.standard_normal((2, 6, 5)).astype("float32")
    groups = a.reshape(2, 3, 10)
    want = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 1e-5)
    got = array(nn.GroupNorm(3, 6)(flambeau.tensor(a)))
    np.testing.assert_allclose(got, want.reshape(a.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("1d", (8, 3)), ("1d", (4, 3, 5)), ("2d", (2, 3, 4, 4)), ("3d", (2, 3, 2, 2, 2))],
)
def test_batch_norm(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> None:
    m = getattr(nn, "BatchNorm" + kind)(3, momentum=0.25)
    a = (rng.standard_normal(shape) * 2 + 1).astype("float32")
    axes = tuple(i for i in range(a.ndim) if i != 1)
    mean, var = a.mean(axes, dtype=np.float64), a.var(axes, dtype=np.float64)
    column = (1, 3) + (1,) * (a.ndim - 2)
    want = (a - mean.reshape(column)) / np.sqrt(var.reshape(column) + 1e-5)
    np.testing.assert_allclose(array(m(flambeau.tensor(a))), want, rtol=1e-4, atol=1e-5)
    n = a.size // 3
    running_var = 0.75 + 0.25 * var * n / (n - 1)
    np.testing.assert_allclose(array(m.running_mean), 0.25 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(array(m.running_var), running_var, rtol=1e-4)
    assert m.num_batches_tracked.item() == 1
    m.eval()
    want = (a - 0.25 * mean.reshape(column)) / np.sqrt(running_var.reshape(column) + 1e-5)
    np.testing.assert_allclose(array(m(flambeau.tensor(a))), want, rtol=1e-4, atol=1e-5)
    assert m.num_batches_tracked.item() == 1
    m.reset_running_stats()
    assert m.running_var.tolist() == [1.0, 1.0, 1.0]


def test_batch_norm_with_plain_averages(rng: np.random.Generator) -> None:
    m = nn.BatchNorm1d(2, momentum=None, affine=False)
    batches = rng.standard_normal((3, 5, 2)).astype("float32")
    for batch in batches:
        m(flambeau.tensor(batch))
    np.testing.assert_allclose(array(m.running_mean), batches.mean((0, 1)), rtol=1e-4, atol=1e-6)


def test_batch_norm_gradients(rng: np.random.Generator) -> None:
    m = nn.BatchNorm1d(2).double()
    x = flambeau.tensor(rng.standard_normal((4, 2)), requires_grad=True)
    assert flambeau.autograd.gradcheck(lambda x: m(x), (x,))


def test_batch_norm_refuses() -> None:
    with pytest.raises(ValueError, match=r"expected 2D or 3D input \(got 4D input\)"):
        nn.BatchNorm1d(2)(flambeau.zeros(1, 2, 3, 4))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        nn.BatchNorm2d(2)(flambeau.zeros(1, 2, 1, 1))
    nn.BatchNorm2d(2).eval()(flambeau.zeros(1, 2, 1, 1))


@pytest.mark.parametrize("name", ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d"])
def test_dropout(name: str) -> None:
    m = getattr(nn, name)(0.25)
    spatial = {"Dropout": (), "Dropout1d": (8,), "Dropout2d": (4, 2), "Dropout3d": (2, 2, 2)}[name]
    x = flambeau.ones(50, 40, *spatial)
    y = array(m(x)).reshape(50, 40, -1)
    if spatial:
        assert (y == y[:, :, :1]).all(), "a channel is dropped as a whole"
    assert set(np.unique(y)) == {0.0, np.float64(np.float32(1 / 0.75))}
    assert abs((y[:, :, 0] == 0).mean() - 0.25) < 0.05
    assert m.eval()(x) is x or array(m(x)).min() == 1
    with pytest.raises(ValueError, match=r"has to be between 0 and 1, but got -0\.1"):
        nn.Dropout(-0.1)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = flambeau.randn(400, 100)
    y = array(nn.AlphaDropout(0.3)(x))
    assert abs(y.mean()) < 0.03
    assert abs(y.std() - 1) < 0.03


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention(rng: np.random.Generator, need_weights: bool) -> None:
    length, batch, size, heads = 5, 2, 8, 2
    m = nn.MultiheadAttention(size, heads)
    with flambeau.no_grad():
        m.in_proj_bias.normal_()
    a = rng.standard_normal((length, batch, size)).astype("float32")
    mask = np.triu(np.ones((length, length), bool), 1)
    x = flambeau.tensor(a)
    out, weights = m(x, x, x, attn_mask=flambeau.tensor(mask), need_weights=need_weights)
    packed = a @ array(m.in_proj_weight).T + array(m.in_proj_bias)
    q, k, v = (
        part.reshape(length, batch, heads, -1).transpose(1, 2, 0, 3)
        for part in np.split(packed, 3, -1)
    )
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(size // heads)
    p = softmax(np.where(mask, -np.inf, scores))
    joined = (p @ v).transpose(2, 0, 1, 3).reshape(length, batch, size)
    want = joined @ array(m.out_proj.weight).T + array(m.out_proj.bias)
    np.testing.assert_allclose(array(out), want, rtol=1e-4, atol=1e-5)
    if need_weights:
        np.testing.assert_allclose(array(weights), p.mean(1), rtol=1e-4, atol=1e-6)
    else:
        assert weights is None


def test_padding_does_not_reach_the_output(rng: np.random.Generator) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    m = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    a = rng.standard_normal((2, 5, 8)).astype("float32")
    padding = flambeau.tensor([[False] * 3 + [True] * 2, [False] * 5])
    got = m(flambeau.tensor(a), src_key_padding_mask=padding)
    a[0, 3:] = 100.0
    again = m(flambeau.tensor(a), src_key_padding_mask=padding)
    np.testing.assert_allclose(array(got)[0, :3], array(again)[0, :3], rtol=1e-4, atol=1e-5)
    alone = m(flambeau.tensor(a[:1, :3]))
    np.testing.assert_allclose(array(got)[0, :3], array(alone)[0], rtol=1e-4, atol=1e-5)


def test_causal_decoder_does_not_look_ahead(rng: np.random.Generator) -> None:
    m = nn.Transformer(8, 2, 1, 2, 16, dropout=0.0, norm_first=True)
    src = flambeau.tensor(rng.standard_normal((4, 1, 8)).astype("float32"))
    a = rng.standard_normal((5, 1, 8)).astype("float32")
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    got = array(m(src, flambeau.tensor(a), tgt_mask=mask, tgt_is_causal=True))
    a[3:] = rng.standard_normal((2, 1, 8))
    again = array(m(src, flambeau.tensor(a), tgt_mask=mask))
    np.testing.assert_allclose(got[:3], again[:3], rtol=1e-4, atol=1e-5)
    assert abs(got[3:] - again[3:]).max() > 1e-3
    with pytest.raises(RuntimeError, match="the batch number of src and tgt must be equal"):
        m(src, flambeau.zeros(5, 2, 8))
    with pytest.raises(RuntimeError, match="must be equal to d_model"):
        m(src, flambeau.zeros(5, 1, 7))


def test_layers_of_a_stack_do_not_share() -> None:
    m = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2, enable_nested_tensor=False)
    first, second = m.layers
    assert first.linear1.weight.tolist() == second.linear1.weight.tolist()
    assert first.linear1.weight is not second.linear1.weight
    with pytest.raises(RuntimeError, match="activation should be relu/gelu, not tanh"):
        nn.TransformerEncoderLayer(4, 2, activation="tanh")


LOSSES = {
    "L1Loss": lambda x, y: abs(x - y),
    "MSELoss": lambda x, y: (x - y) ** 2,
    "SmoothL1Loss": lambda x, y: np.where(abs(x - y) < 1, (x - y) ** 2 / 2, abs(x - y) - 0.5),
    "BCEWithLogitsLoss": lambda x, y: np.log1p(np.exp(x)) - x * y,
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_reductions(rng: np.random.Generator, name: str) -> None:
    a, b = (rng.uniform(0, 3, (4, 3)).astype("float32") for _ in range(2))
    each = LOSSES[name](a.astype("float64"), b.astype("float64"))
    for reduction, want in (("none", each), ("sum", each.sum()), ("mean", each.mean())):
        m = getattr(nn, name)(reduction=reduction)
        got = array(m(flambeau.tensor(a), flambeau.tensor(b)))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    with pytest.warns(UserWarning, match="please use reduction='none' instead"):
        assert getattr(nn, name)(reduce=False).reduction == "none"


def test_cross_entropy(rng: np.random.Generator) -> None:
    a = rng.standard_normal((5, 4)).astype("float32")
    target = np.array([0, 3, 1, 2, 3])
    weight = np.array([1.0, 2.0, 0.5, 1.5], "float32")
    log_p = np.log(softmax(a.astype("float64")))
    each = -log_p[np.arange(5), target] * weight[target]
    counted = target != 1
    want = each[counted].sum() / weight[target][counted].sum()
    m = nn.CrossEntropyLoss(flambeau.tensor(weight), ignore_index=1)
    got = m(flambeau.tensor(a), flambeau.tensor(target))
    assert got.item() == pytest.approx(want, rel=1e-5)
    assert list(m.state_dict()) == ["weight"]
    nll = nn.NLLLoss(flambeau.tensor(weight), ignore_index=1)
    logs = flambeau.tensor(log_p.astype("float32"))
    assert nll(logs, flambeau.tensor(target)).item() == pytest.approx(want, rel=1e-5)
