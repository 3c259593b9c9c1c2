"""Loss scaling: gradients of float16 are kept in range by a factor that finds itself."""

from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from collections.abc import Iterable
from enum import Enum
from typing import Any

import flambeau
from flambeau.compile.live import CLASSES, live
from flambeau.tensor import Tensor


class OptState(Enum):
    """How far an optimizer is in this iteration."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


def _fresh() -> dict[str, Any]:
    return {"stage": OptState.READY, "found_inf_per_device": {}}


def check_and_unscale(grads: Iterable[Tensor], inv_scale: Tensor) -> Tensor:
    """Multiply gradients by a factor, in place, and look for values that are not finite.

    All of it is recorded, nothing runs: the checks fuse with whatever makes the gradients.

    Args:
        grads: of any shapes and float dtypes.
        inv_scale: 0-d float32.

    Returns:
        0-d float32: 1 where a gradient had an element that is not finite, else 0.
    """
    sound: Any = None
    for g in grads:
        fine = flambeau.isfinite(g).all()
        sound = fine if sound is None else flambeau.logical_and(sound, fine)
        g.mul_(inv_scale)
    if sound is None:
        return flambeau.zeros(())
    return flambeau.where(sound, 0.0, 1.0)


def update_scale(
    scale: Tensor,
    growth_tracker: Tensor,
    found_inf: Tensor,
    growth_factor: float,
    backoff_factor: float,
    growth_interval: int,
) -> None:
    """Move the scale, in place, by what an iteration found; recorded, nothing runs.

    Args:
        scale: 0-d float32.
        growth_tracker: 0-d int32, iterations in a row without trouble.
        found_inf: 0-d float32, over 0 where a gradient was not finite.
        growth_factor, backoff_factor: what the scale is multiplied with.
        growth_interval: iterations in a row before it grows.
    """
    bad = found_inf > 0
    count = growth_tracker + 1
    full = count == growth_interval
    larger = scale * growth_factor
    grown = flambeau.where(full & flambeau.isfinite(larger), larger, scale)
    smaller = scale * backoff_factor
    scale.copy_(flambeau.where(bad, smaller, grown))
    growth_tracker.copy_(flambeau.where(bad | full, 0, count))


class GradScaler:
    """Scales a loss so that small float16 gradients do not vanish; skips steps that overflow.

    `scale(loss).backward()`, `step(optimizer)`, `update()`: the gradients are divided by the scale
    before the optimizer sees them; a step whose gradients are not all finite is left out and the
    scale is multiplied by `backoff_factor`; after `growth_interval` steps in a row it is multiplied
    by `growth_factor`. The only value that is waited for is whether to step, once a step.

    Args:
        device: `"cpu"`; on a device that is not there the scaler is switched off, with a warning.
        init_scale: the first scale.
        growth_factor: over 1.
        backoff_factor: under 1.
        growth_interval: steps.
        enabled: False makes every method pass through.

    Raises:
        AssertionError: factors on the wrong side of 1.

    Reference:
        Micikevicius et al., Mixed Precision Training (arXiv:1710.03740), section 3.2.
    """

    live_reads = ("_enabled", "_scale")  # what `scale` reads, which `compile` records

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._device = device
        self._enabled = enabled
        if device == "cuda" and enabled:
            warnings.warn(
                "torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.",
                stacklevel=2,
            )
            self._enabled = False
        if not self._enabled:
            return
        if growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        self._init_scale = init_scale
        self._scale: Any = None  # both are made when `scale` is first called
        self._growth_tracker: Any = None
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._init_growth_tracker = 0
        self._per_optimizer_states: dict[int, dict[str, Any]] = defaultdict(_fresh)

    def _made(self, name: str) -> Tensor:
        if self._scale is None:
            raise AssertionError(
                f"Attempted {name} but _scale is None.  This may indicate your script did not use "
                "scaler.scale(loss or outputs) earlier in the iteration."
            )
        scale: Tensor = self._scale
        return scale

    def scale(self, outputs: Any) -> Any:
        """A tensor, or an iterable of them, times the scale.

        Raises:
            ValueError: something else among the outputs.
        """
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            if self._scale is None:
                device = outputs.device
                self._scale = flambeau.full((), float(self._init_scale), device=device)
                self._growth_tracker = flambeau.full(
                    (), self._init_growth_tracker, dtype=flambeau.int32, device=device
                )
            return outputs * self._scale
        if isinstance(outputs, Iterable):
            found = map(self.scale, outputs)
            return type(outputs)(found) if isinstance(outputs, (list, tuple)) else found
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def _unscale_grads_(
        self, optimizer: Any, inv_scale: Tensor, allow_fp16: bool
    ) -> dict[Any, Tensor]:
        """Unscale an optimizer's gradients; -> device -> whether one was not finite."""
        grads: dict[Any, list[Tensor]] = {}
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if not allow_fp16 and p.grad.dtype is flambeau.float16:
                    raise ValueError("Attempting to unscale FP16 gradients.")
                grads.setdefault(p.grad.device, []).append(p.grad)
        with flambeau.no_grad():
            return {d: check_and_unscale(found, inv_scale) for d, found in grads.items()}

    @live
    def unscale_(self, optimizer: Any) -> None:
        """Divide an optimizer's gradients by the scale, to look at them or clip them before `step`.

        Raises:
            RuntimeError: a second call, or one after `step`, before `update`.
            ValueError: gradients of float16.
        """
        if not self._enabled:
            return
        scale = self._made("unscale_")
        now = self._per_optimizer_states[id(optimizer)]
        if now["stage"] is OptState.UNSCALED:
            raise RuntimeError(
                "unscale_() has already been called on this optimizer since the last update()."
            )
        if now["stage"] is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        inverse = scale.double().reciprocal().float()
        now["found_inf_per_device"] = self._unscale_grads_(optimizer, inverse, False)
        now["stage"] = OptState.UNSCALED

    def _maybe_opt_step(
        self, optimizer: Any, optimizer_state: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        if sum(v.item() for v in optimizer_state["found_inf_per_device"].values()):
            return None
        return optimizer.step(*args, **kwargs)

    @live
    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """Unscale the gradients unless that was done, and call `optimizer.step(*args, **kwargs)` if
        all of them are finite.

        Returns:
            What the optimizer returns; None for a step that is left out.

        Raises:
            RuntimeError: a second call before `update`, or a closure.
            AssertionError: nothing was scaled, or there are no gradients.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._made("step")
        now = self._per_optimizer_states[id(optimizer)]
        if now["stage"] is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            found = self._step_of_its_own(optimizer, now, args, kwargs)
        else:
            if now["stage"] is OptState.READY:
                self.unscale_(optimizer)
            if not now["found_inf_per_device"]:
                raise AssertionError("No inf checks were recorded for this optimizer.")
            found = self._maybe_opt_step(optimizer, now, *args, **kwargs)
        now["stage"] = OptState.STEPPED
        return found

    def _step_of_its_own(
        self, optimizer: Any, now: dict[str, Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """The step of an optimizer that deals with the scale itself: it is given the scaler, or the
        attributes `grad_scale` and `found_inf`."""
        if "grad_scaler" in inspect.signature(optimizer.step).parameters:
            warnings.warn(
                "GradScaler is going to stop passing itself as a keyword argument to the passed "
                "optimizer. In the near future GradScaler registers `grad_scale: Tensor` and "
                "`found_inf: Tensor` to the passed optimizer and let the optimizer use them "
                "directly.",
                FutureWarning,
                stacklevel=3,
            )
            return optimizer.step(*args, **kwargs, grad_scaler=self)
        if now["stage"] is OptState.READY:
            self._check_inf_per_device(optimizer)
        optimizer.grad_scale = (
            getattr(optimizer, "grad_scale", None)
            if now["stage"] is OptState.UNSCALED
            else self._scale * getattr(optimizer, "grad_scale", 1)
        )
        optimizer.found_inf = sum(now["found_inf_per_device"].values())
        try:
            return optimizer.step(*args, **kwargs)
        finally:
            del optimizer.grad_scale
            del optimizer.found_inf

    @live
    def update(self, new_scale: Any = None) -> None:
        """Move the scale by what this iteration's steps found, or set it.

        Args:
            new_scale: a number or a tensor with one element; None moves it.

        Raises:
            AssertionError: nothing was scaled, or no step was taken.
        """
        if not self._enabled:
            return
        scale = self._made("update")
        if new_scale is not None:
            if isinstance(new_scale, float):
                scale.fill_(new_scale)
            else:
                if (
                    new_scale.device.type != self._device
                    or new_scale.numel() != 1
                    or new_scale.requires_grad
                ):
                    raise AssertionError(
                        "new_scale should be a float or a 1-element torch.cuda.FloatTensor or "
                        "torch.FloatTensor with requires_grad=False."
                    )
                scale.copy_(new_scale.reshape(()))
        else:
            found = [
                f
                for now in self._per_optimizer_states.values()
                for f in now["found_inf_per_device"].values()
            ]
            if not found:
                raise AssertionError("No inf checks were recorded prior to update.")
            update_scale(
                scale,
                self._growth_tracker,
                sum(found[1:], found[0]),
                self._growth_factor,
                self._backoff_factor,
                self._growth_interval,
            )
        self._per_optimizer_states = defaultdict(_fresh)

    def _get_scale_async(self) -> Tensor | None:
        found: Tensor | None = self._scale
        return found

    def get_scale(self) -> float:
        """The scale as a number; 1 where the scaler is switched off."""
        if not self._enabled:
            return 1.0
        return float(self._init_scale if self._scale is None else self._scale.item())

    def get_growth_factor(self) -> float:
        """What the scale is multiplied with to grow."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what the scale is multiplied with to grow."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale is multiplied with after an overflow."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what the scale is multiplied with after an overflow."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """Steps in a row without trouble before the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set the steps in a row without trouble before the scale grows."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        if self._growth_tracker is None:
            return self._init_growth_tracker
        return int(self._growth_tracker.item())

    def is_enabled(self) -> bool:
        """Whether the scaler does anything."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale, its factors and how many steps went well, as numbers; call it after `update`.

        Returns:
            An empty dict where the scaler is switched off.
        """
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._get_growth_tracker(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            RuntimeError: an empty dict, which a scaler that was switched off gives.
        """
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled "
                "instance of GradScaler."
            )
        self._init_scale = state_dict["scale"]
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._init_growth_tracker = state_dict["_growth_tracker"]
        if self._scale is not None:
            self._scale.fill_(self._init_scale)
            self._growth_tracker.fill_(self._init_growth_tracker)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self._enabled:
            if self._per_optimizer_states:
                raise AssertionError(
                    "A GradScaler instance may only be pickled at the beginning of an iteration, "
                    "or at the end after scaler.update()."
                )
            state["_init_scale"] = self.get_scale()
            state["_init_growth_tracker"] = self._get_growth_tracker()
            state["_scale"] = state["_growth_tracker"] = None
        return state

    def _check_inf_per_device(self, optimizer: Any) -> dict[Any, Tensor]:
        """Whether gradients are finite, left as they are; -> device -> 0-d float32."""
        self._made("_check_inf_per_device")
        now = self._per_optimizer_states[id(optimizer)]
        now["found_inf_per_device"] = self._unscale_grads_(optimizer, flambeau.ones(()), True)
        found: dict[Any, Tensor] = now["found_inf_per_device"]
        return found

    def _found_inf_per_device(self, optimizer: Any) -> dict[Any, Tensor]:
        found: dict[Any, Tensor] = self._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
        return found


CLASSES.append(GradScaler)
