"""Measures how many tokens a language costs under each tokenizer.

    texts = texts_in("udhr")
    rows = measure({"llama2": old, "new": new}, texts)

A word is what stands between spaces. For scripts that write no spaces (`FertilityRow.spaced`), read
tokens per character, or parity: tokens relative to the reference language on aligned text.
`report/fertility` writes the rows as JSON, CSV, a plot and a page.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
import csv
import dataclasses
import itertools
import re

from etils import epath
from rich import box
from rich.table import Table

from lrl_jax import terminal
from lrl_jax import text as text_lines
from lrl_jax.data.read import plain
from lrl_jax.recipe import languages
from lrl_jax.vocab import scripts
from lrl_jax.vocab.tokenizer import byte_level, piece_model
from lrl_jax.vocab.tokenizer.codecs import BYTE, SPACE
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer, batches

REFERENCE = "eng_Latn"
BLOCK = 4096  # texts encoded at a time: a language of millions of lines is never held as ids
# Characters a word; in the UDHR the longest words are Greenlandic's, 15.6, and the shortest
# stretches without spaces Khmer's, 20.1.
UNSPACED = 18.0
UNKNOWN = 0.01  # share of unknown characters from which a tokenizer is not compared
# Tokens at which causal attention (2 L D n^2) costs what the weights do (2 P n): P / (L D), here
# of Llama 2 7B (arXiv 2307.09288), whose matrices hold 6.607e9 numbers in 32 layers of width 4096.
BALANCE = 50_410
INDEX = "index.tsv"
LOOK = 2000  # characters that tell the script


@dataclasses.dataclass(frozen=True)
class LanguageText:
    """Holds the lines of one language; `name` and `script` (ISO 15924) are for the reader."""

    lines: Sequence[str]
    name: str = ""
    script: str = ""


@dataclasses.dataclass(frozen=True)
class FertilityRow:
    """Holds the counts of one tokenizer on one language.

    Attributes:
      parity: tokens relative to the reference language; None where their texts do not align.
      relative: tokens relative to the first tokenizer on the same text. Generating the same text
        takes this many times as many steps, and as much memory for keys and values.
      whole_types: share of the different words that are one token (single-token retention, STRR).
      whole_words: the same share of all words, each counted as often as it occurs.
      byte_share: share of tokens that are one byte of a character with several.
      unknown: share of characters that no token stands for (`<unk>`). What a tokenizer does not
        know costs it nothing, so from UNKNOWN on its other numbers are no measure of cost.
      floor: pre-tokens per word. No merge joins two pre-tokens, so tokens per word cannot go below.
        Pre-tokenizers that cut at combining marks put it far above 1.
      lost: how many texts do not survive encoding and decoding.
    """

    tokenizer: str
    language: str
    name: str
    script: str
    lines: int
    words: int
    characters: int
    bytes: int
    tokens: int
    per_word: float
    per_character: float
    per_byte: float
    per_line: float
    parity: float | None
    relative: float
    whole_types: float
    whole_words: float
    byte_share: float
    floor: float
    lost: int
    unknown: float = 0.0

    @property
    def comparable(self) -> bool:
        """Tells whether the tokenizer knows enough of the language to be ranked by its tokens."""
        return self.unknown < UNKNOWN

    @property
    def spaced(self) -> bool:
        """Tells whether the language puts spaces between words, by its script and their length.

        The length alone does not tell: in Burmese spaces part phrases, which are short enough.
        """
        return scripts.spaced(self.script) and self.characters < UNSPACED * self.words

    def words_in(self, context: int) -> int:
        """Returns how many words of the language fit into `context` tokens."""
        return int(context / self.per_word)


def measure(
    tokenizers: Mapping[str, Tokenizer],
    texts: Mapping[str, LanguageText],
    reference: str = REFERENCE,
    *,
    parallel: bool = False,
) -> list[FertilityRow]:
    """Measures every tokenizer on every language, in the order given: a row for each of both.

    Args:
      texts: language -> text. Texts of as many lines as the reference's are taken to say the same.
      parallel: all texts say the same as wholes, however many lines they take.
    """
    words = {language: _words(language, text) for language, text in texts.items()}
    distinct_words = list(dict.fromkeys(word for count in words.values() for word in count))
    base = find(reference, texts)
    aligned = {
        language
        for language, text in texts.items()
        if base is not None and (parallel or len(text.lines) == len(texts[base].lines))
    }
    rows: list[FertilityRow] = []
    first: dict[str, FertilityRow] = {}
    for name, tokenizer in tokenizers.items():
        row_of = _counter(name, tokenizer, distinct_words)
        own = {code: row_of(code, text, words[code]) for code, text in texts.items()}
        first = first or own
        unit = 1 if base is None else max(own[base].tokens, 1)
        for language, row in own.items():
            parity = row.tokens / unit if language in aligned else None
            relative = row.tokens / max(first[language].tokens, 1)
            rows.append(dataclasses.replace(row, parity=parity, relative=relative))
    return rows


def report(
    tokenizers: Mapping[str, Tokenizer],
    texts: Mapping[str, Sequence[str]],
    reference: str = REFERENCE,
) -> list[FertilityRow]:
    """Measures lines of text as `measure` does; aligned with the reference's they have a parity."""
    named = {
        language: LanguageText(lines, languages.name_of(language), _script(language, lines))
        for language, lines in texts.items()
    }
    return measure(tokenizers, named, reference)


