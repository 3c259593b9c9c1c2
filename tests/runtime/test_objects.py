"""The cache on disk: whatever is wrong with an entry or the disk, the answer is right or absent."""

import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from flambeau.runtime import objects
from flambeau.runtime.objects import ObjectCache

KEY = objects.digest("a key")


@pytest.fixture
def cache(tmp_path):
    return ObjectCache(tmp_path / "objects", 1 << 20)


def files(cache: ObjectCache) -> list[Path]:
    return sorted(cache.directory.iterdir())


def test_round_trip(cache):
    assert cache.get(KEY) is None
    for payload in (b"", b"x", bytes(range(256)) * 300):
        assert cache.put(KEY, payload)
        assert cache.get(KEY) == payload
        assert ObjectCache(cache.directory).get(KEY) == payload
    assert cache.get(objects.digest("another")) is None
    assert cache.put(b"a key of any length", b"1")
    assert cache.get(b"a key of any length") == b"1"
    assert cache.usage()[0] == 2
    cache.remove(KEY)
    assert cache.get(KEY) is None
    cache.clear()
    assert cache.usage() == (0, 0)


def test_keys_tell_their_parts_apart():
    keys = [
        objects.digest("ab", "c"),
        objects.digest("a", "bc"),
        objects.digest("abc"),
        objects.digest("abc", ""),
        objects.digest(),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 32 for key in keys)
    assert objects.digest("abc") == objects.digest(b"abc")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 15, 16, 40, 47, 48, 49, 100, 1047])
def test_truncated_entry_is_absent_and_removed(cache, length):
    cache.put(KEY, bytes(1000))
    (file,) = files(cache)
    assert file.stat().st_size == 1048
    with open(file, "rb+") as handle:
        handle.truncate(length)
    assert cache.get(KEY) is None
    assert not files(cache)
    assert cache.put(KEY, b"again")
    assert cache.get(KEY) == b"again"


@pytest.mark.parametrize("where", [0, 8, 15, 16, 30, 47, 48, 500, 1047])
def test_changed_byte_is_found(cache, where):
    cache.put(KEY, bytes(1000))
    (file,) = files(cache)
    data = bytearray(file.read_bytes())
    data[where] ^= 4
    file.write_bytes(data)
    assert cache.get(KEY) is None
    assert cache.counts.corrupt == 1


def test_appended_bytes_are_found(cache):
    cache.put(KEY, bytes(1000))
    (file,) = files(cache)
    with open(file, "ab") as handle:
        handle.write(b"more")
    assert cache.get(KEY) is None


def test_entry_under_another_keys_name_is_refused(cache):
    other = objects.digest("other")
    cache.put(KEY, b"mine")
    (file,) = files(cache)
    file.rename(cache.directory / other.hex())
    assert cache.get(other) is None


def test_entries_used_longest_ago_are_evicted(tmp_path):
    cache = ObjectCache(tmp_path, 100_000)
    keys = [objects.digest(str(index)) for index in range(30)]
    now = time.time()
    for index, key in enumerate(keys[:9]):
        cache.put(key, bytes(10_000))
        os.utime(tmp_path / key.hex(), (now - 9000 + index * 100, now - 9000 + index * 100))
    assert cache.get(keys[0]) is not None  # used: now the youngest
    for key in keys[9:11]:
        cache.put(key, bytes(10_000))
    assert cache.usage()[1] <= 100_000
    assert cache.get(keys[0]) is not None
    assert cache.get(keys[10]) is not None
    assert cache.get(keys[1]) is None
    assert cache.get(keys[2]) is None
    for key in keys:
        cache.put(key, bytes(10_000))
        assert cache.usage()[1] <= 100_000 + 10_048
    assert cache.counts.evicted > 10


def test_bound_holds_for_several_writers(tmp_path):
    caches = [ObjectCache(tmp_path, 100_000) for _ in range(4)]
    for index in range(200):
        caches[index % 4].put(objects.digest(str(index)), bytes(2000))
    # each may not yet have seen what the others stored since it looked
    assert caches[0].usage()[1] <= 100_000 * (1 + 4 / 16) + 10_000


def test_what_is_larger_than_the_bound_is_not_stored(tmp_path):
    cache = ObjectCache(tmp_path, 1000)
    assert not cache.put(KEY, bytes(1000))
    assert cache.put(KEY, bytes(900))


def test_left_over_temporary_files_go(tmp_path):
    cache = ObjectCache(tmp_path, 10_000)
    old, fresh = tmp_path / ".new-old", tmp_path / ".new-fresh"
    for file in (old, fresh):
        file.write_bytes(b"half an entry")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    cache.put(KEY, b"")
    assert not old.exists()
    assert fresh.exists()
    assert cache.usage()[0] == 1


