"""Runs `lrl vocab probe`: a short training for each vocabulary size and way to start new rows.

    trials = probe(run, pieces=(0, 1000, 4000), rows=("subword_mean", "random"), steps=50)
    trials[best(trials)].name

It is a small version of the grid in arXiv 2406.14670. The initial loss says little about how good
starting rows are (arXiv 2608.03494), and losses per token cannot be compared between vocabularies.
So every trial reads the same number of bytes of the same mixture, and trials are compared in bits
per byte. Trials with the same vocabulary share the results of the steps `vocab` and `data`.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import re

from rich.table import Table

from lrl_jax import storage, terminal
from lrl_jax.data.feed import mixture as mixtures
from lrl_jax.embeddings.strategies import STRATEGIES
from lrl_jax.pipeline import evaluate as evaluate_step
from lrl_jax.pipeline import vocab as vocab_step
from lrl_jax.pipeline.perform import ALONE, Team
from lrl_jax.pipeline.run import Run, manifests, resolved
from lrl_jax.pipeline.study import lengths
from lrl_jax.pipeline.study.cells import Cell, Outcome, finished, perform_cells, quiet
from lrl_jax.pipeline.study.works import START_AND_END
from lrl_jax.recipe import languages
from lrl_jax.recipe.evaluate import Evaluate
from lrl_jax.recipe.schema import Init, Recipe
from lrl_jax.recipe.train import Rule, Save, Schedule
from lrl_jax.recipe.vocab import Extend, Keep
from lrl_jax.report import pages, plots
from lrl_jax.train import log

TITLE = "probe: bits per byte at equal bytes"
LINES = 200  # lines of each text that are evaluated
REFERENCE = "eng"  # the language whose loss is shown, but does not decide which trial is best
UNNAMED = ("und", "mul", "zxx")  # codes that name no language
OUTPUT_ROWS = "subword_mean"  # beside a strategy that makes input rows alone
NEAR = 0.01  # trials within this share of the best count as equal, and the simplest is chosen


@dataclasses.dataclass(frozen=True)
class ProbeTrial:
    """Holds a short training with one vocabulary and one way to start its new rows.

    Attributes:
      pieces: how many new pieces there are, after pruning.
      rows: the strategy for their rows; "" when there are none.
      bytes: bytes of text read in training, about the same in every trial.
      before, after: name of a text -> bits per byte, at the start and at the end.
      decisive: names of the texts in new languages; all if empty.
      curve: for each step, bytes read so far and the loss of the step in bits per byte.
    """

    name: str
    pieces: int
    rows: str
    steps: int
    tokens: int
    bytes: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    curve: Sequence[tuple[float, float]]
    decisive: Sequence[str] = ()

    @property
    def advice(self) -> str:
        """Returns the settings to write in the recipe."""
        if not self.pieces:
            return "vocab: {method: keep}"
        rows = [f"init.{matrix}={way}" for matrix, way in _both(self.rows).items()]
        return ", ".join([f"vocab.pieces={self.pieces}", *rows])

    @property
    def losses(self) -> list[str]:
        """Returns the bits per byte of each text at the start and at the end, as text."""
        return [f"{x:.3f}" for name in self.after for x in (self.before[name], self.after[name])]

    def sought(self, when: Mapping[str, float]) -> float:
        """Returns the mean bits per byte of the new languages in `before` or `after`."""
        scores = [x for name, x in when.items() if name in self.decisive or not self.decisive]
        return sum(scores) / len(scores)


def probe(
    run: Run, pieces: Sequence[int], rows: Sequence[str], steps: int, team: Team = ALONE
) -> list[ProbeTrial]:
    """Trains every trial; writes probe/probe.json after each one, and probe/index.html at the end.

    A trial that fails is named and the others go on; what is finished is not done again.

    Args:
      pieces: numbers of new pieces to try; 0 is the base's own vocabulary.
      rows: names of strategies for new rows (`embeddings.strategies`).
      steps: how many steps the trial with the longest tokens trains; others train more steps, so
        that they read as many bytes.

    Raises:
      ValueError: a recipe that extends no vocabulary, or evaluates no text of a new language; or no
        trial that did not fail.
    """
    recipe, folder = run.recipe, run.at("probe") / "cells"
    if not isinstance(recipe.vocab, Extend):
        raise ValueError(
            f"a probe compares new pieces; want vocab.method: extend, got {recipe.vocab.method}"
        )
    if not in_new_languages(recipe):
        codes = ", ".join(sorted(_new_languages(recipe))) or "data.datasets has English alone"
        raise ValueError(
            f"a probe needs text of the new language ({codes}) in evaluate.bits_per_byte, to "
            "compare on; name it by its code, as kor_Hang: PATH"
        )
    sizes = [_of_size(recipe, count) for count in dict.fromkeys(pieces)]
    packed = perform_cells(folder, sizes, ("vocab", "data"), team=team)
    sized = [_short(outcome.run, steps) for outcome in finished(packed, "probe", [])]
    # `steps` itself for the vocabulary with the longest tokens
    most = max((lengths.planned(each).bytes for each in sized), default=0.0)
    cells = []
    for each in sized:
        ways = dict.fromkeys(rows) if vocab_step.new_pieces(each) else ("",)
        cells += [_trial(lengths.lengthened(each, "bytes", most), way) for way in ways]
    trials: list[ProbeTrial] = []
    outcomes = perform_cells(folder, cells, works=START_AND_END, team=team)
    for outcome in finished(outcomes, "probe", []):
        trials.append(_result(outcome, in_new_languages(recipe)))
        if team.lead:
            records = [dataclasses.asdict(trial) for trial in trials]
            storage.write_json(run.at("probe") / "probe.json", records)
    if not trials:
        raise ValueError(f"every trial failed; {folder}/*/cell.json say why")
    if team.lead:
        storage.write(run.at("probe") / "index.html", page(trials))
    return trials


def in_new_languages(recipe: Recipe) -> list[str]:
    """Returns the names of evaluated texts that are in the languages a recipe teaches.

    The language of a text is that of its code (kor_Hang, kor_Hang.news), of the dataset or report
    that reads the same file, or one that its name spells (ko, korean-news).
    """
    new, datasets = _new_languages(recipe), recipe.data.datasets.values()
    code_of = {file: dataset.language for dataset in datasets for file in dataset.files()}
    code_of |= {uri: code for code, uri in recipe.vocab.report.texts.items()}
    names = []
    for name, uri in recipe.evaluate.bits_per_byte.items():
        if code := re.match(r"([a-z]{3})_[A-Z][a-z]{3}(?![a-z])", name):
            spelled = {code[1]}
        elif uri in code_of:
            spelled = {code[:3] for code in code_of[uri].split("-")}
        else:
            spelled = {*itertools.chain(*map(_meant, (name, *re.split("[._-]", name))))}
        if spelled & new:
            names.append(name)
    return names


def _new_languages(recipe: Recipe) -> set[str]:
    """Returns the languages of a recipe's datasets but English, as ISO 639-3 codes."""
    codes = (dataset.language.split("-") for dataset in recipe.data.datasets.values())
    return {code[:3] for code in itertools.chain(*codes)} - {REFERENCE, *UNNAMED}


