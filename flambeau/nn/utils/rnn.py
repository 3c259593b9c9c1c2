"""Sequences of different lengths as one tensor: padded, or packed step by step.

Note [Packing without values]
A graph has no tensors whose size depends on values, and so none of packed rows when a program is
exported with lengths among its inputs. There a packed sequence is the padded one, `data` of shape
(T, B, *), with the lengths (B) as its `batch_sizes`; recurrent modules take them as such, and what
is unpacked has the padding it came with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

import flambeau
from flambeau.control import without_value
from flambeau.ops.recurrent import packed_places
from flambeau.tensor import Tensor


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """Sequences of different lengths, the rows of one step after another.

    Made by `pack_sequence` and `pack_padded_sequence`; recurrent modules take and give it.

    Attributes:
        data: (sum of lengths, *): all first steps of the sequences, longest first, then all second
            ones, and so on.
        batch_sizes: (T) int64, on the CPU: how many sequences have each step.
            (While a program is exported: Note [Packing without values].)
        sorted_indices: (B) the original place of each sequence, or None where they were sorted.
        unsorted_indices: (B) the inverse of that.
    """

    def __new__(
        cls,
        data: Any,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        """Take the parts; `unsorted_indices` follows from `sorted_indices`."""
        if batch_sizes is None:
            if not isinstance(data, (list, tuple)) or len(data) != 2:
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        elif batch_sizes.device.type != "cpu":
            raise ValueError(
                "batch_sizes should always be on CPU. Instances of PackedSequence should never be "
                "created manually. They should be instantiated by functions like pack_sequence "
                "and pack_padded_sequences in nn.utils.rnn."
            )
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def _with(self, convert: Callable[[Tensor], Tensor], data: Tensor) -> PackedSequence:
        if data is self.data:
            return self
        order, back = (
            None if t is None else convert(t) for t in (self.sorted_indices, self.unsorted_indices)
        )
        return type(self)(data, self.batch_sizes, order, back)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """`data` converted as by `Tensor.to`; indices only move to its device."""
        data = self.data.to(*args, **kwargs)
        return self._with(lambda t: t.to(data.device), data)

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """On the current CUDA device."""
        data = self.data.cuda(*args, **kwargs)
        return self._with(lambda t: t.to(data.device), data)

    def cpu(self) -> PackedSequence:
        """On the CPU."""
        return self._with(lambda t: t.cpu(), self.data.cpu())

    def pin_memory(self) -> PackedSequence:
        """In page-locked memory, where the device has such."""
        return self._with(lambda t: t.pin_memory(), self.data.pin_memory())

    def double(self) -> PackedSequence:
        """With float64 data."""
        return self.to(dtype=flambeau.float64)

    def float(self) -> PackedSequence:
        """With float32 data."""
        return self.to(dtype=flambeau.float32)

    def half(self) -> PackedSequence:
        """With float16 data."""
        return self.to(dtype=flambeau.float16)

    def long(self) -> PackedSequence:
        """With int64 data."""
        return self.to(dtype=flambeau.int64)

    def int(self) -> PackedSequence:
        """With int32 data."""
        return self.to(dtype=flambeau.int32)

    def short(self) -> PackedSequence:
        """With int16 data."""
        return self.to(dtype=flambeau.int16)

    def char(self) -> PackedSequence:
        """With int8 data."""
        return self.to(dtype=flambeau.int8)

    def byte(self) -> PackedSequence:
        """With uint8 data."""
        return self.to(dtype=flambeau.uint8)

    @property
    def is_cuda(self) -> bool:
        """Whether the data are on a CUDA device."""
        return self.data.is_cuda

    def is_pinned(self) -> bool:
        """Whether the data are in page-locked memory."""
        return self.data.is_pinned()


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The inverse of a 1-D permutation; None of None."""
    if permutation is None:
        return None
    places = flambeau.arange(permutation.numel(), device=permutation.device)
    return flambeau.empty_like(permutation).scatter_(0, permutation, places.to(permutation.dtype))


