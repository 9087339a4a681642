"""Collects requests to save or to stop a run, from signals, the file RUN/SAVE and the clock."""

import os
import signal
import socket
import sys
import threading
import time

from etils import epath
import jax

NOTHING, SAVE, STOP = 0, 1, 2  # what a process asks all processes to do; the largest wins
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
LOOK_SECONDS = 10.0  # how often RUN/SAVE is looked for on an object store


class Asks:
    """Collects requests from signals, the file RUN/SAVE and the clock; a context manager.

    All processes save at the same step because each passes its request into the training step,
    which returns the maximum over all processes.
    """

    def __init__(self, file: epath.Path, minutes: float):
        self._file, self._seconds = file, 60 * minutes
        self._stop = self._asked = False
        self._saved = self._looked = time.monotonic()

    def __enter__(self) -> "Asks":
        self._inbox, self._outbox = socket.socketpair()
        self._outbox.setblocking(False)
        # Python runs signal handlers in the main thread, which may be busy compiling or hang in a
        # collective. The wakeup socket gets its byte at once, and a thread reads it.
        self._before = {s: signal.signal(s, lambda *_: None) for s in SIGNALS}
        self._wakeup = signal.set_wakeup_fd(self._outbox.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, daemon=True, name="signals").start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._outbox.close()

    def now(self) -> int:
        """Returns NOTHING, SAVE or STOP; SAVE is returned once, until `saved` is called."""
        if self._stop:
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

    def _watch(self) -> None:
        with self._inbox:
            while data := self._inbox.recv(1):
                if data[0] not in SIGNALS:
                    continue
                if self._stop:
                    os._exit(128 + data[0])
                self._stop = True
                name = signal.Signals(data[0]).name
                sys.stderr.write(f"{name}: saving, then stopping; once more stops at once\n")
