"""What text costs in tokens: the counting behind every number of the fertility report.

    rows = measure({"base": old, "new": new}, {"eng_Latn": Text(english), "kor_Hang": Text(korean)})

A word is what stands between spaces. For scripts that write none (`Row.spaced`) read tokens per
character, or parity: tokens relative to the reference language on text that says the same.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import re

from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer

REFERENCE = "eng_Latn"
BLOCK = 4096  # texts encoded at a time: a language of millions of lines is never held as ids
# Characters a word; in the UDHR the longest words are Greenlandic's, 15.6, and the shortest
# stretches without spaces Khmer's, 20.1.
UNSPACED = 18.0
# Tokens at which causal attention (2 L D n^2) costs what the weights do (2 P n): P / (L D), here
# of Llama 2 7B (arXiv 2307.09288), whose matrices hold 6.607e9 numbers in 32 layers of width 4096.
BALANCE = 50_410
SPACE = "\u2581"  # how SentencePiece writes a space
SINGLE_BYTE = re.compile("<0x[0-9A-F]{2}>")  # and a byte


@dataclasses.dataclass(frozen=True)
class Text:
    """Lines of one language; `name` and `script` (ISO 15924) are for the reader, and may be ''."""

    lines: Sequence[str]
    name: str = ""
    script: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """One tokenizer on one language.

    Attributes:
      parity: tokens relative to the reference language; None where their texts do not align.
      relative: tokens relative to the first tokenizer on the same text. Saying the same takes as
        many times the steps to generate and the memory of keys and values.
      whole_types: share of the different words that are one token (single-token retention, STRR).
      whole_words: the same share of all words, each as often as it occurs.
      byte_share: share of tokens that are one byte of a character with several.
      floor: stretches per word that no merge reaches over: what tokens per word cannot go below.
        Pre-tokenizers that cut at combining marks put it far above 1.
      lost: texts that encoding and decoding do not bring back.
    """

    tokenizer: str
    language: str
    name: str
    script: str
    lines: int
    words: int
    characters: int
    bytes: int
    tokens: int
    per_word: float
    per_character: float
    per_byte: float
    per_line: float
    parity: float | None
    relative: float
    whole_types: float
    whole_words: float
    byte_share: float
    floor: float
    lost: int

    @property
    def spaced(self) -> bool:
        """Whether its words are words; scripts without spaces have much longer stretches."""
        return self.characters < UNSPACED * self.words

    def words_in(self, context: int) -> int:
        """How many words of the language fit into `context` tokens."""
        return int(context / self.per_word)


def measure(
    tokenizers: Mapping[str, Tokenizer],
    texts: Mapping[str, Text],
    reference: str = REFERENCE,
    *,
    parallel: bool = False,
) -> list[Row]:
    """Rows in the order given, languages within tokenizers.

    Args:
      texts: language -> text. Texts of as many lines as the reference's are taken to say the same.
      parallel: all texts say the same as wholes, however many lines they take.

    Raises:
      ValueError: a language without any text.
    """
    words = {language: _words(language, text) for language, text in texts.items()}
    known = list(dict.fromkeys(word for count in words.values() for word in count))
    base = find(reference, texts)
    aligned = {
        language
        for language, text in texts.items()
        if base is not None and (parallel or len(text.lines) == len(texts[base].lines))
    }
    rows: list[Row] = []
    first: dict[str, int] = {}
    for name, tokenizer in tokenizers.items():
        counter, whole = _counter(tokenizer), _whole(tokenizer, known)
        found = {language: counter(text.lines) for language, text in texts.items()}
        first = first or {language: count.tokens for language, count in found.items()}
        unit = 1 if base is None else max(found[base].tokens, 1)
        for language, text in texts.items():
            parity = found[language].tokens / unit if language in aligned else None
            counted = _Counted(found[language], words[language], whole)
            rows.append(_row(name, language, text, counted, parity, first[language]))
    return rows


def find(reference: str, languages: Mapping[str, object]) -> str | None:
    """The language meant by `reference`: itself, or the only one that differs in the script alone.

    >>> find("eng_Latn", {"eng": 1, "kor": 2}), find("eng", {"eng_Latn": 1}), find("eng", {})
    ('eng', 'eng_Latn', None)
    """
    if reference in languages:
        return reference
    same = [language for language in languages if _code(language) == _code(reference)]
    return same[0] if len(same) == 1 else None


def prefill(ratio: float, context: int, balance: int = BALANCE) -> float:
    """What reading `ratio * context` tokens computes, relative to reading `context`.

    n tokens cost n (1 + n / balance): their share of the weights, and attention to all before.

    >>> prefill(2.0, context=100, balance=100)
    3.0
    """
    return ratio * (1 + ratio * context / balance) / (1 + context / balance)


@dataclasses.dataclass(frozen=True)
class _Encoded:
    tokens: int
    single: int
    stretches: int
    lost: int


@dataclasses.dataclass(frozen=True)
class _Counted:
    encoded: _Encoded
    words: Counter[str]
    whole: set[str]


def _counter(tokenizer: Tokenizer) -> Callable[[Sequence[str]], _Encoded]:
    """What counts lines under a tokenizer, which is looked into once for all languages."""
    kin, singles = family(tokenizer), _singles(tokenizer)
    normal = kin.normal(tokenizer)

    def count(lines: Sequence[str]) -> _Encoded:
        tokens = single = stretches = lost = 0
        for block in _blocks(lines):
            stretches += kin.words(tokenizer, block).total()
            for line, ids in zip(block, tokenizer.encode_batch(block), strict=True):
                tokens += len(ids)
                single += sum(i in singles for i in ids)
                lost += tokenizer.decode(ids) != normal(line)
        return _Encoded(tokens, single, stretches, lost)

    return count


def _singles(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids of one byte that is not a character by itself."""
    kin = family(tokenizer)
    pieces = enumerate(kin.pieces(tokenizer))
    if tokenizer.family == "sentencepiece":
        return frozenset(i for i, piece in pieces if SINGLE_BYTE.fullmatch(piece))
    short = ((i, kin.surface(piece)) for i, piece in pieces if len(piece) == 1)
    return frozenset(i for i, byte in short if byte >= b"\x80")


