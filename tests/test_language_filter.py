"""Text in another language than its dataset's is left out, by a model or by script alone."""

import importlib.util
import json
from pathlib import Path
import random
import shutil
import sys
from types import SimpleNamespace
from typing import Any

from conftest import data_file
from hand_tokenizer import make
import pytest

from lrl_jax.data import dataset as datasets
from lrl_jax.data.pack import jobs, rows, workers
from lrl_jax.data.read import fasttext_files, filters, language
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import DataError

MODELS = Path(__file__).parent / "data/langid"  # tests/make_langid.py trains them
FLORES, ISO = MODELS / "flores.bin", MODELS / "iso.ftz"
NEPALI = "नेपालको राजधानी काठमाडौं हो र यो सहर ठूलो छ"
HINDI = "दिल्ली भारत की राजधानी है और यह शहर बहुत बड़ा है"
ENGLISH = "The weather is nice today and we went to the park"
KOREAN = "서울은 한국의 수도이고 큰 도시이다"

needs_fasttext = pytest.mark.skipif(
    not importlib.util.find_spec("fasttext"), reason="needs the extra `langid`"
)


def dataset(kind: str = "text", spoken: str = "npi_Deva", **asked: Any) -> Any:
    entry = {"kind": kind, "path": ["x"], "filters": {"language": asked}}
    if kind == "parallel":
        entry |= {"source_language": "eng_Latn", "target_language": spoken, "direction": "both"}
    else:
        entry |= {"language": spoken}
    return recipe_data.Data(sequence_length=8, datasets={"d": entry}).datasets["d"]


def sift(one: Any, *records: Any) -> tuple[list, filters.Sieve]:
    sieve = filters.Sieve(one)
    as_records = [{"text": each} if isinstance(each, str) else each for each in records]
    return [*sieve.sift(as_records)], sieve


# ---------------------------------------------------------------------------- KULLM
def kullm() -> list[dict[str, str]]:
    path = data_file("instruct/kullm_user_oriented_eval_ko.jsonl")
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{"instruction": line["instruction"], **line["instances"][0]} for line in lines]


