"""Hashes runs of words, or of letters where words are not split, many texts at a time.

    texts = normalised(["The cat, it sat."])       NFC, lower case
    units = words(texts)                           the, cat, it, sat: a hash each
    grams(doubled(units.hashes, 2), 2)             the cat, cat it, it sat: a hash each

Punctuation, symbols and characters without a width are passed over. Letters are those of scripts
that put no space between words (`vocab.scripts.UNSPACED`), whatever stands between them.
"""

from collections.abc import Iterable, Sequence
import functools
import sys
from typing import NamedTuple
import unicodedata

import numpy as np
import regex

from lrl_jax.vocab import scripts

# What a character is to a word. All up to JOINED are read; those from HAN on stand in words that no
# space splits.
IN_WORD, HAN, KANA, JOINED, SPACE, DROPPED = range(6)
OF_KANA = ("Hira", "Kana")
OF_HAN = ("Bopo", "Hani", "Nshu", "Tang", "Yiii")  # a letter is a word or a good part of one
BASE = (
    0x9E3779B97F4A7C15  # 2**64 over the golden ratio (Knuth, TAOCP 6.4); odd, so it has an inverse
)


class NormalisedTexts(NamedTuple):
    """Holds texts in the form in which they are compared, one after another.

    Attributes:
      text: all of them, each followed by a newline.
      points: uint32, the code points of `text`.
      roles: uint8, which of IN_WORD to DROPPED each character is.
      ends: int64, where each text ends, after its newline.
    """

    text: str
    points: np.ndarray
    roles: np.ndarray
    ends: np.ndarray


class Units(NamedTuple):
    """Holds the words, or the letters, of texts in their order.

    Attributes:
      hashes: uint64.
      numbers: int64, which text each belongs to.
      starts, ends: int64, where each stands in `NormalisedTexts.text`.
    """

    hashes: np.ndarray
    numbers: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def normalised(texts: Iterable[str]) -> NormalisedTexts:
    """Returns texts in NFC and in lower case, with what each character is to a word."""
    lowered = [f"{unicodedata.normalize('NFC', text).lower()}\n" for text in texts]
    text = "".join(lowered)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    ends = np.cumsum([len(text) for text in lowered], dtype=np.int64)
    return NormalisedTexts(text, points, _roles()[points], ends)


def words(texts: NormalisedTexts) -> Units:
    """Returns what stands between spaces, without punctuation.

    >>> units = words(normalised(["Don't, GO - go."]))
    >>> len(units.hashes), bool(units.hashes[1] == units.hashes[2])
    (3, True)
    """
    kept = np.flatnonzero(texts.roles != DROPPED)
    is_space = np.append(True, texts.roles[kept] == SPACE)  # a text ends in one
    edges = np.flatnonzero(is_space[1:] != is_space[:-1])
    first, after = edges[::2], edges[1::2]
    powers, inverses = _powers(len(kept))
    sums = np.zeros(len(kept) + 1, np.uint64)
    np.cumsum(texts.points[kept] * powers[: len(kept)], out=sums[1:])
    hashes = mixed([(sums[after] - sums[first]) * inverses[first]])
    starts = kept[first]
    return Units(hashes, _numbers(starts, texts.ends), starts, kept[after - 1] + 1)


def letters(texts: NormalisedTexts) -> Units:
    """Returns the letters of scripts without spaces.

    >>> len(letters(normalised(["\u6771\u4eac, Tokyo"])).hashes)
    2
    """
    starts = np.flatnonzero((texts.roles >= HAN) & (texts.roles <= JOINED))
    numbers = _numbers(starts, texts.ends)
    return Units(mixed([texts.points[starts]]), numbers, starts, starts + 1)


def _numbers(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns which text each place belongs to; both ascend."""
    counts = np.diff(np.searchsorted(starts, ends), prepend=0)
    return np.repeat(np.arange(len(ends)), counts)


def counts(texts: NormalisedTexts) -> np.ndarray:
    """Returns how many characters of each role every text has: int64 [texts, roles]."""
    numbers = np.repeat(np.arange(len(texts.ends)), np.diff(texts.ends, prepend=0))
    flat = np.bincount(
        numbers * (DROPPED + 1) + texts.roles, minlength=len(texts.ends) * (DROPPED + 1)
    )
    return flat.reshape(len(texts.ends), DROPPED + 1)


def doubled(hashes: np.ndarray, longest: int) -> list[np.ndarray]:
    """Returns the hashes of all runs of 1, 2, 4, ... units, up to `longest`: for `grams`."""
    runs = [hashes]
    while 2 ** len(runs) <= longest:
        half, length = runs[-1], 2 ** (len(runs) - 1)
        run = half[:-length] * _power(length)
        run += half[length:]
        runs.append(run)
    return runs


def grams(runs: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Returns a hash of each `size` units in a row, of what `doubled` gives: uint64."""
    count = max(0, len(runs[0]) - size + 1)
    total, read = np.zeros(count, np.uint64), 0
    for i, run in enumerate(runs):
        if size >> i & 1:
            if read:
                total *= _power(2**i)
            total += run[read : read + count]
            read += 2**i
    return total


def grams_at(hashes: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    """Returns the hashes that `grams` has at these places, each at least `size` from the end.

    >>> hashes = np.arange(9, dtype=np.uint64)
    >>> bool((grams_at(hashes, np.arange(3), 7) == grams(doubled(hashes, 7), 7)).all())
    True
    """
    total = np.zeros(len(places), np.uint64)
    for i in range(size):
        total = total * _power(1) + hashes[places + i]
    return total


def mixed(columns: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Returns 64-bit hashes, each of which depends on one element of every column."""
    hashed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        hashed *= np.uint64(BASE)
        hashed += column
    hashed ^= hashed >> np.uint64(30)  # the finaliser of SplitMix64 (Steele, Lea, Flood 2014)
    hashed *= np.uint64(0xBF58476D1CE4E5B9)
    hashed ^= hashed >> np.uint64(27)
    hashed *= np.uint64(0x94D049BB133111EB)
    return hashed ^ (hashed >> np.uint64(31))


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(BASE, exponent, 1 << 64))


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns at least `count` powers of BASE, from 0 on, and those of its inverse."""
    return _table_of_powers(max(16, count.bit_length()))


@functools.cache
def _table_of_powers(bits: int) -> tuple[np.ndarray, np.ndarray]:
    factors = np.array([[BASE], [pow(BASE, -1, 1 << 64)]], np.uint64)
    rows = np.repeat(factors, 1 << bits, axis=1)
    rows[:, 0] = 1
    powers, inverses = np.multiply.accumulate(rows, axis=1)
    return powers, inverses


@functools.cache
def _roles() -> np.ndarray:
    """Returns for every code point what it is to a word."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    joined = tuple(sorted({*scripts.UNSPACED} - {*OF_HAN, *OF_KANA}))
    table = np.full(len(every), IN_WORD, np.uint8)
    for role, characters in (
        (JOINED, scripts.own(joined).findall(every)),
        (KANA, scripts.own(OF_KANA).findall(every)),
        (HAN, scripts.own(OF_HAN).findall(every)),
        (DROPPED, regex.findall(r"[\p{P}\p{S}\p{Cf}]+", every)),  # of whatever script
        (SPACE, regex.findall(r"[\p{Z}\p{Cc}]+", every)),
    ):
        of_role = "".join(characters).encode("utf-32-le", "surrogatepass")
        table[np.frombuffer(of_role, np.uint32)] = role
    return table
