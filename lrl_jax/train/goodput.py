"""Measures how much of a run's time went into steps that were kept, over all its processes.

It reads train/metrics.jsonl, whose records give the seconds of each kept step by kind, and
train/events.jsonl, to which a line is added whenever a process starts, saves or stops.
"""

from collections.abc import Sequence
import dataclasses
import datetime

from lrl_jax.storage import Json
from lrl_jax.train.clock import COMPUTE, KINDS

LOST, DOWN = "lost", "down"
SAYS = {
    COMPUTE: "steps that count",
    "start": "restoring, or making the first weights",
    "compile": "compiling",
    "data": "waiting for data",
    "checkpoint": "saving, while nothing else could go on",
    "evaluate": "samples and evaluations",
    "profile": "writing a trace",
    "other": "the rest of the loop",
    LOST: "steps that were made again",
    DOWN: "between processes",
}


@dataclasses.dataclass(frozen=True)
class Goodput:
    """Holds how the time of a run was spent, from its first start to its last step."""

    wall: float  # the whole time, in seconds
    spent: dict[str, float]  # seconds of each kind, in the order of SAYS; they sum to `wall`
    restarts: int  # processes after the first
    lost: int  # steps that were done again because they had not been saved

    @property
    def share(self) -> float:
        """Returns the share of the wall time that went into steps that were kept."""
        return self.spent.get(COMPUTE, 0.0) / self.wall


def measure(events: Sequence[Json], records: Sequence[Json]) -> Goodput | None:
    """Returns the goodput of a run; None before its first step, or when there are no events.

    Seconds that no process recorded, because none was running or it was killed, count as DOWN.
    """
    starts = [event for event in events if event.get("event") == "start"]
    timed = [record for record in records if "spent" in record and "at" in record]
    if not starts or not timed:
        return None
    spent = dict.fromkeys(SAYS, 0.0)
    last = max(record["at"] for record in timed)
    for record in timed:
        for kind in KINDS:
            spent[kind] += record["spent"].get(kind, 0.0)
    for event in events:
        if event.get("event") == "stop" and event["at"] <= last:
            for kind in KINDS:  # a step that was never logged does not count
                spent[LOST if kind == COMPUTE else kind] += event["spent"].get(kind, 0.0)
    spent[LOST] += sum(event["lost_seconds"] for event in starts)
    noted = sum(spent.values())
    wall = max(last - starts[0]["at"], noted)
    spent[DOWN] = wall - noted
    spent = {kind: seconds for kind, seconds in spent.items() if seconds > 0}
    return Goodput(wall, spent, len(starts) - 1, sum(event["lost"] for event in starts))


def line(goodput: Goodput) -> str:
    """Describes the goodput in one line for the end of a run.

    >>> line(Goodput(200.0, {"compute": 150.0, "data": 0.5, "compile": 49.5}, 1, 3))
    'goodput 75.0 % of 0:03:20: compile 24.8 %, data 0.2 %; 1 restart, 3 steps made again'
    """
    wall = datetime.timedelta(seconds=round(goodput.wall))
    parts = [
        f"{kind} {100 * seconds / goodput.wall:.1f} %"
        for kind, seconds in sorted(goodput.spent.items(), key=lambda item: -item[1])
        if kind != COMPUTE and seconds >= 0.001 * goodput.wall
    ]
    words = f"goodput {100 * goodput.share:.1f} % of {wall}"
    words += f": {', '.join(parts)}" if parts else ""
    if goodput.restarts:
        many = "" if goodput.restarts == 1 else "s"
        words += f"; {goodput.restarts} restart{many}, {goodput.lost} steps made again"
    return words


def left_behind(events: Sequence[Json], records: Sequence[Json], done: int) -> dict[str, float]:
    """Returns how many steps after `done` the previous process ran, and their seconds.

    These are the fields of a start event: `lost` and `lost_seconds`.
    """
    steps = [record for record in records if record["step"] > done]
    seconds = sum(record.get("seconds") or 0.0 for record in steps)
    stopped = events[-1]["step"] if events and events[-1]["event"] == "stop" else done
    reached = max([stopped, *(record["step"] for record in steps)])
    return {"lost": reached - done, "lost_seconds": seconds}
