"""Quantised numbers: roundings and their gradients, layers with 8-bit weights, both as ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.ao.dynamic import Linear
from flambeau.ao.quantization import quantize_dynamic
from flambeau.export import Dim, export, onnx
from flambeau.ops.quantized import _dynamic_linear
from tests.export import runtime


def dynamic(x: np.ndarray, weight: np.ndarray, scale: np.ndarray, bias: Any) -> np.ndarray:
    """The layer, from ONNX's definition of DynamicQuantizeLinear."""
    low, high = min(x.min(), 0), max(x.max(), 0)
    step = np.float32((high - low) / np.float32(255)) or np.float32(1)
    zero = np.clip(np.rint(-low / step), 0, 255)
    q = np.clip(np.rint(x / step) + zero, 0, 255)
    sums = (q - zero).astype(np.int64) @ weight.T.astype(np.int64)
    return sums * (step * scale) + (0 if bias is None else bias)


@pytest.mark.parametrize("shape", [(5, 7), (7,), (2, 3, 7), (1, 1, 7), (0, 7)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_layer_is_its_definition(
    shape: tuple[int, ...], with_bias: bool, rng: np.random.Generator
) -> None:
    weight = rng.integers(-127, 128, (4, 7)).astype(np.int8)
    scale = rng.uniform(0.01, 0.1, 4).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32) if with_bias else None
    for shift in (0, 3, -3):
        x = (rng.normal(size=shape) + shift).astype(np.float32)
        given = [None if a is None else flambeau.from_numpy(a) for a in (x, weight, scale, bias)]
        found = _dynamic_linear(*given).numpy()
        wanted = dynamic(x, weight, scale, bias) if x.size else np.zeros((0, 4))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_zeros_stay_zeros() -> None:
    layer: Any = Linear.from_float(nn.Linear(3, 2))
    assert layer(flambeau.zeros(4, 3)).tolist() == [layer.bias.tolist()] * 4
    nothing: Any = Linear.from_float(nn.Linear(3, 2, bias=False))
    nothing.weight_int8.zero_()
    assert nothing(flambeau.ones(3)).tolist() == [0, 0]


def test_models_are_quantised_where_asked(rng: np.random.Generator) -> None:
    net = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 3, bias=False)))
    whole: Any = quantize_dynamic(net)
    part: Any = quantize_dynamic(net, {"2"})
    assert [type(m) is Linear for m in (whole[0], whole[2][0])] == [True, True]
    assert [type(m) is Linear for m in (part[0], part[2][0])] == [False, True]
    assert type(net[0]).__module__ == "flambeau.nn.linear"
    assert quantize_dynamic(net, {nn.Linear}, flambeau.int8, inplace=True) is net
    assert isinstance(net[0], Linear)
    assert "in_features=16" in repr(net)
    assert type(quantize_dynamic(nn.Linear(2, 2))) is Linear
    again = quantize_dynamic(
        nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Sequential(Linear(8, 3, False)))
    )
    again.load_state_dict(whole.state_dict())
    x = flambeau.from_numpy(rng.normal(size=(4, 16)).astype(np.float32))
    assert again(x).tolist() == whole(x).tolist()
    with pytest.raises(NotImplementedError, match="int8"):
        quantize_dynamic(net, dtype=flambeau.float16)
    with pytest.raises(NotImplementedError, match="Conv2d has no form"):
        quantize_dynamic(net, {nn.Conv2d})


def test_errors_of_a_quantised_layer_are_small(rng: np.random.Generator) -> None:
    net = nn.Linear(64, 32)
    layer = Linear.from_float(net)
    assert np.abs(layer.weight().numpy() - net.weight.detach().numpy()).max() < 0.125 / 254 + 1e-6
    x = flambeau.from_numpy(rng.normal(size=(10, 64)).astype(np.float32)).requires_grad_()
    out, wanted = layer(x), net(x)
    assert (out - wanted).abs().max() < 0.05 * wanted.abs().max()
    out.sum().backward()
    slope = x.grad.clone()
    x.grad = None
    wanted.sum().backward()
    np.testing.assert_allclose(slope.numpy(), x.grad.numpy(), atol=0.05)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        layer(flambeau.ones(2, 63))


CASES: list[tuple[tuple[int, ...], Any, Any, int | None, int, int]] = [
    ((3, 4), 0.1, 2, None, -8, 7),
    ((3, 4), 0.03, 0, None, -128, 127),
    ((3, 4), 0.05, 20, None, 0, 255),
    ((3, 4), [0.05, 0.1, 0.2, 0.3], [0, 1, -3, 5], 1, -128, 127),
    ((2, 3, 2), [0.05, 0.2], [0, 7], 0, 0, 255),
]


def fake(library: Any, x: Any, scale: Any, zero: Any, axis: int | None, low: int, high: int) -> Any:
    """The rounding, in flambeau or torch."""
    if axis is None:
        return library.fake_quantize_per_tensor_affine(x, scale, zero, low, high)
    scales = library.tensor(scale)
    zeros = library.tensor(zero, dtype=library.int32)
    return library.fake_quantize_per_channel_affine(x, scales, zeros, axis, low, high)


@pytest.mark.parametrize("case", CASES)
def test_roundings_and_gradients_are_torchs(case: Any, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    shape, *rest = case
    x = rng.normal(size=shape).astype(np.float32)
    found = []
    for library in (flambeau, torch):
        given = library.from_numpy(x.copy()).requires_grad_()
        out = fake(library, given, *rest)
        (out * out).sum().backward()
        found.append((out.detach().numpy(), given.grad.numpy()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: flambeau.fake_quantize_per_tensor_affine(x, 0.1, 0, 5, 4), RuntimeError, "less"),
        (
            lambda x: flambeau.fake_quantize_per_tensor_affine(x.long(), 0.1, 0, 0, 4),
            NotImplementedError,
            "'Long'",
        ),
        (
            lambda x: flambeau.fake_quantize_per_channel_affine(x, x[0], x[0], 0, 0, 4),
            RuntimeError,
            "match",
        ),
        (
            lambda x: flambeau.fake_quantize_per_channel_affine(x, x[0], x[0], 2, 0, 4),
            IndexError,
            "axis",
        ),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(flambeau.ones(3, 4))


class Rounded(nn.Module):
    """A layer as it is trained for quantised inference, and one that is quantised."""

    def __init__(self, case: Any) -> None:
        super().__init__()
        self.case = case
        self.layer = Linear.from_float(nn.Linear(case[0][-1], 5))

    def forward(self, x: Any) -> Any:
        return self.layer(fake(flambeau, x, *self.case[1:]))


@pytest.mark.parametrize("case", CASES)
def test_onnx_has_their_operators(case: Any, rng: np.random.Generator) -> None:
    net = Rounded(case)
    shape = case[0]
    open_ = {0: Dim("n")} if case[3] != 0 else None
    program = export(net, (flambeau.ones(shape),), dynamic_shapes=(open_,))
    model = onnx.export(program).model
    kinds = [n.op_type for n in model.graph]
    assert {"DynamicQuantizeLinear", "MatMulInteger"} <= set(kinds)
    assert ("QuantizeLinear" in kinds) == ((case[4], case[5]) != (-8, 7))
    for size in (shape[0], 6) if open_ else (shape[0],):
        x = rng.normal(size=(size, *shape[1:])).astype(np.float32)
        (found,) = runtime.results(model, [x])
        wanted = net(flambeau.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
