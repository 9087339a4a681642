"""Writes the metrics of a run: a JSON object for each step, TensorBoard, and lines to watch."""

import collections
from collections.abc import Collection, Mapping
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
from flax import traverse_util
import jax
import numpy as np

from lrl_jax import storage
from lrl_jax.data.feed.plan import Plan
from lrl_jax.devices import chips
from lrl_jax.devices.mesh import lead
from lrl_jax.model import llama, quantize
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import goodput, learn
from lrl_jax.train.clock import Clock

log = logging.getLogger(__name__)

METRICS, SAMPLES, EVENTS = "metrics.jsonl", "samples.jsonl", "events.jsonl"
FILES = (METRICS, SAMPLES)
SPIKE = 3.0  # a loss of so many times the median of recent steps is said
USUAL = 10  # how many steps it takes to know what is usual


class Log(contextlib.AbstractContextManager["Log"]):
    """Writes metrics to files and to TensorBoard; a context manager. Only process 0 writes.

    When a run resumes, lines of steps after `done` are removed, since the same steps will be
    written again; so is a line that a crash cut short. Events are never removed, because they
    record how long the repeated steps took. When TensorBoard fails, training continues without it.

    Args:
      folder: where FILES, EVENTS and tensorboard/ are written.
      done: how many steps of the run are done.
      began: when this process began, in seconds since 1970.
    """

    def __init__(
        self, folder: epath.PathLike, settings: recipe_train.Train, done: int, began: float
    ):
        self.folder = epath.Path(folder)
        self._every, self._total = settings.log_every, settings.steps
        self._pending: dict[str, list[str]] = {}
        self._lines = {name: storage.Lines(self.folder / name) for name in (*FILES, EVENTS)}
        self._board = self._progress = None
        if lead():
            self.folder.mkdir(parents=True, exist_ok=True)
            if done < self._total:
                before = read(self.folder / EVENTS), read(self.folder / METRICS)
                self.event("start", done, at=began, **goodput.left_behind(*before, done))
            for name in FILES:
                _drop_after(self._lines[name], done)
            if settings.tensorboard:
                self._board = _board(self.folder / "tensorboard", done)
            if sys.stderr.isatty():
                self._progress = _progress(done, self._total)

    def __exit__(self, kind, error, trace) -> None:
        self.flush()
        if lead() and kind is None:  # a stopped run keeps its parts and adds to them later
            for lines in self._lines.values():
                lines.join()
        if self._progress is not None:
            self._progress.stop()
        if self._board is not None:
            self._board.close()

    def step(self, record: Mapping[str, Any], line: str) -> None:
        """Writes the metrics of one step; `line` is the same in words."""
        if not lead():
            return
        self.write(METRICS, record)
        self._to_board(record)
        step = record["step"]
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=step, description=line)
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
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
        elif lead():
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def flush(self) -> None:
        """Writes all lines given so far to disk."""
        while self._pending:
            name, lines = self._pending.popitem()
            self._lines[name].add("".join(lines))

    def _to_board(self, record: Mapping[str, Any]) -> None:
        if self._board is None:
            return
        try:
            for name, value in traverse_util.flatten_dict(dict(record), sep="/").items():
                if isinstance(value, int | float) and name != "at":
                    self._board.add_scalar(name, value, record["step"])
        except Exception as e:  # no failure of a tracker may end a run
            log.warning("TensorBoard is off from here: %s", e)
            self._board = None


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

    def __post_init__(self):
        names, self._flops = [*llama.abstract(self.cfg)], {}
        for stage in self.settings.stages:
            learns = learn.trainable(learn.groups(stage.learn, names))
            self._flops[stage.name] = flops_per_token(self.cfg, self.length, learns)
        self._peak = peak_flops(jax.devices()[0])
        self._seconds: collections.deque[float] = collections.deque(maxlen=50)
        self._losses: collections.deque[float] = collections.deque(maxlen=50)

    def __call__(self, at: Dispatched, metrics: Mapping[str, Any]) -> tuple[dict, str]:
        names, size = self.plan.names, self.bytes_per_token
        nll = np.bincount(at.dataset_ids, metrics["nll_B"], len(names))
        weight = np.bincount(at.dataset_ids, metrics["weight_B"], len(names))
        losses = {n: nll[i] / weight[i] for i, n in enumerate(names) if weight[i] > 0}
        record = {
            "step": at.step,
            "stage": at.stage,
            "loss": float(metrics["loss"]),
            "losses": losses,
            "bits_per_byte": {n: x / math.log(2) / size[n] for n, x in losses.items() if n in size},
            "grad_norm": float(metrics["grad_norm"]),
            "lr": {group: float(value) for group, value in metrics["lr"].items()},
            "applied": bool(metrics["applied"]),
            "skipped": int(metrics["skipped"]),
            "tokens": int(metrics["tokens"]),
            "rows": at.row + len(at.dataset_ids),
            "epochs": self.plan.epochs(at.row + len(at.dataset_ids)),
        }
        if times := self._spike(record["loss"]):
            record["spike"] = times
        return record | self._speed(at, record["tokens"]), self._line(record)

    def _spike(self, loss: float) -> float:
        """Returns how many times the usual loss this one is, if that is SPIKE or more; else 0."""
        usual = float(np.median(self._losses)) if len(self._losses) >= USUAL else math.inf
        if math.isfinite(loss):
            self._losses.append(loss)
        return round(loss / usual, 1) if SPIKE * usual <= loss < math.inf else 0.0

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
        total = self.settings.steps
        usual = float(np.median([*self._seconds][1:] or self._seconds))  # the first one compiles
        left = datetime.timedelta(seconds=round(usual * (total - record["step"])))
        words = [f"step {record['step']}/{total}", record["stage"], f"loss {record['loss']:.4f}"]
        words += [f"{name} {x:.3f} bits/byte" for name, x in record["bits_per_byte"].items()]
        words += [f"lr {max(record['lr'].values()):.3g}"]
        words += [f"{record['tokens'] / usual:,.0f} tokens/s", f"{left} left"]
        if not record["applied"]:
            words.append(f"SKIPPED: not finite ({record['skipped']} in a row)")
        if "spike" in record:
            words.append(f"SPIKE: {record['spike']} times the usual loss")
        return "  ".join(words)