def _meant(name: str) -> list[str]:
    try:
        return [languages.resolve(name)[:3]]
    except ValueError:
        return []


def best(trials: Sequence[ProbeTrial]) -> int:
    """Returns the index of the recommended trial.

    Among trials whose final loss is close to the lowest, it is the first one with the fewest
    pieces.

    >>> def t(pieces, loss): return ProbeTrial("", pieces, "", 1, 1, 1, {}, {"kor_Hang": loss}, ())
    >>> best([t(0, 3.0), t(4000, 2.0), t(1000, 2.01), t(1000, 2.01)])
    2
    """
    lowest = min(trial.sought(trial.after) for trial in trials)
    near = [i for i, t in enumerate(trials) if t.sought(t.after) <= lowest * (1 + NEAR)]
    return min(near, key=lambda i: (trials[i].pieces, i))


def table(trials: Sequence[ProbeTrial]) -> Table:
    """Returns a table of the trials for a terminal, the recommended trial marked."""
    losses = [f"{text} {when}" for text in trials[0].after for when in ("start", "end")]
    numbers = ("steps", "tokens", *losses)
    out = terminal.FittedTable("", "pieces", "rows", *numbers, numbers=numbers, title=TITLE)
    chosen = trials[best(trials)]
    for trial in trials:
        counts = [f"{n:,}" for n in (trial.steps, trial.tokens)]
        mark, rows = "*" if trial is chosen else "", trial.rows or "(base)"
        out.add_row(mark, f"{trial.pieces:,}", rows, *counts, *trial.losses)
    return out


def page(trials: Sequence[ProbeTrial]) -> str:
    """Returns an offline HTML page with the advice, all losses, and the curve of every trial."""
    chosen = trials[best(trials)]
    start = {t.name: t.sought(t.before) for t in trials}
    end = {t.name: t.sought(t.after) for t in trials}
    curves = {t.name: ([x for x, _ in t.curve], [y for _, y in t.curve]) for t in trials if t.curve}
    losses = [f"{text}, {when}" for text in trials[0].after for when in ("start", "end")]
    return pages.render(
        "probe.html.j2",
        bytes=chosen.bytes,
        advice=chosen.advice,
        ends=plots.dumbbells(start, end, "bits per byte"),
        curves=plots.panels(curves, "bytes of text", "bits per byte of the mixture", ()),
        columns=["trial", "pieces", "steps", "tokens", *losses],
        rows=[[t.name, f"{t.pieces:,}", t.steps, f"{t.tokens:,}", *t.losses] for t in trials],
    )


