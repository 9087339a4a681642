"""Holds what `lrl.evaluate` and `lrl.study` return: frozen numbers, which print as tables."""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import html
import io
import itertools
import operator
import os
from typing import Any, Self

from etils import epath
from rich import console as rich_console
from rich.table import Table

from lrl_jax import storage, terminal
from lrl_jax.evaluate import kinds as evaluation_kinds
from lrl_jax.evaluate import tasks
from lrl_jax.evaluate.benchmark import tables
from lrl_jax.pipeline.study import metrics
from lrl_jax.pipeline.study import results as study_results
from lrl_jax.pipeline.study.results import CellResult, Results
from lrl_jax.recipe.languages import labelled
from lrl_jax.report import run as run_report
from lrl_jax.report import study as study_report

WIDE = 10_000  # characters of a line in HTML, where a table scrolls; nothing is wrapped
STYLE = "font-family: monospace; line-height: 1.2; overflow-x: auto"


@dataclasses.dataclass(frozen=True, repr=False)
class EvaluationResults:
    """Holds what was measured of a model, and of the one that it began as where that was measured.

        results = lrl.evaluate("runs/first_steps")
        results["bits_per_byte.kor_Hang"], results["before.bits_per_byte.kor_Hang"]
        results.after["bits_per_byte"]["kor_Hang"]

    It prints as the table that `lrl evaluate` prints; a notebook shows it as one.

    Attributes:
      after: kind -> name -> result, as after.json and results.json have it.
      before: the same of the model it began as; {} where there is none.
    """

    after: Mapping[str, Any]
    before: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __getitem__(self, metric: str) -> float:
        """Returns a number by its path, as `compare` of a study names it; of `after` by default.

        ValueError, with the nearest name, where nothing of this name was measured.
        """
        when = metric.partition(".")[0]
        path = metric if when in metrics.WHEN else f"after.{metric}"
        return metrics.value({"before": self.before, "after": self.after}, path)

    def tables(self) -> Iterator[Table]:
        """Yields the tables that are printed, as rich takes them."""
        kinds = [name for name, entries in self.after.items() if name not in metrics.UNSAID]
        if kinds == ["tasks"] and not self.before:
            yield tables.table(tasks.flat(self.after))
        elif self.before:
            yield run_report.summary_table(self.before, self.after)
        else:
            yield _of_one_model(self.after)

    def __repr__(self) -> str:
        return _text([*self.tables()])

    def _repr_html_(self) -> str:
        return _html([*self.tables()])


@dataclasses.dataclass(frozen=True, repr=False)
class StudyResults:
    """Holds the results of a study: of each cell, means over seeds, and paired differences.

        study = lrl.StudyResults.read("runs/seeds")     # or what lrl.study has returned
        study.groups[0]["values"], study.differences

    It prints as the tables that `lrl study run` prints; a notebook shows them as such.

    Attributes:
      folder: of the study, with index.html and results.json.
      results: of the cells that have ended.
    """

    folder: epath.Path
    results: Results

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Self:
        """Reads what is finished of a study so far, as `lrl study show` does.

        ValueError where the folder holds no results of a study.
        """
        path = epath.Path(folder) / study_results.RESULTS
        if not path.exists():
            raise ValueError(f"{folder}: holds no study yet; begin with lrl_jax.study")
        said = storage.read_json(path)
        try:
            cells = tuple(CellResult(**cell) for cell in said["cells"])
            results = Results(said["study"], said["at"], tuple(said["compare"]), cells)
        except (KeyError, TypeError) as e:
            raise ValueError(f"{path}: is not of a study ({e!r})") from None
        return cls(path.parent, results)

    @property
    def cells(self) -> tuple[CellResult, ...]:
        """Returns the cells that have ended, in the order of the grid."""
        return self.results.cells

    @property
    def failed(self) -> list[CellResult]:
        """Returns the cells that failed; each says why in its `error`."""
        return self.results.failed

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Returns the mean and 95 % interval of each metric over the seeds of equal cells."""
        return self.as_json["groups"]

    @property
    def differences(self) -> list[dict[str, Any]]:
        """Returns how each value of an axis differs from the first, all else equal, by seed."""
        return self.as_json["differences"]

    @functools.cached_property
    def as_json(self) -> dict[str, Any]:
        """Returns what results.json says."""
        return self.results.as_json()

    def tables(self) -> Iterator[Table]:
        """Yields the tables that are printed, as rich takes them."""
        return study_report.tables(self.as_json)

    def __repr__(self) -> str:
        return _text([*self.tables()])

    def _repr_html_(self) -> str:
        return _html([*self.tables()])


def _of_one_model(results: Mapping[str, Any]) -> Table:
    """Returns the lines of the report of a model that is compared with none."""
    table = terminal.FittedTable("", "", "value", "", numbers=("value",))
    for measure, rows in itertools.groupby(
        evaluation_kinds.all_rows({}, results), operator.attrgetter("measure")
    ):
        for i, row in enumerate(rows):
            table.add_row("" if i else measure, labelled(row.name), row.after, row.note)
    return table


def _text(tables: list[Table]) -> str:
    """Returns tables as wide as the terminal, without colours."""
    console = terminal.console(file=io.StringIO(), color_system=None)
    console.print(*tables, sep="\n")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()


def _html(tables: list[Table]) -> str:
    """Returns tables as HTML: each cell as it stands in the terminal, and no markup of others."""
    console = terminal.console(file=io.StringIO(), width=WIDE, color_system=None)
    options = console.options
    return "".join(_html_table(table, console, options) for table in tables)


def _html_table(
    table: Table, console: rich_console.Console, options: rich_console.ConsoleOptions
) -> str:
    def cell(tag: str, value: Any, right: bool) -> str:
        lines = console.render_lines(value, options, pad=False)
        text = "\n".join("".join(segment.text for segment in line) for line in lines)
        style = f' style="text-align: {"right" if right else "left"}; white-space: pre-wrap"'
        return f"<{tag}{style}>{html.escape(text.rstrip())}</{tag}>"

    right = [column.justify == "right" for column in table.columns]
    columns = [[*column.cells] for column in table.columns]
    head = "".join(
        cell("th", column.header, is_right)
        for column, is_right in zip(table.columns, right, strict=True)
    )
    rows = "".join(
        f"<tr>{''.join(cell('td', value, r) for value, r in zip(row, right, strict=True))}</tr>"
        for row in zip(*columns, strict=True)
    )
    caption = f"<caption>{html.escape(str(table.title))}</caption>" if table.title else ""
    return f'<table style="{STYLE}">{caption}<tr>{head}</tr>{rows}</table>'
