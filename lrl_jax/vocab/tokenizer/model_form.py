"""Writes a SentencePiece model in the form of the `tokenizers` library, which merges by rank."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from lrl_jax.vocab.tokenizer.codecs import SPACE
from lrl_jax.vocab.tokenizer.piece_model import Piece, bpe_of, unknown
from lrl_jax.vocab.tokenizer.types import Tokenizer

SPACES = 1 << 30  # more spaces than a text begins with


def form_of(
    tokenizer: Tokenizer,
    added: Collection[str] = (),
    merges: list[tuple[str, str]] | None = None,
) -> tokenizers.Tokenizer:
    """Makes the form of the model alone, which cuts out none of the tokens in `added`."""
    proto = bpe_of(tokenizer)
    spec = proto.normalizer_spec
    space = SPACE if spec.escape_whitespaces else " "
    own: list[str] = [piece.piece for piece in proto.pieces if piece.type == Piece.USER_DEFINED]
    own = [name for name in own if name not in added]
    fast = tokenizers.Tokenizer(
        models.BPE(
            vocab={piece.piece: i for i, piece in enumerate(proto.pieces)},
            merges=merges_of(proto.pieces) if merges is None else merges,
            unk_token=unknown(proto.pieces),
            fuse_unk=True,
            byte_fallback=proto.trainer_spec.byte_fallback,
            ignore_merges=bool(own),  # a user-defined piece is whole from the start
        )
    )
    fast.normalizer = normalizers.Sequence([*_normalizers(spec, space)])
    if own:
        longest_first = sorted(own, key=len, reverse=True)
        patterns = ("".join(rf"\x{{{ord(c):x}}}" for c in piece) for piece in longest_first)
        fast.pre_tokenizer = pre_tokenizers.Split(Regex("|".join(patterns)), "isolated")
    decoder: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if spec.add_dummy_prefix or spec.remove_extra_whitespaces:
        decoder.append(decoders.Strip(" ", SPACES if spec.remove_extra_whitespaces else 1, 0))
    fast.decoder = decoders.Sequence(decoder)
    fast.add_special_tokens([AddedToken(name, normalized=False) for name in tokenizer.controls])
    bos = proto.pieces[tokenizer.bos_id].piece
    fast.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos}:1 $B:1",
        special_tokens=[(bos, tokenizer.bos_id)],
    )
    return fast


def merges_of(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Returns every way to join two pieces into a third, in the order SentencePiece would.

    Equal scores go left to right there; a longer left part first comes to the same for runs of
    one character, such as Llama 2's runs of spaces.
    """
    scores = {piece.piece: piece.score for piece in pieces if piece.type == Piece.NORMAL}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in scores
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    return sorted(merges, key=lambda merge: (-scores["".join(merge)], -len(merge[0])))


def _normalizers(spec: Any, space: str) -> Iterator[normalizers.Normalizer]:
    if spec.precompiled_charsmap:
        yield normalizers.Precompiled(spec.precompiled_charsmap)
    if spec.remove_extra_whitespaces:
        yield normalizers.Replace(Regex(r"\A +"), "")
        yield normalizers.Replace(Regex(r" {2,}"), " ")
        yield normalizers.Replace(Regex(rf"[ {space}]+\z"), "")
    if spec.add_dummy_prefix:
        yield normalizers.Prepend(space)
    if spec.escape_whitespaces:
        yield normalizers.Replace(" ", SPACE)
