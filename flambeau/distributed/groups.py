"""Groups of ranks: which there are, and which of them this rank belongs to."""

from __future__ import annotations

import atexit
import enum
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from flambeau import record
from flambeau.distributed import rendezvous
from flambeau.distributed.transport import mpi, nccl
from flambeau.distributed.transport.base import Call, Transport, Work
from flambeau.distributed.transport.local import alone, own, team
from flambeau.runtime import cpuinfo

#: How long a collective may take, as in torch.
default_pg_timeout = timedelta(minutes=30)


class RedOpType(enum.StrEnum):
    """What reductions there are; of a premultiplied sum see `PremulSum`."""

    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    PRODUCT = "product"
    BAND = "band"
    BOR = "bor"
    BXOR = "bxor"


class ReduceOp:
    """The reductions by the names that programs know."""

    RedOpType = RedOpType
    SUM = RedOpType.SUM
    AVG = RedOpType.AVG
    MIN = RedOpType.MIN
    MAX = RedOpType.MAX
    PRODUCT = RedOpType.PRODUCT
    BAND = RedOpType.BAND
    BOR = RedOpType.BOR
    BXOR = RedOpType.BXOR


class PremulSum:
    """A sum in which this rank's values are multiplied by a factor.

    Args:
        factor: a number or a tensor, on each rank its own.
    """

    def __init__(self, factor: Any) -> None:
        self.factor = factor


def _make_nccl_premul_sum(factor: Any) -> PremulSum:
    """torch's name for `PremulSum`."""
    return PremulSum(factor)


class Backend(str):
    """The name of a backend, in lower case."""

    UNDEFINED = "undefined"
    GLOO = "gloo"
    NCCL = "nccl"
    XCCL = "xccl"
    UCC = "ucc"
    MPI = "mpi"

    def __new__(cls, name: str) -> Backend:
        if not isinstance(name, str):
            raise ValueError(f"Backend constructor parameter must be string-ish, got {name!r}")
        return super().__new__(cls, name.lower())


class ProcessGroup:
    """Some ranks, of which this is one.

    Args:
        transport: how they reach each other.
        ranks: their places in the world, in the order of their places in the group.
        name: the group's.
        backend: what it was asked for.
    """

    def __init__(
        self, transport: Transport, ranks: Sequence[int], name: str, backend: str = ""
    ) -> None:
        self.transport = transport
        self.ranks = tuple(ranks)
        self.group_name = name
        self.backend = backend or transport.name

    def __repr__(self) -> str:
        return f"<group {self.group_name!r} of ranks {list(self.ranks)}, rank {self.rank()}>"

    def rank(self) -> int:
        """This rank's place in the group."""
        return self.transport.rank

    def size(self) -> int:
        """How many ranks there are."""
        return self.transport.size

    def name(self) -> str:
        """What the ranks reach each other by."""
        return self.backend

    def current(self) -> bool:
        """Whether this is a group of the rank that asks, and not given up."""
        return _world.groups.get(self.group_name) is self

    def start(self, name: str, sources: Any, targets: Any, **how: Any) -> Work:
        """Start a collective on arrays (`transport.base.Call`)."""
        return self.transport.start(Call(name, sources, targets, **how))

    def exchange(self, data: bytes) -> list[bytes]:
        """Every rank's byte string, after all collectives that were recorded before."""
        record.flush()
        return self.transport.exchange(data)

    def barrier(self) -> None:
        """Run what is recorded, and wait until every rank has done so."""
        record.flush()
        self.transport.barrier().wait()


class GroupMember:
    """What `new_group` gives to ranks that are not in the group."""

    NON_GROUP_MEMBER = -100


class _Default(type):
    """Lets a class have the default group of the rank that asks as its `WORLD`."""

    @property
    def WORLD(cls) -> ProcessGroup | None:
        """The default group."""
        return _world.default


class group(metaclass=_Default):
    """The place of the default group, `group.WORLD`."""


class _World:
    """The groups of this rank."""

    def __init__(self) -> None:
        self.default: ProcessGroup | None = None
        self.groups: dict[str, ProcessGroup] = {}
        self.count = 0
        #: for a rank that is a thread: its communicator with the others
        self.given: Transport | None = None


_world = _World()


@own
def _exchange_world(state: Any) -> Any:
    global _world
    found, _world = _world, _World() if state is None else state
    return found


def is_available() -> bool:
    """True."""
    return True


def is_initialized() -> bool:
    """Whether there is a default group."""
    return _world.default is not None


