"""A tokenizer small enough to do by hand: ids in tests are worked out, not recorded."""

from sentencepiece import sentencepiece_model_pb2 as spm

from lrl_jax.vocab.tokenizer.load import from_bytes
from lrl_jax.vocab.tokenizer.types import Tokenizer

# Ids: 0 <unk>, 1 <s>, 2 </s>, byte b is 3 + b, then these from 259 on.
WORDS = ("\u2581", "a", "b", "c", "\u2581a", "\u2581b", "\u2581c")  # 259 .. 265
NEWLINE = 3 + ord("\n")


def make(first: tuple[str, ...] = (), controls: tuple[str, ...] = ()) -> Tokenizer:
    """BPE with a dummy prefix and byte fallback, as Llama 2.

    Args:
      first: pieces below <unk>.
      controls: more control tokens, from id 266 on.
    """
    model = spm.ModelProto()
    kind = spm.ModelProto.SentencePiece.Type

    def add(piece: str, score: float, type_: int) -> None:
        model.pieces.add(piece=piece, score=score, type=type_)

    for piece in first:
        add(piece, 0.0, kind.NORMAL)
    add("<unk>", 0.0, kind.UNKNOWN)
    add("<s>", 0.0, kind.CONTROL)
    add("</s>", 0.0, kind.CONTROL)
    for byte in range(256):
        add(f"<0x{byte:02X}>", 0.0, kind.BYTE)
    for rank, piece in enumerate(WORDS):
        add(piece, -1.0 - rank, kind.NORMAL)
    for piece in controls:
        add(piece, 0.0, kind.CONTROL)
    model.trainer_spec.model_type = spm.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(model.pieces)
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.escape_whitespaces = True
    return from_bytes(model.SerializeToString())


def spell(text: str) -> list[int]:
    """The ids of a text, worked out from the list above: its words and, for the rest, its bytes."""
    ids: list[int] = []
    for char in " " + text if text else "":
        word = "abc".find(char)
        if word < 0:
            ids += [259] if char == " " else [3 + byte for byte in char.encode()]
        elif ids and ids[-1] == 259:
            ids[-1] = 263 + word
        else:
            ids.append(260 + word)
    return ids
