"""Builds the vocabulary of a recipe: finds new pieces, prunes them, and adds them to the base."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
import unicodedata

from lrl_jax import text
from lrl_jax.data.read import plain
from lrl_jax.recipe.vocab import Extend, Parity, TrainVocab, Vocab
from lrl_jax.vocab import scripts
from lrl_jax.vocab.pieces import balance, choose, donor, learn, prove, splice
from lrl_jax.vocab.pieces.balance import LanguageCost
from lrl_jax.vocab.pieces.splice import Pruned, Splice
from lrl_jax.vocab.tokenizer import byte_level
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer

SHOWN = 6  # pieces or characters that a note names
LOOK = 100_000  # lines that tell whether text is composed
DECOMPOSED = 0.01  # share of lines that is worth a note


@dataclasses.dataclass(frozen=True)
class Built:
    """Holds the vocabulary a recipe asks for, with the tokenizers it was made from.

    Attributes:
      base: the tokenizer the weights were trained with.
      splice: how the ids of `new` relate to those of `base`.
      notes: lines to print for the user.
      costs: what parallel lines cost each language, where pieces are balanced by that.
    """

    base: Tokenizer
    new: Tokenizer
    splice: Splice
    notes: tuple[str, ...] = ()
    costs: tuple[LanguageCost, ...] = ()


def build(
    vocab: Vocab, base: Tokenizer | None, tell: Callable[[str], None] = lambda what: None
) -> Built:
    """Builds the vocabulary that a recipe's `vocab` section asks for: kept, extended or trained.

    `base` is the base model's tokenizer, None where one is trained from nothing. A ValueError says
    that the text gives no piece, the parity is out of reach, or the base cannot be extended.

    Args:
      tell: called with what is done next, which may take minutes.
    """
    if isinstance(vocab, TrainVocab):
        tell("learning pieces")
        base = learn.train(lines(vocab, *vocab.files), vocab.size, vocab.character_coverage)
    assert base is not None
    if isinstance(vocab, Extend):
        return _extended(vocab, base, tell)
    return Built(base, base, splice.identity(base), tuple(_composed(vocab, base)))


def lines(vocab: Vocab, *uris: str) -> Iterator[str]:
    """Yields lines of text of a recipe's vocabulary, composed where the recipe says so."""
    nfc = getattr(vocab, "normalize", "keep") == "nfc"
    every = plain.lines(*uris)
    return (unicodedata.normalize("NFC", line) for line in every) if nfc else every


def starting(vocab: Vocab, base: Tokenizer) -> Tokenizer:
    """Returns the base with the pre-tokenizer the recipe asks for; itself if it has that one."""
    asked = isinstance(vocab, Extend) and vocab.pretokenizer == "mark_aware"
    if asked and base.family == "byte_level":  # SentencePiece cuts at spaces alone
        return byte_level.mark_aware(base)
    return base


