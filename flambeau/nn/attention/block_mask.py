"""Block masks: which blocks of keys each block of queries sees, in part or whole."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flambeau
from flambeau.nn.attention.block_states import (
    SOME,
    WHOLE,
    block_lists,
    block_states,
    refuse_outside,
)
from flambeau.ops.mods import trace
from flambeau.pytree import GetAttrKey, register_pytree_node
from flambeau.tensor import Tensor

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
_DEFAULT_SPARSE_BLOCK_SIZE = 128
_LARGE_SPARSE_BLOCK_SIZE = 1 << 30
_TENSORS = (
    "kv_num_blocks",
    "kv_indices",
    "full_kv_num_blocks",
    "full_kv_indices",
    "q_num_blocks",
    "q_indices",
    "full_q_num_blocks",
    "full_q_indices",
)
_ORDERS = ("dq_write_order", "dq_write_order_full", "dq_kv_order", "dq_kv_order_spt")
_LEAVES = (*_TENSORS, *_ORDERS[:3])


def noop_mask(batch: Tensor, head: Tensor, token_q: Tensor, token_kv: Tensor) -> Tensor:
    """The mask_mod that is True everywhere."""
    return batch.new_ones((), dtype=flambeau.bool)


def _sliced_mask_mod_error(batch: Any, head: Any, token_q: Any, token_kv: Any) -> Any:
    """The mask_mod of a sliced BlockMask: it does not know where the slice began."""
    raise RuntimeError(
        "Cannot use mask_mod from a sliced BlockMask. When you slice a BlockMask using [], the "
        "mask_mod attribute is reset. You must set it from the original BlockMask's mask_mod."
    )


def and_masks(*mask_mods: MaskMod) -> MaskMod:
    """The mask_mod that is True where all of them are.

    Raises:
        RuntimeError: one of them cannot be called.
    """
    return _combined(mask_mods, True)


def or_masks(*mask_mods: MaskMod) -> MaskMod:
    """The mask_mod that is True where one of them is.

    Raises:
        RuntimeError: one of them cannot be called.
    """
    return _combined(mask_mods, False)


def _combined(mask_mods: tuple[MaskMod, ...], every: bool) -> MaskMod:
    if not all(callable(arg) for arg in mask_mods):
        raise RuntimeError(f"All inputs should be callable mask_mods: {mask_mods}")

    def combined(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        result: Any = None
        for mask in mask_mods:
            found = mask(b, h, q_idx, kv_idx)
            result = found if result is None else result & found if every else result | found
        return b.new_full((), every, dtype=flambeau.bool) if result is None else result

    return combined


def positional_arguments(function: Callable[..., Any]) -> int:
    """How many positional arguments without defaults a mod has: 5 of a score_mod, 4 of a mask_mod.

    Raises:
        AssertionError: neither.
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(
        p.default is inspect.Parameter.empty and p.kind in kinds
        for p in inspect.signature(function).parameters.values()
    )
    if count not in (4, 5):
        raise AssertionError(f"Expected 4 or 5 positional args, got {count}")
    return count


def _dense(number: Tensor, indices: Tensor, columns: int) -> Tensor:
    """(..., rows, columns) bool from the blocks that each row lists."""
    listed = flambeau.arange(indices.shape[-1]) < number.unsqueeze(-1)
    same = indices.unsqueeze(-1) == flambeau.arange(columns)
    return (same & listed.unsqueeze(-1)).any(-2)


def _ordered(dense: Tensor) -> tuple[Tensor, Tensor]:
    """(how many blocks each row has, their numbers first and then the others'), int32."""
    marks = dense.to(flambeau.int32)
    order = flambeau.argsort(marks, dim=-1, descending=True, stable=True)
    return marks.sum(-1).to(flambeau.int32), order.to(flambeau.int32)


