"""ONNX's operators with their attributes, as other tools write them: what is read agrees with
onnxruntime.

Each model is ONNX's text form; its weights and inputs are drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.export.onnx import load
from tests.export.runtime import session

onnx = pytest.importorskip("onnx")
ir = pytest.importorskip("onnx_ir")

#: inputs => outputs and the body, for the newest opset of `_OPSET` unless one is named.
_OPSET = 21
MODELS: dict[str, str] = {
    # elementwise
    "mod": "(float[N,3] x, float[3] y) => (z) { z = Mod <fmod=1> (x, y) }",
    "integers": """(int64[N] a, int64[N] b) => (q, r, m)
        { q = Div(a, b) r = Mod(a, b) m = Min(a, b) }""",
    "bits": """(int32[N] a, int32[N] b) => (x, y, z, w) { x = BitwiseAnd(a, b)
        y = BitwiseOr(a, b) z = BitwiseXor(a, b) w = BitwiseNot(a) }""",
    "clip": """(float[N,4] x) => (a, b, c) <float lo = {-0.5}, float hi = {0.25}>
        { a = Clip(x, lo, hi) b = Clip(x, lo) c = Clip(x, "", hi) }""",
    "activations": """(float[N,4] x) => (a, b, c, d, e, f, g)
        { a = LeakyRelu <alpha=0.3> (x) b = Elu <alpha=0.7> (x) c = Selu <alpha=1.2, gamma=1.1> (x)
          d = HardSigmoid <alpha=0.3, beta=0.4> (x) e = ThresholdedRelu <alpha=0.2> (x)
          f = Celu <alpha=0.6> (x) g = Shrink <lambd=0.3, bias=0.1> (x) }""",
    "gelu": '(float[N,4] x) => (a, b) { a = Gelu(x) b = Gelu <approximate="tanh"> (x) }',
    "prelu": "(float[N,3,4] x, float[3,1] s) => (y) { y = PRelu(x, s) }",
    "where": """(float[N,4] x, float[4] y) => (z) { c = Greater(x, y) z = Where(c, x, y) }""",
    "infinity": """(float[N,4] x) => (a, b, c) <float zero = {0.0}>
        { y = Div(x, zero) a = IsInf <detect_negative=0> (y) b = IsInf <detect_positive=0> (y)
          c = IsNaN(y) }""",
    "variadic": """(float[N,3] x, float[3] y, float[N,1] z) => (a, b, c, d)
        { a = Sum(x, y, z) b = Mean(x, y, z) c = Max(x, y, z) d = Min(x, y, z) }""",
    "powers": "(float[N,3] x, int64[3] k) => (y) { y = Pow(x, k) }",
    "round": """(float[N,7] x) => (y, z) <float t = {2.0}>
        { w = Mul(x, t) y = Round(w) z = Ceil(w) }""",
    "casts": """(float[N,3] x) => (a, b, c) { a = Cast <to=7> (x) h = Cast <to=10> (x)
        b = CastLike(h, x) c = Cast <to=9> (x) }""",
    # movement
    "depth": """(float[N,8,2,4] x) => (a, b, c) { a = DepthToSpace <blocksize=2> (x)
        b = DepthToSpace <blocksize=2, mode="CRD"> (x) c = SpaceToDepth <blocksize=2> (x) }""",
    "splits": """(float[N,7] x) => (a, b, c) <int64[3] n = {2, 0, 5}>
        { a, b, c = Split <axis=1> (x, n) }""",
    "uneven": "(float[N,7] x) => (a, b, c) { a, b, c = Split <axis=-1, num_outputs=3> (x) }",
    "slices": """(float[N,7,5] x) => (a, b) <int64[2] s = {5, -1},
        int64[2] e = {1, -9223372036854775807},
        int64[2] d = {1, -1}, int64[2] t = {-2, -1}, int64[1] o = {-3}, int64[1] p = {100},
        int64[1] q = {1}> { a = Slice(x, s, e, d, t) b = Slice(x, o, p, q) }""",
    "pads": """(float[N,4,5] x) => (a, b, c, d) <int64[6] p = {0,1,2,0,0,1}, float v = {1.5},
        int64[2] q = {-1, 2}, int64[1] k = {2}>
        { a = Pad(x, p, v) b = Pad <mode="edge"> (x, p) c = Pad <mode="reflect"> (x, p)
          d = Pad(x, q, v, k) }""",
    "wrapped": """(float[N,4,5] x) => (a) <int64[6] p = {0,0,2,0,0,1}>
        { a = Pad <mode="wrap"> (x, p) }""",
    "tiles": """(float[N,2] x) => (a, b) <int64[2] r = {2, 3}, int64[1] f = {4}, int64[1] t = {2}>
        { a = Tile(x, r) n = Shape <start=0, end=1> (x) s = Concat <axis=0> (f, n, t)
          b = Expand(x, s) }""",
    "flat": "(float[N,2,3] x) => (a, b) { a = Flatten <axis=2> (x) b = Flatten <axis=0> (x) }",
    "triangles": """(float[N,4,5] x) => (a, b) <int64 k = {-1}>
        { a = Trilu <upper=0> (x, k) b = Trilu(x) }""",
    "eye": "(float[3,N] x) => (y) { y = EyeLike <k=1> (x) }",
    "reversed": """(float[4,N] x, int64[N] n) => (y)
        { y = ReverseSequence <time_axis=0, batch_axis=1> (x, n) }""",
    "centre": """(float[N,7,5] x) => (y) <int64[2] n = {4, 5}>
        { y = CenterCropPad <axes=[1,2]> (x, n) }""",
    # indexing
    "gathers": """(float[N,5,4] x) => (a, b, c, d) <int64[2,1] i = {-1, 3}, int64 k = {-2},
        int64[2,2] p = {0, 1, -1, 2}>
        { a = Gather <axis=1> (x, i) b = Gather <axis=2> (x, k) y = Transpose <perm=[1,2,0]> (x)
          c = GatherND(y, p) n = Shape <start=0, end=1> (x) e = Constant <value_ints=[2,4]> ()
          s = Concat <axis=0> (n, e) w = ConstantOfShape <value = int64[1] {-2}> (s)
          d = GatherElements <axis=1> (x, w) }""",
    "batched": """(float[N,5,4] x, int64[N,3,1] i) => (y) { y = GatherND <batch_dims=1> (x, i) }""",
    "scatters": """(float[6,4] x, float[2,4] u, float[3,4] v) => (a, b, c, d)
        <int64[2,4] i = {0, -1, 2, 3, 0, 1, 2, 3}, int64[3,1] p = {1, 1, -1}>
        { a = ScatterElements(x, i, u) b = ScatterElements <reduction="mul"> (x, i, u)
          c = ScatterND <reduction="add"> (x, p, v) d = ScatterND <reduction="max"> (x, p, v) }""",
    "hot": """(int64[N,2] i) => (a, b) <int64 depth = {5}, float[2] v = {-1.0, 2.5}>
        { a = OneHot <axis=1> (i, depth, v) b = OneHot(i, depth, v) }""",
    # reductions
    "reductions": """(float[N,3,4] x) => (a, b, c, d, e, f, g)
        <int64[2] k = {0, -1}, int64[1] m = {1}>
        { a = ReduceSum(x, k) b = ReduceMean <keepdims=0> (x, m) c = ReduceL2(x, k)
          d = ReduceLogSumExp <keepdims=0> (x, k) e = ReduceSumSquare(x) f = ReduceProd(x, m)
          g = ReduceL1 <keepdims=0> (x, m) }""",
    "noop": "(float[N,3] x) => (y) { y = ReduceSum <noop_with_empty_axes=1> (x) }",
    "places": """(float[N,3,4] x) => (a, b, c) { a = ArgMax <axis=1, keepdims=0> (x)
        b = ArgMin <axis=-1> (x) y = Round(x) c = ArgMax <axis=1, select_last_index=1> (y) }""",
    "sums": """(float[N,5] x) => (a, b, c) <int32 k = {1}> { a = CumSum <exclusive=1> (x, k)
        b = CumSum <reverse=1> (x, k) c = CumSum <exclusive=1, reverse=1> (x, k) }""",
    "top": """(float[N,6] x) => (v, i, w, j) <int64[1] k = {3}>
        { v, i = TopK(x, k) w, j = TopK <largest=0, axis=1> (x, k) }""",
    "softmax": """(float[N,3,4] x) => (a, b, c) { a = Softmax <axis=1> (x) b = LogSoftmax(x)
        c = Hardmax <axis=2> (x) }""",
    "norms": """(float[N,3,4] x) => (a, b, c) { a = LpNormalization <axis=1, p=1> (x)
        b = LpNormalization(x) c = MeanVarianceNormalization <axes=[0,2]> (x) }""",
    # products, convolution, pooling, norms
    "gemm": """(float[4,N] x, float[5,4] w, float[1] c) => (y)
        { y = Gemm <alpha=0.5, beta=2.0, transA=1, transB=1> (x, w, c) }""",
    "einsum": """(float[N,3,4] x, float[N,4,2] y) => (z)
        { z = Einsum <equation="bij,bjk->bik"> (x, y) }""",
    "conv": """(float[N,4,9,8] x, float[6,2,3,3] w, float[6] b) => (a, c)
        { a = Conv <group=2, strides=[2,1], pads=[1,0,2,1], dilations=[1,2]> (x, w, b)
          c = Conv <group=2, auto_pad="SAME_LOWER", strides=[2,2]> (x, w) }""",
    "conv1": """(float[N,3,9] x, float[5,3,4] w) => (a) { a = Conv <pads=[2,1]> (x, w) }""",
    "deconv": """(float[N,4,5,6] x, float[4,3,3,3] w, float[6] b) => (a, c)
        { a = ConvTranspose <group=2, strides=[2,2], pads=[1,1,1,1], output_padding=[1,0]> (x, w, b)
          c = ConvTranspose <group=2, strides=[2,1], pads=[0,1,2,1]> (x, w, b) }""",
    "pools": """(float[N,2,9,8] x) => (a, b, c, d)
        { a = MaxPool <kernel_shape=[3,2], strides=[2,2], pads=[1,0,0,1]> (x)
          b = MaxPool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (x)
          c = AveragePool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]> (x)
          d = AveragePool <kernel_shape=[3,3], strides=[1,2], pads=[1,1,1,1],
            count_include_pad=1> (x) }""",
    "global": """(float[N,2,5,6] x) => (a, b, c) { a = GlobalAveragePool(x) b = GlobalMaxPool(x)
        c = GlobalLpPool <p=2> (x) }""",
    "lppool": "(float[N,2,8] x) => (a) { a = LpPool <kernel_shape=[3], strides=[2], p=3> (x) }",
    "resize": """(float[N,2,4,6] x) => (a, b, c, d) <float[4] s = {1.0, 1.0, 2.0, 0.5},
        int64[4] n = {2, 2, 7, 9}>
        { a = Resize <mode="nearest", coordinate_transformation_mode="asymmetric",
          nearest_mode="floor"> (x, "", s) b = Resize <mode="linear"> (x, "", s)
          c = Resize <mode="cubic", cubic_coeff_a=-0.75> (x, "", s)
          d = Resize <mode="linear", coordinate_transformation_mode="align_corners">
            (x, "", s) }""",
    "grid": """(float[N,2,5,6] x, float[N,3,4,2] g) => (a, b)
        { a = GridSample <align_corners=1> (x, g)
        b = GridSample <mode="nearest", padding_mode="border"> (x, g) }""",
    "batchnorm": """(float[N,3,4] x, float[3] s, float[3] b, float[3] m) => (y)
        { v = Mul(m, m) y = BatchNormalization <epsilon=0.01> (x, s, b, m, v) }""",
    "instance": """(float[N,3,4] x, float[3] s, float[3] b) => (y)
        { y = InstanceNormalization(x, s, b) }""",
    "group": """(float[N,6,4] x, float[6] s, float[6] b) => (float[N,6,4] y)
        { y = GroupNormalization <num_groups=3> (x, s, b) }""",
    "layer": """(float[N,3,4] x, float[3,4] s, float[4] t) => (y, z)
        { y = LayerNormalization <axis=1> (x, s) z = LayerNormalization(x, t) }""",
    "local": """(float[N,6,3,3] x) => (float[N,6,3,3] y)
        { y = LRN <size=3, alpha=0.1, beta=0.6, bias=1.5> (x) }""",
    "lengths": """(float[T,N,3] x, float[2,12,3] w, float[2,12,4] r, float[2,24] b, int32[N] n)
        => (y, h) { y, h = GRU <hidden_size=4, direction="bidirectional"> (x, w, r, b, n) }""",
    "losses": """(float[N,5,2] x, int64[N,2] t) => (a, b) { a = SoftmaxCrossEntropyLoss(x, t)
        l = LogSoftmax <axis=1> (x) b = NegativeLogLikelihoodLoss <reduction="none"> (l, t) }""",
    # recurrent layers
    "gru": """(float[T,N,3] x, float[1,12,3] w, float[1,12,4] r, float[1,24] b) => (y, h)
        { y, h = GRU <hidden_size=4> (x, w, r, b) }""",
    "lstm": """(float[T,N,3] x, float[1,16,3] w, float[1,16,4] r, float[1,12] p, float[1,N,4] s)
        => (y, h, c)
        { y, h, c = LSTM <hidden_size=4, direction="reverse"> (x, w, r, "", "", s, s, p) }""",
    "rnn": """(float[T,N,3] x, float[2,4,3] w, float[2,4,4] r) => (y, h)
        { y, h = RNN <hidden_size=4, direction="bidirectional", activations=["Relu", "Tanh"]>
          (x, w, r) }""",
    # control
    "if": """(float[N,3] x) => (float[N,3] y) <float z = {0.0}> { s = ReduceSum <keepdims=0> (x)
        c = Greater(s, z) y = If (c) <then_branch = t () => (float[N,3] a) { a = Abs(x) },
        else_branch = e () => (float[N,3] b) { b = Neg(x) }> }""",
    "for": """(float[N,3] x, float[3] w) => (float[N,3] y, float[4,3] z)
        <int64 n = {4}, bool c = {1}> { y, z = Loop
        <body = g (int64 i, bool k, float[N,3] s) => (bool l, float[N,3] t, float[3] o)
          { l = Identity(k) f = Cast <to=1> (i) p = Mul(s, w) t = Add(p, f)
            zero = Constant <value_ints=[0]> () o = ReduceSum <keepdims=0> (t, zero) }>
        (n, c, x) }""",
    "while": """(float[N,3] x) => (float[N,3] y) <float m = {50.0}, bool c = {1}>
        { y = Loop <body = g (int64 i, bool k, float[N,3] s) => (bool l, float[N,3] t)
          { t = Add(s, s) a = Abs(t) r = ReduceSum <keepdims=0> (a) l = Less(r, m) }>
        ("", c, x) }""",
}


def made(text: str) -> Any:
    """The model of a text, with the types of its results."""
    opset, _, rest = text.rpartition("@")
    head = f'<ir_version: 10, opset_import: ["" : {opset or _OPSET}]> g '
    return onnx.shape_inference.infer_shapes(onnx.parser.parse_model(head + rest))


def drawn(model: Any, rng: np.random.Generator, sizes: dict[str, int]) -> list[np.ndarray]:
    """Arrays for a model's inputs; integers are small, or lengths up to 4."""
    found = []
    for value in model.graph.input:
        of = value.type.tensor_type
        shape = [d.dim_value or sizes[d.dim_param] for d in of.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(of.elem_type)
        array = rng.normal(size=shape) if dtype.kind == "f" else rng.integers(1, 3, shape)
        found.append(np.asarray(array, dtype))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_what_onnxruntime_makes_of_it(name: str, rng: np.random.Generator) -> None:
    proto = made(MODELS[name])
    model = ir.serde.deserialize_model(proto)
    run, module = session(model), load(model).module()
    for sizes in ({"N": 3, "T": 5}, {"N": 2, "T": 2}):
        given = drawn(proto, rng, sizes)
        feeds = {i.name: x for i, x in zip(run.get_inputs(), given, strict=True)}
        found = module(*map(flambeau.from_numpy, given))
        for got, want in zip(found, run.run(None, feeds), strict=True):
            np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-4, atol=1e-5)
            assert str(got.detach().numpy().dtype) == str(want.dtype)


def test_a_loop_of_so_many_steps_trains(rng: np.random.Generator) -> None:
    text = (
        MODELS["for"].replace(", float[3] w)", ")").replace("<int64 n", "<float[3] w, int64 n", 1)
    )
    proto = made(text.replace("float[3] w,", "float[3] w = {0.5, -1.0, 2.0},"))
    module = load(ir.serde.deserialize_model(proto)).module()
    (weight,) = module.parameters()
    x = flambeau.from_numpy(rng.normal(size=(2, 3)).astype(np.float32))
    module(x)[0].square().sum().backward()
    w = weight.detach().clone().requires_grad_()
    wanted = x
    for k in range(4):
        wanted = wanted * w + k
    wanted.square().sum().backward()
    np.testing.assert_allclose(weight.grad.numpy(), w.grad.numpy(), rtol=1e-5)
