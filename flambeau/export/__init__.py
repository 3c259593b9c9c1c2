"""Export: programs that run without the Python they were made from.

`export` traces a module; sizes named by `Dim` stay symbols. See docs/export.md.
"""

from flambeau.export.aot import compile_aot, load_aot
from flambeau.export.archive import load, save
from flambeau.export.dims import Dim, ExportError, dims
from flambeau.export.exporting import export
from flambeau.export.program import ExportedProgram
from flambeau.export.signature import ExportGraphSignature

__all__ = [
    "Dim",
    "ExportError",
    "ExportGraphSignature",
    "ExportedProgram",
    "compile_aot",
    "dims",
    "export",
    "load",
    "load_aot",
    "save",
]
