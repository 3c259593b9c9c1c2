"""ONNX models as programs: what is read runs and trains; damaged and hostile files are refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.export import ExportError
from flambeau.export.onnx import OnnxImportError, export, load
from tests.export.runtime import session

ir = pytest.importorskip("onnx_ir")


def model_of(nodes: list[Any], inputs: list[Any], outputs: list[Any], opset: int = 23) -> Any:
    """A model of nodes."""
    graph = ir.Graph(inputs, outputs, nodes=nodes, opset_imports={"": opset}, name="g")
    return ir.Model(graph, ir_version=10)


def value(name: str, *shape: Any, dtype: Any = None) -> Any:
    """A value with a dtype and shape."""
    return ir.val(name, dtype or ir.DataType.FLOAT, shape)


class Model(nn.Module):
    """Layers of every kind, with names that have dots."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), nn.GELU())
        self.layer = nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True)
        self.back = nn.Linear(6, 5)

    def forward(self, x: Any) -> Any:
        found, _ = self.layer(self.front(x).transpose(1, 2))
        return self.back(found).log_softmax(-1)


def test_what_is_written_is_read_with_its_names_and_sizes(tmp_path: Path) -> None:
    model = Model().eval()
    path = tmp_path / "model.onnx"
    export(model, (flambeau.randn(2, 2, 6),), path, dynamic_axes={"x": {0: "batch", 2: "time"}})
    program = load(path)
    assert list(program.range_constraints) == ["batch", "time"]
    assert "back.weight" in program.state_dict
    module = program.module()
    for batch, steps in ((1, 1), (3, 20)):
        x = flambeau.randn(batch, 2, steps)
        np.testing.assert_allclose(module(x)[0].detach(), model(x).detach(), atol=1e-5)


def test_a_model_that_was_read_trains() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    module = load(
        export(model, (flambeau.randn(2, 3),), dynamic_axes={"input": [0]}).model
    ).module()
    x = flambeau.randn(7, 3)
    for net in (model, module):
        found = net(x)
        (found[0] if isinstance(found, tuple) else found).square().mean().backward()
    mine, theirs = dict(module.named_parameters()), dict(model.named_parameters())
    assert mine.keys() == theirs.keys()
    for name, p in mine.items():
        np.testing.assert_allclose(p.grad.numpy(), theirs[name].grad.numpy(), rtol=1e-5, atol=1e-6)


def node(kind: str, inputs: list[Any], outputs: int = 1, **attributes: Any) -> Any:
    """A node."""
    return ir.node(kind, inputs, attributes, num_outputs=outputs)


def test_sizes_that_a_model_computes_stay_open() -> None:
    x = value("x", "n", 6)
    shape = node("Shape", [x])
    zero = node("Constant", [], value=ir.tensor(np.array([0])))
    first = node("Gather", [shape.outputs[0], zero.outputs[0]], axis=0)
    rest = node("Constant", [], value=ir.tensor(np.array([2, 3])))
    wanted = node("Concat", [first.outputs[0], rest.outputs[0]], axis=0)
    made = node("Reshape", [x, wanted.outputs[0]])
    made.outputs[0].name, made.outputs[0].dtype = "y", ir.DataType.FLOAT
    nodes = [shape, zero, first, rest, wanted, made]
    program = load(model_of(nodes, [x], made.outputs))
    assert program.module()(flambeau.ones(9, 6))[0].shape == (9, 2, 3)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_layers_of_two_directions_and_lengths(kind: str) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    rng = np.random.default_rng(3)
    x, lengths = value("x", "t", "b", 3), value("lengths", "b", dtype=ir.DataType.INT32)

    def weight(name: str, *shape: int) -> Any:
        made = value(name, *shape)
        made.const_value = ir.tensor(rng.normal(size=shape).astype(np.float32), name=name)
        return made

    weights = [
        weight("w", 2, gates * 4, 3),
        weight("r", 2, gates * 4, 4),
        weight("b", 2, gates * 8),
    ]
    options = {"linear_before_reset": 1} if kind == "GRU" else {}
    made = node(
        kind, [x, *weights, lengths], 2, hidden_size=4, direction="bidirectional", **options
    )
    for name, out in zip(("y", "last"), made.outputs, strict=True):
        out.name, out.dtype, out.shape = (
            name,
            ir.DataType.FLOAT,
            ir.Shape([None] * (4 if name == "y" else 3)),
        )
    graph = ir.Graph([x, lengths], made.outputs, nodes=[made], initializers=weights,
                     opset_imports={"": 22}, name="g")  # fmt: skip
    model = ir.Model(graph, ir_version=10)
    run, module = session(model), load(model).module()
    given = rng.normal(size=(6, 3, 3)).astype(np.float32), np.array([6, 1, 4], np.int32)
    wanted = run.run(None, {"x": given[0], "lengths": given[1]})
    for got, want in zip(module(*map(flambeau.from_numpy, given)), wanted, strict=True):
        np.testing.assert_allclose(got.detach().numpy(), want, atol=1e-5)


# -- what is refused -------------------------------------------------------------------------------


def test_unknown_operators_are_named() -> None:
    x = value("x", 2)
    odd = ir.node("Odd", [x], {}, domain="vendor")
    strings = ir.node("StringSplit", [x], {}, num_outputs=2)
    odd.outputs[0].name = "y"
    with pytest.raises(OnnxImportError, match="cannot be read: StringSplit, vendor::Odd"):
        load(model_of([odd, strings], [x], odd.outputs))


def test_values_that_sizes_depend_on_are_refused() -> None:
    x, n = value("x", 6), value("n", 1, dtype=ir.DataType.INT64)
    made = node("Reshape", [x, n])
    made.outputs[0].name = "y"
    with pytest.raises(
        OnnxImportError, match=r"\(Reshape\): a shape or place depends on the values"
    ):
        load(model_of([made], [x, n], made.outputs))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model at all, but text")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("text.onnx", "empty.onnx"):
        with pytest.raises(ExportError):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.onnx")


def test_weights_outside_the_models_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(4000))
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.onnx"
    export(nn.Linear(30, 20), (flambeau.ones(1, 30),), path, external_data=True)
    data = path.read_bytes().replace(b"a.onnx.data", b"../././../s")
    path.write_bytes(data.replace(b"../././../s", b"../secret//"))
    with pytest.raises(ExportError):
        load(path)


def mutated(data: bytes, choose: random.Random) -> bytes:
    """A file with some bytes changed, left out or put in."""
    made = bytearray(data)
    for _ in range(choose.randint(1, 4)):
        at = choose.randrange(len(made))
        kind = choose.randrange(4)
        if kind == 0:
            made[at] = choose.randrange(256)
        elif kind == 1:
            del made[at : at + choose.randint(1, 40)]
        elif kind == 2:
            made[at:at] = bytes(choose.randrange(256) for _ in range(choose.randint(1, 8)))
        else:
            made = made[: max(at, 1)]
    return bytes(made)


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(Model(), (flambeau.randn(2, 2, 6),), path, dynamic_axes={"x": {0: "batch"}})
    data = path.read_bytes()
    choose = random.Random(5)
    refused = 0
    for _ in range(60):
        path.write_bytes(mutated(data, choose))
        try:
            load(path)
        except ExportError:
            refused += 1
    assert refused > 20
