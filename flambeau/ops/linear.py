"""Linear layers, embeddings, dropout and distances."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from flambeau import dtypes
from flambeau.ops.activation import SELU_ALPHA, SELU_SCALE, floats_only
from flambeau.ops.arithmetic import dtype_word
from flambeau.ops.contraction import matmul_batched, matmul_biased
from flambeau.ops.elementwise import maximum, select_where, sqrt
from flambeau.ops.indexing import LOOKUP, index_leading, put_leading
from flambeau.ops.movement import expand_to, permute_dims, sum_to, view_as_shape
from flambeau.ops.precision import cast, widen
from flambeau.ops.random import keep_mask, keep_mask_of
from flambeau.ops.reduction import restore, sum_axes
from flambeau.ops.rows import NAMES, functional
from flambeau.ops.rules import kept_rule
from flambeau.ops.table import composite
from flambeau.size import broadcast_shapes, wrap_dim
from flambeau.tensor import Tensor

# -- linear ----------------------------------------------------------------------------------------


def _rows(x: Tensor) -> Tensor:
    """All leading dimensions as one."""
    return x if x.ndim == 2 else x.reshape(-1, x._shape[-1])


@composite(keep=True, method=False, public=False, functional=True, autocast="lower")
def linear(input: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    """input @ weight.T + bias.

    Args:
        input: (*, K).
        weight: (M, K), or (K) for a single output without its dimension.
        bias: (M), or None.

    Returns:
        (*, M).

    Raises:
        RuntimeError: sizes or dtypes that do not fit.

    Gradient: the weight's is one product over all rows, (M, N) @ (N, K).
    """
    for other in (weight, bias):
        if other is not None and other.dtype is not input.dtype:
            raise RuntimeError(
                f"mat1 and mat2 must have the same dtype, but got "
                f"{dtype_word(input.dtype)} and {dtype_word(other.dtype)}"
            )
    if input.ndim == 0 or weight.ndim not in (1, 2):
        raise RuntimeError(
            f"both arguments to linear need to be at least 1D, but they are "
            f"{input.ndim}D and {weight.ndim}D"
        )
    if input._shape[-1] != weight._shape[-1]:
        left = "x".join(map(str, (math.prod(input._shape[:-1]), input._shape[-1])))
        right = "x".join(map(str, reversed(weight._shape)))
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({left} and {right})")
    table = weight if weight.ndim == 2 else weight.unsqueeze(0)
    rows, columns = _rows(input), permute_dims(table, (1, 0))
    if bias is not None and bias._shape == columns._shape[1:]:
        out = matmul_biased(rows, columns, bias)
    else:
        out = matmul_batched(rows, columns)
        if bias is not None:
            out = out + bias
    shape = (*input._shape[:-1], *weight._shape[:-1])
    return out.view(*shape) if out._shape != shape else out


@kept_rule
def _linear_vjp(g: Any, out: Any, input: Any, weight: Any, bias: Any = None) -> tuple[Any, ...]:
    g_rows = _rows(g) if weight.ndim == 2 else g.reshape(-1, 1)
    g_input = g_weight = g_bias = None
    if input.requires_grad:
        table = weight if weight.ndim == 2 else weight.unsqueeze(0)
        g_input = matmul_batched(g_rows, table)
        if g_input._shape != input._shape:
            g_input = g_input.view(*input._shape)
    if weight.requires_grad:
        g_weight = matmul_batched(permute_dims(g_rows, (1, 0)), _rows(input))
        if weight.ndim == 1:
            g_weight = g_weight.view(*weight._shape)
    if bias is not None and bias.requires_grad:
        g_bias = sum_to(g_rows, tuple(bias.shape))
    return g_input, g_weight, g_bias


linear.batch("rows")
linear.vjp(_linear_vjp, saves="input weight")


@composite(method=False, functional=True)
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[.., o] = sum over i, j of input1[.., i] * weight[o, i, j] * input2[.., j] + bias[o].

    Args:
        input1: (*, I).
        input2: (*, J), the same leading dimensions.
        weight: (O, I, J).
        bias: (O), or None.

    Raises:
        RuntimeError: sizes that do not fit.
    """
    if input1.ndim != input2.ndim or input1._shape[:-1] != input2._shape[:-1]:
        raise RuntimeError(
            f"bilinear(): input batch dimensions do not match: got "
            f"{list(input1.shape)} and {list(input2.shape)}"
        )
    for k, x in ((1, input1), (2, input2)):
        if x._shape[-1] != weight._shape[k]:
            raise RuntimeError(
                f"bilinear(): input{k} size does not match weight size: got "
                f"{x._shape[-1]} but expected {weight._shape[k]}"
            )
    if bias is not None and bias._shape[0] != weight._shape[0]:
        raise RuntimeError(
            f"bilinear(): bias size does not match weight size: got "
            f"{bias._shape[0]} but expected {weight._shape[0]}"
        )
    a, b = _rows(input1), _rows(input2)
    outputs, i, j = weight._shape
    # (N, I) @ (I, O * J), then a product with input2 summed over J
    spread = permute_dims(weight, (1, 0, 2)).reshape(i, outputs * j)
    half = matmul_batched(a, spread).view(-1, outputs, j)
    out = (half * b.unsqueeze(1)).sum(-1)
    if bias is not None:
        out = out + bias
    return out.reshape(*input1._shape[:-1], outputs)


