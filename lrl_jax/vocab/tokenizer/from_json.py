"""Makes the SentencePiece model of a base that has only its tokenizer.json (transformers 5).

Its merges become scores: a piece is ranked by the first merge that makes it. Where the library
reads a text otherwise than the JSON form, the form is kept beside it (`own_form`) and `prove` says.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from lrl_jax.vocab.tokenizer import declared, inspection
from lrl_jax.vocab.tokenizer.codecs import BYTE
from lrl_jax.vocab.tokenizer.types import JSON, called

spm: Any = sentencepiece_model_pb2  # its classes are made on import: type checkers see none
Piece = spm.ModelProto.SentencePiece
ENDS = {"bos": "<s>", "eos": "</s>"}


def model(files: Mapping[str, bytes], config: Mapping[str, Any], where: str) -> bytes:
    """Returns the bytes of a `.model`; a form that is damaged or no BPE is a ValueError."""
    where = called(where, JSON)
    try:
        tree = inspection.parsed(files[JSON])
        bpe = tree["model"]
        vocab, merges = bpe["vocab"], [*inspection.pairs(bpe)]
        ranks = _ranks(left + right for left, right in merges)
        whole = all(type(i) is int for i in vocab.values())
    except (KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ValueError(f"{where}: cannot be read ({e!r}); fetch it again") from None
    except ValueError as e:
        raise ValueError(f"{where}: {e}") from None
    if not whole or sorted(vocab.values()) != [*range(len(vocab))]:
        raise ValueError(
            f"{where}: its ids are not 0 to {len(vocab) - 1}, each once; fetch it again"
        )
    unknown = bpe.get("unk_token") or "<unk>"
    if bpe.get("type", "BPE") != "BPE" or bpe.get("dropout") or unknown not in vocab:
        raise ValueError(
            f"{where}: want SentencePiece BPE without dropout, with a piece for what is unknown; "
            "put the tokenizer.model it was made of beside it"
        )
    special = {t["content"]: t["special"] for t in declared.added(files, config, where).values()}
    proto = spm.ModelProto()
    for piece, i in sorted(vocab.items(), key=lambda item: item[1]):
        kind, score = Piece.NORMAL, -float(ranks.get(piece, len(merges) + i))
        if piece == unknown:
            kind, score = Piece.UNKNOWN, 0.0
        elif piece in special:
            kind, score = (Piece.CONTROL if special[piece] else Piece.USER_DEFINED), 0.0
        elif BYTE.fullmatch(piece):
            kind, score = Piece.BYTE, 0.0
        proto.pieces.add(piece=piece, score=score, type=kind)
    _describe(proto, tree, config, vocab, unknown)
    return proto.SerializeToString(deterministic=True)


def _ranks(pieces: Iterable[str]) -> dict[str, int]:
    """Returns where the merges into each piece begin; one rank where those of several are mixed.

    A model that gives several pieces one score, as Llama 2 all runs of spaces, has such merges.

    >>> _ranks(["ab", "ab", "aaa", "aa", "aaa", "abc"])
    {'ab': 0, 'aaa': 2, 'aa': 2, 'abc': 5}
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for rank, piece in enumerate(pieces):
        first.setdefault(piece, rank)
        last[piece] = rank
    ranks, start, end = {}, 0, -1
    for piece, rank in first.items():  # in order
        start = rank if rank > end else start
        ranks[piece], end = start, max(end, last[piece])
    return ranks


def _describe(
    proto: Any,
    tree: Mapping[str, Any],
    config: Mapping[str, Any],
    vocab: Mapping[str, int],
    unknown: str,
) -> None:
    """Says in the model what kind it is, which pieces are its ends, and how text begins."""
    trainer, normal = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.byte_fallback = trainer.BPE, True
    trainer.vocab_size = len(proto.pieces)
    trainer.unk_id, trainer.unk_piece = vocab[unknown], unknown
    for key, usual in ENDS.items():
        name = declared.content(config.get(f"{key}_token")) or usual
        setattr(trainer, f"{key}_piece", name)
        setattr(trainer, f"{key}_id", vocab.get(name, -1))
        if name in vocab and proto.pieces[vocab[name]].type == Piece.NORMAL:
            proto.pieces[vocab[name]].type = Piece.CONTROL
    cut = inspection.leaves(tree.get("normalizer")) + inspection.leaves(tree.get("pre_tokenizer"))
    normal.name = "identity"
    normal.remove_extra_whitespaces, normal.escape_whitespaces = False, True
    normal.add_dummy_prefix = any(
        node["type"] == "Prepend"
        or (node["type"] == "Metaspace" and node.get("prepend_scheme", "always") != "never")
        for node in cut
    )
