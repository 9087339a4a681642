"""What may not pass as a tokenizer.json: each bad file is refused, and the message helps."""

from collections.abc import Callable
import gzip
import json
from typing import Any

import hand_byte_level as hand
import pytest

from lrl_jax.vocab.tokenizer import byte_level, inspection, patterns
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.load import from_files, load


def refused(data: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        from_files({"tokenizer.json": data}, "theirs/tokenizer.json")
    assert str(caught.value).startswith("theirs/tokenizer.json: ")


# ---------------------------------------------------------------------------- not one at all
@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is empty"),
        (b"<!doctype html><title>Sign in", "is a web page, such as a login form"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (gzip.compress(b"{}", mtime=0), "compressed with gzip"),
        (b"AA== 0\nAQ== 1\n", "is a tiktoken file"),
        (b"{", "is not the JSON of a tokenizer"),
        (b"\xff\xfe{}", "is not the JSON of a tokenizer"),
        (b"[1]", "holds a JSON list"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"model": {"vocab": {"a": 1, "a": 2}}}', "'a' stands in it twice"),
        (b"{}", "has no model"),
        (b'{"model": {"type": "Unigram"}}', "is a Unigram tokenizer; want byte-level BPE"),
        (b'{"model": {"type": "BPE", "byte_fallback": true}}', "cannot be read .*'vocab'"),
        (b'{"model": {"type": "BPE"}}', "has no vocab or no merges"),
    ],
)
def test_what_is_no_byte_level_tokenizer_is_named(data, match):
    refused(data, match)


def test_a_file_too_large_to_be_one_is_not_parsed(monkeypatch):
    monkeypatch.setattr(inspection, "MAX_BYTES", 99)
    refused(json.dumps(hand.llama3()).encode(), r"\d+ bytes are no tokenizer; want at most 99")


# ---------------------------------------------------------------------------- damaged ones
Change = Callable[[dict[str, Any]], Any]


def vocab(**pieces: Any) -> Change:
    return lambda tree: tree["model"]["vocab"].update(pieces)


def merge(joined: Any) -> Change:
    return lambda tree: tree["model"]["merges"].append(joined)


def setting(**values: Any) -> Change:
    return lambda tree: tree["model"].update(values)


def part(**values: Any) -> Change:
    return lambda tree: tree.update(values)


BAD: list[tuple[Change, str]] = [
    (vocab(x9=-1), "gives 'x9' the id -1; want whole numbers below 4194304"),
    (vocab(x9=4_000_000_000), "gives 'x9' the id 4000000000"),
    (vocab(x9=True), "gives 'x9' the id True"),
    (vocab(x9=1.0), r"gives 'x9' the id 1.0"),
    (vocab(x9="1"), "gives 'x9' the id '1'"),
    (vocab(x9=256), "gives the id 256 to 'ab' and to 'x9'"),
    (vocab(x9=259), "gives the id 259 to 'x9' and to '<.begin_of_text.>'"),
    (vocab(x9=1000), "has ids up to 1000 for 262 pieces"),
    (lambda tree: tree["model"]["vocab"].pop("Ā"), "no piece for 1 of 243 bytes, such as 0x00"),
    (merge(["a"]), r"has the merge \['a'\]"),
    (merge("a b c"), "has the merge 'a b c'"),
    (merge(["a", 7]), r"has the merge \['a', 7\]"),
    (merge({"a": "b"}), "has the merge {'a': 'b'}"),
    (merge(["a", "zz"]), "want two pieces of the vocab"),
    (merge(["a", "c"]), "whose join is one too"),
    (setting(vocab=["a"]), "has no vocab or no merges"),
    (setting(merges=None), "has no vocab or no merges"),
    (setting(dropout=0.1), r"drops merges at random \(dropout 0.1\)"),
    (setting(end_of_word_suffix="</w>"), "marks the inside or the end of words"),
    (part(added_tokens={"a": 1}), "its added_tokens are no list"),
    (part(added_tokens=["a"]), "has 'a' as an added token"),
    (part(added_tokens=[hand.token(259, "")]), "the added token '' twice or empty"),
    (part(added_tokens=[hand.token(259, "x"), hand.token(260, "x")]), "added token 'x' twice"),
    (part(added_tokens=[hand.token(7, "ab")]), "gives 'ab' the ids 256 and 7"),
    (part(added_tokens=[{"content": "x", "special": True}]), "gives 'x' the id -1"),
    (part(added_tokens=[{"content": "x", "id": 259}]), "does not say whether 'x' is special"),
    (part(pre_tokenizer=None), "does not end its pre_tokenizer in ByteLevel"),
    (part(pre_tokenizer={"type": "Metaspace"}), "of a SentencePiece tokenizer take"),
    (part(pre_tokenizer=[1]), r"has \[1\] where a part of a tokenizer should stand"),
    (part(normalizer={"type": ["NFC"]}), "where a part of a tokenizer should stand"),
    (part(pre_tokenizer=hand.in_bytes(add_prefix_space=True)), "a space before every text"),
    (part(decoder={"type": "ByteFallback"}), "has no ByteLevel decoder"),
    (part(post_processor={"type": "None such"}), "the tokenizers library refuses it"),
    (part(normalizer={"type": "None such"}), "an unsafe way"),
]


