"""Measures how many seconds a model takes for text, without those of compiling.

    with meter.timed():
        answers = generate.answers(...)
    meter.add(answers)
    meter.seconds_per_1000_characters

Characters are the same whatever the vocabulary is, as tokens are not.
"""

from collections.abc import Iterable, Iterator
import contextlib
import dataclasses
import functools
import time

import jax

# What jax reports of a program that it has not run before: tracing, lowering, compiling.
COMPILING = "/jax/core/compile/"


@dataclasses.dataclass
class Meter:
    """Counts seconds, and the characters that were read or written in them."""

    seconds: float = 0.0
    characters: int = 0

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Counts the seconds of the block, but for those in which jax compiled."""
        compiling = _compiling()
        started, compiled = time.perf_counter(), compiling[0]
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds += max(0.0, spent - (compiling[0] - compiled))

    def add(self, texts: Iterable[str]) -> None:
        """Counts the characters of texts that were read or written in the seconds counted."""
        self.characters += sum(map(len, texts))

    @property
    def seconds_per_1000_characters(self) -> float | None:
        """Returns the time of 1,000 characters; None where none were counted."""
        return 1000 * self.seconds / self.characters if self.characters else None


@functools.cache
def _compiling() -> list[float]:
    """Returns a list whose only item is the seconds that jax has compiled so far.

    What compiles at the same time on several threads counts several times.
    """
    total = [0.0]

    def listen(event: str, duration_secs: float, **unused: object) -> None:
        del unused
        if event.startswith(COMPILING):
            total[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    return total
