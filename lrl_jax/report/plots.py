"""Draws the figures of reports as SVG that takes its colours and letters from the page around it.

Each function draws one figure from plain numbers and returns one `<svg>` string. Colours are CSS
variables (--ink, --muted, --grid, --accent, --page), so a figure follows the page into dark mode.
"""

from collections.abc import Iterable, Mapping, Sequence
import html
import io
import re
import statistics
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

POINTS = 400  # a curve is at most this many bins wide: what a screen can show
WIDTH = 9.0  # inches of 72 units; the page scales it
INK, MUTED, GRID, ACCENT, PAGE = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", ACCENT: "--accent", PAGE: "--page"}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lrl",
    "text.parse_math": False,  # a name may hold $, as regular expressions do
    "font.size": 11,
    "text.color": INK,
    "figure.labelsize": 11,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.color": GRID,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
}

Curve = tuple[Sequence[float], Sequence[float]]
Mark = tuple[float, str]  # where on the x axis a stage begins, and its name


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
    figure, ax = _figure(0.7 + 0.62 * len(names))
    _fit_x(ax, values)
    for y, name in enumerate(names):
        ends = [(of[name], fill) for of, fill in ((before, PAGE), (after, ACCENT)) if name in of]
        if len(ends) == 2:
            ax.plot([value for value, _ in ends], [y, y], color=ACCENT, alpha=0.35, lw=5)
        for label, value in references.get(name, {}).items():
            ax.plot([value], [y], "|", color=MUTED, ms=13, mew=1.5)
            ax.annotate(label, (value, y), (0, -15), **_CENTRE, color=MUTED, size=8.5)
        for value, fill in ends:
            ax.plot([value], [y], "o", ms=9, mec=ACCENT, mfc=fill, mew=1.8)
        _label_ends(ax, y, [value for value, _ in ends])
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel(unit)
    ax.grid(axis="x")
    return _svg(figure, f"{unit}: before and after, of {', '.join(names)}")


