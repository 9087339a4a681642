"""Runs `lrl laws mixture run`: small runs of one stage with many mixtures, to fit a law to.

FOLDER/mixtures.csv     a line for each run: its weights, its losses, what it read
FOLDER/design.json      the stage that the runs were made of
FOLDER/m003-s0/, ...    the runs, cells of a study (`pipeline.study`)

A run trains one stage alone. Stages before it are trained once, and every run begins where they
end; stages after it are left out.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import math
import shlex
from typing import Literal

from etils import epath

from lrl_jax import storage
from lrl_jax.cli import begin
from lrl_jax.cli.studies import mixture_stage
from lrl_jax.laws.mixtures import design
from lrl_jax.laws.mixtures import law as mixture
from lrl_jax.laws.mixtures import runs as mixture_runs
from lrl_jax.pipeline import evaluate as evaluate_step
from lrl_jax.pipeline.perform import ALONE, Team
from lrl_jax.pipeline.run import Run, manifests
from lrl_jax.pipeline.steps import STEPS
from lrl_jax.pipeline.study import MEASURED, Cell, Outcome, lengths, perform_cells, quiet
from lrl_jax.pipeline.study.cells import finished
from lrl_jax.pipeline.study.works import MEASURE_END
from lrl_jax.recipe import file, plain_yaml
from lrl_jax.recipe.evaluate import Evaluate
from lrl_jax.recipe.schema import Init, Recipe, TrainedWeights
from lrl_jax.recipe.train import Stage

TABLE = "mixtures.csv"
START = "start"  # the cell that packs the data, and trains the stages before
LINES = 200  # lines of each text that are evaluated, unless the recipe says fewer

Row = Mapping[str, str | float]


@dataclasses.dataclass(frozen=True)
class MixtureStudy:
    """Describes small runs: what the arguments say, and the stage they are of.

    Attributes:
      steps: of a run with the recipe's own mixture.
      equal: whether other runs read as many tokens, or as many bytes of text.
      seed: of the design.
      seeds: how many runs there are of each mixture.
    """

    recipe: Recipe
    folder: epath.Path
    stage: int
    steps: int
    equal: Literal["tokens", "bytes"]
    seed: int
    seeds: int


def laws_mixture_run(args: argparse.Namespace) -> int:
    """Trains small runs, and writes mixtures.csv as they finish; 1 if one of them failed."""
    recipe = begin.recipe(args)
    index = mixture_stage.chosen(recipe, args.stage)
    steps = args.steps or recipe.train.stages[index].steps
    folder = epath.Path(args.out) if args.out else Run(recipe).at("mixtures")
    study = MixtureStudy(recipe, folder, index, steps, args.equal, args.seed, args.seeds)
    refuse_unmeasured(recipe)
    designed = [f"m{number:03}" for number in range(args.runs)]
    given_names = [epath.Path(path).stem for path in args.also]
    for i, name in enumerate(given_names):
        if name in designed or name in given_names[:i]:
            raise ValueError(
                f"--also {args.also[i]}: another mixture is called {name!r} too, by which its runs "
                "are told apart; rename the file"
            )
    team = begin.start(args)
    stage, packed = prepared(study, args.max_epochs, team)
    bounds = design.Bounds.of(stage.datasets, args.bound, stage.caps)
    tried_ND = design.mixtures(stage.own_D.tolist(), bounds, args.runs, args.seed)
    tried = dict(zip(designed, tried_ND.tolist(), strict=True))
    tried |= {name: given(path, stage) for name, path in zip(given_names, args.also, strict=True)}
    if team.lead:
        note_design(study, stage)
    outcomes = perform_cells(folder, [*cells(study, tried, packed)], MEASURED, MEASURE_END, team)
    failed = written(folder / TABLE, outcomes, packed, team)
    path = folder / TABLE
    if failed:
        begin.say(f"laws: {len(failed)} runs failed; the same command tries those again")
    begin.say(f"laws: {path}; go on with lrl laws mixture fit {shlex.quote(str(path))}")
    return 1 if failed else 0


def refuse_unmeasured(recipe: Recipe) -> None:
    """Raises ValueError for a recipe that measures no losses."""
    if not recipe.evaluate.bits_per_byte:
        raise ValueError(
            "evaluate.bits_per_byte is empty; name the texts whose losses the mixture is for, such "
            "as {kor_Hang: ko.txt, eng_Latn: en.txt}"
        )


def prepared(
    study: MixtureStudy, max_epochs: float, team: Team = ALONE
) -> tuple[mixture_stage.MixtureStage, mixture_stage.Manifests]:
    """Packs the data and trains the stages before; returns the stage, and what was packed."""
    recipe = study.recipe
    before = recipe.train.stages[: study.stage]
    first = _plain(recipe, before or recipe.train.stages)
    steps = MEASURED[:-1] if before else ("vocab", "data")
    (outcome,) = perform_cells(study.folder, [Cell(START, first)], steps, STEPS, team)
    if outcome.error:
        raise ValueError(f"{outcome.run.folder}: {outcome.error}")
    packed = manifests(outcome.run)
    name = recipe.train.stages[study.stage].name
    return mixture_stage.of(recipe, packed, name, max_epochs), packed


def given(path: str, stage: mixture_stage.MixtureStage) -> list[float]:
    """Reads the mixture of a stage from the part of a recipe that `best --write` writes, [D]."""
    tree = plain_yaml.parse(storage.read_bytes(path, file.MAX_BYTES).decode())
    try:
        mixed = {one["name"]: one["mixture"] for one in tree["train"]["stages"]}[stage.name]
        weights = {str(name): float(weight) for name, weight in mixed.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ValueError(
            f"{path}: has no mixture of stage {stage.name!r} ({e!r}); want the file of `lrl laws "
            "mixture best --write`"
        ) from None
    whole = math.fsum(weights.values())
    if set(weights) != set(stage.datasets) or abs(whole - 1) > mixture_runs.ROUNDING:
        raise ValueError(
            f"{path}: its weights of {', '.join(weights)} sum to {whole:g}; want shares of "
            f"{', '.join(stage.datasets)} that sum to 1"
        )
    return [weights[name] / whole for name in stage.datasets]


def cells(
    study: MixtureStudy, tried: Mapping[str, Sequence[float]], packed: mixture_stage.Manifests
) -> Iterator[Cell]:
    """Yields a cell for each mixture and seed; all read as much as that of the first mixture."""
    datasets = tuple(study.recipe.train.stages[study.stage].mixture)
    whole = 0.0
    for name, weights_D in tried.items():
        weights = dict(zip(datasets, weights_D, strict=True))
        recipe = _alone(study, weights, study.steps)
        _, size = mixture_stage.amounts_read(recipe, packed)
        whole = whole or size
        if study.equal == "bytes":
            recipe = _alone(study, weights, max(1, round(study.steps * whole / size)))
        for seed in range(study.seeds):
            seeded = recipe.model_copy(update={"seed": recipe.seed + seed})
            facts = {"mixture": weights, "seed": seeded.seed}
            yield Cell(f"{name}-s{seed}", seeded, facts)


def _alone(study: MixtureStudy, weights: Mapping[str, float], steps: int) -> Recipe:
    """Returns a recipe of the stage alone, with these weights, which begins where others ended."""
    whole = study.recipe.train.stages[study.stage]
    stage = lengths.with_steps(whole, steps).model_copy(update={"mixture": dict(weights)})
    recipe = _plain(study.recipe, (stage,))
    if not study.stage:
        return recipe
    begins = TrainedWeights(run=str(study.folder / START))
    init = Init(param_dtype=recipe.init.param_dtype, weights=begins)
    return recipe.model_copy(update={"init": init})


def _plain(recipe: Recipe, stages: Sequence[Stage]) -> Recipe:
    """Returns a recipe that trains some stages, saves their end, and measures bits per byte."""
    given = recipe.evaluate
    evaluate = Evaluate(
        bits_per_byte=given.bits_per_byte,
        batch_size=given.batch_size,
        max_lines=min(given.max_lines, LINES) if given.max_lines else LINES,
    )
    train = quiet(recipe.train.model_copy(update={"stages": tuple(stages), "profile": ""}))
    return recipe.model_copy(update={"train": train, "evaluate": evaluate})


# ---------------------------------------------------------------------------- the table
def note_design(study: MixtureStudy, stage: mixture_stage.MixtureStage) -> None:
    """Writes design.json; ValueError where the folder holds runs of another design."""
    numbers = {"sizes": stage.sizes_D, "mixture": stage.own_D}
    named = {
        field: dict(zip(stage.datasets, values.tolist(), strict=True))
        for field, values in numbers.items()
    }
    noted = mixture.MixtureDesign(
        recipe=study.recipe.name, stage=stage.name, tokens=stage.tokens, steps=study.steps,
        equal=study.equal, seed=study.seed, seeds=study.seeds, caps=stage.caps, **named,
    )  # fmt: skip
    path = study.folder / mixture.DESIGN
    if path.exists() and (earlier := mixture.read_design(path)) != noted:
        changed = [
            name
            for name in mixture.MixtureDesign.model_fields
            if getattr(earlier, name) != getattr(noted, name)
        ]
        raise ValueError(
            f"{study.folder} holds runs of another design; changed: {', '.join(changed)}. Give "
            "--out another folder, or say what was said before"
        )
    storage.write(path, noted.model_dump_json(indent=1) + "\n")


def written(
    path: epath.Path, outcomes: Iterator[Outcome], packed: mixture_stage.Manifests, team: Team
) -> list[Outcome]:
    """Adds a line for each run as it finishes; returns those that failed.

    Lines of earlier calls stay, unless a run was made again and measured something else.
    """
    failed: list[Outcome] = []
    table, stale = _Table(path) if team.lead else None, False
    for outcome in finished(outcomes, "laws", failed):
        if table is not None:
            stale |= not table.add(row_of(outcome, packed))
    if table is not None and stale:
        table.write()
    return failed


def row_of(outcome: Outcome, packed: mixture_stage.Manifests) -> Row:
    """Returns the line of a run: its name, weights, losses, seed, and what it read."""
    recipe = outcome.run.recipe
    scores = evaluate_step.scores(outcome.run, "after")
    tokens, size = mixture_stage.amounts_read(recipe, packed)
    weights = recipe.train.stages[0].mixture
    return {
        "run": outcome.cell.name,
        **{mixture_runs.WEIGHT + name: weight for name, weight in weights.items()},
        **{mixture_runs.LOSS + name: score for name, score in scores.items()},
        "seed": recipe.seed,
        "steps": recipe.train.steps,
        "tokens": round(tokens),
        "bytes": round(size),
    }


class _Table:
    """Holds mixtures.csv: lines by the names of runs, added whole and never lost."""

    def __init__(self, path: epath.Path):
        self.path = path
        content = path.read_text() if path.exists() else ""
        whole = content[: content.rfind("\n") + 1]
        if whole != content:  # a process was killed in the middle of a line
            storage.write(path, whole)
        self.lines = {next(csv.reader([line]))[0]: line for line in whole.splitlines(keepends=True)}

    def add(self, row: Row) -> bool:
        """Adds a line; returns whether the file holds it, and not another one of that name."""
        header, line = mixture_runs.line([*row]), mixture_runs.line([*row.values()])
        if self.lines.setdefault("run", header) != header:
            raise ValueError(
                f"{self.path}: has other columns: {self.lines['run'].strip()}; want "
                f"{header.strip()}. Give --out another folder"
            )
        if not self.path.exists():
            storage.write(self.path, header)
        name = str(row["run"])
        if name not in self.lines:
            storage.Lines(self.path).add(line)
        is_same = self.lines.get(name, line) == line
        self.lines[name] = line
        return is_same

    def write(self) -> None:
        """Writes the whole file anew."""
        storage.write(self.path, "".join(self.lines.values()))
