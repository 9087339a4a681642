"""Runs side by side: only what is comparable, the reason for every empty cell, and tests."""

from collections.abc import Callable
import json
import math

import compared_runs
from compared_runs import OTHER_TEXT, write
import pytest
import sacrebleu

from lrl_jax.evaluate import kinds
from lrl_jax.evaluate.benchmark import paired
from lrl_jax.evaluate.rows import ComparableScore, ReportRow
from lrl_jax.report import plots
from lrl_jax.report.compare import comparable, curves, markdown, page, runs, scores, tables


def facts_of(tmp_path, *changes: Callable[[dict], object], said=None) -> dict:
    """What is compared of a run and of others that are changed in one way each."""
    places = {"first": write(tmp_path / "first")}
    for i, change in enumerate(changes):
        files = compared_runs.pieces()
        change(files)
        places[f"other{i}"] = write(tmp_path / f"other{i}", files)
    return page.facts(runs.read(places, said or {}))


def cell(facts: dict, table: str, key: str, run: str = "other0") -> dict:
    """The cell of a run in the row of the first run."""
    (row,) = [row for row in facts[table] if row["key"] == key and row["first"] == "first"]
    return row["cells"][run]


def results(files: dict, kind: str, name: str, **changes) -> None:
    files["evaluate/after.json"][kind][name] |= changes


def evaluated(files: dict, **inputs: str) -> None:
    files["steps/evaluate.json"]["inputs"] |= {k.replace("__", "."): v for k, v in inputs.items()}


def entry(files: dict, **changes) -> None:
    files["recipe.yaml"]["evaluate"]["translation"]["en_ko"] |= changes


def dataset(files: dict, **changes) -> None:
    files["recipe.yaml"]["data"]["datasets"]["korean"] |= changes


def judge(files: dict, model: str, rating: float, **changes) -> None:
    scores = {model: {"rating": rating, "interval": [6.0, 9.0], "items": 78},
              "other": {"rating": 1.0}}  # fmt: skip
    result = {"kind": "single", "judges": ["j"], "models": [model, "other"], "scores": scores,
              "items": 80, "failed": {"refusal": 2},
              "questions": {"file": "q.jsonl", "sha256": "1"}}  # fmt: skip
    files["judge/judge.json"] = result | changes


def nothing(files: dict) -> None:
    pass


SAME_VALUE = {  # table, key -> the value of the first run
    ("results", "bits_per_byte.bits_per_byte"): 0.5,
    ("results", "bits_per_byte.tokens_per_line"): 30.0,
    ("results", "bits_per_byte.nats_per_token"): 1.5,
    ("results", "translation.chrf"): 40.0,
    ("results", "translation.chrf++"): 38.0,
    ("results", "translation.bleu"): 20.0,
    ("tasks", "tasks.acc"): 60.0,
    ("fertility", "fertility.per_line"): 10.0,
    ("fertility", "fertility.parity"): 2.0,
    ("efficiency", "efficiency.input.tokens"): 500.0,
    ("efficiency", "efficiency.input.seconds"): 0.2,
    ("efficiency", "efficiency.training.tokens_per_second"): 100.0,
}


def test_two_runs_that_were_measured_alike_share_every_row(tmp_path):
    facts = facts_of(tmp_path, nothing)
    got = {
        (table, row["key"]): row["cells"]["other0"]["value"]
        for table in ("results", "tasks", "fertility", "efficiency")
        for row in facts[table]
    }
    assert got == SAME_VALUE


