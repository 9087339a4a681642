"""Draws what each annotator is shown: which questions, in which order, with which answer left.

    kim, lee = handouts(items, ("base", "tuned"), ("kim", "lee"), seed=0)
    kim.rows[0].texts()                                         (question, left, right)

Everything is drawn by SHA-256 of the seed and of what is drawn, so the same answers and the same
seed give the same sheets on every machine, and a larger draw holds the smaller one. Ids of sheets
and rows are consonants only: no spreadsheet takes them for a number or a date.
"""

from collections.abc import Sequence
import dataclasses
import re
from typing import Literal
import unicodedata

from lrl_jax.evaluate.sheets.pairs import SheetItem, digest

Side = Literal["A", "B"]
LETTERS = "bcdfghjklmnpqrstvwxz"
ID_LETTERS = 10
REPEATS = 0.1  # of the items, shown a second time so that an annotator agrees with himself or not
# A repeat comes from the first half of a sheet and stands in its last third.
HEAD, TAIL = 1 / 2, 2 / 3
NAME_LETTERS = 60


@dataclasses.dataclass(frozen=True)
class SheetRow:
    """Holds one judgement that an annotator is asked for; `left` is the model shown on the left."""

    id: str
    item: SheetItem
    left: Side
    repeat: bool = False

    def texts(self) -> tuple[str, str, str]:
        """Returns the question, the answer on the left and the answer on the right."""
        left, right = self.item.answers if self.left == "A" else self.item.answers[::-1]
        return self.item.prompt, left, right


@dataclasses.dataclass(frozen=True)
class Handout:
    """Holds what one annotator is given, under the id of the whole sheet."""

    sheet: str
    annotator: str
    rows: tuple[SheetRow, ...]


def chosen(items: Sequence[SheetItem], count: int, seed: int) -> tuple[SheetItem, ...]:
    """Returns `count` of the items, or all where there are fewer, in their own order."""
    drawn = sorted(items, key=lambda item: digest([seed, "item", item.id]))[:count]
    ids = {item.id for item in drawn}
    return tuple(item for item in items if item.id in ids)


def handouts(
    items: Sequence[SheetItem], models: tuple[str, str], annotators: Sequence[str], seed: int
) -> tuple[Handout, ...]:
    """Draws the sheet of every annotator.

    Each sees all items in an order of his own; A stands left in half of them. A tenth is shown a
    second time, with the sides changed.
    """
    shown = [[item.id, item.prompt, *item.answers] for item in items]
    sheet = letters(digest([seed, "sheet", [*models], [*annotators], shown]))
    taken: set[str] = set()
    return tuple(
        Handout(sheet, annotator, _rows(sheet, annotator, items, seed, taken))
        for annotator in annotators
    )


def letters(hexadecimal: str, count: int = ID_LETTERS) -> str:
    """Returns a number as consonants.

    >>> letters("0"), letters("15", 4)
    ('bbbbbbbbbb', 'ccbb')
    """
    number, out = int(hexadecimal, 16), ""
    for _ in range(count):
        number, digit = divmod(number, len(LETTERS))
        out += LETTERS[digit]
    return out


def names(given: Sequence[str], count: int) -> tuple[str, ...]:
    """Returns the names of annotators, `count` of them where none are given.

    Raises:
      ValueError: a name is empty or too long, or two names are alike, as file names see them.
    """
    named = [unicodedata.normalize("NFC", name.strip()) for name in given]
    if not named:
        return tuple(f"annotator-{number}" for number in range(1, count + 1))
    stems: dict[str, str] = {}
    for name in named:
        stem = file_stem(name).casefold()
        if not stem or len(name) > NAME_LETTERS:
            raise ValueError(
                f"--names: {name!r} is no name for a file; want letters or digits, "
                f"{NAME_LETTERS} characters at most"
            )
        if stem in stems:
            raise ValueError(
                f"--names: {stems[stem]!r} and {name!r} are alike; give each annotator a name of "
                f"his own, such as {name}-2"
            )
        stems[stem] = name
    return tuple(named)


def file_stem(name: str) -> str:
    """Returns a name as files bear it.

    >>> file_stem("Kim, Min-jun")
    'Kim-Min-jun'
    """
    return re.sub(r"[^\w-]+", "-", name).strip("-")


def _rows(
    sheet: str, annotator: str, items: Sequence[SheetItem], seed: int, taken: set[str]
) -> tuple[SheetRow, ...]:
    """Returns the rows of an annotator in order; their ids are added to `taken`."""

    def by(what: str, item: SheetItem, repeat: bool = False) -> str:
        return digest([seed, annotator, what, item.id, repeat])

    def row(item: SheetItem, repeat: bool) -> SheetRow:
        left: Side = "A" if (item.id in a_left) != repeat else "B"
        return SheetRow(_new_id([sheet, annotator, item.id, repeat], taken), item, left, repeat)

    sides = sorted(items, key=lambda item: by("side", item))
    odd = int(digest([seed, annotator, "odd"]), 16) % 2  # of an odd number, which side has one more
    a_left = {item.id for item in sides[: (len(items) + odd) // 2]}
    order = sorted(items, key=lambda item: by("order", item))
    count = max(1, round(REPEATS * len(items))) if len(items) > 1 else 0
    head = order[: max(1, round(HEAD * len(order)))]
    again = sorted(head, key=lambda item: by("again", item))[:count]
    cut = max(round(TAIL * len(order)), len(head))
    tail = [row(item, False) for item in order[cut:]] + [row(item, True) for item in again]
    tail.sort(key=lambda row: by("tail", row.item, row.repeat))
    return (*(row(item, False) for item in order[:cut]), *tail)


def _new_id(words: Sequence[object], taken: set[str]) -> str:
    number = 0
    while (own := letters(digest([*words, number]))) in taken:
        number += 1
    taken.add(own)
    return own
