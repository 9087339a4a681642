"""Measures models for Python code, by tasks or by a recipe."""

from collections.abc import Sequence
import contextlib
import dataclasses
import os

from etils import epath

from lrl_jax import storage
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import kinds
from lrl_jax.evaluate import tasks as task_results
from lrl_jax.pipeline import benchmark, models
from lrl_jax.pipeline import evaluate as evaluate_step
from lrl_jax.pipeline.api import loading
from lrl_jax.pipeline.api.model import Model
from lrl_jax.pipeline.api.recipes import load_recipe
from lrl_jax.pipeline.api.results import EvaluationResults
from lrl_jax.pipeline.api.runs import skipped, team
from lrl_jax.pipeline.api.session import interruptible
from lrl_jax.pipeline.console import progress, say
from lrl_jax.pipeline.perform import perform
from lrl_jax.pipeline.run import Run, locked
from lrl_jax.recipe.schema import Recipe

Named = str | os.PathLike


def evaluate(
    model: Model | Recipe | Named,
    recipe: Recipe | Named | None = None,
    *,
    tasks: str | Sequence[str] = (),
    only: str | Sequence[str] = (),
    data: Named = "",
    shots: int | None = None,
    limit: int = 0,
    skip_bad: bool = False,
    batch_size: int = 8,
    imports: Sequence[str] = (),
    out: Named = "",
) -> EvaluationResults:
    """Measures a model: on tasks, by a recipe's section `evaluate`, or a whole run.

        lrl.evaluate("runs/first_steps")                        # the step: before and after
        lrl.evaluate(model, "recipe.yaml")                      # a model, by that section
        lrl.evaluate(model, tasks=["in_context_copy"], limit=4) # benchmark tasks

    A run, or a recipe alone, is what `lrl evaluate RECIPE` does: the step is done if it is due, and
    its results are returned. Tasks are what `lrl evaluate --model MODEL --tasks TASKS` does. A
    model by a recipe is measured as the step measures it, with the recipe's row length, and nothing
    is written.

    Args:
      model: one that is loaded, or a place of which `lrl.load` loads one; or a recipe.
      recipe: or the file or the name of one; its section `evaluate` says what is measured.
      tasks: names of tasks or groups, which `lrl evaluate --list` prints, or task files.
      only: of a recipe: entries that are measured, by their names; all of them by default.
      data: of tasks: the folder below which local copies of their documents are.
      shots, limit: of tasks: examples in each prompt, and how many questions are asked; 0: all.
      skip_bad: of tasks: whether documents that cannot be used are left out.
      batch_size: of tasks: rows that are computed at a time.
      imports: of tasks: Python files that a task file of lm-evaluation-harness may run.
      out: of tasks: a folder for results.json and finished items, which are not scored again.

    Raises:
      ValueError: neither tasks nor a recipe for a loaded model, both of them, no such task or
        entry, documents that cannot be used, or a run that is not trained yet.
    """
    names, entries = _names(tasks), _names(only)
    if names and (recipe is not None or isinstance(model, Recipe)):
        raise ValueError("tasks: a recipe has its own under evaluate; name tasks or a recipe")
    if not names:
        _refuse_of_tasks(data=data, shots=shots, limit=limit, skip_bad=skip_bad, out=out)
    if isinstance(model, Recipe) or not (names or recipe is not None or isinstance(model, Model)):
        return _step(model, entries)
    if recipe is not None:
        settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        return _by_recipe(model, benchmark.chosen(settings, entries) if entries else settings)
    if not names:
        raise ValueError(
            "evaluate: name the tasks of a model, tasks=['kobest'], or a recipe whose section "
            "`evaluate` says what is measured"
        )
    asked = benchmark.settings(
        names, data=os.fspath(data), shots=shots, limit=limit, skip_bad=skip_bad,
        batch_size=batch_size, imports=imports,
    )  # fmt: skip
    return _on_tasks(model, asked, imports, os.fspath(out))


def _names(given: str | Sequence[str]) -> list[str]:
    """Returns a list of names, or those of a text, which commas part as on the command line."""
    return [*filter(None, map(str.strip, given.split(",") if isinstance(given, str) else given))]


def _refuse_of_tasks(**given: object) -> None:
    """Raises ValueError where something is given that only tasks have, and would have no effect."""
    if odd := [name for name, value in given.items() if value not in (None, "", 0, [])]:
        raise ValueError(f"{', '.join(odd)}: of tasks=; a recipe says its own under evaluate")


def _loaded(model: Model | Named) -> Model:
    return model if isinstance(model, Model) else loading.load(model)


def _on_tasks(
    model: Model | Named, asked: benchmark.Evaluate, imports: Sequence[str], out: str
) -> EvaluationResults:
    storage.refuse_odd(out, writes=True)
    task_results.validate(asked, imports)  # before the model is read
    this = _loaded(model)
    with progress("evaluate") as tell:
        scores = benchmark.score(
            this.measured, asked, tell, place=this.place, out=out, imports=imports
        )
    for name, result in scores.items():
        for remark in task_results.circumstances(result):
            say(f"{name}: {remark}")
    return EvaluationResults({"tasks": scores, "facts": kinds.facts()})


def _by_recipe(model: Model | Named, recipe: Recipe) -> EvaluationResults:
    kinds.validate(recipe.evaluate)  # before the model is read
    this = _loaded(model)
    length = min(recipe.data.sequence_length, this.context or recipe.data.sequence_length)
    blocks = recipe.train.loss_blocks
    measured = dataclasses.replace(this.measured, length=length, loss_blocks=blocks)
    with progress("evaluate") as tell:
        return EvaluationResults(kinds.measure(recipe.evaluate, measured, tell))


def _step(model: Recipe | Named, only: Sequence[str]) -> EvaluationResults:
    """Does the step of a run if it is due; or looks at some of its entries, and writes nothing."""
    this = _run(model)
    with interruptible("evaluate"):
        meshes.start()
        group = team()
        with locked(this) if group.lead else contextlib.nullcontext():
            if only:
                looked = dataclasses.replace(this, recipe=benchmark.chosen(this.recipe, only))
                with progress("evaluate") as tell:
                    results = evaluate_step.look(looked, tell)
                return EvaluationResults(results.get("after", {}), results.get("before", {}))
            if not perform(this, "evaluate", evaluate_step.run, team=group) and group.lead:
                skipped(this, "evaluate")
    before, after = (evaluate_step.results(this, when) for when in ("before", "after"))
    return EvaluationResults(after, before)


def _run(given: Recipe | Named) -> Run:
    """Returns the run of a recipe, or that in a folder, which may have been moved."""
    if isinstance(given, Recipe):
        return Run(given)
    name = os.fspath(given).rstrip("/")
    folder = epath.Path(name)
    if not folder.is_dir():
        return Run(load_recipe(name))
    run = models.run_at(name)
    if run is None:
        raise ValueError(f"{name}: is no run; name the tasks of a model, such as tasks=['kobest']")
    update = {"folder": str(folder.parent), "name": folder.name}
    return dataclasses.replace(run, recipe=run.recipe.model_copy(update=update))
