"""Scores text against text: translations, summaries, classes, and baselines of n-grams.

A baseline can be compared with a model's bits per byte: it says what mere counts of characters in
the training text achieve on the same test text.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import regex
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.tokenizers import tokenizer_spm

from lrl_jax.evaluate import intervals
from lrl_jax.recipe.vocab import did_you_mean
from lrl_jax.vocab import scripts

SPBLEU = ("flores200", "flores101")  # sacrebleu's tokenizers that read a SentencePiece model
SPACELESS = ("Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai", "Tibt")
Streams = Sequence[Sequence[Any]]  # of str, and None where a text has fewer references
START = ""  # marks the start of a line in n-grams; no character equals it


def translation(
    hypotheses: Sequence[str], references: Sequence[str], language: str
) -> dict[str, Any]:
    """Returns chrF, chrF++ and BLEU (0 to 100) of translations into `language`, a FLORES code.

    chrF (Popovic 2015; character 6-grams, beta 2) is the most reliable of them, because it does not
    split text into words. BLEU uses sacrebleu's tokenizer `13a`, or `char` for scripts written
    without spaces. The result names the tokenizer and has sacrebleu's signature of every number.

    >>> translation(["the cat"], ["the cat"], "eng_Latn")["chrf"]
    100.0
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(
            f"{len(hypotheses)} translations for {len(references)} references; "
            "want one each, and at least one"
        )
    tokenizer = bleu_tokenizer(language)
    scorers = {"chrf": CHRF(), "chrf++": CHRF(word_order=2), "bleu": BLEU(tokenize=tokenizer)}
    scores = {
        name: scorer.corpus_score(list(hypotheses), [list(references)]).score
        for name, scorer in scorers.items()
    }
    return {
        **scores,
        "bleu_tokenizer": tokenizer,
        "signatures": {name: str(scorer.get_signature()) for name, scorer in scorers.items()},
        "lines": len(references),
    }


def bleu_tokenizer(language: str) -> str:
    """Returns how sacrebleu splits words of a language, a FLORES code, for BLEU."""
    return "char" if language.rpartition("_")[2] in SPACELESS else "13a"


def streams(references: Iterable[Sequence[str]]) -> Streams:
    """Returns the references of every text as sacrebleu takes them: first ones, second ones, ...

    >>> streams([["a", "b"], ["c"]])
    [['a', 'c'], ['b', None]]
    """
    return [[*stream] for stream in itertools.zip_longest(*references)]


