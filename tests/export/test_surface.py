"""torch.export's and torch.onnx's smaller names: shapes of tensors, more inputs, dataclasses."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.export import (
    AdditionalInputs,
    Dim,
    ExportError,
    ShapesCollection,
    draft_export,
    export,
    load,
    onnx,
    register_dataclass,
    save,
)


class Both(nn.Module):
    """A sum of a tensor and those of a dictionary, and a scale."""

    def forward(self, x: Any, more: Any, *, scale: float = 1.0) -> Any:
        return (x + sum(more.values())) * scale


def test_shapes_of_tensors() -> None:
    x, y, shapes = flambeau.ones(4, 3), flambeau.ones(3), ShapesCollection()
    shapes[x] = {0: Dim("n")}
    assert shapes[x] == {0: Dim("n")} or len(shapes) == 1
    assert shapes[y] is None
    program = export(Both(), (x, {"y": y}), {"scale": 2.0}, dynamic_shapes=shapes)
    assert program.module()(flambeau.ones(7, 3), {"y": y}, scale=2.0).shape == (7, 3)
    shapes[flambeau.ones(2)] = {0: Dim("n")}
    with pytest.raises(ValueError, match="were not found in args: 1 of 2"):
        export(Both(), (x, {"y": y}), dynamic_shapes=shapes)
    with pytest.raises(TypeError, match="non-tensor"):
        shapes[3] = {}  # type: ignore[index]
    with pytest.raises(ValueError, match="do not match"):
        shapes[x] = {1: Dim("m")}


def test_more_inputs_open_the_sizes_in_which_they_differ() -> None:
    def inputs(n: int, m: int) -> Any:
        return flambeau.ones(n, m), {"y": flambeau.ones(n, m), "z": flambeau.ones(m)}

    more = AdditionalInputs()
    more.add(inputs(5, 3))
    program = export(Both(), inputs(4, 3), dynamic_shapes=more)
    assert len(program.range_constraints) == 1
    assert program.module()(*inputs(9, 3)).shape == (9, 3)
    more.verify(program)
    more.add(inputs(5, 4))
    with pytest.raises(RuntimeError, match="to be"):
        more.verify(program)
    more.add((flambeau.ones(2), {}))
    with pytest.raises(ValueError, match="structure"):
        export(Both(), inputs(4, 3), dynamic_shapes=more)


def test_a_draft_fixes_what_the_program_fixes() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.view(4, -1)

    sizes = ({0: Dim("n"), 1: Dim("m")},)
    with pytest.raises(ExportError):
        export(Fixed(), (flambeau.ones(4, 6),), dynamic_shapes=({0: Dim("n"), 1: 6},))

    class Named(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + flambeau.ones(4, 1)

    with pytest.warns(UserWarning, match="fixed a Dim.AUTO size to 4"):
        program = draft_export(Named(), (flambeau.ones(4, 6),), dynamic_shapes=sizes)
    assert len(program.range_constraints) == 1
    assert program.module()(flambeau.ones(4, 9)).shape == (4, 9)


@dataclass
class Pair:
    """Two tensors."""

    first: Any
    second: Any


register_dataclass(Pair)


def test_dataclasses_as_inputs_and_results() -> None:
    class Swap(nn.Module):
        def forward(self, pair: Pair) -> Pair:
            return Pair(pair.second * 2, pair.first)

    given = Pair(flambeau.ones(3, 2), flambeau.zeros(5))
    n = Dim("n")
    for spec in (Pair({0: n}, None), {"first": {0: n}}):
        program = export(Swap(), (given,), dynamic_shapes=(spec,))
        assert list(program.range_constraints) == ["n"]
        found = program.module()(Pair(flambeau.ones(9, 2), flambeau.ones(5)))
        assert isinstance(found, Pair)
        assert found.second.shape == (9, 2)
        assert found.first.tolist() == [2] * 5
    with pytest.raises(ExportError, match="Pair cannot be saved"):
        save(program, io.BytesIO())


def test_dimensions_are_numbers() -> None:
    with pytest.raises(ExportError, match=r"args\[0\] must have dimensions \(ints\) as keys"):
        export(nn.Linear(3, 2), (flambeau.ones(4, 3),), dynamic_shapes=({"0": Dim("n")},))


def test_what_a_program_tells() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    net.register_buffer("loose", flambeau.ones(2), persistent=False)
    program = export(net, (flambeau.ones(4, 3),))
    program.validate()
    signature = program.graph_signature
    assert signature.non_persistent_buffers == ("loose",)
    assert signature.user_inputs_to_mutate == signature.parameters_to_mutate == {}
    assert program.call_spec.in_spec == program.in_spec
    sink = io.BytesIO()
    save(program, sink, opset_version={"aten": 1}, pickle_protocol=2)
    assert load(sink).graph == program.graph


class Tied(nn.Module):
    """A tagger whose last layer has the first one's weight, and one norm in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(11, 4), nn.Linear(4, 11, bias=False)
        self.out.weight = self.words.weight
        self.norm = nn.BatchNorm1d(11)
        self.again = self.norm

    def forward(self, x: Any) -> Any:
        return self.again(self.norm(self.out(self.words(x))))


def test_shared_states_keep_all_their_names() -> None:
    net, x = Tied(), flambeau.arange(5)
    program = export(net, (x,), dynamic_shapes=({0: Dim("n", min=2)},))
    sink = io.BytesIO()
    save(program, sink)
    for ep in (program, load(io.BytesIO(sink.getvalue()))):
        assert ep.state_dict.keys() == net.state_dict().keys()
        twin, other = ep.module(), Tied()
        assert twin.out.weight is twin.words.weight
        assert len(list(twin.parameters())) == 3
        for module in (twin, other):
            module.load_state_dict(net.state_dict())
            module(x).square().sum().backward()
        for (name, a), (_, b) in zip(
            twin.named_parameters(), other.named_parameters(), strict=True
        ):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-6, err_msg=name)
        assert flambeau.equal(twin.get_buffer("again.running_mean"), other.norm.running_mean)
    program.aliases["out.weight"] = "words.weights"
    with pytest.raises(ExportError, match=r"out.weight is no further name of the state words\.w"):
        program.validate()


def test_a_model_keeps_its_session_and_takes_other_weights() -> None:
    pytest.importorskip("onnxruntime")
    net, x = nn.Linear(3, 2), flambeau.randn(4, 3)
    model = onnx.export(net, (x,), dynamic_axes={"input": {0: "n"}})
    with flambeau.no_grad():
        np.testing.assert_allclose(model(x)[0].numpy(), net(x).numpy(), atol=1e-6)
        net.weight.mul_(2)
        model.apply_weights(net.state_dict())
        np.testing.assert_allclose(model(x)[0].numpy(), net(x).numpy(), atol=1e-6)
    model.rename_axes({"n": "batch"})
    assert [str(v.shape[0]) for v in model.model.graph.inputs] == ["batch"]
    with pytest.raises(ValueError, match="no weight 'weight' like"):
        model.apply_weights({"weight": flambeau.ones(2, 2)})
    made: list[bytes] = []
    model.initialize_inference_session(made.append)
    assert len(made) == 1
