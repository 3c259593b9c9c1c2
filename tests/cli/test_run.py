"""``flambeau run``: a program sees what python would show it, with flambeau in torch's place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from tests.cli.program import SECONDS, environment, start
from tests.cli.program import flambeau as run_flambeau

VERSION = "2.11.0+flambeau"


def write(folder: Path, name: str, code: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(code))
    return path


def python(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


SURROUNDINGS = """\
    import json, sys
    spec = __spec__ and __spec__.name
    print(json.dumps({
        "argv": sys.argv, "name": __name__, "file": __file__, "path": sys.path[0], "spec": spec,
        "package": __package__, "main": sys.modules["__main__"].__dict__ is globals(),
        "loader": type(__loader__).__name__, "cached": __cached__ is None, "doc": __doc__,
        "globals": sorted(n for n in globals() if n not in ("json", "sys", "spec")),
    }))
"""


@pytest.mark.parametrize("script", ["program.py", "folder/program.py", "./folder/../program.py"])
def test_a_script_sees_what_python_would_show_it(script: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path, script, SURROUNDINGS)
    ours = run_flambeau("run", script, "--flag", "-x", "a b", cwd=tmp_path)
    assert ours.returncode == 0, ours.stderr
    theirs = python(script, "--flag", "-x", "a b", cwd=tmp_path)
    assert json.loads(ours.stdout) == json.loads(theirs.stdout)


@pytest.mark.parametrize("module", ["package", "package.tool"])
def test_a_module_sees_what_python_would_show_it(module: str, tmp_path: Path) -> None:
    write(tmp_path, "package/__init__.py", "")
    write(tmp_path, "package/__main__.py", SURROUNDINGS)
    write(tmp_path, "package/tool.py", SURROUNDINGS)
    ours = run_flambeau("run", "-m", module, "--flag", cwd=tmp_path)
    assert ours.returncode == 0, ours.stderr
    theirs = python("-m", module, "--flag", cwd=tmp_path)
    a, b = json.loads(ours.stdout), json.loads(theirs.stdout)
    assert a.pop("cached") in (True, False)
    b.pop("cached")
    assert a == b


def test_folders_and_archives(tmp_path: Path) -> None:
    write(tmp_path, "folder/__main__.py", "import part; print(part.x, __name__)")
    write(tmp_path, "folder/part.py", "x = 7")
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.write(tmp_path / "folder" / "__main__.py", "__main__.py")
        archive.write(tmp_path / "folder" / "part.py", "part.py")
    for name in ("folder", "program.zip"):
        ended = run_flambeau("run", name, cwd=tmp_path)
        assert ended.stdout == "7 __main__\n", ended.stderr


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; sys.exit(7)", 7),
        ("import sys; sys.exit()", 0),
        ("raise SystemExit('no good')", 1),
        ("1 / 0", 1),
        ("def broken(:", 1),
        ("print('fine')", 0),
    ],
)
def test_exit_codes_and_tracebacks_are_pythons(code: str, expected: int, tmp_path: Path) -> None:
    write(tmp_path, "program.py", code)
    ours = run_flambeau("run", "program.py", cwd=tmp_path)
    theirs = python("program.py", cwd=tmp_path)
    assert ours.returncode == theirs.returncode == expected
    assert ours.stdout == theirs.stdout
    assert ours.stderr == theirs.stderr


def test_an_interrupt_kills_as_it_kills_python(tmp_path: Path) -> None:
    write(tmp_path, "program.py", "import time\nprint('on', flush=True)\ntime.sleep(60)")
    process = start("run", "program.py", cwd=tmp_path)
    assert process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "flambeau" not in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.py"], "can't open file 'missing.py'"),
        (["-m", "no_such_module"], "no module named 'no_such_module'"),
        (["-m"], "argument expected for the -m option"),
        (["--fast", "x.py"], "unknown option --fast"),
    ],
)
def test_what_cannot_start_says_why(words: list[str], message: str, tmp_path: Path) -> None:
    ended = run_flambeau("run", *words, cwd=tmp_path)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_torch_is_found_the_ways_libraries_look_for_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        "program.py",
        """\
        import importlib.metadata, importlib.util, sys
        assert "torch" not in sys.modules
        assert importlib.util.find_spec("torch") is not None
        print(importlib.metadata.version("torch"))
        print("torch" in importlib.metadata.packages_distributions()["torch"])
        import torch
        assert torch.__spec__.name == "torch"
        assert importlib.util.find_spec("torch") is torch.__spec__
        assert importlib.util.find_spec("torch.nn.functional") is not None
        assert importlib.util.find_spec("torch.no_such_thing") is None
        print(torch.__version__, torch.version.__version__, torch.version.cuda)
        import flambeau
        print(torch.Tensor is flambeau.Tensor)
        """,
    )
    ended = run_flambeau("run", "program.py", cwd=tmp_path)
    assert ended.stdout.splitlines() == [
        VERSION,
        "True",
        f"{VERSION} {VERSION} None",
        "True",
    ], ended.stderr


def test_reprs_are_torchs(tmp_path: Path) -> None:
    code = """\
        import torch
        print(torch.float32, torch.tensor([1, 2]), torch.device("cpu"), torch.zeros(2).dtype)
        print(torch.ones(1, dtype=torch.float64), torch.Size([2]))
        """
    write(tmp_path, "program.py", code)
    ended = run_flambeau("run", "program.py", cwd=tmp_path)
    assert ended.stdout.splitlines() == [
        "torch.float32 tensor([1, 2]) cpu torch.float32",
        "tensor([1.], dtype=torch.float64) torch.Size([2])",
    ], ended.stderr


CHILDREN = """\
    import multiprocessing, os, subprocess, sys
    import torch

    def report(queue):
        import importlib.metadata
        import torch.nn
        words = [torch.__version__, importlib.metadata.version("torch"), torch.nn.__name__]
        queue.put([*words, int(torch.arange(4).sum())])

    if __name__ == "__main__":
        method = sys.argv[1]
        if method == "subprocess":
            code = "import torch.nn as nn, torch; print(torch.__version__, nn.__name__)"
            ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            print(ended.stdout, ended.stderr)
        else:
            context = multiprocessing.get_context(method)
            queue = context.Queue()
            process = context.Process(target=report, args=(queue,))
            process.start()
            print(*queue.get(timeout=200))
            process.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_see_it_too(method: str, tmp_path: Path) -> None:
    write(tmp_path, "program.py", CHILDREN)
    ended = run_flambeau("run", "program.py", method, cwd=tmp_path)
    assert ended.stdout.split() == [VERSION, VERSION, "torch.nn", "6"], ended.stderr


