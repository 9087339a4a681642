"""Scores many models on the same tasks, each in a process of its own: here, or on a Ray cluster.

lrl evaluate --model A --model B --tasks kobest --out scores [--on ray]      scores/A, scores/B
"""

import argparse
from collections.abc import Iterator, Mapping

from etils import epath
from rich import box

from lrl_jax import storage, terminal
from lrl_jax.cli import begin, names
from lrl_jax.cli.studies import engines
from lrl_jax.devices.jobs import Ended, Job, run_all
from lrl_jax.evaluate import tasks

PLAIN = ("export", "model")  # names of folders that tell nothing
RESULTS, LOGS = "results.json", "logs"
OPTIONS = ("tasks", "data", "dtype", "length", "batch_size", "limit", "shots")


def score_each(args: argparse.Namespace) -> int:
    """Scores each model of --model into a folder of --out; prints a table with one column a model.

    A model that cannot be scored does not stop the others. Returns the exit code of the first that
    failed, or 0.
    """
    if args.coordinator or args.processes:
        raise ValueError(
            "several models are scored one on each machine: leave --coordinator and --processes "
            "out, and add --on ray for several machines"
        )
    models = names.apart(args.model, PLAIN, "model")
    folders = {name: name.replace("/", "-") for name in models}
    if len({LOGS, *folders.values()}) <= len(folders):
        raise ValueError(f"--model: two of {', '.join(models)} have one folder in {args.out}")
    jobs = [
        Job(name, _words(args, model, f"{args.out}/{folders[name]}"), on_devices=True)
        for name, model in models.items()
    ]
    failures: dict[str, Ended] = {}
    for ended in run_all(engines.engine(args, args.out, 0 if args.on == engines.RAY else 1), jobs):
        name = ended.job.name
        if ended.code:
            failures[name] = ended
            last = ended.said.splitlines()[-1:] or [f"ended with code {ended.code}"]
            begin.say(f"evaluate: {name}: failed: {last[0]}")
        else:
            begin.say(f"evaluate: {name}: {args.out}/{folders[name]}/{RESULTS}")
    results = {
        name: storage.read_json(epath.Path(args.out) / folder / RESULTS)["tasks"]
        for name, folder in folders.items()
        if name not in failures
    }
    terminal.console().print(table(results))
    return next((ended.code for ended in failures.values()), 0)


def _words(args: argparse.Namespace, model: str, out: str) -> tuple[str, ...]:
    """Returns the command that scores one model."""
    words = ["evaluate", "--model", model, "--out", out]
    for option in OPTIONS:
        value = getattr(args, option)
        if value or (option == "shots" and value == 0):  # no other 0 may be given
            words += [f"--{option.replace('_', '-')}", str(value)]
    words += [word for file in args.imports for word in ("--import", file)]
    return (*words, *(["--skip-bad"] if args.skip_bad else []))


def table(results: Mapping[str, Mapping]) -> terminal.FittedTable:
    """Returns a table of scores with a row for each task and metric, a column for each model."""
    shown = terminal.FittedTable("task", "metric", *results, numbers=(*results,), box=box.SIMPLE)
    rows = {(task, metric) for scores in results.values() for task, metric in _metrics(scores)}
    for task, metric in sorted(rows):
        scores = [of.get(task, {}).get("scores", {}).get(metric) for of in results.values()]
        cells = ["" if score is None else f"{score:.1f}" for score in scores]
        shown.add_row(task, metric, *cells)
    return shown


def _metrics(scores: Mapping) -> Iterator[tuple[str, str]]:
    """Yields each task with each of its metrics."""
    for task, result in scores.items():
        for metric in tasks.metrics(result):
            yield task, metric
