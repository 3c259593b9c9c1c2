"""Meshes: the ranks as an array with named axes, each line of which is a group."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from flambeau.distributed.groups import (
    ProcessGroup,
    _split,
    default_group,
    get_process_group_ranks,
    get_rank,
    init_process_group,
    is_initialized,
)
from flambeau.distributed.transport.local import own
from flambeau.ops.rows import NAMES

_stack: list[DeviceMesh] = []


@own
def _exchange_stack(state: Any) -> Any:
    global _stack
    found, _stack = _stack, [] if state is None else state
    return found


class DeviceMesh:
    """Ranks of the world as an array, whose axes may have names.

    Making one is a collective: every rank of the world does it, also those that are not in it.

    Args:
        device_type: "cpu".
        mesh: the ranks, nested lists or an integer tensor or array.
        mesh_dim_names: of its axes.

    Example:
        >>> def rank_program(rank):
        ...     mesh = init_device_mesh("cpu", (2, 3), mesh_dim_names=("dp", "tp"))
        ...     return mesh["tp"].size(), mesh.get_coordinate()
        >>> flambeau.distributed.spawn_local(6, rank_program)[4]
        (3, [1, 1])
    """

    def __init__(
        self,
        device_type: str,
        mesh: Any,
        *,
        mesh_dim_names: Sequence[str] | None = None,
        backend_override: Any = None,
        _init_backend: bool = True,
        _groups: Sequence[Any] | None = None,
        _root: DeviceMesh | None = None,
    ) -> None:
        self.device_type = device_type
        self._ranks = np.array(mesh.tolist() if hasattr(mesh, "tolist") else mesh, np.int64)
        if not self._ranks.ndim:
            self._ranks = self._ranks.reshape(1)
        self.mesh_dim_names = None if mesh_dim_names is None else tuple(mesh_dim_names)
        names = self.mesh_dim_names
        if names is not None and (len(names) != self.ndim or len(set(names)) != len(names)):
            raise RuntimeError(
                f"mesh_dim_names {list(names)} must be different and as many as the mesh has "
                f"dimensions, {self.ndim}"
            )
        if len(np.unique(self._ranks)) != self._ranks.size:
            raise RuntimeError(f"a rank stands twice in the mesh {self._ranks.tolist()}")
        if _init_backend and _groups is None and not is_initialized():
            init_process_group()
        if is_initialized() and self._ranks.max() >= default_group().size():
            raise RuntimeError(
                f"Mesh should not be bigger than default world size "
                f"{default_group().size()}, but found {self._ranks.size} ranks!"
            )
        self._root = _root
        self._flat: dict[str, DeviceMesh] = {}
        self._joined: dict[Any, DeviceMesh] = {}
        self._slices: dict[tuple[str, ...], DeviceMesh] = {}
        #: how calls on its distributed tensors are done (`tensor/partition.py`)
        self.plans: dict[Any, Any] = {}
        if _groups is None and _init_backend:
            _groups = [self._lines(axis) for axis in range(self.ndim)]
        self._groups = list(_groups or ())

    def _lines(self, axis: int) -> Any:
        """Make the groups of all lines along an axis; -> this rank's."""
        world = default_group()
        lines = np.moveaxis(self._ranks, axis, -1).reshape(-1, self._ranks.shape[axis])
        if lines.shape[0] == 1 and lines[0].tolist() == list(range(world.size())):
            return world
        here = None
        for line in lines.tolist():
            made = _split(world, line)
            if isinstance(made, ProcessGroup):
                here = made
        return here

    # -- what it is -------------------------------------------------------------------------------

    @property
    def mesh(self) -> Any:
        """The ranks, as an integer tensor."""
        return NAMES["tensor"](self._ranks)

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return int(self._ranks.ndim)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many ranks there are along each axis."""
        return tuple(int(n) for n in self._ranks.shape)

    def size(self, mesh_dim: int | str | None = None) -> int:
        """How many ranks there are, or along one axis."""
        if mesh_dim is None:
            return int(self._ranks.size)
        return self.shape[self._axis(mesh_dim)]

    def __repr__(self) -> str:
        if self.mesh_dim_names is None:
            return f"DeviceMesh({self.device_type!r}, {self._ranks.tolist()})"
        named = ", ".join(f"{n}={s}" for n, s in zip(self.mesh_dim_names, self.shape, strict=True))
        return f"DeviceMesh(({named}), device: {self.device_type!r})"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, DeviceMesh) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @functools.cached_property
    def _identity(self) -> Any:
        ranks = self._ranks
        return self.device_type, ranks.shape, ranks.tobytes(), self.mesh_dim_names

    def _axis(self, which: int | str) -> int:
        """The number of an axis."""
        if isinstance(which, str):
            if self.mesh_dim_names is None or which not in self.mesh_dim_names:
                raise KeyError(
                    f"Mesh dimension {which!r} does not exist. "
                    f"Available mesh dimensions are: {self.mesh_dim_names}"
                )
            return self.mesh_dim_names.index(which)
        return range(self.ndim)[which]

    # -- this rank in it --------------------------------------------------------------------------

    def get_rank(self) -> int:
        """This rank's place in the world."""
        return get_rank()

    def get_coordinate(self) -> list[int] | None:
        """This rank's place along each axis; None outside the mesh."""
        found = np.argwhere(self._ranks == get_rank())
        return [int(n) for n in found[0]] if len(found) else None

    def get_local_rank(self, mesh_dim: int | str | None = None) -> int:
        """This rank's place along an axis."""
        if mesh_dim is None and self.ndim > 1:
            raise RuntimeError(
                f"Found the DeviceMesh have {self.ndim} dimensions. Optional kwarg `mesh_dim` "
                "needs to be specified when device_mesh.ndim > 1."
            )
        place = self.get_coordinate()
        return -1 if place is None else place[self._axis(0 if mesh_dim is None else mesh_dim)]

    def get_group(self, mesh_dim: int | str | None = None) -> ProcessGroup:
        """The group of this rank's line along an axis."""
        if mesh_dim is None:
            if self.ndim > 1:
                raise RuntimeError(
                    f"Found the DeviceMesh have {self.ndim} dimensions. Optional kwarg `mesh_dim` "
                    "needs to be specified when device_mesh.ndim > 1. If you want to get the list "
                    "of all the ProcessGroups in the DeviceMesh, please use `get_all_groups()` "
                    "instead."
                )
            mesh_dim = 0
        if isinstance(mesh_dim, str) and mesh_dim in self._top()._flat:
            return self._top()._flat[mesh_dim].get_group()
        if not self._groups:
            raise RuntimeError("DeviceMesh process groups not initialized!")
        found = self._groups[self._axis(mesh_dim)]
        if found is None:
            raise RuntimeError(f"rank {get_rank()} is not in {self}")
        assert isinstance(found, ProcessGroup)
        return found

    def get_all_groups(self) -> list[ProcessGroup]:
        """The groups of this rank's lines, by axis."""
        return [self.get_group(axis) for axis in range(self.ndim)]

    # -- parts of it ------------------------------------------------------------------------------

    def _top(self) -> DeviceMesh:
        return self if self._root is None else self._root

    def _get_root_mesh(self) -> DeviceMesh:
        """The mesh that this one is a part of."""
        return self._top()

    def __getitem__(self, names: str | tuple[str, ...]) -> DeviceMesh:
        """The submesh of some axes, at this rank's place along the others.

        Raises:
            KeyError: there is no such axis, or they are not in the mesh's order.
        """
        if self.mesh_dim_names is None:
            raise RuntimeError("Cannot slice a DeviceMesh without mesh_dim_names!")
        chosen = (names,) if isinstance(names, str) else tuple(names)
        if len(chosen) == 1 and chosen[0] in self._top()._flat:
            return self._top()._flat[chosen[0]]
        if chosen in self._slices:
            return self._slices[chosen]
        axes = [self._axis(name) for name in chosen]
        if axes != sorted(set(axes)):
            raise KeyError(
                f"Invalid mesh_dim_names {chosen} specified. They must be in the order of the "
                f"mesh's, {self.mesh_dim_names}"
            )
        if len(axes) == self.ndim:
            return self
        place = self.get_coordinate()
        at = tuple(
            slice(None) if axis in axes else (0 if place is None else place[axis])
            for axis in range(self.ndim)
        )
        groups = [self._groups[axis] for axis in axes] if self._groups else None
        made = self._slices[chosen] = DeviceMesh(
            self.device_type,
            self._ranks[at],
            mesh_dim_names=chosen,
            _init_backend=False,
            _groups=groups,
            _root=self._top(),
        )
        return made

    def _flatten(self, mesh_dim_name: str | None = None) -> DeviceMesh:
        """The mesh as one axis; a collective of the world the first time.

        Args:
            mesh_dim_name: of the axis; by default the names joined by "_". The root mesh can be
                asked for it afterwards.
        """
        if self.ndim == 1 and mesh_dim_name in (None, *(self.mesh_dim_names or ())):
            return self
        name = mesh_dim_name or "_".join(self.mesh_dim_names or ("flat",))
        top = self._top()
        if name in top._flat:
            return top._flat[name]
        axes = [top._axis(n) for n in self.mesh_dim_names or ()] or list(range(top.ndim))
        rest = [axis for axis in range(top.ndim) if axis not in axes]
        lines = np.transpose(top._ranks, [*rest, *axes]).reshape(-1, self._ranks.size)
        here = None
        for line in lines.tolist():
            made = _split(default_group(), line)
            if isinstance(made, ProcessGroup):
                here = made
        made_mesh = DeviceMesh(
            self.device_type,
            self._ranks.reshape(-1),
            mesh_dim_names=(name,),
            _init_backend=False,
            _groups=[here],
            _root=top,
        )
        top._flat[name] = made_mesh
        return made_mesh

    @staticmethod
    def _concatenate(device_mesh_list: Sequence[DeviceMesh]) -> DeviceMesh:
        """The mesh of the axes of several submeshes of one mesh, in their order.

        Raises:
            RuntimeError: they are not submeshes of one mesh.
        """
        top = device_mesh_list[0]._top()
        key = tuple(mesh._identity for mesh in device_mesh_list)
        if key in top._joined:
            return top._joined[key]
        if any(mesh._top() is not top for mesh in device_mesh_list):
            raise RuntimeError(
                f"Cannot concatenate DeviceMeshes derived from different device meshes: "
                f"{list(device_mesh_list)}"
            )
        # a rank's coordinates in the whole are this one's, and a step along each of the submeshes
        own = np.array(top.get_coordinate())
        at = own
        for mesh in device_mesh_list:
            steps = [np.argwhere(top._ranks == r)[0] - own for r in mesh._ranks.flat]
            at = at[(..., *[None] * mesh.ndim, slice(None))]
            at = at + np.array(steps).reshape(*mesh.shape, top.ndim)
        names = [mesh.mesh_dim_names or () for mesh in device_mesh_list]
        made = top._joined[key] = DeviceMesh(
            top.device_type,
            top._ranks[tuple(np.moveaxis(at, -1, 0))],
            mesh_dim_names=sum(names, ()) if all(names) else None,
            _init_backend=False,
            _groups=[group for mesh in device_mesh_list for group in mesh._groups],
            _root=top,
        )
        return made

    @staticmethod
    def from_group(
        group: Any, device_type: str, mesh: Any = None, *, mesh_dim_names: Any = None
    ) -> DeviceMesh:
        """The mesh of a group, or of a list of groups, one for each axis of `mesh`."""
        if isinstance(group, ProcessGroup):
            ranks = get_process_group_ranks(group) if mesh is None else mesh
            return DeviceMesh(device_type, ranks, mesh_dim_names=mesh_dim_names, _groups=[group])
        if mesh is None:
            raise ValueError("Must pass mesh if passing multiple ProcessGroups")
        return DeviceMesh(device_type, mesh, mesh_dim_names=mesh_dim_names, _groups=group)

    # -- as a context -----------------------------------------------------------------------------

    def __enter__(self) -> DeviceMesh:
        """Make this the mesh that `current_mesh` gives."""
        _stack.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _stack.pop()


def current_mesh() -> DeviceMesh | None:
    """The mesh of the innermost `with mesh:` that is open."""
    return _stack[-1] if _stack else None


def init_device_mesh(
    device_type: str,
    mesh_shape: Sequence[int],
    *,
    mesh_dim_names: Sequence[str] | None = None,
    backend_override: Any = None,
) -> DeviceMesh:
    """A mesh of all ranks, in their order; the default group is made if there is none.

    Args:
        device_type: "cpu".
        mesh_shape: how many ranks there are along each axis.
        mesh_dim_names: of the axes.

    Raises:
        RuntimeError: it has not as many places as there are ranks, or the names do not fit.
    """
    if mesh_dim_names is not None and len(mesh_shape) != len(mesh_dim_names):
        raise RuntimeError(
            "mesh_shape and mesh_dim_names should have same length! Found len(mesh_dim_names): "
            f"{len(mesh_dim_names)} and len(mesh_shape): {len(mesh_shape)}."
        )
    ranks = np.arange(int(np.prod(mesh_shape))).reshape(tuple(mesh_shape))
    return DeviceMesh(device_type, ranks, mesh_dim_names=mesh_dim_names)
