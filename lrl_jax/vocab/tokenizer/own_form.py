"""Keeps how a base's tokenizer.json reads text where the SentencePiece model does not say it.

The model knows nothing of control tokens: whether a space is put after one, whether spaces beside
one are swallowed, whether a text begins with bos. Where the base's own form reads anything
otherwise than the form made of the model, the base's settings are kept and new pieces put into it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import json
from typing import Any

import tokenizers
from tokenizers import models, processors

from lrl_jax.vocab.tokenizer import inspection
from lrl_jax.vocab.tokenizer.auto import FastCodec
from lrl_jax.vocab.tokenizer.codecs import SPACE, SentencePieceCodec
from lrl_jax.vocab.tokenizer.declared import FLAGS
from lrl_jax.vocab.tokenizer.piece_model import normal_of, parse
from lrl_jax.vocab.tokenizer.types import JSON, Tokenizer

SETTINGS = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
OF_TEXT = ("normalizer", "pre_tokenizer", "decoder")  # those that decide on text alone
# Parts that do no harm on any text, whatever their settings.
HARMLESS = {"Metaspace", "Prepend", "Split", "NFC", "NFD", "NFKC", "NFKD", "Digits"}
PROBES = (
    "", "a", " a", "  two  spaces  ", "a\nb", f"{SPACE}a", "\u00e9 e\u0301", "\ufb01 \u3000x",
    "\uac00\u0b95", "1 234", "a\u00a0b", "don't", "<unk> </s>", "A b. C",
    "a                       b",
)  # fmt: skip
CONTROLS_TRIED = 64


def written(tree: Mapping[str, Any]) -> bytes:
    """Writes a tokenizer.json without spaces."""
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()


def loaded(data: bytes, where: str) -> tokenizers.Tokenizer:
    """Loads a tokenizer.json; ValueError for one that the library cannot read."""
    try:
        return tokenizers.Tokenizer.from_str(data.decode())
    except Exception as e:  # the library raises plain Exception for a file it cannot read
        raise ValueError(f"{where}: the tokenizers library refuses it: {e}") from None


def ends(config: Mapping[str, Any], bos: tuple[str, int], eos: tuple[str, int]) -> Any:
    """Returns the post-processor that AutoTokenizer makes of add_bos_token and add_eos_token."""
    first, last = config.get("add_bos_token"), config.get("add_eos_token")
    both = "".join(f" {token[0]}:{{0}}" if on else "" for on, token in ((last, eos),))
    open_ = f"{bos[0]}:{{0}} " if first else ""
    single = f"{open_}$A:0{both}".format(0)
    pair = single + f" {open_}$B:1{both}".format(1)
    used = [token for on, token in ((first, bos), (last, eos)) if on]
    bare = tokenizers.Tokenizer(models.BPE())
    bare.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=used
    )
    return json.loads(bare.to_str())["post_processor"]


def same_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tells whether two forms cut text and read added tokens by the same settings."""
    same = all(one.get(key) == other.get(key) for key in SETTINGS)
    return same and _flags(one) == _flags(other)


def reads_alike(one: tokenizers.Tokenizer, other: tokenizers.Tokenizer) -> bool:
    """Tells whether two forms give the same ids and texts, control tokens read as such."""
    texts = [*PROBES, *control_texts(names_of(one)), *control_texts(names_of(other))]
    rows = [row.ids for row in one.encode_batch_fast(texts)]
    return rows == [row.ids for row in other.encode_batch_fast(texts)] and (
        one.decode_batch(rows) == other.decode_batch(rows)
    )


def names_of(form: tokenizers.Tokenizer) -> list[str]:
    """Returns added tokens of a form: CONTROLS_TRIED of them, those with flags and the last first.

    Bases keep hundreds in reserve, which are all alike.
    """
    tokens = [token for _, token in sorted(form.get_added_tokens_decoder().items())]
    odd = [t for t in tokens if not t.special or t.rstrip or t.lstrip or t.single_word]
    names = [token.content for token in (*odd, *tokens[-8:], *tokens)]
    return [*dict.fromkeys(names)][:CONTROLS_TRIED]


def control_texts(names: Sequence[str]) -> Iterator[str]:
    """Yields texts in which control tokens stand at both ends, inside, and beside spaces."""
    for name in names:
        yield from (f"{name} a", f"a{name}b", f"a {name}\nb", f"{name}{name}a {name}", f" {name}")


def refuse_harm(tree: Mapping[str, Any], where: str) -> None:
    """Refuses settings that do not finish, or blow text up; what is not known is tried first."""
    nodes = [leaf for key in SETTINGS[2:4] for leaf in inspection.leaves(tree.get(key))]
    if not all(_harmless(node) for node in nodes):
        try:
            inspection.tried(tree)
        except ValueError as e:
            raise ValueError(f"{where}: {e}") from None


