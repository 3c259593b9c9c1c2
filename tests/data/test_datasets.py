"""Datasets, samplers and collation."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import data


class Squares(data.Dataset[int]):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return index * index


class Batched(Squares):
    def __getitems__(self, indices: list[int]) -> list[int]:
        return [i * i for i in indices]


class Stream(data.IterableDataset[int]):
    def __init__(self, *values: int) -> None:
        self.values = values

    def __iter__(self) -> Iterator[int]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)


class TestDatasets:
    def test_tensors(self) -> None:
        x, y = flambeau.arange(6.0).reshape(3, 2), flambeau.arange(3)
        dataset = data.TensorDataset(x, y)
        assert len(dataset) == 3
        assert [t.tolist() for t in dataset[1]] == [[2.0, 3.0], 1]
        with pytest.raises(AssertionError, match="Size mismatch between tensors"):
            data.TensorDataset(x, flambeau.arange(4))

    def test_side_by_side(self) -> None:
        pairs = data.StackDataset(Squares(3), Batched(3))
        assert pairs[2] == (4, 4)
        assert len(pairs) == 3
        assert pairs.__getitems__([0, 2]) == [(0, 0), (4, 4)]
        named = data.StackDataset(a=Squares(3), b=Batched(3))
        assert named[2] == {"a": 4, "b": 4}
        assert named.__getitems__([1, 2]) == [{"a": 1, "b": 1}, {"a": 4, "b": 4}]
        with pytest.raises(ValueError, match="Size mismatch between datasets"):
            data.StackDataset(Squares(3), Squares(4))
        with pytest.raises(ValueError, match="At least one dataset"):
            data.StackDataset()
        with pytest.raises(ValueError, match="both types are given"):
            data.StackDataset(Squares(3), a=Squares(3))

    def test_a_batch_of_another_length(self) -> None:
        class Short(Squares):
            def __getitems__(self, indices: list[int]) -> list[int]:
                return [0]

        with pytest.raises(ValueError, match="Expected 2, got 1"):
            data.StackDataset(Short(3)).__getitems__([0, 1])

    def test_one_after_the_other(self) -> None:
        both = Squares(2) + Squares(3)
        assert isinstance(both, data.ConcatDataset)
        assert [both[i] for i in range(-5, 5)] == [0, 1, 0, 1, 4] * 2
        assert both.cumulative_sizes == [2, 5]
        with pytest.raises(ValueError, match="should not exceed dataset length"):
            both[-6]
        with pytest.raises(IndexError):
            both[5]
        with pytest.raises(AssertionError, match="should not be an empty iterable"):
            data.ConcatDataset([])
        with pytest.raises(AssertionError, match="does not support IterableDataset"):
            data.ConcatDataset([Stream()])

    def test_streams(self) -> None:
        chained = Stream(1, 2) + Stream(3)
        assert isinstance(chained, data.ChainDataset)
        assert list(chained) == [1, 2, 3]
        assert len(chained) == 3
        with pytest.raises(AssertionError, match="only supports IterableDataset"):
            list(data.ChainDataset([Squares(2)]))

    def test_subsets(self) -> None:
        for whole in (Squares(5), Batched(5)):
            part = data.Subset(whole, [4, 1])
            assert len(part) == 2
            assert part[0] == 16
            assert part.__getitems__([1, 0]) == [1, 16]

        class Changed(data.Subset[int]):
            def __getitem__(self, index: Any) -> Any:
                return 0

        with pytest.raises(NotImplementedError, match="overrides __getitem__ but not"):
            Changed(Squares(3), [0])

    def test_random_split(self) -> None:
        generator = flambeau.Generator()
        parts = data.random_split(range(10), [3, 7], generator=generator.manual_seed(1))
        again = data.random_split(range(10), [3, 7], generator=generator.manual_seed(1))
        assert [list(p.indices) for p in parts] == [list(p.indices) for p in again]
        assert sorted(i for p in parts for i in p.indices) == list(range(10))
        lengths = [len(p) for p in data.random_split(range(11), [0.5, 0.3, 0.2])]
        assert lengths == [6, 3, 2]  # what is left over goes to the first parts
        with pytest.raises(ValueError, match="Sum of input lengths"):
            data.random_split(range(10), [3, 6])
        with pytest.raises(ValueError, match="Fraction at index 0 is not between"):
            data.random_split(range(10), [-0.5, 1.5])
        with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
            data.random_split(range(1), [0.5, 0.5])

    def test_abstract_methods(self) -> None:
        with pytest.raises(NotImplementedError, match="should implement __getitem__"):
            data.Dataset()[0]
        with pytest.raises(NotImplementedError, match="should implement __iter__"):
            iter(data.IterableDataset())
        with pytest.raises(NotImplementedError):
            iter(data.Sampler())


class TestSamplers:
    def test_in_order(self) -> None:
        sampler = data.SequentialSampler(range(4))
        assert list(sampler) == [0, 1, 2, 3]
        assert len(sampler) == 4

    def test_at_random(self) -> None:
        sampler = data.RandomSampler(range(100))
        first, second = list(sampler), list(sampler)
        assert sorted(first) == sorted(second) == list(range(100))
        assert first != second

    def test_a_seed_decides(self) -> None:
        orders = []
        for _ in range(2):
            flambeau.manual_seed(3)
            orders.append(list(data.RandomSampler(range(50))))
        assert orders[0] == orders[1]
        for _ in range(2):
            generator = flambeau.Generator().manual_seed(7)
            orders.append(list(data.RandomSampler(range(50), generator=generator)))
        assert orders[2] == orders[3] != orders[0]

    @pytest.mark.parametrize("count", [1, 32, 70])
    def test_with_replacement(self, count: int) -> None:
        drawn = list(data.RandomSampler(range(3), replacement=True, num_samples=count))
        assert len(drawn) == count
        assert set(drawn) <= {0, 1, 2}

    def test_more_than_there_are(self) -> None:
        drawn = list(data.RandomSampler(range(4), num_samples=10))
        assert sorted(drawn[:4]) == sorted(drawn[4:8]) == [0, 1, 2, 3]
        assert len(set(drawn[8:])) == 2
        assert len(set(data.RandomSampler(range(100), num_samples=10))) == 10

    def test_nothing_to_sample(self) -> None:
        message = "num_samples should be a positive integer value, but got num_samples=0"
        with pytest.raises(ValueError, match=message):
            data.RandomSampler([])
        with pytest.raises(ValueError, match=message):
            data.DataLoader([], shuffle=True)
        assert list(data.DataLoader([])) == []

    def test_of_a_subset(self) -> None:
        sampler = data.SubsetRandomSampler([5, 7, 9])
        assert sorted(sampler) == [5, 7, 9]
        assert len(sampler) == 3

    def test_weighted(self) -> None:
        weights = [0.0, 1.0, 3.0]
        drawn = list(data.WeightedRandomSampler(weights, 4000))
        counts = np.bincount(drawn, minlength=3)
        assert counts[0] == 0
        assert abs(counts[2] / 4000 - 0.75) < 0.05
        assert sorted(data.WeightedRandomSampler([1.0, 2.0, 3.0], 3, replacement=False)) == [
            0,
            1,
            2,
        ]
        with pytest.raises(ValueError, match=r"weights have shape \(2, 1\)"):
            data.WeightedRandomSampler([[1.0], [2.0]], 1)
        with pytest.raises(ValueError, match="num_samples=True"):
            data.WeightedRandomSampler(weights, True)
        with pytest.raises(ValueError, match="replacement should be a boolean"):
            data.WeightedRandomSampler(weights, 1, replacement=1)

    def test_batches(self) -> None:
        sampler = data.SequentialSampler(range(10))
        whole = data.BatchSampler(sampler, 4, False)
        assert list(whole) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert len(whole) == 3
        cut = data.BatchSampler(sampler, 4, True)
        assert list(cut) == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert len(cut) == 2
        assert list(data.BatchSampler(iter("abc"), 2, False)) == [["a", "b"], ["c"]]
        for size in (0, -1, 1.5, True):
            with pytest.raises(ValueError, match="batch_size should be a positive integer"):
                data.BatchSampler(sampler, size, False)
        with pytest.raises(ValueError, match="drop_last should be a boolean"):
            data.BatchSampler(sampler, 2, 1)

    def test_arguments(self) -> None:
        with pytest.raises(TypeError, match="replacement should be a boolean value"):
            data.RandomSampler(range(3), replacement=1)


Point = collections.namedtuple("Point", "x y")


class Attributed(dict):
    """A mapping with an attribute that must survive."""

    label = ""


class TestCollate:
    def test_tensors(self) -> None:
        found = data.default_collate([flambeau.ones(2, 3), flambeau.zeros(2, 3)])
        assert tuple(found.shape) == (2, 2, 3)
        assert found[1].sum().item() == 0

    @pytest.mark.parametrize(
        ("batch", "dtype", "values"),
        [
            ([1, 2], "int64", [1, 2]),
            ([1.5, 2.0], "float64", [1.5, 2.0]),
            ([True, False], "bool", [True, False]),
            ([np.float32(1.0), np.float32(2.0)], "float32", [1.0, 2.0]),
            ([np.int16(1), np.int16(2)], "int16", [1, 2]),
            ([np.bool_(True)], "bool", [True]),
            ([np.arange(2), np.arange(2)], "int64", [[0, 1], [0, 1]]),
            ([np.array(1.0), np.array(2.0)], "float64", [1.0, 2.0]),
        ],
    )
    def test_numbers(self, batch: Any, dtype: str, values: Any) -> None:
        found = data.default_collate(batch)
        assert found.dtype is getattr(flambeau, dtype)
        assert found.tolist() == values

    def test_strings(self) -> None:
        assert data.default_collate(["a", "b"]) == ["a", "b"]
        assert data.default_collate([b"a", b"b"]) == [b"a", b"b"]

    def test_containers(self) -> None:
        found = data.default_collate([{"A": 0, "B": ["x", 1.0]}, {"A": 100, "B": ["y", 2.0]}])
        assert found["A"].tolist() == [0, 100]
        assert list(found["B"][0]) == ["x", "y"]
        assert found["B"][1].tolist() == [1.0, 2.0]
        point = data.default_collate([Point(1, 2), Point(3, 4)])
        assert type(point) is Point
        assert point.x.tolist() == [1, 3]
        rows = data.default_collate([(0, 1), (2, 3)])
        assert type(rows) is list
        assert rows[0].tolist() == [0, 2]
        ordered = data.default_collate([collections.OrderedDict(b=1, a=2)] * 2)
        assert type(ordered) is collections.OrderedDict
        assert list(ordered) == ["b", "a"]

    def test_a_mapping_keeps_its_attributes(self) -> None:
        sample = Attributed(a=1)
        sample.label = "kept"
        found = data.default_collate([sample, sample])
        assert type(found) is Attributed
        assert found.label == "kept"
        assert data.default_convert(sample).label == "kept"

    def test_the_samples_are_not_changed(self) -> None:
        sample = {"a": 1, "b": [1, 2]}
        data.default_collate([sample, sample])
        assert sample == {"a": 1, "b": [1, 2]}

    def test_refused(self) -> None:
        message = (
            "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
            "found <class 'object'>"
        )
        with pytest.raises(TypeError, match=message):
            data.default_collate([object()])
        with pytest.raises(TypeError, match="found <U1"):
            data.default_collate([np.array(["a"])])
        with pytest.raises(TypeError, match="found object"):
            data.default_collate([np.array([None])])
        with pytest.raises(RuntimeError, match="each element in list of batch should be of eq"):
            data.default_collate([[1, 2], [1]])
        with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
            data.default_collate([flambeau.ones(2), flambeau.ones(3)])

    def test_a_type_of_ones_own(self) -> None:
        class Word(str):
            pass

        table = {**data.default_collate_fn_map, Word: lambda b, *, collate_fn_map: len(b)}
        assert data.collate([(Word("a"), 1)] * 3, collate_fn_map=table)[0] == 3

    def test_convert(self) -> None:
        found = data.default_convert([np.arange(2), {"a": np.float32(1)}, (np.ones(1), "x"), 3])
        assert found[0].tolist() == [0, 1]
        assert found[1]["a"].item() == 1.0
        assert type(found[2]) is list
        assert found[2][1] == "x"
        assert found[3] == 3
        text = np.array(["a"])
        assert data.default_convert(text) is text
        point = data.default_convert(Point(np.array(0), 1))
        assert type(point) is Point
        assert point.x.item() == 0
        value = flambeau.ones(2)
        assert data.default_convert(value) is value
        assert list(data.default_convert(range(2))) == [0, 1]
