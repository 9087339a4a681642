"""Performs a whole study: its grid, by an engine or in this process, up to its results and page.

study = grid.load("pieces.yaml")
results = perform_study(study, LocalEngine(study.folder / "logs", jobs=2))
"""

from lrl_jax import storage, terminal
from lrl_jax.devices import signals
from lrl_jax.devices.jobs import JobEngine
from lrl_jax.devices.lease import Lease
from lrl_jax.pipeline.perform import ALONE, Team
from lrl_jax.pipeline.run import Run
from lrl_jax.pipeline.study import cells as studied
from lrl_jax.pipeline.study import grid, results, works
from lrl_jax.pipeline.study.cells import Cell
from lrl_jax.pipeline.study.grid import Study
from lrl_jax.pipeline.study.lengths import EqualLengths
from lrl_jax.pipeline.study.results import CellResult, Results
from lrl_jax.pipeline.study.schedule import Scheduler, earlier_failures

PAGE = "index.html"


def perform_study(
    study: Study, engine: JobEngine | None = None, *, team: Team = ALONE, retry: bool = False
) -> Results:
    """Does what is due of every cell, and returns the results; a cell that fails stops no other.

    results.json is written after each cell that ends, index.html at the end.

    Args:
      engine: does the steps in processes of its own, and is closed at the end; None does them in
        this process, or in all processes of the team, one cell after another.
      retry: whether cells that failed in an earlier call are tried again.

    Raises:
      ValueError: the folder holds another study.
      InUseError: another process works on the study.
    """
    gathered = _Gathered(study, team)
    equal = None
    if study.file.at != "recipe":
        equal = EqualLengths(study.file.at, study.cells[0].name)
    failures = {} if retry else earlier_failures(study.folder, study.cells)
    if engine is None:
        _here(study, gathered, equal, failures, team)
    else:
        with Lease(study.folder) as lease, signals.at_end(lambda code: lease.release()):
            grid.note_study(study)
            Scheduler(
                study.folder, study.cells, engine,
                works=study.works, equal=equal, failures=failures, ended=gathered.add, say=say,
            ).run()  # fmt: skip
    if team.lead:
        gathered.write_page()
    return gathered.results()


def _here(
    study: Study,
    gathered: "_Gathered",
    equal: EqualLengths | None,
    failures: dict[str, str],
    team: Team,
) -> None:
    """Does the steps in this process, or in all of a team."""
    ready = equal or (lambda run: run)
    done = studied.perform_cells(
        study.folder, study.cells, works=works.named(study.works), team=team, ready=ready,
        failures=failures, begin=lambda: grid.note_study(study),
    )  # fmt: skip
    for outcome in done:
        gathered.add(outcome.cell, outcome.run, outcome.error)


class _Gathered:
    """Holds the results of the cells that have ended, and writes them as they come."""

    def __init__(self, study: Study, team: Team):
        self._study, self._team = study, team
        self._cells: dict[str, CellResult] = {}

    def add(self, cell: Cell, run: Run, error: str) -> None:
        """Adds a cell that has ended."""
        compare = self._study.file.compare
        result = results.of_cell(cell, run, compare, error)
        self._cells[cell.name] = result
        if not self._team.lead:
            return
        count = f"{len(self._cells)} of {len(self._study.cells)}"
        if result.error:
            say(f"study: {cell.name} failed: {result.error} ({count})")
        else:
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in result.values.items())
            say(f"study: {cell.name}: {numbers} ({count})")
        results.write(self._study.folder, self.results())

    def results(self) -> Results:
        """Returns the results so far, in the order of the grid."""
        file = self._study.file
        ended = [self._cells[c.name] for c in self._study.cells if c.name in self._cells]
        return Results(file.name, file.at, file.compare, tuple(ended))

    def write_page(self) -> None:
        """Writes index.html, if a cell has ended."""
        if not self._cells:
            return
        from lrl_jax.report import study as report  # draws: a second that a step need not wait

        page = report.page(self.results().as_json(), self._study.folder)
        storage.write(self._study.folder / PAGE, page)


def say(line: str) -> None:
    """Prints a line on stderr; it starts no JAX, as `pipeline.console` does."""
    terminal.console(stderr=True).print(terminal.visible(line), soft_wrap=True)
