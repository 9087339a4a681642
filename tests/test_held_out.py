"""Test texts are named in a recipe by what it measures, checked first, and shown in the report."""

import json

import pytest
import small_world
from test_report import write_pieces

from lrl_jax.cli import main
from lrl_jax.pipeline.inputs import inputs
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe import supply
from lrl_jax.recipe.evaluate import Translation
from lrl_jax.report import pieces
from lrl_jax.report import run as run_page

LINE = "Minsu saw an apple and a pear at the old store in the town"  # 14 words


@pytest.fixture
def recipe(tmp_path):
    """The path of a recipe that trains on en.txt, and measures test.txt and a translation."""
    base, _ = small_world.write_recipes(tmp_path)
    lines = (tmp_path / "en.txt").read_text().splitlines()
    (tmp_path / "en.txt").write_text("\n".join([*lines, f"So {LINE}.", f"{LINE} !"]) + "\n")
    (tmp_path / "test.txt").write_text(f"{LINE}\n{LINE.replace('apple', 'egg')}\nshort\n")
    text = (tmp_path / "base.yaml").read_text()
    measured = (
        f"  bits_per_byte: {{eng_Latn: {tmp_path}/test.txt}}\n  translation: {{en_ko: {{"
        f"source: {tmp_path}/en.txt, target: {tmp_path}/ko.txt, source_language: eng_Latn, "
        "target_language: kor_Hang}}"
    )
    old = f'  bits_per_byte: {{eng_Latn: "{tmp_path}/en.txt"}}'
    assert old in text
    (tmp_path / "base.yaml").write_text(text.replace(old, measured))
    return base


def load(recipe, names):
    return recipe_file.load(recipe, [f"data.decontaminate={names}"])


@pytest.mark.parametrize(
    ("names", "want"),
    [
        ("[eng_Latn]", ["test.txt"]),
        ("[bits_per_byte.eng_Latn]", ["test.txt"]),
        ("[en_ko, eng_Latn, translation.en_ko]", ["en.txt", "ko.txt", "test.txt"]),
        ("[evaluate]", ["test.txt", "en.txt", "ko.txt"]),
    ],
)
def test_names_of_what_is_measured_stand_for_their_files(recipe, tmp_path, names, want):
    loaded = load(recipe, names)
    assert loaded.data.decontaminate == tuple(str(tmp_path / file) for file in want)
    (tmp_path / "again.yaml").write_text(recipe_file.dump(loaded))
    assert recipe_file.load(str(tmp_path / "again.yaml")) == loaded


def test_anything_with_the_marks_of_a_path_is_a_file(recipe, tmp_path):
    files = ("sample:test.kor", "a/b", "flores.devtest", "gs://bucket/*.txt", "./bare")
    loaded = load(recipe, f"[{', '.join(files)}]")
    assert loaded.data.decontaminate == files
    assert {*files} <= {*supply.named(loaded)}
    bare = recipe_file.load(
        recipe, ["data.decontaminate=[eng_Latn]", "evaluate.bits_per_byte.eng_Latn=bare"]
    )
    assert bare.data.decontaminate == ("./bare",)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("eng_Latin", "did you mean 'eng_Latn'?"),
        ("translation.en_kor", "did you mean 'translation.en_ko'?"),
        ("corpus", "a file in this folder is ./corpus"),
    ],
)
def test_a_name_of_nothing_is_refused_with_the_nearest(recipe, capsys, name, says):
    assert main.main(["check", recipe, f"data.decontaminate=[{name}]"]) == 2
    err = capsys.readouterr().err
    assert (
        f"data.decontaminate: '{name}' is no entry of evaluate (there are eng_Latn, en_ko)" in err
    )
    assert says in err


def test_a_task_stands_for_the_files_with_its_questions(recipe, tmp_path):
    (tmp_path / "BoolQ.test.tsv").write_text("Text\n")
    (tmp_path / "mine.yaml").write_text(
        "task: mine\ntest_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\n"
        "doc_to_choice: c\ndoc_to_target: a\nmetric_list: [{metric: acc}]\n"
        "metadata: {language: eng_Latn, files: {test: [q.jsonl]}}\n"
    )
    (tmp_path / "q.jsonl").write_text("{}\n")
    names = f"data.decontaminate=[kobest_boolq, {tmp_path}/mine.yaml]"
    loaded = recipe_file.load(recipe, [names, f"evaluate.task_data={tmp_path}"])
    assert loaded.data.decontaminate == (f"{tmp_path}/BoolQ.test.tsv", f"{tmp_path}/q.jsonl")
    with pytest.raises(ValueError, match=r"kobest_copa: its questions are on the hub"):
        recipe_file.load(
            recipe, ["data.decontaminate=[kobest_copa]", f"evaluate.task_data={tmp_path}"]
        )