@pytest.mark.parametrize(("change", "match"), BAD, ids=[match[:40] for _, match in BAD])
def test_what_is_damaged_is_refused_and_said(change, match):
    tree = hand.llama3()
    change(tree)
    refused(json.dumps(tree).encode(), match)


def test_an_added_token_the_library_would_number_anew_is_refused():
    tree = hand.llama3()
    tree["added_tokens"][1]["id"] = 400  # the vocab has 259 pieces, so it would be 260
    refused(json.dumps(tree).encode(), "reads '<.end_of_text.>' as id 260, the file says 400")


def test_a_file_is_read_with_its_config_from_a_folder(tmp_path):
    files = hand.files(hand.llama3(), hand.CONFIGS["llama3"])
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert load(tmp_path) == load(tmp_path / "tokenizer.json") == hand.make("llama3")


# ---------------------------------------------------------------------------- slow patterns
@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(.*)*\d", r"(foo|fo+)*$", "("])
def test_a_pattern_that_does_not_finish_is_refused(pattern):
    tree = hand.llama3() | {"pre_tokenizer": hand.cut_by(pattern)}
    refused(json.dumps(tree).encode(), "an unsafe way: on 5000 characters it fails: .*well known")


def test_a_normaliser_that_blows_text_up_is_refused():
    bomb = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 50_000}
    tree = hand.llama3() | {"normalizer": {"type": "Sequence", "normalizers": [bomb, bomb]}}
    refused(json.dumps(tree).encode(), "an unsafe way")


def test_an_unknown_pattern_that_finishes_is_taken():
    tree = hand.llama3() | {"pre_tokenizer": hand.cut_by(r"\w+|\W")}
    assert from_files(hand.files(tree), "x").encode("ab abc") == [hand.AB, 32, hand.ABC]


def test_well_known_patterns_are_not_tried(monkeypatch):
    monkeypatch.setattr(inspection.subprocess, "run", lambda *_, **__: 1 / 0)
    for tree in hand.TREES.values():
        inspection.inspect(json.dumps(tree()).encode(), "x")
        aware = patterns.keeping_marks(tree())
        inspection.inspect(json.dumps(aware).encode(), "x")


@pytest.mark.parametrize(
    "without",
    [{0xC0}, {0xC1}, {0xF5}, {0xFF}, {0xC0, 0xC1, *range(0xF5, 0x100)}],
    ids=["0xC0", "0xC1", "0xF5", "0xFF", "all thirteen"],
)
def test_bytes_that_no_text_has_need_no_piece(without):
    """GPT-NeoX, Pythia and OLMo have none for them."""
    tree = hand.qwen2()
    names = {hand.SYMBOL[byte] for byte in without}
    tree["model"]["vocab"] = {p: i for p, i in tree["model"]["vocab"].items() if p not in names}
    inspection.inspect(json.dumps(tree).encode(), "x")


# ---------------------------------------------------------------------------- its config
def test_an_end_that_the_json_does_not_call_special_is_special():
    """NuExtract's files: transformers makes it special on loading."""
    tree = hand.qwen2()
    files = hand.files(tree, {"eos_token": "<tool_call>"})
    tokenizer = from_files(files, "x")
    assert tokenizer.eos_id == 260
    assert 260 not in tokenizer.encode("a<tool_call>b")  # in text it is text
    assert tokenizer.decode([97, 260]) == "a"
    assert from_files(tokenizer.files, "x") == tokenizer


@pytest.mark.parametrize("value", [7, "<tool_call>", None, {}])
def test_further_special_tokens_that_are_no_list_name_none(value):
    config = {"eos_token": "<|endoftext|>", "extra_special_tokens": value}
    got = from_files(hand.files(hand.qwen2(), config | {"tokenizer_class": "Qwen2Tokenizer"}), "x")
    assert 260 in got.encode("a<tool_call>b")


