"""Fully sharded data parallelism: every rank keeps a part of each parameter.

`fully_shard` cuts the parameters of a module along dimension 0. A call of the module gathers them,
and the gradient of a gather is the sum over ranks of which each keeps its part: the all_gather's
derivative *is* the reduce_scatter, and nothing else happens in the backward pass.

Note [Gathered again]
What backward needs of a gathered parameter is not kept from forward (`reshard_after_forward`):
the tape saves which parameter it was (`saved_tensors_hooks`), and the first to read one has the
module's parameters gathered anew. Each gather also starts the one that comes after it in forward,
or before it in backward, so that it is under way while this module computes.

References:
    Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models
    (arXiv:1910.02054): its third stage.
    Zhao et al., PyTorch FSDP (arXiv:2304.11277).
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import flambeau
from flambeau import pytree
from flambeau.distributed.groups import default_group, group_of
from flambeau.distributed.mesh import DeviceMesh, init_device_mesh
from flambeau.distributed.tensor.api import DTensor
from flambeau.distributed.tensor.placement import Replicate, Shard
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.ops import collective as rows
from flambeau.record import Cell
from flambeau.tape import saved_hooks
from flambeau.tensor import Tensor


@dataclass(frozen=True)
class MixedPrecisionPolicy:
    """Dtypes of what is sharded in another.

    Attributes:
        param_dtype: of gathered parameters, and so of the computation; None: their own.
        reduce_dtype: in which gradients are summed over ranks; None: that of the computation.
        output_dtype: of the module's floating-point results; None leaves them.
        cast_forward_inputs: whether floating-point arguments become `param_dtype`.
    """

    param_dtype: Any = None
    reduce_dtype: Any = None
    output_dtype: Any = None
    cast_forward_inputs: bool = True


@dataclass(frozen=True)
class OffloadPolicy:
    """Where shards are kept: with the computation."""


@dataclass(frozen=True)
class CPUOffloadPolicy(OffloadPolicy):
    """Shards are kept in the processor's memory, where they are anyway."""

    pin_memory: bool = True


class ShardedParameter(Parameter):  # type: ignore[metaclass]
    """This rank's part of a parameter, cut along dimension 0.

    An optimizer sees a plain tensor. In a module's state dict it is a `DTensor`.

    Attributes:
        sizes: of each rank's part along dimension 0.
        group: the ranks that have the parts.
        device_mesh: they, and the ranks that have the same part.
        placements: along the mesh's axes.
    """

    sizes: tuple[int, ...]
    group: Any
    device_mesh: DeviceMesh
    placements: tuple[Any, ...]

    def full_tensor(self) -> Tensor:
        """The whole parameter, on every rank; a collective."""
        with flambeau.no_grad():
            return rows.all_gather(self.detach(), self.group, self.sizes)

    def cut(self, value: Tensor) -> Tensor:
        """This rank's part of a value for the parameter: a `DTensor`, or whole, or cut already."""
        if isinstance(value, DTensor):
            return value.to_local()
        if value.shape == self.shape:
            return value
        begin = sum(self.sizes[: self.group.rank()])
        return value[begin : begin + len(self)]

    def distributed(self, local: Tensor) -> DTensor:
        """The `DTensor` of which `local` is this rank's part."""
        whole = (sum(self.sizes), *self.shape[1:])
        return DTensor.from_local(local, self.device_mesh, self.placements, shape=whole)

    def to_local(self) -> Tensor:
        """This rank's part."""
        return self.detach()


