"""Densities, moments, shapes and divergences are torch's."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import distributions as ours
from tests.distributions.cases import CASES

torch = pytest.importorskip("torch")

MEMBERS = (
    "mean",
    "variance",
    "stddev",
    "mode",
    "entropy",
    "batch_shape",
    "event_shape",
    "__repr__",
)
#: torch's is NaN everywhere.
WRONG = {("Kumaraswamy", "mode")}


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMBEAU_TARGET", "interpret")  # formulas are tested, not the compiler


def pair(name: str) -> tuple[Any, Any]:
    """The distribution in both libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CASES[name](ours, flambeau.tensor), CASES[name](torch.distributions, torch.tensor)


#: torch's does not take float64.
SINGLE = ("GeneralizedPareto",)


def slack(name: str) -> float:
    """torch's Bessel functions are polynomials for float32."""
    return 1e-6 if name == "VonMises" else 1e-8


def plain(value: Any) -> Any:
    if isinstance(value, (tuple, str)):
        return str(tuple(value)) if isinstance(value, tuple) else value
    return value.detach().numpy()


@pytest.mark.parametrize("name", CASES)
def test_members(name: str) -> None:
    mine, theirs = pair(name)
    for member in MEMBERS:
        try:
            want = getattr(theirs, member)
            want = plain(want() if callable(want) else want)
        except NotImplementedError:
            continue
        if (name, member) in WRONG or str(want).endswith("()"):  # parameters that are not shown
            continue
        got = getattr(mine, member)
        got = plain(got() if callable(got) else got)
        if isinstance(want, str):
            assert got == want, member
        else:
            assert got.shape == want.shape, member
            np.testing.assert_allclose(got, want, rtol=slack(name), atol=1e-12, err_msg=member)


@pytest.mark.parametrize("name", [n for n in CASES if n not in SINGLE])
def test_densities_and_their_gradients(name: str) -> None:
    mine, theirs = pair(name)
    torch.manual_seed(1)
    for value in (theirs.sample((4,)), theirs.sample()):
        given = flambeau.tensor(value.numpy())
        want = theirs.log_prob(value)
        got = mine.log_prob(given)
        assert tuple(got.shape) == tuple(want.shape)
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=slack(name), atol=1e-8)
        for member in ("cdf", "icdf"):
            place = value if member == "cdf" else torch.rand(value.shape, dtype=torch.float64)
            try:
                wanted = getattr(theirs, member)(place)
            except (NotImplementedError, RuntimeError, ValueError):
                continue
            found = getattr(mine, member)(flambeau.tensor(place.numpy()))
            np.testing.assert_allclose(
                found.numpy(), wanted.numpy(), rtol=1e-7, atol=1e-9, err_msg=member
            )


@pytest.mark.parametrize("name", [n for n in CASES if n not in SINGLE])
def test_expanding(name: str) -> None:
    mine, theirs = pair(name)
    shape = (2, *theirs.batch_shape)
    a, b = mine.expand(shape), theirs.expand(shape)
    assert tuple(a.batch_shape) == tuple(b.batch_shape)
    assert tuple(a.event_shape) == tuple(b.event_shape)
    value = b.sample()
    assert tuple(a.sample((3,)).shape) == (3, *value.shape)
    got = a.log_prob(flambeau.tensor(value.numpy()))
    want = b.log_prob(value).numpy()
    np.testing.assert_allclose(got.numpy(), want, rtol=slack(name), atol=1e-8)


@pytest.mark.parametrize("name", [n for n in CASES if "Bern" in n or "Categ" in n or "Bino" in n])
def test_enumerating(name: str) -> None:
    mine, theirs = pair(name)
    for expand in (True, False):
        try:
            want = theirs.enumerate_support(expand)
        except NotImplementedError:
            continue
        got = mine.enumerate_support(expand)
        np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_divergences() -> None:
    small = {n: f for n, f in CASES.items() if n not in ("Wishart", "LKJCholesky")}
    counted = 0
    for p, q in itertools.product(small, small):
        (a, b), (c, d) = pair(p), pair(q)
        if tuple(b.batch_shape) != tuple(d.batch_shape):
            continue
        try:
            want = torch.distributions.kl_divergence(b, d)
        except (NotImplementedError, ValueError, AssertionError):
            continue
        got = ours.kl_divergence(a, c)
        counted += 1
        np.testing.assert_allclose(
            got.numpy(), want.numpy(), rtol=1e-8, atol=1e-10, err_msg=f"{p} || {q}"
        )
    assert counted > 60


