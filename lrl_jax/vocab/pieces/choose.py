"""Chooses new pieces of a vocabulary: by continuing the base's merges, by count, by budget.

    found = continued(lines, 8000, scripts=("Hang",), coverage=0.9995, base=base)
    found = frequent(lambda: read_many(files), scripts=("Hang",), base=base, min_count=6000)
    enough = fewest(base, found, korean, english, parity=1.5).pieces

All of it works on what a family knows of words and pieces, so on any family of tokenizers.
"""

import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import itertools
import re

from lrl_jax.text import DataError
from lrl_jax.vocab import scripts as writing
from lrl_jax.vocab.pieces import learn
from lrl_jax.vocab.pieces.splice import join, prune
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer

BATCH = 1 << 16  # words cut into pieces at a time
FIRST = 0x10000  # from here on no character is a space, a control or a surrogate
SPARE = 256  # merges learnt beyond those asked for, as some turn out to be of no use
INTERMEDIATE = 40_000  # pieces of the vocabulary candidates are taken from (arXiv 2402.14714)


# ---------------------------------------------------------------------------- continued BPE
def continued(
    texts: Iterable[str],
    count: int,
    scripts: Sequence[str],
    coverage: float,
    base: Tokenizer,
    min_count: int = 2,
) -> list[str]:
    """Learns pieces by continuing BPE where the base's merges end (arXiv 2512.03989).

    Characters the base has no piece for come first, then merges in the order they are learnt; a
    merge never reaches over what is not written in `scripts`. Every piece encodes to itself, and
    so it does in every beginning of the list, which may be cut anywhere.

    Args:
      texts: text of the new language, one text a line; read once.
      count: how many pieces at most.
      scripts: ISO 15924 codes, such as ("Hang",).
      coverage: share of all characters that may get a piece of their own.
      min_count: joins seen fewer times than this are not learnt, nor are characters.

    Raises:
      ValueError: an unknown script, or no text in these scripts.
    """
    scripts, tokenizer_family = tuple(scripts), family(base)
    words = tokenizer_family.words(base, texts)
    stretches, names = _stretches(base, words, scripts)
    base_pieces = set(tokenizer_family.pieces(base))
    bare = [piece for piece in names if piece not in base_pieces]
    letters = dict.fromkeys(_letters(base, words, scripts, coverage, min_count) if bare else ())
    stretches = _split(stretches, [names[piece] for piece in bare if piece not in letters])
    merges = learn.merges(stretches, count + count // 8 + SPARE, min_count)
    own = {name: piece for piece, name in names.items()}
    joined = ["".join(own[name] for name in left + right) for left, right in merges]
    return _usable(base, [*letters, *joined], scripts)[:count]


def _stretches(
    base: Tokenizer, words: Mapping[str, int], scripts: tuple[str, ...]
) -> tuple[Counter[str], dict[str, str]]:
    """Cuts words, as the base spells them, where a piece is not written in the scripts.

    Returns:
      Stretches and how often each occurs, a character for every piece; piece -> its character.
    """
    tokenizer_family = family(base)
    surface = functools.cache(tokenizer_family.surface)
    names: dict[str, str] = {}
    stretches: Counter[str] = Counter()
    distinct = list(words)
    for start in range(0, len(distinct), BATCH):
        batch = distinct[start : start + BATCH]
        for word, parts in zip(batch, tokenizer_family.segments(base, batch), strict=True):
            for stretch in _allowed(parts, [surface(piece) for piece in parts], scripts):
                name = "".join(names.setdefault(p, chr(FIRST + len(names))) for p in stretch)
                stretches[name] += words[word]
    if not stretches:
        raise DataError(writing.nothing_in(scripts))
    return stretches, names


def _allowed(
    parts: Sequence[str], surfaces: Sequence[bytes], scripts: tuple[str, ...]
) -> Iterator[Sequence[str]]:
    """Yields stretches of a word's pieces that are all in the scripts; a word may begin with a
    space.

    >>> parts = ["▁", "K", "팝", "송"]
    >>> list(_allowed(parts, [b" ", *(part.encode() for part in parts[1:])], ("Hang",)))
    [['팝', '송']]
    """
    text = b"".join(surfaces).decode()
    ends = list(itertools.accumulate(map(len, surfaces)))
    at = [
        (piece, end - len(surface), end)
        for piece, surface, end in zip(parts, surfaces, ends, strict=True)
    ]
    for opens, closes in writing.stretches(text, scripts):
        first, last = len(text[:opens].encode()), len(text[:closes].encode())
        inside = [piece for piece, start, end in at if first <= start and end <= last]
        if inside:
            yield inside


def _letters(
    base: Tokenizer,
    words: Mapping[str, int],
    scripts: tuple[str, ...],
    coverage: float,
    min_count: int,
) -> list[str]:
    """Returns characters of the scripts that the base has no piece for, most frequent first.

    Those of one that cannot be built of two parts, as in bytes, come before it.
    """
    tokenizer_family = family(base)
    seen: Counter[str] = Counter()
    for word, n in words.items():
        for c in _written(word, tokenizer_family.surface(word)):
            seen[c] += n
    in_scripts = [
        c for c in seen if writing.written_in(tokenizer_family.surface(c).decode(), scripts)
    ]
    ranked = sorted(in_scripts, key=lambda c: (-seen[c], c))
    enough, covered = coverage * sum(seen[c] for c in ranked), 0
    base_pieces = set(tokenizer_family.pieces(base))
    missing = []
    for c in ranked:
        if covered >= enough or seen[c] < min_count:
            break
        covered += seen[c]
        if c not in base_pieces:
            missing.append(c)
    steps = (itertools.accumulate(parts) for parts in tokenizer_family.segments(base, missing))
    return [step for line in steps for step in line if step not in base_pieces]


def _written(word: str, surface: bytes) -> Iterator[str]:
    """Yields the characters of a word as its family writes them: one for each, or one for each
    byte.

    >>> list(_written("▁é", " é".encode())), list(_written("ĠÃ©", " é".encode()))
    (['▁', 'é'], ['Ġ', 'Ã©'])
    """
    text = surface.decode()
    if len(text) == len(word):
        yield from word
        return
    at = 0
    for c in text:
        size = len(c.encode())
        yield word[at : at + size]
        at += size


def _split(stretches: Mapping[str, int], apart: Sequence[str]) -> Mapping[str, int]:
    """Returns the stretches cut at the names in `apart`, which drop out."""
    if not apart:
        return stretches
    gap, cut = re.compile(f"[{''.join(apart)}]+"), Counter[str]()
    for name, n in stretches.items():
        for rest in gap.split(name):
            cut[rest] += n
    return cut


def _usable(base: Tokenizer, pieces: Sequence[str], scripts: tuple[str, ...]) -> list[str]:
    """Returns the pieces in the scripts that the base and earlier pieces can be joined to, in
    order.
    """
    tokenizer_family = family(base)
    base_pieces = set(tokenizer_family.pieces(base))
    fresh = [
        p
        for p in dict.fromkeys(pieces)
        if p not in base_pieces and learn.fits(tokenizer_family.surface(p), scripts)
    ]
    ranks: dict[str, int] = {}
    for piece, parts in zip(fresh, tokenizer_family.segments(base, fresh), strict=True):
        ranks[piece] = len(ranks)
        whole = all(below in base_pieces or below in ranks for below in parts)
        if not whole or join(parts, ranks)[0] != [piece]:
            del ranks[piece]
    return list(ranks)


# ---------------------------------------------------------------------------- by count
def frequent(
    texts: Callable[[], Iterable[str]],
    scripts: Sequence[str],
    base: Tokenizer,
    min_count: int,
    size: int = INTERMEDIATE,
) -> list[str]:
    """Returns pieces of a large vocabulary that the extended tokenizer emits often (EEVE,
    2402.14714).

    Candidates are the pieces of an intermediate vocabulary and every single character (syllable)
    the base lacks; what is emitted fewer than `min_count` times goes, until nothing changes.
    Parts that kept pieces are joined from stay.

    Args:
      texts: gives text of the new language, one text a line; called three times.
      scripts: ISO 15924 codes, such as ("Hang",).
      size: how many pieces the intermediate vocabulary adds.

    Raises:
      ValueError: an unknown script, or no text in these scripts (DataError).
    """
    scripts = tuple(scripts)
    words = family(base).words(base, texts())
    letters = _letters(base, words, scripts, 1.0, min_count)
    candidates = learn.pieces(texts(), size, scripts, 1.0, base)
    return prune(base, [*letters, *candidates], texts(), min_count)


# ---------------------------------------------------------------------------- by budget
@dataclasses.dataclass(frozen=True)
class Budget:
    """Holds the fewest pieces that bring a language near the reference language.

    Attributes:
      parity: tokens of the text with `pieces`, relative to tokens of the reference text.
      before: the same with the base as it is.
      floor: the same if every word were one token, which no piece can better.
    """

    pieces: list[str]
    parity: float
    before: float
    floor: float


def fewest(
    base: Tokenizer,
    pieces: Sequence[str],
    texts: Sequence[str],
    reference: Sequence[str],
    parity: float,
) -> Budget:
    """Finds the shortest beginning of `pieces` with tokens(texts) <= parity x tokens(reference).

    Args:
      pieces: best first; every beginning of the list must do by itself.
      texts: text of the new language, not what the pieces were learnt from.
      reference: what the same says in the reference language, which the pieces leave alone.

    Raises:
      ValueError: no text, or a parity that all of the pieces together do not reach.
    """
    tokenizer_family = family(base)
    whole, words = _tokens(base, reference), tokenizer_family.words(base, texts)
    if not whole or not words:
        raise ValueError("a budget by parity needs text of the new and of the reference language")
    floor = sum(words.values()) / whole

    @functools.cache
    def at(count: int) -> float:
        extended = tokenizer_family.extend(base, pieces[:count]) if count else base
        return _tokens(extended, texts) / whole

    if at(len(pieces)) > parity:
        raise ValueError(_out_of_reach(parity, at(len(pieces)), len(pieces), floor))
    count = bisect.bisect_left(range(len(pieces) + 1), True, key=lambda n: at(n) <= parity)
    return Budget(list(pieces[:count]), at(count), at(0), floor)


def _tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    return sum(map(len, tokenizer.encode_batch(texts)))


def _out_of_reach(parity: float, best: float, count: int, floor: float) -> str:
    why = (
        f"no pieces go below {floor:.2f}, one token for each stretch the base's pre-tokenizer cuts"
        if floor > parity
        else f"one token a word would be {floor:.2f}"
    )
    return (
        f"a parity of {parity:g} is out of reach: all {count:,} pieces give {best:.2f}, and {why}; "
        "ask for a higher parity, or give more text and more pieces"
    )
