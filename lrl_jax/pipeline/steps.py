"""Lists the steps, name -> the function that does it, in the order of work, and does them all.

A step reads the results of earlier steps in the run folder, and writes a folder of its own.
`lrl_jax.pipeline.run.perform` decides whether a step is due.
"""

from collections.abc import Callable, Mapping
import contextlib

from lrl_jax.pipeline import data, evaluate, export, init, report, train, vocab
from lrl_jax.pipeline.run import ALONE, Run, Team, locked, perform

STEPS: Mapping[str, Callable[[Run], None]] = {
    "vocab": vocab.run, "init": init.run, "data": data.run,
    "train": train.run, "evaluate": evaluate.run, "export": export.run,
}  # fmt: skip


def perform_all(
    run: Run,
    *,
    redo: bool = False,
    team: Team = ALONE,
    skipped: Callable[[Run, str], None] = lambda run, step: None,
) -> None:
    """Does every step that is due, then writes the report; every process calls it.

    Args:
      redo: does steps again that are done.
      skipped: called on the lead process for each step that was not due.

    Raises:
      InUseError: another process holds the run folder.
      MismatchError: the folder holds a step made from other inputs.
    """
    with locked(run) if team.lead else contextlib.nullcontext():
        for name, work in STEPS.items():
            if not perform(run, name, work, redo=redo, team=team) and team.lead:
                skipped(run, name)
        report.run(run)
