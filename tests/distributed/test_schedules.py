"""Pipeline schedules: everything is done once, in an order that can be run, with known bubbles."""

from __future__ import annotations

from collections import Counter

import pytest

from flambeau.distributed.schedules import (
    SCHEDULES,
    V_SCHEDULES,
    Action,
    placement,
    schedule,
)

SIZES = [(1, 1), (1, 4), (2, 2), (2, 4), (4, 4), (4, 8), (4, 12)]


def makespan(
    table: list[list[Action]], chunks: int, cost: dict[str, float], name: str = "interleaved"
) -> float:
    """When the last rank is done, if a message takes no time; fails where ranks wait for ever."""
    stages = len(table)
    places = stages * chunks
    pieces = placement(name, stages, chunks)
    clock = [0.0] * stages
    ends: dict[tuple[str, int, int], float] = {}
    at = [0] * stages
    going = True
    while going:
        going = False
        for rank in range(stages):
            while at[rank] < len(table[rank]):
                action = table[rank][at[rank]]
                group = pieces[rank][action.chunk]
                needs = []
                if action.kind == "F" and group:
                    needs = [("F", group - 1, action.micro)]
                if action.kind in "BI":
                    needs = [("F", group, action.micro)]
                    if group < places - 1:
                        needs.append(("B", group + 1, action.micro))
                if action.kind == "W":
                    needs = [("B", group, action.micro)]
                if any(n not in ends for n in needs):
                    break
                clock[rank] = max([clock[rank], *(ends[n] for n in needs)]) + cost[action.kind]
                kind = "B" if action.kind == "I" else action.kind
                ends[kind, group, action.micro] = clock[rank]
                at[rank] += 1
                going = True
    assert at == [len(actions) for actions in table], "ranks wait for ever"
    return max(clock)


CHUNKS = {"gpipe": 1, "1f1b": 1, "zero-bubble": 3}


@pytest.mark.parametrize("name", [*SCHEDULES, *V_SCHEDULES])
@pytest.mark.parametrize(("stages", "micros"), SIZES)
def test_everything_is_done_once(name: str, stages: int, micros: int) -> None:
    chunks = CHUNKS.get(name, 2)
    if name == "dualpipev":
        micros = max(micros, 2 * stages)
    table = schedule(name, stages, micros, chunks)
    every = {(chunk, micro) for chunk in range(chunks) for micro in range(micros)}
    for actions in table:
        done = Counter((a.kind, a.chunk, a.micro) for a in actions)
        assert all(done["F", *at] == 1 for at in every)
        assert all(done["B", *at] + done["I", *at] == 1 for at in every)
        assert all(done["I", *at] == done["W", *at] for at in every)
        assert all(a.kind in "FBIW" and (a.chunk, a.micro) in every for a in actions)
    makespan(table, chunks, dict.fromkeys("FBIW", 1.0), name)


@pytest.mark.parametrize(("stages", "micros"), [(2, 4), (4, 8), (4, 12), (8, 16)])
def test_bubbles_are_those_of_the_papers(stages: int, micros: int) -> None:
    cost = {"F": 1.0, "B": 2.0, "I": 1.0, "W": 1.0}
    work = 3.0 * micros
    for name in ("gpipe", "1f1b"):
        assert makespan(schedule(name, stages, micros), 1, cost) - work == 3 * (stages - 1)
    assert makespan(schedule("zero-bubble", stages, micros), 1, cost) - work == stages - 1
    halves = {kind: c / 2 for kind, c in cost.items()}
    assert makespan(schedule("interleaved", stages, micros, 2), 2, halves) - work == pytest.approx(
        3 * (stages - 1) / 2
    )


@pytest.mark.parametrize("name", ["1f1b", "zero-bubble"])
def test_memory_is_bounded_by_stages(name: str) -> None:
    for actions in schedule(name, 4, 32):
        alive = most = 0
        for action in actions:
            alive += {"F": 1, "B": -1, "I": 0, "W": -1}[action.kind]
            most = max(most, alive)
        assert most <= 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("2f2b", 2, 2), "must be one of"),
        (("1f1b", 0, 2), "at least 1"),
        (("gpipe", 2, 2, 2), "gpipe schedule has one chunk"),
        (("zbv", 2, 2), "zbv schedule has two chunks"),
        (("interleaved", 2, 5, 2), "multiple of the number of rounds .2."),
        (("dualpipev", 2, 3, 2), "at least 4 micro-batches"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(*arguments)  # type: ignore[arg-type]
