"""``torch.onnx``: what libraries register for an exporter of TorchScript, which is not here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

symbolic_opset11 = SimpleNamespace()


def register_custom_op_symbolic(symbolic_name: str, symbolic_fn: Any, opset_version: int) -> None:
    """Accepted: there is no TorchScript to be written."""


unregister_custom_op_symbolic = register_custom_op_symbolic
