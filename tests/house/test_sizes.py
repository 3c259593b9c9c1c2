"""Files and functions stay of a size that can be read."""

from __future__ import annotations

import ast

import pytest

from tests.house.tree import GENERATED, ROOT, files, parse, python_files

FILE_LINES = 800
FUNCTION_LINES = 80
GENERATOR_LINES = 300  # functions that write kernels out, which are one long recipe each
GENERATORS = ("flambeau/codegen/", "flambeau/kernels/")
COLUMNS = 100
LONGEST = {
    "CONTRIBUTING.md": 150,
    "flambeau/codegen/vecmath_coefficients.py": 1000,  # a table that a tool writes
}


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    count = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        docstring = node.body[0]
        count -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return count


@pytest.mark.parametrize("name", [n for n in files() if n.endswith((".py", ".md"))])
def test_file_size(name: str) -> None:
    if name in GENERATED:
        return
    count = len((ROOT / name).read_text(encoding="utf-8").splitlines())
    longest = LONGEST.get(name, FILE_LINES)
    assert count <= longest, f"{name} has {count} lines; at most {longest}: split it by subject"


@pytest.mark.parametrize("name", python_files())
def test_function_size(name: str) -> None:
    limit = GENERATOR_LINES if name.startswith(GENERATORS) else FUNCTION_LINES
    long = [
        f"{name}:{node.lineno}: {node.name}() has {lines_of(node)} lines; at most {limit}"
        for node in ast.walk(parse(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > limit
    ]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("name", python_files())
def test_line_length(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    long = [
        f"{name}:{number}: {len(line)} columns"
        for number, line in enumerate(lines, 1)
        if len(line) > COLUMNS
    ]
    assert not long, "\n".join(long)
