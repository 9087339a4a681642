"""Measures the evaluation kind `bits_per_byte`, a loss that is comparable between vocabularies.

Each line of a text is a document. Each of its tokens is predicted from bos and the tokens before it
in the line. Bytes are the UTF-8 bytes of the line. Neither the newline nor eos is counted: many
base models never saw an eos, so training would be credited for learning one token per line. This is
also what `bits_per_byte` means in EleutherAI/lm-evaluation-harness.

A line longer than a row is read in windows that overlap by half. Every window starts with bos, and
a token is scored in the window where it has the most context. So only the first `length // 2`
tokens of a line have a context shorter than that.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from lrl_jax.data.read import plain
from lrl_jax.evaluate import likelihood, metrics
from lrl_jax.evaluate.benchmark import items
from lrl_jax.evaluate.kinds import EvaluationKind, MeasuredModel, register
from lrl_jax.evaluate.rows import (
    ComparableScore,
    Json,
    ReportRow,
    fixed,
    number,
    pairs,
    recorded,
)
from lrl_jax.recipe.evaluate import Evaluate

# Score -> fields of each line, whose sums over all lines it is the ratio of.
SUMS = {
    "bits_per_byte": ("bits", "bytes"),
    "tokens_per_line": ("tokens", "lines"),
    "nats_per_token": ("nats", "tokens"),
}


@dataclasses.dataclass(frozen=True)
class Score:
    """Holds how well a model predicts a text."""

    bits_per_byte: float  # bits the model needs for one UTF-8 byte; independent of the tokenizer
    nats_per_token: float  # the training loss of the same text; comparable within one tokenizer
    tokens: int  # scored: no bos, no eos
    bytes: int  # UTF-8 bytes of the scored lines
    characters: int  # Unicode code points of them
    lines: int  # scored: not the blank ones


# ---------------------------------------------------------------------------- scoring
def measure(uri: str, model: MeasuredModel, settings: Evaluate) -> dict[str, Any]:
    """Scores the first `max_lines` lines of a text; returns the fields of `Score`."""
    lines = _lines(uri, settings)
    with model.meter.timed():
        of_lines = line_scores(lines, model, settings.batch_size)
    model.meter.add(lines)
    items.keep_lines(model, "bits_per_byte", map(_counts, of_lines))
    return dataclasses.asdict(total(of_lines))


def score(texts: Sequence[str], model: MeasuredModel, batch_size: int) -> Score:
    """Returns the score of all lines of text together; arguments as of `line_scores`."""
    return total(line_scores(texts, model, batch_size))


@dataclasses.dataclass(frozen=True)
class LineScore:
    """Holds how well a model predicts a line."""

    windows: tuple[float, ...]  # nats of each window that it is read in
    tokens: int
    bytes: int
    characters: int


def total(lines: Sequence[LineScore]) -> Score:
    """Returns the score of a text from those of its lines."""
    nats = math.fsum(itertools.chain.from_iterable(line.windows for line in lines))
    tokens, size = sum(line.tokens for line in lines), sum(line.bytes for line in lines)
    characters = sum(line.characters for line in lines)
    bits = nats / math.log(2)
    return Score(bits / size, nats / tokens, tokens, size, characters, len(lines))


def _counts(line: LineScore) -> dict[str, float]:
    """Returns what is kept of a line: the fields that SUMS names."""
    nats = math.fsum(line.windows)
    return {
        "bits": nats / math.log(2), "nats": nats, "tokens": line.tokens, "bytes": line.bytes,
        "lines": 1,
    }  # fmt: skip


def line_scores(texts: Sequence[str], model: MeasuredModel, batch_size: int) -> list[LineScore]:
    """Returns the score of each line of text that is not blank, of any language and script.

    Args:
      texts: one line each; the order and the packing do not change the score.
      batch_size: how many rows are scored at a time; rounded up to what the mesh can split.
    """
    if model.length < 2:
        raise ValueError(f"length: {model.length}; a window needs at least 2 tokens")
    lines = [line for line in texts if line.strip()]
    if not lines:
        raise ValueError(f"no text to score: {len(texts)} lines, all of them blank")
    tokenizer = model.tokenizer
    documents = tokenizer.encode_batch(lines)
    pieces = [
        (l, window)
        for l, ids in enumerate(documents)
        if ids
        for window in windows(ids, model.length)
    ]
    readings = [_reading(i, *window, tokenizer.bos_id) for i, (_, window) in enumerate(pieces)]
    nats: list[list[float]] = [[] for _ in lines]
    for i, scored in likelihood.score(model, readings, batch_size, greedy=False):
        nats[pieces[i][0]].append(scored.nats)
    return [
        LineScore(tuple(of_line), len(ids), len(line.encode()), len(line))
        for line, ids, of_line in zip(lines, documents, nats, strict=True)
    ]


def token_nats(
    documents: Sequence[Sequence[int]], model: MeasuredModel, batch_size: int
) -> list[np.ndarray]:
    """Returns the nats of each token of each document, float64 [T], in the windows of its line.

    Args:
      documents: ids, without bos; one without any has no nats.
    """
    bos_id, length = model.tokenizer.bos_id, model.length
    read = [
        [_reading(0, *window, bos_id) for window in windows(ids, length)] if ids else []
        for ids in documents
    ]
    return likelihood.token_nats(model, read, batch_size)


def windows(ids: Sequence[int], length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (tokens, mask of those to score) of windows that score every token exactly once.

    >>> for tokens, scored in windows([5, 6, 7, 8, 9], length=4): print(tokens, scored * 1)
    [5 6 7 8] [1 1 1 1]
    [7 8 9] [0 0 1]
    """
    fresh = length // 2  # tokens scored in each later window; those before them are context
    for start in range(0, max(len(ids) - length, 0) + fresh, fresh):
        tokens = np.asarray(ids[start : start + length], np.int32)
        yield tokens, np.arange(len(tokens)) >= (length - fresh if start else 0)


