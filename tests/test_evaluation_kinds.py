"""A kind of evaluation is defined in one file; recipes, the step, check and report ask it there."""

import importlib.util
import json
import subprocess
import sys

import pytest
import small_run

from lrl_jax.cli.checks import check
from lrl_jax.evaluate import kinds
from lrl_jax.pipeline.inputs import inputs
from lrl_jax.pipeline.notes import MismatchError
from lrl_jax.pipeline.perform import perform
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe import evaluate as recipe_evaluate
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe import supply
from lrl_jax.report import run as run_page

NEWLINES = '''
"""The evaluation kind `newlines`: how many newlines a line of a text has."""

from lrl_jax.evaluate.kinds import EvaluationKind, register
from lrl_jax.evaluate.rows import score_rows
from lrl_jax.recipe.evaluate import Evaluation


class Newlines(Evaluation):
    text: str
    weight: float = 1.0

    def files(self):
        return (self.text,)


def measure(entry, model, settings):
    lines = open(entry.text).read().splitlines(keepends=True)
    count = sum(line.count("\\n") for line in lines)
    return {"newlines": entry.weight * count / len(lines), "lines": len(lines)}


def rows(before, after):
    yield from score_rows(before, after, "newlines", "newlines a line", "newlines")


KIND = register(EvaluationKind("newlines", Newlines, measure, rows))
'''
RECIPE = (
    small_run.RECIPE
    + """evaluate:
  {evaluate}
"""
)


