"""Ways to fill a tensor with initial values, in place and without gradients.

Example:
    >>> w = flambeau.empty(3, 5)
    >>> xavier_uniform_(w, gain=calculate_gain("relu")).shape
    torch.Size([3, 5])
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import flambeau

_LINEAR = ("linear",) + tuple(
    f"conv{transposed}{n}d" for transposed in ("", "_transpose") for n in (1, 2, 3)
)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which to scale weights so that variance survives a nonlinearity.

    Args:
        nonlinearity: ``linear``, ``conv1d`` ..., ``sigmoid``, ``tanh``, ``relu``,
            ``leaky_relu`` or ``selu``.
        param: the negative slope of ``leaky_relu``.

    Returns:
        The gain.

    Raises:
        ValueError: the name is not known, or the slope no number.
    """
    if nonlinearity in _LINEAR or nonlinearity == "sigmoid":
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {slope} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Any:
    """Fill with values from U(a, b).

    Args:
        tensor: filled in place, any shape.
        a: lower bound.
        b: upper bound.
        generator: the random generator.

    Returns:
        The tensor.
    """
    with flambeau.no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Any:
    """Fill with values from N(mean, std^2); the arguments are like those of :func:`uniform_`."""
    with flambeau.no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Any,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Any = None,
) -> Any:
    """Fill with values from N(mean, std^2) that lie within [a, b].

    Args:
        tensor: filled in place, any shape.
        mean: of the distribution before the cut.
        std: of the distribution before the cut.
        a: lower bound.
        b: upper bound.
        generator: the random generator.

    Returns:
        The tensor.

    Reference:
        von Neumann, Various techniques used in connection with random digits (1951): what lies
        outside is drawn again, from a uniform distribution where little lies inside.
    """
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of"
            " values may be incorrect.",
            stacklevel=2,
        )

    def cdf(x: float) -> float:
        return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))

    def proposed() -> tuple[Any, Any]:
        """Values, and which of them are to be drawn again."""
        found = flambeau.empty_like(tensor)
        if cdf((b - mean) / std) - cdf((a - mean) / std) > 0.3:
            found.normal_(mean, std, generator=generator)
            return found, (found < low) | (found > high)
        found.uniform_(a, b, generator=generator)
        density = ((found - mean) / std) ** 2 * -0.5 - log_peak
        chance = flambeau.empty_like(tensor).uniform_(generator=generator)
        return found, chance.log() > density

    with flambeau.no_grad():
        low, high = tensor.new_tensor([a, b]).tolist()  # as the dtype has them
        log_peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
        result, again = proposed()
        while bool(again.any()):
            values, outside = proposed()
            result, again = flambeau.where(again, values, result), again & outside
        return tensor.copy_(result)


def constant_(tensor: Any, val: float) -> Any:
    """Fill with one value; returns the tensor."""
    with flambeau.no_grad():
        return tensor.fill_(val)


