"""Benchmark tasks on a model: scores by hand, items that survive a kill, before against after."""

import dataclasses
import json
from pathlib import Path
import re
import shutil
import time

import forked
import hand_tokenizer
import jax
import numpy as np
import pytest
from small_world import BASE, write_texts
import tiny_llama

from lrl_jax.cli import main
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import task_files, tasks
from lrl_jax.evaluate.benchmark import asking, choices, items, scores, zoo_results
from lrl_jax.evaluate.benchmark.form import MetricEntry
from lrl_jax.evaluate.benchmark.prompts import Question
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.recipe import train as recipe_train
from lrl_jax.recipe.evaluate import Benchmark, Evaluate
from lrl_jax.text import DataError

ROOT = Path(__file__).parents[1]
TOKENIZER = hand_tokenizer.make()
CFG = dataclasses.replace(tiny_llama.CFG, vocab_size=TOKENIZER.size)
COUNT = 24

CHOOSE = """
task: choose
tag: both
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}} "
doc_to_choice: c
doc_to_target: label
metric_list: [{metric: acc}, {metric: f1}]
metadata: {language: eng_Latn, paper: P, differs: D, files: {test: [choose.jsonl]}}
"""
SAY = """
task: say
tag: both
test_split: test
doc_to_text: "{{q}}"
doc_to_target: a
generation_kwargs: {until: ["zz"], max_gen_toks: 4}
metric_list: [{metric: squad_f1}, {metric: containment}, {metric: chrf}]
metadata: {language: kor_Hang, files: {test: [say.jsonl]}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Task files and their documents: choices of one, two and three tokens."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "choose.yaml").write_text(CHOOSE)
    (folder / "say.yaml").write_text(SAY)
    rows = [
        {"q": f"{'ab' * (i % 5)} a{i}", "c": ["a b", f"b{i}", "c a b"], "label": i % 3}
        for i in range(COUNT)
    ]
    (folder / "choose.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = [{"q": f"a b{'c' * (i % 5)}", "a": "b"} for i in range(6)]
    (folder / "say.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama.write(tmp_path_factory.mktemp("model"), CFG, TOKENIZER)


@pytest.fixture(scope="module")
def model():
    grid = meshes.make(recipe_train.Mesh(fsdp=1), jax.devices()[:1])
    params = jax.device_put(tiny_llama.params(CFG), meshes.param_shardings(CFG, grid))
    return MeasuredModel(CFG, params, TOKENIZER, grid, 64, 1, context=64, digest="w")


def prepared(data, name="choose", **settings):
    [task] = task_files.resolve(str(data / f"{name}.yaml"))
    return asking.prepare(task, data=str(data), **settings)


def stored(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---------------------------------------------------------------------------- one item
def question(*choices: str, target: int = 0) -> Question:
    return Question("a:1", "d", "", "q", "", choices, target, (choices[target],))


def test_a_choice_is_right_by_log_probability_by_characters_and_by_bytes():
    asked = question("ab", "\uac00\uac01\uac02", target=1)  # 2 and 3 characters, 2 and 9 bytes
    assert scores.of_choices(asked, [3.0, 4.0]) == {"acc": 0, "acc_norm": 1, "acc_bytes": 1}
    assert scores.of_choices(asked, [1.0, 2.0]) == {"acc": 0, "acc_norm": 0, "acc_bytes": 1}
    assert scores.of_choices(asked, [1.0, 1.0])["acc"] == 0  # of equals the first
    with pytest.raises(ValueError, match="a:1: the model's log-probability of a choice is nan"):
        scores.of_choices(asked, [float("nan"), 1.0])


def test_an_interval_is_not_empty_where_every_answer_scores_nothing():
    assert scores._interval("squad_f1", [0.0] * 10) == pytest.approx((0, 0.278), abs=0.001)
    low, high = scores._interval("squad_f1", [0.0, 0.5] * 10)
    assert 0.1 < low < 0.25 < high < 0.4


def test_spaces_before_a_choice_are_scored_with_it_and_an_empty_prompt_is_bos():
    pairs = choices.continuation_pairs(TOKENIZER, [("a ", "bc"), ("a", " bc"), ("", " a")])
    spell = hand_tokenizer.spell
    assert pairs[0] == pairs[1] == ([1, *spell("a")], spell("a bc")[1:])
    assert pairs[2] == ([1], spell(" a"))


# ---------------------------------------------------------------------------- choices
def test_scores_are_those_of_a_forward_of_each_choice(data, model, tmp_path):
    ready = prepared(data, limit=5)
    watched = dataclasses.replace(model, items=str(tmp_path))
    result = asking.measure(ready, watched, 4, "x")
    for item, prompt in zip(stored(tmp_path / "x.jsonl"), ready.prompts, strict=True):
        pairs = choices.continuation_pairs(
            TOKENIZER, [(prompt, f" {choice}") for choice in item["choices"]]
        )
        for nats, (context, ids) in zip(item["nats"], pairs, strict=True):
            row = np.array([*context, *ids, *[0] * (40 - len(context) - len(ids))])
            logits = tiny_llama.logits(tiny_llama.params(CFG), row[None], cfg=CFG)[0]
            at = np.arange(len(context), len(context) + len(ids)) - 1
            logits = logits[at, : CFG.vocab_size].astype(np.float64)
            want = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(ids)), ids]
            assert nats == pytest.approx(want.sum(), abs=1e-4)
    assert result["items"] == 5
    assert result["chance"] == pytest.approx(100 / 3)
    assert {*result["scores"]} == {"acc", "f1", "acc_norm", "acc_bytes"}
    assert len(result["each"]["acc"]) == 5
    right = result["each"]["acc"].count("1")
    assert result["scores"]["acc"] == 20 * right
    low, high = result["intervals"]["acc"]
    assert low <= 20 * right <= high
    assert high - low > 30


def test_items_that_are_stored_are_not_scored_again_whoever_was_killed(data, model, tmp_path):
    ready, path = prepared(data), tmp_path / "x.jsonl"
    watched = dataclasses.replace(model, items=str(tmp_path))
    result = asking.measure(ready, watched, 1, "x")
    whole = path.read_text()
    assert asking.measure(ready, watched, 1, "x") == result
    assert path.read_text() == whole

    lines = whole.splitlines(keepends=True)
    absurd = [json.loads(line) | {"nats": [7.0, 8.0, 9.0]} for line in lines[:4]]
    begun = "".join(json.dumps(item) + "\n" for item in reversed(absurd))
    path.write_text(begun + lines[10] + lines[5][:40])  # killed in the middle of a line
    asking.measure(ready, watched, 1, "x")
    got = stored(path)
    assert [item["nats"] for item in got[:4]] == [[7.0, 8.0, 9.0]] * 4
    assert path.read_text().splitlines(keepends=True)[4:] == lines[4:]  # bit for bit
    assert len(got) == len({item["key"] for item in got}) == COUNT

    other = dataclasses.replace(watched, digest="other weights")
    assert asking.measure(ready, other, 1, "x") == result
    assert [item["nats"] for item in stored(path)][:4] != [[7.0, 8.0, 9.0]] * 4


def test_a_line_that_was_cut_short_is_not_continued_by_the_next(tmp_path):
    path = tmp_path / "items" / "x.jsonl"
    path.parent.mkdir()
    path.write_text('{"key": "a", "n": 1}\n{"key": "b", "n"')
    file = items.ItemFile(str(path), ["a", "b", "c"])
    assert file.done == {"a": {"key": "a", "n": 1}}
    file.add({"key": "c", "n": 3})
    assert [*items.ItemFile(str(path), ["a", "b", "c"]).done] == ["a", "c"]
    assert [*items.ItemFile(str(path), ["c"]).done] == ["c"]
    assert items.ItemFile("", ["a"]).done == {}


def test_the_digest_of_weights_is_of_their_values(model):
    changed = {
        name: jax.device_put(np.asarray(x) + np.float32(name == "embed_VD"))
        for name, x in model.params.items()
    }
    got = [
        items.with_digest(dataclasses.replace(model, params=params)).digest
        for params in (model.params, dict(model.params), changed)
    ]
    assert got[0] == got[1] != got[2]


# ---------------------------------------------------------------------------- answers
def test_answers_are_generated_scored_and_resumed(data, model, tmp_path):
    ready, path = prepared(data, "say"), tmp_path / "x.jsonl"
    watched = dataclasses.replace(model, items=str(tmp_path))
    result = asking.measure(ready, watched, 4, "x")
    answered = stored(path)
    assert [item["references"] for item in answered] == [["b"]] * 6
    assert all(1 <= item["tokens"] <= 4 for item in answered)
    assert answered[0]["answer"] == answered[5]["answer"]  # the same prompt
    assert sum(result["script"].values()) - result["script"]["right_in_another"] == 6
    assert result["chance"] is None
    assert result["signatures"]["chrf"].startswith("nrefs:1")
    absurd = [item | {"answer": "b"} for item in answered[:3]]
    path.write_text("".join(json.dumps(item) + "\n" for item in absurd))
    again = asking.measure(ready, watched, 4, "x")
    assert stored(path)[3:5] == answered[3:5]
    assert [item["answer"] for item in stored(path)] == ["b"] * 3 + [
        *(item["answer"] for item in answered[3:5]), "b",
    ]  # fmt: skip
    assert [item["where"] for item in stored(path)] == [item["where"] for item in answered]
    assert again["scores"]["containment"] >= 50


def test_a_right_answer_in_the_wrong_script_is_counted_apart(data):
    [task] = task_files.resolve(str(data / "say.yaml"))
    asked = dataclasses.replace(question("18"), choices=(), references=("18",))
    texts = ["\uac00 18", "So 18", "18", "no"]
    each = [scores.of_answer(task, asked, text) for text in texts]
    assert scores.by_script(task, [asked] * 4, each, texts) == {
        "in_language": 1, "in_another": 2, "no_letters": 1, "right_in_another": 1,
    }  # fmt: skip


def test_scores_of_all_answers_together_count_every_reference(data):
    [task] = task_files.resolve(str(data / "say.yaml"))
    entries = [MetricEntry(metric=name) for name in ("chrf", "chrf++", "bleu")]
    settings = task.settings.model_copy(update={"metric_list": entries})
    task = dataclasses.replace(task, settings=settings)
    first, second = "the girl bought a big house", "it was sold to the man next door"
    asked = [
        dataclasses.replace(question("a"), choices=(), references=references)
        for references in (("kkk zzz", first), (second,))
    ]
    texts = [first, second]
    each = [scores.of_answer(task, *pair) for pair in zip(asked, texts, strict=True)]
    got = scores.summary(task, asked, each, texts)
    assert [round(got["scores"][name], 6) for name in ("chrf", "chrf++", "bleu")] == [100] * 3
    assert got["intervals"]["bleu"] == pytest.approx([100, 100])
    assert got["signatures"]["bleu"].startswith("nrefs:var")


def test_right_answers_whose_letters_are_coded_in_parts_are_counted_apart(data):
    [task] = task_files.resolve(str(data / "say.yaml"))
    asked = dataclasses.replace(question("a"), choices=(), references=("\uac00\u00e9",))
    texts = ["\u1100\u1161e\u0301", "\uac00\u00e9", "e\u0301"]
    each = [scores.of_answer(task, asked, text) for text in texts]
    assert [one["containment"] for one in each] == [0, 1, 0]  # as the published scripts
    assert scores.right_if_composed(task, [asked] * 3, each, texts) == 1


# ---------------------------------------------------------------------------- documents
def test_a_bad_document_is_refused_before_scoring_or_left_out_and_listed(data, model, tmp_path):
    lines = (data / "choose.jsonl").read_text().splitlines(keepends=True)
    file = tmp_path / "bad.jsonl"
    wrong = json.dumps({"q": "a", "c": ["a", "b"], "label": 2})
    half = json.dumps({"q": "a", "c": ["a\ud800", "b"], "label": 1})
    file.write_text("".join([*lines[:3], f"{wrong}\n", "no JSON\n", f"{half}\n"]))
    with pytest.raises(DataError, match="3 of 6 documents cannot be used") as error:
        prepared(data, file=str(file))
    assert f"{file}:4: its target is 2; want the index of a choice, from 0 to 1" in str(error.value)
    assert f"{file}:5: not JSON" in str(error.value)
    assert f"{file}:6: 'a\\ud800': character 2 is U+D800, half a surrogate" in str(error.value)
    result = asking.measure(prepared(data, file=str(file), skip_bad=True), model, 4, "x")
    assert (result["items"], result["bad"]) == (3, 3)
    named = [where.split(": ")[0] for where in result["bad_documents"]]
    assert named == [f"{file}:{number}" for number in (4, 5, 6)]
    with pytest.raises(DataError, match="no question in"):
        prepared(data, file=str(_only(file, "no JSON\n")), skip_bad=True)
    with pytest.raises(DataError, match="30 shots were asked for, and there are 23 examples"):
        prepared(data, file=str(_only(file, "".join(lines[:3]))), shots=30)


def test_a_choice_that_no_row_holds_is_named_with_its_row_or_left_out(data, model, tmp_path):
    lines = (data / "choose.jsonl").read_text().splitlines(keepends=True)
    long = json.dumps({"q": "a", "c": ["a", "b " * 200], "label": 0})
    file = _only(tmp_path / "long.jsonl", "".join([*lines[:2], f"{long}\n"]))
    with pytest.raises(DataError, match=rf"1 of 3 .*\n.*{file}:3: choice ' b b .*want 1 to 64, wh"):
        asking.measure(prepared(data, file=str(file)), model, 4, "x")
    result = asking.measure(prepared(data, file=str(file), skip_bad=True), model, 4, "x")
    assert (result["items"], result["bad"]) == (2, 1)
    assert result["bad_documents"][0].startswith(f"{file}:3: choice ' b b")


def test_targets_that_could_be_meant_as_the_text_of_a_choice_are_counted(data, model, tmp_path):
    rows = [{"q": f"a{i}", "c": ["1", "2", "3"], "label": i % 2} for i in range(4)]
    file = _only(tmp_path / "n.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    result = asking.measure(prepared(data, file=str(file)), model, 4, "x")
    assert result["doubtful"] == 2
    assert "2 integer targets read as an index" in " ".join(tasks.circumstances(result))


def test_examples_are_drawn_from_the_first_documents_of_a_training_split(tmp_path):
    shown = CHOOSE.replace("{test: [", "{train: [train.jsonl], test: [").replace(
        "test_split: test", "test_split: test\ntraining_split: train"
    )
    (tmp_path / "choose.yaml").write_text(shown)
    rows = [{"q": f"q{i}", "c": ["a", "b"], "label": i % 2} for i in range(asking.POOL + 9)]
    rows[-1]["label"] = 7  # it is not read
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "choose.jsonl").write_text(json.dumps(rows[0]) + "\n")
    ready = prepared(tmp_path, shots=2)
    assert ready.prompts[0].count("\n\n") == 2
    assert ready.prompts[0].endswith("q0 ")
    assert ready.examples.files == (f"{tmp_path}/train.jsonl",)
    rows[4]["label"] = 7
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"train\.jsonl:5: its target is 7"):
        prepared(tmp_path, shots=2)


def _only(file: Path, content: str) -> Path:
    file.write_text(content)
    return file


# ---------------------------------------------------------------------------- reports
def told(acc: str, documents: str = "d", **more) -> dict:
    share = 100 * acc.count("1") / len(acc)
    return {
        "metric": "acc", "scores": {"acc": share}, "intervals": {"acc": [1.0, 2.0]},
        "chance": 50.0, "items": len(acc), "documents": documents, "each": {"acc": acc}, **more,
    }  # fmt: skip


def test_before_and_after_are_compared_on_the_same_questions_by_an_exact_test():
    before, after = told("0000000000"), told("1111111100", differs="no shots")
    (row,) = tasks.rows({"tasks": {"x": before}}, {"tasks": {"x": after}})
    assert (row.measure, row.name, row.before, row.after, row.change, row.verdict) == (
        "acc, %", "x", "0.0", "80.0", "+80.0", "better",
    )  # fmt: skip
    assert row.note == (
        "chance 50.0, 95 % 1.0 to 2.0, 10 items, differs from the paper: no shots, "
        "8 gained, 0 lost, p 0.008 (McNemar)"
    )
    (row,) = tasks.rows({"tasks": {"x": told("01")}}, {"tasks": {"x": told("11")}})
    assert (row.change, row.verdict) == ("+50.0", "")  # one item more is nothing
    (row,) = tasks.rows({"tasks": {"x": told("01", "e")}}, {"tasks": {"x": told("11")}})
    assert "not the same questions before and after, so not compared" in row.note
    assert row.verdict == ""
    (row,) = tasks.rows({}, {"tasks": {"g": {"group": {"y": told("1")}}}})
    assert (row.name, row.before, row.after) == ("g y", "not measured", "100.0")


def test_scores_are_compared_by_paired_bootstrap():
    def of(values):
        return told("1") | {"each": {"acc": values}, "items": 8}

    old, new = of(" ".join(["0.25"] * 8)), of(" ".join(["0.5"] * 8))
    p, how = tasks.compared("acc", old, new)
    assert p < 0.05
    assert "paired bootstrap" in how


# ---------------------------------------------------------------------------- recipes and verbs
def test_a_recipe_names_a_task_by_its_name_alone_or_with_settings():
    tree = {"tasks": {"a": "xcopa_ta", "b": {"task": "kobest", "shots": 2}}, "task_data": "d"}
    settings = Evaluate.model_validate(tree)
    assert settings.tasks["a"] == Benchmark(task="xcopa_ta")
    assert settings.tasks["b"].shots == 2
    assert json.loads(settings.model_dump_json())["task_data"] == "d"
    assert "tasks" not in json.loads(Evaluate().model_dump_json())
    assert Evaluate.model_validate({"tasks": {"m": "./a.yaml"}}).files() == [
        ("evaluate.tasks.m", "./a.yaml")
    ]


def run(*args: str) -> int:
    return main.main(["evaluate", *args])


def test_the_verb_scores_any_folder_and_prints_chance_and_interval(data, folder, tmp_path, capsys):
    out = tmp_path / "out"
    args = ["--model", str(folder), "--data", str(data), "--out", str(out), "--limit", "6"]
    assert run(*args, "--tasks", f"{data}/choose.yaml,{data}/say.yaml", "--shots", "1") == 0
    said = capsys.readouterr()
    assert "33.3" in said.out
    assert "choose: 1 shots" in said.err
    results = json.loads((out / "results.json").read_text())["tasks"]
    assert {name: result["items"] for name, result in results.items()} == {"choose": 6, "say": 6}
    assert len(stored(out / "items" / "choose.jsonl")) == 6
    assert run(*args, "--tasks", f"{data}/say.yaml") == 0
    again = json.loads((out / "results.json").read_text())
    assert again["tasks"]["choose"] == results["choose"]
    assert again["tasks"]["say"]["shots"] == 0
    (out / "results.json").write_text(json.dumps(again | {"weights": "others"}))
    assert run(*args, "--tasks", f"{data}/say.yaml") == 4
    assert "whose weights are not those of" in capsys.readouterr().err


def test_results_by_a_recipe_are_of_the_texts_as_they_are_now(folder, tmp_path, capsys):
    write_texts(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE.format(folder=tmp_path))
    args = [str(tmp_path / "base.yaml"), "--model", str(folder), "--out", str(tmp_path / "out")]
    args += ["evaluate.max_lines=2", "data.sequence_length=32"]
    assert run(*args) == 0
    assert run(*args) == 0
    (tmp_path / "en.txt").write_text("a b\nc a\n")
    assert run(*args) == 4
    assert "holds results with other texts than" in capsys.readouterr().err


def test_models_of_one_name_are_scored_each_in_a_folder_of_its_own(data, folder, tmp_path, capsys):
    models = []
    for name in ("one/model.v1", "other/model.v1"):
        shutil.copytree(folder, tmp_path / name)
        models += ["--model", str(tmp_path / name)]
    tasks = ["--data", str(data), "--tasks", f"{data}/choose.yaml", "--limit", "2"]
    assert run(*models, *tasks, "--out", str(tmp_path / "out")) == 0, capsys.readouterr().err
    assert (tmp_path / "out/other-model.v1/results.json").exists()


def test_a_model_that_cannot_be_scored_does_not_stop_the_others(data, folder, tmp_path, capsys):
    for name in ("ko/export", "page/export"):  # both would be called export
        (tmp_path / name).parent.mkdir()
    shutil.copytree(folder, tmp_path / "ko/export")
    shutil.copytree(folder, tmp_path / "page/export")
    (tmp_path / "page/export/config.json").write_text("<!doctype html>")
    models = [word for name in ("page", "ko") for word in ("--model", f"{tmp_path}/{name}/export")]
    tasks = ["--data", str(data), "--tasks", f"{data}/choose.yaml", "--limit", "2"]
    assert run(*models, *tasks, "--out", str(tmp_path / "out")) == 2
    said = capsys.readouterr()
    assert re.search("page: failed: .*page/export/config.json: is a web page", said.err)
    assert (tmp_path / "out/ko/results.json").exists()
    assert "ko" in said.out
    assert "page" not in said.out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--model", "{none}", "--tasks", "xcopa_xx", "--out", "o"], 2, "no task 'xcopa_xx'; did"),
        (["--model", "{data}", "--tasks", "{data}/choose.yaml", "--out", "o"], 2,
         "no model.safetensors and no model.safetensors.index.json; want a Hugging Face model"),
        (["--model", "x", "--tasks", "{data}/choose.yaml", "--out", "o", "--data", "{none}"], 3,
         "choose: its documents are not here: found none of choose.jsonl below"),
        (["--model", "x", "--tasks", "xcopa_ta"], 2, "no --out, the folder of the results"),
        ([], 2, "name a recipe, or a model with --model"),
        (["r.yaml", "--model", "x"], 2, "lrl evaluate RECIPE --model FOLDER_OR_HUB_ID --out"),
        (["quickstart", "--model", "x", "--out", "o", "--length", "64"], 2, "--length: of other"),
        (["quickstart", "--model", "x", "--out", "o", "--only", "y"], 2, "no entry 'y' under"),
        (["--model", "x", "--tasks", "{data}/choose.yaml, {none}/choose.yaml", "--out", "o"], 2,
         "choose.yaml are both called choose, and results"),
        (["--model", "x", "--tasks", "t", "--out", "o", "--step", "3", "--only", "t"], 2,
         "--step, --only: of a recipe, and not of --model; leave it out"),
        (["quickstart", "--length", "64"], 2, "--length: of --model; a recipe has its own"),
        (["quickstart", "--only", ""], 2, "--only: names nothing"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_said_with_its_exit_code(
    data, tmp_path, capsys, args, code, message
):
    names = {"data": data, "none": tmp_path / "none"}
    if "--tasks" in args and "{none}/" in args[args.index("--tasks") + 1]:
        shutil.copytree(data, tmp_path / "none")
    extra = [] if "--data" in args or "--tasks" not in args else ["--data", str(data)]
    filled = [each.format(**names) for each in [*args, *extra]]
    assert run(*filled) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [("--limit", "-1", 0), ("--shots", "-1", 0), ("--batch-size", "0", 1), ("--length", "-1", 16)],
)
def test_a_number_out_of_range_is_refused_by_the_parser(capsys, option, value, least):
    with pytest.raises(SystemExit, match="2"):
        run("quickstart", "--only", "x", option, value)
    assert f"of at least {least}; got {value}" in capsys.readouterr().err


def test_the_list_names_every_family_with_its_paper(capsys):
    assert run("--list") == 0
    said = capsys.readouterr().out
    assert "xcopa_{et,ht," in said
    assert "XCOPA (arXiv 2005.00333)" in said


def test_a_killed_evaluation_goes_on_and_ends_as_if_nothing_had_been(data, folder, tmp_path):
    def start(out: str):
        args = ["evaluate", "--model", str(folder), "--tasks", f"{data}/choose.yaml"]
        args += ["--data", str(data), "--out", str(tmp_path / out), "--batch-size", "1"]
        return forked.Forked("lrl_jax.cli", args, tmp_path / f"{out}.log", cwd=ROOT)

    assert start("whole").wait(300) == 0
    path, process = tmp_path / "cut/items/choose.jsonl", start("cut")
    until = time.monotonic() + 300
    while not (path.exists() and path.read_text().count("\n") >= 3):
        assert time.monotonic() < until
        assert process.poll() is None or path.exists(), (tmp_path / "cut.log").read_text()
        time.sleep(0.001)
    process.kill()
    process.wait(60)
    assert start("cut").wait(300) == 0
    for name in ("items/choose.jsonl", "results.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_results_of_the_harness_have_chance_intervals_and_items_that_can_be_compared(tmp_path):
    def sample(i, right, kind="none"):
        resps = [[[-1.0, False]]] * 4
        return {"doc_id": i, "doc_hash": f"h{i}", "filter": kind, "acc": right, "resps": resps}

    lines = [sample(1, 0.0), sample(0, 1.0), sample(1, 1.0, "other"), sample(2, 1.0)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    scored = {"acc": 2 / 3, "perplexity": 7.5, "items": 3, "shots": 0, "version": 1}
    got = zoo_results.result_of("a", scored, tmp_path / "a.jsonl")
    assert got["scores"] == {"acc": pytest.approx(200 / 3), "perplexity": 7.5}
    assert (got["chance"], got["each"], got["items"]) == (25.0, {"acc": "101"}, 3)
    assert got["intervals"]["acc"] == pytest.approx([20.8, 93.9], abs=0.1)  # Wilson, 2 of 3
    (first, _) = tasks.rows({"tasks": {"a": got}}, {"tasks": {"a": got}})
    assert "p 1 (McNemar)" in first.note
    assert "by lm-evaluation-harness" in first.note
    assert zoo_results.result_of("g", {"acc": 0.5}, tmp_path / "none.jsonl")["scores"] == {
        "acc": 50.0
    }


def test_a_wrong_document_of_a_task_is_a_problem_of_the_recipe(data, tmp_path):
    (tmp_path / "choose.jsonl").write_text('{"q": "a", "c": ["a", "a"], "label": 0}\n')
    named = {"good": f"{data}/choose.yaml", "none": "xcopa_xx"}
    here = Evaluate.model_validate({"tasks": named, "task_data": str(data)})
    away = here.model_copy(update={"task_data": str(tmp_path)})
    ((key, problem),) = tasks.problems(here, ())
    assert key == "evaluate.tasks.none"
    assert "no task 'xcopa_xx'" in problem
    assert [key for key, _ in tasks.problems(away, ())] == [
        "evaluate.tasks.good", "evaluate.tasks.none",
    ]  # fmt: skip
    assert not [*tasks.problems(away, {str(tmp_path)})]  # still to be supplied
    with pytest.raises(DataError, match=r"choose.jsonl:1: two choices are the same, 'a'"):
        tasks.validate(away.model_copy(update={"tasks": {"good": away.tasks["good"]}}))


def test_names_of_tasks_stand_for_the_files_that_training_may_not_hold(data, tmp_path):
    entry = Benchmark(task=str(data / "choose.yaml"))
    assert entry.test_files(Evaluate(task_data=str(data))) == (f"{data}/choose.jsonl",)
    to_come = Evaluate(task_data=str(tmp_path / "to_come"))
    assert entry.test_files(to_come) == (f"{tmp_path}/to_come/**/choose.jsonl",)
    assert entry.model_copy(update={"file": "f.jsonl"}).test_files(Evaluate()) == ("f.jsonl",)
    with pytest.raises(ValueError, match=r"xcopa_ta: its questions are on the hub"):
        Benchmark(task="xcopa_ta").test_files(Evaluate())
