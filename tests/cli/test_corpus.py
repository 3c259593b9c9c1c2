"""The text: where it comes from, how it is split, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flambeau.commands import corpus as corpus_module
from flambeau.commands.corpus import Corpus, CorpusError, load_corpus


def text_of(corpus: Corpus) -> bytes:
    return corpus.train.tobytes() + corpus.validation.tobytes()


def test_the_default_is_the_standard_library() -> None:
    corpus = load_corpus(None, context=64)
    text = text_of(corpus)
    assert 2**20 < len(text) <= corpus_module.STANDARD_LIBRARY_LIMIT + corpus.files
    assert b"def __init__(self" in text
    assert corpus.files > 50
    assert corpus.fingerprint == load_corpus(None, context=64).fingerprint


def test_a_single_file_of_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(bytes(range(1, 256)) * 8)
    corpus = load_corpus(str(path), context=16)
    assert text_of(corpus) == path.read_bytes()
    assert len(corpus.validation) == max(len(text_of(corpus)) // 20, 18)
    assert corpus.files == 1


def test_a_folder_is_read_in_order_without_binary_and_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second " * 20)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.md").write_text("first " * 20)
    (tmp_path / "picture").write_bytes(b"\x89PNG\0\0")
    (tmp_path / ".hidden").write_text("secret")
    corpus = load_corpus(str(tmp_path), context=16)
    assert text_of(corpus) == b"first " * 20 + b"\0" + b"second " * 20
    assert corpus.notices == ["skipped 1 file that is not text"]


def test_unreadable_files_are_skipped_with_a_notice(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("good " * 50)
    (tmp_path / "bad.txt").symlink_to(tmp_path / "nowhere")
    corpus = load_corpus(str(tmp_path), context=16)
    assert text_of(corpus) == b"good " * 50
    assert len(corpus.notices) == 1
    assert "bad.txt: No such file" in corpus.notices[0]


def test_a_large_folder_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "FOLDER_LIMIT", 100)
    for name in "abc":
        (tmp_path / name).write_text(name * 60)
    corpus = load_corpus(str(tmp_path), context=8)
    assert text_of(corpus) == b"a" * 60 + b"\0" + b"b" * 40
    assert any("stopped after" in notice for notice in corpus.notices)


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no file or folder"):
        load_corpus(str(tmp_path / "missing"), context=8)
    with pytest.raises(CorpusError, match="no readable text"):
        load_corpus(str(tmp_path), context=8)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"no readable text(.|\n)*gone: No such file"):
        load_corpus(str(tmp_path), context=8)
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(CorpusError, match="0 bytes"):
        load_corpus(str(empty), context=8)
    short = tmp_path / "short"
    short.write_text("x" * 19)
    with pytest.raises(CorpusError, match=r"19 bytes.*at least 20"):
        load_corpus(str(short), context=8)
    short.write_text("x" * 20)
    assert len(load_corpus(str(short), context=8).train) == 10


def test_batches_are_windows_of_the_text_and_depend_on_seed_and_step_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "text"
    path.write_bytes(bytes(np.random.default_rng(0).integers(1, 255, 3000).astype(np.uint8)))
    corpus = load_corpus(str(path), context=32)
    tokens, targets = corpus.batch(step=3, size=5, context=32, seed=1)
    assert tokens.dtype == targets.dtype == np.int64
    assert tokens.shape == targets.shape == (5, 32)
    text = corpus.train.tobytes()
    for row, following in zip(tokens, targets):
        window = bytes(row.astype(np.uint8)) + bytes(following[-1:].astype(np.uint8))
        assert window in text
        assert (row[1:] == following[:-1]).all()
    again, _ = corpus.batch(step=3, size=5, context=32, seed=1)
    assert (again == tokens).all()
    assert (corpus.batch(step=4, size=5, context=32, seed=1)[0] != tokens).any()
    assert (corpus.batch(step=3, size=5, context=32, seed=2)[0] != tokens).any()


def test_every_window_can_be_drawn(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(bytes(range(1, 41)))
    corpus = load_corpus(str(path), context=4)
    drawn = {
        int(row[0])
        for step in range(60)
        for row in corpus.batch(step, size=8, context=4, seed=0)[0]
    }
    assert drawn == set(corpus.train[: len(corpus.train) - 4].tolist())


def test_validation_covers_the_held_out_part(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(bytes(np.random.default_rng(0).integers(1, 255, 40_000).astype(np.uint8)))
    corpus = load_corpus(str(path), context=16)
    batches = list(corpus.validation_batches(count=3, size=4, context=16))
    assert len(batches) == 3
    first, last = batches[0][0][0], batches[-1][1][-1]
    assert (first == corpus.validation[:16]).all()
    assert (last == corpus.validation[-16:]).all()
