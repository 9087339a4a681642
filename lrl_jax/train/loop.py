"""Runs the training loop: dispatches steps, logs, saves when asked, and resumes exactly.

    state = train(recipe.train, cfg, params, mesh, stream, run / "train")

A run that is killed at any moment and started again ends with the same bits as one that was never
killed. A step is logged after the next one was dispatched, so devices never wait for the log.

The clock of a run is how many rows it has read. Ends of stages, learning rates, and when to save
follow from it, so that the batch size may change (docs/decisions/0017-rows-are-the-clock.md).
"""

import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import itertools
import logging
import time
from typing import Any, Protocol

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from lrl_jax.data.feed import batches as cuts
from lrl_jax.data.feed.plan import Plan, changes, compatible
from lrl_jax.data.feed.stream import Prefetch
from lrl_jax.devices.mesh import check_batch, place, said_by_all, said_by_each
from lrl_jax.devices.watchdog import Watchdog
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import adapt, goodput, learn, optimizer
from lrl_jax.train.checkpoint import CheckpointMismatchError, Checkpoints
from lrl_jax.train.clock import Clock
from lrl_jax.train.digest import not_finite
from lrl_jax.train.log import SAMPLES, Dispatched, Log, StepRecorder
from lrl_jax.train.moments import Params
from lrl_jax.train.preemption import NOTHING, STOP, Asks
from lrl_jax.train.step import Metrics, State, Step, make_step
from lrl_jax.train.trace import Profile

log = logging.getLogger(__name__)

Sample = Callable[[Params, int], Sequence[Mapping[str, Any]]]


class Preempted(Exception):  # noqa: N818 (nothing went wrong)
    """Reports that the run was asked to stop and has saved.

    The command line exits with status 75, which means that the same command should be run again.
    """

    exit_code = 75
    together = True  # every process raises it, after the same step

    def __init__(self, step: int):
        super().__init__(f"stopped as asked; step {step} is saved: run again to go on")
        self.step = step


class DivergedError(RuntimeError):
    """Reports that too many steps in a row had a loss or gradient that is not finite."""

    exit_code = 7
    together = True


class BatchStream(Protocol):
    """Describes what the loop needs of a source of batches, such as `data.feed.stream.Stream`."""

    batch_size: int
    sequence_length: int
    plan: Plan

    def prefetch(self, start_row: int, ends: Sequence[int]) -> Prefetch:
        """Yields (row, this process's share of the batch there) from `start_row` to the last end.

        Batches are cut as `batches.spans` says. All have `batch_size` rows, the last ones padding
        alone where a batch reads fewer.
        """

    def dataset_ids(self, g: int, count: int) -> np.ndarray:
        """Returns the index in `plan.names` of the dataset of each of `count` rows from `g` on."""


