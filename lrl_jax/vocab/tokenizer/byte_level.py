"""Reads, extends and writes byte-level BPE: tokenizer.json of Llama 3, Qwen, Tekken and GPT-2.

Text is cut into words by a pattern, and a word is bytes, each written as one character (a space is
`Ġ`). The first join of the merge list applies first, so joins appended to the list act only where
the base has nothing left to join.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
import functools
import itertools
import json
from typing import Any

from etils import epath
import tokenizers

from lrl_jax import storage
from lrl_jax.vocab.tokenizer import declared, inspection, own_form, ranks
from lrl_jax.vocab.tokenizer.auto import AutoCodec, FastCodec
from lrl_jax.vocab.tokenizer.inspection import added_tokens, byte_of, pairs
from lrl_jax.vocab.tokenizer.patterns import keeping_marks
from lrl_jax.vocab.tokenizer.types import (
    ADDED,
    CONFIG,
    EXTRAS,
    JSON,
    MAX_BYTES,
    MAX_VALUES,
    SPECIAL_MAP,
    Codec,
    Tokenizer,
    config_of,
    file_in,
    fingerprint,
)

FORMS: tuple[str, ...] = (JSON, CONFIG, ranks.RANKS)  # the last only where it gives the same ids
LONGEST = 256  # bytes; a longer piece is not a word of any language
SETTINGS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
BPE = ("dropout", "unk_token", "fuse_unk", "byte_fallback", "ignore_merges")


# ---------------------------------------------------------------------------- reading
def from_files(files: Mapping[str, bytes], where: str) -> Tokenizer:
    """Makes a tokenizer of `tokenizer.json`; tokenizer_config.json names its bos, eos and pad.

    A tokenizer without a bos (Qwen) gets its eos, which ends one document and so opens the next.
    A file that is not byte-level BPE, is damaged, or could do harm is a ValueError.
    """
    if JSON not in files:
        raise ValueError(f"{where}: holds no {JSON}; take it from the base model's repository")
    tree = inspection.inspect(files[JSON], file_in(where, JSON))
    names = {*inspection.named(tree, declared.config(files, where), where)}
    names |= declared.loaded_special(files, where)
    listed = declared.of_added_json(files, where)
    inspection.refuse_unlisted(tree, listed, f"{where}: {ADDED}")
    if any(token["content"] in names and not token["special"] for token in added_tokens(tree)):
        tree = _with_special(tree, names)
        files = {**files, JSON: _written(tree)}
    return _tokenizer(tree, files, where)


def _with_special(tree: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Returns the tree with tokens of these names special, as transformers makes them on loading.

    Only so is their name in a text ordinary text.
    """
    tokens = [t | {"special": t["special"] or t["content"] in names} for t in added_tokens(tree)]
    return {**tree, "added_tokens": tokens}


def _tokenizer(tree: Mapping[str, Any], files: Mapping[str, bytes], where: str) -> Tokenizer:
    names = inspection.named(tree, declared.config(files, where), where)
    try:
        codec = FastCodec(tokenizers.Tokenizer.from_str(json.dumps(tree)))
    except Exception as e:  # the library raises plain Exception for a file it cannot read
        raise ValueError(f"{where}: the tokenizers library refuses it: {e}") from None
    ids = _ids(tree)
    moved = [name for name, i in ids.items() if codec.fast.token_to_id(name) != i]
    if moved:  # it numbers added tokens anew, after as many ids as the vocab has pieces
        got = codec.fast.token_to_id(moved[0])
        raise ValueError(
            f"{where}: the tokenizers library reads {moved[0]!r} as id {got}, the file says "
            f"{ids[moved[0]]}; put its added tokens into the vocab of its model as well"
        )
    bos, eos, pad = (ids[name] for name in names)
    return Tokenizer(
        family="byte_level",
        bos_id=bos,
        eos_id=eos,
        pad_id=pad,
        size=max(ids.values()) + 1,
        fingerprint=fingerprint(files[JSON], "\0".join(names).encode()),
        controls={token["content"]: token["id"] for token in added_tokens(tree)},
        files={name: files[name] for name in (JSON, *EXTRAS) if name in files},
        codec=codec,
    )


def _ids(tree: Mapping[str, Any]) -> dict[str, int]:
    return tree["model"]["vocab"] | {t["content"]: t["id"] for t in added_tokens(tree)}


