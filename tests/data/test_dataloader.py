"""DataLoader in one process: options, order, and what it checks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import data


class Stream(data.IterableDataset[int]):
    def __init__(self, length: int, told: int | None = None) -> None:
        self.length = length
        self.told = length if told is None else told

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.length))

    def __len__(self) -> int:
        return self.told


def lists(loader: data.DataLoader[Any]) -> list[Any]:
    return [batch.tolist() for batch in loader]


def test_batches() -> None:
    loader = data.DataLoader(range(7), batch_size=3)
    assert lists(loader) == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(loader) == 3
    loader = data.DataLoader(range(7), batch_size=3, drop_last=True)
    assert lists(loader) == [[0, 1, 2], [3, 4, 5]]
    assert len(loader) == 2


def test_without_batches() -> None:
    dataset = data.TensorDataset(flambeau.arange(3))
    assert [x.tolist() for (x,) in data.DataLoader(dataset, batch_size=None)] == [0, 1, 2]
    found = list(data.DataLoader([np.ones(2), "a"], batch_size=None))
    assert found[0].tolist() == [1.0, 1.0]
    assert found[1] == "a"


def test_shuffling() -> None:
    def order(seed: int) -> list[int]:
        generator = flambeau.Generator().manual_seed(seed)
        loader = data.DataLoader(range(40), batch_size=4, shuffle=True, generator=generator)
        return [i for batch in lists(loader) for i in batch]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(40))
    loader = data.DataLoader(range(40), batch_size=40, shuffle=True)
    assert lists(loader) != lists(loader)


def test_samplers() -> None:
    assert lists(data.DataLoader(range(9), sampler=[8, 3], batch_size=2)) == [[8, 3]]
    loader = data.DataLoader(range(9), batch_sampler=[[0, 1], [5]])
    assert lists(loader) == [[0, 1], [5]]
    assert len(loader) == 2
    assert loader.batch_size is None


def test_whole_batches_at_once() -> None:
    class Batched(data.Dataset[Any]):
        def __getitems__(self, indices: list[int]) -> list[int]:
            return [-i for i in indices]

        def __len__(self) -> int:
            return 4

    assert lists(data.DataLoader(Batched(), batch_size=3)) == [[0, -1, -2], [-3]]


def test_collate_fn() -> None:
    loader = data.DataLoader(range(5), batch_size=2, collate_fn=sum)
    assert list(loader) == [1, 5, 4]


class TestStreams:
    def test_batches(self) -> None:
        assert lists(data.DataLoader(Stream(5), batch_size=2)) == [[0, 1], [2, 3], [4]]
        assert lists(data.DataLoader(Stream(5), batch_size=2, drop_last=True)) == [[0, 1], [2, 3]]
        assert list(data.DataLoader(Stream(3), batch_size=None)) == [0, 1, 2]
        assert list(data.DataLoader(Stream(0))) == []

    @pytest.mark.parametrize(
        ("batch_size", "drop_last", "length"), [(2, False, 3), (2, True, 2), (None, False, 5)]
    )
    def test_length(self, batch_size: Any, drop_last: bool, length: int) -> None:
        loader = data.DataLoader(Stream(5), batch_size=batch_size, drop_last=drop_last)
        assert len(loader) == length

    def test_more_than_it_said(self) -> None:
        loader = data.DataLoader(Stream(4, told=2), batch_size=None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            list(loader)  # nobody asked for the length
        assert len(loader) == 2
        with pytest.warns(UserWarning, match=r"was reported to be 2.*but \d samples"):
            list(loader)

    def test_options_that_make_no_sense(self) -> None:
        head = "DataLoader with IterableDataset: expected unspecified "
        for options, rest in (
            ({"shuffle": True}, "shuffle option, but got shuffle=True"),
            ({"sampler": [0]}, r"sampler option, but got sampler=\[0\]"),
            ({"batch_sampler": [[0]]}, r"batch_sampler option, but got batch_sampler=\[\[0\]\]"),
        ):
            with pytest.raises(ValueError, match=head + rest):
                data.DataLoader(Stream(3), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": -1}, "num_workers option should be non-negative"),
        ({"timeout": -1}, "timeout option should be non-negative"),
        ({"prefetch_factor": 2}, "prefetch_factor option could only be specified in multiproc"),
        ({"num_workers": 1, "prefetch_factor": -1}, "prefetch_factor option should be non-neg"),
        ({"persistent_workers": True}, "persistent_workers option needs num_workers > 0"),
        ({"sampler": [0], "shuffle": True}, "sampler option is mutually exclusive with shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler option is mutually exclusive"),
        ({"batch_sampler": [[0]], "drop_last": True}, "batch_sampler option is mutually excl"),
        ({"batch_size": None, "drop_last": True}, "batch_size=None option disables auto-batch"),
        ({"batch_size": 0}, "batch_size should be a positive integer value"),
        ({"multiprocessing_context": "fork"}, "can only be used with multi-process loading"),
        (
            {"num_workers": 1, "multiprocessing_context": "no"},
            "should specify a valid start method",
        ),
    ],
    ids=str,
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.DataLoader(range(3), **options)


def test_a_context_that_is_none() -> None:
    with pytest.raises(TypeError, match="should be a valid context object or a string"):
        data.DataLoader(range(3), num_workers=1, multiprocessing_context=3)


def test_what_is_fixed_once_it_is_made() -> None:
    loader = data.DataLoader(range(3))
    for name in ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset"):
        with pytest.raises(ValueError, match=f"{name} attribute should not be set after"):
            setattr(loader, name, None)
    loader.collate_fn = list
    assert list(loader) == [[0], [1], [2]]


def test_pinning_without_an_accelerator() -> None:
    loader = data.DataLoader(range(3), pin_memory=True)
    with pytest.warns(UserWarning, match="no accelerator is found"):
        assert lists(loader) == [[0], [1], [2]]


def test_more_workers_than_processors() -> None:
    with pytest.warns(UserWarning, match="This DataLoader will create 1000 worker processes"):
        data.DataLoader(range(3), num_workers=1000)


def test_errors_come_as_they_are() -> None:
    class Bad(data.Dataset[Any]):
        def __getitem__(self, index: int) -> Any:
            raise KeyError(index)

        def __len__(self) -> int:
            return 2

    with pytest.raises(KeyError, match=r"^0$"):
        next(iter(data.DataLoader(Bad())))
