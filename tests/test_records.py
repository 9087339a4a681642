"""What was written is what is read: one table of every format and kind, then every bad input."""

import bz2
from collections.abc import Callable
import dataclasses
import decimal
import gzip
import io
import json
import lzma
from pathlib import Path
import pickle
from typing import Any

import pyarrow
from pyarrow import parquet
import pytest

from lrl_jax import text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.read import files, formats, kinds
from lrl_jax.data.read import tally as tallies
from lrl_jax.data.read.tally import Tally
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


def unit_of(*variants: tuple[str, str]) -> str:
    """Returns a TMX file of a single unit, whose segments are in these languages."""
    said = "".join(f'<tuv xml:lang="{tag}"><seg>{words}</seg></tuv>' for tag, words in variants)
    return f"<tmx><body><tu>{said}</tu></body></tmx>"


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
DOCTYPE = TMX.replace("<tmx", '<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx', 1)


NEVER = 1 << 60  # microseconds: after the year 9999
TIMES = (
    pyarrow.timestamp("ns"), pyarrow.timestamp("us"), pyarrow.timestamp("us", "Mars/Olympus"),
    pyarrow.duration("ns"), pyarrow.time64("ns"), pyarrow.list_(pyarrow.timestamp("ns")),
)  # fmt: skip


def timed(kind: pyarrow.DataType) -> bytes:
    """Returns a file of two conversations, the first of them with a time."""
    number, is_list = pyarrow.int64(), pyarrow.types.is_list(kind)
    first = 1 if kind == pyarrow.time64("ns") else NEVER + 1
    times = [[first] if is_list else first, None]
    created = pyarrow.array(times, pyarrow.list_(number) if is_list else number).cast(kind)
    columns = {"messages": pyarrow.array([MESSAGES] * 2), "created": created, "id": ["a", "b"]}
    out = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


def said(*turns: tuple[str, str]) -> datasets.Record:
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"messages": json.dumps(messages, ensure_ascii=False)}


def weighed(first: str, second: str) -> str:
    """A conversation of two answers, with these fields beside them."""
    turns = ('"user", "content": "q"', f'"assistant", "content": "a", {first}',
             '"user", "content": "r"', f'"assistant", "content": "b", {second}')  # fmt: skip
    return f'{{"messages": [{", ".join(f"""{{"role": {turn}}}""" for turn in turns)}]}}\n'


