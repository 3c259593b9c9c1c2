"""Collectives that write into tensors, and those of objects: torch's `dist.all_reduce(t)` family.

They are recorded as any other write: what is read of a tensor afterwards is what the collective
leaves in it, and communication overlaps with what does not depend on it, `async_op` or not. None of
them can be differentiated, so a tensor that needs a gradient is refused; `distributed.functional`
has forms that can.
"""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

from flambeau import dtypes, record
from flambeau.autograd.modes import no_grad
from flambeau.distributed import functional
from flambeau.distributed.groups import (
    ProcessGroup,
    ReduceOp,
    get_global_rank,
    get_group_rank,
    group_of,
)
from flambeau.distributed.nn import functional as lists
from flambeau.ops.rows import NAMES
from flambeau.tape import modes
from flambeau.tensor import Tensor

_F = TypeVar("_F", bound=Callable[..., Any])


class Work:
    """A collective that was recorded.

    Args:
        result: what it leaves, for `result` and `get_future`.
        source: the rank that a message came from.
    """

    def __init__(self, result: Any = None, source: int = -1) -> None:
        self._result = result
        self._source = source

    def wait(self, timeout: timedelta | None = None) -> bool:
        """True: what reads the result waits for it."""
        return True

    def is_completed(self) -> bool:
        """Run what is recorded; True."""
        record.flush()
        return True

    def is_success(self) -> bool:
        """True: a collective that failed has raised."""
        return self.is_completed()

    def exception(self) -> None:
        """None: see `is_success`."""

    def result(self) -> list[Tensor]:
        """The tensors that it leaves."""
        return self._result if isinstance(self._result, list) else [self._result]

    def source_rank(self) -> int:
        """The rank that a message came from."""
        return self._source

    def get_future(self) -> Future:
        """The result as a future that is done."""
        return Future(self.result())


class Future:
    """A value that is there (`torch.futures.Future` as far as communication hooks use it)."""

    def __init__(self, value: Any = None) -> None:
        self._value = value

    def wait(self) -> Any:
        """The value."""
        return self._value

    def value(self) -> Any:
        """The value."""
        return self._value

    def done(self) -> bool:
        """True."""
        return True

    def set_result(self, value: Any) -> None:
        """Let this be the value."""
        self._value = value

    def then(self, callback: Callable[[Future], Any]) -> Future:
        """The future of what a function makes of this one."""
        return Future(callback(self))


def _plain(written: str = "", read: str = "", later: bool = False) -> Callable[[_F], _F]:
    """Declare a collective that cannot be differentiated: it is recorded without gradients, and
    refuses tensors that need one. A leaf may be written, as parameters are when training starts.

    Args:
        written, read: names of parameters that are tensors or lists of them.
        later: whether it waits for its `wait`, whoever sees the memory: a message must not hold up
            the one that answers it.
    """

    def declare(body: _F) -> _F:
        signature = inspect.signature(body)
        written_names, names = written.split(), (written + " " + read).split()

        @functools.wraps(body)
        def call(*args: Any, **kwargs: Any) -> Any:
            if modes.grad:
                given = signature.bind(*args, **kwargs).arguments
                for name in names:
                    _refuse(body.__name__, given.get(name), name in written_names)
            with no_grad(), record.together(later):
                return body(*args, **kwargs)

        return cast(_F, call)

    return declare


def _refuse(name: str, value: Any, written: bool) -> None:
    """Raise where a gradient would be dropped."""
    if value is None:
        return
    if isinstance(value, list | tuple):
        for part in value:
            _refuse(name, part, written)
    elif not isinstance(value, Tensor):
        raise TypeError(f"distributed.{name}: a Tensor was expected, got {type(value).__name__}")
    elif value.requires_grad and not (written and value.is_leaf):
        raise RuntimeError(
            f"distributed.{name} cannot be differentiated, and was given a tensor that needs a "
            "gradient. Give it tensor.detach(), call it under torch.no_grad(), or use "
            "torch.distributed.nn.functional or torch.distributed.functional, which can."
        )


def _together(body: _F) -> _F:
    """Declare what the ranks of a group do together: a rank outside the group does nothing.

    The body is given the group that its argument means. The `Work` it returns is for callers that
    say `async_op`; what has no such parameter returns what it returns.
    """
    names = list(inspect.signature(body).parameters)
    at = names.index("group")
    asked_at = names.index("async_op") if "async_op" in names else -1

    @functools.wraps(body)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = args[at] if len(args) > at else kwargs.get("group")
        if isinstance(given, int):  # GroupMember.NON_GROUP_MEMBER
            return None
        members = group_of(given)
        if len(args) > at:
            args = (*args[:at], members, *args[at + 1 :])
        else:
            kwargs["group"] = members
        found = body(*args, **kwargs)
        if asked_at < 0:
            return found
        asked = args[asked_at] if len(args) > asked_at else kwargs.get("async_op")
        return found if asked else None

    return cast(_F, call)


