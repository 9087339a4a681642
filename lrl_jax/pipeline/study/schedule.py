"""Gives an engine the steps of a study's cells as they become due: each place once.

A step is placed under the digest of its inputs once the steps before it are done. Of cells that
share a place one is given to the engine, and the others wait for it. A job that was stopped, or
whose machine went, is begun again; one that fails, fails the cells that share it.

The scheduler starts no JAX: on an accelerator that would keep its jobs from it.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import errno
import json
import re
import time
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.devices import lease, signals
from lrl_jax.devices.jobs import Ended, Job, JobEngine, goes_on
from lrl_jax.pipeline import notes
from lrl_jax.pipeline.inputs import inputs
from lrl_jax.pipeline.perform import settings_digest
from lrl_jax.pipeline.run import Run
from lrl_jax.pipeline.study import cells as studied
from lrl_jax.pipeline.study.cells import DONE, FAILED, LOG, Cell, placed
from lrl_jax.pipeline.study.lengths import EqualLengths
from lrl_jax.train import checkpoint

NEEDS = {  # step -> the steps that have to be done before its inputs are known
    "vocab": (),
    "init": ("vocab",),
    "data": ("vocab",),
    "train": ("vocab", "init", "data"),
    "evaluate": ("train",),
}
ON_DEVICES = ("init", "train", "evaluate")
IN_USE, DISK_FULL = 6, 9  # exit codes (`lrl_jax.cli.codes`)
TRIES = 3  # of a job that is stopped without progress
WAIT = 1.0  # seconds between two looks at what is due
SEEN = 60.0  # seconds until a network file system shows what another host wrote (acdirmax, nfs(5))


@dataclasses.dataclass
class _State:
    """Holds how far a cell is."""

    cell: Cell
    run: Run
    done: set[str] = dataclasses.field(default_factory=set)
    error: str = ""
    ended: bool = False


@dataclasses.dataclass
class _Work:
    """Holds a place at which a step is done, and how its tries have gone.

    Attributes:
      succeeded: when a job ended well, so that the step should be there; 0 before that.
    """

    step: str
    place: epath.Path
    job: Job
    cell: str
    begun: float = 0.0
    running: bool = False
    succeeded: float = 0.0
    tries: int = 0
    progress: int = 0


class Scheduler:
    """Does the steps of cells by an engine; its folder is reserved by the caller.

    Args:
      works: the name of the works (`pipeline.study.works`).
      equal: gives each cell its length before it trains; None leaves it as it is.
      failures: place -> why it failed in an earlier call; not tried again.
      ended: called with each cell that has ended, its run, and its error.
      say: prints a line.
    """

    def __init__(
        self,
        folder: epath.Path,
        cells: tuple[Cell, ...],
        engine: JobEngine,
        *,
        works: str,
        equal: EqualLengths | None,
        failures: dict[str, str],
        ended: Callable[[Cell, Run, str], None],
        say: Callable[[str], None],
    ):
        self._folder, self._engine, self._equal = folder, engine, equal
        self._works, self._ended, self._say = works, ended, say
        self._states = [_State(cell, studied.run_of(folder, cell)) for cell in cells]
        self._at: dict[str, _Work] = {}  # name of a place -> what is done there
        self._failures, self._busy = failures, set[str]()
        self._lines = storage.Lines(folder / LOG)
        self._noted = {line["place"] for line in studied.steps_done(folder)}

    def run(self) -> None:
        """Does all steps that are due; returns when every cell has ended.

        Raises:
          OSError: the disk is full.
          Stopped: this process was asked to stop; what ran has stopped too.
        """
        with signals.deferred() as asked, contextlib.closing(self._engine):
            while not all(state.ended for state in self._states):
                while self._advance():
                    pass
                if asked.stop or all(state.ended for state in self._states):
                    return
                for ended in self._engine.ended(WAIT):
                    self._end(ended, stopping=asked.stop)

    # ------------------------------------------------------------------------ what is due
    def _advance(self) -> bool:
        """Begins what is due and has room; returns whether a cell has come further."""
        moved = False
        for state in self._states:
            if state.ended:
                continue
            try:
                for step in self._due(state):
                    moved |= self._do(state, step)
                    if state.error:
                        break
            except Exception as e:
                if storage.is_full(e):
                    raise
                state.error = str(e) or type(e).__name__
            if state.error or "evaluate" in state.done:
                state.ended = moved = True
                self._record(state)
                self._ended(state.cell, state.run, state.error)
        return moved

    def _due(self, state: _State) -> Iterator[str]:
        for step, needs in NEEDS.items():
            if step not in state.done and state.done.issuperset(needs):
                if step == "train" and "train" not in state.run.elsewhere and self._equal:
                    first = self._states[0]
                    if not (self._equal.known or state is first or first.ended):
                        continue  # it waits for the length of the first cell
                    state.run = self._equal(state.run)
                yield step

    def _do(self, state: _State, step: str) -> bool:
        """Does a step that is due as far as can be now; returns whether it is done."""
        if step not in state.run.elsewhere:
            state.run = placed(state.run, step)
        place = state.run.at(step)
        name = place.parent.name
        if error := self._failures.get(name):
            state.error = error
            return True
        work = self._at.get(name)
        if work is not None and work.running:
            return False
        note = notes.read(state.run.note(step))
        if note is not None and note.finished and self._is_same(state.run, step, note):
            notes.verify(step, place, note)
            state.done.add(step)
            if name not in self._noted:  # its scheduler was killed before it could say so
                self._note(DONE, step, name, state.cell.name, notes.seconds(state.run.note(step)))
            return True
        if work is not None and work.succeeded:
            if time.monotonic() - work.succeeded < SEEN:
                return False
            self._fail(work, f"{step} ended well, and what it made is not at {place.parent}", 0.0)
            return False
        if work is None:
            words = ("study", "step", str(self._folder), state.cell.name, step)
            job = Job(name, words, step in ON_DEVICES)
            work = self._at[name] = _Work(step, place, job, state.cell.name)
        if not self._is_in_use(work) and self._engine.has_room(work.job):
            self._begin(state, work)
        return False

    def _is_same(self, run: Run, step: str, note: notes.StepNote) -> bool:
        given = {name: value.digest for name, value in inputs(run, step).items()}
        return note.inputs == given and note.settings == settings_digest(run, step)

    def _is_in_use(self, work: _Work) -> bool:
        """Tells whether a process of an earlier call is still at work there."""
        holder = lease.holder(work.place.parent)
        if holder is None or not holder[1]:
            return False
        if work.job.name not in self._busy:
            self._busy.add(work.job.name)
            self._say(f"{work.job.name}: waits for process {holder[0].pid} on {holder[0].host}")
        return True

    # ------------------------------------------------------------------------ jobs
    def _begin(self, state: _State, work: _Work) -> None:
        work.cell = state.cell.name
        work.job = dataclasses.replace(
            work.job, words=(*work.job.words[:3], work.cell, *work.job.words[4:])
        )
        studied.write_cell(state.cell, state.run, works=self._works)
        work.begun, work.running = time.monotonic(), True
        self._engine.begin(work.job)

    def _end(self, ended: Ended, *, stopping: bool) -> None:
        work = self._at[ended.job.name]
        work.running = False
        seconds = round(time.monotonic() - work.begun, 1)
        if ended.code == 0:
            work.succeeded = time.monotonic()
            self._note(DONE, work.step, work.job.name, work.cell, seconds)
            self._say(f"{work.cell}: {work.step} took {seconds:.0f} s")
        elif ended.code == DISK_FULL:
            raise OSError(errno.ENOSPC, f"{work.cell}: {work.step}: {reason(ended.said)}")
        elif goes_on(ended.code) or ended.code == IN_USE:
            self._try_again(work, ended, stopping=stopping)
        else:
            self._fail(work, reason(ended.said) or f"ended with code {ended.code}", seconds)

    def _try_again(self, work: _Work, ended: Ended, *, stopping: bool) -> None:
        progress = max(checkpoint.committed_steps(work.place / "checkpoints"), default=0)
        work.tries = 0 if progress > work.progress else work.tries
        work.progress = progress
        if stopping or ended.code == IN_USE:
            return
        work.tries += 1
        if work.tries > TRIES:
            why = reason(ended.said) or f"ended with code {ended.code}"
            self._fail(work, f"ended {work.tries} times without progress: {why}", 0.0)
        else:
            self._say(f"{work.cell}: {work.step} was ended (code {ended.code}); begins again")

    def _fail(self, work: _Work, error: str, seconds: float) -> None:
        self._failures[work.job.name] = error
        self._note(FAILED, work.step, work.job.name, work.cell, seconds)

    def _note(self, state: str, step: str, place: str, cell: str, seconds: float) -> None:
        line = {"step": step, "state": state, "cell": cell, "seconds": seconds, "place": place}
        self._lines.add(json.dumps(line) + "\n")
        if state == DONE:
            self._noted.add(place)

    def _record(self, state: _State) -> None:
        failed = ""
        if state.error:
            places = (at.parent.name for at in state.run.elsewhere.values())
            failed = next((place for place in places if place in self._failures), "")
        studied.write_cell(
            state.cell, state.run, works=self._works, error=state.error, failed=failed
        )


def reason(said: str) -> str:
    """Returns why a job failed: what `lrl study step` printed last, or its last line.

    >>> reason("step 3\\nlrl study step: no rows\\n  in a.txt\\n")
    'no rows\\n  in a.txt'
    """
    said = said.strip()
    marked = re.split(r"^lrl study step: ", said, flags=re.MULTILINE)
    return marked[-1] if len(marked) > 1 else said.rpartition("\n")[2]


def earlier_failures(folder: epath.Path, cells: tuple[Cell, ...]) -> dict[str, str]:
    """Returns the places at which cells of a study failed in earlier calls, and why."""
    failures: dict[str, str] = {}
    for cell in cells:
        record: dict[str, Any] = studied.record_of(folder, cell.name)
        if record.get("error") and record.get("failed"):
            failures[str(record["failed"])] = str(record["error"])
    return failures
