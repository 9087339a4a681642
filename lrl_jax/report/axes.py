"""Dresses the axes of figures, and writes them as SVG in the colours of the page around them.

Colours are CSS variables (--ink, --muted, --grid, --accent, --page, --line2 to --line6), so a
figure follows the page into dark mode.
"""

from collections.abc import Iterable, Sequence
import html
import io
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

WIDTH = 9.0  # inches of 72 units; the page scales it
INK, MUTED, GRID, ACCENT, PAGE = "#010101", "#020202", "#030303", "#040404", "#050505"
LINES = (ACCENT, "#060606", "#070707", "#080808", "#090909", "#0a0a0a")  # of runs that are compared
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", ACCENT: "--accent", PAGE: "--page"}
VARIABLES |= {colour: f"--line{i}" for i, colour in enumerate(LINES[1:], start=2)}
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


def short(value: float) -> str:
    """Returns a number as a reader says it: three digits and a unit.

    >>> short(1234567.0), short(950.0), short(0.0005)
    ('1.23M', '950', '0.0005')
    """
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


CENTRE = {"textcoords": "offset points", "ha": "center", "va": "center"}
RIGHT = {"textcoords": "offset points", "ha": "left", "va": "center"}


def tick(value: float, _: float) -> str:
    """Returns the label of a tick, as matplotlib asks for it."""
    return short(value)


def figure(height: float) -> tuple[Figure, Axes]:
    """Returns a figure of one panel, `height` inches high, and its axes."""
    drawn = Figure((WIDTH, height), layout="constrained")
    return drawn, drawn.subplots()


def panel_grid(
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
        ax.xaxis.set_major_formatter(tick)
    figure.supxlabel(x_unit, color=MUTED)
    figure.supylabel(y_unit, color=MUTED)
    return figure, axes


def dress(ax: Axes, x_unit: str, y_unit: str, marks: Sequence[Mark]) -> None:
    """Names the axes of a curve, and marks where stages begin."""
    mark_stages(ax, marks)
    ax.set_xlabel(x_unit)
    ax.set_ylabel(y_unit)
    ax.grid(axis="y")
    ax.xaxis.set_major_formatter(tick)
    ax.yaxis.set_major_formatter(tick)
    ax.margins(x=0.01)


def mark_stages(ax: Axes, marks: Sequence[Mark]) -> None:
    """Draws a line where each stage begins, with its name."""
    place = {"xycoords": ax.get_xaxis_transform(), "size": 9, "color": MUTED}
    for at, name in marks:
        ax.axvline(at, color=MUTED, lw=0.8, ls=(0, (2, 3)))
        ax.annotate(name, (at, 1.0), (4, 2), **RIGHT, **place)


def fit_x(ax: Axes, values: Sequence[float]) -> None:
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


def fit_y(ax: Axes, curves: Sequence[Sequence[float]], *, zero: bool = False) -> None:
    """Fits the y axis to curves without their first moments, which would dwarf the rest."""
    low, high = min(map(min, curves)), max(map(max, curves))
    room = 0.1 * (high - low) or 0.1 * abs(high) or 1.0
    ax.set_ylim(0 if zero else low - room, high + 1.5 * room)


def label_ends(ax: Axes, y: int, ends: Sequence[float]) -> None:
    """Writes the numbers above a dumbbell, in one label when two would touch."""
    to_share = ax.transData + ax.transAxes.inverted()
    shares = [float(to_share.transform((value, y))[0]) for value in ends]
    labels = [(f"{value:.3g}", value) for value in ends]
    if len(ends) == 2 and abs(shares[0] - shares[1]) < 0.08:
        text = " \N{RIGHTWARDS ARROW} ".join(text for text, _ in labels)
        labels = [(text, sum(ends) / 2)]
    for text, x in labels:
        ax.annotate(text, (x, y), (0, 11), **CENTRE, size=10)


def svg(drawn: Figure, description: str) -> str:
    """Returns the figure in the page's colours, without what only a file of its own needs."""
    out = io.StringIO()
    drawn.savefig(out, format="svg", transparent=True)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # unique in one figure, not in a page of them
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"'DejaVu Sans'[^;\"]*|'Bitstream[^;\"]*", "inherit", text)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box, "matplotlib writes a viewBox"
    head = f'<svg {box.group()} role="img" aria-label="{html.escape(description)}"'
    return re.sub(r"<svg[^>]*", lambda _: head, text, count=1).strip()
