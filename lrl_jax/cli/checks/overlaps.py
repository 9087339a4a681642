"""Compares the first records of datasets with the texts that a recipe measures, for `lrl check`.

measured = Measured(recipe, wanted=())
for record in measured.through("korean", dataset, records): ...
measured.notes                       a line for each dataset that shares text with them
"""

from collections.abc import Collection, Iterable, Iterator
import itertools

from lrl_jax.data.read import contamination, kinds
from lrl_jax.data.read.makers import Record
from lrl_jax.recipe.data import Dataset
from lrl_jax.recipe.schema import Recipe

FIRST = 50_000  # records of a dataset that are compared: a second or two
BATCH = 1024  # records compared at once


class Measured:
    """Holds the texts that a recipe measures and does not leave out of training.

    Args:
      wanted: files that are not here yet.

    Attributes:
      notes: lines for the user.
    """

    def __init__(self, recipe: Recipe, wanted: Collection[str]):
        self.notes: list[str] = []
        left_out = {*recipe.data.decontaminate, *wanted}
        files = [uri for _, uri in recipe.evaluate.files() if uri not in left_out]
        try:
            self._held_out = contamination.gather(files) if files else None
        except (ValueError, OSError):  # said by the look that reads all texts
            self._held_out = None

    def through(self, name: str, dataset: Dataset, records: Iterable[Record]) -> Iterator[Record]:
        """Yields the records, and notes how many of the first of them share text."""
        records = iter(records)
        if self._held_out is None:
            yield from records
            return
        shared, read, sample, kind = 0, 0, "", kinds.of(dataset)
        most = min(FIRST, dataset.take or FIRST)
        while batch := [*itertools.islice(records, min(BATCH, most - read))]:
            overlaps = self._held_out.shared([kind.texts_read(record) for record in batch])
            shared += sum(overlap is not None for overlap in overlaps)
            sample = sample or next((overlap.sample for overlap in overlaps if overlap), "")
            read += len(batch)
            yield from batch
        if shared:
            self.notes.append(
                f"data.datasets.{name}: {shared:,} of the first {read:,} records share text with "
                f"what is measured, such as {sample[:120]}; data.decontaminate: [evaluate] leaves "
                "them out"
            )
        yield from records
