"""Writes the report of a run, and prints the summary at its end."""

from lrl_jax.devices import mesh as meshes
from lrl_jax.pipeline.console import display, say
from lrl_jax.pipeline.run import Run
from lrl_jax.report import run as pages


def run(run: Run) -> None:
    """Writes report/index.html, and prints the table of results and the path of the page."""
    if not meshes.lead():
        return
    path = pages.write(run.folder)
    pieces = pages.read(run.folder)
    if pieces.after:
        display(pages.summary_table(pieces.before, pieces.after, pieces.gate))
    say(f"report: {path}")
