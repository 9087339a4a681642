"""Says in sentences what the rows of a fertility report show, for who reads nothing else."""

from collections.abc import Iterator, Sequence
import statistics

from lrl_jax.vocab import scripts
from lrl_jax.vocab.fertility import FertilityRow, find

FEW = 4  # languages that are named one by one
HALF = 0.5
WHOLE = 0.85  # of the lines of the reference
CUT = 1.5  # stretches per word; punctuation alone makes some 1.2
CHANGED = 0.01  # a ratio nearer to 1 is the same
HAN = {"Hani": "Han", "Hans": "Han, simplified", "Hant": "Han, traditional"}
NAMES = {**HAN, "Jpan": "Japanese", "Kore": "Korean", "Hang": "Hangul", "": "unknown"}


class FertilityFindings:
    """Holds the rows of a fertility report, looked up by tokenizer and language.

    Attributes:
      reference: the language of parity among them; '' where there is none.
      parity: whether any language but the reference has one.
      unit: what figures show: tokens relative to the reference under the first tokenizer, so that
        tokenizers compare too, or tokens per byte; neither needs words.
    """

    def __init__(self, rows: Sequence[FertilityRow], reference: str, context: int):
        self.rows, self.context = rows, context
        self.tokenizers = list(dict.fromkeys(row.tokenizer for row in rows))
        self._rows = {(row.tokenizer, row.language): row for row in rows}
        self._labels = {row.language: row.name or row.language for row in rows}
        languages = {row.language: 1 for row in rows}
        self.reference = find(reference, languages) or ""
        with_parity = {row.language for row in rows if row.parity is not None}
        self.parity = self.reference in with_parity and len(with_parity) > 1
        many = len(languages) * len(self.tokenizers) > FEW * FEW
        self.languages = list(languages)
        if many:  # a reader looks for a name
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
        """Returns each language's parity, dearest first, without the reference."""
        pairs = [(r.parity, r) for r in self.of(tokenizer) if r.language != self.reference]
        measured = [(value, row) for value, row in pairs if value is not None]
        return sorted(measured, key=lambda pair: -pair[0])

    def costs(self, tokenizer: str) -> list[tuple[FertilityRow, float]]:
        """Returns the number that figures show, of every language that has it."""
        rows = self.of(tokenizer)
        if not self.parity:
            return [(row, row.per_byte) for row in rows]
        scale = self.row(tokenizer, self.reference).relative
        return [(row, scale * row.parity) for row in rows if row.parity is not None]

    def partial(self, row: FertilityRow) -> bool:
        """Tells whether a text may lack lines, having far fewer than the reference has."""
        if not self.reference or row.parity is None:
            return False
        return row.lines < WHOLE * self.row(row.tokenizer, self.reference).lines


def subtitle(r: FertilityFindings) -> str:
    """Says how many tokenizers, languages and scripts were measured, on how much text."""
    codes = {row.script for row in r.rows if row.script}
    size = sum(row.bytes for row in r.of(r.tokenizers[0]))
    parts = [
        _count(len(r.tokenizers), "tokenizer"),
        _count(len(r.languages), "language"),
        _count(len(codes), "script"),
        f"{size / 1e6:.1f} MB of text" if size >= 1e5 else f"{size:,} bytes of text",
    ]
    return ", ".join(parts)


def sentences(r: FertilityFindings) -> list[str]:
    """Returns a sentence for each finding, those about all languages first."""
    out = list(_parities(r))
    for name in r.tokenizers[1:]:
        out.append(_against(r, name))
    for name in r.tokenizers:
        out += [*_bytes(r, name), *_floors(r, name)]
    out += _words(r)
    out += _lost(r)
    return out + list(_missing(r))


