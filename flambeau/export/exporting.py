"""`export`: a module traced into a program.

What tracing means is in `trace.py`, sizes are in `dims.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from flambeau import record
from flambeau.export.dims import ExportError, Sizes, dimensions
from flambeau.export.graph import Traced
from flambeau.export.program import ExportedProgram, Input, Joint
from flambeau.export.shapes import AdditionalInputs, ShapesCollection, loosened
from flambeau.export.text import graph_text
from flambeau.export.trace import Found, placeholder, trace
from flambeau.ir.graph import PICK, Node, below, draws
from flambeau.ir.symbol import Guard
from flambeau.nn.module import Module
from flambeau.ops.branches import NoGradient
from flambeau.pytree import (
    GetAttrKey,
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_unflatten,
)
from flambeau.tensor import Tensor

#: What a program may raise for sizes that it was not written for.
_FAILURES = (RuntimeError, ValueError, IndexError, TypeError)


class _Subject:
    """A module with example inputs, to be traced with different sizes.

    Args:
        mod, args, kwargs, dynamic_shapes: as in `export`.
        line: says where in the module's program tracing is.

    Attributes:
        in_spec, out_spec: structures of the inputs and of the result.
        leaves: the inputs, of which those at the places `where` are tensors.
        titles: words for each.
        states, kinds: parameters and buffers by name, and what each is.
        sizes: what is symbolic.
    """

    def __init__(
        self,
        mod: Module,
        args: Any,
        kwargs: dict[str, Any],
        dynamic_shapes: Any,
        line: Callable[[], str],
    ) -> None:
        self.mod = mod
        self.line = line
        paths, self.in_spec = tree_flatten_with_path((args, kwargs))
        self.titles = [_title(path) for path, _ in paths]
        self.leaves = [leaf for _, leaf in paths]
        self.where = [k for k, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]
        self.states, self.kinds = _states(mod)
        self.out_spec: Any = None
        specs = _specs(mod, args, kwargs, dynamic_shapes)
        titles = [self.titles[k] for k in self.where]
        shapes = [tuple(self.leaves[k].shape) for k in self.where]
        given = [
            dimensions(specs.get(paths[k][0]), len(shape), title)
            for k, shape, title in zip(self.where, shapes, titles, strict=True)
        ]
        self.sizes = Sizes(shapes, given, titles)

    def call(self, given: list[Tensor]) -> list[Any]:
        """The leaves of the module's result for other tensors."""
        leaves = list(self.leaves)
        for k, t in zip(self.where, given, strict=True):
            leaves[k] = t
        args, kwargs = tree_unflatten(leaves, self.in_spec)
        found, self.out_spec = tree_flatten(self.mod(*args, **kwargs))
        return found

    def traced(self, hints: dict[str, int], gradients: bool) -> tuple[Found, list[Any]]:
        """The graph for these sizes at hand, and the inputs' shapes."""
        symbols, shapes = self.sizes.symbolic(self.line, hints)
        inputs = [
            (shape, self.leaves[k].dtype, self.leaves[k]._cell.device)
            for shape, k in zip(shapes, self.where, strict=True)
        ]
        return trace(self.call, list(self.states.items()), inputs, symbols, gradients), shapes

    def first(self, gradients: bool) -> tuple[Found, list[Any]]:
        """The graph for sizes that no constant of the program has by chance, or where it fails
        with those, so that what it asks is told, for the sizes of the example."""
        given = self.sizes.hints
        try:
            self.sizes.hints = self.sizes.others()
            return self.traced(self.sizes.hints, gradients)
        except _FAILURES:
            self.sizes.hints = given
            return self.traced(given, gradients)

    def settled(self, gradients: bool) -> tuple[Found, list[Any], list[Guard]]:
        """The graph for all sizes in their ranges, and what else must hold of them.

        Raises:
            ExportError: there is no such graph.
        """

        def at(hints: dict[str, int]) -> str:
            return _anonymous(self.traced(hints, gradients)[0].graph)

        while True:
            found, shapes = self.first(gradients)
            text = _anonymous(found.graph)
            guards = self.sizes.settle(found.graph.symbols, partial(_differs, text, at))
            if not self.sizes.changed:
                _check_alike(self.sizes, text, at)
                return found, shapes, guards