REASONS = {
    "another vocabulary": (
        "results", "bits_per_byte.nats_per_token",
        lambda files: (files.update({"vocab/tokenizer.model": "tokenizer 2"}),
                       files["steps/train.json"]["inputs"].update(vocab="v2")),
    ),
    "other test text": (
        "results", "bits_per_byte.bits_per_byte",
        lambda files: evaluated(files, evaluate__bits_per_byte__kor=OTHER_TEXT),
    ),
    "other test text (translation)": (
        "results", "translation.chrf",
        lambda files: evaluated(files, evaluate__translation__en_ko__target=OTHER_TEXT),
    ),
    "other test text (fertility)": (
        "fertility", "fertility.per_line",
        lambda files: files["steps/vocab.json"]["inputs"].update(
            {"vocab.report.texts.kor_Hang": OTHER_TEXT}),
    ),
    "another reference text": (
        "fertility", "fertility.parity",
        lambda files: files["steps/vocab.json"]["inputs"].update(
            {"vocab.report.texts.eng_Latn": OTHER_TEXT}),
    ),
    "other lines of the test text": (
        "results", "bits_per_byte.bits_per_byte",
        lambda files: results(files, "bits_per_byte", "kor", lines=5, bytes=450),
    ),
    "another template": (
        "results", "translation.chrf", lambda files: entry(files, template="alpaca")),
    "other lines of the test text (limit)": (
        "results", "translation.chrf",
        lambda files: (entry(files, limit=5), results(files, "translation", "en_ko", lines=5)),
    ),
    "another limit of an answer's tokens": (
        "results", "translation.chrf", lambda files: entry(files, max_new_tokens=7)),
    "another target language": (
        "results", "translation.chrf", lambda files: entry(files, target_language="jpn_Jpan")),
    "another source language": (
        "results", "translation.chrf", lambda files: entry(files, source_language="deu_Latn")),
    "another tokenizer of BLEU": (
        "results", "translation.bleu",
        lambda files: results(files, "translation", "en_ko", bleu_tokenizer="char", signatures={
            "bleu": "eff:no|tok:char|version:2.6.0"}),
    ),
    "scored in another way (sacrebleu's signature)": (
        "results", "translation.chrf++",
        lambda files: results(files, "translation", "en_ko",
                              signatures={"chrf++": "nc:4|nw:2|version:2.6.0"}),
    ),
    "another task": ("tasks", "tasks.acc", lambda files: results(files, "tasks", "copa", task="x")),
    "another version of the task": (
        "tasks", "tasks.acc", lambda files: results(files, "tasks", "copa", version="2.0")),
    "other questions": (
        "tasks", "tasks.acc", lambda files: results(files, "tasks", "copa", documents="d2")),
    "another number of shots": (
        "tasks", "tasks.acc", lambda files: results(files, "tasks", "copa", shots=4)),
    "another prompt": (
        "tasks", "tasks.acc",
        lambda files: (evaluated(files, **{"task copa copa": "file2"}),
                       files.update({"evaluate/items/after/copa.jsonl": items("Q: ")})),
    ),
    "asked by another program": (
        "tasks", "tasks.acc",
        lambda files: results(files, "tasks", "copa", by="lm-evaluation-harness")),
    "another machine": (
        "efficiency", "efficiency.input.seconds",
        lambda files: files["evaluate/after.json"]["facts"].update(devices="8 x TPU v4 (tpu)")),
    "test text not recorded": (
        "results", "bits_per_byte.bits_per_byte",
        lambda files: files["steps/evaluate.json"].pop("inputs")),
    "lines not recorded": (
        "results", "bits_per_byte.bits_per_byte",
        lambda files: files["evaluate/after.json"]["bits_per_byte"]["kor"].pop("bytes")),
    "not measured": (
        "results", "bits_per_byte.bits_per_byte",
        lambda files: files["evaluate/after.json"].pop("bits_per_byte")),
    "not evaluated yet": (
        "results", "bits_per_byte.bits_per_byte",
        lambda files: (files.pop("evaluate/after.json"), files.pop("steps/evaluate.json"))),
    "its evaluation was cut short": (
        "results", "bits_per_byte.bits_per_byte",
        lambda files: (files.pop("evaluate/after.json"),
                       files["steps/evaluate.json"].update(finished=False))),
    "its evaluate/after.json is damaged": (
        "tasks", "tasks.acc", lambda files: files.update({"evaluate/after.json": '{"tasks": '})),
    "its evaluate/after.json is not what `lrl evaluate` wrote": (
        "results", "bits_per_byte.bits_per_byte",
        lambda files: files["steps/evaluate.json"].update(outputs={"after.json": "0" * 64})),
}  # fmt: skip


def items(opening: str = "") -> list[dict]:
    return [
        {"prompt": f"{opening}{i}", "choices": ["a", "b"], "scores": {"acc": float(i < 6)}}
        for i in range(10)
    ]


@pytest.mark.parametrize("reason", REASONS)
def test_what_is_not_comparable_says_why(reason, tmp_path):
    table, key, change = REASONS[reason]
    want = reason if "signature" in reason else reason.partition(" (")[0]
    first = compared_runs.pieces() | {"evaluate/items/after/copa.jsonl": items("")}
    write(tmp_path / "first", first)
    other = compared_runs.pieces()
    change(other)
    write(tmp_path / "other0", other)
    places = {"first": tmp_path / "first", "other0": tmp_path / "other0"}
    got = cell(page.facts(runs.read(places, {})), table, key)
    assert got == {"missing": want}


def test_items_that_are_not_what_was_written_are_named_and_not_used(tmp_path):
    for digest in ("", "0" * 64):
        files = compared_runs.pieces() | {"evaluate/items/after/copa.jsonl": items("")}
        outputs = {"items/after/copa.jsonl": digest} if digest else {}
        files["steps/evaluate.json"].update(outputs=outputs)
        write(tmp_path / (digest or "as written"), files)
    whole, changed = (
        runs.read({"it": tmp_path / name}, {})[0] for name in ("as written", "0" * 64)
    )
    assert len(scores.items(whole, "copa")) == 10
    assert not whole.problems
    assert scores.items(changed, "copa") == []
    assert [problem.partition("evaluate/")[2] for problem in changed.problems] == [
        "items/after/copa.jsonl: is not what `lrl evaluate` wrote, and is not used"
    ]


def test_reasons_are_those_that_are_listed():
    unlisted = {"other training text", "another mixture", "another judge", "another language",
                "judged in another way", "another limit",
                "against another model"}  # fmt: skip
    said = {reason.partition(" (")[0] for reason in REASONS}
    listed = {words.partition(" (")[0] for words in comparable.DIFFERS.values()}
    assert listed - unlisted <= said


