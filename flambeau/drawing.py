"""Pictures of graphs as SVG: boxes in layers by dependence, with arrows between them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

_WIDTH, _ROW, _GAP = 330, 17, 26


@dataclass
class Box:
    """What one box shows: a title, lines below it, its colour, and more where the mouse rests."""

    title: str
    lines: list[str] = field(default_factory=list)
    colour: str = "#eee"
    hint: str = ""


def layered(boxes: Sequence[Box], edges: Sequence[tuple[int, int]]) -> str:
    """An SVG of boxes, each below those that it depends on.

    Args:
        boxes: sources before users.
        edges: (source, user) by number.
    """
    depth = [0] * len(boxes)
    for a, b in sorted(edges, key=lambda e: e[1]):
        depth[b] = max(depth[b], depth[a] + 1)
    layers: dict[int, list[int]] = {}
    for k, d in enumerate(depth):
        layers.setdefault(d, []).append(k)
    place: dict[int, tuple[int, int, int]] = {}
    y, widest = 10, 1
    for d in sorted(layers):
        tallest = 0
        for column, k in enumerate(layers[d]):
            height = _ROW * (1 + len(boxes[k].lines)) + 10
            place[k] = (10 + column * (_WIDTH + _GAP), y, height)
            tallest = max(tallest, height)
        widest = max(widest, len(layers[d]))
        y += tallest + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{20 + widest * (_WIDTH + _GAP)}" '
        f'height="{y}" font-family="sans-serif" font-size="12">',
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#888"/></marker>'
        '</defs><rect width="100%" height="100%" fill="white"/>',
    ]
    for a, b in edges:
        (xa, ya, ha), (xb, yb, _) = place[a], place[b]
        parts.append(
            f'<line x1="{xa + _WIDTH // 2}" y1="{ya + ha}" x2="{xb + _WIDTH // 2}" '
            f'y2="{yb}" stroke="#aaa" marker-end="url(#a)"/>'
        )
    for k, box in enumerate(boxes):
        x, top, height = place[k]
        hint = f"<title>{html.escape(box.hint)}</title>" if box.hint else ""
        parts.append(
            f'<rect x="{x}" y="{top}" width="{_WIDTH}" height="{height}" rx="5" '
            f'fill="{box.colour}" stroke="#777">{hint}</rect>'
        )
        parts.append(
            f'<text x="{x + 8}" y="{top + 16}" font-weight="bold">{html.escape(box.title)}</text>'
        )
        for i, line in enumerate(box.lines):
            parts.append(
                f'<text x="{x + 8}" y="{top + 16 + _ROW * (i + 1)}" fill="#333">'
                f"{html.escape(line)}</text>"
            )
    return "\n".join([*parts, "</svg>"])


__all__ = ["Box", "layered"]
