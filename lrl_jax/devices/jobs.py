"""Describes jobs, which are commands of `lrl`, and runs each in a process of its own.

    for ended in run_all(engine, [Job("a", ("train", "a.yaml"), on_devices=True)]):
        print(ended.job.name, ended.code, ended.said)

An engine begins jobs and tells which have ended: on this machine (`pipeline.study.engine`), or on
those of a Ray cluster (`on_ray`).
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import os
from pathlib import Path
import socket
import subprocess
import sys
from typing import Protocol

from lrl_jax.devices import signals

TRIES = 4  # how often a job may be begun: its machine may go three times
SAID = 20  # lines of stderr that are kept of a job
POLL = 1.0  # seconds between two looks at what has ended
COMMAND = """\
import sys
from lrl_jax.devices import signals
signals.end_with_parent()
from lrl_jax.cli.main import script
script(sys.argv[1:])"""


@dataclasses.dataclass(frozen=True)
class Job:
    """Describes a command that an engine may run.

    Attributes:
      name: unique among the jobs of an engine, such as train-1f3a.
      words: the command after `lrl`, such as ("study", "step", FOLDER, CELL, "train").
      on_devices: whether it takes the accelerator, or a slice (init, train, evaluate), and not just
        a core (vocab, data).
    """

    name: str
    words: tuple[str, ...]
    on_devices: bool


@dataclasses.dataclass(frozen=True)
class Ended:
    """Describes a job that has ended.

    Attributes:
      code: its exit code; where `goes_on`, it goes on when it is begun again.
      said: the last lines of its stderr.
    """

    job: Job
    code: int
    said: str = ""


class JobEngine(Protocol):
    """Begins jobs where there is room; a scheduler gives it at most one for each place."""

    def has_room(self, job: Job) -> bool:
        """Tells whether a job could begin now."""
        ...

    def begin(self, job: Job) -> None:
        """Begins a job."""
        ...

    def ended(self, seconds: float) -> list[Ended]:
        """Returns the jobs that have ended; waits at most so long for at least one."""
        ...

    def close(self) -> None:
        """Asks all jobs to stop, waits for them, and gives back what was reserved."""
        ...


def goes_on(code: int) -> bool:
    """Tells whether a job with this exit code goes on where it was, when it is begun again.

    >>> goes_on(75), goes_on(-9), goes_on(2)
    (True, True, False)
    """
    return code in (signals.RETRY, signals.GONE) or code < 0  # killed by a signal


def run_all(engine: JobEngine, jobs: Sequence[Job]) -> Iterator[Ended]:
    """Runs jobs that do not need one another; yields each as it ends, and closes the engine.

    A job whose machine went is begun again, TRIES times in all. One that fails does not stop the
    others.
    """
    waiting, running, begun = deque(jobs), 0, Counter[str]()
    with contextlib.closing(engine):
        while waiting or running:
            while waiting and engine.has_room(waiting[0]):
                begun[waiting[0].name] += 1
                engine.begin(waiting.popleft())
                running += 1
            for ended in engine.ended(POLL):
                running -= 1
                if goes_on(ended.code) and begun[ended.job.name] < TRIES:
                    waiting.append(ended.job)
                else:
                    yield ended


class Host:
    """Runs a job on this machine, in a process that stops when this one is gone, even if killed."""

    def __init__(self):
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def free_port(self) -> int:
        """Returns a port that nobody listens to now."""
        with socket.socket() as s:
            s.bind(("", 0))
            return s.getsockname()[1]

    def run(self, words: Sequence[str], folder: str) -> tuple[int, str]:
        """Runs `lrl` with these words in a folder; returns its exit code and its last lines.

        Raises:
          ValueError: this machine has no such folder.
        """
        if not Path(folder).is_dir():
            raise ValueError(
                f"{socket.gethostname()} has no folder {folder}, in which the jobs were begun; "
                "begin them in a folder that every machine has"
            )
        # Ray sets OMP_NUM_THREADS to the cores of a job, and sums depend on how many threads add up
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        said: deque[str] = deque(maxlen=SAID)
        with subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words], cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        ) as self._process:  # fmt: skip
            if self._stopped:  # before it began
                self._process.terminate()
            assert self._process.stderr is not None
            for line in self._process.stderr:
                said.append(line)
                sys.stderr.write(line)
        return self._process.returncode, "".join(said).strip()

    def stop(self) -> None:
        """Asks the job to save and to stop."""
        self._stopped = True
        if self._process:
            self._process.terminate()


def verdict(ends: Sequence[tuple[int, str]]) -> tuple[int, str]:
    """Returns code and last lines of a job on several machines, from those of each as they ended.

    It goes on where a machine went, whatever the others said of that; else the first fault counts.

    >>> verdict([(76, "process 1 is gone"), (75, "its machine went")]), verdict([(0, ""), (2, "?")])
    ((75, 'its machine went'), (2, '?'))
    """
    codes = [code for code, _ in ends]
    if signals.RETRY in codes:
        return ends[codes.index(signals.RETRY)]
    return next((end for end in ends if end[0]), ends[0])