def test_of_another_text_only_that_is_said(tmp_path):
    facts = facts_of(
        tmp_path,
        lambda files: (evaluated(files, evaluate__bits_per_byte__kor=OTHER_TEXT),
                       results(files, "bits_per_byte", "kor", lines=5)),
    )  # fmt: skip
    got = cell(facts, "results", "bits_per_byte.bits_per_byte")
    assert got == {"missing": "other test text"}


def test_the_same_prompts_compare_though_the_file_of_the_task_is_another(tmp_path):
    kept = {"evaluate/items/after/copa.jsonl": items("Q: ")}
    write(tmp_path / "first", compared_runs.pieces() | kept)
    other = compared_runs.pieces() | kept
    evaluated(other, **{"task copa copa": "file2"})
    write(tmp_path / "other0", other)
    places = {"first": tmp_path / "first", "other0": tmp_path / "other0"}
    assert cell(page.facts(runs.read(places, {})), "tasks", "tasks.acc")["value"] == 60.0


def test_items_that_are_not_those_of_the_result_count_for_nothing(tmp_path):
    path = tmp_path / "copa.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items()))
    assert len(paired.read(path, {"each": {"acc": "1111110000"}})) == 10
    assert paired.read(path, {"each": {"acc": "111111"}}) == []
    assert paired.read(tmp_path / "none.jsonl", {}) == []


def test_a_setting_of_a_recipe_that_changed_since_is_not_recorded(tmp_path):
    def noted(files):
        files["steps/evaluate.json"]["inputs"]["evaluate"] = "digest then"

    got = facts_of(tmp_path, noted, said={"other0": "digest now"})
    assert "template not recorded" in cell(got, "results", "translation.chrf")["missing"]
    assert cell(got, "results", "bits_per_byte.bits_per_byte")["value"] == 0.5
    other = facts_of(tmp_path / "same", noted, said={"other0": "digest then"})
    assert cell(other, "results", "translation.chrf")["value"] == 40.0


def test_texts_of_one_content_share_a_row_whatever_they_are_called(tmp_path):
    def renamed(files):
        after = files["evaluate/after.json"]
        after["bits_per_byte"] = {"korean": after["bits_per_byte"]["kor"]}
        inputs = files["steps/evaluate.json"]["inputs"]
        inputs["evaluate.bits_per_byte.korean"] = inputs.pop("evaluate.bits_per_byte.kor")

    facts = facts_of(tmp_path, renamed)
    (row,) = [r for r in facts["results"] if r["key"] == "bits_per_byte.bits_per_byte"]
    assert row["name"] == "kor = korean"
    assert row["cells"]["other0"]["value"] == 0.5


def test_chat_templates_of_two_tokenizers_are_two_prompts(tmp_path):
    places = {}
    for name, digest in (("first", "1"), ("same", "1"), ("other", "2")):
        files = compared_runs.pieces()
        entry(files, template="tokenizer")
        files["steps/vocab.json"]["outputs"] = {"chat_template.jinja": digest}
        places[name] = write(tmp_path / name, files)
    facts = page.facts(runs.read(places, {}))
    assert cell(facts, "results", "translation.chrf", "same")["value"] == 40.0
    got = cell(facts, "results", "translation.chrf", "other")
    assert got == {"missing": "another prompt"}


def test_a_name_with_a_dot_is_no_file_of_a_shorter_name(tmp_path):
    def two(files):
        files["evaluate/after.json"]["bits_per_byte"]["kor.long"] = compared_runs.SCORE
        evaluated(files, **{"evaluate.bits_per_byte.kor.long": OTHER_TEXT})

    facts = facts_of(tmp_path, two)
    assert cell(facts, "results", "bits_per_byte.bits_per_byte")["value"] == 0.5


def test_runs_that_differ_from_the_first_are_still_compared_with_each_other(tmp_path):
    def another(files):
        evaluated(files, evaluate__bits_per_byte__kor=OTHER_TEXT)

    facts = facts_of(tmp_path, another, another)
    rows = [r for r in facts["results"] if r["key"] == "bits_per_byte.bits_per_byte"]
    assert [row["name"] for row in rows] == ["kor", "kor (2)"]
    got = [{name: "value" in c for name, c in row["cells"].items()} for row in rows]
    assert got == [{"first": True, "other0": False, "other1": False},
                   {"first": False, "other0": True, "other1": True}]  # fmt: skip


def test_a_kind_of_a_user_is_compared_by_the_rows_it_reports(monkeypatch):
    kind = kinds.EvaluationKind(
        "newlines", str, lambda *_: {}, lambda before, after: iter(
            [ReportRow("newlines", "a", "", "3.5", ""), ReportRow("newlines", "b", "", "few", ""),
             ReportRow("newlines", "c", "", "not measured", "")]
        ),
    )  # fmt: skip
    monkeypatch.setattr(kinds, "find", {"newlines": kind}.get)
    got = [score for _, score in kinds.comparable_scores({"newlines": {}, "facts": {}})]
    assert [(s.name, s.value, s.text) for s in got] == [("a", 3.5, "3.5"), ("b", None, "few")]


