"""A file is read as its writer meant, or refused with what to do; what is not read is named."""

import bz2
import gzip
import io
import json
import lzma
from pathlib import Path
import pickle
import tarfile
from typing import Any

import pyarrow
from pyarrow import parquet
import pytest

from lrl_jax import text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.read import tally as tallies
from lrl_jax.data.templates import table as table_of_templates
from lrl_jax.recipe import data as recipe_data

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def read(file: Path, kind: str = "text", **fields: Any) -> tuple[list, tallies.Tally]:
    """Returns the records of a file, or of several by a glob, and the tally of its rows."""
    spec = {"path": [str(file)], "kind": kind, "language": "kor_Hang", **fields}
    dataset = recipe_data.Data(sequence_length=8, datasets={"d": spec}).datasets["d"]
    tally = tallies.Tally()
    records = [
        record
        for shard in datasets.shards(dataset)
        for record in datasets.read(dataset, shard, tally)
    ]
    return records, tally


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(*rows: dict) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), out)
    return out.getvalue()


# ---------------------------------------------------------------------------- columns of Parquet
@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chat": TURNS, "system": "S", "id": 1}, {"columns": {"messages": "chat"}}),
        ({"messages": TURNS, "conversations": None, "system": "S", "id": 1}, {}),
        ({"d": {"chat": TURNS}, "system": "S", "id": 1}, {"columns": {"messages": "d.chat"}}),
    ],
    ids=["a column by the recipe", "both columns", "a column inside of another"],
)
def test_conversations_of_parquet_are_those_of_json_lines(tmp_path, row, words):
    as_json = read(write(tmp_path / "a.jsonl", lines(row)), "chat", **words)
    got = read(write(tmp_path / "a.parquet", table(row)), "chat", **words)
    assert got[0] == as_json[0]
    assert '"S"' in got[0][0]["messages"]
    assert got[1].unread == as_json[1].unread == {"id": 1}


def test_a_column_whose_name_is_a_path_is_no_part_of_another(tmp_path):
    path = write(tmp_path / "a.parquet", table({"a.b": "x", "a": {"b": "y", "c": "z"}}))
    records, tally = read(path, columns={"text": "a.b"})
    assert records == [{"text": "x"}]
    assert tally.unread == {"a": 1}


