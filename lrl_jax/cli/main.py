"""Reads the arguments of the command line `lrl`: a verb for each step, and others to look around.

What its exit codes mean stands in `lrl_jax.cli.codes`.
"""

import argparse
from collections.abc import Callable, Sequence
import contextlib
import re
import sys
from typing import Any

from lrl_jax import __version__
from lrl_jax.cli import codes
from lrl_jax.devices import signals

EPILOG = """\
The steps, in the order of work: vocab, init, data, train, evaluate, export.
`lrl run` does those that are due. Overrides are typed: lrl train r.yaml train.batch_size=8

  lrl new tamil.yaml --language tam_Taml --base meta-llama/Llama-2-7b-hf
  lrl check tamil.yaml
  lrl run tamil.yaml

Exit codes: """ + "; ".join(f"{code} {what}" for code, what in codes.CODES.items())
TEXTS = ("prompt", "stop", "system")  # arguments that are texts, not names of places
UNDER = {"vocab": ("probe", "fertility"), "laws": ("fit", "allocate")}  # verbs of two words
STEPS = {
    "vocab": "learn pieces of the new language, splice, prove, report fertility",
    "init": "bring the base weights in, with rows for the new tokens",
    "data": "tokenise and pack every dataset; print the plan",
    "train": "train the stages; resumes where it was cut short",
    "evaluate": "bits per byte, translation and tasks, before and after; tasks on any model",
    "export": "write the Hugging Face folder and prove that it is the model",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    commands = parser()
    args, rest = commands.parse_known_args(verb_first(sys.argv[1:] if argv is None else argv))
    args.overrides = [arg for arg in rest if "=" in arg and not arg.startswith("-")]
    if getattr(args, "profile", ""):
        args.overrides.append(f"train.profile={args.profile}")
    if unknown := [arg for arg in rest if arg not in args.overrides]:
        commands.error(f"unknown argument: {' '.join(unknown)}{_hint(unknown[0])}")
    stoppable = {*STEPS, "run", "vocab probe"}
    listening = signals.interrupts() if args.verb in stoppable else contextlib.nullcontext()
    try:
        with listening:
            return _run(args)
    except signals.Stopped as stopped:
        print(f"lrl {args.verb}: {stopped}", file=sys.stderr)
        signals.end(stopped.exit_code)
        raise  # never comes here: the process has ended
    except KeyboardInterrupt:
        return 130


def _run(args: argparse.Namespace) -> int:
    from lrl_jax import terminal

    terminal.show_logs_visibly()
    terminal.quiet_libraries()
    try:
        from lrl_jax import storage
        from lrl_jax.cli import verbs

        for value in (
            v for key, v in vars(args).items() if key not in TEXTS
        ):  # places are local paths, or addresses on a store
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str):
                    storage.refuse_odd(name)
        return getattr(verbs, args.verb.replace(" ", "_"))(args) or 0
    except Exception as e:
        return codes.end(e, args.verb, debug=args.debug)


def _hint(argument: str) -> str:
    """Returns what may be missing of an argument that is none."""
    key = re.fullmatch(r"[A-Za-z_]+(\.[\w-]+)+", argument)
    return f"; an override says a value: {argument}=VALUE" if key else ""


def verb_first(argv: Sequence[str]) -> list[str]:
    """Joins a verb of two words into one argument.

    >>> verb_first(["vocab", "probe", "r.yaml"]), verb_first(["vocab", "r.yaml"])
    (['vocab probe', 'r.yaml'], ['vocab', 'r.yaml'])
    """
    words = 2 if list(argv[1:2]) and argv[1] in UNDER.get(argv[0], ()) else 1
    return [" ".join(argv[:words]), *argv[words:]] if argv else []


