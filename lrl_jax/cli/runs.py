"""Lists the runs of a folder: which steps are done, what goes on, and what was cut short.

It only reads: notes of steps, the end of the metrics, and who holds the lease of a run's folder.
Whether a finished step is due again, because its inputs changed, `lrl check` and `lrl run` say.
"""

import argparse
from collections.abc import Iterator, Mapping
import concurrent.futures
import dataclasses
import json
import math
import os
import time
from typing import Any

from etils import epath
from rich import box
from rich.text import Text

from lrl_jax import storage, terminal
from lrl_jax.devices import lease
from lrl_jax.recipe import file as recipes
from lrl_jax.report.places import CELL, STEPS, place

KEPT = ("recipe.yaml", "steps", lease.LOCK, "train")  # a folder with one of these is a run's
STYLES = {"done": "green", "running": "cyan", "broken": "red", "failed": "red", "cut short": "red"}
READERS = 16  # folders that are read at the same time


@dataclasses.dataclass(frozen=True)
class ListedRun:
    """Describes a run as it is now.

    Attributes:
      state: "done", "running", "stopped", "failed", "cut short", "due", "new" or "broken".
      at: the step that goes on, or that was left; "" where that is none.
      problem: what is wrong with its files, or who works on it.
      step: the last step of training, of `steps`; None where that is not known.
      age: seconds since its files last changed.
      size: bytes of its files; None if they cannot be counted.
    """

    name: str
    path: str
    state: str
    at: str = ""
    done: tuple[str, ...] = ()
    due: tuple[str, ...] = STEPS
    problem: str = ""
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    age: float | None = None
    size: int | None = None


