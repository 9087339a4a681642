"""Learns BPE vocabularies from raw text: a whole one, or pieces of a language that a base lacks.

The same text gives the same pieces on every run. Memory grows with distinct words, not with text.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import io
import itertools
import json
import re
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from lrl_jax.text import DataError
from lrl_jax.vocab import scripts as writing
from lrl_jax.vocab.pieces.splice import unknown
from lrl_jax.vocab.tokenizer.codecs import SPACE
from lrl_jax.vocab.tokenizer.load import family, from_bytes
from lrl_jax.vocab.tokenizer.piece_model import parse, splits_digits
from lrl_jax.vocab.tokenizer.types import Tokenizer

LINE_BYTES = 4000  # sentencepiece drops lines over 4,192 bytes in silence; longer ones are cut
LINE_CHARS = LINE_BYTES // 4  # UTF-8 has at most four bytes a character
LONGEST = 16  # characters of a piece: the default of sentencepiece's max_sentencepiece_length
CHUNK = 1 << 16  # characters given to the Rust trainer at a time
COUNTS = 1 << 30  # it counts pairs in 32 bits; the counts of larger corpora are scaled to this


def train(texts: Iterable[str], size: int, coverage: float) -> Tokenizer:
    """Trains a whole tokenizer as Llama 2's: BPE, byte fallback, digits apart, nothing normalised.

    Args:
      size: how many pieces, the 256 bytes and `<unk>` 0, `<s>` 1, `</s>` 2 among them; one that the
        text cannot give is a ValueError.
      coverage: share of all characters that get a piece; the rest are spelled in bytes.
    """
    options = {"byte_fallback": True, "split_digits": True, "allow_whitespace_only_pieces": True}
    model = _train(_cut(texts), vocab_size=size, character_coverage=coverage, **options)
    return from_bytes(model, "learnt tokenizer")


def pieces(
    texts: Iterable[str],
    count: int,
    scripts: Sequence[str],
    coverage: float,
    base: Tokenizer,
    min_count: int = 2,
) -> list[str]:
    """Learns a separate vocabulary and returns its pieces that `base` lacks (arXiv 2406.14670).

    What is not written in `scripts` is put aside before learning, so it takes no merges; every
    beginning of the list can be built from `base` and itself, so it may be cut anywhere. Some
    never come out of the spliced tokenizer, where the base joins first: `splice.prune` drops them.

    Args:
      texts: text of the new language, one text a line; read once. Nothing in the scripts is a
        DataError.
      scripts: ISO 15924 codes, such as ("Hang",), or ("Jpan",) for a union of scripts.
      coverage: share of all characters that may get a piece (SentencePiece; bytes need none).
      min_count: marks and joiners that are seen as often are among the characters.
    """
    scripts = tuple(scripts)
    words = family(base).words(base, texts)
    if base.family == "byte_level":
        learnt = _byte_level(words, count, scripts, base)
    else:
        learnt = _sentencepiece(words, count, scripts, coverage, base)
    extra = [mark for mark in marks(base, words, scripts, min_count) if mark not in learnt]
    characters = sum(len(piece) == 1 for piece in learnt)  # these are the first
    return [*learnt[:characters], *extra, *learnt[characters:]][:count]


def marks(
    base: Tokenizer, words: Mapping[str, int], scripts: tuple[str, ...], min_count: int
) -> list[str]:
    """Returns the marks and joiners of the language that the base lacks, most frequent first.

    Without them its words are spelled in bytes: they get a piece whatever share of the text they
    are. In byte-level tokenizers, which join bytes by frequency, only those of no script do.
    """
    tokenizer_family, seen = family(base), Counter[str]()
    for word, n in words.items():
        for mark in writing.marks(tokenizer_family.surface(word).decode(), scripts):
            seen[mark] += n
    if base.family == "byte_level":
        seen = Counter({m: n for m, n in seen.items() if not writing.own(scripts).fullmatch(m)})
    ranked = sorted(seen, key=lambda mark: (-seen[mark], mark))
    frequent = [mark for mark in ranked if seen[mark] >= min_count]
    return missing(base, [tokenizer_family.written(mark.encode()) for mark in frequent])


def missing(base: Tokenizer, characters: Sequence[str]) -> list[str]:
    """Returns the characters that the base has no piece for, in order.

    Those of one that cannot be built of two parts, as in bytes, come before it.
    """
    tokenizer_family = family(base)
    base_pieces = set(tokenizer_family.pieces(base))
    wanted = [character for character in characters if character not in base_pieces]
    steps = (itertools.accumulate(parts) for parts in tokenizer_family.segments(base, wanted))
    return [step for line in steps for step in line if step not in base_pieces]


def fits(surface: bytes, scripts: tuple[str, ...]) -> bool:
    """Tells whether a piece may be kept: short, in the scripts, or part of one of their characters.

    Only words in the scripts are learnt from, so half a character is half of one of theirs.
    """
    try:
        text = surface.decode()
    except UnicodeDecodeError:
        return len(surface.decode(errors="replace")) <= LONGEST
    return len(text) <= LONGEST and writing.written_in(text, scripts)


def merges(words: Mapping[str, int], count: int, min_count: int) -> list[tuple[str, str]]:
    """Learns the first `count` BPE merges of the words, in order, with the Rust trainer.

    Args:
      words: how often each occurs, none with a white space in it; letters are its characters.
      min_count: pairs seen fewer times are not merged.
    """
    scale = -(-sum(len(word) * n for word, n in words.items()) // COUNTS)
    alphabet = len({c for word in words for c in word})
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=alphabet + count, min_frequency=-(-min_count // scale), show_progress=False
    )
    learner.train_from_iterator(_repeated(words, scale), trainer)
    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]


def _sentencepiece(
    words: Mapping[str, int], count: int, scripts: tuple[str, ...], coverage: float, base: Tokenizer
) -> list[str]:
    """Learns SentencePiece pieces that the base lacks: characters first, then by rank."""
    counts, apart = Counter[str](), splits_digits(base)
    for word, n in words.items():
        if writing.own(scripts).search(word):
            line = writing.other(scripts).sub(".", word.removeprefix(SPACE))
            counts["".join(_alone(line)) if apart else line] += n
    if not counts:
        raise DataError(writing.nothing_in(scripts))
    alphabet = len({c for word in counts for c in word})
    shared = sum(writing.written_in(piece, scripts) for piece in family(base).pieces(base))
    model = _train(
        (f"{line}\t{n}" for word, n in counts.items() for line in _cut([word])),
        input_format="tsv",
        vocab_size=count + alphabet + shared + 32,
        character_coverage=coverage,
        hard_vocab_limit=False,
        max_sentencepiece_length=LONGEST,
        split_by_unicode_script=not any(map(writing.has_modifiers(scripts).search, counts)),
    )
    learnt = unknown(base, (p.piece for p in parse(model).pieces if p.type == p.NORMAL))
    fresh = [piece for piece in learnt if writing.written_in(piece, scripts)]
    if apart:
        fresh = [piece for piece in fresh if not joins_digits(piece)]
    return sorted(fresh, key=lambda piece: len(piece) > 1)  # stable: each half stays by rank


def _alone(line: str) -> Iterator[str]:
    """Yields a line in parts, every digit between full stops, over which no piece is kept."""
    for part in writing.digits_apart(line):
        yield f".{part}." if writing.is_digit(part) else part


def joins_digits(piece: str) -> bool:
    """Tells whether a piece of several characters, its space counted, has a digit among them."""
    return len(piece) > 1 and len(writing.digits_apart(piece)) > 1


def _byte_level(
    words: Mapping[str, int], count: int, scripts: tuple[str, ...], base: Tokenizer
) -> list[str]:
    """Learns byte-level pieces that the base lacks, by rank; bytes cover every character."""
    tokenizer_family = family(base)
    counts: Counter[str] = Counter()
    for word, n in words.items():
        for start, stop in writing.stretches(tokenizer_family.surface(word), scripts):
            counts[word[start:stop]] += n  # a character of the word is a byte
    if not counts:
        raise DataError(writing.nothing_in(scripts))
    surfaces = map(tokenizer_family.surface, tokenizer_family.pieces(base))
    wanted = count + sum(fits(surface, scripts) for surface in surfaces)
    learnt = unknown(base, (left + right for left, right in merges(counts, wanted, min_count=2)))
    return [piece for piece in learnt if fits(tokenizer_family.surface(piece), scripts)]


def _repeated(words: Mapping[str, int], scale: int) -> Iterator[str]:
    """Yields every word as often as it occurs, for a trainer that takes text and no counts."""
    for word, n in words.items():
        if len(word) > 1:
            line, times = word + " ", -(-n // scale)
            most = max(1, CHUNK // len(line))
            yield from (line * min(most, times - done) for done in range(0, times, most))


def _cut(texts: Iterable[str]) -> Iterator[str]:
    """Yields the same text in lines the trainer takes whole, cut at spaces where there are any."""
    for text in texts:
        while len(text) > LINE_CHARS:
            at = text.rfind(" ", LINE_CHARS // 2, LINE_CHARS)
            at = at if at > 0 else LINE_CHARS
            yield text[:at]
            text = text[at:]
        if text.strip():
            yield text


def _train(lines: Iterable[str], **options: Any) -> bytes:
    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=out,
            model_type="bpe",
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            max_sentence_length=LINE_BYTES + 192,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=1,  # one thread: the order of equal merges does not depend on timing
            minloglevel=2,
            **options,
        )
    except RuntimeError as e:
        raise ValueError(_explain(str(e))) from None
    return out.getvalue()


def _explain(error: str) -> str:
    size = re.search(r"[Vv]ocabulary size.*", error)
    if "sentences_.empty" in error.replace(" ", ""):
        return "there is no text to learn a vocabulary from"
    if "character_coverage() >= 0.98" in error:
        return "sentencepiece allows a character coverage of 0.98 to 1; change `coverage`"
    if size:
        return f"{size.group().rstrip(' .')}: change `size`, or give more text"
    return f"sentencepiece cannot learn from this text: {error}"
