"""Exported programs: sizes that stay symbols, what is refused, running, training."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import flambeau
from flambeau import nn, record
from flambeau.compiler import is_exporting
from flambeau.export import Dim, ExportError, dims, export, load, save
from flambeau.export.signature import InputKind, OutputKind

F = nn.functional


class Of(nn.Module):
    """A module of one function."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


def exported(call: Any, *args: Any, dynamic: Any = None) -> Any:
    return export(Of(call), args, dynamic_shapes=dynamic)


def same(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_for_all_batches_and_lengths(kind: str) -> None:
    layer = getattr(nn, kind)(4, 6, 2, bidirectional=True, batch_first=True)
    sizes = {0: Dim("batch", max=512), 1: Dim("time", max=10000)}
    short = export(layer, (flambeau.ones(3, 5, 4),), dynamic_shapes=(sizes,))
    long = export(layer, (flambeau.ones(3, 900, 4),), dynamic_shapes=(sizes,))
    assert short.graph == long.graph
    assert not short.guards
    module = short.module()
    for batch, steps in ((1, 1), (7, 2), (2, 333)):
        x = flambeau.randn(batch, steps, 4)
        same(module(x)[0], layer(x)[0])


def test_a_program_trains_as_its_module_does() -> None:
    model = nn.Sequential(
        nn.Linear(3, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 8), nn.BatchNorm1d(8)
    )
    program = export(model, (flambeau.ones(4, 3),), dynamic_shapes=({0: Dim("batch")},))
    twin = program.module()
    steps = []
    for net in (model, twin):
        optimizer = flambeau.optim.SGD(net.parameters(), lr=0.1)
        flambeau.manual_seed(3)
        for batch in (5, 9, 2):
            x = flambeau.randn(batch, 3)
            loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        steps.append({k: v.detach().numpy() for k, v in net.state_dict().items()})
    assert steps[0].keys() == steps[1].keys()
    for name, value in steps[0].items():
        np.testing.assert_allclose(value, steps[1][name], rtol=1e-5, atol=1e-6)


def test_training_may_bring_along_tables_of_its_own(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AdaptiveAvgPool2d(2)
    )
    program = export(model, (flambeau.ones(2, 2, 9, 9),), dynamic_shapes=({0: Dim("batch")},))
    save(program, tmp_path / "pools.pt2")
    x = flambeau.randn(3, 2, 9, 9)
    for net in (model, program.module(), load(tmp_path / "pools.pt2").module()):
        net(x).square().sum().backward()
        same(next(net.parameters()).grad, model[0].weight.grad)


def test_gradients_reach_inputs() -> None:
    program = export(nn.Linear(3, 2), (flambeau.ones(4, 3),))
    x = flambeau.ones(4, 3, requires_grad=True)
    program.module()(x).sum().backward()
    same(x.grad, program.state_dict["weight"].sum(0).expand(4, 3))


def test_a_sizes_range_and_fixed_sizes_are_checked_when_it_runs() -> None:
    program = exported(
        lambda x, y: x + y, flambeau.ones(4, 3), flambeau.ones(4, 3),
        dynamic=({0: Dim("n", min=2, max=6)}, {0: Dim("n", min=2, max=6)}),
    )  # fmt: skip
    module = program.module()
    same(module(flambeau.ones(5, 3), flambeau.ones(5, 3)), flambeau.full((5, 3), 2.0))
    for shapes, message in (
        (((7, 3), (7, 3)), "size n to be <= 6, but got 7"),
        (((1, 3), (1, 3)), "size n to be >= 2, but got 1"),
        (((4, 2), (4, 2)), r"args\[0\].shape\[1\] to be equal to 3, but got 2"),
        (((4, 3), (5, 3)), r"args\[1\].shape\[0\] to be equal to 4 \(n\), but got 5"),
        (((4,), (4, 3)), "to have 2 dimensions, but got 1"),
    ):
        with pytest.raises(RuntimeError, match=message):
            module(*(flambeau.ones(*shape) for shape in shapes))
    with pytest.raises(RuntimeError, match="of dtype"):
        module(flambeau.ones(4, 3).double(), flambeau.ones(4, 3))
    with pytest.raises(RuntimeError, match="structure"):
        module(flambeau.ones(4, 3))


def test_derived_sizes() -> None:
    half = Dim("half")
    program = exported(
        lambda x, y: x.reshape(-1, 2).sum(1) + y, flambeau.ones(8), flambeau.ones(4),
        dynamic=({0: 2 * half}, {0: half}),
    )  # fmt: skip
    assert program.range_constraints == {"half": (1, None)}
    assert program.module()(flambeau.ones(6), flambeau.ones(3)).tolist() == [3.0] * 3
    with pytest.raises(RuntimeError, match=r"equal to 6 \(2\*half\), but got 8"):
        program.module()(flambeau.ones(8), flambeau.ones(3))
    alone = exported(lambda x: x[::2] + x[1::2], flambeau.ones(8), dynamic=({0: 2 * half},))
    assert alone.module()(flambeau.arange(6.0)).tolist() == [1.0, 5.0, 9.0]
    with pytest.raises(RuntimeError, match=r"shape\[0\] to be 2\*half, but got 7"):
        alone.module()(flambeau.ones(7))


@pytest.mark.parametrize(
    ("call", "dynamic", "message"),
    [
        (lambda x: x.view(4, 6), ({0: Dim("n")},), "Constraints violated"),
        (lambda x: x + flambeau.ones(4, 6), ({0: Dim("n")},), "n == 4"),
        (lambda x: x if x.shape[0] > 2 else -x, ({0: Dim("n")},), "n > 2"),
        (lambda x: sum(x[i] for i in range(x.shape[0])), ({0: Dim("n")},), "n"),
        (lambda x: x * float(str(x.shape[0])), ({0: Dim("n")},), "n == 4"),
        (lambda x: x * len([0] * x.shape[0]), ({0: Dim("n")},), "n"),
        (lambda x: x.reshape(-1, 4), ({0: Dim("n")},), "n"),
        (lambda x: x * 2 if x.sum() > 0 else x, None, "reads the value of a tensor"),
        (lambda x: x * x.sum().item(), None, "reads the value of a tensor"),
        (lambda x: x.add_(1), None, "writes to one of its inputs"),
        (lambda x: x, ({5: Dim("n")},), "names dimension 5"),
        (lambda x: x, ({0: Dim("n", max=3)},), "outside of the range"),
        (lambda x: x, ({0: 7},), "is 7, but it is 4"),
        (lambda x: x, (None, None), "2 entries for 1 inputs"),
    ],
)  # fmt: skip
def test_refusals(call: Any, dynamic: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        exported(call, flambeau.ones(4, 6), dynamic=dynamic)


def test_the_line_that_asks_is_named() -> None:
    with pytest.raises(ExportError, match=r"asked at .*test_export.py.*\n.*x.view\(4, 6\)"):
        exported(lambda x: x.view(4, 6), flambeau.ones(4, 6), dynamic=({0: Dim("n")},))


def test_sizes_without_names() -> None:
    program = exported(
        lambda x, y: x + y, flambeau.ones(4, 3), flambeau.ones(4, 3),
        dynamic=({0: Dim.AUTO}, {0: Dim.AUTO}),
    )  # fmt: skip
    assert len(program.range_constraints) == 1
    same(program.module()(flambeau.ones(9, 3), flambeau.ones(9, 3)), flambeau.full((9, 3), 2.0))
    with pytest.warns(UserWarning, match="fixed a Dim.AUTO size to 4"):
        fixed = exported(lambda x: x + flambeau.ones(4), flambeau.ones(4), dynamic=({0: Dim.AUTO},))
    assert not fixed.range_constraints
    with pytest.raises(ExportError, match="Constraints violated"):
        exported(lambda x: x + flambeau.ones(4), flambeau.ones(4), dynamic=({0: Dim.DYNAMIC},))
    narrowed = exported(
        lambda x: x if x.shape[0] > 3 else -x, flambeau.ones(5), dynamic=({0: Dim.AUTO},)
    )
    assert list(narrowed.range_constraints.values()) == [(4, None)]


def test_a_coincidence_of_sizes_is_none() -> None:
    layer = nn.LSTM(4, 4, 2, bidirectional=True)
    sizes = dims("time", "batch")
    program = export(layer, (flambeau.ones(4, 4, 4),), dynamic_shapes=({0: sizes[0], 1: sizes[1]},))
    assert not program.guards
    x = flambeau.randn(2, 3, 4)
    same(program.module()(x)[0], layer(x)[0])


def test_buffers_are_written_and_random_numbers_drawn_anew() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    program = export(net, (flambeau.ones(4, 3),), dynamic_shapes=({0: Dim("n")},))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    module = program.module()
    x = flambeau.randn(50, 3)
    flambeau.manual_seed(1)
    got = [module(x) for _ in range(2)]
    flambeau.manual_seed(1)
    want = [net(x) for _ in range(2)]
    for a, b in zip(got, want, strict=True):
        same(a, b)
    assert not flambeau.equal(got[0], got[1])
    for name, value in module.state_dict().items():
        same(value, net.state_dict()[name])
    assert not flambeau.equal(before["0.running_mean"], module.get_buffer("0.running_mean"))
    mutated = program.graph_signature.buffers_to_mutate
    assert sorted(mutated.values()) == sorted(before.keys() - {"0.weight", "0.bias"})


def test_tracing_leaves_the_module_as_it_was() -> None:
    net = nn.BatchNorm1d(3)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    generator = flambeau.get_rng_state()
    with pytest.raises(ExportError):
        export(Of(lambda x: net(x).sum().item()), (flambeau.ones(4, 3),))
    export(net, (flambeau.ones(4, 3),))
    for name, value in net.state_dict().items():
        assert flambeau.equal(value, state[name])
    assert flambeau.equal(generator, flambeau.get_rng_state())
    record.flush()
    same(net(flambeau.eye(3)), net(flambeau.eye(3)))


def test_trees_of_inputs_and_outputs_and_other_values() -> None:
    def call(pair: Any, scale: float, *, mask: Any = None, flag: bool = True) -> Any:
        total = pair[0] + pair[1]["b"]
        return {"sum": total * scale, "flag": flag, "both": (total, [mask])}

    n = Dim("n")
    given = ((flambeau.ones(3), {"b": flambeau.ones(3)}), 2.0)
    program = export(
        Of(call), given, {"mask": flambeau.zeros(2)},
        dynamic_shapes=(({0: n}, {"b": {0: n}}), None, None),
    )  # fmt: skip
    module = program.module()
    found = module((flambeau.ones(5), {"b": flambeau.ones(5)}), 2.0, mask=flambeau.ones(2))
    assert found["sum"].tolist() == [4.0] * 5
    assert found["flag"] is True
    assert found["both"][1][0].tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match=r"equal to 2\.0"):
        module((flambeau.ones(5), {"b": flambeau.ones(5)}), 3.0, mask=flambeau.ones(2))


def test_signature_and_names() -> None:
    program = export(nn.Linear(3, 2), (flambeau.ones(4, 3),))
    signature = program.graph_signature
    assert signature.parameters == ("weight", "bias")
    assert [s.kind for s in signature.input_specs] == [InputKind.PARAMETER] * 2 + [
        InputKind.USER_INPUT
    ]
    assert signature.output_specs[0].kind is OutputKind.USER_OUTPUT
    assert signature.inputs_to_parameters == {"p_weight": "weight", "p_bias": "bias"}
    assert "linear(args_0, p_weight, p_bias" in program.graph
    assert list(dict(program.named_parameters())) == ["weight", "bias"]
    with pytest.raises(RuntimeError, match="use `module"):
        program(flambeau.ones(4, 3))
    with pytest.raises(NotImplementedError, match="eval"):
        program.module().eval()
    with pytest.raises(ValueError, match="instance of"):
        export(lambda x: x, (flambeau.ones(2),))  # type: ignore[arg-type]


def test_dims() -> None:
    assert repr(2 * Dim("n") - 1) == "2*n - 1"
    assert repr(3 * (Dim("n") + 2)) == "3*n + 6"
    for make in (lambda: Dim("a b"), lambda: Dim("n", min=3, max=2), lambda: Dim("n") * -1):
        with pytest.raises(ValueError):
            make()


def test_constants_come_along() -> None:
    table = flambeau.arange(6.0)
    program = exported(lambda x: x + table[:3], flambeau.ones(3))
    assert [t.tolist() for t in program.constants.values()] == [table.tolist()]
    assert program.module()(flambeau.ones(3)).tolist() == [1.0, 2.0, 3.0]


def test_no_warnings_where_nothing_is_wrong() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(nn.Linear(3, 2), (flambeau.ones(4, 3),), dynamic_shapes=({0: Dim.AUTO},))


def test_a_picture(tmp_path: Any) -> None:
    layer = nn.LSTM(3, 4)
    program = export(layer, (flambeau.ones(5, 2, 3),), dynamic_shapes=({0: Dim("time")},))
    text = program.visualize(tmp_path / "program.svg")
    assert (tmp_path / "program.svg").read_text() == text
    root = ElementTree.fromstring(text)
    words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "_recurrent_layer" in words
    assert "weight_hh_l0" in words
    assert "float32 [time, 2, 4]" in words


def test_programs_know_that_they_are_exported() -> None:
    program = exported(lambda x: x * (2 if is_exporting() else 3), flambeau.ones(2))
    assert program.module()(flambeau.ones(2)).tolist() == [2.0, 2.0]
    assert not is_exporting()


def test_decompositions() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.BatchNorm1d(4))
    program = export(net, (flambeau.ones(4, 3),), dynamic_shapes=({0: Dim("n")},))
    plain = program.run_decompositions()
    for name in ("linear(", "gelu(", "norm("):
        assert name in program.graph
        assert name not in plain.graph
    some = program.run_decompositions(["gelu"])
    assert "gelu(" not in some.graph
    assert "linear(" in some.graph
    x = flambeau.randn(7, 3)
    modules = [p.module() for p in (program, plain, some)]
    for module in modules:
        module(x).square().sum().backward()
    for module in modules[1:]:
        same(module(x), modules[0](x))
        for (name, p), (_, q) in zip(
            modules[0].named_parameters(), module.named_parameters(), strict=True
        ):
            np.testing.assert_allclose(
                q.grad.numpy(), p.grad.numpy(), rtol=1e-4, atol=1e-5, err_msg=name
            )
    layer = nn.GRU(3, 4)
    single = export(layer, (flambeau.ones(5, 2, 3),), dynamic_shapes=({0: Dim("time")},))
    graph = single.run_decompositions()
    assert "_scan(" in graph.graph
    x = flambeau.randn(9, 2, 3)
    same(graph.module()(x)[0], layer(x)[0])


