"""Other people's libraries run unmodified on flambeau and print what they print on PyTorch.

Each program of ``programs/`` prints named numbers; it runs with both libraries in processes of its
own. ``FLAMBEAU_TEST_PROGRAMS`` says how many of them: ``some`` (when it is not set), ``all``, or
``none``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.parity.both import near, with_both, words
from tests.programs.packages import installed

FOLDER = Path(__file__).parent / "programs"
CHOICE = os.environ.get("FLAMBEAU_TEST_PROGRAMS", "some")
RTOL = 5e-4
"""Rounding differs, and grows over the steps."""
ATOL = 5e-5

#: Programs with their arguments, and those that `some` leaves out.
SOME = (
    ("small_libraries.py",),
    ("lightning_trainer.py",),
    ("transformers_models.py", "llama", "bert"),
    ("transformers_trainer.py",),
)
OTHERS = (
    ("vision_models.py", "resnet10t", "convnext_atto", "vit_tiny_patch16_224"),
    ("vision_models.py", "mobilenetv3_small_050", "efficientnet_lite0", "regnetx_002"),
    ("vision_models.py", "swin_tiny_patch4_window7_224"),
    ("transformers_models.py", "gpt2", "classifier", "vit", "t5"),
    ("transformers_models.py", "mixtral", "qwen", "gemma", "whisper"),
    ("transformers_generate.py", "llama", "rest"),
    ("transformers_generate.py", "gpt2", "mixtral", "qwen", "gemma"),
)

pytestmark = [pytest.mark.parity, pytest.mark.slow]


def packages(program: str) -> str:
    """The search path with the packages that a program needs."""
    if CHOICE == "none":
        pytest.skip("FLAMBEAU_TEST_PROGRAMS=none")
    found = []
    for which in ("main", "vision") if program.startswith("vision") else ("main",):
        where, reason = installed(which)
        if where is None:
            pytest.skip(reason)
        found.append(str(where))
    return os.pathsep.join(found)


@pytest.mark.parametrize("words_of_call", SOME + OTHERS * (CHOICE == "all"), ids=" ".join)
def test_it_prints_what_it_prints_with_pytorch(
    words_of_call: tuple[str, ...], tmp_path: Path
) -> None:
    where = packages(words_of_call[0])
    call = [str(FOLDER / words_of_call[0]), *words_of_call[1:]]
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    theirs, ours = with_both(tmp_path, *call, packages=where, **quiet)
    expected = words(theirs)
    assert len(expected) >= 5
    assert words(ours) == near(expected, RTOL, ATOL)
