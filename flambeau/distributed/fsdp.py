"""Fully sharded data parallelism: every rank keeps a part of each parameter.

`fully_shard` makes the parameters of a module `DTensor`s that are cut over ranks, so optimizers,
norms of gradients and checkpoints see whole tensors of which each rank has a part. A call of the
module gathers them, and the gradient of a gather is the sum over ranks of which each keeps its
part: the all_gather's derivative *is* the reduce_scatter, and backward does nothing else.

Note [Cut twice]
A parameter that tensor parallelism has laid on other ranks is one part on each of them, and that
part is cut. So it lies on the mesh of both, whose axes come in the order of the cutting; a call
gathers the part and hands it out as it was before.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import flambeau
from flambeau.distributed import functional
from flambeau.distributed.groups import default_group, group_of
from flambeau.distributed.mesh import DeviceMesh, init_device_mesh
from flambeau.distributed.moves import part_sizes
from flambeau.distributed.precision import cast
from flambeau.distributed.tensor.api import DTensor
from flambeau.distributed.tensor.placement import Placement, Replicate, Shard
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


Place = Callable[[Parameter], Shard | None]


@dataclass(frozen=True)
class _Cut:
    """How one parameter is cut.

    Attributes:
        dim: the dimension.
        sizes: of the ranks' parts along it.
        before: mesh and placements of the parameter where it was a `DTensor` before.
        shape: of the whole.
    """

    dim: int
    sizes: tuple[int, ...]
    before: tuple[DeviceMesh, tuple[Placement, ...]] | None
    shape: tuple[int, ...]

    def gathered(self, part: Tensor, group: Any) -> Tensor:
        """What was cut, on every rank; a collective."""
        return functional.all_gather_tensor(part, self.dim, group, sizes=self.sizes)

    def handed_out(self, whole: Tensor) -> Tensor:
        """A gathered parameter as the module had it."""
        if self.before is None:
            return whole
        mesh, placements = self.before
        return DTensor.from_local(whole, mesh, placements, shape=self.shape)


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
        place: along which dimension a parameter is cut; None for the first.
    """

    def __init__(
        self,
        places: list[list[tuple[Module, str]]],
        mesh: DeviceMesh,
        policy: MixedPrecisionPolicy,
        reshard: bool,
        place: Place | None = None,
    ) -> None:
        groups = [group_of(mesh.get_group(axis)) for axis in range(mesh.ndim)]
        self.places, self.mesh = places, mesh
        self.shard = shard = groups[-1]
        self.replicate = replicate = groups[0] if len(groups) == 2 else None
        self.policy, self.reshard = policy, reshard
        self.sync = True
        self.all_reduce = True
        self.divide = float(shard.size() * (1 if replicate is None else replicate.size()))
        self.cuts: list[_Cut] = []
        #: what comes after in forward and before in backward, as seen in the last call, or as told
        self.following: list[Shards] = []
        self.preceding: list[Shards] = []
        self.told_following = self.told_preceding = False
        self._ahead: tuple[Any, list[Tensor]] | None = None
        self._again: tuple[Any, list[Tensor]] | None = None
        self._parts: list[Tensor] | None = None  # of the parameters, while they are whole
        self._inside = False
        self._missing: set[int] = set()  # parameters whose gradients are still to come
        self._kept: dict[int, Tensor] = {}  # gradients that were not reduced yet
        self._summed: dict[int, Tensor] = {}  # gradients that were not reduced over replicas yet
        for k in range(len(places)):
            self._cut(k, place)

    def _cut(self, k: int, place: Place | None) -> None:
        """Replace a parameter by this rank's part of it: Note [Cut twice]."""
        module, name = self.places[k][0]
        given = module._parameters[name]
        assert given is not None
        if not given.dim():
            raise ValueError(
                f"fully_shard doesn't support scalar parameters. Change {name} to a 1D tensor with "
                "numel equal to 1, or give it as one of `ignored_params`"
            )
        chosen = None if place is None else place(given)
        dim = 0 if chosen is None else range(given.dim())[chosen.dim]
        placements: tuple[Placement, ...] = (Replicate(),) * (self.mesh.ndim - 1) + (Shard(dim),)
        mesh, before = self.mesh, None
        with flambeau.no_grad():
            local = given.detach()
            if isinstance(local, DTensor):
                before = local.device_mesh, local.placements
                mesh = DeviceMesh._concatenate([local.device_mesh, self.mesh])
                placements = (*local.placements, *placements)
                local = local.to_local()
            sizes = part_sizes(local.shape[dim], self.shard.size())
            rank = self.shard.rank()
            part = local.narrow(dim, sum(sizes[:rank]), sizes[rank]).clone()
            whole = tuple(given.shape)
            cut = DTensor.from_local(part, mesh, placements, shape=whole)
        made = Parameter(cut, given.requires_grad)
        self.cuts.append(_Cut(dim, sizes, before, whole))
        if self.replicate is not None and made.requires_grad:
            made.register_hook(lambda g: self._replicated(k, g))
        for owner, attribute in self.places[k]:
            owner._parameters[attribute] = made

    # -- gathering -------------------------------------------------------------------------------

    def shards(self) -> list[Tensor]:
        """The parameters, of which this rank has parts."""
        if self._parts is not None:
            return self._parts
        return [places[0][0]._parameters[places[0][1]] for places in self.places]

    def _stamp(self) -> Any:
        """What gathered values hold for."""
        return [(id(p._cell), p._cell.version) for p in self.shards()]

    def _gather(self) -> list[Tensor]:
        """Start gathering every parameter."""
        found = []
        for k, p in enumerate(self.shards()):
            part = cast(p.to_local(), self.policy.param_dtype)  # type: ignore[attr-defined]
            whole = self.cuts[k].gathered(part, self.shard)
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
            other.ahead()
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

    def _replicated(self, k: int, g: Tensor) -> Tensor:
        """The gradient of a part, summed over the ranks that have the same part."""
        kept = self._summed.pop(k, None)
        with flambeau.no_grad():
            if kept is not None:
                g = g + kept
            if not self.all_reduce:
                self._summed[k] = g
                return flambeau.zeros_like(g)
        return rows.all_reduce(g, self.replicate)

    def forget(self) -> None:
        """Drop what a step left that was broken off."""
        self._ahead = self._again = None
        self._missing.clear()
        self._kept.clear()
        self._summed.clear()
        self.close()

    # -- a call of the module --------------------------------------------------------------------

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """While inside, the module's parameters are whole; calls within calls find them so."""
        if self._inside:
            yield
            return
        if _running.depth == 0:
            _running.last = None
        last, _running.last = _running.last, self
        if last is not None and last is not self:
            if not last.told_following:
                last.following = [self]
            if not self.told_preceding:
                self.preceding = [last]
        self.open(self.gather())
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
            self.close()

    def open(self, whole: list[Tensor]) -> None:
        """Have the module see whole parameters, as `_gathered_with_grad` gave them."""
        parts = self.shards()
        handed = [cut.handed_out(w) for cut, w in zip(self.cuts, whole, strict=True)]
        self._put(handed)
        self._parts = parts

    def close(self) -> None:
        """Have the module see the parts again."""
        if self._parts is not None:
            self._put(self._parts)
            self._parts = None

    def ahead(self) -> None:
        """Start gathering for the next call."""
        stamp = (flambeau.is_grad_enabled(), self.sync, self._stamp())
        if self._ahead is None or self._ahead[0] != stamp:
            self._ahead = stamp, self._gathered_with_grad()

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


