"""Everything a recipe asks to be measured of one model: bits per byte, translation, chains."""

from collections.abc import Mapping
import dataclasses
import itertools
import time
from typing import Any

import jax

from lrl_jax import text
from lrl_jax.evaluate import chains, generate, likelihood, metrics
from lrl_jax.evaluate.facts import facts
from lrl_jax.model import llama
from lrl_jax.recipe.schema import Evaluate, Translation
from lrl_jax.vocab.tokenizer.types import Tokenizer

EXAMPLES = 20  # translations kept for a reader


def measure(
    part: Evaluate,
    cfg: llama.LlamaConfig,
    params: llama.Params,
    tokenizer: Tokenizer,
    mesh: jax.sharding.Mesh,
    length: int,
    loss_blocks: int,
) -> dict[str, Any]:
    """What before.json and after.json hold; see `report.pieces`.

    Args:
      length: tokens a row of the likelihood.
    """
    started = time.time()
    bits = {}
    for name in part.bits_per_byte:
        lines = _lines(part, name)
        score = likelihood.bits_per_byte(
            cfg, params, tokenizer, lines, mesh, part.batch_size, length, loss_blocks
        )
        bits[name] = dataclasses.asdict(score)
    translated = {
        name: _translate(one, cfg, params, tokenizer, mesh, part.batch_size)
        for name, one in part.translation.items()
    }
    answered = {
        name: chains.score(one, cfg, params, tokenizer, mesh, part.batch_size)
        for name, one in part.chains.items()
    }
    seconds = round(time.time() - started, 1)
    return {
        "bits_per_byte": bits,
        "translation": translated,
        "chains": answered,
        "facts": facts() | {"seconds": seconds},
    }


def baselines(part: Evaluate) -> Mapping[str, Mapping[str, float]]:
    """Bits per byte of n-gram models of characters, fitted on the recipe's `baseline_text`."""
    return {
        name: {
            kind: metrics.ngram_bits_per_byte(text.read_many(uris), _lines(part, name), order)
            for order, kind in ((1, "unigram"), (2, "bigram"))
        }
        for name, uris in part.baseline_text.items()
    }


def _lines(part: Evaluate, name: str) -> list[str]:
    return list(itertools.islice(text.lines(part.bits_per_byte[name]), part.max_lines))


def _translate(
    part: Translation,
    cfg: llama.LlamaConfig,
    params: llama.Params,
    tokenizer: Tokenizer,
    mesh: jax.sharding.Mesh,
    batch_size: int,
) -> dict[str, Any]:
    sources = list(text.lines(part.source))[: part.limit]
    references = list(text.lines(part.target))[: part.limit]
    languages = dict(source_language=part.source_language, target_language=part.target_language)
    asked = [{"source": source, **languages} for source in sources]
    found = generate.answers(
        cfg, params, tokenizer, part.template, asked, part.max_new_tokens, mesh, batch_size
    )
    triples = zip(sources[:EXAMPLES], references, found, strict=False)
    examples = [{"source": s, "reference": r, "hypothesis": f} for s, r, f in triples]
    return metrics.translation(found, references, part.target_language) | {"examples": examples}
