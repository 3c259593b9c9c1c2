"""Programs' memory: results written over what they are made from, order, places."""

import numpy as np
import pytest

import flambeau as fl
from flambeau import budget, nn, record
from flambeau.runtime import cpu, memory


def test_two_tensors_that_take_each_others_place():
    a, b = fl.arange(5000.0), fl.arange(5000.0) * 100
    a.tolist(), b.tolist()
    old_a, old_b = a.numpy().copy(), b.numpy().copy()
    both = a * b + a
    t, u = b + 1, a + 1
    a.copy_(t)
    b.copy_(u)
    record.flush()
    np.testing.assert_array_equal(a.numpy(), old_b + 1)
    np.testing.assert_array_equal(b.numpy(), old_a + 1)
    np.testing.assert_array_equal(both.numpy(), old_a * old_b + old_a)


# -- memory budgets -------------------------------------------------------------------------------


class Training:
    """A network whose activations are most of its memory, and its programs under a budget."""

    def __init__(self, layer=None):
        fl.manual_seed(3)
        layers = [
            (fl.nn.Linear(64, 64), layer or fl.nn.GELU(), fl.nn.LayerNorm(64)) for _ in range(5)
        ]
        self.model = fl.nn.Sequential(*(part for group in layers for part in group))
        self.optimizer = fl.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.x = fl.randn(3000, 64)
        record.flush()

    def step(self):
        """One step; -> its loss, which is still pending."""
        self.optimizer.zero_grad()
        loss = self.model(self.x).square().mean()
        loss.backward()
        return loss

    def run(self, steps=3):
        """Losses, parameters and gradients after some steps, and the last program."""
        found = []
        for _ in range(steps):
            loss = self.step()
            self.optimizer.step()
            found.append(loss.item())
        parameters = list(self.model.parameters())
        arrays = [p.detach().numpy().copy() for p in parameters]
        arrays += [p.grad.numpy().copy() for p in parameters]
        return found, arrays


@pytest.fixture
def programs(monkeypatch):
    """Programs compiled from here on, in order."""
    found = []

    def compile_one(graph, key):
        found.append(compiled(graph, key))
        return found[-1]

    compiled = cpu.compile
    monkeypatch.setattr(cpu, "compile", compile_one)
    record.clear_programs()
    return found


@pytest.mark.parametrize("layer", [None, fl.nn.Dropout(0.3)], ids=["gelu", "dropout"])
def test_a_budget_is_kept_and_changes_no_bit(programs, layer):
    losses, arrays = Training(layer).run()
    unlimited = max(p.peak_bytes for p in programs)
    fixed = max(p.fixed_bytes for p in programs)
    limit = unlimited - (unlimited - fixed) // 4
    programs.clear()
    with fl.set_memory_budget(limit):
        again, others = Training(layer).run()
    assert again == losses
    for a, b in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(a, b)
    assert max(p.peak_bytes for p in programs) <= limit
    assert any(p.repeated for p in programs)


def test_a_budget_lowers_the_memory_that_is_taken(programs):
    peaks = []
    for limit in (None, 9 << 20):
        with fl.set_memory_budget(limit):
            training = Training()
            training.run(1)
            memory.release_scratch()
            memory.reset_peak_memory_stats()
            before = memory.memory_allocated()
            training.run(1)
            peaks.append(memory.max_memory_allocated() - before)
    saved = programs[-1].unlimited_bytes - programs[-1].peak_bytes
    assert programs[-1].peak_bytes <= 9 << 20 < programs[-1].unlimited_bytes
    assert peaks[0] - peaks[1] > 0.8 * saved


def test_a_budget_that_cannot_be_met_warns_and_still_computes():
    losses, _ = Training().run(1)
    with fl.set_memory_budget("1KB"), pytest.warns(UserWarning, match="does not fit the memory"):
        again, _ = Training().run(1)
    assert again == losses


def test_explain_tells_what_is_computed_again():
    training = Training()
    plain = fl.explain(training.step)
    assert plain.recomputed == []
    with fl.set_memory_budget(plain.peak - (1 << 20)):
        tight = fl.explain(training.step)
    assert tight.peak <= plain.peak - (1 << 20)
    assert tight.saved >= 1 << 20
    assert tight.recomputed
    text = str(tight)
    assert "within the budget" in text
    assert "  again: " in text
    assert "<svg" in tight.svg()


def test_budgets_are_read_as_written():
    assert fl.get_memory_budget() is None
    for given, found in [
        (1000, 1000),
        ("4GB", 4 * 10**9),
        ("1.5 GiB", 3 << 29),
        ("300 kb", 300_000),
        ("7", 7),
        (4e9, 4 * 10**9),
        (0.5, budget.machine_bytes() // 2),
        ("50%", budget.machine_bytes() // 2),
    ]:
        with fl.set_memory_budget(given):
            assert fl.get_memory_budget() == found
    assert fl.get_memory_budget() is None
    for wrong in ("much", "4 gigabytes", "", "-1GB", 0, -5):
        with pytest.raises(ValueError, match="memory budget must be"):
            fl.set_memory_budget(wrong)
    for wrong in (True, [1], b"4GB"):
        with pytest.raises(TypeError, match="memory budget must be"):
            fl.set_memory_budget(wrong)
    assert fl.get_memory_budget() is None


# -- places ---------------------------------------------------------------------------------------


def test_loops_write_over_what_dies(programs):
    x = fl.rand(300, 300)
    record.flush()
    y = fl.softmax(x @ x, -1) @ x  # the product's memory becomes the softmax's
    y.tolist()
    expected = x.numpy() @ x.numpy()
    expected = np.exp(expected - expected.max(-1, keepdims=True))
    expected = expected / expected.sum(-1, keepdims=True) @ x.numpy()
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5)
    assert programs[-1].arena_bytes < 2 * 300 * 300 * 4


def test_norms_of_parameters_are_updated_where_they_lie(programs):
    training = Training()
    training.run(2)
    assert not programs[-1].copies


def test_a_value_that_is_read_in_a_later_loop_is_not_overwritten():
    x = fl.rand(64, 500)
    record.flush()
    before = x.numpy().copy()
    mean = x.mean(-1, keepdim=True)
    centred = x - mean
    spread = (centred * centred).sum(-1, keepdim=True)
    x.copy_(centred)
    shown = centred / spread
    record.flush()
    exact = before.astype(np.float64)
    exact = exact - exact.mean(-1, keepdims=True)
    np.testing.assert_allclose(x.numpy(), exact, atol=1e-6)
    ratio = exact / (exact**2).sum(-1, keepdims=True)
    np.testing.assert_allclose(shown.numpy(), ratio, rtol=1e-4, atol=1e-6)


def test_products_with_chains_of_epilogues_end_under_a_budget_too_small():
    def train(amount):
        fl.manual_seed(0)
        model = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(4)))
        optimizer = fl.optim.SGD(model.parameters(), lr=0.1)
        x = fl.randn(1024, 64)
        losses = []
        with fl.set_memory_budget(amount):
            for _ in range(2):
                optimizer.zero_grad()
                loss = model(x).square().mean()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        return losses

    with pytest.warns(UserWarning, match="does not fit the memory budget"):
        tight = train(500_000)
    assert tight == train(None)
