"""Adds pieces of a new language to a tokenizer without moving the old ones.

New pieces rank below every base piece: the base spells a word first, then new pieces join
neighbours, the best ranked first. Text of the base language keeps its ids.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import itertools
import json

from etils import epath

from lrl_jax import storage
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer

MAX_BYTES, MAX_VALUES = 1 << 28, 1 << 25  # of splice.json
MAX_IDS = 1 << 24  # ids of a vocabulary
NOTHING: frozenset[str] = frozenset()  # one for all words no new piece touches


@dataclasses.dataclass(frozen=True)
class Splice:
    """Describes how a new vocabulary relates to the old one it extends.

    Attributes:
      kept: new id -> old id, for pieces both have.
      added: new id -> the old ids that spell the piece's text, as the base writes it in a sentence.
    """

    kept: dict[int, int]
    added: dict[int, tuple[int, ...]]
    base_fingerprint: str
    new_fingerprint: str

    @property
    def size(self) -> int:
        return len(self.kept) + len(self.added)

    def write(self, path: epath.PathLike) -> None:
        """Writes JSON; kept ids as runs [new, old, length], for they are mostly one run."""
        tree = {
            "base_fingerprint": self.base_fingerprint,
            "new_fingerprint": self.new_fingerprint,
            "kept": _runs(self.kept),
            "added": [[new, *old] for new, old in self.added.items()],
        }
        epath.Path(path).write_text(json.dumps(tree) + "\n")


def read(path: epath.PathLike) -> Splice:
    """Reads what `Splice.write` wrote; another file, or none, is a ValueError."""
    try:
        tree = storage.read_json(path, MAX_BYTES, MAX_VALUES)
        if (ids := sum(length for *_, length in tree["kept"])) > MAX_IDS:
            raise ValueError(f"keeps {ids:,} ids; no vocabulary has over {MAX_IDS:,}")
        return Splice(
            kept={new + i: old + i for new, old, length in tree["kept"] for i in range(length)},
            added={new: tuple(old) for new, *old in tree["added"]},
            base_fingerprint=tree["base_fingerprint"],
            new_fingerprint=tree["new_fingerprint"],
        )
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; `lrl vocab` writes it") from None
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(
            f"{path}: is not a splice ({e!r}); delete it and run `lrl vocab`"
        ) from None


def identity(tokenizer: Tokenizer) -> Splice:
    """Returns the splice that adds nothing: a base tokenizer used as it is."""
    same = tokenizer.fingerprint
    return Splice({i: i for i in range(tokenizer.size)}, {}, same, same)


def splice(base: Tokenizer, pieces: Sequence[str]) -> tuple[Tokenizer, Splice]:
    """Appends `pieces`, best first, to the base, ranked below all of it; says how ids relate.

    Pieces the base has, and repeated ones, are left out: `len(pieces) - len(splice.added)` of them.
    A base that cannot be extended, or a piece that no text can contain, is a ValueError.
    """
    tokenizer_family = family(base)
    fresh = unknown(base, pieces)
    new = tokenizer_family.extend(base, fresh)
    spelled = enumerate(tokenizer_family.spell(base, fresh), start=base.size)
    added = {i: tuple(ids) for i, ids in spelled}
    return new, dataclasses.replace(identity(base), added=added, new_fingerprint=new.fingerprint)


def unknown(base: Tokenizer, pieces: Iterable[str]) -> list[str]:
    """Returns the pieces `base` does not have, each once."""
    base_pieces = set(family(base).pieces(base))
    return [piece for piece in dict.fromkeys(pieces) if piece not in base_pieces]


@dataclasses.dataclass(frozen=True)
class Pruned:
    """Holds the pieces that earn their row, and why others were left out.

    Attributes:
      pieces: in the order they were given.
      rare: pieces emitted fewer than `min_count` times.
      unreached: pieces that their own text, or a part of them, does not lead to.
      moving: pieces left out because text of the base language has them -> how often it has.
      asked: tokens of the base text that would change if none of `moving` were left out.
      changed: tokens of it that change.
      whole: tokens of the base text, as the base splits it.
      bare: characters of `texts` that stay without a piece -> how often they occur.
    """

    pieces: list[str]
    rare: int
    unreached: int
    moving: Mapping[str, int]
    asked: int
    changed: int
    whole: int
    bare: Counter[str]


def prune(
    base: Tokenizer,
    pieces: Sequence[str],
    texts: Iterable[str],
    min_count: int,
    spare: Iterable[str] = (),
    drift: float = 0.0,
) -> list[str]:
    """Returns the pieces, in the given order, without those that would not earn their row.

    Arguments as `pruned`.
    """
    return pruned(base, pieces, texts, min_count, spare, drift).pieces


def pruned(
    base: Tokenizer,
    pieces: Sequence[str],
    texts: Iterable[str],
    min_count: int,
    spare: Iterable[str] = (),
    drift: float = 0.0,
) -> Pruned:
    """Leaves out pieces that would not earn their row, and says why.

    Dropped, until nothing changes: pieces the base has; pieces whose own text does not come to be
    one piece; pieces emitted fewer than `min_count` times on `texts`, unless a kept piece is joined
    from them; pieces that change too many tokens of `spare`.

    Args:
      texts: text of the new language, one text a line.
      spare: text of the base language that must keep its ids (needed when scripts are shared).
      drift: most tokens of `spare` that may change, out of 10,000. Those pieces go first that
        change many for what they save in `texts`; characters the base lacks go last.
    """
    tokenizer_family = family(base)
    base_pieces = set(tokenizer_family.pieces(base))
    left = unknown(base, pieces)
    ranks = {piece: rank for rank, piece in enumerate(left)}
    own = Joins(tokenizer_family.segments(base, left), [1] * len(left), ranks)
    seen, words = tokenizer_family.words(base, texts), tokenizer_family.words(base, spare)
    wanted, spared = (
        Joins(tokenizer_family.segments(base, list(count)), list(count.values()), ranks)
        for count in (seen, words)
    )
    lengths = map(len, tokenizer_family.spell(base, list(words)))
    whole = sum(n * length for n, length in zip(words.values(), lengths, strict=True))
    spelled = zip(left, map(len, tokenizer_family.spell(base, left)), strict=True)
    harm = _Harm(dict(spelled), wanted, spared, drift * whole / 10_000)
    asked, rare, unreached = None, 0, 0
    moving: dict[str, int] = {}
    while True:
        here = [(i, piece) for i, piece in enumerate(left) if piece in ranks]
        with_ids = base_pieces | ranks.keys()  # other characters would be spelled in bytes
        unfit = {
            piece for i, piece in here if own.joined[i] != [piece] or not with_ids >= {*own.base[i]}
        }
        asked = harm.of(ranks) if asked is None else asked
        banned = harm.beyond_budget(ranks)
        moving |= {piece: spared.count[piece] for piece in banned - unfit}
        unreached += len(unfit)
        gone = unfit | banned
        if not gone:  # rarity is judged once nothing else will move
            needed = {met for i, piece in here for met in own.met[i] - {piece}}
            gone = {p for _, p in here if wanted.count[p] < min_count and p not in needed}
            rare += len(gone)
        if not gone:
            bare = Counter[str]()
            for parts, n in zip(wanted.base, seen.values(), strict=True):
                for piece in parts:
                    if piece not in with_ids:
                        bare[piece] += n
            kept = [piece for _, piece in here]
            return Pruned(kept, rare, unreached, moving, asked, harm.of(ranks), whole, bare)
        for piece in gone:
            del ranks[piece]
        for joins in (own, wanted, spared):
            joins.drop(gone)


class _Harm:
    """Weighs how many tokens of the base language pieces change, within a budget of tokens.

    `spelled` says how many base tokens spell each piece: so many change wherever it is emitted.
    """

    def __init__(self, spelled: Mapping[str, int], wanted: "Joins", spared: "Joins", budget: float):
        self._spelled, self._wanted, self._spared = spelled, wanted, spared
        self._budget = budget

    def of(self, pieces: Iterable[str]) -> int:
        """Returns how many tokens of the base language these pieces change."""
        return sum(self._spared.count[piece] * self._spelled[piece] for piece in pieces)

    def beyond_budget(self, pieces: Iterable[str]) -> set[str]:
        """Returns the pieces to leave out next, none where all are within the budget."""
        harm = {piece: self.of([piece]) for piece in pieces if self._spared.count[piece]}
        excess = sum(harm.values()) - self._budget
        if not self._budget or excess <= 0:
            return set(harm) if excess > 0 else set()

        def order(piece: str) -> tuple[bool, float, str]:
            saved = self._wanted.count[piece] * max(self._spelled[piece] - 1, 1)
            return len(piece) == 1, -harm[piece] / (1 + saved), piece

        out = set()
        for piece in sorted(harm, key=order):
            if excess <= 0:
                break
            out.add(piece)
            excess -= harm[piece]
        return out


class Joins:
    """Keeps words joined as an extended tokenizer joins them, while pieces are taken away.

    Attributes:
      base: what the base makes of each word.
      joined: what the extended tokenizer makes of it.
      met: the new pieces that were formed on the way, those in `joined` among them.
      count: new piece -> how often it is in `joined`, each word as often as it occurs.
    """

    def __init__(self, base: list[list[str]], occurs: Sequence[int], ranks: Mapping[str, int]):
        self.base, self._occurs, self._ranks = base, occurs, ranks
        self.joined: list[list[str]] = [[]] * len(base)
        self.met: list[frozenset[str]] = [NOTHING] * len(base)
        self.count: Counter[str] = Counter()
        self._words: dict[str, set[int]] = {}  # new piece -> the words that meet it
        for i in range(len(base)):
            self._join(i)

    def drop(self, gone: Iterable[str]) -> None:
        """Joins words that met the dropped pieces again; the ranks must have lost them before."""
        words = set().union(*(self._words.pop(piece, ()) for piece in gone))
        for i in words:
            for piece in self.joined[i]:
                self.count[piece] -= self._occurs[i]
            self._join(i)

    def _join(self, i: int) -> None:
        self.joined[i], self.met[i] = join(self.base[i], self._ranks)
        for piece in self.joined[i]:
            self.count[piece] += self._occurs[i]
        for piece in self.met[i]:
            self._words.setdefault(piece, set()).add(i)


def join(parts: Sequence[str], ranks: Mapping[str, int]) -> tuple[list[str], frozenset[str]]:
    """Joins with new pieces a word the base has cut into `parts`; returns all pieces formed, too.

    >>> got, met = join(["a", "b", "c", "d"], {"ab": 0, "cd": 1, "abcd": 2, "bc": 3})
    >>> got, sorted(met)
    (['abcd'], ['ab', 'abcd', 'cd'])
    """
    parts = list(parts)
    met = {piece for piece in parts if piece in ranks}
    while len(parts) > 1:
        pairs = [ranks.get(a + b) for a, b in itertools.pairwise(parts)]
        ranked = [rank for rank in pairs if rank is not None]
        if not ranked:
            break
        at = pairs.index(min(ranked))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        met.add(parts[at])
    return parts, frozenset(met) or NOTHING


def _runs(kept: dict[int, int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for new, old in sorted(kept.items()):
        if runs and new == runs[-1][0] + runs[-1][2] and old == runs[-1][1] + runs[-1][2]:
            runs[-1][2] += 1
        else:
            runs.append([new, old, 1])
    return runs
