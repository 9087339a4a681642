"""Finds in a recipe which texts are of a language, and where they would stand for another."""

from collections.abc import Iterator, Sequence
import re
from typing import Any

from lrl_jax.cli.recipes.spellings import Spellings
from lrl_jax.recipe.plain_yaml import Scalar
from lrl_jax.text import SAMPLE


def texts(tree: Any) -> Iterator[str]:
    """Yields every key and string of a tree."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield str(key)
            yield from texts(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from texts(item)
    elif isinstance(tree, str):
        yield tree


def is_of(node: dict, key: Any, code: str) -> bool:
    """Tells whether a field of a mapping holds text of a language, by other fields of it."""
    fields = {"target": "target_language", "source": "source_language", "text": "source_language"}
    if key in fields and node.get(fields[key]) == code:
        return True
    return key in ("path", "translated", "hub", "text") and node.get("language") == code


def is_place(scalar: Scalar) -> bool:
    """Tells whether a value is the path of a file."""
    if "hub" in scalar.path or "tfds" in scalar.path:
        return False
    return scalar.value.startswith(SAMPLE) or ("/" in scalar.value and " " not in scalar.value)


def beside(path: str, code: str) -> str:
    """Returns a path of the same folder for another language.

    >>> beside("runs/nsmc.txt.gz", "npi_Deva"), beside("runs/*", "npi_Deva")
    ('runs/nsmc.npi_Deva.txt.gz', 'runs/*.npi_Deva')
    """
    folder, _, file = path.rpartition("/")
    stem, dot, rest = file.partition(".")
    return f"{folder}/{stem}.{code}{dot}{rest}"


def moved_samples(tree: Any, old: Spellings) -> set[str]:
    """Returns texts of the sample in a language, and those that are aligned with them."""
    moved = {text for text in texts(tree) if text.startswith(SAMPLE) and _is_of_sample(text, old)}
    for group in _aligned(tree):
        if moved.intersection(group):
            moved |= {text for text in group if text.startswith(SAMPLE)}
    return moved


def _is_of_sample(text: str, old: Spellings) -> bool:
    return not {*re.split(r"[.:]", text)}.isdisjoint(old.longs)


def _aligned(tree: Any) -> Iterator[Sequence[str]]:
    """Yields places whose lines say the same: of a source and its target, of texts by language."""
    if isinstance(tree, dict):
        pair = [tree.get(key) for key in ("source", "target", "english", "translated")]
        yield [text for text in pair if isinstance(text, str)]
        for key in ("texts", "parallel"):
            if isinstance(tree.get(key), dict):
                yield [text for text in tree[key].values() if isinstance(text, str)]
        for value in tree.values():
            yield from _aligned(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from _aligned(item)
