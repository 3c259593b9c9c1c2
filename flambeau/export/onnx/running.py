"""Running a model in onnxruntime, to look at what was exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import flambeau
from flambeau.export.onnx.builder import OnnxExporterError, library
from flambeau.export.program import ExportedProgram
from flambeau.pytree import tree_leaves
from flambeau.tensor import Tensor


def session(data: bytes) -> Any:
    """A session of onnxruntime for a model's bytes.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ImportError(
            "running an ONNX model here needs onnxruntime: pip install onnxruntime"
        ) from None
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def run(session: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """What a session gives for a program's inputs."""
    given = [x for x in tree_leaves((tuple(args), dict(kwargs))) if isinstance(x, Tensor)]
    names = [v.name for v in session.get_inputs()]
    feeds = {n: x.detach().contiguous().numpy() for n, x in zip(names, given, strict=True)}
    return [flambeau.from_numpy(np.array(x)) for x in session.run(None, feeds)]


def check(model: Any, program: ExportedProgram) -> None:
    """Compare a model with its program for the example inputs.

    Raises:
        OnnxExporterError: they differ by more than rounding.
    """
    if program.example_inputs is None:
        raise OnnxExporterError("a program that was loaded has no example inputs to verify with")
    args, kwargs = program.example_inputs
    wanted = [x for x in tree_leaves(program.module()(*args, **kwargs)) if isinstance(x, Tensor)]
    made = session(library().to_proto(model).SerializeToString())
    for k, (got, want) in enumerate(zip(run(made, args, kwargs), wanted, strict=False)):
        if not flambeau.allclose(got.double(), want.detach().double(), rtol=1e-3, atol=1e-4):
            raise OnnxExporterError(f"result {k} of the ONNX model differs from the program's")


__all__ = ["check", "run", "session"]
