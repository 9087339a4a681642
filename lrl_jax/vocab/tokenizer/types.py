"""Holds what a tokenizer is, whichever family it is of: its ids, its text, its files.

Two families, a module each: SentencePiece BPE (`sentencepieces`) and byte-level BPE (`byte_level`);
`load` finds out which one a file is of.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
import itertools
import re
from typing import Any, Literal, Protocol, TypeVar

from etils import epath

from lrl_jax import storage
from lrl_jax.text import LFS_POINTER

MODEL, JSON, CONFIG = "tokenizer.model", "tokenizer.json", "tokenizer_config.json"
SPECIAL_MAP, ADDED = "special_tokens_map.json", "added_tokens.json"
EXTRAS = (CONFIG, SPECIAL_MAP, "chat_template.jinja")
FALLBACK = re.compile(rb'"byte_fallback"\s*:\s*true')  # as no string of JSON can hold it
MAX_BYTES = 1 << 28  # the largest published tokenizers are some tens of MB
MAX_VALUES = 1 << 23  # of its JSON; 262,144 pieces and 514,906 merges are some 2 million
MAX_EXTRA = 1 << 24  # bytes of each of EXTRAS; the largest published are some MB

T = TypeVar("T")


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
        """Returns the ids of `text`, without bos and eos; a literal `</s>` is ordinary text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encodes each text, on several threads; ValueError for one with half a surrogate pair."""
        refuse_halves(texts)
        return self.codec.encode_batch(list(texts))

    def control(self, name: str) -> int:
        """Returns the id of a control token; a ValueError names those there are."""
        if name not in self.controls:
            raise ValueError(
                f"the tokenizer has no control token {name!r}; it has "
                f"{', '.join([*self.controls][:12])}; choose a template made for it"
            )
        return self.controls[name]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of `ids`; bos, eos and other control ids have none."""
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self.size:
                raise ValueError(f"id {i} is not in the vocabulary; ids are 0 to {self.size - 1}")
        return self.codec.decode_batch([ids])[0]


class TokenizerFamily(Protocol):
    """Describes the module of one kind of tokenizer; there the functions say what they do."""

    FORMS: tuple[str, ...]  # the files `write` leaves, those that define the tokenizer first

    def words(self, tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]: ...
    def spell(self, tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]: ...
    def segments(self, tokenizer: Tokenizer, words: Sequence[str]) -> list[list[str]]: ...
    def pieces(self, tokenizer: Tokenizer) -> list[str]: ...
    def surface(self, piece: str) -> bytes: ...
    def written(self, surface: bytes) -> str: ...
    def normal(self, tokenizer: Tokenizer) -> Callable[[str], str]: ...
    def extend(self, tokenizer: Tokenizer, pieces: Sequence[str]) -> Tokenizer: ...
    def altered(self, base: Tokenizer, new: Tokenizer) -> list[str]: ...
    def write(self, tokenizer: Tokenizer, folder: epath.PathLike) -> None: ...
    def forms(self, folder: epath.PathLike) -> dict[str, Codec]: ...
    def reading(self, tokenizer: Tokenizer) -> Any: ...


def half(text: str) -> str:
    """Describes half a surrogate pair in a text, which no UTF-8 file can hold; '' without one.

    JSON can spell one, and Python reads a byte as one that is not UTF-8.

    >>> half("a b"), half("a \\udce9")
    ('', 'character 3 is U+DCE9, half a surrogate pair or a byte that is not UTF-8 (0xe9)')
    """
    try:
        text.encode()
    except UnicodeEncodeError as e:
        code = ord(text[e.start])
        byte = f" or a byte that is not UTF-8 (0x{code & 0xFF:02x})"
        what = f"character {e.start + 1} is U+{code:04X}, half a surrogate pair"
        return what + byte * (0xDC80 <= code <= 0xDCFF)
    return ""


def refuse_halves(texts: Iterable[str]) -> None:
    """Raises ValueError for a text with half a surrogate pair, which libraries refuse or change."""
    for text in texts:
        if why := half(text):
            raise ValueError(f"{text[:60]!r}: {why}; want whole characters")


def fingerprint(*parts: bytes) -> str:
    """Returns the name of a tokenizer in manifests and splices: SHA-256 of what defines it."""
    return hashlib.sha256(b"".join(parts)).hexdigest()


def called(where: str, name: str) -> str:
    """Returns how errors call a file of a tokenizer; `where` is its folder, or that file alone.

    >>> called("base", JSON), called("base/tokenizer.json", JSON)
    ('base/tokenizer.json', 'base/tokenizer.json')
    """
    return where if where.endswith(name) else f"{where}/{name}"


def config_of(files: Mapping[str, bytes], where: str = "tokenizer") -> dict[str, Any]:
    """Returns tokenizer_config.json as an object, {} without one; ValueError for anything else."""
    config = storage.parse_json(files.get(CONFIG, b"{}"), f"{where}/{CONFIG}")
    if not isinstance(config, dict):
        raise ValueError(f"{where}/{CONFIG}: holds no JSON object; fetch it again")
    return config


def chat_template_of(config: Mapping[str, Any]) -> str | None:
    """Returns the chat template in tokenizer_config.json, of several by name the default."""
    source = config.get("chat_template")
    if isinstance(source, list):
        entries = (entry for entry in source if isinstance(entry, dict))
        source = {entry.get("name"): entry.get("template") for entry in entries}.get("default")
    return source if isinstance(source, str) else None


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yields the items in lists of `size`, so that a corpus is never in memory as a whole."""
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def is_sentencepiece(files: Mapping[str, bytes]) -> bool:
    """Tells whether files have a SentencePiece model, or the JSON form of one alone.

    Llama 3 has a tiktoken file in its place.
    """
    if MODEL not in files:
        return bool(FALLBACK.search(files.get(JSON, b"")))
    return not (JSON in files and _is_tiktoken(files[MODEL]))


def _is_tiktoken(data: bytes) -> bool:
    """Tells whether the data are lines of a piece in base64 and its rank."""
    return bool(re.match(rb"[A-Za-z0-9+/]+=* \d+\r?\n", data))


def file_in(where: str, name: str) -> str:
    """Returns the path of a tokenizer's file, loaded from `where`: a folder, or that file."""
    folder = epath.Path(where)
    return str(folder / name) if folder.is_dir() else where


def not_a_tokenizer(data: bytes) -> str:
    """Describes what a file looks like instead; '' when nothing is recognised."""
    if not data:
        return "is empty"
    if data.startswith(LFS_POINTER):
        return "is a git-lfs pointer, not the file (run `git lfs pull`)"
    if storage.is_web_page(data):
        return storage.WEB_PAGE
    if data.startswith(b"\x1f\x8b"):
        return "is compressed with gzip (unpack it)"
    if _is_tiktoken(data):
        return "is a tiktoken file, as Llama 3 has (put the model's tokenizer.json beside it)"
    return ""
