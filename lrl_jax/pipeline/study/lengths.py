"""Makes trainings equally long: in tokens, in bytes of text, or in FLOPs.

    amount = planned(run)                          # what its recipe makes it read and spend
    recipe = lengthened(run, "bytes", amount.bytes)    # steps so that it reads as many bytes

Losses per token cannot be compared between vocabularies, nor trainings of as many steps: a text has
fewer tokens with one vocabulary than with another. Steps are whole, so amounts are equal to within
half a step of each stage.
"""

import dataclasses
import math
from typing import Literal

from lrl_jax import storage
from lrl_jax.data.feed import mixture
from lrl_jax.hf import families
from lrl_jax.pipeline.run import Run, manifests, resolved
from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.train import Rule, Stage
from lrl_jax.train import adapt, learn

Unit = Literal["tokens", "bytes", "flops"]


@dataclasses.dataclass(frozen=True)
class Amount:
    """Holds what a training reads and spends; `flops` is 0 where the model is not there yet."""

    tokens: float = 0.0
    bytes: float = 0.0
    flops: float = 0.0
    steps: int = 0


def planned(run: Run) -> Amount:
    """Returns what the recipe of a run makes it read and spend; its data must be packed."""
    recipe, packed = resolved(run), manifests(run)
    per_token = flops_per_token(run, recipe)
    read = [
        (stage.name, *mixture.amounts_read(packed, planned_stages))
        for stage, planned_stages in mixture.by_stage(recipe, packed)
    ]
    return Amount(
        math.fsum(tokens for _, tokens, _ in read),
        math.fsum(size for *_, size in read),
        math.fsum(tokens * per_token.get(name, 0.0) for name, tokens, _ in read),
        recipe.train.steps,
    )


def flops_per_token(run: Run, recipe: Recipe) -> dict[str, float]:
    """Returns the FLOPs of training on a token, by stage; {} before the step `init`."""
    path = run.at("init") / "config.json"
    if not path.exists():
        return {}
    cfg = families.config_from_hf(storage.read_json(path), "float32")
    cfg = adapt.adapted(cfg, recipe.train)
    return learn.flops_by_stage(cfg, recipe.train, recipe.data.sequence_length)


def lengthened(run: Run, unit: Unit, want: float) -> Recipe:
    """Returns the recipe of a run with steps so that it reads, or spends, as much as is wanted.

    Every stage is longer or shorter by the same factor.
    """
    own = getattr(planned(run), unit)
    if math.isclose(own, want, rel_tol=1e-9):
        return run.recipe
    recipe = resolved(run)
    factor = want / own
    stages = tuple(
        with_steps(stage, max(1, round(stage.steps * factor))) for stage in recipe.train.stages
    )
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"stages": stages})})


def with_steps(stage: Stage, steps: int) -> Stage:
    """Returns a stage of another length, whose warm-ups are shortened with it."""
    learn = tuple(_shortened(rule, stage.steps, steps) for rule in stage.learn)
    return stage.model_copy(update={"steps": steps, "epochs": 0.0, "learn": learn})


def _shortened(rule: Rule, own: int, steps: int) -> Rule:
    """Returns a rule whose warm-up is shortened with its stage, and ends before the stage does."""
    if rule.schedule == "frozen":
        return rule
    warmup = math.ceil(rule.schedule.warmup * min(1, steps / own)) if own else rule.schedule.warmup
    schedule = rule.schedule.model_copy(update={"warmup": min(warmup, steps - 1)})
    return rule.model_copy(update={"schedule": schedule})


class EqualLengths:
    """Gives every cell of a study the length of the first: called with a cell as a run.

    Its `vocab`, `init` and `data` must be done, and those of the first cell before any other's.

    Args:
      first: the name of the first cell.
    """

    def __init__(self, unit: Unit, first: str):
        self.first, self._unit, self._want = first, unit, 0.0

    @property
    def known(self) -> bool:
        """Returns whether the length of the first cell is known."""
        return bool(self._want)

    def __call__(self, run: Run) -> Run:
        if run.recipe.name == self.first:
            self._want = getattr(planned(run), self._unit)
        if not self._want:
            raise ValueError(
                f"the data of the first cell, {self.first}, was not packed, and it decides how "
                f"many {self._unit} all others read"
            )
        return dataclasses.replace(run, recipe=lengthened(run, self._unit, self._want))