def is_mpi_available() -> bool:
    """Whether the MPI transport's packages are installed."""
    return importlib.util.find_spec("mpi4py") is not None


def is_gloo_available() -> bool:
    """True: a program that asks for gloo is given the transport it was launched with."""
    return True


def is_nccl_available() -> bool:
    """Whether the NCCL transport's package is installed."""
    return importlib.util.find_spec("nccl") is not None


def is_ucc_available() -> bool:
    """False."""
    return False


is_xccl_available = is_ucc_available


def is_backend_available(backend: str) -> bool:
    """Whether a program that asks for a backend of this name is served."""
    known = {
        "mpi": is_mpi_available,
        "gloo": is_gloo_available,
        "local": is_available,
        "nccl": is_nccl_available,
    }
    return backend.lower() in known and known[backend.lower()]()


def is_torchelastic_launched() -> bool:
    """Whether a launcher that restarts programs started this one."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _launched() -> bool:
    """Whether MPI's launcher started this process, or MPI is started in it."""
    words = ("PMI_RANK", "PMI_FD", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
    return any(word in os.environ for word in words) or "mpi4py.MPI" in sys.modules


def _address(init_method: str | None) -> tuple[str, int] | None:
    """Where ranks meet that nobody launched: of `tcp://host:port`, or as the environment says."""
    if init_method is not None and init_method.startswith("tcp://"):
        found = urlsplit(init_method)
        return (found.hostname or "127.0.0.1", found.port or 0)
    if "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ:
        return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return None


def _transport(init_method: str | None, rank: int, size: int, timeout: timedelta) -> Transport:
    """How the ranks of this program reach each other."""
    if _world.given is not None:
        return _world.given
    if size < 0:
        size = int(os.environ.get("WORLD_SIZE", "1"))
    if rank < 0:
        rank = int(os.environ.get("RANK", "-1"))
    if _launched():
        return TRANSPORTS["mpi"]()
    if size <= 1:
        return alone()
    address = _address(init_method)
    if address is None or rank < 0:
        raise ValueError(
            f"world_size={size} was given, but nobody launched this program. Start it with "
            f"`flambeau launch -n {size}` or mpiexec, or start {size} processes that say rank, "
            "MASTER_ADDR and MASTER_PORT"
        )
    return rendezvous.meet(rank, size, *address, timeout.total_seconds(), TRANSPORTS["mpi"])


#: Name -> a function that makes the world's communicator.
TRANSPORTS: dict[str, Callable[[], Transport]] = {"single": alone, "mpi": mpi.world}


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: timedelta | None = None,
    world_size: int = -1,
    rank: int = -1,
    store: Any = None,
    group_name: str = "",
    pg_options: Any = None,
    device_id: Any = None,
) -> None:
    """Make the default group, of all ranks that were launched.

    Who they are is the launcher's to say (`flambeau launch`, mpiexec, `spawn_local`); a program
    that nobody launched is a world of one rank.

    Args:
        backend: a name by which the group is called afterwards; the ranks are reached as they were
            launched. With "nccl" the arrays go by way of the ranks' GPUs (`transport/nccl.py`).
        timeout: how long a collective may take.
        world_size, rank: checked, where they are given.
        device_id: with "nccl" this rank's GPU: a device or its number. None takes that of
            LOCAL_RANK.

    Raises:
        ValueError: there is a default group, or the launcher says otherwise.
        RuntimeError: "nccl" without nccl4py or a GPU.
    """
    if _world.default is not None:
        raise ValueError("trying to initialize the default process group twice!")
    timeout = timeout or default_pg_timeout
    transport = _transport(init_method, rank, world_size, timeout)
    for what, given, found in (
        ("world_size", world_size, transport.size),
        ("rank", rank, transport.rank),
    ):
        if given not in (-1, None, found):
            raise ValueError(
                f"{what}={given} was given, but it is {found} of the ranks that were launched; "
                "start the program with `flambeau launch -n N` or mpiexec"
            )
    transport.timeout = timeout.total_seconds()
    if isinstance(transport, mpi.MPI):
        _do_all_before_exit()
    if backend is not None and Backend(backend) == Backend.NCCL:
        transport = nccl.over(transport, getattr(device_id, "index", device_id))
    name = group_name or "0"
    _world.default = ProcessGroup(transport, range(transport.size), name, backend or "")
    _world.groups[name] = _world.default


@functools.cache
def _do_all_before_exit() -> None:
    """Have a program that ends run what it has recorded: others wait for its part of collectives
    whose results it never read."""
    cpuinfo.llvm()  # whose own end has to come after that
    atexit.register(record.flush)


