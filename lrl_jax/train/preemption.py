"""Collects requests to save or to stop a run, from signals, the file RUN/SAVE and the clock."""

import contextlib
import time

from etils import epath
import jax

from lrl_jax.devices import signals

NOTHING, SAVE, STOP = 0, 1, 2  # what a process asks all processes to do; the largest wins
LOOK_SECONDS = 10.0  # how often RUN/SAVE is looked for on an object store


class Asks:
    """Collects requests from signals, the file RUN/SAVE and the clock; a context manager.

    All processes save at the same step because each passes its request into the training step,
    which returns the maximum over all processes.
    """

    def __init__(self, file: epath.Path, minutes: float):
        self._file, self._seconds = file, 60 * minutes
        self._asked = False
        self._saved = self._looked = time.monotonic()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Asks":
        self._signals = self._stack.enter_context(signals.listening())
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._stack.__exit__(kind, error, trace)

    def defer(self) -> None:
        """Lets signals wait from here on, because there is something to save before stopping."""
        self._stack.enter_context(signals.deferred())

    def now(self) -> int:
        """Returns NOTHING, SAVE or STOP; SAVE is returned once, until `saved` is called."""
        if self._signals.stop:
            return STOP
        if jax.process_index() or self._asked:
            return NOTHING
        due = 0 < self._seconds < time.monotonic() - self._saved
        self._asked = due or self._found()
        return SAVE if self._asked else NOTHING

    def saved(self) -> None:
        """Records that a save has begun: restarts the clock and removes the file."""
        if jax.process_index() == 0:
            self._file.unlink(missing_ok=True)
        self._asked, self._saved = False, time.monotonic()

    def _found(self) -> bool:
        remote = "://" in str(self._file)
        if remote and time.monotonic() - self._looked < LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        return self._file.exists()
