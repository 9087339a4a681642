"""Shows scaling laws of translation data: tables for a terminal, and a page with every curve."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from lrl_jax.laws.law import LIMIT, WIDTH, Law, Point, predict
from lrl_jax.report import pages, plots
from lrl_jax.terminal import FittedTable

COLUMNS = (
    "language", "ceiling", "a", "b", "b, 95 %", "R2", "held out", "most pairs", "score", "foretold",
    "stands to",
)  # fmt: skip
BEYOND = 10  # times the most pairs measured: how far curves are drawn


def laws_table(laws: Sequence[Law]) -> Table:
    """Returns a table of laws.

    `held out`: the mean error of each amount by the law of the others, in points of the score.
    `foretold`: the score of the most pairs by all other points. `stands to`: the most pairs at
    which the score's interval is at most `law.WIDTH` points wide.
    """
    out = FittedTable(*COLUMNS, numbers=COLUMNS[1:], title="score = ceiling - a pairs^b")
    for law in laws:
        out.add_row(*_cells(law))
    return out


def allocation_table(
    laws: Sequence[Law], pairs: Mapping[str, int], even: Mapping[str, int]
) -> Table:
    """Returns a table of an allocation beside an even one, and how far beyond the measured."""
    numbers = ("pairs", "score", "even", "score", "beyond the measured")
    out = FittedTable("language", *numbers, numbers=numbers, title="pairs of each language")
    for law in laws:
        allocated, shared = pairs[law.language], even[law.language]
        beyond = max(allocated / law.measured[1], law.measured[0] / allocated)
        score = predict(law, allocated)
        too_far = (
            score < 0  # which no score is
            or (law.reach is not None and allocated > max(law.reach, law.measured[1]))
            or (law.reach_below is not None and allocated < law.reach_below)
        )
        out.add_row(
            law.language,
            f"{allocated:,}",
            f"{score:.2f}",
            f"{shared:,}",
            f"{predict(law, shared):.2f}",
            f"{beyond:.1f} times{', too far' * too_far}" if beyond > 1 else "",
        )
    return out


def page(laws: Sequence[Law], points: Sequence[Point]) -> str:
    """Returns a page, which opens offline, of every law with its points."""
    curves, dots = {}, {}
    for law in laws:
        x = np.geomspace(law.measured[0], BEYOND * law.measured[1], plots.POINTS)
        measured = [point for point in points if point.language == law.language]
        curves[law.language] = (x.tolist(), [predict(law, pairs) for pairs in x])
        dots[law.language] = ([p.pairs for p in measured], [p.score for p in measured])
    return pages.render(
        "laws.html.j2",
        svg=plots.fits(curves, dots, "pairs", "score"),
        beyond=BEYOND,
        width=f"{WIDTH:g}",
        limit=f"{LIMIT:g}",
        columns=COLUMNS,
        rows=[_cells(law) for law in laws],
    )


def _cells(law: Law) -> list[str]:
    return [
        law.language,
        _ceiling(law),
        f"{law.a:.4g}",
        f"{law.b:.3f}",
        f"{law.b_interval[0]:.3f}, {law.b_interval[1]:.3f}",
        "" if law.r2 is None else f"{law.r2:.3f}",
        "" if law.held_out is None else f"{law.held_out:.2f}",
        f"{law.measured[1]:,.0f}",
        f"{law.held_back[0]:.2f}",
        f"{law.held_back[1]:.2f}",
        _reach(law),
    ]


def _ceiling(law: Law) -> str:
    low, high = law.ceiling_interval
    return f"{law.ceiling:.1f} ({low:.1f}, {high:.1f})" if low < high else f"{law.ceiling:g}"


def _reach(law: Law) -> str:
    if law.reach is None:
        return ""
    if not law.reach:
        return "nothing"
    times = law.reach / law.measured[1]
    return f"{law.reach:,.0f}" + (f" ({times:.1f} times)" if times > 1 else "")
