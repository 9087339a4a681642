"""Shows what a run did: one offline HTML page, and the table printed at the end of a run.

    write("runs/korean")                            # -> runs/korean/report/index.html
    rich.print(summary_table(before, after, gate))

The page is drawn from whatever the run folder holds so far; see `pieces`.
"""

from collections.abc import Iterator, Mapping
import itertools
import operator
import re
import statistics
from typing import Any

from etils import epath
from rich import box
from rich.text import Text

from lrl_jax import storage
from lrl_jax.data.read.filters import IN_TEST
from lrl_jax.evaluate import kinds
from lrl_jax.evaluate.rows import ReportRow, number
from lrl_jax.recipe.languages import labelled
from lrl_jax.report import alignment, efficiency, pages, plots
from lrl_jax.report.pieces import Pieces, read
from lrl_jax.report.places import STEPS
from lrl_jax.storage import Json
from lrl_jax.terminal import FittedTable
from lrl_jax.train import goodput

# Keys of rows that are numbers to remember, and how many of each may be shown.
CARDS = {
    "bits_per_byte.tokens_per_line": 1,
    "bits_per_byte.bits_per_byte": 3,
    "translation.chrf": 1,
}
VIEWS = {"tokens_read": "tokens", "bytes_read": "bytes of text", "step": "steps"}  # x axes
FERTILITY = {
    "per_line": "tokens per line",
    "per_word": "per word",
    "per_character": "per character",
    "per_byte": "per byte",
    "parity": "parity with the reference language",
}