def test_no_figure_puts_texts_of_one_name_side_by_side(tmp_path, monkeypatch):
    def another(files):
        evaluated(files, evaluate__bits_per_byte__kor=OTHER_TEXT)
        results(files, "bits_per_byte", "kor", bits_per_byte=0.9)
        files["steps/data.json"]["inputs"]["text ko.txt"] = OTHER_TEXT

    places = {}
    for name, change in (("a", nothing), ("b", another), ("c", nothing), ("d", another)):
        files = compared_runs.pieces()
        change(files)
        places[name] = write(tmp_path / name, files)
    compared = runs.read(places, {})
    facts, drawn = page.facts(compared), []
    monkeypatch.setattr(plots, "bars", lambda series, unit: drawn.append(series) or "")
    monkeypatch.setattr(plots, "overlaid", lambda curves, *_: drawn.append(curves) or "")
    page.figures(compared, facts)
    bars = next(series for series in drawn if 0.9 in series.get("b", {}).values())
    assert bars == {"a": {"kor": 0.5}, "c": {"kor": 0.5},
                    "b": {"kor (2)": 0.9}, "d": {"kor (2)": 0.9}}  # fmt: skip
    panels = next(curves for curves in drawn if "korean" in curves)
    assert {panel: [*of_panel] for panel, of_panel in panels.items()} == {
        "korean": ["a", "c"], "korean (2)": ["b", "d"]}  # fmt: skip


# ---------------------------------------------------------------------------- tests of changes
def test_right_and_wrong_answers_are_tested_by_mcnemar_and_scores_by_bootstrap(tmp_path):
    def better(files):
        results(files, "tasks", "copa", scores={"acc": 100.0}, each={"acc": "1111111111"})

    def partly(files):
        results(files, "tasks", "copa", scores={"acc": 50.0}, each={"acc": " ".join(["0.5"] * 10)})

    facts = facts_of(tmp_path, better, partly)
    got = cell(facts, "tasks", "tasks.acc")
    # 4 gained of 4 that differ: 2 * (1/2)^4
    assert (got["change"], got["p"]) == (40.0, 0.125)
    assert got["test"] == "McNemar, 4 gained, 0 lost"
    assert got["change_low"] < 40.0 < got["change_high"]
    assert got["verdict"] == ""  # four items are not sure
    assert cell(facts, "tasks", "tasks.acc", "other1")["test"] == "paired bootstrap"


def test_scores_without_items_have_a_change_and_no_verdict(tmp_path):
    got = cell(
        facts_of(tmp_path, lambda f: results(f, "translation", "en_ko", chrf=50.0)),
        "results", "translation.chrf",
    )  # fmt: skip
    assert (got["change"], got["verdict"], "p" in got) == (10.0, "", False)


def test_a_cell_says_its_change_in_points_or_in_percent_and_how_sure_it_is(tmp_path):
    def better(files):
        results(files, "tasks", "copa", scores={"acc": 100.0}, each={"acc": "1111111111"})
        results(files, "translation", "en_ko", chrf=41.5)
        results(files, "bits_per_byte", "kor", bits_per_byte=0.25)

    facts = facts_of(tmp_path, better)
    notes = {row["key"]: tables.cell_of(row, "other0").notes
             for row in [*facts["results"], *facts["tasks"]]}  # fmt: skip
    assert notes["bits_per_byte.bits_per_byte"] == ["-50.0 %"]
    assert notes["translation.chrf"] == ["+1.5"]
    (row,) = facts["tasks"]
    interval, change, test = tables.cell_of(row, "other0").notes
    assert interval == "95 % 31.3 to 83.2"
    assert change.startswith("+40.0 (95 % +10.0 to +")
    assert test == "p 0.12: McNemar, 4 gained, 0 lost"
    short = tables.brief(tables.cell_of(row, "other0"))
    assert short.notes == ["+40.0, p 0.12"]
    assert short.hint == "; ".join([interval, change, test])


def test_bits_per_byte_that_fall_are_better_and_half_a_percent_is_no_change(tmp_path):
    changes = [lambda f, b=b: results(f, "bits_per_byte", "kor", bits_per_byte=b)
               for b in (0.49, 0.499, 0.51)]  # fmt: skip
    facts = facts_of(tmp_path, *changes)
    got = [cell(facts, "results", "bits_per_byte.bits_per_byte", f"other{i}")["verdict"]
           for i in range(3)]  # fmt: skip
    assert got == ["better", "", "worse"]


def kept_bits(files: dict, bits: list[float], size: int = 90) -> None:
    """Keeps lines of a text with these bits, and the score that they sum to."""
    files["evaluate/items/after/bits_per_byte/kor.jsonl"] = [
        {"bits": each, "bytes": size, "nats": each, "tokens": 30, "lines": 1} for each in bits
    ]
    results(files, "bits_per_byte", "kor", bits_per_byte=sum(bits) / size / len(bits))


