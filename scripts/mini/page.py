"""Writes docs/reproduction.md, and a figure for each direction, from the results of the studies.

    python -m scripts.mini.page runs docs/reproduction.md

Every number and every verdict is computed from `results.json` of the studies
(`scripts.mini.verdicts`); what is said in words stands in directions.yaml beside this file.
"""

import collections
from collections.abc import Mapping, Sequence
import datetime
import io
import itertools
import json
import math
from pathlib import Path
import platform
import re
import sys
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from lrl_jax.laws import law
from lrl_jax.recipe import plain_yaml
from scripts.mini.verdicts import SEED, Interval, Json, Verdict, judge, overall, student

DIRECTIONS = Path(__file__).with_name("directions.yaml")
LAWS = "laws/laws/laws.json"  # below the folder of runs, where scripts/laws.sh leaves it
COMMAND = "scripts/reproduce.sh"
ABOUT = (
    "Models of 1M parameters and less read the sample world that ships with the package. A",
    "direction holds where each of its checks holds: the whole 95 % interval lies on the side that",
    "the paper claims. It is Student's t over n seeds; of a law's exponent, that of the fit to n",
    "trained points. The studies are the files of `configs/mini`; from their results",
    "`scripts/mini/verdicts.py` computes every verdict and `scripts/mini/page.py` writes this",
    "page. A direction says nothing of how large an effect is in a larger model.",
)
INK, DOT = "#6e7781", "#0969da"  # read well on white and on black
STYLE = {
    "svg.hashsalt": "lrl", "svg.fonttype": "none", "text.parse_math": False, "font.size": 10,
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def write(studies: Mapping[str, Json], page: Path, directions: Sequence[Json], date: str) -> None:
    """Writes the page and, in a folder beside it with its name, the figures."""
    figures = page.with_suffix("")
    figures.mkdir(parents=True, exist_ok=True)
    for direction in directions:
        if drawn := figure(direction, studies):
            (figures / f"{direction['name']}.svg").write_text(drawn, encoding="utf-8")
    page.write_text(markdown(studies, directions, date, figures), encoding="utf-8")


def markdown(
    studies: Mapping[str, Json], directions: Sequence[Json], date: str, figures: Path
) -> str:
    """Returns the page."""
    judged = {d["name"]: [judge(check, studies) for check in d["checks"]] for d in directions}
    seconds = sum(cell.get("seconds", 0) for study in studies.values() for cell in study["cells"])
    machine = f"{platform.system()} {platform.machine()}"
    lines = [
        "# Four papers in miniature",
        "",
        "What six claims of the four papers came to on tiny models, and how to train them again.",
        "",
        f"    {COMMAND}",
        "",
        f"Measured on {date}, {machine}, CPU; {seconds / 60:.0f} minutes of training, without",
        "that of bases and of the ladder of laws.",
        *ABOUT,
        "",
        "| | direction | paper | verdict |",
        "|---|---|---|---|",
    ]
    for d in directions:
        verdict = overall(judged[d["name"]]).words
        title = f"[{d['title']}](#{anchor(heading(d))})"
        lines.append(f"| {d['number']} | {title} | {d['paper']} | **{verdict}** |")
    for d in directions:
        lines += ["", *section(d, judged[d["name"]], studies, figures)]
    return "\n".join([*lines, ""])


def section(
    direction: Json, judged: Sequence[Verdict], studies: Mapping[str, Json], figures: Path
) -> list[str]:
    """Returns the part of the page about one direction."""
    name = direction["name"]
    lines = [f"## {heading(direction)}", ""]
    lines += [f"**{overall(judged).words}.** {' '.join(direction['about'].split())}", ""]
    lines += [
        "| check | unit | mean | 95 % interval | n | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for check, verdict in zip(direction["checks"], judged, strict=True):
        numbers = _cells(verdict.interval)
        lines.append(f"| {check['says']} | {check['unit']} | {numbers} | {verdict.words} |")
    for study in direction["shown"]:
        if study in studies:
            lines += ["", *table(study, studies[study], direction["shown"][study])]
        else:
            lines += ["", f"`configs/mini/{study}.yaml`: no results yet."]
    if (figures / f"{name}.svg").exists():
        lines += ["", f"![means and intervals of each cell]({figures.name}/{name}.svg)"]
    if tried := direction.get("tried"):
        lines += ["", "What was tried: " + " ".join(tried.split())]
    return lines


def heading(direction: Json) -> str:
    """Returns the heading of a direction, without its marks."""
    return f"{direction['number']}. {direction['title']}"


def anchor(heading: str) -> str:
    """Returns the address of a heading within a page, as GitHub and the site make it.

    >>> anchor("5. TaCo's chain, twice")
    '5-tacos-chain-twice'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def table(name: str, study: Json, shown: Mapping[str, str]) -> list[str]:
    """Returns a study's table: a line for each group of cells that differ in their seeds alone."""
    seeds = sorted({str(cell["facts"].get(SEED, 0)) for cell in study["cells"]})
    head = ["cells", "steps", "tokens read", "bytes read", *shown.values()]
    lines = [f"`configs/mini/{name}.yaml`, at equal {study['at']}, seeds {', '.join(seeds)}:"]
    if study["at"] == "recipe":
        lines = [
            f"`configs/mini/{name}.yaml`, steps as the file has them, seeds {', '.join(seeds)}:"
        ]
    lines += ["", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for label, cells in groups(study).items():
        ended = [cell for cell in cells if not cell["error"]]
        counts = [_mean(ended, key) for key in ("steps", "tokens", "bytes")]
        values = [_said(_interval(ended, metric)) for metric in shown]
        lines.append(f"| {' | '.join([label, *counts, *values])} |")
    failed = [f"- cell {c['name']} failed: {c['error']}" for c in study["cells"] if c["error"]]
    return [*lines, *(["", *failed] if failed else [])]


def groups(study: Json) -> dict[str, list[Json]]:
    """Returns the cells of a study by what tells them apart beside their seeds."""
    together: dict[str, list[Json]] = {}
    for cell in study["cells"]:
        facts = {key: fact for key, fact in cell["facts"].items() if key != SEED}
        together.setdefault(", ".join(itertools.starmap(_fact, facts.items())), []).append(cell)
    return together


@matplotlib.rc_context(STYLE)
def figure(direction: Json, studies: Mapping[str, Json]) -> str:
    """Returns a figure with a panel for each shown metric: its groups, their seeds and intervals.

    It is "" where there are no results yet.
    """
    panels = [
        (label, [(name, _values(cells, metric)) for name, cells in groups(studies[study]).items()])
        for study, shown in direction["shown"].items()
        if study in studies
        for metric, label in shown.items()
    ]
    panels = [(label, rows) for label, rows in panels if all(values for _, values in rows)]
    if not panels:
        return ""
    heights = [0.5 + 0.3 * len(rows) for _, rows in panels]
    drawn = Figure((8, sum(heights) + 0.3 * len(panels)), layout="constrained")
    axes = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (label, rows) in zip(axes, panels, strict=True):
        for y, (_, values) in enumerate(rows):
            interval = student(values)
            if math.isfinite(interval.low):
                ax.plot([interval.low, interval.high], [y, y], color=DOT, lw=2, alpha=0.5)
            ax.plot(values, [y] * len(values), "o", ms=3, color=INK)
            ax.plot([interval.mean], [y], "o", ms=7, color=DOT)
        ax.set_yticks(range(len(rows)), [name for name, _ in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_title(label, loc="left", size=10)
    return _svg(drawn)


def _svg(drawn: Figure) -> str:
    out = io.StringIO()
    drawn.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _fact(key: str, fact: Any) -> str:
    """Returns a fact as a reader says it: a choice by its name, a number with its key."""
    return str(fact) if isinstance(fact, str) else f"{fact} {key.rpartition('.')[2]}"


def _values(cells: Sequence[Json], metric: str) -> list[float]:
    return [cell["values"][metric] for cell in cells if metric in cell["values"]]


def _interval(cells: Sequence[Json], metric: str) -> Interval | None:
    values = _values(cells, metric)
    return student(values) if values else None


def _mean(cells: Sequence[Json], key: str) -> str:
    counts = [cell[key] for cell in cells if isinstance(cell.get(key), int | float)]
    return f"{sum(counts) / len(counts):,.0f}" if counts else ""


def _said(interval: Interval | None) -> str:
    if interval is None:
        return "none"
    if not math.isfinite(interval.low):
        return number(interval.mean)
    return f"{number(interval.mean)} ({number(interval.low)} to {number(interval.high)})"


def _cells(interval: Interval | None) -> str:
    if interval is None:
        return "| | 0"
    if not math.isfinite(interval.low):
        return f"{number(interval.mean)} | | {interval.n}"
    ends = f"{number(interval.low)} to {number(interval.high)}"
    return f"{number(interval.mean)} | {ends} | {interval.n}"


def number(value: float) -> str:
    """Returns a number with as many digits as its size deserves.

    >>> number(0.12345), number(-12.345), number(12345.6)
    ('0.123', '-12.3', '12,346')
    """
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def studies_of(directions: Sequence[Json]) -> list[str]:
    """Returns the names of all studies that directions are judged on or shown by."""
    checks = [check for d in directions for check in d["checks"]]
    judged = [check["study"] for check in checks if "exponent" not in check]
    return sorted({*judged, *(name for d in directions for name in d["shown"])})


def results(runs: Path, name: str) -> Path | None:
    """Returns the results of a study, if there are any: those of a miniature before others."""
    paths = [folder / name / "results.json" for folder in (runs / "mini", runs)]
    return next((path for path in paths if path.exists()), None)


def main(runs: Path, page: Path) -> None:
    """Reads the results that there are, and writes the page."""
    directions = plain_yaml.parse(DIRECTIONS.read_text(encoding="utf-8"))["directions"]
    there = {name: path for name in studies_of(directions) if (path := results(runs, name))}
    studies = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in there.items()}
    if (fitted := runs / LAWS).exists():
        points = law.read_points(str(fitted.with_name("points.csv")))
        counts = collections.Counter(point.language for point in points)
        laws = [{**vars(each), "points": counts[each.language]} for each in law.read(str(fitted))]
        studies["laws"] = {"laws": laws, "cells": []}
    newest = max((path.stat().st_mtime for path in there.values()), default=0.0)
    date = datetime.datetime.fromtimestamp(newest, datetime.UTC).date().isoformat()
    write(studies, page, directions, date)
    for direction in directions:
        verdict = overall([judge(check, studies) for check in direction["checks"]])
        print(f"{direction['number']}. {direction['title']}: {verdict.words}")
    print(page)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
