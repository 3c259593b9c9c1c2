"""Data parallelism: every rank has the model, takes its own batch, and the gradients are averaged.

Reference: Li et al., PyTorch Distributed: Experiences on Accelerating Data Parallel Training,
VLDB 13 (12), 2020 (arXiv:2006.15704).

Note [Overlap]
A bucket's all_reduce is recorded by the hook of the gradient that completes it, in the middle of
the backward pass, and its result is read first by the optimizer. A program starts a collective
where it was recorded and waits for it where it is read, so what the buckets in front still have to
compute goes on beside it. Nothing here is concurrent, and no streams have to be kept apart.

Note [Uneven inputs]
Inside `join()` the ranks tell each other before every forward what they are going to do: train or
not, share buffers, reduce gradients, look for unused parameters. A rank that has no more inputs
does the same with zeros for gradients, so that all have the same gradients in the end; and when the
last one is done, its parameters become everybody's.
"""

from __future__ import annotations

import contextlib
import inspect
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import flambeau
from flambeau import pytree
from flambeau.distributed.collectives import Future
from flambeau.distributed.groups import group_of
from flambeau.distributed.join import Join, Joinable, JoinHook
from flambeau.distributed.precision import cast
from flambeau.distributed.tensor.api import DTensor
from flambeau.nn.module import Module
from flambeau.nn.utils.stateless import functional_call
from flambeau.ops import collective as rows
from flambeau.tape import AccumulateGrad
from flambeau.tensor import Tensor

#: The first bucket is small, so that communication starts early (torch's number).
FIRST_BUCKET_BYTES = 1 << 20
DEFAULT_BUCKET_MB = 25.0


