"""How tensors and torch's names stand in a checkpoint's pickle, both ways.

Note [Names in checkpoints]
Checkpoints name things by torch's global names: `torch._utils._rebuild_tensor_v2` makes a tensor of
a storage, `torch.FloatStorage` names an element type, a storage is a persistent id
`("storage", type, key, location, numel)`. Writing, our own objects are replaced by these names;
reading, the names are looked up in a fixed table of constructors that check what they are given.
Nothing is imported because a file says so.
"""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar

import numpy as np

import flambeau
from flambeau.device import device as Device
from flambeau.dtype import dtype as DType
from flambeau.size import Size
from flambeau.storage import TypedStorage, UntypedStorage, tensor_from_storage
from flambeau.unpickle import Global, check_hashable

#: torch's storage class for each element type.
STORAGE_TYPES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}
#: Element types without a storage class: saved over an untyped storage, with the dtype beside it.
UNTYPED = (
    "uint16",
    "uint32",
    "uint64",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
_MAX_NUMEL = 2**63 - 1


class TorchGlobal:
    """A global name of torch's, written into pickles in place of an object of ours."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __call__(self) -> None:
        """Callable because pickle asks that of what makes an object; never called."""


def torch_name(dtype: Any) -> str:
    """A dtype's name without a module: `"float32"`."""
    return str(dtype).rpartition(".")[2]


def storage_bytes(storage: UntypedStorage) -> np.ndarray:
    """A storage's bytes on the host as a contiguous uint8 array; aliases a CPU storage."""
    return storage.numpy()


def make_tensor(
    storage: UntypedStorage, dtype: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> Any:
    """A tensor that shows part of a storage."""
    return tensor_from_storage(storage, dtype, offset, size, stride)


# -- writing --------------------------------------------------------------------------------------

_REBUILD = TorchGlobal("torch._utils", "_rebuild_tensor_v2")
_REBUILD_UNTYPED = TorchGlobal("torch._utils", "_rebuild_tensor_v3")
_REBUILD_META = TorchGlobal("torch._utils", "_rebuild_meta_tensor_no_storage")
_REBUILD_PARAMETER = TorchGlobal("torch._utils", "_rebuild_parameter")
_REBUILD_PARAMETER_STATE = TorchGlobal("torch._utils", "_rebuild_parameter_with_state")
_REBUILD_TYPE = TorchGlobal("torch._tensor", "_rebuild_from_type_v2")
_TENSOR = TorchGlobal("torch", "Tensor")
_SIZE = TorchGlobal("torch", "Size")
_DEVICE = TorchGlobal("torch", "device")
_UNTYPED_STORAGE = TorchGlobal("torch.storage", "UntypedStorage")
_STORAGE = {name: TorchGlobal("torch", storage) for name, storage in STORAGE_TYPES.items()}
_DTYPE = {name: TorchGlobal("torch", name) for name in (*STORAGE_TYPES, *UNTYPED)}


# the one written in Python lets globals be written under other names
_PythonPickler: Any = pickle._Pickler


class _StorageUse:
    """A storage as one tensor sees it: with an element type."""

    __slots__ = ("dtype", "storage")

    def __init__(self, storage: UntypedStorage, dtype: str | None) -> None:
        self.storage = storage
        self.dtype = dtype


class _Data:
    """A parameter's plain tensor, without making one."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


class CheckpointPickler(_PythonPickler):
    """Pickles an object tree; tensors become torch's names and references to storages.

    Args:
        file: where the pickle goes.
        protocol: 2 to 5.

    After `dump`, `storages` holds every storage once, keyed as the pickle refers to it.
    """

    dispatch: ClassVar[dict[Any, Any]] = _PythonPickler.dispatch.copy()

    def __init__(self, file: Any, protocol: int) -> None:
        super().__init__(file, protocol)
        self.storages: dict[str, UntypedStorage] = {}
        self._keys: dict[Any, str] = {}
        self._types: dict[Any, str] = {}
        self._alive: list[Any] = []
        self._key_type = torch_name(flambeau.uint8)
        # the same string objects each time, so that the pickle refers to them by number
        self._locations: dict[str, str] = {}

    def persistent_id(self, obj: Any) -> Any:
        """The reference to a storage; None for everything else."""
        if type(obj) is _StorageUse:
            use = obj
        elif isinstance(obj, UntypedStorage):
            use = _StorageUse(obj, None)
        elif isinstance(obj, TypedStorage):
            use = _StorageUse(obj.untyped(), torch_name(obj.dtype))
        else:
            return None
        storage, element = use.storage, use.dtype or self._key_type
        data = storage_bytes(storage)
        identity = data.ctypes.data if data.size else ("empty", id(storage))
        self._alive.append((storage, data))
        if data.size and self._types.setdefault(identity, element) != element:
            raise RuntimeError(
                "Cannot save multiple tensors or storages that view the same data "
                "as different types"
            )
        key = self._keys.setdefault(identity, str(len(self._keys)))
        self.storages[key] = storage
        where = str(getattr(storage, "device", "cpu"))
        location = self._locations.setdefault(where, where)
        kind = _STORAGE[element] if use.dtype is not None else _UNTYPED_STORAGE
        size = data.size // getattr(flambeau, element).itemsize
        return ("storage", kind, key, location, size)

    def reducer_override(self, obj: Any) -> Any:
        """Tensors of every class, and torch's small value types."""
        if isinstance(obj, flambeau.Tensor):
            return self._reduce_tensor(obj)
        if isinstance(obj, Size):
            return _SIZE, (tuple(obj),)
        if isinstance(obj, Device):
            return _DEVICE, (obj.type,) if obj.index is None else (obj.type, obj.index)
        return NotImplemented

    def _reduce_tensor(self, tensor: Any) -> Any:
        state = user_attributes(tensor)
        if isinstance(tensor, flambeau.nn.Parameter):
            hooks: OrderedDict[Any, Any] = OrderedDict()
            state.pop("_is_param", None)
            if state:
                return _REBUILD_PARAMETER_STATE, (_Data(tensor), tensor.requires_grad, hooks, state)
            return _REBUILD_PARAMETER, (_Data(tensor), tensor.requires_grad, hooks)
        make, args = self._reduce_plain(tensor, tensor.requires_grad)
        kind: Any = type(tensor)
        if "_is_buffer" in state or kind is flambeau.Tensor:
            kind = _TENSOR
        if kind is _TENSOR and not state:
            return make, args
        return _REBUILD_TYPE, (make, kind, args, state)

    def _reduce_plain(self, tensor: Any, requires_grad: bool) -> Any:
        name = torch_name(tensor.dtype)
        # tuples of their own, as torch makes them: a shared one would be written as a reference
        size, stride = (*tensor.size(),), (*tensor.stride(),)
        if tensor.device.type == "meta":
            return _REBUILD_META, (_DTYPE[name], size, stride, requires_grad)
        use = _StorageUse(tensor.untyped_storage(), name if name in STORAGE_TYPES else None)
        args: tuple[Any, ...] = (
            use,
            tensor.storage_offset(),
            size,
            stride,
            requires_grad,
            OrderedDict(),
        )
        if use.dtype is None:
            return _REBUILD_UNTYPED, (*args, _DTYPE[name])
        return _REBUILD, args

    def _save_data(self, obj: _Data) -> None:
        self.save_reduce(*self._reduce_plain(obj.tensor, False), obj=obj)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Write a global's name: torch's where torch has the thing, else the object's own."""
        found = obj if type(obj) is TorchGlobal else _torch_global(obj)
        if found is None:
            super().save_global(obj, name)
            return
        if self.proto >= 4:
            self.save(found.module)
            self.save(found.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{found.module}\n{found.name}\n".encode())
        self.memoize(obj)

    def _save_class(self, obj: Any) -> None:
        if _torch_global(obj) is not None:
            self.save_global(obj)
        else:
            super().save_type(obj)

    dispatch[TorchGlobal] = save_global
    dispatch[FunctionType] = save_global
    dispatch[type] = _save_class
    dispatch[_Data] = _save_data


def _torch_global(obj: Any) -> TorchGlobal | None:
    if obj is flambeau.Tensor:
        return _TENSOR
    if obj is Size:
        return _SIZE
    if obj is Device:
        return _DEVICE
    if isinstance(obj, DType):
        return _DTYPE.get(torch_name(obj))
    return None


def user_attributes(tensor: Any) -> dict[str, Any]:
    """The attributes a user or a subclass gave a tensor, without what makes it a tensor."""
    return {k: v for k, v in getattr(tensor, "__dict__", {}).items() if not _is_internal(k)}


def _is_internal(attribute: str) -> bool:
    """Whether an attribute of tensors is the library's own."""
    declared = vars(flambeau.Tensor).get("__annotations__", {})
    return attribute in declared or hasattr(flambeau.Tensor, attribute)


# -- reading --------------------------------------------------------------------------------------


class StorageType:
    """The element type that a storage in a file has; `dtype` is None where we lack it."""

    def __init__(self, name: str) -> None:
        self.name = name
        found = getattr(flambeau, name, None)
        self.dtype = found if isinstance(found, DType) else None


class Names:
    """The globals a checkpoint may name, and what they stand for here."""

    def __init__(self) -> None:
        self._makers: list[Callable[..., Any]] = []
        self._table = self._build_table()

    def get(self, module: str, name: str) -> Global | None:
        """What a global stands for; None where it is not in the table."""
        return self._table.get((module, name))

    def _build_table(self) -> dict[tuple[str, str], Global]:
        table = {
            ("collections", "OrderedDict"): Global(OrderedDict, _ordered_dict),
            ("collections", "Counter"): Global(Counter, _counter),
            ("_codecs", "encode"): Global(_encode, _encode),
            ("builtins", "bytes"): Global(bytes, _no_bytes),
            ("builtins", "bytearray"): Global(bytearray, _bytearray),
            ("builtins", "set"): Global(set, _set),
            ("builtins", "frozenset"): Global(frozenset, lambda *a: frozenset(_set(*a))),
            ("builtins", "complex"): Global(complex, _complex),
            ("torch", "Size"): Global(Size, _size),
            ("torch", "device"): Global(Device, _device),
            ("torch", "Tensor"): Global(flambeau.Tensor),
            ("torch.nn.parameter", "Parameter"): Global(flambeau.nn.Parameter, _parameter),
            ("torch.nn.parameter", "Buffer"): Global(flambeau.nn.Buffer),
            ("torch.storage", "UntypedStorage"): Global(UntypedStorage),
            ("torch", "UntypedStorage"): Global(UntypedStorage),
        }
        for name, storage in STORAGE_TYPES.items():
            table["torch", storage] = Global(StorageType(name))
        for name in (*STORAGE_TYPES, *UNTYPED):
            found = getattr(flambeau, name, None)
            if isinstance(found, DType):
                table["torch", name] = Global(found)
        for name, make in (
            ("_rebuild_tensor", self._tensor),
            ("_rebuild_tensor_v2", self._tensor),
            ("_rebuild_tensor_v3", self._tensor_of_type),
            ("_rebuild_meta_tensor_no_storage", _meta_tensor),
            ("_rebuild_parameter", _rebuilt_parameter),
            ("_rebuild_parameter_with_state", _rebuilt_parameter),
        ):
            table["torch._utils", name] = Global(make, make)
            self._makers.append(make)
        from_type = self._from_type
        table["torch._tensor", "_rebuild_from_type_v2"] = Global(from_type, from_type)
        return table

    def _tensor(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        requires_grad: Any = False,
        hooks: Any = None,
        metadata: Any = None,
    ) -> Any:
        if not isinstance(storage, TypedStorage):
            raise pickle.UnpicklingError(f"a tensor needs a storage, but got {type(storage)}")
        return self._tensor_of_type(
            storage.untyped(), offset, size, stride, requires_grad, hooks, storage.dtype, metadata
        )

    def _tensor_of_type(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        requires_grad: Any,
        hooks: Any,
        dtype: Any,
        metadata: Any = None,
    ) -> Any:
        if not isinstance(storage, UntypedStorage):
            raise pickle.UnpicklingError(f"a tensor needs a storage, but got {type(storage)}")
        if not isinstance(dtype, DType):
            raise pickle.UnpicklingError(f"a tensor needs a dtype, but got {dtype!r}")
        if metadata:
            raise pickle.UnpicklingError(
                f"lazily conjugated or negated tensors are not supported: {metadata!r}"
            )
        size, stride = _sizes(size), _sizes(stride)
        check_view(storage.nbytes() // dtype.itemsize, offset, size, stride)
        made = make_tensor(storage, dtype, offset, size, stride)
        if requires_grad:
            made.requires_grad_(True)
        return made

    def _from_type(self, make: Any, kind: Any, args: Any, state: Any) -> Any:
        if not any(make is maker for maker in self._makers) or type(args) is not tuple:
            raise pickle.UnpicklingError(f"Trying to call reduce for unrecognized function {make}")
        made = make(*args)
        if kind is not flambeau.Tensor and kind is not type(made):
            if not (isinstance(kind, type) and issubclass(kind, flambeau.Tensor)):
                raise pickle.UnpicklingError(f"{kind!r} is not a tensor class")
            made = made.as_subclass(kind)
        _set_attributes(made, state)
        return made


def check_view(numel: int, offset: Any, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
    """Refuse a view that would reach outside its storage.

    Args:
        numel: elements in the storage.
        offset, size, stride: the view, in elements.

    Raises:
        UnpicklingError: it is not a view into `numel` elements.
    """
    where = f"offset {offset}, size {size}, stride {stride} of a storage of {numel} elements"
    if type(offset) is not int or offset < 0 or len(size) != len(stride):
        raise pickle.UnpicklingError(f"malformed tensor: {where}")
    count = 1
    for n in size:
        count *= n
    if count > _MAX_NUMEL:
        raise pickle.UnpicklingError(f"tensor too large: {where}")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if count else offset
    if last + (1 if count else 0) > numel:
        raise pickle.UnpicklingError(f"tensor reaches outside its storage: {where}")


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or not all(
        type(v) is int and 0 <= v <= _MAX_NUMEL for v in values
    ):
        raise pickle.UnpicklingError(f"sizes and strides must be non-negative ints, got {values!r}")
    return tuple(values)


def _set_attributes(tensor: Any, state: Any) -> None:
    if isinstance(state, tuple) and len(state) == 2:
        state = {**(state[0] or {}), **(state[1] or {})}
    if type(state) is not dict or not all(type(k) is str for k in state):
        raise pickle.UnpicklingError(
            f"a tensor's state must be a dict of attributes, got {state!r}"
        )
    for key, value in state.items():
        if _is_internal(key) or key.startswith("__"):
            raise pickle.UnpicklingError(f"a tensor's attribute {key!r} cannot be set by a file")
        setattr(tensor, key, value)


def _parameter(data: Any = None, requires_grad: Any = True) -> Any:
    if not isinstance(data, flambeau.Tensor):
        raise pickle.UnpicklingError(f"a Parameter needs a tensor, but got {type(data)}")
    return flambeau.nn.Parameter(data, bool(requires_grad))


def _rebuilt_parameter(data: Any, requires_grad: Any, hooks: Any, state: Any = None) -> Any:
    made = _parameter(data, requires_grad)
    if state:
        _set_attributes(made, state)
    return made


def _meta_tensor(dtype: Any, size: Any, stride: Any, requires_grad: Any) -> Any:
    if not isinstance(dtype, DType):
        raise pickle.UnpicklingError(f"a tensor needs a dtype, but got {dtype!r}")
    size, stride = _sizes(size), _sizes(stride)
    span = 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if 0 not in size else 0
    made = flambeau.empty(span, dtype=dtype, device="meta").as_strided(size, stride).detach()
    return made.requires_grad_(True) if requires_grad else made


def _ordered_dict(items: Any = ()) -> Any:
    if not isinstance(items, (list, tuple)) or not all(
        isinstance(p, (list, tuple)) and len(p) == 2 for p in items
    ):
        raise pickle.UnpicklingError("OrderedDict needs a list of pairs")
    return OrderedDict((check_hashable(k), v) for k, v in items)


def _counter(items: Any = None) -> Any:
    if items is not None and type(items) is not dict:
        raise pickle.UnpicklingError("Counter needs a dict")
    return Counter(items or {})


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    # bytes in pickles of protocol 2; other codecs decompress or do worse
    if type(text) is not str or encoding not in ("latin1", "utf-8", "ascii"):
        raise pickle.UnpicklingError(f"bytes cannot be made of {type(text)} by {encoding!r}")
    return text.encode(encoding)


def _no_bytes() -> bytes:
    # how protocol 2 writes b""; with an argument, bytes(n) would allocate n bytes
    return b""


def _bytearray(data: Any = b"", encoding: Any = None) -> bytearray:
    if type(data) is str:
        return bytearray(_encode(data, encoding))
    if type(data) is not bytes:  # bytearray(n) would allocate n bytes
        raise pickle.UnpicklingError(f"bytearray needs bytes, but got {type(data)}")
    return bytearray(data)


def _set(items: Any = ()) -> set[Any]:
    if type(items) not in (list, tuple):
        raise pickle.UnpicklingError(f"set needs a list, but got {type(items)}")
    return {check_hashable(item) for item in items}


def _complex(real: Any = 0.0, imag: Any = 0.0) -> complex:
    if type(real) not in (int, float) or type(imag) not in (int, float):
        raise pickle.UnpicklingError("complex needs two numbers")
    return complex(real, imag)


def _size(sizes: Any = ()) -> Any:
    return Size(_sizes(sizes))


def _device(kind: Any, index: Any = None) -> Any:
    if type(kind) is not str or not (index is None or type(index) is int):
        raise pickle.UnpicklingError(f"malformed device {kind!r}, {index!r}")
    return Device(kind) if index is None else Device(kind, index)


def swap_bytes(data: np.ndarray, itemsize: int) -> np.ndarray:
    """A copy of the bytes with those of each number reversed."""
    return data[: data.size - data.size % itemsize].reshape(-1, itemsize)[:, ::-1].reshape(-1)
