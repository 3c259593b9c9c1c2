"""``torch.backends.mkl``: flambeau generates its kernels and does not use it."""

enabled = False


def is_available() -> bool:
    """False."""
    return False
