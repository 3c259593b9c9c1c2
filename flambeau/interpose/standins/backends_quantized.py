"""``torch.backends.quantized``: no engine is there."""

engine = "none"
supported_engines: list[str] = ["none"]
