"""Does the steps of a recipe for Python code."""

import os

from etils import epath

from lrl_jax.devices import mesh as meshes
from lrl_jax.devices import peers
from lrl_jax.pipeline.api.recipes import load_recipe
from lrl_jax.pipeline.api.session import interruptible
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.perform import Team
from lrl_jax.pipeline.run import STEPS, Run
from lrl_jax.pipeline.steps import perform_all
from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.vocab import did_you_mean


def run(
    recipe: Recipe | str | os.PathLike,
    *,
    until: str = STEPS[-1],
    redo: bool = False,
    discard_training: bool = False,
) -> epath.Path:
    """Does every step of a recipe that is due, and returns the run's folder.

        folder = lrl.run("base.yaml", until="vocab")

    It prints what `lrl run` prints. Ctrl-C ends it by KeyboardInterrupt, when what has begun is
    saved; a second one ends it at once. The same call goes on. On several hosts call
    `lrl_jax.devices.mesh.start` first, on each of them; then this.

    Args:
      recipe: a recipe, or the file or the name of one.
      until: the last step that is done: vocab, init, data, train, evaluate or export.
      redo: whether finished steps whose inputs changed are made anew.
      discard_training: whether training that began with other weights is set aside, as
        train.aside-1, and begun again.

    Raises:
      ValueError: what the recipe asks for cannot be done, or the folder is in use or was made from
        other inputs; the message says what to do.
    """
    if until not in STEPS:
        raise ValueError(f"until={until!r}: want {', '.join(STEPS)}{did_you_mean(until, STEPS)}")
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    this = Run(recipe)
    with interruptible("run"):
        meshes.start()
        perform_all(
            this, redo=redo, discard=discard_training, team=team(), skipped=skipped, until=until
        )
    return this.folder


def team() -> Team:
    """Returns this process among those that share a run."""
    return Team(meshes.lead(), peers.meet)


def skipped(this: Run, step: str) -> None:
    """Says that a step was not due."""
    say(f"{step}: done already, inputs unchanged ({this.at(step)})")
