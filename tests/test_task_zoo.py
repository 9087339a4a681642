"""The tasks that ship: what each asks, in which words, and how its files are read."""

from collections import Counter
from collections.abc import Callable, Iterator
import fnmatch
import json
from pathlib import Path
import re
import tomllib
from typing import Any

from conftest import DATA, data_file
import pytest

from lrl_jax.data.templates import table
from lrl_jax.evaluate import task_files
from lrl_jax.evaluate.benchmark import documents, prompts
from lrl_jax.evaluate.benchmark.prompts import Question
from lrl_jax.recipe import file as recipe_file
from lrl_jax.text import Bad, DataError
from scripts import in_context_probe

EVERY = task_files.shipped()
GROUPS = {
    "kobest", "klue", "xnli", "indicxnli", "xcopa", "xstorycloze", "belebele", "mlama",
    "indicsentiment", "include", "global_mmlu_lite", "in_context", "xquad", "mlqa", "afriqa",
    "mgsm", "flores101", "flores200", "ntrex", "xlsum",
}  # fmt: skip


def asked(name: str, data: str, file: str = "") -> list[Question | Bad]:
    """Every question of a task, or what is wrong with its document."""
    [task] = task_files.resolve(name)
    writer = prompts.QuestionWriter(task)
    source = documents.questions(task, data, file)
    assert source.hub is None
    return [
        document if isinstance(document, Bad) else writer.write(document)
        for document in documents.read(task, source)
    ]


def question(name: str, **fields: Any) -> Question:
    """The question that a task makes of these fields."""
    [task] = task_files.resolve(name)
    got = prompts.QuestionWriter(task).write(documents.TaskDocument(fields, "here"))
    assert isinstance(got, Question), got
    return got


# ---------------------------------------------------------------------------- all of them
def test_every_task_says_its_paper_its_prompt_and_what_differs():
    assert len(EVERY) > 1000
    for task in EVERY:
        facts = task.facts
        assert facts.paper, task.name
        assert facts.prompt, task.name
        assert facts.differs, task.name
        assert task.settings.dataset_path or facts.files, task.name
    assert {group for task in EVERY for group in task.settings.groups} >= GROUPS


def test_every_task_is_found_by_its_name_and_by_its_group():
    for name in (
        "kobest_wic",
        "xcopa_sw",
        "flores101_to_eng_zho_simpl",
        "include_north_macedonian",
    ):
        assert [task.name for task in task_files.resolve(name)] == [name]
    assert len(task_files.resolve("kobest")) == 5
    count = Counter(group for task in EVERY for group in task.settings.groups)
    assert (count["belebele"], count["include"], count["klue"]) == (122, 44, 3)


def test_the_task_files_are_in_the_package():
    root = Path(__file__).parents[1]
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = [
        f"tasks/{p.partition('/')[2]}" for p in settings["package-data"]["lrl_jax.evaluate"]
    ]
    for path in task_files.SHIPPED.iterdir():
        assert any(fnmatch.fnmatch(f"tasks/{path.name}", pattern) for pattern in patterns), path


def test_questions_on_a_text_are_asked_in_the_prompt_that_x_llama_was_trained_with():
    got = question(
        "xquad_hi", context=" इंग्लैंड में। ", question="कहाँ?",
        answers={"text": ["इंग्लैंड"], "answer_start": [1]},
    )  # fmt: skip
    want = table.parts("alpaca", {
        "instruction": "कृपया निम्नलिखित पैराग्राफ के अनुसार प्रश्नों के उत्तर दें",
        "input": "अनुच्छेद: इंग्लैंड में।\nसवाल: कहाँ?\nउत्तर: ", "output": "",
    })[0]  # fmt: skip
    assert got.text == want.text
    assert got.references == ("इंग्लैंड",)


def test_flores_101_is_asked_in_the_prompt_that_x_llama_was_trained_with():
    got = question("flores101_from_eng_tur", source="Good day.", target="İyi günler.")
    instruction = "Translate the following sentences from English to Turkish."
    record = {"instruction": instruction, "input": "Good day.", "output": ""}
    assert got.text == table.parts("alpaca", record)[0].text


