"""Begins the steps of studies as processes of this machine.

    engine.begin(Job("train-1f3a", ("study", "step", "runs/pieces", "pieces-0", "train"), True))
    for ended in engine.ended(seconds=1.0):
        print(ended.job.name, ended.code, ended.said)

A job is a command of `lrl` and its exit code, so no step knows which engine runs it
(`lrl_jax.devices.jobs`). Libraries take longer to import than many a step: `LocalEngine` imports
them once, in a process that forks a job each time (`lrl_jax.cli.studies.serve`).
"""

import contextlib
import json
import os
from pathlib import Path
import selectors
import subprocess
import sys
import time

from lrl_jax.devices import signals
from lrl_jax.devices.jobs import Ended, Job

SAID = 6_000  # bytes of a job's last output that are looked at
SERVER = "lrl_jax.cli.studies.serve"
ACCELERATORS = ("accel[0-9]*", "vfio/[0-9]*", "nvidia[0-9]*", "kfd")  # in /dev: TPU, TPU, GPU, GPU


class LocalEngine:
    """Runs jobs on this machine: side by side on its cores, one at a time on its accelerator.

    Args:
      logs: a folder for the output of each job, NAME.log.
      jobs: how many run at a time; 0 means one for every two cores.
    """

    def __init__(self, logs: os.PathLike | str, jobs: int = 0):
        self._logs = Path(logs)
        self._jobs = jobs or max(1, (os.cpu_count() or 1) // 2)
        self._one_on_devices = has_accelerator()
        self._running: dict[str, tuple[Job, int]] = {}  # with where its output begins in the log
        self._gone: list[str] = []  # jobs of a server that is gone
        self._server: subprocess.Popen[bytes] | None = None
        self._rest = b""  # of a line of the server that has not come whole

    def has_room(self, job: Job) -> bool:
        on_devices = any(other.on_devices for other, _ in self._running.values())
        if job.on_devices and on_devices and self._one_on_devices:
            return False
        return len(self._running) < self._jobs

    def begin(self, job: Job) -> None:
        path = self._log(job)
        path.parent.mkdir(parents=True, exist_ok=True)  # names of models may have a slash
        if self._server is not None and self._server.poll() is not None:
            self._gone, self._server, self._rest = [*self._running], None, b""
        self._running[job.name] = job, path.stat().st_size if path.exists() else 0
        self._send({"name": job.name, "words": job.words, "log": str(path.absolute())})

    def ended(self, seconds: float) -> list[Ended]:
        if not self._running:
            time.sleep(seconds)
            return []
        if self._gone:
            names, self._gone = self._gone, []
            return [self._end(name, signals.GONE) for name in names]
        return [self._end(line["name"], line["code"]) for line in self._lines(seconds)]

    def close(self) -> None:
        if self._server is None:
            return
        server, self._server = self._server, None
        assert server.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            server.stdin.close()  # which asks it to stop them all
        server.wait()
        assert server.stdout is not None
        server.stdout.close()
        self._running.clear()

    def _send(self, message: object) -> None:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-m", SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the study, which then stops its jobs
            )
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(message).encode() + b"\n")
        self._server.stdin.flush()

    def _lines(self, seconds: float) -> list[dict]:
        """Returns what the server says within some seconds; where it is gone, that its jobs are."""
        assert self._server is not None
        assert self._server.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._server.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return []
        said = os.read(self._server.stdout.fileno(), 1 << 16)
        if not said:
            self._server.wait()
            return [{"name": name, "code": signals.GONE} for name in self._running]
        *whole, self._rest = (self._rest + said).split(b"\n")
        return [json.loads(line) for line in whole]

    def _end(self, name: str, code: int) -> Ended:
        job, start = self._running.pop(name)
        return Ended(job, code, tail(self._log(job), start))

    def _log(self, job: Job) -> Path:
        return self._logs / f"{job.name}.log"


def has_accelerator(devices: os.PathLike | str = "/dev") -> bool:
    """Tells whether this machine has a TPU or GPU that JAX would take; it starts no JAX."""
    if os.environ.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
        return False
    return any(any(Path(devices).glob(pattern)) for pattern in ACCELERATORS)


def tail(log: Path, start: int = 0) -> str:
    """Returns the last output of a job, from a place of its log on."""
    try:
        with open(log, "rb") as file:
            file.seek(max(start, log.stat().st_size - SAID))
            return file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