def parts_of(size: int, ranks: int) -> tuple[int, ...]:
    """How many of `size` rows each rank has: as `chunk` cuts them, the last ones may have none."""
    step = -(-size // ranks)
    return tuple(max(0, min(step, size - k * step)) for k in range(ranks))


class _Running(threading.local):
    """The modules with shards that this rank is in, and the one that was entered last."""

    depth = 0
    last: Shards | None = None


_running = _Running()

#: Memory of gathered parameters -> whose it is.
_gathered: weakref.WeakKeyDictionary[Cell, tuple[Shards, int]] = weakref.WeakKeyDictionary()


class Shards:
    """The parameters of one module that are gathered together.

    Args:
        places: for each parameter, where it is an attribute: (module, name) pairs.
        mesh: the ranks that have its parts, along the last axis, and those that have the same.
        policy: dtypes.
        reshard: whether gathered parameters are let go of after forward.
    """

    def __init__(
        self,
        places: list[list[tuple[Module, str]]],
        mesh: DeviceMesh,
        policy: MixedPrecisionPolicy,
        reshard: bool,
    ) -> None:
        groups = [group_of(mesh.get_group(axis)) for axis in range(mesh.ndim)]
        self.places, self.mesh = places, mesh
        self.shard = shard = groups[-1]
        self.replicate = replicate = groups[0] if len(groups) == 2 else None
        self.policy, self.reshard = policy, reshard
        self.sync = True
        self.divide = float(shard.size() * (1 if replicate is None else replicate.size()))
        self.sizes: list[tuple[int, ...]] = []
        #: what comes after in forward and before in backward, as seen in the last call
        self.following: list[Shards] = []
        self.preceding: list[Shards] = []
        self._ahead: tuple[Any, list[Tensor]] | None = None
        self._again: tuple[Any, list[Tensor]] | None = None
        self._inside = False
        self._missing: set[int] = set()  # parameters whose gradients are still to come
        self._kept: dict[int, Tensor] = {}  # gradients that were not reduced yet
        for k in range(len(places)):
            self._cut(k)

    def _cut(self, k: int) -> None:
        """Replace a parameter by this rank's part of it."""
        module, name = self.places[k][0]
        whole = module._parameters[name]
        assert whole is not None
        if not whole.dim():
            raise ValueError(
                f"fully_shard cuts parameters along dimension 0; {name} is a scalar, which can be "
                "given as one of `ignored_params`"
            )
        sizes = parts_of(whole.shape[0], self.shard.size())
        rank = self.shard.rank()
        begin = sum(sizes[:rank])
        self.sizes.append(sizes)
        with flambeau.no_grad():
            part = whole.detach()[begin : begin + sizes[rank]].clone()
        made = ShardedParameter(part, whole.requires_grad)
        made.sizes, made.group, made.device_mesh = sizes, self.shard, self.mesh
        made.placements = (*[Replicate()] * (self.mesh.ndim - 1), Shard(0))
        if self.replicate is not None and made.requires_grad:
            made.register_hook(self._replicated)
        for owner, attribute in self.places[k]:
            owner._parameters[attribute] = made

    # -- gathering -------------------------------------------------------------------------------

    def shards(self) -> list[Tensor]:
        """The parts that this rank has."""
        return [places[0][0]._parameters[places[0][1]] for places in self.places]

    def _stamp(self) -> Any:
        """What gathered values hold for."""
        return [(id(p._cell), p._cell.version) for p in self.shards()]

    def _gather(self) -> list[Tensor]:
        """Start gathering every parameter."""
        found = []
        for k, p in enumerate(self.shards()):
            if self.policy.param_dtype is not None and p.is_floating_point():
                p = p.to(self.policy.param_dtype)
            whole = rows.all_gather(p, self.shard, self.sizes[k])
            if self.reshard:
                _gathered[whole._cell] = self, k
            found.append(whole)
        return found

    def gather(self) -> list[Tensor]:
        """The whole parameters, for a call of the module."""
        stamp = (flambeau.is_grad_enabled(), self.sync, self._stamp())
        ahead, self._ahead = self._ahead, None
        found = ahead[1] if ahead is not None and ahead[0] == stamp else self._gathered_with_grad()
        for other in self.following:
            if other._ahead is None:
                stamp = (flambeau.is_grad_enabled(), other.sync, other._stamp())
                other._ahead = stamp, other._gathered_with_grad()
        self._again = None
        return found

    def _gathered_with_grad(self) -> list[Tensor]:
        if not flambeau.is_grad_enabled():
            return self._gather()
        # without a reduction gradients stay here, whole, until a pass that has one
        found = self._gather() if self.sync else self._gathered_apart()
        self._missing = set()
        for k, whole in enumerate(found):
            if whole.requires_grad:
                self._missing.add(k)
                whole.register_hook(lambda g, k=k: self._arrived(k, g))
        return found

    def _gathered_apart(self) -> list[Tensor]:
        """The whole parameters as leaves, whose gradients do not go to the parts."""
        with flambeau.no_grad():
            found = self._gather()
        for whole, part in zip(found, self.shards(), strict=True):
            whole.requires_grad_(part.requires_grad)
        return found

    def gather_again(self) -> list[Tensor]:
        """The whole parameters, for backward: Note [Gathered again]."""
        stamp = self._stamp()
        if self._again is None or self._again[0] != stamp:
            self._again = stamp, self._gathered_apart()
        for other in self.preceding:
            if other._missing and other.reshard and other._again is None:
                other._again = other._stamp(), other._gathered_apart()
        return self._again[1]

    # -- gradients -------------------------------------------------------------------------------

    def _arrived(self, k: int, g: Tensor) -> Tensor | None:
        """The gradient of a whole parameter is there; its parts are summed after this."""
        self._missing.discard(k)
        if not self._missing:
            self._again = None
        kept = self._kept.pop(k, None)
        with flambeau.no_grad():
            if kept is not None:
                g = g + kept
            if not self.sync:
                self._kept[k] = g
                return None
            if self.policy.reduce_dtype is not None:
                g = g.to(self.policy.reduce_dtype)
        return g / self.divide

    def _replicated(self, g: Tensor) -> Tensor:
        """The sum over the ranks that have the same part."""
        return rows.all_reduce(g, self.replicate)

    # -- a call of the module --------------------------------------------------------------------

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """While inside, the module's parameters are whole; calls within calls find them so."""
        if self._inside:
            yield
            return
        if _running.depth == 0:
            _running.last = None
        if _running.last is not None:
            _running.last.following = [self]
            self.preceding = [_running.last]
        self.following = [s for s in self.following if s is not self]
        found = self.gather()
        _running.last = self
        parts = self.shards()
        self._put(found)
        self._inside = True
        _running.depth += 1
        hooks = saved_hooks()
        if self.reshard:
            hooks.append((_Pack(hooks[-1] if hooks else None), _unpack))
        try:
            yield
        finally:
            if self.reshard:
                hooks.pop()
            _running.depth -= 1
            self._inside = False
            self._put(parts)

    def _put(self, values: Sequence[Tensor]) -> None:
        for places, value in zip(self.places, values, strict=True):
            for module, name in places:
                module._parameters[name] = value


class _Saved:
    """A gathered parameter, or a view of one, as the tape keeps it."""

    def __init__(self, shards: Shards, k: int, t: Tensor) -> None:
        self.shards, self.k = shards, k
        self.geometry = t.shape, t.stride(), t.storage_offset()


class _Pack:
    """What the tape keeps of a tensor while a module with shards is called.

    Args:
        outer: the hooks that were in place, for all that is not a gathered parameter.
    """

    def __init__(self, outer: Any) -> None:
        self.outer = outer

    def __call__(self, t: Tensor) -> Any:
        found = _gathered.get(t._cell)
        if found is not None:
            return _Saved(*found, t)
        return t if self.outer is None else (self.outer[1], self.outer[0](t))


def _unpack(kept: Any) -> Tensor:
    if isinstance(kept, _Saved):
        whole = kept.shards.gather_again()[kept.k]
        if whole.shape == kept.geometry[0] and whole.stride() == kept.geometry[1]:
            return whole
        return whole.as_strided(*kept.geometry)
    if isinstance(kept, tuple):
        unpack, inner = kept
        return unpack(inner)
    return kept


def _cast(values: Any, dtype: Any) -> Any:
    """Floating-point tensors in another dtype, all else as it is."""

    def one(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(dtype)
        return value

    return pytree.tree_map(one, values)


class FSDPModule:
    """What a module can do besides once `fully_shard` cut its parameters."""

    _shards: Shards

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        return self._with_whole(super()._call_impl, args, kwargs)  # type: ignore[misc]

    def _with_whole(self, fn: Any, args: Any, kwargs: Any) -> Any:
        policy = self._shards.policy
        if policy.param_dtype is not None and policy.cast_forward_inputs:
            args, kwargs = _cast((args, kwargs), policy.param_dtype)
        with self._shards.whole():
            found = fn(*args, **kwargs)
        return found if policy.output_dtype is None else _cast(found, policy.output_dtype)

    def _each(self, recurse: bool) -> list[Shards]:
        assert isinstance(self, Module)
        members = self.modules() if recurse else [self]
        return [m._shards for m in members if isinstance(m, FSDPModule)]

    def set_requires_gradient_sync(
        self, requires_gradient_sync: bool, *, recurse: bool = True
    ) -> None:
        """Whether the following calls' gradients are reduced; otherwise they are added up whole on
        each rank, for a later call that is."""
        for shards in self._each(recurse):
            shards.sync = requires_gradient_sync

    def set_reshard_after_forward(self, reshard_after_forward: bool, recurse: bool = True) -> None:
        """Whether whole parameters are let go of after forward."""
        for shards in self._each(recurse):
            shards.reshard = reshard_after_forward

    def set_reshard_after_backward(
        self, reshard_after_backward: bool, *, recurse: bool = True
    ) -> None:
        """Accepted: whole parameters are let go of once their gradients are there."""

    def set_is_last_backward(self, is_last_backward: bool) -> None:
        """Accepted: what is gathered does not depend on it."""

    def set_modules_to_forward_prefetch(self, modules: Sequence[FSDPModule]) -> None:
        """The modules whose parameters start to be gathered when this one is entered; without it,
        the one that came after it in the last call."""
        self._shards.following = [m._shards for m in modules]

    def set_modules_to_backward_prefetch(self, modules: Sequence[FSDPModule]) -> None:
        """The same in backward; without it, the one that came before."""
        self._shards.preceding = [m._shards for m in modules]

    def set_gradient_divide_factor(self, factor: float) -> None:
        """Divide summed gradients by this instead of the number of ranks."""
        self._shards.divide = float(factor)

    set_reduce_scatter_divide_factor = set_gradient_divide_factor

    def unshard(self, async_op: bool = False) -> Any:
        """Start gathering the parameters that the next call will use."""
        shards = self._shards
        stamp = (flambeau.is_grad_enabled(), shards.sync, shards._stamp())
        shards._ahead = stamp, shards._gathered_with_grad()
        return None

    def reshard(self) -> None:
        """Let go of what `unshard` gathered."""
        self._shards._ahead = self._shards._again = None


_classes: dict[type, type] = {}


def fully_shard(
    module: Any,
    *,
    mesh: DeviceMesh | None = None,
    reshard_after_forward: bool | int | None = None,
    shard_placement_fn: Any = None,
    mp_policy: MixedPrecisionPolicy = MixedPrecisionPolicy(),
    offload_policy: OffloadPolicy = OffloadPolicy(),
    ignored_params: Iterable[Parameter] | None = None,
) -> Any:
    """Cut a module's parameters over ranks, all that no module inside has had cut already.

    Applied to the blocks of a model and then to the model, so that only one block or two are whole
    at a time. The module's class becomes one that is an `FSDPModule` too, its parameters become
    `ShardedParameter`s. An optimizer is made afterwards and knows the parts alone.

    Args:
        module: what is cut, in place.
        mesh: of one axis, over which it is cut, or of two (replicate, shard); by default all ranks.
        reshard_after_forward: let go of whole parameters after forward and gather them again for
            backward; by default so for all but the outermost, which backward begins with.
        mp_policy: dtypes.
        offload_policy: accepted.
        ignored_params: parameters that are left whole, each rank's own.

    Returns:
        The module.

    Raises:
        ValueError: a parameter is a scalar, or the mesh has more than two axes.
    """
    if shard_placement_fn is not None or type(reshard_after_forward) is int:
        raise NotImplementedError(
            "fully_shard cuts along dimension 0, over all ranks of the mesh: shard_placement_fn "
            "and an integer reshard_after_forward are not there"
        )
    if mesh is None:
        mesh = init_device_mesh("cpu", (default_group().size(),))
    if mesh.ndim > 2:
        raise ValueError(f"fully_shard expects a 1D or 2D DeviceMesh but got {mesh}")
    ignored = {id(p) for p in ignored_params or ()}
    places: dict[int, list[tuple[Module, str]]] = {}
    for member in module.modules():
        for name, p in member._parameters.items():
            if p is not None and not isinstance(p, ShardedParameter) and id(p) not in ignored:
                places.setdefault(id(p), []).append((member, name))
    inside = any(isinstance(m, FSDPModule) for m in module.modules())
    reshard = not inside if reshard_after_forward is None else bool(reshard_after_forward)
    shards = Shards(list(places.values()), mesh, mp_policy, reshard)
    cls = type(module)
    if cls not in _classes:
        _classes[cls] = type(f"FSDP{cls.__name__}", (FSDPModule, cls), {"__module__": __name__})
    module.__class__ = _classes[cls]
    module._shards = shards
    module.register_state_dict_post_hook(_to_distributed)
    module.register_load_state_dict_pre_hook(_to_parts)
    return module


def _sharded(module: Module, prefix: str) -> dict[str, ShardedParameter]:
    """The sharded parameters of a module and those inside, by their keys in a state dict."""
    named = module.named_parameters(prefix.removesuffix("."), remove_duplicate=False)
    return {name: p for name, p in named if isinstance(p, ShardedParameter)}


def _to_distributed(module: Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    """Put `DTensor`s into a state dict."""
    for key, p in _sharded(module, prefix).items():
        if key in state and not isinstance(state[key], (DTensor, ShardedParameter)):
            state[key] = p.distributed(state[key])


def _to_parts(module: Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take this rank's parts of what a state dict has."""
    for key, p in _sharded(module, prefix).items():
        if key in state:
            state[key] = p.cut(state[key])


def register_fsdp_forward_method(module: Any, method_name: str) -> None:
    """Have a method besides `forward` see whole parameters, too."""
    if not isinstance(module, FSDPModule):
        return
    method = getattr(module, method_name)

    def call(*args: Any, **kwargs: Any) -> Any:
        return module._with_whole(method, args, kwargs)

    object.__setattr__(module, method_name, call)


def full_state_dict(module: Any) -> dict[str, Tensor]:
    """A module's state with whole parameters, on every rank; a collective. `load_state_dict` takes
    it back, and so does a module that was never cut."""
    with flambeau.no_grad():
        return {
            name: value.full_tensor() if isinstance(value, DTensor) else value
            for name, value in module.state_dict().items()
        }


def clip_grad_norm_(
    parameters: Iterable[Tensor], max_norm: float, norm_type: float = 2.0
) -> Tensor:
    """Scale gradients so that the norm of all together, over all ranks, is at most `max_norm`.

    Args:
        parameters: sharded ones and others; those without a gradient are left out.
        max_norm: the bound.
        norm_type: the norm's exponent, or infinity.

    Returns:
        The norm before.
    """
    given = [p for p in parameters if p.grad is not None]
    most = norm_type == float("inf")
    parts: dict[Any, list[Tensor]] = {}
    with flambeau.no_grad():
        for p in given:
            size = p.grad.abs()
            size = _largest(size) if most else (size**norm_type).sum()
            parts.setdefault(getattr(p, "group", None), []).append(size)
        totals = []
        for group, sizes in parts.items():
            joined = flambeau.stack(sizes)
            total = joined.max() if most else joined.sum()
            if group is not None:
                total = (
                    rows.all_reduce_by(total, group, "max")
                    if most
                    else rows.all_reduce(total, group)
                )
            totals.append(total)
        joined = flambeau.stack(totals) if totals else flambeau.zeros(1)
        norm = joined.max() if most else joined.sum() ** (1.0 / norm_type)
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for p in given:
            p.grad.mul_(scale.to(p.grad.dtype))
    return norm


def _largest(size: Tensor) -> Tensor:
    return size.max() if size.numel() else flambeau.zeros((), dtype=size.dtype)


__all__ = [
    "CPUOffloadPolicy",
    "FSDPModule",
    "MixedPrecisionPolicy",
    "OffloadPolicy",
    "ShardedParameter",
    "clip_grad_norm_",
    "full_state_dict",
    "fully_shard",
    "register_fsdp_forward_method",
]