def parser() -> argparse.ArgumentParser:
    """Returns the parser of all verbs; it leaves overrides of the recipe unparsed."""
    parser = argparse.ArgumentParser(
        prog="lrl",
        description="Bring a Llama to your language, and take it back to Hugging Face.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lrl_jax {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    new = _verb(verbs, "new", "write a commented recipe for your language")
    new.add_argument("path", help="the recipe to write, such as tamil.yaml")
    new.add_argument(
        "--language",
        required=True,
        help="code such as tam_Taml, ISO 639 code such as ta, or English name such as Tamil",
    )
    new.add_argument("--language-name", default="", help="its name, for a code in no table")
    new.add_argument("--base", required=True, help="Hugging Face folder or hub id")
    new.add_argument("--text", default="corpus/*.txt", help="raw text of the language")
    what = "raw English text, which the base is not to forget; replayed and proved on"
    new.add_argument("--english", default="english/*.txt", help=what)
    what = "how often the texts are read at most: steps are planned by it (default: 4)"
    new.add_argument("--epochs", type=float, default=4.0, help=what)

    _with_recipe(_verb(verbs, "check", "validate a recipe in seconds and print the plan"))
    for step, what in STEPS.items():
        verb = _with_recipe(_verb(verbs, step, what), optional=step == "evaluate")
        verb.add_argument("--redo", action="store_true", help="make this step anew")
        _with_processes(verb)
        if step == "vocab":
            verb.add_argument("--prove", action="store_true", help="prove what is there once more")
        if step == "data":
            _with_runner(verb)
        if step in ("evaluate", "export"):
            what = "the checkpoint to use, which may be an older one (default: the newest)"
            verb.add_argument("--step", type=int, default=0, help=what)
        if step == "evaluate":
            _with_tasks(verb)
        if step == "train":
            _with_discard(verb)
            what = "steps to trace, such as 10:15: sets train.profile"
            verb.add_argument("--profile", default="", metavar="FIRST:LAST", help=what)
    _probe(verbs)
    _fertility(verbs)
    _laws(verbs)
    run = _with_recipe(_verb(verbs, "run", "all steps that are due, in order, and the report"))
    what = "make finished steps anew whose inputs changed"
    run.add_argument("--redo", action="store_true", help=what)
    _with_discard(run)
    _with_processes(run)

    fit = _with_recipe(_verb(verbs, "fit", "compile for a machine you do not have: memory, time"))
    fit.add_argument("--on", default="", help="v5e-64, 2xv4-128, h100-8 (default: train.pod)")
    fit.add_argument("--search", action="store_true", help="compile many settings, print the best")
    fit.add_argument("--json", action="store_true", help="print everything as JSON")

    show = _with_recipe(_verb(verbs, "show", "print packed rows as the model sees them"))
    of = show.add_mutually_exclusive_group()
    of.add_argument("--dataset", default="", help="name in data.datasets (default: the first)")
    of.add_argument("--stage", default="", help="name in train.stages: rows as training reads them")
    show.add_argument("--row", type=int, default=0, help="first row")
    show.add_argument("--rows", type=int, default=1, help="how many")
    show.add_argument("--tokens", action="store_true", help="as ids, pieces and loss weights")
    _with_recipe(_verb(verbs, "report", "write report/index.html from what a run has left"))
    _generate(verbs)
    _chat(verbs)
    return parser


def _generate(verbs) -> None:
    verb = _verb(verbs, "generate", "continue prompts with any model: a run, a folder, a hub id")
    asked = verb.add_mutually_exclusive_group(required=True)
    asked.add_argument("--prompt", metavar="TEXT", help="one prompt; its continuation is printed")
    what = (
        'lines such as {"prompt": "..."} or {"messages": [...]}, or - for standard input; a line '
    )
    what += (
        "of JSON is printed for each as soon as it is answered, with its other fields as they were"
    )
    asked.add_argument("--file", metavar="PROMPTS.jsonl", help=what)
    _with_model(verb, temperature=0.0, top_p=1.0, new=128)
    what = "asks by this template of the recipe's, or by `tokenizer`, the tokenizer's own"
    verb.add_argument("--template", default="", help=f"{what} (default: continues the text)")
    what = "prompts answered together"
    verb.add_argument("--batch-size", type=_whole("batch size", 1), default=16, help=what)
    _with_processes(verb)


def _chat(verbs) -> None:
    verb = _verb(verbs, "chat", "talk to any model in the terminal: a run, a folder, a hub id")
    _with_model(verb, temperature=0.7, top_p=0.95, new=256)
    what = "the template to ask by (default: the tokenizer's own, or that of the run's last stage)"
    verb.add_argument("--template", default="", help=what)
    verb.add_argument("--system", default="", metavar="TEXT", help="instructs the model")
    what = "beside it the base of the run, or another model"
    verb.add_argument("--base", nargs="?", const="", metavar="MODEL", help=what)


def _with_model(verb: argparse.ArgumentParser, temperature: float, top_p: float, new: int) -> None:
    """Adds the model and how its answers are generated."""
    verb.add_argument("model", help="a run's folder, a Hugging Face folder, or a hub id")
    for option, kind, value, what in (
        ("max-new-tokens", int, new, "tokens of an answer at most"),
        ("temperature", float, temperature, "0 takes the most probable token every time"),
        ("top-p", float, top_p, "draws from the likeliest tokens that are so probable together"),
        ("min-p", float, 0.0, "draws tokens so probable, relative to the likeliest"),
        ("repetition-penalty", float, 1.0, "above 1, tokens seen before count for less"),
        ("seed", int, 0, "of what is drawn"),
    ):
        verb.add_argument(f"--{option}", type=kind, default=value, help=f"{what} ({value})")
    what = "a text that ends an answer; may be given several times"
    verb.add_argument("--stop", action="append", default=[], metavar="TEXT", help=what)
    what = "of weights and arithmetic (default: float32 on a CPU, else bfloat16)"
    verb.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help=what)


