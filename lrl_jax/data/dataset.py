"""Opens any dataset of a recipe: its shards, its records, and digests of what it reads.

    for shard in shards(dataset):
        for record in read(dataset, shard): ...       {"text": "..."}, or text.Bad

Records come from files and catalogues, which `read.records` reads, or from a user's own seqio Task,
which `seqio.imports` looks up and `seqio.user_tasks` runs. Callers of this module need not know
which of the two a dataset is.
"""

from collections.abc import Iterator
import itertools

from lrl_jax import text
from lrl_jax.data.read import records
from lrl_jax.data.read.makers import Record
from lrl_jax.data.read.records import Shard
from lrl_jax.data.seqio import imports
from lrl_jax.recipe import data as recipe_data


def shards(dataset: recipe_data.Dataset) -> list[Shard]:
    """Returns the shards of a dataset, one job each; a dataset with `take` is a single shard.

    The shards depend on the data alone, so any number of workers makes the same rows.

    Raises:
      ValueError: a file is missing, empty or cut short.
    """
    if isinstance(dataset, recipe_data.Task):
        every = imports.shards(dataset)
    else:
        every = records.shards(dataset)
    return [tuple(itertools.chain(*every))] if dataset.take else every


def read(dataset: recipe_data.Dataset, shard: Shard) -> Iterator[Record | text.Bad]:
    """Yields the records of one shard; in place of a record that cannot be used, a Bad.

    Raises:
      ValueError: a whole file is unusable; the message names it.
    """
    if isinstance(dataset, recipe_data.Task):
        from lrl_jax.data.seqio import user_tasks  # imports TensorFlow

        yield from user_tasks.read(dataset, shard)
    else:
        yield from records.read(dataset, shard)


def fingerprints(dataset: recipe_data.Dataset) -> list[list[str]]:
    """Returns a digest of the text of each span of each shard; it does not depend on the path."""
    if isinstance(dataset, recipe_data.Task):
        return imports.fingerprints(dataset)
    return records.fingerprints(dataset, shards(dataset))


def contents(dataset: recipe_data.Dataset) -> dict[str, str]:
    """Returns a digest of everything that a dataset reads, by name."""
    if isinstance(dataset, recipe_data.Task):
        return {uri: text.fingerprint(uri) for uri in imports.uris(dataset)}
    return records.contents(dataset)
