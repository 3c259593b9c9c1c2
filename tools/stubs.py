"""Type stubs of what the table of operations makes: the tensor's methods and the packages' names.

A type checker cannot see methods that rows hang on `Tensor`, nor names that the table publishes.
Their signatures are read here from the running package, and everything else from the sources.
`tools/generate.py` writes the results; nothing else reads them but type checkers and editors.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flambeau
from flambeau.ops.rows import FUNCTIONAL, NAMES, SPACES
from flambeau.tensor import Tensor

ROOT = Path(__file__).resolve().parent.parent
NOTE = "# Written by tools/generate.py from the table of operations; do not edit.\n"

#: Names that annotations use -> how a stub says them, whatever its own members are called.
TYPES = {
    **{name: f"_builtins.{name}" for name in ("bool", "int", "float", "complex", "str", "type")},
    **{name: f"_builtins.{name}" for name in ("tuple", "list", "dict", "object", "slice")},
    **{name: name for name in ("None", "Any", "Tensor", "np", "ndarray", "Self")},
    "DType": "_DType",
    "dtype": "_DType",
    "dtypes": "_dtypes",
    "Device": "_Device",
    "device": "_Device",
    "Layout": "_Layout",
    "Size": "_Size",
    "Generator": "_Generator",
    "GradFn": "_GradFn",
    "Handle": "_Handle",
    "Node": "_Node",
    "record": "_record",
    "TypedStorage": "_TypedStorage",
    "UntypedStorage": "_UntypedStorage",
}

IMPORTS = """\
import builtins as _builtins
from typing import Any

import numpy as np

from flambeau import record as _record
from flambeau.device import device as _Device
from flambeau.dtype import dtype as _DType
from flambeau.ir.graph import Node as _Node
from flambeau.layout import layout as _Layout
from flambeau.ops.generator import Generator as _Generator
from flambeau.size import Size as _Size
from flambeau.storage import TypedStorage as _TypedStorage
from flambeau.storage import UntypedStorage as _UntypedStorage
from flambeau.tape import GradFn as _GradFn
from flambeau.tape import Handle as _Handle
"""

#: Methods whose type differs from that of `object`, as it does in NumPy.
OVERRIDES = {"__eq__", "__ne__"}


def spelled(annotation: Any) -> str:
    """An annotation's text with names that no member of the stub hides; Any for what is unknown."""
    if annotation is inspect.Parameter.empty:
        return "Any"
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "Any")
    text = re.sub(r"\b_b\.", "", text)
    if '"' in text or "'" in text or "Callable" in text:
        return "Any"

    def one(found: re.Match[str]) -> str:
        return TYPES.get(found.group(), "Any")

    # a name after a dot belongs to what stands before it
    return re.sub(r"(?<![.\w])[A-Za-z_]\w*", one, text)


def default(value: Any) -> str:
    """A default value as a stub writes it."""
    plain = value is None or isinstance(value, bool | int | str)
    return repr(value).replace("'", '"') if plain else "..."


_STARS: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def parameters(signature: inspect.Signature, method: bool, broadcasts: bool) -> str:
    """The parameters of a stub's function; those of a row that broadcasts may be numbers."""
    found = list(signature.parameters.values())
    parts: list[str] = []
    kinds = inspect.Parameter
    if method and found and found[0].kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD):
        found = found[1:]
        parts.append("self")
    elif method:
        parts.append("self")
    starred = optional = False
    numbers_too = "Tensor | _builtins.float" if broadcasts else "Tensor"
    for p in found:
        if p.kind is kinds.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        mark = _STARS.get(p.kind, "")
        starred = starred or p.kind is kinds.VAR_POSITIONAL
        kind = spelled(p.annotation)
        text = f"{mark}{p.name}: {numbers_too if kind == 'Tensor' else kind}"
        if p.default is not kinds.empty:
            text += f" = {default(p.default)}"
            optional = True
        elif optional and not mark and p.kind is not kinds.KEYWORD_ONLY:
            text += " = ..."  # a row may have a required number after an optional one
        parts.append(text)
    return ", ".join(parts)


