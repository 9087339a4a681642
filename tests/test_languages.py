"""Languages by code and by name, those of a recipe's own, and where their names are needed."""

import json
from pathlib import Path

import pytest

from lrl_jax.cli.main import main
from lrl_jax.cli.recipes.new import recipe_text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.templates import table as templates
from lrl_jax.evaluate import samples
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe import languages

RECIPE = """
name: q
base: {model: base}
vocab: {method: keep}
languages: {xyz_Latn: Xyzzy of the South}
data:
  sequence_length: 8
  datasets:
    pairs: {kind: parallel, path: [PAIRS], source_language: eng_Latn, target_language: xyz_Latn,
            direction: both}
    chains: {kind: taco, path: [CHAINS], language: xyz_Latn}
train:
  batch_size: 4
  samples: [{template: translation, text: Hi., target_language: xyz_Latn}]
  stages:
    - name: a
      steps: 3
      mixture: {pairs: 1}
      learn: [{match: ".*", schedule: {peak: 1.0e-4}}]
evaluate:
  translation:
    there: {source: s, target: t, source_language: eng_Latn, target_language: xyz_Latn}
"""
CHAIN = "Instruction in English: Add.\nResponse in English: 3\nResponse in X: drei"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "pairs.tsv").write_text("source\ttarget\nHello.\tolleH\n")
    chains = json.dumps([{"instruction": "Dda.", "input": "", "output": CHAIN}])
    (tmp_path / "chains.json").write_text(chains)
    text = RECIPE.replace("PAIRS", str(tmp_path / "pairs.tsv"))
    (tmp_path / "r.yaml").write_text(text.replace("CHAINS", str(tmp_path / "chains.json")))
    return str(tmp_path / "r.yaml")


def records(dataset):
    return [r for shard in datasets.shards(dataset) for r in datasets.read(dataset, shard)]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("am", "amh_Ethi"),  # ISO 639-1
        ("amh", "amh_Ethi"),  # ISO 639-3
        ("amharic", "amh_Ethi"),
        ("nb", "nob_Latn"),
        ("ar", "arb_Arab"),  # a code of many languages, one of them named as it is
        ("lv", "lvs_Latn"),  # Standard Latvian, and not Latgalian
        ("iw", "heb_Hebr"),  # an older code of Hebrew
        ("zh-Hant", "zho_Hant"),
        ("sr_latn", "srp_Latn"),  # FLORES has it in Cyrl alone
        ("taj", "taj_Deva"),  # not in FLORES
        ("Northern Sami", "sme_Latn"),
        ("uzs_Arab", "uzs_Arab"),
        ("Ancient Greek", "grc_Grek"),  # and not in the Cypriot syllabary
        ("Haitian", "hat_Latn"),
        ("Panjabi", "pan_Guru"),  # Western Panjabi has the word in its name too
    ],
)
def test_codes_of_iso_639_and_names_mean_a_language(text, want):
    assert languages.resolve(text) == want


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("Norwegian", ["nno_Latn (Norwegian Nynorsk)", "nob_Latn (Norwegian Bokmal)"]),
        ("no", ["nno_Latn", "nob_Latn"]),
        ("zho", ["zho_Hans", "zho_Hant"]),
        ("ku", ["ckb_Arab (Central Kurdish)", "kmr_Latn (Northern Kurdish)"]),
        ("Tamang", ["taj_Deva (Eastern Tamang)", "tdg_Deva (Western Tamang)"]),
        ("uzs", ["Southern Uzbek", "uzs_Arab"]),  # of no script that is known
        ("cmn", ["Mandarin Chinese", "cmn_Hans or cmn_Hant"]),
        ("Creole", ["hat_Latn (Haitian Creole)", "antillean creole french"]),
        ("Berber", ["shi_Tfng (Tachelhit)", "shawiya berber"]),
        ("Slavic", ["chu_Cyrl (Church Slavic)", "old east slavic"]),
        ("Songhay", ["khq_Latn (Koyra Chiini)", "humburi senni songhay"]),
    ],
)
def test_what_may_be_several_languages_lists_them(text, listed):
    with pytest.raises(ValueError, match=r"name one of them|say its script") as error:
        languages.resolve(text)
    assert all(name in str(error.value) for name in listed)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("xxx_Latn", "xho_Latn"),
        ("Amharik", "amh_Ethi"),
        ("kor_Hnag", "kor_Hang"),
        ("", "want a"),
        ("tok", "languages: {xyz_Latn"),
    ],
)
def test_an_unknown_language_is_refused_with_the_nearest(text, nearest):
    with pytest.raises(ValueError, match="unknown language") as error:
        languages.resolve(text)
    assert nearest in str(error.value)


