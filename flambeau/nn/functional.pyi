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
from flambeau.nn.multihead import multi_head_attention_forward as multi_head_attention_forward

def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of as many windows as the result has elements."""
def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of as many windows as the result has elements."""
def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of as many windows as the result has elements."""
def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: _builtins.bool = False) -> Any:
    """The largest element of each of as many windows as the result has elements."""
def adaptive_max_pool1d_with_indices(input: Tensor, output_size: Any, return_indices: _builtins.bool = False) -> Any:
    """`adaptive_max_pool1d` and the places of the largest elements."""
def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: _builtins.bool = False) -> Any:
    """The largest element of each of as many windows as the result has elements."""
def adaptive_max_pool2d_with_indices(input: Tensor, output_size: Any, return_indices: _builtins.bool = False) -> Any:
    """`adaptive_max_pool2d` and the places of the largest elements."""
def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: _builtins.bool = False) -> Any:
    """The largest element of each of as many windows as the result has elements."""
def adaptive_max_pool3d_with_indices(input: Tensor, output_size: Any, return_indices: _builtins.bool = False) -> Any:
    """`adaptive_max_pool3d` and the places of the largest elements."""
def affine_grid(theta: Tensor, size: Any, align_corners: _builtins.bool | None = None) -> Tensor:
    """Places of an image's elements after an affine map, for `grid_sample`."""
def alpha_dropout(input: Tensor, p: _builtins.float = ..., training: _builtins.bool = False, inplace: _builtins.bool = False) -> Tensor:
    """Dropout that keeps mean 0 and variance 1 of SELU networks."""
def avg_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: _builtins.bool = False, count_include_pad: _builtins.bool = True) -> Tensor:
    """The mean of each window of a signal of 1 dimension(s)."""
def avg_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: _builtins.bool = False, count_include_pad: _builtins.bool = True, divisor_override: _builtins.int | None = None) -> Tensor:
    """The mean of each window of a signal of 2 dimension(s)."""
def avg_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: _builtins.bool = False, count_include_pad: _builtins.bool = True, divisor_override: _builtins.int | None = None) -> Tensor:
    """The mean of each window of a signal of 3 dimension(s)."""
def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None, bias: Tensor | None = None, training: _builtins.bool = False, momentum: _builtins.float = ..., eps: _builtins.float = ..., cudnn_enabled: _builtins.bool = True) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, one mean and variance a channel."""
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[.., o] = sum over i, j of input1[.., i] * weight[o, i, j] * input2[.., j] + bias[o]."""
def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """-(t log x + (1 - t) log(1 - x)) for probabilities x, each logarithm at least -100."""
def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean", pos_weight: Tensor | None = None) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), without overflow."""
def celu(input: Tensor, alpha: _builtins.float = ..., inplace: Any = False) -> Tensor:
    """x above 0, alpha * (exp(x / alpha) - 1) elsewhere."""
def celu_(input: Tensor, alpha: _builtins.float = ...) -> Tensor:
    """In-place form of `celu`."""
def channel_shuffle(input: Tensor, groups: _builtins.int) -> Tensor:
    """Channels of (N, C, *) dealt out: those of different groups stand beside each other."""
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
def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: _builtins.float = 0, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1."""
def cosine_similarity(x1: Tensor, x2: Tensor, dim: _builtins.int = 1, eps: _builtins.float = ...) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) * max(|x2|, eps)) along one dimension of the broadcast tensors."""
def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: _builtins.bool | None = None, ignore_index: _builtins.int = -100, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean", label_smoothing: _builtins.float = ...) -> Tensor:
    """-log softmax(input)[target], or -sum of target * log softmax(input) for probabilities."""
def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: _builtins.int = 0, reduction: Any = "mean", zero_infinity: _builtins.bool = False) -> Tensor:
    """-log probability of target sequences over all their alignments with the input."""
def dropout(input: Tensor, p: _builtins.float = ..., training: _builtins.bool = True, inplace: _builtins.bool = False) -> Tensor:
    """Each element zeroed with probability p and the others scaled by 1 / (1 - p), in training."""
