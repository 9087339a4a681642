"""Reads the arguments of the command line `lrl`: a verb for each step, and others to look around.

What its exit codes mean stands in `lrl_jax.cli.codes`.
"""

import argparse
from collections.abc import Sequence
import contextlib
import difflib
import functools
import importlib
import re
import sys
import textwrap
from typing import NoReturn

from lrl_jax import __version__
from lrl_jax.cli import codes
from lrl_jax.cli.arguments import (
    corpora,
    judge,
    laws,
    machines,
    mixture,
    models,
    reports,
    sheet,
    steps,
    study,
    vocab,
)
from lrl_jax.devices import signals

EPILOG = """\
The steps, in the order of work: vocab, init, data, train, evaluate, export.
`lrl run` does those that are due. Overrides are typed: lrl train r.yaml train.batch_size=8

  lrl new tamil.yaml --language tam_Taml --base meta-llama/Llama-2-7b-hf
  lrl check tamil.yaml
  lrl run tamil.yaml

Exit codes: """ + "; ".join(f"{code} {what}" for code, what in codes.CODES.items())
WIDTH = 79  # characters of a line at most
# Arguments that are texts, or addresses of a server; all others may be names of places.
TEXTS = ("address", "base_url", "names", "prompt", "push", "revision", "stop", "system", "title")


def script(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs one verb, and ends the process with its exit code.

    After a failure threads of libraries may still work. One that comes back to Python while the
    interpreter ends aborts the process, whose exit code would then be lost: such a process ends
    at once.
    """
    code = main(argv)
    if code and "jax" in sys.modules:
        signals.end(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    commands = parser()
    words = verb_first(sys.argv[1:] if argv is None else argv)
    if (refusal := no_verb(words)) is not None:
        code, text = refusal
        print(text, file=sys.stderr if code else sys.stdout)
        return code
    args, rest = commands.parse_known_args(words)
    args.overrides = [arg for arg in rest if "=" in arg and not arg.startswith("-")]
    if getattr(args, "profile", ""):
        args.overrides.append(f"train.profile={args.profile}")
    if unknown := [arg for arg in rest if arg not in args.overrides]:
        commands.error(f"unknown argument: {' '.join(unknown)}{_hint(unknown[0])}")
    listening = signals.interrupts() if args.stoppable else contextlib.nullcontext()
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

        for value in (
            v for key, v in vars(args).items() if key not in TEXTS
        ):  # places are local paths, or addresses on a store
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str):
                    storage.refuse_odd(name)
        module = importlib.import_module(f"lrl_jax.cli.{args.module}")
        return getattr(module, args.verb.replace(" ", "_"))(args) or 0
    except Exception as e:
        return codes.end(e, args.verb, debug=args.debug)


def _hint(argument: str) -> str:
    """Returns what may be missing of an argument that is none."""
    key = re.fullmatch(r"[A-Za-z_]+(\.[\w-]+)+", argument)
    return f"; an override says a value: {argument}=VALUE" if key else ""


def verb_first(argv: Sequence[str]) -> list[str]:
    """Joins a verb of several words into one argument.

    >>> verb_first(["vocab", "probe", "r.yaml"]), verb_first(["vocab", "r.yaml"])
    (['vocab probe', 'r.yaml'], ['vocab', 'r.yaml'])
    """
    for words in range(len(argv), 1, -1):
        if " ".join(argv[:words]) in _choices().choices:
            return [" ".join(argv[:words]), *argv[words:]]
    return [*argv]


def no_verb(words: Sequence[str]) -> tuple[int, str] | None:
    """Returns exit code and text for words that begin no verb; None if they begin one, or options.

    Words with which verbs of several words begin list those verbs.

    >>> no_verb(["judge pair", "a"]), no_verb(["sheet", "mak"])[1].splitlines()[0]
    (None, "lrl sheet: no verb 'mak'; did you mean 'sheet make'? There are")
    """
    if not words or words[0].startswith("-") or words[0] in _choices().choices:
        return None
    count = max(n for n in range(len(words) + 1) if _beginning(words[:n]) or not n)
    verbs, rest = _beginning(words[:count]), [*words[count:]]
    said, wants_help = " ".join(["lrl", *words[:count]]), rest[:1] in (["-h"], ["--help"])
    lines = [] if count else ["`lrl --help` lists them with what they do."]
    for verb, what in verbs.items() if count else ():
        indents = {"initial_indent": " " * 6, "subsequent_indent": " " * 6}
        lines += [f"  lrl {verb}", *textwrap.wrap(what, WIDTH, **indents)]
    if wants_help:
        return 0, "\n".join(lines)
    wrong = f"no verb {rest[0]!r}" if rest else "say which of its verbs"
    near = difflib.get_close_matches(" ".join(words[: count + 1]), verbs, n=1) if rest else ()
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return 2, "\n".join([f"{said}: {wrong}{hint}" + (" There are" if count else ""), *lines])


def _beginning(words: Sequence[str]) -> dict[str, str]:
    """Returns the verbs, and what each does, that begin with some words and have more."""
    begin = "".join(f"{word} " for word in words)
    return {verb: what for verb, what in _verbs().items() if verb.startswith(begin)}


def _verbs() -> dict[str, str]:
    """Returns the names of the verbs that people use, and what each does."""
    return {action.dest: action.help or "" for action in _choices()._choices_actions}


@functools.cache
def _choices() -> argparse._SubParsersAction:
    """Returns the verbs of the parser, those among them that only programs call."""
    (verbs,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return verbs


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
    steps.add_steps(verbs)
    corpora.add(verbs)
    vocab.add_probe(verbs)
    vocab.add_fertility(verbs)
    laws.add(verbs)
    sheet.add(verbs)
    mixture.add(verbs)
    study.add(verbs)
    steps.add_whole_runs(verbs)
    reports.add(verbs)
    models.add_generate(verbs)
    models.add_chat(verbs)
    models.add_align(verbs)
    models.add_merge(verbs)
    judge.add(verbs)
    machines.add(verbs)
    return parser
