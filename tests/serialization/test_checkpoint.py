"""save and load: everything comes back as it was, and hostile files are refused."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import threading
import zipfile
from collections import Counter, OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import serialization
from flambeau.archive import ArchiveWriter

DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"]


def again(value: Any, **options: Any) -> Any:
    """Saved to memory and loaded."""
    buffer = io.BytesIO()
    flambeau.save(value, buffer)
    buffer.seek(0)
    return flambeau.load(buffer, **options)


def checkpoint(pickled: bytes, **records: bytes) -> io.BytesIO:
    """A checkpoint around a pickle made by hand."""
    sink = io.BytesIO()
    writer = ArchiveWriter(sink, "archive")
    writer.write_record("data.pkl", pickled)
    writer.write_record("byteorder", sys.byteorder.encode())
    for name, data in records.items():
        writer.write_record(f"data/{name}", data)
    writer.close()
    sink.seek(0)
    return sink


def same(a: Any, b: Any) -> bool:
    return bool(
        a.dtype == b.dtype
        and tuple(a.shape) == tuple(b.shape)
        and tuple(a.stride()) == tuple(b.stride())
        and a.storage_offset() == b.storage_offset()
        and a.requires_grad == b.requires_grad
        and a.detach().tolist() == b.detach().tolist()
    )


class TestRoundTrip:
    @pytest.mark.parametrize("name", DTYPES)
    def test_dtypes(self, name: str) -> None:
        dtype = getattr(flambeau, name)
        value = flambeau.arange(-3 if dtype.is_signed else 0, 9).to(dtype).reshape(-1, 3)
        assert same(again(value), value)

    def test_bool(self) -> None:
        value = flambeau.tensor([True, False, True])
        assert same(again(value), value)

    def test_values_bit_for_bit(self, rng: np.random.Generator) -> None:
        raw = rng.integers(0, 2**32, 5000, dtype=np.uint32).view(np.float32)  # NaNs and all
        found = again(flambeau.from_numpy(raw)).numpy()
        assert np.array_equal(found.view(np.uint32), raw.view(np.uint32))

    @pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4)])
    def test_shapes(self, shape: tuple[int, ...]) -> None:
        value = flambeau.ones(shape)
        assert same(again(value), value)

    def test_views_keep_strides_and_share_storage(self) -> None:
        base = flambeau.arange(24.0).reshape(4, 6)
        views = [base, base.t(), base[1:3, ::2], base[0, 0], base[:, :0], base.reshape(-1)[5:]]
        views.append(base[:1].expand(5, 6))
        found = again(views)
        for view, original in zip(found, views, strict=True):
            assert same(view, original)
        found[0][1, 2] = 100.0
        assert found[1][2, 1].item() == found[2][0, 1].item() == 100.0

    def test_a_storage_is_written_once_and_whole(self) -> None:
        base = flambeau.zeros(100_000)
        buffer = io.BytesIO()
        flambeau.save([base[:10], base[10:20], base[::2]], buffer)
        assert 400_000 < len(buffer.getvalue()) < 410_000
        assert again([base[:10]])[0].untyped_storage().nbytes() == 400_000

    def test_the_same_tensor_twice_is_the_same_tensor(self) -> None:
        value = flambeau.ones(3)
        found = again({"a": value, "b": [value]})
        assert found["a"] is found["b"][0]

    def test_storages_that_views_of_other_types_share(self) -> None:
        memory = np.ones(4, np.float32)
        tensors = [flambeau.from_numpy(memory), flambeau.from_numpy(memory.view(np.int32))]
        with pytest.raises(RuntimeError, match="view the same data as different types"):
            again(tensors)

    def test_parameters_and_buffers(self) -> None:
        parameter = flambeau.nn.Parameter(flambeau.ones(2, 3), requires_grad=False)
        trained = flambeau.nn.Parameter(flambeau.ones(3))
        buffer = flambeau.nn.Buffer(flambeau.ones(3), persistent=False)
        found = again([parameter, trained, buffer])
        assert [isinstance(f, flambeau.nn.Parameter) for f in found] == [True, True, False]
        assert [f.requires_grad for f in found] == [False, True, False]
        assert isinstance(found[2], flambeau.nn.Buffer)
        assert found[2].persistent is False

    def test_tied_parameters_stay_tied(self) -> None:
        weight = flambeau.nn.Parameter(flambeau.ones(3))
        found = again(OrderedDict(a=weight, b=weight, c=weight.detach()))
        assert found["a"] is found["b"]
        with flambeau.no_grad():
            found["a"][0] = 7.0
        assert found["c"][0].item() == 7.0

    def test_requires_grad(self) -> None:
        assert again(flambeau.ones(2, requires_grad=True)).requires_grad

    def test_a_tensors_own_attributes(self) -> None:
        value = flambeau.ones(2)
        value.tag = {"a": 1}
        assert again(value).tag == {"a": 1}

    def test_what_is_still_to_be_computed(self) -> None:
        x = flambeau.ones(1000) * 3
        y = (x + 1).sum()
        assert again({"y": y})["y"].item() == 4000.0

    def test_modules_and_optimizers(self) -> None:
        model = flambeau.nn.Linear(3, 2)
        optimizer = flambeau.optim.AdamW(model.parameters(), lr=0.1)
        model(flambeau.ones(1, 3)).sum().backward()
        optimizer.step()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 1}
        found = again(state)
        assert list(found["model"]) == ["weight", "bias"]
        assert found["model"]._metadata == state["model"]._metadata
        assert found["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
        other = flambeau.nn.Linear(3, 2)
        other.load_state_dict(found["model"])
        assert other.weight.tolist() == model.weight.tolist()
        flambeau.optim.AdamW(other.parameters(), lr=0.1).load_state_dict(found["optimizer"])

    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_plain_values(self, protocol: int) -> None:
        value = {
            "int": [0, -1, 255, 65536, 1 << 70, -(1 << 70)],
            "float": [0.1, float("inf"), -0.0],
            "other": [
                None,
                True,
                False,
                1j,
                "é\udcff",
                "",
                b"\x00\xff",
                b"",
                bytearray(b"ab"),
                bytearray(),
            ],
            "nested": ((), (1,), (1, 2, 3, (4,)), {1, 2}, frozenset({3})),
            3: OrderedDict(b=1, a=Counter("abca")),
            (1, "x"): {None: []},
        }
        buffer = io.BytesIO()
        flambeau.save(value, buffer, pickle_protocol=protocol)
        buffer.seek(0)
        found = flambeau.load(buffer)
        assert found == value
        assert type(found[3]) is OrderedDict
        assert type(found[3]["a"]) is Counter
        assert type(found["nested"][4]) is frozenset

    def test_types_of_the_library(self) -> None:
        value = [flambeau.bfloat16, flambeau.device("cpu"), flambeau.Size([2, 3])]
        found = again(value)
        assert found == value
        assert found[0] is flambeau.bfloat16
        assert type(found[2]) is flambeau.Size

    def test_storages(self) -> None:
        storage = flambeau.arange(4, dtype=flambeau.uint8).untyped_storage()
        assert again(storage).numpy().tolist() == [0, 1, 2, 3]
        typed = again({"t": flambeau.arange(4.0).storage()})["t"]
        assert isinstance(typed, flambeau.TypedStorage)
        assert typed.dtype is flambeau.float32
        assert typed.tolist() == [0.0, 1.0, 2.0, 3.0]

    def test_meta_tensors(self) -> None:
        found = again(flambeau.empty(2, 3, device="meta"))
        assert found.device.type == "meta"
        assert tuple(found.shape) == (2, 3)

    def test_loaded_tensors_can_be_written(self) -> None:
        found = again(flambeau.zeros(3))
        found += 1
        assert found.tolist() == [1.0, 1.0, 1.0]


class TestFiles:
    def test_paths(self, tmp_path: Path) -> None:
        for path in (tmp_path / "a b.é.pt", str(tmp_path / "x"), tmp_path / "back\\slash.pt"):
            flambeau.save({"a": flambeau.ones(2)}, path)
            assert flambeau.load(path)["a"].tolist() == [1.0, 1.0]
        assert len(list(tmp_path.iterdir())) == 3

    def test_a_link_is_followed_and_permissions_are_kept(self, tmp_path: Path) -> None:
        (tmp_path / "real").touch()
        (tmp_path / "real").chmod(0o640)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        flambeau.save(1, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
        assert flambeau.load(tmp_path / "real") == 1

    def test_new_files_follow_the_umask(self, tmp_path: Path) -> None:
        flambeau.save(1, tmp_path / "new")
        (tmp_path / "plain").touch()
        assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_what_is_no_file_is_written_directly(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        data: list[bytes] = []
        reader = threading.Thread(target=lambda: data.append((tmp_path / "pipe").read_bytes()))
        reader.start()
        flambeau.save([1, 2], tmp_path / "pipe")
        reader.join()
        assert flambeau.load(io.BytesIO(data[0])) == [1, 2]

    def test_no_such_directory(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match=r"Parent directory .*no does not exist\."):
            flambeau.save(1, tmp_path / "no" / "a.pt")

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            flambeau.load(tmp_path / "no.pt")

    def test_arguments(self, tmp_path: Path) -> None:
        with pytest.raises(AttributeError, match="expected 'f' to be string, path, or a file-like"):
            flambeau.save(1, 3)
        with pytest.raises(ValueError, match="protocol must be 2 to 5, got 1"):
            flambeau.save(1, io.BytesIO(), pickle_protocol=1)
        with pytest.raises(RuntimeError, match="writes the zip format only"):
            flambeau.save(1, io.BytesIO(), _use_new_zipfile_serialization=False)
        with pytest.raises(ValueError, match="f must be a file path in order to use the mmap"):
            flambeau.load(io.BytesIO(), mmap=True)
        with pytest.raises(RuntimeError, match="explicit pickle_module"):
            flambeau.load(io.BytesIO(), pickle_module=struct)

    def test_a_file_object_that_cannot_seek(self) -> None:
        class Stream(io.RawIOBase):
            def readable(self) -> bool:
                return True

        with pytest.raises(io.UnsupportedOperation, match="pre-load the data into a buffer"):
            flambeau.load(Stream())

    def test_mmap(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pt"
        value = {"a": flambeau.arange(1000.0).reshape(10, 100), "b": flambeau.empty(0)}
        value["c"] = value["a"].t()
        flambeau.save(value, path)
        found = flambeau.load(path, mmap=True)
        assert all(same(found[key], value[key]) for key in value)
        found["a"][0, 0] = 5.0  # private to this process
        assert found["c"][0, 0].item() == 5.0
        assert flambeau.load(path)["a"][0, 0].item() == 0.0

    def test_mmap_takes_no_memory(self, tmp_path: Path) -> None:
        """Loading 200 MB leaves the peak of resident memory where it was."""
        flambeau.save(flambeau.zeros(50_000_000), tmp_path / "a.pt")
        code = (
            "import resource, sys, flambeau\n"
            "was = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "x = flambeau.load(sys.argv[1], mmap=True)\n"
            "now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "print(tuple(x.shape), now - was < 100_000)\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a.pt")], capture_output=True, text=True
        )
        assert ended.stdout.strip() == "(50000000,) True", ended.stderr

    def test_checksums_can_be_left_out(self) -> None:
        buffer = io.BytesIO()
        flambeau.save(flambeau.zeros(1000), buffer)
        data = bytearray(buffer.getvalue())
        data[2000] ^= 1
        with pytest.raises(RuntimeError, match="CRC-32 check failed"):
            flambeau.load(io.BytesIO(data))
        serialization.set_crc32_options(False)
        try:
            assert not serialization.get_crc32_options()
            assert (flambeau.load(io.BytesIO(data)) != 0).sum().item() == 1
        finally:
            serialization.set_crc32_options(True)

    def test_the_other_byte_order(self) -> None:
        buffer = io.BytesIO()
        flambeau.save([flambeau.tensor([1.0, 2.0]), flambeau.tensor([1, 258])], buffer)
        sink = io.BytesIO()
        writer = ArchiveWriter(sink, "archive")
        with zipfile.ZipFile(buffer) as source:
            writer.write_record("data.pkl", source.read("archive/data.pkl"))
            other = {"little": b"big", "big": b"little"}[sys.byteorder]
            writer.write_record("byteorder", other)
            for key, kind in (("0", np.float32), ("1", np.int64)):
                raw = np.frombuffer(source.read(f"archive/data/{key}"), kind)
                writer.write_record(f"data/{key}", raw.byteswap().tobytes())
        writer.close()
        sink.seek(0)
        assert [t.tolist() for t in flambeau.load(sink)] == [[1.0, 2.0], [1, 258]]


class TestMapLocation:
    @pytest.mark.parametrize(
        "where",
        [None, "cpu", {"cpu": "cpu"}, {"cuda:0": "cpu"}, lambda s, l: s, lambda s, l: None],
    )
    def test_to_the_cpu(self, where: Any) -> None:
        assert again(flambeau.ones(2), map_location=where).tolist() == [1.0, 1.0]

    def test_a_device(self) -> None:
        found = again([flambeau.ones(2)] * 2, map_location=flambeau.device("cpu"))
        assert found[0].device.type == "cpu"

    def test_a_function_sees_each_storage_once(self) -> None:
        seen = []

        def note(storage: Any, location: str) -> Any:
            seen.append((storage.nbytes(), location))
            return storage

        x = flambeau.ones(2)
        again([x, x[:1], flambeau.ones(3)], map_location=note)
        assert seen == [(8, "cpu"), (12, "cpu")]

    def test_a_device_that_is_not_there(self) -> None:
        pickled = _tensor_pickle(location="xpu:7")
        with pytest.raises(RuntimeError, match=r"map_location=flambeau\.device\('cpu'\)"):
            flambeau.load(checkpoint(pickled, **{"0": bytes(8)}))
        found = flambeau.load(checkpoint(pickled, **{"0": bytes(8)}), map_location="cpu")
        assert found.tolist() == [0.0, 0.0]


Point = namedtuple("Point", "x y")


class Config:
    """A user's class."""

    def __init__(self, size: int) -> None:
        self.size = size