# ---------------------------------------------------------------------------- fields not read
SEED = {"instruction": "i", "instances": [{"input": "", "output": "o"}, {"output": "p"}]}
TREE = {"prompt": {"text": "i", "lang": "", "replies": [{"text": "r"}]}}
ARTICLE = {
    "paragraphs": [
        {
            "context": "c",
            "qas": [
                {"question": "q", "answers": [{"text": "one"}, {"text": "two"}]},
                {"question": "r", "answers": [{"text": "one"}, {"text": "one"}]},
            ],
        }
    ]
}
NESTED: dict[str, tuple[str, dict, dict, dict]] = {
    "later instances": (
        "instructions", SEED,
        {"columns": {"input": "instances[0].input", "output": "instances[0].output"}},
        {"instances[1:]": 1},
    ),
    "half of an instance": (
        "text", SEED, {"columns": {"text": "instances.1.output"}},
        {"instruction": 1, "instances[0]": 1},
    ),
    "beside a translation": (
        "text", {"translation": {"en": "a", "ko": "b", "score": 0}},
        {"columns": {"text": "translation.en"}}, {"translation.ko": 1, "translation.score": 1},
    ),
    "beside turns": (
        "chat", {"data": {"messages": TURNS, "system": "S"}},
        {"columns": {"messages": "data.messages"}}, {"data.system": 1},
    ),
    "replies": ("text", TREE, {"columns": {"text": "prompt.text"}}, {"prompt.replies": 1}),
    "later answers": (
        "text", {"answers": {"text": ["a", "b"], "answer_start": [0, 5]}},
        {"columns": {"text": "answers.text[0]"}},
        {"answers.text[1:]": 1, "answers.answer_start": 1},
    ),
    "all of it": ("text", {"a": {"b": "x", "c": None}}, {"columns": {"text": "a.b"}}, {}),
    "a name that is a path": ("text", {"a.b": "x", "a": {"c": 1}}, {"columns": {"text": "a.b"}},
                              {"a": 1}),
    "answers of SQuAD": ("instructions", {"data": [ARTICLE]}, {"format": "squad"},
                         {"answers.text[1:]": 1}),
    "a context of SQuAD": (
        "text", {"data": [ARTICLE]}, {"format": "squad", "columns": {"text": "context"}},
        {"question": 2, "answer": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_what_lies_beside_a_path_is_named_if_nothing_reads_it(tmp_path, name):
    kind, row, words, want = NESTED[name]
    _, tally = read(write(tmp_path / "a.jsonl", lines(row)), kind, **words)
    assert dict(tally.unread) == want


def test_a_name_with_white_space_is_shown_in_quotes(tmp_path):
    [bad, _], _ = read(write(tmp_path / "a.csv", "id, text\n1, hello\n2, foo\n"))
    assert bad.why == "has no field 'text'; it has id, ' text'"


# ---------------------------------------------------------------------------- names and looks
ROWS_OF_TABS = "id\ttext\n1\ta\n2\tb\n"


def test_what_an_address_leaves_behind_a_name_says_nothing(tmp_path):
    for name, content in [
        ("a.csv?download=true", b'id,text\n1,"a, b"\n2,b\n'),
        ("a.csv.gz?raw=1&x=a.b", gzip.compress(b'id,text\n1,"a, b"\n2,b\n')),
        ("a.jsonl?download=true", b'{"text": "a, b"}\n{"text": "b"}\n'),
    ]:
        records, _ = read(write(tmp_path / name, content))
        assert records == [{"text": "a, b"}, {"text": "b"}]
    path = write(tmp_path / "b.tsv?download=true", ROWS_OF_TABS)
    assert read(path)[0] == [{"text": "a"}, {"text": "b"}]
    spec = {"kind": "text", "path": [str(path)], "language": "kor_Hang"}
    dataset = recipe_data.Data(sequence_length=8, datasets={"d": spec}).datasets["d"]
    assert "tsv_raw" in datasets.fingerprints(dataset)[0][0]  # older versions read lines


LOOKS = {
    "a.tab": (ROWS_OF_TABS[:12], "a table and .*`format: tsv`"),
    "pairs.txt": (ROWS_OF_TABS, "a table of 2 columns between tabs .*`format: tsv`"),
    "refset.en": ('<refset setid="t">\n<doc docid="1">\n<seg id="1">a</seg>\n', "SGML .*alone"),
    "a.sgm": ('<doc docid="1">\n<seg id="1">a</seg>\n</doc>\n', "SGML"),
    "mteval.sgm": ('<!DOCTYPE mteval SYSTEM "x.dtd">\n<mteval>\n', "SGML"),
    "a.rtf": ("{\\rtf1\\ansi Hello\\par\n}\n", "RTF .*save it as plain text"),
    "a.vtt": ("WEBVTT\n\n00:01.000 --> 00:04.000\na\n", "WebVTT"),
    "a.srt": ("\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\na\r\n", "SRT"),
    "a.po": ('# Korean.\n#\n\nmsgid ""\nmsgstr ""\n"Language: ko\\n"\n', "PO"),
    "one.po": ('#: a.c:1\nmsgctxt "menu"\nmsgid "Open"\nmsgstr "o"\n', "PO"),
    "a.conllu": ("# text = a\n" + "\t".join("1aaN__0r__") + "\n\n", "CoNLL-U"),
}


@pytest.mark.parametrize("name", LOOKS)
def test_what_is_no_text_is_refused_unless_the_recipe_says_text(tmp_path, name):
    content, look = LOOKS[name]
    path = write(tmp_path / name, content)
    with pytest.raises(text.DataError, match=f"{name}:1: looks like .*{look}.* `format: text`"):
        read(path)
    records, _ = read(path, format="text")
    assert records[-1]["text"] == [line for line in content.splitlines() if line][-1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("indented.txt", "\ta\n" * 9),
        ("some.txt", "a\tb\n" * 9 + "c\n"),
        ("dev.tab", "a\nb\n"),  # Tabasaran
        ("dev.srt", "1\na --> b\n"),  # Sauri
        ("a.txt", '1 a --> b\nmsgid "x"\n'),
        ("blank.txt", "\n" * 9999 + "a\n"),
    ],
)
def test_text_that_only_begins_like_something_else_is_text(tmp_path, name, content):
    records, _ = read(write(tmp_path / name, content))
    want = [line for line in content.split("\n") if line]
    assert [record["text"] for record in records] == want


# ---------------------------------------------------------------------------- separators of tables
SEMICOLONS = 'id;text\n1;"a, b"\n2;c\n'


def test_cells_may_be_separated_as_the_recipe_or_the_first_line_says(tmp_path):
    want = [{"text": "a, b"}, {"text": "c"}]
    marked = write(tmp_path / "a.csv", "sep=;\n" + SEMICOLONS)
    assert read(marked)[0] == read(marked, delimiter=";")[0] == want
    assert read(write(tmp_path / "a.csv", SEMICOLONS), delimiter=";")[0] == want
    tabs = write(tmp_path / "a.csv", SEMICOLONS.replace(";", "\t"))
    assert read(tabs, delimiter="\t")[0] == want
    torn = write(tmp_path / "a.csv", "sep=;\n" + SEMICOLONS + "3\n")
    assert read(torn)[0][2].where == f"{torn}:5"


BARE = {"header": False, "columns": {"text": "0"}}


@pytest.mark.parametrize(
    ("content", "words", "what"),
    [
        (SEMICOLONS, {}, 'semicolons .* say `delimiter: ";"`, or'),
        (SEMICOLONS.replace(";", "\t"), {}, r'tabs .* say `delimiter: "\\t"`'),
        ("1;hello\n2;foo\n", BARE, "semicolons"),
        ("1\thello\n2\tfoo\n", BARE, "tabs"),
    ],
)
def test_a_csv_file_without_commas_is_refused(tmp_path, content, words, what):
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(text.DataError, match=f"a.csv:1: looks separated by {what}"):
        read(path, **words)


def test_a_semicolon_is_text_where_the_recipe_or_the_lines_say_so(tmp_path):
    bare = write(tmp_path / "a.csv", "a; b\nc; d\n")
    want = [{"text": "a; b"}, {"text": "c; d"}]
    assert read(bare, delimiter=",", **BARE)[0] == want
    named = write(tmp_path / "a.csv", "a; b\nc; d\n")
    assert read(named, columns={"text": "a; b"})[0] == want[1:]
    some = write(tmp_path / "a.csv", "a; b\nc\n")
    assert read(some, **BARE)[0] == [{"text": "a; b"}, {"text": "c"}]


def test_a_delimiter_that_nothing_can_follow_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", lines({"text": "a"}))
    with pytest.raises(text.DataError, match=r"a.jsonl: the recipe says a delimiter, .* as jsonl"):
        read(path, delimiter=";")
    for wrong in ("::", '"'):
        with pytest.raises(ValueError, match="delimiter: want one character"):
            read(path, delimiter=wrong)
    with pytest.raises(ValueError, match=r"delimiter is of \.csv files of `path`"):
        read(path, delimiter=";", **{"path": [], "hub": {"dataset": "a/b"}})


# ---------------------------------------------------------------------------- files of programs
def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("a.txt")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"a\n"))
    return out.getvalue()


