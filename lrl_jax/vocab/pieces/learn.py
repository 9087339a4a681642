"""Learns BPE vocabularies from raw text: a whole one, or pieces of a language that a base lacks.

The same text gives the same pieces on every run. Memory grows with distinct words, not with text.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import io
import json
import re
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from lrl_jax.text import DataError
from lrl_jax.vocab import scripts as writing
from lrl_jax.vocab.pieces.splice import unknown
from lrl_jax.vocab.tokenizer.load import family, from_bytes
from lrl_jax.vocab.tokenizer.sentencepieces import SPACE, parse
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
    texts: Iterable[str], count: int, scripts: Sequence[str], coverage: float, base: Tokenizer
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
    """
    scripts = tuple(scripts)
    words = family(base).words(base, texts)
    if base.family == "byte_level":
        return _byte_level(words, count, scripts, base)[:count]
    return _sentencepiece(words, count, scripts, coverage, base)[:count]


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
    counts: Counter[str] = Counter()
    for word, n in words.items():
        if writing.own(scripts).search(word):
            counts[writing.other(scripts).sub(".", word.removeprefix(SPACE))] += n
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
    )
    learnt = unknown(base, (p.piece for p in parse(model).pieces if p.type == p.NORMAL))
    fresh = [piece for piece in learnt if writing.written_in(piece, scripts)]
    return sorted(fresh, key=lambda piece: len(piece) > 1)  # stable: each half stays by rank


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
