"""Whole datasets: the same bytes every time, whole or not there, and nothing done twice."""

from dataclasses import replace
import hashlib
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from hand_tokenizer import make
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from lrl_jax import storage
from lrl_jax.data.feed.stream import Files
from lrl_jax.data.pack import jobs, packed, progress, rows, workers
from lrl_jax.data.pack import packing as pack
from lrl_jax.data.read import files
from lrl_jax.data.templates import table as templates
from lrl_jax.recipe import data as recipe_data
from lrl_jax.vocab.tokenizer.codecs import SentencePieceCodec

ROOT = Path(__file__).parents[1]
ID_0 = ("\u2581d",)


def dataset_of(*paths: Path | str, **changes) -> dict:
    path = [str(path) for path in paths]
    return {"kind": "text", "path": path, "language": "kor_Hang"} | changes


def data_of(*paths: Path | str, **changes) -> recipe_data.Data:
    values = {"sequence_length": 8, "datasets": {"d": dataset_of(*paths)}, "workers": 1}
    return recipe_data.Data(**values | changes)


def prepare(data: recipe_data.Data, out: Path) -> rows.Manifest:
    return jobs.prepare_all(data, make(), out)["d"]


def three_ways(corpus):
    """A corpus as it is, sifted, and sorted: what a runner must leave as this machine does."""
    datasets = {
        "plain": dataset_of(corpus),
        "sifted": dataset_of(corpus, take=150, filters={"duplicates": "near", "min_chars": 2}),
        "sorted": dataset_of(corpus, order="length"),
    }
    return data_of(datasets=datasets)


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder by the digest of its bytes; notes of times are left out."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".json" and path.name.startswith("rows-"):
            facts = json.loads(content)
            facts.pop("source")
            content = json.dumps(facts).encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def read(out: Path, name: str = "d") -> list[rows.PackedRow]:
    folder = pack.folders(out)[name]
    manifest = rows.read_manifest(folder)
    order = rows.read_order(folder, manifest)
    return Files(folder, manifest).read(np.arange(manifest.rows) if order is None else order)


def lengths(found: list[rows.PackedRow]) -> list[int]:
    return [length for row in found for length in row.lengths.tolist()]


@pytest.fixture
def text(tmp_path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("a b\nc\n\nb b a c a b c a c b\n")
    return path


@pytest.fixture
def small_shards(monkeypatch) -> None:
    """Shards of about 400 bytes."""
    monkeypatch.setattr("lrl_jax.data.dataset.SHARD_BYTES", 400)


@pytest.fixture
def corpus(tmp_path, small_shards) -> Path:
    """200 documents; document i has i % 9 + 1 letters."""
    path = tmp_path / "corpus.txt"
    path.write_text(
        "".join(" ".join("abc"[j % 3] for j in range(i % 9 + 1)) + "\n" for i in range(200))
    )
    return path


# ---------------------------------------------------------------------------- manifests
def test_the_manifest_says_what_was_packed(text, tmp_path):
    got = prepare(data_of(text), tmp_path / "out")
    counts = (got.records, got.docs, got.distinct, got.left_out, got.bytes)
    assert counts == (3, 3, 3, {}, len("a b") + len("c") + len("b b a c a b c a c b"))
    assert (got.tokens, got.loss_tokens, got.cut, got.rows) == (16, 16, 0, 2)
    assert (got.language, got.template, got.order) == ("kor_Hang", "plain", "shuffled")
    assert (got.bos_id, got.pad_id, got.scripts, got.fill) == (1, 2, {"Latn": 13}, 1.0)
    folder = pack.folders(tmp_path / "out")["d"]
    assert folder == pack.epath.Path(tmp_path / "out/d" / got.fingerprint[:16])
    assert rows.read_manifest(folder) == got


def test_fields_that_are_not_read_are_in_the_manifest(tmp_path, monkeypatch):
    monkeypatch.setattr("lrl_jax.data.dataset.SHARD_BYTES", 40)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "a", "id": {i}}}\n' for i in range(10)))
    got = prepare(data_of(path), tmp_path / "out")
    assert len(got.shards) > 3
    assert (got.source_rows, got.unread, got.absent) == (10, {"id": 10}, {})
    columns = {"columns": {"prompt": "q", "completion": "text"}, "filters": {"bad": "drop"}}
    asked = dataset_of(path, kind="completion", **columns)
    with pytest.raises(ValueError, match=r"'d': columns: {prompt: q}: no row of 10 has .* 'q'"):
        prepare(data_of(datasets={"d": asked}), tmp_path / "out")


