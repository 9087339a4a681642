"""Takes the pieces of another tokenizer as candidates for a base, and names a tokenizer's flaws.

A donor's own ranks mean nothing to the base: its pieces keep their order, and get ranks below it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import re
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.vocab import scripts as writing
from lrl_jax.vocab.pieces.learn import joins_digits
from lrl_jax.vocab.tokenizer import byte_level, piece_model, sentencepieces
from lrl_jax.vocab.tokenizer.inspection import leaves
from lrl_jax.vocab.tokenizer.load import family, read
from lrl_jax.vocab.tokenizer.sentencepieces import LONGEST, SPACE
from lrl_jax.vocab.tokenizer.types import (
    JSON,
    MAX_VALUES,
    MODEL,
    Tokenizer,
    TokenizerFamily,
    is_sentencepiece,
    not_a_tokenizer,
)

SHOWN = 3  # pieces shown of each flaw
HALF = "are parts of characters"
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # but for tabs and line ends
BYTE_NAME = re.compile(r"<0x[0-9A-Fa-f]{2}>")  # how SentencePiece names a byte
WRITES_SPACES = ("Prepend", "Replace")  # normalisers of a tokenizer.json that change nothing else
WORD_MARKS = ("end_of_word_suffix", "continuing_subword_prefix")
REFUSED = {
    "WordPiece": "cuts words by the longest match from a fixed list, and marks what goes on a word "
    "(##) instead of the space before it; its pieces are not joined from parts",
    "WordLevel": "knows whole words only; its pieces are not joined from parts",
}


@dataclasses.dataclass(frozen=True)
class Donated:
    """Holds what a donor gives a base.

    Attributes:
      pieces: as the base writes them, in the donor's order.
      left_out: why pieces were left out -> how many.
      normalisers: what the donor and the base do to text before they cut it, '' for nothing.
    """

    pieces: list[str]
    left_out: dict[str, int]
    normalisers: tuple[str, str]

    @property
    def summary(self) -> str:
        """Returns one line for a user."""
        reasons = [f"{n:,} {why}" for why, n in self.left_out.items()]
        said = f"donor: {len(self.pieces):,} pieces; left out: {', '.join(reasons) or 'none'}"
        theirs, ours = (name or "nothing" for name in self.normalisers)
        if theirs == ours:
            return said
        return (
            f"{said}. It was learnt on text normalised by {theirs}, the base normalises by {ours}: "
            "what only one of them rewrites has no pieces"
        )


def pieces(donor: epath.PathLike, base: Tokenizer, scripts: Sequence[str]) -> Donated:
    """Returns the pieces of `donor` that `base` lacks and could take.

    For a byte-level base every piece follows two it can be joined from; halves of characters come
    along where they are needed for that. For a SentencePiece base the donor's order is kept.

    Args:
      donor: a SentencePiece unigram or BPE model, a tokenizer.json, or a folder with one; another
        file, or a tokenizer whose pieces cannot be joined, is a ValueError.
      scripts: ISO 15924 codes; only pieces written in these scripts are taken.
    """
    given, given_family, normaliser = _read(read(donor), str(donor))
    tokenizer_family = family(base)
    normal, base_pieces = tokenizer_family.normal(base), set(tokenizer_family.pieces(base))
    apart = base.family == "sentencepiece" and piece_model.splits_digits(base)
    left_out: Counter[str] = Counter()
    candidates: dict[str, None] = {}
    halves: set[str] = set()
    for surface in map(given_family.surface, given):
        piece = tokenizer_family.written(surface)
        if why := _unfit(surface, tuple(scripts), normal, apart):
            left_out[why] += 1
            if why == HALF:
                halves.add(piece)
        elif piece in base_pieces:
            left_out["the base has"] += 1
        else:
            candidates[piece] = None
    if not candidates:
        raise ValueError(
            f"{donor}: gives no piece written in {', '.join(scripts)} that the base lacks "
            f"({', '.join(f'{n:,} {why}' for why, n in left_out.items())})"
        )
    ready = list(candidates)
    if base.family == "byte_level":
        ready = _joined(ready, halves, base)
    if missing := len(candidates.keys() - set(ready)):
        left_out["need steps the donor has not"] = missing
    left_out[HALF] -= len(set(ready) - candidates.keys())
    ours = _normaliser(base.files)
    return Donated(ready, {w: n for w, n in left_out.items() if n}, (normaliser, ours))


def flaws(tokenizer: Tokenizer) -> list[str]:
    """Describes the flawed pieces of a tokenizer, a line for each flaw; most tokenizers have none.

    Pieces with spaces or byte names in them are never what transformers and SentencePiece both
    emit, so they make two forms of one tokenizer disagree.
    """
    names, writer, _ = _read(tokenizer.files, "tokenizer")
    surfaces = {piece: writer.surface(piece) for piece in names}
    text = {piece: surface.decode(errors="ignore") for piece, surface in surfaces.items()}
    count = Counter(surfaces.values())
    flawed = {
        "spell bytes by name": [p for p in surfaces if BYTE_NAME.search(text[p])],
        "stand for the same text as others": [p for p in surfaces if count[surfaces[p]] > 1],
    }
    if writer is sentencepieces:
        words = [piece for piece in surfaces if piece.strip(SPACE)]
        flawed |= {
            f"end in {SPACE}": [piece for piece in words if piece.endswith(SPACE)],
            f"have {SPACE} inside": [piece for piece in words if SPACE in piece.strip(SPACE)],
            "hold control characters": [p for p in words if len(p) > 1 and CONTROL.search(p)],
            "have characters without a piece": [p for p in words if not surfaces.keys() >= set(p)],
        }
    return [
        f"pieces that {flaw}: {len(having):,}, such as {', '.join(map(repr, having[:SHOWN]))}"
        for flaw, having in flawed.items()
        if having
    ]


# ---------------------------------------------------------------------------- reading
def _read(files: Mapping[str, bytes], where: str) -> tuple[list[str], TokenizerFamily, str]:
    """Returns the pieces of text, by id, the family that writes pieces so, and the normaliser."""
    if is_sentencepiece(files):
        proto = piece_model.parse(files[MODEL], where)
        if proto.trainer_spec.treat_whitespace_as_suffix:
            raise ValueError(f"{where}: writes spaces after words; want one with {SPACE} before")
        normal = [p.piece for p in proto.pieces if p.type == p.NORMAL]
        return normal, sentencepieces, _normaliser(files)
    try:
        tree = storage.parse_json(files[JSON], JSON, MAX_VALUES)
        kind, names = tree["model"].get("type", "BPE"), _names(tree)
        steps = json.dumps([tree.get("pre_tokenizer"), tree.get("decoder")])
        normaliser = _normaliser(files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        guess = not_a_tokenizer(files[JSON]) or f"is not a tokenizer.json ({e!r})"
        raise ValueError(f"{where}: {guess}; fetch the file again") from None
    if kind in REFUSED:
        raise ValueError(
            f"{where}: is a {kind} vocabulary, which {REFUSED[kind]}. Give a SentencePiece or a "
            "byte-level BPE tokenizer, or learn pieces from text"
        )
    if any(tree["model"].get(mark) for mark in WORD_MARKS):
        raise ValueError(f"{where}: marks where words end or go on; want one that marks spaces")
    return names, byte_level if '"ByteLevel"' in steps else sentencepieces, normaliser


def _names(tree: Mapping[str, Any]) -> list[str]:
    """Returns the pieces of a tokenizer.json, by id, without added tokens and named bytes."""
    vocab = tree["model"]["vocab"]
    added = {token["content"] for token in tree.get("added_tokens") or ()}
    unigram = tree["model"].get("type") == "Unigram"
    names = [name for name, _ in vocab] if unigram else sorted(vocab, key=vocab.__getitem__)
    return [name for name in names if name not in added and not BYTE_NAME.fullmatch(name)]


def _normaliser(files: Mapping[str, bytes]) -> str:
    """Returns the names of what normalises text before it is cut; '' for nothing."""
    if is_sentencepiece(files):
        spec = piece_model.parse(files[MODEL]).normalizer_spec
        return (spec.name or "its own table") if spec.precompiled_charsmap else ""
    names = [leaf["type"] for leaf in leaves(json.loads(files[JSON]).get("normalizer"))]
    return ", ".join(name for name in names if name not in WRITES_SPACES)


# ---------------------------------------------------------------------------- choosing
def _unfit(
    surface: bytes, scripts: tuple[str, ...], normal: Callable[[str], str], apart: bool
) -> str:
    """Returns why a piece cannot be taken; '' if it can."""
    try:
        text = surface.decode()
    except UnicodeDecodeError:
        return HALF
    if BYTE_NAME.search(text):
        return "spell bytes by name"
    if text.strip(" ") and " " in text[1:]:
        return "hold a space that is not in front"
    if not writing.written_in(text, scripts):
        return "are not in the scripts"
    if apart and joins_digits(text):
        return "join digits, which the base keeps apart"
    if len(text) > LONGEST:
        return f"are longer than {LONGEST} characters"
    if normal(text).lstrip(" ") != text.lstrip(" "):
        return "are rewritten by the base's normaliser"
    return ""


def _joined(candidates: Sequence[str], halves: set[str], base: Tokenizer) -> list[str]:
    """Returns the candidates that can be joined from pieces of the base, each after its parts."""
    given = {*candidates, *halves}
    ready: dict[str, bool] = {}

    def place(parts: tuple[str, ...]) -> bool:
        piece = "".join(parts)
        if len(parts) == 1 or piece not in given:
            return len(parts) == 1
        if piece not in ready:
            cuts = range(1, len(parts))
            # Assigned when it is known, so that a piece stands after its parts.
            ready[piece] = any(place(parts[:cut]) and place(parts[cut:]) for cut in cuts)
        return ready[piece]

    for parts in family(base).segments(base, candidates):
        place(tuple(parts))
    return [piece for piece, done in ready.items() if done]
