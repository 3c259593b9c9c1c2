"""``docs/compatibility.md``: what its tool finds there, and that the page names all modules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flambeau import interpose
from tests.cli.program import ROOT
from tools import compatibility


@pytest.fixture(autouse=True)
def _in_the_place_of_torch() -> Iterator[None]:
    interpose.install()
    try:
        yield
    finally:
        interpose.uninstall()


@pytest.mark.parametrize(("module", "name", "word"), [
    ("torch", "zeros", "yes"),
    ("torch", "no_such_name", "no"),
    ("torch.Tensor", "softmax", "yes"),
    ("torch.Tensor", "no_such_name", "no"),
    ("torch.no_such_module", "zeros", "no"),
    ("torch.cuda", "CUDAGraph", "refused on use"),
])  # fmt: skip
def test_presence(module: str, name: str, word: str) -> None:
    assert compatibility.presence(module, name) == word


def test_the_page() -> None:
    found = compatibility.page({"torch": ["compile", "zeros", "no_such_name"]})
    assert "| [`torch`](#torch) | 2 | 3 |" in found
    assert "Not there: `no_such_name`." in found
    assert "- `compile`: watches" in found


def test_the_page_in_the_docs_has_every_module() -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text()
    listed = [line.split(":")[0] for line in compatibility.LIST.read_text().splitlines()]
    assert listed == list(compatibility.MODULES)
    assert all(f"## {module}\n" in page for module in listed)