@matplotlib.rc_context(STYLE)
def bars(series: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Draws horizontal bars, grouped by name: the last series in the accent colour, others grey.

    Args:
      series: {"base": {"kor_Hang": 3.1}, "extended": {"kor_Hang": 1.1}}
    """
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    height = 0.8 / len(series)
    figure, ax = _figure(0.7 + (0.2 + 0.24 * len(series)) * len(names))
    for i, (label, values) in enumerate(series.items()):
        color, alpha = (ACCENT, 1.0) if i == len(series) - 1 else (MUTED, 0.45)
        for y, name in enumerate(names):
            if name not in values:
                continue
            at = y - 0.4 + height * (i + 0.5)
            ax.barh(at, values[name], height * 0.86, color=color, alpha=alpha)
            text = f"{values[name]:.3g}  {label}" if y == 0 else f"{values[name]:.3g}"
            ax.annotate(text, (values[name], at), (5, 0), **_RIGHT, size=9.5)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(0, 1.12 * max(v for values in series.values() for v in values.values()))
    ax.set_xlabel(unit)
    ax.grid(axis="x")
    return _svg(figure, f"{unit}, by {' and '.join(series)}, of {', '.join(names)}")


@matplotlib.rc_context(STYLE)
def stack(parts: Mapping[str, float], unit: str) -> str:
    """Draws one bar of parts end to end: the first in colour, others grey, the wide ones named."""
    whole, left = sum(parts.values()), 0.0
    figure, ax = _figure(1.2)
    for i, (name, value) in enumerate(parts.items()):
        color, alpha = (MUTED, 0.3 + 0.2 * (i % 3)) if i else (ACCENT, 1.0)
        ax.barh(0, value, left=left, height=1, color=color, alpha=alpha, ec=PAGE, lw=1)
        if value > 0.07 * whole:
            ax.annotate(name, (left + value / 2, 0.5), (0, 9), **_CENTRE, size=10)
        left += value
    ax.set_xlim(0, whole)
    ax.set_ylim(-0.5, 1.1)
    ax.set_yticks([])
    ax.set_xlabel(unit)
    ax.xaxis.set_major_formatter(_tick)
    shares = ", ".join(f"{name} {100 * value / whole:.1f} %" for name, value in parts.items())
    return _svg(figure, f"{unit}: {shares}")


@matplotlib.rc_context(STYLE)
def curve(
    data: Curve, x_unit: str, y_unit: str, marks: Sequence[Mark] = (), *, zero: bool = False
) -> str:
    """Draws one curve: every measurement pale, a running mean over it, stages marked above."""
    figure, ax = _figure(3.1)
    x, y = thin(data)
    mean = smooth(y)
    if len(y) > 20:
        ax.plot(x, y, color=ACCENT, alpha=0.25, lw=1)
    ax.plot(x, mean, color=ACCENT, lw=2)
    ax.annotate(short(mean[-1]), (x[-1], mean[-1]), (6, 0), **_RIGHT, size=10)
    _axes(ax, x_unit, y_unit, marks)
    _fit_y(ax, [mean, y[len(y) // 20 :]], zero=zero)
    return _svg(figure, f"{y_unit} over {x_unit}, ending at {short(mean[-1])}")


@matplotlib.rc_context(STYLE)
def lines(curves: Mapping[str, Curve], x_unit: str, y_unit: str, marks: Sequence[Mark] = ()) -> str:
    """Draws several curves in one figure, each named at its end; equal ends share a label."""
    figure, ax = _figure(2.6)
    thinned = {name: thin(data) for name, data in curves.items()}
    ends: dict[tuple[float, float], list[str]] = {}
    for i, (name, (x, y)) in enumerate(thinned.items()):
        ax.plot(x, y, color=ACCENT, lw=2, alpha=1 - 0.6 * i / len(curves))
        ends.setdefault((x[-1], float(f"{y[-1]:.3g}")), []).append(name)
    for (x_end, y_end), names in ends.items():
        label = f"{', '.join(names)} {short(y_end)}"
        ax.annotate(label, (x_end, y_end), (6, 0), **_RIGHT, size=9)
    _axes(ax, x_unit, y_unit, marks)
    _fit_y(ax, [y for _, y in thinned.values()], zero=True)
    return _svg(figure, f"{y_unit} over {x_unit}, of {', '.join(curves)}")


@matplotlib.rc_context(STYLE)
def panels(
    curves: Mapping[str, Curve], x_unit: str, y_unit: str, marks: Sequence[Mark] = ()
) -> str:
    """Draws a panel a name: its curve in colour over all the others in grey."""
    thinned = {name: thin(data) for name, data in curves.items()}
    smoothed = {name: (x, smooth(y)) for name, (x, y) in thinned.items()}
    figure, axes = _panels(curves, x_unit, y_unit, sharex=True, sharey=True)
    for name, ax in axes.items():
        for other, (x, y) in smoothed.items():
            own = other == name
            ax.plot(x, y, color=ACCENT if own else GRID, lw=1 + own, zorder=2 + own)
        x, y = smoothed[name]
        ax.annotate(f"{y[-1]:.3g}", (x[-1], y[-1]), (0, 7), **_CENTRE, size=10)
        _stages(ax, [(at, "") for at, _ in marks])
        ax.xaxis.set_major_locator(MaxNLocator(4))
        _fit_y(ax, [y[len(y) // 20 :] for _, y in smoothed.values()])
    ends = ", ".join(f"{name} {y[-1]:.3g}" for name, (_, y) in smoothed.items())
    return _svg(figure, f"{y_unit} over {x_unit}, ending at: {ends}")


@matplotlib.rc_context(STYLE)
def fits(curves: Mapping[str, Curve], points: Mapping[str, Curve], x_unit: str, y_unit: str) -> str:
    """Draws a panel a name, on a logarithmic x axis: a fitted curve, and the dots it fits."""
    figure, axes = _panels(curves, x_unit, y_unit, subplot_kw={"xscale": "log"})
    for name, ax in axes.items():
        ax.plot(*curves[name], color=ACCENT, alpha=0.6, lw=2)
        ax.plot(*points[name], "o", ms=6, mec=ACCENT, mfc=PAGE, mew=1.8)
    ends = ", ".join(f"{name} {points[name][1][-1]:.3g}" for name in curves)
    return _svg(figure, f"{y_unit} over {x_unit}, measured at last: {ends}")


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


def short(value: float) -> str:
    """Returns a number as a reader says it: three digits and a unit.

    >>> short(1234567.0), short(950.0), short(0.0005)
    ('1.23M', '950', '0.0005')
    """
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


_CENTRE = {"textcoords": "offset points", "ha": "center", "va": "center"}
_RIGHT = {"textcoords": "offset points", "ha": "left", "va": "center"}


def _tick(value: float, _: float) -> str:
    return short(value)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure((WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _panels(
    names: Iterable[str], x_unit: str, y_unit: str, **options: Any
) -> tuple[Figure, dict[str, Axes]]:
    """Returns a figure of panels, three in a row, and the panel of each name."""
    names = list(names)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure((WIDTH, 0.5 + 2.1 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for ax in grid[len(names) :]:
        ax.remove()
    axes = dict(zip(names, grid, strict=False))
    for name, ax in axes.items():
        ax.set_title(name)
        ax.grid(axis="y")
        ax.xaxis.set_major_formatter(_tick)
    figure.supxlabel(x_unit, color=MUTED)
    figure.supylabel(y_unit, color=MUTED)
    return figure, axes


def _axes(ax: Axes, x_unit: str, y_unit: str, marks: Sequence[Mark]) -> None:
    _stages(ax, marks)
    ax.set_xlabel(x_unit)
    ax.set_ylabel(y_unit)
    ax.grid(axis="y")
    ax.xaxis.set_major_formatter(_tick)
    ax.yaxis.set_major_formatter(_tick)
    ax.margins(x=0.01)


def _stages(ax: Axes, marks: Sequence[Mark]) -> None:
    place = {"xycoords": ax.get_xaxis_transform(), "size": 9, "color": MUTED}
    for at, name in marks:
        ax.axvline(at, color=MUTED, lw=0.8, ls=(0, (2, 3)))
        ax.annotate(name, (at, 1.0), (4, 2), **_RIGHT, **place)


def _fit_x(ax: Axes, values: Sequence[float]) -> None:
    """Gives the x axis the values with some room on both sides, on the scale that suits them."""
    low, high = min(values), max(values)
    if high > 8 * max(low, 1e-9):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=99))
        ax.minorticks_off()
        room = (high / low) ** 0.08
        ax.set_xlim(low / room, high * room)
    else:
        room = 0.08 * (high - low) or 0.5
        ax.set_xlim(low - room, high + room)
    ax.xaxis.set_major_formatter("{x:g}")


def _fit_y(ax: Axes, curves: Sequence[Sequence[float]], *, zero: bool = False) -> None:
    """Fits the y axis to curves without their first moments, which would dwarf the rest."""
    low, high = min(map(min, curves)), max(map(max, curves))
    room = 0.1 * (high - low) or 0.1 * abs(high) or 1.0
    ax.set_ylim(0 if zero else low - room, high + 1.5 * room)


def _label_ends(ax: Axes, y: int, ends: Sequence[float]) -> None:
    """Writes the numbers above a dumbbell, in one label when two would touch."""
    to_share = ax.transData + ax.transAxes.inverted()
    shares = [float(to_share.transform((value, y))[0]) for value in ends]
    labels = [(f"{value:.3g}", value) for value in ends]
    if len(ends) == 2 and abs(shares[0] - shares[1]) < 0.08:
        text = " \N{RIGHTWARDS ARROW} ".join(text for text, _ in labels)
        labels = [(text, sum(ends) / 2)]
    for text, x in labels:
        ax.annotate(text, (x, y), (0, 11), **_CENTRE, size=10)


def _svg(figure: Figure, description: str) -> str:
    """Returns the figure in the page's colours, without what only a file of its own needs."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # unique in one figure, not in a page of them
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*|'Bitstream[^;\"]*", "inherit", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box, "matplotlib writes a viewBox"
    head = f'<svg {box.group()} role="img" aria-label="{html.escape(description)}"'
    return re.sub(r"<svg[^>]*", lambda _: head, svg, count=1).strip()
