"""Turning what a sampler yields into a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.data.collate import collate_tensor_fn, default_collate, default_collate_fn_map
from flambeau.data.dataset import Subset, TensorDataset
from flambeau.data.rows import taken
from flambeau.tensor import Tensor


def columns(dataset: Any) -> Callable[[list[int]], list[Any]] | None:
    """What makes the default batch of a list of indices without its samples, if anything does."""
    kind = type(dataset)
    if isinstance(dataset, TensorDataset):
        if kind.__getitem__ is not TensorDataset.__getitem__ or hasattr(kind, "__getitems__"):
            return None
        return lambda indices: [taken(tensor, indices) for tensor in dataset.tensors]
    if isinstance(dataset, Subset):
        whole = columns(dataset.dataset)
        same = kind.__getitem__ is Subset.__getitem__ and kind.__getitems__ is Subset.__getitems__
        if whole is not None and same:
            return lambda indices: whole([dataset.indices[i] for i in indices])
    return None


class MapFetcher:
    """Batches of a map-style dataset.

    Args:
        dataset: looked up by index.
        auto_collation: whether an index is a list of indices.
        collate_fn: makes a batch of the samples (or of one sample).
    """

    def __init__(
        self, dataset: Any, auto_collation: bool, collate_fn: Callable[[Any], Any], drop_last: bool
    ) -> None:
        self.dataset = dataset
        self.auto_collation = auto_collation
        self.collate_fn = collate_fn
        plain = default_collate_fn_map.get(Tensor) is collate_tensor_fn
        self.columns = columns(dataset) if collate_fn is default_collate and plain else None

    def fetch(self, index: Any) -> Any:
        """The batch of an index or a list of them."""
        if self.auto_collation and self.columns is not None:
            return self.columns(index)
        if not self.auto_collation:
            return self.collate_fn(self.dataset[index])
        if getattr(self.dataset, "__getitems__", None):
            return self.collate_fn(self.dataset.__getitems__(index))
        return self.collate_fn([self.dataset[i] for i in index])


class IterableFetcher:
    """Batches of a stream.

    Args:
        dataset: iterated over once.
        auto_collation: whether samples are batched.
        collate_fn: makes a batch of the samples (or of one sample).
        drop_last: leave out a last batch that is not full.
    """

    def __init__(
        self, dataset: Any, auto_collation: bool, collate_fn: Callable[[Any], Any], drop_last: bool
    ) -> None:
        self._samples = iter(dataset)
        self.auto_collation = auto_collation
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.ended = False

    def fetch(self, index: Any) -> Any:
        """The next batch, of as many samples as `index` is long.

        Raises:
            StopIteration: the stream has ended.
        """
        if self.ended:
            raise StopIteration
        if not self.auto_collation:
            return self.collate_fn(next(self._samples))
        samples = []
        for _ in index:
            try:
                samples.append(next(self._samples))
            except StopIteration:
                self.ended = True
                break
        if not samples or (self.drop_last and len(samples) < len(index)):
            raise StopIteration
        return self.collate_fn(samples)
