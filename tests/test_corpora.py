"""Corpora are read by their names, from a hub of their layout and from a copy in a folder."""

from collections.abc import Iterator
import gzip
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import importlib.util
import json
import os
from pathlib import Path
import subprocess
import sys
import threading
from typing import Any
import urllib.parse

from hand_tokenizer import make
import pyarrow
from pyarrow import parquet
import pytest

from lrl_jax import text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.pack import jobs, rows
from lrl_jax.data.read import catalogues
from lrl_jax.hf import licences
from lrl_jax.recipe import corpora, languages
from lrl_jax.recipe import data as recipe_data

ROOT = Path(__file__).parents[1]
needs_hub = pytest.mark.skipif(
    not importlib.util.find_spec("datasets"), reason="needs the extra `hub`"
)
PAIR = {"source_language": "eng_Latn", "target_language": "npi_Deva"}
# corpus -> a file of Nepali as the hub has it, and a row as its files have it
LAYOUT = {
    "fineweb2": ("data/npi_Deva/train/000_00000.parquet", {"text": "क", "language": "npi"}),
    "hplt2": ("npi_Deva/train-00000-of-00001.parquet", {"text": "क", "doc_scores": [1.0]}),
    "glotcc": ("v1.0/npi-Deva/npi-Deva_0.parquet", {"content": "क", "warc-date": "2024"}),
    "madlad400": ("data/ne/ne_clean_0000.jsonl.gz", {"text": "क"}),
    "wikipedia": ("20231101.ne/train-00000-of-00001.parquet", {"text": "क", "title": "t"}),
    "opus100": ("en-ne/train-00000-of-00001.parquet", {"translation": {"en": "a", "ne": "क"}}),
}
NEAR = {  # files of other languages, one of them noisy
    "fineweb2": "data/new_Deva/train/000_00000.parquet",
    "hplt2": "nob_Latn/train-00000-of-00001.parquet",
    "glotcc": "v1.0/npi-Latn/npi-Latn_0.parquet",
    "madlad400": "data/ne/ne_noisy_0000.jsonl.gz",
    "wikipedia": "20231101.new/train-00000-of-00001.parquet",
    "opus100": "en-ne/test-00000-of-00001.parquet",
}


def dataset(hub: Any, **fields: Any) -> Any:
    name = hub if isinstance(hub, str) else hub["corpus"]
    spoken = PAIR if name == "opus100" else {"language": "npi_Deva"}
    kind = corpora.CORPORA[name].kind if name in corpora.CORPORA else "text"
    entry = {"kind": kind, "hub": hub, **spoken, **fields}
    return recipe_data.Data(sequence_length=8, datasets={"d": entry}).datasets["d"]


def read(one: Any) -> list[dict]:
    return [record for shard in datasets.shards(one) for record in datasets.read(one, shard)]


