"""Registers what a recipe trains on with seqio: every dataset, mixture and stage, by name.

    register(recipe, "runs/quickstart/vocab", packed="runs/quickstart/data")
    seqio.get_mixture_or_task("lrl.quickstart.continue")        # a stage, rates included

A dataset is a Task: source -> template -> cache boundary -> tokenise -> cut. Its documents are the
same as those that `lrl data` packs without seqio; `online` trains on them through seqio alone.
Mixtures and stages are seqio Mixtures of these Tasks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import functools
import os
import re
import types
from typing import Any

from etils import epath
import numpy as np

from lrl_jax.data.feed import mixture
from lrl_jax.data.pack import packing
from lrl_jax.data.pack.rows import Manifest, read_manifest
from lrl_jax.data.read import contamination
from lrl_jax.data.seqio.libraries import seqio, tf
from lrl_jax.data.seqio.sources import Records
from lrl_jax.data.seqio.vocabulary import BLOCK, Vocabulary, ragged
from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe.schema import Recipe
from lrl_jax.text import DataError
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

PARTS = {"parts": tf.string, "weights": tf.float32, "controls": tf.bool}
Encode = Callable[[list[list[templates.TextPart]]], list[documents.Document]]


def task_name(run: str, dataset: str) -> str:
    """Returns the name by which a dataset is registered; seqio allows no `-` in names."""
    return re.sub(r"[^\w.]", "#", f"lrl.{run}.{dataset}")


def register(
    recipe: Recipe, tokenizer: Tokenizer | epath.PathLike, packed: epath.PathLike | None = None
) -> dict[str, seqio.Task | seqio.Mixture]:
    """Registers every dataset, mixture and stage of a recipe; returns them by registered name.

    The names are `lrl.RUN.NAME`, with `#` for each character that seqio does not allow, such as
    `-`; what had the name before is replaced. A stage with the name of a dataset or a mixture is
    `lrl.RUN.stage.NAME`. A stage with a ramp is registered as a whole, by its mean rates, and again
    as each of its stages in the plan.

    A recipe's weights are shares of tokens, and seqio draws examples: shares are divided by the
    tokens a document of the dataset has. That is exact on average while documents are whole; with
    a sequence_length that cuts long documents, pieces are drawn in their place.

    Args:
      tokenizer: a tokenizer, or its folder, such as `runs/quickstart/vocab`.
      packed: the folder of packed data, which says how long documents are. Without it the shares
        of the recipe are the rates, as if documents of all datasets were equally long.

    Raises:
      ValueError: no tokenizer or packed data there; a mixture that depends on the size of datasets,
        or a stage of `epochs`, without packed data.
    """
    if not isinstance(tokenizer, Tokenizer):
        tokenizer = tokenizers.load(os.fspath(tokenizer))
    manifests = _manifests(recipe, packed) if packed is not None else {}
    sizes = {name: manifest.docs for name, manifest in manifests.items()}
    tasks = register_datasets(recipe.name, recipe.data, tokenizer, sizes)
    providers: dict[str, seqio.Task | seqio.Mixture] = {t.name: t for t in tasks.values()}
    taken = {*recipe.data.datasets, *recipe.data.mixtures}
    mixed = {name: _mixture_rates(recipe, name, manifests) for name in recipe.data.mixtures}
    for name, rates in _stage_rates(recipe, manifests).items():
        mixed[f"stage.{name}" if name in taken else name] = rates
    for name, rates in mixed.items():
        full = task_name(recipe.name, name)
        members = [(tasks[member].name, rate) for member, rate in rates.items() if rate]
        providers[full] = put(seqio.MixtureRegistry, full, members)
    return providers


def _manifests(recipe: Recipe, packed: epath.PathLike) -> dict[str, Manifest]:
    folders = packing.folders(epath.Path(packed))
    if missing := [name for name in recipe.data.datasets if name not in folders]:
        raise DataError(f"{packed}: {', '.join(missing)}: not packed yet; run `lrl data`")
    return {name: read_manifest(folders[name]) for name in recipe.data.datasets}


def _mixture_rates(recipe: Recipe, name: str, manifests: mixture.Manifests) -> dict[str, float]:
    """Returns how often an example of each dataset of a mixture is drawn."""
    sizes = {dataset: manifest.tokens for dataset, manifest in manifests.items()}
    try:
        shares = mixture.shares(recipe.data, {name: 1.0}, sizes)
    except KeyError:
        raise ValueError(_unsized(f"mixture {name!r}")) from None
    if not manifests:
        return shares
    return {n: share * manifests[n].docs / manifests[n].tokens for n, share in shares.items()}


def _stage_rates(recipe: Recipe, manifests: mixture.Manifests) -> dict[str, dict[str, float]]:
    """Returns how often an example of each dataset is drawn, by the names of stages."""
    rates: dict[str, dict[str, float]] = {}
    if not manifests:
        for stage in recipe.train.stages:
            shares = None if stage.epochs else mixture.unsized(recipe, stage)
            if shares is None:
                raise ValueError(_unsized(f"stage {stage.name!r}"))
            rates[stage.name] = shares
        return rates
    per_row = {name: manifest.docs / manifest.rows for name, manifest in manifests.items()}
    for stage, plan_stages in mixture.by_stage(recipe, manifests):
        rows: dict[str, float] = {}
        for plan_stage in plan_stages:
            weights = plan_stage.weights
            whole = sum(weights.values())
            for name, weight in weights.items():
                rows[name] = rows.get(name, 0.0) + plan_stage.rows * weight / whole
            rates[plan_stage.name] = {name: weights[name] * per_row[name] for name in weights}
        rates[stage.name] = {name: count * per_row[name] for name, count in rows.items()}
    return rates


def _unsized(what: str) -> str:
    return (
        f"{what} depends on the size of its datasets; pack them with `lrl data`, and name the "
        "folder with packed="
    )


# ---------------------------------------------------------------------------- datasets
def register_datasets(
    run: str,
    data: recipe_data.Data,
    tokenizer: Tokenizer,
    sizes: Mapping[str, int] = types.MappingProxyType({}),
) -> dict[str, seqio.Task]:
    """Registers a Task for every dataset, and replaces those of the same name.

    Their features hold a value for each token: `targets` its id, `weights` its weight in the loss,
    and `dataset` the index of its dataset in the recipe. `sizes` says how many records a dataset
    has, where that is known.
    """
    any_number = seqio.PassThroughVocabulary(1 << 30)
    features = {
        "targets": seqio.Feature(Vocabulary(tokenizer), add_eos=True),
        "weights": seqio.Feature(any_number, add_eos=False, dtype=tf.float32),
        "dataset": seqio.Feature(any_number, add_eos=False),
    }
    encode, tasks = functools.partial(documents.encode, tokenizer=tokenizer), {}
    held_out = contamination.gather(data.decontaminate) if data.decontaminate else None
    for place, (name, dataset) in enumerate(data.datasets.items()):
        source = Records(dataset, sizes.get(name), held_out)
        write = templates.writer(dataset, tokenizer)
        tasks[name] = put(
            seqio.TaskRegistry,
            task_name(run, name),
            source=source,
            preprocessors=[
                functools.partial(_apply, write=source.keeping_errors()(write)),
                seqio.CacheDatasetPlaceholder(),
                functools.partial(_tokenize, encode=source.keeping_errors()(encode), place=place),
                functools.partial(
                    _cut, long_documents=data.long_documents, long_answers=data.long_answers
                ),
            ],
            output_features=features,
        )
    return tasks


def put(registry: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """Adds an entry to a registry, and replaces one of the same name."""
    if name in registry.names():
        registry.remove(name)
    return registry.add(name, *args, **kwargs)


@contextlib.contextmanager
def errors(tasks: Iterable[seqio.Task]) -> Iterator[None]:
    """Raises the ValueError of a source where TensorFlow has wrapped it."""
    try:
        yield
    except tf.errors.OpError:
        for task in tasks:
            if isinstance(task.source, Records) and task.source.error:
                raise task.source.error from None
        raise


def _apply(dataset: tf.data.Dataset, write: templates.Template) -> tf.data.Dataset:
    """Maps records to the columns of PARTS, which have an entry for each part of a text."""

    def block(names: Sequence[str], *columns: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = zip(*columns, strict=True)
        records = (dict(zip(names, map(bytes.decode, row), strict=True)) for row in rows)
        written = [write(record) for record in records]
        flat = [text_part for parts in written for text_part in parts]
        return (
            np.array([text_part.text.encode() for text_part in flat], object),
            np.array([text_part.weight for text_part in flat], np.float32),
            np.array([text_part.control for text_part in flat], bool),
            np.array([len(parts) for parts in written], np.int64),
        )

    def columns(fields: dict[str, tf.Tensor]) -> dict[str, Any]:
        return ragged(functools.partial(block, list(fields)), list(fields.values()), PARTS)

    return dataset.batch(BLOCK).map(columns).unbatch()


def _tokenize(dataset: tf.data.Dataset, encode: Encode, place: int) -> tf.data.Dataset:
    """Maps parts to documents with the encoder that packing uses."""

    def block(texts, weights, controls, counts) -> tuple[np.ndarray, ...]:
        parts = [
            templates.TextPart(text.decode(), float(weight), bool(control))
            for text, weight, control in zip(texts, weights, controls, strict=True)
        ]
        ends = np.cumsum(counts)
        rows = [parts[end - count : end] for end, count in zip(ends, counts, strict=True)]
        encoded = encode(rows)
        return (
            np.concatenate([document.tokens for document in encoded]).astype(np.int32),
            np.concatenate([document.weights for document in encoded]).astype(np.float32),
            np.array([len(document.tokens) for document in encoded], np.int64),
        )

    def columns(example: dict[str, Any]) -> dict[str, Any]:
        flat = [example[name].flat_values for name in PARTS]
        inputs = [*flat, example["parts"].row_lengths()]
        tokens = ragged(block, inputs, {"targets": tf.int32, "weights": tf.float32})
        return tokens | {"dataset": tf.zeros_like(tokens["targets"]) + place}

    return dataset.ragged_batch(BLOCK).map(columns).unbatch()


def _cut(
    dataset: tf.data.Dataset, sequence_length: Any, long_documents: str, long_answers: str
) -> tf.data.Dataset:
    """Splits, truncates or drops long documents, as the recipe says; seqio would truncate them.

    What has nothing to learn is left out.
    """
    if sequence_length is None:
        return dataset.filter(_learnt)
    length = sequence_length["targets"]

    def pieces(example: dict[str, tf.Tensor]) -> tf.data.Dataset:
        size = tf.cast(tf.size(example["targets"]), tf.int64)
        prompted = tf.reduce_any(example["weights"] <= 0)
        whole = tf.cast(length, tf.int64)

        def end(how: str) -> tf.Tensor:
            if how == "drop":
                return tf.where(size > whole, tf.zeros_like(size), size)
            return size if how == "split" else tf.minimum(size, whole)

        last = end(long_documents)
        if long_documents == "split":
            last = tf.where(prompted, end(long_answers), last)
        starts = tf.data.Dataset.range(0, last, length)
        return starts.map(lambda at: {k: v[at : at + length] for k, v in example.items()})

    return dataset.flat_map(pieces).filter(_learnt)


def _learnt(example: dict[str, tf.Tensor]) -> tf.Tensor:
    return tf.reduce_any(example["weights"] > 0)
