"""The same modules in torch and in flambeau: outputs, gradients, texts and errors agree."""

from __future__ import annotations

import importlib
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from tests.parity.same import Library, array, both, fill, given, parent

torch = pytest.importorskip("torch")


def leaves(value: Any) -> list[Any]:
    """The tensors of an output."""
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in leaves(v)]
    return [] if value is None else [value]


def run_module(lib: Library, build: Callable[[Any], Any], inputs: tuple[Any, ...]) -> Any:
    """All that is visible of a module: text, state, outputs, gradients; training, evaluation."""
    module = build(lib.nn)
    fill(module, lib)
    seen: dict[str, Any] = {"repr": repr(module), "state": dict(module.state_dict())}
    for mode in ("train", "eval"):
        getattr(module, mode)()
        module.zero_grad()
        arguments = [
            given(lib, a, grad=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a
            for a in inputs
        ]
        outputs = leaves(module(*arguments))
        seen[mode] = [out.detach().clone() for out in outputs]
        total = sum(
            (out * given(lib, array(tuple(out.shape), 7 + i))).sum()
            for i, out in enumerate(outputs)
        )
        if not getattr(total, "requires_grad", False):
            continue
        total.backward()
        seen[mode + " gradients"] = [
            [a.grad for a in arguments if hasattr(a, "grad") and a.grad is not None],
            {n: p.grad for n, p in module.named_parameters() if p.grad is not None},
        ]
    seen["buffers"] = dict(module.named_buffers())
    return seen


X = array((4, 6), 1)
X3 = array((2, 6, 5), 2)
X4 = array((2, 6, 3, 3), 3)
X5 = array((2, 6, 2, 3, 2), 4)
IDS = np.array([[1, 2, 0], [4, 3, 1]])

MODULES: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    "Identity": (lambda nn: nn.Identity(3, some=4), (X,)),
    "Linear": (lambda nn: nn.Linear(6, 3), (X,)),
    "Linear-no-bias": (lambda nn: nn.Linear(6, 3, bias=False), (X3.transpose(0, 2, 1).copy(),)),
    "Linear-vector": (lambda nn: nn.Linear(6, 3), (array((6,), 9),)),
    "Bilinear": (lambda nn: nn.Bilinear(6, 5, 3), (X, array((4, 5), 5))),
    "Flatten": (lambda nn: nn.Flatten(), (X3,)),
    "Unflatten": (lambda nn: nn.Unflatten(1, (2, 3)), (X,)),
    "Embedding": (lambda nn: nn.Embedding(5, 3), (IDS,)),
    "Embedding-padding": (lambda nn: nn.Embedding(5, 3, padding_idx=-4), (IDS,)),
    "Embedding-max-norm": (lambda nn: nn.Embedding(5, 3, max_norm=0.5), (IDS,)),
    "Embedding-freq": (lambda nn: nn.Embedding(5, 3, scale_grad_by_freq=True), (IDS,)),
    "LayerNorm": (lambda nn: nn.LayerNorm(6), (X,)),
    "LayerNorm-2d": (lambda nn: nn.LayerNorm((6, 5), eps=1e-3), (X3,)),
    "LayerNorm-no-bias": (lambda nn: nn.LayerNorm([6], bias=False), (X,)),
    "LayerNorm-plain": (lambda nn: nn.LayerNorm(6, elementwise_affine=False), (X,)),
    "RMSNorm": (lambda nn: nn.RMSNorm(6), (X,)),
    "RMSNorm-eps": (lambda nn: nn.RMSNorm((6, 5), eps=1e-2), (X3,)),
    "RMSNorm-plain": (lambda nn: nn.RMSNorm(6, elementwise_affine=False), (X,)),
    "GroupNorm": (lambda nn: nn.GroupNorm(3, 6), (X4,)),
    "GroupNorm-plain": (lambda nn: nn.GroupNorm(2, 6, affine=False), (X3,)),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(6), (X,)),
    "BatchNorm1d-3d": (lambda nn: nn.BatchNorm1d(6, momentum=None), (X3,)),
    "BatchNorm2d": (lambda nn: nn.BatchNorm2d(6, eps=1e-3, momentum=0.3), (X4,)),
    "BatchNorm2d-plain": (lambda nn: nn.BatchNorm2d(6, affine=False), (X4,)),
    "BatchNorm2d-untracked": (lambda nn: nn.BatchNorm2d(6, track_running_stats=False), (X4,)),
    "BatchNorm3d": (lambda nn: nn.BatchNorm3d(6), (X5,)),
    "InstanceNorm1d": (lambda nn: nn.InstanceNorm1d(6), (X3,)),
    "InstanceNorm1d-alone": (lambda nn: nn.InstanceNorm1d(4, affine=True), (X,)),
    "InstanceNorm2d": (
        lambda nn: nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
        (X4,),
    ),
    "InstanceNorm3d": (lambda nn: nn.InstanceNorm3d(6, eps=1e-2), (X5,)),
    "LocalResponseNorm": (lambda nn: nn.LocalResponseNorm(3, alpha=0.5, k=2.0), (X4,)),
    "Dropout-0": (lambda nn: nn.Dropout(0.0), (X,)),
    "Dropout-1": (lambda nn: nn.Dropout(1.0), (X,)),
    "Dropout2d-0": (lambda nn: nn.Dropout2d(0.0), (X4,)),
    "AlphaDropout-0": (lambda nn: nn.AlphaDropout(0.0), (X,)),
    "Threshold": (lambda nn: nn.Threshold(0.1, 20.0), (X,)),
    "ReLU": (lambda nn: nn.ReLU(), (X,)),
    "ReLU6": (lambda nn: nn.ReLU6(), (X * 5,)),
    "Hardtanh": (lambda nn: nn.Hardtanh(-0.5, 0.7), (X,)),
    "Hardsigmoid": (lambda nn: nn.Hardsigmoid(), (X * 3,)),
    "Hardswish": (lambda nn: nn.Hardswish(), (X * 3,)),
    "Sigmoid": (lambda nn: nn.Sigmoid(), (X,)),
    "Tanh": (lambda nn: nn.Tanh(), (X,)),
    "SiLU": (lambda nn: nn.SiLU(), (X,)),
    "Mish": (lambda nn: nn.Mish(), (X,)),
    "ELU": (lambda nn: nn.ELU(0.7), (X,)),
    "CELU": (lambda nn: nn.CELU(0.7), (X,)),
    "SELU": (lambda nn: nn.SELU(), (X,)),
    "GLU": (lambda nn: nn.GLU(), (X,)),
    "GLU-1": (lambda nn: nn.GLU(1), (X4,)),
    "GELU": (lambda nn: nn.GELU(), (X,)),
    "GELU-tanh": (lambda nn: nn.GELU("tanh"), (X,)),
    "Hardshrink": (lambda nn: nn.Hardshrink(), (X,)),
    "Softshrink": (lambda nn: nn.Softshrink(), (X,)),
    "Tanhshrink": (lambda nn: nn.Tanhshrink(), (X,)),
    "Softsign": (lambda nn: nn.Softsign(), (X,)),
    "Softplus": (lambda nn: nn.Softplus(2.0, 1.0), (X,)),
    "LogSigmoid": (lambda nn: nn.LogSigmoid(), (X,)),
    "LeakyReLU": (lambda nn: nn.LeakyReLU(0.2), (X,)),
    "PReLU": (lambda nn: nn.PReLU(), (X,)),
    "PReLU-6": (lambda nn: nn.PReLU(6), (X4,)),
    "Softmax": (lambda nn: nn.Softmax(1), (X3,)),
    "LogSoftmax": (lambda nn: nn.LogSoftmax(-1), (X3,)),
    "Softmin": (lambda nn: nn.Softmin(0), (X,)),
    "Softmax2d": (lambda nn: nn.Softmax2d(), (X4,)),
    "PairwiseDistance": (lambda nn: nn.PairwiseDistance(), (X, array((4, 6), 8))),
    "CosineSimilarity": (lambda nn: nn.CosineSimilarity(), (X, array((4, 6), 8))),
    "nested": (
        lambda nn: nn.Sequential(
            OrderedDict(
                first=nn.Linear(6, 5),
                rest=nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Linear(1, 1)])[:1][0],
                last=nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Dropout(0.0)),
            )
        ),
        (X,),
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str) -> None:
    build, inputs = MODULES[name]
    both(lambda lib: run_module(lib, build, inputs), rtol=1e-4, atol=1e-5)


