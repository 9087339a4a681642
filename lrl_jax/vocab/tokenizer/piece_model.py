"""Reads a SentencePiece model file: its pieces, and what it says of how text is cut."""

from collections.abc import Callable, Iterable
import functools
from typing import Any

from google.protobuf.message import DecodeError
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from lrl_jax.vocab.tokenizer.codecs import SPACE
from lrl_jax.vocab.tokenizer.types import MODEL, Tokenizer, not_a_tokenizer

spm: Any = sentencepiece_model_pb2  # its classes are made on import: type checkers see none
Piece = spm.ModelProto.SentencePiece
CONTROLS = (Piece.CONTROL, Piece.UNKNOWN)
DIGITS = frozenset("0123456789")


def parse(model: bytes, where: str = "tokenizer model") -> Any:
    """Reads the bytes of a `.model` file; a ValueError says what other bytes look like."""
    if guess := not_a_tokenizer(model):
        raise ValueError(f"{where}: {guess}; want a SentencePiece .model file")
    if model.lstrip()[:1] in (b"{", b"["):
        raise ValueError(f"{where}: is JSON; name it tokenizer.json if it is one")
    proto = spm.ModelProto()
    try:
        proto.ParseFromString(model)
    except DecodeError:
        raise ValueError(f"{where}: is not a SentencePiece model, or is cut short") from None
    pieces = [piece.piece for piece in proto.pieces]
    if not pieces:
        raise ValueError(f"{where}: is a SentencePiece model without pieces; fetch the file again")
    if odd := [i for i, piece in enumerate(pieces) if not isinstance(piece, str)]:  # bytes, then
        raise ValueError(f"{where}: its piece {odd[0]} is not UTF-8; it is damaged, fetch it again")
    if len(set(pieces)) < len(pieces) or "" in pieces:
        raise ValueError(f"{where}: has empty or repeated pieces; it is damaged, fetch it again")
    return proto


def proto_of(tokenizer: Tokenizer) -> Any:
    """Returns the tokenizer's model, parsed."""
    return parse(tokenizer.files[MODEL])


def bpe_of(tokenizer: Tokenizer) -> Any:
    """Returns the model, parsed; a ValueError says why it cannot be extended as BPE."""
    proto = proto_of(tokenizer)
    spec = proto.trainer_spec
    if spec.model_type != spec.BPE:
        kind = spec.ModelType.Name(spec.model_type).lower()
        raise ValueError(f"the base tokenizer is a SentencePiece {kind} model; want a BPE model")
    if spec.treat_whitespace_as_suffix:
        raise ValueError("the base tokenizer writes spaces after words; want one with ▁ before")
    return proto


def splits_digits(tokenizer: Tokenizer) -> bool:
    """Tells whether every digit is a token of its own, as in Llama 2.

    The model says so, or it has pieces of all digits and none in which one is joined.
    """
    proto = proto_of(tokenizer)
    normal = [piece.piece for piece in proto.pieces if piece.type == Piece.NORMAL]
    with_digits = {piece for piece in normal if not DIGITS.isdisjoint(piece)}
    return bool(proto.trainer_spec.split_digits) or with_digits == DIGITS


def unknown(pieces: Iterable[Piece]) -> str:
    """Returns the piece that stands for what the model does not know."""
    return next((p.piece for p in pieces if p.type == Piece.UNKNOWN), "<unk>")


@functools.lru_cache(maxsize=4)
def normal_of(model: bytes) -> Callable[[str], str]:
    """Returns a function from a text to what decoding by a model should give."""
    spec = parse(model).normalizer_spec
    if not (spec.precompiled_charsmap or spec.remove_extra_whitespaces):
        return lambda text: text.replace(SPACE, " ")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return lambda text: processor.normalize(text).replace(SPACE, " ").lstrip(" ")