def flops_per_token(
    cfg: llama.LlamaConfig, length: int, learns: Collection[str] | None = None
) -> float:
    """Returns the FLOPs of training on one token, in rows of `length`, from which MFU is computed.

    Each weight of a matrix product counts 6: 2 in the forward pass, 2 for the gradient of the
    product's input and 2 for the gradient of the weight. A frozen weight has no gradient and counts
    4; `learns` names the others, None means all. Attention counts what the mask leaves, half of the
    row or the window (PaLM, arXiv 2204.02311, appendix B). Recomputation is not counted.
    """
    flops = 12 * cfg.seen(length) * cfg.num_heads * cfg.head_width
    for name, leaf in llama.abstract(cfg).items():
        looked_up = name == "embed_VD" and not cfg.tie_embeddings
        if not (looked_up or quantize.is_scale(name)) and learn.is_matrix(name):
            flops += (6 if learns is None or name in learns else 4) * math.prod(leaf.shape)
    return flops


def read(path: epath.PathLike) -> list[dict]:
    """Returns the records of a JSON-lines file, or of its parts; skips lines that are cut short."""
    records = []
    for content in storage.read_parts(path):
        for line in filter(None, content.split(b"\n")):
            try:
                records.append(json.loads(line))
            except ValueError:  # half an object, or half a character
                log.warning("%s: dropped a line that was cut short", path)
    return records


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


def _board(folder: epath.Path, done: int) -> Any:
    try:
        import tensorboardX

        return tensorboardX.SummaryWriter(str(folder), purge_step=done + 1)
    except Exception as e:  # no failure of a tracker may end a run
        log.warning("no TensorBoard: %s", e)
        return None


def _progress(done: int, total: int) -> Any:
    from rich import console, progress

    bar = progress.Progress(
        progress.TextColumn("train"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.description}", markup=False),
        console=console.Console(stderr=True),
    )
    bar.add_task("starting", total=total, completed=done)
    bar.start()
    return bar
