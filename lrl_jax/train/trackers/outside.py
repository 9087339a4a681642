"""Sends the numbers of a run to Weights & Biases or Trackio, which run in a process of their own.

    tracker = Outside("wandb", folder, done, settings)
    tracker.send(record)              # returns at once, whatever the tracker does
    tracker.close(ended=True)

A tracker asks servers, and hangs where they do. So the training thread puts a record into a queue
and goes on; a thread hands records to the process (`child`), and where that is slow, hangs or ends,
records are left out and it is said once. metrics.jsonl has them all.
"""

from collections.abc import Mapping
import contextlib
import json
import logging
import queue
import subprocess
import sys
import threading
import time
from typing import Any
import uuid

from etils import epath

from lrl_jax import storage
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train.trackers import child
from lrl_jax.train.trackers.board import numbers

log = logging.getLogger(__name__)

WAITING = 1000  # records that wait for the process at most, a few megabytes
FAREWELL = 30.0  # seconds that a run which has ended waits for its tracker
NOTE = "tracker.json"  # in train/: under which id a run is tracked, so that a resume goes on there
PROJECT = "lrl_jax"


class Outside:
    """Hands records to a tracker in another process; only its end waits, and not for long."""

    def __init__(self, kind: str, folder: epath.Path, done: int, settings: recipe_train.Train):
        self.kind = kind
        self._records: queue.Queue[str | None] = queue.Queue(WAITING)
        self._process: subprocess.Popen[str] | None = None
        self._off, self._ended = threading.Event(), threading.Event()
        name = folder.parent.name
        local = "" if storage.is_remote(folder) else str(folder)
        self._records.put(
            json.dumps({
                "project": PROJECT, "name": name, "id": _identity(folder, done), "folder": local,
                "config": settings.model_dump(mode="json", exclude={"samples"}),  # no text
            })
        )  # fmt: skip
        threading.Thread(target=self._hand_over, daemon=True, name=f"to {kind}").start()

    def send(self, record: Mapping[str, Any]) -> None:
        """Gives the numbers of a step to the tracker, or leaves them out; never waits or raises."""
        if self._off.is_set():
            return
        try:
            line = json.dumps({"step": record["step"], "numbers": numbers(record)})
            self._records.put_nowait(line)
        except queue.Full:
            self._give_up(f"it is {WAITING} steps behind")
        except Exception as e:  # no failure of a tracker may end a run
            self._give_up(f"{type(e).__name__}: {e}")

    def close(self, *, ended: bool) -> None:
        """Ends the tracker, and waits up to FAREWELL for it where the run has ended.

        A run that is stopped does not wait: the process ends by itself once its input does.
        """
        until = time.monotonic() + (FAREWELL if ended and not self._off.is_set() else 0.0)
        with contextlib.suppress(queue.Full):
            self._records.put(None, timeout=max(0.0, until - time.monotonic()) or 0.01)
        if ended and not self._ended.wait(max(0.0, until - time.monotonic())):
            self._give_up(f"it has not ended {FAREWELL:.0f} s after the run")
        if ended and self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()

    def _hand_over(self) -> None:
        """Starts the process, and writes each record to it as it comes; a thread of its own."""
        try:
            # A session of its own: ctrl-C stops the run, which tells the tracker in its own time.
            self._process = subprocess.Popen(
                [sys.executable, "-m", child.__name__, self.kind],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, start_new_session=True,
            )  # fmt: skip
            listen = threading.Thread(
                target=self._listen, args=(self._process,), daemon=True, name=f"from {self.kind}"
            )
            listen.start()
            assert self._process.stdin is not None
            while (line := self._records.get()) is not None:
                self._process.stdin.write(f"{line}\n")
                self._process.stdin.flush()
            self._process.stdin.close()
        except Exception as e:  # its pipe is broken, or there can be no process
            self._give_up(str(e))

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Logs where the run is shown, and why the tracker has ended; a thread of its own."""
        assert process.stdout is not None
        why = ""
        with contextlib.suppress(OSError, ValueError):
            for line in process.stdout:
                what, _, words = line.rstrip("\n").partition(" ")
                if what == child.SHOWN:
                    log.info("%s: %s", self.kind, words)
                why = words if what == child.FAILED else why
        code = process.wait()
        if why or code:
            self._give_up(why or f"its process ended with code {code}")
        self._ended.set()

    def _give_up(self, why: str) -> None:
        """Says once that the tracker is off, and why."""
        if not self._off.is_set():
            self._off.set()
            log.warning("%s is off from here: %s; metrics.jsonl goes on", self.kind, why)


def _identity(folder: epath.Path, done: int) -> str:
    """Returns under which id a run is tracked: that of before if it goes on, else a new one."""
    path = folder / NOTE
    with contextlib.suppress(Exception):
        if done and path.exists():
            return str(storage.read_json(path)["id"])
    identity = uuid.uuid4().hex[:8]
    with contextlib.suppress(Exception):
        storage.write_json(path, {"id": identity})
    return identity
