"""Which of flambeau's modules have the names of a torch module.

``torch.a.b`` is looked for in ``flambeau.a.b``, then in the stand-in for it (a module of
:mod:`flambeau.interpose.standins` called ``a_b``), unless a row of :data:`MODULES` says otherwise.
Modules of the families in :data:`FAMILIES` are files in which torch happens to define what the
package above them offers; programs import from them, so they have all names of that package.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util

from flambeau.interpose.standins.absent import ABSENT

MODULES: dict[str, tuple[str, ...]] = {
    "torch._C._distributed_c10d": ("flambeau.distributed",),
    "torch._custom_ops": ("flambeau.library",),
    "torch.ao.nn": ("flambeau.interpose.standins.package",),
    "torch.ao.nn.quantized": ("flambeau.interpose.standins.package",),
    "torch.ao.nn.quantized.dynamic": ("flambeau.ao.dynamic",),
    "torch.quantization": ("flambeau.ao.quantization",),
    "torch._ops": ("flambeau.ops.dispatching",),
    "torch._tensor": ("flambeau.tensor",),
    "torch.autograd.grad_mode": ("flambeau.autograd.grad_mode", "flambeau"),
    "torch.autograd.profiler": ("flambeau.profiler.autograd",),
    "torch.autograd.profiler_util": ("flambeau.profiler.events", "flambeau.profiler.autograd"),
    "torch.backends": ("flambeau.backends", "flambeau.interpose.standins.package"),
    "torch.distributed._composable": ("flambeau.interpose.standins.package",),
    "torch.distributed._composable.fsdp": ("flambeau.distributed.fsdp",),
    "torch.distributed._functional_collectives": ("flambeau.distributed.functional",),
    "torch.distributed.constants": ("flambeau.distributed.groups",),
    "torch.distributed.device_mesh": ("flambeau.distributed.mesh",),
    "torch.distributed.distributed_c10d": (
        *("flambeau.distributed", "flambeau.distributed.groups"),
        "flambeau.distributed.collectives",
    ),
    "torch.distributed.rendezvous": ("flambeau.distributed.store",),
    "torch.distributed._tensor": ("flambeau.distributed.tensor",),
    "torch.distributed._tensor.placement_types": ("flambeau.distributed.tensor.placement",),
    "torch.distributed.tensor.placement_types": ("flambeau.distributed.tensor.placement",),
    "torch.distributed.tensor.parallel.style": ("flambeau.distributed.tensor.parallel",),
    "torch.distributions.utils": ("flambeau.distributions.distribution",),
    "torch.functional": ("flambeau",),
    "torch.fx._symbolic_trace": ("flambeau.fx.tracer",),
    "torch.nn.modules": ("flambeau.nn",),
    "torch.nn.modules.batchnorm": ("flambeau.nn.normalization",),
    "torch.nn.modules.instancenorm": ("flambeau.nn.normalization",),
    "torch.nn.modules.lazy": ("flambeau.nn.lazy", "flambeau.nn.uninitialized"),
    "torch.nn.parameter": ("flambeau.nn.parameter", "flambeau.nn.uninitialized", "flambeau.nn"),
    "torch.nn.modules.module": ("flambeau.nn.module", "flambeau.nn.state", "flambeau.nn.hooks"),
    "torch.nn.modules.transformer": ("flambeau.nn.transformer",),
    "torch.nn.parallel": ("flambeau.nn.parallel", "flambeau.nn.data_parallel"),
    "torch.distributed.algorithms": ("flambeau.interpose.standins.package",),
    "torch.distributed.algorithms.ddp_comm_hooks": ("flambeau.interpose.standins.package",),
    "torch.distributed.algorithms.ddp_comm_hooks.default_hooks": (
        "flambeau.distributed.comm_hooks",
    ),
    "torch.distributed.algorithms.join": ("flambeau.distributed.join",),
    "torch.nn.parallel.distributed": ("flambeau.distributed.ddp",),
    "torch.export.dynamic_shapes": ("flambeau.export.dims", "flambeau.export.shapes"),
    "torch.export.exported_program": ("flambeau.export.program",),
    "torch.export.graph_signature": ("flambeau.export.signature",),
    "torch.onnx": ("flambeau.export.onnx", "flambeau.interpose.standins.onnx"),
    "torch.onnx.errors": ("flambeau.export.onnx",),
    "torch.random": ("flambeau.random", "flambeau"),
    "torch.serialization": ("flambeau.serialization", "flambeau"),
    "torch.utils.model_zoo": ("flambeau.interpose.standins.hub",),
    "torch.version": ("flambeau.interpose.standins.version",),
    "torch.torch_version": ("flambeau.interpose.standins.version",),
    "torch.utils._pytree": ("flambeau.pytree",),
    "torch.utils": ("flambeau.utils", "flambeau.interpose.standins.package"),
    "torch.utils.data": ("flambeau.utils.data", "flambeau.data"),
    "torch._VF": ("flambeau",),
    "torch._higher_order_ops": ("flambeau.control",),
    **{
        f"torch._higher_order_ops.{name}": ("flambeau.control",)
        for name in ("associative_scan", "cond", "map", "scan", "while_loop")
    },
    "torch.utils.data.distributed": ("flambeau.data.distributed",),
    "torch.utils.data.dataloader": ("flambeau.data.dataloader",),
    "torch.utils.dlpack": ("flambeau.utils.dlpack", "flambeau"),
    "torch.utils.hooks": ("flambeau.nn.hooks",),
    "torch.utils.tensorboard": ("flambeau.utils.tensorboard", "flambeau.tensorboard"),
}
"""Torch modules whose names do not lie where the rule looks."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "torch._dynamo": ("eval_frame",),
    "torch.autograd": ("anomaly_mode", "function", "functional", "gradcheck", "variable"),
    "torch.distributions": (
        *("bernoulli", "beta", "binomial", "categorical", "cauchy", "chi2", "continuous_bernoulli"),
        *("dirichlet", "distribution", "exp_family", "exponential", "fishersnedecor", "gamma"),
        *("generalized_pareto", "geometric", "gumbel", "half_cauchy", "half_normal", "independent"),
        *("inverse_gamma", "kl", "kumaraswamy", "laplace", "lkj_cholesky", "log_normal"),
        *("logistic_normal", "lowrank_multivariate_normal", "mixture_same_family", "multinomial"),
        *("multivariate_normal", "negative_binomial", "normal", "one_hot_categorical", "pareto"),
        *("poisson", "relaxed_bernoulli", "relaxed_categorical", "studentT", "transforms"),
        *("transformed_distribution", "uniform", "von_mises", "weibull", "wishart"),
    ),
    "torch.nn": ("parameter", "backends"),
    "torch.nn.modules": (
        *("activation", "adaptive", "batchnorm", "channelshuffle", "container", "conv"),
        *("distance", "dropout", "flatten", "fold", "instancenorm", "lazy", "linear", "loss"),
        *("module", "normalization", "padding", "pixelshuffle", "pooling", "rnn", "sparse"),
        *("transformer", "upsampling", "utils"),
    ),
    "torch.nn.utils": ("clip_grad", "convert_parameters", "weight_norm", "spectral_norm"),
    "torch.optim": (
        *("adadelta", "adagrad", "adam", "adamax", "adamw", "asgd", "lbfgs", "nadam", "optimizer"),
        *("radam", "rmsprop", "rprop", "sgd", "sparse_adam"),
    ),
    "torch.profiler": ("profiler",),
    "torch.utils._pytree": ("flambeau.pytree",),
    "torch.utils": ("flambeau.utils", "flambeau.interpose.standins.package"),
    "torch.utils.data": ("dataloader", "dataset", "distributed", "sampler"),
}
"""Package -> its files whose names it re-exports."""

