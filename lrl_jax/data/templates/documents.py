"""Tokenises the text parts that a template writes: ids, each with its weight in the loss."""

from collections.abc import Sequence
import dataclasses
import itertools

import numpy as np

from lrl_jax.data.templates.parts import TextPart
from lrl_jax.vocab.tokenizer import long_text
from lrl_jax.vocab.tokenizer.types import Tokenizer

# At the end of a document's parts these two stand for eos, learnt or not.
EOS, UNTAUGHT_EOS = TextPart("", 1), TextPart("", 0)


@dataclasses.dataclass(frozen=True)
class Document:
    """Holds the ids of a document's tokens, and the weight of each in the loss.

    `weights` are float32, 0 for what is only read; `bytes` counts the trained text in UTF-8.
    """

    tokens: np.ndarray
    weights: np.ndarray
    bytes: int


def encode(examples: Sequence[Sequence[TextPart]], tokenizer: Tokenizer) -> list[Document]:
    """Tokenises many examples at once: each part by itself, then eos, which is trained.

    Parts after the last trained one are left out, for nothing is learnt from them. No eos follows
    a trained control token, which ends a document itself. In an example without a trained part,
    nothing is trained, not even eos. A control token that the tokenizer lacks raises ValueError.
    """
    ended = [_ended(parts) for parts in examples]
    flat = [text_part for parts in ended for text_part in parts]
    tokens, lengths = _ids(flat, tokenizer)
    weights = np.repeat(np.array([text_part.weight for text_part in flat], np.float32), lengths)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    last = np.cumsum([0, *map(len, ended)])
    return [
        Document(
            tokens[start:end],
            weights[start:end],
            sum(len(p.text.encode()) for p in parts if p.trained and not p.control),
        )
        for parts, (start, end) in zip(ended, itertools.pairwise(ends[last].tolist()), strict=True)
    ]


def ids(parts: Sequence[TextPart], tokenizer: Tokenizer) -> list[int]:
    """Returns the ids of parts without an eos after them, such as those of a prompt."""
    return _ids(parts, tokenizer)[0].tolist()


def check(ids: np.ndarray, size: int) -> None:
    """Raises ValueError for an id below 0 or not below the tokenizer's `size`."""
    if len(ids) and not 0 <= ids.min() <= ids.max() < size:
        at = int(np.flatnonzero((ids < 0) | (ids >= size))[0])
        raise ValueError(
            f"the tokenizer: token {at} has id {ids[at]}, but ids are 0 to {size - 1}; "
            "the tokenizer's files do not belong together: fetch them again"
        )


def _ended(parts: Sequence[TextPart]) -> Sequence[TextPart]:
    """Returns the parts up to the last trained one, and an eos unless that is a control token."""
    last = next((n for n in reversed(range(len(parts))) if parts[n].trained), -1)
    if last < 0:
        return [*parts, UNTAUGHT_EOS]
    if parts[last].control:
        return parts[: last + 1]
    return [*parts[: last + 1], EOS]


def _ids(parts: Sequence[TextPart], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of all parts, one after another, and how many each part has."""
    ids: list[Sequence[int] | np.ndarray] = []
    short = [p.text for p in parts if p.text and not p.control and len(p.text) <= long_text.LONG]
    encoded = iter(tokenizer.encode_batch(short))
    eos = [tokenizer.eos_id]
    for text_part in parts:
        if text_part.control:
            ids.append([tokenizer.control(text_part.text)])
        elif not text_part.text:
            ids.append(eos if text_part is EOS or text_part is UNTAUGHT_EOS else [])
        elif len(text_part.text) > long_text.LONG:
            ids.append(long_text.encode(tokenizer, text_part.text))
        else:
            ids.append(next(encoded))
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    if any(isinstance(part_ids, np.ndarray) for part_ids in ids):
        return np.concatenate([np.asarray(part_ids, np.int32) for part_ids in ids]), lengths
    flat = itertools.chain.from_iterable(ids)
    return np.fromiter(flat, np.int32, int(lengths.sum())), lengths
