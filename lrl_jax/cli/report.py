"""Writes the report of a run, or the comparison of several."""

import argparse
from collections.abc import Mapping, Sequence
import json
from typing import Any

from etils import epath
from rich import box
from rich.text import Text

from lrl_jax import storage, terminal
from lrl_jax.cli import begin, names
from lrl_jax.recipe import file as recipes
from lrl_jax.recipe.languages import labelled
from lrl_jax.report.compare.tables import Limits

OUT, PAGE, FACTS = "comparison", "index.html", "comparison.json"
LINES, SCORES = 60, 4  # scores that the terminal shows at most: as lines, as columns


def report(args: argparse.Namespace) -> None:
    """Writes report/index.html into a run's folder; of several runs, a page that compares them."""
    overrides = [word for word in args.runs if _is_override(word)]
    places = [word for word in args.runs if word not in overrides]
    if len(places) > 1:
        if overrides or args.imports:
            given = " ".join([*overrides, *("--import" for _ in args.imports[:1])])
            raise ValueError(f"{given}: of a recipe, and not of several runs; leave it out")
        _compare(places, args)
        return
    if args.out or args.json or args.card:
        raise ValueError("--out, --json and --card compare several runs; name two or more")
    _single(args, places, overrides)


def _is_override(word: str) -> bool:
    return "=" in word and not epath.Path(word).exists()


# ---------------------------------------------------------------------------- one run
def _single(args: argparse.Namespace, places: Sequence[str], overrides: Sequence[str]) -> None:
    """Writes the report of a run, which its folder or its recipe names."""
    from lrl_jax.pipeline import steps
    from lrl_jax.pipeline.run import Run
    from lrl_jax.report.compare import runs

    if not places:
        raise ValueError(f"{' '.join(overrides)}: name the recipe, or the folder of a run")
    folder = epath.Path(places[0])
    if not (folder.is_dir() and runs.is_run(folder)):
        args.recipe, args.overrides = places[0], [*args.overrides, *overrides]
        folder = Run(begin.recipe(args)).folder
    if not folder.exists():
        raise ValueError(f"{folder}: no run is there yet; begin with `lrl run`, or `lrl vocab`")
    steps.report_of(folder)


# ---------------------------------------------------------------------------- several runs
def _compare(places: Sequence[str], args: argparse.Namespace) -> None:
    from lrl_jax.pipeline.console import progress
    from lrl_jax.report.compare import markdown, page, runs

    named, out = names.apart(places, (), "run"), epath.Path(args.out or OUT)
    for place in named.values():
        _refuse_other(epath.Path(place))
    if runs.is_run(out):
        raise ValueError(f"--out {out}: is the folder of a run; name another folder")
    card = epath.Path(args.card) if args.card else None
    if card is not None and not _may_write(card):
        raise ValueError(f"--card {card}: exists already, and no card of ours; name another file")
    with progress("report") as tell:
        tell("reading the runs", 0, 0)
        compared = runs.read(named, {name: _said(place) for name, place in named.items()})
        tell("comparing", 0, 0)
        facts = page.facts(compared)
        tell("drawing", 0, 0)
        written = page.write(facts, page.figures(compared, facts), out / PAGE)
    if args.json:
        storage.write_json(out / FACTS, facts)
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        terminal.console().print(_table(facts))
    if card is not None:
        storage.write(card, markdown.section(facts))
        begin.say(f"card: {card}")
    for run in facts["runs"]:
        for problem in run["problems"]:
            begin.say(f"{run['name']}: {problem}")
    begin.say(f"report: {written}")


def _refuse_other(place: epath.Path) -> None:
    """Raises ValueError for what is not the folder of a run."""
    from lrl_jax.report.compare import runs

    if not place.exists():
        raise ValueError(f"{place}: no such folder; `lrl runs` lists the runs there are")
    if not place.is_dir():
        raise ValueError(f"{place}: is a file; name the folder of its run, such as runs/NAME")
    if not runs.is_run(place):
        raise ValueError(f"{place}: is no run, as it holds neither recipe.yaml nor steps/")


def _may_write(card: epath.Path) -> bool:
    from lrl_jax.report.compare import markdown

    return not card.exists() or card.read_text().startswith(markdown.MARK)


def _said(place: str) -> str:
    """Returns the digest of what a run's recipe says of evaluation; "" if it cannot be read."""
    from lrl_jax.pipeline import inputs

    path = epath.Path(place) / "recipe.yaml"
    try:
        return inputs.said_of_evaluation(recipes.load(str(path))) if path.exists() else ""
    except ValueError:
        return ""  # of another version; the page says what is wrong


def _table(facts: Mapping[str, Any]) -> terminal.FittedTable:
    """Returns the scores that stand side by side, for the terminal; a line a run if many."""
    runs = [run["name"] for run in facts["runs"]]
    rows = [row for key in ("results", "tasks", "judge") for row in facts[key]]
    rows = [row for row in rows if sum("missing" not in c for c in row["cells"].values()) > 1]
    many = len(runs) > Limits.COLUMNS
    shown = rows[: SCORES if many else LINES]
    names = [f"{row['measure']}, {row['name']}" for row in shown] if many else runs
    heads = [""] if many else ["", ""]
    table = terminal.FittedTable(*heads, *names, numbers=names, box=box.SIMPLE_HEAD)
    cells = [[_cell(row["cells"][name]) for name in runs] for row in shown]
    if many:
        for name, of_run in zip(runs, zip(*cells, strict=True), strict=False):
            table.add_row(name, *of_run)
    else:
        for row, of_row in zip(shown, cells, strict=True):
            table.add_row(row["measure"], labelled(row["name"]), *of_row)
    if len(rows) > len(shown):
        table.caption = f"and {len(rows) - len(shown)} more scores on the page"
    return table


def _cell(cell: Mapping[str, Any]) -> Text:
    style = {"better": "green", "worse": "red"}.get(cell.get("verdict", ""), "")
    return Text(cell.get("text", "-"), style)
