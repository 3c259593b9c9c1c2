"""Products of matrices and vectors, made from the batched matrix product."""

from __future__ import annotations

import math
import string
from typing import Any

import numpy as np

from flambeau.dtype import int8, int32, promote_types
from flambeau.ops.arithmetic import dtype_word
from flambeau.ops.contraction import matmul, matmul_batched, matmul_biased
from flambeau.ops.entries import called
from flambeau.ops.precision import cast, doubled
from flambeau.ops.rows import NAMES
from flambeau.ops.table import composite
from flambeau.size import broadcast_shapes, wrap_dim
from flambeau.tensor import Tensor


def _need(x: Tensor, ndim: int, name: str, which: str) -> None:
    if x.ndim != ndim:
        raise RuntimeError(f"{name}: Expected {ndim}D tensor for {which}, got {x.ndim}D tensor")


@composite(out="exact", autocast="lower")
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Product of two matrices (N, M) @ (M, P)."""
    for x, which in ((input, "self"), (mat2, "mat2")):
        if x.ndim != 2:
            raise RuntimeError(f"{which} must be a matrix")
    return matmul(input, mat2)


@composite(out="exact", autocast="exempt", keep=True, method=False)
def _int_mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Product of two int8 matrices (N, M) @ (M, P) with an int32 result, which wraps.

    Raises:
        RuntimeError: other dtypes or dimensions, or sizes that do not meet.
    """
    for x, which in ((input, "self"), (mat2, "mat2")):
        if x.dtype is not int8:
            raise RuntimeError(
                f"int_mm_out_cpu: Expected {which} dtype to be of type int8 but got "
                f"{dtype_word(x.dtype).lower()}"
            )
        if x.ndim != 2:
            raise RuntimeError(
                f"int_mm_out_cpu: Expected {which} to be of dimension 2 but got {x.ndim}"
            )
    if input._shape[1] != mat2._shape[0]:
        raise RuntimeError(
            f"int_mm_out_cpu: self.size(1) needs to match mat2.size(0) but got "
            f"{input._shape[1]} and {mat2._shape[0]}"
        )
    return matmul_batched(cast(input, int32), cast(mat2, int32))


_int_mm.flops(lambda node: 2 * node.numel * node.src[0].shape[1])


@composite(out="exact", autocast="lower")
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of two batches of matrices (B, N, M) @ (B, M, P)."""
    if input.ndim != 3 or mat2.ndim != 3:
        raise RuntimeError(
            "batch1 must be a 3D tensor" if input.ndim != 3 else "batch2 must be a 3D tensor"
        )
    if input._shape[0] != mat2._shape[0] or input._shape[2] != mat2._shape[1]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: "
            f"[{input._shape[0]}, {input._shape[2]}] but got: "
            f"[{mat2._shape[0]}, {mat2._shape[1]}]."
        )
    return matmul(input, mat2)


def _shown(input: Tensor, other: Tensor) -> Any:
    """The public product of two batches of matrices."""
    if input.ndim == 3 and other.ndim == 3 and input._shape[0] == other._shape[0]:
        return bmm
    return mm if input.ndim == 2 and other.ndim == 2 else matmul


matmul_batched.row.shown = _shown


@composite(out="exact", autocast="exempt")
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """Product of a matrix and a vector."""
    if input.ndim != 2 or vec.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got 1, {input.ndim}, {vec.ndim}")
    if input._shape[1] != vec._shape[0]:
        raise RuntimeError(
            f"size mismatch, got input ({input._shape[0]}), mat "
            f"({input._shape[0]}x{input._shape[1]}), vec ({vec._shape[0]})"
        )
    return matmul(input, vec)


@composite(out="exact", autocast="exempt")
@called("Dot")
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Sum of the products of two vectors' elements."""
    if input.ndim != 1 or tensor.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors")
    return matmul(input, tensor)


@composite(out="exact", autocast="exempt")
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """Sum of the products of the conjugates of one vector's elements with another's."""
    return dot(NAMES["conj"](input), other)


