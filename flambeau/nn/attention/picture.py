"""Pictures of masks, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import flambeau
from flambeau.nn.attention.block_mask import BlockMask, MaskMod, create_mask
from flambeau.nn.attention.variants import Mods

#: Fills from the least to the greatest.
_FILLS = ("#fde0c5", "#facba6", "#f8b58b", "#f2855d", "#eb4a40")
_LABELS = "keys", "queries"


def plot_mask(
    mask: BlockMask | Mods | MaskMod,
    q_len: int = 24,
    kv_len: int = 24,
    *,
    batch: int = 0,
    head: int = 0,
    title: str = "",
    path: str | Path | None = None,
) -> str:
    """A picture of what each query sees: queries go down, keys to the right.

    Of a mask_mod or of `Mods` a square is a place; with a score_mod its colour says what becomes of
    a score of 0, the darker the greater. Of a `BlockMask` it is a block: dark if it is seen whole,
    light if in part.

    Args:
        mask: what to draw.
        q_len, kv_len: places to draw; a BlockMask is drawn whole.
        batch, head: of which batch entry and head.
        title: a name for those who cannot see it.
        path: where to write it, too.

    Returns:
        The SVG document.
    """
    if isinstance(mask, BlockMask):
        shades = _of_blocks(mask, batch, head)
    else:
        mods = mask if isinstance(mask, Mods) else Mods(mask=mask)
        shades = _of_places(mods, (batch, head, q_len, kv_len))
    document = _svg(shades, title)
    if path is not None:
        Path(path).write_text(document)
    return document


def _of_blocks(mask: BlockMask, batch: int, head: int) -> Any:
    """(rows, columns): -1 for empty blocks, else a place in `_FILLS`."""
    own = mask[batch, head] if len(mask.shape) == 4 else mask
    shades = np.where(own.to_dense().numpy()[0, 0] > 0, 1, -1)
    if own.full_kv_num_blocks is not None and own.full_kv_indices is not None:
        counts = own.full_kv_num_blocks.numpy()[0, 0]
        for row, (count, indices) in enumerate(
            zip(counts, own.full_kv_indices.numpy()[0, 0], strict=True)
        ):
            shades[row, indices[:count]] = len(_FILLS) - 1
    return shades


def _of_places(mods: Mods, place: tuple[int, int, int, int]) -> Any:
    """The same of places."""
    batch, head, rows, columns = place
    seen = np.ones((rows, columns), bool)
    if mods.mask is not None:
        whole = create_mask(mods.mask, batch + 1, head + 1, rows, columns)
        seen = whole.numpy()[batch, head]
    if mods.score is None:
        return np.where(seen, len(_FILLS) - 1, -1)
    slots = [
        flambeau.tensor(batch),
        flambeau.tensor(head),
        flambeau.arange(rows)[:, None],
        flambeau.arange(columns),
    ]
    with flambeau.no_grad():
        scores = mods.score(flambeau.zeros(rows, columns), *slots).expand(rows, columns).numpy()
    shown = scores[seen & np.isfinite(scores)]
    low, high = (shown.min(), shown.max()) if shown.size else (0.0, 0.0)
    share = (scores - low) / (high - low) if high > low else np.ones_like(scores)
    levels = np.rint(np.nan_to_num(np.clip(share, 0, 1)) * (len(_FILLS) - 1)).astype(int)
    return np.where(seen & np.isfinite(scores), levels, -1)


def _svg(shades: Any, title: str) -> str:
    """The document: a path a shade, of runs of squares along the rows."""
    rows, columns = shades.shape
    edge = max(2, min(10, 480 // max(rows, columns, 1)))
    paths = []
    for level, fill in enumerate(_FILLS):
        strokes = []
        for row in range(rows):
            marks = np.flatnonzero(np.diff(np.pad(shades[row] == level, 1).astype(np.int8)))
            strokes += [f"M{a} {row}h{b - a}v1h-{b - a}z" for a, b in marks.reshape(-1, 2)]
        if strokes:
            paths.append(f'<path fill="{fill}" d="{"".join(strokes)}"/>')
    keys, queries = _LABELS
    wide, high = columns * edge + 18, rows * edge + 18
    text = 'font-family="sans-serif" font-size="11" fill="#888" text-anchor="middle"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}">',
            *([f"<title>{title}</title>"] if title else []),
            f'<g transform="translate(16 16) scale({edge})">',
            f'<rect width="{columns}" height="{rows}" fill="#8881"/>',
            *paths,
            "</g>",
            f'<text x="{16 + columns * edge // 2}" y="11" {text}>{keys}</text>',
            f'<text transform="translate(11 {16 + rows * edge // 2}) rotate(-90)" '
            f"{text}>{queries}</text>",
            "</svg>\n",
        ]
    )


__all__ = ["plot_mask"]
