"""A recipe's dataset as a seqio source, and our tokenizer as a seqio vocabulary.

With registry.py the only door to seqio and TensorFlow: they come in quietly and leave accelerators
alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import functools
import itertools
import os
import sys
import tempfile
from typing import Any, TypeVar

import numpy as np

from lrl_jax.data.read import duplicates, filters, records
from lrl_jax.recipe import data as recipe_data
from lrl_jax.vocab.tokenizer.types import Tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what native libraries print while they load; an exception brings it back."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


with _quiet():
    import seqio
    import tensorflow as tf

    for kind in ("GPU", "TPU"):  # accelerators belong to JAX
        tf.config.set_visible_devices([], kind)
    tf.constant(0)  # the first operation prints too

SPLIT = "train"
T = TypeVar("T")
BLOCK = 256  # records that cross into TensorFlow and back together


def ragged(values: tf.Tensor, lengths: tf.Tensor) -> Any:
    """A ragged tensor of rows of these lengths."""
    kind: Any = tf.RaggedTensor
    return kind.from_row_lengths(tf.ensure_shape(values, [None]), tf.ensure_shape(lengths, [None]))


class Records(seqio.DataSource):
    """A recipe's dataset as a seqio source: what its filters keep, in the shards of `records`.

    Args:
      size: how many records, if it is known: seqio holds few of them in memory.

    Attributes:
      error: what the last run failed with; TensorFlow would turn it into an OpError.
    """

    def __init__(self, dataset: recipe_data.Dataset, size: int | None = None):
        self.dataset = dataset
        self.shards = records.shards(dataset)
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
        fields = records.fields(self.dataset)
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
    ) -> Iterator[tuple[filters.Sieve, Iterator[records.Record]]]:
        """For every shard, or the chosen ones, a sieve and the records it keeps: use them up."""
        left = self.dataset.take
        for shard in range(len(self.shards)) if chosen is None else chosen:
            sieve = filters.Sieve(self.dataset.model_copy(update={"take": left}))
            found = records.read(self.dataset, self.shards[shard])
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
            duplicates.survey(self.dataset, records.read(self.dataset, shard))
            for shard in self.shards
        ]
        near = part.duplicates == "near"
        return duplicates.repeated(found, near=near, similarity=part.similarity)


class Vocabulary(seqio.Vocabulary):
    """Our tokenizer as a seqio vocabulary. Its pad id is no id in particular: see `Decoder`."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        super().__init__()

    bos_id = property(lambda self: self.tokenizer.bos_id)
    eos_id = property(lambda self: self.tokenizer.eos_id)
    pad_id = property(lambda self: self.tokenizer.pad_id)
    unk_id = property(lambda self: None)
    _base_vocab_size = property(lambda self: self.tokenizer.size)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Vocabulary)
        return same and other.tokenizer.fingerprint == self.tokenizer.fingerprint

    def __hash__(self) -> int:
        return hash(self.tokenizer.fingerprint)

    def _encode(self, s: str) -> list[int]:
        return self.tokenizer.encode(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        """Ids of a string, or a ragged tensor for a vector of strings."""
        if s.shape.rank == 0:
            return self._encode_tf(s[None]).values

        def encode(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            ids = self.tokenizer.encode_batch([one.decode() for one in texts])
            flat = np.array([i for one in ids for i in one], np.int32)
            return flat, np.array([len(one) for one in ids], np.int64)

        values, lengths = tf.numpy_function(encode, [s], [tf.int32, tf.int64], stateful=False)
        return ragged(values, lengths)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(
            lambda row: self.tokenizer.decode(row).encode(), [ids], tf.string, stateful=False
        )
