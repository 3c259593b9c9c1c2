"""Pooling, padding, resizing and batch normalization modules against torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from tests.parity.same import Library, array, both, fill, given
from tests.parity.test_nn_parity import run_module

torch = pytest.importorskip("torch")

X = {1: array((2, 4, 9), 1), 2: array((2, 4, 7, 6), 2), 3: array((2, 4, 5, 4, 6), 3)}
Build = Callable[[Any], Any]


def by_dims(name: str, dims: tuple[int, ...], *forms: Any) -> dict[str, tuple[Build, Any]]:
    """A family of modules, `name` with its number of dimensions, with several options."""
    found: dict[str, tuple[Build, Any]] = {}
    for d in dims:
        for k, (args, kwargs) in enumerate(forms):

            def build(nn: Any, d: int = d, args: Any = args, kwargs: Any = kwargs) -> Any:
                return getattr(nn, f"{name}{d}d")(*args, **kwargs)

            found[f"{name}{d}d-{k}"] = (build, X[d])
    return found


ALL = (1, 2, 3)
MODULES: dict[str, tuple[Build, Any]] = {
    **by_dims("MaxPool", ALL, ((2,), {}), ((3, 2, 1), {"ceil_mode": True}), ((2, 1, 0, 2), {})),
    **by_dims("MaxPool", ALL, ((2,), {"return_indices": True, "stride": 1})),
    **by_dims("AvgPool", ALL, ((2,), {}), ((3, 2, 1), {"count_include_pad": False})),
    **by_dims("AvgPool", (2, 3), (((2), 1), {"divisor_override": 3})),
    **by_dims("LPPool", ALL, ((1.0, 2), {})),
    **by_dims("AdaptiveAvgPool", ALL, ((1,), {}), ((3,), {})),
    **by_dims("AdaptiveMaxPool", ALL, ((1,), {}), ((3,), {"return_indices": True})),
    **by_dims("ReflectionPad", ALL, ((2,), {})),
    **by_dims("ReplicationPad", ALL, ((2,), {})),
    **by_dims("CircularPad", ALL, ((2,), {})),
    **by_dims("ZeroPad", ALL, ((1,), {})),
    **by_dims("ConstantPad", ALL, ((1, 2.5), {})),
    **by_dims("BatchNorm", ALL, ((4,), {}), ((4,), {"momentum": None, "affine": False})),
    **by_dims("BatchNorm", ALL, ((4, 1e-3), {"track_running_stats": False})),
    **by_dims("InstanceNorm", ALL, ((4,), {"affine": True, "track_running_stats": True})),
    "GroupNorm": (lambda nn: nn.GroupNorm(2, 4), X[2]),
    "LocalResponseNorm": (lambda nn: nn.LocalResponseNorm(3, 0.1), X[2]),
    "unequal paddings": (lambda nn: nn.ReflectionPad2d((1, 0, 2, 3)), X[2]),
    "negative circular padding": (lambda nn: nn.CircularPad2d((-1, 2, 3, -2)), X[2]),
    "negative padding": (lambda nn: nn.ZeroPad2d((-1, 2, 0, -3)), X[2]),
    "PixelShuffle": (lambda nn: nn.PixelShuffle(2), X[2]),
    "PixelUnshuffle": (lambda nn: nn.PixelUnshuffle(2), array((2, 3, 4, 6), 4)),
    "ChannelShuffle": (lambda nn: nn.ChannelShuffle(2), X[2]),
    "Upsample nearest": (lambda nn: nn.Upsample(scale_factor=2), X[2]),
    "Upsample size": (lambda nn: nn.Upsample((5, 11), mode="nearest-exact"), X[2]),
    "Upsample linear": (lambda nn: nn.Upsample(scale_factor=1.5, mode="linear"), X[1]),
    "Upsample bicubic": (lambda nn: nn.Upsample(scale_factor=(1.5, 2.0), mode="bicubic"), X[2]),
    "Upsample trilinear": (
        lambda nn: nn.Upsample(3, mode="trilinear", align_corners=True),
        X[3],
    ),
    "UpsamplingNearest2d": (lambda nn: nn.UpsamplingNearest2d(scale_factor=3), X[2]),
    "UpsamplingBilinear2d": (lambda nn: nn.UpsamplingBilinear2d(size=(9, 4)), X[2]),
}


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str) -> None:
    build, x = MODULES[name]
    both(lambda lib: run_module(lib, build, (x,)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", ALL)
def test_unpooling(dims: int) -> None:
    def program(lib: Library) -> Any:
        pool = getattr(lib.nn, f"MaxPool{dims}d")(2, return_indices=True)
        back = getattr(lib.nn, f"MaxUnpool{dims}d")(2)
        x = given(lib, X[dims], grad=True)
        values, places = pool(x)
        found = back(values, places, output_size=x.shape)
        (found * found).sum().backward()
        return [repr(back), values, places, found, x.grad]

    both(program)


@pytest.mark.parametrize("dims", [2, 3])
def test_fractional_pooling(dims: int) -> None:
    samples = np.random.default_rng(0).random((2, 4, dims)).astype("float32")

    def program(lib: Library) -> Any:
        name = f"FractionalMaxPool{dims}d"
        pool = getattr(lib.nn, name)(2, 3, _random_samples=given(lib, samples))
        x = given(lib, array((2, 4, 6, 7, 5)[: dims + 2]), grad=True)
        found = pool(x)
        found.sum().backward()
        return [found, x.grad]

    both(program)


def test_batch_norm_in_training_and_evaluation() -> None:
    """Three training steps: outputs, gradients, running statistics, then evaluation."""

    def program(lib: Library) -> Any:
        nn = lib.nn
        model = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        fill(model, lib)
        optimizer = lib.optim.SGD(model.parameters(), lr=0.1)
        seen: list[Any] = []
        for step in range(3):
            x = given(lib, array((3, 4, 17, 18), step) * 2 + 1, grad=True)
            y = model(x)
            optimizer.zero_grad()
            (y * y).mean().backward()
            optimizer.step()
            seen += [y, x.grad, dict(model.state_dict())]
        seen.append(model.eval()(x))
        return seen

    both(program, rtol=1e-4, atol=1e-6)


ERRORS: dict[str, Callable[[Any], Any]] = {
    "rank": lambda t: t.nn.functional.max_pool2d(t.zeros(3, 4), 2),
    "too small": lambda t: t.nn.functional.max_pool2d(t.zeros(1, 3, 4), 5),
    "stride": lambda t: t.nn.functional.avg_pool2d(t.zeros(1, 3, 4), 2, 0),
    "padding": lambda t: t.nn.functional.max_pool1d(t.zeros(1, 3, 4), 2, 1, 2),
    "divisor": lambda t: t.nn.functional.avg_pool2d(t.zeros(1, 3, 4), 2, divisor_override=0),
    "adaptive sizes": lambda t: t.nn.functional.adaptive_avg_pool2d(t.zeros(1, 3, 4), (1, 2, 3)),
    "integers": lambda t: t.nn.functional.adaptive_avg_pool2d(t.ones(1, 4, 4).long(), 2),
    "unpool indices": lambda t: t.nn.functional.max_unpool2d(
        t.zeros(1, 2, 2), t.zeros(1, 2, 2).int(), 2
    ),
    "unpool size": lambda t: t.nn.functional.max_unpool2d(
        t.zeros(1, 2, 2), t.zeros(1, 2, 2).long(), 2, output_size=(9, 9)
    ),
    "mode": lambda t: t.nn.functional.interpolate(t.zeros(1, 1, 3), 5, mode="bilinear"),
    "size and factor": lambda t: t.nn.functional.interpolate(t.zeros(1, 1, 3), 5, scale_factor=2),
    "neither": lambda t: t.nn.functional.interpolate(t.zeros(1, 1, 3)),
    "corners": lambda t: t.nn.functional.interpolate(t.zeros(1, 1, 3), 5, align_corners=True),
    "empty": lambda t: t.nn.functional.interpolate(t.zeros(1, 1, 3, 3), (0, 2)),
    "reflect too far": lambda t: t.nn.functional.pad(t.zeros(1, 2, 3), (3, 0), "reflect"),
    "circular too far": lambda t: t.nn.functional.pad(t.zeros(1, 2, 3), (4, 0), "circular"),
    "pad rank": lambda t: t.nn.functional.pad(t.zeros(3), (1, 1), "replicate"),
    "pad mode": lambda t: t.nn.functional.pad(t.zeros(1, 2, 3), (1, 1), "mirror"),
    "shuffle": lambda t: t.nn.functional.pixel_shuffle(t.zeros(1, 3, 2, 2), 2),
    "groups": lambda t: t.nn.functional.channel_shuffle(t.zeros(1, 3, 2, 2), 2),
    "grid batch": lambda t: t.nn.functional.grid_sample(
        t.zeros(2, 1, 3, 3), t.zeros(1, 2, 2, 2), align_corners=False
    ),
    "grid mode": lambda t: t.nn.functional.grid_sample(
        t.zeros(1, 1, 3, 3), t.zeros(1, 2, 2, 2), mode="cubic", align_corners=False
    ),
    "theta": lambda t: t.nn.functional.affine_grid(
        t.zeros(1, 3, 4), (1, 1, 2, 2), align_corners=False
    ),
    "one value": lambda t: t.nn.BatchNorm1d(3)(t.zeros(1, 3)),
    "one value a group": lambda t: t.nn.functional.group_norm(t.zeros(1, 3), 3),
    "channels": lambda t: t.nn.BatchNorm2d(3)(t.zeros(2, 4, 3, 3)),
    "dimensions": lambda t: t.nn.BatchNorm2d(3)(t.zeros(2, 3, 3)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_refusals_have_torchs_class(name: str) -> None:
    with pytest.raises(Exception) as wanted:
        ERRORS[name](torch)
    with pytest.raises(type(wanted.value)):
        ERRORS[name](flambeau)


@pytest.mark.parametrize("align", [False, True])
def test_affine_grids(align: bool) -> None:
    def program(lib: Library) -> Any:
        seen = []
        for shape, size in (((2, 2, 3), (2, 1, 4, 1)), ((1, 3, 4), (1, 1, 2, 3, 4))):
            theta = given(lib, array(shape), grad=True)
            grid = lib.nn.functional.affine_grid(theta, size, align_corners=align)
            (grid * grid).sum().backward()
            seen += [grid, theta.grad]
        return seen

    both(program, rtol=1e-4, atol=1e-5)