def test_bits_per_byte_are_tested_on_the_same_lines(tmp_path):
    first = [42.0, 48.0] * 5
    changes = {
        "better": lambda files: kept_bits(files, [41.0, 47.0] * 4 + [40.9, 47.1]),
        "worse": lambda files: kept_bits(files, [42.2, 48.2] * 4 + [42.1, 48.3]),
        "unsure": lambda files: kept_bits(files, [52.0, 38.0] * 4 + [40.0, 48.0]),
        "other sizes": lambda files: kept_bits(files, first, 91),
    }
    files = compared_runs.pieces()
    kept_bits(files, first)
    places = {"first": write(tmp_path / "first", files)}
    for name, change in changes.items():
        files = compared_runs.pieces()
        change(files)
        places[name] = write(tmp_path / name, files)
    facts = page.facts(runs.read(places, {}))
    got = {name: cell(facts, "results", "bits_per_byte.bits_per_byte", name) for name in changes}
    assert {name: each["verdict"] for name, each in got.items() if "p" in each} == {
        "better": "better", "worse": "worse", "unsure": "",
    }  # fmt: skip
    better = got["better"]
    assert better["change"] == pytest.approx(-1 / 90)
    assert better["change_low"] < better["change"] < better["change_high"] < 0
    (row,) = [r for r in facts["results"] if r["key"] == "bits_per_byte.bits_per_byte"]
    assert tables.cell_of(row, "better").notes[0].startswith("-2.2 % (95 % -2.")


