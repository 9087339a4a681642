"""What the rows of a fertility report say, in sentences: findings for who reads nothing else."""

from collections.abc import Iterator, Sequence
import statistics

from lrl_jax.vocab import scripts
from lrl_jax.vocab.fertility_rows import Row, find

FEW = 4  # languages named one by one
HALF = 0.5
CHANGED = 0.01  # a ratio nearer to 1 is the same
HAN = {"Hani": "Han", "Hans": "Han, simplified", "Hant": "Han, traditional"}
NAMES = {**HAN, "Jpan": "Japanese", "Kore": "Korean", "Hang": "Hangul", "": "unknown"}


class Report:
    """The rows, looked up by tokenizer and language.

    Attributes:
      reference: the language of parity among them; '' where there is none.
      parity: whether any language but the reference has one.
      unit: what figures show: parity, or tokens per byte, which need no words.
    """

    def __init__(self, rows: Sequence[Row], reference: str, context: int):
        self.rows, self.context = rows, context
        self.tokenizers = list(dict.fromkeys(row.tokenizer for row in rows))
        self._rows = {(row.tokenizer, row.language): row for row in rows}
        self._labels = {row.language: row.name or row.language for row in rows}
        languages = {row.language: 1 for row in rows}
        self.reference = find(reference, languages) or ""
        self.parity = any(r.parity is not None for r in rows if r.language != self.reference)
        many = len(languages) * len(self.tokenizers) > FEW * FEW
        self.languages = list(languages)
        if many:  # one looks for a name
            self.languages.sort(key=lambda language: self.label(language).casefold())
        self.parity_unit = f"tokens relative to {self.label(self.reference)}"
        self.unit = self.parity_unit if self.parity else "tokens per byte"

    def label(self, language: str) -> str:
        return self._labels.get(language, language)

    def row(self, tokenizer: str, language: str) -> Row:
        return self._rows[tokenizer, language]

    def of(self, tokenizer: str) -> list[Row]:
        return [self.row(tokenizer, language) for language in self.languages]

    def all_values(self, tokenizer: str) -> list[tuple[Row, float]]:
        """What figures show, of every language that has it."""
        pairs = ((r, r.parity if self.parity else r.per_byte) for r in self.of(tokenizer))
        return [(row, value) for row, value in pairs if value is not None]

    def values(self, tokenizer: str) -> list[tuple[Row, float]]:
        """The same without the reference, which is 1 by definition."""
        pairs = self.all_values(tokenizer)
        return [p for p in pairs if not (self.parity and p[0].language == self.reference)]


def subtitle(r: Report) -> str:
    """What was measured."""
    codes = {row.script for row in r.rows if row.script}
    size = sum(row.bytes for row in r.of(r.tokenizers[0]))
    parts = [
        _count(len(r.tokenizers), "tokenizer"),
        _count(len(r.languages), "language"),
        _count(len(codes), "script"),
        f"{size / 1e6:.1f} MB of text" if size >= 1e5 else f"{size:,} bytes of text",
    ]
    return ", ".join(parts)


def findings(r: Report) -> list[str]:
    """A sentence a finding, those about all languages first."""
    out = list(_parities(r))
    for name in r.tokenizers[1:]:
        out += _against(r, r.tokenizers[0], name)
    for name in r.tokenizers:
        out += _bytes(r, name)
    out += _words(r)
    out += _lost(r)
    return out + list(_missing(r))


