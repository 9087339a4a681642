"""Registers kinds of evaluation, measures a model by all of them, and reports what changed.

A kind is defined in a single file, `lrl_jax/evaluate/<kind>.py` or any file that is imported before
the recipe is read. It needs no entry anywhere else:

    class Newlines(Evaluation):            # an entry of `evaluate.newlines` in the recipe
        text: str

        def files(self) -> tuple[str, ...]:
            return (self.text,)

    def measure(entry: Newlines, model: MeasuredModel, settings: Evaluate) -> dict[str, Any]:
        return {"newlines": 1.0}           # JSON, kept in before.json and after.json

    def rows(before: Json, after: Json) -> Iterator[ReportRow]:
        yield from score_rows(before, after, "newlines", "newlines a line", "newlines")

    KIND = register(EvaluationKind("newlines", Newlines, measure, rows))
"""

from collections.abc import Callable, Collection, Iterator
import dataclasses
import functools
import importlib.metadata
import platform
import time
from typing import Any

import jax

from lrl_jax.data.read import plain
from lrl_jax.evaluate.meter import Meter
from lrl_jax.evaluate.rows import ComparableScore, Json, ReportRow, fixed
from lrl_jax.model import llama
from lrl_jax.recipe import evaluate as recipe_evaluate
from lrl_jax.text import DataError
from lrl_jax.vocab.tokenizer.types import Tokenizer

Tick = Callable[[int, int], None]  # told how many batches of how many are done


@dataclasses.dataclass(frozen=True)
class MeasuredModel:
    """Holds a model to measure, the settings it is run with, and whom to tell of progress."""

    cfg: llama.LlamaConfig
    params: llama.Params  # the flat parameters, sharded on `mesh`
    tokenizer: Tokenizer
    mesh: jax.sharding.Mesh
    length: int  # tokens of a row when text is scored
    loss_blocks: int  # in how many blocks the loss reads the vocabulary, to save memory
    tick: Tick = lambda done, whole: None
    context: int = 0  # tokens of a prompt and its answer together at most; 0: not known
    ends: tuple[int, ...] = ()  # ids that end an answer; (): the tokenizer's eos alone
    digest: str = ""  # of the weights; finished items of other weights are not taken for these
    items: str = ""  # folder in which finished items are kept; "": nowhere
    lines: str = ""  # folder for what is measured of each line of an entry; "": it is not kept
    entry: str = ""  # what the entry that is measured is called in the recipe
    meter: Meter = dataclasses.field(default_factory=Meter)  # of text that is read or written


@dataclasses.dataclass(frozen=True)
class EvaluationKind:
    """Describes one kind of evaluation.

    Attributes:
      measure: (entry, model, the recipe's section `evaluate`) -> a result, as JSON.
      rows: (before, after) -> lines of the report; both map kind -> name -> result, and either may
        be empty.
      check: raises ValueError for an entry whose files cannot be used, before a model is read.
    """

    name: str  # its key under `evaluate` in the recipe, and in before.json and after.json
    section: recipe_evaluate.Entry  # the class of an entry; `str` if an entry is just a file
    measure: Callable[[Any, MeasuredModel, recipe_evaluate.Evaluate], dict[str, Any]]
    rows: Callable[[Json, Json], Iterator[ReportRow]]
    examples: str = ""  # the title under which the report shows the "examples" of results
    check: Callable[[Any], None] = lambda entry: None
    side: str = "answer"  # whether "tokens" and "characters" of results are of "input" or "answer"
    # (results) -> scores that may stand beside those of another run; without it, the rows do.
    scores: Callable[[Json], Iterator[ComparableScore]] | None = None


KINDS: dict[str, EvaluationKind] = {}


def register(kind: EvaluationKind) -> EvaluationKind:
    """Registers a kind under a name that is free: recipes may name it, and it is measured."""
    if kind.name in KINDS or kind.name in recipe_evaluate.SHARED:
        raise ValueError(f"evaluation kind {kind.name!r} exists already; choose another name")
    recipe_evaluate.SECTIONS[kind.name] = kind.section
    KINDS[kind.name] = kind
    return kind


def find(name: str) -> EvaluationKind | None:
    """Returns the kind with this name, or None."""
    return KINDS.get(name) if recipe_evaluate.section(name) is not None else None