class BlockMask:
    """Which blocks of keys each block of queries sees: in part, where the mask_mod decides score by
    score, or whole. Memory is that of the lists of blocks.

    Args:
        seq_lengths: queries and keys.
        kv_num_blocks: (B, H, rows) int32, how many blocks a row sees in part.
        kv_indices: (B, H, rows, columns) int32, their numbers.
        full_kv_num_blocks, full_kv_indices: the same of blocks seen whole, or None.
        q_num_blocks, q_indices, full_q_num_blocks, full_q_indices: the transpose, for gradients of
            keys and values.
        BLOCK_SIZE: queries and keys of a block.
        mask_mod: (b, h, q_idx, kv_idx) -> bool.
        dq_write_order, dq_write_order_full: the place of each listed block of `q_indices` and
            `full_q_indices` among those that add to the same queries' gradient, in the order of
            their keys: what torch's deterministic kernels go by. The gradients here are
            deterministic without.
        dq_kv_order: torch's order of blocks of keys, a tensor.
        dq_kv_order_spt: whether that order is the falling one.

    Raises:
        RuntimeError: kv_indices has fewer than 2 dimensions.
        AssertionError: numbers of blocks come without their indices.
    """

    def __init__(
        self,
        seq_lengths: tuple[int, int],
        kv_num_blocks: Tensor,
        kv_indices: Tensor,
        full_kv_num_blocks: Tensor | None,
        full_kv_indices: Tensor | None,
        q_num_blocks: Tensor | None,
        q_indices: Tensor | None,
        full_q_num_blocks: Tensor | None,
        full_q_indices: Tensor | None,
        BLOCK_SIZE: tuple[int, int] = (_DEFAULT_SPARSE_BLOCK_SIZE, _DEFAULT_SPARSE_BLOCK_SIZE),
        mask_mod: MaskMod = noop_mask,
        *,
        dq_write_order: Tensor | None = None,
        dq_write_order_full: Tensor | None = None,
        dq_kv_order: Tensor | None = None,
        dq_kv_order_spt: bool | None = None,
    ) -> None:
        """Hold the lists as they are."""
        if kv_indices.dim() < 2:
            raise RuntimeError("BlockMask must have at least 2 dimensions")
        for side, a, b in (
            ("kv", full_kv_num_blocks, full_kv_indices),
            ("q", full_q_num_blocks, full_q_indices),
        ):
            if (a is None) != (b is None):
                raise AssertionError(
                    f"full_{side}_num_blocks and full_{side}_indices must be both provided or "
                    "omitted"
                )
        self.seq_lengths = seq_lengths
        self.kv_num_blocks = kv_num_blocks
        self.kv_indices = kv_indices
        self.full_kv_num_blocks = full_kv_num_blocks
        self.full_kv_indices = full_kv_indices
        self.q_num_blocks = q_num_blocks
        self.q_indices = q_indices
        self.full_q_num_blocks = full_q_num_blocks
        self.full_q_indices = full_q_indices
        self.BLOCK_SIZE = BLOCK_SIZE
        self.mask_mod = mask_mod
        self.dq_write_order = dq_write_order
        self.dq_write_order_full = dq_write_order_full
        self.dq_kv_order = dq_kv_order
        self.dq_kv_order_spt = dq_kv_order_spt

    @classmethod
    def from_kv_blocks(
        cls,
        kv_num_blocks: Tensor,
        kv_indices: Tensor,
        full_kv_num_blocks: Tensor | None = None,
        full_kv_indices: Tensor | None = None,
        BLOCK_SIZE: int | tuple[int, int] = _DEFAULT_SPARSE_BLOCK_SIZE,
        mask_mod: MaskMod | None = None,
        seq_lengths: tuple[int, int] | None = None,
        compute_q_blocks: bool = True,
        *,
        dq_write_order: Tensor | None = None,
        dq_write_order_full: Tensor | None = None,
        dq_kv_order: Tensor | bool | None = None,
    ) -> BlockMask:
        """A block mask from the blocks of keys of each block of queries.

        Raises:
            RuntimeError: kv_indices has fewer than 2 dimensions.
            AssertionError: only one of the full_kv arguments is given.
            ValueError: dq_kv_order is neither a bool nor a tensor.
        """
        if kv_indices.dim() < 2:
            raise RuntimeError("BlockMask must have at least 2 dimensions")
        if (full_kv_num_blocks is None) != (full_kv_indices is None):
            raise AssertionError(
                "full_kv_num_blocks and full_kv_indices must be both provided or omitted"
            )
        of_queries: list[Any] = [None] * 4
        if compute_q_blocks:
            columns = kv_indices.shape[-1]
            of_queries[:2] = _ordered(_dense(kv_num_blocks, kv_indices, columns).transpose(-2, -1))
            if full_kv_num_blocks is not None and full_kv_indices is not None:
                whole = _dense(full_kv_num_blocks, full_kv_indices, full_kv_indices.shape[-1])
                of_queries[2:] = _ordered(whole.transpose(-2, -1))
        size = _pair(BLOCK_SIZE)
        if seq_lengths is None:
            seq_lengths = (kv_indices.shape[-2] * size[0], kv_indices.shape[-1] * size[1])
        mod = mask_mod if mask_mod is not None else noop_mask
        lists = (kv_num_blocks, kv_indices, full_kv_num_blocks, full_kv_indices, *of_queries)
        if dq_kv_order is not None and not isinstance(dq_kv_order, (bool, Tensor)):
            raise ValueError("dq_kv_order must be a bool, Tensor, or None")
        return cls(
            seq_lengths,
            **dict(zip(_TENSORS, lists, strict=True)),
            **_last(size, mod),
            dq_write_order=dq_write_order,
            dq_write_order_full=dq_write_order_full,
            dq_kv_order=dq_kv_order if isinstance(dq_kv_order, Tensor) else None,
            dq_kv_order_spt=dq_kv_order if isinstance(dq_kv_order, bool) else None,
        )

    def as_tuple(self, flatten: bool = True) -> tuple[Any, ...]:
        """Lengths, tensors, block sizes and mask_mod; pairs are taken apart if asked."""
        lists = tuple(getattr(self, name) for name in (*_TENSORS, *_ORDERS))
        if flatten:
            return (*self.seq_lengths, *lists, *self.BLOCK_SIZE, self.mask_mod)
        return (self.seq_lengths, *lists, self.BLOCK_SIZE, self.mask_mod)

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, H, queries, keys)."""
        return (*self.kv_indices.shape[:-2], *self.seq_lengths)

    def __getitem__(self, index: Any) -> BlockMask:
        """The mask of some batch entries, heads and rows of blocks; set its mask_mod."""
        index = index if isinstance(index, tuple) else (index,)
        if Ellipsis in index:
            at = index.index(Ellipsis)
            index = (*index[:at], *[slice(None)] * (4 - len(index)), *index[at + 1 :])
        padded = (*index, slice(None), slice(None), slice(None))[:3]
        places = tuple(
            slice(i % n, i % n + 1) if isinstance(i, int) and -n <= i < n else i
            for i, n in zip(padded, self.kv_num_blocks.shape[:3], strict=True)
        )
        return BlockMask.from_kv_blocks(
            self.kv_num_blocks[places],
            self.kv_indices[places],
            None if self.full_kv_num_blocks is None else self.full_kv_num_blocks[places],
            None if self.full_kv_indices is None else self.full_kv_indices[places],
            BLOCK_SIZE=self.BLOCK_SIZE,
            mask_mod=_sliced_mask_mod_error,
            seq_lengths=self.seq_lengths,
            compute_q_blocks=self.q_indices is not None,
        )

    def _adjust(self, new_q_len: int, new_kv_len: int) -> BlockMask:
        """The upper left corner, for other lengths."""
        rows = -(-new_q_len // self.BLOCK_SIZE[0])
        columns = -(-new_kv_len // self.BLOCK_SIZE[1])

        def cut(number: Any, indices: Any) -> tuple[Any, Any]:
            if number is None:
                return None, None
            dense = _dense(number, indices, indices.shape[-1])[:, :, :rows, :columns]
            return _ordered(dense)

        return self.from_kv_blocks(
            *cut(self.kv_num_blocks, self.kv_indices),
            *cut(self.full_kv_num_blocks, self.full_kv_indices),
            BLOCK_SIZE=self.BLOCK_SIZE,
            mask_mod=self.mask_mod,
            seq_lengths=(new_q_len, new_kv_len),
            compute_q_blocks=self.q_indices is not None,
        )

    def numel(self) -> int:
        """How many scores there are, seen or not."""
        return math.prod(self.shape)

    def sparsity(self) -> float:
        """The percentage of blocks that are not computed."""
        blocks = self.kv_num_blocks.sum().item()
        if self.full_kv_num_blocks is not None:
            blocks += self.full_kv_num_blocks.sum().item()
        computed: float = blocks * self.BLOCK_SIZE[0] * self.BLOCK_SIZE[1]
        return 100 * (1 - computed / self.numel())

    def to_dense(self) -> Tensor:
        """(B, H, rows, columns) int32: 1 for blocks that are seen in part or whole."""
        columns = self.kv_indices.shape[-1]
        dense = _dense(self.kv_num_blocks, self.kv_indices, columns)
        if self.full_kv_num_blocks is not None and self.full_kv_indices is not None:
            dense = dense | _dense(self.full_kv_num_blocks, self.full_kv_indices, columns)
        return dense.to(flambeau.int32)

    def to_string(self, grid_size: int | tuple[int, int] = (20, 20), limit: int = 4) -> str:
        """A picture of the blocks: full, partly seen and empty cells of a grid.

        Args:
            grid_size: greatest numbers of rows and columns; -1 for one cell a block.
            limit: how many pictures of batch entries and heads.
        """
        dense = self.to_dense().numpy()
        *batch, rows, columns = dense.shape
        sizes = (grid_size, grid_size) if isinstance(grid_size, int) else grid_size
        most = (rows, columns) if grid_size == -1 else sizes
        steps = [max(1, -(-n // m)) for n, m in zip((rows, columns), most, strict=True)]
        pictures = []
        for number, place in enumerate(itertools.product(*(range(n) for n in batch))):
            if number == limit:
                pictures += [
                    "...",
                    "To print out more, set BlockMask.to_string(limit=N)",
                    "You can also index (BlockMask[batch, head]) to choose a specific batch or "
                    "head",
                ]
                break
            lines = [f"{place}"]
            for r in range(0, rows, steps[0]):
                cells = (
                    dense[place][r : r + steps[0], c : c + steps[1]].mean()
                    for c in range(0, columns, steps[1])
                )
                lines.append("".join(_cell(x) * 2 for x in cells))
            pictures.append("\n".join(lines) + "\n")
        return "\n".join(pictures)

    def to(self, device: Any) -> BlockMask:
        """The same mask with its tensors on a device."""
        moved: dict[str, Any] = {}
        for name in (*_TENSORS, *_ORDERS):
            t = getattr(self, name)
            moved[name] = t.to(device) if isinstance(t, Tensor) else t
        return BlockMask(self.seq_lengths, **moved, **_last(self.BLOCK_SIZE, self.mask_mod))

    def __str__(self) -> str:
        head = f"BlockMask(shape={self.shape}, sparsity={self.sparsity():.2f}%, \n"
        return f"{head}{self.to_string().strip()}\n)"

    def __repr__(self) -> str:
        lines = [
            f"    {name}={None if t is None else t.shape},"
            for name, t in ((name, getattr(self, name)) for name in _TENSORS)
        ]
        lines += [f"    BLOCK_SIZE={self.BLOCK_SIZE},", f"    shape={self.shape},"]
        lines += [f"    sparsity={self.sparsity():.2f}%,"]
        lines += [f"    mask_mod={getattr(self.mask_mod, '__name__', self.mask_mod)}"]
        return "\n".join(["BlockMask(", *lines, ")"])


def _children(mask: BlockMask) -> tuple[list[tuple[GetAttrKey, Any]], Any]:
    """The tensors of a block mask, as trees name them, and the rest."""
    rest = (
        mask.seq_lengths,
        {**_last(mask.BLOCK_SIZE, mask.mask_mod), _ORDERS[3]: mask.dq_kv_order_spt},
    )
    return [(GetAttrKey(name), getattr(mask, name)) for name in _LEAVES], rest


register_pytree_node(
    BlockMask,
    lambda mask: ([getattr(mask, name) for name in _LEAVES], _children(mask)[1]),
    lambda tensors, rest: BlockMask(rest[0], **dict(zip(_LEAVES, tensors, strict=True)), **rest[1]),
    flatten_with_keys_fn=_children,
)


def _pair(size: Any) -> tuple[int, int]:
    """A block's size as (queries, keys)."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(f"BLOCK_SIZE must be one or two positive integers, got {size}")
    return pair


