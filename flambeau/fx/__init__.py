"""Programs as graphs that are looked at and changed: `symbolic_trace`, and what works on it.

A module is run on proxies, which record calls of modules, functions and methods as nodes. The graph
can be printed, changed and run; a `GraphModule` has Python code that follows it.

Reference: Reed et al., "torch.fx: Practical Program Capture and Transformation for Deep Learning in
Python" (MLSys 2022).
"""

from flambeau.fx.graph import Graph
from flambeau.fx.graph_module import GraphModule
from flambeau.fx.interpreter import Interpreter, Transformer
from flambeau.fx.node import Node, has_side_effect, map_arg
from flambeau.fx.proxy import Proxy
from flambeau.fx.subgraph_rewriter import replace_pattern
from flambeau.fx.tracer import Tracer, symbolic_trace, wrap

__all__ = [
    "Graph",
    "GraphModule",
    "Interpreter",
    "Node",
    "Proxy",
    "Tracer",
    "Transformer",
    "has_side_effect",
    "map_arg",
    "replace_pattern",
    "symbolic_trace",
    "wrap",
]
