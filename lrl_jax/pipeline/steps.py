"""Lists the steps of a run by name, in the order they run, with the function of each.

A step reads the results of earlier steps in the run folder, and writes a folder of its own.
`lrl_jax.pipeline.run.perform` decides whether a step is due.
"""

from collections.abc import Callable, Mapping

from lrl_jax.pipeline import data, evaluate, export, init, train, vocab
from lrl_jax.pipeline.run import Run

STEPS: Mapping[str, Callable[[Run], None]] = {
    "vocab": vocab.run, "init": init.run, "data": data.run,
    "train": train.run, "evaluate": evaluate.run, "export": export.run,
}  # fmt: skip