PAPERS = {
    "bllossom": "Bllossom", "design_choices": "Design Choices", "xllama": "x-LLaMA",
    "mllama": "x-LLaMA",
}  # fmt: skip


@pytest.mark.parametrize("name", ["bllossom", "design_choices", "eeve", "mllama", "taco", "xllama"])
def test_a_recipe_of_a_paper_asks_its_tasks_and_some_english(name):
    recipe = recipe_file.load(str(Path(__file__).parents[1] / f"configs/{name}.yaml"))
    named = {entry.task for entry in recipe.evaluate.tasks.values()}
    asks = [t for t in EVERY if named & {t.name, *t.settings.groups}]
    assert named <= {name for t in asks for name in (t.name, *t.settings.groups)}
    assert {"in_context_copy", "in_context_classes"} < {task.name for task in asks}
    if name in PAPERS:  # the tasks of the others are ours
        assert sum(PAPERS[name] in task.facts.paper for task in asks) >= 4


def test_the_tasks_that_the_script_of_the_papers_asks_exist():
    script = (Path(__file__).parents[1] / "scripts/paper_tasks.sh").read_text().replace("\\\n", "")
    asks = re.findall(r'^system \w+ \S+ "[^"]*" "?([\w,]+)"?$', script, re.MULTILINE)
    names = [name for line in asks for name in line.split(",")]
    assert len(asks) == 7
    assert len(names) == 20
    every = {task.name for task in EVERY} | {g for task in EVERY for g in task.settings.groups}
    assert {*names} <= every


