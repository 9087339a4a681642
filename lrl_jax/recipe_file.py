"""Reads a recipe from YAML, with typed overrides, and writes it back.

    recipe = load("configs/quickstart.yaml", ["train.batch_size=8"])

YAML is read as 1.2 (ruamel), where the Norwegian code `no` is a string and `1e-4` a number.
"""

from collections.abc import Iterator, Sequence
import io
import json
import re
from typing import Any

from etils import epath
import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lrl_jax.recipe import Recipe, did_you_mean
from lrl_jax.recipe_vocab import Part

MAX_BYTES = 1 << 20  # a recipe is a page or two; anything larger is not a recipe


def load(path: str, overrides: Sequence[str] = (), imports: Sequence[str] = ()) -> Recipe:
    """Reads a recipe, applies `a.b=c` overrides and adds to data.imports.

    Raises:
      ValueError: what is wrong, with the file and the key, one problem a line.
    """
    tree = _read_yaml(epath.Path(path))
    for override in overrides:
        _apply(tree, override)
    if imports and isinstance(tree.get("data"), dict):
        tree["data"]["imports"] = [*(tree["data"].get("imports") or ()), *imports]
    return parse(tree, path)


def parse(tree: dict, where: str = "recipe") -> Recipe:
    """Validates a recipe given as plain data.

    >>> parse({"nmae": "x"}, "a.yaml")
    Traceback (most recent call last):
        ...
    ValueError: a.yaml: 6 problems
      nmae: unknown key; did you mean 'name'?
      name: missing
      base: missing
      vocab: missing
      data: missing
      train: missing
    """
    try:
        return Recipe.model_validate(tree)
    except pydantic.ValidationError as e:
        errors = e.errors()
        inner = [error["loc"] for error in errors if error["type"] != "too_short"]
        lines = [line for error in errors for line in _explain(error, inner)]
        lines.sort(key=lambda line: "unknown key" not in line)
        plural = "" if len(lines) == 1 else "s"
        text = "\n  ".join([f"{where}: {len(lines)} problem{plural}", *lines])
        raise ValueError(text) from None


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML; `load` of it gives an equal recipe."""
    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(json.loads(recipe.model_dump_json()), out)
    return out.getvalue()


def schema() -> str:
    """JSON Schema of a recipe, for editors; docs/recipe.schema.json holds it."""
    return json.dumps(Recipe.model_json_schema(), indent=1, sort_keys=True) + "\n"


def _read_yaml(path: epath.Path) -> dict:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such recipe") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: is a folder; a recipe is a YAML file") from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path}: {len(data)} bytes; a recipe has at most {MAX_BYTES}")
    if re.search(rb"(?m)^[^#'\"\n]*[:\-\[,]\s*[&*][A-Za-z0-9_]+", data):
        raise ValueError(f"{path}: YAML anchors and aliases are not used in recipes")
    try:
        tree = YAML(typ="safe", pure=True).load(data.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise ValueError(f"{path}: not UTF-8 at byte {e.start}") from None
    except YAMLError as e:
        raise ValueError(f"{path}: not YAML 1.2: {e}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: a recipe is a mapping; got {type(tree).__name__}")
    return tree


def _apply(tree: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"override {override!r}: want key.path=value, such as train.batch_size=8")
    try:
        value = YAML(typ="safe", pure=True).load(text) if text else ""
    except YAMLError as e:
        raise ValueError(f"override {override!r}: {e}") from None
    *parents, last = key.split(".")
    node: Any = tree
    for name in parents:
        node = node[_index(node, name, override)] if isinstance(node, list) else _child(node, name)
    if isinstance(node, list):
        node[_index(node, last, override)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ValueError(f"override {override!r}: {'.'.join(parents)} is not a mapping")


def _child(node: Any, name: str) -> Any:
    return node.setdefault(name, {}) if isinstance(node, dict) else {}


def _index(node: list, name: str, override: str) -> int:
    if not name.isdigit() or int(name) >= len(node):
        raise ValueError(f"override {override!r}: want an index below {len(node)}, got {name!r}")
    return int(name)


def _explain(error: Any, inner: list[tuple]) -> Iterator[str]:
    parts = [str(part) for part in error["loc"]]
    depth = len(parts)
    if error["type"] == "too_short" and any(loc[:depth] == error["loc"] for loc in inner):
        return  # pydantic counts the items that failed as absent
    where = ".".join(_without_tags(parts)) or "recipe"
    if error["type"] == "extra_forbidden":
        yield f"{where}: unknown key{did_you_mean(parts[-1], _known_keys())}"
    elif error["type"] == "missing":
        yield f"{where}: missing"
    elif error["type"] == "literal_error" and not isinstance(error["input"], str | bool | int):
        return  # the other half of `Schedule | "frozen"`, which has its own line
    elif error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        yield f"{where}: {message}" if parts else message
    else:
        yield f"{where}: {error['msg']}; got {str(error['input'])[:80]!r}"


def _without_tags(parts: list[str]) -> list[str]:
    """Drops what pydantic adds to a path for the chosen member of a union."""
    unions = {"base": 1, "vocab": 1, "data": 3}  # top key -> where its tag stands in the path
    tag = unions.get(parts[0], -1) if parts else -1
    return [
        part for i, part in enumerate(parts) if i != tag and part not in ("Schedule", "literal")
    ]


def _known_keys() -> list[str]:
    return sorted({name for part in _parts(Part) for name in part.model_fields})


def _parts(part: type[Part]) -> Iterator[type[Part]]:
    for child in part.__subclasses__():
        yield child
        yield from _parts(child)
