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

A cell of a study shares steps with others: its cell.json says under "steps" where each lies.

before.json and after.json have one form, every key of which may be missing:

    {"bits_per_byte": {NAME: {"bits_per_byte": 1.21, "lines": 200}},   # asdict(bits_per_byte.Score)
     "translation": {NAME: {"chrf": 61.2, "signatures": {"chrf": "..."}, "lines": 200,
                            "examples": [{"source": "", "reference": "", "hypothesis": ""}]}},
     "alignment": {NAME: {"lines": 100, "blank": 0, "repeated": 0, "identical": 0, "truncated": 0,
                          "poolings": {"weighted": SCORES, "mean": SCORES, "last": SCORES},
                          "maps": [{"layer": 2, "source": [[x, y]], "target": [[x, y]]}]}},
     KIND: {NAME: {"examples": [{TITLE: TEXT}]}},       # and other numbers: evaluate/KIND.py
     "baselines": {NAME: {"unigram": 3.15, "bigram": 2.38}},           # bits per byte
     "efficiency": {"input": {NAME: {"characters": 900, "bytes": 2500, "tokens": 300}},
                    "answer": {"KIND NAME": {"characters": 40.5, "tokens": 12.0}}},
     "facts": {"devices": "8 x TPU v4", "seconds": 12.3,               # kinds.measure
               "seconds_per_1000_characters": {"input": {NAME: 0.2}, "answer": {}}}}

SCORES has for each layer, from the embeddings to the final norm, {"gap", "accuracy_forward",
"accuracy_backward", "mexa", "cka"} under "layers", these over layers under "max" and "mean",
"best_layer" (of MEXA), and "middle": {"layers": [1, 3], "gap", "gap_interval": [a, b], "mexa"}.

The NAMEs are the recipe's, and join the two files.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.evaluate.rows import number
from lrl_jax.recipe.file import read_tree
from lrl_jax.report.places import CELL, STEPS, place
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


def read(folder: epath.PathLike, damaged: Callable[[str], None] | None = None) -> Pieces:
    """Collects the pieces of a run folder.

    Args:
      damaged: is told of each piece that is not what it should be, which is then empty. Without it
        such a piece is a ValueError.
    """
    folder = epath.Path(folder)
    recipe = folder / "recipe.yaml"

    def piece(path: epath.Path, missing: Any, read: Callable[..., Any] = _json) -> Any:
        try:
            return read(path, missing)
        except (ValueError, OSError) as e:
            if damaged is None:
                raise
            damaged(str(e))
            return missing

    settings = piece(recipe, {}, _tree)
    at = functools.partial(place, folder, piece(folder / CELL, {}))
    notes = {step: piece(at(step).parent / "steps" / f"{step}.json", {}) for step in STEPS}
    folders = piece(at("data") / "datasets.json", {})
    manifests = {
        name: piece(at("data") / str(path) / "manifest.json", {}) for name, path in folders.items()
    }
    steps = {record["step"]: record for record in piece(at("train") / "metrics.jsonl", [], _jsonl)}
    return Pieces(
        name=folder.name,
        recipe=recipe.read_text() if settings else "",
        settings=settings,
        seconds={
            step: seconds
            for step, note in notes.items()
            if (seconds := number(note.get("seconds"))) is not None
        },
        fertility=piece(at("vocab") / "fertility.json", []),
        proof=piece(at("vocab") / "proof.json", {}),
        manifests=manifests,
        test_texts=piece(at("data") / "test_texts.json", {}),
        order=piece(at("data") / "plan.json", {}),
        metrics=[{**row, **_read_so_far(row, manifests)} for _, row in sorted(steps.items())],
        events=piece(at("train") / "events.jsonl", [], _jsonl),
        samples=piece(at("train") / "samples.jsonl", [], _jsonl),
        before=piece(at("evaluate") / "before.json", {}),
        after=piece(at("evaluate") / "after.json", {}),
        gate=piece(at("export") / "gate.json", {}),
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


def _tree(path: epath.Path, missing: Any) -> Any:
    return read_tree(path) if path.exists() else missing


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


def _jsonl(path: epath.Path, missing: list[Json]) -> list[Json]:
    return [*missing, *log.read(path)]