def train(
    settings: recipe_train.Train,
    cfg: llama.LlamaConfig,
    params: Callable[[], Params],
    mesh: jax.sharding.Mesh,
    stream: BatchStream,
    folder: epath.PathLike,
    *,
    param_dtype: str = "float32",
    new_rows: np.ndarray | None = None,
    bytes_per_token: Mapping[str, float] | None = None,
    sample: Sample | None = None,
) -> State:
    """Trains from the newest verified checkpoint, or from `params()`; returns the last state.

    Call it in the main thread. SIGTERM, SIGINT, SIGUSR1 and a file SAVE beside `folder` make every
    process save the same step; a second signal ends the process at once.

    Args:
      params: makes the starting parameters, placed by `mesh.param_shardings`.
      folder: the run's train/ folder; gets checkpoints/, metrics.jsonl, samples.jsonl,
        events.jsonl, tensorboard/ and profile/.
      new_rows: bool [padded vocabulary], true for rows of new tokens.
      bytes_per_token: for each dataset, bytes of text per token that counts in the loss.
      sample: called every `sample_every` steps; returns records {prompt, text} to log and show.

    Raises:
      Preempted: the run was asked to stop, and has saved.
      DivergedError: `max_skipped` steps in a row were not finite.
      ValueError: recipe, checkpoint and data do not fit together.
    """
    began, clock = time.time(), Clock()
    folder = epath.Path(folder)
    check_batch(mesh.shape, stream.batch_size, settings.accumulate)
    trace = Profile(settings.traced(), folder / "profile")
    table = learn.phases(settings.stages)
    if new_rows is None:
        new_rows = np.zeros(cfg.padded_vocab_size, bool)
    if new_rows.any():
        adapt.refuse_idle_rows(cfg, settings)
    steps = [make_step(cfg, phase, settings, mesh, param_dtype, new_rows) for phase in table]
    length, chips = stream.sequence_length, mesh.devices.size
    with contextlib.ExitStack() as stack:
        stack.enter_context(clock)
        process = jax.process_index()
        stack.enter_context(Watchdog(clock, settings.stall_seconds, folder, process))
        stack.enter_context(jax.set_mesh(mesh))
        asks = stack.enter_context(Asks(folder.parent / "SAVE", settings.save.minutes))
        checkpoints = stack.enter_context(Checkpoints(folder / "checkpoints", settings.save.keep))
        with clock.doing("start"):
            state, done, row = _resume(checkpoints, table, steps, stream, settings)
            if state is None:
                state = steps[0].begin(params(), jnp.int32(0), jnp.int32(0))
        total = done + cuts.count(row, settings.ends, stream.batch_size)
        bytes_each = bytes_per_token or {}
        report = StepRecorder(settings, cfg, stream.plan, length, chips, bytes_each, clock, total)
        out = stack.enter_context(Log(folder, settings, done, total, began))
        batches = stack.enter_context(stream.prefetch(row, settings.ends))
        stack.enter_context(trace)
        run = _Run(
            settings, mesh, stream, checkpoints, asks, out, report, sample, clock, trace,
            state, done, row, skipping_from=row,
        )  # fmt: skip
        if done < total:
            stack.callback(lambda: out.event("stop", run.done, spent=clock.lap()))
        for phase, step in zip(table, steps, strict=True):
            run.phase(phase, step, batches)
        if done < total and (summary := out.goodput()):
            out.say(goodput.line(summary))
        return run.state


