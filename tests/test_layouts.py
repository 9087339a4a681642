"""Data as it is published reads with the recipe's words alone."""

import json
from pathlib import Path
from typing import Any

from conftest import DATA, needs_data
import pytest

from lrl_jax.data import dataset as datasets
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe import file as recipe_file
from lrl_jax.text import Bad

MITS = "taco-datasets/multilingual-instruction-tuning-dataset "  # the space is theirs


def entries_of(**entries: dict) -> dict[str, Any]:
    tree = {"data": {"sequence_length": 8, "datasets": entries}}
    return recipe_data.Data(**recipe_file.per_language(tree)["data"]).datasets


def read(one: Any) -> list[datasets.Record | Bad]:
    return [record for shard in datasets.shards(one) for record in datasets.read(one, shard)]


def kept(one: Any) -> list[datasets.Record]:
    return [record for record in read(one) if not isinstance(record, Bad)]


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def rows(*instructions: str) -> str:
    return json.dumps([{"instruction": one, "input": "", "output": "o"} for one in instructions])


# ---------------------------------------------------------------------------- small imitations
def test_mits_is_a_folder_a_language(tmp_path):
    alpaca = tmp_path / MITS / "multilingual-alpaca-52k-gpt-4"
    dolly = tmp_path / MITS / "multilinugal-dolly-15k"  # the spelling is theirs
    for name in ("Nepali", "Sanskrit"):
        write(alpaca / name / f"{name}.json", rows(name, "b"))
        write(dolly / f"{name}.json", rows(f"dolly {name}"))
    path = [f"{alpaca}/{{name}}/{{name}}.json", f"{dolly}/{{name}}.json"]
    entry = {"kind": "instructions", "path": path, "languages": ["npi_Deva", "san_Deva"]}
    found = entries_of(mits=entry)
    assert list(found) == ["mits_npi_Deva", "mits_san_Deva"]
    got = [record["instruction"] for record in read(found["mits_san_Deva"])]
    assert got == ["Sanskrit", "b", "dolly Sanskrit"]


def test_mits_joins_with_alpaca_for_taco(tmp_path):
    folder = tmp_path / MITS / "multilingual-alpaca-52k-gpt-4"
    write(folder / "English" / "English.json", rows("a").replace('"o"', '"english"'))
    write(folder / "Maithili" / "Maithili.json", rows("b"))
    english, translated = f"{folder}/English/English.json", f"{folder}/{{name}}/{{name}}.json"
    entry = {"kind": "taco", "english": english, "translated": translated}
    [record] = read(entries_of(m={**entry, "languages": ["mai_Deva"]})["m_mai_Deva"])
    assert (record["english_instruction"], record["instruction"]) == ("a", "b")


def test_dolly_rows_have_names_of_their_own(tmp_path):
    row = {"instruction": "a", "context": "b", "response": "c", "category": "open_qa"}
    write(tmp_path / "databricks-dolly-15k.jsonl", json.dumps(row) + "\n")
    columns = {"input": "context", "output": "response"}
    path = [str(tmp_path / "*.jsonl")]
    entry = {"kind": "instructions", "path": path, "columns": columns, "language": "eng_Latn"}
    assert read(entries_of(d=entry)["d"]) == [{"instruction": "a", "input": "b", "output": "c"}]


def test_flores_is_a_file_a_language(tmp_path):
    for code, lines in (("eng_Latn", "a\nb\n"), ("kor_Hang", "가\n나\n"), ("npi_Deva", "क\nख\n")):
        write(tmp_path / "dev" / f"{code}.dev", lines)
    entry = {
        "kind": "parallel", "source": f"{tmp_path}/dev/eng_Latn.dev",
        "target": f"{tmp_path}/dev/{{code}}.dev", "source_language": "eng_Latn",
        "languages": ["kor_Hang", "npi_Deva"],
    }  # fmt: skip
    found = entries_of(flores=entry)
    assert [r["target"] for r in read(found["flores_npi_Deva"])] == ["क", "ख"]
    assert read(found["flores_kor_Hang"])[0]["target_language"] == "kor_Hang"


# ---------------------------------------------------------------------------- the real thing
def parallel(folder: str, source: str, target: str, languages: dict[str, str]) -> dict[str, Any]:
    return entries_of(
        p={
            "kind": "parallel", "source": f"{DATA}/parallel/{folder}/{source}",
            "target": f"{DATA}/parallel/{folder}/{target}", "source_language": "eng_Latn",
            "languages": languages,
        }
    )  # fmt: skip


@needs_data
@pytest.mark.parametrize(
    ("folder", "source", "target", "languages", "count"),
    [
        (
            "flores101_first200", "eng.devtest", "{name}.devtest",
            {"kor_Hang": "kor", "npi_Deva": "npi", "zho_Hans": "zho_simpl"}, 200,
        ),
        (
            "ntrex128", "newstest2019-src.eng.txt", "newstest2019-ref.{name}.txt",
            {"kor_Hang": "kor", "npi_Deva": "nep", "zho_Hans": "zho-CN"}, 1997,
        ),
        ("tatoeba_test", "eng-kor.eng", "eng-{name}.kor", {"kor_Hang": "kor"}, 2400),
        ("tatoeba_test", "eng-tam.eng", "eng-{name}.tam", {"tam_Taml": "tam"}, 311),
        ("flores_v1", "wikipedia.dev.ne-en.en", "wikipedia.dev.ne-en.{name}",
         {"npi_Deva": "ne"}, 2559),
        ("lafand_en_swa", "train.en", "train.{name}", {"swh_Latn": "swa"}, 30_782),
    ],
)  # fmt: skip
def test_parallel_sets_are_aligned(folder, source, target, languages, count):
    for one in parallel(folder, source, target, languages).values():
        assert len(read(one)) == count


