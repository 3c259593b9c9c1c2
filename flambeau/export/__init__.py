"""Export: programs that run without the Python they were made from.

`export` traces a module; sizes named by `Dim` stay symbols. See docs/export.md.
"""

from flambeau.export.aot import compile_aot, load_aot
from flambeau.export.archive import load, save
from flambeau.export.dims import Dim, ExportError, dims
from flambeau.export.exporting import draft_export, export
from flambeau.export.program import ExportedProgram
from flambeau.export.shapes import AdditionalInputs, ShapesCollection
from flambeau.export.signature import ExportGraphSignature
from flambeau.pytree import register_dataclass

__all__ = [
    "AdditionalInputs",
    "Dim",
    "ExportError",
    "ExportGraphSignature",
    "ExportedProgram",
    "ShapesCollection",
    "compile_aot",
    "dims",
    "draft_export",
    "export",
    "load",
    "load_aot",
    "register_dataclass",
    "save",
]