class Activated(flambeau.nn.Module):
    """A module with an operation among its attributes."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Any) -> Any:
        return self.act(x)


class Finalised:
    """A class whose objects run something when they die."""

    def __del__(self) -> None:
        raise AssertionError("it was made")


class Restored:
    """A class that runs something when it is given state."""

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("it was called")


class Made:
    """A class that runs something when an object is made."""

    def __new__(cls) -> Made:
        raise AssertionError("it was called")


class Slotted:
    """A user's class with slots."""

    __slots__ = ("size",)


class TestAdmitting:
    def test_refused_then_admitted_then_refused(self) -> None:
        buffer = io.BytesIO()
        slotted = Slotted()
        slotted.size = 4
        flambeau.save({"c": Config(3), "p": Point(1, 2), "s": slotted}, buffer)

        def load() -> Any:
            buffer.seek(0)
            return flambeau.load(buffer)

        name = f"{Config.__module__}.Config"
        with pytest.raises(pickle.UnpicklingError) as caught:
            load()
        message = str(caught.value)
        assert message.startswith("Weights only load failed.")
        assert f"Unsupported global: GLOBAL {name} was not an allowed global by default" in message
        assert f"add_safe_globals([{name}])" in message
        buffer.seek(0)
        unsafe = serialization.get_unsafe_globals_in_checkpoint(buffer)
        assert unsafe == sorted(f"{c.__module__}.{c.__name__}" for c in (Config, Point, Slotted))
        with serialization.safe_globals([Config, Point, (Slotted, f"{__name__}.Slotted")]):
            assert Config in serialization.get_safe_globals()
            found = load()
        assert found["c"].size == 3
        assert found["p"] == Point(1, 2)
        assert found["s"].size == 4
        assert serialization.get_safe_globals() == []
        with pytest.raises(pickle.UnpicklingError):
            load()

    def test_state_is_given_to_what_an_admitted_name_returned(self, tmp_path: Path) -> None:
        """NumPy's dtype is a name in the file; its instances' class, which is not, is built."""
        numbers = np.arange(3, dtype=np.uint32)
        flambeau.save(numbers, tmp_path / "array.pt")
        reconstruct = np.zeros(1).__reduce__()[0]
        names = [reconstruct, np.ndarray, np.dtype]
        with (
            serialization.safe_globals(names),
            pytest.raises(pickle.UnpicklingError, match="UInt32DType"),
        ):
            flambeau.load(tmp_path / "array.pt")
        with serialization.safe_globals([*names, type(numbers.dtype)]):
            assert np.array_equal(flambeau.load(tmp_path / "array.pt"), numbers)

    def test_nesting_and_clearing(self) -> None:
        with serialization.safe_globals([Config]):
            with serialization.safe_globals([Config, Point]):
                pass
            assert serialization.get_safe_globals() == [Config]
        serialization.add_safe_globals([Config])
        serialization.clear_safe_globals()
        assert serialization.get_safe_globals() == []

    def test_malformed_admissions(self) -> None:
        with serialization.safe_globals([(Config,)]), pytest.raises(ValueError, match="length 2"):
            again(1)
        with serialization.safe_globals([(Config, 3)]), pytest.raises(TypeError, match="to be str"):
            again(1)

    def test_whole_models_are_plain_classes(self) -> None:
        buffer = io.BytesIO()
        model = flambeau.nn.Sequential(
            flambeau.nn.Linear(3, 4), flambeau.nn.BatchNorm1d(4), Activated(flambeau.relu)
        )
        x = flambeau.randn(5, 3)
        model(x)
        flambeau.save({"model": model.eval(), "config": Config(3)}, buffer)
        for admitted in (True, None):
            buffer.seek(0)
            with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
                flambeau.load(buffer, weights_only=admitted)
        buffer.seek(0)
        found = flambeau.load(buffer, weights_only=False)
        assert found["config"].size == 3
        assert not found["model"].training
        assert flambeau.equal(found["model"](x), model(x))
        found["model"].train()(x).sum().backward()
        assert found["model"][0].weight.grad is not None
        assert model[0].weight.grad is None

    @pytest.mark.parametrize("kind", ["Finalised", "Restored", "Made", "subprocess.Popen"])
    def test_classes_that_run_something_are_not_plain(self, kind: str) -> None:
        module, _, name = kind.rpartition(".")
        module = module or __name__
        text = f"\x80\x02c{module}\n{name}\n)\x81}}X\x01\x00\x00\x00aK\x01sb."
        with pytest.raises(pickle.UnpicklingError, match=f"admits classes that.*{kind} was not"):
            flambeau.load(checkpoint(text.encode("latin1")), weights_only=False)

    def test_nothing_is_imported_to_find_a_class(self) -> None:
        module = "this" if "this" not in sys.modules else "antigravity"
        with pytest.raises(pickle.UnpicklingError, match=f"{module}.Thing"):
            flambeau.load(
                checkpoint(f"\x80\x02c{module}\nThing\n)\x81.".encode("latin1")), weights_only=False
            )
        assert module not in sys.modules

    def test_the_operating_system_cannot_be_admitted(self) -> None:
        with serialization.safe_globals([os.system]):
            with pytest.raises(pickle.UnpicklingError, match=r"posix\.system.*cannot be admitted"):
                flambeau.load(checkpoint(pickle.dumps(Reduced(os.system, ("true",)), 2)))


