"""Reads a number of a cell's results by its path, such as after.translation.eng_kor.chrf.

The path goes through the results of `evaluate`: when, kind, entry, and what was measured of it. A
name may have dots in it: the longest that fits is taken.
"""

from collections.abc import Iterator, Mapping
import math
from typing import Any

from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.vocab import did_you_mean

WHEN = ("before", "after")
UNSAID = ("efficiency", "facts")  # what results have beside the kinds of a recipe


def check_metric(recipe: Recipe, metric: str, where: str) -> None:
    """Refuses a path to what a recipe does not measure, as far as that is known before.

    Raises:
      ValueError: nothing has this name; names the nearest one.
    """
    kinds = {name: entries for name, entries in recipe.evaluate.kinds().items() if entries}
    paths = [f"{name}.{entry}" for name, entries in kinds.items() for entry in entries]
    when, _, rest = metric.partition(".")
    if when not in WHEN:
        names = [f"after.{path}" for path in paths]
        raise ValueError(f"{where}: want before. or after. first{did_you_mean(metric, names)}")
    named = [path for path in paths if f"{rest}.".startswith(f"{path}.")]
    if named or rest.partition(".")[0] in UNSAID:
        return
    listed = f"; there are {', '.join(paths)}" if len(paths) <= 12 else ""
    raise ValueError(
        f"{where}: its recipe measures nothing of this name{did_you_mean(rest, paths) or listed}"
    )


def value(results: Mapping[str, Any], metric: str) -> float:
    """Returns the number at a path of results: when -> kind -> entry -> what was measured.

    What an entry is measured by need not be said where it has the name of its kind, or is the
    score of a task.

    >>> results = {"after": {"bits_per_byte": {"ko.a": {"bits_per_byte": 2.5, "bytes": 10}}}}
    >>> value(results, "after.bits_per_byte.ko.a"), value(results, "after.bits_per_byte.ko.a.bytes")
    (2.5, 10.0)

    Raises:
      ValueError: there is no such number; names the nearest one.
    """
    node: Any = results
    names = metric.split(".")
    while names:
        length = next((n for n in range(len(names), 0, -1) if _has(node, ".".join(names[:n]))), 0)
        if not length:
            raise ValueError(f"{metric}: was not measured{_instead(results, metric)}")
        node, names = node[_key(node, ".".join(names[:length]))], names[length:]
    inner = [path for path, _ in _numbers(node, metric)]
    if isinstance(node, Mapping):
        kind = metric.split(".")[1] if "." in metric else ""
        node = node.get(kind, node.get(str(node.get("metric"))))
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise ValueError(
            f"{metric}: is no number, but holds several; name one of them"
            f"{f', such as {inner[0]}' if inner else ''}"
        )
    if not math.isfinite(node):
        raise ValueError(f"{metric}: is {node}, which cannot be compared")
    return float(node)


def _instead(results: Mapping[str, Any], metric: str) -> str:
    """Returns a hint: the path nearest to one that is not there, of an entry or of its number."""
    paths = [path for path, _ in _numbers(results, "")]
    entries = dict.fromkeys(path.rpartition(".")[0] for path in paths)
    return did_you_mean(metric, [*entries, *paths])


def _has(node: Any, name: str) -> bool:
    if isinstance(node, list):
        return name.isdecimal() and int(name) < len(node)
    return isinstance(node, Mapping) and _key(node, name) in node


def _key(node: Any, name: str) -> Any:
    """Returns what a name is in a node: an index of a list, `score` of a task, or itself."""
    if isinstance(node, list):
        return int(name)
    is_score = name == "score" and name not in node and "metric" in node
    return str(node["metric"]) if is_score else name


def _numbers(node: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(node, Mapping):
        for name, inner in node.items():
            yield from _numbers(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield path, node