def test_translations_are_tested_by_the_sentences_that_are_kept(tmp_path):
    references = [f"{words} {i}" for words in WORDS for i in range(5)]
    answers = {"first": [text[: len(text) // 2] for text in references], "other": references}
    places = {}
    for name, texts in answers.items():
        files = compared_runs.pieces()
        files["evaluate/items/after/translation/en_ko.jsonl"] = [
            {"source": "s", "references": [r], "answer": a}
            for r, a in zip(references, texts, strict=True)
        ]
        bleu = sacrebleu.BLEU(tokenize="13a").corpus_score(texts, [references]).score
        results(files, "translation", "en_ko", chrf=_chrf(texts, references), bleu=bleu)
        places[name] = write(tmp_path / name, files)
    facts = page.facts(runs.read(places, {}))
    for key in ("translation.chrf", "translation.bleu"):
        got = cell(facts, "results", key, "other")
        assert (got["test"], got["verdict"]) == ("paired bootstrap of all texts", "better")
    assert "p" not in cell(facts, "results", "translation.chrf++", "other")  # not of these texts


CHRF = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0"
WORDS = ("the cat sat down", "a dog ran away", "two birds sang", "it rained all day")


def test_whole_texts_are_tested_by_resampling_sentences():
    references = [f"{words} {i}" for words in WORDS for i in range(5)]
    worse = [text[: len(text) // 2] for text in references]
    got = paired.of_texts(CHRF, references, worse, references)
    assert got.change == pytest.approx(100 - _chrf(worse, references))
    assert 0 < got.low <= got.change <= got.high
    assert got.p == pytest.approx(2 / 1001)
    same = paired.of_texts(CHRF, references, worse, worse)
    assert (same.change, same.low, same.high, same.p) == (0, 0, 0, 1)


def _chrf(texts, references):
    return sacrebleu.metrics.CHRF().corpus_score(texts, [references]).score


def test_answers_count_only_if_they_give_the_score_that_was_measured():
    texts = [f"{words} \nQuestion: more" for words in WORDS]
    kept = [{"answer": text, "references": [text.splitlines()[0].strip()]} for text in texts]
    references, answers = paired.texts_of(kept, CHRF, 100.0)
    assert (references, answers) == ([*WORDS], [*WORDS])  # the first line is what was scored
    assert paired.texts_of(kept, CHRF, 50.0) == ([], [])
    assert paired.texts_of([{"choices": []}], CHRF, 50.0) == ([], [])


def test_translation_tasks_are_tested_from_their_items(tmp_path):
    def task(files, cut):
        answers = [text[:cut] for text in WORDS]
        kept = [{"prompt": text, "answer": answer, "references": [text],
                 "scores": {"chrf": len(answer) / 100}}
                for text, answer in zip(WORDS, answers, strict=True)]  # fmt: skip
        each = " ".join(f"{item['scores']['chrf']:.4g}" for item in kept)
        results(files, "tasks", "copa", metric="chrf", scores={"chrf": _chrf(answers, [*WORDS])},
                each={"chrf": each}, signatures={"chrf": CHRF}, intervals={})  # fmt: skip
        files["evaluate/items/after/copa.jsonl"] = kept

    places = {}
    for name, cut in (("first", 8), ("other0", 12)):
        files = compared_runs.pieces()
        task(files, cut)
        places[name] = write(tmp_path / name, files)
    got = cell(page.facts(runs.read(places, {})), "tasks", "tasks.chrf")
    assert got["test"] == "paired bootstrap of all texts"
    assert got["change_low"] > 0
    assert got["verdict"] == "better"


# ---------------------------------------------------------------------------- training
def test_flops_count_what_is_trained_and_what_is_frozen(tmp_path):
    def frozen(files):
        learn = [{"match": "embed", "schedule": {"peak": 0.01}},
                 {"match": ".*", "schedule": "frozen"}]  # fmt: skip
        files["recipe.yaml"]["train"]["stages"][0]["learn"] = learn

    # A layer has 4 * 8 * 8 weights of attention and 3 * 8 * 16 others; there are 2, and logits.
    weights, logits = 2 * (4 * 64 + 3 * 128), 8 * 128
    attention = 12 * 2 * 4 * 2 * 4  # of 2 layers, half of 8 tokens, 2 heads of 4
    facts = facts_of(tmp_path, frozen)
    got = {run["name"]: run["trained"] for run in facts["runs"]}
    assert got["first"]["tokens_read"] == 500  # 0.5 epochs of 1000
    assert got["first"]["flops"] == 500 * (6 * (weights + logits) + attention)
    assert got["other0"]["flops"] == 500 * (4 * weights + 6 * logits + attention)
    assert got["first"]["bytes_read"] == 2000


def test_a_long_training_is_kept_as_means_within_a_stage():
    records = [{"step": i + 1, "stage": "ab"[i // 4], "loss": loss, "bits_per_byte": {"ko": loss},
                "tokens_read": 10 * i}
               for i, loss in enumerate((4.0, 2.0, None, 1.0, 8.0))]  # fmt: skip
    got = runs.thinned(records, most=3)
    assert [(r["step"], r["stage"], r["loss"]) for r in got] == [
        (2, "a", 3.0), (4, "a", 1.0), (5, "b", 8.0)]  # fmt: skip
    assert got[0] == {"step": 2, "stage": "a", "loss": 3.0, "bits_per_byte": {"ko": 3.0},
                      "tokens_read": 10, "tokens_per_second": None}  # fmt: skip
    assert runs.thinned(records, most=5) == records


def test_a_run_whose_model_is_not_known_has_no_flops_and_the_others_do(tmp_path):
    facts = facts_of(tmp_path, lambda files: files.pop("init/config.json"), nothing)
    assert [run["trained"]["flops"] is None for run in facts["runs"]] == [False, True, False]
    (view,) = [view for view in facts["training"] if view["axis"] == "flops"]
    assert view["without"] == ["other0"]
    assert view["rows"][0]["cells"]["other0"] == {"missing": "its FLOPs are not known"}


def test_runs_are_set_side_by_side_where_the_shortest_ends(tmp_path):
    def shorter(files):
        del files["train/metrics.jsonl"][1]

    (view, *_) = facts_of(tmp_path, shorter)["training"]
    assert (view["axis"], view["end"]) == ("tokens_read", 250)
    got = {name: c["value"] for name, c in view["rows"][0]["cells"].items()}
    assert got == {"first": 2.0, "other0": 2.0}  # not 1.0, which the first reaches later


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f["steps/data.json"]["inputs"].update({"text ko.txt": OTHER_TEXT}),
         "other training text"),
        (lambda f: dataset(f, filters={"max_chars": 9}), "other training text"),
        (lambda f: dataset(f, template="alpaca"), "another template"),
        (lambda f: f["steps/data.json"].pop("inputs"), "training text not recorded"),
    ],
)  # fmt: skip
def test_curves_are_drawn_together_only_for_one_training_text(change, reason, tmp_path):
    places = {"first": write(tmp_path / "first"), "second": write(tmp_path / "second")}
    files = compared_runs.pieces()
    change(files)
    places["third"] = write(tmp_path / "third", files)
    (view, *_) = page.facts(runs.read(places, {}))["training"]
    assert view["rows"][0]["cells"]["third"] == {"missing": reason}


def test_a_dataset_that_a_run_does_not_have_says_so(tmp_path):
    def renamed(files):
        for record in files["train/metrics.jsonl"]:
            record["bits_per_byte"] = {"hindi": 1.0}

    places = {name: write(tmp_path / name) for name in ("first", "second")}
    for name, change in (("third", renamed), ("new", lambda f: f.pop("train/metrics.jsonl"))):
        files = compared_runs.pieces()
        change(files)
        places[name] = write(tmp_path / name, files)
    (view, *_) = page.facts(runs.read(places, {}))["training"]
    cells = view["rows"][0]["cells"]
    assert cells["third"] == {"missing": "not among its datasets"}
    assert cells["new"] == {"missing": "not trained yet"}


def test_loss_per_token_is_drawn_for_one_vocabulary_and_one_mixture(tmp_path):
    def other_vocabulary(files):
        files["vocab/tokenizer.model"] = "tokenizer 2"
        files["steps/train.json"]["inputs"]["vocab"] = "v2"

    def other_mixture(files):
        files["recipe.yaml"]["train"]["stages"][0]["steps"] = 5

    def other_rate(files):
        files["recipe.yaml"]["train"]["stages"][0]["learn"][0]["schedule"]["peak"] = 0.5

    places = {"first": write(tmp_path / "first")}
    for change in (other_vocabulary, other_mixture, other_rate):
        files = compared_runs.pieces()
        change(files)
        places[change.__name__] = write(tmp_path / change.__name__, files)
    compared = runs.read(places, {})
    bits, loss = curves.measured(compared)
    assert [*bits[0].scores] == [*places]  # bits per byte of one text compare for all
    (row,) = [row for row in loss if row.first == "first"]
    assert [*row.scores] == ["first", "other_rate"]
    assert row.missing == {"other_vocabulary": "another vocabulary",
                           "other_mixture": "another mixture"}  # fmt: skip


# ---------------------------------------------------------------------------- the rest
def test_samples_of_a_prompt_stand_side_by_side_each_the_last_one(tmp_path):
    def another(files):
        files["train/samples.jsonl"] = [{"step": 3, "prompt": "Other:", "text": "z"}]

    facts = facts_of(tmp_path, nothing, another, lambda files: files.pop("train/samples.jsonl"))
    assert facts["samples"] == [
        {
            "prompt": "Say:",
            "cells": {
                "first": {"step": 2, "text": "y"},
                "other0": {"step": 2, "text": "y"},
                "other1": {"missing": "another prompt"},
                "other2": {"missing": "no samples"},
            },
        }
    ]


def test_answers_to_one_question_stand_side_by_side(tmp_path):
    example = {"source": "A cat.", "reference": "Miau.", "hypothesis": "Katze."}
    facts = facts_of(
        tmp_path, lambda files: results(files, "translation", "en_ko", examples=[example])
    )
    (question,) = facts["answers"]["Translations"]
    assert question["asked"] == [["source", "A cat."], ["reference", "Miau."]]
    assert question["cells"] == {"first": {"text": "Mia."}, "other0": {"text": "Katze."}}


def test_judges_compare_only_if_they_judge_alike(tmp_path):
    places = {}
    for name, rating, changes in (
        ("first", 7.0, {}),
        ("same", 8.0, {"questions": {"file": "moved.jsonl", "sha256": "1"}}),
        ("judges", 8.0, {"judges": ["k"]}),
        ("pair", 8.0, {"kind": "pair"}),
        ("questions", 8.0, {"questions": {"file": "q.jsonl", "sha256": "2"}}),
        ("prompt", 8.0, {"prompt": "strict"}),
        ("language", 8.0, {"language": "kor_Hang"}),
        ("unsaid", 8.0, {"judges": []}),
    ):
        files = compared_runs.pieces()
        judge(files, name, rating, **changes)
        places[name] = write(tmp_path / name, files)
    places["none"] = write(tmp_path / "none")
    facts = page.facts(runs.read(places, {}))
    (row,) = [row for row in facts["judge"] if row["first"] == "first"]
    cells = row["cells"]
    assert row["key"] == "judge.rating"
    assert (cells["first"]["value"], cells["same"]["value"]) == (7.0, 8.0)
    assert (cells["first"]["low"], cells["first"]["high"]) == (6.0, 9.0)
    assert cells["first"]["notes"] == ["80 items", "2 failed"]
    assert {name: c["missing"] for name, c in cells.items() if "missing" in c} == {
        "judges": "another judge",
        "pair": "judged in another way",
        "questions": "other questions",
        "prompt": "another prompt",
        "language": "another language",
        "unsaid": "judges not recorded",
        "none": "not measured",
    }


def test_a_win_rate_compares_only_against_one_opponent(tmp_path):
    places = {}
    for name, opponent in (("a", "base"), ("b", "base"), ("c", "gemma")):
        files = compared_runs.pieces()
        scores = {name: {"win_rate": 0.6, "length_controlled": {"win_rate": 0.5}}}
        judge(files, name, 0.0, kind="pair", models=[name, opponent], scores=scores)
        places[name] = write(tmp_path / name, files)
    rows = [r for r in page.facts(runs.read(places, {}))["judge"] if r["first"] == "a"]
    assert [r["name"] for r in rows] == ["win_rate", "length_controlled.win_rate"]
    assert rows[0]["cells"]["b"]["value"] == 0.6
    assert rows[0]["cells"]["c"] == {"missing": "against another model"}


def test_alignment_is_a_curve_through_the_layers_for_each_run(tmp_path):
    layers = {"poolings": {"weighted": {"layers": [{"mexa": 0.1}, {"mexa": 0.3}]}}}
    places = {}
    for name, digest, limit in (("first", "s", 9), ("same", "s", 9), ("text", "t", 9),
                                ("limit", "s", 5)):  # fmt: skip
        files = compared_runs.pieces()
        files["evaluate/after.json"]["alignment"] = {"ko": layers}
        files["steps/evaluate.json"]["inputs"]["evaluate.alignment.ko.source"] = digest
        aligned = {"ko": {"source": "en.txt", "limit": limit}}
        files["recipe.yaml"]["evaluate"]["alignment"] = aligned
        places[name] = write(tmp_path / name, files)
    (row,) = page.facts(runs.read(places, {}))["alignment"]
    assert row["layers"] == {"first": [0.1, 0.3], "same": [0.1, 0.3]}
    assert row["missing"] == {"text": "other test text", "limit": "another limit"}


def test_alignment_is_compared_by_its_best_and_its_middle_layers(tmp_path):
    def measured(files, mexa, lines=100):
        middle = {"layers": [1, 3], "gap": 0.036, "gap_interval": [0.03, 0.042], "mexa": mexa}
        pooling = {"max": {"mexa": mexa}, "middle": middle, "layers": []}
        aligned = {"lines": lines, "repeated": 2, "poolings": {"weighted": pooling}}
        files["evaluate/after.json"]["alignment"] = {"ko": aligned}
        files["steps/evaluate.json"]["inputs"]["evaluate.alignment.ko.source"] = "s"
        files["recipe.yaml"]["evaluate"]["alignment"] = {"ko": {"source": "en.txt", "limit": lines}}

    files = compared_runs.pieces()
    measured(files, 0.1)
    places = {"first": write(tmp_path / "first", files)}
    for name, how in {"same": (0.3,), "fewer": (0.3, 50)}.items():
        files = compared_runs.pieces()
        measured(files, *how)
        places[name] = write(tmp_path / name, files)
    facts = page.facts(runs.read(places, {}))
    mexa, gap = (cell(facts, "results", f"alignment.{key}", "same") for key in ("mexa", "gap"))
    assert (mexa["value"], mexa["text"], mexa["low"], mexa["high"]) == (
        0.3, "0.300", pytest.approx(0.219, abs=1e-3), pytest.approx(0.396, abs=1e-3),
    )  # fmt: skip
    assert "occurs twice" in " ".join(mexa["notes"])
    assert (gap["low"], gap["high"]) == (0.03, 0.042)
    fewer = cell(facts, "results", "alignment.mexa", "fewer")
    assert fewer == {"missing": "other lines of the test text"}
    (row,) = [r for r in facts["results"] if r["key"] == "alignment.mexa" and r["first"] == "first"]
    assert tables.cell_of(row, "first").notes[0] == "95 % 0.055 to 0.174"


def test_only_keys_that_differ_are_listed_and_a_section_is_one_line(tmp_path):
    def changed(files):
        files["recipe.yaml"]["name"] = "another"
        files["recipe.yaml"]["train"]["stages"][0]["steps"] = 9
        files["recipe.yaml"]["train"]["lora"] = None  # says nothing
        files["recipe.yaml"]["data"]["datasets"]["more"] = {"kind": "text", "path": ["more.txt"]}

    got = facts_of(tmp_path, changed)["recipes"]
    assert got == [
        {
            "key": "data.datasets.more",
            "values": {"first": "not said", "other0": '{"kind": "text", "path": ["more.txt"]}'},
        },
        {"key": "train.stages.all.steps", "values": {"first": "2", "other0": "9"}},
    ]


def test_where_a_run_is_from_is_told_by_digests_and_a_command(tmp_path):
    (first, _) = facts_of(tmp_path, nothing)["runs"]
    made_of = first["origins"]
    assert made_of["lrl_jax"] == "0.1.0"
    assert made_of["checkpoint evaluated"] == "step 2 (abc)"
    assert made_of["command"] == f"lrl run {tmp_path}/first/recipe.yaml name=first_again"
    assert len(made_of["recipe"]) == len(made_of["tokenizer"]) == 64


def test_the_card_has_the_rows_that_compare_as_a_table(tmp_path):
    facts = facts_of(
        tmp_path, lambda files: evaluated(files, evaluate__translation__en_ko__source=OTHER_TEXT)
    )
    lines = markdown.section(facts).splitlines()
    assert lines[0] == markdown.MARK
    assert "| score | first | other0 |" in lines
    assert "| bits per byte, kor | 0.500 | 0.500 (+0.0 %) |" in lines
    assert not [line for line in lines if line.startswith("| chrF")]


def test_a_table_turns_where_there_are_many_runs():
    names = [f"run{i}" for i in range(7)]
    row = {"measure": "m", "name": "n", "key": "k", "first": "run0",
           "cells": {name: {"value": 1.0, "text": "1.0"} for name in names}}  # fmt: skip
    few = tables.of_rows([{**row, "cells": {n: row["cells"][n] for n in names[:6]}}], names[:6],
                         tables.Limits())  # fmt: skip
    many = tables.of_rows([row], names, tables.Limits())
    assert ([c for c, _ in few.columns], len(few.lines)) == (names[:6], 1)
    assert (many.columns, [line.label for line in many.lines]) == ([("n", "m")], names)


@pytest.mark.parametrize("value", [math.inf, math.nan, "x", True, None])
def test_a_value_that_is_no_number_is_not_shown(value, tmp_path):
    facts = facts_of(tmp_path, lambda f: results(f, "bits_per_byte", "kor", bits_per_byte=value))
    assert cell(facts, "results", "bits_per_byte.bits_per_byte") == {"missing": "not measured"}


def test_an_unknown_condition_never_counts_as_equal():
    unknown = comparable.MeasuredScore(
        ComparableScore("m", "n", "k", 1.0, "1"), {"test text": ("",)}
    )
    table = comparable.rows({"a": [unknown], "b": [unknown]})
    assert [[*row.scores] for row in table] == [["a"], ["b"]]
    assert table[0].missing == {"b": "test text not recorded"}
