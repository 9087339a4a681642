"""The SentencePiece family: tokens that only tokenizer.json has, words, what they are cut into."""

import json

import hand_tokenizer
import pytest
from test_splice import toy
import tokenizers

from lrl_jax.vocab.pieces import prove, splice
from lrl_jax.vocab.tokenizer import long_text, piece_model, sentencepieces
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.load import from_bytes, from_files, load
from lrl_jax.vocab.tokenizer.types import Tokenizer


def with_json(base: Tokenizer, *added: dict, config: dict | None = None) -> dict[str, bytes]:
    """The base's files, and a tokenizer.json to which people have added tokens."""
    form = json.loads(sentencepieces.fast_form(base).to_str())
    form["added_tokens"] += added
    return {
        "tokenizer.model": base.files["tokenizer.model"],
        "tokenizer.json": json.dumps(form).encode(),
        "tokenizer_config.json": json.dumps(config or {}).encode(),
    }


def test_tokens_added_to_the_json_form_become_pieces_of_both_forms(tmp_path):
    base = toy(("ab", 0))
    start = {"id": base.size, "content": "<|im_start|>", "special": True}
    tool = {"id": base.size + 1, "content": "<tool>", "special": False}
    got = from_files(with_json(base, start, tool))
    assert got.size == base.size + 2
    assert got.encode("ab")[-1:] == base.encode("ab")[-1:]
    assert base.size not in got.encode("<|im_start|>")  # text is text
    assert got.encode("a<tool>")[-1] == base.size + 1  # not a control token: part of the text
    sentencepieces.write(got, tmp_path)
    assert load(tmp_path) == got
    assert AutoCodec(tmp_path).encode_batch(["a<tool>b"]) == [got.encode("a<tool>b")]


def test_a_padding_token_of_the_json_form_is_the_padding_id():
    base = toy(("ab", 0))
    pad = {"id": base.size, "content": "<pad>", "special": True}
    got = from_files(with_json(base, pad, config={"pad_token": "<pad>"}))
    assert (got.pad_id, got.eos_id) == (base.size, 2)


@pytest.mark.parametrize(
    "added",
    [
        {"id": 4_000_000_000, "content": "<far>", "special": True},
        {"id": 0, "content": "<other>", "special": True},
    ],
)
def test_a_json_form_of_another_tokenizer_is_refused(added):
    with pytest.raises(ValueError, match=r"is not the tokenizer of tokenizer.model"):
        from_files(with_json(toy(("ab", 0)), added))


def test_a_json_form_that_is_damaged_is_named():
    files = with_json(toy(("ab", 0))) | {"tokenizer.json": b'{"model": 3}'}
    with pytest.raises(ValueError, match=r"folder/tokenizer.json: cannot be read"):
        from_files(files, "folder")


def test_words_keep_the_space_before_them_and_are_counted():
    got = sentencepieces.words(toy(), ["ab ab", "", "ab  c"])
    assert got == {"▁ab": 3, "▁c": 1}


def test_words_are_cut_as_inside_a_sentence_and_unknown_characters_stand_alone():
    base = toy(("▁a", 0), ("bc", -1))
    assert sentencepieces.segments(base, ["▁abc", "bc", "▁d한국"]) == [
        ["▁a", "bc"],
        ["bc"],
        ["▁", "d", "한", "국"],
    ]
    assert sentencepieces.spell(base, ["bc"]) == [[sentencepieces.pieces(base).index("bc")]]


def test_the_surface_of_a_piece_is_text():
    assert sentencepieces.surface("▁한▁") == " 한 ".encode()


# ---------------------------------------------------------------------------- what a base declares
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}


def flagged(i: int, name: str, special: bool = True, **flags: bool) -> dict:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": i, "content": name, **plain, "special": special, **flags}


def only_model(base: Tokenizer, config: dict, **others: object) -> dict[str, bytes]:
    """The files of a base without a tokenizer.json; `others` by name without the ending."""
    trees = {"tokenizer_config": config} | others
    files = {f"{name}.json": json.dumps(tree).encode() for name, tree in trees.items()}
    return {"tokenizer.model": base.files["tokenizer.model"]} | files


def metaspace(base: Tokenizer, *added: dict, config: dict | None = None) -> dict[str, bytes]:
    """The files of a base as transformers 5 saves it: Metaspace instead of a normaliser."""
    files = with_json(base, *added, config=config)
    form = json.loads(files["tokenizer.json"]) | {"normalizer": None, "pre_tokenizer": METASPACE}
    return files | {"tokenizer.json": json.dumps(form).encode()}


