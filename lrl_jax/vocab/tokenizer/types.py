"""Holds what a tokenizer is, whichever family it is of: its ids, its text, its files.

`encode` reads text as text: a literal `</s>` becomes ordinary pieces, never the end of a document.
Two families, a module each: SentencePiece BPE (`sentencepieces`) and byte-level BPE (`byte_level`);
`load` finds out which one a file is of.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import hashlib
import re
from typing import Literal, Protocol

from etils import epath

from lrl_jax.text import LFS_POINTER

MODEL, JSON, CONFIG = "tokenizer.model", "tokenizer.json", "tokenizer_config.json"
EXTRAS = (CONFIG, "special_tokens_map.json", "chat_template.jinja")
MAX_BYTES = 1 << 28  # the largest published tokenizers are some tens of MB


class Codec(Protocol):
    """Turns text to ids and back; it can be sent to another process."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]: ...


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Turns text to ids and back, and holds its files.

    Attributes:
      pad_id: the model's padding piece, or eos when it has none; padding is never trained on.
      size: every id is below it.
      fingerprint: SHA-256 of what defines it.
      controls: ids of control tokens by name, such as <s> or <|eot_id|>; text never has them.
      files: what defines it and what comes with it, by file name.
    """

    family: Literal["sentencepiece", "byte_level"]
    bos_id: int
    eos_id: int
    pad_id: int
    size: int
    fingerprint: str
    controls: Mapping[str, int] = dataclasses.field(repr=False, compare=False)
    files: Mapping[str, bytes] = dataclasses.field(repr=False, compare=False)
    codec: Codec = dataclasses.field(repr=False, compare=False)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`, without bos and eos."""
        return self.codec.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encodes each text, on several threads."""
        return self.codec.encode_batch(list(texts))

    def control(self, name: str) -> int:
        """Returns the id of a control token.

        Raises:
          ValueError: the tokenizer has none of this name.
        """
        if name not in self.controls:
            raise ValueError(
                f"the tokenizer has no control token {name!r}; it has "
                f"{', '.join([*self.controls][:12])}; choose a template made for it"
            )
        return self.controls[name]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of `ids`; bos, eos and other control ids have none.

        Raises:
          ValueError: an id outside the vocabulary.
        """
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self.size:
                raise ValueError(f"id {i} is not in the vocabulary; ids are 0 to {self.size - 1}")
        return self.codec.decode_batch([ids])[0]


class TokenizerFamily(Protocol):
    """Describes the functions of a module that handles one kind of tokenizer, in that kind's
    spelling.
    """

    FORMS: tuple[str, ...]  # the files `write` leaves, those that define the tokenizer first

    def from_files(self, files: Mapping[str, bytes], where: str) -> Tokenizer:
        """Makes a tokenizer of its files; `where` names them in errors."""
        ...

    def words(self, tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
        """Counts the stretches of text that no merge reaches over."""
        ...

    def spell(self, tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
        """Returns ids of words and pieces as they stand inside a sentence."""
        ...

    def segments(self, tokenizer: Tokenizer, words: Sequence[str]) -> list[list[str]]:
        """Returns the pieces that spell each word; a character without a piece stays itself."""
        ...

    def pieces(self, tokenizer: Tokenizer) -> list[str]:
        """Returns every piece, by id; '' where an id has none."""
        ...

    def surface(self, piece: str) -> bytes:
        """Returns the text a piece stands for."""
        ...

    def normal(self, tokenizer: Tokenizer) -> Callable[[str], str]:
        """Returns a function from a text to what decoding it should give back."""
        ...

    def extend(self, tokenizer: Tokenizer, pieces: Sequence[str]) -> Tokenizer:
        """Appends new pieces after all old ids, ranked in their order below every base merge."""
        ...

    def altered(self, base: Tokenizer, new: Tokenizer) -> list[str]:
        """Returns base pieces that changed in `new`, and settings that changed, in brackets."""
        ...

    def write(self, tokenizer: Tokenizer, folder: epath.PathLike) -> None:
        """Writes every form, for transformers and others, into a local folder."""
        ...

    def forms(self, folder: epath.PathLike) -> dict[str, Codec]:
        """Returns the other forms in a folder `write` filled, each by its own implementation."""
        ...


def fingerprint(*parts: bytes) -> str:
    """Returns the name of a tokenizer in manifests and splices: SHA-256 of what defines it."""
    return hashlib.sha256(b"".join(parts)).hexdigest()


def is_tiktoken(data: bytes) -> bool:
    """Tells whether the data are lines of a piece in base64 and its rank."""
    return bool(re.match(rb"[A-Za-z0-9+/]+=* \d+\r?\n", data))


def not_a_tokenizer(data: bytes) -> str:
    """Describes what a file looks like instead; '' when nothing is recognised."""
    if not data:
        return "is empty"
    if data.startswith(LFS_POINTER):
        return "is a git-lfs pointer, not the file (run `git lfs pull`)"
    if data.startswith(b"\x1f\x8b"):
        return "is compressed with gzip (unpack it)"
    if is_tiktoken(data):
        return "is a tiktoken file, as Llama 3 has (put the model's tokenizer.json beside it)"
    return ""
