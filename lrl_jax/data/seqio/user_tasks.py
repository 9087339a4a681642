"""The seqio Tasks and Mixtures of a user's own files: run, described, read as text.

    load(["my_tasks.py"])
    for record in read(recipe_data.Task(kind="task", task="mine", ...), shard): ...

A Task is text up to where it tokenises; from there on it is a dataset like any other: its
tokenizer is the run's, its end is put on by us, and nothing is cut off. `imports` asks from
processes that have no TensorFlow.
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
      ValueError: a file that is missing or fails, with the line; or that changed since.
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
    """What `imports.describe` answers, from this process."""
    load(files)
    splits = {(name, split): _split(_task(name, files), split) for name, split in tasks}
    rates = {name: _rates(name, files) for name in mixtures}
    for task in {task for members in rates.values() for task in members}:
        splits[task, "train"] = _split(_task(task, files), "train")
    return registered.Registered(splits, rates, _modules(files))


def read(dataset: recipe_data.Task, shard: Sequence[Any]) -> Iterator[dict[str, str] | Bad]:
    """Yields {inputs, targets} of a shard of `imports.shards`: a user's Task as text.

    Raises:
      ValueError: the Task is not registered, gives no text, or fails.
    """
    load(dataset.imports)
    task = _task(dataset.task, dataset.imports)
    for span in shard:
        where = f"task {task.name!r} ({dataset.split}, shard {span.start + 1} of {span.end})"
        info = seqio.ShardInfo(span.start, span.end) if span.end > 1 else None
        tf.random.set_seed(0)  # a Task that draws is packed as it draws now
        try:
            source = task.source.get_dataset(split=dataset.split, shuffle=False, shard_info=info)
            found, names = _as_text(task, source)
            yield from _records(found, names, task, where)
        except (tf.errors.OpError, NotImplementedError) as e:
            raise DataError(f"{where}: {_short(e)}") from e


# ---------------------------------------------------------------------------- where text ends
TOKENISE = (
    seqio.preprocessors.tokenize,
    seqio.preprocessors.tokenize_and_append_eos,
)


def _as_text(task: seqio.Task, dataset: tf.data.Dataset) -> tuple[tf.data.Dataset, tuple[str, ...]]:
    """A Task up to where it tokenises, and which of its features are text (or ids of ours)."""
    boundary = None
    with seqio.utils.map_seed_manager(0):
        for step in task.preprocessors:
            bare = step.func if isinstance(step, functools.partial) else step
            if bare in TOKENISE:
                break
            if isinstance(step, seqio.CacheDatasetPlaceholder):
                boundary = dataset
            else:
                before, dataset = dataset, _step(task, step, dataset)
                if _strings(before) and not _strings(dataset):
                    if boundary is None or not _strings(boundary):
                        raise ValueError(
                            f"task {task.name!r}: {seqio.utils.function_name(step)} makes ids of "
                            "its text, or takes it away, and it is not known how; put "
                            "seqio.CacheDatasetPlaceholder() before it, or tokenise with "
                            "seqio.preprocessors.tokenize"
                        )
                    dataset = boundary
                    break
    if names := _strings(dataset):
        return dataset, names
    return dataset, _ids(task, dataset)


def _step(task: seqio.Task, step: Any, dataset: tf.data.Dataset) -> tf.data.Dataset:
    known = {"sequence_length": None, "output_features": task.output_features}
    try:
        return seqio.utils.add_kwargs_to_transform(step, **known)(dataset)
    except Exception as e:  # whatever a user's code may raise
        name = seqio.utils.function_name(step)
        raise ValueError(f"task {task.name!r}: {name} fails: {_told(e)}") from e


def _strings(dataset: tf.data.Dataset) -> tuple[str, ...]:
    """Which of its features are the text of a document: inputs and targets, targets, or text."""
    spec = dataset.element_spec
    have = [
        name
        for name in ("inputs", "targets", "text")
        if isinstance(spec, dict)
        and name in spec
        and (spec[name].dtype, spec[name].shape.rank) == (tf.string, 0)
    ]
    if "targets" in have:
        return tuple(name for name in have if name != "text")
    return ("text",) if "text" in have else ()


def _ids(task: seqio.Task, dataset: tf.data.Dataset) -> tuple[str, ...]:
    """The features that are ids of one of our vocabularies; an error if there are none."""
    spec = dataset.element_spec if isinstance(dataset.element_spec, dict) else {}
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
            "are taken only of lrl_jax.data.seqio.vocabulary.Vocabulary, and made their text again"
        )
    return names


def _records(
    dataset: tf.data.Dataset, names: tuple[str, ...], task: seqio.Task, where: str
) -> Iterator[dict[str, str] | Bad]:
    dataset = dataset.map(lambda example: {name: example[name] for name in names})
    options = tf.data.Options()
    options.threading.private_threadpool_size = 2  # it may be read inside of another one
    dataset = dataset.ragged_batch(BLOCK).with_options(options)
    count = 0
    for block in dataset:
        columns = (_values(block[name]) for name in names)
        for row in zip(*columns, strict=True):
            count += 1
            yield _record(dict(zip(names, row, strict=True)), task, f"{where}: record {count}")


def _values(column: Any) -> list:
    return column.to_list() if hasattr(column, "to_list") else column.numpy().tolist()


def _record(row: dict[str, Any], task: seqio.Task, where: str) -> dict[str, str] | Bad:
    record = {"inputs": ""}
    for name, value in row.items():
        try:
            text = _text(value, task.output_features.get(name))
        except ValueError as e:
            return Bad(where, f"{name}: {e}")
        record["targets" if name == "text" else name] = text
    return record


def _text(value: Any, feature: Any) -> str:
    """Strings as they are; ids as the text whose ids they are."""
    if isinstance(value, bytes):
        text = value.decode()
        if "\0" in text:
            raise ValueError("holds a NUL")
        return text
    tokenizer = feature.vocabulary.tokenizer
    ids = value[:-1] if value and value[-1] == tokenizer.eos_id else value
    text = tokenizer.decode(ids)
    if tokenizer.encode(text) != ids:
        raise ValueError("its ids are not those its tokenizer makes of their text")
    return text


# ---------------------------------------------------------------------------- registered names
def _task(name: str, files: Iterable[str]) -> seqio.Task:
    if name not in seqio.TaskRegistry.names():
        raise ValueError(_unknown("Task", name, seqio.TaskRegistry.names(), files))
    return seqio.TaskRegistry.get(name)


def _rates(name: str, files: Iterable[str]) -> dict[str, float]:
    if name not in seqio.MixtureRegistry.names():
        raise ValueError(_unknown("Mixture", name, seqio.MixtureRegistry.names(), files))
    mixture = seqio.MixtureRegistry.get(name)
    try:
        return {task.name: float(mixture.get_rate(task)) for task in mixture.tasks}
    except Exception as e:  # rates may be functions of the user's
        raise ValueError(f"the rates of the seqio Mixture {name!r} fail: {_told(e)}") from e


def _unknown(kind: str, name: str, known: Iterable[str], files: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3) or known[:6]
    have = f"nearest are {', '.join(near)}" if near else "none is registered"
    where = ", ".join(map(str, files)) or "no file is in data.imports"
    return f"no seqio {kind} {name!r} ({where}); {have}"


def _split(task: seqio.Task, split: str) -> registered.Split:
    if split not in task.splits:
        raise ValueError(
            f"the seqio Task {task.name!r} has no split {split!r}; it has {', '.join(task.splits)}"
        )
    try:
        shards = [str(shard) for shard in task.source.list_shards(split)]
    except Exception as e:  # whatever lists files
        raise DataError(f"the source of the seqio Task {task.name!r}: {_told(e)}") from e
    if not shards:
        raise DataError(f"the source of the seqio Task {task.name!r}: no file for {split!r}")
    are_files = isinstance(task.source, seqio.FileDataSource | seqio.TfdsDataSource)
    return registered.Split(len(shards), tuple(shards) if are_files else ())


# ---------------------------------------------------------------------------- running a file
# A line of a user's function that became a graph, as TensorFlow tells it in an error's message.
GRAPH_FRAME = re.compile(r'File "([^"]+)", line (\d+), in .*\n\s*(.*)')


def _run(path: Path) -> None:
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as of a program: it may import what lies beside it
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
        raise ValueError(f"{path}: {_told(e, path)}{_moved(e)}") from e


def _moved(e: BaseException) -> str:
    """Returns a line that says where what the file imports has gone, if it has."""
    hint = registered.moved(e)
    return f"\n    {hint}" if hint else ""


def _told(e: BaseException, path: Path | None = None) -> str:
    """An error in a user's code: what it is, and the line."""
    what = f"{type(e).__name__}: {_short(e).removeprefix(f'{type(e).__name__}: ')}"
    if isinstance(e, SyntaxError):
        return f"line {e.lineno}: {what}\n    {(e.text or '').strip()}"
    frames = [(f.filename, f.lineno, f.line) for f in traceback.extract_tb(e.__traceback__)]
    frames += re.findall(GRAPH_FRAME, str(e))
    own = [f for f in frames if path and Path(f[0]).resolve() == path.resolve()]
    theirs = [f for f in frames if not re.search(r"site-packages|<|__autograph|/lrl_jax/", f[0])]
    if not (own or theirs):
        return what
    file, line, code = (own or theirs)[-1]
    return f"{file}:{line}: {what}\n    {code}"


def _short(e: BaseException) -> str:
    """The line of an error that says why; one that TensorFlow made of a graph has it last."""
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    if not lines:
        return type(e).__name__
    return lines[-1] if lines[0] == "in user code:" else lines[0]


def _modules(files: Iterable[str]) -> tuple[str, ...]:
    """The files, and what they imported from beside them."""
    beside = set()
    for file in files:
        folder = Path(file).resolve().parent
        for name in _loaded[file][1]:
            origin = getattr(sys.modules.get(name), "__file__", None)
            ours = name.startswith("lrl_jax") or "site-packages" in (origin or "")
            if origin and not ours and Path(origin).resolve().is_relative_to(folder):
                beside.add(str(Path(origin).resolve()))
    own = {str(Path(file).resolve()) for file in files}
    return (*files, *sorted(beside - own))