def _reading(index: int, tokens: np.ndarray, mask: np.ndarray, bos_id: int) -> likelihood.Reading:
    """Returns a window as the model reads it, which scores the last tokens, those of the mask."""
    read, first = np.concatenate([[bos_id], tokens[:-1]]).astype(np.int32), int(np.argmax(mask))
    return likelihood.Reading(read, [likelihood.Item(index, first, tokens[first:])])


def baselines(settings: Evaluate) -> Mapping[str, Mapping[str, float]]:
    """Returns bits per byte of character n-gram models, fitted on the recipe's `baseline_text`."""
    return {
        name: {
            model: metrics.ngram_bits_per_byte(
                plain.lines(*uris), _lines(settings.bits_per_byte[name], settings), order
            )
            for order, model in ((1, "unigram"), (2, "bigram"))
        }
        for name, uris in settings.baseline_text.items()
    }


def _lines(uri: str, settings: Evaluate) -> list[str]:
    return list(itertools.islice(plain.lines(uri), settings.max_lines))


# ---------------------------------------------------------------------------- reporting
def rows(before: Json, after: Json) -> Iterator[ReportRow]:
    """Yields tokens per line of every text, then bits per byte of every text."""
    scores = [*pairs(before, after, "bits_per_byte")]
    for name, old, new in scores:
        yield _row("tokens_per_line", name, tokens_per_line(old), tokens_per_line(new), 1)
    fitted = {**(before.get("baselines") or {}), **(after.get("baselines") or {})}
    for name, old, new in scores:
        values = {model: number(value) for model, value in (fitted.get(name) or {}).items()}
        note = ", ".join(f"{model} {x:.2f}" for model, x in values.items() if x is not None)
        was, now = number(old.get("bits_per_byte")), number(new.get("bits_per_byte"))
        yield _row("bits_per_byte", name, was, now, 3, note)


def scores(results: Json) -> Iterator[ComparableScore]:
    """Yields bits per byte, tokens per line and nats per token of every text.

    The last is the loss that training shows; between two vocabularies it means nothing.
    """
    texts = [(name, score) for name, _, score in pairs({}, results, "bits_per_byte")]
    for key, digits in (("bits_per_byte", 3), ("tokens_per_line", 1), ("nats_per_token", 3)):
        for name, score in texts:
            per_line = key == "tokens_per_line"
            value = tokens_per_line(score) if per_line else number(score.get(key))
            if value is None:
                continue
            scored = [recorded(score.get(what)) for what in ("lines", "bytes")]
            yield ComparableScore(
                key.replace("_", " "), name, f"bits_per_byte.{key}", value, fixed(value, digits),
                {"lines": " ".join(scored) if all(scored) else ""},
                falls=True, by_token=key == "nats_per_token", sums=SUMS[key],
            )  # fmt: skip


def tokens_per_line(score: Json) -> float | None:
    """Returns the tokens per line of a scored text; None when the score does not have them."""
    tokens, lines = number(score.get("tokens")), number(score.get("lines"))
    return tokens / lines if tokens and lines else None


def _row(
    key: str, name: str, was: float | None, now: float | None, digits: int, note: str = ""
) -> ReportRow:
    """Returns the line of a score that is better when it falls; 0.5 % is no change."""
    change = verdict = ""
    if was and now is not None:
        ratio = now / was
        change = f"{100 * (ratio - 1):+.1f} %"
        verdict = "better" if ratio < 0.995 else "worse" if ratio > 1.005 else ""
        if verdict and key == "tokens_per_line":
            change = f"{1 / ratio:.2f}x fewer" if ratio < 1 else f"{ratio:.2f}x more"
    return ReportRow(
        key.replace("_", " "), name, fixed(was, digits), fixed(now, digits), change, verdict, note,
        f"bits_per_byte.{key}",
    )  # fmt: skip


KIND = register(
    EvaluationKind(
        "bits_per_byte", str, measure, rows, check=plain.refuse_blank, side="input", scores=scores
    )
)