def table(rows: Sequence[FertilityRow]) -> Table:
    """Returns the rows as a table for the terminal.

    Languages without spaces have no numbers per word. Where a tokenizer does not know the language
    its numbers are in brackets.
    """
    numbers = ("word", "character", "byte", "line", "parity", "one token", "unknown")
    columns = ("tokenizer", "language", *numbers)
    style = {"title": "tokens per ...", "box": box.SIMPLE_HEAD, "padding": 0}
    out = terminal.FittedTable(*columns, numbers=numbers, **style)
    for row in rows:
        counts = (
            f"{row.per_word:.2f}" if row.spaced else "",
            f"{row.per_character:.3f}",
            f"{row.per_byte:.3f}",
            f"{row.per_line:.1f}",
            "" if row.parity is None else f"{row.parity:.2f}",
            f"{row.whole_words:.0%}" if row.spaced else "",
        )
        shown = counts if row.comparable else [n and f"({n})" for n in counts]
        language = row.language if row.name in ("", row.language) else f"{row.language} {row.name}"
        out.add_row(row.tokenizer, language, *shown, f"{row.unknown:.1%}")
    if any(not row.comparable for row in rows):
        out.caption = f"in brackets: {UNKNOWN:.0%} of the characters or more are unknown"
    return out


def find(reference: str, languages: Mapping[str, object]) -> str | None:
    """Finds the language that `reference` means: itself, or the one that differs only in script.

    >>> find("eng_Latn", {"eng": 1, "kor": 2}), find("eng", {"eng_Latn": 1}), find("eng", {})
    ('eng', 'eng_Latn', None)
    """
    if reference in languages:
        return reference
    same = [language for language in languages if _code(language) == _code(reference)]
    return same[0] if len(same) == 1 else None


def prefill(ratio: float, context: int, balance: int = BALANCE) -> float:
    """Returns the compute to read `ratio * context` tokens, relative to reading `context` tokens.

    n tokens cost n (1 + n / balance): the weights for each token, and attention to all before it.

    >>> prefill(2.0, context=100, balance=100)
    3.0
    """
    return ratio * (1 + ratio * context / balance) / (1 + context / balance)


def _counter(
    name: str, tokenizer: Tokenizer, distinct_words: Sequence[str]
) -> Callable[[str, LanguageText, Counter[str]], FertilityRow]:
    """Returns a function that counts a language; the tokenizer is inspected only once."""
    tokenizer_family, singles = family(tokenizer), _singles(tokenizer)
    normal, whole = tokenizer_family.normal(tokenizer), _whole(tokenizer, distinct_words)
    unknown = _unknown(tokenizer)

    def row(language: str, text: LanguageText, words: Counter[str]) -> FertilityRow:
        tokens = single = stretches = lost = absent = 0
        for block in batches(text.lines, BLOCK):
            stretches += tokenizer_family.words(tokenizer, block).total()
            for line, ids in zip(block, tokenizer.encode_batch(block), strict=True):
                tokens += len(ids)
                single += sum(i in singles for i in ids)
                if tokenizer.decode(ids) != normal(line):
                    lost += 1
                    stays = tokenizer.decode(i for i in ids if i not in unknown)
                    absent += max(len(normal(line)) - len(stays), 0)
        total, characters = words.total(), sum(map(len, text.lines))
        size = sum(len(line.encode()) for line in text.lines)
        return FertilityRow(
            tokenizer=name,
            language=language,
            name=text.name,
            script=text.script,
            lines=len(text.lines),
            words=total,
            characters=characters,
            bytes=size,
            tokens=tokens,
            per_word=tokens / total,
            per_character=tokens / characters,
            per_byte=tokens / size,
            per_line=tokens / len(text.lines),
            parity=None,
            relative=1.0,
            whole_types=sum(word in whole for word in words) / len(words),
            whole_words=sum(count for word, count in words.items() if word in whole) / total,
            byte_share=single / max(tokens, 1),
            floor=stretches / total,
            lost=lost,
            unknown=min(absent / characters, 1.0),
        )

    return row