def write(path: Path, row: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    else:
        path.write_bytes(gzip.compress(f"{json.dumps(row)}\n".encode()))


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    """A folder for each corpus, in the layout of the hub."""
    folder = tmp_path_factory.mktemp("hub")
    for name, corpus in corpora.CORPORA.items():
        file, row = LAYOUT[name]
        write(folder / corpus.dataset / file, row)
        write(folder / corpus.dataset / NEAR[name], {field: "x" for field in row})
    return folder


def copy_of(hub: Path, name: str) -> dict:
    return {"corpus": name, "dataset": str(hub / corpora.CORPORA[name].dataset)}


# ---------------------------------------------------------------------------- the table
def test_every_corpus_names_a_language_in_its_own_way():
    got = {name: dataset(name).catalogue().files for name in corpora.CORPORA}
    assert got == {
        "fineweb2": "data/npi_Deva/train/*.parquet",
        "hplt2": "npi_Deva/*.parquet",
        "glotcc": "v1.0/npi-Deva/*.parquet",
        "madlad400": "data/ne/ne_clean_*.jsonl.gz",
        "wikipedia": "20231101.ne/*.parquet",
        "opus100": "en-ne/train-*.parquet",
    }


@pytest.mark.parametrize("name", corpora.CORPORA)
def test_every_row_says_its_licence_what_it_asks_and_a_commit_where_one_is_known(name):
    corpus = corpora.CORPORA[name]
    assert licences.front(corpus.license)["license"] != "other"  # the card of packed rows has it
    assert corpus.asks
    assert catalogues.COMMIT.fullmatch(corpus.revision) or name == "glotcc"
    assert dataset(name).hub.revision == corpus.revision
    assert not set(corpus.others) - set(languages.NAMES)


@pytest.mark.parametrize(
    ("name", "language", "want"),
    [
        ("fineweb2", "pes_Arab", "fas_Arab"), ("fineweb2", "zho_Hans", "cmn_Hani"),
        ("glotcc", "est_Latn", "ekk-Latn"), ("madlad400", "heb_Hebr", "iw"),
        ("wikipedia", "nob_Latn", "no"), ("wikipedia", "als_Latn", "sq"),
        ("wikipedia", "swh_Latn", "sw"), ("wikipedia", "pnb_Arab", "pnb"),
        ("hplt2", "est_Latn", "est_Latn"), ("opus100", "tam_Taml", "ta"),
    ],
)  # fmt: skip
def test_languages_that_a_corpus_calls_otherwise(name, language, want):
    assert corpora.own_code(name, language) == want


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hub": "fineweb"}, "no corpus 'fineweb'.*did you mean 'fineweb2'"),
        ({"hub": "wikipedia", "language": "hin_Latn"}, "without a script.*'hi' is not in Latn"),
        ({"hub": "fineweb2", "kind": "chat"}, "read with kind: text; got chat"),
        ({"hub": "opus100"}, "corpus opus100 is read with kind: parallel; got text"),
        ({"hub": {"corpus": "hplt2", "config": "a"}}, "leave config out, or give files"),
        ({"hub": {}}, "name a dataset of the hub.*opus100"),
        ({"hub": {"dataset": "a/b", "config": "c", "files": "*"}}, "or files; got both"),
    ],
)
def test_what_a_corpus_cannot_be_asked_for_is_refused_with_the_recipe(fields, message):
    entry = {"kind": "text", "language": "npi_Deva", **fields}
    with pytest.raises(ValueError, match=message):
        recipe_data.Data(sequence_length=8, datasets={"d": entry})


def test_pairs_are_with_english_and_of_a_language_that_is_there():
    for spoken, message in [
        (("fra_Latn", "npi_Deva"), "with English .eng_Latn. alone; got fra_Latn and npi_Deva"),
        (("eng_Latn", "san_Deva"), "has no 'sa' among its 99 languages.*san_Deva is 'sa' there"),
    ]:
        named = dict(zip(PAIR, spoken, strict=True))
        with pytest.raises(ValueError, match=message):
            dataset("opus100", **named)
    turned = dataset("opus100", source_language="npi_Deva", target_language="eng_Latn")
    assert turned.catalogue().files == "en-ne/train-*.parquet"
    want = {"source": "translation.ne", "target": "translation.en"}
    assert turned.written().columns == want


def test_a_recipe_keeps_the_commit_it_was_resolved_with(monkeypatch):
    resolved = dataset("wikipedia").model_dump(mode="json")
    assert resolved["hub"]["revision"] == corpora.CORPORA["wikipedia"].revision
    monkeypatch.setitem(
        corpora.CORPORA, "wikipedia", corpora.CORPORA["hplt2"]
    )  # as of a later version
    again = recipe_data.Data(sequence_length=8, datasets={"d": resolved}).datasets["d"]
    assert again.catalogue().revision == resolved["hub"]["revision"]
    own = dataset({"corpus": "glotcc", "revision": "v9"})
    assert own.catalogue().revision == "v9"


def test_a_dataset_of_older_recipes_is_written_as_it_was():
    old = recipe_data.Data(
        sequence_length=8,
        datasets={"d": {"kind": "text", "language": "kor_Hang", "hub": {"dataset": "a/b"}}},
    ).datasets["d"]
    want = {"dataset": "a/b", "config": "", "split": "train", "revision": "main"}
    assert old.model_dump(mode="json")["hub"] == want
    assert "language" not in old.model_dump()["filters"]


