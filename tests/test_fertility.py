"""Fertility: what a word, a byte, a line of each language costs in tokens."""

import csv
import dataclasses
import gzip
import io
import json
from pathlib import Path

import byte_tokenizer
from conftest import DATA, NO_DATA
import hand_tokenizer
import pytest
from rich.console import Console
from sentencepiece import sentencepiece_model_pb2 as spm

from lrl_jax import text
from lrl_jax.report import fertility as fertility_report
from lrl_jax.vocab import fertility
from lrl_jax.vocab.fertility import LanguageText, measure
from lrl_jax.vocab.pieces import learn, splice
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

ENGLISH = ["ab ab", "ab"]
KOREAN = ["가 나", "다"]
HAND = hand_tokenizer.make()


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return learn.train(["ab ab ab ab"] * 9, size=264, coverage=1.0)


# ---------------------------------------------------------------------------- counting
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


def test_parallel_texts_have_parity_whatever_their_lines(words):
    texts = {"eng_Latn": LanguageText(ENGLISH), "kor_Hang": LanguageText(KOREAN[:1])}
    rows = measure({"t": words}, texts, parallel=True)
    assert [row.parity for row in rows] == [1.0, 8 / 3]


def test_the_reference_may_be_named_by_its_language_alone(words):
    rows = measure(
        {"t": words}, {"eng": LanguageText(ENGLISH), "kor": LanguageText(KOREAN)}, "eng_Latn"
    )
    assert rows[1].parity == 4.0
    two = {"eng_Latn": LanguageText(ENGLISH), "eng_Shaw": LanguageText(KOREAN)}
    assert measure({"t": words}, two, "eng")[0].parity is None  # which one is not known


def test_words_that_are_one_token_are_counted_once_each_and_as_often_as_they_occur():
    # a and b are ▁a and ▁b; ab is ▁a b.
    (row,) = measure({"t": HAND}, {"x": LanguageText(["a a a", "b ab"])})
    assert (row.whole_types, row.whole_words) == (2 / 3, 4 / 5)


def test_a_word_is_one_token_only_with_the_space_before_it():
    joined, _ = splice.splice(HAND, ["▁ab"])  # there is no ab
    (row,) = measure({"t": joined}, {"x": LanguageText(["ab"])})
    assert row.whole_types == 1.0
    no_space = byte_tokenizer.learn(["ab ab ab"] * 9, size=257)  # ab, but none with its space
    (row,) = measure({"t": no_space}, {"x": LanguageText(["ab"])})
    assert row.whole_types == 0.0


def test_single_bytes_are_tokens_that_are_part_of_a_character():
    # ▁ and three bytes, then ▁a
    (row,) = measure({"t": HAND}, {"x": LanguageText(["가 a"])})
    assert (row.tokens, row.byte_share) == (5, 3 / 5)


def test_tokens_are_held_against_the_first_tokenizer_on_the_same_text(words):
    rows = measure({"hand": HAND, "words": words}, {"x": LanguageText(ENGLISH)})
    # ▁a b ▁a b, ▁a b against ▁ab ▁ab, ▁ab
    assert [row.relative for row in rows] == [1.0, 0.5]


def test_texts_that_do_not_come_back_are_counted():
    model = spm.ModelProto.FromString(HAND.files["tokenizer.model"])
    model.trainer_spec.byte_fallback = False
    for piece in model.pieces[3:259]:
        piece.type = spm.ModelProto.SentencePiece.CONTROL
    deaf = tokenizers.from_bytes(model.SerializeToString())
    (hears, does_not) = measure({"a": HAND, "b": deaf}, {"x": LanguageText(["a가", "a b", "나"])})
    assert (hears.lost, does_not.lost) == (0, 2)


def test_a_byte_level_tokenizer_is_counted_the_same_way():
    learnt = byte_tokenizer.learn(["ab ab ab"] * 9, size=258)  # bytes, ab, and ab with its space
    (row,) = measure({"t": learnt}, {"x": LanguageText(["ab 가"])})
    # ab, a space, three bytes; within a sentence ab is one token.
    assert (row.tokens, row.byte_share, row.lost) == (5, 3 / 5, 0)
    assert (row.whole_types, row.floor) == (1 / 2, 1.0)


def test_the_floor_counts_what_no_merge_reaches_over():
    learnt = byte_tokenizer.learn(["ab"], size=256)
    hindi = ["कि ab"]  # the vowel sign is a mark: it is cut off
    (row,) = measure({"t": learnt}, {"hin_Deva": LanguageText(hindi)})
    assert row.floor == pytest.approx(3 / 2)
    assert measure({"t": HAND}, {"hin_Deva": LanguageText(hindi)})[0].floor == 1.0


def test_scripts_without_spaces_have_no_words():
    thai, english = measure(
        {"t": HAND}, {"tha": LanguageText(["ก" * 40 + " ก"]), "eng": LanguageText(["ab ab"])}
    )
    assert (thai.spaced, english.spaced) == (False, True)


