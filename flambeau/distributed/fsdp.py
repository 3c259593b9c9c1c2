"""Fully sharded data parallelism: every rank keeps a part of each parameter.

`fully_shard` makes the parameters of a module `DTensor`s that are cut over ranks, so optimizers,
norms of gradients and checkpoints see whole tensors of which each rank has a part. A call of the
module gathers them, and the gradient of a gather is the sum over ranks of which each keeps its
part: the all_gather's derivative *is* the reduce_scatter, and backward does nothing else.

Note [Together]
The parts of a module's parameters are one row of numbers, which is gathered by one collective, and
so are the gradients that a backward pass brings. Every part takes the place of the longest one of
its parameter, so that all ranks' rows are of one length. `_Link` stands on the tape where a module
is entered: its backward runs when all gradients of the module are there that will come. Parameters
without any stay out of the sum, and keep no gradient.

Note [Cut twice]
A parameter that tensor parallelism has laid on other ranks is one part on each of them, and that
part is cut. So it lies on the mesh of both, whose axes come in the order of the cutting; a call
gathers the part and hands it out as it was before.

Note [Gathered again]
What backward needs of a gathered parameter is not kept from forward (`reshard_after_forward`):
the tape saves which parameter it was (`saved_tensors_hooks`), and the first to read one has the
module's parameters gathered anew. Each gather also starts the one that comes after it in forward,
or before it in backward, so that it is under way while this module computes: what was started is
read, and so waited for, by the module that needs it.

With a number of ranks for `reshard_after_forward`, what forward gathered is cut again over as many
neighbours, and backward gathers from them alone: fewer and nearer ranks for more memory.

References:
    Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models
    (arXiv:1910.02054): its third stage.
    Zhao et al., PyTorch FSDP (arXiv:2304.11277).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import flambeau
from flambeau.autograd.function import Function
from flambeau.distributed.cuts import Cut, alike
from flambeau.distributed.groups import ProcessGroup, default_group, group_of
from flambeau.distributed.mesh import DeviceMesh, init_device_mesh
from flambeau.distributed.moves import part_sizes
from flambeau.distributed.precision import cast
from flambeau.distributed.tensor.api import DTensor
from flambeau.distributed.tensor.placement import Placement, Replicate, Shard
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.ops import collective
from flambeau.record import Cell
from flambeau.tape import saved_hooks
from flambeau.tensor import Tensor, alias


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


class _Gathering:
    """Parameters that are being gathered.

    Attributes:
        stamp: what they were.
        started: which parameters, and their rows, (ranks, elements): Note [Together].
        whole: the parameters, once somebody needs them.
        linked: the same on the tape.
    """

    def __init__(self, stamp: Any, started: list[tuple[list[int], Tensor]]) -> None:
        self.stamp, self.started = stamp, started
        self.whole: list[Tensor] | None = None
        self.linked: list[Tensor] | None = None


class _Link(Function):
    """The tape between parts and the whole parameters that were gathered from them."""

    in_python = True

    @staticmethod
    def forward(ctx: Any, shards: Shards, whole: list[Tensor], *parts: Tensor) -> Any:
        """The whole parameters."""
        ctx.shards = shards
        ctx.set_materialize_grads(False)
        found = tuple(alias(w) for w in whole)
        fixed = (w for w, p in zip(found, parts, strict=True) if not p.requires_grad)
        ctx.mark_non_differentiable(*fixed)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        """The parts' gradients, summed over ranks."""
        return (None, None, *ctx.shards.reduced(grads))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """The parts' tangents, gathered."""
        shards: Shards = ctx.shards
        given = [
            flambeau.zeros_like(part) if t is None else t
            for part, t in zip(shards.parts(), tangents[2:], strict=True)
        ]
        return tuple(shards.finished(shards.started(given)))


class _Running(threading.local):
    """The modules with shards that this rank is in, and the one that was entered last."""

    depth = 0
    last: Shards | None = None


_running = _Running()


