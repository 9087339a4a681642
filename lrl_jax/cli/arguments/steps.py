"""Declares the verbs that work on a recipe: new, check, each step, run, fit, show."""

import argparse

from lrl_jax.cli.arguments import shared

STEPS = {
    "vocab": "learn pieces of the new language, splice, prove, report fertility",
    "init": "bring the base weights in, with rows for the new tokens",
    "data": "tokenise and pack every dataset; print the plan",
    "train": "train the stages; resumes where it was cut short",
    "evaluate": "bits per byte, translation and tasks, before and after; tasks on any model",
    "export": "write the Hugging Face folder and prove that it is the model",
}


def add_steps(verbs) -> None:
    """Adds new, check and a verb for each step."""
    what = "write a commented recipe for your language"
    new = shared.verb(verbs, "new", what, module="recipes.verb")
    new.add_argument("path", help="the recipe to write, such as tamil.yaml")
    new.add_argument(
        "--language",
        required=True,
        help="code such as tam_Taml, ISO 639 code such as ta, or English name such as Tamil",
    )
    new.add_argument("--language-name", default="", help="its name, for a code in no table")
    new.add_argument("--base", help="Hugging Face folder or hub id")
    new.add_argument("--text", help="raw text of the language (default: corpus/*.txt)")
    what = "corpora of the hub to read, such as fineweb2,wikipedia; `lrl corpora` lists them"
    new.add_argument("--corpora", metavar="NAMES", help=what)
    what = "raw English text, not to be forgotten: replayed, proved on (default: english/*.txt)"
    new.add_argument("--english", help=what)
    what = "how often the texts are read at most: steps are planned by it (default: 4)"
    new.add_argument("--epochs", type=float, help=what)
    group = new.add_argument_group("instead of --base: a recipe with its language exchanged")
    what = "a recipe that ships, such as taco, or a recipe file"
    group.add_argument("--from", dest="source", default="", metavar="RECIPE", help=what)
    what = "which of its languages, where it has several"
    group.add_argument("--exchange", default="", metavar="CODE", help=what)

    shared.with_recipe(
        shared.verb(verbs, "check", "validate a recipe in seconds and print the plan")
    )
    for step, what in STEPS.items():
        verb = shared.with_recipe(
            shared.verb(verbs, step, what, stoppable=True), optional=step == "evaluate"
        )
        verb.add_argument("--redo", action="store_true", help="make this step anew")
        shared.with_processes(verb)
        if step == "vocab":
            verb.add_argument("--prove", action="store_true", help="prove what is there once more")
        if step == "data":
            _with_runner(verb)
        if step in ("evaluate", "export"):
            what = "the checkpoint to use, which may be an older one (default: the newest)"
            verb.add_argument("--step", type=int, default=0, help=what)
        if step == "evaluate":
            _with_tasks(verb)
        if step == "export":
            _with_gguf(verb)
            _with_push(verb)
        if step == "train":
            _with_discard(verb)
            what = "steps to trace, such as 10:15: sets train.profile"
            verb.add_argument("--profile", default="", metavar="FIRST:LAST", help=what)


def add_whole_runs(verbs) -> None:
    """Adds run, fit and show."""
    run = shared.with_recipe(
        shared.verb(
            verbs, "run", "all steps that are due, in order, and the report", stoppable=True
        )
    )
    what = "make finished steps anew whose inputs changed"
    run.add_argument("--redo", action="store_true", help=what)
    _with_discard(run)
    shared.with_processes(run)

    fit = shared.with_recipe(
        shared.verb(verbs, "fit", "compile for a machine you do not have: memory, time")
    )
    fit.add_argument("--on", default="", help="v5e-64, 2xv4-128, h100-8 (default: train.pod)")
    fit.add_argument("--search", action="store_true", help="compile many settings, print the best")
    fit.add_argument("--json", action="store_true", help="print everything as JSON")

    show = shared.with_recipe(
        shared.verb(verbs, "show", "print packed rows as the model sees them")
    )
    of = show.add_mutually_exclusive_group()
    of.add_argument("--dataset", default="", help="name in data.datasets (default: the first)")
    of.add_argument("--stage", default="", help="name in train.stages: rows as training reads them")
    show.add_argument("--row", type=int, default=0, help="first row")
    show.add_argument("--rows", type=int, default=1, help="how many")
    show.add_argument("--tokens", action="store_true", help="as ids, pieces and loss weights")


