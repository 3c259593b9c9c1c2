"""Tracing modules, changing their graphs, and running what comes out."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from typing import Any

import pytest

import flambeau
from flambeau import fx, nn, overriding
from flambeau.nn import functional as F
from tests.conftest import HAS_TORCH


def whole(x: Any, k: int) -> Any:
    """Looks at values, so it cannot be traced into."""
    return x * k if x.sum() > 0 else x - k


fx.wrap("whole")
fx.wrap("len")


def network(lib: Any) -> Any:
    """A module of either library that uses what modules use."""

    class Net(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = lib.nn.Linear(4, 5)
            self.weight = lib.nn.Parameter(lib.full((3, 4), 0.5))
            self.register_buffer("scale", lib.ones(5))
            self.seq = lib.nn.Sequential(lib.nn.Linear(5, 5), lib.nn.ReLU())

        def forward(self, x: Any, y: Any = None, *, factor: float = 2.0) -> Any:
            h = self.seq(self.linear(x + self.weight).clamp(min=0.0)) * self.scale
            a, b = h[:, :2], h.unsqueeze(0)[0, :, 2:]
            c = lib.cat([a, b], dim=-1)
            rows = c.size(0) + c.shape[1] - 5
            c = -(c**2) + 3 / (c + 1) * math.sqrt(2)
            d = lib.relu(c).view(rows, -1).transpose(0, 1).to(lib.float64)
            return {"sum": d.sum(dim=0, keepdim=True) * factor, "more": (d, c.dtype)}

    Net.forward.__annotations__.clear()  # here they are text
    return Net()


def test_a_traced_module_does_the_same() -> None:
    module = network(flambeau)
    traced = fx.symbolic_trace(module)
    x = flambeau.randn(3, 4)
    want, got = module(x, factor=3.0), traced(x, factor=3.0)
    assert flambeau.equal(got["sum"], want["sum"])
    assert got["more"][1] is flambeau.float32
    assert list(traced.state_dict()) == list(module.state_dict())
    assert type(traced).__name__ == "Net"
    got["sum"].sum().backward()
    assert traced.linear.weight is module.linear.weight
    assert module.linear.weight.grad is not None
    traced.graph.lint()


@pytest.mark.skipif(not HAS_TORCH, reason="compares with PyTorch")
def test_graphs_and_code_are_written_as_torch_writes_them() -> None:
    torch = pytest.importorskip("torch")
    ours = fx.symbolic_trace(network(flambeau))
    theirs = pytest.importorskip("torch.fx").symbolic_trace(network(torch))
    assert str(ours.graph).replace("flambeau.", "torch.") == str(theirs.graph)
    assert (
        ours.code.replace("flambeau.", "torch.").strip()
        == theirs.code[theirs.code.index("def ") :].strip()
    )


def test_what_cannot_be_traced() -> None:
    for program in (
        lambda x: 1 if x.sum() > 0 else 2,
        lambda x: [v for v in x],  # noqa: C416
        lambda x: [1, 2][x],
    ):
        with pytest.raises(ValueError):
            fx.symbolic_trace(program)
    with pytest.raises(RuntimeError, match="wrap"):
        fx.symbolic_trace(lambda x: x.__len__())
    assert overriding.on == overriding._types_seen
    with pytest.raises(NotImplementedError, match="top level"):
        fx.wrap("later")


def test_wrapped_functions_stay_whole() -> None:
    traced = fx.symbolic_trace(lambda x: whole(x, 2) + len(x))
    targets = [n.target for n in traced.graph.nodes if n.op == "call_function"]
    assert [getattr(t, "__name__", "") for t in targets] == ["whole", "len", "add"]
    assert traced(flambeau.ones(3)).tolist() == [5, 5, 5]
    assert whole(flambeau.ones(1), 3).tolist() == [3]


def test_functions_defaults_and_fixed_parameters() -> None:
    def program(x: flambeau.Tensor, n: int = 3, *rest: Any, flag: bool) -> Any:
        return x.neg() * n + flambeau.ones(2) if flag else x

    traced = fx.symbolic_trace(program, concrete_args={"flag": True})
    assert traced(flambeau.ones(2), flag_1=True).tolist() == [-2, -2]
    with pytest.raises(AssertionError, match="specialized"):
        traced(flambeau.ones(2), flag_1=False)
    assert "_tensor_constant0" in dict(traced.named_buffers())


def test_nodes_are_replaced() -> None:
    traced = fx.symbolic_trace(lambda x, y: flambeau.add(x, y).relu() + x.add(y))
    for node in traced.graph.find_nodes(op="call_function", target=flambeau.add):
        node.target = flambeau.mul
    traced.graph.lint()
    traced.recompile()
    x, y = flambeau.tensor([2.0]), flambeau.tensor([3.0])
    assert traced(x, y).item() == 11

    model = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    for node in model.graph.find_nodes(op="call_module", target="1"):
        with model.graph.inserting_after(node):
            new = model.graph.call_function(flambeau.neg, (node.args[0],))
        assert node.replace_all_uses_with(new) == [model.graph.output_node()]
        model.graph.erase_node(node)
    model.recompile()
    model.delete_all_unused_submodules()
    assert list(model._modules) == ["0"]
    x = flambeau.randn(4, 2)
    assert flambeau.equal(model(x), -getattr(model, "0")(x))


def test_dead_code_goes_and_effects_stay() -> None:
    traced = fx.symbolic_trace(lambda x: (x + 1, x * 2, x.add_(1))[0])
    assert traced.graph.eliminate_dead_code()
    assert [n.name for n in traced.graph.nodes] == ["x", "add", "add_", "output"]
    assert not traced.graph.eliminate_dead_code()
    first = next(iter(traced.graph.nodes))
    with pytest.raises(RuntimeError, match="still had 2 users"):
        traced.graph.erase_node(first)
    first.prepend(traced.graph.output_node())
    with pytest.raises(RuntimeError, match="before it has been defined"):
        traced.graph.lint()


def test_graphs_are_built_by_hand() -> None:
    graph = fx.Graph()
    a = graph.placeholder("a")
    b = graph.call_module("part.linear", (graph.call_function(operator.add, (a, 1)),))
    graph.output((graph.call_method("mul", (b, graph.get_attr("w"))), [b]))
    root = {"part.linear": nn.Linear(2, 2), "w": nn.Parameter(flambeau.ones(2))}
    module = fx.GraphModule(root, graph)
    found, (before,) = module(flambeau.ones(2))
    assert flambeau.equal(found, before)
    assert list(module.state_dict()) == ["w", "part.linear.weight", "part.linear.bias"]
    with pytest.raises(RuntimeError, match="not provided"):
        fx.GraphModule({"w": root["w"]}, graph)


def test_patterns_are_replaced() -> None:
    class Program(nn.Module):
        def forward(self, x: Any, a: Any, b: Any) -> Any:
            first = flambeau.cat([a, b]).sum()
            return x + first.exp() + flambeau.cat([b, a]).sum()

    traced = fx.symbolic_trace(Program())
    found = fx.replace_pattern(
        traced, lambda p, q: flambeau.cat([p, q]).sum(), lambda p, q: flambeau.dot(p, q)
    )
    assert len(found) == 2
    names = [n.name for n in traced.graph.nodes if n.op.startswith("call")]
    assert names.count("dot") + names.count("dot_1") == 2
    assert not any("cat" in name for name in names)
    one = flambeau.ones(2)
    assert traced(0, one, one).item() == pytest.approx(math.exp(2) + 2)


def test_interpreters_and_transformers() -> None:
    class Swap(fx.Interpreter):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            target = flambeau.neg if target is flambeau.sigmoid else target
            return super().call_function(target, args, kwargs)

    traced = fx.symbolic_trace(lambda x: flambeau.sigmoid(x).exp())
    assert Swap(traced).run(flambeau.zeros(1)).item() == 1

    class Change(fx.Transformer):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            if target is flambeau.sigmoid:
                return F.gelu(args[0]) + 1
            return super().call_function(target, args, kwargs)

        def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
            return super().call_method("neg" if target == "exp" else target, args, kwargs)

    changed = Change(traced).transform()
    x = flambeau.randn(3)
    assert flambeau.allclose(changed(x), -(F.gelu(x) + 1))
    with pytest.raises(RuntimeError, match="positional argument"):
        fx.Interpreter(traced).run()


def test_convolutions_take_norms_in() -> None:
    """The usual example: graphs say which norm follows which convolution."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).eval()
    model[1].running_mean.uniform_()
    traced = fx.symbolic_trace(model)
    modules = dict(traced.named_modules())
    for node in traced.graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], nn.BatchNorm2d):
            before = node.args[0]
            fused = nn.utils.fuse_conv_bn_eval(modules[before.target], modules[node.target])
            traced.add_submodule(before.target, fused)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    x = flambeau.randn(1, 2, 6, 6)
    assert flambeau.allclose(traced(x), model(x), atol=1e-5)
    assert "BatchNorm" not in str([m for n, m in traced.named_children() if n != "1"])


def test_copies_and_pickles_are_independent() -> None:
    traced = fx.symbolic_trace(network(flambeau))
    again = copy.deepcopy(traced)
    assert again.code == traced.code
    assert again.linear.weight is not traced.linear.weight
    simple = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))
    loaded = pickle.loads(pickle.dumps(simple))
    x = flambeau.randn(2)
    assert flambeau.equal(loaded(x), simple(x))
    assert str(loaded.graph) == str(simple.graph)


def test_tracers_say_what_stays_whole() -> None:
    class Inside(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return isinstance(m, nn.Sequential)

    module = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2))})

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = module
            self.norm = nn.LayerNorm(2)

        def forward(self, x: Any) -> Any:
            return self.norm(self.parts["a"](x))

    root = Root()
    graph = Inside().trace(root)
    kinds = [n.op for n in graph.nodes]
    assert "call_module" in kinds
    assert kinds.count("get_attr") == 2  # the norm's weight and bias
    x = flambeau.randn(3, 2)
    assert flambeau.allclose(fx.GraphModule(root, graph)(x), root(x))
