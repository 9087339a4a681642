"""Trains grids of recipes for Python code, and compares them."""

from collections.abc import Mapping
import os
from typing import Any

from etils import epath

from lrl_jax.devices import mesh as meshes
from lrl_jax.pipeline.api.results import StudyResults
from lrl_jax.pipeline.api.runs import team
from lrl_jax.pipeline.api.session import interruptible, uses_devices
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.study import engine as engine_here
from lrl_jax.pipeline.study import engines, grid
from lrl_jax.pipeline.study.engines import HERE, LOCAL, RAY
from lrl_jax.pipeline.study.results import Results
from lrl_jax.pipeline.study.study import perform_study
from lrl_jax.recipe import study as study_file
from lrl_jax.recipe.vocab import did_you_mean


def study(
    described: str | os.PathLike | Mapping[str, Any],
    *overrides: str,
    on: str = LOCAL,
    jobs: int = 0,
    address: str = "",
    slice_name: str = "",
    retry: bool = False,
    out: str | os.PathLike = "",
) -> StudyResults:
    """Trains every combination of some values, does what they share once, and compares them.

        seeds = {
            "name": "seeds",
            "recipe": "runs/first_steps/recipe.yaml",
            "overrides": {"train.stages.0.steps": 2},
            "grid": {"seed": [0, 1]},
            "compare": "after.bits_per_byte.kor_Hang",
        }
        lrl.study(seeds, on="here").groups

    It is `lrl study run`: what was finished before is not done again, a cell that fails stops no
    other, and the folder gets results.json and a page. Ctrl-C ends it by KeyboardInterrupt, and
    the processes that it began with it; the same call goes on.

    Args:
      described: a study file, or what it says: name, recipe, grid, compare and the other fields of
        docs/studies.md. A path of a recipe in it is relative to the file, and without a file to the
        working folder.
      overrides: of every cell, such as "train.batch_size=8".
      on: "local": processes of this machine, one at a time on an accelerator; "here": this process,
        one cell after another; "ray": the machines of a Ray cluster.
      jobs: processes at a time with on="local"; 0: one for every two cores.
      address, slice_name: of a Ray cluster, and of its machines.
      retry: whether cells that failed in an earlier call are tried again.
      out: folder of the study, if it is not runs/NAME.

    Raises:
      ValueError: what is wrong with the study or with the recipe of one of its cells, a folder that
        holds another study, or an accelerator that this Python keeps from the processes.
      InUseError: another process works on the study.
    """
    if on not in (LOCAL, HERE, RAY):
        ways = (LOCAL, HERE, RAY)
        raise ValueError(f"on={on!r}: want {', '.join(ways)}{did_you_mean(on, ways)}")
    folder = os.fspath(out)
    if isinstance(described, Mapping):
        file = study_file.parse(described)
        whole = grid.made(file, epath.Path("study"), overrides, folder)
    else:
        whole = grid.load(described, overrides, folder)
    with interruptible("study"):
        if on == HERE:
            engines.refuse_ray(address, slice_name)
            results = _here(whole, retry)
        else:
            _refuse_a_taken_accelerator(on)
            engine = engines.opened(
                on, whole.folder, jobs=jobs, address=address, slice_name=slice_name
            )
            results = perform_study(whole, engine, retry=retry)
    say(f"study: {whole.folder}/index.html, results.json")
    return StudyResults(whole.folder, results)


def _here(whole: grid.Study, retry: bool) -> Results:
    meshes.start()
    return perform_study(whole, None, team=team(), retry=retry)


def _refuse_a_taken_accelerator(on: str) -> None:
    """Raises ValueError where this process holds the accelerator that jobs on this machine want."""
    if on != LOCAL or not engine_here.has_accelerator():
        return
    if uses_devices():
        raise ValueError(
            "on='local': this Python has begun to use the accelerator, so that no other process "
            "can; take on='here', or call lrl.study before any model is loaded"
        )
