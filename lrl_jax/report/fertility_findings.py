"""Looks up the rows of a fertility report by tokenizer and language, and lists them in words."""

from collections import Counter
from collections.abc import Sequence

from lrl_jax.vocab import scripts
from lrl_jax.vocab.fertility import FertilityRow, find

FEW = 4  # languages that are named one by one
WHOLE = 0.85  # of the lines of the reference
CHANGED = 0.01  # a ratio nearer to 1 is the same
NAMES = {"Hans": "Han, simplified", "Hant": "Han, traditional", "": "unknown"}
NAMES |= {"Jpan": "Japanese", "Kore": "Korean"}


class FertilityFindings:
    """Holds the rows of a fertility report, looked up by tokenizer and language.

    Attributes:
      reference: the language of parity among them; '' where there is none.
      parity: whether any language but the reference has one.
      partial: languages whose texts may lack lines, having far fewer than the reference has.
      unit: what figures show: tokens relative to the reference under the first tokenizer, so that
        tokenizers compare too, or tokens per byte; neither needs words.
    """

    def __init__(self, rows: Sequence[FertilityRow], reference: str, context: int):
        self.rows, self.context = rows, context
        self.tokenizers = list(dict.fromkeys(row.tokenizer for row in rows))
        self._rows = {(row.tokenizer, row.language): row for row in rows}
        self._labels = _labels(rows)
        self.reference = find(reference, self._labels) or ""
        with_parity = {row.language: row.lines for row in rows if row.parity is not None}
        self.parity = self.reference in with_parity and len(with_parity) > 1
        whole = WHOLE * with_parity.get(self.reference, 0)
        self.partial = {language for language, lines in with_parity.items() if lines < whole}
        self.languages = list(self._labels)
        if len(self._rows) > FEW * FEW:  # a reader looks for a name
            self.languages.sort(key=lambda language: self.label(language).casefold())
        self.parity_unit = f"parity with {self.label(self.reference)}"
        unit = f"tokens relative to {self.label(self.reference)}"
        if len(self.tokenizers) > 1:
            unit += f" under {self.tokenizers[0]}"
        self.unit = unit if self.parity else "tokens per byte"

    def label(self, language: str) -> str:
        return self._labels.get(language, language)

    def row(self, tokenizer: str, language: str) -> FertilityRow:
        return self._rows[tokenizer, language]

    def of(self, tokenizer: str) -> list[FertilityRow]:
        return [self.row(tokenizer, language) for language in self.languages]

    def parities(self, tokenizer: str) -> list[tuple[float, FertilityRow]]:
        """Returns each language's parity, dearest first, without the reference.

        Languages that the tokenizer does not know have none, here and in `costs` and `changed`.
        """
        pairs = [(r.parity, r) for r in self.of(tokenizer) if r.language != self.reference]
        measured = [(value, row) for value, row in pairs if value is not None and row.comparable]
        return sorted(measured, key=lambda pair: -pair[0])

    def costs(self, tokenizer: str) -> list[tuple[FertilityRow, float]]:
        """Returns the number that figures show, of every language that has it."""
        rows = [row for row in self.of(tokenizer) if row.comparable]
        if not self.parity:
            return [(row, row.per_byte) for row in rows]
        scale = self.row(tokenizer, self.reference).relative
        return [(row, scale * row.parity) for row in rows if row.parity is not None]

    def changed(self, tokenizer: str) -> tuple[list[FertilityRow], list[FertilityRow]]:
        """Returns the languages that take fewer tokens than under the first tokenizer, then those
        that take more, each with the largest change first."""
        rows = sorted(self.compared(tokenizer), key=lambda row: row.relative)
        fewer = [row for row in rows if row.relative < 1 - CHANGED]
        return fewer, [row for row in reversed(rows) if row.relative > 1 + CHANGED]

    def compared(self, tokenizer: str) -> list[FertilityRow]:
        """Returns the rows of languages that both this and the first tokenizer know."""
        both = zip(self.of(tokenizer), self.of(self.tokenizers[0]), strict=True)
        return [row for row, first in both if row.comparable and first.comparable]

    def each(self, rows: Sequence[FertilityRow], form: str) -> str:
        """Returns rows as a sentence lists them; `form` writes one from its {label} and {row}."""
        return listed([form.format(label=self.label(row.language), row=row) for row in rows])


def _labels(rows: Sequence[FertilityRow]) -> dict[str, str]:
    """Returns the name of each language; those of one name are told apart by their codes."""
    names = {row.language: row.name or row.language for row in rows}
    count = Counter(names.values())
    return {code: name if count[name] == 1 else f"{name} ({code})" for code, name in names.items()}


def script_name(code: str) -> str:
    """Returns what a reader calls a script.

    >>> script_name("Deva"), script_name("Hans"), script_name("Zzzz")
    ('Devanagari', 'Han, simplified', 'Zzzz')
    """
    return NAMES.get(code) or scripts.SCRIPTS.get(code, code)


def listed(items: Sequence[str]) -> str:
    """Joins items as a sentence lists them; names may hold commas.

    >>> listed(["a", "b", "c"]), listed(["a, b", "c", "d"])
    ('a, b and c', 'a, b; c and d')
    """
    comma = "; " if any(", " in item for item in items) else ", "
    return " and ".join([comma.join(items[:-1]), items[-1]] if len(items) > 1 else items)
