"""Shows the progress of data preparation: as a bar on a terminal, as lines in a log."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

EVERY = 10.0  # seconds between lines of a log


@dataclasses.dataclass(frozen=True)
class State:
    """Describes the progress of one step of the preparation.

    Attributes:
      step: "read" while records are counted and compared, "pack" while rows are written.
      dataset: the dataset of the shard that was done last.
      done: shards that are done, of `shards` in all datasets.
      documents: documents that are done.
      bytes: bytes of text in the shards that are done, of `size` bytes in all shards.
      seconds: how long the step has run.
    """

    step: str
    dataset: str
    done: int
    shards: int
    documents: int
    bytes: int
    size: int
    seconds: float

    @property
    def left(self) -> float | None:
        """Estimates the seconds left from the speed so far; None before a shard is done."""
        return self.seconds * (self.size - self.bytes) / self.bytes if self.bytes else None

    @property
    def line(self) -> str:
        """Returns the progress as one line of a log."""
        rate = self.documents / max(self.seconds, 1e-9)
        speed = self.bytes / max(self.seconds, 1e-9) / 1e6
        words = [f"{self.step} {self.dataset}".rstrip(), f"{self.done} of {self.shards} shards"]
        words += [f"{self.documents:,} documents ({rate:,.0f}/s)"] if self.documents else []
        words += [f"{speed:,.1f} MB/s"] if self.bytes else []
        if self.left and self.done < self.shards:
            words.append(f"{clock(self.left)} left")
        return ", ".join(words)


Report = Callable[[State], None]


def silent(state: State) -> None:
    """Takes the progress and does nothing with it."""


@contextlib.contextmanager
def shown() -> Iterator[Report]:
    """Yields a report for `jobs.prepare_all` that shows the progress on stderr."""
    if not sys.stderr.isatty():
        yield logged(print_line)
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        tasks = {}

        def report(state: State) -> None:
            if state.step not in tasks:
                tasks[state.step] = bar.add_task(f"data: {state.step}", words="")
            words = state.line.removeprefix(f"{state.step} ")
            bar.update(tasks[state.step], total=state.size, completed=state.bytes, words=words)

        yield report


def logged(say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Report:
    """Returns a report that says a line every EVERY seconds, and when a step is done."""
    last_line = clock()  # when it was said

    def report(state: State) -> None:
        nonlocal last_line
        if clock() - last_line >= EVERY or state.done == state.shards:
            last_line = clock()
            say(f"data: {state.line}")

    return report


def print_line(line: str) -> None:
    """Prints a line on stderr."""
    Console(stderr=True, highlight=False).print(line, soft_wrap=True)


def clock(seconds: float) -> str:
    """Formats seconds as hours, minutes and seconds.

    >>> clock(3725.4)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