INPLACE = ["ReLU", "ReLU6", "SiLU", "Mish", "Hardswish", "Hardsigmoid", "SELU"]


@pytest.mark.parametrize("name", INPLACE)
def test_inplace_activations_change_their_input(name: str) -> None:
    def program(lib: Library) -> Any:
        module = getattr(lib.nn, name)(inplace=True)
        x = given(lib, X.copy())
        y = module(x)
        return [repr(module), x, y]

    both(program)


Y = array((4, 6), 11)
P = (1 / (1 + np.exp(-X))).astype("float32")
T = (Y > 0).astype("float32")
S = np.where(Y > 0, 1, -1).astype("float32")
CLASSES = np.array([1, 5, 0, 1])
WEIGHTS = np.abs(array((6,), 12))

LOSSES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "L1Loss": (lambda lib, **o: lib.nn.L1Loss(**o), (X, Y)),
    "MSELoss": (lambda lib, **o: lib.nn.MSELoss(**o), (X, Y)),
    "SmoothL1Loss": (lambda lib, **o: lib.nn.SmoothL1Loss(beta=0.5, **o), (X, Y)),
    "HuberLoss": (lambda lib, **o: lib.nn.HuberLoss(delta=0.5, **o), (X, Y)),
    "NLLLoss": (
        lambda lib, **o: lib.nn.NLLLoss(given(lib, WEIGHTS), ignore_index=5, **o),
        (X, CLASSES),
    ),
    "CrossEntropyLoss": (lambda lib, **o: lib.nn.CrossEntropyLoss(**o), (X, CLASSES)),
    "CrossEntropyLoss-smooth": (
        lambda lib, **o: lib.nn.CrossEntropyLoss(
            given(lib, WEIGHTS), ignore_index=5, label_smoothing=0.2, **o
        ),
        (X, CLASSES),
    ),
    "CrossEntropyLoss-probabilities": (
        lambda lib, **o: lib.nn.CrossEntropyLoss(**o),
        (X, P),
    ),
    "CrossEntropyLoss-pixels": (
        lambda lib, **o: lib.nn.CrossEntropyLoss(**o),
        (X4, np.arange(18).reshape(2, 3, 3) % 6),
    ),
    "KLDivLoss": (lambda lib, **o: lib.nn.KLDivLoss(**o), (X, P)),
    "KLDivLoss-log": (lambda lib, **o: lib.nn.KLDivLoss(log_target=True, **o), (X, Y)),
    "BCELoss": (lambda lib, **o: lib.nn.BCELoss(given(lib, WEIGHTS), **o), (P, T)),
    "BCEWithLogitsLoss": (
        lambda lib, **o: lib.nn.BCEWithLogitsLoss(
            given(lib, WEIGHTS), pos_weight=given(lib, WEIGHTS + 1), **o
        ),
        (X, T),
    ),
    "PoissonNLLLoss": (lambda lib, **o: lib.nn.PoissonNLLLoss(full=True, **o), (X, T * 3)),
    "GaussianNLLLoss": (lambda lib, **o: lib.nn.GaussianNLLLoss(full=True, **o), (X, Y, P)),
    "HingeEmbeddingLoss": (lambda lib, **o: lib.nn.HingeEmbeddingLoss(0.5, **o), (X, S)),
    "SoftMarginLoss": (lambda lib, **o: lib.nn.SoftMarginLoss(**o), (X, S)),
    "MultiLabelSoftMarginLoss": (
        lambda lib, **o: lib.nn.MultiLabelSoftMarginLoss(given(lib, WEIGHTS), **o),
        (X, T),
    ),
    "MultiLabelMarginLoss": (
        lambda lib, **o: lib.nn.MultiLabelMarginLoss(**o),
        (X, np.array([[3, 0, -1, 1, 2, 4]] * 4)),
    ),
    "CosineEmbeddingLoss": (
        lambda lib, **o: lib.nn.CosineEmbeddingLoss(0.1, **o),
        (X, Y, S[:, 0].copy()),
    ),
    "MarginRankingLoss": (lambda lib, **o: lib.nn.MarginRankingLoss(0.2, **o), (X, Y, S)),
    "MultiMarginLoss": (
        lambda lib, **o: lib.nn.MultiMarginLoss(2, 0.7, given(lib, WEIGHTS), **o),
        (X, CLASSES),
    ),
    "TripletMarginLoss": (
        lambda lib, **o: lib.nn.TripletMarginLoss(swap=True, **o),
        (X, Y, array((4, 6), 13)),
    ),
    "TripletMarginWithDistanceLoss": (
        lambda lib, **o: lib.nn.TripletMarginWithDistanceLoss(swap=True, **o),
        (X, Y, array((4, 6), 13)),
    ),
}
OFFERED = {name: LOSSES[name] for name in LOSSES if hasattr(flambeau.nn, name.split("-")[0])}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", OFFERED)
def test_loss(name: str, reduction: str) -> None:
    build, inputs = OFFERED[name]

    def program(lib: Library) -> Any:
        module = build(lib, reduction=reduction)
        x = given(lib, inputs[0], grad=True)
        loss = module(x, *(given(lib, a) for a in inputs[1:]))
        (loss * given(lib, array(tuple(loss.shape), 3))).sum().backward()
        return [repr(module), dict(module.state_dict()), loss, x.grad]

    both(program, rtol=1e-4, atol=1e-5)


