"""Reads sheets that annotators gave back: CSV of any spreadsheet, pages' files, Label Studio.

    returned = read(["kim.csv", "lee.answers.json"], key)
    returned.answers["bcdfghjklm"].choice                      "left"

An answer is known by the id of its row, whichever file it comes in. What cannot be used is named
with file and row, and all other answers are kept.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import difflib
import hashlib
import re
import unicodedata

from lrl_jax import storage, text
from lrl_jax.evaluate.sheets.entries import LARGEST, SheetEntry, parse
from lrl_jax.evaluate.sheets.forms import CHOICES, KeyRow, SheetKey, texts_digest, unguarded

OTHER_SPELLINGS = {"l": "left", "1": "left", "r": "right", "2": "right", "t": "tie", "3": "tie"}
# Quotes and the like around a choice, also where a wrong code page made other letters of them.
AROUND = re.compile(r"^[^a-z0-9?]+(?=(?:left|right|tie)[^a-z0-9?]*$)|(?<=[a-z])[^a-z0-9?]+$")
SHOWN = 5  # rows that a message names at most


@dataclasses.dataclass(frozen=True)
class SheetAnswer:
    """Holds an answer to one row."""

    choice: str  # one of CHOICES
    comment: str
    where: str  # its file, and its line or row there


@dataclasses.dataclass(frozen=True)
class Returned:
    """Holds what files say.

    Attributes:
      answers: those that can be used, by row.
      comments: what annotators wrote, by row.
      problems: what could not be used, in words, each with its place.
      notes: what else is worth knowing.
    """

    answers: Mapping[str, SheetAnswer]
    comments: Mapping[str, str]
    problems: Sequence[str]
    notes: Sequence[str]


class _Reading:
    """Gathers the answers of several files."""

    def __init__(self, key: SheetKey):
        self.key = key
        self.rows: dict[str, tuple[str, KeyRow]] = {
            row.row: (name, row) for name, given in key.annotators.items() for row in given.rows
        }
        self.answers: dict[str, SheetAnswer] = {}
        self.comments: dict[str, str] = {}
        self.contradicted: set[str] = set()
        self.problems: list[str] = []
        self.notes: list[str] = []

    def add_file(self, file: str, data: bytes) -> None:
        """Adds the answers of a file; raises DataError if it is of no use as a whole."""
        parsed = parse(file, data)
        entries = parsed.entries
        self.notes += parsed.notes
        self._refuse_foreign(file, entries)
        changed, named, seen = [], set(), set()
        for entry in entries:
            if entry.row not in self.rows:
                self.problems.append(f"{entry.where}: {self._unknown_row(entry.row)}")
                continue
            annotator, row = self.rows[entry.row]
            seen.add(entry.row)
            if entry.annotator and not _alike(entry.annotator, annotator):
                named.add((entry.annotator, annotator))
            if entry.texts and texts_digest(entry.texts) != row.texts:
                changed.append(entry.where.removeprefix(f"{file}:"))
            self._add(entry)
        for written, given in sorted(named):
            self.notes.append(
                f"{file}: bears the name {written!r}; its rows were handed to {given!r}, and count "
                "as his"
            )
        if changed:
            self.notes.append(
                f"{file}: {len(changed)} rows have other texts than were handed out, such as those "
                f"of {', '.join(changed[:SHOWN])}; their choices count"
            )
        if parsed.is_whole:
            self._name_deleted(file, parsed.content, seen)

    def _add(self, entry: SheetEntry) -> None:
        if comment := entry.comment.strip():
            self.comments.setdefault(entry.row, comment)
        try:
            choice = _choice(entry.choice)
        except ValueError as e:
            self.problems.append(f"{entry.where}: row {entry.row}: {e}")
            return
        if not choice or entry.row in self.contradicted:
            return
        answer = SheetAnswer(choice, comment, entry.where)
        earlier = self.answers.setdefault(entry.row, answer)
        if earlier.choice != choice:
            del self.answers[entry.row]
            self.contradicted.add(entry.row)
            self.problems.append(
                f"{entry.where}: row {entry.row} is {choice!r} here and {earlier.choice!r} at "
                f"{earlier.where}; it counts for neither. If two people filled the sheet of "
                f"{self.rows[entry.row][0]!r}, make one for each"
            )

    def _refuse_foreign(self, file: str, entries: Sequence[SheetEntry]) -> None:
        """Raises DataError if no row is of the key."""
        if not entries:
            raise text.DataError(f"{file}: has no answers in it")
        if any(entry.row in self.rows for entry in entries):
            return
        others = {entry.sheet for entry in entries} - {"", self.key.sheet}
        own = f"of the sheet {min(others)!r}" if others else f"rows such as {entries[0].row!r}"
        raise text.DataError(
            f"{file}: belongs to another key: it is {own}, and the key is of "
            f"{self.key.sheet!r}; name the key.json that was made with it"
        )

    def _unknown_row(self, row: str) -> str:
        near = difflib.get_close_matches(row, self.rows, n=1)
        hint = f"; did you mean {near[0]}" if near else ""
        return f"the key has no row {row!r}{hint}; its answer is left out"

    def _name_deleted(self, file: str, content: str, seen: set[str]) -> None:
        """Names the rows of an annotator that are not in his file, which had all of them."""
        for annotator in sorted({self.rows[row][0] for row in seen}):
            rows = [row.row for row in self.key.annotators[annotator].rows]
            lost = [row for row in rows if row not in seen]
            if swallowed := [row for row in lost if row in content]:
                self.problems.append(
                    f"{file}: {len(swallowed)} rows cannot be told apart, such as {swallowed[0]}; "
                    "a quote mark before them has no end"
                )
            if deleted := [row for row in lost if row not in swallowed]:
                numbers = ", ".join(str(rows.index(row) + 1) for row in deleted[:SHOWN])
                more = ", ..." if len(deleted) > SHOWN else ""
                self.problems.append(
                    f"{file}: {len(deleted)} of {len(rows)} rows of {annotator!r} are deleted, "
                    f"number {numbers}{more}; they count as missing"
                )


def read(files: Sequence[str], key: SheetKey) -> Returned:
    """Reads all files that annotators gave back.

    Raises:
      DataError: no file is of use; the message has what is wrong with each.
    """
    reading = _Reading(key)
    digests: dict[str, str] = {}
    useless: list[str] = []
    for file in files:
        try:
            for path in text.files(file, only_text=False):
                data = storage.read_bytes(path, LARGEST)
                own = hashlib.sha256(data).hexdigest()
                if own in digests:
                    reading.notes.append(f"{path}: is the same as {digests[own]}; it counts once")
                    continue
                digests[own] = path
                reading.add_file(path, data)
        except ValueError as e:
            useless.append(str(e))
    if useless and not reading.answers:
        raise text.DataError("; ".join([*useless, *reading.problems]))
    return Returned(reading.answers, reading.comments, [*useless, *reading.problems], reading.notes)


# ---------------------------------------------------------------------------- cells
def _choice(cell: str) -> str:
    """Returns the choice that a cell means, "" for none; ValueError for another word.

    >>> _choice(" LEFT. "), _choice("2.0"), _choice("")
    ('left', 'right', '')
    >>> _choice("\u201cleft\u201d"), _choice("\xa1\xb0Tie\xa1\xb1")
    ('left', 'tie')
    """
    word = unicodedata.normalize("NFKC", unguarded(cell)).strip().strip(".'\"").casefold()
    word = re.sub(AROUND, "", word)
    word = word.removesuffix(".0")  # how a spreadsheet may write a whole number
    word = str(unicodedata.decimal(word)) if len(word) == 1 and word.isdecimal() else word
    word = OTHER_SPELLINGS.get(word, word)
    if not word or word in CHOICES:
        return word
    near = difflib.get_close_matches(word, CHOICES, n=1, cutoff=0.3)
    hint = f"; did you mean {near[0]}" if near else ""
    raise ValueError(f"the choice {cell[:60]!r} is none of {', '.join(CHOICES)}{hint}")


def _alike(written: str, name: str) -> bool:
    """Tells whether a cell has a name; a spreadsheet drops zeros that a number begins with.

    >>> _alike("7", "007"), _alike("Kim ", "kim"), _alike("lee", "kim")
    (True, True, False)
    """
    short, own = (
        unicodedata.normalize("NFC", unguarded(word)).strip().casefold() for word in (written, name)
    )
    return short == own or (short.isdigit() and short.lstrip("0") == own.lstrip("0"))
