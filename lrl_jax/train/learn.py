"""Decides which parameters learn and how fast: groups stages into phases and parameters by rule.

Each phase starts its own schedule: it warms up again from almost zero, whatever the learning rate
at the end of the phase before ("re-warming", arXiv 2403.08763).
"""

from collections.abc import Collection, Sequence
import dataclasses
import itertools
import math
import re

import jax
import jax.numpy as jnp

from lrl_jax.model import llama, quantize, sharding
from lrl_jax.recipe import train as recipe_train

ROWS = {"embed_VD": 0, "unembed_DV": 1}  # matrices with a row for each token -> axis of the tokens


@dataclasses.dataclass(frozen=True)
class Phase:
    """Describes consecutive stages with equal learn tables, which share optimizer and schedule."""

    name: str  # the names of its stages, joined by `+`
    start: int  # how many steps of the run come before it
    steps: int
    learn: tuple[recipe_train.Rule, ...]

    @property
    def end(self) -> int:
        return self.start + self.steps


@dataclasses.dataclass(frozen=True)
class Group:
    """Holds the parameters that one rule matches, and how they learn."""

    name: str
    paths: tuple[str, ...]
    schedule: recipe_train.Schedule
    new_rows_only: bool


def phases(stages: Sequence[recipe_train.Stage]) -> tuple[Phase, ...]:
    """Returns the phases of a run: consecutive stages with equal `learn` tables are joined."""
    out: list[Phase] = []
    for table, group in itertools.groupby(stages, key=lambda stage: stage.learn):
        same = list(group)
        name, steps = "+".join(s.name for s in same), sum(s.steps for s in same)
        out.append(Phase(name, out[-1].end if out else 0, steps, table))
    return tuple(out)


def phase_at(table: Sequence[Phase], step: int) -> int:
    """Returns the index of the phase that step number `step` belongs to; 0 for step 0."""
    return next(i for i, phase in enumerate(table) if step <= phase.end)


def groups(learn: Sequence[recipe_train.Rule], paths: Sequence[str]) -> tuple[Group, ...]:
    """Returns the groups of parameters that learn; parameters in no group are frozen.

    The first rule whose pattern matches a path (`re.search`) applies to it. No rule applies to the
    scales of quantised weights, which never learn.

    Raises:
      ValueError: a bad pattern, a parameter without a rule, a rule that applies to nothing,
        `rows: new` on parameters other than embeddings, or nothing that learns.
    """
    paths = [path for path in paths if not quantize.is_scale(path)]
    decided, left = [], paths
    for rule in learn:
        decided.append(tuple(path for path in left if _finds(rule.match, path)))
        left = [path for path in left if path not in decided[-1]]
    if left:
        raise ValueError(
            f"no rule of `learn` matches {', '.join(left)}; end the table with "
            '{match: ".*", schedule: frozen} or a schedule'
        )
    idle = [rule.match for rule, names in zip(learn, decided, strict=True) if not names]
    if idle:
        raise ValueError(
            f"rules of `learn` that decide no parameter: {', '.join(map(repr, idle))}; an earlier "
            f"rule may match theirs first; parameters are {', '.join(paths)}"
        )
    out = tuple(
        Group(rule.match, names, rule.schedule, _new_rows_only(rule, names))
        for rule, names in zip(learn, decided, strict=True)
        if isinstance(rule.schedule, recipe_train.Schedule)
    )
    if not out:
        raise ValueError("every rule of `learn` is frozen: nothing would learn")
    return out


def trainable(groups: Sequence[Group]) -> tuple[str, ...]:
    """Returns the parameters of all groups."""
    return tuple(path for group in groups for path in group.paths)


def is_matrix(path: str) -> bool:
    """Tells whether a parameter is a matrix, of the model or of an adapter, not a norm or a bias.

    >>> is_matrix("layers/q_DNH"), is_matrix("layers/attn_norm_D"), is_matrix("layers/q_bias_NH")
    (True, False, False)
    """
    own = sharding.letters(path).removeprefix("L")
    return len(own) > 1 and bool(set(own) & {"D", "R"})


