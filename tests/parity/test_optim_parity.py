"""Optimizers and schedules take torch's steps, and their state dicts are torch's."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from tests.parity.same import Library, array, assert_same, both, given, plain

torch = pytest.importorskip("torch")

STEPS = 20

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 0.1}),
    "SGD-default": ("SGD", {}),
    "SGD-momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "SGD-dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    "SGD-nesterov": ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True}),
    "SGD-decay": ("SGD", {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.5}),
    "SGD-maximize": ("SGD", {"lr": 0.01, "maximize": True, "weight_decay": 0.1}),
    "SGD-fused": ("SGD", {"lr": 0.1, "fused": True, "momentum": 0.9}),
    "Adam": ("Adam", {"lr": 0.05}),
    "Adam-betas": ("Adam", {"lr": 0.05, "betas": (0.7, 0.8), "eps": 1e-3}),
    "Adam-decay": ("Adam", {"lr": 0.05, "weight_decay": 0.1}),
    "Adam-amsgrad": ("Adam", {"lr": 0.3, "amsgrad": True, "betas": (0.5, 0.6)}),
    "Adam-maximize": ("Adam", {"lr": 0.05, "maximize": True}),
    "Adam-foreach": ("Adam", {"lr": 0.05, "foreach": True, "amsgrad": True}),
    "Adam-decoupled": (
        "Adam",
        {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
    "Adam-differentiable": ("Adam", {"lr": 0.05, "weight_decay": 0.1, "foreach": False}),
    "AdamW": ("AdamW", {"lr": 0.05}),
    "AdamW-amsgrad": ("AdamW", {"lr": 0.05, "weight_decay": 0.3, "amsgrad": True}),
    "AdamW-fused": ("AdamW", {"lr": 0.05, "fused": True}),
    "RMSprop": ("RMSprop", {"lr": 0.05}),
    "RMSprop-momentum": ("RMSprop", {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}),
    "RMSprop-centered": ("RMSprop", {"lr": 0.02, "centered": True, "alpha": 0.8}),
    "RMSprop-all": (
        "RMSprop",
        {"lr": 0.02, "centered": True, "momentum": 0.5, "maximize": True},
    ),
    "Adagrad": ("Adagrad", {"lr": 0.1}),
    "Adagrad-decay": (
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5},
    ),
    "Adagrad-maximize": ("Adagrad", {"lr": 0.1, "maximize": True, "fused": True}),
    "Adamax": ("Adamax", {"lr": 0.05}),
    "Adamax-decay": ("Adamax", {"lr": 0.05, "weight_decay": 0.1, "maximize": True, "eps": 1e-3}),
    "Adadelta": ("Adadelta", {"lr": 0.5}),
    "Adadelta-decay": ("Adadelta", {"lr": 0.5, "rho": 0.7, "weight_decay": 0.1, "maximize": True}),
    "NAdam": ("NAdam", {"lr": 0.05}),
    "NAdam-decay": ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "momentum_decay": 0.02}),
    "NAdam-decoupled": (
        "NAdam",
        {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
    ),
    "RAdam": ("RAdam", {"lr": 0.05}),
    "RAdam-decay": ("RAdam", {"lr": 0.05, "weight_decay": 0.1, "betas": (0.8, 0.9)}),
    "RAdam-decoupled": (
        "RAdam",
        {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
    ),
    "Rprop": ("Rprop", {"lr": 0.02}),
    "Rprop-etas": (
        "Rprop",
        {"lr": 0.02, "etas": (0.3, 1.5), "step_sizes": (1e-3, 0.1), "maximize": True},
    ),
    "ASGD": ("ASGD", {"lr": 0.1}),
    "ASGD-averaged": ("ASGD", {"lr": 0.1, "t0": 5, "lambd": 0.01, "weight_decay": 0.1}),
    "Adafactor": ("Adafactor", {"lr": 0.1}),
    "Adafactor-decay": (
        "Adafactor",
        {"lr": 0.1, "d": 1.5, "weight_decay": 0.1, "eps": (1e-6, 1e-2), "maximize": True},
    ),
}


def problem(lib: Library, dtype: str) -> tuple[list[Any], Callable[[], Any]]:
    """Parameters, one of them never used, and a loss of the others."""
    params = [
        given(lib, array(shape, i, dtype), grad=True)
        for i, shape in enumerate([(3, 2), (2,), (4,)])
    ]
    x, y = given(lib, array((5, 3), 7, dtype)), given(lib, array((5, 2), 8, dtype))
    weight, bias, _ = params

    def loss() -> Any:
        return ((lib.tanh(x @ weight + bias) - y) ** 2).mean()

    return params, loss


def options_of(lib: Library, name: str, params: list[Any]) -> tuple[Any, list[Any]]:
    """The optimizer over two groups, of which the second has a rate of its own."""
    kind, options = OPTIMIZERS[name]
    groups = [{"params": [params[0], params[2]]}, {"params": [params[1]], "lr": 0.03}]
    return getattr(lib.optim, kind)(groups, **options), params


def train(lib: Library, optimizer: Any, loss: Callable[[], Any], steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        losses.append(value.detach())
    return losses


# Momentum buffers reach 11 here, of which 1e-5 is about ten float32 ulps: elements that cancel to
# near 0 keep that much of it.
@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [("float32", 1e-5, 1e-5), ("float64", 1e-12, 1e-13)]
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trajectory(name: str, dtype: str, rtol: float, atol: float) -> None:
    def program(lib: Library) -> Any:
        params, loss = problem(lib, dtype)
        optimizer, _ = options_of(lib, name, params)
        losses = train(lib, optimizer, loss, STEPS)
        return [losses, params, optimizer.state_dict(), repr(optimizer)]

    both(program, rtol=rtol, atol=atol)


def arrays(state: Any) -> Any:
    """A state dict with arrays in place of tensors."""
    if hasattr(state, "detach"):
        return ("tensor", state.detach().numpy().copy())
    if isinstance(state, dict):
        return {k: arrays(v) for k, v in state.items()}
    if isinstance(state, list):
        return [arrays(v) for v in state]
    return state


def tensors(lib: Library, state: Any) -> Any:
    """A library's state dict from one of arrays."""
    if isinstance(state, tuple) and state and state[0] == "tensor":
        return lib.tensor(state[1])
    if isinstance(state, dict):
        return {k: tensors(lib, v) for k, v in state.items()}
    if isinstance(state, list):
        return [tensors(lib, v) for v in state]
    return state


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_dicts_exchange(name: str) -> None:
    """Five steps in one library, five in the other, as ten in one."""
    want_params, want_loss = problem(torch, "float64")
    optimizer, _ = options_of(torch, name, want_params)
    train(torch, optimizer, want_loss, 10)
    for first, second in ((torch, flambeau), (flambeau, torch)):
        params, loss = problem(first, "float64")
        optimizer, _ = options_of(first, name, params)
        train(first, optimizer, loss, 5)
        state = arrays(optimizer.state_dict())
        others, loss = problem(second, "float64")
        for p, q in zip(params, others, strict=True):
            q.data = second.tensor(p.detach().numpy().copy())
        continued, _ = options_of(second, name, others)
        continued.load_state_dict(tensors(second, state))
        train(second, continued, loss, 5)
        # loading gives NAdam's product the parameters' dtype; until then it is float32
        rtol = 1e-8 if name.startswith("NAdam") else 1e-12
        assert_same(plain(others), plain(want_params), rtol=rtol, atol=1e-13)


