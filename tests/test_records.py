"""What was written is what is read: one table of every format and kind, then every bad input."""

from collections.abc import Callable
import dataclasses
import gzip
import io
import json
from pathlib import Path
import pickle
from typing import Any

import pyarrow
from pyarrow import parquet
import pytest

from lrl_jax import text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.read import files, formats, kinds
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import Bad

KOREAN = {"language": "kor_Hang"}
PAIR = {"source_language": "eng_Latn", "target_language": "kor_Hang"}


def dataset(kind: str, **fields: Any) -> Any:
    known = PAIR if kind == "parallel" else KOREAN
    data = recipe_data.Data(sequence_length=8, datasets={"d": {"kind": kind, **known, **fields}})
    return data.datasets["d"]


def read(one: Any) -> list[datasets.Record | Bad]:
    return [record for shard in datasets.shards(one) for record in datasets.read(one, shard)]


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def pair(source: str, target: str) -> datasets.Record:
    return {"source": source, "target": target, **PAIR}


def conversation(*turns: str) -> datasets.Record:
    roles = ("user", "assistant") * len(turns)
    said = [{"role": r, "content": c} for r, c in zip(roles, turns, strict=False)]
    return {"messages": json.dumps(said, ensure_ascii=False)}


# ---------------------------------------------------------------------------- the table
def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(*rows: dict) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), out, row_group_size=1)
    return out.getvalue()


def squad(*asked: tuple[str, str, list[str]]) -> str:
    questions = [
        {
            "context": context,
            "qas": [{"id": "q", "question": q, "answers": [{"text": a} for a in answers]}],
        }
        for context, q, answers in asked
    ]
    return json.dumps({"version": "1", "data": [{"title": "t", "paragraphs": questions}]})


TMX = """<?xml version="1.0" encoding="UTF-8"?>
<tmx version="1.4"><header/><body>
 <tu><tuv xml:lang="en-GB"><seg>Good <bpt i="1">&lt;b&gt;</bpt>morning<ept i="1"/> &amp; </seg>
  </tuv><tuv xml:lang="KO"><seg>안녕</seg></tuv><tuv xml:lang="de"><seg>x</seg></tuv></tu>
 <tu><tuv lang="en"><seg>Two</seg></tuv><tuv lang="ko-KR"><seg>둘</seg></tuv></tu>
</body></tmx>"""
SHAREGPT = [{"from": "human", "value": "가"}, {"from": "gpt", "value": "나"}]
MESSAGES = [{"role": "user", "content": "가"}, {"role": "assistant", "content": "나"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "가"}]}, MESSAGES[1]]
COLUMNS = {"role": ["user", "assistant"], "content": ["가", "나"]}
ALPACA = [{"instruction": "a", "input": "b", "output": "c"}, {"instruction": "d", "output": "e"}]
ALPACA_READ = [ALPACA[0], {**ALPACA[1], "input": ""}]
CHAIN = "Instruction in English: Add.\n Response in English: 3\nResponse in Korean: 셋 "
CHAINED = {
    "instruction": "더해라", "input": "", "output": "셋", "english_instruction": "Add.",
    "english_input": "", "english_output": "3", "language": "kor_Hang",
}  # fmt: skip
TWO = [{"text": "가"}, {"text": "나 "}]

