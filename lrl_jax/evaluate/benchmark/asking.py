"""Asks a model the questions of a task: by log-probabilities of choices, or by generating answers.

    prepared = prepare(task, data="../data", shots=4)      every document is checked first
    result = measure(prepared, model, batch_size=8, name="xcopa_ta")

An item is stored as soon as it is finished; what an earlier try has stored is not computed again.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import itertools
from typing import Any

from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import generate, likelihood
from lrl_jax.evaluate.benchmark import documents, items, prompts, scores
from lrl_jax.evaluate.benchmark.choices import Pair, continuation_pairs, too_long
from lrl_jax.evaluate.benchmark.documents import DocumentSource, TaskDocument
from lrl_jax.evaluate.benchmark.items import Item, ItemFile
from lrl_jax.evaluate.benchmark.prompts import Question
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.evaluate.task_files import BenchmarkTask
from lrl_jax.text import Bad, DataError

LISTED = 10  # bad documents that an error lists
KEPT = 100  # bad documents that a result lists
POOL = 2000  # documents of a training split that examples are drawn from: the first ones
EXAMPLES = 5  # answers that are kept for the report
SHOWN = 600  # characters of a prompt in an example, its end


@dataclasses.dataclass(frozen=True)
class PreparedTask:
    """Holds a task whose documents have been read and checked.

    Attributes:
      prompts: the text that the model reads, of each question.
      bad: documents that are left out, as the user has said with `skip_bad`.
    """

    task: BenchmarkTask
    questions: Sequence[Question]
    prompts: Sequence[str]
    shots: int
    source: DocumentSource
    examples: DocumentSource | None
    bad: Sequence[Bad]
    skip_bad: bool = False


# ---------------------------------------------------------------------------- documents
def prepare(
    task: BenchmarkTask,
    *,
    data: str = "",
    file: str = "",
    shots: int | None = None,
    limit: int = 0,
    skip_bad: bool = False,
) -> PreparedTask:
    """Reads and checks every document of a task, and writes the prompts.

    Args:
      data: the folder below which local copies are.
      file: the file of questions, in place of the task file's.
      shots: examples in each prompt; None: as many as the task file says.
      limit: how many questions are asked, the first ones; 0: all.
      skip_bad: whether documents that cannot be used are left out, and listed in the result.

    Raises:
      DataError: there are no documents, or one of them is wrong: its file, row and what is wrong.
    """
    writer = prompts.QuestionWriter(task)
    shots = task.settings.num_fewshot if shots is None else shots
    source = documents.questions(task, data, file)
    questions, bad = _sorted(writer.write, documents.read(task, source))
    examples, example_source = [], None
    if shots:
        examples, example_source, wrong = _examples(task, writer, source, questions, data)
        bad = [*bad, *wrong]
    if bad and not skip_bad:
        raise DataError(_listed(task, bad, len(questions) + len(bad)))
    if not questions:
        raise DataError(f"{task.name}: no question in {', '.join(source.places)}")
    prompts.check_that_they_differ(task, questions, writer.fields)
    questions = questions[: limit or None]
    try:
        texts = [prompts.with_shots(each, examples, task, shots) for each in questions]
    except ValueError as e:
        where = ", ".join(example_source.places) if example_source else task.file
        raise DataError(f"{task.name}: {e} in {where}; ask for fewer with --shots") from None
    return PreparedTask(task, questions, texts, shots, source, example_source, bad, skip_bad)


def _sorted(write: Any, each: Any) -> tuple[list[Question], list[Bad]]:
    """Returns the questions of documents, and the documents that give none."""
    questions: list[Question] = []
    bad: list[Bad] = []
    for document in each:
        written = write(document) if isinstance(document, TaskDocument) else document
        if isinstance(written, Question):
            questions.append(written)
        else:
            bad.append(written)
    return questions, bad


def _examples(
    task: BenchmarkTask,
    writer: prompts.QuestionWriter,
    source: DocumentSource,
    questions: list[Question],
    data: str,
) -> tuple[list[Question], DocumentSource, list[Bad]]:
    """Returns the examples for prompts, where they are from, and the documents that give none.

    A training split can be a hundred times the test split, so only its first documents are read.
    """
    if samples := task.settings.fewshot_config.samples:
        given = [
            TaskDocument(fields, f"{task.file}: sample {number}")
            for number, fields in enumerate(samples, start=1)
        ]
        examples, bad = _sorted(writer.write, given)
        return examples, DocumentSource("samples", (task.file,)), bad
    origin = documents.examples(task, data)
    if origin.places == source.places:
        return questions, origin, []
    first = itertools.islice(documents.read(task, origin), POOL)
    examples, bad = _sorted(writer.write, first)
    return examples, origin, bad


def _listed(task: BenchmarkTask, bad: Sequence[Bad], whole: int) -> str:
    """Returns a message that lists bad documents."""
    lines = [f"{each.where}: {each.why}" for each in bad[:LISTED]]
    if len(bad) > LISTED:
        lines.append(f"... and {len(bad) - LISTED} more")
    head = f"{task.name}: {len(bad)} of {whole:,} documents cannot be used"
    advice = "mend them, or leave them out with --skip-bad (skip_bad: true in a recipe)"
    return "\n  ".join([f"{head}; {advice}", *lines])


# ---------------------------------------------------------------------------- asking
def measure(
    prepared: PreparedTask, model: MeasuredModel, batch_size: int, name: str
) -> dict[str, Any]:
    """Asks the questions that are not answered yet; returns the result, {} but on the lead.

    Args:
      name: of the entry in the recipe; finished items are kept under it.

    Raises:
      DataError: a choice is longer than what the model reads; its file and row.
    """
    if prepared.task.settings.has_choices:
        prepared, pairs = _readable(prepared, model)
        answered, cut = _ask_choices(prepared, pairs, model, batch_size, name)
    else:
        answered, cut = _ask_answers(prepared, model, batch_size, name)
    return _result(prepared, answered, cut) if meshes.lead() else {}


def _choices(prepared: PreparedTask) -> list[tuple[int, str]]:
    """Returns every choice, as it is scored, with the index of its question."""
    delimiter = prepared.task.settings.target_delimiter
    return [
        (i, delimiter + choice)
        for i, each in enumerate(prepared.questions)
        for choice in each.choices
    ]


def _readable(prepared: PreparedTask, model: MeasuredModel) -> tuple[PreparedTask, list[Pair]]:
    """Returns the questions whose choices the model can read, and the ids of all their choices.

    The others are refused, or left out where the user has said so.
    """
    choices = _choices(prepared)
    asked = [(prepared.prompts[i], text) for i, text in choices]
    pairs = continuation_pairs(model.tokenizer, asked)
    wrong = too_long(pairs, max(model.length, model.context))
    bad: dict[int, Bad] = {}
    for n, why in wrong.items():
        i, text = choices[n]
        bad.setdefault(i, Bad(prepared.questions[i].where, f"choice {text[:40]!r} {why}"))
    if not bad:
        return prepared, pairs
    every = [*prepared.bad, *bad.values()]
    kept = [i for i in range(len(prepared.questions)) if i not in bad]
    if not (prepared.skip_bad and kept):
        raise DataError(_listed(prepared.task, every, len(prepared.questions) + len(prepared.bad)))
    left = dataclasses.replace(
        prepared,
        questions=[prepared.questions[i] for i in kept],
        prompts=[prepared.prompts[i] for i in kept],
        bad=every,
    )
    return left, [pair for (i, _), pair in zip(choices, pairs, strict=True) if i not in bad]


def _ask_choices(
    prepared: PreparedTask, pairs: Sequence[Pair], model: MeasuredModel, batch_size: int, name: str
) -> tuple[list[Item], int]:
    """Returns the items of a task with choices by question, and how many inputs were cut."""
    questions, choices = prepared.questions, _choices(prepared)
    delimiter = prepared.task.settings.target_delimiter
    keys = [
        items.key(model, prompt=prompt, delimiter=delimiter, choices=each.choices)
        for each, prompt in zip(questions, prepared.prompts, strict=True)
    ]
    model, batch_size = _with_room(model, batch_size, max(len(a) + len(b) for a, b in pairs))
    file, finished = _kept(model, name, keys)
    skip = [n for n, (i, _) in enumerate(choices) if i in finished]
    scored: dict[int, dict[int, likelihood.Scored]] = {}
    for n, result in likelihood.continuations(model, pairs, batch_size, skip):
        i = choices[n][0]
        if i in finished:  # in a batch with others that are not
            continue
        of_question = scored.setdefault(i, {})
        of_question[n] = result
        if len(of_question) == len(questions[i].choices):
            in_order = [of_question[n] for n in sorted(of_question)]
            finished[i] = _choice_item(prepared, i, keys[i], in_order)
            file.add(finished[i])
    sizes = [len(context) + len(ids) for context, ids in pairs]
    cut = {i for (i, _), size in zip(choices, sizes, strict=True) if size > model.length + 1}
    return _completed(prepared, file, finished), len(cut)


def _with_room(model: MeasuredModel, batch_size: int, longest: int) -> tuple[MeasuredModel, int]:
    """Returns the model with rows that hold the longest input, as far as it reads so much.

    Rows of training may be shorter than what the model reads; a batch of longer ones has fewer, so
    that it takes no more memory.
    """
    length = model.length
    while length < min(longest - 1, model.context):
        length = min(2 * length, model.context)
    return dataclasses.replace(model, length=length), max(1, batch_size * model.length // length)


def _choice_item(
    prepared: PreparedTask, i: int, key: str, scored: Sequence[likelihood.Scored]
) -> Item:
    question = prepared.questions[i]
    nats = [each.nats for each in scored]
    return {
        "key": key,
        "where": question.where,
        "prompt": prepared.prompts[i],
        "choices": [*question.choices],
        "target": question.target,
        "nats": nats,
        "greedy": [each.greedy for each in scored],
        "tokens": [each.tokens for each in scored],
        "scores": scores.of_choices(question, nats),
    }


def _ask_answers(
    prepared: PreparedTask, model: MeasuredModel, batch_size: int, name: str
) -> tuple[list[Item], int]:
    """Returns the items of a task that generates by question, and how many prompts were cut."""
    settings = _settings(prepared.task, model)
    ids = model.tokenizer.encode_batch([*prepared.prompts])
    room = model.context - settings.max_new_tokens - 1 if model.context else 0
    cut = sum(len(each) > room for each in ids) if room else 0
    if room:  # on the left, as the harness does
        ids = [each[-room:] for each in ids]
    asked = dataclasses.asdict(settings)
    keys = [items.key(model, prompt=prompt, settings=asked) for prompt in prepared.prompts]
    file, finished = _kept(model, name, keys)
    left = [i for i in range(len(keys)) if i not in finished]
    with model.meter.timed():
        answers = generate.generate(model, [ids[i] for i in left], settings, batch_size)
        for n, answer in answers:
            i = left[n]
            finished[i] = _answer_item(prepared, i, keys[i], answer)
            file.add(finished[i])
    model.meter.add(finished[i]["answer"] for i in left)
    return _completed(prepared, file, finished), cut


def _settings(task: BenchmarkTask, model: MeasuredModel) -> generate.Settings:
    """Returns how answers are generated; an answer takes half of what the model reads at most."""
    asked = task.settings.generation_kwargs
    most = asked.max_gen_toks
    return generate.Settings(
        max_new_tokens=min(most, model.context // 2) if model.context else most,
        ends=model.ends or (model.tokenizer.eos_id,),
        stops=task.settings.stops,
        temperature=asked.temperature if asked.do_sample else 0.0,
        top_p=asked.top_p if asked.do_sample else 1.0,
    )


def _answer_item(prepared: PreparedTask, i: int, key: str, answer: generate.Generated) -> Item:
    question = prepared.questions[i]
    return {
        "key": key,
        "where": question.where,
        "prompt": prepared.prompts[i],
        "references": [*question.references],
        "answer": answer.text,
        "why": answer.why,
        "tokens": answer.tokens,
        "scores": _answer_scores(prepared.task, question, answer.text),
    }


def _answer_scores(task: BenchmarkTask, question: Question, answer: str) -> scores.Scores:
    return scores.of_answer(task, question, scores.cleaned(task, answer))


def _kept(model: MeasuredModel, name: str, keys: Sequence[str]) -> tuple[ItemFile, dict[int, Item]]:
    """Returns the file of a task's items, and those that are finished, by question."""
    file = ItemFile(f"{model.items}/{name}.jsonl" if model.items else "", keys)
    return file, {i: file.done[key] for i, key in enumerate(keys) if key in file.done}


