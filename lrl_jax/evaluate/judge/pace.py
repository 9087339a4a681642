"""Keeps requests to so many a minute, and to so many tokens a minute, over all threads."""

from collections.abc import Callable
import threading
import time

MINUTE = 60.0


class Pace:
    """Makes whoever asks too soon wait: each request and each token takes its share of a minute.

    Args:
      requests, tokens: most of a minute; 0: as many as one likes.
    """

    def __init__(
        self,
        requests: int = 0,
        tokens: int = 0,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._seconds = (MINUTE / requests if requests else 0, MINUTE / tokens if tokens else 0)
        self._free = [0.0, 0.0]  # when the next request, and the next token, may be sent
        self._lock = threading.Lock()
        self._now, self._sleep = now, sleep

    def wait_request(self) -> None:
        """Waits until one more request may be sent."""
        self._wait(0, 1)

    def wait_tokens(self, count: int) -> None:
        """Waits until a request of so many tokens may be sent."""
        self._wait(1, count)

    def _wait(self, which: int, count: int) -> None:
        with self._lock:  # reserves; others wait behind this one
            start = max(self._now(), self._free[which])
            self._free[which] = start + count * self._seconds[which]
        if (seconds := start - self._now()) > 0:
            self._sleep(seconds)
