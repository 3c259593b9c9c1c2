"""State dicts of models and optimizers by parameter names, whatever the model is wrapped in.

An optimizer's own state dict counts parameters; these name them, so that a checkpoint fits another
order of parameters, another wrapping and another number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import flambeau
from flambeau import pytree
from flambeau.distributed import groups
from flambeau.distributed.collectives import broadcast_object_list
from flambeau.distributed.tensor.api import DTensor, distribute_tensor
from flambeau.ops import collective as rows

#: What wrappers put into names.
_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.", "module.")


@dataclass
class StateDictOptions:
    """What the functions of this module return and accept.

    Attributes:
        full_state_dict: whole tensors in place of `DTensor`s, which all ranks gather together.
        cpu_offload: on the CPU; of whole tensors on rank 0 alone, others get nothing.
        ignore_frozen_params: without parameters that need no gradient.
        keep_submodule_prefixes: accepted.
        strict: refuse names that are missing or unknown when setting.
        broadcast_from_rank0: all ranks set what rank 0 is given, of whole tensors; others may be
            given nothing.
        flatten_optimizer_state_dict: one flat dictionary, "state.NAME.KEY" and so on.
        dsd_fqn_modifiers: accepted.
    """

    full_state_dict: bool = False
    cpu_offload: bool = False
    ignore_frozen_params: bool = False
    keep_submodule_prefixes: bool = True
    strict: bool = True
    broadcast_from_rank0: bool = False
    flatten_optimizer_state_dict: bool = False
    dsd_fqn_modifiers: str = "_fqn_modifiers"


def plain_name(name: str, model: Any) -> str:
    """A parameter's name without what wrappers added."""
    found = []
    at = model
    for word in name.split("."):
        wraps = f"{word}." in _WRAPPERS and _wraps(at, word)
        if not wraps:
            found.append(word)
        at = getattr(at, word, None)
    return ".".join(found)


def _wraps(module: Any, word: str) -> bool:
    """Whether a module's only child of this name is what it wraps."""
    children = [name for name, _ in module.named_children()] if module is not None else []
    own = next(iter(module.named_parameters(recurse=False)), None) if module is not None else None
    known = type(module).__name__ in ("DistributedDataParallel", "DataParallel", "OptimizedModule")
    return children == [word] and own is None and (known or word != "module")


def _taken(value: Any, options: StateDictOptions) -> Any:
    if not isinstance(value, flambeau.Tensor):
        return value
    if options.full_state_dict and isinstance(value, DTensor):
        value = value.detach().full_tensor()
    return value.cpu() if options.cpu_offload else value


def _given_out(found: dict[str, Any], options: StateDictOptions) -> dict[str, Any]:
    """What this rank gets of a state dict that all have gathered."""
    apart = options.full_state_dict and options.cpu_offload and groups.is_initialized()
    return {} if apart and groups.get_rank() else found


@dataclass(frozen=True)
class _Coming:
    """Stands for a tensor that rank 0 will send."""

    shape: tuple[int, ...]
    dtype: Any


def _from_rank0(given: Any, options: StateDictOptions) -> Any:
    """What rank 0 was given, where `broadcast_from_rank0` asks for it; a collective."""
    if not options.broadcast_from_rank0 or not groups.is_initialized():
        return given

    def announced(value: Any) -> Any:
        if isinstance(value, flambeau.Tensor):
            return _Coming(tuple(value.shape), value.dtype)
        return value

    group = groups.default_group()
    told = [pytree.tree_map(announced, given) if group.rank() == 0 else None]
    broadcast_object_list(told)
    tensors = (t for t in pytree.tree_leaves(given) if isinstance(t, flambeau.Tensor))

    def arrived(value: Any) -> Any:
        if not isinstance(value, _Coming):
            return value
        here = flambeau.zeros(value.shape, dtype=value.dtype) if group.rank() else next(tensors)
        return rows.broadcast_from(here, group, 0)

    with flambeau.no_grad():
        return pytree.tree_map(arrived, told[0])


def get_model_state_dict(
    model: Any, *, submodules: Any = None, options: StateDictOptions | None = None
) -> dict[str, Any]:
    """A model's state dict, by names without wrappers.

    Args:
        model: a module, wrapped or not.
        submodules: only these modules of it.
        options: see `StateDictOptions`.
    """
    options = options or StateDictOptions()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    chosen = None if submodules is None else set(submodules)
    found = {}
    for name, value in model.state_dict().items():
        if options.ignore_frozen_params and name in frozen:
            continue
        if chosen is not None and not _inside(model, name, chosen):
            continue
        found[plain_name(name, model)] = _taken(value, options)
    return _given_out(found, options)


def _inside(model: Any, name: str, chosen: set[Any]) -> bool:
    at = model
    for word in name.split("."):
        if at in chosen:
            return True
        at = getattr(at, word, None)
        if not isinstance(at, flambeau.nn.Module):
            return False
    return False


def set_model_state_dict(
    model: Any, model_state_dict: Mapping[str, Any], *, options: StateDictOptions | None = None
) -> Any:
    """Load what `get_model_state_dict` returned; -> missing and unexpected names."""
    options = options or StateDictOptions()
    model_state_dict = _from_rank0(model_state_dict, options)
    names = {plain_name(name, model): name for name in model.state_dict()}
    given = {names.get(name, name): value for name, value in model_state_dict.items()}
    return model.load_state_dict(given, strict=options.strict)


# -- optimizers -----------------------------------------------------------------------------------


def _optimizers(optimizers: Any) -> list[Any]:
    return list(optimizers) if isinstance(optimizers, Iterable) else [optimizers]


