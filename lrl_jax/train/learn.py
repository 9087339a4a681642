"""What learns: stages become phases, and the learn table of each becomes groups of parameters."""

from collections.abc import Sequence
import dataclasses
import re

from lrl_jax import recipe_train
from lrl_jax.model import quantize, sharding

ROWS = {"embed_VD": 0, "unembed_DV": 1}  # matrices with a row for each token, and on which axis


@dataclasses.dataclass(frozen=True)
class Phase:
    """Neighbouring stages with one learn table: one optimizer and one schedule.

    Attributes:
      name: the names of its stages, joined by `+`.
      start: steps of the run before it.
      steps: its joint length.
    """

    name: str
    start: int
    steps: int
    learn: tuple[recipe_train.Rule, ...]

    @property
    def end(self) -> int:
        return self.start + self.steps


@dataclasses.dataclass(frozen=True)
class Group:
    """The parameters one rule decides, and how they learn."""

    name: str
    paths: tuple[str, ...]
    schedule: recipe_train.Schedule
    new_rows_only: bool


def phases(stages: Sequence[recipe_train.Stage]) -> tuple[Phase, ...]:
    """Joins neighbouring stages whose `learn` tables are equal."""
    out: list[Phase] = []
    for stage in stages:
        if out and out[-1].learn == stage.learn:
            last = out[-1]
            joint = f"{last.name}+{stage.name}", last.start, last.steps + stage.steps
            out[-1] = Phase(*joint, last.learn)
        else:
            start = out[-1].end if out else 0
            out.append(Phase(stage.name, start, stage.steps, stage.learn))
    return tuple(out)


def phase_at(table: Sequence[Phase], step: int) -> int:
    """Index of the phase that made the state after `step` steps (of the first, before any)."""
    return next(i for i, phase in enumerate(table) if step <= phase.end)


def groups(learn: Sequence[recipe_train.Rule], paths: Sequence[str]) -> tuple[Group, ...]:
    """The groups that learn; parameters in none of them are frozen.

    The first rule whose pattern is found in a path (`re.search`) decides it. Scales of weights
    that are stored in codes are decided by none: they never learn.

    Raises:
      ValueError: a bad pattern, a parameter without a rule, a rule that decides nothing,
        `rows: new` on other parameters than embeddings, or nothing that learns.
    """
    decided: list[list[str]] = [[] for _ in learn]
    missed = []
    paths = [path for path in paths if not quantize.is_scale(path)]
    for path in paths:
        index = next((i for i, rule in enumerate(learn) if _finds(rule.match, path)), None)
        missed.append(path) if index is None else decided[index].append(path)
    if missed:
        raise ValueError(
            f"no rule of `learn` matches {', '.join(missed)}; end the table with "
            '{match: ".*", schedule: frozen} or a schedule'
        )
    idle = [rule.match for rule, found in zip(learn, decided, strict=True) if not found]
    if idle:
        raise ValueError(
            f"rules of `learn` that decide no parameter: {', '.join(map(repr, idle))}; an earlier "
            f"rule may take theirs; parameters are {', '.join(paths)}"
        )
    out = tuple(
        Group(rule.match, tuple(found), rule.schedule, _new_rows_only(rule, found))
        for rule, found in zip(learn, decided, strict=True)
        if isinstance(rule.schedule, recipe_train.Schedule)
    )
    if not out:
        raise ValueError("every rule of `learn` is frozen: nothing would learn")
    return out


def trainable(groups: Sequence[Group]) -> tuple[str, ...]:
    """The parameters of all groups."""
    return tuple(path for group in groups for path in group.paths)


def is_matrix(path: str) -> bool:
    """Whether a parameter maps to or from the stream or a low rank; norms and biases do not.

    >>> is_matrix("layers/q_DNH"), is_matrix("layers/attn_norm_D"), is_matrix("layers/q_bias_NH")
    (True, False, False)
    """
    own = sharding.letters(path).removeprefix("L")
    return len(own) > 1 and bool(set(own) & {"D", "R"})


def _finds(pattern: str, path: str) -> bool:
    try:
        return re.search(pattern, path) is not None
    except re.error as e:
        raise ValueError(f"match: {pattern!r} is not a regular expression: {e}") from None


def _new_rows_only(rule: recipe_train.Rule, paths: Sequence[str]) -> bool:
    others = [path for path in paths if path not in ROWS]
    if rule.rows == "new" and others:
        raise ValueError(
            f"rule {rule.match!r} has `rows: new`, which only {', '.join(ROWS)} can honour, but "
            f"decides {', '.join(others)} too; give those their own rule"
        )
    return rule.rows == "new"
