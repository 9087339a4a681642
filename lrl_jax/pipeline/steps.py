"""Lists the steps, name -> the function that does it, in the order of work, and does them all.

A step reads the results of earlier steps in the run folder, and writes a folder of its own.
"""

from collections.abc import Callable, Mapping
import contextlib

from etils import epath

from lrl_jax.devices import mesh as meshes
from lrl_jax.pipeline import data, evaluate, export, init, train, vocab
from lrl_jax.pipeline.console import display, say
from lrl_jax.pipeline.perform import ALONE, Team, perform
from lrl_jax.pipeline.run import Run, locked
from lrl_jax.report import run as pages

STEPS: Mapping[str, Callable[[Run], None]] = {
    "vocab": vocab.run, "init": init.run, "data": data.run,
    "train": train.run, "evaluate": evaluate.run, "export": export.run,
}  # fmt: skip


def perform_all(
    run: Run,
    *,
    redo: bool = False,
    discard: bool = False,
    team: Team = ALONE,
    skipped: Callable[[Run, str], None] = lambda run, step: None,
    until: str = "export",
) -> None:
    """Does every step that is due, then writes the report; `redo` and `discard` as in `perform`.

    Every process calls it. The lead calls `skipped` for each step that was not due. `until` is the
    last step that is done. Raises as `locked` and `perform`.
    """
    names = [*STEPS]
    with locked(run) if team.lead else contextlib.nullcontext():
        for name in names[: names.index(until) + 1]:
            ran = perform(run, name, STEPS[name], redo=redo, discard=discard, team=team)
            if not ran and team.lead:
                skipped(run, name)
        report(run)


def report(run: Run) -> None:
    """Writes report/index.html, and prints the table of results and the path of the page."""
    report_of(run.folder)


def report_of(folder: epath.Path) -> None:
    """Writes and prints what `report` does, of the run in a folder."""
    if not meshes.lead():
        return
    path = pages.write(folder)
    pieces = pages.read(folder)
    if pieces.after:
        display(pages.summary_table(pieces.before, pieces.after, pieces.gate))
    say(f"report: {path}")