@pytest.mark.parametrize("name", ["SGD-nesterov", "Adam-amsgrad", "AdamW", "RMSprop-all"])
def test_copies_and_pickles_continue(name: str) -> None:
    def program(lib: Library) -> Any:
        found = []
        for duplicate in (copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))):
            params, loss = problem(lib, "float64")
            optimizer, _ = options_of(lib, name, params)
            train(lib, optimizer, loss, 3)
            twin = duplicate(optimizer)
            for group, other in zip(optimizer.param_groups, twin.param_groups, strict=True):
                for p, q in zip(group["params"], other["params"], strict=True):
                    q.grad = None if p.grad is None else p.grad.clone()
            twin.step()
            found.append([[g["params"] for g in twin.param_groups], twin.state_dict()])
        return found

    both(program, rtol=1e-12, atol=1e-14)


def test_gradients_flow_through_differentiable_steps() -> None:
    def program(lib: Library) -> Any:
        found = []
        for kind, options in (
            ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
            ("Adam", {"weight_decay": 0.1}),
            ("RMSprop", {"momentum": 0.5}),
            ("Adagrad", {"lr_decay": 0.1}),
        ):
            start = given(lib, array((3,), 1, "float64"), grad=True)
            scale = given(lib, array((3,), 2, "float64"), grad=True)
            p = start.clone()
            optimizer = getattr(lib.optim, kind)([p], lr=0.1, differentiable=True, **options)
            for _ in range(3):
                now = p.clone()  # the step changes p in place
                (p.grad,) = lib.autograd.grad(
                    (now * now * scale).sum(), [p], create_graph=True, retain_graph=True
                )
                optimizer.step()
            (p * p).sum().backward()
            found.append([p, start.grad, scale.grad])
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # torch computes Adam's corrections in float32 here.
        both(program, rtol=1e-4, atol=1e-9)


