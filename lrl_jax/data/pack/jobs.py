"""Prepares whole datasets: finds the shards that are not packed yet, packs them, joins the results.

    manifests = prepare_all(recipe.data, tokenizer, "runs/korean/data")

    data/datasets.json                      name -> folder; `packing.folders` reads it
    data/<name>/<fingerprint>/              rows, manifest.json, samples.json, order.npy
    data/<name>/<fingerprint>/rows-*.json   what each file of rows was packed from

A folder's name is a fingerprint of everything its rows depend on, and every file is written whole
or not at all. So a preparation that was killed continues where it stopped, and a damaged shard is
packed again alone. The manifest of a dataset is written last; then datasets.json; then the folders
of earlier preparations are removed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import time
from typing import Any

from etils import epath
import numpy as np

from lrl_jax import storage, text
from lrl_jax.data import arrays
from lrl_jax.data import dataset as datasets
from lrl_jax.data.pack import packed, packing, progress, rows, shared
from lrl_jax.data.pack.packing import Count, ShardJob, Tick
from lrl_jax.data.pack.workers import Runner, Work, local
from lrl_jax.data.read import catalogues, contamination, duplicates, files, filters
from lrl_jax.data.read.makers import NOTHING
from lrl_jax.data.read.tally import Tally, refuse_absent
from lrl_jax.data.templates import table as templates
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import DataError
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

# fields that rows do not depend on: how often text is read, where it lies, and what cards say of it
# (`dataset.fingerprints` covers its content)
NOT_IN_ROWS = {
    "path", "source", "target", "english", "translated", "tfds", "hub", "imports", "max_epochs",
    "license", "origin",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DatasetTarget:
    """Describes what is to be packed of a dataset: a job for every shard of its text.

    `data` are the recipe's data settings with this dataset alone, `mark` is its fingerprint.
    """

    name: str
    data: recipe_data.Data
    mark: str
    folder: epath.Path
    jobs: tuple[ShardJob, ...]

    @property
    def dataset(self) -> recipe_data.Dataset:
        """Returns the dataset's settings in the recipe."""
        return self.data.datasets[self.name]

    @property
    def reads_first(self) -> bool:
        """Tells whether all shards must be read before one can be packed."""
        dataset = self.dataset
        return dataset.filters.duplicates != "keep" or (dataset.take > 0 and len(self.jobs) > 1)


def prepare_all(
    data: recipe_data.Data,
    tokenizer: Tokenizer,
    folder: epath.PathLike,
    report: progress.Report = lambda state: None,
    runner: Runner | None = None,
) -> dict[str, rows.Manifest]:
    """Packs every dataset that is not packed yet, by default in `data.workers` processes here.

    Raises:
      ValueError: a bad source, no document, or no text to train on; names dataset and line.
      OSError: the disk is full.
    """
    folder, runner = epath.Path(folder), runner or local(data.workers)
    targets = {name: target_of(data, name, tokenizer, folder) for name in data.datasets}
    manifests = {name: reusable(target.folder, target.mark) for name, target in targets.items()}
    due = {name: target for name, target in targets.items() if not manifests[name]}
    compared = shared.share(data, tokenizer, folder) if due else None
    for target in due.values():
        _clear(target.folder)
    surveyed = [job for target in due.values() if target.reads_first for job in target.jobs]
    unread = [job for job in surveyed if not job.path(packed.SURVEY).exists()]
    for _ in _run("read", _survey, unread, runner, report):
        pass
    chosen = {name: _chosen(target) for name, target in due.items()}
    unpacked = [job for jobs in chosen.values() for job in jobs if not packed.whole(job)]
    left = Counter(job.name for job in unpacked)
    done = itertools.chain(
        (name for name in due if not left[name]),
        (job.name for job in _run("pack", _pack, unpacked, runner, report)),
    )
    for name in done:
        left[name] -= 1
        if left[name] <= 0:
            manifests[name] = _finish(due[name], chosen[name], tokenizer)
    if compared is not None:
        shared.write_compared(folder, compared)
    _publish(folder, {name: target.folder for name, target in targets.items()})
    return {name: manifest for name, manifest in manifests.items() if manifest}


