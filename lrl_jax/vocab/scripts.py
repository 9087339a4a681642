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

from lrl_jax.recipe.scripts import SCRIPTS, parts

SPACES = " ▁"  # a space, and how SentencePiece writes one
INHERITED = ("Zinh",)  # of marks and joiners that take the script of what they stand on

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
    runs = (run.group() for run in regex.finditer(f"[{has_script}]+", _every_character()))
    return "".join(f"{re.escape(run[0])}-{re.escape(run[-1])}" for run in runs)


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