class Shards:
    """The parameters of one module that are gathered together.

    Args:
        places: for each parameter, where it is an attribute: (module, name) pairs.
        mesh: the ranks that have its parts, along the last axis, and those that have the same.
        policy: dtypes.
        reshard: whether gathered parameters are let go of after forward.
        near: the neighbours over which they are cut again then, if there are any.
        place: along which dimension a parameter is cut; None for the first.
    """

    def __init__(
        self,
        places: list[list[tuple[Module, str]]],
        mesh: DeviceMesh,
        policy: MixedPrecisionPolicy,
        reshard: bool,
        near: ProcessGroup | None = None,
        place: Place | None = None,
    ) -> None:
        groups = [group_of(mesh.get_group(axis)) for axis in range(mesh.ndim)]
        self.places, self.mesh = places, mesh
        self.shard = shard = groups[-1]
        self.replicate = replicate = groups[0] if len(groups) == 2 else None
        self.policy, self.reshard, self.near = policy, reshard, near
        self.sync = True
        self.all_reduce = True
        self.divide = float(shard.size() * (1 if replicate is None else replicate.size()))
        self.cuts: list[Cut] = []
        #: what comes after in forward and before in backward, as seen in the last call, or as told
        self.following: list[Shards] = []
        self.preceding: list[Shards] = []
        self.told_following = self.told_preceding = False
        self._ahead: _Gathering | None = None
        self._again: _Gathering | None = None
        self._held: _Gathering | None = None  # rows that were cut again over the neighbours
        self._parts: list[Tensor] | None = None  # of the parameters, while they are whole
        #: memory of the gathered parameters that the module sees -> which they are
        self.seen: dict[Cell, int] = {}
        self._inside = False
        self._awaited = False  # whether gradients are still to come
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
            whole, rest = tuple(given.shape), (*local.shape[:dim], *local.shape[dim + 1 :])
            cut = DTensor.from_local(part, mesh, placements, shape=whole)
        made = Parameter(cut, given.requires_grad)
        self.cuts.append(Cut(dim, sizes, rest, before, whole))
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

    def parts(self) -> list[Tensor]:
        """This rank's parts, with the parameters' places on the tape."""
        return [p._part for p in self.shards()]  # type: ignore[attr-defined]

    def _gathering(self) -> _Gathering:
        """Start gathering every parameter."""
        with flambeau.no_grad():
            return _Gathering(self._stamp(), self.started(self.parts()))

    def started(self, parts: list[Tensor]) -> list[tuple[list[int], Tensor]]:
        """Start gathering: Note [Together].

        Args:
            parts: of each parameter, or of what is shaped like it.

        Returns:
            Which parameters go together, and their rows.
        """
        given = {k: cast(part, self.policy.param_dtype) for k, part in enumerate(parts)}
        ranks, found = self.shard.size(), []
        for members in alike(given):
            row = flambeau.cat([self.cuts[k].row(given[k]) for k in members])
            rows = collective.all_gather(row, self.shard, (row.numel(),) * ranks)
            found.append((members, rows.view(ranks, row.numel())))
        return found

    def finished(self, started: list[tuple[list[int], Tensor]]) -> list[Tensor]:
        """What was started to be gathered, whole."""
        found: dict[int, Tensor] = {}
        for members, rows in started:
            pieces = rows.split([self.cuts[k].length for k in members], 1)
            found.update((k, self.cuts[k].whole(t)) for k, t in zip(members, pieces, strict=True))
        return [found[k] for k in range(len(found))]

    def _whole(self, gathering: _Gathering) -> list[Tensor]:
        """The parameters that are gathered, on the tape where it is written."""
        if gathering.whole is None:
            with flambeau.no_grad():
                gathering.whole = self.finished(gathering.started)
        if not flambeau.is_grad_enabled():
            return gathering.whole
        if gathering.linked is None:
            gathering.linked = list(_Link.apply(self, gathering.whole, *self.parts()))
        return gathering.linked

    def gather(self) -> list[Tensor]:
        """The whole parameters, for a call of the module."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead.stamp != self._stamp():
            ahead = self._gathering()
        for other in self.following:
            other.ahead()
        self._again = None
        self._awaited = flambeau.is_grad_enabled()
        if self.near is not None and self._awaited:
            self._hold(ahead, self.near)
        return self._whole(ahead)

    def _hold(self, gathering: _Gathering, near: ProcessGroup) -> None:
        """Keep this rank's part of gathered rows, cut over its neighbours."""
        with flambeau.no_grad():
            kept = [
                (members, rows.reshape(near.size(), -1)[near.rank()].clone())
                for members, rows in gathering.started
            ]
        self._held = _Gathering(gathering.stamp, kept)

    def gather_again(self) -> list[Tensor]:
        """The whole parameters, for backward: Note [Gathered again]."""
        self._start_again()
        for other in self.preceding:
            if other._awaited and other.reshard and other._again is None:
                other._start_again()
        assert self._again is not None
        return self._whole(self._again)

    def _start_again(self) -> None:
        stamp = self._stamp()
        if self._again is not None and self._again.stamp == stamp:
            return
        held, near = self._held, self.near
        if held is None or near is None or held.stamp != stamp:
            self._again = self._gathering()
            return
        with flambeau.no_grad():
            started = [
                (members, collective.all_gather(part, near, (part.numel(),) * near.size()))
                for members, part in held.started
            ]
            ranks = self.shard.size()
            self._again = _Gathering(stamp, [(m, row.view(ranks, -1)) for m, row in started])

    # -- gradients -------------------------------------------------------------------------------

    def reduced(self, grads: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The gradients of whole parameters, summed over ranks: Note [Together].

        Args:
            grads: None where there is none.

        Returns:
            The gradients of this rank's parts; without a reduction there are none, and what was
            given is kept for a pass that has one.
        """
        self._again, self._held, self._awaited = None, None, False
        given = dict(self._kept)
        for k, g in enumerate(grads):
            if g is not None:
                given[k] = given[k] + g if k in given else g
        found: list[Tensor | None] = [None] * len(grads)
        self._kept.clear()
        if not self.sync:
            self._kept.update(given)
            return found
        parts = self.shards()
        for members in alike(given):
            rows = flambeau.cat([self.cuts[k].rows(given[k]) for k in members], 1)
            sizes = (rows.shape[1],) * self.shard.size()
            sent = cast(rows, self.policy.reduce_dtype).reshape(-1) / self.divide
            row = collective.reduce_scatter(sent, self.shard, sizes)
            pieces = self._over_replicas(members, row)
            for k, piece in zip(members, pieces, strict=True) if pieces else ():
                found[k] = self.cuts[k].part(piece, self.shard.rank()).to(parts[k].dtype)
        return found

    def _over_replicas(self, members: list[int], row: Tensor) -> Sequence[Tensor]:
        """The gradients of some parts as rows, summed over the ranks that have the same parts;
        nothing where that is left to a later pass.

        Args:
            row: they, one after the other.
        """
        lengths = [self.cuts[k].length for k in members]
        if self.replicate is None:
            return row.split(lengths)
        if any(k in self._summed for k in members):
            kept = [self._summed.pop(k, None) for k in members]
            pieces = zip(row.split(lengths), kept, strict=True)
            row = flambeau.cat([piece if k is None else piece + k for piece, k in pieces])
        if self.all_reduce:
            return collective.all_reduce(row, self.replicate).split(lengths)
        self._summed.update(zip(members, row.split(lengths), strict=True))
        return ()

    def forget(self) -> None:
        """Drop what a step left that was broken off."""
        self._ahead = self._again = self._held = None
        self._awaited = False
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
                last.following[:] = [self]
            if not self.told_preceding:
                self.preceding[:] = [last]
        self.open(self.gather())
        self._inside = True
        _running.depth += 1
        hooks = saved_hooks()
        if self.reshard:
            hooks.append((_Pack(self, hooks[-1] if hooks else None), _unpack))
        try:
            yield
        finally:
            if self.reshard:
                hooks.pop()
            _running.depth -= 1
            self._inside = False
            self.close()

    def open(self, whole: list[Tensor]) -> None:
        """Have the module see whole parameters, as `gather` gave them."""
        parts = self.shards()
        handed = [cut.handed_out(w) for cut, w in zip(self.cuts, whole, strict=True)]
        self._put(handed)
        self._parts = parts
        self.seen.update((w._cell, k) for k, w in enumerate(whole))

    def close(self) -> None:
        """Have the module see the parts again."""
        if self._parts is not None:
            self._put(self._parts)
            self._parts = None
            self.seen.clear()

    def ahead(self) -> None:
        """Start gathering for the next call."""
        if self._ahead is None or self._ahead.stamp != self._stamp():
            self._ahead = self._gathering()

    def ahead_whole(self) -> list[Tensor]:
        """What `ahead` started, for whoever asks before the next call."""
        assert self._ahead is not None
        return self._whole(self._ahead)

    def _put(self, values: Sequence[Tensor]) -> None:
        for places, value in zip(self.places, values, strict=True):
            for module, name in places:
                module._parameters[name] = value


class _Saved:
    """A gathered parameter, or a view of one, as the tape keeps it."""

    def __init__(self, shards: Shards, k: int, t: Tensor) -> None:
        self.shards, self.k = shards, k
        self.geometry = _geometry(t)


def _geometry(t: Tensor) -> tuple[Any, ...]:
    return tuple(t.shape), t.stride(), t.storage_offset()


class _Pack:
    """What the tape keeps of a tensor while a module with shards is called.

    Args:
        shards: the module's parameters.
        outer: the hooks that were in place, for all that is not one of them.
    """

    def __init__(self, shards: Shards, outer: Any) -> None:
        self.shards, self.outer = shards, outer

    def __call__(self, t: Tensor) -> Any:
        found = self.shards.seen.get(t._cell)
        if found is not None:
            return _Saved(self.shards, found, t)
        return t if self.outer is None else (self.outer[1], self.outer[0](t))


def _unpack(kept: Any) -> Tensor:
    if isinstance(kept, _Saved):
        whole = kept.shards.gather_again()[kept.k]
        return whole if _geometry(whole) == kept.geometry else whole.as_strided(*kept.geometry)
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
            shards.reshard, shards.near = reshard_after_forward, None

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
        shards.open(shards.ahead_whole())
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
            of ranks, which divides that of all, lets go of all but a part that so many neighbours
            gather from each other; 1 is False.
        shard_placement_fn: parameter -> along which dimension it is cut, None for the first.
        mp_policy: dtypes.
        offload_policy: accepted.
        ignored_params: parameters that are left whole, each rank's own.

    Returns:
        The module.

    Raises:
        ValueError: a parameter is a scalar, the mesh has more than two axes, or the number of
            neighbours does not divide that of ranks.
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
        reshard = reshard_after_forward is True or reshard_after_forward > 1
    near = _neighbours(reshard_after_forward, mesh) if reshard else None
    shards = Shards(list(places.values()), mesh, mp_policy, reshard, near, shard_placement_fn)
    cls = type(module)
    if cls not in _classes:
        _classes[cls] = type(f"FSDP{cls.__name__}", (FSDPModule, cls), {"__module__": __name__})
    module.__class__ = _classes[cls]
    module._shards = shards
    return module


def _neighbours(reshard: bool | int | None, mesh: DeviceMesh) -> ProcessGroup | None:
    """The ranks that gather for backward where `reshard_after_forward` is a number of those along
    the last axis of a mesh; None for all."""
    ranks = mesh.size(mesh.ndim - 1)
    if reshard is None or isinstance(reshard, bool) or reshard == ranks:
        return None
    if ranks % reshard:
        raise ValueError(
            f"If reshard_after_forward is an int, it should be a factor of {ranks}, the shard mesh "
            f"size, but got {reshard}"
        )
    shape = (*mesh.mesh.shape[:-1], ranks // reshard, reshard)
    return group_of(DeviceMesh(mesh.device_type, mesh.mesh.reshape(shape)).get_group(-1))


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