def test_a_manifest_of_before_is_read(text, tmp_path):
    got = prepare(data_of(text), tmp_path / "out")
    path = pack.folders(tmp_path / "out")["d"] / rows.MANIFEST
    fields = json.loads(path.read_text())
    for name in ("beyond", "source_rows", "unread", "absent"):
        del fields[name]
    path.write_text(json.dumps(fields))
    assert prepare(data_of(text), tmp_path / "out").fingerprint == got.fingerprint
    assert json.loads(path.read_text()) == fields  # it was not packed again


def test_what_is_left_out_is_counted_over_shards_and_shown(corpus, tmp_path):
    one = dataset_of(corpus, filters={"min_chars": 3})
    got = prepare(data_of(datasets={"d": one}), tmp_path / "out")
    assert len(got.shards) > 3
    short = sum(i % 9 == 0 for i in range(200))
    assert (got.records, got.left_out, got.docs) == (200, {"too short": short}, 200 - short)
    assert got.distinct == 8
    samples = json.loads((pack.folders(tmp_path / "out")["d"] / rows.SAMPLES).read_text())
    assert samples == {"too short": ["a", "a", "a"]}


@pytest.mark.parametrize("shards", [1, 4])
def test_copies_are_left_out_wherever_they_lie(tmp_path, monkeypatch, shards):
    lines = [f"{' '.join('abc'[int(d)] for d in np.base_repr(i, 3))}\n" for i in range(1, 81)]
    text = "".join(lines) + lines[70] + lines[2] + lines[2]
    (tmp_path / "t.txt").write_text(text)
    monkeypatch.setattr("lrl_jax.data.dataset.SHARD_BYTES", len(text) // shards + 1)
    one = dataset_of(tmp_path / "t.txt", filters={"duplicates": "exact"})
    got = prepare(data_of(datasets={"d": one}), tmp_path / "out")
    assert len(got.shards) == shards
    assert (got.records, got.docs, got.distinct) == (83, 80, 80)
    assert got.left_out == {"duplicate": 3}
    left = [path.name for path in pack.folders(tmp_path / "out")["d"].iterdir()]
    assert not [name for name in left if "survey" in name or "copies" in name]


@pytest.mark.parametrize("take", [1, 30, 200, 999])
@pytest.mark.parametrize("duplicates", ["keep", "exact"])
def test_take_counts_over_all_shards(corpus, tmp_path, take, duplicates):
    one = dataset_of(corpus, take=take, order="file", filters={"duplicates": duplicates})
    got = prepare(data_of(datasets={"d": one}), tmp_path / "out")
    want = [i % 9 + 2 for i in range(200)]  # letters and eos
    if duplicates == "exact":
        want = want[:9]
    want = want[:take]
    pieces = [part for n in want for part in ([8, n - 8] if n > 8 else [n])]
    assert got.docs == len(want)
    assert lengths(read(tmp_path / "out")) == pieces


# ---------------------------------------------------------------------------- order
def test_file_order_is_that_of_the_text_over_shards(corpus, tmp_path):
    data = data_of(datasets={"d": dataset_of(corpus, order="file")}, sequence_length=10)
    got = prepare(data, tmp_path / "out")
    assert len(got.shards) > 3
    assert lengths(read(tmp_path / "out")) == [i % 9 + 2 for i in range(200)]


def test_length_order_has_shorter_documents_first_over_shards(corpus, tmp_path):
    data = data_of(datasets={"d": dataset_of(corpus, order="length")}, sequence_length=10)
    got = prepare(data, tmp_path / "out")
    assert len(got.shards) > 3
    found = read(tmp_path / "out")
    longest = [int(row.lengths.max()) for row in found]
    assert longest == sorted(longest)
    assert sorted(lengths(found)) == sorted(i % 9 + 2 for i in range(200))


# ---------------------------------------------------------------------------- the same bytes
@given(
    texts=st.lists(st.lists(st.text("ab c", min_size=1, max_size=30), max_size=30), max_size=4),
    packing=st.sampled_from(["best_fit", "concatenate", "none"]),
    order=st.sampled_from(["shuffled", "file", "length"]),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_dataset_holds_every_token_of_its_text(tmp_path, small_shards, texts, packing, order):
    texts = [["a b"], *texts]
    paths = []
    for i, lines in enumerate(texts):
        paths.append(tmp_path / f"{i}.txt")
        paths[-1].write_text("".join(f"{line}\n" for line in [*lines, "c"]))
    data = data_of(datasets={"d": dataset_of(*paths, order=order)}, packing=packing, pack_window=5)
    got = prepare(data, tmp_path / "out")
    tokenizer = make()
    lines = [line for lines in texts for line in [*lines, "c"] if line.strip()]
    want = sorted(i for ids in tokenizer.encode_batch(lines) for i in [*ids, tokenizer.eos_id])
    found = read(tmp_path / "out")
    assert sorted(token for row in found for token in row.tokens.tolist()) == want
    assert (got.docs, got.tokens, got.cut) == (len(lines), len(want), 0)


def test_any_number_of_workers_gives_the_same_bytes(corpus, tmp_path):
    datasets = {
        "plain": dataset_of(corpus),
        "sifted": dataset_of(corpus, take=150, filters={"duplicates": "near", "min_chars": 2}),
        "sorted": dataset_of(corpus, order="length"),
    }
    for count in (1, 2, 3):
        data = data_of(datasets=datasets, workers=count)
        jobs.prepare_all(data, make(), tmp_path / f"{count}")
    one = tree(tmp_path / "1")
    assert len(one) > 30
    assert tree(tmp_path / "2") == tree(tmp_path / "3") == one


def test_what_is_packed_is_not_packed_again_and_moved_text_is_unchanged(text, tmp_path):
    out = tmp_path / "out"
    before = prepare(data_of(text), out)
    stamps = [path.stat().st_mtime_ns for path in sorted(out.glob("d/*/*"))]
    moved = text.rename(tmp_path / "moved.txt")
    assert prepare(data_of(moved), out) == before
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("d/*/*"))] == stamps


