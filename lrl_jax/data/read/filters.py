"""Sifts the records of a dataset: what filters leave out is counted by reason, with samples.

    sieve = Sieve(dataset)
    for record in sieve.sift(datasets.read(dataset, shard)): ...
    sieve.counts, sieve.samples      {"too short": 12}, {"too short": ["Ok.", "Yes.", "No."]}

Reasons are shown in the report as they are. `verdict` refuses what only the whole dataset shows.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import hashlib

from lrl_jax.data.read import contamination, kinds, language
from lrl_jax.data.read.contamination import HeldOut
from lrl_jax.data.read.makers import Record
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import Bad, DataError
from lrl_jax.vocab import scripts

SAMPLES = 3  # of every reason
SAMPLE_CHARS = 120
BATCH_CHARS = 1 << 16  # letters are counted in batches: a call for every short text is slow
UNREADABLE, NO_SCAFFOLD, IN_TEST = "unreadable", "no scaffold", "in a test text"
Judged = tuple[Record | Bad, str, str]  # an item, why it is left out ('': it is not), and its text


class Sieve:
    """Sifts the records of one shard, once.

    `take` counts the records of one sieve, so a dataset that has it is read as one shard.

    Attributes:
      counts: reason -> how many records were left out for it.
      samples: reason -> at most three of those records, shortened.
      read: how many records were read.
      scripts: how many letters of each script (ISO 15924) the learnt text of kept records has.
      digests: `digest` of each record that was kept.
      in_tests: test file -> how many records were left out because they share text with it.
    """

    def __init__(self, dataset: recipe_data.Dataset, held_out: HeldOut | None = None):
        """Raises ValueError for filters that contradict each other or cannot apply to the kind.

        Records that share text with `held_out` are left out.
        """
        self._dataset, self._filters, self._kind = dataset, dataset.filters, kinds.of(dataset)
        self._held_out = held_out
        _check(dataset)
        self._scripts = [scripts.NUMBERS[code] for code in scripts.parts(dataset.filters.scripts)]
        asked = dataset.filters.language and not self._kind.halves
        self._code = language.code_of(dataset) if asked else ""
        self._judges: dict[str, language.Judge] = {}
        self._uncounted: list[str] = []  # kept text whose letters are not yet in `scripts`
        self._uncounted_chars = 0
        self.counts: Counter[str] = Counter()
        self.samples: dict[str, list[str]] = {}
        self.read = 0
        self.scripts: Counter[str] = Counter()
        self.digests: list[int] = []
        self.in_tests: Counter[str] = Counter()

    def sift(
        self, items: Iterable[Record | Bad], repeated: Iterable[int] = frozenset()
    ) -> Iterator[Record]:
        """Yields the records that are kept; the attributes are final when all were yielded.

        `repeated` has the ordinals of later copies among the records that pass all other filters.
        Raises DataError at an unreadable record where the recipe says `bad: refuse`.
        """
        copies = frozenset(map(int, repeated))
        why = "near duplicate" if self._filters.duplicates == "near" else "duplicate"
        passed = 0
        try:
            for item, reason, sample in self._judged(items):
                self.read += 1
                if not reason:
                    reason = why if passed in copies else ""
                    passed += 1
                if reason:
                    self.counts[reason] += 1
                    add_sample(self.samples, reason, sample)
                elif isinstance(item, dict):
                    self._keep(item, sample)
                    yield item
                    if len(self.digests) == self._dataset.take:
                        return
        finally:
            self._count_letters()

    def _judged(self, items: Iterable[Record | Bad]) -> Iterator[Judged]:
        """Yields items with what every filter but the one of copies says of them."""
        judged = ((item, *self._judge(item)) for item in items)
        if self._held_out is None:
            yield from judged
            return
        batch: list[Judged] = []
        passing = chars = 0
        for item, reason, sample in judged:
            batch.append((item, reason, sample))
            if not reason:
                passing, chars = passing + 1, chars + len(sample)
            # no record is read that `take` does not ask for
            enough = passing and passing == self._dataset.take - len(self.digests)
            if enough or chars >= contamination.BATCH_CHARS:
                yield from self._compared(batch, self._held_out)
                batch, passing, chars = [], 0, 0
        yield from self._compared(batch, self._held_out)

    def _compared(self, batch: Sequence[Judged], held_out: HeldOut) -> Iterator[Judged]:
        """Yields items, with those that share text with a test text left out."""
        records = [item for item, reason, _ in batch if isinstance(item, dict) and not reason]
        overlaps = iter(held_out.shared([self._kind.texts_read(record) for record in records]))
        for item, reason, sample in batch:
            overlap = None if reason else next(overlaps)
            if overlap is None:
                yield item, reason, sample
            else:
                self.in_tests.update(overlap.sources)
                yield item, IN_TEST, overlap.sample

    def _judge(self, item: Record | Bad) -> tuple[str, str]:
        """Returns why an item is left out ('' where it is kept), and its text."""
        if isinstance(item, Bad):
            if item.reason == UNREADABLE and self._filters.bad == "refuse":
                raise DataError(f"{item.where}: {item.why}")
            return item.reason, f"{item.where}: {item.why}"
        kind, text = self._kind, self._kind.text_learnt(self._dataset, item)
        required = kind.required or (kind.learnt,)
        if not text.strip() or not all(item[f].strip() for f in required if f in item):
            return "empty", next((v for v in (text, *item.values()) if v.strip()), "")
        if "english_output" in item and text.strip() == item["english_output"].strip():
            return "untranslated", text
        halves = tuple(item[field] for field in kind.halves) or (text,)
        if reason := self._length(halves) or self._script(text):
            return reason, text
        return self._language(item, text)

    def _length(self, halves: Sequence[str]) -> str:
        f, lengths = self._filters, [len(half.strip()) for half in halves]
        if min(lengths) < f.min_chars:
            return "too short"
        if f.max_chars and max(lengths) > f.max_chars:
            return "too long"
        if f.length_ratio and max(lengths) > f.length_ratio * min(lengths):
            return "length ratio"
        return ""

    def _script(self, text: str) -> str:
        if not self._filters.scripts:
            return ""
        counts = scripts.letter_counts(text)
        letters = counts[1:].sum()
        if not letters:
            return "no letters"
        share = counts[self._scripts].sum() / letters
        return "" if share >= self._filters.script_share else "other script"

    def _language(self, record: Record, text: str) -> tuple[str, str]:
        """Returns why the language of a record is not the right one, and its text with what it is.

        Of pairs, each half is judged by the language that its record says.
        """
        if not self._filters.language:
            return "", text
        halves = [(record[half], record[f"{half}_language"]) for half in self._kind.halves]
        for words, code in halves or [(text, self._code)]:
            judgement = self._judge_of(code)(words)
            if judgement.reason:
                seen = f"{judgement.seen}: " if judgement.seen else ""
                return judgement.reason, f"{seen}{words}"
        return "", text

    def _judge_of(self, code: str) -> language.Judge:
        assert self._filters.language
        if code not in self._judges:
            self._judges[code] = language.judge_of(self._filters.language, code)
        return self._judges[code]

    def _keep(self, record: Record, text: str) -> None:
        self.digests.append(digest(self._kind.texts_compared(record)))
        self._uncounted.append(text)
        self._uncounted_chars += len(text)
        if self._uncounted_chars >= BATCH_CHARS:
            self._count_letters()

    def _count_letters(self) -> None:
        self.scripts += scripts.letters("".join(self._uncounted))
        self._uncounted, self._uncounted_chars = [], 0


def verdict(
    dataset: recipe_data.Dataset,
    name: str,
    counts: Mapping[str, int],
    kept: int,
    samples: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Refuses a dataset by what its sieves have counted together.

    Raises DataError if too few rows have TaCo's scaffold, or no record is left.
    """
    samples = samples or {}
    read = kept + sum(counts.values())
    without = counts.get(NO_SCAFFOLD, 0)
    coverage = getattr(dataset, "coverage", 0.0)
    if without and read - without < coverage * read:
        shown = "".join(f"\n  {sample}" for sample in samples.get(NO_SCAFFOLD, ()))
        raise DataError(
            f"dataset {name!r}: {100 * (1 - without / read):.4g}% of rows have the scaffold; want "
            f"{100 * coverage:.4g}%: {without} of {read} lack it. Mend them, or lower "
            f"data.datasets.{name}.coverage to leave them out{shown}"
        )
    if not kept:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items()))
        first = [f"\n  {why}: {some[0]}" for why, some in sorted(samples.items()) if some]
        raise DataError(
            f"dataset {name!r} has no record left of {read} ({reasons or 'its files are blank'}); "
            f"see data.datasets.{name}.filters, and data.sequence_length and data.long_answers for "
            f"what is longer than a row{''.join(first)}"
        )


