"""Lazy layers: shapes from the first input or from a state dict, as in torch throughout."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn

try:
    import torch
except ImportError:
    torch = None

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules")

#: Lazy class -> its arguments, an input's shape.
LAYERS: dict[str, tuple[tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "LazyLinear": ((5,), {}, (2, 3, 4)),
    "LazyConv1d": ((4, 3), {"padding": 1}, (2, 3, 8)),
    "LazyConv2d": ((4, 3, 2), {"groups": 2, "bias": False}, (2, 6, 8, 8)),
    "LazyConv3d": ((4, 2), {}, (3, 4, 4, 4)),
    "LazyConvTranspose1d": ((4, 3), {}, (2, 3, 8)),
    "LazyConvTranspose2d": ((4, 3, 2, 1), {"output_padding": 1, "groups": 2}, (2, 6, 5, 5)),
    "LazyConvTranspose3d": ((4, 2), {}, (1, 3, 4, 4, 4)),
    "LazyBatchNorm1d": ((), {}, (4, 3)),
    "LazyBatchNorm2d": ((1e-3, 0.2), {"bias": False}, (4, 3, 5, 5)),
    "LazyBatchNorm3d": ((), {"affine": False}, (4, 3, 2, 2, 2)),
    "LazyInstanceNorm1d": ((), {}, (4, 3, 6)),
    "LazyInstanceNorm2d": ((), {"track_running_stats": False}, (4, 3, 5, 5)),
    "LazyInstanceNorm3d": ((), {"momentum": 0.5}, (4, 3, 2, 2, 2)),
}


def make(name: str, package: Any = nn) -> Any:
    """A lazy layer."""
    args, kwargs, _ = LAYERS[name]
    return getattr(package, name)(*args, **kwargs)


@pytest.mark.parametrize("name", LAYERS)
def test_the_first_input_makes_an_ordinary_layer(name: str) -> None:
    layer = make(name)
    plain = getattr(nn, name.removeprefix("Lazy"))
    assert layer.has_uninitialized_params() or name == "LazyBatchNorm3d"
    assert repr(layer).startswith(f"{name}(")
    assert isinstance(layer, plain)
    parameters = list(layer.parameters())
    x = flambeau.randn(*LAYERS[name][2])
    flambeau.manual_seed(0)
    y = layer(x)
    assert type(layer) is plain
    assert not layer._forward_pre_hooks
    assert list(layer.parameters()) == parameters  # the same objects: optimizers keep them
    assert all(type(p) is nn.Parameter for p in parameters)
    flambeau.manual_seed(0)
    first, *rest = LAYERS[name][0] or (None,)
    kwargs = LAYERS[name][1]
    if name == "LazyLinear":
        ordinary = plain(x.shape[-1], first)
    elif first is None or "Norm" in name:
        ordinary = plain(
            3, *LAYERS[name][0], **{"affine": True, "track_running_stats": True, **kwargs}
        )
    else:
        ordinary = plain(x.shape[-1 - layer._count], first, *rest, **kwargs)
    assert repr(layer) == repr(ordinary)
    np.testing.assert_array_equal(y.detach().numpy(), ordinary(x).detach().numpy())
    assert layer.state_dict().keys() == ordinary.state_dict().keys()


@pytest.mark.skipif(torch is None, reason="torch is not installed")
@pytest.mark.parametrize("name", LAYERS)
def test_as_torch(name: str) -> None:
    mine, theirs = make(name), make(name, torch.nn)
    assert repr(mine) == repr(theirs)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    shape = LAYERS[name][2]
    found, expected = mine(flambeau.ones(*shape)), theirs(torch.ones(*shape))
    assert found.shape == tuple(expected.shape)
    assert repr(mine) == repr(theirs)
    assert {k: tuple(v.shape) for k, v in mine.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }


def test_a_state_dict_gives_shapes() -> None:
    for name in LAYERS:
        trained, layer = make(name), make(name)
        x = flambeau.randn(*LAYERS[name][2])
        trained(x)
        layer.load_state_dict(trained.state_dict())
        assert not layer.has_uninitialized_params()
        trained.eval(), layer.eval()
        np.testing.assert_array_equal(layer(x).detach().numpy(), trained(x).detach().numpy())
        assert repr(layer) == repr(trained)


def test_state_dicts_without_shapes() -> None:
    layer = nn.LazyLinear(3)
    layer.load_state_dict(nn.LazyLinear(3).state_dict())
    assert layer.has_uninitialized_params()
    with pytest.raises(RuntimeError, match="Can't access the shape"):
        nn.Linear(2, 3).load_state_dict(layer.state_dict())


def test_what_has_no_shape_is_refused_by_name() -> None:
    p = nn.UninitializedParameter()
    assert repr(p) == "<UninitializedParameter>"
    assert isinstance(p, nn.Parameter)
    with pytest.raises(RuntimeError, match="Can't access the shape of an uninitialized"):
        _ = p.shape
    with pytest.raises(ValueError, match="Attempted to use an uninitialized parameter"):
        p + 1
    with pytest.raises(RuntimeError, match="Can't share memory on an uninitialized"):
        nn.LazyLinear(3).share_memory()
    with pytest.raises(RuntimeError, match=r"Expected 3D \(unbatched\) or 4D \(batched\) input"):
        nn.LazyConv2d(4, 3)(flambeau.ones(3))
    with pytest.raises(ValueError, match="in_channels must be divisible by groups"):
        nn.LazyConv1d(4, 3, groups=2)(flambeau.ones(1, 3, 8))


def test_conversions_copies_and_pickles() -> None:
    layer = nn.LazyConv1d(4, 3).double()
    other = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    assert other.weight.dtype is flambeau.float64
    assert other.weight.requires_grad
    assert other.weight.size() == (0,)
    y = other(flambeau.ones(1, 2, 8, dtype=flambeau.float64))
    assert y.dtype is flambeau.float64
    assert layer.has_uninitialized_params()
    buffer = nn.LazyBatchNorm1d().half().running_mean
    assert type(buffer) is nn.UninitializedBuffer
    assert buffer.dtype is flambeau.float16


def test_in_a_model_that_is_trained() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(1))
    assert "under heavy development" in str(caught[0].message)
    x = flambeau.randn(16, 3)
    model(x)
    optimizer = flambeau.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
