"""Judges answers from the command line: `lrl judge single`, `lrl judge pair`, `lrl judge tables`.

A result folder has judge.json, index.html, results.jsonl (an item each), judgments.jsonl (a reply
each), answers/ of models, and forms/ for FastChat, AlpacaEval and TaCo.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import json
import math
import re
from typing import Any

from etils import epath

from lrl_jax import storage, terminal, text
from lrl_jax.cli.judged import answers_of, names_of
from lrl_jax.devices import signals
from lrl_jax.devices.lease import Lease
from lrl_jax.evaluate.judge import (
    asking,
    forms,
    grading,
    humans,
    prompts,
    records,
    summary,
    tables,
)
from lrl_jax.evaluate.judge.asking import Judgments
from lrl_jax.evaluate.judge.endpoint import TRANSPORT, Endpoint, checked, host
from lrl_jax.evaluate.judge.grading import JudgeSettings
from lrl_jax.evaluate.judge.pace import Pace
from lrl_jax.evaluate.judge.records import AnswerSet, JudgeQuestion
from lrl_jax.pipeline import models
from lrl_jax.pipeline.console import display, progress, say
from lrl_jax.recipe import languages
from lrl_jax.report import judge as report

Json = dict[str, Any]
MOST_UNSURE, SUREST = 0.5, 0.999  # confidence of intervals; more takes over 50,000 resamples


def judge_single(args: argparse.Namespace) -> None:
    """Lets judges rate the answers of one model or two."""
    _judge(args, "single")


def judge_pair(args: argparse.Namespace) -> None:
    """Lets judges compare the answers of two models, in both orders."""
    _judge(args, "pair")


def judge_tables(args: argparse.Namespace) -> None:
    """Prints the tables of files of judgments, recomputed, and what is odd about their records."""
    every = [table for file in args.files for table in tables.of_file(file)]
    for table in every:
        display(report.released_table(table))
        for line in report.released_remarks(table):
            say(f"{table.name}: {line}")
    if args.out:
        storage.write_json(args.out, [dataclasses.asdict(table) for table in every])


# ---------------------------------------------------------------------------- single and pair
def _judge(args: argparse.Namespace, kind: prompts.Kind) -> None:
    settings, wording = _settings(args), prompts.load(args.prompt, kind)
    questions = records.read_questions(args.questions, args.limit)
    if args.references:
        questions = records.with_references(questions, args.references)
    difficulty = humans.read_difficulty(args.difficulty) if args.difficulty else None
    judges = [*dict.fromkeys((args.model, *args.judge))]
    if not all(map(str.strip, judges)):
        raise ValueError("--model: names no judge; want the name that its server knows")
    checked(args.base_url)
    out = _folder(args)
    places = _places(args, kind)
    with _reserved(out, args):
        names = names_of(places)
        sets = [
            answers_of(place, name, questions, args, out)
            for place, name in zip(places, names, strict=True)
        ]
        if len({answers.model for answers in sets}) < len(sets):  # the records call both alike
            sets = [dataclasses.replace(s, model=n) for s, n in zip(sets, names, strict=True)]
        called = [answers.model for answers in sets]
        votes = humans.read_votes(args.humans, called) if args.humans else ()
        items = [
            i for judge in judges for i in _items(kind, questions, sets, judge, wording, settings)
        ]
        requests = grading.requests_of(items)
        kept = Judgments(out / "judgments.jsonl", retry=args.retry_failed and not args.replay)
        if args.estimate:
            print(
                terminal.visible(estimated(asking.estimate(requests, kept, args.max_tokens), args))
            )
            return
        if not args.replay:
            _ask(args, requests, kept)
        results = [grading.result(item, kept.replies) for item in items]
        whole = summary.summarise(kind, results, called, judges, difficulty, args.confidence)
        whole |= _circumstances(args, wording, questions, requests, kept)
        if votes:
            whole["humans"] = {
                judge: humans.agreement(
                    votes, kind, [r for r in results if r["judge"] == judge], called
                )
                for judge in judges
            }
        _say_replaced(out / "judge.json", whole)
        _write(out, kind, whole, results, sets, questions, requests, kept)
    display(report.summary_table(whole))
    for line in report.remarks(whole):
        say(f"judge: {line}")
    if any(result["failure"] in TRANSPORT for result in results):
        say("judge: the same command with --retry-failed asks again where nothing came back")
    say(f"judge: {out}/index.html")


def _settings(args: argparse.Namespace) -> JudgeSettings:
    """Returns how judges are asked; refuses settings that cannot be."""
    if args.overrides:
        raise ValueError(f"{args.overrides[0]}: `lrl {args.verb}` reads no recipe to override")
    try:
        more = json.loads(args.request)
    except ValueError as e:
        raise ValueError(f"--request {args.request!r:.60}: not JSON ({e})") from None
    if not isinstance(more, dict) or {"model", "messages", "stream", "n"} & {*more}:
        raise ValueError("--request: want a JSON object, without model, messages, stream and n")
    if args.language and not re.fullmatch(languages.CODE, args.language):
        args.language = languages.resolve(args.language)  # ko, Korean
    for name in ("temperature", "timeout", "price_in", "price_out"):
        value = getattr(args, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"--{name.replace('_', '-')} {value}: want a number, 0 or more")
    if not MOST_UNSURE <= args.confidence <= SUREST:
        allowed = f"want {MOST_UNSURE} to {SUREST}, such as 0.99"
        raise ValueError(f"--confidence {args.confidence}: {allowed}")
    if not args.timeout:
        raise ValueError("--timeout 0: want some seconds")
    if (args.price_in is None) != (args.price_out is None):
        raise ValueError("--price-in and --price-out: give both, per million tokens")
    return JudgeSettings(args.language, args.temperature, args.max_tokens, more)


def _folder(args: argparse.Namespace) -> epath.Path:
    if args.out:
        storage.refuse_odd(args.out, writes=True)
        return epath.Path(args.out)
    is_run = (epath.Path(args.run_a) / "recipe.yaml").exists()
    return epath.Path(args.run_a) / "judge" if is_run else epath.Path("judge")


def _places(args: argparse.Namespace, kind: str) -> list[str]:
    """Returns the one or two models that are judged."""
    second = args.run_b
    if kind == "pair" and not second:
        second = models.base_of(args.run_a)
    if second and second == args.run_a:
        raise ValueError(f"{second}: is both RUN_A and RUN_B; name two models")
    return [args.run_a, *([second] if second else [])]


@contextlib.contextmanager
def _reserved(out: epath.Path, args: argparse.Namespace) -> Iterator[None]:
    """Keeps the folder for this process, so that no other asks the same at the same time."""
    if args.estimate and not out.exists():
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    with Lease(out) as lease, signals.at_end(lambda code: lease.release()):
        yield


def _items(
    kind: prompts.Kind,
    questions: Sequence[JudgeQuestion],
    sets: Sequence[AnswerSet],
    judge: str,
    wording: prompts.JudgePrompts,
    settings: JudgeSettings,
) -> Iterator[grading.JudgedItem]:
    if kind == "pair":
        yield from grading.pair_items(questions, sets[0], sets[1], judge, wording, settings)
        return
    for answers in sets:
        yield from grading.single_items(questions, answers, judge, wording, settings)


def _ask(args: argparse.Namespace, requests: Mapping[str, asking.Request], kept: Judgments) -> None:
    """Asks what is due; nothing is connected to where nothing is."""
    if not kept.due(requests):
        return
    pace = Pace(args.requests_per_minute, args.tokens_per_minute)
    endpoint = Endpoint(args.base_url, args.timeout, args.retries, pace)
    try:
        with progress("judge") as tell:
            asking.ask_all(
                requests, kept, endpoint.ask, args.concurrency,
                lambda done, whole: tell(f"{done:,} of {whole:,} requests", done, whole),
            )  # fmt: skip
    finally:
        endpoint.close()


def estimated(estimate: asking.CallEstimate, args: argparse.Namespace) -> str:
    """Returns an estimate in words."""
    lines = [
        f"calls: {estimate.calls:,} ({estimate.kept:,} more are kept already)",
        f"tokens read: about {estimate.tokens_in:,}",
        f"tokens written: about {estimate.tokens_out:,}, at most {estimate.tokens_most:,}",
    ]
    if args.price_in is not None:
        expected, most = estimate.price(args.price_in, args.price_out)
        lines.append(f"price: about {expected:,.2f}, at most {most:,.2f}, without what is repeated")
    return "\n".join(lines)


# ---------------------------------------------------------------------------- results
def _circumstances(
    args: argparse.Namespace,
    wording: prompts.JudgePrompts,
    questions: Sequence[JudgeQuestion],
    requests: Mapping[str, asking.Request],
    kept: Judgments,
) -> Json:
    """Returns what the results depend on. No address is kept whole: it may hold a secret."""
    lacking = [q for q in questions if prompts.needs_reference(q) and not any(q.references)]
    replies = [kept.replies[key] for key in requests if key in kept.replies]
    return {
        "prompt": wording.name,
        "language": args.language,
        "endpoint": host(args.base_url),
        "questions": {"file": args.questions, "sha256": text.fingerprint(args.questions)},
        "without_reference": len(lacking),
        "tokens": {
            "read": sum(reply.tokens_in for reply in replies),
            "written": sum(reply.tokens_out for reply in replies),
        },
    }


def _say_replaced(path: epath.Path, whole: Json) -> None:
    """Says which earlier results are replaced where they are of other models or another kind."""
    try:
        earlier = storage.read_json(path)
        models, kind = " and ".join(map(str, earlier["models"])), earlier["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if (earlier["models"], kind) != (whole["models"], whole["kind"]):
        say(
            f"judge: replaced the results of {models} ({kind}) in {path.parent}; replies stay, so "
            "that the command that made them, with --replay, makes them again"
        )


def _write(
    out: epath.Path,
    kind: str,
    whole: Json,
    results: Sequence[Json],
    sets: Sequence[AnswerSet],
    questions: Sequence[JudgeQuestion],
    requests: Mapping[str, asking.Request],
    kept: Judgments,
) -> None:
    """Writes the results, the page, and the same in the forms of others."""
    (out / "forms").mkdir(parents=True, exist_ok=True)
    storage.write_json(out / "judge.json", whole)
    _write_lines(out / "results.jsonl", results)
    storage.write(out / "index.html", report.page(whole, _examples(results, sets, questions, kept)))
    for answers in sets:
        name = _file_name(answers.model)
        _write_lines(out / f"forms/{name}.jsonl", forms.fastchat_answers(answers, questions))
        alpaca = forms.alpaca_outputs(answers, questions)
        storage.write_json(out / f"forms/{name}.alpaca_eval.json", alpaca)
    for judge in whole["judges"]:
        of_judge = [result for result in results if result["judge"] == judge]
        name = _file_name(judge)
        in_form = forms.fastchat_single if kind == "single" else forms.fastchat_pair
        rows = in_form(of_judge, requests, kept.replies)
        _write_lines(out / f"forms/{name}_{kind}.jsonl", rows)
        if kind == "pair":
            annotations = forms.alpaca_annotations(of_judge, sets[0], sets[1], questions)
            storage.write_json(out / f"forms/{name}_annotations.json", annotations)
            continue
        for answers in sets:
            of_model = [result for result in of_judge if result["model"] == answers.model]
            rated = forms.taco_records(of_model, answers, questions, kept.replies)
            path = out / f"forms/{_file_name(answers.model)}_{name}_evaluated.json"
            storage.write_json(path, rated)


def _write_lines(path: epath.Path, rows: Any) -> None:
    storage.write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _file_name(name: str) -> str:
    """Returns the name of a model as that of a file."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "model"


