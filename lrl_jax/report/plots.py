"""Draws the figures of reports as SVG that takes its colours and letters from the page around it.

Each function draws one figure from plain numbers and returns one `<svg>` string. Colours are CSS
variables (--ink, --muted, --grid, --accent, --page), so a figure follows the page into dark mode.
"""

from collections.abc import Mapping, Sequence
import io
import itertools
import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
    with matplotlib.rc_context(STYLE):
        figure, ax = _figure(0.7 + 0.62 * len(names))
        if max(values) > 8 * max(min(values), 1e-9):
            ax.set_xscale("log")
        _span(ax, values)
        for y, name in enumerate(names):
            old, new = before.get(name), after.get(name)
            if old is not None and new is not None:
                ax.plot([old, new], [y, y], color=ACCENT, alpha=0.35, lw=5)
            for label, value in references.get(name, {}).items():
                ax.plot([value], [y], "|", color=MUTED, ms=13, mew=1.5)
                ax.annotate(label, (value, y), (0, -15), **_OFFSET, color=MUTED, size=8.5)
            ends = [(v, fill) for v, fill in ((old, PAGE), (new, ACCENT)) if v is not None]
            for value, fill in ends:
                ax.plot([value], [y], "o", ms=9, mec=ACCENT, mfc=fill, mew=1.8)
            _label_ends(ax, y, [value for value, _ in ends])
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlabel(unit)
        _plain_numbers(ax)
        ax.grid(axis="x")
        return _svg(figure, f"{unit}: before and after, of {', '.join(names)}")


