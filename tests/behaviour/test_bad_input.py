"""Bad input raises torch's error class with the reason, and loses nothing.

What belongs to one area is tested there:

- truncated and hostile checkpoints, refused pickles: `tests/serialization/test_checkpoint.py`,
  `test_archive.py`, `test_unpickle.py`; safetensors: `test_safetensors.py`
- a full disk or a kill while saving: `tests/serialization/test_atomic_save.py`,
  `tests/cli/test_train.py`
- empty data sets, samplers and batches that do not fit: `tests/data/test_datasets.py`,
  `test_dataloader.py`
- workers that raise, die or hang: `tests/data/test_workers.py`
- an unreadable corpus: `tests/cli/test_corpus.py`; damaged checkpoints, interrupts and bad options
  of the training command: `tests/cli/test_train.py`
- a corrupt object cache: `tests/runtime/test_objects.py`, `test_jit.py`
- value errors at a flush, `FLAMBEAU_SYNC`: `tests/record/test_errors.py`

Here stands what is left: errors of calls, each the same class as torch's, and what value errors
leave behind in programs.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import flambeau
from tests.cli.program import ROOT, environment

Library = ModuleType
Call = Callable[[Any], Any]


def backward_twice(lib: Any) -> None:
    x = lib.ones(3, requires_grad=True)
    loss = x.exp().sum()
    loss.backward()
    loss.backward()


def modified_after_saving(lib: Any) -> None:
    x = lib.ones(3, requires_grad=True)
    y = x * 2
    z = y.exp()
    z.add_(1)
    z.sum().backward()


def parameter_changed_before_backward(lib: Any) -> None:
    layer = lib.nn.Linear(2, 2)
    out = layer(lib.ones(1, 2, requires_grad=True))
    with lib.no_grad():
        layer.weight.mul_(2)
    out.sum().backward()


def wrong_gradient(lib: Any) -> None:
    lib.ones(2, requires_grad=True).grad = lib.ones(3)


def closed_over_number(lib: Any) -> None:
    y = lib.ones(2, requires_grad=True) * 2
    y.requires_grad = False


def write_of_wrong_shape(lib: Any) -> None:
    lib.zeros(3)[0:2] = lib.ones(3)


def write_past_the_end(lib: Any) -> None:
    lib.zeros(3)[3] = 1.0


CALLS: dict[str, tuple[type[Exception], str, Call]] = {
    # shapes
    "linear": (
        RuntimeError,
        "mat1 and mat2 shapes cannot be multiplied",
        lambda t: t.nn.Linear(3, 4)(t.ones(2, 5)),
    ),
    "batches": (RuntimeError, "batch", lambda t: t.bmm(t.ones(2, 3, 4), t.ones(3, 4, 5))),
    "cat": (
        RuntimeError,
        "Sizes of tensors must match except in dimension 0",
        lambda t: t.cat([t.ones(2, 3), t.ones(2, 4)]),
    ),
    "stack": (RuntimeError, "equal size", lambda t: t.stack([t.ones(2), t.ones(3)])),
    "stack of nothing": (RuntimeError, "non-empty TensorList", lambda t: t.stack([])),
    "split": (RuntimeError, "sum exactly to 5", lambda t: t.ones(5).split([2, 2])),
    "expand": (RuntimeError, "expanded size", lambda t: t.ones(2, 3).expand(3, 3)),
    "two sizes to infer": (
        RuntimeError,
        "only one dimension can be inferred",
        lambda t: t.ones(6).view(-1, -1),
    ),
    "negative size": (RuntimeError, "negative", lambda t: t.ones(-1)),
    "negative size of the identity": (RuntimeError, "greater or equal", lambda t: t.eye(-1)),
    "negative size of resize_": (RuntimeError, "negative size", lambda t: t.ones(2).resize_(-1)),
    "layer_norm": (
        RuntimeError,
        "normalized_shape",
        lambda t: t.nn.LayerNorm(3)(t.ones(2, 4)),
    ),
    "one row to normalise": (
        ValueError,
        "more than 1 value per channel",
        lambda t: t.nn.BatchNorm1d(3)(t.ones(1, 3)),
    ),
    "loss": (
        ValueError,
        "batch_size",
        lambda t: t.nn.functional.cross_entropy(t.ones(2, 3), t.tensor([0, 1, 2])),
    ),
    "chunks of a number": (RuntimeError, "at least a 1-dim", lambda t: t.tensor(1.0).chunk(2)),
    "a number unflattened": (RuntimeError, "unflatten", lambda t: t.tensor(1.0).unflatten(0, (1,))),
    "a vector as matrices": (RuntimeError, "Got 1-D tensor", lambda t: t.ones(3).mT),
    "more dimensions than there are": (
        RuntimeError,
        "tensordot expects dims < ndim_a or ndim_b",
        lambda t: t.tensordot(t.tensor(1.0), t.ones(2), 1),
    ),
    "unique along nothing": (IndexError, "no dimensions", lambda t: t.tensor(1.0).unique(dim=0)),
    "write to nothing": (
        IndexError,
        "out of bounds for dimension",
        lambda t: t.ones(0).__setitem__(t.tensor([0]), 1.0),
    ),
    "scatter into nothing": (
        RuntimeError,
        "out of bounds for dimension 0 with size 0",
        lambda t: t.ones(0).scatter_(0, t.tensor([0]), 1.0),
    ),
    "mask": (IndexError, "shape of the mask", lambda t: t.ones(3, 4)[t.ones(3, 5) > 0]),
    "reduction over a dimension twice": (
        RuntimeError,
        "appears multiple times",
        lambda t: t.ones(2, 3).sum((0, 0)),
    ),
    "largest of nothing": (RuntimeError, "max\\(\\)", lambda t: t.ones(0).max()),
    "more than there are": (RuntimeError, "out of range", lambda t: t.topk(t.ones(3), 4)),
    "einsum": (
        RuntimeError,
        "do not broadcast",
        lambda t: t.einsum("ij,jk->ik", t.ones(2, 3), t.ones(4, 5)),
    ),
    "grid of matrices": (
        RuntimeError,
        "0D or 1D",
        lambda t: t.meshgrid(t.ones(2), t.ones(2, 2), indexing="ij"),
    ),
    "items": (RuntimeError, "cannot be converted to Scalar", lambda t: t.ones(2).item()),
    "numbers": (ValueError, "only one element tensors", lambda t: float(t.ones(2))),
    "truth": (RuntimeError, "ambiguous", lambda t: bool(t.ones(2))),
    # dtypes
    "matrices of two dtypes": (
        RuntimeError,
        "same dtype",
        lambda t: t.ones(2, 3) @ t.ones(3, 2).double(),
    ),
    "mean of integers": (RuntimeError, "mean", lambda t: t.ones(2).long().mean()),
    "index of floats": (IndexError, "used as indices", lambda t: t.ones(2)[t.ones(1)]),
    "index of a float": (IndexError, "got float", lambda t: t.ones(2)[1.5]),
    "embedding of floats": (
        RuntimeError,
        "indices",
        lambda t: t.nn.functional.embedding(t.ones(1), t.ones(2, 2)),
    ),
    "bits of floats": (NotImplementedError, "Float", lambda t: t.ones(2) & t.ones(2)),
    "inverse of floats": (TypeError, "integer and Boolean", lambda t: ~t.ones(2)),
    "shift of floats": (NotImplementedError, "Float", lambda t: t.ones(2) << 1),
    "minus of bools": (RuntimeError, "logical_not", lambda t: -(t.ones(2) > 0)),
    "difference of bools": (RuntimeError, "logical_xor", lambda t: (t.ones(2) > 0) - True),
    "a mask subtracted": (RuntimeError, "logical_not", lambda t: t.ones(2) - (t.ones(2) > 0)),
    "a mask inverted": (RuntimeError, "logical_not", lambda t: 1 - (t.ones(2) > 0)),
    "mean of integers but nan": (RuntimeError, "nanmean", lambda t: t.nanmean(t.ones(2).long())),
    "power of integers": (
        RuntimeError,
        "negative integer powers",
        lambda t: t.tensor([2]) ** -1,
    ),
    "quotient into integers": (RuntimeError, "can't be cast", lambda t: t.tensor([2]).div_(2)),
    "ragged": (ValueError, "expected sequence", lambda t: t.tensor([[1, 2], [3]])),
    "a string": (TypeError, "invalid data type 'str'", lambda t: t.tensor("abc")),
    "a string among numbers": (TypeError, "invalid data type", lambda t: t.tensor([1, "a"])),
    "nothing": (RuntimeError, "infer dtype of NoneType", lambda t: t.tensor([None])),
    "an object": (RuntimeError, "infer dtype of object", lambda t: t.tensor(object())),
    "a list for an array": (TypeError, "expected np.ndarray", lambda t: t.from_numpy([1, 2])),
    "the name of a dtype": (TypeError, "dtype", lambda t: t.ones(2, dtype="float32")),
    "a fractional size": (TypeError, "size", lambda t: t.ones(2.5)),
    "a number for a tensor": (TypeError, "must be Tensor, not int", lambda t: t.relu(3)),
    "no tensor in a module": (TypeError, "must be Tensor, not str", lambda t: t.nn.ReLU()("a")),
    "a list for an index": (TypeError, "'index'", lambda t: t.ones(2).gather(0, [0])),
    "a list for a target": (
        TypeError,
        "must be Tensor, not list",
        lambda t: t.nn.functional.cross_entropy(t.ones(2, 3), [0, 1]),
    ),
    "a product with a number": (TypeError, "unsupported operand", lambda t: t.ones(2, 3) @ 3),
    "a number too large": (
        RuntimeError,
        "without overflow",
        lambda t: t.tensor([300], dtype=t.uint8),
    ),
    "a filling too large": (
        RuntimeError,
        "without overflow",
        lambda t: t.full((2,), 300, dtype=t.uint8),
    ),
    # devices
    "an unknown device": (RuntimeError, "nope", lambda t: t.ones(2, device="nope")),
    "two devices": (RuntimeError, "device", lambda t: t.ones(2) + t.ones(2, device="meta")),
    "values without data": (
        (RuntimeError, NotImplementedError),  # type: ignore[dict-item]
        "meta",
        lambda t: t.ones(2, device="meta").tolist(),
    ),
    # positions known when the call is made
    "dimension": (IndexError, "Dimension out of range", lambda t: t.ones(2, 3).softmax(2)),
    "position": (IndexError, "index 2 is out of bounds", lambda t: t.ones(2, 3)[2]),
    "too many": (IndexError, "too many indices", lambda t: t.ones(2, 3)[0, 0, 0]),
    "narrow": (RuntimeError, "exceeds dimension size", lambda t: t.ones(2, 3).narrow(0, 1, 5)),
    "backwards": (ValueError, "step must be greater", lambda t: t.ones(3)[::-1]),
    "write of a wrong shape": (
        RuntimeError,
        "shape|size of tensor|expanded size",
        write_of_wrong_shape,
    ),
    "write past the end": (IndexError, "out of bounds", write_past_the_end),
    # gradients
    "backward twice": (RuntimeError, "a second time", backward_twice),
    "modified after saving": (
        RuntimeError,
        "modified by an inplace operation",
        modified_after_saving,
    ),
    "weights changed before backward": (
        RuntimeError,
        "modified by an inplace operation",
        parameter_changed_before_backward,
    ),
    "requires_grad of a result": (
        RuntimeError,
        "only change requires_grad flags of leaf",
        closed_over_number,
    ),
    "integers with gradients": (
        RuntimeError,
        "floating point",
        lambda t: t.ones(2).long().requires_grad_(),
    ),
    "leaf in place": (
        RuntimeError,
        "leaf Variable that requires grad",
        lambda t: t.ones(2, requires_grad=True).zero_(),
    ),
    "view of a leaf in place": (
        RuntimeError,
        "a view of a leaf Variable that requires grad",
        lambda t: t.ones(2, requires_grad=True)[:1].zero_(),
    ),
    "view of a leaf that is a view in place": (
        RuntimeError,
        "a view of a leaf Variable that requires grad",
        lambda t: t.ones(4).view(2, 2).requires_grad_()[0].zero_(),
    ),
    "no gradient": (RuntimeError, "does not require grad", lambda t: t.ones(()).backward()),
    "gradient that is no tensor": (
        TypeError,
        "either Tensors or None",
        lambda t: (t.ones(2, requires_grad=True) * 2).backward("a"),
    ),
    "no inputs": (RuntimeError, "cannot be empty", lambda t: t.autograd.grad([], [])),
    "gradient of the wrong shape": (RuntimeError, r"\[3\].*\[2\]", wrong_gradient),
    "unused input": (
        RuntimeError,
        "not have been used in the graph",
        lambda t: t.autograd.grad(
            t.ones(2, requires_grad=True).sum(), t.ones(2, requires_grad=True)
        ),
    ),
    "optimizer of a result": (
        ValueError,
        "can't optimize a non-leaf",
        lambda t: t.optim.SGD([t.ones(2, requires_grad=True) * 2], lr=0.1),
    ),
    "optimizer of nothing": (ValueError, "empty parameter list", lambda t: t.optim.Adam([])),
    "array of a tensor with gradients": (
        RuntimeError,
        "detach",
        lambda t: t.ones(2, requires_grad=True).numpy(),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    kind, message, call = CALLS[name]
    with pytest.raises(kind, match=message):
        call(flambeau)
    assert (flambeau.ones(2) + 1).tolist() == [2.0, 2.0]


@pytest.mark.parity
@pytest.mark.parametrize("name", CALLS)
def test_calls_in_torch(name: str) -> None:
    kind, _, call = CALLS[name]
    torch = importlib.import_module("torch")
    with pytest.raises(kind):
        call(torch)


#: Reads whose index is wrong, by the index that the message names.
READS: dict[str, tuple[int, Call]] = {
    "embedding": (7, lambda t: t.nn.functional.embedding(t.tensor([0, 7]), t.ones(3, 2))),
    "indexing": (5, lambda t: t.ones(2, 3)[t.tensor([0, 5])]),
    "indexing in two dimensions": (9, lambda t: t.ones(3, 4)[t.tensor([1]), t.tensor([9])]),
    "index_select": (2, lambda t: t.ones(2, 3).index_select(0, t.tensor([2]))),
    "take": (6, lambda t: t.ones(2, 3).take(t.tensor([6]))),
    "cross_entropy": (
        3,
        lambda t: t.nn.functional.cross_entropy(t.ones(2, 3), t.tensor([0, 3])),
    ),
    "nll_loss": (-1, lambda t: t.nn.functional.nll_loss(t.ones(2, 3), t.tensor([0, -1]))),
}


@pytest.mark.parametrize("name", READS)
def test_wrong_indices_are_named(name: str) -> None:
    index, call = READS[name]
    with pytest.raises(IndexError, match=rf"(index|Target) {index} (is out|on a tensor)"):
        call(flambeau).sum().item()


@pytest.mark.parity
@pytest.mark.parametrize("name", READS)
def test_wrong_indices_in_torch(name: str) -> None:
    torch = importlib.import_module("torch")
    with pytest.raises(IndexError):
        READS[name][1](torch)


@pytest.mark.parametrize("which", ["input", "target"])
@pytest.mark.parametrize("value", [-0.5, 1.5, float("nan")])
def test_what_is_no_probability_is_named(which: str, value: float) -> None:
    values = {"input": flambeau.full((3, 5), 0.5), "target": flambeau.full((3, 5), 0.5)}
    values[which][2, 3] = value
    loss = flambeau.nn.functional.binary_cross_entropy(**values)
    beside = flambeau.ones(2) * 3
    message = f"all elements of {which} should be between 0 and 1"
    with pytest.raises(RuntimeError, match=message):
        loss.item()
    assert beside.tolist() == [3.0, 3.0]


DRAWS: dict[str, tuple[str, Call]] = {
    "rand": ("negative dimension -1", lambda t: t.rand(-1)),
    "randn": ("negative dimension -2", lambda t: t.randn(3, -2)),
    "randint": ("negative dimension -1", lambda t: t.randint(0, 3, (-1, 2))),
    "normal": ("negative dimension -1", lambda t: t.normal(0.0, 1.0, (-1,))),
    "zeros": ("negative", lambda t: t.zeros(2, -1)),
    "repeat": ("negative dimension", lambda t: t.ones(2).repeat(-1)),
    "as_strided": (r"negative dimension|sizes=\[-1\]", lambda t: t.ones(2).as_strided((-1,), (1,))),
    "tril_indices": ("row must be non-negative", lambda t: t.tril_indices(-1, 2)),
    "bernoulli": ("p_in >= 0 && p_in <= 1", lambda t: t.bernoulli(t.tensor([0.5, 1.5]))),
    "bernoulli of nan": ("p_in <= 1", lambda t: t.bernoulli(t.tensor([float("nan")]))),
    "bernoulli_": ("p_in <= 1", lambda t: t.ones(2).bernoulli_(t.tensor([-0.5, 0.5]))),
    "a deviation": (
        "expects all elements of std >= 0.0",
        lambda t: t.normal(t.zeros(2), t.tensor([1.0, -1.0])),
    ),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_that_cannot_be_made(name: str) -> None:
    message, call = DRAWS[name]
    with pytest.raises(RuntimeError, match=message):
        call(flambeau).tolist()


@pytest.mark.parity
@pytest.mark.parametrize("name", DRAWS)
def test_draws_in_torch(name: str) -> None:
    message, call = DRAWS[name]
    with pytest.raises(RuntimeError, match=message):
        call(importlib.import_module("torch"))


@pytest.mark.parametrize(("steps", "labels"), [(9, 2), (4, 3)])
def test_lengths_longer_than_their_sequences(steps: int, labels: int) -> None:
    ctc = flambeau.nn.functional.ctc_loss
    scores = flambeau.zeros(4, 1, 3).log_softmax(-1)
    loss = ctc(scores, flambeau.tensor([[1, 2]]), (steps,), (labels,))
    name, most = ("input_lengths", 4) if steps > 4 else ("target_lengths", 2)
    with pytest.raises(RuntimeError, match=f"Expected {name} to have value at most {most}"):
        loss.item()


def test_a_computed_index_is_named() -> None:
    index = (flambeau.arange(3) * 2 + 1).long()
    with pytest.raises(IndexError, match="index 5 is out of bounds for dimension 0 with size 5"):
        flambeau.ones(5)[index].sum().item()


WRITES: dict[str, Call] = {
    "set": lambda t: t.__setitem__(flambeau.tensor([0, 9]), 5.0),
    "index_add_": lambda t: t.index_add_(0, flambeau.tensor([0, 9]), flambeau.ones(2, 2)),
    "index_fill_": lambda t: t.index_fill_(0, flambeau.tensor([9]), 5.0),
    "scatter_": lambda t: t.scatter_(0, flambeau.tensor([[9]]), 5.0),
    "scatter_add_": lambda t: t.scatter_add_(0, flambeau.tensor([[9]]), flambeau.ones(1, 1)),
    "add_ of a wrong read": lambda t: t.add_(flambeau.ones(2, 2)[flambeau.tensor([9, 0, 0])]),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_that_fails_leaves_the_target_and_others_as_they_were(name: str) -> None:
    target = flambeau.arange(6.0).reshape(3, 2).clone()
    held = target.numpy()
    other = flambeau.ones(3) * 2
    other.add_(1.0)
    with pytest.raises((IndexError, RuntimeError), match="index 9"):
        WRITES[name](target)
        target.sum().item()
    np.testing.assert_array_equal(held, np.arange(6.0).reshape(3, 2))
    assert target.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert other.tolist() == [3.0, 3.0, 3.0]
    target.add_(1.0)
    assert target.sum().item() == 21.0


def trained(batches: list[list[int]], optimizer: str) -> list[Any]:
    """Parameters after training on some batches of classes; batches that fail are left out."""
    flambeau.manual_seed(0)
    model = flambeau.nn.Sequential(flambeau.nn.Embedding(5, 4), flambeau.nn.Linear(4, 3))
    update = getattr(flambeau.optim, optimizer)(model.parameters(), lr=0.1)
    for tokens in batches:
        index = flambeau.tensor(tokens)
        try:
            loss = flambeau.nn.functional.cross_entropy(model(index), index % 3)
            update.zero_grad()
            loss.backward()
            loss.item()
        except IndexError:
            continue
        update.step()
    return [p.tolist() for p in model.parameters()]


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_training_goes_on_after_a_wrong_batch(optimizer: str) -> None:
    good = [[0, 1, 2], [3, 4, 0], [1, 1, 2]]
    with_wrong = [good[0], [0, 5, 1], good[1], [-1, 0, 0], good[2]]
    assert trained(with_wrong, optimizer) == trained(good, optimizer)


def stepped(optimizer: str, wrong: int | None) -> tuple[Any, Any]:
    """A parameter and its state after five steps, before the `wrong`th of which one fails."""
    flambeau.manual_seed(0)
    layer = flambeau.nn.Linear(4, 3, bias=False)
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    update = getattr(flambeau.optim, optimizer)(layer.parameters(), lr=0.1, **options)
    inputs = flambeau.linspace(-1, 1, 8).reshape(2, 4)
    for k in range(5):
        for target in ([0, 3], [1, 2]) if k == wrong else ([1, 2],):
            update.zero_grad()
            scores = layer(inputs * (k + 1))
            flambeau.nn.functional.cross_entropy(scores, flambeau.tensor(target)).backward()
            if 3 in target:
                with pytest.raises(IndexError, match="Target 3 is out of bounds"):
                    update.step()
            else:
                update.step()
    state = update.state[layer.weight]
    return layer.weight.tolist(), {
        k: v.tolist() if isinstance(v, flambeau.Tensor) else v for k, v in state.items()
    }


@pytest.mark.parametrize("wrong", [0, 3])
@pytest.mark.parametrize(
    "optimizer", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "ASGD", "Rprop"]
)
def test_a_step_that_fails_leaves_parameters_and_state_as_if_it_had_not_been(
    optimizer: str, wrong: int
) -> None:
    """Initial weights that were not computed yet, moments, and counts of steps."""
    assert stepped(optimizer, wrong) == stepped(optimizer, None)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_a_step_with_gradients_that_fail_changes_nothing(optimizer: str) -> None:
    layer = flambeau.nn.Linear(2, 3)
    update = getattr(flambeau.optim, optimizer)(layer.parameters(), lr=0.1)
    layer(flambeau.ones(2, 2)).sum().backward()
    update.step()
    before = [p.tolist() for p in layer.parameters()]
    update.zero_grad()
    target = flambeau.tensor([0, 3])
    with pytest.raises(IndexError, match="Target 3"):
        flambeau.nn.functional.cross_entropy(layer(flambeau.ones(2, 2)), target).backward()
        update.step()
        [p.tolist() for p in layer.parameters()]
    assert [p.tolist() for p in layer.parameters()] == before
    update.zero_grad()
    layer(flambeau.ones(2, 2)).sum().backward()
    update.step()
    after = [p.tolist() for p in layer.parameters()]
    assert after != before
    assert all(np.isfinite(np.array(value)).all() for value in after)


CACHED = """
import flambeau
x = flambeau.arange(100.0)
print((x * 3 + 1).sqrt().sum().item())
print((flambeau.ones(8, 8) @ flambeau.ones(8, 8)).sum().item())
"""


def test_a_corrupt_object_cache_is_rebuilt_in_silence(empty_cache: Path) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", CACHED],
            env=environment(FLAMBEAU_CACHE_DIR=str(empty_cache)),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )

    first = run()
    entries = [path for path in empty_cache.rglob("*") if path.is_file() and path.stat().st_size]
    assert entries
    sizes = {path: path.stat().st_size for path in entries}
    for k, path in enumerate(entries):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if k % 2 else bytes(len(data)))
    second = run()
    assert (second.stdout, second.stderr) == (first.stdout, "")
    assert {path: path.stat().st_size for path in entries} == sizes


LOOP = """
import flambeau
layer = flambeau.nn.Linear(64, 64)
update = flambeau.optim.Adam(layer.parameters(), lr=1e-3)
x = flambeau.randn(256, 64)
step = 0
try:
    while True:
        loss = (layer(x) - x).square().mean()
        update.zero_grad()
        loss.backward()
        update.step()
        step += 1
        if step == 5:
            print("started", flush=True)
except KeyboardInterrupt:
    finite = all(flambeau.isfinite(p).all().item() for p in layer.parameters())
    flambeau.save(layer.state_dict(), "last.pt")
    print("stopped", finite, set(flambeau.load("last.pt")) == {"weight", "bias"})
"""


def test_a_training_loop_can_be_interrupted_and_saved(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", LOOP],
        env=environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "started\n"
    time.sleep(0.2)
    os.kill(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert out == "stopped True True\n"