def _singles(tokenizer: Tokenizer) -> frozenset[int]:
    """Returns the ids of single bytes that are not characters by themselves."""
    tokenizer_family = family(tokenizer)
    pieces = enumerate(tokenizer_family.pieces(tokenizer))
    if tokenizer.family == "sentencepiece":
        return frozenset(i for i, piece in pieces if BYTE.fullmatch(piece))
    short = ((i, tokenizer_family.surface(piece)) for i, piece in pieces if len(piece) == 1)
    return frozenset(i for i, byte in short if byte >= b"\x80")


def _unknown(tokenizer: Tokenizer) -> frozenset[int]:
    """Returns the ids of tokens that stand for whatever the tokenizer does not know."""
    if tokenizer.family == "sentencepiece":
        pieces = enumerate(piece_model.proto_of(tokenizer).pieces)
        return frozenset(i for i, piece in pieces if piece.type == piece.UNKNOWN)
    name = byte_level.tree_of(tokenizer)["model"].get("unk_token")
    return frozenset(i for i, p in enumerate(family(tokenizer).pieces(tokenizer)) if p == name)


def _whole(tokenizer: Tokenizer, words: Sequence[str]) -> set[str]:
    """Returns the words that are one token when they stand inside a sentence."""
    if tokenizer.family == "sentencepiece":
        ids = family(tokenizer).spell(tokenizer, [SPACE + word for word in words])
    else:
        ids = tokenizer.encode_batch([f" {word}" for word in words])
    return {word for word, spelt in zip(words, ids, strict=True) if len(spelt) == 1}


def _words(language: str, text: LanguageText) -> Counter[str]:
    words = Counter(word for line in text.lines for word in line.split())
    if not words:
        raise ValueError(f"{language}: has no text; the fertility report needs some of every one")
    return words


def _code(language: str) -> str:
    return re.split("[_-]", language, maxsplit=1)[0]


# ---------------------------------------------------------------------------- reading
def texts_in(folder: epath.PathLike) -> dict[str, LanguageText]:
    """Reads the text of every language in a folder: a file for each, or a subfolder of files.

    The language is the name without its suffix; where files differ in their suffix alone (dev.en,
    dev.ne) the suffix is. An index.tsv with the columns file, iso639_3, script and name, as UDHR
    collections have, names them instead. A folder without text, two files of one language, or text
    that cannot be read is a ValueError.
    """
    folder = epath.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; want one with a text file a language")
    entries = [path for path in sorted(folder.iterdir()) if path.name[0] != "."]
    index = _index(folder / INDEX) if folder / INDEX in entries else {}
    entries = [path for path in entries if path.name != INDEX]
    if not entries:
        raise ValueError(f"{folder}: is empty; want a text file a language")
    out = {}
    for path, language in zip(entries, _languages(entries, index), strict=True):
        if language in out:
            raise ValueError(f"{path}: is a second text of {language!r}; make it a folder of files")
        lines = list(plain.lines(*_files(path)))
        entry = index.get(path.name, {})
        script = entry.get("script") or _script(language, lines)
        name = entry.get("name") or languages.name_of(language)
        out[language] = LanguageText(lines, name, script)
    return out


def _languages(paths: Sequence[epath.Path], index: Mapping[str, Mapping[str, str]]) -> list[str]:
    unpacked = [path.name.removesuffix(".gz") for path in paths]
    stems = [name.rsplit(".", 1)[0] for name in unpacked]
    if len(set(stems)) == 1 and len(paths) > 1:
        return [name.rsplit(".", 1)[-1] for name in unpacked]
    codes = {name: f"{entry['iso639_3']}_{entry['script']}" for name, entry in index.items()}
    count = Counter(codes.values())
    indexed = (codes.get(path.name, "") for path in paths)
    return [code if count[code] == 1 else stem for code, stem in zip(indexed, stems, strict=True)]


def _index(path: epath.Path) -> dict[str, dict[str, str]]:
    rows = csv.DictReader(text_lines.lines(str(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    wanted = {"file", "iso639_3", "script", "name"}
    if missing := wanted - set(rows.fieldnames or ()):
        raise ValueError(f"{path}: has no column {', '.join(sorted(missing))}; see `texts_in`")
    return {row["file"]: row for row in rows}


def _files(path: epath.Path) -> list[str]:
    """Returns the file itself, or all files of a folder."""
    if not path.is_dir():
        return [str(path)]
    visible = (file for file in sorted(path.iterdir()) if file.name[0] != ".")
    files = [str(file) for file in visible if not file.is_dir()]
    if not files:
        raise ValueError(f"{path}: is a folder without files; want the text of a language")
    return files


def _script(language: str, lines: Sequence[str]) -> str:
    """Returns the script that a FLORES code ends in, or else the script of most letters."""
    if named := re.search(r"[_-]([A-Z][a-z]{3})$", language):
        return named[1]
    letters = itertools.chain.from_iterable(lines)
    return scripts.of("".join(itertools.islice(letters, LOOK)))
