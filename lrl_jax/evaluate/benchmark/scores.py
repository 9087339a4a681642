"""Scores the items of a task: each by itself, and all together with chance and 95 % intervals.

    each = of_choices(question, nats)         {"acc": 1.0, "acc_norm": 0.0, "acc_bytes": 1.0}
    each = of_answer(task, question, text)    {"squad_f1": 0.5, ...}
    summary(task, questions, each, texts)     {"scores": {...}, "intervals": {...}, "chance": ...}

Scores of an item are from 0 to 1, those of a task from 0 to 100.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from typing import Any
import unicodedata

from sacrebleu.metrics import BLEU, CHRF

from lrl_jax.evaluate import intervals, metrics
from lrl_jax.evaluate.benchmark import answers, squad
from lrl_jax.evaluate.benchmark.form import ALWAYS
from lrl_jax.evaluate.benchmark.prompts import Question
from lrl_jax.evaluate.task_files import BenchmarkTask

OF_TEXTS = ("chrf", "chrf++", "bleu", "spbleu")  # of all answers together, not a mean over items
SHARES = (*ALWAYS, "squad_em", "containment", "exact_match", "number", "letter")  # right or wrong

Scores = dict[str, float]


# ---------------------------------------------------------------------------- one item
def of_choices(question: Question, nats: Sequence[float]) -> Scores:
    """Returns whether the right choice is the most probable one, by three ways to count.

    As in lm-evaluation-harness: acc compares log-probabilities, acc_norm those by the characters of
    a choice, acc_bytes those by its UTF-8 bytes. Of equals the first counts.

    Raises:
      ValueError: a probability is no number.
    """
    if not all(map(math.isfinite, nats)):
        raise ValueError(
            f"{question.where}: the model's log-probability of a choice is {max(nats)}; "
            "its weights hold no numbers, or overflow in this dtype"
        )
    sizes = {
        "acc": [1] * len(nats),
        "acc_norm": [len(choice) for choice in question.choices],
        "acc_bytes": [len(choice.encode()) for choice in question.choices],
    }
    return {
        name: float(best([n / size for n, size in zip(nats, each, strict=True)]) == question.target)
        for name, each in sizes.items()
    }


def best(costs: Sequence[float]) -> int:
    """Returns the index of the lowest cost, the first of equals.

    >>> best([2.0, 1.0, 1.0])
    1
    """
    return min(range(len(costs)), key=costs.__getitem__)


def of_answer(task: BenchmarkTask, question: Question, answer: str) -> Scores:
    """Returns the score of an answer by each metric of its task: the best over references."""
    language, references = task.facts.language, question.references
    scored: Scores = {}
    if {"squad_f1", "squad_em", "containment"} & {*task.settings.metrics}:
        by_name = squad.scores(answer, references, language, task.facts.rules)
        scored |= {"squad_f1": by_name["f1"], "squad_em": by_name["exact_match"]}
        scored["containment"] = by_name["contains"]
    makers: dict[str, Callable[[str], float]] = {
        "exact_match": lambda reference: float(answer.strip() == reference.strip()),
        "number": lambda reference: float(answers.same_number(answer, reference)),
        "letter": lambda reference: float(answers.same_letter(answer, reference)),
        "rougeL": lambda reference: metrics.rouge_l(answer, reference),
        "chrf": lambda reference: CHRF().sentence_score(answer, [reference]).score / 100,
        "chrf++": lambda reference: (
            CHRF(word_order=2).sentence_score(answer, [reference]).score / 100
        ),
    }
    for name in task.settings.metrics:
        if name in makers:
            scored[name] = max(makers[name](reference) for reference in references)
    return {name: scored[name] for name in task.settings.metrics if name in scored}


def cleaned(task: BenchmarkTask, answer: str) -> str:
    """Returns an answer as it is scored, after what the task file names under `answer`."""
    for name in task.facts.answer:
        answer = answers.first_line(answer) if name == "first_line" else answer.strip()
    return answer


# ---------------------------------------------------------------------------- all items
def summary(
    task: BenchmarkTask,
    questions: Sequence[Question],
    each: Sequence[Scores],
    guesses: Sequence[Any],
) -> dict[str, Any]:
    """Returns the scores of a task with their 95 % intervals and what guessing would score.

    Args:
      each: the scores of every item.
      guesses: what the model answered: the index of its choice, or its text.
    """
    scored: Scores = {}
    bounds: dict[str, list[float]] = {}
    more: dict[str, Any] = {}
    for name in task.settings.metrics:
        if name == "f1":
            targets = [question.target for question in questions]
            scored[name] = 100 * metrics.macro_f1(guesses, targets)
            bounds[name] = [*_macro_f1_interval(guesses, targets)]
        elif name not in OF_TEXTS:
            values = [scores[name] for scores in each]
            scored[name] = 100 * math.fsum(values) / len(values)
            bounds[name] = [*_interval(name, values)]
    out = {
        "scores": scored,
        "intervals": {name: [100 * bound for bound in pair] for name, pair in bounds.items()},
    }
    wanted = [name for name in task.settings.metrics if name in OF_TEXTS]
    if wanted:
        more = _of_texts(task, wanted, guesses, [q.references for q in questions], out)
    return out | {"chance": chance(task, questions)} | more


def _interval(name: str, values: Sequence[float]) -> tuple[float, float]:
    # Resamples of items that all score 0 are all 0, which is no reason to be certain.
    if name in SHARES or {*values} in ({0.0}, {1.0}):
        return intervals.wilson(round(math.fsum(values)), len(values))
    return intervals.bootstrap_mean(values)


def _macro_f1_interval(guesses: Sequence[int], targets: Sequence[int]) -> tuple[float, float]:
    def resampled(indices: Any) -> float:
        return metrics.macro_f1([guesses[i] for i in indices], [targets[i] for i in indices])

    return intervals.bootstrap(resampled, len(targets))


def _of_texts(
    task: BenchmarkTask,
    wanted: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    out: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Adds the scores of all answers together to `out`; returns signatures and notes."""
    more: dict[str, Any] = {"signatures": {}}
    streams = metrics.streams(references)
    scorers = {
        "chrf": CHRF(),
        "chrf++": CHRF(word_order=2),
        "bleu": BLEU(tokenize=metrics.bleu_tokenizer(task.facts.language)),
    }
    if "spbleu" in wanted:
        result = metrics.spbleu(hypotheses, streams, task.facts.spbleu)
        if result["spbleu"] is None:
            more["note"] = result["spbleu_note"]
        else:
            scorers["spbleu"] = BLEU(tokenize=task.facts.spbleu, effective_order=True)
    for name in wanted:
        if (scorer := scorers.get(name)) is None:
            continue
        out["scores"][name] = scorer.corpus_score([*hypotheses], streams).score
        out["intervals"][name] = [*metrics.interval(scorer, hypotheses, streams)]
        more["signatures"][name] = str(scorer.get_signature())
    return more