def test_legacy_reductions() -> None:
    def program(lib: Library) -> Any:
        found = []
        for options in ({"size_average": False}, {"reduce": False}, {"size_average": True}):
            with pytest.warns(UserWarning, match="size_average and reduce args") as caught:
                found.append([lib.nn.MSELoss(**options).reduction, str(caught[0].message)])
        return found

    both(program)


# -- attention and transformers -------------------------------------------------------------------

L, SRC, N, E = 3, 4, 2, 8
CAUSAL = np.triu(np.ones((L, L), bool), 1)
PADDING = np.array([[False, False, True, True], [False, False, False, False]])

ATTENTION: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "no-bias": ({"bias": False}, {}),
    "kv-bias": ({"add_bias_kv": True}, {"key_padding_mask": PADDING}),
    "zero-attn": (
        {"add_zero_attn": True},
        {"attn_mask": array((L, SRC), 31), "need_weights": False},
    ),
    "own-sizes": ({"kdim": 5, "vdim": 6}, {}),
    "batch-first": ({"batch_first": True}, {"key_padding_mask": PADDING}),
    "per-head": ({}, {"average_attn_weights": False}),
    "fused": ({}, {"need_weights": False}),
    "fused-padding": ({}, {"need_weights": False, "key_padding_mask": PADDING}),
    "float-mask": ({}, {"attn_mask": array((L, SRC), 30)}),
    "mask-per-head": ({}, {"attn_mask": array((N * 2, L, SRC), 30), "need_weights": False}),
    "both-masks": ({}, {"attn_mask": array((L, SRC), 30) > 1, "key_padding_mask": PADDING}),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_multihead_attention(name: str) -> None:
    options, call = ATTENTION[name]

    def program(lib: Library) -> Any:
        module = lib.nn.MultiheadAttention(E, 2, **options)
        fill(module, lib)
        sizes = [(L, E), (SRC, options.get("kdim", E)), (SRC, options.get("vdim", E))]
        made = [array((length, N, size), 20 + i) for i, (length, size) in enumerate(sizes)]
        if options.get("batch_first"):
            made = [a.transpose(1, 0, 2).copy() for a in made]
        q, k, v = (given(lib, a, grad=True) for a in made)
        keywords = {
            key: given(lib, a) if isinstance(a, np.ndarray) else a for key, a in call.items()
        }
        out, weights = module(q, k, v, **keywords)
        (out * given(lib, array(tuple(out.shape), 5))).sum().backward()
        return [
            repr(module),
            out,
            weights,
            [q.grad, k.grad, v.grad],
            {n: p.grad for n, p in module.named_parameters()},
        ]

    both(program, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("shared", ["self", "key-value"])
def test_attention_of_shared_tensors(shared: str, need_weights: bool) -> None:
    def program(lib: Library) -> Any:
        module = lib.nn.MultiheadAttention(E, 2)
        fill(module, lib)
        x = given(lib, array((L, N, E), 1), grad=True)
        memory = x if shared == "self" else given(lib, array((SRC, N, E), 2), grad=True)
        mask = given(lib, CAUSAL) if shared == "self" else None
        out, weights = module(
            x, memory, memory, attn_mask=mask, is_causal=mask is not None, need_weights=need_weights
        )
        out.square().sum().backward()
        return [out, weights, x.grad, memory.grad, module.in_proj_weight.grad]

    both(program, rtol=1e-4, atol=1e-5)


def test_attention_without_batch() -> None:
    def program(lib: Library) -> Any:
        module = lib.nn.MultiheadAttention(E, 2, batch_first=True)
        fill(module, lib)
        q, k = given(lib, array((L, E), 1)), given(lib, array((SRC, E), 2))
        mask = given(lib, PADDING[0])
        return [module(q, k, k, key_padding_mask=mask, need_weights=need) for need in (1, 0)]

    both(program, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"norm_first": True, "batch_first": True, "bias": False}])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformer(options: dict[str, Any], activation: str) -> None:
    def program(lib: Library) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch on its nested tensors
            module = lib.nn.Transformer(
                E, 2, 2, 1, 16, dropout=0.0, activation=activation, **options
            )
        fill(module, lib)
        first = options.get("batch_first", False)
        src = given(lib, array((N, SRC, E) if first else (SRC, N, E), 1), grad=True)
        tgt = given(lib, array((N, L, E) if first else (L, N, E), 2), grad=True)
        mask = module.generate_square_subsequent_mask(L)
        padding = given(lib, PADDING)
        out = module(
            src,
            tgt,
            tgt_mask=mask,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        (out * given(lib, array(tuple(out.shape), 5))).sum().backward()
        text = repr(module).replace("NonDynamicallyQuantizableLinear", "Linear")
        return [
            text,
            mask,
            out,
            src.grad,
            tgt.grad,
            {n: p.grad for n, p in module.named_parameters()},
        ]

    both(program, rtol=2e-3, atol=2e-4)


# -- texts and errors -----------------------------------------------------------------------------


ERRORS: dict[str, Callable[[Library, Any, Any], Any]] = {
    "no forward": lambda lib, nn, m: nn.Module()(1),
    "extra argument": lambda lib, nn, m: nn.Module(1),
    "extra keyword": lambda lib, nn, m: nn.Module(some=1),
    "attribute": lambda lib, nn, m: m.missing,
    "number as parameter": lambda lib, nn, m: setattr(m, "weight", 1),
    "tensor as parameter": lambda lib, nn, m: setattr(m, "weight", lib.zeros(2)),
    "tensor as module": lambda lib, nn, m: setattr(m, "child", lib.zeros(2)),
    "number as buffer": lambda lib, nn, m: setattr(m, "kept", 3),
    "buffer with dot": lambda lib, nn, m: m.register_buffer("a.b", None),
    "buffer without name": lambda lib, nn, m: m.register_buffer("", None),
    "buffer of taken name": lambda lib, nn, m: m.register_buffer("child", None),
    "buffer name": lambda lib, nn, m: m.register_buffer(3, None),
    "buffer type": lambda lib, nn, m: m.register_buffer("b", 3),
    "parameter with dot": lambda lib, nn, m: m.register_parameter("a.b", None),
    "parameter type": lambda lib, nn, m: m.register_parameter("b", lib.zeros(3)),
    "parameter taken": lambda lib, nn, m: m.register_parameter("forward", None),
    "module with dot": lambda lib, nn, m: m.add_module("a.b", None),
    "module without name": lambda lib, nn, m: m.add_module("", None),
    "module type": lambda lib, nn, m: m.add_module("b", 3),
    "train": lambda lib, nn, m: m.train(1),
    "integers": lambda lib, nn, m: m.to(lib.int64),
    "submodule": lambda lib, nn, m: m.get_submodule("child.weight"),
    "submodule missing": lambda lib, nn, m: m.get_submodule("child.other.weight"),
    "parameter": lambda lib, nn, m: m.get_parameter("child"),
    "parameter missing": lambda lib, nn, m: m.get_parameter("child.some"),
    "buffer": lambda lib, nn, m: m.get_buffer("child"),
    "set submodule": lambda lib, nn, m: m.set_submodule("", nn.ReLU()),
    "set submodule strictly": lambda lib, nn, m: m.set_submodule("a", nn.ReLU(), strict=True),
    "state type": lambda lib, nn, m: m.load_state_dict([1]),
    "state keys": lambda lib, nn, m: m.load_state_dict({"weight": lib.zeros(3, 2), "o.p": 1}),
    "state shape": lambda lib, nn, m: m.load_state_dict(
        {"weight": lib.zeros(2, 2), "child.weight": lib.zeros(1, 2), "child.bias": "text"}
    ),
    "sequential index": lambda lib, nn, m: nn.Sequential(m)[1],
    "sequential sum": lambda lib, nn, m: nn.Sequential(m) + [m],
    "sequential times": lambda lib, nn, m: nn.Sequential(m) * 0,
    "sequential times text": lambda lib, nn, m: nn.Sequential(m) * "a",
    "sequential insert": lambda lib, nn, m: nn.Sequential(m).insert(3, m),
    "list index": lambda lib, nn, m: nn.ModuleList([m])[-2],
    "list extend": lambda lib, nn, m: nn.ModuleList([m]).extend(3),
    "dict update": lambda lib, nn, m: nn.ModuleDict().update(3),
    "dict pair": lambda lib, nn, m: nn.ModuleDict([("a", m, m)]),
    "parameters extend": lambda lib, nn, m: nn.ParameterList(lib.zeros(2)),
    "parameters call": lambda lib, nn, m: nn.ParameterList()(1),
    "parameters key": lambda lib, nn, m: nn.ParameterDict()[1],
    "dropout": lambda lib, nn, m: nn.Dropout(1.5),
    "hardtanh": lambda lib, nn, m: nn.Hardtanh(1, 0),
    "softmax2d": lambda lib, nn, m: nn.Softmax2d()(lib.zeros(2, 2)),
    "batch norm": lambda lib, nn, m: nn.BatchNorm1d(2)(lib.zeros(2, 2, 2, 2)),
    "batch norm single": lambda lib, nn, m: nn.BatchNorm1d(2)(lib.zeros(1, 2)),
    "group norm": lambda lib, nn, m: nn.GroupNorm(2, 3),
    "embedding": lambda lib, nn, m: nn.Embedding(3, 2, padding_idx=3),
    "unflatten": lambda lib, nn, m: nn.Unflatten(1, 2),
    "unflatten sizes": lambda lib, nn, m: nn.Unflatten(1, (2, 0.5)),
    "attention": lambda lib, nn, m: nn.MultiheadAttention(3, 2),
    "attention sizes": lambda lib, nn, m: nn.MultiheadAttention(0, 2),
    "attention causal": lambda lib, nn, m: nn.MultiheadAttention(2, 1)(
        *[lib.zeros(2, 1, 2)] * 3, is_causal=True
    ),
    "attention shapes": lambda lib, nn, m: nn.MultiheadAttention(2, 1)(
        lib.zeros(2, 1, 2), lib.zeros(2, 2), lib.zeros(2, 2)
    ),
    "attention mask": lambda lib, nn, m: nn.MultiheadAttention(2, 1)(
        *[lib.zeros(2, 1, 2)] * 3, attn_mask=lib.zeros(3, 3)
    ),
    "gain": lambda lib, nn, m: nn.init.calculate_gain("none"),
    "fan": lambda lib, nn, m: nn.init.xavier_uniform_(lib.zeros(3)),
    "mode": lambda lib, nn, m: nn.init.kaiming_normal_(lib.zeros(3, 2), mode="fan"),
    "eye": lambda lib, nn, m: nn.init.eye_(lib.zeros(3)),
    "dirac": lambda lib, nn, m: nn.init.dirac_(lib.zeros(3, 2, 2), groups=2),
    "hooks": lambda lib, nn, m: (
        m.register_full_backward_hook(print),
        m.register_backward_hook(print),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str) -> None:
    def program(lib: Library) -> Any:
        with pytest.raises(Exception) as caught:
            ERRORS[name](lib, lib.nn, parent(lib.nn))
        text = str(caught.value).replace("torch.nn.modules.module", "torch.nn.module")
        return [caught.type.__name__, text.replace("nn.modules.container", "nn.containers")]

    both(program)


REPRS: dict[str, Callable[[Library, Any], Any]] = {
    "empty": lambda lib, nn: nn.Module(),
    "list": lambda lib, nn: nn.ModuleList(
        [nn.Linear(2, 2), nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Linear(2, 2)]
    ),
    "empty list": lambda lib, nn: nn.ModuleList(),
    "dict": lambda lib, nn: nn.ModuleDict({"a": nn.ReLU(), "b": nn.ModuleDict()}),
    "parameters": lambda lib, nn: nn.ParameterList([lib.zeros(2, 3), 4, nn.Linear(1, 1).bias]),
    "named parameters": lambda lib, nn: nn.ParameterDict({"b": lib.zeros(2), "a": "text"}),
    "options": lambda lib, nn: nn.Sequential(
        nn.Embedding(3, 2, padding_idx=1, max_norm=2.0, norm_type=1.0),
        nn.RReLU(inplace=True),
        nn.ELU(inplace=True),
        nn.BatchNorm3d(4, affine=False, momentum=None),
        nn.AlphaDropout(0.2, inplace=True),
        nn.FeatureAlphaDropout(),
        nn.Dropout1d(),
        nn.Dropout3d(0.1),
        nn.MultiheadAttention(4, 2),
        nn.Softmax2d(),
    ),
    "parameter": lambda lib, nn: nn.Parameter(lib.tensor([1.0, 2.5])),
    "frozen parameter": lambda lib, nn: nn.Parameter(lib.ones(2, 2), requires_grad=False),
}


@pytest.mark.parametrize("name", REPRS)
def test_repr(name: str) -> None:
    both(lambda lib: repr(REPRS[name](lib, lib.nn)))


def test_public_names_exist_in_torch() -> None:
    for module in ("nn", "nn.init", "nn.utils", "nn.functional"):
        ours = importlib.import_module("flambeau." + module)
        theirs = importlib.import_module("torch." + module)
        names = getattr(ours, "__all__", [n for n in vars(ours) if n[0] != "_"])
        # In-place forms follow from the table, also where torch leaves them out.
        public = [n for n in names if callable(getattr(ours, n)) and not n.endswith("_")]
        own = [n for n in public if not hasattr(theirs, n)]
        assert not own, f"{module}: {own}"


# -- gradients of all parameters ------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3, 0.0, float("inf"), float("-inf")])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clip_grad_norm(norm_type: float, max_norm: float) -> None:
    def program(lib: Library) -> Any:
        params = [given(lib, array((3, i + 1), i), grad=True) for i in range(3)]
        for i, p in enumerate(params[:2]):
            p.grad = given(lib, array((3, i + 1), 10 + i))
        total = lib.nn.utils.clip_grad_norm_(params, max_norm, norm_type)
        return [total, [p.grad for p in params[:2]], lib.nn.utils.get_total_norm(params[0].grad)]

    both(program)


def test_clip_grad_value_and_vectors() -> None:
    def program(lib: Library) -> Any:
        params = [given(lib, array((3, i + 1), i), grad=True) for i in range(3)]
        for i, p in enumerate(params):
            p.grad = given(lib, array((3, i + 1), 10 + i))
        lib.nn.utils.clip_grad_value_(params, 0.5)
        vector = lib.nn.utils.parameters_to_vector(params)
        lib.nn.utils.vector_to_parameters(vector.detach() * 2, params)
        return [[p.grad for p in params], vector, params]

    both(program)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("constant_", {"val": 2.5}),
        ("ones_", {}),
        ("zeros_", {}),
        ("eye_", {}),
    ],
)
def test_deterministic_init(name: str, options: dict[str, Any]) -> None:
    both(lambda lib: getattr(lib.nn.init, name)(lib.empty(3, 4), **options))


def test_dirac() -> None:
    both(
        lambda lib: [
            lib.nn.init.dirac_(lib.empty(4, 3, 5), groups=2),
            lib.nn.init.dirac_(lib.empty(2, 3, 3, 2)),
            [lib.nn.init.calculate_gain(n) for n in ("linear", "tanh", "relu", "selu", "conv2d")],
            lib.nn.init.calculate_gain("leaky_relu", 0.3),
        ]
    )
