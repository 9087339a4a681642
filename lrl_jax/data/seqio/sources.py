"""Offers a recipe's dataset as a seqio source: the records that its filters keep.

source = Records(recipe.data.datasets["wiki"])
source.get_dataset(shuffle=False)
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import functools
import itertools
from typing import Any, TypeVar

import numpy as np

from lrl_jax.data import dataset as datasets
from lrl_jax.data.read import duplicates, filters
from lrl_jax.data.seqio.libraries import seqio, tf
from lrl_jax.data.seqio.vocabulary import BLOCK
from lrl_jax.recipe import data as recipe_data

SPLIT = "train"
T = TypeVar("T")


class Records(seqio.DataSource):
    """A recipe's dataset as a seqio source: what its filters keep, in the shards of `records`.

    Args:
      size: how many records, if it is known: seqio holds few of them in memory.

    Attributes:
      error: what the last run failed with; TensorFlow would turn it into an OpError.
    """

    def __init__(self, dataset: recipe_data.Dataset, size: int | None = None):
        self.dataset = dataset
        self.shards = datasets.shards(dataset)
        self.error: ValueError | None = None
        super().__init__(splits=(SPLIT,), num_input_examples={SPLIT: size} if size else None)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    def list_shards(self, split: str) -> Sequence[str]:
        return [f"{i:05}" for i in range(len(self.shards))]

    def get_dataset(
        self,
        split: str = SPLIT,
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **unused: Any,
    ) -> tf.data.Dataset:
        del split, unused
        chosen = np.arange(len(self.shards))
        if shard_info:
            chosen = chosen[shard_info.index :: shard_info.num_shards]
        if shuffle and not self.dataset.take:  # it takes the first records
            chosen = np.random.default_rng(seed).permutation(chosen)
        fields = datasets.fields(self.dataset)
        return tf.data.Dataset.from_generator(
            lambda: self._blocks(chosen.tolist(), fields),
            output_signature={name: tf.TensorSpec((None,), tf.string) for name in fields},
        ).unbatch()

    def _blocks(self, chosen: Sequence[int], fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Records in blocks: one at a time costs TensorFlow 20 times as long."""
        found = itertools.chain.from_iterable(kept for _, kept in self.sifted(chosen))
        following = self.told(lambda: list(itertools.islice(found, BLOCK)))
        while block := following():
            yield {name: [record[name].encode() for record in block] for name in fields}

    def told(self, work: Callable[..., T]) -> Callable[..., T]:
        """`work`, whose ValueError is kept in `error`."""

        def guarded(*args: Any) -> T:
            try:
                return work(*args)
            except ValueError as e:
                self.error = e
                raise

        return guarded

    def sifted(
        self, chosen: Sequence[int] | None = None
    ) -> Iterator[tuple[filters.Sieve, Iterator[filters.Record]]]:
        """For every shard, or the chosen ones, a sieve and the records it keeps: use them up."""
        left = self.dataset.take
        for shard in range(len(self.shards)) if chosen is None else chosen:
            sieve = filters.Sieve(self.dataset.model_copy(update={"take": left}))
            found = datasets.read(self.dataset, self.shards[shard])
            yield sieve, sieve.sift(found, self._repeated[shard])
            if self.dataset.take and not (left := left - sieve.kept):
                return

    @functools.cached_property
    def _repeated(self) -> Sequence[Iterable[int]]:
        """For every shard, which of its records are later copies."""
        part = self.dataset.filters
        if part.duplicates == "keep":
            return [()] * len(self.shards)
        found = [
            duplicates.survey(self.dataset, datasets.read(self.dataset, shard))
            for shard in self.shards
        ]
        near = part.duplicates == "near"
        return duplicates.repeated(found, near=near, similarity=part.similarity)