# ---------------------------------------------------------------------------- prompts by hand
NLI = ("A", "B", {"premise": "P", "hypothesis": "H", "label": 2})
ABCD = "Q?\nA. a\nB. b\nC. c\nD. d\nAnswer:"
OPTIONS = dict(option_a="a", option_b="b", option_c="c", option_d="d")
PROMPTS = {
    "kobest_boolq": (
        dict(paragraph="글", question="물음?", label=1),
        "글 질문: 물음? 답변: ", ("아니오", "예"), 1),
    "kobest_copa": (
        dict(premise="비가 온다.", question="원인", alternative_1="가", alternative_2="나",
             label=1),
        "비가 온다.  왜냐하면", ("가", "나"), 1),
    "kobest_wic": (
        dict(word="실정", context_1="[실정]가", context_2="[실정]나", label=0),
        "문장1: [실정]가 문장2: [실정]나 두 문장에서 실정가 같은 뜻으로 쓰였나?",
        ("아니오", "예"), 0),
    "klue_ynat": (dict(title="제목글", label=6), "제목: 제목글\n주제:",
        ("IT과학", "경제", "사회", "생활문화", "세계", "스포츠", "정치"), 6),
    "klue_sts": (dict(sentence1="가", sentence2="나", labels={"binary-label": 1, "label": 3.7}),
        "문장1: 가\n문장2: 나\n두 문장의 뜻이 같은가?", ("아니오", "예"), 1),
    "klue_nli": (dict(premise="P", hypothesis="H", label=2), "",
        ("P, 맞지? 네, H", "P, 맞지? 또한, H", "P, 맞지? 아니요, H"), 2),
    "xnli_hi": (dict(premise='"P"', hypothesis="H", label=2), "",
        ('"P", सही? हाँ, H', '"P", सही? इसलिए, H', '"P", सही? नहीं, H'), 2),
    "indicxnli_ta": (dict(premise="P", hypothesis="H's", label=0), "",
        ("P, சரி? ஆம், H's", "P, சரி? அதனால், H's", "P, சரி? இல்லை, H's"), 0),
    "kornli": (dict(premise="P", hypothesis="H", label=1), "",
        ("P, 맞지? 네, H", "P, 맞지? 또한, H", "P, 맞지? 아니요, H"), 1),
    "xcopa_tr": (
        dict(premise="Adam düştü. ", choice1="Işık söndü.", choice2="Kalktı.", question="cause",
             label=0),
        "Adam düştü çünkü", ("işık söndü.", "kalktı."), 0),
    "xcopa_sw": (
        dict(premise="Alianguka.", choice1="Aliumia.", choice2="Alicheka.", question="effect",
             label=1),
        "Alianguka kwa hiyo", ("aliumia.", "alicheka."), 1),
    "xstorycloze_hi": (
        dict(input_sentence_1="१।", input_sentence_2="२।", input_sentence_3="३।",
             input_sentence_4="४।", sentence_quiz1="क।", sentence_quiz2="ख।",
             answer_right_ending=2),
        "१। २। ३। ४।", ("क।", "ख।"), 1),
    "belebele_npi_Deva": (
        dict(flores_passage="P", question=" Q? ", mc_answer1="a", mc_answer2="b", mc_answer3="c",
             mc_answer4="d", correct_answer_num="3"),
        "P: P\nQ: Q?\nA: a\nB: b\nC: c\nD: d\nAnswer:", ("A", "B", "C", "D"), 2),
    "mlama_ta": (
        dict(sub_label="Paris", template="[X] is in [Y].", options=["Peru", "France"],
             obj_label="France"),
        "", ("Paris is in Peru.", "Paris is in France."), 1),
    "indicsentiment_hi": (
        {"INDIC REVIEW": "अच्छा", "LABEL": "Positive"}, "अच्छा: ", ("Negative", "Positive"), 1),
    "include_nepali": (
        dict(question=" Q? ", answer=3, **OPTIONS), ABCD, ("A", "B", "C", "D"), 3),
    "global_mmlu_lite_ko": (
        dict(question="Q?", answer="B", **OPTIONS), ABCD, ("A", "B", "C", "D"), 1),
    "hellaswag": (
        dict(activity_label="Roof", ctx_a="A man [step] is  here.", ctx_b="he",
             endings=["sits [title] Then", "runs", "[substeps] eats", "sleeps"], label="3"),
        "Roof: A man is here. He", ("sits. Then", "runs", " eats", "sleeps"), 3),
    "in_context_copy": (
        dict(examples=[["cat", "dax"], ["red", "wug"]], word="cat", label=0),
        "cat -> dax\nred -> wug\ncat ->", ("dax", "wug"), 0),
    "mlqa_de": (
        dict(context="In Rom.", question="Wo?", answers={"text": ["Rom"], "answer_start": [3]}),
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
        "Bitte beantworten Sie die Fragen anhand der folgenden Absätze\n\n### Input:\nKontext: In "
        "Rom.\nFrage: Wo?\nAntwort: \n\n### Response:", ("Rom",), -1),
    "afriqa_yor": (
        dict(question_lang="Q?", context="C yes", answer_pivot={"text": ["C"]}),
        "Your task is to answer a qestion given a context.Make sure you respond with the shortest "
        "span containing the answer in the context.\nQuestion: Q?\nContext: C yes\nAnswer:",
        ("C",), -1),
    "mgsm_sw": (dict(question="Ngapi?", answer_number="2,125"), "Swali: Ngapi?\nAnswer:",
        ("2,125",), -1),
    "mgsm_steps_zh": (dict(question="多少？", answer_number="18"), "问题： 多少？\n逐步解答:",
        ("18",), -1),
    "mgsm_fr": (dict(question="Question : Combien ?", answer="Etapes", answer_number=7),
        "Question : Combien ?\nRéponse :", ("7",), -1),
    "flores200_from_eng_hin_Deva": (
        dict(source="Hello.", target="नमस्ते।"), "English: Hello.\nHindi:", ("नमस्ते।",), -1),
    "ntrex_to_eng_nep": (
        dict(source="नमस्ते।", target="Hello."), "Nepali: नमस्ते।\nEnglish:", ("Hello.",), -1),
    "xlsum_tamil": (dict(summary="S", title="T"), "Summary: S\nTitle:", ("T",), -1),
}  # fmt: skip


