"""Activations, losses, normalization and attention give torch's values and gradients.

Float64 is compared tightly; float32 must be about as close to float64 as torch's float32 is; half
types must round once.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import pytest

import flambeau
from tests.parity.rows import (
    OURS,
    THEIRS,
    assert_same_error,
    classes,
    compare,
    normal,
    outputs,
    run,
    uniform,
)

torch = pytest.importorskip("torch")

X = normal(3, 5, seed=1)
X3 = normal(2, 3, 4, seed=2)
SOFT = [
    ("softmax", lambda t, F, x: t.softmax(x, 1), X),
    ("softmax first", lambda t, F, x: t.softmax(x, 0), X),
    ("softmax middle", lambda t, F, x: x.softmax(-2), X3),
    ("softmax big", lambda t, F, x: t.softmax(x * 300, 1), X),
    ("softmax 0d", lambda t, F, x: t.softmax(x, 0), normal()),
    ("log_softmax", lambda t, F, x: t.log_softmax(x, -1), X3),
    ("log_softmax big", lambda t, F, x: t.log_softmax(x * 300, 1), X),
    ("log_softmax dtype", lambda t, F, x: x.log_softmax(1, dtype=t.float64), X),
    ("F.softmax", lambda t, F, x: F.softmax(x, dim=1), X),
    ("F.softmin", lambda t, F, x: F.softmin(x, dim=1), X),
    ("softmax transposed", lambda t, F, x: t.softmax(x.t(), 1), X),
]
ACTIVATIONS = [
    ("relu", lambda t, F, x: F.relu(x), X),
    ("relu at 0", lambda t, F, x: t.relu(x * 0), X),
    ("gelu", lambda t, F, x: F.gelu(x), X),
    ("gelu tanh", lambda t, F, x: F.gelu(x, approximate="tanh"), X),
    ("gelu wide", lambda t, F, x: F.gelu(x * 10), X),
    ("silu", lambda t, F, x: F.silu(x), X),
    ("silu inplace", lambda t, F, x: F.silu(x * 1, inplace=True), X),
    ("prelu", lambda t, F, x, w: F.prelu(x, w), X3, normal(3, seed=4)),
    ("prelu one", lambda t, F, x, w: t.prelu(x, w), X3, normal(1, seed=4)),
    ("prelu 1d", lambda t, F, x, w: t.prelu(x, w), X[0], normal(1, seed=4)),
    ("rrelu off", lambda t, F, x: F.rrelu(x), X),
    ("glu", lambda t, F, x: F.glu(x, 1), normal(3, 6)),
    ("glu last", lambda t, F, x: F.glu(x), normal(3, 2, 6)),
    ("F.sigmoid", lambda t, F, x: F.sigmoid(x), X),
    ("F.tanh", lambda t, F, x: F.tanh(x), X),
]
KINKS = np.array([-9.0, -6, -3, -2, -1, -0.5, -0.3, 0, 0.3, 0.5, 1, 2, 3, 6, 25])
ACTIVATIONS += [
    (f"{name} {kind}", call, values)
    for kind, values in (("normal", X * 3), ("kinks", KINKS))
    for name, call in (
        ("relu6", lambda t, F, x: F.relu6(x)),
        ("elu", lambda t, F, x: F.elu(x, 0.7)),
        ("elu inplace", lambda t, F, x: F.elu(x * 1, 0.7, True)),
        ("selu", lambda t, F, x: t.selu(x)),
        ("celu", lambda t, F, x: F.celu(x, alpha=2.0)),
        ("leaky_relu", lambda t, F, x: F.leaky_relu(x, 0.2)),
        ("leaky_relu inplace", lambda t, F, x: F.leaky_relu(x * 1, 0.2, inplace=True)),
        ("threshold", lambda t, F, x: F.threshold(x, 0.5, -3.0)),
        ("hardtanh", lambda t, F, x: F.hardtanh(x, -2, 3)),
        ("hardtanh inplace", lambda t, F, x: F.hardtanh(x * 1, -2, 3, inplace=True)),
        ("softplus", lambda t, F, x: F.softplus(x)),
        ("softplus beta", lambda t, F, x: F.softplus(x, 2, 5)),
        ("logsigmoid", lambda t, F, x: F.logsigmoid(x)),
        ("mish", lambda t, F, x: F.mish(x)),
        ("hardsigmoid", lambda t, F, x: F.hardsigmoid(x)),
        ("hardswish", lambda t, F, x: F.hardswish(x)),
        ("hardshrink", lambda t, F, x: F.hardshrink(x)),
        ("softshrink", lambda t, F, x: F.softshrink(x, 0.5)),
        ("tanhshrink", lambda t, F, x: F.tanhshrink(x)),
        ("softsign", lambda t, F, x: F.softsign(x)),
        ("sigmoid", lambda t, F, x: t.sigmoid(x)),
    )
]
NORMS = [
    ("layer_norm", lambda t, F, x, w, b: F.layer_norm(x, (4,), w, b), X3, normal(4), normal(4)),
    (
        "layer_norm 2 dims",
        lambda t, F, x, w, b: F.layer_norm(x, (3, 4), w, b, 1e-3),
        X3,
        normal(3, 4),
        normal(3, 4),
    ),
    ("layer_norm plain", lambda t, F, x: F.layer_norm(x, [4]), X3),
    ("layer_norm weight", lambda t, F, x, w: F.layer_norm(x, [4], w), X3, normal(4)),
    (
        "native_layer_norm",
        lambda t, F, x, w, b: t.native_layer_norm(x, (4,), w, b, 1e-5),
        X3,
        normal(4),
        normal(4),
    ),
    ("rms_norm", lambda t, F, x, w: F.rms_norm(x, (4,), w), X3, normal(4)),
    ("rms_norm plain", lambda t, F, x: F.rms_norm(x, (3, 4), eps=1e-2), X3),
    (
        "group_norm",
        lambda t, F, x, w, b: F.group_norm(x, 2, w, b),
        normal(2, 4, 3, 2),
        normal(4),
        normal(4),
    ),
    ("group_norm plain", lambda t, F, x: t.group_norm(x, 2), normal(3, 4)),
    (
        "instance_norm",
        lambda t, F, x, w, b: F.instance_norm(x, weight=w, bias=b),
        normal(2, 4, 3, 2),
        normal(4),
        normal(4),
    ),
    (
        "batch_norm",
        lambda t, F, x, w, b: F.batch_norm(x, None, None, w, b, True),
        normal(3, 4, 3, 2),
        normal(4),
        normal(4),
    ),
    ("batch_norm rows", lambda t, F, x: F.batch_norm(x, None, None, training=True), normal(5, 4)),
    (
        "batch_norm off",
        lambda t, F, x, m, v, w, b: F.batch_norm(x, m.detach(), v.detach(), w, b),
        normal(3, 4, 2),
        normal(4),
        uniform(4, low=0.5),
        normal(4),
        normal(4),
    ),
    (
        "local_response_norm",
        lambda t, F, x: F.local_response_norm(x, 3, 0.1, 0.6, 1.5),
        normal(2, 5, 3),
    ),
    ("local_response_norm even", lambda t, F, x: F.local_response_norm(x, 4), normal(2, 5, 3, 2)),
    ("normalize", lambda t, F, x: F.normalize(x), X),
    ("normalize p 1", lambda t, F, x: F.normalize(x, p=1, dim=0), X),
]
# -- losses ----------------------------------------------------------------------------------------

SIGNS = np.array([[1.0, -1.0, 1.0, -1.0, 1.0]] * 3)
P, TP = uniform(3, 5, low=0.05, high=0.95), uniform(3, 5, seed=7)
ROW_SIGNS = np.array([1.0, -1.0, 1.0])
Y = normal(3, 5, seed=8)
LOSSES = [
    (
        f"{name} {reduction}",
        (lambda t, F, *given, call=call, reduction=reduction: call(F, reduction, *given)),
        *arrays,
    )
    for reduction in ("mean", "sum", "none")
    for name, call, *arrays in (
        ("mse_loss", lambda F, r, x, y: F.mse_loss(x, y, reduction=r), X, Y),
        (
            "mse_loss weight",
            lambda F, r, x, y, w: F.mse_loss(x, y, reduction=r, weight=w.detach()),
            X,
            Y,
            P,
        ),
        ("l1_loss", lambda F, r, x, y: F.l1_loss(x, y, reduction=r), X, Y),
        ("smooth_l1_loss", lambda F, r, x, y: F.smooth_l1_loss(x, y, reduction=r, beta=0.7), X, Y),
        (
            "smooth_l1_loss 0",
            lambda F, r, x, y: F.smooth_l1_loss(x, y, reduction=r, beta=0.0),
            X,
            Y,
        ),
        ("huber_loss", lambda F, r, x, y: F.huber_loss(x, y, reduction=r, delta=0.7), X, Y),
        (
            "binary_cross_entropy",
            lambda F, r, x, y: F.binary_cross_entropy(x, y, reduction=r),
            P,
            TP,
        ),
        (
            "binary_cross_entropy weight",
            lambda F, r, x, y, w: F.binary_cross_entropy(x, y, w.detach(), reduction=r),
            P,
            TP,
            uniform(5),
        ),
        (
            "binary_cross_entropy ends",
            lambda F, r, x: F.binary_cross_entropy(x, x.detach().flip(0), reduction=r),
            np.array([0.0, 1.0, 1.0]),
        ),
        (
            "with_logits",
            lambda F, r, x, y: F.binary_cross_entropy_with_logits(x, y, reduction=r),
            X * 5,
            TP,
        ),
        (
            "with_logits weights",
            lambda F, r, x, y, w, p: F.binary_cross_entropy_with_logits(
                x, y, w.detach(), reduction=r, pos_weight=p.detach()
            ),
            X,
            TP,
            uniform(5),
            uniform(5, seed=3),
        ),
        ("kl_div", lambda F, r, x, y: F.kl_div(x, y, reduction=r), X, TP),
        ("kl_div log", lambda F, r, x, y: F.kl_div(x, y, reduction=r, log_target=True), X, Y),
        (
            "poisson_nll_loss",
            lambda F, r, x, y: F.poisson_nll_loss(x, y.detach(), reduction=r),
            X,
            uniform(3, 5, high=4),
        ),
        (
            "poisson_nll_loss full",
            lambda F, r, x, y: F.poisson_nll_loss(
                x, y.detach(), log_input=False, full=True, reduction=r
            ),
            P,
            uniform(3, 5, high=4),
        ),
        (
            "gaussian_nll_loss",
            lambda F, r, x, y, v: F.gaussian_nll_loss(x, y, v, reduction=r),
            X,
            Y,
            P,
        ),
        (
            "gaussian_nll_loss rows",
            lambda F, r, x, y, v: F.gaussian_nll_loss(x, y, v, True, reduction=r),
            X,
            Y,
            uniform(3, low=0.1),
        ),
        (
            "hinge_embedding_loss",
            lambda F, r, x, y: F.hinge_embedding_loss(x, y.detach(), 0.7, reduction=r),
            X,
            SIGNS,
        ),
        (
            "margin_ranking_loss",
            lambda F, r, x, y, s: F.margin_ranking_loss(x, y, s.detach(), 0.2, reduction=r),
            X,
            Y,
            SIGNS,
        ),
        (
            "cosine_embedding_loss",
            lambda F, r, x, y, s: F.cosine_embedding_loss(x, y, s.detach(), 0.1, reduction=r),
            X,
            Y,
            ROW_SIGNS,
        ),
        (
            "triplet_margin_loss",
            lambda F, r, a, p, n: F.triplet_margin_loss(a, p, n, reduction=r),
            X,
            Y,
            normal(3, 5, seed=10),
        ),
        (
            "triplet_margin_loss swap",
            lambda F, r, a, p, n: F.triplet_margin_loss(a, p, n, 2.0, 1.0, swap=True, reduction=r),
            X,
            Y,
            normal(3, 5, seed=10),
        ),
        (
            "triplet_margin_with_distance_loss",
            lambda F, r, a, p, n: F.triplet_margin_with_distance_loss(
                a, p, n, distance_function=lambda x, y: (x - y).square().sum(-1), reduction=r
            ),
            X,
            Y,
            normal(3, 5, seed=10),
        ),
        (
            "soft_margin_loss",
            lambda F, r, x, y: F.soft_margin_loss(x, y.detach(), reduction=r),
            X,
            SIGNS,
        ),
        (
            "multilabel_soft_margin_loss",
            lambda F, r, x, y, w: F.multilabel_soft_margin_loss(
                x, (y > 0.5).to(x.dtype), w.detach(), reduction=r
            ),
            X,
            TP,
            uniform(5),
        ),
        (
            "multi_margin_loss",
            lambda F, r, x, y: F.multi_margin_loss(x, y, reduction=r),
            X,
            np.array([1, 4, 0]),
        ),
        (
            "multi_margin_loss 2",
            lambda F, r, x, y, w: F.multi_margin_loss(x, y, 2, 0.5, w.detach(), reduction=r),
            X,
            np.array([1, 4, 0]),
            uniform(5),
        ),
        (
            "multilabel_margin_loss",
            lambda F, r, x, y: F.multilabel_margin_loss(x, y, reduction=r),
            X,
            np.array([[3, 0, -1, 1, 1], [-1] * 5, [0, 1, 2, 3, 4]]),
        ),
    )
]
T = classes(3, count=5)
T_IGNORED = np.array([1, -100, 4])
IMAGE, IMAGE_T = normal(2, 4, 3, 2), classes(2, 3, 2, count=4)
WEIGHT5 = uniform(5, low=0.1)


def constant(x: Any) -> Any:
    return x.detach()


CLASSIFICATION = [
    (
        f"{name} {reduction}",
        (lambda t, F, x, y, call=call, reduction=reduction: call(F, x, y, reduction)),
        x,
        y,
    )
    for reduction in ("mean", "sum", "none")
    for name, call, x, y in (
        ("cross_entropy", lambda F, x, y, r: F.cross_entropy(x, y, reduction=r), X, T),
        (
            "cross_entropy ignored",
            lambda F, x, y, r: F.cross_entropy(x, y, reduction=r),
            X,
            T_IGNORED,
        ),
        (
            "cross_entropy ignore 1",
            lambda F, x, y, r: F.cross_entropy(x, y, ignore_index=1, reduction=r),
            X,
            np.array([1, 2, 3]),
        ),
        (
            "cross_entropy image",
            lambda F, x, y, r: F.cross_entropy(x, y, reduction=r),
            IMAGE,
            IMAGE_T,
        ),
        (
            "cross_entropy vector",
            lambda F, x, y, r: F.cross_entropy(x, y, reduction=r),
            X[0],
            np.array(2),
        ),
        (
            "cross_entropy smooth",
            lambda F, x, y, r: F.cross_entropy(x, y, reduction=r, label_smoothing=0.2),
            X,
            T_IGNORED,
        ),
        (
            "cross_entropy soft",
            lambda F, x, y, r: F.cross_entropy(x, y.softmax(1), reduction=r),
            X,
            normal(3, 5, seed=8),
        ),
        (
            "cross_entropy soft smooth",
            lambda F, x, y, r: F.cross_entropy(x, y.softmax(1), reduction=r, label_smoothing=0.1),
            X,
            normal(3, 5, seed=8),
        ),
        ("nll_loss", lambda F, x, y, r: F.nll_loss(x, y, reduction=r), X, T_IGNORED),
        ("nll_loss image", lambda F, x, y, r: F.nll_loss(x, y, reduction=r), IMAGE, IMAGE_T),
    )
] + [
    (
        f"{name} weighted {reduction}",
        (
            lambda t, F, x, y, w, call=call, reduction=reduction: call(
                F, x, y, constant(w), reduction
            )
        ),
        x,
        y,
        WEIGHT5,
    )
    for reduction in ("mean", "sum", "none")
    for name, call, x, y in (
        (
            "cross_entropy",
            lambda F, x, y, w, r: F.cross_entropy(x, y, w, reduction=r),
            X,
            T_IGNORED,
        ),
        (
            "cross_entropy smooth",
            lambda F, x, y, w, r: F.cross_entropy(x, y, w, reduction=r, label_smoothing=0.3),
            X,
            T_IGNORED,
        ),
        (
            "cross_entropy soft",
            lambda F, x, y, w, r: F.cross_entropy(x, y.softmax(1), w, reduction=r),
            X,
            normal(3, 5, seed=8),
        ),
        ("nll_loss", lambda F, x, y, w, r: F.nll_loss(x, y, w, reduction=r), X, T_IGNORED),
    )
]
Q, K, V = normal(2, 3, 4, 5, seed=3), normal(2, 3, 6, 5, seed=4), normal(2, 3, 6, 7, seed=5)
MASK = np.random.default_rng(6).random((4, 6)) > 0.4
BIAS = normal(2, 1, 4, 6, seed=7)
EMPTY_ROW = np.array([[True] * 6, [False] * 6, [True] * 6, [True] * 6])
ATTENTION = [
    ("sdpa", lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v), Q, K, V),
    (
        "sdpa causal",
        lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        Q,
        K,
        V,
    ),
    (
        "sdpa scale",
        lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3),
        Q,
        K,
        V,
    ),
    (
        "sdpa bool",
        lambda t, F, q, k, v, m: F.scaled_dot_product_attention(q, k, v, m),
        Q,
        K,
        V,
        MASK,
    ),
    (
        "sdpa bias",
        lambda t, F, q, k, v, m: F.scaled_dot_product_attention(q, k, v, m),
        Q,
        K,
        V,
        BIAS,
    ),
    (
        "sdpa empty row",
        lambda t, F, q, k, v, m: F.scaled_dot_product_attention(q, k, v, m),
        Q,
        K,
        V,
        EMPTY_ROW,
    ),
    (
        "sdpa -inf bias",
        lambda t, F, q, k, v, m: F.scaled_dot_product_attention(
            q, k, v, t.zeros(4, 6, dtype=q.dtype).masked_fill(~m, -math.inf)
        ),
        Q,
        K,
        V,
        EMPTY_ROW,
    ),
    (
        "sdpa gqa",
        lambda t, F, q, k, v: F.scaled_dot_product_attention(
            q, k, v, enable_gqa=True, is_causal=True
        ),
        normal(2, 6, 4, 5),
        K,
        V,
    ),
    (
        "sdpa gqa mask",
        lambda t, F, q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, enable_gqa=True),
        normal(2, 6, 4, 5),
        K,
        V,
        normal(2, 6, 4, 6),
    ),
    (
        "sdpa 2d",
        lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v),
        Q[0, 0],
        K[0, 0],
        V[0, 0],
    ),
    (
        "sdpa from a packed projection",
        lambda t, F, x: F.scaled_dot_product_attention(
            *(y.reshape(2, 5, 2, 3).transpose(1, 2) for y in x.split(6, 2)), is_causal=True
        ),
        normal(2, 5, 18),
    ),
]
LINEAR = [
    ("linear", lambda t, F, x, w, b: F.linear(x, w, b), X3, normal(6, 4), normal(6)),
    ("linear plain", lambda t, F, x, w: F.linear(x, w), X, normal(2, 5)),
    ("linear vector", lambda t, F, x, w, b: F.linear(x, w, b), X[0], normal(2, 5), normal(2)),
    ("linear 1d weight", lambda t, F, x, w: F.linear(x, w), X3, normal(4)),
    ("linear transposed", lambda t, F, x, w: F.linear(x.transpose(0, 1), w), X3, normal(6, 4)),
    (
        "bilinear",
        lambda t, F, x, y, w, b: F.bilinear(x, y, w, b),
        normal(2, 3, 4),
        normal(2, 3, 5),
        normal(6, 4, 5),
        normal(6),
    ),
    ("embedding", lambda t, F, i, w: F.embedding(i, w), classes(2, 3, count=5), normal(5, 4)),
    (
        "embedding padding",
        lambda t, F, i, w: F.embedding(i, w, padding_idx=-5),
        np.array([0, 1, 0, 3, 3]),
        normal(5, 4),
    ),
    (
        "embedding frequency",
        lambda t, F, i, w: F.embedding(i, w, scale_grad_by_freq=True),
        np.array([0, 1, 0, 3, 3]),
        normal(5, 4),
    ),
    ("one_hot", lambda t, F, i: F.one_hot(i), classes(2, 3, count=5)),
    ("one_hot 9", lambda t, F, i: F.one_hot(i, 9), classes(4, count=5)),
    (
        "cosine_similarity",
        lambda t, F, x, y: F.cosine_similarity(x, y),
        X3,
        normal(2, 3, 4, seed=9),
    ),
    (
        "cosine_similarity broadcast",
        lambda t, F, x, y: t.cosine_similarity(x, y, dim=-1),
        X3,
        normal(4, seed=9),
    ),
    ("pairwise_distance", lambda t, F, x, y: F.pairwise_distance(x, y), X, normal(3, 5, seed=9)),
    (
        "pairwise_distance 1",
        lambda t, F, x, y: t.pairwise_distance(x, y, 1, keepdim=True),
        X,
        normal(5, seed=9),
    ),
    ("dropout off", lambda t, F, x: F.dropout(x, 0.5, False), X),
    ("dropout 1", lambda t, F, x: F.dropout(x, 1.0), X),
]
CASES = [*SOFT, *ACTIVATIONS, *NORMS, *LOSSES, *CLASSIFICATION, *ATTENTION, *LINEAR]


@pytest.mark.parametrize("case", CASES, ids=[c[0] for c in CASES])
def test_float64_values_and_gradients(case: tuple[Any, ...]) -> None:
    name, call, *arrays = case
    # torch keeps two constants of these rules in float32
    coarse = name.startswith(("hardsigmoid", "binary_cross_entropy ends"))
    compare(call, *arrays, rtol=1e-7 if coarse else 1e-9)


EPS32 = 2.0**-24
SMOOTH = [
    c
    for c in [*SOFT, *ACTIVATIONS, *NORMS, *LOSSES, *CLASSIFICATION, *ATTENTION, *LINEAR]
    if "empty row" not in c[0] and "-inf" not in c[0] and "dtype" not in c[0]
]


@pytest.mark.parametrize("case", SMOOTH, ids=[c[0] for c in SMOOTH])
def test_float32_is_as_close_to_float64_as_torch(case: tuple[Any, ...]) -> None:
    _, call, *arrays = case
    arrays = [np.asarray(a, np.float32) if np.asarray(a).dtype.kind == "f" else a for a in arrays]
    exact = run(torch, THEIRS, call, tuple(arrays), "float64")
    ours = run(flambeau, OURS, call, tuple(arrays), "float32")
    theirs = run(torch, THEIRS, call, tuple(arrays), "float32")
    for part in (0, 1):
        for want, got, peer in zip(exact[part], ours[part], theirs[part], strict=True):
            if want is None:
                continue
            scale = np.abs(want).max(initial=1e-30)
            wrong = np.abs(got - want).max(initial=0.0) / scale
            allowed = np.abs(peer - want).max(initial=0.0) / scale
            assert wrong <= 2.0 * allowed + 4 * EPS32


HALVES = [
    (case, dtype)
    for case in [*SOFT, *ACTIVATIONS, *NORMS, *CLASSIFICATION[:12], *ATTENTION[:4]]
    for dtype in ("bfloat16", "float16")
    if not any(
        word in case[0] for word in ("big", "dtype", "group_norm plain", "local_response_norm")
    )
    and (dtype == "bfloat16" or case in SOFT or case in NORMS or case in ATTENTION)
]


@pytest.mark.parametrize(("case", "dtype"), HALVES, ids=[f"{c[0]} {d}" for c, d in HALVES])
def test_half_types(case: tuple[Any, ...], dtype: str) -> None:
    _, call, *arrays = case
    step = 2.0**-7 if dtype == "bfloat16" else 2.0**-10
    compare(call, *arrays, dtype=dtype, rtol=2 * step, atol=4 * step)


DOUBLE = [
    c
    for c in CASES
    if c[0]
    in (
        "softmax",
        "log_softmax",
        "gelu",
        "gelu tanh",
        "silu",
        "layer_norm",
        "rms_norm",
        "clamp",
        "cross_entropy mean",
        "cross_entropy image none",
        "sdpa",
        "sdpa bias",
        "linear",
        "embedding",
        "sdpa gqa mask",
        "native_layer_norm",
        "square",
        "lerp tensor",
        "addcdiv",
    )
]


@pytest.mark.parametrize("case", DOUBLE, ids=[c[0] for c in DOUBLE])
def test_second_derivatives(case: tuple[Any, ...]) -> None:
    _, call, *arrays = case

    def second(lib: Any, functions: Any) -> list[Any]:
        given = [lib.tensor(np.asarray(a)) for a in arrays]
        leaves = [t.requires_grad_() for t in given if t.dtype.is_floating_point]
        with _plain_attention(lib):
            first = sum((o * o).sum() for o in outputs(call(lib, functions, *given))[:1])
            grads = lib.autograd.grad(first, leaves, create_graph=True)
            total = sum((g * g * g).sum() for g in grads)
            return [g.numpy() for g in lib.autograd.grad(total, leaves)]

    for got, want in zip(second(flambeau, OURS), second(torch, THEIRS), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)


def _plain_attention(lib: Any) -> Any:
    """torch's fused attention cannot be differentiated twice; its plain form can."""
    if lib is torch:
        return torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    return contextlib.nullcontext()


