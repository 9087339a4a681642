"""Reads, extends and writes SentencePiece BPE: Llama 1 and 2, Mistral v1, `learn.train`.

SentencePiece joins the best scored pair first, so pieces scored below every base piece act only
where the base has nothing left to join. The `tokenizers` library joins by rank instead: `fast_form`
is the same tokenizer for it, and `prove` compares the two.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import json
from typing import Any

from etils import epath
import sentencepiece
import tokenizers

from lrl_jax import storage
from lrl_jax.vocab.tokenizer import declared, from_json, inspection, own_form
from lrl_jax.vocab.tokenizer.auto import AutoCodec, FastCodec
from lrl_jax.vocab.tokenizer.codecs import SPACE, SentencePieceCodec, WordCodec, apart
from lrl_jax.vocab.tokenizer.model_form import form_of, merges_of
from lrl_jax.vocab.tokenizer.piece_model import (
    CONTROLS,
    Piece,
    bpe_of,
    normal_of,
    parse,
    proto_of,
    unknown,
)
from lrl_jax.vocab.tokenizer.types import (
    ADDED,
    CONFIG,
    EXTRAS,
    JSON,
    MAX_VALUES,
    MODEL,
    SPECIAL_MAP,
    Codec,
    Tokenizer,
    called,
    config_of,
    file_in,
    fingerprint,
    not_a_tokenizer,
)

FORMS: tuple[str, ...] = (MODEL, JSON, CONFIG)
EXACT = float(1 << 24)  # float32 holds every integer up to here; scores are float32
LONGEST = 64  # a piece longer than this is not a word of any language
# What a tokenizer_config.json may carry over from the base; the rest follows from the model.
CARRIED = (
    "chat_template", "model_max_length", "model_input_names", "add_bos_token", "add_eos_token",
    "padding_side", "truncation_side", "split_special_tokens",
)  # fmt: skip


# ---------------------------------------------------------------------------- reading
def from_files(files: Mapping[str, bytes], where: str) -> Tokenizer:
    """Makes a tokenizer of `tokenizer.model`; tokens only in other files become its pieces.

    Where the base's tokenizer.json, or what its config says of bos and added tokens, reads text
    otherwise than the model alone, that is kept, and its ids are the tokenizer's.

    A model that is damaged, lacks bos or eos, or disagrees with its tokenizer.json is a ValueError.
    """
    config = declared.config(files, where) or {}
    json_only = MODEL not in files
    if json_only:
        files = {**files, MODEL: from_json.model(files, config, where)}
    model, tokens = _with_declared(files, config, where)
    proto = parse(model, file_in(where, MODEL))
    try:
        codec = WordCodec(model) if apart(proto) else SentencePieceCodec(model)
    except RuntimeError as e:
        raise ValueError(f"{where}: sentencepiece refuses it ({e}); fetch the file again") from None
    processor = codec.processor
    bos, eos, pad = processor.bos_id(), processor.eos_id(), processor.pad_id()
    if bos < 0 or eos < 0:
        raise ValueError(
            f"{where}: has no {'bos' if bos < 0 else 'eos'} piece, which Llama models need; "
            "train it with bos_id=1, eos_id=2"
        )
    tokenizer = Tokenizer(
        family="sentencepiece",
        bos_id=bos,
        eos_id=eos,
        pad_id=pad if pad >= 0 else eos,
        size=len(proto.pieces),
        fingerprint=fingerprint(model),
        controls={p.piece: i for i, p in enumerate(proto.pieces) if p.type in CONTROLS},
        files={name: files[name] for name in EXTRAS if name in files} | {MODEL: model},
        codec=codec,
    )
    return _as_the_base_reads(tokenizer, files, tokens, config, where, json_only)


def _with_declared(
    files: Mapping[str, bytes], config: Mapping[str, Any], where: str
) -> tuple[bytes, dict[int, dict[str, Any]]]:
    """Returns the model with what other files say of its tokens, and the added tokens by id.

    Tokens that the model lacks (`<|im_start|>`) become its pieces, and its bos and eos are those
    that the base's config names.
    """
    model = files[MODEL]
    if not_a_tokenizer(model):
        return model, {}
    proto = parse(model, file_in(where, MODEL))
    try:
        tokens = declared.added(files, config, where)
        form = storage.parse_json(files[JSON], JSON, MAX_VALUES) if JSON in files else None
        vocab = () if form is None else form["model"]["vocab"]
        len(vocab)
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"{called(where, JSON)}: cannot be read ({e!r}); fetch it again") from None
    size = len(proto.pieces)
    names = {i: token["content"] for i, token in tokens.items()}
    wrong = [name for i, name in names.items() if i < size and proto.pieces[i].piece != name]
    beyond = sorted(i for i in tokens if i >= size)
    if wrong or beyond != [*range(size, size + len(beyond))] or len(vocab) > size + len(beyond):
        source = f"{JSON} ({len(vocab)} pieces," if JSON in files else f"{CONFIG} or {ADDED} ("
        raise ValueError(
            f"{where}: {source} tokens added {wrong or beyond}) is not the "
            f"tokenizer of {MODEL} ({size} pieces); remove the one the model was not trained with"
        )
    pad = declared.content(config.get("pad_token"))
    for i in beyond:
        kind = Piece.CONTROL if tokens[i]["special"] else Piece.USER_DEFINED
        proto.pieces.add(piece=names[i], score=0.0, type=kind)
        if names[i] == pad:
            proto.trainer_spec.pad_id, proto.trainer_spec.pad_piece = i, pad
    if beyond:
        proto.trainer_spec.vocab_size = len(proto.pieces)
    moved = [_name_end(proto, key, config, where) for key in ("bos", "eos")]
    if not beyond and not any(moved):
        return model, tokens
    return proto.SerializeToString(deterministic=True), tokens


def _name_end(proto: Any, key: str, config: Mapping[str, Any], where: str) -> bool:
    """Makes the bos or eos of a model the one that the config names; tells whether it was not."""
    name, spec = declared.content(config.get(f"{key}_token")), proto.trainer_spec
    if name is None or name == getattr(spec, f"{key}_piece"):
        return False
    ids = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    if name not in ids:
        raise ValueError(
            f"{where}: {CONFIG} or {SPECIAL_MAP} names {name!r} as its {key}_token, which is no "
            f"piece of {MODEL} and no added token; take all files from the same repository"
        )
    setattr(spec, f"{key}_piece", name)
    setattr(spec, f"{key}_id", ids[name])
    if proto.pieces[ids[name]].type in (Piece.NORMAL, Piece.USER_DEFINED):
        proto.pieces[ids[name]].type = Piece.CONTROL
    return True


def _as_the_base_reads(
    tokenizer: Tokenizer,
    files: Mapping[str, bytes],
    tokens: Mapping[int, Mapping[str, Any]],
    config: Mapping[str, Any],
    where: str,
    json_only: bool,
) -> Tokenizer:
    """Returns the tokenizer with the base's own form, where that reads text otherwise.

    A model that was made of the form alone stands for it only where it has the same merges.
    """
    proto = proto_of(tokenizer)
    if proto.trainer_spec.model_type != proto.trainer_spec.BPE:
        return tokenizer
    whole = {token["content"] for token in tokens.values() if not token["special"]}
    plain = json.loads(form_of(tokenizer, (), []).to_str())
    if JSON in files:
        tree = json.loads(files[JSON])
    elif whole or any(token[flag] for token in tokens.values() for flag in declared.STRIPS):
        # The model's normaliser marks a token's own beginning: it must be found before.
        tokens = {i: {**token, "normalized": False} for i, token in tokens.items()}
        tree = json.loads(form_of(tokenizer, whole).to_str())
        kept = {t["id"]: t for t in tree["added_tokens"] if t["content"] not in whole}
        tokens = kept | tokens
    elif config.get("add_bos_token", True) and not config.get("add_eos_token"):
        return tokenizer
    else:
        tree = json.loads(form_of(tokenizer, ()).to_str())
    names = ((proto.pieces[i].piece, i) for i in (tokenizer.bos_id, tokenizer.eos_id))
    if JSON not in files:
        tree["post_processor"] = own_form.ends({"add_bos_token": True, **config}, *names)
    elif not tree.get("post_processor"):  # beside tokenizer.json the config has no say in it
        tree["post_processor"] = own_form.ends({}, *names)
    tokens = tokens or {token["id"]: token for token in tree["added_tokens"]}
    merges = merges_of(proto.pieces)
    other = json_only and _order(inspection.pairs(tree["model"])) != _order(merges)
    if not other and own_form.same_settings({**tree, "added_tokens": [*tokens.values()]}, plain):
        return tokenizer
    own_form.refuse_harm(tree, called(where, JSON))
    scores = {piece.piece: piece.score for piece in proto.pieces}
    names = [piece.piece for piece in proto.pieces]
    form = own_form.written(own_form.completed(tree, names, tokens, merges, scores, where))
    fast = own_form.loaded(form, called(where, JSON))
    filled = tree.get("truncation") or tree.get("padding")
    if not filled and not other and own_form.reads_alike(fast, fast_form(tokenizer)):
        return tokenizer
    kept = dataclasses.replace(
        tokenizer,
        controls={**tokenizer.controls, **{t["content"]: i for i, t in tokens.items()}},
        files={**tokenizer.files, JSON: form},
    )
    if not whole and not other and all(tree.get(key) == plain.get(key) for key in own_form.OF_TEXT):
        return kept  # it differs around control tokens only, which text never has
    mark = fingerprint(tokenizer.files[MODEL], form)
    return dataclasses.replace(kept, fingerprint=mark, codec=FastCodec(fast))


def _order(merges: Iterable[tuple[str, str]]) -> list[str]:
    """Returns the pieces in the order of their first merges; `reads_alike` tries runs of spaces."""
    joined = dict.fromkeys(left + right for left, right in merges)
    return [piece for piece in joined if piece.strip(SPACE)]


# ---------------------------------------------------------------------------- words and pieces
def words(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """Counts words with the space before them: no merge reaches over a space."""
    return Counter(SPACE + word for text in texts for word in text.split(" ") if word)


def spell(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """Returns ids of words and pieces as they stand inside a sentence, without the dummy prefix."""
    inside = _without_prefix(tokenizer).SerializeToString()
    return SentencePieceCodec(inside).encode_batch([word.replace(SPACE, " ") for word in words])


def segments(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[str]]:
    """Returns the pieces that spell each word; a character without a piece stays, not as bytes."""
    proto = _without_prefix(tokenizer)
    proto.trainer_spec.byte_fallback = False
    for piece in proto.pieces:
        if piece.type == Piece.BYTE:
            piece.type = Piece.CONTROL
    base_pieces = {piece.piece for piece in proto.pieces}
    inside = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    spellings = inside.encode([word.replace(SPACE, " ") for word in words], out_type=str)
    return [
        [c for piece in parts for c in ([piece] if piece in base_pieces else piece)]
        for parts in spellings
    ]


def pieces(tokenizer: Tokenizer) -> list[str]:
    """Returns every piece, by id."""
    return [piece.piece for piece in proto_of(tokenizer).pieces]


def surface(piece: str) -> bytes:
    """Returns the text a piece stands for."""
    return piece.replace(SPACE, " ").encode()


def written(surface: bytes) -> str:
    """Writes text as pieces and words are written; what is no UTF-8 becomes U+FFFD."""
    return surface.decode(errors="replace").replace(" ", SPACE)


def normal(tokenizer: Tokenizer) -> Callable[[str], str]:
    """Returns a function from a text to what decoding should give: space marks become spaces."""
    if isinstance(tokenizer.codec, FastCodec):
        return own_form.normal(tokenizer.codec)
    return normal_of(tokenizer.files[MODEL])


def _without_prefix(tokenizer: Tokenizer) -> Any:
    proto = proto_of(tokenizer)
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    return proto


# ---------------------------------------------------------------------------- extending
def extend(tokenizer: Tokenizer, pieces: Sequence[str]) -> Tokenizer:
    """Appends `pieces` after all ids, scored below the last ranked base piece, in their order."""
    proto = bpe_of(tokenizer)
    lowest = _last_ranked(proto.pieces)
    for rank, piece in enumerate(pieces, start=1):
        if not piece or " " in piece or len(piece) > LONGEST:
            raise ValueError(
                f"{piece!r} cannot be a piece: want 1 to {LONGEST} characters, a space written as ▁"
            )
        proto.pieces.add(piece=piece, score=lowest - rank, type=Piece.NORMAL)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    model = proto.SerializeToString(deterministic=True)
    return from_files({**tokenizer.files, MODEL: model}, "extended tokenizer")


def altered(base: Tokenizer, new: Tokenizer) -> list[str]:
    """Returns base pieces whose id, kind or score changed; `(normaliser)` when that changed."""
    old, now = proto_of(base), proto_of(new)
    same = zip(old.pieces, now.pieces, strict=False)
    changed = [a.piece for a, b in same if (a.piece, a.type, a.score) != (b.piece, b.type, b.score)]
    changed += [piece.piece for piece in old.pieces[len(now.pieces) :]]
    changed += ["(normaliser)"] * (old.normalizer_spec != now.normalizer_spec)
    forms = [json.loads(side.files.get(JSON, b"{}")) for side in (base, new)]
    return changed + ["(form)"] * (not own_form.same_settings(*forms))


def _last_ranked(pieces: Iterable[Piece]) -> float:
    """Returns the lowest score that ranks a merge.

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