def test_every_input_moves_the_fingerprint(text, tmp_path):
    def mark(data: recipe_data.Data, tokenizer=None) -> str:
        return jobs.fingerprint(data, "d", tokenizer or make())

    other = tmp_path / "other.txt"
    other.write_text("a b\n")
    base = mark(data_of(text))
    assert mark(data_of(text, workers=9)) == base
    assert mark(data_of(datasets={"d": dataset_of(text, max_epochs=2)})) == base
    changed = [
        mark(data_of(other)),
        mark(data_of(text, sequence_length=9)),
        mark(data_of(text, pack_window=65)),
        mark(data_of(text, packing="none")),
        mark(data_of(text, long_documents="drop")),
        mark(data_of(text, long_answers="drop")),
        mark(data_of(datasets={"d": dataset_of(text, take=2)})),
        mark(data_of(datasets={"d": dataset_of(text, order="file")})),
        mark(data_of(datasets={"d": dataset_of(text, filters={"min_chars": 2})})),
        mark(data_of(text), make(ID_0)),
    ]
    assert len({base, *changed}) == 11


def test_the_content_of_rows_does_not_depend_on_the_name_of_their_language(text, tmp_path):
    def made(name, data):
        return prepare(data, tmp_path / name)

    def named(language):
        return data_of(datasets={"d": dataset_of(text, language=language)})

    base = made("base", named("eng_Latn"))
    renamed = made("renamed", named("kor_Hang"))
    assert renamed.content == base.content != ""
    assert renamed.fingerprint != base.fingerprint
    other = tmp_path / "other.txt"
    other.write_text("b a\n")
    changed = [
        made("other", data_of(other)).content,
        made("longer", data_of(text, sequence_length=9)).content,
        made("ordered", data_of(datasets={"d": dataset_of(text, order="length")})).content,
    ]
    assert len({base.content, *changed}) == 4
    assert replace(base, shards=()).content == ""