LONG = np.array([[1, 2, 3]])
ERRORS = [
    ("group_norm groups", lambda t, F, x: F.group_norm(x, 2), X),
    ("group_norm rank", lambda t, F, x: F.group_norm(x, 1), X[0]),
    ("batch_norm one value", lambda t, F, x: F.batch_norm(x, None, None, training=True), X[:1]),
    ("batch_norm no statistics", lambda t, F, x: F.batch_norm(x, None, None), X),
    ("batch_norm sizes", lambda t, F, x: F.batch_norm(x, t.ones(4), t.ones(4)), X),
    ("instance_norm one value", lambda t, F, x: F.instance_norm(x[:, :, :1]), X3),
    ("local_response_norm rank", lambda t, F, x: F.local_response_norm(x, 2), X),
    ("glu odd", lambda t, F, x: F.glu(x), X),
    ("prelu weights", lambda t, F, x: F.prelu(x, t.ones(3, dtype=t.float64)), X),
    ("hardtanh bounds", lambda t, F, x: F.hardtanh(x, 2, 1), X),
    ("celu 0", lambda t, F, x: F.celu(x, 0), X),
    ("rrelu bounds", lambda t, F, x: F.rrelu(x, 1, 0), X),
    ("softshrink below 0", lambda t, F, x: F.softshrink(x, -1), X),
    ("mse sizes", lambda t, F, x: F.mse_loss(x, x[0, :2]), X),
    ("bce sizes", lambda t, F, x: F.binary_cross_entropy(x, x[0]), X),
    ("bce with logits sizes", lambda t, F, x: F.binary_cross_entropy_with_logits(x, x[0]), X),
    ("huber delta", lambda t, F, x: F.huber_loss(x, x, delta=0.0), X),
    ("smooth_l1 beta", lambda t, F, x: F.smooth_l1_loss(x, x, beta=-1.0), X),
    ("kl reduction", lambda t, F, x: F.kl_div(x, x, reduction="foo"), X),
    ("gaussian variance", lambda t, F, x: F.gaussian_nll_loss(x, x, x), X),
    ("gaussian sizes", lambda t, F, x: F.gaussian_nll_loss(x, x, t.ones(2)), X),
    ("triplet margin", lambda t, F, x: F.triplet_margin_loss(x, x, x, margin=-1.0), X),
    ("ranking ranks", lambda t, F, x: F.margin_ranking_loss(x, x, x[0]), X),
    ("cosine ranks", lambda t, F, x: F.cosine_embedding_loss(x, x, x), X),
    ("multi_margin p", lambda t, F, x: F.multi_margin_loss(x, t.tensor([0, 1, 2]), p=3), X),
    ("bilinear sizes", lambda t, F, x: F.bilinear(x, x, t.ones(2, 4, 5, dtype=t.float64)), X),
    ("classes of another batch", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1])), X),
    ("class too large", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1, 5])), X),
    ("class negative", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1, -1])), X),
    ("class int32", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1, 2], dtype=t.int32)), X),
    ("classes 2d", lambda t, F, x: F.cross_entropy(x, t.tensor([[0], [1], [2]])), X),
    ("integer probabilities", lambda t, F, x: F.cross_entropy(x, x.long()), X),
    ("weights short", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1, 2]), t.ones(4)), X),
    ("smoothing", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1, 2]), label_smoothing=2.0), X),
    ("reduction", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1, 2]), reduction="foo"), X),
    ("integer scores", lambda t, F, x: F.cross_entropy(x.long(), t.tensor([0, 1, 2])), X),
    ("image sizes", lambda t, F, x: F.cross_entropy(x, t.zeros(2, 3, 3, dtype=t.long)), IMAGE),
    ("image rank", lambda t, F, x: F.cross_entropy(x, t.zeros(2, 3, dtype=t.long)), IMAGE),
    ("ignored probability", lambda t, F, x: F.cross_entropy(x, x.softmax(1), ignore_index=1), X),
    ("nll too large", lambda t, F, x: F.nll_loss(x, t.tensor([0, 1, 5])), X),
    ("embedding range", lambda t, F, x: F.embedding(t.tensor([7]), x), X),
    ("embedding negative", lambda t, F, x: F.embedding(t.tensor([-1]), x), X),
    ("embedding floats", lambda t, F, x: F.embedding(t.tensor([1.0]), x), X),
    ("embedding padding", lambda t, F, x: F.embedding(t.tensor([1]), x, padding_idx=7), X),
    ("linear sizes", lambda t, F, x: F.linear(x, t.ones(4, 6, dtype=t.float64)), X),
    ("linear dtypes", lambda t, F, x: F.linear(x, t.ones(4, 5)), X),
    ("linear bias", lambda t, F, x: F.linear(x, x, t.ones(2, dtype=t.float64)), X),
    ("softmax integers", lambda t, F, x: t.softmax(x, 1), LONG),
    ("softmax dim", lambda t, F, x: t.softmax(x, 2), X),
    ("gelu integers", lambda t, F, x: F.gelu(x), LONG),
    ("gelu approximate", lambda t, F, x: F.gelu(x, approximate="x"), X),
    ("relu bools", lambda t, F, x: t.relu(x > 0), X),
    ("silu integers", lambda t, F, x: F.silu(x), LONG),
    ("dropout probability", lambda t, F, x: F.dropout(x, 1.5), X),
    ("one_hot negative", lambda t, F, x: F.one_hot(-x), LONG),
    ("one_hot classes", lambda t, F, x: F.one_hot(x, 2), LONG),
    ("layer_norm sizes", lambda t, F, x: F.layer_norm(x, (4,)), X),
    ("layer_norm weight", lambda t, F, x: F.layer_norm(x, (5,), t.ones(4, dtype=t.float64)), X),
    ("layer_norm integers", lambda t, F, x: F.layer_norm(x, (3,)), LONG),
    ("layer_norm nothing", lambda t, F, x: F.layer_norm(x, ()), X),
    ("rms_norm sizes", lambda t, F, x: F.rms_norm(x, (4,)), X),
    (
        "sdpa sizes",
        lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v[:, :, :5]),
        Q,
        K,
        V,
    ),
    (
        "sdpa two masks",
        lambda t, F, q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, is_causal=True),
        Q,
        K,
        V,
        MASK,
    ),
    (
        "sdpa mask dtype",
        lambda t, F, q, k, v, m: F.scaled_dot_product_attention(q, k, v, m.long()),
        Q,
        K,
        V,
        MASK,
    ),
    ("sdpa dtypes", lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k.float(), v), Q, K, V),
]


