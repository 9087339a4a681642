"""Shows a study: tables of means, differences and failures for a terminal, and one offline page.

Everything is read from results.json (`lrl_jax.pipeline.study.results`), so that a study can be
looked at while it runs.
"""

from collections.abc import Iterator, Mapping, Sequence
import json
import math
from typing import Any

from etils import epath
from rich.table import Table

from lrl_jax.report import pages, plots
from lrl_jax.report.axes import LINES, short
from lrl_jax.report.compare import curves, runs
from lrl_jax.storage import Json
from lrl_jax.terminal import FittedTable

SPENT = ("tokens", "bytes", "flops")
MOST_CURVES = 24  # cells whose training is drawn
MOST_DIFFERENCES = 40  # lines of a figure


def tables(results: Json) -> Iterator[Table]:
    """Yields the tables of a study: its groups, their differences, and the cells that failed."""
    metrics = results["compare"]
    if results["groups"]:
        yield _fitted(group_columns(results), group_rows(results), metrics, f"at {how(results)}")
    if results["differences"]:
        title = "differences, paired by seed"
        yield _fitted(difference_columns(results), difference_rows(results), metrics, title)
    if failed := [cell for cell in results["cells"] if cell["error"]]:
        out = FittedTable("failed", "why")
        for cell in failed:
            out.add_row(cell["name"], cell["error"])
        yield out


def how(results: Json) -> str:
    """Returns in words what all cells have spent as much of."""
    at = results["at"]
    return (
        "the recipe's own steps" if at == "recipe" else f"equal {'FLOPs' if at == 'flops' else at}"
    )


def _fitted(
    columns: Sequence[str], rows: Sequence[Sequence[str]], metrics: Sequence[str], title: str
) -> Table:
    numbers = [name for name in columns if name in (*metrics, *SPENT, "n", "steps")]
    out = FittedTable(*columns, numbers=numbers, title=title)
    for row in rows:
        out.add_row(*row)
    return out


# ---------------------------------------------------------------------------- groups
def axes(results: Json) -> list[str]:
    """Returns the axes of the grid but its seeds."""
    return list(results["groups"][0]["facts"]) if results["groups"] else []


def called(axis: str, others: Sequence[str]) -> str:
    """Returns what a table calls an axis: its last word, unless another axis ends with it.

    >>> called("vocab.pieces", ["vocab.pieces", "seed"]), called("a.x", ["a.x", "b.x"])
    ('pieces', 'a.x')
    """
    last = axis.rpartition(".")[2]
    return axis if [other.rpartition(".")[2] for other in others].count(last) > 1 else last


def group_columns(results: Json) -> list[str]:
    """Returns the headings of `group_rows`."""
    names = axes(results)
    return [*(called(axis, names) for axis in names), *results["compare"], "n", "steps", *SPENT]


def group_rows(results: Json) -> list[list[str]]:
    """Returns a row for each combination of values: its metrics, and what its cells have spent."""
    return [
        [
            *(said(group["facts"][axis]) for axis in axes(results)),
            *(interval(group["values"].get(metric)) for metric in results["compare"]),
            str(group["n"]),
            *(short(group[key]) if key in group else "" for key in ("steps", *SPENT)),
        ]
        for group in results["groups"]
    ]


# ---------------------------------------------------------------------------- differences
def difference_columns(results: Json) -> list[str]:
    """Returns the headings of `difference_rows`."""
    return ["of", "less", "where", *results["compare"], "n"]


def difference_rows(results: Json) -> list[list[str]]:
    """Returns a row for each value of an axis against its first, all else equal."""
    rows = []
    for difference in results["differences"]:
        of, less = difference["of"], difference["less"]
        axis = next(name for name in of if of[name] != less[name])
        names = {name: called(name, [*of]) for name in of}
        where = ", ".join(f"{names[name]} {said(of[name])}" for name in of if name != axis)
        rows.append(
            [
                f"{names[axis]} {said(of[axis])}",
                said(less[axis]),
                where,
                *(interval(difference["values"].get(m), sign="+") for m in results["compare"]),
                str(difference["n"]),
            ]
        )
    return rows


