"""Exported programs as files: a zip of the graphs as text and the tensors as safetensors.

    version              the format, and flambeau's version
    program.json         inputs, outputs, ranges of sizes, states
    inference.txt        the graph, as `export.text` writes it
    forward.txt, backward.txt   those of training, if there are gradients
    tensors.safetensors  states and constants

Nothing is unpickled and no code is run. What is read is checked: the text by its grammar, the
graph by the rules of the IR for the sizes at hand, and again for other sizes when it runs with
them.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

from flambeau import safetensors
from flambeau.dtype import ALL
from flambeau.export.dims import ExportError
from flambeau.export.graph import Traced
from flambeau.export.program import ExportedProgram, Input, Joint
from flambeau.export.text import graph_text, read_graph, read_value, value_text
from flambeau.export.trace import Value
from flambeau.ir.symbol import RELATIONS, SMALLEST, Guard, Symbols
from flambeau.pytree import TreeSpec
from flambeau.serialization import replacing
from flambeau.tensor import Tensor
from flambeau.version import __version__

FORMAT = "1"
_DTYPES = {d.name: d for d in ALL}
_MOST_BYTES = 1 << 40
_PLAIN = (type(None), bool, int, float, str)
_TRAINING = ("forward", "backward")


def save(
    ep: ExportedProgram,
    f: str | os.PathLike[str] | io.BytesIO,
    *,
    extra_files: dict[str, Any] | None = None,
    opset_version: dict[str, int] | None = None,
    pickle_protocol: int = 2,
) -> None:
    """Write an exported program; a file that is there is replaced at once or not at all.

    Args:
        ep: the program.
        f: a path (by custom ending in `.pt2`), or a file object.
        extra_files: names and texts that are stored beside it.
        opset_version, pickle_protocol: accepted; nothing is pickled.

    Raises:
        ExportError: the program holds something that has no text.
        OSError: the file cannot be written.
    """
    if not isinstance(ep, ExportedProgram):
        raise TypeError(
            f"The 'ep' parameter must be an instance of 'ExportedProgram', got "
            f"'{type(ep).__name__}' instead."
        )
    entries = {"version": f"{FORMAT} {__version__}\n", "program.json": _json(ep)}
    entries["inference.txt"] = graph_text(ep.traced, ep.input_names)
    if ep.joint is not None:
        for name, graph in zip(_TRAINING, (ep.joint.forward, ep.joint.backward), strict=True):
            names = [f"i{k}" for k in range(graph.inputs)]
            entries[f"{name}.txt"] = graph_text(graph, names)
    for name, text in (extra_files or {}).items():
        entries[f"extra/{name}"] = text
    tensors = {f"state.{k}": v.detach() for k, v in ep._states.items()}
    tensors |= {f"constant.{k}": t for k, t in enumerate(ep._constants)}
    data = safetensors.save({k: v.clone().contiguous() for k, v in tensors.items()})
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
        archive.writestr("tensors.safetensors", data)
    if hasattr(f, "write"):
        f.write(made.getvalue())
        return
    with replacing(Path(f)) as sink:
        sink.write(made.getvalue())


def _json(ep: ExportedProgram) -> str:
    inputs = []
    for i in ep.inputs:
        if i.dtype is None:
            inputs.append({"path": i.path, "value": _plain(i.value, i.path)})
        else:
            with ep.traced.symbols:
                shape = value_text(i.shape)
            inputs.append({"path": i.path, "shape": shape, "dtype": i.dtype.name})
    outputs = [
        {"value": _plain(o.value, "an output")} if isinstance(o, Value) else o for o in ep.outputs
    ]
    with ep.traced.symbols:
        draws = [value_text(g.draws) for g in _graphs(ep)]
        guards = [[g.relation, str(g.expression), g.line] for g in ep.guards]
    return json.dumps(
        {
            "inputs": inputs,
            "in_spec": _tree(ep.in_spec),
            "outputs": outputs,
            "out_spec": _tree(ep.out_spec),
            "states": {
                name: [kind, ep._states[name].requires_grad] for name, kind in ep.kinds.items()
            },
            "aliases": ep.aliases,
            "written": ep.written,
            "constants": len(ep._constants),
            "ranges": ep.range_constraints,
            "at_hand": dict(zip(ep.traced.symbols.names, ep.traced.symbols.at_hand, strict=False)),
            "guards": guards,
            "draws": draws,
            "refusal": ep.refusal,
            "joint": None
            if ep.joint is None
            else {"cotangents": ep.joint.cotangents, "gradients": ep.joint.gradients},
        },
        indent=1,
    )


def _graphs(ep: ExportedProgram) -> list[Traced]:
    joint = [] if ep.joint is None else [ep.joint.forward, ep.joint.backward]
    return [ep.traced, *joint]


def _plain(value: Any, where: str) -> Any:
    if not isinstance(value, _PLAIN):
        raise ExportError(f"{where} is a {type(value).__name__}, which cannot be saved")
    return value


_CONTAINERS: dict[str, type] = {"tuple": tuple, "list": list, "dict": dict}


def _tree(spec: TreeSpec) -> Any:
    """A structure of inputs or outputs as JSON.

    Raises:
        ExportError: it has containers other than tuples, lists and dictionaries.
    """
    if spec.is_leaf():
        return "*"
    kind = getattr(spec.type, "__name__", "")
    if _CONTAINERS.get(kind) is not spec.type:
        raise ExportError(f"inputs or outputs in a {kind or spec.type} cannot be saved")
    return [kind, spec.context, [_tree(child) for child in spec.children_specs]]


def _spec(tree: Any) -> TreeSpec:
    if tree == "*":
        return TreeSpec(None, None, [])
    kind, context, children = tree
    return TreeSpec(_CONTAINERS[kind], context, [_spec(child) for child in children])


# -- reading ---------------------------------------------------------------------------------------


def load(
    f: str | os.PathLike[str] | io.BytesIO,
    *,
    extra_files: dict[str, Any] | None = None,
    expected_opset_version: dict[str, int] | None = None,
) -> ExportedProgram:
    """Read what `save` wrote.

    Args:
        f: a path or a file object.
        extra_files: names whose values are set to the texts stored beside the program.
        expected_opset_version: accepted; the format has one version.

    Raises:
        ExportError: the file is no exported program, is damaged, or was made by a later version.
        FileNotFoundError: there is no such file.
    """
    entries = entries_of(f)
    found = program_of(entries)
    for name in extra_files or {}:
        assert extra_files is not None
        extra_files[name] = entries.get(f"extra/{name}", b"").decode("utf-8", "replace")
    return found


def entries_of(f: str | os.PathLike[str] | io.BytesIO) -> dict[str, bytes]:
    """What stands in a file, by name.

    Raises:
        ExportError: it is no archive, or a damaged one.
        FileNotFoundError: there is no such file.
    """
    try:
        with zipfile.ZipFile(f) as archive:
            return _entries(archive)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, RuntimeError) as error:
        raise ExportError(f"this is no exported program, or a damaged one: {error}") from None


def program_of(entries: dict[str, bytes]) -> ExportedProgram:
    """The program that stands in a file.

    Raises:
        ExportError: there is none, it is damaged, or was made by a later version.
    """
    version = entries.get("version", b"").split()
    if not version or version[0] != FORMAT.encode():
        raise ExportError(
            f"this file is of format {version[:1]!r}, and flambeau {__version__} reads {FORMAT!r}; "
            "export the program again"
        )
    try:
        return _program(entries)
    except ExportError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise ExportError(
            f"the exported program is damaged: {type(error).__name__}: {error}"
        ) from None


def _entries(archive: zipfile.ZipFile) -> dict[str, bytes]:
    names = archive.namelist()
    if len(set(names)) != len(names):
        raise ValueError("an entry stands in it twice")
    total = sum(i.file_size for i in archive.infolist())
    if total > _MOST_BYTES:
        raise ValueError(f"its entries are {total} bytes long")
    for i in archive.infolist():
        if i.compress_type != zipfile.ZIP_STORED or i.flag_bits & 1:
            raise ValueError(f"its entry {i.filename!r} is compressed or encrypted")
    return {name: archive.read(name) for name in names}


def _program(entries: dict[str, bytes]) -> ExportedProgram:
    meta = json.loads(entries["program.json"].decode("utf-8"))
    ranges = {
        str(name): (int(low), None if high is None else int(high))
        for name, (low, high) in meta["ranges"].items()
    }
    symbols = Symbols()
    sizes = {
        name: symbols.symbol(max(int(meta["at_hand"][name]), SMALLEST), name) for name in ranges
    }
    tensors = safetensors.load(entries["tensors.safetensors"])
    states: dict[str, Tensor] = {}
    kinds: dict[str, str] = {}
    for name, (kind, needs) in meta["states"].items():
        if kind not in ("parameter", "buffer", "temporary"):
            raise ExportError(f"state {name!r} is a {kind!r}")
        states[name], kinds[name] = tensors[f"state.{name}"], kind
        if needs:
            states[name].requires_grad_()
    constants = [tensors[f"constant.{k}"] for k in range(int(meta["constants"]))]
    draws = [str(d) for d in meta["draws"]]

    def graph(name: str, number: int) -> Traced:
        text = entries[f"{name}.txt"].decode("utf-8")
        found = read_graph(text, symbols, sizes, draws[number])
        found.trusted = False
        return found

    traced = graph("inference", 0)
    inputs = []
    with symbols:
        for i in meta["inputs"]:
            if "dtype" in i:
                shape = tuple(read_value(str(i["shape"]), symbols, sizes))
                inputs.append(Input(str(i["path"]), shape, _DTYPES[i["dtype"]]))
            else:
                inputs.append(Input(str(i["path"]), value=_plain(i["value"], "an input")))
    joint = None
    if meta["joint"] is not None:
        joint = Joint(
            graph("forward", 1),
            graph("backward", 2),
            [int(k) for k in meta["joint"]["cotangents"]],
            [int(k) for k in meta["joint"]["gradients"]],
        )
    guards = []
    for relation, expression, line in meta["guards"]:
        if relation not in RELATIONS:
            raise ExportError(f"{relation!r} is no relation")
        size = read_value(str(expression), symbols, sizes)
        guards.append(Guard(relation, size.expression, str(line)))
    outputs = [Value(o["value"]) if isinstance(o, dict) else int(o) for o in meta["outputs"]]
    program = ExportedProgram(
        traced,
        joint,
        inputs,
        _spec(meta["in_spec"]),
        outputs,
        _spec(meta["out_spec"]),
        states,
        kinds,
        [str(n) for n in meta["written"]],
        constants,
        ranges,
        guards,
        None if meta.get("refusal") is None else str(meta["refusal"]),
        {str(k): str(of) for k, of in meta.get("aliases", {}).items()},
    )
    program.verify()
    return program


__all__ = ["entries_of", "load", "program_of", "save"]