def tree_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns the content of tokenizer.json, which callers share and must not change."""
    return _parsed(tokenizer.files[JSON])


_parsed = functools.lru_cache(maxsize=4)(json.loads)


def _fast(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    assert isinstance(tokenizer.codec, FastCodec)
    return tokenizer.codec.fast


# ---------------------------------------------------------------------------- words and pieces
def words(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """Counts words, in the byte alphabet, as the normaliser and the pre-tokenizer make them."""
    cut, normalise = _fast(tokenizer).pre_tokenizer, normal(tokenizer)
    return Counter(word for text in texts for word, _ in cut.pre_tokenize_str(normalise(text)))


def spell(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """Returns ids of words and pieces as they stand in a sentence; some are half a character."""
    bare = tokenizers.Tokenizer(_fast(tokenizer).model)
    return [row.ids for row in bare.encode_batch_fast(list(words), add_special_tokens=False)]


def segments(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[str]]:
    """Returns the pieces that spell each word; every byte has a piece."""
    names = pieces(tokenizer)
    return [[names[i] for i in ids] for ids in spell(tokenizer, words)]


def pieces(tokenizer: Tokenizer) -> list[str]:
    """Returns every piece, by id; '' where an id has none."""
    names = [""] * tokenizer.size
    for piece, i in _ids(tree_of(tokenizer)).items():
        names[i] = piece
    return names


def surface(piece: str) -> bytes:
    """Returns the bytes a piece stands for, or the text of an added token in other letters.

    >>> surface("Ġthe"), surface("<▁end>").decode()
    (b' the', '<▁end>')
    """
    if byte_of().keys() >= set(piece):
        return bytes(byte_of()[c] for c in piece)
    return piece.encode()


def written(surface: bytes) -> str:
    """Writes bytes in the alphabet of pieces and words.

    >>> written(" né".encode())
    'ĠnÃ©'
    """
    return "".join(inspection.alphabet()[byte] for byte in surface)


def normal(tokenizer: Tokenizer) -> Callable[[str], str]:
    """Returns a function from a text to what decoding gives: the text, or (Qwen) its NFC form."""
    normaliser = _fast(tokenizer).normalizer
    return normaliser.normalize_str if normaliser is not None else lambda text: text


# ---------------------------------------------------------------------------- changing
def mark_aware(tokenizer: Tokenizer) -> Tokenizer:
    r"""Returns the tokenizer with a pre-tokenizer that leaves combining marks with their letters.

    Ids and merges stay, and so do the ids of text without marks. It is the same object where
    nothing cuts at marks: the pattern has `\p{M}` already (Tekken), or knows no letters.
    """
    if tokenizer.family != "byte_level":
        raise ValueError(
            "a SentencePiece tokenizer cuts text at spaces, never at marks; leave its "
            "pre-tokenizer as it is (pretokenizer: keep)"
        )
    new = keeping_marks(tree_of(tokenizer))
    if new == tree_of(tokenizer):
        return tokenizer
    return from_files({**tokenizer.files, JSON: _written(new)}, "mark-aware tokenizer")


def extend(tokenizer: Tokenizer, pieces: Sequence[str]) -> Tokenizer:
    """Appends `pieces` after all ids, and their joins below every base merge, in their order.

    A piece is joined from any two pieces its bytes are made of, as in tiktoken. Added tokens keep
    their ids by standing in the vocabulary too: the library numbers them after it otherwise.
    """
    tree = tree_of(tokenizer)
    model, first = tree["model"], tokenizer.size
    old = _ids(tree)
    fresh = [piece for piece in dict.fromkeys(pieces) if piece not in old]
    id_of = ranks.mergeable(tree) | {piece: first + n for n, piece in enumerate(fresh)}
    joins: list[tuple[str, str]] = []
    for piece in fresh:
        if not 0 < len(piece) <= LONGEST or not byte_of().keys() >= set(piece):
            raise ValueError(
                f"{piece!r} cannot be a piece: want 1 to {LONGEST} bytes as byte-level tokenizers "
                "write them, a space as Ġ"
            )
        splits = ranks.splits(piece, id_of)
        if not splits and not model.get("ignore_merges"):
            raise ValueError(
                f"{piece!r} ({surface(piece).decode(errors='replace')!r}) cannot be joined from "
                "two pieces of the vocabulary; add the parts it is made of before it"
            )
        joins += splits
    _stay_text(tokenizer)
    spaced = any(isinstance(merge, str) for merge in model["merges"][:1])
    new = {
        **tree,
        "model": {
            **model,
            "vocab": old | {piece: id_of[piece] for piece in fresh},
            "merges": model["merges"] + [" ".join(j) if spaced else list(j) for j in joins],
        },
    }
    return _tokenizer(new, {**tokenizer.files, JSON: _written(new)}, "extended tokenizer")


def _written(tree: Mapping[str, Any]) -> bytes:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()


def _stay_text(tokenizer: Tokenizer) -> None:
    """Refuses a special token that text would become once it stands in the vocabulary."""
    model = tree_of(tokenizer)["model"]
    if not model.get("ignore_merges"):
        return
    names = [t["content"] for t in added_tokens(tree_of(tokenizer))]
    whole = [n for n in names if n not in model["vocab"] and [*words(tokenizer, [n])] == [n]]
    if whole:
        raise ValueError(
            f"the base tokenizer takes words whole (ignore_merges) and would read {whole[0]!r} in "
            "text as the control token of that name; rename that token in tokenizer.json"
        )


def altered(base: Tokenizer, new: Tokenizer) -> list[str]:
    """Returns base pieces and joins that are something else in `new`, and settings, in brackets."""
    old, now = pieces(base), pieces(new)
    changed = [p for i, p in enumerate(old) if p and now[i : i + 1] != [p]]
    base_tree, new_tree = (tree_of(side) | tree_of(side)["model"] for side in (base, new))
    kinds = added_tokens(new_tree)
    changed += [token["content"] for token in added_tokens(base_tree) if token not in kinds]
    old_joins = pairs(base_tree)
    joins = itertools.zip_longest(old_joins, pairs(new_tree)[: len(old_joins)])
    changed += ["".join(want) for want, got in joins if want != got]
    changed += [f"({key})" for key in (*SETTINGS, *BPE) if base_tree.get(key) != new_tree.get(key)]
    ends = ("bos_id", "eos_id", "pad_id")
    return changed + [f"({key})" for key in ends if getattr(base, key) != getattr(new, key)]


# ---------------------------------------------------------------------------- writing
def write(tokenizer: Tokenizer, folder: epath.PathLike) -> None:
    """Writes tokenizer.json, tokenizer_config.json and, where it is equal, tokenizer.tiktoken.

    tokenizer_config.json is the base's, but names PreTrainedTokenizerFast: the classes of single
    models (Qwen2Tokenizer) bring their own pre-tokenizer instead of reading the one in the file.
    Beside a config.json of model_type qwen2, transformers 5 takes that class all the same.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(_written_config(tokenizer), indent=2, ensure_ascii=False) + "\n"
    files = {**tokenizer.files, CONFIG: config.encode()}
    if SPECIAL_MAP in files:
        settings = declared.config(tokenizer.files, "tokenizer") or {}
        files[SPECIAL_MAP] = declared.special_map(files[SPECIAL_MAP], settings)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    lines = ranks.lines(tree_of(tokenizer))
    if lines is not None:
        (folder / ranks.RANKS).write_bytes(lines)
    else:
        (folder / ranks.RANKS).unlink(missing_ok=True)


