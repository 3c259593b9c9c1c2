"""A cache of keys and values in pages that sequences share out, for `flex_attention`.

A page table says in which page of the cache each stretch of a sequence lies. Block masks and mods
that are written in a sequence's own positions are converted to the cache's.

Reference:
    Kwon et al., Efficient Memory Management for Large Language Model Serving with PagedAttention
    (arXiv:2309.06180).
"""

from __future__ import annotations

from typing import Any

import flambeau
from flambeau.nn.attention.block_mask import BlockMask, MaskMod, noop_mask
from flambeau.nn.attention.flex_attention import ScoreMod
from flambeau.tensor import Tensor


class PagedAttention:
    """The page table of a cache.

    Args:
        n_pages: pages of the cache, (1, H, n_pages * page_size, D).
        page_size: positions of a page; the block masks' blocks of keys are pages.
        max_batch_size: sequences.
        device: of the tables.

    Attributes:
        page_table: (max_batch_size, n_pages) int64, the page of each stretch; -1 where none is.
        physical_to_logical: (max_batch_size, n_pages) int64, the inverse.
        capacity: (max_batch_size,) int64, positions that there are pages for.
        empty_pages: the pages that no sequence has; the last is taken first.
    """

    def __init__(
        self, n_pages: int, page_size: int, max_batch_size: int, device: Any = "cpu"
    ) -> None:
        """All pages are empty."""
        self.n_pages = n_pages
        self.page_size = page_size
        kind = {"dtype": flambeau.int64, "device": device}
        self.page_table = flambeau.full((max_batch_size, n_pages), -1, **kind)
        self.physical_to_logical = flambeau.full((max_batch_size, n_pages), -1, **kind)
        self.capacity = flambeau.zeros(max_batch_size, **kind)
        self.empty_pages = list(range(n_pages - 1, -1, -1))

    def reserve(self, batch_idx: Tensor, seq_len: Tensor) -> None:
        """Give a sequence pages for at least `seq_len` positions.

        Args:
            batch_idx: the sequence, a 0-d or one-element integer tensor.
            seq_len: positions, likewise.

        Raises:
            AssertionError: there are not enough empty pages.
        """
        row, wanted = int(batch_idx), int(seq_len)
        held = int(self.capacity[row])
        if wanted <= held:
            return
        count = -(-(wanted - held) // self.page_size)
        if len(self.empty_pages) < count:
            raise AssertionError(
                f"requested {count} pages but there are only {len(self.empty_pages)} empty pages"
            )
        first = held // self.page_size
        pages = flambeau.tensor(self.empty_pages[-count:])
        del self.empty_pages[-count:]
        self.page_table[row, first : first + count] = pages
        self.physical_to_logical[row, pages] = flambeau.arange(first, first + count)
        self.capacity[row] += count * self.page_size

    def erase(self, batch_idx: Tensor) -> None:
        """Take a sequence's pages away."""
        row = int(batch_idx)
        count = int(self.capacity[row]) // self.page_size
        self.empty_pages += self.page_table[row, :count].tolist()
        self.capacity[row] = 0
        self.physical_to_logical[row] = -1
        self.page_table[row] = -1

    def assign(
        self, batch_idx: Tensor, input_pos: Tensor, k_val: Tensor, v_val: Tensor,
        k_cache: Tensor, v_cache: Tensor,
    ) -> None:  # fmt: skip
        """Write keys and values of some positions into the cache.

        Args:
            batch_idx: (B,), sequences.
            input_pos: (B, S), their positions.
            k_val, v_val: (B, H, S, D).
            k_cache, v_cache: (1, H, n_pages * page_size, D), written in place.

        Raises:
            RuntimeError: values that require gradients, or sizes that do not fit.
        """
        if k_val.requires_grad:
            raise RuntimeError("val must not require gradient")
        b, h, s, _ = k_val.shape
        for what, got, wanted in (
            ("val and batch_idx have the same batch size", b, batch_idx.shape[0]),
            ("val and cache has the same number of heads", h, k_cache.shape[1]),
            ("val and input_pos has the same length", s, input_pos.shape[1]),
            ("k_val and k_cache has the same hidden dim", k_val.shape[3], k_cache.shape[3]),
            ("v_val and v_cache has the same hidden dim", v_val.shape[3], v_cache.shape[3]),
        ):
            if got != wanted:
                raise RuntimeError(f"Expect {what} but got {got} and {wanted}.")
        stretch = (input_pos // self.page_size).to(flambeau.int64)
        page = flambeau.gather(self.page_table[batch_idx], 1, stretch)
        place = (page * self.page_size + input_pos % self.page_size).reshape(-1)
        for cache, value in ((k_cache, k_val), (v_cache, v_val)):
            cache[:, :, place] = value.permute(1, 0, 2, 3).reshape(1, h, b * s, -1)

    def convert_logical_block_mask(
        self,
        block_mask: BlockMask,
        batch_idx: Tensor | None = None,
        kv_len: Tensor | None = None,
    ) -> BlockMask:
        """A block mask of the cache from one of the sequences' own positions.

        Args:
            block_mask: its blocks of keys are `page_size` long.
            batch_idx: (B,), the sequences that its batch entries are; 0..B-1 by default.
            kv_len: (B,), how many keys each has; all that there are pages for by default.

        Raises:
            RuntimeError: the blocks of keys are no pages.
        """
        if block_mask.BLOCK_SIZE[1] != self.page_size:
            raise RuntimeError(
                "Expect block_mask has the same column block size as page_size"
                f"but got size={block_mask.BLOCK_SIZE[1]} and size={self.page_size}"
            )
        batch = block_mask.kv_indices.shape[0]
        table = self.page_table[flambeau.arange(batch) if batch_idx is None else batch_idx]

        def converted(number: Any, indices: Any) -> tuple[Any, Any]:
            if number is None:
                return None, None
            own = flambeau.gather(table, 1, indices.reshape(batch, -1).to(flambeau.int64))
            own = own.reshape(indices.shape).to(flambeau.int32)
            listed = flambeau.arange(indices.shape[3]) < number.unsqueeze(-1)
            there = (listed & (own >= 0)).to(flambeau.int32)  # what has no page yet is not seen
            order = flambeau.argsort(there, dim=-1, descending=True, stable=True)
            found = flambeau.zeros(*indices.shape[:3], self.n_pages, dtype=flambeau.int32)
            found[..., : indices.shape[3]] = flambeau.gather(own, 3, order).clamp(0)
            return there.sum(-1).to(flambeau.int32), found

        return BlockMask.from_kv_blocks(
            *converted(block_mask.kv_num_blocks, block_mask.kv_indices),
            *converted(block_mask.full_kv_num_blocks, block_mask.full_kv_indices),
            BLOCK_SIZE=block_mask.BLOCK_SIZE,
            mask_mod=self.get_mask_mod(block_mask.mask_mod, kv_len, batch_idx),
            seq_lengths=(block_mask.seq_lengths[0], self.n_pages * self.page_size),
        )

    def _logical(
        self, b: Tensor, physical: Tensor, kv_len: Tensor | None, batch_idx: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(a key's position in its sequence, whether it has one)."""
        row = b if batch_idx is None else batch_idx[b]
        stretch = self.physical_to_logical[row, physical // self.page_size]
        position = stretch * self.page_size + physical % self.page_size
        valid = stretch >= 0
        return position, valid if kv_len is None else valid & (position < kv_len[b])

    def get_mask_mod(
        self,
        mask_mod: MaskMod | None,
        kv_len: Tensor | None = None,
        batch_idx: Tensor | None = None,
    ) -> MaskMod:
        """The mask_mod of the cache's positions from one of the sequences' own.

        Args:
            mask_mod: None for everything.
            kv_len: (B,), how many keys each sequence has.
            batch_idx: (B,), the sequences that batch entries are (not in torch, whose mods look up
                the batch entry's number).
        """
        own = noop_mask if mask_mod is None else mask_mod

        def converted(b: Tensor, h: Tensor, q_idx: Tensor, physical_kv_idx: Tensor) -> Tensor:
            position, valid = self._logical(b, physical_kv_idx, kv_len, batch_idx)
            return valid & own(b, h, q_idx, position)

        return converted

    def get_score_mod(
        self,
        score_mod: ScoreMod | None,
        kv_len: Tensor | None = None,
        batch_idx: Tensor | None = None,
    ) -> ScoreMod:
        """The score_mod of the cache's positions from one of the sequences' own; -inf elsewhere.

        Args:
            score_mod: None for the score itself.
            kv_len, batch_idx: as for `get_mask_mod`.
        """

        def converted(
            score: Tensor, b: Tensor, h: Tensor, q_idx: Tensor, physical_kv_idx: Tensor
        ) -> Tensor:
            position, valid = self._logical(b, physical_kv_idx, kv_len, batch_idx)
            own = score if score_mod is None else score_mod(score, b, h, q_idx, position)
            return flambeau.where(valid, own, float("-inf"))

        return converted


__all__ = ["PagedAttention"]
