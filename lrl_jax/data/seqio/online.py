"""Makes batches with seqio's own pipeline (`backend: seqio`), for debugging and comparison.

    manifests = prepare(recipe.data, tokenizer, folder)                            # lrl data
    stream = Online(recipe.data, plan, read_counts(folder), tokenizer, batch_size)   # lrl train

The documents are those of packed rows; seqio draws them at random one by one, and packs them. Only
on average do tokens have the shares of the plan; to resume at a row, all rows before it are made
once more.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import hashlib
import json
from typing import Any

from etils import epath
import numpy as np

from lrl_jax import storage
from lrl_jax.data.feed import batches
from lrl_jax.data.feed.plan import Plan, PlanStage
from lrl_jax.data.feed.stream import NO_ROW, Batch, Prefetch
from lrl_jax.data.pack import jobs, packing, rows
from lrl_jax.data.read import contamination, filters
from lrl_jax.data.read.tally import Tally, refuse_absent
from lrl_jax.data.seqio import registry
from lrl_jax.data.seqio.libraries import seqio, tf
from lrl_jax.data.seqio.sources import Records
from lrl_jax.data.templates import table as templates
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe.schema import Recipe
from lrl_jax.text import DataError
from lrl_jax.vocab.tokenizer.types import Tokenizer

RUN = "online"  # the run in the names of its Tasks
REMEMBERED = 64  # batches whose datasets are kept; a few batches are read ahead
INTEGERS, FLOATS = (seqio.FeatureConverter.FeatureSpec(dtype=t) for t in (tf.int32, tf.float32))


# ---------------------------------------------------------------------------- packing by seqio
class Decoder(seqio.FeatureConverter):
    """Packs as seqio does, but with any id: ids are raised by 1 before packing, and lowered after.

    seqio takes id 0 for padding: its packer drops a token for every 0 in a document and its
    converters give 0 no loss, which breaks vocabularies that use it. Besides the five features
    of `rows.features`, batches have `dataset`: for each token the index of its dataset.
    """

    TASK_FEATURES = {"weights": FLOATS} | dict.fromkeys(("targets", "dataset"), INTEGERS)
    MODEL_FEATURES = {"decoder_loss_weights": FLOATS} | dict.fromkeys(
        ("decoder_target_tokens", "decoder_input_tokens", "dataset"), INTEGERS
    )
    PACKING_FEATURE_DTYPES = dict.fromkeys(("decoder_segment_ids", "decoder_positions"), tf.int32)

    def __init__(self, bos_id: int, pad_id: int):
        self._pad_id = pad_id
        super().__init__(pack=True, bos_id=bos_id)

    def _convert_features(self, ds: tf.data.Dataset, task_feature_lengths: Any) -> tf.data.Dataset:
        def lift(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            bits = tf.bitcast(example["weights"], tf.int32)  # seqio packs integers only
            return {name: values + 1 for name, values in (example | {"weights": bits}).items()}

        def name_features(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            segments, positions = row["targets_segment_ids"], row["targets_positions"]
            real = segments > 0
            targets = tf.where(real, row["targets"] - 1, self._pad_id)
            inputs = tf.where(positions == 0, self.bos_id, tf.roll(targets, 1, axis=0))
            weights = tf.bitcast(row["weights"] - 1, tf.float32)
            return {
                "decoder_target_tokens": targets,
                "decoder_input_tokens": tf.where(real, inputs, self._pad_id),
                "decoder_loss_weights": tf.where(real, weights, 0.0),
                "decoder_segment_ids": segments,
                "decoder_positions": positions,
                "dataset": row["dataset"] - 1,  # -1 where there is no token
            }

        return self._pack_or_pad(ds.map(lift), task_feature_lengths).map(name_features)

    def get_model_feature_lengths(self, task_feature_lengths: Any) -> dict[str, int]:
        length = task_feature_lengths["targets"]
        return dict.fromkeys([*self.MODEL_FEATURES, *self.PACKING_FEATURE_DTYPES], length)


def packed(
    provider: seqio.Task | seqio.Mixture,
    tokenizer: Tokenizer,
    length: int,
    epochs: int | None = 1,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Returns rows of a Task or Mixture, made and packed by seqio; shuffled if there is a seed."""
    return seqio.get_dataset(
        provider,
        dict.fromkeys(Decoder.TASK_FEATURES, length),
        Decoder(tokenizer.bos_id, tokenizer.pad_id),
        shuffle=seed is not None,
        seed=seed,
        num_epochs=epochs,
        verbose=False,
    )