def test_a_context_holds_so_many_words():
    (row,) = measure({"t": HAND}, {"x": LanguageText(["ab ab"])})
    assert row.per_word == 2.0
    assert row.words_in(101) == 50


def test_reading_costs_more_than_in_proportion_by_attention_alone():
    assert fertility.prefill(0.5, context=100, balance=10**12) == pytest.approx(0.5)
    assert fertility.prefill(0.5, context=10**12, balance=1) == pytest.approx(0.25)


class Counting:
    """A codec that knows how often it was asked."""

    def __init__(self, codec):
        self.codec, self.calls = codec, 0

    def encode_batch(self, texts):
        self.calls += 1
        return self.codec.encode_batch(texts)

    def decode_batch(self, rows):
        return self.codec.decode_batch(rows)


def test_texts_are_encoded_together_not_one_by_one():
    codec = Counting(HAND.codec)
    texts = {f"l{i}": LanguageText(["a b"] * 90) for i in range(277)}
    measure({"t": dataclasses.replace(HAND, codec=codec)}, texts)
    assert codec.calls == 277
    codec.calls = 0
    measure({"t": dataclasses.replace(HAND, codec=codec)}, {"x": LanguageText(["a"] * 4097)})
    assert codec.calls == 2  # a block at a time, so that millions of lines are never held as ids


def test_a_language_without_text_is_named(words):
    with pytest.raises(ValueError, match="tha_Thai: has no text"):
        fertility.report({"t": words}, {"tha_Thai": [" "]})


# ---------------------------------------------------------------------------- folders of text
def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_a_file_or_a_subfolder_is_a_language(tmp_path):
    write_files(tmp_path, {"eng.txt": "a\nb\n", "kor_Hang/2.txt": "나\n", "kor_Hang/1.txt": "가\n"})
    (tmp_path / "tha_Thai.txt.gz").write_bytes(gzip.compress("ก\n".encode()))
    (tmp_path / ".hidden").write_bytes(b"\xff")
    assert fertility.texts_in(tmp_path) == {
        "eng": LanguageText(["a", "b"], "English", "Latn"),
        "kor_Hang": LanguageText(["가", "나"], "Korean", "Hang"),
        "tha_Thai": LanguageText(["ก"], "Thai", "Thai"),
    }


def test_files_that_differ_in_their_suffix_alone_are_named_by_it(tmp_path):
    write_files(tmp_path, {"dev.en": "a", "dev.ko": "가"})
    assert list(fertility.texts_in(tmp_path)) == ["en", "ko"]


def test_an_index_gives_names_and_scripts(tmp_path):
    index = "file\tiso639_3\tscript\tbcp47\tname\n"
    index += "1.txt\troh\tLatn\trm\tRomansch\n2.txt\troh\tLatn\trm\tSurmiran\n"
    index += "3.txt\tkor\tHang\tko\tKorean\n4.txt\txxx\tLatn\t\tnot here\n"
    write_files(tmp_path, {"index.tsv": index, "1.txt": "a", "2.txt": "b", "3.txt": "가"})
    got = fertility.texts_in(tmp_path)
    # Two texts have one code, so their files name them.
    assert {k: (v.name, v.script) for k, v in got.items()} == {
        "1": ("Romansch", "Latn"),
        "2": ("Surmiran", "Latn"),
        "kor_Hang": ("Korean", "Hang"),
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no such folder"),
        ({"texts/.keep": ""}, "is empty; want a text file a language"),
        (
            {"texts/eng.txt": "a", "texts/eng.dev": "b", "texts/kor.txt": "c"},
            "second text of 'eng'",
        ),
        ({"texts/index.tsv": "file\tname\n", "texts/a.txt": "a"}, "no column iso639_3, script"),
        ({"texts/eng/.keep": ""}, "is a folder without files"),
        ({"texts/eng.txt": "\0"}, "eng.txt:1: holds a NUL"),
        ({"texts/eng.txt": '{"text": "a"}\n'}, "eng.txt:1: looks like JSON lines and is read as"),
    ],
)
def test_a_folder_that_cannot_be_read_says_why(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        fertility.texts_in(write_files(tmp_path, files) / "texts")


# ---------------------------------------------------------------------------- what is written
def test_the_report_is_written_as_json_csv_a_plot_and_a_page(words, tmp_path):
    rows = fertility.report({"t": words}, {"eng_Latn": ENGLISH, "kor_Hang": KOREAN})
    fertility_report.write(rows, tmp_path)
    (_, korean) = csv.DictReader(io.StringIO((tmp_path / "fertility.csv").read_text()))
    assert (korean["language"], korean["per_word"]) == ("kor_Hang", "4.0")
    assert json.loads((tmp_path / "fertility.json").read_text())[1]["tokens"] == 12
    assert b"<svg" in (tmp_path / "fertility.svg").read_bytes()
    assert "Korean takes 4.00 times" in (tmp_path / "fertility.html").read_text()


def test_a_folder_becomes_a_report(words, tmp_path):
    write_files(tmp_path / "texts", {"eng.txt": "ab ab\nab\n", "kor.txt": "가 나 다\n"})
    texts = fertility.texts_in(tmp_path / "texts")
    rows = fertility_report.write_report({"t": words}, texts, tmp_path / "out", parallel=True)
    assert [row.parity for row in rows] == [1.0, 4.0]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "fertility.csv", "fertility.json", "fertility.svg", "index.html"}  # fmt: skip