def _whole(tokenizer: Tokenizer, words: Sequence[str]) -> set[str]:
    """The words that are one token where they stand inside a sentence."""
    if tokenizer.family == "sentencepiece":
        ids = family(tokenizer).spell(tokenizer, [SPACE + word for word in words])
    else:
        ids = tokenizer.encode_batch([f" {word}" for word in words])
    return {word for word, spelt in zip(words, ids, strict=True) if len(spelt) == 1}


def _words(language: str, text: Text) -> Counter[str]:
    words = Counter(word for line in text.lines for word in line.split())
    if not words:
        raise ValueError(f"{language}: has no text; the fertility report needs some of every one")
    return words


def _row(
    name: str, language: str, text: Text, counted: _Counted, parity: float | None, first: int
) -> Row:
    words, whole, encoded = counted.words, counted.whole, counted.encoded
    total, tokens = words.total(), encoded.tokens
    characters = sum(map(len, text.lines))
    size = sum(len(line.encode()) for line in text.lines)
    return Row(
        tokenizer=name,
        language=language,
        name=text.name,
        script=text.script,
        lines=len(text.lines),
        words=total,
        characters=characters,
        bytes=size,
        tokens=tokens,
        per_word=tokens / total,
        per_character=tokens / characters,
        per_byte=tokens / size,
        per_line=tokens / len(text.lines),
        parity=parity,
        relative=tokens / max(first, 1),
        whole_types=sum(word in whole for word in words) / len(words),
        whole_words=sum(count for word, count in words.items() if word in whole) / total,
        byte_share=encoded.single / max(tokens, 1),
        floor=encoded.stretches / total,
        lost=encoded.lost,
    )


def _blocks(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    return (lines[at : at + BLOCK] for at in range(0, len(lines), BLOCK))


def _code(language: str) -> str:
    return re.split("[_-]", language, maxsplit=1)[0]
