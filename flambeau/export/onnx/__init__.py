"""ONNX: exported programs as models that other runtimes run. See docs/export.md."""

from flambeau.export.onnx.builder import OnnxExporterError
from flambeau.export.onnx.exporting import ONNXProgram, export

__all__ = ["ONNXProgram", "OnnxExporterError", "export"]
