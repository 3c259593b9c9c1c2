"""A search along a line for a step that satisfies the strong Wolfe conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_DECREASE = 1e-4  # c1: part of the first slope by which the value must fall
_CURVATURE = 0.9  # c2: part of the first slope to which it must flatten


@dataclass
class Point:
    """A place on the line.

    Attributes:
        step: how far along it, a number.
        value: the function's.
        gradient: a vector.
        slope: the gradient along the line, a number.
    """

    step: float
    value: float
    gradient: Any
    slope: float


def cubic_minimum(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """Where the cubic through two points with their slopes is least, within bounds.

    Args:
        bounds: least and largest step; the two points' own unless given.

    Returns:
        The place; the middle where there is none.

    Reference:
        Nocedal and Wright, Numerical Optimization (2006), equation 3.59.
    """
    low, high = bounds or sorted((a.step, b.step))
    if a.step > b.step:
        a, b = b, a
    if a.step == b.step:
        return (low + high) / 2.0
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step)
    square = d1 * d1 - a.slope * b.slope
    d2 = max(square, 0.0) ** 0.5
    bend = b.slope - a.slope + 2 * d2
    if square < 0 or bend == 0:
        return (low + high) / 2.0
    least = b.step - (b.step - a.step) * ((b.slope + d2 - d1) / bend)
    return min(max(least, low), high)


def strong_wolfe(
    evaluate: Callable[[float], Point],
    start: Point,
    step: float,
    longest: float,
    tolerance: float = 1e-9,
    most: int = 25,
) -> tuple[Point, int]:
    """A point whose value is low enough and whose slope is flat enough.

    Args:
        evaluate: step -> the point there.
        start: the point at step 0.
        step: the first one tried.
        longest: largest element of the direction.
        tolerance: least change of an element that is worth another try.
        most: how many tries.

    Returns:
        The best point found, and how many were evaluated.

    Reference:
        Nocedal and Wright, Numerical Optimization (2006), algorithms 3.5 and 3.6.
    """
    bracket, done, tries = _bracketed(evaluate, start, step, most)
    evaluations = tries + 1
    low = 0 if bracket[0].value <= bracket[-1].value else len(bracket) - 1
    stalled = False
    while not done and tries < most:
        high = 1 - low
        ends = (bracket[0].step, bracket[1].step)
        if abs(ends[1] - ends[0]) * longest < tolerance:
            break
        step, stalled = _inside(cubic_minimum(bracket[0], bracket[1]), ends, stalled)
        point = evaluate(step)
        evaluations += 1
        tries += 1
        enough = start.value + _DECREASE * step * start.slope
        if point.value > enough or point.value >= bracket[low].value:
            bracket[high] = point
            low = 0 if bracket[0].value <= bracket[1].value else 1
            continue
        if abs(point.slope) <= -_CURVATURE * start.slope:
            done = True
        elif point.slope * (bracket[high].step - bracket[low].step) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = point
    return bracket[low], evaluations


def _bracketed(
    evaluate: Callable[[float], Point], start: Point, step: float, most: int
) -> tuple[list[Point], bool, int]:
    """-> points around a good one or it alone, whether it is good already, and tries after the
    first."""
    before, point = start, evaluate(step)
    for tries in range(most):
        enough = start.value + _DECREASE * point.step * start.slope
        if point.value > enough or (tries > 1 and point.value >= before.value):
            return [before, point], False, tries
        if abs(point.slope) <= -_CURVATURE * start.slope:
            return [point], True, tries
        if point.slope >= 0:
            return [before, point], False, tries
        bounds = (point.step + 0.01 * (point.step - before.step), point.step * 10)
        before, point = point, evaluate(cubic_minimum(before, point, bounds))
    return [start, point], False, most


def _inside(step: float, ends: tuple[float, float], stalled: bool) -> tuple[float, bool]:
    """A step that keeps off the ends, a tenth between them, the second time it comes near one."""
    low, high = min(ends), max(ends)
    margin = 0.1 * (high - low)
    if min(high - step, step - low) >= margin:
        return step, False
    if stalled or step >= high or step <= low:
        return (high - margin if abs(step - high) < abs(step - low) else low + margin), False
    return step, True
