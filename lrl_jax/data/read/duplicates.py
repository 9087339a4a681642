"""Copies and near copies of records, found across the shards of a dataset.

    surveys = [survey(dataset, datasets.read(dataset, shard)) for shard in shards]  # in any process
    repeated(surveys, near=True, similarity=0.8)    # for every shard, the ordinals to leave out

A survey is an array without objects: np.save writes it, np.load(..., mmap_mode="r") reads it back,
so that `repeated` holds a few numbers a record, however long the texts are. Near copies are texts
whose sets of character 5-grams overlap (Jaccard), estimated by MinHash (Broder 1997) and found by
banding (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4).
"""

import collections
from collections.abc import Iterable, Iterator, Sequence
import itertools
import unicodedata

import numpy as np

from lrl_jax.data.read import filters, kinds
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import Bad

SHINGLE = 5  # characters; words would not do for scripts without spaces
HASHES = 128
FOUND = 0.99  # of the pairs just as similar as asked for, how many share a band
BATCH = 1 << 15  # characters hashed at once: what stays in cache
SIGNATURES = 1 << 14  # compared with one at once
ALPHABET = np.uint32(0x110000)  # code points; each field of a record has its own
_DIGEST = [("digest", "<u8")]

# The permutations of MinHash: an odd factor permutes the numbers below 2**32.
_FACTORS = np.random.default_rng(2308).integers(0, 1 << 32, HASHES, np.uint32) | np.uint32(1)


# ---------------------------------------------------------------------------- one shard
def survey(dataset: recipe_data.Dataset, items: Iterable[filters.Record | Bad]) -> np.ndarray:
    """What `repeated` needs of one shard: a row for every record that passes the other filters.

    Args:
      items: of `dataset.read`.

    Returns:
      [n] of a field `digest` (uint64) and, for near copies, `hashes` (uint32 [HASHES]).

    Raises:
      DataError: as `Sieve.sift`.
    """
    sieve = filters.Sieve(dataset.model_copy(update={"take": 0}))
    kind = kinds.of(dataset)
    passed = (kind.texts_compared(record) for record in sieve.sift(items))
    if dataset.filters.duplicates != "near":
        collections.deque(passed, maxlen=0)  # reads them all
        return np.array(sieve.digests, "<u8").astype(_DIGEST)
    hashes = list(_hashes(passed))
    found = np.empty(sieve.kept, [*_DIGEST, ("hashes", "<u4", (HASHES,))])
    found["digest"] = sieve.digests
    found["hashes"] = np.concatenate([np.empty((0, HASHES), np.uint32), *hashes])
    return found


def normalised(text: str) -> str:
    """What near copies are compared in.

    >>> normalised(" Seoul\\n  2024 ")
    'seoul 2024'
    """
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def signature(texts: Sequence[str]) -> np.ndarray:
    """The MinHash of a record's fields: uint32 [HASHES]; equal shares estimate Jaccard."""
    return next(_hashes([texts]))[0]


