# Written by tools/generate.py from the table of operations; do not edit.

import builtins as _builtins
from typing import Any

import numpy as np

from flambeau import record as _record
from flambeau.device import device as _Device
from flambeau.dtype import dtype as _DType
from flambeau.ir.graph import Node as _Node
from flambeau.layout import layout as _Layout
from flambeau.ops.random import Generator as _Generator
from flambeau.size import Size as _Size
from flambeau.storage import TypedStorage as _TypedStorage
from flambeau.storage import UntypedStorage as _UntypedStorage
from flambeau.tape import GradFn as _GradFn
from flambeau.tape import Handle as _Handle

from flambeau.tensor import Tensor as Tensor

def digamma(input: Tensor | _builtins.float) -> Tensor:
    """Derivative of lgamma."""
def erf(input: Tensor | _builtins.float) -> Tensor:
    """Error function, 2/sqrt(pi) * integral of exp(-t^2) from 0 to input."""
def erfc(input: Tensor | _builtins.float) -> Tensor:
    """1 - erf(input), accurate for large input."""
def erfinv(input: Tensor | _builtins.float) -> Tensor:
    """Inverse error function on (-1, 1)."""
def exp2(input: Tensor | _builtins.float) -> Tensor:
    """2 ** input."""
def expit(input: Tensor | _builtins.float) -> Tensor:
    """1 / (1 + exp(-input))."""
def expm1(input: Tensor | _builtins.float) -> Tensor:
    """exp(input) - 1, accurate near 0."""
def gammaln(input: Tensor | _builtins.float) -> Tensor:
    """Logarithm of the absolute value of the gamma function."""
def log1p(input: Tensor | _builtins.float) -> Tensor:
    """log(1 + input), accurate near 0."""
def log_softmax(input: Tensor, dim: _builtins.int, dtype: _DType | None = None) -> Tensor:
    """log(softmax(x)) along one dimension, without under- or overflow."""
def logit(input: Tensor, eps: _builtins.float | None = None) -> Tensor:
    """log(x / (1 - x)), x first clamped to [eps, 1 - eps] when eps is given."""
def logsumexp(input: Tensor, dim: Any, keepdim: _builtins.bool = False) -> Tensor:
    """log(sum(exp(input))) over dimensions, shifted by the maximum so that nothing overflows."""
def polygamma(n: _builtins.int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma, n >= 0."""
def psi(input: Tensor | _builtins.float) -> Tensor:
    """Derivative of lgamma."""
def round(input: Tensor, *, decimals: _builtins.int = 0) -> Tensor:
    """The nearest multiple of 10 ** -decimals, halves to even."""
def sinc(input: Tensor) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0."""
def softmax(input: Tensor, dim: _builtins.int, dtype: _DType | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along one dimension."""
def xlogy(input: Any, other: Any) -> Tensor:
    """input * log(other), 0 where input is 0 (NaN where other is)."""