def digest(texts: Sequence[str]) -> int:
    """Returns a 64-bit digest of texts that does not depend on how they are spaced.

    >>> digest([" a  b\\n"]) == digest(["a b"]), digest(["a b"]) == digest(["a", "b"])
    (True, False)
    """
    data = "\0".join(" ".join(text.split()) for text in texts).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def add_sample(samples: dict[str, list[str]], reason: str, text: str) -> None:
    """Adds a text, on one line and shortened, to the samples of a reason if they are few."""
    chosen = samples.setdefault(reason, [])
    if len(chosen) < SAMPLES:
        line = " ".join(text[: 4 * SAMPLE_CHARS].split())
        chosen.append(line if len(line) <= SAMPLE_CHARS else line[: SAMPLE_CHARS - 3] + "...")


def _check(dataset: recipe_data.Dataset) -> None:
    f = dataset.filters
    if f.language and f.language.code and kinds.of(dataset).halves:
        raise ValueError(
            f"filters.language.code {f.language.code}: a pair has two languages, each of which is "
            "judged by its own code; leave it out"
        )
    if f.max_chars and f.min_chars > f.max_chars:
        raise ValueError(
            f"filters.min_chars {f.min_chars} is more than filters.max_chars {f.max_chars}, so no "
            "text would be left; raise max_chars, or set it to 0 for no bound"
        )
    if f.length_ratio and not kinds.of(dataset).halves:
        raise ValueError(
            f"filters.length_ratio {f.length_ratio:g} is of pairs, and this dataset is of kind "
            f"{dataset.kind}; leave it out"
        )
    if 0 < f.length_ratio < 1:
        raise ValueError(
            f"filters.length_ratio {f.length_ratio:g}: the longer half over the shorter is never "
            "below 1; give 1 or more, such as 3, or 0 for no bound"
        )