def test_tensor_betas() -> None:
    def program(lib: Library) -> Any:
        params, loss = problem(lib, "float64")
        betas = (lib.tensor(0.5), lib.tensor(0.75))
        optimizer = lib.optim.Adam(params, lr=0.05, betas=betas, foreach=False)
        return [train(lib, optimizer, loss, 5), params]

    both(program, rtol=1e-6)


def test_closures_hooks_and_groups() -> None:
    def program(lib: Library) -> Any:
        params, loss = problem(lib, "float64")
        optimizer = lib.optim.SGD([("weight", params[0])], lr=0.1, momentum=0.9)
        seen: list[Any] = []
        optimizer.register_step_pre_hook(lambda o, a, k: seen.append(["pre", len(a), sorted(k)]))
        optimizer.register_step_post_hook(lambda o, a, k: seen.append(["post", len(a)]))
        optimizer.register_state_dict_pre_hook(lambda o: seen.append("state"))
        optimizer.register_state_dict_post_hook(lambda o, s: {**s, "more": 1})
        optimizer.register_load_state_dict_pre_hook(lambda o, s: seen.append(sorted(s)))
        optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))

        def closure() -> Any:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        first = optimizer.step(closure)
        optimizer.add_param_group({"params": [("bias", params[1])], "lr": 0.5})
        second = optimizer.step(closure=closure)
        state = optimizer.state_dict()
        optimizer.load_state_dict(state)
        optimizer.zero_grad(set_to_none=False)
        return [seen, first, second, params, state, params[0].grad]

    both(program, rtol=1e-12)


