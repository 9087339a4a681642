"""Shuffles the rows of a dataset: each place is computed when it is needed, nothing is stored."""

import functools
import hashlib

import numpy as np

ROUNDS = 6  # of the Feistel network; 4 suffice with random functions (Luby and Rackoff 1988)


def permute(i: np.ndarray, n: np.ndarray | int, seed: np.ndarray | int) -> np.ndarray:
    """Returns the values at the places `i` of a permutation of 0..n-1 that `seed` chooses.

    The permutation is a balanced Feistel network on the bits of n, with splitmix64 (Steele et al.
    2014) as its round function, applied again until the value is below n. `n` and `seed` may differ
    from place to place.

    >>> permute(np.arange(10), n=10, seed=7).tolist()
    [8, 1, 2, 4, 7, 0, 5, 9, 6, 3]
    """
    out, n, seed = (np.array(x, np.uint64) for x in np.broadcast_arrays(i, n, seed))
    bits = np.frexp((n - np.uint64(1)).astype(np.float64))[1]  # exact: rows are fewer than 2**53
    half = (np.maximum(bits, 2).astype(np.uint64) + np.uint64(1)) // np.uint64(2)
    todo = np.arange(out.size)
    while todo.size:
        out[todo] = _feistel(out[todo], half[todo], seed[todo])
        todo = todo[out[todo] >= n[todo]]
    return out.astype(np.int64)


@functools.lru_cache(maxsize=4096)
def epoch_seed(seed: int, name: str, epoch: int) -> int:
    """Returns the seed of the permutation of one epoch; it depends on no other dataset."""
    digest = hashlib.sha256(f"{seed}/{name}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _feistel(x: np.ndarray, half: np.ndarray, seed: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = x >> half, x & mask
    base = seed * np.uint64(0x9E3779B97F4A7C15)
    for k in range(ROUNDS):
        key = base + np.uint64(k * 0xD1B54A32D192ED03 % (1 << 64))
        left, right = right, left ^ (_mix(right + key) & mask)
    return left << half | right


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
