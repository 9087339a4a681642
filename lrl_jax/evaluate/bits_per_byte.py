"""Measures the evaluation kind `bits_per_byte`: the loss of held-out text, and its tokens."""

from collections.abc import Iterator, Mapping
import dataclasses
import itertools
from typing import Any

from lrl_jax import text
from lrl_jax.evaluate import likelihood, metrics
from lrl_jax.evaluate.kinds import EvaluationKind, MeasuredModel, register
from lrl_jax.evaluate.rows import Json, ReportRow, fixed, number, pairs
from lrl_jax.recipe.evaluate import Evaluate


def measure(uri: str, model: MeasuredModel, settings: Evaluate) -> dict[str, Any]:
    """Scores the first `max_lines` lines of a text; returns the fields of `likelihood.Score`."""
    score = likelihood.bits_per_byte(
        model.cfg, model.params, model.tokenizer, _lines(uri, settings), model.mesh,
        settings.batch_size, model.length, model.loss_blocks,
    )  # fmt: skip
    return dataclasses.asdict(score)


def baselines(settings: Evaluate) -> Mapping[str, Mapping[str, float]]:
    """Returns bits per byte of character n-gram models, fitted on the recipe's `baseline_text`."""
    return {
        name: {
            model: metrics.ngram_bits_per_byte(
                text.read_many(uris), _lines(settings.bits_per_byte[name], settings), order
            )
            for order, model in ((1, "unigram"), (2, "bigram"))
        }
        for name, uris in settings.baseline_text.items()
    }


def rows(before: Json, after: Json) -> Iterator[ReportRow]:
    """Yields tokens per line of every text, then bits per byte of every text."""
    for name, old, new in pairs(before, after, "bits_per_byte"):
        was, now = tokens_per_line(old), tokens_per_line(new)
        ratio = now / was if was and now is not None else None
        change = _percent(ratio)
        if ratio is not None and abs(ratio - 1) > 0.005:
            change = f"{1 / ratio:.2f}x fewer" if ratio < 1 else f"{ratio:.2f}x more"
        yield ReportRow(
            "tokens per line", name, fixed(was, 1), fixed(now, 1), change, _verdict(ratio),
            key="bits_per_byte.tokens_per_line",
        )  # fmt: skip
    for name, old, new in pairs(before, after, "bits_per_byte"):
        was, now = number(old.get("bits_per_byte")), number(new.get("bits_per_byte"))
        ratio = now / was if was and now is not None else None
        yield ReportRow(
            "bits per byte", name, fixed(was, 3), fixed(now, 3), _percent(ratio), _verdict(ratio),
            _baseline_note(before, after, name), "bits_per_byte.bits_per_byte",
        )  # fmt: skip


def tokens_per_line(score: Json) -> float | None:
    """Returns the tokens per line of a scored text; None when the score does not have them."""
    tokens, lines = number(score.get("tokens")), number(score.get("lines"))
    return tokens / lines if tokens and lines else None


def _percent(ratio: float | None) -> str:
    return "" if ratio is None else f"{100 * (ratio - 1):+.1f} %"


def _verdict(ratio: float | None) -> str:
    """Returns "better" if the ratio fell, "worse" if it rose, "" if it changed by 0.5% or less."""
    if ratio is None:
        return ""
    return "better" if ratio < 0.995 else "worse" if ratio > 1.005 else ""


def _baseline_note(before: Json, after: Json, name: str) -> str:
    scores = {**(before.get("baselines") or {}), **(after.get("baselines") or {})}.get(name) or {}
    values = {model: number(value) for model, value in scores.items()}
    return ", ".join(f"{model} {x:.2f}" for model, x in values.items() if x is not None)


def _lines(uri: str, settings: Evaluate) -> list[str]:
    return list(itertools.islice(text.lines(uri), settings.max_lines))


KIND = register(EvaluationKind("bits_per_byte", str, measure, rows))