def part_of(tensor: Tensor) -> Tensor:
    """This rank's part of a `DTensor`, any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def same_on_all(tensors: Sequence[Tensor], group: Any, root: int = 0) -> None:
    """Overwrite tensors with those of a rank of the group, one collective for each dtype.

    Args:
        tensors: of the same shapes on every rank.
        root: the rank, by its place in the group.
    """
    kinds: dict[Any, list[Tensor]] = {}
    with flambeau.no_grad():
        for t in map(part_of, tensors):
            kinds.setdefault((t.dtype, t.device), []).append(t)
        for members in kinds.values():
            flat = flambeau.cat([t.detach().reshape(-1) for t in members])
            given = rows.broadcast_from(flat, group, root)
            for t, part in zip(members, given.split([t.numel() for t in members]), strict=True):
                t.copy_(part.reshape(t.shape))


@dataclass
class _MixedPrecision:
    """Dtypes of a module whose parameters are in another (PyTorch's name).

    Attributes:
        param_dtype: of parameters and inputs in a call; None: their own.
        reduce_dtype: in which gradients are averaged; None: that of the computation.
        buffer_dtype: of buffers in a call; None: their own.
    """

    param_dtype: Any = None
    reduce_dtype: Any = None
    buffer_dtype: Any = None

    def call(self, module: Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A module's result in these dtypes; buffers keep what the call wrote to them."""
        given = {name: cast(p, self.param_dtype) for name, p in module.named_parameters()}
        buffers = dict(module.named_buffers())
        given.update((name, cast(b, self.buffer_dtype)) for name, b in buffers.items())
        inputs, kwargs = cast((inputs, kwargs), self.param_dtype)
        found = functional_call(module, given, inputs, kwargs)
        with flambeau.no_grad():
            for name, buffer in buffers.items():
                if given[name] is not buffer:
                    buffer.copy_(given[name])
        return found


class GradBucket:
    """Gradients that are reduced together, as a communication hook sees them."""

    def __init__(self, index: int, parameters: list[Tensor], last: bool, flat: Tensor) -> None:
        self._index, self._parameters, self._last, self._flat = index, parameters, last, flat

    def index(self) -> int:
        """Which bucket this is, in the order in which they are reduced."""
        return self._index

    def buffer(self) -> Tensor:
        """All gradients of the bucket, (elements,), not divided by the number of ranks."""
        return self._flat

    def set_buffer(self, buffer: Tensor) -> None:
        """Put another tensor in place of `buffer()`."""
        self._flat = buffer

    def parameters(self) -> list[Tensor]:
        """The parameters whose gradients they are."""
        return list(self._parameters)

    def gradients(self) -> list[Tensor]:
        """Views of the buffer by parameter."""
        mine = [part_of(p) for p in self._parameters]
        parts = self._flat.split([p.numel() for p in mine])
        return [g.reshape(p.shape) for g, p in zip(parts, mine, strict=True)]

    def is_last(self) -> bool:
        """Whether no bucket comes after it."""
        return self._last


Hook = Callable[[Any, GradBucket], Any]


class _Bucket:
    """Some parameters, and which of their gradients are still missing."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.missing: set[int] = set()


def buckets_of(parameters: Sequence[Tensor], cap: int, first: int) -> list[list[Tensor]]:
    """Parameters in the order in which their gradients come, cut into buckets of one dtype each.

    Args:
        parameters: in the order of the model.
        cap: bytes after which a bucket is full.
        first: the same for the first bucket.
    """
    found: list[list[Tensor]] = []
    open_: dict[Any, tuple[list[Tensor], int]] = {}
    for p in reversed(parameters):
        kind = (p.dtype, p.device)
        if kind not in open_:
            made: list[Tensor] = []
            found.append(made)
            open_[kind] = made, 0
        members, size = open_[kind]
        members.append(p)
        size += p.numel() * p.element_size()
        if size >= (first if members is found[0] else cap):
            del open_[kind]
        else:
            open_[kind] = members, size
    return found


def leaves_below(values: Any) -> set[int]:
    """The ids of the leaves that tensors were computed from."""
    found: set[int] = set()
    seen: set[Any] = set()
    stack = [t.grad_fn for t in pytree.tree_leaves(values) if isinstance(t, Tensor)]
    while stack:
        entry = stack.pop()
        if entry is None or entry in seen:
            continue
        seen.add(entry)
        if isinstance(entry, AccumulateGrad):
            found.add(id(entry.variable))
        stack.extend(at for at, _ in entry.next_functions)
    return found


#: What a rank does in a step, as bits: Note [Uneven inputs].
TRAINS, SHARES, REDUCES, LOOKS = 1, 2, 4, 8


class DistributedDataParallel(Module, Joinable):
    """A module whose gradients are averaged over the ranks of a group.

    The module's parameters and buffers become those of rank 0 when this is made. Keys of the state
    dict begin with `module.`.

    Args:
        module: what is called; the same on every rank.
        device_ids: accepted; the devices are the module's.
        output_device: accepted.
        dim: accepted.
        broadcast_buffers: every forward starts with the buffers of rank 0.
        init_sync: whether parameters and buffers become those of rank 0 in the beginning.
        process_group: None takes the default group.
        bucket_cap_mb: MiB of gradients that are reduced together.
        find_unused_parameters: look, after every forward, which parameters the result does not
            depend on, so that nobody waits for their gradients.
        gradient_as_bucket_view: `grad`s are views of the reduced buckets rather than copies.
        static_graph: the parameters that are unused are so in every step; they are looked for once.
        delay_all_reduce_named_params: (name, parameter) pairs whose gradients are reduced together
            when that of `param_to_hook_all_reduce` is there.
        param_to_hook_all_reduce: see there.
        mixed_precision: dtypes of calls and of reductions, a `_MixedPrecision`.
        device_mesh: of one axis, in place of `process_group`.
        skip_all_reduce_unused_params: accepted; nobody's gradients are not written in any case.

    Raises:
        RuntimeError: no parameter needs a gradient, or ranks have different parameters.
        ValueError: of the delayed parameters and what they wait for one is not given.
    """

    def __init__(
        self,
        module: Module,
        device_ids: Any = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool = True,
        init_sync: bool = True,
        process_group: Any = None,
        bucket_cap_mb: float | None = None,
        find_unused_parameters: bool = False,
        check_reduction: bool = False,
        gradient_as_bucket_view: bool = False,
        static_graph: bool = False,
        delay_all_reduce_named_params: Any = None,
        param_to_hook_all_reduce: Any = None,
        mixed_precision: _MixedPrecision | None = None,
        device_mesh: Any = None,
        skip_all_reduce_unused_params: bool = False,
    ) -> None:
        """Make the ranks' models equal, and watch the gradients."""
        super().__init__()
        self.process_group = group_of(device_mesh if process_group is None else process_group)
        delayed = [p for _, p in delay_all_reduce_named_params or () if p.requires_grad]
        if bool(delayed) != (param_to_hook_all_reduce is not None):
            raise ValueError(
                "delay_all_reduce_named_params and param_to_hook_all_reduce go together: "
                "parameters, and the one whose gradient they wait for"
            )
        ignored = set(getattr(module, "_ddp_params_and_buffers_to_ignore", ()))
        apart = {id(p) for p in delayed}
        self._trained = [
            p
            for name, p in module.named_parameters()
            if p.requires_grad and name not in ignored and id(p) not in apart
        ]
        if not self._trained:
            raise RuntimeError(
                "DistributedDataParallel is not needed when a module doesn't have any parameters "
                "that require a gradient."
            )
        self.module = module
        self.device_ids = device_ids
        self.output_device = output_device
        self.dim = dim
        self.broadcast_buffers = broadcast_buffers
        self.find_unused_parameters = find_unused_parameters
        self.gradient_as_bucket_view = gradient_as_bucket_view
        self.static_graph = static_graph
        self.mixed_precision = mixed_precision
        self.require_backward_grad_sync = True
        self._divisor = self.process_group.size()
        self._by_initial_size = True  # whether ranks that have joined still count
        self._buffers_shared = [b for name, b in module.named_buffers() if name not in ignored]
        self._hook: tuple[Any, Hook] | None = None
        # ids of parameters that no rank uses, once looked for, and that this rank does not
        self._unused: set[int] | None = None
        self._idle: set[int] = set()
        self._check_parameters()
        if init_sync:
            states = [p for name, p in module.named_parameters() if name not in ignored]
            same_on_all([*states, *self._buffers_shared], self.process_group)
        cap = DEFAULT_BUCKET_MB if bucket_cap_mb is None else bucket_cap_mb
        first = FIRST_BUCKET_BYTES if bucket_cap_mb is None else int(cap * (1 << 20))
        self._bucket_list = [
            _Bucket(members) for members in buckets_of(self._trained, int(cap * (1 << 20)), first)
        ]
        self._bucket_by_parameter = {
            id(p): bucket for bucket in self._bucket_list for p in bucket.parameters
        }
        self._next = len(self._bucket_list)  # the first bucket that is not reduced yet
        self._begun = False  # some gradients of a step are there, and some are not
        for p in self._trained:
            p.register_post_accumulate_grad_hook(self._arrived)
        self._delayed = delayed
        self._delayed_due = self._delayed_reduced = False
        for p in delayed:
            p.register_post_accumulate_grad_hook(self._arrived_delayed)
        if delayed:
            param_to_hook_all_reduce.register_post_accumulate_grad_hook(self._may_reduce_delayed)

    def _check_parameters(self) -> None:
        """Refuse models that differ between ranks."""
        here = [(name, list(p.shape), p.dtype.word) for name, p in self.module.named_parameters()]
        for rank, data in enumerate(self.process_group.exchange(pickle.dumps(here))):
            there = pickle.loads(data)
            if len(there) != len(here):
                raise RuntimeError(
                    f"DDP expects same model across all ranks, but Rank "
                    f"{self.process_group.rank()} has {len(here)} params, while rank {rank} has "
                    f"inconsistent {len(there)} params."
                )
            for mine, other in zip(here, there, strict=True):
                if mine != other:
                    raise RuntimeError(
                        f"DDP expects same model across all ranks: rank "
                        f"{self.process_group.rank()} has {mine[0]} {mine[1]} of {mine[2]}, rank "
                        f"{rank} has {other[0]} {other[1]} of {other[2]} in its place"
                    )

    # -- a step ----------------------------------------------------------------------------------

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """The module's result.

        Raises:
            RuntimeError: the step before did not give every parameter a gradient.
        """
        syncs = flambeau.is_grad_enabled() and self.require_backward_grad_sync
        if syncs and self._begun:
            raise RuntimeError(self._missing_text())
        shares = self.require_backward_grad_sync and self._shares_buffers
        root = 0
        if self._join is not None:
            Join.notify_join_context(self)
            looks = syncs and self._looks
            does = TRAINS | SHARES * shares | REDUCES * syncs | LOOKS * looks
            root = self._tell(does)[0]
        if shares:
            same_on_all(self._buffers_shared, self.process_group, root)
        if self.mixed_precision is None:
            found = self.module(*inputs, **kwargs)
        else:
            found = self.mixed_precision.call(self.module, inputs, kwargs)
        if syncs:
            self._expect(found)
        return found

    def _expect(self, result: Any) -> None:
        """Get ready for the gradients of a step."""
        self._next, self._begun = 0, False
        self._delayed_due = self._delayed_reduced = False
        for bucket in self._bucket_list:  # in place: after a step all is as it was before
            bucket.missing.update(id(p) for p in bucket.parameters)
        if self.find_unused_parameters or self.static_graph:
            if self._looks:
                self._look_for_unused(leaves_below(result))
            for bucket in self._bucket_list:
                bucket.missing.difference_update(self._idle)

    @property
    def _shares_buffers(self) -> bool:
        """Whether a forward begins with the buffers of one rank."""
        return self.broadcast_buffers and bool(self._buffers_shared)

    @property
    def _looks(self) -> bool:
        """Whether the next step looks for unused parameters."""
        if self.static_graph:
            return self._unused is None
        return self.find_unused_parameters

    def _look_for_unused(self, used: set[int]) -> None:
        """Find the parameters that no rank uses, and those that this one does not.

        Args:
            used: the ids of those that this one does.
        """
        flags = bytes(id(p) in used for p in self._trained)
        everywhere = self.process_group.exchange(flags)
        self._unused = {
            id(p) for k, p in enumerate(self._trained) if not any(given[k] for given in everywhere)
        }
        self._idle = {id(p) for p in self._trained} - used

    def _arrived(self, parameter: Tensor) -> None:
        """A gradient is there; reduce the buckets that are complete, in their order."""
        if not self.require_backward_grad_sync or self._next >= len(self._bucket_list):
            return
        bucket = self._bucket_by_parameter[id(parameter)]
        if id(parameter) not in bucket.missing:
            raise RuntimeError(
                "Expected to mark a variable ready only once. A parameter was used in two backward "
                "passes after one forward pass, or in parts of a graph that were checkpointed "
                "reentrantly."
            )
        bucket.missing.discard(id(parameter))
        while self._next < len(self._bucket_list) and not self._bucket_list[self._next].missing:
            last = self._next == len(self._bucket_list) - 1
            self._reduce(self._bucket_list[self._next].parameters, self._next, last)
            self._next += 1
        self._begun = self._next < len(self._bucket_list)
        self._reduce_delayed()

    def _may_reduce_delayed(self, _: Tensor) -> None:
        """The gradient is there that the delayed ones wait for."""
        self._delayed_due = self.require_backward_grad_sync
        self._reduce_delayed()

    def _reduce_delayed(self) -> None:
        """Average the gradients that wait for that of another parameter, after all buckets: a rank
        without inputs has to know when."""
        if self._delayed_due and self._next >= len(self._bucket_list):
            self._delayed_due, self._delayed_reduced = False, True
            self._reduce(self._delayed, len(self._bucket_list), True)

    def _arrived_delayed(self, _: Tensor) -> None:
        """Refuse a gradient that would not be reduced."""
        if self.require_backward_grad_sync and self._delayed_reduced:
            raise RuntimeError(
                "The gradient of a parameter in delay_all_reduce_named_params came after that of "
                "param_to_hook_all_reduce, which it was to be reduced with"
            )

    def _reduce(self, members: list[Tensor], index: int, last: bool) -> None:
        """Average a bucket: Note [Overlap].

        Args:
            members: its parameters.
            index, last: which it is, as communication hooks see it.
        """
        group, policy = self.process_group, self.mixed_precision
        with flambeau.no_grad():
            mine = [part_of(p) for p in members]
            grads = [p.grad if p.grad is None else part_of(p.grad) for p in members]
            flat = _flat(
                [
                    flambeau.zeros_like(part) if g is None else g
                    for part, g in zip(mine, grads, strict=True)
                ]
            )
            dtype = flat.dtype
            if policy is not None:
                flat = cast(flat, policy.reduce_dtype or policy.param_dtype)
            if self._hook is None:
                total = rows.all_reduce(flat / self._divisor, group)
            else:
                state, hook = self._hook
                total = settled(hook(state, GradBucket(index, members, last, flat)))
            total = total.to(dtype)
            parts = total.split([t.numel() for t in mine])
            for p, own, g, part in zip(members, mine, grads, parts, strict=True):
                if self._unused and id(p) in self._unused:
                    continue  # nobody's gradient: what was there before stays
                mean = part.reshape(own.shape)
                cut = isinstance(p, DTensor)
                if g is not None and (cut or not self.gradient_as_bucket_view):
                    g.copy_(mean)
                elif isinstance(p, DTensor):
                    p.grad = DTensor.from_local(mean, p.device_mesh, p.placements, shape=p.shape)
                else:
                    p.grad = mean

    def _missing_text(self) -> str:
        wanted = {i for b in self._bucket_list[self._next :] for i in b.missing}
        names = [name for name, p in self.module.named_parameters() if id(p) in wanted]
        return (
            "Expected to have finished reduction in the prior iteration before starting a new one. "
            "This error indicates that your module has parameters that were not used in producing "
            "loss. You can enable unused parameter detection by passing the keyword argument "
            "`find_unused_parameters=True` to `torch.nn.parallel.DistributedDataParallel`. "
            f"Parameters without a gradient on rank {self.process_group.rank()}: "
            f"{', '.join(names)}"
        )

    # -- uneven inputs: Note [Uneven inputs] ------------------------------------------------------

    def _tell(self, does: int) -> tuple[int, int]:
        """Tell the other ranks what this one does in a step.

        Returns:
            The first rank that trains, and what those that train do.
        """
        told = [data[0] for data in self.process_group.exchange(bytes([does]))]
        trains = [rank for rank, bits in enumerate(told) if bits & TRAINS]
        self._divisor = len(told) if self._by_initial_size else len(trains)
        return trains[0], told[trains[0]]

    def _take_part(self) -> None:
        """Do what the ranks that train do in a step, without an input."""
        root, does = self._tell(0)
        if does & SHARES:
            same_on_all(self._buffers_shared, self.process_group, root)
        if does & LOOKS:
            self._look_for_unused(set())
        if does & REDUCES:
            for p in (*self._trained, *self._delayed):
                p.grad = None
            for index, bucket in enumerate(self._bucket_list):
                last = index == len(self._bucket_list) - 1
                self._reduce(bucket.parameters, index, last)
            if self._delayed:
                self._reduce(self._delayed, len(self._bucket_list), True)

    def _end_together(self, is_last_joiner: bool) -> None:
        """Have all ranks go on with the parameters of one that took most steps."""
        self._divisor, self._by_initial_size = self.process_group.size(), True
        everyone = self.process_group.exchange(bytes([is_last_joiner]))
        root = everyone.index(b"\1")
        states = [*self._trained, *self._delayed, *self._buffers_shared]
        same_on_all(states, self.process_group, root)

    def join(
        self,
        divide_by_initial_world_size: bool = True,
        enable: bool = True,
        throw_on_early_termination: bool = False,
    ) -> Join:
        """While inside, ranks may have different numbers of inputs.

        Args:
            divide_by_initial_world_size: gradients are divided by the number of all ranks;
                otherwise by that of the ranks that still have inputs.
            enable: False makes it do nothing.
            throw_on_early_termination: raise on all ranks once one has no more inputs.
        """
        return Join(
            [self],
            enable,
            throw_on_early_termination,
            divide_by_initial_world_size=divide_by_initial_world_size,
        )

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """What a rank does that has no more inputs.

        Args:
            kwargs: divide_by_initial_world_size: see `join`.
        """
        self._by_initial_size = kwargs.get("divide_by_initial_world_size", True)
        return _TakePart(self)

    @property
    def join_device(self) -> Any:
        """Of the parameters."""
        return self._trained[0].device

    @property
    def join_process_group(self) -> Any:
        """The ranks that have replicas."""
        return self.process_group

    # -- what users ask for ----------------------------------------------------------------------

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """While inside, gradients are added up on each rank by itself. The first backward pass
        after it averages the sums."""
        before = self.require_backward_grad_sync
        self.require_backward_grad_sync = False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def register_comm_hook(self, state: Any, hook: Hook) -> None:
        """Have a function reduce the buckets.

        Args:
            state: given to it.
            hook: called as hook(state, bucket); -> the reduced buffer, or something whose `wait()`
                or `value()` gives it, alone or as the only member of a list.

        Raises:
            TypeError: the hook cannot be called.
            ValueError: its annotations say that it takes or returns something else.
            RuntimeError: there is one.
        """
        if not callable(hook):
            raise TypeError("Communication hook must be callable.")
        _check_hook(hook)
        if self._hook is not None:
            raise RuntimeError("register_comm_hook can only be called once.")
        self._hook = state, hook

    def _set_static_graph(self) -> None:
        self.static_graph = True

    @staticmethod
    def _set_params_and_buffers_to_ignore_for_model(module: Module, names: Sequence[str]) -> None:
        """Have some parameters and buffers of a module be each rank's own."""
        module._ddp_params_and_buffers_to_ignore = list(names)


class _TakePart(JoinHook):
    """What a rank does whose inputs are used up."""

    def __init__(self, replicas: DistributedDataParallel) -> None:
        self.replicas = replicas

    def main_hook(self) -> None:
        """A step of the others."""
        self.replicas._take_part()

    def post_hook(self, is_last_joiner: bool) -> None:
        """The end of all."""
        self.replicas._end_together(is_last_joiner)


def _check_hook(hook: Hook) -> None:
    """Refuse a hook whose annotations do not fit."""
    try:
        signature = inspect.signature(hook)
    except ValueError:  # a callable without one
        return
    bucket = signature.parameters.get("bucket")
    if bucket is not None and bucket.annotation not in (
        *(inspect.Parameter.empty, Any, GradBucket),
        *("GradBucket", "dist.GradBucket", "Any"),
    ):
        raise ValueError("Communication hook: bucket annotation should be dist.GradBucket.")
    returns = signature.return_annotation
    known = (inspect.Signature.empty, Any, Tensor, Future)
    if not isinstance(returns, str) and returns not in known and "Future" not in str(returns):
        raise ValueError(
            "Communication hook: return annotation should be torch.futures.Future[torch.Tensor]."
        )


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    if len(gradients) == 1:
        return gradients[0].reshape(-1)
    return flambeau.cat([g.reshape(-1) for g in gradients])


def settled(found: Any) -> Tensor:
    """The tensor that a communication hook promises."""
    for name in ("wait", "value"):
        if not isinstance(found, (Tensor, list, tuple)) and hasattr(found, name):
            found = getattr(found, name)()
    while isinstance(found, (list, tuple)) and len(found) == 1:
        found = found[0]
    if not isinstance(found, Tensor):
        raise TypeError(
            f"a communication hook should return the reduced buffer, got {type(found).__name__}"
        )
    return found


__all__ = ["DistributedDataParallel", "GradBucket"]
