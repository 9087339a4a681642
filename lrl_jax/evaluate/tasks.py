"""Measures the evaluation kind `tasks`: benchmark tasks, as `evaluate.task_files` describes them.

    evaluate:
      task_data: ../data
      tasks:
        xquad: xquad_hi                                   # a task that ships
        cooking: ./my_task.yaml
        few: {task: xcopa_ta, shots: 4, limit: 50}
        korean: kobest                                    # a group: all its tasks

A score stands beside what guessing would score and its 95 % interval. Before and after are compared
on the same questions: by McNemar's exact test where an answer is right or wrong, by paired
bootstrap where it has a score.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
import contextlib
import tempfile
from typing import Any

from etils import epath

from lrl_jax import text
from lrl_jax.data.read import catalogues
from lrl_jax.evaluate import harness, intervals, task_files
from lrl_jax.evaluate.benchmark import asking, documents, items, scores, zoo_results
from lrl_jax.evaluate.benchmark.asking import PreparedTask
from lrl_jax.evaluate.kinds import EvaluationKind, MeasuredModel, register
from lrl_jax.evaluate.rows import (
    ComparableScore,
    Json,
    ReportRow,
    fixed,
    number,
    pairs,
    recorded,
)
from lrl_jax.evaluate.task_files import UnknownTaskError
from lrl_jax.evaluate.zoo import files as harness_files
from lrl_jax.recipe.evaluate import Benchmark, Evaluate
from lrl_jax.text import DataError

SIGNIFICANT = 0.05  # p below which a change is called better or worse
COUNTED = {  # keys of a result that are shown where they are not 0
    "shots": "shots",
    "bad": "bad documents left out",
    "doubtful": "integer targets read as an index, though their digits are another choice",
    "cut": "prompts cut to fit the model",
    "cut_short": "answers cut at their longest",
    "right_in_another": "right in another script",
    "in_another": "answers in another script",
    "right_if_composed": "answers that would be right in Unicode's composed form",
}


# ---------------------------------------------------------------------------- measuring
def measure(entry: Benchmark, model: MeasuredModel, settings: Evaluate) -> dict[str, Any]:
    """Returns the result of a task; of a group {"group": task -> result}."""
    return score(entry, model, settings)


def score(
    entry: Benchmark, model: MeasuredModel, settings: Evaluate, imports: Sequence[str] = ()
) -> dict[str, Any]:
    """Measures an entry as `measure` does.

    Args:
      imports: Python files that a task file of lm-evaluation-harness may run.
    """
    if not model.digest:
        model = items.with_digest(model)
    name = next((name for name, each in settings.tasks.items() if each is entry), entry.task)
    try:
        prepared = prepare(entry, settings.task_data, imports)
    except UnknownTaskError as e:
        return _by_harness(entry, model, settings.batch_size, imports, str(e))
    if len(prepared) == 1:
        return asking.measure(prepared[0], model, settings.batch_size, name)
    return {
        "group": {
            each.task.name: asking.measure(
                each, model, settings.batch_size, f"{name}.{each.task.name}"
            )
            for each in prepared
        }
    }


def prepare(entry: Benchmark, data: str, imports: Sequence[str] = ()) -> list[PreparedTask]:
    """Returns the tasks of an entry, their documents read and checked; raises as `validate`.

    UnknownTaskError where lm-evaluation-harness is to run it.
    """
    if imports and task_files.is_file(entry.task):
        raise UnknownTaskError(f"{entry.task}: with code of yours, the harness runs it")
    tasks = task_files.resolve(entry.task)
    if entry.file and len(tasks) > 1:
        raise DataError(f"{entry.task}: is a group of {len(tasks)} tasks; a file is one task's")
    return [
        asking.prepare(
            task, data=data, file=entry.file, shots=entry.shots, limit=entry.limit,
            skip_bad=entry.skip_bad,
        )
        for task in tasks
    ]  # fmt: skip


def validate(settings: Evaluate, imports: Sequence[str] = ()) -> None:
    """Reads every document of every task, before anything is scored.

    Raises:
      DataError: documents cannot be used; file, row and what is wrong with each.
      ValueError: there is no such task, or a task file is wrong.
    """
    problems = []
    for entry in settings.tasks.values():
        try:
            check(entry, settings.task_data, imports)
        except DataError as e:
            problems.append(str(e))
    if problems:
        raise DataError("\n".join(problems))


def check(entry: Benchmark, data: str, imports: Sequence[str] = ()) -> None:
    """Reads and checks the documents of one entry; raises as `validate`."""
    try:
        prepare(entry, data, imports)
    except UnknownTaskError as e:
        _find_in_harness(entry.task, str(e))


def refuse_unknown(settings: Evaluate) -> None:
    """Raises ValueError, with the nearest name, for a task that is neither ours nor the harness's.

    Reads no documents.
    """
    for entry in settings.tasks.values():
        try:
            task_files.resolve(entry.task)
        except UnknownTaskError as e:
            _find_in_harness(entry.task, str(e))


def problems(settings: Evaluate, wanted: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields key and message of what is wrong with tasks whose files are not still `wanted`."""
    for name, entry in settings.tasks.items():
        if any(uri in wanted for uri in (settings.task_data, *entry.files())):
            continue
        try:
            check(entry, settings.task_data)
        except (ValueError, OSError) as e:
            yield f"evaluate.tasks.{name}", str(e)


