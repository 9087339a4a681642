"""Runs `lrl laws fit` and `lrl laws allocate`: laws of given points, and budgets shared by them."""

import argparse
from collections.abc import Sequence

from etils import epath

from lrl_jax import storage, terminal
from lrl_jax.cli import begin
from lrl_jax.laws import allocate, law
from lrl_jax.laws.law import Ceiling, Law, Loss, Point
from lrl_jax.report import laws as laws_page


def laws_fit(args: argparse.Namespace) -> None:
    """Fits scaling laws to scores, and prints how well they predict points that were left out."""
    points = law.read_points(args.points)
    write_laws(
        points, epath.Path(args.out), ceiling=args.ceiling, loss=args.loss, shared=args.shared
    )


def write_laws(
    points: Sequence[Point],
    folder: epath.Path,
    *,
    ceiling: Ceiling,
    loss: Loss,
    shared: bool = False,
) -> list[Law]:
    """Fits the laws, writes laws.json and index.html, and prints the table.

    A language whose points make no law is named, and the others are written.

    Raises:
      ValueError: no language has a law.
    """
    for line in law.falls(points):
        begin.say(f"laws: {line}")
    laws: list[Law] = []
    problems = []
    for group in [points] if shared or not points else law.by_language(points).values():
        try:
            laws += law.fit(group, shared, ceiling=ceiling, loss=loss)
        except ValueError as e:
            problems.append(str(e))
    if not laws:
        raise ValueError("; ".join(problems))
    for problem in problems:
        begin.say(f"laws: left out: {problem}")
    folder.mkdir(parents=True, exist_ok=True)
    law.write(laws, folder / "laws.json")
    storage.write(folder / "index.html", laws_page.page(laws, points))
    terminal.console().print(laws_page.laws_table(laws))
    begin.say(
        f"laws: {folder}/index.html; go on with lrl laws allocate {folder}/laws.json --budget N"
    )
    return laws


def laws_allocate(args: argparse.Namespace) -> None:
    """Divides a budget of pairs among languages; prints overrides for a recipe, or writes YAML."""
    laws = law.read(args.laws)
    pairs = allocate.allocate(laws, args.budget, args.cap, args.weight)
    even = allocate.even(args.budget, list(pairs), args.cap)
    terminal.console().print(laws_page.allocation_table(laws, pairs, even))
    takes = allocate.takes(pairs, args.dataset)
    takes_of = " ".join(f"data.datasets.{name}.take={count}" for name, count in takes.items())
    print(terminal.visible(takes_of))
    if args.write:
        lines = [f"    {name}: {{take: {count}}}\n" for name, count in takes.items()]
        epath.Path(args.write).write_text("".join(["data:\n  datasets:\n", *lines]))
        begin.say(f"laws: {args.write}, to go into a recipe")
