"""Parametrizations, normalised weights and pruning are torch's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import flambeau
from tests.parity.same import Library, array, both, given

torch = pytest.importorskip("torch")
pytest.importorskip("torch.nn.utils.prune")  # torch has it once it is imported

MODULES: dict[str, Any] = {
    "linear": lambda lib: lib.nn.Linear(4, 3),
    "convolution": lambda lib: lib.nn.Conv2d(2, 3, 2),
    "transposed": lambda lib: lib.nn.ConvTranspose1d(2, 3, 2),
}
INPUTS = {"linear": (5, 4), "convolution": (2, 2, 4, 4), "transposed": (2, 2, 5)}


def module_of(lib: Library, kind: str) -> Any:
    module = MODULES[kind](lib).double()
    state = {
        k: given(lib, array(tuple(v.shape), i, "float64"))
        for i, (k, v) in enumerate(module.state_dict().items())
    }
    module.load_state_dict(state)
    return module


def step(lib: Library, module: Any, kind: str) -> Any:
    """Values and gradients of a call, and the state."""
    x = given(lib, array(INPUTS[kind], 9, "float64"))
    out = module(x)
    out.square().sum().backward()
    found = [out, [p.grad for p in module.parameters()], dict(module.state_dict())]
    return [*found, [n for n, _ in module.named_parameters()], repr(module)]


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("form", ["hook", "parametrization"])
def test_weight_norm(kind: str, dim: int | None, form: str) -> None:
    def program(lib: Library) -> Any:
        utils = lib.nn.utils if form == "hook" else lib.nn.utils.parametrizations
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = utils.weight_norm(module_of(lib, kind), dim=dim)
        found = step(lib, module, kind)
        if form == "hook":
            lib.nn.utils.remove_weight_norm(module)
        else:
            lib.nn.utils.parametrize.remove_parametrizations(module, "weight")
        return [found, dict(module.state_dict()), repr(module)]

    both(program, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("form", ["hook", "parametrization"])
def test_spectral_norm(kind: str, form: str) -> None:
    def program(lib: Library) -> Any:
        utils = lib.nn.utils if form == "hook" else lib.nn.utils.parametrizations
        module = utils.spectral_norm(module_of(lib, kind), n_power_iterations=2)
        for i, (name, b) in enumerate(module.named_buffers()):
            if name.rpartition(".")[2] in ("_u", "_v", "weight_u", "weight_v"):
                start = array(tuple(b.shape), 20 + i, "float64")
                b.copy_(given(lib, start / np.linalg.norm(start)))
        found = step(lib, module, kind)
        module.eval()
        return [found, step(lib, module, kind)]

    both(program, rtol=1e-9, atol=1e-11)


def test_spectral_norm_comes_off() -> None:
    module = flambeau.nn.utils.spectral_norm(flambeau.nn.Linear(4, 3))
    for _ in range(50):
        module(flambeau.zeros(1, 4))
    flambeau.nn.utils.remove_spectral_norm(module)
    assert np.linalg.norm(module.weight.detach().numpy(), 2) == pytest.approx(1, rel=1e-3)
    assert list(module.state_dict()) == ["bias", "weight"]
    with pytest.raises(ValueError, match="not found"):
        flambeau.nn.utils.remove_spectral_norm(module)


@pytest.mark.parametrize("mapping", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("trivial", [True, False])
@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (5, 3)])
def test_orthogonal(mapping: str, trivial: bool, shape: tuple[int, int]) -> None:
    module = flambeau.nn.Linear(*shape).double()
    register = flambeau.nn.utils.parametrizations.orthogonal
    register(module, orthogonal_map=mapping, use_trivialization=trivial)
    optimizer = flambeau.optim.SGD(module.parameters(), lr=0.1)
    least = min(shape)
    for _ in range(3):
        weight = module.weight
        product = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        np.testing.assert_allclose(product.detach().numpy(), np.eye(least), atol=1e-8)
        optimizer.zero_grad()
        module(flambeau.ones(1, shape[0], dtype=flambeau.float64)).square().sum().backward()
        optimizer.step()
    if trivial or mapping == "householder":
        target = np.linalg.qr(array(tuple(module.weight.shape), 3, "float64"))[0]
        target = target if target.shape == tuple(module.weight.shape) else target.T
        if target.shape == tuple(module.weight.shape):
            module.weight = flambeau.tensor(target)
            np.testing.assert_allclose(module.weight.detach().numpy(), target, atol=1e-6)


class Doubled(flambeau.nn.Module):
    """Twice a tensor."""

    def forward(self, x: Any) -> Any:
        return 2 * x

    def right_inverse(self, x: Any) -> Any:
        return x / 2


def test_parametrizations_in_a_row() -> None:
    parametrize = flambeau.nn.utils.parametrize
    module = flambeau.nn.Linear(2, 2)
    before = module.weight.detach().clone()
    for _ in range(2):
        parametrize.register_parametrization(module, "weight", Doubled())
    assert type(module).__name__ == "ParametrizedLinear"
    assert list(module.state_dict()) == ["bias", "parametrizations.weight.original"]
    assert (module.weight == before * 2).all()
    module.weight = before * 4
    assert (module.parametrizations.weight.original == before).all()
    with parametrize.cached():
        assert module.weight is module.weight
    assert module.weight is not module.weight
    parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
    assert type(module) is flambeau.nn.Linear
    assert (module.weight == before).all()
    assert isinstance(module.weight, flambeau.nn.Parameter)
    assert not parametrize.is_parametrized(module)


def test_parametrizations_that_do_not_fit() -> None:
    parametrize = flambeau.nn.utils.parametrize

    class Flat(flambeau.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.flatten()

    module = flambeau.nn.Linear(2, 3)
    with pytest.raises(ValueError, match="shape"):
        parametrize.register_parametrization(module, "weight", Flat())
    with pytest.raises(ValueError, match="does not have a parameter"):
        parametrize.register_parametrization(module, "other", Flat())
    parametrize.register_parametrization(flambeau.nn.Linear(2, 3), "weight", Flat(), unsafe=True)


METHODS: dict[str, Any] = {
    "l1": lambda p, m: p.l1_unstructured(m, "weight", 0.4),
    "count": lambda p, m: p.l1_unstructured(m, "weight", 3),
    "slices": lambda p, m: p.ln_structured(m, "weight", 0.5, n=2, dim=0),
    "twice": lambda p, m: p.ln_structured(
        p.l1_unstructured(m, "weight", 0.3), "weight", 1, n=1, dim=1
    ),
    "identity": lambda p, m: p.identity(m, "bias"),
    "global": lambda p, m: p.global_unstructured(
        [(m, "weight"), (m, "bias")], p.L1Unstructured, amount=0.5
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_pruning(method: str) -> None:
    def program(lib: Library) -> Any:
        prune = lib.nn.utils.prune
        module = module_of(lib, "linear")
        METHODS[method](prune, module)
        found = step(lib, module, "linear")
        names = [n for n in ("weight", "bias") if hasattr(module, n + "_mask")]
        pruned = prune.is_pruned(module)
        for name in names:
            prune.remove(module, name)
        return [found, pruned, dict(module.state_dict()), prune.is_pruned(module)]

    both(program, rtol=1e-12, atol=1e-14)


def test_pruning_at_random(seed: int) -> None:
    prune = flambeau.nn.utils.prune
    module = flambeau.nn.Linear(10, 10)
    prune.random_unstructured(module, "weight", 0.3)
    assert (module.weight == 0).sum() == 30
    prune.random_structured(module, "weight", 2, dim=0)
    assert (module.weight == 0).all(1).sum() >= 2
    prune.custom_from_mask(module, "bias", flambeau.zeros(10))
    assert (module.bias == 0).all()
    for amount, error in (("x", TypeError), (-1, ValueError), (1.5, ValueError)):
        with pytest.raises(error, match="amount"):
            prune.random_unstructured(flambeau.nn.Linear(2, 2), "weight", amount)
    with pytest.raises(ValueError, match="has to be pruned"):
        prune.remove(flambeau.nn.Linear(2, 2), "weight")


def test_modules_without_values() -> None:
    module = flambeau.nn.utils.skip_init(flambeau.nn.Linear, 3, 2)
    assert module.weight.shape == (2, 3)
    assert module.weight.device.type == "cpu"
    with pytest.raises(RuntimeError, match="device"):
        flambeau.nn.utils.skip_init(flambeau.nn.ReLU)
