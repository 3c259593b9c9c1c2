"""A folder for the path of child processes, where ``torch`` and its metadata are flambeau's."""
