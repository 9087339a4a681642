"""Counts the fields of rows that nothing reads, and those that no row has.

    tally = Tally()
    for record in datasets.read(dataset, shard, tally): ...
    tally.unread       {"reasoning_content of a turn": 812}

A recipe refuses keys that it does not know. The fields of its data are named instead: many files
carry an id or a source, and what is lost should be seen.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
from typing import Any

from lrl_jax.data.read import columns, kinds
from lrl_jax.data.read.formats import Rows
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import Bad, DataError

SHOWN = 12  # most fields named in a line

Unread = Callable[[Mapping[str, str], Mapping[str, Any]], Iterator[str]]


@dataclasses.dataclass
class Tally:
    """Counts the rows of a dataset, or of a part of it; two tallies can be added.

    Attributes:
      rows: how many rows were read; 0 where records do not come from rows.
      unread: field -> how many rows have it, not empty, though nothing reads it.
      absent: column of the recipe, or `input` -> how many rows do not have it.
    """

    rows: int = 0
    unread: Counter[str] = dataclasses.field(default_factory=Counter)
    absent: Counter[str] = dataclasses.field(default_factory=Counter)

    def counting(
        self,
        dataset: recipe_data.Dataset,
        read_from: Mapping[str, str],
        rows: Rows,
        skipped: Iterable[str] = (),
        unread: Unread | None = None,
    ) -> Rows:
        """Yields the rows, counted.

        Args:
          read_from: field -> column.
          skipped: columns that the rows have in their file, but not here.
          unread: yields the fields of a row that nothing reads; that of the dataset's kind if None.
        """
        unread = unread or kinds.of(dataset).unread
        given = dataset.written().columns.values()
        asked = dict.fromkeys([*given, *(c for f, c in read_from.items() if f == "input")])
        before = self.rows
        try:
            for at, row in rows:
                if not isinstance(row, Bad):
                    self.rows += 1
                    self.unread.update({*unread(read_from, row)})
                    for column in asked:
                        if column not in row and columns.lookup(row, column) is columns.ABSENT:
                            self.absent[column] += 1
                yield at, row
        finally:
            self.unread.update(dict.fromkeys(skipped, self.rows - before))


def refuse_absent(dataset: recipe_data.Dataset, name: str, tally: Tally) -> None:
    """Raises DataError if the recipe names a column that no row has."""
    for field, column in dataset.written().columns.items():
        if tally.rows and tally.absent[column] == tally.rows:
            others = columns.shown(sorted(tally.unread)[:SHOWN])
            raise DataError(
                f"dataset {name!r}: columns: {{{field}: {column}}}: no row of {tally.rows:,} has "
                f"the column {column!r}; columns that nothing reads: {others}"
            )


def remarks(tally: Tally) -> Iterator[str]:
    """Yields a line on the fields that were not read, with the columns that no row has."""
    if not tally.rows:
        return
    most_first = tally.unread.most_common()
    fields = [f"{columns.shown([field])} in {n:,}" for field, n in most_first if n]
    more = [f"{len(fields) - SHOWN} more"] if len(fields) > SHOWN else []
    missing = [column for column, n in tally.absent.items() if n == tally.rows]
    if fields and missing:
        yield (
            f"no row has {', '.join(missing)}, which is read as empty; if a field that is not read "
            f"holds it, say so with columns: {{{missing[0]}: NAME_OF_THE_FIELD}}"
        )
    if fields:
        shown = ", ".join(fields[:SHOWN] + more)
        yield f"fields not read: {shown} (of {tally.rows:,} rows)"
