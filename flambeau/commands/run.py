"""``flambeau run SCRIPT``: runs an unmodified PyTorch program with flambeau in torch's place.

The program sees what it would see under ``python SCRIPT``: ``sys.argv``, ``sys.path[0]``,
``__main__`` with its ``__file__`` and ``__spec__``, exit codes, and tracebacks that begin in it.
"""

from __future__ import annotations

import gc
import importlib.machinery
import importlib.util
import io
import os
import signal
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import NoReturn

from flambeau.interpose import install

_ERROR = 2
_HELP = """\
usage: flambeau run [--help] [--profile FOLDER] SCRIPT [ARGS ...]
       flambeau run [--profile FOLDER] -m MODULE [ARGS ...]
       flambeau run [--profile FOLDER] -c CODE [ARGS ...]

Run a PyTorch program on flambeau: `import torch` and all below it is answered by flambeau, in the
program and in the processes it starts. The program's file stays as it is. What is not there yet
raises an error that names it.

  --profile FOLDER   record where time and memory go; the folder gets trace.json (for
                     https://ui.perfetto.dev), roofline.html, memory.html and tables.txt

examples:
  flambeau run train.py --batch-size 32
  flambeau run -m mypackage.train
  flambeau run -c "import torch; print(torch.arange(3))"
"""


class _CannotRun(Exception):
    """The program cannot be started; the message says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: what followed ``flambeau run``; the process's own when None.

    Returns:
        The program's exit code, or 2 when it cannot be started.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_HELP, end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else _ERROR
    try:
        words, folder = _profile_folder(words)
        install()
        code, module, arguments = _prepare(words)
    except _CannotRun as error:
        print(f"flambeau run: {error}", file=sys.stderr)
        return _ERROR
    except SyntaxError as error:
        _report(error)
        return 1
    sys.argv[:] = arguments
    sys.modules["__main__"] = module
    gc.freeze()  # what is here stays: the collector of cycles need not walk the library
    if folder is None:
        return _execute(code, module)
    return _profiled(Path(folder), code, module)


def _profile_folder(words: list[str]) -> tuple[list[str], str | None]:
    """The words behind the option ``--profile``, and what it says."""
    option, _, folder = words[0].partition("=")
    if option != "--profile":
        return words, None
    rest = words[1:]
    if not folder:
        if not rest:
            raise _CannotRun("argument expected for the --profile option")
        folder, *rest = rest
    if not rest:
        raise _CannotRun("no program to profile; see `flambeau run --help`")
    return rest, folder


def _profiled(folder: Path, code: CodeType, module: ModuleType) -> int:
    """Run the program in a profile, and write what was found however the program ends."""
    profiler = importlib.import_module("flambeau.profiler")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"flambeau run: cannot write to {folder}: {error}", file=sys.stderr)
        return _ERROR
    folder = folder.resolve()  # the program may change the working directory
    profile = profiler.profile(record_shapes=True, profile_memory=True, with_flops=True)
    profile.start()
    try:
        return _execute(code, module)
    finally:
        profile.stop()
        profile.export_chrome_trace(folder / "trace.json")
        profile.export_roofline(folder / "roofline.html")
        profile.export_memory_timeline(folder / "memory.html")
        events = profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=60)
        parts = (profile.summary(), profile.kernels().table(), events)
        (folder / "tables.txt").write_text("\n".join(parts), encoding="utf-8")
        print(f"{parts[0]}Profile written to {folder}", file=sys.stderr)


def _prepare(words: list[str]) -> tuple[CodeType, ModuleType, list[str]]:
    """The program's code, its module ``__main__``, and its ``sys.argv``."""
    module = ModuleType("__main__")
    if sys.version_info < (3, 14):  # from then on they are made when they are asked for
        module.__annotations__ = {}
    if words[0] in ("-m", "-c"):
        if len(words) < 2:
            raise _CannotRun(f"argument expected for the {words[0]} option")
        _set_first_path("" if words[0] == "-c" else os.getcwd())
        if words[0] == "-c":
            return compile(words[1], "<string>", "exec"), module, ["-c", *words[2:]]
        code, path = _find_module(words[1], module)
        return code, module, [path, *words[2:]]
    if words[0].startswith("-"):
        raise _CannotRun(f"unknown option {words[0]}; see `flambeau run --help`")
    script = Path(words[0])
    if script.is_dir() or zipfile.is_zipfile(script):
        _set_first_path(str(script))
        code, _ = _find_module("__main__", module)
        return code, module, words
    try:
        with io.open_code(str(script.resolve())) as file:
            source = file.read()
    except OSError as error:
        raise _CannotRun(f"can't open file {words[0]!r}: {error}") from error
    _set_first_path(str(script.resolve().parent))
    # as python does since 3.9: absolute in __file__, as written in sys.argv
    path = os.path.join(os.getcwd(), words[0])
    module.__file__ = path
    module.__dict__["__cached__"] = None
    module.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    return compile(source, path, "exec", dont_inherit=True), module, words


def _set_first_path(entry: str) -> None:
    """Put the program's folder where ours is, unless python was told to have none there."""
    if not sys.flags.safe_path:
        # install() has put one entry in front of what was first
        sys.path[:2] = [entry, sys.path[0]]


def _find_module(name: str, module: ModuleType) -> tuple[CodeType, str]:
    try:
        spec = importlib.util.find_spec(name) if name != "__main__" else _main_spec()
        if spec is not None and spec.submodule_search_locations is not None:
            name = f"{name}.__main__"
            spec = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise _CannotRun(f"error while finding module {name!r}: {error}") from error
    get_code = getattr(spec.loader, "get_code", None) if spec is not None else None
    code = get_code(spec.name) if spec is not None and get_code is not None else None
    if spec is None or code is None:
        raise _CannotRun(f"no module named {name!r}")
    module.__spec__ = spec
    module.__loader__ = spec.loader
    module.__package__ = spec.parent
    module.__file__ = spec.origin
    module.__dict__["__cached__"] = spec.cached
    return code, spec.origin or name


def _main_spec() -> importlib.machinery.ModuleSpec | None:
    return importlib.machinery.PathFinder.find_spec("__main__", sys.path[:1])


def _execute(code: CodeType, module: ModuleType) -> int:
    """Run the program and end as python ends."""
    try:
        exec(code, module.__dict__)
    except SystemExit as exit:
        return _exit_code(exit)
    except KeyboardInterrupt as error:
        _report(error)
        _die_of_interrupt()
    except BaseException as error:
        _report(error)
        return 1
    return 0


def _exit_code(exit: SystemExit) -> int:
    if exit.code is None:
        return 0
    if isinstance(exit.code, int):
        return exit.code
    print(exit.code, file=sys.stderr)
    return 1


def _report(error: BaseException) -> None:
    """Show the traceback from the program's first line on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    sys.stdout.flush()
    sys.excepthook(type(error), error.with_traceback(trace), trace)


def _die_of_interrupt() -> NoReturn:
    """End by SIGINT itself, as python does, so that a shell's loop ends too."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    raise SystemExit(130)
