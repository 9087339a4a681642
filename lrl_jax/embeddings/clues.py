"""Gathers what strategies need to know about new tokens, from tokenizers, text and other models.

Only the clues that are asked for are built. Text is read line by line, `Init.lines` at most.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import json
from typing import Any

from etils import epath
import numpy as np
import safetensors

from lrl_jax import storage
from lrl_jax.data.read import plain
from lrl_jax.embeddings import snippets, vectors
from lrl_jax.embeddings.moments import Clues, Matrix, Space
from lrl_jax.recipe.schema import Init, Words
from lrl_jax.vocab.pieces.splice import Splice, join
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.codecs import BYTE
from lrl_jax.vocab.tokenizer.types import JSON, Tokenizer, batches

BATCH = 10_000  # words or lines spelled at a time
INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
MAX_INDEX = 16 << 20  # bytes of the index
# Names of the matrix in Hugging Face checkpoints: Llama and most others, GPT-2, BLOOM, OPT, NeoX.
INPUT = (
    "model.embed_tokens.weight",
    "transformer.wte.weight",
    "wte.weight",
    "transformer.word_embeddings.weight",
    "word_embeddings.weight",
    "model.decoder.embed_tokens.weight",
    "gpt_neox.embed_in.weight",
)
OUTPUT = ("lm_head.weight", "embed_out.weight")


def build(
    needs: Iterable[str],
    base: Tokenizer,
    new: Tokenizer,
    splice: Splice,
    init: Init,
    matrix: Matrix = "input",
) -> Clues:
    """Builds the clues named in `needs`, as far as `init` names what they are made from.

    `strategies.grow` refuses to start when a clue is missing.
    """
    needs, clues = set(needs), {}
    if "bytes_V" in needs:
        clues["bytes_V"] = np.array([len(surface) for surface in surfaces(base)])
    if "parents" in needs:
        clues["parents"] = parents(base, new, splice)
    if "contexts" in needs and init.text:
        clues["contexts"] = contexts(base, new, splice, lines(init))
    if "tokens" in needs and init.text:
        clues["tokens"] = token_space(new, splice, lines(init))
    if "snippets" in needs and init.text:
        lengths = [np.array([*map(len, surfaces(tokenizer))]) for tokenizer in (base, new)]
        clues["snippets"] = snippets.cut(base, new, splice, lines(init), lengths, init.distillation)
    if "words" in needs and init.words and init.words.source and init.words.target:
        clues["words"] = word_space(base, new, splice, init.words)
    if "helper" in needs and init.helper:
        clues["helper"] = helper_space(base, new, splice, init.helper, matrix)
    return Clues(splice, matrix, **clues)


def counts(base: Tokenizer, texts: Iterable[str]) -> np.ndarray:
    """Returns how often the base tokenizer uses each id in `texts`, for `moments.calibrate`."""
    count_V = np.zeros(base.size, np.int64)
    for batch in batches(texts, BATCH):
        ids = np.fromiter(itertools.chain(*base.encode_batch(batch)), np.int64)
        count_V += np.bincount(ids, minlength=base.size)
    return count_V


def lines(init: Init) -> Iterator[str]:
    """Returns the lines of text that clues are made from."""
    return itertools.islice(plain.lines(*init.text), init.lines)


# ---------------------------------------------------------------------------- text of a token
def surfaces(tokenizer: Tokenizer) -> list[bytes]:
    """Returns the bytes of text of each id; b"" for control tokens and ids without a piece."""
    family, control = tokenizers.family(tokenizer), set(tokenizer.controls.values())
    if tokenizer.family == "byte_level":  # added tokens that are not special stand in text
        form = json.loads(tokenizer.files[JSON])
        control = {token["id"] for token in form.get("added_tokens", []) if token.get("special")}
    texts = []
    for i, piece in enumerate(family.pieces(tokenizer)):
        byte = BYTE.fullmatch(piece) if tokenizer.family == "sentencepiece" else None
        if i in control:
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
        halves, _ = join(parts, ranks)
        ranks[written[i]] = rank
        if len(halves) == 2 and place.keys() >= set(halves):
            joined_from[i] = (place[halves[0]], place[halves[1]])
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
    for batch in batches(words, BATCH):
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
    """Returns vectors of tokens, learnt from their neighbours in text of the new language."""
    ids, rows_NE = vectors.learn(new, texts)
    is_old = np.isin(ids, list(splice.kept))
    old_ids = np.array([splice.kept[int(i)] for i in ids[is_old]], np.int64)
    order = np.argsort(old_ids)
    return Space(old_ids[order], rows_NE[is_old][order], ids[~is_old], rows_NE[~is_old])


def word_space(base: Tokenizer, new: Tokenizer, splice: Splice, words: Words) -> Space:
    """Returns vectors of old and of added tokens, from word vectors of the language of each."""
    source = vectors.read(words.source)
    target = source if words.target == words.source else vectors.read(words.target)
    if target.rows_NE.shape[1] != source.rows_NE.shape[1]:
        raise ValueError(
            f"{words.target} has vectors of {target.rows_NE.shape[1]} numbers and "
            f"{words.source} of {source.rows_NE.shape[1]}; take files of one width"
        )
    if words.dictionary:
        turn_EE = _turn(target, source, words.dictionary)
        target = dataclasses.replace(target, rows_NE=target.rows_NE @ turn_EE)
    old_ids, old_ME = vectors.of_tokens(base, source)
    new_ids, new_NE = vectors.of_tokens(new, target)
    is_new = np.isin(new_ids, list(splice.added))
    return Space(old_ids, old_ME, new_ids[is_new], new_NE[is_new])


def helper_space(
    base: Tokenizer, new: Tokenizer, splice: Splice, folder: epath.PathLike, matrix: Matrix
) -> Space:
    """Returns vectors of tokens from the embeddings of a helper model, matched by their text."""
    helper_tokenizer = tokenizers.load(folder)
    theirs = surfaces(helper_tokenizer)
    old = overlap(surfaces(base), theirs)
    fresh = {i: there for i, there in overlap(surfaces(new), theirs).items() if i in splice.added}
    if not fresh:
        raise ValueError(
            f"{folder}: its tokenizer has none of the {len(splice.added)} new tokens; take a "
            "helper made for the new language"
        )
    rows_HE = embedding(folder, matrix)
    if len(rows_HE) < helper_tokenizer.size:
        raise ValueError(
            f"{folder}: {len(rows_HE)} rows for {helper_tokenizer.size} pieces; model and "
            "tokenizer are not of one checkpoint"
        )
    return Space(*_pointing(old, rows_HE), *_pointing(fresh, rows_HE))


def _turn(target: vectors.WordVectors, source: vectors.WordVectors, dictionary: str) -> np.ndarray:
    """Returns the rotation of target-language vectors onto the vectors of their translations."""
    from_place, to_place = (
        {word: i for i, word in enumerate(side.words)} for side in (target, source)
    )
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
    return vectors.nonzero(ids, rows_NE)


# ---------------------------------------------------------------------------- a helper's rows
def embedding(folder: epath.PathLike, matrix: Matrix) -> np.ndarray:
    """Reads the input or the output matrix of a helper of any architecture, a row for each token.

    Only safetensors and JSON files of the folder are read. A tied model has one matrix for both.
    """
    folder = epath.Path(folder)
    wanted = INPUT if matrix == "input" else OUTPUT + INPUT
    where = {}
    for path in _files(folder):
        with _open(path) as file:
            where |= dict.fromkeys(set(file.keys()) & set(wanted), path)
    present = [name for name in wanted if name in where]
    if not present:
        raise ValueError(f"{folder}: holds none of {', '.join(wanted)}; take another helper")
    with _open(where[present[0]]) as file:
        return file.get_tensor(present[0])


def _files(folder: epath.Path) -> list[epath.Path]:
    storage.refuse_links_out(folder)
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():  # as transformers chooses
        return [folder / WEIGHTS]
    try:
        index = storage.read_json(folder / INDEX, MAX_INDEX)
        names = sorted(set(index["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"{folder / INDEX}: cannot be read ({e!r}); fetch it again") from None
    for name in names:
        if not isinstance(name, str) or epath.Path(name).name != name:
            raise ValueError(f"{folder / INDEX}: names {name!r}, which is not a file beside it")
    return [folder / name for name in names]


def _open(path: epath.Path) -> Any:
    if not path.exists():
        raise ValueError(f"{path}: no such file; want a local Hugging Face folder with safetensors")
    try:
        return safetensors.safe_open(str(path), framework="np")
    except safetensors.SafetensorError as e:
        raise ValueError(f"{path}: damaged or cut short ({e}); fetch it again") from None