# -- embedding -------------------------------------------------------------------------------------


@composite(keep=True, method=False, public=False)
def _embedding(weight: Tensor, indices: Tensor, padding_idx: int) -> Tensor:
    """weight[indices]; the row `padding_idx` gets no gradient (-1: every row does)."""
    if indices.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(
            f"Expected tensor for argument #1 'indices' to have one of the "
            f"following scalar types: Long, Int; but got {indices.type()} instead "
            f"(while checking arguments for embedding)"
        )
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    return index_leading(weight, indices, fault=LOOKUP)


@kept_rule
def _embedding_vjp(
    g: Any, out: Any, weight: Any, indices: Any, padding_idx: int
) -> tuple[Any, ...]:
    if padding_idx >= 0:
        g = select_where((indices == padding_idx).unsqueeze(-1), 0.0, g)
    zeros = NAMES["zeros"](tuple(weight.shape), dtype=g.dtype, device=g.device)
    return put_leading(zeros, g, "add", indices), None, None


_embedding.vjp(_embedding_vjp, saves="indices")
_embedding.row.departs = lambda node: node.attrs[-1] >= 0


@composite(method=False, public=False)
def _embedding_sparse(weight: Tensor, indices: Tensor, padding_idx: int) -> Tensor:
    """As `_embedding`, with a gradient that keeps only the rows which were used."""
    return _embedding(weight, indices, padding_idx)


def _embedding_sparse_vjp(
    g: Any, out: Any, weight: Any, indices: Any, padding_idx: int
) -> tuple[Any, ...]:
    places = indices.reshape(-1)
    values = g.reshape(-1, weight.shape[1])
    if padding_idx >= 0:
        used = NAMES["tensor"](np.flatnonzero(places._array() != padding_idx))
        places, values = index_leading(places, used), index_leading(values, used)
    return NAMES["sparse_coo_tensor"](places.unsqueeze(0), values, weight.shape), None, None


_embedding_sparse.vjp(_embedding_sparse_vjp, saves="indices")


