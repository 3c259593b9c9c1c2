"""`DTensor`: a tensor of which the ranks of a mesh have parts, used as if it were one."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from flambeau import overriding
from flambeau.device import device as Device
from flambeau.distributed import moves
from flambeau.distributed.groups import default_group
from flambeau.distributed.mesh import DeviceMesh, current_mesh, init_device_mesh
from flambeau.distributed.tensor import loss, rules
from flambeau.distributed.tensor.partition import (
    NoForm,
    Partition,
    Plan,
    elementwise_only,
    hollow,
    record_whole,
)
from flambeau.distributed.tensor.placement import (
    Layout,
    Partial,
    Placement,
    Replicate,
    Shard,
    laid,
    normal,
    redistributed,
)
from flambeau.distributed.types import I, P, R
from flambeau.dtype import dtype as DType
from flambeau.dtype import get_default_dtype
from flambeau.ir.graph import Node
from flambeau.layout import layout as MemoryLayout
from flambeau.layout import memory_format as MemoryFormat
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.ops import collective
from flambeau.ops.random import default_generator
from flambeau.ops.rows import NAMES
from flambeau.pytree import tree_flatten, tree_is_leaf, tree_map, tree_unflatten
from flambeau.size import Size, contiguous_strides
from flambeau.tape import edge_of, modes
from flambeau.tensor import Tensor, alias, as_subclass

#: Calls that are about this rank's part and its place on the tape.
_LOCAL = {
    "backward",
    "detach_",
    "register_hook",
    "register_post_accumulate_grad_hook",
    "retain_grad",
}
#: Tensors of one number that lie as another tensor does.
_LIKE = {"zeros_like", "ones_like", "full_like", "empty_like"}
#: Another dtype or device for each part where it lies, terms of a sum included.
_MOVED = {"to", "cpu"}


class DTensor(Tensor):
    """A tensor as a whole, of which this rank has a part.

    Operations take the shape of the whole and are done on the parts (Note [Partitioning] in
    `partition.py`). Made by `distribute_tensor`, `DTensor.from_local` and the factories.

    Gradients lie as the tensor does; of a Partial tensor, on every rank.
    """

    _layout: Layout
    _is_param = False

    # -- what it is --------------------------------------------------------------------------------

    @property
    def device_mesh(self) -> DeviceMesh:
        """The ranks that have parts."""
        mesh: DeviceMesh = self._layout.mesh
        return mesh

    @property
    def placements(self) -> tuple[Placement, ...]:
        """How it lies along each axis of the mesh."""
        return self._layout.placements

    @property
    def shape(self) -> Size:
        """Of the whole."""
        return Size(self._layout.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._layout.shape)

    @property
    def device(self) -> Device:
        """Where the parts are."""
        return self._cell.device

    def dim(self) -> int:
        """Number of dimensions."""
        return len(self._layout.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape of the whole, or the size of one dimension."""
        return self.shape if dim is None else self._layout.shape[dim]

    def numel(self) -> int:
        """Elements of the whole."""
        return int(self.shape.numel())

    def stride(self, dim: int | None = None) -> Any:
        """Steps through the whole in row-major order."""
        found = contiguous_strides(self._layout.shape)
        return found if dim is None else found[dim]

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self._layout.shape[0]

    def __repr__(  # type: ignore[override]
        self, *, tensor_contents: str | None = None
    ) -> str:
        return (
            f"DTensor(local_tensor={self._part.detach()!r}, device_mesh={self.device_mesh!r}, "
            f"placements={self.placements})"
        )

    __str__ = __repr__

    @property
    def _local_tensor(self) -> Tensor:
        return self._part

    @property
    def _part(self) -> Tensor:
        """This rank's part as a plain tensor with the same place on the tape."""
        made: Tensor = as_subclass(self, Tensor)
        del made.__dict__["_layout"]
        if made._rg and self.grad_fn is None:  # a leaf: gradients go to this tensor
            entry = edge_of(self)[0]
            made._accumulator = weakref.ref(entry)
            made.__dict__["_entry"] = entry
        return made

    # -- its gradient ------------------------------------------------------------------------------

    @property
    def grad(self) -> Any:
        """The accumulated gradient, which lies as the tensor does."""
        found = self._grad
        if found is None or isinstance(found, DTensor):
            return found
        types = tuple(I if t == P else t for t in self._layout.types)
        return _wrapped(found, replace(self._layout, types=types))

    @grad.setter
    def grad(self, value: Any) -> None:
        if isinstance(value, DTensor) and value._layout != self._layout:
            value = value.redistribute(self.device_mesh, self.placements)
        vars(Tensor)["grad"].fset(self, value)

    def requires_grad_(self, requires_grad: bool = True) -> DTensor:
        """Set `requires_grad` in place; -> self."""
        self.requires_grad = requires_grad
        return self

    def detach(self) -> DTensor:
        """The same parts, cut off from the tape."""
        return _wrapped(alias(self), self._layout)

    @property
    def data(self) -> Any:
        """The same parts without history."""
        found = self.detach()
        found._unseen = True
        return found

    @data.setter
    def data(self, value: Any) -> None:
        vars(Tensor)["data"].fset(self, value)
        if isinstance(value, DTensor):
            self._layout = value._layout

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            made = _wrapped(self._part.detach().clone(), self._layout)
            made._rg = self._rg
            made._is_param = self._is_param
            memo[id(self)] = made
        return memo[id(self)]

    def untyped_storage(self) -> Any:
        """Not of a DTensor, which is therefore not pickled: a mesh is of ranks that run.

        Raises:
            TypeError: always; it says what to save instead.
        """
        raise TypeError(
            "a DTensor has no memory as a whole and is not pickled: save its full_tensor(), or "
            "save the state dict with distributed.checkpoint, which writes parts and reads them on "
            "any mesh"
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.untyped_storage()

    # -- between parts and the whole ---------------------------------------------------------------

    @staticmethod
    def from_local(
        local_tensor: Tensor,
        device_mesh: DeviceMesh | None = None,
        placements: Sequence[Placement] | None = None,
        *,
        run_check: bool = False,
        shape: Sequence[int] | None = None,
        stride: Any = None,
        grad_placements: Sequence[Placement] | None = None,
    ) -> DTensor:
        """The tensor of which this rank has `local_tensor`; differentiable.

        Args:
            placements: Replicate() along every axis by default; what is Partial("avg") becomes
                Partial() of as much smaller terms.
            run_check: give what is replicated the values of the first rank.
            shape: of the whole, where parts are not all of one size.
        """
        mesh = _mesh(device_mesh)
        for axis, p in enumerate(placements or ()):
            if p == Partial("avg"):  # terms whose mean is meant are terms of a sum
                local_tensor = local_tensor / mesh.size(axis)
                placements = [Partial() if q == p else q for q in placements or ()]
        types = normal(placements, mesh, local_tensor.dim())
        whole = list(local_tensor.shape)
        for axis, t in enumerate(types):
            if t.dim is not None:
                whole[t.dim] *= mesh.size(axis)
        layout = laid(placements, mesh, whole if shape is None else shape)
        if run_check:
            for axis, t in enumerate(types):
                if t == I:
                    local_tensor = collective.broadcast_from(local_tensor, mesh.get_group(axis), 0)
        if layout.local_shape != tuple(local_tensor.shape):
            raise RuntimeError(
                f"a part of shape {list(local_tensor.shape)} is not this rank's of a tensor of "
                f"shape {list(layout.shape)} with placements {layout.placements}, which is "
                f"{list(layout.local_shape)}; give shape= where parts differ in size"
            )
        return _wrapped(local_tensor.view(local_tensor.shape), layout)

    def to_local(self, *, grad_placements: Sequence[Placement] | None = None) -> Tensor:
        """This rank's part as a plain tensor; differentiable.

        Args:
            grad_placements: how the gradient of the part lies, where it is not as the tensor: a
                Replicate tensor of which the ranks make different use has a Partial one.
        """
        part = self._part
        if grad_placements is not None:
            types = normal(grad_placements, self.device_mesh, self.ndim)
            for axis, (t, g) in enumerate(zip(self._layout.types, types, strict=True)):
                if t == I and g == P:
                    part = moves.convert(part, self.device_mesh.get_group(axis), src=I, dst=R)
        shape = tuple(part._shape)
        return part.view(shape)

    def redistribute(
        self,
        device_mesh: DeviceMesh | None = None,
        placements: Sequence[Placement] | None = None,
        *,
        async_op: bool = False,
        forward_dtype: Any = None,
        backward_dtype: Any = None,
    ) -> DTensor:
        """The same tensor with other placements; differentiable."""
        if device_mesh is not None and device_mesh != self.device_mesh:
            raise NotImplementedError("Cross device mesh comm not supported yet!")
        layout = laid(placements, self.device_mesh, self._layout.shape)
        return _wrapped(redistributed(self._part, self._layout, layout), layout)

    def full_tensor(self, *, grad_placements: Sequence[Placement] | None = None) -> Tensor:
        """All of it, as a plain tensor on every rank; differentiable."""
        whole = self.redistribute(placements=[Replicate()] * self.device_mesh.ndim)
        return whole.to_local(grad_placements=grad_placements)

    def item(self) -> Any:
        """The only element; every rank calls it."""
        return self.detach().full_tensor().item()

    def tolist(self) -> Any:
        """The elements of the whole; every rank calls it."""
        return self.detach().full_tensor().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Not of a DTensor: `full_tensor()` or `to_local()` says which is meant."""
        raise RuntimeError(
            ".numpy() is not supported for tensor subclasses: use full_tensor() or to_local()"
        )

    # -- operations --------------------------------------------------------------------------------

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """What a call gives: Note [Partitioning]."""
        with overriding.DisableTorchFunctionSubclass():
            return _dispatch(func, args, kwargs or {})


def _wrapped(local: Tensor, layout: Layout) -> DTensor:
    """A distributed tensor over this rank's part."""
    made: DTensor = as_subclass(local, DTensor)
    made._layout = layout
    return made


def _mesh(mesh: DeviceMesh | None) -> DeviceMesh:
    mesh = current_mesh() if mesh is None else mesh
    return init_device_mesh("cpu", (default_group().size(),)) if mesh is None else mesh


class _Mixing(threading.local):
    """Whether plain tensors are taken for whole ones: `implicit_replication`."""

    on = False


_mixing = _Mixing()


@contextmanager
def implicit_replication() -> Iterator[None]:
    """While inside, a plain tensor among distributed ones is one that every rank has whole."""
    was, _mixing.on = _mixing.on, True
    try:
        yield
    finally:
        _mixing.on = was


#: A call is planned anew past this many kept plans of a mesh.
MAX_PLANS = 4096
#: What a value in Python may be for a call to be known again by it.
_SPELLED = frozenset(
    (bool, int, str, type(None), type(Ellipsis), DType, Device, MemoryLayout, MemoryFormat)
)


def _dispatch(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """A call: Note [Partitioning]. What is to be done is found out once for calls that are alike,
    and kept with the mesh."""
    if getattr(func, "__name__", "") in _LOCAL:
        return func(*args, **kwargs)
    if rules.RULES and (rule := rules.RULES.get(rules.name_of(func))) is not None:
        return rules.by_rule(rule, func, args, kwargs, DTensor.from_local)
    tensors: list[Any] = []
    floats: list[float] = []
    try:
        spelled = _spelled((args, kwargs) if kwargs else args, tensors, floats)
    except _Unknown:
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        return _planned(func, args, kwargs, tensors).run(func, args, kwargs, tensors)
    mesh = next(t._layout.mesh for t in tensors if isinstance(t, DTensor))
    alike = (
        *(func, spelled, modes.grad, loss.active(), _mixing.on, get_default_dtype()),
        None if modes.autocast is None else tuple(modes.autocast.items()),
    )
    plans = mesh.plans
    found = plans.get(alike) or plans.get((alike, *floats))
    if found is not None:
        return found.run(func, args, kwargs, tensors)
    state = default_generator.__getstate__()
    made = _planned(func, args, kwargs, tensors)
    if state == default_generator.__getstate__():  # otherwise its steps have drawn numbers
        if len(plans) >= MAX_PLANS:
            plans.clear()
        plans[(alike, *floats) if made.exact else alike] = made
    return made.run(func, args, kwargs, tensors)


class _Unknown(Exception):
    """An argument that calls are not known again by."""


def _spelled(value: Any, tensors: list[Any], floats: list[float]) -> Any:
    """What arguments say about how a call is done, as a key.

    Args:
        tensors: those among them are added here.
        floats: numbers that a row is not compiled for are added here, and are not in the key.
    """
    kind = type(value)
    if kind is DTensor:
        tensors.append(value)
        return value._layout, value.dtype, value._rg or value.requires_grad
    if kind is float:
        if value * 2 == int(value * 2) if math.isfinite(value) else True:
            return repr(value)
        floats.append(value)
        return kind
    if kind in _SPELLED:
        return kind, value
    if kind is tuple or kind is list or kind is Size:
        return kind, *[_spelled(x, tensors, floats) for x in value]
    if kind is dict:
        return kind, *[(k, _spelled(x, tensors, floats)) for k, x in value.items()]
    if kind is slice:
        return kind, _spelled((value.start, value.stop, value.step), tensors, floats)
    if isinstance(value, Tensor):
        tensors.append(value)
        layout = value._layout if isinstance(value, DTensor) else value._shape
        return layout, value.dtype, value.requires_grad
    raise _Unknown


class _OnParts:
    """A call on the parts as they are: whatever its numbers are.

    Args:
        layout: the shape of a result's part -> how it lies.
        whole: whether the tensors are made whole first.
    """

    exact = False

    def __init__(self, layout: Callable[[Any], Layout], whole: bool = False) -> None:
        self.layout = layout
        self.whole = whole

    def run(self, func: Any, args: Any, kwargs: Any, tensors: list[Any]) -> Any:
        """The call."""
        same: dict[int, DTensor] = {}
        parts, named = self._parts(args, same), self._parts(kwargs, same)
        found = func(*parts, **named)
        if type(found) is Tensor and id(found) not in same:
            return _wrapped(found, self.layout(found._shape))
        leaves, tree = tree_flatten(found)
        made = []
        for t in leaves:
            if id(t) in same:  # a write gives its target the history of what was written
                target = same[id(t)]
                target.__dict__.update({k: v for k, v in t.__dict__.items() if k != "_entry"})
                made.append(target)
            else:
                made.append(_wrapped(t, self.layout(t._shape)) if isinstance(t, Tensor) else t)
        return tree_unflatten(made, tree)

    def _parts(self, x: Any, same: dict[int, DTensor]) -> Any:
        """Arguments with parts in place of distributed tensors, each of which is noted in `same`
        by its part's id. (No closure: one that calls itself would keep tensors in a cycle.)"""
        kind = type(x)
        if isinstance(x, DTensor):
            if self.whole:
                return x.redistribute()._part
            made = x._part
            same[id(made)] = x
            return made
        if kind is tuple or kind is list:
            return kind([self._parts(v, same) for v in x])
        if kind is dict:
            return {k: self._parts(v, same) for k, v in x.items()}
        return x if tree_is_leaf(x) else tree_map(lambda v: self._parts(v, same), x)


class _Stepwise:
    """A call in steps on the parts, for the numbers that it was recorded with.

    Args:
        plan: the steps.
        written: (place of a tensor among the call's, place of the value written to it).
        results: of the call's results, in order: the place of a tensor that it was given and
            returns, or of a value with its layout, or what is no tensor.
        tree: how the results are put together; None: there is one.
    """

    exact = True

    def __init__(
        self,
        plan: Plan,
        written: list[tuple[int, int]],
        results: list[Any],
        tree: Any,
    ) -> None:
        self.plan = plan
        self.written = written
        self.results = results
        self.tree = tree

    def run(self, func: Any, args: Any, kwargs: Any, tensors: list[Any]) -> Any:
        """The call."""
        parts = [t._part if isinstance(t, DTensor) else t for t in tensors]
        values = self.plan.run(parts)
        for at, place in self.written:
            _write(tensors[at], values[place])
        made = [
            found
            if layout is None
            else tensors[found]
            if layout == "given"
            else _wrapped(values[found], layout)
            for found, layout in self.results
        ]
        return made[0] if self.tree is None else tree_unflatten(made, self.tree)


def _planned(func: Any, args: Any, kwargs: Any, tensors: list[Any]) -> Any:
    """What does a call.

    Raises:
        RuntimeError: its tensors are not of one mesh, or some are plain.
        NotImplementedError: it writes to a tensor and is not done on parts.
    """
    name = getattr(func, "__name__", "")
    given = [x for x in tensors if isinstance(x, DTensor)]
    layout = given[0]._layout
    mesh = layout.mesh
    split_by_class = name == "cross_entropy" and loss.active()
    # these take plain tensors, which every rank has whole
    mixing = split_by_class or name == "copy_" or _mixing.on
    for x in tensors:
        if isinstance(x, DTensor):
            if x.device_mesh != mesh:
                raise RuntimeError(f"{name}: all DTensors must be on one mesh")
        elif x.dim() and not mixing:
            raise RuntimeError(
                f"{name}: got mixed torch.Tensor and DTensor, need to convert all torch.Tensor to "
                "DTensor before calling distributed operators!"
            )
    if split_by_class:
        return _SplitByClass()
    if name in _LIKE:
        types = tuple(I if t == P else t for t in layout.types)
        return _OnParts(lambda shape: replace(layout, types=types))
    if name in _MOVED and args[0] is given[0]:
        return _OnParts(lambda shape: layout)
    if all(t == I for x in given for t in x._layout.types):
        return _OnParts(lambda shape: Layout(mesh, layout.types, shape))
    state = default_generator.__getstate__()
    try:
        return _recorded(func, args, kwargs, mesh)
    except NoForm:
        default_generator.__setstate__(state)  # it is recorded again
        if name.endswith("_") and not name.endswith("__"):
            raise NotImplementedError(f"{name} of a DTensor with {given[0].placements}") from None
    types = (I,) * mesh.ndim
    return _OnParts(lambda shape: Layout(mesh, types, shape), whole=True)


class _SplitByClass:
    """`cross_entropy` inside `loss_parallel()`."""

    exact = False

    def run(self, func: Any, args: Any, kwargs: Any, tensors: list[Any]) -> DTensor:
        """The call."""
        return _split_by_class(*args, **kwargs)


def _split_by_class(
    input: DTensor,
    target: Tensor,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> DTensor:
    """`cross_entropy` inside `loss_parallel()`.

    Raises:
        RuntimeError: the logits are not split by class along one axis, and whole along the others.
    """
    mesh, types = input.device_mesh, input._layout.types
    classes = 1 if input.dim() > 1 else 0
    axes = [axis for axis, t in enumerate(types) if t.dim == classes]
    if len(axes) != 1 or any(t != I for k, t in enumerate(types) if k != axes[0]):
        raise RuntimeError(
            f"loss_parallel() takes logits with Shard({classes}) along one axis and Replicate() "
            f"along the others, got {input.placements}"
        )
    if weight is not None:
        raise NotImplementedError("loss_parallel() with weights of classes")
    plain = target.full_tensor() if isinstance(target, DTensor) else target
    found = loss.cross_entropy(
        NAMES["movedim"](input._part, classes, -1),
        plain,
        mesh.get_group(axes[0]),
        input._layout.sizes(axes[0]),
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )
    return _wrapped(found, Layout(mesh, (I,) * mesh.ndim, tuple(found.shape)))


def _recorded(func: Any, args: Any, kwargs: Any, mesh: DeviceMesh) -> _OnParts | _Stepwise:
    """The steps of a call, which is recorded on the whole tensors.

    Raises:
        NoForm: it is not done on parts.
    """
    whole = (I,) * mesh.ndim
    leaves, tree = tree_flatten((args, kwargs))
    stand_ins: list[Any] = []
    tensors: list[Any] = []
    known: list[tuple[Node, Layout, bool]] = []
    places: dict[int, int] = {}
    for x in leaves:
        if isinstance(x, Tensor):
            shape = tuple(x.shape)
            t = hollow(shape, x.dtype)
            layout = x._layout if isinstance(x, DTensor) else Layout(mesh, whole, shape)
            places[id(t)] = len(known)
            known.append((t._cell.node, layout, modes.grad and x.requires_grad))
            tensors.append(t)
            stand_ins.append(t)
        else:
            stand_ins.append(x)
    args, kwargs = tree_unflatten(stand_ins, tree)
    try:
        found = record_whole(lambda: func(*args, **kwargs))
    except RuntimeError as error:
        raise NoForm(str(error)) from error
    results, out = tree_flatten(found)
    written = [
        at
        for at, (t, (node, _, _)) in enumerate(zip(tensors, known, strict=True))
        if t._cell.node is not node
    ]
    roots = [t._node() for t in results if isinstance(t, Tensor)]
    roots += [tensors[at]._node() for at in written]
    layouts = {
        layout for _, layout, tracked in known if layout.shape or P in layout.types or tracked
    }
    if len(layouts) == 1 and P not in (only := layouts.pop()).types:
        if elementwise_only(roots) and all(r.shape == only.shape for r in roots):
            return _OnParts(lambda shape: only)
    partition = Partition(mesh, known)
    writes = []
    for at in written:
        value = partition.of(tensors[at]._node())
        writes.append((at, partition.laid(value, known[at][1]).place))
    made: list[Any] = []
    for t in results:
        if isinstance(t, Tensor) and id(t) in places:
            made.append((places[id(t)], "given"))
        elif isinstance(t, Tensor):
            part = partition.of(t._node())
            made.append((part.place, part.layout))
        else:
            made.append((t, None))
    return _Stepwise(partition.plan, writes, made, None if found is t else out)


def _write(x: DTensor, value: Tensor) -> None:
    """Write this rank's part, and give the tensor its history."""
    part = x._part
    part.copy_(value)
    x.__dict__.update({k: v for k, v in part.__dict__.items() if k != "_entry"})


# -- making them -----------------------------------------------------------------------------------


def distribute_tensor(
    tensor: Tensor,
    device_mesh: DeviceMesh | None = None,
    placements: Sequence[Placement] | None = None,
    *,
    src_data_rank: int | None = 0,
) -> DTensor:
    """Lay a tensor that every rank has on a mesh; a leaf.

    Args:
        tensor: of the same shape on every rank.
        placements: Replicate() along every axis by default.
        src_data_rank: whose values are taken, as a place along each axis; None: each rank's own.
    """
    if isinstance(tensor, DTensor):
        return tensor.redistribute(device_mesh, placements)
    mesh = _mesh(device_mesh)
    want = laid(placements, mesh, tensor.shape)
    local = tensor.detach()
    if src_data_rank is not None:
        for axis in range(mesh.ndim):
            if mesh.size(axis) > 1:
                local = collective.broadcast_from(local, mesh.get_group(axis), src_data_rank)
    made = redistributed(local, replace(want, types=(I,) * mesh.ndim), want)
    if made._cell is tensor._cell:
        made = made.clone()
    found = _wrapped(made.contiguous(), want)
    return found.requires_grad_(tensor.requires_grad)


def distribute_module(
    module: Module,
    device_mesh: DeviceMesh | None = None,
    partition_fn: Callable[[str, Module, DeviceMesh], None] | None = None,
    input_fn: Callable[..., Any] | None = None,
    output_fn: Callable[..., Any] | None = None,
) -> Module:
    """Make the parameters and buffers of a module distributed.

    Args:
        partition_fn: (name, submodule, mesh), which replaces parameters; what it leaves is
            replicated.
        input_fn: (module, inputs, mesh) -> inputs, before `forward`.
        output_fn: (module, outputs, mesh) -> outputs, after it.
    """
    mesh = _mesh(device_mesh)
    for name, sub in module.named_modules():
        if partition_fn is not None:
            partition_fn(name, sub, mesh)
        for key, p in list(sub._parameters.items()):
            if p is not None and not isinstance(p, DTensor):
                sub.register_parameter(key, distributed_parameter(p, mesh, None))
        for key, b in list(sub._buffers.items()):
            if b is not None and not isinstance(b, DTensor):
                sub._buffers[key] = distribute_tensor(b, mesh)
    if input_fn is not None:
        module.register_forward_pre_hook(lambda m, inputs: input_fn(m, inputs, mesh))
    if output_fn is not None:
        module.register_forward_hook(lambda m, inputs, outputs: output_fn(m, outputs, mesh))
    return module


def distributed_parameter(
    parameter: Tensor, mesh: DeviceMesh, placements: Sequence[Placement] | None
) -> Any:
    """A parameter laid on a mesh."""
    made = distribute_tensor(parameter, mesh, placements)
    return Parameter(made, requires_grad=parameter.requires_grad)


def _factory(name: str) -> Callable[..., DTensor]:
    """torch.distributed.tensor's `zeros`, `randn`, ...: the values of one process, in parts."""

    def make(
        *size: Any,
        device_mesh: DeviceMesh | None = None,
        placements: Sequence[Placement] | None = None,
        requires_grad: bool = False,
        **how: Any,
    ) -> DTensor:
        whole = NAMES[name](*size, **how)
        found = distribute_tensor(whole, device_mesh, placements, src_data_rank=None)
        return found.requires_grad_(requires_grad)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"`{name}` laid on a mesh; every rank calls it, with one seed."
    return make


zeros, ones, empty, full = (_factory(n) for n in ("zeros", "ones", "empty", "full"))
rand, randn = (_factory(n) for n in ("rand", "randn"))

__all__ = [
    "DTensor",
    "Partial",
    "Placement",
    "Replicate",
    "Shard",
    "distribute_module",
    "distribute_tensor",
    "empty",
    "full",
    "implicit_replication",
    "ones",
    "rand",
    "randn",
    "zeros",
]
