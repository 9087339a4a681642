"""Runs each verb of `lrl`; every verb imports the libraries that it needs itself."""

import argparse
from collections.abc import Callable, Sequence
import contextlib
import functools

from etils import epath

from lrl_jax import terminal
from lrl_jax.cli import begin, names
from lrl_jax.pipeline.perform import ALONE, Team, perform
from lrl_jax.pipeline.run import Run, locked

PLAIN = ("tokenizer.model", "tokenizer.json", "vocab", "export")  # names that tell nothing
SHOWN = 40  # languages that a table in the terminal shows at most


def check(args: argparse.Namespace) -> None:
    """Prints the plan of a recipe and all its problems."""
    from lrl_jax.cli.checks import check as checks

    imports = [word for file in args.imports for word in ("--import", file)]
    checks.check(Run(begin.recipe(args)), ["lrl", "run", args.recipe, *args.overrides, *imports])


def vocab(args: argparse.Namespace) -> None:
    """Runs the step `vocab` in this process alone; with --prove, proves its result again."""
    if not args.prove:
        _step(args, ALONE)
        return
    from lrl_jax.pipeline import vocab as vocab_step

    vocab_step.prove_again(Run(begin.recipe(args)))


def vocab_probe(args: argparse.Namespace) -> None:
    """Trains briefly with several vocabularies, and recommends one of them."""
    from lrl_jax.cli.studies import probe

    this, team = Run(begin.recipe(args)), begin.start(args)
    trials = probe.probe(this, args.pieces, args.rows, args.steps, team)
    if not team.lead:
        return
    terminal.console().print(probe.table(trials))
    chosen = trials[probe.best(trials)]
    begin.say(f"probe: {this.at('probe')}/index.html; go on with {chosen.advice}")


def vocab_fertility(args: argparse.Namespace) -> None:
    """Reports how many tokens each language of a folder takes under several tokenizers."""
    from lrl_jax.report import fertility as fertility_report
    from lrl_jax.vocab import fertility
    from lrl_jax.vocab.tokenizer import load as tokenizers

    named, unread = {}, {}
    for name, path in _apart(args.tokenizers).items():
        try:
            named[name] = tokenizers.load(path)
        except (ValueError, OSError) as e:
            unread[name] = str(e)
    if not named:
        raise ValueError("; ".join(unread.values()))
    for name, problem in unread.items():
        begin.say(f"fertility: {name} is left out: {problem}")
    texts = fertility.texts_in(args.texts)
    rows = fertility_report.write_report(
        named, texts, args.out,
        reference=args.reference, parallel=args.parallel, context=args.context,
    )  # fmt: skip
    if len(texts) <= SHOWN:
        terminal.console().print(fertility.table(rows))
    begin.say(f"fertility: {args.out}/index.html")


def step(args: argparse.Namespace) -> None:
    """Runs the step that the verb names on all processes."""
    _step(args, begin.start(args))


init = train = step


def export(args: argparse.Namespace) -> None:
    """Runs the step `export`; writes the export for llama.cpp, or puts it on the hub, if asked to.

    With --gguf a folder may stand in place of a recipe.
    """
    _refuse_idle(args)
    if args.gguf:
        from lrl_jax.cli.models import gguf

        if gguf.is_folder(args):
            gguf.of_folder(args)
            return
    order = None
    if args.push:
        from lrl_jax.pipeline.hub import push

        seen = {"public": args.public, "revision": args.revision}
        order = push.order(args.push, what=args.what, **seen)  # before any work
        push.refuse_name(begin.recipe(args), order)
    team = begin.start(args) if args.what == "export" else ALONE
    if args.what == "export":
        _step(args, team)
    this = Run(begin.recipe(args), step=args.step)
    if args.gguf and team.lead:
        from lrl_jax.cli.models import gguf

        gguf.of_run(args, this)
    if order and team.lead:
        from lrl_jax.pipeline.hub import push

        with locked(this):
            push.push(this, order)


def _refuse_idle(args: argparse.Namespace) -> None:
    """Raises ValueError for arguments of `export` that would have no effect."""
    of_push = {"--what": args.what != "export", "--private": args.private,
               "--public": args.public, "--revision": args.revision}  # fmt: skip
    if given := [option for option, value in of_push.items() if value and not args.push]:
        raise ValueError(f"{', '.join(given)}: say where to with --push ORG/NAME")
    of_gguf = {"--out": args.out, "--texts": args.texts}
    if given := [option for option, value in of_gguf.items() if value and not args.gguf]:
        raise ValueError(f"{', '.join(given)}: of a file for llama.cpp; add --gguf f16")
    if args.gguf and args.what != "export":
        raise ValueError(f"--what {args.what}: --gguf is of the export; leave one of them out")
    if args.gguf and args.push and epath.Path(args.recipe).is_dir():
        raise ValueError("--push: of a recipe, and not of a folder; name the recipe")