def test_an_entry_without_files_is_refused_and_not_passed_over(recipe, monkeypatch):
    monkeypatch.setattr(Translation, "test_files", lambda self, settings: ())
    for name in ("evaluate", "en_ko"):
        with pytest.raises(ValueError, match=r"no file for '.*en_ko', so its texts cannot be comp"):
            load(recipe, f"[{name}]")


def test_all_of_nothing_is_refused(recipe):
    with pytest.raises(ValueError, match="decontaminate: evaluate is empty, so no text is compar"):
        recipe_file.load(recipe, ["data.decontaminate=[evaluate]", "evaluate={batch_size: 1}"])


def test_the_step_data_depends_on_the_content_of_test_texts(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("lrl_jax.pipeline.inputs._made", lambda run, step: ("made", ""))
    before = inputs(Run(load(recipe, "[eng_Latn]")), "data")
    key = f"text {tmp_path}/test.txt"
    assert key in before
    (tmp_path / "test.txt").write_text("another\n")
    after = inputs(Run(load(recipe, "[eng_Latn]")), "data")
    assert {name for name in before if before[name] != after[name]} == {key}
    assert key not in inputs(Run(recipe_file.load(recipe)), "data")


# ---------------------------------------------------------------------------- check
def test_check_says_what_training_shares_with_what_is_measured(recipe, tmp_path, capsys):
    assert main.main(["check", recipe, "evaluate.translation={}"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    says = "data.datasets.english: 2 of the first 322 records share text with what is measured"
    assert f"{says}, such as {tmp_path}/test.txt:1: minsu saw" in out
    assert "data.decontaminate: [evaluate] leaves them out" in out
    given = ["evaluate.translation={}", "data.decontaminate=[evaluate]"]
    assert main.main(["check", recipe, *given]) == 0
    assert "share text" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "test.txt: no such file"),
        (b"", "test.txt: is empty"),
        (b"a\0\n", "test.txt:1: holds"),
    ],
)
def test_check_names_a_test_file_that_cannot_be_read(recipe, tmp_path, capsys, content, says):
    name = tmp_path / "other_test.txt"
    if content is not None:
        name.write_bytes(content)
    assert main.main(["check", recipe, f"data.decontaminate=[{name}]"]) == 3
    assert f"data.decontaminate: {tmp_path}/other_{says}" in capsys.readouterr().err


# ---------------------------------------------------------------------------- report
def test_the_report_counts_what_was_left_out_by_dataset_and_test_file(tmp_path):
    folder = write_pieces(tmp_path)
    manifests = {
        "ko/0123": {"records": 1200, "left_out": {"in a test text": 3, "empty": 1},
                    "in_tests": {"a.txt": 3, "b.txt": 1}},
        "en/4567": {"records": 10, "left_out": {}, "in_tests": {"a.txt": 0, "b.txt": 0}},
    }  # fmt: skip
    for place, manifest in manifests.items():
        sizes = {"tokens": 1000, "bytes": 3000}
        (folder / "data" / place / "manifest.json").write_text(json.dumps(manifest | sizes))
    counts = {"a.txt": {"texts": 1012, "short": 12}, "b.txt": {"texts": 1, "short": 0}}
    (folder / "data" / "test_texts.json").write_text(json.dumps(counts))
    table = run_page.test_texts(pieces.read(folder))
    assert table["columns"] == ["test file", "texts compared", "ko", "en"]
    assert table["rows"] == [
        ["a.txt", "1,000 of 1,012", "3", "0"],
        ["b.txt", "1 of 1", "1", "0"],
        ["left out, of records", "", "3 of 1,200", "0 of 10"],
    ]
    page = run_page.render(pieces.read(folder))
    assert "Test texts in training data" in page
    assert "3 of 1,200" in page


def test_the_report_has_no_such_table_where_nothing_was_compared(tmp_path):
    folder = write_pieces(tmp_path)
    assert run_page.test_texts(pieces.read(folder)) == {}
    assert "<h2>Test texts in training data" not in run_page.render(pieces.read(folder))