# ---------------------------------------------------------------------------- a copy in a folder
@needs_hub
@pytest.mark.parametrize("name", corpora.CORPORA)
def test_a_copy_in_a_folder_is_read_by_language(hub, name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    want = {"text": "क"}
    if name == "opus100":
        want = {"source": "a", "target": "क", **PAIR}
    assert read(dataset(copy_of(hub, name))) == [want]


@needs_hub
def test_the_mark_of_a_copy_is_the_files_of_its_language_alone(tmp_path):
    place = {"corpus": "fineweb2", "dataset": str(tmp_path)}
    write(tmp_path / LAYOUT["fineweb2"][0], {"text": "क"})
    before = datasets.fingerprints(dataset(place))
    write(tmp_path / NEAR["fineweb2"], {"text": "x"})
    assert datasets.fingerprints(dataset(place)) == before
    write(tmp_path / LAYOUT["fineweb2"][0], {"text": "ख"})
    assert datasets.fingerprints(dataset(place)) != before


@needs_hub
def test_a_language_that_a_copy_lacks_is_refused_with_those_near_it(hub):
    for name, language, message in [
        ("fineweb2", "npi_Latn", "no 'npi_Latn' among its 2 languages; the nearest: npi_Deva"),
        ("glotcc", "npi_Thai", "no 'npi-Thai' among its 2 languages; the nearest: npi-Deva, npi-"),
        ("wikipedia", "awa_Deva", "corpus wikipedia has no 'awa' among its 2 languages"),
    ]:
        with pytest.raises(text.DataError, match=message):
            datasets.shards(dataset(copy_of(hub, name), language=language))
    with pytest.raises(text.DataError, match=r"no file of that name is there; look at hub\.files"):
        datasets.shards(dataset(copy_of(hub, "hplt2") | {"files": "nowhere/*.jsonl"}))


@needs_hub
def test_files_can_be_named_to_read_a_part(hub):
    named = copy_of(hub, "fineweb2") | {"files": NEAR["fineweb2"]}
    assert read(dataset(named)) == [{"text": "x"}]


@needs_hub
def test_what_was_packed_says_its_licence_and_where_it_is_from(hub, tmp_path):
    entry = {"kind": "text", "language": "npi_Deva", "hub": copy_of(hub, "wikipedia")}
    data = recipe_data.Data(sequence_length=64, workers=1, datasets={"wiki": entry})
    jobs.prepare_all(data, make(), tmp_path)
    [folder] = (tmp_path / "wiki").iterdir()
    want = {
        "corpus": "wikipedia",
        "dataset": "wikimedia/wikipedia",
        "files": "20231101.ne/*.parquet",
        "url": "https://huggingface.co/datasets/wikimedia/wikipedia",
        "license": "cc-by-sa-3.0, gfdl",
        "asks": corpora.CORPORA["wikipedia"].asks,
    }
    assert (
        rows.read_manifest(folder).provenance == want
    )  # a copy has no commit, and no path is told


def test_the_source_of_a_dataset_of_the_hub_is_its_commit_and_of_files_nothing(tmp_path):
    place = dataset("fineweb2").catalogue()
    got = catalogues.provenance(place)
    assert got["revision"] == corpora.CORPORA["fineweb2"].revision
    assert got["license"] == "odc-by"
    assert catalogues.provenance(None) == {}
    assert catalogues.provenance(recipe_data.Hub(dataset=str(tmp_path))) == {}


@needs_hub
def test_the_first_records_are_read_without_the_files_beyond_them(tmp_path):
    files = [f"data/npi_Deva/train/000_0000{i}.parquet" for i in range(3)]
    for i, file in enumerate(files):
        write(tmp_path / file, {"text": f"a b c {i}"})
    entry = {"kind": "text", "language": "npi_Deva", "take": 2,
             "hub": {"corpus": "fineweb2", "dataset": str(tmp_path)}}  # fmt: skip
    data = recipe_data.Data(sequence_length=16, workers=1, datasets={"d": entry})
    (tmp_path / files[2]).write_bytes(b"is never opened")
    target = jobs.target_of(data, "d", make(), tmp_path / "out")
    assert len(target.jobs) == 1
    assert not target.reads_first
    assert jobs.prepare_all(data, make(), tmp_path / "out")["d"].docs == 2


# ---------------------------------------------------------------------------- a hub that answers
class FakeHub(BaseHTTPRequestHandler):
    """Answers as huggingface.co does, of the files in `folder`; every repository is at COMMIT."""

    COMMIT = "0123456789" * 4
    folder: Path
    asked: list[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(split.path).strip("/")
        self.asked.append(path)
        match path.split("/"):
            case ["api", "datasets", owner, name, "revision", revision]:
                sha = self.COMMIT if revision == "main" else revision
                self._answer(200, json.dumps({"id": f"{owner}/{name}", "sha": sha}).encode())
            case ["api", "datasets", owner, name, "tree", _, *rest]:
                self._tree(self.folder / owner / name, "/".join(rest))
            case ["datasets", owner, name, "resolve", _, *rest]:
                self._file(self.folder.joinpath(owner, name, *rest))
            case _:
                self._answer(404)

    do_HEAD = do_POST = do_GET

    def _tree(self, repository: Path, path: str) -> None:
        if not (repository / path).is_dir():
            self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        entries = [
            {
                "type": "directory" if entry.is_dir() else "file",
                "path": entry.relative_to(repository).as_posix(),
                "oid": "0" * 40,
                "size": 0 if entry.is_dir() else entry.stat().st_size,
            }
            for entry in sorted((repository / path).iterdir())
        ]
        self._answer(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def _file(self, file: Path) -> None:
        if not file.is_file():
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data = file.read_bytes()
        headers = {"ETag": '"e"', "X-Repo-Commit": self.COMMIT, "Accept-Ranges": "bytes"}
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{end}/{len(data)}"
            self._answer(206, data[int(first) : end + 1], headers)
        else:
            self._answer(200, data, headers)

    def _answer(self, code: int, body: bytes = b"", headers: dict | None = None) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def answering(hub) -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (FakeHub,), {"folder": hub, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()


READS = """
import json, sys
from lrl_jax.data import dataset as datasets
from lrl_jax.data.read import catalogues
from lrl_jax.recipe.data import Data

*entries, absent = Data(sequence_length=8, datasets=json.loads(sys.argv[1])).datasets.values()
got = [
    {
        "records": [r for shard in datasets.shards(one) for r in datasets.read(one, shard)],
        "provenance": catalogues.provenance(one.catalogue()),
    }
    for one in entries
]
try:
    datasets.shards(absent)
except ValueError as e:
    got.append(str(e))
print(json.dumps(got))
"""


@needs_hub
def test_corpora_are_streamed_from_the_hub_at_their_commits(answering, tmp_path):
    endpoint, asked = answering
    environment = {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }  # fmt: skip
    entries = {name: dataset(name).model_dump(mode="json") for name in corpora.CORPORA}
    entries["absent"] = entries["fineweb2"] | {"language": "npi_Latn"}
    done = subprocess.run(
        [sys.executable, "-c", READS, json.dumps(entries)],
        env=environment, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    *parts, refused = json.loads(done.stdout.splitlines()[-1])
    got = dict(zip(corpora.CORPORA, parts, strict=True))
    for name, corpus in corpora.CORPORA.items():
        want = {"text": "क"} if name != "opus100" else {"source": "a", "target": "क", **PAIR}
        assert got[name]["records"] == [want], name
        commit = FakeHub.COMMIT if corpus.revision == "main" else corpus.revision
        assert got[name]["provenance"]["revision"] == commit
        file, _ = LAYOUT[name]
        assert f"datasets/{corpus.dataset}/resolve/{commit}/{file}" in asked
        assert not [path for path in asked if path.endswith(NEAR[name])], "read without need"
    assert "has no 'npi_Latn' among its 2 languages; the nearest: npi_Deva" in refused
    assert not [*tmp_path.rglob("*.parquet")], "nothing is kept: rows are streamed"