def test_programs_started_by_the_program_see_it_too(tmp_path: Path) -> None:
    write(tmp_path, "program.py", CHILDREN)
    ended = run_flambeau("run", "program.py", "subprocess", cwd=tmp_path)
    assert ended.stdout.split() == [VERSION, "torch.nn"], ended.stderr


def test_another_environments_programs_do_not(tmp_path: Path) -> None:
    """They inherit the path; a torch of their own must win there."""
    own = write(tmp_path, "own/torch/__init__.py", "__version__ = 'their own'")
    code = """\
        import os, subprocess, sys
        os.environ["FLAMBEAU_INTERPOSED"] = "/another/environment"
        os.environ["PYTHONPATH"] += os.pathsep + sys.argv[1]
        ended = subprocess.run([sys.executable, "-c", "import torch; print(torch.__version__)"],
                               capture_output=True, text=True)
        print(ended.stdout, ended.stderr)
        """
    write(tmp_path, "program.py", code)
    ended = run_flambeau("run", "program.py", str(own.parents[1]), cwd=tmp_path)
    assert ended.stdout.strip() == "their own", ended.stderr


def test_it_runs_from_a_checkout_without_a_path(tmp_path: Path) -> None:
    """`python -m flambeau run` in the checkout: the program's folder replaces the current one."""
    script = write(tmp_path, "program.py", CHILDREN)
    root = Path(__file__).resolve().parents[2]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = run_flambeau("run", str(script), "spawn", cwd=root, env=env)
    assert ended.stdout.split()[0] == VERSION, ended.stderr


def test_a_profile_is_written_however_the_program_ends(tmp_path: Path) -> None:
    code = """\
        import sys
        from torch.autograd.profiler import record_function
        from torch.profiler import profile, schedule
        import torch

        with record_function("my part"):
            y = torch.rand(40, 40) @ torch.rand(40, 40)
        print(y.shape, y.sum().item() > 0)
        sys.exit(int(sys.argv[1]))
    """
    write(tmp_path, "program.py", code)
    for option in (["--profile", "found"], ["--profile=found"]):
        ran = run_flambeau("run", *option, "program.py", "5", cwd=tmp_path)
        assert ran.returncode == 5, ran.stderr
        assert ran.stdout == "torch.Size([40, 40]) True\n"
        assert f"Profile written to {tmp_path / 'found'}" in ran.stderr
        names = sorted(p.name for p in (tmp_path / "found").iterdir())
        assert names == ["memory.html", "roofline.html", "tables.txt", "trace.json"]
        trace = json.loads((tmp_path / "found" / "trace.json").read_text())
        assert {"my part", "kernel::matmul"} <= {e["name"] for e in trace["traceEvents"]}
        assert "matmul" in (tmp_path / "found" / "tables.txt").read_text()
    for words in (["--profile"], ["--profile", "found"]):
        assert run_flambeau("run", *words, cwd=tmp_path).returncode == 2