def dropout1d(input: Tensor, p: _builtins.float = ..., training: _builtins.bool = True, inplace: _builtins.bool = False) -> Tensor:
    """`dropout` of whole channels: one draw for each (n, c) of (N, C, ..)."""
def dropout2d(input: Tensor, p: _builtins.float = ..., training: _builtins.bool = True, inplace: _builtins.bool = False) -> Tensor:
    """`dropout` of whole channels: one draw for each (n, c) of (N, C, ..)."""
def dropout3d(input: Tensor, p: _builtins.float = ..., training: _builtins.bool = True, inplace: _builtins.bool = False) -> Tensor:
    """`dropout` of whole channels: one draw for each (n, c) of (N, C, ..)."""
def elu(input: Tensor, alpha: _builtins.float = ..., inplace: Any = False) -> Tensor:
    """x above 0, alpha * (exp(x) - 1) elsewhere."""
def elu_(input: Tensor, alpha: _builtins.float = ...) -> Tensor:
    """In-place form of `elu`."""
def embedding(input: Tensor, weight: Tensor, padding_idx: _builtins.int | None = None, max_norm: _builtins.float | None = None, norm_type: _builtins.float = ..., scale_grad_by_freq: _builtins.bool = False, sparse: _builtins.bool = False) -> Tensor:
    """The rows of a table that integers name."""
def embedding_bag(input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: _builtins.float | None = None, norm_type: _builtins.float = ..., scale_grad_by_freq: _builtins.bool = False, mode: _builtins.str = "mean", sparse: _builtins.bool = False, per_sample_weights: Tensor | None = None, include_last_offset: _builtins.bool = False, padding_idx: _builtins.int | None = None) -> Tensor:
    """Sums, means or maxima of bags of a table's rows."""
def feature_alpha_dropout(input: Tensor, p: _builtins.float = ..., training: _builtins.bool = False, inplace: _builtins.bool = False) -> Tensor:
    """`alpha_dropout` of whole channels: one draw for each (n, c) of (N, C, ..)."""
