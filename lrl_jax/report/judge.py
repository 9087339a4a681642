"""Shows what judges decided: tables for a terminal, and one offline page with examples.

terminal.console().print(summary_table(summary))
page(summary, examples)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import itertools
from typing import Any

from rich import box

from lrl_jax.evaluate.intervals import CONFIDENCE
from lrl_jax.evaluate.judge.summary import PANEL
from lrl_jax.evaluate.judge.tables import PairTable, RatingTable
from lrl_jax.report import pages, plots
from lrl_jax.terminal import FittedTable

Json = Mapping[str, Any]
MOST_EXAMPLES = 60
LONGEST = 4000  # characters of a text that an example shows


def summary_table(summary: Json) -> FittedTable:
    """Returns a row for each model and judge; several judges together come first."""
    names = columns(summary)
    table = FittedTable(*names, numbers=names[2:], box=box.SIMPLE_HEAD)
    for row in rows(summary):
        table.add_row(*row)
    return table


def columns(summary: Json) -> tuple[str, ...]:
    """Returns the headings of `rows`."""
    interval = f"{100 * summary.get('confidence', CONFIDENCE):g} %"
    if summary["kind"] == "single":
        return ("model", "judge", "rating", interval, "items")
    counts = ("wins", "ties", "losses")
    equal = ("at equal length, %", f"its {interval}")
    return ("model", "judge", "win rate, %", interval, *counts, *equal)


def rows(summary: Json) -> Iterator[list[str]]:
    """Yields the cells of each model and judge."""
    judges = summary["judges"]
    together = PANEL if len(judges) > 1 else judges[0]
    parts = {together: summary["scores"]}
    parts |= {judge: of["scores"] for judge, of in summary.get("by_judge", {}).items()}
    cells = _rating_cells if summary["kind"] == "single" else _pair_cells
    for model in summary["models"]:
        for judge, scores in parts.items():
            yield [model, judge, *cells(scores[model])]


def _rating_cells(score: Json) -> list[str]:
    if score["rating"] is None:
        return ["", "", "0"]
    low, high = score["interval"]
    return [f"{score['rating']:.2f}", f"{low:.2f} to {high:.2f}", str(score["items"])]


def _pair_cells(score: Json) -> list[str]:
    counts = [str(score[name]) for name in ("wins", "ties", "losses")]
    if not score["items"]:
        return ["", "", *counts, "", ""]
    equal = score["length_controlled"]
    more = [f"{100 * equal['win_rate']:.1f}", _percent(equal["interval"])] if equal else ["", ""]
    return [f"{100 * score['win_rate']:.1f}", _percent(score["interval"]), *counts, *more]


def _percent(interval: Sequence[float]) -> str:
    return " to ".join(f"{100 * bound:.1f}" for bound in interval)


# ---------------------------------------------------------------------------- in words
def remarks(summary: Json) -> Iterator[str]:
    """Yields what a reader has to know beside the numbers, a sentence each."""
    failed = sum(summary["failed"].values())
    if failed:
        each = ", ".join(f"{name} {count:,}" for name, count in summary["failed"].items())
        yield f"{failed:,} of {summary['items']:,} items have no verdict: {each}"
    for model, flaws in summary["flaws"].items():
        each = ", ".join(f"{name} {count:,}" for name, count in flaws.items())
        yield f"{model}: answers that no judge was asked about: {each}"
    if (orders := summary.get("orders", {})) and orders["items"]:
        yield (
            "both orders of every comparison say the same"
            if not orders["inconsistent"]
            else (
                f"in {orders['inconsistent']:,} of {orders['items']:,} comparisons "
                f"({orders['share']:.0%}) the two orders disagree, which counts as a tie; "
                f"{orders['prefer_first']:,} times for whichever stood first, "
                f"{orders['prefer_second']:,} times for whichever stood second"
            )
        )
    for pair in summary.get("agreement", ()):
        yield f"{' and '.join(pair['judges'])} {_agreed(pair)}"
    for judge, with_people in summary.get("humans", {}).items():
        yield f"people and {judge} {_agreed(with_people)}"
    if lacking := summary.get("without_reference"):
        yield f"{lacking:,} questions of mathematics, reasoning or coding have no reference"


def _agreed(pair: Json) -> str:
    if not pair["items"]:
        return "have no item in common"
    kappa = "not defined" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
    return f"say the same of {pair['same']:.0%} of {pair['items']:,} items, kappa {kappa}"


def categories_svg(summary: Json) -> str:
    """Returns the figure of categories; "" where there are none."""
    single = summary["kind"] == "single"
    series = {
        model: {
            name: cell["mean"] if single else 100 * cell["mean"]
            for name, cell in summary["scores"][model].get("categories", {}).items()
        }
        for model in summary["models"][: None if single else 1]
    }
    series = {model: values for model, values in series.items() if values}
    if not any(value for values in series.values() for value in values.values()):
        return ""
    return plots.bars(series, "rating" if single else "win rate, %")


# ---------------------------------------------------------------------------- the page
def page(summary: Json, examples: Iterable[Json]) -> str:
    """Returns the page; examples have question, answers (model -> text), verdict and judgments."""
    shown = [*itertools.islice(examples, MOST_EXAMPLES)]
    headings = columns(summary)
    return pages.render(
        "judge.html.j2",
        summary=summary,
        title=" against ".join(summary["models"]),
        remarks=[*remarks(summary)],
        columns=headings,
        rows=[*rows(summary)],
        numeric=range(2, len(headings)),
        svg=categories_svg(summary),
        examples=[_cut(example) for example in shown],
        about=about(summary),
    )


def about(summary: Json) -> dict[str, Any]:
    """Returns what the judges were asked, and where."""
    names = ("judges", "prompt", "language", "endpoint", "questions", "items", "tokens")
    return {name: summary[name] for name in names if summary.get(name)}


def _cut(value: Any) -> Any:
    """Returns an example whose texts are not longer than a page can show."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[:LONGEST]} [...]"
    if isinstance(value, Mapping):
        return {key: _cut(item) for key, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list) else value


