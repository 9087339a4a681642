"""Declares the verbs of the law of a mixture: laws mixture run, fit and best."""

import argparse

from lrl_jax.cli.arguments import shared
from lrl_jax.laws.repeats import EPOCHS

RUNS, LAW = "studies.mixture", "studies.mixture_law"  # modules that do the work


def add(verbs) -> None:
    """Adds `lrl laws mixture run`, `lrl laws mixture fit` and `lrl laws mixture best`."""
    _add_run(verbs)
    _add_fit(verbs)
    _add_best(verbs)


def _add_run(verbs) -> None:
    what = "small runs of a stage with many mixtures, to fit a law to"
    run = shared.with_recipe(shared.verb(verbs, "laws mixture run", what, RUNS, stoppable=True))
    run.add_argument("--stage", default="", help="whose mixture is tried (default: the longest)")
    run.add_argument(
        "--runs", type=shared.whole("number", 2), default=24,
        help="mixtures; the first two are the recipe's own and the even one (default: 24)",
    )  # fmt: skip
    run.add_argument(
        "--steps", type=shared.whole("number", 1), default=0,
        help="steps of each run (default: those of the stage)",
    )  # fmt: skip
    run.add_argument(
        "--equal", choices=("tokens", "bytes"), default="tokens",
        help="what all runs read the same amount of; for bytes their steps differ",
    )  # fmt: skip
    run.add_argument("--seed", type=shared.whole("seed", 0), default=0, help="of the design")
    run.add_argument(
        "--seeds", type=shared.whole("number", 1), default=1,
        help="runs of each mixture, with the recipe's seed and those after it",
    )  # fmt: skip
    run.add_argument(
        "--also", action="append", default=[], metavar="FILE",
        help="a mixture that `best --write` wrote, tried as well; repeatable",
    )  # fmt: skip
    _add_epochs(run)
    _add_bounds(run)
    run.add_argument(
        "--out", default="", help="folder of the study (default: mixtures, in the run's folder)"
    )
    shared.with_processes(run)


def _add_fit(verbs) -> None:
    fit = shared.verb(verbs, "laws mixture fit", "how losses depend on a mixture", LAW)
    fit.add_argument("weights", help="mixtures.csv of small runs; or a CSV of weights alone")
    fit.add_argument("losses", nargs="?", default="", help="a CSV of losses, with the same runs")
    fit.add_argument(
        "--loss", action="append", default=[], metavar="NAME", help="fit only this one; repeatable"
    )
    fit.add_argument(
        "--form", choices=("better", "exponential", "both", "ridge"), default="better",
        help="of every law (default: what foretells best the runs that were left out)",
    )  # fmt: skip
    fit.add_argument(
        "--folds", type=shared.whole("number", 2), default=5,
        help="parts of the runs, each foretold by the others (default: 5)",
    )  # fmt: skip
    fit.add_argument("--out", default="mixture_law", help="folder of mixture_law.json and the page")


def _add_best(verbs) -> None:
    best = shared.verb(verbs, "laws mixture best", "the best mixture by a law", LAW)
    best.add_argument("law", help="mixture_law.json of `lrl laws mixture fit`")
    shared.with_recipe(best, optional=True)
    best.add_argument("--stage", default="", help="whose mixture it is (default: that of the runs)")
    for option, metavar, text in (
        ("target", "LOSS=WEIGHT", "a loss to make small, and how much it counts; repeatable"),
        ("hold", "LOSS=PERCENT", "a loss that may rise so far above the reference; repeatable"),
    ):
        best.add_argument(
            f"--{option}", type=named_number, action=shared.ByName, default={}, metavar=metavar,
            help=text,
        )  # fmt: skip
    best.add_argument(
        "--reference", choices=("recipe", "uniform"), default="recipe",
        help="the mixture that losses are compared with (default: the recipe's)",
    )  # fmt: skip
    _add_epochs(best)
    _add_bounds(best)
    best.add_argument("--tokens", type=float, default=0.0, help="of the stage; sets its epochs")
    best.add_argument(
        "--beyond", action="store_true",
        help="allow weights larger or smaller than any that was tried",
    )  # fmt: skip
    best.add_argument(
        "--draws",
        type=shared.whole("number", 20),
        default=100,
        help="bootstrap fits (default: 100)",
    )
    best.add_argument("--write", default="", help="YAML of the part of a recipe to write")


def _add_epochs(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--max-epochs", type=float, default=EPOCHS,
        help=f"how often the run reads a dataset at most (default: {EPOCHS:.1f}, after which one "
        "more token is worth 1/e of a new one; arXiv 2305.16264)",
    )  # fmt: skip


def _add_bounds(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--bound", type=bound, action=shared.ByName, default={}, metavar="DATASET=LEAST:MOST",
        help="bounds of a weight, such as english=0.1:0.5 or english=0.1:; repeatable",
    )  # fmt: skip


def bound(argument: str) -> tuple[str, tuple[float, float]]:
    """Reads DATASET=LEAST:MOST, for argparse; what is left out is 0 or 1.

    >>> bound("english=0.1:"), bound("english=:0.5"), bound("english=0.2")
    (('english', (0.1, 1.0)), ('english', (0.0, 0.5)), ('english', (0.2, 0.2)))
    """
    name, _, numbers = argument.rpartition("=")
    low, colon, high = numbers.partition(":")
    if not name or not (low or high):
        raise argparse.ArgumentTypeError(
            f"{argument!r}: want DATASET=LEAST:MOST, such as english=0.1:0.5"
        )
    return name, (float(low or 0), float(high or 1) if colon else float(low))


def named_number(argument: str) -> tuple[str, float]:
    """Reads NAME=NUMBER, for argparse; the name may hold an equals sign.

    >>> named_number("kor_Hang=1")
    ('kor_Hang', 1.0)
    """
    name, equals, number = argument.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{argument!r}: want NAME=NUMBER, such as kor_Hang=1")
    return name, float(number)