def export(
    mod: Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    strict: bool = False,
    preserve_module_call_signature: tuple[str, ...] = (),
    prefer_deferred_runtime_asserts_over_guards: bool = False,
) -> ExportedProgram:
    """Trace a module into a program that runs without its Python.

    Args:
        mod: the module, in the mode (`train`, `eval`) that the program shall have.
        args: example inputs; only shapes, dtypes and values that are no tensors matter.
        kwargs: example inputs by name.
        dynamic_shapes: which sizes may change: by parameter name (a dict) or position (a tuple or
            list), in the structure of the inputs; for each tensor None, {dimension: `Dim`}, or an
            entry per dimension. Everything else is fixed. Or a `ShapesCollection`, or
            `AdditionalInputs`.
        strict, preserve_module_call_signature, prefer_deferred_runtime_asserts_over_guards:
            accepted; there is one way of tracing.

    Returns:
        The program. Its parameters and buffers are those of the module.

    Raises:
        ExportError: sizes that the program fixes, values that it reads, or state that it changes
            in ways that a graph cannot repeat; the message says where and what to do.

    Example:
        >>> from flambeau import nn, ones
        >>> from flambeau.export import Dim
        >>> program = export(nn.Linear(3, 2), (ones(4, 3),), dynamic_shapes=({0: Dim("batch")},))
        >>> program.module()(ones(7, 3)).shape
        torch.Size([7, 2])
    """
    if not isinstance(mod, Module):
        raise ValueError(f"Expected `mod` to be an instance of `torch.nn.Module`, got {type(mod)}.")
    if not isinstance(args, tuple):
        raise ExportError(
            f"Expecting `args` to be a tuple of example positional inputs, got {type(args)}"
        )
    line = partial(record.calling_trace, 1)
    if isinstance(dynamic_shapes, (ShapesCollection, AdditionalInputs)):
        dynamic_shapes = dynamic_shapes.dynamic_shapes(mod, args, kwargs)
    return program_of(mod, args, dict(kwargs or {}), dynamic_shapes, line)


def draft_export(
    mod: Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    preserve_module_call_signature: tuple[str, ...] = (),
    strict: bool = False,
    prefer_deferred_runtime_asserts_over_guards: bool = False,
) -> ExportedProgram:
    """As `export`, but a size that the program fixes is fixed with a warning, not refused.

    Args:
        mod, args, kwargs, dynamic_shapes, preserve_module_call_signature, strict,
            prefer_deferred_runtime_asserts_over_guards: as there; every `Dim` is `Dim.AUTO`.
    """
    if isinstance(dynamic_shapes, (ShapesCollection, AdditionalInputs)):
        dynamic_shapes = dynamic_shapes.dynamic_shapes(mod, args, kwargs)
    return export(mod, args, kwargs, dynamic_shapes=loosened(dynamic_shapes))


def program_of(
    mod: Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic_shapes: Any,
    line: Callable[[], str],
) -> ExportedProgram:
    """The program of a module; what `export` does.

    Args:
        mod, args, kwargs, dynamic_shapes: as there.
        line: says where in the module's program tracing is, for messages about sizes.
    """
    subject = _Subject(mod, args, kwargs, dynamic_shapes, line)
    found, shapes, guards = subject.settled(False)
    joint = refusal = None
    if any(t.requires_grad for t in subject.states.values()):
        try:
            both, shapes, more = subject.settled(True)
        except NoGradient as error:
            refusal = str(error)
        else:
            known = {str(g) for g in guards}
            guards += [g for g in more if str(g) not in known]
            joint = _joint(found, both, len(subject.states) + len(subject.where))
    shape_of = dict(zip(subject.where, shapes, strict=True))
    inputs = [
        Input(title, shape_of[k], leaf.dtype) if k in shape_of else Input(title, value=leaf)
        for k, (title, leaf) in enumerate(zip(subject.titles, subject.leaves, strict=True))
    ]
    program = ExportedProgram(
        found.graph,
        joint,
        inputs,
        subject.in_spec,
        found.outputs,
        subject.out_spec,
        subject.states,
        subject.kinds,
        found.written,
        found.constants,
        dict(subject.sizes.roots),
        guards,
        refusal,
        _aliases(mod, subject.states),
    )
    program.example_inputs = (args, kwargs)
    return program


