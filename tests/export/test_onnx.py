"""ONNX models of modules: recurrent layers, open sizes, dtypes, files, what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.control import scan
from flambeau.export import Dim, ExportError
from flambeau.export import export as export_program
from flambeau.export.onnx import OnnxExporterError, ONNXProgram, export, load
from flambeau.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from flambeau.pytree import tree_leaves
from tests.export.runtime import checked, session

ir = pytest.importorskip("onnx_ir")
F = nn.functional


def kinds(program: ONNXProgram) -> list[str]:
    """The operators of a model, in order."""
    return [node.op_type for node in program.model.graph]


def agree(run: Any, module: nn.Module, *args: flambeau.Tensor, atol: float = 1e-5) -> None:
    """A session's results are a module's."""
    feeds = {i.name: x.numpy() for i, x in zip(run.get_inputs(), args, strict=True)}
    with flambeau.no_grad():
        wanted = [t for t in tree_leaves(module(*args)) if isinstance(t, flambeau.Tensor)]
    found = run.run(None, feeds)
    assert len(found) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=atol)


# -- recurrent layers ------------------------------------------------------------------------------


class Packed(nn.Module):
    """A recurrent layer over sequences of given lengths."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any, lengths: Any) -> Any:
        first = self.layer.batch_first
        packed = pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
        out, last = self.layer(packed)
        return pad_packed_sequence(out, batch_first=first)[0], last


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers(
    kind: str, layers: int, bidirectional: bool, packed: bool, batch_first: bool
) -> None:
    layer = getattr(nn, kind)(
        3, 4, layers, bidirectional=bidirectional, batch_first=batch_first
    ).eval()

    def drawn(steps: int, batch: int) -> flambeau.Tensor:
        return flambeau.randn(*((batch, steps) if batch_first else (steps, batch)), 3)

    open_ = {0: "batch", 1: "time"} if batch_first else {0: "time", 1: "batch"}
    if packed:
        module: nn.Module = Packed(layer)
        axes = {"x": open_, "lengths": {0: "batch"}}
        model = export(module, (drawn(4, 2), flambeau.tensor([4, 2])), dynamic_axes=axes)
    else:
        module = layer
        model = export(module, (drawn(4, 2),), dynamic_axes={"input": open_})
    assert kinds(model).count(kind) == layers * (1 + bidirectional)
    run = session(model.model)
    for steps, batch in ((1, 1), (9, 3)):
        more = [flambeau.tensor([steps, *([max(steps - 4, 1)] * (batch - 1))])] if packed else []
        agree(run, module, drawn(steps, batch), *more)


@pytest.mark.parametrize("options", [{"bias": False}, {"nonlinearity": "relu"}])
def test_options_of_recurrent_layers(options: dict[str, Any]) -> None:
    layer = nn.RNN(3, 4, 2, **options)
    agree(session(export(layer, (flambeau.randn(5, 2, 3),)).model), layer, flambeau.randn(5, 2, 3))


@pytest.mark.parametrize("opset", [18, 21, 22, 28])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_of_narrow_dtypes(kind: str, opset: int) -> None:
    layer = getattr(nn, kind)(3, 4, 2, bidirectional=True).eval()
    x = flambeau.randn(5, 2, 3)
    half, given = layer.to(flambeau.float16), x.to(flambeau.float16)
    agree(session(export(half, (given,), opset_version=opset).model), half, given, atol=5e-3)
    brain, given = layer.to(flambeau.bfloat16), x.to(flambeau.bfloat16)
    checked(export(brain, (given,), opset_version=opset).model)  # which no runtime here has


def test_first_states_and_projections() -> None:
    layer = nn.LSTM(3, 5, 2, proj_size=2, bidirectional=True)
    given = flambeau.randn(6, 2, 3), (flambeau.randn(4, 2, 2), flambeau.randn(4, 2, 5))
    run = session(export(layer, given).model)
    with flambeau.no_grad():
        wanted = tree_leaves(layer(*given))
    feeds = {i.name: t.numpy() for i, t in zip(run.get_inputs(), tree_leaves(given), strict=True)}
    for got, want in zip(run.run(None, feeds), wanted, strict=True):
        np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