def fingerprint(data: recipe_data.Data, name: str, tokenizer: Tokenizer) -> str:
    """Returns a digest of everything the rows of a dataset depend on; reads its whole text."""
    dataset = data.datasets[name]
    # as it was before there was a choice: rows that older versions packed stay in use
    answers = [] if data.long_answers == "truncate" else [data.long_answers]
    settings = dataset.model_dump(mode="json", exclude=NOT_IN_ROWS)
    if (asked := dataset.filters.language) and asked.model:  # it may move
        settings["filters"]["language"]["model"] = text.fingerprint(asked.model)
    facts = {
        "version": [packing.VERSION, rows.VERSION],
        "dataset": settings,
        "text": datasets.fingerprints(dataset),
        "template": templates.mark(dataset, tokenizer),
        "tokenizer": tokenizer.fingerprint,
        "rows": [
            data.sequence_length,
            data.packing,
            data.pack_window,
            data.long_documents,
            *answers,
        ],
    }
    if data.decontaminate:
        facts["decontaminate"] = contamination.mark(data.decontaminate)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _run(
    step: str, work: Work, jobs: Sequence[ShardJob], runner: Runner, report: progress.Report
) -> Iterator[ShardJob]:
    """Runs jobs, reports the progress, and yields each job when it is done."""
    if not jobs:
        return
    size = sizes(jobs)
    start = time.monotonic()
    state = progress.State(step, "", 0, len(jobs), 0, 0, sum(size.values()), 0.0)

    def tick(documents: int) -> None:
        nonlocal state
        seconds = time.monotonic() - start
        state = dataclasses.replace(state, documents=state.documents + documents, seconds=seconds)
        report(state)

    for job in runner(work, jobs, tick):
        done = state.bytes + size[job.name, job.number]
        state = dataclasses.replace(state, dataset=job.name, done=state.done + 1, bytes=done)
        tick(0)
        yield job


def sizes(jobs: Sequence[ShardJob]) -> dict[tuple[str, int], int]:
    """Estimates the bytes of text in each shard, by dataset name and shard number.

    The spans of a file count as equally long, and no shard as empty.
    """
    spans = Counter(span.uri for job in jobs for span in job.shard)
    lengths: dict[str, int] = {}
    for uri, count in spans.items():
        path = epath.Path(uri)  # a source that is not a file counts as a usual shard
        lengths[uri] = (path.stat().length if path.exists() else files.SHARD_BYTES) // count
    return {
        (job.name, job.number): max(1, sum(lengths[span.uri] for span in job.shard)) for job in jobs
    }


def reusable(folder: epath.Path, mark: str) -> rows.Manifest | None:
    """Returns the manifest in a folder if it has this fingerprint and its files are undamaged."""
    try:
        manifest = rows.read_manifest(folder)
        rows.read_order(folder, manifest)
    except ValueError:
        return None  # there is no manifest, or a file is damaged
    undamaged = (packed.same(folder, shard) for shard in manifest.shards)
    return manifest if manifest.fingerprint == mark and all(undamaged) else None


def target_of(
    data: recipe_data.Data, name: str, tokenizer: Tokenizer, folder: epath.Path
) -> DatasetTarget:
    """Returns what is to be packed of a dataset, including shards that are packed already."""
    dataset, mark = data.datasets[name], fingerprint(data, name, tokenizer)
    alone = data.model_copy(update={"datasets": {name: dataset}, "mixtures": {}})
    here = folder / name / mark[:16]
    # `take` counts over the whole dataset; `_chosen` divides it among the shards
    divided = dataset.model_copy(update={"take": 0})
    in_order = catalogues.in_order(dataset.catalogue())
    shards = datasets.shards(dataset if in_order else divided)
    home, tests = shared.home(tokenizer, folder), shared.tests(data, folder)
    jobs = (
        ShardJob(
            alone, name, shard, number, len(shards), os.fspath(here), home, dataset.take, 1, tests
        )
        for number, shard in enumerate(shards)
    )
    return DatasetTarget(name, alone, mark, here, tuple(jobs))


