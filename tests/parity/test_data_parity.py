"""torch.utils.data and flambeau.data: the same signature, batches, seeds and messages."""

from __future__ import annotations

import collections
import inspect
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import data
from flambeau.data.worker import seed_state

torch = pytest.importorskip("torch")
theirs = torch.utils.data

THING = object()  # of a type that no library collates
Point = collections.namedtuple("Point", "x y")


def plain(value: Any) -> Any:
    """A batch of either library without tensors, with the types of everything."""
    if isinstance(value, (torch.Tensor, flambeau.Tensor)):
        return (str(value.dtype).rpartition(".")[2], tuple(value.shape), value.tolist())
    if isinstance(value, dict):
        return type(value), {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value


def samples(library: Any) -> list[Any]:
    """Lists of samples to collate."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    return [
        [library.ones(2), library.zeros(2)],
        [array, array + 1],
        [np.int8(1), np.int8(2)],
        [np.float64(1.0), np.float64(2.0)],
        [np.array(1), np.array(2)],
        [1, 2],
        [True, False],
        [1.0, 2.0],
        ["a", "b"],
        [b"a", b"b"],
        [(1, 2.0), (3, 4.0)],
        [[1, "a"], [2, "b"]],
        [{"x": 1, "y": (2, 3)}] * 2,
        [collections.OrderedDict(b=1, a=2)] * 2,
        [Point(1, array), Point(2, array)],
        [range(3), range(3)],
        # errors
        [THING],
        [np.array(["a"])],
        [[1], [1, 2]],
        [library.ones(2), library.zeros(3)],
        [None, None],
    ]


def outcome(function: Any, *args: Any) -> Any:
    try:
        return plain(function(*args))
    except (TypeError, RuntimeError) as error:
        return type(error), str(error)


def test_collate_and_convert() -> None:
    for ours, other in zip(samples(flambeau), samples(torch), strict=True):
        for name in ("default_collate", "default_convert"):
            found = outcome(getattr(data, name), ours)
            expected = outcome(getattr(theirs, name), other)
            assert found == expected


def test_the_loaders_signature() -> None:
    def options(cls: Any) -> list[tuple[str, Any, Any]]:
        parameters = inspect.signature(cls.__init__).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    assert options(data.DataLoader) == options(theirs.DataLoader)
    for name in ("RandomSampler", "WeightedRandomSampler", "BatchSampler", "SubsetRandomSampler"):
        assert options(getattr(data, name)) == options(getattr(theirs, name))


def test_public_names() -> None:
    later = {"DistributedSampler", "DFIterDataPipe", "DataChunk", "IterDataPipe", "MapDataPipe"}
    others = {"argument_validation", "functional_datapipe", "guaranteed_datapipes_determinism"}
    others |= {"non_deterministic", "runtime_validation", "runtime_validation_disabled"}
    public = {name for name in theirs.__all__ if not name.startswith("_")}
    missing = public - set(data.__all__) - later - others
    assert not missing


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": -1},
        {"timeout": -1},
        {"prefetch_factor": 2},
        {"persistent_workers": True},
        {"num_workers": 1, "prefetch_factor": -1},
        {"sampler": [0], "shuffle": True},
        {"batch_sampler": [[0]], "batch_size": 2},
        {"batch_size": None, "drop_last": True},
        {"batch_size": 0},
        {"drop_last": 1},
        {"num_workers": 1, "multiprocessing_context": "no"},
        {"num_workers": 1, "multiprocessing_context": 3},
        {"multiprocessing_context": "fork"},
    ],
    ids=str,
)
def test_messages_about_options(options: dict[str, Any]) -> None:
    messages = []
    for library in (data, theirs):
        with pytest.raises((ValueError, TypeError)) as caught:
            library.DataLoader(range(3), **options)
        messages.append((caught.type, str(caught.value)))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"sampler": [0]}], ids=str)
def test_messages_about_streams(options: dict[str, Any]) -> None:
    messages = []
    for library in (data, theirs):
        stream = library.ChainDataset([])
        try:
            library.DataLoader(stream, **options)
            messages.append("")
        except ValueError as error:
            messages.append(str(error))
    assert messages[0] == messages[1]


def test_empty_datasets() -> None:
    messages = []
    for library in (data, theirs):
        with pytest.raises(ValueError, match="num_samples=0") as caught:
            library.DataLoader([], shuffle=True)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_numpys_seed() -> None:
    from_torch = torch.utils.data._utils.worker._generate_state
    for base in (0, 12345, 2**63 - 1):
        for worker in (0, 1, 7):
            assert list(seed_state(base, worker)) == from_torch(base, worker)


class Failing:
    """A dataset whose third sample is an error."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if index == 2:
            raise KeyError("missing")
        return index


def test_errors_from_workers() -> None:
    lines = []
    for library in (data, theirs):
        with pytest.raises(KeyError) as caught:
            list(library.DataLoader(Failing(), num_workers=1))
        text = str(caught.value).splitlines()
        lines.append((text[:2], text[-1]))
    assert lines[0] == lines[1]
