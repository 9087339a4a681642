"""What `lrl check` sees in the texts and numbers of a recipe before anything is made of them."""

from importlib.machinery import ModuleSpec
import json
from pathlib import Path
import shlex
import sys
from types import ModuleType

from hand_tokenizer import make
import pytest
import small_world

from lrl_jax.cli import main
from lrl_jax.cli.checks import check as checks
from lrl_jax.cli.checks import printed, sizes, texts
from lrl_jax.cli.checks.overlaps import Measured
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe.train import Rule, Stage, Train
from lrl_jax.train import learn

THAI = "ภาษาไทยเป็นภาษาราชการของประเทศไทย"
KOREAN = "한국어는 대한민국의 공용어이다"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The path of a sound recipe of a model from scratch, in a folder of texts."""
    monkeypatch.setenv("COLUMNS", "80")
    base, _ = small_world.write_recipes(tmp_path)
    return base


def check(capsys, recipe, *overrides):
    """Exit code, what was printed, and what was wrong."""
    code = main.main(["check", recipe, *overrides])
    got = capsys.readouterr()
    return code, got.out, got.err


# ---------------------------------------------------------------------------- what is printed
def test_the_last_line_is_a_command_that_works_as_it_was_typed(recipe, tmp_path, capsys):
    path = Path(recipe).rename(tmp_path / "a recipe.yaml")
    override = "train.samples=[{text: Once upon}]"
    code, out, _ = check(capsys, str(path), override)
    assert code == 0
    ready, command = out.rstrip("\n").rsplit("\n", 1)[-1].split(": ", 1)
    assert ready == "ready"
    assert shlex.split(command) == ["lrl", "run", str(path), override]


def test_a_problem_of_several_keys_is_one_line_and_one_problem(recipe, capsys):
    overrides = ["data.datasets.english.path=[no.txt]", "evaluate.bits_per_byte.eng_Latn=no.txt"]
    code, _, err = check(capsys, recipe, *overrides)
    assert code == 3
    assert err.splitlines() == [
        "lrl check: 1 problem",
        "  evaluate.bits_per_byte.eng_Latn, data.datasets.english: no.txt: no such file",
    ]
    _, _, err = check(capsys, recipe, *overrides, "train.batch_size=7", "train.accumulate=2")
    assert err.startswith("lrl check: 2 problems\n")


# ---------------------------------------------------------------------------- scripts
@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "data.datasets.english={kind: text, path: [th.txt], language: amh_Ethi}",
            "data.datasets.english: the first 20 records are in Thai (100% of their letters), and "
            "amh_Ethi is written in Ethi; say what language it is, or und_Zyyy for none",
        ),
        (
            "data.datasets.english={kind: parallel, source: th.txt, target: th.txt, "
            "source_language: tha_Thai, target_language: eng_Latn}",
            "data.datasets.english: the first 20 targets are in Thai",
        ),
        (
            "data.datasets.english={kind: completion, path: [a.jsonl], language: tha_Thai}",
            "data.datasets.english: the first 20 records are in Hang",
        ),
        ("evaluate.bits_per_byte.kor_Hang=th.txt", "evaluate.bits_per_byte.kor_Hang: th.txt: "),
        (
            "evaluate.bits_per_byte.kor_Hang=a.jsonl",
            "evaluate.bits_per_byte.kor_Hang: a.jsonl: is jsonl by its name, and is read as lines",
        ),
        ("vocab.report={texts: {kor_Hang: th.txt}}", "vocab.report.texts.kor_Hang: th.txt: "),
        (
            "evaluate.translation={x: {source: th.txt, target: th.txt, source_language: eng_Latn, "
            "target_language: tha_Thai}}",
            "evaluate.translation.x.source: th.txt: ",
        ),
    ],
)
def test_text_in_another_script_than_its_language_is_refused(
    recipe, tmp_path, monkeypatch, capsys, override, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "th.txt").write_text(f"{THAI}\n" * 20)
    rows = [json.dumps({"prompt": KOREAN, "completion": KOREAN}) for _ in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    code, _, err = check(capsys, recipe, override)
    assert code == 3
    assert err.count("\n") == 2
    assert says in err


def test_text_of_two_scripts_and_text_of_few_letters_are_told_apart(recipe, tmp_path, capsys):
    (tmp_path / "mixed.txt").write_text(f"{THAI}\n" * 9 + f"{KOREAN}\n" * 27)
    (tmp_path / "few.txt").write_text("12 34\nA\n" * 9)
    data = "data.datasets.english={kind: text, path: [%s], language: %s}"
    code, out, _ = check(capsys, recipe, data % (tmp_path / "mixed.txt", "kor_Hang"))
    assert code == 0
    assert "letters" not in out
    code, out, _ = check(capsys, recipe, data % (tmp_path / "mixed.txt", "tha_Thai"))
    assert code == 0
    assert "note data.datasets.english: the first 36 records are in Hang (57%" in out
    code, out, _ = check(capsys, recipe, data % (tmp_path / "few.txt", "kor_Hang"))
    assert (code, "letters" in out) == (0, False)


def test_filters_that_leave_nothing_of_the_first_records_are_refused(recipe, tmp_path, capsys):
    longer = "data.datasets.english.filters.min_chars=1000"
    code, _, err = check(capsys, recipe, longer)
    assert code == 3
    assert "data.datasets.english: filters leave out all of the first 320 records (320 " in err
    (tmp_path / "few.txt").write_text("It is a short text of a few words.\n" * 3)
    few = f"data.datasets.english.path=[{tmp_path / 'few.txt'}]"
    code, out, _ = check(capsys, recipe, longer, few)
    assert code == 0
    assert "filters leave out all of the first 3 records (3 " in out


def test_answers_in_another_script_than_their_prompts_are_said(recipe, tmp_path, capsys):
    rows = [json.dumps({"prompt": THAI, "completion": "print(1 + 2)"}) for _ in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    data = f"{{kind: completion, path: [{tmp_path}/a.jsonl], language: tha_Thai}}"
    code, out, _ = check(capsys, recipe, f"data.datasets.english={data}")
    assert code == 0
    assert "note data.datasets.english: the first 20 answers are in Latn (100% of their" in out


def test_a_language_without_a_script_is_not_compared():
    assert texts.misnamed([THAI] * 9, "eng_Latn", "lines").startswith("the first 9 lines are in T")
    assert texts.misnamed([THAI] * 9, "tha_Thai", "lines") == ""
    assert texts.misnamed([THAI] * 9, "und_Zyyy", "lines") == ""
    assert texts.misnamed(["日本語のテキスト"] * 20, "jpn_Jpan", "lines") == ""


# ---------------------------------------------------------------------------- columns
@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (
            "kind: instructions, path: [a.jsonl], columns: {input: contxt}",
            "dataset 'english': columns: {input: contxt}: no row of 3 has the column 'contxt'; "
            "columns that nothing reads: context",
        ),
        (
            "kind: completion, path: [a.csv], columns: {prompt: qestion}",
            "a.csv:2: has no field 'qestion'; it has question, completion",
        ),
        (
            "kind: completion, path: [a.csv], columns: {prompt: qestion}, filters: {bad: drop}",
            "holds no record; a.csv:2: has no field 'qestion'; it has question, completion",
        ),
    ],
    ids=["optional", "bad: refuse", "bad: drop"],
)
def test_a_column_that_no_row_has_is_refused(recipe, tmp_path, monkeypatch, capsys, dataset, says):
    monkeypatch.chdir(tmp_path)
    row = json.dumps({"instruction": "a", "context": "b", "output": "c"})
    (tmp_path / "a.jsonl").write_text(f"{row}\n" * 3)
    (tmp_path / "a.csv").write_text("question,completion\n" + "a,b\n" * 3)
    given = f"data.datasets.english={{{dataset}, language: eng_Latn}}"
    code, _, err = check(capsys, recipe, given)
    assert code == 3
    assert err.splitlines()[1:] == [f"  data.datasets.english: {says}"]


# ---------------------------------------------------------------------------- how often it is read
def test_text_that_is_read_too_often_is_named_with_the_steps_that_are_four_times(recipe, capsys):
    # 320 lines; 12 steps read 12 x 8 x 64 tokens
    code, out, _ = check(capsys, recipe, "train.stages.0.steps=1200")
    assert code == 0
    [line] = [line for line in out.splitlines() if line.startswith("note data.datasets.english: ")]
    words = line.split()
    assert words[2:4] == ["1,200", "steps"]
    tokens = float(words[words.index("tokens);") - 1].replace(",", ""))
    times = 1200 * 8 * 64 / tokens
    assert f"read it about {times:,.0f} times" in line
    assert f"; 4 times are {int(1200 * 4 / times):,} steps." in line
    code, out, _ = check(capsys, recipe, "train.stages.0.steps=4")
    assert "4 times are" not in out
    often = ["train.stages.0.steps=1200", "data.datasets.english.max_epochs=500"]
    assert "4 times are" not in check(capsys, recipe, *often)[1]  # asked for


def test_repeats_are_counted_over_stages_ramps_and_replay():
    rows = [{"match": ".*", "schedule": "frozen"}]
    tree = {
        "name": "r", "base": {"model": "m"}, "vocab": {"method": "keep"},
        "data": {"sequence_length": 10, "datasets": {
            name: {"kind": "text", "path": ["t"], "language": "eng_Latn"} for name in "abc"}},
        "train": {"batch_size": 10, "replay": {"c": 0.5}, "stages": [
            {"name": "x", "steps": 10, "mixture": {"a": 1}, "learn": rows},
            {"name": "y", "steps": 20, "mixture": {"a": 1}, "ramp_to": {"b": 1}, "learn": rows},
            {"name": "z", "epochs": 9, "mixture": {"b": 1}, "learn": rows},
        ]},
    }  # fmt: skip
    recipe = recipe_file.parse(tree)
    # a: 10 x 100 x 0.5 + 20 x 100 x 0.25 = 1,000; b: 500; c: 1,500
    lines = [*sizes.repeated(recipe, {"a": 100.0, "b": 100.0, "c": 500.0})]
    assert [line.partition(" tokens);")[0] for line in lines] == [
        "data.datasets.a: 30 steps read it about 10 times (it has about 100",
        "data.datasets.b: 20 steps read it about 5.0 times (it has about 100",
    ]
    assert "; 4 times are 12 steps." in lines[0]
    assert "; 4 times are 16 steps." in lines[1]
    assert not [*sizes.repeated(recipe, {"c": 375.0})]  # four times


def test_tokens_of_a_language_with_pieces_of_its_own_are_estimated_by_words_or_characters():
    assert sizes.estimated(["three little words", "two more"], "Latn", own=True) == 5 * 2.0
    assert sizes.estimated([THAI], "Thai", own=True) == len(THAI) / 2.0
    assert sizes.estimated(["abcd" * 4], "Latn", own=False) == 4.0


def test_a_corpus_beyond_its_first_lines_is_estimated_by_its_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "LINES", 9)
    (tmp_path / "t").write_text("one two three\n" * 100)
    assert sizes.corpus(str(tmp_path / "t"), "Latn", own=True) == pytest.approx(100 * 3 * 2.0)
    assert sizes.corpus(str(tmp_path / "none"), "Latn", own=True) is None


# ---------------------------------------------------------------------------- rows
def test_rows_longer_than_the_context_of_the_base_are_said_with_both_numbers(recipe, capsys):
    base = "base.shape.max_position_embeddings=128"
    code, out, _ = check(capsys, recipe, "data.sequence_length=256", base)
    assert code == 0
    assert "rows of 256 tokens are longer than the base's 128 positions (max_position_" in out
    assert "(max_position_embeddings)" not in check(capsys, recipe, base)[1]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("workers=1", "they end where the row does; 1 of them have nothing to learn before that"),
        ("long_answers=drop", "they are left out."),
        ("long_answers=split", "their ends are trained without their prompt."),
        ("long_documents=drop", "they are left out."),
    ],
)
def test_answers_that_do_not_fit_a_row_are_counted_before_they_are_packed(
    recipe, tmp_path, override, says
):
    rows = ("a", "b"), ("a a", "b b b b b b b"), ("a a a a a a a a a", "b")
    lines = [json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    given = f"{{kind: completion, path: [{tmp_path}/a.jsonl], language: eng_Latn}}"
    overrides = [f"data.datasets.english={given}", "data.sequence_length=8", f"data.{override}"]
    loaded = recipe_file.load(recipe, overrides)
    measured = Measured(loaded, ())
    seen = texts.look("english", loaded.data.datasets["english"], loaded, measured, make())
    [note] = [note for note in seen.notes if "longer than a row" in note]
    assert note.startswith("2 of the first 3 documents are longer than a row of 8 tokens: ")
    assert says in note
    assert seen.tokens == 3 + 10 + 11


# ---------------------------------------------------------------------------- prompts, rows
def test_prompts_of_samples_are_written_before_training(recipe, capsys):
    code, _, err = check(capsys, recipe, "train.samples=[{text: x, template: alpca}]")
    assert code == 3
    assert "train.samples.0: no template 'alpca'; there are plain, " in err
    assert "guanaco, tokenizer; did you mean 'alpaca'?" in err
    code, out, _ = check(capsys, recipe, "train.samples=[{text: x, template: alpaca}]")
    assert code == 0
    assert "train.samples.0: no dataset is written in template 'alpaca' (theirs: plain)" in out


def test_rows_of_new_tokens_that_never_learn_are_refused_unless_that_is_said():
    names = ["embed_VD", "unembed_DV", "layers/q_DNH", "layers/k_DKH"]
    norms = Rule(match="q_", schedule={"peak": 1e-3})
    frozen = Rule(match=".*", schedule="frozen")
    meant = Rule(match="embed", rows="new", schedule="frozen")
    cfg = checks.families.config_from_hf(
        dict(model_type="llama", vocab_size=8, hidden_size=4, num_hidden_layers=1,
             intermediate_size=4, num_attention_heads=1, num_key_value_heads=1)
    )  # fmt: skip
    assert {*names} <= {*checks.llama.abstract(cfg)}

    def train(*rules):
        stage = Stage(name="a", steps=1, mixture={"d": 1}, learn=rules)
        return Train(batch_size=1, stages=(stage,))

    with pytest.raises(ValueError, match="no stage trains embed_VD or unembed_DV: the rows of new"):
        checks._refuse_frozen_rows(cfg, train(norms, frozen))
    inputs = Rule(match="^embed", schedule={"peak": 1e-3})
    with pytest.raises(ValueError, match="no stage trains unembed_DV:"):
        checks._refuse_frozen_rows(cfg, train(inputs, frozen))
    checks._refuse_frozen_rows(cfg, train(norms, meant, frozen))
    assert learn.groups(train(norms, meant, frozen).stages[0].learn, names)  # it can be trained
    checks._refuse_frozen_rows(cfg, train(Rule(match=".*", schedule={"peak": 1e-3})))


def test_a_tracker_that_is_not_installed_is_said_before_the_run(monkeypatch):
    recipe = recipe_file.load("quickstart", ["train.tracker=trackio"])
    monkeypatch.setitem(sys.modules, "trackio", ModuleType("trackio"))
    sys.modules["trackio"].__spec__ = ModuleSpec("trackio", None)
    assert [line for line in printed.remarks(recipe) if "tracker" in line] == []
    monkeypatch.delitem(sys.modules, "trackio")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    (line,) = (line for line in printed.remarks(recipe) if "tracker" in line)
    assert line.startswith("train.tracker: trackio is not installed here; pip install ")
