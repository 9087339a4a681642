"""Documents: the parts of a template as token ids with a loss weight each, cut to fit a row."""

from collections.abc import Iterator, Sequence
import dataclasses

import numpy as np

from lrl_jax.data.templates import Part
from lrl_jax.vocab.tokenizer import Tokenizer


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


def encode(examples: Sequence[Sequence[Part]], tokenizer: Tokenizer) -> list[Document]:
    """Tokenises many examples at once: each part by itself, then eos, which is always trained.

    No eos follows a document that ends in a trained control token: that is its own end.

    Raises:
      ValueError: a control token the tokenizer does not have.
    """
    ids = iter(
        tokenizer.encode_batch(
            [part.text for parts in examples for part in parts if not part.control]
        )
    )
    return [
        _join(parts, [_ids(part, ids, tokenizer) for part in parts], tokenizer.eos_id)
        for parts in examples
    ]


def split(document: Document, length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cuts (tokens, weights) into pieces of at most `length`; nothing is dropped.

    All pieces but the last are full, so that long documents pack without holes.
    """
    for at in range(0, len(document.tokens), length):
        yield document.tokens[at : at + length], document.weights[at : at + length]


def _ids(part: Part, encoded: Iterator[list[int]], tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.control(part.text)] if part.control else next(encoded)


def _join(parts: Sequence[Part], ids: list[list[int]], eos_id: int) -> Document:
    tokens = [token for part_ids in ids for token in part_ids]
    weights = np.repeat(
        np.array([part.weight for part in parts], np.float32), [len(one) for one in ids]
    )
    if not (parts[-1].control and parts[-1].trained):
        tokens.append(eos_id)
        weights = np.append(weights, np.float32(1))
    return Document(
        tokens=np.array(tokens, np.int64),
        weights=weights,
        bytes=sum(len(p.text.encode()) for p in parts if p.trained and not p.control),
    )