# ---------------------------------------------------------------------------- the harness
def _find_in_harness(name: str, unknown: str) -> None:
    """Raises ValueError unless the harness is installed and has the task."""
    try:
        harness_files.folders([name])
    except ValueError as e:
        raise ValueError(f"{unknown}; {e}") from None


def _by_harness(
    entry: Benchmark, model: MeasuredModel, batch_size: int, imports: Sequence[str], unknown: str
) -> dict[str, Any]:
    """Returns what lm-evaluation-harness measures, in the form of our own results."""
    _find_in_harness(entry.task, unknown)
    with contextlib.ExitStack() as stack:
        folder = model.items or stack.enter_context(tempfile.TemporaryDirectory())
        out = epath.Path(folder) / "harness"
        scored = harness.run(
            model, [entry.task], out, entry.shots, entry.limit or None, imports, batch_size
        )
        results = {
            name: zoo_results.result_of(name, each, out / f"{name}.jsonl")
            for name, each in scored.items()
        }
    return next(iter(results.values())) if len(results) == 1 else {"group": results}


def contents(settings: Evaluate) -> dict[str, str]:
    """Returns what the tasks of a recipe are made of: a name -> a digest of its content."""
    made: dict[str, str] = {}
    for name, entry in settings.tasks.items():
        try:
            tasks = task_files.resolve(entry.task)
        except UnknownTaskError:  # the harness has its own
            made[f"task {name}"] = entry.task
            continue
        for task in tasks:
            made[f"task {name} {task.name}"] = task.fingerprint
            shots = task.settings.num_fewshot if entry.shots is None else entry.shots
            made |= _digests(documents.questions(task, settings.task_data, entry.file))
            if shots and not task.settings.fewshot_config.samples:
                made |= _digests(documents.examples(task, settings.task_data))
    return made


def _digests(source: documents.DocumentSource) -> dict[str, str]:
    if source.hub is not None:
        return {catalogues.name(source.hub): catalogues.fingerprint(source.hub)}
    return {place: text.digest(place) for place in source.places}


# ---------------------------------------------------------------------------- reporting
def rows(before: Json, after: Json) -> Iterator[ReportRow]:
    """Yields the scores of all tasks, metric by metric, each task's first metric before others."""
    results = [*pairs({"tasks": flat(before)}, {"tasks": flat(after)}, "tasks")]
    named = {name: metrics(new or old) for name, old, new in results}
    for place in range(max(map(len, named.values()), default=0)):
        of_place = [names[place] for names in named.values() if place < len(names)]
        for metric in dict.fromkeys(of_place):
            for name, old, new in results:
                if named[name][place : place + 1] == [metric]:
                    yield row(name, metric, old, new)


def comparable(results: Json) -> Iterator[ComparableScore]:
    """Yields every metric of every task, with its interval and the scores of its items."""
    for name, result in flat(results).items():
        for metric in metrics(result):
            value = number((result.get("scores") or {}).get(metric))
            if value is None:
                continue
            bounds = [*map(number, (result.get("intervals") or {}).get(metric) or ())]
            low, high = bounds if len(bounds) == 2 else (None, None)
            each = (result.get("each") or {}).get(metric)
            yield ComparableScore(
                f"{metric}, %", name, f"tasks.{metric}", value, fixed(value, 1),
                _asked(metric, result),
                bounds=(low, high) if low is not None and high is not None else None,
                each=each if isinstance(each, str) else "",
                notes=(*_chance(metric, result), f"{result.get('items')} items"),
            )  # fmt: skip


