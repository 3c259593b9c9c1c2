"""Imports follow the order of the layers, stand at the top of their files, and form no cycle."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

import pytest

from tests.house.tree import module_name, parse, python_files

#: The layers, lowest first. A module may import from its own layer and from those below it.
#: A new module belongs to the layer of its package or is added here.
LAYERS = (
    "dtype dtypes device size version layout pytree return_types",
    "ir",
    "record recovery snapshots tensor tape storage dlpack printing overriding",
    "ops",
    "autograd",
    "passes",
    "codegen",
    "kernels",
    "runtime",
    "budget compile compiler deferred drawing explanation legacy library profiler random settings "
    "sharing",
    "control distributions func nn optim data utils amp distributed export archive unpickle "
    "ao array_api checkpoint fx nested overrides safetensors serialization tensorboard testing fft "
    "linalg masked signal sparse special",
    "cli commands interpose __main__",
)
RANK = {f"flambeau.{name}": rank for rank, names in enumerate(LAYERS) for name in names.split()}

#: Parts of the runtime that every layer may stand on: they know about dtypes and nothing else.
GROUND = {
    f"flambeau.runtime.{name}"
    for name in (
        "cpuinfo",
        "jit",
        "memory",
        "objects",
        "pool_ir",
        "profile",
        "softfloat",
        "threads",
    )
}

#: Written in the public API only, so they import the package itself.
PUBLIC_API_RANK = RANK["flambeau.nn"]

#: Where a function may import an optional package.
TARGET_FILES = (
    "flambeau/codegen/",
    "flambeau/kernels/",
    "flambeau/runtime/",
    "flambeau/distributed/transport/",
    "flambeau/distributed/ray.py",
    "flambeau/export/",
)
BASE_PACKAGES = {
    *("flambeau", "numpy", "scipy", "llvmlite", "ml_dtypes", "safetensors", "rich", "platformdirs"),
    *sys.stdlib_module_names,
}

SOURCES = python_files("flambeau")
MODULES = {module_name(name) for name in SOURCES}


def rank_of(module: str) -> int:
    """The layer of a module: its own entry, or the one of the nearest package above it."""
    if module in GROUND:
        return 0
    parts = module.split(".")
    for length in range(len(parts), 1, -1):
        if (rank := RANK.get(".".join(parts[:length]))) is not None:
            return rank
    raise AssertionError(f"{module} belongs to no layer; add it to LAYERS in {__file__}")


def imported(node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> list[str]:
    """The modules an import statement names, relative imports resolved."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parts = module.split(".") if is_package else module.split(".")[:-1]
        parts = parts[: len(parts) - node.level + 1]
        base = ".".join([*parts, base]) if base else ".".join(parts)
    # `from package import name` imports package.name where that is a module
    return [full if (full := f"{base}.{a.name}") in MODULES else base for a in node.names]


def is_type_checking(node: ast.AST) -> bool:
    """Whether this is `if TYPE_CHECKING:`."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def imports(tree: ast.AST, inside: str = "") -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Every import that runs, with the name of the function it stands in ("" for none)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, inside
        elif is_type_checking(node):
            for other in node.orelse:  # type: ignore[attr-defined]
                yield from imports(other, inside)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(node, node.name)
        else:
            yield from imports(node, inside)


def edges(name: str) -> list[tuple[int, str]]:
    """(line, module) for each module of flambeau that a source imports when it is imported."""
    module, is_package = module_name(name), name.endswith("/__init__.py")
    return [
        (node.lineno, target)
        for node, _ in imports(parse(name))
        for target in imported(node, module, is_package)
        if target.split(".")[0] == "flambeau"
    ]


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_imports_only_from_its_layer_and_below(name: str) -> None:
    module = module_name(name)
    if module == "flambeau":
        return
    own = rank_of(module)
    wrong = []
    for line, target in edges(name):
        if target == "flambeau":
            if own < PUBLIC_API_RANK:
                wrong.append(
                    f"{name}:{line}: imports the package itself, from below the public API"
                )
        elif module in GROUND and target not in GROUND and rank_of(target) > 0:
            wrong.append(f"{name}:{line}: {module} may know dtypes only, but imports {target}")
        elif rank_of(target) > own:
            wrong.append(f"{name}:{line}: {module} imports {target}, which is a layer above it")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", SOURCES)
def test_imports_stand_at_the_top(name: str) -> None:
    wrong = []
    for node, function in imports(parse(name)):
        if not function:
            continue
        for target in imported(node, module_name(name), name.endswith("/__init__.py")):
            if target.split(".")[0] in BASE_PACKAGES:
                wrong.append(f"{name}:{node.lineno}: {function}() imports {target}; move it up")
            elif not name.startswith(TARGET_FILES):
                wrong.append(
                    f"{name}:{node.lineno}: {function}() imports the optional {target}; "
                    "only a target's file may"
                )
    assert not wrong, "\n".join(wrong)


def test_imports_form_no_cycle() -> None:
    # importing the package runs its __init__, but that is the end of the order, not a step in it
    graph = {
        module_name(name): sorted({target for _, target in edges(name)} - {"flambeau"})
        for name in SOURCES
        if module_name(name) != "flambeau"
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module in done:
            return
        for target in graph.get(module, ()):
            if target != module:
                visit(target, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_the_lowest_runtime_parts_do_not_drag_the_runtime_in() -> None:
    # importing flambeau.runtime.jit runs flambeau/runtime/__init__.py first
    assert not edges("flambeau/runtime/__init__.py")


def test_the_package_defines_nothing() -> None:
    """`flambeau/__init__.py` gives names to what is defined elsewhere."""
    allowed = ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.Expr | ast.Delete
    tree = parse("flambeau/__init__.py")
    wrong = [
        f"flambeau/__init__.py:{node.lineno}: {type(node).__name__}"
        for node in tree.body
        if not isinstance(node, allowed)
    ]
    assert not wrong, "\n".join(wrong)
