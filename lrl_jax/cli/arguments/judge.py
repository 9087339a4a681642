"""Declares the verbs of judging: judge single, judge pair and judge tables."""

import argparse

from lrl_jax.cli.arguments import shared

OPENAI = "https://api.openai.com/v1"


def add(verbs) -> None:
    """Adds `lrl judge single`, `lrl judge pair` and `lrl judge tables`."""
    single = shared.verb(
        verbs, "judge single", "let models rate answers, 1 to 10", "judge", stoppable=True
    )
    what = "a second model, rated beside the first"
    _with_models(single, what)
    pair = shared.verb(
        verbs, "judge pair", "let models compare the answers of two, in both orders", "judge",
        stoppable=True,
    )  # fmt: skip
    _with_models(pair, "what it is compared with (default: the base of the run)")
    tables = shared.verb(
        verbs, "judge tables", "recompute the tables of released judgments", "judge"
    )
    what = "records of TaCo, FastChat (single or pair) or AlpacaEval"
    tables.add_argument("files", nargs="+", metavar="FILE", help=what)
    tables.add_argument("--out", default="", help="JSON file to write the tables to")


def _with_models(verb: argparse.ArgumentParser, second: str) -> None:
    what = "a run, a model folder or a hub id, which answers the questions; or a file of answers "
    what += "(FastChat, AlpacaEval, TaCo)"
    verb.add_argument("run_a", metavar="RUN_A", help=what)
    verb.add_argument("run_b", metavar="RUN_B", nargs="?", default="", help=second)
    what = "questions: FastChat's JSON lines, Vicuna's, AlpacaEval's, a spreadsheet"
    verb.add_argument("--questions", required=True, metavar="FILE", help=what)
    what = "answers of FastChat's form to judge mathematics, reasoning and coding by"
    verb.add_argument("--references", default="", metavar="FILE", help=what)
    what = "the first so many questions (default: 0, all)"
    verb.add_argument("--limit", type=shared.whole("limit", 0), default=0, help=what)
    what = "language of the answers, such as kor_Hang; others lose without a call"
    verb.add_argument("--language", default="", metavar="LANGUAGE", help=what)
    what = "folder of results (default: RUN_A/judge of a run, else judge)"
    verb.add_argument("--out", default="", help=what)
    what = "judgments of people: human.json of `lrl sheet read`, FastChat's form, or a CSV of "
    what += "question_id,winner or question_id,score"
    verb.add_argument("--humans", default="", metavar="FILE", help=what)
    what = "how hard questions are: question_id,difficulty"
    verb.add_argument("--difficulty", default="", metavar="FILE", help=what)
    what = "how sure the intervals are, such as 0.99 where many models are compared (0.95)"
    verb.add_argument("--confidence", type=float, default=0.95, help=what)
    _with_judges(verb)
    _with_calls(verb)
    _with_answers(verb)


def _with_judges(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("the judges (the key is OPENAI_API_KEY of the environment)")
    group.add_argument("--model", required=True, help="the judge, by the name its server knows")
    what = "one more judge; may be given several times"
    group.add_argument("--judge", action="append", default=[], metavar="MODEL", help=what)
    what = f"of an OpenAI-compatible server ({OPENAI})"
    group.add_argument("--base-url", default=OPENAI, metavar="URL", help=what)
    what = "a set of prompts that ships (korean), or a file: ours in YAML or judge_prompts.jsonl"
    group.add_argument("--prompt", default="", metavar="NAME_OR_FILE", help=what)
    what = "of the judge (0)"
    group.add_argument("--temperature", type=float, default=0.0, help=what)
    what = "tokens of a judgment at most (2048)"
    group.add_argument(
        "--max-tokens", type=shared.whole("number of tokens", 1), default=2048, help=what
    )
    what = 'more fields of each request; null leaves one out: {"temperature": null}'
    group.add_argument("--request", default="{}", metavar="JSON", help=what)


def _with_calls(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("the calls")
    what = "print how many calls and tokens it takes, and stop"
    group.add_argument("--estimate", action="store_true", help=what)
    what = "price of a million tokens that a judge reads, for --estimate"
    group.add_argument("--price-in", type=float, default=None, metavar="PRICE", help=what)
    what = "price of a million tokens that a judge writes"
    group.add_argument("--price-out", type=float, default=None, metavar="PRICE", help=what)
    what = "ask nothing: results of the replies that are kept"
    group.add_argument("--replay", action="store_true", help=what)
    what = "ask again where nothing came back: time-outs, errors of the server"
    group.add_argument("--retry-failed", action="store_true", help=what)
    for option, default, least, what in (
        ("concurrency", 8, 1, "requests at a time"),
        ("requests-per-minute", 0, 0, "0: no limit"),
        ("tokens-per-minute", 0, 0, "as estimated; 0: no limit"),
        ("retries", 4, 0, "of a request that failed"),
    ):
        number = shared.whole(option, least)
        group.add_argument(f"--{option}", type=number, default=default, help=f"{what} ({default})")
    what = "seconds to wait for an answer (120)"
    group.add_argument("--timeout", type=float, default=120.0, help=what)


def _with_answers(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("the answers of models")
    what = "asks by this template (default: the tokenizer's own, or that of the run's last stage)"
    group.add_argument("--template", default="", help=what)
    what = "tokens of an answer at most (1024)"
    group.add_argument(
        "--answer-tokens", type=shared.whole("number of tokens", 1), default=1024, help=what
    )
    what = "answers generated together (16)"
    group.add_argument("--batch-size", type=shared.whole("batch size", 1), default=16, help=what)
    what = "of weights and arithmetic (default: float32 on a CPU, else bfloat16)"
    group.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help=what
    )
