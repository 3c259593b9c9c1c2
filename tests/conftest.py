"""What all tests share: bounded threads, a cache of their own, seeds, waivers and markers."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import sys
import tempfile
import tomllib
import zlib
from pathlib import Path

# Set before any library that reads them is imported. Two threads so that the pool is really used;
# one for the other libraries, which would otherwise take every core in each of the workers.
os.environ.setdefault("FLAMBEAU_NUM_THREADS", "2")
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# The process that starts the run makes the object cache; xdist's workers and the programs that
# tests start inherit it. FLAMBEAU_TEST_CACHE_DIR keeps one from run to run at the desk.
_is_worker = "PYTEST_XDIST_WORKER" in os.environ
_kept_cache = os.environ.get("FLAMBEAU_TEST_CACHE_DIR")
if not _is_worker:
    os.environ["FLAMBEAU_CACHE_DIR"] = _kept_cache or tempfile.mkdtemp(prefix="flambeau-tests-")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
HAS_TORCH = importlib.util.find_spec("torch") is not None

settings.register_profile(
    "quick",
    max_examples=20,
    deadline=None,  # the first example of a shape compiles
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("long", parent=settings.get_profile("quick"), max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_unconfigure() -> None:
    """Remove the session's object cache, in the process that made it."""
    if not _is_worker and not _kept_cache:
        shutil.rmtree(os.environ["FLAMBEAU_CACHE_DIR"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark parity tests, and expect the waived tests to fail."""
    waivers = tomllib.loads((ROOT / "tests" / "waivers.toml").read_text()).get("waiver", [])
    reasons = {waiver["test"]: waiver["reason"] for waiver in waivers}
    no_torch = pytest.mark.skip(reason="torch is not installed")
    for item in items:
        if item.nodeid.startswith("tests/parity/"):
            item.add_marker(pytest.mark.parity)
        if item.get_closest_marker("parity") is not None and not HAS_TORCH:
            item.add_marker(no_torch)
        elif (reason := reasons.get(item.nodeid)) is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(autouse=True)
def seed(request: pytest.FixtureRequest) -> int:
    """Seed every generator from the test's own name, so that order and workers do not matter."""
    number = zlib.crc32(request.node.nodeid.encode()) & 0x7FFFFFFF
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 (code under test may use the global generator)
    if (flambeau := sys.modules.get("flambeau")) is not None and hasattr(flambeau, "manual_seed"):
        flambeau.manual_seed(number)
    return number


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """A NumPy generator of the test's own."""
    return np.random.default_rng(seed)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty object cache for the programs this test starts."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("FLAMBEAU_CACHE_DIR", str(folder))
    return folder
