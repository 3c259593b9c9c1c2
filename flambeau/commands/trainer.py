"""The training loop behind ``flambeau train``: steps, validation, metrics, checkpoints, resuming.

A run's folder holds ``checkpoint.pt`` (the newest state, replaced atomically), ``metrics.jsonl``
(one line a step), ``loss.svg`` and TensorBoard event files. A checkpoint has all that the next
step depends on, and batches are a function of seed and step, so a run that was killed and resumed
ends with the same bits as one that was not.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

import numpy as np

import flambeau
from flambeau import Tensor, amp, nn, optim
from flambeau.commands.chart import Line, line_chart
from flambeau.commands.corpus import Corpus
from flambeau.commands.gpt import GPT, GPTConfig
from flambeau.commands.progress import Display, Status, duration, megabytes
from flambeau.device import device as Device
from flambeau.device import resolve
from flambeau.tensorboard import SummaryWriter

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None  # type: ignore[assignment]

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"
CHART = "loss.svg"

_FORMAT = 1
_SMOOTHING = 0.95
_EVAL_BATCHES = 4
_SPEED_SECONDS = 10.0
_INTERRUPTED = 130
_TERMINATED = 143
_FAILED = 1


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message says why and what would do."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the course of a run; stored in its checkpoints.

    Args:
        data: path of the text; None for the standard library's source.
        steps: training steps, which the learning-rate schedule is stretched over.
        seed: of the weights, of the batches and of the sample.
        batch: sequences in a step.
        context, layers, heads, width: shape of the model, see :class:`GPTConfig`.
        dropout: see :class:`GPTConfig`.
        lr: highest learning rate, reached after the warm-up.
        weight_decay: of the matrices.
        clip: largest norm of the gradient.
        dtype: of parameters and activations; "bfloat16" keeps the parameters in float32 and
            computes under autocast.
        device: where to compute.
    """

    data: str | None = None
    steps: int = 800
    seed: int = 0
    batch: int = 8
    context: int = 128
    layers: int = 4
    heads: int = 6
    width: int = 192
    dropout: float = 0.0
    lr: float = 2e-3
    weight_decay: float = 0.1
    clip: float = 1.0
    dtype: str = "float32"
    device: str = "cpu"

    def model(self) -> GPTConfig:
        """The part that decides the parameters' shapes."""
        return GPTConfig(
            context=self.context,
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            dropout=self.dropout,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dictionary, as stored in a checkpoint."""
        return asdict(self)


def peak_memory() -> int | None:
    """Largest resident size that this process has had, in bytes; None where it is not known."""
    if resource is None:
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(size if sys.platform == "darwin" else size * 1024)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint that a run has written.

    Raises:
        CheckpointError: it is not one, is damaged, or comes from a newer version.
    """
    try:
        state = flambeau.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    if not isinstance(state, dict) or not {"format", "settings", "model"} <= state.keys():
        raise CheckpointError(f"{path} is not a checkpoint of flambeau train")
    if state["format"] != _FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {state['format']}, this version reads {_FORMAT}"
        )
    return state


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Replace a file in one step: whoever reads it sees the old one or the new one, both whole.

    Args:
        path: the file to replace.
        write: called with the path of the new file, next to the old one.

    Raises:
        OSError: it could not be written; the old file is as it was.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        write(fresh)
        with open(fresh, "rb") as file:
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def warm_up_cosine(step: int, steps: int) -> float:
    """Factor on the learning rate: linear up over the first twentieth, then half a cosine down
    to a tenth.

    Reference: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.
    """
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    done = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return 0.1 + 0.45 * (1.0 + math.cos(math.pi * done))


def _usable(name: str) -> Device:
    """The device of a name.

    Raises:
        ValueError: there is none here, or the name is no device's.
    """
    try:
        return resolve(name)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