def _names(model: Any) -> dict[int, str]:
    return {id(p): plain_name(name, model) for name, p in model.named_parameters()}


def _fill(optimizer: Any) -> None:
    """Step an optimizer that has not stepped, changing no parameter: it then has its state."""
    if optimizer.state:
        return
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if any(p.grad is not None for p in params):
        return
    rates = [group.get("lr") for group in optimizer.param_groups]
    for p in params:
        if p.requires_grad:
            p.grad = flambeau.zeros_like(p)
    for group in optimizer.param_groups:
        if "lr" in group:
            group["lr"] = flambeau.tensor(0.0) if isinstance(group["lr"], flambeau.Tensor) else 0.0
    optimizer.step(closure=None)
    for group, rate in zip(optimizer.param_groups, rates):
        if "lr" in group:
            group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)


def get_optimizer_state_dict(
    model: Any,
    optimizers: Any,
    *,
    submodules: Any = None,
    options: StateDictOptions | None = None,
) -> dict[str, Any]:
    """The state of a model's optimizers, by parameter names.

    Args:
        model: whose parameters they have.
        optimizers: one or several.
        options: see `StateDictOptions`.

    Returns:
        `{"state": {name: {...}}, "param_groups": [{..., "params": [names]}]}`; an optimizer that
        has not stepped yet makes a step that changes no parameter, so that it has a state.
    """
    options = options or StateDictOptions()
    names = _names(model)
    found: dict[str, Any] = {"state": {}, "param_groups": []}
    for optimizer in _optimizers(optimizers):
        _fill(optimizer)
        own = optimizer.state_dict()
        params = [p for group in optimizer.param_groups for p in group["params"]]
        named = {index: names[id(p)] for index, p in enumerate(params)}
        for index, state in own["state"].items():
            found["state"][named[index]] = {k: _taken(v, options) for k, v in state.items()}
        for group in own["param_groups"]:
            found["param_groups"].append({**group, "params": [named[i] for i in group["params"]]})
    return _given_out(_flat(found) if options.flatten_optimizer_state_dict else found, options)


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    flat = {f"state.{n}.{k}": v for n, s in found["state"].items() for k, v in s.items()}
    for group in found["param_groups"]:
        for name in group["params"]:
            flat.update({f"param_groups.{name}.{k}": v for k, v in group.items() if k != "params"})
    return flat


def _unflat(flat: Mapping[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"state": {}, "param_groups": groups}
    for name, value in flat.items():
        kind, _, rest = name.partition(".")
        param, _, key = rest.rpartition(".")
        if kind == "state":
            found["state"].setdefault(param, {})[key] = value
        else:
            for group in groups:
                if param in group["params"]:
                    group[key] = value
    return found


def set_optimizer_state_dict(
    model: Any,
    optimizers: Any,
    optim_state_dict: Mapping[str, Any],
    *,
    options: StateDictOptions | None = None,
) -> None:
    """Load what `get_optimizer_state_dict` returned; whole tensors are cut as the parameters are.

    Raises:
        RuntimeError: a parameter of the optimizer has no state there, and `strict` is on.
    """
    options = options or StateDictOptions()
    optim_state_dict = _from_rank0(optim_state_dict, options)
    names = _names(model)
    for optimizer in _optimizers(optimizers):
        _fill(optimizer)
        own = optimizer.state_dict()
        params = [p for group in optimizer.param_groups for p in group["params"]]
        numbers = {names[id(p)]: index for index, p in enumerate(params)}
        given = optim_state_dict
        if "state" not in given:
            named = {index: name for name, index in numbers.items()}
            groups = [{**g, "params": [named[i] for i in g["params"]]} for g in own["param_groups"]]
            given = _unflat(given, groups)
        state = {
            numbers[n]: {k: _as_parameter(v, params[numbers[n]]) for k, v in s.items()}
            for n, s in given["state"].items()
            if n in numbers
        }
        lacking = [
            n for n, index in numbers.items() if index in own["state"] and index not in state
        ]
        if lacking and options.strict:
            raise RuntimeError(f"Missing optimizer state for {', '.join(lacking)}")
        by_name = {n: g for g in given["param_groups"] for n in g["params"]}
        groups = []
        named = {index: name for name, index in numbers.items()}
        for group in own["param_groups"]:
            other = next((by_name[named[i]] for i in group["params"] if named[i] in by_name), group)
            groups.append({**group, **other, "params": group["params"]})
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def _as_parameter(value: Any, parameter: Any) -> Any:
    """A whole tensor of a parameter's shape, laid on ranks as the parameter is."""
    whole = isinstance(value, flambeau.Tensor) and not isinstance(value, DTensor)
    if not whole or not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    placements = parameter.placements
    return distribute_tensor(value, parameter.device_mesh, placements, src_data_rank=None)


def get_state_dict(
    model: Any,
    optimizers: Any,
    *,
    submodules: Any = None,
    options: StateDictOptions | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both: -> (of the model, of its optimizers)."""
    return (
        get_model_state_dict(model, submodules=submodules, options=options),
        get_optimizer_state_dict(model, optimizers, submodules=submodules, options=options),
    )


def set_state_dict(
    model: Any,
    optimizers: Any,
    *,
    model_state_dict: Mapping[str, Any],
    optim_state_dict: Mapping[str, Any],
    options: StateDictOptions | None = None,
) -> Any:
    """Load both; -> missing and unexpected names of the model."""
    sent = options is not None and options.broadcast_from_rank0  # to ranks that were given none
    found = None
    if model_state_dict or sent:
        found = set_model_state_dict(model, model_state_dict, options=options)
    if optim_state_dict or sent:
        set_optimizer_state_dict(model, optimizers, optim_state_dict, options=options)
    return found