# ---------------------------------------------------------------------------- the JSON form
def write(tokenizer: Tokenizer, folder: epath.PathLike) -> None:
    """Writes tokenizer.model, tokenizer.json and tokenizer_config.json: one tokenizer, two forms.

    `transformers.AutoTokenizer.from_pretrained(folder)` loads the JSON form and gives the ids of
    the model form, bos first. As with every Llama tokenizer there, a literal `</s>` in text is
    read as the control id, and the text after it starts afresh, unless the caller passes
    `split_special_tokens=True`; the model form always reads it as text.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    form = tokenizer.files.get(JSON) or fast_form(tokenizer).to_str(pretty=False).encode()
    config = json.dumps(_config(tokenizer), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    files = {**tokenizer.files, JSON: form, CONFIG: config.encode()}
    if SPECIAL_MAP in files:
        settings = declared.config(tokenizer.files, "tokenizer") or {}
        files[SPECIAL_MAP] = declared.special_map(files[SPECIAL_MAP], settings)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def forms(folder: epath.PathLike) -> dict[str, Codec]:
    """Returns the codec of the JSON form, as transformers reads it, and of a model beside it."""
    folder, names = epath.Path(folder), (MODEL, JSON, *EXTRAS)
    codecs: dict[str, Codec] = {JSON: AutoCodec(folder)}
    files = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    tokenizer = from_files(files, str(folder))
    if isinstance(tokenizer.codec, FastCodec):
        codecs[MODEL] = own_form.ModelBeside(tokenizer.files[MODEL], tokenizer.codec)
    return codecs


def reading(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """Returns the tokenizer that reads control tokens in text as such, as transformers does."""
    return fast_form(tokenizer)


def fast_form(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """Converts the tokenizer for the `tokenizers` library, which merges by rank, not score."""
    if JSON in tokenizer.files:
        return own_form.loaded(tokenizer.files[JSON], JSON)
    return form_of(tokenizer)


def _config(tokenizer: Tokenizer) -> dict[str, Any]:
    base = config_of(tokenizer.files)
    proto = proto_of(tokenizer)
    own = JSON in tokenizer.files  # its post-processor says what is added where the base does not
    config = {} if own else {"add_bos_token": True, "add_eos_token": False}
    config |= {key: base[key] for key in CARRIED if key in base}
    config |= {
        "tokenizer_class": "PreTrainedTokenizerFast",  # reads tokenizer.json and adds nothing
        "bos_token": proto.pieces[tokenizer.bos_id].piece,
        "eos_token": proto.pieces[tokenizer.eos_id].piece,
        "unk_token": unknown(proto.pieces),
        "clean_up_tokenization_spaces": False,
    }
    names = {piece.piece for piece in proto.pieces}
    named = declared.config(tokenizer.files, "tokenizer") or {}
    if tokenizer.pad_id != tokenizer.eos_id:
        config["pad_token"] = proto.pieces[tokenizer.pad_id].piece
    return declared.others(named, names) | config
