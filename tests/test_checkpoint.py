"""What is restored is what was saved, on any mesh, or an older step, or an error: never zeros."""

import asyncio
import contextlib
import gc
import json
import resource
import shutil
import subprocess
import sys

import jax
from jax import P
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
import numpy as np
import optax
from orbax.checkpoint._src.serialization import serialization
import pytest

from lrl_jax.train import checkpoint, digest
from lrl_jax.train.checkpoint import CheckpointMismatchError, Checkpoints, VerificationError


def place(fsdp):
    types = (AxisType.Auto,)
    mesh = jax.make_mesh((fsdp,), ("fsdp",), types, devices=jax.devices()[:fsdp])
    return NamedSharding(mesh, P("fsdp")), NamedSharding(mesh, P())


def make(fsdp=2, seed=0):
    """A state of every dtype there is, split over `fsdp` devices."""
    split, whole = place(fsdp)
    rng = np.random.default_rng(seed)
    w = jax.device_put(rng.normal(size=(64, 128)).astype(np.float32), split)
    half = jax.device_put(rng.normal(size=(8, 4)).astype(jnp.bfloat16), split)
    params = {"embed_VD": w, "layers/q_DNH": half}
    state = optax.ScaleByAdamState(jax.device_put(np.int32(seed), whole), {"embed_VD": w}, {})
    return {"params": params, "opt": state, "step": jax.device_put(np.int32(7 + seed), whole)}


def abstract(fsdp=2):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), make(fsdp)
    )


@pytest.fixture
def folder(tmp_path):
    """Steps 1 and 2, with states of seeds 1 and 2."""
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, make(seed=step), {"next_row": 10 * step})
    return tmp_path


def restore(folder, **fields):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(abstract(), **fields)


def assert_is(found, step):
    assert (found.step, found.meta) == (step, {"next_row": 10 * step})
    jax.tree.map(np.testing.assert_array_equal, found.state, make(seed=step))


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_the_newest_step_comes_back_with_its_meta(folder):
    assert_is(restore(folder), 2)


@pytest.mark.parametrize("fsdp", [1, 4, 8])
def test_a_state_moves_to_another_mesh(folder, fsdp):
    with Checkpoints(folder) as checkpoints:
        found = checkpoints.restore(abstract(fsdp))
    assert_is(found, 2)
    assert found.state["params"]["embed_VD"].sharding == place(fsdp)[0]