def test_languages_outside_flores_have_their_english_names():
    got = [languages.english_name(code) for code in ("uzs_Arab", "taj_Deva", "pcm_Latn")]
    assert got == ["Southern Uzbek", "Eastern Tamang", "Nigerian Pidgin"]
    with pytest.raises(ValueError, match="no English name"):
        languages.english_name("und_Zyyy")  # a code of ISO, and no language


def test_a_name_of_the_recipe_stands_in_every_prompt(path):
    recipe = recipe_file.load(path)
    pairs, chains = (recipe.data.datasets[name] for name in ("pairs", "chains"))
    there, back = (templates.parts("translation", r)[0].text for r in records(pairs))
    assert there.startswith("Translate the following sentence from English to Xyzzy of the South.")
    assert back.startswith("Translate the following sentence from Xyzzy of the South to English.")
    whole = "".join(p.text for p in templates.parts("taco", records(chains)[0]))
    assert "instructions from Xyzzy of the South to English" in whole
    assert "Response in Xyzzy of the South: drei" in whole
    [prompt] = recipe.train.samples
    assert "to Xyzzy of the South." in samples._text(prompt, None)
    entry = recipe.evaluate.translation["there"]
    assert entry.language_names == {"xyz_Latn": "Xyzzy of the South"}


def test_a_recipe_with_names_dumps_and_loads_equal(path, tmp_path):
    want = recipe_file.load(path)
    (tmp_path / "again.yaml").write_text(recipe_file.dump(want))
    assert recipe_file.load(str(tmp_path / "again.yaml")) == want


def test_a_recipe_without_names_is_written_as_before(path):
    plain = {"languages": {}}, ["xyz_Latn", "hin_Deva"]
    text = Path(path).read_text().replace(": {xyz_Latn: Xyzzy of the South}", ": {}")
    Path(path).write_text(text.replace(*plain[1]))
    dumped = recipe_file.dump(recipe_file.load(path))
    assert "languages" not in dumped
    assert "language_names" not in dumped


def test_a_name_in_the_recipe_goes_before_the_english_one_and_fills_entries(tmp_path):
    entry = {"kind": "text", "path": ["{name}.txt"], "languages": ["xyz_Latn", "ko"]}
    tree = {"languages": {"xyz_Latn": "Xyzzy"}, "data": {"datasets": {"web": entry}}}
    got = recipe_file.per_language(tree)["data"]["datasets"]
    assert {name: d["path"] for name, d in got.items()} == {
        "web_xyz_Latn": ["Xyzzy.txt"],
        "web_kor_Hang": ["Korean.txt"],
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("languages={}", r"data\.datasets\.pairs\.target_language: unknown language 'xyz_Latn'"),
        ("train.samples.0.target_language=xxx_Latn", r"train\.samples\.0\.target_language: unknow"),
        ("vocab.report={texts: {eng_Lant: a}}", "unknown script 'Lant', the nearest is Latn"),
        ("languages={xyz: Xyzzy}", "languages"),
        ('languages={xyz_Latn: " "}', "languages"),
        ("data.datasets.pairs.filters={scripts: [Foo]}", "unknown script 'Foo'"),
    ],
)
def test_unknown_codes_and_scripts_of_a_recipe_are_refused_with_their_key(path, override, message):
    with pytest.raises(ValueError, match=message):
        recipe_file.load(path, [override])


def test_an_iso_code_in_a_recipe_becomes_the_code_of_the_language(path):
    recipe = recipe_file.load(path, ["data.datasets.pairs.source_language=en"])
    assert recipe.data.datasets["pairs"].source_language == "eng_Latn"


def test_scripts_of_a_vocabulary_are_refused_when_the_recipe_is_read():
    tree = recipe_file.read_tree(recipe_file.epath.Path(recipe_file._shipped()["quickstart"]))
    tree["vocab"]["scripts"] = ["Hangul"]
    with pytest.raises(ValueError, match="unknown script 'Hangul', the nearest is Hang"):
        recipe_file.parse(tree)


def test_a_new_recipe_takes_codes_of_iso_639_and_names():
    for language in ("nb", "Norwegian Bokmal", "nob_Latn"):
        text = recipe_text("a.yaml", language=language, base="b", text="t", english="e")
        assert "learns Norwegian Bokmal (nob_Latn)" in text
    with pytest.raises(ValueError, match="--language Norwegian: 'Norwegian' may be nno_Latn"):
        recipe_text("a.yaml", language="Norwegian", base="b", text="t", english="e")


def test_a_new_recipe_of_a_language_in_no_table_has_its_name(tmp_path, capsys):
    path = str(tmp_path / "r.yaml")
    assert main(["new", path, "--language", "xyz_Latn", "--base", "b"]) != 0
    assert "unknown language 'xyz_Latn'" in capsys.readouterr().err
    name = ["--language-name", "Xyzzy: of the South"]
    assert main(["new", path, "--language", "xyz_Latn", "--base", "b", *name]) == 0
    assert recipe_file.load(path).languages == {"xyz_Latn": "Xyzzy: of the South"}
