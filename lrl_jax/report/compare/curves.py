"""Draws the training of several runs over the tokens, bytes and FLOPs that they took.

    views(runs, names)            figures at equal tokens, at equal bytes, at equal FLOPs
    at_equal(runs, trained)       where each run is when the shortest one ends
    spent(run, records(run))      tokens, bytes, FLOPs and steps of a run's training

Bits per byte of a dataset are comparable where its text is the same. Loss in nats per token is
drawn only for runs with one vocabulary and one mixture of the same text.

FLOPs are 6 N D with what is trained: a token costs 6 for each weight of a matrix product that
learns and 4 for one that is frozen, and attention what its mask leaves (`train.learn`).
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
from typing import Any

from lrl_jax import storage
from lrl_jax.evaluate.rows import ComparableScore, number
from lrl_jax.hf import families
from lrl_jax.recipe import train as recipe_train
from lrl_jax.report import plots
from lrl_jax.report.compare import comparable
from lrl_jax.report.compare.comparable import Conditions, MeasuredScore
from lrl_jax.report.compare.runs import ComparedRun, inside
from lrl_jax.report.plots import Curve
from lrl_jax.train import adapt, learn

AXES = {"tokens_read": "tokens", "bytes_read": "bytes of text", "flops": "FLOPs"}
LOSS, BITS = "loss, nats per token", "bits per byte"
UNREAD = ("order", "max_epochs", "template", "language")  # settings that leave the text as it is
MIXED = ("mixture", "ramp_to", "weights", "steps", "epochs")  # settings of a stage: what is read
Records = Sequence[Mapping[str, Any]]


# ---------------------------------------------------------------------------- what was spent
def records(run: ComparedRun) -> list[dict[str, Any]]:
    """Returns the records of training with the FLOPs so far, where they are known."""
    costs = flops_per_token(run)
    total, before, step = 0.0, 0.0, 0
    out = []
    for record in run.pieces.metrics:
        read = number(record.get("tokens_read"))
        if read is None:
            read = before + (number(record.get("tokens")) or 0) * (record["step"] - step)
        cost = costs.get(str(record.get("stage")))
        if cost is not None:
            total += cost * (read - before)
        before, step = read, record["step"]
        out.append({**record, "flops": total} if costs and cost is not None else dict(record))
    return out


def flops_per_token(run: ComparedRun) -> dict[str, float]:
    """Returns the FLOPs of training on a token, by stage; {} where the model is not known."""
    path = run.at("init") / "config.json"
    try:
        hf = storage.read_json(path)
        train = recipe_train.Train.model_validate(run.pieces.settings["train"])
        length = int(run.pieces.settings["data"]["sequence_length"])
        cfg = adapt.adapted(families.config_from_hf(hf, "float32"), train)
        return learn.flops_by_stage(cfg, train, length)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # of another version, or not there


def spent(run: ComparedRun, trained: Records) -> dict[str, float | None]:
    """Returns the steps, tokens, bytes and FLOPs of a run's training so far."""
    last = trained[-1] if trained else {}
    return {key: number(last.get(key)) for key in ("step", *AXES)}


# ---------------------------------------------------------------------------- what is comparable
def conditions(run: ComparedRun, dataset: str) -> Conditions:
    """Returns what a dataset's bits per byte depend on: its text, and the template of its turns."""
    settings = inside(run.pieces.settings, "data", "datasets", dataset)
    if not settings:
        return {"training text": ("",)}
    texts = run.made_from("data")
    digests: list[str] = []

    def by_content(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: by_content(item) for key, item in sorted(value.items())}
        if isinstance(value, list):
            return [by_content(item) for item in value]
        digest = texts.get(f"text {value}") if isinstance(value, str) and value else None
        digests.extend([digest] if digest else [])
        return digest or value

    shown = {key: value for key, value in settings.items() if key not in UNREAD}
    made_of = json.dumps(by_content(shown), sort_keys=True)
    source = digests or settings.get("hub") or settings.get("tfds") or settings.get("task")
    digest = hashlib.sha256(made_of.encode()).hexdigest() if source else ""
    template = settings.get("template", "plain")
    return {"training text": (digest,), "template": (json.dumps(template),)}


def measured(runs: Sequence[ComparedRun]) -> tuple[list, list]:
    """Returns the rows of bits per byte, a dataset each, and those of loss per token."""
    bits: dict[str, list[MeasuredScore]] = {}
    loss: dict[str, list[MeasuredScore]] = {}
    for run in runs:
        names = sorted({name for r in run.pieces.metrics for name in r.get("bits_per_byte") or {}})
        bits[run.name] = [_score(BITS, name, conditions(run, name)) for name in names]
        mixture = [json.dumps(_mixtures(run), sort_keys=True)]
        mixture += [json.dumps(dict(conditions(run, name)), sort_keys=True) for name in names]
        whole: Conditions = {"vocabulary": run.vocabulary, "mixture": ("\n".join(mixture),)}
        loss[run.name] = [_score(LOSS, "", whole)] if run.pieces.metrics else []
    absent = {
        run.name: "not among its datasets" if run.pieces.metrics else "not trained yet"
        for run in runs
    }
    return comparable.rows(bits, absent), comparable.rows(loss, absent)


