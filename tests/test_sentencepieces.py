"""The SentencePiece family: tokens that only tokenizer.json has, words, what they are cut into."""

import json

import pytest
from test_splice import toy

from lrl_jax.vocab.tokenizer import sentencepieces
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.load import from_files, load
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
