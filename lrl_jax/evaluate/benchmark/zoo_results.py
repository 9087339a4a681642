"""Turns what lm-evaluation-harness measures into results of our form, with intervals and chance.

    result_of("arc_easy", {"acc": 0.5, "items": 4}, "items/harness/arc_easy.jsonl")

The harness gives a score of each item beside the mean. So its tasks have the same intervals as
ours, and before is compared with after on the same items.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
import math
from typing import Any

from etils import epath

from lrl_jax.evaluate import intervals
from lrl_jax.evaluate.benchmark import scores

ABOUT = ("items", "shots", "version")  # keys that are no scores


def result_of(name: str, scored: Mapping[str, Any], path: epath.PathLike) -> dict[str, Any]:
    """Returns the result of a task of the harness; scores from 0 to 1 become 0 to 100.

    Args:
      path: the file of its items, as the harness logs them; a group has none.
    """
    about = {key: scored.get(key) for key in ABOUT}
    shares = {key: _percent(value) for key, value in scored.items() if key not in ABOUT}
    metric = next(iter(shares), "")
    result = {"task": name, "by": "lm-evaluation-harness", "metric": metric, "scores": shares}
    return result | about | _of_items([*shares], _samples(epath.Path(path)))


def _percent(value: float) -> float:
    return 100 * value if 0 <= value <= 1 else value


def _samples(path: epath.Path) -> list[dict[str, Any]]:
    """Returns the items of one filter, in the order of their documents."""
    if not path.exists():
        return []
    every = [json.loads(line) for line in path.read_text().splitlines()]
    first = every[0].get("filter") if every else None
    return sorted((s for s in every if s.get("filter") == first), key=lambda s: s["doc_id"])


def _of_items(metrics: Sequence[str], samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns intervals, chance and the scores of items, of those metrics that items have."""
    values = {name: [sample.get(name) for sample in samples] for name in metrics if samples}
    each = {
        name: [
            float(value) for value in given if isinstance(value, int | float) and 0 <= value <= 1
        ]
        for name, given in values.items()
    }
    each = {name: scored for name, scored in each.items() if len(scored) == len(samples)}
    bounds = {}
    for name, scored in each.items():
        right = {*scored} <= {0.0, 1.0}
        low, high = (
            intervals.wilson(round(math.fsum(scored)), len(scored))
            if right
            else intervals.bootstrap_mean(scored)
        )
        bounds[name] = [100 * low, 100 * high]
    if not each:
        return {}
    counts = [len(sample.get("resps") or ()) for sample in samples]
    chance = 100 * math.fsum(1 / n for n in counts) / len(counts) if min(counts) > 1 else None
    digests = "".join(str(sample.get("doc_hash")) for sample in samples)
    items = [{name: scored[i] for name, scored in each.items()} for i in range(len(samples))]
    return {
        "intervals": bounds,
        "chance": chance,
        "documents": hashlib.sha256(digests.encode()).hexdigest(),
        "each": scores.compact(items),
    }
