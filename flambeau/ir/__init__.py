"""The recorded program: nodes and graphs, regions, their meaning in NumPy and their text."""