@pytest.mark.parametrize("name", PROMPTS)
def test_a_document_is_asked_as_worked_out_by_hand(name):
    fields, text, options, target = PROMPTS[name]
    got = question(name, **fields)
    assert got.text == text
    assert (got.choices or got.references, got.target) == (options, target)


def test_every_family_has_its_prompt_worked_out_by_hand():
    families = {(*task.settings.groups, task.name)[0] for task in EVERY}
    shown = {g for name in PROMPTS for g in task_files.resolve(name)[0].settings.groups}
    assert families - shown - {*PROMPTS} == {"korquad", "xquad", "flores101"}  # two are above


# ---------------------------------------------------------------------------- the real files
@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("kobest_boolq", {0: 374, 1: 326}),  # TRUE and FALSE
        ("kobest_copa", {0: 248, 1: 252}),  # counted from 1 in the file
        ("kobest_hellaswag", {0: 111, 1: 125, 2: 145, 3: 119}),  # without a column ID
        ("kobest_sentineg", {0: 200, 1: 200}),  # ID, Label, Text
        ("kobest_wic", {0: 349, 1: 261}),  # True, TRUE, False and FALSE
        *((f"xcopa_{key}", {0: 55, 1: 45}) for key in ("sw", "ta", "th", "tr", "vi", "zh")),
    ],
)
def test_the_choices_of_a_public_file_are_all_read(name, targets):
    data_file("nlu")
    got = asked(name, str(DATA))
    assert [each for each in got if isinstance(each, Bad)] == []
    assert Counter(each.target for each in got) == targets


def test_columns_are_read_by_their_names_in_either_order():
    train = data_file("nlu/kobest/SentiNeg.train.tsv")  # ID, Text, Label
    got = asked("kobest_sentineg", "", str(train))
    assert Counter(each.target for each in got) == Counter(
        int(line.rsplit("\t", 1)[1]) for line in train.read_text().splitlines()[1:]
    )
    assert len(got) == 3649


def test_quotes_in_a_table_are_text():
    raw = data_file("nlu/kornli/xnli.dev.ko.tsv").read_text(encoding="utf-8").splitlines()[1:]
    got = asked("kornli", str(DATA))
    assert len(got) == len(raw) == 2490
    assert Counter(each.target for each in got) == {0: 830, 1: 830, 2: 830}
    quoted = [number for number, line in enumerate(raw) if '"' in line]
    assert len(quoted) == 28
    for number in quoted:
        premise, hypothesis, _ = raw[number].split("\t")
        assert got[number].choices[0] == f"{premise}, 맞지? 네, {hypothesis}"


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *((f"xquad_{key}", 1190) for key in ("ar", "en", "hi", "tr", "zh")),
        ("korquad", 2865),
        ("afriqa_swa", 295),  # JSON lines that are named .json
        *((f"mgsm_{key}", 250) for key in ("en", "sw", "th", "zh")),  # without a header
        ("flores101_from_eng_kor", 200),
        ("flores101_to_eng_zho_simpl", 200),
        ("ntrex_from_eng_zho-CN", 1997),
        ("ntrex_to_eng_nep", 1997),
    ],
)
def test_the_questions_of_a_public_file_are_all_read(name, count):
    data_file("qa")
    got = asked(name, str(DATA))
    assert [each for each in got if isinstance(each, Bad)] == []
    assert len(got) == count
    assert all(each.text and each.references for each in got)


def test_every_answer_stands_at_its_offset_in_code_points():
    data_file("qa")
    for name in ("xquad_hi", "korquad"):
        [task] = task_files.resolve(name)
        for document in documents.read(task, documents.questions(task, str(DATA))):
            fields = document.fields
            for start, text in zip(
                *map(fields["answers"].get, ("answer_start", "text")), strict=True
            ):
                assert fields["context"][start:].startswith(text), document.where


