"""Compares runs: one offline HTML page, the same facts as JSON, and a section for a model card.

facts = page.facts(runs)                                          what comparison.json holds
page.write(facts, page.figures(runs, facts), "comparison/index.html")
"""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.evaluate.rows import number
from lrl_jax.report import pages, plots
from lrl_jax.report.compare import comparable, curves, origins, scores, sides
from lrl_jax.report.compare.runs import ComparedRun
from lrl_jax.report.compare.tables import Limits, Table, by_value, of_facts, of_rows
from lrl_jax.report.run import FERTILITY

FORMAT = "lrl_jax comparison 1"
MOST_BYTES = 4_800_000  # of the page
IN_BARS = 12  # runs of a figure with bars
HOW = {
    "flops": "FLOPs are 6 N D with what is trained: for each token 6 for each weight of a matrix "
    "product that learns, 4 for one that is frozen, and attention what its mask leaves.",
    "change": "Changes are against the first run of the row. They are tested where items are kept, "
    "on the same items: McNemar's exact test where an answer is right or wrong, else a paired "
    "bootstrap; a score of all lines together by its lines. Nothing is corrected for the number of "
    "tests. Bits per byte without lines, of an older version: 0.5 % counts as no change.",
}


# ---------------------------------------------------------------------------- facts
def facts(runs: Sequence[ComparedRun]) -> dict[str, Any]:
    """Returns everything that is compared, as plain data: the content of comparison.json."""
    unread = {run.name: run.unread for run in runs if run.unread}
    measured = comparable.rows(scores.measured(runs), unread)
    judge_problems: dict[str, str] = {}
    judged = sides.judged(runs, judge_problems)
    trained = {run.name: curves.records(run) for run in runs}
    return {
        "format": FORMAT,
        "how": HOW,
        "runs": [_run(run, trained[run.name], judge_problems.get(run.name, "")) for run in runs],
        "results": _rows([row for row in measured if not row.key.startswith("tasks.")], runs),
        "tasks": _rows([row for row in measured if row.key.startswith("tasks.")], runs),
        "judge": _rows(judged, runs),
        "alignment": sides.alignment(runs),
        "fertility": _rows(sides.fertility(runs), runs),
        "efficiency": _rows(sides.efficiency(runs), runs),
        "training": curves.at_equal(runs, trained),
        "samples": sides.samples(runs),
        "answers": sides.examples(runs),
        "recipes": origins.recipes(runs),
    }


def _run(run: ComparedRun, trained: curves.Records, problem: str) -> dict[str, Any]:
    return {
        "name": run.name,
        "path": str(run.path),
        "problems": [*run.problems, *([problem] if problem else [])],
        "trained": {**curves.spent(run, trained), "seconds": run.wall},
        "origins": origins.origins(run),
    }


def _rows(
    table: Sequence[comparable.ComparedRow], runs: Sequence[ComparedRun]
) -> list[dict[str, Any]]:
    return [
        {"measure": row.measure, "name": row.name, "key": row.key, "first": row.first,
         "cells": cells}
        for row, cells in scores.cells(table, runs)
    ]  # fmt: skip


