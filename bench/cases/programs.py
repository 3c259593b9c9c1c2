"""Whole programs, unmodified: what running one again takes in a process where it has run before.

The programs are those of `examples/tutorials`, of `tests/parity/programs` and, where the libraries
they stand on are installed (`tests/programs/packages.py`), of `tests/programs`. A step is a run of
the whole program, its data, its model and everything it prints included; the first run compiles
what the later ones use. The result that is compared is the last number of the last line that
starts with "loss".
"""

import contextlib
import io
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

VARIANTS = (
    "actor_critic",
    "adapters",
    "characters",
    "contrastive",
    "dcgan",
    "diffusion",
    "few_shots",
    "forecasting",
    "gaussian_process",
    "gcn",
    "image_classifier",
    "language_model",
    "mixture_of_experts",
    "neural_ode",
    "normalizing_flow",
    "pinn",
    "policy_optimization",
    "siamese",
    "spectrograms",
    "style_transfer",
    "super_resolution",
    "translation",
    "vae",
    "accumulate_resume",
    "char_rnn",
    "custom_function",
    "encoder_classifier",
    "gradient_penalty",
    "nano_gpt",
    "lightning_trainer",
    "small_libraries",
    "transformers_generate llama",
    "transformers_models llama bert",
    "transformers_trainer",
)
QUICK = ("image_classifier", "nano_gpt")
CONTENDERS = ("flambeau", "torch")

FOLDERS = ("examples/tutorials", "tests/parity/programs", "tests/programs/programs")


def find(name):
    """The file of a program; the packages it needs are put on the path."""
    for folder in FOLDERS:
        path = ROOT / folder / f"{name}.py"
        if path.exists():
            if folder == FOLDERS[-1]:
                from tests.programs.packages import folder as packages

                sys.path.append(str(packages("main")))
            return path
    raise ValueError(f"no program named {name}")


def setup(variant, compile):
    """The step of one variant: the program, from its first line to its last."""
    name, *arguments = variant.split()
    path = find(name)
    sys.path.insert(0, str(path.parent))

    def step():
        printed = io.StringIO()
        kept, sys.argv = sys.argv, [str(path), *arguments]
        try:
            with contextlib.redirect_stdout(printed):
                runpy.run_path(str(path), run_name="__main__")
        finally:
            sys.argv = kept
        losses = [line for line in printed.getvalue().splitlines() if line.startswith("loss")]
        return float(losses[-1].split()[-1]) if losses else None

    return {"step": step}
