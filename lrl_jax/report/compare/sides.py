"""Sets the rest of several runs side by side: fertility, what text costs, samples and judges.

Each function returns plain data for the page and for comparison.json.
"""

from collections.abc import Iterator, Mapping, Sequence
import json
import statistics
from typing import Any

from lrl_jax import storage
from lrl_jax.evaluate import kinds
from lrl_jax.evaluate.rows import ComparableScore, fixed, number, recorded
from lrl_jax.report.compare import comparable, scores
from lrl_jax.report.compare.comparable import ComparedRow, MeasuredScore, Ways
from lrl_jax.report.compare.runs import ComparedRun, inside
from lrl_jax.report.run import FERTILITY
from lrl_jax.storage import Json

PROMPTS = 20  # prompts of samples that are shown at most
EXAMPLES = 5  # answers of each entry
LONGEST = 1200  # characters of a text that is shown
NEW = "new"  # the tokenizer of a run in vocab/fertility.json; the other is the base's
RATED, UNSCORED = ("rating", "win_rate"), ("items", "length_weight")  # numbers of a judge
MACHINE = ("devices", "hosts", "system", "jax")  # facts on which seconds depend


# ---------------------------------------------------------------------------- vocabulary
def fertility(runs: Sequence[ComparedRun]) -> list[ComparedRow]:
    """Returns the rows of what text costs in tokens under each run's vocabulary, by language."""
    measured = {run.name: [*_fertility(run)] for run in runs}
    return comparable.rows(measured)


def _fertility(run: ComparedRun) -> Iterator[MeasuredScore]:
    texts = run.made_from("vocab")
    reference = texts.get("vocab.report.texts.eng_Latn", "")
    for key, measure in FERTILITY.items():
        for row in run.pieces.fertility:
            if not isinstance(row, Mapping) or row.get("tokenizer") != NEW:
                continue
            if (value := number(row.get(key))) is None:
                continue
            language = str(row.get("language"))
            text = texts.get(f"vocab.report.texts.{language}", "")
            conditions: dict[str, Ways] = {"test text": (text,)}
            if key == "parity":
                conditions["reference"] = (reference,)
            score = ComparableScore(
                measure, language, f"fertility.{key}", value, f"{value:.3g}", falls=True
            )
            yield MeasuredScore(score, conditions)


# ---------------------------------------------------------------------------- efficiency
def efficiency(runs: Sequence[ComparedRun]) -> list[ComparedRow]:
    """Returns the rows of tokens and seconds for 1,000 characters, and of the speed of training."""
    measured = {run.name: [*_costs(run), *_speed(run)] for run in runs}
    return comparable.rows(measured, {run.name: run.unread for run in runs})


def _costs(run: ComparedRun) -> Iterator[MeasuredScore]:
    seconds = inside(run.scores, "facts", "seconds_per_1000_characters")
    for side, kind in (("input", "bits_per_byte"), ("answer", "")):
        counted = inside(run.scores, "efficiency", side)
        for name in counted:
            counts = inside(counted, name)
            tokens, characters = number(counts.get("tokens")), number(counts.get("characters"))
            asked, entry = (kind, name) if kind else name.partition(" ")[::2]
            conditions = scores.entry_conditions(run, asked, entry.partition(" ")[0])
            what = "read" if kind else "written"
            if tokens is not None and characters:
                value = 1000 * tokens / characters
                measure = f"tokens per 1,000 characters {what}"
                yield _cost(measure, name, f"{side}.tokens", value, 1, conditions)
            if (value := number(inside(seconds, side).get(name))) is not None:
                measure = f"seconds per 1,000 characters {what}"
                on = {**conditions, "machine": (machine(run),)}
                yield _cost(measure, name, f"{side}.seconds", value, 4, on)


def _speed(run: ComparedRun) -> Iterator[MeasuredScore]:
    rates = [number(record.get("tokens_per_second")) for record in run.pieces.metrics]
    rates = [rate for rate in rates if rate is not None]
    if rates:
        measure, value = "tokens a second in training, median", statistics.median(rates)
        on: dict[str, Ways] = {"machine": (machine(run),)}
        yield _cost(measure, "", "training.tokens_per_second", value, 0, on, falls=False)


