"""Says a folder's tokenizer as llama.cpp wants it: pieces, scores, kinds, merges, special ids.

What cannot be said so is refused by name. Nothing is looked up by a checksum of ids: each setting
is read in the files, or seen in what transformers makes of a text.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
from typing import Any

from etils import epath

from lrl_jax.hf import load
from lrl_jax.hf.gguf import pretokenizers
from lrl_jax.hf.safetensors_ranges import read_json
from lrl_jax.vocab.tokenizer import byte_level, inspection
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.codecs import SPACE
from lrl_jax.vocab.tokenizer.declared import STRIPS, content
from lrl_jax.vocab.tokenizer.piece_model import proto_of
from lrl_jax.vocab.tokenizer.types import JSON, Tokenizer, chat_template_of, config_of

JINJA = "chat_template.jinja"
# GGUF's kinds of pieces (gguf.TokenType), with the numbers that SentencePiece gives them too.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPARE_SCORE = -10000.0  # of rows without a piece, as llama.cpp's converter has it
# Name in tokenizer_config.json -> GGUF's name for the id.
SPECIAL = {
    "bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding",
    "mask": "mask",
}  # fmt: skip
PROBE, JOINED, SPACED = "a", "a b", "a  b"
# Composed and decomposed letters, a ligature, a wide space: what a normaliser would change.
UNCHANGED = "\u00e9 e\u0301 \ufb01 \u3000 \u09df \u0958"
# Tokens that llama.cpp ends an answer at by their text alone (src/llama-vocab.cpp).
KNOWN_ENDS = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>",
    "<EOT>", "<eos>", "<|end_of_text|>",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class GgufVocabulary:
    """Holds what a GGUF file says of a tokenizer.

    Attributes:
      model: "llama" (SentencePiece) or "gpt2" (byte-level).
      pre: llama.cpp's name for how text is cut into words; "default" for SentencePiece.
      pieces, types: of each row of the embeddings.
      scores: of each row, for SentencePiece; none for byte-level.
      merges: `left right` in their order, for byte-level.
      ids: GGUF's names of special tokens -> id.
      add_bos, add_eos: what is put around a text.
      add_space_prefix: whether a space is put before a text.
      template: the chat template; "" without one.
      notes: what llama.cpp reads otherwise in some texts, a sentence each.
    """

    model: str
    pre: str
    pieces: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...]
    merges: tuple[str, ...]
    ids: Mapping[str, int]
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    template: str
    notes: tuple[str, ...]


def of(folder: epath.PathLike, rows: int, tokenizer: Tokenizer | None = None) -> GgufVocabulary:
    """Returns the vocabulary of a Hugging Face folder.

    Args:
      rows: of the embeddings; those beyond the pieces become unused pieces `[PAD...]`.
      tokenizer: that of the folder, if it is loaded already.

    Raises:
      ValueError: GGUF or llama.cpp cannot say it; names what, and what to do.
    """
    tokenizer = tokenizers.load(folder) if tokenizer is None else tokenizer
    if tokenizer.size > rows:
        raise ValueError(
            f"the tokenizer has {tokenizer.size} pieces, the embeddings {rows} rows; give the "
            "model's own tokenizer"
        )
    sentencepiece = tokenizer.family == "sentencepiece"
    pieces, types, scores = (_of_model if sentencepiece else _of_merges)(tokenizer)
    spare = [f"[PAD{i}]" for i in range(len(pieces), rows)]
    pieces, types = [*pieces, *spare], [*types, *[UNUSED] * len(spare)]
    if len({*pieces}) < len(pieces):
        raise ValueError("two rows have the same piece, which llama.cpp does not load")
    tree = _tree(tokenizer)
    bos, eos = _ends(epath.Path(folder), tokenizer)
    return GgufVocabulary(
        model="llama" if sentencepiece else "gpt2",
        pre="default" if sentencepiece else pretokenizers.name_of(tree),
        pieces=tuple(pieces),
        types=tuple(types),
        scores=(*scores, *[SPARE_SCORE] * len(spare)) if sentencepiece else (),
        merges=() if sentencepiece else tuple(map(" ".join, inspection.pairs(tree["model"]))),
        ids=dict(_special(epath.Path(folder), tokenizer, pieces)),
        add_bos=bos,
        add_eos=eos,
        add_space_prefix=sentencepiece and _prefixed(tokenizer, pieces),
        template=_template(tokenizer),
        notes=tuple(_notes(tokenizer, tree)),
    )


def _tree(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.files[JSON]) if JSON in tokenizer.files else {}


# ---------------------------------------------------------------------------- pieces
def _of_model(tokenizer: Tokenizer) -> tuple[list[str], list[int], list[float]]:
    """Returns pieces, kinds and scores of a SentencePiece model; refuses what llama.cpp lacks."""
    proto = proto_of(tokenizer)
    spec, trained = proto.normalizer_spec, proto.trainer_spec
    kinds = [piece.type for piece in proto.pieces]
    asks = {
        "it is no BPE model": trained.model_type != trained.BPE,
        "it writes spaces after words": trained.treat_whitespace_as_suffix,
        "it keeps spaces as they are": not spec.escape_whitespaces,
        "it has no pieces for bytes (byte_fallback)": kinds.count(BYTE) != 1 << 8,
        "it removes extra spaces (remove_extra_whitespaces)": _as_one(tokenizer),
        "it normalises text": _changes(tokenizer),
    }
    if reasons := [reason for reason, asked in asks.items() if asked]:
        raise ValueError(
            f"{' and '.join(reasons)}, which llama.cpp does not do for SentencePiece; it would "
            "read texts otherwise and say nothing: run it in transformers or vLLM"
        )
    kinds = _marked(tokenizer, kinds)
    return [p.piece for p in proto.pieces], kinds, [p.score for p in proto.pieces]


def _as_one(tokenizer: Tokenizer) -> bool:
    return tokenizer.encode(SPACED) == tokenizer.encode(JOINED)


def _changes(tokenizer: Tokenizer) -> bool:
    return tokenizers.family(tokenizer).normal(tokenizer)(UNCHANGED) != UNCHANGED


def _of_merges(tokenizer: Tokenizer) -> tuple[list[str], list[int], list[float]]:
    """Returns pieces and kinds of a byte-level tokenizer; refuses what llama.cpp lacks."""
    tree = byte_level.tree_of(tokenizer)
    for node in inspection.leaves(tree.get("normalizer")):
        if node.get("type") != "NFC":
            raise ValueError(
                f"its normalizer {node.get('type')} changes text, and llama.cpp has none; run it "
                "in transformers or vLLM"
            )
    odd = [key for key in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
           if tree["model"].get(key)]  # fmt: skip
    if odd:
        raise ValueError(f"its {odd[0]} has no place in GGUF; run it in transformers or vLLM")
    pieces = byte_level.pieces(tokenizer)
    kinds = [NORMAL if piece else UNUSED for piece in pieces]
    pieces = [piece or f"[PAD{i}]" for i, piece in enumerate(pieces)]
    return pieces, _marked(tokenizer, kinds), []


def _marked(tokenizer: Tokenizer, kinds: Sequence[int]) -> list[int]:
    """Returns the kinds with those of added tokens: control tokens, and ones whole in text."""
    kinds = [*kinds]
    for token in inspection.added_tokens(_tree(tokenizer)):
        if flags := [flag for flag in STRIPS if token.get(flag)]:
            raise ValueError(
                f"its token {token['content']!r} is read with {' and '.join(flags)}, which GGUF "
                "cannot say; run it in transformers or vLLM"
            )
        if not token.get("special"):
            kinds[token["id"]] = USER_DEFINED
        elif kinds[token["id"]] != UNKNOWN:
            kinds[token["id"]] = CONTROL
    return kinds


# ---------------------------------------------------------------------------- around a text
def _ends(folder: epath.Path, tokenizer: Tokenizer) -> tuple[bool, bool]:
    """Tells whether bos and eos are put around a text, as transformers reads the folder."""
    inside = tokenizer.encode(PROBE)
    around = AutoCodec(folder, only_reads=True).read([PROBE])[0]
    bos, eos = [tokenizer.bos_id], [tokenizer.eos_id]
    for first, last in ((False, False), (True, False), (False, True), (True, True)):
        if around == bos * first + inside + eos * last:
            return first, last
    raise ValueError(
        f"it puts other tokens around a text than bos and eos ({around} for {PROBE!r}), which GGUF "
        "cannot say; set another post_processor in tokenizer.json"
    )


def _prefixed(tokenizer: Tokenizer, pieces: Sequence[str]) -> bool:
    return pieces[tokenizer.encode(PROBE)[0]].startswith(SPACE)


def _special(
    folder: epath.Path, tokenizer: Tokenizer, pieces: Sequence[str]
) -> Iterator[tuple[str, int]]:
    """Yields the special ids by GGUF's names: of tokenizer_config.json, else of config.json."""
    settings = config_of(tokenizer.files)
    config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    sure = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id}
    for key, name in SPECIAL.items():
        named = content(settings.get(f"{key}_token"))
        i = pieces.index(named) if named in pieces else config.get(f"{key}_token_id")
        i = sure.get(key, i)
        if isinstance(i, int) and 0 <= i < len(pieces):
            yield f"{name}_token_id", i
    ends = load.ends(folder, len(pieces))
    extra = [i for i in ends if i != tokenizer.eos_id and pieces[i] not in KNOWN_ENDS]
    if extra:  # llama.cpp would write on after it
        yield "eot_token_id", extra[0]


def _template(tokenizer: Tokenizer) -> str:
    if JINJA in tokenizer.files:
        return tokenizer.files[JINJA].decode()
    return chat_template_of(config_of(tokenizer.files)) or ""


def _notes(tokenizer: Tokenizer, tree: Mapping[str, Any]) -> Iterator[str]:
    """Yields what llama.cpp reads otherwise in some texts."""
    if tokenizer.family == "byte_level" and inspection.leaves(tree.get("normalizer")):
        yield "llama.cpp does not compose text (NFC): give it text that is"
    first = (leaf for leaf in inspection.leaves(tree.get("pre_tokenizer")))
    if any(leaf.get("type") == "Metaspace" for leaf in first):
        yield "a text that begins with a space gets one more of them in llama.cpp"
