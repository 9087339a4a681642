"""Which script text is written in: ISO 15924 codes to characters, and the test of a piece.

written_in("▁한국", ("Hang",))            # True
other(("Hang",)).sub(".", "K팝 2024")     # ".팝 ."
"""

from collections import Counter
from collections.abc import Iterator, Sequence
import functools
import re
import sys
import unicodedata

import numpy as np

SPACES = " ▁"  # a space, and how SentencePiece writes one
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
UNKNOWN = "Zzzz"  # ISO 15924: a script that is not known
NUMBERS = {code: number for number, code in enumerate((*SCRIPTS, UNKNOWN), start=1)}


def letters(text: str) -> Counter[str]:
    """How many letters of `text` each script has; those of scripts not known here are `Zzzz`.

    >>> letters("K팝 2024")
    Counter({'Hang': 1, 'Latn': 1})
    """
    counts = letter_counts(text)
    return Counter({code: int(counts[i]) for code, i in sorted(NUMBERS.items()) if counts[i]})


def letter_counts(text: str) -> np.ndarray:
    """How many letters each script has, at its place in `NUMBERS`; at 0, how much is no letter."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.bincount(_number_of_points()[points], minlength=len(NUMBERS) + 1)


def of(text: str) -> str:
    """The script most letters of `text` are in; '' where it has none that is known here.

    >>> of("서울 2024 K"), of("東京に行きます"), of("42")
    ('Hang', 'Jpan', '')
    """
    found = letters(text)
    del found[UNKNOWN]
    if found["Hira"] + found["Kana"] > found.total() / 10:
        return "Jpan"  # it writes most of its words in Han
    return max(found, key=lambda code: found[code], default="")


def written_in(piece: str, scripts: Sequence[str]) -> bool:
    """Whether a piece is written in these scripts; a leading space or space mark is allowed.

    >>> written_in("▁한국", ("Hang",)), written_in("▁", ("Hang",)), written_in("K팝", ("Hang",))
    (True, False, False)

    Raises:
      ValueError: an unknown script.
    """
    scripts = tuple(scripts)
    word = piece[1:] if piece[:1] in SPACES else piece
    return " " not in word and bool(own(scripts).search(word)) and not other(scripts).search(word)


@functools.cache
def own(scripts: tuple[str, ...]) -> re.Pattern[str]:
    """Matches a character of the scripts themselves, not a mark of any script."""
    return re.compile(f"[{characters(scripts)[0]}]")


@functools.cache
def other(scripts: tuple[str, ...]) -> re.Pattern[str]:
    """Matches stretches of text in other scripts; spaces are of none and stay."""
    mine, inherited = characters(scripts)
    return re.compile(f"[^ {mine}{inherited}]+")


def stretches(text: str, scripts: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Where a word is in the scripts, from and to; a space it opens with goes along.

    >>> list(stretches(" 한국(韓國)은", ("Hang",)))
    [(0, 3), (7, 8)]
    """
    if own(scripts).search(text):
        for found in _inside(scripts).finditer(text):
            if own(scripts).search(found.group()):
                yield found.span()


@functools.cache
def _inside(scripts: tuple[str, ...]) -> re.Pattern[str]:
    mine, inherited = characters(scripts)
    return re.compile(f"(?:^ )?[{mine}{inherited}]+")


@functools.cache
def characters(scripts: tuple[str, ...]) -> tuple[str, str]:
    """Insides of two regular expression classes: characters of the scripts, and of any script.

    Marks of any script take that of what they stand on (Unicode's `Inherited`).

    Raises:
      ValueError: an unknown script.
    """
    prefixes, inherited = _prefixes(scripts), ("COMBINING", "VARIATION")
    names = [unicodedata.name(chr(i), "") for i in range(sys.maxunicode + 1)]
    mine = [i for i, name in enumerate(names) if name.startswith(prefixes)]
    marks = [i for i, name in enumerate(names) if name.startswith(inherited)]
    return _ranges(mine), _ranges(marks) + JOINERS


@functools.cache
def _number_of_points() -> np.ndarray:
    """For every code point the number of its script; 0 where it is no letter."""
    table = np.zeros(sys.maxunicode + 1, np.uint8)
    for point in range(sys.maxunicode + 1):
        if chr(point).isalpha():
            name = unicodedata.name(chr(point), "")
            code = next((c for c, starts in SCRIPTS.items() if name.startswith(starts)), UNKNOWN)
            table[point] = NUMBERS[code]
    return table


def nothing_in(scripts: Sequence[str]) -> str:
    """What to tell someone whose text has nothing in `scripts`."""
    return (
        f"the text has nothing written in {', '.join(scripts)}; "
        "name the script of the new language, such as Hang or Deva"
    )


def parts(scripts: Sequence[str]) -> tuple[str, ...]:
    """The codes of SCRIPTS that these codes stand for.

    >>> parts(("Kore", "Hani", "Latn"))
    ('Hang', 'Hani', 'Latn')

    Raises:
      ValueError: an unknown script.
    """
    found = [part for code in scripts for part in UNIONS.get(code, (code,))]
    if unknown := [code for code in found if code not in SCRIPTS]:
        known = ", ".join(sorted({*SCRIPTS, *UNIONS}))
        raise ValueError(f"unknown script {unknown[0]!r}; there are {known}")
    return tuple(dict.fromkeys(found))


def _prefixes(scripts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(prefix for code in parts(scripts) for prefix in SCRIPTS[code])


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
