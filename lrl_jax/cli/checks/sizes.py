"""Estimates how many tokens a corpus holds before anything is packed, and how often it is read.

    corpus("corpus/*.txt", "Taml", own=True)   # tokens of text files, for `lrl new`
    repeated(recipe, {"target": 310_000.0})    # a line on what is read too often, for `lrl check`

These are estimates: new pieces are not learnt yet, and only the first records are read.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
import itertools
import math

from etils import epath

from lrl_jax import text
from lrl_jax.data.feed import mixture
from lrl_jax.data.read import plain
from lrl_jax.recipe.schema import Recipe
from lrl_jax.vocab import scripts

# Reading a text up to four times teaches about as much as new text (arXiv 2305.16264).
EPOCHS = 4
# Tokens a word in a language with pieces of its own: README.md has 2.3 and 2.4, with 4,000 and
# 8,000 of them. Rather too few than too many, because steps are planned by them.
TOKENS_A_WORD = 2.0
CHARACTERS_A_TOKEN = 2.0  # the same where there is no space between words
BYTES_A_TOKEN = 4.0  # in a language that the base knows
LINES = 20_000  # of a corpus that are read at most
SHOWN = 6  # datasets that are named at most


def estimated(texts: Iterable[str], script: str, own: bool) -> float:
    """Estimates the tokens of texts without a tokenizer.

    Args:
      script: ISO 15924; tells whether there are spaces between words.
      own: whether the vocabulary has, or will have, pieces of the language.
    """
    if not own:
        return sum(len(line.encode()) for line in texts) / BYTES_A_TOKEN
    if scripts.spaced(script):
        return sum(len(line.split()) for line in texts) * TOKENS_A_WORD
    return sum(map(len, texts)) / CHARACTERS_A_TOKEN


def corpus(uri: str, script: str, own: bool) -> float | None:
    """Estimates the tokens of text files by their first lines; None where they are not here."""
    try:
        lines = [*itertools.islice(plain.lines(uri), LINES + 1)]
    except (ValueError, OSError):
        return None
    tokens = estimated(lines, script, own)
    if len(lines) <= LINES:
        return tokens
    share = share_read([uri], sum(len(line.encode()) + 1 for line in lines))
    return None if share is None else tokens / share


def share_read(uris: Iterable[str], read: int) -> float | None:
    """Returns the share of plain text files that `read` bytes are; None if it cannot be told."""
    names = [name for uri in uris for name in text.files(uri)]
    if any(text.is_packed(name) or name.startswith(text.SAMPLE) for name in names):
        return None
    size = sum(epath.Path(name).stat().length for name in names)
    return min(read / size, 1.0) if size else None


def repeated(recipe: Recipe, sizes: Mapping[str, float]) -> Iterator[str]:
    """Yields a line for each dataset that stages with `steps` read more than EPOCHS times.

    Datasets with `max_epochs` and stages with `epochs` are read as often as the recipe says.

    Args:
      sizes: dataset -> its tokens, where they are known.
    """
    row = recipe.train.batch_size * recipe.data.sequence_length
    read: dict[str, float] = {}
    steps_of: Counter[str] = Counter()
    for stage in recipe.train.stages:
        if stage.weights == "examples":
            continue
        for name, share in (mixture.unsized(recipe, stage, sizes) or {}).items():
            read[name] = read.get(name, 0.0) + stage.steps * row * share
            steps_of[name] += stage.steps
    limited = {name for name, dataset in recipe.data.datasets.items() if dataset.max_epochs}
    times = {n: read[n] / sizes[n] for n in read if sizes.get(n) and n not in limited}
    often = sorted((n for n in times if times[n] > EPOCHS), key=lambda n: -times[n])
    for name in often[:SHOWN]:
        most = max(1, math.floor(steps_of[name] * EPOCHS / times[name]))
        count = f"{times[name]:,.0f}" if times[name] >= 10 else f"{times[name]:.1f}"
        yield (
            f"data.datasets.{name}: {_counted(steps_of[name])} read it about {count} times (it has "
            f"about {sizes[name]:,.0f} tokens); {EPOCHS} times are {_counted(most)}. Give fewer "
            "steps, more text, or max_epochs"
        )
    if len(often) > SHOWN:
        yield f"{len(often) - SHOWN} other datasets are read over {EPOCHS} times"


def _counted(steps: int) -> str:
    return f"{steps:,} step{'s' * (steps != 1)}"
