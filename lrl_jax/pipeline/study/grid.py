"""Turns a study into its cells: one for each combination of the values of its axes.

study = load("pieces.yaml", ["train.batch_size=8"])
[cell.name for cell in study.cells]         # ["pieces-0_seed-0", "pieces-0_seed-1", ...]
"""

from collections.abc import Iterator, Mapping, Sequence
import copy
import dataclasses
import itertools
import json
import re
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.data.seqio import imports
from lrl_jax.pipeline.study.cells import Cell, quiet
from lrl_jax.pipeline.study.metrics import check_metric
from lrl_jax.recipe import file
from lrl_jax.recipe import study as study_file
from lrl_jax.recipe.schema import Recipe, Scratch
from lrl_jax.recipe.study import RECIPE, StudyFile
from lrl_jax.recipe.vocab import did_you_mean

STUDY = "study.json"
LONGEST = 40  # characters of a value in the name of a cell
PIECES = "vocab.pieces"
GROWS = ("compare",)  # of a study that has begun: these may change
CALLED = {"works": "whether compare names a before."}  # what a study file does not say by itself


@dataclasses.dataclass(frozen=True)
class Study:
    """Describes a study with all its cells.

    Attributes:
      folder: where cells, shared steps and results lie.
      cells: the first one decides how much all others read, where `file.at` is no `recipe`.
      overrides: of every cell, beside those of the file: key -> value.
    """

    file: StudyFile
    folder: epath.Path
    cells: tuple[Cell, ...]
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def works(self) -> str:
        """Returns the name of what its cells measure (`works.WORKS`)."""
        if not any(metric.startswith("before.") for metric in self.file.compare):
            return "measure_end"
        return "start_and_end" if self.file.before == "start" else "measure"

    def told(self) -> dict[str, Any]:
        """Returns what study.json says."""
        overrides = {**self.file.overrides, **self.overrides}
        tree = self.file.model_dump(mode="json", exclude={"folder", "overrides"})
        return {**tree, "overrides": overrides, "works": self.works}


def load(path: epath.PathLike, overrides: Sequence[str] = (), folder: str = "") -> Study:
    """Reads a study, and makes the recipe of each of its cells.

    Args:
      overrides: of every cell, as key=value.
      folder: of the study, where it is not runs/NAME.

    Raises:
      ValueError: what is wrong with the study, or with the recipe of one of its cells.
    """
    return made(study_file.load(path), epath.Path(path), overrides, folder)


def made(
    described: StudyFile, path: epath.Path, overrides: Sequence[str] = (), folder: str = ""
) -> Study:
    """Makes the recipe of each cell of a study, as `load`.

    Args:
      path: of its file, which messages name; its recipes are relative to it.
    """
    home = epath.Path(folder) if folder else epath.Path(described.folder) / described.name
    more = dict(map(file.said, overrides))
    if wrong := next((key for key in more if key in study_file.OWN), ""):
        raise ValueError(f"{wrong}=: the {wrong} of a cell's recipe is the study's to say")
    cells = tuple(_cells(described, path, more))
    for cell in cells:
        for metric in described.compare:
            check_metric(cell.recipe, metric, f"{path}: compare: {metric}: cell {cell.name}")
    study = Study(described, home, cells, more)
    for cell in cells if study.works == "measure" else ():
        if isinstance(cell.recipe.base, Scratch) and not cell.recipe.init.weights:
            raise ValueError(
                f"{path}: before: base: cell {cell.name} begins from scratch, so that it has none; "
                "take before: start, which measures it before its first step"
            )
    return study


def _cells(described: StudyFile, path: epath.Path, more: Mapping[str, Any]) -> Iterator[Cell]:
    trees: dict[str, dict] = {}  # recipe -> what its file says
    axes = [
        [(axis, *each) for each in _values(axis, values)] for axis, values in described.grid.items()
    ]
    names: set[str] = set()
    for combined in itertools.product(*axes):
        facts = {axis: _fact(value) for axis, value, _ in combined}
        changes = {**described.overrides}
        for _, _, choice in combined:
            changes |= choice
        changes |= more
        name = _unique("_".join(_named(axis, value) for axis, value, _ in combined), names)
        source = str(changes.pop(RECIPE, described.recipe))
        if not source:
            raise ValueError(f"{path}: cell {name} has no recipe; name one for the whole study")
        where = file.located(source, path.parent)
        if where not in trees:
            trees[where] = file.read_tree(epath.Path(where))
        recipe = _changed(trees[where], changes, f"{path}: cell {name}")
        yield Cell(name, recipe.model_copy(update={"train": quiet(recipe.train)}), facts)


