"""Changes a recipe that is plain data: `a.b=c` from a command line, mappings from Python code.

put(tree, *said("train.stages.0.steps=20"))
merge(tree, "train", {"stages": {0: {"steps": 20}}})
"""

from collections.abc import Mapping
import os
from typing import Any

import pydantic

from lrl_jax.recipe import plain_yaml


def said(override: str) -> tuple[str, Any]:
    """Returns the key and the value of an override, such as train.batch_size=8."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"override {override!r}: want key.path=value, such as train.batch_size=8")
    try:
        return key, plain_yaml.parse(text) if text else ""
    except ValueError as e:
        raise ValueError(f"override {override!r}: {e}") from None


def put(tree: dict, key: str, value: Any) -> None:
    """Puts a value into a recipe given as plain data.

    >>> tree = {"train": {"stages": [{"steps": 10}]}}
    >>> put(tree, "train.stages.0.steps", 20)
    >>> tree
    {'train': {'stages': [{'steps': 20}]}}
    """
    *parents, last = key.split(".")
    node: Any = tree
    for name in parents:
        slot = _slot(node, name, key)
        node = node.setdefault(slot, {}) if isinstance(node, dict) else node[slot]
    node[_slot(node, last, key)] = value


def merge(tree: dict, key: str, value: Any) -> None:
    """Puts plain data into a recipe: a mapping into the one that is there, all else in its place.

    None takes a key away (as a JSON merge patch, RFC 7396). A list of the recipe takes a mapping
    too, from the index of an item.

    >>> tree = {"train": {"batch_size": 8, "stages": [{"steps": 10}, {"steps": 20}]}}
    >>> merge(tree, "train", {"batch_size": None, "stages": {1: {"steps": 5}}})
    >>> tree
    {'train': {'stages': [{'steps': 10}, {'steps': 5}]}}
    """
    *parents, last = key.split(".")
    node: Any = tree
    for name in parents:
        slot = _slot(node, name, key)
        node = node.setdefault(slot, {}) if isinstance(node, dict) else node[slot]
    _merge(node, last, value, key)


def _merge(node: Any, name: str, value: Any, key: str) -> None:
    slot = _slot(node, name, key)
    there = node.get(slot) if isinstance(node, dict) else node[slot]
    if isinstance(value, Mapping) and isinstance(there, dict | list):
        for inner, data in value.items():
            _merge(there, str(inner), data, f"{key}.{inner}")
    elif value is None and isinstance(node, dict):
        node.pop(slot, None)
    else:
        node[slot] = plain(value)


def _slot(node: Any, name: str, key: str) -> Any:
    """Returns the key of a mapping or the index of a list that an override names."""
    if isinstance(node, dict):
        return name
    if not isinstance(node, list):
        raise ValueError(f"override {key!r}: {node!r} has no {name!r}; it is not a mapping")
    if not name.isdecimal() or int(name) >= len(node):
        raise ValueError(f"override {key!r}: want an index below {len(node)}, got {name!r}")
    return int(name)


def plain(value: Any) -> Any:
    """Returns what Python code gives as a YAML file would say it: paths as text, tuples as lists.

    >>> plain({"text": ("a.txt",), "size": 8})
    {'text': ['a.txt'], 'size': 8}
    """
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value  # a number of numpy's
