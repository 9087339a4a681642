"""seqio Tasks and Mixtures of a recipe: the only door to seqio and TensorFlow.

    register("korean", data, tokenizer)
    for example in examples(seqio.TaskRegistry.get(task_name("korean", "wiki"))): ...

A Task is: source -> template -> cache boundary -> tokenise -> split. `pack` takes what comes
before the boundary and tokenises it in batches, which is 3 to 6 times faster; `online_batches`
runs the whole Task, lets seqio pack, and gives batches with the same content.
"""

from collections.abc import Iterator, Sequence
import contextlib
import functools
import itertools
import os
import re
import sys
import tempfile
from typing import Any

import numpy as np

from lrl_jax import recipe
from lrl_jax.data import sources, templates
from lrl_jax.vocab.tokenizer import Tokenizer


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
BLOCK = 256  # records that cross into TensorFlow and back together
FIELDS = {
    "text": ("text",),
    "jsonl": ("text",),
    "parallel": ("source", "target", "source_language", "target_language"),
    "instructions": ("instruction", "input", "output"),
}


# ---------------------------------------------------------------------------- source
class Records(seqio.DataSource):
    """A recipe's dataset as a seqio source; its shards are those of `sources.shards`.

    Attributes:
      skipped: records left out because a half of them was empty, in the runs so far.
      error: what the last run failed with; TensorFlow would turn it into an OpError.
    """

    def __init__(self, dataset: recipe.Dataset):
        self.dataset = dataset
        self.shards = sources.shards(dataset)
        self.skipped = 0
        self.error: ValueError | None = None
        super().__init__(splits=(SPLIT,))

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
        if shuffle:
            chosen = np.random.default_rng(seed).permutation(chosen)
        fields = FIELDS[self.dataset.kind]
        return tf.data.Dataset.from_generator(
            lambda: self._blocks(chosen, fields),
            output_signature={name: tf.TensorSpec((None,), tf.string) for name in fields},
        ).unbatch()

    def _blocks(self, chosen: Sequence[int], fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Complete records in blocks: one at a time costs TensorFlow 20 times as long."""
        try:
            records = self._records(chosen)
            while block := list(itertools.islice(records, BLOCK)):
                yield {name: [record[name].encode() for record in block] for name in fields}
        except ValueError as e:
            self.error = e
            raise

    def _records(self, chosen: Sequence[int]) -> Iterator[sources.Record]:
        for shard in chosen:
            for record in sources.records(self.dataset, self.shards[shard]):
                if sources.complete(record):
                    yield record
                else:
                    self.skipped += 1


# ---------------------------------------------------------------------------- vocabulary
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
            return np.array([i for one in ids for i in one], np.int32), np.array(
                [len(one) for one in ids], np.int64
            )

        values, lengths = tf.numpy_function(encode, [s], [tf.int32, tf.int64], stateful=False)
        values.set_shape([None])
        lengths.set_shape([None])
        return tf.RaggedTensor.from_row_lengths(values, lengths)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(
            lambda row: self.tokenizer.decode(row).encode(), [ids], tf.string, stateful=False
        )


# ---------------------------------------------------------------------------- preprocessors
def _apply(template: str) -> Any:
    """Records to {parts: strings, trained: booleans}."""

    def write(names: Sequence[str], *columns: np.ndarray) -> tuple[np.ndarray, ...]:
        records = (dict(zip(names, map(bytes.decode, row), strict=True)) for row in zip(*columns))
        written = [templates.parts(template, record) for record in records]
        return (
            np.array([part.text.encode() for parts in written for part in parts], object),
            np.array([part.trained for parts in written for part in parts]),
            np.array([len(parts) for parts in written]),
        )

    def block(records: dict[str, tf.Tensor]) -> dict[str, tf.RaggedTensor]:
        texts, trained, counts = tf.numpy_function(
            functools.partial(write, list(records)),
            list(records.values()),
            (tf.string, tf.bool, tf.int64),
            stateful=False,
        )
        columns = {"parts": texts, "trained": trained}
        return {
            name: tf.RaggedTensor.from_row_lengths(
                tf.ensure_shape(column, [None]), tf.ensure_shape(counts, [None])
            )
            for name, column in columns.items()
        }

    return lambda dataset: dataset.batch(BLOCK).map(block).unbatch()


def _tokenize(dataset: tf.data.Dataset, output_features: Any) -> tf.data.Dataset:
    vocabulary = output_features["targets"].vocabulary

    def one(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        ids = vocabulary.encode_tf(example["parts"])
        weights = tf.repeat(tf.cast(example["trained"], tf.int32), ids.row_lengths())
        return {
            "targets": tf.concat([ids.values, [vocabulary.eos_id]], 0),
            "weights": tf.concat([weights, [1]], 0),
        }

    return dataset.map(one)


def _split(dataset: tf.data.Dataset, sequence_length: Any) -> tf.data.Dataset:
    """Cuts long documents into pieces that fit; seqio alone would drop their tails."""
    if sequence_length is None:
        return dataset
    length = sequence_length["targets"]

    def pieces(example: dict[str, tf.Tensor]) -> tf.data.Dataset:
        size = tf.cast(tf.size(example["targets"]), tf.int64)
        starts = tf.data.Dataset.range(0, size, length)
        return starts.map(lambda at: {k: v[at : at + length] for k, v in example.items()})

    return dataset.flat_map(pieces)


# ---------------------------------------------------------------------------- registry
def task_name(run: str, dataset: str) -> str:
    """The name a dataset is registered by; seqio allows no `-` in names."""
    return re.sub(r"[^\w.]", "#", f"lrl.{run}.{dataset}")


def register(run: str, data: recipe.Data, tokenizer: Tokenizer) -> dict[str, seqio.Task]:
    """Registers a Task for every dataset, in the place of any of the same name."""
    features = {
        "targets": seqio.Feature(Vocabulary(tokenizer), add_eos=True),
        "weights": seqio.Feature(seqio.PassThroughVocabulary(2), add_eos=False),
    }
    return {
        name: _add(
            seqio.TaskRegistry,
            task_name(run, name),
            source=Records(dataset),
            preprocessors=[
                _apply(sources.template(dataset)),
                seqio.CacheDatasetPlaceholder(),
                _tokenize,
                _split,
            ],
            output_features=features,
        )
        for name, dataset in data.datasets.items()
    }


def register_mixture(run: str, stage: recipe.Stage) -> seqio.Mixture:
    """Registers a stage as a Mixture of the run's tasks, which must be registered."""
    rates = [(task_name(run, name), weight) for name, weight in stage.mixture.items()]
    return _add(seqio.MixtureRegistry, task_name(run, f"stage.{stage.name}"), rates)


def rates(run: str, stage: recipe.Stage) -> dict[str, float]:
    """The weights of a stage as its registered Mixture says them, summing to one."""
    mixture = seqio.MixtureRegistry.get(task_name(run, f"stage.{stage.name}"))
    weight = {task.name: mixture.get_rate(task) / mixture.total_rate for task in mixture.tasks}
    return {name: weight[task_name(run, name)] for name in stage.mixture}


def examples(task: seqio.Task, shard: int) -> Iterator[list[templates.Part]]:
    """The documents of one shard as text, through the Task up to its cache boundary.

    Raises:
      ValueError: the source is bad, as file:line.
    """
    count = len(task.source.shards)
    dataset = task.source.get_dataset(shuffle=False, shard_info=seqio.ShardInfo(shard, count))
    dataset = task.preprocess_precache(dataset)
    with _errors(task):
        for block in dataset.ragged_batch(BLOCK):
            texts, trained = block["parts"].to_list(), block["trained"].to_list()
            for example in zip(texts, trained, strict=True):
                yield [
                    templates.Part(text.decode(), flag) for text, flag in zip(*example, strict=True)
                ]


def _add(registry: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    if name in registry.names():
        registry.remove(name)
    return registry.add(name, *args, **kwargs)


@contextlib.contextmanager
def _errors(*tasks: seqio.Task) -> Iterator[None]:
    """Brings back the ValueError that TensorFlow wrapped."""
    try:
        yield
    except tf.errors.OpError:
        for task in tasks:
            if task.source.error:
                raise task.source.error from None
        raise


# ---------------------------------------------------------------------------- online route
class Decoder(seqio.FeatureConverter):
    """seqio's packing with any id, 0 included: ids go through it one higher.

    seqio takes id 0 for padding: its packer drops a token for every 0 in a document and its
    converters give 0 no loss, which breaks vocabularies that use it.
    """

    TASK_FEATURES = {  # noqa: RUF012  (seqio's name and form)
        "targets": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "weights": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    }
    MODEL_FEATURES = {  # noqa: RUF012
        name: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32)
        for name in ("decoder_target_tokens", "decoder_input_tokens", "decoder_loss_weights")
    }
    PACKING_FEATURE_DTYPES = {  # noqa: RUF012
        "decoder_segment_ids": tf.int32,
        "decoder_positions": tf.int32,
    }

    def __init__(self, bos_id: int, pad_id: int):
        self._pad_id = pad_id
        super().__init__(pack=True, bos_id=bos_id)

    def _convert_features(self, ds: tf.data.Dataset, task_feature_lengths: Any) -> tf.data.Dataset:
        def lift(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {name: example[name] + 1 for name in self.TASK_FEATURES}

        def name_features(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            segments, positions = row["targets_segment_ids"], row["targets_positions"]
            real = segments > 0
            targets = tf.where(real, row["targets"] - 1, self._pad_id)
            inputs = tf.roll(targets, 1, axis=0)
            inputs = tf.where(positions == 0, self.bos_id, inputs)
            return {
                "decoder_target_tokens": targets,
                "decoder_input_tokens": tf.where(real, inputs, self._pad_id),
                "decoder_loss_weights": tf.where(real, row["weights"] - 1, 0),
                "decoder_segment_ids": segments,
                "decoder_positions": positions,
            }

        return self._pack_or_pad(ds.map(lift), task_feature_lengths).map(name_features)

    def get_model_feature_lengths(self, task_feature_lengths: Any) -> dict[str, int]:
        length = task_feature_lengths["targets"]
        return dict.fromkeys([*self.MODEL_FEATURES, *self.PACKING_FEATURE_DTYPES], length)


def online_rows(
    provider: seqio.Task | seqio.Mixture,
    tokenizer: Tokenizer,
    length: int,
    epochs: int | None = 1,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Rows of a Task or Mixture, tokenised and packed by seqio; shuffled if there is a seed."""
    return seqio.get_dataset(
        provider,
        {"targets": length, "weights": length},
        Decoder(tokenizer.bos_id, tokenizer.pad_id),
        shuffle=seed is not None,
        seed=seed,
        num_epochs=epochs,
        verbose=False,
    )


def online_batches(
    data: recipe.Data,
    stages: Sequence[recipe.Stage],
    tokenizer: Tokenizer,
    batch_size: int,
    seed: int = 0,
    start_row: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """`backend: seqio`: yields (first global row, batch) as `Stream.prefetch` does.

    For debugging and comparison. A stage mixes documents, not tokens, as seqio does; starting
    at `start_row` repeats the work before it.
    """
    if batch_size % process_count:
        raise ValueError(f"batch_size {batch_size} does not divide among {process_count} processes")
    tasks = register("online", data, tokenizer).values()
    share = batch_size // process_count
    mine = slice(process_index * share, (process_index + 1) * share)
    g = 0
    for number, stage in enumerate(stages):
        mixture = register_mixture("online", stage)
        rows = online_rows(mixture, tokenizer, data.sequence_length, None, seed + number)
        end = g + stage.steps * batch_size
        skip = min(max(start_row - g, 0) // batch_size, stage.steps)
        g += skip * batch_size
        batches = rows.batch(batch_size, drop_remainder=True).skip(skip)
        with _errors(*tasks):
            for batch in batches.take((end - g) // batch_size).as_numpy_iterator():
                yield g, {name: array[mine] for name, array in batch.items()}
                g += batch_size
