"""Performs studies: many recipes, called cells, whose equal steps are done once for all of them.

    for outcome in perform_cells(folder, cells):
        print(outcome.cell.name, outcome.error or outcome.run.at("evaluate"))

FOLDER/shared/<step>-<key>/<step>/...     what a step made; the key is a digest of all its inputs
FOLDER/<cell>/recipe.yaml, cell.json      a cell: its facts, where its steps lie, its error
FOLDER/steps.jsonl                        a line for each time that a step was done, or failed

A step lies under the digest of its inputs (`pipeline.inputs`) and, for training, of its settings
and its seed, which orders the rows though they are equal.
So two cells share a step exactly where its inputs are equal, a later call finds what an earlier one
finished, and a recipe that changed never goes on with a training that began under another.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import json
import time
import traceback
import types
from typing import Any

from etils import epath
import jax

from lrl_jax import storage
from lrl_jax.devices import signals
from lrl_jax.devices.lease import Lease
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.inputs import inputs
from lrl_jax.pipeline.notes import digest
from lrl_jax.pipeline.perform import ALONE, Team, perform, settings_digest
from lrl_jax.pipeline.run import CELL, Run
from lrl_jax.pipeline.steps import STEPS
from lrl_jax.pipeline.study.works import Works
from lrl_jax.recipe.file import dump
from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.train import Train

MEASURED = ("vocab", "init", "data", "train", "evaluate")  # steps up to the scores of a cell
SHARED, LOG = "shared", "steps.jsonl"
DONE, FAILED = "done", "failed"


@dataclasses.dataclass(frozen=True)
class Cell:
    """Describes one run of a study.

    Attributes:
      name: its folder's name, which no other cell of the study has.
      recipe: what it does; its `name` and `folder` are not used.
      facts: what tells it from the others, as {"language": "kor_Hang", "pairs": 1000, "seed": 0}.
    """

    name: str
    recipe: Recipe
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Describes a cell that has been done.

    Attributes:
      run: the cell as a run; `run.at` gives the folder of each step, shared or not.
      error: why it failed; "" if it did not.
      seconds: what this call spent on it; next to nothing where an earlier call finished it.
    """

    cell: Cell
    run: Run
    error: str = ""
    seconds: float = 0.0


def perform_cells(
    folder: epath.PathLike,
    cells: Sequence[Cell],
    steps: Sequence[str] = MEASURED,
    works: Works = STEPS,
    team: Team = ALONE,
    ready: Callable[[Run], Run] = lambda run: run,
    failures: Mapping[str, str] = types.MappingProxyType({}),
    begin: Callable[[], None] = lambda: None,
) -> Iterator[Outcome]:
    """Does the steps of each cell that are due; yields each cell as it finishes.

    What cells of this call or of an earlier one have finished is not done again. A cell that fails
    is yielded with its error and the others go on; the next call tries it again. A full disk ends
    the study. The folder is reserved while the iterator lives. Where several processes share a
    study, each of them iterates, and an error ends it, because the others may be waiting in the
    same step.

    Args:
      steps: names of steps, in the order of work.
      works: name of a step -> the function that does it.
      ready: makes a cell ready to train, once its data is there; it may change how it trains.
      failures: name of a place -> why its step failed in an earlier call; not tried again.
      begin: called by the lead when it has reserved the folder.

    Raises:
      ValueError: two cells of one name, or a name that is no folder's.
      InUseError: another process works on the study.
      OSError: the disk is full.
    """
    for name, count in Counter(cell.name for cell in cells).items():
        if count > 1:
            raise ValueError(f"{count} cells are called {name}; each wants a name of its own")
        if name in (SHARED, "", ".", "..") or "/" in name:
            raise ValueError(f"a cell called {name!r}: want the name of a folder, not {SHARED}")
    call = _Call(steps, works, team, ready, begin, dict(failures))
    return _each(epath.Path(folder), cells, call)


def finished(outcomes: Iterable[Outcome], prefix: str, failed: list[Outcome]) -> Iterator[Outcome]:
    """Yields the cells that have not failed; says of the others why, and adds them to `failed`."""
    for outcome in outcomes:
        if outcome.error:
            failed.append(outcome)
            say(f"{prefix}: {outcome.cell.name} failed: {outcome.error}")
        else:
            yield outcome


def quiet(train: Train) -> Train:
    """Returns how a cell trains: one checkpoint, no samples and nothing for TensorBoard."""
    save = train.save.model_copy(update={"keep": 1})
    update = {
        "samples": (),
        "sample_every": 0,
        "tensorboard": False,
        "tracker": "none",
        "save": save,
    }
    return train.model_copy(update=update)


def times_done(folder: epath.PathLike) -> Counter[str]:
    """Returns how often each step was done in a study, over all calls; 0 for any other name."""
    return Counter(line["step"] for line in steps_done(folder))