# ---------------------------------------------------------------------------- released judgments
def released_table(table: RatingTable | PairTable) -> FittedTable:
    """Returns the table of a file of judgments: means by category, or wins of a pair."""
    if isinstance(table, PairTable):
        numbers = ("wins", "ties", "losses", "win rate, %", "95 %", "inconsistent", "failed")
        shown = FittedTable("pair", *numbers, numbers=numbers, box=box.SIMPLE_HEAD)
        rate = table.rate
        cells = [f"{100 * rate.value:.2f}", _percent((rate.low, rate.high))] if rate else ["", ""]
        counts = map(str, (table.wins, table.ties, table.losses))
        rest = map(str, (table.inconsistent, table.failed))
        shown.add_row(" against ".join(table.models), *counts, *cells, *rest)
    else:
        shown = FittedTable("category", "mean", "items", numbers=("mean", "items"),
                            box=box.SIMPLE_HEAD)  # fmt: skip
        for name, cell in table.cells.items():
            shown.add_row(name, f"{cell.mean:.2f}", str(cell.items))
        shown.add_section()
        shown.add_row("all", f"{table.mean:.5f}", str(table.items))
    shown.title = table.name
    return shown


def released_remarks(table: RatingTable | PairTable) -> Iterator[str]:
    """Yields what is odd about a file of judgments."""
    if isinstance(table, RatingTable):
        low, high = table.interval
        by_text = f"by the texts {table.text_mean:.5f}"
        yield f"mean {table.mean:.5f}, 95 % {low:.2f} to {high:.2f}; {by_text}"
        if table.unrated:
            yield f"without a rating: {', '.join(map(str, table.unrated))}"
    elif table.at_equal_length is not None:
        rate = table.at_equal_length
        yield (
            f"at equal length, without the difficulty of questions: {100 * rate.value:.2f} %, "
            f"95 % {_percent((rate.low, rate.high))}"
        )
    if table.disagreements:
        each = (f"{d.id} ({d.stored}; text: {d.text})" for d in table.disagreements)
        yield f"stored verdict and text disagree in {len(table.disagreements)}: {', '.join(each)}"
