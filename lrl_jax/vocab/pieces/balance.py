"""Shares a budget of new pieces out among languages, so that the same content costs each as much.

Parity-aware BPE (arXiv 2508.04796): the next piece goes to the language whose lines of parallel
text take the most tokens. Each language has pieces of its own, best first, learnt from its own text
(`choose.continued`, `learn.pieces`); here is decided only whose piece comes next.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
import dataclasses
import itertools

from lrl_jax.text import DataError
from lrl_jax.vocab.pieces.splice import join
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer


@dataclasses.dataclass(frozen=True)
class LanguageCost:
    """Holds what the parallel lines of one language cost.

    Attributes:
      pieces: new pieces that were learnt from the language's text.
      before: tokens of its lines under the base.
      after: the same under the new tokenizer.
    """

    language: str
    pieces: int
    before: int
    after: int


def shared(
    base: Tokenizer,
    ranked: Mapping[str, Sequence[str]],
    parallel: Mapping[str, Sequence[str]],
    count: int,
) -> dict[str, str]:
    """Chooses pieces for the language that costs most, one after the other.

    Letters that the base lacks come first, of all languages: without them text is spelled in bytes.
    A language whose pieces are used up stays as it is, and the next dearest takes its place. Of
    equally dear languages the first is served. Returns the pieces in order, each with its language.

    Args:
      ranked: language -> its pieces, best first; every beginning of them does by itself.
      parallel: language -> lines that say the same in every language.
      count: how many pieces; fewer than there are letters is a ValueError.
    """
    chosen = _letters(base, ranked)
    if len(chosen) > count:
        letters = Counter(chosen.values())
        each = ", ".join(f"{language} {n:,}" for language, n in letters.items())
        raise ValueError(
            f"vocab.pieces: {count:,} are fewer than the {len(chosen):,} letters that the base "
            f"lacks ({each}); ask for more pieces, or lower vocab.character_coverage"
        )
    costs = _Costs(base, parallel)
    for piece in chosen:
        costs.add(piece)
    left = {
        language: iter([piece for piece in pieces if piece not in chosen])
        for language, pieces in ranked.items()
    }
    while left and len(chosen) < count:
        dearest = max(left, key=lambda language: costs.tokens[language])
        piece = next((piece for piece in left[dearest] if piece not in chosen), "")
        if not piece:
            del left[dearest]
            continue
        chosen[piece] = dearest
        costs.add(piece)
    return chosen


def interleaved(ranked: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns the pieces of all languages once, those of the same rank beside one another.

    >>> interleaved({"a": ["x", "y"], "b": ["z", "x", "w"]})
    ['x', 'z', 'y', 'w']
    """
    rows = itertools.zip_longest(*ranked.values())
    return list(dict.fromkeys(piece for row in rows for piece in row if piece is not None))


def costs(
    base: Tokenizer,
    new: Tokenizer,
    chosen: Mapping[str, str],
    parallel: Mapping[str, Sequence[str]],
) -> list[LanguageCost]:
    """Returns what the parallel lines cost each language before and after.

    `chosen` gives the language of each new piece; those that `new` lacks are not counted.
    """
    kept = set(family(new).pieces(new))
    owned = Counter(language for piece, language in chosen.items() if piece in kept)
    return [
        LanguageCost(language, owned[language], _tokens(base, lines), _tokens(new, lines))
        for language, lines in parallel.items()
    ]


def spread(tokens: Sequence[int]) -> float:
    """Returns how many times the tokens of the cheapest language the dearest takes."""
    return max(tokens) / max(min(tokens), 1)


def refuse_unaligned(parallel: Mapping[str, Sequence[str]]) -> None:
    """Raises DataError for texts that cannot say the same, line by line."""
    if empty := [language for language, lines in parallel.items() if not any(lines)]:
        raise DataError(f"vocab.parallel.{empty[0]}: holds no text; parity needs lines of each")
    lengths = {language: len(lines) for language, lines in parallel.items()}
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{language} {n:,}" for language, n in lengths.items())
        raise DataError(
            f"vocab.parallel: texts of unequal numbers of lines: {each}; give files in which each "
            "line says the same in every language"
        )


def _tokens(tokenizer: Tokenizer, lines: Sequence[str]) -> int:
    return sum(map(len, tokenizer.encode_batch(lines)))


def _letters(base: Tokenizer, ranked: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Returns the single characters among the pieces, each with the first language that has it."""
    if base.family == "byte_level":  # bytes spell every letter
        return {}
    letters: dict[str, str] = {}
    for language, pieces in ranked.items():
        for piece in pieces:
            if len(piece) == 1:
                letters.setdefault(piece, language)
    return letters


class _Costs:
    """Counts the tokens of every language's lines while pieces are added, the best first.

    A new piece ranks below all others, so only words are joined again that have it already: as two
    neighbours, or as a letter that was spelled in bytes.

    Attributes:
      tokens: language -> tokens of its lines.
    """

    def __init__(self, base: Tokenizer, parallel: Mapping[str, Sequence[str]]):
        tokenizer_family = family(base)
        self._ranks: dict[str, int] = {}
        self._joined: list[list[str]] = []
        self._occurs: list[tuple[str, int]] = []
        self._holders: defaultdict[str, set[int]] = defaultdict(set)
        self.tokens = dict.fromkeys(parallel, 0)
        for language, lines in parallel.items():
            words = tokenizer_family.words(base, lines)
            self._joined += tokenizer_family.segments(base, list(words))
            self._occurs += [(language, n) for n in words.values()]
        base_pieces = set(tokenizer_family.pieces(base))
        bare = [*{piece for parts in self._joined for piece in parts} - base_pieces]
        self._bytes = dict(zip(bare, map(len, tokenizer_family.spell(base, bare)), strict=True))
        for i, parts in enumerate(self._joined):
            self._count(i, 1)
            self._index(i, [*parts, *map("".join, itertools.pairwise(parts))])

    def add(self, piece: str) -> None:
        """Adds a piece, which ranks below all that were added before."""
        self._ranks[piece] = len(self._ranks)
        words = self._holders.pop(piece, set())
        for i in words:
            self._count(i, -1)
        self._bytes.pop(piece, None)
        for i in words:
            self._joined[i], _ = join(self._joined[i], self._ranks)
            self._count(i, 1)
            self._index(i, map("".join, itertools.pairwise(self._joined[i])))

    def _count(self, i: int, sign: int) -> None:
        language, n = self._occurs[i]
        each = (self._bytes.get(piece, 1) for piece in self._joined[i])
        self.tokens[language] += sign * n * sum(each)

    def _index(self, i: int, pieces) -> None:
        for piece in pieces:
            if piece not in self._ranks:
                self._holders[piece].add(i)
