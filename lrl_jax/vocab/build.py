"""Builds the vocabulary of a recipe: finds new pieces, prunes them, and adds them to the base."""

import dataclasses

from lrl_jax import text
from lrl_jax.recipe.vocab import Extend, TrainVocab, Vocab
from lrl_jax.vocab.pieces import choose, donor, learn, splice
from lrl_jax.vocab.pieces.splice import Splice
from lrl_jax.vocab.tokenizer import byte_level
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer


@dataclasses.dataclass(frozen=True)
class Built:
    """Holds the vocabulary a recipe asks for, with the tokenizers it was made from.

    Attributes:
      base: the tokenizer the weights were trained with.
      splice: how the ids of `new` relate to those of `base`.
      notes: lines to print for the user.
    """

    base: Tokenizer
    new: Tokenizer
    splice: Splice
    notes: tuple[str, ...] = ()


def build(vocab: Vocab, base: Tokenizer | None) -> Built:
    """Builds the vocabulary that a recipe's `vocab` section asks for: kept, extended or trained.

    `base` is the base model's tokenizer, None where one is trained from nothing. A ValueError says
    that the text gives no piece, the parity is out of reach, or the base cannot be extended.
    """
    if isinstance(vocab, TrainVocab):
        base = learn.train(text.lines(*vocab.text), vocab.size, vocab.character_coverage)
    assert base is not None
    if isinstance(vocab, Extend):
        return _extended(vocab, base)
    return Built(base, base, splice.identity(base))


def starting(vocab: Vocab, base: Tokenizer) -> Tokenizer:
    """Returns the base with the pre-tokenizer the recipe asks for; itself if it has that one."""
    asked = isinstance(vocab, Extend) and vocab.pretokenizer == "mark_aware"
    if asked and base.family == "byte_level":  # SentencePiece cuts at spaces alone
        return byte_level.mark_aware(base)
    return base


def _extended(vocab: Extend, base: Tokenizer) -> Built:
    notes = [f"base tokenizer: {flaw}" for flaw in donor.flaws(base)]
    start = starting(vocab, base)
    candidates, remarks = _candidates(vocab, start)
    kept = _worth(vocab, start, candidates)
    if not kept:
        raise ValueError(
            f"vocab: none of {len(candidates)} pieces is seen {vocab.min_count} times in "
            f"{', '.join(vocab.text)}; give more text, or lower vocab.min_count"
        )
    if want := vocab.parity:
        uris = (vocab.report.texts[code] for code in (want.language, want.reference))
        new_lines, reference = (list(text.lines(uri)) for uri in uris)
        reached = choose.fewest(start, kept, new_lines, reference, want.at_most)
        notes.append(
            f"{len(reached.pieces):,} of {len(kept):,} pieces reach parity {reached.parity:.2f} "
            f"(base {reached.before:.2f})"
        )
        kept = reached.pieces
    if kept[vocab.pieces :] or vocab.parity:
        kept = _worth(vocab, start, kept[: vocab.pieces])
    new, relation = splice.splice(start, kept)
    if start is not base:  # the model was trained on text as the base splits it
        spelled = family(base).spell(base, kept)
        added = {base.size + i: tuple(ids) for i, ids in enumerate(spelled)}
        relation = dataclasses.replace(relation, added=added, base_fingerprint=base.fingerprint)
    return Built(base, new, relation, (*notes, *remarks))


def _candidates(vocab: Extend, start: Tokenizer) -> tuple[list[str], list[str]]:
    """Returns candidate pieces, and notes for the user.

    There are twice as many candidates as pieces asked for, because some will be pruned.
    """
    scripts, least = vocab.scripts, vocab.min_count
    if vocab.choose == "donor":
        given = donor.pieces(vocab.donor, start, scripts)
        return given.pieces, [given.summary]
    if vocab.choose == "frequency":
        return choose.frequent(lambda: text.lines(*vocab.text), scripts, start, least), []
    settings = 2 * vocab.pieces, scripts, vocab.character_coverage, start
    if vocab.choose == "continue":
        return choose.continued(text.lines(*vocab.text), *settings, least), []
    return learn.pieces(text.lines(*vocab.text), *settings), []


def _worth(vocab: Extend, start: Tokenizer, pieces: list[str]) -> list[str]:
    """Returns the pieces that occur often enough in the text to be worth an embedding row."""
    texts, spare = text.lines(*vocab.text), text.lines(*vocab.prove_on)
    return splice.prune(start, pieces, texts, vocab.min_count, spare)
