"""Builds the vocabulary a recipe asks for: finds pieces, prunes them, keeps to the budget, splices.

built = build(recipe.vocab, base)
family(built.new).write(built.new, folder)
"""

import dataclasses

from lrl_jax import text
from lrl_jax.recipe.vocab import Extend, TrainVocab, Vocab
from lrl_jax.vocab.pieces import choose, donor, learn, splice
from lrl_jax.vocab.pieces.splice import Splice
from lrl_jax.vocab.tokenizer import pretokenize
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer


@dataclasses.dataclass(frozen=True)
class Built:
    """A vocabulary and where it came from.

    Attributes:
      base: the tokenizer the weights were trained with.
      start: the same cut into words as the recipe asks; `base` itself if that is how it cuts.
      notes: what a user should know, a line each.
    """

    base: Tokenizer
    start: Tokenizer
    new: Tokenizer
    splice: Splice
    notes: tuple[str, ...] = ()


def build(part: Vocab, base: Tokenizer | None) -> Built:
    """The vocabulary of a recipe.

    Args:
      base: the base model's tokenizer; None where one is learnt from nothing.

    Raises:
      ValueError: text that gives no piece, a budget out of reach, a base that cannot be extended.
    """
    if isinstance(part, TrainVocab):
        base = learn.train(text.read_many(part.text), part.size, part.character_coverage)
    assert base is not None
    if isinstance(part, Extend):
        return _extended(part, base)
    return Built(base, base, base, splice.identity(base))


def starting(part: Vocab, base: Tokenizer) -> Tokenizer:
    """The base, cutting text into words as the recipe asks."""
    asked = isinstance(part, Extend) and part.pretokenizer == "mark_aware"
    if asked and base.family == "byte_level":  # SentencePiece cuts at spaces alone
        return pretokenize.mark_aware(base)
    return base


def _extended(part: Extend, base: Tokenizer) -> Built:
    notes = [f"base tokenizer: {flaw}" for flaw in donor.flaws(base)]
    start = starting(part, base)
    found, said = _candidates(part, start)
    kept = _worth(part, start, found)
    if not kept:
        raise ValueError(
            f"vocab: none of {len(found)} pieces is seen {part.min_count} times in "
            f"{', '.join(part.text)}; give more text, or lower vocab.min_count"
        )
    if part.parity:
        reached = _budget(part, start, kept)
        notes.append(
            f"{len(reached.pieces):,} of {len(kept):,} pieces reach parity {reached.parity:.2f} "
            f"(base {reached.before:.2f})"
        )
        kept = reached.pieces
    if kept[part.pieces :] or part.parity:
        kept = _worth(part, start, kept[: part.pieces])
    new, relation = splice.splice(start, kept)
    if start is not base:  # the model has read text as the base cuts it
        spelled = family(base).spell(base, kept)
        added = {base.size + i: tuple(ids) for i, ids in enumerate(spelled)}
        relation = dataclasses.replace(relation, added=added, base_fingerprint=base.fingerprint)
    return Built(base, start, new, relation, (*notes, *said))


def _candidates(part: Extend, start: Tokenizer) -> tuple[list[str], list[str]]:
    """Pieces to prune, more than are asked for as some will go; and what is to be said of them."""
    coverage, scripts, count = part.character_coverage, part.scripts, 2 * part.pieces
    read = text.read_many
    if part.choose == "donor":
        given = donor.pieces(part.donor, start, scripts)
        return given.pieces, [given.summary]
    if part.choose == "frequency":
        return choose.frequent(lambda: read(part.text), scripts, start, part.min_count), []
    if part.choose == "continue":
        return choose.continued(
            read(part.text), count, scripts, coverage, start, part.min_count
        ), []
    return learn.pieces(read(part.text), count, scripts, coverage, start), []


def _worth(part: Extend, start: Tokenizer, pieces: list[str]) -> list[str]:
    """The pieces that earn their rows."""
    texts, spare = text.read_many(part.text), text.read_many(part.prove_on)
    return splice.prune(start, pieces, texts, part.min_count, spare)


def _budget(part: Extend, start: Tokenizer, kept: list[str]) -> choose.Budget:
    assert part.parity is not None
    want = part.parity
    new, reference = (
        list(text.lines(part.report.texts[code])) for code in (want.language, want.reference)
    )
    return choose.fewest(start, kept, new, reference, want.at_most)
