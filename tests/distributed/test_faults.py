"""A training run whose ranks are killed goes on, and ends where an undisturbed one ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.mpi import needs_mpi
from tests.hosts.kills import disturbed, undisturbed

pytestmark = needs_mpi


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> float:
    return undisturbed(tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_a_random_moment(seed: int, wanted: float, tmp_path: Path) -> None:
    run = disturbed(tmp_path, seed)
    assert run.restarts == run.kills >= 1, run.told
    assert not run.lost, (run.saved, run.begun)
    assert run.loss == pytest.approx(wanted, rel=1e-12)


def test_fewer_ranks_go_on(wanted: float, tmp_path: Path) -> None:
    run = disturbed(tmp_path, 3, "--min-ranks", "2")
    assert run.loss == pytest.approx(wanted, rel=1e-12)
    assert "starting again with 2 ranks" in run.told
