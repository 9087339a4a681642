"""Finds copies and near copies of records across the shards of a dataset.

    surveys = [survey(dataset, datasets.read(dataset, shard)) for shard in shards]  # in any process
    repeated(surveys, near=True, similarity=0.8)    # for every shard, the ordinals to leave out

A survey is an array without objects: np.save writes it and np.load(..., mmap_mode="r") maps it, so
that `repeated` holds a few numbers a record, however long the texts are. Near copies are texts
whose sets of character 5-grams overlap (Jaccard), estimated by MinHash (Broder 1997) and found by
banding (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4).
"""

import collections
from collections.abc import Iterable, Iterator, Sequence
import itertools
import unicodedata

import numpy as np

from lrl_jax.data.read import filters, kinds
from lrl_jax.data.read.contamination import HeldOut
from lrl_jax.data.read.grams import mixed
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import Bad

SHINGLE = 5  # characters; words would not do for scripts without spaces
HASHES = 128
RECALL = 0.99  # share of the pairs of exactly the asked similarity that meet in some band
BATCH = 1 << 15  # characters hashed at once: what stays in cache
SIGNATURES = 1 << 14  # compared at once
DIGEST, MINHASH = ("digest", "<u8"), ("hashes", "<u4", (HASHES,))  # fields of a survey
ALPHABET = np.uint32(0x110000)  # code points; each field of a record has its own

# The permutations of MinHash: an odd factor permutes the numbers below 2**32.
_FACTORS = np.random.default_rng(2308).integers(0, 1 << 32, HASHES, np.uint32) | np.uint32(1)


# ---------------------------------------------------------------------------- one shard
def survey(
    dataset: recipe_data.Dataset,
    items: Iterable[filters.Record | Bad],
    held_out: HeldOut | None = None,
) -> np.ndarray:
    """Returns what `repeated` needs of one shard: a row for each record the other filters keep.

    Its fields are DIGEST and, where near copies are looked for, MINHASH. Records that share text
    with `held_out` are not kept.
    """
    near = dataset.filters.duplicates == "near"
    sieve = filters.Sieve(dataset.model_copy(update={"take": 0}), held_out)
    kind = kinds.of(dataset)
    texts = (kind.texts_compared(record) for record in sieve.sift(items))
    hashes = [np.empty((0, HASHES), np.uint32), *(_hashes(texts) if near else ())]
    collections.deque(texts, maxlen=0)  # reads what is not hashed
    rows = np.empty(len(sieve.digests), [DIGEST, MINHASH] if near else [DIGEST])
    rows["digest"] = sieve.digests
    if near:
        rows["hashes"] = np.concatenate(hashes)
    return rows


def normalised(text: str) -> str:
    """Returns the form of a text in which near copies are compared: NFC, lower case, single spaces.

    >>> normalised(" Seoul\\n  2024 ")
    'seoul 2024'
    """
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def _hashes(records: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
    """Yields MinHashes of records, many at a time: uint32 [n, HASHES]."""
    batch: list[list[str]] = []
    room = BATCH
    for texts in records:
        # padded, so that a text shorter than a shingle has one shingle
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
    points = points + np.repeat(alphabets, lengths)
    count = len(points) - SHINGLE + 1
    shingles = mixed([points[i : i + count] for i in range(SHINGLE)]) >> np.uint64(32)
    # whole: for every place, whether the shingle that starts there lies in a single field
    whole = np.ones(len(points), bool)
    ends = np.cumsum(lengths)
    for back in range(1, SHINGLE):
        whole[ends - back] = False
    hashed = shingles[whole[:count]].astype(np.uint32)
    counts = [sum(len(text) - SHINGLE + 1 for text in texts) for texts in batch]
    starts = np.cumsum([0, *counts[:-1]])
    minima = np.empty((HASHES, len(batch)), np.uint32)
    room = np.empty_like(hashed)
    for i in range(HASHES):
        np.multiply(hashed, _FACTORS[i], out=room)
        np.minimum.reduceat(room, starts, out=minima[i])
    return minima.T


# ---------------------------------------------------------------------------- all shards
def repeated(surveys: Sequence[np.ndarray], near: bool, similarity: float) -> list[np.ndarray]:
    """Returns the sorted ordinals to leave out of each shard: records similar to an earlier one.

    The first copy in the order of shards stays. A record that is left out need not be similar to
    one that stays: it may be similar to an earlier record that is left out too, and so on back to
    one that stays. No two records that stay and share a band are similar.

    Args:
      surveys: arrays of `survey`, or maps of their files, one a shard.
      similarity: estimated Jaccard similarity from which two texts are near copies.
    """
    bounds = np.cumsum([0, *(len(survey) for survey in surveys)])
    digests = np.concatenate([np.empty(0, np.uint64), *(survey["digest"] for survey in surveys)])
    dropped = np.ones(len(digests), bool)
    dropped[np.unique(digests, return_index=True)[1]] = False
    if near:
        width = band_width(similarity)
        for start in range(0, HASHES - width + 1, width):
            _drop_alike(surveys, bounds, slice(start, start + width), similarity, dropped)
    pairs = itertools.pairwise(bounds)
    return [np.flatnonzero(dropped[start:stop]) for start, stop in pairs]


def band_width(similarity: float) -> int:
    """Returns the most hashes a band can have so that RECALL of pairs this similar share one.

    >>> [band_width(similarity) for similarity in (0.2, 0.5, 0.8, 0.95)]
    [1, 3, 6, 16]
    """
    wide = [w for w in range(1, HASHES + 1) if 1 - (1 - similarity**w) ** (HASHES // w) >= RECALL]
    return max(wide, default=1)


def _drop_alike(
    surveys: Sequence[np.ndarray],
    bounds: np.ndarray,
    band: slice,
    similarity: float,
    dropped: np.ndarray,
) -> None:
    """Drops records that are similar to an earlier one with the same hashes in a band.

    Works in rounds. The first record of each group stays, and those similar to it are dropped; the
    others are the group of the next round.
    """
    keys = np.concatenate([_keys(survey, band) for survey in surveys])
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


def _keys(survey: np.ndarray, band: slice) -> np.ndarray:
    """Returns a number for each record of a survey, made of the hashes of a band.

    Numbers that are equal by chance do no harm: records with equal numbers are compared.
    """
    keys = np.zeros(len(survey), np.uint64)
    for start in range(0, len(survey), SIGNATURES):
        rows = slice(start, start + SIGNATURES)
        keys[rows] = mixed(survey["hashes"][rows, band].T)
    return keys


def _alike(
    surveys: Sequence[np.ndarray],
    bounds: np.ndarray,
    places: np.ndarray,
    others: np.ndarray,
    similarity: float,
) -> np.ndarray:
    """Returns for each pair of records whether they are at least this similar.

    Records are given by their place in all surveys after one another.
    """
    similar = np.empty(len(places), bool)
    for start in range(0, len(places), SIGNATURES):
        pairs = slice(start, start + SIGNATURES)
        a = _hashes_at(surveys, bounds, places[pairs])
        b = _hashes_at(surveys, bounds, others[pairs])
        similar[pairs] = (a == b).sum(axis=1) >= similarity * HASHES
    return similar


def _hashes_at(surveys: Sequence[np.ndarray], bounds: np.ndarray, places: np.ndarray) -> np.ndarray:
    hashes = np.empty((len(places), HASHES), np.uint32)
    shards = np.searchsorted(bounds, places, side="right") - 1
    for shard in np.unique(shards):
        inside = shards == shard
        hashes[inside] = surveys[shard]["hashes"][places[inside] - bounds[shard]]
    return hashes
