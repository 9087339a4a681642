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


def prune(
    base: Tokenizer,
    pieces: Sequence[str],
    texts: Iterable[str],
    min_count: int,
    spare: Iterable[str] = (),
) -> list[str]:
    """Returns the pieces, in the given order, without those that would not earn their row.

    Dropped, until nothing changes: pieces the base has; pieces whose own text does not come to be
    one piece; pieces emitted fewer than `min_count` times on `texts`, unless a kept piece is joined
    from them; pieces emitted on `spare`.

    Args:
      texts: text of the new language, one text a line.
      spare: text of the base language that must keep its ids (needed when scripts are shared).
    """
    tokenizer_family = family(base)
    base_pieces = set(tokenizer_family.pieces(base))
    left = unknown(base, pieces)
    ranks = {piece: rank for rank, piece in enumerate(left)}
    own = Joins(tokenizer_family.segments(base, left), [1] * len(left), ranks)
    wanted, spared = (
        Joins(tokenizer_family.segments(base, list(count)), list(count.values()), ranks)
        for count in (tokenizer_family.words(base, texts), tokenizer_family.words(base, spare))
    )
    while True:
        here = [(i, piece) for i, piece in enumerate(left) if piece in ranks]
        with_ids = base_pieces | ranks.keys()  # other characters would be spelled in bytes
        gone = {
            piece
            for i, piece in here
            if own.joined[i] != [piece] or spared.count[piece] or not with_ids >= {*own.base[i]}
        }
        if not gone:  # rarity is judged once nothing else will move
            needed = {met for i, piece in here for met in own.met[i] - {piece}}
            gone = {p for _, p in here if wanted.count[p] < min_count and p not in needed}
        if not gone:
            return [piece for _, piece in here]
        for piece in gone:
            del ranks[piece]
        for joins in (own, wanted, spared):
            joins.drop(gone)


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