@pytest.fixture
def stub(monkeypatch, tmp_path) -> str:
    """A model of two labels that tells Korean by its letters, and is always sure."""

    def predict(line: str, k: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
        assert "\n" not in line, "a model reads one line"
        korean = any("가" <= letter <= "힣" for letter in line)
        return (f"__label__{'kor_Hang' if korean else 'eng_Latn'}",), (1.0,)

    library = SimpleNamespace(load_model=lambda path: SimpleNamespace(predict=predict))
    monkeypatch.setitem(sys.modules, "fasttext", library)
    shutil.copy(FLORES, tmp_path / "stub.bin")  # whose labels are read without the library
    return str(tmp_path / "stub.bin")


def test_a_model_rejects_all_english_outputs_of_kullm(stub):
    records = kullm()
    kept, sieve = sift(dataset("instructions", "kor_Hang", model=stub), *records)
    assert (kept, sum(sieve.counts.values())) == ([], 252)
    assert sieve.counts == {"other language": 249, "no letters": 3}
    turned = [record | {"output": record["instruction"]} for record in records]
    assert len(sift(dataset("instructions", "kor_Hang", model=stub), *turned)[0]) > 245


def test_script_alone_rejects_all_english_outputs_of_kullm_and_says_so():
    one = dataset("instructions", "kor_Hang")
    kept, sieve = sift(one, *kullm())
    assert (kept, sum(sieve.counts.values())) == ([], 252)
    assert sieve.counts == {"other language, by script alone": 249, "no letters": 3}
    assert language.says(one) == (
        "language is told by script alone (Hang, at least 0.8 of the letters), as "
        "filters.language.model names no model"
    )


@needs_fasttext
@pytest.mark.parametrize("model", [FLORES, ISO], ids=["flores", "iso"])
def test_fasttext_itself_rejects_all_english_outputs_of_kullm(model):
    kept, sieve = sift(dataset("instructions", "kor_Hang", model=str(model)), *kullm())
    assert (kept, sum(sieve.counts.values())) == ([], 252)


# ---------------------------------------------------------------------------- by a model
@needs_fasttext
@pytest.mark.parametrize("model", [FLORES, ISO], ids=["flores", "iso"])
def test_languages_of_the_same_script_are_told_apart_by_labels_of_either_kind(model):
    one = dataset(model=str(model), least=0.6)
    kept, sieve = sift(one, HINDI, NEPALI, ENGLISH)
    assert kept == [{"text": NEPALI}]
    assert sieve.counts == {"other language": 2}
    shown = [sample.partition(" ")[0] for sample in sieve.samples["other language"]]
    assert shown == (["hin_Deva", "eng_Latn"] if model == FLORES else ["hi", "en"])
    assert "told by the model" in language.says(one)


@needs_fasttext
def test_the_least_probability_is_that_of_the_recipe():
    kept = [len(sift(dataset(model=str(FLORES), least=least), NEPALI)[0]) for least in (0.6, 0.9)]
    assert kept == [1, 0]


@needs_fasttext
def test_text_of_many_lines_is_judged_as_a_whole():
    mixed = "\n".join([NEPALI] * 3 + [ENGLISH] * 9)
    kept, _ = sift(dataset(model=str(FLORES), least=0.6), f"{NEPALI}\n\n{NEPALI}\r\n", mixed)
    assert kept == [{"text": f"{NEPALI}\n\n{NEPALI}\r\n"}]


def test_long_text_is_read_at_places_all_over_it():
    pages = "\n".join(f"page {number}" for number in range(5000))
    line = language.line_of(pages)
    assert len(line) <= language.LONG + language.WINDOWS
    assert line.startswith("page 0 page 1")
    assert line.endswith("page 4999")
    assert "page 16" in line
    assert language.line_of("a\ud800b\n") == "a?b"  # what is no text is no error either


@needs_fasttext
def test_both_halves_of_a_pair_are_judged_by_their_own_languages():
    pair = {"source": ENGLISH, "target": NEPALI, "source_language": "eng_Latn",
            "target_language": "npi_Deva"}  # fmt: skip
    turned = {"source": NEPALI, "target": ENGLISH, "source_language": "npi_Deva",
              "target_language": "eng_Latn"}  # fmt: skip
    wrong = pair | {"source": HINDI}
    one = dataset("parallel", model=str(FLORES), least=0.6)
    kept, sieve = sift(one, pair, turned, wrong, pair | {"target": ENGLISH})
    assert kept == [pair, turned]
    assert sieve.counts == {"other language": 2}
    with pytest.raises(ValueError, match=r"a pair has two languages.*leave it out"):
        filters.Sieve(dataset("parallel", code="npi_Deva"))


@needs_fasttext
def test_a_label_is_not_believed_of_text_in_another_script():
    sieve = filters.Sieve(dataset("text", "swh_Latn", model=str(FLORES), least=0.0))
    assert [*sieve.sift([{"text": NEPALI}])] == []
    assert sieve.samples["other language"][0].startswith("npi_Deva")


@pytest.mark.parametrize(
    ("labels", "code", "want"),
    [
        (["npi_Deva", "hin_Deva"], "npi_Deva", {"npi_Deva"}),
        (["npi-Deva"], "npi_Deva", {"npi-Deva"}),
        (["fas_Arab", "pes_Arab"], "pes_Arab", {"pes_Arab"}),
        (["fas_Arab", "arb_Arab"], "pes_Arab", {"fas_Arab"}),
        (["cmn_Hani"], "zho_Hant", {"cmn_Hani"}),
        (["nep_Deva", "nep_Latn"], "npi_Deva", {"nep_Deva"}),
        (["ne", "new"], "npi_Deva", {"ne"}),
        (["no", "nn"], "nob_Latn", {"no"}),
        (["als", "sq"], "als_Latn", {"sq"}),  # als is Alemannic to Wikipedia
        (["arz", "ar"], "arz_Arab", {"arz"}),
    ],
)
def test_labels_of_both_kinds_mean_languages(labels, code, want):
    assert language._accepted("m.bin", labels, code) == want


# ---------------------------------------------------------------------------- by script
def test_without_a_model_other_languages_of_the_script_pass_and_this_is_said():
    kept, sieve = sift(dataset(), HINDI, NEPALI, ENGLISH, "१२३ 42", f"{NEPALI} {ENGLISH}")
    assert kept == [{"text": HINDI}, {"text": NEPALI}]
    assert sieve.counts == {"other language, by script alone": 2, "no letters": 1}
    assert "other languages that are written in Latn pass" in language.says(
        dataset("text", "swh_Latn")
    )
    assert not language.says(recipe_data.Data(
        sequence_length=8, datasets={"d": {"kind": "text", "path": ["x"], "language": "kor_Hang"}}
    ).datasets["d"])  # fmt: skip


def test_the_code_of_the_filter_wins_and_a_dataset_of_no_language_must_have_one():
    kept, _ = sift(dataset("text", "und_Zyyy", code="Korean"), KOREAN, NEPALI)
    assert kept == [{"text": KOREAN}]
    with pytest.raises(ValueError, match=r"und_Zyyy, which is none; .*code: npi_Deva"):
        filters.Sieve(dataset("text", "und_Zyyy"))


# ---------------------------------------------------------------------------- bad models
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; use a model that names languages"),
        (b"PK\3\4 not a model", "is no fastText model; use"),
        (FLORES.read_bytes()[:40], "cut short or damaged: after 8 of its 40 bytes"),
        (FLORES.read_bytes()[:-1], "cut short or damaged"),
        (FLORES.read_bytes() + b"?", "has 34,484 bytes, and its own sizes say 34,483"),
        (ISO.read_bytes()[:-100], "cut short or damaged"),
        ((MODELS / "vectors.bin").read_bytes(), "holds vectors of words and has no labels"),
        (FLORES.read_bytes()[:4] + b"\7" + FLORES.read_bytes()[5:], "of version 7; want 11 or 12"),
    ],
)
def test_a_file_that_is_no_whole_model_is_named_before_the_library_reads_it(
    tmp_path, content, message
):
    (tmp_path / "m.bin").write_bytes(content)
    with pytest.raises(DataError, match=rf"m\.bin: .*{message}"):
        fasttext_files.labels(str(tmp_path / "m.bin"))