def _resume(checkpoints, table, steps, stream, settings) -> tuple[State | None, int, int]:
    """Returns the newest verified state, the steps done, and the next row; None, 0, 0 at first."""
    unit = settings.rows_per_step

    def abstract(meta: Mapping[str, Any]) -> State:
        row, end = meta["data"]["next_row"], settings.ends[-1]
        if row > end:
            raise CheckpointMismatchError(
                f"{checkpoints.folder} stands at step {meta['step']}, row {row:,}; the recipe ends "
                f"at row {end:,}, after {settings.steps} steps of {unit} rows: give the recipe "
                "another name, or add steps"
            )
        _check_clocks(checkpoints.folder, meta)
        optimizer.check_same(meta["train"], settings)
        adapt.check_same(meta["train"], settings)
        optimizer.check_rows(meta["train"], settings, row, [*steps[0].abstract["params"]])
        return steps[learn.phase_at(table, -(-row // unit))].abstract

    restored = checkpoints.restore(abstract)
    if restored is None:
        checkpoints.put_aside(after=-1)
        return None, 0, 0
    data = restored.meta["data"]
    old = Plan.from_json(data["plan"])
    fits, why = compatible(old, stream.plan, data["next_row"])
    if not fits:
        raise CheckpointMismatchError(
            f"{checkpoints.folder}, step {restored.step}: the data changed under the run: {why}"
            + f". Steps count {unit} rows (train.step_rows)" * (stream.batch_size != unit)
        )
    checkpoints.put_aside(after=restored.step)
    for change in _changes(_with_clock(restored.meta["train"]), _saved(settings), "train"):
        log.warning("resuming with another setting: %s", change)
    if stream.batch_size != unit:
        left = cuts.count(data["next_row"], settings.ends, stream.batch_size)
        log.warning(
            "batches have %d rows; steps of the recipe count %d (train.step_rows), so that every "
            "stage reads its own rows to the end: %d batches are left",
            stream.batch_size, unit, left,
        )  # fmt: skip
    for change in changes(old, stream.plan, data["next_row"]):
        log.warning("resuming with another plan: %s", change)
    log.info("resuming from step %d, row %d", restored.step, data["next_row"])
    return restored.state, restored.step, data["next_row"]


def _saved(settings: recipe_train.Train) -> dict[str, Any]:
    """Returns the settings that a checkpoint keeps; what only watches a training is not kept."""
    return _with_clock(settings.model_dump(mode="json", exclude={*recipe_train.WATCHING}))


def _with_clock(train: Mapping[str, Any]) -> dict[str, Any]:
    return {**train, "step_rows": recipe_train.saved_rows_per_step(train)}


def _check_clocks(folder: epath.Path, meta: Mapping[str, Any]) -> None:
    """Refuses a checkpoint of earlier versions whose stage by steps is another than by rows.

    They counted data in rows and everything else in steps, also after the batch size had changed.
    """
    train, row = meta["train"], meta["data"]["next_row"]
    if train.get("step_rows"):
        return
    ends = [*itertools.accumulate(stage["steps"] for stage in train["stages"])]
    by_steps = bisect.bisect_left(ends, meta["step"])
    by_rows = bisect.bisect_left([end * train["batch_size"] for end in ends], row)
    if by_steps != by_rows:
        names = [stage["name"] for stage in train["stages"]]
        raise CheckpointMismatchError(
            f"{folder}, step {meta['step']}: an earlier version changed the batch size under way, "
            f"so that it learns as in stage {names[by_steps]!r} and reads as in stage "
            f"{names[by_rows]!r}. Begin again: give the recipe another name, or use "
            "--discard-training"
        )


def _changes(old: Any, new: Any, path: str) -> Iterator[str]:
    """Yields a line for each difference between two trees of plain data."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _changes(old.get(key), new.get(key), f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, pair in enumerate(zip(old, new, strict=True)):
            yield from _changes(*pair, f"{path}.{i}")
    elif old != new:
        yield f"{path} was {old}, is {new}"


@dataclasses.dataclass
class _Run:
    """Holds the state of a run between steps, and the objects its steps use."""

    settings: recipe_train.Train
    mesh: jax.sharding.Mesh
    stream: BatchStream
    checkpoints: Checkpoints
    asks: Asks
    log: Log
    report: StepRecorder
    sample: Sample | None
    clock: Clock
    trace: Profile
    state: State
    done: int
    row: int
    skipping_from: int  # the first row of the steps in a row that were not finite
    last_size: int = 0  # rows of the batch that was dispatched last
    unread: tuple[Dispatched, Metrics] | None = None
    first: bool = True  # no step was dispatched since this process began

    def phase(self, phase: learn.Phase, step: Step, batches: Prefetch) -> None:
        """Runs what is left of a phase; a phase that has not begun gets a new optimizer."""
        unit = self.settings.rows_per_step
        if self.row == phase.start * unit > 0:
            with self.clock.doing("compile"):
                last = self.state
                self.state = step.begin(last["params"], last["step"], last["skipped"])
        first = True
        while self.row < phase.end * unit:
            self.checkpoints.poll()
            with self.clock.doing("data"):
                row, rows = next(batches)
            assert row == self.row, (row, self.row)
            if self.trace.begins(self.done + 1):
                jax.block_until_ready(self.state)  # the steps still running are not traced
                with self.clock.doing("profile"):
                    self.trace.begin()
            with self.clock.doing("compile") if first else contextlib.nullcontext():
                metrics = self.dispatch(phase, step, rows)
            self.clock.dispatched(metrics["loss"])
            if self.first:  # until here there was nothing to save
                self.asks.defer()
            first = self.first = False
            asked = self.read()  # the step before this one, so that devices need not wait
            ids, stage = self.stream.dataset_ids(row, self.last_size), self._stage()
            self.unread = Dispatched(self.done, row, ids, stage, batches.waited), metrics
            if self.trace.ends(self.done):
                asked = max(asked, self.read())
                with self.clock.doing("profile"):
                    self.log.say(self.trace.end())
            with self.clock.doing("evaluate"):
                self.look()
            with self.clock.doing("checkpoint"):
                self.save_if(asked)

    def dispatch(self, phase: learn.Phase, step: Step, rows: Mapping[str, np.ndarray]) -> Metrics:
        size, unit = self.stream.batch_size, self.settings.rows_per_step
        batch = {name: place(array, self.mesh, size) for name, array in rows.items()}
        asked = said_by_each(self.mesh, self.asks.now())
        done = said_by_all(self.mesh, self.row / unit - phase.start)
        with jax.profiler.StepTraceAnnotation("train", step_num=self.done + 1):
            self.state, metrics = step.run(self.state, batch, asked, done)
        self.last_size = cuts.size_at(self.row, self.settings.ends, size)
        self.done, self.row = self.done + 1, self.row + self.last_size
        return metrics

    def read(self) -> int:
        """Logs the step that was dispatched but not read yet; refuses too many not finite in a row.

        Returns what processes asked for in that step: NOTHING, SAVE or STOP.
        """
        if self.unread is None:
            return NOTHING
        (dispatched, metrics), self.unread = self.unread, None
        metrics = jax.device_get(metrics)
        if metrics["skipped"] <= 1:
            self.skipping_from = dispatched.row
        self.log.step(*self.report(dispatched, metrics))
        if metrics["skipped"] >= self.settings.max_skipped:
            raise DivergedError(self._diverged(dispatched, metrics))
        return int(metrics["asked"])

    def look(self) -> None:
        """Makes samples, if they are due after this step; a failure does not end the run."""
        every, last = self.settings.sample_every, self.row == self.settings.ends[-1]
        if self.sample is None or not every or not (self.due(every) or last):
            return
        try:
            for record in self.sample(self.state["params"], self.done):
                self.log.write(SAMPLES, {"step": self.done, **record})
                words = "  ".join(f"{key}: {value}" for key, value in record.items())
                self.log.say(f"step {self.done}  {words}")
        except Exception:
            log.exception("step %d: nothing for %s; training goes on", self.done, SAMPLES)

    def save_if(self, asked: int) -> None:
        """Saves if asked to, if a save is due, or after the last step; stops if asked to."""
        last = self.row == self.settings.ends[-1]
        if not (asked or last or self.due(self.settings.save.steps)):
            return
        asked = max(asked, self.read())
        self.log.flush()
        if broken := not_finite(self.state["params"]):
            raise DivergedError(self._broken(broken))
        meta = {
            "step": self.done,
            "data": {
                "next_row": self.row,
                "plan": self.stream.plan.to_json(),
                "sequence_length": self.stream.sequence_length,
            },
            "train": _saved(self.settings),
        }
        self.checkpoints.save(self.done, self.state, meta)
        self.log.event("save", self.done)
        self.asks.saved()
        if last or asked == STOP:
            self.checkpoints.wait()
        if asked == STOP and not last:
            raise Preempted(self.done)

    def due(self, steps: int) -> bool:
        """Tells whether the last batch completed another `steps` of the recipe; never for 0."""
        rows = steps * self.settings.rows_per_step
        return rows > 0 and self.row // rows > (self.row - self.last_size) // rows

    def _stage(self) -> str:
        return self.settings.stages[bisect.bisect_left(self.settings.ends, self.row)].name

    def _broken(self, names: Sequence[str]) -> str:
        some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        kept = ", ".join(map(str, self.checkpoints.steps())) or "none"
        return (
            f"after step {self.done} weights are not finite, though its loss was: {some}. They "
            f"were not saved; steps saved: {kept}. Lower the learning rate, and run again"
        )

    def _diverged(self, at: Dispatched, metrics: Metrics) -> str:
        bad = int(metrics["skipped"])
        names = [self.stream.plan.names[i] for i in at.dataset_ids]
        worst = np.flatnonzero(~np.isfinite(metrics["nll_B"]))
        rows = ", ".join(f"{at.row + i} ({names[i]})" for i in worst)
        kept = ", ".join(map(str, self.checkpoints.steps())) or "none"
        last = at.row + len(at.dataset_ids) - 1
        return (
            f"{bad} steps in a row had a loss or a gradient that is not finite: steps "
            f"{at.step - bad + 1} to {at.step}, global rows {self.skipping_from} to {last}. Last "
            f"good step: {at.step - bad}; steps saved: {kept}. Rows of the last one that are not "
            f"finite themselves: {rows or 'none'}. Look at the data, or lower the learning rate, "
            "and run again"
        )
