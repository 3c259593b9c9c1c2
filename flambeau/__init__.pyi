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

from flambeau.tensor import Tensor as Tensor
from math import e as e
from math import inf as inf
from math import nan as nan
from math import pi as pi
from flambeau import autograd as autograd
from flambeau import legacy as legacy
from flambeau import ops as ops
from flambeau import printing as printing
from flambeau import random as random
from flambeau import storage as storage
from flambeau.autograd import enable_grad as enable_grad
from flambeau.autograd import inference_mode as inference_mode
from flambeau.autograd import is_grad_enabled as is_grad_enabled
from flambeau.autograd import is_inference_mode_enabled as is_inference_mode_enabled
from flambeau.autograd import no_grad as no_grad
from flambeau.autograd import set_grad_enabled as set_grad_enabled
from flambeau.autograd.anomaly import is_anomaly_check_nan_enabled as is_anomaly_check_nan_enabled
from flambeau.autograd.anomaly import is_anomaly_enabled as is_anomaly_enabled
from flambeau.autograd.anomaly import set_anomaly_enabled as set_anomaly_enabled
from flambeau.budget import get_memory_budget as get_memory_budget
from flambeau.budget import set_memory_budget as set_memory_budget
from flambeau.compile import compile as compile
from flambeau.deferred import attribute as __getattr__
from flambeau.deferred import names as __dir__
from flambeau.device import device as device
from flambeau.device import get_default_device as get_default_device
from flambeau.device import set_default_device as set_default_device
from flambeau.dlpack import from_dlpack as from_dlpack
from flambeau.dlpack import to_dlpack as to_dlpack
from flambeau.dtype import bfloat16 as bfloat16
from flambeau.dtype import bool as bool
from flambeau.dtype import cdouble as cdouble
from flambeau.dtype import cfloat as cfloat
from flambeau.dtype import complex64 as complex64
from flambeau.dtype import complex128 as complex128
from flambeau.dtype import double as double
from flambeau.dtype import dtype as dtype
from flambeau.dtype import finfo as finfo
from flambeau.dtype import float as float
from flambeau.dtype import float8_e4m3fn as float8_e4m3fn
from flambeau.dtype import float8_e4m3fnuz as float8_e4m3fnuz
from flambeau.dtype import float8_e5m2 as float8_e5m2
from flambeau.dtype import float8_e5m2fnuz as float8_e5m2fnuz
from flambeau.dtype import float8_e8m0fnu as float8_e8m0fnu
from flambeau.dtype import float16 as float16
from flambeau.dtype import float32 as float32
from flambeau.dtype import float64 as float64
from flambeau.dtype import get_default_dtype as get_default_dtype
from flambeau.dtype import half as half
from flambeau.dtype import iinfo as iinfo
from flambeau.dtype import int as int
from flambeau.dtype import int8 as int8
from flambeau.dtype import int16 as int16
from flambeau.dtype import int32 as int32
from flambeau.dtype import int64 as int64
from flambeau.dtype import long as long
from flambeau.dtype import set_default_dtype as set_default_dtype
from flambeau.dtype import short as short
from flambeau.dtype import uint8 as uint8
from flambeau.dtype import uint16 as uint16
from flambeau.dtype import uint32 as uint32
from flambeau.dtype import uint64 as uint64
from flambeau.layout import channels_last as channels_last
from flambeau.layout import channels_last_3d as channels_last_3d
from flambeau.layout import contiguous_format as contiguous_format
from flambeau.layout import jagged as jagged
from flambeau.layout import layout as layout
from flambeau.layout import legacy_contiguous_format as legacy_contiguous_format
from flambeau.layout import memory_format as memory_format
from flambeau.layout import preserve_format as preserve_format
from flambeau.layout import sparse_bsc as sparse_bsc
from flambeau.layout import sparse_bsr as sparse_bsr
from flambeau.layout import sparse_coo as sparse_coo
from flambeau.layout import sparse_csc as sparse_csc
from flambeau.layout import sparse_csr as sparse_csr
from flambeau.layout import strided as strided
from flambeau.legacy import BFloat16Tensor as BFloat16Tensor
from flambeau.legacy import BoolTensor as BoolTensor
from flambeau.legacy import ByteTensor as ByteTensor
from flambeau.legacy import CharTensor as CharTensor
from flambeau.legacy import DoubleTensor as DoubleTensor
from flambeau.legacy import FloatTensor as FloatTensor
from flambeau.legacy import HalfTensor as HalfTensor
from flambeau.legacy import IntTensor as IntTensor
from flambeau.legacy import LongTensor as LongTensor
from flambeau.legacy import ShortTensor as ShortTensor
from flambeau.legacy import set_default_tensor_type as set_default_tensor_type
from flambeau.ops.generator import Generator as Generator
from flambeau.ops.generator import default_generator as default_generator
from flambeau.printing import get_printoptions as get_printoptions
from flambeau.printing import printoptions as printoptions
from flambeau.printing import set_printoptions as set_printoptions
from flambeau.runtime.threads import get_num_threads as get_num_threads
from flambeau.runtime.threads import set_num_threads as set_num_threads
from flambeau.settings import are_deterministic_algorithms_enabled as are_deterministic_algorithms_enabled
from flambeau.settings import get_deterministic_debug_mode as get_deterministic_debug_mode
from flambeau.settings import get_float32_matmul_precision as get_float32_matmul_precision
from flambeau.settings import get_num_interop_threads as get_num_interop_threads
from flambeau.settings import is_deterministic_algorithms_warn_only_enabled as is_deterministic_algorithms_warn_only_enabled
from flambeau.settings import is_storage as is_storage
from flambeau.settings import is_warn_always_enabled as is_warn_always_enabled
from flambeau.settings import set_deterministic_debug_mode as set_deterministic_debug_mode
from flambeau.settings import set_float32_matmul_precision as set_float32_matmul_precision
from flambeau.settings import set_flush_denormal as set_flush_denormal
from flambeau.settings import set_num_interop_threads as set_num_interop_threads
from flambeau.settings import set_warn_always as set_warn_always
from flambeau.settings import typename as typename
from flambeau.settings import use_deterministic_algorithms as use_deterministic_algorithms
from flambeau.size import Size as Size
from flambeau.storage import TypedStorage as TypedStorage
from flambeau.storage import UntypedStorage as UntypedStorage
from flambeau.tensor import Tensor as Tensor
__version__: _builtins.str
newaxis: None
from flambeau import nn as nn
from flambeau import optim as optim
from flambeau import sparse as sparse
from flambeau.sparse import sparse_csr_tensor as sparse_csr_tensor
from flambeau.explanation import Explanation as Explanation
from flambeau.explanation import explain as explain
from flambeau.serialization import load as load
from flambeau.serialization import save as save

def _int_mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Product of two int8 matrices (N, M) @ (M, P) with an int32 result, which wraps."""
def _standard_gamma(input: Tensor, generator: _Generator | None = None) -> Tensor:
    """Gamma values whose concentrations are the elements of input, with rate 1."""
def abs(input: Tensor | _builtins.float) -> Tensor:
    """Absolute value."""
def abs_(input: Tensor) -> Tensor:
    """In-place form of `abs`."""
def absolute(input: Tensor | _builtins.float) -> Tensor:
    """Absolute value."""
def absolute_(input: Tensor) -> Tensor:
    """In-place form of `absolute`."""
def acos(input: Tensor | _builtins.float) -> Tensor:
    """Inverse cosine."""
def acos_(input: Tensor) -> Tensor:
    """In-place form of `acos`."""
def acosh(input: Tensor | _builtins.float) -> Tensor:
    """Inverse hyperbolic cosine."""
def acosh_(input: Tensor) -> Tensor:
    """In-place form of `acosh`."""
def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of as many windows as the result has elements."""
def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: _builtins.bool = False) -> Any:
    """The largest element of each of as many windows as the result has elements."""
def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: _builtins.bool = False) -> Any:
    """The largest element of each of as many windows as the result has elements."""
def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: _builtins.bool = False) -> Any:
    """The largest element of each of as many windows as the result has elements."""