def _probe(verbs) -> None:
    what = "short trainings with several vocabulary sizes and starting rows, compared"
    probe = _with_recipe(_verb(verbs, "vocab probe", what))
    probe.add_argument(
        "--pieces", type=_counts, default=(0, 1000, 4000), help="sizes, such as 0,1000,4000"
    )
    probe.add_argument(
        "--rows",
        type=lambda names: tuple(names.split(",")),
        default=("subword_mean", "mean", "random_normal"),
        help="starts, such as subword_mean,mean",
    )
    probe.add_argument("--steps", type=int, default=50, help="steps of the shortest training")
    _with_processes(probe)


def _fertility(verbs) -> None:
    what = "tokens every language of a folder costs, several tokenizers side by side"
    verb = _verb(verbs, "vocab fertility", what)
    verb.add_argument("tokenizers", nargs="+", help="tokenizer folders or files")
    verb.add_argument("--texts", required=True, help="folder with a text file a language")
    verb.add_argument("--reference", default="eng_Latn", help="language parity is relative to")
    verb.add_argument(
        "--parallel", action="store_true", help="texts say the same as wholes, not line by line"
    )
    verb.add_argument("--context", type=int, default=4096, help="tokens a model reads at most")
    verb.add_argument("--out", default="fertility", help="folder to write the report to")


def _laws(verbs) -> None:
    fit = _verb(verbs, "laws fit", "how scores rise with pairs of translation data, by language")
    fit.add_argument("points", help="CSV of language,pairs,score, scores up to 100")
    fit.add_argument(
        "--shared", action="store_true", help="one law for all, by a column similarity to English"
    )
    fit.add_argument("--out", default="laws", help="folder to write laws.json and the page to")

    allocate = _verb(verbs, "laws allocate", "share a budget of pairs among languages")
    allocate.add_argument("laws", help="laws.json of `lrl laws fit`")
    allocate.add_argument("--budget", type=int, required=True, help="pairs of all languages")
    allocate.add_argument("--write", default="", help="YAML of the part of a recipe to write")
    for option, kind, what in (
        ("cap", int, "pairs there are of a language"),
        ("weight", float, "how much a language counts (default: 1)"),
        ("dataset", str, "its name in data.datasets (default: the language)"),
    ):
        allocate.add_argument(
            f"--{option}", type=_named(kind), action="append", default=[],
            metavar="LANGUAGE=" + ("NAME" if kind is str else "NUMBER"), help=what,
        )  # fmt: skip


