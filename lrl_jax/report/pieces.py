"""Reads what a run folder holds that a report can show; nothing in it is required.

    recipe.yaml               the recipe as resolved
    steps/*.json              seconds each step took
    vocab/fertility.json      rows of fertility: tokenizer, language, per_line, parity, ...
    vocab/proof.json          prove.Proof: {fact: value}
    data/datasets.json        name -> folder of its manifest.json: what was packed
    data/test_texts.json      of each test file how many texts it has, and how many are too short
    data/plan.json            the order of training: stages of {name, rows, weights}
    train/metrics.jsonl       one object a step: step, loss, stage, bits_per_byte {dataset: x},
                              lr {group: x}, tokens_per_second, epochs {dataset: x so far};
                              every key but step may be missing
    train/events.jsonl        when the run started, saved and stopped (train.goodput)
    train/samples.jsonl       {"step", "prompt", "text"}
    evaluate/before.json      measured on the base
    evaluate/after.json       measured on the trained model
    export/gate.json          {"passed": bool, fact: value}

before.json and after.json have one form, every key of which may be missing:

    {"bits_per_byte": {NAME: {"bits_per_byte": 1.21, "lines": 200}},   # asdict(bits_per_byte.Score)
     "translation": {NAME: {"chrf": 61.2, "signatures": {"chrf": "..."}, "lines": 200,
                            "examples": [{"source": "", "reference": "", "hypothesis": ""}]}},
     KIND: {NAME: {"examples": [{TITLE: TEXT}]}},       # and other numbers: evaluate/KIND.py
     "baselines": {NAME: {"unigram": 3.15, "bigram": 2.38}},           # bits per byte
     "efficiency": {"input": {NAME: {"characters": 900, "bytes": 2500, "tokens": 300}},
                    "answer": {"KIND NAME": {"characters": 40.5, "tokens": 12.0}}},
     "facts": {"devices": "8 x TPU v4", "seconds": 12.3,               # kinds.measure
               "seconds_per_1000_characters": {"input": {NAME: 0.2}, "answer": {}}}}

The NAMEs are the recipe's, and join the two files.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.evaluate.rows import number
from lrl_jax.recipe.file import read_tree
from lrl_jax.storage import Json
from lrl_jax.train import log


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Holds everything of a run folder that a report can show; missing pieces are empty.

    Attributes:
      recipe: its text, as resolved.
      settings: the recipe, read.
      test_texts: test file -> {"texts", "short"}, of those that training data was compared with.
      order: the plan of training.
      metrics: one record a step, with the tokens and bytes of text read so far where known.
    """

    name: str
    recipe: str
    settings: Json
    seconds: dict[str, float]
    fertility: list[Json]
    proof: Json
    manifests: dict[str, Json]
    test_texts: dict[str, Json]
    order: Json
    metrics: list[Json]
    events: list[Json]
    samples: list[Json]
    before: Json
    after: Json
    gate: Json


def read(folder: epath.PathLike) -> Pieces:
    """Collects the pieces of a run folder; one that is not what it should be is a ValueError."""
    folder = epath.Path(folder)
    recipe = folder / "recipe.yaml"
    settings = read_tree(recipe) if recipe.exists() else {}
    notes = {path.stem: _json(path, {}) for path in sorted(folder.glob("steps/*.json"))}
    folders = _json(folder / "data" / "datasets.json", {})
    manifests = {
        name: _json(folder / "data" / path / "manifest.json", {}) for name, path in folders.items()
    }
    steps = {record["step"]: record for record in _jsonl(folder / "train" / "metrics.jsonl")}
    return Pieces(
        name=folder.name,
        recipe=recipe.read_text() if settings else "",
        settings=settings,
        seconds={step: note["seconds"] for step, note in notes.items() if "seconds" in note},
        fertility=_json(folder / "vocab" / "fertility.json", []),
        proof=_json(folder / "vocab" / "proof.json", {}),
        manifests=manifests,
        test_texts=_json(folder / "data" / "test_texts.json", {}),
        order=_json(folder / "data" / "plan.json", {}),
        metrics=[{**row, **_read_so_far(row, manifests)} for _, row in sorted(steps.items())],
        events=_jsonl(folder / "train" / "events.jsonl"),
        samples=_jsonl(folder / "train" / "samples.jsonl"),
        before=_json(folder / "evaluate" / "before.json", {}),
        after=_json(folder / "evaluate" / "after.json", {}),
        gate=_json(folder / "export" / "gate.json", {}),
    )


def _read_so_far(record: Json, manifests: Mapping[str, Json]) -> dict[str, float]:
    """Counts tokens and bytes of text read in training: epochs of each dataset times its size."""
    epochs = {name: x for name, x in (record.get("epochs") or {}).items() if number(x)}
    totals = {}
    for unit in ("tokens", "bytes"):
        sizes = {name: number(manifests.get(name, {}).get(unit)) for name in epochs}
        if epochs and None not in sizes.values():
            totals[f"{unit}_read"] = sum(epochs[name] * sizes[name] for name in epochs)
    return totals


def _json(path: epath.Path, missing: Any) -> Any:
    if not path.exists():
        return missing
    try:
        value = storage.read_json(path)
    except ValueError as e:
        raise ValueError(f"{e}; remove it or make its step anew") from None
    if not isinstance(value, type(missing)):
        want = "a list" if isinstance(missing, list) else "an object"
        raise ValueError(f"{path}: want {want}, got {type(value).__name__}")
    return value


def _jsonl(path: epath.Path) -> list[Json]:
    return [*log.read(path)]
