"""Documents: the parts of a template as token ids with a loss bit each, cut to fit a row."""

from collections.abc import Iterator, Sequence
import dataclasses

import numpy as np

from lrl_jax.data.templates import Part
from lrl_jax.vocab.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Document:
    """Token ids, eos last, and which of them the loss counts.

    Attributes:
      bytes: UTF-8 bytes of the trained text.
    """

    tokens: np.ndarray
    trained: np.ndarray
    bytes: int


def encode(examples: Sequence[Sequence[Part]], tokenizer: Tokenizer) -> list[Document]:
    """Tokenises many examples at once: each part by itself, then eos, which is always trained."""
    ids = iter(tokenizer.encode_batch([part.text for parts in examples for part in parts]))
    return [_join(parts, [next(ids) for _ in parts], tokenizer.eos_id) for parts in examples]


def split(document: Document, length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cuts (tokens, trained) into pieces of at most `length`; nothing is dropped.

    All pieces but the last are full, so that long documents pack without holes.
    """
    for at in range(0, len(document.tokens), length):
        yield document.tokens[at : at + length], document.trained[at : at + length]


def _join(parts: Sequence[Part], ids: list[list[int]], eos_id: int) -> Document:
    tokens = [token for part_ids in ids for token in part_ids]
    trained = [part.trained for part in parts]
    return Document(
        tokens=np.array([*tokens, eos_id], np.int64),
        trained=np.append(np.repeat(trained, [len(part_ids) for part_ids in ids]), True),
        bytes=sum(len(part.text.encode()) for part in parts if part.trained),
    )
