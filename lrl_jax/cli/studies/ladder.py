"""Runs `lrl laws run`: trains a ladder of amounts of translation pairs, and fits laws to it.

    rungs = ladder(recipe, ["kor_Hang"], [1000, 3000, 10000], [0, 1], "translation.chrf", {})
    points, failed = train_ladder(recipe, rungs, folder, ALONE)

A cell trains one language: its parallel dataset with `take` set to the amount, and without those
of the ladder's other languages. All else is the recipe's, the length of training included: where
a stage says `steps`, every cell reads as many rows and small amounts are read more often; where it
says `epochs`, every pair is read as often and larger amounts are trained longer.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import io
import itertools
from typing import Any

from etils import epath
from rich.table import Table

from lrl_jax import storage, terminal
from lrl_jax.cli import begin
from lrl_jax.cli.studies.laws import write_laws
from lrl_jax.data import dataset as datasets
from lrl_jax.data.read.filters import Sieve
from lrl_jax.laws.law import Point
from lrl_jax.pipeline import evaluate as evaluate_step
from lrl_jax.pipeline.console import display, say
from lrl_jax.pipeline.perform import Team
from lrl_jax.pipeline.run import Run
from lrl_jax.pipeline.study.cells import Cell, Outcome, finished, perform_cells, quiet
from lrl_jax.pipeline.study.works import EXACT_AMOUNTS, Works
from lrl_jax.recipe import languages
from lrl_jax.recipe.data import Data, Parallel
from lrl_jax.recipe.evaluate import Evaluate
from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.train import Train
from lrl_jax.recipe.vocab import did_you_mean

SCORES = {  # kind of evaluation -> the scores of its results that are from 0 to 100
    "translation": ("chrf", "chrf++", "bleu"), "chains": ("chrf", "parsed"), "tasks": ("score",),
}  # fmt: skip
LEAST = 3  # amounts of which a law can be doubted
POINTS, FAILED, CELLS = "points.csv", "failed.csv", "cells"


@dataclasses.dataclass(frozen=True)
class Ladder:
    """Describes what is trained.

    Attributes:
      datasets: language -> the name of its parallel dataset.
      pairs: the amounts, ascending.
      seeds: values of the recipe's `seed`.
      score: KIND.FIELD of what is measured, such as translation.chrf.
    """

    datasets: Mapping[str, str]
    pairs: Sequence[int]
    seeds: Sequence[int]
    score: str


# ---------------------------------------------------------------------------- what is trained
def ladder(
    recipe: Recipe,
    codes: Sequence[str],
    pairs: Sequence[int],
    seeds: Sequence[int],
    score: str,
    named: Mapping[str, str],
) -> Ladder:
    """Returns the ladder that the arguments ask for, after comparing it with the recipe's data.

    Args:
      named: language -> its parallel dataset, where there are several.

    Raises:
      ValueError: a language, amount, seed or score that the recipe has no data for.
    """
    chosen = [_dataset(recipe, code, named) for code in codes]
    by_language = dict(chosen)
    if len({*by_language.values()}) < len(codes):
        raise ValueError(f"--languages {','.join(codes)}: name each language, and its data, once")
    if unknown := {*named} - {*by_language}:
        raise ValueError(f"--dataset {', '.join(sorted(unknown))}: is none of --languages")
    for what, numbers, least in (("pairs", pairs, 1), ("seeds", seeds, 0)):
        if not numbers or len({*numbers}) < len(numbers) or min(numbers) < least:
            shown = ",".join(map(str, numbers)) or "0"
            raise ValueError(f"--{what} {shown}: want different numbers of at least {least}")
    if len(pairs) < LEAST:
        raise ValueError(
            f"--pairs: {len(pairs)} amounts; a law wants {LEAST} or more, such as 1000,3000,10000"
        )
    for code, name in by_language.items():
        _refuse_more_than_there_are(recipe.data, code, name, max(pairs))
        entries(recipe.evaluate, score, code)
    return Ladder(by_language, sorted(pairs), seeds, score)


def _dataset(recipe: Recipe, asked: str, named: Mapping[str, str]) -> tuple[str, str]:
    """Returns the code of a language and the name of its parallel dataset."""
    pairs = {n: d for n, d in recipe.data.datasets.items() if isinstance(d, Parallel)}
    spoken = {code for d in pairs.values() for code in (d.source_language, d.target_language)}
    code = asked if asked in spoken else languages.resolve(asked) if asked.islower() else asked
    fitting = [n for n, d in pairs.items() if code in (d.source_language, d.target_language)]
    if name := named.get(asked) or named.get(code):
        if name not in fitting:
            near = did_you_mean(name, fitting)
            raise ValueError(f"--dataset {code}={name}: want one of {', '.join(fitting)}{near}")
        return code, name
    if not fitting:
        raise ValueError(
            f"--languages {asked}: data.datasets has no parallel dataset of it; it has some of "
            f"{', '.join(sorted(spoken)) or 'no language'}{did_you_mean(asked, spoken)}"
        )
    if len(fitting) > 1:
        raise ValueError(
            f"--languages {asked}: has several parallel datasets, {', '.join(fitting)}; name one: "
            f"--dataset {code}={fitting[0]}"
        )
    return code, fitting[0]


def _refuse_more_than_there_are(data: Data, code: str, name: str, asked: int) -> None:
    """Raises ValueError if a dataset has fewer pairs; reads no further than is asked."""
    dataset = data.datasets[name]
    sieve = Sieve(dataset.model_copy(update={"take": 0}))
    records = itertools.chain.from_iterable(
        datasets.read(dataset, shard) for shard in datasets.shards(dataset)
    )
    want = asked * records_of_pair(dataset)
    have = sum(1 for _ in itertools.islice(sieve.sift(records), want))
    if have < want:
        raise ValueError(
            f"--pairs {asked}: {code} has {have // records_of_pair(dataset):,} pairs in "
            f"data.datasets.{name}; ask for no more"
        )


def records_of_pair(dataset: Any) -> int:
    """Returns how many records of a dataset a pair makes, which is what `take` counts."""
    return 2 if getattr(dataset, "direction", "") == "both" else 1


def entries(settings: Evaluate, score: str, code: str) -> dict[str, Any]:
    """Returns the entries of `evaluate` that measure a score of a language, by name.

    They are those of which a field names the language, or whose name is its code, or begins with
    it, as kor_Hang.xquad.

    Raises:
      ValueError: there is no such score, or no entry of the language.
    """
    kind, _, field = score.partition(".")
    kinds = {name: of_kind for name, of_kind in settings.kinds().items() if name in SCORES}
    names = [f"{name}.{score}" for name in kinds for score in SCORES[name]]
    if kind not in kinds or field not in SCORES[kind]:
        raise ValueError(
            f"--score {score}: want a score from 0 to 100 that rises with data, one of "
            f"{', '.join(names)}{did_you_mean(score, names)}"
        )
    of_language = {
        name: entry
        for name, entry in kinds[kind].items()
        if name.split(".")[0] == code
        or code in (value for key, value in entry if key.endswith("language"))
    }
    if not of_language:
        have = ", ".join(kinds[kind]) or "none"
        raise ValueError(
            f"--score {score}: evaluate.{kind} has no entry of {code} (it has {have}); name it by "
            f"the code, as {code}.test, or by a field that says the language"
        )
    return of_language


def cells(recipe: Recipe, ladder: Ladder) -> list[Cell]:
    """Returns the cells, those of the first seed first, and small amounts before large ones."""
    order = itertools.product(ladder.seeds, ladder.datasets, ladder.pairs)
    return [_cell(recipe, ladder, code, pairs, seed) for seed, code, pairs in order]


def _cell(recipe: Recipe, ladder: Ladder, code: str, pairs: int, seed: int) -> Cell:
    name = ladder.datasets[code]
    others = {*ladder.datasets.values()} - {name}
    data = _without(recipe.data, others)
    left_out = others | ({*recipe.data.mixtures} - {*data.mixtures})
    take = {"take": pairs * records_of_pair(data.datasets[name])}
    taken = {**data.datasets, name: data.datasets[name].model_copy(update=take)}
    kind = ladder.score.partition(".")[0]
    measured: dict[str, Any] = {of_kind: {} for of_kind in recipe.evaluate.kinds()}
    measured |= {"baseline_text": {}, kind: entries(recipe.evaluate, ladder.score, code)}
    update = {
        "seed": seed,
        "data": data.model_copy(update={"datasets": taken}),
        "train": _trained_on(recipe.train, left_out),
        "evaluate": recipe.evaluate.model_copy(update=measured),
    }
    facts = {"language": code, "pairs": pairs, "seed": seed}
    return Cell(f"{code}-{pairs}-{seed}", recipe.model_copy(update=update), facts)


def _without(data: Data, names: set[str]) -> Data:
    """Returns the data without some datasets, and without mixtures of which nothing is left."""
    gone = set(names)
    while True:
        mixtures = {
            name: mixture.model_copy(update={"of": _left(mixture.of, gone)})
            for name, mixture in data.mixtures.items()
        }
        empty = {name for name, mixture in mixtures.items() if not any(mixture.of.values())}
        if empty <= gone:
            break
        gone |= empty
    kept = {name: mixture for name, mixture in mixtures.items() if name not in gone}
    return data.model_copy(update={"datasets": _left(data.datasets, gone), "mixtures": kept})


def _left(by_name: Mapping[str, Any], gone: set[str]) -> dict[str, Any]:
    return {name: value for name, value in by_name.items() if name not in gone}


def _trained_on(train: Train, gone: set[str]) -> Train:
    """Returns the section without some datasets and the stages that read nothing else."""
    stages = []
    for stage in train.stages:
        update = {"mixture": _left(stage.mixture, gone), "ramp_to": _left(stage.ramp_to, gone)}
        if any(update["mixture"].values()):
            stages.append(stage.model_copy(update=update))
    if not stages:
        raise ValueError("train.stages: no stage is left without the ladder's other languages")
    update = {"stages": tuple(stages), "replay": _left(train.replay, gone)}
    return quiet(train.model_copy(update=update))


# ---------------------------------------------------------------------------- training
def point(outcome: Outcome, score: str) -> Point:
    """Returns the point of a finished cell: the mean score of its language's entries."""
    facts, (kind, _, field) = outcome.cell.facts, score.partition(".")
    measured = evaluate_step.results(outcome.run).get(kind) or {}
    numbers = [number for result in measured.values() for number in _numbers(result, field)]
    return Point(
        facts["language"], facts["pairs"], sum(numbers) / len(numbers), seed=str(facts["seed"]),
        where=outcome.cell.name,
    )  # fmt: skip


