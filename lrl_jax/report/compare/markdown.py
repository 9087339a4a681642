"""Writes what compares as a section of a model card, in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from lrl_jax import __version__
from lrl_jax.hf.card import escape
from lrl_jax.report import pages, plots
from lrl_jax.report.compare.tables import TableCell, cell_of

MARK = "<!-- a section by lrl report -->"
LEAST = 2  # runs of a row


def section(facts: Mapping[str, Any]) -> str:
    """Returns the scores that stand side by side, why others do not, and what the runs are."""
    names = [run["name"] for run in facts["runs"]]
    rows = [row for key in ("results", "tasks", "judge") for row in facts[key]]
    together = [row for row in rows if _filled(row) >= LEAST]
    lines = [MARK, "", "## Comparison", ""]
    if together:
        lines += [*_line(["score", *names]), "|---" * (len(names) + 1) + "|"]
        for row in together:
            cells = [_words(cell_of(row, name)) for name in names]
            lines += _line([f"{row['measure']}, {row['name']}", *cells])
        lines += ["", facts["how"]["change"]]
    else:
        lines.append("No score of these runs can stand side by side.")
    lines += ["", *_runs(facts["runs"]), "", f"Compared by lrl_jax {__version__}.", ""]
    return "\n".join(lines)


def _filled(row: Mapping[str, Any]) -> int:
    return sum("missing" not in cell for cell in row["cells"].values())


def _words(cell: TableCell) -> str:
    notes = "; ".join(cell.notes)
    return cell.missing or (f"{cell.text} ({notes})" if notes else cell.text)


def _line(cells: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(map(escape, cells)) + " |"]


def _runs(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for run in runs:
        trained, made_of = run["trained"], run["origins"]
        amounts = [
            f"{plots.short(trained[key])} {unit}"
            for key, unit in (("tokens_read", "tokens"), ("bytes_read", "bytes of text"),
                              ("flops", "FLOPs"))
            if trained[key] is not None
        ]  # fmt: skip
        if trained["step"] is not None:
            amounts.insert(0, pages.counted(int(trained["step"]), "step"))
        what = ", ".join(amounts) or "not trained"
        base = f"base {made_of['base']}; " if made_of["base"] else ""
        weights = f"; weights {made_of['weights'][:16]}" if made_of["weights"] else ""
        lines.append(f"- {escape(run['name'])}: {escape(base + what + weights)}")
    return lines
