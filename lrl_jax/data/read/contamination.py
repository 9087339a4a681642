"""Finds records that share text with test texts, so that they are left out of training.

    held_out = gather(["flores/kor_Hang.devtest", "xquad.hi.json"])
    held_out.shared([["a text"], ["a question", "its answer"]])       an Overlap or None for each

A record shares text with a test text when the same run of words stands in both, in NFC and lower
case, without punctuation: 13 words, the most that GPT-3 took (arXiv 2005.14165, appendix C). Where
no space splits words, it is a run of letters: RULES. A test text that is shorter than a run has to
stand in the record as a whole. Runs are compared by hashes of 64 bits.
"""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np

from lrl_jax import text
from lrl_jax.data.read import grams, test_texts
from lrl_jax.data.read.grams import NormalisedTexts, Units

VERSION = 1  # of the rules; when it changes, datasets that are compared are packed again
BATCH_CHARS = (
    1 << 17
)  # hashed at once; smaller batches cost more calls, larger ones leave the cache
WINDOW, OVERLAP = 1 << 16, 1 << 11  # characters of a long text at once, and of both of two windows
TABLE_BITS = 24  # most; a table of 16 MiB says of most runs that no test text has them


class RunRule(NamedTuple):
    """Says how long a run is.

    Attributes:
      unit: what is counted, and in which texts.
      role: of a character that every run has, as in `grams`.
      size: of a run that no record may share.
      least: of a test text that is compared as a whole; shorter ones are not compared.
    """

    unit: str
    role: int
    size: int
    least: int


# GPT-3 took 8 words at least. As letters, runs of the same length in bytes would be sentences of
# Han and half a sentence of Thai; docs/data.md says how often each run occurs by chance.
WORDS = RunRule("words", grams.IN_WORD, 13, 8)
HAN = RunRule("letters of Han", grams.HAN, 17, 10)  # 51 bytes of UTF-8: each has three
KANA = RunRule("letters of Japanese", grams.KANA, 25, 15)
JOINED = RunRule("letters of Thai and others", grams.JOINED, 50, 30)
RULES = (WORDS, HAN, KANA, JOINED)
MIXED_WITH_KANA = 0.1  # share of kana among letters from which a text is Japanese


class Overlap(NamedTuple):
    """Says with which test files a record shares text, and a place and the run as a sample."""

    sources: tuple[str, ...]
    sample: str


class Compared(NamedTuple):
    """Counts the texts of a test file, and those of them that are too short to be compared."""

    texts: int
    short: int


class Key(NamedTuple):
    """Names a group of runs; `opening` says that they are how texts begin that are short."""

    unit: str
    size: int
    opening: bool = False