@composite(out="exact")
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimensions."""
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    if input._shape[-1] != other._shape[-1]:
        raise RuntimeError(
            f"inner() the last dimension must match on both input tensors but got "
            f"shapes {list(input.shape)} and {list(other.shape)}"
        )
    if input.ndim == 1 and other.ndim == 1:
        return dot(input, other)
    return tensordot(input, other, dims=([-1], [-1]))


@composite(out=True, aliases=("ger",))
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """Products of every pair of elements of two vectors."""
    if input.ndim != 1 or vec2.ndim != 1:
        bad = input if input.ndim != 1 else vec2
        raise RuntimeError(
            f"outer: Expected 1-D argument {'self' if bad is input else 'vec2'}, "
            f"but got {bad.ndim}-D"
        )
    return input.unsqueeze(1) * vec2


def _scaled(input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    if broadcast_shapes(input._shape, product._shape) != product._shape:
        raise RuntimeError(
            f"The expanded size of the tensor ({product._shape[-1]}) must match the "
            f"existing size ({input._shape[-1] if input.ndim else 1}) at "
            "non-singleton dimension "
            f"{product.ndim - 1}.  Target sizes: {list(product.shape)}.  Tensor "
            f"sizes: {list(input.shape)}"
        )
    if product.dtype.category == 0:
        found = NAMES["logical_and"](product, NAMES["tensor"](bool(alpha)))
        return found | input if beta else found
    if product.dtype.category == 1:  # the factors become integers, too
        alpha, beta = int(alpha), int(beta)
    if alpha != 1:
        product = product * alpha
    if beta == 0:
        return product
    return product + (input if beta == 1 else input * beta)


@composite(out="exact", inplace=True, autocast="lower")
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (mat1 @ mat2)."""
    product = mm(mat1, mat2)
    plain = beta == 1 and alpha == 1 and input.dtype is product.dtype
    if plain and input._shape == product._shape[1:]:
        return matmul_biased(mat1, mat2, input)
    return _scaled(input, product, beta, alpha)


@composite(out="exact", inplace=True, autocast="exempt")
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (mat @ vec)."""
    return _scaled(input, mv(mat, vec), beta, alpha)


@composite(out=True, inplace=True)
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2)."""
    return _scaled(input, outer(vec1, vec2), beta, alpha)


@composite(out="exact", inplace=True, autocast="lower")
def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> Tensor:
    """beta * input + alpha * bmm(batch1, batch2)."""
    return _scaled(input, bmm(batch1, batch2), beta, alpha)


@composite(out="exact", inplace=True, autocast="lower")
def addbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> Tensor:
    """beta * input + alpha * the sum over the batch of batch1 @ batch2."""
    return _scaled(input, bmm(batch1, batch2).sum(0, dtype=batch1.dtype), beta, alpha)


