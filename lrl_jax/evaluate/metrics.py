"""Scores text against text: translations (sacrebleu) and baselines of character n-grams.

A baseline can be compared with a model's bits per byte: it says what mere counts of characters in
the training text achieve on the same test text.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
import math
from typing import Any

from sacrebleu.metrics import BLEU, CHRF

SPACELESS = ("Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai", "Tibt")
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
    tokenizer = "char" if language.rpartition("_")[2] in SPACELESS else "13a"
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
