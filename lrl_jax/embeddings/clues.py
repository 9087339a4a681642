"""Gathers what strategies need to know about new tokens, from tokenizers, text and other models.

    need = STRATEGIES["focus"].needs
    clues = build(need, base, new, splice, Sources(text=("ko.txt",)))

Only the clues that are asked for are built. Text is read line by line, `Sources.lines` at most.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import json
import re

from etils import epath
import numpy as np

from lrl_jax import text
from lrl_jax.embeddings import helper, vectors
from lrl_jax.embeddings.moments import Clues, Matrix, Space
from lrl_jax.vocab.pieces.splice import Splice, join
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import JSON, Tokenizer

BATCH = 10_000  # words or lines spelled at a time
BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # SentencePiece's name of a piece that is a single byte


@dataclasses.dataclass(frozen=True)
class Sources:
    """Names the files that clues are made from.

    Attributes:
      text: plain text of the new language.
      lines: how many lines of the text are read.
      source_words: word vectors of the base language, a `.vec` file.
      target_words: word vectors of the new language; the same file if it has both languages.
      dictionary: lines of a base-language word, a tab and its translation; needed when the two
        files of vectors were not trained or aligned together.
      helper: a Hugging Face folder whose tokenizer has the new tokens.
    """

    text: tuple[str, ...] = ()
    lines: int = 300_000
    source_words: str = ""
    target_words: str = ""
    dictionary: str = ""
    helper: str = ""


def build(
    needs: Iterable[str],
    base: Tokenizer,
    new: Tokenizer,
    splice: Splice,
    sources: Sources,
    matrix: Matrix = "input",
) -> Clues:
    """Builds the clues named in `needs`, as far as `sources` has what they are made from.

    `strategies.grow` refuses to start when a clue is missing.

    Raises:
      ValueError: a source that cannot be used.
    """
    needs, clues = set(needs), {}
    if "bytes_V" in needs:
        clues["bytes_V"] = np.array([len(surface) for surface in surfaces(base)])
    if "parents" in needs:
        clues["parents"] = parents(base, new, splice)
    if "contexts" in needs and sources.text:
        clues["contexts"] = contexts(base, new, splice, lines(sources))
    if "tokens" in needs and sources.text:
        clues["tokens"] = token_space(new, splice, lines(sources))
    if "words" in needs and sources.source_words and sources.target_words:
        clues["words"] = word_space(base, new, splice, sources)
    if "helper" in needs and sources.helper:
        clues["helper"] = helper_space(base, new, splice, sources.helper, matrix)
    return Clues(splice, matrix, **clues)


def counts(base: Tokenizer, texts: Iterable[str]) -> np.ndarray:
    """Returns how often the base tokenizer uses each id in `texts`, for `moments.calibrate`."""
    count_V = np.zeros(base.size, np.int64)
    for batch in _batches(texts):
        ids = np.fromiter(itertools.chain(*base.encode_batch(batch)), np.int64)
        count_V += np.bincount(ids, minlength=base.size)
    return count_V


# ---------------------------------------------------------------------------- text of a token
def surfaces(tokenizer: Tokenizer) -> list[bytes]:
    """Returns the bytes of text of each id; b"" for control tokens and ids without a piece."""
    family = tokenizers.family(tokenizer)
    control = _control(tokenizer)
    texts = []
    for i, piece in enumerate(family.pieces(tokenizer)):
        byte = BYTE.fullmatch(piece) if tokenizer.family == "sentencepiece" else None
        if i in control or not piece:
            texts.append(b"")
        elif byte:
            texts.append(bytes([int(byte[1], 16)]))
        else:
            texts.append(family.surface(piece))
    return texts


def overlap(ours: Sequence[bytes], theirs: Sequence[bytes]) -> dict[int, int]:
    """Maps ids of `ours` to the ids of `theirs` with the same text.

    When several ids have the same text, as a letter and its byte piece do, the last one is taken.
    SentencePiece lists byte pieces first, and the model was trained with the letter.

    >>> overlap([b"", b"x", b" a", b"x"], [b"", b"q", b" a", b"x"])
    {3: 3, 2: 2}
    """
    our_place, their_place = (
        {surface: i for i, surface in enumerate(all_) if surface} for all_ in (ours, theirs)
    )
    return {i: their_place[surface] for surface, i in our_place.items() if surface in their_place}


def _control(tokenizer: Tokenizer) -> set[int]:
    if tokenizer.family == "sentencepiece":
        from lrl_jax.vocab.tokenizer.sentencepieces import Piece, proto_of

        kinds = (Piece.CONTROL, Piece.UNKNOWN)
        return {i for i, piece in enumerate(proto_of(tokenizer).pieces) if piece.type in kinds}
    form = json.loads(tokenizer.files[JSON])
    return {token["id"] for token in form.get("added_tokens", []) if token.get("special")}


# ---------------------------------------------------------------------------- merges and contexts
def parents(base: Tokenizer, new: Tokenizer, splice: Splice) -> dict[int, tuple[int, int]]:
    """Returns the two ids (of `new`) that BPE merges into each added token, where there are two.

    The text of the token is first encoded as the base encodes it inside a sentence. Then the added
    pieces are merged, best rank first, except for the token itself, which leaves the two ids.
    """
    family = tokenizers.family(new)
    written = family.pieces(new)
    place = {piece: i for i, piece in enumerate(written) if piece}
    added = sorted(splice.added)
    ranks = {written[i]: rank for rank, i in enumerate(added)}
    joined_from = {}
    for i, parts in zip(added, family.segments(base, [written[i] for i in added]), strict=True):
        rank = ranks.pop(written[i])
        left, _ = join(parts, ranks)
        ranks[written[i]] = rank
        if len(left) == 2 and all(piece in place for piece in left):
            joined_from[i] = (place[left[0]], place[left[1]])
    return joined_from


def contexts(
    base: Tokenizer, new: Tokenizer, splice: Splice, texts: Iterable[str]
) -> dict[int, Counter[tuple[int, ...]]]:
    """Counts, for each added token, which old ids the base uses for the same text in `texts`.

    Both tokenizers encode each word, and a new token gets the old ids that share bytes with it.
    Words that the tokenizers decode to different text (an unknown character) are skipped.
    """
    family = tokenizers.family(new)
    old_V, new_W = (np.array([len(surface) for surface in surfaces(t)]) for t in (base, new))
    counts: dict[int, Counter[tuple[int, ...]]] = {}
    words = family.words(new, texts)
    for batch in _batches(words):
        spelled = zip(batch, family.spell(base, batch), family.spell(new, batch), strict=True)
        for word, old_ids, new_ids in spelled:
            if splice.added.keys().isdisjoint(new_ids):
                continue
            for i, under in _under(old_ids, new_ids, old_V, new_W):
                if i in splice.added:
                    counts.setdefault(i, Counter())[under] += words[word]
    return counts


def _under(
    old_ids: list[int], new_ids: list[int], old_V: np.ndarray, new_W: np.ndarray
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yields each new id with the old ids whose bytes it shares."""
    old_end, new_end = np.cumsum(old_V[old_ids]), np.cumsum(new_W[new_ids])
    if not old_ids or old_end[-1] != new_end[-1]:
        return
    first = np.searchsorted(old_end, new_end - new_W[new_ids], side="right")
    last = np.searchsorted(old_end, new_end, side="left")
    for i, start, stop in zip(new_ids, first, last, strict=True):
        yield i, tuple(old_ids[start : stop + 1])


