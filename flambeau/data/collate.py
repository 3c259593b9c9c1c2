"""Making one batch of a list of samples."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

import flambeau
from flambeau.data.rows import stacked

_TEXT_OR_OBJECT = re.compile(r"[SaUO]")
default_collate_err_msg_format = (
    "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"
)


def default_convert(data: Any) -> Any:
    """NumPy arrays in a sample, however nested, as tensors; everything else as it is.

    Args:
        data: one sample. Mappings, named tuples and sequences keep their type, tuples become lists.
    """
    kind = type(data)
    if isinstance(data, flambeau.Tensor):
        return data
    if kind.__module__ == "numpy" and kind.__name__ not in ("str_", "bytes_"):
        if isinstance(data, np.ndarray) and _TEXT_OR_OBJECT.search(data.dtype.str):
            return data
        return flambeau.as_tensor(data)
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: default_convert(data[key]) for key in data})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return kind(*(default_convert(d) for d in data))
    if isinstance(data, tuple):
        return [default_convert(d) for d in data]
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _like_sequence(data, [default_convert(d) for d in data])
    return data


def _like_mapping(like: Any, items: dict[Any, Any]) -> Any:
    """The items in a mapping of the type (and with the attributes) of another."""
    try:
        if isinstance(like, MutableMapping):
            made = copy.copy(like)
            made.update(items)
            return made
        return type(like)(items)
    except TypeError:  # the type has no such constructor or cannot be copied
        return items


def _like_sequence(like: Any, items: list[Any]) -> Any:
    """The items in a sequence of the type (and with the attributes) of another."""
    try:
        if isinstance(like, MutableSequence):
            made = copy.copy(like)
            for i, item in enumerate(items):
                made[i] = item
            return made
        return type(like)(items)
    except TypeError:  # e.g. range: no assignment, another constructor
        return items


def collate(batch: Any, *, collate_fn_map: dict[Any, Callable[..., Any]] | None = None) -> Any:
    """One batch of a list of samples, by functions chosen by the samples' type.

    Args:
        batch: samples of the same structure.
        collate_fn_map: type (or tuple of types) -> function(batch, *, collate_fn_map). Exact types
            come first, then the first type a sample is an instance of. Containers that are not in
            it are entered.

    Raises:
        RuntimeError: sequences of different lengths.
        TypeError: there is no function for a type.
    """
    first = batch[0]
    kind = type(first)
    if collate_fn_map is not None:
        if kind in collate_fn_map:
            return collate_fn_map[kind](batch, collate_fn_map=collate_fn_map)
        for known in collate_fn_map:
            if isinstance(first, known):
                return collate_fn_map[known](batch, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        return _like_mapping(
            first,
            {key: collate([d[key] for d in batch], collate_fn_map=collate_fn_map) for key in first},
        )
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return kind(
            *(
                collate(samples, collate_fn_map=collate_fn_map)
                for samples in zip(*batch, strict=False)
            )
        )
    if isinstance(first, Sequence):
        if not all(len(sample) == len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [
            collate(samples, collate_fn_map=collate_fn_map) for samples in zip(*batch, strict=True)
        ]
        return columns if isinstance(first, tuple) else _like_sequence(first, columns)
    raise TypeError(default_collate_err_msg_format.format(kind))


def collate_tensor_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Tensors stacked along a new first dimension."""
    return stacked(batch)


def collate_numpy_array_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """NumPy arrays as one tensor with a new first dimension."""
    if _TEXT_OR_OBJECT.search(batch[0].dtype.str):
        raise TypeError(default_collate_err_msg_format.format(batch[0].dtype))
    if all(type(b) is np.ndarray and b.shape == batch[0].shape for b in batch):
        return flambeau.tensor(np.stack(batch))
    return collate([flambeau.as_tensor(b) for b in batch], collate_fn_map=collate_fn_map)


def collate_numpy_scalar_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """NumPy scalars as a 1-d tensor of their dtype."""
    return flambeau.as_tensor(np.asarray(batch))


def collate_float_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Python floats as a float64 tensor."""
    return flambeau.as_tensor(list(batch), dtype=flambeau.float64)


def collate_int_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Python ints as an int64 tensor, bools as a bool tensor."""
    return flambeau.as_tensor(list(batch))


def collate_str_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Strings as they are."""
    return batch


#: What `default_collate` does by type; add types of your own in place.
default_collate_fn_map: dict[Any, Callable[..., Any]] = {
    flambeau.Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}


def default_collate(batch: Any) -> Any:
    """One batch of a list of samples: tensors, arrays and numbers gain a first dimension.

    Args:
        batch: samples of the same structure: tensors, NumPy arrays, numbers, strings, and dicts,
            named tuples, tuples and lists of them.

    Returns:
        The same structure: tensors in place of tensors, arrays and numbers; lists of strings; lists
        in place of tuples.

    Raises:
        RuntimeError: sequences of different lengths, or tensors of different shapes.
        TypeError: samples of another type.

    Example:
        >>> batch = default_collate([{"A": 0, "B": "x"}, {"A": 100, "B": "y"}])
        >>> batch["A"].tolist(), batch["B"]
        ([0, 100], ['x', 'y'])
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)
