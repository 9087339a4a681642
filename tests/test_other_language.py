"""A recipe that ships, written for another language: it is sound, and what differs is marked."""

from pathlib import Path

import pytest

from lrl_jax.cli import main
from lrl_jax.cli.recipes import other_language, spellings
from lrl_jax.cli.recipes.other_language import exchanged
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe import plain_yaml

ROOT = Path(__file__).parents[1]
RECIPES = ("bllossom", "design_choices", "eeve", "quickstart", "taco", "xllama")
LANGUAGES = ("npi_Deva", "tam_Taml", "tha_Thai", "amh_Ethi", "yor_Latn")
OLD = {"bllossom": "Korean", "design_choices": "Hindi", "eeve": "Korean", "quickstart": "Korean",
       "taco": "Nepali", "xllama": "Chinese"}  # fmt: skip


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder without data, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path


def new(*words):
    return main.main(["new", "new.yaml", *words])


def source(name):
    return (ROOT / f"configs/{name}.yaml").read_text().splitlines()


def body(text):
    """The lines of a new recipe below the comment that says what it was made of."""
    return text.split("\n\n", 1)[1].splitlines()


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("code", LANGUAGES)
def test_a_recipe_for_another_language_is_sound_and_only_marked_lines_differ(
    name, code, elsewhere, capsys
):
    if (name, code) == ("taco", "npi_Deva"):
        code = "san_Deva"  # Nepali is its own
    assert new("--from", name, "--language", code) == 0
    assert main.main(["check", "new.yaml"]) == 0, capsys.readouterr().err
    text = Path("new.yaml").read_text()
    unmarked = [line for line in body(text) if f"  # {code}" not in line]
    original = iter(source(name))
    assert all(line in original for line in unmarked)  # in the same order
    assert len(body(text)) >= len(source(name))
    settings = "\n".join(line.split(" # ")[0] for line in body(text) if not line.startswith("#"))
    assert OLD[name] not in settings.replace("is for Korean", "")


def test_codes_names_tasks_script_and_supply_are_exchanged_in_place():
    got = exchanged("design_choices", "tam_Taml", "runs/my tamil.yaml")
    recipe = recipe_file.parse(plain_yaml.parse(got.text))
    assert recipe.name == "my-tamil"
    assert recipe.vocab.scripts == ("Taml",)
    assert recipe.vocab.pretokenizer == "mark_aware"
    assert recipe.vocab.text == ("corpora/mc4_vocabulary/tam_Taml/*.txt.gz",)
    assert [*recipe.data.datasets] == ["mc4_tam_Taml"]
    assert [*recipe.evaluate.bits_per_byte] == ["tam_Taml", "eng_Latn"]
    tasks = {name: entry.task for name, entry in recipe.evaluate.tasks.items()}
    assert tasks == {
        "flores": "flores200_from_eng_tam_Taml", "xlsum": "xlsum_tamil", "mlama": "mlama_ta",
        "indicsentiment": "indicsentiment_ta", "hellaswag": "hellaswag", "in_context": "in_context",
    }  # fmt: skip
    left_out = [line for line in body(got.text) if line.startswith("    # xnli: xnli_hi")]
    assert left_out[0].endswith("  # tam_Taml, look: left out, as xnli_hi is not in Tamil")
    assert recipe.export.title == "Llama 2 7B with 10,000 pieces of Tamil"
    assert any(look.endswith("pieces: chosen for Hindi") for look in got.looks)


def test_the_sample_gives_way_to_places_that_are_to_be_supplied():
    recipe = recipe_file.parse(plain_yaml.parse(exchanged("quickstart", "npi", "q.yaml").text))
    translation = recipe.data.datasets["translation"]
    assert (translation.source, translation.target) == ("corpora/train.eng", "corpora/train.npi")
    assert recipe.data.datasets["english"].path == ("sample:mono.eng",)  # nothing aligns with it
    assert "corpora/train.eng" in recipe.supply


def test_text_that_does_not_name_its_language_is_another_file():
    got = exchanged("real_llama2_tokenizer", "amh_Ethi", "a.yaml")
    recipe = recipe_file.parse(plain_yaml.parse(got.text))
    assert recipe.vocab.text[1] == "runs/real_text/nsmc.amh_Ethi.txt"
    assert any("name a text in Amharic" in look for look in got.looks)


