"""Tells which script a text is written in, by Unicode's properties Script and Script_Extensions.

A character belongs to every script that Unicode says it is used with: the danda to Bengali,
Devanagari and others. A letter is counted for its one Script; letters that many scripts share, such
as mathematical ones, are counted for none. The `regex` library knows the properties; what it says
is turned into classes of `re` once, because `re` is two to three times as fast on short words.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
import functools
import re
import sys

import numpy as np
import regex

from lrl_jax.recipe.scripts import SCRIPTS, UNIONS, parts

SPACES = " ▁"  # a space, and how SentencePiece writes one
INHERITED = ("Zinh",)  # of marks and joiners that take the script of what they stand on
# Scripts in which letters that Unicode gives to no script are written, such as the okina U+02BB.
WITH_MODIFIERS = ("Latn", "Cyrl")
# Scripts that put no space between words: those of Unicode's line breaking classes SA, ID and AK
# (UAX 14) that modern text is written in, and Tibetan, which marks syllables instead.
UNSPACED = (
    "Bali", "Bopo", "Cham", "Hani", "Hira", "Java", "Kana", "Khmr", "Lana", "Laoo", "Mymr", "Nshu",
    "Tale", "Talu", "Tang", "Tavt", "Thai", "Tibt", "Yiii",
)  # fmt: skip
SEPARATOR = "\u200b"  # the space of no width that such scripts may put between words

CODES = tuple(SCRIPTS)
NUMBERS = {code: number for number, code in enumerate(CODES, start=1)}


def letters(text: str) -> Counter[str]:
    """Counts the letters of `text` in each script.

    >>> letters("K팝 2024")
    Counter({'Hang': 1, 'Latn': 1})
    """
    counts = letter_counts(text)
    return Counter({CODES[i - 1]: int(counts[i]) for i in np.flatnonzero(counts) if i})


def letter_counts(text: str) -> np.ndarray:
    """Counts letters of each script at its place in `NUMBERS`; at 0, characters of no script."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.bincount(_number_of_points()[points], minlength=len(NUMBERS) + 1)


def of(text: str) -> str:
    """Returns the script that most letters of `text` are in; '' where it has none.

    >>> of("서울 2024 K"), of("東京に行きます"), of("42")
    ('Hang', 'Jpan', '')
    """
    counts = letters(text)
    if counts["Hira"] + counts["Kana"] > counts.total() / 10:
        return "Jpan"  # it writes most of its words in Han
    return max(counts, key=lambda code: counts[code], default="")


def written_in(piece: str, scripts: Sequence[str]) -> bool:
    """Tells whether a piece is written in these scripts; it may open in a space or space mark.

    >>> written_in("▁한국", ("Hang",)), written_in("▁", ("Hang",)), written_in("K팝", ("Hang",))
    (True, False, False)
    """
    scripts = tuple(scripts)
    word = piece[1:] if piece[:1] in SPACES else piece
    return " " not in word and bool(own(scripts).search(word)) and not other(scripts).search(word)


@functools.cache
def own(scripts: tuple[str, ...]) -> re.Pattern[str]:
    """Matches a character of the scripts themselves, not a mark of any script."""
    return re.compile(f"[{_ranges(parts(scripts))}]")


@functools.cache
def other(scripts: tuple[str, ...]) -> re.Pattern[str]:
    """Matches stretches of text in other scripts; spaces are of none and stay."""
    return re.compile(f"[^ {_ranges(parts(scripts))}{_ranges(INHERITED)}]+")


def is_mark(character: str) -> bool:
    """Tells whether a character is a mark or a joiner, of whichever script."""
    return bool(regex.fullmatch(r"[\p{Mark}\p{Join_Control}\u200b]", character))


def spaced(code: str) -> bool:
    """Tells whether a script puts spaces between words; so does one that is not known.

    >>> spaced("Hang"), spaced("Mymr"), spaced("Jpan"), spaced("")
    (True, False, False, True)
    """
    return not set(UNIONS.get(code, (code,))) <= set(UNSPACED)


def marks(text: str, scripts: tuple[str, ...]) -> list[str]:
    r"""Returns the marks and joiners that the language writes in `text`.

    They are of its scripts, or of none and stand on its letters, one after another; the space of no
    width stands between its words.

    >>> marks("k\u0333a \u2764\ufe0f", ("Latn",)), marks("\u1780\u200b\u1781", ("Khmr",))
    (['\u0333'], ['\u200b'])
    """
    standing = own_marks(scripts).findall(text)
    standing += [mark for match in _marked(scripts).findall(text) for mark in match]
    if SEPARATOR in text and not all(spaced(code) for code in scripts):
        standing += SEPARATOR * text.count(SEPARATOR)
    return standing


