"""Reads every output of a run as a table of place -> value, but for what the clock says."""

import json
from pathlib import Path

from scripts.same_as.compare import Value

# Written for people or by the clock; no result depends on it.
CLOCK = (
    "lock.json",
    "lock.claims",
    "report",
    "events.jsonl",
    "events.parts",
    "tensorboard",
    "stacks-",
)
TIMED = ("at", "seconds", "spent", "data_wait", "tokens_per_second", "tokens_per_second_per_chip")
TIMED += ("mfu", "hbm_bytes", "spike")  # of a line of metrics; spikes are told from recent steps


def outputs(run: Path, steps: tuple[str, ...] = ()) -> dict[str, Value]:
    """Returns the outputs of a run, of all steps or of these."""
    table: dict[str, Value] = {}
    for path in sorted(run.rglob("*")):
        place = path.relative_to(run)
        if not path.is_file() or (steps and place.parts[0] not in steps):
            continue
        if any(part.startswith(CLOCK) for part in place.parts):
            continue
        if "checkpoints" in place.parts or "checkpoint" in place.parts:
            table |= _leaves(run, path)
        else:
            table[str(place)] = _content(path, place)
    return table


def _leaves(run: Path, path: Path) -> dict[str, Value]:
    """Returns the leaves of the newest checkpoint; a stopped run has saved others, too."""
    if path.parts[-2:] != ("meta", "metadata"):
        return {}
    step = path.parents[1]
    if int(step.name) != max(int(p.name) for p in step.parent.iterdir() if p.name.isdigit()):
        return {}
    leaves = json.loads(path.read_text())["body"]["leaves"]
    place = step.relative_to(run)
    return {f"{place}: {name}": json.dumps(leaf, sort_keys=True) for name, leaf in leaves.items()}


def _content(path: Path, place: Path) -> Value:
    if path.name == "metrics.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [{k: v for k, v in line.items() if k not in TIMED} for line in lines]
        return "\n".join(json.dumps(line, sort_keys=True) for line in kept)
    if place.parts[0] == "steps":
        note = json.loads(path.read_text())
        timed = {"seconds", "outputs"} if path.stem == "evaluate" else {"seconds"}
        return json.dumps({k: v for k, v in note.items() if k not in timed}, sort_keys=True)
    if place.parts[0] == "evaluate" and path.suffix == ".json":
        results = json.loads(path.read_text())
        facts = results.get("facts", {})
        results["facts"] = {k: v for k, v in facts.items() if not k.startswith("seconds")}
        return json.dumps(results, sort_keys=True)
    return path.read_bytes()
