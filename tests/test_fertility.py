"""Fertility: what a word, a byte, a line of each language costs in tokens."""

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lrl_jax import text
from lrl_jax.vocab import fertility, learn, tokenizer

DATA = Path(__file__).parents[2] / "shared" / "data"
ENGLISH = ["ab ab", "ab"]
KOREAN = ["가 나", "다"]


@pytest.fixture(scope="module")
def words() -> tokenizer.Tokenizer:
    return learn.train(["ab ab ab ab"] * 9, size=264, coverage=1.0)


def test_a_row_counts_what_a_person_would(words):
    english, korean = fertility.report({"t": words}, {"eng_Latn": ENGLISH, "kor_Hang": KOREAN})
    # `▁ab` is one piece; each syllable is three bytes after a `▁`.
    assert (english.tokens, english.words, english.characters, english.bytes) == (3, 3, 7, 7)
    assert (korean.tokens, korean.words, korean.characters, korean.bytes) == (12, 3, 4, 10)
    assert (korean.per_word, korean.per_line, korean.per_byte) == (4.0, 6.0, 1.2)
    assert (english.parity, korean.parity) == (1.0, 4.0)


def test_parity_needs_text_of_as_many_lines_as_the_reference(words):
    (row,) = fertility.report({"t": words}, {"kor_Hang": KOREAN})
    assert row.parity is None
    rows = fertility.report({"t": words}, {"eng_Latn": ENGLISH, "kor_Hang": KOREAN[:1]})
    assert rows[1].parity is None


def test_a_language_without_text_is_named(words):
    with pytest.raises(ValueError, match="tha_Thai: has no text"):
        fertility.report({"t": words}, {"tha_Thai": [" "]})


def test_the_report_is_written_as_json_csv_and_a_plot(words, tmp_path):
    rows = fertility.report({"t": words}, {"eng_Latn": ENGLISH, "kor_Hang": KOREAN})
    fertility.write(rows, tmp_path)
    (_, korean) = csv.DictReader(io.StringIO((tmp_path / "fertility.csv").read_text()))
    assert (korean["language"], korean["per_word"]) == ("kor_Hang", "4.0")
    assert json.loads((tmp_path / "fertility.json").read_text())[1]["tokens"] == 12
    assert b"<svg" in (tmp_path / "fertility.svg").read_bytes()


def test_the_same_rows_give_the_same_plot(words):
    rows = fertility.report({"t": words}, {"eng_Latn": ENGLISH})
    assert fertility.plot(rows) == fertility.plot(rows)
    assert fertility.plot(rows, "png").startswith(b"\x89PNG")


def test_the_table_shows_every_row(words):
    rows = fertility.report({"old": words, "new": words}, {"kor_Hang": KOREAN})
    out = io.StringIO()
    Console(file=out, width=100).print(fertility.table(rows))
    assert out.getvalue().count("kor_Hang") == 2
    assert "4.00" in out.getvalue()


# data.md section 2, FLORES-101 devtest, first 200 lines: tokens per word, parity with English.
PUBLISHED = {
    "llama2": {"eng": (1.47, 1.0), "kor": (6.54, 3.10), "tam": (10.70, 5.75), "tha": (29.61, 4.36)},
    "llama2_hindi_plus1k": {"eng": (1.45, 1.0), "hin": (2.30, 1.87), "san": (5.90, 2.78)},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_measured_fertility_of_real_tokenizers_is_reproduced(name):
    folder = DATA / "tokenizers" / name
    if not folder.exists():
        pytest.skip("needs ../shared/data")
    flores = DATA / "parallel" / "flores101_first200"
    texts = {
        language: list(text.lines(str(next(flores.glob(f"{language}*.devtest")))))
        for language in PUBLISHED[name]
    }
    rows = fertility.report({name: tokenizer.load(folder)}, texts, reference="eng")
    got = {row.language: (round(row.per_word, 2), round(row.parity or 0, 2)) for row in rows}
    assert got == PUBLISHED[name]
