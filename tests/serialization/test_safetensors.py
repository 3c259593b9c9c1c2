"""safetensors files, against the package's own NumPy functions."""

from __future__ import annotations

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import flambeau
from flambeau import safetensors as ours

NAMES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]


def test_every_dtype_as_the_package_reads_it(tmp_path: Path) -> None:
    tensors = {n: flambeau.arange(6).to(getattr(flambeau, n)).reshape(2, 3) for n in NAMES}
    ours.save_file(tensors, tmp_path / "a.safetensors", {"by": "test"})
    found = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    for name, tensor in tensors.items():
        assert np.array_equal(found[name], tensor.numpy())
        assert found[name].dtype == np.dtype(name)
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="np") as source:
        assert source.metadata() == {"by": "test"}


@pytest.mark.parametrize("from_file", [False, True])
def test_what_the_package_wrote(from_file: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = {n: rng.integers(0, 2, (3, 4)).astype(n) for n in NAMES}
    arrays["empty"], arrays["scalar"] = np.zeros((2, 0), np.float32), np.array(3.0)
    if from_file:
        safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors")
        found = ours.load_file(tmp_path / "a.safetensors")
    else:
        found = ours.load(safetensors.numpy.save(arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(found[name].numpy(), array)
        assert found[name].dtype is getattr(flambeau, array.dtype.name)


def test_bfloat16(tmp_path: Path) -> None:
    value = flambeau.tensor([1.0, -2.5, 3e38], dtype=flambeau.bfloat16)
    data = ours.save({"a": value})
    (_, entry), *_ = safetensors.deserialize(data)
    expected = np.array([1.0, -2.5, 3e38], ml_dtypes.bfloat16)
    assert entry["dtype"] == "BF16"
    assert bytes(entry["data"]) == expected.tobytes()
    (tmp_path / "a.safetensors").write_bytes(data)
    for found in (ours.load(data)["a"], ours.load_file(tmp_path / "a.safetensors")["a"]):
        assert found.dtype is flambeau.bfloat16
        assert found.tolist() == value.tolist()


def test_loaded_tensors_can_be_written(tmp_path: Path) -> None:
    ours.save_file({"a": flambeau.zeros(3)}, tmp_path / "a.safetensors")
    found = ours.load_file(tmp_path / "a.safetensors", device="cpu")["a"]
    found += 1
    assert found.tolist() == [1.0, 1.0, 1.0]


def test_load_reads_them_too(tmp_path: Path) -> None:
    ours.save_file({"a": flambeau.ones(3)}, tmp_path / "a.safetensors")
    found = flambeau.load(tmp_path / "a.safetensors", map_location="cpu")
    assert found["a"].tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(RuntimeError, match="dict or callable map_location is not supported"):
        flambeau.load(tmp_path / "a.safetensors", map_location={})


def test_views_that_begin_within_a_storage() -> None:
    value = flambeau.arange(10.0)[4:7]
    assert ours.load(ours.save({"a": value}))["a"].tolist() == [4.0, 5.0, 6.0]


class TestRefused:
    def test_shared_memory(self) -> None:
        x = flambeau.ones(4)
        with pytest.raises(RuntimeError, match="Some tensors share memory"):
            ours.save({"a": x, "b": x[2:]})
        ours.save({"a": x[:2], "b": x[2:]})  # beside each other is no overlap

    def test_gaps(self) -> None:
        with pytest.raises(ValueError, match="non contiguous tensor: `a`"):
            ours.save({"a": flambeau.ones(2, 3).t()})

    def test_other_values(self) -> None:
        with pytest.raises(ValueError, match=r"Key `a` is invalid, expected torch\.Tensor"):
            ours.save({"a": 3})
        with pytest.raises(ValueError, match="Expected a dict"):
            ours.save([flambeau.ones(2)])

    def test_malformed_files(self, tmp_path: Path) -> None:
        data = ours.save({"a": flambeau.ones(100)})
        for bad in (b"", data[:7], data[:-1], data + b"x", b"\xff" * 8 + data[8:]):
            with pytest.raises(safetensors.SafetensorError):
                ours.load(bad)
            (tmp_path / "a").write_bytes(bad)
            with pytest.raises((safetensors.SafetensorError, OSError)):
                ours.load_file(tmp_path / "a")
        with pytest.raises(FileNotFoundError):
            ours.load_file(tmp_path / "none")

    def test_an_earlier_file_is_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "a.safetensors"
        ours.save_file({"a": flambeau.ones(3)}, path)
        with pytest.raises(TypeError):
            ours.save_file({"a": flambeau.zeros(3)}, path, metadata={"a": 3})
        assert ours.load_file(path)["a"].tolist() == [1.0, 1.0, 1.0]
        assert os.listdir(tmp_path) == ["a.safetensors"]
