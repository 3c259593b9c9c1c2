"""``torch.hub``: the folder for downloads, downloads, and repositories on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import flambeau

_folder: str | None = None
HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")


def _get_torch_home() -> str:
    """``$TORCH_HOME``, else ``torch`` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return str(Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser())


def get_dir() -> str:
    """The folder that downloads go to."""
    return _folder or str(Path(_get_torch_home(), "hub"))


def set_dir(d: str | os.PathLike[str]) -> None:
    """Set the folder that downloads go to."""
    global _folder
    _folder = os.path.expanduser(d)


def download_url_to_file(
    url: str, dst: str, hash_prefix: str | None = None, progress: bool = True
) -> None:
    """Download a file; it is in its place only once it is whole and has the right hash.

    Args:
        url: where it is.
        dst: the path to write.
        hash_prefix: what its SHA-256 begins with.
        progress: accepted; nothing is shown.

    Raises:
        RuntimeError: the hash is another.
    """
    target = Path(dst).expanduser()
    digest = hashlib.sha256()
    request = urllib.request.Request(url, headers={"User-Agent": "flambeau"})
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        try:
            with urllib.request.urlopen(request) as response:
                while block := response.read(1 << 17):
                    file.write(block)
                    digest.update(block)
            file.close()
            found = digest.hexdigest()
            if hash_prefix and not found.startswith(hash_prefix):
                raise RuntimeError(
                    f'invalid hash value (expected "{hash_prefix}", got "{found}") for {url}'
                )
            shutil.move(file.name, target)
        finally:
            Path(file.name).unlink(missing_ok=True)


def load_state_dict_from_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = False,
) -> dict[str, Any]:
    """Load what was saved at an address, downloading it unless that was done before.

    Args:
        url: where it is.
        model_dir: the folder to keep it in; ``checkpoints`` below `get_dir()` when None.
        map_location: as in `torch.load`.
        progress: accepted.
        check_hash: the name ends in ``-HASH.ext``, which is to be checked.
        file_name: its name in the folder; that of the address when None.
        weights_only: as in `torch.load`.
    """
    folder = Path(model_dir or Path(get_dir(), "checkpoints"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (file_name or Path(urlparse(url).path).name)
    if not path.exists():
        found = HASH_REGEX.search(path.name) if check_hash else None
        download_url_to_file(url, str(path), found[1] if found else None, progress)
    if zipfile.is_zipfile(path) and not _is_checkpoint(path):
        with zipfile.ZipFile(path) as archive:  # releases of torch before 1.6 zipped checkpoints
            (member,) = archive.namelist()
            path = Path(archive.extract(member, folder))
    return flambeau.load(path, map_location=map_location, weights_only=weights_only)


class tqdm:
    """Where progress would be shown: a pass through what is iterated, without output.

    Args:
        iterable: what to iterate.
        **options: accepted.
    """

    def __init__(self, iterable: Any = (), **options: Any) -> None:
        self.iterable = iterable

    def __iter__(self) -> Any:
        return iter(self.iterable)

    def __enter__(self) -> tqdm:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, n: int = 1) -> None:
        """Nothing is shown."""

    def close(self) -> None:
        """Nothing is shown."""


load_url = load_state_dict_from_url


def _is_checkpoint(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _entries(repo_or_dir: str, source: str) -> Any:
    """The module ``hubconf.py`` of a repository that lies on this machine."""
    if source != "local":
        raise NotImplementedError(
            "torch.hub with source='github' is not in flambeau: clone the repository and pass "
            "its folder with source='local'"
        )
    path = Path(repo_or_dir, "hubconf.py")
    sys.path.insert(0, str(repo_or_dir))
    try:
        spec = importlib.util.spec_from_file_location("hubconf", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(repo_or_dir))


def list(github: str, *args: Any, source: str = "github", **options: Any) -> Any:
    """Names of what a repository offers, as a list."""
    found = vars(_entries(github, source))
    return [name for name, it in found.items() if callable(it) and not name.startswith("_")]


def load(repo_or_dir: str, model: str, *args: Any, source: str = "github", **kwargs: Any) -> Any:
    """Call one of the functions of a repository's ``hubconf.py``.

    Args:
        repo_or_dir: the folder.
        model: the function's name.
        *args: for the function.
        source: ``"local"``; repositories are not downloaded.
        **kwargs: for the function.
    """
    for option in ("trust_repo", "force_reload", "verbose", "skip_validation"):
        kwargs.pop(option, None)
    return getattr(_entries(repo_or_dir, source), model)(*args, **kwargs)