# name: kind, file, content, words of the recipe, records
TABLE: dict[str, tuple[str, str, str | bytes, dict, list]] = {
    "text lines": ("text", "a.txt", "가\n\n  \n나 \n", {}, TWO),
    "text lines of any name": ("text", "dev.kor", "가\r\n나 ", {}, TWO),
    "text paragraphs": (
        "text", "a.txt", "\na\nb\n\n \nc\n", {"documents": "paragraphs"},
        [{"text": "a\nb"}, {"text": "c"}],
    ),
    "text files": (
        "text", "a.txt", "\na\n\nb\n\n", {"documents": "files"}, [{"text": "a\n\nb"}]
    ),
    "text gz": ("text", "a.txt.gz", gzip.compress("가\n나 \n".encode()), {}, TWO),
    "text jsonl": ("text", "a.jsonl", lines(*TWO), {}, TWO),
    "text json list": ("text", "a.json", json.dumps(TWO, indent=1), {}, TWO),
    "text json object": ("text", "a.json", json.dumps({"n": 2, "rows": TWO}), {}, TWO),
    "text json that is json lines": ("text", "a.json", lines(*TWO), {}, TWO),
    "text json that is one json line": (
        "text", "a.json", lines({"text": "가", "more": [{}]}), {}, TWO[:1]
    ),
    "text json without text is an error of the row": (
        "text", "a.json", lines({"body": "가"}), {},
        [Bad("a.json:1", "has no field 'text'; it has body")],
    ),
    "text json lines of lists": (
        "text", "a.json", lines({"body": [{}]}, {"text": "가"}), {},
        [Bad("a.json:1", "has no field 'text'; it has body"), TWO[0]],
    ),
    "text csv": ("text", "a.csv", 'n,text\n1,가\n2,"나 "\n', {}, TWO),
    "text csv with newlines in quotes": (
        "text", "a.csv", 'text,n\r\n"a\r\nb ""c""",1\r\n\r\nd,2\r\n', {},
        [{"text": 'a\nb "c"'}, {"text": "d"}],
    ),
    "text csv without header": (
        "text", "a.csv", "1,가\n2,나 \n", {"header": False, "columns": {"text": "1"}}, TWO
    ),
    "text tsv with raw quotes": ("text", "a.tsv", 'n\ttext\n1\t"a\n2\tb"\n', {},
                                 [{"text": '"a'}, {"text": 'b"'}]),
    "text parquet": ("text", "a.parquet", table(*TWO), {}, TWO),
    "text parquet with a null": (
        "text", "a.parquet", table({"text": "가"}, {"text": None}), {},
        [TWO[0], Bad("a.parquet: row 2", "field 'text' is null", "empty")],
    ),
    "text parquet column": (
        "text", "a.parquet", table({"a": {"b": ["x", "가"]}}), {"columns": {"text": "a.b[1]"}},
        TWO[:1],
    ),
    "text parquet bytes": ("text", "a.parquet", table({"text": "가".encode()}), {}, TWO[:1]),
    "text named column": (
        "text", "a.jsonl", lines({"a.b": "가"}, {"a.b": "나 "}), {"columns": {"text": "a.b"}}, TWO
    ),
    "pairs jsonl": (
        "parallel", "a.jsonl", lines({"translation": {"en": "a", "ko": "가"}}),
        {"columns": {"source": "translation.en", "target": "translation.ko"}}, [pair("a", "가")],
    ),
    "pairs tsv without header": (
        "parallel", "a.tsv", "a\t가\r\n", {"header": False, "columns": {"source": "0",
        "target": "1"}}, [pair("a", "가")],
    ),
    "pairs parquet": ("parallel", "a.parquet", table({"source": "a", "target": "가"}), {},
                      [pair("a", "가")]),
    "pairs tmx": (
        "parallel", "a.tmx", TMX, {"columns": {"source": "en", "target": "ko"}},
        [pair("Good morning &", "안녕"), pair("Two", "둘")],
    ),
    "pairs tmx gz": (
        "parallel", "a.tmx.gz", gzip.compress(TMX.encode()),
        {"columns": {"source": "de", "target": "ko"}},
        [pair("x", "안녕"), Bad("a.tmx.gz: row 2", "has no field 'de'; it has en, ko")],
    ),
    "instructions json": ("instructions", "a.json", json.dumps(ALPACA), {}, ALPACA_READ),
    "instructions jsonl": ("instructions", "a.jsonl", lines(*ALPACA), {}, ALPACA_READ),
    "instructions of any name": ("instructions", "a", json.dumps(ALPACA, indent=2), {},
                                 ALPACA_READ),
    "instructions null input": (
        "instructions", "a.jsonl", lines({**ALPACA[1], "input": None}), {}, ALPACA_READ[1:]
    ),
    "instructions inside of a list": (
        "instructions", "a.jsonl",
        lines({"instruction": "a", "instances": [{"input": "b", "output": "c"}]}),
        {"columns": {"input": "instances.0.input", "output": "instances[0].output"}},
        ALPACA_READ[:1],
    ),
    "instructions squad": (
        "instructions", "a.json", squad(("c", "q?", ["one", "two"]), ("d", "r?", [])),
        {"format": "squad"},
        [{"instruction": "q?", "input": "c", "output": "one"},
         Bad("a.json: row 2", "field 'output' is empty", "empty")],
    ),
    "completion csv": (
        "completion", "a.csv", "Q,A,label\n질문,답,0\n,답,1\n",
        {"columns": {"prompt": "Q", "completion": "A"}},
        [{"prompt": "질문", "completion": "답"}, {"prompt": "", "completion": "답"}],
    ),
    "completion parquet": (
        "completion", "a.parquet", table({"prompt": "a", "completion": "b"}), {},
        [{"prompt": "a", "completion": "b"}],
    ),
    "chat messages": ("chat", "a.jsonl", lines({"messages": MESSAGES}), {},
                      [conversation("가", "나")]),
    "chat messages as JSON text": (
        "chat", "a.jsonl", lines({"messages": json.dumps(MESSAGES)}), {},
        [conversation("가", "나")],
    ),
    "chat messages in parts": ("chat", "a.jsonl", lines({"messages": PARTS}), {},
                               [conversation("가", "나")]),
    "chat ShareGPT": ("chat", "a.json", json.dumps([{"id": 1, "conversations": SHAREGPT}]), {},
                      [conversation("가", "나")]),
    "chat LIMA": ("chat", "a.jsonl", lines({"conversations": ["가", "나", "다", "라"]}), {},
                  [conversation("가", "나", "다", "라")]),
    "chat parquet": ("chat", "a.parquet", table({"messages": MESSAGES}), {},
                     [conversation("가", "나")]),
    "chat columns of turns": ("chat", "a.jsonl", lines({"log": {"all": COLUMNS}}),
                              {"columns": {"messages": "log.all"}}, [conversation("가", "나")]),
    "chat with a system": (
        "chat", "a.jsonl", lines({"messages": [{"role": "System", "content": "s"}, *MESSAGES]}),
        {},
        [{"messages": json.dumps([{"role": "system", "content": "s"}, *MESSAGES],
                                 ensure_ascii=False)}],
    ),
    "taco scaffold": (
        "taco", "a.json", json.dumps([{"instruction": "더해라", "output": CHAIN}]), {}, [CHAINED]
    ),
    "taco scaffold jsonl": (
        "taco", "a.jsonl", lines({"instruction": "더해라", "input": "", "output": CHAIN}), {},
        [CHAINED],
    ),
}  # fmt: skip


