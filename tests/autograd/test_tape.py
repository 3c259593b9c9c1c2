"""What the tape keeps and says: anomaly mode, hooks, edges, versions, modes."""

from __future__ import annotations

import contextlib
import copy
import pickle
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.autograd import Function, graph


def leaf(*values: float) -> Any:
    return flambeau.tensor(values, dtype=flambeau.float64, requires_grad=True)


class TestAnomalyMode:
    def test_a_nan_names_the_forward_call(self) -> None:
        x = leaf(0.0, 1.0)
        with flambeau.autograd.detect_anomaly():
            y = x.sqrt()  # the line
            with pytest.raises(RuntimeError, match="'SqrtBackward0' returned nan") as caught:
                (y * 0.0).sum().backward()
        assert "y = x.sqrt()  # the line" in caught.value.__notes__[0]
        assert "test_tape.py" in caught.value.__notes__[0]

    def test_without_it_nan_goes_through(self) -> None:
        x = leaf(0.0, 1.0)
        (x.sqrt() * 0.0).sum().backward()
        assert np.isnan(x.grad.numpy()[0])

    def test_without_looking_for_nan(self) -> None:
        x = leaf(0.0, 1.0)
        with flambeau.autograd.detect_anomaly(check_nan=False):
            (x.sqrt() * 0.0).sum().backward()
        assert np.isnan(x.grad.numpy()[0])

    def test_an_error_of_a_rule_names_the_forward_call(self) -> None:
        x = leaf(1.0, 2.0)
        with flambeau.autograd.detect_anomaly():
            y = x.exp()  # made here
            y.add_(1.0)
            with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
                y.sum().backward()
        assert any("made here" in note for note in caught.value.__notes__)
        assert "the backtrace further above" in str(caught.value)

    def test_switches(self) -> None:
        assert not flambeau.is_anomaly_enabled()
        with flambeau.autograd.detect_anomaly(check_nan=False):
            assert flambeau.is_anomaly_enabled()
            assert not flambeau.is_anomaly_check_nan_enabled()
            with flambeau.autograd.set_detect_anomaly(False):
                assert not flambeau.is_anomaly_enabled()
            assert flambeau.is_anomaly_enabled()
        assert not flambeau.is_anomaly_enabled()
        assert flambeau.is_anomaly_check_nan_enabled()

    def test_functions_of_users(self) -> None:
        class Broken(flambeau.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x * 2

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                raise RuntimeError("broken")

        with flambeau.autograd.detect_anomaly():
            y = Broken.apply(leaf(1.0))  # applied here
            with pytest.raises(RuntimeError, match="broken") as caught:
                y.sum().backward()
        assert any("applied here" in note for note in caught.value.__notes__)


class TestGraph:
    def test_entries_and_edges(self) -> None:
        x = leaf(1.0, 2.0)
        y = (x * 3).exp()
        assert isinstance(y.grad_fn, graph.Node)
        (product, nr), *_ = y.grad_fn.next_functions
        assert product.name() == "MulBackward0"
        assert nr == 0
        assert product.next_functions[0][0].name() == "AccumulateGrad"
        assert product.next_functions[0][0].variable is x

    def test_edges_of_leaves_and_results(self) -> None:
        x = leaf(1.0, 2.0)
        y = x * 3
        edge = graph.get_gradient_edge(y)
        assert edge.node is y.grad_fn
        assert edge.output_nr == 0
        assert graph.get_gradient_edge(x).node.variable is x
        with pytest.raises(RuntimeError, match="does not require gradients"):
            graph.get_gradient_edge(flambeau.ones(2))
        a, b = flambeau.autograd.grad((y**2).sum(), [edge, graph.get_gradient_edge(x)])
        assert a.tolist() == [6.0, 12.0]
        assert b.tolist() == [18.0, 36.0]

    def test_hooks_of_saved_tensors_nest_and_end(self) -> None:
        packed: list[str] = []

        def hooks(name: str) -> Any:
            def pack(t: Any) -> Any:
                packed.append(name)
                return t.detach()

            return graph.saved_tensors_hooks(pack, lambda t: t)

        x = leaf(1.0, 2.0)
        with hooks("outer"):
            with hooks("inner"):
                y = x.exp()
            z = y.exp()
        (z * z).sum().backward()
        assert packed == ["inner", "outer"]
        np.testing.assert_allclose(
            x.grad.numpy(), 2 * np.exp(2 * np.exp([1.0, 2.0])) * np.exp([1.0, 2.0])
        )

    def test_hooks_of_saved_tensors_can_be_refused(self) -> None:
        with (
            graph.disable_saved_tensors_hooks("not here"),
            pytest.raises(RuntimeError, match="not here"),
            graph.saved_tensors_hooks(lambda t: t, lambda t: t),
        ):
            pass

    def test_several_tensors_any(self) -> None:
        x, y = leaf(1.0), leaf(2.0)
        seen: list[Any] = []
        handle = graph.register_multi_grad_hook([x, y], seen.append, mode="any")
        (x * y).sum().backward()
        assert len(seen) == 1
        handle.remove()
        (x * y).sum().backward()
        assert len(seen) == 1
        with pytest.raises(ValueError, match="'all', 'any'"):
            graph.register_multi_grad_hook([x], seen.append, mode="some")

    def test_versions_can_be_counted_by_hand(self) -> None:
        x = leaf(1.0, 2.0)
        y = x.exp()
        graph.increment_version(y)
        with pytest.raises(RuntimeError, match="is at version 1; expected version 0"):
            y.sum().backward()

    def test_a_hook_handle_is_a_context_manager(self) -> None:
        x = leaf(1.0)
        with x.register_hook(lambda g: g * 5):
            (x * 1).sum().backward()
        (x * 1).sum().backward()
        assert x.grad.tolist() == [6.0]


class TestAccumulation:
    def test_the_gradient_is_memory_of_its_own(self) -> None:
        x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
        (x + y).sum().backward()
        x.grad.zero_()
        assert y.grad.tolist() == [1.0, 1.0]

    def test_the_cotangent_is_not_aliased(self) -> None:
        x = leaf(1.0, 2.0)
        g = flambeau.ones(2, dtype=flambeau.float64)
        (x + 0).backward(g)
        g.zero_()
        assert x.grad.tolist() == [1.0, 1.0]
        (x + 0).backward(flambeau.ones(2, dtype=flambeau.float64))
        assert x.grad.tolist() == [2.0, 2.0]
        assert g.tolist() == [0.0, 0.0]

    def test_a_gradient_handed_out_is_added_to_in_place(self) -> None:
        x = leaf(1.0, 2.0)
        x.sum().backward()
        held = x.grad
        array = held.numpy()
        x.sum().backward()
        assert array.tolist() == [2.0, 2.0]

    def test_thousands_of_layers(self) -> None:
        x = leaf(1.0)
        y = x
        for _ in range(3000):
            y = y * 1.001
        y.sum().backward()
        assert x.grad.item() == pytest.approx(1.001**3000, rel=1e-9)


class TestCotangentsThatAreViews:
    """Rules that read a cotangent by strides must not take the storage it lies in for it."""

    def test_of_a_write(self) -> None:
        x, v = leaf(1.0, 2.0, 3.0, 4.0), leaf(5.0, 6.0)
        y = x * 1
        y[1:3] = v
        cotangent = flambeau.arange(10, dtype=flambeau.float64)[3:7]
        y.backward(cotangent)
        assert x.grad.tolist() == [3.0, 0.0, 0.0, 6.0]
        assert v.grad.tolist() == [4.0, 5.0]

    def test_of_a_slices_derivative(self) -> None:
        x = leaf(1.0, 2.0, 3.0, 4.0)
        u = flambeau.ones(2, dtype=flambeau.float64, requires_grad=True)
        (g,) = flambeau.autograd.grad(x[1:3] * 2, x, u, create_graph=True)
        g.backward(flambeau.arange(10, dtype=flambeau.float64)[3:7])
        assert u.grad.tolist() == [8.0, 10.0]

    def test_transposed(self) -> None:
        x, v = flambeau.zeros(2, 3, requires_grad=True), flambeau.zeros(3, requires_grad=True)
        y = x * 1
        y[1] = v
        y.backward(flambeau.arange(6.0).view(3, 2).t())
        assert x.grad.tolist() == [[0.0, 2.0, 4.0], [0.0, 0.0, 0.0]]
        assert v.grad.tolist() == [1.0, 3.0, 5.0]


class TestModes:
    def test_nesting(self) -> None:
        x = leaf(1.0)
        with flambeau.no_grad():
            assert not (x * 2).requires_grad
            with flambeau.enable_grad():
                assert (x * 2).requires_grad
            assert not flambeau.is_grad_enabled()
        assert flambeau.is_grad_enabled()

    def test_an_error_restores_the_mode(self) -> None:
        with pytest.raises(ValueError, match="x"), flambeau.no_grad():
            raise ValueError("x")
        assert flambeau.is_grad_enabled()

    def test_decorators_of_functions_and_generators(self) -> None:
        x = leaf(1.0)

        @flambeau.no_grad()
        def quiet() -> Any:
            return x * 2

        @flambeau.no_grad()
        def items() -> Any:
            for _ in range(2):
                yield x * 2

        assert not quiet().requires_grad
        for item in items():
            assert not item.requires_grad
            assert (x * 2).requires_grad

    def test_set_grad_enabled(self) -> None:
        x = leaf(1.0)
        flambeau.set_grad_enabled(False)
        assert not (x * 2).requires_grad
        flambeau.set_grad_enabled(True)
        with flambeau.set_grad_enabled(False):
            assert not (x * 2).requires_grad
        assert (x * 2).requires_grad

    def test_inference_tensors(self) -> None:
        with flambeau.inference_mode():
            y = flambeau.ones(2) * 2
            assert y.is_inference()
            y.add_(1.0)
        with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside"):
            y.add_(1.0)
        with pytest.raises(RuntimeError, match="Setting requires_grad=True on inference tensor"):
            y.requires_grad_()
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            leaf(1.0, 2.0) * y

    @pytest.mark.parametrize("make", ["ones", "empty", "rand", "zeros"])
    def test_tensors_created_for_inference(self, make: str) -> None:
        with flambeau.inference_mode():
            y = getattr(flambeau, make)(2)
            views = [y, y[:1], y.view(2, 1), flambeau.zeros_like(y), flambeau.tensor([1.0])]
            views += [y.cumsum(0), *y.sort(), *y.max(0)]
        for view in views:
            assert view.is_inference()
            with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside"):
                view.add_(1.0)
        assert not getattr(flambeau, make)(2).is_inference()


class TestCopies:
    def test_deepcopy_of_a_leaf(self) -> None:
        x = leaf(1.0, 2.0)
        (x * 3).sum().backward()
        y = copy.deepcopy(x)
        assert y.requires_grad
        assert y.grad.tolist() == [3.0, 3.0]
        y.grad.zero_()
        assert x.grad.tolist() == [3.0, 3.0]

    def test_pickled_tensors_keep_requires_grad(self) -> None:
        x = pickle.loads(pickle.dumps(leaf(1.0, 2.0)))
        assert x.requires_grad
        assert x.tolist() == [1.0, 2.0]


def test_what_hooks_unpack_has_its_place_on_the_tape() -> None:
    """Gradients and second derivatives are the same whatever is done to what is saved."""

    def gradients(hooks: Any) -> list[Any]:
        flambeau.manual_seed(0)
        first, second = flambeau.nn.Linear(2, 2), flambeau.nn.Linear(2, 2)
        x = flambeau.ones(3, 2, requires_grad=True)
        scale = flambeau.full((2,), 0.5, requires_grad=True)  # its gradient is a sum
        with hooks:
            y = (second(first(x).tanh()).pow(3) * scale).sum()
        (g,) = flambeau.autograd.grad(y, first.weight, create_graph=True)
        g.square().sum().backward()
        return [g.tolist(), *(p.grad.tolist() for p in (first.weight, second.weight, x, scale))]

    copies = graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone())
    assert gradients(copies) == gradients(contextlib.nullcontext())