WEIGHED = {
    "messages": '[{"role": "user", "content": "q"}, '
    '{"role": "assistant", "content": "a", "weight": 0.0}, '
    '{"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]'
}
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
    "text tsv with quoted cells": (
        "text", "a.tsv", 'text\tn\n"She said ""hi""."\t1\n"A\ttab"\t2\n"two\nlines"\t3\nb\t4\n',
        {}, [{"text": 'She said "hi".'}, {"text": "A\ttab"}, {"text": "two\nlines"},
             {"text": "b"}],
    ),
    "text tsv with every cell quoted": (
        "text", "a.tsv", '"n"\t"text"\r\n"1"\t"a"\r\n"2"\t"b"\r\n', {},
        [{"text": "a"}, {"text": "b"}],
    ),
    "text tsv with every cell but the header quoted": (
        "text", "a.tsv", "n\ttext\n" + "".join(f'"{i}"\t"a{i}"\n' for i in range(20)), {},
        [{"text": f"a{i}"} for i in range(20)],
    ),
    "text tsv with a quoted column": (
        "text", "a.tsv", "".join(f'{i}\t"a{i}"\n' for i in range(30)) + '30\t\n31\t""\n',
        {"header": False, "columns": {"text": "1"}},
        [*({"text": f"a{i}"} for i in range(30)),
         *(Bad(f"a.tsv:{i}", "field '1' is empty", "empty") for i in (31, 32))],
    ),
    "text tsv of much dialogue": (
        "text", "a.tsv", "n\ttext\n" + "".join(f'{i}\t"a"\n' for i in range(30)) + "30\tb\n", {},
        [*[{"text": '"a"'}] * 30, {"text": "b"}],
    ),
    "text tsv of a little dialogue": (
        "text", "a.tsv", "n\ttext\n" + "".join(f'{i}\t"a"\n' for i in range(19)), {},
        [{"text": '"a"'}] * 19,
    ),
    "text tsv of dialogue": (
        "text", "a.tsv", 'n\ttext\n1\t"a"\n2\tsay "b"\n', {},
        [{"text": '"a"'}, {"text": 'say "b"'}],
    ),
    "text tsv said to be quoted": (
        "text", "a.tsv", 'n\ttext\n1\t"a"\n', {"format": "tsv_quoted"}, [{"text": "a"}]
    ),
    "text tsv said to be raw": (
        "text", "a.tsv", 'text\tn\n"""a"""\t1\n', {"format": "tsv_raw"}, [{"text": '"""a"""'}]
    ),
    "text csv of lines that end in CR": (
        "text", "a.csv", 'text,n\r"a\rb",1\rc,2\r', {}, [{"text": "a\nb"}, {"text": "c"}]
    ),
    "text csv in UTF-16": ("text", "a.csv", "text\n가\n나 \n".encode("utf-16"), {}, TWO),
    "text csv joined of two": (
        "text", "a.csv", "\ufefftext,n\n가,1\n\ufeff나 ,2\n", {}, TWO
    ),
    "text ndjson": ("text", "a.ndjson", lines(*TWO), {}, TWO),
    "text JSONL": ("text", "a.JSONL", lines(*TWO), {}, TWO),
    "text jl gz": ("text", "a.jl.GZ", gzip.compress(lines(*TWO).encode()), {}, TWO),
    "text jsonl joined of two": (
        "text", "a.jsonl", f"{lines(TWO[0])}\ufeff{lines(TWO[1])}", {}, TWO
    ),
    "text that is JSON by its recipe": (
        "text", "a.txt", '{"a": 1}\n', {"format": "text"}, [{"text": '{"a": 1}'}]
    ),
    "text that is a web page by its recipe": (
        "text", "a.txt", "<!doctype html>\n", {"format": "text"}, [{"text": "<!doctype html>"}]
    ),
    "text that was a table": (
        "text", "a.csv.txt", "one, two\nthree\n", {}, [{"text": "one, two"}, {"text": "three"}]
    ),
    "text with brackets and tags inside": (
        "text", "a.txt", "[1] <html>\nBZh\n", {}, [{"text": "[1] <html>"}, {"text": "BZh"}]
    ),
    "text of dialogue": (
        "text", "a.txt", '"Yes."\n"No."\n', {}, [{"text": '"Yes."'}, {"text": '"No."'}]
    ),
    "text with a line of JSON": (
        "text", "a.txt", '{"a": 1}\n["a"]\nc\nd\n', {},
        [{"text": text} for text in ('{"a": 1}', '["a"]', "c", "d")],
    ),
    "text of notes with numbers": (
        "text", "a.txt", "[1]\n[2]\n[Verse]\n", {},
        [{"text": text} for text in ("[1]", "[2]", "[Verse]")],
    ),
    "text that begins with braces": (
        "text", "a.txt", '{ a, b }\n{"c" or d}\n', {},
        [{"text": "{ a, b }"}, {"text": '{"c" or d}'}],
    ),
    "text with tags": (
        "text", "a.txt", '<doc id="1">\na <b>c</b>\n</doc>\n', {},
        [{"text": text} for text in ('<doc id="1">', "a <b>c</b>", "</doc>")],
    ),
    "text that speaks of WARC": (
        "text", "a.txt", "WARC is a format.\n", {}, [{"text": "WARC is a format."}]
    ),
    "text that is XML by its recipe": (
        "text", "a.xml", "<a>\n", {"format": "text"}, [{"text": "<a>"}]
    ),
    "text json in UTF-16": ("text", "a.json", json.dumps(TWO).encode("utf-16"), {}, TWO),
    "text numbers in JSON": (
        "text", "a.jsonl", '{"text": 42}\n{"text": 3.10}\n{"text": -1e5}\n', {},
        [{"text": "42"}, {"text": "3.10"}, {"text": "-1e5"}],
    ),
    "text numbers in a list": ("text", "a.json", '[{"text": 1.50}]', {}, [{"text": "1.50"}]),
    "text numbers in parquet": (
        "text", "a.parquet", table({"text": 42}, {"text": 7}), {}, [{"text": "42"}, {"text": "7"}]
    ),
    "text decimals in parquet": (
        "text", "a.parquet", table({"text": decimal.Decimal("3.10")}), {}, [{"text": "3.10"}]
    ),
    "completion without a prompt": (
        "completion", "a.jsonl", '{"prompt": null, "completion": "b"}\n', {},
        [{"prompt": "", "completion": "b"}],
    ),
    "instructions with NaN for none": (
        "instructions", "a.jsonl", '{"instruction": "d", "input": NaN, "output": "e"}\n', {},
        ALPACA_READ[1:],
    ),
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
    "pairs tmx with the standard's DOCTYPE": (
        "parallel", "a.tmx", DOCTYPE, {"columns": {"source": "en", "target": "ko"}},
        [pair("Good morning &", "안녕"), pair("Two", "둘")],
    ),
    "pairs tmx with a DOCTYPE that declares elements": (
        "parallel", "a.tmx", TMX.replace("<tmx", "<!DOCTYPE tmx [<!ELEMENT seg ANY>]><tmx"),
        {"columns": {"source": "en", "target": "ko"}},
        [pair("Good morning &", "안녕"), pair("Two", "둘")],
    ),
    "pairs tmx of a namespace": (
        "parallel", "a.tmx",
        '<x:tmx xmlns:x="http://www.lisa.org/tmx14"><x:body><x:tu><x:tuv xml:lang="en">'
        '<x:seg>a</x:seg></x:tuv><x:tuv xml:lang="ko"><x:seg>가</x:seg></x:tuv></x:tu></x:body>'
        "</x:tmx>", {"columns": {"source": "en", "target": "ko"}}, [pair("a", "가")],
    ),
    "pairs tmx of a language and a variant of it": (
        "parallel", "a.tmx", unit_of(("en-US", "color"), ("en-GB", "colour"), ("en", "hue")),
        {"columns": {"source": "en_GB", "target": "en"}}, [pair("colour", "hue")],
    ),
    "pairs tmx in UTF-16": (
        "parallel", "a.tmx", TMX.replace("UTF-8", "UTF-16").encode("utf-16"),
        {"columns": {"source": "en", "target": "ko"}},
        [pair("Good morning &", "안녕"), pair("Two", "둘")],
    ),
    "pairs tmx gz": (
        "parallel", "a.tmx.gz", gzip.compress(TMX.encode()),
        {"columns": {"source": "de", "target": "ko"}},
        [pair("x", "안녕"), Bad("a.tmx.gz: row 2", "has no field 'de'; it has en, ko")],
    ),
    "instructions json": ("instructions", "a.json", json.dumps(ALPACA), {}, ALPACA_READ),
    "instructions json that is one row over several lines": (
        "instructions", "a.json", json.dumps({**ALPACA[0], "meta": [ALPACA[1]]}, indent=1), {},
        ALPACA_READ[:1],
    ),
    "chat json that is one conversation over several lines": (
        "chat", "a.json", json.dumps({"messages": MESSAGES}, indent=1), {},
        [conversation("가", "나")],
    ),
    "chat json under the name of a column": (
        "chat", "a.json",
        json.dumps({"conversations": [{"conversations": SHAREGPT}] * 2}, indent=1), {},
        [conversation("가", "나")] * 2,
    ),
    "chat json under the name of a column in one line": (
        "chat", "a.json", json.dumps({"conversations": [{"conversations": SHAREGPT}] * 2}), {},
        [conversation("가", "나")] * 2,
    ),
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
    "chat with empty system turns": (
        "chat", "a.jsonl",
        lines(
            {"conversations": [{"from": "system", "value": ""}, *SHAREGPT]},
            {"messages": [{"role": "system", "content": None}, *MESSAGES]},
            {"messages": [{"role": "system", "content": [PARTS[0]["content"][0] | {"text": " "}]},
                          *MESSAGES]},
        ),
        {}, [conversation("가", "나")] * 3,
    ),
    "chat with a system beside it": (
        "chat", "a.jsonl",
        lines(
            {"conversations": SHAREGPT, "system": "s"},
            {"conversations": SHAREGPT, "system": " "},
            {"conversations": [{"from": "system", "value": "t"}, *SHAREGPT], "system": "s"},
        ),
        {},
        [said(("system", "s"), ("user", "가"), ("assistant", "나")), conversation("가", "나"),
         said(("system", "t"), ("user", "가"), ("assistant", "나"))],
    ),
    "chat with a system in parts beside it": (
        "chat", "a.jsonl",
        lines({"messages": MESSAGES, "system": [{"type": "text", "text": "s"}] * 2},
              {"messages": MESSAGES, "system": [{"type": "text", "text": " "}]},
              {"messages": MESSAGES, "system": []}),
        {},
        [said(("system", "ss"), ("user", "가"), ("assistant", "나")),
         *[conversation("가", "나")] * 2],
    ),
    "chat with parts of value": (
        "chat", "a.jsonl",
        lines({"messages": [{"role": "user", "content": [{"type": "text", "value": "가"}]},
                            {"role": "assistant",
                             "content": [{"type": "output_text", "text": "나"}]}]}),
        {}, [conversation("가", "나")],
    ),
    "chat of numbers": (
        "chat", "a.jsonl", '{"messages": [{"role": "user", "content": 1}, '
        '{"role": "assistant", "content": 2.50}]}\n', {}, [conversation("1", "2.50")],
    ),
    "chat with weights": (
        "chat", "a.jsonl",
        "".join(weighed(*pair) for pair in [
            ('"weight": 0', '"weight": 1'), ('"train": false', '"train": true'),
            ('"loss_weight": 0.0', '"loss_weight": 1.0'), ('"loss": false', '"loss": null'),
        ]) + weighed('"weight": 0.5', '"weight": null')
        + weighed('"train": true, "loss_weight": 0.5', '"weight": 1, "train": true, "loss": 1.0')
        + weighed('"weight": 0, "train": false', '"train": true'),
        {},
        [*[WEIGHED] * 4, *[{"messages": WEIGHED["messages"].replace("0.0", "0.5")}] * 2, WEIGHED],
    ),
    "chat where nulls fill the columns": (
        "chat", "a.parquet",
        table(
            {"messages": MESSAGES, "conversations": None},
            {"messages": None, "conversations": SHAREGPT},
        ),
        {}, [conversation("가", "나")] * 2,
    ),
    "chat where nulls fill the turns": (
        "chat", "a.parquet",
        table({"messages": [{"role": None, "content": None, **turn} for turn in SHAREGPT]}),
        {}, [conversation("가", "나")],
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
    "turn 2 calls a tool": [MESSAGES[0], {**MESSAGES[1], "tool_calls": [{"name": "f"}]}],
    "turn 1: an item of type text has no text": [
        {"role": "user", "content": [{"type": "text", "body": "x"}]},
        MESSAGES[1],
    ],
    "turn 1: want role and content, or from and value": [{"text": "x"}],
    "want a list of turns": {"role": "user"},
    "not JSON": "[{",
}
NO_SYSTEM = [{"role": "system", "content": "s"}, ["s"], True]
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
    "a cell that is torn": (
        "text", "a.csv", 'text,n\na,1\n"b,2\nc,3\n"d",4\na,5\n', {},
        [bad("a.csv:3", "not CSV"), bad("a.csv:4", "is part of the record of line 3"),
         bad("a.csv:5", "is part of the record of line 3")],
    ),
    "a cell of .tsv that is torn": (
        "text", "a.tsv", 'text\tn\na\t1\n"b\t2\n', {"format": "tsv_quoted"},
        [bad("a.tsv:3", "not CSV (unexpected end of data)")],
    ),
    "a number of Parquet with a point": (
        "text", "a.parquet", table({"text": 42.0}), {},
        [bad("a.parquet: row 1", "42 may be stored as 42.0: write numbers as they are")],
    ),
    "a value that is true": ("text", "a.jsonl", '{"text": true}\n' + GOOD, {},
                             [bad("a.jsonl:1", "must be a string; got 'True'")]),
    "NaN": ("text", "a.jsonl", '{"text": NaN}\n' + GOOD, {},
            [bad("a.jsonl:1", "field 'text' is null", "empty")]),
    "no answer that is learnt": (
        "chat", "a.jsonl", weighed('"train": false', '"train": false'), {},
        [bad("a.jsonl:1", "no answer is learnt", "nothing to learn")],
    ),
    "no last answer that is learnt": (
        "chat", "a.jsonl", weighed('"weight": 1', '"weight": 0'), {"learn": "last_answer"},
        [bad("a.jsonl:1", "no answer is learnt", "nothing to learn")],
    ),
    "a weight that is none": (
        "chat", "a.jsonl", weighed('"weight": "no"', '"weight": -1'), {},
        [bad("a.jsonl:1", "turn 2: weight is 'no'; want true, false, or a number from 0")],
    ),
    "weights that contradict each other": (
        "chat", "a.jsonl",
        weighed('"weight": 1, "train": false', '"loss": true')
        + weighed('"weight": 0, "train": true', '"loss": true')
        + weighed('"weight": 0.5, "loss_weight": 0.2', '"loss": true'),
        {},
        [bad("a.jsonl:1", "turn 2: weight is 1 and train is False, which contradict each other"),
         bad("a.jsonl:2", "turn 2: weight is 0 and train is True, which contradict"),
         bad("a.jsonl:3", "turn 2: weight is '0.5' and loss_weight is '0.2', which contradict")],
    ),
    "no conversation but null": (
        "chat", "a.jsonl", '{"messages": null}\n', {},
        [bad("a.jsonl:1", "field 'messages' or 'conversations' is null", "empty")],
    ),
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
    "a time of Parquet": (
        "completion", "a.parquet", timed(TIMES[0]),
        {"columns": {"prompt": "id", "completion": "created"}},
        [bad("a.parquet: row 1", "field 'created' must be a string; got "),  # with pandas a time
         bad("a.parquet: row 2", "field 'created' is null", "empty")],
    ),
    **{
        f"a unit of TMX in two scripts, {tags[0]} first": (
            "parallel", "a.tmx", unit_of(*((tag, "x") for tag in tags), ("en", "x")),
            {"columns": {"source": "zh", "target": "en"}},
            [bad("a.tmx: row 1", f"{tags[0]} and {tags[1]}, which are written in several scripts")],
        )
        for tags in [("zh-Hant", "zh-Hans"), ("zh-Hans", "zh-Hant"), ("zh_CN", "zh-TW")]
    },
    "a system beside the turns that is no text": (
        "chat", "a.jsonl", lines(*({"messages": MESSAGES, "system": s} for s in NO_SYSTEM)), {},
        [bad(f"a.jsonl:{line}", "field 'system' beside the turns is no text", "not a conversation")
         for line in (1, 2, 3)],
    ),
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
    assert kind != "text" or len(got) > len(found) or "place" in name or "point" in name


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
    rows = lines(*({"text": f"{i}"} for i in range(40))).replace('"30"', "[30]")
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


