"""The roofline: kernels' speed over their intensity, below the machine's limits.

Reference: S. Williams, A. Waterman, D. Patterson. Roofline: an insightful visual performance model
for multicore architectures. Communications of the ACM 52 (4), 2009.
"""

from __future__ import annotations

import html
import math
import os
from pathlib import Path
from typing import Any

from flambeau.profiler import table

_WIDTH, _HEIGHT = 1000, 620
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 30, 40, 60
_COLOURS = {
    "contraction": "#d35400",
    "composite": "#27ae60",
    "region": "#2471a3",
    "index_put": "#c0392b",
}
_NAMES = {
    "contraction": "matrix products",
    "composite": "rows with a kernel of their own",
    "region": "fused regions",
    "index_put": "scatters",
}


class _Axis:
    """A logarithmic axis over whole decades."""

    def __init__(self, values: list[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        """The place of a value, kept within the axis."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def decades(self) -> list[float]:
        """The powers of ten on the axis."""
        return [10.0**k for k in range(self.low, self.high + 1)]


def _number(x: float) -> str:
    return f"{x:g}" if x < 1e4 else f"{x:.0e}".replace("e+0", "e")


def picture(kernels: Any) -> str:
    """An SVG: a dot a kernel, as large as its share of the time, and what it did as its tooltip.

    Kernels without floating-point operations have no place in it.

    Args:
        kernels: a `KernelList`.
    """
    limit = kernels.limits()
    shown = [k for k in kernels if k.flops and k.bytes and k.time]
    dtypes = list(dict.fromkeys(k.precision for k in shown)) or ["f32"]
    roofs = {d: limit.flops(d) for d in dtypes}
    top = max(roofs.values())
    ridge = top / limit.bandwidth
    across = _Axis([k.intensity for k in shown] + [ridge / 20, ridge * 20], _LEFT, _WIDTH - _RIGHT)
    up = _Axis([k.gflops for k in shown] + [top / 100, top * 1.2], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        *_grid(across, up),
    ]
    for bandwidth, name, dash in (
        (limit.bandwidth, "memory", ""),
        (limit.cache_bandwidth, "the cores' caches", ' stroke-dasharray="6 4"'),
    ):
        parts.append(_slope(bandwidth, name, dash, top, across, up))
    for dtype, flops in roofs.items():
        first = across.at(flops / limit.cache_bandwidth)
        parts.append(
            f'<line x1="{first:.1f}" y1="{up.at(flops):.1f}" x2="{across.end:.1f}" '
            f'y2="{up.at(flops):.1f}" stroke="#333" stroke-width="2"/>'
            f'<text x="{across.end:.1f}" y="{up.at(flops) - 6:.1f}" text-anchor="end">'
            f"{flops:.0f} GFLOP/s in {dtype}</text>"
        )
    total = sum(k.time for k in kernels) or 1.0
    parts += [_dot(k, total, limit, across, up) for k in shown]
    for number, kind in enumerate(dict.fromkeys(k.kind for k in shown)):
        y = _TOP + 14 + 18 * number
        parts.append(
            f'<circle cx="{_LEFT + 16}" cy="{y - 4}" r="5" fill="{_COLOURS.get(kind, "#888")}"/>'
            f'<text x="{_LEFT + 28}" y="{y}">{_NAMES.get(kind, kind)}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def _grid(across: _Axis, up: _Axis) -> list[str]:
    parts = []
    for value in across.decades():
        x = across.at(value)
        parts.append(
            f'<line x1="{x:.1f}" y1="{up.start}" x2="{x:.1f}" y2="{up.end}" stroke="#ddd"/>'
            f'<text x="{x:.1f}" y="{up.start + 18}" text-anchor="middle">{_number(value)}</text>'
        )
    for value in up.decades():
        y = up.at(value)
        parts.append(
            f'<line x1="{across.start}" y1="{y:.1f}" x2="{across.end}" y2="{y:.1f}" '
            f'stroke="#ddd"/>'
            f'<text x="{across.start - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_number(value)}</text>"
        )
    middle = (up.start + up.end) / 2
    parts.append(
        f'<text x="{(across.start + across.end) / 2}" y="{_HEIGHT - 16}" text-anchor="middle">'
        f"floating-point operations a byte</text>"
        f'<text x="20" y="{middle}" transform="rotate(-90 20 {middle})" text-anchor="middle">'
        f"GFLOP/s</text>"
    )
    return parts


def _slope(bandwidth: float, name: str, dash: str, top: float, across: _Axis, up: _Axis) -> str:
    """The line GFLOP/s = bandwidth * intensity, within the picture."""
    low = max(10.0**across.low, 10.0**up.low / bandwidth)
    high = min(top / bandwidth, 10.0**across.high)
    xa, ya, xb, yb = (
        across.at(low),
        up.at(bandwidth * low),
        across.at(high),
        up.at(bandwidth * high),
    )
    angle = math.degrees(math.atan2(yb - ya, xb - xa))
    x, y = xa + (xb - xa) * 0.35, ya + (yb - ya) * 0.35
    return (
        f'<line x1="{xa:.1f}" y1="{ya:.1f}" x2="{xb:.1f}" y2="{yb:.1f}" stroke="#333" '
        f'stroke-width="2"{dash}/>'
        f'<text x="{x:.1f}" y="{y - 6:.1f}" transform="rotate({angle:.1f} {x:.1f} {y:.1f})">'
        f"{bandwidth:.0f} GB/s from {name}</text>"
    )


def _dot(k: Any, total: float, limit: Any, across: _Axis, up: _Axis) -> str:
    least, what = k.least(limit)
    told = [
        k.name,
        f"{k.count} runs of {table.duration(k.mean)}, {100 * k.time / total:.1f} % of the time",
        f"{k.flops / 1e6:.3g} MFLOP, {k.bytes / 1e6:.3g} MB, {k.intensity:.3g} FLOP a byte",
        f"{k.gflops:.1f} GFLOP/s, {k.gbytes:.1f} GB/s",
        f"{100 * least / k.mean:.0f} % of the limit that {what} sets",
        f"reads {', '.join('x'.join(map(str, s)) or '1' for s in k.shapes[:6])}",
        *k.lines[:3],
    ]
    radius = 3 + 22 * math.sqrt(k.time / total)
    return (
        f'<circle class="kernel" cx="{across.at(k.intensity):.1f}" cy="{up.at(k.gflops):.1f}" '
        f'r="{radius:.1f}" fill="{_COLOURS.get(k.kind, "#888")}" fill-opacity="0.55" '
        f'stroke="#222" stroke-width="0.7"><title>{html.escape(chr(10).join(told))}</title>'
        f"</circle>"
    )


def write_roofline(path: Any, kernels: Any) -> None:
    """Write the picture: as SVG alone if `path` ends in .svg, else as a page with a table below.

    Args:
        path: of the file.
        kernels: a `KernelList`.
    """
    drawn = picture(kernels)
    if not os.fspath(path).endswith(".svg"):
        drawn = (
            "<!doctype html><html><head><meta charset='utf-8'><title>Roofline</title>"
            "<style>body{font-family:sans-serif;margin:2em}circle.kernel:hover{fill-opacity:1}"
            "pre{font-size:12px;line-height:1.35}</style></head><body><h1>Roofline</h1>"
            f"{drawn}<pre>{html.escape(kernels.table(row_limit=-1))}</pre></body></html>\n"
        )
    Path(path).write_text(drawn, encoding="utf-8")
