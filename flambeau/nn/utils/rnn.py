"""Sequences of different lengths as one tensor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau
from flambeau.tensor import Tensor


def pad_sequence(
    sequences: Tensor | Iterable[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences stacked, the shorter ones filled up to the longest.

    Args:
        sequences: tensors (L_i, *), equal in all dimensions but the first.
        batch_first: whether the result is (B, L, *) and not (L, B, *).
        padding_value: what the shorter ones are filled with.
        padding_side: "right" or "left".

    Returns:
        A tensor of the first sequence's dtype, L being the longest length.

    Raises:
        RuntimeError: no sequences, sequences that differ in other dimensions, or another side.

    Example:
        >>> pad_sequence([flambeau.ones(2), flambeau.ones(1)], batch_first=True).tolist()
        [[1.0, 1.0], [1.0, 0.0]]
    """
    if isinstance(sequences, Tensor):
        sequences = sequences.unbind(0)
    elif not isinstance(sequences, Iterable):
        raise RuntimeError(
            "pad_sequence: Expected iterable for input sequences, but got arg of type: "
            f"{type(sequences)}"
        )
    given: list[Any] = list(sequences)
    if not given:
        raise RuntimeError("received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise RuntimeError(
            f"Expected padding_side to be one of left or right, but got {padding_side}."
        )
    rest = given[0].shape[1:]
    for sequence in given:
        if sequence.shape[1:] != rest:
            raise RuntimeError(
                "pad_sequence: all sequences must have the same trailing dimensions, got "
                f"{list(given[0].shape)} and {list(sequence.shape)}"
            )
    longest = max(len(sequence) for sequence in given)
    rows = []
    for sequence in given:
        missing = (longest - len(sequence), *rest)
        filling = flambeau.full(
            missing, padding_value, dtype=sequence.dtype, device=sequence.device
        )
        rows.append(
            flambeau.cat((filling, sequence) if padding_side == "left" else (sequence, filling))
            if missing[0]
            else sequence
        )
    return flambeau.stack(rows, dim=0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False
) -> list[Tensor]:
    """The sequences of a padded tensor, cut to their lengths.

    Args:
        padded_sequences: (L, B, *), or (B, L, *) with `batch_first`.
        lengths: the length of each sequence, integers (B,).

    Returns:
        One tensor (lengths[i], *) per sequence.
    """
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [row[:length] for row, length in zip(padded_sequences, lengths.tolist(), strict=True)]


__all__ = ["pad_sequence", "unpad_sequence"]
