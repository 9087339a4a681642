"""Makes a seqio vocabulary of our tokenizer; a user's own Task may use it too.

from lrl_jax.data.seqio.vocabulary import Vocabulary
seqio.Feature(Vocabulary(tokenizer), add_eos=True)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrl_jax.data.seqio.libraries import seqio, tf
from lrl_jax.vocab.tokenizer.types import Tokenizer

BLOCK = 256  # records that go into TensorFlow and back together


def ragged(function: Any, inputs: Sequence[Any], types: Mapping[str, tf.DType]) -> dict[str, Any]:
    """Returns the ragged columns that a Python function computes.

    Args:
      function: takes arrays, and returns the values of each column and the lengths of the rows.
      types: column -> type of its values.
    """
    flat = tf.numpy_function(function, inputs, [*types.values(), tf.int64], stateful=False)
    *columns, lengths = (tf.ensure_shape(values, [None]) for values in flat)
    kind: Any = tf.RaggedTensor
    named = zip(types, columns, strict=True)
    return {name: kind.from_row_lengths(values, lengths) for name, values in named}


class Vocabulary(seqio.Vocabulary):
    """Wraps our tokenizer as a seqio vocabulary.

    Its pad id has no special meaning: `online.Decoder` says how padding is told from tokens.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        super().__init__()

    bos_id = property(lambda self: self.tokenizer.bos_id)
    eos_id = property(lambda self: self.tokenizer.eos_id)
    pad_id = property(lambda self: self.tokenizer.pad_id)
    unk_id = property(lambda self: None)
    _base_vocab_size = property(lambda self: self.tokenizer.size)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Vocabulary)
        return same and other.tokenizer.fingerprint == self.tokenizer.fingerprint

    def __hash__(self) -> int:
        return hash(self.tokenizer.fingerprint)

    def _encode(self, s: str) -> list[int]:
        return self.tokenizer.encode(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        """Returns the ids of a string, or a ragged tensor for a vector of strings."""
        if s.shape.rank == 0:
            return self._encode_tf(s[None]).values

        def encode(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            ids = self.tokenizer.encode_batch([text.decode() for text in texts])
            flat = np.array([token for row in ids for token in row], np.int32)
            return flat, np.array([len(row) for row in ids], np.int64)

        return ragged(encode, [s], {"ids": tf.int32})["ids"]

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(
            lambda row: self.tokenizer.decode(row).encode(), [ids], tf.string, stateful=False
        )
