"""Measures the evaluation kind `chains`: how many of TaCo's chains are whole, and how good.

A chain is what a model writes for an instruction: the instruction in English, the answer in
English, and the answer in the language. Its last section is what is scored.
"""

from collections.abc import Iterator, Sequence
import itertools
from typing import Any

import numpy as np

from lrl_jax.data import dataset as datasets
from lrl_jax.data.templates import documents, taco
from lrl_jax.data.templates import table as templates
from lrl_jax.evaluate import generate, metrics
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
from lrl_jax.recipe.data import Taco
from lrl_jax.recipe.evaluate import Chains, Evaluate
from lrl_jax.text import Bad, DataError
from lrl_jax.vocab.tokenizer.types import Tokenizer

EXAMPLES = 5  # chains that are kept for the report


def measure(entry: Chains, model: MeasuredModel, settings: Evaluate) -> dict[str, Any]:
    """Generates chains greedily from their first words on; returns their scores and examples."""
    questions, tokenizer = held_out(entry), model.tokenizer
    decoding = generate.Settings(entry.max_new_tokens, ends=(tokenizer.eos_id,))
    asked = prompts(entry, questions, tokenizer)
    with model.meter.timed():
        answers = dict(generate.generate(model, asked, decoding, settings.batch_size))
    written = [answers[i].text for i in range(len(asked))]
    model.meter.add(written)
    chains = [taco.PREFIX + text for text in written]
    references = [record["output"] for record in questions]
    return {
        **judge(chains, references, entry.language),
        "tokens": float(np.mean([len(a.ids) for a in answers.values()])),  # of a chain
        "characters": float(np.mean([len(text) for text in written])),
        "examples": [
            {"instruction": record["instruction"], "chain": chain, "reference": record["output"]}
            for record, chain in zip(questions[:EXAMPLES], chains, strict=False)
        ],
    }


def rows(before: Json, after: Json) -> Iterator[ReportRow]:
    """Yields the share of whole chains of every entry, then chrF of their last sections."""
    yield from score_rows(before, after, "chains", "whole chains, %", "parsed")
    yield from score_rows(before, after, "chains", "chrF of the answer", "chrf")


def scores(results: Json) -> Iterator[ComparableScore]:
    """Yields the share of whole chains of every entry, then chrF of their last sections."""
    for key, measure in (("parsed", "whole chains, %"), ("chrf", "chrF of the answer")):
        for name, _, result in pairs({}, results, "chains"):
            if (value := number(result.get(key))) is not None:
                lines = {"lines": recorded(result.get("lines"))}
                yield ComparableScore(measure, name, f"chains.{key}", value, fixed(value, 1), lines)


def judge(chains: Sequence[str], references: Sequence[str], language: str) -> dict[str, Any]:
    """Returns the percentage of whole chains, and chrF (0 to 100) of their last sections.

    A chain without its last section has failed, and its answer counts as empty.

    >>> whole = "Instruction in English: Add.\\nResponse in English: 3\\nResponse in German: drei"
    >>> judge([whole, "Instruction in English: Add."], ["drei", "vier"], "deu_Latn")["parsed"]
    50.0
    """
    sections = [taco.parse(chain) for chain in chains]
    answers = [section.answer if section else "" for section in sections]
    return {
        "parsed": 100 * sum(section is not None for section in sections) / len(sections),
        "chrf": metrics.translation(answers, references, language)["chrf"],
        "lines": len(chains),
    }


def held_out(entry: Chains) -> list[datasets.Record]:
    """Returns the first `limit` rows that make a valid prompt; refuses files without any."""
    dataset = _dataset(entry)
    every = (r for shard in datasets.shards(dataset) for r in datasets.read(dataset, shard))
    questions = [*itertools.islice((r for r in every if not isinstance(r, Bad)), entry.limit)]
    if not questions:
        raise DataError(f"{entry.english}, {entry.translated}: no row that can be asked")
    return questions


def prompts(
    entry: Chains, questions: Sequence[datasets.Record], tokenizer: Tokenizer
) -> list[list[int]]:
    """Returns the prompt of each row as in training, including the first words of the chain."""
    write = templates.writer(_dataset(entry), tokenizer)
    opening, out = tokenizer.encode(taco.PREFIX), []
    for record in questions:
        asked = [*itertools.takewhile(lambda text: not text.trained, write(record))]
        out.append([*documents.ids(asked, tokenizer), *opening])
    return out


def _dataset(entry: Chains) -> Taco:
    return Taco(kind="taco", **entry.model_dump(exclude={"limit", "max_new_tokens"}))


KIND = register(EvaluationKind("chains", Chains, measure, rows, "Chains", scores=scores))