def _completed(prepared: PreparedTask, file: ItemFile, finished: Mapping[int, Item]) -> list[Item]:
    """Returns all items in order, and stores them so.

    What an earlier try has stored is what the model said; what is right and how it is scored
    follows the documents and the task file as they are now.
    """
    if not meshes.lead():
        return []
    task, answered = prepared.task, []
    for i, question in enumerate(prepared.questions):
        item = finished[i] | {"where": question.where}
        if task.settings.has_choices:
            item |= {"target": question.target}
            item |= {"scores": scores.of_choices(question, item["nats"])}
        else:
            item |= {"references": [*question.references]}
            item |= {"scores": _answer_scores(task, question, item["answer"])}
        answered.append(item)
    file.finish(answered)
    return answered


# ---------------------------------------------------------------------------- results
def _result(prepared: PreparedTask, answered: Sequence[Item], cut: int) -> dict[str, Any]:
    """Returns what is kept of a task: scores, what they were measured on, and how."""
    task, facts, questions = prepared.task, prepared.task.facts, prepared.questions
    each = [item["scores"] for item in answered]
    texts = [] if task.settings.has_choices else [
        scores.cleaned(task, item["answer"]) for item in answered
    ]  # fmt: skip
    guesses = texts or [scores.best(item["nats"]) for item in answered]
    digests = "".join(question.digest for question in questions)
    result: dict[str, Any] = {
        "task": task.name,
        "version": str(facts.version),
        "language": facts.language,
        "paper": facts.paper,
        "prompt": facts.prompt,
        "differs": facts.differs,
        "metric": task.settings.metrics[0],
        **scores.summary(task, questions, each, guesses),
        "items": len(questions),
        "shots": prepared.shots,
        "split": prepared.source.split,
        "source": [*prepared.source.places],
        "cut": cut,  # questions that were longer than what the model reads
        "bad": len(prepared.bad),
        "bad_documents": [f"{bad.where}: {bad.why}" for bad in prepared.bad[:KEPT]],
        "documents": hashlib.sha256(digests.encode()).hexdigest(),
        "each": scores.compact(each),
    }
    if doubtful := sum(question.doubtful for question in questions):
        result["doubtful"] = doubtful
    if prepared.examples is not None:
        result["examples_from"] = [*prepared.examples.places]
    if texts:
        result |= {
            "tokens": sum(item["tokens"] for item in answered),
            "characters": sum(len(item["answer"]) for item in answered),
            "bytes": sum(len(item["answer"].encode()) for item in answered),
            "cut_short": sum(item["why"] == "length" for item in answered),
            "script": scores.by_script(task, questions, each, texts),
            "right_if_composed": scores.right_if_composed(task, questions, each, texts),
            "examples": [_example(item) for item in answered[:EXAMPLES]],
        }
    return result


def _example(item: Item) -> dict[str, str]:
    reference = " | ".join(item["references"])
    return {"prompt": item["prompt"][-SHOWN:], "reference": reference, "answer": item["answer"]}
