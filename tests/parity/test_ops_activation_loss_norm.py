"""Arithmetic, activations, losses, normalization and attention give torch's values and gradients.

Float64 is compared tightly; float32 must be about as close to float64 as torch's float32 is; half
types must round once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.ops.table import FUNCTIONAL

torch = pytest.importorskip("torch")

OURS = SimpleNamespace(**FUNCTIONAL)
THEIRS = torch.nn.functional


def normal(*shape: int, seed: int = 0, low: float = -math.inf, high: float = math.inf) -> Any:
    """Standard normal values, clipped, as float64."""
    return np.clip(np.random.default_rng(seed).standard_normal(shape), low, high)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Any:
    """Uniform values as float64."""
    return np.random.default_rng(seed).uniform(low, high, shape)


def classes(*shape: int, count: int, seed: int = 0) -> Any:
    """Random classes as int64."""
    return np.random.default_rng(seed).integers(0, count, shape)


def outputs(found: Any) -> list[Any]:
    """A result's tensors."""
    return list(found) if isinstance(found, (tuple, list)) else [found]


def run(lib: Any, functions: Any, call: Callable[..., Any], arrays: tuple[Any, ...], dtype: str,
        ) -> tuple[list[Any], list[Any]]:
    """Values and gradients as float64 arrays (None where there is no gradient)."""
    given = []
    for a in arrays:
        t = lib.tensor(np.asarray(a))
        if np.asarray(a).dtype.kind == "f":
            t = t.to(getattr(lib, dtype)).requires_grad_()
        given.append(t)
    outs = outputs(call(lib, functions, *given))
    total = None
    for k, o in enumerate(outs):
        if o.dtype.is_floating_point and o.requires_grad:
            weight = lib.tensor(normal(*o.shape, seed=100 + k)).to(o.dtype)
            part = (o * weight).sum()
            total = part if total is None else total + part
    if total is not None:
        total.backward()
    values = [o.detach().to(lib.float64).numpy() for o in outs]
    grads = [None if t.grad is None else t.grad.to(lib.float64).numpy()
             for t in given]
    return values, grads


def compare(call: Callable[..., Any], *arrays: Any, rtol: float = 1e-9, atol: float = 1e-10,
            dtype: str = "float64") -> None:
    """The same call in both libraries gives the same values, dtypes and gradients."""
    got = run(flambeau, OURS, call, arrays, dtype)
    want = run(torch, THEIRS, call, arrays, dtype)
    for kind, a, b in (("value", got[0], want[0]), ("gradient", got[1], want[1])):
        assert len(a) == len(b)
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            if y is None or x is None:
                other = x if y is None else y
                assert other is None or not np.any(other), f"{kind} {k} in one library only"
                continue
            assert x.shape == y.shape, f"{kind} {k}"
            np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=f"{kind} {k}")


def error(lib: Any, functions: Any, call: Callable[..., Any], arrays: tuple[Any, ...]) -> Any:
    """The exception of a call, or None."""
    try:
        found = call(lib, functions, *(lib.tensor(np.asarray(a)) for a in arrays))
        for o in outputs(found):
            o.tolist()
    except Exception as raised:  # noqa: BLE001 (any class is compared)
        return raised
    return None


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
]
NORMS = [
    ("layer_norm", lambda t, F, x, w, b: F.layer_norm(x, (4,), w, b), X3, normal(4), normal(4)),
    ("layer_norm 2 dims", lambda t, F, x, w, b: F.layer_norm(x, (3, 4), w, b, 1e-3), X3,
     normal(3, 4), normal(3, 4)),
    ("layer_norm plain", lambda t, F, x: F.layer_norm(x, [4]), X3),
    ("layer_norm weight", lambda t, F, x, w: F.layer_norm(x, [4], w), X3, normal(4)),
    ("native_layer_norm", lambda t, F, x, w, b: t.native_layer_norm(x, (4,), w, b, 1e-5), X3,
     normal(4), normal(4)),
    ("rms_norm", lambda t, F, x, w: F.rms_norm(x, (4,), w), X3, normal(4)),
    ("rms_norm plain", lambda t, F, x: F.rms_norm(x, (3, 4), eps=1e-2), X3),
]
T = classes(3, count=5)
T_IGNORED = np.array([1, -100, 4])
IMAGE, IMAGE_T = normal(2, 4, 3, 2), classes(2, 3, 2, count=4)
WEIGHT5 = uniform(5, low=0.1)


def constant(x: Any) -> Any:
    return x.detach()