def ones_(tensor: Any) -> Any:
    """Fill with ones; returns the tensor."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Any) -> Any:
    """Fill with zeros; returns the tensor."""
    with flambeau.no_grad():
        return tensor.zero_()


def eye_(tensor: Any) -> Any:
    """Fill a matrix with the identity.

    Args:
        tensor: ``(n, m)``, filled in place.

    Returns:
        The tensor.

    Raises:
        ValueError: it is not a matrix.
    """
    if tensor.dim() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    with flambeau.no_grad():
        tensor.copy_(flambeau.eye(*tensor.shape, dtype=tensor.dtype, device=tensor.device))
    return tensor


def dirac_(tensor: Any, groups: int = 1) -> Any:
    """Fill a convolution's weight so that it passes as many channels on as it can.

    Args:
        tensor: ``(out, in, ...)`` with 1 to 3 kernel dimensions, filled in place.
        groups: the convolution's groups.

    Returns:
        The tensor.

    Raises:
        ValueError: another number of dimensions, or ``out`` is not divisible by ``groups``.
    """
    if tensor.dim() not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    sizes = tensor.shape
    if sizes[0] % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    per_group = sizes[0] // groups
    center = tuple(size // 2 for size in sizes[2:])
    with flambeau.no_grad():
        tensor.zero_()
        for group in range(groups):
            for channel in range(min(per_group, sizes[1])):
                tensor[(group * per_group + channel, channel, *center)] = 1
    return tensor


def _calculate_fan_in_and_fan_out(tensor: Any) -> tuple[int, int]:
    """Inputs to one unit and units one input reaches, for a weight ``(out, in, ...)``."""
    if tensor.dim() < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"
        )
    receptive_field = math.prod(tensor.shape[2:])
    return tensor.size(1) * receptive_field, tensor.size(0) * receptive_field


def _calculate_correct_fan(tensor: Any, mode: str) -> int:
    mode = mode.lower()
    valid = ["fan_in", "fan_out"]
    if mode not in valid:
        raise ValueError(f"Mode {mode} not supported, please use one of {valid}")
    return _calculate_fan_in_and_fan_out(tensor)[valid.index(mode)]


def _xavier_std(tensor: Any, gain: float) -> float:
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return gain * math.sqrt(2.0 / float(fan_in + fan_out))


def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Fill with U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)).

    Args:
        tensor: a weight ``(out, in, ...)``, filled in place.
        gain: see :func:`calculate_gain`.
        generator: the random generator.

    Returns:
        The tensor.

    Reference:
        Glorot and Bengio, Understanding the difficulty of training deep feedforward neural
        networks (AISTATS 2010), eq. 16.
    """
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Fill with N(0, gain^2 2 / (fan_in + fan_out)); see :func:`xavier_uniform_`."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def _kaiming_std(tensor: Any, a: float, mode: str, nonlinearity: str) -> float | None:
    """The standard deviation, or None for a tensor without elements."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return None
    return calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))


def kaiming_uniform_(
    tensor: Any,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Any:
    """Fill with U(-b, b), b = gain sqrt(3 / fan).

    Args:
        tensor: a weight ``(out, in, ...)``, filled in place.
        a: the negative slope, for ``leaky_relu``.
        mode: ``fan_in`` keeps the variance forward, ``fan_out`` backward.
        nonlinearity: see :func:`calculate_gain`.
        generator: the random generator.

    Returns:
        The tensor.

    Reference:
        He et al., Delving Deep into Rectifiers (arXiv:1502.01852), eq. 10.
    """
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    if std is None:
        return tensor
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Any,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Any:
    """Fill with N(0, gain^2 / fan); see :func:`kaiming_uniform_`."""
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    return tensor if std is None else normal_(tensor, 0.0, std, generator)


def orthogonal_(tensor: Any, gain: float = 1, generator: Any = None) -> Any:
    """Fill with a (semi-)orthogonal matrix, all dimensions but the first taken as one.

    Args:
        tensor: at least a matrix, filled in place.
        gain: scales the result.
        generator: the random generator.

    Returns:
        The tensor.

    Raises:
        ValueError: fewer than 2 dimensions.

    Reference:
        Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear neural
        networks (arXiv:1312.6120).
    """
    if tensor.dim() < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.size(0)
    columns = tensor.numel() // rows
    with flambeau.no_grad():
        drawn = flambeau.empty((rows, columns), dtype=tensor.dtype)
        matrix = drawn.normal_(0, 1, generator=generator).double().numpy()
        q, r = np.linalg.qr(matrix.T if rows < columns else matrix)
        # The signs of r's diagonal make the distribution uniform over orthogonal matrices.
        q = q * np.sign(np.diag(r))
        q = q.T if rows < columns else q
        return tensor.copy_(flambeau.from_numpy(np.ascontiguousarray(gain * q)).view(tensor.shape))


def sparse_(tensor: Any, sparsity: float, std: float = 0.01, generator: Any = None) -> Any:
    """Fill with N(0, std^2), and set a share of each column to zero.

    Args:
        tensor: ``(rows, columns)``, filled in place.
        sparsity: share of zeros.
        std: of the other values.
        generator: the random generator.

    Returns:
        The tensor.

    Raises:
        ValueError: it is not a matrix.

    Reference:
        Martens, Deep learning via Hessian-free optimization (ICML 2010).
    """
    if tensor.dim() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    with flambeau.no_grad():
        tensor.normal_(0, std, generator=generator)
        for column in range(columns):
            tensor[flambeau.randperm(rows)[:zeros], column] = 0
    return tensor


def _deprecated(function: Callable[..., Any]) -> Callable[..., Any]:
    """The name without underscore that torch still answers to."""
    new = function.__name__
    old = new[:-1]

    @functools.wraps(function)
    def deprecated_init(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(
            f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`.",
            FutureWarning,
            stacklevel=2,
        )
        return function(*args, **kwargs)

    deprecated_init.__name__ = old
    deprecated_init.__doc__ = f"The older name of :func:`{new}`."
    return deprecated_init


uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)

__all__ = [
    "calculate_gain",
    "uniform_",
    "normal_",
    "trunc_normal_",
    "constant_",
    "ones_",
    "zeros_",
    "eye_",
    "dirac_",
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
    "orthogonal_",
    "sparse_",
    "uniform",
    "normal",
    "constant",
    "eye",
    "dirac",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
    "orthogonal",
    "sparse",
]
