"""A recipe's datasets as seqio Tasks: what is packed, for whoever works with seqio.

    register("korean", data, tokenizer)["wiki"].get_dataset({"targets": 2048, "weights": 2048})

A Task is: source -> template -> cache boundary -> tokenise -> cut. Its documents are those that
are packed, which happens without seqio; `online` trains on them through seqio alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import functools
import re
import types
from typing import Any

import numpy as np

from lrl_jax.data.seqio.libraries import seqio, tf
from lrl_jax.data.seqio.sources import Records
from lrl_jax.data.seqio.vocabulary import BLOCK, Vocabulary, ragged
from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.recipe import data as recipe_data
from lrl_jax.vocab.tokenizer.types import Tokenizer

Write = Callable[[dict[str, str]], list[templates.Part]]
Encode = Callable[[list[list[templates.Part]]], list[documents.Document]]


def task_name(run: str, dataset: str) -> str:
    """The name a dataset is registered by; seqio allows no `-` in names."""
    return re.sub(r"[^\w.]", "#", f"lrl.{run}.{dataset}")


def register(
    run: str,
    data: recipe_data.Data,
    tokenizer: Tokenizer,
    sizes: Mapping[str, int] = types.MappingProxyType({}),
) -> dict[str, seqio.Task]:
    """Registers a Task for every dataset, in the place of any of the same name.

    Features, of each token: `targets`, its `weights` in the loss, and the place of its `dataset`
    among the recipe's.

    Args:
      sizes: how many records a dataset has, where it is known.
    """
    whole = seqio.PassThroughVocabulary(1 << 30)
    features = {
        "targets": seqio.Feature(Vocabulary(tokenizer), add_eos=True),
        "weights": seqio.Feature(whole, add_eos=False, dtype=tf.float32),
        "dataset": seqio.Feature(whole, add_eos=False),
    }
    found = {}
    for place, (name, dataset) in enumerate(data.datasets.items()):
        source = Records(dataset, sizes.get(name))
        found[name] = put(
            seqio.TaskRegistry,
            task_name(run, name),
            source=source,
            preprocessors=[
                functools.partial(_apply, write=source.told(templates.writer(dataset, tokenizer))),
                seqio.CacheDatasetPlaceholder(),
                functools.partial(
                    _tokenize,
                    encode=source.told(lambda parts: documents.encode(parts, tokenizer)),
                    place=place,
                ),
                functools.partial(_cut, long_documents=data.long_documents),
            ],
            output_features=features,
        )
    return found


def put(registry: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """Adds to a registry, in the place of any of the same name."""
    if name in registry.names():
        registry.remove(name)
    return registry.add(name, *args, **kwargs)


@contextlib.contextmanager
def errors(tasks: Iterable[seqio.Task]) -> Iterator[None]:
    """Brings back the ValueError that TensorFlow wrapped."""
    try:
        yield
    except tf.errors.OpError:
        for task in tasks:
            if isinstance(task.source, Records) and task.source.error:
                raise task.source.error from None
        raise


def _apply(dataset: tf.data.Dataset, write: Write) -> tf.data.Dataset:
    """Records to {parts: strings, weights: floats, controls: bools}."""

    def block(names: Sequence[str], *columns: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = zip(*columns, strict=True)
        found = (dict(zip(names, map(bytes.decode, row), strict=True)) for row in rows)
        written = [write(record) for record in found]
        flat = [part for parts in written for part in parts]
        return (
            np.array([part.text.encode() for part in flat], object),
            np.array([part.weight for part in flat], np.float32),
            np.array([part.control for part in flat], bool),
            np.array([len(parts) for parts in written], np.int64),
        )

    def columns(fields: dict[str, tf.Tensor]) -> dict[str, Any]:
        *found, counts = tf.numpy_function(
            functools.partial(block, list(fields)),
            list(fields.values()),
            (tf.string, tf.float32, tf.bool, tf.int64),
            stateful=False,
        )
        names = ("parts", "weights", "controls")
        return {name: ragged(one, counts) for name, one in zip(names, found, strict=True)}

    return dataset.batch(BLOCK).map(columns).unbatch()


def _tokenize(dataset: tf.data.Dataset, encode: Encode, place: int) -> tf.data.Dataset:
    """Parts to documents, by what packing makes them with."""

    def block(texts, weights, controls, counts) -> tuple[np.ndarray, ...]:
        parts = [
            templates.Part(text.decode(), float(weight), bool(control))
            for text, weight, control in zip(texts, weights, controls, strict=True)
        ]
        ends = np.cumsum(counts)
        rows = [parts[end - count : end] for end, count in zip(ends, counts, strict=True)]
        found = encode(rows)
        return (
            np.concatenate([one.tokens for one in found]).astype(np.int32),
            np.concatenate([one.weights for one in found]).astype(np.float32),
            np.array([len(one.tokens) for one in found], np.int64),
        )

    def columns(example: dict[str, Any]) -> dict[str, Any]:
        names = ("parts", "weights", "controls")
        flat = [example[name].flat_values for name in names]
        tokens, weights, counts = tf.numpy_function(
            block,
            [*flat, example["parts"].row_lengths()],
            (tf.int32, tf.float32, tf.int64),
            stateful=False,
        )
        targets = ragged(tokens, counts)
        return {
            "targets": targets,
            "weights": ragged(weights, counts),
            "dataset": tf.zeros_like(targets) + place,
        }

    return dataset.ragged_batch(BLOCK).map(columns).unbatch()


def _cut(
    dataset: tf.data.Dataset, sequence_length: Any, long_documents: str = "split"
) -> tf.data.Dataset:
    """Long documents in pieces that fit, or as the recipe wants; seqio would drop their tails."""
    if sequence_length is None:
        return dataset
    length = sequence_length["targets"]
    if long_documents == "drop":
        return dataset.filter(lambda example: tf.size(example["targets"]) <= length)
    if long_documents == "truncate":
        return dataset.map(lambda example: {k: v[:length] for k, v in example.items()})

    def pieces(example: dict[str, tf.Tensor]) -> tf.data.Dataset:
        size = tf.cast(tf.size(example["targets"]), tf.int64)
        starts = tf.data.Dataset.range(0, size, length)
        return starts.map(lambda at: {k: v[at : at + length] for k, v in example.items()})

    return dataset.flat_map(pieces)