@composite(method=False, out="exact")
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sums of products over pairs of dimensions of a and b."""
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a.ndim, b.ndim):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        left = list(range(a.ndim - dims, a.ndim))
        right = list(range(dims))
    else:
        left = [wrap_dim(d, a.ndim) for d in ([dims[0]] if isinstance(dims[0], int) else dims[0])]
        right = [wrap_dim(d, b.ndim) for d in ([dims[1]] if isinstance(dims[1], int) else dims[1])]
    if len(left) != len(right):
        raise RuntimeError("both dimension lists should have same length")
    for i, j in zip(left, right, strict=True):
        if a._shape[i] == 1 != b._shape[j]:  # as torch: one of size 1 stands for all
            b = b.sum(j, keepdim=True, dtype=b.dtype)
        elif b._shape[j] == 1 != a._shape[i]:
            a = a.sum(i, keepdim=True, dtype=a.dtype)
        elif a._shape[i] != b._shape[j]:
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size "
                f"{a._shape[i]} in dim {i} and second has size {b._shape[j]} in dim "
                f"{j}"
            )
    a_rest = [d for d in range(a.ndim) if d not in left]
    b_rest = [d for d in range(b.ndim) if d not in right]
    k = math.prod(a._shape[d] for d in left)
    x = a.permute(*a_rest, *left).reshape(
        -1 if k else math.prod(a._shape[d] for d in a_rest),
        k,
    )
    y = b.permute(*right, *b_rest).reshape(
        k,
        -1 if k else math.prod(b._shape[d] for d in b_rest),
    )
    shape = [a._shape[d] for d in a_rest] + [b._shape[d] for d in b_rest]
    return matmul(x, y).reshape(shape)


def _parse(equation: str, operands: tuple[Tensor, ...]) -> tuple[list[list[Any]], list[Any]]:
    """Labels of each operand and of the result; an ellipsis becomes labels ('...', k)."""
    equation = equation.replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({len(terms)}) "
            f"does not match the number of operands ({len(operands)})"
            if len(terms) < len(operands)
            else "einsum(): more subscripts in the equation than operands were provided"
        )
    spans = []
    for term, x in zip(terms, operands, strict=True):
        letters = term.replace("...", "")
        bad = [c for c in letters if c not in string.ascii_letters]
        if bad:
            raise RuntimeError(
                f"einsum(): invalid subscript given at index 0 in the equation "
                f"string, subscripts must be in [a-zA-Z] (got {bad[0]!r})"
            )
        span = x.ndim - len(letters)
        if span < 0 or (span and "..." not in term):
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation "
                f"({len(letters)}) does not match the number of dimensions "
                f"({x.ndim}) for operand 0 and no ellipsis was given"
            )
        spans.append(span)
    widest = max(spans, default=0)

    def labels(term: str, span: int) -> list[Any]:
        before, dots, after = term.partition("...")
        middle = [("...", k) for k in range(widest - span, widest)] if dots else []
        return [*before, *middle, *after]

    parsed = [labels(t, s) for t, s in zip(terms, spans, strict=True)]
    if arrow:
        result = labels(output, widest)
        for c in result:
            if not any(c in p for p in parsed) and not isinstance(c, tuple):
                raise RuntimeError(
                    f"einsum(): output subscript {c} does not appear in the "
                    "equation for any input operand"
                )
    else:
        flat = [c for p in parsed for c in p]
        single = sorted({c for c in flat if isinstance(c, str) and flat.count(c) == 1})
        result = [*(("...", k) for k in range(widest)), *single]
    return parsed, result


def _diagonals(x: Tensor, labels: list[Any]) -> tuple[Tensor, list[Any]]:
    """Repeated labels of one operand become its diagonal."""
    labels = list(labels)
    while len(set(labels)) != len(labels):
        c = next(c for c in labels if labels.count(c) > 1)
        i = labels.index(c)
        j = labels.index(c, i + 1)
        if x._shape[i] != x._shape[j]:
            raise RuntimeError(
                f"einsum(): subscript {c} is repeated for operand 0 but the sizes "
                f"don't match, {x._shape[j]} != {x._shape[i]}"
            )
        x = x.diagonal(0, i, j)
        labels = [d for k, d in enumerate(labels) if k not in (i, j)] + [c]
    return x, labels


def _contract(
    a: Tensor, la: list[Any], b: Tensor, lb: list[Any], keep: set[Any]
) -> tuple[Tensor, list[Any]]:
    """One pair of operands: labels in `keep` stay, the others are summed."""
    sizes: dict[Any, int] = {}
    for x, labels in ((a, la), (b, lb)):
        for c, n in zip(labels, x._shape, strict=True):
            if sizes.get(c, 1) not in (1, n) and n != 1:
                raise RuntimeError(
                    f"einsum(): operands do not broadcast with remapped shapes "
                    f"[original->remapped]: {list(a.shape)} {list(b.shape)}"
                )
            sizes[c] = max(sizes.get(c, 1), n) if n else 0

    def prepared(x: Tensor, labels: list[Any], other: list[Any]) -> tuple[Tensor, list[Any]]:
        gone = tuple(i for i, c in enumerate(labels) if c not in keep and c not in other)
        if gone:
            x = x.sum(gone)
            labels = [c for c in labels if c in keep or c in other]
        return x, labels

    a, la = prepared(a, la, lb)
    b, lb = prepared(b, lb, la)
    # a size-1 dimension against a longer one broadcasts; it is no contraction
    batch = [c for c in la if c in lb and c in keep]
    inner_labels = [c for c in la if c in lb and c not in keep]
    left = [c for c in la if c not in lb]
    right = [c for c in lb if c not in la]

    def arranged(x: Tensor, labels: list[Any], groups: list[list[Any]]) -> Tensor:
        x = _in_order(x, labels, [c for g in groups for c in g])
        full = [sizes[c] for g in groups for c in g]
        if tuple(full) != x._shape:
            x = x.expand(*full)
        if all(len(g) == 1 for g in groups[1:]):
            return x
        shape = [sizes[c] for c in groups[0]] + [math.prod(sizes[c] for c in g) for g in groups[1:]]
        return x.reshape(shape)

    product = matmul(
        arranged(a, la, [batch, left, inner_labels]), arranged(b, lb, [batch, inner_labels, right])
    )
    order = batch + left + right
    if len(left) != 1 or len(right) != 1:
        product = product.reshape([sizes[c] for c in order])
    return product, order


def _in_order(x: Tensor, labels: list[Any], wanted: list[Any]) -> Tensor:
    """Dimensions in another order of their labels; the tensor itself where that is theirs."""
    return x if labels == wanted else x.permute(*[labels.index(c) for c in wanted])


@composite(method=False)
def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products named by subscripts, e.g. `einsum("bij,bjk->bik", x, y)`.

    Raises:
        RuntimeError: an equation that does not fit the operands.
    """
    if not isinstance(equation, str):
        return _sublist(equation, *operands)
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not operands:
        raise RuntimeError("einsum(): must provide at least one operand")
    parsed, result = _parse(equation, operands)
    work = [_diagonals(x, labels) for x, labels in zip(operands, parsed, strict=True)]
    path: Any = [(0, 1)] * (len(work) - 1)
    if len(work) > 2:
        path = _path(work, result)
    for i, j in path:
        (a, la), (b, lb) = work[i], work[j]
        rest = [w for k, w in enumerate(work) if k not in (i, j)]
        keep = set(result).union(*(w[1] for w in rest)) if rest else set(result)
        work = [*rest, _contract(a, la, b, lb, keep)]
    x, labels = work[0]
    gone = tuple(i for i, c in enumerate(labels) if c not in result)
    if gone:
        x = x.sum(gone)
        labels = [c for c in labels if c in result]
    if len(operands) == 1:  # a view even where nothing moves
        return x.permute(*[labels.index(c) for c in result])
    return _in_order(x, labels, result)


