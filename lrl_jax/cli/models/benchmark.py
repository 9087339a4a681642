"""Measures any model on benchmark tasks, without a recipe; and a few entries of a recipe's.

lrl evaluate --model FOLDER_OR_HUB_ID --tasks kobest,xcopa_ta --data ../data --out scores
lrl evaluate recipe.yaml --only xquad --limit 50
lrl evaluate --list
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import itertools
from typing import Any

from etils import epath
from rich import box

from lrl_jax import storage, terminal
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import kinds, task_files, tasks
from lrl_jax.evaluate.benchmark import items
from lrl_jax.evaluate.rows import Json
from lrl_jax.pipeline import evaluate, models
from lrl_jax.pipeline.console import display, progress, say
from lrl_jax.pipeline.notes import MismatchError
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.evaluate import SHARED, Benchmark, Evaluate
from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.vocab import did_you_mean
from lrl_jax.report import run as report

SHOWN = 12  # members of a family that a list names


# ---------------------------------------------------------------------------- any model
def of_model(args: argparse.Namespace, name: str) -> None:
    """Scores a model on tasks; prints a table and writes results.json and items into --out.

    Results of other tasks that are in --out already stay there.

    Raises:
      MismatchError: --out holds results of another model.
    """
    settings = _settings(args)
    tasks.validate(settings, args.imports)  # before the model is read
    out = epath.Path(args.out)
    model = models.open_model(name, dtype=args.dtype, length=args.length)
    model = items.with_digest(dataclasses.replace(model, items=str(out / "items")))
    about = {"model": name, "dtype": args.dtype, "weights": model.digest}
    kept = _kept(out, about)
    results: dict[str, Any] = {}
    with progress("evaluate") as tell:
        for name, entry in settings.tasks.items():
            watched = dataclasses.replace(model, tick=functools.partial(tell, name))
            results[name] = tasks.score(entry, watched, settings, args.imports)
            _write(out, about, {**kept, **tasks.flat({"tasks": results})})
    shown = tasks.flat({"tasks": results})
    display(table(shown))
    for name, result in shown.items():
        for remark in tasks.circumstances(result):
            say(f"{name}: {remark}")
    say(f"evaluate: {out}/results.json and the items in {out}/items")


def _settings(args: argparse.Namespace) -> Evaluate:
    """Returns the section of a recipe that says what the arguments say; groups are taken apart."""
    entries: dict[str, Benchmark] = {}
    how = {"shots": args.shots, "limit": args.limit, "skip_bad": args.skip_bad}
    for name in _names(args.tasks):
        for key, task in _keyed(name, args.imports).items():
            if key in entries and entries[key].task != task:
                raise ValueError(
                    f"--tasks: {entries[key].task} and {task} are both called {key}, and results "
                    "are kept by name; change `task:` in one of them, or score it by itself"
                )
            entries[key] = Benchmark(task=task, **how)
    if not entries:
        raise ValueError("--tasks: name tasks or groups, such as kobest,xcopa_ta; --list has them")
    return Evaluate(tasks=entries, task_data=args.data, batch_size=args.batch_size)


def _names(listed: str) -> list[str]:
    return [*filter(None, map(str.strip, listed.split(",")))]


def _keyed(name: str, imports: Sequence[str]) -> dict[str, str]:
    """Returns the tasks of a name by what they are called in results; a family's file is one."""
    if task_files.is_file(name) and not imports:
        tasks = task_files.resolve(name)
        return {tasks[0].name if len(tasks) == 1 else epath.Path(name).stem: name}
    try:
        members = task_files.resolve(name) if not imports else []
    except task_files.UnknownTaskError:  # the harness may have it
        members = []
    return {task.name: task.name for task in members} or {epath.Path(name).stem: name}


