"""Scores any model on benchmark tasks without a recipe, and chooses entries of a recipe's.

asked = settings(["kobest", "xcopa_ta"], data="../data", limit=50)
results = score(open_model("runs/tamil"), asked, tell, place="runs/tamil", out="scores")
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import kinds, task_files, tasks
from lrl_jax.evaluate.benchmark import items
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.evaluate.rows import Json
from lrl_jax.pipeline.console import Tell
from lrl_jax.pipeline.notes import MismatchError
from lrl_jax.recipe.evaluate import SHARED, Benchmark, Evaluate
from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.vocab import did_you_mean


# ---------------------------------------------------------------------------- any model
def settings(
    names: Sequence[str],
    *,
    data: str = "",
    shots: int | None = None,
    limit: int = 0,
    skip_bad: bool = False,
    batch_size: int = 8,
    imports: Sequence[str] = (),
) -> Evaluate:
    """Returns the section of a recipe that asks these tasks; groups are taken apart.

    Raises:
      ValueError: no task, no such file, or two tasks of one name.
    """
    entries: dict[str, Benchmark] = {}
    for name in names:
        for key, task in _keyed(name, imports).items():
            if key in entries and entries[key].task != task:
                raise ValueError(
                    f"tasks: {entries[key].task} and {task} are both called {key}, and results "
                    "are kept by name; change `task:` in one of them, or score it by itself"
                )
            entries[key] = Benchmark(task=task, shots=shots, limit=limit, skip_bad=skip_bad)
    if not entries:
        raise ValueError("--tasks: name tasks or groups, such as kobest,xcopa_ta; --list has them")
    return Evaluate(tasks=entries, task_data=data, batch_size=batch_size)


def score(
    model: MeasuredModel,
    asked: Evaluate,
    tell: Tell,
    *,
    place: str,
    out: str = "",
    imports: Sequence[str] = (),
) -> dict[str, Json]:
    """Returns the results of tasks by name; writes results.json and items into `out`, if given.

    Results of other tasks that are in `out` already stay there. Finished items are not scored
    again.

    Args:
      place: what results call the model.
      imports: Python files that a task file of lm-evaluation-harness may run.

    Raises:
      MismatchError: `out` holds results of another model.
    """
    folder = epath.Path(out)
    model = items.with_digest(
        dataclasses.replace(model, items=str(folder / "items") if out else "")
    )
    about = {"model": place, "dtype": model.cfg.dtype, "weights": model.digest}
    kept = _kept(folder, about) if out else {}
    results: dict[str, Any] = {}
    for name, entry in asked.tasks.items():
        watched = dataclasses.replace(model, tick=functools.partial(tell, name))
        results[name] = tasks.score(entry, watched, asked, imports)
        if out:
            _write(folder, about, {**kept, **tasks.flat({"tasks": results})})
    return tasks.flat({"tasks": results})


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
        raise MismatchError(f"{path}: is not of lrl evaluate; name another folder")
    # a folder can be given other weights, so that its name alone does not tell
    if differs := [key for key in ("weights", "dtype") if earlier.get(key) != about[key]]:
        raise MismatchError(
            f"{path}: holds results of {earlier.get('model')} ({earlier.get('dtype')}), whose "
            f"{' and '.join(differs)} are not those of {about['model']} ({about['dtype']}); "
            "name another folder"
        )
    return earlier["tasks"]


def _write(out: epath.Path, about: Mapping[str, Any], results: Mapping[str, Json]) -> None:
    """Writes what is measured so far."""
    if meshes.lead():
        out.mkdir(parents=True, exist_ok=True)
        whole = {**about, "facts": kinds.facts(), "tasks": results}
        storage.write_json(out / "results.json", whole)


# ---------------------------------------------------------------------------- of a recipe
def chosen(
    recipe: Recipe,
    only: Sequence[str],
    *,
    limit: int = 0,
    shots: int | None = None,
    skip_bad: bool = False,
) -> Recipe:
    """Returns the recipe with the entries of these names alone, or with all tasks for no names."""
    settings = recipe.evaluate
    names = {name for entries in settings.kinds().values() for name in entries}
    for name in only:
        if name not in names:
            raise ValueError(
                f"only: no entry {name!r} under evaluate{did_you_mean(name, names)}; "
                f"there are {', '.join(sorted(names)) or 'none'}"
            )
    kept: dict[str, Any] = {"baseline_text": {}}
    for kind, entries in settings.kinds().items():
        wanted = only or ([*entries] if kind == "tasks" else [])
        kept[kind] = {
            name: _limited(entry, limit, shots, skip_bad)
            for name, entry in entries.items()
            if name in wanted
        }
    if not any(kept.values()):
        raise ValueError("evaluate.tasks: the recipe has no task; name an entry with --only")
    if limit:
        kept["max_lines"] = min(limit, settings.max_lines)
    assert not {*kept} & {*SHARED} - {"baseline_text", "max_lines"}
    return recipe.model_copy(update={"evaluate": settings.model_copy(update=kept)})


def _limited(entry: Any, limit: int, shots: int | None, skip_bad: bool) -> Any:
    """Returns an entry with another limit, where it has one."""
    update: dict[str, Any] = {}
    if limit and hasattr(entry, "limit"):
        update["limit"] = min(limit, entry.limit or limit)
    if isinstance(entry, Benchmark):
        update |= {"skip_bad": entry.skip_bad or skip_bad}
        update |= {} if shots is None else {"shots": shots}
    return entry.model_copy(update=update) if update else entry
