"""Parametrizations: orthogonal matrices, weights by norm and direction, by their spectral norm."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

import flambeau
from flambeau.nn.functional import normalize
from flambeau.nn.module import Module
from flambeau.nn.utils import parametrize


def norm_except(v: Any, dim: int | None) -> Any:
    """The norm over all dimensions but one, which are kept with size 1; None: over all."""
    if dim is None or dim == -1:
        return v.norm()
    axes = [d for d in range(v.dim()) if d != dim % v.dim()]
    return v.square().sum(axes, keepdim=True).sqrt() if axes else v.abs()


class _WeightNorm(Module):
    """``g v / |v|``."""

    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Any, weight_v: Any) -> Any:
        """The weight of a norm and a direction."""
        return weight_v * (weight_g / norm_except(weight_v, self.dim))

    def right_inverse(self, weight: Any) -> Any:
        """The norm and the weight itself."""
        return norm_except(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Have a weight computed from its norm (`original0`) and its direction (`original1`).

    Args:
        module: with the weight; it is changed.
        name: of the weight.
        dim: along which norms are apart; None: one norm for all.

    Returns:
        The module.

    Reference:
        Salimans and Kingma, Weight Normalization (arXiv:1602.07868).
    """
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def from_older(
        state_dict: Any, prefix: str, local_metadata: Any, strict: Any, missing: Any,
        unexpected: Any, errors: Any,
    ) -> None:  # fmt: skip
        for old, new in ((f"{name}_g", "original0"), (f"{name}_v", "original1")):
            if f"{prefix}{old}" in state_dict:
                state_dict[f"{prefix}parametrizations.{name}.{new}"] = state_dict.pop(
                    f"{prefix}{old}"
                )

    module._register_load_state_dict_pre_hook(from_older)
    return module


class PowerIteration:
    """An estimate of a matrix's largest singular value, made better at each use.

    Args:
        iterations: how many steps at a use.
        eps: least length of the vectors.
    """

    def __init__(self, iterations: int, eps: float) -> None:
        self.iterations, self.eps = iterations, eps

    def improve(self, matrix: Any, u: Any, v: Any) -> None:
        """Turn v, then u, towards the singular vectors, in place."""
        with flambeau.no_grad():
            for _ in range(self.iterations):
                v.copy_(normalize(matrix.t() @ u, dim=0, eps=self.eps))
                u.copy_(normalize(matrix @ v, dim=0, eps=self.eps))


def as_matrix(weight: Any, dim: int) -> Any:
    """A weight with one dimension in front and the others as one."""
    if dim != 0:
        weight = weight.movedim(dim, 0)
    return weight.reshape(weight.shape[0], -1)


class _SpectralNorm(Module):
    """A weight over its largest singular value."""

    _u: Any
    _v: Any

    def __init__(
        self, weight: Any, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12
    ) -> None:
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [-{weight.ndim},"
                f" {weight.ndim - 1}] but got {dim})"
            )
        if n_power_iterations <= 0:
            raise ValueError(
                "Expected n_power_iterations to be positive, but got n_power_iterations="
                f"{n_power_iterations}"
            )
        self.dim = dim if dim >= 0 else dim + weight.ndim
        self.eps = eps
        self.n_power_iterations = n_power_iterations
        if weight.ndim > 1:
            matrix = as_matrix(weight.detach(), self.dim)
            rows, columns = matrix.shape
            u, v = (
                normalize(flambeau.randn(n, dtype=weight.dtype, device=weight.device), dim=0)
                for n in (rows, columns)
            )
            self.register_buffer("_u", u)
            self.register_buffer("_v", v)
            PowerIteration(15, eps).improve(matrix.t(), self._v, self._u)

    def forward(self, weight: Any) -> Any:
        """The weight over its norm."""
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            PowerIteration(self.n_power_iterations, self.eps).improve(matrix.t(), self._v, self._u)
        sigma = self._u.clone() @ (matrix @ self._v.clone())
        return weight / sigma

    def right_inverse(self, value: Any) -> Any:
        """The value: its norm may be anything."""
        return value


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Have a weight divided by its largest singular value, estimated by power iteration.

    Args:
        module: with the weight; it is changed.
        name: of the weight.
        n_power_iterations: steps of the estimate at each use in training.
        eps: least length of the estimate's vectors.
        dim: the outputs' dimension; 0, or 1 for transposed convolutions.

    Returns:
        The module.

    Reference:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks
        (arXiv:1802.05957).
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, flambeau.Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = 1 if "ConvTranspose" in type(module).__name__ else 0
    norm = _SpectralNorm(weight, n_power_iterations, dim, eps)
    return parametrize.register_parametrization(module, name, norm)


class _OrthMaps(Enum):
    matrix_exp = auto()
    cayley = auto()
    householder = auto()


