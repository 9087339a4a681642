"""Ends a run that stands still, and says where each of its threads stands."""

from collections.abc import Callable, Sequence
import contextlib
import faulthandler
import statistics
import sys
import tempfile
import threading
import time
from typing import Protocol

from etils import epath

from lrl_jax.devices import peers, signals

TIMES = 10  # how many median steps may pass without progress
LONGER = 6  # compiling, saving and making samples may take so many times as long
LONG = ("start", "compile", "checkpoint", "evaluate", "profile")


class Work(Protocol):
    """Describes what a watchdog looks at, which is the clock of a training."""

    @property
    def progress(self) -> tuple[str | None, int, int]:
        """Returns something that changes while the work goes on; first what it does now."""

    @property
    def gaps(self) -> Sequence[float]:
        """Returns the seconds that recent steps took."""


class Watchdog(contextlib.AbstractContextManager["Watchdog"]):
    """Ends the process when its work makes no progress for too long; a context manager.

    Too long is TIMES the median step, but at least `seconds`; LONGER times that for what is LONG.
    The stacks of all threads go to stderr and to `stacks-<process>.txt` in `folder`.

    Args:
      seconds: the shortest time; 0 means that nothing is watched.
      end: ends every process; given the exit code and the reason.
    """

    def __init__(
        self,
        work: Work,
        seconds: float,
        folder: epath.PathLike,
        process: int = 0,
        end: Callable[[int, str], None] | None = None,
    ):
        self._work, self._seconds = work, seconds
        self._path = epath.Path(folder) / f"stacks-{process}.txt"
        self._end = end or _end
        self._over = threading.Event()
        self._written = False
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Watchdog":
        if self._seconds:
            self._stack.enter_context(signals.at_end(self._at_end))
            self._thread.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._over.set()
        self._stack.close()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _watch(self) -> None:
        seen, since = self._work.progress, time.monotonic()
        while not self._over.wait(min(1.0, self._seconds / 10)):
            if (progress := self._work.progress) != seen:
                seen, since = progress, time.monotonic()
            waited, limit = time.monotonic() - since, self._limit(seen[0])
            if waited > limit:
                doing = f", in {seen[0]}" if seen[0] else ""
                self._at_end(peers.HUNG)
                self._end(
                    peers.HUNG,
                    f"no progress for {waited:.0f} s (train.stall_seconds allows {limit:.0f}{doing}"
                    f"); where each thread stands: {self._path}. Run the same command again: it "
                    "goes on from what is saved",
                )
                return

    def _limit(self, doing: str | None) -> float:
        gaps = list(self._work.gaps)
        limit = max(self._seconds, TIMES * statistics.median(gaps) if gaps else 0.0)
        return limit * LONGER if doing in LONG else limit

    def _at_end(self, code: int) -> None:
        """Writes the stacks; when one process stands still, those of all are wanted."""
        if code != peers.HUNG or self._written:
            return
        self._written = True
        with tempfile.TemporaryFile() as file:  # it writes to files of the system only
            faulthandler.dump_traceback(file)
            file.seek(0)
            stacks = file.read().decode(errors="replace")
        sys.stderr.write(stacks)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(stacks)


def _end(code: int, why: str) -> None:
    sys.stderr.write(f"{why}\n")
    peers.end(code, why)
    signals.end(code)
