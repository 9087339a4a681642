"""Measures the evaluation kind `translation`: chrF and BLEU on a held-out parallel file."""

from collections.abc import Iterator
import dataclasses
import re
from typing import Any

from lrl_jax.data.read import files, plain
from lrl_jax.evaluate import generate, metrics
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
    score_rows,
)
from lrl_jax.recipe.evaluate import Evaluate, Translation
from lrl_jax.recipe.languages import named

EXAMPLES = 20  # translations that are kept for the report


def check(entry: Translation) -> None:
    """Raises DataError for files that are not translations of each other line by line.

    They have the same number of lines: one more in either shifts all pairs behind it.
    """
    sources, targets = (sum(1 for _ in plain.lines(uri)) for uri in entry.files())
    if sources != targets:
        raise files.unequal(entry.source, sources, entry.target, targets)
    for uri in entry.files():
        plain.refuse_blank(uri)


def measure(entry: Translation, model: MeasuredModel, settings: Evaluate) -> dict[str, Any]:
    """Returns the scores (`metrics.translation`) of greedy translations, and some examples."""
    sources = list(plain.lines(entry.source))[: entry.limit]
    references = list(plain.lines(entry.target))[: entry.limit]
    languages = dict(source_language=entry.source_language, target_language=entry.target_language)
    languages = named(languages, entry.language_names)
    records = [{"source": source, **languages} for source in sources]
    with model.meter.timed():
        translations = generate.answers(
            model, entry.template, records, entry.max_new_tokens, settings.batch_size
        )
    model.meter.add(translations)
    every = zip(sources, references, translations, strict=True)
    kept = ({"source": s, "references": [r], "answer": a} for s, r, a in every)
    items.keep_lines(model, "translation", kept)
    triples = [*zip(sources, references, translations, strict=True)][:EXAMPLES]
    examples = [{"source": s, "reference": r, "hypothesis": h} for s, r, h in triples]
    scores = metrics.translation(translations, references, entry.target_language)
    written = {
        "characters": sum(map(len, translations)),
        "tokens": sum(map(len, model.tokenizer.encode_batch(translations))),  # that spell them
    }
    return scores | written | {"examples": examples}


def rows(before: Json, after: Json) -> Iterator[ReportRow]:
    """Yields chrF of every entry, then BLEU with a note that names its tokenizer."""
    yield from score_rows(before, after, "translation", "chrF", "chrf")
    for row in score_rows(before, after, "translation", "BLEU", "bleu"):
        result = (after.get("translation") or {}).get(row.name) or {}
        splits = result.get("bleu_tokenizer")
        note = f"{row.note}, tokenized by {splits}" if splits else row.note
        yield dataclasses.replace(row, note=note)


def scores(results: Json) -> Iterator[ComparableScore]:
    """Yields chrF, chrF++ and BLEU of every entry, each with how sacrebleu was told to score."""
    for key, measure in (("chrf", "chrF"), ("chrf++", "chrF++"), ("bleu", "BLEU")):
        for name, _, result in pairs({}, results, "translation"):
            if (value := number(result.get(key))) is None:
                continue
            conditions = {"lines": recorded(result.get("lines"))}
            signature = str((result.get("signatures") or {}).get(key, ""))
            if key == "bleu":
                conditions["tokenizer of BLEU"] = recorded(result.get("bleu_tokenizer"))
                signature = re.sub(r"\|tok:[^|]*", "", signature)
            conditions["signature"] = signature
            yield ComparableScore(
                measure, name, f"translation.{key}", value, fixed(value, 1), conditions
            )


KIND = register(
    EvaluationKind(
        "translation", Translation, measure, rows, "Translations", check=check, scores=scores
    )
)
