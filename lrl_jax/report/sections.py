"""Makes of the pieces of a run what the sections of its page show: figures, and rows of tables."""

from collections.abc import Mapping
import re
import statistics
from typing import Any

from lrl_jax.evaluate.rows import number
from lrl_jax.report import pages, plots
from lrl_jax.report.pages import duration
from lrl_jax.report.pieces import Json, Pieces
from lrl_jax.train import goodput

VIEWS = {"tokens_read": "tokens", "bytes_read": "bytes of text", "step": "steps"}  # x axes
FERTILITY = {
    "per_line": "tokens per line",
    "per_word": "per word",
    "per_character": "per character",
    "per_byte": "per byte",
    "parity": "parity with the reference language",
}
STEPS = ("vocab", "init", "data", "train", "evaluate", "export")


def subtitle(p: Pieces) -> str:
    """Says how much was trained, on what."""
    last = p.metrics[-1] if p.metrics else {}
    parts = []
    if last:
        parts.append(f"{last['step']:,} steps")
    for key, unit in (("tokens_read", "tokens"), ("bytes_read", "bytes of text")):
        if (value := number(last.get(key))) is not None:
            parts.append(f"{plots.short(value)} {unit}")
    if total := sum(p.seconds.values()):
        parts.append(duration(total))
    if devices := (p.after.get("facts") or {}).get("devices"):
        parts.append(f"on {devices}")
    return ", ".join(parts) or "not trained yet"


def bits_svg(p: Pieces) -> str:
    """Returns the figure of bits per byte before and after; "" where none was measured."""
    before, after = (
        {
            name: value
            for name, score in (scores.get("bits_per_byte") or {}).items()
            if (value := number(score.get("bits_per_byte"))) is not None
        }
        for scores in (p.before, p.after)
    )
    if not before | after:
        return ""
    baselines = {**(p.before.get("baselines") or {}), **(p.after.get("baselines") or {})}
    return plots.dumbbells(before, after, "bits per byte", baselines)


def fertility(p: Pieces) -> dict[str, Any]:
    """Returns a figure of the first measure that rows of fertility have, and a table of all."""
    keys = [key for key in FERTILITY if any(number(r.get(key)) is not None for r in p.fertility)]
    series: dict[str, dict[str, float]] = {}
    for row in p.fertility:
        if keys and (value := number(row.get(keys[0]))) is not None:
            series.setdefault(str(row.get("tokenizer")), {})[str(row.get("language"))] = value
    if not series:
        return {}
    return {
        "svg": plots.bars(series, FERTILITY[keys[0]]),
        "columns": ["tokenizer", "language", *(FERTILITY[key] for key in keys)],
        "rows": [
            [pages.readable(row.get("tokenizer")), pages.readable(row.get("language"))]
            + [pages.fixed(row.get(key)) for key in keys]
            for row in p.fertility
        ],
    }


def views(p: Pieces) -> list[dict[str, Any]]:
    """Returns the curves of training over each x axis that every record has."""
    count = len(points(p, "step", "loss")[0])
    names = sorted({name for record in p.metrics for name in record.get("bits_per_byte") or {}})
    views = []
    for key, unit in VIEWS.items():
        loss, marks = points(p, key, "loss"), marks_of(p, key)
        if not count or len(loss[0]) != count:
            continue
        each = _present({name: points(p, key, "bits_per_byte", name) for name in names})
        views.append(
            {
                "key": key,
                "choice": (key, f"by {unit}"),
                "loss": plots.curve(loss, unit, "loss, nats per token", marks),
                "panels": plots.panels(each, unit, "bits per byte", marks) if each else "",
            }
        )
    return views


def rates_svg(p: Pieces) -> str:
    """Returns the figure of learning rates; "" where none was logged."""
    groups = sorted({name for record in p.metrics for name in record.get("lr") or {}})
    rates = _present({name: points(p, "step", "lr", name) for name in groups})
    return plots.lines(rates, "steps", "learning rate", marks_of(p, "step")) if rates else ""


def speed(p: Pieces) -> dict[str, str]:
    """Returns the figure of tokens per second and their median."""
    speed = points(p, "step", "tokens_per_second")
    if not speed[0]:
        return {}
    svg = plots.curve(speed, "steps", "tokens per second", marks_of(p, "step"), zero=True)
    return {"svg": svg, "median": plots.short(statistics.median(speed[1]))}