def aligned(name: str, content: str | bytes, **words: Any) -> Break:
    """Two files that say the same: one of this name, which stands second, and one of text."""

    def make(folder: Path) -> Any:
        other = write(folder / "other", "a\nb\n")
        return dataset("parallel", source=other, target=write(folder / name, content), **words)

    return make


DROP = {"bad": "drop"}
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
        r"a.tmx:2: has the entity 'a', and entities are not read",
    ),
    "TMX with an entity of its DTD": (
        of(
            "parallel",
            "a.tmx",
            DOCTYPE.replace("Two", "&two;"),
            columns={"source": "en", "target": "ko"},
        ),
        r"a.tmx:6: has the entity 'two', and entities are not read",
    ),
    "TMX with a parameter entity": (
        of(
            "parallel",
            "a.tmx",
            TMX.replace("<tmx", '<!DOCTYPE t [<!ENTITY % p SYSTEM "/etc/passwd"> %p;]><tmx'),
            columns={"source": "en", "target": "ko"},
        ),
        r"a.tmx:2: has the entity 'p'",
    ),
    "TMX cut short": (
        of("parallel", "a.tmx", TMX[:-20], columns={"source": "en", "target": "ko"}),
        r"a.tmx:5: not XML",
    ),
    **{
        f"TMX in {code}": (
            of(
                "parallel",
                "a.tmx",
                TMX.replace("UTF-8", code),
                columns={"source": "en", "target": "ko"},
            ),
            rf"a.tmx:1: its encoding cannot be read \({why}.*\); write it as UTF-8",
        )
        for code, why in [("foo", "unknown encoding: foo"), ("euc-kr", "multi-byte encodings")]
    },
    "TMX without languages": (of("parallel", "a.tmx", TMX), r"say which with columns, such as"),
    "plain text": (of("instructions", "a.txt", "a\n"), r"a.txt: plain text has no rows; want one"),
    "a quote that takes in rows": (
        of("text", "a.csv", "text,n\n" + "a,1\n" * 5 + '"b,2\n' + "a,1\n" * 994, filters=DROP),
        r"a.csv:7: a quote that opens in this record takes in 995 lines, to line 1001, and ends in "
        "no cell",
    ),
    "a quote that takes in rows up to another quote": (
        of("text", "a.csv", 'text,n\n"b,2\n' + "a,1\n" * 20 + '"c",1\n', filters=DROP),
        r"a.csv:2: a quote that opens in this record takes in 22 lines, to line 23",
    ),
    "a quote that takes in rows and ends": (
        of("text", "a.csv", 'n,text\n2,"b\n' + "1,a\n" * 200 + '3,c"\n4,d\n', filters=DROP),
        r"a.csv:2: a quote .* takes in 202 lines, to line 203, each of which looks like a row",
    ),
    "a quote of .tsv that takes in rows": (
        of("text", "a.tsv", 'text\tn\n"b\t2\n' + "a\t1\n" * 20, filters=DROP, format="tsv_quoted"),
        r"a.tsv:2: a quote that opens in this record takes in 21 lines",
    ),
    "TSV that is quoted here and there": (
        of("text", "a.tsv", 'n\ttext\n1\t"a ""b"""\n2\tc "d"\n', filters=DROP),
        r"a.tsv: cells are quoted in line 2 and 0 others, and quote marks stand by themselves in "
        r"line 3 and 0 others; .* say `format: tsv_quoted` or `format: tsv_raw`",
    ),
    "JSON lines by no name": (
        of("text", "part-00000", lines(*TWO)),
        r"part-00000:1: looks like JSON lines .* say `format",
    ),
    "JSON lines named .txt": (of("text", "a.jsonl.txt", lines(*TWO)), "looks like JSON lines"),
    "a list of JSON named .txt": (
        of("text", "a.json.txt", json.dumps(TWO, indent=1)),
        "looks like JSON and .*`format: json`",
    ),
    "Parquet by another name": (
        of("text", "a.parq", table(*TWO), filters=DROP),
        "like Parquet and .* `format: parquet`",
    ),
    "a table named .txt": (
        of("text", "a.csv.txt", 'text,n\n"a, b",1\nc,2\n'),
        "like a table and .* `format: csv`",
    ),
    "a table of tabs named .txt": (of("text", "a.tsv.txt", "text\tn\na\t1\n"), "`format: tsv`"),
    "JSON lines of which one is broken": (
        of("text", "a.txt", lines(*TWO) + "{broken\n"),
        "looks like JSON lines",
    ),
    "JSON over several lines": (
        of("text", "a.txt", json.dumps({"text": "a", "n": [1]}, indent=1)),
        "looks like JSON and .*`format: json`",
    ),
    "JSON over more lines than are looked at": (
        of("text", "a", json.dumps({"rows": ["a" * 99] * 999}, indent=1)),
        "looks like JSON and",
    ),
    "JSON whose first text is longer than what is looked at": (
        of("text", "a", '{\n"text": "' + "a" * (1 << 17) + '"\n}'),
        "looks like JSON and",
    ),
    "objects over several lines": (
        of("text", "a.txt", json.dumps({"text": "a"}, indent=1) * 9),
        "looks like JSON and is read as plain text, as it stands; write its texts alone to a .txt",
    ),
    "a list of lists": (of("text", "a.txt", '[\n["a", 1],\n["b", 2]\n]\n'), "looks like JSON and"),
    "lists of JSON": (of("text", "a.txt", '["a", "b"]\n["c"]\n'), "looks like JSON and .*alone"),
    "more lists of JSON than text": (
        of("text", "a.txt", '["a", "b"]\nc\n["c"]\n'),
        "looks like lists of JSON and .*alone",
    ),
    "strings of JSON": (of("text", "a.txt", '"a"\n"b\\n"\n'), "looks like strings of JSON"),
    "JSON in UTF-16": (
        of("text", "a.txt", json.dumps({"text": "a"}, indent=1).encode("utf-16")),
        "like JSON and",
    ),
    "a dump of Wikipedia": (
        of("text", "sw.txt", '<mediawiki xmlns="x" xml:lang="sw">\n  <page>\n'),
        "looks like XML and .*; write its texts alone to a .txt file, or say `format: text`",
    ),
    "XML": (of("text", "a.txt", '<?xml version="1.0"?>\n<doc>a</doc>\n'), "looks like XML and"),
    "XML by its name": (of("text", "a.xml.gz", gzip.compress(b"<a>\n")), "looks like XML and"),
    "TMX by another name": (of("text", "a.xml", DOCTYPE), "looks like TMX and .*`format: tmx`"),
    "a web page that is XML": (
        of("text", "a.txt", '<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">\n<html>\n'),
        "like a web page, such as a login form .*; fetch the file while logged in",
    ),
    "what a store says without the file": (
        of("text", "a.txt", '<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>'),
        "like a web page",
    ),
    "a web archive": (of("text", "a.wet", "WARC/1.0\r\nWARC-Type: x\r\n"), "like a web archive"),
    **{
        f"aligned with {what}": (aligned(name, content, **words), message)
        for what, name, content, words, message in [
            ("JSON lines", "a.jsonl", lines(*TWO), {}, "a.jsonl: is jsonl by its name, and is re"),
            ("a table", "a.csv.gz", gzip.compress(b"a,b\n"), {}, "csv by its name.*`format: text`"),
            ("a table by its recipe", "a.en", "a\tb\n", {"format": "tsv"}, "tsv by its recipe"),
            ("JSON by no name", "a.en", lines(*TWO), {}, "a.en:1: looks like JSON lines and is re"),
            ("a web page", "a.en", "<!doctype html>\n", {}, "web page.*; fetch the .*`format: tex"),
        ]
    },
    "a web page": (of("text", "a.txt", "<!DOCTYPE html>\n<html>\n"), "like a web page, such as a"),
    **{
        f"packed by {way} without its suffix": (
            of("text", "a.txt", made, filters=DROP),
            f"a.txt: is .*{way}; let its name end in",
        )
        for way, made in {
            "gzip": gzip.compress(b"a\n"),
            "bzip2": bz2.compress(b"a\n"),
            "xz": lzma.compress(b"a"),
            "zstd": pyarrow.compress(b"a", "zstd", asbytes=True),
        }.items()
    },
    "a spreadsheet": (of("text", "a.csv", b"PK\3\4\x14\0", filters=DROP), "an Office document"),
    "a PDF": (of("text", "a.txt", "%PDF-1.7\n", filters=DROP), "a.txt: is a PDF"),
    "columns of a file of any name": (
        of("text", "dev.kor", "a\tb\n", columns={"text": "0"}),
        "dev.kor: is read as plain text, which has no columns, and the recipe gives columns: text",
    ),
    "columns of text": (
        of("text", "a.txt", "a\n", columns={"text": "body"}),
        "plain text, which has no columns",
    ),
    "columns of text by its recipe": (
        of("text", "a.jsonl", GOOD, columns={"text": "body"}, format="text"),
        "and no columns",
    ),
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


