"""Sizes behind strides: quotients, their bounds, and the programs that have them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.export import Dim, ExportError, export, load, onnx, save
from flambeau.export.bounds import least
from flambeau.export.text import read_value, value_text
from flambeau.ir.symbol import Symbols

from . import runtime

F = nn.functional

EXPRESSIONS: list[Any] = [
    lambda h, w: h - (h - 1) // 2 * 2,
    lambda h, w: ((h - 1) // 2 + 1) * ((w - 1) // 2 + 1) * 4 - h * w,
    lambda h, w: h * w - ((h + 1) // 3) * ((w + 1) // 3) * 2,
    lambda h, w: (h // 2 // 2) * 5 - h,
    lambda h, w: h % 3 + w % 4 - 6,
    lambda h, w: (h // 2) * (h // 2) - h,
    lambda h, w: 7 - (h * w) % 5 - h // h,
    lambda h, w: (h - w // 3) * 2 + w,
    lambda h, w: (h % 4) * (w % 4) * -2 + h * w,
]


@pytest.mark.parametrize("number", range(len(EXPRESSIONS)))
@pytest.mark.parametrize("low", [2, 5])
def test_no_value_is_below_its_bound(number: int, low: int) -> None:
    symbols = Symbols()
    with symbols:
        h, w = symbols.symbol(11, "h"), symbols.symbol(13, "w")
        found = EXPRESSIONS[number](h, w)
        sign = -found
    every = range(low, 40)
    for value, times in ((found, 1), (sign, -1)):
        bound = least(value.expression, lambda k: (float(low), math.inf))
        true = min(times * EXPRESSIONS[number](a, b) for a, b in itertools.product(every, every))
        assert bound <= true
        if number < 2 and times == 1 and low == 5:
            assert bound > -math.inf


def test_what_rounding_cannot_change_cancels() -> None:
    symbols = Symbols()
    with symbols:
        h = symbols.symbol(11, "h")
        half = (h - 1) // 2
        slack = h - 2 * half
        room = 3 - slack
    assert least(slack.expression, lambda k: (2.0, math.inf)) == 1.0
    assert least(room.expression, lambda k: (2.0, math.inf)) == 1.0


@pytest.mark.parametrize("number", range(len(EXPRESSIONS)))
def test_expressions_are_read_as_they_are_written(number: int) -> None:
    symbols = Symbols()
    with symbols:
        sizes = {"h": symbols.symbol(11, "h"), "w": symbols.symbol(13, "w")}
        found = EXPRESSIONS[number](**sizes)
        assert read_value(value_text(found), symbols, sizes).expression is found.expression
        half = found // 2 % (sizes["w"] + 1)
        assert read_value(value_text(half), symbols, sizes).expression is half.expression


class Block(nn.Module):
    """Two convolutions beside a shorter way."""

    def __init__(self, wide: int, out: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(wide, out, 3, stride, 1)
        self.two = nn.Conv2d(out, out, 3, 1, 1)
        self.way = nn.Conv2d(wide, out, 1, stride)

    def forward(self, x: Any) -> Any:
        return (self.way(x) + self.two(self.one(x).relu())).relu()


def network() -> nn.Module:
    """Images through four halvings."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Block(4, 4, 1),
        Block(4, 6, 2), Block(6, 6, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


def test_images_of_any_size(rng: np.random.Generator, tmp_path: Path) -> None:
    net = network()
    sizes = {0: Dim("n"), 2: Dim("h", min=32), 3: Dim("w", min=32)}
    program = export(net, (flambeau.zeros(2, 3, 40, 48),), dynamic_shapes=(sizes,))
    assert program.guards == []
    run = runtime.session(onnx.export(program).model)
    save(program, tmp_path / "net.pt2")
    again = load(tmp_path / "net.pt2").module()
    for shape in ((1, 3, 32, 33), (2, 3, 47, 32), (1, 3, 50, 65)):
        x = rng.normal(size=shape).astype(np.float32)
        grads = []
        for module in (net, program.module(), again):
            module.zero_grad()
            given = flambeau.from_numpy(x.copy()).requires_grad_()
            out = module(given)
            (out * out).sum().backward()
            grads.append([out.detach().numpy(), given.grad.numpy()])
            grads[-1] += [p.grad.numpy() for p in module.parameters()]
        for wanted, *found in zip(*grads, strict=True):
            for a in found:
                np.testing.assert_allclose(a, wanted, rtol=1e-4, atol=1e-5)
        (out,) = run.run(None, {run.get_inputs()[0].name: x})
        np.testing.assert_allclose(out, grads[0][0], rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="size h to be >= 32"):
        program.module()(flambeau.zeros(1, 3, 31, 40))


def test_loose_sizes_begin_where_nothing_is_special() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, 2), nn.MaxPool2d(2))
    auto = {2: Dim.AUTO, 3: Dim.AUTO}
    program = export(net, (flambeau.zeros(1, 1, 20, 20),), dynamic_shapes=(auto,))
    assert set(program.range_constraints.values()) == {(5, None)}
    x = flambeau.ones(1, 1, 5, 12)
    np.testing.assert_allclose(
        program.module()(x).detach().numpy(), net(x).detach().numpy(), rtol=1e-5
    )
    named = {2: Dim("h"), 3: Dim("w")}
    with pytest.raises(ExportError, match="Constraints violated"):
        export(net, (flambeau.zeros(1, 1, 20, 20),), dynamic_shapes=(named,))


