"""The one tokenizer of training, evaluation and generation: a SentencePiece model, checked on load.

    tokenizer = load("runs/korean/vocab")
    tokenizer.decode(tokenizer.encode("서울에 갑니다")) == "서울에 갑니다"

`encode` reads text as text: a literal `</s>` becomes ordinary pieces, never the end of a document.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import hashlib
import re
from typing import Any

from etils import epath
from google.protobuf.message import DecodeError
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from lrl_jax.text import LFS_POINTER

MODEL_FILE = "tokenizer.model"
MAX_BYTES = 1 << 28  # the largest published SentencePiece models are a few MB
spm: Any = sentencepiece_model_pb2  # its classes are made on import: type checkers see none
Piece = spm.ModelProto.SentencePiece


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Text to ids and back.

    Attributes:
      pad_id: the model's padding piece, or eos when it has none; padding is never trained on.
      size: how many pieces; every id is below it.
      fingerprint: SHA-256 of the model file.
    """

    bos_id: int
    eos_id: int
    pad_id: int
    size: int
    fingerprint: str
    processor: sentencepiece.SentencePieceProcessor = dataclasses.field(repr=False, compare=False)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without bos and eos."""
        return self.processor.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on several threads."""
        return self.processor.encode(list(texts))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bos, eos and other control ids have none.

        Raises:
          ValueError: an id outside the vocabulary.
        """
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self.size:
                raise ValueError(f"id {i} is not in the vocabulary; ids are 0 to {self.size - 1}")
        return self.processor.decode(ids)


def load(path: epath.PathLike) -> Tokenizer:
    """Loads a SentencePiece model: a `.model` file, or a folder with `tokenizer.model` in it.

    Raises:
      ValueError: no such file, or one that is not a usable SentencePiece model.
    """
    return from_bytes(read(path), str(path))


def read(path: epath.PathLike) -> bytes:
    """The bytes of the model that `path` (file or folder) names."""
    path = epath.Path(path)
    if path.is_dir():
        found = path / MODEL_FILE
        if not found.exists():
            other = " (tokenizer.json alone is not enough)" if _has_json(path) else ""
            raise ValueError(
                f"{path}: holds no {MODEL_FILE}{other}; "
                "take the SentencePiece model from the base model's repository"
            )
        path = found
    if not path.exists():
        raise ValueError(f"{path}: no such file; want a SentencePiece .model file or its folder")
    size = path.stat().length
    if size > MAX_BYTES:
        raise ValueError(f"{path}: {size} bytes is no SentencePiece model; want a .model file")
    return path.read_bytes()


def from_bytes(model: bytes, where: str = "tokenizer model") -> Tokenizer:
    """A tokenizer of the bytes of a `.model` file; `where` names them in errors."""
    proto = parse(model, where)
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as e:
        raise ValueError(f"{where}: sentencepiece refuses it ({e}); fetch the file again") from None
    bos, eos, pad = processor.bos_id(), processor.eos_id(), processor.pad_id()
    if bos < 0 or eos < 0:
        raise ValueError(
            f"{where}: has no {'bos' if bos < 0 else 'eos'} piece, which Llama models need; "
            "train it with bos_id=1, eos_id=2"
        )
    return Tokenizer(
        bos_id=bos,
        eos_id=eos,
        pad_id=pad if pad >= 0 else eos,
        size=len(proto.pieces),
        fingerprint=fingerprint(model),
        processor=processor,
    )


def fingerprint(model: bytes) -> str:
    """What names a model in manifests and splices: SHA-256 of its bytes."""
    return hashlib.sha256(model).hexdigest()


def parse(model: bytes, where: str = "tokenizer model") -> Any:
    """Reads the bytes of a `.model` file as the protocol buffer they are.

    Raises:
      ValueError: they are something else, and what that something looks like.
    """
    if guess := _not_sentencepiece(model):
        raise ValueError(f"{where}: {guess}; want a SentencePiece .model file")
    proto = spm.ModelProto()
    try:
        proto.ParseFromString(model)
    except DecodeError:
        raise ValueError(f"{where}: is not a SentencePiece model, or is cut short") from None
    pieces = [piece.piece for piece in proto.pieces]
    if not pieces:
        raise ValueError(f"{where}: is a SentencePiece model without pieces; fetch the file again")
    if len(set(pieces)) < len(pieces) or "" in pieces:
        raise ValueError(f"{where}: has empty or repeated pieces; it is damaged, fetch it again")
    return proto


def _not_sentencepiece(model: bytes) -> str:
    if not model:
        return "is empty"
    if model.startswith(LFS_POINTER):
        return "is a git-lfs pointer, not the file (run `git lfs pull`)"
    if model.lstrip()[:1] in (b"{", b"["):
        return "is JSON, such as a tokenizer.json"
    if model.startswith(b"\x1f\x8b"):
        return "is compressed with gzip"
    if re.match(rb"[A-Za-z0-9+/]+=* \d+\r?\n", model):
        return "is a tiktoken file, as Llama 3 has (byte-level BPE is not supported here)"
    return ""


def _has_json(folder: epath.Path) -> bool:
    return (folder / "tokenizer.json").exists()
