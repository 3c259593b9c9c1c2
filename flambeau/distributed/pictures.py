"""Pictures of simulated steps, as SVG: what ranks do over time, and curves over many ranks."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

from flambeau.distributed.simulate import Trace

_LEFT, _RIGHT, _TOP, _ROW = 110, 20, 34, 22
_COLOURS = {"F": "#7fb2e5", "B": "#f2b36f", "I": "#f2b36f", "W": "#e58f8f", "update": "#9ccc9c"}
_LINES = ("#2471a3", "#d35400", "#27ae60", "#8e44ad", "#c0392b", "#555555")


def _opened(width: int, height: int, title: str) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="20" font-weight="bold">{html.escape(title)}</text>',
    ]


def timeline(trace: Trace, title: str = "", width: int = 900) -> str:
    """What the first rank of each stage does over time: a row a stage for computation, below it
    one for each kind of communication it has.

    Args:
        trace: of a simulation with `spans`.
        title: above the picture.
        width: in pixels.
    """
    spans = [s for s in trace.spans if s.stream != "wait"]
    rows = sorted({(s.stage, s.stream != "compute", s.stream) for s in spans})
    at = {(stage, stream): k for k, (stage, _, stream) in enumerate(rows)}
    height = _TOP + _ROW * len(rows) + 30
    scale = (width - _LEFT - _RIGHT) / (trace.seconds or 1.0)
    parts = _opened(width, height, title)
    for (stage, stream), k in at.items():
        y = _TOP + _ROW * k
        name = f"stage {stage}" if stream == "compute" else stream
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end" '
            f'fill="{"#000" if stream == "compute" else "#777"}">{name}</text>'
        )
    for s in spans:
        y = _TOP + _ROW * at[s.stage, s.stream] + 2
        colour = _COLOURS.get(s.label, _COLOURS.get(s.label[:1], "#ccc"))
        if s.stream != "compute":
            colour = "#c9b8e0"
        wide = (s.end - s.start) * scale
        parts.append(
            f'<rect x="{_LEFT + s.start * scale:.2f}" y="{y}" width="{max(wide, 0.3):.2f}" '
            f'height="{_ROW - 4}" fill="{colour}" stroke="#fff" stroke-width="0.3">'
            f"<title>{html.escape(s.label)}: {s.end - s.start:.4g} s</title></rect>"
        )
    parts.append(
        f'<text x="{width - _RIGHT}" y="{height - 10}" text-anchor="end">'
        f"{trace.seconds:.4g} s</text></svg>"
    )
    return "\n".join(parts)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    title: str = "",
    across: str = "",
    up: str = "",
    width: int = 760,
    height: int = 420,
) -> str:
    """Curves over a logarithmic axis.

    Args:
        series: name -> points (x, y); x above 0.
        title: above the picture.
        across, up: what the axes are.
        width, height: in pixels.
    """
    points = [p for curve in series.values() for p in curve]
    low, high = (math.log10(f(x for x, _ in points)) for f in (min, max))
    top = max(y for _, y in points) * 1.1
    left, bottom = 70, height - 50
    span = (high - low) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - low) / span
        return left + share * (width - left - 170), bottom - y / top * (bottom - 40)

    parts = _opened(width, height, title)
    for k in range(5):
        x0, y = place(10**low, top * k / 4)
        x1, _ = place(10**high, 0)
        parts.append(
            f'<line x1="{x0}" y1="{y:.1f}" x2="{x1}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{x0 - 8}" y="{y + 4:.1f}" text-anchor="end">{top * k / 4:.3g}</text>'
        )
    ticks = sorted({10**low, 10**high, *(10.0**k for k in range(math.ceil(low), int(high) + 1))})
    for x in ticks:
        at, _ = place(x, 0)
        parts.append(
            f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{round(x):,}</text>'
        )
    for number, (name, curve) in enumerate(series.items()):
        colour = _LINES[number % len(_LINES)]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*p) for p in curve))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>'
            for a, b in (place(*p) for p in curve)
        ]
        y = 50 + 18 * number
        parts.append(f'<text x="{width - 160}" y="{y}" fill="{colour}">{html.escape(name)}</text>')
    middle = (left + width - 170) / 2
    parts.append(
        f'<text x="{middle}" y="{height - 12}" text-anchor="middle">{html.escape(across)}</text>'
        f'<text x="18" y="{height / 2}" transform="rotate(-90 18 {height / 2})" '
        f'text-anchor="middle">{html.escape(up)}</text></svg>'
    )
    return "\n".join(parts)


__all__ = ["curves", "timeline"]