def _numbers(result: Mapping[str, Any], field: str) -> Iterator[float]:
    """Yields the score of a result, or those of each task of a group."""
    if "group" in result:
        for each in result["group"].values():
            yield from _numbers(each, field)
    else:
        yield float(result[result["metric"] if field == "score" else field])


def train_ladder(
    recipe: Recipe,
    ladder: Ladder,
    folder: epath.Path,
    team: Team,
    works: Works = EXACT_AMOUNTS,
) -> tuple[list[Point], list[Outcome]]:
    """Trains every cell that is due; returns the points, and the cells that failed.

    Writes points.csv and failed.csv anew after each cell, so that they hold what is there so far.
    """
    points: list[Point] = []
    failed: list[Outcome] = []
    for outcome in perform_cells(folder / CELLS, cells(recipe, ladder), works=works, team=team):
        for scored in finished([outcome], "laws", failed):
            points.append(point(scored, ladder.score))
            shown = f"{ladder.score} {points[-1].score:.2f}"
            say(f"laws: {scored.cell.name}: {shown}, {scored.seconds:.0f} s")
        if team.lead:
            _write_cells(folder, points, failed)
    return points, failed


def _write_cells(folder: epath.Path, points: Sequence[Point], failed: Sequence[Outcome]) -> None:
    _write(folder / POINTS, ("language", "pairs", "score", "seed"), map(_row, points))
    rows = [(*outcome.cell.facts.values(), outcome.error) for outcome in failed]
    _write(folder / FAILED, ("language", "pairs", "seed", "error"), rows)