def written(tokenizer: Tokenizer, folder) -> AutoCodec:
    sentencepieces.write(tokenizer, folder)
    assert load(folder) == tokenizer
    return AutoCodec(folder)


@pytest.mark.parametrize(
    "others",
    [
        {"added_tokens": {"<|end|>": 266, "<tool>": 267}},
        {"added_tokens": {"<tool>": 267}, "config": {"266": {"content": "<|end|>"}}},
        {"config": {"266": flagged(266, "<|end|>"), "267": flagged(267, "<tool>", False)}},
    ],
    ids=["added_tokens.json", "both", "added_tokens_decoder"],
)
def test_tokens_of_a_base_without_tokenizer_json_are_read(others, tmp_path):
    base, others = hand_tokenizer.make(), dict(others)
    config = {"eos_token": "<|end|>"}
    if "config" in others:
        config["added_tokens_decoder"] = others.pop("config")
    got = from_files(only_model(base, config, **others))
    assert (got.size, got.eos_id, got.control("<tool>")) == (268, 266, 267)
    end = hand_tokenizer.spell("<|end|>")
    assert got.encode("a<|end|>")[1:] == end[1:]  # a special token in text is text
    auto = written(got, tmp_path)
    assert auto.tokenizer.eos_token_id == 266
    assert auto.read(["a<|end|><tool>b"]) == [[1, 263, 266, 267, 264]]
    assert got.encode("a<tool>b") == [263, 267, 264]  # which is whole in any text


@pytest.mark.parametrize(
    ("config", "others", "match"),
    [
        ({}, {"added_tokens": {"<x>": 300}}, r"tokens added \[300\]\) is not the tokenizer of"),
        ({}, {"added_tokens": {"<x>": 5}}, r"tokens added \['<x>'\]\) is not the tokenizer of"),
        ({}, {"added_tokens": {"<x>": "7"}}, "added_tokens.json has .* with id '7'"),
        ({}, {"added_tokens": [1]}, "added_tokens.json: holds no JSON object"),
        ({"added_tokens_decoder": 7}, {}, "has 7 as its added_tokens_decoder"),
        (
            {"added_tokens_decoder": {"266": {"content": "<y>"}}},
            {"added_tokens": {"<x>": 266}},
            "'<x>' with id 266, which is '<y>' elsewhere",
        ),
        ({"eos_token": "<|im_end|>"}, {}, "names '<.im_end.>' as its eos_token, which is no piece"),
    ],
)
def test_tokens_that_do_not_fit_the_model_are_refused(config, others, match):
    with pytest.raises(ValueError, match=f"^x[:/].*{match}"):
        from_files(only_model(hand_tokenizer.make(), config, **others), "x")


@pytest.mark.parametrize(
    ("config", "special_map", "eos"),
    [
        ({"eos_token": "<|end|>"}, {}, 266),
        ({"eos_token": "</s>"}, {"eos_token": {"content": "<|end|>"}}, 266),
        # the map is read only beside a config without the decoder
        ({"eos_token": "</s>", "added_tokens_decoder": {}}, {"eos_token": "<|end|>"}, 2),
    ],
)
def test_the_end_is_the_one_that_transformers_finds(config, special_map, eos, tmp_path):
    base = hand_tokenizer.make(controls=("<|end|>",))
    files = only_model(base, config, special_tokens_map=special_map)
    got = from_files(files)
    assert got.eos_id == eos
    assert written(got, tmp_path).tokenizer.eos_token_id == eos


def test_a_form_that_reads_control_tokens_otherwise_is_kept(tmp_path):
    files = metaspace(
        hand_tokenizer.make(),
        flagged(266, "[I]"),
        flagged(267, "<|u|>", rstrip=True),
        flagged(268, "<|a|>", lstrip=True),
        flagged(269, "ab", special=False, single_word=True),
    )
    reading = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode())
    got, _ = splice.splice(from_files(files), ["cc"])
    want = {
        "[I] a [I]b": [1, 266, 263, 259, 266, 261],
        "<|u|>\n a": [1, 267, 260],
        "a <|a|>b": [1, 263, 268, 261],
        "abc ab": [1, 263, 261, 262, 259, 269],
        " a": [1, 263],
        "a": [1, 263],
        "a</s>b": [1, 263, 2, 261],
        "\u2581b": [1, 264],
    }
    auto = written(got, tmp_path)
    assert dict(zip(want, auto.read([*want]), strict=True)) == want
    assert [reading.encode(text).ids for text in want] == [*want.values()]
    assert got.encode("abc ab") == want["abc ab"][1:]  # no control token: whole in any text
    assert got.encode("bcc") == [264, 270]
    assert prove.prove(tmp_path, from_files(files), ["a b", " c"], ["bcc"]).broken == {}