def here(found: list, folder: Path) -> list:
    """Places without the folder of this test."""
    cut = f"{folder}/"
    return [
        dataclasses.replace(one, where=one.where.removeprefix(cut)) if isinstance(one, Bad) else one
        for one in found
    ]


@pytest.mark.parametrize("name", TABLE)
def test_what_is_written_is_read(tmp_path, name):
    kind, file, content, words, want = TABLE[name]
    one = dataset(kind, path=[write(tmp_path / file, content)], **words)
    got = here(read(one), tmp_path)
    assert got == want
    for record in got:
        assert isinstance(record, Bad) or tuple(record) == kinds.of(one).fields


def test_every_format_and_kind_is_in_the_table():
    ways = {kind for kind, *_ in TABLE.values()}
    assert ways == {name for name, kind in kinds.KINDS.items() if kind.make}
    shapes = {words.get("format", files.format_of(file)) for _, file, _, words, _ in TABLE.values()}
    assert shapes == {"text", *formats.READERS}


@pytest.mark.parametrize("name", TABLE)
def test_a_file_may_be_read_in_many_shards(tmp_path, monkeypatch, name):
    kind, file, content, words, want = TABLE[name]
    monkeypatch.setattr(datasets, "SHARD_BYTES", 3)
    one = dataset(kind, path=[write(tmp_path / file, content)], **words)
    assert here(read(one), tmp_path) == want
    shards = datasets.shards(one)
    assert [tuple(files.Span(*span) for span in s) for s in json.loads(json.dumps(shards))] == (
        pickle.loads(pickle.dumps(shards))
    )


