"""Gathers what the card of a run says: its data, its tokens a word, its scores, what it is made of.

Nothing here is required: a run has the facts of those steps that it has done.
"""

from collections.abc import Mapping
import posixpath
from typing import Any

from etils import epath
import numpy as np

from lrl_jax import storage
from lrl_jax.data.pack import packing, rows
from lrl_jax.evaluate import intervals, kinds
from lrl_jax.evaluate.benchmark import items, paired
from lrl_jax.evaluate.rows import ComparableScore
from lrl_jax.hf import card
from lrl_jax.pipeline import notes
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.dataset import Dataset, Hub, Tfds
from lrl_jax.text import SAMPLE

SHOWN = 16  # digits of a digest in a table
FILES = 4  # names of files that a source shows
# Scores that say nothing to who reads the card of one model.
UNSAID = ("bits_per_byte.nats_per_token", "bits_per_byte.tokens_per_line")


# ---------------------------------------------------------------------------- data
def datasets(run: Run) -> list[card.CardDataset]:
    """Returns the datasets of the recipe, with what was packed of each."""
    try:
        folders = packing.folders(run.at("data"))
    except ValueError:  # not packed, as where seqio makes rows during training
        folders = {}
    described = []
    for name, dataset in run.recipe.data.datasets.items():
        packed = folders.get(name)
        manifest = rows.read_manifest(packed) if packed is not None else None
        provenance = manifest.provenance if manifest else {}
        described.append(
            card.CardDataset(
                name,
                dataset.language,
                dataset.origin or _of_hub(provenance) or source(dataset),
                dataset.license or provenance.get("license", "") or _of_sample(dataset),
                manifest.tokens if manifest else 0,
                manifest.fingerprint[:SHOWN] if manifest else "",
            )
        )
    return described


def _of_hub(provenance: Mapping[str, str]) -> str:
    """Returns where text of the hub came from, as the record of a packed dataset says it.

    >>> _of_hub({"dataset": "a/b", "files": "ne/*.parquet", "revision": "0123456789abcdef"})
    'a/b ne/*.parquet at 0123456789abcdef'
    """
    at = f"at {provenance['revision'][:SHOWN]}" if "revision" in provenance else ""
    files_or_config = provenance.get("files") or provenance.get("config", "")
    return " ".join(filter(None, (provenance.get("dataset", ""), files_or_config, at)))


def _of_sample(dataset: Dataset) -> str:
    """Returns the licence of the sample's text, where a dataset is made of that alone."""
    files = dataset.files()
    return "cc0-1.0" if files and all(name.startswith(SAMPLE) for name in files) else ""


def source(dataset: Dataset) -> str:
    """Returns where a dataset comes from, without the folders of this machine."""
    catalogue = dataset.catalogue()
    if isinstance(catalogue, Tfds):
        return f"TFDS {catalogue.builder}"
    if isinstance(catalogue, Hub):
        named = card.HUB_ID.fullmatch(catalogue.dataset)
        name = catalogue.dataset if named else posixpath.basename(catalogue.dataset.rstrip("/"))
        plain = catalogue.revision == "main" and not catalogue.config
        revision = "" if catalogue.revision == "main" else f" at {catalogue.revision[:SHOWN]}"
        return name if plain else f"{name} {catalogue.config}".strip() + revision
    names = [
        f"the sample, {name.removeprefix(SAMPLE)}"
        if name.startswith(SAMPLE)
        else posixpath.basename(name)
        for name in dataset.files()
    ]
    more = f" and {len(names) - FILES} more" if len(names) > FILES else ""
    return ", ".join(names[:FILES]) + more or getattr(dataset, "task", "") or dataset.kind


# ---------------------------------------------------------------------------- tokens
def fertility(run: Run) -> list[card.CardFertility]:
    """Returns how many tokens each language takes before and after, as `lrl vocab` measured it."""
    path = run.at("vocab") / notes.FERTILITY
    measured = storage.read_json(path) if path.exists() else []
    return [
        card.CardFertility(
            str(row["tokenizer"]), str(row["language"]), float(row["per_word"]),
            float(row["per_line"]),
        )
        for row in measured
        if isinstance(row, Mapping) and {"tokenizer", "language", "per_word", "per_line"} <= {*row}
    ]  # fmt: skip


# ---------------------------------------------------------------------------- scores
def scores(run: Run, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[card.CardScore]:
    """Returns every score of the trained model beside that of the base, with intervals.

    Args:
      before, after: what before.json and after.json hold.
    """
    base = {(s.key, s.name): s.value for _, s in kinds.comparable_scores(before)}
    shown = []
    for kind, score in kinds.comparable_scores(after):
        if score.value is None or score.key in UNSAID:
            continue
        shown.append(
            card.CardScore(
                score.measure, score.name, score.key, base.get((score.key, score.name)),
                score.value, interval(run, kind, score), _digits(score.text),
            )
        )  # fmt: skip
    return sorted(shown, key=lambda score: score.name)


def _digits(text: str) -> int:
    return len(text.partition(".")[2]) if text.partition(".")[2].isdigit() else 3


def interval(run: Run, kind: str, score: ComparableScore) -> tuple[float, float] | None:
    """Returns the 95 % interval of a score; None where what it was measured on is not kept."""
    if score.bounds is not None or score.value is None:
        return score.bounds
    folder = run.at("evaluate") / "items" / "after"
    lines = paired.read_lines(items.lines_of(folder, kind, score.name))
    if not lines:
        return None
    if score.sums:
        return _of_ratio(*paired.sums_of(lines, score.sums, score.value))
    return _of_texts(lines, score)


def _of_ratio(values: list[float], sizes: list[float]) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    values_N, sizes_N = np.asarray(values), np.asarray(sizes)
    return intervals.bootstrap(
        lambda at_N: float(values_N[at_N].sum() / sizes_N[at_N].sum()), len(values)
    )


def _of_texts(lines: list[Any], score: ComparableScore) -> tuple[float, float] | None:
    """Returns the interval of a score of all texts together, by resampling lines (Koehn 2004)."""
    signature = score.conditions.get("signature", "")
    if tokenizer := score.conditions.get("tokenizer of BLEU", ""):
        signature = f"{signature}|tok:{tokenizer}"
    if not signature or score.value is None:
        return None
    references, texts = paired.texts_of(lines, signature, score.value)
    return paired.interval_of_texts(signature, references, texts) if texts else None


# ---------------------------------------------------------------------------- digests
def hashes(run: Run, checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Returns what an export was made from -> its digest, as far as the notes of steps say it."""
    made = {}
    init = notes.read(run.note("init"))
    if init is not None and "base" in init.inputs:
        made["weights of the base (first digits)"] = init.inputs["base"]
    vocab = notes.read(run.note("vocab"))
    for name in ("tokenizer.model", "tokenizer.json"):
        if vocab is not None and name in (vocab.outputs or {}):
            made[name] = (vocab.outputs or {})[name]
    if "sha256" in checkpoint:
        made["checkpoint"] = str(checkpoint["sha256"])
    return made


def read(path: epath.Path) -> dict[str, Any]:
    """Returns the object of a JSON file; {} where there is none."""
    data = storage.read_json(path) if path.exists() else {}
    return data if isinstance(data, dict) else {}
