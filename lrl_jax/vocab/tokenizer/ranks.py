"""Reads and writes the tiktoken form: on each line, a piece's bytes in base64 and its rank.

tiktoken joins two parts when their bytes together are a piece, the lowest rank first, where
tokenizer.json lists the joins. Both come to the same only for some tokenizers; `lines` knows which.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
import itertools
from typing import Any

import tokenizers

from lrl_jax.vocab.tokenizer.inspection import UNUSED, added_tokens, alphabet, byte_of, pairs
from lrl_jax.vocab.tokenizer.patterns import PATTERNS, well_known

RANKS = "tokenizer.tiktoken"
NORMALISERS = {None: lambda text: text, "NFC": tokenizers.normalizers.NFC().normalize_str}


class TiktokenCodec:
    """Encodes text by tiktoken; control tokens in text are read as text.

    `tree`, the content of tokenizer.json, has what `ranks`, that of tokenizer.tiktoken, leaves
    open: how text is normalised and cut, and tokens that stand whole in text.
    """

    def __init__(self, ranks: bytes, tree: Mapping[str, Any]):
        import tiktoken

        rank_of = dict(_read(ranks))
        missing = [b for b in alphabet() if b not in UNUSED and bytes([b]) not in rank_of]
        if missing:  # the library would panic at a text with such a byte
            raise ValueError(
                f"{RANKS}: has no piece for {len(missing)} bytes, such as 0x{missing[0]:02X}; run "
                "`lrl vocab` again"
            )
        self._ids = {_written(piece): rank for piece, rank in rank_of.items()}
        self._ids |= {t["content"]: t["id"] for t in added_tokens(tree)}
        self._whole = {t["content"]: t["id"] for t in added_tokens(tree) if not t["special"]}
        self._text = {*rank_of.values(), *self._whole.values()}
        self._normalise = NORMALISERS[_kind(tree.get("normalizer"))]
        self._encoding = tiktoken.Encoding(
            RANKS, pat_str=_pattern(tree) or "", mergeable_ranks=rank_of, special_tokens=self._whole
        )

    def ids(self) -> dict[str, int]:
        """Returns the id of every piece, as tokenizer.json writes it, and of added tokens."""
        return self._ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        texts, whole = [self._normalise(text) for text in texts], set(self._whole)
        return self._encoding.encode_batch(texts, allowed_special=whole, disallowed_special=())

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return self._encoding.decode_batch([[i for i in row if i in self._text] for row in rows])


def lines(tree: Mapping[str, Any]) -> bytes | None:
    """Returns an inspected tokenizer.json as ranks; None where tiktoken would give other ids.

    It does when the joins stand in the order of the ids they give, and every piece is what its
    own bytes come to, or is taken whole (`ignore_merges`) with all its splits among the joins:
    whatever two parts tiktoken then joins first, the listed joins do so too.
    """
    vocab = mergeable(tree)
    joins = pairs(tree["model"])
    ids = [vocab.get(left + right, -1) for left, right in joins]
    sorted_ = all(a <= b for a, b in itertools.pairwise(ids)) and -1 not in ids
    if not (sorted_ and _pattern(tree) and _plain(tree) and _complete(tree, vocab, joins)):
        return None
    ranked = sorted(vocab.items(), key=lambda item: item[1])
    coded = ((base64.b64encode(bytes(byte_of()[c] for c in piece)), i) for piece, i in ranked)
    return b"".join(b"%s %d\n" % line for line in coded)


def mergeable(tree: Mapping[str, Any]) -> dict[str, int]:
    """Returns the pieces text is made of: the vocabulary without added tokens."""
    added = {token["content"] for token in added_tokens(tree)}
    return {piece: i for piece, i in tree["model"]["vocab"].items() if piece not in added}


def splits(piece: str, pieces: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns every way to join a piece from two pieces of the vocabulary.

    Where two splits overlap in a text, tiktoken takes the left one. The order here does so too: a
    split whose right part opens the piece again stands first, then longer left parts.

    >>> splits("ababa", {"ab": 0, "aba": 1, "ba": 2})
    [('ab', 'aba'), ('aba', 'ba')]
    """
    cuts = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
    pairs = [(left, right) for left, right in cuts if left in pieces and right in pieces]
    return sorted(pairs, key=lambda cut: (not piece.startswith(cut[1]), -len(cut[0])))


def _written(piece: bytes) -> str:
    return "".join(alphabet()[byte] for byte in piece)


def _read(ranks: bytes) -> Iterator[tuple[bytes, int]]:
    for line in ranks.splitlines():
        try:
            piece, rank = line.split()
            yield base64.b64decode(piece, validate=True), int(rank)
        except ValueError:
            raise ValueError(
                f"{RANKS}: {line!r:.80} is no piece in base64 with its rank; run `lrl vocab` again"
            ) from None


def _pattern(tree: Mapping[str, Any]) -> str | None:
    """Returns the one pattern that cuts text, if both libraries are known to read it alike."""
    node = tree["pre_tokenizer"]
    parts = node["pretokenizers"] if node["type"] == "Sequence" else [node]
    kinds, built_in = [step["type"] for step in parts], parts[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and built_in:
        return PATTERNS["gpt2"]
    if kinds != ["Split", "ByteLevel"] or built_in:
        return None
    pattern = parts[0]["pattern"].get("Regex")
    how = (str(parts[0]["behavior"]).lower(), parts[0].get("invert", False))
    whole = how in (("isolated", False), ("removed", True))  # the patterns match all of any text
    return pattern if whole and pattern in well_known() else None


def _plain(tree: Mapping[str, Any]) -> bool:
    """Tells whether tokens that stay whole do so in any text, and the normaliser is known."""
    whole = [t for t in added_tokens(tree) if not t["special"]]
    names = [token["content"] for token in whole]
    conditions = ("single_word", "lstrip", "rstrip", "normalized")
    alone = not any(token.get(key) for token in whole for key in conditions)
    nested = any(b.startswith(a) for a, b in itertools.permutations(names, 2))
    return alone and not nested and _kind(tree.get("normalizer")) in NORMALISERS


def _complete(
    tree: Mapping[str, Any], vocab: Mapping[str, int], joins: Sequence[tuple[str, str]]
) -> bool:
    model = tokenizers.models.BPE(dict(tree["model"]["vocab"]), list(joins))
    names = list(vocab)
    rows = tokenizers.Tokenizer(model).encode_batch_fast(names, add_special_tokens=False)
    split = [piece for piece, row in zip(names, rows, strict=True) if row.ids != [vocab[piece]]]
    if not tree["model"].get("ignore_merges"):
        return not split
    listed = set(joins)
    return all(cut in listed for piece in split for cut in splits(piece, vocab))


def _kind(node: Mapping[str, Any] | None) -> str | None:
    return node["type"] if node else None
