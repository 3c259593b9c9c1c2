"""Names say what a thing is: no drawer for leftovers, and public things are documented."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest

from tests.house.tree import files, parse, python_files

FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "misc", "shared"}

#: Packages that torch names so; users import them.
TORCH_NAMED = ("flambeau/nn/utils", "flambeau/utils")

#: Methods whose meaning the class or the protocol already gives.
UNDOCUMENTED_METHODS = {"forward", "extra_repr", "reset_parameters"}


def test_no_drawers_for_leftovers() -> None:
    wrong = [
        name
        for name in files()
        if not name.startswith(TORCH_NAMED)
        and any(part.split(".")[0] in FORBIDDEN for part in PurePosixPath(name).parts)
    ]
    assert not wrong, f"say what it is for: {', '.join(wrong)}"


def undocumented(name: str) -> Iterator[str]:
    """Public modules, classes, functions and methods of a source that have no docstring."""
    tree = parse(name)
    if ast.get_docstring(tree) is None and tree.body:
        yield f"{name}:1: the module"

    def visit(body: list[ast.stmt], owner: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.If | ast.Try):
                yield from visit(node.body, owner)
                continue
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_") or (owner and node.name in UNDOCUMENTED_METHODS):
                continue
            if any(is_accessor(decorator) for decorator in node.decorator_list):
                continue
            if ast.get_docstring(node) is None:
                yield f"{name}:{node.lineno}: {owner}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from visit(node.body, f"{owner}{node.name}.")

    yield from visit(tree.body, "")


def is_accessor(decorator: ast.expr) -> bool:
    """`@x.setter`, `@overload` and their like: documented where the first form is."""
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
    return name in {"setter", "deleter", "overload", "override", "register"}


@pytest.mark.parametrize("name", python_files("flambeau", "bench", "tools"))
def test_public_things_have_docstrings(name: str) -> None:
    missing = list(undocumented(name))
    assert not missing, "no docstring:\n" + "\n".join(missing)


@pytest.mark.parametrize(
    "module",
    ["flambeau", "flambeau.nn", "flambeau.nn.functional", "flambeau.optim", "flambeau.autograd"],
)
def test_public_names_answer_to_help(module: str) -> None:
    """What a user reaches from the package has a docstring, however it was made."""
    package = importlib.import_module(module)
    names = getattr(package, "__all__", None) or [n for n in dir(package) if n[0] != "_"]
    missing = []
    for name in names:
        value = getattr(package, name)
        documented = inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value)
        ours = (getattr(value, "__module__", None) or "flambeau").startswith("flambeau")
        if documented and ours and not inspect.getdoc(value):
            missing.append(f"{module}.{name}")
    assert not missing, "no docstring: " + ", ".join(missing)
