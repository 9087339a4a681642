"""Task files: their keys, where their documents are, and what is wrong with a document."""

import json
import os
from pathlib import Path
import textwrap
from typing import Any

import huggingface_hub
import pytest

from lrl_jax.data.templates import renderer
from lrl_jax.evaluate import task_files
from lrl_jax.evaluate.benchmark import asking, documents, prompts
from lrl_jax.evaluate.benchmark.documents import TaskDocument
from lrl_jax.evaluate.benchmark.prompts import Question
from lrl_jax.text import Bad, DataError

CHOICE = """
task: mine
tag: ours
test_split: test
training_split: train
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: [no, yes]
doc_to_target: label
metric_list: [{metric: acc}]
metadata:
  language: eng_Latn
  files: {test: [test.jsonl], train: [train.jsonl]}
  values: {label: {"FALSE": 0, "False": 0, "TRUE": 1}}
"""
ANSWER = """
task: asks
test_split: test
doc_to_text: "{{context}} {{question}}"
doc_to_target: "{{answers.text}}"
metric_list: [{metric: squad_f1}]
metadata: {language: eng_Latn, answer_in: context, format: squad, files: {test: [a.json]}}
"""


def write(folder: Path, **files: str) -> Path:
    """Writes files whose dots are spelled `__`; returns the folder."""
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(textwrap.dedent(content).encode())
    return folder


def task(folder: Path, source: str = CHOICE, name: str = "mine.yaml"):
    (folder / name).write_text(source)
    [one] = task_files.resolve(str(folder / name))
    return one


def written(one, **fields: Any) -> Question | Bad:
    return prompts.QuestionWriter(one).write(TaskDocument(fields, "a.jsonl:7"))


def read(one, data: str = "", file: str = "") -> list[Question | Bad]:
    writer = prompts.QuestionWriter(one)
    rows = documents.read(one, documents.questions(one, data, file))
    return [row if isinstance(row, Bad) else writer.write(row) for row in rows]


# ---------------------------------------------------------------------------- the form
def test_a_delta_takes_the_keys_of_the_file_it_includes_and_merges_metadata(tmp_path):
    write(
        tmp_path, _base__yaml=CHOICE,
        ta__yaml="include: _base.yaml\ntask: ta\nmetadata: {language: tam_Taml, paper: P}\n",
    )  # fmt: skip
    [one] = task_files.resolve("ta", tmp_path)
    assert one.facts.language == "tam_Taml"
    assert one.facts.paper == "P"
    assert one.facts.files["test"] == ("test.jsonl",)
    assert one.settings.doc_to_choice == ("no", "yes")  # YAML 1.2: no booleans
    assert [each.name for each in task_files.resolve("ours", tmp_path)] == ["ta"]


def test_a_family_is_one_file_with_a_line_a_language(tmp_path):
    family = CHOICE.replace("[test.jsonl]", '["{key}-{code}.jsonl"]').replace(
        "language: eng_Latn",
        "languages: {ta: tam_Taml, th: {language: tha_Thai, num_fewshot: 2}}",
    )
    write(tmp_path, mine__yaml=family)
    ta, th = task_files.resolve("mine", tmp_path)
    assert (ta.name, ta.facts.files["test"]) == ("mine_ta", ("ta-tam_Taml.jsonl",))
    assert (th.name, th.settings.num_fewshot, ta.settings.num_fewshot) == ("mine_th", 2, 0)
    assert task_files.resolve("mine_th", tmp_path) == [th]
    assert ta.fingerprint != th.fingerprint


