"""Chooses new pieces of a vocabulary: by continuing the base's merges, by count, by budget.

All of it works on what a family knows of words and pieces, so on any family of tokenizers.
"""

import bisect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import itertools
import re

from lrl_jax.text import DataError
from lrl_jax.vocab import scripts as writing
from lrl_jax.vocab.pieces import learn
from lrl_jax.vocab.pieces.splice import join, prune, unknown
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.piece_model import splits_digits
from lrl_jax.vocab.tokenizer.types import Tokenizer, batches

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

    Arguments and errors are those of `learn.pieces`. Joins and characters seen fewer than
    `min_count` times are not learnt.
    """
    scripts, tokenizer_family = tuple(scripts), family(base)
    words = tokenizer_family.words(base, texts)
    stretches, names = _stretches(base, words, scripts)
    base_pieces = set(tokenizer_family.pieces(base))
    bare = [piece for piece in names if piece not in base_pieces]
    marks = learn.marks(base, words, scripts, min_count)
    letters = dict.fromkeys(_letters(base, words, scripts, coverage, min_count) if bare else ())
    letters |= dict.fromkeys(marks)
    stretches = _split(stretches, [names[piece] for piece in bare if piece not in letters])
    merges = learn.merges(stretches, count + count // 8 + SPARE, min_count)
    own = {name: piece for piece, name in names.items()}
    joined = ["".join(own[name] for name in left + right) for left, right in merges]
    return _usable(base, [*letters, *joined], scripts, marks)[:count]


def _stretches(
    base: Tokenizer, words: Mapping[str, int], scripts: tuple[str, ...]
) -> tuple[Counter[str], dict[str, str]]:
    """Cuts words, as the base spells them, where a piece is not written in the scripts.

    Returns how often each stretch occurs, a character for every piece, and piece -> its character.
    """
    tokenizer_family = family(base)
    apart = base.family == "sentencepiece" and splits_digits(base)
    surface = functools.cache(tokenizer_family.surface)
    names: dict[str, str] = {}
    stretches: Counter[str] = Counter()
    for batch in batches(words, BATCH):
        for word, parts in zip(batch, tokenizer_family.segments(base, batch), strict=True):
            allowed = _allowed(parts, [surface(piece) for piece in parts], scripts)
            for stretch in itertools.chain(*map(_digits_alone, allowed)) if apart else allowed:
                name = "".join(names.setdefault(p, chr(FIRST + len(names))) for p in stretch)
                stretches[name] += words[word]
    if not stretches:
        raise DataError(writing.nothing_in(scripts))
    return stretches, names


def _allowed(
    parts: Sequence[str], surfaces: Sequence[bytes], scripts: tuple[str, ...]
) -> Iterator[Sequence[str]]:
    """Yields stretches of a word's pieces that are all in the scripts.

    >>> parts = ["▁", "K", "팝", "송"]
    >>> list(_allowed(parts, [b" ", *(part.encode() for part in parts[1:])], ("Hang",)))
    [['팝', '송']]
    """
    ends = [0, *itertools.accumulate(map(len, surfaces))]
    for start, stop in writing.stretches(b"".join(surfaces), scripts):
        first, last = bisect.bisect_left(ends, start), bisect.bisect_right(ends, stop) - 1
        if first < last:
            yield parts[first:last]


def _digits_alone(stretch: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cuts a stretch of pieces before and after each that is a digit."""
    for digits, group in itertools.groupby(stretch, writing.is_digit):
        pieces = list(group)
        yield from ([piece] for piece in pieces) if digits else [pieces]


def _letters(
    base: Tokenizer,
    words: Mapping[str, int],
    scripts: tuple[str, ...],
    coverage: float,
    min_count: int,
) -> list[str]:
    """Returns characters of the scripts that the base has no piece for, most frequent first.

    Parts of characters come as `learn.missing` says.
    """
    tokenizer_family = family(base)
    seen: Counter[str] = Counter()
    for word, n in words.items():
        for c in tokenizer_family.surface(word).decode():
            seen[c] += n
    in_scripts = (c for c in seen if writing.written_in(c, scripts))
    written = {tokenizer_family.written(c.encode()): seen[c] for c in in_scripts}
    enough, covered = coverage * sum(written.values()), 0
    taken = []
    for c in sorted(written, key=lambda c: (-written[c], c)):
        if covered >= enough or written[c] < min_count:
            break
        covered += written[c]
        taken.append(c)
    return learn.missing(base, taken)


def _split(stretches: Mapping[str, int], apart: Sequence[str]) -> Mapping[str, int]:
    """Returns the stretches cut at the names in `apart`, which drop out."""
    if not apart:
        return stretches
    gap, cut = re.compile(f"[{''.join(apart)}]+"), Counter[str]()
    for name, n in stretches.items():
        for rest in gap.split(name):
            cut[rest] += n
    return cut


def _usable(
    base: Tokenizer, pieces: Sequence[str], scripts: tuple[str, ...], marks: Collection[str] = ()
) -> list[str]:
    """Returns the pieces in the scripts that the base and earlier pieces can be joined to.

    So are pieces of nothing but `marks`, which are of no script.
    """
    tokenizer_family = family(base)
    base_pieces = set(tokenizer_family.pieces(base))
    fresh = [
        piece
        for piece in unknown(base, pieces)
        if piece in marks
        or learn.fits(tokenizer_family.surface(piece), scripts)
        or (base.family == "sentencepiece" and set(piece) <= set(marks))
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
    """Returns pieces of a large vocabulary that are emitted often once added (EEVE, 2402.14714).

    Candidates are the pieces of an intermediate vocabulary and every single character (syllable)
    the base lacks; what is emitted fewer than `min_count` times goes, until nothing changes.
    Parts that kept pieces are joined from stay. `texts` gives text of the new language, one text a
    line, and is called three times; `size` is how many pieces the intermediate vocabulary adds.
    """
    scripts = tuple(scripts)
    words = family(base).words(base, texts())
    letters = _letters(base, words, scripts, 1.0, min_count)
    candidates = learn.pieces(texts(), size, scripts, 1.0, base)
    marks = learn.marks(base, words, scripts, min_count)
    return prune(base, [*letters, *marks, *candidates], texts(), min_count)


# ---------------------------------------------------------------------------- by budget
@dataclasses.dataclass(frozen=True)
class Budget:
    """Holds the fewest pieces that bring a language near the reference language.

    Attributes:
      parity: tokens of the text with `pieces`, relative to tokens of the reference text.
      before: the same with the base as it is.
    """

    pieces: list[str]
    parity: float
    before: float


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
        why = f"one token a word would be {floor:.2f}"
        if floor > parity:
            why = f"no pieces go below {floor:.2f}, one token for each stretch the base's "
            why += "pre-tokenizer cuts"
        raise ValueError(
            f"a parity of {parity:g} is out of reach: all {len(pieces):,} pieces give "
            f"{at(len(pieces)):.2f}, and {why}; ask for a higher parity, or give more text and "
            "more pieces"
        )
    count = bisect.bisect_left(range(len(pieces) + 1), True, key=lambda n: at(n) <= parity)
    return Budget(list(pieces[:count]), at(count), at(0))


def _tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    return sum(map(len, tokenizer.encode_batch(texts)))