def completed(
    tree: Mapping[str, Any],
    pieces: Sequence[str],
    tokens: Mapping[int, Mapping[str, Any]],
    merges: Sequence[tuple[str, str]],
    scores: Mapping[str, float],
    where: str,
) -> dict[str, Any]:
    """Returns a base's form with all pieces of the model, and all added tokens.

    Merges of pieces it lacks are put below all of its merges, but above runs of spaces that the
    model ranks lower still.

    Args:
      merges: those of the model, in its order.
      scores: of the model's pieces; the lowest of the missing ones says where their merges go.
    """
    model = dict(tree["model"])
    ids = {piece: i for i, piece in enumerate(pieces)}
    old = model["vocab"]
    if not isinstance(old, dict) or any(ids.get(piece) != i for piece, i in old.items()):
        raise ValueError(
            f"{where}: tokenizer.json gives other ids than tokenizer.model; remove the one the "
            "model was not trained with"
        )
    fresh = {piece for piece in pieces if piece not in old}
    joins = [pair for pair in merges if "".join(pair) in fresh]
    if joins:
        listed = model["merges"]
        spaced = all(isinstance(merge, str) for merge in listed[:1])
        lowest = min(scores["".join(pair)] for pair in joins)
        at = next(
            (
                n
                for n, merge in enumerate(listed)
                if scores.get("".join(merge.split(" ") if spaced else merge), 0) < lowest
            ),
            len(listed),
        )
        new = [" ".join(pair) if spaced and listed else list(pair) for pair in joins]
        model["merges"] = [*listed[:at], *new, *listed[at:]]
    model["vocab"] = ids
    added = [dict(token) for _, token in sorted(tokens.items())]
    return {**tree, "added_tokens": added, "model": model}


class ModelBeside:
    """Encodes by the model what it and the base's own form read alike, by that form the rest."""

    def __init__(self, model: bytes, form: FastCodec):
        self._model, self._form, self._alike = SentencePieceCodec(model), form, Alike(form, model)
        self._joins_spaces = parse(model).normalizer_spec.remove_extra_whitespaces

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        rows = self._form.encode_batch(texts)
        both = self._read_alike(texts)
        for n, row in zip(both, self._model.encode_batch([texts[n] for n in both]), strict=True):
            rows[n] = row
        return rows

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        if not self._joins_spaces:
            return self._model.decode_batch(rows)
        texts = self._form.decode_batch(rows)
        both = self._read_alike(texts)
        for n, text in zip(both, self._model.decode_batch([rows[n] for n in both]), strict=True):
            texts[n] = text
        return texts

    def _read_alike(self, texts: Sequence[str]) -> list[int]:
        return [n for n, text in enumerate(texts) if self._alike(text)]


class Alike:
    """Tells whether a base's own form and the model should give a text the same ids.

    So it is where a text begins neither with a space nor its mark, holds no token that stands whole
    in text, and is normalised alike: a model may join spaces that the form keeps apart.
    """

    def __init__(self, form: FastCodec, model: bytes):
        self._whole = _whole(form)
        self._by_form, self._by_model = normal(form), normal_of(model)

    def __call__(self, text: str) -> bool:
        if text[:1] in (" ", SPACE) or any(name in text for name in self._whole):
            return False
        return self._by_form(text) == self._by_model(text)


def normal(form: FastCodec) -> Callable[[str], str]:
    """Returns a function from a text to what decoding by a base's own form should give."""
    normaliser = form.fast.normalizer

    def changed(text: str) -> str:
        return (normaliser.normalize_str(text) if normaliser else text).replace(SPACE, " ")

    # A space that the form puts before every text, or the text's own that it takes for that one.
    taken = form.decode_batch(form.encode_batch([" a"])) == ["a"]
    if not (taken or changed("a").startswith(" ")):
        return changed
    return lambda text: changed(text).removeprefix(" ")


def _whole(form: FastCodec) -> list[str]:
    tokens = form.fast.get_added_tokens_decoder().values()
    return [token.content for token in tokens if not token.special]


@dataclasses.dataclass(frozen=True)
class Beside:
    """Describes how a form reads text beside control tokens.

    Attributes:
      inside: the form without a mark before text, where it puts one only where all text begins.
      swallow_after, swallow_before: control tokens that take the white space beside them.
    """

    inside: FastCodec | None
    swallow_after: frozenset[str]
    swallow_before: frozenset[str]

    def trimmed(self, text: str, before: str, after: str) -> str:
        """Returns a text without what the control tokens around it take ("" for none)."""
        text = text.lstrip() if before in self.swallow_after else text
        return text.rstrip() if after in self.swallow_before else text


def beside(tokenizer: Tokenizer) -> Beside | None:
    """Returns how a tokenizer reads text beside control tokens; None where it is as any text."""
    return _beside(tokenizer.files[JSON]) if JSON in tokenizer.files else None


@functools.lru_cache(maxsize=4)
def _beside(form: bytes) -> Beside | None:
    tree = json.loads(form)
    tokens = tree.get("added_tokens") or []
    after, before = (
        frozenset(token["content"] for token in tokens if token.get(flag))
        for flag in ("rstrip", "lstrip")
    )
    first = [leaf for leaf in inspection.leaves(tree.get("pre_tokenizer")) if _at_first(leaf)]
    if not (first or after or before):
        return None
    for leaf in first:
        leaf["prepend_scheme"] = "never"
    inside = FastCodec(loaded(written(tree), JSON)) if first else None
    return Beside(inside, after, before)


def _at_first(node: Mapping[str, Any]) -> bool:
    return node.get("type") == "Metaspace" and node.get("prepend_scheme") == "first"


def _flags(tree: Mapping[str, Any]) -> list[Any]:
    keys = ("id", "content", "special", *FLAGS)
    tokens = tree.get("added_tokens") or []
    return sorted([token.get(key) for key in keys] for token in tokens)


def _harmless(node: Mapping[str, Any]) -> bool:
    pattern = node.get("pattern")
    literal = isinstance(pattern, dict) and set(pattern) == {"String"}
    if node.get("type") == "Replace":
        return literal and len(str(node.get("content"))) <= len(str(pattern["String"])) <= 8
    if node.get("type") == "Split":
        return literal
    return node.get("type") in HARMLESS
