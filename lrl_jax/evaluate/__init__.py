"""Measures models; the room is also a function, `lrl_jax.evaluate(model, tasks=["kobest"])`.

    lrl.evaluate("runs/first_steps")                        # the step: before and after
    lrl.evaluate(model, "runs/first_steps/recipe.yaml")     # a model, by that section
    lrl.evaluate(model, tasks=["in_context_copy"], limit=4) # benchmark tasks

`lrl_jax.pipeline.api.evaluation.evaluate` says what it takes and returns.
"""

import sys
import types
from typing import Any


class _CallableRoom(types.ModuleType):
    """Lets the package be called as the public function of its name.

    Whatever imports a module of this package makes it the attribute `evaluate` of `lrl_jax`, so
    that a function of that name could not be reached; see docs/decisions/0025-front-door.md.
    """

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """Measures a model: `lrl_jax.pipeline.api.evaluation.evaluate` says how."""
        from lrl_jax.pipeline.api import evaluation

        return evaluation.evaluate(*args, **settings)


sys.modules[__name__].__class__ = _CallableRoom
