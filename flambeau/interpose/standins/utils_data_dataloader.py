"""``torch.utils.data.dataloader``: the iterators, under torch's names."""

from __future__ import annotations

from flambeau.data.dataloader import MultiProcessingIterator, SingleProcessIterator, _Iterator

_BaseDataLoaderIter = _Iterator
_SingleProcessDataLoaderIter = SingleProcessIterator
_MultiProcessingDataLoaderIter = MultiProcessingIterator
