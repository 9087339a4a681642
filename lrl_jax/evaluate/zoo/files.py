"""Finds the task files of lm-evaluation-harness, and refuses those that run code unasked.

A task file names Python functions as `!function utils.doc_to_text`, and the harness runs the file
utils.py beside it. The files that come with this package may do so, others only where the user
allows it by name. Nothing of lm_eval is imported here, and a file is read as data.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
import functools
import importlib.util
import os
from pathlib import Path
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lrl_jax.recipe.extras import how_to_install
from lrl_jax.recipe.vocab import did_you_mean

OURS = Path(__file__).parents[2]
DEFINED = re.compile(rb"""(?m)^(?:task|group):[ \t]*["']?([^\s"'#\[]+)""")
TAGGED = re.compile(rb"""(?m)^(?:tag:|[ \t]*-)[ \t]+["']?([^\s"'#:{\[]+)["']?[ \t]*$""")
# Keys that fetch code from the hub, unless they are one of OFF.
FETCHING = ("hf_evaluate", "trust_remote_code", "unsafe_code")
OFF = ("false", "no", "off", "null", "~", "")
MAX_BYTES = 1 << 24
MOST_INCLUDES = 100


def folder() -> Path:
    """Returns the folder of the tasks that come with the harness; ValueError without it."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.origin:
        raise ValueError(f"tasks of the harness need the extra `eval`: {how_to_install('eval')}")
    return Path(spec.origin).parent / "tasks"


def folders(names: Collection[str]) -> list[Path]:
    """Returns the folders in which tasks, groups and tags of these names are defined.

    The harness takes 24 s to read its 14,000 task files; these folders alone take milliseconds.

    Args:
      names: of the harness, or paths of task files.

    Raises:
      ValueError: a name that is not defined anywhere; names the nearest one.
    """
    paths = [Path(name) for name in names if is_file(name)]
    others = [name for name in names if not is_file(name)]
    wanted = {path.resolve().parent: None for path in paths}
    if others:
        defined, tagged = _index(folder())
        for name in others:
            if name not in defined and name not in tagged:
                raise ValueError(
                    f"task {name!r} is neither a file nor a task of the harness"
                    f"{did_you_mean(name, defined)}"
                )
            wanted |= dict.fromkeys([defined[name]] if name in defined else sorted(tagged[name]))
    # A folder inside another one is read with it.
    return [path for path in wanted if not any(other in path.parents for other in wanted)]


def is_file(name: str) -> bool:
    """Tells whether a name is the path of a task file."""
    return name.endswith((".yaml", ".yml"))


@functools.cache
def _index(root: Path) -> tuple[dict[str, Path], dict[str, set[Path]]]:
    """Returns name -> its folder of tasks and groups, and name -> folders of what may be a tag."""
    defined: dict[str, Path] = {}
    tagged: dict[str, set[Path]] = defaultdict(set)
    for where, inner, names in os.walk(root):
        inner.sort()
        for name in sorted(names):
            if not name.endswith(".yaml"):
                continue
            text = (Path(where) / name).read_bytes()
            for match in DEFINED.findall(text):
                defined.setdefault(match.decode(), Path(where))
            for match in TAGGED.findall(text):
                tagged[match.decode()].add(Path(where))
    return defined, tagged


def of_task(index: Mapping[str, Any], name: str) -> set[Path]:
    """Returns the files that define a task, or the tasks of a group or a tag, however deep.

    Args:
      index: name -> entry, of the harness.
    """
    paths, seen = set[Path](), set[str]()
    waiting: list[Any] = [name]
    while waiting:
        member = waiting.pop()
        if isinstance(member, dict):  # a group or a task inside of a group
            inner = [member.get("group"), member.get("task")]
            lists = [each if isinstance(each, list) else [each] for each in inner]
            waiting += [each for members in lists for each in members]
        elif isinstance(member, str) and member not in seen and member in index:
            seen.add(member)
            entry = index[member]
            paths |= {entry.yaml_path} - {None}
            waiting += [entry.cfg] if entry.cfg else [*entry.tags]  # a task's own tags say nothing
    return paths


# ---------------------------------------------------------------------------- code
def refuse_code(path: Path, imports: Sequence[str]) -> None:
    """Refuses a task file that runs code which is neither ours nor allowed.

    Args:
      imports: paths of what is allowed: the task file, the Python file, or a folder with it.

    Raises:
      ValueError: names the file, the key and the Python file.
    """
    allowed = [OURS, *(Path(entry).expanduser().resolve() for entry in imports)]
    for file in with_included(path):
        for key, tag, value in _code(_composed(file)):
            python = _python(file, value) if tag else file
            if not any(p.is_relative_to(a) for p in (python, file) for a in allowed):
                what = f"runs {value}" if tag else f"is {value}, which fetches code from the hub"
                raise ValueError(
                    f"{file}: {key} {what}: Python of others; read it, then allow it with "
                    f"--import {python}, or all of its folder with --import {python.parent}"
                )


def with_included(path: Path) -> list[Path]:
    """Returns a task file and all that it includes, and they include; ValueError for a circle."""
    files: list[Path] = []
    waiting = [path.resolve()]
    while waiting:
        file = waiting.pop()
        if len(files) == MOST_INCLUDES:
            raise ValueError(f"{path}: includes more than {MOST_INCLUDES} files")
        files.append(file)
        root = _composed(file)
        for key, value in _entries(root):
            if key == "include":
                nodes = value.value if isinstance(value, SequenceNode) else [value]
                waiting += [(file.parent / node.value).resolve() for node in nodes]
    return files


def defined_in(path: Path) -> str:
    """Returns the name of the task or group that a file defines; ValueError if it has none."""
    names = {key: value.value for key, value in _entries(_composed(path))}
    name = names.get("task") if isinstance(names.get("task"), str) else names.get("group")
    if not isinstance(name, str):
        raise ValueError(f"{path}: defines no task; want a key `task` with its name")
    return name


def _composed(path: Path) -> Node:
    """Reads a task file as a tree of nodes, in which tags are data; ValueError if it cannot."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path}: has {path.stat().st_size} bytes; no task file is so large")
        node = YAML(typ="rt", pure=True).compose(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as e:
        reason = " ".join(str(e).split())
        raise ValueError(f"{path}: cannot be read as a task file: {reason}") from None
    if not isinstance(node, MappingNode):
        raise ValueError(f"{path}: holds no keys; a task file is `key: value` lines")
    return node


def _entries(root: Node) -> Iterator[tuple[str, Node]]:
    for key, value in root.value:
        if isinstance(key, ScalarNode):
            yield key.value, value


def _code(root: Node) -> Iterator[tuple[str, str, str]]:
    """Yields key, tag and value of whatever runs code, anywhere in a tree; a tag may be ""."""
    waiting, seen = [("", root)], set[int]()
    while waiting:
        key, node = waiting.pop(0)
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if _runs(node):
            yield key or "the file", str(node.tag), str(node.value)
        elif isinstance(node, SequenceNode):
            waiting += [(f"{key}[{number}]", item) for number, item in enumerate(node.value)]
        elif isinstance(node, MappingNode):
            for name, value in node.value:
                inner = f"{key}.{name.value}" if key else str(name.value)
                waiting += [(inner, name), (inner, value)]
                text = value.value.lower() if isinstance(value, ScalarNode) else ""
                if name.value in FETCHING and text not in OFF:
                    yield inner, "", str(value.value)


def _runs(node: Node) -> bool:
    """Tells whether a node has a tag beyond YAML's own, such as !function."""
    tag = str(node.tag or "")
    return not tag.startswith("tag:yaml.org,2002:") or "python" in tag


def _python(file: Path, function: str) -> Path:
    """Returns the file that a `!function` runs: beside the task file, or a module by its name."""
    module = function.rpartition(".")[0]
    return (file.parent / f"{module.replace('.', '/')}.py").resolve()