def arrow(new: Any) -> bytes:
    out = io.BytesIO()
    made = pyarrow.table({"text": ["a"]})
    with new(out, made.schema) as writer:
        writer.write_table(made)
    return out.getvalue()


PROGRAMS = {
    "data-00000.arrow": (arrow(pyarrow.ipc.new_stream), "an Arrow file; save it as Parquet"),
    "a.feather": (arrow(pyarrow.ipc.new_file), "an Arrow file"),
    "a.txt.lz4": (pyarrow.compress(b"a\n", "lz4", asbytes=True), "compressed with lz4; unpack it"),
    "a.lzma": (lzma.compress(b"a\n", format=lzma.FORMAT_ALONE), "compressed with lzma; unpack it"),
    "a.7z": (b"7z\xbc\xaf\x27\x1c\0\4", r"an archive \(.7z, .rar\); unpack it"),
    "a.rar": (b"Rar!\x1a\x07\1\0", "an archive"),
    "a.zip": (b"PK\3\4\x14\0", "a zip archive or an Office document; unpack it"),
    "a.docx": (b"PK\3\4\x14\0", "a zip archive or an Office .* the document as a text file"),
    "a.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document .*as a text file"),
    "a.pkl": (pickle.dumps(["a"]), "a pickle, which is never read.*as Parquet or JSON lines"),
    "a.tar": (archive(), r"an archive \(tar\); unpack it"),
    "a.tgz": (gzip.compress(archive()), r"an archive \(tar\)"),
    "a.tar.gz": (gzip.compress(archive()), r"an archive \(tar\)"),
    "a.jsonl.xz": (lzma.compress(archive()), r"an archive \(tar\)"),
    "a.csv.bz2": (bz2.compress(archive()), r"an archive \(tar\)"),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("form", ["auto", "text"])