@pytest.mark.parametrize("case", ERRORS, ids=[c[0] for c in ERRORS])
def test_errors_have_torchs_class(case: tuple[Any, ...]) -> None:
    _, call, *arrays = case
    assert_same_error(call, *arrays)


def test_running_statistics() -> None:
    found = []
    for lib, functions in ((flambeau, OURS), (torch, THEIRS)):
        x = lib.tensor(normal(3, 4, 5))
        state = [lib.tensor(normal(4)), lib.tensor(uniform(4))]
        functions.batch_norm(x, *state, training=True, momentum=0.3)
        functions.instance_norm(x, *state, use_input_stats=True, momentum=0.2)
        out = functions.instance_norm(x, *state, use_input_stats=False)
        found.append([s.numpy() for s in (*state, out)])
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)


def test_embedding_renormalizes_the_rows_it_reads() -> None:
    found = []
    for lib, functions in ((flambeau, OURS), (torch, THEIRS)):
        weight = lib.tensor(normal(5, 4) * 3)
        out = functions.embedding(lib.tensor([0, 2, 2]), weight, max_norm=1.5)
        found.append((out.numpy(), weight.numpy()))
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_multi_margin_loss_refuses_what_is_no_class() -> None:
    loss = OURS.multi_margin_loss(flambeau.zeros(1, 5), flambeau.tensor([5]))
    with pytest.raises(RuntimeError, match="target out of range"):
        loss.item()
