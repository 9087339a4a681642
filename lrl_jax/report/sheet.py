"""Shows sheets: the page on which an annotator compares answers, and the table of what came back.

page(handout, instructions, "kor_Hang")        one file, which keeps answers and fetches nothing
"""

from collections.abc import Iterator
from typing import Any

import langcodes
from rich.table import Table

from lrl_jax.evaluate.sheets.draw import Handout, file_stem
from lrl_jax.evaluate.sheets.forms import ANSWERS_FORM
from lrl_jax.report import pages
from lrl_jax.storage import Json
from lrl_jax.terminal import FittedTable

INSTRUCTIONS = (
    "Read the question and both answers, and choose the better one: the one that is more correct, "
    "more helpful and better written. Choose a tie only where neither is better."
)
KAPPAS = 3  # pairs of annotators that are named
FEW_LETTERS = 0.2  # of a short text, whose names and terms may be in Latin letters
NUMBERS = ("wins", "losses", "ties", "share", "95 %")
COUNTS = ("answered", "missing", "wins", "losses", "ties", "left", "right", "same")


def page(handout: Handout, instructions: str = INSTRUCTIONS, language: str = "") -> str:
    """Returns the page of an annotator; it opens offline and is of one file.

    Args:
      language: code of the language of questions and answers, for fonts and screen readers. The
        direction of each text is that of most of its letters; among texts that are read from the
        right, a fifth of its letters is enough.
    """
    together = " ".join(words for row in handout.rows for words in row.texts())
    tag = str(langcodes.Language.get(language.replace("_", "-"))) if language else ""
    return pages.render(
        "sheet.html.j2",
        form=ANSWERS_FORM,
        sheet=handout.sheet,
        annotator=handout.annotator,
        file=f"{file_stem(handout.annotator)}.answers.json",
        instructions=instructions,
        language=tag,
        least=FEW_LETTERS if pages.direction(together) == "rtl" else 0.5,
        rows=handout.rows,
    )


def tables(results: Json) -> Iterator[Table]:
    """Yields tables of results: of the models, then of each annotator."""
    first, second = results["models"]
    out = FittedTable(
        "model", *NUMBERS, numbers=NUMBERS,
        title=f"{results['items']} questions, by the majority of annotators",
        caption=f"sign test p = {results['sign_test']:.3g}; {_agreement(results)}",
        caption_justify="left",
    )  # fmt: skip
    wins, ties = results["wins"], str(results["ties"])
    share, interval = results["share"], results["interval"]
    rest = None if share is None else 1 - share
    bounds = None if interval is None else [1 - interval[1], 1 - interval[0]]
    out.add_row(first, str(wins[first]), str(wins[second]), ties, *_share(share, interval))
    out.add_row(second, str(wins[second]), str(wins[first]), ties, *_share(rest, bounds))
    yield out
    yield _annotators(results)


def _annotators(results: Json) -> Table:
    title = f"wins and losses of {results['models'][0]}; same: of what was shown twice"
    remarks = [f"{row['name']}: {_remark(row)}" for row in results["annotators"] if _remark(row)]
    out = FittedTable(
        "annotator", *COUNTS, numbers=COUNTS, title=title, caption="; ".join(remarks) or None,
        caption_justify="left",
    )  # fmt: skip
    for row in results["annotators"]:
        same = row["self_agreement"]
        out.add_row(
            row["name"], str(row["answered"]), str(row["missing"]), *map(str, row["wins"]),
            str(row["ties"]), str(row["left"]), str(row["right"]),
            "" if same is None else f"{round(same * row['repeats'])}/{row['repeats']}",
        )  # fmt: skip
    return out


def _remark(row: Json) -> str:
    return row["one_sided"] or ("" if row["answered"] else "gave nothing back")


def _share(share: float | None, interval: Any) -> tuple[str, str]:
    if share is None:
        return "none decided", ""
    return f"{share:.1%}", f"{interval[0]:.1%} to {interval[1]:.1%}"


def _agreement(results: Json) -> str:
    """Returns in words how far annotators agree."""
    alpha = results["alpha"]
    if alpha["nominal"] is None:
        return "no alpha: no question has two judgements, or all are the same"
    words = f"Krippendorff's alpha {alpha['nominal']:.3f} nominal, {alpha['ordinal']:.3f} ordinal"
    kappas = {
        " and ".join(pair["annotators"]): pair["kappa"]
        for pair in results["kappa"]
        if pair["kappa"] is not None
    }
    if not kappas:
        return words
    if len(kappas) > KAPPAS:
        low, high = min(kappas.values()), max(kappas.values())
        return f"{words}; Cohen's kappa of {len(kappas)} pairs {low:.2f} to {high:.2f}"
    said = ", ".join(f"{who} {kappa:.2f}" for who, kappa in kappas.items())
    return f"{words}; Cohen's kappa of {said}"