def test_unwritable_directory(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    for directory in (blocked, blocked / "below", Path("/proc/flambeau")):
        cache = ObjectCache(directory)
        assert not cache.put(KEY, b"x")
        assert cache.get(KEY) is None
        assert cache.usage() == (0, 0)
        cache.clear()


def test_full_disk(cache, monkeypatch):
    cache.put(KEY, b"before")

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(objects.os, "replace", full)
    assert not cache.put(KEY, b"after")
    monkeypatch.undo()
    assert cache.get(KEY) == b"before"
    assert len(files(cache)) == 1


def test_directory_removed_meanwhile(cache):
    cache.put(KEY, b"x")
    for file in files(cache):
        file.unlink()
    cache.directory.rmdir()
    assert cache.get(KEY) is None
    cache.put(KEY, b"x")
    assert cache.put(KEY, b"y")
    assert cache.get(KEY) == b"y"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
class TestTrust:
    """Code that somebody else could have written is not loaded."""

    def test_what_is_written_is_private(self, cache):
        cache.put(KEY, b"x")
        assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(files(cache)[0].stat().st_mode) == 0o600

    @pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
    def test_directory_others_may_write(self, cache, mode):
        cache.put(KEY, b"x")
        cache.directory.chmod(mode)
        fresh = ObjectCache(cache.directory)
        assert fresh.get(KEY) is None
        assert not fresh.put(KEY, b"y")

    @pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
    def test_file_others_may_write(self, cache, mode):
        cache.put(KEY, b"x")
        files(cache)[0].chmod(mode)
        assert cache.get(KEY) is None

    def test_symbolic_link(self, cache, tmp_path):
        cache.put(KEY, b"x")
        (file,) = files(cache)
        elsewhere = tmp_path / "elsewhere"
        file.rename(elsewhere)
        file.symlink_to(elsewhere)
        assert cache.get(KEY) is None

    def test_another_users_directory(self, cache, monkeypatch):
        cache.put(KEY, b"x")
        monkeypatch.setattr(objects.os, "getuid", lambda: 12345)
        fresh = ObjectCache(cache.directory)
        assert fresh.get(KEY) is None
        assert not fresh.put(KEY, b"y")


WRITER = """
import sys, random
from pathlib import Path
from flambeau.runtime import objects
cache = objects.ObjectCache(Path(sys.argv[1]), 300_000)
generator = random.Random(int(sys.argv[2]))
for step in range(400):
    index = generator.randrange(40)
    key = objects.digest(str(index))
    content = bytes([index]) * (1000 + 500 * index)
    found = cache.get(key)
    assert found is None or found == content, (index, len(found))
    if found is None or generator.random() < 0.2:
        cache.put(key, content)
print("hits", cache.counts.hits, "corrupt", cache.counts.corrupt)
"""


def test_many_processes_on_one_directory(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)]
    writers = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in range(4)
    ]
    for writer in writers:
        out, _ = writer.communicate(timeout=100)
        assert writer.returncode == 0
        assert int(out.split()[1]) > 50
        assert int(out.split()[3]) == 0
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".new-")]


def test_environment(tmp_path, monkeypatch):
    objects.default.cache_clear()
    monkeypatch.setenv("FLAMBEAU_CACHE_DIR", str(tmp_path / "there"))
    monkeypatch.delenv("FLAMBEAU_CACHE", raising=False)
    monkeypatch.setenv("FLAMBEAU_CACHE_SIZE", "3MB")
    try:
        cache = objects.default()
        assert cache.limit == 3 << 20
        assert objects.put(KEY, b"x")
        assert objects.get(KEY) == b"x"
        assert (tmp_path / "there") in cache.directory.parents
        objects.default.cache_clear()
        monkeypatch.setenv("FLAMBEAU_CACHE", "0")
        assert objects.default() is None
        assert not objects.put(KEY, b"x")
        assert objects.get(KEY) is None
        objects.default.cache_clear()
        monkeypatch.setenv("FLAMBEAU_CACHE", "1")
        monkeypatch.setenv("FLAMBEAU_CACHE_SIZE", "plenty")
        with pytest.raises(ValueError, match=r"FLAMBEAU_CACHE_SIZE.*'plenty'"):
            objects.default()
    finally:
        monkeypatch.undo()
        objects.default.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("512", 512), ("512MB", 512 << 20), ("2 GiB", 2 << 30), ("1.5k", 1536)],
)
def test_sizes(text, expected):
    assert objects.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "MB", "-1", "1e6", "12 parsecs"])
def test_wrong_sizes(text):
    with pytest.raises(ValueError, match="expected a size"):
        objects.parse_size(text)