@composite(method=False, functional=True, public=False)
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of a table that integers name.

    Args:
        input: int64 or int32, any shape.
        weight: (V, E).
        padding_idx: a row that gets no gradient; negative counts from the end.
        max_norm: rows that are used are first scaled down, in place, to at most this norm.
        norm_type: the p of that norm.
        scale_grad_by_freq: divide a row's gradient by how often it is used here.
        sparse: the weight's gradient is sparse: the rows that were used.

    Returns:
        (*input.shape, E).

    Raises:
        IndexError: an index outside [0, V), when the result is computed.
    """
    if padding_idx is not None:
        rows = weight._shape[0]
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    if max_norm is not None:
        _renormalize(weight.detach(), input, max_norm, norm_type)
    chosen = -1 if padding_idx is None else padding_idx
    look_up = _embedding_sparse if sparse else _embedding
    if scale_grad_by_freq:
        flat = input.reshape(-1)
        uses = NAMES["zeros"]((weight._shape[0],), dtype=weight.dtype)
        uses = put_leading(uses, NAMES["ones"](flat._shape, dtype=weight.dtype), "add", flat)
        return _scaled_gradient(
            look_up(weight, input, chosen), index_leading(uses, input).unsqueeze(-1)
        )
    return look_up(weight, input, chosen)


@composite(method=False, functional=True, public=False)
def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of bags of a table's rows.

    Args:
        input: integers (B, N), a bag a row, or (N,), cut into bags by `offsets`.
        weight: (V, E).
        offsets: (B,), ascending from 0: where bags begin; bags may be empty.
        max_norm, norm_type, scale_grad_by_freq, sparse: as in `embedding`.
        mode: "sum", "mean" or "max". An empty bag gives zeros.
        per_sample_weights: shaped as input; factors of the rows, for "sum" only.
        include_last_offset: the last offset is the end of the last bag: there are B - 1.
        padding_idx: entries that are in no bag.

    Returns:
        (B, E).

    Raises:
        ValueError: shapes that do not go together, or another mode.
        NotImplementedError: weights in another mode than "sum".
        IndexError: an index outside [0, V), when the result is computed.

    Reference: Joulin et al., "Bag of Tricks for Efficient Text Classification" (2017), for the use.
    """
    bags = _bags(input, weight, offsets, per_sample_weights, include_last_offset)
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode == "max" and (scale_grad_by_freq or sparse):
        problem = "scaling the gradient by the frequency" if scale_grad_by_freq else ""
        raise ValueError(f"max mode does not support {problem or 'sparse weights'}")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported "
            f"for mode='sum' (got mode='{mode}'). Please open a feature request on GitHub."
        )
    flat = input.reshape(-1)
    rows = embedding(flat, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    place, count = bags
    if padding_idx is not None:  # what is in no bag goes to one more, which is dropped
        place = select_where(flat == padding_idx % weight._shape[0], count, place)
    shape = (count + 1, weight._shape[1])
    zeros = NAMES["zeros"](shape, dtype=rows.dtype, device=rows.device)
    if mode == "max":
        wide = place.unsqueeze(1).expand(*rows._shape)
        found = NAMES["scatter_reduce"](zeros, 0, wide, rows, "amax", include_self=False)
        return found[:count]
    found = put_leading(zeros, rows, "add", place)[:count]
    if mode == "mean":
        ones = NAMES["ones"](flat._shape, dtype=rows.dtype, device=rows.device)
        entries = put_leading(NAMES["zeros_like"](zeros[:, 0]), ones, "add", place)[:count]
        found = found / NAMES["clamp"](entries, min=1).unsqueeze(1)
    return found


def _bags(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None,
    per_sample_weights: Tensor | None,
    include_last_offset: bool,
) -> tuple[Tensor, int]:
    """-> (the bag of each entry, how many bags there are)."""
    if per_sample_weights is not None and input._shape != per_sample_weights._shape:
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is not None, "
            f"then it must have the same shape as the input ({input.shape})"
        )
    if weight.ndim != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.ndim}")
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError(
                "if input is 2D, then offsets has to be None, as input is treated is a mini-batch "
                f"of fixed length sequences. However, found offsets of type {type(offsets)}"
            )
        count, length = input._shape
        numbers = NAMES["arange"](count, device=input.device).unsqueeze(1)
        return numbers.expand(count, length).reshape(-1), count
    if input.ndim != 1:
        raise ValueError(
            f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}"
        )
    if offsets is None:
        raise ValueError("offsets has to be a 1D Tensor but got None")
    if offsets.ndim != 1:
        raise ValueError("offsets has to be a 1D Tensor")
    starts = offsets[:-1] if include_last_offset else offsets
    entries = NAMES["arange"](input._shape[0], device=input.device)
    place = NAMES["searchsorted"](starts.long(), entries, right=True) - 1
    return place, starts._shape[0]


