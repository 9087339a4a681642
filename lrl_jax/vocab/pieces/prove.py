"""Proves a tokenizer folder: all forms agree, the base language keeps its ids, new pieces work.

proof = prove("runs/korean/vocab", base, english_lines, korean_lines)
if not proof.ok: raise ValueError(proof.summary)
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import itertools

from etils import epath
import numpy as np

from lrl_jax import storage
from lrl_jax.vocab.tokenizer import own_form
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.load import family, load
from lrl_jax.vocab.tokenizer.ranks import TiktokenCodec
from lrl_jax.vocab.tokenizer.types import JSON, Codec, Tokenizer, batches

SHOWN = 5  # offending texts kept of each kind
SHOWN_CHARS = 160
BATCH = 1000

# What breaks tokenizers: spaces at both ends and in runs, composed and decomposed letters,
# joiners, emoji, texts that look like control or byte pieces, line ends.
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
)
LONG = "a" * 1_000_000  # a word that costs a minute where merging is quadratic


@dataclasses.dataclass(frozen=True)
class Finding:
    """Holds how many texts (or pieces) break a promise, and the first few of them."""

    count: int = 0
    examples: tuple[str, ...] = ()

    def plus(self, broken: Iterable[str]) -> "Finding":
        broken = [text[:SHOWN_CHARS] for text in broken]
        return Finding(self.count + len(broken), (*self.examples, *broken)[:SHOWN])


@dataclasses.dataclass(frozen=True)
class Proof:
    """Holds what was checked, and what did not hold.

    Attributes:
      form_pieces: pieces that have another name, or another id, in a written form.
      form_ids: texts to which two forms, such as tokenizer.model and .json, give different ids.
      form_texts: texts whose ids two forms decode differently.
      round_trip: texts that decode to something else than was encoded.
      base_moved: texts of the base language whose ids changed; more tokens than `drift` allows
        break the promise.
      control_ids: texts with control tokens, read as such, whose ids differ from the base's, but
        for those with new pieces.
      base_pieces: base pieces whose id, kind or score changed.
      unreachable: new pieces whose own text is split into other pieces.
      silent: new pieces never emitted on the new text; some are needed to merge others from.
      new_pieces: how many pieces were added.
      utilisation: share of them emitted on the new text.
      base_texts, new_texts: how many texts were read, the adversarial ones left out.
      tokens_before, tokens_after: of the new text, in the base and in the new tokenizer.
      drift: most tokens of the base texts that may change, out of 10,000.
      base_tokens, base_tokens_changed: of the base texts, as the base splits them.
    """

    form_pieces: Finding
    form_ids: Finding
    form_texts: Finding
    round_trip: Finding
    base_moved: Finding
    control_ids: Finding
    base_pieces: Finding
    unreachable: Finding
    silent: Finding
    new_pieces: int
    utilisation: float
    base_texts: int
    new_texts: int
    tokens_before: int
    tokens_after: int
    drift: float = 0.0
    base_tokens: int = 0
    base_tokens_changed: int = 0

    @property
    def broken(self) -> dict[str, Finding]:
        """Returns the promises that did not hold; `silent` pieces are waste, not breakage."""
        fine = {"silent"}
        if self.drift and self.base_tokens_changed <= self.drift * self.base_tokens / 10_000:
            fine.add("base_moved")
        return {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, Finding) and value.count and name not in fine
        }

    @property
    def ok(self) -> bool:
        return not self.broken

    @property
    def summary(self) -> str:
        """Returns a line for each broken promise, with an example; one line when all hold."""
        drifted = (
            f"{self.base_tokens_changed:,} of {self.base_tokens:,} base tokens change "
            f"({per_10_000(self.base_tokens_changed, self.base_tokens)} of 10,000, "
            f"vocab.drift allows {self.drift:g})"
        )
        if self.ok:
            return (
                f"proved on {self.base_texts} base and {self.new_texts} new texts: "
                f"{self.new_pieces} new pieces, {self.tokens_before} -> {self.tokens_after} tokens"
                + f"; {drifted}"
                * bool(self.drift)
            )
        lines = [
            f"{name}: {finding.count}, such as {finding.examples[0]!r}"
            for name, finding in self.broken.items()
        ]
        return "\n".join(lines + [drifted] * (self.drift > 0 and "base_moved" in self.broken))

    def write(self, path: epath.PathLike) -> None:
        """Writes everything as JSON, with `ok` first."""
        storage.write_json(path, {"ok": self.ok} | dataclasses.asdict(self))


def per_10_000(count: int, whole: int) -> str:
    """Returns a share as it is read aloud: how many of 10,000.

    >>> per_10_000(3, 20_000)
    '1.5'
    """
    return f"{10_000 * count / max(whole, 1):.3g}"


def prove(
    folder: epath.PathLike,
    base: Tokenizer,
    base_texts: Iterable[str],
    new_texts: Iterable[str],
    start: Tokenizer | None = None,
    chats: Sequence[str] = (),
    drift: float = 0.0,
) -> Proof:
    """Checks the tokenizer in `folder` against its base, on given and on adversarial texts.

    Args:
      folder: a local folder with every form of the tokenizer (its family's `write`); a ValueError
        names a form that is missing or cannot be loaded.
      base: what it extends, or the same when it extends none.
      base_texts: text of the base language, whose ids must not change.
      drift: most of its tokens that may change all the same, out of 10,000.
      start: the base with another pre-tokenizer, where the recipe asks for one.
      chats: conversations as the base's chat template renders them.
    """
    new = load(folder)
    tokenizer_family = family(new)
    forms = tokenizer_family.forms(folder)
    controls = _controls(start or base, forms[JSON], chats)
    audit = _Audit(new, forms)
    audit.read([*ADVERSARIAL, LONG])
    moved, base_count, base_tokens, changed = Finding(), 0, 0, 0
    for batch in batches(base_texts, BATCH):
        now, was = audit.read(batch), base.encode_batch(batch)
        moved = moved.plus(_where(batch, now, was))
        base_count += len(batch)
        base_tokens += sum(map(len, was))
        changed += sum((Counter(a) - Counter(b)).total() for a, b in zip(was, now, strict=True))
    before, new_count = 0, 0
    emitted = np.zeros(new.size, np.int64)
    for batch in batches(new_texts, BATCH):
        ids = audit.read(batch)
        emitted += np.bincount(list(itertools.chain(*ids)), minlength=new.size)
        before += sum(map(len, base.encode_batch(batch)))
        new_count += len(batch)
    names = tokenizer_family.pieces(new)
    added = names[base.size :]
    silent = [piece for piece, n in zip(added, emitted[base.size :], strict=True) if not n]
    return Proof(
        form_pieces=Finding().plus(_renamed(names, forms.values())),
        form_ids=audit.form_ids,
        form_texts=audit.form_texts,
        round_trip=audit.round_trip,
        base_moved=moved,
        control_ids=controls,
        base_pieces=Finding().plus(tokenizer_family.altered(start or base, new)),
        unreachable=Finding().plus(unreachable(new, base.size)),
        silent=Finding().plus(silent),
        new_pieces=len(added),
        utilisation=1 - len(silent) / len(added) if added else 1.0,
        base_texts=base_count,
        new_texts=new_count,
        tokens_before=before,
        tokens_after=int(emitted.sum()),
        drift=drift,
        base_tokens=base_tokens,
        base_tokens_changed=changed,
    )


def _controls(base: Tokenizer, form: Codec, chats: Sequence[str]) -> Finding:
    """Compares what callers of transformers get from a new tokenizer with the base's own reading.

    Control tokens are read as such, bos is put first. Texts with new pieces are left out.
    """
    assert isinstance(form, AutoCodec)
    reading = family(base).reading(base)
    texts = [*ADVERSARIAL, *own_form.control_texts(own_form.names_of(reading)), *chats]
    got, want = form.read(texts), [row.ids for row in reading.encode_batch_fast(texts)]
    pairs = zip(texts, got, want, strict=True)
    return Finding().plus(t for t, a, b in pairs if a != b and max(a, default=0) < base.size)


def _renamed(names: Sequence[str], forms: Iterable[Codec]) -> Iterator[str]:
    """Yields pieces that a form lists otherwise; no text need have them, as most bytes."""
    for form in forms:
        if isinstance(form, AutoCodec | TiktokenCodec):
            ids = form.ids()
            yield from (piece for i, piece in enumerate(names) if piece and ids.get(piece) != i)


def read_otherwise(folder: epath.PathLike, base: Tokenizer, chats: Sequence[str] = ()) -> Finding:
    """Compares how `AutoTokenizer` reads a base's local folder with how its files say to read it.

    Classes of single models bring settings of their own instead of those in tokenizer.json. Nothing
    is compared where AutoTokenizer refuses the folder.
    """
    try:
        form = AutoCodec(folder, only_reads=True)
    except ValueError:
        return Finding()
    return _controls(base, form, chats)


def unreachable(new: Tokenizer, first: int) -> list[str]:
    """Returns pieces from id `first` on whose own text does not encode to themselves."""
    tokenizer_family = family(new)
    added = tokenizer_family.pieces(new)[first:]
    ids = tokenizer_family.spell(new, added)
    return [piece for i, piece in enumerate(added, start=first) if ids[i - first] != [i]]


class _Audit:
    """Reads texts with every form and gathers what disagrees."""

    def __init__(self, new: Tokenizer, forms: Mapping[str, Codec]):
        self._new, self._forms, self._normal = new, forms, family(new).normal(new)
        self.form_ids = self.form_texts = self.round_trip = Finding()

    def read(self, texts: list[str]) -> list[list[int]]:
        ids = self._new.encode_batch(texts)
        back = self._new.codec.decode_batch(ids)
        for codec in self._forms.values():
            self.form_ids = self.form_ids.plus(_where(texts, ids, codec.encode_batch(texts)))
            self.form_texts = self.form_texts.plus(_where(texts, back, codec.decode_batch(ids)))
        want = [self._normal(text) for text in texts]
        self.round_trip = self.round_trip.plus(_where(texts, back, want))
        return ids


def _where(texts: list[str], got: list, want: list) -> Iterator[str]:
    return (t for t, a, b in zip(texts, got, want, strict=True) if a != b)
