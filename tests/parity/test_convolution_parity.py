"""Convolutions against torch: values, gradients of first and second order, modules, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
import flambeau.nn.functional as F
from flambeau import nn

torch = pytest.importorskip("torch")


def draw(rng: np.random.Generator) -> Any:
    """Shapes and numbers of a random convolution."""
    dims = int(rng.integers(1, 4))
    pick = lambda options: [int(rng.choice(options)) for _ in range(dims)]
    groups = int(rng.choice([1, 1, 2, 3]))
    c, m = (groups * int(rng.choice([1, 1, 2, 5])) for _ in range(2))
    across = bool(rng.integers(0, 2))
    stride, dilation = pick([1, 2, 3]), pick([1, 2])
    extra = [int(rng.integers(0, max(s, d))) if across else 0 for s, d in zip(stride, dilation)]
    kernel = pick([1, 2, 3])
    image = (int(rng.integers(1, 4)), c, *pick([3, 5, 6, 7]))
    weight = (c, m // groups, *kernel) if across else (m, c // groups, *kernel)
    return image, weight, m, (stride, pick([0, 1, 2]), dilation, across, extra, groups)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_both_orders(dtype: str, rng: np.random.Generator) -> None:
    """Values, gradients, and gradients of gradients of random convolutions."""
    done = 0
    while done < 8:
        image, weight, m, numbers = draw(rng)
        arrays = [rng.standard_normal(s).astype(dtype) for s in (image, weight, (m,))]
        theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
        try:
            y = torch.convolution(*theirs, *numbers)
        except RuntimeError:
            plain: list[Any] = [flambeau.tensor(a) for a in arrays]
            with pytest.raises(RuntimeError):
                flambeau.convolution(*plain, *numbers)
            continue
        done += 1
        mine: list[Any] = [flambeau.tensor(a).requires_grad_() for a in arrays]
        z = flambeau.convolution(*mine, *numbers)
        g = rng.standard_normal(y.shape).astype(dtype)
        first = torch.autograd.grad(y, theirs, torch.tensor(g), create_graph=True)
        second = torch.autograd.grad((first[0] ** 2).sum() + (first[1] ** 3).sum(), theirs[:2])
        found = flambeau.autograd.grad(z, mine, flambeau.tensor(g), create_graph=True)
        again = flambeau.autograd.grad((found[0] ** 2).sum() + (found[1] ** 3).sum(), mine[:2])
        bound = 1e-4 if dtype == "float32" else 1e-10
        for a, b in zip((y, *first, *second), (z, *found, *again), strict=True):
            a, b = a.detach().numpy(), b.detach().numpy()
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= bound * max(1, np.abs(a).max()), numbers


MODULES = [
    ("Conv1d", (4, 6, 3), {"padding": "same", "groups": 2}, (2, 4, 9)),
    ("Conv2d", (3, 5, (3, 2)), {"stride": 2, "padding": (1, 0), "padding_mode": "reflect"},
     (2, 3, 7, 6)),
    ("Conv2d", (3, 5, 3), {"padding": "same", "padding_mode": "circular", "bias": False},
     (3, 7, 6)),
    ("Conv2d", (4, 4, 2), {"dilation": 2, "padding": 1, "padding_mode": "replicate"}, (1, 4, 5, 5)),
    ("Conv3d", (2, 3, 2), {"stride": (1, 2, 1)}, (2, 2, 3, 5, 4)),
    ("Conv2d", (6, 6, 3), {"stride": 2, "padding": 1, "groups": 6}, (2, 6, 9, 8)),
    ("Conv1d", (5, 5, 9), {"padding": "same", "groups": 5, "dilation": 2}, (2, 5, 20)),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1, "groups": 2}, (2, 4, 5)),
    ("ConvTranspose2d", (3, 5, 3), {"stride": 2, "padding": 1, "dilation": 2}, (2, 3, 4, 5)),
    ("ConvTranspose3d", (2, 3, 2), {"bias": False}, (2, 2, 2, 3, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), MODULES)
def test_modules(name: str, args: Any, kwargs: Any, shape: Any, rng: np.random.Generator) -> None:
    """The same repr, the same keys, and from the same parameters the same results."""
    theirs, mine = getattr(torch.nn, name)(*args, **kwargs), getattr(nn, name)(*args, **kwargs)
    assert repr(mine) == repr(theirs)
    state = theirs.state_dict()
    assert list(mine.state_dict()) == list(state)
    bound = max(float(p.detach().abs().max()) for p in theirs.parameters())
    assert all(float(p.detach().abs().max()) <= 1.3 * bound for p in mine.parameters())
    mine.load_state_dict({k: flambeau.tensor(v.numpy()) for k, v in state.items()})
    x = rng.standard_normal(shape).astype(np.float32)
    wanted = theirs(torch.tensor(x)).detach().numpy()
    found = mine(flambeau.tensor(x)).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_output_size() -> None:
    """A transposed convolution reaches the sizes that its stride leaves open, and no others."""
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    x = flambeau.ones(1, 2, 4, 4)
    assert tuple(layer(x, output_size=(8, 7)).shape) == (1, 3, 8, 7)
    assert tuple(layer(x, output_size=(1, 3, 7, 8)).shape) == (1, 3, 7, 8)
    with pytest.raises(ValueError, match="valid sizes range"):
        layer(x, output_size=(9, 8))


def test_fold_and_unfold(rng: np.random.Generator) -> None:
    """Sliding blocks and their sums, as functions and modules."""
    x = rng.standard_normal((2, 3, 6, 5)).astype(np.float32)
    numbers = {"kernel_size": (3, 2), "dilation": (1, 2), "padding": 1, "stride": (2, 1)}
    wanted = torch.nn.Unfold(**numbers)(torch.tensor(x))
    found = nn.Unfold(**numbers)(flambeau.tensor(x))
    np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    wanted = torch.nn.Fold((6, 5), **numbers)(wanted)
    found = nn.Fold((6, 5), **numbers)(found)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-6)
    assert repr(nn.Fold((6, 5), **numbers)) == repr(torch.nn.Fold((6, 5), **numbers))


@pytest.mark.parametrize(
    ("name", "shapes", "kwargs"),
    [
        ("conv2d", ((2, 3, 8, 8), (4, 2, 3, 3)), {}),
        ("conv2d", ((2, 3, 8, 8, 1), (4, 3, 3, 3)), {}),
        ("conv2d", ((2, 3, 8, 8), (4, 3, 9, 3)), {}),
        ("conv2d", ((2, 3, 8, 8), (4, 3, 3, 3), (3,)), {}),
        ("conv2d", ((2, 4, 8, 8), (3, 2, 3, 3)), {"groups": 2}),
        ("conv2d", ((2, 4, 8, 8), (4, 4, 3, 3)), {"stride": (1, 1, 1)}),
        ("conv2d", ((2, 4, 8, 8), (4, 4, 3, 3)), {"padding": -1}),
        ("conv2d", ((2, 4, 8, 8), (4, 4, 3, 3)), {"padding": "same", "stride": 2}),
        ("conv_transpose2d", ((2, 3, 8, 8), (4, 2, 3, 3)), {}),
        ("unfold", ((2, 4, 8, 8),), {"kernel_size": 9}),
        ("fold", ((2, 36, 35),), {"output_size": (8, 8), "kernel_size": 3}),
    ],
)
def test_refusals(name: str, shapes: Any, kwargs: Any) -> None:
    """torch's class and words where shapes or numbers do not fit."""
    with pytest.raises(RuntimeError) as wanted:
        getattr(torch.nn.functional, name)(*(torch.ones(s) for s in shapes), **kwargs)
    with pytest.raises(RuntimeError) as found:
        getattr(F, name)(*(flambeau.ones(*s) for s in shapes), **kwargs)
    assert str(found.value) == str(wanted.value)


