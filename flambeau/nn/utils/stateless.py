"""Modules called with other tensors in the places of their parameters and buffers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import flambeau
from flambeau.nn.module import Module

Tensors = dict[str, Any]


def _holder(module: Module, name: str) -> tuple[Module, str]:
    path, _, last = name.rpartition(".")
    return module.get_submodule(path), last


def _swap(module: Module, name: str, value: Any) -> Any:
    """Put a tensor in the place of a parameter or buffer; -> what stood there."""
    holder, last = _holder(module, name)
    for registry in (holder._parameters, holder._buffers):
        if last in registry:
            before = registry[last]
            registry[last] = value
            return before
    before = getattr(holder, last)  # a parametrized tensor, or a plain attribute
    if "parametrizations" in holder._modules and last in holder.parametrizations:
        before = holder.__dict__.get(last, _ABSENT)
    if value is _ABSENT:
        del holder.__dict__[last]
    else:
        holder.__dict__[last] = value
    return before


_ABSENT: Any = object()


def _tied(module: Module, given: Tensors) -> Tensors:
    """`given` with every other name of the tensors that it replaces."""
    names: dict[int, list[str]] = {}
    every = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    for name, t in every:
        names.setdefault(id(t), []).append(name)
    found = dict(given)
    for group in names.values():
        chosen = [name for name in group if name in given]
        if len(chosen) > 1 and any(given[name] is not given[chosen[0]] for name in chosen):
            raise ValueError(
                f"functional_call got multiple values for keys {sorted(chosen)}, which are tied. "
                "Consider using tie_weights=False"
            )
        if chosen:
            found.update(dict.fromkeys(group, given[chosen[0]]))
    return found


def _check_names(module: Module, given: Tensors) -> None:
    every = {
        *(name for name, _ in module.named_parameters(remove_duplicate=False)),
        *(name for name, _ in module.named_buffers(remove_duplicate=False)),
    }
    missing, unexpected = sorted(every - set(given)), sorted(set(given) - every)
    if missing or unexpected:
        parts = [
            f"{what} key(s): {', '.join(map(repr, names))}."
            for what, names in (("Unexpected", unexpected), ("Missing", missing))
            if names
        ]
        raise RuntimeError(
            f"Error(s) in reparametrizing for {type(module).__name__}:\n\t" + "\n\t".join(parts)
        )


@contextlib.contextmanager
def _reparametrize_module(
    module: Module,
    parameters_and_buffers: Tensors,
    *,
    tie_weights: bool = False,
    strict: bool = False,
    stack_weights: bool = False,
) -> Iterator[None]:
    """Inside, the module has these tensors; what it puts in their places is put in the dict."""
    if strict:
        _check_names(module, parameters_and_buffers)
    given = _tied(module, parameters_and_buffers) if tie_weights else parameters_and_buffers
    before: Tensors = {}
    try:
        for name, value in given.items():
            before[name] = _swap(module, name, value)
        yield
    finally:
        for name, value in reversed(before.items()):
            now = _swap(module, name, value)
            if name in parameters_and_buffers:
                parameters_and_buffers[name] = now


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Tensors | Sequence[Tensors],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other tensors in the places of its parameters and buffers.

    Args:
        module: is as it was afterwards.
        parameter_and_buffer_dicts: names (as in `named_parameters`) -> tensors, or several such
            dictionaries with different names. What the module assigns to a name stands in it
            afterwards.
        args: the positional arguments, a tuple or a single one.
        kwargs: the keyword arguments.
        tie_weights: whether a tensor that the module holds under several names is replaced under
            all of them.
        strict: whether names must be those of all parameters and buffers.

    Raises:
        ValueError: dictionaries that share names, or different values for tied ones.
        RuntimeError: `strict`, and names that are missing or unknown.
    """
    if isinstance(parameter_and_buffer_dicts, dict):
        given = parameter_and_buffer_dicts
    elif isinstance(parameter_and_buffer_dicts, Sequence):
        given = {}
        for part in parameter_and_buffer_dicts:
            if not isinstance(part, dict):
                raise ValueError(
                    "Expected all elements of parameter_and_buffer_dicts to be dictionaries"
                )
            for name in part:
                if name in given:
                    raise ValueError(f"{[name]} appeared in multiple dictionaries")
            given.update(part)
    else:
        raise ValueError(
            "Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got "
            f"{type(parameter_and_buffer_dicts)}"
        )
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    with _reparametrize_module(module, given, tie_weights=tie_weights, strict=strict):
        return module(*args, **(kwargs or {}))


def stack_module_state(models: Sequence[Module] | Any) -> tuple[Tensors, Tensors]:
    """(parameters, buffers) of several models of one kind, by name, along a new first dimension.

    Args:
        models: of one class and all training or all not; their parameters are copied, and the
            stacked ones are leaves that require grad where they do.

    Raises:
        RuntimeError: no models, or models that differ.
    """
    if len(models) == 0:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({m.training for m in models}) > 1:
        raise RuntimeError(
            "stack_module_state: Expected all models to have the same training/eval mode."
        )
    if len({type(m) for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    parameters = [dict(m.named_parameters()) for m in models]
    buffers = [dict(m.named_buffers()) for m in models]
    return _stacked(parameters), _stacked(buffers)


def _stacked(each: list[Tensors]) -> Tensors:
    found = {}
    for name in each[0]:
        parts = [tensors[name] for tensors in each]
        if len({p.requires_grad for p in parts}) > 1:
            raise RuntimeError(f"Expected {name} from each model to have the same .requires_grad")
        stacked = flambeau.stack([p.detach() for p in parts])
        found[name] = stacked.requires_grad_(parts[0].requires_grad)
    return found
