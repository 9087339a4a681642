"""Declares the verbs of studies: study run, study show, and study step, which engines call."""

from lrl_jax.cli.arguments import shared

MODULE = "studies.study"
ENGINES = ("local", "ray", "here")


def add(verbs) -> None:
    """Adds `lrl study run`, `lrl study show` and the hidden `lrl study step`."""
    run = shared.verb(
        verbs, "study run", "train a grid of recipes, each shared step once, and compare them",
        MODULE, stoppable=True,
    )  # fmt: skip
    run.add_argument("study", help="a study file: a recipe, a grid, and what to compare")
    run.epilog = "Typed overrides of every cell may follow the study: train.batch_size=8"
    run.add_argument(
        "--on", choices=ENGINES, default="local",
        help="local: processes of this machine, one at a time on an accelerator; ray: the machines "
        "of a Ray cluster; here: this process, or all hosts of a slice, one cell after another "
        "(default: local)",
    )  # fmt: skip
    shared.with_cluster(run)
    run.add_argument(
        "--jobs", type=shared.whole("number", 1), default=0,
        help="processes at a time with --on local (default: one for every two cores)",
    )  # fmt: skip
    run.add_argument(
        "--retry", action="store_true", help="try the cells again that failed in an earlier call"
    )
    run.add_argument("--out", default="", help="folder of the study (default: runs/NAME)")
    shared.with_processes(run)

    show = shared.verb(verbs, "study show", "results of a study so far, also while it runs", MODULE)
    show.add_argument("study", help="the folder of a study, or its file")
    show.add_argument("--json", action="store_true", help="print results.json")

    what = "do one step of one cell of a study, as its engine asks"
    step = shared.verb(verbs, "study step", what, MODULE, stoppable=True, hidden=True)
    step.add_argument("folder", help="of the study")
    step.add_argument("cell", help="the name of its folder")
    step.add_argument("step", help="vocab, init, data, train or evaluate")
    shared.with_processes(step)