def test_a_template_that_writes_otherwise_moves_the_fingerprint(text, monkeypatch):
    before = jobs.fingerprint(data_of(text), "d", make())
    monkeypatch.setitem(
        templates.TEMPLATES, "plain", lambda record: [templates.TextPart(record["text"] + " ", 1)]
    )
    assert jobs.fingerprint(data_of(text), "d", make()) != before


def test_the_new_rows_take_the_place_of_the_old_when_they_are_whole(text, tmp_path):
    out = tmp_path / "out"
    prepare(data_of(text), out)
    before = pack.folders(out)
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"a b\n\xff\n")
    with pytest.raises(ValueError, match=r"bad\.txt:2: not UTF-8"):
        prepare(data_of(bad), out)
    assert pack.folders(out) == before
    assert rows.read_manifest(before["d"]).docs == 3
    bad.write_text("a b\n")
    prepare(data_of(bad), out)
    (now,) = (out / "d").iterdir()
    assert pack.folders(out)["d"] == pack.epath.Path(now) != before["d"]


# ---------------------------------------------------------------------------- damage
@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "manifest", "order", "note"])
def test_only_the_damaged_shard_is_packed_again(corpus, tmp_path, damage):
    out = tmp_path / "out"
    data = data_of(datasets={"d": dataset_of(corpus, order="length")})
    manifest = prepare(data, out)
    folder = Path(pack.folders(out)["d"])
    want = tree(out)
    path = folder / manifest.shards[1].file
    content = path.read_bytes()
    old = {path.name: path.stat().st_mtime_ns for path in folder.glob("rows-*")}
    if damage == "cut":
        path.write_bytes(content[:100])
    elif damage == "flip":
        path.write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:])
    elif damage == "remove":
        path.unlink()
    elif damage == "manifest":
        (folder / rows.MANIFEST).write_text("{}")
    elif damage == "order":
        (folder / rows.ORDER).write_bytes(b"")
    else:
        path.unlink()
        path.with_suffix(".json").write_text("{")
    assert prepare(data, out) == manifest
    assert tree(out) == want
    new = {path.name for path in folder.glob("rows-*") if path.stat().st_mtime_ns != old[path.name]}
    stem = path.name.removesuffix(".array_record")
    assert all(name.startswith(stem) for name in new)


def test_a_dataset_that_is_mended_does_not_look_whole_meanwhile(text, tmp_path, monkeypatch):
    before = prepare(data_of(text), tmp_path / "out")
    folder = Path(pack.folders(tmp_path / "out")["d"])
    (folder / before.shards[0].file).write_bytes(b"half")
    monkeypatch.setattr(pack, "pack_shard", lambda *args: sys.exit("killed"))
    with pytest.raises(SystemExit):
        prepare(data_of(text), tmp_path / "out")
    with pytest.raises(ValueError, match="run `lrl data` to pack this dataset"):
        rows.read_manifest(folder)