@pytest.fixture
def newlines(tmp_path):
    """The kind, defined in a file that is no part of the package; forgotten afterwards."""
    path = tmp_path / "newlines.py"
    path.write_text(NEWLINES)
    spec = importlib.util.spec_from_file_location("newlines", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del kinds.KINDS["newlines"], recipe_evaluate.SECTIONS["newlines"]


@pytest.fixture
def load(tmp_path):
    (tmp_path / "t.txt").write_text("one\ntwo")
    path = tmp_path / "small.yaml"

    def make(evaluate="newlines: {here: {text: %s}}", *overrides):
        text = tmp_path / "t.txt"
        evaluate = evaluate.replace("%s", str(text))
        path.write_text(RECIPE.format(folder=tmp_path / "runs", text=text, evaluate=evaluate))
        return recipe_file.load(str(path), overrides)

    return make


def test_a_recipe_names_the_kind_and_is_written_back_with_it(newlines, load, tmp_path):
    recipe = load()
    assert recipe.evaluate.kinds()["newlines"] == {
        "here": newlines.Newlines(text=str(tmp_path / "t.txt"))
    }
    (tmp_path / "again.yaml").write_text(recipe_file.dump(recipe))
    assert recipe_file.load(str(tmp_path / "again.yaml")) == recipe
    weighted = load("newlines: {here: {text: %s}}", "evaluate.newlines.here.weight=2.5")
    assert weighted.evaluate.kinds()["newlines"]["here"].weight == 2.5


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ("newlines: {here: {text: %s, weigth: 2}}",
         "evaluate.newlines.here.weigth: unknown key; did you mean 'weight'?"),
        ("newlines: {here: {text: %s, weight: much}}", "evaluate.newlines.here.weight: "),
        ("newlines: {here: {}}", "evaluate.newlines.here.text: missing"),
        ("newline: {here: {text: %s}}",
         "evaluate.newline: unknown key; did you mean 'newlines'?"),
        ("{newlines: {here: {text: %s}}, batchsize: 3}",
         "evaluate.batchsize: unknown key; did you mean 'batch_size'?"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named_with_the_nearest_one(newlines, load, evaluate, message):
    with pytest.raises(ValueError, match="1 problem") as error:
        load(evaluate)
    assert message in str(error.value)


@pytest.mark.parametrize("key", ["newlines", "generate", "measure", "nosuch", "rows"])
def test_a_key_that_no_kind_has_is_refused(load, key):
    with pytest.raises(ValueError, match=rf"evaluate\.{key}: unknown key"):
        load(f"{key}: {{}}")


def test_evaluation_is_due_again_when_its_file_changes(newlines, load, tmp_path):
    this = Run(load())
    for step in ("vocab", "init", "data", "train", "evaluate"):
        perform(this, step, lambda _: None)
    assert not perform(this, "evaluate", lambda _: None)
    other = tmp_path / "other.txt"
    other.write_text("three\n")
    pointed = Run(load(f"newlines: {{here: {{text: {other}}}}}"))
    with pytest.raises(MismatchError, match=r"changed: .*other\.txt"):
        perform(pointed, "evaluate", lambda _: None)
    before = inputs(pointed, "evaluate")
    other.write_text("four\n")
    after = inputs(pointed, "evaluate")
    assert [key for key in after if after[key] != before[key]] == ["evaluate.newlines.here.text"]


def test_a_missing_file_is_a_problem_unless_supply_says_how_to_get_it(newlines, load, tmp_path):
    away = tmp_path / "away.txt"
    recipe = load(f"newlines: {{here: {{text: {away}}}}}")
    with pytest.raises(check.ProblemsError, match=r"evaluate\.newlines\.here: .*away\.txt"):
        check.check(Run(recipe))
    supplied = recipe.model_copy(update={"supply": {str(away): "ask for it"}})
    assert supply.wanted(supplied) == {str(away): "ask for it"}
    assert not supply.idle(supplied)


def test_it_is_measured_and_reported(newlines, load):
    model = kinds.MeasuredModel(*[None] * 6)  # this kind reads no model
    got = kinds.measure(load().evaluate, model)
    assert got["newlines"] == {"here": {"newlines": 0.5, "lines": 2}}
    assert got["bits_per_byte"] == got["translation"] == got["chains"] == {}
    assert "seconds" in got["facts"]
    (row,) = run_page.rows({"newlines": {"here": {"newlines": 0.1}}}, json.loads(json.dumps(got)))
    assert (row.measure, row.name, row.before, row.after) == (
        "newlines a line", "here", "0.1", "0.5",
    )  # fmt: skip
    assert (row.change, row.verdict, row.note) == ("+0.4", "better", "2 lines")


@pytest.mark.parametrize("name", ["newlines", "batch_size"])
def test_a_name_that_is_taken_is_refused(newlines, name):
    with pytest.raises(ValueError, match="exists already"):
        kinds.register(kinds.EvaluationKind(name, str, newlines.measure, newlines.rows))


def test_a_recipe_of_shipped_kinds_is_read_without_jax():
    code = (
        "import sys; from lrl_jax.recipe import file\n"
        "recipe = file.load('configs/quickstart.yaml')\n"
        "assert recipe.evaluate.translation\n"
        "print([m for m in ('jax', 'sacrebleu', 'lrl_jax.evaluate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_shipped_kind_is_a_field_and_defined_in_the_file_of_its_name():
    names = [name for name in recipe_evaluate.Evaluate().kinds()]
    assert names == ["bits_per_byte", "translation", "chains", "tasks", "alignment"]
    for name in names:
        kind = kinds.find(name)
        assert kind.name == name
        assert kind.measure.__module__ == f"lrl_jax.evaluate.{name}"


def test_the_fingerprint_of_a_recipe_is_that_of_runs_made_before_kinds_were_registered():
    """The order of keys is part of what finished runs have noted."""
    entry = {"source": "a", "target": "b", "source_language": "eng_Latn",
             "target_language": "kor_Hang"}  # fmt: skip
    got = recipe_evaluate.Evaluate.model_validate(
        {"bits_per_byte": {"ko": "k"}, "translation": {"x": entry}}
    ).model_dump_json()
    assert got == (
        '{"bits_per_byte":{"ko":"k"},"translation":{"x":{"source":"a","target":"b",'
        '"source_language":"eng_Latn","target_language":"kor_Hang","template":"translation",'
        '"limit":200,"max_new_tokens":128}},"chains":{},"batch_size":8,"max_lines":2000,'
        '"baseline_text":{}}'
    )
