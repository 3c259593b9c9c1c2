"""Exported programs as files: what is saved comes back; damaged and hostile files are refused."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

import flambeau
from flambeau import nn
from flambeau.export import Dim, ExportError, export, load, onnx, save
from tests.export.fuzz import (
    OUTCOMES,
    Control,
    Tagger,
    attempt,
    exported,
    mutated,
    mutated_model,
    zipped,
)


@pytest.fixture(scope="module")
def program() -> Any:
    return exported()


@pytest.fixture(scope="module")
def entries(program: Any) -> dict[str, bytes]:
    with zipfile.ZipFile(written(program)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(program: Any) -> io.BytesIO:
    sink = io.BytesIO()
    save(program, sink)
    sink.seek(0)
    return sink


def test_a_program_comes_back(program: Any, tmp_path: Path) -> None:
    path = tmp_path / "program.pt2"
    save(program, path, extra_files={"note": "hello"})
    notes = {"note": "", "other": "x"}
    again = load(path, extra_files=notes)
    assert notes == {"note": "hello", "other": ""}
    assert str(again) == str(program)
    first, second = program.module(), again.module()
    for batch, time in ((1, 3), (7, 12)):
        x = flambeau.randint(0, 11, (batch, time))
        a, b = first(x), second(x)
        for s, t in zip(
            flambeau.pytree.tree_leaves(a), flambeau.pytree.tree_leaves(b), strict=True
        ):
            assert flambeau.equal(s, t)
    for net in (first, second):
        net.zero_grad()
        net(x)["s"].sum().backward()
    for (name, p), (_, q) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert flambeau.equal(p.grad, q.grad), name


def test_flex_attention_is_saved() -> None:
    from flambeau.nn.attention.flex_attention import flex_attention

    class Net(nn.Module):
        def forward(self, q: Any) -> Any:
            return flex_attention(q, q, q, lambda s, b, h, i, j: s - (i - j).abs())

    q = flambeau.randn(1, 2, 6, 8)
    program = export(Net(), (q,), dynamic_shapes=({2: Dim("n", min=2)},))
    again = load(written(program)).module()
    x = flambeau.randn(1, 2, 9, 8)
    assert flambeau.allclose(again(x), Net()(x))


def test_files_that_are_none(tmp_path: Path, entries: dict[str, bytes]) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.pt2")
    for data in (b"", b"PK", b"x" * 100, zipped(entries).getvalue()[:-40]):
        with pytest.raises(ExportError, match="no exported program"):
            load(io.BytesIO(data))
    with pytest.raises(ExportError, match="of format"):
        load(zipped({**entries, "version": b"99 1.0"}))
    for name in entries:
        rest = {k: v for k, v in entries.items() if k != name}
        with pytest.raises(ExportError):
            load(zipped(rest))
    with pytest.raises(TypeError, match="ExportedProgram"):
        save(nn.Linear(2, 2), io.BytesIO())  # type: ignore[arg-type]


def changed(entries: dict[str, bytes], name: str, old: str, new: str) -> dict[str, bytes]:
    text = entries[name].decode()
    assert old in text
    return {**entries, name: text.replace(old, new, 1).encode()}


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("inference.txt", "linear(", "system(", "operation 'system', which is not here"),
        ("inference.txt", "shape=(batch, time)", "shape=(batch, time, 9)", "is no"),
        ("inference.txt", "attrs=((2, ", "attrs=((2000000, ", "not valid"),
        ("inference.txt", "dtype=float32", "dtype=float64", "is no"),
        ("inference.txt", "How(", "__import__(", "not understood"),
        ("inference.txt", "return_(", "return_(__import__('os').system('true'), ", "understood"),
        ("inference.txt", "return_", "exit", "does not end in return_"),
        ("inference.txt", "= linear(", "= " + "(" * 5000 + "linear(", "cannot be read"),
        ("program.json", '"parameter"', '"code"', "is a 'code'"),
        ("program.json", '"tuple"', '"object"', "damaged"),
        ("program.json", '"written": [', '"written": ["words.weight", ', "another shape"),
    ],
)
def test_hostile_files(
    entries: dict[str, bytes], name: str, old: str, new: str, message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        load(zipped(changed(entries, name, old, new)))


def test_other_weights_than_the_graph_was_made_for(entries: dict[str, bytes]) -> None:
    state = flambeau.safetensors.load(entries["tensors.safetensors"])
    state["state.narrow.weight"] = flambeau.zeros(4, 15)
    made = {**entries, "tensors.safetensors": flambeau.safetensors.save(state)}
    with pytest.raises(ExportError, match="of the graph is no"):
        load(zipped(made))


def test_sizes_are_verified_when_a_loaded_program_runs(entries: dict[str, bytes]) -> None:
    text = entries["inference.txt"].decode()
    assert "16*batch" in text
    wrong = text.replace("16*batch", "64")  # right for the sizes at hand only
    meta = json.loads(entries["program.json"])
    meta["joint"] = None
    rest = {k: v for k, v in entries.items() if k not in ("forward.txt", "backward.txt")}
    rest |= {"inference.txt": wrong.encode(), "program.json": json.dumps(meta).encode()}
    module = load(zipped(rest)).module()
    with pytest.raises(ExportError, match="not valid"):
        module(flambeau.zeros(3, 5, dtype=flambeau.int64))


def test_mutated_files_raise_or_run(entries: dict[str, bytes]) -> None:
    """The texts with a few words exchanged: an ExportError, or a program that runs or raises."""
    x = flambeau.randint(0, 11, (3, 7))
    seeds = (*range(120), 691, 1063, 8136, 8766)  # of them some that raised what they must not
    found = [attempt(mutated(entries, random.Random(seed)), x) for seed in seeds]
    refused = len(found) - found.count("ran")
    assert refused > 60


def test_damaged_bytes(program: Any) -> None:
    chance = random.Random(1)
    data, refused = written(program).getvalue(), 0
    for k in range(200):
        wrong = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            wrong[chance.randrange(len(wrong))] ^= chance.randint(1, 255)
        if k % 3 == 0:
            del wrong[chance.randrange(len(wrong)) :]
        try:
            load(io.BytesIO(bytes(wrong)))  # some bytes of a zip file, such as times, mean nothing
        except ExportError:
            refused += 1
    assert refused > 180


def test_models_of_the_fuzzed_programs_are_read() -> None:
    """What is mutated is worth it only if the whole file loads; so are mutated ones."""
    x = flambeau.randint(0, 11, (3, 7))
    for net in (Tagger, Control):
        program = exported(net)
        model = onnx.export(program)
        wanted = flambeau.pytree.tree_leaves(program.module()(x))
        # (and the new values of states behind them)
        for got, want in zip(onnx.load(model.model).module()(x), wanted, strict=False):
            assert flambeau.allclose(got, want, rtol=1e-4, atol=1e-5)
        data = model.model_proto.SerializeToString()
        for seed in range(12):
            assert attempt(mutated_model(data, random.Random(seed)), x) in OUTCOMES