def test_digests_do_not_depend_on_the_mesh():
    want = digest.describe(make(1))
    assert [digest.describe(make(n)) for n in (2, 8)] == [want, want]


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.int32, np.uint8, bool])
def test_a_digest_sees_every_single_bit_and_every_swap(dtype):
    base = np.arange(1, 7).reshape(2, 3).astype(dtype)
    seen = {digest.describe({"x": jnp.asarray(base)})["x"]["digest"]}
    if dtype is not bool:
        seen.add(digest.describe({"x": jnp.asarray(base[::-1])})["x"]["digest"])
    bits = range(base.nbytes * 8) if dtype is not bool else range(0, base.nbytes * 8, 8)
    for bit in bits:
        raw = bytearray(base.tobytes())
        raw[bit // 8] ^= 1 << (bit % 8)
        changed = np.frombuffer(bytes(raw), base.dtype).reshape(2, 3)
        seen.add(digest.describe({"x": jnp.asarray(changed)})["x"]["digest"])
    assert len(seen) == 1 + (dtype is not bool) + len(bits)


def by_hand(x: np.ndarray) -> str:
    """The digest of an array as `describe` explains it, element after element."""
    bits = np.frombuffer(x.tobytes(), f"uint{8 * x.dtype.itemsize}").astype(np.uint32)
    index = np.arange(bits.size, dtype=np.uint32)

    def mixed(n: np.ndarray) -> np.ndarray:
        n = (n ^ (n >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        n = (n ^ (n >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return n ^ (n >> np.uint32(16))

    sums = (bits * (index * np.uint32(2) + np.uint32(1))), mixed(bits ^ mixed(index))
    return "".join(f"{int(part.sum(dtype=np.uint32)):08x}" for part in sums)


@pytest.mark.parametrize("spec", [None, P(), P("a"), P(None, ("b", "a")), P("b", None, "a")])
@pytest.mark.parametrize(("dtype", "block"), [(jnp.bfloat16, 7), (np.float32, 100), (bool, 24)])
def test_a_digest_taken_in_blocks_is_that_of_the_whole(monkeypatch, spec, dtype, block):
    monkeypatch.setattr(digest, "BLOCK", block)
    x = np.random.default_rng(0).normal(size=(6, 8, 4)).astype(dtype)
    mesh = jax.make_mesh((2, 2), ("a", "b"), (AxisType.Auto,) * 2, devices=jax.devices()[:4])
    placed = jax.device_put(x, jax.devices()[1] if spec is None else NamedSharding(mesh, spec))
    assert digest._large(placed) is not None or block == 100
    assert digest.describe({"x": placed, "y": placed[:1, :1, :1]})["x"]["digest"] == by_hand(x)


def test_arrays_may_go_as_soon_as_save_returns(tmp_path):
    state = make(seed=1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {"next_row": 10})
        jax.tree.map(lambda x: x.delete(), state)
    assert_is(restore(tmp_path), 1)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_is_noticed_and_the_step_before_taken(folder, share, caplog):
    path = largest(folder / "2")
    flip(path, int(path.stat().st_size * share))
    assert_is(restore(folder), 1)
    assert "step 2 does not verify" in caplog.text
    assert (folder / "2").exists()


def test_values_that_changed_before_they_were_written_are_named(folder, caplog):
    shutil.rmtree(folder / "2" / "state")
    shutil.copytree(folder / "1" / "state", folder / "2" / "state")
    assert_is(restore(folder), 1)
    assert "values changed since they were saved: opt/count, opt/mu/embed_VD" in caplog.text


def test_reads_that_were_under_way_when_one_failed_say_nothing(folder, monkeypatch):
    read, started, said = serialization._read_shard, [], []

    async def late(**arguments):
        started.append(None)
        await asyncio.sleep(0.03 * len(started))
        return await read(**arguments)

    monkeypatch.setattr(serialization, "_read_shard", late)
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    for path in (folder / "2" / "state").glob("ocdbt.process_*/d/*"):
        path.write_bytes(path.read_bytes()[:99])
    assert_is(restore(folder), 1)
    gc.collect()
    assert not said  # two kilobytes each, which filled the pipe of a process nobody listened to


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_a_truncated_file_is_noticed(folder, keep):
    path = largest(folder / "2")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert_is(restore(folder), 1)


@pytest.mark.parametrize("name", ["state/_METADATA", "state/manifest.ocdbt", "meta/metadata"])
@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_missing_or_garbled_metadata_is_noticed(folder, name, damage):
    path = folder / "2" / name
    path.unlink() if damage == "missing" else path.write_text("{]")
    assert_is(restore(folder), 1)


def test_an_edited_data_position_is_noticed(folder, caplog):
    path = folder / "2" / "meta" / "metadata"
    path.write_text(path.read_text().replace('"next_row": 20', '"next_row": 90'))
    assert json.loads(path.read_text())["body"]["meta"]["next_row"] == 90
    assert_is(restore(folder), 1)
    assert "its metadata changed" in caplog.text


def test_when_no_step_verifies_it_stops_and_never_starts_from_zero(folder):
    for step in ("1", "2"):
        flip(largest(folder / step), 1000)
    with pytest.raises(VerificationError, match=r"step 2: .*\n.*step 1: .*\n.*remove it to start"):
        restore(folder)


def test_with_no_step_there_is_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "never") is None
    (tmp_path / "3").mkdir()
    assert restore(tmp_path) is None


def test_empty_and_stray_folders_are_passed_over(folder, caplog):
    for name in ("5", "lost+found", "7.tmp", ".DS_Store", "9.orbax-checkpoint-tmp"):
        (folder / name).mkdir()
    assert_is(restore(folder), 2)
    assert f"{folder / '5'}: empty or never committed; ignored" in caplog.text


def test_steps_put_aside_can_be_saved_again_and_are_not_deleted(folder):
    (folder / "5").mkdir()
    with Checkpoints(folder, keep=3) as checkpoints:
        checkpoints.put_aside(after=1)
        assert checkpoints.steps() == [1]
        for step in (2, 5):
            checkpoints.save(step, make(seed=step), {"next_row": 10 * step})
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["1", "2", "2.unverified", "5", "5.unverified"]
    assert_is(restore(folder), 5)


def test_only_the_newest_steps_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(step, make(seed=step), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_leftovers_of_a_killed_save_are_removed_by_the_next(folder):
    leftover = folder / "3.orbax-checkpoint-tmp"
    leftover.mkdir()
    (leftover / "part").write_text("x")
    with Checkpoints(folder, keep=3) as checkpoints:
        checkpoints.save(3, make(seed=3), {"next_row": 30})
    assert not leftover.exists()
    assert_is(restore(folder), 3)


KILLED_IN_RENAME = """
import os, sys, time
import jax
jax.config.update("jax_platforms", "cpu")
import numpy as np
from lrl_jax.train.checkpoint import Checkpoints

folder, last = sys.argv[1:]
plain = os.rename

def rename(source, target, **fields):
    if os.fspath(target) == last:
        print("now", flush=True)
        time.sleep(600)
    plain(source, target, **fields)

os.rename = rename
with Checkpoints(folder, keep=3) as checkpoints:
    checkpoints.save(3, {"x": np.ones(9)}, {"next_row": 30})
"""


@pytest.mark.parametrize("last", ["3", "3.orbax-checkpoint-tmp/state"])
def test_a_process_killed_as_it_commits_leaves_no_step(folder, last):
    command = [sys.executable, "-c", KILLED_IN_RENAME, str(folder), str(folder / last)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "now\n"
        child.kill()
    assert (folder / "3.orbax-checkpoint-tmp").exists()
    assert_is(restore(folder), 2)
    with Checkpoints(folder, keep=3) as checkpoints:
        checkpoints.save(3, make(seed=3), {"next_row": 30})
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3"]
    assert_is(restore(folder), 3)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_step_that_was_half_removed_does_no_harm(folder, share):
    files = sorted(path for path in (folder / "1").rglob("*") if path.is_file())
    for path in files[: int(len(files) * share)]:
        path.unlink()
    assert_is(restore(folder), 2)
    with Checkpoints(folder, keep=1) as checkpoints:
        checkpoints.save(3, make(seed=3), {"next_row": 30})
    assert [path.name for path in folder.iterdir()] == ["3"]


def test_a_step_without_the_marks_of_its_commit_counts_where_its_digests_hold(folder):
    for name in ("commit_success.txt", "_CHECKPOINT_METADATA"):
        (folder / "2" / name).unlink()
    assert_is(restore(folder), 2)
    flip(largest(folder / "2"), 1000)
    assert_is(restore(folder), 1)


def test_a_folder_that_was_copied_verifies_where_it_lies_now(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder / "2")
    assert_is(restore(tmp_path / "copy"), 2)


@contextlib.contextmanager
def small_files():
    """No file may grow past 4,096 bytes: writing fails as it does on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_and_wait(checkpoints):
    checkpoints.save(3, make(seed=3), {"next_row": 30})
    checkpoints.wait()


def test_a_save_that_fails_says_so_and_leaves_the_older_steps(folder):
    with Checkpoints(folder, keep=3) as checkpoints:
        want = r"checkpoint 3 was not written: .*65,.* bytes, [\d,]+ are free. Steps kept: 1, 2\."
        with small_files(), pytest.raises(checkpoint.SaveError, match=want):
            save_and_wait(checkpoints)
        assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]
        save_and_wait(checkpoints)
    assert_is(restore(folder), 3)


def test_a_full_disk_is_refused_before_anything_is_written(folder, monkeypatch):
    usage = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with Checkpoints(folder, keep=3) as checkpoints:
        with pytest.raises(checkpoint.SaveError, match=r"No space left.* 1,000 are free"):
            checkpoints.save(3, make(seed=3), {})
        assert checkpoints.steps() == [1, 2]


def test_another_vocabulary_is_refused_and_never_filled_with_zeros(folder):
    target = abstract()
    target["params"]["embed_VD"] = jax.ShapeDtypeStruct(
        (80, 128), jnp.float32, sharding=place(2)[0]
    )
    want = r"params/embed_VD is float32\[64, 128\], this run wants float32\[80, 128\]"
    with Checkpoints(folder) as checkpoints, pytest.raises(CheckpointMismatchError, match=want):
        checkpoints.restore(target)


def test_another_dtype_is_refused_and_nothing_rounded_unasked(folder):
    target = abstract()
    target["params"]["embed_VD"] = jax.ShapeDtypeStruct(
        (64, 128), jnp.bfloat16, sharding=place(2)[0]
    )
    want = r"embed_VD is float32\[64, 128\], this run wants bfloat16\[64, 128\]"
    with Checkpoints(folder) as checkpoints, pytest.raises(CheckpointMismatchError, match=want):
        checkpoints.restore(target)


def test_leaves_that_are_missing_or_too_many_are_refused(folder):
    target = abstract()
    target["params"]["norm_D"] = target["params"].pop("embed_VD")
    want = r"params/norm_D is not in it\n  params/embed_VD is not wanted"
    with Checkpoints(folder) as checkpoints, pytest.raises(CheckpointMismatchError, match=want):
        checkpoints.restore(target)


def test_parameters_alone_can_be_read_from_a_whole_state(folder):
    with Checkpoints(folder) as checkpoints:
        found = checkpoints.restore({"params": abstract()["params"]}, partial=True)
    jax.tree.map(np.testing.assert_array_equal, found.state, {"params": make(seed=2)["params"]})


def test_what_to_restore_may_depend_on_what_was_saved(folder):
    asked = []

    def target(meta):
        asked.append(meta)
        return abstract()

    with Checkpoints(folder) as checkpoints:
        checkpoints.restore(target)
    assert asked == [{"next_row": 20}]
