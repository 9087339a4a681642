"""What a run tells the person who watches it: once, whatever number of processes there are."""

from typing import Any

from rich.console import Console

from lrl_jax.devices import mesh


def say(line: str) -> None:
    """A line on stderr."""
    if mesh.lead():
        Console(stderr=True, highlight=False).print(line, soft_wrap=True)


def display(what: Any) -> None:
    """A table or other result on stdout."""
    if mesh.lead():
        Console().print(what)
