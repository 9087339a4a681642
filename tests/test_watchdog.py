"""A run that stands still is ended, and says where it stands."""

import dataclasses
import threading
import time

from lrl_jax.devices import peers
from lrl_jax.devices.watchdog import Watchdog


@dataclasses.dataclass
class Work:
    """Work whose progress the test makes."""

    doing: str | None = None
    steps: int = 0
    gaps: tuple[float, ...] = ()

    @property
    def progress(self):
        return self.doing, 0, self.steps


def ends(work, folder, seconds, for_seconds, moves=0.0):
    """What a watchdog ends the process with while `for_seconds` pass; a step every `moves`."""
    ended, until = [], time.monotonic() + for_seconds
    with Watchdog(work, seconds, folder, 3, lambda *what: ended.append(what)):
        while not ended and time.monotonic() < until:
            time.sleep(moves or 0.02)
            work.steps += bool(moves)
    return ended


def stands_here(free: threading.Event) -> None:
    free.wait()


def test_no_progress_for_too_long_ends_with_76_and_the_stacks_of_all_threads(tmp_path, capfd):
    free = threading.Event()
    thread = threading.Thread(target=stands_here, args=(free,))
    thread.start()
    ((code, why),) = ends(Work(), tmp_path, 0.3, 10)
    free.set()
    thread.join()
    assert code == peers.HUNG == 76
    path = tmp_path / "stacks-3.txt"
    assert "no progress for 0 s (train.stall_seconds allows 0)" in why
    assert f"where each thread stands: {path}" in why
    assert "stands_here" in path.read_text()
    assert "stands_here" in capfd.readouterr().err


def test_steps_that_end_are_progress(tmp_path):
    assert ends(Work(), tmp_path, 0.3, 0.7, moves=0.05) == []


def test_ten_median_steps_are_allowed_where_steps_are_long(tmp_path):
    assert ends(Work(gaps=(0.01, 0.2, 90.0)), tmp_path, 0.2, 0.8) == []
    assert ends(Work(gaps=(0.01, 0.02, 90.0)), tmp_path, 0.3, 10)


def test_compiling_may_take_six_times_as_long(tmp_path):
    assert ends(Work(doing="compile"), tmp_path, 0.2, 0.8) == []
    assert "allows 1, in compile" in ends(Work(doing="compile"), tmp_path, 0.2, 10)[0][1]


def test_nothing_is_watched_where_the_limit_is_off(tmp_path):
    assert ends(Work(), tmp_path, 0, 0.3) == []