def _of_size(recipe: Recipe, count: int) -> Cell:
    """Returns the cell that makes `vocab` and `data` for `count` new pieces."""
    extended = recipe.vocab.model_copy(update={"pieces": count, "parity": None})
    vocab = extended if count else Keep(method="keep")
    return Cell(f"{count}", recipe.model_copy(update={"vocab": vocab}), {"pieces": count})


def _longest_stage(sized: Run) -> Recipe:
    """Returns a recipe with only the longest stage, whose mixture is made explicit as shares."""
    settings, packed = resolved(sized).train, manifests(sized)
    longest = max(range(len(settings.stages)), key=lambda i: settings.stages[i].steps)
    first = sum(stage.steps for stage in settings.stages[:longest]) * settings.rows_per_step
    last = first + settings.stages[longest].steps * settings.rows_per_step
    order = mixtures.plan(sized.recipe, packed)
    before, after = order.consumed(first), order.consumed(last)
    tokens = {
        name: (after[name] - before[name]) * packed[name].tokens / packed[name].rows
        for name in packed
    }
    mixed = {name: count for name, count in tokens.items() if count}
    alone = {"mixture": mixed, "ramp_to": {}, "weights": "tokens"}
    stage = settings.stages[longest].model_copy(update=alone)
    train = settings.model_copy(update={"stages": (stage,), "replay": {}})
    return sized.recipe.model_copy(update={"train": train})


def _trial(recipe: Recipe, way: str) -> Cell:
    """Returns the cell that trains a short recipe, with one way to start new rows."""
    init, texts, size = recipe.init, recipe.evaluate.bits_per_byte, recipe.evaluate.batch_size
    evaluate = Evaluate(bits_per_byte=texts, batch_size=size, max_lines=LINES)
    if way:
        init = Init.model_validate(init.model_dump() | _both(way))
    train = quiet(recipe.train.model_copy(update={"step_rows": 0, "save": Save(minutes=0)}))
    update = {"init": init, "train": train, "evaluate": evaluate}
    return Cell(f"{recipe.name}-{way or 'base'}", recipe.model_copy(update=update), {"rows": way})


def _both(way: str) -> dict[str, str]:
    """Returns the strategies for both matrices; one that learns makes input rows alone.

    >>> _both("token_distillation")
    {'input_rows': 'token_distillation', 'output_rows': 'subword_mean'}
    """
    learns = way in STRATEGIES and STRATEGIES[way].learns
    return {"input_rows": way, "output_rows": OUTPUT_ROWS if learns else way}


def _result(outcome: Outcome, decisive: Sequence[str]) -> ProbeTrial:
    run = outcome.run
    amount = lengths.planned(run)
    return ProbeTrial(
        name=outcome.cell.name,
        pieces=vocab_step.new_pieces(run),
        rows=outcome.cell.facts["rows"],
        steps=amount.steps,
        tokens=round(amount.tokens),
        bytes=round(amount.bytes),
        before=evaluate_step.scores(run, "before"),
        after=evaluate_step.scores(run, "after"),
        decisive=decisive,
        curve=list(_curve(run, amount.bytes / amount.steps)),
    )


def _short(sized: Run, steps: int) -> Run:
    """Returns a run of the longest stage alone, short, every learning rate constant at its peak."""

    def constant(rule: Rule) -> Rule:
        if rule.schedule == "frozen":
            return rule
        warmup = max(1, steps // 10)
        schedule = Schedule(peak=rule.schedule.peak, kind="constant", warmup=warmup)
        return rule.model_copy(update={"schedule": schedule})

    recipe = _longest_stage(sized)
    stage = recipe.train.stages[0]
    learn = tuple(map(constant, stage.learn))
    short = stage.model_copy(update={"steps": steps, "learn": learn})
    train = recipe.train.model_copy(update={"stages": (short,)})
    return dataclasses.replace(sized, recipe=recipe.model_copy(update={"train": train}))


def _curve(run: Run, bytes_per_step: float) -> Iterator[tuple[float, float]]:
    """Yields, for each step, the bytes read so far and the bits per byte of the mixture."""
    mixture = run.recipe.train.stages[0].mixture
    for record in log.read(run.at("train") / log.METRICS):
        here = {n: x for n, x in record["bits_per_byte"].items() if mixture.get(n)}
        whole = sum(mixture[n] for n in here)
        if whole:
            mean = sum(mixture[n] / whole * x for n, x in here.items())
            yield record["step"] * bytes_per_step, mean