def test_a_form_that_reads_all_as_the_model_does_is_made_of_the_model(tmp_path):
    base = toy(("ab", 0))
    got = from_files(with_json(base, config={"add_bos_token": True}))
    assert got.fingerprint == base.fingerprint
    assert "tokenizer.json" not in got.files
    tree = json.loads(with_json(base)["tokenizer.json"])
    same_again = {"type": "Replace", "pattern": {"String": "c"}, "content": "c"}
    tree["normalizer"]["normalizers"].append(same_again)
    same = from_files(with_json(base) | {"tokenizer.json": json.dumps(tree).encode()})
    assert "tokenizer.json" not in same.files


@pytest.mark.parametrize(
    ("config", "want"),
    [
        ({"add_bos_token": False}, [263]),
        ({"add_bos_token": True, "add_eos_token": True}, [1, 263, 2]),
        ({"add_bos_token": False, "add_eos_token": True}, [263, 2]),
        ({"add_bos_token": True}, [1, 263]),
        ({}, [1, 263]),
    ],
)
def test_bos_and_eos_are_put_where_the_base_puts_them(config, want, tmp_path):
    got = from_files(only_model(hand_tokenizer.make(), config))
    assert written(got, tmp_path).read(["a"]) == [want]
    assert got.encode("a") == [263]


@pytest.mark.parametrize("key", ["add_bos_token", "add_eos_token"])
@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("save", [with_json, metaspace])
def test_beside_a_tokenizer_json_no_config_says_what_is_put_around_a_text(
    save, key, value, tmp_path
):
    files = save(hand_tokenizer.make(), flagged(266, "[I]"), config={key: value})
    base, export = tmp_path / "base", tmp_path / "export"
    base.mkdir()
    for name, data in files.items():
        (base / name).write_bytes(data)
    want = AutoCodec(base).read(["a"])
    assert want == [[1, 263]]
    assert written(from_files(files), export).read(["a"]) == want


def test_a_form_without_post_processor_puts_no_bos(tmp_path):
    base = hand_tokenizer.make()
    files = with_json(base)
    form = json.loads(files["tokenizer.json"]) | {"post_processor": None}
    got = from_files(files | {"tokenizer.json": json.dumps(form).encode()})
    assert written(got, tmp_path).read(["a"]) == [[263]]


def test_a_map_of_objects_is_written_as_names_that_load(tmp_path):
    base, turn = hand_tokenizer.make(), flagged(266, "<|turn|>")
    listed = {"additional_special_tokens": [{k: v for k, v in turn.items() if k != "id"}]}
    config = {"added_tokens_decoder": {"266": turn}, "pad_token": "<unk>"}
    files = with_json(base, turn, config=config)
    got = from_files(files | {"special_tokens_map.json": json.dumps(listed).encode()})
    auto = written(got, tmp_path)
    assert "<|turn|>" in auto.tokenizer.all_special_tokens
    assert auto.tokenizer.pad_token == "<unk>"


def test_a_map_that_holds_is_written_byte_for_byte(tmp_path):
    said = b'{"eos_token": {"content": "</s>", "lstrip": false},\n "bos_token": "<s>"}'
    got = from_files(only_model(hand_tokenizer.make(), {}) | {"special_tokens_map.json": said})
    sentencepieces.write(got, tmp_path)
    assert (tmp_path / "special_tokens_map.json").read_bytes() == said


