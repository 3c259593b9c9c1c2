"""The passes, in order, each with a line of why.

After them `fuse` groups values into regions. What comes then needs to know the regions' kernels and
is called by `runtime/planning.py`: `schedule` orders the steps for little memory, and
`rematerialise` repeats some of them where the plan is above the memory budget.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from flambeau.ir.graph import Graph, Node
from flambeau.ir.verify import verify
from flambeau.passes.distribute import distribute
from flambeau.passes.inline import inline
from flambeau.passes.own import own
from flambeau.passes.simplify import simplify
from flambeau.passes.split import split

#: Check the graph after every pass.
VERIFY = os.environ.get("FLAMBEAU_VERIFY", "0") not in ("", "0")


def lower(graph: Graph, claims: Callable[[Node], bool] = lambda node: False) -> Graph:
    """A recorded graph as the fusion pass wants it."""
    for name, run in passes(claims):
        if VERIFY:
            verify(graph, f"the pass before {name}")
        graph = run(graph)
    if VERIFY:
        verify(graph, "the last pass")
    return graph


def passes(claims: Callable[[Node], bool]) -> list[tuple[str, Callable[[Graph], Graph]]]:
    """The passes by name, in order."""
    return [
        # named composites that no kernel claims become their bodies
        ("inline", lambda graph: inline(graph, claims)),
        # copies and views that change nothing go; equal values meet
        ("simplify", simplify),
        # elementwise work on joined values goes to their parts
        ("distribute", distribute),
        # reductions become bounded, over adjacent axes
        ("split", split),
        # the views that splitting made meet the others
        ("simplify again", simplify),
        # writes get a base they may overwrite
        ("own", own),
    ]
