"""Gathers the scores of runs with all that they depend on, and tests how they differ.

measured(run)               every score, with the digests and settings it was measured with
tested(row, runs)           of each run after the first: change, 95 % interval, p
"""

from collections.abc import Iterator, Mapping, Sequence
import itertools
import json
from typing import Any

from lrl_jax.data.templates import table as templates
from lrl_jax.evaluate import kinds, tasks
from lrl_jax.evaluate.benchmark import paired, scores
from lrl_jax.evaluate.benchmark.items import Item, lines_of
from lrl_jax.evaluate.rows import ComparableScore
from lrl_jax.recipe import evaluate as recipe_evaluate
from lrl_jax.report.compare.comparable import (
    ComparedRow,
    Conditions,
    MeasuredScore,
    Ways,
)
from lrl_jax.report.compare.runs import ComparedRun, inside

MOST_TESTS = 200  # tests of whole texts, of up to a second each
CHAT = ("chat_template.jinja", "tokenizer_config.json")  # which may hold a chat template
UNSAID = ("language_names",)  # settings of an entry that name what others say already


# ---------------------------------------------------------------------------- conditions
def measured(runs: Sequence[ComparedRun]) -> dict[str, list[MeasuredScore]]:
    """Returns run -> its scores, each with its conditions."""
    tasks_of = {run.name: tasks.flat(run.scores) for run in runs}
    same_prompts = _same_prompts(runs, tasks_of)
    return {
        run.name: [
            MeasuredScore(score, conditions_of(run, kind, score, same_prompts))
            for kind, score in kinds.comparable_scores(run.scores)
        ]
        for run in runs
    }


def conditions_of(
    run: ComparedRun, kind: str, score: ComparableScore, same_prompts: Mapping[str, bool]
) -> Conditions:
    """Returns everything that a score of a run depends on beside the model."""
    conditions: dict[str, Ways] = {name: (value,) for name, value in score.conditions.items()}
    if score.by_token:
        conditions["vocabulary"] = run.vocabulary
    if kind == tasks.KIND.name:
        file = task_file(run, score.name)
        asked = "" if same_prompts.get(score.name) else paired.prompts(items(run, score.name))
        return conditions | {"prompt": (file, asked)}
    named = entry_conditions(run, kind, score.name)
    if any(conditions.get("lines", ())):
        named.pop("limit", None)  # how many lines there were says it more exactly
    return conditions | named


def entry_conditions(run: ComparedRun, kind: str, name: str) -> dict[str, Ways]:
    """Returns what the recipe says of an entry: its files by content, and its settings.

    Settings of a recipe that has changed since are not recorded.
    """
    files = _files(run, kind, name)
    text = json.dumps(sorted(files.items())) if files else ""
    conditions: dict[str, Ways] = {"test text": (text,)}
    entry = inside(run.pieces.settings, "evaluate", kind, name)
    if not entry:
        return conditions
    settings = _complete(kind, entry)
    named = {setting.partition(".")[0] for setting in files}
    for setting, value in settings.items():
        if setting not in named and setting not in UNSAID:
            conditions[setting] = (json.dumps(value) if run.said else "",)
    if settings.get("template") == templates.OWN:  # which each tokenizer writes for itself
        made = run.made("vocab")
        conditions["prompt"] = tuple(made.get(file, "") for file in CHAT)
    return conditions


def _files(run: ComparedRun, kind: str, name: str) -> dict[str, str]:
    """Returns the digests of an entry's files by the setting that names them, "" for a whole entry.

    Names may have dots, so a key belongs to the longest name that it begins with.
    """
    names = {name, *inside(run.scores, kind), *inside(run.pieces.settings, "evaluate", kind)}
    files = {}
    for place, digest in run.made_from("evaluate").items():
        below = place.removeprefix(f"evaluate.{kind}.")
        owners = [other for other in names if below == other or below.startswith(f"{other}.")]
        if below != place and max(owners, key=len, default="") == name:
            files[below.removeprefix(name).removeprefix(".")] = digest
    return files


