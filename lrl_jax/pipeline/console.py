"""Prints for the person who watches a run, from one process only."""

from typing import Any

from rich.console import Console

from lrl_jax.devices import mesh


def say(line: str) -> None:
    """Prints a line on stderr."""
    if mesh.lead():
        Console(stderr=True, highlight=False).print(line, soft_wrap=True)


def display(what: Any) -> None:
    """Prints a table or another result on stdout."""
    if mesh.lead():
        Console().print(what)
