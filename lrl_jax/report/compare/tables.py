"""Lays out what is compared as tables: a column a run, or a line a run where there are many."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, ClassVar

from lrl_jax.evaluate.rows import number
from lrl_jax.recipe.languages import labelled

SHORT = 16  # characters of a digest that are shown
DIGEST = 32  # hexadecimal digits or more are a digest


@dataclasses.dataclass(frozen=True)
class Limits:
    """Says how much of the facts a page shows; comparison.json has all of it."""

    COLUMNS: ClassVar[int] = 6  # runs that have a column each; more have a line each

    rows: int = 400  # scores of a table
    texts: int = 20  # prompts, and questions of each kind

    def halved(self) -> "Limits":
        """Returns limits half as large."""
        return Limits(max(self.rows // 2, 1), max(self.texts // 2, 1))


@dataclasses.dataclass(frozen=True)
class TableCell:
    """Holds what stands in a cell: a value with notes below it, or why there is none."""

    text: str = ""
    notes: Sequence[str] = ()  # a line each
    verdict: str = ""  # "better" or "worse" than the first run of the row
    missing: str = ""
    hint: str = ""  # shown on pointing at the value
    change: str = ""  # against the first run, where there is room for little


@dataclasses.dataclass(frozen=True)
class TableLine:
    """Holds a line of a table: what it is about, and its cells."""

    label: str
    about: str  # below the label
    cells: Sequence[TableCell]


@dataclasses.dataclass(frozen=True)
class Table:
    """Holds a table of what is compared.

    Attributes:
      apart: scores that a single run has: measure and text, run, value, and why others have none.
      left_out: lines that the page does not show.
    """

    columns: Sequence[tuple[str, str]]
    lines: Sequence[TableLine]
    apart: Sequence[tuple[str, str, str, str]] = ()
    left_out: int = 0


def of_rows(rows: Sequence[Mapping[str, Any]], names: Sequence[str], limits: Limits) -> Table:
    """Returns a table of scores; those of a single run stand below it, with the reasons."""
    together = [row for row in rows if _filled(row) > 1]
    alone = [row for row in rows if _filled(row) == 1]
    shown = together[: limits.rows]
    many = len(names) > Limits.COLUMNS
    cells = [[cell_of(row, name) for name in names] for row in shown]
    lines = [
        TableLine(labelled(row["name"]), row["measure"], [*map(brief, of_row)] if many else of_row)
        for row, of_row in zip(shown, cells, strict=True)
    ]
    table = Table([(name, "") for name in names], lines)
    if many:
        table = turned(table)
    apart = [_apart(row) for row in alone[: limits.rows]]
    left_out = len(together) - len(shown) + len(alone) - len(apart)
    return dataclasses.replace(table, apart=apart, left_out=left_out)


def turned(table: Table) -> Table:
    """Returns a table with its lines as columns."""
    columns = [(line.label, line.about) for line in table.lines]
    lines = [
        TableLine(name, about, [line.cells[i] for line in table.lines])
        for i, (name, about) in enumerate(table.columns)
    ]
    return Table(columns, lines if table.lines else [])


def _filled(row: Mapping[str, Any]) -> int:
    return sum("missing" not in cell for cell in row["cells"].values())


def cell_of(row: Mapping[str, Any], name: str) -> TableCell:
    """Returns the cell of a run: its value, interval, and change against the first run."""
    cell = row["cells"][name]
    if "missing" in cell:
        return TableCell(missing=cell["missing"])
    value = number(cell.get("value"))
    text = cell.get("text") or ("" if value is None else f"{value:.3g}")
    if not text:
        return TableCell(missing="not read yet")
    first = number(row["cells"][row["first"]].get("value"))
    change, notes = "", [*cell.get("notes", ())]
    if name != row["first"] and value is not None and first is not None:
        change, notes = change_of(cell, value, first)
    digits = max(decimals(cell), 1)
    bounds = (
        [f"95 % {cell['low']:.{digits}f} to {cell['high']:.{digits}f}"] if "low" in cell else []
    )
    return TableCell(text, [*bounds, *notes], cell.get("verdict", ""), change=change)


def brief(cell: TableCell) -> TableCell:
    """Returns a cell with its change alone below the value, and the rest as a hint."""
    changes = [cell.change] if cell.change else []
    return dataclasses.replace(cell, notes=changes, hint="; ".join(cell.notes))


def change_of(cell: Mapping[str, Any], value: float, first: float) -> tuple[str, list[str]]:
    """Returns how a value differs from the first run's in a word, and in lines that say how sure.

    >>> change_of({"change": -0.49, "relative": True}, 0.49, 0.98)
    ('-50.0 %', ['-50.0 %'])
    >>> change_of({"change": 2.0, "text": "12.0"}, 12.0, 10.0)
    ('+2.0', ['+2.0'])
    >>> tested = {"change_low": -0.1, "change_high": 0.02, "p": 0.2, "test": "paired, 9 lines"}
    >>> change_of({"change": -0.04, "relative": True, **tested}, 0.76, 0.8)[1]
    ['-5.0 % (95 % -12.5 to +2.5)', 'p 0.2: paired, 9 lines']
    """
    if "change" not in cell:
        return "", []
    digits, scale, unit = decimals(cell), 1.0, ""
    if cell.get("relative") and first:
        digits, scale, unit = 1, 100 / first, " %"
    change = f"{scale * (value - first):+.{digits}f}{unit}"
    if "p" not in cell:
        return change, [change]
    p = "p < 0.001" if cell["p"] < 0.001 else f"p {cell['p']:.2g}"
    low, high = (f"{scale * cell[side]:+.{digits}f}" for side in ("change_low", "change_high"))
    lines = [f"{change} (95 % {low} to {high})", f"{p}: {cell['test']}"]
    return f"{change}, {p}", lines


def decimals(cell: Mapping[str, Any]) -> int:
    """Returns how many digits the value of a cell is shown with after its point."""
    return len(cell.get("text", "").partition(".")[2])


def _apart(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    (name,) = [name for name, cell in row["cells"].items() if "missing" not in cell]
    reasons: dict[str, list[str]] = {}
    for other, cell in row["cells"].items():
        if "missing" in cell:
            reasons.setdefault(cell["missing"], []).append(other)
    why = "; ".join(f"{', '.join(others[:4])}{_more(others)}: {reason}"
                    for reason, others in reasons.items())  # fmt: skip
    cell = row["cells"][name]
    return f"{row['measure']}, {labelled(row['name'])}", name, cell.get("text", ""), why


def _more(names: Sequence[str], most: int = 4) -> str:
    return f" and {len(names) - most} more" if len(names) > most else ""


def by_value(recipes: Sequence[Mapping[str, Any]], names: Sequence[str], limits: Limits) -> Table:
    """Returns a table of the keys that differ: a column a run, or each value with its runs."""
    shown = recipes[: limits.rows]
    left_out = len(recipes) - len(shown)
    if len(names) <= Limits.COLUMNS:
        lines = [
            TableLine(row["key"], "", [TableCell(row["values"][name]) for name in names])
            for row in shown
        ]
        return Table([(name, "") for name in names], lines, left_out=left_out)
    lines = [TableLine(row["key"], "", [TableCell(_grouped(row["values"]))]) for row in shown]
    return Table([("values, each with its runs", "")], lines, left_out=left_out)


def _grouped(values: Mapping[str, str]) -> str:
    """Returns each value with the runs that have it, the most frequent first."""
    runs: dict[str, list[str]] = {}
    for name, value in values.items():
        runs.setdefault(value, []).append(name)
    ordered = sorted(runs.items(), key=lambda item: -len(item[1]))
    return "; ".join(f"{value} ({', '.join(of[:4])}{_more(of)})" for value, of in ordered)


def of_facts(values: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> Table:
    """Returns a table of facts of each run; digests are cut short."""
    keys = [*dict.fromkeys(key for of_run in values.values() for key in of_run)]
    lines = [
        TableLine(key, "", [_fact(values[name].get(key, "")) for name in names]) for key in keys
    ]
    table = Table([(name, "") for name in names], lines)
    return turned(table) if len(names) > Limits.COLUMNS else table


def _fact(value: str) -> TableCell:
    if not value:
        return TableCell(missing="not recorded")
    digest = len(value) >= DIGEST and not set(value) - set("0123456789abcdef")
    return TableCell(f"{value[:SHORT]}...", hint=value) if digest else TableCell(value)