@functools.cache
def own_marks(scripts: tuple[str, ...]) -> re.Pattern[str]:
    """Matches a mark that is of the scripts themselves."""
    marks = filter(is_mark, own(scripts).findall(_every_character()))
    return re.compile(f"[{every}]" if (every := "".join(map(re.escape, marks))) else "(?!)")


@functools.cache
def has_modifiers(scripts: tuple[str, ...]) -> re.Pattern[str]:
    """Matches a letter of no script that is written in these scripts, such as the okina."""
    letters = "".join(regex.findall(r"\p{Modifier_Letter}+", _every_character()))
    loose = "".join(regex.findall(r"\p{Script=Zyyy}+", letters))
    alphabets = tuple(code for code in parts(scripts) if code in WITH_MODIFIERS)
    return re.compile(f"[{''.join(own(alphabets).findall(loose))}]" if alphabets else "(?!)")


@functools.cache
def _marked(scripts: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"[{_ranges(parts(scripts))}]([{_ranges(INHERITED)}]+)")


def digits_apart(text: str) -> list[str]:
    """Cuts text before and after every digit, of any script.

    >>> digits_apart("a12b")
    ['a', '1', '2', 'b']
    """
    return [part for part in _digit().split(text) if part]


def is_digit(text: str) -> bool:
    """Tells whether text is a single digit, or a sign that stands for a number."""
    return bool(_digit().fullmatch(text))


@functools.cache
def _digit() -> re.Pattern[str]:
    runs = (run.group() for run in regex.finditer(r"[\p{Nd}\p{No}]+", _every_character()))
    return re.compile("([" + "".join(f"{re.escape(r[0])}-{re.escape(r[-1])}" for r in runs) + "])")


def stretches(word: bytes, scripts: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Yields where a word is in the scripts, from byte to byte; a space it opens with goes along.

    >>> list(stretches(" 한국(韓國)은".encode(), ("Hang",)))
    [(0, 7), (15, 18)]
    """
    text = word.decode()
    if own(scripts).search(text):
        for stretch in _inside(scripts).finditer(text):
            if own(scripts).search(stretch.group()):
                start = len(text[: stretch.start()].encode())
                yield start, start + len(stretch.group().encode())


@functools.cache
def _inside(scripts: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"(?:^ )?[{_ranges(parts(scripts))}{_ranges(INHERITED)}]+")


@functools.cache
def _ranges(scripts: tuple[str, ...]) -> str:
    """Returns the characters that scripts extend to, as ranges of a regular expression class."""
    has_script = "".join(rf"\p{{Script_Extensions={code}}}" for code in scripts)
    if set(scripts) & set(WITH_MODIFIERS):  # letters that Unicode says nothing more of
        has_script += _modifiers()
    runs = (run.group() for run in regex.finditer(f"[{has_script}]+", _every_character()))
    return "".join(f"{re.escape(run[0])}-{re.escape(run[-1])}" for run in runs)


@functools.cache
def _modifiers() -> str:
    letters = "".join(regex.findall(r"\p{Modifier_Letter}+", _every_character()))
    return "".join(regex.findall(r"\p{Script_Extensions=Zyyy}+", letters))


@functools.cache
def _number_of_points() -> np.ndarray:
    """Returns for every code point the number of its script; 0 where it is no letter of one."""
    table = np.zeros(sys.maxunicode + 1, np.uint8)
    every_letter = "".join(regex.findall(r"\p{Letter}+", _every_character()))
    for code, number in NUMBERS.items():
        in_script = "".join(regex.findall(rf"\p{{Script={code}}}+", every_letter))
        table[np.frombuffer(in_script.encode("utf-32-le"), np.uint32)] = number
    return table


@functools.cache
def _every_character() -> str:
    return "".join(map(chr, range(sys.maxunicode + 1)))


def nothing_in(scripts: Sequence[str]) -> str:
    """Returns what to tell someone whose text has nothing in `scripts`."""
    return (
        f"the text has nothing written in {', '.join(scripts)}; "
        "name the script of the new language, such as Hang or Deva"
    )