def fold(input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """Sliding blocks added up into images."""
def fractional_max_pool2d(input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, return_indices: _builtins.bool = False, _random_samples: Tensor | None = None) -> Any:
    """The largest element of windows whose places are drawn at random."""
def fractional_max_pool3d(input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, return_indices: _builtins.bool = False, _random_samples: Tensor | None = None) -> Any:
    """The largest element of windows whose places are drawn at random."""
def gaussian_nll_loss(input: Tensor, target: Tensor, var: Any, full: _builtins.bool = False, eps: _builtins.float = ..., reduction: _builtins.str = "mean") -> Tensor:
    """(log(var) + (input - target)^2 / var) / 2, var at least eps."""
def gelu(input: Tensor, approximate: _builtins.str = "none") -> Tensor:
    """x * Phi(x) with the normal distribution function Phi."""
def glu(input: Tensor, dim: _builtins.int = -1) -> Tensor:
    """The first half times the sigmoid of the second half of one dimension."""
def grid_sample(input: Tensor, grid: Tensor, mode: _builtins.str = "bilinear", padding_mode: _builtins.str = "zeros", align_corners: _builtins.bool | None = None) -> Tensor:
    """An image read at the places of a grid."""
def group_norm(input: Tensor, num_groups: _builtins.int, weight: Tensor | None = None, bias: Tensor | None = None, eps: _builtins.float = ..., cudnn_enabled: _builtins.bool = True) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, one mean and variance a group of channels."""
def grouped_mm(mat_a: Tensor, mat_b: Tensor, *, offs: Tensor | None = None, bias: Tensor | None = None, out_dtype: _DType | None = None) -> Tensor:
    """Matrix products by groups that a tensor of offsets delimits, as experts of a mixture need."""
def gumbel_softmax(logits: Tensor, tau: _builtins.float = 1, hard: _builtins.bool = False, eps: _builtins.float = ..., dim: _builtins.int = -1) -> Tensor:
    """Samples of the Gumbel-softmax distribution; with `hard`, one-hot with the soft gradient."""
def hardshrink(input: Tensor, lambd: _builtins.float = ...) -> Tensor:
    """x outside [-lambd, lambd], 0 inside."""
def hardsigmoid(input: Tensor, inplace: Any = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
def hardsigmoid_(input: Tensor) -> Tensor:
    """In-place form of `hardsigmoid`."""
def hardswish(input: Tensor, inplace: Any = False) -> Tensor:
    """x * min(max(x + 3, 0), 6) / 6."""
def hardswish_(input: Tensor) -> Tensor:
    """In-place form of `hardswish`."""
def hardtanh(input: Tensor, min_val: _builtins.float = ..., max_val: _builtins.float = ..., inplace: Any = False) -> Tensor:
    """The nearest value in [min_val, max_val]; no gradient at the bounds."""
def hardtanh_(input: Tensor, min_val: _builtins.float = ..., max_val: _builtins.float = ...) -> Tensor:
    """In-place form of `hardtanh`."""
def hinge_embedding_loss(input: Tensor, target: Tensor, margin: _builtins.float = ..., size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1."""
def huber_loss(input: Tensor, target: Tensor, reduction: _builtins.str = "mean", delta: _builtins.float = ..., weight: Tensor | None = None) -> Tensor:
    """d^2 / 2 where |d| < delta, delta * (|d| - delta / 2) elsewhere, for d = input - target."""
def instance_norm(input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None, weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: _builtins.bool = True, momentum: _builtins.float = ..., eps: _builtins.float = ...) -> Tensor:
    """`group_norm` with a group for each channel; running statistics are means over instances."""
def interpolate(input: Tensor, size: Any = None, scale_factor: Any = None, mode: _builtins.str = "nearest", align_corners: _builtins.bool | None = None, recompute_scale_factor: _builtins.bool | None = None, antialias: _builtins.bool = False) -> Tensor:
    """An image, signal or volume at another size."""
def kl_div(input: Tensor, target: Tensor, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean", log_target: _builtins.bool = False) -> Tensor:
    """target * (log target - input), pointwise, for log-probabilities `input`."""
def l1_loss(input: Tensor, target: Tensor, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean", weight: Tensor | None = None) -> Tensor:
    """|input - target|; arguments as for `mse_loss`."""
def layer_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: _builtins.float = ..., cudnn_enable: _builtins.bool = True) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the trailing dimensions."""
def leaky_relu(input: Tensor, negative_slope: _builtins.float = ..., inplace: Any = False) -> Tensor:
    """x above 0, negative_slope * x elsewhere."""
def leaky_relu_(input: Tensor, negative_slope: _builtins.float = ...) -> Tensor:
    """In-place form of `leaky_relu`."""
def linear(input: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    """input @ weight.T + bias."""
def linear_cross_entropy(input: Tensor, linear_weight: Tensor, target: Tensor, *, linear_bias: Tensor | None = None, weight: Tensor | None = None, reduction: _builtins.str = "mean", ignore_index: _builtins.int | None = None, label_smoothing: _builtins.float = ..., options: Any = None) -> Tensor:
    """`cross_entropy` of a linear layer's results."""
def local_response_norm(input: Tensor, size: _builtins.int, alpha: _builtins.float = ..., beta: _builtins.float = ..., k: _builtins.float = ...) -> Tensor:
    """x / (k + alpha * mean of x^2 over `size` neighbouring channels) ** beta."""
def log_softmax(input: Tensor, dim: _builtins.int | None = None, _stacklevel: _builtins.int = 3, dtype: _DType | None = None) -> Tensor:
    """log(softmax(x)) along one dimension."""
def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)) = -log(1 + exp(-x))."""
def lp_pool1d(input: Tensor, norm_type: _builtins.float, kernel_size: Any, stride: Any = None, ceil_mode: _builtins.bool = False) -> Tensor:
    """(sum of x ** p over each window) ** (1 / p) in 1 dimension(s)."""
def lp_pool2d(input: Tensor, norm_type: _builtins.float, kernel_size: Any, stride: Any = None, ceil_mode: _builtins.bool = False) -> Tensor:
    """(sum of x ** p over each window) ** (1 / p) in 2 dimension(s)."""
def lp_pool3d(input: Tensor, norm_type: _builtins.float, kernel_size: Any, stride: Any = None, ceil_mode: _builtins.bool = False) -> Tensor:
    """(sum of x ** p over each window) ** (1 / p) in 3 dimension(s)."""
def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: _builtins.float = ..., size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """max(0, -target * (input1 - input2) + margin)."""
def max_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: _builtins.bool = False, return_indices: _builtins.bool = False) -> Any:
    """`flambeau.max_pool1d`; with `return_indices` also the places of the largest"""
def max_pool1d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: _builtins.bool = False, return_indices: _builtins.bool = False) -> Any:
    """`max_pool1d` and the places of the largest elements."""
def max_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: _builtins.bool = False, return_indices: _builtins.bool = False) -> Any:
    """`flambeau.max_pool2d`; with `return_indices` also the places of the largest"""
def max_pool2d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: _builtins.bool = False, return_indices: _builtins.bool = False) -> Any:
    """`max_pool2d` and the places of the largest elements."""
def max_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: _builtins.bool = False, return_indices: _builtins.bool = False) -> Any:
    """`flambeau.max_pool3d`; with `return_indices` also the places of the largest"""
def max_pool3d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: _builtins.bool = False, return_indices: _builtins.bool = False) -> Any:
    """`max_pool3d` and the places of the largest elements."""
def max_unpool1d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Tensor:
    """Elements put back where `max_pool1d` found them, zeros elsewhere."""
def max_unpool2d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Tensor:
    """Elements put back where `max_pool2d` found them, zeros elsewhere."""
def max_unpool3d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Tensor:
    """Elements put back where `max_pool3d` found them, zeros elsewhere."""
def mish(input: Tensor, inplace: Any = False) -> Tensor:
    """x * tanh(log(1 + exp(x)))."""
def mish_(input: Tensor) -> Tensor:
    """In-place form of `mish`."""
def mse_loss(input: Tensor, target: Tensor, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean", weight: Tensor | None = None) -> Tensor:
    """(input - target)^2."""
def multi_margin_loss(input: Tensor, target: Tensor, p: _builtins.int = 1, margin: _builtins.float = ..., weight: Tensor | None = None, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """Mean over the other classes of max(0, margin - x[y] + x[i])^p."""
def multilabel_margin_loss(input: Tensor, target: Tensor, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """Sum over classes i that are no labels and labels j of max(0, 1 - (x[j] - x[i])) / C."""
def multilabel_soft_margin_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """The mean over classes (the last dimension) of the logistic loss of each."""
def native_channel_shuffle(input: Tensor, groups: _builtins.int) -> Tensor:
    """Channels of (N, C, *) dealt out: those of different groups stand beside each other."""
def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: _builtins.bool | None = None, ignore_index: _builtins.int = -100, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """-weight[target] * input[target] for log-probabilities."""
def normalize(input: Tensor, p: _builtins.float = ..., dim: Any = 1, eps: _builtins.float = ..., out: Tensor | None = None) -> Tensor:
    """x / max(norm of x along a dimension, eps)."""
def one_hot(tensor: Tensor, num_classes: _builtins.int = -1) -> Tensor:
    """1 where the last dimension's index is the element, else 0; int64."""