def _values(axis: str, values: study_file.Axis) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yields what each value of an axis is called, and its overrides."""
    if isinstance(values, dict):
        yield from values.items()
    else:
        yield from ((value, {axis: value}) for value in values)


def _fact(value: Any) -> Any:
    """Returns a value as the facts of a cell have it: as text, if equality missed what differs."""
    return study_file.text(value) if isinstance(value, dict | list) else value


def _changed(tree: dict, changes: Mapping[str, Any], where: str) -> Recipe:
    """Returns the recipe of a cell; `vocab.pieces: 0` keeps the base's vocabulary."""
    cell = copy.deepcopy(tree)
    try:
        for key, value in changes.items():
            file.put(cell, key, copy.deepcopy(value))
    except ValueError as e:
        raise ValueError(f"{where}: {e}") from None
    if changes.get(PIECES) == 0 and isinstance(cell.get("vocab"), dict):
        kept = {key: value for key, value in cell["vocab"].items() if key == "report"}
        cell["vocab"] = {"method": "keep", **kept}
    try:
        return imports.resolved(file.parse(cell, where))
    except ValueError as e:
        hints = [hint for key in changes if (hint := _hint(tree, key))]
        raise ValueError("\n  ".join([str(e), *hints])) from None


def _hint(tree: Any, key: str) -> str:
    """Returns which name may be meant where a key has one that the recipe lacks; '' if none is."""
    node = tree
    for name in key.split("."):
        if isinstance(node, list):
            node = node[int(name)] if name.isdecimal() and int(name) < len(node) else None
        elif not isinstance(node, dict):
            return ""
        elif name not in node:
            near = did_you_mean(name, map(str, node))
            return f"{key}: names nothing of the recipe{near}" if near else ""
        else:
            node = node[name]
    return ""


# ---------------------------------------------------------------------------- names
def _named(axis: str, value: Any) -> str:
    """Returns how the name of a cell calls a value of an axis.

    >>> _named("vocab.pieces", 1000), _named("data", "taco"), _named("init.words", {"source": "a"})
    ('pieces-1000', 'data-taco', 'words-source-a')
    """
    text = value if isinstance(value, str) else json.dumps(value)
    words = re.findall(r"[A-Za-z0-9._-]+", text)
    return f"{axis.rpartition('.')[2]}-{'-'.join(words)[:LONGEST] or 'x'}"


def _unique(name: str, names: set[str]) -> str:
    """Returns the name, with a number if it is taken, and adds it."""
    number, free = 1, name
    while free in names:
        number += 1
        free = f"{name}.{number}"
    names.add(free)
    return free


# ---------------------------------------------------------------------------- one study a folder
def note_study(study: Study) -> None:
    """Writes study.json; the metrics may change, and values be added at the end of an axis.

    Raises:
      ValueError: the folder holds another study.
    """
    path, told = study.folder / STUDY, study.told()
    if path.exists() and (changed := _differing(storage.read_json(path), told)):
        raise ValueError(
            f"{study.folder} holds another study; changed: {', '.join(changed)}. Give this one "
            "another name, or --out another folder; only values may be added at the end of an axis"
        )
    study.folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(path, told)


def _differing(earlier: Any, told: Mapping[str, Any]) -> list[str]:
    """Returns the keys of a study that differ from what its folder says."""
    if not isinstance(earlier, dict) or not isinstance(earlier.get("grid"), dict):
        return ["all of study.json, which is no study's"]
    other = (key for key in told if key not in ("grid", *GROWS) and earlier.get(key) != told[key])
    keys = [CALLED.get(key, key) for key in other]
    if [*earlier["grid"]] != [*told["grid"]]:
        return [*keys, "the axes of grid"]
    for axis, values in told["grid"].items():
        before = earlier["grid"][axis]
        as_list = [*values.items()] if isinstance(values, dict) else values
        was = [*before.items()] if isinstance(before, dict) else before
        if study_file.text(as_list[: len(was)]) != study_file.text(was):
            keys.append(f"grid.{axis}")
    return keys
