"""Models in onnxruntime, after the checker has passed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest


def checked(model: Any) -> bytes:
    """A model's bytes, which the checker finds valid, shapes included."""
    onnx = pytest.importorskip("onnx")
    from flambeau.export.onnx.builder import library

    proto = library().to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def session(model: Any) -> Any:
    """A session of onnxruntime."""
    data = checked(model)
    runtime = pytest.importorskip("onnxruntime")
    runtime.set_default_logger_severity(4)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def results(model: Any, given: Sequence[Any]) -> list[np.ndarray]:
    """What a model gives for arrays."""
    run = session(model)
    feeds = {i.name: x for i, x in zip(run.get_inputs(), given, strict=True)}
    return [np.asarray(x) for x in run.run(None, feeds)]