def distance(found: Any, exact: np.ndarray) -> np.ndarray:
    """The greatest difference, and the root of the mean square, by the same of `exact`."""
    error = np.asarray(found.detach().numpy(), np.float64) - exact
    return np.array(
        [np.abs(error).max() / np.abs(exact).max(), np.sqrt((error**2).mean() / (exact**2).mean())]
    )


@pytest.mark.parametrize(("c", "m", "size"), [(64, 64, 16), (128, 128, 8), (256, 256, 4)])
def test_as_close_to_float64(c: int, m: int, size: int, rng: np.random.Generator) -> None:
    """Errors of a layer and its gradients beside torch's, with values as a network has them."""
    x = np.maximum(rng.standard_normal((8, c, size, size)), 0).astype(np.float32)
    w = (rng.standard_normal((m, c, 3, 3)) / (3 * c**0.5)).astype(np.float32)
    g = rng.standard_normal((8, m, size, size)).astype(np.float32)

    def passes(library: Any, kind: Any) -> list[Any]:
        """The layer's result and its two gradients."""
        a, b = (library.tensor(t).to(kind).requires_grad_() for t in (x, w))
        y = library.conv2d(a, b, padding=1)
        return [y, *library.autograd.grad(y, (a, b), library.tensor(g).to(kind))]

    exact = [t.detach().numpy() for t in passes(torch, torch.float64)]
    theirs, ours = passes(torch, torch.float32), passes(flambeau, flambeau.float32)
    for one, other, wanted in zip(theirs, ours, exact, strict=True):
        assert (distance(other, wanted) <= 1.15 * distance(one, wanted)).all()
