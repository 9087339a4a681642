"""Runs a user's own files, describes the seqio Tasks they register, and reads these as text.

    load(["my_tasks.py"])
    for record in read(recipe_data.Task(kind="task", task="mine", ...), shard): ...

A Task's preprocessors are applied up to the one that tokenises. From there on its text is a dataset
like any other: we tokenise it with the run's tokenizer, append eos, and cut nothing off. `imports`
asks this module from processes that have no TensorFlow.
"""

from collections.abc import Iterable, Iterator, Sequence
import difflib
import functools
import importlib.util
from pathlib import Path
import re
import sys
import traceback
from typing import Any

from lrl_jax.data.seqio import registered
from lrl_jax.data.seqio.libraries import seqio, tf
from lrl_jax.data.seqio.vocabulary import BLOCK, Vocabulary
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import Bad, DataError

_loaded: dict[str, tuple[str, set[str]]] = {}  # file -> digest, names of modules it brought in


def load(files: Iterable[str]) -> None:
    """Runs files that register Tasks and Mixtures, each once in a process.

    Raises:
      ValueError: a file that is missing, fails (with the line), or changed since it was run.
    """
    for file in map(str, files):
        digest = registered.content([file])
        if file not in _loaded:
            before = set(sys.modules)
            _run(Path(file))
            _loaded[file] = digest, set(sys.modules) - before
        elif _loaded[file][0] != digest:
            raise ValueError(f"{file}: changed since this process ran it; start again")


def describe(
    files: tuple[str, ...], tasks: Iterable[tuple[str, str]], mixtures: Iterable[str]
) -> registered.Registered:
    """Returns what `imports.describe` answers, from within this process."""
    load(files)
    rates = {name: _rates(name, files) for name in mixtures}
    tasks = [*tasks, *((task, "train") for members in rates.values() for task in members)]
    modules = _modules(files)
    splits = {(name, split): _split(_task(name, files), split, modules) for name, split in tasks}
    return registered.Registered(splits, rates)


def read(dataset: recipe_data.Task, shard: Sequence[Any]) -> Iterator[dict[str, str] | Bad]:
    """Yields the records {inputs, targets} of a user's Task, of a shard of `imports.shards`.

    Raises:
      ValueError: the Task is not registered, gives no text, or fails.
    """
    load(dataset.imports)
    task = _task(dataset.task, dataset.imports)
    for span in shard:
        where = f"task {task.name!r} ({dataset.split}, shard {span.start + 1} of {span.end})"
        info = seqio.ShardInfo(span.start, span.end) if span.end > 1 else None
        tf.random.set_seed(0)  # so that a Task that draws at random always gives the same
        try:
            source = task.source.get_dataset(split=dataset.split, shuffle=False, shard_info=info)
            texts, names = _as_text(task, source)
            yield from _records(texts, names, task, where)
        except (tf.errors.OpError, NotImplementedError) as e:
            raise DataError(f"{where}: {_short(e)}") from e


# ---------------------------------------------------------------------------- where text ends
TOKENISE = (seqio.preprocessors.tokenize, seqio.preprocessors.tokenize_and_append_eos)


def _as_text(task: seqio.Task, dataset: tf.data.Dataset) -> tuple[tf.data.Dataset, tuple[str, ...]]:
    """Returns a Task's examples before it tokenises, and which features are text (or our ids)."""
    boundary = None
    with seqio.utils.map_seed_manager(0):
        for step in task.preprocessors:
            function = step.func if isinstance(step, functools.partial) else step
            if function in TOKENISE:
                break
            if isinstance(step, seqio.CacheDatasetPlaceholder):
                boundary = dataset
                continue
            before, dataset = dataset, _step(task, step, dataset)
            if _strings(before) and not _strings(dataset):
                if boundary is None or not _strings(boundary):
                    raise ValueError(
                        f"task {task.name!r}: {seqio.utils.function_name(step)} makes ids of the "
                        "text, or removes it, in a way we cannot follow; put "
                        "seqio.CacheDatasetPlaceholder() before it, or tokenise with "
                        "seqio.preprocessors.tokenize"
                    )
                dataset = boundary
                break
    return dataset, _strings(dataset) or _ids(task, dataset)