def _title(path: Any) -> str:
    """`args[0]`, `kwargs['mask']`-like words for a leaf's place."""
    first, *rest = path
    return ("args" if first.idx == 0 else "kwargs") + keystr(tuple(rest))


def _states(mod: Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A module's parameters and buffers, and what each is; shared ones once."""
    states: dict[str, Tensor] = dict(mod.named_parameters())
    kinds = dict.fromkeys(states, "parameter")
    saved = mod.state_dict(keep_vars=True)
    for name, value in mod.named_buffers():
        states[name] = value
        kinds[name] = "buffer" if name in saved else "temporary"
    return states, kinds


def _aliases(mod: Module, states: dict[str, Tensor]) -> dict[str, str]:
    """The names of states that stand in several places, but the first ones, and those."""
    first = {id(t): name for name, t in states.items()}
    every = [
        *mod.named_parameters(remove_duplicate=False),
        *mod.named_buffers(remove_duplicate=False),
    ]
    return {name: first[id(t)] for name, t in every if name not in states}


def _specs(mod: Module, args: Any, named: dict[str, Any], given: Any) -> dict[Any, Any]:
    """What `dynamic_shapes` says, by the place of the tensor in (args, kwargs)."""
    if not given:
        return {}
    if isinstance(given, dict):
        try:
            bound = inspect.signature(mod.forward).bind(*args, **named)
        except TypeError as error:
            raise ExportError(f"the example inputs do not fit forward(): {error}") from None
        unknown = given.keys() - bound.arguments.keys()
        if unknown:
            raise ExportError(
                f"dynamic_shapes names {sorted(unknown)}, but the inputs are "
                f"{list(bound.arguments)}"
            )
        kinds = bound.signature.parameters
        ordered: list[Any] = []
        by_name: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            spec = given.get(name)
            if kinds[name].kind is inspect.Parameter.VAR_POSITIONAL:
                ordered += spec or [None] * len(value)
            elif kinds[name].kind is inspect.Parameter.VAR_KEYWORD:
                by_name.update(spec or {})
            else:
                ordered.append(spec)
                by_name[name] = spec
        tree: Any = (tuple(ordered[: len(args)]), {name: by_name.get(name) for name in named})
    else:
        if len(given) != len(args) + len(named):
            raise ExportError(
                f"dynamic_shapes has {len(given)} entries for {len(args) + len(named)} inputs"
            )
        rest = list(given)
        tree = (tuple(rest[: len(args)]), dict(zip(named, rest[len(args) :], strict=True)))
    found: dict[Any, Any] = {}
    paths, _ = tree_flatten_with_path((args, named))
    for path, leaf in paths:
        if not isinstance(leaf, Tensor):
            continue
        part = tree
        for key in path:
            if isinstance(key, GetAttrKey) and isinstance(part, dict):
                part = part.get(key.name)  # of a dataclass, whose own kind is taken too
            elif isinstance(part, (tuple, list, dict)) or isinstance(key, GetAttrKey):
                part = None if part is None else key.get(part)
            else:
                break
        found[path] = part
    return found


def _anonymous(graph: Traced) -> str:
    return graph_text(graph, [f"i{k}" for k in range(graph.inputs)])


def _differs(text: str, at: Callable[[dict[str, int]], str], hints: dict[str, int]) -> bool:
    """Whether the program is another one, or none, for other sizes."""
    try:
        return at(hints) != text
    except _FAILURES:
        return True


def _check_alike(sizes: Sizes, text: str, at: Callable[[dict[str, int]], str]) -> None:
    """Trace with other sizes, and refuse a program that comes out otherwise.

    Raises:
        ExportError: naming the size, and the operation where the graphs part.
    """
    hints = sizes.others()
    if hints == sizes.hints:
        return
    other = at(hints)
    if text == other:
        return
    changed = list(hints)
    for name in changed:
        alone = {**sizes.hints, name: hints[name]}
        single = at(alone)
        if single != text:
            changed, other, hints = [name], single, alone
            break
    lines = zip(text.split("\n"), other.split("\n"), strict=False)
    first = next(((a, b) for a, b in lines if a != b), ("", ""))
    shown = ", ".join(f"{n} = {sizes.hints[n]} or {hints[n]}" for n in changed)
    raise ExportError(
        f"the program is another one for each size: traced with {shown}, it differs at\n"
        f"  {first[0].strip()}\n  {first[1].strip()}\n"
        "It uses a size as a Python number, such as in range(size) or int(size). Use operations "
        "on whole tensors, a recurrent layer or torch's scan instead of a loop, or leave the size "
        "out of dynamic_shapes."
    )


def _joint(found: Found, both: Found, inputs: int) -> Joint | None:
    """Split what was traced with gradients into the graphs of a run forward and one back.

    Tensors that only training brings along become inputs of both forward graphs.
    """
    if not both.gradients:
        return None
    graph = both.graph
    first = len(found.graph.outputs)
    results, slopes = graph.outputs[:first], graph.outputs[first:]
    nodes = [n for n in graph.nodes if not n.src and n.op.kind == "input"]
    cotangents = nodes[inputs : inputs + len(both.cotangents)]
    places = _merged(found, both.constants)
    ahead = set(below(results, set(nodes)))
    # what has several results is kept by the results that the way back reads
    ahead |= {n for n in graph.nodes if n.op is PICK and n.src[0] in ahead}
    back = below(slopes, set(nodes) | ahead)
    kept = [n for n in back if (n in ahead or n in nodes) and n not in cotangents]
    # forward: the inputs without cotangents, and the program's own tensors as it has them
    own = [placeholder(0, t._shape, t.dtype) for t in found.constants]
    for place, node in zip(places, nodes[inputs + len(cotangents) :], strict=True):
        own[place] = node
    plain = [*nodes[:inputs], *own]
    forward = _renumbered(graph, below([*results, *kept], set(plain)), plain, [*results, *kept])
    rear = _renumbered(graph, back, [*kept, *cotangents], slopes)
    return Joint(forward, rear, both.cotangents, both.gradients)


def _merged(found: Found, more: Sequence[Tensor]) -> list[int]:
    """Where each of `more` stands among the tensors that a program brings along, to which those
    that are not there are added."""

    def key(t: Tensor) -> Any:
        return t._shape, t.dtype, t._array().tobytes()

    known = {key(t): k for k, t in enumerate(found.constants)}
    places: list[int] = []
    new: list[Node] = []
    for t in more:
        place = known.pop(key(t), len(found.constants))  # one for each: they are other inputs
        if place == len(found.constants):
            found.constants.append(t)
            new.append(placeholder(found.graph.inputs + len(new), t._shape, t.dtype))
        places.append(place)
    if new:
        graph = found.graph
        nodes = [*graph.nodes[: graph.inputs], *new, *graph.nodes[graph.inputs :]]
        found.graph = Traced(
            nodes, graph.outputs, graph.inputs + len(new), graph.symbols, graph.draws
        )
    return places


def _renumbered(
    graph: Traced, nodes: list[Node], inputs: list[Node], outputs: Sequence[Node]
) -> Traced:
    """A part of a graph, with some of its nodes as inputs."""
    made = {n: placeholder(k, n.shape, n.dtype) for k, n in enumerate(inputs)}
    order = [made[n] for n in inputs]
    for node in nodes:
        if node in made:
            continue
        src = tuple(made[s] if type(s) is Node else s for s in node.src)
        made[node] = Node(node.op, src, node.attrs, node.shape, node.dtype)
        order.append(made[node])
    count = graph.draws if draws(order) else 0
    return Traced(order, [made[n] for n in outputs], len(inputs), graph.symbols, count)


__all__ = ["draft_export", "export", "program_of"]