def _kept(out: epath.Path, about: Mapping[str, Any]) -> dict[str, Json]:
    """Returns the results of tasks that are in a folder already; they have to be of this model."""
    path = out / "results.json"
    if not path.exists():
        return {}
    earlier = storage.read_json(path)
    if not (isinstance(earlier, dict) and isinstance(earlier.get("tasks"), dict)):
        raise MismatchError(f"{path}: is not of lrl evaluate; name another folder with --out")
    # a folder can be given other weights, so that its name alone does not tell
    if differs := [key for key in ("weights", "dtype") if earlier.get(key) != about[key]]:
        raise MismatchError(
            f"{path}: holds results of {earlier.get('model')} ({earlier.get('dtype')}), whose "
            f"{' and '.join(differs)} are not those of {about['model']} ({about['dtype']}); "
            "name another folder with --out"
        )
    return earlier["tasks"]


def _write(out: epath.Path, about: Mapping[str, Any], results: Mapping[str, Json]) -> None:
    """Writes what is measured so far."""
    if meshes.lead():
        out.mkdir(parents=True, exist_ok=True)
        whole = {**about, "facts": kinds.facts(), "tasks": results}
        storage.write_json(out / "results.json", whole)


def table(results: Mapping[str, Json]) -> terminal.FittedTable:
    """Returns a table of scores: each beside what guessing scores, and its 95 % interval."""
    numbers = ("score", "chance", "95 %", "items")
    shown = terminal.FittedTable("task", "metric", *numbers, numbers=numbers, box=box.SIMPLE_HEAD)
    for name, result in results.items():
        for n, metric in enumerate(tasks.metrics(result)):
            shown.add_row("" if n else name, metric, *_cells(metric, result))
        shown.add_section()
    return shown


def _cells(metric: str, result: Json) -> Iterator[str]:
    """Yields score, chance, interval and items."""
    yield f"{result['scores'][metric]:.1f}"
    chance = result.get("chance")
    yield f"{chance:.1f}" if chance is not None and tasks.has_chance(metric) else ""
    bounds = (result.get("intervals") or {}).get(metric)
    yield " to ".join(f"{bound:.1f}" for bound in bounds) if bounds else ""
    yield str(result.get("items"))


# ---------------------------------------------------------------------------- of a recipe
def look(run: Run, args: argparse.Namespace) -> None:
    """Measures the entries of --only, or all tasks, on both models; prints before and after.

    The step's own results stay as they are. Items of tasks that are finished here are not scored
    again by the step, nor the other way round.
    """
    looked_at = dataclasses.replace(run, recipe=chosen(run.recipe, args))
    with progress("evaluate") as tell:
        results = evaluate.look(looked_at, tell)
    display(report.summary_table(results.get("before", {}), results.get("after", {})))


def chosen(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """Returns the recipe with the entries that are looked at, and only those."""
    settings = recipe.evaluate
    only = _names(args.only or "")
    names = {name for entries in settings.kinds().values() for name in entries}
    for name in only:
        if name not in names:
            raise ValueError(
                f"--only: no entry {name!r} under evaluate{did_you_mean(name, names)}; "
                f"there are {', '.join(sorted(names)) or 'none'}"
            )
    kept: dict[str, Any] = {"baseline_text": {}}
    for kind, entries in settings.kinds().items():
        wanted = only or ([*entries] if kind == "tasks" else [])
        kept[kind] = {n: _limited(e, args) for n, e in entries.items() if n in wanted}
    if not any(kept.values()):
        raise ValueError("evaluate.tasks: the recipe has no task; name an entry with --only")
    if args.limit:
        kept["max_lines"] = min(args.limit, settings.max_lines)
    assert not {*kept} & {*SHARED} - {"baseline_text", "max_lines"}
    return recipe.model_copy(update={"evaluate": settings.model_copy(update=kept)})


def _limited(entry: Any, args: argparse.Namespace) -> Any:
    """Returns an entry with the limit of the arguments, where it has one."""
    update: dict[str, Any] = {}
    if args.limit and hasattr(entry, "limit"):
        update["limit"] = min(args.limit, entry.limit or args.limit)
    if isinstance(entry, Benchmark):
        update |= {"skip_bad": entry.skip_bad or args.skip_bad}
        update |= {} if args.shots is None else {"shots": args.shots}
    return entry.model_copy(update=update) if update else entry


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
