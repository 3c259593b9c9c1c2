"""Compiled programs do what the same programs do uncompiled, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.compiler import report
from flambeau.nn import functional as F

Step = Callable[..., Any]


def plain(value: Any) -> Any:
    """A result as NumPy arrays and numbers, for comparing."""
    if isinstance(value, flambeau.Tensor):
        array = value.detach().float() if value.dtype is flambeau.bfloat16 else value.detach()
        return (
            "tensor",
            str(value.dtype),
            value.requires_grad,
            value.stride(),
            array.numpy().copy().tobytes(),
        )
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(plain, value)]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value


def run(make: Callable[[], tuple[Step, Callable[[], Any]]], compiled: bool, calls: int) -> Any:
    """The results of a program's calls, and the state it leaves."""
    flambeau.manual_seed(0)
    step, state = make()
    kept = flambeau.compile(step) if compiled else step
    found = []
    for k in range(calls):
        flambeau.manual_seed(10 + k)
        found.append(plain(kept(k)))
        found.append(plain(flambeau.rand(2)))  # where the random stream stands
    return found, plain(state()), kept


def same(make: Any, calls: int = 6, replays: int | None = None) -> Any:
    """Run a program both ways and compare; -> the compiled function."""
    expected, left, _ = run(make, False, calls)
    found, kept, step = run(make, True, calls)
    assert found == expected
    assert kept == left
    if replays is not None:
        assert report(step).replays == replays, str(report(step))
    return step


def data(k: int, *shape: int) -> flambeau.Tensor:
    """Values that differ from call to call."""
    return flambeau.from_numpy(np.random.default_rng(k).standard_normal(shape, np.float32))


DATA = [flambeau.tensor(np.random.default_rng(k).standard_normal((8, 6))).float() for k in range(9)]
LABELS = [flambeau.tensor(np.random.default_rng(k).integers(0, 4, 8)) for k in range(9)]


def model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 4)
    )


def trained(wrap: Callable[..., Step], optimizer: str, **options: Any) -> Any:
    """A program that trains: the step takes x and y, and is fed by `wrap`."""

    def make() -> Any:
        m = model()
        o = getattr(flambeau.optim, optimizer)(m.parameters(), **options)
        inner = wrap(m, o)
        xs, ys = list(DATA), list(LABELS)

        def state() -> Any:
            return [list(m.state_dict().values()), [p.grad for p in m.parameters()]]

        return inner, state, xs, ys

    return make


def training(
    wrap: Any, optimizer: str, calls: int = 7, replays: int | None = None, **o: Any
) -> Any:
    """Compare a training loop both ways."""
    found = []
    for compiled in (False, True):
        flambeau.manual_seed(0)
        step, state, xs, ys = trained(wrap, optimizer, **o)()
        step = flambeau.compile(step) if compiled else step
        losses = []
        for k in range(calls):
            losses.append(plain(step(xs[k], ys[k])))
        found.append((losses, plain(state()), plain(flambeau.rand(2))))
    assert found[0] == found[1]
    if replays is not None:
        assert report(step).replays == replays, str(report(step))
    return step


def whole_step(m: Any, o: Any) -> Step:
    def step(x: Any, y: Any) -> Any:
        o.zero_grad()
        loss = F.cross_entropy(m(x), y)
        loss.backward()
        o.step()
        return loss

    return step


OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("AdamW", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "centered": True}),
    ("Adagrad", {"lr": 0.05}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_whole_training_steps(name: str, options: dict[str, Any]) -> None:
    training(whole_step, name, replays=5, **options)


def test_gradient_clipping() -> None:
    def wrap(m: Any, o: Any) -> Step:
        def step(x: Any, y: Any) -> Any:
            o.zero_grad(set_to_none=True)
            loss = F.cross_entropy(m(x), y)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(m.parameters(), 0.5)
            o.step()
            return loss, norm

        return step

    training(wrap, "Adam", replays=5, lr=0.01)


def test_the_loss_as_a_number() -> None:
    def wrap(m: Any, o: Any) -> Step:
        def step(x: Any, y: Any) -> Any:
            o.zero_grad()
            loss = F.cross_entropy(m(x), y)
            loss.backward()
            o.step()
            return loss.item()

        return step

    training(wrap, "Adam", replays=5, lr=0.01)


def test_several_numbers_handed_back() -> None:
    def make() -> Any:
        def step(k: int) -> Any:
            x = DATA[k]
            low = x.min().item()
            high = x.max().item()
            return {"low": low, "range": [high, x.mean().item()]}

        return step, list

    # the batch is a global's element: every call is another recording
    same(make, 3)

    def read(x: Any) -> Any:
        low = x.min().item()
        return low, x.max().item()

    step = flambeau.compile(read)
    for k in range(5):
        assert step(DATA[k]) == (DATA[k].min().item(), DATA[k].max().item())
    assert report(step).replays == 3


def test_accumulated_gradients() -> None:
    def wrap(m: Any, o: Any) -> Step:
        def step(x: Any, y: Any) -> Any:
            loss = F.cross_entropy(m(x), y) / 2
            loss.backward()
            return loss

        return step

    training(wrap, "SGD", replays=5, lr=0.1)


def test_accumulation_with_a_step_now_and_then() -> None:
    found = []
    for compiled in (False, True):
        flambeau.manual_seed(0)
        m = model()
        o = flambeau.optim.AdamW(m.parameters(), lr=0.01)

        def micro(x: Any, y: Any, m: Any = m) -> Any:
            loss = F.cross_entropy(m(x), y)
            loss.backward()
            return loss

        if compiled:
            micro = flambeau.compile(micro)
        losses = []
        for k in range(9):
            losses.append(plain(micro(DATA[k], LABELS[k])))
            if k % 3 == 2:
                o.step()
                o.zero_grad()
        found.append((losses, plain(list(m.state_dict().values()))))
    assert found[0] == found[1]
    assert report(micro).replays > 3


def test_gradients_zeroed_by_the_model() -> None:
    def wrap(m: Any, o: Any) -> Step:
        def step(x: Any, y: Any) -> Any:
            m.zero_grad()
            loss = F.cross_entropy(m(x), y)
            loss.backward()
            with flambeau.no_grad():
                for p in m.parameters():
                    p -= 0.1 * p.grad
            return loss.detach()

        return step

    training(wrap, "SGD", replays=5, lr=0.1)


def test_zeroed_gradients_that_stay() -> None:
    def wrap(m: Any, o: Any) -> Step:
        def step(x: Any, y: Any) -> Any:
            o.zero_grad(set_to_none=False)
            loss = F.cross_entropy(m(x), y)
            loss.backward()
            o.step()
            return loss

        return step

    training(wrap, "Adam", lr=0.01)


def schedules() -> list[Any]:
    s = flambeau.optim.lr_scheduler
    return [
        lambda o: s.StepLR(o, 2, 0.5),
        lambda o: s.CosineAnnealingLR(o, 5),
        lambda o: s.OneCycleLR(o, 0.1, total_steps=20),
        lambda o: s.LambdaLR(o, lambda k: 1 / (k + 1)),
        lambda o: s.ReduceLROnPlateau(o, patience=1),
        lambda o: s.SequentialLR(o, [s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9)], [3]),
    ]


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("inside", [True, False])
def test_schedules(at: int, inside: bool) -> None:
    made: list[Any] = []

    def wrap(m: Any, o: Any) -> Step:
        schedule = schedules()[at](o)
        made.append((schedule, o))

        def step(x: Any, y: Any) -> Any:
            o.zero_grad()
            loss = F.cross_entropy(m(x), y)
            loss.backward()
            o.step()
            if inside:
                if at == 4:
                    schedule.step(loss)
                else:
                    schedule.step()
            return loss

        return step

    found = []
    for compiled in (False, True):
        flambeau.manual_seed(0)
        step, state, xs, ys = trained(wrap, "Adam", lr=0.05)()
        step = flambeau.compile(step) if compiled else step
        schedule, o = made[-1]
        trail = []
        for k in range(9):
            loss = step(xs[k], ys[k])
            if not inside:
                schedule.step(loss) if at == 4 else schedule.step()
            trail.append((plain(loss), o.param_groups[0]["lr"]))
        found.append((trail, plain(state())))
    assert found[0] == found[1]
    assert report(step).replays == 7, str(report(step))