def rate(schedule: recipe_train.Schedule, steps: int, done: jax.Array) -> jax.Array:
    """Returns the learning rate, float32, of the step after `done` steps in a phase of `steps`.

    Where batches have another size than the recipe counts, `done` is a fraction.

    Warm-up is linear, reaches `peak` after `warmup` steps and does not start at zero. After it,
    `cosine` and `linear` fall until the end of the phase; `wsd` (arXiv 2404.06395) stays at the
    peak and falls over the last share `decay` of all steps.

    >>> schedule = recipe_train.Schedule(peak=1.0, warmup=1, kind="wsd", decay=0.5, final=0.5)
    >>> [float(rate(schedule, 8, jnp.int32(i))) for i in range(8)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.875, 0.75, 0.625]
    """
    x = done.astype(jnp.float32)
    rise = jnp.minimum((x + 1.0) / (schedule.warmup + 1.0), 1.0)
    fall = falling(schedule, steps)
    progress = jnp.clip((x - (steps - fall)) / max(fall, 1), 0.0, 1.0)
    highest = schedule.peak * rise
    if schedule.kind == "constant":
        share = jnp.ones_like(progress)
    elif schedule.kind == "cosine":
        share = schedule.final + (1.0 - schedule.final) * 0.5 * (1.0 + jnp.cos(math.pi * progress))
    else:  # linear and wsd
        share = 1.0 - (1.0 - schedule.final) * progress
    return highest * share


def falling(schedule: recipe_train.Schedule, steps: int) -> float:
    """Returns how many steps at the end of a phase follow the warm-up or, with `wsd`, decay."""
    return steps * schedule.decay if schedule.kind == "wsd" else steps - schedule.warmup


def check_schedule(schedule: recipe_train.Schedule, steps: int, rule: str, stages: str) -> None:
    """Refuses a schedule whose warm-up and decay do not fit into a phase of `steps`."""
    if schedule.warmup >= steps:
        raise ValueError(
            f"rule {rule!r} warms up for {schedule.warmup} steps, but stages {stages} have "
            f"{steps}: the peak would never be reached"
        )
    fall = falling(schedule, steps)
    if schedule.kind == "wsd" and not 0 < fall <= steps - schedule.warmup:
        raise ValueError(
            f"rule {rule!r} warms up for {schedule.warmup} steps and decays over the last "
            f"{fall:g} of {steps} (decay: {schedule.decay:g}); stages {stages} have room for a "
            f"decay above 0 and up to {1 - schedule.warmup / steps:.3g}"
        )


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


# ---------------------------------------------------------------------------- cost
def flops_by_stage(
    cfg: llama.LlamaConfig, train: recipe_train.Train, length: int
) -> dict[str, float]:
    """Returns the FLOPs of training on a token of each stage, as `flops_per_token`."""
    names = [*llama.abstract(cfg)]
    return {
        stage.name: flops_per_token(cfg, length, trainable(groups(stage.learn, names)))
        for stage in train.stages
    }


def flops_per_token(
    cfg: llama.LlamaConfig, length: int, learns: Collection[str] | None = None
) -> float:
    """Returns the FLOPs of training on one token, in rows of `length`, from which MFU is computed.

    Each weight of a matrix product counts 6: 2 in the forward pass, 2 for the gradient of the
    product's input and 2 for the gradient of the weight. A frozen weight has no gradient and counts
    4; `learns` names the others, None means all. Attention counts what the mask leaves, half of the
    row or the window (PaLM, arXiv 2204.02311, appendix B). Recomputation is not counted.
    """
    flops = 12 * cfg.seen(length) * cfg.num_heads * cfg.head_width
    for name, leaf in llama.abstract(cfg).items():
        looked_up = name == "embed_VD" and not cfg.tie_embeddings
        if not (looked_up or quantize.is_scale(name)) and is_matrix(name):
            flops += (6 if learns is None or name in learns else 4) * math.prod(leaf.shape)
    return flops