def _examples(
    results: Sequence[Json],
    sets: Sequence[AnswerSet],
    questions: Sequence[JudgeQuestion],
    kept: Judgments,
) -> Iterator[Json]:
    """Yields items for the page: what failed first, then in the order of the questions."""
    by_id = {str(question.id): question for question in questions}
    for result in sorted(results, key=lambda r: not r["failure"]):
        question = by_id[str(result["question_id"])]
        names = [result["model"]] if "model" in result else result["models"]
        turn = result["turn"]
        replies = [kept.replies[key].text for key in result["keys"] if key in kept.replies]
        yield {
            "title": f"{question.id}, turn {turn}, {result['judge']}",
            "verdict": _verdict(result, names),
            "question": question.turns[turn - 1],
            "reference": question.reference(turn),
            "answers": [[s.model, s.turn(question, turn) or ""] for s in sets if s.model in names],
            "judgments": [[result["judge"], reply] for reply in replies if reply],
        }


def _verdict(result: Json, names: Sequence[str]) -> str:
    if result["failure"]:
        return f"no verdict ({result['failure']})"
    flaws = [f"{name}: {flaw}" for name, flaw in zip(names, result["flaws"], strict=True) if flaw]
    end = f" ({', '.join(flaws)})" if flaws else ""
    if "score" in result:
        return f"{result['score']:g}{end}"
    winner = {"A": names[0], "B": names[-1]}.get(result["winner"], "tie")
    return f"{winner}{end}"
