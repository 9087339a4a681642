"""Learns SentencePiece BPE vocabularies from raw text: a whole one, or pieces of a new language.

    model = train(lines, size=8000, coverage=0.9995)                 # bytes of a .model file
    new = pieces(lines, 4000, scripts=("Hang",), coverage=0.9995, base=model)

The same text gives the same bytes on every run.
"""

from collections.abc import Iterable, Iterator, Sequence
import functools
import io
import re
import sys
from typing import Any
import unicodedata

import sentencepiece

from lrl_jax.vocab.tokenizer import parse

SPACE = "▁"  # how SentencePiece writes a space
LINE_BYTES = 4000  # sentencepiece drops lines over 4,192 bytes in silence; longer ones are cut
LINE_CHARS = LINE_BYTES // 4  # UTF-8 has at most four bytes a character
JOINERS = "\u200c\u200d"  # written inside words of many scripts; of no script themselves

# ISO 15924 code -> how the Unicode names of its characters begin.
SCRIPTS: dict[str, tuple[str, ...]] = {
    "Adlm": ("ADLAM",),
    "Arab": ("ARABIC",),
    "Armn": ("ARMENIAN",),
    "Bali": ("BALINESE",),
    "Beng": ("BENGALI",),
    "Bopo": ("BOPOMOFO",),
    "Cakm": ("CHAKMA",),
    "Cans": ("CANADIAN SYLLABICS",),
    "Cher": ("CHEROKEE",),
    "Copt": ("COPTIC",),
    "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",),
    "Ethi": ("ETHIOPIC",),
    "Geor": ("GEORGIAN",),
    "Gran": ("GRANTHA",),
    "Grek": ("GREEK",),
    "Gujr": ("GUJARATI",),
    "Guru": ("GURMUKHI",),
    "Hang": ("HANGUL", "HALFWIDTH HANGUL"),
    "Hani": ("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "IDEOGRAPHIC ITERATION", "CJK RADICAL"),
    "Hebr": ("HEBREW",),
    "Hira": ("HIRAGANA", "KATAKANA-HIRAGANA PROLONGED"),
    "Java": ("JAVANESE",),
    "Kana": ("KATAKANA", "HALFWIDTH KATAKANA"),
    "Khmr": ("KHMER",),
    "Knda": ("KANNADA",),
    "Lana": ("TAI THAM",),
    "Laoo": ("LAO",),
    "Latn": ("LATIN",),
    "Lisu": ("LISU",),
    "Mlym": ("MALAYALAM",),
    "Mong": ("MONGOLIAN",),
    "Mtei": ("MEETEI MAYEK",),
    "Mymr": ("MYANMAR",),
    "Nkoo": ("NKO",),
    "Olck": ("OL CHIKI",),
    "Orya": ("ORIYA",),
    "Sinh": ("SINHALA",),
    "Sund": ("SUNDANESE",),
    "Syrc": ("SYRIAC",),
    "Taml": ("TAMIL",),
    "Telu": ("TELUGU",),
    "Tfng": ("TIFINAGH",),
    "Thaa": ("THAANA",),
    "Thai": ("THAI",),
    "Tibt": ("TIBETAN",),
    "Vaii": ("VAI",),
    "Yiii": ("YI SYLLABLE",),
}
# Codes that stand for several scripts.
UNIONS = {
    "Hans": ("Hani",),
    "Hant": ("Hani",),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
}


def train(texts: Iterable[str], size: int, coverage: float) -> bytes:
    """A whole tokenizer as Llama 2's is made: BPE, byte fallback, digits apart, nothing normalised.

    Args:
      texts: one text a line.
      size: how many pieces, the 256 bytes and `<unk>` 0, `<s>` 1, `</s>` 2 among them.
      coverage: share of all characters that get a piece; the rest are spelled in bytes.

    Returns:
      The bytes of a `.model` file.

    Raises:
      ValueError: no text, or a size the text cannot give.
    """
    return _train(
        _cut(texts),
        vocab_size=size,
        character_coverage=coverage,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
    )


