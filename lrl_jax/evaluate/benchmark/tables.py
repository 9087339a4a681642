"""Shows scores of benchmark tasks as a table: each beside chance, and its 95 % interval."""

from collections.abc import Iterator, Mapping

from rich import box

from lrl_jax.evaluate import tasks
from lrl_jax.evaluate.rows import Json
from lrl_jax.terminal import FittedTable


def table(results: Mapping[str, Json]) -> FittedTable:
    """Returns a table of scores: each beside what guessing scores, and its 95 % interval."""
    numbers = ("score", "chance", "95 %", "items")
    shown = FittedTable("task", "metric", *numbers, numbers=numbers, box=box.SIMPLE_HEAD)
    for name, result in results.items():
        for n, metric in enumerate(tasks.metrics(result)):
            shown.add_row("" if n else name, metric, *_cells(metric, result))
        shown.add_section()
    return shown


def _cells(metric: str, result: Json) -> Iterator[str]:
    """Yields score, chance, interval and items."""
    yield f"{result['scores'][metric]:.1f}"
    chance = result.get("chance")
    yield f"{chance:.1f}" if chance is not None and tasks.has_chance(metric) else ""
    bounds = (result.get("intervals") or {}).get(metric)
    yield " to ".join(f"{bound:.1f}" for bound in bounds) if bounds else ""
    yield str(result.get("items"))