def _cost(
    measure: str,
    name: str,
    key: str,
    value: float,
    digits: int,
    conditions: Mapping[str, Ways],
    falls: bool = True,
) -> MeasuredScore:
    score = ComparableScore(
        measure, name, f"efficiency.{key}", value, fixed(value, digits), falls=falls
    )
    return MeasuredScore(score, conditions)


def machine(run: ComparedRun) -> str:
    """Returns on what a run was measured; "" if that is not recorded."""
    facts = inside(run.pieces.after, "facts")
    said = [recorded(facts.get(key)) for key in MACHINE]
    return ", ".join(said) if all(said) else ""


# ---------------------------------------------------------------------------- what was written
def samples(runs: Sequence[ComparedRun]) -> list[dict[str, Any]]:
    """Returns, for each prompt, the last text that each run wrote for it while it trained."""
    last: dict[str, dict[str, Json]] = {run.name: {} for run in runs}
    for run in runs:
        for sample in run.pieces.samples:
            last[run.name][str(sample.get("prompt", ""))] = sample
    prompts = dict.fromkeys(prompt for of_run in last.values() for prompt in of_run)
    out: list[dict[str, Any]] = []
    for prompt in prompts:
        cells = {
            name: {"step": of_run[prompt]["step"], "text": _shown(of_run[prompt].get("text"))}
            if prompt in of_run
            else {"missing": "another prompt" if of_run else "no samples"}
            for name, of_run in last.items()
        }
        out.append({"prompt": _shown(prompt), "cells": cells})
    together = [each for each in out if _written(each["cells"]) > 1]
    return (together or out)[:PROMPTS]


def examples(runs: Sequence[ComparedRun]) -> dict[str, list[dict[str, Any]]]:
    """Returns title -> questions of the evaluation with the answer of each run, first ones.

    An example is a mapping of titles to texts, of which the last is what the model wrote.
    """
    by_question: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        for title, entries in kinds.examples(run.scores).items():
            for name, result in entries.items():
                for example in (result.get("examples") or [])[:EXAMPLES]:
                    if not isinstance(example, Mapping) or len(example) < 2:
                        continue
                    *asked, (_, written) = _asked(example)
                    key = title, json.dumps([name, asked], ensure_ascii=False)
                    row = by_question.setdefault(
                        key, {"name": name, "asked": [[k, _shown(v)] for k, v in asked],
                              "cells": {each.name: {"missing": "not asked"} for each in runs}},
                    )  # fmt: skip
                    row["cells"][run.name] = {"text": _shown(written)}
    out: dict[str, list[dict[str, Any]]] = {}
    for (title, _), row in by_question.items():
        if _written(row["cells"]) > 1:
            out.setdefault(title, []).append(row)
    return out