def test_one_of_several_languages_is_exchanged_where_that_is_said(elsewhere, capsys):
    assert new("--from", "mllama", "--language", "npi_Deva", "--exchange", "hin_Deva") == 0
    assert main.main(["check", "new.yaml"]) == 0, capsys.readouterr().err
    recipe = recipe_file.load("new.yaml")
    assert [*recipe.evaluate.bits_per_byte] == [
        "arb_Arab", "ell_Grek", "npi_Deva", "tur_Latn", "vie_Latn", "zho_Hans", "eng_Latn",
    ]  # fmt: skip
    assert "english_npi" in recipe.evaluate.alignment


def test_a_language_of_no_table_brings_its_name():
    got = exchanged("taco", "qaa_Latn", "t.yaml", name="Xyzzy: a, b")
    recipe = recipe_file.parse(plain_yaml.parse(got.text))
    assert recipe.languages == {"qaa_Latn": "Xyzzy: a, b"}
    assert recipe.export.title == "TaCo 33B, Xyzzy: a, b"


def test_text_in_the_old_script_is_to_be_looked_at(tmp_path):
    path = tmp_path / "mine.yaml"
    text = (ROOT / "configs/quickstart.yaml").read_text()
    path.write_text(text.replace("Minsu ate three apples.", "민수가 사과를 먹었다."))
    got = exchanged(str(path), "tam_Taml", "t.yaml")
    assert any(look.endswith("this is in Korean") for look in got.looks)


def test_the_head_says_what_was_exchanged_and_how(elsewhere, capsys):
    assert new("--from", "taco", "--language", "pes_Arab") == 0
    head = Path("new.yaml").read_text().splitlines()[:4]
    assert head[0].endswith("taco, with Persian (pes_Arab) in place of Nepali (npi_Deva):")
    assert head[2:] == [
        "#   lrl new new.yaml --from taco --language pes_Arab", "#   lrl check new.yaml",
    ]  # fmt: skip
    out = capsys.readouterr().out
    assert "lines differ, all marked # pes_Arab; look at:" in out
    assert "tasks in Persian that ship: belebele_pes_Arab" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--from", "tacko", "--language", "pes_Arab"], "did you mean 'taco'?"),
        (["--from", "taco", "--language", "pes_Arob"], "did you mean pes_Arab"),
        (["--from", "taco", "--language", "npi"], "--language npi_Deva: taco is of npi_Deva"),
        (["--from", "taco", "--language", "en"], "--language eng_Latn: English is what the base"),
        (["--from", "mllama", "--language", "npi"], "say which one to exchange: --exchange arb_"),
        (["--from", "mllama", "--language", "hin", "--exchange", "tur"], "--language hin_Deva: m"),
        (["--from", "taco", "--language", "pes", "--exchange", "kor"], "--exchange kor: taco is"),
        (["--from", "taco", "--language", "pes", "--base", "b"], "--base: --from keeps what its"),
        (["--language", "pes"], "--base: name a Hugging Face folder or hub id, or --from"),
        (["--language", "pes", "--base", "b", "--exchange", "kor_Hang"], "--exchange kor_Hang: "),
    ],
)
def test_what_cannot_be_exchanged_is_refused(words, says, elsewhere, capsys):
    assert new(*words) == 2
    assert says in capsys.readouterr().err
    assert not Path("new.yaml").exists()


def test_a_recipe_is_never_overwritten(elsewhere, capsys):
    Path("new.yaml").write_text("mine")
    assert new("--from", "taco", "--language", "pes_Arab") == 2
    assert "new.yaml: exists already" in capsys.readouterr().err
    assert Path("new.yaml").read_text() == "mine"


def test_short_codes_are_exchanged_in_paths_and_left_alone_in_sentences():
    old, new = spellings.spellings("deu_Latn"), spellings.spellings("zho_Hant")
    assert spellings.exchange("mono/de/x.deu.txt", old, new) == "mono/zh/x.zho.txt"
    assert spellings.exchange("de in German", old, new) == "de in Chinese (Traditional)"
    assert spellings.exchange("german_deutsch", old, new) == "chinese_deutsch"
    assert other_language.CODES.findall("a kor_Hang.txt xkor_Hang") == ["kor_Hang"]
