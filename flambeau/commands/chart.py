"""A line chart as an SVG file: the loss curve of a training run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 860, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 44, 52
_MOST_POINTS = 1500


@dataclass(frozen=True)
class Line:
    """One curve.

    Args:
        label: its name in the legend.
        points: pairs (x, y); pairs that are not finite are left out.
        color: a CSS colour.
        width: thickness in pixels.
        dots: also mark each point.
    """

    label: str
    points: Sequence[tuple[float, float]]
    color: str
    width: float = 1.5
    dots: bool = False


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About ``count`` round numbers, 1, 2 or 5 times a power of ten apart, within [low, high]."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def line_chart(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> str:
    """Draw curves over common axes.

    Args:
        title, x_label, y_label: words on the picture.
        lines: the curves; ones without finite points are left out.

    Returns:
        The text of an SVG document.
    """
    finite = [
        (line, [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)])
        for line in lines
    ]
    drawn = [(line, _thin(points)) for line, points in finite if points]
    xs = [x for _, points in drawn for x, _ in points] or [0.0, 1.0]
    ys = [y for _, points in drawn for _, y in points] or [0.0, 1.0]
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = min(ys), max(ys)
    margin = 0.05 * (y_high - y_low) or 0.5
    y_low, y_high = y_low - margin, y_high + margin
    x_high = x_high if x_high > x_low else x_low + 1.0

    def across(x: float) -> float:
        return _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        return _TOP + (y_high - y) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="20" font-size="15">{escape(title)}</text>',
    ]
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for value in ticks(y_low, y_high):
        y = down(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(x_low, x_high, 8):
        x = across(value)
        parts.append(f'<path d="M{x:.1f} {bottom}v5" stroke="#888"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 19}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#888"/>')
    middle_x, middle_y = (_LEFT + right) / 2, (_TOP + bottom) / 2
    parts.append(
        f'<text x="{middle_x:.0f}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(
        f'<text transform="translate(16 {middle_y:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    for line, points in drawn:
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{line.color}" '
            f'stroke-width="{line.width:g}" stroke-linejoin="round"/>'
        )
        if line.dots:
            parts += [
                f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{line.color}"/>'
                for x, y in points
            ]
    parts += _legend([line for line, _ in drawn], right)
    parts.append("</svg>\n")
    return "\n".join(parts)


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``_MOST_POINTS`` points, the last one always among them."""
    stride = -(-len(points) // _MOST_POINTS)
    kept = points[::stride]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _legend(lines: list[Line], right: int) -> list[str]:
    parts, x = [], float(right)
    for line in reversed(lines):
        x -= 7.0 * len(line.label) + 34
        parts.append(f'<path d="M{x:.0f} 32h20" stroke="{line.color}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 25:.0f}" y="36">{escape(line.label)}</text>')
    return parts