def _write(target: Tensor, value: Tensor) -> None:
    target.copy_(lists.fitted(value, target))


def _write_each(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)


def _root(
    root: int | None,
    in_group: int | None,
    group: ProcessGroup,
    what: str,
    default: int | None = None,
) -> int:
    """A rank of the group, from a rank of the world (or a default one) or one of the group."""
    if root is None and in_group is None:
        root = default
    if (root is None) == (in_group is None):
        raise ValueError(f"one of {what} and group_{what} has to be given")
    if in_group is not None:
        return in_group
    assert root is not None
    return get_group_rank(group, root)


@_plain("tensor")
@_together
def all_reduce(
    tensor: Tensor, op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """Write the reduction of every rank's tensor into each of them."""
    _write(tensor, functional.all_reduce(tensor, op, group))
    return Work(tensor)


@_plain("tensors")
def all_reduce_coalesced(
    tensors: Sequence[Tensor], op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """`all_reduce` of several tensors."""
    for t in tensors:
        all_reduce(t, op, group)
    return Work(list(tensors)) if async_op else None


@_plain("tensor")
@_together
def broadcast(
    tensor: Tensor,
    src: int | None = None,
    group: Any = None,
    async_op: bool = False,
    group_src: int | None = None,
) -> Work | None:
    """Write rank `src`'s tensor into every rank's."""
    root = _root(src, group_src, group, "src")
    found = functional.broadcast(tensor, root, group)
    if group.rank() != root:
        _write(tensor, found)
    return Work(tensor)


@_plain("tensor")
@_together
def reduce(
    tensor: Tensor,
    dst: int | None = None,
    op: Any = ReduceOp.SUM,
    group: Any = None,
    async_op: bool = False,
    group_dst: int | None = None,
) -> Work | None:
    """Write the reduction of every rank's tensor into that of rank `dst`."""
    root = _root(dst, group_dst, group, "dst")
    found = functional.reduce(tensor, op, root, group)
    if group.rank() == root:
        _write(tensor, found)
    return Work(tensor)


@_plain("output_tensor_lists", "input_tensor_list")
def all_gather_coalesced(
    output_tensor_lists: Sequence[Sequence[Tensor]],
    input_tensor_list: Sequence[Tensor],
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """`all_gather` of several tensors."""
    for targets, t in zip(output_tensor_lists, input_tensor_list, strict=True):
        all_gather(targets, t, group)
    return Work([t for targets in output_tensor_lists for t in targets]) if async_op else None


@_plain("tensor_list", "tensor")
@_together
def all_gather(
    tensor_list: Sequence[Tensor], tensor: Tensor, group: Any = None, async_op: bool = False
) -> Work | None:
    """Write every rank's tensor into one of a list each; their sizes may differ."""
    if len(tensor_list) != group.size():
        raise ValueError(f"{group.size()} tensors are needed, got {len(tensor_list)}")
    sizes = [t.numel() for t in tensor_list]
    whole = functional.all_gather_tensor(tensor.reshape(-1), 0, group, sizes=sizes)
    _write_each(tensor_list, lists.parted(whole, tensor_list))
    return Work(list(tensor_list))


@_plain("output_tensor", "input_tensor")
@_together
def all_gather_into_tensor(
    output_tensor: Tensor, input_tensor: Tensor, group: Any = None, async_op: bool = False
) -> Work | None:
    """Write every rank's tensor into one, joined along dimension 0 or stacked."""
    _write(output_tensor, lists._all_gather_base(output_tensor, input_tensor, group))
    return Work(output_tensor)


@_plain("gather_list", "tensor")
@_together
def gather(
    tensor: Tensor,
    gather_list: Sequence[Tensor] | None = None,
    dst: int | None = None,
    group: Any = None,
    async_op: bool = False,
    group_dst: int | None = None,
) -> Work | None:
    """Write every rank's tensor into a list on rank `dst`."""
    root = _root(dst, group_dst, group, "dst", 0)
    mine = group.rank() == root
    if mine != bool(gather_list):
        raise ValueError(
            "Argument ``gather_list`` must be specified on destination rank."
            if mine
            else "Argument ``gather_list`` must NOT be specified on non-destination ranks."
        )
    whole = functional.gather(tensor.reshape(-1), 0, root, group)
    if gather_list:
        _write_each(gather_list, lists.parted(whole, gather_list))
    return Work(list(gather_list or ()))


@_plain("tensor", "scatter_list")
@_together
def scatter(
    tensor: Tensor,
    scatter_list: Sequence[Tensor] | None = None,
    src: int | None = None,
    group: Any = None,
    async_op: bool = False,
    group_src: int | None = None,
) -> Work | None:
    """Write one of a list on rank `src` into every rank's tensor."""
    root = _root(src, group_src, group, "src", 0)
    mine = group.rank() == root
    if mine != bool(scatter_list):
        raise ValueError(
            "Argument ``scatter_list`` must be specified on source rank."
            if mine
            else "Argument ``scatter_list`` must NOT be specified on non-source ranks."
        )
    whole, _ = lists.joined(scatter_list or (tensor,))
    sizes = (tensor.numel(),) * group.size()
    _write(tensor, functional.scatter(whole, 0, root, group, sizes))
    return Work(tensor)


@_plain("output", "input_list")
@_together
def reduce_scatter(
    output: Tensor,
    input_list: Sequence[Tensor],
    op: Any = ReduceOp.SUM,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """Write this rank's part of the reduction of every rank's list; their sizes may differ."""
    _write(output, lists.reduce_scatter(output, input_list, op, group))
    return Work(output)


@_plain("output", "input")
@_together
def reduce_scatter_tensor(
    output: Tensor, input: Tensor, op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """Write this rank's part, along dimension 0, of the reduction of every rank's tensor."""
    _write(output, functional.reduce_scatter_tensor(input.reshape(-1), op, 0, group))
    return Work(output)


@_plain("output_tensor_list", "input_tensor_list")
@_together
def all_to_all(
    output_tensor_list: Sequence[Tensor],
    input_tensor_list: Sequence[Tensor],
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """Write one of each rank's list into one of this rank's; their sizes may differ."""
    _write_each(output_tensor_list, lists.all_to_all(output_tensor_list, input_tensor_list, group))
    return Work(list(output_tensor_list))


@_plain("output", "input")
@_together
def all_to_all_single(
    output: Tensor,
    input: Tensor,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """Write a part of each rank's tensor, cut along dimension 0, into one."""
    found = lists.all_to_all_single(output, input, output_split_sizes, input_split_sizes, group)
    _write(output, found)
    return Work(output)


# -- messages -------------------------------------------------------------------------------------


@_plain("", "tensor", later=True)
@_together
def isend(
    tensor: Tensor,
    dst: int | None = None,
    group: Any = None,
    tag: int = 0,
    group_dst: int | None = None,
) -> Work | None:
    """Give rank `dst` the tensor, when what is recorded runs."""
    functional.send(tensor, _root(dst, group_dst, group, "dst"), group, tag)
    return _Message(tensor)


@_plain("tensor", later=True)
@_together
def irecv(
    tensor: Tensor,
    src: int | None = None,
    group: Any = None,
    tag: int = 0,
    group_src: int | None = None,
) -> Work | None:
    """Write what rank `src` sends into the tensor."""
    root = _root(src, group_src, group, "src")
    _write(tensor, functional.recv(tensor, root, group, tag))
    return _Message(tensor, get_global_rank(group, root))


class _Message(Work):
    """A message: others may wait for it, so that waiting here runs what is recorded."""

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Run what is recorded; True."""
        record.flush()
        return True


def send(
    tensor: Tensor,
    dst: int | None = None,
    group: Any = None,
    tag: int = 0,
    group_dst: int | None = None,
) -> None:
    """Give rank `dst` the tensor."""
    if (work := isend(tensor, dst, group, tag, group_dst)) is not None:
        work.wait()


def recv(
    tensor: Tensor,
    src: int | None = None,
    group: Any = None,
    tag: int = 0,
    group_src: int | None = None,
) -> int:
    """Write what rank `src` sends into the tensor; -> that rank."""
    work = irecv(tensor, src, group, tag, group_src)
    if work is None:
        return -1
    work.wait()
    return work.source_rank()


class P2POp:
    """One message of `batch_isend_irecv`.

    Args:
        op: `isend` or `irecv`.
        tensor: sent, or written.
        peer: the other rank, of the world.
        group_peer: the other rank, of the group.
    """

    def __init__(
        self,
        op: Callable[..., Any],
        tensor: Tensor,
        peer: int | None = None,
        group: Any = None,
        tag: int = 0,
        group_peer: int | None = None,
    ) -> None:
        if op not in (isend, irecv):
            raise ValueError("Invalid ``op``. Expected ``op`` to be of type isend or irecv")
        self.op = op
        self.tensor = tensor
        self.group = group
        self.tag = tag
        members = group_of(group)
        self.group_peer = _root(peer, group_peer, members, "peer")
        self.peer = get_global_rank(members, self.group_peer)


def batch_isend_irecv(p2p_op_list: Sequence[P2POp]) -> list[Any]:
    """Record messages that are under way together, whatever their order."""
    if not p2p_op_list or not all(isinstance(p, P2POp) for p in p2p_op_list):
        raise ValueError("Invalid ``p2p_op_list``. Each op is expected to be a P2POp")
    works = []
    for p in p2p_op_list:
        place = {"group_dst" if p.op is isend else "group_src": p.group_peer}
        works.append(p.op(p.tensor, group=p.group, tag=p.tag, **place))
    return works


# -- meeting --------------------------------------------------------------------------------------


@_together
def barrier(group: Any = None, async_op: bool = False, device_ids: Any = None) -> Work | None:
    """Run what is recorded, and wait until every rank of the group has."""
    group.barrier()
    return Work()


@_together
def monitored_barrier(
    group: Any = None, timeout: timedelta | None = None, wait_all_ranks: bool = False
) -> None:
    """`barrier` within a time.

    Raises:
        DistTimeoutError: a rank did not come.
    """
    record.flush()
    work = group.transport.barrier()
    work.wait(None if timeout is None else timeout.total_seconds())


class _Coalescing:
    """What `_coalescing_manager` gives: the works of its block."""

    def __init__(self) -> None:
        self.works: list[Any] = []

    def append(self, work: Any) -> None:
        """Take a work in."""
        self.works.append(work)

    def wait(self) -> None:
        """Wait for all of them."""
        for work in self.works:
            if work is not None:
                work.wait()


@contextmanager
def _coalescing_manager(
    group: Any = None, device: Any = None, async_ops: bool = False
) -> Iterator[_Coalescing]:
    """Collectives of the block are under way together, as they are anyway."""
    yield _Coalescing()


# -- objects --------------------------------------------------------------------------------------


@_together
def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """Write every rank's object into a list. Objects are pickled: trust the other ranks."""
    object_list[:] = map(pickle.loads, group.exchange(pickle.dumps(obj)))


@_together
def gather_object(
    obj: Any,
    object_gather_list: list[Any] | None = None,
    dst: int | None = None,
    group: Any = None,
    group_dst: int | None = None,
) -> None:
    """Write every rank's object into a list on rank `dst`."""
    root = _root(dst, group_dst, group, "dst", 0)
    found = group.exchange(pickle.dumps(obj))
    if group.rank() == root:
        if object_gather_list is None:
            raise ValueError("Argument ``gather_list`` must be specified on destination rank.")
        object_gather_list[:] = map(pickle.loads, found)


@_together
def broadcast_object_list(
    object_list: list[Any],
    src: int | None = None,
    group: Any = None,
    device: Any = None,
    group_src: int | None = None,
) -> None:
    """Write rank `src`'s list of objects into every rank's."""
    root = _root(src, group_src, group, "src", 0)
    mine = group.rank() == root
    found = group.exchange(pickle.dumps(list(object_list)) if mine else b"")[root]
    if not mine:
        object_list[:] = pickle.loads(found)


@_together
def scatter_object_list(
    scatter_object_output_list: list[Any],
    scatter_object_input_list: Sequence[Any] | None = None,
    src: int | None = None,
    group: Any = None,
    group_src: int | None = None,
) -> None:
    """Write one object of rank `src`'s list into the first place of every rank's."""
    if not scatter_object_output_list:
        raise ValueError("Expected argument scatter_object_output_list to be of size at least 1.")
    root = _root(src, group_src, group, "src", 0)
    mine = group.rank() == root
    found = group.exchange(pickle.dumps(list(scatter_object_input_list or ())) if mine else b"")
    scatter_object_output_list[0] = pickle.loads(found[root])[group.rank()]


def send_object_list(
    object_list: Sequence[Any],
    dst: int | None = None,
    group: Any = None,
    device: Any = None,
    group_dst: int | None = None,
    use_batch: bool = False,
) -> None:
    """Give rank `dst` a list of objects."""
    data = bytearray(pickle.dumps(list(object_list)))
    place = {"group": group, "group_dst": group_dst}
    send(NAMES["tensor"]([len(data)]), dst, **place)
    send(NAMES["tensor"](list(data), dtype=dtypes.uint8), dst, **place)


def recv_object_list(
    object_list: list[Any],
    src: int | None = None,
    group: Any = None,
    device: Any = None,
    group_src: int | None = None,
    use_batch: bool = False,
) -> int:
    """Write the objects that rank `src` sends into a list; -> that rank."""
    place = {"group": group, "group_src": group_src}
    length = NAMES["zeros"](1, dtype=dtypes.int64)
    recv(length, src, **place)
    data = NAMES["zeros"](int(length.item()), dtype=dtypes.uint8)
    rank = recv(data, src, **place)
    object_list[:] = pickle.loads(data.numpy().tobytes())
    return rank
