"""``torch`` in a process started by a program under ``flambeau run``: flambeau takes its place.

Interpreters of other environments inherit the path too; in them the real torch is imported.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

_CHILDREN = Path(__file__).resolve().parents[1]
_CHECKOUT = str(_CHILDREN.parents[2])


def _take_its_place() -> None:
    if importlib.util.find_spec("flambeau") is None:
        sys.path.append(_CHECKOUT)  # the program's folder has replaced it in front
    importlib.import_module("flambeau.interpose").install()


def _step_aside() -> None:
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _CHILDREN]
    del sys.modules["torch"]
    importlib.invalidate_caches()


if os.environ.get("FLAMBEAU_INTERPOSED") == sys.prefix:
    _take_its_place()
else:
    _step_aside()
importlib.import_module("torch")
