"""Tensor: a handle on a cell, a view of it, and autograd's metadata.

Operations are methods installed by the table (`ops/`); this file holds what a tensor *is*:
its storage, its view, its place on the tape, and the ways its values leave (NumPy, Python, print).

Note [Views]
`_map` is None when the tensor shows its whole cell in row-major order, else (strides, offset) over
the cell's storage, in elements of the tensor's own dtype: a view may read the storage's bits as
another dtype (`view(dtype)`), and then always has a `_map`. A view keeps its base in `_base`; a
write through either is seen by both, because both read the cell's newest node. When a write gives
the base new history, the views' histories are rebuilt on demand: `_generation` counts the base's
changes of history.
"""

from __future__ import annotations

import ctypes
import math
import sys
import weakref
from importlib import import_module
from typing import Any

import numpy as np

from flambeau import dtypes, overriding, record
from flambeau.device import cpu
from flambeau.device import device as Device
from flambeau.dtype import dtype as DType
from flambeau.ir.graph import VIEW, Node
from flambeau.layout import layout as Layout
from flambeau.layout import strided
from flambeau.overriding import attribute, overridable
from flambeau.size import Size, contiguous_strides, is_contiguous
from flambeau.tape import AccumulateGrad, GradFn, Handle, modes, shown

_new = object.__new__


class _TensorMeta(type):
    """`isinstance(x, Parameter)` style checks may be customised by subclasses."""


