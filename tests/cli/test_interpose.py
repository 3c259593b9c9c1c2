"""``flambeau.interpose``: which names torch's modules have, and what is said of the others."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import flambeau
from flambeau import interpose
from flambeau.interpose.standins.version import TorchVersion


@pytest.fixture
def torch() -> Iterator[Any]:
    """``import torch`` while flambeau is in its place."""
    interpose.install()
    try:
        yield importlib.import_module("torch")
    finally:
        interpose.uninstall()


def test_uninstall_undoes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    earlier = ModuleType("torch")
    monkeypatch.setitem(sys.modules, "torch", earlier)
    path, finders = list(sys.path), list(sys.meta_path)
    interpose.install()
    assert interpose.installed()
    interpose.install()  # twice is once
    assert importlib.import_module("torch") is not earlier
    assert repr(flambeau.float32) == "torch.float32"
    assert os.environ["PYTHONPATH"] == os.pathsep.join([interpose.CHILDREN, "somewhere"])
    interpose.uninstall()
    assert not interpose.installed()
    assert sys.modules["torch"] is earlier
    assert (sys.path, sys.meta_path) == (path, finders)
    assert os.environ["PYTHONPATH"] == "somewhere"
    assert repr(flambeau.float32) == "flambeau.float32"
    assert not [name for name in sys.modules if name.startswith("torch.") and name in finders]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("torch", "Tensor nn optim zeros float32 no_grad manual_seed save load device Generator"),
        ("torch.nn", "Linear Module Parameter functional init utils"),
        ("torch.nn.functional", "cross_entropy gelu scaled_dot_product_attention"),
        ("torch.nn.init", "normal_ zeros_"),
        ("torch.nn.parameter", "Parameter"),
        ("torch.nn.modules", "Linear Module"),
        ("torch.nn.modules.linear", "Linear"),
        ("torch.nn.modules.module", "Module"),
        ("torch.nn.modules.loss", "CrossEntropyLoss"),
        ("torch.nn.utils", "clip_grad_norm_"),
        ("torch.nn.utils.clip_grad", "clip_grad_norm_"),
        ("torch.nn.parallel", "DistributedDataParallel"),
        ("torch.nn.attention", "SDPBackend sdpa_kernel"),
        ("torch.optim", "AdamW SGD Optimizer lr_scheduler"),
        ("torch.optim.optimizer", "Optimizer"),
        ("torch.optim.adamw", "AdamW"),
        ("torch.optim.lr_scheduler", "LambdaLR CosineAnnealingLR"),
        ("torch.utils", "data"),
        ("torch.utils.data", "DataLoader Dataset TensorDataset"),
        ("torch.utils.data.dataset", "Dataset"),
        ("torch.utils.data.sampler", "Sampler"),
        ("torch.utils.tensorboard", "SummaryWriter"),
        ("torch.autograd", "Function Variable grad"),
        ("torch.autograd.function", "Function"),
        ("torch.serialization", "save load"),
        ("torch.random", "manual_seed get_rng_state"),
        ("torch.version", "cuda hip __version__"),
        ("torch.cuda", "is_available device_count amp"),
        ("torch.cuda.amp", "autocast GradScaler"),
        ("torch.amp", "autocast GradScaler custom_fwd custom_bwd is_autocast_available"),
        ("torch.amp.grad_scaler", "GradScaler OptState"),
        ("torch.cpu.amp", "autocast GradScaler"),
        ("torch.backends", "cudnn cuda mps mkl"),
        ("torch.backends.cuda", "matmul"),
        ("torch.distributed", "is_available init_process_group ReduceOp TCPStore nn"),
        ("torch.distributed.device_mesh", "DeviceMesh init_device_mesh"),
        ("torch.distributed.distributed_c10d", "ProcessGroup all_gather_object"),
        ("torch.distributed._functional_collectives", "all_reduce wait_tensor"),
        ("torch.distributed.nn.functional", "all_gather"),
        ("torch.multiprocessing", "Process Queue spawn get_context"),
        ("torch.compiler", "disable is_compiling reset set_stance report"),
        ("torch._dynamo", "reset config mark_dynamic explain"),
        ("torch.jit", "script is_scripting"),
        ("torch.accelerator", "is_available current_accelerator"),
        ("torch.types", "Device Number"),
        ("torch.export", "export Dim ShapesCollection draft_export register_dataclass"),
        ("torch.export.dynamic_shapes", "Dim ShapesCollection AdditionalInputs"),
        ("torch.export.exported_program", "ExportedProgram"),
        ("torch.export.graph_signature", "InputKind OutputKind TensorArgument ConstantArgument"),
    ],
)
def test_modules_have_their_names(torch: Any, path: str, names: str) -> None:
    module = importlib.import_module(path)
    assert module.__name__ == path
    assert module.__spec__ is not None
    assert module.__spec__.name == path
    assert sys.modules[path] is module
    for name in names.split():
        assert hasattr(module, name)
        found: dict[str, Any] = {}
        exec(f"from {path} import {name} as it", found)
        assert found["it"] is getattr(module, name)
        assert name in dir(module)


def test_the_same_objects_everywhere(torch: Any) -> None:
    assert torch.nn.Linear is flambeau.nn.Linear
    assert torch.nn.modules.linear.Linear is flambeau.nn.Linear
    assert torch.Tensor is flambeau.Tensor
    assert torch.float32 is flambeau.float32
    assert isinstance(torch.nn.Linear(2, 3)(torch.ones(1, 2)), flambeau.Tensor)
    model = pickle.loads(pickle.dumps(torch.nn.Linear(2, 3)))
    assert isinstance(model, flambeau.nn.Linear)


@pytest.mark.parametrize(
    ("statement", "error", "name"),
    [
        ("torch.no_such_name", AttributeError, "torch.no_such_name"),
        ("torch.nn.NoSuchLayer(3)", AttributeError, "torch.nn.NoSuchLayer"),
        ("torch.nn.functional.no_such", AttributeError, "torch.nn.functional.no_such"),
        ("torch.zeros(2).no_such()", AttributeError, "torch.Tensor.no_such"),
        ("from torch import no_such", ImportError, "torch.no_such"),
        ("from torch.nn import NoSuch", ImportError, "torch.nn.NoSuch"),
        ("import torch.no_such", ModuleNotFoundError, "torch.no_such"),
        ("import torch.nn.no_such", ModuleNotFoundError, "torch.nn.no_such"),
        ("from torch.nn.no_such import x", ModuleNotFoundError, "torch.nn.no_such"),
        (
            "torch.utils.data.graph_settings.apply_random_seed(None)",
            NotImplementedError,
            "torch.utils.data.graph_settings.apply_random_seed",
        ),
    ],
)
def test_what_is_missing_is_named_in_full(
    torch: Any, statement: str, error: type[Exception], name: str
) -> None:
    with pytest.raises(error) as raised:
        exec(statement, {"torch": torch})
    assert type(raised.value) is error
    assert str(raised.value).startswith(f"{name} is not in flambeau yet")


def test_probing_for_names_works(torch: Any) -> None:
    assert not hasattr(torch, "no_such_name")
    assert getattr(torch.nn, "NoSuchLayer", 5) == 5
    assert getattr(torch.zeros(1), "no_such", None) is None
    assert importlib.util.find_spec("torch.no_such") is None
    assert importlib.util.find_spec("torch.nn.no_such") is None
    assert not hasattr(torch, "__no_such__")
    with pytest.raises(ImportError):
        exec("try:\n from torch import no_such\nexcept ImportError:\n raise")


def test_flambeaus_own_modules_do_not_show(torch: Any) -> None:
    for name in ("commands", "interpose", "record", "passes", "runtime"):
        assert not hasattr(torch, name), name
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"torch.{name}")


def test_a_property_that_fails_keeps_its_own_error(torch: Any) -> None:
    class Odd(flambeau.Tensor):
        @property
        def odd(self) -> int:
            raise AttributeError("the reason")

    odd = Odd.__new__(Odd)
    with pytest.raises(AttributeError, match="the reason"):
        _ = odd.odd


def test_switches_can_be_set_and_read(torch: Any) -> None:
    try:
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
        from_import: dict[str, Any] = {}
        exec("from torch.backends import cudnn", from_import)
        assert from_import["cudnn"].benchmark is True
        assert torch.backends.cuda.matmul.allow_tf32 is True
    finally:
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = False


def test_replacing_a_function_replaces_it_for_everybody(torch: Any) -> None:
    original = flambeau.nn.functional.gelu
    replacement = lambda x: x
    try:
        torch.nn.functional.gelu = replacement
        assert torch.nn.functional.gelu is replacement
        assert flambeau.nn.functional.gelu is replacement
    finally:
        torch.nn.functional.gelu = original
    assert flambeau.nn.functional.gelu is original


def test_there_is_no_accelerator(torch: Any) -> None:
    assert torch.cuda.is_available() is False
    assert torch.cuda.device_count() == 0
    assert torch.backends.mps.is_available() is False
    assert torch.accelerator.current_accelerator() is None
    torch.cuda.manual_seed_all(3)
    torch.cuda.empty_cache()
    with pytest.raises(RuntimeError, match="no CUDA device"):
        torch.cuda.get_device_name()


def test_mixed_precision(torch: Any) -> None:
    assert torch.autocast is flambeau.amp.autocast
    x = torch.ones(2, 2)
    with torch.autocast("cpu"):
        assert torch.is_autocast_enabled("cpu")
        assert (x @ x).dtype is torch.bfloat16
    with torch.amp.autocast(device_type="cuda", enabled=False):
        assert (x @ x).dtype is torch.float32
    with pytest.warns(FutureWarning, match="is deprecated"), torch.cpu.amp.autocast():
        assert (x @ x).dtype is torch.bfloat16
    with pytest.warns((UserWarning, FutureWarning), match="not available"):
        torch.cuda.amp.autocast()
    with pytest.warns(FutureWarning, match="is deprecated"):
        scaler = torch.cuda.amp.GradScaler(enabled=False)
    loss = torch.ones(())
    assert scaler.scale(loss) is loss
    assert not scaler.is_enabled()


def test_compile_gives_back_what_it_got(torch: Any) -> None:
    model = torch.nn.Linear(2, 2)
    x = torch.ones(1, 2)
    compiled = torch.compile(model)
    assert torch.equal(compiled(x), model(x))

    @torch.compile(mode="max-autotune")
    def double(x: Any) -> Any:
        return x * 2

    assert double(x).tolist() == [[2.0, 2.0]]


def test_the_old_variable_is_the_tensor(torch: Any) -> None:
    x = torch.ones(2)
    assert torch.autograd.Variable(x) is x
    assert torch.autograd.Variable(x, requires_grad=True).requires_grad
    assert isinstance(x, torch.autograd.Variable)
    assert not isinstance(3, torch.autograd.Variable)


def test_versions_compare() -> None:
    version = TorchVersion("2.11.0+flambeau")
    assert isinstance(version, str)
    assert version == "2.11.0+flambeau"
    assert version == "2.11"
    assert version >= "2.2"  # as a version, not letter by letter
    assert version >= (2, 0)
    assert version < "3"
    assert version > "2.9.1"
    assert version != "2.10"
    assert version.split(".")[:2] == ["2", "11"]
    assert (version == "abc") is False
    with pytest.raises(ValueError, match="not a version"):
        _ = version < "abc"
    assert {version: 1}[version] == 1