def _step(task: seqio.Task, step: Any, dataset: tf.data.Dataset) -> tf.data.Dataset:
    arguments = {"sequence_length": None, "output_features": task.output_features}
    try:
        return seqio.utils.add_kwargs_to_transform(step, **arguments)(dataset)
    except Exception as e:  # whatever a user's code may raise
        name = seqio.utils.function_name(step)
        raise ValueError(f"task {task.name!r}: {name} fails: {_with_line(e)}") from e


def _spec(dataset: tf.data.Dataset) -> dict[str, Any]:
    return dataset.element_spec if isinstance(dataset.element_spec, dict) else {}


def _strings(dataset: tf.data.Dataset) -> tuple[str, ...]:
    """Returns the features that are text: inputs and targets, or targets, or text, or none."""
    spec = _spec(dataset)
    names = [
        name
        for name in ("inputs", "targets", "text")
        if name in spec and (spec[name].dtype, spec[name].shape.rank) == (tf.string, 0)
    ]
    if "targets" in names:
        return tuple(name for name in names if name != "text")
    return ("text",) if "text" in names else ()


def _ids(task: seqio.Task, dataset: tf.data.Dataset) -> tuple[str, ...]:
    """Returns the features of a Task, which must be ids of our vocabularies."""
    spec = _spec(dataset)
    names = tuple(name for name in ("inputs", "targets") if name in spec)
    ours = [
        name in task.output_features
        and isinstance(task.output_features[name].vocabulary, Vocabulary)
        and spec[name].dtype.is_integer
        for name in names
    ]
    if "targets" not in names or not all(ours):
        raise ValueError(
            f"task {task.name!r} gives {', '.join(map(str, spec)) or 'nothing with a name'} where "
            "it ends; want strings `targets` (and `inputs`), or `text`, before it tokenises. Ids "
            "must be of lrl_jax.data.seqio.vocabulary.Vocabulary, which can decode them to text"
        )
    return names


def _records(
    dataset: tf.data.Dataset, names: tuple[str, ...], task: seqio.Task, where: str
) -> Iterator[dict[str, str] | Bad]:
    """Yields the records of a Task's examples, which are read in blocks for speed."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = 2  # another dataset may read this one
    dataset = dataset.map(lambda example: {name: example[name] for name in names})
    blocks = dataset.ragged_batch(BLOCK).with_options(options)
    columns = ([_values(block[name]) for name in names] for block in blocks)
    rows = (row for block in columns for row in zip(*block, strict=True))
    for number, row in enumerate(rows, start=1):
        yield _record(zip(names, row, strict=True), task, f"{where}: record {number}")


def _values(column: Any) -> list:
    return column.to_list() if hasattr(column, "to_list") else column.numpy().tolist()


def _record(row: Iterable, task: seqio.Task, where: str) -> dict[str, str] | Bad:
    record = {"inputs": ""}
    for name, value in row:
        try:
            text = _text(value, task.output_features.get(name))
        except ValueError as e:
            return Bad(where, f"{name}: {e}")
        record["targets" if name == "text" else name] = text
    return record


def _text(value: Any, feature: Any) -> str:
    if isinstance(value, bytes):
        text = value.decode()
        if "\0" in text:
            raise ValueError("holds a NUL")
        return text
    tokenizer = feature.vocabulary.tokenizer
    ids = value[:-1] if value and value[-1] == tokenizer.eos_id else value
    text = tokenizer.decode(ids)
    if tokenizer.encode(text) != ids:
        raise ValueError("these ids are not those that the tokenizer makes of their text")
    return text


# ---------------------------------------------------------------------------- registered names
def _task(name: str, files: Iterable[str]) -> seqio.Task:
    return _get(seqio.TaskRegistry, "Task", name, files)


def _rates(name: str, files: Iterable[str]) -> dict[str, float]:
    mixture = _get(seqio.MixtureRegistry, "Mixture", name, files)
    try:
        return {task.name: float(mixture.get_rate(task)) for task in mixture.tasks}
    except Exception as e:  # rates may be functions of the user's
        raise ValueError(f"the rates of the seqio Mixture {name!r} fail: {_with_line(e)}") from e


def _get(registry: Any, kind: str, name: str, files: Iterable[str]) -> Any:
    names = sorted(registry.names())
    if name in names:
        return registry.get(name)
    near = difflib.get_close_matches(name, names, n=3) or names[:6]
    hint = f"nearest are {', '.join(near)}" if near else "none is registered"
    where = ", ".join(map(str, files)) or "no file is in data.imports"
    raise ValueError(f"no seqio {kind} {name!r} ({where}); {hint}")


def _split(task: seqio.Task, split: str, modules: tuple[str, ...]) -> registered.Split:
    if split not in task.splits:
        raise ValueError(
            f"the seqio Task {task.name!r} has no split {split!r}; it has {', '.join(task.splits)}"
        )
    try:
        shards = [str(shard) for shard in task.source.list_shards(split)]
    except Exception as e:  # whatever the source raises when it lists its files
        raise DataError(f"the source of the seqio Task {task.name!r}: {_with_line(e)}") from e
    if not shards:
        raise DataError(f"the source of the seqio Task {task.name!r}: no file for {split!r}")
    are_files = isinstance(task.source, seqio.FileDataSource | seqio.TfdsDataSource)
    return registered.Split(len(shards), tuple(shards) if are_files else (), modules)


# ---------------------------------------------------------------------------- running a file
# Modules that users' files import by the names they had, and where they are now.
MOVED = {
    "lrl_jax.data.sources": "lrl_jax.data.seqio.vocabulary",
    "lrl_jax.data.tasks": "lrl_jax.data.seqio.registry",
    "lrl_jax.data.imports": "lrl_jax.data.seqio.imports",
    "lrl_jax.data.user_tasks": "lrl_jax.data.seqio.user_tasks",
    "lrl_jax.data.online": "lrl_jax.data.seqio.online",
    "lrl_jax.data.records": "lrl_jax.data.dataset",
}
UNNAMED = re.compile("cannot import name '([^']+)'")
# A line of a user's function that became a graph, as TensorFlow's error messages show it.
GRAPH_FRAME = re.compile(r'File "([^"]+)", line (\d+), in .*\n\s*(.*)')


def _run(path: Path) -> None:
    """Runs a Python file as a module, which may import the files beside it."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = path.stem if path.stem not in sys.modules else f"lrl_import_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: want a Python file, *.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as e:
        del sys.modules[name]
        raise ValueError(f"{path}: {_with_line(e, path)}{_moved(e)}") from e