def _mixtures(run: ComparedRun) -> list[dict[str, Any]]:
    """Returns what each stage reads, and how long."""
    stages = inside(run.pieces.settings, "train").get("stages")
    stages = stages if isinstance(stages, list) else []
    return [{key: stage.get(key) for key in MIXED} for stage in stages if isinstance(stage, dict)]


def _score(measure: str, name: str, depends_on: Conditions) -> MeasuredScore:
    return MeasuredScore(ComparableScore(measure, name, measure, None, ""), depends_on)


# ---------------------------------------------------------------------------- side by side
def at_equal(runs: Sequence[ComparedRun], trained: Mapping[str, Records]) -> list[dict[str, Any]]:
    """Returns for each axis the bits per byte of each dataset where the shortest run ends.

    Each has "rows", a dataset each, "alone", the datasets of a single run, and "without", runs
    whose place on the axis is not known.
    """
    bits, _ = measured(runs)
    out = []
    for axis, unit in AXES.items():
        panels = _panels(bits, trained, axis, "bits_per_byte")
        used = {name for curves in panels.values() for name in curves}
        if not used:
            continue
        end = min(_last(trained[name], axis) for name in used)
        missing = {row.name: row.missing for row in bits}
        rows = [
            {
                "name": panel,
                "cells": {
                    name: _cell(curves.get(name), end, missing[panel].get(name, ""), unit)
                    for name in trained
                },
            }
            for panel, curves in panels.items()
        ]
        alone = [row.name for row in bits if len(row.scores) < 2]
        without = [name for name, each in trained.items() if each and name not in used]
        out.append({"axis": axis, "unit": unit, "end": end, "rows": rows, "alone": alone,
                    "without": without})  # fmt: skip
    return out


def _cell(curve: Curve | None, end: float, missing: str, unit: str) -> dict[str, Any]:
    if curve is None:
        return {"missing": missing or f"its {unit} are not known"}
    value = at(curve, end)
    return {"missing": "not read so far"} if value is None else {"value": value}


def views(runs: Sequence[ComparedRun], coloured: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the figures of each axis: bits per byte, a panel a dataset, and loss.

    Args:
      coloured: names of the runs in the order of their colours.
    """
    bits, loss = measured(runs)
    trained = {run.name: records(run) for run in runs}
    out = []
    for axis, unit in AXES.items():
        if not (panels := _panels(bits, trained, axis, "bits_per_byte")):
            continue
        losses = _panels(loss, trained, axis, "loss")
        out.append(
            {
                "axis": axis,
                "key": axis.partition("_")[0],
                "title": f"equal {unit}",
                "bits": plots.overlaid(panels, coloured, unit, BITS),
                "loss": [plots.overlaid({"": x}, coloured, unit, LOSS) for x in losses.values()],
            }
        )
    return out


def _panels(
    table: Sequence[comparable.ComparedRow], trained: Mapping[str, Records], axis: str, key: str
) -> dict[str, dict[str, Curve]]:
    """Returns the curves of the rows in which two runs or more have one."""
    panels = {}
    for row in table:
        curves = {
            name: curve
            for name, each in row.scores.items()
            if (curve := _curve(trained[name], axis, key, each.score.name))[0]
        }
        if len(curves) > 1:
            panels[row.name or row.first] = curves
    return panels


def _curve(trained: Records, axis: str, key: str, name: str) -> Curve:
    pairs = []
    for record in trained:
        value = record.get(key)
        if name:
            value = value.get(name) if isinstance(value, Mapping) else None
        x, y = number(record.get(axis)), number(value)
        if x is not None and y is not None:
            pairs.append((x, y))
    return [x for x, _ in pairs], [y for _, y in pairs]


def _last(trained: Records, axis: str) -> float:
    return max(x for record in trained if (x := number(record.get(axis))) is not None)


def at(curve: Curve, x: float) -> float | None:
    """Returns the running mean of a curve at its last point that is not beyond x; None without one.

    >>> at(([1, 2, 3], [4.0, 3.0, 2.0]), 2.5), at(([1, 2], [4.0, 3.0]), 0.5)
    (3.0, None)
    """
    reached = [i for i, place in enumerate(curve[0]) if place <= x]
    return plots.smooth(curve[1])[reached[-1]] if reached else None
