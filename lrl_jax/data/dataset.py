"""Opens any dataset of a recipe: its shards, its records, and what they depend on.

    for shard in shards(dataset):
        for record in read(dataset, shard): ...       {"text": "..."}, or text.Bad

Records lie in files and catalogues, which `read.records` reads, or are given by a user's own seqio
Task, which `seqio.imports` asks about and `seqio.user_tasks` runs. Whoever wants records comes by
here and need not know which.
"""

from collections.abc import Iterator
import itertools

from lrl_jax import text
from lrl_jax.data.read import kinds, records
from lrl_jax.data.read.makers import Record
from lrl_jax.data.read.records import Shard
from lrl_jax.data.seqio import imports
from lrl_jax.recipe import data as recipe_data


def shards(dataset: recipe_data.Dataset) -> list[Shard]:
    """Returns the shards of a dataset, one job each; what `take` counts is one shard.

    Depends on the data alone, so that any number of workers makes the same rows.

    Raises:
      ValueError: a file is missing, empty or cut short.
    """
    if isinstance(dataset, recipe_data.Task):
        every = imports.shards(dataset)
    else:
        every = records.shards(dataset)
    return [tuple(itertools.chain(*every))] if dataset.take else every


def read(dataset: recipe_data.Dataset, shard: Shard) -> Iterator[Record | text.Bad]:
    """Yields the records of one shard; in the place of one that cannot be used, why.

    Raises:
      ValueError: what makes a whole file unusable, with its name.
    """
    if isinstance(dataset, recipe_data.Task):
        from lrl_jax.data.seqio import user_tasks  # TensorFlow

        yield from user_tasks.read(dataset, shard)
    else:
        yield from records.read(dataset, shard)


def uris(dataset: recipe_data.Dataset) -> tuple[str, ...]:
    """Returns every file a dataset names; of aligned files, the source first."""
    if isinstance(dataset, recipe_data.Task):
        return imports.uris(dataset)
    return dataset.files()


def fingerprints(dataset: recipe_data.Dataset) -> list[list[str]]:
    """Returns what the text of each shard is, wherever it lies: a digest for each of its spans."""
    if isinstance(dataset, recipe_data.Task):
        return imports.fingerprints(dataset)
    return records.fingerprints(dataset, shards(dataset))


def contents(dataset: recipe_data.Dataset) -> dict[str, str]:
    """Returns everything a dataset reads, by name, with a digest that changes when it does."""
    if isinstance(dataset, recipe_data.Task):
        return {uri: text.fingerprint(uri) for uri in imports.uris(dataset)}
    return records.contents(dataset)


def fields(dataset: recipe_data.Dataset) -> tuple[str, ...]:
    """Returns the fields every record of this dataset has."""
    return kinds.of(dataset).fields


def language(dataset: recipe_data.Dataset) -> str:
    """Returns the FLORES code of a dataset; of pairs, both."""
    return dataset.language