class Trainer:
    """One run, from its first or from a restored step to its end.

    Args:
        settings: what decides the course of the run.
        config: the model's shape.
        corpus: the text.
        out: folder of the results, which exists.
        seconds: stop after so long, None for no limit.
        eval_steps: steps between two validations.
        save_steps: steps between two checkpoints.
        save_seconds: a checkpoint is also written when the last one is older than this, and after
            the first step.
        sample_bytes: length of the text that is sampled at the end.
        display: where progress goes; a display of its own when None.

    Raises:
        ValueError: the device is not there.
    """

    def __init__(
        self,
        settings: Settings,
        config: GPTConfig,
        corpus: Corpus,
        out: Path,
        *,
        seconds: float | None = None,
        eval_steps: int = 50,
        save_steps: int = 100,
        save_seconds: float = 30.0,
        sample_bytes: int = 400,
        display: Display | None = None,
    ) -> None:
        self.settings, self.corpus, self.out = settings, corpus, out
        self.seconds, self.eval_steps = seconds, eval_steps
        self.save_steps, self.save_seconds = save_steps, save_seconds
        self.sample_bytes = sample_bytes
        self.display = display or Display(settings.steps)
        flambeau.manual_seed(settings.seed)
        self.device = _usable(settings.device)
        self.mixed = settings.dtype == "bfloat16"
        kept = flambeau.float32 if self.mixed else getattr(flambeau, settings.dtype)
        self.model = GPT(config).to(self.device, kept)
        self.optimizer = self.model.configure_optimizer(settings.lr, settings.weight_decay)
        self.scheduler = optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: warm_up_cosine(step, settings.steps)
        )
        self.step = 0
        self.saved_step: int | None = None
        self.mean_loss = 0.0
        self.mean_weight = 0.0
        self.earlier_seconds = 0.0
        self.losses: list[tuple[float, float]] = []
        self.smoothed: list[tuple[float, float]] = []
        self.validations: list[tuple[float, float]] = []
        self._began: float | None = None
        self._signal: int | None = None
        self._metrics: IO[str] | None = None
        self._board: SummaryWriter | None = None
        self._unwritable: str | None = None

    # ---------------------------------------------------------------- state

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "format": _FORMAT,
            "version": flambeau.__version__,
            "settings": self.settings.to_dict(),
            "corpus": {"name": self.corpus.name, "fingerprint": self.corpus.fingerprint},
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "step": self.step,
            "rng": flambeau.get_rng_state(),
            "mean_loss": self.mean_loss,
            "mean_weight": self.mean_weight,
            "seconds": self.earlier_seconds + self.elapsed(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state that :meth:`state` returned.

        Raises:
            CheckpointError: it belongs to another model.
        """
        schedule = dict(state["scheduler"])
        if state["settings"]["lr"] != self.settings.lr:
            schedule["base_lrs"] = [self.settings.lr] * len(self.optimizer.param_groups)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(schedule)
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"the checkpoint does not fit the model: {error}") from error
        flambeau.set_rng_state(state["rng"])
        self.step = self.saved_step = int(state["step"])
        self.mean_loss, self.mean_weight = state["mean_loss"], state["mean_weight"]
        self.earlier_seconds = state["seconds"]
        if state["corpus"]["fingerprint"] != self.corpus.fingerprint:
            self.corpus.notices.append(
                "the text is not the one that the checkpoint was trained on; going on with this one"
            )
        changed = [
            f"--{name.replace('_', '-')} {value} (was {state['settings'][name]})"
            for name, value in self.settings.to_dict().items()
            if name in state["settings"] and state["settings"][name] != value
        ]
        if changed:
            self.corpus.notices.append(
                f"changed since the checkpoint: {', '.join(changed)}; "
                "the run will differ from one that was never interrupted"
            )

    def save(self) -> bool:
        """Write the checkpoint, the chart and what the metrics have buffered.

        Returns:
            Whether it worked. If not, a line was shown, and the earlier checkpoint is whole.
        """
        try:
            state = self.state()
            write_atomically(self.out / CHECKPOINT, lambda path: flambeau.save(state, path))
            self.saved_step = self.step
            self._write_chart()
            self._flush_metrics()
        except (OSError, RuntimeError) as error:
            self._report_unwritable(error)
            return False
        self._unwritable = None
        return True

    def _report_unwritable(self, error: Exception) -> None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else str(error)
        if self.saved_step is None:
            kept = "there is no earlier checkpoint"
        else:
            kept = f"the checkpoint of step {self.saved_step} in {self.out} is whole"
        line = f"cannot write to {self.out}: {reason}; {kept}"
        if line != self._unwritable:
            self._unwritable = line
            self.display.say(line, style="bold red")

    # ---------------------------------------------------------------- metrics

    def _open_metrics(self) -> None:
        """Open the metrics for appending. What a killed run wrote after its last checkpoint is
        dropped, for these steps are about to be run again."""
        path = self.out / METRICS
        kept: list[str] = []
        if self.step and path.exists():
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError, KeyError):
                    row = json.loads(line)
                    if row["step"] <= self.step:
                        kept.append(line)
                        self._remember(row)
        text = "".join(f"{line}\n" for line in kept)
        write_atomically(path, lambda fresh: fresh.write_text(text))
        self._metrics = path.open("a", buffering=1)
        self._board = SummaryWriter(str(self.out), purge_step=self.step + 1 if self.step else None)

    def _remember(self, row: dict[str, Any]) -> None:
        if "loss" in row:
            self.losses.append((row["step"], row["loss"]))
            self.smoothed.append((row["step"], row["smoothed"]))
        if "validation_loss" in row:
            self.validations.append((row["step"], row["validation_loss"]))

    def _record(self, row: dict[str, Any]) -> None:
        self._remember(row)
        try:
            if self._metrics is not None:
                self._metrics.write(json.dumps(row) + "\n")
            if self._board is not None:
                for name, value in row.items():
                    if name != "step":
                        self._board.add_scalar(name, value, row["step"])
        except OSError as error:
            self._report_unwritable(error)

    def _flush_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.flush()
        if self._board is not None:
            self._board.flush()

    def _close_metrics(self) -> None:
        for file in (self._metrics, self._board):
            if file is not None:
                try:
                    file.close()
                except OSError as error:
                    self._report_unwritable(error)
        self._metrics = self._board = None

    def _write_chart(self) -> None:
        picture = line_chart(
            f"{self.model.parameter_count() / 1e6:.2f} M parameters on {self.corpus.name}",
            "step",
            "loss (nats per byte)",
            [
                Line("training", self.losses, "#f0c9a0", 1.0),
                Line("smoothed", self.smoothed, "#d95f02", 2.0),
                Line("validation", self.validations, "#1b6fa8", 1.5, dots=True),
            ],
        )
        write_atomically(self.out / CHART, lambda path: path.write_text(picture))

    # ---------------------------------------------------------------- the loop

    def elapsed(self) -> float:
        """Seconds since this process began to train."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def _tensors(self, batch: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
        tokens, targets = (flambeau.from_numpy(part).to(self.device) for part in batch)
        return tokens, targets

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The model's loss, computed in the run's dtype."""
        with amp.autocast(self.device.type, flambeau.bfloat16, enabled=self.mixed):
            return self.model.loss(tokens, targets)

    def train_step(self) -> tuple[float, float]:
        """One step of gradient descent.

        Returns:
            The loss before the step, and the norm of its gradient before clipping.
        """
        settings = self.settings
        self.model.train()
        tokens, targets = self._tensors(
            self.corpus.batch(self.step, settings.batch, settings.context, settings.seed)
        )
        loss = self.loss(tokens, targets)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item(), norm.item()

    def validate(self) -> float:
        """Mean loss over fixed sequences of the held-out text."""
        self.model.eval()
        total = 0.0
        batches = self.corpus.validation_batches(
            _EVAL_BATCHES, self.settings.batch, self.settings.context
        )
        with flambeau.no_grad():
            for batch in batches:
                total += self.loss(*self._tensors(batch)).item()
        return total / _EVAL_BATCHES

    def _smooth(self, loss: float) -> float:
        """Exponential mean, corrected for its start as in Adam."""
        self.mean_loss = _SMOOTHING * self.mean_loss + (1 - _SMOOTHING) * loss
        self.mean_weight = _SMOOTHING * self.mean_weight + (1 - _SMOOTHING)
        return self.mean_loss / self.mean_weight

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and a request to terminate end the run after the step at hand; a second Ctrl-C
        ends it at once."""

        def stop(number: int, frame: FrameType | None) -> None:
            if self._signal is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._signal = number

        try:
            before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread, which is where signals arrive
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self) -> int:
        """Train to the end, or until a signal, the time limit or an error.

        Returns:
            The process's exit code.
        """
        try:
            self._open_metrics()
        except OSError as error:
            self._report_unwritable(error)
            return _FAILED
        self._introduce()
        code = 0
        with self._signals():
            try:
                with self.display:
                    code = self._loop()
            except KeyboardInterrupt:
                self._signal = signal.SIGINT
            saved = True
            if code == 0 and self.saved_step != self.step:
                saved = self.save()
            if code == 0 and self._signal is None and self.sample_bytes > 0:
                self._sample()
        self._close_metrics()
        self._summarise()
        if self._signal is not None:
            return _INTERRUPTED if self._signal == signal.SIGINT else _TERMINATED
        return code if saved else _FAILED

    def _loop(self) -> int:
        settings = self.settings
        self._began = time.monotonic()
        # A new run saves after its first step: from then on it can be resumed, and a folder that
        # cannot be written to is known at once.
        saved_at = -math.inf if self.saved_step is None else self._began
        recent: deque[tuple[float, int]] = deque()
        while self.step < settings.steps and self._signal is None and not self._out_of_time():
            rate = self.scheduler.get_last_lr()[0]
            loss, norm = self.train_step()
            now = time.monotonic()
            recent.append((now, self.step))
            while now - recent[0][0] > _SPEED_SECONDS and len(recent) > 2:
                recent.popleft()
            speed = self._speed(recent)
            smoothed = self._smooth(loss)
            row = {"step": self.step, "loss": loss, "smoothed": smoothed, "lr": rate}
            self._record(row | {"gradient_norm": norm, "tokens_per_second": round(speed, 1)})
            last = self.step == settings.steps
            status = Status(
                self.step, loss, smoothed, speed, self._seconds_left(speed), peak_memory()
            )
            self.display.update(status, last)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.display.say(self._diverged(loss, norm), style="bold red")
                return _FAILED
            if self.step % self.eval_steps == 0 or last or self._out_of_time():
                self._validate_and_record()
                pause = time.monotonic() - now
                recent = deque((at + pause, step) for at, step in recent)
            old = time.monotonic() - saved_at > self.save_seconds
            if self.step % self.save_steps == 0 or old or last:
                self.save()
                saved_at = time.monotonic()
        return 0

    def _validate_and_record(self) -> None:
        loss = self.validate()
        self._record({"step": self.step, "validation_loss": loss})
        self.display.say(f"step {self.step:>5}  validation loss {loss:.4f}", style="cyan")

    def _out_of_time(self) -> bool:
        return self.seconds is not None and self.elapsed() >= self.seconds

    def _speed(self, recent: deque[tuple[float, int]]) -> float:
        (first_at, first), (last_at, last) = recent[0], recent[-1]
        tokens = (last - first) * self.settings.batch * self.settings.context
        return tokens / (last_at - first_at) if last > first and last_at > first_at else 0.0

    def _seconds_left(self, speed: float) -> float | None:
        if not speed:
            return None
        left = self.settings.steps - self.step
        seconds = left * self.settings.batch * self.settings.context / speed
        return seconds if self.seconds is None else min(seconds, self.seconds - self.elapsed())

    def _diverged(self, loss: float, norm: float) -> str:
        if self.saved_step is None:
            kept = "no checkpoint had been written"
        else:
            kept = f"the checkpoint of step {self.saved_step} is kept"
        return (
            f"the loss became {loss} and its gradient's norm {norm} at step {self.step}; {kept}. "
            "Try a smaller --lr."
        )

    # ---------------------------------------------------------------- words

    def _introduce(self) -> None:
        say, settings, corpus = self.display.say, self.settings, self.corpus
        read = len(corpus.train) + len(corpus.validation)
        files = f"{corpus.files:,} file{'s' if corpus.files != 1 else ''}"
        say(f"text    {corpus.name}, {files}, {megabytes(read)}", style="bold")
        for notice in corpus.notices[:8]:
            say(f"        {notice}", style="yellow")
        if len(corpus.notices) > 8:
            say(f"        and {len(corpus.notices) - 8:,} more like these", style="yellow")
        say(
            f"model   {self.model.parameter_count():,} parameters: {settings.layers} layers, "
            f"width {settings.width}, {settings.heads} heads, context {settings.context}, "
            f"{settings.dtype} on {settings.device}, {flambeau.get_num_threads()} threads"
        )
        tokens = settings.batch * settings.context
        say(f"run     {settings.steps} steps of {tokens:,} tokens, results in {self.out}")
        if self.step:
            say(f"        resumed after step {self.step}", style="green")

    def _sample(self) -> None:
        """Let the model continue a line of the held-out text, and show it."""
        text = self.corpus.validation[: 4 * self.settings.context].tobytes()
        start = text.find(b"\n") + 1
        prompt = text[start : text.find(b"\n", start) + 1] if start else text[:32]
        prompt = prompt.strip(b"\n\0")[:64] or b"\n"
        generator = flambeau.Generator(device=self.device).manual_seed(self.settings.seed)
        result = self.model.generate(prompt, self.sample_bytes, generator=generator)
        shown = result.decode("utf-8", errors="replace").replace("\0", "\n")
        self.display.say(f"\nthe model goes on after {prompt.decode('utf-8', 'replace')!r}:")
        self.display.say(_printable(shown), style="magenta")
        with contextlib.suppress(OSError):
            (self.out / "sample.txt").write_text(shown, encoding="utf-8")

    def _summarise(self) -> None:
        say = self.display.say
        state = "finished"
        if self._signal is not None:
            state = "interrupted"
        elif self.step < self.settings.steps:
            state = "stopped"
        first = f"loss {np.mean([y for _, y in self.losses[:5]]):.4f}" if self.losses else "no step"
        last = f" to {self.smoothed[-1][1]:.4f}" if self.smoothed else ""
        say()
        say(
            f"{state} at step {self.step} of {self.settings.steps} after "
            f"{duration(self.elapsed())}: {first}{last}, peak memory {megabytes(peak_memory())}",
            style="bold green" if state == "finished" else "bold yellow",
        )
        if self.saved_step is not None:
            say(f"checkpoint of step {self.saved_step}, metrics and loss curve: {self.out}")
        if self.saved_step is not None and self.step < self.settings.steps:
            say(f"go on with: flambeau train --resume {self.out}")


def _printable(text: str) -> str:
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