ERRORS: dict[str, Callable[[Library, Any], Any]] = {
    "tensor": lambda lib, p: lib.optim.SGD(p, lr=0.1),
    "empty": lambda lib, p: lib.optim.SGD([], lr=0.1),
    "numbers": lambda lib, p: lib.optim.SGD([1.0], lr=0.1),
    "set": lambda lib, p: lib.optim.SGD([{"params": {p}}], lr=0.1),
    "non-leaf": lambda lib, p: lib.optim.SGD([p * 2], lr=0.1),
    "twice": lambda lib, p: lib.optim.SGD([{"params": [p]}, {"params": [p]}], lr=0.1),
    "half named": lambda lib, p: lib.optim.SGD([("a", p), p.detach()], lr=0.1),
    "groups half named": lambda lib, p: lib.optim.SGD(
        [{"params": [("a", p)]}, {"params": [p.detach()]}], lr=0.1
    ),
    "group type": lambda lib, p: lib.optim.SGD([p], lr=0.1).add_param_group([p]),
    "rate": lambda lib, p: lib.optim.SGD([p], lr=-0.1),
    "rate tensor": lambda lib, p: lib.optim.SGD([p], lr=lib.ones(2)),
    "momentum": lambda lib, p: lib.optim.SGD([p], momentum=-1.0),
    "decay": lambda lib, p: lib.optim.SGD([p], weight_decay=-1.0),
    "nesterov": lambda lib, p: lib.optim.SGD([p], nesterov=True),
    "fused": lambda lib, p: lib.optim.SGD([p], fused=True, foreach=True),
    "fused differentiable": lambda lib, p: lib.optim.Adam([p], fused=True, differentiable=True),
    "betas": lambda lib, p: lib.optim.Adam([p], betas=(1.0, 0.9)),
    "second beta": lambda lib, p: lib.optim.AdamW([p], betas=(0.1, -0.9)),
    "beta kinds": lambda lib, p: lib.optim.Adam([p], betas=(0.5, lib.tensor(0.9))),
    "epsilon": lambda lib, p: lib.optim.Adam([p], eps=-1.0),
    "tensor rate": lambda lib, p: lib.optim.Adam([p], lr=lib.tensor(0.1), foreach=True),
    "alpha": lambda lib, p: lib.optim.RMSprop([p], alpha=-1.0),
    "accumulator": lambda lib, p: lib.optim.Adagrad([p], initial_accumulator_value=-1.0),
    "rate decay": lambda lib, p: lib.optim.Adagrad([p], lr_decay=-1.0),
    "groups": lambda lib, p: lib.optim.SGD([p]).load_state_dict({"param_groups": [], "state": {}}),
    "group size": lambda lib, p: lib.optim.SGD([p]).load_state_dict(
        {"param_groups": [{"params": []}], "state": {}}
    ),
    "step": lambda lib, p: lib.optim.Optimizer([p], {}).step(),
    "schedule": lambda lib, p: lib.optim.lr_scheduler.StepLR(p, 3),
    "resume": lambda lib, p: lib.optim.lr_scheduler.StepLR(lib.optim.SGD([p]), 3, last_epoch=2),
    "lambdas": lambda lib, p: lib.optim.lr_scheduler.LambdaLR(lib.optim.SGD([p]), [abs, abs]),
    "lambda": lambda lib, p: lib.optim.lr_scheduler.MultiplicativeLR(lib.optim.SGD([p]), 3),
    "factor": lambda lib, p: lib.optim.lr_scheduler.ConstantLR(lib.optim.SGD([p]), 3.0),
    "start": lambda lib, p: lib.optim.lr_scheduler.LinearLR(lib.optim.SGD([p]), 0.0),
    "end": lambda lib, p: lib.optim.lr_scheduler.LinearLR(lib.optim.SGD([p]), 0.5, 2.0),
    "plateau": lambda lib, p: lib.optim.lr_scheduler.ReduceLROnPlateau(lib.optim.SGD([p]), "mean"),
    "plateau factor": lambda lib, p: lib.optim.lr_scheduler.ReduceLROnPlateau(
        lib.optim.SGD([p]), factor=1.0
    ),
    "restarts": lambda lib, p: lib.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        lib.optim.SGD([p]), 0
    ),
    "cycle": lambda lib, p: lib.optim.lr_scheduler.CyclicLR(lib.optim.SGD([p]), 0.1, 0.2, mode="a"),
    "cycle momentum": lambda lib, p: lib.optim.lr_scheduler.CyclicLR(
        lib.optim.Adagrad([p]), 0.1, 0.2
    ),
    "one cycle": lambda lib, p: lib.optim.lr_scheduler.OneCycleLR(lib.optim.SGD([p]), 0.1),
    "one cycle steps": lambda lib, p: lib.optim.lr_scheduler.OneCycleLR(
        lib.optim.SGD([p]), 0.1, total_steps=-1
    ),
    "one cycle epochs": lambda lib, p: lib.optim.lr_scheduler.OneCycleLR(
        lib.optim.SGD([p]), 0.1, epochs=2, steps_per_epoch=0
    ),
    "one cycle start": lambda lib, p: lib.optim.lr_scheduler.OneCycleLR(
        lib.optim.SGD([p]), 0.1, 10, pct_start=2
    ),
    "one cycle strategy": lambda lib, p: lib.optim.lr_scheduler.OneCycleLR(
        lib.optim.SGD([p]), 0.1, 10, anneal_strategy="flat"
    ),
    "sequence": lambda lib, p: lib.optim.lr_scheduler.SequentialLR(lib.optim.SGD([p]), [], []),
    "sequence length": lambda lib, p: (
        lambda o: lib.optim.lr_scheduler.SequentialLR(o, [lib.optim.lr_scheduler.StepLR(o, 3)], [3])
    )(lib.optim.SGD([p])),
    "chain": lambda lib, p: lib.optim.lr_scheduler.ChainedScheduler([]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str) -> None:
    def program(lib: Library) -> Any:
        with pytest.raises(Exception) as caught:
            ERRORS[name](lib, lib.ones(3, requires_grad=True))
        return [caught.type.__name__, str(caught.value)]

    both(program)


