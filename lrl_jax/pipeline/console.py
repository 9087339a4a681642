"""Prints for the person who watches a run, from one process only."""

from typing import Any

from lrl_jax import terminal
from lrl_jax.devices import mesh


def say(line: str) -> None:
    """Prints a line on stderr."""
    if mesh.lead():
        terminal.console(stderr=True).print(terminal.visible(line), soft_wrap=True)


def display(what: Any) -> None:
    """Prints a table or another result on stdout."""
    if mesh.lead():
        terminal.console().print(what)
