"""Copies of remote rows: few enough, the least used go first, and none that is in use."""

import hashlib
import os
from pathlib import Path
import subprocess
import sys

from etils import epath
from object_store import mounted
import pytest

from lrl_jax.data.feed.cache import ShardCache
from lrl_jax.data.pack.rows import Shard
from lrl_jax.storage import GIB

HOLDER = """
import sys
from pathlib import Path
from lrl_jax.data.feed.cache import ShardCache
from lrl_jax.data.pack.rows import Shard
cache = ShardCache(25 / 2**30, Path(sys.argv[1]))
cache.hold([Shard("x", 1, 10, sys.argv[2])])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def remote(tmp_path):
    """A function that puts ten bytes into a store; it gives their path and shard."""
    with mounted(tmp_path / "store"):

        def put(letter):
            path, content = epath.Path(f"gs://b/rows/{letter}"), letter.encode() * 10
            path.write_bytes(content)
            return path, Shard(letter, 1, 10, hashlib.sha256(content).hexdigest())

        yield put


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def use(cache, path, shard, when):
    """Copies a shard, or finds its copy, at a time that is `when`."""
    local = cache.local(path, shard)
    os.utime(local, (when, when))
    return Path(local)


def letters(folder):
    return "".join(sorted(path.read_text()[:1] for path in folder.glob("*.array_record")))


def small(folder, limit=25):
    return ShardCache(limit / GIB, folder)


def test_a_copy_has_the_bytes_and_is_made_once(remote, folder):
    path, shard = remote("a")
    assert use(small(folder), path, shard, 1).read_bytes() == b"a" * 10
    path.unlink()
    assert use(small(folder), path, shard, 1).read_bytes() == b"a" * 10


def test_the_copy_used_longest_ago_goes_when_room_is_needed(remote, folder):
    use(small(folder), *remote("a"), 1)
    use(small(folder), *remote("b"), 2)
    use(small(folder), *remote("a"), 3)
    use(small(folder), *remote("c"), 4)
    assert letters(folder) == "ac"


def test_what_this_process_uses_stays_and_too_much_of_it_is_refused(remote, folder):
    cache = small(folder)
    use(cache, *remote("a"), 1)
    use(cache, *remote("b"), 2)
    with pytest.raises(ValueError, match=r"data.cache_gib allows 0.00: raise it"):
        use(cache, *remote("c"), 3)
    assert letters(folder) == "ab"


def test_rows_that_do_not_fit_are_refused_before_anything_is_removed(remote, folder):
    use(small(folder), *remote("a"), 1)
    with pytest.raises(ValueError, match="copies of this run's rows take"):
        small(folder).hold([remote(letter)[1] for letter in "bcd"])
    assert letters(folder) == "a"


def test_what_another_process_uses_stays_until_that_is_gone(remote, folder):
    use(small(folder), *remote("a"), 1)
    use(small(folder), *remote("b"), 2)
    words = [sys.executable, "-c", HOLDER, folder, remote("a")[1].sha256]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "held\n"
        use(small(folder), *remote("c"), 3)
        assert letters(folder) == "ac"
        other.kill()
    use(small(folder), *remote("d"), 4)
    assert letters(folder) == "cd"
    assert len([*(folder / "in_use").iterdir()]) <= 1


def test_what_a_killed_process_had_half_copied_goes_too(remote, folder):
    folder.mkdir()
    (folder / f"{'0' * 64}.array_record.abc.part").write_bytes(b"x" * 20)
    use(small(folder), *remote("a"), 1)
    assert [path.name[:3] for path in folder.iterdir() if path.is_file()] == [
        remote("a")[1].sha256[:3]
    ]


def test_a_remote_file_of_other_bytes_is_refused(remote, folder):
    path, shard = remote("a")
    path.write_bytes(b"b" * 10)
    with pytest.raises(ValueError, match="gs://b/rows/a: other bytes than its manifest says"):
        small(folder).local(path, shard)
    assert [path for path in folder.iterdir() if path.is_file()] == []