def test_a_reference_without_text_is_refused_unless_none_is_wanted(words, tmp_path):
    texts = {"kor_Hang": LanguageText(KOREAN), "tha_Thai": LanguageText(["ก"])}
    both = texts | {"kor": LanguageText(KOREAN)}  # two might be meant
    with pytest.raises(ValueError, match="'kor_Xxxx' among 3; want one of them, such as kor, "):
        fertility_report.write_report({"t": words}, both, tmp_path, reference="kor_Xxxx")
    rows = fertility_report.write_report({"t": words}, texts, tmp_path, reference="")
    assert {row.parity for row in rows} == {None}


def test_the_same_rows_give_the_same_plot(words):
    rows = fertility.report({"t": words}, {"eng_Latn": ENGLISH})
    assert fertility_report.plot(rows) == fertility_report.plot(rows)


def test_a_plot_of_many_languages_is_a_line_a_tokenizer(words):
    rows = fertility.report({"t": words, "u": words}, {f"l{i}": ENGLISH for i in range(17)})
    assert b'width="648pt"' in fertility_report.plot(rows)  # 34 bars would be twice as wide


def test_the_table_shows_every_row(words):
    rows = fertility.report({"old": words, "new": words}, {"kor_Hang": KOREAN})
    out = io.StringIO()
    Console(file=out, width=100).print(fertility.table(rows))
    assert out.getvalue().count("kor_Hang") == 2
    assert "4.00" in out.getvalue()


# data.md section 2, FLORES-101 devtest, first 200 lines: tokens per word, parity with English.
LANGUAGES = [
    "eng", "kor", "hin", "npi", "san", "swh", "tur", "tam", "ara", "fas", "vie", "tha", "zho_simpl"
]  # fmt: skip
PUBLISHED = {
    "llama2": (
        "1.47 1.0 6.54 3.10 5.59 4.48 7.42 4.41 9.86 4.58 2.72 1.82 3.74 2.07 10.70 5.75 5.38 3.36 "
        "5.16 3.84 2.94 2.84 29.61 4.36 26.23 2.02"
    ),
    "llama3": (
        "1.26 1.0 2.71 1.50 2.71 2.54 3.75 2.60 5.11 2.77 2.46 1.92 2.18 1.41 12.12 7.61 2.29 1.67 "
        "1.75 1.52 1.24 1.40 13.04 2.24 14.75 1.33"
    ),
    "llama2_hindi_plus1k": (
        "1.45 1.0 5.79 2.79 2.30 1.87 3.79 2.29 5.90 2.78 2.69 1.84 3.70 2.08 6.63 3.62 5.34 3.39 "
        "5.12 3.88 2.91 2.86 29.40 4.40 25.67 2.01"
    ),
}
LLAMA3_SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>")  # the stored file has no special tokens


def published_tokenizer(folder: Path) -> Tokenizer:
    stored = folder / "tokenizer.json.gz"
    if not stored.exists():
        return tokenizers.load(folder)
    tree = json.loads(gzip.decompress(stored.read_bytes()))
    flags = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized"), False)
    tree["added_tokens"] = [
        {"id": 128_000 + i, "content": name, "special": True, **flags}
        for i, name in enumerate(LLAMA3_SPECIAL)
    ]
    return tokenizers.from_files({"tokenizer.json": json.dumps(tree).encode()}, "llama3")


@pytest.mark.parametrize("name", PUBLISHED)
def test_measured_fertility_of_real_tokenizers_is_reproduced(name):
    folder = DATA / "tokenizers" / name
    if not folder.exists():
        pytest.skip(NO_DATA)
    flores = DATA / "parallel" / "flores101_first200"
    texts = {code: list(text.lines(f"{flores}/{code}.devtest")) for code in LANGUAGES}
    rows = fertility.report({name: published_tokenizer(folder)}, texts, reference="eng")
    got = [(round(row.per_word, 2), round(row.parity or 0, 2)) for row in rows]
    numbers = [float(number) for number in PUBLISHED[name].split()]
    want = list(zip(numbers[::2], numbers[1::2], strict=True))
    assert dict(zip(LANGUAGES, got, strict=True)) == dict(zip(LANGUAGES, want, strict=True))
    assert not any(row.lost for row in rows)


def test_the_universal_declaration_is_read_with_its_names():
    folder = DATA / "udhr"
    if not folder.exists():
        pytest.skip(NO_DATA)
    texts = fertility.texts_in(folder)
    assert len(texts) == 277
    assert len({text.script for text in texts.values()}) == 33
    assert texts["eng_Latn"].name == "English"
