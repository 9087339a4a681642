"""Makes a seqio source of a recipe's dataset: of the records that its filters keep."""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import functools
import itertools
from typing import Any

import numpy as np

from lrl_jax.data import dataset as datasets
from lrl_jax.data.read import duplicates, filters, kinds
from lrl_jax.data.read.contamination import HeldOut
from lrl_jax.data.read.tally import Tally
from lrl_jax.data.seqio.libraries import seqio, tf
from lrl_jax.data.seqio.vocabulary import BLOCK
from lrl_jax.recipe import data as recipe_data

SPLIT = "train"


class Records(seqio.DataSource):
    """Gives seqio the records of a recipe's dataset that its filters keep, shard by shard.

    Args:
      size: how many records there are, if known: seqio keeps small datasets in memory.
      held_out: test texts; records that share text with them are left out.

    Attributes:
      error: the error that ended the last run, which TensorFlow turns into an OpError.
      tally: of the rows that `sifted` has read.
    """

    def __init__(
        self,
        dataset: recipe_data.Dataset,
        size: int | None = None,
        held_out: HeldOut | None = None,
    ):
        self.dataset, self.held_out = dataset, held_out
        self.shards = datasets.shards(dataset)
        self.error: ValueError | None = None
        self.tally = Tally()
        super().__init__(splits=(SPLIT,), num_input_examples={SPLIT: size} if size else None)

    supports_arbitrary_sharding = False

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
        if shuffle and not self.dataset.take:  # `take` is of the first records
            chosen = np.random.default_rng(seed).permutation(chosen)
        fields = kinds.of(self.dataset).fields
        return tf.data.Dataset.from_generator(
            lambda: self._blocks(chosen.tolist(), fields),
            output_signature={name: tf.TensorSpec((None,), tf.string) for name in fields},
        ).unbatch()

    def _blocks(self, chosen: Sequence[int], fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yields records in blocks; record by record TensorFlow takes 20 times as long."""
        records = itertools.chain.from_iterable(kept for _, kept in self.sifted(chosen))
        with self.keeping_errors():
            while block := list(itertools.islice(records, BLOCK)):
                yield {name: [record[name].encode() for record in block] for name in fields}

    @contextlib.contextmanager
    def keeping_errors(self) -> Iterator[None]:
        """Keeps in `error` a ValueError that is raised inside, or by a function this decorates."""
        try:
            yield
        except ValueError as e:
            self.error = e
            raise

    def sifted(
        self, chosen: Sequence[int] | None = None
    ) -> Iterator[tuple[filters.Sieve, Iterator[filters.Record]]]:
        """Yields for every shard, or the chosen ones, a sieve and the records it keeps.

        The records must be used up before the next shard: only then is the sieve complete.
        """
        left = self.dataset.take
        for shard in range(len(self.shards)) if chosen is None else chosen:
            sieve = filters.Sieve(self.dataset.model_copy(update={"take": left}), self.held_out)
            records = datasets.read(self.dataset, self.shards[shard], self.tally)
            yield sieve, sieve.sift(records, self._repeated[shard])
            if self.dataset.take and not (left := left - len(sieve.digests)):
                return

    @functools.cached_property
    def _repeated(self) -> Sequence[Iterable[int]]:
        """Returns for every shard which of its records repeat earlier ones."""
        settings = self.dataset.filters
        if settings.duplicates == "keep":
            return [()] * len(self.shards)
        surveys = [
            duplicates.survey(self.dataset, datasets.read(self.dataset, shard), self.held_out)
            for shard in self.shards
        ]
        return duplicates.repeated(surveys, settings.duplicates == "near", settings.similarity)