# ---------------------------------------------------------------------------- preparing
COUNTS = "online.json"
WHAT_IT_IS = (
    "backend: seqio is for debugging: it draws examples, not tokens, so that shares hold on "
    "average only; and a run that is resumed makes all batches before that point once more"
)


def refuse(recipe: Recipe) -> None:
    """Raises ValueError for settings of a recipe that seqio's own pipeline cannot follow."""
    data, instead = recipe.data, "leave it out, or take data.backend: packed"
    if data.packing != "best_fit":
        why = "is not what seqio does, which packs in its own way"
        raise ValueError(f"data.packing: {data.packing} {why}; {instead}")
    for name, dataset in data.datasets.items():
        if dataset.order != "shuffled":
            why = "is not kept by seqio, which draws documents"
            raise ValueError(f"data.datasets.{name}.order: {dataset.order} {why}; {instead}")
    for stage in recipe.train.stages:
        if stage.epochs:
            raise ValueError(
                f"stage {stage.name!r}: epochs are not kept by seqio, which draws documents; give "
                "steps, or take data.backend: packed"
            )


@dataclasses.dataclass(frozen=True)
class Counted:
    """Holds what a dataset would be if it were packed, and how many pieces its documents become.

    The manifest has no files, and as many rows as its tokens fill.
    """

    manifest: rows.Manifest
    pieces: int


def prepare(
    data: recipe_data.Data, tokenizer: Tokenizer, folder: epath.PathLike
) -> dict[str, rows.Manifest]:
    """Reads every dataset once, and writes the counts of it that `Online` needs to `folder`."""
    counts = {name: _count(data, name, tokenizer) for name in data.datasets}
    tree = {name: dataclasses.asdict(counted) for name, counted in counts.items()}
    storage.write(epath.Path(folder) / COUNTS, (json.dumps(tree, indent=1) + "\n").encode())
    return {name: counted.manifest for name, counted in counts.items()}