def test_the_graph_of_a_recurrent_layer_is_the_same_for_every_length() -> None:
    layer = nn.LSTM(3, 4)
    short, long = (export(layer, (flambeau.randn(n, 2, 3),)) for n in (3, 500))
    assert kinds(short) == kinds(long)


def test_any_recurrence_is_one_scan() -> None:
    class Recurrence(nn.Module):
        """A hidden state and a decayed sum, from the last step to the first."""

        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(3, 4)

        def forward(self, x: Any) -> Any:
            def step(carried: Any, part: Any) -> Any:
                h, total = carried
                h = self.cell(part, h)
                return (h, total * 0.5 + h.sum(-1)), h[:, ::2]

            first = x.new_zeros(x.shape[1], 4), x.new_zeros(x.shape[1])
            return scan(step, first, x, reverse=True)

    module = Recurrence()
    sizes = ({0: Dim("time"), 1: Dim("batch")},)
    model = export(module, (flambeau.randn(5, 2, 3),), dynamic_shapes=sizes)
    assert kinds(model).count("Scan") == 1
    run = session(model.model)
    again = load(model.model).module()
    for steps, batch in ((5, 2), (1, 1), (11, 3)):
        x = flambeau.randn(steps, batch, 3)
        agree(run, module, x)
        with flambeau.no_grad():
            for got, want in zip(again(x), tree_leaves(module(x)), strict=True):
                np.testing.assert_allclose(got.numpy(), want.numpy(), atol=1e-5)


# -- sizes -----------------------------------------------------------------------------------------


class Shapes(nn.Module):
    """Reshapes, parts, repetition and joins, over open sizes."""

    def forward(self, x: Any, y: Any) -> Any:
        b, t, e = x.shape
        heads = x.view(b, t, 2, e // 2).transpose(1, 2)
        last = x[:, -1, 1:]
        spread = y.unsqueeze(1).expand(b, t, 2).reshape(b * t, 2)
        both = flambeau.cat([x[:, ::2, :2], x[:, 1:, 2:]], 1)
        padded = F.pad(x, (1, 0, 0, 2), value=3.0)
        mean = heads.mean((1, 2)) / t
        places = flambeau.arange(t).flip(0) + b
        return heads, last, spread, both, padded, mean, places, x.flatten(1).diff()


def test_movement_over_open_sizes() -> None:
    module = Shapes()
    sizes = ({0: Dim("b"), 1: 2 * Dim("half")}, {0: Dim("b")})
    model = export(module, (flambeau.randn(3, 6, 4), flambeau.randn(3, 2)), dynamic_shapes=sizes)
    run = session(model.model)
    assert [i.shape for i in run.get_inputs()] == [["b", "2*half", 4], ["b", 2]]
    for b, t in ((3, 6), (1, 2), (5, 14)):
        agree(run, module, flambeau.randn(b, t, 4), flambeau.randn(b, 2))


def test_a_fixed_size_is_an_error_and_not_a_silent_one() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.view(4, 6)

    with pytest.raises(ExportError, match="n == 4"):
        export(Fixed(), (flambeau.ones(4, 6),), dynamic_shapes=({0: Dim("n")},))


@pytest.mark.parametrize("opset", [18, 20, 21, 23, 24, 28])
def test_a_transformer_layer_for_all_sizes(opset: int) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True).eval()
    sizes = ({0: Dim("batch"), 1: Dim("time")},)
    model = export(layer, (flambeau.randn(2, 5, 8),), dynamic_shapes=sizes, opset_version=opset)
    assert ("Attention" in kinds(model)) == (opset >= 23)
    run = session(model.model)
    for batch, steps in ((2, 5), (1, 1), (3, 40)):
        agree(run, layer, flambeau.randn(batch, steps, 8))


def test_batches_of_images() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.GroupNorm(2, 6), nn.SiLU(),
        nn.ConvTranspose2d(6, 2, 2, stride=2), nn.AvgPool2d(3, 2, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).eval()  # fmt: skip
    model = export(module, (flambeau.randn(2, 3, 12, 16),), dynamic_axes={"input": {0: "n"}})
    assert kinds(model).count("Conv") == 2
    run = session(model.model)
    for n in (2, 1, 5):
        agree(run, module, flambeau.randn(n, 3, 12, 16))


