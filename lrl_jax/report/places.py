"""Finds the folders of a run's steps: its own, or those that it shares with others.

runs/korean/train                        the folder of a step
study/ko/cell.json                       a cell of a study says under "steps" where each lies
"""

from collections.abc import Mapping

from etils import epath

from lrl_jax.storage import Json

STEPS = ("vocab", "init", "data", "train", "evaluate", "export")
CELL = "cell.json"


def place(folder: epath.Path, cell: Json, step: str) -> epath.Path:
    """Returns the folder of a step of a run, which may be a cell of a study.

    >>> cell = {"steps": {"vocab": "shared/vocab-1f/vocab"}}
    >>> str(place(epath.Path("study/ko"), cell, "vocab")), str(place(epath.Path("a"), cell, "init"))
    ('study/shared/vocab-1f/vocab', 'a/init')
    """
    steps = cell.get("steps")
    shared = steps.get(step) if isinstance(steps, Mapping) else None
    if not isinstance(shared, str) or not shared or {"..", ""} & {*shared.split("/")}:
        return folder / step
    return folder.parent / shared