CLASSIFICATION = [
    (f"{name} {reduction}", (lambda t, F, x, y, call=call, reduction=reduction:
                             call(F, x, y, reduction)), x, y)
    for reduction in ("mean", "sum", "none")
    for name, call, x, y in (
        ("cross_entropy", lambda F, x, y, r: F.cross_entropy(x, y, reduction=r), X, T),
        ("cross_entropy ignored", lambda F, x, y, r: F.cross_entropy(x, y, reduction=r), X,
         T_IGNORED),
        ("cross_entropy ignore 1", lambda F, x, y, r: F.cross_entropy(
            x, y, ignore_index=1, reduction=r), X, np.array([1, 2, 3])),
        ("cross_entropy image", lambda F, x, y, r: F.cross_entropy(x, y, reduction=r), IMAGE,
         IMAGE_T),
        ("cross_entropy vector", lambda F, x, y, r: F.cross_entropy(x, y, reduction=r), X[0],
         np.array(2)),
        ("cross_entropy smooth", lambda F, x, y, r: F.cross_entropy(
            x, y, reduction=r, label_smoothing=0.2), X, T_IGNORED),
        ("cross_entropy soft", lambda F, x, y, r: F.cross_entropy(
            x, y.softmax(1), reduction=r), X, normal(3, 5, seed=8)),
        ("cross_entropy soft smooth", lambda F, x, y, r: F.cross_entropy(
            x, y.softmax(1), reduction=r, label_smoothing=0.1), X, normal(3, 5, seed=8)),
        ("nll_loss", lambda F, x, y, r: F.nll_loss(x, y, reduction=r), X, T_IGNORED),
        ("nll_loss image", lambda F, x, y, r: F.nll_loss(x, y, reduction=r), IMAGE, IMAGE_T),
    )
] + [
    (f"{name} weighted {reduction}", (lambda t, F, x, y, w, call=call, reduction=reduction:
                                      call(F, x, y, constant(w), reduction)), x, y, WEIGHT5)
    for reduction in ("mean", "sum", "none")
    for name, call, x, y in (
        ("cross_entropy", lambda F, x, y, w, r: F.cross_entropy(x, y, w, reduction=r), X,
         T_IGNORED),
        ("cross_entropy smooth", lambda F, x, y, w, r: F.cross_entropy(
            x, y, w, reduction=r, label_smoothing=0.3), X, T_IGNORED),
        ("cross_entropy soft", lambda F, x, y, w, r: F.cross_entropy(
            x, y.softmax(1), w, reduction=r), X, normal(3, 5, seed=8)),
        ("nll_loss", lambda F, x, y, w, r: F.nll_loss(x, y, w, reduction=r), X, T_IGNORED),
    )
]
Q, K, V = normal(2, 3, 4, 5, seed=3), normal(2, 3, 6, 5, seed=4), normal(2, 3, 6, 7, seed=5)
MASK = np.random.default_rng(6).random((4, 6)) > 0.4
BIAS = normal(2, 1, 4, 6, seed=7)
EMPTY_ROW = np.array([[True] * 6, [False] * 6, [True] * 6, [True] * 6])
ATTENTION = [
    ("sdpa", lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v), Q, K, V),
    ("sdpa causal", lambda t, F, q, k, v: F.scaled_dot_product_attention(
        q, k, v, is_causal=True), Q, K, V),
    ("sdpa scale", lambda t, F, q, k, v: F.scaled_dot_product_attention(
        q, k, v, scale=0.3), Q, K, V),
    ("sdpa bool", lambda t, F, q, k, v, m: F.scaled_dot_product_attention(
        q, k, v, m), Q, K, V, MASK),
    ("sdpa bias", lambda t, F, q, k, v, m: F.scaled_dot_product_attention(
        q, k, v, m), Q, K, V, BIAS),
    ("sdpa empty row", lambda t, F, q, k, v, m: F.scaled_dot_product_attention(
        q, k, v, m), Q, K, V, EMPTY_ROW),
    ("sdpa -inf bias", lambda t, F, q, k, v, m: F.scaled_dot_product_attention(
        q, k, v, t.zeros(4, 6, dtype=q.dtype).masked_fill(~m, -math.inf)), Q, K, V, EMPTY_ROW),
    ("sdpa gqa", lambda t, F, q, k, v: F.scaled_dot_product_attention(
        q, k, v, enable_gqa=True, is_causal=True), normal(2, 6, 4, 5), K, V),
    ("sdpa gqa mask", lambda t, F, q, k, v, m: F.scaled_dot_product_attention(
        q, k, v, m, enable_gqa=True), normal(2, 6, 4, 5), K, V, normal(2, 6, 4, 6)),
    ("sdpa 2d", lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v), Q[0, 0], K[0, 0],
     V[0, 0]),
    ("sdpa from a packed projection", lambda t, F, x: F.scaled_dot_product_attention(
        *(y.reshape(2, 5, 2, 3).transpose(1, 2) for y in x.split(6, 2)), is_causal=True),
     normal(2, 5, 18)),
]
LINEAR = [
    ("linear", lambda t, F, x, w, b: F.linear(x, w, b), X3, normal(6, 4), normal(6)),
    ("linear plain", lambda t, F, x, w: F.linear(x, w), X, normal(2, 5)),
    ("linear vector", lambda t, F, x, w, b: F.linear(x, w, b), X[0], normal(2, 5), normal(2)),
    ("linear 1d weight", lambda t, F, x, w: F.linear(x, w), X3, normal(4)),
    ("linear transposed", lambda t, F, x, w: F.linear(x.transpose(0, 1), w), X3, normal(6, 4)),
    ("bilinear", lambda t, F, x, y, w, b: F.bilinear(x, y, w, b), normal(2, 3, 4),
     normal(2, 3, 5), normal(6, 4, 5), normal(6)),
    ("embedding", lambda t, F, i, w: F.embedding(i, w), classes(2, 3, count=5), normal(5, 4)),
    ("embedding padding", lambda t, F, i, w: F.embedding(i, w, padding_idx=-5),
     np.array([0, 1, 0, 3, 3]), normal(5, 4)),
    ("embedding frequency", lambda t, F, i, w: F.embedding(i, w, scale_grad_by_freq=True),
     np.array([0, 1, 0, 3, 3]), normal(5, 4)),
    ("one_hot", lambda t, F, i: F.one_hot(i), classes(2, 3, count=5)),
    ("one_hot 9", lambda t, F, i: F.one_hot(i, 9), classes(4, count=5)),
    ("dropout off", lambda t, F, x: F.dropout(x, 0.5, False), X),
    ("dropout 1", lambda t, F, x: F.dropout(x, 1.0), X),
]
ARITHMETIC = [
    ("div", lambda t, F, x, y: t.div(x, y), X, uniform(5, low=1, high=2)),
    ("div floor", lambda t, F, x, y: x.div(y, rounding_mode="floor"), X, uniform(5, low=0.1)),
    ("div trunc", lambda t, F, x, y: t.div(x, y, rounding_mode="trunc"), X, uniform(5, low=0.1)),
    ("where", lambda t, F, c, x, y: t.where(c, x, y), MASK, normal(4, 6), normal(6)),
    ("where number", lambda t, F, c, x: t.where(c, x, 2), MASK, normal(4, 6)),
    ("where method", lambda t, F, c, x: x.where(c, 0.0), MASK, normal(4, 6)),
    ("clamp", lambda t, F, x: x.clamp(-0.5, 0.5), X),
    ("clamp border", lambda t, F, x: t.clamp(x, 0, 1), np.array([-1.0, 0.0, 0.5, 1.0, 2.0])),
    ("clamp tensors", lambda t, F, x, a, b: t.clamp(x, a, b), X, normal(5, seed=4),
     normal(3, 1, seed=5)),
    ("clamp min", lambda t, F, x: x.clamp(min=0.1), X),
    ("clamp_max", lambda t, F, x, m: x.clamp_max(m), X, normal(5)),
    ("square", lambda t, F, x: x.square(), X),
    ("addcmul", lambda t, F, x, a, b: t.addcmul(x, a, b, value=0.3), X, normal(5), normal(3, 1)),
    ("addcdiv", lambda t, F, x, a, b: x.addcdiv(a, b, value=-2.5), X, normal(5),
     uniform(3, 1, low=1)),
    ("lerp", lambda t, F, x, y: t.lerp(x, y, 0.3), X, normal(3, 5, seed=9)),
    ("lerp 0.9", lambda t, F, x, y: t.lerp(x, y, 0.9), X, normal(3, 5, seed=9)),
    ("lerp tensor", lambda t, F, x, y, w: t.lerp(x, y, w), X, normal(3, 5, seed=9), normal(5)),
    ("rsub", lambda t, F, x, y: t.rsub(x, y, alpha=0.5), X, normal(5)),
    ("ldexp", lambda t, F, x, y: t.ldexp(x, y), X, classes(5, count=4)),
]
CASES = [*SOFT, *ACTIVATIONS, *NORMS, *CLASSIFICATION, *ATTENTION, *LINEAR, *ARITHMETIC]


