"""Cuts the rows of a run into batches, so that no batch reads across the end of a stage.

The rows are the clock of a run. How many steps it has follows from them and from the batch size,
which may change whenever the run is resumed (docs/decisions/0017-rows-are-the-clock.md).
"""

import bisect
from collections.abc import Iterator, Sequence
import itertools


def size_at(row: int, ends: Sequence[int], most: int) -> int:
    """Returns how many rows the batch that begins at `row` reads, at most `most`.

    A batch is whole unless what is left of its stage is no whole number of batches. Then the last
    two share it, so that the gradient of neither comes from a few rows alone.

    Args:
      ends: for each stage, the global row after its last one, ascending.

    >>> [size_at(row, [8, 13], 4) for row in (0, 4, 8, 11)]
    [4, 4, 3, 2]
    """
    left = ends[bisect.bisect_right(ends, row)] - row
    if left >= 2 * most:
        return most
    return left if left <= most else -(-left // 2)


def spans(start: int, ends: Sequence[int], most: int) -> Iterator[range]:
    """Yields the global rows of every batch from row `start` to the last end.

    >>> [*spans(4, [8, 13], 4)]
    [range(4, 8), range(8, 11), range(11, 13)]
    """
    row = start
    while row < ends[-1]:
        size = size_at(row, ends, most)
        yield range(row, row + size)
        row += size


def count(start: int, ends: Sequence[int], most: int) -> int:
    """Returns how many batches `spans` yields, without making them.

    >>> count(4, [8, 13], 4)
    3
    """
    begins = [start, *(end for end in ends if end > start)]
    return sum(-(-(end - begin) // most) for begin, end in itertools.pairwise(begins))