def _moved(e: BaseException) -> str:
    """Returns a hint, on a line of its own, if a file imports a module of ours that has moved."""
    name = getattr(e, "name", "")  # of the module, where an import failed
    if unnamed := UNNAMED.match(str(e)):  # from lrl_jax.data import sources
        name = f"{name}.{unnamed[1]}"
    return f"\n    {name} has moved; import {MOVED[name]}" if name in MOVED else ""


def _with_line(e: BaseException, path: Path | None = None) -> str:
    """Returns the message of an error in a user's code, with its line: of `path`, if it has one."""
    what = f"{type(e).__name__}: {_short(e).removeprefix(f'{type(e).__name__}: ')}"
    if isinstance(e, SyntaxError):
        return f"line {e.lineno}: {what}\n    {(e.text or '').strip()}"
    frames = [(f.filename, f.lineno, f.line) for f in traceback.extract_tb(e.__traceback__)]
    frames += re.findall(GRAPH_FRAME, str(e))
    in_path = [f for f in frames if path and Path(f[0]).resolve() == path.resolve()]
    users = [f for f in frames if not re.search(r"site-packages|<|__autograph|/lrl_jax/", f[0])]
    if not (in_path or users):
        return what
    file, line, code = (in_path or users)[-1]
    return f"{file}:{line}: {what}\n    {code}"


def _short(e: BaseException) -> str:
    """Returns the line of an error that says why: the first, or the last if a graph raised it."""
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    if not lines:
        return type(e).__name__
    return lines[-1] if lines[0] == "in user code:" else lines[0]


def _modules(files: Iterable[str]) -> tuple[str, ...]:
    """Returns the files, and those in their folders that they imported."""
    beside = set()
    for file in files:
        folder = Path(file).resolve().parent
        for name in _loaded[file][1]:
            origin = getattr(sys.modules.get(name), "__file__", None)
            installed = name.startswith("lrl_jax") or "site-packages" in (origin or "")
            if origin and not installed and Path(origin).resolve().is_relative_to(folder):
                beside.add(str(Path(origin).resolve()))
    given = {str(Path(file).resolve()) for file in files}
    return (*files, *sorted(beside - given))
