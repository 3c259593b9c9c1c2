"""The loss curve's picture."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest

from flambeau.commands.chart import Line, line_chart, ticks

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 10.0, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.71, [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        (1.0, 1.0, [1.0]),
        (0.0, 400.0, [0, 100, 200, 300, 400]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_curves_are_drawn_where_their_points_are() -> None:
    line = Line("loss <train>", [(0, 4.0), (50, 3.0), (100, 2.0)], "#d00")
    root = ElementTree.fromstring(line_chart("A & B", "step", "loss", [line]))
    words = [node.text for node in root.iter(f"{SVG}text")]
    assert {"A & B", "step", "loss", "loss <train>"} <= set(words)
    (curve,) = root.iter(f"{SVG}polyline")
    points = [tuple(map(float, p.split(","))) for p in curve.attrib["points"].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x0 < x1 < x2
    assert y0 < y1 < y2  # downwards on the picture is downwards in value
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.2)


def test_what_is_not_finite_or_empty_is_left_out() -> None:
    lines = [
        Line("a", [(0, math.nan), (1, 2.0), (2, math.inf), (3, 1.0)], "#111"),
        Line("b", [], "x"),
    ]
    root = ElementTree.fromstring(line_chart("t", "x", "y", lines))
    curves = list(root.iter(f"{SVG}polyline"))
    assert len(curves) == 1
    assert len(curves[0].attrib["points"].split()) == 2
    ElementTree.fromstring(line_chart("nothing", "x", "y", []))
    ElementTree.fromstring(line_chart("one point", "x", "y", [Line("a", [(5, 5)], "red")]))


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    points = [(i, 1 / (i + 1)) for i in range(100_001)]
    text = line_chart("t", "x", "y", [Line("a", points, "#111")])
    assert len(text) < 60_000
    (curve,) = ElementTree.fromstring(text).iter(f"{SVG}polyline")
    drawn = [float(p.split(",")[0]) for p in curve.attrib["points"].split()]
    assert drawn[0] == 64.0
    assert drawn[-1] == 840.0