# ---------------------------------------------------------------------------- one bad document
BOOLQ = "ID\tText\tQuestion\tAnswer\r\n1\t글\t물음?\tTRUE\r\n{}\r\n3\t글\t물음?\tFALSE\r\n"
COPA = (
    "ID\tsentence\tquestion\t1\t2\tAnswer\r\n1\t글.\t원인\t가\t나\t1\r\n{}\r\n"
    "3\t글.\t결과\t가\t나\t2\r\n"
)
SWAG = (
    "context\tchoice1\tchoice2\tchoice3\tchoice4\tlabel\nC\ta\tb\tc\td\t0\n{}\nC\ta\tb\tc\td\t3\n"
)
XNLI = "sentence1\tsentence2\tgold_label\nP\tH\tneutral\n{}\nP\tH\tentailment\n"
XCOPA = '{{"premise": "P.", "choice1": "a", "choice2": "b", "question": "cause", "label": 0}}'
XCOPA = f"{XCOPA}\n{{}}\n{XCOPA}\n"
MGSM = "How many?\t18\n{}\nHow many?\t2,125\n"
AFRIQA = '{{"context": "C", "question_lang": "Q?", "answer_pivot": {{"text": ["C"]}}}}'
AFRIQA = f"{AFRIQA}\n{{}}\n{AFRIQA}\n"
BAD = [
    ("kobest_boolq", "BoolQ.dev.tsv", BOOLQ, "2\t글\t물음?\tMAYBE", "label is 'MAYBE'; want"),
    ("kobest_boolq", "BoolQ.dev.tsv", BOOLQ, "2\t글\t물음?\t", "label is ''; want one of"),
    ("kobest_boolq", "BoolQ.dev.tsv", BOOLQ, "2\t글\t물음?", "3"),
    ("kobest_copa", "COPA.dev.tsv", COPA, "2\t글.\t원인\t가\t나\t3", "its target is 2; want"),
    ("kobest_copa", "COPA.dev.tsv", COPA, "2\t글.\t원인\t가\t나\t0", "its target is '-1'; want"),
    ("kobest_copa", "COPA.dev.tsv", COPA, "2\t글.\t원인\t가\t가\t1", "two choices are the same"),
    ("kobest_copa", "COPA.dev.tsv", COPA, "2\t글.\t원인\t가\t \t1", "choice 1 is empty"),
    ("kobest_copa", "COPA.dev.tsv", COPA, "2\t글.\t까닭\t가\t나\t1", "까닭"),
    ("kobest_hellaswag", "HellaSwag.dev.tsv", SWAG, "C\ta\tb\tc\td\t4", "label is '4'; want"),
    ("kornli", "xnli.dev.ko.tsv", XNLI, "P\tH\t-", "label is '-'; want one of"),
    ("xcopa_sw", "val.sw.jsonl", XCOPA, '{"premise": "P.", "choice1": "a"', "JSON"),
    (
        "xcopa_sw", "val.sw.jsonl", XCOPA,
        '{"premise": "P.", "choice1": "a", "choice2": "b", "question": "why", "label": 0}',
        "question is 'why'; want one of cause, effect",
    ),
    (
        "xcopa_sw", "val.sw.jsonl", XCOPA,
        '{"premise": "P.", "choice1": "a", "choice2": "", "question": "cause", "label": 0}',
        "choice 1 is empty",
    ),
    (
        "xcopa_sw", "val.sw.jsonl", XCOPA,
        '{"premise": "P.", "choice1": "a", "question": "cause", "label": 0}', "choice2",
    ),
    (
        "xcopa_sw", "val.sw.jsonl", XCOPA,
        '{"premise": "P.", "choice1": "a", "choice2": "b", "question": "cause", "label": true}',
        "its target is 'True'; want the index of a choice",
    ),
    ("mgsm_en", "mgsm_en.tsv", MGSM, "How many?\tmany", "its answer 'many' has no number"),
    ("mgsm_en", "mgsm_en.tsv", MGSM, "How many?\t", "a reference answer is empty"),
    (
        "afriqa_swa", "gold_span.swa.en.test.json", AFRIQA,
        '{"context": "C", "question_lang": "Q?", "answer_pivot": {"text": []}}',
        "has no reference answer",
    ),
    (
        "afriqa_swa", "gold_span.swa.en.test.json", AFRIQA,
        '{"context": "C", "question_lang": "Q?"}', "answer_pivot",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "form", "row", "why"), BAD)
