"""A recipe is read whole, typed, or refused with the key and the nearest known name."""

import json
from pathlib import Path
import re

import jsonschema
import pydantic
import pytest
from ruamel.yaml import YAML

from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe import plain_yaml
from lrl_jax.recipe.vocab import Section

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
MINIMAL = """
name: q
base: {model: x}
vocab: {method: extend, text: [a], pieces: 10, scripts: [Hang], prove_on: [b]}
data:
  sequence_length: 128
  datasets:
    ko: {kind: text, path: [a], language: kor_Hang}
train:
  batch_size: 4
  stages:
    - name: a
      steps: 5
      mixture: {ko: 1}
      learn:
        - {match: "embed", schedule: {peak: 1e-3}, rows: new}
        - {match: ".*", schedule: frozen}
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(MINIMAL)
    return str(path)


def test_a_dumped_recipe_loads_equal(path, tmp_path):
    want = recipe_file.load(path)
    (tmp_path / "again.yaml").write_text(recipe_file.dump(want))
    assert recipe_file.load(str(tmp_path / "again.yaml")) == want


def test_numbers_in_yaml_12_are_numbers_and_norwegian_is_a_name(path):
    got = recipe_file.load(path, ["train.stages.0.learn.0.schedule.peak=1e-4", "name=no"])
    assert got.train.stages[0].learn[0].schedule.peak == 0.0001
    assert got.name == "no"


def _is_number(schema):
    values = schema.get("patternProperties", {}).values()
    return schema.get("type") in ("integer", "number") or any(
        map(_is_number, [*schema.get("anyOf", ()), *values])
    )


def _sections(section=Section):
    return [section, *(each for sub in section.__subclasses__() for each in _sections(sub))]


def test_no_number_of_a_recipe_is_true_or_false():
    refused = set()
    for section in (each for each in _sections() if each.__module__.startswith("lrl_jax.recipe")):
        for name, schema in section.model_json_schema().get("properties", {}).items():
            if _is_number(schema):
                value = {"eng_Latn": True} if "patternProperties" in schema else True
                with pytest.raises(pydantic.ValidationError) as error:
                    section.model_validate({name: value})
                said = {each["loc"][0]: each["msg"] for each in error.value.errors()}
                assert "want a number; got true" in said.get(name, ""), f"{section}.{name}"
                refused.add(name)
    assert {"batch_size", "mixture", "scale", "final", "drift", "fsdp", "head_dim"} <= refused


def test_a_number_may_be_written_as_a_string(path):
    assert recipe_file.load(path, ['train.batch_size="8"']).train.batch_size == 8


def test_an_override_is_typed(path):
    assert recipe_file.load(path, ["train.batch_size=8"]).train.batch_size == 8
    assert recipe_file.load(path, ["train.mesh={data: 2, fsdp: 1}"]).train.mesh.data == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batchsize=8", "train.batchsize: unknown key; did you mean 'batch_size'?"),
        ("vocab.piecs=2", "vocab.piecs: unknown key; did you mean 'pieces'?"),
        ("data.datasets.ko.pth=2", "data.datasets.ko.pth: unknown key; did you mean 'path'?"),
        ("train.stages.0.learn.0.schedule.peek=3", "unknown key; did you mean 'peak'?"),
        (
            "train.samples=[{text: a, language: kor_Hang}]",
            "train.samples.0.language: unknown key; did you mean 'target_language'?",
        ),
        ("batch_size=8", "batch_size: unknown key; it is a key of train and of evaluate"),
        ("data.replay=8", "data.replay: unknown key; it is a key of train"),
        ("vocab.license=mit", "unknown key; it is a key of base and of export"),
        ("data.folder=runs", "data.folder: unknown key; it is a key of the recipe itself"),
        ("train.mesh.pods=1", "unknown key; there are data, fsdp, sequence, slices, tensor"),
        ("evaluate.newlynes=1", "evaluate.newlynes: unknown key; there are "),
        ("train.stages.0.learn.1.schedule=frzen", "Input should be 'frozen'; got 'frzen'"),
        (
            "train.stages.0.mixture.kp=1",
            "mixes 'kp', which is not in data.datasets or data.mixtures (ko)",
        ),
        ("train.stages.0.mixture={ko: 0}", "the weights of stage 'a' sum to zero"),
        ("train.batch_size=many", "train.batch_size: Input should be a valid integer"),
        ("train.batch_size=true", "train.batch_size: want a number; got true"),
        ("train.stages.0.mixture={ko: true}", "train.stages.0.mixture.ko: want a number; got true"),
        ("train.batch_size=-1", "train.batch_size: Input should be greater than 0; got '-1'"),
        ("data.datasets.ko.language=xx", "data.datasets.ko.language: unknown language 'xx'"),
        ("vocab={method: train, text: [a], size: 9}", "base.model's embeddings do not fit"),
        ("train.stages.7.name=b", "want an index below 1, got '7'"),
        ("train.stages.\u00b2=b", "want an index below 1, got '\u00b2'"),
        ("data.datasets.ko.path=d/a.txt", "data.datasets.ko.path: want a list: [d/a.txt]"),
        ("vocab.scripts=Hang", "vocab.scripts: want a list: [Hang]"),
        ("base.tokenizer=b", "base.tokenizer: unknown key; there are adapter, "),
        ('data.datasets.ko.language="\\0"', r"unknown language '\x00'; "),
        ("train.batch_size=10000000000000000000000000", "should be less than or equal to 16777216"),
        (
            "evaluate={bits_per_byte: {kor: a}, baseline_text: {korr: [a]}}",
            "evaluate: baseline_text.korr: is no name in bits_per_byte (kor); did you mean 'kor'?",
        ),
        ("data.sequence_length=1000000000", "should be less than or equal to 16777216"),
        (f"name={'a' * 201}", "name: String should have at most 200 characters"),
        ("train.batch_size", "want key.path=value"),
        ("name.first.second=b", "'q' has no 'first'; it is not a mapping"),
    ],
)
def test_what_is_wrong_is_named(path, override, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 the message is compared below
        recipe_file.load(path, [override])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "duplicate key"),
        ("a: &x [1]\nb: *x\n", "anchors and aliases"),
        ('"a": &x [1]\n', "anchors and aliases"),
        ('"b": *x\n', "anchors and aliases"),
        ("- a\n", "a recipe is a mapping; got list"),
        ("a: [\n", r"not YAML 1.2: while parsing a flow node, .* \(line 2, column 1\)"),
        ("a: !!python/object:os.system {}\n", "r.yaml"),
    ],
)
def test_yaml_that_is_no_recipe_is_refused(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        recipe_file.load(str(path))


def test_a_file_too_large_to_be_a_recipe_is_not_parsed(tmp_path):
    (tmp_path / "r.yaml").write_text(f"name: {'a' * (1 << 20)}\n")
    with pytest.raises(ValueError, match=r"more than 1,048,576 bytes; want a smaller file"):
        recipe_file.load(str(tmp_path / "r.yaml"))


def test_bytes_that_are_not_utf8_and_missing_files_are_named(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(ValueError, match="not UTF-8 at byte 6"):
        recipe_file.load(str(tmp_path / "r.yaml"))
    with pytest.raises(ValueError, match=r"no such recipe.* quickstart"):
        recipe_file.load(str(tmp_path / "no.yaml"))


def test_the_folder_of_a_run_is_answered_with_the_recipe_in_it(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder; want the file of a recipe$"):
        recipe_file.load(str(tmp_path))
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    with pytest.raises(ValueError, match=r"is a folder; .* that of this run is .*/recipe\.yaml$"):
        recipe_file.load(str(tmp_path))


def test_a_folder_does_not_hide_the_recipe_that_ships_under_its_name(tmp_path, monkeypatch):
    (tmp_path / "quickstart").mkdir()
    monkeypatch.chdir(tmp_path)
    assert recipe_file.load("quickstart").name == "quickstart"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("a b a", "train: two stages are called 'a'; give each a name of its own"),
        ("a.01 b a.02", "train: stages 'a.01' and 'a.02': the steps of a ramp of 'a' have such"),
        ("a a.1 b.01 c", ""),
    ],
)
def test_every_stage_has_a_name_of_its_own(path, names, message):
    tree = plain_yaml.parse(Path(path).read_text())
    [stage] = tree["train"]["stages"]
    tree["train"]["stages"] = [{**stage, "name": name} for name in names.split()]
    if not message:
        assert [stage.name for stage in recipe_file.parse(tree).train.stages] == names.split()
        return
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe_file.parse(tree)


def test_a_resolved_recipe_keeps_the_order_of_a_mixture(path, tmp_path):
    recipe = recipe_file.load(path)
    stage = recipe.train.stages[0]
    name = next(iter(stage.mixture))
    mixture = {"zulu": 0.5, name: 0.3, "alpha": 0.2}
    stages = (stage.model_copy(update={"mixture": mixture}), *recipe.train.stages[1:])
    train = recipe.train.model_copy(update={"stages": stages})
    tree = plain_yaml.parse(recipe_file.dump(recipe.model_copy(update={"train": train})))
    assert [*tree["train"]["stages"][0]["mixture"]] == [*mixture]


def test_a_recipe_is_frozen(path):
    with pytest.raises(ValueError, match="frozen"):
        recipe_file.load(path).name = "other"


def test_the_schema_file_is_the_schema_of_the_code():
    want = recipe_file.schema()
    assert (ROOT / "docs/recipe.schema.json").read_text() == want, (
        "run: python -c 'from lrl_jax.recipe import file; print(file.schema(), end=\"\")' "
        "> docs/recipe.schema.json"
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_shipped_recipe_is_valid_by_code_and_by_schema(path):
    recipe_file.load(str(path))
    tree = YAML(typ="safe", pure=True).load(path)
    jsonschema.validate(tree, json.loads(recipe_file.schema()))


# ---------------------------------------------------------------------------- languages
def expanded(entry: dict, **data) -> dict:
    return recipe_file.per_language({"data": {"datasets": {"e": entry}, **data}})["data"]


def test_an_entry_with_languages_becomes_one_dataset_a_language():
    got = expanded(
        {
            "kind": "parallel", "source": "eng", "target": "ref.{name}.txt",
            "columns": {"target": "t.{code}"}, "languages": {"kor_Hang": "kor", "npi_Deva": "nep"},
        }
    )  # fmt: skip
    assert got["datasets"]["e_npi_Deva"] == {
        "kind": "parallel", "source": "eng", "target": "ref.nep.txt",
        "columns": {"target": "t.npi_Deva"}, "target_language": "npi_Deva",
    }  # fmt: skip
    assert got["mixtures"] == {"e": {"of": {"e_kor_Hang": 1, "e_npi_Deva": 1}}}


@pytest.mark.parametrize("names", [("e", "e_kor_Hang"), ("e_kor_Hang", "e")])
def test_what_an_entry_or_the_recipe_says_itself_stays(names):
    entry = {"kind": "text", "path": ["{code}"], "languages": ["kor_Hang"], "language": "eng_Latn"}
    mine = {"e": {"of": {"e_kor_Hang": 3}}}
    entries = {"e": entry, "e_kor_Hang": {"take": 9}}
    datasets = {name: entries[name] for name in names}
    got = recipe_file.per_language({"data": {"datasets": datasets, "mixtures": mine}})["data"]
    assert got["datasets"] == {
        "e_kor_Hang": {"kind": "text", "path": ["kor_Hang"], "language": "eng_Latn", "take": 9}
    }
    assert got["mixtures"] == mine


@pytest.mark.parametrize(
    ("languages", "path", "message"),
    [
        (["kor_Hang"], "all.txt", "every language would be the same"),
        (["kor_Hnag"], "{code}", "did you mean kor_Hang"),
        (["kor_Hang", "kor_Hang"], "{code}", "FLORES codes, each once"),
        ("kor_Hang", "{code}", "want FLORES codes, each once, or code: name; got 'kor_Hang'"),
        ([], "{code}", "want FLORES codes"),
    ],
)
def test_languages_that_say_nothing_are_refused(languages, path, message):
    with pytest.raises(ValueError, match=r"data\.datasets\.e\.languages") as error:
        recipe_file.parse(
            {"data": {"datasets": {"e": {"path": [path], "languages": languages}}}}, "r.yaml"
        )
    assert message in str(error.value)


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
def test_a_number_without_an_end_is_refused(path, value):
    with pytest.raises(ValueError, match=r"peak.*finite number"):
        recipe_file.load(str(path), [f"train.stages.0.learn.0.schedule.peak={value}"])


def test_languages_are_valid_by_code_and_by_schema(path, tmp_path):
    text = (
        Path(path)
        .read_text()
        .replace(
            "ko: {kind: text, path: [a], language: kor_Hang}",
            "ko: {kind: text, path: ['{name}'], languages: [kor_Hang, npi_Deva]}",
        )
    )
    (tmp_path / "r.yaml").write_text(text)
    got = recipe_file.load(path)
    assert list(got.data.datasets) == ["ko_kor_Hang", "ko_npi_Deva"]
    assert got.data.mixtures["ko"].of == {"ko_kor_Hang": 1, "ko_npi_Deva": 1}
    jsonschema.validate(YAML(typ="safe", pure=True).load(text), json.loads(recipe_file.schema()))