class _Orthogonal(Module):
    """Matrices with orthonormal rows or columns, whichever are fewer."""

    base: Any

    def __init__(self, weight: Any, orthogonal_map: _OrthMaps, *, trivialization: bool) -> None:
        super().__init__()
        if weight.is_complex() and orthogonal_map is _OrthMaps.householder:
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape = weight.shape
        self.orthogonal_map = orthogonal_map
        if trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Any) -> Any:
        """The orthogonal matrix of a matrix's lower triangle."""
        n, k = X.size(-2), X.size(-1)
        wide = n < k
        if wide:
            X, n, k = X.mT, k, n
        if self.orthogonal_map is _OrthMaps.householder:
            found = _reflections(X)
        else:
            found = self._from_skew(X, n, k)
        if hasattr(self, "base") and self.base is not None:
            found = self.base @ found
        return found.mT if wide else found

    def _from_skew(self, X: Any, n: int, k: int) -> Any:
        A = X.tril()
        if n != k:
            A = flambeau.cat([A, A.new_zeros((*A.shape[:-1], n - k))], -1)
        A = A - A.mH
        if self.orthogonal_map is _OrthMaps.matrix_exp:
            found = flambeau.linalg.matrix_exp(A)
        else:
            eye = flambeau.eye(n, dtype=A.dtype, device=A.device)
            found = flambeau.linalg.solve(eye - 0.5 * A, eye + 0.5 * A)
        return found if n == k else found[..., :k]

    def right_inverse(self, Q: Any) -> Any:
        """A matrix that gives this orthogonal one."""
        with flambeau.no_grad():
            return self._inverse(Q)

    def _inverse(self, Q: Any) -> Any:
        if Q.shape != self.shape:
            raise ValueError(
                f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of"
                f" shape {Q.shape}."
            )
        n, k = Q.size(-2), Q.size(-1)
        given = Q
        if n < k:
            Q, n, k = Q.mT, k, n
        if not hasattr(self, "base"):
            if self.orthogonal_map is not _OrthMaps.householder:
                raise NotImplementedError(
                    "It is not possible to assign to the matrix exponential or the Cayley"
                    " parametrizations when use_trivialization=False."
                )
            found = _householder_vectors(Q)
            return found.mT if given.size(-2) < given.size(-1) else found
        if n == k:
            orthogonal = Q if _is_orthogonal(Q) else flambeau.linalg.qr(Q).Q
            self.base = orthogonal.detach().clone()
        else:
            extra = flambeau.randn((*Q.shape[:-1], n - k), dtype=Q.dtype, device=Q.device)
            whole = flambeau.linalg.qr(flambeau.cat([Q, extra], -1))
            signs = flambeau.where(whole.R.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
            self.base = (whole.Q * signs.unsqueeze(-2)).detach()
        zero = flambeau.zeros_like(given)
        if self.orthogonal_map is _OrthMaps.householder:
            least = min(given.shape[-2:])
            eye = flambeau.eye(least, dtype=given.dtype)
            zero[..., :least, :least] = -eye
        return zero


def _is_orthogonal(Q: Any) -> bool:
    eye = flambeau.eye(Q.size(-1), dtype=Q.dtype, device=Q.device)
    eps = 10.0 * Q.size(-2) * flambeau.finfo(Q.dtype).eps
    return bool(flambeau.allclose(Q.mH @ Q, eye, atol=eps))


def _reflections(X: Any) -> Any:
    """The first columns of the product of Householder reflections of X's lower triangle."""
    A = X.tril(-1)
    tau = 2.0 / (1.0 + (A * A).sum(-2))
    Q = flambeau.linalg.householder_product(A, tau)
    return Q * X.diagonal(dim1=-2, dim2=-1).int().to(X.dtype).unsqueeze(-2)


def _householder_vectors(Q: Any) -> Any:
    """LAPACK's reflections of an orthogonal matrix, with its columns' signs on the diagonal."""
    A, tau = flambeau.geqrf(Q)
    signs = A.diagonal(dim1=-2, dim2=-1).sign()
    signs = flambeau.where(tau == 0, -signs, signs)
    eye = flambeau.eye(*A.shape[-2:], dtype=A.dtype, device=A.device)
    return A.tril(-1) + A.triu(1) + eye * signs.unsqueeze(-2)


def orthogonal(
    module: Module,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> Module:
    """Have a weight's rows or columns, whichever are fewer, orthonormal.

    Args:
        module: with the weight; it is changed.
        name: of the weight.
        orthogonal_map: "matrix_exp", "cayley" or "householder"; the first for square (and complex)
            weights, the last for others, unless given.
        use_trivialization: whether the map is taken around the present weight.

    Returns:
        The module.

    Raises:
        ValueError: no such weight, less than two dimensions, or another map.

    Reference:
        Lezcano-Casado, Trivializations for Gradient-Based Optimization on Manifolds
        (arXiv:1909.09501).
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, flambeau.Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.ndim < 2:
        raise ValueError(
            f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions."
        )
    if orthogonal_map is None:
        square = weight.size(-2) == weight.size(-1) or weight.is_complex()
        orthogonal_map = "matrix_exp" if square else "householder"
    if orthogonal_map not in _OrthMaps.__members__:
        raise ValueError(
            'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got:'
            f" {orthogonal_map}"
        )
    made = _Orthogonal(weight, _OrthMaps[orthogonal_map], trivialization=use_trivialization)
    return parametrize.register_parametrization(module, name, made, unsafe=True)


__all__ = ["orthogonal", "spectral_norm", "weight_norm"]