def function(name: str, value: Callable[..., Any], method: bool = False) -> list[str]:
    """The lines of one function in a stub."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        signature = inspect.Signature(
            [
                inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
                inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
            ]
        )
    result = spelled(signature.return_annotation)
    if method and result == "Any" and name.startswith("__") and name not in _NOT_TENSORS:
        result = "Tensor"  # an operator, whatever row stands behind it
    ignore = "  # type: ignore[override]" if method and name in OVERRIDES else ""
    row = getattr(value, "row", None)
    broadcasts = row is not None and row.kind == "elementwise"
    head = f"def {name}({parameters(signature, method, broadcasts)}) -> {result}:"
    doc = summary(value)
    if not doc:
        return [f"{head} ...{ignore}"]
    return [f"{head}{ignore}", f'    """{doc}"""']


#: Special methods that do not give a tensor.
_NOT_TENSORS = {"__array__", "__new__", "__init__", "__iter__", "__reduce_ex__", "__reduce__"} | {
    "__setitem__",
    "__deepcopy__",
    "__dlpack__",
    "__dlpack_device__",
    "__setstate__",
}


def summary(value: Any) -> str:
    """The first line of a docstring, if it can stand in one line."""
    lines = (inspect.getdoc(value) or "").splitlines()
    return lines[0].replace("\\", "\\\\").replace('"""', "'''") if lines else ""


def attribute(name: str, value: Any) -> list[str]:
    """The lines of a member of `Tensor` that its class body does not show."""
    if isinstance(value, property):
        getter = value.fget
        assert getter is not None
        found = inspect.signature(getter).return_annotation
        result = "Tensor" if found is inspect.Signature.empty else spelled(found)
        lines = ["@property", f"def {name}(self) -> {result}: ..."]
        if value.fset is not None:
            lines += [f"@{name}.setter", f"def {name}(self, value: Any) -> None: ..."]
        return lines
    if isinstance(value, staticmethod):
        return ["@staticmethod", *function(name, value.__func__)]
    if isinstance(value, classmethod):
        return ["@classmethod", *function(name, value.__func__, method=True)]
    if callable(value):
        return function(name, value, method=True)
    return [f"{name}: {TYPES.get(type(value).__name__, 'Any')}"]


def from_source(node: ast.stmt, method: bool = False) -> list[str]:
    """The stub of one statement of a source: bodies go, unannotated values get simple types."""
    if isinstance(node, ast.FunctionDef):
        node.body = [ast.Expr(ast.Constant(...))]
        if doc := ast.get_docstring(node):
            node.body = [ast.Expr(ast.Constant(doc.splitlines()[0]))]
        # to a type checker, members that others may override are plain ones
        words = {"attribute": ["property"], "overridable": []}
        names = [
            n for d in node.decorator_list for n in words.get(ast.unparse(d), [ast.unparse(d)])
        ]
        node.decorator_list = [ast.parse(name, mode="eval").body for name in names]
        return respelled(ast.unparse(node)).splitlines()
    if isinstance(node, ast.AnnAssign):
        return [f"{ast.unparse(node.target)}: {spelled(ast.unparse(node.annotation))}"]
    if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
        if isinstance(node.value, ast.Name) and method:
            return [f"{target.id} = {node.value.id}"]
        value = node.value.value if isinstance(node.value, ast.Constant) else None
        kind = "Any" if value is None else TYPES.get(type(value).__name__, "Any")
        return [f"{target.id}: {kind}"]
    return []


def respelled(source: str) -> str:
    """A function's stub with its annotations as `spelled` writes them."""
    tree = ast.parse(source)
    made = tree.body[0]
    assert isinstance(made, ast.FunctionDef)
    arguments = made.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    for a in [*every, *filter(None, (arguments.vararg, arguments.kwarg))]:
        if a.annotation is not None:
            a.annotation = ast.parse(spelled(ast.unparse(a.annotation)), mode="eval").body
    if made.returns is not None:
        made.returns = ast.parse(spelled(ast.unparse(made.returns)), mode="eval").body
    defaults: list[Any] = [arguments.defaults, arguments.kw_defaults]
    for values in defaults:
        values[:] = [
            d if d is None or isinstance(d, ast.Constant) else ast.Constant(...) for d in values
        ]
    return ast.unparse(made)


def indented(lines: Iterable[str]) -> list[str]:
    """Lines one level deeper."""
    return [f"    {line}" if line else line for line in lines]