def steps_done(folder: epath.PathLike) -> list[dict[str, Any]]:
    """Returns the lines of steps.jsonl that say that a step was done."""
    content = b"".join(storage.read_parts(epath.Path(folder) / LOG))
    lines = [storage.parse_json(line, f"{folder}/{LOG}") for line in content.splitlines()]
    return [line for line in lines if line["state"] == DONE]


def run_of(folder: epath.PathLike, cell: Cell) -> Run:
    """Returns a cell as a run in the folder of its study."""
    update = {"name": cell.name, "folder": str(folder)}
    return Run(cell.recipe.model_copy(update=update))


@dataclasses.dataclass
class _Call:
    """Holds what the cells of one call share.

    Attributes:
      failures: name of a place -> why its step failed.
    """

    steps: Sequence[str]
    works: Works
    team: Team
    ready: Callable[[Run], Run]
    begin: Callable[[], None]
    failures: dict[str, str]


def _each(folder: epath.Path, cells: Sequence[Cell], call: _Call) -> Iterator[Outcome]:
    if not call.team.lead:
        yield from (_perform(folder, cell, call) for cell in cells)
        return
    with Lease(folder) as lease, signals.at_end(lambda code: lease.release()):
        call.begin()
        yield from (_perform(folder, cell, call) for cell in cells)


def _perform(folder: epath.Path, cell: Cell, call: _Call) -> Outcome:
    """Does the steps of one cell, and leaves its record."""
    run, started, error, trace = run_of(folder, cell), time.monotonic(), "", ""
    try:
        for step in call.steps:
            run = placed(call.ready(run) if step == "train" else run, step)
            _do(run, step, cell, call)
    except Exception as e:
        if _is_stop(e) or storage.is_full(e) or jax.process_count() > 1:
            raise
        error, trace = str(e) or type(e).__name__, traceback.format_exc()
    outcome = Outcome(cell, run, error, round(time.monotonic() - started, 1))
    if call.team.lead:
        places = [at.parent.name for at in run.elsewhere.values()]
        failed = next((place for place in places if error and place in call.failures), "")
        write_cell(cell, run, error=error, failed=failed, traceback=trace)
    return outcome


def placed(run: Run, step: str) -> Run:
    """Returns the run with the place of a step, which the steps before it decide."""
    given = {name: value.digest for name, value in inputs(run, step).items()}
    settings: list[Any] = [given, settings_digest(run, step)]
    if step == "train":  # equal rows in another order: what `data` made does not tell seeds apart
        settings.append(run.recipe.seed)
    key = digest(json.dumps(settings, sort_keys=True))
    place = epath.Path(run.recipe.folder) / SHARED / f"{step}-{key}" / step
    return dataclasses.replace(run, elsewhere={**run.elsewhere, step: place})


def _do(run: Run, step: str, cell: Cell, call: _Call) -> None:
    """Does one step if it is due; a step that has failed in this call fails again at once."""
    place, started = run.at(step).parent.name, time.monotonic()

    def note(state: str) -> None:
        seconds = round(time.monotonic() - started, 1)
        line = {"step": step, "state": state, "cell": cell.name, "seconds": seconds, "place": place}
        if call.team.lead:
            storage.Lines(epath.Path(run.recipe.folder) / LOG).add(json.dumps(line) + "\n")

    if place in call.failures:
        raise ValueError(call.failures[place])
    try:
        ran = perform(run, step, call.works[step], team=call.team)
    except Exception as e:
        call.failures[place] = str(e) or type(e).__name__
        if not (_is_stop(e) or storage.is_full(e)):
            note(FAILED)
        raise
    if ran:
        note(DONE)


def _is_stop(error: Exception) -> bool:
    """Tells whether a step ended because this process was asked to stop, and not by a fault.

    A training that was asked to stop has saved, and says so by its exit code; a library, or a
    process that packs, may have been stopped by the same signal.
    """
    return signals.stopping() or getattr(error, "exit_code", 0) == signals.RETRY


def write_cell(cell: Cell, run: Run, **facts: str) -> None:
    """Writes the recipe and the record of a cell."""
    run.folder.mkdir(parents=True, exist_ok=True)
    storage.write(run.folder / "recipe.yaml", dump(run.recipe))
    places = {step: f"{SHARED}/{at.parent.name}/{step}" for step, at in run.elsewhere.items()}
    record = {"facts": dict(cell.facts), "steps": places, "error": "", **facts}
    storage.write_json(run.folder / CELL, record)


def record_of(folder: epath.Path, cell: str) -> dict[str, Any]:
    """Returns the record of a cell; {} where there is none, or none that can be read."""
    path = folder / cell / CELL
    try:
        record = storage.read_json(path) if path.exists() else {}
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
