"""Registers kinds of evaluation: their section in a recipe, how they are measured and reported.

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
    """Holds a model to measure, and the settings it is run with.

    Attributes:
      params: the flat parameters, sharded on `mesh`.
      length: how many tokens a row has when text is scored.
      loss_blocks: how many blocks the loss reads the vocabulary in, to save memory.
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
      section: the class of an entry in the recipe; `str` if an entry is just a file.
      measure: (entry, model, the recipe's section `evaluate`) -> a result, as JSON.
      rows: (before, after) -> lines of the report; both map kind -> name -> result, and either may
        be empty.
      examples: the title under which the report shows the "examples" of results; "" for none.
    """

    name: str
    section: recipe_evaluate.Entry
    measure: Callable[[Any, MeasuredModel, recipe_evaluate.Evaluate], dict[str, Any]]
    rows: Callable[[Json, Json], Iterator[ReportRow]]
    examples: str = ""


KINDS: dict[str, EvaluationKind] = {}


def register(kind: EvaluationKind) -> EvaluationKind:
    """Registers a kind, so that recipes may name it and it is measured and reported.

    Raises:
      ValueError: the name is taken.
    """
    if kind.name in KINDS or kind.name in recipe_evaluate.SHARED:
        raise ValueError(f"evaluation kind {kind.name!r} exists already; choose another name")
    recipe_evaluate.SECTIONS[kind.name] = kind.section
    KINDS[kind.name] = kind
    return kind


def find(name: str) -> EvaluationKind | None:
    """Returns the kind with this name, or None."""
    return KINDS.get(name) if recipe_evaluate.section(name) is not None else None


def all_rows(before: Json, after: Json) -> Iterator[ReportRow]:
    """Yields the lines of the report, kind by kind, from the results before and after training."""
    for name in {**before, **after}:
        if (kind := find(name)) is not None:
            yield from kind.rows(before, after)


def examples(after: Json) -> dict[str, Json]:
    """Returns title -> results by name, for each kind whose results have examples to read.

    Args:
      after: kind -> name -> result; a kind may have no results.
    """
    names = {**recipe_evaluate.Evaluate().kinds(), **after}
    readable = [kind for name in names if (kind := find(name)) is not None and kind.examples]
    return {kind.examples: after.get(kind.name) or {} for kind in readable}
