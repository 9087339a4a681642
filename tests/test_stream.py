"""The stream: the same rows on any hosts, from any start, and no silent end to damaged files."""

import dataclasses
import gc
import os
from pathlib import Path
import subprocess
import sys
import threading
import time

from etils import epath
from hand_tokenizer import make
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import object_store
import pytest

from lrl_jax.data.feed import stream as streams
from lrl_jax.data.feed.plan import Plan, PlanStage
from lrl_jax.data.feed.stream import NO_ROW, Files, Stream
from lrl_jax.data.pack import jobs, packing, rows
from lrl_jax.recipe import data as recipe_data

ROOT = Path(__file__).parents[1]
T = 12


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Two packed datasets; `ko` has two shards, and no two of its rows are alike."""
    base = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, count in (("ko0", 90), ("ko1", 50), ("en", 40)):
        lines = [" ".join(rng.choice(list("abc"), rng.integers(2, 20))) for _ in range(count)]
        (base / f"{name}.txt").write_text("\n".join(lines))
    patch = pytest.MonkeyPatch()
    patch.setattr("lrl_jax.data.dataset.SHARD_BYTES", 2000)
    data = recipe_data.Data(
        sequence_length=T,
        workers=1,
        datasets={
            name: {"kind": "text", "path": [str(base / f"{name}*.txt")], "language": "kor_Hang"}
            for name in ("ko", "en")
        },
    )
    jobs.prepare_all(data, make(), base / "out")
    patch.undo()
    return {name: Path(folder) for name, folder in packing.folders(base / "out").items()}


@pytest.fixture
def copied(folders, tmp_path) -> dict[str, Path]:
    for name, folder in folders.items():
        (tmp_path / name).mkdir()
        for path in folder.iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    return {name: tmp_path / name for name in folders}


def plan_of(folders: dict[str, Path], total: int = 480) -> Plan:
    manifests = {name: rows.read_manifest(folder) for name, folder in folders.items()}
    return Plan(
        {name: m.rows for name, m in manifests.items()},
        (
            PlanStage("a", total // 2, {"ko": 1}),
            PlanStage("b", total - total // 2, {"ko": 1, "en": 2}),
        ),
        fingerprints={name: m.fingerprint for name, m in manifests.items()},
    )


def everything(folders: dict[str, Path], batch_size: int, total: int = 480) -> dict:
    stream = Stream(folders, plan_of(folders, total), batch_size)
    found = [stream.batch_at(g) for g in range(0, total - batch_size + 1, batch_size)]
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


def test_a_batch_is_the_rows_the_plan_says(folders):
    plan = plan_of(folders)
    stream = Stream(folders, plan, 6)
    datasets, row_ids = plan(np.arange(300, 306))
    assert set(datasets.tolist()) == {0, 1}
    for b, (dataset, row_id) in enumerate(zip(datasets, row_ids, strict=True)):
        name = plan.names[dataset]
        row = Files(folders[name], stream.manifests[name]).read(np.array([row_id]))[0]
        want = rows.features([row], T, 1, 2)
        for key, array in stream.batch_at(300).items():
            assert array[b].tolist() == want[key][0].tolist()
    assert stream.dataset_ids(300).tolist() == datasets.tolist()


def test_an_epoch_reads_every_token_once(folders):
    manifest = rows.read_manifest(folders["ko"])
    assert len(manifest.shards) == 2
    stream = Stream(folders, plan_of(folders), 1)
    epoch = [stream.batch_at(g) for g in range(manifest.rows)]
    assert sum(int((b["decoder_segment_ids"] > 0).sum()) for b in epoch) == manifest.tokens
    assert sum(int(b["decoder_loss_weights"].sum()) for b in epoch) == manifest.loss_tokens


@given(
    hosts=st.integers(1, 16), share=st.integers(1, 4), at=st.integers(0, 416), left=st.floats(0, 1)
)
@settings(max_examples=25, deadline=None)
def test_any_number_of_hosts_and_any_batch_size_see_the_same_rows(folders, hosts, share, at, left):
    """So do batches at the end of a stage, which are filled up with padding."""
    plan, size = plan_of(folders), hosts * share
    count = max(1, round(left * size))
    want = [Stream(folders, plan, 1).batch_at(g) for g in range(at, at + count)]
    want.append(rows.features([NO_ROW] * (size - count), T, 1, 2))
    parts = np.array_split(np.arange(size), hosts)
    got = [Stream(folders, plan, size, mine).batch_at(at, count) for mine in parts]
    for key in want[0]:
        assert got[0][key].shape == (share, T)
        rows_got, rows_want = (np.concatenate([one[key] for one in all_]) for all_ in (got, want))
        assert np.array_equal(rows_got, rows_want)


@given(start=st.integers(0, 50), batch_size=st.sampled_from([1, 3, 8]))
@settings(max_examples=20, deadline=None)
def test_seeking_is_replaying(folders, start, batch_size):
    whole = everything(folders, 1)
    with Stream(folders, plan_of(folders), batch_size).prefetch(start) as batches:
        for _ in range(2):
            g, batch = next(batches)
            for key in whole:
                assert np.array_equal(batch[key], whole[key][g : g + batch_size])


def test_another_batch_size_goes_on_without_loss(folders):
    small, large = Stream(folders, plan_of(folders), 8), Stream(folders, plan_of(folders), 16)
    got = [small.batch_at(g) for g in range(0, 80, 8)]
    got += [large.batch_at(g) for g in range(80, 480, 16)]
    want = everything(folders, 1)
    for key in want:
        assert np.array_equal(np.concatenate([batch[key] for batch in got]), want[key])


def test_prefetch_gives_every_batch_in_order_and_then_ends(folders):
    stream = Stream(folders, plan_of(folders, 100), 8)
    with stream.prefetch(16) as batches:
        assert [g for g, _ in batches] == [*range(16, 88, 8), 88, 94]  # the last two share 12 rows
        with pytest.raises(StopIteration):
            next(batches)


def test_batches_keep_their_order_whichever_thread_is_first(folders, monkeypatch):
    stream = Stream(folders, plan_of(folders), 8)
    read, threads = stream.batch_at, set()

    def slow_at_first(g, count):
        threads.add(threading.get_ident())
        time.sleep(0.05 if g % 16 == 0 else 0)
        return read(g, count)

    monkeypatch.setattr(stream, "batch_at", slow_at_first)
    with stream.prefetch(0, threads=3) as batches:
        got = list(batches)
    assert [g for g, _ in got] == list(range(0, 480, 8))
    assert len(threads) == 3
    for g, batch in got[:6]:
        assert np.array_equal(batch["decoder_target_tokens"], read(g)["decoder_target_tokens"])


def test_prefetch_measures_how_long_training_waits(folders, monkeypatch):
    stream = Stream(folders, plan_of(folders), 8)
    read = stream.batch_at
    monkeypatch.setattr(stream, "batch_at", lambda g, count: (time.sleep(0.05), read(g, count))[1])
    with stream.prefetch(0) as batches:
        next(batches)
        assert batches.waited >= 0.04
        time.sleep(0.3)  # the next batches are ready by now
        next(batches)
        assert batches.waited < 0.04


def test_closing_stops_the_threads_that_read(folders):
    batches = Stream(folders, plan_of(folders), 8).prefetch(0)
    next(batches)
    assert any(thread.name.startswith("prefetch") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_an_error_while_reading_reaches_whoever_waits(copied):
    stream = Stream(copied, plan_of(copied), 8)
    shard = stream.manifests["ko"].shards[1]
    whole = (copied["ko"] / shard.file).read_bytes()
    stream.batch_at(0)
    middle = whole.index(whole[200:216])  # inside the first rows
    damaged = whole[:middle] + bytes(16) + whole[middle + 16 :]
    (copied["ko"] / shard.file).write_bytes(damaged)
    with (
        pytest.raises(ValueError, match=rf"{shard.file}.*damaged.*run `lrl data` again"),
        Stream(copied, plan_of(copied), 8).prefetch(0) as batches,
    ):
        list(batches)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("cut", r"rows-00001-of-00002\.array_record: has 1000 bytes, its manifest says"),
        ("remove", r"rows-00001-of-00002\.array_record: no such file, but its manifest names it"),
        ("swap", r"rows-00001-of-00002\.array_record: has \d+ rows, its manifest says"),
    ],
)
def test_a_shard_that_is_not_whole_is_named(copied, damage, why):
    manifest = rows.read_manifest(copied["ko"])
    first, second = (copied["ko"] / shard.file for shard in manifest.shards)
    if damage == "cut":
        second.write_bytes(second.read_bytes()[:1000])
    elif damage == "remove":
        second.unlink()
    else:
        second.write_bytes(first.read_bytes())
        shards = (
            manifest.shards[0],
            dataclasses.replace(manifest.shards[1], bytes=first.stat().st_size),
        )
        rows.write_manifest(dataclasses.replace(manifest, shards=shards), epath.Path(copied["ko"]))
    with pytest.raises(ValueError, match=why):
        Stream(copied, plan_of(folders=copied), 8).batch_at(0)


def test_data_that_does_not_fit_the_plan_is_refused(folders):
    plan = plan_of(folders)
    wrong = dataclasses.replace(plan, sizes={**plan.sizes, "en": 5})
    with pytest.raises(ValueError, match=r"'en' has \d+ rows, the plan says 5"):
        Stream(folders, wrong, 8)
    anew = dataclasses.replace(plan, fingerprints={"ko": "other"})
    with pytest.raises(ValueError, match="'ko' was packed anew"):
        Stream(folders, anew, 8)
    with pytest.raises(ValueError, match="the plan reads en, which has no folder"):
        Stream({"ko": folders["ko"]}, plan, 8)


def test_datasets_packed_differently_are_refused(copied):
    manifest = rows.read_manifest(copied["en"])
    other = dataclasses.replace(manifest, sequence_length=99)
    rows.write_manifest(other, epath.Path(copied["en"]))
    with pytest.raises(ValueError, match="'en' was packed with sequence_length 99, 'ko' with 12"):
        Stream(copied, plan_of(copied), 8)


def test_rows_on_an_object_store_are_those_on_a_disk(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("lrl_jax.data.feed.cache.FOLDER", tmp_path / "cache")
    want = everything(folders, 6)
    with object_store.mounted(tmp_path / "store"):
        remote = {name: f"gs://bucket/{name}" for name in folders}
        for name, folder in folders.items():
            for path in folder.iterdir():
                epath.Path(f"{remote[name]}/{path.name}").write_bytes(path.read_bytes())
        got = everything(remote, 6)
        with pytest.raises(ValueError, match=r"data\.cache_gib"):
            Stream(remote, plan_of(remote), 6, cache_gib=1e-9)
        for name in folders:
            epath.Path(remote[name]).rmtree()
            manifest = (folders[name] / "manifest.json").read_bytes()
            epath.Path(f"{remote[name]}/manifest.json").write_bytes(manifest)
        again = everything(remote, 6)  # of the copies alone
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)
        np.testing.assert_array_equal(again[name], array)


def test_a_dataset_with_an_order_is_read_in_it_every_epoch(copied):
    manifest = dataclasses.replace(rows.read_manifest(copied["en"]), order="length")
    order = np.arange(manifest.rows)[::-1]
    np.save(copied["en"] / rows.ORDER, order)
    rows.write_manifest(manifest, epath.Path(copied["en"]))
    plan = dataclasses.replace(
        plan_of(copied), stages=(PlanStage("s", 3 * manifest.rows, {"en": 1}),), ordered=("en",)
    )
    stream = Stream(copied, plan, 1)
    want = Files(copied["en"], manifest).read(order)
    for g in range(plan.total):
        tokens = want[g % manifest.rows].tokens
        got = stream.batch_at(g)["decoder_target_tokens"][0, : len(tokens)]
        assert np.array_equal(got, tokens)


def test_files_are_opened_when_they_are_read_and_few_at_a_time(folders, monkeypatch):
    def handles():
        here = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return sum(os.path.realpath(fd).endswith(".array_record") for fd in here)

    if not Path("/proc/self/fd").exists():
        pytest.skip("open files are counted on Linux only")
    gc.collect()  # what other tests left behind is closed now, not while this one counts
    before = handles()
    monkeypatch.setattr(streams, "OPEN", 2)
    stream = Stream(folders, plan_of(folders), 8)
    assert handles() == before
    for g in range(240, 480, 8):  # three files
        stream.batch_at(g)
    assert handles() == before + 2


def test_reading_needs_no_tensorflow_seqio_or_jax():
    code = (
        "import sys, lrl_jax.data.feed.stream, lrl_jax.data.feed.show, lrl_jax.data.pack.packing; "
        "print(sorted({'tensorflow', 'seqio', 'jax', 'torch'} & set(sys.modules)))"
    )
    got = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert got.stdout == "[]\n"