def test_a_damaged_file_is_an_error_and_never_a_crash(tmp_path):
    whole = FLORES.read_bytes()
    chance = random.Random(0)
    for _ in range(200):
        data = bytearray(whole[: chance.choice([None, chance.randrange(len(whole))])])
        for _ in range(3):
            data[chance.randrange(min(400, len(data)))] = chance.randrange(256)
        (tmp_path / "m.bin").write_bytes(data)
        try:
            fasttext_files.labels(str(tmp_path / "m.bin"))
        except DataError:
            continue


@needs_fasttext
def test_a_model_that_is_absent_or_lacks_the_language_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"nope\.bin: cannot be read .No such file"):
        sift(dataset(model=str(tmp_path / "nope.bin")), NEPALI)
    message = r"none of its 5 labels means npi_Latn .*; the nearest: npi_Deva"
    with pytest.raises(DataError, match=message):
        sift(dataset("text", "npi_Latn", model=str(FLORES)), NEPALI)
    language._model.cache_clear()
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(DataError, match=r"needs the extra `langid`: pip install .*\[langid\]"):
        sift(dataset(model=str(FLORES)), NEPALI)


# ---------------------------------------------------------------------------- packed data
def packed(folder: Path, text: Path, model: str, runner: Any = None) -> rows.Manifest:
    entry = {"kind": "text", "path": [str(text)], "language": "eng_Latn",
             "filters": {"language": {"model": model, "least": 0.5}}}  # fmt: skip
    data = recipe_data.Data(sequence_length=16, workers=1, datasets={"d": entry})
    return jobs.prepare_all(data, make(), folder, runner=runner)["d"]


@needs_fasttext
def test_rows_are_the_same_in_any_process_and_depend_on_what_the_model_is(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "SHARD_BYTES", 200)
    text = tmp_path / "a.txt"
    text.write_text("".join(f"{ENGLISH} {i}\n{KOREAN}\n" for i in range(9)), encoding="utf-8")
    here = packed(tmp_path / "here", text, str(FLORES))
    assert (here.records, here.docs, here.left_out) == (18, 9, {"other language": 9})
    elsewhere = str(shutil.copy(FLORES, tmp_path / "moved.bin"))
    there = packed(tmp_path / "there", text, elsewhere, workers.local(2))
    assert there == here
    assert packed(tmp_path / "iso", text, str(ISO)).fingerprint != here.fingerprint


def test_a_filter_of_no_language_leaves_the_fingerprint_of_older_rows(tmp_path):
    (tmp_path / "a.txt").write_text("a b c\n")
    entry = {"kind": "text", "path": [str(tmp_path / "a.txt")], "language": "eng_Latn"}
    data = recipe_data.Data(sequence_length=16, datasets={"d": entry})
    want = (
        "1bd2ffef4f5c4e244d0a98accf0ecc5e3be2defb1dc9d8ef741a2e520966b066"  # before there was one
    )
    assert jobs.fingerprint(data, "d", make()) == want