def chance(task: BenchmarkTask, questions: Sequence[Question]) -> float | None:
    """Returns what guessing scores, 0 to 100: that of the task file, or of the choices' number.

    None where an answer is generated.
    """
    if task.facts.chance is not None:
        return task.facts.chance
    if not task.settings.has_choices:
        return None
    return 100 * math.fsum(1 / len(q.choices) for q in questions) / len(questions)


def by_script(
    task: BenchmarkTask, questions: Sequence[Question], each: Sequence[Scores], texts: Sequence[str]
) -> dict[str, int]:
    """Returns how many answers are in a script of the task's language, and how many are not.

    Answers without letters, such as numbers, are counted apart, and so are those that are right by
    the task's first metric and in another script.
    """
    first = next((name for name in task.settings.metrics if name in SHARES), "")
    counts = {"in_language": 0, "in_another": 0, "no_letters": 0, "right_in_another": 0}
    for question, scores, answer in zip(questions, each, texts, strict=True):
        written = answers.in_script(answer, task.facts.language, question.references)
        if written is None:
            counts["no_letters"] += 1
        else:
            counts["in_language" if written else "in_another"] += 1
            counts["right_in_another"] += not written and scores.get(first, 0) == 1
    return counts


def right_if_composed(
    task: BenchmarkTask, questions: Sequence[Question], each: Sequence[Scores], texts: Sequence[str]
) -> int:
    """Returns how many wrong answers are right in Unicode's composed form (NFC).

    Published scripts compare characters as they are coded: a Korean syllable that is coded as its
    letters is wrong, and so is an e with an accent of its own. Right is meant by the task's first
    metric that tells right from wrong.
    """
    first = next((name for name in task.settings.metrics if name in SHARES), "")
    count = 0
    for question, scores, answer in zip(questions, each, texts, strict=True):
        coded = [answer, *question.references]
        composed = [unicodedata.normalize("NFC", text) for text in coded]
        if scores.get(first) == 0 and composed != coded:
            meant = dataclasses.replace(question, references=tuple(composed[1:]))
            count += of_answer(task, meant, composed[0])[first] == 1
    return count


def compact(each: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """Returns the scores of every item by metric, as text: a digit each where all are 0 or 1.

    >>> compact([{"acc": 1.0, "f1": 0.5}, {"acc": 0.0, "f1": 1.0}])
    {'acc': '10', 'f1': '0.5 1'}
    """
    names = each[0] if each else ()
    return {name: _compact([scores[name] for scores in each]) for name in names}


def _compact(values: Sequence[float]) -> str:
    if all(value in (0, 1) for value in values):
        return "".join(str(int(value)) for value in values)
    return " ".join(f"{value:.4g}" for value in values)


def expanded(values: str) -> list[float]:
    """Returns the scores that `compact` wrote.

    >>> expanded("10"), expanded("0.5 1")
    ([1.0, 0.0], [0.5, 1.0])
    """
    return [*map(float, values if {*values} <= {"0", "1"} else values.split())]