def test_a_schedule_and_a_clip_and_labels() -> None:
    """Labels of another kind, a tuple of results, views among them."""

    def wrap(m: Any, o: Any) -> Step:
        def step(x: Any, y: Any) -> Any:
            scores = m(x)
            loss = F.cross_entropy(scores, y)
            return {"loss": loss, "top": scores.argmax(-1), "first": scores[0], "T": scores.T}

        return step

    training(wrap, "SGD", replays=5, lr=0.1)


def test_last_batch_is_smaller() -> None:
    found = []
    for compiled in (False, True):
        flambeau.manual_seed(0)
        m = model()
        o = flambeau.optim.Adam(m.parameters(), lr=0.01)
        step = whole_step(m, o)
        if compiled:
            step = flambeau.compile(step)
        losses = []
        for k in range(9):
            n = 8 if k % 3 else 5
            losses.append(plain(step(DATA[k][:n], LABELS[k][:n])))
        found.append((losses, plain(list(m.state_dict().values()))))
    assert found[0] == found[1]
    assert report(step).replays >= 4, str(report(step))
    assert report(step).recordings <= 3


def test_tied_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 6, bias=False)
            self.outer = nn.Linear(6, 6, bias=False)
            self.outer.weight = self.inner.weight

        def forward(self, x: Any) -> Any:
            return self.outer(self.inner(x).relu())

    found = []
    for compiled in (False, True):
        flambeau.manual_seed(0)
        m = Tied()
        o = flambeau.optim.SGD(m.parameters(), lr=0.1)

        def step(x: Any, m: Any = m, o: Any = o) -> Any:
            o.zero_grad()
            loss = m(x).square().mean()
            loss.backward()
            o.step()
            return loss

        if compiled:
            step = flambeau.compile(step)
        found.append([plain(step(DATA[k])) for k in range(6)])
    assert found[0] == found[1]
    assert report(step).replays == 4
    m.outer.weight = nn.Parameter(flambeau.ones(6, 6))  # no longer tied
    x = DATA[0]
    with flambeau.no_grad():
        expected = (F.relu(x @ m.inner.weight.T) @ m.outer.weight.T).square().mean()
    assert step(x).item() == expected.item()
    assert m.outer.weight.grad is not None


@pytest.mark.parametrize("later", ["backward", "grad", "twice", "part", "none"])
def test_backward_through_a_compiled_forward(later: str) -> None:
    def finish(m: Any, x: Any, out: Any, aux: Any) -> Any:
        if later == "backward":
            (out.square().mean() + aux.sum()).backward()
        elif later == "grad":
            return flambeau.autograd.grad(out.sum() * 2, [x, *m.parameters()], allow_unused=True)
        elif later == "twice":
            out.sum().backward(retain_graph=True)
            out.square().sum().backward()
        elif later == "part":
            aux.sum().backward()
        else:
            out.sum().item()
            aux.sum().backward()
        return [x.grad, *(p.grad for p in m.parameters())]

    found = []
    for compiled in (False, True):
        flambeau.manual_seed(0)
        m = nn.ModuleDict({"a": nn.Linear(6, 5), "b": nn.Linear(6, 3)})

        def forward(x: Any, m: Any = m) -> Any:
            hidden = m["a"](x)
            return F.softmax(hidden, -1), m["b"](x).sin()

        if compiled:
            forward = flambeau.compile(forward)
        trail = []
        for k in range(5):
            x = DATA[k].clone().requires_grad_()
            m.zero_grad()
            trail.append(plain(finish(m, x, *forward(x))))
        found.append(trail)
    assert found[0] == found[1]
    assert report(forward).replays == 3, str(report(forward))