def test_images_of_every_size() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 1, 1))
    sizes = ({0: Dim("n"), 2: Dim("h", min=4), 3: Dim("w", min=4)},)
    run = session(export(module, (flambeau.randn(2, 3, 12, 16),), dynamic_shapes=sizes).model)
    for n, h, w in ((2, 12, 16), (1, 8, 31)):
        agree(run, module, flambeau.randn(n, 3, h, w))


# -- dtypes ----------------------------------------------------------------------------------------


def test_float16_runs_and_bfloat16_is_valid() -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4))
    half = module.to(flambeau.float16)
    x = flambeau.randn(3, 8).to(flambeau.float16)
    agree(session(export(half, (x,)).model), half, x, atol=5e-3)
    brain = module.to(flambeau.bfloat16)
    model = export(brain, (x.to(flambeau.bfloat16),))
    checked(model.model)
    weight = model.model.graph.initializers["0.weight"].const_value
    assert weight.dtype is ir.DataType.BFLOAT16
    kept = brain[0].weight.detach().float().numpy()
    assert np.array_equal(weight.numpy().astype(ml_dtypes.bfloat16).astype(np.float32), kept)


# -- torch.onnx.export's options -------------------------------------------------------------------


def test_names_of_inputs_and_results(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, first: Any, second: Any, *, scale: Any) -> Any:
            return {"sum": (first + second) * scale, "first": first}

    path = tmp_path / "two.onnx"
    args = flambeau.ones(2), flambeau.ones(2)
    export(Two(), args, path, kwargs={"scale": flambeau.ones(())}, output_names=["sum", "same"],
           input_names=["a"], dynamic_axes={"a": [0], "second": [0]}, verify=True)  # fmt: skip
    graph = ir.load(path).graph
    assert [v.name for v in graph.inputs] == ["a", "second", "scale"]
    assert [v.name for v in graph.outputs] == ["sum", "same"]
    assert [str(v.shape[0]) for v in graph.inputs[:2]] != ["2", "2"]


def test_nodes_say_what_they_were_written_for() -> None:
    model = export(Shapes(), (flambeau.randn(3, 6, 4), flambeau.randn(3, 2)))
    (join,) = (
        node.metadata_props for node in model.model.graph
        if node.op_type == "Concat" and "pkg.flambeau.row" in node.metadata_props
    )  # fmt: skip
    name, _, number = join["pkg.flambeau.line"].partition(":")
    assert name == Path(__file__).name
    assert "flambeau.cat" in Path(__file__).read_text().splitlines()[int(number) - 1]


def test_modes_and_gradients_are_as_they_were() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    export(module, (flambeau.ones(4, 3),))
    assert module[1].training
    assert module[0].weight.requires_grad
    assert module[2].num_batches_tracked == 0


def test_written_states_are_results() -> None:
    module = nn.BatchNorm1d(3)
    model = export(module, (flambeau.randn(5, 3),), training="TRAINING")
    names = [v.name for v in model.model.graph.outputs]
    assert names == ["output", "new_running_mean", "new_running_var", "new_num_batches_tracked"]
    x = flambeau.randn(5, 3)
    found = session(model.model).run(None, {"input": x.numpy()})
    module.train()(x)
    np.testing.assert_allclose(found[1], module.running_mean.numpy(), rtol=1e-5, atol=1e-6)


def test_weights_beside_the_model_and_left_out(tmp_path: Path) -> None:
    module = nn.Linear(300, 200)
    program = export(module, (flambeau.ones(1, 300),), tmp_path / "a.onnx", external_data=True)
    assert (tmp_path / "a.onnx").stat().st_size < 10_000
    assert (tmp_path / "a.onnx.data").stat().st_size >= 4 * 200 * 300
    runtime = pytest.importorskip("onnxruntime")
    run = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    agree(run, module, flambeau.randn(1, 300))
    program.save(tmp_path / "b.onnx", include_initializers=False)
    names = [v.name for v in ir.load(tmp_path / "b.onnx").graph.inputs]
    assert names == ["input", "weight", "bias"]
    assert list(program.model.graph.initializers) == ["weight", "bias"]