def test_truncation_of_a_form_is_kept_and_cuts_no_text_of_ours(tmp_path):
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    files = with_json(hand_tokenizer.make())
    form = json.loads(files["tokenizer.json"]) | {"truncation": cut}
    got = from_files(files | {"tokenizer.json": json.dumps(form).encode()})
    assert got.encode("a a a a") == [263] * 4
    sentencepieces.write(got, tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"] == cut


def test_a_form_that_does_not_finish_is_refused():
    files = with_json(hand_tokenizer.make())
    slow = {
        "type": "Split",
        "pattern": {"Regex": "(a+)+$"},
        "behavior": "Isolated",
        "invert": False,
    }
    form = json.loads(files["tokenizer.json"]) | {"pre_tokenizer": slow}
    with pytest.raises(ValueError, match=r"x/tokenizer.json: cuts or normalises text in an unsafe"):
        from_files(files | {"tokenizer.json": json.dumps(form).encode()}, "x")


def test_control_tokens_that_an_export_reads_otherwise_are_caught(tmp_path):
    base = from_files(metaspace(hand_tokenizer.make(), flagged(266, "<|u|>", rstrip=True)))
    sentencepieces.write(base, tmp_path)
    chats = ["<|u|>  a"]
    assert prove.prove(tmp_path, base, ["a"], ["b"], chats=chats).broken == {}
    form = json.loads((tmp_path / "tokenizer.json").read_text())
    form["added_tokens"][-1]["rstrip"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(form))
    broken = prove.prove(tmp_path, base, ["a"], ["b"], chats=chats).broken
    assert broken["control_ids"].examples[0] == "<|u|> a"
    assert broken["base_pieces"].examples == ("(form)",)


# ---------------------------------------------------------------------------- tokenizer.json alone
def json_alone(files: dict[str, bytes], **model: object) -> dict[str, bytes]:
    form = json.loads(files["tokenizer.json"])
    form["model"] |= model
    rest = {name: data for name, data in files.items() if name != "tokenizer.model"}
    return rest | {"tokenizer.json": json.dumps(form).encode()}


@pytest.mark.parametrize("save", [with_json, metaspace])
def test_a_base_with_only_its_tokenizer_json_is_read_and_extended(save, tmp_path):
    base, config = toy(("ab", 0), ("\u2581ab", -1), ("cc", -2)), {"eos_token": "</s>"}
    files = save(base, flagged(base.size, "[I]"), config=config)
    got = from_files(json_alone(files))
    texts = ["ab cc", "abab ab", "\ud55c\uad6d ab"]
    assert got.encode_batch(texts) == base.encode_batch(texts)
    assert (got.bos_id, got.eos_id, got.control("[I]")) == (1, 2, base.size)
    new, _ = splice.splice(got, ["\u2581abc"])
    auto = written(new, tmp_path)
    assert new.encode("abc")[-1] == base.size + 1
    form = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode())
    assert auto.read(["[I]ab"]) == [form.encode("[I]ab").ids]
    assert prove.prove(tmp_path, got, texts, ["abc ab"]).broken == {}


@pytest.mark.parametrize(
    ("model", "match"),
    [
        ({"vocab": {"<unk>": 0, "a": 7}, "merges": []}, "its ids are not 0 to 1, each once"),
        ({"vocab": {"a": 0}, "merges": []}, "with a piece for what is unknown"),
        ({"vocab": {"<unk>": "0"}, "merges": []}, "its ids are not 0 to 0"),
        ({"vocab": ["a"]}, "cannot be read"),
        ({"merges": [3]}, "cannot be read"),
        ({"dropout": 0.1}, "without dropout"),
    ],
)
def test_a_tokenizer_json_alone_that_is_damaged_is_named(model, match):
    with pytest.raises(ValueError, match=f"x/tokenizer.json: .*{match}"):
        from_files(json_alone(with_json(hand_tokenizer.make()), **model), "x")


def test_a_model_that_joins_spaces_stands_beside_a_form_that_keeps_them(tmp_path):
    proto = piece_model.proto_of(toy(("ab", 0)))
    proto.normalizer_spec.remove_extra_whitespaces = True
    base = from_bytes(proto.SerializeToString())
    got = from_files(metaspace(toy(("ab", 0))) | base.files)
    texts = ("a  b", "a ", "   ", " a")
    assert [got.decode(got.encode(text)) for text in texts] == ["a  b", "a ", "  ", "a"]
    assert [sentencepieces.normal(got)(text) for text in texts] == ["a  b", "a ", "  ", "a"]
    assert got.encode("a  b") == long_text.encode(got, "a  b").tolist() != base.encode("a  b")
    sentencepieces.write(got, tmp_path)
    assert prove.prove(tmp_path, got, ["a  b", "a b"], ["ab "]).ok
