"""The flight recorder: what was called, where, and whether it ended."""

from __future__ import annotations

import numpy as np
import pytest

from flambeau.distributed import recorder
from flambeau.distributed.supervisor import Limits, Rank, Watch
from flambeau.distributed.transport.base import Work


class Open(Work):
    """A work that ends when it is told to."""

    over = False

    def wait(self, timeout: float | None = None) -> None:
        raise AssertionError("nobody should wait")

    def done(self) -> bool:
        return self.over


def test_calls_are_noted_until_they_end() -> None:
    entry = recorder.note("group 7", 1, 4, "barrier")
    assert recorder.flight_record()[-1] is entry
    assert recorder.waiting() is entry
    work = Open()
    entry.follow(work)
    assert recorder.waiting() is entry
    work.over = True
    assert recorder.waiting() is None
    told = entry.as_dict()
    assert told["over"] is True
    assert told["call"] == "barrier"
    assert told["place"].startswith("test_recorder.py:")
    assert told["place"].endswith("in test_calls_are_noted_until_they_end")


def test_what_nobody_holds_counts_as_ended() -> None:
    entry = recorder.note("world", 0, 0, "barrier")
    entry.follow(Open())
    assert entry.over
    assert recorder.waiting() is None


def test_old_calls_are_forgotten() -> None:
    for n in range(500):
        recorder.note("world", 0, n, "barrier").end()
    assert len(recorder.flight_record()) == 64
    assert recorder.flight_record()[-1].sequence == 499


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("FLAMBEAU_COLLECTIVES", "check", True),
        ("FLAMBEAU_COLLECTIVES", "", False),
        ("TORCH_DISTRIBUTED_DEBUG", "detail", True),
        ("TORCH_DISTRIBUTED_DEBUG", "INFO", False),
    ],
)
def test_who_asks_for_checking(
    name: str, value: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLAMBEAU_COLLECTIVES", raising=False)
    monkeypatch.delenv("TORCH_DISTRIBUTED_DEBUG", raising=False)
    monkeypatch.setenv(name, value)
    assert recorder.checking() is wanted


def told(sequence: int, call: str, over: bool, seconds: float = 0.0) -> dict[str, object]:
    """An entry as ranks send it."""
    return {
        "group": "world",
        "rank": 0,
        "sequence": sequence,
        "call": call,
        "place": "x.py:1",
        "seconds": seconds,
        "over": over,
    }


def watching(*records: list[dict[str, object]]) -> Watch:
    """A watch over ranks that have just told these records."""
    watch = Watch(len(records), Limits(wait=10), "127.0.0.1")
    for rank, given in zip(watch.ranks, records, strict=True):
        watch._take(rank, {"kind": "beat", "records": given})
    return watch


def test_the_rank_that_did_not_come_is_named() -> None:
    late = [told(4, "all_reduce", True)]
    stuck = [told(4, "all_reduce", True), told(5, "all_reduce", False, seconds=11)]
    watch = watching(stuck, late, stuck)
    watch.judge()
    watch.conclude()
    assert watch.failure is not None
    assert watch.failure.ranks == [1]
    text = watch.failure.report()
    assert "ranks 0, 2 waited in all_reduce (call 5 of world) for more than 10 s" in text
    assert "but rank 1 did not come" in text
    assert "rank 1: in no collective; before, all_reduce (call 4 of world) at x.py:1" in text
    watch.close()


def test_the_first_difference_is_named() -> None:
    one = [told(n, "all_reduce", True) for n in range(3)]
    other = [told(0, "all_reduce", True), told(1, "barrier", True), told(2, "barrier", True)]
    waits = told(3, "all_reduce", False, seconds=11)
    watch = watching([*one, waits], [*other, waits])
    watch.judge()
    watch.conclude()
    assert watch.failure is not None
    text = watch.failure.report()
    assert "call 1 of world was rank 0 all_reduce; rank 1 barrier" in text
    assert "call 2" not in text
    watch.close()


def test_ranks_that_are_well_are_left_alone() -> None:
    watch = watching([told(0, "barrier", True)], [told(0, "barrier", False, seconds=9)])
    watch.judge()
    assert watch.failure is None
    watch._take(watch.ranks[0], {"kind": "bye", "records": []})
    assert watch.ranks[0].ended
    watch.judge()
    assert watch.failure is None
    assert Rank(3).doing() == "had not started"
    assert np.isclose(watch.ranks[1].waited(), 9, atol=1)
    watch.close()