def said(value: Any) -> str:
    """Returns a value of an axis in a word."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def interval(summary: Mapping[str, float | None] | None, sign: str = "") -> str:
    """Returns a mean with its interval.

    >>> interval({"mean": 1.9, "low": 1.85, "high": 1.95})
    '1.9000 (1.8500 to 1.9500)'
    >>> interval({"mean": -0.1, "low": None, "high": None}, sign="+"), interval(None)
    ('-0.1000', '')
    """
    if summary is None:
        return ""
    form = f"{{:{sign}.{_digits(summary)}f}}".format
    if summary["low"] is None:
        return form(summary["mean"])
    return f"{form(summary['mean'])} ({form(summary['low'])} to {form(summary['high'])})"


def alone(value: float | None) -> dict[str, float | None] | None:
    """Returns a single number as a mean without an interval."""
    return None if value is None else {"mean": value, "low": None, "high": None}


def _digits(summary: Mapping[str, float | None]) -> int:
    """Returns how many decimals a number has: 4 of small ones, 2 of those above 10."""
    return 4 if abs(summary["mean"] or 0) < 10 else 2


def cells_of(study: Json) -> int:
    """Returns how many cells a study has, by its study.json.

    >>> cells_of({"grid": {"a": [1, 2], "b": {"x": {}, "y": {}, "z": {}}}})
    6
    """
    return math.prod(map(len, study["grid"].values()))


# ---------------------------------------------------------------------------- the page
def page(results: Json, folder: epath.Path) -> str:
    """Returns a page, which opens offline: means, differences, training side by side, every cell.

    Args:
      folder: of the study, whose cells have the curves of their training.
    """
    columns = [*axes(results), "seed", *results["compare"], "steps", *SPENT, "seconds", "why not"]
    return pages.render(
        "study.html.j2",
        study=results["study"],
        how=how(results),
        count=len(results["cells"]),
        failed=sum(bool(cell["error"]) for cell in results["cells"]),
        group_columns=group_columns(results),
        group_rows=group_rows(results),
        figures=[_differences(results, metric) for metric in results["compare"]],
        difference_columns=difference_columns(results),
        difference_rows=difference_rows(results),
        training=_training(results, folder),
        cell_columns=["cell", *columns[len(axes(results)) :]],
        cell_rows=[_cell(cell, results["compare"]) for cell in results["cells"]],
    )


def _cell(cell: Json, metrics: Sequence[str]) -> list[str]:
    return [
        cell["name"],
        said(cell["facts"].get("seed", "")),
        *(
            f"{cell['values'][metric]:.4f}" if metric in cell["values"] else ""
            for metric in metrics
        ),
        *(short(cell[key]) if cell[key] else "" for key in ("steps", *SPENT)),
        f"{cell['seconds']:,.0f}" if cell["seconds"] else "",
        cell["error"],
    ]


def _differences(results: Json, metric: str) -> str:
    """Returns the figure of the differences of a metric; '' where there are none."""
    means = {}
    for row, difference in zip(difference_rows(results), results["differences"], strict=True):
        if (summary := difference["values"].get(metric)) is not None:
            name = f"{row[0]} less {row[1]}" + (f" ({row[2]})" if row[2] else "")
            means[name] = summary["mean"], summary["low"], summary["high"]
    shown = dict([*means.items()][:MOST_DIFFERENCES])
    return plots.differences(shown, f"difference of {metric}") if shown else ""


def _training(results: Json, folder: epath.Path) -> dict[str, Any]:
    """Returns the training of a cell of each group, at equal tokens, bytes and FLOPs."""
    first: dict[str, str] = {}  # facts without seed -> a cell
    for cell in results["cells"]:
        facts = {axis: said(value) for axis, value in cell["facts"].items() if axis != "seed"}
        if not cell["error"]:
            first.setdefault(
                ", ".join(f"{called(axis, [*facts])} {value}" for axis, value in facts.items()),
                cell["name"],
            )
    names = [*first][:MOST_CURVES]
    compared = runs.read({name: folder / first[name] for name in names}, {})
    views = curves.views(compared, names)
    ends = curves.at_equal(compared, {run.name: curves.records(run) for run in compared})
    for view, end in zip(views, ends, strict=True):
        view["end"] = f"{short(end['end'])} {end['unit']}"
        view["columns"] = ["", *(row["name"] for row in end["rows"])]
        view["rows"] = [
            [name, *(_value(row["cells"][name]) for row in end["rows"])] for name in names
        ]
    return {"views": views, "coloured": names[: len(LINES)], "left_out": len(first) - len(names)}


def _value(cell: Json) -> str:
    return cell["missing"] if "missing" in cell else f"{cell['value']:.4f}"
