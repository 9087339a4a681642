"""Compares two models by the items of a task that both were asked.

    of_scores([0, 0, 1], [1, 1, 1])               right or wrong: McNemar; else a paired bootstrap
    of_texts(signature, references, old, new)     a score of all texts together, such as chrF
    of_ratios([9, 4], [8, 4], sizes=[3, 2])       a sum of all lines by their size, as bits per byte

A change and its interval are in the unit of the scores: 0 to 1 of items, 0 to 100 of texts.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import hashlib
import json
import math
from typing import Any

from etils import epath
import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from scipy import special

from lrl_jax import storage
from lrl_jax.evaluate import intervals
from lrl_jax.evaluate.benchmark import answers, scores
from lrl_jax.evaluate.benchmark.items import Item

MAX_BYTES = 64 << 20  # of a file of items
SAME = 1e-6  # two scores of the same texts differ by rounding only
SAMPLES = 1000

# How answers may have been cleaned before they were scored: task files name one of these.
CLEANED: tuple[Callable[[str], str], ...] = (str, str.strip, answers.first_line)


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """Holds by how much a score changed between two models, and how sure that is."""

    change: float
    low: float  # bounds of the 95 % interval of the change
    high: float
    p: float  # of a change as large as this or larger, if both were equally good
    test: str  # what was computed, in words


def of_scores(before: Sequence[float], after: Sequence[float]) -> PairedTest | None:
    """Compares the scores of the same items, 0 to 1 each; None unless there are as many.

    >>> of_scores([0, 0, 1, 1], [1, 1, 1, 1]).test
    'McNemar, 2 gained, 0 lost'
    """
    if len(before) != len(after) or not before:
        return None
    change = intervals.paired_bootstrap(before, after)
    if not {*before, *after} <= {0.0, 1.0}:
        return PairedTest(change.change, change.low, change.high, change.p, "paired bootstrap")
    test = intervals.mcnemar([x == 1 for x in before], [x == 1 for x in after])
    words = f"McNemar, {test.gained} gained, {test.lost} lost"
    return PairedTest(change.change, change.low, change.high, test.p, words)


def of_texts(
    signature: str, references: Sequence[str], before: Sequence[str], after: Sequence[str]
) -> PairedTest:
    """Compares corpus scores of two models' texts, 0 to 100, by resampling sentences (Koehn 2004).

    Args:
      signature: sacrebleu's, which says what is computed.
    """
    scorer = scorer_of(signature)
    old_NC, new_NC = (_counts(scorer, texts, references) for texts in (before, after))
    whole = _score(scorer, new_NC.sum(axis=0)) - _score(scorer, old_NC.sum(axis=0))
    times_SN = _resamples(len(references))
    sums = (times_SN @ counts_NC for counts_NC in (old_NC, new_NC))
    old_S, new_S = ([_score(scorer, sum_C) for sum_C in sums_SC] for sums_SC in sums)
    drawn_S = np.subtract(new_S, old_S)
    low, high = np.percentile(drawn_S, [2.5, 97.5])
    against = int(np.sum(drawn_S * np.sign(whole) <= 0)) if whole else SAMPLES
    p = min(1.0, 2 * (against + 1) / (SAMPLES + 1))
    return PairedTest(whole, float(low), float(high), p, "paired bootstrap of all texts")


def interval_of_texts(
    signature: str, references: Sequence[str], texts: Sequence[str]
) -> tuple[float, float]:
    """Returns the 95 % interval of a corpus score of texts, by resampling sentences."""
    scorer = scorer_of(signature)
    drawn_SC = _resamples(len(references)) @ _counts(scorer, texts, references)
    low, high = np.percentile([_score(scorer, sum_C) for sum_C in drawn_SC], [2.5, 97.5])
    return float(low), float(high)


def of_ratios(
    before: Sequence[float], after: Sequence[float], sizes: Sequence[float]
) -> PairedTest | None:
    """Compares two sums over the same lines, each divided by the sum of the lines' sizes.

    The interval is Student's, of what each line's difference is apart from its share of the whole
    change. None for fewer than two lines.

    >>> test = of_ratios([9, 4, 8, 4], [8, 3, 8, 3], [3, 2, 3, 2])
    >>> round(test.change, 3), round(test.low, 3), round(test.high, 3), test.test
    (-0.3, -0.692, 0.092, 'paired, 4 lines')
    """
    count = len(sizes)
    if count < 2 or not len(before) == len(after) == count:
        return None
    differences_N, sizes_N = np.subtract(after, before), np.asarray(sizes, np.float64)
    change = float(differences_N.sum() / sizes_N.sum())
    apart_N = differences_N - change * sizes_N
    error = math.sqrt(count / (count - 1) * float(np.sum(apart_N**2))) / float(sizes_N.sum())
    spread = float(special.stdtrit(count - 1, 0.975)) * error
    p = 2 * float(special.stdtr(count - 1, -abs(change) / error)) if error else float(not change)
    return PairedTest(change, change - spread, change + spread, p, f"paired, {count} lines")


def sums_of(
    lines: Sequence[Item], fields: tuple[str, str], score: float
) -> tuple[list[float], list[float]]:
    """Returns two fields of each line; ([], []) unless the ratio of their sums is the score."""
    try:
        values = [[float(line[field]) for line in lines] for field in fields]
    except (KeyError, TypeError, ValueError):
        return [], []
    whole, size = map(math.fsum, values)
    if not (size and math.isclose(whole / size, score, rel_tol=SAME)):
        return [], []
    return values[0], values[1]


def scorer_of(signature: str) -> BLEU | CHRF:
    """Returns the scorer that a signature of sacrebleu describes: BLEU, spBLEU, chrF or chrF++."""
    facts = dict(field.split(":", 1) for field in signature.split("|") if ":" in field)
    if "nw" in facts:
        return CHRF(word_order=int(facts["nw"]))
    return BLEU(tokenize=facts.get("tok", "13a"), effective_order=facts.get("eff") == "yes")


def texts_of(items: Sequence[Item], signature: str, score: float) -> tuple[list[str], list[str]]:
    """Returns the references of items, and their answers as they were scored; ([], []) if unknown.

    What is cleaned off an answer stands in the task's file, which may be another one by now. So
    answers count only if they give the score that was measured.
    """
    if not items or not all("answer" in item and item.get("references") for item in items):
        return [], []
    scorer = scorer_of(signature)
    references = [str(item["references"][0]) for item in items]
    for cleaned in CLEANED:
        texts = [cleaned(str(item["answer"])) for item in items]
        if abs(_score(scorer, _counts(scorer, texts, references).sum(axis=0)) - score) < SAME:
            return references, texts
    return [], []


def read(path: epath.PathLike, result: Mapping[str, Any]) -> list[Item]:
    """Returns the items of a result; [] unless the file has exactly those that it was made from.

    A look at a few questions leaves other items in the same file.
    """
    items = read_lines(path)
    try:
        each = scores.compact([item["scores"] for item in items])
    except (KeyError, TypeError, AttributeError):
        return []
    return items if items and each == result.get("each") else []


def read_lines(path: epath.PathLike) -> list[Item]:
    """Returns the values of a file of JSON lines; [] where they cannot be read."""
    try:
        lines = storage.read_bytes(epath.Path(path), MAX_BYTES).splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


def prompts(items: Sequence[Item]) -> str:
    """Returns a digest of all that was asked: prompts and choices; "" without items."""
    asked = [[item.get("prompt"), item.get("choices")] for item in items]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest() if asked else ""


def _counts(scorer: BLEU | CHRF, texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    statistics = scorer._extract_corpus_statistics([*texts], [[*references]])
    return np.array(statistics, np.float64)


def _score(scorer: BLEU | CHRF, counts_C: np.ndarray) -> float:
    counts: Any = counts_C  # sacrebleu declares a list, and takes any sequence
    return float(scorer._compute_score_from_stats(counts).score)


def _resamples(count: int, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """Returns how often each resample has each item, float64 [samples, count]."""
    random = np.random.default_rng(seed)
    return random.multinomial(count, np.full(count, 1 / count), samples).astype(np.float64)