def of(kind: str, path: str, **words: Any) -> Any:
    entry = {"kind": kind, "path": [f"{DATA}/{path}"], "language": "kor_Hang", **words}
    return entries_of(d=entry)["d"]


@needs_data
def test_xquad_has_the_same_questions_in_every_language():
    asked = {
        name: kept(of("instructions", f"qa/xquad/xquad.{name}.json", format="squad"))
        for name in ("en", "hi", "zh")
    }
    assert {len(found) for found in asked.values()} == {1190}
    assert all(r["output"] in r["input"] for found in asked.values() for r in found)


@needs_data
def test_korquad_and_afriqa_are_read():
    assert len(read(of("instructions", "qa/korquad/*.json", format="squad"))) == 2865
    columns = {"instruction": "question_lang", "input": "context", "output": "answer_pivot.text[0]"}
    found = read(of("instructions", "qa/afriqa/*.json", columns=columns))  # JSON lines
    assert (len(found), found[0]["output"]) == (295, "Webuye")


KOBEST = {
    "BoolQ.dev": ("Question", "Answer", 700), "COPA.dev": ("sentence", "Answer", 500),
    "COPA.train": ("sentence", "Answer", 3076), "HellaSwag.dev": ("context", "label", 500),
    "SentiNeg.dev": ("Text", "Label", 400), "SentiNeg.train": ("Text", "Label", 3649),
    "WiC.dev": ("SENTENCE1", "ANSWER", 610),
}  # fmt: skip


@needs_data
@pytest.mark.parametrize("name", KOBEST)
def test_kobest_is_read_by_its_header(name):
    prompt, label, count = KOBEST[name]
    columns = {"prompt": prompt, "completion": label}
    found = kept(of("completion", f"nlu/kobest/{name}.tsv", columns=columns))
    assert len(found) == count
    assert {len(record["completion"]) for record in found} <= {1, 4, 5}  # 0-3, TRUE, False
    assert min(len(record["prompt"]) for record in found) > 1


@needs_data
def test_quotes_of_kornli_are_text():
    columns = {"source": "sentence1", "target": "sentence2"}
    entry = {
        "kind": "parallel", "path": [f"{DATA}/nlu/kornli/xnli.dev.ko.tsv"], "columns": columns,
        "source_language": "kor_Hang", "target_language": "kor_Hang",
    }  # fmt: skip
    found = kept(entries_of(d=entry)["d"])
    assert len(found) == 2490
    assert '"' in found[0]["source"]


@needs_data
def test_mgsm_has_no_header():
    columns = {"prompt": "0", "completion": "1"}
    found = kept(of("completion", "nlu/mgsm/mgsm_sw.tsv", header=False, columns=columns))
    assert (len(found), found[0]["completion"], found[1]["completion"]) == (250, "18", "3")


@needs_data
def test_the_korean_chatbot_is_read():
    columns = {"prompt": "Q", "completion": "A"}
    found = kept(of("completion", "instruct/korean_chatbot_qa.csv", columns=columns))
    assert len(found) == 11_823
    assert found[0] == {"prompt": "12시 땡!", "completion": "하루가 또 가네요."}


@needs_data
def test_alpaca_and_its_translation_have_inputs_in_the_same_rows():
    columns = {"prompt": "input", "completion": "instruction"}
    both = [
        read(of("completion", f"instruct/alpaca_{name}_12k.json", columns=columns))
        for name in ("en", "de_openai")
    ]
    inputs = [[bool(record["prompt"].strip()) for record in found] for found in both]
    assert (len(inputs[0]), sum(inputs[0])) == (12_000, 5_959)
    assert inputs[0] == inputs[1]


@needs_data
def test_kullm_rows_are_read_inside_of_their_instances():
    columns = {"input": "instances[0].input", "output": "instances[0].output"}
    korean = kept(of("instructions", "instruct/kullm_user_oriented_eval_ko.jsonl", columns=columns))
    english = kept(of("instructions", "instruct/kullm_v1_outputs.jsonl"))
    assert (len(korean), len(english)) == (252, 252)
    ids = [
        [r["text"] for r in read(of("text", f"instruct/{name}.jsonl", columns={"text": "id"}))]
        for name in ("kullm_user_oriented_eval_ko", "kullm_v1_outputs")
    ]
    assert ids[0] == ids[1]


@needs_data
def test_judge_questions_are_read():
    turns = [
        kept(of("text", "judge/logickor_questions.jsonl", columns={"text": f"questions[{i}]"}))
        for i in range(3)
    ]
    assert [len(found) for found in turns] == [42, 42, 1]
    for name in ("Korean", "Hindi"):
        path = f"judge/vicuna80_multilingual/questions_{name}.jsonl"
        assert len(kept(of("text", path))) == 80


@needs_data
def test_every_text_is_read_whole():
    assert len(kept(of("text", "mono/en/wiki_demo.txt"))) == 30
    assert len(kept(of("text", "mono/en/c4_demo.jsonl"))) == 300
    index = (DATA / "udhr").glob("*.txt")
    for path in index:
        assert not any(isinstance(r, Bad) for r in read(of("text", f"udhr/{path.name}")))
