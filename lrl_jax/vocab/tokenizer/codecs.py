"""Encodes text by a SentencePiece model in two ways: the library's, and word by word.

Text repeats its words. Where no piece has a space inside, nothing is ever joined over the space
before a word, so the ids of a text are those of its words one after another, and a word that came
before need not be encoded again. `apart` tells whether that is true of a model. Whether it pays
depends on text and model, so both ways are timed and the faster is taken; the ids are the same.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import itertools
import os
import re
import time
from typing import Any

import sentencepiece

SPACE = "▁"  # how SentencePiece writes a space
BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # and a piece that is a single byte
BEFORE_WORD = re.compile(r"(?<=[^ ]) ")  # of several spaces, all but the first are the word's own
KEPT = 1 << 17  # words remembered, and once more as many; some tens of MB
LONGEST = 48  # characters; longer words seldom come again
CHUNK = 1 << 16  # characters between two choices of the way to encode
TIMED = 1 << 12  # characters; fewer are encoded too soon to be timed
RETRY = 32  # chunks after which the slower way is timed again, at first after fewer
SHARE = 8  # one in so many texts of a chunk is enough for that
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
    """Encodes by a model that is `apart`: word by word or by the library, whichever is faster.

    On many cores it is the library, which shares the texts among threads.
    """

    def __init__(self, model: bytes):
        super().__init__(model)
        self._known = _Words(self.processor)
        self._ways = _Ways(self._by_words, super().encode_batch)

    def __reduce__(self) -> tuple[type["WordCodec"], tuple[bytes]]:
        return WordCodec, (self.processor.serialized_model_proto(),)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        if self.threads != 1 and len(texts) > 1 and (os.cpu_count() or 1) >= CORES:
            return super().encode_batch(texts)
        return [*itertools.chain.from_iterable(map(self._ways.encode, _chunks(texts)))]

    def _by_words(self, texts: Sequence[str]) -> list[list[int]]:
        # a mark in a text reads as a space, which is not where words are cut
        words_of = [[] if SPACE in text else _words(text) for text in texts]
        self._known.learn(itertools.chain.from_iterable(words_of))
        ids_of = self._known.__getitem__
        ids = [
            self.processor.encode(text)
            if SPACE in text
            else [*itertools.chain.from_iterable(map(ids_of, words))]
            for text, words in zip(texts, words_of, strict=True)
        ]
        self._known.forget()
        return ids


Encode = Callable[[Sequence[str]], list[list[int]]]


class _Ways:
    """Chooses among functions that give the same ids the one that lately took least a character."""

    def __init__(self, *ways: Encode):
        self._ways = ways
        self._pace: dict[int, float] = {}  # way -> seconds a character, when it was timed last
        self._turns = 0

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        fastest, *others = sorted(range(len(self._ways)), key=lambda way: self._pace.get(way, 0.0))
        if sum(map(len, texts)) < TIMED:
            return self._ways[fastest](texts)
        self._turns += 1
        few = 0
        if len(self._pace) == len(self._ways) and (
            self._turns % RETRY == 0 or self._turns in (4, 8, 16)
        ):
            few = -(-len(texts) // SHARE)
        again = self._timed(others[-1], texts[:few])
        return again + self._timed(fastest, texts[few:])

    def _timed(self, way: int, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        start = time.process_time()  # of all threads: the library has its own
        ids = self._ways[way](texts)
        self._pace[way] = (time.process_time() - start) / max(1, sum(map(len, texts)))
        return ids


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yields texts of about CHUNK characters together."""
    start = chars = 0
    for end, text in enumerate(texts, start=1):
        chars += len(text)
        if chars >= CHUNK or end == len(texts):
            yield texts[start:end]
            start, chars = end, 0


def _words(text: str) -> list[str]:
    several = "  " in text or text[:1] == " "
    return (BEFORE_WORD.split(text) if several else text.split(" ")) if text else []


class _Words(dict[str, list[int]]):
    """Caches the ids of words with the space before them; '' is the space at the end of a text.

    Words that came lately are kept: those of this age, and of the age before until they come again.
    """

    def __init__(self, processor: Any):
        super().__init__()
        self._encode = processor.encode
        self._before: dict[str, list[int]] = {"": [processor.piece_to_id(SPACE)]}
        self._long: list[str] = []

    def learn(self, words: Iterable[str]) -> None:
        """Finds the ids of all words that are not known, in one call of the library."""
        unknown = []
        for word in {*words} - self.keys():
            ids = self._before.get(word)
            if ids:
                self[word] = ids
            else:
                unknown.append(word)
        self.update(zip(unknown, self._encode(unknown, num_threads=1), strict=True))
        self._long = [word for word in unknown if len(word) > LONGEST]

    def forget(self) -> None:
        """Drops long words, and begins a new age when this one has more than KEPT words."""
        for word in self._long:
            del self[word]
        self._long = []
        if len(self) > KEPT:
            self._before = dict(self) | {"": self._before[""]}
            self.clear()


def apart(proto: Any) -> bool:
    """Tells whether a model spells each word of a text by itself.

    So it is in BPE with byte fallback where a text begins with a dummy space, spaces are kept as
    they are, and a piece has a space only where it begins or throughout.
    """
    normal, trained, kinds = proto.normalizer_spec, proto.trainer_spec, proto.pieces[0].Type
    own, ordinary = kinds.USER_DEFINED, kinds.NORMAL
    types = {p.piece: p.type for p in proto.pieces}
    marked = normal.add_dummy_prefix and normal.escape_whitespaces
    kept = not normal.precompiled_charsmap and not normal.remove_extra_whitespaces
    return bool(
        trained.model_type == trained.BPE
        and trained.byte_fallback
        and not trained.treat_whitespace_as_suffix
        and marked
        and kept
        and types.get(SPACE) == ordinary
        and own not in types.values()
        and not any(
            kind == ordinary and SPACE in piece.lstrip(SPACE) for piece, kind in types.items()
        )
    )
