"""Turning what a sampler yields into a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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

    def fetch(self, index: Any) -> Any:
        """The batch of an index or a list of them."""
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
