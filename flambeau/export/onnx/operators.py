"""What ONNX's operators do, in flambeau's functions: elementwise ones, movement, reductions."""

from __future__ import annotations

import functools
import math
import operator as python
from collections.abc import Callable
from typing import Any

import numpy as np

import flambeau
from flambeau.dtype import bool as bool_dtype
from flambeau.dtype import float32, int32, int64
from flambeau.export.onnx.builder import library
from flambeau.export.onnx.reading import (
    _DTYPES,
    Known,
    Node,
    OnnxImportError,
    ints,
    number,
    operator,
    tensor,
)
from flambeau.tensor import Tensor

F = flambeau.nn.functional

# -- elementwise -----------------------------------------------------------------------------------


def _unary(call: Any) -> Callable[..., Any]:
    return lambda node, x: call(tensor(x))


for _name, _call in {
    "Abs": flambeau.abs, "Sign": flambeau.sign, "Floor": flambeau.floor,
    "Ceil": flambeau.ceil, "Round": flambeau.round, "Sqrt": flambeau.sqrt,
    "Reciprocal": flambeau.reciprocal, "Exp": flambeau.exp, "Log": flambeau.log,
    "Sin": flambeau.sin, "Cos": flambeau.cos, "Tan": flambeau.tan, "Asin": flambeau.asin,
    "Acos": flambeau.acos, "Atan": flambeau.atan, "Sinh": flambeau.sinh, "Cosh": flambeau.cosh,
    "Tanh": flambeau.tanh, "Asinh": flambeau.asinh, "Acosh": flambeau.acosh,
    "Atanh": flambeau.atanh, "Erf": flambeau.erf, "Sigmoid": flambeau.sigmoid,
    "Relu": flambeau.relu, "Softplus": F.softplus, "Softsign": F.softsign, "Mish": F.mish,
    "HardSwish": F.hardswish, "Not": flambeau.logical_not, "BitwiseNot": flambeau.bitwise_not,
    "IsNaN": flambeau.isnan, "Det": flambeau.det,
}.items():  # fmt: skip
    operator(_name)(_unary(_call))


def _divided(x: Any, y: Any) -> Any:
    if x.dtype.category < 2:
        return flambeau.div(x, y, rounding_mode="trunc")
    return flambeau.div(x, y)