class FSDPModule:
    """What a module can do besides once `fully_shard` cut its parameters."""

    _shards: Shards

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        return self._with_whole(super()._call_impl, args, kwargs)  # type: ignore[misc]

    def _with_whole(self, fn: Any, args: Any, kwargs: Any) -> Any:
        policy = self._shards.policy
        if policy.cast_forward_inputs:
            args, kwargs = cast((args, kwargs), policy.param_dtype)
        with self._shards.whole():
            found = fn(*args, **kwargs)
        return cast(found, policy.output_dtype)

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

    def set_requires_all_reduce(self, requires_all_reduce: bool, *, recurse: bool = True) -> None:
        """Whether, on a mesh of two axes, gradients are summed over the ranks that have the same
        parts; otherwise the parts' gradients are added up here, for a later pass that does."""
        for shards in self._each(recurse):
            shards.all_reduce = requires_all_reduce

    def set_reshard_after_backward(
        self, reshard_after_backward: bool, *, recurse: bool = True
    ) -> None:
        """Accepted: whole parameters are let go of once their gradients are there."""

    def set_is_last_backward(self, is_last_backward: bool) -> None:
        """Accepted: what is gathered does not depend on it."""

    def set_unshard_in_backward(self, unshard_in_backward: bool) -> None:
        """Accepted: backward gathers what it reads, and nothing else."""

    def set_force_sum_reduction_for_comms(self, enable: bool) -> None:
        """Accepted: gradients are divided first and summed, always."""

    def set_allocate_memory_from_process_group_for_comm(self, enable: bool) -> None:
        """Accepted: a program plans the memory that its collectives use."""

    def set_post_optim_event(self, event: Any) -> None:
        """Accepted: a gather reads what the optimizer wrote, so it comes after."""

    def _set_unshard_async_op(self, async_op: bool) -> None:
        """Accepted: a gather is under way until it is read."""

    def set_custom_all_gather(self, comm: Any) -> None:
        """Not there.

        Raises:
            NotImplementedError: always; a collective is a row with a derivative.
        """
        raise NotImplementedError(
            "fully_shard: gathers are the row all_gather, whose derivative is the reduction; "
            "custom communications are not there"
        )

    set_custom_reduce_scatter = set_custom_all_gather

    def set_all_reduce_hook(self, hook: Callable[[Tensor], None], *, stream: Any = None) -> None:
        """Have a function change every reduced gradient of this module's own parameters in place.

        Args:
            hook: given this rank's part of a gradient, after all reductions.
            stream: accepted.
        """

        def changed(g: Tensor) -> Tensor:
            with flambeau.no_grad():
                g = g.clone()
                hook(g)
            return g

        for p in self._shards.shards():
            if p.requires_grad:
                p.register_hook(changed)

    def set_modules_to_forward_prefetch(self, modules: Sequence[FSDPModule]) -> None:
        """The modules whose parameters start to be gathered when this one is entered; without it,
        the one that came after it in the last call."""
        self._shards.following = [m._shards for m in modules]
        self._shards.told_following = True

    def set_modules_to_backward_prefetch(self, modules: Sequence[FSDPModule]) -> None:
        """The same in backward; without it, the one that came before."""
        self._shards.preceding = [m._shards for m in modules]
        self._shards.told_preceding = True

    def set_gradient_divide_factor(self, factor: float) -> None:
        """Divide summed gradients by this instead of the number of ranks."""
        self._shards.divide = float(factor)

    set_reduce_scatter_divide_factor = set_gradient_divide_factor

    def unshard(self, async_op: bool = False) -> UnshardHandle | None:
        """Gather this module's own parameters; they are whole until its next call has ended, or
        `reshard`.

        Returns:
            With `async_op`, something to wait for, though whatever reads a parameter waits.
        """
        shards = self._shards
        shards.close()
        shards.ahead()
        assert shards._ahead is not None
        shards.open(shards._ahead[1])
        return UnshardHandle() if async_op else None

    def reshard(self) -> None:
        """Let go of what `unshard` gathered."""
        self._shards.close()
        self._shards._ahead = self._shards._again = None

    def reset_iter_state(self) -> None:
        """Forget what a forward or backward left that an exception broke off: what was gathered
        for it, and gradients that were not reduced."""
        for shards in self._each(recurse=True):
            shards.forget()