class Reduced:
    """Pickled as a call."""

    def __init__(self, *what: Any) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return self.what


def _tensor_pickle(
    kind: str = "FloatStorage",
    key: Any = "0",
    location: str = "cpu",
    numel: Any = 2,
    offset: Any = 0,
    size: Any = (2,),
    stride: Any = (1,),
) -> bytes:
    """A tensor's pickle as torch writes it, with any of its numbers changed."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return obj[1:] if type(obj) is tuple and obj[:1] == ("pid",) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(
        [("pid", "storage", "KIND", key, location, numel), offset, size, stride, False]
    )
    data = buffer.getvalue()
    # the list of arguments becomes a call, and the kind's text a global
    text = b"X\x04\x00\x00\x00KIND"
    memo = data[data.index(text) + len(text) :][:2]
    data = data.replace(text + memo, b"ctorch\n" + kind.encode() + b"\n" + memo)
    body = data[2:-1]
    assert body.startswith(b"]q\x00(")
    assert body.endswith(b"e")
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + body[4:-1] + b"NtR."


class TestHostile:
    def test_the_template_of_these_tests_is_well_formed(self) -> None:
        pickletools.dis(_tensor_pickle(), out=io.StringIO())
        data = np.float32([1.0, 2.0]).tobytes()
        assert flambeau.load(checkpoint(_tensor_pickle(), **{"0": data})).tolist() == [1.0, 2.0]

    @pytest.mark.parametrize("weights_only", [True, False, None])
    @pytest.mark.parametrize(
        ("function", "args", "name"),
        [
            (os.system, ("touch hostile",), "posix.system"),
            (eval, ("open('hostile', 'w')",), "eval"),
            (exec, ("open('hostile', 'w')",), "exec"),
            (os.mkdir, ("hostile",), "posix.mkdir"),
            (subprocess.Popen, ("touch hostile",), "subprocess.Popen"),
            (sys.setrecursionlimit, (10,), "sys.setrecursionlimit"),
            (getattr, ("a", "upper"), "getattr"),
        ],
    )
    def test_code_is_refused_and_named(
        self,
        function: Any,
        args: Any,
        name: str,
        weights_only: bool | None,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        value = {"model": OrderedDict(weight=[Reduced(function, args)])}
        source = checkpoint(pickle.dumps(value, 2))
        pattern = f"GLOBAL {name.replace('.', '[.]')} was not an allowed global by default"
        with pytest.raises(pickle.UnpicklingError, match=pattern):
            flambeau.load(source, weights_only=weights_only)
        source.seek(0)
        full = name if "." in name else f"builtins.{name}"
        assert serialization.get_unsafe_globals_in_checkpoint(source) == [full]
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("name", "args"),
        [
            ("builtins.bytearray", (1 << 40,)),
            ("builtins.bytes", (1 << 40,)),
            ("builtins.set", (range(3),)),
            ("builtins.complex", ("1+1j",)),
            ("collections.Counter", ("text",)),
            ("collections.OrderedDict", (3,)),
            ("_codecs.encode", ("eJwDAAAAAAE=", "zlib_codec")),
            ("torch.Size", ((-1,),)),
            ("torch.Size", ("ab",)),
            ("torch.device", (1 << 80,)),
            ("torch.device", ("nonsense",)),
            ("torch.Tensor", (1 << 40,)),
            ("torch.float32", ()),
            ("torch.FloatStorage", (1 << 40,)),
            ("torch._utils._rebuild_parameter", (3, True, None)),
            ("torch._utils._rebuild_tensor_v2", (3, 0, (1,), (1,), False, None)),
            ("torch._tensor._rebuild_from_type_v2", (3, 4, (), {})),
        ],
    )
    def test_allowed_names_check_their_arguments(self, name: str, args: Any) -> None:
        module, _, attribute = name.rpartition(".")
        arguments = pickle.dumps(args, 2)[2:-1]
        if args and isinstance(args[0], range):
            arguments = b"cbuiltins\nbytearray\n\x85"
        data = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + arguments + b"R."
        with pytest.raises((pickle.UnpicklingError, RuntimeError)):
            flambeau.load(checkpoint(data))

    @pytest.mark.parametrize(
        "change",
        [
            {"numel": 3},
            {"numel": 1},
            {"numel": 1 << 60},
            {"numel": -1},
            {"numel": "2"},
            {"size": (3,)},
            {"offset": 1},
            {"offset": -1},
            {"offset": 1 << 62},
            {"offset": 0.0},
            {"stride": (-1,)},
            {"stride": (2,)},
            {"stride": (1 << 62,)},
            {"size": (2, 2)},
            {"size": (1 << 40, 1 << 40), "stride": (0, 0)},
            {"size": (-2,)},
            {"size": (True,)},
            {"size": "2"},
            {"key": "../../etc/passwd"},
            {"key": "1"},
            {"key": 0},
            {"kind": "NoSuchStorage"},
            {"kind": "float32"},
            {"location": "nonsense"},
        ],
        ids=str,
    )
    def test_tensors_that_reach_outside(self, change: dict[str, Any]) -> None:
        with pytest.raises((pickle.UnpicklingError, RuntimeError)):
            flambeau.load(checkpoint(_tensor_pickle(**change), **{"0": bytes(8)}))

    def test_an_empty_view_at_the_end_is_no_error(self) -> None:
        source = checkpoint(_tensor_pickle(size=(0,), offset=2), **{"0": bytes(8)})
        assert tuple(flambeau.load(source).shape) == (0,)

    def test_a_tensors_inside_cannot_be_overwritten(self) -> None:
        value = flambeau.ones(2)
        value.tag = 1
        buffer = io.BytesIO()
        flambeau.save(value, buffer)
        with zipfile.ZipFile(buffer) as source:
            pickled = source.read("archive/data.pkl")
            storage = source.read("archive/data/0")
        for name in (b"shape", b"_base", b"__class__", b"add"):
            text = struct.pack("<I", len(name)) + name
            changed = pickled.replace(b"\x03\x00\x00\x00tag", text)
            assert changed != pickled
            with pytest.raises(pickle.UnpicklingError, match="cannot be set by a file"):
                flambeau.load(checkpoint(changed, **{"0": storage}))

    def test_truncated_anywhere(self, tmp_path: Path) -> None:
        flambeau.save({"a": flambeau.ones(1000), "b": [1, 2]}, tmp_path / "a.pt")
        data = (tmp_path / "a.pt").read_bytes()
        for length in range(0, len(data), 331):
            (tmp_path / "a.pt").write_bytes(data[:length])
            with pytest.raises((RuntimeError, EOFError, pickle.UnpicklingError)) as caught:
                flambeau.load(tmp_path / "a.pt")
            if length > 100:
                assert "PytorchStreamReader failed reading zip archive" in str(caught.value)

    def test_flipped_bits(self, rng: np.random.Generator) -> None:
        buffer = io.BytesIO()
        flambeau.save({"a": flambeau.arange(1000), "b": [1, 2]}, buffer)
        data = buffer.getvalue()
        for at in rng.integers(0, len(data), 300):
            bad = bytearray(data)
            bad[at] ^= 1 << int(rng.integers(8))
            try:
                found = flambeau.load(io.BytesIO(bad))
            except (RuntimeError, pickle.UnpicklingError, ValueError):
                continue
            assert found["b"] == [1, 2]
            assert found["a"].tolist() == list(range(1000))

    @pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04", b"\x80\x02}.", bytes(1000)])
    def test_what_is_no_checkpoint(self, data: bytes) -> None:
        with pytest.raises((EOFError, RuntimeError, pickle.UnpicklingError)):
            flambeau.load(io.BytesIO(data))

    def test_torchscript_archives(self) -> None:
        sink = io.BytesIO()
        writer = ArchiveWriter(sink, "script")
        writer.write_record("data.pkl", b"\x80\x02N.")
        writer.write_record("constants.pkl", b"\x80\x02N.")
        writer.close()
        sink.seek(0)
        with pytest.raises(RuntimeError, match="TorchScript"):
            flambeau.load(sink)

    def test_tar_archives(self) -> None:
        data = bytearray(1024)
        data[257:262] = b"ustar"
        with pytest.raises(RuntimeError, match="tar archive"):
            flambeau.load(io.BytesIO(bytes(data)))
