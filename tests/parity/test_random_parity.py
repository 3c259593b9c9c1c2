"""PyTorch's own random numbers from the same seeds, in the stream `"torch"`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.random import get_stream, set_stream
from tests.parity.both import not_intel

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def same_stream() -> Iterator[None]:
    """Draw PyTorch's numbers in these tests."""
    was = get_stream()
    set_stream("torch")
    yield
    set_stream(was)


def cases(names: Iterable[str], *by_library: str) -> list[Any]:
    """Parameters of a test, of which some are drawn by a library on some processors."""
    return [pytest.param(n, marks=[not_intel] * (n in by_library)) for n in names]


FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")
SHAPES = ((), (1,), (5,), (15,), (16,), (17,), (3, 16), (7, 31), (0, 3), (1000,))

#: Draws whose values are made of integers alone: the same bits.
EXACT: dict[str, Callable[[Any, tuple[int, ...], Any], Any]] = {
    "rand": lambda t, s, d: t.rand(s, dtype=d),
    "uniform_": lambda t, s, d: t.empty(s, dtype=d).uniform_(0, 4),
    "bernoulli_": lambda t, s, d: t.empty(s, dtype=d).bernoulli_(0.3),
    "bernoulli_ of a tensor": lambda t, s, d: t.bernoulli(t.full(s, 0.3, dtype=d)),
    "dropout": lambda t, s, d: t.nn.functional.dropout(t.ones(s, dtype=d), 0.4) > 0,
    "random_": lambda t, s, d: t.empty(s, dtype=d).random_(),
    "rand_like": lambda t, s, d: t.rand_like(t.ones(s, dtype=d)),
}
#: Draws that take logarithms or cosines: the same up to their rounding.
CLOSE: dict[str, Callable[[Any, tuple[int, ...], Any], Any]] = {
    "randn": lambda t, s, d: t.randn(s, dtype=d),
    "normal_": lambda t, s, d: t.empty(s, dtype=d).normal_(2, 3),
    "normal": lambda t, s, d: t.normal(t.full(s, 1.0, dtype=d), t.full(s, 2.0, dtype=d)),
    "randn_like": lambda t, s, d: t.randn_like(t.ones(s, dtype=d)),
    "exponential_": lambda t, s, d: t.empty(s, dtype=d).exponential_(2.0),
    "geometric_": lambda t, s, d: t.empty(s, dtype=d).geometric_(0.3),
    "log_normal_": lambda t, s, d: t.empty(s, dtype=d).log_normal_(0.1, 0.5),
    "trunc_normal_": lambda t, s, d: t.nn.init.trunc_normal_(t.empty(s, dtype=d)),
}
INTEGRAL: dict[str, Callable[[Any, tuple[int, ...], Any], Any]] = {
    "random_": lambda t, s, d: t.empty(s, dtype=d).random_(),
    "randint": lambda t, s, d: t.randint(0, 2, s, dtype=d),
    "bernoulli_": lambda t, s, d: t.empty(s, dtype=d).bernoulli_(0.3),
}
ULPS = {"float64": 1e-15, "float32": 4e-7, "float16": 1e-3, "bfloat16": 8e-3}


def both(draw: Callable[[Any], Any], seed: int = 1234) -> tuple[Any, Any]:
    """What a draw gives here and there from one seed, each with a number drawn after it."""
    found = []
    for t in (flambeau, torch):
        t.manual_seed(seed)
        values = [draw(t), t.rand(3)]
        as_lists = [v.double().tolist() if hasattr(v, "tolist") else v for v in values]
        found.append(as_lists)
    assert found[0][1] == found[1][1], "the streams are at different places afterwards"
    return found[0][0], found[1][0]


def check_bits(draw: Callable[[Any, tuple[int, ...], Any], Any], dtype: str) -> None:
    """A draw of every shape is PyTorch's bit for bit."""
    for shape in SHAPES:
        found, known = both(lambda t, s=shape: draw(t, s, getattr(t, dtype)))
        assert found == known, (shape, found, known)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", cases(EXACT, "bernoulli_", "dropout"))