CALL, DECODER = "<tool_call>", "added_tokens_decoder"
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
LISTED: dict[str, dict[str, Any]] = {
    **{key: {key: CALL} for key in ("pad_token", "bos_token", "unk_token", "mask_token")},
    "a key of its own": {"image_token": CALL},
    "an object": {"pad_token": {"content": CALL, "__type": "AddedToken", **FLAGS}},
    "a table": {"extra_special_tokens": {"image_token": CALL}},
    "a list": {"additional_special_tokens": [CALL]},
    "a list of another name": {"extra_special_tokens": [CALL]},
    "a list with Qwen's class": {
        "additional_special_tokens": [CALL], "tokenizer_class": "Qwen2Tokenizer",
    },
    "flagged": {DECODER: {"260": {"content": CALL, "special": True, **FLAGS}}},
    "not flagged": {DECODER: {"260": {"content": CALL, "special": False, **FLAGS}}},
    "named and not flagged": {
        "unk_token": CALL, DECODER: {"260": {"content": CALL, "special": False, **FLAGS}},
    },
    "in the map": {"map": {"pad_token": CALL}},
    "in the map, over the config": {"pad_token": "<|endoftext|>", "map": {"pad_token": CALL}},
    "in a list of the map": {"map": {"additional_special_tokens": [CALL]}},
    "in the map, which a decoder keeps from being read": {
        "map": {"unk_token": CALL},
        DECODER: {"260": {"content": CALL, "special": False, **FLAGS}},
    },
}  # fmt: skip


@pytest.mark.parametrize("how", LISTED)
def test_tokens_that_a_config_names_are_special_where_transformers_makes_them_so(how, tmp_path):
    config = {"eos_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    config |= LISTED[how]
    names = {"special_tokens_map.json": json.dumps(config.pop("map", {})).encode()}
    for name, data in (hand.files(hand.qwen2(), config) | names).items():
        (tmp_path / name).write_bytes(data)
    theirs, ours = AutoCodec(tmp_path, only_reads=True), load(tmp_path)
    text, ids = f"a{CALL} b ab{CALL}", [97, 260, 98]
    assert ours.encode(text) == theirs.encode_batch([text])[0]
    assert ours.decode(ids) == theirs.decode_batch([ids])[0]
    assert ours.pad_id == (260 if CALL in str(theirs.names().get("pad_token")) else 259)
    assert ours.bos_id == (260 if how == "bos_token" else 259)
    assert from_files(ours.files, "x") == ours
    byte_level.write(ours, tmp_path / "export")
    export = AutoCodec(tmp_path / "export")
    assert (export.encode_batch([text])[0], export.decode_batch([ids])[0]) == (
        ours.encode(text), ours.decode(ids),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({}, r"has no end-of-text token.*special tokens \(<.begin_of_text.>, <.end_of_text.>\)"),
        ({"eos_token": "</s>", "added_tokens_decoder": 7}, "names '</s>'"),
        ({"eos_token": "<|end_of_text|>", "added_tokens_decoder": 7}, "has 7 as its"),
        ({"eos_token": "ab"}, "names 'ab', which is no special token"),
        ({"eos_token": "<|end_of_text|>", "pad_token": "<pad>"}, "names '<pad>'"),
        (
            {"eos_token": "<|end_of_text|>", "added_tokens_decoder": {"261": {"content": "<x>"}}},
            "lists 1 added tokens that tokenizer.json has not, such as '<x>' with id 261",
        ),
    ],
)
def test_a_config_of_another_tokenizer_is_refused(config, match):
    with pytest.raises(ValueError, match=f"x: .*{match}"):
        from_files(hand.files(hand.llama3(), config), "x")


def test_tokens_of_added_tokens_json_that_the_file_has_not_are_refused():
    files = hand.files(hand.llama3(), {"eos_token": "<|end_of_text|>"})
    added = {"added_tokens.json": json.dumps({"<|im_start|>": 261}).encode()}
    with pytest.raises(ValueError, match=r"x: added_tokens.json lists 1 added .* '<.im_start.>'"):
        from_files(files | added, "x")
    ids = {t["content"]: t["id"] for t in hand.llama3()["added_tokens"]}
    there = {"added_tokens.json": json.dumps(ids).encode()}
    assert from_files(files | there, "x").encode("a") == from_files(files, "x").encode("a")
    config = {"eos_token": "<|end_of_text|>", DECODER: {}}  # beside it transformers reads no list
    assert from_files(hand.files(hand.llama3(), config) | added, "x").size == 261


def test_a_tokenizer_without_special_tokens_says_what_to_put_beside_it():
    refused(json.dumps(hand.llama3() | {"added_tokens": []}).encode(), r"\(it has none\)")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\xef\xbb\xbf<html>", "is a web page, such as"),
        (b"{", "not JSON"),
        (b"[]", "holds no JSON object"),
        (b"[" * 99_999, "nested too deep"),
    ],
)
def test_a_config_that_is_no_config_is_named(data, match):
    files = hand.files(hand.llama3()) | {"tokenizer_config.json": data}
    with pytest.raises(ValueError, match=f"x/tokenizer_config.json: .*{match}"):
        from_files(files, "x")
