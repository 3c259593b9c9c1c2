"""The text of the repository: clean, complete and about the project alone."""

from __future__ import annotations

import re
import tomllib

import pytest

import flambeau
from flambeau.version import __version__
from tests.house.tree import GENERATED, ROOT, files, text_of

LARGEST = 512 * 1024
TEXT = [name for name in files() if name not in {"LICENSE"}]


def pattern(*parts: str) -> re.Pattern[str]:
    """A pattern put together here, so that this file does not hold the text it looks for."""
    return re.compile("".join(parts))


#: What has no place in the repository, each with the reason.
FOREIGN = {
    pattern(r"(?<![\w.])/wo", r"rk/"): "an absolute path of one machine",
    pattern(r"(?<![\w.])/ro", r"ot/"): "an absolute path of one machine",
    pattern(r"(?<![\w.])/ho", r"me/\w"): "an absolute path of one machine",
    pattern(r"(?i)\bpypi\.", r"org"): "a registry's host; name the package instead",
    pattern(r"(?i)\bpythonhosted\.", r"org"): "a registry's host; name the package instead",
    pattern(r"(?i)\bdownload\.pytorch\.", r"org"): "a registry's host; name the package instead",
    pattern(r"(?i)\bregistry\.npmjs\.", r"org"): "a registry's host; name the package instead",
    pattern(r"--(extra-)?index-", r"url"): "an index; plain package names must be enough",
    pattern(r"\b(TO", r"DO|FIX", r"ME|XX", r"X|HA", r"CK)\b"): "unfinished work; finish it",
}


@pytest.mark.parametrize("name", TEXT)
def test_text_is_clean(name: str) -> None:
    text = text_of(name)
    if text is None:
        return
    wrong = []
    if "\r" in text:
        wrong.append("carriage returns")
    if text and not text.endswith("\n"):
        wrong.append("no newline at the end")
    if text.endswith("\n\n"):
        wrong.append("empty lines at the end")
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            wrong.append(f"line {number}: trailing blanks")
        if "\t" in line and not name.endswith((".tsv", "Makefile")):
            wrong.append(f"line {number}: a tab")
    assert not wrong, f"{name}: " + "; ".join(wrong)


@pytest.mark.parametrize("name", TEXT)
def test_text_is_about_the_project_alone(name: str) -> None:
    text = text_of(name)
    if text is None:
        return
    wrong = [
        f"{name}:{number}: {why}: {line.strip()[:80]}"
        for number, line in enumerate(text.split("\n"), 1)
        for what, why in FOREIGN.items()
        if what.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_large_files() -> None:
    large = [n for n in files() if n not in GENERATED and (ROOT / n).stat().st_size > LARGEST]
    assert not large, f"over {LARGEST} bytes: {', '.join(large)}"


def test_dependencies_are_justified() -> None:
    """Each package in pyproject.toml has its line in docs/dependencies.md, and no other has one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"] + [
        item for extra in project["optional-dependencies"].values() for item in extra
    ]
    declared = {re.split(r"[<>=!~\[; ]", item)[0] for item in requirements} - {project["name"]}
    text = (ROOT / "docs" / "dependencies.md").read_text()
    justified = set(re.findall(r"^\| `([\w-]+)` \|", text, flags=re.MULTILINE))
    assert justified == declared


def test_the_changelog_starts_with_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert __version__ in headings[:2]  # the first may be "Unreleased"
    assert flambeau.__version__ == __version__


def test_the_package_is_typed() -> None:
    assert (ROOT / "flambeau" / "py.typed").is_file()
