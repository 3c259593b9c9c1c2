"""``torch.backends.cpu``: which of PyTorch's kernels would run; none of them do."""


def get_cpu_capability() -> str:
    """``"DEFAULT"``: libraries take the way that needs no kernel for one kind of processor."""
    return "DEFAULT"