@pytest.mark.parametrize("case", CASES, ids=[c[0] for c in CASES])
def test_float64_values_and_gradients(case: tuple[Any, ...]) -> None:
    _, call, *arrays = case
    compare(call, *arrays)


EPS32 = 2.0 ** -24
SMOOTH = [c for c in [*SOFT, *ACTIVATIONS, *NORMS, *CLASSIFICATION, *ATTENTION, *LINEAR]
          if "empty row" not in c[0] and "-inf" not in c[0] and "dtype" not in c[0]]


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


HALVES = [c for c in [*SOFT, *ACTIVATIONS, *NORMS, *CLASSIFICATION[:12], *ATTENTION[:4]]
          if "big" not in c[0] and "dtype" not in c[0]]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", HALVES, ids=[c[0] for c in HALVES])
def test_half_types(case: tuple[Any, ...], dtype: str) -> None:
    _, call, *arrays = case
    step = 2.0 ** -7 if dtype == "bfloat16" else 2.0 ** -10
    compare(call, *arrays, dtype=dtype, rtol=2 * step, atol=4 * step)


DOUBLE = [c for c in CASES if c[0] in (
    "softmax", "log_softmax", "gelu", "gelu tanh", "silu", "layer_norm", "rms_norm", "clamp",
    "cross_entropy mean", "cross_entropy image none", "sdpa", "sdpa bias", "linear", "embedding",
    "sdpa gqa mask", "native_layer_norm", "square", "lerp tensor", "addcdiv")]


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
    ("classes of another batch", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1])), X),
    ("class too large", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1, 5])), X),
    ("class negative", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1, -1])), X),
    ("class int32", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1, 2], dtype=t.int32)), X),
    ("classes 2d", lambda t, F, x: F.cross_entropy(x, t.tensor([[0], [1], [2]])), X),
    ("integer probabilities", lambda t, F, x: F.cross_entropy(x, x.long()), X),
    ("weights short", lambda t, F, x: F.cross_entropy(x, t.tensor([0, 1, 2]), t.ones(4)), X),
    ("smoothing", lambda t, F, x: F.cross_entropy(
        x, t.tensor([0, 1, 2]), label_smoothing=2.0), X),
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
    ("clamp nothing", lambda t, F, x: t.clamp(x), X),
    ("where floats", lambda t, F, x: t.where(x, x, x), X),
    ("lerp dtypes", lambda t, F, x: t.lerp(x, x.float(), 0.5), X),
    ("addcdiv integers", lambda t, F, x: t.addcdiv(x, x, x), LONG),
    ("div rounding", lambda t, F, x: t.div(x, x, rounding_mode="up"), X),
    ("layer_norm sizes", lambda t, F, x: F.layer_norm(x, (4,)), X),
    ("layer_norm weight", lambda t, F, x: F.layer_norm(x, (5,), t.ones(4, dtype=t.float64)), X),
    ("layer_norm integers", lambda t, F, x: F.layer_norm(x, (3,)), LONG),
    ("layer_norm nothing", lambda t, F, x: F.layer_norm(x, ()), X),
    ("rms_norm sizes", lambda t, F, x: F.rms_norm(x, (4,)), X),
    ("sdpa sizes", lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v[:, :, :5]),
     Q, K, V),
    ("sdpa two masks", lambda t, F, q, k, v, m: F.scaled_dot_product_attention(
        q, k, v, m, is_causal=True), Q, K, V, MASK),
    ("sdpa mask dtype", lambda t, F, q, k, v, m: F.scaled_dot_product_attention(
        q, k, v, m.long()), Q, K, V, MASK),
    ("sdpa dtypes", lambda t, F, q, k, v: F.scaled_dot_product_attention(
        q, k.float(), v), Q, K, V),
]


@pytest.mark.parametrize("case", ERRORS, ids=[c[0] for c in ERRORS])
def test_errors_have_torchs_class(case: tuple[Any, ...]) -> None:
    _, call, *arrays = case
    want = error(torch, THEIRS, call, tuple(arrays))
    got = error(flambeau, OURS, call, tuple(arrays))
    assert want is not None
    assert got is not None
    assert isinstance(got, type(want)), f"{got!r} against {want!r}"
