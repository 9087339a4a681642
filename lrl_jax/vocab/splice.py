"""Adds pieces of a new language to a SentencePiece BPE model without moving the old ones.

    new = prune(base, pieces, lines, min_count=2)
    model, plan = splice(base, new)
    write_forms(model, "runs/korean/vocab", base_config={})

SentencePiece merges the best scored pair first, so pieces scored below every base piece act only
where the base has nothing left to merge: text of the base language keeps its ids.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
import dataclasses
import json
from typing import Any

from etils import epath
import numpy as np
import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from lrl_jax.vocab import tokenizer
from lrl_jax.vocab.tokenizer import Piece, fingerprint, parse

SPACE = "▁"
EXACT = float(1 << 24)  # float32 holds every integer up to here; scores are float32
SPACES = 1 << 30  # more spaces than a text begins with
LONGEST = 64  # a piece longer than this is not a word of any language
# What a tokenizer_config.json may carry over from the base; the rest follows from the model.
CARRIED = ("chat_template", "model_max_length", "add_bos_token", "add_eos_token", "padding_side")


@dataclasses.dataclass(frozen=True)
class Splice:
    """How a new vocabulary relates to the old one it extends.

    Attributes:
      kept: new id -> old id, for pieces both have.
      added: new id -> the old ids that spell the piece's text, as the base writes it in a sentence.
    """

    kept: dict[int, int]
    added: dict[int, tuple[int, ...]]
    base_fingerprint: str
    new_fingerprint: str

    @property
    def size(self) -> int:
        return len(self.kept) + len(self.added)

    def write(self, path: epath.PathLike) -> None:
        """Writes JSON; kept ids as runs [new, old, length], for they are mostly one run."""
        tree = {
            "base_fingerprint": self.base_fingerprint,
            "new_fingerprint": self.new_fingerprint,
            "kept": _runs(self.kept),
            "added": [[new, *old] for new, old in self.added.items()],
        }
        epath.Path(path).write_text(json.dumps(tree) + "\n")


def read(path: epath.PathLike) -> Splice:
    """Reads what `Splice.write` wrote.

    Raises:
      ValueError: no such file, or not a splice.
    """
    try:
        tree = json.loads(epath.Path(path).read_text())
        return Splice(
            kept={new + i: old + i for new, old, length in tree["kept"] for i in range(length)},
            added={new: tuple(old) for new, *old in tree["added"]},
            base_fingerprint=tree["base_fingerprint"],
            new_fingerprint=tree["new_fingerprint"],
        )
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; `lrl vocab` writes it") from None
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(
            f"{path}: is not a splice ({e!r}); delete it and run `lrl vocab`"
        ) from None


def identity(model: bytes) -> Splice:
    """The splice that adds nothing: a base tokenizer used as it is."""
    same = fingerprint(model)
    return Splice({i: i for i in range(len(parse(model).pieces))}, {}, same, same)


def splice(base: bytes, pieces: Sequence[str]) -> tuple[bytes, Splice]:
    """Appends `pieces` to the base model, scored below its last ranked piece, in their order.

    Pieces the base has, and repeated ones, are left out: `len(pieces) - len(splice.added)` of them.

    Args:
      base: the bytes of a SentencePiece BPE `.model` file.
      pieces: best first, a space written as `▁`.

    Returns:
      The bytes of the new model, and how its ids relate to the base's.

    Raises:
      ValueError: a base that is not BPE, or a piece that no text can contain.
    """
    proto = _bpe(base)
    known = {piece.piece for piece in proto.pieces}
    size = len(known)
    lowest = _last_ranked(proto.pieces)
    fresh = [piece for piece in dict.fromkeys(pieces) if piece not in known]
    for rank, piece in enumerate(fresh, start=1):
        _check(piece)
        proto.pieces.add(piece=piece, score=lowest - rank, type=Piece.NORMAL)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    model = proto.SerializeToString(deterministic=True)
    spelled = without_prefix(base).encode([_surface(piece) for piece in fresh])
    return model, Splice(
        kept={i: i for i in range(size)},
        added={size + i: tuple(ids) for i, ids in enumerate(spelled)},
        base_fingerprint=fingerprint(base),
        new_fingerprint=fingerprint(model),
    )


def prune(
    base: bytes,
    pieces: Sequence[str],
    texts: Iterable[str],
    min_count: int,
    spare: Iterable[str] = (),
) -> list[str]:
    """Leaves out, until nothing changes, pieces that would not earn their row.

    Dropped: pieces the base has; pieces whose own text the spliced model splits; pieces it emits
    fewer than `min_count` times on `texts`, unless a kept piece is merged from them; pieces it
    emits on `spare`.

    Args:
      texts: text of the new language, one text a line.
      spare: text of the base language that must keep its ids (needed when scripts are shared).

    Returns:
      What is left, in the given order.
    """
    proto = _bpe(base)
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == Piece.NORMAL}
    known = {piece.piece for piece in proto.pieces}
    left = [piece for piece in dict.fromkeys(pieces) if piece not in known]
    words, spared = _words(texts), _words(spare)
    paths: dict[str, frozenset[str] | None] = {}
    gone: set[str] = set()
    while True:
        model, _ = splice(base, left)
        ranks = {piece: -float(rank) for rank, piece in enumerate(left)}
        for piece in left:
            if piece not in paths or (paths[piece] or gone) & gone:
                paths[piece] = _path(piece, scores, ranks)
        needed = {part for piece in left for part in paths[piece] or ()}
        count = dict(zip(left, _emitted(model, words)[len(known) :], strict=True))
        theirs = dict(zip(left, _emitted(model, spared)[len(known) :], strict=True))
        gone = {piece for piece in left if paths[piece] is None or theirs[piece]}
        if not gone:  # rarity is judged once nothing else will move
            gone = {p for p in left if count[p] < min_count and p not in needed}
        if not gone:
            return left
        left = [piece for piece in left if piece not in gone]


def write_forms(model: bytes, folder: epath.PathLike, base_config: dict[str, Any]) -> None:
    """Writes tokenizer.model, tokenizer.json and tokenizer_config.json: one tokenizer, two forms.

    `transformers.AutoTokenizer.from_pretrained(folder)` loads the JSON form and gives the ids of
    the model form, bos first. As with every Llama tokenizer there, a literal `</s>` in text is
    read as the control id, and the text after it starts afresh, unless the caller passes
    `split_special_tokens=True`; the model form always reads it as text.

    Args:
      base_config: the base's tokenizer_config.json, {} when it has none; its chat template,
        length and bos settings are carried over.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fast = fast_form(model)
    (folder / tokenizer.MODEL_FILE).write_bytes(model)
    (folder / "tokenizer.json").write_text(fast.to_str(pretty=False))
    config = json.dumps(_config(model, base_config), indent=2, ensure_ascii=False, sort_keys=True)
    (folder / "tokenizer_config.json").write_text(config + "\n")


