"""Learning rates over a phase: warm-up, then one of four shapes.

A phase starts its schedule anew: whatever rate the one before ended with, the next warms up again
from almost nothing ("re-warming", arXiv 2403.08763).
"""

import math

import jax
import jax.numpy as jnp

from lrl_jax import recipe_train

SHAPES = {
    "constant": lambda s, progress: jnp.ones_like(progress),
    "linear": lambda s, progress: 1.0 - (1.0 - s.final) * progress,
    "cosine": lambda s, progress: (
        s.final + (1.0 - s.final) * 0.5 * (1.0 + jnp.cos(math.pi * progress))
    ),
    "wsd": lambda s, progress: 1.0 - (1.0 - s.final) * progress,
}


def rate(schedule: recipe_train.Schedule, steps: int, done: jax.Array) -> jax.Array:
    """Learning rate of the step that follows `done` steps of a phase of `steps`, float32.

    Warm-up is a line that reaches `peak` after `warmup` steps and never starts at zero. `cosine`
    and `linear` fall from there on, `wsd` (arXiv 2404.06395) over the last `decay` of all steps.

    >>> schedule = recipe_train.Schedule(peak=1.0, warmup=1, kind="linear", final=0.5)
    >>> [float(rate(schedule, 5, jnp.int32(i))) for i in range(5)]
    [0.5, 1.0, 0.875, 0.75, 0.625]
    >>> schedule = recipe_train.Schedule(peak=1.0, warmup=1, kind="wsd", decay=0.5, final=0.5)
    >>> [float(rate(schedule, 8, jnp.int32(i))) for i in range(8)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.875, 0.75, 0.625]
    """
    x = done.astype(jnp.float32)
    rise = jnp.minimum((x + 1.0) / (schedule.warmup + 1.0), 1.0)
    fall = falling(schedule, steps)
    progress = jnp.clip((x - (steps - fall)) / max(fall, 1), 0.0, 1.0)
    return schedule.peak * rise * SHAPES[schedule.kind](schedule, progress)


def falling(schedule: recipe_train.Schedule, steps: int) -> float:
    """Steps at the end of a phase of `steps` in which the rate falls (or stays, if constant)."""
    return steps * schedule.decay if schedule.kind == "wsd" else steps - schedule.warmup


def check(schedule: recipe_train.Schedule, steps: int, rule: str, stages: str) -> None:
    """Refuses a schedule that a phase of `steps` cannot hold.

    Raises:
      ValueError: names the rule, the stages and what is too long.
    """
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
