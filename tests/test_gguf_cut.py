"""How llama.cpp cuts text, by our reading of its rules: by hand, and on its own test texts."""

import gzip
import json
from pathlib import Path

from conftest import data_file
import gguf_folders as folders
import hand_byte_level
import hand_tokenizer
import pytest

from lrl_jax.hf.gguf import cut, pretokenizers, vocabulary
from lrl_jax.hf.gguf.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, GgufVocabulary
from lrl_jax.vocab.tokenizer import byte_level, patterns, sentencepieces
from lrl_jax.vocab.tokenizer import load as tokenizers

BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def spoken(
    pieces: dict[str, float], own: tuple[str, ...] = (), prefix: bool = True
) -> GgufVocabulary:
    """Ids: 0 <unk>, 1 <s>, 2 </s>, byte b is 3 + b, then pieces in order, then whole ones."""
    return GgufVocabulary(
        model="llama", pre="default",
        pieces=("<unk>", "<s>", "</s>", *BYTES, *pieces, *own),
        types=(UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pieces),
               *[USER_DEFINED] * len(own)),
        scores=(*[0.0] * 259, *pieces.values(), *[0.0] * len(own)),
        merges=(), ids={}, add_bos=True, add_eos=False, add_space_prefix=prefix, template="",
        notes=(),
    )  # fmt: skip


def in_bytes(merges: list[str], pre: str, own: tuple[str, ...] = ()) -> GgufVocabulary:
    """Ids: byte b is b, then what each merge makes, then whole pieces."""
    made = [merge.replace(" ", "") for merge in merges]
    pieces = (*(hand_byte_level.SYMBOL[b] for b in range(256)), *made, *own)
    return GgufVocabulary(
        model="gpt2", pre=pre, pieces=pieces,
        types=(*[NORMAL] * (256 + len(made)), *[CONTROL] * len(own)), scores=(),
        merges=tuple(merges), ids={}, add_bos=False, add_eos=False, add_space_prefix=False,
        template="", notes=(),
    )  # fmt: skip


# ---------------------------------------------------------------------------- SentencePiece
def test_the_best_score_joins_first_and_of_equals_the_leftmost():
    pieces = {"\u2581": -9.0, "a": -9.0, "b": -9.0, "ab": -2.0, "ba": -1.0, "aa": -1.0}
    read = cut.reader(spoken(pieces, prefix=False))
    # "bab": ba is better than ab; "aaa": the left two are joined.
    assert read("bab") == [259 + 4, 259 + 2]
    assert read("aaa") == [259 + 5, 259 + 1]


def test_a_character_without_a_piece_becomes_its_bytes():
    read = cut.reader(spoken({"\u2581": -1.0, "a": -2.0}))
    assert read("a\u00e9") == [259, 260, 3 + 0xC3, 3 + 0xA9]
    assert read("\ud55c") == [259, 3 + 0xED, 3 + 0x95, 3 + 0x9C]


def test_control_tokens_are_text_unless_they_are_asked_for():
    read = cut.reader(spoken({"\u2581": -1.0, "a": -2.0, "\u2581a": -3.0}))
    assert read("<s>a", controls=True) == [1, 261]  # a space is put after a token as well
    plain = read("<s>a")
    assert plain == [259, *(3 + ord(c) for c in "<s>"), 260]


def test_a_piece_that_is_whole_in_text_is_found_first_the_longest_before_others():
    read = cut.reader(spoken({"\u2581": -1.0, "a": -2.0, "\u2581a": -3.0}, own=("<x>", "<x>a")))
    assert read("a<x>a") == [261, 263]
    assert read("a<x> a") == [261, 262, 259, 261]


def test_without_a_space_before_text_there_is_none():
    read = cut.reader(spoken({"\u2581": -1.0, "a": -2.0, "\u2581a": -3.0}, prefix=False))
    assert read("a") == [260]
    assert read(" a") == [261]
    assert read("") == []


# ---------------------------------------------------------------------------- byte-level
def test_merges_join_in_their_order_whatever_stands_left():
    read = cut.reader(in_bytes(["b c", "a b", "a bc"], "gpt-2"))
    assert read("abc") == [258]
    assert read("ab") == [257]
    read = cut.reader(in_bytes(["a b", "b c"], "gpt-2"))
    assert read("abc") == [256, ord("c")]


def test_a_word_that_is_a_piece_stays_whole_where_the_name_says_so():
    merges = ["a b", "c d"]
    whole = in_bytes(merges, "llama-bpe", own=("abcd",))
    assert cut.reader(whole)("abcd") == [258]
    assert cut.reader(in_bytes(merges, "smaug-bpe", own=("abcd",)))("abcd") == [256, 257]


