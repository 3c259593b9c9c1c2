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

def amax(input: Tensor, dim: Any = None, *, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Largest of the elements that the mask keeps."""
def amin(input: Tensor, dim: Any = None, *, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Smallest of the elements that the mask keeps."""
def argmax(input: Tensor, dim: _builtins.int | None = None, *, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Place of the largest of the elements that the mask keeps, in the dtype of input."""
def argmin(input: Tensor, dim: _builtins.int | None = None, *, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Place of the smallest of the elements that the mask keeps, in the dtype of input."""
def cumprod(input: Tensor, dim: _builtins.int, *, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Running products of the elements that the mask keeps."""
def cumsum(input: Tensor, dim: _builtins.int, *, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Running sums of the elements that the mask keeps."""
def log_softmax(input: Tensor, dim: _builtins.int, *, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """log_softmax over the elements that the mask keeps; the others get -inf."""
def logaddexp(input: Tensor, other: Tensor, *, dtype: _DType | None = None, input_mask: Tensor | None = None, other_mask: Tensor | None = None) -> Tensor:
    """log(exp(input) + exp(other)) of the elements that the masks keep."""
def logsumexp(input: Tensor, dim: Any = None, *, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """log(sum(exp(x))) of the elements that the mask keeps."""
def mean(input: Tensor, dim: Any = None, *, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Mean of the elements that the mask keeps; NaN where it keeps none."""
def median(input: Tensor, dim: _builtins.int = -1, *, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Lower median of the elements that the mask keeps; NaN where it keeps none."""
def norm(input: Tensor, ord: _builtins.float | None = ..., dim: Any = None, *, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Vector norm of the elements that the mask keeps."""
def normalize(input: Tensor, ord: _builtins.float, dim: _builtins.int, *, eps: _builtins.float = ..., dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """input / max(norm, eps), the norm of the elements that the mask keeps; the others get 0."""
def prod(input: Tensor, dim: Any = None, *, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Product of the elements that the mask keeps."""
def softmax(input: Tensor, dim: _builtins.int, *, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Softmax over the elements that the mask keeps; the others get 0."""
def softmin(input: Tensor, dim: _builtins.int, *, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Softmin over the elements that the mask keeps; the others get 0."""
def std(input: Tensor, dim: Any = None, unbiased: _builtins.bool | None = None, *, correction: Any = None, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Square root of `masked.var`."""
def sum(input: Tensor, dim: Any = None, *, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Sum of the elements that the mask keeps."""
def var(input: Tensor, dim: Any = None, unbiased: _builtins.bool | None = None, *, correction: Any = None, keepdim: _builtins.bool = False, dtype: _DType | None = None, mask: Tensor | None = None) -> Tensor:
    """Variance of the elements that the mask keeps, divided by their count - correction."""
