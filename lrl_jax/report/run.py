"""What a run has shown: one offline HTML page, and the table printed at the end of a run.

    write("runs/korean")                            # -> runs/korean/report/index.html
    rich.print(summary_table(before, after, gate))

The page is drawn from whatever the run folder holds so far; nothing in it is required:

    recipe.yaml               the recipe as resolved
    steps/*.json              seconds each step took
    vocab/fertility.json      fertility.Row objects: tokenizer, language, per_line, parity, ...
    vocab/proof.json          prove.Proof: {fact: value}
    data/datasets.json        name -> folder of its manifest.json: what was packed (rows.Manifest)
    data/plan.json            data.plan.Plan: stages of {name, rows, weights}
    train/metrics.jsonl       one object a step: step, loss, stage, bits_per_byte {dataset: x},
                              lr {group: x}, tokens_per_second, epochs {dataset: x so far};
                              every key but step may be missing
    train/events.jsonl        when the run started, saved and stopped (train.goodput)
    train/samples.jsonl       {"step", "prompt", "text"}
    evaluate/before.json      measured on the base
    evaluate/after.json       measured on the trained model
    export/gate.json          {"passed": bool, fact: value}

before.json and after.json have one form, every key of which may be missing:

    {"bits_per_byte": {NAME: {"bits_per_byte": 1.21, "nats_per_token": 2.9, "tokens": 9000,
                              "bytes": 31000, "lines": 200}},          # asdict(likelihood.Score)
     "translation": {NAME: {"chrf": 61.2, "chrf++": 58.0, "bleu": 30.1, "bleu_tokenizer": "13a",
                            "signatures": {"chrf": "..."}, "lines": 200,   # metrics.translation
                            "examples": [{"source": "", "reference": "", "hypothesis": ""}]}},
     "chains": {NAME: {"parsed": 97.0, "chrf": 31.0, "tokens": 180.2, "lines": 100,
                       "examples": [{"instruction": "", "chain": "", "reference": ""}]}},
     "baselines": {NAME: {"unigram": 3.15, "bigram": 2.38}},           # bits per byte
     "facts": {"devices": "8 x TPU v4", "seconds": 12.3}}              # facts() and more

The NAMEs are the recipe's, and join the two files.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import json
from typing import Any

from etils import epath
from rich import box
from rich.table import Table
from ruamel.yaml import YAML

from lrl_jax.evaluate import kinds
from lrl_jax.evaluate.rows import ReportRow
from lrl_jax.report.markup import number
from lrl_jax.train import log

Json = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Everything a run folder holds that a report can show; missing pieces are empty."""

    name: str
    recipe: str
    plan: Json  # the recipe, read
    seconds: dict[str, float]
    fertility: list[Json]
    proof: Json
    manifests: dict[str, Json]
    order: Json  # the plan of training (data.plan.Plan)
    metrics: list[Json]
    events: list[Json]
    samples: list[Json]
    before: Json
    after: Json
    gate: Json


def write(folder: epath.PathLike) -> epath.Path:
    """Writes `report/index.html` into the run folder and returns its path.

    Raises:
      ValueError: a piece that is there is not what it should be; the message names the file.
    """
    from lrl_jax.report import page

    folder = epath.Path(folder)
    out = folder / "report" / "index.html"
    html = page.render(read(folder))
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name("index.html.tmp")
    part.write_text(html)
    part.replace(out)
    return out


def read(folder: epath.PathLike) -> Pieces:
    """Collects the pieces of a run folder; see the head of this file."""
    folder = epath.Path(folder)
    recipe = folder / "recipe.yaml"
    text = recipe.read_text() if recipe.exists() else ""
    notes = {p.stem: _json(p, {}) for p in sorted(folder.glob("steps/*.json"))}
    places = _json(folder / "data" / "datasets.json", {})
    manifests = {n: _json(folder / "data" / p / "manifest.json", {}) for n, p in places.items()}
    steps = {record["step"]: record for record in _jsonl(folder / "train" / "metrics.jsonl")}
    return Pieces(
        name=folder.name,
        recipe=text,
        plan=YAML(typ="safe", pure=True).load(text) or {},
        seconds={word: note["seconds"] for word, note in notes.items() if "seconds" in note},
        fertility=_json(folder / "vocab" / "fertility.json", []),
        proof=_json(folder / "vocab" / "proof.json", {}),
        manifests=manifests,
        order=_json(folder / "data" / "plan.json", {}),
        metrics=[{**row, **_read_so_far(row, manifests)} for _, row in sorted(steps.items())],
        events=_jsonl(folder / "train" / "events.jsonl"),
        samples=_jsonl(folder / "train" / "samples.jsonl"),
        before=_json(folder / "evaluate" / "before.json", {}),
        after=_json(folder / "evaluate" / "after.json", {}),
        gate=_json(folder / "export" / "gate.json", {}),
    )


def rows(before: Json, after: Json, gate: Json | None = None) -> Iterator[ReportRow]:
    """Yields the results line by line: those of every kind of evaluation, then the gate."""
    yield from kinds.all_rows(before, after)
    if gate:
        passed = bool(gate.get("passed"))
        yield ReportRow(
            "export gate", "", "", "passed" if passed else "FAILED", "", "" if passed else "worse"
        )


def summary_table(before: Json, after: Json, gate: Json | None = None) -> Table:
    """The same lines as a table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, title="before and after", title_justify="left")
    for column in ("", "", "before", "after", "change", ""):
        right = column in ("before", "after", "change")
        table.add_column(column, justify="right" if right else "left", no_wrap=right)
    styles = {"better": "green", "worse": "red", "": ""}
    last = ""
    for row in rows(before, after, gate):
        measure = row.measure if row.measure != last else ""
        if measure and last:
            table.add_section()
        last = row.measure
        style = styles[row.verdict]
        change = f"[{style}]{row.change}[/]" if style and row.change else row.change
        final = f"[{style}]{row.after}[/]" if style and not row.change else row.after
        table.add_row(measure, _plain(row.name), row.before, final, change, f"[dim]{row.note}[/]")
    return table


def _read_so_far(record: Json, manifests: Mapping[str, Json]) -> dict[str, float]:
    """Tokens and bytes of text that training has read: epochs of each dataset times its size."""
    epochs = {name: x for name, x in (record.get("epochs") or {}).items() if number(x)}
    totals = {}
    for unit in ("tokens", "bytes"):
        sizes = {name: number(manifests.get(name, {}).get(unit)) for name in epochs}
        if epochs and None not in sizes.values():
            totals[f"{unit}_read"] = sum(epochs[name] * sizes[name] for name in epochs)
    return totals


def _plain(text: str) -> str:
    """Text that rich must not read as markup."""
    return text.replace("[", r"\[")


def _json(path: epath.Path, missing: Any) -> Any:
    if not path.exists():
        return missing
    try:
        value = json.loads(path.read_text())
    except ValueError as e:
        raise ValueError(f"{path}: not JSON ({e}); remove it or make its step anew") from None
    if not isinstance(value, type(missing)):
        want = "a list" if isinstance(missing, list) else "an object"
        raise ValueError(f"{path}: want {want}, got {type(value).__name__}")
    return value


def _jsonl(path: epath.Path) -> list[Json]:
    return [record for record in log.read(path) if isinstance(record, dict) and "step" in record]