def test_gradients_reach_what_the_argument_came_from() -> None:
    w = flambeau.ones(6, requires_grad=True)

    @flambeau.compile
    def inner(x: Any) -> Any:
        return (x * x).sum()

    for k in range(5):
        w.grad = None
        inner(DATA[k] * w).backward()
        expected = 2 * DATA[k].numpy() ** 2
        np.testing.assert_allclose(w.grad.numpy(), expected.sum(0), rtol=1e-5)
    assert report(inner).replays == 3


def test_a_second_backward_raises_as_ever() -> None:
    w = flambeau.ones(3, requires_grad=True)

    @flambeau.compile
    def whole() -> Any:
        loss = (w * w).sum()
        loss.backward()
        return loss

    for _ in range(5):
        loss = whole()
        assert loss.requires_grad
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()
    assert report(whole).replays == 3
    forward = flambeau.compile(lambda: (w * w).sum())
    for _ in range(5):
        loss = forward()
        loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()


def test_values_saved_for_backward_may_not_be_written() -> None:
    w = flambeau.ones(3, requires_grad=True)
    forward = flambeau.compile(lambda: (w * w).sum())
    for _ in range(4):
        loss = forward()
        with flambeau.no_grad():
            w.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_autocast_inside_and_outside() -> None:
    m = nn.Linear(6, 4)

    def inside(x: Any) -> Any:
        with flambeau.autocast("cpu", dtype=flambeau.bfloat16):
            return m(x)

    outer = flambeau.compile(lambda x: m(x))
    inner = flambeau.compile(inside)
    for k in range(5):
        assert plain(inner(DATA[k])) == plain(inside(DATA[k]))
    assert report(inner).replays >= 2, str(report(inner))
    for k in range(9):
        with flambeau.autocast("cpu", dtype=flambeau.bfloat16, enabled=k % 2 == 0):
            assert plain(outer(DATA[k])) == plain(m(DATA[k]))
    assert report(outer).replays >= 5, str(report(outer))


def test_checkpointing_inside() -> None:
    m = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Tanh())
    found = []
    for compiled in (False, True):

        def forward(x: Any) -> Any:
            return flambeau.utils.checkpoint.checkpoint(m, x, use_reentrant=False).sum()

        if compiled:
            forward = flambeau.compile(forward)
        trail = []
        for k in range(5):
            flambeau.manual_seed(k)
            m.zero_grad()
            x = DATA[k].clone().requires_grad_()
            forward(x).backward()
            trail.append(plain([x.grad, m[0].weight.grad]))
        found.append(trail)
    assert found[0] == found[1]


def test_module_state_kept_as_tensors() -> None:
    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = flambeau.zeros(8, 6)
            self.register_buffer("mean", flambeau.zeros(6))

        def forward(self, x: Any) -> Any:
            self.hidden = flambeau.tanh(self.hidden + x)
            self.mean.lerp_(x.mean(0), 0.1)
            return self.hidden * 2

    found = []
    for compiled in (False, True):
        m = Running()
        step = flambeau.compile(m) if compiled else m
        trail = [plain(step(DATA[k])) for k in range(6)]
        found.append((trail, plain(m.hidden), plain(m.mean)))
    assert found[0] == found[1]
    assert report(step).replays == 4, str(report(step))


def test_dropout_inside_of_attention_is_drawn_anew() -> None:
    def trained(compiled: bool) -> tuple[Any, Any]:
        flambeau.manual_seed(0)
        model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
        optimizer = flambeau.optim.SGD(model.parameters(), lr=0.1)

        def step() -> Any:
            optimizer.zero_grad()
            x = flambeau.ones(2, 5, 8)
            y = F.scaled_dot_product_attention(x, x, model(x), dropout_p=0.4)
            y.square().mean().backward()
            optimizer.step()
            return y

        run = flambeau.compile(step) if compiled else step
        return [plain([run(), flambeau.rand(2)]) for _ in range(6)], run

    found, step = trained(True)
    assert found == trained(False)[0]
    assert report(step).replays == 4, str(report(step))
