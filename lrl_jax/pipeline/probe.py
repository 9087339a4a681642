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
import json
import math

from etils import epath
from rich.table import Table

from lrl_jax import storage
from lrl_jax.data.feed import mixture as mixtures
from lrl_jax.pipeline import evaluate as evaluate_step
from lrl_jax.pipeline import vocab as vocab_step
from lrl_jax.pipeline.run import Run, manifests, perform, resolved
from lrl_jax.pipeline.steps import STEPS
from lrl_jax.recipe.evaluate import Evaluate
from lrl_jax.recipe.schema import Init, Recipe
from lrl_jax.recipe.train import Rule, Save, Schedule, Stage
from lrl_jax.recipe.vocab import Extend, Keep
from lrl_jax.report import pages, plots
from lrl_jax.train import log

LINES = 200  # lines of each text that are evaluated
REFERENCE = "eng_"  # languages whose loss is shown, but does not decide which trial is best
NEAR = 0.01  # trials within this share of the best count as equal, and the simplest is chosen


@dataclasses.dataclass(frozen=True)
class ProbeTrial:
    """Holds a short training with one vocabulary and one way to start its new rows.

    Attributes:
      pieces: how many new pieces there are, after pruning.
      rows: the strategy for their rows; "" when there are none.
      bytes: bytes of text read in training, about the same in every trial.
      before, after: name of a text -> bits per byte, at the start and at the end.
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

    @property
    def advice(self) -> str:
        """Returns the settings to write in the recipe."""
        if not self.pieces:
            return "vocab: {method: keep}"
        return f"vocab.pieces={self.pieces}, init.input_rows=init.output_rows={self.rows}"

    def sought(self, when: Mapping[str, float]) -> float:
        """Returns the mean bits per byte of the new languages in `before` or `after`."""
        scores = [x for name, x in when.items() if not name.startswith(REFERENCE)]
        return sum(scores) / len(scores)


def probe(run: Run, pieces: Sequence[int], rows: Sequence[str], steps: int) -> list[ProbeTrial]:
    """Trains every trial; writes probe/probe.json after each one, and probe/index.html at the end.

    Args:
      run: a run whose recipe extends a pretrained model.
      pieces: numbers of new pieces to try; 0 is the base's own vocabulary.
      rows: names of strategies for new rows (`embeddings.strategies`).
      steps: how many steps the trial with the longest tokens trains; others train more steps, so
        that they read as many bytes.

    Raises:
      ValueError: a recipe that extends no vocabulary, or evaluates no text of a new language.
    """
    _check(run.recipe)
    sized = {count: _sized(run, count) for count in dict.fromkeys(pieces)}
    lengths = {count: _bytes_per_row(sized_run) for count, sized_run in sized.items()}
    budget = steps * run.recipe.train.batch_size * max(lengths.values())
    trials = []
    for count, sized_run in sized.items():
        enough = math.ceil(budget / (run.recipe.train.batch_size * lengths[count]))
        for way in dict.fromkeys(rows) if count else ("",):
            trials.append(_trial(sized_run, way, enough, lengths[count]))
            storage.write_json(_folder(run) / "probe.json", [dataclasses.asdict(t) for t in trials])
    (_folder(run) / "index.html").write_text(page(trials))
    return trials


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
    out = Table(title="probe: bits per byte at equal bytes", title_justify="left")
    for heading in ("", "pieces", "rows"):
        out.add_column(heading)
    names = list(trials[0].after)
    for heading in (
        "steps",
        "tokens",
        *(f"{n} {when}" for n in names for when in ("start", "end")),
    ):
        out.add_column(heading, justify="right")
    chosen = best(trials)
    for i, trial in enumerate(trials):
        losses = [x for name in names for x in (trial.before[name], trial.after[name])]
        out.add_row(
            "*" if i == chosen else "",
            f"{trial.pieces:,}",
            trial.rows or "(base)",
            f"{trial.steps:,}",
            f"{trial.tokens:,}",
            *(f"{x:.3f}" for x in losses),
        )
    return out


def page(trials: Sequence[ProbeTrial]) -> str:
    """Returns an offline HTML page with the advice, all losses, and the curve of every trial."""
    chosen = trials[best(trials)]
    start, end = ({t.name: t.sought(when(t)) for t in trials} for when in (_before, _after))
    curves = {t.name: ([x for x, _ in t.curve], [y for _, y in t.curve]) for t in trials if t.curve}
    texts = list(trials[0].after)
    rows = [
        [t.name, f"{t.pieces:,}", t.steps, f"{t.tokens:,}"]
        + [f"{x:.3f}" for name in texts for x in (t.before[name], t.after[name])]
        for t in trials
    ]
    heads = [f"{name}, {when}" for name in texts for when in ("start", "end")]
    columns = ["trial", "pieces", "steps", "tokens", *heads]
    return pages.render(
        "probe.html.j2",
        bytes=chosen.bytes,
        advice=chosen.advice,
        ends=plots.dumbbells(start, end, "bits per byte"),
        curves=plots.panels(curves, "bytes of text", "bits per byte of the mixture", ()),
        columns=columns,
        rows=rows,
    )


def _before(trial: ProbeTrial) -> Mapping[str, float]:
    return trial.before


def _after(trial: ProbeTrial) -> Mapping[str, float]:
    return trial.after


# ---------------------------------------------------------------------------- a trial
def _check(recipe: Recipe) -> None:
    if not isinstance(recipe.vocab, Extend):
        raise ValueError(
            f"a probe compares new pieces; want vocab.method: extend, got {recipe.vocab.method}"
        )
    if all(name.startswith(REFERENCE) for name in recipe.evaluate.bits_per_byte):
        raise ValueError(
            "a probe needs text of the new language in evaluate.bits_per_byte, to compare on"
        )


def _folder(run: Run) -> epath.Path:
    return run.at("probe")


def _sized(run: Run, count: int) -> Run:
    """Returns a run that makes `vocab` and `data` for `count` new pieces."""
    recipe = run.recipe
    assert isinstance(recipe.vocab, Extend)
    vocab = (
        recipe.vocab.model_copy(update={"pieces": count, "parity": None})
        if count
        else Keep(method="keep")
    )
    names = {"name": f"{count}", "folder": str(_folder(run)), "vocab": vocab}
    sized = Run(recipe.model_copy(update=names))
    for step in ("vocab", "data"):
        perform(sized, step, STEPS[step], redo=True)
    return _alone(sized)


def _alone(sized: Run) -> Run:
    """Returns the run with only its longest stage, whose mixture is made explicit as shares."""
    settings, packed = resolved(sized).train, manifests(sized)
    order = mixtures.plan(sized.recipe, packed)
    longest = max(range(len(settings.stages)), key=lambda i: settings.stages[i].steps)
    first = sum(stage.steps for stage in settings.stages[:longest]) * settings.batch_size
    last = first + settings.stages[longest].steps * settings.batch_size
    before, after = order.consumed(first), order.consumed(last)
    tokens = {
        name: (after[name] - before[name]) * packed[name].tokens / packed[name].rows
        for name in packed
    }
    mixed = {name: count for name, count in tokens.items() if count}
    alone = {"mixture": mixed, "ramp_to": {}, "weights": "tokens"}
    stage = settings.stages[longest].model_copy(update=alone)
    train = settings.model_copy(update={"stages": (stage,), "replay": {}})
    return Run(sized.recipe.model_copy(update={"train": train}))


def _bytes_per_row(sized: Run) -> float:
    """Returns how many bytes of text a row of the training mixture has on average."""
    recipe = sized.recipe
    weights, packed = _longest(recipe).mixture, manifests(sized)
    whole = sum(weights.values())
    per_token = sum(w / whole * packed[n].bytes / packed[n].loss_tokens for n, w in weights.items())
    return recipe.data.sequence_length * per_token


def _longest(recipe: Recipe) -> Stage:
    return max(recipe.train.stages, key=lambda stage: stage.steps)


def _trial(sized: Run, way: str, steps: int, bytes_per_row: float) -> ProbeTrial:
    recipe = sized.recipe
    name = f"{recipe.name}-{way or 'base'}"
    evaluate = Evaluate(
        bits_per_byte=recipe.evaluate.bits_per_byte,
        batch_size=recipe.evaluate.batch_size,
        max_lines=LINES,
    )
    init = recipe.init
    if way:
        init = Init.model_validate(init.model_dump() | {"input_rows": way, "output_rows": way})
    update = {"name": name, "init": init, "train": _short(recipe, steps), "evaluate": evaluate}
    run = Run(
        recipe.model_copy(update=update), {step: sized.at(step) for step in ("vocab", "data")}
    )
    for step in ("init", "train", "evaluate"):
        perform(run, step, TRIAL_STEPS[step], redo=True)
    curve = list(_curve(run, bytes_per_row))
    return ProbeTrial(
        name=name,
        pieces=vocab_step.new_pieces(run),
        rows=way,
        steps=steps,
        tokens=steps * recipe.train.batch_size * recipe.data.sequence_length,
        bytes=round(steps * recipe.train.batch_size * bytes_per_row),
        before=_scores(run, "before"),
        after=_scores(run, "after"),
        curve=curve,
    )


def _short(recipe: Recipe, steps: int):
    """Returns the `train` section with its longest stage alone.

    Every learning rate is warmed up and then constant.
    """
    stage = _longest(recipe)
    rules = tuple(
        rule if rule.schedule == "frozen" else _constant(rule, rule.schedule, steps)
        for rule in stage.learn
    )
    short = stage.model_copy(update={"steps": steps, "learn": rules})
    return recipe.train.model_copy(
        update={
            "stages": (short,),
            "save": Save(minutes=0, steps=0, keep=1),
            "samples": (),
            "sample_every": 0,
            "tensorboard": False,
        }
    )


def _constant(rule: Rule, schedule: Schedule, steps: int) -> Rule:
    warmup = max(1, steps // 10)
    constant = Schedule(peak=schedule.peak, kind="constant", warmup=warmup)
    return rule.model_copy(update={"schedule": constant})


def _scores(run: Run, when: str) -> dict[str, float]:
    scores = json.loads((run.at("evaluate") / f"{when}.json").read_text())["bits_per_byte"]
    return {name: score["bits_per_byte"] for name, score in scores.items()}


def _curve(run: Run, bytes_per_row: float) -> Iterator[tuple[float, float]]:
    """Yields, for each step, the bytes read so far and the bits per byte of the mixture."""
    mixture = _longest(run.recipe).mixture
    for record in log.read(run.at("train") / log.METRICS):
        here = {n: x for n, x in record["bits_per_byte"].items() if mixture.get(n)}
        whole = sum(mixture[n] for n in here)
        if whole:
            mean = sum(mixture[n] / whole * x for n, x in here.items())
            yield record["rows"] * bytes_per_row, mean


TRIAL_STEPS = {**STEPS, "evaluate": evaluate_step.compare_start_and_end}
