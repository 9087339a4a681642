"""Documents: the parts of a template as token ids with a loss weight each, cut to fit a row."""

from collections.abc import Sequence
import dataclasses
import itertools

import numpy as np

from lrl_jax.data.templates.parts import TextPart
from lrl_jax.vocab.tokenizer import long_text
from lrl_jax.vocab.tokenizer.types import Tokenizer

EOS, UNTAUGHT_EOS = (
    TextPart("", 1),
    TextPart("", 0),
)  # stand for eos at the end of a document's parts


@dataclasses.dataclass(frozen=True)
class Document:
    """Token ids and what each of them weighs in the loss.

    Attributes:
      bytes: UTF-8 bytes of the trained text.
    """

    tokens: np.ndarray
    weights: np.ndarray
    bytes: int

    @property
    def trained(self) -> np.ndarray:
        """Whether the loss counts a token."""
        return self.weights > 0


def encode(examples: Sequence[Sequence[TextPart]], tokenizer: Tokenizer) -> list[Document]:
    """Tokenises many examples at once: each part by itself, then eos, which is trained.

    What is only read after the last trained part is left out: nothing is learnt from it. No eos
    follows a document that ends in a trained control token: that is its own end. Of an example
    without a trained part nothing is trained, not even eos; `Document.trained` shows it.

    Raises:
      ValueError: a control token the tokenizer does not have.
    """
    ended = [_ended(parts) for parts in examples]
    flat = [part for parts in ended for part in parts]
    tokens, lengths = _ids(flat, tokenizer)
    weights = np.repeat(np.array([part.weight for part in flat], np.float32), lengths)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    last = np.cumsum([0, *map(len, ended)])
    return [
        Document(tokens[start:end], weights[start:end], sum(map(_bytes, parts)))
        for parts, (start, end) in zip(ended, itertools.pairwise(ends[last].tolist()), strict=True)
    ]


def ids(parts: Sequence[TextPart], tokenizer: Tokenizer) -> list[int]:
    """The ids of parts that go on, such as those of a prompt: no eos."""
    return _ids(parts, tokenizer)[0].tolist()


def check(ids: np.ndarray, size: int, where: str = "the tokenizer") -> None:
    """Refuses ids that a model has no row for; `where` says in errors what they are of.

    Raises:
      ValueError: an id below 0 or not below `size`.
    """
    if len(ids) and not 0 <= ids.min() <= ids.max() < size:
        at = int(np.flatnonzero((ids < 0) | (ids >= size))[0])
        raise ValueError(
            f"{where}: token {at} has id {ids[at]}, but ids are 0 to {size - 1}; "
            "the tokenizer's files do not belong together: fetch them again"
        )


def _ended(parts: Sequence[TextPart]) -> Sequence[TextPart]:
    """The parts up to the last trained one; after a text, what stands for eos."""
    last = next((n for n in reversed(range(len(parts))) if parts[n].weight > 0), -1)
    if last < 0:
        return [*parts, UNTAUGHT_EOS]
    if parts[last].control:
        return parts[: last + 1]
    return [*parts[: last + 1], EOS]


def _ids(parts: Sequence[TextPart], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The ids of all parts, and how many each has."""
    found: list[Sequence[int] | np.ndarray] = []
    short = [p.text for p in parts if p.text and not p.control and len(p.text) <= long_text.LONG]
    encoded = iter(tokenizer.encode_batch(short))
    eos = [tokenizer.eos_id]
    for part in parts:
        if part.control:
            found.append([tokenizer.control(part.text)])
        elif not part.text:
            found.append(eos if part is EOS or part is UNTAUGHT_EOS else [])
        elif len(part.text) > long_text.LONG:
            found.append(long_text.encode(tokenizer, part.text))
        else:
            found.append(next(encoded))
    lengths = np.fromiter(map(len, found), np.int64, len(found))
    every = itertools.chain.from_iterable(found)
    if any(isinstance(one, np.ndarray) for one in found):
        return np.concatenate([np.asarray(one, np.int32) for one in found]), lengths
    return np.fromiter(every, np.int32, int(lengths.sum())), lengths


def _bytes(part: TextPart) -> int:
    if part.weight <= 0 or part.control:
        return 0
    return len(part.text) if part.text.isascii() else len(part.text.encode())