# ---------------------------------------------------------------------------- figures
def figures(runs: Sequence[ComparedRun], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the figures of the page: curves of training, bars of fertility, alignment."""
    coloured = colours(facts)
    fertile = [row for row in facts["fertility"] if row["key"] == "fertility.per_line"]
    bits = [row for row in facts["results"] if row["key"] == "bits_per_byte.bits_per_byte"]
    return {
        "views": curves.views(runs, coloured),
        "fertility": _bars(fertile, FERTILITY["per_line"]),
        "bits": _bars(bits, "bits per byte"),
        "alignment": _layers(facts["alignment"], coloured),
        "coloured": coloured[: len(plots.LINES)],
    }


def colours(facts: Mapping[str, Any]) -> list[str]:
    """Returns the runs in the order of their colours.

    It is the order that was given; of more runs than there are colours, after the first those of
    the lowest bits per byte.
    """
    names = [run["name"] for run in facts["runs"]]
    if len(names) <= len(plots.LINES):
        return names
    bits = [r for r in facts["results"] if r["key"] == "bits_per_byte.bits_per_byte"]
    cells = max((r["cells"] for r in bits), key=_filled, default={})
    values = {name: number(cells.get(name, {}).get("value")) for name in names[1:]}
    best = sorted((value, name) for name, value in values.items() if value is not None)
    first = [names[0], *(name for _, name in best)]
    return [*first, *(name for name in names if name not in first)]


def _filled(cells: Mapping[str, Mapping[str, Any]]) -> int:
    return sum("missing" not in cell for cell in cells.values())


def _bars(rows: Sequence[Mapping[str, Any]], unit: str) -> str:
    """Returns a figure of rows in which two runs or more stand; "" without any.

    The first run is drawn last, in the accent colour.
    """
    series: dict[str, dict[str, float]] = {}
    for row in (row for row in rows if _filled(row["cells"]) > 1):
        for name, cell in row["cells"].items():
            if (value := number(cell.get("value"))) is not None:
                series.setdefault(name, {})[row["name"]] = value
    shown = dict([*series.items()][:IN_BARS])
    return plots.bars(dict(reversed(shown.items())), unit) if shown else ""


def _layers(rows: Sequence[Mapping[str, Any]], coloured: Sequence[str]) -> list[dict[str, Any]]:
    """Returns a figure for each entry: how each measure goes through the layers of each run."""
    by_entry: dict[str, dict[str, dict[str, plots.Curve]]] = {}
    for row in rows:
        for name, values in row["layers"].items():
            points = [(float(i), x) for i, x in enumerate(values) if x is not None]
            if points:
                x, y = zip(*points, strict=True)
                panels = by_entry.setdefault(row["name"], {})
                panels.setdefault(row["measure"], {})[name] = (list(x), list(y))
    return [
        {"name": name, "svg": plots.overlaid(panels, coloured, "layer", "")}
        for name, panels in by_entry.items()
    ]


# ---------------------------------------------------------------------------- the page
def write(facts: Mapping[str, Any], drawn: Mapping[str, Any], path: epath.PathLike) -> epath.Path:
    """Writes the page, and returns its path."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write(path, render(facts, drawn))
    return path


def render(facts: Mapping[str, Any], drawn: Mapping[str, Any], most: int = MOST_BYTES) -> str:
    """Returns the page; tables are cut until it has `most` bytes at most, and say so."""
    limits = Limits()
    while True:
        page = _render(facts, drawn, limits)
        if len(page.encode()) <= most or limits.rows <= 1:
            return page
        limits = limits.halved()


def _render(facts: Mapping[str, Any], drawn: Mapping[str, Any], limits: Limits) -> str:
    runs = facts["runs"]
    names = [run["name"] for run in runs]
    return pages.render(
        "compare.html.j2",
        title=title(names),
        subtitle=subtitle(facts),
        cards=cards(facts),
        runs=[_described(run, drawn["coloured"], facts) for run in runs],
        results=of_rows(facts["results"], names, limits),
        tasks=of_rows(facts["tasks"], names, limits),
        judge=of_rows(facts["judge"], names, limits),
        fertility=of_rows(facts["fertility"], names, limits),
        efficiency=of_rows(facts["efficiency"], names, limits),
        training=[_of_view(view, facts, names, limits) for view in drawn["views"]],
        drawn=drawn,
        samples=facts["samples"][: limits.texts],
        answers={title: rows[: limits.texts] for title, rows in facts["answers"].items()},
        recipes=by_value(facts["recipes"], names, limits),
        origins=of_facts({run["name"]: run["origins"] for run in runs}, names),
        how=facts["how"],
    )


def title(names: Sequence[str]) -> str:
    """Returns what the page is called.

    >>> title(["a", "b"]), title(list("abcdef"))
    ('a and b', '6 runs')
    """
    if len(names) > 3:
        return f"{len(names)} runs"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def subtitle(facts: Mapping[str, Any]) -> str:
    """Says how many scores stand side by side, and how many cannot."""
    rows = [*facts["results"], *facts["tasks"], *facts["judge"]]
    together = sum(_filled(row["cells"]) > 1 for row in rows)
    said = f"{pages.counted(together, 'score')} side by side"
    if left := len(rows) - together:
        said += f"; {left:,} of a single run, or measured in another way"
    return said


def cards(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns a few scores to remember: the best run of each."""
    shown = {"bits_per_byte.bits_per_byte": 3, "translation.chrf": 1, "tasks": 2}
    out = []
    for row in [*facts["results"], *facts["tasks"]]:
        kind = row["key"] if row["key"] in shown else row["key"].partition(".")[0]
        if not shown.get(kind) or _filled(row["cells"]) < 2:
            continue
        shown[kind] -= 1
        scored = {
            name: c["value"] for name, c in row["cells"].items() if c.get("value") is not None
        }
        if not scored:
            continue
        best = (min if kind.startswith("bits") else max)(scored, key=lambda name: scored[name])
        label = f"{row['measure']}, {row['name']}"
        out.append({"value": row["cells"][best]["text"], "label": label, "note": best})
    return out


def _described(
    run: Mapping[str, Any], coloured: Sequence[str], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a line of the list of runs."""
    trained, made_of = run["trained"], run["origins"]
    seconds = trained["seconds"]
    weights = {each["name"]: each["origins"]["weights"] for each in facts["runs"]}
    same = [name for name, x in weights.items() if x and x == made_of["weights"]]
    twin = [f"has the same weights as {same[0]}"] if same and same[0] != run["name"] else []
    return {
        "name": run["name"],
        "path": run["path"],
        "number": coloured.index(run["name"]) + 1 if run["name"] in coloured else 0,
        "base": made_of["base"],
        "numbers": [
            "" if trained[key] is None else plots.short(trained[key])
            for key in ("step", "tokens_read", "bytes_read", "flops")
        ]
        + ["" if seconds is None else pages.duration(seconds)],
        "problems": [*run["problems"], *twin],
    }


def _of_view(
    view: Mapping[str, Any], facts: Mapping[str, Any], names: Sequence[str], limits: Limits
) -> dict[str, Any]:
    (equal,) = [each for each in facts["training"] if each["axis"] == view["axis"]]
    rows = [
        {"measure": "bits per byte", "name": row["name"], "key": "", "first": names[0],
         "cells": row["cells"]}
        for row in equal["rows"]
    ]  # fmt: skip
    table: Table = of_rows(rows, names, limits)
    return {**view, "table": table, "end": f"{plots.short(equal['end'])} {equal['unit']}",
            "without": equal["without"], "alone": equal["alone"]}  # fmt: skip
