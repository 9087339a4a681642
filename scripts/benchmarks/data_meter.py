"""What every contestant of the data benchmark is measured with, in a process of its own.

    python scripts/benchmarks/data_meter.py seqio feed settings.json out.json

Runs one phase of one contestant on one core and writes what it found. Any Python that has the
contestant's packages will do: this file needs numpy and sentencepiece only.
"""

from collections.abc import Callable, Iterable, Iterator
import dataclasses
import importlib
import json
import os
from pathlib import Path
import resource
import statistics
import sys
import time
from typing import Any, NamedTuple

RUNS = 3  # of which the median counts
KEPT = 100  # batches whose languages are looked at
HANGUL = range(0xAC00, 0xD7A4)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a contestant is given.

    Attributes:
      texts: language -> text files, a document a line; `tiny`: small ones to warm up with.
      tokenizer: folder with the same tokenizer as tokenizer.model and tokenizer.json.
      scratch: a folder of the contestant's own; what `prepare` leaves there `feed` finds.
      seconds: of one run.
      rows: files of instructions, for the comparison of scale.
      started: time.time() before this process was.
    """

    texts: dict[str, list[str]]
    tiny: dict[str, list[str]]
    tokenizer: str
    scratch: str
    length: int
    batch: int
    seconds: float
    cpu: int
    started: float
    rows: list[str]

    @property
    def model(self) -> str:
        return str(Path(self.tokenizer) / "tokenizer.model")


class Batch(NamedTuple):
    """Tokens [B, T] and segments [B, T]: 0 is padding, documents are 1, 2, ..."""

    tokens: Any
    segments: Any


class Took(NamedTuple):
    """Seconds of wall time and of CPU time, of all threads and processes that ended."""

    wall: float
    cpu: float


class Clock:
    """Measures from when it was made."""

    def __init__(self):
        self._wall, self._cpu = time.perf_counter(), _cpu()

    def took(self) -> Took:
        return Took(time.perf_counter() - self._wall, _cpu() - self._cpu)


def _cpu() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


# ---------------------------------------------------------------------------- preparing
def prepared(tokens: int, rows: int, took: Took, setting: Setting) -> dict:
    """What is said of a language that was made into rows."""
    fill = tokens / (rows * setting.length)
    return {"tokens": tokens, "rows": rows, "fill": fill, "wall": took.wall, "cpu": took.cpu}


def passed(
    open_pass: Callable[[list[str]], Iterable], read: Callable[[Any], Batch], setting: Setting
) -> dict:
    """What is said of languages that are made into rows while they are read, once and whole.

    Args:
      open_pass: paths -> batches; it is part of the time, and was warmed up with small files.
    """
    found = {}
    for paths in setting.tiny.values():
        _pass(open_pass(paths), read)
    for language, paths in setting.texts.items():
        clock = Clock()
        tokens, rows = _pass(open_pass(paths), read)
        found[language] = prepared(tokens, rows, clock.took(), setting)
    return found


def _pass(batches: Iterable, read: Callable[[Any], Batch]) -> tuple[int, int]:
    tokens = rows = 0
    for one in batches:
        batch = read(one)
        tokens += int((batch.segments > 0).sum())
        rows += len(batch.segments)
    return tokens, rows


# ---------------------------------------------------------------------------- feeding
def fed(open_feed: Callable[[], Iterator], read: Callable[[Any], Batch], setting: Setting) -> dict:
    """Tokens a second of an endless feed, and what its batches are like."""
    imported = time.time() - setting.started
    feed = open_feed()
    kept = [_copied(read(next(feed)))]
    first, first_cpu = time.time() - setting.started, _cpu()
    _run(feed, read, setting.seconds / 2, kept)  # to warm up
    runs = [_run(feed, read, setting.seconds, kept) for _ in range(RUNS)]
    rows = sum(run["rows"] for run in runs)
    return {
        "imported": imported,
        "first": first,
        "first_cpu": first_cpu,
        "wall": statistics.median(run["tokens"] / run["took"].wall for run in runs),
        "cpu": statistics.median(run["tokens"] / run["took"].cpu for run in runs),
        "runs": [run["tokens"] / run["took"].wall for run in runs],
        "fill": sum(run["tokens"] for run in runs) / (rows * setting.length),
        "korean": korean(kept, setting.model),
    }


def _run(feed: Iterator, read: Callable, seconds: float, kept: list[Batch]) -> dict:
    tokens = rows = 0
    clock = Clock()
    end = time.perf_counter() + seconds
    while not tokens or time.perf_counter() < end:
        batch = read(next(feed))
        tokens += int((batch.segments > 0).sum())
        rows += len(batch.segments)
        if len(kept) < KEPT:
            kept.append(_copied(batch))
    return {"tokens": tokens, "rows": rows, "took": clock.took()}


def _copied(batch: Batch) -> Batch:
    import numpy as np

    return Batch(np.array(batch.tokens, np.int32), np.array(batch.segments, np.int32))


def korean(batches: Iterable[Batch], model: str) -> float:
    """The share of tokens in documents that have Hangul in them."""
    import numpy as np
    import sentencepiece

    decode = sentencepiece.SentencePieceProcessor(model_file=model).decode
    found = total = 0
    for batch in batches:
        for tokens, segments in zip(batch.tokens, batch.segments, strict=True):
            for segment in np.unique(segments[segments > 0]):
                ids = tokens[segments == segment].tolist()
                total += len(ids)
                found += len(ids) * any(ord(letter) in HANGUL for letter in decode(ids))
    return found / total


def repeated(before: Iterable[Batch], after: Iterable[Batch]) -> float:
    """The share of documents in `after` that were in `before` too."""
    seen = set(_documents(before))
    found = [document in seen for document in _documents(after)]
    return sum(found) / len(found)


def _documents(batches: Iterable[Batch]) -> Iterator[bytes]:
    """The tokens of every segment."""
    import numpy as np

    for batch in batches:
        for tokens, segments in zip(*map(np.asarray, batch), strict=True):
            yield from (tokens[segments == s].tobytes() for s in range(1, segments.max() + 1))


# ---------------------------------------------------------------------------- one phase
def main() -> None:
    """Pins this process and every process and thread it makes to one core, then runs."""
    contestant, phase, given, out = sys.argv[1:]
    setting = Setting(**json.loads(Path(given).read_text()))
    os.sched_setaffinity(0, {setting.cpu})
    module, name = contestant.split(":")
    try:
        phases = getattr(importlib.import_module(module), name)
        found = phases[phase](setting) if phase in phases else {}
    except ImportError as e:
        found = {"missing": str(e)}
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    Path(out).write_text(json.dumps(found and found | {"rss": peak * 1024}))


if __name__ == "__main__":
    main()
