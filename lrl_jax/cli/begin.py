"""Begins a verb: reads its recipe, joins its processes, and says what the person is to know."""

import argparse
import sys

from lrl_jax import terminal
from lrl_jax.pipeline.perform import Team
from lrl_jax.recipe.schema import Recipe


def recipe(args: argparse.Namespace) -> Recipe:
    """Reads the recipe that the arguments name, with their overrides and imports."""
    from lrl_jax.data.seqio import imports

    return imports.load_recipe(args.recipe, args.overrides, args.imports)


def start(args: argparse.Namespace) -> Team:
    """Joins the processes that the arguments name; of one process, itself."""
    from lrl_jax.devices import mesh, peers

    mesh.start(args.coordinator, args.processes, args.process_id)
    return Team(mesh.lead(), peers.meet)


def say(text: str) -> None:
    """Prints a line beside the output, with control characters shown."""
    print(terminal.visible(text), file=sys.stderr)
