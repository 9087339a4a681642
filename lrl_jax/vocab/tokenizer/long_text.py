"""Encodes texts of many megabytes in bounded memory, with the same ids as the whole text.

A tokenizer takes some hundred bytes for every character it is given at once. So a long text is
given to it in stretches, cut between two characters over which nothing reaches: no piece of a
SentencePiece vocabulary has them side by side, or a byte-level pattern ends a word there. Where
that is not known (a unigram model, a pattern that is not well known) it stays whole.
"""

from collections.abc import Callable, Iterator
import functools
import itertools
import json
import re
from typing import Any

import numpy as np
import sentencepiece

from lrl_jax.vocab.tokenizer import own_form
from lrl_jax.vocab.tokenizer.auto import FastCodec
from lrl_jax.vocab.tokenizer.codecs import SPACE, SentencePieceCodec
from lrl_jax.vocab.tokenizer.inspection import added_tokens, regexes
from lrl_jax.vocab.tokenizer.patterns import well_known
from lrl_jax.vocab.tokenizer.piece_model import Piece, parse
from lrl_jax.vocab.tokenizer.types import JSON, MODEL, Codec, Tokenizer, batches, refuse_halves

LONG = 1 << 16  # characters; a shorter text is tokenised whole
STRETCH = 1 << 14  # characters, and those up to a place to cut; longer ones take longer a token
AT_ONCE = 64  # stretches given to the tokenizer together
ENDS = " \n.,!?。，、！？"  # what ends a word that a letter stands before

Ends = Callable[[str, str], bool]  # whether a text can be cut between two characters


def encode(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """Returns the ids of `text`, those of `tokenizer.encode`, as int32; raises as it does."""
    refuse_halves([text])
    if tokenizer.family == "sentencepiece":
        own = tokenizer.codec  # the base's own form, or the model
        if isinstance(own, FastCodec) and not own_form.Alike(own, tokenizer.files[MODEL])(text):
            return np.asarray(tokenizer.encode(text), np.int32)
        text = _normal(tokenizer, text)
        codec, ends = _bare(tokenizer.files[MODEL])
    else:
        codec, ends = tokenizer.codec, _word_ends(tokenizer.files[JSON])
    blocks = [np.zeros(0, np.int32)]
    for batch in batches(stretches(text, ends, STRETCH), AT_ONCE):
        ids = itertools.chain.from_iterable(codec.encode_batch(batch))
        blocks.append(np.fromiter(ids, np.int32))
    return np.concatenate(blocks)


def stretches(text: str, ends: Ends, size: int) -> Iterator[str]:
    """Cuts the text into stretches of `size` characters and a few more.

    >>> [*stretches("ab ab ab", lambda left, right: right == " ", size=1)]
    ['ab', ' ab', ' ab']
    """
    start = 0
    while start < len(text):
        end = start + size
        while end < len(text) and not ends(text[end - 1], text[end]):
            end += 1
        yield text[start:end]
        start = end


def _normal(tokenizer: Tokenizer, text: str) -> str:
    """Returns the text as pieces spell it: spaces as marks, the dummy prefix in front."""
    return _normaliser(tokenizer.files[MODEL])(text)


@functools.lru_cache(maxsize=2)
def _normaliser(model: bytes) -> Callable[[str], str]:
    proto = parse(model)
    spec, own = proto.normalizer_spec, Piece.Type.USER_DEFINED
    if (
        spec.precompiled_charsmap
        or spec.remove_extra_whitespaces
        or any(piece.type == own for piece in proto.pieces)
    ):
        processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
        return processor.normalize
    prefix, space = " " if spec.add_dummy_prefix else "", " "
    if spec.escape_whitespaces:
        prefix, space = prefix.replace(" ", SPACE), SPACE
    return lambda text: (prefix if text else "") + text.replace(" ", space)


@functools.lru_cache(maxsize=2)
def _bare(model: bytes) -> tuple[Codec, Ends]:
    """Returns a codec without the normaliser, and where text already normalised may be cut."""
    proto = parse(model)
    base_pieces = {piece.piece for piece in proto.pieces}
    side_by_side = {pair for piece in base_pieces for pair in itertools.pairwise(piece)}
    spec = proto.trainer_spec
    bpe, fallback = spec.model_type == spec.BPE, spec.byte_fallback
    proto.normalizer_spec.Clear()
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    proto.normalizer_spec.escape_whitespaces = False

    def ends(left: str, right: str) -> bool:
        # Without fallback, unknown neighbours are one piece.
        alone = fallback or {left, right} <= base_pieces
        return bpe and alone and (left, right) not in side_by_side

    return SentencePieceCodec(proto.SerializeToString()), ends


@functools.lru_cache(maxsize=2)
def _word_ends(form: bytes) -> Ends:
    """Returns cuts after a letter, before space or stop: well-known patterns end words there."""
    tree = json.loads(form)
    added = "".join(f"{token['content']}\0" for token in added_tokens(tree))
    reach_over = re.search(rf"[^\W\d_][{re.escape(ENDS)}]", added)
    if {*regexes(tree.get("pre_tokenizer"))} - well_known() or reach_over:
        return lambda left, right: False
    return lambda left, right: left.isalpha() and right in ENDS