TRANSFORMS: dict[str, Any] = {
    "exp": (lambda d: d.ExpTransform(), (3,)),
    "affine": (lambda d: d.AffineTransform(1.0, -2.0), (3,)),
    "sigmoid": (lambda d: d.SigmoidTransform(), (3,)),
    "softplus": (lambda d: d.SoftplusTransform(), (3,)),
    "tanh": (lambda d: d.TanhTransform(), (3,)),
    "power": (lambda d: d.ComposeTransform([d.ExpTransform(), d.PowerTransform(2.5)]), (3,)),
    "stick breaking": (lambda d: d.StickBreakingTransform(), (2, 3)),
    "correlations": (lambda d: d.CorrCholeskyTransform(), (2, 6)),
    "composed": (
        lambda d: d.ComposeTransform([d.AffineTransform(0.5, 2.0), d.StickBreakingTransform()]),
        (2, 3),
    ),
    "independent": (lambda d: d.IndependentTransform(d.ExpTransform(), 1), (2, 3)),
    "reshaped": (lambda d: d.ReshapeTransform((6,), (2, 3)), (4, 6)),
    "stacked": (lambda d: d.StackTransform([d.ExpTransform(), d.TanhTransform()], 0), (2, 3)),
    "cut": (lambda d: d.CatTransform([d.ExpTransform(), d.TanhTransform()], 0, [1, 2]), (3, 2)),
    "cdf": (lambda d: d.CumulativeDistributionTransform(d.Normal(0.0, 1.0)), (3,)),
    "inverse": (lambda d: d.ExpTransform().inv.inv, (3,)),
    "softmax": (lambda d: d.SoftmaxTransform(), (2, 3)),
    "lower": (lambda d: d.LowerCholeskyTransform(), (2, 3, 3)),
    "definite": (lambda d: d.PositiveDefiniteTransform(), (2, 3, 3)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name: str) -> None:
    make, shape = TRANSFORMS[name]
    x = np.random.default_rng(1).uniform(-1.2, 1.2, shape)
    mine, theirs = make(ours), make(torch.distributions)
    a, b = flambeau.tensor(x), torch.tensor(x)
    y, z = mine(a), theirs(b)
    np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-10)
    back, want = mine.inv(y), theirs.inv(z)
    np.testing.assert_allclose(back.numpy(), want.numpy(), rtol=1e-8, atol=1e-10)
    assert tuple(mine.forward_shape(shape)) == tuple(theirs.forward_shape(shape))
    assert repr(mine) == repr(theirs)
    if theirs.bijective:
        got, wanted = mine.log_abs_det_jacobian(a, y), theirs.log_abs_det_jacobian(b, z)
        assert tuple(got.shape) == tuple(wanted.shape)
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-8, atol=1e-10)


CONSTRAINTS = (
    "real", "positive", "unit_interval", "nonnegative", "simplex", "lower_cholesky",
    "positive_definite", "corr_cholesky", "real_vector",
)  # fmt: skip


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("registry", ["biject_to", "transform_to"])
def test_registries(name: str, registry: str) -> None:
    a = getattr(ours.constraints, name)
    b = getattr(torch.distributions.constraints, name)
    try:
        theirs = getattr(torch.distributions, registry)(b)
    except NotImplementedError:
        with pytest.raises(NotImplementedError):
            getattr(ours, registry)(a)
        return
    mine = getattr(ours, registry)(a)
    x = np.random.default_rng(2).uniform(-1, 1, (3, 3))
    y = mine(flambeau.tensor(x))
    np.testing.assert_allclose(y.numpy(), theirs(torch.tensor(x)).numpy(), rtol=1e-9)
    assert bool(a.check(y).all())