def _asked(metric: str, result: Json) -> dict[str, str]:
    """Returns what a score depends on beside the model; the prompt is known by the task's file."""
    conditions = {
        "task": recorded(result.get("task")),
        "version": recorded(result.get("version")),
        "questions": recorded(result.get("documents")),
        "shots": recorded(result.get("shots")),
        "program": recorded(result.get("by", "lrl_jax")),
    }
    signature = (result.get("signatures") or {}).get(metric)
    return conditions | ({"signature": str(signature)} if signature else {})


def flat(results: Json) -> dict[str, Json]:
    """Returns the results of tasks by name, those of a group by entry and task."""
    by_name: dict[str, Json] = {}
    for name, result in (results.get("tasks") or {}).items():
        group = result.get("group")
        if isinstance(group, Mapping):
            by_name |= {f"{name} {task}": each for task, each in group.items()}
        else:
            by_name[name] = result
    return by_name


def metrics(result: Json) -> list[str]:
    """Returns the metrics of a result, the task's first one first."""
    names = [*(result.get("scores") or {})]
    return sorted(names, key=lambda name: name != result.get("metric"))


def has_chance(metric: str) -> bool:
    """Tells whether what guessing scores is known for a metric."""
    return metric not in ("f1",)


def row(name: str, metric: str, old: Json, new: Json) -> ReportRow:
    """Returns the line of one metric of a task: before, after, and how sure the change is."""
    was, now = (number((each.get("scores") or {}).get(metric)) for each in (old, new))
    change = verdict = test = ""
    if was is not None and now is not None:
        change = f"{now - was:+.1f}"
        p, test = compared(metric, old, new)
        if p is not None and p < SIGNIFICANT and now != was:
            verdict = "better" if now > was else "worse"
    note = ", ".join([*_notes(metric, new or old), *([test] if test else [])])
    return ReportRow(
        f"{metric}, %", name, fixed(was, 1), fixed(now, 1), change, verdict, note, f"tasks.{metric}"
    )


def _notes(metric: str, result: Json) -> Iterator[str]:
    """Yields what a score has to be read with."""
    yield from _chance(metric, result)
    bounds = [*map(number, (result.get("intervals") or {}).get(metric) or ())]
    if len(bounds) == 2 and None not in bounds:
        yield f"95 % {fixed(bounds[0], 1)} to {fixed(bounds[1], 1)}"
    yield f"{result.get('items')} items"
    if by := result.get("by"):
        yield f"by {by}"
    if metric == result.get("metric"):
        yield from circumstances(result)


def _chance(metric: str, result: Json) -> Iterator[str]:
    chance = number(result.get("chance"))
    if chance is not None and has_chance(metric):
        yield f"chance {chance:.1f}"


def circumstances(result: Json) -> Iterator[str]:
    """Yields how a task was measured, and what was odd."""
    counts = {**(result.get("script") or {}), **result}
    for key, words in COUNTED.items():
        if count := counts.get(key):
            yield f"{count} {words}"
    if note := result.get("note"):
        yield str(note)
    if differs := result.get("differs"):
        yield f"differs from the paper: {differs}"


def compared(metric: str, old: Json, new: Json) -> tuple[float | None, str]:
    """Returns p of no change between two results of the same questions, and how it was tested."""
    if old.get("documents") != new.get("documents") or not new.get("documents"):
        return None, "not the same questions before and after, so not compared"
    each = [(result.get("each") or {}).get(metric) for result in (old, new)]
    if not all(isinstance(values, str) for values in each):
        return None, ""
    was, now = map(scores.expanded, map(str, each))
    if len(was) != len(now) or not was:
        return None, ""
    if {*was, *now} <= {0.0, 1.0}:
        test = intervals.mcnemar([x == 1 for x in was], [x == 1 for x in now])
        return test.p, f"{test.gained} gained, {test.lost} lost, p {_p(test.p)} (McNemar)"
    change = intervals.paired_bootstrap(was, now)
    return change.p, f"p {_p(change.p)} (paired bootstrap)"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}".rstrip("0").rstrip(".")


KIND = register(EvaluationKind("tasks", Benchmark, measure, rows, "Answers", scores=comparable))
