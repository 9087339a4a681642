"""Runs `lrl laws mixture fit` and `best`: the law of small runs, and the mixture it favours."""

import argparse
from collections.abc import Mapping, Sequence
import json
import math
import shlex

from etils import epath
import numpy as np

from lrl_jax import storage, terminal
from lrl_jax.cli import begin
from lrl_jax.cli.studies import mixture_stage
from lrl_jax.laws.mixtures import best as best_mixture
from lrl_jax.laws.mixtures import design
from lrl_jax.laws.mixtures import law as mixture
from lrl_jax.laws.mixtures import runs as mixture_runs
from lrl_jax.recipe import plain_yaml
from lrl_jax.recipe.schema import Recipe
from lrl_jax.report import mixture as mixture_page

SHOWN = 12  # runs that are left out, and losses that nobody asked for, which a terminal shows


def laws_mixture_fit(args: argparse.Namespace) -> None:
    """Fits a law to each loss; writes mixture_law.json and a page."""
    runs = mixture_runs.read(args.weights, args.losses)
    if args.loss:
        runs = runs.only(args.loss)
    beside = epath.Path(args.weights).parent / mixture.DESIGN
    noted = mixture.read_design(beside) if beside.exists() and not args.losses else None
    form = None if args.form == "better" else args.form
    laws = mixture.fit(runs, args.folds, form=form, design=noted)
    folder = epath.Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    mixture.write(laws, folder / mixture.LAW)
    (folder / "index.html").write_text(mixture_page.page(laws))
    terminal.console().print(mixture_page.laws_table(laws))
    for line in laws.left_out[:SHOWN]:
        begin.say(f"laws: left out: {line}")
    if len(laws.left_out) > SHOWN:
        begin.say(f"laws: and {len(laws.left_out) - SHOWN} more, which the page names")
    begin.say(
        f"laws: {folder}/index.html; go on with lrl laws mixture best "
        f"{shlex.quote(str(folder / mixture.LAW))} --target {shlex.quote(laws.names[0])}=1"
    )


def laws_mixture_best(args: argparse.Namespace) -> None:
    """Prints the best mixture beside others, and the overrides that set it."""
    laws = mixture.read(args.law)
    recipe = begin.recipe(args) if args.recipe else None
    stage = _stage(args, laws, recipe)
    tried_ND = laws.measured().weights_ND
    bounds = _bounds(args, laws, stage, tried_ND)
    uniform_D = np.full(len(laws.datasets), 1 / len(laws.datasets))
    own_D = uniform_D if stage is None else _in_order(stage, laws.datasets)
    reference_D = own_D if args.reference == "recipe" else uniform_D
    goal = best_mixture.Goal(args.target, args.hold)
    best_D = best_mixture.optimum(laws, goal, reference_D, bounds, [own_D, uniform_D])
    names = {"recipe": own_D, "uniform": uniform_D} if stage else {"uniform": uniform_D}
    reference = args.reference if stage else "uniform"
    others = {reference: names.pop(reference), **names}  # the reference stands beside the best
    columns = {"best": best_D, **others}
    drawn = mixture.draws(laws, args.draws)
    said = best_mixture.foretold(laws, np.array([*columns.values()]), drawn)
    print_ = terminal.console().print
    print_(mixture_page.mixture_table(laws.datasets, columns, bounds, stage))
    asked = [line for line in said if line.loss in {**goal.target, **goal.at_most}]
    shown = said if len(said) <= SHOWN else asked
    print_(mixture_page.losses_table(shown, [*columns], goal))
    beyond = design.beyond(best_D, tried_ND)
    if beyond > 0.5 * 10**-design.DIGITS:
        begin.say(
            f"laws: the best mixture is no blend of those that were run: {beyond:.1%} of its "
            "weight is outside of what they span, where the law is a guess; run it, or narrow the "
            "bounds"
        )
    _advise(args, dict(zip(laws.datasets, best_D.tolist(), strict=True)), stage, recipe)


def _stage(
    args: argparse.Namespace, laws: mixture.MixtureLaws, recipe: Recipe | None
) -> mixture_stage.MixtureStage | None:
    """Returns the stage that the mixture is for: the recipe's, or that of the small runs."""
    noted = laws.design
    if recipe is not None:
        name = args.stage or (noted.stage if noted else "")
        stage = _of_recipe(recipe, name, laws, args.max_epochs)
    elif noted is None or args.stage:
        if args.stage or args.tokens:
            raise ValueError("--stage and --tokens are of a recipe; name it after the law")
        return None
    else:
        stage = mixture_stage.of_design(noted, args.max_epochs)
    mixture_stage.refuse_other_datasets(stage, laws.datasets)
    return mixture_stage.with_tokens(stage, args.tokens) if args.tokens else stage


