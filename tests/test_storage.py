"""Files on local disks and object stores: digests, whole writes, lines that are added."""

import json
import re

from etils import epath
from object_store import mounted
import pytest
from test_recipe import MINIMAL
import worker_train as tiny

from lrl_jax import storage, text
from lrl_jax.cli import main
from lrl_jax.pipeline.run import Run, locked
from lrl_jax.recipe import file as recipe_file
from lrl_jax.train import log
from lrl_jax.train.log import Log

FOLDER = "gs://bucket/run/train"


@pytest.fixture
def store(tmp_path):
    with mounted(tmp_path / "store") as store:
        yield store


def names(path):
    folder = epath.Path(path)
    return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


def steps(path=f"{FOLDER}/metrics.jsonl"):
    return [record["step"] for record in log.read(path)]


def train(steps, done=0, total=9, killed=False, folder=FOLDER):
    settings = tiny.settings(steps=total)
    out = Log(folder, settings, done, total, 0.0)
    for step in steps:
        out.step({"step": step, "loss": 1.5}, "")
    if not killed:
        out.__exit__(None, None, None)


# ---------------------------------------------------------------------------- addresses
ODD = {
    "gs://": "'' is not the name of a bucket; want gs://BUCKET/NAME",
    "gs:///runs": "want gs://runs",
    "gs:/bucket/runs": "want gs://bucket/runs",
    "GS://bucket/runs": "want gs://bucket/runs",
    "gs://My_Bucket/runs": "'My_Bucket' is not the name of a bucket",
    "gs://my bucket/runs": "'my bucket' is not the name of a bucket",
    "gs://[a-z]/runs": "is not the name of a bucket",
    "gs://bucket//runs": "has two slashes in a row; want gs://bucket/runs",
    "gs://bucket/a///b": "want gs://bucket/a/b",
    "gs://bucket/../other": "`..` names no folder on an object store",
    "gs://bucket/a/..": "`..` names no folder on an object store",
    "gs://bucket/a\nb": "a line break or another control character",
    "gs://bucket/a\u2028b": "a line break or another control character",
    " gs://bucket/runs": "has a space at an end",
    "gs://bucket/runs ": "has a space at an end",
    "file:///tmp/runs": "file:// cannot be read; want a local path or gs://BUCKET/NAME",
    "ftp://host/runs": "ftp:// cannot be read",
    "https://host/runs": "https:// cannot be read",
    "s3://bucket/x": "s3:// cannot be read; want a local path or gs://BUCKET/NAME",
    "s3:/bucket/x": "s3:// cannot be read",
    "az://bucket/x": "az:// cannot be read",
    "hf://datasets/o/n/a.txt": "a dataset of the hub is named by `hub: {dataset: ORG/NAME}`",
    "https://huggingface.co/org/name": "a model on the hub is named by its id: org/name",
}


@pytest.mark.parametrize("name", ODD)
def test_an_address_that_is_none_is_refused_with_what_is_meant(name):
    with pytest.raises(ValueError, match=f"^{re.escape(repr(name))}: .*{re.escape(ODD[name])}"):
        storage.refuse_odd(name)


@pytest.mark.parametrize(
    "name",
    ["gs://bucket", "gs://bucket/", "gs://bucket/runs/", "gs://b-1.x_y/a b/..c/ \u200c.txt",
     "gs://bucket/part[1]?*.txt", "sample:english", "org/name", "a:/b", "./~/runs", "a~/b",
     "~nobody-of-this-name/x", ""],
)  # fmt: skip
def test_other_names_are_taken_as_they_are(name):
    storage.refuse_odd(name)


@pytest.mark.parametrize("mark", ["*", "?", "["])
def test_nothing_is_written_below_a_name_that_stores_take_for_a_pattern(mark):
    with pytest.raises(ValueError, match=r"may not have \*, \? or \[ in its name"):
        storage.refuse_odd(f"gs://bucket/runs{mark}1", writes=True)
    storage.refuse_odd("gs://bucket/a b", writes=True)


@pytest.mark.parametrize(
    "field", ["folder", "base.model", "vocab.text.0", "data.datasets.ko.path.0"]
)
@pytest.mark.parametrize("name", ["gs:/bucket/x", "gs://bucket/../x", "gs://bucket//x"])
def test_a_recipe_with_such_an_address_is_refused_before_anything_is_done(field, name, tmp_path):
    (tmp_path / "r.yaml").write_text(MINIMAL)
    with pytest.raises(ValueError, match=r"r\.yaml: 'gs:.*(want gs://|`\.\.` names no folder)"):
        recipe_file.load(str(tmp_path / "r.yaml"), [f"{field}={name}"])