def destroy_process_group(group: ProcessGroup | None = None) -> None:
    """Give up a group, or all of them."""
    record.flush()
    if group is None or group is _world.default:
        groups = [g for g in _world.groups.values() if g is not _world.default]
        for other in groups:
            other.transport.close()
        if _world.default is not None and _world.default.transport is not _world.given:
            _world.default.transport.close()
        _world.groups.clear()
        _world.default = None
        return
    _world.groups.pop(group.group_name, None)
    group.transport.close()


def default_group() -> ProcessGroup:
    """The group of all ranks.

    Raises:
        ValueError: there is none.
    """
    if _world.default is None:
        raise ValueError(
            "Default process group has not been initialized, please make sure to call "
            "init_process_group."
        )
    return _world.default


def group_of(group: Any = None) -> ProcessGroup:
    """The group that an argument means: a group, its name, None for the default one, or an object
    with a group of its own (a mesh of one axis, or a mesh and an axis)."""
    if isinstance(group, ProcessGroup):
        return group
    if group is None:
        return default_group()
    if isinstance(group, str):
        if group not in _world.groups:
            raise ValueError(f"there is no group called {group!r}")
        return _world.groups[group]
    if isinstance(group, tuple) and len(group) == 2 and hasattr(group[0], "get_group"):
        return group_of(group[0].get_group(group[1]))
    if hasattr(group, "get_group"):
        return group_of(group.get_group())
    raise ValueError(f"a group was expected, got {group!r}; this rank may not be in it")


def new_group(
    ranks: Sequence[int] | None = None,
    timeout: timedelta | None = None,
    backend: str | None = None,
    pg_options: Any = None,
    use_local_synchronization: bool = False,
    group_desc: str | None = None,
    device_id: Any = None,
) -> Any:
    """A group of some ranks; every rank of the world calls it.

    Args:
        ranks: their places in the world; None takes all.

    Returns:
        The group, or `GroupMember.NON_GROUP_MEMBER` on ranks that are not in it.
    """
    world = default_group()
    chosen = list(range(world.size())) if ranks is None else sorted(int(r) for r in ranks)
    wrong = [r for r in chosen if not 0 <= r < world.size()]
    if wrong:
        raise ValueError(
            "The new group's rank should be within the world_size set by init_process_group"
            f": got {wrong} of {world.size()}"
        )
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"a rank is given twice: {chosen}")
    if len(chosen) > world.size():
        raise ValueError("the new group's world size should be less or equal to the world size")
    return _split(world, chosen, timeout, backend, group_desc)


def _split(
    parent: ProcessGroup,
    chosen: Sequence[int],
    timeout: timedelta | None = None,
    backend: str | None = None,
    name: str | None = None,
) -> Any:
    """The group of some ranks of the world that are in `parent`, in this order."""
    record.flush()
    _world.count += 1
    transport = parent.transport.split([parent.ranks.index(r) for r in chosen])
    if transport is None:
        return GroupMember.NON_GROUP_MEMBER
    if timeout is not None:
        transport.timeout = timeout.total_seconds()
    label = str(_world.count) if name is None or name in _world.groups else name
    transport.group = f"group {label}"
    made = ProcessGroup(transport, chosen, label, backend or parent.backend)
    _world.groups[label] = made
    return made


def split_group(
    parent_pg: ProcessGroup | None = None,
    split_ranks: Sequence[Sequence[int]] | None = None,
    timeout: timedelta | None = None,
    pg_options: Any = None,
    group_desc: str | None = None,
) -> ProcessGroup | None:
    """Groups of ranks of a group; every rank of that group calls it.

    Args:
        parent_pg: the group; None takes the default one.
        split_ranks: for each new group the places of its ranks in `parent_pg`.

    Returns:
        The new group that this rank is in, or None.
    """
    parent = group_of(parent_pg)
    if not split_ranks:
        raise ValueError("split_ranks cannot be None or empty")
    if len({r for part in split_ranks for r in part}) < sum(map(len, split_ranks)):
        raise ValueError("the split group cannot have duplicate ranks")
    here = None
    for part in split_ranks:
        made = _split(parent, [parent.ranks[r] for r in part], timeout, None, group_desc)
        if isinstance(made, ProcessGroup):
            here = made
    return here