def _of_recipe(
    recipe: Recipe, name: str, laws: mixture.MixtureLaws, max_epochs: float
) -> mixture_stage.MixtureStage:
    from lrl_jax.pipeline.run import Run, manifests  # brings jax, which a law does not need

    run = Run(recipe)
    if run.note("data").exists():
        return mixture_stage.of(recipe, manifests(run), name, max_epochs)
    index = mixture_stage.chosen(recipe, name)
    given = recipe.train.stages[index]
    sizes = laws.design.sizes if laws.design else {}
    if missing := [name for name in given.mixture if name not in sizes]:
        raise ValueError(
            f"the size of {', '.join(missing)} is not known, of which epochs depend: pack the "
            "recipe's data first with `lrl data`, or leave the recipe out"
        )
    whole = given.steps * recipe.train.rows_per_step * recipe.data.sequence_length
    noted = mixture.MixtureDesign(
        recipe=recipe.name, stage=given.name, mixture=_normalised(given.mixture), sizes=sizes,
        tokens=whole * (1 - math.fsum(recipe.train.replay.values())), steps=given.steps,
        equal="tokens", seed=0, seeds=1, caps={},
    )  # fmt: skip
    return mixture_stage.of_design(noted, max_epochs)


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    whole = math.fsum(weights.values())
    return {name: weight / whole for name, weight in weights.items()}


def _in_order(stage: mixture_stage.MixtureStage, datasets: Sequence[str]) -> np.ndarray:
    own = dict(zip(stage.datasets, stage.own_D.tolist(), strict=True))
    return np.array([own[name] for name in datasets])


def _bounds(
    args: argparse.Namespace,
    laws: mixture.MixtureLaws,
    stage: mixture_stage.MixtureStage | None,
    tried_ND: np.ndarray,
) -> design.Bounds:
    """Returns the bounds given, within what epochs allow and, unless told, what was tried."""
    given, caps = args.bound, stage.caps if stage else {}
    bounds = design.Bounds.of(laws.datasets, given, caps)
    if args.beyond:
        return bounds
    least_D, most_D = tried_ND.min(0), tried_ND.max(0)
    within = {
        name: (max(low, least), min(high, most))
        for name, low, high, least, most in zip(
            laws.datasets, bounds.low_D, bounds.high_D, least_D, most_D, strict=True
        )
    }
    for name, (low, high) in within.items():
        if low > high:
            k = laws.datasets.index(name)
            raise ValueError(
                f"{name} may have {bounds.low_D[k]:g} to {bounds.high_D[k]:.4g}, and the runs had "
                f"{least_D[k]:g} to {most_D[k]:g}: run other mixtures, or trust the law further "
                "with --beyond"
            )
    return design.Bounds.of(laws.datasets, within, {})


def _advise(
    args: argparse.Namespace,
    weights: Mapping[str, float],
    stage: mixture_stage.MixtureStage | None,
    recipe: Recipe | None,
) -> None:
    """Prints the override that sets the mixture; writes it as YAML where that is asked for."""
    shares = {name: round(weight, design.DIGITS) for name, weight in weights.items()}
    if recipe is not None and stage is not None:
        names = [one.name for one in recipe.train.stages]
        key = f"train.stages.{names.index(stage.name)}.mixture"
        inner = ", ".join(f"{name}: {weight:g}" for name, weight in shares.items())
        print(terminal.visible(shlex.quote(f"{key}={{{inner}}}")))
    if args.write:
        storage.write(args.write, as_yaml(stage.name if stage else "", shares))
        begin.say(f"laws: {args.write}, to go into a recipe")


def as_yaml(stage: str, shares: Mapping[str, float]) -> str:
    """Returns the part of a recipe that gives a stage a mixture.

    >>> print(as_yaml("tune", {"korean": 0.75, "1": 0.25}), end="")
    train:
      stages:
        - name: tune
          mixture:
            korean: 0.75
            "1": 0.25
    """
    lines = ["train:", "  stages:", f"    - name: {_scalar(stage)}", "      mixture:"]
    lines += [f"        {_scalar(name)}: {weight:g}" for name, weight in shares.items()]
    return "\n".join(lines) + "\n"


def _scalar(name: str) -> str:
    """Returns a name as YAML reads it back: quoted where it would be a number, or null."""
    try:
        is_plain = plain_yaml.parse(name) == name
    except ValueError:
        is_plain = False
    return name if is_plain else json.dumps(name)