def _extended(vocab: Extend, base: Tokenizer, tell: Callable[[str], None]) -> Built:
    notes = [f"base tokenizer: {flaw}" for flaw in donor.flaws(base)]
    start = starting(vocab, base)
    parallel = {code: list(lines(vocab, uri)) for code, uri in vocab.parallel.items()}
    balance.refuse_unaligned(parallel)
    tell("reading text, learning pieces")
    ranked, remarks = _candidates(vocab, start)
    candidates = balance.interleaved(ranked)
    notes += _composed(vocab, base)
    tell(f"counting what {len(candidates):,} pieces are worth")
    pruned = _worth(vocab, start, candidates)
    kept, reasons = pruned.pieces, list(_left_out(vocab, start, pruned))
    if not kept:
        raise ValueError(
            f"vocab: none of {len(candidates)} pieces is seen {vocab.min_count} times in "
            f"{', '.join(vocab.files)} and leaves vocab.prove_on as it is; give more text, or "
            "lower " + "; ".join(["vocab.min_count", *reasons])
        )
    if not vocab.parity and len(kept) < vocab.pieces:
        remarks.append(_fewer(vocab, len(candidates), pruned))
    if vocab.parity:
        tell("choosing as many pieces as reach parity")
        kept, reached = _fewest(vocab, start, kept, vocab.parity)
        notes.append(reached)
    owners: dict[str, str] = {}
    if parallel:
        tell("sharing pieces out among languages")
        left = set(kept)
        ranked = {code: [p for p in pieces if p in left] for code, pieces in ranked.items()}
        owners = balance.shared(start, ranked, parallel, vocab.pieces)
        kept = list(owners)
    if kept[vocab.pieces :] or vocab.parity or parallel:
        tell(f"counting what the best {vocab.pieces:,} are worth")
        pruned = _worth(vocab, start, kept[: vocab.pieces])
        kept = pruned.pieces
    if vocab.drift:
        share = prove.per_10_000(pruned.changed, pruned.whole)
        remarks.append(
            f"{pruned.changed:,} of {pruned.whole:,} tokens of prove_on change ({share} of 10,000, "
            f"vocab.drift allows {vocab.drift:g})"
        )
    new, relation = splice.splice(start, kept)
    if start is not base:  # the model was trained on text as the base splits it
        spelled = family(base).spell(base, kept)
        added = {base.size + i: tuple(ids) for i, ids in enumerate(spelled)}
        relation = dataclasses.replace(relation, added=added, base_fingerprint=base.fingerprint)
    costs = tuple(balance.costs(base, new, owners, parallel))
    return Built(base, new, relation, (*notes, *remarks, *_balanced(costs), *reasons), costs)


def _fewest(
    vocab: Extend, start: Tokenizer, pieces: list[str], parity: Parity
) -> tuple[list[str], str]:
    """Returns the fewest of the pieces that reach parity on the report's texts, and a note."""
    uris = (vocab.report.texts[code] for code in (parity.language, parity.reference))
    new_lines, reference = (list(lines(vocab, uri)) for uri in uris)
    reached = choose.fewest(start, pieces, new_lines, reference, parity.at_most)
    return reached.pieces, (
        f"{len(reached.pieces):,} of {len(pieces):,} pieces reach parity {reached.parity:.2f} "
        f"(base {reached.before:.2f})"
    )


def _candidates(vocab: Extend, start: Tokenizer) -> tuple[dict[str, list[str]], list[str]]:
    """Returns candidate pieces by language, best first, and notes for the user.

    Learnt from all text together they stand under "". There are twice as many candidates as pieces
    asked for, because some will be pruned.
    """
    if vocab.balance == "none":
        pieces, remarks = _learnt(vocab, start)
        return {"": pieces}, remarks
    assert isinstance(vocab.text, dict)
    ranked = {}
    for code, paths in vocab.text.items():
        try:
            ranked[code], _ = _learnt(vocab.model_copy(update={"text": paths}), start)
        except text.DataError as e:
            raise text.DataError(f"vocab.text.{code}: {e}") from None
    return ranked, []


def _learnt(vocab: Extend, start: Tokenizer) -> tuple[list[str], list[str]]:
    """Returns candidate pieces of all text together, best first, and notes for the user."""
    written, least = vocab.scripts, vocab.min_count
    if vocab.choose == "donor":
        given = donor.pieces(vocab.donor, start, written)
        words = family(start).words(start, lines(vocab, *vocab.files))
        marks = learn.marks(start, words, written, least)
        return list(dict.fromkeys([*marks, *given.pieces])), [given.summary]
    if vocab.choose == "frequency":
        return choose.frequent(lambda: lines(vocab, *vocab.files), written, start, least), []
    settings = 2 * vocab.pieces, written, vocab.character_coverage, start, least
    if vocab.choose == "continue":
        return choose.continued(lines(vocab, *vocab.files), *settings), []
    return learn.pieces(lines(vocab, *vocab.files), *settings), []


