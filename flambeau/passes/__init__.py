"""Passes: each takes a graph to a better graph or to a plan; `pipeline` lists them in order."""