def read_counts(folder: epath.PathLike) -> dict[str, Counted]:
    """Reads the counts that `prepare` wrote; raises ValueError for those of another version."""
    path = epath.Path(folder) / COUNTS
    if not path.exists():
        raise DataError(f"{path}: no such file; run `lrl data` with data.backend: seqio")
    try:
        return {
            name: Counted(rows.Manifest(**(entry["manifest"] | {"shards": ()})), entry["pieces"])
            for name, entry in storage.read_json(path).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise DataError(f"{path}: not of this version ({e}); run `lrl data` again") from None


def _count(data: recipe_data.Data, name: str, tokenizer: Tokenizer) -> Counted:
    dataset = data.datasets[name]
    write = templates.writer(dataset, tokenizer)
    cutter = packing.Cutter(tokenizer, data, lambda documents: None)
    pieces, digests, total = 0, set(), packing.Count()
    held_out = contamination.gather(data.decontaminate) if data.decontaminate else None
    source = Records(dataset, held_out=held_out)
    for sieve, kept in source.sifted():
        pieces += sum(1 for _ in cutter.pieces(write(record) for record in kept))
        digests |= set(sieve.digests)
        total += packing.counted(sieve, Tally())
    tally = source.tally
    refuse_absent(dataset, name, tally)
    total += packing.Count(source_rows=tally.rows, unread=tally.unread, absent=tally.absent)
    filters.verdict(dataset, name, total.left_out, total.records - total.left_out.total())
    total += cutter.count
    if not total.loss_tokens:
        raise DataError(f"dataset {name!r}: nothing of its text is learnt; see its template")
    mark = f"seqio {jobs.fingerprint(data, name, tokenizer)}"
    mark = hashlib.sha256(mark.encode()).hexdigest()
    manifest = jobs.manifest_of(data, name, tokenizer, mark, total, len(digests))
    return Counted(manifest, pieces)


# ---------------------------------------------------------------------------- batches
class Online:
    """Yields batches of `data` by `plan`, with the interface of `stream.Stream`.

    Every process makes whole batches and keeps some rows of them. The batches depend on the seed,
    the plan and the row alone, not on the number of processes.

    Args:
      row_places: places in a batch of the rows this process keeps; None: all of them.
    """

    def __init__(
        self,
        data: recipe_data.Data,
        plan: Plan,
        counts: Mapping[str, Counted],
        tokenizer: Tokenizer,
        batch_size: int,
        row_places: Sequence[int] | np.ndarray | None = None,
    ):
        for name, counted in counts.items():
            if counted.manifest.tokenizer != tokenizer.fingerprint:
                raise DataError(f"dataset {name!r} was counted with another tokenizer")
        self.plan, self.batch_size, self.sequence_length = plan, batch_size, data.sequence_length
        self.manifests = {name: counts[name].manifest for name in plan.names}
        self._counts, self._tokenizer = counts, tokenizer
        sizes = {name: counted.manifest.docs for name, counted in counts.items()}
        self._tasks = registry.register_datasets(RUN, data, tokenizer, sizes)
        self._plan_indices = np.array([*map(plan.names.index, data.datasets), 0])
        self._row_places = np.asarray(range(batch_size) if row_places is None else row_places, int)
        self._next = -1  # the global row that the iterator gives next
        self._rows: Iterator[Batch] = iter(())
        self._ids: dict[int, np.ndarray] = {}

    def batch_at(self, g: int, count: int | None = None) -> Batch:
        """Returns our rows of the batch at global row `g`; fast only in ascending order.

        Rows beyond `count`, if that is less than the batch size, are padding alone.
        """
        count = self.batch_size if count is None else count
        if g != self._next:
            self._rows = self._from(g)
        with registry.errors(self._tasks.values()):
            made = [next(self._rows) for _ in range(count)]
        self._next = g + count
        batch = {name: np.stack([row[name] for row in made]) for name in made[0]}
        most = [np.bincount(row[row >= 0]).argmax() for row in batch.pop("dataset")]  # -1: no token
        self._ids[g] = self._plan_indices[most]
        if len(self._ids) > REMEMBERED:
            del self._ids[next(iter(self._ids))]
        padding = [NO_ROW] * (self.batch_size - count)
        ids = self._tokenizer.bos_id, self._tokenizer.pad_id
        for name, empty in rows.features(padding, self.sequence_length, *ids).items():
            batch[name] = np.concatenate([batch[name], empty])
        return {name: array[self._row_places] for name, array in batch.items()}

    def dataset_ids(self, g: int, count: int | None = None) -> np.ndarray:
        """Returns the dataset of most tokens of each row, for a batch that was just read."""
        return self._ids[g][:count]

    def prefetch(self, start_row: int, ends: Sequence[int] = ()) -> Prefetch:
        """Yields batches from `start_row` on, read ahead on a thread; `ends` as in `Stream`."""
        spans = batches.spans(start_row, ends or [self.plan.total], self.batch_size)
        return Prefetch(self.batch_at, spans)

    def _from(self, g: int) -> Iterator[Batch]:
        """Yields rows from global row `g` on; earlier rows of its stage are made and skipped."""
        first = int(self.plan.stage_at(g))
        start = sum(stage.rows for stage in self.plan.stages[:first])
        stages = [self._stage(number, stage) for number, stage in enumerate(self.plan.stages)]
        whole = functools.reduce(tf.data.Dataset.concatenate, stages[first:])
        return iter(whole.skip(g - start).as_numpy_iterator())

    def _stage(self, number: int, stage: PlanStage) -> tf.data.Dataset:
        counts = self._counts
        rates = [  # of documents, such that tokens have the plan's shares
            (self._tasks[name].name, weight * counts[name].pieces / counts[name].manifest.tokens)
            for name, weight in stage.weights.items()
            if weight
        ]
        name = registry.task_name(RUN, f"stage.{number}")
        mixture = registry.put(seqio.MixtureRegistry, name, rates)
        seed = self.plan.seed + number
        return packed(mixture, self._tokenizer, self.sequence_length, None, seed).take(stage.rows)
