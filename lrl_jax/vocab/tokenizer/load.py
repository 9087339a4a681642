"""Loads a tokenizer of any family from its files: the door to everything in this room.

tokenizer = load("runs/korean/vocab")
tokenizer.decode(tokenizer.encode("서울에 갑니다")) == "서울에 갑니다"
"""

from collections.abc import Mapping
import os

from etils import epath

from lrl_jax import storage
from lrl_jax.vocab.tokenizer import byte_level, sentencepieces
from lrl_jax.vocab.tokenizer.codecs import SentencePieceCodec
from lrl_jax.vocab.tokenizer.types import (
    ADDED,
    EXTRAS,
    JSON,
    MAX_BYTES,
    MAX_EXTRA,
    MODEL,
    Tokenizer,
    TokenizerFamily,
    is_sentencepiece,
)


def family(tokenizer: Tokenizer) -> TokenizerFamily:
    """Returns the module that handles tokenizers of this kind."""
    return sentencepieces if tokenizer.family == "sentencepiece" else byte_level


def load(path: epath.PathLike) -> Tokenizer:
    """Loads a tokenizer: a folder, a SentencePiece `.model`, or a byte-level tokenizer.json."""
    return from_files(read(path), str(path))


def present(folder: epath.Path) -> bool:
    """Tells whether a folder holds a tokenizer."""
    return any(_there(folder / name) for name in (MODEL, JSON))


def read(path: epath.PathLike) -> dict[str, bytes]:
    """Reads the files of the tokenizer that `path` (a file, or a folder with others) names."""
    storage.refuse_odd(os.fspath(path))
    path = epath.Path(path)
    if not path.is_dir():
        if not path.exists():
            raise ValueError(
                f"{path}: no such file; want a SentencePiece .model, a tokenizer.json or a folder"
            )
        return {JSON if path.suffix == ".json" else MODEL: _bytes(path)}
    names = [name for name in (MODEL, JSON, *EXTRAS) if (path / name).exists()]
    files = {name: _bytes(storage.within(path, name)) for name in names}
    if MODEL not in files and JSON not in files:
        raise ValueError(
            f"{path}: holds no {MODEL} and no {JSON}; take them from the base model's repository"
        )
    if (path / ADDED).exists():
        files[ADDED] = _bytes(path / ADDED)
    return files


def from_files(files: Mapping[str, bytes], where: str = "tokenizer") -> Tokenizer:
    """Makes a tokenizer of its files by name; `where` names them in errors."""
    if is_sentencepiece(files):
        return sentencepieces.from_files(files, where)
    return byte_level.from_files(files, where)


def from_bytes(model: bytes, where: str = "tokenizer model") -> Tokenizer:
    """Makes a tokenizer of the bytes of a SentencePiece `.model` file."""
    return from_files({MODEL: model}, where)


def share_cores(threads: int) -> None:
    """Limits the threads that encode, for one process among many; call it before encoding."""
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # of the tokenizers library
    SentencePieceCodec.threads = threads


def _there(path: epath.Path) -> bool:
    return path.exists() and not path.is_dir()


def _bytes(path: epath.Path) -> bytes:
    return storage.read_bytes(path, MAX_EXTRA if path.name in EXTRAS else MAX_BYTES)