# -- schedules ------------------------------------------------------------------------------------

SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "LambdaLR": lambda s, o: s.LambdaLR(o, [lambda n: 0.9**n, lambda n: 1 / (n + 1)]),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, lambda n: 0.95 if n % 2 else 1.01),
    "StepLR": lambda s, o: s.StepLR(o, 7, gamma=0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [3, 3, 20, 45], gamma=0.3),
    "ConstantLR": lambda s, o: s.ConstantLR(o, 0.25, total_iters=9),
    "LinearLR": lambda s, o: s.LinearLR(o, 0.1, 0.9, total_iters=23),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.93),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, total_iters=40, power=1.7),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 13, eta_min=1e-3),
    "CosineAnnealingWarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 2, 1e-3),
    "CosineAnnealingWarmRestarts-1": lambda s, o: s.CosineAnnealingWarmRestarts(o, 7),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, [0.5, 0.3], total_steps=60),
    "OneCycleLR-linear": lambda s, o: s.OneCycleLR(
        o, 0.5, epochs=6, steps_per_epoch=10, anneal_strategy="linear", three_phase=True
    ),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.01, 0.2, step_size_up=7, step_size_down=5),
    "CyclicLR-halving": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 7, mode="triangular2"),
    "CyclicLR-exp": lambda s, o: s.CyclicLR(o, [0.01, 0.02], 0.2, 7, mode="exp_range", gamma=0.98),
    "CyclicLR-own": lambda s, o: s.CyclicLR(
        o, 0.01, 0.2, 7, scale_fn=lambda n: 1 / n, cycle_momentum=False
    ),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o,
        [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingLR(o, 20), s.ExponentialLR(o, 0.9)],
        [5, 30],
    ),
    "SequentialLR-warm-up": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.5, 4), s.StepLR(o, 6)], milestones=[10]
    ),
    "ChainedScheduler": lambda s, o: s.ChainedScheduler(
        [s.ConstantLR(o, 0.1, total_iters=10), s.ExponentialLR(o, 0.95)]
    ),
}


def options_now(optimizer: Any) -> list[Any]:
    """What a schedule may change."""
    return [[g["lr"], list(g.get("betas", [])), g.get("momentum")] for g in optimizer.param_groups]