def test_what_take_counts_is_one_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "SHARD_BYTES", 2)
    path = write(tmp_path / "a.txt", "a\nb\nc\n")
    assert len(datasets.shards(dataset("text", path=[path]))) == 3
    [shard] = datasets.shards(dataset("text", path=[path], take=1))
    assert len(shard) == 3
    assert len(datasets.shards(dataset("parallel", source=path, target=path, take=1))) == 1


# ---------------------------------------------------------------------------- pairs
@pytest.mark.parametrize(
    ("direction", "want"),
    [
        ("forward", ["a>c", "b>d"]),
        ("backward", ["c>a", "d>b"]),
        ("both", ["a>c", "c>a", "b>d", "d>b"]),
    ],
)
def test_pairs_go_the_way_they_are_learnt(tmp_path, direction, want):
    source, target = write(tmp_path / "s", "a\nb\n"), write(tmp_path / "t", "c\nd\n")
    got = read(dataset("parallel", source=source, target=target, direction=direction))
    assert [f"{record['source']}>{record['target']}" for record in got] == want
    for record in got:
        code = PAIR["source_language" if record["source"] in "ab" else "target_language"]
        assert record["source_language"] == code


def test_either_direction_is_chosen_by_the_pair(tmp_path):
    texts = "".join(f"{i}\n" for i in range(200))
    source, target = write(tmp_path / "s", texts), write(tmp_path / "t", texts.replace("\n", "x\n"))
    one = dataset("parallel", source=source, target=target, direction="either")
    first = read(one)
    forward = sum(record["source_language"] == "eng_Latn" for record in first)
    assert (len(first), 70 < forward < 130) == (200, True)
    source, target = write(tmp_path / "s", "199\n"), write(tmp_path / "t", "199x\n")
    assert read(one) == first[-1:]  # whatever stands before it


def test_pairs_are_read_with_equal_lines_in_every_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "SHARD_BYTES", 20)
    monkeypatch.setattr(text, "BLOCK", 8)
    source = write(tmp_path / "s", "".join(f"{i}\n" for i in range(30)))
    target = write(tmp_path / "t", "".join(f"{i:5}\n" for i in range(29)) + "  \n")
    one = dataset("parallel", source=source, target=target)
    assert len(datasets.shards(one)) > 4
    *got, last = read(one)
    assert [(r["source"], r["target"]) for r in got] == [(f"{i}", f"{i:5}") for i in range(29)]
    assert last == Bad(f"{target}:30", "one half of the pair is empty", "empty")


# ---------------------------------------------------------------------------- bad records
def bad(at: str, why: str, reason: str = "unreadable") -> tuple[str, str, str]:
    return at, why, reason