class Of(nn.Module):
    """A function of one tensor."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Any) -> Any:
        return self.call(x)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: (x.std(), x.var(0), *flambeau.var_mean(x, (0, 1), correction=0)),
        lambda x: flambeau.full((2,), x.shape[0]) + flambeau.full((), x.shape[1] * 2.5),
        lambda x: flambeau.tensor(x.shape[0]) * x * x.shape[1] ** -0.5,
        lambda x: flambeau.topk(x, x.shape[1] - 1)[0],
        lambda x: x[:, ::2] * flambeau.arange(0, x.shape[1], 2),
        lambda x: flambeau.linspace(-1, 1, x.shape[1]).reshape(1, -1) * x,
        lambda x: flambeau.cov(x),
    ],
)
def test_sizes_in_values_stay_open(call: Any, rng: np.random.Generator, tmp_path: Path) -> None:
    sizes = {0: Dim("b"), 1: Dim("t", min=2)}
    program = export(Of(call), (flambeau.ones(4, 5),), dynamic_shapes=(sizes,))
    save(program, tmp_path / "net.pt2")
    run = runtime.session(onnx.export(program).model)
    for shape in ((3, 8), (2, 2), (7, 3)):
        x = rng.normal(size=shape).astype(np.float32)
        given = flambeau.from_numpy(x)
        wanted = flambeau.pytree.tree_leaves(call(given))
        (name,) = (i.name for i in run.get_inputs())
        forms = [program.module()(given), load(tmp_path / "net.pt2").module()(given)]
        for found in (*map(flambeau.pytree.tree_leaves, forms), run.run(None, {name: x})):
            for a, b in zip(found, wanted, strict=True):
                np.testing.assert_allclose(np.asarray(a), b.numpy(), rtol=1e-5, atol=1e-6)


RESAMPLED: dict[str, Any] = {
    "means": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "means without padding": lambda x: F.avg_pool2d(x, 3, 2, 1, True, count_include_pad=False),
    "sums of volumes": lambda x: F.avg_pool3d(x.unsqueeze(1), (1, 2, 3), divisor_override=2),
    "shares": lambda x: F.adaptive_avg_pool2d(x, (3, x.shape[2] // 2)),
    "area": lambda x: F.interpolate(x, scale_factor=0.5, mode="area"),
    "nearest": lambda x: F.interpolate(x, scale_factor=(1.5, 0.3)),
    "nearest of integers": lambda x: F.interpolate(x.abs().byte(), scale_factor=2) * x.sum(),
    "nearest-exact": lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
    "linear": lambda x: F.interpolate(x[:, :, 0], scale_factor=2.5, mode="linear"),
    "bilinear": lambda x: F.interpolate(x[:, :, ::2], size=x.shape[2:], mode="bilinear"),
    "bilinear, aligned": lambda x: F.interpolate(
        x, scale_factor=2, mode="bilinear", align_corners=True
    ),
    "bicubic": lambda x: F.interpolate(x, scale_factor=(0.4, 2), mode="bicubic"),
    "bicubic, antialiased": lambda x: F.interpolate(
        x, scale_factor=(0.4, 1.5), mode="bicubic", antialias=True
    ),
}


class Resampled(nn.Module):
    """One way to resample, of an image times a parameter."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.scale = way, nn.Parameter(flambeau.tensor(1.5))

    def forward(self, x: Any) -> Any:
        return RESAMPLED[self.way](x * self.scale)


@pytest.mark.parametrize("way", RESAMPLED)
def test_images_of_open_sizes_are_resampled(way: str, rng: np.random.Generator) -> None:
    net = Resampled(way)
    open_ = {0: Dim("n"), 2: Dim("h", min=8), 3: Dim("w", min=8)}
    example = flambeau.ones(2, 2, 9, 10)
    program = export(net, (example,), dynamic_shapes=(open_,)).module()
    run = runtime.session(onnx.export(net, (example,), dynamic_shapes=(open_,)).model)
    for shape in ((2, 2, 9, 10), (1, 2, 8, 17), (3, 2, 31, 20)):
        x = rng.standard_normal(shape).astype(np.float32)
        found = []
        for module in (net, program):
            given = flambeau.tensor(x, requires_grad=True)
            y = module(given)
            y.square().sum().backward()
            found.append([y.detach().numpy(), given.grad.numpy()])
        for got, want in zip(found[1], found[0], strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5)
        (got,) = run.run(None, {run.get_inputs()[0].name: x})
        np.testing.assert_allclose(got, found[0][0], rtol=1e-4, atol=2e-5)