def fast_form(model: bytes) -> tokenizers.Tokenizer:
    """The same tokenizer for the `tokenizers` library, which merges by rank instead of score."""
    proto = _bpe(model)
    spec = proto.normalizer_spec
    space = SPACE if spec.escape_whitespaces else " "
    own: list[str] = [piece.piece for piece in proto.pieces if piece.type == Piece.USER_DEFINED]
    fast = tokenizers.Tokenizer(
        models.BPE(
            vocab={piece.piece: i for i, piece in enumerate(proto.pieces)},
            merges=_merges(proto.pieces),
            unk_token=_unknown(proto.pieces),
            fuse_unk=True,
            byte_fallback=proto.trainer_spec.byte_fallback,
            ignore_merges=bool(own),  # a user-defined piece is whole from the start
        )
    )
    fast.normalizer = normalizers.Sequence(_normalizers(spec, space))
    if own:
        longest_first = "|".join(_escape(piece) for piece in sorted(own, key=len, reverse=True))
        fast.pre_tokenizer = pre_tokenizers.Split(Regex(longest_first), "isolated")
    decoder: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if spec.add_dummy_prefix or spec.remove_extra_whitespaces:
        decoder.append(decoders.Strip(" ", SPACES if spec.remove_extra_whitespaces else 1, 0))
    fast.decoder = decoders.Sequence(decoder)
    special = [p.piece for p in proto.pieces if p.type in (Piece.CONTROL, Piece.UNKNOWN)]
    fast.add_special_tokens([AddedToken(piece, normalized=False) for piece in special])
    known = tokenizer.from_bytes(model)
    bos = known.processor.id_to_piece(known.bos_id)
    fast.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos}:1 $B:1",
        special_tokens=[(bos, known.bos_id)],
    )
    return fast


def without_prefix(model: bytes) -> sentencepiece.SentencePieceProcessor:
    """The model without the space it puts before every text, to spell what stands inside one."""
    proto = parse(model)
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


# ---------------------------------------------------------------------------- splicing
def _bpe(model: bytes) -> Any:
    proto = parse(model)
    spec = proto.trainer_spec
    if spec.model_type != spec.BPE:
        kind = spec.ModelType.Name(spec.model_type).lower()
        raise ValueError(f"the base tokenizer is a SentencePiece {kind} model; want a BPE model")
    if spec.treat_whitespace_as_suffix:
        raise ValueError("the base tokenizer writes spaces after words; want one with ▁ before")
    return proto


def _last_ranked(pieces: Iterable[Piece]) -> float:
    """The lowest score that ranks a merge.

    Runs of spaces are passed over: Llama 2 gives all of them -1e9, below any rank, where float32
    could not tell one new score from the next.
    """
    scores = [p.score for p in pieces if p.type == Piece.NORMAL and p.piece.strip(SPACE)]
    lowest = min(scores, default=0.0)
    if lowest < LONGEST - EXACT:
        raise ValueError(
            f"the base tokenizer scores a piece {lowest:g}; below {-EXACT:.0f} float32 cannot "
            "rank new pieces. Give its merges the scores 0, -1, -2, ..."
        )
    return lowest