def _last(size: tuple[int, int], mask_mod: MaskMod) -> dict[str, Any]:
    return {"BLOCK_SIZE": size, "mask_mod": mask_mod}


def _cell(share: float) -> str:
    return "█" if share == 1 else " " if share == 0 else "░"


def _slots(sizes: Sequence[int]) -> list[Any]:
    """Places that broadcast to (B, H, Q, KV)."""
    found: list[Any] = [None]
    for d, n in enumerate(sizes):
        shape = [1, 1, 1, 1]
        shape[d] = n
        found.append(flambeau.arange(n, dtype=flambeau.int32).reshape(shape))
    return [*found, None]


def create_mask(
    mod_fn: Callable[..., Tensor],
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: Any = None,
) -> Tensor:
    """The dense mask (B, H, Q_LEN, KV_LEN) of a mask_mod, or of where a score_mod of 0 is not -inf.

    Raises:
        AssertionError: the mod has neither 4 nor 5 positional arguments.
    """
    sizes = (B or 1, H or 1, Q_LEN, KV_LEN)
    of_score = positional_arguments(mod_fn) == 5
    mod, captured = trace(mod_fn, flambeau.float32, of_score)
    slots = _slots(sizes)
    if of_score:
        slots[0] = flambeau.zeros(sizes)
    found = mod.over(slots, captured)[0]
    if not isinstance(found, Tensor):
        found = flambeau.full((), found)
    if of_score:
        found = found != -math.inf
    return found.expand(sizes).contiguous().to(device or "cpu")


