"""Reads what runs left behind, each kind as a table of place -> value that can be compared."""

from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any

from scripts.same_as.compare import Value

Table = dict[str, Value]
MEASURED = ("loss", "losses", "grad_norm")  # of a step; all else in its line is time
IGNORED = "facts"  # of an evaluation: machine, versions and seconds


def losses(folder: Path) -> Table:
    """Returns the exact loss, losses by dataset and gradient norm of every step of every run."""
    table: Table = {}
    for path in sorted(folder.glob("runs/*/train/metrics.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            metrics = json.loads(line)
            place = f"{_run(path, folder)}, step {metrics['step']} ({metrics['stage']})"
            values = {name: metrics[name] for name in MEASURED}
            table[place] = json.dumps(values, sort_keys=True)  # floats as repr: every bit
    return table


def rows(folder: Path) -> Table:
    """Returns every file that the data step left: rows, manifests, digests, the plan."""
    return _files(folder, ("runs/*/data/**/*",))


def tokenizers(folder: Path) -> Table:
    """Returns the forms of every tokenizer that was made or exported, and how it was spliced."""
    patterns = ("runs/*/vocab/tokenizer*", "runs/*/vocab/splice.json", "runs/*/export/tokenizer*")
    return _files(folder, patterns)


def checkpoints(folder: Path) -> Table:
    """Returns type, shape and digest of every leaf of every checkpoint."""
    table: Table = {}
    for path in sorted(folder.glob("runs/**/meta/metadata")):
        leaves = json.loads(path.read_text("utf-8"))["body"]["leaves"]
        for name, leaf in leaves.items():
            place = f"{path.parents[1].relative_to(folder)}: {name}"
            table[place] = f"{leaf['dtype']}{leaf['shape']} {leaf['digest']}"
    return table


def tensors(folder: Path) -> Table:
    """Returns type, shape and bytes of every exported tensor (the format of safetensors)."""
    table: Table = {}
    for path in sorted(folder.glob("runs/*/export/*.safetensors")):
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        for name in sorted(header.keys() - {"__metadata__"}):
            tensor = header[name]
            first, end = tensor["data_offsets"]
            place = f"{path.relative_to(folder)}: {name}"
            table[f"{place}, type"] = f"{tensor['dtype']}{tensor['shape']}"
            table[f"{place}, bytes"] = content[start + first : start + end]
    return table


def evaluation(folder: Path) -> Table:
    """Returns every number and text of the evaluations; `facts` of machine and time are left out.

    They are before.json and after.json of a run.
    """
    table: Table = {}
    for path in sorted(folder.glob("runs/*/evaluate/*.json")):
        results = json.loads(path.read_text("utf-8"))
        results.pop(IGNORED, None)
        for keys, value in _leaves(results):
            table[f"{path.relative_to(folder)}: {keys}"] = json.dumps(value, ensure_ascii=False)
    return table


def texts(folder: Path) -> Table:
    """Returns every text file of a folder by its name."""
    return {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.txt"))}


def resumed(folder: Path) -> Table:
    """Returns all that the resumed run leaves: losses, digests, tensors."""
    return losses(folder) | checkpoints(folder) | tensors(folder)


def _files(folder: Path, patterns: tuple[str, ...]) -> Table:
    """Returns the content of every file that matches, by its path in the folder."""
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def _run(path: Path, folder: Path) -> str:
    """Returns the name of the run that a file belongs to."""
    return path.relative_to(folder).parts[1]


def _leaves(tree: Any, keys: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested mappings and lists with the path of their keys."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, child in children:
        path = f"{keys}.{key}" if keys else str(key)
        if isinstance(child, dict | list):
            yield from _leaves(child, path)
        else:
            yield path, child