def legend(r: Report) -> Iterator[tuple[str, str]]:
    """What each column is."""
    if r.parity:
        yield (
            r.parity_unit,
            "Parity: tokens of a language divided by those of the same text in the reference "
            "language. It needs no words and compares languages; 1 is equal.",
        )
    yield (
        "tokens per word",
        "Fertility. A word is what stands between spaces, so for scripts that write none it is "
        "left empty; no text added bos or eos.",
    )
    yield (
        "words of one token",
        "Single-token retention: the share of words, each as often as it occurs, that are one "
        "token inside a sentence; for distinct words each counts once.",
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
    """What a reader calls a script.

    >>> script_name("Deva"), script_name("Hans"), script_name("Zzzz")
    ('Devanagari', 'Han, simplified', 'Zzzz')
    """
    return NAMES.get(code) or scripts.SCRIPTS.get(code, (code,))[0].capitalize()


# ---------------------------------------------------------------------------- findings
def _parities(r: Report) -> Iterator[str]:
    """How unequal the languages are under each tokenizer."""
    if not r.parity:
        return
    base = r.label(r.reference)
    for name in r.tokenizers:
        pairs = sorted(((v, r.label(row.language)) for row, v in r.values(name)), reverse=True)
        if len(pairs) <= FEW:
            each = _and([f"{language} {value:.2f}" for value, language in pairs])
            yield f"Under {name}, the tokens of {base} times: {each}."
            continue
        values = [value for value, _ in pairs]
        twice, fourfold = sum(v > 2 for v in values), sum(v > 4 for v in values)
        dear = _and([f"{language} ({value:.1f})" for value, language in pairs[:3]])
        cheap = _and([f"{language} ({value:.2f})" for value, language in pairs[:-4:-1]])
        yield (
            f"Under {name} the median of {len(values)} languages takes "
            f"{statistics.median(values):.2f} times the tokens of {base}; {twice} take more than "
            f"twice as many, {fourfold} more than four times. Dearest: {dear}. Cheapest: {cheap}."
        )


def _against(r: Report, first: str, name: str) -> Iterator[str]:
    """What a tokenizer does to languages, held against the first."""
    rows = sorted(r.of(name), key=lambda row: row.relative)
    fewer = [row for row in rows if row.relative < 1 - CHANGED]
    more = [row for row in reversed(rows) if row.relative > 1 + CHANGED]
    same = len(rows) - len(fewer) - len(more)
    if not fewer and not more:
        yield f"{name} takes as many tokens as {first} in every language."
        return
    parts = []
    for what, found in (("fewer", fewer), ("more", more)):
        if not found:
            continue
        most = _and([_times(r, row) for row in found[: FEW - 1]])
        if len(rows) <= FEW:
            parts.append(f"{what} in {most}")
        else:
            how = "most so" if len(found) >= FEW else "namely"
            parts.append(f"{what} in {_count(len(found), 'language')} ({how} {most})")
    if same:
        parts.append(f"as many, within {CHANGED:.0%}, in {same if fewer or more else 'all'}")
    yield f"{name} takes, relative to {first}: {'; '.join(parts)}."


def _times(r: Report, row: Row) -> str:
    return f"{r.label(row.language)} {row.relative:.2f}"


def _bytes(r: Report, name: str) -> Iterator[str]:
    found = sorted((row for row in r.of(name)), key=lambda row: -row.byte_share)
    found = [row for row in found if row.byte_share > HALF]
    if found:
        most = _and([f"{r.label(row.language)} ({row.byte_share:.0%})" for row in found[:FEW]])
        such = f"such as {most}" if len(found) > FEW else most
        yield (
            f"Under {name}, more than half of the tokens are single bytes in "
            f"{_count(len(found), 'language')}: {such}."
        )


def _words(r: Report) -> Iterator[str]:
    """How many words are one token, where there are few enough languages to say it of each."""
    if len(r.languages) > FEW:
        return
    for name in r.tokenizers:
        rows = [row for row in r.of(name) if row.spaced]
        each = _and([f"{row.whole_words:.0%} in {r.label(row.language)}" for row in rows])
        if each:
            yield f"Words that {name} keeps as one token: {each}."


def _lost(r: Report) -> Iterator[str]:
    bad = [row for row in r.rows if row.lost]
    if not bad:
        yield "Every text comes back from every tokenizer as it went in."
    for name in dict.fromkeys(row.tokenizer for row in bad):
        rows = sorted((row for row in bad if row.tokenizer == name), key=lambda row: -row.lost)
        most = _and([f"{r.label(row.language)} ({row.lost:,})" for row in rows[:FEW]])
        yield (
            f"Under {name}, {sum(row.lost for row in rows):,} texts of "
            f"{_count(len(rows), 'language')} do not come back as they went in: "
            f"{'most in ' if len(rows) > FEW else ''}{most}."
        )


def _missing(r: Report) -> Iterator[str]:
    """What the numbers leave out, and why."""
    rows = r.of(r.tokenizers[0])
    if unspaced := [r.label(row.language) for row in rows if not row.spaced]:
        most = _and(unspaced[:FEW]) if len(unspaced) <= FEW else f"{', '.join(unspaced[:FEW])}, ..."
        yield (
            f"{_count(len(unspaced), 'language')} without spaces between words ({most}) "
            "have no numbers per word."
        )
    if not r.reference:
        yield "No parity: none of the texts is in the reference language."
    elif without := [row for row in rows if row.parity is None]:
        yield (
            f"{_count(len(without), 'language')} without parity: the text has not as many lines as "
            f"that of {r.label(r.reference)}. If texts say the same as wholes, tell the report they "
            "are parallel."
        )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _and(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