class Encoder(nn.Module):
    """Attention with dropout over words and their places."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 16), nn.Embedding(16, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.3, batch_first=True)

    def forward(self, x: Any) -> Any:
        y = self.words(x) + self.places(flambeau.arange(x.shape[1], device=x.device))
        return nn.functional.dropout(self.layer(y), 0.25, self.training)


@pytest.mark.parametrize("train", [True, False])
def test_dropout_of_attention_is_the_modules_for_all_sizes(train: bool) -> None:
    """Random numbers of the same places, also where a size is another size or a constant."""
    net = Encoder().train(train)
    sizes = {0: Dim("batch", max=64), 1: Dim("time", max=16)}
    program = export(net, (flambeau.zeros(2, 5, dtype=flambeau.int64),), dynamic_shapes=(sizes,))
    sink = io.BytesIO()
    save(program, sink)
    for module in (program.module(), load(io.BytesIO(sink.getvalue())).module()):
        for batch, time in ((2, 5), (16, 16), (1, 1), (20, 16), (7, 7), (4, 4), (8, 3)):
            x = flambeau.randint(0, 20, (batch, time))
            found = []
            for each in (net, module):
                flambeau.manual_seed(4)
                each.zero_grad()
                y = each(x)
                y.square().sum().backward()
                found.append([y, *(p.grad for p in each.parameters())])
            for one, other in zip(*found, strict=True):
                assert flambeau.allclose(one, other, atol=1e-4)
    assert not train or "place(2*batch*time*time" in program.graph


def test_a_branch_on_a_multiple_is_refused() -> None:
    class Even(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2 if x.shape[0] % 2 == 0 else x.sum()

    for n in (4, 5):
        with pytest.raises(ExportError, match=r"\(n % 2\)"):
            export(Even(), (flambeau.zeros(n),), dynamic_shapes=({0: Dim("n")},))
    program = export(Even(), (flambeau.zeros(4),), dynamic_shapes=({0: 2 * Dim("half")},))
    assert program.module()(flambeau.ones(6)).shape == (6,)


def test_the_program_is_the_same_from_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing looks at no value: where there is no memory, or none may be read, it is the same."""
    sizes = {0: Dim("batch", max=64), 1: Dim("time", max=16)}

    def traced(device: str) -> Any:
        with flambeau.device(device):
            net = nn.Sequential(Encoder(), nn.LSTM(16, 8, 2, bidirectional=True))
            x = flambeau.zeros(2, 5, dtype=flambeau.int64)
        record.flush()
        if device == "cpu":
            monkeypatch.setattr(record, "realise", lambda cell: pytest.fail("memory is read"))
        found = export(net, (x,), dynamic_shapes=(sizes,))
        monkeypatch.undo()
        return found

    here, nowhere = traced("cpu"), traced("meta")
    assert str(here) == str(nowhere)
    assert "cpu" not in str(here)
    assert here.visualize() == nowhere.visualize()
    out, _ = nowhere.module()(flambeau.zeros(3, 7, dtype=flambeau.int64, device="meta"))
    assert out.shape == (3, 7, 16)
    assert out.device.type == "meta"