def test_a_bad_document_is_refused_with_its_file_and_row(tmp_path, name, file, form, row, why):
    path = tmp_path / file
    path.write_text(form.format(row), encoding="utf-8", newline="")
    got = asked(name, str(tmp_path))
    bad = [each for each in got if isinstance(each, Bad)]
    number = 2 if name in ("mgsm_en", "xcopa_sw", "afriqa_swa") else 3
    assert [each.where for each in bad] == [f"{path}:{number}"]
    assert why in bad[0].why
    assert [isinstance(each, Bad) for each in got] == [False, True, False]


def squad(change: Callable[[dict], object]) -> dict:
    good = {"id": "1", "question": "Q?", "answers": [{"text": "308", "answer_start": 4}]}
    other = json.loads(json.dumps(good)) | {"id": "2"}
    change(other)
    return {
        "data": [
            {"title": "T", "paragraphs": [{"context": "gab 308 Punkte", "qas": [good, other]}]}
        ]
    }


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda qa: qa.update(answers=[]), "has no reference answer"),
        (lambda qa: qa["answers"][0].update(text=""), "a reference answer is empty"),
        (lambda qa: qa["answers"][0].update(text="309"), "'309' does not stand in its context"),
    ],
)
def test_a_bad_question_of_a_squad_file_is_refused(tmp_path, change, why):
    (tmp_path / "xquad.hi.json").write_text(json.dumps(squad(change)))
    first, second = asked("xquad_hi", str(tmp_path))
    assert isinstance(first, Question)
    assert isinstance(second, Bad)
    assert str(tmp_path / "xquad.hi.json") in second.where
    assert why in second.why


@pytest.mark.parametrize(
    ("name", "file", "content", "why"),
    [
        ("kobest_boolq", "BoolQ.dev.tsv", "ID\tText\tAnswer\n1\tT\tTRUE\n", "no column 'Question'"),
        ("kobest_boolq", "BoolQ.dev.tsv", "", "is empty"),
        ("xcopa_sw", "val.sw.jsonl", "<html></html>\n", "JSON"),
        ("xquad_hi", "xquad.hi.json", "[]", ""),
    ],
)
def test_a_file_of_the_wrong_layout_is_refused(tmp_path, name, file, content, why):
    (tmp_path / file).write_text(content)
    try:
        bad = [each for each in asked(name, str(tmp_path)) if isinstance(each, Bad)]
        message = "".join(f"{each.where} {each.why}" for each in bad)
    except DataError as e:
        message = str(e)
    assert file in message
    assert why in message


# ---------------------------------------------------------------------------- the probe
def probe() -> Iterator[tuple[str, list[dict]]]:
    for name in ("copy", "classes"):
        source = (task_files.SHIPPED / f"in_context_{name}.jsonl").read_text()
        assert source == in_context_probe.text(name)  # as the script makes it
        yield name, [json.loads(line) for line in source.splitlines()]


def test_every_way_to_guess_is_right_in_half_of_the_probe():
    labels = in_context_probe.LABELS
    for name, made in probe():
        right = [labels[document["label"]] for document in made]
        assert Counter(right) == {"dax": 100, "wug": 100}, name
        last = [document["examples"][-1][1] for document in made]
        assert sum(guess == label for guess, label in zip(last, right, strict=True)) == 100, name
        for document in made:
            assert Counter(label for _, label in document["examples"]) == {"dax": 4, "wug": 4}


def test_the_examples_give_the_answer_away():
    kind = {word: group for group in in_context_probe.CLASSES for word in group}
    for name, made in probe():
        for document in made:
            want = in_context_probe.LABELS[document["label"]]
            word, examples = document["word"], document["examples"]
            if name == "copy":
                assert dict(examples[:-1])[word] == want
            else:
                assert word not in dict(examples)
                assert {label for w, label in examples if kind[w] == kind[word]} == {want}