def _path(work: list[Any], result: list[Any]) -> list[tuple[int, int]]:
    """A good order of pairwise contractions, found by NumPy on shapes alone."""
    names: dict[Any, str] = {}
    for _, labels in work:
        for c in labels:
            names.setdefault(c, string.ascii_letters[len(names)])
    text = ",".join("".join(names[c] for c in labels) for _, labels in work)
    text += "->" + "".join(names[c] for c in result)
    shapes = [np.broadcast_to(np.float32(0), x._shape) for x, _ in work]
    steps = np.einsum_path(text, *shapes, optimize="greedy")[0][1:]
    path: list[tuple[int, int]] = []
    for step in steps:
        path.append((step[0], step[1]))
        if len(step) > 2:  # NumPy contracts the rest at once: take them pair by pair
            path[-1:] = [(0, 1)] * (len(step) - 1)
    return path


def _sublist(*arguments: Any) -> Tensor:
    """The form einsum(op1, [0, 1], op2, [1, 2], [0, 2])."""
    operands = arguments[0:-1:2] if len(arguments) % 2 else arguments[::2]
    lists = arguments[1::2] if len(arguments) % 2 == 0 else arguments[1:-1:2]

    def text(labels: Any) -> str:
        return "".join("..." if c is Ellipsis else string.ascii_letters[c] for c in labels)

    equation = ",".join(text(x) for x in lists)
    if len(arguments) % 2:
        equation += "->" + text(arguments[-1])
    return einsum(equation, *operands)


