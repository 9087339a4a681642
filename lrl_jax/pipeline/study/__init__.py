"""Studies: many runs, called cells, that share their equal steps."""

from lrl_jax.pipeline.study.cells import (
    MEASURED,
    Cell,
    Outcome,
    Works,
    perform_cells,
    quiet,
    times_done,
)

__all__ = ["MEASURED", "Cell", "Outcome", "Works", "perform_cells", "quiet", "times_done"]
