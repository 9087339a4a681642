"""Writes the metrics of a run: a JSON object for each step, trackers, and lines to watch."""

import collections
from collections.abc import Mapping
import contextlib
import dataclasses
import datetime
import json
import logging
import math
import sys
import time
from typing import Any

from etils import epath
import jax
import numpy as np

from lrl_jax import storage, terminal
from lrl_jax.data.feed.plan import Plan
from lrl_jax.devices import chips
from lrl_jax.devices.mesh import lead
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import goodput, learn
from lrl_jax.train.clock import Clock
from lrl_jax.train.trackers.board import Board
from lrl_jax.train.trackers.outside import Outside

log = logging.getLogger(__name__)

METRICS, SAMPLES, EVENTS = "metrics.jsonl", "samples.jsonl", "events.jsonl"
FILES = (METRICS, SAMPLES)
SPIKE = 3.0  # a loss of so many times the median of recent steps is said
USUAL = 10  # how many steps it takes to know what is usual


class Log(contextlib.AbstractContextManager["Log"]):
    """Writes metrics to files and to trackers; a context manager. Only process 0 writes.

    When a run resumes, lines of steps after `done` are removed, since the same steps will be
    written again. Events are never removed, because they record how long the repeated steps took.
    A line that is no record, whether a crash cut it short or a disk changed it, is set aside: it is
    named in a warning and moved to a file of its own (`metrics.jsonl.bad`). When a tracker fails,
    training continues without it.

    Args:
      folder: where FILES, EVENTS and tensorboard/ are written.
      done: how many steps of the run are done.
      total: how many it will have.
      began: when this process began, in seconds since 1970.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        settings: recipe_train.Train,
        done: int,
        total: int,
        began: float,
    ):
        self.folder = epath.Path(folder)
        self._every, self._total = settings.log_every, total
        self._pending: dict[str, list[str]] = {}
        self._lines = {name: storage.Lines(self.folder / name) for name in (*FILES, EVENTS)}
        self._progress = None
        self._trackers: list[Board | Outside] = []
        if lead():
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in (*FILES, EVENTS):
                _set_aside(self._lines[name])
            if done < self._total:
                before = read(self.folder / EVENTS), read(self.folder / METRICS)
                self.event("start", done, at=began, **goodput.left_behind(*before, done))
            for name in FILES:
                _drop_after(self._lines[name], done)
            if settings.tensorboard:
                self._trackers.append(Board(self.folder / "tensorboard", done))
            if settings.tracker != "none":
                self._trackers.append(Outside(settings.tracker, self.folder, done, settings))
            if sys.stderr.isatty():
                self._progress = _progress(done, self._total)

    def __exit__(self, kind, error, trace) -> None:
        self.flush()
        if lead() and kind is None:  # a stopped run keeps its parts and adds to them later
            for lines in self._lines.values():
                lines.join()
        if self._progress is not None:
            self._progress.stop()
        for tracker in self._trackers:
            tracker.close(ended=kind is None)

    def step(self, record: Mapping[str, Any], line: str) -> None:
        """Writes the metrics of one step; `line` is the same in words."""
        if not lead():
            return
        self.write(METRICS, record)
        for tracker in self._trackers:
            tracker.send(record)
        step = record["step"]
        if self._progress is not None:
            (task,), shown = self._progress.task_ids, terminal.visible(line)
            self._progress.update(task, completed=step, description=shown)
        if step % self._every == 0 or step == self._total or "spike" in record:
            self.flush()
            if self._progress is None:
                self.say(line)

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        """Adds a record to one of FILES; the record has a `step`."""
        assert name in FILES, name
        if lead():
            self._pending.setdefault(name, []).append(_dump(record))

    def event(self, name: str, step: int, **facts: Any) -> None:
        """Writes at once that the run has started, saved or stopped after `step` steps."""
        if lead():
            record = {"event": name, "at": time.time(), "step": step} | facts
            self._lines[EVENTS].add(_dump(record))

    def goodput(self) -> goodput.Goodput | None:
        """Returns the goodput of the run so far, over this process and earlier ones."""
        if not lead():
            return None
        self.flush()
        return goodput.measure(read(self.folder / EVENTS), read(self.folder / METRICS))

    def say(self, text: str) -> None:
        """Prints a line on the terminal."""
        text = terminal.visible(text)
        if self._progress is not None:
            self._progress.console.print(text)
        elif lead():
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def flush(self) -> None:
        """Writes all lines given so far to disk."""
        while self._pending:
            name, lines = self._pending.popitem()
            self._lines[name].add("".join(lines))


@dataclasses.dataclass(frozen=True)
class Dispatched:
    """Describes a step that was given to the devices."""

    step: int
    row: int  # the global number of its first row
    dataset_ids: np.ndarray  # for each of its rows, the index of the dataset in the plan's names
    stage: str
    waited: float  # seconds for which the loop waited for its rows


@dataclasses.dataclass
class StepRecorder:
    """Turns the metrics of a step, as devices return them, into a record and a line to log."""

    settings: recipe_train.Train
    cfg: llama.LlamaConfig
    plan: Plan
    length: int
    chips: int
    bytes_per_token: Mapping[str, float]  # bytes of a dataset per token that counts in the loss
    clock: Clock
    total: int  # how many steps the run will have

    def __post_init__(self):
        self._flops = learn.flops_by_stage(self.cfg, self.settings, self.length)
        self._peak = peak_flops(jax.devices()[0])
        self._seconds: collections.deque[float] = collections.deque(maxlen=50)
        self._losses: collections.deque[float] = collections.deque(maxlen=50)

    def __call__(self, at: Dispatched, metrics: Mapping[str, Any]) -> tuple[dict, str]:
        names, size = self.plan.names, self.bytes_per_token
        count = len(at.dataset_ids)  # the last rows of a batch can be padding
        nll = np.bincount(at.dataset_ids, metrics["nll_B"][:count], len(names))
        weight = np.bincount(at.dataset_ids, metrics["weight_B"][:count], len(names))
        losses = {n: nll[i] / weight[i] for i, n in enumerate(names) if weight[i] > 0}
        record = {
            "step": at.step,
            "stage": at.stage,
            "loss": float(metrics["loss"]) if losses else None,  # a mean of nothing is none
            "losses": losses,
            "bits_per_byte": {n: x / math.log(2) / size[n] for n, x in losses.items() if n in size},
            "grad_norm": float(metrics["grad_norm"]),
            "lr": {group: float(value) for group, value in metrics["lr"].items()},
            "applied": bool(metrics["applied"]),
            "skipped": int(metrics["skipped"]),
            "tokens": int(metrics["tokens"]),
            "rows": at.row + count,
            "epochs": self.plan.epochs(at.row + count),
        }
        if times := self._spike(record["loss"]):
            record["spike"] = times
        return record | self._speed(at, record["tokens"]), self._line(record)

    def _spike(self, loss: float | None) -> float:
        """Returns how many times the usual loss this one is, if that is SPIKE or more; else 0."""
        usual = float(np.median(self._losses)) if len(self._losses) >= USUAL else math.inf
        if loss is None or not math.isfinite(loss):
            return 0.0
        self._losses.append(loss)
        return round(loss / usual, 1) if SPIKE * usual <= loss else 0.0

    def _speed(self, at: Dispatched, tokens: int) -> dict[str, Any]:
        spent = self.clock.lap()
        seconds = sum(spent.values())
        self._seconds.append(seconds)
        rate = tokens / seconds
        stats = jax.local_devices()[0].memory_stats() or {}
        flops = self._flops[at.stage]
        return {
            "at": time.time(),
            "seconds": seconds,
            "spent": spent,
            "data_wait": at.waited,
            "tokens_per_second": rate,
            "tokens_per_second_per_chip": rate / self.chips,
            "mfu": self._peak and flops * rate / (self._peak * self.chips),
            "hbm_bytes": stats.get("peak_bytes_in_use"),
        }

    def _line(self, record: Mapping[str, Any]) -> str:
        usual = float(np.median([*self._seconds][1:] or self._seconds))  # the first one compiles
        left = datetime.timedelta(seconds=round(usual * (self.total - record["step"])))
        loss = "nothing to learn" if record["loss"] is None else f"loss {record['loss']:.4f}"
        words = [f"step {record['step']}/{self.total}", record["stage"], loss]
        words += [f"{name} {x:.3f} bits/byte" for name, x in record["bits_per_byte"].items()]
        words += [f"lr {max(record['lr'].values()):.3g}"]
        words += [f"{record['tokens'] / usual:,.0f} tokens/s", f"{left} left"]
        if not record["applied"]:
            words.append(f"SKIPPED: not finite ({record['skipped']} in a row)")
        if "spike" in record:
            words.append(f"SPIKE: {record['spike']} times the usual loss")
        return "  ".join(words)


def read(path: epath.PathLike) -> list[dict]:
    """Returns the records of a JSON-lines file, or of its parts; names bad lines in a warning."""
    records, bad = _read(epath.Path(path))
    for line in bad:
        log.warning("%s: %s; it is left out", path, line.why)
    return records


@dataclasses.dataclass(frozen=True)
class _BadLine:
    """Holds a line of a log that is no record, and which line it is and what is wrong with it."""

    content: bytes
    why: str


def _read(path: epath.Path) -> tuple[list[dict], list[_BadLine]]:
    records: list[dict] = []
    bad: list[_BadLine] = []
    number = 0
    for content in storage.read_parts(path):
        for line in content.split(b"\n"):
            number += 1
            if not line.strip():
                continue
            try:
                record = storage.parse_json(line, f"line {number}")
                _check(path.name, record)
                records.append(record)
            except ValueError as e:  # half an object, or one with a letter changed
                why = str(e).removeprefix(f"line {number}: ")
                bad.append(_BadLine(line, f"line {number} is no record ({why})"))
        number -= content.endswith(b"\n")  # what follows the last newline is no line
    return records, bad


def _check(name: str, record: Any) -> None:
    """Raises ValueError for a value that is no record of the file, or lacks what is read of it."""
    if not isinstance(record, dict):
        raise ValueError(f"want an object, got a {type(record).__name__}")
    step = record.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 1 << 53:
        raise ValueError(f"step={step!r:.40}")
    numbers = {"at", "seconds"} & record.keys()
    if name == EVENTS:
        if not isinstance(record.get("event"), str):
            raise ValueError(f"event={record.get('event')!r:.40}")
        numbers = {"at"} | ({"lost", "lost_seconds"} if record["event"] == "start" else set())
    for key in sorted(numbers):
        if not _is_number(record.get(key)):
            raise ValueError(f"{key}={record.get(key)!r:.40}")
    tables = {"spent", "epochs", "bits_per_byte", "losses", "lr"} & record.keys()
    tables |= {"spent"} if record.get("event") == "stop" else set()
    for key in sorted(tables):
        table = record.get(key)
        # a loss that was not finite is null
        if not isinstance(table, dict) or not all(
            value is None or _is_number(value) for value in table.values()
        ):
            raise ValueError(f"{key}={table!r:.40}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _set_aside(lines: storage.Lines) -> None:
    """Moves the lines of a file that are no records to a file beside it, and names them."""
    _, bad = _read(lines.path)
    if not bad:
        return
    aside = lines.path.with_name(f"{lines.path.name}.bad")
    before = aside.read_bytes() if aside.exists() else b""
    storage.write(aside, before + b"".join(line.content + b"\n" for line in bad))
    for line in bad:
        log.warning("%s: %s; it is set aside in %s", lines.path, line.why, aside.name)
    whole = b"\n".join(storage.read_parts(lines.path)).split(b"\n")
    removed = collections.Counter(line.content for line in bad)
    kept = []
    for line in whole:
        if removed[line]:
            removed[line] -= 1
        elif line.strip():
            kept.append(line + b"\n")
    lines.replace(b"".join(kept))


def peak_flops(device: jax.Device) -> float | None:
    """Returns the dense bfloat16 FLOP/s of a device; None when unknown, as for a CPU."""
    chip = chips.of(device)
    return chip.peak if chip else None


def _drop_after(lines: storage.Lines, done: int) -> None:
    """Removes the records of steps after `done`, and lines that were cut short."""
    kept = "".join(_dump(record) for record in read(lines.path) if record["step"] <= done)
    if kept.encode() != b"".join(storage.read_parts(lines.path)):
        lines.replace(kept)


def _dump(record: Mapping[str, Any]) -> str:
    return json.dumps(_plain(record), ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Returns a value that JSON can hold: None in place of NaN and infinities."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _progress(done: int, total: int) -> Any:
    from rich import progress

    bar = progress.Progress(
        progress.TextColumn("train"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.description}", markup=False),
        console=terminal.console(stderr=True),
    )
    bar.add_task("starting", total=total, completed=done)
    bar.start()
    return bar
