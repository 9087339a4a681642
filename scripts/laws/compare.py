"""Trains on a budget of pairs in equal shares and in those of fitted laws, over seeds, as a study.

    python -m scripts.laws.compare configs/mini/allocation.yaml runs/laws/laws/laws.json

The study's choice `even` says how many pairs there are. Beside it comes the choice `allocated` with
the pairs that the laws give; the study is written to runs/allocation.yaml and performed. Its
results.json gets the mean of the languages' scores, which is what the laws maximise.
"""

from collections.abc import Mapping
import dataclasses
from pathlib import Path
import sys
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.data.seqio import imports
from lrl_jax.devices import signals
from lrl_jax.laws import allocate, law
from lrl_jax.pipeline.console import display
from lrl_jax.pipeline.study import grid, results, study
from lrl_jax.recipe import plain_yaml
from lrl_jax.recipe.data import Parallel
from lrl_jax.report import study as report
from lrl_jax.train.loop import Preempted

EVEN, ALLOCATED, MEAN = "even", "allocated", "mean"
WRITTEN = Path("runs/allocation.yaml")
TAKE = "data.datasets.{}.take"


def with_allocation(
    tree: Mapping[str, Any], laws: tuple[law.Law, ...], named: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the study with the choice `allocated`: as many pairs as `even`, shared by the laws.

    Args:
      named: language -> the name of its dataset.

    Raises:
      ValueError: the laws are not those of the languages that share the budget.
    """
    data = tree["grid"]["data"]
    pairs = allocate.allocate(laws, sum(data[EVEN].values()))
    takes = allocate.takes(pairs, {law.language: named[law.language] for law in laws})
    allocated = {TAKE.format(name): count for name, count in takes.items()}
    if {*allocated} != {*data[EVEN]}:
        languages = ", ".join(law.language for law in laws)
        raise ValueError(
            f"the laws are of {languages}; want one for each of {', '.join(data[EVEN])}: run the "
            "ladder with other amounts or more seeds until every language has a law"
        )
    return {**tree, "grid": {**tree["grid"], "data": {**data, ALLOCATED: allocated}}}


def with_mean(of: results.Results) -> results.Results:
    """Returns the results with the mean of the scores of each cell that did not fail."""
    cells = tuple(
        cell if cell.error else dataclasses.replace(cell, values=_and_mean(cell.values))
        for cell in of.cells
    )
    return dataclasses.replace(of, compare=(*of.compare, MEAN), cells=cells)


def _and_mean(scores: Mapping[str, float]) -> dict[str, float]:
    return {**scores, MEAN: sum(scores.values()) / len(scores)}


def main(path: Path, laws: str, overrides: list[str]) -> int:
    """Writes the study, performs it, prints what the allocation wins; 1 if a cell failed."""
    tree = plain_yaml.parse(path.read_text())
    source = path.parent / tree["recipe"]
    datasets = imports.load_recipe(str(source)).data.datasets
    named = {d.target_language: n for n, d in datasets.items() if isinstance(d, Parallel)}
    whole = with_allocation({**tree, "recipe": str(source.resolve())}, law.read(laws), named)
    WRITTEN.parent.mkdir(exist_ok=True)
    storage.write_json(epath.Path(WRITTEN), whole)  # which is YAML, too
    asked = grid.load(WRITTEN, overrides)
    measured = with_mean(study.perform_study(asked, retry=True))
    results.write(asked.folder, measured)
    for group in results.groups(measured.cells, measured.compare):
        means = ", ".join(f"{name} {value['mean']:.2f}" for name, value in group["values"].items())
        display(f"{group['facts']}: {means}")
    for difference in results.differences(measured.cells, measured.compare):
        of = difference["values"].get(MEAN)
        display(
            f"allocated less even, {difference['n']} seeds: {report.interval(of, sign='+')} chrF"
        )
    for cell in measured.failed:
        display(f"{cell.name} failed: {cell.error}")
    return 1 if measured.failed else 0


if __name__ == "__main__":
    try:
        with signals.interrupts():
            code = main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
    except (signals.Stopped, Preempted, ValueError) as reason:
        print(reason, file=sys.stderr)
        code = getattr(reason, "exit_code", 2)  # 1 is of a study that went on
    sys.exit(code)
