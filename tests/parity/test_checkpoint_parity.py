"""Checkpoints go both ways: what torch saves loads here, what is saved here torch loads."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import serialization

torch = pytest.importorskip("torch")

DTYPES = [
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"),
    "bool",
]


def bits(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor's storage as bytes, whichever library it is of."""
    storage = tensor.detach().untyped_storage()
    if isinstance(tensor, torch.Tensor):
        return np.array(torch.empty(0, dtype=torch.uint8).set_(storage).numpy())
    return np.array(storage.numpy())


def assert_same(ours: Any, theirs: Any) -> None:
    """The same tree, with the same tensors down to strides and the bytes of the storages."""
    if isinstance(theirs, torch.Tensor):
        assert isinstance(ours, flambeau.Tensor)
        assert str(ours.dtype).rpartition(".")[2] == str(theirs.dtype).rpartition(".")[2]
        assert tuple(ours.shape) == tuple(theirs.shape)
        assert tuple(ours.stride()) == tuple(theirs.stride())
        assert ours.storage_offset() == theirs.storage_offset()
        assert ours.requires_grad == theirs.requires_grad
        is_parameter = isinstance(theirs, torch.nn.Parameter)
        assert isinstance(ours, flambeau.nn.Parameter) == is_parameter
        assert np.array_equal(bits(ours), bits(theirs))
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
        assert getattr(ours, "__dict__", None) == getattr(theirs, "__dict__", None)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
    else:
        assert ours == theirs
        assert type(ours) is type(theirs)


def values(library: Any) -> dict[str, Any]:
    """The same values of both libraries."""
    base = library.arange(24.0).reshape(4, 6)
    found: dict[str, Any] = {
        name: library.arange(8).to(getattr(library, name)).reshape(2, 4) for name in DTYPES
    }
    found["views"] = [base, base.t(), base[1:3, ::2], base[2, 3], base[:0], base[:1].expand(3, 6)]
    found["empty"] = library.empty(0, 3)
    found["scalar"] = library.tensor(2.5)
    found["grad"] = library.ones(2, requires_grad=True)
    found["parameter"] = library.nn.Parameter(library.ones(3))
    found["frozen"] = library.nn.Parameter(library.ones(3), requires_grad=False)
    found["plain"] = [1, -1, 1 << 80, 0.1, None, True, "é", b"\x00\xff", bytearray(b"ab"), 1j]
    found["nested"] = (OrderedDict(a=(1, 2)), {3: {4, 5}}, [])
    return found


def trained(library: Any, name: str) -> Any:
    """A module's and an optimizer's state after two steps on fixed values."""
    model = library.nn.Sequential(
        OrderedDict(first=library.nn.Linear(3, 4), norm=library.nn.LayerNorm(4))
    )
    with library.no_grad():
        for i, parameter in enumerate(model.parameters()):
            count = parameter.numel()
            parameter.copy_(library.arange(float(count)).reshape(parameter.shape) / (count + i))
    options = {"SGD": {"momentum": 0.5}}.get(name, {})
    optimizer = getattr(library.optim, name)(model.parameters(), lr=0.125, **options)
    for _ in range(2):
        optimizer.zero_grad()
        (model(library.ones(2, 3)) * library.arange(4.0)).sum().backward()
        optimizer.step()
    return model, optimizer


def test_what_torch_saves(tmp_path: Path) -> None:
    torch.save(values(torch), tmp_path / "a.pt")
    for options in ({}, {"mmap": True}, {"weights_only": False}, {"map_location": "cpu"}):
        assert_same(flambeau.load(tmp_path / "a.pt", **options), values(torch))


def test_what_we_save(tmp_path: Path) -> None:
    flambeau.save(values(flambeau), tmp_path / "a.pt")
    for options in ({}, {"mmap": True}, {"weights_only": False}):
        found = torch.load(tmp_path / "a.pt", **options)
        assert_same(values(flambeau), found)


def test_the_files_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    """All but the fingerprint, which hashes the names in another way."""
    (tmp_path / "torch").mkdir()
    torch.save(values(torch), tmp_path / "torch" / "a.b.pt")
    flambeau.save(values(flambeau), tmp_path / "a.b.pt")
    theirs = (tmp_path / "torch" / "a.b.pt").read_bytes()
    ours = (tmp_path / "a.b.pt").read_bytes()
    with zipfile.ZipFile(io.BytesIO(theirs)) as a, zipfile.ZipFile(io.BytesIO(ours)) as b:
        assert a.namelist() == b.namelist()
        for x, y in zip(a.infolist(), b.infolist(), strict=True):
            assert x.header_offset == y.header_offset
            assert x.flag_bits == y.flag_bits
            if not x.filename.endswith("serialization_id"):
                assert a.read(x) == b.read(y)
    assert len(ours) == len(theirs)
    start = theirs.index(b"serialization_id")
    assert ours[:start] == theirs[:start]


