"""Shows the progress of data preparation: as a bar on a terminal, as lines in a log."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import datetime
import functools
import sys
import time

from rich.progress import BarColumn, Progress, TextColumn

from lrl_jax import terminal

EVERY = 10.0  # seconds between lines of a log


@dataclasses.dataclass(frozen=True)
class State:
    """Describes the progress of one step of the preparation.

    Attributes:
      step: "read" while records are counted and compared, "pack" while rows are written.
      dataset: the dataset of the shard that was done last.
      done: shards that are done, of `shards` in all datasets.
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
    def line(self) -> str:
        """Returns the progress as one line of a log; the time left is estimated from the speed."""
        seconds = max(self.seconds, 1e-9)
        words = [f"{self.step} {self.dataset}".rstrip(), f"{self.done} of {self.shards} shards"]
        if self.documents:
            words.append(f"{self.documents:,} documents ({self.documents / seconds:,.0f}/s)")
        if self.bytes:
            words.append(f"{self.bytes / seconds / 1e6:,.1f} MB/s")
        if self.bytes and self.done < self.shards:
            left = seconds * (self.size - self.bytes) / self.bytes
            words.append(f"{datetime.timedelta(seconds=round(left))} left")
        return ", ".join(words)


Report = Callable[[State], None]


@contextlib.contextmanager
def shown() -> Iterator[Report]:
    """Yields a report for `jobs.prepare_all` that shows the progress on stderr."""
    console = terminal.console(stderr=True)
    if not sys.stderr.isatty():
        yield logged(functools.partial(console.print, soft_wrap=True))
        return
    words = TextColumn("{task.fields[words]}", markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), words)
    with Progress(*columns, console=console, transient=True) as bar:
        tasks = {}

        def report(state: State) -> None:
            if state.step not in tasks:
                tasks[state.step] = bar.add_task(f"data: {state.step}", words="")
            words = terminal.visible(state.line.removeprefix(f"{state.step} "))
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
