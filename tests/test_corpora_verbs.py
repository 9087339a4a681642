"""lrl corpora lists corpora and writes text of them; lrl new fills a recipe with them."""

import importlib.util
from pathlib import Path

import pyarrow
from pyarrow import parquet
import pytest

from lrl_jax.cli import main as cli
from lrl_jax.recipe import corpora
from lrl_jax.recipe import file as recipe_file

needs_hub = pytest.mark.skipif(
    not importlib.util.find_spec("datasets"), reason="needs the extra `hub`"
)
NEPALI = ["नेपालको राजधानी काठमाडौं हो।\n\nयो सहर ठूलो छ।", "दोस्रो", "तेस्रो"]


def run(capsys, *words: str) -> tuple[int, str]:
    code = cli.main([*words])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the Nepali part of FineWeb-2, of three documents."""
    folder = tmp_path / "copy/data/npi_Deva/train"
    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist([{"text": text, "url": "u"} for text in NEPALI])
    parquet.write_table(table, folder / "000_00000.parquet")
    return tmp_path / "copy"


# ---------------------------------------------------------------------------- lrl corpora
def test_all_corpora_are_listed_with_licence_and_commit(capsys):
    code, printed = run(capsys, "corpora")
    assert code == 0
    for name, corpus in corpora.CORPORA.items():
        assert name in printed
        assert corpus.license.partition(",")[0] in printed
        assert corpus.revision[:12] in printed


def test_the_files_of_a_language_are_shown_or_why_there_are_none(capsys):
    assert "20231101.ne/*.parquet" in run(capsys, "corpora", "wikipedia", "--language", "ne")[1]
    assert "en-ne/train-*.parquet" in run(capsys, "corpora", "opus100", "--language", "ne")[1]
    assert "without a" in run(capsys, "corpora", "wikipedia", "--language", "hin_Latn")[1]


@needs_hub
def test_text_for_the_vocabulary_is_written_a_paragraph_a_line(copy, tmp_path, capsys):
    words = ["corpora", "fineweb2", "--language", "npi_Deva", "--copy", str(copy)]
    out = tmp_path / "corpus/npi.txt"
    code, printed = run(capsys, *words, "--to", str(out), "--documents", "2")
    assert code == 0
    assert out.read_text("utf-8") == "नेपालको राजधानी काठमाडौं हो।\nयो सहर ठूलो छ।\nदोस्रो\n"
    assert "wrote 2 documents" in printed
    assert "licence odc-by" in printed
    rest = tmp_path / "heldout.txt"
    assert run(capsys, *words, "--to", str(rest), "--skip", "2")[0] == 0
    assert rest.read_text("utf-8") == "तेस्रो\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "corpus", "heldout.txt"]


@needs_hub
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fineweb2", "--to", "a.txt"], "name a corpus and its --language too"),
        (["fineweb", "--language", "ne", "--to", "a.txt"], "did you mean 'fineweb2'"),
        (["opus100", "--language", "ne", "--to", "a.txt"], "has pairs, which are no text of one"),
        (["fineweb2", "--language", "ne", "--to", "a.txt", "--skip", "3"], "no document after"),
        (["fineweb2", "--language", "new_Deva", "--to", "a.txt"], "the nearest: npi_Deva"),
        (["fineweb2", "--language", "ne", "--to", "copy"], "exists already"),
    ],
)
def test_what_cannot_be_written_is_said_and_leaves_no_file(
    copy, words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    code, printed = run(capsys, "corpora", *words, "--copy", str(copy))
    assert code in (2, 3)
    assert message in " ".join(printed.split())
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


# ---------------------------------------------------------------------------- lrl new
def test_a_new_recipe_has_the_corpora_with_their_commits_and_says_what_they_ask(tmp_path, capsys):
    path = str(tmp_path / "nepali.yaml")
    new = ["new", path, "--language", "Nepali", "--base", "owner/base"]
    assert run(capsys, *new, "--corpora", "fineweb2, wikipedia,opus100")[0] == 0
    recipe = recipe_file.load(path)
    assert [*recipe.data.datasets] == ["fineweb2", "wikipedia", "opus100", "english"]
    for name in ("fineweb2", "wikipedia", "opus100"):
        dataset = recipe.data.datasets[name]
        assert dataset.hub.revision == corpora.CORPORA[name].revision
        assert dataset.take == 200_000
    assert recipe.data.datasets["opus100"].language == "eng_Latn-npi_Deva"
    assert [*recipe.data.mixtures["target"].of] == ["fineweb2", "wikipedia", "opus100"]
    text = " ".join(Path(path).read_text().replace("#", " ").split())
    assert "Licence odc-by: name the source; Common Crawl's terms of use hold for the text." in text
    how = "lrl corpora fineweb2 --language npi_Deva --to corpus/npi_Deva.txt"
    assert how in recipe.supply["corpus/*.txt"]
    lines = Path(path).read_text().replace(str(tmp_path), "").splitlines()
    assert all(len(line) <= 160 for line in lines)


def test_a_new_recipe_without_corpora_has_none(tmp_path, capsys):
    path = str(tmp_path / "nepali.yaml")
    assert run(capsys, "new", path, "--language", "Nepali", "--base", "b")[0] == 0
    assert [*recipe_file.load(path).data.datasets] == ["target", "english"]
    assert "hub" not in Path(path).read_text()


@pytest.mark.parametrize(
    ("language", "names", "message"),
    [
        ("ne", "fineweb", "--corpora fineweb: no corpus 'fineweb'; there are fineweb2"),
        ("hin_Latn", "fineweb2,wikipedia", "--corpora wikipedia: corpus wikipedia names languages"),
        ("san", "opus100", "--corpora opus100: corpus opus100 has no 'sa' among its 99 languages"),
    ],
)
def test_a_corpus_that_lacks_the_language_is_refused(language, names, message, tmp_path, capsys):
    path = tmp_path / "a.yaml"
    words = ["new", str(path), "--language", language, "--base", "b", "--corpora", names]
    code, printed = run(capsys, *words)
    assert (code, message in printed, path.exists()) == (2, True, False)


def test_corpora_are_no_part_of_a_recipe_that_ships(tmp_path, capsys):
    words = ["new", str(tmp_path / "a.yaml"), "--language", "ne", "--from", "taco"]
    code, printed = run(capsys, *words, "--corpora", "fineweb2")
    assert (code, "--corpora: --from keeps what its recipe has" in printed) == (2, True)
