"""Pictures of simulated steps are well formed and show what they were given."""

from __future__ import annotations

from xml.etree import ElementTree

from flambeau.distributed.pictures import curves, timeline
from flambeau.distributed.simulate import Collective, Compute, Wait, simulate

_SVG = "{http://www.w3.org/2000/svg}"


def test_a_bar_for_everything_that_takes_time() -> None:
    program = [Compute(1.0, "F0"), Collective("data", 0.5, 0, "gradients"), Compute(1.0), Wait(0)]
    found = ElementTree.fromstring(timeline(simulate([program], {"data": 2}), "a < b"))
    bars = found.findall(f"{_SVG}rect")[1:]
    assert len(bars) == 3
    wide = sorted(float(bar.attrib["width"]) for bar in bars)
    assert abs(wide[1] - 2 * wide[0]) < 0.02


def test_curves_have_their_points() -> None:
    found = ElementTree.fromstring(curves({"a": [(8, 1.0), (64, 2.0)], "b": [(8, 3.0)]}))
    assert len(found.findall(f"{_SVG}circle")) == 3
    assert len(found.findall(f"{_SVG}polyline")) == 2
