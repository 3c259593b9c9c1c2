"""Modules: registration, look-up, conversion, modes and copies."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn


class Affine(nn.Module):
    """A weight, a bias that may be missing, and a buffer."""

    def __init__(self, size: int = 3, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(flambeau.arange(float(size)))
        if bias:
            self.bias = nn.Parameter(flambeau.ones(size))
        else:
            self.register_parameter("bias", None)
        self.register_buffer("calls", flambeau.zeros((), dtype=flambeau.int64))

    def forward(self, x: Any) -> Any:
        self.calls.add_(1)
        return x * self.weight + (0 if self.bias is None else self.bias)


def test_parameter() -> None:
    data = flambeau.zeros(2)
    p = nn.Parameter(data)
    assert isinstance(p, nn.Parameter)
    assert isinstance(p, flambeau.Tensor)
    assert not isinstance(data, nn.Parameter)
    assert p.requires_grad
    assert p.is_leaf
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    with flambeau.no_grad():
        data.add_(1)
    assert p.tolist() == [1.0, 1.0], "the parameter shares its data's memory"
    assert type(p + 1) is flambeau.Tensor
    assert nn.Parameter().numel() == 0
    assert repr(p).startswith("Parameter containing:\ntensor([1., 1.]")


def test_parameter_copies() -> None:
    p = nn.Parameter(flambeau.tensor([1.0, 2.0]), requires_grad=False)
    for twin in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert isinstance(twin, nn.Parameter)
        assert not twin.requires_grad
        twin.add_(1)
    assert p.tolist() == [1.0, 2.0]
    shared = copy.deepcopy([p, p])
    assert shared[0] is shared[1]


def test_marked_subclasses_are_parameters() -> None:
    t = flambeau.zeros(2)
    t._is_param = True
    assert isinstance(t, nn.Parameter)
    buffer = nn.Buffer(flambeau.zeros(2), persistent=False)
    assert isinstance(buffer, nn.Buffer)
    assert not isinstance(buffer, nn.Parameter)


def test_registration_by_assignment() -> None:
    m = Affine()
    m.child = Affine(2, bias=False)
    m.plain = 3
    m.own = nn.Buffer(flambeau.zeros(1), persistent=False)
    assert [n for n, _ in m.named_parameters()] == ["weight", "bias", "child.weight"]
    assert [n for n, _ in m.named_buffers()] == ["calls", "own", "child.calls"]
    assert list(m.state_dict()) == ["weight", "bias", "calls", "child.weight", "child.calls"]
    assert "plain" in m.__dict__
    assert "weight" not in m.__dict__
    m.weight = None
    assert m.weight is None
    m.own = flambeau.ones(1)  # stays a buffer, and out of the state
    assert "own" not in m.state_dict()
    assert m.own.tolist() == [1.0]
    m.child = None
    assert list(m.children()) == []
    del m.own
    assert not hasattr(m, "own")
    m.plain = nn.Parameter(flambeau.zeros(1))
    assert "plain" not in m.__dict__
    assert "plain" in m._parameters


def test_wrong_assignments() -> None:
    m = Affine()
    with pytest.raises(TypeError, match=r"cannot assign 'torch.FloatTensor' as parameter 'weight'"):
        m.weight = flambeau.zeros(3)
    with pytest.raises(TypeError, match="cannot assign 'int' as buffer 'calls'"):
        m.calls = 3
    with pytest.raises(KeyError, match="attribute 'forward' already exists"):
        m.register_buffer("forward", None)
    with pytest.raises(ValueError, match="Cannot assign non-leaf Tensor to parameter 'w'"):
        product = m.weight * 2
        product._is_param = True
        m.register_parameter("w", product)
    with pytest.raises(AttributeError, match="'Affine' object has no attribute 'missing'"):
        _ = m.missing

    class Early(nn.Module):
        def __init__(self) -> None:
            self.weight = nn.Parameter(flambeau.zeros(1))

    with pytest.raises(AttributeError, match=r"cannot assign parameters before Module.__init__"):
        Early()


def test_shared_parameters_are_given_once() -> None:
    m = nn.Module()
    m.a, m.b = nn.Linear(2, 2), nn.Linear(2, 2)
    m.b.weight = m.a.weight
    assert [n for n, _ in m.named_parameters()] == ["a.weight", "a.bias", "b.bias"]
    assert len(list(m.named_parameters(remove_duplicate=False))) == 4
    assert "b.weight" in m.state_dict()
    twin = copy.deepcopy(m)
    assert twin.b.weight is twin.a.weight
    assert twin.a.weight is not m.a.weight


def test_look_up_by_path() -> None:
    m = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    assert m.get_submodule("0.0") is m[0][0]
    assert m.get_submodule("") is m
    assert m.get_parameter("0.0.bias") is m[0][0].bias
    m.set_submodule("0.0", nn.Tanh())
    assert isinstance(m[0][0], nn.Tanh)
    with pytest.raises(AttributeError, match="Sequential has no attribute `5`"):
        m.get_submodule("0.5")


def test_apply_and_modes() -> None:
    m = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.5)))
    seen: list[str] = []
    assert m.apply(lambda mod: seen.append(type(mod).__name__)) is m
    assert seen == ["Linear", "Dropout", "Sequential", "Sequential"]
    assert m.eval() is m
    assert not any(mod.training for mod in m.modules())
    m.train()
    assert all(mod.training for mod in m.modules())
    m.requires_grad_(False)
    assert not any(p.requires_grad for p in m.parameters())


def test_conversion() -> None:
    m = Affine()
    m(flambeau.ones(3)).sum().backward()
    before = dict(m.named_parameters())
    assert m.double() is m
    assert {p.dtype for p in m.parameters()} == {flambeau.float64}
    assert m.calls.dtype is flambeau.int64
    assert all(dict(m.named_parameters())[n] is p for n, p in before.items())
    assert m.weight.grad.dtype is flambeau.float64
    assert m.weight.grad.tolist() == [1.0, 1.0, 1.0]
    m.to(flambeau.float16)
    assert m.weight.dtype is flambeau.float16
    m.to("cpu", dtype=flambeau.float32)
    m.bfloat16().float().to(flambeau.zeros(1, dtype=flambeau.float64))
    assert m.weight.dtype is flambeau.float64
    assert m.weight.tolist() == [0.0, 1.0, 2.0]
    assert m(flambeau.ones(3, dtype=flambeau.float64)).tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(TypeError, match="only accepts floating point or complex dtypes"):
        m.to(flambeau.int64)


def test_zero_grad() -> None:
    m = Affine()
    m(flambeau.ones(3)).sum().backward()
    grad = m.weight.grad
    m.zero_grad(set_to_none=False)
    assert m.weight.grad is grad
    assert grad.tolist() == [0.0, 0.0, 0.0]
    m.zero_grad()
    assert m.weight.grad is None


def test_copies_do_not_share() -> None:
    m = Affine().eval()
    m(flambeau.ones(3))
    m.weight.requires_grad_(False)
    for twin in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert isinstance(twin, Affine)
        assert not twin.training
        assert twin.calls.item() == 1
        assert not twin.weight.requires_grad
        assert twin.bias.requires_grad
        with flambeau.no_grad():
            twin.weight.fill_(9.0)
    assert m.weight.tolist() == [0.0, 1.0, 2.0]


def test_modules_are_freed_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        m: Any = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        gone = weakref.ref(m)
        m(flambeau.zeros(1, 2))
        del m
        assert gone() is None
    finally:
        gc.enable()


def test_repr() -> None:
    m = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ModuleDict({"act": nn.ReLU(inplace=True)}))
    assert repr(m) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=False)\n"
        "  (1): ModuleDict(\n"
        "    (act): ReLU(inplace=True)\n"
        "  )\n"
        ")"
    )


def test_dir_leaves_numbers_out() -> None:
    m = nn.Sequential(nn.Linear(2, 2))
    assert "0" not in dir(m)
    assert {"forward", "training"} <= set(dir(m))
    assert {"weight", "bias"} <= set(dir(m[0]))


def test_compiling_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def compiled(function: Any, **options: Any) -> Any:
        seen.append(options)
        return lambda *args: function(*args) + 100

    monkeypatch.setattr(flambeau, "compile", compiled, raising=False)
    m = Affine(1)
    m.register_forward_hook(lambda mod, args, out: out + 1)
    m.compile(fullgraph=True)
    assert m(flambeau.ones(1)).tolist() == [102.0]
    assert seen == [{"fullgraph": True}]
    m._forward_hooks.clear()
    twin = pickle.loads(pickle.dumps(m))
    assert twin(flambeau.ones(1)).tolist() == [1.0]


def test_super_init_of_mixins() -> None:
    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

    class Both(nn.Module, Named):
        call_super_init = True

    assert Both("it").name == "it"
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'size'"):
        nn.Module(size=3)


@pytest.mark.parametrize("method", ["to_empty", "share_memory"])
def test_moves_keep_the_parameters(method: str) -> None:
    m = nn.Linear(2, 2)
    weight = m.weight
    if method == "share_memory":
        values = weight.tolist()
        m.share_memory()
        assert weight.tolist() == values
        assert weight.is_shared()
    else:
        m.to_empty(device="cpu")
    assert m.weight is weight
    assert isinstance(np.asarray(weight.detach().numpy()), np.ndarray)


def test_modules_that_hold_functions_are_pickled() -> None:
    for activation in (nn.functional.relu, "gelu", nn.functional.silu):
        layer = nn.TransformerEncoderLayer(4, 2, 8, activation=activation).eval()
        x = flambeau.ones(3, 1, 4)
        twin = pickle.loads(pickle.dumps(layer))
        assert twin.activation is layer.activation
        assert flambeau.equal(twin(x), layer(x))
    for name in nn.functional.__all__:
        function = getattr(nn.functional, name)
        assert pickle.loads(pickle.dumps(function)) is function