def test_a_file_that_only_programs_read_is_named_with_what_to_do(tmp_path, name, form):
    content, what = PROGRAMS[name]
    with pytest.raises(text.DataError, match=f"{name}: is {what}"):
        read(write(tmp_path / name, content), format=form)


def test_the_encodings_that_are_likely_are_named(tmp_path):
    [bad], _ = read(write(tmp_path / "a.txt", "café\n".encode("cp1252")))
    assert "not UTF-8 at byte 3" in bad.why
    assert "`iconv -f WINDOWS-1252 -t UTF-8`, or WINDOWS-1251 (Cyrillic), CP949" in bad.why


# ---------------------------------------------------------------------------- what a row says
def test_a_file_that_two_globs_name_is_read_once(tmp_path):
    path = write(tmp_path / "a.txt", "a\n")
    write(tmp_path / "b.txt", "b\n")
    names = [f"{tmp_path}/*.txt", f"{tmp_path}/./a.txt"]
    spec = {"kind": "text", "path": names, "language": "kor_Hang"}
    dataset = recipe_data.Data(sequence_length=8, datasets={"d": spec}).datasets["d"]
    [shard] = datasets.shards(dataset)
    assert [*datasets.read(dataset, shard)] == [{"text": "a"}, {"text": "b"}]
    assert datasets.repeated_files(dataset) == [str(path)]


def test_a_loss_that_was_measured_is_no_weight(tmp_path):
    said = ('"loss": 1.73', '"loss": 0.2, "weight": 0.5', '"loss": 1', '"loss": "x"')
    whole = lines({"messages": [TURNS[0], {**TURNS[1], "loss": None}]})
    rows = "".join(whole.replace('"loss": null', each) for each in said)
    records, tally = read(write(tmp_path / "a.jsonl", rows), "chat")
    weights = [json.loads(record["messages"])[1].get("weight", 1) for record in records[:3]]
    assert weights == [1, 0.5, 1]
    assert records[3].why == "turn 2: loss is 'x'; want true, false, or a number from 0"
    assert tally.unread == {"loss of a turn": 2}


def test_a_blank_input_of_alpaca_is_none():
    row = {"instruction": "i", "input": "", "output": "o"}
    assert table_of_templates.alpaca(row | {"input": " \n"}) == table_of_templates.alpaca(row)