def runs(args: argparse.Namespace) -> None:
    """Prints the runs of a folder with their state, as a table or as JSON."""
    folder = epath.Path(args.folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name the one that holds your runs")
    listed = listing(folder)
    if args.json:
        print(json.dumps([dataclasses.asdict(run) for run in listed], indent=1))
    elif listed:
        terminal.console().print(_table(listed))
        for run in listed:
            if run.problem:
                print(terminal.visible(f"{run.name}: {run.problem}"))
    else:
        print(terminal.visible(f"{folder}: holds no run yet; `lrl run RECIPE` makes one"))


def listing(folder: epath.Path) -> list[ListedRun]:
    """Returns the runs in a folder by name, or the run that the folder itself is."""
    folders = [folder]
    if not _is_run(folder):
        below = sorted(path for path in folder.iterdir() if path.is_dir())
        folders = [path for path in below if _is_run(path)]
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        return [*pool.map(_described, folders)]


def _is_run(folder: epath.Path) -> bool:
    try:
        return any((folder / name).exists() for name in KEPT)
    except OSError:  # nobody may look into it
        return True


def _described(folder: epath.Path) -> ListedRun:
    try:
        return described(folder)
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as e:
        what = f"{type(e).__name__}: {e}" if not isinstance(e, ValueError | OSError) else str(e)
        return ListedRun(folder.name, str(folder), "broken", problem=what)


# ---------------------------------------------------------------------------- one run
def described(folder: epath.Path) -> ListedRun:
    """Returns what a run is doing; raises what reading its files raises."""
    problems: list[str] = []
    settings = _settings(folder, problems)
    cell = _object(folder / CELL, problems)
    places = {step: place(folder, cell, step) for step in STEPS}
    notes = {
        step: _object(at.parent / "steps" / f"{step}.json", problems) for step, at in places.items()
    }
    done = tuple(step for step in STEPS if notes[step].get("finished"))
    begun = [step for step in STEPS if notes[step] and step not in done]
    record, loss, stopped = _trained(places["train"])
    steps = _steps(places["data"] / "plan.json", settings, problems)
    age, size = _changed(folder)
    state, said = _state(folder, done, begun, stopped=stopped)
    if cell.get("error") and state != "running":
        state, said = "failed", str(cell["error"])
    return ListedRun(
        folder.name, str(folder),
        state="broken" if problems else state,
        at=begun[-1] if begun else "",
        done=done,
        due=tuple(step for step in STEPS if step not in done),
        problem="; ".join([*problems, *([said] if said else [])]),
        step=record.get("step"),
        steps=steps,
        loss=loss,
        age=age,
        size=size,
    )  # fmt: skip


def _settings(folder: epath.Path, problems: list[str]) -> Mapping[str, Any]:
    path = folder / "recipe.yaml"
    try:
        if path.exists():
            return recipes.read_tree(path)
        problems.append("has no recipe.yaml")
    except (ValueError, OSError) as e:
        problems.append(str(e))
    return {}


def _object(path: epath.Path, problems: list[str]) -> Mapping[str, Any]:
    try:
        value = storage.read_json(path) if path.exists() else {}
    except (ValueError, OSError) as e:
        problems.append(str(e))
        return {}
    if not isinstance(value, Mapping):
        problems.append(f"{path}: want an object, got {type(value).__name__}")
        return {}
    return value


def _state(
    folder: epath.Path, done: tuple[str, ...], begun: list[str], *, stopped: bool
) -> tuple[str, str]:
    """Returns the state of a run, and who works on it."""
    try:
        holder = lease.holder(folder)
    except lease.InUseError as e:
        return "broken", str(e)
    if holder is not None and holder[1]:
        owner = holder[0]
        return "running", f"process {owner.pid} on {owner.host}"
    if begun:
        if holder is not None:  # which gives a folder back when it ends in order
            return "cut short", f"process {holder[0].pid} on {holder[0].host} is gone"
        return ("stopped" if stopped and begun[-1] == "train" else "failed"), ""
    if len(done) == len(STEPS):
        return "done", ""
    return ("due" if done else "new"), ""


def _trained(train: epath.Path) -> tuple[Mapping[str, Any], float | None, bool]:
    """Returns the last record of training, its last loss, and whether its last process stopped in
    order."""
    records = [*_ended(train / "metrics.jsonl")]
    events = [*_ended(train / "events.jsonl")]
    losses = [r["loss"] for r in records if isinstance(r.get("loss"), int | float)]
    stopped = bool(events) and events[-1].get("event") == "stop"
    return (records[-1] if records else {}), (losses[-1] if losses else None), stopped


def _ended(path: epath.Path) -> Iterator[Mapping[str, Any]]:
    """Yields the records of a file of lines; a line that is none is left out."""
    for content in storage.read_parts(path):
        for line in content.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                yield record


def _steps(path: epath.Path, settings: Mapping[str, Any], problems: list[str]) -> int | None:
    """Returns how many steps training has: of the plan, or of the recipe without epochs."""
    train = settings.get("train")
    if not isinstance(train, Mapping):
        return None
    stages = [stage for stage in train.get("stages") or () if isinstance(stage, Mapping)]
    if stages and not any(stage.get("epochs") for stage in stages):
        return sum(int(stage.get("steps") or 0) for stage in stages)
    rows_per_step = train.get("step_rows") or train.get("batch_size")
    if not rows_per_step or not path.exists():
        return None
    try:
        rows = sum(int(stage["rows"]) for stage in storage.read_json(path)["stages"])
    except (ValueError, KeyError, TypeError) as e:
        problems.append(f"{path}: is no plan ({e})")
        return None
    return math.ceil(rows / int(rows_per_step))


# ---------------------------------------------------------------------------- age and size
def _changed(folder: epath.Path) -> tuple[float | None, int | None]:
    """Returns the seconds since a file of a run last changed, and the bytes of all of them."""
    stats = [*(_remote(folder) if storage.is_remote(folder) else _local(os.fspath(folder)))]
    newest = max((changed for changed, _ in stats), default=0)
    age = max(0.0, round(time.time() - newest, 1)) if newest else None
    return age, sum(size for _, size in stats)


def _local(folder: str) -> Iterator[tuple[float, int]]:
    for where, _, files in os.walk(folder):
        for name in files:
            try:
                stat = os.lstat(os.path.join(where, name))
            except FileNotFoundError:  # a run at work removes files
                continue
            yield stat.st_mtime, stat.st_size


def _remote(folder: epath.Path) -> Iterator[tuple[float, int]]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _remote(path)
        else:
            stat = path.stat()
            yield float(stat.mtime or 0), stat.length


# ---------------------------------------------------------------------------- the table
def _table(listed: list[ListedRun]) -> terminal.FittedTable:
    numbers = ("step", "loss", "changed", "size")
    table = terminal.FittedTable("run", "state", "due", *numbers, numbers=numbers,
                                 box=box.SIMPLE_HEAD)  # fmt: skip
    for run in listed:
        state = Text(run.state, STYLES.get(run.state, ""))
        if run.at:
            state.append(f"\nin {run.at}", "dim")
        step = "" if run.step is None else f"{run.step:,}"
        step += f"/{run.steps:,}" if run.steps else ""
        more = f" +{len(run.due) - 1}" if len(run.due) > 1 else ""
        due = f"{run.due[0]}{more}" if run.done and run.due else "all"
        table.add_row(
            run.name, state, due if run.due else "",
            step, "" if run.loss is None else f"{run.loss:.3f}",
            "" if run.age is None else ago(run.age),
            "" if run.size is None else size(run.size),
        )  # fmt: skip
    return table


def ago(seconds: float) -> str:
    """Returns how long ago something was.

    >>> ago(40), ago(7300), ago(200_000)
    ('40 s ago', '2 h ago', '2 days ago')
    """
    for unit, length in ((" days", 86400), (" h", 3600), (" min", 60)):
        if seconds >= (2 if unit == " days" else 1) * length:
            return f"{seconds / length:.0f}{unit} ago"
    return f"{seconds:.0f} s ago"


def size(count: int) -> str:
    """Returns bytes as people say them.

    >>> size(31_000_000), size(512)
    ('31.0 MB', '512 B')
    """
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} B"