def new_subgroups(
    group_size: int | None = None,
    group: Any = None,
    timeout: timedelta | None = None,
    **ignored: Any,
) -> tuple[Any, list[Any]]:
    """The world cut into groups of consecutive ranks; -> (this rank's, all).

    Raises:
        ValueError: `group_size` does not divide the number of ranks.
    """
    world = default_group()
    size = group_size or world.size()
    if world.size() % size:
        raise ValueError(f"the world size {world.size()} must be divisible by {group_size=}")
    lists = [list(range(k, k + size)) for k in range(0, world.size(), size)]
    return new_subgroups_by_enumeration(lists, timeout)


def new_subgroups_by_enumeration(
    ranks_per_subgroup_list: Sequence[Sequence[int]],
    timeout: timedelta | None = None,
    **ignored: Any,
) -> tuple[Any, list[Any]]:
    """Groups of the given ranks; -> (this rank's, all)."""
    made = [new_group(ranks, timeout) for ranks in ranks_per_subgroup_list]
    here = [g for g in made if isinstance(g, ProcessGroup)]
    return (here[0] if here else None), made


def get_rank(group: Any = None) -> int:
    """This rank's place in a group; -1 outside it."""
    return -1 if group == GroupMember.NON_GROUP_MEMBER else group_of(group).rank()


def get_world_size(group: Any = None) -> int:
    """How many ranks a group has; -1 outside it."""
    return -1 if group == GroupMember.NON_GROUP_MEMBER else group_of(group).size()


def get_backend(group: Any = None) -> str:
    """The name that the group was asked for, or how its ranks are reached."""
    return group_of(group).backend


def get_pg_count() -> int:
    """How many groups this rank is in."""
    return len(_world.groups)


def get_node_local_rank(fallback_rank: int | None = None) -> int:
    """This rank's place on its machine, as the launcher says.

    Raises:
        RuntimeError: it does not, and there is no `fallback_rank`.
    """
    found = os.environ.get("LOCAL_RANK", fallback_rank)
    if found is None:
        raise RuntimeError(
            "LOCAL_RANK is not in the environment. Consider passing fallback_rank to allow "
            "get_node_local_rank to work, assuming you are not running in a multi-device context "
            "and want the code to run locally instead."
        )
    return int(found)


def get_default_backend_for_device(device: Any) -> str:
    """The backend for tensors of a device."""
    return "gloo"


class DebugLevel(enum.Enum):
    """How much is checked; with `DETAIL` ranks compare their calls before each is started."""

    OFF = 0
    INFO = 1
    DETAIL = 2


def get_debug_level() -> DebugLevel:
    """What TORCH_DISTRIBUTED_DEBUG asks for; groups made from then on go by it."""
    return DebugLevel[os.environ.get("TORCH_DISTRIBUTED_DEBUG", "OFF").upper() or "OFF"]


def set_debug_level(level: DebugLevel) -> None:
    """Set TORCH_DISTRIBUTED_DEBUG."""
    os.environ["TORCH_DISTRIBUTED_DEBUG"] = level.name


def get_process_group_ranks(group: Any = None) -> list[int]:
    """The places in the world of a group's ranks."""
    return list(group_of(group).ranks)


def get_global_rank(group: Any, group_rank: int) -> int:
    """The place in the world of a rank of a group."""
    ranks = group_of(group).ranks
    if not 0 <= group_rank < len(ranks):
        raise ValueError(f"Group rank {group_rank} is not part of group {group}")
    return ranks[group_rank]


def get_group_rank(group: Any, global_rank: int) -> int:
    """The place in a group of a rank of the world."""
    ranks = group_of(group).ranks
    if global_rank not in ranks:
        raise ValueError(f"Global rank {global_rank} is not part of group {group}")
    return ranks.index(global_rank)


def spawn_local(
    count: int, fn: Callable[..., Any], *args: Any, init: bool = True, timeout: float | None = 300.0
) -> list[Any]:
    """Run a function on ranks that are threads of this process and take turns.

    Every rank has what a process would have of its own: what it has recorded, its default group,
    its random numbers (Note [Taking turns] in `transport/local.py`).

    Args:
        count: of ranks.
        fn: called as fn(rank, *args), as by `multiprocessing.spawn`.
        init: whether the default group is there; otherwise `fn` calls `init_process_group`.
        timeout: seconds for all of it.

    Returns:
        What each rank returned.

    Raises:
        What the first rank that failed raised; the others end.

    Example:
        >>> spawn_local(3, lambda rank: (rank, get_world_size()))
        [(0, 3), (1, 3), (2, 3)]
    """
    members = team(count)

    def run(rank: int) -> Any:
        _world.given = members[rank]
        if init:
            init_process_group()
        return fn(rank, *args)

    functions = [lambda rank=rank: run(rank) for rank in range(count)]
    return members[0].world.run(functions, timeout)
