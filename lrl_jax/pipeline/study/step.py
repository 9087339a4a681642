"""Does one step of one cell of a study, in a process of its own: the hidden verb `lrl study step`.

The cell's folder says what is done: recipe.yaml, and cell.json, which names the works and where the
steps before it lie. The place of the step is computed anew from its inputs, and reserved meanwhile.
"""

import contextlib
import dataclasses

from etils import epath

from lrl_jax import storage
from lrl_jax.data.seqio import imports
from lrl_jax.devices import signals
from lrl_jax.devices.lease import Lease
from lrl_jax.pipeline.perform import ALONE, Team, perform
from lrl_jax.pipeline.run import CELL, Run
from lrl_jax.pipeline.study import works as studied
from lrl_jax.pipeline.study.cells import placed


def read_cell(folder: epath.PathLike, cell: str) -> tuple[Run, dict]:
    """Returns a cell as a run, with the places of its steps, and its record.

    Raises:
      ValueError: there is no such cell, or its record cannot be read.
    """
    home = epath.Path(folder) / cell
    if not (home / CELL).exists():
        raise ValueError(f"{home}: is no cell of a study; want a folder with recipe.yaml, {CELL}")
    record = storage.read_json(home / CELL)
    try:
        places = {str(step): home.parent / str(at) for step, at in dict(record["steps"]).items()}
    except (KeyError, TypeError, ValueError) as e:
        raise ValueError(f"{home / CELL}: is no record of a study's cell ({e!r})") from None
    recipe = imports.load_recipe(str(home / "recipe.yaml"))
    recipe = recipe.model_copy(update={"name": cell, "folder": str(folder)})
    return Run(recipe, places), record


def perform_step(folder: epath.PathLike, cell: str, step: str, team: Team = ALONE) -> None:
    """Does a step of a cell if it is due. Every process of a slice calls it.

    Raises:
      InUseError: another process is doing the same step.
      ValueError: a cell or step that is none, and what the step itself raises.
    """
    run, record = read_cell(folder, cell)
    works = studied.named(str(record.get("works", "measure")))
    if step not in works:
        raise ValueError(f"{step!r} is no step; want one of {', '.join(works)}")
    earlier = [*works][: [*works].index(step)]
    run = dataclasses.replace(run, elsewhere={s: run.at(s) for s in earlier if s in run.elsewhere})
    run = placed(run, step)
    with contextlib.ExitStack() as stack:
        if team.lead:
            lease = stack.enter_context(Lease(run.at(step).parent))
            stack.enter_context(signals.at_end(lambda code: lease.release()))
        perform(run, step, works[step], team=team)
