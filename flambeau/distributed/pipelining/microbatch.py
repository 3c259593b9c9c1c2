"""Batches as micro-batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flambeau.pytree import tree_flatten, tree_unflatten
from flambeau.tensor import Tensor


@dataclass(frozen=True)
class TensorChunkSpec:
    """A tensor is cut along a dimension.

    Attributes:
        split_dim: which one.
    """

    split_dim: int

    @staticmethod
    def from_tuple(chunk_dims: tuple[int, ...]) -> tuple[TensorChunkSpec, ...]:
        """One for each of some dimensions."""
        return tuple(map(TensorChunkSpec, chunk_dims))

    @staticmethod
    def from_dict(chunk_dims: dict[str, int]) -> dict[str, TensorChunkSpec]:
        """One for each of some dimensions, by name."""
        return {name: TensorChunkSpec(dim) for name, dim in chunk_dims.items()}


class _Replicate:
    """Every micro-batch gets all of it."""


def split_args_kwargs_into_chunks(
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    chunks: int,
    args_chunk_spec: Any = None,
    kwargs_chunk_spec: Any = None,
) -> tuple[list[tuple[Any, ...]], list[dict[str, Any]]]:
    """The arguments of each micro-batch.

    Args:
        chunks: how many there are.
        args_chunk_spec, kwargs_chunk_spec: how each argument is cut; None cuts tensors along
            dimension 0 and gives everything else to all.

    Raises:
        ValueError: a tensor cannot be cut into equal parts.
    """
    named = kwargs or {}
    specs = args_chunk_spec or (None,) * len(args)
    cut = [_cut(value, spec, chunks) for value, spec in zip(args, specs, strict=True)]
    by_name = {k: _cut(v, (kwargs_chunk_spec or {}).get(k), chunks) for k, v in named.items()}
    return (
        [tuple(parts[k] for parts in cut) for k in range(chunks)],
        [{name: parts[k] for name, parts in by_name.items()} for k in range(chunks)],
    )


def _cut(value: Any, spec: Any, chunks: int) -> list[Any]:
    """An argument, also tensors in containers, in parts."""
    leaves, tree = tree_flatten(value)
    if spec is _Replicate or isinstance(spec, _Replicate):
        return [value] * chunks
    dim = spec.split_dim if isinstance(spec, TensorChunkSpec) else 0
    columns = []
    for leaf in leaves:
        if not isinstance(leaf, Tensor) or not leaf.dim():
            columns.append([leaf] * chunks)
            continue
        size = leaf.shape[dim]
        if size % chunks:
            raise ValueError(f"a batch of {size} cannot be cut into {chunks} equal micro-batches")
        columns.append(list(leaf.chunk(chunks, dim)))
    return [tree_unflatten([column[k] for column in columns], tree) for k in range(chunks)]


__all__ = ["TensorChunkSpec", "split_args_kwargs_into_chunks"]
