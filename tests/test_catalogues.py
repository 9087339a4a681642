"""TFDS builders and datasets of the hub read as files do, offline, and their data is their mark."""

import importlib.util
import json
from pathlib import Path
import subprocess
import sys
from typing import Any

import pyarrow
from pyarrow import parquet
import pytest

from lrl_jax import text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.read import catalogues
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import Bad

ROOT = Path(__file__).parents[1]
WRITE = """
import sys
import tensorflow_datasets as tfds

features = tfds.features
folder, form, word = sys.argv[1:]
known = features.FeaturesDict({
    "text": features.Text(),
    "translation": features.Translation(["en", "ko"]),
    "turns": features.Sequence({"role": features.Text(), "content": features.Text()}),
})

class Corpus(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=known)

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(10):
            yield i, {
                "text": f"{word} {i}", "translation": {"en": f"e{i}", "ko": f"k{i}"},
                "turns": [{"role": "user", "content": f"q{i}"},
                          {"role": "assistant", "content": "a"}],
            }

Corpus(data_dir=folder, file_format=form).download_and_prepare()
"""
FORMS = ("array_record", "tfrecord")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The same corpus in both forms, and one of other words."""
    folder = tmp_path_factory.mktemp("tfds")
    script = folder / "write.py"
    script.write_text(WRITE)
    for name, form, word in [
        (*FORMS[:1] * 2, "가"),
        (*FORMS[1:] * 2, "가"),
        ("other", FORMS[0], "나"),
    ]:
        subprocess.run([sys.executable, script, folder / name, form, word], check=True,
                       capture_output=True)  # fmt: skip
    return folder


def tfds(folder: Path, split: str = "train", builder: str = "corpus") -> dict:
    return {"builder": builder, "data_dir": str(folder), "split": split}


def dataset(kind: str = "text", **fields: Any) -> Any:
    entry = {"kind": kind, **fields}
    if kind == "parallel":
        entry |= {"source_language": "eng_Latn", "target_language": "kor_Hang"}
    else:
        entry |= {"language": "kor_Hang"}
    return recipe_data.Data(sequence_length=8, datasets={"d": entry}).datasets["d"]


def read(one: Any) -> list[datasets.Record | Bad]:
    return [record for shard in datasets.shards(one) for record in datasets.read(one, shard)]


# ---------------------------------------------------------------------------- TFDS
@pytest.mark.parametrize("form", FORMS)
def test_both_forms_of_tfds_are_read_and_every_example_is_in_one_shard(written, form, monkeypatch):
    monkeypatch.setattr(catalogues, "EXAMPLES", 3)
    one = dataset(tfds=tfds(written / form))
    assert len(datasets.shards(one)) == 4
    assert sorted(record["text"] for record in read(one)) == [f"가 {i}" for i in range(10)]


def test_part_of_a_split_is_cut_too(written, monkeypatch):
    whole = read(dataset(tfds=tfds(written / FORMS[0])))
    monkeypatch.setattr(catalogues, "EXAMPLES", 3)
    part = dataset(tfds=tfds(written / FORMS[0], "train[20%:]"))
    assert read(part) == whole[2:]
    assert len(datasets.shards(part)) == 3


def test_columns_look_inside_of_features(written):
    columns = {"source": "translation.en", "target": "translation.ko"}
    found = read(dataset("parallel", tfds=tfds(written / FORMS[0]), columns=columns))
    assert {(r["source"], r["target"]) for r in found} == {(f"e{i}", f"k{i}") for i in range(10)}
    chats = read(dataset("chat", tfds=tfds(written / FORMS[0]), columns={"messages": "turns"}))
    assert json.loads(chats[0]["messages"])[1] == {"role": "assistant", "content": "a"}


def test_a_bad_example_is_named_with_its_row(written, monkeypatch):
    monkeypatch.setattr(catalogues, "EXAMPLES", 3)
    found = read(dataset(tfds=tfds(written / FORMS[0], "train[4:]"), columns={"text": "body"}))
    why = "has no field 'body'; it has text, translation, turns"
    assert found == [Bad(f"tfds:corpus/train[4:]: row {i}", why) for i in range(1, 7)]


def test_array_record_is_read_without_tensorflow(written):
    code = (
        "import sys; from lrl_jax.data.read import catalogues;"
        "from lrl_jax.recipe.data import Tfds;"
        f"place = Tfds(builder='corpus', data_dir={str(written / FORMS[0])!r});"
        "found = [row for (span,) in catalogues.shards(place) "
        "for row in catalogues.rows(place, span)];"
        "assert len(found) == 10; assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_mark_of_tfds_is_its_data(written):
    first, other = (
        datasets.fingerprints(dataset(tfds=tfds(written / n))) for n in (FORMS[0], "other")
    )
    assert first != other
    assert first == datasets.fingerprints(dataset(tfds=tfds(written / FORMS[0])))
    part = datasets.fingerprints(dataset(tfds=tfds(written / FORMS[0], "train[:5]")))
    assert part != first
    [(name, mark)] = datasets.contents(dataset(tfds=tfds(written / FORMS[0]))).items()
    assert (name, f"{mark}:0:1") == ("tfds:corpus/train", first[0][0])


def test_what_tfds_does_not_have_is_said_in_a_line(written):
    for place, message in [
        (tfds(written / FORMS[0], "test"), r"^tfds:corpus/test: Unknown split 'test'.*\['train'\]"),
        (tfds(written / FORMS[0], builder="nope"), "^tfds:nope/train: Dataset nope not found"),
        (tfds(written / FORMS[0], "train[:0]"), "the split has no example"),
    ]:
        with pytest.raises(text.DataError, match=message) as error:
            datasets.shards(dataset(tfds=place))
        assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------- the hub
needs_hub = pytest.mark.skipif(
    not importlib.util.find_spec("datasets"), reason="needs the extra `hub`"
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A local folder of data files; whatever asks the network fails."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = tmp_path / "corpus/data"
    data.mkdir(parents=True)
    for i in range(2):
        rows = [{"text": f"{i}.{k}", "more": {"n": k}} for k in range(3)]
        parquet.write_table(pyarrow.Table.from_pylist(rows), data / f"train-{i}.parquet")
    (data / "test.parquet").write_bytes((data / "train-1.parquet").read_bytes())
    return tmp_path / "corpus"


@needs_hub
def test_a_folder_of_data_files_is_read_a_shard_a_file(folder):
    one = dataset(hub={"dataset": str(folder)})
    assert len(datasets.shards(one)) == 2
    assert [r["text"] for r in read(one)] == ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]
    assert len(read(dataset(hub={"dataset": str(folder), "split": "test"}))) == 3


@needs_hub
def test_one_data_file_is_read(folder):
    found = read(dataset(hub={"dataset": f"{folder}/data/train-1.parquet"}))
    assert [r["text"] for r in found] == ["1.0", "1.1", "1.2"]
    (folder / "a.jsonl").write_text('{"body": "x"}\n')
    [found] = read(dataset(hub={"dataset": f"{folder}/a.jsonl"}))
    assert found.where.endswith("a.jsonl/train: row 1 of part 1")


@needs_hub
def test_the_mark_of_a_folder_is_its_files(folder):
    one = dataset(hub={"dataset": str(folder)})
    before = datasets.fingerprints(one)
    assert datasets.fingerprints(one) == before
    (folder / "data/train-1.parquet").write_bytes((folder / "data/train-0.parquet").read_bytes())
    assert datasets.fingerprints(one) != before


@needs_hub
def test_a_dataset_script_is_never_run(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/corpus.py").write_text("raise SystemExit('ran')")
    for name in ("corpus", "corpus/corpus.py"):
        with pytest.raises(text.DataError, match="is a dataset script, which is never run"):
            datasets.shards(dataset(hub={"dataset": f"{tmp_path}/{name}"}))


@needs_hub
def test_what_the_hub_does_not_have_is_said_in_a_line(folder):
    for place, message in [
        ({"dataset": str(folder), "split": "dev"}, "Bad split: dev"),
        ({"dataset": f"{folder}/nope"}, "hub:.*nope/train: Couldn't find any data file"),
    ]:
        with pytest.raises(text.DataError, match=message):
            datasets.shards(dataset(hub=place))


def test_without_the_extra_its_name_is_said(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(text.DataError, match=r"needs the extra `hub`: pip install .*\[hub\]"):
        datasets.shards(dataset(hub={"dataset": str(folder)}))


@needs_hub
def test_a_hub_that_cannot_be_reached_is_said_in_a_line_and_other_defects_are_not_hidden():
    class ConnectError(Exception):
        __module__ = "httpx"

    with (
        pytest.raises(text.DataError, match=r"hub:a: the hub could not be reached: no name"),
        catalogues._errors_naming("hub:a"),
    ):
        raise ConnectError("no name")
    with pytest.raises(KeyError), catalogues._errors_naming("hub:a"):
        raise KeyError("a defect")