ROOTS = frozenset(
    {
        *("accelerator", "amp", "autograd", "backends", "compiler", "cpu", "cuda", "distributed"),
        *(
            "distributions",
            "export",
            "fft",
            "func",
            "functional",
            "futures",
            "fx",
            "hub",
            "jit",
            "library",
        ),
        *("linalg", "masked", "mps", "multiprocessing", "nested", "nn", "onnx", "optim"),
        "overrides",
        *("profiler", "quantization", "random", "serialization", "signal", "sparse", "special"),
        *(
            "storage",
            "testing",
            "torch_version",
            "types",
            "utils",
            "version",
            "xpu",
            "_tensor",
            "_VF",
            "_higher_order_ops",
        ),
        *("_C", "_custom_ops", "_dynamo", "_ops", "_inductor", "_subclasses", "_utils", "ao"),
    }
)
"""Torch's own top-level modules. Others that flambeau has are not answered for."""

_STANDINS = "flambeau.interpose.standins"


def _exists(name: str) -> bool:
    package, _, attribute = name.rpartition(".")
    try:
        if importlib.util.find_spec(name) is not None:
            return True
        found = getattr(importlib.import_module(package), attribute, None)
        return found is not None and not callable(found)
    except ModuleNotFoundError:
        return False


@functools.cache
def sources_of(path: str) -> tuple[str, ...]:
    """The modules that have the names of a torch module, in the order in which they are asked.

    Args:
        path: such as ``torch.nn.functional``.

    Returns:
        Names of modules that can be imported; none when flambeau has nothing for this module.
    """
    if path == "torch":
        return ("flambeau", f"{_STANDINS}.root", f"{_STANDINS}.foreach")
    parts = path.split(".")
    if parts[1] not in ROOTS:
        return ()
    rest = parts[1:]
    candidates = list(MODULES.get(path, (".".join(["flambeau", *rest]),)))
    candidates.append(f"{_STANDINS}.{'_'.join(rest)}")
    package = path.rpartition(".")[0]
    if rest[-1] in FAMILIES.get(package, ()):
        candidates += sources_of(package)
    found = tuple(name for name in dict.fromkeys(candidates) if _exists(name))
    if not found and any(name == path or name.startswith(f"{path}.") for name in ABSENT):
        return (f"{_STANDINS}.package",)
    return found


def children_of(path: str) -> list[str]:
    """Names of the modules directly below a torch module that there are sources for."""
    if path == "torch":
        return [name for name in sorted(ROOTS) if sources_of(f"torch.{name}")]
    listed = [row.rpartition(".") for row in MODULES]
    listed += [name.rpartition(".") for name in ABSENT]
    found = {name for package, _, name in listed if package == path}
    return sorted({*found, *FAMILIES.get(path, ())})
