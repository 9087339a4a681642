"""Counts what text costs in tokens, for every number of the fertility report.

    texts = {"eng_Latn": LanguageText(english), "kor_Hang": LanguageText(korean)}
    rows = measure({"base": old, "new": new}, texts)

A word is what stands between spaces. For scripts that write no spaces (`FertilityRow.spaced`), read
tokens per character, or parity: tokens relative to the reference language on aligned text.
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
class LanguageText:
    """Holds the lines of one language; `name` and `script` (ISO 15924) are for the reader and may
    be ''.
    """

    lines: Sequence[str]
    name: str = ""
    script: str = ""


@dataclasses.dataclass(frozen=True)
class FertilityRow:
    """Holds the counts of one tokenizer on one language.

    Attributes:
      parity: tokens relative to the reference language; None where their texts do not align.
      relative: tokens relative to the first tokenizer on the same text. Generating the same text
        takes this many times as many steps, and as much memory for keys and values.
      whole_types: share of the different words that are one token (single-token retention, STRR).
      whole_words: the same share of all words, each counted as often as it occurs.
      byte_share: share of tokens that are one byte of a character with several.
      floor: pre-tokens per word. No merge joins two pre-tokens, so tokens per word cannot go below.
        Pre-tokenizers that cut at combining marks put it far above 1.
      lost: how many texts do not survive encoding and decoding.
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
        """Tells whether the script puts spaces between words; without spaces, "words" are much
        longer.
        """
        return self.characters < UNSPACED * self.words

    def words_in(self, context: int) -> int:
        """Returns how many words of the language fit into `context` tokens."""
        return int(context / self.per_word)


def measure(
    tokenizers: Mapping[str, Tokenizer],
    texts: Mapping[str, LanguageText],
    reference: str = REFERENCE,
    *,
    parallel: bool = False,
) -> list[FertilityRow]:
    """Measures every tokenizer on every language: rows in the order given, languages within
    tokenizers.

    Args:
      texts: language -> text. Texts of as many lines as the reference's are taken to say the same.
      parallel: all texts say the same as wholes, however many lines they take.

    Raises:
      ValueError: a language without any text.
    """
    words = {language: _words(language, text) for language, text in texts.items()}
    distinct_words = list(dict.fromkeys(word for count in words.values() for word in count))
    base = find(reference, texts)
    aligned = {
        language
        for language, text in texts.items()
        if base is not None and (parallel or len(text.lines) == len(texts[base].lines))
    }
    rows: list[FertilityRow] = []
    first: dict[str, int] = {}
    for name, tokenizer in tokenizers.items():
        counter, whole = _counter(tokenizer), _whole(tokenizer, distinct_words)
        encoded = {language: counter(text.lines) for language, text in texts.items()}
        first = first or {language: count.tokens for language, count in encoded.items()}
        unit = 1 if base is None else max(encoded[base].tokens, 1)
        for language, text in texts.items():
            parity = encoded[language].tokens / unit if language in aligned else None
            counted = _Counted(encoded[language], words[language], whole)
            rows.append(_row(name, language, text, counted, parity, first[language]))
    return rows


def find(reference: str, languages: Mapping[str, object]) -> str | None:
    """Finds the language that `reference` means: itself, or the only one that differs in script
    alone.

    >>> find("eng_Latn", {"eng": 1, "kor": 2}), find("eng", {"eng_Latn": 1}), find("eng", {})
    ('eng', 'eng_Latn', None)
    """
    if reference in languages:
        return reference
    same = [language for language in languages if _code(language) == _code(reference)]
    return same[0] if len(same) == 1 else None


def prefill(ratio: float, context: int, balance: int = BALANCE) -> float:
    """Returns the compute to read `ratio * context` tokens, relative to reading `context` tokens.

    n tokens cost n (1 + n / balance): the weights for each token, and attention to all before it.

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
    """Returns a function that counts lines under a tokenizer, inspected only once."""
    tokenizer_family, singles = family(tokenizer), _singles(tokenizer)
    normal = tokenizer_family.normal(tokenizer)

    def count(lines: Sequence[str]) -> _Encoded:
        tokens = single = stretches = lost = 0
        for block in _blocks(lines):
            stretches += tokenizer_family.words(tokenizer, block).total()
            for line, ids in zip(block, tokenizer.encode_batch(block), strict=True):
                tokens += len(ids)
                single += sum(i in singles for i in ids)
                lost += tokenizer.decode(ids) != normal(line)
        return _Encoded(tokens, single, stretches, lost)

    return count


def _singles(tokenizer: Tokenizer) -> frozenset[int]:
    """Returns the ids of single bytes that are not characters by themselves."""
    tokenizer_family = family(tokenizer)
    pieces = enumerate(tokenizer_family.pieces(tokenizer))
    if tokenizer.family == "sentencepiece":
        return frozenset(i for i, piece in pieces if SINGLE_BYTE.fullmatch(piece))
    short = ((i, tokenizer_family.surface(piece)) for i, piece in pieces if len(piece) == 1)
    return frozenset(i for i, byte in short if byte >= b"\x80")


def _whole(tokenizer: Tokenizer, words: Sequence[str]) -> set[str]:
    """Returns the words that are one token when they stand inside a sentence."""
    if tokenizer.family == "sentencepiece":
        ids = family(tokenizer).spell(tokenizer, [SPACE + word for word in words])
    else:
        ids = tokenizer.encode_batch([f" {word}" for word in words])
    return {word for word, spelt in zip(words, ids, strict=True) if len(spelt) == 1}


def _words(language: str, text: LanguageText) -> Counter[str]:
    words = Counter(word for line in text.lines for word in line.split())
    if not words:
        raise ValueError(f"{language}: has no text; the fertility report needs some of every one")
    return words


def _row(
    name: str,
    language: str,
    text: LanguageText,
    counted: _Counted,
    parity: float | None,
    first: int,
) -> FertilityRow:
    words, whole, encoded = counted.words, counted.whole, counted.encoded
    total, tokens = words.total(), encoded.tokens
    characters = sum(map(len, text.lines))
    size = sum(len(line.encode()) for line in text.lines)
    return FertilityRow(
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
