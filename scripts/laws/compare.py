"""Trains a recipe on a budget of pairs as its laws allocate it and in equal parts; compares scores.

    python scripts/laws/compare.py scripts/laws/recipe.yaml runs/laws/laws/laws.json 540 0,1,2 \
        qaa_Cyrl=cyrillic kor_Hang=korean

Prints chrF of every run, and the mean difference over seeds with its 95 % interval (Student's t).
"""

from collections.abc import Mapping, Sequence
import sys

import numpy as np
from rich.table import Table
from scipy import stats

from lrl_jax.data.seqio import imports
from lrl_jax.devices import signals
from lrl_jax.laws import allocate, law
from lrl_jax.pipeline import evaluate as evaluate_step
from lrl_jax.pipeline.console import display
from lrl_jax.pipeline.study.cells import Cell, perform_cells, quiet
from lrl_jax.pipeline.study.works import MEASURE_END
from lrl_jax.recipe.schema import Recipe
from lrl_jax.train.loop import Preempted


def cell(recipe: Recipe, name: str, takes: Mapping[str, int], seed: int) -> Cell:
    """Returns the cell that trains on so many pairs of each dataset."""
    datasets = {n: d.model_copy(update={"take": takes[n]}) for n, d in recipe.data.datasets.items()}
    data = recipe.data.model_copy(update={"datasets": datasets})
    update = {"data": data, "train": quiet(recipe.train), "seed": seed}
    return Cell(f"{name}-{seed}", recipe.model_copy(update=update), {"mixture": name, "seed": seed})


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Returns the mean and the ends of its 95 % interval.

    >>> mean, low, high = interval([1.0, 2.0, 3.0])
    >>> round(mean, 2), round(low, 2), round(high, 2)
    (2.0, -0.48, 4.48)
    """
    mean = float(np.mean(differences))
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return mean, mean - half, mean + half


def main(path: str, laws: str, budget: int, seeds: Sequence[int], named: Mapping[str, str]) -> None:
    """Trains, and prints the table."""
    recipe = imports.load_recipe(path, sys.argv[5 + len(named) :])
    pairs = allocate.allocate(law.read(laws), budget)
    shares = {"allocated": pairs, "even": allocate.even(budget, list(pairs), {})}
    takes = {name: allocate.takes(share, named) for name, share in shares.items()}
    cells = [cell(recipe, name, takes[name], seed) for seed in seeds for name in shares]
    means: dict[str, dict[int, float]] = {name: {} for name in shares}
    table = Table("mixture", "seed", *(f"{code}: pairs" for code in pairs), *pairs, "mean chrF")
    folder = f"{recipe.folder}/{recipe.name}/compared-{budget}"
    for outcome in perform_cells(folder, cells, works=MEASURE_END):
        if outcome.error:
            raise ValueError(f"{outcome.cell.name}: {outcome.error}")
        name, seed = outcome.cell.facts["mixture"], outcome.cell.facts["seed"]
        measured = evaluate_step.results(outcome.run)["translation"]
        chrf = [float(measured[code]["chrf"]) for code in pairs]
        means[name][seed] = float(np.mean(chrf))
        counts = [f"{shares[name][code]:,}" for code in pairs]
        cells_of_row = [*counts, *(f"{score:.2f}" for score in [*chrf, means[name][seed]])]
        table.add_row(name, str(seed), *cells_of_row)
    display(table)
    mean, low, high = interval([means["allocated"][s] - means["even"][s] for s in seeds])
    display(f"allocated - even: {mean:+.2f} chrF ({low:+.2f} to {high:+.2f}), {len(seeds)} seeds")


if __name__ == "__main__":
    try:
        with signals.interrupts():
            main(
                sys.argv[1],
                sys.argv[2],
                int(sys.argv[3]),
                [int(seed) for seed in sys.argv[4].split(",")],
                dict(pair.split("=") for pair in sys.argv[5:] if "." not in pair.partition("=")[0]),
            )
    except (signals.Stopped, Preempted) as stopped:
        sys.exit(f"{stopped}")
