"""Gathers the numbers of a study's cells: means and intervals over seeds, paired differences.

FOLDER/results.json      written whole after each cell that ends

Intervals are Student's, at 95 %. A difference is between two groups of cells that one axis alone
tells apart: a value less the first value of its axis, paired by seed.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.evaluate import intervals
from lrl_jax.pipeline import notes
from lrl_jax.pipeline.run import Run
from lrl_jax.pipeline.study import lengths, metrics
from lrl_jax.pipeline.study.cells import Cell

RESULTS = "results.json"
SEED = "seed"  # the axis over which means are taken


@dataclasses.dataclass(frozen=True)
class CellResult:
    """Holds what a cell measured, or why it failed.

    Attributes:
      values: metric -> its number.
      tokens, bytes, flops, steps: what its training read and spent; 0 where it did not begin.
      seconds: what its training took.
    """

    name: str
    facts: Mapping[str, Any]
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    error: str = ""
    tokens: int = 0
    bytes: int = 0
    flops: float = 0.0
    steps: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Results:
    """Holds the results of the cells of a study that have ended."""

    study: str
    at: str
    compare: tuple[str, ...]
    cells: tuple[CellResult, ...]

    def as_json(self) -> dict[str, Any]:
        """Returns what results.json says."""
        return {
            "study": self.study,
            "at": self.at,
            "compare": [*self.compare],
            "cells": [dataclasses.asdict(cell) for cell in self.cells],
            "groups": groups(self.cells, self.compare),
            "differences": differences(self.cells, self.compare),
        }

    @property
    def failed(self) -> list[CellResult]:
        """Returns the cells that failed."""
        return [cell for cell in self.cells if cell.error]


def write(folder: epath.Path, results: Results) -> None:
    """Writes results.json, whole or not at all."""
    storage.write_json(folder / RESULTS, results.as_json())


def of_cell(cell: Cell, run: Run, compare: Sequence[str], error: str = "") -> CellResult:
    """Returns the result of a cell that has ended; a metric that it lacks is its error."""
    if error:
        return CellResult(cell.name, dict(cell.facts), error=error)
    try:
        measured = {
            when: storage.read_json(path)
            for when in metrics.WHEN
            if (path := run.at("evaluate") / f"{when}.json").exists()
        }
        values = {metric: metrics.value(measured, metric) for metric in compare}
    except ValueError as e:
        return CellResult(cell.name, dict(cell.facts), error=str(e))
    amount = lengths.planned(run)
    return CellResult(
        cell.name, dict(cell.facts), values,
        tokens=round(amount.tokens), bytes=round(amount.bytes), flops=amount.flops,
        steps=amount.steps, seconds=notes.seconds(run.note("train")),
    )  # fmt: skip


# ---------------------------------------------------------------------------- over seeds
def _split(cell: CellResult) -> tuple[dict[str, Any], Any]:
    """Returns the facts of a cell without its seed, and the seed."""
    facts = dict(cell.facts)
    seed = facts.pop(SEED, None)
    return facts, seed


def _grouped(cells: Sequence[CellResult]) -> list[tuple[dict[str, Any], dict[Any, CellResult]]]:
    """Returns the cells that only their seeds tell apart, by seed, after the facts they share."""
    together: list[tuple[dict[str, Any], dict[Any, CellResult]]] = []
    for cell in cells:
        facts, seed = _split(cell)
        group = next((of_seed for shared, of_seed in together if shared == facts), None)
        if group is None:
            together.append((facts, group := {}))
        group[seed] = cell
    return together


def groups(cells: Sequence[CellResult], compare: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the mean and interval of each metric over the seeds of equal cells."""
    out = []
    for facts, of_seed in _grouped(cells):
        measured = [cell for cell in of_seed.values() if not cell.error]
        values = {
            metric: summary([cell.values[metric] for cell in measured])
            for metric in compare
            if measured
        }
        means = {
            key: sum(getattr(cell, key) for cell in measured) / len(measured)
            for key in ("tokens", "bytes", "flops", "steps")
            if measured
        }
        out.append({"facts": facts, "n": len(measured), "values": values, **means})
    return out


def differences(cells: Sequence[CellResult], compare: Sequence[str]) -> list[dict[str, Any]]:
    """Returns how each value of an axis differs from the first, all else equal, paired by seed."""
    grouped = _grouped(cells)
    out = []
    for of, less in _pairs([facts for facts, _ in grouped]):
        seeds = [
            seed
            for seed, cell in grouped[of][1].items()
            if not cell.error and seed in grouped[less][1] and not grouped[less][1][seed].error
        ]
        values = {
            metric: summary(
                [
                    grouped[of][1][seed].values[metric] - grouped[less][1][seed].values[metric]
                    for seed in seeds
                ]
            )
            for metric in compare
            if seeds
        }
        out.append(
            {"of": grouped[of][0], "less": grouped[less][0], "n": len(seeds), "values": values}
        )
    return out


def _pairs(facts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, int]]:
    """Yields the indices of two groups that one axis tells apart, the second with its first value.

    >>> [*_pairs([{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 2, "b": 2}])]
    [(2, 0), (3, 1), (1, 0), (3, 2)]
    """
    for axis in facts[0] if facts else ():
        for i, of in enumerate(facts):
            base = {**of, axis: facts[0][axis]}
            for j, less in enumerate(facts):
                if j != i and less == base and of[axis] != less[axis]:
                    yield i, j


def summary(values: Sequence[float]) -> dict[str, float | None]:
    """Returns the mean of some numbers and its interval; no interval of a single one.

    >>> summary([2.0])
    {'mean': 2.0, 'low': None, 'high': None}
    """
    mean = sum(values) / len(values)
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None}
    low, high = intervals.student(values)
    return {"mean": mean, "low": low, "high": high}
