"""ONNX: exported programs as models that other runtimes run, and back. See docs/export.md."""

from flambeau.export.onnx import (  # noqa: F401  (importing declares operators)
    networks,
    operators,
    sequences,
)
from flambeau.export.onnx.builder import OnnxExporterError
from flambeau.export.onnx.exporting import ONNXProgram, TrainingMode, export, is_in_onnx_export
from flambeau.export.onnx.reading import OnnxImportError, load

__all__ = [
    "ONNXProgram",
    "OnnxExporterError",
    "OnnxImportError",
    "TrainingMode",
    "export",
    "is_in_onnx_export",
    "load",
]
