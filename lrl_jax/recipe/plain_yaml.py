"""Reads YAML 1.2 that is plain data, in bounded time and memory: recipes and task files.

    parse("shots: no", "recipe")          {"shots": "no"}

In YAML 1.2 (ruamel) the Norwegian code `no` is a string and `1e-4` a number.
"""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_LINE = 1 << 16  # characters; time to read a tag grows with the square of its length
MAX_DEPTH = 32  # of mappings and lists in one another; recipes have about 8
MAX_EVENTS = 20_000  # of the YAML parser: a key, a value, the beginning or end of a list


def parse(source: str, what: str = "recipe") -> Any:
    """Returns a YAML document as plain data; ValueError if it is none, or more than plain data.

    It is read twice: first as events, which take no memory, so that nothing is built of a document
    that grows (anchors and aliases) or is too deep or too long.

    Args:
      what: what the document is, for messages.
    """
    longest = max(map(len, source.splitlines()), default=0)
    if longest > MAX_LINE:
        raise ValueError(f"a line of {longest:,} characters; want at most {MAX_LINE:,} in a {what}")
    depth = 0
    try:
        for count, event in enumerate(YAML(typ="safe", pure=True).parse(source)):
            if getattr(event, "anchor", None) is not None:  # of an alias as well
                raise ValueError(f"YAML anchors and aliases are not used in {what}s")
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(f"nested over {MAX_DEPTH} deep; a {what} is not")
            if count > MAX_EVENTS:
                raise ValueError(f"has over {MAX_EVENTS:,} keys and values; a {what} has fewer")
        return YAML(typ="safe", pure=True).load(source)
    except YAMLError as e:
        raise ValueError(f"not YAML 1.2: {_in_a_line(e)}") from None
    except (TypeError, OverflowError) as e:  # a key that is a mapping, a date that is none
        raise ValueError(f"not YAML 1.2: {e}") from None


def _in_a_line(error: YAMLError) -> str:
    """Returns what is wrong and where; the library draws it over several lines."""
    if not (isinstance(error, MarkedYAMLError) and error.problem and error.problem_mark):
        return " ".join(str(error).split())
    mark, context = error.problem_mark, f"{error.context}, " if error.context else ""
    return f"{context}{error.problem} (line {mark.line + 1}, column {mark.column + 1})"


@dataclasses.dataclass(frozen=True)
class Scalar:
    """Holds a key or a value of a document, and where it is written.

    Attributes:
      path: keys and indices that lead to it; a key's own path ends in itself.
      start, end: characters of the document that write it, its quotes among them.
      style: `"` or `'` where it is quoted, `>` or `|` for a block of lines, else "".
    """

    path: tuple[str | int, ...]
    value: str
    start: int
    end: int
    style: str
    is_key: bool


def scalars(source: str) -> list[Scalar]:
    """Returns every key and value of a document that `parse` reads, in the order they are written.

    >>> [(s.path, source[s.start : s.end]) for source in ["a: [1, 'x']"] for s in scalars(source)]
    [(('a',), 'a'), (('a', 0), '1'), (('a', 1), "'x'")]
    """
    root = YAML(typ="safe", pure=True).compose(source)
    return [] if root is None else list(_scalars(root, ()))


def _scalars(node: Node, path: tuple[str | int, ...], is_key: bool = False) -> Iterator[Scalar]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            below = (*path, str(key.value))
            yield from _scalars(key, below, is_key=True)
            yield from _scalars(value, below)
    elif isinstance(node, SequenceNode):
        for i, item in enumerate(node.value):
            yield from _scalars(item, (*path, i))
    elif isinstance(node, ScalarNode):
        start, end = node.start_mark.index, node.end_mark.index
        yield Scalar(path, str(node.value), start, end, node.style or "", is_key)


def filled(tree: Any, names: Mapping[str, str]) -> Any:
    """Returns a tree in whose strings {name} is replaced by what `names` has for it.

    >>> filled({"text": ["corpus/{code}.txt"]}, {"code": "tam_Taml"})
    {'text': ['corpus/tam_Taml.txt']}
    """
    if isinstance(tree, str):
        for name, value in names.items():
            tree = tree.replace(f"{{{name}}}", value)
        return tree
    if isinstance(tree, list):
        return [filled(item, names) for item in tree]
    if isinstance(tree, dict):
        return {key: filled(item, names) for key, item in tree.items()}
    return tree
