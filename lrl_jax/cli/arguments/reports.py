"""Declares the verbs that look at runs: report and runs."""

from lrl_jax.cli.arguments import shared


def add(verbs) -> None:
    """Adds `lrl report` and `lrl runs`."""
    what = "a page of what a run has left, or of several runs side by side"
    report = shared.verb(verbs, "report", what, module="report")
    what = "folders of runs, such as runs/a runs/b; or a recipe, for the report of its run"
    report.add_argument("runs", nargs="+", metavar="RUN", help=what)
    what = "a Python file of yours that registers seqio Tasks; adds to data.imports of the recipe"
    report.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="FILE", help=what
    )
    group = report.add_argument_group("several runs")
    what = "folder for the page (default: comparison)"
    group.add_argument("--out", default="", metavar="DIR", help=what)
    what = "print the facts as JSON, and write comparison.json beside the page"
    group.add_argument("--json", action="store_true", help=what)
    what = "write the scores that compare as a section for a model card"
    group.add_argument("--card", default="", metavar="FILE.md", help=what)

    runs = shared.verb(verbs, "runs", "list the runs of a folder with their state", module="runs")
    what = "folder with a folder for each run (default: runs)"
    runs.add_argument("folder", nargs="?", default="runs", help=what)
    runs.add_argument("--json", action="store_true", help="print everything as JSON")