@composite(method=False)
def chain_matmul(*matrices: Tensor) -> Tensor:
    """Product of several matrices in the cheapest order."""
    return multi_dot(matrices)


@composite(method=False, public=False, out=True, aliases=("linalg.multi_dot",))
def multi_dot(tensors: Any) -> Tensor:
    """Product of several matrices (the first and last may be vectors) in the cheapest order."""
    items = list(tensors)
    if len(items) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(items)}")
    first, last = items[0].ndim == 1, items[-1].ndim == 1
    if first:
        items[0] = items[0].unsqueeze(0)
    if last:
        items[-1] = items[-1].unsqueeze(1)
    sizes = [x._shape[0] for x in items] + [items[-1]._shape[1]]
    n = len(items)
    cost = [[0] * n for _ in range(n)]
    cut = [[0] * n for _ in range(n)]
    for span in range(1, n):
        for i in range(n - span):
            j = i + span
            options = [
                (cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            ]
            cost[i][j], cut[i][j] = min(options)

    def product(i: int, j: int) -> Tensor:
        if i == j:
            return items[i]
        return matmul(product(i, cut[i][j]), product(cut[i][j] + 1, j))

    found = product(0, n - 1)
    if first:
        found = found.squeeze(0)
    return found.squeeze(-1) if last else found


@composite(out=True)
def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker product."""
    n = max(input.ndim, other.ndim)
    a = input.reshape((1,) * (n - input.ndim) + input._shape)
    b = other.reshape((1,) * (n - other.ndim) + other._shape)
    for d in range(n):
        a = a.unsqueeze(2 * d + 1)
        b = b.unsqueeze(2 * d)
    shape = [x * y for x, y in zip(a._shape[::2], b._shape[1::2], strict=True)]
    return (a * b).reshape(shape)


@composite(out="exact")
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """Cross product of 3-vectors along a dimension (by default the first of size 3)."""
    if input.ndim != other.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    shape = broadcast_shapes(input._shape, other._shape)
    if dim is None:
        dims = [d for d, n in enumerate(shape) if n == 3]
        if not dims:
            raise RuntimeError("no dimension of size 3 in input")
        dim = dims[0]
    d = wrap_dim(dim, len(shape))
    if not input._shape[d] == other._shape[d] == 3:
        raise RuntimeError(
            f"linalg.cross: inputs dimension {dim} must have length 3. Got "
            f"{input._shape[d]} and {other._shape[d]}"
        )
    dtype = promote_types(input.dtype, other.dtype)
    # products of floats are exact in a wider dtype, so that their difference is rounded once
    left, right = (doubled(x) if dtype.category == 2 else x for x in (input, other))
    a = [x.squeeze(d) for x in left.expand(*shape).split(1, d)]
    b = [x.squeeze(d) for x in right.expand(*shape).split(1, d)]
    found = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    return NAMES["stack"](found, d).to(dtype)


@composite(out=True, aliases=("linalg.matrix_power",))
def matrix_power(input: Tensor, n: int) -> Tensor:
    """A square matrix multiplied by itself n times, by squaring; its inverse where n < 0."""
    if input.ndim < 2 or input._shape[-1] != input._shape[-2]:
        raise RuntimeError(
            f"linalg.matrix_power: A must be batches of square matrices, but they "
            f"are {input._shape[-2] if input.ndim > 1 else 1} by "
            f"{input._shape[-1]} matrices"
        )
    if n < 0:
        return matrix_power(NAMES["inverse"](input), -n)
    result: Tensor | None = None
    base = input
    while n:
        if n & 1:
            result = base if result is None else matmul(result, base)
        n >>= 1
        if n:
            base = matmul(base, base)
    if result is None:
        eye = NAMES["eye"](input._shape[-1], dtype=input.dtype, device=input.device)
        return eye.expand(*input._shape).clone()
    return result
