"""Proves a tokenizer folder: both forms agree, the base language keeps its ids, new pieces work.

proof = prove("runs/korean/vocab", base, english_lines, korean_lines)
if not proof.ok: raise ValueError(proof.summary)
"""

from collections.abc import Iterable, Iterator
import dataclasses
import itertools
import json
from typing import Any

from etils import epath
import numpy as np

from lrl_jax.vocab import tokenizer
from lrl_jax.vocab.splice import SPACE, without_prefix
from lrl_jax.vocab.tokenizer import Tokenizer, parse

SHOWN = 5  # offending texts kept of each kind
SHOWN_CHARS = 160
BATCH = 1000

# What breaks tokenizers: spaces at both ends and in runs, composed and decomposed letters,
# joiners, emoji, texts that look like control or byte pieces, line ends, one very long word.
ADVERSARIAL = (
    "",
    " ",
    "   ",
    " a",
    "  two  spaces  ",
    "a" + " " * 40 + "b",
    "caf\u00e9 cafe\u0301",
    "\uac00 \u1100\u1161",
    "\u0915\u094d\u200d\u0937 \u0645\u06cc\u200c\u062e",
    "\U0001f469\u200d\U0001f4bb \U0001f1f0\U0001f1f7 \u2764\ufe0f",
    "</s> <s> <unk> a</s>b",
    "<0x41><0x0A>",
    "line\r\nline\n\n\tline\r\n",
    "\u2581 \u2581\u2581a\u2581",
    "\ufeffmark\u00a0\u3000\u200b",
    "\U00020000\U0010ffff\x01\x7f",
    "1234567890.5e-7",
    "a" * 100_000,
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """How many texts (or pieces) break a promise, and the first few of them."""

    count: int = 0
    examples: tuple[str, ...] = ()

    def plus(self, broken: Iterable[str]) -> "Finding":
        broken = [text[:SHOWN_CHARS] for text in broken]
        return Finding(self.count + len(broken), (*self.examples, *broken)[:SHOWN])


@dataclasses.dataclass(frozen=True)
class Proof:
    """What was checked, and what did not hold.

    Attributes:
      form_ids: texts to which tokenizer.model and tokenizer.json give different ids.
      form_texts: texts whose ids the two forms decode differently.
      round_trip: texts that decode to something else than was encoded.
      base_moved: texts of the base language whose ids changed.
      base_pieces: base pieces whose id, kind or score changed.
      unreachable: new pieces whose own text is split into other pieces.
      silent: new pieces never emitted on the new text; some of them others are merged from.
      new_pieces: how many pieces were added.
      utilisation: share of them emitted on the new text.
      base_texts, new_texts: how many texts were read, the adversarial ones left out.
      tokens_before, tokens_after: of the new text, in the base and in the new tokenizer.
    """

    form_ids: Finding
    form_texts: Finding
    round_trip: Finding
    base_moved: Finding
    base_pieces: Finding
    unreachable: Finding
    silent: Finding
    new_pieces: int
    utilisation: float
    base_texts: int
    new_texts: int
    tokens_before: int
    tokens_after: int

    @property
    def broken(self) -> dict[str, Finding]:
        """The promises that did not hold; `silent` pieces are waste, not breakage."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value
            for name, value in found.items()
            if isinstance(value, Finding) and value.count and name != "silent"
        }

    @property
    def ok(self) -> bool:
        return not self.broken

    @property
    def summary(self) -> str:
        """One line a broken promise, with its first example; one line when all hold."""
        if self.ok:
            return (
                f"proved on {self.base_texts} base and {self.new_texts} new texts: "
                f"{self.new_pieces} new pieces, {self.tokens_before} -> {self.tokens_after} tokens"
            )
        return "\n".join(
            f"{name}: {found.count}, such as {found.examples[0]!r}"
            for name, found in self.broken.items()
        )

    def write(self, path: epath.PathLike) -> None:
        """Writes everything as JSON, with `ok` first."""
        tree = {"ok": self.ok} | dataclasses.asdict(self)
        text = json.dumps(tree, indent=1, ensure_ascii=False)
        epath.Path(path).write_text(text + "\n")


def prove(
    folder: epath.PathLike,
    base_model_bytes: bytes,
    base_texts: Iterable[str],
    new_texts: Iterable[str],
) -> Proof:
    """Checks the tokenizer in `folder` against its base, on given and on adversarial texts.

    Args:
      folder: a local folder with tokenizer.model and tokenizer.json (splice.write_forms).
      base_model_bytes: the `.model` the folder's extends, or its own bytes when it extends none.
      base_texts: text of the base language, whose ids must not change.
      new_texts: text of the new language.

    Returns:
      A proof; the caller decides what to do when it is not `ok`.

    Raises:
      ValueError: a form is missing or cannot be loaded.
    """
    new = tokenizer.load(folder)
    base = tokenizer.from_bytes(base_model_bytes, "base tokenizer")
    model = tokenizer.read(folder)
    audit = _Audit(new, load_fast(folder))
    audit.read(ADVERSARIAL)
    moved, base_count = Finding(), 0
    for batch in _batches(base_texts):
        audit.read(batch)
        pairs = zip(batch, base.encode_batch(batch), new.encode_batch(batch), strict=True)
        moved = moved.plus(text for text, want, got in pairs if got != want)
        base_count += len(batch)
    before, new_count = 0, 0
    emitted = np.zeros(new.size, np.int64)
    for batch in _batches(new_texts):
        ids = audit.read(batch)
        emitted += np.bincount(list(itertools.chain(*ids)), minlength=new.size)
        before += sum(map(len, base.encode_batch(batch)))
        new_count += len(batch)
    added = parse(model).pieces[base.size :]
    silent = [p.piece for p, n in zip(added, emitted[base.size :], strict=True) if not n]
    return Proof(
        form_ids=audit.form_ids,
        form_texts=audit.form_texts,
        round_trip=audit.round_trip,
        base_moved=moved,
        base_pieces=Finding().plus(_changed(base_model_bytes, model)),
        unreachable=Finding().plus(unreachable(model, base.size)),
        silent=Finding().plus(silent),
        new_pieces=len(added),
        utilisation=1 - len(silent) / len(added) if added else 1.0,
        base_texts=base_count,
        new_texts=new_count,
        tokens_before=before,
        tokens_after=int(emitted.sum()),
    )


def unreachable(model: bytes, first: int) -> list[str]:
    """Pieces from id `first` on whose own text does not encode to themselves."""
    pieces = parse(model).pieces[first:]
    ids = without_prefix(model).encode([piece.piece.replace(SPACE, " ") for piece in pieces])
    return [p.piece for i, p in enumerate(pieces, start=first) if ids[i - first] != [i]]


def load_fast(folder: epath.PathLike) -> Any:
    """The JSON form, as `transformers.AutoTokenizer` loads it; nothing is downloaded.

    Raises:
      ValueError: the folder has no tokenizer.json, or one that does not load.
    """
    import transformers

    if not (epath.Path(folder) / "tokenizer.json").exists():
        raise ValueError(f"{folder}: holds no tokenizer.json; write it with splice.write_forms")
    try:
        return transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as e:  # tokenizers raises plain Exception for a file it cannot read
        raise ValueError(f"{folder}/tokenizer.json: transformers cannot load it: {e}") from e


class _Audit:
    """Reads texts with both forms and gathers what disagrees."""

    def __init__(self, new: Tokenizer, fast: Any):
        self._new, self._fast = new, fast
        spec = parse(new.processor.serialized_model_proto()).normalizer_spec
        self._lossless = not (spec.precompiled_charsmap or spec.remove_extra_whitespaces)
        self.form_ids = self.form_texts = self.round_trip = Finding()

    def read(self, texts: Iterable[str]) -> list[list[int]]:
        texts = list(texts)
        ids = self._new.encode_batch(texts)
        fast = self._fast(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        back = [self._new.decode(row) for row in ids]
        other = self._fast.batch_decode(ids)
        want = [_readable(self._new, self._lossless, text) for text in texts]
        self.form_ids = self.form_ids.plus(_where(texts, ids, fast))
        self.form_texts = self.form_texts.plus(_where(texts, back, other))
        self.round_trip = self.round_trip.plus(_where(texts, back, want))
        return ids


def _where(texts: list[str], one: list, other: list) -> Iterator[str]:
    return (t for t, a, b in zip(texts, one, other, strict=True) if a != b)


def _readable(new: Tokenizer, lossless: bool, text: str) -> str:
    """What should come back: the text itself, or what the model's normaliser makes of it."""
    if lossless:
        return text.replace(SPACE, " ")
    return new.processor.normalize(text).replace(SPACE, " ").lstrip(" ")


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while batch := list(itertools.islice(texts, BATCH)):
        yield batch


def _changed(base: bytes, new: bytes) -> list[str]:
    old, now = parse(base), parse(new)
    same = zip(old.pieces, now.pieces, strict=False)
    changed = [a.piece for a, b in same if (a.piece, a.type, a.score) != (b.piece, b.type, b.score)]
    changed += [piece.piece for piece in old.pieces[len(now.pieces) :]]
    if old.normalizer_spec != now.normalizer_spec:
        changed.append("(normaliser)")
    return changed
