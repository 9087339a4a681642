"""Draws the figures of reports as SVG: each function one figure, from plain numbers.

What figures share, their colours among it, stands in `axes`.
"""

from collections.abc import Mapping, Sequence
import statistics

import matplotlib
from matplotlib.ticker import MaxNLocator

from lrl_jax.report import axes as axes_of
from lrl_jax.report.axes import ACCENT, GRID, LINES, MUTED, PAGE, STYLE, Curve, Mark, short

POINTS = 400  # a curve is at most this many bins wide: what a screen can show
DRAWN = 20_000  # points of a figure of many curves, which share them


@matplotlib.rc_context(STYLE)
def dumbbells(
    before: Mapping[str, float],
    after: Mapping[str, float],
    unit: str,
    references: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """Draws one line a name: a hollow dot before, a full dot after, small ticks for references.

    Where the largest number is more than 8 times the smallest, the axis is logarithmic.
    """
    references = references or {}
    names = list({**before, **after})
    values = [*before.values(), *after.values()]
    values += [v for name in names for v in references.get(name, {}).values()]
    figure, ax = axes_of.figure(0.7 + 0.62 * len(names))
    axes_of.fit_x(ax, values)
    for y, name in enumerate(names):
        ends = [(of[name], fill) for of, fill in ((before, PAGE), (after, ACCENT)) if name in of]
        if len(ends) == 2:
            ax.plot([value for value, _ in ends], [y, y], color=ACCENT, alpha=0.35, lw=5)
        for label, value in references.get(name, {}).items():
            ax.plot([value], [y], "|", color=MUTED, ms=13, mew=1.5)
            ax.annotate(label, (value, y), (0, -15), **axes_of.CENTRE, color=MUTED, size=8.5)
        for value, fill in ends:
            ax.plot([value], [y], "o", ms=9, mec=ACCENT, mfc=fill, mew=1.8)
        axes_of.label_ends(ax, y, [value for value, _ in ends])
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel(unit)
    ax.grid(axis="x")
    return axes_of.svg(figure, f"{unit}: before and after, of {', '.join(names)}")


@matplotlib.rc_context(STYLE)
def bars(series: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Draws horizontal bars, grouped by name: the last series in the accent colour, others grey.

    Args:
      series: {"base": {"kor_Hang": 3.1}, "extended": {"kor_Hang": 1.1}}
    """
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    height = 0.8 / len(series)
    figure, ax = axes_of.figure(0.7 + (0.2 + 0.24 * len(series)) * len(names))
    for i, (label, values) in enumerate(series.items()):
        color, alpha = (ACCENT, 1.0) if i == len(series) - 1 else (MUTED, 0.45)
        for y, name in enumerate(names):
            if name not in values:
                continue
            at = y - 0.4 + height * (i + 0.5)
            ax.barh(at, values[name], height * 0.86, color=color, alpha=alpha)
            text = f"{values[name]:.3g}  {label}" if y == 0 else f"{values[name]:.3g}"
            ax.annotate(text, (values[name], at), (5, 0), **axes_of.RIGHT, size=9.5)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(0, 1.12 * max(v for values in series.values() for v in values.values()))
    ax.set_xlabel(unit)
    ax.grid(axis="x")
    return axes_of.svg(figure, f"{unit}, by {' and '.join(series)}, of {', '.join(names)}")


@matplotlib.rc_context(STYLE)
def stack(parts: Mapping[str, float], unit: str) -> str:
    """Draws one bar of parts end to end: the first in colour, others grey, the wide ones named."""
    whole, left = sum(parts.values()), 0.0
    figure, ax = axes_of.figure(1.2)
    for i, (name, value) in enumerate(parts.items()):
        color, alpha = (MUTED, 0.3 + 0.2 * (i % 3)) if i else (ACCENT, 1.0)
        ax.barh(0, value, left=left, height=1, color=color, alpha=alpha, ec=PAGE, lw=1)
        if value > 0.07 * whole:
            ax.annotate(name, (left + value / 2, 0.5), (0, 9), **axes_of.CENTRE, size=10)
        left += value
    ax.set_xlim(0, whole)
    ax.set_ylim(-0.5, 1.1)
    ax.set_yticks([])
    ax.set_xlabel(unit)
    ax.xaxis.set_major_formatter(axes_of.tick)
    shares = ", ".join(f"{name} {100 * value / whole:.1f} %" for name, value in parts.items())
    return axes_of.svg(figure, f"{unit}: {shares}")


@matplotlib.rc_context(STYLE)
def curve(
    data: Curve, x_unit: str, y_unit: str, marks: Sequence[Mark] = (), *, zero: bool = False
) -> str:
    """Draws one curve: every measurement pale, a running mean over it, stages marked above."""
    figure, ax = axes_of.figure(3.1)
    x, y = thin(data)
    mean = smooth(y)
    if len(y) > 20:
        ax.plot(x, y, color=ACCENT, alpha=0.25, lw=1)
    ax.plot(x, mean, color=ACCENT, lw=2)
    ax.annotate(short(mean[-1]), (x[-1], mean[-1]), (6, 0), **axes_of.RIGHT, size=10)
    axes_of.dress(ax, x_unit, y_unit, marks)
    axes_of.fit_y(ax, [mean, y[len(y) // 20 :]], zero=zero)
    return axes_of.svg(figure, f"{y_unit} over {x_unit}, ending at {short(mean[-1])}")


@matplotlib.rc_context(STYLE)
def lines(curves: Mapping[str, Curve], x_unit: str, y_unit: str, marks: Sequence[Mark] = ()) -> str:
    """Draws several curves in one figure, each named at its end; equal ends share a label."""
    figure, ax = axes_of.figure(2.6)
    thinned = {name: thin(data) for name, data in curves.items()}
    ends: dict[tuple[float, float], list[str]] = {}
    for i, (name, (x, y)) in enumerate(thinned.items()):
        ax.plot(x, y, color=ACCENT, lw=2, alpha=1 - 0.6 * i / len(curves))
        ends.setdefault((x[-1], float(f"{y[-1]:.3g}")), []).append(name)
    for (x_end, y_end), names in ends.items():
        label = f"{', '.join(names)} {short(y_end)}"
        ax.annotate(label, (x_end, y_end), (6, 0), **axes_of.RIGHT, size=9)
    axes_of.dress(ax, x_unit, y_unit, marks)
    axes_of.fit_y(ax, [y for _, y in thinned.values()], zero=True)
    return axes_of.svg(figure, f"{y_unit} over {x_unit}, of {', '.join(curves)}")


@matplotlib.rc_context(STYLE)
def panels(
    curves: Mapping[str, Curve], x_unit: str, y_unit: str, marks: Sequence[Mark] = ()
) -> str:
    """Draws a panel a name: its curve in colour over all the others in grey."""
    thinned = {name: thin(data) for name, data in curves.items()}
    smoothed = {name: (x, smooth(y)) for name, (x, y) in thinned.items()}
    figure, axes = axes_of.panel_grid(curves, x_unit, y_unit, sharex=True, sharey=True)
    for name, ax in axes.items():
        for other, (x, y) in smoothed.items():
            own = other == name
            ax.plot(x, y, color=ACCENT if own else GRID, lw=1 + own, zorder=2 + own)
        x, y = smoothed[name]
        ax.annotate(f"{y[-1]:.3g}", (x[-1], y[-1]), (0, 7), **axes_of.CENTRE, size=10)
        axes_of.mark_stages(ax, [(at, "") for at, _ in marks])
        ax.xaxis.set_major_locator(MaxNLocator(4))
        axes_of.fit_y(ax, [y[len(y) // 20 :] for _, y in smoothed.values()])
    ends = ", ".join(f"{name} {y[-1]:.3g}" for name, (_, y) in smoothed.items())
    return axes_of.svg(figure, f"{y_unit} over {x_unit}, ending at: {ends}")


@matplotlib.rc_context(STYLE)
def overlaid(
    curves: Mapping[str, Mapping[str, Curve]], names: Sequence[str], x_unit: str, y_unit: str
) -> str:
    """Draws a panel a name, with a curve for each run that has one.

    The first runs have the colours of LINES and their number, counted from 1, at the end of their
    curve; all others are grey.

    Args:
      curves: panel -> run -> its curve.
      names: the runs, those to be coloured first.
    """
    points = max(20, min(POINTS, DRAWN // max(sum(map(len, curves.values())), 1)))
    drawn: dict[str, dict[str, Curve]] = {panel: {} for panel in curves}
    for panel, of_panel in curves.items():
        for name, data in of_panel.items():
            x, y = thin(data, points)
            drawn[panel][name] = x, smooth(y)
    every = [y[len(y) // 20 :] for of_panel in drawn.values() for _, y in of_panel.values()]
    figure, axes = axes_of.panel_grid(curves, x_unit, y_unit, sharex=True, sharey=True)
    for panel, ax in axes.items():
        for i, name in reversed([*enumerate(names)]):
            if name not in drawn[panel]:
                continue
            x, y = drawn[panel][name]
            colour = LINES[i] if i < len(LINES) else GRID
            ax.plot(x, y, color=colour, lw=2 - (i >= len(LINES)), zorder=3 - (i >= len(LINES)))
            if i < len(LINES):
                ax.annotate(
                    str(i + 1), (x[-1], y[-1]), (4, 0), **axes_of.RIGHT, color=colour, size=10
                )
        ax.xaxis.set_major_locator(MaxNLocator(4))
        axes_of.fit_y(ax, every)
    return axes_of.svg(
        figure, f"{y_unit} over {x_unit}, of {', '.join(names)}, for {', '.join(curves)}"
    )


@matplotlib.rc_context(STYLE)
def fits(curves: Mapping[str, Curve], points: Mapping[str, Curve], x_unit: str, y_unit: str) -> str:
    """Draws a panel a name, on a logarithmic x axis: a fitted curve, and the dots it fits."""
    figure, axes = axes_of.panel_grid(curves, x_unit, y_unit, subplot_kw={"xscale": "log"})
    for name, ax in axes.items():
        ax.plot(*curves[name], color=ACCENT, alpha=0.6, lw=2)
        ax.plot(*points[name], "o", ms=6, mec=ACCENT, mfc=PAGE, mew=1.8)
    ends = ", ".join(f"{name} {points[name][1][-1]:.3g}" for name in curves)
    return axes_of.svg(figure, f"{y_unit} over {x_unit}, measured at last: {ends}")


@matplotlib.rc_context(STYLE)
def changes(before: Mapping[str, Curve], after: Mapping[str, Curve], x_unit: str) -> str:
    """Draws a panel a name: hollow dots before, full ones in colour after."""
    names = [*{**before, **after}]
    figure, axes = axes_of.panel_grid(names, x_unit, "", sharex=True)
    for name, ax in axes.items():
        for curves, colour, fill in ((before, MUTED, PAGE), (after, ACCENT, ACCENT)):
            if name in curves:
                ax.plot(*curves[name], "o-", color=colour, mfc=fill, ms=4.5, lw=1.6)
        if min(y for curves in (before, after) if name in curves for y in curves[name][1]) >= 0:
            ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return axes_of.svg(figure, f"before and after over {x_unit}: {', '.join(names)}")


@matplotlib.rc_context(STYLE)
def maps(panels: Mapping[str, tuple[Curve, Curve]]) -> str:
    """Draws a panel a name: points, hollow, each joined to its counterpart, full."""
    figure, axes = axes_of.panel_grid(panels, "", "")
    for name, ax in axes.items():
        (x, y), (to_x, to_y) = panels[name]
        ax.plot([x, to_x], [y, to_y], color=MUTED, alpha=0.4, lw=0.6)
        for at, fill in (((x, y), PAGE), ((to_x, to_y), ACCENT)):
            ax.plot(*at, "o", ms=4, mec=ACCENT, mfc=fill, mew=0.8)
        ax.set(xticks=[], yticks=[])
    return axes_of.svg(figure, f"pairs of points: {', '.join(panels)}")


@matplotlib.rc_context(STYLE)
def differences(means: Mapping[str, tuple[float, float | None, float | None]], unit: str) -> str:
    """Draws one line a name: a mean with its interval, beside the line where nothing differs.

    A full dot has an interval without zero.

    Args:
      means: name -> mean, low and high; None where there is no interval.
    """
    figure, ax = axes_of.figure(0.7 + 0.32 * len(means))
    ax.axvline(0, color=MUTED, lw=1)
    for y, (mean, low, high) in enumerate(means.values()):
        excludes_zero = low is not None and high is not None and low * high > 0
        if low is not None and high is not None:
            ax.plot([low, high], [y, y], color=ACCENT, alpha=0.5, lw=3)
        ax.plot([mean], [y], "o", ms=7, mec=ACCENT, mfc=ACCENT if excludes_zero else PAGE, mew=1.6)
    ax.set_yticks(range(len(means)), [*means])
    ax.set_ylim(len(means) - 0.4, -0.6)
    ax.set_xlabel(unit)
    ax.grid(axis="x")
    ends = ", ".join(f"{name} {mean:.3g}" for name, (mean, *_) in means.items())
    return axes_of.svg(figure, f"{unit}: {ends}")


@matplotlib.rc_context(STYLE)
def scatters(points: Mapping[str, Curve], x_unit: str, y_unit: str) -> str:
    """Draws a panel a name: a dot for each pair of numbers, and the line where both are equal."""
    figure, axes = axes_of.panel_grid(points, x_unit, y_unit)
    for name, ax in axes.items():
        x, y = points[name]
        ends = [min(*x, *y), max(*x, *y)]
        ax.plot(ends, ends, color=MUTED, alpha=0.6, lw=1)
        ax.plot(x, y, "o", ms=4, mec=ACCENT, mfc=PAGE, mew=1.2)
        ax.xaxis.set_major_locator(MaxNLocator(4))
    counts = ", ".join(f"{name} {len(x)} dots" for name, (x, _) in points.items())
    return axes_of.svg(figure, f"{y_unit} over {x_unit}: {counts}")


def thin(data: Curve, points: int = POINTS) -> tuple[list[float], list[float]]:
    """Returns the curve as means over at most `points` equal bins.

    >>> thin(([0, 1, 2, 3], [1.0, 3.0, 5.0, 7.0]), points=2)
    ([0.5, 2.5], [2.0, 6.0])
    """
    x, y = data
    width = max(-(-len(x) // points), 1)
    bins = [slice(at, at + width) for at in range(0, len(x), width)]
    return [statistics.fmean(x[b]) for b in bins], [statistics.fmean(y[b]) for b in bins]


def smooth(y: Sequence[float], share: float = 0.04) -> list[float]:
    """Returns a running mean over `share` of the curve; it starts where the curve starts.

    >>> smooth([0.0, 3.0, 6.0, 0.0], share=0.5)
    [0.0, 3.0, 3.0, 3.0]
    """
    half = int(len(y) * share / 2)
    reach = [min(half, i) for i in range(len(y))]
    return [statistics.fmean(y[i - r : i + r + 1]) for i, r in enumerate(reach)]
