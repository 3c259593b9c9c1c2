"""The computations that modules are made of, as functions.

All that the table of operations publishes here, and the functions written in terms of them.
"""

from typing import Any

from flambeau.nn.multihead import multi_head_attention_forward
from flambeau.ops.rows import FUNCTIONAL

globals().update(FUNCTIONAL)
for _name, _function in FUNCTIONAL.items():  # pickle finds a function by its module and name
    _function.__module__, _function.__qualname__ = __name__, _name


def __getattr__(name: str) -> Any:
    """Names that are not there.

    Raises:
        AttributeError: always, naming the function.
    """
    raise AttributeError(f"module 'flambeau.nn.functional' has no attribute '{name}'")


__all__ = ["multi_head_attention_forward", *FUNCTIONAL]