def test_aligned_files_may_be_read_as_they_stand(tmp_path):
    path = write(tmp_path / "a.tsv", "a\tb\n")
    got = read(dataset("parallel", source=path, target=path, format="text"))
    assert got == [pair("a\tb", "a\tb")]


def test_text_and_rows_may_stand_side_by_side(tmp_path):
    paths = [write(tmp_path / "a.txt", "a\n"), write(tmp_path / "b.jsonl", '{"body": "b"}\n')]
    got = read(dataset("text", path=paths, columns={"text": "body"}))
    assert got == [{"text": "a"}, {"text": "b"}]


def test_a_cell_of_many_lines_is_a_cell(tmp_path):
    prose = "\n".join(f"line {i}, and so on, and on" for i in range(300))
    path = write(tmp_path / "a.csv", f'n,text\n1,"{prose}"\n2,b\n')
    assert read(dataset("text", path=[path])) == [{"text": prose}, {"text": "b"}]


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


def test_what_older_versions_read_otherwise_has_another_fingerprint(tmp_path):
    quoted = 'n\ttext\n1\t"a ""b"""\n'
    for name, content, other in [
        ("a.tsv", quoted, ":tsv_quoted:0:-1"),
        ("b.tsv", "n\ttext\n1\ta\n", ":0:-1"),
        ("a.ndjson", GOOD, ":jsonl:0:-1"),
        ("a.JSONL", GOOD, ":jsonl:0:-1"),
        ("a.jsonl", GOOD, ":0:-1"),
        ("dev.kor", "a\n", ":0:-1"),
    ]:
        path = write(tmp_path / name, content)
        [[mark]] = datasets.fingerprints(dataset("text", path=[path]))
        assert mark == text.fingerprint(path) + other
    one = dataset("instructions", path=[write(tmp_path / "b.ndjson", lines(*ALPACA))])
    assert datasets.fingerprints(one)[0][0].count(":") == 2  # they were rows already
    assert len(read(one)) == 2