def test_torch_finds_records_by_computing_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_SERIALIZATION_DEBUG", "1")  # compare computed with true offsets
    flambeau.save(values(flambeau), tmp_path / "a.pt")
    assert_same(values(flambeau), torch.load(tmp_path / "a.pt"))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols(protocol: int, tmp_path: Path) -> None:
    torch.save(values(torch), tmp_path / "theirs.pt", pickle_protocol=protocol)
    assert_same(flambeau.load(tmp_path / "theirs.pt"), values(torch))
    flambeau.save(values(flambeau), tmp_path / "ours.pt", pickle_protocol=protocol)
    # torch's restricted unpickler knows protocol 2 only
    assert_same(values(flambeau), torch.load(tmp_path / "ours.pt", weights_only=False))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_training_states(name: str, tmp_path: Path) -> None:
    """A run begun with one library goes on with the other."""
    model, optimizer = trained(torch, name)
    torch.save({"m": model.state_dict(), "o": optimizer.state_dict()}, tmp_path / "a.pt")
    found = flambeau.load(tmp_path / "a.pt")
    assert_same(found, {"m": model.state_dict(), "o": optimizer.state_dict()})
    ours, our_optimizer = trained(flambeau, name)
    ours.load_state_dict(found["m"])
    our_optimizer.load_state_dict(found["o"])
    flambeau.save({"m": ours.state_dict(), "o": our_optimizer.state_dict()}, tmp_path / "b.pt")
    back = torch.load(tmp_path / "b.pt", weights_only=True)
    model.load_state_dict(back["m"])
    optimizer.load_state_dict(back["o"])
    for key, value in model.state_dict().items():
        assert np.array_equal(bits(found["m"][key]), bits(value))


def test_the_format_before_torch_1_6(tmp_path: Path) -> None:
    for name, value in (("a", values(torch)), ("b", torch.ones(2)), ("c", [1, {}])):
        torch.save(value, tmp_path / name, _use_new_zipfile_serialization=False)
        assert_same(flambeau.load(tmp_path / name), value)
    with pytest.raises(RuntimeError, match="mmap can only be used with files saved with"):
        flambeau.load(tmp_path / "a", mmap=True)
    data = (tmp_path / "a").read_bytes()
    for length in range(1, len(data), 211):
        with pytest.raises((pickle.UnpicklingError, RuntimeError)):
            flambeau.load(io.BytesIO(data[:length]))
    for bad in (data.replace(b"FloatStorage", b"system\nposix"), b"\x80\x02cos\nsystem\n" + data):
        with pytest.raises(pickle.UnpicklingError):
            flambeau.load(io.BytesIO(bad))


def test_dtypes_that_only_torch_has(tmp_path: Path) -> None:
    for name in ("complex64", "uint16", "float8_e4m3fn"):
        if not hasattr(flambeau, name):
            torch.save({"a": torch.ones(2).to(getattr(torch, name))}, tmp_path / name)
            with pytest.raises(pickle.UnpicklingError, match=name):
                flambeau.load(tmp_path / name)


def test_the_same_is_refused() -> None:
    """A whole module, a NumPy scalar: torch's safe loader refuses them, and so do we."""
    for value in (torch.nn.Linear(2, 2), np.float64(1.0)):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        messages = []
        for library in (torch, flambeau):
            buffer.seek(0)
            with pytest.raises(pickle.UnpicklingError) as caught:
                library.load(buffer)
            messages.append(str(caught.value).split("GLOBAL ")[1].split()[0])
        assert messages[0] == messages[1]
        buffer.seek(0)
        theirs = torch.serialization.get_unsafe_globals_in_checkpoint(buffer)
        buffer.seek(0)
        assert set(serialization.get_unsafe_globals_in_checkpoint(buffer)) >= set(theirs)


def test_buffers_and_attributes() -> None:
    for saved, loaded in ((torch, flambeau), (flambeau, torch)):
        value = saved.nn.Buffer(saved.ones(2), persistent=False)
        buffer = io.BytesIO()
        saved.save({"b": value, "m": saved.empty(2, 3, device="meta")}, buffer)
        buffer.seek(0)
        found = loaded.load(buffer)
        assert isinstance(found["b"], loaded.nn.Buffer)
        assert found["b"].persistent is False
        assert found["m"].device.type == "meta"
        assert tuple(found["m"].shape) == (2, 3)


def test_types_of_the_library() -> None:
    for saved, loaded in ((torch, flambeau), (flambeau, torch)):
        value = [saved.float16, saved.device("cpu"), saved.device("cuda", 1), saved.Size([2, 3])]
        buffer = io.BytesIO()
        saved.save(value, buffer)
        buffer.seek(0)
        expected = [loaded.float16, loaded.device("cpu"), loaded.device("cuda", 1)]
        assert loaded.load(buffer) == [*expected, loaded.Size([2, 3])]