def time_spent(p: Pieces) -> dict[str, Any]:
    """Returns where the wall time of training went, over all its processes."""
    measured = goodput.measure(p.events, p.metrics)
    if measured is None:
        return {}
    rows = [
        [goodput.SAYS[kind], duration(seconds), f"{100 * seconds / measured.wall:.1f} %"]
        for kind, seconds in measured.spent.items()
    ]
    rows.append(["from the first start to the last step", duration(measured.wall), "100 %"])
    note = (
        f"Goodput: {100 * measured.share:.1f} % of the time went into steps that count. "
        f"Restarts: {measured.restarts}; steps made again: {measured.lost}."
    )
    return {"svg": plots.stack(measured.spent, "seconds"), "note": note, "rows": rows}


def mixture(p: Pieces) -> list[list[Any]]:
    """Returns a row for each stage and dataset: the share configured, the share realised."""
    rows = []
    before: Mapping[str, float] = {}
    for stage in (p.settings.get("train") or {}).get("stages") or []:
        records = [r.get("epochs") or {} for r in p.metrics if r.get("stage") == stage.get("name")]
        after = records[-1] if records else before
        weights = _configured(p, stage)
        tokens = {
            name: (after.get(name, 0) - before.get(name, 0))
            * (number(p.manifests.get(name, {}).get("tokens")) or 0)
            for name in weights
        }
        total = sum(tokens.values())
        for name, weight in weights.items():
            configured = 100 * weight / (sum(weights.values()) or 1)
            realised = 100 * tokens[name] / total if total else None
            rows.append(
                [
                    stage.get("name", "") if name == next(iter(weights)) else "",
                    name,
                    f"{configured:.1f} %",
                    "not measured" if realised is None else f"{realised:.1f} %",
                    {"configured": configured, "realised": realised or 0},
                    plots.short(tokens[name]) if total else "",
                    f"{after[name]:.2f}" if name in after else "",
                ]
            )
        before = after
    return rows


def _configured(p: Pieces, stage: Json) -> dict[str, float]:
    """Returns tokens of each dataset a stage is to read, by the plan; without one, its weights."""
    # The plan has a ramp as several stages: NAME.01, NAME.02, ...
    pattern = re.compile(re.escape(str(stage.get("name"))) + r"(\.\d+)?")
    planned = [s for s in p.order.get("stages") or [] if pattern.fullmatch(str(s.get("name")))]
    if not planned:
        return {name: number(w) or 0.0 for name, w in (stage.get("mixture") or {}).items()}
    tokens: dict[str, float] = {}
    for step in planned:
        whole = sum(step["weights"].values())
        for name, weight in step["weights"].items():
            manifest = p.manifests.get(name, {})
            per_row = (number(manifest.get("tokens")) or 0) / (number(manifest.get("rows")) or 1)
            tokens[name] = tokens.get(name, 0.0) + step["rows"] * weight / whole * per_row
    return tokens


def samples(p: Pieces) -> dict[str, list[list[str]]]:
    """Returns what was written for each prompt: at first, halfway and at last."""
    by_prompt: dict[str, list[Json]] = {}
    for sample in p.samples:
        by_prompt.setdefault(str(sample.get("prompt", "")), []).append(sample)
    chosen = {
        prompt: [samples[i] for i in sorted({0, len(samples) // 2, len(samples) - 1})]
        for prompt, samples in by_prompt.items()
    }
    return {
        prompt: [[f"step {s['step']:,}", s.get("text") or "(nothing)"] for s in samples]
        for prompt, samples in chosen.items()
    }


def about(p: Pieces) -> dict[str, Any]:
    """Returns what the run was made with, and the time of each step."""
    about = dict(p.after.get("facts") or p.before.get("facts") or {})
    if (seconds := number(about.pop("seconds", None))) is not None:
        about["time: measuring once"] = duration(seconds)
    return about | {
        f"time: {step}": duration(p.seconds[step]) for step in STEPS if step in p.seconds
    }


def points(p: Pieces, x: str, *path: str) -> plots.Curve:
    """Returns the records that have both the x and the value, as a curve."""
    pairs = []
    for record in p.metrics:
        value: Any = record
        for key in path:
            value = (value or {}).get(key)
        at, value = number(record.get(x)), number(value)
        if at is not None and value is not None:
            pairs.append((at, value))
    return [at for at, _ in pairs], [value for _, value in pairs]


def marks_of(p: Pieces, x: str) -> list[plots.Mark]:
    """Returns where each stage begins."""
    marks: dict[str, float] = {}
    for record in p.metrics:
        if "stage" in record and (at := number(record.get(x))) is not None:
            marks.setdefault(str(record["stage"]), at)
    return [(at, name) for name, at in marks.items()]


def _present(curves: dict[str, plots.Curve]) -> dict[str, plots.Curve]:
    return {name: data for name, data in curves.items() if data[0]}