def test_quoted_tsv_is_never_cut_and_utf_16_neither(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "SHARD_BYTES", 8)
    quoted = 'n\ttext\n1\t"a ""b"""\n2\t"c\nd"\n'
    for name, content in [("a.tsv", quoted), ("a.txt", "a\nb\nc\nd\ne\n".encode("utf-16"))]:
        one = dataset("text", path=[write(tmp_path / name, content)])
        assert len(datasets.shards(one)) == 1
    assert datasets.quoted_files(dataset("text", path=[str(tmp_path / "a.tsv")])) == [
        str(tmp_path / "a.tsv")
    ]


# ---------------------------------------------------------------------------- fields not read
def tallied(one: Any) -> Tally:
    tally = Tally()
    for shard in datasets.shards(one):
        for _ in datasets.read(one, shard, tally):
            pass
    return tally


UNREAD: dict[str, tuple[str, str, str | bytes, dict, dict]] = {
    "fields beside the text": (
        "text", "a.jsonl", lines({"text": "a", "id": 0, "url": ""}, {"text": "b", "id": 1}), {},
        {"id": 2},
    ),
    "columns of a table": ("text", "a.csv", "n,text\n1,a\n,b\n", {}, {"n": 1}),
    "columns without names": (
        "text", "a.tsv", "1\ta\n", {"header": False, "columns": {"text": "1"}}, {"0": 1}
    ),
    "columns of Parquet that are left out": (
        "text", "a.parquet", table(*({"text": t, "id": i} for i, t in enumerate("abc"))), {},
        {"id": 3},
    ),
    **{
        f"a column of Parquet that is {kind} and that nobody reads": (
            "chat", "a.parquet", timed(kind), {}, {"created": 1, "id": 2}
        )
        for kind in TIMES
    },
    "nested": (
        "text", "a.jsonl", lines({"a": {"b": "x"}, "c": 1}), {"columns": {"text": "a.b"}}, {"c": 1}
    ),
    "languages of TMX": ("parallel", "a.tmx", TMX, {"columns": {"source": "en", "target": "ko"}},
                         {"de": 1}),
    "variants of a language of TMX": (
        "parallel", "a.tmx", unit_of(("en-US", "color"), ("en-GB", "colour"), ("ko", "색")),
        {"columns": {"source": "en", "target": "ko"}}, {"another en (en-GB)": 1},
    ),
    "SQuAD": ("instructions", "a.json", squad(("c", "q?", ["one"])), {"format": "squad"}, {}),
    "Alpaca with a history": (
        "instructions", "a.jsonl", lines({**ALPACA[0], "system": "s", "history": [["q", "a"]]},
                                         {**ALPACA[0], "system": "", "history": []}), {},
        {"system": 1, "history": 1},
    ),
    "a conversation": (
        "chat", "a.jsonl",
        lines(
            {"messages": [{**MESSAGES[0], "weight": 1, "name": ""},
                          {**MESSAGES[1], "reasoning_content": "r", "weight": 0.5}], "tools": "[]"},
            {"messages": [{**MESSAGES[0], "weight": 0.0},
                          {**MESSAGES[1], "reasoning_content": "r", "tool_calls": []}],
             "system": "s", "id": 7},
        ), {},
        {"tools": 1, "weight of a turn that is no answer": 1, "reasoning_content of a turn": 2,
         "id": 1},
    ),
    "a conversation with two systems": (
        "chat", "a.jsonl",
        lines({"messages": [{"role": "system", "content": "t"}, *MESSAGES], "system": "s"}), {},
        {"system": 1},
    ),
    "ShareGPT": ("chat", "a.jsonl", lines({"conversations": SHAREGPT, "id": "x"}), {}, {"id": 1}),
    "LIMA": ("chat", "a.jsonl", lines({"conversations": ["a", "b"], "source": "x"}), {},
             {"source": 1}),
    "two conversations": (
        "chat", "a.jsonl", lines({"messages": MESSAGES, "conversations": SHAREGPT}), {},
        {"conversations": 1},
    ),
    "parts": (
        "chat", "a.jsonl",
        lines({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}, MESSAGES[1]]}),
        {}, {"cache_control of a part of a turn": 1},
    ),
    "parts of a system beside the turns": (
        "chat", "a.jsonl",
        lines({"messages": MESSAGES, "system": [{"type": "text", "text": "s", "cited": ["c"]}]}),
        {}, {"cited of a part of a turn": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_fields_that_are_not_read_are_counted_by_rows(tmp_path, name):
    kind, file, content, words, want = UNREAD[name]
    got = tallied(dataset(kind, path=[write(tmp_path / file, content)], **words))
    assert dict(got.unread) == want
    assert got.rows > 0


def test_a_column_that_no_row_has_is_refused_and_an_input_that_none_has_is_said(tmp_path):
    rows = [{"instruction": "a", "context": "b", "response": "c"}] * 3
    path = write(tmp_path / "a.jsonl", lines(*rows))
    columns = {"output": "response", "input": "contxt"}
    wrong = dataset("instructions", path=[path], columns=columns)
    message = (
        r"dataset 'd': columns: \{input: contxt\}: no row of 3 has the column 'contxt'; "
        "columns that nothing reads: context"
    )
    with pytest.raises(text.DataError, match=message):
        tallies.refuse_absent(wrong, "d", tallied(wrong))
    none = dataset("instructions", path=[path], columns={"output": "response"})
    tallies.refuse_absent(none, "d", tallied(none))
    assert [*tallies.remarks(tallied(none))] == [
        "no row has input, which is read as empty; if a field that is not read holds it, say so "
        "with columns: {input: NAME_OF_THE_FIELD}",
        "fields not read: context in 3 (of 3 rows)",
    ]
    some = write(tmp_path / "b.jsonl", lines({"instruction": "a", "contxt": "b", "response": "c"}))
    right = wrong.model_copy(update={"path": (path, some)})
    tallies.refuse_absent(right, "d", tallied(right))  # some row has it


def test_the_sample_world_is_read():
    one = dataset("instructions", path=["sample:instruct.kor.jsonl"])
    found = read(one)
    assert len(found) == 480
    assert not any(isinstance(record, Bad) for record in found)
    assert len(read(dataset("text", path=["sample:dev.kor"]))) == 300
    pairs = read(dataset("parallel", source="sample:dev.eng", target="sample:dev.kor"))
    assert len(pairs) == 300
