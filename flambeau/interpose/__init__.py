"""Answers ``import torch`` with flambeau, so that an unmodified PyTorch program runs on it.

After :func:`install`, a finder at the head of ``sys.meta_path`` answers ``torch`` and every
submodule that flambeau or a stand-in has names for, even where the real torch is installed. The
modules it makes are :class:`Facade` objects: they look names up in flambeau's modules, which stay
as they are. A name that is missing raises an error that spells it out in full.

Processes started from here find the folder ``children`` on their path (``PYTHONPATH`` for new
interpreters, ``sys.path`` for those of multiprocessing); its package ``torch`` calls
:func:`install` in them.

Example:
    >>> from flambeau.interpose import install, uninstall
    >>> install()
    >>> import torch
    >>> torch.__version__
    '2.11.0+flambeau'
    >>> uninstall()
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import flambeau
from flambeau.dtype import prefix
from flambeau.interpose.names import children_of, sources_of
from flambeau.interpose.standins.absent import ABSENT, absent
from flambeau.interpose.standins.root import __version__
from flambeau.interpose.standins.version import TORCH
from flambeau.ops.streams import RANDOM, set_stream

CHILDREN = str(Path(__file__).parent / "children")
"""Folder on the path of child processes."""

_ENVIRONMENT = "FLAMBEAU_INTERPOSED"  # of the Python environment whose processes are meant
_STABLE = (bool, int, float, str, type(None))
_IMPORT_MACHINERY = "<frozen importlib._bootstrap>"


def _belongs_to_torch(name: str) -> bool:
    return name == "torch" or name.startswith("torch.")


def _missing(path: str) -> str:
    return (
        f"{path} is not in flambeau yet (it answers for torch {TORCH}; docs/compatibility.md lists "
        "what is there)"
    )


class Facade(ModuleType):
    """A module named ``torch...`` whose names are looked up in other modules.

    Args:
        name: the module's name.
        sources: the modules with its names, the first that has one wins.
    """

    def __init__(self, name: str, sources: Sequence[Any]) -> None:
        documented = next((s.__doc__ for s in sources if getattr(s, "__doc__", None)), None)
        super().__init__(name, documented)
        self.__dict__["_sources"] = tuple(sources)

    def __getattr__(self, name: str) -> Any:
        path = f"{self.__name__}.{name}"
        if name == "__all__":  # `from torch.nn import *` asks for it
            return [n for n in dir(self) if not n.startswith("_") and hasattr(self, n)]
        for source in self._sources:
            value = getattr(source, name, _ABSENT)
            if value is _ABSENT or isinstance(value, ModuleType):
                continue
            if name.startswith("__") and name != "__version__":
                continue
            if not isinstance(value, _STABLE):  # a switch may change, so it is read each time
                self.__dict__[name] = value
            return value
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if sources_of(path):
            return importlib.import_module(path)
        if (refusing := absent(path)) is not None:
            self.__dict__[name] = refusing
            return refusing
        message = _missing(path)
        # `from torch import name` asks hasattr() inside the import machinery, then hides what was
        # said here behind a message that does not name the module; an ImportError gets through.
        if sys._getframe(1).f_code.co_filename == _IMPORT_MACHINERY:
            raise ImportError(message, name=self.__name__, path=path)
        raise AttributeError(message, name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value
        if name.startswith("__") or isinstance(value, ModuleType):
            return
        for source in self._sources:  # a program that replaces a function means everybody's
            if hasattr(source, name):
                setattr(source, name, value)
                if isinstance(value, _STABLE):
                    del self.__dict__[name]
                return

    def __dir__(self) -> Iterable[str]:
        names = {*self.__dict__, *ABSENT.get(self.__name__, "").split()} - {"_sources"}
        for source in self._sources:
            names.update(n for n in dir(source) if not n.startswith("_") or n == "__version__")
        return sorted(names | set(children_of(self.__name__)))


_ABSENT = object()


class _Loader(Loader):
    """Makes the facade of a torch module."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        sources = [_source(name) for name in sources_of(spec.name)]
        facade = Facade(spec.name, sources)
        if spec.name == "torch":
            facade.__dict__.update(__file__=flambeau.__file__, __version__=__version__)
        return facade

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: the names are looked up when they are asked for."""


def _source(name: str) -> Any:
    """A module, or a namespace that is an attribute of one."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        package, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(package), attribute)


