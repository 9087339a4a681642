"""Prints for the person who watches a run, from one process only.

    with progress("evaluate") as tell:
        tell("after: bits_per_byte kor_Hang", 40, 200)

Where a person watches there is a bar; in a log there is a line every ten seconds, so that work that
takes long is never silent.
"""

from collections.abc import Callable, Iterator
import contextlib
import threading
import time
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lrl_jax import terminal
from lrl_jax.devices import mesh

EVERY = 10.0  # seconds between lines of a log
Tell = Callable[[str, int, int], None]  # what is done, how much of it, of how much (0: not known)


def say(line: str) -> None:
    """Prints a line on stderr."""
    if mesh.lead():
        terminal.console(stderr=True).print(terminal.visible(line), soft_wrap=True)


def display(what: Any) -> None:
    """Prints a table or another result on stdout."""
    if mesh.lead():
        terminal.console().print(what)


@contextlib.contextmanager
def progress(step: str) -> Iterator[Tell]:
    """Yields a function that shows what a step is at; print nothing else inside."""
    if not mesh.lead():
        yield lambda what, done=0, whole=0: None
    elif terminal.console(stderr=True).is_terminal:
        with _bar(step) as tell:
            yield tell
    else:
        with _lines(step, say) as tell:
            yield tell


@contextlib.contextmanager
def _bar(step: str) -> Iterator[Tell]:
    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn())
    with Progress(*columns, console=terminal.console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{step}: begins", total=None)

        def tell(what: str, done: int = 0, whole: int = 0) -> None:
            # without a whole the bar moves to and fro
            shown = terminal.visible(f"{step}: {what}")
            bar.update(task, description=shown, completed=done, total=whole or None)

        yield tell


@contextlib.contextmanager
def _lines(step: str, say: Callable[[str], None], every: float = EVERY) -> Iterator[Tell]:
    """Yields a function that says what it was told last, every so many seconds."""
    state = ("begins", 0, 0)
    started, over = time.monotonic(), threading.Event()

    def tell(what: str, done: int = 0, whole: int = 0) -> None:
        nonlocal state
        state = (what, done, whole)

    def watch() -> None:
        while not over.wait(every):
            what, done, whole = state
            share = f", {done / whole:.0%}" if whole else ""
            say(f"{step}: {what}{share}, {time.monotonic() - started:.0f} s")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield tell
    finally:
        over.set()
        watcher.join()