class Runs:
    """Holds the hashes of a group of runs, each with the test text that has it.

    Attributes:
      hashes: uint64, ascending; a run that several files have is there for each of them.
      owners: uint32, the number of the test text that has each run.
    """

    def __init__(self, hashes: np.ndarray, owners: np.ndarray):
        self.hashes, self.owners = hashes, owners
        bits = min(TABLE_BITS, len(hashes).bit_length() + 4)
        # of the first bits of hashes, and of others: few hashes that are not here pass both
        self._shift, self._mask = np.uint64(64 - bits), np.uint64((1 << bits) - 1)
        self._first, self._last = np.zeros(1 << bits, bool), np.zeros(1 << bits, bool)
        self._first[self._first_bits(hashes)] = True
        self._last[self._last_bits(hashes)] = True

    def _first_bits(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes >> self._shift).view(np.int64)

    def _last_bits(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes & self._mask).view(np.int64)

    def find(self, hashes: np.ndarray, eligible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (place, owner) of every eligible hash that is here, once for each owner."""
        places = np.flatnonzero(self._first[self._first_bits(hashes)] & eligible)
        places = places[self._last[self._last_bits(hashes[places])]]
        first = np.searchsorted(self.hashes, hashes[places])
        count = np.searchsorted(self.hashes, hashes[places], side="right") - first
        ordinals = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.repeat(places, count), self.owners[np.repeat(first, count) + ordinals]


class Hits(NamedTuple):
    """Holds runs that texts share with test texts: arrays of one length.

    A run begins with the unit at `places`; it is of the text `numbers`, and of the test text
    `owners`, and goes from `starts` to `ends` in the normalised texts.
    """

    places: np.ndarray
    numbers: np.ndarray
    owners: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Holds the runs of test texts.

    Attributes:
      sources: the files as they were named, each name once.
      compared: what was counted of each of `sources`.
      files: every file that they name.
      source_of: int64, which of `sources` each of `files` belongs to.
      texts: int64 [texts, 3]: of each the file, the line or the row, and 1 if it is a row.
      groups: the runs of every size.
    """

    sources: tuple[str, ...]
    compared: tuple[Compared, ...]
    files: tuple[str, ...]
    source_of: np.ndarray
    texts: np.ndarray
    groups: dict[Key, Runs]

    def shared(self, records: Sequence[Sequence[str]]) -> list[Overlap | None]:
        """Returns what each record shares with test texts; a record is a sequence of texts."""
        out: list[Overlap | None] = [None] * len(records)
        for numbers, windows in _batches(_windows(records)):
            for number, overlap in self._of_batch(windows):
                record = numbers[number]
                before = out[record]  # of earlier texts of the record
                sources = {*overlap.sources, *(before.sources if before else ())}
                ordered = tuple(source for source in self.sources if source in sources)
                out[record] = Overlap(ordered, before.sample if before else overlap.sample)
        return out

    def _of_batch(self, windows: Sequence[str]) -> Iterator[tuple[int, Overlap]]:
        """Yields the number of each text that shares a run, and what it shares."""
        texts = grams.normalised(windows)
        every: list[Hits] = []
        words, letters = grams.words(texts), grams.letters(texts)
        every += self._hits(WORDS, words, grams.doubled(words.hashes, WORDS.size))
        of_letters = [rule for rule in RULES[1:] if (texts.roles == rule.role).any()]
        if of_letters:
            runs = grams.doubled(letters.hashes, max(rule.size for rule in of_letters))
            for rule in of_letters:
                every += self._hits(rule, letters, runs)
        if not any(len(hits.places) for hits in every):
            return
        hits = Hits(*map(np.concatenate, zip(*every, strict=True)))
        order = np.lexsort((hits.owners, hits.starts, hits.numbers))
        first = np.flatnonzero(np.diff(hits.numbers[order], prepend=-1))
        for of_text in np.split(order, first[1:]):
            shown = of_text[0]  # the first run of a text is its sample
            sources = np.unique(self.source_of[self.texts[hits.owners[of_text], 0]])
            file, number, is_row = self.texts[hits.owners[shown]].tolist()
            place = test_texts.place(self.files[file], number, bool(is_row))
            run = texts.text[hits.starts[shown] : hits.ends[shown]]
            names = tuple(self.sources[i] for i in sources)
            yield int(hits.numbers[shown]), Overlap(names, f"{place}: {run}")

    def _hits(self, rule: RunRule, units: Units, runs: Sequence[np.ndarray]) -> Iterator[Hits]:
        """Yields the runs of units that a test text has, by their sizes."""
        key, opening = Key(rule.unit, rule.size), Key(rule.unit, rule.least, opening=True)
        if key in self.groups:
            yield self._found(key, units, runs)
        if opening in self.groups:
            begins = np.unique(self._found(opening, units, runs).places)
            for size in range(rule.least, rule.size):
                if (key := Key(rule.unit, size)) in self.groups:
                    yield self._found_at(key, units, begins)

    def _found(self, key: Key, units: Units, runs: Sequence[np.ndarray]) -> Hits:
        last = key.size - 1
        whole = units.numbers[: -last or None] == units.numbers[last:]  # in a single text
        places, owners = self.groups[key].find(grams.grams(runs, key.size), whole)
        return _hits_at(units, places, owners, key.size)

    def _found_at(self, key: Key, units: Units, places: np.ndarray) -> Hits:
        places = places[places + key.size <= len(units.hashes)]
        places = places[units.numbers[places] == units.numbers[places + key.size - 1]]
        hashes = grams.grams_at(units.hashes, places, key.size)
        ordinals, owners = self.groups[key].find(hashes, np.ones(len(places), bool))
        return _hits_at(units, places[ordinals], owners, key.size)


def _hits_at(units: Units, places: np.ndarray, owners: np.ndarray, size: int) -> Hits:
    ends = units.ends[places + size - 1]
    return Hits(places, units.numbers[places], owners, units.starts[places], ends)


def _windows(records: Iterable[Sequence[str]]) -> Iterator[tuple[int, str]]:
    """Yields the texts of records with the number of their record; long texts in windows.

    Windows overlap, so that a run that no window has as a whole is of words of 100 letters.
    """
    for number, texts in enumerate(records):
        for whole in texts:
            if len(whole) <= WINDOW:
                yield number, whole
                continue
            for start in range(0, len(whole) - OVERLAP, WINDOW - OVERLAP):
                yield number, whole[start : start + WINDOW]


def _batches(windows: Iterable[tuple[int, str]]) -> Iterator[tuple[list[int], list[str]]]:
    """Yields texts some at a time, with their numbers."""
    numbers: list[int] = []
    batch: list[str] = []
    room = BATCH_CHARS
    for number, window in windows:
        numbers.append(number)
        batch.append(window)
        room -= len(window) + 1
        if room <= 0:
            yield numbers, batch
            numbers, batch, room = [], [], BATCH_CHARS
    if batch:
        yield numbers, batch


# ---------------------------------------------------------------------------- gathering
def mark(sources: Iterable[str]) -> str:
    """Returns a digest of the content of test files and of the rules; the order does not matter."""
    digests = sorted({text.fingerprint(source) for source in sources})
    return hashlib.sha256(" ".join([str(VERSION), *digests]).encode()).hexdigest()[:16]


def gather(sources: Iterable[str]) -> HeldOut:
    """Reads test files and returns the runs of their texts.

    Args:
      sources: paths, globs, gs:// addresses or samples, in any format that datasets have.

    Raises:
      DataError: a file is missing, empty, or no text; names it, and the line.
    """
    sources = tuple(dict.fromkeys(sources))
    collected = _Collected()
    compared = []
    files: list[str] = []
    source_of: list[int] = []
    for i, source in enumerate(sources):
        texts, short = len(collected.texts), collected.short
        for file in text.files(source):
            collected.add(len(files), file)
            files.append(file)
            source_of.append(i)
        if len(collected.texts) == texts:
            raise text.DataError(f"{source}: holds no text to compare with training data")
        compared.append(Compared(len(collected.texts) - texts, collected.short - short))
    places, of_file = np.array(collected.texts, np.int64), np.array(source_of, np.int64)
    groups = {key: _sorted(parts, of_file[places[:, 0]]) for key, parts in collected.runs.items()}
    return HeldOut(sources, tuple(compared), tuple(files), of_file, places, groups)


class _Collected:
    """Collects the runs of test texts, file by file.

    Attributes:
      texts: of each text the file, the line or row, and whether it is a row.
      short: how many of them are too short to be compared.
      runs: hashes and owners of the runs of each group, in several arrays.
    """

    def __init__(self) -> None:
        self.texts: list[tuple[int, int, bool]] = []
        self.short = 0
        self.runs: dict[Key, list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(self, number: int, file: str) -> None:
        """Adds the texts of a file."""

        def numbered() -> Iterator[tuple[int, str]]:
            for entry in test_texts.strings(file):
                self.texts.append((number, entry.number, entry.is_row))
                yield len(self.texts) - 1, entry.text

        for numbers, batch in _batches(numbered()):
            self._add(np.array(numbers), grams.normalised(batch))

    def _add(self, numbers: np.ndarray, texts: NormalisedTexts) -> None:
        rules = _rules(grams.counts(texts))
        words, letters = grams.words(texts), grams.letters(texts)
        for i, rule in enumerate(RULES):
            units = words if rule == WORDS else letters
            lengths = np.bincount(units.numbers, minlength=len(numbers))
            self.short += int(np.count_nonzero((rules == i) & (lengths < rule.least)))
            for key, places in _compared_runs(rule, units, lengths, rules == i):
                if rule != WORDS:
                    places = places[_has(texts.roles[units.starts] == rule.role, places, key.size)]
                owners = numbers[units.numbers[places]].astype(np.uint32)
                hashes = grams.grams_at(units.hashes, places, key.size)
                if len(places):
                    self.runs.setdefault(key, []).append((hashes, owners))


def _has(units: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    """Tells which runs, of bool units, have a true one."""
    sums = np.append(0, np.cumsum(units))
    return sums[places + size] > sums[places]


def _rules(counts: np.ndarray) -> np.ndarray:
    """Returns which of RULES each text is compared by, by its characters of each role."""
    han, kana, joined = (counts[:, role] for role in (grams.HAN, grams.KANA, grams.JOINED))
    letters = han + kana + joined
    is_japanese = (kana > MIXED_WITH_KANA * letters) & (kana + han > joined)
    rules = np.where(is_japanese, RULES.index(KANA), np.where(han > joined, 1, 3))
    return np.where(letters > counts[:, grams.IN_WORD], rules, RULES.index(WORDS))


def _compared_runs(
    rule: RunRule, units: Units, lengths: np.ndarray, chosen: np.ndarray
) -> Iterator[tuple[Key, np.ndarray]]:
    """Yields where runs of the chosen texts begin: all of long texts, and short texts as wholes."""
    places = np.arange(max(0, len(units.hashes) - rule.size + 1))
    numbers, last = units.numbers[places], units.numbers[places + rule.size - 1]
    yield Key(rule.unit, rule.size), places[(numbers == last) & chosen[numbers]]
    for size in range(rule.least, rule.size):
        begins = np.searchsorted(units.numbers, np.flatnonzero(chosen & (lengths == size)))
        yield Key(rule.unit, size), begins
        yield Key(rule.unit, rule.least, opening=True), begins


def _sorted(parts: Sequence[tuple[np.ndarray, np.ndarray]], source_of: np.ndarray) -> Runs:
    """Returns runs by their hashes; of the runs of a source that are equal, only the first."""
    hashes, owners = map(np.concatenate, zip(*parts, strict=True))
    sources = source_of[owners]
    order = np.lexsort((owners, sources, hashes))
    hashes, owners, sources = hashes[order], owners[order], sources[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (sources[1:] != sources[:-1])
    return Runs(hashes[fresh], owners[fresh])