def test_bits_are_torchs(name: str, dtype: str) -> None:
    check_bits(EXACT[name], dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", cases(INTEGRAL, "bernoulli_"))
def test_integers_are_torchs(name: str, dtype: str) -> None:
    check_bits(INTEGRAL[name], dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", cases(CLOSE, "exponential_"))
def test_values_are_torchs(name: str, dtype: str) -> None:
    for shape in SHAPES:
        found, known = both(lambda t, s=shape: CLOSE[name](t, s, getattr(t, dtype)))
        size = np.maximum(1.0, np.abs(known))
        assert (np.abs(np.subtract(found, known)) <= 4 * ULPS[dtype] * size).all(), shape


@pytest.mark.parametrize(
    "bounds", [(0, 10), (-5, 100), (0, 2**28), (0, 2**28 + 1), (-7, 2**40 + 3), (0, 2**63 - 1)]
)
def test_ranges_of_integers_are_torchs(bounds: tuple[int, int]) -> None:
    found, known = both(lambda t: t.randint(*bounds, (50,)))
    assert found == known


@pytest.mark.parametrize("n", [0, 1, 2, 10, 1000])
def test_permutations_are_torchs(n: int) -> None:
    found, known = both(lambda t: t.randperm(n))
    assert found == known


@not_intel
@pytest.mark.parametrize(("count", "again"), [(1, True), (1, False), (3, False), (7, True)])
@pytest.mark.parametrize("rows", [(), (3,)])
def test_choices_are_torchs(count: int, again: bool, rows: tuple[int, ...]) -> None:
    weights = np.random.default_rng(0).random((*rows, 5)).astype(np.float32)
    found, known = both(lambda t: t.multinomial(t.tensor(weights), count, replacement=again))
    assert found == known


def test_what_is_left_of_a_pair_comes_next() -> None:
    def draw(t: Any) -> Any:
        parts = [t.randn(3), t.rand(2), t.randn(20), t.randn(()), t.randn(1), t.randn(2)]
        state = t.get_rng_state()
        ahead = t.randn(3)
        t.set_rng_state(state)
        return t.cat([p.reshape(-1) for p in (*parts, ahead, t.randn(3))])

    found, known = both(draw)
    np.testing.assert_allclose(found, known, rtol=1e-6, atol=1e-6)


def test_fills_go_by_memory() -> None:
    def draw(t: Any) -> Any:
        return t.cat(
            [
                t.empty(3, 17).t().uniform_().reshape(-1),
                t.empty(3, 17).t().normal_().reshape(-1),
                t.empty(2, 3, 4).permute(2, 0, 1).random_(9).reshape(-1),
                t.empty(4, 8)[:, ::2].uniform_().reshape(-1),
            ]
        )

    found, known = both(draw)
    np.testing.assert_allclose(found, known, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", [0, -3, 2**40 + 7, 2**63 - 1])
def test_seeds_are_torchs(seed: int) -> None:
    found, known = both(lambda t: t.rand(4), seed)
    assert found == known


def test_the_generator_without_a_seed_is_torchs() -> None:
    here, there = flambeau.Generator(), torch.Generator()
    assert flambeau.rand(3, generator=here).tolist() == torch.rand(3, generator=there).tolist()


def test_shuffled_batches_are_torchs() -> None:
    def batches(t: Any) -> Any:
        data = t.utils.data
        found = []
        whole = data.TensorDataset(t.arange(50))
        part, rest = data.random_split(whole, [0.7, 0.3])
        for dataset in (part, rest):
            for (x,) in data.DataLoader(dataset, 8, shuffle=True):
                found += x.tolist()
        weights = t.arange(1.0, 21.0)
        found += list(data.WeightedRandomSampler(weights, 10))
        found += list(data.SubsetRandomSampler(range(9)))
        return found

    found, known = both(batches)
    assert found == known


MODULES: dict[str, Callable[[Any], Any]] = {
    "Linear": lambda nn: nn.Linear(7, 5),
    "Conv2d": lambda nn: nn.Conv2d(4, 6, 3, groups=2),
    "ConvTranspose1d": lambda nn: nn.ConvTranspose1d(3, 4, 3),
    "Embedding": lambda nn: nn.Embedding(11, 6),
    "EmbeddingBag": lambda nn: nn.EmbeddingBag(5, 3),
    "Bilinear": lambda nn: nn.Bilinear(3, 4, 5),
    "LSTM": lambda nn: nn.LSTM(5, 7, 2, bidirectional=True, proj_size=3),
    "GRU": lambda nn: nn.GRU(5, 7),
    "RNNCell": lambda nn: nn.RNNCell(3, 4),
    "MultiheadAttention": lambda nn: nn.MultiheadAttention(8, 2),
    "MultiheadAttention of other widths": lambda nn: nn.MultiheadAttention(8, 2, kdim=5, vdim=3),
    "TransformerEncoderLayer": lambda nn: nn.TransformerEncoderLayer(8, 2, 16),
    "Transformer": lambda nn: nn.Transformer(8, 2, 1, 1, 16),
    "orthogonal": lambda nn: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_begin_as_torchs(name: str) -> None:
    def state(t: Any) -> Any:
        return {k: v.tolist() for k, v in MODULES[name](t.nn).state_dict().items()}

    found, known = both(state)
    assert list(found) == list(known)
    for key in known:
        np.testing.assert_allclose(found[key], known[key], rtol=1e-5, atol=1e-6, err_msg=key)


@pytest.mark.parametrize(
    "name", ["orthogonal_", "xavier_uniform_", "xavier_normal_", "kaiming_normal_", "dirac_"]
)
def test_initialisation_is_torchs(name: str) -> None:
    found, known = both(lambda t: getattr(t.nn.init, name)(t.empty(6, 4, 3)))
    np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-5)


DISTRIBUTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "Normal": lambda d, t: d.Normal(t.zeros(20), 2.0).rsample((3,)),
    "Uniform": lambda d, t: d.Uniform(-1.0, t.ones(4)).sample((5,)),
    "Bernoulli": lambda d, t: d.Bernoulli(t.full((5,), 0.3)).sample((4,)),
    "Categorical": lambda d, t: d.Categorical(t.tensor([0.1, 0.2, 0.7])).sample((9,)),
    "Exponential": lambda d, t: d.Exponential(t.ones(3)).rsample((2,)),
    "Laplace": lambda d, t: d.Laplace(t.zeros(3), 1.0).rsample((4,)),
    "Gumbel": lambda d, t: d.Gumbel(t.zeros(3), 1.0).sample((4,)),
    "MultivariateNormal": lambda d, t: d.MultivariateNormal(t.zeros(3), t.eye(3)).sample((7,)),
    "Geometric": lambda d, t: d.Geometric(t.full((3,), 0.4)).sample((4,)),
}


@pytest.mark.parametrize("name", cases(DISTRIBUTIONS, "Bernoulli", "Exponential"))
def test_distributions_draw_torchs_values(name: str) -> None:
    found, known = both(lambda t: DISTRIBUTIONS[name](t.distributions, t))
    np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-6)


@not_intel
@pytest.mark.parametrize("weights", [False, True])
def test_attention_drops_what_torch_drops(weights: bool) -> None:
    def draw(t: Any) -> Any:
        attention = t.nn.MultiheadAttention(16, 4, dropout=0.3, batch_first=True)
        layer = t.nn.TransformerEncoderLayer(16, 4, 32, dropout=0.2, batch_first=True)
        x = t.randn(3, 7, 16)
        found = attention(x, x, x, need_weights=weights)[0]
        return t.cat([found, layer(x)]).detach()

    found, known = both(draw)
    np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-5)


@not_intel
def test_a_training_run_is_torchs() -> None:
    def losses(t: Any) -> Any:
        nn, data = t.nn, t.utils.data
        model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))
        x = t.randn(64, 8)
        loader = data.DataLoader(data.TensorDataset(x, x[:, :3].argmax(1)), 16, shuffle=True)
        optimizer = t.optim.Adam(model.parameters(), 1e-2)
        found = []
        for _ in range(5):
            for inputs, labels in loader:
                loss = nn.functional.cross_entropy(model(inputs), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                found.append(loss.item())
        return found

    found, known = both(losses)
    np.testing.assert_allclose(found, known, rtol=1e-4)


@not_intel
@pytest.mark.parametrize(
    "name", ["dropout", "dropout2d", "alpha_dropout", "feature_alpha_dropout", "gumbel_softmax"]
)
def test_functions_draw_torchs_values(name: str) -> None:
    def draw(t: Any) -> Any:
        x = t.linspace(-1, 1, 2 * 5 * 3 * 3).reshape(2, 5, 3, 3)
        if name == "gumbel_softmax":
            return t.nn.functional.gumbel_softmax(x)
        return getattr(t.nn.functional, name)(x, 0.3, True)

    found, known = both(draw)
    np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-6)