def legend(r: FertilityFindings) -> Iterator[tuple[str, str]]:
    """Yields the name of each column that needs explaining, and its explanation."""
    if r.parity:
        yield (
            r.parity_unit,
            "Parity: tokens of a language divided by those of the same text in the reference "
            "language, under the same tokenizer. It needs no words; 1 is equal. It compares "
            "languages, not tokenizers: a tokenizer that is bad at the reference looks fair.",
        )
    yield (
        "tokens per word",
        "Fertility. A word is what stands between spaces, so for scripts that write none it is "
        "left empty; no text added bos or eos.",
    )
    yield (
        "words of one token",
        "Single-token retention: the share of words, each as often as it occurs, that are one "
        "token inside a sentence. Among distinct words each counts once.",
    )
    yield (
        "single bytes",
        "Tokens that are one byte of a character of several: what a tokenizer falls back to where "
        "it has no piece. The model must spell such characters out.",
    )
    yield (
        "floor",
        "Stretches per word that no merge reaches over. A tokenizer that cuts text before it "
        "merges cannot go below, however many pieces are added.",
    )
    yield (
        "texts that do not come back",
        "Texts (lines) that decode to something else than went in, after the tokenizer's own "
        "normalisation.",
    )


def script_name(code: str) -> str:
    """Returns what a reader calls a script.

    >>> script_name("Deva"), script_name("Hans"), script_name("Zzzz")
    ('Devanagari', 'Han, simplified', 'Zzzz')
    """
    return NAMES.get(code) or scripts.SCRIPTS.get(code, code)


# ---------------------------------------------------------------------------- findings
def _parities(r: FertilityFindings) -> Iterator[str]:
    """Says how unequal the languages are under each tokenizer."""
    if not r.parity:
        return
    base = r.label(r.reference)
    for name in r.tokenizers:
        pairs = r.parities(name)
        if len(pairs) <= FEW:
            each = _and([f"{r.label(row.language)} takes {value:.2f}" for value, row in pairs])
            yield f"Under {name}, {each} times the tokens of {base}."
            continue
        values = [value for value, _ in pairs]
        twice, fourfold = sum(v > 2 for v in values), sum(v > 4 for v in values)
        dear = [f"{r.label(row.language)} ({value:.1f})" for value, row in pairs[:3]]
        cheap = [(value, row) for value, row in reversed(pairs) if not r.partial(row)][:3]
        yield (
            f"Under {name} the median of {len(values)} languages takes "
            f"{statistics.median(values):.2f} times the tokens of {base}; {twice} take more than "
            f"twice as many, {fourfold} more than four times. Dearest: {_and(dear)}. Cheapest: "
            f"{_and([f'{r.label(row.language)} ({value:.2f})' for value, row in cheap])}."
        )


def changed(r: FertilityFindings, name: str) -> tuple[list[FertilityRow], list[FertilityRow]]:
    """Returns the languages that take fewer tokens than under the first tokenizer, then those that
    take more, each with the largest change first."""
    rows = sorted(r.of(name), key=lambda row: row.relative)
    fewer = [row for row in rows if row.relative < 1 - CHANGED]
    return fewer, [row for row in reversed(rows) if row.relative > 1 + CHANGED]


def _against(r: FertilityFindings, name: str) -> str:
    """Compares a tokenizer with the first."""
    first, rows = r.tokenizers[0], r.of(name)
    fewer, more = changed(r, name)
    if not fewer and not more:
        return f"{name} takes as many tokens as {first} in every language, within {CHANGED:.0%}."
    if len(rows) <= FEW:
        each = [f"{row.relative:.2f} in {r.label(row.language)}" for row in rows]
        return f"{name} takes, of the tokens {first} takes, {_and(each)}."
    parts = []
    for direction, changes in (("fewer", fewer), ("more", more)):
        if changes:
            most = [f"{r.label(row.language)} {row.relative:.2f} times" for row in changes[:3]]
            how = "most so" if len(changes) > len(most) else "namely"
            parts.append(f"{direction} in {len(changes):,} ({how} {_and(most)})")
    if same := len(rows) - len(fewer) - len(more):
        parts.append(f"as many, within {CHANGED:.0%}, in {same:,}")
    return f"Of {len(rows):,} languages {name} takes, compared with {first}, {'; '.join(parts)}."


