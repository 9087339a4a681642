"""Cuts text into ids as llama.cpp does, from what a GGUF file says of its tokenizer.

    read = reader(vocabulary)
    read("서울에 갑니다")

It is written from what llama.cpp does (src/llama-vocab.cpp, src/unicode.cpp of 0c1e570), so that an
export is compared with the program that will read it, not with the files that it was made of. No
setting of tokenizer.json is known here: the pre-tokenizer goes by its name in the file.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import heapq
from typing import Protocol

import regex

from lrl_jax.hf.gguf import pretokenizers
from lrl_jax.hf.gguf.vocabulary import CONTROL, UNKNOWN, USER_DEFINED, GgufVocabulary
from lrl_jax.vocab.tokenizer.codecs import SPACE
from lrl_jax.vocab.tokenizer.inspection import alphabet

KEPT = 1 << 16  # words whose ids are remembered
Join = Callable[[str, str], float | None]  # how early two neighbours join, lowest first


class CutText(Protocol):
    """Turns a text into ids, without bos and eos."""

    def __call__(self, text: str, controls: bool = False) -> list[int]:
        """Returns ids; `controls` tells whether control tokens in the text are read as such."""
        ...


def reader(vocabulary: GgufVocabulary) -> CutText:
    """Returns what reads a text as llama.cpp does with this vocabulary."""
    ids = {piece: i for i, piece in enumerate(vocabulary.pieces)}
    spm = vocabulary.model == "llama"
    cut = _by_scores(vocabulary, ids) if spm else _by_merges(vocabulary, ids)
    whole, marks = _whole(vocabulary, (USER_DEFINED,)), (USER_DEFINED, CONTROL, UNKNOWN)
    all_whole = _whole(vocabulary, marks)

    def read(text: str, controls: bool = False) -> list[int]:
        row: list[int] = []
        after_token = True  # the beginning of a text counts as that
        for fragment in _fragments(text, all_whole if controls else whole):
            if isinstance(fragment, int):
                row.append(fragment)
            else:
                prefix = " " if vocabulary.add_space_prefix and after_token else ""
                row += cut(prefix + fragment)
            after_token = isinstance(fragment, int)
        return row

    return read


def _whole(vocabulary: GgufVocabulary, kinds: Sequence[int]) -> list[tuple[str, int]]:
    """Returns the pieces that are found before text is cut, longest first, and their ids."""
    chosen = [
        (piece, i)
        for i, (piece, kind) in enumerate(zip(vocabulary.pieces, vocabulary.types, strict=True))
        if kind in kinds
    ]
    return sorted(chosen, key=lambda pair: -len(pair[0].encode()))


def _fragments(text: str, whole: Sequence[tuple[str, int]]) -> list[str | int]:
    """Splits a text at each of these pieces; pieces become their ids."""
    fragments: list[str | int] = [text] if text else []
    for piece, i in whole:
        if piece in text:
            fragments = [cut for fragment in fragments for cut in _at(fragment, piece, i)]
    return fragments


def _at(fragment: str | int, piece: str, i: int) -> Iterator[str | int]:
    if isinstance(fragment, int):
        yield fragment
        return
    for n, text in enumerate(fragment.split(piece)):
        if n:
            yield i
        if text:
            yield text


# ---------------------------------------------------------------------------- SentencePiece
def _by_scores(vocabulary: GgufVocabulary, ids: Mapping[str, int]) -> Callable[[str], list[int]]:
    """Returns what cuts text by scores: of all neighbours that form a piece the best join first.

    A character without a piece becomes its bytes.
    """

    def early(left: str, right: str) -> float | None:
        i = ids.get(left + right)
        return None if i is None else -vocabulary.scores[i]

    def cut(text: str) -> list[int]:
        row: list[int] = []
        for symbol in _joined([*text.replace(" ", SPACE)], early):
            i = ids.get(symbol)
            row += [ids[f"<0x{byte:02X}>"] for byte in symbol.encode()] if i is None else [i]
        return row

    return cut


# ---------------------------------------------------------------------------- byte-level
def _by_merges(vocabulary: GgufVocabulary, ids: Mapping[str, int]) -> Callable[[str], list[int]]:
    """Returns what cuts text into words, and joins the bytes of each by the list of merges."""
    rule = pretokenizers.RULES[vocabulary.pre]
    ranks: dict[tuple[str, str], int] = {}
    for rank, merge in enumerate(vocabulary.merges):
        left, _, right = merge.partition(" ")
        ranks.setdefault((left, right), rank)
    written = alphabet()

    def early(left: str, right: str) -> float | None:
        return ranks.get((left, right))

    @functools.lru_cache(maxsize=KEPT)
    def word_ids(word: str) -> tuple[int, ...]:
        symbols = "".join(written[byte] for byte in word.encode())
        if rule.whole and symbols in ids:
            return (ids[symbols],)
        return tuple(i for symbol in _joined([*symbols], early) for i in _ids(symbol, ids))

    def cut(text: str) -> list[int]:
        return [i for word in words(text, vocabulary.pre) for i in word_ids(word)]

    return cut


def words(text: str, pre: str) -> list[str]:
    """Returns the words that a text is cut into, by llama.cpp's name for how.

    >>> words("don't 1234", "llama-bpe")
    ['don', "'t", ' ', '123', '4']
    """
    words = [text]
    for pattern in pretokenizers.RULES[pre].patterns:
        words = [word for whole in words for word in _matches(whole, regex.compile(pattern))]
    return words


def _ids(symbol: str, ids: Mapping[str, int]) -> Iterator[int]:
    """Yields the id of a symbol, or those of its characters that are pieces."""
    if symbol in ids:
        yield ids[symbol]
    else:
        yield from (ids[c] for c in symbol if c in ids)


def _matches(text: str, pattern: regex.Pattern[str]) -> Iterator[str]:
    """Yields what a pattern matches, and what stands between."""
    end = 0
    for match in pattern.finditer(text):
        if match.start() > end:
            yield text[end : match.start()]
        if match[0]:
            yield match[0]
        end = match.end()
    if end < len(text):
        yield text[end:]


# ---------------------------------------------------------------------------- joining
def _joined(symbols: list[str], early: Join) -> list[str]:
    """Returns symbols after all joins; the earliest goes first, of equals the leftmost."""
    count = len(symbols)
    before, after = [*range(-1, count - 1)], [*range(1, count), -1]
    queue: list[tuple[float, int, int, str]] = []

    def push(left: int, right: int) -> None:
        if left < 0 or right < 0:
            return
        rank = early(symbols[left], symbols[right])
        if rank is not None:
            heapq.heappush(queue, (rank, left, right, symbols[left] + symbols[right]))

    for i in range(count - 1):
        push(i, i + 1)
    while queue:
        _, left, right, text = heapq.heappop(queue)
        # One of the two was joined with another since: an empty one, or one that has grown.
        if not (symbols[left] and symbols[right]) or symbols[left] + symbols[right] != text:
            continue
        symbols[left], symbols[right] = text, ""
        after[left] = after[right]
        if after[right] >= 0:
            before[after[right]] = left
        push(before[left], left)
        push(left, after[left])
    return [symbol for symbol in symbols if symbol]