def _batch_sizes(lengths: Any, steps: int) -> Any:
    """How many sequences have each step, from checked lengths, as an array.

    Raises:
        RuntimeError: lengths that are not positive, too long, or not sorted.
    """
    if not lengths.size:
        raise RuntimeError("Length of all samples has to be greater than 0, but found none")
    if (lengths <= 0).any():
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' "
            "that is <= 0"
        )
    if (lengths[1:] > lengths[:-1]).any():
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. "
            "You can pass `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to "
            "sidestep this requirement if you do not need ONNX exportability."
        )
    if lengths[0] > steps:
        raise RuntimeError(
            f"Expected `len(lengths)` sequences of at most {steps} steps, got one of {lengths[0]}"
        )
    return (lengths[None, :] > np.arange(lengths[0])[:, None]).sum(1)


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """The steps of padded sequences without the padding.

    Args:
        input: (T, B, *), or (B, T, *) with `batch_first`.
        lengths: the length of each sequence: a list, or integers (B) on the CPU.
        batch_first: how `input` lies.
        enforce_sorted: whether sequences must come longest first; otherwise they are sorted.

    Raises:
        RuntimeError: lengths that are not positive, longer than T, not one for each sequence, or
            not sorted although they must be.

    Example:
        >>> x = flambeau.tensor([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
        >>> pack_padded_sequence(x, [2, 1, 3], batch_first=True, enforce_sorted=False).data.tolist()
        [4, 1, 3, 5, 2, 6]
    """
    given = flambeau.as_tensor(lengths, dtype=flambeau.int64)
    if batch_first:
        input = input.transpose(0, 1)
    if without_value(given):
        return PackedSequence(input, given)
    sizes = given.numpy()
    if sizes.ndim != 1 or sizes.size != input.size(1):
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {sizes.size} "
            f"(batch_size={input.size(1)})"
        )
    order = None
    if not enforce_sorted:
        places = np.argsort(-sizes, kind="stable")
        sizes, order = sizes[places], flambeau.from_numpy(places).to(input.device)
        input = input.index_select(1, order)
    batch_sizes = flambeau.from_numpy(_batch_sizes(sizes, input.size(0)))
    rows = packed_places(batch_sizes)[0]
    data = input.reshape(-1, *input.shape[2:]).index_select(0, rows)
    return PackedSequence(data, batch_sizes, order)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The padded form of packed sequences, in their original order, and their lengths.

    Args:
        sequence: what was packed.
        batch_first: whether the result is (B, T, *) and not (T, B, *).
        padding_value: what the shorter ones are filled with.
        total_length: T; by default the longest length.

    Returns:
        The padded tensor, and the lengths (B) int64.

    Raises:
        ValueError: `total_length` is below the longest length.
    """
    if without_value(sequence.batch_sizes):
        return _still_padded(sequence, batch_first, padding_value, total_length)
    rows, lengths, steps = packed_places(sequence.batch_sizes)
    if total_length is not None and total_length < steps:
        raise ValueError(
            "Expected total_length to be at least the length of the longest sequence in input, "
            f"but got total_length={total_length} and max sequence length being {steps}"
        )
    steps = steps if total_length is None else total_length
    data, rest = sequence.data, sequence.data.shape[1:]
    full = flambeau.full(
        (steps * len(lengths), *rest), padding_value, dtype=data.dtype, device=data.device
    )
    padded = full.index_copy(0, rows, data).reshape(steps, len(lengths), *rest)
    sizes = flambeau.tensor(lengths)
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(1, sequence.unsorted_indices)
        sizes = sizes[sequence.unsorted_indices.cpu()]
    return (padded.transpose(0, 1) if batch_first else padded), sizes


def _still_padded(
    sequence: PackedSequence, batch_first: bool, padding_value: float, total_length: int | None
) -> tuple[Tensor, Tensor]:
    """`pad_packed_sequence` of what was not packed: Note [Packing without values]."""
    data, lengths = sequence.data, sequence.batch_sizes
    steps = flambeau.arange(data.shape[0], device=data.device).unsqueeze(1)
    alive = (steps < lengths).reshape(*data.shape[:2], *(1,) * (data.dim() - 2))
    padded = flambeau.where(alive, data, padding_value)
    if total_length is not None:
        more = total_length - data.shape[0]
        padded = flambeau.nn.functional.pad(
            padded, (*(0, 0) * (data.dim() - 1), 0, more), value=padding_value
        )
    return (padded.transpose(0, 1) if batch_first else padded), lengths


def pack_sequence(sequences: Any, enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (L_i, *) packed; `enforce_sorted` as in `pack_padded_sequence`."""
    lengths = [len(sequence) for sequence in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences (L_i, *) of a packed one, in their original order."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


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


__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]