def _row(point: Point) -> tuple[str, str, str, str]:
    return point.language, f"{point.pairs:g}", repr(point.score), point.seed


def _write(path: epath.Path, header: Sequence[str], rows: Any) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    storage.write(path, out.getvalue())


def cells_table(points: Sequence[Point], failed: Sequence[Outcome], score: str) -> Table:
    """Returns a table of the scores of every cell, and the errors of those that failed."""
    out = terminal.FittedTable("language", "pairs", "seed", score, numbers=("pairs", "seed", score))
    for each in points:
        out.add_row(each.language, f"{each.pairs:,.0f}", each.seed, f"{each.score:.2f}")
    for outcome in failed:
        facts = outcome.cell.facts
        error = f"failed: {outcome.error.splitlines()[0]}"
        out.add_row(facts["language"], f"{facts['pairs']:,}", str(facts["seed"]), error)
    return out


def laws_run(args: argparse.Namespace) -> int:
    """Trains a ladder of amounts for each language, and fits a law to each; 1 if a cell failed."""
    this = Run(begin.recipe(args))
    seeds = args.seeds
    if len(seeds) == 1:  # how many, and not which
        seeds = tuple(range(this.recipe.seed, this.recipe.seed + seeds[0]))
    rungs = ladder(this.recipe, args.languages, args.pairs, seeds, args.score, args.dataset)
    team, folder = begin.start(args), epath.Path(args.out) if args.out else this.at("laws")
    points, failed = train_ladder(this.recipe, rungs, folder, team)
    code = 1 if failed else 0
    if not team.lead:
        return code
    display(cells_table(points, failed, args.score))
    if failed:
        say(f"laws: {len(failed)} cells failed ({folder}/{FAILED}); run again to try them again")
    write_laws(points, folder, ceiling=args.ceiling, loss=args.loss)
    return code
