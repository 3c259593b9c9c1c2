"""Automatic differentiation: backward, grad, modes, functions, checks."""

import importlib
from typing import Any

from flambeau.autograd import check, forward, forward_ad, function, functional, graph
from flambeau.autograd.anomaly import detect_anomaly, set_detect_anomaly
from flambeau.autograd.backward import backward, grad
from flambeau.autograd.check import GradcheckError, gradcheck, gradgradcheck
from flambeau.autograd.function import Function
from flambeau.autograd.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)

__all__ = [
    "Function",
    "GradcheckError",
    "backward",
    "check",
    "detect_anomaly",
    "enable_grad",
    "forward",
    "forward_ad",
    "function",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]


def __getattr__(name: str) -> Any:
    """`torch.autograd.profiler`, which stands above this package and is imported when asked for."""
    if name == "profiler":
        return importlib.import_module("flambeau.profiler.autograd")
    raise AttributeError(f"module 'flambeau.autograd' has no attribute {name!r}")
