"""Says what each run was made from, how to make it again, and where recipes differ.

origins(run)            version, machine, seed, and digests of data, tokenizer and weights
recipes(runs)           the keys that differ, with the value of each run
"""

from collections.abc import Iterator, Mapping, Sequence
import hashlib
import json
import shlex
from typing import Any

from lrl_jax import storage
from lrl_jax.evaluate.rows import recorded
from lrl_jax.report.compare.runs import ComparedRun, inside
from lrl_jax.report.places import STEPS

UNSAID = ("name", "folder")  # keys of a recipe that differ between any two runs
ABSENT = "not said"
_NONE = object()  # of a key that a recipe does not have
SHORT = 16  # characters of a digest that are shown on the page
LONGEST = 90  # characters of a value


def origins(run: ComparedRun) -> dict[str, str]:
    """Returns what a run was made from and with; "" for what is not recorded."""
    p, facts = run.pieces, inside(run.pieces.after, "facts")
    base = inside(p.settings, "base")
    versions = dict.fromkeys(str(n["version"]) for n in run.notes.values() if n.get("version"))
    evaluated = str(facts.get("checkpoint", ""))
    return {
        "base": str(base.get("model") or "") or ("from random weights" if base else ""),
        "weights of the base": run.made_from("init").get("base", ""),
        "tokenizer": run.vocabulary[0],
        "data": _digest(run.made("data")),
        "weights": str(p.gate.get("checkpoint_sha256", "")) or evaluated,
        "checkpoint evaluated": evaluated,
        "export": _digest(run.made("export")),
        "recipe": _file(run),
        "seed": recorded(p.settings.get("seed")),
        "lrl_jax": ", ".join(versions),
        "measured on": str(facts.get("devices", "")),
        "jax": str(facts.get("jax", "")),
        "python": str(facts.get("python", "")),
        "steps done": ", ".join(step for step in STEPS if run.notes.get(step, {}).get("finished")),
        "command": command(run),
    }


def command(run: ComparedRun) -> str:
    """Returns the command that makes the run again, beside the run that is there."""
    recipe = str(run.path / "recipe.yaml")
    return shlex.join(["lrl", "run", recipe, f"name={run.pieces.name}_again"])


def _digest(made: Mapping[str, str]) -> str:
    if not made:
        return ""
    return hashlib.sha256(json.dumps(dict(made), sort_keys=True).encode()).hexdigest()


def _file(run: ComparedRun) -> str:
    path = run.path / "recipe.yaml"
    return storage.sha256(path) if path.exists() else ""


def recipes(runs: Sequence[ComparedRun]) -> list[dict[str, Any]]:
    """Returns the keys of which recipes say different things, each with what each run says.

    A section that some recipes do not have at all is a single line.
    """
    said = {run.name: run.pieces.settings for run in runs if run.pieces.settings}
    sections = {
        name: {key: value for key, value in settings.items() if key not in UNSAID}
        for name, settings in said.items()
    }
    missing = {run.name: ABSENT for run in runs if run.name not in said}
    return [
        {"key": key, "values": {run.name: {**values, **missing}[run.name] for run in runs}}
        for key, values in differing("", sections)
    ]


def differing(key: str, said: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the keys below `key` in which some values differ, with every value as text.

    >>> said = {"a": {"steps": 5, "seed": 0}, "b": {"steps": 6, "seed": 0}}
    >>> [*differing("train", said)]
    [('train.steps', {'a': '5', 'b': '6'})]
    """
    values = {name: _by_name(value) for name, value in said.items()}
    if all(isinstance(value, Mapping) for value in values.values()):
        for below in dict.fromkeys(name for value in values.values() for name in value):
            each = {name: value.get(below, _NONE) for name, value in values.items()}
            yield from differing(f"{key}.{below}" if key else str(below), each)
        return
    texts = {name: _text(value) for name, value in values.items()}
    unlike = {text for name, text in texts.items() if values[name] is not _NONE}
    left_out = any(value is _NONE for value in values.values())
    if len(unlike) > 1 or (left_out and any(map(_says_something, values.values()))):
        yield key, texts


def _by_name(value: Any) -> Any:
    """Returns a list of sections as one section, each by its name or its place."""
    if not (isinstance(value, list) and value and all(isinstance(x, Mapping) for x in value)):
        return value
    return {str(section.get("name", i)): section for i, section in enumerate(value)}


def _says_something(value: Any) -> bool:
    """Tells whether a value asks for anything, so that leaving it out is a difference."""
    return value is not _NONE and bool(value)


def _text(value: Any) -> str:
    if value is _NONE:
        return ABSENT
    if isinstance(value, Mapping):
        value = {key: item for key, item in value.items() if _says_something(item)}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text or '""'
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."
