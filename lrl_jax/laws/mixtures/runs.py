"""Reads what small runs of several mixtures have measured: the weights and the losses of each.

    runs = read("mixtures.csv")                          # columns run, mixture.NAME, loss.NAME
    runs = read("train_mixture.csv", "train_loss.csv")   # joined by the first column, as RegMix has

Runs without a loss are left out and named; nothing is left out silently.
"""

from collections.abc import Iterable, Mapping, Sequence
import csv
import dataclasses
import io
import math

import numpy as np

from lrl_jax import text
from lrl_jax.laws import files

WEIGHT, LOSS = "mixture.", "loss."  # how columns of one table begin
ROUNDING = 0.02  # by which weights written with two or three digits miss a sum of one


@dataclasses.dataclass(frozen=True)
class MixtureRuns:
    """Holds the weights and the losses of runs.

    Attributes:
      names: of the runs, [N].
      datasets, losses: what the columns of the arrays are, [D] and [K].
      weights_ND: shares that sum to one in each row.
      losses_NK: finite and positive.
      left_out: a line on each run that is not in the arrays, and why.
    """

    names: tuple[str, ...]
    datasets: tuple[str, ...]
    losses: tuple[str, ...]
    weights_ND: np.ndarray
    losses_NK: np.ndarray
    left_out: tuple[str, ...] = ()

    def only(self, losses: Sequence[str]) -> "MixtureRuns":
        """Returns the runs with these losses alone; an unknown name is a ValueError."""
        for name in losses:
            if name not in self.losses:
                raise ValueError(f"no loss {name!r} was measured; there are {_listed(self.losses)}")
        columns = [self.losses.index(name) for name in losses]
        picked = self.losses_NK[:, columns]
        return dataclasses.replace(self, losses=tuple(losses), losses_NK=picked)


def read(weights: str, losses: str = "") -> MixtureRuns:
    """Reads one CSV of weights and losses, or one of each joined by their first columns.

    Weights may miss a sum of one by rounding and are divided by it. Runs whose losses are missing,
    empty, infinite or no number (nan) are left out.

    Raises:
      DataError: a file without rows or columns, a run given twice, what is no number, a negative
        weight, weights that do not sum to one.
    """
    weight_rows = _table(weights)
    header = next(iter(weight_rows.values())).keys()
    if losses:
        loss_rows = _table(losses)
        loss_names = {name: name for name in next(iter(loss_rows.values()))}
        dataset_names = {name: name for name in header}
    else:
        loss_rows = weight_rows
        loss_names = _named(header, LOSS)
        dataset_names = _named(header, WEIGHT)
    for what, names in ((WEIGHT, dataset_names), (LOSS, loss_names)):
        if not names:
            raise text.DataError(
                f"{weights}: has no column {what}NAME; want columns run, {WEIGHT}NAME and "
                f"{LOSS}NAME, or two files, of weights and of losses"
            )
    datasets = tuple(dataset_names.values())
    kept, shares, measured, left_out = [], [], [], []
    for name, row in weight_rows.items():
        share = _shares([row[column] for column in dataset_names], f"{weights}: run {name}")
        values, why = _losses(loss_rows.get(name), loss_names, losses or weights)
        if why:
            left_out.append(f"{name}: {why}")
            continue
        kept.append(name)
        shares.append(share)
        measured.append(values)
    left_out += [f"{name}: has no weights in {weights}" for name in loss_rows.keys() - weight_rows]
    if not kept:
        raise text.DataError(f"{weights}: no run has weights and losses; {'; '.join(left_out[:3])}")
    return MixtureRuns(
        tuple(kept),
        datasets,
        tuple(loss_names.values()),
        np.array(shares),
        np.array(measured),
        tuple(sorted(left_out)),
    )


def _named(header: Iterable[str], begins: str) -> dict[str, str]:
    """Returns column -> what it is of, for the columns that begin so."""
    return {name: name[len(begins) :] for name in header if name.startswith(begins)}


def _table(path: str) -> dict[str, Mapping[str, str]]:
    """Returns the rows of a CSV by their first column, each a mapping of the other columns."""
    columns, _, lines = files.rows(path)
    rows: dict[str, Mapping[str, str]] = {}
    for where, cells in lines:
        name = cells[columns[0]]
        if name in rows:
            raise text.DataError(f"{where}: run {name!r} stands twice")
        rows[name] = {column: cells[column] for column in columns[1:]}
    if len(columns) < 2 or not rows:
        raise text.DataError(f"{path}: has no rows; want a header, and a line for each run")
    return rows


def _number(cell: str, where: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise text.DataError(f"{where}: {cell!r} is no number") from None


def _shares(cells: Sequence[str], where: str) -> list[float]:
    numbers = [_number(cell, where) for cell in cells]
    total = math.fsum(numbers)
    if not all(0 <= number < math.inf for number in numbers) or abs(total - 1) > ROUNDING:
        raise text.DataError(
            f"{where}: its weights sum to {total:g}; want shares of 0 or more that sum to 1"
        )
    return [number / total for number in numbers]


def _losses(
    row: Mapping[str, str] | None, names: Mapping[str, str], path: str
) -> tuple[list[float], str]:
    """Returns the losses of a run, and why it is left out; '' where it is not."""
    if row is None:
        return [], f"has no losses in {path}"
    if empty := [name for column, name in names.items() if not row[column].strip()]:
        return [], f"has no loss {_listed(empty)}"
    values = [_number(row[column], f"{path}: {column}") for column in names]
    odd = [
        f"{name} = {value:g}"
        for name, value in zip(names.values(), values, strict=True)
        if not 0 < value < math.inf
    ]
    return values, f"its losses are not finite and above 0: {_listed(odd)}" if odd else ""


def _listed(names: Sequence[str]) -> str:
    """Joins the first names of many.

    >>> _listed(["a", "b"]), _listed(list("abcdefgh"))
    ('a, b', 'a, b, c, d, e, f and 2 more')
    """
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more


def line(cells: Sequence[str | float]) -> str:
    """Returns a line of a CSV; a cell with a comma, a quote or a line break is quoted.

    >>> line(["a", 0.25, "b,c"])
    'a,0.25,"b,c"\\n'
    """
    out = io.StringIO()
    shown = [cell if isinstance(cell, str) else f"{cell:.10g}" for cell in cells]
    csv.writer(out, lineterminator="\n").writerow(shown)
    return out.getvalue()
