"""The Python files a recipe imports: which seqio Tasks and Mixtures they register, and of what.

    recipe = resolved(recipe)              # seqio mixtures become datasets and weights
    shards(recipe.data.datasets["mine"])   # of a Task's source

The files are run as programs are, in a process of their own, so that this one stays free of
TensorFlow; `user_tasks` is what runs them there.
"""

from collections.abc import Iterable
import concurrent.futures
import multiprocessing
import re
import sys

from lrl_jax import text
from lrl_jax.data.read.files import Span
from lrl_jax.data.seqio import registered
from lrl_jax.recipe import data as recipe_data
from lrl_jax.recipe.schema import Recipe

MOST_SHARDS = (
    256  # shards of a source beyond are gathered, so that a dataset is not a crowd of files
)


# ---------------------------------------------------------------------------- a recipe
def resolved(recipe: Recipe) -> Recipe:
    """The recipe with the tasks of its seqio mixtures as datasets, their rates as weights.

    Raises:
      ValueError: a file that fails, a task, split or mixture it does not register.
    """
    data = recipe.data
    mixtures = {name: one for name, one in data.mixtures.items() if one.seqio}
    tasks = [one for one in data.datasets.values() if isinstance(one, recipe_data.Task)]
    for files in {task.imports for task in tasks} - {data.imports}:
        describe(files, [(one.task, one.split) for one in tasks if one.imports == files])
    mine = [(one.task, one.split) for one in tasks if one.imports == data.imports]
    if not (data.imports or mine or mixtures):
        return recipe
    known = describe(data.imports, mine, [one.seqio for one in mixtures.values()])
    if not mixtures:
        return recipe
    tree = recipe.model_dump(mode="json")
    for name, mixture in mixtures.items():
        of = {}
        for task, rate in known.rates[mixture.seqio].items():
            dataset = _dataset(tree["data"], task, mixture, name)
            of[dataset] = rate
        tree["data"]["mixtures"][name] |= {"of": of, "seqio": ""}
    return Recipe.model_validate(tree)


def _dataset(tree: dict, task: str, mixture: recipe_data.Mixture, where: str) -> str:
    """The name of the dataset that is this task's train split; added where there is none."""
    for name, one in tree["datasets"].items():
        if one["kind"] == "task" and (one["task"], one["split"]) == (task, "train"):
            return name
    name = re.sub(r"[^A-Za-z0-9._-]", "-", task).lstrip("._-")
    if not name or name in tree["datasets"] or name in tree["mixtures"]:
        raise ValueError(
            f"data.mixtures.{where}: its task {task!r} would become the dataset {name!r}, a name "
            "that is taken; give it yours: data.datasets: {NAME: {kind: task, task: "
            f"{task}, language: ...}}}}"
        )
    one = {"kind": "task", "task": task, "language": mixture.language}
    tree["datasets"][name] = one | {"imports": tree["imports"], "split": "train"}
    return name


# ---------------------------------------------------------------------------- a dataset
def shards(dataset: recipe_data.Task) -> list[tuple[Span, ...]]:
    """One shard for each of the source: Span(name, i, n) is the i-th of n."""
    count = min(_split(dataset).shards, MOST_SHARDS)
    return [(Span(f"task:{dataset.task}", i, count),) for i in range(count)]


def uris(dataset: recipe_data.Task) -> tuple[str, ...]:
    """Every file the records of a Task depend on: Python, and what its source reads."""
    found = _split(dataset)
    return (*_modules(dataset), *found.files)


def fingerprints(dataset: recipe_data.Task) -> list[list[str]]:
    """What the text of each shard depends on: a digest per file.

    A source that is a function has no files: what it reads beside its own text is not seen here.
    """
    files = _split(dataset).files
    code = [text.fingerprint(path) for path in _modules(dataset)]
    count = len(shards(dataset))
    return [code + [text.fingerprint(path) for path in files[i::count]] for i in range(count)]


def _split(dataset: recipe_data.Task) -> registered.Split:
    asked = (dataset.task, dataset.split)
    return describe(dataset.imports, [asked]).splits[asked]


def _modules(dataset: recipe_data.Task) -> tuple[str, ...]:
    return describe(dataset.imports, [(dataset.task, dataset.split)]).modules


# ---------------------------------------------------------------------------- asking
_known: dict[tuple[tuple[str, ...], str], registered.Registered] = {}  # by files and their content


def describe(
    files: Iterable[str],
    tasks: Iterable[tuple[str, str]] = (),
    mixtures: Iterable[str] = (),
) -> registered.Registered:
    """What `files` register of these (task, split) pairs and mixtures, and the mixtures' tasks.

    Raises:
      ValueError: a file is missing or fails (with its line), or does not register one of them.
    """
    files = tuple(files)
    if not files and not _at_home():
        raise ValueError(
            f"{', '.join([name for name, _ in tasks] + [*mixtures])}: seqio Tasks and Mixtures "
            "are registered by a Python file of yours; name it in data.imports, or with --import"
        )
    mark = files, registered.content(files)
    have = _known.get(mark, registered.Registered({}, {}, ()))
    tasks = [asked for asked in tasks if asked not in have.splits]
    mixtures = [name for name in mixtures if name not in have.rates]
    if tasks or mixtures or mark not in _known:
        new = _ask(files, tasks, mixtures)
        _known[mark] = registered.Registered(
            have.splits | new.splits, have.rates | new.rates, new.modules
        )
    return _known[mark]


def _ask(
    files: tuple[str, ...], tasks: list[tuple[str, str]], mixtures: list[str]
) -> registered.Registered:
    if _at_home():
        return _answer(files, tasks, mixtures)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_answer, files, tasks, mixtures).result()


def _at_home() -> bool:
    """Whether this process has TensorFlow already, or is a worker, which may."""
    return (
        "lrl_jax.data.seqio.libraries" in sys.modules
        or multiprocessing.parent_process() is not None
    )


def _answer(
    files: tuple[str, ...], tasks: list[tuple[str, str]], mixtures: list[str]
) -> registered.Registered:
    from lrl_jax.data.seqio import user_tasks

    return user_tasks.describe(files, tasks, mixtures)
