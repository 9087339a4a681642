"""Measures how much time a run spends computing, and how much waiting, by what it waits for."""

import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib
import queue
import threading
import time

import jax

COMPUTE, OTHER = "compute", "other"
# What devices can wait for; `start` is restoring a checkpoint or making the first weights.
WAITS = ("start", "compile", "data", "checkpoint", "evaluate", "profile")
KINDS = (COMPUTE, *WAITS, OTHER)

Span = tuple[float, float]


class Clock(contextlib.AbstractContextManager["Clock"]):
    """Measures the time between laps, divided into KINDS; a context manager.

    Time in which a step runs on the devices is `compute`, whatever the host does meanwhile. Time in
    which no step runs counts for what the host was doing, or as `other`.

    Args:
      now: returns the time in seconds, counted from any moment.

    Attributes:
      progress: what the host is doing (None: nothing but steps), and numbers that rise with every
        block of `doing` and every step that is done. While a run goes on, it changes.
      gaps: seconds between steps that were done, of the last 50.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self._now = now
        self._lap = self._ready = now()
        self._blocks = self._steps = 0
        self.gaps: collections.deque[float] = collections.deque(maxlen=50)
        self._spans: list[tuple[str, float, float]] = []
        self._open: tuple[str, float] | None = None
        self._lock = threading.Lock()
        self._running: list[list[float]] = []  # a step: [dispatched], later [dispatched, ready]
        self._asked: queue.SimpleQueue = queue.SimpleQueue()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="clock")
        self._watcher.start()

    def __exit__(self, kind, error, trace) -> None:
        self._asked.put(None)

    @property
    def progress(self) -> tuple[str | None, int, int]:
        doing = self._open
        return doing and doing[0], self._blocks, self._steps

    @contextlib.contextmanager
    def doing(self, kind: str) -> Iterator[None]:
        """Counts the time in the block as waiting for `kind`, or for that of a block around it."""
        assert kind in WAITS, kind
        if self._open is not None:
            yield
            return
        self._open = kind, self._now()
        self._blocks += 1
        try:
            yield
        finally:
            self._spans.append((*self._open, self._now()))
            self._open = None
            self._blocks += 1

    def dispatched(self, result: jax.Array) -> None:
        """Records that a step was given to the devices; it is done when `result` is ready."""
        step = [self._now()]
        with self._lock:
            self._running.append(step)
        self._asked.put((step, result))

    def lap(self) -> dict[str, float]:
        """Returns the seconds of each kind since the last lap; they sum to the time that passed."""
        now = self._now()
        if self._open is not None:  # the rest of this block counts in the next lap
            kind, start = self._open
            self._spans.append((kind, start, now))
            self._open = kind, now
        with self._lock:
            steps = [tuple(step) for step in self._running]
            self._running = [step for step in self._running if len(step) == 1]
        out = divide((self._lap, now), busy(steps, now), self._spans)
        self._lap, self._spans = now, []
        return out

    def _watch(self) -> None:
        while (asked := self._asked.get()) is not None:
            step, result = asked
            with contextlib.suppress(Exception):  # the training loop sees the same error
                jax.block_until_ready(result)
            with self._lock:
                step.append(self._now())
                self.gaps.append(step[1] - max(step[0], self._ready))
                self._ready, self._steps = step[1], self._steps + 1
            del asked, result


def busy(steps: Sequence[Sequence[float]], now: float) -> list[Span]:
    """Returns the spans of time in which devices ran a step; they run one step at a time, in order.

    A step is the time it was dispatched and, if it is done, the time its result was ready.

    >>> busy([(0.0, 2.0), (1.0, 3.0), (5.0,), (6.0,)], now=7.0)
    [(0.0, 2.0), (2.0, 3.0), (5.0, 7.0)]
    """
    out: list[Span] = []
    free = 0.0
    for start, *ready in steps:
        end = ready[0] if ready else now
        if (begin := max(start, free)) < end:
            out.append((begin, end))
        free = max(free, end)
    return out


def divide(
    window: Span, running: Sequence[Span], waits: Sequence[tuple[str, float, float]]
) -> dict[str, float]:
    """Divides the window into seconds by KINDS; kinds of zero length are left out.

    >>> divide((0.0, 10.0), [(1.0, 4.0)], [("data", 3.0, 6.0), ("checkpoint", 8.0, 9.5)])
    {'compute': 3.0, 'data': 2.0, 'checkpoint': 1.5, 'other': 3.5}
    """
    out = dict.fromkeys(KINDS, 0.0)
    out[COMPUTE] = sum(_shared(window, span) for span in running)
    for kind, start, end in waits:
        inside = max(start, window[0]), min(end, window[1])
        waited = max(0.0, inside[1] - inside[0])
        out[kind] += waited - sum(_shared(inside, span) for span in running)
    out[OTHER] = max(0.0, window[1] - window[0] - sum(out.values()))
    return {kind: seconds for kind, seconds in out.items() if seconds > 0}


def _shared(first: Span, second: Span) -> float:
    return max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