def pad(input: Tensor, pad: Any, mode: _builtins.str = "constant", value: _builtins.float | None = None) -> Tensor:
    """Elements added at (or with negative counts taken from) both ends of the last dimensions."""
def pairwise_distance(x1: Tensor, x2: Tensor, p: _builtins.float = ..., eps: _builtins.float = ..., keepdim: _builtins.bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps over the last dimension."""
def pdist(input: Tensor, p: _builtins.float = ...) -> Tensor:
    """Distances in the p-norm between every two rows of (N, M), above the diagonal: N(N-1)/2."""
def pixel_shuffle(input: Tensor, upscale_factor: _builtins.int) -> Tensor:
    """(*, C * r * r, H, W) as (*, C, H * r, W * r)."""
def pixel_unshuffle(input: Tensor, downscale_factor: _builtins.int) -> Tensor:
    """(*, C, H * r, W * r) as (*, C * r * r, H, W): the inverse of `pixel_shuffle`."""
def poisson_nll_loss(input: Tensor, target: Tensor, log_input: _builtins.bool = True, full: _builtins.bool = False, size_average: _builtins.bool | None = None, eps: _builtins.float = ..., reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """Negative log-likelihood of counts under Poisson distributions."""
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x above 0, weight * x elsewhere."""
def relu(input: Tensor, inplace: Any = False) -> Tensor:
    """max(input, 0); NaN stays."""
def relu6(input: Tensor, inplace: Any = False) -> Tensor:
    """min(max(x, 0), 6)."""
def relu6_(input: Tensor) -> Tensor:
    """In-place form of `relu6`."""
def relu_(input: Tensor) -> Tensor:
    """In-place form of `relu`."""
def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: _builtins.float | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the trailing dimensions."""
def rrelu(input: Tensor, lower: _builtins.float = ..., upper: _builtins.float = ..., training: _builtins.bool = False, inplace: _builtins.bool = False) -> Tensor:
    """x above 0, a * x elsewhere; a is uniform in [lower, upper), its mean outside training."""
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: _builtins.float = ..., is_causal: _builtins.bool = False, scale: _builtins.float | None = None, enable_gqa: _builtins.bool = False) -> Tensor:
    """softmax(scale * query @ key^T + mask) @ value."""
def selu(input: Tensor, inplace: Any = False) -> Tensor:
    """Scaled exponential linear unit, whose fixed point is mean 0 and variance 1."""
def selu_(input: Tensor) -> Tensor:
    """In-place form of `selu`."""
def sigmoid(input: Tensor | _builtins.float) -> Tensor:
    """1 / (1 + exp(-input))."""
def silu(input: Tensor, inplace: Any = False) -> Tensor:
    """x * sigmoid(x)."""
def silu_(input: Tensor) -> Tensor:
    """In-place form of `silu`."""
def smooth_l1_loss(input: Tensor, target: Tensor, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean", beta: _builtins.float = ...) -> Tensor:
    """d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere, for d = input - target."""
def soft_margin_loss(input: Tensor, target: Tensor, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """log(1 + exp(-target * input)) for targets 1 and -1."""
def softmax(input: Tensor, dim: _builtins.int | None = None, _stacklevel: _builtins.int = 3, dtype: _DType | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along one dimension."""
def softmin(input: Tensor, dim: _builtins.int | None = None, _stacklevel: _builtins.int = 3, dtype: _DType | None = None) -> Tensor:
    """softmax(-x) along one dimension."""
def softplus(input: Tensor, beta: _builtins.float = 1, threshold: _builtins.float = 20) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""
def softshrink(input: Tensor, lambd: _builtins.float = ...) -> Tensor:
    """x moved towards 0 by lambd, 0 inside [-lambd, lambd]."""
def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
def tanh(input: Tensor | _builtins.float) -> Tensor:
    """Hyperbolic tangent."""
def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
def threshold(input: Tensor, threshold: _builtins.float, value: _builtins.float, inplace: Any = False) -> Tensor:
    """x where it is above `threshold`, else `value`."""
def threshold_(input: Tensor, threshold: _builtins.float, value: _builtins.float) -> Tensor:
    """In-place form of `threshold`."""
def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: _builtins.float = ..., p: _builtins.float = 2, eps: _builtins.float = ..., swap: _builtins.bool = False, size_average: _builtins.bool | None = None, reduce: _builtins.bool | None = None, reduction: _builtins.str = "mean") -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with the p-norm's distance."""
def triplet_margin_with_distance_loss(anchor: Tensor, positive: Tensor, negative: Tensor, *, distance_function: Any = None, margin: _builtins.float = ..., swap: _builtins.bool = False, reduction: _builtins.str = "mean") -> Tensor:
    """`triplet_margin_loss` with a distance of one's own."""
def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The sliding blocks of images as columns."""
def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Bilinear `interpolate` between corners; torch's older name."""
def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` by the nearest element; torch's older name."""
