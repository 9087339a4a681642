"""Writes the numbers of a run to TensorBoard, and takes numbers out of records for any tracker."""

from collections.abc import Mapping
import contextlib
import logging
import queue
import threading
from typing import Any

from etils import epath
from flax import traverse_util

log = logging.getLogger(__name__)

WAITING = 1000  # steps that wait for TensorBoard at most
FAREWELL = 10.0  # seconds that the end of a run waits for it


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a record by their path; its time is left out.

    >>> numbers({"step": 3, "at": 9.5, "stage": "tune", "lr": {"all": 0.1}, "loss": None})
    {'step': 3, 'lr/all': 0.1}
    """
    flat = traverse_util.flatten_dict(dict(record), sep="/")
    return {k: v for k, v in flat.items() if isinstance(v, int | float) and k != "at"}


class Board:
    """Writes to TensorBoard until that fails once; no failure of a tracker may end or stop a run.

    tensorboardX has a thread that writes. Where that dies, as on a full disk, a caller waits for
    ever; so a thread of ours calls it, and is left where it waits.
    """

    def __init__(self, folder: epath.Path, done: int):
        self._records: queue.Queue[Mapping[str, Any] | None] = queue.Queue(WAITING)
        self._writer: Any = None
        self._off = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True, name="to TensorBoard")
        try:
            import tensorboardX

            self._writer = tensorboardX.SummaryWriter(str(folder), purge_step=done + 1)
        except Exception as e:
            self._off.set()
            log.warning("no TensorBoard: %s", e)
        else:
            self._thread.start()

    def send(self, record: Mapping[str, Any]) -> None:
        """Gives the numbers of a step to TensorBoard, or leaves them out; never waits or raises."""
        if self._off.is_set():
            return
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._give_up(f"it is {WAITING} steps behind")

    def close(self, *, ended: bool) -> None:
        """Writes what waits, for as long as FAREWELL."""
        if not self._off.is_set():
            with contextlib.suppress(queue.Full):
                self._records.put_nowait(None)
            self._thread.join(FAREWELL)
            if self._thread.is_alive():
                self._give_up(f"it has not ended {FAREWELL:.0f} s after the run")

    def _write(self) -> None:
        """Writes each record as it comes; a thread of its own."""
        try:
            while (record := self._records.get()) is not None and not self._off.is_set():
                for name, value in numbers(record).items():
                    self._writer.add_scalar(name, value, record["step"])
            self._writer.close()
        except Exception as e:
            self._give_up(str(e))

    def _give_up(self, why: str) -> None:
        """Says once that TensorBoard is off, and keeps its library from waiting at Python's end."""
        if self._off.is_set():
            return
        self._off.set()
        log.warning("TensorBoard is off from here: %s; metrics.jsonl goes on", why)
        with contextlib.suppress(AttributeError):  # it closes itself then, unless it has (2.6)
            self._writer.file_writer.event_writer._closed = True
