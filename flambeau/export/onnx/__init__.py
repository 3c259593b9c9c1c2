"""ONNX: exported programs as models that other runtimes run. See docs/export.md."""

from flambeau.export.onnx.builder import OnnxExporterError
from flambeau.export.onnx.exporting import ONNXProgram, TrainingMode, export, is_in_onnx_export

__all__ = ["ONNXProgram", "OnnxExporterError", "TrainingMode", "export", "is_in_onnx_export"]
