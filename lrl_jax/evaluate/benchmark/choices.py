"""Writes choices as ids behind their contexts, and says which are longer than a model reads.

pairs = continuation_pairs(model.tokenizer, [("A question", " a choice")])
too_long(pairs, longest=2048)            {} or index of the pair -> what is wrong
"""

from collections.abc import Sequence

from lrl_jax.vocab.tokenizer.types import Tokenizer

Pair = tuple[list[int], list[int]]  # ids of a context, and of its continuation


def continuation_pairs(tokenizer: Tokenizer, asked: Sequence[tuple[str, str]]) -> list[Pair]:
    """Returns the ids of contexts, bos first, and of the continuations that are scored.

    As in lm-evaluation-harness, spaces at the end of a context go to the continuation, and both are
    encoded as one text, which is cut where the ids of the context alone would end.
    """
    texts = []
    for context, continuation in asked:
        bare = context.rstrip()
        texts += [context + continuation, bare]
    encoded = tokenizer.encode_batch(texts)
    pairs = []
    for whole, context in zip(encoded[::2], encoded[1::2], strict=True):
        # Where context and continuation melt into fewer ids, the last id is what is scored.
        at = min(len(context), len(whole) - 1)
        pairs.append(([tokenizer.bos_id, *whole[:at]], whole[at:]))
    return pairs


def too_long(pairs: Sequence[Pair], longest: int) -> dict[int, str]:
    """Returns pair -> what is wrong, where a continuation is no text or no row of a model holds it.

    A context that is too long is cut; a continuation cannot be.
    """
    return {
        n: f"has {len(ids):,} tokens; want 1 to {longest:,}, which the model reads"
        for n, (_, ids) in enumerate(pairs)
        if not 0 < len(ids) <= longest
    }
