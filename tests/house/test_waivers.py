"""The known failures are few, explained, and grow no more numerous."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib

import pytest

from tests.house.tree import ROOT

WAIVERS = ROOT / "tests" / "waivers.toml"


def test_every_waiver_names_a_test_and_a_reason() -> None:
    waivers = tomllib.loads(WAIVERS.read_text()).get("waiver", [])
    for waiver in waivers:
        assert set(waiver) == {"test", "reason"}, waiver
        assert (ROOT / waiver["test"].split("::")[0]).is_file(), waiver["test"]
        assert len(waiver["reason"].split()) >= 4, f"say more than {waiver['reason']!r}"
    tests = [waiver["test"] for waiver in waivers]
    assert len(tests) == len(set(tests)), "a test is waived twice"


def test_waived_tests_exist() -> None:
    waived = {w["test"] for w in tomllib.loads(WAIVERS.read_text()).get("waiver", [])}
    if not waived:
        return
    listing = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist"),
            *sorted({test.split("::")[0] for test in waived}),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    stale = waived.difference(listing.stdout.splitlines())
    assert not stale, f"waived, but there is no such test: {sorted(stale)}\n{listing.stderr}"


def test_there_are_no_more_waivers_than_recorded() -> None:
    document = tomllib.loads(WAIVERS.read_text())
    count = len(document.get("waiver", []))
    assert count <= document["maximum"], "mend the test, or another waived one"


def test_the_maximum_never_rose() -> None:
    """Along the history of the file, as far as this clone holds it."""
    log = subprocess.run(
        ["git", "log", "--format=", "-p", "--reverse", "--", "tests/waivers.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if log.returncode != 0:
        pytest.skip("not a git checkout")
    history = [int(n) for n in re.findall(r"^\+maximum = (\d+)", log.stdout, flags=re.MULTILINE)]
    history.append(tomllib.loads(WAIVERS.read_text())["maximum"])
    rises = [(a, b) for a, b in itertools.pairwise(history) if b > a]
    assert not rises, f"the number of waivers rose: {rises}"