def test_entries_are_of_classes_with_torchs_names() -> None:
    class Twice(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    x = leaf(1.0, 2.0)
    out = Twice.apply(x * 3).sum()
    names = []
    entry = out.grad_fn
    while entry is not None:
        names.append(type(entry).__name__)
        entry = entry.next_functions[0][0] if entry.next_functions else None
    assert names == ["SumBackward0", "TwiceBackward", "MulBackward0", "AccumulateGrad"]
    out.backward()
    assert x.grad.tolist() == [6.0, 6.0]
    assert type(out.grad_fn).__name__ == "SumBackward0"


@pytest.mark.parametrize("leaves", [True, False], ids=["a leaf", "an intermediate"])
@pytest.mark.parametrize(
    ("change", "result"),
    [
        (lambda g: g[:2], r"index 0 - got \[2\] but expected shape compatible with \[3\]"),
        (lambda g: g.sum(), r"index 0 - got \[\] but expected shape compatible with \[3\]"),
        (lambda g: 3, r"expected Variable or None \(got int\)"),
        (lambda g: g.expand(2, 3), 2.0),
        (lambda g: g.unsqueeze(0), 1.0),
        (lambda g: g.float(), 1.0),
        (lambda g: None, None),
    ],
)
def test_what_a_users_rule_returns_fits_its_input(change: Any, result: Any, leaves: bool) -> None:
    class Rule(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return change(g)

    x = leaf(1.0, 2.0, 3.0)
    loss = Rule.apply(x if leaves else x * 1).sum()
    if isinstance(result, str):
        with pytest.raises(RuntimeError, match=result):
            loss.backward()
        return
    loss.backward()
    if result is None:
        assert x.grad is None
    else:
        assert x.grad.dtype is x.dtype
        assert x.grad.tolist() == [result] * 3


NAMED_ENTRIES: dict[str, Any] = {
    "MeanBackward0": lambda t, x: x.mean(),
    "MseLossBackward0": lambda t, x: t.nn.functional.mse_loss(x, t.zeros(3)),
    "NllLossBackward0": lambda t, x: t.nn.functional.cross_entropy(x, t.tensor(1)),
    "BinaryCrossEntropyBackward0": lambda t, x: t.nn.functional.binary_cross_entropy(
        x.sigmoid(), t.ones(3)
    ),
    "RsubBackward1": lambda t, x: 1 - x,
    "SubBackward0": lambda t, x: x - 1,
    "StackBackward0": lambda t, x: t.stack([x, x]),
    "StdBackward0": lambda t, x: x.std(),
    "DotBackward0": lambda t, x: x.dot(x),
    "MaskedFillBackward0": lambda t, x: (x * 1).masked_fill_(x > 1, 0.0),
    "LinalgVectorNormBackward0": lambda t, x: x.norm(),
    "MulBackward0": lambda t, x: t.stack([x, x]) * 2,
}


@pytest.mark.parametrize("name", NAMED_ENTRIES)
def test_what_is_printed_of_composites(name: str) -> None:
    x = flambeau.ones(3, requires_grad=True)
    found = NAMED_ENTRIES[name](flambeau, x)
    assert f"grad_fn=<{name}>" in repr(found)
    found.sum().backward()
    assert x.grad is not None


@pytest.mark.parity
@pytest.mark.parametrize("name", NAMED_ENTRIES)
def test_what_torch_prints_of_composites(name: str) -> None:
    torch = pytest.importorskip("torch")
    found = NAMED_ENTRIES[name](torch, torch.ones(3, requires_grad=True))
    assert f"grad_fn=<{name}>" in repr(found)
