"""TaCo's chain on held-out instructions: how often it is whole, and how good its last answer is."""

from collections.abc import Sequence
import itertools
from typing import Any

import jax
import numpy as np

from lrl_jax.data import dataset as datasets
from lrl_jax.data.read import records
from lrl_jax.data.templates import documents, taco
from lrl_jax.data.templates import table as templates
from lrl_jax.evaluate import generate, metrics
from lrl_jax.model import llama
from lrl_jax.recipe.data import Taco
from lrl_jax.recipe.schema import Chains
from lrl_jax.text import Bad, DataError
from lrl_jax.vocab.tokenizer.types import Tokenizer

EXAMPLES = 5  # chains kept for a reader


def score(
    part: Chains,
    cfg: llama.LlamaConfig,
    params: llama.Params,
    tokenizer: Tokenizer,
    mesh: jax.sharding.Mesh,
    batch_size: int,
) -> dict[str, Any]:
    """Decodes greedily from the chain's first words on, and judges what comes.

    Returns:
      As `judge`; and tokens, the mean length of a chain; and examples.
    """
    asked = held_out(part)
    found = generate.generate_ids(
        cfg, params, prompts(part, asked, tokenizer), part.max_new_tokens,
        bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, mesh=mesh, batch_size=batch_size,
    )  # fmt: skip
    chains = [taco.PREFIX + tokenizer.decode(ids) for ids in found]
    references = [record["output"] for record in asked]
    return {
        **judge(chains, references, part.language),
        "tokens": float(np.mean([len(ids) for ids in found])),
        "examples": [
            {"instruction": record["instruction"], "chain": chain, "reference": record["output"]}
            for record, chain in zip(asked[:EXAMPLES], chains, strict=False)
        ],
    }


def judge(chains: Sequence[str], references: Sequence[str], language: str) -> dict[str, Any]:
    """Whole chains in percent, and chrF (0 to 100) of their last sections.

    A chain without its last section is a failed generation; its answer counts as empty.

    >>> whole = "Instruction in English: Add.\\nResponse in English: 3\\nResponse in German: drei"
    >>> judge([whole, "Instruction in English: Add."], ["drei", "vier"], "deu_Latn")["parsed"]
    50.0
    """
    sections = [taco.parse(chain) for chain in chains]
    answers = [one.answer if one else "" for one in sections]
    return {
        "parsed": 100 * sum(one is not None for one in sections) / len(sections),
        "chrf": metrics.translation(answers, references, language)["chrf"],
        "lines": len(chains),
    }


def held_out(part: Chains) -> list[records.Record]:
    """The first `limit` rows that can be asked.

    Raises:
      ValueError: there is none, or the files are not aligned.
    """
    dataset = _dataset(part)
    every = (r for shard in datasets.shards(dataset) for r in datasets.read(dataset, shard))
    found = [*itertools.islice((r for r in every if not isinstance(r, Bad)), part.limit)]
    if not found:
        raise DataError(f"{part.english}, {part.translated}: no row that can be asked")
    return found


def prompts(part: Chains, asked: Sequence[records.Record], tokenizer: Tokenizer) -> list[list[int]]:
    """What each row begins with in training, up to and with the chain's first words."""
    write = templates.writer(_dataset(part), tokenizer)
    opening = tokenizer.encode(taco.PREFIX)
    return [[*_before(write(record), tokenizer), *opening] for record in asked]


def _dataset(part: Chains) -> Taco:
    shared = part.model_dump(exclude={"limit", "max_new_tokens"})
    return Taco(kind="taco", **shared)


def _before(parts: list[templates.TextPart], tokenizer: Tokenizer) -> list[int]:
    """Ids of what stands before the first token that is learnt."""
    read = [*itertools.takewhile(lambda part: not part.trained, parts)]
    return documents.encode([read], tokenizer)[0].tokens[:-1].tolist()  # without eos
