# Written by tools/generate.py from the table of operations; do not edit.

import builtins as _builtins
from typing import Any

import numpy as np

from flambeau import record as _record
from flambeau.device import device as _Device
from flambeau.dtype import dtype as _DType
from flambeau.ir.graph import Node as _Node
from flambeau.layout import layout as _Layout
from flambeau.ops.generator import Generator as _Generator
from flambeau.size import Size as _Size
from flambeau.storage import TypedStorage as _TypedStorage
from flambeau.storage import UntypedStorage as _UntypedStorage
from flambeau.tape import GradFn as _GradFn
from flambeau.tape import Handle as _Handle

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

_new: Any
class _TensorMeta(type):
    """`isinstance(x, Parameter)` style checks may be customised by subclasses."""
    ...

class Tensor(metaclass=_TensorMeta):
    """A multi-dimensional array that records what is done with it."""
    _cell: _record.Cell
    _shape: _builtins.tuple[_builtins.int, ...]
    dtype: _DType
    _map: _builtins.tuple[_builtins.tuple[_builtins.int, ...], _builtins.int] | None
    _rg: _builtins.bool
    _grad_fn: _GradFn | None
    _grad: Any
    _output_nr: _builtins.int
    _base: Any
    _generation: _builtins.int
    _seen_generation: _builtins.int
    _accumulator: Any
    _hooks: Any
    _retains: _builtins.bool
    _inference: _builtins.bool
    _view_cache: Any
    _post_hooks: Any
    _multi_view: _builtins.bool
    _unseen: _builtins.bool
    name: Any
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        ...
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ...
    _plain: _builtins.bool
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: _builtins.tuple[Any, ...]=..., kwargs: Any=None) -> Any:
        ...
    @property
    def shape(self) -> _Size:
        ...
    @property
    def ndim(self) -> _builtins.int:
        ...
    @property
    def device(self) -> _Device:
        ...
    @property
    def layout(self) -> _Layout:
        ...
    is_sparse: _builtins.bool
    is_quantized: _builtins.bool
    is_nested: _builtins.bool
    is_mkldnn: _builtins.bool
    is_mps: _builtins.bool
    is_xpu: _builtins.bool
    is_vulkan: _builtins.bool
    @property
    def is_cuda(self) -> _builtins.bool:
        ...
    @property
    def is_cpu(self) -> _builtins.bool:
        ...
    @property
    def is_meta(self) -> _builtins.bool:
        ...
    @property
    def itemsize(self) -> _builtins.int:
        ...
    @property
    def nbytes(self) -> _builtins.int:
        ...
    def size(self, dim: _builtins.int | None=None) -> Any:
        ...
    def dim(self) -> _builtins.int:
        ...
    ndimension = dim
    def numel(self) -> _builtins.int:
        ...
    nelement = numel
    def element_size(self) -> _builtins.int:
        ...
    def get_device(self) -> _builtins.int:
        ...
    def stride(self, dim: _builtins.int | None=None) -> Any:
        ...
    @property
    def _strides(self) -> _builtins.tuple[_builtins.int, ...]:
        ...
    def storage_offset(self) -> _builtins.int:
        ...
    def is_contiguous(self, memory_format: Any=None) -> _builtins.bool:
        ...
    def is_floating_point(self) -> _builtins.bool:
        ...
    def is_complex(self) -> _builtins.bool:
        ...
    def is_signed(self) -> _builtins.bool:
        ...
    def is_inference(self) -> _builtins.bool:
        ...
    def is_same_size(self, other: Tensor) -> _builtins.bool:
        ...
    @property
    def _storage_numel(self) -> _builtins.int:
        ...
    def _node(self) -> _Node:
        ...
    def _address(self) -> _builtins.int:
        ...
    def data_ptr(self) -> _builtins.int:
        ...
    def _array(self) -> np.ndarray[Any, Any]:
        ...
    def numpy(self, *, force: _builtins.bool=False) -> np.ndarray[Any, Any]:
        ...
    def __array__(self, dtype: Any=None, copy: _builtins.bool | None=None) -> np.ndarray[Any, Any]:
        ...
    __array_priority__: _builtins.int
    def __array_namespace__(self, *, api_version: _builtins.str | None=None) -> Any:
        ...
    def to_device(self, device: Any, /, *, stream: Any=None) -> Tensor:
        ...
    def item(self) -> Any:
        ...
    def tolist(self) -> Any:
        ...
    def __bool__(self) -> _builtins.bool:
        ...
    def _scalar(self) -> Any:
        ...
    def __float__(self) -> _builtins.float:
        ...
    def __int__(self) -> _builtins.int:
        ...
    def __complex__(self) -> _builtins.complex:
        ...
    def __index__(self) -> _builtins.int:
        ...
    def __len__(self) -> _builtins.int:
        ...
    def __iter__(self) -> Any:
        ...
    def __contains__(self, element: Any) -> _builtins.bool:
        ...
    def __hash__(self) -> _builtins.int:
        ...
    def __format__(self, spec: _builtins.str) -> _builtins.str:
        ...
    @property
    def requires_grad(self) -> _builtins.bool:
        ...
    @requires_grad.setter
    def requires_grad(self, value: _builtins.bool) -> None:
        ...
    def requires_grad_(self, requires_grad: _builtins.bool=True) -> Tensor:
        ...
    def _tracked(self) -> _builtins.bool:
        ...
    @property
    def grad_fn(self) -> _GradFn | None:
        ...
    @property
    def is_leaf(self) -> _builtins.bool:
        ...
    @property
    def output_nr(self) -> _builtins.int:
        ...
    @property
    def grad(self) -> Any:
        ...
    @grad.setter
    def grad(self, value: Any) -> None:
        ...
    @property
    def retains_grad(self) -> _builtins.bool:
        ...
    def retain_grad(self) -> None:
        ...
    def register_hook(self, hook: Any) -> _Handle:
        ...
    def register_post_accumulate_grad_hook(self, hook: Any) -> _Handle:
        ...
    def detach(self) -> Tensor:
        ...
    def detach_(self) -> Tensor:
        ...
    @property
    def data(self) -> Tensor:
        ...
    @data.setter
    def data(self, value: Tensor) -> None:
        ...
    @property
    def _version(self) -> _builtins.int:
        ...
    def is_shared(self) -> _builtins.bool:
        ...
    def _is_view(self) -> _builtins.bool:
        ...
    def __deepcopy__(self, memo: _builtins.dict[_builtins.int, Any]) -> Any:
        ...
    def __reduce_ex__(self, protocol: Any) -> Any:
        ...
    @property
    def H(self) -> Tensor: ...
    @property
    def T(self) -> Tensor: ...
    def __abs__(self) -> Tensor: ...
    def __add__(self, other: Any) -> Tensor: ...
    def __and__(self, other: Any) -> Tensor: ...
    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: _builtins.bool = False) -> Tensor:
        """What a NumPy function of tensors returns: its array as a tensor."""
    def __dlpack__(self, *, stream: Any = None, max_version: _builtins.tuple[_builtins.int, _builtins.int] | None = None, dl_device: _builtins.tuple[_builtins.int, _builtins.int] | None = None, copy: _builtins.bool | None = None) -> Any:
        """The tensor's memory as a DLPack capsule; executes what is pending."""
    def __dlpack_device__(self) -> _builtins.tuple[_builtins.int, _builtins.int]:
        """DLPack's (device type, index)."""
    def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
    def __floordiv__(self, other: Any) -> Tensor: ...
    def __ge__(self, other: Any) -> Tensor: ...
    def __getitem__(self, key: Any) -> Tensor:
        """`t[key]` with ints, slices, None, Ellipsis, bool masks and integer tensors, as in torch."""
    def __gt__(self, other: Any) -> Tensor: ...
    def __iadd__(self, other: Any) -> Tensor: ...
    def __iand__(self, other: Any) -> Tensor: ...
    def __ifloordiv__(self, other: Any) -> Tensor: ...
    def __ilshift__(self, other: Any) -> Tensor: ...
    def __imatmul__(self, other: Any) -> Tensor: ...
    def __imod__(self, other: Any) -> Tensor: ...
    def __imul__(self, other: Any) -> Tensor: ...
    def __invert__(self) -> Tensor: ...
    def __ior__(self, other: Any) -> Tensor: ...
    def __ipow__(self, other: Any) -> Tensor: ...
    def __irshift__(self, other: Any) -> Tensor: ...
    def __isub__(self, other: Any) -> Tensor: ...
    def __itruediv__(self, other: Any) -> Tensor: ...
    def __ixor__(self, other: Any) -> Tensor: ...
    def __le__(self, other: Any) -> Tensor: ...
    def __lshift__(self, other: Any) -> Tensor: ...
    def __lt__(self, other: Any) -> Tensor: ...
    def __matmul__(self, other: Any) -> Tensor: ...
    def __mod__(self, other: Any) -> Tensor: ...
    def __mul__(self, other: Any) -> Tensor: ...
    def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
    def __neg__(self) -> Tensor: ...
    def __or__(self, other: Any) -> Tensor: ...
    def __pos__(self) -> Tensor: ...
    def __pow__(self, other: Any) -> Tensor: ...
    def __radd__(self, other: Any) -> Tensor: ...
    def __rand__(self, other: Any) -> Tensor: ...
    def __rdiv__(self, other: Any) -> Tensor: ...
    def __repr__(self, *, tensor_contents: _builtins.str | None = None) -> _builtins.str:
        """A tensor as `repr` and `print` show it; executes what is pending."""
    def __reversed__(self) -> Tensor:
        """The tensor with its first dimension (all of a 0-d one) backwards."""
    def __rfloordiv__(self, other: Any) -> Tensor: ...
    def __rlshift__(self, other: Any) -> Tensor: ...
    def __rmatmul__(self, other: Any) -> Tensor: ...
    def __rmod__(self, other: Any) -> Tensor: ...
    def __rmul__(self, other: Any) -> Tensor: ...
    def __ror__(self, other: Any) -> Tensor: ...
    def __rpow__(self, other: Any) -> Tensor: ...
    def __rrshift__(self, other: Any) -> Tensor: ...
    def __rshift__(self, other: Any) -> Tensor: ...
    def __rsub__(self, other: Any) -> Tensor: ...
    def __rtruediv__(self, other: Any) -> Tensor: ...
    def __rxor__(self, other: Any) -> Tensor: ...
    def __setitem__(self, key: Any, value: Any) -> None:
        """`t[key] = value`: writes through views; integer tensors scatter (the last write wins)."""
    def __str__(self) -> _builtins.str: ...
    def __sub__(self, other: Any) -> Tensor: ...
    def __truediv__(self, other: Any) -> Tensor: ...
    def __xor__(self, other: Any) -> Tensor: ...
    def _is_zerotensor(self, *args: Any) -> _builtins.bool:
        """False."""
    @staticmethod
    def _make_subclass(cls: Any, data: Tensor, require_grad: _builtins.bool = False) -> Any: ...
    @staticmethod
    def _make_wrapper_subclass(cls: Any, size: Any, strides: Any = None, storage_offset: _builtins.int | None = None, memory_format: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, pin_memory: _builtins.bool = False, requires_grad: _builtins.bool = False, **options: Any) -> Any:
        """A tensor of a class with `__torch_dispatch__` that tells of a shape and a dtype and has no"""
    def _typed_storage(self) -> _TypedStorage:
        """The memory this tensor shows, counted in elements."""
    def abs(self) -> Tensor:
        """Absolute value."""
    def abs_(self) -> Tensor:
        """In-place form of `abs`."""
    def absolute(self) -> Tensor:
        """Absolute value."""
    def absolute_(self) -> Tensor:
        """In-place form of `absolute`."""
    def acos(self) -> Tensor:
        """Inverse cosine."""
    def acos_(self) -> Tensor:
        """In-place form of `acos`."""
    def acosh(self) -> Tensor:
        """Inverse hyperbolic cosine."""
    def acosh_(self) -> Tensor:
        """In-place form of `acosh`."""
    def add(self, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
        """input + alpha * other."""
    def add_(self, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
        """In-place form of `add`."""
    def addbmm(self, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """beta * input + alpha * the sum over the batch of batch1 @ batch2."""
    def addbmm_(self, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """In-place form of `addbmm`."""
    def addcdiv(self, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
        """input + value * tensor1 / tensor2."""
    def addcdiv_(self, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
        """In-place form of `addcdiv`."""
    def addcmul(self, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
        """input + value * tensor1 * tensor2."""
    def addcmul_(self, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
        """In-place form of `addcmul`."""
    def addmm(self, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """beta * input + alpha * (mat1 @ mat2)."""
    def addmm_(self, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """In-place form of `addmm`."""
    def addmv(self, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """beta * input + alpha * (mat @ vec)."""
    def addmv_(self, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """In-place form of `addmv`."""
    def addr(self, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """beta * input + alpha * outer(vec1, vec2)."""
    def addr_(self, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """In-place form of `addr`."""
    def adjoint(self) -> Tensor:
        """Matrices transposed and conjugated."""
    def all(self, dim: Any = None, keepdim: _builtins.bool = False) -> Tensor:
        """Whether every element is nonzero, of all or over dimensions."""
    def allclose(self, other: Tensor, rtol: _builtins.float = ..., atol: _builtins.float = ..., equal_nan: _builtins.bool = False) -> _builtins.bool:
        """Whether `isclose` holds everywhere; executes what is pending."""
    def amax(self, dim: Any = ..., keepdim: _builtins.bool = False) -> Tensor:
        """Largest elements over dimensions; the gradient is shared equally on ties."""
    def amin(self, dim: Any = ..., keepdim: _builtins.bool = False) -> Tensor:
        """Smallest elements over dimensions; the gradient is shared equally on ties."""
    def aminmax(self, *, dim: _builtins.int | None = None, keepdim: _builtins.bool = False) -> Any:
        """(smallest, largest) elements, of all or over one dimension."""
    def angle(self) -> Tensor:
        """The angle of each number; for real ones 0, or pi below 0."""
    def any(self, dim: Any = None, keepdim: _builtins.bool = False) -> Tensor:
        """Whether any element is nonzero, of all or over dimensions."""
    def apply_(self, callable: Any) -> Tensor:
        """Replace each element by what a Python function gives for it. Slow, and without gradient."""
    def arccos(self) -> Tensor:
        """Inverse cosine."""
    def arccos_(self) -> Tensor:
        """In-place form of `arccos`."""
    def arccosh(self) -> Tensor:
        """Inverse hyperbolic cosine."""
    def arccosh_(self) -> Tensor:
        """In-place form of `arccosh`."""
    def arcsin(self) -> Tensor:
        """Inverse sine."""
    def arcsin_(self) -> Tensor:
        """In-place form of `arcsin`."""
    def arcsinh(self) -> Tensor:
        """Inverse hyperbolic sine."""
    def arcsinh_(self) -> Tensor:
        """In-place form of `arcsinh`."""
    def arctan(self) -> Tensor:
        """Inverse tangent."""
    def arctan2(self, other: Tensor | _builtins.float) -> Tensor:
        """Angle of the point (other, input), in (-pi, pi]."""
    def arctan2_(self, other: Tensor) -> Tensor:
        """In-place form of `arctan2`."""
    def arctan_(self) -> Tensor:
        """In-place form of `arctan`."""
    def arctanh(self) -> Tensor:
        """Inverse hyperbolic tangent."""
    def arctanh_(self) -> Tensor:
        """In-place form of `arctanh`."""
    def argmax(self, dim: _builtins.int | None = None, keepdim: _builtins.bool = False) -> Tensor:
        """Index of the largest element (of the flattened tensor when dim is None), int64."""
    def argmin(self, dim: _builtins.int | None = None, keepdim: _builtins.bool = False) -> Tensor:
        """Index of the smallest element (of the flattened tensor when dim is None), int64."""
    def argsort(self, dim: _builtins.int = -1, descending: _builtins.bool = False, stable: _builtins.bool = False) -> Tensor:
        """Indices that sort a dimension."""
    def argwhere(self) -> Tensor:
        """(n, ndim) indices of the nonzero elements, row-major."""
    def as_strided(self, size: Any, stride: Any, storage_offset: _builtins.int | None = None) -> Tensor:
        """The storage of `input` read with the given size, strides and offset (in elements)."""
    def as_strided_(self, size: Any, stride: Any, storage_offset: _builtins.int | None = None) -> Any:
        """In-place form of `as_strided`: the same memory, shown otherwise."""
    def as_strided_scatter(self, src: Tensor, size: Any, stride: Any, storage_offset: _builtins.int | None = None) -> Tensor:
        """A copy of input with src where `as_strided` of these arguments reads."""
    def as_subclass(self, cls: Any) -> Any: ...
    def asin(self) -> Tensor:
        """Inverse sine."""
    def asin_(self) -> Tensor:
        """In-place form of `asin`."""
    def asinh(self) -> Tensor:
        """Inverse hyperbolic sine."""
    def asinh_(self) -> Tensor:
        """In-place form of `asinh`."""
    def atan(self) -> Tensor:
        """Inverse tangent."""
    def atan2(self, other: Tensor | _builtins.float) -> Tensor:
        """Angle of the point (other, input), in (-pi, pi]."""
    def atan2_(self, other: Tensor) -> Tensor:
        """In-place form of `atan2`."""
    def atan_(self) -> Tensor:
        """In-place form of `atan`."""
    def atanh(self) -> Tensor:
        """Inverse hyperbolic tangent."""
    def atanh_(self) -> Tensor:
        """In-place form of `atanh`."""
    def backward(self, gradient: Any = None, retain_graph: _builtins.bool | None = None, create_graph: _builtins.bool = False, inputs: Any = None) -> None:
        """Accumulate the gradient of this tensor into the leaves' `.grad`."""
    def baddbmm(self, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """beta * input + alpha * bmm(batch1, batch2)."""
    def baddbmm_(self, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """In-place form of `baddbmm`."""
    def bernoulli(self, p: Any = None, *, generator: _Generator | None = None, out: Any = None) -> Tensor:
        """1 with the probability that each element of input gives (or with p), else 0."""
    def bernoulli_(self, p: Any = ..., *, generator: _Generator | None = None) -> Tensor:
        """Fill with 1 with probability p (a number or a tensor of them), else 0; -> self."""
    def bfloat16(self, memory_format: Any = None) -> Tensor:
        """The tensor as bfloat16."""
    def bincount(self, weights: Tensor | None = None, minlength: _builtins.int = 0) -> Tensor:
        """How often each integer occurs in a vector of non-negative integers (or its weights' sum)."""
    def bitwise_and(self, other: Tensor | _builtins.float) -> Tensor:
        """Bits set in both; logical and for bools."""
    def bitwise_and_(self, other: Tensor) -> Tensor:
        """In-place form of `bitwise_and`."""
    def bitwise_left_shift(self, other: Tensor | _builtins.float) -> Tensor:
        """input * 2 ** other on integers."""
    def bitwise_left_shift_(self, other: Tensor) -> Tensor:
        """In-place form of `bitwise_left_shift`."""
    def bitwise_not(self) -> Tensor:
        """Every bit inverted; logical not for bools."""
    def bitwise_not_(self) -> Tensor:
        """In-place form of `bitwise_not`."""
    def bitwise_or(self, other: Tensor | _builtins.float) -> Tensor:
        """Bits set in either; logical or for bools."""
    def bitwise_or_(self, other: Tensor) -> Tensor:
        """In-place form of `bitwise_or`."""
    def bitwise_right_shift(self, other: Tensor | _builtins.float) -> Tensor:
        """input shifted right by other bits, keeping the sign."""
    def bitwise_right_shift_(self, other: Tensor) -> Tensor:
        """In-place form of `bitwise_right_shift`."""
    def bitwise_xor(self, other: Tensor | _builtins.float) -> Tensor:
        """Bits set in exactly one."""
    def bitwise_xor_(self, other: Tensor) -> Tensor:
        """In-place form of `bitwise_xor`."""
    def bmm(self, mat2: Tensor) -> Tensor:
        """Products of two batches of matrices (B, N, M) @ (B, M, P)."""
    def bool(self, memory_format: Any = None) -> Tensor:
        """The tensor as bool."""
    def broadcast_to(self, size: Any) -> Tensor:
        """`expand` to a shape."""
    def bucketize(self, boundaries: Tensor, *, out_int32: _builtins.bool = False, right: _builtins.bool = False) -> Tensor:
        """The bucket of each value between ascending boundaries."""
    def byte(self, memory_format: Any = None) -> Tensor:
        """The tensor as uint8."""
    def cauchy_(self, median: _builtins.float = 0, sigma: _builtins.float = 1, *, generator: _Generator | None = None) -> Tensor:
        """Fill with Cauchy values of the given median and scale; -> self."""
    def cdouble(self, memory_format: Any = None) -> Tensor:
        """The tensor as complex128."""
    def ceil(self) -> Tensor:
        """The smallest integer not below input."""
    def ceil_(self) -> Tensor:
        """In-place form of `ceil`."""
    def cfloat(self, memory_format: Any = None) -> Tensor:
        """The tensor as complex64."""
    def char(self, memory_format: Any = None) -> Tensor:
        """The tensor as int8."""
    def cholesky(self, upper: _builtins.bool = False) -> Tensor:
        """L with input = L L^H; `upper`: L^H. torch's older name of `linalg.cholesky`."""
    def cholesky_inverse(self, upper: _builtins.bool = False) -> Tensor:
        """The inverse of A, from A's Cholesky factor."""
    def cholesky_solve(self, L: Tensor, upper: _builtins.bool = False) -> Tensor:
        """X with A X = input, from A's Cholesky factor."""
    def chunk(self, chunks: _builtins.int, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
        """At most `chunks` views of equal size (the last may be smaller)."""
    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """The nearest value in [min, max]; max where the bounds cross; NaN stays."""
    def clamp_(self, min: Any = None, max: Any = None) -> Tensor:
        """In-place form of `clamp`."""
    def clamp_max(self, max: Any) -> Tensor:
        """The smaller of input and a bound."""
    def clamp_max_(self, max: Any) -> Tensor:
        """In-place form of `clamp_max`."""
    def clamp_min(self, min: Any) -> Tensor:
        """The larger of input and a bound."""
    def clamp_min_(self, min: Any) -> Tensor:
        """In-place form of `clamp_min`."""
    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        """The nearest value in [min, max]; max where the bounds cross; NaN stays."""
    def clip_(self, min: Any = None, max: Any = None) -> Tensor:
        """In-place form of `clip`."""
    def clone(self, *, memory_format: Any = None) -> Tensor:
        """A copy with memory of its own, differentiable."""
    def clone_contiguous(self, memory_format: Any = None) -> Tensor:
        """The tensor itself if it is row-major, else a copy that is."""
    def conj(self) -> Tensor:
        """The complex conjugate; a real tensor itself."""
    def conj_physical(self) -> Tensor:
        """The complex conjugate, in memory of its own."""
    def conj_physical_(self) -> Tensor:
        """In-place form of `conj_physical`."""
    def contiguous(self, memory_format: Any = None) -> Tensor:
        """The tensor itself if it is row-major, else a copy that is."""
    def copy_(self, src: Any, non_blocking: _builtins.bool = False) -> Tensor:
        """Overwrite this tensor with `src`, broadcast and converted; -> self."""
    def copysign(self, other: Tensor | _builtins.float) -> Tensor:
        """The magnitude of input with the sign of other."""
    def copysign_(self, other: Tensor) -> Tensor:
        """In-place form of `copysign`."""
    def corrcoef(self) -> Tensor:
        """Pearson's correlation of variables (rows) over observations (columns)."""
    def cos(self) -> Tensor:
        """Cosine of radians."""
    def cos_(self) -> Tensor:
        """In-place form of `cos`."""
    def cosh(self) -> Tensor:
        """Hyperbolic cosine."""
    def cosh_(self) -> Tensor:
        """In-place form of `cosh`."""
    def count_nonzero(self, dim: Any = None) -> Tensor:
        """Number of nonzero elements, of all or over dimensions, int64."""
    def cov(self, *, correction: _builtins.int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Tensor:
        """Covariance of variables (rows) over observations (columns), optionally weighted."""
    def cpu(self, memory_format: Any = None) -> Tensor:
        """The tensor on the CPU."""
    def cross(self, other: Tensor, dim: _builtins.int | None = None) -> Tensor:
        """Cross product of 3-vectors along a dimension (by default the first of size 3)."""
    def cuda(self, device: Any = None, non_blocking: _builtins.bool = False, memory_format: Any = None) -> Tensor:
        """The tensor on an NVIDIA GPU."""
    def cummax(self, dim: _builtins.int) -> Any:
        """(values, indices) of the largest element up to each one along a dimension."""
    def cummin(self, dim: _builtins.int) -> Any:
        """(values, indices) of the smallest element up to each one along a dimension."""
    def cumprod(self, dim: _builtins.int, *, dtype: _DType | None = None) -> Tensor:
        """Product of the elements up to each one along a dimension. Integers and bools become int64."""
    def cumprod_(self, dim: _builtins.int, *, dtype: _DType | None = None) -> Tensor:
        """In-place form of `cumprod`."""
    def cumsum(self, dim: _builtins.int, *, dtype: _DType | None = None) -> Tensor:
        """Sum of the elements up to each one along a dimension. Integers and bools become int64."""
    def cumsum_(self, dim: _builtins.int, *, dtype: _DType | None = None) -> Tensor:
        """In-place form of `cumsum`."""
    def deg2rad(self) -> Tensor:
        """Degrees as radians."""
    def deg2rad_(self) -> Tensor:
        """In-place form of `deg2rad`."""
    def det(self) -> Tensor:
        """Determinants of square matrices."""
    def diag(self, diagonal: _builtins.int = 0) -> Tensor:
        """A vector as a diagonal matrix, or a matrix's diagonal."""
    def diag_embed(self, offset: _builtins.int = 0, dim1: _builtins.int = -2, dim2: _builtins.int = -1) -> Tensor:
        """Matrices whose diagonals are the last dimension, zeros elsewhere."""
    def diagflat(self, offset: _builtins.int = 0) -> Tensor:
        """The flattened elements as a diagonal matrix."""
    def diagonal(self, offset: _builtins.int = 0, dim1: _builtins.int = 0, dim2: _builtins.int = 1) -> Tensor:
        """A view of the diagonal of two dimensions, as the last dimension."""
    def diagonal_scatter(self, src: Tensor, offset: _builtins.int = 0, dim1: _builtins.int = 0, dim2: _builtins.int = 1) -> Tensor:
        """A copy of input with src on a diagonal."""
    def diff(self, n: _builtins.int = 1, dim: _builtins.int = -1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
        """Differences of neighbours along a dimension, n times."""
    def digamma(self) -> Tensor:
        """Derivative of lgamma."""
    def digamma_(self) -> Tensor:
        """In-place form of `digamma`."""
    def dim_order(self) -> _builtins.tuple[_builtins.int, ...]:
        """The dimensions as they lie in memory, outermost first."""
    def dist(self, other: Tensor, p: Any = 2) -> Tensor:
        """The p-norm of input - other."""
    def div(self, other: Any, *, rounding_mode: _builtins.str | None = None) -> Tensor:
        """input / other, rounded as `rounding_mode` says."""
    def div_(self, other: Any, *, rounding_mode: _builtins.str | None = None) -> Tensor:
        """In-place form of `div`."""
    def divide(self, other: Any, *, rounding_mode: _builtins.str | None = None) -> Tensor:
        """input / other, rounded as `rounding_mode` says."""
    def divide_(self, other: Any, *, rounding_mode: _builtins.str | None = None) -> Tensor:
        """In-place form of `divide`."""
    def dot(self, tensor: Tensor) -> Tensor:
        """Sum of the products of two vectors' elements."""
    def double(self, memory_format: Any = None) -> Tensor:
        """The tensor as float64."""
    def dsplit(self, indices_or_sections: Any) -> _builtins.tuple[Tensor, ...]:
        """Split along the third dimension."""
    def eq(self, other: Tensor | _builtins.float) -> Tensor:
        """input == other."""
    def eq_(self, other: Tensor) -> Tensor:
        """In-place form of `eq`."""
    def equal(self, other: Tensor) -> _builtins.bool:
        """Whether shapes and all elements are equal; executes what is pending."""
    def erf(self) -> Tensor:
        """Error function, 2/sqrt(pi) * integral of exp(-t^2) from 0 to input."""
    def erf_(self) -> Tensor:
        """In-place form of `erf`."""
    def erfc(self) -> Tensor:
        """1 - erf(input), accurate for large input."""
    def erfc_(self) -> Tensor:
        """In-place form of `erfc`."""
    def erfinv(self) -> Tensor:
        """Inverse error function on (-1, 1)."""
    def erfinv_(self) -> Tensor:
        """In-place form of `erfinv`."""
    def exp(self) -> Tensor:
        """e ** input."""
    def exp2(self) -> Tensor:
        """2 ** input."""
    def exp2_(self) -> Tensor:
        """In-place form of `exp2`."""
    def exp_(self) -> Tensor:
        """In-place form of `exp`."""
    def expand(self, *sizes: Any) -> Tensor:
        """Size-1 dimensions repeated without a copy; -1 keeps a size."""
    def expand_as(self, other: Tensor) -> Tensor:
        """`expand` to the shape of another tensor."""
    def expm1(self) -> Tensor:
        """exp(input) - 1, accurate near 0."""
    def expm1_(self) -> Tensor:
        """In-place form of `expm1`."""
    def exponential_(self, lambd: _builtins.float = 1, *, generator: _Generator | None = None) -> Tensor:
        """Fill with exponential values of the given rate; -> self."""
    def fill_(self, value: Any) -> Tensor:
        """Set every element to one value; -> self."""
    def fill_diagonal_(self, fill_value: Any, wrap: _builtins.bool = False) -> Tensor:
        """Write a number on the main diagonal, where all indices are equal."""
    def fix(self) -> Tensor:
        """The integer part, towards zero."""
    def fix_(self) -> Tensor:
        """In-place form of `fix`."""
    def flatten(self, start_dim: _builtins.int = 0, end_dim: _builtins.int = -1) -> Tensor:
        """Dimensions start_dim..end_dim merged into one."""
    def flip(self, *args: Any, dims: Any = None) -> Tensor:
        """A copy with dimensions in reverse order."""
    def fliplr(self) -> Tensor:
        """Columns in reverse order."""
    def flipud(self) -> Tensor:
        """Rows in reverse order."""
    def float(self, memory_format: Any = None) -> Tensor:
        """The tensor as float32."""
    def float_power(self, exponent: Any) -> Tensor:
        """input ** exponent in float64, or complex128."""
    def float_power_(self, exponent: Any) -> Tensor:
        """In-place form of `float_power`."""
    def floor(self) -> Tensor:
        """The largest integer not above input."""
    def floor_(self) -> Tensor:
        """In-place form of `floor`."""
    def floor_divide(self, other: Tensor | _builtins.float) -> Tensor:
        """floor(input / other), elementwise. Integer division by zero raises at the flush."""
    def floor_divide_(self, other: Tensor) -> Tensor:
        """In-place form of `floor_divide`."""
    def fmax(self, other: Tensor | _builtins.float) -> Tensor:
        """The larger of two, ignoring a NaN."""
    def fmax_(self, other: Tensor) -> Tensor:
        """In-place form of `fmax`."""
    def fmin(self, other: Tensor | _builtins.float) -> Tensor:
        """The smaller of two, ignoring a NaN."""
    def fmin_(self, other: Tensor) -> Tensor:
        """In-place form of `fmin`."""
    def fmod(self, other: Tensor | _builtins.float) -> Tensor:
        """input - trunc(input / other) * other: the sign of `input`, as C's fmod."""
    def fmod_(self, other: Tensor) -> Tensor:
        """In-place form of `fmod`."""
    def frac(self) -> Tensor:
        """input - trunc(input)."""
    def frac_(self) -> Tensor:
        """In-place form of `frac`."""
    def frexp(self) -> Any:
        """(mantissa, exponent) with input = mantissa * 2^exponent and 0.5 <= |mantissa| < 1."""
    def gather(self, dim: _builtins.int, index: Tensor, *, sparse_grad: _builtins.bool = False) -> Tensor:
        """out[i][j] = input[index[i][j]][j] for dim 0, and so on; the shape of `index`."""
    def gcd(self, other: Tensor) -> Tensor:
        """Greatest common divisor of integers, not negative."""
    def gcd_(self, other: Tensor) -> Tensor:
        """In-place form of `gcd`."""
    def ge(self, other: Tensor | _builtins.float) -> Tensor:
        """input >= other."""
    def ge_(self, other: Tensor) -> Tensor:
        """In-place form of `ge`."""
    def geometric_(self, p: _builtins.float, *, generator: _Generator | None = None) -> Tensor:
        """Fill with the number of trials to the first success of probability p; -> self."""
    def geqrf(self) -> Any:
        """(a, tau): the QR factorization as R above Householder vectors, and their factors."""
    def ger(self, vec2: Tensor) -> Tensor:
        """Products of every pair of elements of two vectors."""
    def greater(self, other: Tensor | _builtins.float) -> Tensor:
        """input > other."""
    def greater_(self, other: Tensor) -> Tensor:
        """In-place form of `greater`."""
    def greater_equal(self, other: Tensor | _builtins.float) -> Tensor:
        """input >= other."""
    def greater_equal_(self, other: Tensor) -> Tensor:
        """In-place form of `greater_equal`."""
    def gt(self, other: Tensor | _builtins.float) -> Tensor:
        """input > other."""
    def gt_(self, other: Tensor) -> Tensor:
        """In-place form of `gt`."""
    def half(self, memory_format: Any = None) -> Tensor:
        """The tensor as float16."""
    def hardshrink(self, lambd: _builtins.float = ...) -> Tensor:
        """x outside [-lambd, lambd], 0 inside."""
    def hash_tensor(self, dim: Any = ..., *, keepdim: _builtins.bool = False, mode: _builtins.int = 0) -> Tensor:
        """A checksum over dimensions: the elements' bits as 64-bit numbers under exclusive or."""
    def heaviside(self, values: Tensor) -> Tensor:
        """0 below 0, 1 above, `values` at 0."""
    def heaviside_(self, values: Tensor) -> Tensor:
        """In-place form of `heaviside`."""
    def histc(self, bins: _builtins.int = 100, min: Any = 0, max: Any = 0) -> Tensor:
        """Counts of the elements in equal bins over [min, max], or over their range if equal."""
    def histogram(self, bins: Any, *, range: Any = None, weight: Tensor | None = None, density: _builtins.bool = False, out: Any = None) -> Any:
        """(hist, bin_edges): weights of the elements in bins, whose number or edges are given."""
    def histogramdd(self, bins: Any, *, range: Any = None, weight: Tensor | None = None, density: _builtins.bool = False) -> Any:
        """(hist, bin_edges): weights of the points of the last dimension in the cells of a grid."""
    def householder_product(self, tau: Tensor) -> Tensor:
        """The first columns of the product of Householder reflections, as `geqrf` gives them."""
    def hsplit(self, indices_or_sections: Any) -> _builtins.tuple[Tensor, ...]:
        """Split along the second dimension (the first for vectors)."""
    def hypot(self, other: Tensor | _builtins.float) -> Tensor:
        """sqrt(input**2 + other**2)."""
    def hypot_(self, other: Tensor) -> Tensor:
        """In-place form of `hypot`."""
    def i0(self) -> Tensor:
        """Modified Bessel function of the first kind, of order 0."""
    def i0_(self) -> Tensor:
        """In-place form of `i0`."""
    def igamma(self, other: Tensor) -> Tensor:
        """Regularized lower incomplete gamma function of order input."""
    def igamma_(self, other: Tensor) -> Tensor:
        """In-place form of `igamma`."""
    def igammac(self, other: Tensor) -> Tensor:
        """Regularized upper incomplete gamma function of order input."""
    def igammac_(self, other: Tensor) -> Tensor:
        """In-place form of `igammac`."""
    @property
    def imag(self) -> Tensor: ...
    @imag.setter
    def imag(self, value: Any) -> None: ...
    def index_add(self, dim: _builtins.int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
        """input with alpha * source added at the entries of one dimension that index names."""
    def index_add_(self, dim: _builtins.int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
        """In-place form of `index_add`."""
    def index_copy(self, dim: _builtins.int, index: Tensor, source: Tensor) -> Tensor:
        """input with source written at the entries of one dimension that index names."""
    def index_copy_(self, dim: _builtins.int, index: Tensor, source: Tensor) -> Tensor:
        """In-place form of `index_copy`."""
    def index_fill(self, dim: _builtins.int, index: Tensor, value: Any) -> Tensor:
        """input with one value at the entries of one dimension that index names."""
    def index_fill_(self, dim: _builtins.int, index: Tensor, value: Any) -> Tensor:
        """In-place form of `index_fill`."""
    def index_put(self, indices: Any, values: Tensor, accumulate: _builtins.bool = False) -> Tensor:
        """input with values put (or added) at a tuple of index tensors; None keeps a dimension."""
    def index_put_(self, indices: Any, values: Tensor, accumulate: _builtins.bool = False) -> Tensor:
        """In-place form of `index_put`."""
    def index_reduce(self, dim: _builtins.int, index: Tensor, source: Tensor, reduce: _builtins.str, *, include_self: _builtins.bool = True) -> Tensor:
        """input with source's entries along a dimension combined into the entries that index names."""
    def index_reduce_(self, dim: _builtins.int, index: Tensor, source: Tensor, reduce: _builtins.str, *, include_self: _builtins.bool = True) -> Tensor:
        """In-place form of `index_reduce`."""
    def index_select(self, dim: _builtins.int, index: Tensor) -> Tensor:
        """Entries of one dimension chosen by a 1-d integer tensor."""
    def inner(self, other: Tensor) -> Tensor:
        """Sums of products over the last dimensions."""
    def int(self, memory_format: Any = None) -> Tensor:
        """The tensor as int32."""
    def inverse(self) -> Tensor:
        """Inverses of square matrices."""
    def is_conj(self, *args: Any) -> _builtins.bool:
        """False."""
    def is_distributed(self, *args: Any) -> _builtins.bool:
        """False."""
    is_ipu: _builtins.bool
    is_mtia: _builtins.bool
    def is_neg(self, *args: Any) -> _builtins.bool:
        """False."""
    def is_nonzero(self) -> _builtins.bool:
        """Whether the only element is not 0; executes what is pending."""
    def is_pinned(self, *args: Any) -> _builtins.bool:
        """False."""
    def is_set_to(self, tensor: Tensor) -> _builtins.bool:
        """Whether both show the same memory with the same shape and strides."""
    is_sparse_csr: _builtins.bool
    is_xla: _builtins.bool
    def isclose(self, other: Tensor, rtol: _builtins.float = ..., atol: _builtins.float = ..., equal_nan: _builtins.bool = False) -> Tensor:
        """|input - other| <= atol + rtol * |other|, elementwise; infinities only equal themselves."""
    def isfinite(self) -> Tensor:
        """Whether each element is neither NaN nor infinite."""
    def isinf(self) -> Tensor:
        """Whether each element is infinite."""
    def isnan(self) -> Tensor:
        """Whether each element is NaN."""
    def isneginf(self) -> Tensor:
        """Whether each element is -inf."""
    def isposinf(self) -> Tensor:
        """Whether each element is +inf."""
    def isreal(self) -> Tensor:
        """Whether each element has no imaginary part."""
    def istft(self, n_fft: _builtins.int, hop_length: _builtins.int | None = None, win_length: _builtins.int | None = None, window: Tensor | None = None, center: _builtins.bool = True, normalized: _builtins.bool = False, onesided: _builtins.bool | None = None, length: _builtins.int | None = None, return_complex: _builtins.bool = False) -> Tensor:
        """The signal whose `stft` is nearest to input, by overlapping pieces."""
    def kron(self, other: Tensor) -> Tensor:
        """Kronecker product."""
    def kthvalue(self, k: _builtins.int, dim: _builtins.int = -1, keepdim: _builtins.bool = False) -> Any:
        """(values, indices) of the k-th smallest element of a dimension, k from 1."""
    def lcm(self, other: Tensor) -> Tensor:
        """Least common multiple of integers, not negative."""
    def lcm_(self, other: Tensor) -> Tensor:
        """In-place form of `lcm`."""
    def ldexp(self, other: Tensor) -> Tensor:
        """input * 2 ** other."""
    def ldexp_(self, other: Tensor) -> Tensor:
        """In-place form of `ldexp`."""
    def le(self, other: Tensor | _builtins.float) -> Tensor:
        """input <= other."""
    def le_(self, other: Tensor) -> Tensor:
        """In-place form of `le`."""
    def lerp(self, end: Tensor, weight: Any) -> Tensor:
        """input + weight * (end - input), exact at both ends."""
    def lerp_(self, end: Tensor, weight: Any) -> Tensor:
        """In-place form of `lerp`."""
    def less(self, other: Tensor | _builtins.float) -> Tensor:
        """input < other."""
    def less_(self, other: Tensor) -> Tensor:
        """In-place form of `less`."""
    def less_equal(self, other: Tensor | _builtins.float) -> Tensor:
        """input <= other."""
    def less_equal_(self, other: Tensor) -> Tensor:
        """In-place form of `less_equal`."""
    def lgamma(self) -> Tensor:
        """Logarithm of the absolute value of the gamma function."""
    def lgamma_(self) -> Tensor:
        """In-place form of `lgamma`."""
    def log(self) -> Tensor:
        """Natural logarithm."""
    def log10(self) -> Tensor:
        """Logarithm to base 10."""
    def log10_(self) -> Tensor:
        """In-place form of `log10`."""
    def log1p(self) -> Tensor:
        """log(1 + input), accurate near 0."""
    def log1p_(self) -> Tensor:
        """In-place form of `log1p`."""
    def log2(self) -> Tensor:
        """Logarithm to base 2."""
    def log2_(self) -> Tensor:
        """In-place form of `log2`."""
    def log_(self) -> Tensor:
        """In-place form of `log`."""
    def log_normal_(self, mean: _builtins.float = 1, std: _builtins.float = 2, *, generator: _Generator | None = None) -> Tensor:
        """Fill with values whose logarithms are normal; -> self."""
    def log_softmax(self, dim: _builtins.int, dtype: _DType | None = None) -> Tensor:
        """log(softmax(x)) along one dimension, without under- or overflow."""
    def logaddexp(self, other: Tensor) -> Tensor:
        """log(exp(input) + exp(other)) without overflow."""
    def logaddexp2(self, other: Tensor) -> Tensor:
        """log2(2 ** input + 2 ** other) without overflow."""
    def logcumsumexp(self, dim: _builtins.int) -> Tensor:
        """log(cumsum(exp(input))) along a dimension, without overflow."""
    def logdet(self) -> Tensor:
        """Logarithms of determinants; NaN for negative ones."""
    def logical_and(self, other: Tensor | _builtins.float) -> Tensor:
        """Whether both are nonzero."""
    def logical_and_(self, other: Tensor) -> Tensor:
        """In-place form of `logical_and`."""
    def logical_not(self) -> Tensor:
        """Whether each element is zero."""
    def logical_not_(self) -> Tensor:
        """In-place form of `logical_not`."""
    def logical_or(self, other: Tensor | _builtins.float) -> Tensor:
        """Whether either is nonzero."""
    def logical_or_(self, other: Tensor) -> Tensor:
        """In-place form of `logical_or`."""
    def logical_xor(self, other: Tensor | _builtins.float) -> Tensor:
        """Whether exactly one is nonzero."""
    def logical_xor_(self, other: Tensor) -> Tensor:
        """In-place form of `logical_xor`."""
    def logit(self, eps: _builtins.float | None = None) -> Tensor:
        """log(x / (1 - x)), x first clamped to [eps, 1 - eps] when eps is given."""
    def logit_(self, eps: _builtins.float | None = None) -> Tensor:
        """In-place form of `logit`."""
    def logsumexp(self, dim: Any, keepdim: _builtins.bool = False) -> Tensor:
        """log(sum(exp(input))) over dimensions, shifted by the maximum so that nothing overflows."""
    def long(self, memory_format: Any = None) -> Tensor:
        """The tensor as int64."""
    def lt(self, other: Tensor | _builtins.float) -> Tensor:
        """input < other."""
    def lt_(self, other: Tensor) -> Tensor:
        """In-place form of `lt`."""
    def lu(self, pivot: _builtins.bool = True, get_infos: _builtins.bool = False, out: Any = None) -> Any:
        """(LU, pivots), with `get_infos` (LU, pivots, infos); torch's older `linalg.lu_factor`."""
    def lu_solve(self, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
        """X with A X = input, from A's LU factors; torch's older form of `linalg.lu_solve`."""
    @property
    def mH(self) -> Tensor: ...
    @property
    def mT(self) -> Tensor: ...
    def map2_(self, x: Tensor, y: Tensor, callable: Any) -> Tensor:
        """Replace each element by a Python function of it and of two other tensors'."""
    def map_(self, tensor: Tensor, callable: Any) -> Tensor:
        """Replace each element by a Python function of it and of another tensor's."""
    def masked_fill(self, mask: Tensor, value: Any) -> Tensor:
        """input with one value where the mask holds."""
    def masked_fill_(self, mask: Tensor, value: Any) -> Tensor:
        """In-place form of `masked_fill`."""
    def masked_scatter(self, mask: Tensor, source: Tensor) -> Tensor:
        """input with the elements of source, in order, where the mask holds."""
    def masked_scatter_(self, mask: Tensor, source: Tensor) -> Tensor:
        """In-place form of `masked_scatter`."""
    def masked_select(self, mask: Tensor) -> Tensor:
        """The elements where the mask holds, as a vector; both broadcast."""
    def matmul(self, other: Tensor) -> Tensor:
        """Matrix product: dot product of vectors, matrix-vector, or batched matrix-matrix."""
    def matrix_exp(self) -> Tensor:
        """Exponentials of square matrices, sum of A^k / k!."""
    def matrix_power(self, n: _builtins.int) -> Tensor:
        """A square matrix multiplied by itself n times, by squaring; its inverse where n < 0."""
    def max(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """Largest element; with `dim` (values, indices); with a tensor the elementwise maximum."""
    def maximum(self, other: Tensor | _builtins.float) -> Tensor:
        """The larger of two; NaN when either is. The gradient is shared equally on ties."""
    def maximum_(self, other: Tensor) -> Tensor:
        """In-place form of `maximum`."""
    def mean(self, dim: Any = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
        """Mean over dimensions (all by default)."""
    def median(self, dim: _builtins.int | None = None, keepdim: _builtins.bool = False) -> Any:
        """The lower median of all elements, or (values, indices) along a dimension; NaN if any is."""
    def min(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """Smallest element; with `dim` (values, indices); with a tensor the elementwise minimum."""
    def minimum(self, other: Tensor | _builtins.float) -> Tensor:
        """The smaller of two; NaN when either is. The gradient is shared equally on ties."""
    def minimum_(self, other: Tensor) -> Tensor:
        """In-place form of `minimum`."""
    def mm(self, mat2: Tensor) -> Tensor:
        """Product of two matrices (N, M) @ (M, P)."""
    def mode(self, dim: _builtins.int = -1, keepdim: _builtins.bool = False) -> Any:
        """(values, indices) of the most frequent element of a dimension, the smallest on ties."""
    def moveaxis(self, source: Any, destination: Any) -> Tensor:
        """Dimensions moved to new positions, the others kept in order."""
    def movedim(self, source: Any, destination: Any) -> Tensor:
        """Dimensions moved to new positions, the others kept in order."""
    def msort(self) -> Tensor:
        """The values sorted along the first dimension."""
    def mul(self, other: Tensor | _builtins.float) -> Tensor:
        """input * other."""
    def mul_(self, other: Tensor) -> Tensor:
        """In-place form of `mul`."""
    def multinomial(self, num_samples: _builtins.int, replacement: _builtins.bool = False, *, generator: _Generator | None = None) -> Tensor:
        """Indices drawn in proportion to the weights in each row of input."""
    def multiply(self, other: Tensor | _builtins.float) -> Tensor:
        """input * other."""
    def multiply_(self, other: Tensor) -> Tensor:
        """In-place form of `multiply`."""
    def mv(self, vec: Tensor) -> Tensor:
        """Product of a matrix and a vector."""
    def mvlgamma(self, p: _builtins.int) -> Tensor:
        """Logarithm of the multivariate gamma function of dimension p; input > (p - 1) / 2."""
    def mvlgamma_(self, p: _builtins.int) -> Tensor:
        """In-place form of `mvlgamma`."""
    def nan_to_num(self, nan: _builtins.float | None = None, posinf: _builtins.float | None = None, neginf: _builtins.float | None = None) -> Tensor:
        """NaN and infinities replaced: by 0 and the dtype's largest and smallest unless given."""
    def nan_to_num_(self, nan: _builtins.float | None = None, posinf: _builtins.float | None = None, neginf: _builtins.float | None = None) -> Tensor:
        """In-place form of `nan_to_num`."""
    def nanmean(self, dim: Any = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
        """Mean over the elements that are not NaN."""
    def nanmedian(self, dim: _builtins.int | None = None, keepdim: _builtins.bool = False) -> Any:
        """`median` of the elements that are not NaN."""
    def nanquantile(self, q: Any, dim: _builtins.int | None = None, keepdim: _builtins.bool = False, *, interpolation: _builtins.str = "linear") -> Tensor:
        """`quantile` of the elements that are not NaN."""
    def nansum(self, dim: Any = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
        """Sum that counts NaN as 0."""
    def narrow(self, dim: _builtins.int, start: _builtins.int, length: _builtins.int) -> Tensor:
        """Elements start .. start + length of one dimension."""
    def narrow_copy(self, dim: _builtins.int, start: _builtins.int, length: _builtins.int) -> Tensor:
        """As `narrow`, in memory of its own."""
    def ne(self, other: Tensor | _builtins.float) -> Tensor:
        """input != other."""
    def ne_(self, other: Tensor) -> Tensor:
        """In-place form of `ne`."""
    def neg(self) -> Tensor:
        """-input."""
    def neg_(self) -> Tensor:
        """In-place form of `neg`."""
    def negative(self) -> Tensor:
        """-input."""
    def negative_(self) -> Tensor:
        """In-place form of `negative`."""
    def new(self, *args: Any, **kwargs: Any) -> Tensor:
        """`Tensor(...)` with this tensor's dtype."""
    def new_empty(self, *size: Any, dtype: _DType | None = None, device: Any = None, requires_grad: _builtins.bool = False, layout: Any = None, pin_memory: _builtins.bool = False) -> Tensor:
        """`empty` with the dtype and device of this tensor."""
    def new_empty_strided(self, size: Any, stride: Any, dtype: _DType | None = None, layout: Any = None, device: Any = None, pin_memory: _builtins.bool = False, requires_grad: _builtins.bool = False) -> Tensor:
        """`empty_strided` with the dtype and device of input."""
    def new_full(self, size: Any, fill_value: Any, *, dtype: _DType | None = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
        """A tensor of one value with the dtype and device of this one."""
    def new_ones(self, *size: Any, dtype: _DType | None = None, device: Any = None, requires_grad: _builtins.bool = False, layout: Any = None, pin_memory: _builtins.bool = False) -> Tensor:
        """`ones` with the dtype and device of this tensor."""
    def new_tensor(self, data: Any, *, dtype: _DType | None = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
        """`tensor(data)` with the dtype and device of this tensor."""
    def new_zeros(self, *size: Any, dtype: _DType | None = None, device: Any = None, requires_grad: _builtins.bool = False, layout: Any = None, pin_memory: _builtins.bool = False) -> Tensor:
        """`zeros` with the dtype and device of this tensor."""
    def nextafter(self, other: Tensor | _builtins.float) -> Tensor:
        """The next representable value after input towards other."""
    def nextafter_(self, other: Tensor) -> Tensor:
        """In-place form of `nextafter`."""
    def nonzero(self, *, as_tuple: _builtins.bool = False) -> Any:
        """(n, ndim) indices of the nonzero elements, row-major; as a tuple of columns on request."""
    def nonzero_static(self, *, size: _builtins.int, fill_value: _builtins.int = -1) -> Tensor:
        """The first `size` indices of nonzero elements, filled up with fill_value: (size, ndim)."""
    def norm(self, p: Any = "fro", dim: Any = None, keepdim: _builtins.bool = False, out: Any = None, dtype: _DType | None = None) -> Tensor:
        """Norm of all elements or over dimensions: a p-norm, "fro" (2) or "nuc"."""
    def normal_(self, mean: _builtins.float = 0, std: _builtins.float = 1, *, generator: _Generator | None = None) -> Tensor:
        """Fill with normal values of the given mean and standard deviation; -> self."""
    def not_equal(self, other: Tensor | _builtins.float) -> Tensor:
        """input != other."""
    def not_equal_(self, other: Tensor) -> Tensor:
        """In-place form of `not_equal`."""
    def orgqr(self, tau: Tensor) -> Tensor:
        """The first columns of the product of Householder reflections, as `geqrf` gives them."""
    def ormqr(self, tau: Tensor, other: Tensor, left: _builtins.bool = True, transpose: _builtins.bool = False) -> Tensor:
        """Q other (other Q without `left`) for the square Q of Householder reflections, or its Q^H."""
    def outer(self, vec2: Tensor) -> Tensor:
        """Products of every pair of elements of two vectors."""
    def permute(self, *dims: Any) -> Tensor:
        """The dimensions in the order given."""
    def pin_memory(self, *args: Any) -> Tensor:
        """The tensor itself: nothing is conjugated, negated or pinned lazily."""
    def pinverse(self, rcond: Any = ...) -> Tensor:
        """Moore-Penrose inverses; torch's older form of `linalg.pinv`."""
    def polygamma(self, n: Any) -> Any: ...
    def polygamma_(self, n: Any) -> Any: ...
    def positive(self) -> Tensor:
        """The tensor itself."""
    def pow(self, exponent: Tensor | _builtins.float) -> Tensor:
        """input ** exponent."""
    def pow_(self, exponent: Tensor) -> Tensor:
        """In-place form of `pow`."""
    def prelu(self, weight: Tensor) -> Tensor:
        """x above 0, weight * x elsewhere."""
    def prod(self, dim: _builtins.int | None = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
        """Product of the elements, or over one dimension. Integers and bools multiply as int64."""
    def put(self, index: Tensor, source: Tensor, accumulate: _builtins.bool = False) -> Tensor:
        """input, read as a vector, with source's elements at index put or added."""
    def put_(self, index: Tensor, source: Tensor, accumulate: _builtins.bool = False) -> Tensor:
        """In-place form of `put`."""
    def qr(self, some: _builtins.bool = True) -> Any:
        """(Q, R) with input = Q R; torch's older form of `linalg.qr`."""
    def quantile(self, q: Any, dim: _builtins.int | None = None, keepdim: _builtins.bool = False, *, interpolation: _builtins.str = "linear") -> Tensor:
        """The q-quantiles of all elements or along a dimension; a 1-d q adds a first dimension."""
    def rad2deg(self) -> Tensor:
        """Radians as degrees."""
    def rad2deg_(self) -> Tensor:
        """In-place form of `rad2deg`."""
    def random_(self, low: _builtins.int = 0, high: _builtins.int | None = None, *, generator: _Generator | None = None) -> Tensor:
        """Fill with uniform integers in [low, high), by default all the dtype can hold; -> self."""
    def ravel(self) -> Tensor:
        """All elements in one dimension."""
    @property
    def real(self) -> Tensor: ...
    @real.setter
    def real(self, value: Any) -> None: ...
    def reciprocal(self) -> Tensor:
        """1 / input."""
    def reciprocal_(self) -> Tensor:
        """In-place form of `reciprocal`."""
    def relu(self) -> Tensor:
        """max(input, 0); NaN stays."""
    def relu_(self) -> Tensor:
        """In-place form of `relu`."""
    def remainder(self, other: Tensor | _builtins.float) -> Tensor:
        """input - floor(input / other) * other: the sign of `other`, as Python's %."""
    def remainder_(self, other: Tensor) -> Tensor:
        """In-place form of `remainder`."""
    def renorm(self, p: _builtins.float, dim: _builtins.int, maxnorm: _builtins.float) -> Tensor:
        """input with each entry of a dimension scaled down to a p-norm of at most maxnorm."""
    def renorm_(self, p: _builtins.float, dim: _builtins.int, maxnorm: _builtins.float) -> Tensor:
        """In-place form of `renorm`."""
    def repeat(self, *repeats: Any) -> Tensor:
        """The tensor laid side by side a number of times along each dimension."""
    def repeat_interleave(self, repeats: Any = None, dim: _builtins.int | None = None, *, output_size: _builtins.int | None = None) -> Tensor:
        """Every element repeated in place: a count for all, or one per entry of a dimension."""
    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in row-major order under another shape; a view where strides allow."""
    def reshape_as(self, other: Tensor) -> Tensor:
        """`reshape` to the shape of another tensor."""
    def resize_(self, *sizes: Any, memory_format: Any = None) -> Tensor:
        """Change the shape in place; new elements have no defined values; -> self."""
    def resize_as_(self, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
        """`resize_` to the shape of another tensor."""
    def resolve_conj(self, *args: Any) -> Tensor:
        """The tensor itself: nothing is conjugated, negated or pinned lazily."""
    def resolve_neg(self, *args: Any) -> Tensor:
        """The tensor itself: nothing is conjugated, negated or pinned lazily."""
    def roll(self, shifts: Any, dims: Any = None) -> Tensor:
        """Elements moved along dimensions, those that leave one end entering at the other."""
    def rot90(self, k: _builtins.int = 1, dims: Any = ...) -> Tensor:
        """Rotation by k quarter turns in the plane of two dimensions."""
    def round(self, *, decimals: _builtins.int = 0) -> Tensor:
        """The nearest multiple of 10 ** -decimals, halves to even."""
    def round_(self, *, decimals: _builtins.int = 0) -> Tensor:
        """In-place form of `round`."""
    def rsqrt(self) -> Tensor:
        """1 / sqrt(input)."""
    def rsqrt_(self) -> Tensor:
        """In-place form of `rsqrt`."""
    def rsub(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """other - alpha * input."""
    def scatter(self, dim: _builtins.int, index: Tensor, src: Any = None, *, value: Any = None, reduce: _builtins.str | None = None) -> Tensor:
        """input with src written at out[index[i][j]][j] (dim 0), and so on."""
    def scatter_(self, dim: _builtins.int, index: Tensor, src: Any = None, *, value: Any = None, reduce: _builtins.str | None = None) -> Tensor:
        """In-place form of `scatter`."""
    def scatter_add(self, dim: _builtins.int, index: Tensor, src: Tensor) -> Tensor:
        """input with src added at out[index[i][j]][j] (dim 0), and so on; deterministic."""
    def scatter_add_(self, dim: _builtins.int, index: Tensor, src: Tensor) -> Tensor:
        """In-place form of `scatter_add`."""
    def scatter_reduce(self, dim: _builtins.int, index: Tensor, src: Tensor, reduce: _builtins.str, *, include_self: _builtins.bool = True) -> Tensor:
        """input combined with src at out[index[i][j]][j] (dim 0), and so on."""
    def scatter_reduce_(self, dim: _builtins.int, index: Tensor, src: Tensor, reduce: _builtins.str, *, include_self: _builtins.bool = True) -> Tensor:
        """In-place form of `scatter_reduce`."""
    def select(self, dim: _builtins.int, index: _builtins.int) -> Tensor:
        """One index of one dimension, which disappears."""
    def select_scatter(self, src: Tensor, dim: _builtins.int, index: _builtins.int) -> Tensor:
        """A copy of input with src at one index of a dimension."""
    def set_(self, source: Any = None, *args: Any) -> Tensor:
        """Use another tensor's storage, size and strides; -> self."""
    def sgn(self) -> Tensor:
        """-1, 0 or 1; of a complex number the one of size 1 in its direction."""
    def sgn_(self) -> Tensor:
        """In-place form of `sgn`."""
    def share_memory_(self) -> Tensor:
        """Move the memory to where processes share it; -> self."""
    def short(self, memory_format: Any = None) -> Tensor:
        """The tensor as int16."""
    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-input))."""
    def sigmoid_(self) -> Tensor:
        """In-place form of `sigmoid`."""
    def sign(self) -> Tensor:
        """-1, 0 or 1; the derivative is 0."""
    def sign_(self) -> Tensor:
        """In-place form of `sign`."""
    def signbit(self) -> Tensor:
        """Whether the sign bit is set (also of -0.0)."""
    def sin(self) -> Tensor:
        """Sine of radians."""
    def sin_(self) -> Tensor:
        """In-place form of `sin`."""
    def sinc(self) -> Tensor:
        """sin(pi x) / (pi x), 1 at 0."""
    def sinc_(self) -> Tensor:
        """In-place form of `sinc`."""
    def sinh(self) -> Tensor:
        """Hyperbolic sine."""
    def sinh_(self) -> Tensor:
        """In-place form of `sinh`."""
    def slice_scatter(self, src: Tensor, dim: _builtins.int = 0, start: _builtins.int | None = None, end: _builtins.int | None = None, step: _builtins.int = 1) -> Tensor:
        """A copy of input with src at a slice of a dimension."""
    def slogdet(self) -> Any:
        """(sign, logabsdet): the determinant's sign and the logarithm of its absolute value."""
    def softmax(self, dim: _builtins.int, dtype: _DType | None = None) -> Tensor:
        """exp(x) / sum(exp(x)) along one dimension."""
    def sort(self, dim: _builtins.int = -1, descending: _builtins.bool = False, stable: _builtins.bool = False) -> Any:
        """(values, indices) in order along a dimension; always stable, NaN as the largest."""
    def sparse_mask(self, mask: Any) -> Any:
        """The elements of a dense tensor at the places of a sparse one."""
    def split(self, split_size_or_sections: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
        """Views of consecutive sections: of one size (the last may be smaller), or of given sizes."""
    def split_with_sizes(self, split_sizes: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
        """Views of consecutive sections of the given sizes."""
    def sqrt(self) -> Tensor:
        """Square root."""
    def sqrt_(self) -> Tensor:
        """In-place form of `sqrt`."""
    def square(self) -> Tensor:
        """input * input; bools become int64."""
    def square_(self) -> Tensor:
        """In-place form of `square`."""
    def squeeze(self, dim: Any = None) -> Tensor:
        """Dimensions of size 1 removed: all of them, or those of `dim` (int or tuple)."""
    def squeeze_(self, dim: Any = None) -> Tensor:
        """In-place form of `squeeze`: the same memory, shown otherwise."""
    def std(self, dim: Any = None, unbiased: Any = None, keepdim: _builtins.bool = False, *, correction: Any = None) -> Tensor:
        """Standard deviation: the square root of `var`."""
    def stft(self, n_fft: _builtins.int, hop_length: _builtins.int | None = None, win_length: _builtins.int | None = None, window: Tensor | None = None, center: _builtins.bool = True, pad_mode: _builtins.str = "reflect", normalized: _builtins.bool = False, onesided: _builtins.bool | None = None, return_complex: _builtins.bool | None = None, align_to_window: _builtins.bool | None = None) -> Tensor:
        """Fourier transforms of overlapping pieces of a signal."""
    def storage(self) -> _TypedStorage:
        """The memory this tensor shows, counted in elements."""
    def sub(self, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
        """input - alpha * other."""
    def sub_(self, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
        """In-place form of `sub`."""
    def subtract(self, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
        """input - alpha * other."""
    def subtract_(self, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
        """In-place form of `subtract`."""
    def sum(self, dim: Any = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
        """Sum over dimensions (all by default). Integers and bools are summed as int64."""
    def sum_to_size(self, *size: Any) -> Tensor:
        """Summed over dimensions so that the result has `size`, from which input's shape broadcasts."""
    def svd(self, some: _builtins.bool = True, compute_uv: _builtins.bool = True) -> Any:
        """(U, S, V) with input = U diag(S) V^H; torch's older form of `linalg.svd`."""
    def swapaxes(self, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
        """Two dimensions exchanged."""
    def swapaxes_(self, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
        """In-place form of `swapaxes`: the same memory, shown otherwise."""
    def swapdims(self, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
        """Two dimensions exchanged."""
    def swapdims_(self, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
        """In-place form of `swapdims`: the same memory, shown otherwise."""
    def t(self) -> Tensor:
        """Matrix transpose; 0-d and 1-d tensors as they are."""
    def t_(self) -> Tensor:
        """In-place form of `t`: the same memory, shown otherwise."""
    def take(self, index: Tensor) -> Tensor:
        """Elements of the flattened input at integer positions; the shape of `index`."""
    def take_along_dim(self, indices: Tensor, dim: _builtins.int | None = None) -> Tensor:
        """`gather` whose input and indices broadcast against each other outside `dim`."""
    def tan(self) -> Tensor:
        """Tangent of radians."""
    def tan_(self) -> Tensor:
        """In-place form of `tan`."""
    def tanh(self) -> Tensor:
        """Hyperbolic tangent."""
    def tanh_(self) -> Tensor:
        """In-place form of `tanh`."""
    def tensor_split(self, indices_or_sections: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
        """Views split at indices, or into a number of nearly equal sections."""
    def tile(self, *dims: Any) -> Tensor:
        """`repeat`, with missing counts taken as 1."""
    def to(self, *args: Any, device: Any = None, dtype: _DType | None = None, non_blocking: _builtins.bool = False, copy: _builtins.bool = False, memory_format: Any = None, other: Tensor | None = None) -> Tensor:
        """The tensor with another dtype and/or device: `to(dtype)`, `to(device)`, `to(other)`."""
    def to_dense(self, dtype: _DType | None = None, *, masked_grad: Any = None) -> Tensor:
        """The tensor itself, as dtype."""
    def to_sparse(self, sparse_dim: _builtins.int | None = None, *, layout: _Layout | None = None, blocksize: Any = None, dense_dim: _builtins.int | None = None) -> Any:
        """The nonzero elements of a dense tensor in a sparse layout."""
    def to_sparse_coo(self, sparse_dim: _builtins.int | None = None, *, layout: _Layout | None = None, blocksize: Any = None, dense_dim: _builtins.int | None = None) -> Any:
        """The nonzero elements of a dense tensor in a sparse layout."""
    def to_sparse_csr(self, dense_dim: _builtins.int | None = None) -> Any:
        """The nonzero elements of a dense matrix in compressed row form."""
    def topk(self, k: _builtins.int, dim: _builtins.int = -1, largest: _builtins.bool = True, sorted: _builtins.bool = True) -> Any:
        """(values, indices) of the k largest (or smallest) elements of a dimension, in order."""
    def trace(self) -> Tensor:
        """Sum of a matrix's diagonal."""
    def transpose(self, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
        """Two dimensions exchanged."""
    def transpose_(self, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
        """In-place form of `transpose`: the same memory, shown otherwise."""
    def triangular_solve(self, A: Tensor, upper: _builtins.bool = True, transpose: _builtins.bool = False, unitriangular: _builtins.bool = False) -> Any:
        """(X, A) with A X = input; torch's older form of `linalg.solve_triangular`."""
    def tril(self, diagonal: _builtins.int = 0) -> Tensor:
        """The lower triangle of matrices, zeros above the diagonal."""
    def tril_(self, diagonal: _builtins.int = 0) -> Tensor:
        """In-place form of `tril`."""
    def triu(self, diagonal: _builtins.int = 0) -> Tensor:
        """The upper triangle of matrices, zeros below the diagonal."""
    def triu_(self, diagonal: _builtins.int = 0) -> Tensor:
        """In-place form of `triu`."""
    def true_div(self, other: Tensor | _builtins.float) -> Tensor:
        """input / other; integers become the default float."""
    def true_div_(self, other: Tensor) -> Tensor:
        """In-place form of `true_div`."""
    def true_divide(self, other: Tensor | _builtins.float) -> Tensor:
        """input / other; integers become the default float."""
    def true_divide_(self, other: Tensor) -> Tensor:
        """In-place form of `true_divide`."""
    def trunc(self) -> Tensor:
        """The integer part, towards zero."""
    def trunc_(self) -> Tensor:
        """In-place form of `trunc`."""
    def trunc_divide(self, other: Tensor | _builtins.float) -> Tensor:
        """input / other rounded towards zero; `div(rounding_mode="trunc")`."""
    def trunc_divide_(self, other: Tensor) -> Tensor:
        """In-place form of `trunc_divide`."""
    def type(self, dtype: Any = None, non_blocking: _builtins.bool = False) -> Any:
        """The type's name ("torch.FloatTensor"), or the tensor converted to a dtype or such a name."""
    def type_as(self, other: Tensor) -> Tensor:
        """The tensor with another's dtype."""
    def unbind(self, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
        """Every index of one dimension, as views."""
    def unflatten(self, dim: _builtins.int, sizes: Any) -> Tensor:
        """One dimension split into several; one size may be -1."""
    def unfold(self, dimension: _builtins.int, size: _builtins.int, step: _builtins.int) -> Tensor:
        """Windows of `size` every `step` along a dimension, as a new last dimension (a view)."""
    def uniform_(self, a: _builtins.float = 0, b: _builtins.float = 1, *, generator: _Generator | None = None, **old: Any) -> Tensor:
        """Fill with uniform values in [a, b); -> self."""
    def unique(self, sorted: _builtins.bool = True, return_inverse: _builtins.bool = False, return_counts: _builtins.bool = False, dim: _builtins.int | None = None) -> Any:
        """The distinct elements (or entries of a dimension), sorted; optionally inverse and counts."""
    def unique_consecutive(self, return_inverse: _builtins.bool = False, return_counts: _builtins.bool = False, dim: _builtins.int | None = None) -> Any:
        """The elements (or entries of a dimension) without repetitions of the one before."""
    def unsafe_chunk(self, chunks: _builtins.int, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
        """As `chunk`, in memory of its own."""
    def unsafe_split(self, split_size_or_sections: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
        """As `split`, in memory of its own."""
    def unsafe_split_with_sizes(self, split_sizes: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
        """As `split_with_sizes`, in memory of its own."""
    def unsqueeze(self, dim: _builtins.int) -> Tensor:
        """A dimension of size 1 inserted at `dim`."""
    def unsqueeze_(self, dim: _builtins.int) -> Tensor:
        """In-place form of `unsqueeze`: the same memory, shown otherwise."""
    def untyped_storage(self) -> _UntypedStorage:
        """The memory this tensor shows, as bytes; its views show the same."""
    def var(self, dim: Any = None, unbiased: Any = None, keepdim: _builtins.bool = False, *, correction: Any = None) -> Tensor:
        """Variance over dimensions, divided by count - correction (default 1)."""
    def vdot(self, other: Tensor) -> Tensor:
        """Sum of the products of the conjugates of one vector's elements with another's."""
    def view(self, *shape: Any, dtype: Any = None) -> Any:
        """The same memory under another shape (or, given a dtype, its bits as that dtype)."""
    def view_as(self, other: Tensor) -> Tensor:
        """`view` with the shape of another tensor."""
    def view_as_complex(self) -> Tensor:
        """Pairs (..., 2) as a complex tensor: a view, or a tensor of its own with gradients and where"""
    def view_as_real(self) -> Tensor:
        """A complex tensor as pairs (..., 2): a view, or with gradients a tensor of its own."""
    def view_copy(self, *shape: Any) -> Tensor:
        """The same elements in row-major order under another shape; a view where strides allow."""
    def vsplit(self, indices_or_sections: Any) -> _builtins.tuple[Tensor, ...]:
        """Split along the first dimension."""
    def where(self, condition: Any, y: Any) -> Any: ...
    def xlogy(self, other: Any) -> Tensor:
        """input * log(other), 0 where input is 0 (NaN where other is)."""
    def xlogy_(self, other: Any) -> Tensor:
        """In-place form of `xlogy`."""
    def zero_(self) -> Tensor:
        """Set every element to 0; -> self."""

def _rebuild(cls: _builtins.type, raw: np.ndarray[Any, Any], name: _builtins.str, requires_grad: _builtins.bool) -> Any:
    ...
def _rebuild_meta(cls: _builtins.type, shape: _builtins.tuple[_builtins.int, ...], dtype: _DType, requires_grad: _builtins.bool) -> Any:
    ...
FROM_ARRAY: _builtins.list[Any]
LEGACY: _builtins.list[Any]
BITS: _builtins.list[Any]
REBUILD: _builtins.list[Any]
def legacy_constructor(cls: _builtins.type, *args: Any, **kwargs: Any) -> Any:
    ...
def rebuild_view_history(view: Tensor) -> None:
    ...
_SCALARS: _builtins.dict[_DType, Any]
_Bytes: Any
class _Memory(_Bytes):
    """Memory from an address on, which a NumPy array stands on."""
    __slots__: Any

def _as_array(buffer: Any, tensor: Tensor) -> np.ndarray[Any, Any]:
    ...
def _item(t: Tensor) -> Any:
    ...
def put_item(t: Any, value: _builtins.float) -> _builtins.float:
    ...
def _truth(t: Tensor) -> _builtins.bool:
    ...
def _list(t: Tensor) -> Any:
    ...
def make(node: _Node, device: _Device=...) -> Tensor:
    ...
def over(cell: _record.Cell, shape: _builtins.tuple[_builtins.int, ...], dtype: _DType, map: _builtins.tuple[_builtins.tuple[_builtins.int, ...], _builtins.int] | None=None) -> Tensor:
    ...
def from_buffer(buffer: Any, shape: _builtins.tuple[_builtins.int, ...], dtype: _DType, device: _Device=...) -> Tensor:
    ...
def alias(t: Tensor) -> Tensor:
    ...
def as_subclass(t: Tensor, cls: _builtins.type) -> Any:
    ...
def leaf_accumulator(t: Tensor) -> Any | None:
    ...