def _check(piece: str) -> None:
    if not piece or " " in piece or len(piece) > LONGEST:
        raise ValueError(
            f"{piece!r} cannot be a piece: want 1 to {LONGEST} characters, a space written as ▁"
        )


def _surface(piece: str) -> str:
    return piece.replace(SPACE, " ")


def _runs(kept: dict[int, int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for new, old in sorted(kept.items()):
        if runs and new == runs[-1][0] + runs[-1][2] and old == runs[-1][1] + runs[-1][2]:
            runs[-1][2] += 1
        else:
            runs.append([new, old, 1])
    return runs


# ---------------------------------------------------------------------------- pruning
def _words(texts: Iterable[str]) -> Counter[str]:
    """Words with the space before them: no merge reaches over a space."""
    return Counter(" " + word for text in texts for word in text.split(" ") if word)


def _emitted(model: bytes, words: Counter[str]) -> np.ndarray:
    """How often each id of `model` comes out on `words`."""
    size = len(parse(model).pieces)
    ids = without_prefix(model).encode(list(words))
    if not ids:
        return np.zeros(size, np.int64)
    weight = np.repeat(list(words.values()), [len(word) for word in ids])
    return np.bincount(np.concatenate(ids).astype(np.int64), weight, size).astype(np.int64)


def _path(piece: str, base: dict[str, float], new: dict[str, float]) -> frozenset[str] | None:
    """The new pieces `piece` is merged from; None when the merges do not end in `piece`.

    A character without a piece of its own is None too: SentencePiece would merge it all the same,
    but the JSON form spells it in bytes first.

    >>> letters = dict.fromkeys("abcd", -9)
    >>> sorted(_path("abcd", letters, {"ab": -1, "cd": -2, "abcd": -3}))
    ['ab', 'cd']
    >>> _path("abcd", letters | {"bc": 0}, {"ab": -1, "cd": -2, "abcd": -3})
    """
    parts = list(piece)
    if any(c not in base and c not in new for c in parts):
        return None
    met = {c for c in parts if c in new}
    while len(parts) > 1:
        best = max(range(len(parts) - 1), key=lambda i: _score(parts[i] + parts[i + 1], base, new))
        joined = parts[best] + parts[best + 1]
        if joined not in base and joined not in new:
            return None
        parts[best : best + 2] = [joined]
        if joined in new:
            met.add(joined)
    return frozenset(met - {piece})


def _score(piece: str, base: dict[str, float], new: dict[str, float]) -> tuple[int, float]:
    if piece in base:
        return 2, base[piece]
    return (1, new[piece]) if piece in new else (0, 0.0)


# ---------------------------------------------------------------------------- the JSON form
def _merges(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third, in the order SentencePiece would.

    Equal scores go left to right there; a longer left part first comes to the same for runs of
    one character, such as Llama 2's runs of spaces.
    """
    scores = {piece.piece: piece.score for piece in pieces if piece.type == Piece.NORMAL}
    found = [
        (-score, -cut, piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    found.sort(key=lambda merge: merge[:2])
    return [(left, right) for _, _, left, right in found]


def _normalizers(spec: Any, space: str) -> list[normalizers.Normalizer]:
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [
            normalizers.Replace(Regex(r"\A +"), ""),
            normalizers.Replace(Regex(r" {2,}"), " "),
            normalizers.Replace(Regex(rf"[ {space}]+\z"), ""),
        ]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(space))
    if spec.escape_whitespaces:
        steps.append(normalizers.Replace(" ", SPACE))
    return steps


def _escape(piece: str) -> str:
    return "".join(rf"\x{{{ord(c):x}}}" for c in piece)


def _unknown(pieces: Iterable[Piece]) -> str:
    return next((p.piece for p in pieces if p.type == Piece.UNKNOWN), "<unk>")


def _config(model: bytes, base_config: dict[str, Any]) -> dict[str, Any]:
    known = tokenizer.from_bytes(model)
    name = known.processor.id_to_piece
    config = {key: base_config[key] for key in CARRIED if key in base_config}
    config.setdefault("add_bos_token", True)
    config.setdefault("add_eos_token", False)
    config |= {
        "tokenizer_class": "PreTrainedTokenizerFast",  # reads tokenizer.json and adds nothing
        "bos_token": name(known.bos_id),
        "eos_token": name(known.eos_id),
        "unk_token": name(known.processor.unk_id()),
        "clean_up_tokenization_spaces": False,
    }
    if known.processor.pad_id() >= 0:
        config["pad_token"] = name(known.pad_id)
    return config