@pytest.mark.parametrize("field", ["folder", "base.model", "vocab.text.0"])
def test_a_home_folder_is_refused_with_its_path(field, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "r.yaml").write_text(MINIMAL)
    with pytest.raises(ValueError, match=r"r\.yaml: '~/x': `~` is not read .*; write /home/me/x$"):
        recipe_file.load(str(tmp_path / "r.yaml"), [f"{field}=~/x"])
    with pytest.raises(ValueError, match=r"^'~/r\.yaml': .*; write /home/me/r\.yaml$"):
        recipe_file.load("~/r.yaml")


@pytest.mark.parametrize("place", ["tfds: {builder: a/b, data_dir: ~/x}", "hub: {dataset: ~/x}"])
def test_a_catalogue_may_lie_in_a_home_folder(place, tmp_path):
    (tmp_path / "r.yaml").write_text(MINIMAL)
    dataset = f"data.datasets.ko={{kind: text, language: kor_Hang, {place}}}"
    recipe_file.load(str(tmp_path / "r.yaml"), [dataset])


def test_the_folder_of_a_catalogue_is_an_address_too(tmp_path):
    (tmp_path / "r.yaml").write_text(MINIMAL)
    tfds = "{kind: text, language: kor_Hang, tfds: {builder: a/b, data_dir: GS://bucket/tfds}}"
    with pytest.raises(ValueError, match="want gs://bucket/tfds"):
        recipe_file.load(str(tmp_path / "r.yaml"), [f"data.datasets.ko={tfds}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "https://host/r.yaml"], "https:// cannot be read"),
        (["check", "GS://bucket/r.yaml"], "want gs://bucket/r.yaml"),
        (["new", "r.yaml", "--language", "kor_Hang", "--base", "https://huggingface.co/org/name"],
         "named by its id: org/name"),
        (["vocab", "fertility", "org/name", "gs:/bucket/vocab", "--texts", "x"],
         "want gs://bucket/vocab"),
        (["laws", "fit", "points.csv", "--out", "gs://bucket//laws"], "want gs://bucket/laws"),
    ],
)  # fmt: skip
def test_an_odd_address_on_the_command_line_is_refused(
    words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main.main(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("place", ["gs://bucket", "gs://bucket/", "gs://bucket/runs 1/"])
def test_a_run_lies_in_a_bucket_alone_or_below_a_name_with_spaces(store, place, tmp_path):
    (tmp_path / "r.yaml").write_text(MINIMAL)
    this = Run(recipe_file.load(str(tmp_path / "r.yaml"), [f"folder={place}"]))
    with locked(this):
        assert names(place)[0] == "q"
        assert names(this.folder) == ["lock.json", "recipe.yaml"]
    train([1, 2], folder=this.folder / "train")
    assert steps(f"{place.rstrip('/')}/q/train/metrics.jsonl") == [1, 2]


@pytest.mark.parametrize("name", ["part[1].txt", "what?.txt", "50 %*.txt", "a#b.txt"])
@pytest.mark.parametrize("remote", [True, False], ids=["bucket", "disk"])
def test_a_file_whose_name_looks_like_a_pattern_is_read(store, tmp_path, name, remote):
    place = f"gs://bucket/{name}" if remote else str(tmp_path / name)
    epath.Path(place).write_text("one\n")
    assert [*text.lines(place)] == ["one"]
    assert [*text.lines(place.rpartition("/")[0] + "/*.txt")] == ["one"]


# ---------------------------------------------------------------------------- digests and writes
def test_a_digest_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert storage.sha256(tmp_path / "a") == want
    with pytest.raises(ValueError, match="b: no such file"):
        storage.sha256(tmp_path / "b")


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    storage.write(path, "old")

    def fails(self, data):
        (tmp_path / self.name).write_text("half")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(type(epath.Path(path)), "write_bytes", fails)
        with pytest.raises(OSError, match="disk full"):
            storage.write(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]
    storage.write_json(path, {"a": "\ud55c"})
    assert path.read_text() == '{\n "a": "\ud55c"\n}\n'


def test_an_object_is_written_once_and_never_renamed(store):
    storage.write("gs://b/x/a", b"content")
    assert (store.objects, store.written) == (1, 7)
    assert epath.Path("gs://b/x/a").read_bytes() == b"content"


# ---------------------------------------------------------------------------- lines that are added
def test_twenty_thousand_steps_write_at_most_twice_their_own_bytes(store):
    train(range(1, 20_001), total=20_000)
    content = epath.Path(f"{FOLDER}/metrics.jsonl").read_bytes()
    events = epath.Path(f"{FOLDER}/events.jsonl").read_bytes()
    assert [json.loads(line)["step"] for line in content.splitlines()] == [*range(1, 20_001)]
    assert store.written <= 2 * (len(content) + len(events))
    assert names(FOLDER) == ["events.jsonl", "metrics.jsonl"]


def test_a_killed_run_is_read_from_its_parts_and_goes_on_with_the_next(store):
    train([1, 2, 3], killed=True)
    assert names(f"{FOLDER}/metrics.parts") == [f"0000000{i}.jsonl" for i in range(3)]
    assert steps() == [1, 2, 3]
    train([4, 5], done=3, killed=True)
    assert names(f"{FOLDER}/metrics.parts") == [f"0000000{i}.jsonl" for i in range(5)]
    train([5, 6], done=4)  # step 5 was not saved
    assert steps() == [1, 2, 3, 4, 5, 6]
    assert names(FOLDER) == ["events.jsonl", "metrics.jsonl"]


def test_a_folder_of_one_file_as_it_was_before_goes_on(store):
    epath.Path(f"{FOLDER}/metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    train([2, 3], done=1, killed=True)
    assert steps() == [1, 2, 3]
    train([4], done=3)
    assert steps() == [1, 2, 3, 4]


def test_a_process_killed_while_it_joins_leaves_each_line_once(store):
    train([1, 2], killed=True)
    parts = b"".join(storage.read_parts(f"{FOLDER}/metrics.jsonl"))
    epath.Path(f"{FOLDER}/metrics.jsonl").write_bytes(parts)  # and then it was killed
    assert steps() == [1, 2]
    train([3], done=2, killed=True)
    assert steps() == [1, 2, 3]


def test_a_part_that_is_missing_is_named_and_the_others_are_read(store, caplog):
    train([1, 2, 3, 4], killed=True)
    epath.Path(f"{FOLDER}/metrics.parts/00000001.jsonl").unlink()
    assert steps() == [1, 3, 4]
    assert "metrics.parts: 1 of its parts are missing (00000001.jsonl)" in caplog.text
    train([5], done=4)
    assert steps() == [1, 3, 4, 5]


def test_a_part_cut_short_loses_its_last_line_alone(store):
    train([1, 2, 3], killed=True)
    part = epath.Path(f"{FOLDER}/metrics.parts/00000001.jsonl")
    part.write_bytes(part.read_bytes()[:9])
    assert steps() == [1, 3]
    train([4], done=3)
    assert steps() == [1, 3, 4]


def test_what_is_no_part_is_not_read(store):
    train([1], killed=True)
    epath.Path(f"{FOLDER}/metrics.parts/notes.txt").write_text("x")
    epath.Path(f"{FOLDER}/metrics.parts/old.jsonl").write_text('{"step": 7}\n')
    assert steps() == [1]


def test_joining_ends_a_line_that_was_cut_short(store):
    lines = storage.Lines(f"{FOLDER}/x.jsonl")
    lines.add("1\n")
    epath.Path(f"{FOLDER}/x.parts/00000001.jsonl").write_text("2")
    storage.Lines(f"{FOLDER}/x.jsonl").add("3\n")
    lines.join()
    assert epath.Path(f"{FOLDER}/x.jsonl").read_text() == "1\n2\n3\n"
    assert names(f"{FOLDER}/x.parts") == []


def test_parts_that_were_copied_to_a_disk_are_read_and_gone_on_with(tmp_path):
    parts = tmp_path / "metrics.parts"
    parts.mkdir()
    for i in range(2):
        (parts / f"0000000{i}.jsonl").write_text(f'{{"step": {i + 1}}}\n')
    train([3], done=2, folder=tmp_path)
    assert steps(tmp_path / "metrics.jsonl") == [1, 2, 3]
    assert names(tmp_path) == ["events.jsonl", "metrics.jsonl"]


def test_a_local_file_is_appended_to(tmp_path):
    lines = storage.Lines(tmp_path / "x.jsonl")
    lines.add("1\n")
    first = (tmp_path / "x.jsonl").stat().st_ino
    lines.add("2\n")
    assert (tmp_path / "x.jsonl").stat().st_ino == first
    assert (tmp_path / "x.jsonl").read_text() == "1\n2\n"


def test_a_folder_moves_on_a_store_that_has_no_folders(tmp_path):
    with mounted(tmp_path):
        folder = epath.Path("gs://bucket/runs/ko/train")
        for name in ("metrics.jsonl", "checkpoints/3/d/part"):
            (folder / name).write_text(name)
        storage.move(folder, folder.with_name("train.aside-1"))
        assert not folder.exists()
        aside = folder.with_name("train.aside-1")
        assert (aside / "checkpoints/3/d/part").read_text() == "checkpoints/3/d/part"
        storage.move(aside / "metrics.jsonl", folder / "metrics.jsonl")
        assert (folder / "metrics.jsonl").read_text() == "metrics.jsonl"
        assert not (aside / "metrics.jsonl").exists()
