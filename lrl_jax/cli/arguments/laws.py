"""Declares the verbs of scaling laws: laws run, laws fit and laws allocate."""

import argparse
import math

from lrl_jax.cli.arguments import shared


def add(verbs) -> None:
    """Adds `lrl laws run`, `lrl laws fit` and `lrl laws allocate`."""
    _add_run(verbs)
    fit = shared.verb(
        verbs, "laws fit", "how scores rise with pairs of translation data, by language",
        module="studies.laws",
    )  # fmt: skip
    fit.add_argument("points", help="CSV of language,pairs,score and seed, scores up to 100")
    fit.add_argument(
        "--shared", action="store_true", help="one law for all, by a column similarity to English"
    )
    _with_form(fit)
    fit.add_argument("--out", default="laws", help="folder to write laws.json and the page to")

    allocate = shared.verb(
        verbs, "laws allocate", "share a budget of pairs among languages", module="studies.laws"
    )
    allocate.add_argument("laws", help="laws.json of `lrl laws fit` or `lrl laws run`")
    allocate.add_argument("--budget", type=int, required=True, help="pairs of all languages")
    allocate.add_argument("--write", default="", help="YAML of the part of a recipe to write")
    for option, kind, what in (
        ("cap", int, "pairs there are of a language"),
        ("weight", float, "how much a language counts (default: 1)"),
        ("dataset", str, "its name in data.datasets (default: the language)"),
    ):
        _by_language(allocate, option, kind, what)


def _add_run(verbs) -> None:
    what = "train with several amounts of pairs of each language, and fit laws to the scores"
    run = shared.verb(verbs, "laws run", what, module="studies.ladder", stoppable=True)
    shared.with_recipe(run)
    run.add_argument(
        "--languages", type=lambda codes: tuple(codes.split(",")), required=True,
        help="codes with commas between them; each has a parallel dataset in the recipe",
    )  # fmt: skip
    run.add_argument(
        "--pairs", type=shared.counts, required=True, help="amounts, such as 1000,3000,10000"
    )
    what = "how many, counted from the recipe's seed; or which, such as 0,7 (default: 1)"
    run.add_argument("--seeds", type=shared.counts, default=(1,), help=what)
    what = "what is measured, as KIND.FIELD of `evaluate`, from 0 to 100 (default: %(default)s)"
    run.add_argument("--score", default="translation.chrf", help=what)
    _by_language(run, "dataset", str, "its parallel dataset, where it has several")
    _with_form(run)
    run.add_argument("--out", default="", help="folder for all of it (default: laws, in the run)")
    shared.with_processes(run)


def _with_form(verb: argparse.ArgumentParser) -> None:
    what = "100 or another number, learn, or auto: the better on amounts left out (default: auto)"
    verb.add_argument("--ceiling", type=ceiling, default="auto", help=what)
    what = "least squares, or Huber's, which one wrong point moves little (default: squares)"
    verb.add_argument("--loss", choices=("squares", "huber"), default="squares", help=what)


def ceiling(argument: str) -> float | str:
    """Reads a number above 0, `learn` or `auto`, for argparse."""
    if argument in ("learn", "auto"):
        return argument
    if not 0 < (number := float(argument)) < math.inf:
        raise argparse.ArgumentTypeError(f"want a number above 0; got {argument}")
    return number


def _by_language(verb: argparse.ArgumentParser, option: str, kind: type, what: str) -> None:
    verb.add_argument(
        f"--{option}", type=shared.named(kind), action=shared.ByName, default={},
        metavar="LANGUAGE=" + ("NAME" if kind is str else "NUMBER"), help=what,
    )  # fmt: skip