@pytest.mark.parametrize(
    ("pre", "text", "words"),
    [
        ("llama-bpe", "12345", ["123", "45"]),
        ("qwen2", "12345", [*"12345"]),
        ("gpt-2", "a 12345", ["a", " 12345"]),
        ("smollm", "a 12", ["a", " ", "1", "2"]),
        ("llama-bpe", "I'LL don't", ["I", "'LL", " don", "'t"]),
        ("gpt-2", "I'LL don't", ["I", "'", "LL", " don", "'t"]),
        ("llama-bpe", "a  b\n\n c", ["a", " ", " b", "\n\n", " c"]),
        ("gpt-2", "a  b  ", ["a", " ", " b", "  "]),
        ("llama-bpe", "\u0915\u093f\u0924", ["\u0915", "\u093f\u0924"]),  # cut at the mark
        ("qwen35", "\u0915\u093f\u0924", ["\u0915\u093f\u0924"]),
        ("llama-bpe", "x!?\n\ny", ["x", "!?\n\n", "y"]),
    ],
)
def test_text_is_cut_into_words_as_the_name_says(pre, text, words):
    assert cut.words(text, pre) == words


def test_every_name_stands_for_a_rule_and_our_own_pattern_has_one():
    assert {*pretokenizers.NAMES.values()} == {*pretokenizers.RULES}
    for style, name in (("llama3", "llama-bpe"), ("qwen2", "qwen2"), ("gpt2", "gpt-2")):
        tokenizer = hand_byte_level.make(style)
        assert pretokenizers.name_of(byte_level.tree_of(tokenizer)) == name


@pytest.mark.parametrize("style", ["llama3", "tekken", "gpt2"])
def test_marks_kept_with_letters_have_no_name(style):
    tree = patterns.keeping_marks(byte_level.tree_of(hand_byte_level.make(style)))
    with pytest.raises(ValueError, match=r"cut words at every mark and say nothing; run it in"):
        pretokenizers.name_of(tree)


def test_a_pattern_of_ones_own_is_shown_and_has_no_name():
    tree = hand_byte_level.llama3() | {"pre_tokenizer": hand_byte_level.cut_by(r"\p{Han}+|.")}
    with pytest.raises(ValueError, match=r"no pre-tokenizer that cuts by \\p\{Han\}\+\|\. and"):
        pretokenizers.name_of(tree)


# ---------------------------------------------------------------------------- llama.cpp's texts
def vocab_test(name: str) -> tuple[list[str], list[list[int]]]:
    """The texts that llama.cpp is tested on with this vocabulary, and the ids it should give."""
    path = f"{folders.LLAMA_CPP}/models/ggml-vocab-{name}.gguf"
    with Path(f"{path}.inp").open(encoding="utf-8", newline="") as f:
        texts = f.read().split("\n__ggml_vocab_test__\n")
    rows = Path(f"{path}.out").read_text().split("\n")  # the last text is empty, and so its row
    return texts, [[*map(int, row.split())] for row in rows]


@folders.needs_llama_cpp
def test_llama_cpps_own_texts_give_its_ids_with_llama_2(tmp_path):
    tokenizer = tokenizers.load(data_file("tokenizers/llama2"))
    sentencepieces.write(tokenizer, tmp_path)
    read = cut.reader(vocabulary.of(tmp_path, tokenizer.size, tokenizer))
    texts, want = vocab_test("llama-spm")
    assert len(texts) == 47
    assert [read(text) for text in texts] == want


@folders.needs_llama_cpp
def test_llama_cpps_own_texts_give_its_ids_with_llama_3():
    packed = data_file("tokenizers/llama3/tokenizer.json.gz").read_bytes()
    model = json.loads(gzip.decompress(packed))["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    words = in_bytes([], "llama-bpe")
    words = GgufVocabulary(**vars(words) | dict(
        pieces=tuple(pieces), types=(NORMAL,) * len(pieces), merges=tuple(merges)
    ))  # fmt: skip
    read = cut.reader(words)
    texts, want = vocab_test("llama-bpe")
    assert len(texts) == 47
    assert [read(text) for text in texts] == want


def test_hand_made_tokenizers_are_read_as_they_read_themselves(tmp_path):
    for n, tokenizer in enumerate([hand_tokenizer.make(), hand_byte_level.make("llama3")]):
        tokenizers.family(tokenizer).write(tokenizer, tmp_path / str(n))
        read = cut.reader(vocabulary.of(tmp_path / str(n), tokenizer.size, tokenizer))
        for text in ("abc ab b", " a", "a  c", "\u00e9\n\ttab", "", "don't 1234"):
            assert read(text) == tokenizer.encode(text), text