def make_optimizer(lib: Library, momentum: bool) -> Any:
    params = [lib.zeros(2, requires_grad=True) for _ in range(2)]
    groups = [{"params": [params[0]]}, {"params": [params[1]], "lr": 0.05}]
    if momentum:
        return lib.optim.SGD(groups, lr=0.1, momentum=0.7)
    return lib.optim.Adam(groups, lr=0.1)


@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str, momentum: bool) -> None:
    def program(lib: Library) -> Any:
        optimizer = make_optimizer(lib, momentum)
        schedule = SCHEDULES[name](lib.optim.lr_scheduler, optimizer)
        seen = [options_now(optimizer)]
        for _ in range(60):
            optimizer.step()
            schedule.step()
            seen.append([options_now(optimizer), schedule.get_last_lr()])
        return seen

    both(program, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_state(name: str) -> None:
    """State dicts have torch's keys and values, and the schedule goes on from them."""

    def program(lib: Library) -> Any:
        optimizer = make_optimizer(lib, False)
        schedule = SCHEDULES[name](lib.optim.lr_scheduler, optimizer)
        for _ in range(12):
            optimizer.step()
            schedule.step()
        state = schedule.state_dict()
        other = make_optimizer(lib, False)
        resumed = SCHEDULES[name](lib.optim.lr_scheduler, other)
        other.load_state_dict(optimizer.state_dict())
        resumed.load_state_dict(copy.deepcopy(state))
        seen = []
        for _ in range(30):
            for o, s in ((optimizer, schedule), (other, resumed)):
                o.step()
                s.step()
            seen.append([optimizer.param_groups[0]["lr"], other.param_groups[0]["lr"]])
        state.pop("anneal_func", None)
        return [state, seen]

    both(program, rtol=1e-13, atol=0)


@pytest.mark.parametrize("options", [{}, {"mode": "max", "threshold_mode": "abs", "cooldown": 3}])
def test_plateau(options: dict[str, Any]) -> None:
    def program(lib: Library) -> Any:
        optimizer = make_optimizer(lib, True)
        schedule = lib.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=0.5, patience=2, threshold=0.05, min_lr=[1e-3, 1e-2], **options
        )
        metrics = np.abs(array((60,), 5, "float64")).cumsum() * (-1) ** np.arange(60)
        seen = []
        for value in metrics:
            schedule.step(value)
            seen.append([options_now(optimizer), schedule.num_bad_epochs, schedule.get_last_lr()])
        return [seen, schedule.state_dict()]

    both(program, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "name", [n for n in SCHEDULES if not n.startswith(("Sequential", "Chained", "One"))]
)
def test_jumps_by_the_closed_form(name: str) -> None:
    def program(lib: Library) -> Any:
        optimizer = make_optimizer(lib, True)
        schedule = SCHEDULES[name](lib.optim.lr_scheduler, optimizer)
        optimizer.step()
        seen = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for epoch in (3, 17, 40, 8):
                schedule.step(epoch)
                seen.append(schedule.get_last_lr())
        return seen

    both(program, rtol=1e-13, atol=0)


def test_schedule_of_a_tensor_rate() -> None:
    def program(lib: Library) -> Any:
        p = given(lib, array((3,), 1), grad=True)
        rate = lib.tensor(0.5)
        optimizer = lib.optim.SGD([p], lr=rate, momentum=0.5)
        schedule = lib.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for _ in range(3):
            p.grad = given(lib, array((3,), 2))
            optimizer.step()
            schedule.step()
        return [p, rate, schedule.get_last_lr(), optimizer.param_groups[0]["lr"] is rate]

    both(program)


def test_order_of_steps_is_watched() -> None:
    def program(lib: Library) -> Any:
        optimizer = make_optimizer(lib, True)
        schedule = lib.optim.lr_scheduler.StepLR(optimizer, 3)
        with pytest.warns(UserWarning, match="before `optimizer.step"):
            schedule.step()
        with pytest.warns(UserWarning, match="get_last_lr"):
            return schedule.get_lr()

    both(program)
