"""Encodes text by a SentencePiece model in two ways: the library's, and word by word.

Text repeats its words. Where no piece has a space inside, nothing is ever joined over the space
before a word, so the ids of a text are those of its words one after another, and a word that came
before need not be encoded again. `apart` tells whether that is true of a model.
"""

from collections.abc import Sequence
import itertools
import os
import re
from typing import Any

import sentencepiece

SPACE = "▁"  # how SentencePiece writes a space
BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # and a piece that is a single byte
BEFORE_WORD = re.compile(r"(?<=[^ ]) ")  # of several spaces, all but the first are the word's own
KEPT = 1 << 17  # words remembered, and once more as many; some tens of MB
LONGEST = 48  # characters; longer words seldom come again
CORES = 4  # from so many on, the library's threads are faster than one that remembers


class SentencePieceCodec:
    """Encodes text by the library itself, on `threads` threads; -1: one for every core."""

    threads = -1

    def __init__(self, model: bytes):
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self.processor.encode(list(texts), num_threads=self.threads)

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return self.processor.decode([list(row) for row in rows]) if rows else []


class WordCodec(SentencePieceCodec):
    """Encodes by a model that is `apart`: word by word on few cores, by the library on many."""

    def __init__(self, model: bytes):
        super().__init__(model)
        self._known = _Words(self.processor)

    def __reduce__(self) -> tuple[type["WordCodec"], tuple[bytes]]:
        return WordCodec, (self.processor.serialized_model_proto(),)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        if self.threads != 1 and len(texts) > 1 and (os.cpu_count() or 1) >= CORES:
            return super().encode_batch(texts)
        ids = [self._encode(text) for text in texts]
        self._known.forget()
        return ids

    def _encode(self, text: str) -> list[int]:
        if SPACE in text:  # it reads as a space, which is not where words were cut
            return self.processor.encode(text)
        if not text:
            return []
        several = "  " in text or text[0] == " "
        words = BEFORE_WORD.split(text) if several else text.split(" ")
        return [*itertools.chain.from_iterable(map(self._known.__getitem__, words))]


class _Words(dict[str, list[int]]):
    """Caches the ids of words with the space before them; '' is the space at the end of a text.

    Words that came lately are kept: those of this age, and of the age before until they come again.
    """

    def __init__(self, processor: Any):
        super().__init__()
        self._encode = processor.encode
        self._before: dict[str, list[int]] = {"": [processor.piece_to_id(SPACE)]}

    def __missing__(self, word: str) -> list[int]:
        ids = self._before.get(word) or self._encode(word)
        if len(word) <= LONGEST:
            self[word] = ids
        return ids

    def forget(self) -> None:
        """Begins a new age when this one has more than KEPT words."""
        if len(self) > KEPT:
            self._before = dict(self) | {"": self[""]}
            self.clear()


def apart(proto: Any) -> bool:
    """Tells whether a model spells each word of a text by itself.

    So it is in BPE with byte fallback where a text begins with a dummy space, spaces are kept as
    they are, and a piece has a space only where it begins or throughout.
    """
    normal, trained, kinds = proto.normalizer_spec, proto.trainer_spec, proto.pieces[0].Type
    marked = normal.add_dummy_prefix and normal.escape_whitespaces
    kept = not normal.precompiled_charsmap and not normal.remove_extra_whitespaces
    return bool(
        trained.model_type == trained.BPE
        and trained.byte_fallback
        and not trained.treat_whitespace_as_suffix
        and marked
        and kept
        and any(p.piece == SPACE and p.type == kinds.NORMAL for p in proto.pieces)
        and not any(p.type == kinds.USER_DEFINED for p in proto.pieces)
        and not any(SPACE in p.piece.lstrip(SPACE) for p in proto.pieces if p.type == kinds.NORMAL)
    )