def _hashes(records: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
    """MinHashes of records, many at a time: uint32 [n, HASHES]."""
    batch: list[list[str]] = []
    room = BATCH
    for texts in records:
        # a text shorter than a shingle is one
        batch.append([normalised(text).ljust(SHINGLE, "\0") for text in texts])
        room -= sum(map(len, batch[-1]))
        if room <= 0:
            yield _minhash(batch)
            batch, room = [], BATCH
    if batch:
        yield _minhash(batch)


def _minhash(batch: list[list[str]]) -> np.ndarray:
    fields = [text for texts in batch for text in texts]
    lengths = np.array([len(text) for text in fields])
    alphabets = np.array([i for texts in batch for i in range(len(texts))], np.uint32) * ALPHABET
    points = np.frombuffer("".join(fields).encode("utf-32-le"), np.uint32)
    shingles = _shingles(points + np.repeat(alphabets, lengths))
    whole = np.ones(
        len(points), bool
    )  # of every place, whether a shingle of one field starts there
    ends = np.cumsum(lengths)
    for back in range(1, SHINGLE):
        whole[ends - back] = False
    hashed = shingles[whole[: len(shingles)]]
    counts = [sum(len(text) - SHINGLE + 1 for text in texts) for texts in batch]
    starts = np.cumsum([0, *counts[:-1]])
    found = np.empty((HASHES, len(batch)), np.uint32)
    room = np.empty_like(hashed)
    for i in range(HASHES):
        np.multiply(hashed, _FACTORS[i], out=room)
        np.minimum.reduceat(room, starts, out=found[i])
    return found.T


def _shingles(points: np.ndarray) -> np.ndarray:
    """A 32-bit hash of every SHINGLE neighbours."""
    count = len(points) - SHINGLE + 1
    hashed = _mixed([points[i : i + count] for i in range(SHINGLE)])
    return (hashed >> np.uint64(32)).astype(np.uint32)


def _mixed(columns: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """64 bits that depend on every column, elementwise."""
    hashed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        hashed *= np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio (Knuth, TAOCP 6.4)
        hashed += column
    hashed ^= hashed >> np.uint64(30)  # the finaliser of SplitMix64 (Steele, Lea, Flood 2014)
    hashed *= np.uint64(0xBF58476D1CE4E5B9)
    hashed ^= hashed >> np.uint64(27)
    hashed *= np.uint64(0x94D049BB133111EB)
    return hashed ^ (hashed >> np.uint64(31))


# ---------------------------------------------------------------------------- all shards
def repeated(surveys: Sequence[np.ndarray], near: bool, similarity: float) -> list[np.ndarray]:
    """The ordinals to leave out of each shard, sorted: every record like an earlier one.

    The first copy in the order of shards stays. Near copies need not be like each other: each
    leads, from like to like and always to an earlier one, to a record that stays; and of those
    that stay no two that share a band are alike.

    Args:
      surveys: of `survey`, one a shard, in their order; maps of files will do.
      similarity: Jaccard, as estimated, from which two texts are near copies.
    """
    bounds = np.cumsum([0, *(len(one) for one in surveys)])
    dropped = np.zeros(bounds[-1], bool)
    _drop_copies(surveys, dropped)
    if near:
        width = band_width(similarity)
        for start in range(0, HASHES - width + 1, width):
            _drop_alike(surveys, bounds, slice(start, start + width), similarity, dropped)
    pairs = itertools.pairwise(bounds)
    return [np.flatnonzero(dropped[start:stop]) for start, stop in pairs]


def band_width(similarity: float) -> int:
    """Hashes a band has: the most with which FOUND of the pairs of this similarity share one.

    >>> [band_width(similarity) for similarity in (0.2, 0.5, 0.8, 0.95)]
    [1, 3, 6, 16]
    """
    wide = [w for w in range(1, HASHES + 1) if 1 - (1 - similarity**w) ** (HASHES // w) >= FOUND]
    return max(wide, default=1)


def _drop_copies(surveys: Sequence[np.ndarray], dropped: np.ndarray) -> None:
    digests = np.concatenate([np.empty(0, np.uint64), *(one["digest"] for one in surveys)])
    _, first = np.unique(digests, return_index=True)
    dropped[:] = True
    dropped[first] = False


def _drop_alike(
    surveys: Sequence[np.ndarray],
    bounds: np.ndarray,
    band: slice,
    similarity: float,
    dropped: np.ndarray,
) -> None:
    """Drops records alike an earlier one among those that have the same hashes in a band.

    In rounds: the first of each group leads; what is like it goes, the others are the next group.
    """
    keys = np.concatenate([_keys(one, band) for one in surveys])
    places = np.flatnonzero(~dropped)
    places = places[np.argsort(keys[places], kind="stable")]
    keys = keys[places]
    while len(places):
        leads = np.append(True, keys[1:] != keys[:-1])
        leaders = places[leads][np.cumsum(leads) - 1]
        rest = np.flatnonzero(~leads)
        alike = _alike(surveys, bounds, places[rest], leaders[rest], similarity)
        dropped[places[rest[alike]]] = True
        places, keys = places[rest[~alike]], keys[rest[~alike]]


def _keys(one: np.ndarray, band: slice) -> np.ndarray:
    """The hashes of a band as one number; records whose numbers meet by chance are compared."""
    keys = np.zeros(len(one), np.uint64)
    for start in range(0, len(one), SIGNATURES):
        part = slice(start, start + SIGNATURES)
        keys[part] = _mixed(one["hashes"][part, band].T)
    return keys


def _alike(
    surveys: Sequence[np.ndarray],
    bounds: np.ndarray,
    ones: np.ndarray,
    others: np.ndarray,
    similarity: float,
) -> np.ndarray:
    """Whether records, named by their place in all surveys, are as similar, pair by pair."""
    found = np.empty(len(ones), bool)
    for start in range(0, len(ones), SIGNATURES):
        part = slice(start, start + SIGNATURES)
        a, b = (_at(surveys, bounds, places[part]) for places in (ones, others))
        found[part] = (a == b).sum(axis=1) >= similarity * HASHES
    return found


def _at(surveys: Sequence[np.ndarray], bounds: np.ndarray, places: np.ndarray) -> np.ndarray:
    hashes = np.empty((len(places), HASHES), np.uint32)
    shards = np.searchsorted(bounds, places, side="right") - 1
    for shard in np.unique(shards):
        mine = shards == shard
        hashes[mine] = surveys[shard]["hashes"][places[mine] - bounds[shard]]
    return hashes