def create_block_mask(
    mask_mod: MaskMod,
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: Any = None,
    BLOCK_SIZE: int | tuple[int, int] = _DEFAULT_SPARSE_BLOCK_SIZE,
    _compile: bool = False,
    separate_full_blocks: bool = True,
    compute_dq_write_order: bool = False,
    dq_kv_order: bool = True,
) -> BlockMask:
    """The block mask of a mask_mod.

    Interval arithmetic on the mask's program decides most blocks whole; the others are evaluated,
    in parallel. Memory is that of the blocks' lists. Masks of one program, one size and the same
    captured values are decided once.

    Args:
        mask_mod: (b, h, q_idx, kv_idx) -> bool.
        B, H: batch entries and heads; None where the mask is the same for all.
        Q_LEN, KV_LEN: queries and keys.
        device: where the lists go.
        BLOCK_SIZE: of a block; both sizes, or (queries, keys).
        separate_full_blocks: list blocks that are seen whole apart.
        compute_dq_write_order: also give the mask its `dq_write_order`; see `BlockMask`.
        dq_kv_order: whether that order is the falling one.

    Raises:
        AssertionError: `mask_mod` is no mask_mod.
        ValueError: a length is negative, or a block's size is not positive.
        IndexError: it reads a captured tensor outside of it.
    """
    if positional_arguments(mask_mod) != 4:
        raise AssertionError(f"create-block_mask requires a mask_mod function! Got {mask_mod}")
    size = _pair(BLOCK_SIZE)
    if min(Q_LEN, KV_LEN) < 0:
        raise ValueError(f"Q_LEN and KV_LEN must not be negative, got {Q_LEN} and {KV_LEN}")
    mod, captured = trace(mask_mod, flambeau.float32, False)
    sizes = (B or 1, H or 1, Q_LEN, KV_LEN)
    refuse_outside(mod, captured, sizes)
    states = block_states(mod, captured, sizes, size)
    some, whole = states == SOME, states == WHOLE
    lists: list[Any] = []
    for axes in ((0, 1, 2, 3), (0, 1, 3, 2)):
        of_some = some if separate_full_blocks else some | whole
        lists += block_lists(of_some.transpose(axes))
        lists += block_lists(whole.transpose(axes)) if separate_full_blocks else (None, None)
    found = BlockMask(
        (Q_LEN, KV_LEN), **dict(zip(_TENSORS, lists, strict=True)), **_last(size, mask_mod)
    )
    if compute_dq_write_order:
        found.dq_kv_order_spt = dq_kv_order
        found.dq_write_order, found.dq_write_order_full = _write_orders(found, dq_kv_order)
    return found if device is None else found.to(device)


def _write_orders(mask: BlockMask, falling: bool) -> tuple[Tensor, Tensor | None]:
    """The numbers of the blocks that `q_indices` and `full_q_indices` list among those of their row
    of queries, by their keys."""
    dense = mask.to_dense()
    before = dense.cumsum(-1)
    rank = before - dense
    rank = before[..., -1:] - 1 - rank if falling else rank
    columns = rank.transpose(-2, -1)

    def listed(indices: Tensor) -> Tensor:
        places = indices.long().expand(columns.shape)
        return columns.gather(-1, places).to(flambeau.int32)

    assert mask.q_indices is not None
    whole = mask.full_q_indices
    return listed(mask.q_indices), None if whole is None else listed(whole)


__all__ = [
    "BlockMask",
    "and_masks",
    "create_block_mask",
    "create_mask",
    "noop_mask",
    "or_masks",
]
