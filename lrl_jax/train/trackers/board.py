"""Writes the numbers of a run to TensorBoard, and takes numbers out of records for any tracker."""

from collections.abc import Mapping
import logging
from typing import Any

from etils import epath
from flax import traverse_util

log = logging.getLogger(__name__)


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a record by their path; its time is left out.

    >>> numbers({"step": 3, "at": 9.5, "stage": "tune", "lr": {"all": 0.1}, "loss": None})
    {'step': 3, 'lr/all': 0.1}
    """
    flat = traverse_util.flatten_dict(dict(record), sep="/")
    return {k: v for k, v in flat.items() if isinstance(v, int | float) and k != "at"}


class Board:
    """Writes to TensorBoard until that fails once; no failure of a tracker may end a run."""

    def __init__(self, folder: epath.Path, done: int):
        self._writer: Any = None
        try:
            import tensorboardX

            self._writer = tensorboardX.SummaryWriter(str(folder), purge_step=done + 1)
        except Exception as e:
            log.warning("no TensorBoard: %s", e)

    def send(self, record: Mapping[str, Any]) -> None:
        """Writes the numbers of a step."""
        if self._writer is None:
            return
        try:
            for name, value in numbers(record).items():
                self._writer.add_scalar(name, value, record["step"])
        except Exception as e:
            log.warning("TensorBoard is off from here: %s", e)
            self._writer = None

    def close(self, *, ended: bool) -> None:
        """Writes what waits."""
        if self._writer is not None:
            self._writer.close()