def test_text_that_changes_while_it_is_packed_is_noticed(text, tmp_path, monkeypatch):
    pack_shard = pack.pack_shard

    def slow(*args) -> pack.Packed:
        done = pack_shard(*args)
        text.write_text("c\n")
        return done

    monkeypatch.setattr(pack, "pack_shard", slow)
    with pytest.raises(ValueError, match=r"dataset 'd': its text changed while it was packed"):
        prepare(data_of(text), tmp_path / "out")
    assert not list((tmp_path / "out").rglob(rows.MANIFEST))


def test_shards_of_text_that_was_other_then_are_not_taken(text, tmp_path, monkeypatch):
    content = text.read_text()
    monkeypatch.setattr(jobs, "_finish", lambda *args: sys.exit("killed"))
    with pytest.raises(SystemExit):
        prepare(data_of(text), tmp_path / "out")
    monkeypatch.undo()
    (job,) = jobs.target_of(data_of(text), "d", make(), pack.epath.Path(tmp_path / "out")).jobs
    assert packed.whole(job)
    text.write_text(content.upper())
    text.write_text(content)
    assert not packed.whole(job)


def test_unfinished_files_of_a_killed_preparation_are_removed(text, tmp_path):
    out = tmp_path / "out"
    prepare(data_of(text), out)
    want = tree(out)
    folder = Path(pack.folders(out)["d"])
    (folder / rows.MANIFEST).unlink()
    (folder / f"rows-00000-of-00001.array_record.abc{storage.PARTIAL}").write_bytes(b"half")
    prepare(data_of(text), out)
    assert tree(out) == want


def test_notes_that_a_kill_left_beside_whole_rows_are_removed(text, tmp_path, monkeypatch):
    data = data_of(datasets={"d": dataset_of(text, filters={"duplicates": "exact"})})

    def killed(folder, current):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_publish", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(data, tmp_path / "out")
    assert [*(tmp_path / "out").rglob("*.survey.npy")]
    for out in ("out", "whole"):
        prepare(data, tmp_path / out)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert not [*(tmp_path / "out").rglob("*.survey.npy")]


# ---------------------------------------------------------------------------- bad input
def test_everything_left_out_is_an_error_with_the_counts(text, tmp_path):
    one = dataset_of(text, filters={"min_chars": 99})
    with pytest.raises(ValueError, match=r"dataset 'd' has no record left of 3 \(3 too short\)"):
        prepare(data_of(datasets={"d": one}), tmp_path / "out")


def test_nothing_but_documents_that_are_too_long_is_an_error_with_the_counts(text, tmp_path):
    data = data_of(text, sequence_length=1, long_documents="drop")
    with pytest.raises(ValueError, match=r"no record left of 3 \(3 longer than a row\)"):
        prepare(data, tmp_path / "out")


def test_a_template_that_trains_nothing_is_an_error_with_its_dataset(text, tmp_path, monkeypatch):
    monkeypatch.setitem(
        templates.TEMPLATES, "plain", lambda record: [templates.TextPart(record["text"], 0)]
    )
    with pytest.raises(
        ValueError, match="dataset 'd': template 'plain' trains on none of its text"
    ):
        prepare(data_of(text), tmp_path / "out")


def test_an_error_in_a_worker_names_dataset_file_and_line(text, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"a\n\xff\n")
    datasets = {"good": dataset_of(text), "bad": dataset_of(bad)}
    with pytest.raises(ValueError, match=r"dataset 'bad': .*bad\.txt:2: not UTF-8") as got:
        jobs.prepare_all(data_of(datasets=datasets, workers=2), make(), tmp_path / "out")
    assert got.value.exit_code == 3
    assert len(list((tmp_path / "out/good").glob("*/rows-*.json"))) <= 1
    assert not list((tmp_path / "out/bad").rglob(rows.MANIFEST))