def write(folder: epath.PathLike) -> epath.Path:
    """Writes `report/index.html` into the run folder and returns its path; raises as `read`."""
    folder = epath.Path(folder)
    path = folder / "report" / "index.html"
    html = render(read(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write(path, html)
    return path


def render(p: Pieces) -> str:
    """Returns the page of a run."""
    results = list(rows(p.before, p.after, p.gate))
    changed = {key: [row for row in results if row.key == key and row.change] for key in CARDS}
    return pages.render(
        "run.html.j2",
        p=p,
        subtitle=subtitle(p),
        cards=[row for key, most in CARDS.items() for row in changed[key][:most]],
        results=results,
        bits_svg=bits_svg(p),
        fertility=fertility(p),
        views=views(p),
        rates_svg=rates_svg(p),
        speed=speed(p),
        time_spent=time_spent(p),
        mixture=mixture(p),
        test_texts=test_texts(p),
        aligned=[*alignment.sections(p.before.get("alignment", {}), p.after.get("alignment", {}))],
        efficiency=efficiency.tables(p),
        samples=samples(p),
        examples=kinds.examples(p.after),
        about=about(p),
    )


# ---------------------------------------------------------------------------- the results
def rows(before: Json, after: Json, gate: Json | None = None) -> Iterator[ReportRow]:
    """Yields the results line by line: those of every kind of evaluation, then the gate."""
    yield from kinds.all_rows(before, after)
    if gate:
        verdict, said = ("", "passed") if gate.get("passed") else ("worse", "FAILED")
        yield ReportRow("export gate", "", "", said, "", verdict, key="gate")


def summary_table(before: Json, after: Json, gate: Json | None = None) -> FittedTable:
    """Returns the same lines as a table for the terminal."""
    numbers = ("before", "after", "change")
    table = FittedTable("", "", *numbers, "", numbers=numbers, box=box.SIMPLE_HEAD)
    table.title = "before and after"
    styles = {"better": "green", "worse": "red", "": ""}
    results = rows(before, after, gate)
    for measure, of_measure in itertools.groupby(results, operator.attrgetter("measure")):
        for i, row in enumerate(of_measure):
            style = styles[row.verdict]
            final = Text(row.after, "" if row.change else style)
            change, note = Text(row.change, style), Text(row.note, "dim")
            name = Text(labelled(row.name))
            table.add_row("" if i else measure, name, row.before, final, change, note)
        table.add_section()
    return table


# ---------------------------------------------------------------------------- the sections
def subtitle(p: Pieces) -> str:
    """Says how much was trained, on what."""
    last = p.metrics[-1] if p.metrics else {}
    parts = []
    if last:
        parts.append(f"{last['step']:,} steps")
    for key, unit in (("tokens_read", "tokens"), ("bytes_read", "bytes of text")):
        if (value := number(last.get(key))) is not None:
            parts.append(f"{plots.short(value)} {unit}")
    if total := sum(seconds(p).values()):
        parts.append(pages.duration(total))
    if devices := (p.after.get("facts") or {}).get("devices"):
        parts.append(f"on {devices}")
    return ", ".join(parts) or "not trained yet"


def seconds(p: Pieces) -> dict[str, float]:
    """Returns how long each step took; for training over all its processes, as goodput counts.

    The note of a step has the time of its last process alone.
    """
    measured = goodput.measure(p.events, p.metrics)
    return p.seconds | ({"train": measured.wall} if measured else {})


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
    """Returns a figure of the first measure that rows of fertility have, and the titles of all."""
    keys = [key for key in FERTILITY if any(number(r.get(key)) is not None for r in p.fertility)]
    series: dict[str, dict[str, float]] = {}
    for row in p.fertility:
        if keys and (value := number(row.get(keys[0]))) is not None:
            series.setdefault(str(row.get("tokenizer")), {})[str(row.get("language"))] = value
    if not series:
        return {}
    titles = {key: FERTILITY[key] for key in keys}
    return {"svg": plots.bars(series, titles[keys[0]]), "titles": titles}


def views(p: Pieces) -> list[dict[str, Any]]:
    """Returns the curves of training over each x axis that every record has."""
    count = len(points(p, "step", "loss")[0])
    views = []
    for key, unit in VIEWS.items():
        loss, marks = points(p, key, "loss"), marks_of(p, key)
        if not count or len(loss[0]) != count:
            continue
        each = _curves(p, key, "bits_per_byte")
        views.append(
            {
                "key": key,
                "title": f"by {unit}",
                "loss": plots.curve(loss, unit, "loss, nats per token", marks),
                "panels": plots.panels(each, unit, "bits per byte", marks) if each else "",
            }
        )
    return views


def rates_svg(p: Pieces) -> str:
    """Returns the figure of learning rates; "" where none was logged."""
    rates = _curves(p, "step", "lr")
    return plots.lines(rates, "steps", "learning rate", marks_of(p, "step")) if rates else ""


def speed(p: Pieces) -> dict[str, str]:
    """Returns the figure of tokens per second and their median."""
    speed = points(p, "step", "tokens_per_second")
    if not speed[0]:
        return {}
    svg = plots.curve(speed, "steps", "tokens per second", marks_of(p, "step"), zero=True)
    return {"svg": svg, "median": plots.short(statistics.median(speed[1]))}


def time_spent(p: Pieces) -> dict[str, Any]:
    """Returns where the wall time of training went, over all its processes, and a figure of it."""
    if (measured := goodput.measure(p.events, p.metrics)) is None:
        return {}
    svg = plots.stack(measured.spent, "seconds")
    return {"measured": measured, "svg": svg, "says": goodput.SAYS}


def mixture(p: Pieces) -> list[dict[str, Any]]:
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
            rows.append(
                {
                    "stage": stage.get("name", ""),
                    "dataset": name,
                    "configured": 100 * weight / (sum(weights.values()) or 1),
                    "realised": 100 * tokens[name] / total if total else None,
                    "tokens": plots.short(tokens[name]) if total else "",
                    "epochs": after.get(name),
                }
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


def test_texts(p: Pieces) -> dict[str, Any]:
    """Returns a table of the records of each dataset that share text with each test file.

    Its last row says how many records were left out of how many, each counted once.
    """
    compared = {name: m for name, m in p.manifests.items() if m.get("in_tests")}
    files = dict.fromkeys(file for m in compared.values() for file in m["in_tests"])
    if not compared:
        return {}
    rows = []
    for file in files:
        counts = p.test_texts.get(file) or {}
        texts = f"{counts['texts'] - counts['short']:,} of {counts['texts']:,}" if counts else ""
        shared = (m["in_tests"].get(file) for m in compared.values())
        rows.append([file, texts, *("" if count is None else f"{count:,}" for count in shared)])
    left_out = (
        f"{(m.get('left_out') or {}).get(IN_TEST, 0):,} of {m.get('records', 0):,}"
        for m in compared.values()
    )
    rows.append(["left out, of records", "", *left_out])
    columns = ["test file", "texts compared", *compared]
    return {"columns": columns, "rows": rows, "numeric": [*range(1, len(columns))]}


def samples(p: Pieces) -> dict[str, list[Json]]:
    """Returns what was written for each prompt: at first, halfway and at last."""
    by_prompt: dict[str, list[Json]] = {}
    for sample in p.samples:
        by_prompt.setdefault(str(sample.get("prompt", "")), []).append(sample)
    return {
        prompt: [samples[i] for i in sorted({0, len(samples) // 2, len(samples) - 1})]
        for prompt, samples in by_prompt.items()
    }


def about(p: Pieces) -> dict[str, Any]:
    """Returns what the run was made with, and the time of each step."""
    about = dict(p.after.get("facts") or p.before.get("facts") or {})
    about.pop("seconds_per_1000_characters", None)  # `efficiency` shows them
    if (once := number(about.pop("seconds", None))) is not None:
        about["time: measuring once"] = pages.duration(once)
    took = seconds(p)
    return about | {f"time: {step}": pages.duration(took[step]) for step in STEPS if step in took}


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


def _curves(p: Pieces, x: str, key: str) -> dict[str, plots.Curve]:
    """Returns a curve for each name that records have under a key."""
    names = sorted({name for record in p.metrics for name in record.get(key) or {}})
    curves = {name: points(p, x, key, name) for name in names}
    return {name: data for name, data in curves.items() if data[0]}