class Tensor(metaclass=_TensorMeta):
    """A multi-dimensional array that records what is done with it.

    Made by `flambeau.tensor`, `zeros`, `randn` and the other factory functions. Attributes and
    methods are torch's.
    """

    _cell: record.Cell
    _shape: tuple[int, ...]
    dtype: DType
    _map: tuple[tuple[int, ...], int] | None = None
    _rg = False
    _grad_fn: GradFn | None = None
    _grad: Any = None
    _output_nr = 0
    _base: Any = None
    _generation = 0
    _seen_generation = 0
    _accumulator: Any = None
    _hooks: Any = None
    _retains = False
    _inference = False
    _view_cache: Any = None
    _post_hooks: Any = None
    _multi_view = False
    _unseen = False  # writes do not count as versions: `.data` and its views
    name: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return legacy_constructor(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    _plain = True  # what `overriding` knows tensors by

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """What a call with an instance of a subclass gives: tensors of that class.

        Args:
            func: what was called.
            types: of the arguments that override calls.
            args: positional arguments.
            kwargs: keyword arguments.

        Returns:
            The result, or NotImplemented where one of the types is of another family.
        """
        if not all(issubclass(cls, kind) for kind in types):
            return NotImplemented
        with overriding.DisableTorchFunctionSubclass():
            found = func(*args, **(kwargs or {}))
        return found if func == Tensor.grad.__get__ else overriding.convert(found, cls)

    # -- shape and place ------------------------------------------------------------------------

    @attribute
    def shape(self) -> Size:
        """Sizes of the dimensions."""
        return Size(self._shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._shape)

    @attribute
    def device(self) -> Device:
        """Where the tensor lives."""
        return self._cell.device

    @property
    def layout(self) -> Layout:
        """Memory layout; always `strided`."""
        return strided

    is_sparse = False
    is_quantized = False
    is_nested = False
    is_mkldnn = False
    is_mps = False
    is_xpu = False
    is_vulkan = False

    @property
    def is_cuda(self) -> bool:
        """Whether the device is an NVIDIA GPU."""
        return self._cell.device.type == "cuda"

    @property
    def is_cpu(self) -> bool:
        """Whether the device is the CPU."""
        return self._cell.device.type == "cpu"

    @property
    def is_meta(self) -> bool:
        """Whether the tensor has no data."""
        return self._cell.device.type == "meta"

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.numel() * self.dtype.itemsize

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        if dim is None:
            return Size(self._shape)
        try:
            return self._shape[dim]
        except IndexError:
            span = max(len(self._shape), 1)
            raise IndexError(
                f"Dimension out of range (expected to be in range of [{-span}, "
                f"{span - 1}], but got {dim})"
            ) from None

    def dim(self) -> int:
        """Number of dimensions."""
        return len(self._shape)

    ndimension = dim

    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self._shape)

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    def get_device(self) -> int:
        """Index of the device; -1 on the CPU."""
        return -1 if self._cell.device.index is None else self._cell.device.index

    def stride(self, dim: int | None = None) -> Any:
        """Elements to step over in memory for a step in each dimension (or in one)."""
        strides = self._strides
        return strides if dim is None else strides[dim]

    @property
    def _strides(self) -> tuple[int, ...]:
        return contiguous_strides(self._shape) if self._map is None else self._map[0]

    def storage_offset(self) -> int:
        """Elements from the start of the storage to the first element."""
        return 0 if self._map is None else self._map[1]

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """Whether elements are in row-major order without gaps."""
        return self._map is None or is_contiguous(self._shape, self._map[0])

    def is_floating_point(self) -> bool:
        """Whether the dtype is a floating-point type."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Whether the dtype is a complex type."""
        return self.dtype.is_complex

    def is_signed(self) -> bool:
        """Whether the dtype has negative values."""
        return self.dtype.is_signed

    def is_inference(self) -> bool:
        """Whether the tensor was made in inference mode."""
        return self._inference

    def is_same_size(self, other: Tensor) -> bool:
        """Whether the shapes are equal."""
        return self._shape == other._shape

    @property
    def _storage_numel(self) -> int:
        """How many elements of this tensor's dtype its storage has room for."""
        node = self._cell.node
        if node.dtype is self.dtype:
            return node.numel
        return node.nbytes // self.dtype.itemsize

    # -- values ---------------------------------------------------------------------------------

    def _node(self) -> Node:
        """The node of this tensor's value, a view of the cell's newest where it must be."""
        node = self._cell.node
        if self._map is None:
            return node
        cached = self._view_cache
        if cached is not None and cached[0] is node and cached[1].src:
            found: Node = cached[1]
            return found
        if node.dtype is not self.dtype:  # a view of the bits as another dtype
            shape = (self._storage_numel,)
            node = Node(BITS[0], (node,), (self.dtype,), shape, self.dtype)
        made = Node(VIEW, (node,), self._map, self._shape, self.dtype)
        node = self._cell.node
        self._view_cache = (node, made)
        return made

    def _address(self) -> int:
        """Realise the cell; -> address of the first element."""
        buffer = record.realise(self._cell)
        offset = 0 if self._map is None else self._map[1] * self.dtype.itemsize
        return int(buffer.ptr) + offset

    def data_ptr(self) -> int:
        """Address of the first element; executes what is pending."""
        if self.numel() == 0 or self.is_meta:
            return 0
        record.expose(self._cell, self._cell)
        return self._address()

    def _array(self) -> np.ndarray[Any, Any]:
        """A NumPy array over this tensor's memory, valid while the tensor lives; for reading."""
        buffer = record.realise(self._cell)
        return _as_array(buffer, self)

    @overridable
    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """The tensor as a NumPy array over the same memory; executes what is pending.

        Args:
            force: also take tensors that require grad (detached).

        Raises:
            RuntimeError: the tensor requires grad and `force` is False.
            TypeError: NumPy has no such dtype (bfloat16).
        """
        if modes.grad and self.requires_grad and not force:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use "
                "tensor.detach().numpy() instead."
            )
        if self.is_meta:
            raise TypeError(
                "can't convert meta device type tensor to numpy. Use Tensor.cpu() to copy the "
                "tensor to host memory first."
            )
        if self.dtype.numpy.isbuiltin != 1:
            raise TypeError(f"Got unsupported ScalarType {self.dtype.word}")
        array = _as_array(record.realise(self._cell), self)
        record.expose(self._cell, array.base)
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        found = self.numpy()
        return found if dtype is None else found.astype(dtype, copy=False)

    __array_priority__ = 1000

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The module with the functions of the Python array API standard.

        Args:
            api_version: the version that is asked for, such as "2024.12".

        Raises:
            ValueError: one that the module does not have.
        """
        if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12", "2025.12"):
            raise ValueError(f"the array API standard is here in 2025.12, not {api_version!r}")
        return import_module("flambeau.array_api")

    def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor:
        """The tensor on a device: `to`, under the array API standard's name.

        Raises:
            ValueError: a stream.
        """
        if stream is not None:
            raise ValueError("there are no streams")
        found: Tensor = self.to(device)  # type: ignore[attr-defined]
        return found

    @overridable
    def item(self) -> Any:
        """The only element as a Python number; executes what is pending.

        Raises:
            RuntimeError: there is not exactly one element.
        """
        if self.numel() != 1:
            raise RuntimeError(
                f"a Tensor with {self.numel()} elements cannot be converted to Scalar"
            )
        if record.thread.watcher is not None:
            return record.thread.watcher.read(self, _item)
        return _item(self)

    @overridable
    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        if record.thread.watcher is not None:
            return record.thread.watcher.read(self, _list)
        return _list(self)

    def __bool__(self) -> bool:
        if self.numel() != 1:
            what = "no values" if self.numel() == 0 else "more than one value"
            raise RuntimeError(f"Boolean value of Tensor with {what} is ambiguous")
        if record.thread.watcher is not None:
            return bool(record.thread.watcher.read(self, _truth))
        return _truth(self)

    def _scalar(self) -> Any:
        if self.numel() != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.item()

    def __float__(self) -> float:
        return float(self._scalar())

    def __int__(self) -> int:
        return int(self._scalar())

    def __complex__(self) -> complex:
        return complex(self._scalar())

    def __index__(self) -> int:
        if self.dtype.category > 1 or self.numel() != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    @overridable
    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("len() of a 0-d tensor")
        return self._shape[0]

    def __iter__(self) -> Any:
        if not self._shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))  # type: ignore[attr-defined]

    @overridable
    def __contains__(self, element: Any) -> bool:
        return bool((self == element).any().item())

    def __hash__(self) -> int:
        return id(self)

    def __format__(self, spec: str) -> str:
        if (not self._shape and not self.requires_grad) or (not self._shape and spec):
            return format(self.item(), spec)
        return object.__format__(self, spec)

    # -- autograd's metadata --------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are computed for this tensor."""
        return self._rg or (self._base is not None and self._tracked())

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not value and self.grad_fn is not None:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you "
                "want to use a computed variable in a subgraph that doesn't "
                "require differentiation use var_no_grad = var.detach()."
            )
        if value and self.dtype.category < 2:
            raise RuntimeError(
                "only Tensors of floating point and complex dtype can require gradients"
            )
        if value and self._inference and not modes.inference:
            raise RuntimeError(
                "Setting requires_grad=True on inference tensor outside "
                "InferenceMode is not allowed."
            )
        self._rg = bool(value)

    @overridable
    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad` in place; -> self."""
        self.requires_grad = requires_grad
        return self

    def _tracked(self) -> bool:
        """For views: whether the base has history since (Note [Views])."""
        base = self._base
        if base is not None and base._generation != self._seen_generation:
            self._seen_generation = base._generation
            if base._rg:
                rebuild_view_history(self)
        return self._rg

    @property
    def grad_fn(self) -> GradFn | None:
        """The tape entry that made this tensor; None for leaves."""
        if self._base is not None:
            self._tracked()
        return None if self._grad_fn is None else shown(self._grad_fn)

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor."""
        return self.grad_fn is None

    @property
    def output_nr(self) -> int:
        """Which of its operation's results this tensor is."""
        return self._output_nr

    @attribute
    def grad(self) -> Any:
        """The accumulated gradient of a leaf (or of a tensor with `retain_grad()`)."""
        return self._grad

    @grad.setter  # type: ignore[no-redef]
    def grad(self, value: Any) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"assigned grad expected to be a Tensor or None but got grad of "
                    f"type {type(value).__name__}"
                )
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if value._shape != self._shape:
                raise RuntimeError(
                    f"attempting to assign a gradient of size '{list(value._shape)}' to a "
                    f"tensor of size '{list(self._shape)}'. Please ensure that the gradient and "
                    "the tensor are the same size"
                )
            if value.dtype is not self.dtype:
                raise RuntimeError(
                    f"assigned grad has data of a different type: got "
                    f"{value.dtype}, expected {self.dtype}"
                )
        self._grad = value

    @property
    def retains_grad(self) -> bool:
        """Whether `.grad` is kept for this non-leaf."""
        return self._retains

    @overridable
    def retain_grad(self) -> None:
        """Keep `.grad` for a tensor that is not a leaf."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        fn = self.grad_fn
        if fn is None or self._retains:
            return
        self._retains = True
        fn.retained = {} if fn.retained is None else fn.retained
        fn.retained[self._output_nr] = weakref.ref(self)

    @overridable
    def register_hook(self, hook: Any) -> Handle:
        """Call `hook(grad) -> grad or None` whenever this tensor's gradient is computed.

        Raises:
            RuntimeError: the tensor does not require grad.
        """
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        fn = self.grad_fn
        if fn is None:
            self._hooks = {} if self._hooks is None else self._hooks
            return Handle(self._hooks, hook)
        if fn.metadata is None:
            fn.metadata = {}
        table = fn.metadata.setdefault(("tensor hooks", self._output_nr), {})
        return Handle(table, hook)

    def register_post_accumulate_grad_hook(self, hook: Any) -> Handle:
        """Call `hook(param)` after this leaf's `.grad` was accumulated."""
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if self.grad_fn is not None:
            raise RuntimeError(
                "post accumulate grad hooks cannot be registered on non-leaf tensors"
            )
        self._post_hooks = {} if self._post_hooks is None else self._post_hooks
        return Handle(self._post_hooks, hook)

    @overridable
    def detach(self) -> Tensor:
        """The same memory, cut off from the tape."""
        return alias(self)

    # it is an operator to a `__torch_dispatch__`
    detach.whole = True  # type: ignore[attr-defined]

    @overridable
    def detach_(self) -> Tensor:
        """Cut this tensor off from the tape in place."""
        if self._base is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self._grad_fn = None
        self._rg = False
        self._output_nr = 0
        return self

    @attribute
    def data(self) -> Tensor:
        """The same memory without history; writes through it are not seen by autograd."""
        found = alias(self)
        found._unseen = True
        return found

    @data.setter  # type: ignore[no-redef]
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        self._cell = value._cell
        self._map = value._map
        self._shape = value._shape
        self.dtype = value.dtype
        self._view_cache = None

    @property
    def _version(self) -> int:
        return self._cell.version

    def is_shared(self) -> bool:
        """Whether the memory is shared with other processes."""
        return getattr(self._cell.home, "shared", False) is True

    def _is_view(self) -> bool:
        return self._base is not None

    # -- copies ---------------------------------------------------------------------------------

    @overridable
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) in memo:
            return memo[id(self)]
        if self.grad_fn is not None:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
                "protocol at the moment.  If you were attempting to deepcopy a module, this may "
                "be because of a torch.nn.utils.weight_norm usage, see "
                "https://github.com/pytorch/pytorch/pull/103001"
            )
        was, modes.grad = modes.grad, False
        try:
            made = self.detach().clone()
        finally:
            modes.grad = was
        if type(self) is not Tensor:
            made = as_subclass(made, type(self))
        made._rg = self._rg
        if self._grad is not None:
            made._grad = self._grad.__deepcopy__(memo)
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.is_meta:
            return (_rebuild_meta, (type(self), self._shape, self.dtype, self._rg))
        array = self.detach()._array()
        if not array.flags.c_contiguous or not array.flags.owndata:
            array = array.copy()
        name = self.dtype.name
        raw = array if array.dtype.isbuiltin == 1 else array.view(f"u{array.itemsize}")
        return (_rebuild, (type(self), raw, name, self._rg))


def _rebuild(cls: type, raw: np.ndarray[Any, Any], name: str, requires_grad: bool) -> Any:
    from_raw = FROM_ARRAY[0]
    made = from_raw(raw, name)
    if cls is not Tensor:
        made = as_subclass(made, cls)
    made._rg = requires_grad
    return made


def _rebuild_meta(cls: type, shape: tuple[int, ...], dtype: DType, requires_grad: bool) -> Any:
    made = make(Node(record.INPUT, (), (), shape, dtype), Device("meta"))
    if cls is not Tensor:
        made = as_subclass(made, cls)
    made._rg = requires_grad
    return made


#: Makes a tensor from raw bits; set by ops/creation.py (pickles refer to this module).
FROM_ARRAY: list[Any] = [None]
#: `Tensor(...)` as in torch's old constructor; set by ops/creation.py.
LEGACY: list[Any] = [None]
#: The row that reads a storage's bits as another dtype; set by ops/conversion.py.
BITS: list[Any] = [None]
#: Rebuilds a view's history from its base; set by ops/movement.py.
REBUILD: list[Any] = [None]


def legacy_constructor(cls: type, *args: Any, **kwargs: Any) -> Any:
    """`Tensor(2, 3)`, `Tensor([1., 2.])`: torch's old constructor."""
    return LEGACY[0](cls, *args, **kwargs)


def rebuild_view_history(view: Tensor) -> None:
    """Give a view the history its base has now (Note [Views])."""
    REBUILD[0](view)


#: How Python reads one number from memory; the other dtypes are read by NumPy.
_SCALARS: dict[DType, Any] = {
    dtypes.bool: ctypes.c_bool,
    dtypes.uint8: ctypes.c_uint8,
    dtypes.int8: ctypes.c_int8,
    dtypes.int16: ctypes.c_int16,
    dtypes.int32: ctypes.c_int32,
    dtypes.int64: ctypes.c_int64,
    dtypes.float32: ctypes.c_float,
    dtypes.float64: ctypes.c_double,
}


_Bytes: Any = ctypes.c_char * (1 << 62)  # as many as an array takes of them


class _Memory(_Bytes):
    """Memory from an address on, which a NumPy array stands on.

    Its life is the length of exposure. It keeps the buffer that it is in.
    """

    __slots__ = ("buffer",)


def _as_array(buffer: Any, tensor: Tensor) -> np.ndarray[Any, Any]:
    """The array over a tensor's memory, in its buffer; the array's `base` is a `_Memory`."""
    dtype, how = tensor.dtype, tensor._map
    first = 0  # where the first element stands in the memory that is shown
    if how is None:
        memory = _Memory.from_address(buffer.ptr)
        strides = None
    else:
        item = dtype.itemsize
        strides = tuple([s * item for s in how[0]])
        if strides and min(strides) < 0 and 0 not in tensor._shape:
            first = sum((1 - n) * s for n, s in zip(tensor._shape, strides, strict=True) if s < 0)
        memory = _Memory.from_address(buffer.ptr + how[1] * item - first)
    memory.buffer = buffer
    return np.ndarray(tensor._shape, dtype.numpy, memory, first, strides)


def _item(t: Tensor) -> Any:
    """The only element, executed."""
    if t.is_meta:
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")
    kind = _SCALARS.get(t.dtype)
    if kind is not None:
        return kind.from_address(t._address()).value
    array = t._array().reshape(())
    return array.item() if array.dtype.isbuiltin == 1 else float(array)


def put_item(t: Any, value: float) -> float:
    """Give a tensor without dimensions a value: at once where its memory is there and nothing that
    is recorded will read it, else as `fill_` does; -> the value as its dtype has it."""
    kind = _SCALARS.get(t.dtype)
    if kind is None:
        t.fill_(value)
        return value
    number = kind(value if t.dtype.is_floating_point else int(value))
    cell = t._cell
    node = cell.node
    if (
        node.buffer is not None
        and t._map is None
        and record.thread.watcher is None
        and not record.thread.tracing
        and sys.getrefcount(node) == 3  # the cell's, this function's and the call's
    ):
        kind.from_address(t._address()).value = number.value
        cell.version += 1
    else:
        t.fill_(number.value)
    return float(number.value)


def _truth(t: Tensor) -> bool:
    """Whether the only element is not 0."""
    return bool(_item(t))


def _list(t: Tensor) -> Any:
    """The elements as nested lists, executed."""
    array = t._array()
    return (array if array.dtype.isbuiltin == 1 else array.astype(np.float32)).tolist()


def make(node: Node, device: Device = cpu) -> Tensor:
    """A tensor over a new pending cell."""
    t: Tensor = _new(Tensor)
    t._cell = record.new_cell(node, device)
    t._shape = node.shape
    t.dtype = node.dtype
    if modes.inference:
        t._inference = True
    return t


def over(
    cell: record.Cell,
    shape: tuple[int, ...],
    dtype: DType,
    map: tuple[tuple[int, ...], int] | None = None,
) -> Tensor:
    """A tensor showing an existing cell."""
    t: Tensor = _new(Tensor)
    t._cell = cell
    t._shape = shape
    t.dtype = dtype
    t._map = map
    return t


def from_buffer(buffer: Any, shape: tuple[int, ...], dtype: DType, device: Device = cpu) -> Tensor:
    """A tensor over memory that exists, row-major."""
    t = over(record.realised_cell(buffer, shape, dtype, device), shape, dtype)
    if modes.inference:
        t._inference = True
    return t


def alias(t: Tensor) -> Tensor:
    """Another handle on the same memory, without history."""
    made: Tensor = _new(Tensor)
    made._cell = t._cell
    made._shape = t._shape
    made.dtype = t.dtype
    made._map = t._map
    if t._inference:
        made._inference = True
    return made


def as_subclass(t: Tensor, cls: type) -> Any:
    """The same cell, view and history under another class."""
    made: Any = _new(cls)
    made.__dict__.update(t.__dict__)
    overriding.switch_on(cls)
    return made


def leaf_accumulator(t: Tensor) -> AccumulateGrad | None:
    """The accumulator of a leaf, if one exists."""
    acc = t._accumulator
    return acc() if acc is not None else None
