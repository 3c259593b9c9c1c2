"""Other people's packages that stand on torch, installed beside the environment of the tests.

They go into a folder of their own, without torch: programs find it through ``PYTHONPATH``, so the
same files run with PyTorch and with flambeau. The folder is kept between runs in the user's cache,
or where ``FLAMBEAU_PROGRAMS_DIR`` says.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs

#: With what they require, none of which is torch.
PLAIN = (
    "einops==0.8.2",
    "psutil==7.2.2",
    "safetensors==0.8.0",
    "tensorboard==2.21.0",
    "transformers==5.23.0",
)
#: These require torch, so they are installed alone.
ON_TORCH = (
    "accelerate==1.15.0",
    "lightning==2.6.6",
    "lightning-utilities==0.15.3",
    "pytorch-lightning==2.6.6",
    "torchmetrics==1.9.0",
)
#: In a folder of their own: with a PyTorch that torchvision was not compiled for, what imports it
#: in passing fails.
VISION = ("timm==1.0.31", "torchvision==0.28.0")
SECONDS = 600


#: Folder -> the options of each call of pip that fills it.
CALLS = {"main": (PLAIN, ("--no-deps", *ON_TORCH)), "vision": (("--no-deps", *VISION),)}


def folder(which: str) -> Path:
    """Where they lie, by their versions and the Python they are for."""
    kept = os.environ.get("FLAMBEAU_PROGRAMS_DIR") or platformdirs.user_cache_dir("flambeau-tests")
    what = "\n".join((sys.version, *(word for call in CALLS[which] for word in call)))
    return Path(kept, f"packages-{hashlib.sha256(what.encode()).hexdigest()[:16]}")


@functools.cache
def installed(which: str) -> tuple[Path | None, str]:
    """The folder "main" or "vision", installed now if need be; else None and what went wrong.

    Processes that ask at the same time wait for the first.
    """
    target = folder(which)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{target}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return target, ""
        part = Path(f"{target}.part")
        shutil.rmtree(part, ignore_errors=True)
        for options in CALLS[which]:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(part)]
            pip += ["--retries", "1", "--disable-pip-version-check", *options]
            try:
                subprocess.run(pip, capture_output=True, text=True, check=True, timeout=SECONDS)
            except (OSError, subprocess.SubprocessError) as error:
                said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
                shutil.rmtree(part, ignore_errors=True)
                return None, f"packages cannot be installed: {said[-1] if said else error}"
        for mine in part.glob("numpy*"):  # the environment has its own
            shutil.rmtree(mine)
        part.rename(target)
        return target, ""
