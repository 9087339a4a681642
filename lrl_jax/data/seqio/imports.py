"""Asks which seqio Tasks and Mixtures the Python files of a recipe register, and of what.

    recipe = resolved(recipe)              # seqio mixtures become datasets and weights
    shards(recipe.data.datasets["mine"])   # of a Task's source

The files are run as programs, in a process of their own, so that this one stays free of TensorFlow;
`user_tasks` runs them there.
"""

from collections.abc import Iterable, Mapping, Sequence
import concurrent.futures
import multiprocessing
import re
import sys
import types
from typing import Any

from lrl_jax import text
from lrl_jax.data.read.files import Span
from lrl_jax.data.seqio import registered
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe import file as recipe_file
from lrl_jax.recipe.schema import Recipe

MOST_SHARDS = 256  # a source with more is read as so many, so that packing makes fewer files


def load_recipe(
    name: str,
    overrides: Sequence[str] = (),
    imports: Sequence[str] = (),
    sections: Mapping[str, Any] = types.MappingProxyType({}),
) -> Recipe:
    """Reads a recipe as `recipe.file.load` does, and runs the Python files it imports."""
    return resolved(recipe_file.load(name, overrides, imports, sections))


def resolved(recipe: Recipe) -> Recipe:
    """Returns a recipe in which the tasks of seqio mixtures are datasets, and their rates weights.

    Raises:
      ValueError: a file that fails, or a task, split or mixture that it does not register.
    """
    data = recipe.data
    mixtures = {name: mixture for name, mixture in data.mixtures.items() if mixture.seqio}
    tasks = [dataset for dataset in data.datasets.values() if isinstance(dataset, recipe_data.Task)]
    for files in {task.imports for task in tasks} - {data.imports}:
        describe(files, [(task.task, task.split) for task in tasks if task.imports == files])
    splits = [(task.task, task.split) for task in tasks if task.imports == data.imports]
    if not (data.imports or splits or mixtures):
        return recipe
    described = describe(data.imports, splits, [mixture.seqio for mixture in mixtures.values()])
    if not mixtures:
        return recipe
    tree = recipe.model_dump(mode="json")
    for name, mixture in mixtures.items():
        rates = described.rates[mixture.seqio]
        weights = {_dataset(tree["data"], task, mixture, name): rates[task] for task in rates}
        tree["data"]["mixtures"][name] |= {"of": weights, "seqio": ""}
    return Recipe.model_validate(tree)


def _dataset(tree: dict, task: str, mixture: recipe_data.Mixture, where: str) -> str:
    """Returns the name of the dataset that is a task's train split; adds it if there is none."""
    for name, dataset in tree["datasets"].items():
        if dataset["kind"] == "task" and (dataset["task"], dataset["split"]) == (task, "train"):
            return name
    name = re.sub(r"[^A-Za-z0-9._-]", "-", task).lstrip("._-")
    if not name or name in tree["datasets"] or name in tree["mixtures"]:
        raise ValueError(
            f"data.mixtures.{where}: its task {task!r} would become the dataset {name!r}, a name "
            "that is taken; give it yours: data.datasets: {NAME: {kind: task, task: "
            f"{task}, language: ...}}}}"
        )
    dataset = {"kind": "task", "task": task, "split": "train", "language": mixture.language}
    tree["datasets"][name] = dataset | {"imports": tree["imports"]}
    return name


def shards(dataset: recipe_data.Task) -> list[tuple[Span, ...]]:
    """Returns the shards of a Task, which are those of its source; Span(name, i, n) is i of n."""
    count = min(_split(dataset).shards, MOST_SHARDS)
    return [(Span(f"task:{dataset.task}", i, count),) for i in range(count)]


def uris(dataset: recipe_data.Task) -> tuple[str, ...]:
    """Returns the files that the records of a Task depend on: Python, and what its source reads."""
    return (*_split(dataset).modules, *_split(dataset).files)


def fingerprints(dataset: recipe_data.Task) -> list[list[str]]:
    """Returns for each shard the digests of the files on which its text depends.

    A source that is a function has no files: what such a function reads is not in the digests.
    """
    split, count = _split(dataset), len(shards(dataset))
    files = ((*split.modules, *split.files[i::count]) for i in range(count))
    return [[text.fingerprint(path) for path in paths] for paths in files]


def _split(dataset: recipe_data.Task) -> registered.Split:
    split = (dataset.task, dataset.split)
    return describe(dataset.imports, [split]).splits[split]


_answers: dict[tuple[tuple[str, ...], str], registered.Registered] = {}  # by files, their content


def describe(
    files: Iterable[str], tasks: Iterable[tuple[str, str]] = (), mixtures: Iterable[str] = ()
) -> registered.Registered:
    """Describes these (task, split) pairs and mixtures of `files`, and the mixtures' tasks.

    Raises:
      ValueError: a file is missing or fails (with its line), or does not register one of them.
    """
    files = tuple(files)
    if not files and not _runs_here():
        raise ValueError(
            f"{', '.join([name for name, _ in tasks] + [*mixtures])}: seqio Tasks and Mixtures "
            "are registered by a Python file of yours; name it in data.imports, or with --import"
        )
    mark = files, registered.content(files)
    before = _answers.get(mark, registered.Registered())
    tasks = [task for task in tasks if task not in before.splits]
    mixtures = [name for name in mixtures if name not in before.rates]
    if tasks or mixtures or mark not in _answers:
        if _runs_here():
            new = _answer(files, tasks, mixtures)
        else:
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
                new = pool.submit(_answer, files, tasks, mixtures).result()
        splits, rates = before.splits | new.splits, before.rates | new.rates
        _answers[mark] = registered.Registered(splits, rates)
    return _answers[mark]


def _runs_here() -> bool:
    """Returns whether to run files in this process: it has TensorFlow already, or is a worker."""
    in_worker = multiprocessing.parent_process() is not None
    return in_worker or "lrl_jax.data.seqio.libraries" in sys.modules


def _answer(
    files: tuple[str, ...], tasks: list[tuple[str, str]], mixtures: list[str]
) -> registered.Registered:
    from lrl_jax.data.seqio import user_tasks

    return user_tasks.describe(files, tasks, mixtures)
