"""Sample arguments of the rows, by family; imported by tests only.

Each module gives rows their samples: functions of `r`, where r(*shape, dtype=, low=, high=) makes a
tensor, that return tuples of arguments, the last of which may be a dict of keyword arguments.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