def _bytes(r: FertilityFindings, name: str) -> Iterator[str]:
    """Says where most tokens are single bytes, as there are no pieces for the characters."""
    rows = sorted(r.of(name), key=lambda row: -row.byte_share)
    spelled = [row for row in rows if row.byte_share > HALF]
    most = _and([f"{r.label(row.language)} ({row.byte_share:.0%})" for row in spelled[:FEW]])
    if len(spelled) > FEW:
        most = f"{len(spelled):,} languages, most so {most}"
    if spelled:
        yield f"Under {name}, more than half of the tokens are single bytes in {most}."


def _floors(r: FertilityFindings, name: str) -> Iterator[str]:
    """Says where text is cut so finely before merging that new pieces gain little."""
    rows = sorted((row for row in r.of(name) if row.spaced), key=lambda row: -row.floor)
    if cut := [row for row in rows if row.floor > CUT]:
        most = _and([f"{r.label(row.language)} ({row.floor:.2f})" for row in cut[:3]])
        yield (
            f"{name} cuts words into more than {CUT:g} parts before any merge in "
            f"{_count(len(cut), 'language')}, most so {most}: new pieces cannot go below that "
            "unless the pre-tokenizer keeps marks with their letters (pretokenizer: mark_aware)."
        )


def _words(r: FertilityFindings) -> Iterator[str]:
    """Says how many words are one token, where there are few enough languages to name each."""
    if len(r.languages) > FEW:
        return
    for name in r.tokenizers:
        rows = [row for row in r.of(name) if row.spaced]
        each = _and([f"{row.whole_words:.0%} in {r.label(row.language)}" for row in rows])
        if each:
            yield f"Words that {name} keeps as one token: {each}."


def _lost(r: FertilityFindings) -> Iterator[str]:
    bad = [row for row in r.rows if row.lost]
    if not bad:
        yield "Every text comes back from every tokenizer as it went in."
    for name in dict.fromkeys(row.tokenizer for row in bad):
        rows = sorted((row for row in bad if row.tokenizer == name), key=lambda row: -row.lost)
        most = _and([f"{r.label(row.language)} ({row.lost:,})" for row in rows[:FEW]])
        yield (
            f"Under {name}, {sum(row.lost for row in rows):,} texts of "
            f"{_count(len(rows), 'language')} do not come back as they went in"
            f"{', most' if len(rows) > FEW else ''}: {most}."
        )


def _missing(r: FertilityFindings) -> Iterator[str]:
    """Says what the numbers leave out, and why."""
    rows = r.of(r.tokenizers[0])
    if unspaced := [r.label(row.language) for row in rows if not row.spaced]:
        most = _and(unspaced[:FEW])
        most = f"such as {most}" if len(unspaced) > FEW else most
        yield (
            f"{_count(len(unspaced), 'language')} without spaces between words ({most}) "
            "have no numbers per word."
        )
    if partial := [r.label(row.language) for row in rows if r.partial(row)]:
        yield (
            f"{_count(len(partial), 'text')} may be partial, with fewer than {WHOLE:.0%} of the "
            f"lines of {r.label(r.reference)}, so that their parity is too low: {_and(partial)}."
        )
    if not r.reference:
        yield "No parity: none of the texts is in the reference language."
    elif without := [row for row in rows if row.parity is None]:
        yield (
            f"{_count(len(without), 'language')} without parity: the text has not as many lines as "
            f"that of {r.label(r.reference)}. If texts say the same as wholes, tell the report "
            "that they are parallel."
        )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _and(items: Sequence[str]) -> str:
    """Joins items as a sentence lists them; names may hold commas.

    >>> _and(["a", "b", "c"]), _and(["a, b", "c", "d"])
    ('a, b and c', 'a, b; c and d')
    """
    comma = "; " if any(", " in item for item in items) else ", "
    return " and ".join([comma.join(items[:-1]), items[-1]] if len(items) > 1 else items)
