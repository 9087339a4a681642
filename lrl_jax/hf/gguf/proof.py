"""Proves a GGUF file: reads it back, and compares how it cuts text with how the export does."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
from typing import Any
import unicodedata

from etils import epath
import numpy as np

from lrl_jax.hf import load
from lrl_jax.hf.gguf import contents, cut, tensors, vocabulary
from lrl_jax.hf.gguf.architectures import Value
from lrl_jax.hf.gguf.contents import GgufSource
from lrl_jax.hf.gguf.vocabulary import GgufVocabulary
from lrl_jax.hf.safetensors_ranges import Tensors
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.types import Tokenizer

SHOWN = 3  # problems that are said; a file with one has thousands


class UnprovedError(Exception):
    """Says that a file is not what it was made of; the file stays under its unproved name."""


@dataclasses.dataclass(frozen=True)
class GgufProof:
    """Holds what was compared and found equal.

    Attributes:
      pieces, merges, tensors: how many.
      spare: rows of the embeddings without a piece.
      exact: tensors that are equal bit for bit, the others being within the quantiser's bound.
      texts, prompts: of these the ids are the export's.
      notes: what llama.cpp reads otherwise, a sentence each.
    """

    pieces: int
    spare: int
    merges: int
    tensors: int
    exact: int
    texts: int
    prompts: int
    notes: tuple[str, ...]


# ---------------------------------------------------------------------------- its tokenizer
def read_alike(
    given: GgufSource, texts: Sequence[str], prompts: Sequence[str] = ()
) -> tuple[str, ...]:
    """Compares how llama.cpp and the export cut texts; returns what to know about it.

    Raises:
      ValueError: a text that they cut otherwise.
    """
    read, notes = cut.reader(given.vocabulary), [*given.vocabulary.notes]
    texts = [*texts, *_own_pieces(given.tokenizer, given.vocabulary)]
    pairs = zip(texts, given.tokenizer.encode_batch(texts), strict=True)
    other = [text for text, ids in pairs if not _noted(text, notes) and read(text) != ids]
    if other:
        raise ValueError(
            f"llama.cpp cuts {len(other):,} of {len(texts):,} texts otherwise than the export, "
            f"first {other[0][:60]!r}; run it in transformers or vLLM"
        )
    if prompts:
        ids = [row for row in _rendered(given, prompts)]
        odd = [p for p, row in zip(prompts, ids, strict=True) if read(p, controls=True) != row]
        if odd:
            notes.append(
                f"llama.cpp reads {len(odd)} of {len(prompts)} chat prompts otherwise: it puts a "
                "space after each control token"
            )
    return tuple(notes)


def _rendered(given: GgufSource, prompts: Sequence[str]) -> list[list[int]]:
    return [*map(AutoCodec(given.folder, only_reads=True).read_rendered, prompts)]


def _noted(text: str, notes: Sequence[str]) -> bool:
    """Tells whether a note is about this text."""
    spaced = any("begins with a space" in note for note in notes) and text[:1] in (" ", "\u2581")
    composed = any("NFC" in note for note in notes)
    return spaced or (composed and not unicodedata.is_normalized("NFC", text))


def _own_pieces(tokenizer: Tokenizer, words: GgufVocabulary) -> list[str]:
    """Returns the text of each ordinary piece: where it is whole characters, a text to cut."""
    family, texts = tokenizers.family(tokenizer), []
    for piece, kind in zip(words.pieces, words.types, strict=True):
        if kind == vocabulary.NORMAL:
            with contextlib.suppress(UnicodeDecodeError):
                texts.append(family.surface(piece).decode())
    return [text for text in texts if text]


# ---------------------------------------------------------------------------- the file
def prove(
    path: epath.PathLike,
    given: GgufSource,
    kind: str,
    texts: int,
    prompts: int,
    notes: Sequence[str],
) -> GgufProof:
    """Reads a file back and compares everything in it with the folder.

    Args:
      kind: of tensors.TYPES, what the file was written as.
      texts, prompts, notes: what `read_alike` compared, and what it returned.

    Raises:
      UnprovedError: something in the file is not what the folder says.
    """
    import gguf

    reader = gguf.GGUFReader(path)
    name = reader.fields["general.name"].contents()
    problems = [*_other_words(reader, contents.said(given, kind, name))]
    exact, wanted = 0, [*tensors.tensors(given.cfg, kind)]
    stored = {tensor.name: tensor for tensor in reader.tensors}
    with contextlib.ExitStack() as stack:
        source = load.opened(given.folder, given.cfg, stack, given.tokenizer.size)
        for tensor in wanted:
            off, bound = _off(tensor, stored.pop(tensor.name), source)
            exact += int(not off.any())
            if not (off <= bound).all():
                problems.append(f"{tensor.name} is off by up to {off.max():.2g}")
    problems += [f"{name} is no tensor of the model" for name in stored]
    if problems:
        raise UnprovedError(f"{path}: {'; '.join(problems[:SHOWN])} ({len(problems)} in all)")
    words, size = given.vocabulary, given.tokenizer.size
    spare, merges = len(words.pieces) - size, len(words.merges)
    return GgufProof(size, spare, merges, len(wanted), exact, texts, prompts, tuple(notes))


def _off(tensor: tensors.GgufTensor, back: Any, source: Tensors) -> tuple[np.ndarray, np.ndarray]:
    """Returns how far each number of a tensor is from the one meant, and how far it may be."""
    values = tensor.read(source.read)
    got = tensors.read_back(back.data, tensor.kind).reshape(tensor.shape)
    want = values.astype(np.float16).astype(np.float32) if tensor.kind == "f16" else values
    return np.abs(got - want), tensors.bound(values, tensor.kind)


def _other_words(reader: Any, want: Mapping[str, Value]) -> Iterator[str]:
    """Yields what a file says otherwise than it should, value by value."""
    for key, value in want.items():
        field = reader.fields.get(key)
        back = None if field is None else field.contents()
        if isinstance(value, float):  # float32 in the file
            value = float(np.float32(value))
        if key.endswith(".scores"):
            value = np.array(value, np.float32).tolist()
        if back != value:
            yield f"{key} is {str(back)[:60]}, want {str(value)[:60]}"
    unsaid = {*reader.fields} - {*want} - {"general.architecture"}
    yield from (f"{key} is not meant" for key in unsaid if not key.startswith("GGUF."))