def _complete(kind: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of an entry with those that it leaves out."""
    section = recipe_evaluate.section(kind)
    if section is None or not issubclass(section, recipe_evaluate.Evaluation):
        return dict(entry)
    try:
        return section.model_validate(dict(entry)).model_dump(mode="json")
    except ValueError:  # of another version
        return dict(entry)


def task_file(run: ComparedRun, name: str) -> str:
    """Returns the digest of the file that describes a task; "" if it is not recorded.

    The name is that of an entry, or of an entry and a task of its group.
    """
    inputs = run.made_from("evaluate")
    entry, _, task = name.partition(" ")
    result = tasks.flat(run.scores).get(name, {})
    wanted = f"task {entry} {task or result.get('task')}"
    return inputs.get(wanted, inputs.get(f"task {entry}", ""))


def _same_prompts(
    runs: Sequence[ComparedRun], tasks_of: Mapping[str, Mapping[str, Any]]
) -> dict[str, bool]:
    """Returns of each task whether its file says already that all runs were asked the same."""
    names = dict.fromkeys(itertools.chain.from_iterable(tasks_of.values()))
    same = {}
    for name in names:
        files = {task_file(run, name) for run in runs if name in tasks_of[run.name]}
        same[name] = len(files) == 1 and "" not in files
    return same


def items(run: ComparedRun, name: str) -> list[Item]:
    """Returns the items of a task as they were scored; [] if they are not there any more."""
    result = tasks.flat(run.scores).get(name, {})
    path = run.at("evaluate") / "items" / "after" / f"{name.replace(' ', '.', 1)}.jsonl"
    return [] if path in run.changed else paired.read(path, result)


# ---------------------------------------------------------------------------- tests
def tested(
    table: Sequence[ComparedRow], runs: Sequence[ComparedRun]
) -> dict[tuple[int, str], paired.PairedTest]:
    """Returns (number of a row, run) -> its test against the first run of that row.

    Only scores of items or lines can be tested. Where a metric is of all texts together,
    MOST_TESTS are.
    """
    by_name = {run.name: run for run in runs}
    left = itertools.count()
    tests = {}
    for i, row in enumerate(table):
        first = row.scores[row.first].score
        texts: dict[str, tuple[list[str], list[str]]] = {}
        for name, other in itertools.islice(row.scores.items(), 1, None):
            sides = [by_name[row.first], by_name[name]]
            pair = [first, other.score]
            test = None
            if signature := _signature(row):
                if next(left) < MOST_TESTS:
                    test = _of_texts(row.key, signature, sides, pair, texts)
            elif first.sums:
                test = _of_sums(row.key, sides, pair)
            elif first.each and other.score.each:
                test = _percent(_of_items(first.each, other.score.each))
            if test is not None:
                tests[i, name] = test
    return tests


def _signature(row: ComparedRow) -> str:
    """Returns sacrebleu's signature of a score of all texts together; "" of any other score."""
    kind, _, metric = row.key.partition(".")
    if kind not in ("tasks", "translation") or metric not in scores.OF_TEXTS:
        return ""
    signature, tokenizer = (
        next(iter(row.conditions.get(name, ("",)))) for name in ("signature", "tokenizer of BLEU")
    )
    return f"{signature}|tok:{tokenizer}" if signature and tokenizer else signature


def _of_items(first: str, other: str) -> paired.PairedTest | None:
    try:
        before, after = scores.expanded(first), scores.expanded(other)
    except ValueError:
        return None
    return paired.of_scores(before, after)


def _percent(test: paired.PairedTest | None) -> paired.PairedTest | None:
    if test is None:
        return None
    bounds = (100 * test.change, 100 * test.low, 100 * test.high)
    return paired.PairedTest(*bounds, test.p, test.test)


def _kept(run: ComparedRun, key: str, name: str) -> list[Item]:
    """Returns the items or lines that were kept of an entry as it was measured; [] without any."""
    kind = key.partition(".")[0]
    if kind == tasks.KIND.name:
        return items(run, name)
    path = lines_of(run.at("evaluate") / "items" / "after", kind, name)
    return [] if path in run.changed else paired.read_lines(path)


def _of_texts(
    key: str,
    signature: str,
    runs: Sequence[ComparedRun],
    pair: Sequence[ComparableScore],
    texts: dict[str, tuple[list[str], list[str]]],
) -> paired.PairedTest | None:
    for run, score in zip(runs, pair, strict=True):
        if run.name not in texts:
            kept = _kept(run, key, score.name)
            texts[run.name] = paired.texts_of(kept, signature, score.value or 0.0)
    (references, before), (others, after) = (texts[run.name] for run in runs)
    if not references or references != others:
        return None
    return paired.of_texts(signature, references, before, after)


def _of_sums(
    key: str, runs: Sequence[ComparedRun], pair: Sequence[ComparableScore]
) -> paired.PairedTest | None:
    """Compares ratios of sums over lines; None unless both runs kept lines of the same sizes."""
    (before, sizes), (after, others) = (
        paired.sums_of(_kept(run, key, score.name), score.sums or ("", ""), score.value or 0.0)
        for run, score in zip(runs, pair, strict=True)
    )
    return paired.of_ratios(before, after, sizes) if sizes == others else None


def cells(
    table: Sequence[ComparedRow], runs: Sequence[ComparedRun]
) -> Iterator[tuple[ComparedRow, dict[str, dict[str, Any]]]]:
    """Yields each row with what stands in it, by run: a score and its change, or why there is none.

    {"value", "text", "low", "high", "notes"} and, after the first run, {"change", "change_low",
    "change_high", "p", "test"}, and whether a change is to be shown in percent, "relative"; or
    {"missing"}.
    """
    tests = tested(table, runs)
    for i, row in enumerate(table):
        first = row.scores[row.first].score
        made: dict[str, dict[str, Any]] = {}
        for run in runs:
            if run.name not in row.scores:
                made[run.name] = {"missing": row.missing[run.name]}
                continue
            score = row.scores[run.name].score
            cell: dict[str, Any] = {"value": score.value, "text": score.text}
            if score.bounds:
                cell |= {"low": score.bounds[0], "high": score.bounds[1]}
            cell["notes"] = [*score.notes]
            if run.name != row.first and score.value is not None and first.value is not None:
                cell |= {"change": score.value - first.value, "verdict": _verdict(score, first)}
                cell["relative"] = score.falls or row.key.startswith("efficiency.")
            if (test := tests.get((i, run.name))) is not None:
                cell |= {"change_low": test.low, "change_high": test.high}
                cell |= {"p": test.p, "test": test.test}
                sure = test.p < tasks.SIGNIFICANT and test.change
                rises = (test.change > 0) != score.falls
                cell["verdict"] = ("better" if rises else "worse") if sure else ""
            made[run.name] = cell
        yield row, made


def _verdict(score: ComparableScore, first: ComparableScore) -> str:
    """Returns how a score that falls compares with the first; 0.5 % is no change.

    Other scores without items are not called better or worse: nobody knows how far chance goes.
    """
    if not (score.falls and score.value and first.value):
        return ""
    ratio = score.value / first.value
    return "better" if ratio < 0.995 else "worse" if ratio > 1.005 else ""