def test_a_program_is_exported_as_a_module_is() -> None:
    module = nn.Linear(3, 2)
    program = export_program(module, (flambeau.ones(4, 3),), dynamic_shapes=({0: Dim("n")},))
    model = export(program)
    assert kinds(model) == ["Gemm"]
    agree(session(model.model), module, flambeau.randn(9, 3))


# -- what is refused -------------------------------------------------------------------------------


def test_rows_without_an_operator_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Any) -> Any:
            return flambeau.linalg.inv(x) + flambeau.lgamma(x)

    with pytest.raises(OnnxExporterError, match=r"inverse_of: .*\n  lgamma: "):
        export(Odd(), (flambeau.eye(3),), tmp_path / "odd.onnx")
    assert not list(tmp_path.iterdir())


def test_rows_of_numbers_that_onnx_has_not_are_named_with_their_lines(tmp_path: Path) -> None:
    class Spectrum(nn.Module):
        def forward(self, x: Any) -> Any:
            turned = x.to(flambeau.complex64) * 1j
            return flambeau.fft.fft(turned).abs()

    with pytest.raises(OnnxExporterError) as caught:
        export(Spectrum(), (flambeau.ones(4),), tmp_path / "odd.onnx")
    lines = Path(__file__).read_text().splitlines()
    first = next(k for k, line in enumerate(lines, 1) if "turned = x.to" in line)
    for name, line in (("cast", first), ("mul", first), ("fourier", first + 1), ("abs", first + 1)):
        assert re.search(rf"  {name}: ONNX .* \(test_onnx.py:{line}\)", str(caught.value))
    with pytest.raises(OnnxExporterError, match="the input input: ONNX models have no tensors"):
        export(nn.Identity(), (flambeau.ones(4, dtype=flambeau.complex64),), tmp_path / "odd.onnx")
    assert not list(tmp_path.iterdir())


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="opset version: 7"):
        export(nn.Linear(3, 2), (flambeau.ones(4, 3),), opset_version=7)
    with pytest.raises(TypeError, match=r"torch.nn.Module"):
        export(3, ())  # type: ignore[arg-type]


class Norms(nn.Module):
    """Rows that opset 18 has no operators for, some of them twice, and one that reads sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.Sequential(nn.RMSNorm(6), nn.GELU(), nn.RMSNorm(6))
        self.groups = nn.GroupNorm(2, 6)

    def forward(self, x: Any) -> Any:
        y = self.norms(x)
        return self.norms[1](y * 2), self.groups(y.transpose(1, 2)), self.norms(x[0])


def test_rows_without_operators_are_functions(tmp_path: Path, rng: np.random.Generator) -> None:
    net = Norms()
    sizes = {0: Dim("b"), 1: Dim("t")}
    program = export_program(net, (flambeau.ones(2, 5, 6),), dynamic_shapes=(sizes,))
    kept, plain = (
        export(program, opset_version=18, inline_functions=inlined) for inlined in (False, True)
    )
    names = [name.rstrip("0123456789") for _, name, _ in kept.model.functions]
    assert sorted(names).count("gelu_") == 2  # of (b, t, 6) and (t, 6)
    calls = [n.op_type for n in kept.model.graph if n.domain == "pkg.flambeau"]
    assert len(calls) == len(set(calls)) + 3
    assert not plain.model.functions
    assert len(list(plain.model.graph)) > len(list(kept.model.graph))
    path = tmp_path / "net.onnx"
    export(net.norms, (flambeau.ones(2, 5, 6),), path, dynamic_shapes=(sizes,), opset_version=18)
    again = load(path).module()
    runs = [session(m.model) for m in (kept, plain)]
    for shape in ((2, 5, 6), (3, 1, 6), (1, 9, 6)):
        x = rng.normal(size=shape).astype(np.float32)
        given = flambeau.from_numpy(x)
        for run in runs:
            agree(run, net, given)
        wanted = net.norms(given).detach().numpy()
        np.testing.assert_allclose(again(given)[0].detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
