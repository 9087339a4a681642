"""Shows laws of a mixture: tables for a terminal, and a page with every law and its runs."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from rich.table import Table

from lrl_jax.laws.mixtures import law as mixture
from lrl_jax.laws.mixtures.best import Foretold, Goal
from lrl_jax.laws.mixtures.design import Bounds
from lrl_jax.laws.mixtures.law import MixtureLaw, MixtureLaws
from lrl_jax.laws.repeats import effective_epochs
from lrl_jax.report import pages, plots
from lrl_jax.terminal import FittedTable

NUMBERS = ("Spearman", "its folds", *mixture.FORMS, "RMSE")
MOVED = 0.1  # share of the weight that goes to a dataset, to show what it does to a loss
PANELS = 12  # losses whose runs are drawn


class Read(Protocol):
    """Tells how often a run reads each dataset under some weights."""

    def epochs(self, weights_D: np.ndarray) -> np.ndarray:
        """Returns the epochs of each dataset, [D]."""
        ...


def laws_table(laws: MixtureLaws) -> Table:
    """Returns a table of laws: the form that was taken, and how well it foretells other runs."""
    title = f"laws of {len(laws.datasets)} datasets, held-out runs of {len(laws.runs)}"
    out = FittedTable("loss", "form", *NUMBERS, numbers=NUMBERS, title=title)
    for law in laws.laws:
        out.add_row(*_cells(law))
    return out


def _cells(law: MixtureLaw) -> list[str]:
    fit = law.held_out[law.form]
    folds = f"{min(fit.folds):.3f} to {max(fit.folds):.3f}" if fit.folds else "too small"
    each = [f"{law.held_out[form].spearman:.3f}" for form in mixture.FORMS]
    return [law.loss, law.form, f"{fit.spearman:.3f}", folds, *each, f"{fit.rmse:.4g}"]


def mixture_table(
    datasets: Sequence[str],
    mixtures: Mapping[str, np.ndarray],
    bounds: Bounds,
    stage: Read | None,
) -> Table:
    """Returns a table of mixtures: weights, what bounds them, and how often data is read.

    `worth` is how many epochs of new data the epochs of the first mixture are worth.
    """
    numbers = [*mixtures, "least", "most"] + (["epochs", "worth"] if stage else [])
    out = FittedTable("dataset", *numbers, numbers=numbers, title="mixtures")
    epochs_D = stage.epochs(next(iter(mixtures.values()))) if stage else np.zeros(len(datasets))
    for i, name in enumerate(datasets):
        cells = [f"{weights[i]:.4f}" for weights in mixtures.values()]
        cells += [f"{bounds.low_D[i]:.3g}", f"{bounds.high_D[i]:.3g}"]
        if stage:
            cells += [f"{epochs_D[i]:.2f}", f"{effective_epochs(float(epochs_D[i])):.2f}"]
        out.add_row(name, *cells)
    return out


def losses_table(said: Sequence[Foretold], mixtures: Sequence[str], goal: Goal) -> Table:
    """Returns a table of the losses of mixtures, and the change from the second to the first."""
    numbers = [mixtures[0], "95 %", *mixtures[1:], f"to {mixtures[1]}", "95 % of it"]
    out = FittedTable("loss", "asked", *numbers, numbers=numbers, title="foretold losses")
    for line in said:
        out.add_row(
            line.loss,
            _asked(line.loss, goal),
            f"{line.losses[0]:.4f}",
            "{:.4f} to {:.4f}".format(*line.interval),
            *(f"{loss:.4f}" for loss in line.losses[1:]),
            f"{line.change:+.2f} %",
            "{:+.2f} to {:+.2f}".format(*line.change_interval),
        )
    return out


def _asked(loss: str, goal: Goal) -> str:
    """Returns what a goal wants of a loss."""
    target = f"target {goal.target[loss]:g}" if loss in goal.target else ""
    limit = f"at most {goal.at_most[loss]:+g} %" if loss in goal.at_most else ""
    return ", ".join(filter(None, (target, limit)))


def page(laws: MixtureLaws) -> str:
    """Returns a page, which opens offline, of every law, its runs, and what each dataset does."""
    runs = laws.measured()
    foretold_NK = mixture.predict(laws, runs.weights_ND)
    dots = {
        name: (foretold_NK[:, k].tolist(), runs.losses_NK[:, k].tolist())
        for k, name in enumerate(laws.names[:PANELS])
    }
    measures = ["loss", "form", *NUMBERS]
    moves = moved(laws)
    return pages.render(
        "mixture.html.j2",
        runs=len(laws.runs),
        svg=plots.scatters(dots, "by the law", "measured"),
        unseen=max(0, len(laws.laws) - PANELS),
        columns=measures,
        rows=[_cells(law) for law in laws.laws],
        share=f"{MOVED:.0%}",
        move_columns=["dataset", *laws.names],
        moves=[
            [name, *(f"{x:+.2f} %" for x in row)]
            for name, row in zip(laws.datasets, moves, strict=True)
        ],
        left_out=laws.left_out,
    )


def moved(laws: MixtureLaws) -> np.ndarray:
    """Returns by how many percent each loss changes when a dataset gets more weight, [D, K].

    A tenth of the weight goes to it from all, beginning with the mean mixture of the runs.
    """
    mean_D = laws.measured().weights_ND.mean(0)
    to_each_DD = (1 - MOVED) * mean_D[None] + MOVED * np.eye(len(mean_D))
    before_1K = mixture.predict(laws, mean_D[None])
    return 100 * (mixture.predict(laws, to_each_DD) / before_1K - 1)
