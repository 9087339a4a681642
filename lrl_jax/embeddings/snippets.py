"""Cuts short texts that have new tokens in them, for `embeddings.distil`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lrl_jax.embeddings.moments import Snippets
from lrl_jax.recipe.schema import Distillation
from lrl_jax.vocab.pieces.splice import Splice
from lrl_jax.vocab.tokenizer.types import Tokenizer, batches

BATCH = 10_000  # lines spelled at a time

Reading = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # old, new, ends and shared ids


def cut(
    base: Tokenizer,
    new: Tokenizer,
    splice: Splice,
    texts: Iterable[str],
    lengths: Sequence[np.ndarray],
    settings: Distillation,
) -> Snippets:
    """Returns snippets for each added token that several old tokens spell, in one pass of `texts`.

    A snippet counts for every new token in it, so that one text serves many. Text is read until
    each token has `settings.snippets`. Lines that the tokenizers read as different text (an unknown
    character) are left out.

    Args:
      lengths: bytes of text of each old and of each new id.
    """
    spelled = {i for i, old in splice.added.items() if len(old) > 1}
    first = (base.bos_id, new.bos_id)  # as documents begin in training
    counts: Counter[int] = Counter()
    sought, added_W = set(spelled), np.isin(np.arange(new.size), [*splice.added])
    chosen: list[Reading] = []
    for batch in batches(texts, BATCH):
        readings = zip(base.encode_batch(batch), new.encode_batch(batch), strict=True)
        for old_ids, new_ids in readings:
            if sought.isdisjoint(new_ids):
                continue
            for reading in _windows(old_ids, new_ids, lengths, added_W, settings.length):
                tokens = spelled.intersection(reading[1].tolist())
                if not sought.isdisjoint(tokens):
                    chosen.append(reading)
                    counts.update(tokens)
                    sought -= {i for i in tokens if counts[i] >= settings.snippets}
        if not sought:
            break
    return _padded([_begun(reading, first) for reading in chosen], counts)


def _windows(
    old_ids: Sequence[int],
    new_ids: Sequence[int],
    lengths: Sequence[np.ndarray],
    added_W: np.ndarray,
    most: int,
) -> Iterator[Reading]:
    """Yields windows of a line, of `most` old ids at most, cut where both readings end."""
    old_T, new_T = np.array(old_ids, np.int32), np.array(new_ids, np.int32)
    old_end, new_end = np.cumsum(lengths[0][old_T]), np.cumsum(lengths[1][new_T])
    if not len(old_T) or old_end[-1] != new_end[-1]:
        return
    ends_T = np.searchsorted(old_end, new_end, side="right") - 1
    same_T = (ends_T >= 0) & (old_end[ends_T] == new_end)
    joints = np.flatnonzero(same_T)
    first_old = first_new = 0
    while first_new < len(new_T):
        stops = joints[joints >= first_new]
        near = stops[(ends_T[stops] < first_old + most) & (stops < first_new + most)]
        last = near[-1] if len(near) else stops[0]  # a token that is longer is passed over
        new_W = new_T[first_new : last + 1]
        is_added = added_W[new_W]
        if len(near) and is_added.any():
            after = np.arange(len(new_W)) >= is_added.argmax()
            ends = ends_T[first_new : last + 1] - first_old
            shared = same_T[first_new : last + 1] & after
            yield old_T[first_old : ends_T[last] + 1], new_W, ends.astype(np.int32), shared
        first_old, first_new = int(ends_T[last]) + 1, int(last) + 1


def _begun(reading: Reading, first: tuple[int, int]) -> Reading:
    """Returns a window after the token that a document begins with."""
    old, new, ends, shared = reading
    return (
        np.concatenate([[first[0]], old]), np.concatenate([[first[1]], new]),
        np.concatenate([[0], ends + 1]), np.concatenate([[False], shared]),
    )  # fmt: skip


def _padded(chosen: Sequence[Reading], counts: Counter[int]) -> Snippets:
    """Returns readings as rectangles."""
    longest = max((max(len(old), len(new)) for old, new, _, _ in chosen), default=1)

    def rectangle(column: int, dtype: type) -> np.ndarray:
        rows_MT = np.zeros((len(chosen), longest), dtype)
        for row_T, reading in zip(rows_MT, chosen, strict=True):
            row_T[: len(reading[column])] = reading[column]
        return rows_MT

    old_M, new_M = (np.array([len(r[column]) for r in chosen], np.int32) for column in (0, 1))
    return Snippets(
        rectangle(0, np.int32), rectangle(1, np.int32), old_M, new_M,
        rectangle(2, np.int32), rectangle(3, np.bool_), dict(counts),
    )  # fmt: skip
