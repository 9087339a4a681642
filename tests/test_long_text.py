"""Long texts: cut where nothing reaches over, so that their ids are those of the whole."""

import dataclasses
import random

import byte_tokenizer
from hand_tokenizer import make
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from sentencepiece import sentencepiece_model_pb2 as spm
from test_sentencepieces import flagged, metaspace

from lrl_jax.data.templates import documents
from lrl_jax.data.templates.parts import TextPart
from lrl_jax.vocab.tokenizer import long_text
from lrl_jax.vocab.tokenizer.load import from_bytes, from_files
from lrl_jax.vocab.tokenizer.types import Tokenizer

LINES = ["the cat's 12 mats, \n", "한국어 문장입니다. 다음!", "  aa\tbb  \n\n c"] * 9
BYTES = byte_tokenizer.learn(LINES, 400)
texts = st.text(st.sampled_from("abcd  \n\t.,!'12\u2581é한。\u0301"), max_size=60)


def altered(fallback: bool = True, **normaliser: bool) -> Tokenizer:
    model = spm.ModelProto()
    model.ParseFromString(make().files["tokenizer.model"])
    model.pieces.add(piece="b\u2581", score=-20.0)  # a piece that reaches over a space
    model.pieces.add(piece="ca", score=-21.0)
    for name, value in normaliser.items():
        setattr(model.normalizer_spec, name, value)
    if not fallback:
        kept = [piece for piece in model.pieces if piece.type != piece.Type.BYTE]
        del model.pieces[:]
        model.pieces.extend(kept)
        model.trainer_spec.byte_fallback = False
    model.trainer_spec.vocab_size = len(model.pieces)
    return from_bytes(model.SerializeToString())


TOKENIZERS = {
    "sentencepiece": make(),
    "reaching over spaces": altered(),
    "without prefix": altered(add_dummy_prefix=False),
    "fewer spaces": altered(remove_extra_whitespaces=True),
    "unknown letters": altered(fallback=False),
    "with a form of its own": from_files(metaspace(make(), flagged(266, "d", special=False))),
    "byte-level": BYTES,
}


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=300, deadline=None)
@given(text=texts, size=st.integers(1, 9))
def test_stretches_have_the_ids_of_the_whole(name, text, size):
    tokenizer = TOKENIZERS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_text, "STRETCH", size)
        assert long_text.encode(tokenizer, text).tolist() == tokenizer.encode(text)


def test_a_text_is_not_cut_where_a_piece_reaches_over():
    _, ends = long_text._bare(TOKENIZERS["reaching over spaces"].files["tokenizer.model"])
    assert [*long_text.stretches("ab\u2581caab", ends, 1)] == ["a", "b\u2581ca", "a", "b"]
    _, ends = long_text._bare(make().files["tokenizer.model"])
    assert [*long_text.stretches("ab\u2581caab", ends, 1)] == ["a", "b", "\u2581c", "a", "a", "b"]


def test_a_pattern_that_is_not_well_known_leaves_a_text_whole():
    form = BYTES.files["tokenizer.json"].replace(b"{1,3}", b"{1,4}")
    ends = long_text._word_ends(form)
    assert len([*long_text.stretches("a b c d", ends, 1)]) == 1
    ends = long_text._word_ends(BYTES.files["tokenizer.json"])
    assert [*long_text.stretches("a b c d", ends, 1)] == ["a", " b", " c", " d"]


@pytest.mark.parametrize("tokenizer", [make(), BYTES], ids=["sentencepiece", "byte-level"])
def test_a_long_part_of_a_document_has_the_ids_of_a_whole_one(tokenizer):
    words = random.Random(7).choices(["ab", "c", "a\n", "b."], k=long_text.LONG)
    text = " ".join(words)
    assert len(text) > 2 * long_text.LONG
    parts = [TextPart("a", 0), TextPart(text, 1), TextPart("b", 1)]
    got = documents.encode([parts], tokenizer)[0]
    want = [id_ for part in parts for id_ in tokenizer.encode(part.text)]
    assert got.tokens.tolist() == [*want, tokenizer.eos_id]
    assert got.weights[: len(tokenizer.encode("a")) + 1].tolist() == [0, 1]


def test_a_codec_is_never_given_a_long_text():
    given_: list[int] = []

    @dataclasses.dataclass
    class Counting:
        inner: object

        def encode_batch(self, texts):
            given_.extend(map(len, texts))
            return self.inner.encode_batch(texts)

    tokenizer = dataclasses.replace(BYTES, codec=Counting(BYTES.codec))
    documents.encode([[TextPart("ab " * long_text.LONG, 1)]], tokenizer)
    assert max(given_) <= long_text.STRETCH + 3