def bars(series: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Draws horizontal bars, grouped by name: the last series in the accent colour, others grey.

    Args:
      series: {"base": {"kor_Hang": 3.1}, "extended": {"kor_Hang": 1.1}}
    """
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    height = 0.8 / len(series)
    with matplotlib.rc_context(STYLE):
        figure, ax = _figure(0.7 + (0.2 + 0.24 * len(series)) * len(names))
        for i, (label, values) in enumerate(series.items()):
            color, alpha = (ACCENT, 1.0) if i == len(series) - 1 else (MUTED, 0.45)
            for y, name in enumerate(names):
                if name not in values:
                    continue
                at = y - 0.4 + height * (i + 0.5)
                ax.barh(at, values[name], height * 0.86, color=color, alpha=alpha)
                text = f"{values[name]:.3g}  {label}" if y == 0 else f"{values[name]:.3g}"
                ax.annotate(text, (values[name], at), (5, 0), **_RIGHT, color=INK, size=9.5)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlim(0, 1.12 * max(v for values in series.values() for v in values.values()))
        ax.set_xlabel(unit)
        ax.grid(axis="x")
        return _svg(figure, f"{unit}, by {' and '.join(series)}, of {', '.join(names)}")


def stack(parts: Mapping[str, float], unit: str) -> str:
    """Draws one bar of parts end to end: the first in colour, others grey, the wide ones named."""
    whole, left = sum(parts.values()), 0.0
    with matplotlib.rc_context(STYLE):
        figure, ax = _figure(1.2)
        for i, (name, value) in enumerate(parts.items()):
            color, alpha = (MUTED, 0.3 + 0.2 * (i % 3)) if i else (ACCENT, 1.0)
            ax.barh(0, value, left=left, height=1, color=color, alpha=alpha, ec=PAGE, lw=1)
            if value > 0.07 * whole:
                ax.annotate(name, (left + value / 2, 0.5), (0, 9), **_OFFSET, color=INK, size=10)
            left += value
        ax.set_xlim(0, whole)
        ax.set_ylim(-0.5, 1.1)
        ax.set_yticks([])
        ax.set_xlabel(unit)
        ax.xaxis.set_major_formatter(lambda value, _: short(value))
        shares = ", ".join(f"{name} {100 * value / whole:.1f} %" for name, value in parts.items())
        return _svg(figure, f"{unit}: {shares}")


def curve(
    data: Curve, x_unit: str, y_unit: str, marks: Sequence[Mark] = (), *, zero: bool = False
) -> str:
    """Draws one curve: every measurement pale, a running mean over it, stages marked above."""
    with matplotlib.rc_context(STYLE):
        figure, ax = _figure(3.1)
        x, y = thin(data)
        if len(y) > 20:
            ax.plot(x, y, color=ACCENT, alpha=0.25, lw=1)
        ax.plot(x, smooth(y), color=ACCENT, lw=2)
        ax.annotate(
            short(smooth(y)[-1]), (x[-1], smooth(y)[-1]), (6, 0), **_RIGHT, color=INK, size=10
        )
        _stages(ax, marks)
        _limits(ax, [smooth(y), y[len(y) // 20 :]], zero=zero)
        _axes(ax, x_unit, y_unit)
        return _svg(figure, f"{y_unit} over {x_unit}, ending at {short(smooth(y)[-1])}")


def panels(
    curves: Mapping[str, Curve], x_unit: str, y_unit: str, marks: Sequence[Mark] = ()
) -> str:
    """Draws a panel a name: its curve in colour over all the others in grey."""
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    thinned = {name: thin(data) for name, data in curves.items()}
    smoothed = {name: (x, smooth(y)) for name, (x, y) in thinned.items()}
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 0.5 + 2.1 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax, name in itertools.zip_longest(grid.flat, curves):
            if name is None:
                ax.remove()
                continue
            for other, (x, y) in smoothed.items():
                own = other == name
                ax.plot(x, y, color=ACCENT if own else GRID, lw=1 + own, zorder=2 + own)
            x, y = smoothed[name]
            ax.annotate(f"{y[-1]:.3g}", (x[-1], y[-1]), (0, 7), **_OFFSET, color=INK, size=10)
            ax.set_title(name, color=INK)
            _stages(ax, [(at, "") for at, _ in marks])
            ax.grid(axis="y")
            ax.xaxis.set_major_formatter(lambda value, _: short(value))
            ax.xaxis.set_major_locator(MaxNLocator(4))
        _limits(grid[0, 0], [y[len(y) // 20 :] for _, y in smoothed.values()])
        figure.supxlabel(x_unit, color=MUTED, size=11)
        figure.supylabel(y_unit, color=MUTED, size=11)
        ends = ", ".join(f"{name} {y[-1]:.3g}" for name, (_, y) in smoothed.items())
        return _svg(figure, f"{y_unit} over {x_unit}, ending at: {ends}")


def lines(curves: Mapping[str, Curve], x_unit: str, y_unit: str, marks: Sequence[Mark] = ()) -> str:
    """Draws several curves in one figure, each named at its end; equal ends share a label."""
    with matplotlib.rc_context(STYLE):
        figure, ax = _figure(2.6)
        ends: dict[tuple[float, float], list[str]] = {}
        for i, (name, data) in enumerate(curves.items()):
            x, y = thin(data)
            ax.plot(x, y, color=ACCENT, lw=2, alpha=1 - 0.6 * i / max(len(curves), 1))
            ends.setdefault((x[-1], float(f"{y[-1]:.3g}")), []).append(name)
        for (x_end, y_end), names in ends.items():
            label = f"{', '.join(names)} {short(y_end)}"
            ax.annotate(label, (x_end, y_end), (6, 0), **_RIGHT, color=INK, size=9)
        _stages(ax, marks)
        _limits(ax, [thin(data)[1] for data in curves.values()], zero=True)
        _axes(ax, x_unit, y_unit)
        return _svg(figure, f"{y_unit} over {x_unit}, of {', '.join(curves)}")


def fits(curves: Mapping[str, Curve], points: Mapping[str, Curve], x_unit: str, y_unit: str) -> str:
    """Draws a panel a name, on a logarithmic x axis: a fitted curve, and the dots it fits."""
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH, 0.5 + 2.1 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for ax, name in itertools.zip_longest(grid.flat, curves):
            if name is None:
                ax.remove()
                continue
            ax.set_xscale("log")
            ax.plot(*curves[name], color=ACCENT, alpha=0.6, lw=2)
            ax.plot(*points[name], "o", ms=6, mec=ACCENT, mfc=PAGE, mew=1.8)
            ax.set_title(name, color=INK)
            ax.grid(axis="y")
            ax.xaxis.set_major_formatter(lambda value, _: short(value))
        figure.supxlabel(x_unit, color=MUTED, size=11)
        figure.supylabel(y_unit, color=MUTED, size=11)
        ends = ", ".join(f"{name} {points[name][1][-1]:.3g}" for name in curves)
        return _svg(figure, f"{y_unit} over {x_unit}, measured at last: {ends}")


def thin(data: Curve, points: int = POINTS) -> tuple[list[float], list[float]]:
    """Returns the curve as means over at most `points` equal bins.

    >>> thin(([0, 1, 2, 3], [1.0, 3.0, 5.0, 7.0]), points=2)
    ([0.5, 2.5], [2.0, 6.0])
    """
    x, y = data
    width = -(-len(x) // points)
    bins = [slice(at, at + width) for at in range(0, len(x), max(width, 1))]
    return [_mean(x[b]) for b in bins], [_mean(y[b]) for b in bins]


def smooth(y: Sequence[float], share: float = 0.04) -> list[float]:
    """Returns a running mean over `share` of the curve; it starts where the curve starts.

    >>> smooth([0.0, 3.0, 6.0, 0.0], share=0.5)
    [0.0, 3.0, 3.0, 3.0]
    """
    half = int(len(y) * share / 2)
    reach = [min(half, i) for i in range(len(y))]
    return [_mean(y[i - r : i + r + 1]) for i, r in enumerate(reach)]


def short(value: float) -> str:
    """Returns a number as a reader says it: three digits and a unit.

    >>> short(1234567.0), short(950.0), short(0.0005)
    ('1.23M', '950', '0.0005')
    """
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


_OFFSET = {"textcoords": "offset points", "ha": "center", "va": "center"}
_RIGHT = {"textcoords": "offset points", "ha": "left", "va": "center"}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure((WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _axes(ax: Axes, x_unit: str, y_unit: str) -> None:
    ax.set_xlabel(x_unit)
    ax.set_ylabel(y_unit)
    ax.grid(axis="y")
    ax.xaxis.set_major_formatter(lambda value, _: short(value))
    ax.yaxis.set_major_formatter(lambda value, _: short(value))
    ax.margins(x=0.01)


def _span(ax: Axes, values: Sequence[float]) -> None:
    """Gives the x axis the values with some room on both sides, on whichever scale it has."""
    low, high = min(values), max(values)
    if ax.get_xscale() == "log":
        room = (high / low) ** 0.08
        ax.set_xlim(low / room, high * room)
    else:
        room = 0.08 * (high - low) or 0.5
        ax.set_xlim(low - room, high + room)


def _label_ends(ax: Axes, y: int, ends: Sequence[float]) -> None:
    """Writes the numbers above a dumbbell, in one label when two would touch."""
    shares = [
        float(ax.transAxes.inverted().transform(ax.transData.transform((v, y)))[0]) for v in ends
    ]
    if len(ends) == 2 and abs(shares[0] - shares[1]) < 0.08:
        text = " \N{RIGHTWARDS ARROW} ".join(f"{v:.3g}" for v in ends)
        ax.annotate(text, (sum(ends) / 2, y), (0, 11), **_OFFSET, color=INK, size=10)
        return
    for value in ends:
        ax.annotate(f"{value:.3g}", (value, y), (0, 11), **_OFFSET, color=INK, size=10)


def _limits(ax: Axes, curves: Sequence[Sequence[float]], *, zero: bool = False) -> None:
    """Fits the y axis to the curves after their first moments, which dwarf the rest."""
    low = min(itertools.chain.from_iterable(curves))
    high = max(itertools.chain.from_iterable(curves))
    room = 0.1 * (high - low) or 0.1 * abs(high) or 1.0
    ax.set_ylim(0 if zero else low - room, high + 1.5 * room)


def _stages(ax: Axes, marks: Sequence[Mark]) -> None:
    for at, name in marks:
        ax.axvline(at, color=MUTED, lw=0.8, ls=(0, (2, 3)))
        place = {"xycoords": ax.get_xaxis_transform(), "size": 9, "color": MUTED}
        ax.annotate(name, (at, 1.0), (4, 2), **_RIGHT, **place)


def _plain_numbers(ax: Axes) -> None:
    if ax.get_xscale() == "log":
        low, high = ax.get_xlim()
        ticks = [m * 10.0**e for e in range(-3, 6) for m in (1, 2, 5)]
        ax.set_xticks([tick for tick in ticks if low <= tick <= high], minor=False)
        ax.minorticks_off()
    ax.xaxis.set_major_formatter("{x:g}")


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
    label = description.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    head = f'<svg {box.group()} role="img" aria-label="{label}"'
    return re.sub(r"<svg[^>]*", lambda _: head, svg, count=1).strip()
