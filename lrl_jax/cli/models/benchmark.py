"""Measures any model on benchmark tasks, without a recipe; and a few entries of a recipe's.

lrl evaluate --model FOLDER_OR_HUB_ID --tasks kobest,xcopa_ta --data ../data --out scores
lrl evaluate recipe.yaml --only xquad --limit 50
lrl evaluate --list
"""

import argparse
from collections.abc import Sequence
import dataclasses
import itertools

from etils import epath

from lrl_jax import terminal
from lrl_jax.evaluate import task_files, tasks
from lrl_jax.evaluate.benchmark import tables
from lrl_jax.pipeline import benchmark, evaluate, models
from lrl_jax.pipeline.console import display, progress, say
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Recipe
from lrl_jax.report import run as report

SHOWN = 12  # members of a family that a list names


# ---------------------------------------------------------------------------- any model
def of_model(args: argparse.Namespace, name: str) -> None:
    """Scores a model on tasks; prints a table and writes results.json and items into --out.

    Results of other tasks that are in --out already stay there.

    Raises:
      MismatchError: --out holds results of another model.
    """
    settings = benchmark.settings(
        _names(args.tasks), data=args.data, shots=args.shots, limit=args.limit,
        skip_bad=args.skip_bad, batch_size=args.batch_size, imports=args.imports,
    )  # fmt: skip
    tasks.validate(settings, args.imports)  # before the model is read
    model = models.open_model(name, dtype=args.dtype, length=args.length)
    with progress("evaluate") as tell:
        shown = benchmark.score(
            model, settings, tell, place=name, out=args.out, imports=args.imports
        )
    display(tables.table(shown))
    for name, result in shown.items():
        for remark in tasks.circumstances(result):
            say(f"{name}: {remark}")
    say(f"evaluate: {args.out}/results.json and the items in {args.out}/items")


def _names(listed: str) -> list[str]:
    return [*filter(None, map(str.strip, listed.split(",")))]


# ---------------------------------------------------------------------------- of a recipe
def look(run: Run, args: argparse.Namespace) -> None:
    """Measures the entries of --only, or all tasks, on both models; prints before and after.

    The step's own results stay as they are. Items of tasks that are finished here are not scored
    again by the step, nor the other way round.
    """
    with progress("evaluate") as tell:
        results = evaluate.look(dataclasses.replace(run, recipe=chosen(run.recipe, args)), tell)
    display(report.summary_table(results.get("before", {}), results.get("after", {})))


def chosen(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """Returns the recipe with the entries that the arguments name, and only those."""
    return benchmark.chosen(
        recipe, _names(args.only or ""), limit=args.limit, shots=args.shots, skip_bad=args.skip_bad
    )


# ---------------------------------------------------------------------------- which there are
def print_tasks() -> None:
    """Prints the tasks that ship: by family, with language, metric, paper and prompt."""
    every = task_files.shipped()
    for _, of_file in itertools.groupby(sorted(every, key=lambda t: t.file), lambda t: t.file):
        family = [*of_file]
        first, facts = family[0], family[0].facts
        print(terminal.visible(f"{_called(family)}  {_languages(family)}"))
        print(terminal.visible(f"    {first.settings.metrics[0]}; paper: {facts.paper}"))
        print(terminal.visible(f"    prompt: {facts.prompt}"))
    groups = sorted({group for task in every for group in task.settings.groups})
    print(f"{len(every):,} tasks; groups, whose tasks are run together: {', '.join(groups)}")


def _called(family: Sequence[task_files.BenchmarkTask]) -> str:
    """Returns how a family is called: xcopa_{et,ht,...}."""
    names = [task.name for task in family]
    if len(names) == 1:
        return names[0]
    stem = epath.Path(family[0].file).stem
    keys = [name.removeprefix(f"{stem}_") for name in names]
    more = f",... {len(keys)} in all" if len(keys) > SHOWN else ""
    return f"{stem}_{{{','.join(keys[:SHOWN])}{more}}}"


def _languages(family: Sequence[task_files.BenchmarkTask]) -> str:
    codes = [*dict.fromkeys(task.facts.language for task in family)]
    return codes[0] if len(codes) == 1 else f"{len(codes)} languages"