def _renormalize(weight: Tensor, indices: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows that are used down to `max_norm`, in place."""
    rows = index_leading(weight, indices.reshape(-1))
    size = NAMES["norm"](rows, norm_type, 1, True)
    scale = select_where(size > max_norm, float(max_norm) / (size + 1e-7), 1.0)
    weight.copy_(put_leading(weight, rows * scale, "set", indices.reshape(-1)))


@composite(method=False, public=False)
def _scaled_gradient(input: Tensor, divisor: Tensor) -> Tensor:
    """input as it is; its cotangent is divided."""
    return NAMES["clone"](input)


_scaled_gradient.vjp(lambda g, out, x, divisor: (g / divisor, None), saves="divisor")


@composite(method=False, functional=True, public=False)
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 where the last dimension's index is the element, else 0; int64.

    Args:
        tensor: int64, any shape.
        num_classes: size of the new last dimension; -1 takes the largest element + 1 (executes).

    Raises:
        RuntimeError: another dtype, no elements without `num_classes`, or elements out of range.
    """
    if tensor.dtype is not dtypes.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if tensor.numel() == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return NAMES["zeros"](*tensor._shape, num_classes, dtype=dtypes.int64)
    values = tensor._array()
    if values.min() < 0:
        raise RuntimeError("Class values must be non-negative.")
    if num_classes == -1:
        num_classes = int(values.max()) + 1
    elif num_classes < 1:
        raise RuntimeError("num_classes should be positive")
    elif values.max() >= num_classes:
        raise RuntimeError("Class values must be smaller than num_classes.")
    classes = NAMES["arange"](num_classes, device=tensor.device)
    return cast(tensor.unsqueeze(-1) == classes, dtypes.int64)


# -- dropout ---------------------------------------------------------------------------------------


@composite(method=False, public=False)
def native_dropout_masked(input: Tensor, keep: Tensor, scale: float) -> Tensor:
    """input * scale where kept, else 0."""
    return select_where(keep, input * scale, 0.0)


native_dropout_masked.vjp(
    lambda g, out, x, keep, scale: (select_where(keep, g * scale, 0.0), None, None), saves="keep"
)


def check_probability(p: float, kind: type[Exception] = RuntimeError) -> None:
    """Refuse what is not a probability."""
    if p < 0.0 or p > 1.0:
        raise kind(f"dropout probability has to be between 0 and 1, but got {p}")


def _kept(input: Tensor, p: float, mask_shape: tuple[int, ...]) -> Tensor:
    if mask_shape == input._shape:
        return keep_mask_of(input, p)
    return keep_mask(mask_shape, p, device=input.device)


def _dropped(input: Tensor, p: float, mask_shape: tuple[int, ...]) -> Tensor:
    if p == 1.0:
        return input * 0.0
    mask = _kept(input, p, mask_shape)
    return native_dropout_masked(input, mask, 1.0 / (1.0 - p))


@composite(method=False, inplace=True)
def dropout(input: Tensor, p: float = 0.5, train: bool = True) -> Tensor:
    """Each element zeroed with probability p and the others scaled by 1 / (1 - p), in training.

    Raises:
        RuntimeError: p outside [0, 1].

    Reference:
        Srivastava et al., Dropout (JMLR 15, 2014).
    """
    check_probability(p)
    if not train or p == 0.0 or not input.numel():
        return input
    return _dropped(input, p, input._shape)


@composite(method=False, inplace=True)
def feature_dropout(input: Tensor, p: float = 0.5, train: bool = True) -> Tensor:
    """`dropout` of whole channels: one draw for each (n, c) of (N, C, ..)."""
    check_probability(p)
    if not train or p == 0.0 or not input.numel():
        return input
    return _dropped(input, p, _feature_shape(input))


def _feature_shape(input: Tensor) -> tuple[int, ...]:
    if input.ndim < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    return input._shape[:2] + (1,) * (input.ndim - 2)


def _alpha_dropped(input: Tensor, p: float, mask_shape: tuple[int, ...]) -> Tensor:
    """Dropped elements take SELU's limit; then mean and variance are restored."""
    if p == 1.0:
        return input * 0.0
    low = -SELU_ALPHA * SELU_SCALE
    a = 1.0 / math.sqrt((low * low * p + 1.0) * (1.0 - p))
    x = select_where(_kept(input, p, mask_shape), input, low)
    return x * a - low * a * p


@composite(method=False, inplace=True)
def alpha_dropout(input: Tensor, p: float = 0.5, train: bool = False) -> Tensor:
    """Dropout that keeps mean 0 and variance 1 of SELU networks.

    Raises:
        RuntimeError: p outside [0, 1].

    Reference:
        Klambauer et al., Self-Normalizing Neural Networks (arXiv:1706.02515).
    """
    check_probability(p)
    if not train or p == 0.0 or not input.numel():
        return input
    return _alpha_dropped(input, p, input._shape)


@composite(method=False, inplace=True)
def feature_alpha_dropout(input: Tensor, p: float = 0.5, train: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels: one draw for each (n, c) of (N, C, ..)."""
    check_probability(p)
    if not train or p == 0.0 or not input.numel():
        return input
    return _alpha_dropped(input, p, _feature_shape(input))


def _functional_form(name: str, trained: bool) -> None:
    def form(
        input: Tensor, p: float = 0.5, training: bool = trained, inplace: bool = False
    ) -> Tensor:
        check_probability(p, ValueError)
        found: Tensor = NAMES[name + "_" if inplace else name](input, p, training)
        return found

    form.__doc__ = NAMES[name].__doc__
    functional(name)(form)


for _name, _trained in (
    ("dropout", True),
    ("alpha_dropout", False),
    ("feature_alpha_dropout", False),
):
    _functional_form(_name, _trained)


def _channel_form(name: str, ranks: tuple[int, ...], unbatched: int) -> None:
    def form(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        check_probability(p, ValueError)
        if input.ndim not in ranks:
            warnings.warn(
                f"{name}: Received a {input.ndim}-D input to {name}, which is deprecated "
                "and will result in an error in a future release.",
                stacklevel=2,
            )
        if input.ndim == unbatched:
            if inplace:
                NAMES["feature_dropout_"](input.unsqueeze(0), p, training)
                return input
            found = NAMES["feature_dropout"](input.unsqueeze(0), p, training)
            return found.squeeze(0)
        chosen = NAMES["feature_dropout_" if inplace else "feature_dropout"]
        return chosen(input, p, training)

    form.__doc__ = NAMES["feature_dropout"].__doc__
    functional(name)(form)


_channel_form("dropout1d", (2, 3), 2)
_channel_form("dropout2d", (3, 4), -1)
_channel_form("dropout3d", (4, 5), 4)


# -- distances -------------------------------------------------------------------------------------


@composite(method=False, functional=True)
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) * max(|x2|, eps)) along one dimension of the broadcast tensors."""
    shape = broadcast_shapes(x1._shape, x2._shape)
    floats_only("cosine_similarity", x1, x2)
    dtype = dtypes.promote_types(x1.dtype, x2.dtype)
    a, b = (widen(cast(expand_to(x, shape), dtype)) for x in (x1, x2))
    axes = (wrap_dim(dim, len(shape)),) if shape else ()
    if not axes:
        axes, a, b = (0,), view_as_shape(a, (1,)), view_as_shape(b, (1,))
    unit_a, unit_b = (
        x / restore(maximum(sqrt(sum_axes(x * x, axes)), eps), x._shape, axes, True) for x in (a, b)
    )
    return cast(sum_axes(unit_a * unit_b, axes), dtype)


@composite(method=False, functional=True)
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps over the last dimension."""
    shape = broadcast_shapes(x1._shape, x2._shape)
    gap = expand_to(x1 - x2, shape) + eps
    return NAMES["norm"](gap, p, -1, keepdim)