def forms(folder: epath.PathLike) -> dict[str, Codec]:
    """Returns codecs of tokenizer.json, as transformers reads it, and of tokenizer.tiktoken."""
    folder = epath.Path(folder)
    codecs: dict[str, Codec] = {JSON: AutoCodec(folder)}
    if (folder / ranks.RANKS).exists():
        tree = storage.read_json(folder / JSON, MAX_BYTES, MAX_VALUES)
        codecs[ranks.RANKS] = ranks.TiktokenCodec((folder / ranks.RANKS).read_bytes(), tree)
    return codecs


def reading(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """Returns the tokenizer that reads control tokens in text as such, as transformers does."""
    tree = tree_of(tokenizer)
    config = declared.config(tokenizer.files, "tokenizer") or {}
    if any(key in config for key in ("add_bos_token", "add_eos_token")):
        names = pieces(tokenizer)
        ends = ((names[i], i) for i in (tokenizer.bos_id, tokenizer.eos_id))
        tree = tree | {"post_processor": own_form.ends(config, *ends)}
    return own_form.loaded(_written(tree), "tokenizer")


def _written_config(tokenizer: Tokenizer) -> dict[str, Any]:
    names = pieces(tokenizer)
    guessed = {"eos_token": names[tokenizer.eos_id]}
    if tokenizer.bos_id != tokenizer.eos_id:
        guessed["bos_token"] = names[tokenizer.bos_id]
    base = config_of(tokenizer.files) if CONFIG in tokenizer.files else guessed
    kept = {key: value for key, value in base.items() if key != "auto_map"}  # code of others
    for key, value in kept.items():
        if key.endswith("_token") and isinstance(value, dict):
            kept[key] = value.get("content")  # the flags stand in tokenizer.json
    return kept | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