def evaluate(args: argparse.Namespace) -> int | None:
    """Runs the step `evaluate`; or looks at some of it, or scores any model on tasks."""
    if args.list or args.tasks == "help":
        from lrl_jax.cli.models import benchmark

        benchmark.print_tasks()
    elif args.recipe and args.model and args.out and not (args.tasks or args.data):
        _by_recipe(args)
    elif args.model or args.tasks or args.out or args.data:
        if args.recipe or not (args.model and args.tasks and args.out):
            lacks = "" if args.out else "no --out, the folder of the results; "
            raise ValueError(
                f"{lacks}without a recipe: lrl evaluate --model FOLDER_OR_HUB_ID --tasks NAMES "
                "--out FOLDER; by what a recipe evaluates: lrl evaluate RECIPE --model "
                "FOLDER_OR_HUB_ID --out FOLDER; a recipe has its tasks under evaluate.tasks, and "
                "--only chooses of them"
            )
        _refuse_others(
            args, ("step", "only", "redo", "overrides"), "of a recipe, and not of --model"
        )
        if len(args.model) > 1 or args.on or args.address or args.slice:
            from lrl_jax.cli.studies import models

            return models.score_each(args)
        begin.start(args)
        from lrl_jax.cli.models import benchmark

        benchmark.of_model(args, args.model[0])
    elif not args.recipe:
        raise ValueError("name a recipe, or a model with --model; --list prints the tasks")
    else:
        which = "of --model; a recipe has its own under evaluate"
        _refuse_others(args, ("dtype", "length", "batch_size", "on", "address", "slice"), which)
        if args.only is not None and not args.only.strip(" ,"):
            raise ValueError("--only: names nothing; name entries, or leave it out for all tasks")
        if args.only is not None or args.limit or args.shots is not None or args.skip_bad:
            _look(args)
        else:
            step(args)
    return None


def _by_recipe(args: argparse.Namespace) -> None:
    """Measures the models of --model by the recipe's section `evaluate`."""
    others = ("step", "length", "batch_size", "on", "address", "slice", "shots", "skip_bad")
    _refuse_others(args, others, "of other forms of this verb; the recipe says it under evaluate")
    recipe = begin.recipe(args)
    begin.start(args)
    from lrl_jax.cli.models import benchmark, by_recipe

    looked_at = recipe if args.only is None and not args.limit else benchmark.chosen(recipe, args)
    by_recipe.measure(looked_at, args)


def _refuse_others(args: argparse.Namespace, options: Sequence[str], which: str) -> None:
    """Raises ValueError where one of these arguments is given, which would have no effect."""
    usual = {"step": 0, "only": None, "redo": False, "overrides": [],
             "dtype": "float32", "length": 0, "batch_size": 8,
             "on": "", "address": "", "slice": "", "shots": None, "skip_bad": False}  # fmt: skip
    given = [name for name in options if getattr(args, name) != usual[name]]
    if given:
        shown = ", ".join(
            " ".join(args.overrides) if name == "overrides" else f"--{name.replace('_', '-')}"
            for name in given
        )
        raise ValueError(f"{shown}: {which}; leave it out")


def _look(args: argparse.Namespace) -> None:
    """Measures some entries of a recipe; the step's own results stay as they are."""
    this, team = Run(begin.recipe(args), step=args.step), begin.start(args)
    from lrl_jax.cli.models import benchmark

    with locked(this) if team.lead else contextlib.nullcontext():
        benchmark.look(this, args)


def data(args: argparse.Namespace) -> None:
    """Runs the step `data` in this process alone, or on other machines with Ray or Apache Beam."""
    from lrl_jax.data.pack import runners
    from lrl_jax.pipeline import data as data_step

    runner = runners.runner(args.runner, args.runner_option, args.address)
    _step(args, ALONE, functools.partial(data_step.run, runner=runner))


def run(args: argparse.Namespace) -> None:
    """Runs all steps that are due, then writes the report and prints the summary."""
    from lrl_jax.pipeline.steps import perform_all

    this, discard = Run(begin.recipe(args)), args.discard_training
    perform_all(this, redo=args.redo, discard=discard, team=begin.start(args), skipped=_skipped)


def fit(args: argparse.Namespace) -> None:
    """Compiles the recipe's training for a machine, and prints the memory and time it needs."""
    from lrl_jax.cli import fit as fit_verb

    fit_verb.fit(Run(begin.recipe(args)), args.on, searching=args.search, as_json=args.json)


def show(args: argparse.Namespace) -> None:
    """Prints packed rows of one dataset or one stage, with masked tokens dimmed."""
    from lrl_jax.pipeline import data as data_step

    this = Run(begin.recipe(args))
    data_step.show(this, args.dataset, args.stage, args.row, args.rows, args.tokens)


def _apart(paths: Sequence[str]) -> dict[str, str]:
    """Returns the tokenizers by their names in tables."""
    return names.apart(paths, PLAIN, "tokenizer")


def _step(args: argparse.Namespace, team: Team, work: Callable[[Run], None] | None = None) -> None:
    this, step = Run(begin.recipe(args), step=getattr(args, "step", 0)), args.verb
    from lrl_jax.pipeline.steps import STEPS  # takes seconds: what is wrong in a recipe comes first

    work = work or STEPS[step]
    with locked(this) if team.lead else contextlib.nullcontext():
        discard = getattr(args, "discard_training", False)
        ran = perform(this, step, work, force=args.redo or discard, discard=discard, team=team)
        if not ran and team.lead:
            _skipped(this, step)


def _skipped(this: Run, step: str) -> None:
    begin.say(f"{step}: done already, inputs unchanged ({this.at(step)})")