# ---------------------------------------------------------------------------- spaces
def token_space(new: Tokenizer, splice: Splice, texts: Iterable[str]) -> Space:
    """Returns vectors of tokens, learnt from their neighbours in text of the new language.

    The text is encoded by the new tokenizer. Tokens that the splice kept count as old tokens, the
    others as added ones.
    """
    ids, rows_NE = vectors.learn(new, texts)
    is_old = np.isin(ids, list(splice.kept))
    old_ids = np.array([splice.kept[int(i)] for i in ids[is_old]], np.int64)
    order = np.argsort(old_ids)
    return Space(old_ids[order], rows_NE[is_old][order], ids[~is_old], rows_NE[~is_old])


def word_space(base: Tokenizer, new: Tokenizer, splice: Splice, sources: Sources) -> Space:
    """Returns vectors of old tokens from word vectors of the base language, and of added tokens
    from word vectors of the new language.

    Raises:
      ValueError: files of different widths, or a dictionary whose words they do not have.
    """
    source = vectors.read(sources.source_words)
    target = source
    if sources.target_words != sources.source_words:
        target = vectors.read(sources.target_words)
    if target.rows_NE.shape[1] != source.rows_NE.shape[1]:
        raise ValueError(
            f"{sources.target_words} has vectors of {target.rows_NE.shape[1]} numbers and "
            f"{sources.source_words} of {source.rows_NE.shape[1]}; take files of one width"
        )
    if sources.dictionary:
        turn_EE = _turn(target, source, sources.dictionary)
        target = dataclasses.replace(target, rows_NE=target.rows_NE @ turn_EE)
    old_ids, old_ME = vectors.of_tokens(base, source)
    new_ids, new_NE = vectors.of_tokens(new, target)
    is_new = np.isin(new_ids, list(splice.added))
    return Space(old_ids, old_ME, new_ids[is_new], new_NE[is_new])