def _asked(example: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the texts of an example, what the model wrote as the last of them."""
    pairs = [(key, str(text)) for key, text in example.items()]
    written = [pair for pair in pairs if pair[0] in ("hypothesis", "answer", "chain")]
    return [pair for pair in pairs if pair not in written[:1]] + (written[:1] or [])


def _written(cells: Mapping[str, Mapping[str, Any]]) -> int:
    return sum("missing" not in cell for cell in cells.values())


def _shown(text: Any) -> str:
    text = str(text or "")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


# ---------------------------------------------------------------------------- judges, alignment
def judged(runs: Sequence[ComparedRun], problems: dict[str, str]) -> list[ComparedRow]:
    """Returns the rows of RUN/judge/judge.json; adds to `problems` where one cannot be read."""
    measured: dict[str, list[MeasuredScore]] = {}
    for run in runs:
        path = run.path / "judge" / "judge.json"
        measured[run.name] = []
        try:
            result = storage.read_json(path) if path.exists() else {}
        except (ValueError, OSError) as e:
            problems[run.name] = str(e)
            continue
        if isinstance(result, Mapping) and result:
            measured[run.name] = [*_judged(result)]
    return comparable.rows(measured, {run.name: problems.get(run.name, "") for run in runs})


def _judged(result: Mapping[str, Any]) -> Iterator[MeasuredScore]:
    """Yields every number among the scores of a run's own model, the first of those judged."""
    models, numbers = result.get("models"), result.get("scores")
    models = [str(model) for model in models] if isinstance(models, list) else []
    own = inside(numbers, models[0]) if models and inside(numbers, models[0]) else inside(numbers)
    asked = inside(result, "questions").get("sha256", result.get("questions"))
    conditions: dict[str, Ways] = {
        "judged": (recorded(result.get("kind")),),
        "judges": (json.dumps(result["judges"]) if result.get("judges") else "",),
        "questions": (recorded(asked) or "unnamed",),
        "prompt": (recorded(result.get("prompt")) or "unnamed",),
        "language": (recorded(result.get("language")) or "unnamed",),
        "opponent": (", ".join(models[1:]) or "none",),
    }
    if result.get("kind") != "pair":
        del conditions["opponent"]
    failed = sum(filter(None, map(number, inside(result, "failed").values())))
    notes = [f"{items} items" if (items := result.get("items")) is not None else ""]
    notes += [f"{failed:.0f} failed" if failed else ""]
    for name, value, bounds in _numbers(own):
        score = ComparableScore(
            "judge", name, f"judge.{name}", value, f"{value:.3g}",
            bounds=bounds, notes=tuple(filter(None, notes)),
        )  # fmt: skip
        yield MeasuredScore(score, conditions)


def _numbers(
    value: Mapping[str, Any], key: str = ""
) -> Iterator[tuple[str, float, tuple[float, float] | None]]:
    """Yields the numbers of nested objects, each with its path and the interval beside it."""
    for name, item in value.items():
        path = f"{key}.{name}" if key else str(name)
        if isinstance(item, Mapping):
            yield from _numbers(item, path)
        elif name not in UNSCORED and (x := number(item)) is not None:
            yield path, x, _bounds(value.get("interval")) if name in RATED else None


def _bounds(interval: Any) -> tuple[float, float] | None:
    if not isinstance(interval, list) or len(interval) != 2:
        return None
    low, high = map(number, interval)
    return (low, high) if low is not None and high is not None else None


def alignment(runs: Sequence[ComparedRun]) -> list[dict[str, Any]]:
    """Returns the measures of every layer, a curve a run: for each entry, pooling and measure.

    `alignment` in after.json is name -> {"poolings": {POOLING: {"layers": [...]}}}, with a mapping
    of numbers for each layer.
    """
    measured: dict[str, list[MeasuredScore]] = {run.name: [] for run in runs}
    curves: dict[tuple[str, str], dict[str, list[float | None]]] = {}
    for run in runs:
        for name, result in inside(run.scores, "alignment").items():
            for pooling, layers in _poolings(result):
                for measure in dict.fromkeys(key for layer in layers for key in layer):
                    key = f"alignment.{pooling}.{measure}"
                    curves.setdefault((run.name, key), {})[name] = [
                        number(layer.get(measure)) for layer in layers
                    ]
                    conditions = scores.entry_conditions(run, "alignment", name)
                    score = ComparableScore(f"{measure}, {pooling}", name, key, None, "")
                    measured[run.name].append(MeasuredScore(score, conditions))
    absent = {run.name: run.unread for run in runs}
    return [
        {
            "name": row.name,
            "measure": row.measure,
            "layers": {
                name: curves[name, row.key][each.score.name] for name, each in row.scores.items()
            },
            "missing": row.missing,
        }
        for row in comparable.rows(measured, absent)
        if len(row.scores) > 1
    ]


def _poolings(result: Any) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    poolings = result.get("poolings", result) if isinstance(result, Mapping) else {}
    if isinstance(poolings.get("layers"), list):
        poolings = {"all": poolings}
    for name, pooling in poolings.items():
        layers = pooling.get("layers") if isinstance(pooling, Mapping) else None
        if isinstance(layers, list) and all(isinstance(layer, Mapping) for layer in layers):
            yield str(name), layers
