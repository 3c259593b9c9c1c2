"""What `compile` is told that torch's programs say."""

from __future__ import annotations

from typing import Any

BACKENDS = ("cudagraphs", "inductor", "eager", "aot_eager", "openxla", "tvm", "onnxrt")
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "lite")


def check(backend: Any, mode: str | None, options: dict[str, Any] | None) -> None:
    """Refuse what torch refuses.

    Raises:
        RuntimeError: both `mode` and `options`, or an unknown mode or backend.
    """
    if mode is not None and options is not None:
        raise RuntimeError(
            "Either mode or options can be specified, but both can't be specified at the same time."
        )
    if mode is not None and mode not in MODES:
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: {', '.join(MODES)}")
    if isinstance(backend, str) and backend not in BACKENDS:
        raise RuntimeError(f"Invalid backend: {backend!r}, should be one of: {', '.join(BACKENDS)}")