def helper_space(
    base: Tokenizer, new: Tokenizer, splice: Splice, folder: epath.PathLike, matrix: Matrix
) -> Space:
    """Returns vectors of tokens from the embeddings of a helper model, matched by their text.

    Raises:
      ValueError: a helper that cannot be read, or that shares no token with the base.
    """
    helper_tokenizer = tokenizers.load(folder)
    theirs = surfaces(helper_tokenizer)
    old = overlap(surfaces(base), theirs)
    fresh = {i: there for i, there in overlap(surfaces(new), theirs).items() if i in splice.added}
    if not fresh:
        raise ValueError(
            f"{folder}: its tokenizer has none of the {len(splice.added)} new tokens; take a "
            "helper made for the new language"
        )
    rows_HE = helper.embedding(folder, matrix)
    if len(rows_HE) < helper_tokenizer.size:
        raise ValueError(
            f"{folder}: {len(rows_HE)} rows for {helper_tokenizer.size} pieces; model and "
            "tokenizer are not of one checkpoint"
        )
    old_ids, old_ME = _pointing(old, rows_HE)
    new_ids, new_NE = _pointing(fresh, rows_HE)
    return Space(old_ids, old_ME, new_ids, new_NE)


def _turn(target: vectors.WordVectors, source: vectors.WordVectors, dictionary: str) -> np.ndarray:
    """Returns the rotation of target-language vectors onto the vectors of their translations."""
    from_place = {word: i for i, word in enumerate(target.words)}
    to_place = {word: i for i, word in enumerate(source.words)}
    pairs = [
        (from_place[translation], to_place[word])
        for word, translation in vectors.read_pairs(dictionary)
        if word in to_place and translation in from_place
    ]
    if not pairs:
        raise ValueError(
            f"{dictionary}: both files of word vectors have none of its pairs; want the word of "
            "the base language first, a tab, and its translation"
        )
    from_ids, to_ids = np.array(pairs).T
    return vectors.procrustes(target.rows_NE[from_ids], source.rows_NE[to_ids])


def _pointing(row_of: Mapping[int, int], rows_HE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids and float32 rows of the matched tokens, without rows that are all zero."""
    ids = np.array(sorted(row_of), np.int64)
    rows_NE = rows_HE[[row_of[int(i)] for i in ids]].astype(np.float32)
    good_N = np.linalg.norm(rows_NE, axis=1) > 0
    return ids[good_N], rows_NE[good_N]


# ---------------------------------------------------------------------------- reading
def lines(sources: Sources) -> Iterator[str]:
    """Returns the lines of text that clues are made from."""
    return itertools.islice(text.read_many(sources.text), sources.lines)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while batch := list(itertools.islice(texts, BATCH)):
        yield batch