def problems(
    settings: recipe_evaluate.Evaluate, wanted: Collection[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yields key and message of entries whose files cannot be used and are not still `wanted`."""
    for name, entries in settings.kinds().items():
        for key, entry in entries.items():
            kind = find(name)
            files = (entry,) if isinstance(entry, str) else entry.files()
            if kind is not None and {*wanted}.isdisjoint(files):
                yield from _problem(f"evaluate.{name}.{key}", kind.check, entry)
    for name, files in settings.baseline_text.items():
        for uri in files:
            if uri not in wanted:
                yield from _problem(f"evaluate.baseline_text.{name}", plain.refuse_blank, uri)


def _problem(key: str, check: Callable[[Any], None], entry: Any) -> Iterator[tuple[str, str]]:
    try:
        check(entry)
    except (ValueError, OSError) as e:
        yield key, str(e)


def validate(settings: recipe_evaluate.Evaluate) -> None:
    """Raises DataError that names every entry whose files cannot be used, and why."""
    if lines := [f"{key}: {problem}" for key, problem in problems(settings)]:
        raise DataError("\n".join(lines))


def measure(
    settings: recipe_evaluate.Evaluate,
    model: MeasuredModel,
    tell: Callable[[str, int, int], None] = lambda what, done, whole: None,
) -> dict[str, Any]:
    """Returns kind -> name -> result, and under "facts" the versions and devices that were used.

    Under "efficiency" are the tokens and characters of every result that counts both, whose ratio
    says how well the vocabulary fits the text. Seconds of 1,000 characters stand under "facts":
    they differ from run to run, and nothing else does.

    Args:
      tell: called with what is measured, and how many batches of how many are done.
    """
    started = time.time()
    results: dict[str, Any] = {}
    counts: dict[str, dict[str, Any]] = {"input": {}, "answer": {}}
    seconds: dict[str, dict[str, float]] = {"input": {}, "answer": {}}
    for name, entries in settings.kinds().items():
        kind = find(name)
        assert kind is not None, name  # a recipe with another key is refused where it is read
        results[name] = {}
        for key, entry in entries.items():
            tick = functools.partial(tell, f"{name} {key}")
            tick(0, 0)
            watched = dataclasses.replace(model, tick=tick, meter=Meter(), entry=key)
            result = results[name][key] = kind.measure(entry, watched, settings)
            label = key if kind.side == "input" else f"{name} {key}"
            counts[kind.side] |= dict(_counted(label, result))
            if (took := watched.meter.seconds_per_1000_characters) is not None:
                seconds[kind.side][label] = round(took, 6)
    spent = {
        "seconds": round(time.time() - started, 1),
        "seconds_per_1000_characters": seconds,
    }
    return results | {"efficiency": counts, "facts": facts() | spent}


def _counted(label: str, result: Json) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what a result, or each of a group, counts of text, if it has tokens and characters."""
    for name, of_group in (result.get("group") or {}).items():
        yield from _counted(f"{label} {name}", of_group)
    counts = {key: result[key] for key in ("characters", "bytes", "tokens") if key in result}
    if counts.get("characters") and "tokens" in counts:
        yield label, counts


def facts() -> dict[str, Any]:
    """Returns the versions of libraries and the devices that this process measures with."""
    device = jax.devices()[0]
    packages = ("lrl-jax", "jax", "flax", "optax", "orbax-checkpoint", "sentencepiece")
    return {
        "devices": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "hosts": str(jax.process_count()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{package: _version(package) for package in packages},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def all_rows(before: Json, after: Json) -> Iterator[ReportRow]:
    """Yields the lines of the report, kind by kind, from the results before and after training."""
    for name in {**before, **after}:
        if (kind := find(name)) is not None:
            yield from kind.rows(before, after)


def comparable_scores(results: Json) -> Iterator[tuple[str, ComparableScore]]:
    """Yields the name of its kind and the score, of every kind that was measured."""
    for name in results:
        if (kind := find(name)) is None:
            continue
        scores = kind.scores(results) if kind.scores is not None else _of_rows(kind, results)
        for score in scores:
            yield name, score


def _of_rows(kind: EvaluationKind, results: Json) -> Iterator[ComparableScore]:
    """Yields what the report of a single run says of the model, as texts."""
    for row in kind.rows({}, results):
        if row.after == fixed(None, 0):
            continue
        key = row.key or f"{kind.name}.{row.measure}"
        try:
            value = float(row.after)
        except ValueError:
            value = None
        notes = (row.note,) if row.note else ()
        yield ComparableScore(row.measure, row.name, key, value, row.after, notes=notes)


def examples(after: Json) -> dict[str, Json]:
    """Returns title -> results by name, for each kind whose results have examples to read."""
    names = {**recipe_evaluate.Evaluate().kinds(), **after}
    readable = [kind for name in names if (kind := find(name)) is not None and kind.examples]
    return {kind.examples: after.get(kind.name) or {} for kind in readable}