class UnshardHandle:
    """What `unshard(async_op=True)` returns."""

    def wait(self) -> None:
        """Nothing: whatever reads a parameter waits for it."""


_classes: dict[type, type] = {}


def fully_shard(
    module: Any,
    *,
    mesh: DeviceMesh | None = None,
    reshard_after_forward: bool | int | None = None,
    shard_placement_fn: Place | None = None,
    mp_policy: MixedPrecisionPolicy = MixedPrecisionPolicy(),
    offload_policy: OffloadPolicy = OffloadPolicy(),
    ignored_params: Iterable[Parameter] | None = None,
) -> Any:
    """Cut a module's parameters over ranks, all that no module inside has had cut already.

    Applied to the blocks of a model and then to the model, so that only one block or two are whole
    at a time. The module's class becomes one that is an `FSDPModule` too, its parameters become
    `DTensor`s. An optimizer is made afterwards, and its states are `DTensor`s as well.

    Args:
        module: what is cut, in place.
        mesh: of one axis, over which it is cut, or of two (replicate, shard); by default all ranks.
        reshard_after_forward: let go of whole parameters after forward and gather them again for
            backward; by default so for all but the outermost, which backward begins with. A number
            of ranks may be 1, which is False, or all of them, which is True.
        shard_placement_fn: parameter -> along which dimension it is cut, None for the first.
        mp_policy: dtypes.
        offload_policy: accepted.
        ignored_params: parameters that are left whole, each rank's own.

    Returns:
        The module.

    Raises:
        ValueError: a parameter is a scalar, or the mesh has more than two axes.
        RuntimeError: a parameter lies on a mesh that has no common one with `mesh`.
    """
    if mesh is None:
        mesh = init_device_mesh("cpu", (default_group().size(),))
    if mesh.ndim > 2:
        raise ValueError(f"fully_shard expects a 1D or 2D DeviceMesh but got {mesh}")
    inside = [m._shards for m in module.modules() if isinstance(m, FSDPModule)]
    left = {id(p) for p in ignored_params or ()} | {id(p) for s in inside for p in s.shards()}
    places: dict[int, list[tuple[Module, str]]] = {}
    for member in module.modules():
        for name, p in member._parameters.items():
            if p is not None and id(p) not in left:
                places.setdefault(id(p), []).append((member, name))
    reshard = not inside
    if reshard_after_forward is not None:
        reshard = _whether(reshard_after_forward, mesh.size(mesh.ndim - 1))
    shards = Shards(list(places.values()), mesh, mp_policy, reshard, shard_placement_fn)
    cls = type(module)
    if cls not in _classes:
        _classes[cls] = type(f"FSDP{cls.__name__}", (FSDPModule, cls), {"__module__": __name__})
    module.__class__ = _classes[cls]
    module._shards = shards
    return module


def _whether(reshard: bool | int, ranks: int) -> bool:
    """What `reshard_after_forward` means."""
    if isinstance(reshard, bool):
        return reshard
    if reshard not in (1, ranks):
        raise NotImplementedError(
            f"fully_shard: reshard_after_forward={reshard} would cut parameters again over some of "
            f"the {ranks} ranks, which is not there: give True or False"
        )
    return reshard != 1


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


__all__ = [
    "CPUOffloadPolicy",
    "FSDPModule",
    "MixedPrecisionPolicy",
    "OffloadPolicy",
    "UnshardHandle",
    "full_state_dict",
    "fully_shard",
    "register_fsdp_forward_method",
]