class _Finder(MetaPathFinder):
    """Finds torch's modules in flambeau."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module that flambeau has names for, else None."""
        if not _belongs_to_torch(name):
            return None
        if not sources_of(name):
            raise_from_import(name)
            return None
        spec = ModuleSpec(name, _Loader(), origin=flambeau.__file__, is_package=True)
        spec.submodule_search_locations = []
        return spec


def raise_from_import(name: str) -> None:
    """Raise a ModuleNotFoundError that says what is missing, when an import statement asks.

    ``importlib.util.find_spec``, which asks whether something is there, must get None instead.
    """
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename == _IMPORT_MACHINERY:
        if frame.f_code.co_name == "_find_and_load":
            raise ModuleNotFoundError(_missing(name), name=name)
        frame = frame.f_back  # type: ignore[assignment]


def _tensor_getattr(tensor: Any, name: str) -> Any:
    """Called for a tensor's attribute that was not found: says so with torch's name."""
    if any(name in vars(kind) for kind in type(tensor).__mro__):
        # a property that failed by itself: its own error is the answer
        return object.__getattribute__(tensor, name)
    raise AttributeError(_missing(f"torch.Tensor.{name}"), name=name, obj=tensor)


_finder = _Finder()
_tensor_type: Any = flambeau.Tensor
_hidden: dict[str, ModuleType] = {}


def installed() -> bool:
    """Whether ``import torch`` is answered by flambeau in this process."""
    return _finder in sys.meta_path


def install() -> None:
    """From now on ``import torch`` gives flambeau, here and in processes started from here.

    If the real torch was imported before, its modules are set aside until :func:`uninstall`.
    """
    if installed():
        return
    for name in [name for name in sys.modules if _belongs_to_torch(name)]:
        module = sys.modules.pop(name)
        if getattr(module, "__file__", None) != str(Path(CHILDREN, "torch", "__init__.py")):
            _hidden[name] = module
    sys.meta_path.insert(0, _finder)
    if CHILDREN not in sys.path:
        sys.path.insert(0, CHILDREN)
    inherited = os.environ.get("PYTHONPATH", "")
    if CHILDREN not in inherited.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (CHILDREN, inherited) if part)
    os.environ[_ENVIRONMENT] = sys.prefix
    importlib.invalidate_caches()
    prefix[0] = "torch"
    set_stream(os.environ.get(RANDOM, "torch"))
    if "__getattr__" not in _tensor_type.__dict__:
        _tensor_type.__getattr__ = _tensor_getattr


def uninstall() -> None:
    """Undo :func:`install`: ``import torch`` gives the real torch again, if there is one."""
    if not installed():
        return
    sys.meta_path.remove(_finder)
    for name in [name for name in sys.modules if _belongs_to_torch(name)]:
        del sys.modules[name]
    sys.modules.update(_hidden)
    _hidden.clear()
    sys.path[:] = [entry for entry in sys.path if entry != CHILDREN]
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    rest = os.pathsep.join(part for part in inherited if part and part != CHILDREN)
    if rest:
        os.environ["PYTHONPATH"] = rest
    else:
        os.environ.pop("PYTHONPATH", None)
    os.environ.pop(_ENVIRONMENT, None)
    set_stream(os.environ.get(RANDOM, "threefry"))
    prefix[0] = "flambeau"
    if _tensor_type.__dict__.get("__getattr__") is _tensor_getattr:
        del _tensor_type.__getattr__