def class_stub(node: ast.ClassDef, members: dict[str, Any]) -> list[str]:
    """A class from its source and from the members it got later."""
    lines = []
    seen = set()
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            seen.add(statement.name)
        elif isinstance(statement, ast.Assign):
            seen.update(t.id for t in statement.targets if isinstance(t, ast.Name))
        elif isinstance(statement, ast.AnnAssign):
            seen.add(ast.unparse(statement.target))
        lines += from_source(statement, method=True)
    hidden = {"__module__", "__doc__", "__dict__", "__weakref__", "__annotations__"}
    for name in sorted(set(members) - seen - hidden):
        lines += attribute(name, members[name])
    doc = ast.get_docstring(node)
    head = [f'"""{doc.splitlines()[0]}"""'] if doc else []
    bases = ", ".join(ast.unparse(b) for b in [*node.bases, *node.keywords])
    title = f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    return [title, *indented([*head, *(lines or ["..."])])]


def tensor_stub() -> str:
    """The stub of `flambeau/tensor.py`."""
    tree = ast.parse((ROOT / "flambeau" / "tensor.py").read_text(encoding="utf-8"))
    imports = []
    lines: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            if not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
                imports.append(ast.unparse(node))
        elif isinstance(node, ast.ClassDef):
            members = dict(vars(Tensor)) if node.name == "Tensor" else {}
            lines += [*class_stub(node, members), ""]
        else:
            lines += from_source(node)
    return "\n".join([NOTE, IMPORTS, *imports, "", *lines]).rstrip() + "\n"


def published(names: dict[str, Callable[..., Any]]) -> list[str]:
    """The functions that the table publishes under these names."""
    return [line for name in sorted(names) for line in function(name, names[name])]


def reexports(path: Path, but: Iterable[str] = ()) -> list[str]:
    """A source's imports, said so that what they import is public."""
    found = []
    skipped = set(but)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for a in node.names:
                name = a.asname or a.name
                if name not in skipped and (name[0] != "_" or name.startswith("__")):
                    found.append(f"from {node.module} import {a.name} as {name}")
        elif isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
            if target.id != "__all__":
                value = ast.literal_eval(node.value)
                kind = TYPES.get(type(value).__name__, "None")
                found.append(f"{target.id}: {kind}")
    return found


def package_stub() -> str:
    """The stub of `flambeau/__init__.py`: its imports, and every public row."""
    source = ROOT / "flambeau" / "__init__.py"
    rows: dict[str, Any] = {n: f for n, f in NAMES.items() if getattr(flambeau, n, None) is f}
    head = [NOTE, IMPORTS, "from flambeau.tensor import Tensor as Tensor"]
    later = [
        "from flambeau.explanation import Explanation as Explanation",
        "from flambeau.explanation import explain as explain",
        "from flambeau.serialization import load as load",
        "from flambeau.serialization import save as save",
    ]
    return "\n".join([*head, *reexports(source, rows), *later, "", *published(rows)]) + "\n"


def functional_stub() -> str:
    """The stub of `flambeau/nn/functional.py`."""
    source = ROOT / "flambeau" / "nn" / "functional.py"
    head = [NOTE, IMPORTS, "from flambeau.tensor import Tensor as Tensor"]
    lines = reexports(source, {"FUNCTIONAL", "Any"})
    return "\n".join([*head, *lines, "", *published(FUNCTIONAL)]) + "\n"


def space_stub(space: str) -> str:
    """The stub of a module of the package that the table fills."""
    source = ROOT / "flambeau" / f"{space.replace('.', '/')}.py"
    head = [NOTE, IMPORTS, "from flambeau.tensor import Tensor as Tensor"]
    lines = reexports(source, {"SPACES", "Any"})
    return "\n".join([*head, *lines, "", *published(SPACES[space])]) + "\n"


#: Path of each stub -> the function that gives its text.
STUBS: dict[str, Callable[[], str]] = {
    "flambeau/__init__.pyi": package_stub,
    "flambeau/nn/functional.pyi": functional_stub,
    "flambeau/tensor.pyi": tensor_stub,
    **{
        f"flambeau/{space.replace('.', '/')}.pyi": functools.partial(space_stub, space)
        for space in SPACES
    },
}
