"""The table of steps: name -> the function that does it, in the order of work.

Each reads what the steps before it left in the run folder, and leaves a folder of its own.
`lrl_jax.pipeline.run.perform` decides whether one is due.
"""

from collections.abc import Callable, Mapping

from lrl_jax.pipeline import data, evaluate, export, init, train, vocab
from lrl_jax.pipeline.run import Run

STEPS: Mapping[str, Callable[[Run], None]] = {
    "vocab": vocab.run, "init": init.run, "data": data.run,
    "train": train.run, "evaluate": evaluate.run, "export": export.run,
}  # fmt: skip
