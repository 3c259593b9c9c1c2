"""``flambeau train``: a byte-level GPT learns a text on this machine, with live progress.

The options are settled here (from the command line, from the checkpoint of a resumed run, or from
the defaults); :mod:`flambeau.commands.trainer` runs the training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from flambeau.commands.corpus import CorpusError, load_corpus
from flambeau.commands.trainer import (
    CHECKPOINT,
    CheckpointError,
    Settings,
    Trainer,
    read_checkpoint,
)

_MODEL_OPTIONS = ("context", "layers", "heads", "width", "dtype")
_ERROR = 2
_EXAMPLES = """\
examples:
  flambeau train                                   learn Python from its own standard library
  flambeau train --data notes/ --seconds 120       any file or folder of text, for two minutes
  flambeau train --layers 6 --width 384 --steps 2000 --out runs/big
  flambeau train --resume runs/big                 go on after an interruption, bit for bit
"""


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 2**63, got {value}")
    return value


def build_parser() -> argparse.ArgumentParser:
    """The options. Those of :class:`Settings` have no default here, so that one that was given
    can be told from one that was not."""
    default = Settings()
    parser = argparse.ArgumentParser(
        prog="flambeau train",
        description="Train a byte-level GPT on text and watch it learn.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    text = parser.add_argument_group("the text and the run")
    text.add_argument("--data", metavar="PATH", help="a file or folder (default: Python's stdlib)")
    text.add_argument("--out", metavar="DIR", help="folder of the results (default: runs/gpt-TIME)")
    text.add_argument(
        "--resume",
        metavar="PATH",
        nargs="?",
        const="",
        help="go on from a checkpoint or a run's folder (default: the one of --out)",
    )
    text.add_argument("--steps", type=_positive, help=f"training steps ({default.steps})")
    text.add_argument("--seconds", type=_positive_float, help="stop after this much time")
    text.add_argument("--seed", type=_seed, help=f"of weights and batches ({default.seed})")
    model = parser.add_argument_group("the model")
    model.add_argument("--context", type=_positive, help=f"bytes it sees ({default.context})")
    model.add_argument("--layers", type=_positive, help=f"blocks ({default.layers})")
    model.add_argument("--heads", type=_positive, help=f"attention heads ({default.heads})")
    model.add_argument("--width", type=_positive, help=f"channels ({default.width})")
    model.add_argument("--dropout", type=float, help=f"({default.dropout:g})")
    model.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float64"),
        help="bfloat16: products in it, parameters in float32",
    )
    model.add_argument("--device", help=f"({default.device})")
    learning = parser.add_argument_group("learning")
    learning.add_argument("--batch", type=_positive, help=f"sequences a step ({default.batch})")
    learning.add_argument("--lr", type=_positive_float, help=f"learning rate ({default.lr:g})")
    learning.add_argument("--weight-decay", type=float, help=f"({default.weight_decay:g})")
    learning.add_argument("--clip", type=_positive_float, help=f"norm ({default.clip:g})")
    often = parser.add_argument_group("how often")
    often.add_argument("--eval-steps", type=_positive, help="steps between validations (100)")
    often.add_argument("--save-steps", type=_positive, help="steps between checkpoints (100)")
    often.add_argument("--save-seconds", type=_positive_float, help="or after so long (30)")
    often.add_argument("--sample", type=int, metavar="BYTES", help="length of the sample (400)")
    return parser


def settle(given: dict[str, Any], stored: dict[str, Any] | None) -> Settings:
    """What was given on the command line, else what the checkpoint has, else the defaults.

    Args:
        given: options that the user named.
        stored: the settings in the checkpoint to resume from, if there is one.

    Returns:
        The settings of this run.

    Raises:
        CheckpointError: an option that decides the parameters' shapes or type differs from the
            checkpoint's.
    """
    names = {field.name for field in fields(Settings)}
    chosen = {name: value for name, value in given.items() if name in names}
    if stored is None:
        return Settings(**chosen)
    known = {name: value for name, value in stored.items() if name in names}
    for name in _MODEL_OPTIONS:
        if name in chosen and chosen[name] != known.get(name, chosen[name]):
            raise CheckpointError(
                f"the checkpoint's model has --{name} {known[name]}, not {chosen[name]}: leave "
                f"the option out to resume, or start a new run without --resume"
            )
    return replace(Settings(**known), **chosen)


def _folders(given: dict[str, Any]) -> tuple[Path, Path | None]:
    """The folder of results, and the checkpoint to resume from if any.

    Raises:
        CheckpointError: there is nothing to resume from, or results would be overwritten.
    """
    out = Path(given["out"]).expanduser() if "out" in given else None
    if "resume" not in given:
        out = out or Path("runs") / time.strftime("gpt-%Y%m%d-%H%M%S")
        if (out / CHECKPOINT).exists():
            raise CheckpointError(
                f"{out} holds an earlier run: go on with it by --resume {out}, or name another "
                f"folder with --out"
            )
        return out, None
    source = Path(given["resume"]).expanduser() if given["resume"] else out
    if source is None:
        raise CheckpointError("--resume needs the path of a checkpoint or of a run's folder")
    checkpoint = source / CHECKPOINT if source.is_dir() else source
    if not checkpoint.exists():
        raise CheckpointError(f"there is no checkpoint at {checkpoint}")
    return out or checkpoint.parent, checkpoint


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the options, without the command's name; the process's own when None.

    Returns:
        0 when done, 1 when training failed, 2 for options or a text that cannot be used,
        130 after Ctrl-C.
    """
    parser = build_parser()
    given = vars(parser.parse_args(argv))
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        out, checkpoint = _folders(given)
        stored = read_checkpoint(checkpoint) if checkpoint else None
        settings = settle(given, stored["settings"] if stored else None)
        config = settings.model()
        corpus = load_corpus(settings.data, settings.context)
        out.mkdir(parents=True, exist_ok=True)
        trainer = Trainer(
            settings,
            config,
            corpus,
            out,
            seconds=given.get("seconds"),
            eval_steps=given.get("eval_steps", 100),
            save_steps=given.get("save_steps", 100),
            save_seconds=given.get("save_seconds", 30.0),
            sample_bytes=given.get("sample", 400),
        )
        if stored is not None:
            trainer.restore(stored)
    except (CorpusError, CheckpointError, ValueError) as error:
        errors.print(f"flambeau train: {error}", markup=False)
        return _ERROR
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else error
        errors.print(f"flambeau train: {reason}", markup=False)
        return _ERROR
    return trainer.run()