def interval(
    scorer: BLEU | CHRF,
    hypotheses: Sequence[str],
    references: Streams,
    samples: int = intervals.SAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the 95 % interval of a corpus score (0 to 100) by resampling its sentences.

    `references` are as `streams` returns them.

    sacrebleu's own (`n_bootstrap`) ends in a TypeError where some resamples score 0, as those of a
    weak model do: it takes the mean of Python's and numpy's numbers together.
    """
    counts = scorer._extract_corpus_statistics(list(hypotheses), references)
    counts_NC = np.array(counts, np.float64)

    def resampled(indices_N: np.ndarray) -> float:
        return float(scorer._compute_score_from_stats(counts_NC[indices_N].sum(axis=0)).score)

    return intervals.bootstrap(resampled, len(counts_NC), seed, samples)


def spbleu(
    hypotheses: Sequence[str],
    references: Streams,
    tokenizer: str = "flores200",
) -> dict[str, Any]:
    """Returns spBLEU (0 to 100) under "spbleu", or "spbleu_note" that says why not.

    spBLEU is BLEU over the pieces of a SentencePiece model of 101 or 200 languages (arXiv
    2106.03193). sacrebleu fetches that model when it is first asked for; here nothing is fetched,
    and no other tokenizer stands in: the file has to be at its place.

    Args:
      references: as `streams` returns them.
      tokenizer: `flores101`, as in most papers up to 2023, or `flores200`. They cannot be compared.
    """
    place = spbleu_model(tokenizer)
    if not place.exists():
        url = tokenizer_spm.SPM_MODELS[tokenizer]["url"]
        note = f"spBLEU was not measured: place {url} at {place}"
        return {"spbleu": None, "spbleu_note": note}
    scorer = BLEU(tokenize=tokenizer, effective_order=True)
    score = scorer.corpus_score(list(hypotheses), references).score
    return {"spbleu": score, "spbleu_signature": str(scorer.get_signature())}


def spbleu_model(tokenizer: str) -> Path:
    """Returns where sacrebleu looks for the model of a tokenizer; a ValueError if it knows none."""
    if tokenizer not in SPBLEU:
        raise ValueError(
            f"no spBLEU tokenizer {tokenizer!r}; there are {', '.join(SPBLEU)}"
            f"{did_you_mean(tokenizer, SPBLEU)}"
        )
    name = os.path.basename(tokenizer_spm.SPM_MODELS[tokenizer]["url"])
    return Path(tokenizer_spm.SACREBLEU_DIR) / "models" / name


def rouge_l(hypothesis: str, reference: str) -> float:
    """Returns ROUGE-L (0 to 1): F1 of the longest common subsequence of words (Lin 2004).

    Words are runs of letters, marks and digits of any script, in lower case; a character of a
    script without spaces is a word of its own. The usual package drops every character that is not
    ASCII, and so scores most languages 0; XL-Sum's fork has stemmers for some, and ours has none.

    >>> rouge_l("The cat sat.", "the cat has sat")  # 3 words of 3 and of 4
    0.8571428571428571
    """
    predicted, wanted = _words(hypothesis), _words(reference)
    longest = [0] * (len(wanted) + 1)  # common subsequence with the first n words of the reference
    for word in predicted:
        diagonal = 0
        for n, other in enumerate(wanted, start=1):
            diagonal, longest[n] = (
                longest[n],
                diagonal + 1 if word == other else max(longest[n], longest[n - 1]),
            )
    return 2 * longest[-1] / (len(predicted) + len(wanted)) if longest[-1] else 0.0


def macro_f1(guesses: Sequence[Any], targets: Sequence[Any]) -> float:
    """Returns the mean over classes of F1 (0 to 1), as scikit-learn's `average="macro"`.

    Classes are those that are guessed or right for some item.

    >>> macro_f1([0, 0, 0], [0, 0, 1])  # (2 * 2 / (3 + 2) + 0) / 2
    0.4
    """
    if len(guesses) != len(targets) or not targets:
        raise ValueError(
            f"{len(guesses)} guesses for {len(targets)} targets; want one each, and at least one"
        )
    guessed, wanted = Counter(guesses), Counter(targets)
    right = Counter(g for g, t in zip(guesses, targets, strict=True) if g == t)
    classes = guessed | wanted
    return sum(2 * right[c] / (guessed[c] + wanted[c]) for c in classes) / len(classes)


def ngram_bits_per_byte(train_texts: Iterable[str], test_texts: Iterable[str], order: int) -> float:
    """Returns bits per UTF-8 byte of a smoothed character n-gram model (1: unigram, 2: bigram).

    Characters are Unicode code points, which in Korean are syllables. The smoothing is interpolated
    Witten-Bell (Chen and Goodman 1998), which has no parameters to tune: a context that was seen n
    times before t different characters gives the share t / (n + t) to the next shorter context. The
    shortest context is uniform over the characters seen in training and an escape. A character that
    was not seen costs the escape and 8 bits for each of its bytes.

    Like `bits_per_byte.score`, it scores lines without their newlines.

    >>> round(ngram_bits_per_byte(["ab"], ["ab"], order=1), 3)  # each (1 + 2/3) / (2 + 2)
    1.263
    """
    counts, seen, kinds = _count(train_texts, order)

    def probability(gram: tuple[str, ...]) -> float:
        context, character = gram[:-1], gram[-1]
        if context:
            shorter = probability(gram[1:])
        else:
            spelt = 1.0 if gram in counts else 256.0 ** -len(character.encode())
            shorter = spelt / (kinds[()] + 1)
        if not seen[context]:
            return shorter
        return (counts[gram] + kinds[context] * shorter) / (seen[context] + kinds[context])

    bits, size = 0.0, 0
    for text in test_texts:
        bits -= sum(math.log2(probability(gram)) for gram in _grams(text, order))
        size += len(text.encode())
    if not size:
        raise ValueError("the test text of a baseline is empty")
    return bits / size


def _count(texts: Iterable[str], order: int) -> tuple[Counter, Counter, Counter]:
    """Returns counts of n-grams up to `order`, and of each context and the characters after it."""
    grams = (gram for text in texts for gram in _grams(text, order))
    counts = Counter(gram[i:] for gram in grams for i in range(order))
    if not counts:
        raise ValueError("the training text of a baseline is empty")
    kinds = Counter(gram[:-1] for gram in counts)
    seen: Counter[tuple[str, ...]] = Counter()
    for gram, count in counts.items():
        seen[gram[:-1]] += count
    return counts, seen, kinds


def _grams(text: str, order: int) -> Iterator[tuple[str, ...]]:
    """Yields every character of a line together with the order - 1 characters before it."""
    padded = [START] * (order - 1) + list(text)
    for end in range(order, len(padded) + 1):
        yield tuple(padded[end - order : end])


def _words(text: str) -> list[str]:
    spaceless = scripts.own(scripts.UNSPACED)
    return regex.findall(r"[\w\p{M}]+", spaceless.sub(r" \g<0> ", text.lower()))