def _named(kind: type) -> Callable[[str], tuple[str, Any]]:
    def pair(argument: str) -> tuple[str, Any]:
        name, _, value = argument.partition("=")
        return name, kind(value)

    pair.__name__ = f"LANGUAGE={kind.__name__}"  # what argparse calls a wrong one
    return pair


def _whole(what: str, least: int) -> Callable[[str], int]:
    """Returns what reads a whole number of at least `least`, for argparse."""

    def number(argument: str) -> int:
        value = int(argument)
        if value < least:
            raise argparse.ArgumentTypeError(f"want a {what} of at least {least}; got {value}")
        return value

    number.__name__ = what  # what argparse calls a wrong one
    return number


def _counts(numbers: str) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers.split(","))


def _verb(verbs, name: str, what: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=what, description=what)
    verb.add_argument("--debug", action="store_true", help="print the traceback of an error")
    return verb


def _with_tasks(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("a look at some entries of the recipe, before and after")
    group.add_argument("--only", default=None, metavar="NAMES", help="entries, such as xquad,copa")
    group = verb.add_argument_group("benchmark tasks on any model, without a recipe")
    group.add_argument("--list", action="store_true", help="print the tasks that ship")
    group.add_argument("--model", default="", help="a Hugging Face folder, a hub id or a run")
    group.add_argument("--tasks", default="", help="tasks, groups or task files, such as kobest")
    group.add_argument("--data", default="", help="folder with local copies of the tasks' data")
    group.add_argument("--out", default="", help="folder for results.json and finished items")
    group.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    what = "tokens of a row, longer where a question is (default: by model)"
    group.add_argument("--length", type=_whole("length", 16), default=0, help=what)
    what = "rows at a time (default: 8)"
    group.add_argument("--batch-size", type=_whole("batch size", 1), default=8, help=what)
    group = verb.add_argument_group("both of these")
    what = "questions of each task, at most (default: 0, all)"
    group.add_argument("--limit", type=_whole("limit", 0), default=0, help=what)
    what = "examples in each prompt"
    group.add_argument("--shots", type=_whole("number of shots", 0), default=None, help=what)
    what = "leave documents out that cannot be used, and list them"
    group.add_argument("--skip-bad", action="store_true", help=what)


def _with_recipe(verb: argparse.ArgumentParser, optional: bool = False) -> argparse.ArgumentParser:
    what = "a recipe file, or the name of one that ships (quickstart)"
    if optional:
        verb.add_argument("recipe", help=what, nargs="?", default="")
    else:
        verb.add_argument("recipe", help=what)
    verb.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="FILE",
        help="a Python file of yours that registers seqio Tasks; adds to data.imports",
    )  # fmt: skip
    verb.epilog = "Typed overrides may follow the recipe: train.batch_size=8"
    return verb


def _with_discard(verb: argparse.ArgumentParser) -> None:
    what = "set training aside, as train.aside-1, and begin again"
    verb.add_argument("--discard-training", action="store_true", help=what)


def _with_processes(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("several hosts (found by themselves on TPU pods)")
    group.add_argument("--coordinator", default="", help="host:port of process 0")
    group.add_argument("--processes", type=int, default=0, help="how many processes")
    group.add_argument("--process-id", type=int, default=0, help="which of them this is")


def _with_runner(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("packing on other machines (Apache Beam)")
    group.add_argument("--runner", default="", help="direct, dataflow, flink or spark")
    group.add_argument(
        "--runner-option", action="append", default=[], metavar="KEY=VALUE",
        help="one of Beam's pipeline options, such as temp_location=gs://bucket/tmp",
    )  # fmt: skip