def _worth(vocab: Extend, start: Tokenizer, pieces: list[str]) -> Pruned:
    """Finds the pieces that occur often enough in the text to be worth an embedding row."""
    texts, spare = lines(vocab, *vocab.files), plain.lines(*vocab.prove_on)
    return splice.pruned(start, pieces, texts, vocab.min_count, spare, vocab.drift)


# ---------------------------------------------------------------------------- what is said
def _fewer(vocab: Extend, candidates: int, pruned: Pruned) -> str:
    """Returns why there are fewer pieces than asked for."""
    return (
        f"{len(pruned.pieces):,} pieces, of {vocab.pieces:,} asked for: of {candidates:,} "
        f"candidates {pruned.rare:,} are emitted fewer than {vocab.min_count} times, "
        f"{pruned.unreached:,} are not reached by their own text, {len(pruned.moving):,} would "
        "change prove_on"
    )


def _left_out(vocab: Extend, start: Tokenizer, pruned: Pruned) -> Iterator[str]:
    """Yields why pieces and characters of the language were left out, a line for each reason."""
    if pruned.moving:
        often = sorted(pruned.moving.items(), key=lambda item: (len(item[0]) > 1, -item[1]))
        asked = prove.per_10_000(pruned.asked, pruned.whole)
        yield (
            f"{len(pruned.moving):,} pieces left out because prove_on has them: "
            f"{_listed(start, often)}; with all of them {asked} of 10,000 of its tokens would "
            f"change, vocab.drift allows {vocab.drift:g}"
        )
    bare = {
        character: n
        for character, n in pruned.bare.items()
        if n >= vocab.min_count
        and (scripts.written_in(character, vocab.scripts) or scripts.is_mark(character))
    }
    if bare:
        often = sorted(bare.items(), key=lambda item: -item[1])
        yield (
            f"of the language {len(bare):,} characters are left to bytes: {_listed(start, often)}; "
            "vocab.character_coverage (1.0 is all) and vocab.drift leave them out"
        )


def _balanced(costs: Sequence[LanguageCost]) -> Iterator[str]:
    """Yields what parallel lines cost each language, and the dearest beside the cheapest."""
    for cost in costs:
        yield (
            f"{cost.language}: its parallel lines take {cost.after:,} tokens (base "
            f"{cost.before:,}), with {cost.pieces:,} pieces of its own"
        )
    if costs:
        before = balance.spread([cost.before for cost in costs])
        after = balance.spread([cost.after for cost in costs])
        yield f"the dearest of them takes {after:.2f} times the tokens of the cheapest" + (
            f" (base {before:.2f})"
        )


def _listed(start: Tokenizer, counts: list[tuple[str, int]]) -> str:
    surface = family(start).surface
    shown = [f"{surface(p).decode(errors='replace')!r} ({n:,})" for p, n in counts[:SHOWN]]
    return ", ".join(shown) + ", ..." * (len(counts) > SHOWN)


def _composed(vocab: Vocab, base: Tokenizer) -> Iterator[str]:
    """Yields a note where text is not in NFC: pieces of it are of no use to text that is."""
    if not isinstance(vocab, Extend | TrainVocab):
        return
    normal, read, changed = family(base).normal(base), 0, 0
    for line in itertools.islice(plain.lines(*vocab.files), LOOK):
        read += 1
        changed += not unicodedata.is_normalized("NFC", normal(line))
    if changed <= DECOMPOSED * read:
        return
    share = f"{changed / read:.0%} of the lines of vocab.text are not in NFC"
    if vocab.normalize == "nfc":
        yield f"{share}; they were composed (vocab.normalize). Datasets need normalize: nfc too"
    else:
        yield (
            f"{share} (marks stand apart from their letters, or in another order): pieces learnt "
            "from them are of no use to text that is; set vocab.normalize: nfc, and normalize: nfc "
            "on datasets"
        )
