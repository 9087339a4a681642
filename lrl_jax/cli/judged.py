"""Gets the answers that are judged: from a file, or from a model that answers the questions."""

import argparse
from collections.abc import Sequence
import dataclasses
import json
from pathlib import PurePosixPath
import re

from etils import epath
import jax

from lrl_jax import storage
from lrl_jax.data.templates import table as templates
from lrl_jax.evaluate import generate
from lrl_jax.evaluate.benchmark import items
from lrl_jax.evaluate.judge import endpoint, forms, records, writing
from lrl_jax.evaluate.judge.records import AnswerSet, JudgeQuestion
from lrl_jax.pipeline import models
from lrl_jax.pipeline.console import progress, say
from lrl_jax.text import DataError

FILES = (".json", ".jsonl", ".gz", ".xz", ".bz2", ".zst", ".txt")


def names_of(places: Sequence[str]) -> list[str]:
    """Returns what models are called: the last part of their places, or the whole where alike.

    >>> names_of(["runs/korean", "meta-llama/Llama-2-7b-hf"]), names_of(["a/export", "b/export"])
    (['korean', 'Llama-2-7b-hf'], ['a/export', 'b/export'])
    """
    ends = [PurePosixPath(place.rstrip("/")) for place in places]
    names = [end.stem if end.suffix in (".jsonl", ".json") else end.name for end in ends]
    return names if len({*names}) == len(names) else [*places]


def answers_of(
    place: str,
    name: str,
    questions: Sequence[JudgeQuestion],
    args: argparse.Namespace,
    out: epath.Path,
) -> AnswerSet:
    """Returns the answers of a file, or of a model; those of a model are kept in `out`/answers."""
    path = epath.Path(place)
    is_model = (path / "config.json").exists() or (path / "recipe.yaml").exists()
    if path.exists() and not is_model:
        return records.read_answers(place, questions, "" if not path.is_dir() else name)
    storage.refuse_odd(place)
    if place.lower().endswith(FILES):
        raise DataError(f"{place}: no such file")
    file = out / "answers" / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}.jsonl"
    if args.estimate and not file.exists():
        say(f"judge: {name} has not answered yet: {args.answer_tokens:,} tokens an answer")
        return _unwritten(name, questions, args.answer_tokens)
    if args.replay or args.estimate:
        if not file.exists():
            raise ValueError(f"{file}: no such file; --replay generates no answers: leave it out")
        return records.read_answers(str(file), questions, name)
    return _generated(place, name, questions, args, file)


def _unwritten(name: str, questions: Sequence[JudgeQuestion], tokens: int) -> AnswerSet:
    """Returns answers that are as long as those of a model can be, to estimate with."""
    text = f"{name} {'text' * tokens}"  # four characters of ASCII are counted as a token
    return AnswerSet(name, {str(q.id): (text,) * len(q.turns) for q in questions}, unwritten=True)


def _generated(
    place: str,
    name: str,
    questions: Sequence[JudgeQuestion],
    args: argparse.Namespace,
    file: epath.Path,
) -> AnswerSet:
    """Lets a model answer; what it has answered before is not generated again."""
    endpoint.check_ready(args.base_url)  # before hours of work
    dtype = args.dtype
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    model = items.with_digest(models.open_model(place, dtype=dtype))
    template = args.template or models.template(place, model.tokenizer)
    if template in writing.CHAINS and not args.language:
        raise ValueError(f"template {template}: needs the language of the answers: --language")
    if not template:
        say(f"judge: {place} has no chat template: each question is continued as it stands")
    bos = templates.begins_with_bos(template, model.tokenizer)
    settings = generate.Settings(args.answer_tokens, model.ends, continues=not template, bos=bos)
    kept = file.with_suffix(".items.jsonl")
    file.parent.mkdir(parents=True, exist_ok=True)
    with progress(f"judge: answers of {name}") as tell:
        watched = dataclasses.replace(
            model, tick=lambda done, whole: tell("questions", done, whole)
        )
        answers = writing.write_answers(
            watched, template, name, questions, settings, args.batch_size, str(kept), args.language
        )
    lines = (
        json.dumps(row, ensure_ascii=False) for row in forms.fastchat_answers(answers, questions)
    )
    storage.write(file, "".join(f"{line}\n" for line in lines))
    return answers
