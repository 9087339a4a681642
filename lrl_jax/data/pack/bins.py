"""Decides which items share a bin (a row of tokens), given the length of each item.

A bin is a list of item numbers: places in the list of lengths.
"""

import bisect
from collections.abc import Sequence

FULL = 0.999  # share of its capacity from which a bin counts as full


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Puts items into bins, longest first, each into the bin where it leaves the least room.

    >>> best_fit([3, 5, 2, 4], capacity=7)
    [[1, 2], [3, 0]]
    """
    bins: list[list[int]] = []
    open_bins: list[tuple[int, int, int]] = []  # (room left, -turn of its last item, bin), sorted
    for turn, item in enumerate(sorted(range(len(lengths)), key=lambda i: -lengths[i])):
        at = bisect.bisect_left(open_bins, (lengths[item],))
        if at == len(open_bins):
            room, index = capacity, len(bins)
            bins.append([])
        else:
            room, _, index = open_bins.pop(at)
        bins[index].append(item)
        if left := room - lengths[item]:
            bisect.insort(open_bins, (left, -turn, index))
    return bins


def exact_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Fills one bin after another, longest item first, ending a bin with two items that fill it.

    This needs fewer bins than `best_fit` where all items have similar lengths and none is small
    enough to fill the gaps. Instructions are like that: their prompts alone have some 40 tokens.

    >>> exact_fit([5, 3, 4, 2, 1, 3], capacity=9)
    [[0, 2], [1, 5, 3, 4]]
    """
    stock: dict[int, list[int]] = {}
    for item in reversed(range(len(lengths))):
        stock.setdefault(lengths[item], []).append(item)
    keys = sorted(stock)

    def take(length: int) -> int:
        item = stock[length].pop()
        if not stock[length]:
            del stock[length], keys[bisect.bisect_left(keys, length)]
        return item

    bins: list[list[int]] = []
    while keys:
        bins.append([])
        room = capacity
        while keys and keys[0] <= room:
            longest = keys[bisect.bisect_right(keys, room) - 1]
            pair = _pair(stock, keys, room) if longest < room <= 2 * longest else ()
            for length in pair or (longest,):
                bins[-1].append(take(length))
                room -= length
    return bins


def fill(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Returns the bins of `best_fit`, or those of `exact_fit` where these are fewer.

    `exact_fit` is not tried where the bins of `best_fit` are full.
    """
    bins = best_fit(lengths, capacity)
    if sum(lengths) >= FULL * capacity * len(bins):
        return bins
    return min(bins, exact_fit(lengths, capacity), key=len)


def settle(lengths: Sequence[int], capacity: int, most: int) -> tuple[list[list[int]], list[int]]:
    """Fills bins, and empties the least full again so that their items can be packed later.

    Returns the bins to keep, and at most `most` items to pack later, in their original order.

    >>> settle([4, 4, 3, 3, 2], capacity=7, most=2)
    ([[0, 3], [1, 2]], [4])
    """
    bins = fill(lengths, capacity)
    sizes = [sum(lengths[item] for item in items) for items in bins]
    waiting: set[int] = set()
    for index in sorted(range(len(bins)), key=lambda b: (sizes[b], b)):
        if sizes[index] >= FULL * capacity or len(waiting) + len(bins[index]) > most:
            break
        waiting.update(bins[index])
        bins[index] = []
    return [items for items in bins if items], sorted(waiting)


def _pair(stock: dict[int, list[int]], keys: list[int], room: int) -> tuple[int, ...]:
    """Returns two lengths of the stock that fill the room exactly, or () if there are none."""
    for short in keys:
        long = room - short
        if long < short:
            return ()
        if long in stock and (long > short or len(stock[short]) > 1):
            return long, short
    return ()