GOOD = '{"text": "a"}\n'
LONG = b"x" * (text.LONGEST + 1) + b"\n"
TURNS = {
    "no one": [],
    "user": [MESSAGES[0]],
    "assistant": [MESSAGES[1]],
    "user, user, assistant": [MESSAGES[0], *MESSAGES],
    "user, assistant, system, user, assistant": [*MESSAGES, {"role": "system", "content": "s"},
                                                 *MESSAGES],
}  # fmt: skip
NOT_TALK = {
    "turn 1 is by 'tool'": [{"role": "tool", "content": "x"}],
    "turn 2 is no text": [MESSAGES[0], {"role": "assistant", "content": None}],
    "turn 1: want role and content, or from and value": [{"text": "x"}],
    "want a list of turns": {"role": "user"},
    "not JSON": "[{",
}
Bads = dict[str, tuple[str, str, str | bytes, dict, list[tuple[str, str, str]]]]
BAD: Bads = {
    "not UTF-8": ("text", "a.txt", b"a\n\xb0\xa1\nb\n", {},
                  [bad("a.txt:2", "not UTF-8 at byte 0")]),
    "not UTF-8 in a paragraph": (
        "text", "a.txt", b"a\n\xb0\n\xb0\n\nb\n", {"documents": "paragraphs"},
        [bad("a.txt:2", "not UTF-8 at byte 0")],
    ),
    "a NUL": ("text", "a.txt", "a\n\0\nb", {}, [bad("a.txt:2", "holds a NUL")]),
    "a line too long": ("text", "a.txt", b"a\n" + LONG + b"b\n", {},
                        [bad("a.txt:2", "a line longer than 64 MiB")]),
    "no JSON": ("text", "a.jsonl", GOOD + "{\n" + GOOD, {}, [bad("a.jsonl:2", "not JSON")]),
    "no JSON object": ("text", "a.jsonl", "[1]\n" + GOOD, {},
                       [bad("a.jsonl:1", "want a JSON object; got '[1]'")]),
    "JSON that is too deep": ("text", "a.jsonl", "[" * 100_000 + "\n" + GOOD, {},
                              [bad("a.jsonl:1", "not JSON")]),
    "no UTF-8 in JSON lines": ("text", "a.jsonl", b'{"text": "\xff"}\n' + GOOD.encode(), {},
                               [bad("a.jsonl:1", "not UTF-8")]),
    "no object in a list": ("text", "a.json", '[{"text": "a"}, 3]', {},
                            [bad("a.json: row 2", "want a JSON object; got '3'")]),
    "no such field": ("text", "a.jsonl", '{"body": "a", "n": 1}\n' + GOOD, {},
                      [bad("a.jsonl:1", "has no field 'text'; it has body, n")]),
    "a field that is no string": ("text", "a.jsonl", '{"text": ["a"]}\n' + GOOD, {},
                                  [bad("a.jsonl:1", "field 'text' must be a string; got \"['a']")]),
    "half a surrogate pair": ("text", "a.jsonl", '{"text": "\\ud83d"}\n' + GOOD, {},
                              [bad("a.jsonl:1", "holds half a surrogate pair")]),
    "a NUL in JSON": ("text", "a.jsonl", '{"text": "\\u0000"}\n' + GOOD, {},
                      [bad("a.jsonl:1", "holds a NUL")]),
    "an empty field": ("text", "a.jsonl", '{"text": " "}\n' + GOOD, {},
                       [bad("a.jsonl:1", "field 'text' is empty", "empty")]),
    "a null": ("text", "a.jsonl", '{"text": null}\n' + GOOD, {},
               [bad("a.jsonl:1", "field 'text' is null", "empty")]),
    "a null in Parquet": ("text", "a.parquet", table({"text": None}, {"text": "a"}), {},
                          [bad("a.parquet: row 1", "is null", "empty")]),
    "no UTF-8 in Parquet": ("text", "a.parquet", table({"text": b"\xff"}, {"text": b"a"}), {},
                            [bad("a.parquet: row 1", "not UTF-8")]),
    "cells missing": ("text", "a.csv", "n,text\n1\n2,a\n", {},
                      [bad("a.csv:2", "has 1 cells where the header names 2")]),
    "cells too many": ("text", "a.tsv", "n\ttext\n1\ta\tb\n2\ta\n", {},
                       [bad("a.tsv:2", "has 3 cells where the header names 2")]),
    "not UTF-8 in quotes": ("text", "a.csv", b'text,n\n"a\n\xff\nb",1\na,2\n', {},
                            [bad("a.csv:3", "not UTF-8 at byte 0")]),
    "a quote that does not end": ("text", "a.csv", 'text,n\na,1\n"b,2\n', {},
                                  [bad("a.csv:3", "not CSV (unexpected end of data)")]),
    "no such place": ("text", "a.csv", "a\n", {"header": False, "columns": {"text": "1"}},
                      [bad("a.csv:1", "has no field '1'; it has 0")]),
    "half of a pair": ("parallel", "a.jsonl", lines({"source": "", "target": "b"}), {},
                       [bad("a.jsonl:1", "field 'source' is empty", "empty")]),
    "an output that is empty": ("instructions", "a.jsonl", lines({**ALPACA[0], "output": ""}), {},
                                [bad("a.jsonl:1", "field 'output' is empty", "empty")]),
    "no scaffold": (
        "taco", "a.jsonl", lines({"instruction": "더해라", "output": "셋"}), {},
        [bad("a.jsonl:1", "no chain; got '셋'", "no scaffold")],
    ),
    "a chain that is still English": (
        "taco", "a.jsonl", lines({"instruction": "a", "output": CHAIN.replace("셋", "3")}), {},
        [bad("a.jsonl:1", "the output is still the English one", "untranslated")],
    ),
    "a chain with an empty section": (
        "taco", "a.jsonl", lines({"instruction": "a", "output": CHAIN.replace("Add.", "")}), {},
        [bad("a.jsonl:1", "a section of the chain is empty", "empty")],
    ),
    "no messages": ("chat", "a.jsonl", lines({"text": "a"}), {},
                    [bad("a.jsonl:1", "has no field messages or conversations; it has text")]),
    "a turn that is empty": (
        "chat", "a.jsonl", lines({"conversations": ["a", " "]}), {},
        [bad("a.jsonl:1", "turn 2 is empty", "empty")],
    ),
    **{
        f"turns by {who}": (
            "chat", "a.jsonl", lines({"messages": turns}), {},
            [bad("a.jsonl:1", f"turns are by {who}; want user and", "not a conversation")],
        )
        for who, turns in TURNS.items()
    },
    **{
        f"no talk: {why}": (
            "chat", "a.jsonl", lines({"messages": turns}), {},
            [bad("a.jsonl:1", why, "not a conversation")],
        )
        for why, turns in NOT_TALK.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_named_and_reading_goes_on(tmp_path, name):
    kind, file, content, words, want = BAD[name]
    one = dataset(kind, path=[write(tmp_path / file, content)], **words)
    got = here(read(one), tmp_path)
    found = [record for record in got if isinstance(record, Bad)]
    assert [(one.where, one.reason) for one in found] == [(at, reason) for at, _, reason in want]
    assert all(why in one.why for one, (_, why, _) in zip(found, want, strict=True))
    assert all(record["text"] in ("a", "b") for record in got if record not in found)
    assert kind != "text" or len(got) > len(found) or "place" in name


def test_a_bad_line_of_a_pair_is_one_bad_pair(tmp_path):
    source, target = (
        write(tmp_path / "s", b"a\n\xff\nb\nc\n"),
        write(tmp_path / "t", "d\ne\n\0\nf\n"),
    )
    first, second, third, last = read(dataset("parallel", source=source, target=target))
    assert (first["target"], second.where, third.where) == ("d", f"{source}:2", f"{target}:3")
    assert last["source"] + last["target"] == "cf"


def test_a_place_in_a_later_shard_is_the_line_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "SHARD_BYTES", 20)
    rows = lines(*({"text": f"{i}"} for i in range(40))).replace('"30"', "30")
    [found] = [r for r in read(dataset("text", path=[write(tmp_path / "a.jsonl", rows)]))
               if isinstance(r, Bad)]  # fmt: skip
    assert found.where == f"{tmp_path}/a.jsonl:31"


# ---------------------------------------------------------------------------- bad files
Break = Callable[[Path], Any]


def unequal(folder: Path) -> Any:
    source, target = write(folder / "s", "a\nb\nc\n"), write(folder / "t", "c\n")
    return dataset("parallel", source=source, target=target)


def of(kind: str, file: str, content: str | bytes, **words: Any) -> Break:
    return lambda folder: dataset(kind, path=[write(folder / file, content)], **words)


ENTITIES = TMX.replace("<tmx", '<!DOCTYPE t [<!ENTITY a "b">]>\n<tmx')
USELESS: dict[str, tuple[Break, str]] = {
    "unequal": (unequal, r"/s has 3 lines and .*/t 1; parallel files say the same thing"),
    "unequal the other way": (
        lambda folder: unequal(folder).model_copy(
            update={"source": str(folder / "t"), "target": str(folder / "s")}
        ),
        r"/t has 1 lines and .*/s 3",
    ),
    "gz cut short": (of("text", "a.gz", gzip.compress(b"a\n" * 99)[:-3]), r"a.gz: is cut short"),
    "Parquet cut short": (of("text", "a.parquet", table({"text": "a"})[:-9]), "no whole Parquet"),
    "JSON cut short": (of("text", "a.json", '[{"text": "a"}, '), r"a.json: not JSON"),
    "no list": (of("text", "a.json", '{"a": [{}], "b": [{}]}'), "an object that holds one such l"),
    "no UTF-8 in a list": (of("text", "a.json", b'[\n{"text": "\xff"}]'), r"a.json:2: not UTF-8"),
    "no SQuAD": (of("instructions", "a.json", "[]", format="squad"), "not of SQuAD's form"),
    "a header twice": (of("text", "a.csv", "text,text\na,b\n"), "names every column once"),
    "a header that is not text": (of("text", "a.csv", b"\xff\na\n"), r"a.csv:1: not UTF-8"),
    "TMX with entities": (
        of("parallel", "a.tmx", ENTITIES, columns={"source": "en", "target": "ko"}),
        r"a.tmx:2: has a DOCTYPE, and entities are not read",
    ),
    "TMX with a DOCTYPE": (
        of(
            "parallel",
            "a.tmx",
            TMX.replace("<tmx", '<!DOCTYPE tmx SYSTEM "tmx14.dtd"><tmx'),
            columns={"source": "en", "target": "ko"},
        ),
        "delete that declaration",
    ),
    "TMX cut short": (
        of("parallel", "a.tmx", TMX[:-20], columns={"source": "en", "target": "ko"}),
        r"a.tmx:5: not XML",
    ),
    "TMX without languages": (of("parallel", "a.tmx", TMX), r"say which with columns, such as"),
    "plain text": (of("instructions", "a.txt", "a\n"), r"a.txt: plain text has no rows; want one"),
    "a field that is none": (
        of("text", "a.jsonl", GOOD, columns={"txt": "body"}),
        "columns: txt: no field of kind text, which reads text",
    ),
}


@pytest.mark.parametrize("name", USELESS)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path, name):
    make, message = USELESS[name]
    with pytest.raises(text.DataError, match=message):
        read(make(tmp_path))


def test_json_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "WHOLE", 20)
    one = dataset("text", path=[write(tmp_path / "a.json", json.dumps(TWO * 9))])
    with pytest.raises(text.DataError, match="write it as JSON lines"):
        read(one)


# ---------------------------------------------------------------------------- fingerprints
def test_a_fingerprint_follows_the_text_and_not_its_place(tmp_path):
    one = dataset("text", path=[write(tmp_path / "a.txt", "a\n")])
    moved = dataset("text", path=[write(tmp_path / "b.txt", "a\n")])
    other = dataset("text", path=[write(tmp_path / "c.txt", "b\n")])
    marks = [datasets.fingerprints(each) for each in (one, moved, other)]
    assert marks[0] == marks[1] != marks[2]
    assert datasets.contents(one).keys() == {f"{tmp_path}/a.txt"}


def test_the_sample_world_is_read():
    one = dataset("instructions", path=["sample:instruct.kor.jsonl"])
    found = read(one)
    assert len(found) == 480
    assert not any(isinstance(record, Bad) for record in found)
    pairs = read(dataset("parallel", source="sample:dev.eng", target="sample:dev.kor"))
    assert len(pairs) == 300