def _quotient(x: Any, y: Any) -> Any:
    """Known integers divided, rounded towards 0."""
    return -(-x // y) if (x < 0) != (y < 0) else x // y


def _modulo(node: Node, x: Any, y: Any) -> Any:
    return flambeau.fmod(x, y) if node.get("fmod", 0) else flambeau.remainder(x, y)


def _binary(call: Any, plain: Any) -> Callable[..., Any]:
    """An operator of two values; of two known ones by `plain`."""

    def read(node: Node, x: Any, y: Any) -> Any:
        if isinstance(x, Known) and isinstance(y, Known) and plain and x.dtype.category == 1:
            return Known(plain(x.array, y.array), x.dtype)
        if isinstance(y, Known) and not y.ndim and y.dtype.category:
            return call(tensor(x), number(y))
        return call(tensor(x), tensor(y))

    return read


for _name, _call, _plain in (
    ("Add", flambeau.add, python.add), ("Sub", flambeau.sub, python.sub),
    ("Mul", flambeau.mul, python.mul), ("Div", _divided, np.frompyfunc(_quotient, 2, 1)),
    ("Pow", flambeau.pow, None), ("Equal", flambeau.eq, None), ("Less", flambeau.lt, None),
    ("LessOrEqual", flambeau.le, None), ("Greater", flambeau.gt, None),
    ("GreaterOrEqual", flambeau.ge, None), ("And", flambeau.logical_and, None),
    ("Or", flambeau.logical_or, None), ("Xor", flambeau.logical_xor, None),
    ("BitwiseAnd", flambeau.bitwise_and, None), ("BitwiseOr", flambeau.bitwise_or, None),
    ("BitwiseXor", flambeau.bitwise_xor, None),
):  # fmt: skip
    operator(_name)(_binary(_call, _plain))


@operator("Mod")
def _mod(node: Node, x: Any, y: Any) -> Any:
    return _binary(functools.partial(_modulo, node), python.mod)(node, x, y)


@operator("Neg")
def _neg(node: Node, x: Any) -> Any:
    return Known(-x.array, x.dtype) if isinstance(x, Known) else -x


@operator("PRelu")
def _prelu(node: Node, x: Any, slope: Any) -> Any:
    x = tensor(x)
    return flambeau.where(x < 0, x * tensor(slope), x)


def _folded(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda node, *xs: functools.reduce(call, map(tensor, xs))


operator("Max")(_folded(flambeau.maximum))
operator("Min")(_folded(flambeau.minimum))
operator("Sum")(_folded(flambeau.add))


@operator("Mean")
def _mean(node: Node, *xs: Any) -> Any:
    return functools.reduce(flambeau.add, map(tensor, xs)) / len(xs)


@operator("LeakyRelu")
def _leaky(node: Node, x: Any) -> Any:
    return F.leaky_relu(tensor(x), node.get("alpha", 0.01))


@operator("Elu")
def _elu(node: Node, x: Any) -> Any:
    return F.elu(tensor(x), node.get("alpha", 1.0))


@operator("Celu")
def _celu(node: Node, x: Any) -> Any:
    return F.celu(tensor(x), node.get("alpha", 1.0))


@operator("Selu")
def _selu(node: Node, x: Any) -> Any:
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813)
    x = tensor(x)
    return gamma * flambeau.where(x > 0, x, alpha * flambeau.expm1(x))


@operator("HardSigmoid")
def _hard_sigmoid(node: Node, x: Any) -> Any:
    return (tensor(x) * node.get("alpha", 0.2) + node.get("beta", 0.5)).clamp(0, 1)


@operator("ThresholdedRelu")
def _thresholded(node: Node, x: Any) -> Any:
    x = tensor(x)
    return flambeau.where(x > node.get("alpha", 1.0), x, 0.0)


@operator("Gelu")
def _gelu(node: Node, x: Any) -> Any:
    return F.gelu(tensor(x), approximate=node.get("approximate", "none"))


@operator("Swish")
def _swish(node: Node, x: Any) -> Any:
    x, alpha = tensor(x), node.get("alpha", 1.0)
    return F.silu(x) if alpha == 1 else x * flambeau.sigmoid(alpha * x)


@operator("Clip")
def _clip(node: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    x = tensor(x)
    for bound, pick in ((low, flambeau.maximum), (high, flambeau.minimum)):
        if bound is not None:
            x = pick(x, tensor(bound))
    return x


@operator("Where")
def _where(node: Node, condition: Any, x: Any, y: Any) -> Any:
    return flambeau.where(tensor(condition), tensor(x), tensor(y))


@operator("BitShift")
def _shift(node: Node, x: Any, y: Any) -> Any:
    call = (
        flambeau.bitwise_left_shift
        if node.get("direction") == "LEFT"
        else (flambeau.bitwise_right_shift)
    )
    return call(tensor(x), tensor(y))


@operator("Softmax", "LogSoftmax")
def _softmax(node: Node, x: Any) -> Any:
    if node.opset < 13:
        raise OnnxImportError("before opset 13 it flattens its input")
    call = flambeau.softmax if node.kind == "Softmax" else flambeau.log_softmax
    return call(tensor(x), node.get("axis", -1))


@operator("Cast")
def _cast(node: Node, x: Any) -> Any:
    dtype = _DTYPES.get(library().DataType(node.get("to")).name)
    if dtype is None:
        raise OnnxImportError(f"there is no dtype for element type {node.get('to')}")
    if isinstance(x, Known) and x.dtype.category == 1 and dtype in (int64, int32):
        return Known(x.array, dtype)
    if isinstance(x, Known) and not x.ndim and x.dtype.category == 1:
        return flambeau.full((), number(x), dtype=dtype)
    return tensor(x).to(dtype)


@operator("CastLike")
def _cast_like(node: Node, x: Any, like: Any) -> Any:
    return tensor(x).to(like.dtype)


@operator("Identity")
def _identity(node: Node, x: Any) -> Any:
    return x


@operator("Dropout")
def _dropout(node: Node, x: Any, *rest: Any) -> Any:
    x = tensor(x)
    return x, flambeau.ones_like(x, dtype=bool_dtype)


@operator("Shrink")
def _shrink(node: Node, x: Any) -> Any:
    x, edge, by = tensor(x), node.get("lambd", 0.5), node.get("bias", 0.0)
    return flambeau.where(x < -edge, x + by, flambeau.where(x > edge, x - by, 0.0))


@operator("IsInf")
def _infinite(node: Node, x: Any) -> Any:
    x = tensor(x)
    low, high = (node.get(f"detect_{side}", 1) for side in ("negative", "positive"))
    if low and high:
        return flambeau.isinf(x)
    if not low and not high:
        return flambeau.zeros_like(x, dtype=bool_dtype)
    return x == (math.inf if high else -math.inf)


@operator("Hardmax")
def _hardmax(node: Node, x: Any) -> Any:
    x, axis = tensor(x), node.get("axis", -1) % tensor(x).ndim
    first = flambeau.argmax(x, axis, keepdim=True)
    places = flambeau.arange(x.shape[axis]).reshape([-1] + [1] * (x.ndim - 1 - axis))
    return (places == first).to(x.dtype)


# -- constants and sizes ---------------------------------------------------------------------------


@operator("Constant")
def _constant(node: Node) -> Any:
    value = node.get("value")
    if value is not None:
        dtype = _DTYPES.get(value.dtype.name)
        if dtype is None:
            raise OnnxImportError(f"there is no dtype for {value.dtype.name}")
        array = np.array(value.numpy())
        return Known(array.astype(object) if dtype.category == 1 else array, dtype)
    for name, dtype in (("value_int", int64), ("value_ints", int64), ("value_float", float32),
                        ("value_floats", float32)):  # fmt: skip
        if node.get(name) is not None:
            kind = object if dtype is int64 else np.float32
            return Known(np.array(node.get(name), kind), dtype)
    raise OnnxImportError("a constant of another kind than numbers")


def _objects(numbers: Any) -> Any:
    found = np.empty(len(numbers), object)
    found[:] = numbers
    return found


@operator("Shape")
def _shape(node: Node, x: Any) -> Any:
    shape = x.array.shape if isinstance(x, Known) else tuple(x.shape)
    return Known(_objects(list(shape[slice(node.get("start", 0), node.get("end"))])))


@operator("Size")
def _size(node: Node, x: Any) -> Any:
    return Known(np.array(math.prod(_sizes_of(x)), object))


def _sizes_of(x: Any) -> Any:
    return x.array.shape if isinstance(x, Known) else tuple(x.shape)


@operator("ConstantOfShape")
def _filled(node: Node, shape: Any) -> Any:
    value = node.get("value")
    if value is None:
        return flambeau.zeros(ints(shape))
    fill = np.array(value.numpy()).reshape(-1)[0].item()
    return flambeau.full(ints(shape), fill, dtype=_DTYPES[value.dtype.name])


@operator("Range")
def _range(node: Node, start: Any, stop: Any, step: Any) -> Any:
    return flambeau.arange(number(start), number(stop), number(step), dtype=start.dtype)


@operator("EyeLike")
def _eye(node: Node, x: Any) -> Any:
    given = node.get("dtype")
    dtype = tensor(x).dtype if given is None else _DTYPES[library().DataType(given).name]
    rows, columns = tensor(x).shape
    places = flambeau.arange(columns) - flambeau.arange(rows).unsqueeze(1)
    return (places == node.get("k", 0)).to(dtype)


# -- movement --------------------------------------------------------------------------------------


@operator("Reshape")
def _reshape(node: Node, x: Any, shape: Any) -> Any:
    sizes = ints(shape)
    if not node.get("allowzero", 0):
        given = _sizes_of(x)
        sizes = [given[d] if type(n) is int and n == 0 else n for d, n in enumerate(sizes)]
    if isinstance(x, Known):
        return Known(x.array.reshape([int(n) for n in sizes]), x.dtype)
    return x.reshape(sizes)


@operator("Flatten")
def _flatten(node: Node, x: Any) -> Any:
    x = tensor(x)
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    shape = tuple(x.shape)
    return x.reshape(math.prod(shape[:axis]), math.prod(shape[axis:]))


@operator("Transpose")
def _transpose(node: Node, x: Any) -> Any:
    x = tensor(x)
    return x.permute(*(node.get("perm") or range(x.ndim - 1, -1, -1)))


def _axes(node: Node, given: Any) -> list[int] | None:
    if given is None:
        found = node.get("axes")
        return None if found is None else [int(n) for n in found]
    return ints(given)


@operator("Squeeze")
def _squeeze(node: Node, x: Any, axes: Any = None) -> Any:
    where = _axes(node, axes)
    if isinstance(x, Known):
        return Known(np.squeeze(x.array, None if where is None else tuple(where)), x.dtype)
    if where is None:
        where = [d for d, n in enumerate(x.shape) if n == 1]
    dims = {d % max(x.ndim, 1) for d in where}
    if any(type(x.shape[d]) is int and x.shape[d] != 1 for d in dims):
        raise OnnxImportError(f"dimensions {sorted(dims)} of {list(x.shape)} are not all 1")
    return x.reshape([n for d, n in enumerate(x.shape) if d not in dims])


@operator("Unsqueeze")
def _unsqueeze(node: Node, x: Any, axes: Any = None) -> Any:
    where = _axes(node, axes) or []
    rank = len(_sizes_of(x)) + len(where)
    for d in sorted(d % rank for d in where):
        x = Known(np.expand_dims(x.array, d), x.dtype) if isinstance(x, Known) else x.unsqueeze(d)
    return x


@operator("Concat")
def _concat(node: Node, *xs: Any) -> Any:
    axis = node.get("axis", 0)
    if all(isinstance(x, Known) and x.dtype.category == 1 for x in xs):
        return Known(np.concatenate([x.array for x in xs], axis), xs[0].dtype)
    return flambeau.cat([tensor(x) for x in xs], axis)


@operator("Split")
def _split(node: Node, x: Any, sizes: Any = None) -> Any:
    x, axis = tensor(x), node.get("axis", 0)
    if sizes is None:
        count = len(node.outputs)
        return tuple(flambeau.split(x, -(-x.shape[axis] // count), axis))
    return tuple(flambeau.split(x, ints(sizes), axis))


@operator("Slice")
def _slice(node: Node, x: Any, starts: Any, stops: Any, axes: Any = None, steps: Any = None) -> Any:
    begin, end = ints(starts), ints(stops)
    where = list(range(len(begin))) if axes is None else ints(axes)
    by = [1] * len(begin) if steps is None else ints(steps)
    for d, start, stop, step in zip(where, begin, end, by, strict=True):
        if isinstance(x, Known):
            cut = [slice(None)] * x.ndim
            cut[d] = slice(
                int(start), None if step < 0 and stop < -x.array.shape[d] else int(stop), step
            )
            x = Known(x.array[tuple(cut)], x.dtype)
        else:
            x = _sliced(x, d % x.ndim, start, stop, step)
    return x


def _sliced(x: Tensor, d: int, start: Any, stop: Any, step: int) -> Tensor:
    n = x.shape[d]
    if step < 0:  # backwards: the same places of the reversed dimension
        start, stop = (s + n if s < 0 else s for s in (start, stop))
        start = n - 1 if start > n - 1 else start
        stop = -1 if stop < -1 else stop
        x, start, stop, step = x.flip(d), n - 1 - start, n - 1 - stop, -step
    cut: list[Any] = [slice(None)] * x.ndim
    big = type(stop) is int and stop >= (1 << 31) - 1
    cut[d] = slice(start, None if big else stop, step)
    return x[tuple(cut)]


@operator("Pad")
def _pad(node: Node, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    x = tensor(x)
    sizes = ints(pads)
    half = len(sizes) // 2
    where = list(range(half)) if axes is None else [d % x.ndim for d in ints(axes)]
    both = dict(zip(where, zip(sizes[:half], sizes[half:], strict=True), strict=True))
    given = [n for d in range(x.ndim - 1, -1, -1) for n in both.get(d, (0, 0))]
    mode = node.get("mode", "constant")
    if mode == "constant":
        return F.pad(x, given, value=0 if value is None else _fill(value))
    while given and given[-2:] == [0, 0]:
        given = given[:-2]
    return F.pad(x, given, mode={"edge": "replicate", "wrap": "circular"}.get(mode, mode))


@operator("CenterCropPad")
def _centre(node: Node, x: Any, sizes: Any) -> Any:
    x = tensor(x)
    axes = node.get("axes") or range(x.ndim)
    for d, wanted in zip((a % x.ndim for a in axes), ints(sizes), strict=True):
        more = wanted - x.shape[d]
        if more > 0:
            both = [0] * (2 * (x.ndim - 1 - d)) + [more // 2, more - more // 2]
            x = F.pad(x, both)
        elif more < 0:
            x = x.narrow(d, -more // 2, wanted)
    return x


@operator("ReverseSequence")
def _reverse_sequence(node: Node, x: Any, lengths: Any) -> Any:
    x, sizes = tensor(x), tensor(lengths).long()
    time = node.get("time_axis", 0)
    x = x if time == 0 else x.transpose(0, 1)
    steps = flambeau.arange(x.shape[0]).unsqueeze(1)
    places = flambeau.where(steps < sizes, sizes - 1 - steps, steps)
    found = x[places, flambeau.arange(x.shape[1])]
    return found if time == 0 else found.transpose(0, 1)


def _fill(value: Any) -> Any:
    return number(value) if isinstance(value, Known) else value.item()


@operator("Expand")
def _expand(node: Node, x: Any, shape: Any) -> Any:
    x, sizes = tensor(x), ints(shape)
    rank = max(x.ndim, len(sizes))
    own = [1] * (rank - x.ndim) + list(x.shape)
    wanted = [1] * (rank - len(sizes)) + sizes
    found = [o if type(w) is int and w == 1 else w for o, w in zip(own, wanted, strict=True)]
    return x.expand(*found)


@operator("Tile")
def _tile(node: Node, x: Any, repeats: Any) -> Any:
    return tensor(x).repeat(*ints(repeats))


@operator("Trilu")
def _trilu(node: Node, x: Any, k: Any = None) -> Any:
    by = 0 if k is None else int(number(k))
    return (flambeau.triu if node.get("upper", 1) else flambeau.tril)(tensor(x), by)


@operator("DepthToSpace")
def _depth_to_space(node: Node, x: Any) -> Any:
    x, b = tensor(x), node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return flambeau.pixel_shuffle(x, b)
    n, c, h, w = x.shape
    x = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // (b * b), h * b, w * b)


@operator("SpaceToDepth")
def _space_to_depth(node: Node, x: Any) -> Any:
    x, b = tensor(x), node.get("blocksize")
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * b * b, h // b, w // b)


# -- indexing --------------------------------------------------------------------------------------


def _wrapped(index: Tensor, n: Any) -> Tensor:
    index = index.long()
    return flambeau.where(index < 0, index + n, index)


@operator("Gather")
def _gather(node: Node, x: Any, index: Any) -> Any:
    axis = node.get("axis", 0)
    if isinstance(x, Known) and isinstance(index, Known):
        places = np.array(index.array.tolist(), np.int64)
        found = np.take(x.array, places, axis)
        return Known(np.array(found, x.array.dtype), x.dtype)
    x = tensor(x)
    axis = axis % x.ndim
    if isinstance(index, Known) and not index.ndim:
        return x.select(axis, number(index))
    cut = (slice(None),) * axis
    return x[(*cut, tensor(index).long())]


@operator("GatherElements")
def _gather_elements(node: Node, x: Any, index: Any) -> Any:
    x, axis = tensor(x), node.get("axis", 0)
    return flambeau.gather(x, axis, _wrapped(tensor(index), x.shape[axis]))


@operator("GatherND")
def _gather_nd(node: Node, x: Any, index: Any) -> Any:
    x, places, alike = tensor(x), tensor(index).long(), node.get("batch_dims", 0)
    own = [  # the place of each example itself, beside those inside it
        flambeau.arange(x.shape[d]).reshape([-1] + [1] * (places.ndim - 2 - d))
        for d in range(alike)
    ]
    inside = _coordinates(x, places)
    if len(inside) + alike > x.ndim:
        raise OnnxImportError(f"{len(inside)} indices behind {alike} of {x.ndim} dimensions")
    return x[(*own, *inside)]


def _coordinates(x: Tensor, places: Tensor) -> list[Tensor]:
    """The index tensors of x's first dimensions, from those side by side."""
    if not 0 < places.shape[-1] <= x.ndim:
        raise OnnxImportError(f"{places.shape[-1]} indices of a tensor of {x.ndim} dimensions")
    return list(places.unbind(-1))


_REDUCTIONS = {"none": None, "add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("ScatterElements")
def _scatter_elements(node: Node, x: Any, index: Any, value: Any) -> Any:
    x, axis, how = tensor(x), node.get("axis", 0), _REDUCTIONS[node.get("reduction", "none")]
    places = _wrapped(tensor(index), x.shape[axis])
    if how is None:
        return flambeau.scatter(x, axis, places, tensor(value))
    return flambeau.scatter_reduce(x, axis, places, tensor(value), how)


@operator("ScatterND")
def _scatter_nd(node: Node, x: Any, index: Any, value: Any) -> Any:
    x, places, value = tensor(x), tensor(index).long(), tensor(value)
    how = _REDUCTIONS[node.get("reduction", "none")]
    if how in (None, "sum"):
        return x.index_put(tuple(_coordinates(x, places)), value, accumulate=how == "sum")
    shape, depth = tuple(x.shape), len(_coordinates(x, places))
    flat = _wrapped(places[..., 0], shape[0])
    for d in range(1, depth):
        flat = flat * shape[d] + _wrapped(places[..., d], shape[d])
    rest = math.prod(shape[depth:])
    rows = x.reshape(-1, rest)
    given = value.reshape(-1, rest)
    at = flat.reshape(-1, 1).expand(*given.shape)
    return flambeau.scatter_reduce(rows, 0, at, given, how).reshape(shape)


@operator("OneHot")
def _one_hot(node: Node, index: Any, depth: Any, values: Any) -> Any:
    count, axis = int(number(depth)), node.get("axis", -1)
    places = _wrapped(tensor(index), count)
    off, on = tensor(values).unbind(0)
    found = flambeau.where(places.unsqueeze(-1) == flambeau.arange(count), on, off)
    return found.movedim(-1, axis)


# -- reductions and ranks --------------------------------------------------------------------------


def _reduction(call: Any) -> Callable[..., Any]:
    def read(node: Node, x: Any, axes: Any = None) -> Any:
        keep = bool(node.get("keepdims", 1))
        where = _axes(node, axes)
        if isinstance(x, Known) and node.kind == "ReduceProd" and x.dtype.category == 1:
            found = np.array(math.prod(x.array.reshape(-1).tolist()), object)
            return Known(found.reshape([1] * x.ndim if keep else []), x.dtype)
        x = tensor(x)
        if not where:
            if node.get("noop_with_empty_axes", 0):
                return x
            where = list(range(x.ndim))
        return call(x, where, keep) if x.ndim else call(x.unsqueeze(0), [0], False)

    return read


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for d in sorted((d % x.ndim for d in axes), reverse=True):
        x = flambeau.prod(x, d, keepdim=keep, dtype=x.dtype)
    return x


for _name, _reduce in {
    "ReduceSum": lambda x, d, k: flambeau.sum(x, d, k, dtype=x.dtype),
    "ReduceMean": flambeau.mean, "ReduceMax": flambeau.amax, "ReduceMin": flambeau.amin,
    "ReduceProd": _product, "ReduceLogSumExp": flambeau.logsumexp,
    "ReduceL1": lambda x, d, k: x.abs().sum(d, k),
    "ReduceL2": lambda x, d, k: (x * x).sum(d, k).sqrt(),
    "ReduceSumSquare": lambda x, d, k: (x * x).sum(d, k),
    "ReduceLogSum": lambda x, d, k: x.sum(d, k).log(),
}.items():  # fmt: skip
    operator(_name)(_reduction(_reduce))


@operator("ArgMax", "ArgMin")
def _place(node: Node, x: Any) -> Any:
    call = flambeau.argmax if node.kind == "ArgMax" else flambeau.argmin
    x, axis, keep = tensor(x), node.get("axis", 0), bool(node.get("keepdims", 1))
    if node.get("select_last_index", 0):
        return x.shape[axis] - 1 - call(x.flip(axis), axis, keepdim=keep)
    return call(x, axis, keepdim=keep)


@operator("CumSum")
def _cumsum(node: Node, x: Any, axis: Any) -> Any:
    x, d = tensor(x), int(number(axis))
    back = bool(node.get("reverse", 0))
    given = x.flip(d) if back else x
    found = flambeau.cumsum(given, d, dtype=x.dtype)
    found = found - given if node.get("exclusive", 0) else found
    return found.flip(d) if back else found


@operator("TopK")
def _top(node: Node, x: Any, count: Any) -> Any:
    found = flambeau.topk(
        tensor(x), ints(count)[0], node.get("axis", -1), bool(node.get("largest", 1)), True
    )
    return found[0], found[1]
