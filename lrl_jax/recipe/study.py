"""Describes a study: a recipe, a grid of changes to it, and what its cells are compared by.

name: pieces
recipe: quickstart
grid:
  vocab.pieces: [0, 1000]                      # an axis: a key of the recipe, and its values
  rows:                                        # an axis of named choices: overrides of each
    mean: {init.input_rows: mean, init.output_rows: mean}
    subwords: {init.input_rows: subword_mean, init.output_rows: subword_mean}
  seed: [0, 1, 2]                              # means and intervals are over seeds
compare: after.bits_per_byte.kor_Hang
at: bytes
"""

from collections.abc import Iterator, Mapping
import json
import re
from typing import Annotated, Any, Literal

from etils import epath
import pydantic
from pydantic import Field

from lrl_jax.recipe import file
from lrl_jax.recipe.data import Name
from lrl_jax.recipe.overrides import plain
from lrl_jax.recipe.vocab import Section, did_you_mean

RECIPE = "recipe"  # the key of a choice that names another recipe
OWN = ("name", "folder")  # keys of a recipe that a study sets itself
KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")

Axis = list[Any] | dict[str, dict[str, Any]]


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class StudyFile(Section):
    """Describes a study as its file says it."""

    name: Name
    folder: str = "runs"
    recipe: str = ""
    """A recipe file, relative to the study's, or the name of one that ships."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Key of the recipe -> its value in every cell."""
    grid: dict[str, Axis] = Field(min_length=1)
    """Axis -> its values, of a key of the recipe; or -> choices, each with overrides of its own."""
    compare: Annotated[tuple[str, ...], pydantic.BeforeValidator(_several)] = Field(min_length=1)
    """Numbers of evaluate's results, such as after.bits_per_byte.kor_Hang."""
    at: Literal["recipe", "tokens", "bytes", "flops"] = "recipe"
    """What every cell spends as much of as the first; `recipe`: steps as its recipe says."""
    before: Literal["start", "base"] = "start"
    """What `before.` means: the cell's own model before its first step, or its base."""

    def _misfits(self) -> Iterator[str]:
        yield from (f"compare: {metric} stands twice" for metric in _repeated(self.compare))
        for key in self.overrides:
            yield from _refused_key(f"overrides.{key}", key)
        for axis, values in self.grid.items():
            yield from _axis_misfits(f"grid.{axis}", axis, values)
        if not self.recipe and not any(map(_names_recipes, self.grid.values())):
            yield "recipe: missing; name one, or give an axis whose choices all have a recipe"


def _axis_misfits(where: str, axis: str, values: Axis) -> Iterator[str]:
    if not values:
        yield f"{where}: is empty; give it values, or leave it out"
    if isinstance(values, list):
        yield from _refused_key(where, axis)
        yield from (f"{where}: {value} stands twice" for value in _repeated(values))
        return
    for name, choice in values.items():
        for key in choice:
            yield from _refused_key(f"{where}.{name}.{key}", key)
    choices = {name: dict(sorted(choice.items())) for name, choice in values.items()}
    if equal := _repeated(choices.values()):
        names = [name for name, choice in choices.items() if text(choice) == equal[0]]
        yield f"{where}: {' and '.join(names)} are the same; leave one of them out"


def _refused_key(where: str, key: str) -> Iterator[str]:
    if key in OWN:
        yield f"{where}: the {key} of a cell's recipe is the study's to say"
    elif not KEY.fullmatch(key):
        yield f"{where}: want the key of a recipe, such as vocab.pieces"


def _names_recipes(values: Axis) -> bool:
    return isinstance(values, dict) and all(choice.get(RECIPE) for choice in values.values())


def text(value: Any) -> str:
    """Returns a value of an axis as JSON; the order of its keys counts, as a mixture's does."""
    return json.dumps(value, ensure_ascii=False)


def _repeated(values: Any) -> list[str]:
    texts = [text(value) for value in values]
    return [text for i, text in enumerate(texts) if text in texts[:i]]


def load(path: epath.PathLike) -> StudyFile:
    """Reads a study; a wrong one is a ValueError whose message has a line for each problem."""
    return parse(file.read_tree(epath.Path(path), "study"), str(path))


def parse(tree: Mapping[str, Any], path: str = "study") -> StudyFile:
    """Validates a study given as plain data; `path` names it in errors, which are as of `load`."""
    try:
        return StudyFile.model_validate(plain(tree))
    except pydantic.ValidationError as e:
        lines = list(dict.fromkeys(map(_explained, e.errors())))
        count = f"{len(lines)} problem{'s' * (len(lines) != 1)}"
        raise ValueError("\n  ".join([f"{path}: {count}", *lines])) from None


def _explained(error: Mapping[str, Any] | Any) -> str:
    loc = [str(key) for key in error["loc"] if not str(key).startswith(("list[", "dict["))]
    where = ".".join(loc)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key{did_you_mean(loc[-1], StudyFile.model_fields)}"
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if loc[0] == "grid" and error["type"] == "too_short":
        return "grid: is empty; give it an axis, such as vocab.pieces: [0, 1000]"
    if loc[0] == "grid":
        return (
            f"{'.'.join(loc[:2])}: want a list of values, or choices with overrides of each, such "
            f"as {{mean: {{init.input_rows: mean}}}}; got {str(error['input'])[:60]!r}"
        )
    return f"{where}: {error['msg']}; got {str(error['input'])[:80]!r}"