def pieces(
    texts: Iterable[str], count: int, scripts: Sequence[str], coverage: float, base: bytes
) -> list[str]:
    """Pieces of a new language that `base` lacks, best first: characters, then merges.

    What is not written in `scripts` is put aside before learning, so it takes no merges; every
    beginning of the list can be built from `base` and itself, so it may be cut anywhere.

    Args:
      texts: text of the new language, one text a line.
      count: how many pieces at most.
      scripts: ISO 15924 codes, such as ("Hang",), or ("Jpan",) for a union of scripts.
      coverage: share of all characters that may get a piece.
      base: the bytes of the tokenizer model the pieces will be spliced into.

    Raises:
      ValueError: an unknown script, or no text in these scripts.
    """
    known = {piece.piece for piece in parse(base).pieces}
    lines = [line for text in texts if (line := _only(text, tuple(scripts)))]
    if not lines:
        raise ValueError(
            f"the text has nothing written in {', '.join(scripts)}; "
            "name the script of the new language, such as Hang or Deva"
        )
    alphabet = len({c for line in lines for c in line})
    shared = sum(written_in(piece, scripts) for piece in known)
    model = _train(
        _cut(lines),
        vocab_size=count + alphabet + shared + 32,
        character_coverage=coverage,
        hard_vocab_limit=False,
    )
    learnt = [
        piece.piece
        for piece in parse(model).pieces
        if piece.type == piece.NORMAL
        and piece.piece not in known
        and written_in(piece.piece, scripts)
    ]
    learnt.sort(key=lambda piece: len(piece) > 1)  # stable: characters first, each half by rank
    return learnt[:count]


def written_in(piece: str, scripts: Sequence[str]) -> bool:
    """Whether a piece is written in these scripts; a leading space mark is allowed.

    >>> written_in("▁한국", ("Hang",)), written_in("▁", ("Hang",)), written_in("K팝", ("Hang",))
    (True, False, False)
    """
    own, inherited = _characters(tuple(scripts))
    word = piece.removeprefix(SPACE)
    return bool(re.fullmatch(f"[{own}{inherited}]+", word) and re.search(f"[{own}]", word))


@functools.cache
def _characters(scripts: tuple[str, ...]) -> tuple[str, str]:
    """Insides of two regular expression classes: characters of the scripts, and of any script.

    Marks of any script take that of what they stand on (Unicode's `Inherited`).
    """
    own, inherited = _prefixes(scripts), ("COMBINING", "VARIATION")
    names = [unicodedata.name(chr(i), "") for i in range(sys.maxunicode + 1)]
    mine = [i for i, name in enumerate(names) if name.startswith(own)]
    marks = [i for i, name in enumerate(names) if name.startswith(inherited)]
    return _ranges(mine), _ranges(marks) + JOINERS


def _prefixes(scripts: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []
    for code in scripts:
        for part in UNIONS.get(code, (code,)):
            if part not in SCRIPTS:
                known = ", ".join(sorted({*SCRIPTS, *UNIONS}))
                raise ValueError(f"unknown script {code!r}; there are {known}")
            found += SCRIPTS[part]
    return tuple(found)


def _ranges(points: Sequence[int]) -> str:
    """Code points as regular expression ranges.

    >>> _ranges([97, 98, 99, 120])
    'a-cx-x'
    """
    edges = [i for i, point in enumerate(points) if i == 0 or points[i - 1] != point - 1]
    ends = [*edges[1:], len(points)]
    return "".join(
        f"{chr(points[i])}-{chr(points[j - 1])}" for i, j in zip(edges, ends, strict=True)
    )


def _only(text: str, scripts: tuple[str, ...]) -> str:
    """`text` with every stretch of other scripts put down to one full stop, '' if nothing is left.

    A merge never spans two scripts, so what is put aside would not have been part of a piece.
    """
    own, inherited = _characters(scripts)
    return re.sub(f"[^ {own}{inherited}]+", ".", text) if re.search(f"[{own}]", text) else ""


def _cut(texts: Iterable[str]) -> Iterator[str]:
    """The same text in lines the trainer takes whole, cut at spaces where there are any."""
    for text in texts:
        while len(text) > LINE_CHARS:
            at = text.rfind(" ", LINE_CHARS // 2, LINE_CHARS)
            at = at if at > 0 else LINE_CHARS
            yield text[:at]
            text = text[at:]
        if text.strip():
            yield text


def _train(lines: Iterable[str], **options: Any) -> bytes:
    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=out,
            model_type="bpe",
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            max_sentence_length=LINE_BYTES + 192,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=1,  # one thread: the order of equal merges does not depend on timing
            minloglevel=2,
            **options,
        )
    except RuntimeError as e:
        raise ValueError(_explain(str(e))) from None
    return out.getvalue()


def _explain(error: str) -> str:
    size = re.search(r"[Vv]ocabulary size.*", error)
    if "sentences_.empty" in error.replace(" ", ""):
        return "there is no text to learn a vocabulary from"
    if size:
        return f"{size.group().rstrip(' .')}: change `size`, or give more text"
    return f"sentencepiece cannot learn from this text: {error}"
