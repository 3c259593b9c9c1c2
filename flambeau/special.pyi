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

def airy_ai(input: Tensor) -> Tensor:
    """Airy function Ai."""
def bessel_j0(input: Tensor) -> Tensor:
    """Bessel function of the first kind, of order 0."""
def bessel_j1(input: Tensor) -> Tensor:
    """Bessel function of the first kind, of order 1."""
def bessel_y0(input: Tensor) -> Tensor:
    """Bessel function of the second kind, of order 0."""
def bessel_y1(input: Tensor) -> Tensor:
    """Bessel function of the second kind, of order 1."""
def chebyshev_polynomial_t(input: Any, n: Any) -> Tensor:
    """The Chebyshev polynomial of kind t and order n at input."""
def chebyshev_polynomial_u(input: Any, n: Any) -> Tensor:
    """The Chebyshev polynomial of kind u and order n at input."""
def chebyshev_polynomial_v(input: Any, n: Any) -> Tensor:
    """The Chebyshev polynomial of kind v and order n at input."""
def chebyshev_polynomial_w(input: Any, n: Any) -> Tensor:
    """The Chebyshev polynomial of kind w and order n at input."""
def digamma(input: Tensor | _builtins.float) -> Tensor:
    """Derivative of lgamma."""
def entr(input: Tensor) -> Tensor:
    """-input * log(input); 0 at 0 and -inf below."""
def erf(input: Tensor | _builtins.float) -> Tensor:
    """Error function, 2/sqrt(pi) * integral of exp(-t^2) from 0 to input."""
def erfc(input: Tensor | _builtins.float) -> Tensor:
    """1 - erf(input), accurate for large input."""
def erfcx(input: Tensor) -> Tensor:
    """exp(input^2) erfc(input), which does not underflow."""
def erfinv(input: Tensor | _builtins.float) -> Tensor:
    """Inverse error function on (-1, 1)."""
def exp2(input: Tensor | _builtins.float) -> Tensor:
    """2 ** input."""
def expit(input: Tensor | _builtins.float) -> Tensor:
    """1 / (1 + exp(-input))."""
def expm1(input: Tensor | _builtins.float) -> Tensor:
    """exp(input) - 1, accurate near 0."""
def gammainc(input: Tensor, other: Tensor) -> Tensor:
    """Regularized lower incomplete gamma function of order input."""
def gammaincc(input: Tensor, other: Tensor) -> Tensor:
    """Regularized upper incomplete gamma function of order input."""
def gammaln(input: Tensor | _builtins.float) -> Tensor:
    """Logarithm of the absolute value of the gamma function."""
def hermite_polynomial_h(input: Any, n: Any) -> Tensor:
    """The Hermite polynomial of kind h and order n at input."""
def hermite_polynomial_he(input: Any, n: Any) -> Tensor:
    """The Hermite polynomial of kind he and order n at input."""
def i0(input: Tensor) -> Tensor:
    """Modified Bessel function of the first kind, of order 0."""
def i0e(input: Tensor) -> Tensor:
    """exp(-|input|) i0(input)."""
def i1(input: Tensor) -> Tensor:
    """Modified Bessel function of the first kind, of order 1."""
def i1e(input: Tensor) -> Tensor:
    """exp(-|input|) i1(input)."""
def laguerre_polynomial_l(input: Any, n: Any) -> Tensor:
    """The Laguerre polynomial of kind l and order n at input."""
def legendre_polynomial_p(input: Any, n: Any) -> Tensor:
    """The Legendre polynomial of kind p and order n at input."""
def log1p(input: Tensor | _builtins.float) -> Tensor:
    """log(1 + input), accurate near 0."""
def log_ndtr(input: Tensor) -> Tensor:
    """log(ndtr(input)), accurate far below 0."""
def log_softmax(input: Tensor, dim: _builtins.int, dtype: _DType | None = None) -> Tensor:
    """log(softmax(x)) along one dimension, without under- or overflow."""
def logit(input: Tensor, eps: _builtins.float | None = None) -> Tensor:
    """log(x / (1 - x)), x first clamped to [eps, 1 - eps] when eps is given."""
def logsumexp(input: Tensor, dim: Any, keepdim: _builtins.bool = False) -> Tensor:
    """log(sum(exp(input))) over dimensions, shifted by the maximum so that nothing overflows."""
def modified_bessel_i0(input: Tensor) -> Tensor:
    """Modified Bessel function of the first kind, of order 0."""
def modified_bessel_i1(input: Tensor) -> Tensor:
    """Modified Bessel function of the first kind, of order 1."""
def modified_bessel_k0(input: Tensor) -> Tensor:
    """Modified Bessel function of the second kind, of order 0."""
def modified_bessel_k1(input: Tensor) -> Tensor:
    """Modified Bessel function of the second kind, of order 1."""
def multigammaln(input: Tensor, p: _builtins.int) -> Tensor:
    """Logarithm of the multivariate gamma function of dimension p; input > (p - 1) / 2."""
def ndtr(input: Tensor) -> Tensor:
    """The area under the standard normal density up to input."""
def ndtri(input: Tensor) -> Tensor:
    """The number up to which the area under the standard normal density is input."""
def polygamma(n: _builtins.int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma, n >= 0."""
def psi(input: Tensor | _builtins.float) -> Tensor:
    """Derivative of lgamma."""
def round(input: Tensor, *, decimals: _builtins.int = 0) -> Tensor:
    """The nearest multiple of 10 ** -decimals, halves to even."""
def scaled_modified_bessel_k0(input: Tensor) -> Tensor:
    """exp(input) modified_bessel_k0(input)."""
def scaled_modified_bessel_k1(input: Tensor) -> Tensor:
    """exp(input) modified_bessel_k1(input)."""
def shifted_chebyshev_polynomial_t(input: Any, n: Any) -> Tensor:
    """The Shifted chebyshev polynomial of kind t and order n at input."""
def shifted_chebyshev_polynomial_u(input: Any, n: Any) -> Tensor:
    """The Shifted chebyshev polynomial of kind u and order n at input."""
def shifted_chebyshev_polynomial_v(input: Any, n: Any) -> Tensor:
    """The Shifted chebyshev polynomial of kind v and order n at input."""
def shifted_chebyshev_polynomial_w(input: Any, n: Any) -> Tensor:
    """The Shifted chebyshev polynomial of kind w and order n at input."""
def sinc(input: Tensor) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0."""
def softmax(input: Tensor, dim: _builtins.int, dtype: _DType | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along one dimension."""
def spherical_bessel_j0(input: Tensor) -> Tensor:
    """Spherical Bessel function of the first kind, of order 0: sin(x) / x."""
def xlog1py(input: Any, other: Any) -> Tensor:
    """input * log1p(other), 0 where input is 0 unless other is NaN."""
def xlogy(input: Any, other: Any) -> Tensor:
    """input * log(other), 0 where input is 0 (NaN where other is)."""
def zeta(input: Any, other: Any) -> Tensor:
    """Hurwitz zeta function, sum over k of 1 / (k + other)^input."""