def add(input: Any, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
    """input + alpha * other."""
def add_(input: Any, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
    """In-place form of `add`."""
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * the sum over the batch of batch1 @ batch2."""
def addbmm_(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """In-place form of `addbmm`."""
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 / tensor2."""
def addcdiv_(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """In-place form of `addcdiv`."""
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 * tensor2."""
def addcmul_(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """In-place form of `addcmul`."""
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (mat1 @ mat2)."""
def addmm_(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """In-place form of `addmm`."""
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (mat @ vec)."""
def addmv_(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """In-place form of `addmv`."""
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2)."""
def addr_(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """In-place form of `addr`."""
def adjoint(input: Tensor) -> Tensor:
    """Matrices transposed and conjugated."""
def alias_copy(input: Tensor) -> Tensor:
    """The values in memory of their own."""
def all(input: Tensor, dim: Any = None, keepdim: _builtins.bool = False) -> Tensor:
    """Whether every element is nonzero, of all or over dimensions."""
def allclose(input: Tensor, other: Tensor, rtol: _builtins.float = ..., atol: _builtins.float = ..., equal_nan: _builtins.bool = False) -> _builtins.bool:
    """Whether `isclose` holds everywhere; executes what is pending."""
def alpha_dropout(input: Tensor, p: _builtins.float = ..., train: _builtins.bool = False) -> Tensor:
    """Dropout that keeps mean 0 and variance 1 of SELU networks."""
def alpha_dropout_(input: Tensor, p: _builtins.float = ..., train: _builtins.bool = False) -> Tensor:
    """In-place form of `alpha_dropout`."""
def amax(input: Tensor, dim: Any = ..., keepdim: _builtins.bool = False) -> Tensor:
    """Largest elements over dimensions; the gradient is shared equally on ties."""
def amin(input: Tensor, dim: Any = ..., keepdim: _builtins.bool = False) -> Tensor:
    """Smallest elements over dimensions; the gradient is shared equally on ties."""
def aminmax(input: Tensor, *, dim: _builtins.int | None = None, keepdim: _builtins.bool = False) -> Any:
    """(smallest, largest) elements, of all or over one dimension."""
def angle(input: Tensor) -> Tensor:
    """The angle of each number; for real ones 0, or pi below 0."""
def any(input: Tensor, dim: Any = None, keepdim: _builtins.bool = False) -> Tensor:
    """Whether any element is nonzero, of all or over dimensions."""
def arange(start: Any = 0, end: Any = None, step: Any = 1, *, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, pin_memory: _builtins.bool = False) -> Tensor:
    """start, start + step, ... below end."""
def arccos(input: Tensor | _builtins.float) -> Tensor:
    """Inverse cosine."""
def arccos_(input: Tensor) -> Tensor:
    """In-place form of `arccos`."""
def arccosh(input: Tensor | _builtins.float) -> Tensor:
    """Inverse hyperbolic cosine."""
def arccosh_(input: Tensor) -> Tensor:
    """In-place form of `arccosh`."""
def arcsin(input: Tensor | _builtins.float) -> Tensor:
    """Inverse sine."""
def arcsin_(input: Tensor) -> Tensor:
    """In-place form of `arcsin`."""
def arcsinh(input: Tensor | _builtins.float) -> Tensor:
    """Inverse hyperbolic sine."""
def arcsinh_(input: Tensor) -> Tensor:
    """In-place form of `arcsinh`."""
def arctan(input: Tensor | _builtins.float) -> Tensor:
    """Inverse tangent."""
def arctan2(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """Angle of the point (other, input), in (-pi, pi]."""
def arctan2_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `arctan2`."""
def arctan_(input: Tensor) -> Tensor:
    """In-place form of `arctan`."""
def arctanh(input: Tensor | _builtins.float) -> Tensor:
    """Inverse hyperbolic tangent."""
def arctanh_(input: Tensor) -> Tensor:
    """In-place form of `arctanh`."""
def argmax(input: Tensor, dim: _builtins.int | None = None, keepdim: _builtins.bool = False) -> Tensor:
    """Index of the largest element (of the flattened tensor when dim is None), int64."""
def argmin(input: Tensor, dim: _builtins.int | None = None, keepdim: _builtins.bool = False) -> Tensor:
    """Index of the smallest element (of the flattened tensor when dim is None), int64."""
def argsort(input: Tensor, dim: _builtins.int = -1, descending: _builtins.bool = False, stable: _builtins.bool = False) -> Tensor:
    """Indices that sort a dimension."""
def argwhere(input: Tensor) -> Tensor:
    """(n, ndim) indices of the nonzero elements, row-major."""
def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: _builtins.int | None = None) -> Tensor:
    """The storage of `input` read with the given size, strides and offset (in elements)."""
def as_strided_(input: Tensor, size: Any, stride: Any, storage_offset: _builtins.int | None = None) -> Any:
    """In-place form of `as_strided`: the same memory, shown otherwise."""
def as_strided_copy(input: Tensor, size: Any, stride: Any, storage_offset: _builtins.int | None = None) -> Tensor:
    """As `as_strided`, in memory of its own."""
def as_strided_scatter(input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: _builtins.int | None = None) -> Tensor:
    """A copy of input with src where `as_strided` of these arguments reads."""
def as_tensor(data: Any, dtype: _DType | None = None, device: Any = None) -> Tensor:
    """The data as a tensor, sharing memory where it can (tensors, NumPy arrays)."""
def asarray(obj: Any, *, dtype: _DType | None = None, device: Any = None, copy: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """An object as a tensor, over its own memory where it has some and nothing is to change."""
def asin(input: Tensor | _builtins.float) -> Tensor:
    """Inverse sine."""
def asin_(input: Tensor) -> Tensor:
    """In-place form of `asin`."""
def asinh(input: Tensor | _builtins.float) -> Tensor:
    """Inverse hyperbolic sine."""
def asinh_(input: Tensor) -> Tensor:
    """In-place form of `asinh`."""
def atan(input: Tensor | _builtins.float) -> Tensor:
    """Inverse tangent."""
def atan2(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """Angle of the point (other, input), in (-pi, pi]."""
def atan2_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `atan2`."""
def atan_(input: Tensor) -> Tensor:
    """In-place form of `atan`."""
def atanh(input: Tensor | _builtins.float) -> Tensor:
    """Inverse hyperbolic tangent."""
def atanh_(input: Tensor) -> Tensor:
    """In-place form of `atanh`."""
def atleast_1d(*tensors: Any) -> Any:
    """Tensors with dimensions of size 1 added up to 1 dimensions."""
def atleast_2d(*tensors: Any) -> Any:
    """Tensors with dimensions of size 1 added up to 2 dimensions."""
def atleast_3d(*tensors: Any) -> Any:
    """Tensors with dimensions of size 1 added up to 3 dimensions."""
def avg_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: _builtins.bool = False, count_include_pad: _builtins.bool = True) -> Tensor:
    """The mean of each window of a signal of 1 dimension(s)."""
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * bmm(batch1, batch2)."""
def baddbmm_(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """In-place form of `baddbmm`."""
def bartlett_window(window_length: _builtins.int, periodic: _builtins.bool = True, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, pin_memory: _builtins.bool = False, requires_grad: _builtins.bool = False) -> Tensor:
    """`signal.windows.bartlett`, periodic by default."""
def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None, bias: Tensor | None = None, training: _builtins.bool = False, momentum: _builtins.float = ..., eps: _builtins.float = ..., cudnn_enabled: _builtins.bool = True) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, one mean and variance a channel."""
def bernoulli(input: Tensor, p: Any = None, *, generator: _Generator | None = None, out: Any = None) -> Tensor:
    """1 with the probability that each element of input gives (or with p), else 0."""
def bernoulli_(self: Tensor, p: Any = ..., *, generator: _Generator | None = None) -> Tensor:
    """Fill with 1 with probability p (a number or a tensor of them), else 0; -> self."""
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[.., o] = sum over i, j of input1[.., i] * weight[o, i, j] * input2[.., j] + bias[o]."""
def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean", pos_weight: Tensor | None = None) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), without overflow."""
def bincount(input: Tensor, weights: Tensor | None = None, minlength: _builtins.int = 0) -> Tensor:
    """How often each integer occurs in a vector of non-negative integers (or its weights' sum)."""
def binomial(count: Tensor, prob: Tensor, generator: _Generator | None = None) -> Tensor:
    """Successes among `count` trials, each with probability `prob`; both broadcast."""
def bitwise_and(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """Bits set in both; logical and for bools."""
def bitwise_and_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `bitwise_and`."""
def bitwise_left_shift(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input * 2 ** other on integers."""
def bitwise_left_shift_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `bitwise_left_shift`."""
def bitwise_not(input: Tensor | _builtins.float) -> Tensor:
    """Every bit inverted; logical not for bools."""
def bitwise_not_(input: Tensor) -> Tensor:
    """In-place form of `bitwise_not`."""
def bitwise_or(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """Bits set in either; logical or for bools."""
def bitwise_or_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `bitwise_or`."""
def bitwise_right_shift(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input shifted right by other bits, keeping the sign."""
def bitwise_right_shift_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `bitwise_right_shift`."""
def bitwise_xor(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """Bits set in exactly one."""
def bitwise_xor_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `bitwise_xor`."""
def blackman_window(window_length: _builtins.int, periodic: _builtins.bool = True, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, pin_memory: _builtins.bool = False, requires_grad: _builtins.bool = False) -> Tensor:
    """`signal.windows.blackman`, periodic by default."""
def block_diag(*tensors: Tensor) -> Tensor:
    """Matrices along the diagonal of a larger one."""
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of two batches of matrices (B, N, M) @ (B, M, P)."""
def broadcast_shapes(*shapes: Any) -> _Size:
    """The shape that tensors of these shapes broadcast to; an int is a shape of one dimension."""
def broadcast_tensors(*tensors: Any) -> _builtins.tuple[Tensor, ...]:
    """All tensors expanded to their common shape."""
def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """`expand` to a shape."""
def bucketize(input: Any, boundaries: Tensor, *, out_int32: _builtins.bool = False, right: _builtins.bool = False) -> Tensor:
    """The bucket of each value between ascending boundaries."""
def can_cast(a: _DType, b: _DType) -> _builtins.bool:
    """Whether an in-place result of dtype `a` may be stored in `b`: never down a category."""
def cartesian_prod(*tensors: Tensor) -> Tensor:
    """Every combination of the vectors' elements, one a row."""
def cat(tensors: Any, dim: _builtins.int = 0) -> Tensor:
    """Tensors joined along an existing dimension; dtypes are promoted."""
def cauchy_(self: Tensor, median: _builtins.float = 0, sigma: _builtins.float = 1, *, generator: _Generator | None = None) -> Tensor:
    """Fill with Cauchy values of the given median and scale; -> self."""
def cdist(x1: Tensor, x2: Tensor, p: _builtins.float = ..., compute_mode: _builtins.str | None = None) -> Tensor:
    """Distances (..., P, R) in the p-norm between the rows of (..., P, M) and (..., R, M)."""
def ceil(input: Tensor | _builtins.float) -> Tensor:
    """The smallest integer not below input."""
def ceil_(input: Tensor) -> Tensor:
    """In-place form of `ceil`."""
def celu(input: Tensor, alpha: _builtins.float = ...) -> Tensor:
    """x above 0, alpha * (exp(x / alpha) - 1) elsewhere."""
def celu_(input: Tensor, alpha: _builtins.float = ...) -> Tensor:
    """In-place form of `celu`."""
def chain_matmul(*matrices: Tensor) -> Tensor:
    """Product of several matrices in the cheapest order."""
def channel_shuffle(input: Tensor, groups: _builtins.int) -> Tensor:
    """Channels of (N, C, *) dealt out: those of different groups stand beside each other."""
def cholesky(input: Tensor, upper: _builtins.bool = False) -> Tensor:
    """L with input = L L^H; `upper`: L^H. torch's older name of `linalg.cholesky`."""
def cholesky_inverse(input: Tensor, upper: _builtins.bool = False) -> Tensor:
    """The inverse of A, from A's Cholesky factor."""
def cholesky_solve(input: Tensor, L: Tensor, upper: _builtins.bool = False) -> Tensor:
    """X with A X = input, from A's Cholesky factor."""
def chunk(input: Tensor, chunks: _builtins.int, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
    """At most `chunks` views of equal size (the last may be smaller)."""
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """The nearest value in [min, max]; max where the bounds cross; NaN stays."""
def clamp_(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """In-place form of `clamp`."""
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """The smaller of input and a bound."""
def clamp_max_(input: Tensor, max: Any) -> Tensor:
    """In-place form of `clamp_max`."""
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """The larger of input and a bound."""
def clamp_min_(input: Tensor, min: Any) -> Tensor:
    """In-place form of `clamp_min`."""
def clip(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """The nearest value in [min, max]; max where the bounds cross; NaN stays."""
def clip_(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """In-place form of `clip`."""
def clone(input: Tensor | _builtins.float, *, memory_format: Any = None) -> Tensor:
    """A copy with memory of its own, differentiable."""
def clone_contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if it is row-major, else a copy that is."""
def column_stack(tensors: Any) -> Tensor:
    """Vectors as columns, matrices side by side."""
def combinations(input: Tensor, r: _builtins.int = 2, with_replacement: _builtins.bool = False) -> Tensor:
    """Every combination of r elements of a vector, one a row."""
def complex(real: Tensor, imag: Tensor) -> Tensor:
    """Complex numbers of their real and imaginary parts, which broadcast."""
def concat(tensors: Any, dim: _builtins.int = 0) -> Tensor:
    """Tensors joined along an existing dimension; dtypes are promoted."""
def concatenate(tensors: Any, dim: _builtins.int = 0) -> Tensor:
    """Tensors joined along an existing dimension; dtypes are promoted."""
def conj(input: Tensor) -> Tensor:
    """The complex conjugate; a real tensor itself."""
def conj_physical(input: Tensor | _builtins.float) -> Tensor:
    """The complex conjugate, in memory of its own."""
def conj_physical_(input: Tensor) -> Tensor:
    """In-place form of `conj_physical`."""
def constant_pad_nd(input: Tensor, pad: Any, value: Any = 0) -> Tensor:
    """`nn.functional.pad` with a constant."""
def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if it is row-major, else a copy that is."""
def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: _builtins.int = 1) -> Tensor:
    """Convolution along one dimension."""
def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: _builtins.int = 1) -> Tensor:
    """Convolution of images: as `conv1d`, with (N, C, H, W) and (M, C / groups, KH, KW)."""
def conv3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: _builtins.int = 1) -> Tensor:
    """Convolution of volumes: as `conv1d`, with (N, C, D, H, W) and (M, C / groups, KD, KH, KW)."""
def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: _builtins.int = 0) -> Tensor:
    """Convolution of sequences with the time in front."""
def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: _builtins.int = 1, dilation: Any = 1) -> Tensor:
    """Transposed convolution along one dimension."""
def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: _builtins.int = 1, dilation: Any = 1) -> Tensor:
    """Transposed convolution of images: as `conv_transpose1d`, with (C, M / groups, KH, KW)."""
def conv_transpose3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: _builtins.int = 1, dilation: Any = 1) -> Tensor:
    """Transposed convolution of volumes: as `conv_transpose1d`, with three sizes each."""
def convolution(input: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: _builtins.bool, output_padding: Any, groups: _builtins.int) -> Tensor:
    """Sums of products of a kernel with the parts of an image that it covers."""
def copy_(self: Tensor, src: Any, non_blocking: _builtins.bool = False) -> Tensor:
    """Overwrite this tensor with `src`, broadcast and converted; -> self."""
def copysign(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """The magnitude of input with the sign of other."""
def copysign_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `copysign`."""
def corrcoef(input: Tensor) -> Tensor:
    """Pearson's correlation of variables (rows) over observations (columns)."""
def cos(input: Tensor | _builtins.float) -> Tensor:
    """Cosine of radians."""
def cos_(input: Tensor) -> Tensor:
    """In-place form of `cos`."""
def cosh(input: Tensor | _builtins.float) -> Tensor:
    """Hyperbolic cosine."""
def cosh_(input: Tensor) -> Tensor:
    """In-place form of `cosh`."""
def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: _builtins.float = 0, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1."""
def cosine_similarity(x1: Tensor, x2: Tensor, dim: _builtins.int = 1, eps: _builtins.float = ...) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) * max(|x2|, eps)) along one dimension of the broadcast tensors."""
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """Number of nonzero elements, of all or over dimensions, int64."""
def cov(input: Tensor, *, correction: _builtins.int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Tensor:
    """Covariance of variables (rows) over observations (columns), optionally weighted."""
def cross(input: Tensor, other: Tensor, dim: _builtins.int | None = None) -> Tensor:
    """Cross product of 3-vectors along a dimension (by default the first of size 3)."""
def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: _builtins.int = 0, reduction: Any = "mean", zero_infinity: _builtins.bool = False) -> Tensor:
    """-log probability of target sequences over all their alignments with the input."""
def cummax(input: Tensor, dim: _builtins.int) -> Any:
    """(values, indices) of the largest element up to each one along a dimension."""
def cummin(input: Tensor, dim: _builtins.int) -> Any:
    """(values, indices) of the smallest element up to each one along a dimension."""
def cumprod(input: Tensor, dim: _builtins.int, *, dtype: _DType | None = None) -> Tensor:
    """Product of the elements up to each one along a dimension. Integers and bools become int64."""
def cumprod_(input: Tensor, dim: _builtins.int, *, dtype: _DType | None = None) -> Tensor:
    """In-place form of `cumprod`."""
def cumsum(input: Tensor, dim: _builtins.int, *, dtype: _DType | None = None) -> Tensor:
    """Sum of the elements up to each one along a dimension. Integers and bools become int64."""
def cumsum_(input: Tensor, dim: _builtins.int, *, dtype: _DType | None = None) -> Tensor:
    """In-place form of `cumsum`."""
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: _builtins.int = -1) -> Tensor:
    """Running integral of samples along a dimension by the trapezoidal rule."""
def deg2rad(input: Tensor) -> Tensor:
    """Degrees as radians."""
def deg2rad_(input: Tensor) -> Tensor:
    """In-place form of `deg2rad`."""
def det(A: Tensor) -> Tensor:
    """Determinants of square matrices."""
def detach(input: Tensor) -> Tensor:
    """The same memory, cut off from the tape."""
def detach_(input: Tensor) -> Tensor:
    """Cut a tensor off from the tape in place."""
def detach_copy(self: Any) -> Tensor:
    """As `detach`, in memory of its own."""
def diag(input: Tensor, diagonal: _builtins.int = 0) -> Tensor:
    """A vector as a diagonal matrix, or a matrix's diagonal."""
def diag_embed(input: Tensor, offset: _builtins.int = 0, dim1: _builtins.int = -2, dim2: _builtins.int = -1) -> Tensor:
    """Matrices whose diagonals are the last dimension, zeros elsewhere."""
def diagflat(input: Tensor, offset: _builtins.int = 0) -> Tensor:
    """The flattened elements as a diagonal matrix."""
def diagonal(input: Tensor, offset: _builtins.int = 0, dim1: _builtins.int = 0, dim2: _builtins.int = 1) -> Tensor:
    """A view of the diagonal of two dimensions, as the last dimension."""
def diagonal_copy(input: Tensor, offset: _builtins.int = 0, dim1: _builtins.int = 0, dim2: _builtins.int = 1) -> Tensor:
    """As `diagonal`, in memory of its own."""
def diagonal_scatter(input: Tensor, src: Tensor, offset: _builtins.int = 0, dim1: _builtins.int = 0, dim2: _builtins.int = 1) -> Tensor:
    """A copy of input with src on a diagonal."""
def diff(input: Tensor, n: _builtins.int = 1, dim: _builtins.int = -1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
    """Differences of neighbours along a dimension, n times."""
def digamma(input: Tensor | _builtins.float) -> Tensor:
    """Derivative of lgamma."""
def digamma_(input: Tensor) -> Tensor:
    """In-place form of `digamma`."""
def dist(input: Tensor, other: Tensor, p: Any = 2) -> Tensor:
    """The p-norm of input - other."""
def div(input: Tensor, other: Any, *, rounding_mode: _builtins.str | None = None) -> Tensor:
    """input / other, rounded as `rounding_mode` says."""
def div_(input: Tensor, other: Any, *, rounding_mode: _builtins.str | None = None) -> Tensor:
    """In-place form of `div`."""
def divide(input: Tensor, other: Any, *, rounding_mode: _builtins.str | None = None) -> Tensor:
    """input / other, rounded as `rounding_mode` says."""
def divide_(input: Tensor, other: Any, *, rounding_mode: _builtins.str | None = None) -> Tensor:
    """In-place form of `divide`."""
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Sum of the products of two vectors' elements."""
def dropout(input: Tensor, p: _builtins.float = ..., train: _builtins.bool = True) -> Tensor:
    """Each element zeroed with probability p and the others scaled by 1 / (1 - p), in training."""
def dropout_(input: Tensor, p: _builtins.float = ..., train: _builtins.bool = True) -> Tensor:
    """In-place form of `dropout`."""
def dsplit(input: Tensor, indices_or_sections: Any) -> _builtins.tuple[Tensor, ...]:
    """Split along the third dimension."""
def dstack(tensors: Any) -> Tensor:
    """Joined along the third dimension."""
def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products named by subscripts, e.g. `einsum("bij,bjk->bik", x, y)`."""
def empty(*size: Any, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, pin_memory: _builtins.bool = False, memory_format: Any = None) -> Tensor:
    """A tensor whose values do not matter (zeros here: reading them is never undefined)."""
def empty_like(input: Tensor, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, memory_format: Any = None, pin_memory: _builtins.bool = False) -> Tensor:
    """As `empty`, with the shape, dtype and device of a tensor."""
def empty_permuted(size: Any, physical_layout: Any, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, pin_memory: _builtins.bool = False) -> Tensor:
    """A tensor whose dimensions lie in memory in the order `physical_layout`, outermost first."""
def empty_strided(size: Any, stride: Any, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, pin_memory: _builtins.bool = False) -> Tensor:
    """A tensor of given size and strides whose values do not matter (zeros here)."""
def eq(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input == other."""
def equal(input: Tensor, other: Tensor) -> _builtins.bool:
    """Whether shapes and all elements are equal; executes what is pending."""
def erf(input: Tensor | _builtins.float) -> Tensor:
    """Error function, 2/sqrt(pi) * integral of exp(-t^2) from 0 to input."""
def erf_(input: Tensor) -> Tensor:
    """In-place form of `erf`."""
def erfc(input: Tensor | _builtins.float) -> Tensor:
    """1 - erf(input), accurate for large input."""
def erfc_(input: Tensor) -> Tensor:
    """In-place form of `erfc`."""
def erfinv(input: Tensor | _builtins.float) -> Tensor:
    """Inverse error function on (-1, 1)."""
def erfinv_(input: Tensor) -> Tensor:
    """In-place form of `erfinv`."""
def exp(input: Tensor | _builtins.float) -> Tensor:
    """e ** input."""
def exp2(input: Tensor | _builtins.float) -> Tensor:
    """2 ** input."""
def exp2_(input: Tensor) -> Tensor:
    """In-place form of `exp2`."""
def exp_(input: Tensor) -> Tensor:
    """In-place form of `exp`."""
def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Size-1 dimensions repeated without a copy; -1 keeps a size."""
def expand_copy(input: Tensor, *sizes: Any) -> Tensor:
    """As `expand`, in memory of its own."""
def expm1(input: Tensor | _builtins.float) -> Tensor:
    """exp(input) - 1, accurate near 0."""
def expm1_(input: Tensor) -> Tensor:
    """In-place form of `expm1`."""
def exponential_(self: Tensor, lambd: _builtins.float = 1, *, generator: _Generator | None = None) -> Tensor:
    """Fill with exponential values of the given rate; -> self."""
def eye(n: _builtins.int, m: _builtins.int | None = None, *, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """The identity matrix of size (n, m)."""
def fake_quantize_per_channel_affine(input: Tensor, scale: Tensor, zero_point: Tensor, axis: _builtins.int, quant_min: _builtins.int, quant_max: _builtins.int) -> Tensor:
    """`fake_quantize_per_tensor_affine` with a scale and zero point for each index of a dimension."""
def fake_quantize_per_tensor_affine(input: Tensor, scale: Any, zero_point: Any, quant_min: _builtins.int, quant_max: _builtins.int) -> Tensor:
    """What is left of values after they were quantised; the gradient goes straight through."""
def feature_alpha_dropout(input: Tensor, p: _builtins.float = ..., train: _builtins.bool = False) -> Tensor:
    """`alpha_dropout` of whole channels: one draw for each (n, c) of (N, C, ..)."""
def feature_alpha_dropout_(input: Tensor, p: _builtins.float = ..., train: _builtins.bool = False) -> Tensor:
    """In-place form of `feature_alpha_dropout`."""
def feature_dropout(input: Tensor, p: _builtins.float = ..., train: _builtins.bool = True) -> Tensor:
    """`dropout` of whole channels: one draw for each (n, c) of (N, C, ..)."""
def feature_dropout_(input: Tensor, p: _builtins.float = ..., train: _builtins.bool = True) -> Tensor:
    """In-place form of `feature_dropout`."""
def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor like input full of one value, a number or a 0-d tensor."""
def fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to one value; -> self."""
def fix(input: Tensor | _builtins.float) -> Tensor:
    """The integer part, towards zero."""
def fix_(input: Tensor) -> Tensor:
    """In-place form of `fix`."""
def flatten(input: Tensor, start_dim: _builtins.int = 0, end_dim: _builtins.int = -1) -> Tensor:
    """Dimensions start_dim..end_dim merged into one."""
def flip(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    """A copy with dimensions in reverse order."""
def fliplr(input: Tensor) -> Tensor:
    """Columns in reverse order."""
def flipud(input: Tensor) -> Tensor:
    """Rows in reverse order."""
def float_power(input: Any, exponent: Any) -> Tensor:
    """input ** exponent in float64, or complex128."""
def float_power_(input: Any, exponent: Any) -> Tensor:
    """In-place form of `float_power`."""
def floor(input: Tensor | _builtins.float) -> Tensor:
    """The largest integer not above input."""
def floor_(input: Tensor) -> Tensor:
    """In-place form of `floor`."""
def floor_divide(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """floor(input / other), elementwise. Integer division by zero raises at the flush."""
def floor_divide_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `floor_divide`."""
def fmax(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """The larger of two, ignoring a NaN."""
def fmax_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `fmax`."""
def fmin(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """The smaller of two, ignoring a NaN."""
def fmin_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `fmin`."""
def fmod(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input - trunc(input / other) * other: the sign of `input`, as C's fmod."""
def fmod_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `fmod`."""
def frac(input: Tensor) -> Tensor:
    """input - trunc(input)."""
def frac_(input: Tensor) -> Tensor:
    """In-place form of `frac`."""
def frexp(input: Tensor) -> Any:
    """(mantissa, exponent) with input = mantissa * 2^exponent and 0.5 <= |mantissa| < 1."""
def frobenius_norm(input: Tensor, dim: Any, keepdim: _builtins.bool = False) -> Tensor:
    """The root of the sum of squares over dimensions; over all of them where there are none."""
def from_numpy(ndarray: Any) -> Tensor:
    """A tensor over a NumPy array's own memory: each sees the other's writes."""
def frombuffer(buffer: Any, *, dtype: _DType, count: _builtins.int = -1, offset: _builtins.int = 0, requires_grad: _builtins.bool = False) -> Tensor:
    """A 1-d tensor over an object that exposes the buffer protocol."""
def full(size: Any, fill_value: Any, *, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, pin_memory: _builtins.bool = False) -> Tensor:
    """A tensor of one value; the dtype follows the value unless given."""
def full_like(input: Tensor, fill_value: Any, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, memory_format: Any = None) -> Tensor:
    """A tensor of one value with the shape, dtype and device of another."""
def gather(input: Tensor, dim: _builtins.int, index: Tensor, *, sparse_grad: _builtins.bool = False) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on; the shape of `index`."""
def gcd(input: Tensor, other: Tensor) -> Tensor:
    """Greatest common divisor of integers, not negative."""
def gcd_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `gcd`."""
def ge(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input >= other."""
def geometric_(self: Tensor, p: _builtins.float, *, generator: _Generator | None = None) -> Tensor:
    """Fill with the number of trials to the first success of probability p; -> self."""
def geqrf(input: Tensor) -> Any:
    """(a, tau): the QR factorization as R above Householder vectors, and their factors."""
def ger(input: Tensor, vec2: Tensor) -> Tensor:
    """Products of every pair of elements of two vectors."""
def get_rng_state() -> Tensor:
    """State of the default generator."""
def gradient(input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: _builtins.int = 1) -> _builtins.tuple[Tensor, ...]:
    """The derivative along each dimension, by central differences."""
def greater(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input > other."""
def greater_equal(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input >= other."""
def grid_sampler(input: Tensor, grid: Tensor, interpolation_mode: _builtins.int, padding_mode: _builtins.int, align_corners: _builtins.bool) -> Tensor:
    """`nn.functional.grid_sample` with numbers for its modes."""
def grid_sampler_2d(input: Tensor, grid: Tensor, interpolation_mode: _builtins.int, padding_mode: _builtins.int, align_corners: _builtins.bool) -> Tensor:
    """`nn.functional.grid_sample` with numbers for its modes."""
def grid_sampler_3d(input: Tensor, grid: Tensor, interpolation_mode: _builtins.int, padding_mode: _builtins.int, align_corners: _builtins.bool) -> Tensor:
    """`nn.functional.grid_sample` with numbers for its modes."""
def group_norm(input: Tensor, num_groups: _builtins.int, weight: Tensor | None = None, bias: Tensor | None = None, eps: _builtins.float = ..., cudnn_enabled: _builtins.bool = True) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, one mean and variance a group of channels."""
def gru(input: Tensor, second: Any, third: Any, *rest: Any) -> _builtins.tuple[Tensor, ...]:
    """Gated recurrent units (Cho et al., arXiv:1406.1078)."""
def gru_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> Tensor:
    """One step of gated recurrent units; weights (3 * H, .) for the reset, update and new gates,"""
def gt(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input > other."""
def hamming_window(window_length: _builtins.int, periodic: _builtins.bool = True, alpha: _builtins.float = ..., beta: _builtins.float = ..., *, dtype: _DType | None = None, layout: Any = None, device: Any = None, pin_memory: _builtins.bool = False, requires_grad: _builtins.bool = False) -> Tensor:
    """alpha - beta cos(2 pi n / N), periodic by default."""
def hann_window(window_length: _builtins.int, periodic: _builtins.bool = True, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, pin_memory: _builtins.bool = False, requires_grad: _builtins.bool = False) -> Tensor:
    """`signal.windows.hann`, periodic by default."""
def hardshrink(input: Tensor, lambd: _builtins.float = ...) -> Tensor:
    """x outside [-lambd, lambd], 0 inside."""
def hash_tensor(input: Tensor, dim: Any = ..., *, keepdim: _builtins.bool = False, mode: _builtins.int = 0) -> Tensor:
    """A checksum over dimensions: the elements' bits as 64-bit numbers under exclusive or."""
def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 below 0, 1 above, `values` at 0."""
def heaviside_(input: Tensor, values: Tensor) -> Tensor:
    """In-place form of `heaviside`."""
def hinge_embedding_loss(input: Tensor, target: Tensor, margin: _builtins.float = ..., size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1."""
def histc(input: Tensor, bins: _builtins.int = 100, min: Any = 0, max: Any = 0) -> Tensor:
    """Counts of the elements in equal bins over [min, max], or over their range if equal."""
def histogram(input: Tensor, bins: Any, *, range: Any = None, weight: Tensor | None = None, density: _builtins.bool = False, out: Any = None) -> Any:
    """(hist, bin_edges): weights of the elements in bins, whose number or edges are given."""
def histogramdd(input: Tensor, bins: Any, *, range: Any = None, weight: Tensor | None = None, density: _builtins.bool = False) -> Any:
    """(hist, bin_edges): weights of the points of the last dimension in the cells of a grid."""
def householder_product(input: Tensor, tau: Tensor) -> Tensor:
    """The first columns of the product of Householder reflections, as `geqrf` gives them."""
def hsplit(input: Tensor, indices_or_sections: Any) -> _builtins.tuple[Tensor, ...]:
    """Split along the second dimension (the first for vectors)."""
def hstack(tensors: Any) -> Tensor:
    """Joined along the second dimension (the first for vectors)."""
def hypot(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """sqrt(input**2 + other**2)."""
def hypot_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `hypot`."""
def i0(input: Tensor) -> Tensor:
    """Modified Bessel function of the first kind, of order 0."""
def i0_(input: Tensor) -> Tensor:
    """In-place form of `i0`."""
def igamma(input: Tensor, other: Tensor) -> Tensor:
    """Regularized lower incomplete gamma function of order input."""
def igamma_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `igamma`."""
def igammac(input: Tensor, other: Tensor) -> Tensor:
    """Regularized upper incomplete gamma function of order input."""
def igammac_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `igammac`."""
def imag(input: Tensor) -> Tensor:
    """The imaginary part: a view, or where gradients are computed a tensor of its own."""
def index_add(input: Tensor, dim: _builtins.int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """input with alpha * source added at the entries of one dimension that index names."""
def index_add_(input: Tensor, dim: _builtins.int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """In-place form of `index_add`."""
def index_copy(input: Tensor, dim: _builtins.int, index: Tensor, source: Tensor) -> Tensor:
    """input with source written at the entries of one dimension that index names."""
def index_copy_(input: Tensor, dim: _builtins.int, index: Tensor, source: Tensor) -> Tensor:
    """In-place form of `index_copy`."""
def index_fill(input: Tensor, dim: _builtins.int, index: Tensor, value: Any) -> Tensor:
    """input with one value at the entries of one dimension that index names."""
def index_fill_(input: Tensor, dim: _builtins.int, index: Tensor, value: Any) -> Tensor:
    """In-place form of `index_fill`."""
def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: _builtins.bool = False) -> Tensor:
    """input with values put (or added) at a tuple of index tensors; None keeps a dimension."""
def index_put_(input: Tensor, indices: Any, values: Tensor, accumulate: _builtins.bool = False) -> Tensor:
    """In-place form of `index_put`."""
def index_reduce(input: Tensor, dim: _builtins.int, index: Tensor, source: Tensor, reduce: _builtins.str, *, include_self: _builtins.bool = True) -> Tensor:
    """input with source's entries along a dimension combined into the entries that index names."""
def index_reduce_(input: Tensor, dim: _builtins.int, index: Tensor, source: Tensor, reduce: _builtins.str, *, include_self: _builtins.bool = True) -> Tensor:
    """In-place form of `index_reduce`."""
def index_select(input: Tensor, dim: _builtins.int, index: Tensor) -> Tensor:
    """Entries of one dimension chosen by a 1-d integer tensor."""
def initial_seed() -> _builtins.int:
    """Seed of the default generator."""
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimensions."""
def inverse(A: Tensor) -> Tensor:
    """Inverses of square matrices."""
def is_complex(input: Tensor) -> Any:
    """Whether the dtype is a complex type."""
def is_conj(input: Tensor) -> _builtins.bool:
    """Whether the tensor is a conjugate yet to be computed: never."""
def is_floating_point(input: Tensor) -> Any:
    """Whether the dtype is a floating-point type."""
def is_inference(input: Tensor) -> Any:
    """Whether the tensor was made in inference mode."""
def is_neg(self: Tensor, *args: Any) -> _builtins.bool:
    """False."""
def is_nonzero(input: Tensor) -> _builtins.bool:
    """Whether the only element is not 0; executes what is pending."""
def is_same_size(input: Tensor) -> Any:
    """Whether the shapes are equal."""
def is_signed(input: Tensor) -> Any:
    """Whether the dtype has negative values."""
def is_tensor(obj: Any) -> _builtins.bool:
    """Whether an object is a tensor."""
def isclose(input: Tensor, other: Tensor, rtol: _builtins.float = ..., atol: _builtins.float = ..., equal_nan: _builtins.bool = False) -> Tensor:
    """|input - other| <= atol + rtol * |other|, elementwise; infinities only equal themselves."""
def isfinite(input: Tensor | _builtins.float) -> Tensor:
    """Whether each element is neither NaN nor infinite."""
def isin(elements: Any, test_elements: Any, *, assume_unique: _builtins.bool = False, invert: _builtins.bool = False) -> Tensor:
    """Whether each element is among the test elements (with `invert`, is not)."""
def isinf(input: Tensor | _builtins.float) -> Tensor:
    """Whether each element is infinite."""
def isnan(input: Tensor | _builtins.float) -> Tensor:
    """Whether each element is NaN."""
def isneginf(input: Tensor) -> Tensor:
    """Whether each element is -inf."""
def isposinf(input: Tensor) -> Tensor:
    """Whether each element is +inf."""
def isreal(input: Tensor) -> Tensor:
    """Whether each element has no imaginary part."""
def istft(input: Tensor, n_fft: _builtins.int, hop_length: _builtins.int | None = None, win_length: _builtins.int | None = None, window: Tensor | None = None, center: _builtins.bool = True, normalized: _builtins.bool = False, onesided: _builtins.bool | None = None, length: _builtins.int | None = None, return_complex: _builtins.bool = False) -> Tensor:
    """The signal whose `stft` is nearest to input, by overlapping pieces."""
def kaiser_window(window_length: _builtins.int, periodic: _builtins.bool = True, beta: _builtins.float = ..., *, dtype: _DType | None = None, layout: Any = None, device: Any = None, pin_memory: _builtins.bool = False, requires_grad: _builtins.bool = False) -> Tensor:
    """`signal.windows.kaiser`, periodic by default."""
def kl_div(input: Tensor, target: Tensor, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean", log_target: _builtins.bool = False) -> Tensor:
    """target * (log target - input), pointwise, for log-probabilities `input`."""
def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker product."""
def kthvalue(input: Tensor, k: _builtins.int, dim: _builtins.int = -1, keepdim: _builtins.bool = False) -> Any:
    """(values, indices) of the k-th smallest element of a dimension, k from 1."""
def layer_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: _builtins.float = ..., cudnn_enable: _builtins.bool = True) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the trailing dimensions."""
def lcm(input: Tensor, other: Tensor) -> Tensor:
    """Least common multiple of integers, not negative."""
def lcm_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `lcm`."""
def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """input * 2 ** other."""
def ldexp_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `ldexp`."""
def le(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input <= other."""
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """input + weight * (end - input), exact at both ends."""
def lerp_(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """In-place form of `lerp`."""
def less(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input < other."""
def less_equal(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input <= other."""
def lgamma(input: Tensor | _builtins.float) -> Tensor:
    """Logarithm of the absolute value of the gamma function."""
def lgamma_(input: Tensor) -> Tensor:
    """In-place form of `lgamma`."""
def linspace(start: Any, end: Any, steps: _builtins.int, *, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """`steps` values evenly spaced from start to end, both included."""
def log(input: Tensor | _builtins.float) -> Tensor:
    """Natural logarithm."""
def log10(input: Tensor | _builtins.float) -> Tensor:
    """Logarithm to base 10."""
def log10_(input: Tensor) -> Tensor:
    """In-place form of `log10`."""
def log1p(input: Tensor | _builtins.float) -> Tensor:
    """log(1 + input), accurate near 0."""
def log1p_(input: Tensor) -> Tensor:
    """In-place form of `log1p`."""
def log2(input: Tensor | _builtins.float) -> Tensor:
    """Logarithm to base 2."""
def log2_(input: Tensor) -> Tensor:
    """In-place form of `log2`."""
def log_(input: Tensor) -> Tensor:
    """In-place form of `log`."""
def log_normal_(self: Tensor, mean: _builtins.float = 1, std: _builtins.float = 2, *, generator: _Generator | None = None) -> Tensor:
    """Fill with values whose logarithms are normal; -> self."""
def log_softmax(input: Tensor, dim: _builtins.int, dtype: _DType | None = None) -> Tensor:
    """log(softmax(x)) along one dimension, without under- or overflow."""
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(input) + exp(other)) without overflow."""
def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """log2(2 ** input + 2 ** other) without overflow."""
def logcumsumexp(input: Tensor, dim: _builtins.int) -> Tensor:
    """log(cumsum(exp(input))) along a dimension, without overflow."""
def logdet(A: Tensor) -> Tensor:
    """Logarithms of determinants; NaN for negative ones."""
def logical_and(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """Whether both are nonzero."""
def logical_not(input: Tensor | _builtins.float) -> Tensor:
    """Whether each element is zero."""
def logical_or(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """Whether either is nonzero."""
def logical_xor(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """Whether exactly one is nonzero."""
def logit(input: Tensor, eps: _builtins.float | None = None) -> Tensor:
    """log(x / (1 - x)), x first clamped to [eps, 1 - eps] when eps is given."""
def logit_(input: Tensor, eps: _builtins.float | None = None) -> Tensor:
    """In-place form of `logit`."""
def logspace(start: Any, end: Any, steps: _builtins.int, base: _builtins.float = ..., *, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """base ** linspace(start, end, steps)."""
def logsumexp(input: Tensor, dim: Any, keepdim: _builtins.bool = False) -> Tensor:
    """log(sum(exp(input))) over dimensions, shifted by the maximum so that nothing overflows."""
def lstm(input: Tensor, second: Any, third: Any, *rest: Any) -> _builtins.tuple[Tensor, ...]:
    """Long short-term memory (Hochreiter and Schmidhuber, 1997)."""
def lstm_cell(input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> _builtins.tuple[Tensor, Tensor]:
    """One step of an LSTM."""
def lt(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input < other."""
def lu(A: Tensor, pivot: _builtins.bool = True, get_infos: _builtins.bool = False, out: Any = None) -> Any:
    """(LU, pivots), with `get_infos` (LU, pivots, infos); torch's older `linalg.lu_factor`."""
def lu_solve(input: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """X with A X = input, from A's LU factors; torch's older form of `linalg.lu_solve`."""
def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: _builtins.bool = True, unpack_pivots: _builtins.bool = True) -> Any:
    """(P, L, U) of a packed factorization; what is not asked for is empty."""
def manual_seed(seed: _builtins.int) -> _Generator:
    """Seed the default generator; -> it."""
def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: _builtins.float = ..., size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """max(0, -target * (input1 - input2) + margin)."""
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """input with one value where the mask holds."""
def masked_fill_(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """In-place form of `masked_fill`."""
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """input with the elements of source, in order, where the mask holds."""
def masked_scatter_(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """In-place form of `masked_scatter`."""
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, as a vector; both broadcast."""
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product: dot product of vectors, matrix-vector, or batched matrix-matrix."""
def matrix_exp(A: Tensor) -> Tensor:
    """Exponentials of square matrices, sum of A^k / k!."""
def matrix_power(input: Tensor, n: _builtins.int) -> Tensor:
    """A square matrix multiplied by itself n times, by squaring; its inverse where n < 0."""
def max(input: Tensor, *args: Any, out: Any = None, **kwargs: Any) -> Any:
    """Largest element; with `dim` (values, indices); with a tensor the elementwise maximum."""
def max_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: _builtins.bool = False) -> Any:
    """The largest element of each window of a signal of 1 dimension(s)."""
def max_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: _builtins.bool = False) -> Any:
    """The largest element of each window of a signal of 2 dimension(s)."""
def max_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: _builtins.bool = False) -> Any:
    """The largest element of each window of a signal of 3 dimension(s)."""
def maximum(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """The larger of two; NaN when either is. The gradient is shared equally on ties."""
def maximum_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `maximum`."""
def mean(input: Tensor, dim: Any = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
    """Mean over dimensions (all by default)."""
def median(input: Tensor, dim: _builtins.int | None = None, keepdim: _builtins.bool = False) -> Any:
    """The lower median of all elements, or (values, indices) along a dimension; NaN if any is."""
def meshgrid(*tensors: Any, indexing: _builtins.str | None = None) -> _builtins.tuple[Tensor, ...]:
    """Vectors as the coordinates of a grid: one tensor each, expanded over the others."""
def min(input: Tensor, *args: Any, out: Any = None, **kwargs: Any) -> Any:
    """Smallest element; with `dim` (values, indices); with a tensor the elementwise minimum."""
def minimum(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """The smaller of two; NaN when either is. The gradient is shared equally on ties."""
def minimum_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `minimum`."""
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Product of two matrices (N, M) @ (M, P)."""
def mode(input: Tensor, dim: _builtins.int = -1, keepdim: _builtins.bool = False) -> Any:
    """(values, indices) of the most frequent element of a dimension, the smallest on ties."""
def moveaxis(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dimensions moved to new positions, the others kept in order."""
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dimensions moved to new positions, the others kept in order."""
def msort(input: Tensor) -> Tensor:
    """The values sorted along the first dimension."""
def mul(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input * other."""
def mul_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `mul`."""
def multinomial(input: Tensor, num_samples: _builtins.int, replacement: _builtins.bool = False, *, generator: _Generator | None = None) -> Tensor:
    """Indices drawn in proportion to the weights in each row of input."""
def multiply(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input * other."""
def multiply_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `multiply`."""
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """Product of a matrix and a vector."""
def mvlgamma(input: Tensor, p: _builtins.int) -> Tensor:
    """Logarithm of the multivariate gamma function of dimension p; input > (p - 1) / 2."""
def mvlgamma_(input: Tensor, p: _builtins.int) -> Tensor:
    """In-place form of `mvlgamma`."""
def nan_to_num(input: Tensor, nan: _builtins.float | None = None, posinf: _builtins.float | None = None, neginf: _builtins.float | None = None) -> Tensor:
    """NaN and infinities replaced: by 0 and the dtype's largest and smallest unless given."""
def nan_to_num_(input: Tensor, nan: _builtins.float | None = None, posinf: _builtins.float | None = None, neginf: _builtins.float | None = None) -> Tensor:
    """In-place form of `nan_to_num`."""
def nanmean(input: Tensor, dim: Any = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
    """Mean over the elements that are not NaN."""
def nanmedian(input: Tensor, dim: _builtins.int | None = None, keepdim: _builtins.bool = False) -> Any:
    """`median` of the elements that are not NaN."""
def nanquantile(input: Tensor, q: Any, dim: _builtins.int | None = None, keepdim: _builtins.bool = False, *, interpolation: _builtins.str = "linear") -> Tensor:
    """`quantile` of the elements that are not NaN."""
def nansum(input: Tensor, dim: Any = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
    """Sum that counts NaN as 0."""
def narrow(input: Tensor, dim: _builtins.int, start: _builtins.int, length: _builtins.int) -> Tensor:
    """Elements start .. start + length of one dimension."""
def narrow_copy(input: Tensor, dim: _builtins.int, start: _builtins.int, length: _builtins.int) -> Tensor:
    """As `narrow`, in memory of its own."""
def native_batch_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None, training: _builtins.bool, momentum: _builtins.float, eps: _builtins.float) -> _builtins.tuple[Tensor, Tensor, Tensor]:
    """(`batch_norm`, means, reciprocal deviations (C)), which are empty outside training."""
def native_channel_shuffle(input: Tensor, groups: _builtins.int) -> Tensor:
    """Channels of (N, C, *) dealt out: those of different groups stand beside each other."""
def native_group_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, N: _builtins.int, C: _builtins.int, HxW: _builtins.int, group: _builtins.int, eps: _builtins.float) -> _builtins.tuple[Tensor, Tensor, Tensor]:
    """(`group_norm`, means, reciprocal deviations (N, group)); sizes are read from input."""
def native_layer_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None, bias: Tensor | None, eps: _builtins.float) -> _builtins.tuple[Tensor, Tensor, Tensor]:
    """`layer_norm`, and the mean and 1 / sqrt(var + eps) of every row without gradients."""
def ne(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input != other."""
def neg(input: Tensor | _builtins.float) -> Tensor:
    """-input."""
def neg_(input: Tensor) -> Tensor:
    """In-place form of `neg`."""
def negative(input: Tensor | _builtins.float) -> Tensor:
    """-input."""
def negative_(input: Tensor) -> Tensor:
    """In-place form of `negative`."""
def nextafter(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """The next representable value after input towards other."""
def nextafter_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `nextafter`."""
def nonzero(input: Tensor, *, as_tuple: _builtins.bool = False) -> Any:
    """(n, ndim) indices of the nonzero elements, row-major; as a tuple of columns on request."""
def nonzero_static(input: Tensor, *, size: _builtins.int, fill_value: _builtins.int = -1) -> Tensor:
    """The first `size` indices of nonzero elements, filled up with fill_value: (size, ndim)."""
def norm(input: Tensor, p: Any = "fro", dim: Any = None, keepdim: _builtins.bool = False, out: Any = None, dtype: _DType | None = None) -> Tensor:
    """Norm of all elements or over dimensions: a p-norm, "fro" (2) or "nuc"."""
def norm_except_dim(v: Tensor, pow: _builtins.int = 2, dim: _builtins.int = 0) -> Tensor:
    """The norm over all dimensions but one, which are kept; over all of them with `dim` -1."""
def normal(mean: Any, std: Any = ..., size: Any = None, *, generator: _Generator | None = None, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, pin_memory: _builtins.bool = False) -> Tensor:
    """Normal values; mean and std are tensors that broadcast, or numbers with a size."""
def normal_(self: Tensor, mean: _builtins.float = 0, std: _builtins.float = 1, *, generator: _Generator | None = None) -> Tensor:
    """Fill with normal values of the given mean and standard deviation; -> self."""
def not_equal(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input != other."""
def nuclear_norm(input: Tensor, dim: Any = None, keepdim: _builtins.bool = False) -> Tensor:
    """The sum of the singular values of a matrix, or of matrices over two dimensions."""
def numel(input: Tensor) -> Any:
    """Number of elements."""
def ones(*size: Any, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, pin_memory: _builtins.bool = False, requires_grad: _builtins.bool = False) -> Tensor:
    """Ones of the given size."""
def ones_like(input: Tensor, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, memory_format: Any = None, pin_memory: _builtins.bool = False) -> Tensor:
    """As `ones`, with the shape, dtype and device of a tensor."""
def orgqr(input: Tensor, tau: Tensor) -> Tensor:
    """The first columns of the product of Householder reflections, as `geqrf` gives them."""
def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: _builtins.bool = True, transpose: _builtins.bool = False) -> Tensor:
    """Q other (other Q without `left`) for the square Q of Householder reflections, or its Q^H."""
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """Products of every pair of elements of two vectors."""
def pairwise_distance(x1: Tensor, x2: Tensor, p: _builtins.float = ..., eps: _builtins.float = ..., keepdim: _builtins.bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps over the last dimension."""
def pca_lowrank(A: Tensor, q: _builtins.int | None = None, center: _builtins.bool = True, niter: _builtins.int = 2) -> _builtins.tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) of the principal components of rows, approximately."""
def pdist(input: Tensor, p: _builtins.float = ...) -> Tensor:
    """Distances in the p-norm between every two rows of (N, M), above the diagonal: N(N-1)/2."""
def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dimensions in the order given."""
def permute_copy(input: Tensor, *dims: Any) -> Tensor:
    """As `permute`, in memory of its own."""
def pinverse(input: Tensor, rcond: Any = ...) -> Tensor:
    """Moore-Penrose inverses; torch's older form of `linalg.pinv`."""
def pixel_shuffle(input: Tensor, upscale_factor: _builtins.int) -> Tensor:
    """(*, C * r * r, H, W) as (*, C, H * r, W * r)."""
def pixel_unshuffle(input: Tensor, downscale_factor: _builtins.int) -> Tensor:
    """(*, C, H * r, W * r) as (*, C * r * r, H, W): the inverse of `pixel_shuffle`."""
def poisson(input: Tensor, generator: _Generator | None = None) -> Tensor:
    """Poisson values whose rates are the elements of input."""
def poisson_nll_loss(input: Tensor, target: Tensor, log_input: _builtins.bool = True, full: _builtins.bool = False, size_average: _builtins.bool | None = None, eps: _builtins.float = ..., reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """Negative log-likelihood of counts under Poisson distributions."""
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """Complex numbers of their sizes and angles."""
def polygamma(n: _builtins.int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma, n >= 0."""
def positive(input: Tensor) -> Tensor:
    """The tensor itself."""
def pow(input: Tensor | _builtins.float, exponent: Tensor | _builtins.float) -> Tensor:
    """input ** exponent."""
def pow_(input: Tensor, exponent: Tensor) -> Tensor:
    """In-place form of `pow`."""
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x above 0, weight * x elsewhere."""
def prod(input: Tensor, dim: _builtins.int | None = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
    """Product of the elements, or over one dimension. Integers and bools multiply as int64."""
def promote_types(a: _DType, b: _DType) -> _DType:
    """The smallest dtype that both fit in by torch's table (uint8 + int8 = int16, half types meet"""
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: _builtins.bool = False) -> Tensor:
    """input, read as a vector, with source's elements at index put or added."""
def put_(input: Tensor, index: Tensor, source: Tensor, accumulate: _builtins.bool = False) -> Tensor:
    """In-place form of `put`."""
def qr(input: Tensor, some: _builtins.bool = True) -> Any:
    """(Q, R) with input = Q R; torch's older form of `linalg.qr`."""
def quantile(input: Tensor, q: Any, dim: _builtins.int | None = None, keepdim: _builtins.bool = False, *, interpolation: _builtins.str = "linear") -> Tensor:
    """The q-quantiles of all elements or along a dimension; a 1-d q adds a first dimension."""
def rad2deg(input: Tensor) -> Tensor:
    """Radians as degrees."""
def rad2deg_(input: Tensor) -> Tensor:
    """In-place form of `rad2deg`."""
def rand(*size: Any, generator: _Generator | None = None, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, pin_memory: _builtins.bool = False) -> Tensor:
    """Uniform values in [0, 1)."""
def rand_like(input: Tensor, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, memory_format: Any = None, generator: _Generator | None = None) -> Tensor:
    """`rand` with the shape and dtype of a tensor."""
def randint(low: _builtins.int, high: Any = None, size: Any = None, *, generator: _Generator | None = None, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, pin_memory: _builtins.bool = False) -> Tensor:
    """Uniform integers in [low, high): `randint(high, size)` or `randint(low, high, size)`."""
def randint_like(input: Tensor, low: _builtins.int, high: Any = None, *, dtype: _DType | None = None, device: Any = None, layout: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """`randint` with the shape and dtype of a tensor."""
def randn(*size: Any, generator: _Generator | None = None, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, pin_memory: _builtins.bool = False) -> Tensor:
    """Standard normal values."""
def randn_like(input: Tensor, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, memory_format: Any = None, generator: _Generator | None = None) -> Tensor:
    """`randn` with the shape and dtype of a tensor."""
def random_(self: Tensor, low: _builtins.int = 0, high: _builtins.int | None = None, *, generator: _Generator | None = None) -> Tensor:
    """Fill with uniform integers in [low, high), by default all the dtype can hold; -> self."""
def randperm(n: _builtins.int, *, generator: _Generator | None = None, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, pin_memory: _builtins.bool = False) -> Tensor:
    """A random permutation of 0 .. n - 1, int64 by default."""
def range(start: _builtins.float = 0, end: _builtins.float | None = None, step: _builtins.float = 1, *, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False) -> Tensor:
    """start, start + step, ... up to end, which is included; `arange` leaves it out."""
def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
def real(input: Tensor) -> Tensor:
    """The real part: a view, or where gradients are computed a tensor of its own."""
def reciprocal(input: Tensor | _builtins.float) -> Tensor:
    """1 / input."""
def reciprocal_(input: Tensor) -> Tensor:
    """In-place form of `reciprocal`."""
def relu(input: Tensor) -> Tensor:
    """max(input, 0); NaN stays."""
def relu_(input: Tensor) -> Tensor:
    """In-place form of `relu`."""
def remainder(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input - floor(input / other) * other: the sign of `other`, as Python's %."""
def remainder_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `remainder`."""
def renorm(input: Tensor, p: _builtins.float, dim: _builtins.int, maxnorm: _builtins.float) -> Tensor:
    """input with each entry of a dimension scaled down to a p-norm of at most maxnorm."""
def renorm_(input: Tensor, p: _builtins.float, dim: _builtins.int, maxnorm: _builtins.float) -> Tensor:
    """In-place form of `renorm`."""
def repeat_interleave(input: Tensor, repeats: Any = None, dim: _builtins.int | None = None, *, output_size: _builtins.int | None = None) -> Tensor:
    """Every element repeated in place: a count for all, or one per entry of a dimension."""
def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in row-major order under another shape; a view where strides allow."""
def resize_as_(input: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    """`resize_` to the shape of another tensor."""
def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: conjugates are computed, never marked."""
def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: negations are computed, never marked."""
def result_type(tensor1: Any, tensor2: Any) -> Any:
    """The dtype that an operation on two tensors or numbers would give."""
def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: _builtins.float | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the trailing dimensions."""
def rnn_relu(input: Tensor, second: Any, third: Any, *rest: Any) -> _builtins.tuple[Tensor, ...]:
    """Elman's recurrent network with relu."""
def rnn_relu_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> Tensor:
    """relu(input @ w_ih^T + b_ih + hx @ w_hh^T + b_hh)."""
def rnn_tanh(input: Tensor, second: Any, third: Any, *rest: Any) -> _builtins.tuple[Tensor, ...]:
    """Elman's recurrent network with tanh."""
def rnn_tanh_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> Tensor:
    """tanh(input @ w_ih^T + b_ih + hx @ w_hh^T + b_hh)."""
def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements moved along dimensions, those that leave one end entering at the other."""
def rot90(input: Tensor, k: _builtins.int = 1, dims: Any = ...) -> Tensor:
    """Rotation by k quarter turns in the plane of two dimensions."""
def round(input: Tensor, *, decimals: _builtins.int = 0) -> Tensor:
    """The nearest multiple of 10 ** -decimals, halves to even."""
def round_(input: Tensor, *, decimals: _builtins.int = 0) -> Tensor:
    """In-place form of `round`."""
def row_stack(tensors: Any) -> Tensor:
    """Joined along the first dimension, vectors as rows."""
def rrelu(input: Tensor, lower: _builtins.float = ..., upper: _builtins.float = ..., training: _builtins.bool = False, generator: Any = None) -> Tensor:
    """x above 0, a * x elsewhere; a is uniform in [lower, upper), its mean outside training."""
def rrelu_(input: Tensor, lower: _builtins.float = ..., upper: _builtins.float = ..., training: _builtins.bool = False, generator: Any = None) -> Tensor:
    """In-place form of `rrelu`."""
def rsqrt(input: Tensor | _builtins.float) -> Tensor:
    """1 / sqrt(input)."""
def rsqrt_(input: Tensor) -> Tensor:
    """In-place form of `rsqrt`."""
def rsub(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """other - alpha * input."""
def scalar_tensor(s: Any, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, pin_memory: _builtins.bool = False, requires_grad: _builtins.bool = False) -> Tensor:
    """A 0-d tensor of the default float dtype."""
def scatter(input: Tensor, dim: _builtins.int, index: Tensor, src: Any = None, *, value: Any = None, reduce: _builtins.str | None = None) -> Tensor:
    """input with src written at out[index[i][j]][j] (dim 0), and so on."""
def scatter_(input: Tensor, dim: _builtins.int, index: Tensor, src: Any = None, *, value: Any = None, reduce: _builtins.str | None = None) -> Tensor:
    """In-place form of `scatter`."""
def scatter_add(input: Tensor, dim: _builtins.int, index: Tensor, src: Tensor) -> Tensor:
    """input with src added at out[index[i][j]][j] (dim 0), and so on; deterministic."""
def scatter_add_(input: Tensor, dim: _builtins.int, index: Tensor, src: Tensor) -> Tensor:
    """In-place form of `scatter_add`."""
def scatter_reduce(input: Tensor, dim: _builtins.int, index: Tensor, src: Tensor, reduce: _builtins.str, *, include_self: _builtins.bool = True) -> Tensor:
    """input combined with src at out[index[i][j]][j] (dim 0), and so on."""
def scatter_reduce_(input: Tensor, dim: _builtins.int, index: Tensor, src: Tensor, reduce: _builtins.str, *, include_self: _builtins.bool = True) -> Tensor:
    """In-place form of `scatter_reduce`."""
def searchsorted(sorted_sequence: Tensor, input: Any, *, out_int32: _builtins.bool = False, right: _builtins.bool = False, side: _builtins.str | None = None, sorter: Tensor | None = None) -> Tensor:
    """Where values belong in an ascending sequence (or one per leading index)."""
def seed() -> _builtins.int:
    """Seed the default generator from the system's entropy; -> the seed."""
def segment_reduce(data: Tensor, reduce: _builtins.str, *, lengths: Tensor | None = None, indices: Tensor | None = None, offsets: Tensor | None = None, axis: _builtins.int = 0, unsafe: _builtins.bool = False, initial: Any = None) -> Tensor:
    """Segments of a dimension reduced: "sum", "mean", "max", "min" or "prod"."""
def select(input: Tensor, dim: _builtins.int, index: _builtins.int) -> Tensor:
    """One index of one dimension, which disappears."""
def select_copy(input: Tensor, dim: _builtins.int, index: _builtins.int) -> Tensor:
    """As `select`, in memory of its own."""
def select_scatter(input: Tensor, src: Tensor, dim: _builtins.int, index: _builtins.int) -> Tensor:
    """A copy of input with src at one index of a dimension."""
def selu(input: Tensor) -> Tensor:
    """Scaled exponential linear unit, whose fixed point is mean 0 and variance 1."""
def selu_(input: Tensor) -> Tensor:
    """In-place form of `selu`."""
def set_rng_state(new_state: Tensor) -> None:
    """Set the state of the default generator."""
def sgn(input: Tensor) -> Tensor:
    """-1, 0 or 1; of a complex number the one of size 1 in its direction."""
def sgn_(input: Tensor) -> Tensor:
    """In-place form of `sgn`."""
def sigmoid(input: Tensor | _builtins.float) -> Tensor:
    """1 / (1 + exp(-input))."""
def sigmoid_(input: Tensor) -> Tensor:
    """In-place form of `sigmoid`."""
def sign(input: Tensor | _builtins.float) -> Tensor:
    """-1, 0 or 1; the derivative is 0."""
def sign_(input: Tensor) -> Tensor:
    """In-place form of `sign`."""
def signbit(input: Tensor | _builtins.float) -> Tensor:
    """Whether the sign bit is set (also of -0.0)."""
def sin(input: Tensor | _builtins.float) -> Tensor:
    """Sine of radians."""
def sin_(input: Tensor) -> Tensor:
    """In-place form of `sin`."""
def sinc(input: Tensor) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0."""
def sinc_(input: Tensor) -> Tensor:
    """In-place form of `sinc`."""
def sinh(input: Tensor | _builtins.float) -> Tensor:
    """Hyperbolic sine."""
def sinh_(input: Tensor) -> Tensor:
    """In-place form of `sinh`."""
def slice_scatter(input: Tensor, src: Tensor, dim: _builtins.int = 0, start: _builtins.int | None = None, end: _builtins.int | None = None, step: _builtins.int = 1) -> Tensor:
    """A copy of input with src at a slice of a dimension."""
def slogdet(A: Tensor) -> Any:
    """(sign, logabsdet): the determinant's sign and the logarithm of its absolute value."""
def softmax(input: Tensor, dim: _builtins.int, dtype: _DType | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along one dimension."""
def sort(input: Tensor, dim: _builtins.int = -1, descending: _builtins.bool = False, stable: _builtins.bool = False) -> Any:
    """(values, indices) in order along a dimension; always stable, NaN as the largest."""
def sparse_coo_tensor(indices: Any, values: Any = None, size: Any = None, *, dtype: _DType | None = None, device: Any = None, pin_memory: _builtins.bool = False, requires_grad: _builtins.bool = False, check_invariants: _builtins.bool | None = None, is_coalesced: _builtins.bool | None = None) -> Any:
    """A tensor of values at coordinates."""
def split(input: Tensor, split_size_or_sections: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
    """Views of consecutive sections: of one size (the last may be smaller), or of given sizes."""
def split_copy(input: Tensor, split_size_or_sections: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
    """As `split`, in memory of its own."""
def split_with_sizes(input: Tensor, split_sizes: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
    """Views of consecutive sections of the given sizes."""
def split_with_sizes_copy(input: Tensor, split_sizes: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
    """As `split_with_sizes`, in memory of its own."""
def sqrt(input: Tensor | _builtins.float) -> Tensor:
    """Square root."""
def sqrt_(input: Tensor) -> Tensor:
    """In-place form of `sqrt`."""
def square(input: Tensor) -> Tensor:
    """input * input; bools become int64."""
def square_(input: Tensor) -> Tensor:
    """In-place form of `square`."""
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Dimensions of size 1 removed: all of them, or those of `dim` (int or tuple)."""
def squeeze_(input: Tensor, dim: Any = None) -> Tensor:
    """In-place form of `squeeze`: the same memory, shown otherwise."""
def squeeze_copy(input: Tensor, dim: Any = None) -> Tensor:
    """As `squeeze`, in memory of its own."""
def stack(tensors: Any, dim: _builtins.int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
def std(input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: _builtins.bool = False, *, correction: Any = None) -> Tensor:
    """Standard deviation: the square root of `var`."""
def std_mean(input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: _builtins.bool = False, *, correction: Any = None) -> Any:
    """(standard deviation, mean) over dimensions."""
def stft(input: Tensor, n_fft: _builtins.int, hop_length: _builtins.int | None = None, win_length: _builtins.int | None = None, window: Tensor | None = None, center: _builtins.bool = True, pad_mode: _builtins.str = "reflect", normalized: _builtins.bool = False, onesided: _builtins.bool | None = None, return_complex: _builtins.bool | None = None, align_to_window: _builtins.bool | None = None) -> Tensor:
    """Fourier transforms of overlapping pieces of a signal."""
def sub(input: Any, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
    """input - alpha * other."""
def sub_(input: Any, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
    """In-place form of `sub`."""
def subtract(input: Any, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
    """input - alpha * other."""
def subtract_(input: Any, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
    """In-place form of `subtract`."""
def sum(input: Tensor, dim: Any = None, keepdim: _builtins.bool = False, *, dtype: _DType | None = None) -> Tensor:
    """Sum over dimensions (all by default). Integers and bools are summed as int64."""
def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Summed over dimensions so that the result has `size`, from which input's shape broadcasts."""
def svd(input: Tensor, some: _builtins.bool = True, compute_uv: _builtins.bool = True) -> Any:
    """(U, S, V) with input = U diag(S) V^H; torch's older form of `linalg.svd`."""
def svd_lowrank(A: Tensor, q: _builtins.int | None = 6, niter: _builtins.int | None = 2, M: Tensor | None = None) -> _builtins.tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) of the largest singular values, approximately: A - M = U diag(S) V^H."""
def swapaxes(input: Tensor, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
    """Two dimensions exchanged."""
def swapaxes_(input: Tensor, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
    """In-place form of `swapaxes`: the same memory, shown otherwise."""
def swapdims(input: Tensor, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
    """Two dimensions exchanged."""
def swapdims_(input: Tensor, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
    """In-place form of `swapdims`: the same memory, shown otherwise."""
def t(input: Tensor) -> Tensor:
    """Matrix transpose; 0-d and 1-d tensors as they are."""
def t_(input: Tensor) -> Tensor:
    """In-place form of `t`: the same memory, shown otherwise."""
def t_copy(input: Tensor) -> Tensor:
    """As `t`, in memory of its own."""
def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened input at integer positions; the shape of `index`."""
def take_along_dim(input: Tensor, indices: Tensor, dim: _builtins.int | None = None) -> Tensor:
    """`gather` whose input and indices broadcast against each other outside `dim`."""
def tan(input: Tensor | _builtins.float) -> Tensor:
    """Tangent of radians."""
def tan_(input: Tensor) -> Tensor:
    """In-place form of `tan`."""
def tanh(input: Tensor | _builtins.float) -> Tensor:
    """Hyperbolic tangent."""
def tanh_(input: Tensor) -> Tensor:
    """In-place form of `tanh`."""
def tensor(data: Any, *, dtype: _DType | None = None, device: Any = None, requires_grad: _builtins.bool = False, pin_memory: _builtins.bool = False) -> Tensor:
    """A new tensor with a copy of the data: numbers, nested sequences, NumPy arrays, tensors."""
def tensor_split(input: Tensor, indices_or_sections: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
    """Views split at indices, or into a number of nearly equal sections."""
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sums of products over pairs of dimensions of a and b."""
def threshold(input: Tensor, threshold: _builtins.float, value: _builtins.float) -> Tensor:
    """x where it is above `threshold`, else `value`."""
def threshold_(input: Tensor, threshold: _builtins.float, value: _builtins.float) -> Tensor:
    """In-place form of `threshold`."""
def tile(input: Tensor, *dims: Any) -> Tensor:
    """`repeat`, with missing counts taken as 1."""
def to_dtype(input: Tensor | _builtins.float, dtype: _DType) -> Tensor:
    """The values converted to another dtype (a new tensor, also for the same dtype)."""
def topk(input: Tensor, k: _builtins.int, dim: _builtins.int = -1, largest: _builtins.bool = True, sorted: _builtins.bool = True) -> Any:
    """(values, indices) of the k largest (or smallest) elements of a dimension, in order."""
def trace(input: Tensor) -> Tensor:
    """Sum of a matrix's diagonal."""
def transpose(input: Tensor, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
    """Two dimensions exchanged."""
def transpose_(input: Tensor, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
    """In-place form of `transpose`: the same memory, shown otherwise."""
def transpose_copy(input: Tensor, dim0: _builtins.int, dim1: _builtins.int) -> Tensor:
    """As `transpose`, in memory of its own."""
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: _builtins.int = -1) -> Tensor:
    """Integral of samples along a dimension by the trapezoidal rule, over points x or steps dx."""
def trapz(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: _builtins.int = -1) -> Tensor:
    """Integral of samples along a dimension by the trapezoidal rule, over points x or steps dx."""
def triangular_solve(input: Tensor, A: Tensor, upper: _builtins.bool = True, transpose: _builtins.bool = False, unitriangular: _builtins.bool = False) -> Any:
    """(X, A) with A X = input; torch's older form of `linalg.solve_triangular`."""
def tril(input: Tensor, diagonal: _builtins.int = 0) -> Tensor:
    """The lower triangle of matrices, zeros above the diagonal."""
def tril_(input: Tensor, diagonal: _builtins.int = 0) -> Tensor:
    """In-place form of `tril`."""
def tril_indices(row: _builtins.int, col: _builtins.int, offset: _builtins.int = 0, *, dtype: Any = None, device: Any = None, layout: Any = None) -> Tensor:
    """(2, n) row and column numbers of the lower triangle."""
def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: _builtins.float = ..., p: _builtins.float = 2, eps: _builtins.float = ..., swap: _builtins.bool = False, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with the p-norm's distance."""
def triu(input: Tensor, diagonal: _builtins.int = 0) -> Tensor:
    """The upper triangle of matrices, zeros below the diagonal."""
def triu_(input: Tensor, diagonal: _builtins.int = 0) -> Tensor:
    """In-place form of `triu`."""
def triu_indices(row: _builtins.int, col: _builtins.int, offset: _builtins.int = 0, *, dtype: Any = None, device: Any = None, layout: Any = None) -> Tensor:
    """(2, n) row and column numbers of the upper triangle."""
def true_div(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input / other; integers become the default float."""
def true_div_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `true_div`."""
def true_divide(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input / other; integers become the default float."""
def true_divide_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `true_divide`."""
def trunc(input: Tensor | _builtins.float) -> Tensor:
    """The integer part, towards zero."""
def trunc_(input: Tensor) -> Tensor:
    """In-place form of `trunc`."""
def trunc_divide(input: Tensor | _builtins.float, other: Tensor | _builtins.float) -> Tensor:
    """input / other rounded towards zero; `div(rounding_mode="trunc")`."""
def trunc_divide_(input: Tensor, other: Tensor) -> Tensor:
    """In-place form of `trunc_divide`."""
def unbind(input: Tensor, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
    """Every index of one dimension, as views."""
def unbind_copy(input: Tensor, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
    """As `unbind`, in memory of its own."""
def unflatten(input: Tensor, dim: _builtins.int, sizes: Any) -> Tensor:
    """One dimension split into several; one size may be -1."""
def unfold_copy(input: Tensor, dimension: _builtins.int, size: _builtins.int, step: _builtins.int) -> Tensor:
    """As `unfold`, in memory of its own."""
def uniform_(self: Tensor, a: _builtins.float = 0, b: _builtins.float = 1, *, generator: _Generator | None = None, **old: Any) -> Tensor:
    """Fill with uniform values in [a, b); -> self."""
def unique(input: Tensor, sorted: _builtins.bool = True, return_inverse: _builtins.bool = False, return_counts: _builtins.bool = False, dim: _builtins.int | None = None) -> Any:
    """The distinct elements (or entries of a dimension), sorted; optionally inverse and counts."""
def unique_consecutive(input: Tensor, return_inverse: _builtins.bool = False, return_counts: _builtins.bool = False, dim: _builtins.int | None = None) -> Any:
    """The elements (or entries of a dimension) without repetitions of the one before."""
def unravel_index(indices: Tensor, shape: Any) -> _builtins.tuple[Tensor, ...]:
    """The places in a tensor of a shape that indices into its elements, in order, stand for."""
def unsafe_chunk(input: Tensor, chunks: _builtins.int, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
    """As `chunk`, in memory of its own."""
def unsafe_split(input: Tensor, split_size_or_sections: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
    """As `split`, in memory of its own."""
def unsafe_split_with_sizes(input: Tensor, split_sizes: Any, dim: _builtins.int = 0) -> _builtins.tuple[Tensor, ...]:
    """As `split_with_sizes`, in memory of its own."""
def unsqueeze(input: Tensor, dim: _builtins.int) -> Tensor:
    """A dimension of size 1 inserted at `dim`."""
def unsqueeze_(input: Tensor, dim: _builtins.int) -> Tensor:
    """In-place form of `unsqueeze`: the same memory, shown otherwise."""
def unsqueeze_copy(input: Tensor, dim: _builtins.int) -> Tensor:
    """As `unsqueeze`, in memory of its own."""
def vander(x: Tensor, N: _builtins.int | None = None, increasing: _builtins.bool = False) -> Tensor:
    """Powers of each element of a vector, (n, N): x^(N-1) ... x, 1, or from 1 on."""
def var(input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: _builtins.bool = False, *, correction: Any = None) -> Tensor:
    """Variance over dimensions, divided by count - correction (default 1)."""
def var_mean(input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: _builtins.bool = False, *, correction: Any = None) -> Any:
    """(variance, mean) over dimensions."""
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """Sum of the products of the conjugates of one vector's elements with another's."""
def view_as_complex(input: Tensor) -> Tensor:
    """Pairs (..., 2) as a complex tensor: a view, or a tensor of its own with gradients and where"""
def view_as_complex_copy(input: Tensor) -> Tensor:
    """As `view_as_complex`, in memory of its own."""
def view_as_real(input: Tensor) -> Tensor:
    """A complex tensor as pairs (..., 2): a view, or with gradients a tensor of its own."""
def view_as_real_copy(input: Tensor) -> Tensor:
    """As `view_as_real`, in memory of its own."""
def view_copy(self: Tensor, *shape: Any, dtype: Any = None) -> Any:
    """As `view`, in memory of its own."""
def view_dtype(input: Tensor, dtype: _DType) -> Tensor:
    """A view of the bits of a tensor as another dtype; the last dimension changes with its size."""
def vsplit(input: Tensor, indices_or_sections: Any) -> _builtins.tuple[Tensor, ...]:
    """Split along the first dimension."""
def vstack(tensors: Any) -> Tensor:
    """Joined along the first dimension, vectors as rows."""
def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """input where the condition holds, other elsewhere; with one argument, where it holds."""
def xlogy(input: Any, other: Any) -> Tensor:
    """input * log(other), 0 where input is 0 (NaN where other is)."""
def xlogy_(input: Any, other: Any) -> Tensor:
    """In-place form of `xlogy`."""
def zero_(self: Tensor) -> Tensor:
    """Set every element to 0; -> self."""
def zeros(*size: Any, out: Any = None, dtype: _DType | None = None, layout: Any = None, device: Any = None, pin_memory: _builtins.bool = False, requires_grad: _builtins.bool = False) -> Tensor:
    """Zeros of the given size."""
def zeros_like(input: Tensor, *, dtype: _DType | None = None, layout: Any = None, device: Any = None, requires_grad: _builtins.bool = False, memory_format: Any = None, pin_memory: _builtins.bool = False) -> Tensor:
    """As `zeros`, with the shape, dtype and device of a tensor."""