def test_a_worker_takes_its_share_of_the_cores_and_no_more(text, tmp_path):
    (job,) = jobs.target_of(data_of(text), "d", make(), pack.epath.Path(tmp_path)).jobs
    list(workers.local(2)(_count_threads, [job, job], lambda docs: None))
    want = str(max(1, workers.cores() // 2))
    assert Path(job.folder).with_suffix(".threads").read_text() == f"{want} {want}"


def _count_threads(job: pack.ShardJob, tick: pack.Tick) -> None:
    found = f"{os.environ['RAYON_NUM_THREADS']} {SentencePieceCodec.threads}"
    path = Path(job.folder).with_suffix(".threads")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found)


def _eat(job: pack.ShardJob, tick: pack.Tick) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_killed_for_memory_says_what_to_lower(text, tmp_path):
    (job,) = jobs.target_of(data_of(text), "d", make(), pack.epath.Path(tmp_path)).jobs
    with pytest.raises(ValueError, match=r"lower data\.workers \(now 2\) or data\.pack_window"):
        list(workers.local(2)(_eat, [job, job], lambda docs: None))


def _is_first(job: pack.ShardJob) -> bool:
    first = Path(job.folder).with_suffix(".first")
    first.parent.mkdir(parents=True, exist_ok=True)
    try:
        first.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _eat_beside_one_that_is_idle(job: pack.ShardJob, tick: pack.Tick) -> None:
    if not _is_first(job):
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.timeout(60)  # Python 3.12 waited for ever
def test_a_killed_worker_leaves_no_other_waiting_for_ever(text, tmp_path):
    (job,) = jobs.target_of(data_of(text), "d", make(), pack.epath.Path(tmp_path)).jobs
    with pytest.raises(ValueError, match="a process was killed"):
        list(workers.local(2)(_eat_beside_one_that_is_idle, [job, job], lambda docs: None))


def test_workers_do_not_wait_for_one_another_when_one_fails(corpus, tmp_path):
    """The others stop at their next batch, not at the end of their shard."""
    (job,) = jobs.target_of(data_of(corpus), "d", make(), pack.epath.Path(tmp_path)).jobs[:1]
    start = time.monotonic()
    with pytest.raises(ValueError, match="fails"):
        list(workers.local(2)(_fail_or_go_on, [job] * 2, lambda docs: None))
    assert time.monotonic() - start < 30


def _fail_or_go_on(job: pack.ShardJob, tick: pack.Tick) -> None:
    if not _is_first(job):
        raise ValueError("fails")
    for _ in range(600):
        tick(1)
        time.sleep(0.1)


# ---------------------------------------------------------------------------- progress
def test_progress_counts_shards_documents_and_bytes(corpus, tmp_path):
    states: list[progress.State] = []
    jobs.prepare_all(data_of(corpus), make(), tmp_path / "out", states.append)
    last = states[-1]
    assert (last.step, last.dataset, last.done, last.documents) == ("pack", "d", last.shards, 200)
    assert last.bytes == last.size <= corpus.stat().st_size
    assert last.shards == rows.read_manifest(pack.folders(tmp_path / "out")["d"]).shards.__len__()


def test_a_log_has_a_line_now_and_then_and_the_last():
    said: list[str] = []
    now = [0.0]
    report = progress.logged(said.append, lambda: now[0])
    for done in range(1, 96):
        now[0] = float(done)
        bytes_ = 2_000_000 * done
        report(progress.State("pack", "web", done, 95, 50 * done, bytes_, 190_000_000, now[0]))
    assert len(said) == 10
    assert said[0] == (
        "data: pack web, 10 of 95 shards, 500 documents (50/s), 2.0 MB/s, 0:01:25 left"
    )
    assert said[-1] == "data: pack web, 95 of 95 shards, 4,750 documents (50/s), 2.0 MB/s"


# ---------------------------------------------------------------------------- processes
SCRIPT = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from hand_tokenizer import make
from lrl_jax.recipe import data as recipe_data
from lrl_jax.data.pack import jobs
from lrl_jax.data import dataset as datasets
if __name__ == "__main__":
    data = recipe_data.Data.model_validate_json({data!r})
    datasets.SHARD_BYTES = 4000
    jobs.prepare_all(data, make(), {out!r})
    print(sorted({{"tensorflow", "seqio", "jax"}} & set(sys.modules)))
"""


def script(folder: Path, data: recipe_data.Data, out: Path) -> list[str]:
    path = folder / "script.py"
    path.write_text(
        SCRIPT.format(
            root=str(ROOT), tests=str(ROOT / "tests"), data=data.model_dump_json(), out=str(out)
        )
    )
    return [sys.executable, str(path)]


def test_packing_needs_no_tensorflow_and_no_jax(text, tmp_path):
    for count in (1, 2):
        data = data_of(datasets={n: dataset_of(text) for n in "de"}, workers=count)
        command = script(tmp_path, data, tmp_path / f"out{count}")
        got = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
        assert got.stdout == "[]\n"
        assert got.stderr == ""


@pytest.mark.slow
def test_a_preparation_killed_anywhere_goes_on_to_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        lines = (" ".join(rng.choice([*"abc"], rng.integers(1, 40))) for _ in range(3000))
        (tmp_path / f"{i}.txt").write_text("\n".join(lines))
    datasets = {
        "plain": dataset_of(tmp_path / "0.txt"),
        "sifted": dataset_of(tmp_path / "1.txt", filters={"duplicates": "exact"}),
        "sorted": dataset_of(tmp_path / "2.txt", order="length"),
    }
    data = data_of(datasets=datasets, workers=2, sequence_length=64)
    start = time.monotonic()
    subprocess.run(script(tmp_path, data, tmp_path / "want"), check=True, timeout=200)
    whole = time.monotonic() - start
    command = script(tmp_path, data, tmp_path / "got")
    for share in rng.uniform(0.2, 0.9, 8):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(whole * share)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for manifest in (tmp_path / "got").rglob(rows.MANIFEST):
            found = rows.read_manifest(manifest.parent)
            Files(manifest.parent, found).read(np.arange(found.rows))  # what looks whole is whole
    subprocess.run(command, check=True, timeout=200)
    assert tree(tmp_path / "got") == tree(tmp_path / "want")
    assert not list((tmp_path / "got").rglob(f"*{storage.PARTIAL}"))


def test_a_worker_ends_with_its_killed_parent(text, tmp_path):
    code = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import test_jobs
from lrl_jax.data.pack import jobs, packing, workers
if __name__ == "__main__":
    data = test_jobs.data_of({str(text)!r})
    (job,) = jobs.target_of(data, "d", test_jobs.make(), packing.epath.Path({str(tmp_path)!r})).jobs
    list(workers.local(2)(test_jobs._sleep, [job, job], lambda docs: None))
"""
    path = tmp_path / "parent.py"
    path.write_text(code)
    process = subprocess.Popen([sys.executable, str(path)])
    pids = []
    for _ in range(300):
        pids = [int(one.suffix[1:]) for one in tmp_path.glob("worker.*")]
        if len(pids) == 2:
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert len(pids) == 2
    for _ in range(100):
        if not any(map(_alive, pids)):
            return
        time.sleep(0.1)
    raise AssertionError("a worker outlived its parent")


def _sleep(job: pack.ShardJob, tick: pack.Tick) -> None:
    (Path(job.folder).parents[1] / f"worker.{os.getpid()}").touch()
    time.sleep(100)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_sizes_of_shards_are_about_those_of_their_text(corpus):
    found = jobs.target_of(data_of(corpus), "d", make(), pack.epath.Path("/nowhere")).jobs
    sizes = jobs.sizes(found)
    assert sum(sizes.values()) == pytest.approx(corpus.stat().st_size, abs=len(found))
    assert files.SHARD_BYTES == 64 << 20