def _with_tasks(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("a look at some entries of the recipe, before and after")
    group.add_argument("--only", default=None, metavar="NAMES", help="entries, such as xquad,copa")
    group = verb.add_argument_group("any model, on tasks or by what a recipe evaluates")
    group.add_argument("--list", action="store_true", help="print the tasks that ship")
    what = "a Hugging Face folder, a hub id or a run; several, each into a folder of --out"
    group.add_argument("--model", action="append", default=[], help=what)
    group.add_argument("--tasks", default="", help="tasks, groups or task files, such as kobest")
    group.add_argument("--data", default="", help="folder with local copies of the tasks' data")
    group.add_argument("--out", default="", help="folder for results.json and finished items")
    group.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    what = "tokens of a row, longer where a question is (default: by model)"
    group.add_argument("--length", type=shared.whole("length", 16), default=0, help=what)
    what = "rows at a time (default: 8)"
    group.add_argument("--batch-size", type=shared.whole("batch size", 1), default=8, help=what)
    group = verb.add_argument_group("many models, each in a process of its own")
    what = "this machine, one after another, or a Ray cluster (default: local)"
    group.add_argument("--on", default="", choices=("local", "ray"), help=what)
    shared.with_cluster(group)
    group = verb.add_argument_group("both of these")
    what = "questions of each task, at most (default: 0, all)"
    group.add_argument("--limit", type=shared.whole("limit", 0), default=0, help=what)
    what = "examples in each prompt"
    group.add_argument("--shots", type=shared.whole("number of shots", 0), default=None, help=what)
    what = "leave documents out that cannot be used, and list them"
    group.add_argument("--skip-bad", action="store_true", help=what)


def _with_push(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("to the Hugging Face hub (docs/hub.md)")
    what = "put it there, complete and verified, after the step"
    group.add_argument("--push", default="", metavar="ORG/NAME", help=what)
    what = "the export, a model or an adapter; the tokenizer; the packed rows (default: export)"
    group.add_argument(
        "--what", default="export", choices=("export", "tokenizer", "data"), help=what
    )
    seen = group.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_true", help="seen by its owners only (default)")
    seen.add_argument("--public", action="store_true", help="seen by everybody")
    what = "a branch to put it in, where files of others may be (default: main, and none)"
    group.add_argument("--revision", default="", metavar="BRANCH", help=what)


def _with_gguf(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("a file for llama.cpp and Ollama, of a recipe or of a folder")
    what = "write the export as a GGUF file too, proved; f32 is for comparing"
    group.add_argument("--gguf", default="", choices=("f16", "q8_0", "f32"), help=what)
    what = "where to (default: beside the export, as export-gguf)"
    group.add_argument("--out", default="", metavar="FOLDER", help=what)
    what = "of a folder: text that llama.cpp must cut as the export does"
    group.add_argument("--texts", action="append", default=[], metavar="FILE", help=what)


def _with_discard(verb: argparse.ArgumentParser) -> None:
    what = "set training aside, as train.aside-1, and begin again"
    verb.add_argument("--discard-training", action="store_true", help=what)


def _with_runner(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("packing on other machines (Ray, Apache Beam)")
    group.add_argument("--runner", default="", help="ray, direct, dataflow, flink or spark")
    shared.with_address(group)
    group.add_argument(
        "--runner-option", action="append", default=[], metavar="KEY=VALUE",
        help="one of Beam's pipeline options, such as temp_location=gs://bucket/tmp",
    )  # fmt: skip
