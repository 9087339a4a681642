"""Names the ways in which studies do the steps: step -> the function that does it.

The name of a way stands in the cell.json of each cell, so that another process does as well.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lrl_jax.data.pack.rows import Manifest
from lrl_jax.pipeline import evaluate
from lrl_jax.pipeline.run import Run, manifests
from lrl_jax.pipeline.steps import STEPS
from lrl_jax.recipe.data import Data, Parallel
from lrl_jax.recipe.vocab import did_you_mean

Works = Mapping[str, Callable[[Run], Any]]


def pack_exactly(run: Run) -> None:
    """Does the step `data`, and refuses an amount for which filters have left too few records."""
    STEPS["data"](run)
    refuse_too_few(run.recipe.data, manifests(run))


def refuse_too_few(data: Data, packed: Mapping[str, Manifest]) -> None:
    """Raises ValueError if fewer records were packed than `take` says, as where many are copies."""
    for name, dataset in data.datasets.items():
        docs, left_out = packed[name].docs, packed[name].left_out or "none"
        if isinstance(dataset, Parallel) and docs < dataset.take:
            raise ValueError(
                f"data.datasets.{name}: {docs:,} records are left of the {dataset.take:,} that "
                f"are wanted; left out: {left_out}"
            )


MEASURE_END = {**STEPS, "evaluate": evaluate.measure_end}
START_AND_END = {**STEPS, "evaluate": evaluate.compare_start_and_end}
EXACT_AMOUNTS = {**MEASURE_END, "data": pack_exactly}
WORKS: Mapping[str, Works] = {
    "measure": STEPS,  # before: the base; after: the trained model
    "measure_end": MEASURE_END,  # after alone
    "start_and_end": START_AND_END,
    "exact_amounts": EXACT_AMOUNTS,
}


def named(name: str) -> Works:
    """Returns the works of this name."""
    if name not in WORKS:
        near = did_you_mean(name, WORKS)
        raise ValueError(f"works {name!r}: there are {', '.join(WORKS)}{near}")
    return WORKS[name]
