"""Shares of a dataset between processes, and batches made without their samples."""

import numpy as np
import pytest

import flambeau as fl
from flambeau.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    Subset,
    TensorDataset,
    default_collate,
)


@pytest.mark.parametrize("n", [1, 5, 8, 9])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_shares_are_equal_and_cover_everything(n, drop_last, shuffle):
    samplers = [
        DistributedSampler(range(n), 4, rank, shuffle, seed=3, drop_last=drop_last)
        for rank in range(4)
    ]
    shares = [list(s) for s in samplers]
    assert {len(s) for s in shares} == {len(samplers[0])} == {n // 4 if drop_last else -(-n // 4)}
    seen = [i for share in shares for i in share]
    if drop_last:
        assert len(set(seen)) == len(seen)
    else:
        assert set(seen) == set(range(n))
    assert shares == [list(s) for s in samplers]


def test_epochs_differ_and_ranks_are_checked():
    sampler = DistributedSampler(range(50), 2, 1)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    with pytest.raises(ValueError, match=r"Invalid rank 2, rank should be in the interval"):
        DistributedSampler(range(5), 2, 2)


class Rows(Dataset):
    """A dataset that indexes tensors itself."""

    def __init__(self, *tensors):
        self.tensors = tensors

    def __getitem__(self, index):
        return tuple(t[index] for t in self.tensors)

    def __len__(self):
        return len(self.tensors[0])


@pytest.mark.parametrize("dtype", ["float32", "int64", "bfloat16", "bool"])
def test_batches_are_those_of_the_samples(dtype, rng):
    x = fl.tensor(rng.normal(size=(9, 2, 3))).to(getattr(fl, dtype))
    y, nothing = fl.arange(9), fl.zeros(9, 0)
    views = (x, y, nothing, x[:, 1], x.transpose(1, 2))
    fl.stack([x[0], x[1]]).tolist()
    for dataset in (TensorDataset(*views), Rows(*views), Subset(TensorDataset(*views), range(9))):
        for k, batch in enumerate(DataLoader(dataset, batch_size=4)):
            for found, whole in zip(batch, views, strict=True):
                part = whole[4 * k : 4 * k + 4]
                assert found.dtype is whole.dtype
                assert found.tolist() == part.tolist()


def test_batches_own_their_memory_and_follow_writes():
    x = fl.zeros(4, 2)
    x.tolist()
    batch = default_collate([x[0], x[1]])
    x[0] = 5
    assert batch.tolist() == [[0, 0], [0, 0]]
    assert default_collate([x[0], x[1]]).tolist() == [[5, 5], [0, 0]]
    batch.add_(1)
    assert x[1].tolist() == [0, 0]


def test_gradients_flow_through_a_batch():
    x = fl.ones(3, 2, requires_grad=True)
    default_collate([x[0] * 2, x[2]]).sum().backward()
    assert x.grad.tolist() == [[2, 2], [0, 0], [1, 1]]


def test_a_subclass_with_samples_of_its_own_is_asked():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)[0] * 2

    loader = DataLoader(Doubled(fl.arange(4)), batch_size=4)
    assert next(iter(loader)).tolist() == [0, 2, 4, 6]


def test_an_index_out_of_range_is_told():
    with pytest.raises(IndexError, match="out of bounds for dimension 0 with size 3"):
        next(iter(DataLoader(TensorDataset(fl.arange(3)), sampler=[0, 7], batch_size=2)))


def test_arrays_of_different_shapes_are_refused():
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        default_collate([np.zeros(2), np.zeros(3)])