def _clear(folder: epath.Path) -> None:
    """Removes a dataset's manifest and unfinished files, so that it does not look complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / rows.MANIFEST).unlink(missing_ok=True)
    for path in folder.glob(f"*{storage.PARTIAL}"):
        path.unlink(missing_ok=True)


def _publish(folder: epath.Path, current: Mapping[str, epath.Path]) -> None:
    """Writes which folders hold the rows, then removes older folders and temporary files.

    This is done after all datasets are finished, not after each: a preparation that is killed
    before it gets here comes here again when it is repeated.
    """
    places = {name: f"{name}/{path.name}" for name, path in current.items()}
    storage.write_json(folder / packing.DATASETS, places)
    for name, place in current.items():
        for path in (folder / name).iterdir():
            if path != place:
                path.rmtree() if path.is_dir() else path.unlink()
        for path in [*place.glob(f"*{packed.SURVEY}"), *place.glob(f"*{packed.COPIES}")]:
            path.unlink(missing_ok=True)
    shared.remove(folder)


# ---------------------------------------------------------------------------- reading first
def _survey(job: ShardJob, tick: Tick) -> None:
    """Saves how many records of a shard pass its filters, or where copies go, their survey."""
    with _named(job):
        items = datasets.read(job.dataset, job.shard)
        held_out = shared.open_held_out(job.held_out)
        if job.dataset.filters.duplicates == "keep":
            sieve = filters.Sieve(job.dataset, held_out)
            survey = np.array(sum(1 for _ in sieve.sift(items)))
        else:
            survey = duplicates.survey(job.dataset, items, held_out)
        arrays.save(job.path(packed.SURVEY), survey)
        tick(int(survey) if survey.ndim == 0 else len(survey))


def _chosen(target: DatasetTarget) -> list[ShardJob]:
    """Returns the jobs of the shards to pack, each with how many records it takes."""
    dataset = target.dataset
    if not target.reads_first:
        return list(target.jobs)
    if dataset.filters.duplicates == "keep":
        passing = [int(arrays.load(job.path(packed.SURVEY))) for job in target.jobs]
    else:
        surveys = packed.surveys(target.jobs, target.folder)
        near = dataset.filters.duplicates == "near"
        copies = duplicates.repeated(surveys, near, dataset.filters.similarity)
        for job, ordinals in zip(target.jobs, copies, strict=True):
            arrays.save(job.path(packed.COPIES), np.asarray(ordinals, np.int64))
        passing = np.subtract([*map(len, surveys)], [*map(len, copies)])
    if not dataset.take:
        return list(target.jobs)
    before = np.cumsum([0, *passing])
    takes = np.clip(dataset.take - before[:-1], 0, passing).tolist()
    return [
        dataclasses.replace(job, take=take)
        for job, take in zip(target.jobs, takes, strict=True)
        if take
    ] or list(target.jobs[:1])  # no record passes: packing the first shard reports why


# ---------------------------------------------------------------------------- one shard
_tokenizer = functools.lru_cache(maxsize=1)(tokenizers.load)


def _pack(job: ShardJob, tick: Tick) -> None:
    """Packs a shard, then writes beside its rows what they were packed from."""
    with _named(job):
        copies = []
        if job.dataset.filters.duplicates != "keep":
            copies = arrays.load(job.path(packed.COPIES)).tolist()
        packed.write(job, packing.pack_shard(job, _tokenizer(job.tokenizer), copies, tick))


@contextlib.contextmanager
def _named(job: ShardJob) -> Iterator[None]:
    """Puts the dataset's name at the beginning of any error raised inside."""
    try:
        yield
    except ValueError as e:
        kind = DataError if isinstance(e, DataError) else ValueError
        raise kind(f"dataset {job.name!r}: {e}") from e


# ---------------------------------------------------------------------------- joining shards
def _finish(target: DatasetTarget, jobs: Sequence[ShardJob], tokenizer: Tokenizer) -> rows.Manifest:
    """Joins the notes of a dataset's shards and writes its files, the manifest last."""
    dataset, folder = target.dataset, target.folder
    notes = [packed.read(job) for job in jobs]
    count = sum((note.count for note in notes), Count())
    samples: dict[str, list[str]] = {}
    for note in notes:
        for reason, records in note.samples.items():
            samples[reason] = (samples.get(reason, []) + records)[: filters.SAMPLES]
    refuse_absent(dataset, target.name, Tally(count.source_rows, count.unread, count.absent))
    taught = count.docs or not count.left_out[NOTHING]
    if taught:
        filters.verdict(dataset, target.name, count.left_out, count.docs, samples)
    if not count.bytes:
        raise DataError(
            f"dataset {target.name!r}: template {dataset.template!r} trains on none of "
            "its text; choose a template that trains on a part of it, or other weights"
        )
    if fingerprint(target.data, target.name, tokenizer) != target.mark:
        raise DataError(
            f"dataset {target.name!r}: its text changed while it was packed; let nobody write to "
            "it and run the same command again"
        )
    storage.write_json(folder / rows.SAMPLES, samples)
    shards = tuple(note.shard for note in notes if note.shard)
    if dataset.order != "shuffled":
        arrays.save(folder / rows.ORDER, packed.order(jobs, sum(shard.rows for shard in shards)))
    distinct = packed.distinct(jobs)
    manifest = manifest_of(
        target.data, target.name, tokenizer, target.mark, count, distinct, shards
    )
    rows.write_manifest(manifest, folder)
    return manifest


def manifest_of(
    data: recipe_data.Data,
    name: str,
    tokenizer: Tokenizer,
    mark: str,
    count: Count,
    distinct: int,
    shards: tuple[rows.Shard, ...] = (),
) -> rows.Manifest:
    """Returns a dataset's manifest; without shards, it has as many rows as its tokens fill."""
    dataset = data.datasets[name]
    counted: dict[str, Any] = {
        key: dict(value) if isinstance(value, Counter) else value
        for key, value in vars(count).items()
    }
    counted["in_tests"] = {uri: count.in_tests[uri] for uri in data.decontaminate}
    return rows.Manifest(
        name=name,
        fingerprint=mark,
        language=dataset.language,
        template=dataset.template,
        order=dataset.order,
        sequence_length=data.sequence_length,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        tokenizer=tokenizer.fingerprint,
        distinct=distinct,
        rows=sum(shard.rows for shard in shards) or -(-count.tokens // data.sequence_length),
        shards=shards,
        provenance=catalogues.provenance(dataset.catalogue()),
        **counted,
    )
