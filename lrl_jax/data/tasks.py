"""seqio Tasks and Mixtures of a recipe, and the online route.

    register("korean", data, tokenizer)
    for example in examples(seqio.TaskRegistry.get(task_name("korean", "wiki"))): ...

A Task is: source -> template -> cache boundary -> tokenise -> split. `pack` takes what comes
before the boundary and tokenises it in batches, which is 3 to 6 times faster; `online_batches`
runs the whole Task, lets seqio pack, and gives batches with the same content.
"""

from collections.abc import Iterator, Sequence
import contextlib
import functools
import re
from typing import Any

import numpy as np

from lrl_jax import recipe, recipe_data
from lrl_jax.data import records, templates
from lrl_jax.data.sources import BLOCK, Records, Vocabulary, ragged, seqio, tf
from lrl_jax.vocab.tokenizer import Tokenizer


# ---------------------------------------------------------------------------- preprocessors
def _apply(template: str) -> Any:
    """Records to {parts: strings, weights: floats}."""

    def write(names: Sequence[str], *columns: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = zip(*columns, strict=True)
        found = (dict(zip(names, map(bytes.decode, row), strict=True)) for row in rows)
        written = [templates.parts(template, record) for record in found]
        return (
            np.array([part.text.encode() for parts in written for part in parts], object),
            np.array([part.weight for parts in written for part in parts], np.float32),
            np.array([len(parts) for parts in written]),
        )

    def block(columns: dict[str, tf.Tensor]) -> dict[str, Any]:
        texts, weights, counts = tf.numpy_function(
            functools.partial(write, list(columns)),
            list(columns.values()),
            (tf.string, tf.float32, tf.int64),
            stateful=False,
        )
        return {"parts": ragged(texts, counts), "part_weights": ragged(weights, counts)}

    return lambda dataset: dataset.batch(BLOCK).map(block).unbatch()


def _tokenize(dataset: tf.data.Dataset, output_features: Any) -> tf.data.Dataset:
    vocabulary = output_features["targets"].vocabulary

    def one(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        ids = vocabulary.encode_tf(example["parts"])
        weights = tf.repeat(example["part_weights"], ids.row_lengths())
        return {
            "targets": tf.concat([ids.values, [vocabulary.eos_id]], 0),
            "weights": tf.concat([weights, [1.0]], 0),
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


def register(run: str, data: recipe_data.Data, tokenizer: Tokenizer) -> dict[str, seqio.Task]:
    """Registers a Task for every dataset, in the place of any of the same name."""
    features = {
        "targets": seqio.Feature(Vocabulary(tokenizer), add_eos=True),
        "weights": seqio.Feature(seqio.PassThroughVocabulary(2), add_eos=False, dtype=tf.float32),
    }
    return {
        name: _add(
            seqio.TaskRegistry,
            task_name(run, name),
            source=Records(dataset),
            preprocessors=[
                _apply(records.template(dataset)),
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


def source(task: seqio.Task) -> Records:
    """The source of a task that `register` made."""
    assert isinstance(task.source, Records)
    return task.source


def examples(task: seqio.Task, shard: int) -> Iterator[list[templates.Part]]:
    """The documents of one shard as text, through the Task up to its cache boundary.

    Raises:
      ValueError: the source is bad, as file:line.
    """
    info = seqio.ShardInfo(shard, len(source(task).shards))
    dataset = source(task).get_dataset(shuffle=False, shard_info=info)
    dataset = task.preprocess_precache(dataset)
    with _errors(task):
        for block in dataset.ragged_batch(BLOCK):
            texts, weights = block["parts"].to_list(), block["part_weights"].to_list()
            for example in zip(texts, weights, strict=True):
                yield [
                    templates.Part(text.decode(), weight)
                    for text, weight in zip(*example, strict=True)
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
            if error := source(task).error:
                raise error from None
        raise


# ---------------------------------------------------------------------------- online route
class Decoder(seqio.FeatureConverter):
    """seqio's packing with any id, 0 included: ids go through it one higher.

    seqio takes id 0 for padding: its packer drops a token for every 0 in a document and its
    converters give 0 no loss, which breaks vocabularies that use it.
    """

    TASK_FEATURES = {  # noqa: RUF012  (seqio's name and form)
        "targets": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "weights": seqio.FeatureConverter.FeatureSpec(dtype=tf.float32),
    }
    MODEL_FEATURES = {  # noqa: RUF012
        name: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32)
        for name in ("decoder_target_tokens", "decoder_input_tokens")
    } | {"decoder_loss_weights": seqio.FeatureConverter.FeatureSpec(dtype=tf.float32)}
    PACKING_FEATURE_DTYPES = {  # noqa: RUF012
        "decoder_segment_ids": tf.int32,
        "decoder_positions": tf.int32,
    }

    def __init__(self, bos_id: int, pad_id: int):
        self._pad_id = pad_id
        super().__init__(pack=True, bos_id=bos_id)

    def _convert_features(self, ds: tf.data.Dataset, task_feature_lengths: Any) -> tf.data.Dataset:
        def lift(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            bits = tf.bitcast(example["weights"], tf.int32)  # seqio packs integers only
            return {"targets": example["targets"] + 1, "weights": bits + 1}

        def name_features(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            segments, positions = row["targets_segment_ids"], row["targets_positions"]
            real = segments > 0
            targets = tf.where(real, row["targets"] - 1, self._pad_id)
            inputs = tf.roll(targets, 1, axis=0)
            inputs = tf.where(positions == 0, self.bos_id, inputs)
            return {
                "decoder_target_tokens": targets,
                "decoder_input_tokens": tf.where(real, inputs, self._pad_id),
                "decoder_loss_weights": tf.where(
                    real, tf.bitcast(row["weights"] - 1, tf.float32), 0.0
                ),
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
    data: recipe_data.Data,
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
