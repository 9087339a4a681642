"""The kinds of evaluation: what a recipe says of each, how it is measured, and what is reported.

A kind is defined in one file, `lrl_jax/evaluate/<kind>.py`, or in any file that is imported before
the recipe is read; nothing else lists it:

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

from collections.abc import Callable, Iterator
import dataclasses
from typing import Any

import jax

from lrl_jax.evaluate.rows import Json, ReportRow
from lrl_jax.model import llama
from lrl_jax.recipe import evaluate as recipe_evaluate
from lrl_jax.vocab.tokenizer.types import Tokenizer


@dataclasses.dataclass(frozen=True)
class MeasuredModel:
    """Holds the model that is measured, and how it is computed.

    Attributes:
      params: the flat parameters, sharded on `mesh`.
      length: tokens of a row, where text is scored in rows.
      loss_blocks: vocabulary blocks of the loss, to save memory.
    """

    cfg: llama.LlamaConfig
    params: llama.Params
    tokenizer: Tokenizer
    mesh: jax.sharding.Mesh
    length: int
    loss_blocks: int


@dataclasses.dataclass(frozen=True)
class EvaluationKind:
    """Describes one kind of evaluation.

    Attributes:
      name: its key under `evaluate` in the recipe, and in before.json and after.json.
      section: the class of an entry in the recipe; `str` where an entry is a file alone.
      measure: (entry, model, the recipe's section `evaluate`) -> a result, as JSON.
      rows: (before, after) -> lines of the report; both are kind -> name -> result, and either
        may be empty.
      examples: title of the report's section that shows each result's "examples"; "" for none.
    """

    name: str
    section: recipe_evaluate.Entry
    measure: Callable[[Any, MeasuredModel, recipe_evaluate.Evaluate], dict[str, Any]]
    rows: Callable[[Json, Json], Iterator[ReportRow]]
    examples: str = ""


KINDS: dict[str, EvaluationKind] = {}


def register(kind: EvaluationKind) -> EvaluationKind:
    """Makes a kind known to recipes, to the step that measures and to the report.

    Raises:
      ValueError: the name is taken.
    """
    if kind.name in KINDS or kind.name in recipe_evaluate.SHARED:
        raise ValueError(f"evaluation kind {kind.name!r} exists already; choose another name")
    recipe_evaluate.SECTIONS[kind.name] = kind.section
    KINDS[kind.name] = kind
    return kind


def find(name: str) -> EvaluationKind | None:
    """Returns the kind of a name; None where there is none."""
    return KINDS.get(name) if recipe_evaluate.section(name) is not None else None


def all_rows(before: Json, after: Json) -> Iterator[ReportRow]:
    """Yields the lines of the report, kind by kind, of results of before.json and after.json."""
    for name in {**before, **after}:
        if (kind := find(name)) is not None:
            yield from kind.rows(before, after)


def examples(after: Json) -> dict[str, Json]:
    """Returns title -> results by name, of each kind whose results hold examples to read.

    Args:
      after: kind -> name -> result. Kinds that every recipe may name are there without results.
    """
    names = {**recipe_evaluate.Evaluate().kinds(), **after}
    readable = [kind for name in names if (kind := find(name)) is not None and kind.examples]
    return {kind.examples: after.get(kind.name) or {} for kind in readable}