def test_words_of_the_language_are_there_for_templates_and_a_missing_one_is_named(tmp_path):
    source = CHOICE.replace("{{q}}", "{{q}} {{words.because}} {{words.name}}")
    write(tmp_path, mine__yaml=source, languages__yaml="eng_Latn: {because: since}\n")
    assert written(*task_files.resolve("mine", tmp_path), q="a", label=1).text == (
        "a since English"
    )
    write(tmp_path, languages__yaml="kor_Hang: {because: since}\n", other__yaml=source)
    task_files._table.cache_clear()
    with pytest.raises(ValueError, match=r"mine.yaml: the language eng_Latn has no prompt.*'bec"):
        task_files.resolve("mine", tmp_path)
    task_files._table.cache_clear()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("doc_to_text:", "doc_to_txt:", "doc_to_txt: unknown key; did you mean 'doc_to_text'"),
        ("doc_to_text:", "doc_to_txt:", "doc_to_text: missing"),
        ("language: eng_Latn", "langauge: eng_Latn", "metadata.langauge: unknown key; did you"),
        ("language: eng_Latn", "language: eng_Latm", "did you mean"),
        ("metric: acc", "metric: accc", "no metric 'accc' of multiple_choice; did you mean 'acc'"),
        ("metric: acc", "metric: chrf", "no metric 'chrf' of multiple_choice"),
        ("doc_to_choice: [no, yes]", "", "doc_to_choice: missing"),
        ("test_split: test", "", "test_split: missing"),
        ("tag: ours", "process_docs: p", "process_docs: not read here; lm-evaluation-harness"),
        ("tag: ours", "process_docs: !function u.f", "`!function` names Python code"),
        ("tag: ours", "tag: &a ours", "anchors and aliases are not used in task files"),
        ("tag: ours", "include: mine.yaml", "include one another more than 8 deep"),
        ("tag: ours", "include: none.yaml", "none.yaml: no such task file"),
        ("task: mine", "task: [", "not YAML 1.2"),
        ("metric_list: [{metric: acc}]", "metric_list: acc", "metric_list: want a list; got 'acc'"),
        ("tag: ours", "generation_kwargs: {until: 3}", "until: want a list; got '3'"),
        ("tag: ours", "num_fewshot: many", "num_fewshot: want a whole number; got 'many'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_task_file_is_named_with_the_nearest_key(tmp_path, old, new, message):
    assert old in CHOICE
    with pytest.raises(ValueError, match=r"\.yaml: ") as error:
        task(tmp_path, CHOICE.replace(old, new))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("csv\ndataset_kwargs: {delimiter: '::'}", "delimiter: want one character, .* got '::'"),
        ("csv\ndataset_kwargs: {delimiter: '\"'}", "delimiter: want one character, which is no"),
        ("json\ndataset_kwargs: {delimiter: ';'}", "are of dataset_path: csv; got 'json'"),
        ("a/b\ndataset_kwargs: {quoting: 3}", "are of dataset_path: csv; got 'a/b'"),
    ],
)
def test_how_cells_are_written_is_said_of_csv_and_by_one_character(tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        task(tmp_path, CHOICE.replace("tag: ours", f"dataset_path: {keys}"))


def test_a_name_that_no_task_has_is_told_the_nearest_one(tmp_path):
    write(tmp_path, mine__yaml=CHOICE)
    with pytest.raises(task_files.UnknownTaskError, match="no task 'mime'; did you mean 'mine'"):
        task_files.resolve("mime", tmp_path)


# ---------------------------------------------------------------------------- documents
def test_local_copies_are_found_at_any_depth_and_the_first_name_counts(tmp_path):
    one = task(tmp_path, CHOICE.replace("[test.jsonl]", "[a.jsonl, b.jsonl]"))
    data = write(tmp_path / "data", **{"x/y/b__jsonl": '{"q": "b", "label": "TRUE"}\n'})
    assert documents.questions(one, str(data)).files == (f"{data}/x/y/b.jsonl",)
    write(data, **{"z/a__jsonl": '{"q": "a", "label": "TRUE"}\n'})
    assert documents.questions(one, str(data)).files == (f"{data}/z/a.jsonl",)
    write(data, **{"other/a__jsonl": "{}\n"})
    with pytest.raises(DataError, match=r"a\.jsonl: several files have this name"):
        documents.questions(one, str(data))
    with pytest.raises(DataError, match=r"found none of a\.jsonl, b\.jsonl as no data folder"):
        documents.questions(one, "")


def test_a_split_without_a_local_copy_gives_way_to_the_next_and_then_to_the_hub(tmp_path):
    source = CHOICE.replace("test_split: test", "test_split: test\nvalidation_split: dev")
    one = task(tmp_path, source.replace("files: {test: [test.jsonl]", "files: {dev: [dev.jsonl]"))
    data = write(tmp_path / "data", dev__jsonl="{}\n")
    assert documents.questions(one, str(data)).split == "dev"
    hub = task(tmp_path, source.replace("tag: ours", "dataset_path: a/b\ndataset_name: ko"))
    got = documents.questions(hub, str(data))
    assert (got.hub.dataset, got.hub.config, got.hub.split) == ("a/b", "ko", "test")


def test_a_folder_or_a_pipe_is_no_file_of_documents(tmp_path):
    (tmp_path / "d.jsonl").mkdir()
    os.mkfifo(tmp_path / "p.jsonl")
    for name, why in (("d", "is a folder"), ("p", "is a pipe or device")):
        one = task(tmp_path, CHOICE.replace("[test.jsonl]", f"[{name}.jsonl]"))
        with pytest.raises(DataError, match=rf"mine: .*/{name}.jsonl: {why}"):
            documents.questions(one, str(tmp_path))


def test_examples_come_from_the_split_that_is_named_or_from_none(tmp_path):
    write(tmp_path, test__jsonl="{}\n")
    one = task(tmp_path, CHOICE.replace("tag: ours", "fewshot_split: tset"))
    with pytest.raises(
        DataError, match=r"mine: fewshot_split: no split 'tset'; did you mean 'test'"
    ):
        documents.examples(one, str(tmp_path))
    one = task(tmp_path, CHOICE.replace("tag: ours", "fewshot_split: train"))
    with pytest.raises(DataError, match=r"found none of train.jsonl"):
        documents.examples(one, str(tmp_path))
    assert documents.examples(task(tmp_path), str(tmp_path)).split == "test"


def test_what_is_neither_here_nor_on_the_hub_says_where_it_was_looked_for(tmp_path, monkeypatch):
    def offline(*args, **options):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", offline)
    one = task(tmp_path, CHOICE.replace("tag: ours", "dataset_path: nobody/nothing"))
    missing = str(tmp_path / "nodir")
    (tmp_path / "file").touch()
    for place in (missing, str(tmp_path / "file")):
        with pytest.raises(DataError, match=rf"found none of test.jsonl below {place}; .* is no f"):
            read(one, place)
    with pytest.raises(DataError, match=r"not here: found none of test.jsonl below .*; nor on the"):
        read(one, str(tmp_path))


def test_spreadsheet_booleans_crlf_and_raw_quotes_are_read_right(tmp_path):
    one = task(tmp_path, CHOICE.replace("test.jsonl", "test.tsv"))
    write(tmp_path, test__tsv='label\tq\r\nTRUE\tsay "a\r\nFalse\tb" it\r\nFALSE\tc\r\n')
    got = read(one, str(tmp_path))
    assert [(each.text, each.target) for each in got] == [('say "a', 1), ('b" it', 0), ("c", 0)]
    assert got[1].where == f"{tmp_path}/test.tsv:3"


def test_files_without_header_and_jsonl_named_json_are_read_by_what_the_task_says(tmp_path):
    source = CHOICE.replace("test.jsonl", "test.tsv").replace(
        "  values", '  header: false\n  columns: {q: "0", label: "1"}\n  values'
    )
    write(tmp_path, test__tsv="one\tTRUE\ntwo\tFalse\n")
    assert [each.target for each in read(task(tmp_path, source), str(tmp_path))] == [1, 0]
    other = task(tmp_path, CHOICE.replace("test.jsonl", "test.json"))
    lines = [json.dumps({"q": q, "label": label}) for q, label in (("a", "TRUE"), ("b", "False"))]
    write(tmp_path, test__json="\n".join(lines))
    assert [each.target for each in read(other, str(tmp_path))] == [1, 0]


def test_texts_that_are_aligned_by_line_must_have_as_many_lines(tmp_path):
    source = ANSWER.replace("[a.json]", "{context: [a.en], question: [a.ko]}")
    one = task(tmp_path, source.replace("{{answers.text}}", "{{question}}"))
    write(tmp_path, a__en="x y\nz\n", a__ko="y\nz\n")
    assert [each.references for each in read(one, str(tmp_path))] == [("y",), ("z",)]
    write(tmp_path, a__ko="y\n")
    with pytest.raises(DataError, match=r"a\.en has 2 lines and .*a\.ko 1"):
        read(one, str(tmp_path))


def test_questions_of_squads_form_keep_all_their_answers(tmp_path):
    asked = [
        {"id": "q1", "question": "who?", "answers": [{"text": "a", "answer_start": 0},
                                                     {"text": "b c", "answer_start": 2}]},
        {"id": "q2", "question": "what?", "answers": [{"text": "d", "answer_start": 9}]},
        {"id": "q3", "question": "why?", "answers": []},
    ]  # fmt: skip
    data = {"data": [{"paragraphs": [{"context": "a b c", "qas": asked}]}]}
    write(tmp_path, a__json=json.dumps(data))
    right, away, none = read(task(tmp_path, ANSWER), str(tmp_path))
    assert (right.references, right.text) == (("a", "b c"), "a b c who?")
    assert (away.where, away.why) == (
        f"{tmp_path}/a.json: row 2", "its answer 'd' does not stand in its context",
    )  # fmt: skip
    assert none.why == "has no reference answer"


@pytest.mark.parametrize(
    ("old", "new", "fields", "why"),
    [
        ("values", "notes", {"label": 2}, "its target is 2; want the index of a choice, from 0"),
        ("values", "notes", {"label": -1}, "its target is -1; want the index"),
        ("values", "notes", {"label": "TRUE"}, "its target is 'TRUE'; want the index of a choice"),
        ("values", "notes", {"label": True}, "its target is 'True'; want the index"),
        ("[no, yes]", "[no, no]", {"label": 1}, "two choices are the same, 'no'"),
        ("[no, yes]", "c", {"label": 1, "c": ["a", " "]}, "choice 1 is empty"),
        ("[no, yes]", "c", {"label": 1, "c": ["a"]}, "has 1 choices; want at least 2"),
        ("[no, yes]", "c", {"label": 1, "c": ["a", 2]}, "its choices are no list of texts"),
        ("[no, yes]", '"{{c}}"', {"label": 1, "c": "a"}, "its choices are no list of texts"),
        (
            '"{{q}}"',
            "quesion",
            {"label": 1, "question": "b"},
            "has no field 'quesion'; it has q, label, question",
        ),
        (
            "target: label",
            "target: lable",
            {"label": 1},
            "has no field 'lable'; it has q, label; did you mean 'label'",
        ),
        ("[no, yes]", "c", {"label": 1}, "has no field 'c'; it has q, label"),
        ('"{{q}}"', "c", {"label": 1, "c": None}, "its field 'c' is null"),
        ("{{q}}", "{{c}}", {"label": 1, "c": None}, "the template refuses: field 'c' is null"),
        ("{{q}}", "{{c ~ q}}", {"label": 1, "c": None}, "field 'c' is null"),
        ("{{q}}", "{{doc.c.d}}", {"label": 1, "c": {"d": None}}, "field 'c.d' is null"),
        (
            "[no, yes]",
            "['3', '2', '1']",
            {"label": "2"},
            "'2' is the text of choice 1, and could be",
        ),
        ("{{q}}", "{{r}}", {"label": 1}, "refuses: 'r' is undefined; the document has q, label"),
        ("{{q}}", "{{q.__class__}}", {"label": 1}, "the template refuses: "),
    ],
)
def test_a_document_that_cannot_be_scored_is_named_with_file_and_row(
    tmp_path, old, new, fields, why
):
    got = written(task(tmp_path, CHOICE.replace(old, new)), q="a", **fields)
    assert isinstance(got, Bad)
    assert got.where == "a.jsonl:7"
    assert why in got.why


@pytest.mark.parametrize(
    ("target", "choices", "label", "index"),
    [
        ("label", "['3', '2', '1']", 2, 2),
        ("'{{label|int}}'", "['3', '2', '1']", "2", 2),
        ("'{{c.index(label)}}'", "c", "3", 0),
        ("label", "['0', '1', '2']", "2", 2),
        ("'yes'", "[no, yes]", 0, 1),
    ],
)
def test_a_target_of_digits_is_taken_where_it_can_mean_one_thing(
    tmp_path, target, choices, label, index
):
    source = CHOICE.replace("target: label", f"target: {target}").replace("[no, yes]", choices)
    one = task(tmp_path, source.replace("values", "notes"))
    assert written(one, q="a", label=label, c=["3", "2", "1"]).target == index


@pytest.mark.parametrize(
    ("target", "label", "doubtful"),
    [("label", 2, True), ("'{{label|int}}'", "2", False), ("label", 1, False)],
)
def test_an_integer_is_an_index_and_said_where_its_digits_are_another_choice(
    tmp_path, target, label, doubtful
):
    source = CHOICE.replace("target: label", f"target: {target}").replace("values", "notes")
    one = task(tmp_path, source.replace("[no, yes]", "['7', '1', '9', '2']"))
    got = written(one, q="a", label=label)
    assert (got.target, got.doubtful) == (int(label), doubtful)


def test_a_field_that_is_null_can_be_asked_about(tmp_path):
    template = "{{'x' if c or c is not none else 'y'}}{{c|default('z', true)}}{{c == none}}"
    one = task(tmp_path, CHOICE.replace('"{{q}}"', f'"{template}"'))
    assert written(one, q="a", label=1, c=None).text == "yzTrue"


def test_a_reference_is_of_a_field_and_not_null(tmp_path):
    source = ANSWER.replace("answer_in: context, ", "").replace('"{{answers.text}}"', "answr")
    got = written(task(tmp_path, source), context="c", question="q", answer="a")
    assert (
        "has no field 'answr'; it has context, question, answer; did you mean 'answer'" in got.why
    )
    one = task(tmp_path, source.replace("answr", "answer"))
    for answer in (None, ["a", None]):
        assert written(one, context="c", question="q", answer=answer).why == (
            "a reference answer is null"
        )


def test_only_what_a_template_writes_is_read_as_a_list(tmp_path):
    source = ANSWER.replace("answer_in: context, ", "")
    for target, want in (("answer", ("[2, 3]",)), ("'{{answer}}'", ("2", "3"))):
        one = task(tmp_path, source.replace('"{{answers.text}}"', target))
        assert written(one, context="c", question="q", answer="[2, 3]").references == want


# ---------------------------------------------------------------------------- rows of files
def test_numbers_with_a_point_are_numbers_to_a_template(tmp_path):
    source = CHOICE.replace("{{q}}", "{{x}} {{x * 2}} {{'%.2f' % x}}")
    rows = '{"x": 1.5, "label": "TRUE"}', '{"x": 1e-1, "label": "TRUE"}'
    for name, content in (("jsonl", "\n".join(rows)), ("json", f"[{', '.join(rows)}]")):
        one = task(tmp_path, source.replace("test.jsonl", f"test.{name}"))
        (tmp_path / f"test.{name}").write_text(content)
        assert [each.text for each in read(one, str(tmp_path))] == ["1.5 3.0 1.50", "0.1 0.2 0.10"]


def test_nan_is_null_as_in_training_data(tmp_path):
    write(tmp_path, test__jsonl='{"q": NaN, "r": {"s": [NaN]}, "label": "TRUE"}\n')
    for template, why in (("q", "its field 'q' is null"), ("'{{r.s[0]}}'", "field 'r.s[0]' is nu")):
        [got] = read(task(tmp_path, CHOICE.replace('"{{q}}"', template)), str(tmp_path))
        assert why in got.why
    source = CHOICE.replace("{{q}}", "{{q is none}}")
    [got] = read(task(tmp_path, source), str(tmp_path))
    assert got.text == "True"


@pytest.mark.parametrize(
    ("builder", "keys", "content", "want"),
    [
        ("csv", 'delimiter: ";"', 'q;label\n"a;b";1\nc,d;0\n', ["a;b", "c,d"]),
        ("csv", 'delimiter: "\\t"', 'q\tlabel\n"a\tb"\t1\nc\t0\n', ["a\tb", "c"]),
        ("csv", "quoting: 3", 'q,label\n"a,1\n', ['"a']),
        ("csv", 'delimiter: "|", quoting: 3', 'q|label\n"a|1\n', ['"a']),
        ("json", "", '\n [{"q": "a", "label": 1},\n {"q": "b", "label": 0}]\n', ["a", "b"]),
        ("json", "", '{"q": "a", "label": 1, "r": [{"q": "b"}]}\n', ["a"]),
    ],
)
def test_files_are_read_as_the_harness_s_builders_read_them(tmp_path, builder, keys, content, want):
    kwargs = f"{{data_files: {{test: test.x}}, {keys}}}"
    source = CHOICE.replace("tag: ours", f"dataset_path: {builder}\ndataset_kwargs: {kwargs}")
    one = task(tmp_path, source.replace("values", "notes"))
    (tmp_path / "test.x").write_text(content)
    assert [getattr(each, "text", each) for each in read(one, str(tmp_path))] == want


def test_a_prompt_that_is_the_same_for_all_documents_is_refused(tmp_path):
    one = task(tmp_path, CHOICE.replace("{{q}}", "Say yes."))
    write(tmp_path, test__jsonl='{"q": "a", "label": "TRUE"}\n{"q": "b", "label": "FALSE"}\n')
    with pytest.raises(DataError, match=r"all 2 documents .*'Say yes.'; .* {{q}}: there are q, la"):
        asking.prepare(one, data=str(tmp_path))
    asking.prepare(task(tmp_path), data=str(tmp_path))


def test_a_value_that_the_task_does_not_know_is_refused_and_not_taken_for_wrong(tmp_path):
    one = task(tmp_path)
    write(tmp_path, test__jsonl='{"q": "a", "label": "TRUE"}\n{"q": "b", "label": "WAHR"}\n')
    good, bad = read(one, str(tmp_path))
    assert good.target == 1
    assert (bad.where, bad.why) == (
        f"{tmp_path}/test.jsonl:2", "label is 'WAHR'; want one of FALSE, False, TRUE",
    )  # fmt: skip


@pytest.mark.parametrize("answer", ["", " ", [], ["a", ""]])
def test_an_empty_reference_is_refused(tmp_path, answer):
    source = ANSWER.replace("answer_in: context, ", "").replace("{{answers.text}}", "answer")
    got = written(task(tmp_path, source), context="c", question="q", answer=answer)
    assert isinstance(got, Bad)
    assert "reference answer" in got.why


def test_a_number_task_wants_a_number_in_its_answer(tmp_path):
    source = ANSWER.replace("squad_f1", "number").replace("answer_in: context, ", "")
    one = task(tmp_path, source.replace("{{answers.text}}", "answer"))
    assert written(one, context="c", question="q", answer="2,125").references == ("2,125",)
    assert "has no number" in written(one, context="c", question="q", answer="none").why


def test_a_letter_task_wants_a_letter_in_its_answer(tmp_path):
    source = ANSWER.replace("squad_f1", "letter").replace("answer_in: context, ", "")
    one = task(tmp_path, source.replace("{{answers.text}}", "answer"))
    assert written(one, context="c", question="q", answer="(B)").references == ("(B)",)
    assert "names no letter from A to J" in written(one, context="c", question="q", answer="K").why


# ---------------------------------------------------------------------------- prompts
def test_a_prompt_is_joined_as_the_harness_joins_it(tmp_path):
    source = CHOICE.replace("tag: ours", 'description: "Answer.\\n\\n"')
    one = task(tmp_path, source.replace("metric_list", 'gen_prefix: "A:"\nmetric_list'))
    first, second = (written(one, q=q, label=label) for q, label in (("x", 0), ("y", 1)))
    assert prompts.with_shots(second, [first], one, 1) == "Answer.\n\nx A: no\n\ny A:"
    bare = task(tmp_path)
    first, second = (written(bare, q=q, label=label) for q, label in (("x", 0), ("y", 1)))
    assert prompts.with_shots(second, [first], bare, 1) == "x no\n\ny"


def test_examples_are_never_the_question_and_do_not_depend_on_its_neighbours(tmp_path):
    one = task(tmp_path)
    every = [written(one, q=f"q{i}", label=i % 2) for i in range(8)]
    copy = written(one, q="q3", label=1)
    for question in every:
        chosen = prompts.choose(question, [*every, copy], 7, "default")
        assert len({each.text for each in chosen}) >= 6  # both copies of q3 may be among them
        assert question.text not in [each.text for each in chosen]
        assert chosen == prompts.choose(question, [*every, copy], 7, "default")
    firsts = [prompts.choose(question, every, 2, "default") for question in every]
    assert len({tuple(each.text for each in chosen) for chosen in firsts}) > 3
    assert [e.text for e in prompts.choose(every[0], every, 2, "first_n")] == ["q1", "q2"]
    with pytest.raises(ValueError, match="8 shots were asked for, and there are 7 examples"):
        prompts.choose(every[0], every, 8, "default")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (
            "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
            "over 2 s",
        ),
        ("{{ 9 ** (9 ** 9) }}", "over 2 s for one rendering"),
        ("{% if %}", "cannot be read"),
    ],
)
def test_a_template_that_fails_for_every_document_is_said_once_with_file_and_row(
    tmp_path, template, why
):
    one = task(tmp_path, CHOICE.replace('"{{q}}"', f"'{template}'"))
    with pytest.raises(DataError, match=rf"mine: a.jsonl:7: the template .*{why}.*mine.yaml"):
        written(one, q="a", label=1)


def test_slow_renderings_of_many_documents_are_stopped_together(monkeypatch):
    monkeypatch.setattr(renderer, "ALL_SECONDS", -1e9)
    [answer] = renderer._filled(["{{a}}"], {"a": 1}, 2)
    assert answer["lasting"]
    assert "s for 2 documents; want at most 0.05 s each" in answer["error"]


def test_the_file_that_the_module_shows_is_a_task_file(tmp_path):
    lines = (task_files.__doc__ or "").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("    task: xcopa_ta"))
    end = next(i for i in range(start, len(lines)) if not lines[i].strip())
    one = task(tmp_path, textwrap.dedent("\n".join(lines[start:end])))
    got = written(
        one, premise="A.", choice1="Bc", choice2="Dd", question="cause", label=1, idx=0
    )  # fmt: skip
    assert isinstance(got, Question)
    assert got.choices == ("bc", "dd")
    assert got.text == f"A {one.words['because']}"
