"""Tokenises the text parts that a template writes: ids, each with its weight in the loss."""

from collections.abc import Collection, Sequence
import dataclasses
import itertools

import numpy as np

from lrl_jax.data.templates.parts import TextPart
from lrl_jax.vocab.tokenizer import long_text, own_form
from lrl_jax.vocab.tokenizer.types import Tokenizer, refuse_halves

# Where a template writes bos itself, which is put before every document: text goes on after it.
AFTER_BOS = TextPart("", 0, control=True)
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
    starts = {0, *itertools.accumulate(map(len, ended))}
    tokens, lengths = _ids(flat, tokenizer, starts)
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
    return _ids(parts, tokenizer, {0})[0].tolist()


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


def _ids(
    parts: Sequence[TextPart], tokenizer: Tokenizer, starts: Collection[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of all parts, one after another, and how many each part has.

    Documents begin with the parts whose index is in `starts`.
    """
    beside = own_form.beside(tokenizer)
    if beside is not None:
        return _lengths(_ids_beside(parts, tokenizer, starts, beside))
    ids: list[Sequence[int] | np.ndarray] = []
    short = [p.text for p in parts if p.text and not p.control and len(p.text) <= long_text.LONG]
    encoded = iter(tokenizer.encode_batch(short))
    eos = [tokenizer.eos_id]
    for text_part in parts:
        if text_part.control:
            ids.append(_control(text_part, tokenizer))
        elif not text_part.text:
            ids.append(eos if text_part is EOS or text_part is UNTAUGHT_EOS else [])
        elif len(text_part.text) > long_text.LONG:
            ids.append(long_text.encode(tokenizer, text_part.text))
        else:
            ids.append(next(encoded))
    return _lengths(ids)


def _control(text_part: TextPart, tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.control(text_part.text)] if text_part.text else []


def _ids_beside(
    parts: Sequence[TextPart],
    tokenizer: Tokenizer,
    starts: Collection[int],
    beside: own_form.Beside,
) -> list[Sequence[int] | np.ndarray]:
    """Returns the ids of each part, as transformers gives them for the whole document."""
    refuse_halves(part.text for part in parts)
    names = [part.text if part.control else "" for part in parts]
    ids: list[Sequence[int] | np.ndarray] = []
    for n, text_part in enumerate(parts):
        before = names[n - 1] if n not in starts else ""
        after = names[n + 1] if n + 1 < len(parts) and n + 1 not in starts else ""
        text = beside.trimmed(text_part.text, before, after)
        if text_part.control:
            ids.append(_control(text_part, tokenizer))
        elif text_part is EOS or text_part is UNTAUGHT_EOS:
            ids.append([tokenizer.eos_id])
        elif beside.inside is not None and n not in starts:
            ids.append(beside.inside.encode_batch([text])[0] if text else [])
        else:
            ids.append(long_text.encode(tokenizer, text))
    return ids


def _lengths(ids: Sequence[Sequence[int] | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids one after another, and how many each part has."""
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    if any(isinstance(part_ids, np.ndarray) for part_ids in ids):
        return np.concatenate([np.asarray(part_ids, np.int32) for part_ids in ids]), lengths
    flat = itertools.chain.from_iterable(ids)
    return np.fromiter(flat, np.int32, int(lengths.sum())), lengths
